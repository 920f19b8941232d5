/* forkq doctor: what of this system forkq stands on, and what will hurt. */
#define _GNU_SOURCE
#include "tool/commands.h"
#include "tool/look.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

enum verdict { FINE, HURTS, BROKEN };

struct finding {
  enum verdict verdict;
  char value[96];
  const char *advice; /* NULL: there is nothing to do */
};

/* The first number in a file, or -1. */
static long long number_in(const char *path) {
  long long number = -1;
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return -1;
  if (fscanf(file, "%lld", &number) != 1)
    number = -1;
  fclose(file);
  return number;
}

static void say_limit(struct finding *finding, rlim_t limit) {
  if (limit == RLIM_INFINITY)
    snprintf(finding->value, sizeof finding->value, "unlimited");
  else
    snprintf(finding->value, sizeof finding->value, "%" PRIu64, (uint64_t)limit);
}

/* ---- what is looked at -------------------------------------------------------------------- */

/* Linux 5.6 has pidfd_getfd(2), 5.16 futex_waitv(2). */
static void look_at_kernel(struct finding *finding) {
  struct utsname name;
  int major = 0, minor = 0;
  uname(&name);
  snprintf(finding->value, sizeof finding->value, "%.60s", name.release);
  sscanf(name.release, "%d.%d", &major, &minor);
  int version = 1000 * major + minor;
  if (version < 3017) {
    finding->verdict = BROKEN;
    finding->advice = "forkq needs Linux 3.17, which has memfd_create(2)";
  } else if (version < 5006) {
    finding->verdict = HURTS;
    finding->advice =
        "before Linux 5.6, forkq put, get, drain and shutdown cannot take a "
        "queue from another process";
  } else if (version < 5016) {
    finding->verdict = HURTS;
    finding->advice =
        "before Linux 5.16, a get that waits for its turn hears of a close or an "
        "interrupt within 0.5 s, and not at once";
  }
}

static void look_at_libc(struct finding *finding) {
  if (confstr(_CS_GNU_LIBC_VERSION, finding->value, sizeof finding->value) == 0)
    snprintf(finding->value, sizeof finding->value, "not glibc");
}

/* All that a queue needs: robust mutexes, memory, a pipe, eventfds. */
static void look_at_queue(struct finding *finding) {
  forkq_queue_t *queue;
  int r = forkq_queue_create(&queue, 1);
  if (r == 0) {
    snprintf(finding->value, sizeof finding->value, "can be created");
    forkq_queue_destroy(queue);
    return;
  }
  snprintf(finding->value, sizeof finding->value, "%.90s", forkq_strerror(r));
  finding->verdict = BROKEN;
  finding->advice =
      r == FORKQ_ENOROBUST
          ? "the system does not free the locks of a process that dies: an "
            "emulator, or a filter of system calls that forbids set_robust_list(2)"
          : "forkq_queue_create(3) says what each error means";
}

/* 128 packets, as long as the user's pipes are below the soft limit. */
static void look_at_pipe(struct finding *finding) {
  int ends[2];
  const int wanted = 128 * 4096, least = 16 * 4096;
  if (pipe2(ends, O_CLOEXEC) != 0) {
    finding->verdict = BROKEN;
    snprintf(finding->value, sizeof finding->value, "%.90s", strerror(errno));
    return;
  }
  int size = fcntl(ends[1], F_GETPIPE_SZ);
  if (fcntl(ends[1], F_SETPIPE_SZ, wanted) >= 0)
    size = fcntl(ends[1], F_GETPIPE_SZ);
  close(ends[0]);
  close(ends[1]);
  snprintf(finding->value, sizeof finding->value, "%d bytes", size);
  if (size >= wanted)
    return;
  finding->verdict = HURTS;
  finding->advice =
      size < least ? "this user has so many pipes that a new one holds two packets, and "
                     "both sides keep waiting: raise fs.pipe-user-pages-soft"
                   : "a pipe that holds fewer than 128 packets costs speed: raise "
                     "fs.pipe-user-pages-soft or fs.pipe-max-size";
}

static void look_at_pages(struct finding *finding) {
  long long pages = number_in("/proc/sys/fs/pipe-user-pages-soft");
  snprintf(finding->value, sizeof finding->value, "%lld", pages);
  if (pages > 0)
    snprintf(finding->value, sizeof finding->value,
             "%lld, enough for the pipes of %lld queues", pages, pages / 128);
}

static void look_at_descriptors(struct finding *finding) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  say_limit(finding, limit.rlim_cur);
  if (limit.rlim_cur < 256) {
    finding->verdict = HURTS;
    finding->advice =
        "a queue takes 5 descriptors in each process, and up to 10 in use: raise "
        "the limit with ulimit -n";
  }
}

static void look_at_file_size(struct finding *finding) {
  struct rlimit limit;
  const rlim_t least = 4 << 20;
  getrlimit(RLIMIT_FSIZE, &limit);
  say_limit(finding, limit.rlim_cur);
  if (limit.rlim_cur == RLIM_INFINITY)
    return;
  finding->verdict = limit.rlim_cur < least ? BROKEN : HURTS;
  finding->advice =
      limit.rlim_cur < least
          ? "a queue cannot be created (-EFBIG): raise the limit with ulimit -f"
          : "messages from 512 bytes on may have to go through the pipe, which is "
            "slower: lift the limit with ulimit -f unlimited";
}

static void look_at_addresses(struct finding *finding) {
  struct rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  say_limit(finding, limit.rlim_cur);
  if (limit.rlim_cur != RLIM_INFINITY) {
    finding->verdict = HURTS;
    finding->advice =
        "a process maps up to 64 MiB for its large messages, and for those of "
        "each other process: lift the limit with ulimit -v unlimited";
  }
}

/* Where /proc is that of another PID namespace, the process has another number in it. */
static void look_at_proc(struct finding *finding) {
  char text[32] = "";
  ssize_t n = readlink("/proc/self", text, sizeof text - 1);
  if (n < 0) {
    finding->verdict = HURTS;
    snprintf(finding->value, sizeof finding->value, "not mounted");
    finding->advice = "without /proc no program can attach a queue, and forkq sees none";
  } else if (atoi(text) != getpid()) {
    finding->verdict = HURTS;
    snprintf(finding->value, sizeof finding->value, "of another PID namespace");
    finding->advice = "mount the /proc of this namespace: mount -t proc proc /proc";
  } else {
    snprintf(finding->value, sizeof finding->value, "mounted");
  }
}

static void look_at_namespace(struct finding *finding) {
  ssize_t n = readlink("/proc/self/ns/pid", finding->value, sizeof finding->value - 1);
  if (n < 0)
    snprintf(finding->value, sizeof finding->value, "not known");
  /* It says nothing about the others: that each queue is used in one namespace. */
}

static void look_at_ptrace(struct finding *finding) {
  long long scope = number_in("/proc/sys/kernel/yama/ptrace_scope");
  if (scope <= 0 || geteuid() == 0) {
    snprintf(finding->value, sizeof finding->value, "allowed for your processes");
    return;
  }
  snprintf(finding->value, sizeof finding->value, "kernel.yama.ptrace_scope is %lld",
           scope);
  finding->verdict = HURTS;
  finding->advice =
      "forkq why does not see threads, and forkq put, get, drain and shutdown do "
      "not get a queue of a process that is no child of yours: set it to 0, or "
      "run forkq as root";
}

static void look_at_cpus(struct finding *finding) {
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  snprintf(finding->value, sizeof finding->value, "%ld", cpus);
}

static const struct {
  const char *name;
  void (*look)(struct finding *finding);
} looks[] = {
  { "kernel", look_at_kernel },
  { "C library", look_at_libc },
  { "a queue", look_at_queue },
  { "a pipe", look_at_pipe },
  { "fs.pipe-user-pages-soft", look_at_pages },
  { "descriptors (ulimit -n)", look_at_descriptors },
  { "file size (ulimit -f)", look_at_file_size },
  { "addresses (ulimit -v)", look_at_addresses },
  { "/proc", look_at_proc },
  { "PID namespace", look_at_namespace },
  { "ptrace(2)", look_at_ptrace },
  { "CPUs", look_at_cpus },
};

/* ---- what is said ------------------------------------------------------------------------- */

static const char *const words[] = { "fine", "hurts", "broken" };

static void print(const char *name, const struct finding *finding) {
  printf("%-7s %-24s %s\n", words[finding->verdict], name, finding->value);
  if (finding->advice != NULL)
    printf("        %s\n", finding->advice);
}

static json_t *json_of(const char *name, const struct finding *finding) {
  json_t *object = json_object();
  json_object_set_new(object, "what", json_string(name));
  json_object_set_new(object, "verdict", json_string(words[finding->verdict]));
  json_object_set_new(object, "value", json_string(finding->value));
  if (finding->advice != NULL)
    json_object_set_new(object, "advice", json_string(finding->advice));
  return object;
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  bool json = false, broken = false;
  const struct forkq__tool_option options[] = { FORKQ__TOOL_JSON(&json), { 0 } };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc > 0)
    return forkq__tool_misuse(self, "no arguments");
  json_t *array = json_array();
  for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
    struct finding finding = { .verdict = FINE };
    looks[i].look(&finding);
    broken = broken || finding.verdict == BROKEN;
    if (json)
      json_array_append_new(array, json_of(looks[i].name, &finding));
    else
      print(looks[i].name, &finding);
  }
  if (json)
    (void)forkq__tool_print_json(json_incref(array));
  json_decref(array);
  return broken ? FORKQ__TOOL_FAILED : FORKQ__TOOL_OK;
}

const struct forkq__tool_command forkq__tool_doctor = {
  "doctor", "", "what of this system forkq stands on, and what will hurt", run
};
