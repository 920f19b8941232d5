/* The arguments of a subcommand, its help, and what is said about failures. */
#include "tool/tool.h"

#include <errno.h>
#include <forkq.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *format, va_list arguments) {
  fputs("forkq: ", stderr);
  vfprintf(stderr, format, arguments);
}

int forkq__tool_say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  return FORKQ__TOOL_FAILED;
}

int forkq__tool_misuse(const struct forkq__tool_command *self, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
  fprintf(stderr, "\nforkq: see forkq %s --help\n", self->name);
  return FORKQ__TOOL_USAGE;
}

static int exit_code(int error) {
  switch (error) {
  case FORKQ_EMPTY:
  case FORKQ_FULL:
  case FORKQ_TIMEDOUT:
    return FORKQ__TOOL_TIMEOUT;
  case FORKQ_ESHUTDOWN:
  case FORKQ_EALONE:
    return FORKQ__TOOL_SHUTDOWN;
  case -ESRCH:
    return FORKQ__TOOL_ABSENT;
  case -EPERM:
  case -EACCES:
    return FORKQ__TOOL_DENIED;
  default:
    return FORKQ__TOOL_FAILED;
  }
}

int forkq__tool_say_error(int error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
  fprintf(stderr, ": %s\n", forkq_strerror(error));
  return exit_code(error);
}

/* ---- help -------------------------------------------------------------------------------- */

static void print_option(const char *name, const char *argument, const char *help) {
  char left[64];
  snprintf(left, sizeof left, "--%s%s%s", name, argument != NULL ? " " : "",
           argument != NULL ? argument : "");
  printf("  %-18s %s\n", left, help);
}

static int print_help(const struct forkq__tool_command *self,
                      const struct forkq__tool_option *options) {
  printf("usage: forkq %s [OPTION...]%s%s\n\n%s\n\n", self->name,
         self->arguments[0] != '\0' ? " " : "", self->arguments, self->summary);
  for (; options->name != NULL; options++)
    print_option(options->name, options->argument, options->help);
  print_option("help", NULL, "this text");
  return FORKQ__TOOL_OK;
}

/* ---- values ------------------------------------------------------------------------------ */

static bool read_number(const char *text, int64_t *ret_number) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || number < 0)
    return false;
  *ret_number = number;
  return true;
}

/* Seconds with a fraction, as milliseconds. */
static bool read_timeout(const char *text, int *ret_ms) {
  char *end;
  double seconds = strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 0) || seconds > INT_MAX / 1000)
    return false;
  *ret_ms = (int)(seconds * 1000);
  return true;
}

static bool set(const struct forkq__tool_option *option, const char *value) {
  if (option->flag != NULL)
    *option->flag = true;
  if (value == NULL)
    return true;
  if (option->text != NULL)
    *option->text = value;
  return (option->number == NULL || read_number(value, option->number)) &&
         (option->timeout_ms == NULL || read_timeout(value, option->timeout_ms));
}

/* ---- arguments --------------------------------------------------------------------------- */

/* The option that an argument names, up to its end or a "=". */
static const struct forkq__tool_option *find(const struct forkq__tool_option *options,
                                             const char *argument) {
  size_t length = strcspn(argument, "=");
  for (; options->name != NULL; options++)
    if (strlen(options->name) == length && strncmp(options->name, argument, length) == 0)
      return options;
  return NULL;
}

/* Reads the option at argv[*at], and its value, which may be the next argument. */
static int read_option(const struct forkq__tool_command *self,
                       const struct forkq__tool_option *options, int argc, char **argv,
                       int *at) {
  const char *argument = argv[*at] + 2;
  const struct forkq__tool_option *option = find(options, argument);
  const char *value = strchr(argument, '=');
  if (option == NULL)
    return forkq__tool_misuse(self, "no such option: %s", argv[*at]);
  if (value != NULL)
    value++;
  if (option->argument == NULL && value != NULL)
    return forkq__tool_misuse(self, "--%s takes no argument", option->name);
  if (option->argument != NULL && value == NULL) {
    if (*at + 1 == argc)
      return forkq__tool_misuse(self, "--%s needs an argument", option->name);
    value = argv[++*at];
  }
  if (!set(option, value))
    return forkq__tool_misuse(self, "--%s: not a number: %s", option->name, value);
  return FORKQ__TOOL_GOES_ON;
}

int forkq__tool_parse(const struct forkq__tool_command *self,
                      const struct forkq__tool_option *options, int *argc, char **argv) {
  int left = 0, count = *argc;
  bool only_arguments = false;
  for (int i = 0; i < count; i++) {
    if (only_arguments || strncmp(argv[i], "--", 2) != 0) {
      argv[left++] = argv[i];
    } else if (argv[i][2] == '\0') {
      only_arguments = true;
    } else if (strcmp(argv[i], "--help") == 0) {
      return print_help(self, options);
    } else {
      int r = read_option(self, options, count, argv, &i);
      if (r != FORKQ__TOOL_GOES_ON)
        return r;
    }
  }
  *argc = left;
  return FORKQ__TOOL_GOES_ON;
}
