/* The program forkq: the table of its subcommands. */
#include "tool/commands.h"

#include <forkq.h>
#include <stdio.h>
#include <string.h>

/* In the order of the help. */
/* clang-format off */
static const struct forkq__tool_command *const commands[] = {
  &forkq__tool_ls,
  &forkq__tool_show,
  &forkq__tool_top,
  &forkq__tool_why,
  &forkq__tool_doctor,
  &forkq__tool_metrics,
  &forkq__tool_put,
  &forkq__tool_get,
  &forkq__tool_peek,
  &forkq__tool_drain,
  &forkq__tool_shutdown,
  &forkq__tool_serve,
  NULL,
};
/* clang-format on */

static int print_help(FILE *stream) {
  fputs("usage: forkq COMMAND [OPTION...] [ARGUMENT...]\n\n", stream);
  for (size_t i = 0; commands[i] != NULL; i++)
    fprintf(stream, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
  fputs("  help      this text\n"
        "  version   the version of the program and of the library\n\n"
        "forkq COMMAND --help says more about one of them, and forkq(1) all.\n",
        stream);
  return FORKQ__TOOL_OK;
}

static int print_version(void) {
  printf("forkq %d.%d.%d, library %s\n", FORKQ_VERSION_MAJOR, FORKQ_VERSION_MINOR,
         FORKQ_VERSION_PATCH, forkq_version());
  return FORKQ__TOOL_OK;
}

static bool is(const char *argument, const char *name) {
  return strcmp(argument, name) == 0;
}

static int run(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return FORKQ__TOOL_USAGE;
  }
  const char *name = argv[1];
  if (is(name, "help") || is(name, "--help") || is(name, "-h"))
    return print_help(stdout);
  if (is(name, "version") || is(name, "--version") || is(name, "-V"))
    return print_version();
  for (size_t i = 0; commands[i] != NULL; i++)
    if (is(name, commands[i]->name))
      return commands[i]->run(commands[i], argc - 2, argv + 2);
  forkq__tool_say("no such command: %s", name);
  fputs("forkq: see forkq help\n", stderr);
  return FORKQ__TOOL_USAGE;
}

/* What was printed must have arrived. */
int main(int argc, char **argv) {
  int code = run(argc, argv);
  bool written = fflush(stdout) == 0 && !ferror(stdout);
  return code == FORKQ__TOOL_OK && !written ? forkq__tool_say("cannot write the output")
                                            : code;
}
