#define _GNU_SOURCE
#include "script.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"

#ifndef BENCH_PYTHON
#  define BENCH_PYTHON ""
#  define BENCH_SCRIPT ""
#endif

/* Starts the script; *ret_out is what it prints. */
static pid_t start(char *const arguments[], FILE **ret_out) {
  int fds[2];
  if (pipe(fds) < 0)
    err(EXIT_FAILURE, "pipe");
  pid_t pid = fork_child();
  if (pid == 0) {
    if (dup2(fds[1], STDOUT_FILENO) < 0)
      _exit(EXIT_FAILURE);
    close(fds[0]);
    close(fds[1]);
    execv(arguments[0], arguments);
    err(EXIT_FAILURE, "%s", arguments[0]);
  }
  close(fds[1]);
  *ret_out = check_memory(fdopen(fds[0], "r"));
  return pid;
}

static bool read_outcome(FILE *out, enum measure measure, struct outcome *outcome) {
  if (fscanf(out, "%lf %lf %lf", &outcome->seconds, &outcome->cpu_seconds,
             &outcome->peak_kib) != 3)
    return false;
  if (measure == MEASURE_THROUGHPUT)
    return true;
  int read = fscanf(out, "%lf", &outcome->mean);
  for (int i = 0; i < QUANTILES && read == 1; i++)
    read = fscanf(out, "%lf", &outcome->quantiles[i]);
  return read == 1;
}

/* quantile_at, as an argument. */
static const char *quantile_list(void) {
  static char list[QUANTILES * 8];
  for (int i = 0, used = 0; i < QUANTILES; i++)
    used += snprintf(list + used, sizeof list - (size_t)used, "%s%g", i > 0 ? "," : "",
                     quantile_at[i]);
  return list;
}

struct outcome script_measure(const struct peer *peer, const struct load *load,
                              enum measure measure, enum placement placement) {
  static const char *const places[] = { "anywhere", "one", "two" };
  struct outcome outcome = { 0 };
  char producers[16], consumers[16], size[32], bound[16], messages[32];
  FILE *out;
  int status = -1;
  snprintf(producers, sizeof producers, "%u", load->producers);
  snprintf(consumers, sizeof consumers, "%u", load->consumers);
  snprintf(size, sizeof size, "%zu", load->size);
  snprintf(bound, sizeof bound, "%u", load->bounded ? load->bound : 0);
  snprintf(messages, sizeof messages, "%ju", (uintmax_t)load->messages);
  const char *arguments[] = {
    BENCH_PYTHON,
    BENCH_SCRIPT,
    peer->script,
    measure == MEASURE_THROUGHPUT ? "throughput" : "round_trip",
    producers,
    consumers,
    size,
    bound,
    messages,
    places[placement],
    quantile_list(),
    NULL,
  };
  pid_t pid = start((char *const *)arguments, &out);
  bool complete = read_outcome(out, measure, &outcome);
  fclose(out);
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status))
    warnx("%s: ended by signal %d", peer->name, WTERMSIG(status));
  outcome.ok = complete && status == 0;
  return outcome;
}

const char *script_version(void) {
  static char version[64];
  const char *const arguments[] = { BENCH_PYTHON, "-c",
                                    "import platform; print(platform.python_version())",
                                    NULL };
  FILE *out;
  if (BENCH_PYTHON[0] == '\0' || version[0] != '\0')
    return version;
  pid_t pid = start((char *const *)arguments, &out);
  if (fscanf(out, "%63s", version) != 1)
    version[0] = '\0';
  fclose(out);
  waitpid(pid, NULL, 0);
  return version;
}
