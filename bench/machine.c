#define _GNU_SOURCE
#include "machine.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "script.h"

/* The value of the first line "name: value" or "name=value" of a file; "" if there is none. */
static void find_line(const char *path, const char *name, char *value, size_t size) {
  char line[256];
  FILE *file = fopen(path, "re");
  value[0] = '\0';
  while (file != NULL && value[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
    char *at = strpbrk(line, ":=");
    if (at == NULL || strncmp(line, name, strlen(name)) != 0)
      continue;
    at += 1 + strspn(at + 1, " \t\"");
    snprintf(value, size, "%.*s", (int)strcspn(at, "\"\n"), at);
  }
  if (file != NULL)
    fclose(file);
}

static const char *peer_version(const char *name) {
  const struct peer *peer = peer_find(name);
  return peer != NULL && peer->version != NULL ? peer->version() : "";
}

size_t machine_facts(struct machine_fact *facts, size_t max) {
  struct utsname system;
  char processor[128], distribution[128], date[32];
  time_t seconds = time(NULL);
  find_line("/proc/cpuinfo", "model name", processor, sizeof processor);
  find_line("/etc/os-release", "PRETTY_NAME", distribution, sizeof distribution);
  strftime(date, sizeof date, "%Y-%m-%d", gmtime(&seconds));
  uname(&system);
  char cpus[16], memory[32];
  snprintf(cpus, sizeof cpus, "%d", run_cpus());
  snprintf(memory, sizeof memory, "%.0f GiB",
           (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30));
  const char *const values[][2] = {
    { "date", date },
    { "processor", processor },
    { "CPUs", cpus },
    { "memory", memory },
    { "distribution", distribution },
    { "kernel", system.release },
    { "architecture", system.machine },
#ifdef __clang__
    { "compiler", "clang " __clang_version__ },
#else
    { "compiler", "gcc " __VERSION__ },
#endif
    { "glibc", gnu_get_libc_version() },
    { "forkq", peer_version("forkq") },
    { "CPython", script_version() },
    { "ZeroMQ", peer_version("zmq") },
    { "Boost", peer_version("boost") },
  };
  size_t count = 0;
  for (size_t i = 0; i < sizeof values / sizeof *values && count < max; i++)
    if (values[i][1][0] != '\0') {
      facts[count].name = values[i][0];
      snprintf(facts[count].value, sizeof facts[count].value, "%s", values[i][1]);
      count++;
    }
  return count;
}
