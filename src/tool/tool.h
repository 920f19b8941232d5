/* What the subcommands of the program forkq have in common: their table, options and exit codes.
 *
 * A subcommand is a file with one struct forkq__tool_command, and a line in the table of main.c. The program
 * uses the public functions of the library only. What it prints for programs is JSON (--json). What it says
 * about failures goes to the standard error, and the exit code says which kind it was. */
#ifndef FORKQ_TOOL_H
#define FORKQ_TOOL_H

#include <stdbool.h>
#include <stdint.h>

enum forkq__tool_exit {
  FORKQ__TOOL_GOES_ON = -1, /* no exit code: the subcommand goes on */
  FORKQ__TOOL_OK = 0,
  FORKQ__TOOL_FAILED = 1,
  FORKQ__TOOL_USAGE = 2, /* the arguments are wrong, or the input is no item */
  FORKQ__TOOL_TIMEOUT =
      3, /* the queue stayed full, or empty, for as long as it was to wait */
  FORKQ__TOOL_SHUTDOWN = 4, /* the queue is shut down, or nobody is left that could put */
  FORKQ__TOOL_ABSENT = 5,   /* no such queue, or no such process */
  FORKQ__TOOL_DENIED = 6,   /* the system does not allow it */
};

/* An option that begins with two dashes. One of the pointers is set. */
struct forkq__tool_option {
  const char *name;
  const char *argument; /* what the help calls its argument; NULL: it takes none */
  const char *help;
  bool *flag;        /* set to true */
  const char **text; /* set to the argument */
  int64_t *number;   /* set to the argument, 0 or more */
  int *timeout_ms;   /* set to the argument, which is in seconds */
};

/* The option that most subcommands have, for the variable at `flag_`. */
#define FORKQ__TOOL_JSON(flag_)                                                          \
  { .name = "json", .help = "as JSON, on one line", .flag = (flag_) }

struct forkq__tool_command {
  const char *name;
  const char *arguments; /* as in the first line of the help */
  const char *summary;   /* a line without a capital and a full stop */
  /* Returns an exit code. `argv` has what comes after the name. */
  int (*run)(const struct forkq__tool_command *self, int argc, char **argv);
};

/* Reads the options that `options` lists, up to one without a name, and leaves the other arguments in
 * *argc and `argv`. Knows --help itself. What comes after "--" is no option, and neither is what begins with
 * a single dash. Returns FORKQ__TOOL_GOES_ON, or the exit code: what there was to say was said. */
int forkq__tool_parse(const struct forkq__tool_command *self,
                      const struct forkq__tool_option *options, int *argc, char **argv);

/* Says on the standard error what is wrong. say returns FORKQ__TOOL_FAILED. misuse names the help besides,
 * and returns FORKQ__TOOL_USAGE. say_error adds the text of an error of forkq or the system, and returns the
 * exit code for it. */
int forkq__tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int forkq__tool_misuse(const struct forkq__tool_command *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int forkq__tool_say_error(int error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
