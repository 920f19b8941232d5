/* Child processes: fork, pidfds, waiting for one child, signals, and what stdio has buffered. */
#define _GNU_SOURCE
#include "base/os_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* P_PIDFD of waitid(2), since Linux 5.4. The C library may be older. */
enum { BY_PIDFD = 3 };

pid_t forkq__os_fork(void) {
  pid_t pid = fork();
  return pid < 0 ? -errno : pid;
}

void forkq__os_exit(int status) {
  _exit(status);
}

int forkq__os_pidfd_open(pid_t pid) {
  return forkq__os_above_stdio(RETRY((int)syscall(SYS_pidfd_open, pid, 0)));
}

bool forkq__os_refuses_pidfd(int error) {
  return forkq__os_is_refusal(error);
}

/* -EINVAL: the kernel has pidfds, and does not wait by them (Linux 5.3). -EBADF: the program has
 * closed the descriptor. */
int forkq__os_reap(pid_t pid, int pidfd, int *ret_exitcode) {
  siginfo_t info = { .si_pid = 0 };
  int r = -EBADF;
  if (pidfd >= 0)
    r = UNCANCELLED(waitid((idtype_t)BY_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG));
  if (r == -EINVAL || r == -EBADF)
    r = UNCANCELLED(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG));
  if (r < 0 || info.si_pid == 0)
    return r;
  *ret_exitcode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
  return 1;
}

static int send_by_pidfd(int pidfd, int signo) {
  if (pidfd < 0)
    return -EBADF;
  return RETRY((int)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0));
}

int forkq__os_send_signal(pid_t pid, int pidfd, int signo) {
  int r = send_by_pidfd(pidfd, signo);
  if (r == -EBADF || forkq__os_is_refusal(r))
    r = RETRY(kill(pid, signo));
  return r == -ESRCH ? 0 : r;
}

void forkq__os_kill_and_reap(pid_t pid, int pidfd) {
  (void)forkq__os_send_signal(pid, pidfd, SIGKILL);
  (void)UNCANCELLED(waitpid(pid, NULL, 0));
}

/* ---- a signal for a closed pipe ------------------------------------------------------------ */

int forkq__os_hangup_prepare(int fd) {
  int r = RETRY(fcntl(fd, F_SETSIG, SIGTERM));
  return r < 0 ? r : RETRY(fcntl(fd, F_SETFL, O_ASYNC));
}

/* A writing end that was closed before there was an owner has raised no signal. */
int forkq__os_hangup_own(int fd) {
  int r = RETRY(fcntl(fd, F_SETOWN, getpid()));
  if (r < 0)
    return r;
  struct pollfd end = { .fd = fd };
  r = forkq__os_poll(&end, 1, FORKQ__NOWAIT);
  return r > 0 ? RETRY(kill(getpid(), SIGTERM)) : r;
}

/* ---- dispositions -------------------------------------------------------------------------- */

/* What a thread raises by an instruction of its own, for runtimes and crash reporters. */
static bool is_fault(int signo) {
  switch (signo) {
  case SIGSEGV:
  case SIGBUS:
  case SIGFPE:
  case SIGILL:
  case SIGTRAP:
  case SIGSYS:
  case SIGABRT:
    return true;
  default:
    return false;
  }
}

static bool has_handler(int signo) {
  struct sigaction action;
  return sigaction(signo, NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
         action.sa_handler != SIG_IGN;
}

void forkq__os_signals_reset(void) {
  signal(SIGTERM, SIG_DFL);
  for (int signo = 1; signo <= SIGRTMAX; signo++)
    if (!is_fault(signo) && has_handler(signo))
      signal(signo, SIG_DFL);
}

void forkq__os_signal_ignore(int signo) {
  signal(signo, SIG_IGN);
}

void forkq__os_signals_unblock(void) {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* ---- stdio --------------------------------------------------------------------------------- */

/* fflush(NULL) waits for each stream that another thread uses. A thread that reads the standard
 * input may use it for ever. Otherwise this thread has its lock, and so fflush does not wait. */
static void flush_streams(void) {
  if (ftrylockfile(stdin) != 0) {
    fflush(stdout);
    fflush(stderr);
    return;
  }
  fflush(NULL);
  funlockfile(stdin);
}

void forkq__os_stdio_flush(void) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  flush_streams();
  pthread_setcancelstate(state, NULL);
}

/* fflush does not ask for the lock of stdin, which a thread that reads may have for ever. That thread would
 * not give the lock back afterwards, but the process ends. */
void forkq__os_stdio_finish(void) {
  __fsetlocking(stdin, FSETLOCKING_BYCALLER);
  fflush(NULL);
}

void forkq__os_cancellation_disable(void) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
}

void forkq__os_stdio_forget(void) {
  __fpurge(stdout);
  __fpurge(stderr);
}
