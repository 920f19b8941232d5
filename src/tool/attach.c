/* Taking a queue from another process of the same user. */
#define _GNU_SOURCE
#include "tool/attach.h"

#include "shared/layout.h"
#include "tool/connect.h"
#include "tool/look.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MEMORY = FORKQ_HANDOVER_FDS - 1 };

static bool has_all(const forkq_inspect_process_t *process) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    if (process->fds[i] < 0)
      return false;
  return process->life != FORKQ_INSPECT_DEAD;
}

static void close_all(int fds[FORKQ_HANDOVER_FDS]) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    if (fds[i] >= 0)
      close(fds[i]);
}

/* A description of our own, because locks on that of the other show that the other lives. */
static int open_memory(const forkq_inspect_process_t *process) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)process->pid, process->fds[MEMORY]);
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

/* Where a standard stream is closed, what is said there must not go into the queue. */
static int above_stdio(int fd) {
  if (fd < 0 || fd > STDERR_FILENO)
    return fd;
  int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int r = above < 0 ? -errno : above;
  close(fd);
  return r;
}

static int duplicate(int pidfd, int fd) {
#ifdef SYS_pidfd_getfd
  int r = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
  return r < 0 ? -errno : r;
#else
  (void)pidfd, (void)fd;
  return -ENOSYS;
#endif
}

/* Duplicates all five. Returns 0 or a negative errno. */
static int take(const forkq_inspect_process_t *process, int fds[FORKQ_HANDOVER_FDS]) {
  int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0), r = 0;
  if (pidfd < 0)
    return -errno;
  for (int i = 0; i < FORKQ_HANDOVER_FDS && r == 0; i++) {
    fds[i] = above_stdio(i == MEMORY ? open_memory(process)
                                     : duplicate(pidfd, process->fds[i]));
    r = fds[i] < 0 ? fds[i] : 0;
  }
  close(pidfd);
  return r;
}

static int attach(forkq_queue_t **ret_queue, int fds[FORKQ_HANDOVER_FDS]) {
  char text[FORKQ_HANDOVER_TEXT];
  snprintf(text, sizeof text, "forkq:%u:%d:%d:%d:%d:%d", FORKQ__SEGMENT_LAYOUT, fds[0],
           fds[1], fds[2], fds[3], fds[4]);
  return forkq_queue_attach(ret_queue, text, NULL);
}

static int say_refusal(int error, const char *text) {
  if (error == -EPERM || error == -EACCES)
    return forkq__tool_say_error(
        error,
        "queue %s: the system does not give us its descriptors, which pidfd_getfd(2) "
        "gives to those who may trace its processes; see kernel.yama.ptrace_scope, or "
        "run "
        "as root",
        text);
  if (error == -ENOSYS)
    return forkq__tool_say_error(error, "queue %s: pidfd_getfd(2) needs Linux 5.6", text);
  return forkq__tool_say_error(error, "queue %s", text);
}

/* Tries each process that has the queue. */
static int attach_through_any(forkq_queue_t **ret_queue,
                              const forkq_inspect_queue_t *seen) {
  const forkq_inspect_process_t *process;
  int r = -ESRCH;
  for (size_t i = 0; (process = forkq_inspect_process_at(seen, i)) != NULL; i++) {
    int fds[FORKQ_HANDOVER_FDS] = { -1, -1, -1, -1, -1 };
    if (!has_all(process))
      continue;
    r = take(process, fds);
    if (r == 0)
      r = attach(ret_queue, fds);
    if (r == 0)
      return 0;
    close_all(fds);
  }
  return r;
}

int forkq__tool_attach(forkq_queue_t **ret_queue, const char *text) {
  if (forkq__tool_is_served(text))
    return forkq__tool_connect(ret_queue, text);
  forkq_inspect_t *inspect;
  const forkq_inspect_queue_t *seen;
  int code = forkq__tool_find(&inspect, &seen, text);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  int r = attach_through_any(ret_queue, seen);
  forkq_inspect_destroy(inspect);
  return r == 0 ? FORKQ__TOOL_GOES_ON : say_refusal(r, text);
}
