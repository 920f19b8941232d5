#define _GNU_SOURCE
#include "stepped.h"

#include "support.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_PERMITTED 77

static const struct stepped *stepped;
static _Atomic int *call_is_over;

static void live(void *arg) {
  (void)arg;
  support_end_after(60);
  stepped->prepare();
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
    _exit(NOT_PERMITTED);
  raise(SIGSTOP);
  stepped->call();
  atomic_store(call_is_over, 1);
  stepped->end();
}

static int wait_for_stop(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) != pid)
    if (errno != EINTR)
      ck_abort_msg("waitpid: %s", strerror(errno));
  return status;
}

/* The child at the stop before its call, or 0 if it may not be traced. */
static pid_t start(const struct stepped *of) {
  if (call_is_over == NULL)
    call_is_over = support_shared(sizeof *call_is_over);
  atomic_store(call_is_over, 0);
  stepped = of;
  pid_t pid = support_fork(live, NULL);
  int status = wait_for_stop(pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_PERMITTED)
    return 0;
  if (!WIFSTOPPED(status))
    ck_abort_msg("it ended before its call: %#x", status);
  return pid;
}

static void step(pid_t pid) {
  if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
    ck_abort_msg("ptrace: %s", strerror(errno));
  int status = wait_for_stop(pid);
  if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
    ck_abort_msg("it ended in its call: %#x", status);
}

/* Steps until the call is over, or that often: how often. */
static long step_on(pid_t pid, long most) {
  long steps = 0;
  while (steps < most && atomic_load(call_is_over) == 0) {
    step(pid);
    steps++;
  }
  return steps;
}

long stepped_length(const struct stepped *of) {
  pid_t pid = start(of);
  if (pid == 0)
    return 0;
  long length = step_on(pid, LONG_MAX);
  support_kill_and_wait(pid);
  return length;
}

pid_t stepped_start(const struct stepped *of, long instructions) {
  pid_t pid = start(of);
  (void)step_on(pid, instructions);
  if (ptrace(PTRACE_DETACH, pid, NULL, of->signal) != 0)
    ck_abort_msg("ptrace: %s", strerror(errno));
  return pid;
}

long stepped_point(long length, int i, int count) {
  static uint64_t seed;
  if (seed == 0)
    seed = (uint64_t)getpid();
  if (i == 0 || i == count - 1)
    return i == 0 ? 0 : LONG_MAX;
  long part = length / count;
  return i * part + (long)support_random_below(&seed, (uint32_t)part + 1);
}
