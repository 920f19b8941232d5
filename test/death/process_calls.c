#define _GNU_SOURCE
#include "process_calls.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

forkq_process_t *start_with(forkq_process_fn run, void *arg,
                            forkq_process_options_t options) {
  forkq_process_t *process = NULL;
  ck_assert_int_eq(forkq_process_start(&process, run, arg, &options), 0);
  ck_assert_ptr_nonnull(process);
  return process;
}

forkq_process_t *start(forkq_process_fn run, void *arg) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = 1;
  return start_with(run, arg, options);
}

int exitcode_of(forkq_process_t *process) {
  int code = 1000;
  ck_assert_int_eq(forkq_process_join(process, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_process_exitcode(process, &code), 1);
  return code;
}

int end(forkq_process_t *process) {
  int code = exitcode_of(process);
  forkq_process_destroy(process);
  return code;
}

int return_it(void *number) {
  return *(int *)number;
}

int sleep_on(void *nothing) {
  (void)nothing;
  for (;;)
    pause();
}

bool is_zombie(pid_t pid) {
  siginfo_t info = { .si_pid = 0 };
  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid;
}

bool is_reaped(pid_t pid) {
  siginfo_t info;
  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 &&
         errno == ECHILD;
}

void until_zombie(pid_t pid) {
  siginfo_t info;
  while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0)
    ck_assert_int_eq(errno, EINTR);
}

void until_gone(pid_t pid) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  struct pollfd ended = { .fd = fd, .events = POLLIN };
  if (fd < 0) {
    ck_assert_int_eq(errno, ESRCH);
    return;
  }
  ck_assert_int_eq(poll(&ended, 1, PATIENCE_MS), 1);
  close(fd);
}
