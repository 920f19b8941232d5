/* Pipes and sockets: making them, and reading and writing without SIGPIPE, or without waiting. */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/os_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How many packets a pipe should hold. Each packet takes one of its pages. With the kernel's
 * 16, the two sides keep waiting for each other. Beyond 128, nothing more was gained. */
#define PIPE_PACKETS 128
#define PIPE_PACKETS_LEAST 32

/* The kernel limits the pipes of a user without privileges (pipe(7)). Then the pipe gets fewer
 * pages, or keeps those it has. */
static void enlarge_pipe(int fd) {
  int64_t page = forkq__os_page_size();
  for (int packets = PIPE_PACKETS; packets >= PIPE_PACKETS_LEAST; packets /= 2)
    if (fcntl(fd, F_SETPIPE_SZ, (int)(packets * page)) >= 0)
      return;
}

int forkq__os_packet_pipe(int fds[2]) {
  int r = RETRY(pipe2(fds, O_DIRECT | O_CLOEXEC | O_NONBLOCK));
  if (r == 0)
    r = forkq__os_both_above_stdio(fds);
  if (r == 0)
    enlarge_pipe(fds[1]);
  return r;
}

int forkq__os_tee(int from, int to) {
  ssize_t n = UNCANCELLED(tee(from, to, INT_MAX, SPLICE_F_NONBLOCK));
  return n >= 0 || n == -EAGAIN ? 0 : (int)n;
}

int forkq__os_pipe_as_large(int fd, int other) {
  int size = RETRY(fcntl(other, F_GETPIPE_SZ));
  if (size >= 0 && size != RETRY(fcntl(fd, F_GETPIPE_SZ)))
    size = RETRY(fcntl(fd, F_SETPIPE_SZ, size));
  return size < 0 ? size : 0;
}

int forkq__os_pipe_level(int fd) {
  int bytes = 0;
  int r = RETRY(ioctl(fd, FIONREAD, &bytes));
  return r < 0 ? r : bytes;
}

int forkq__os_pipe(int fds[2]) {
  int r = RETRY(pipe2(fds, O_CLOEXEC));
  return r < 0 ? r : forkq__os_both_above_stdio(fds);
}

int forkq__os_socket_pair(int fds[2]) {
  int r = RETRY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  return r < 0 ? r : forkq__os_both_above_stdio(fds);
}

int forkq__os_is_socket(int fd) {
  struct stat status;
  int r = RETRY(fstat(fd, &status));
  return r < 0 ? r : S_ISSOCK(status.st_mode);
}

ssize_t forkq__os_socket_write(int fd, const struct iovec *parts, int count) {
  struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts,
                            .msg_iovlen = (size_t)count };
  return UNCANCELLED(sendmsg(fd, &message, MSG_NOSIGNAL));
}

static bool sigpipe_pending(void) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

/* Takes the SIGPIPE that a write of this thread may have raised while SIGPIPE was blocked. The
 * kernel delivers a thread's own signals, such as this one, before the process's. A SIGPIPE
 * from another sender is put back: pthread_kill and sigqueue have codes below 0, and kill has
 * the pid of the sender. If a SIGPIPE was pending before, one must be pending after.
 *
 * The system call is direct, because glibc's sigtimedwait reports SI_USER for pthread_kill. */
static void take_sigpipe(const sigset_t *sigpipe, bool pending_before) {
  const struct timespec now = { 0, 0 };
  siginfo_t info = { .si_signo = 0 };
  if (RETRY(syscall(SYS_rt_sigtimedwait, sigpipe, &info, &now, _NSIG / 8)) < 0)
    return;
  bool sent = info.si_code < 0 || (info.si_code == SI_USER && info.si_pid != getpid());
  if (sent || (pending_before && !sigpipe_pending()))
    pthread_kill(pthread_self(), SIGPIPE);
}

/* SIGPIPE while it is blocked for a write. let_sigpipe_go restores everything. */
struct held_sigpipe {
  sigset_t sigpipe, old;
  bool was_blocked, pending_before;
  bool raised; /* or may have been */
};

static void hold_sigpipe(struct held_sigpipe *held) {
  sigemptyset(&held->sigpipe);
  sigaddset(&held->sigpipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &held->sigpipe, &held->old);
  held->was_blocked = sigismember(&held->old, SIGPIPE) == 1;
  held->pending_before = held->was_blocked && sigpipe_pending();
  held->raised = true;
}

static void let_sigpipe_go(void *arg) {
  const struct held_sigpipe *held = arg;
  if (held->raised)
    take_sigpipe(&held->sigpipe, held->pending_before);
  if (!held->was_blocked)
    pthread_sigmask(SIG_SETMASK, &held->old, NULL);
}

/* A cancellation point. */
static ssize_t write_with_sigpipe_blocked(int fd, const struct iovec *parts, int count) {
  size_t size = 0;
  for (int i = 0; i < count; i++)
    size += parts[i].iov_len;
  struct held_sigpipe held;
  ssize_t r;
  hold_sigpipe(&held);
  pthread_cleanup_push(let_sigpipe_go, &held);
  r = RETRY(writev(fd, parts, count));
  /* If the last reader of a pipe closes it during a write, the write returns the bytes that it
   * wrote, and raises SIGPIPE. */
  held.raised = r == -EPIPE || (r >= 0 && (size_t)r < size);
  pthread_cleanup_pop(1);
  return r;
}

/* Since Linux 6.18, a write to a pipe has this flag against SIGPIPE. The headers of Debian 12
 * are older. */
#ifndef RWF_NOSIGNAL
#  define RWF_NOSIGNAL 0x00000100
#endif
#define WHERE_IT_IS (-1) /* as an offset: the file's own position */

/* The kernel has no RWF_NOSIGNAL. The thread that finds this out sets this for all threads. */
static atomic_bool without_nosignal;

/* Only a refusal by a pipe counts. Other files refuse the flag on newer kernels, too. */
static void remember_refusal(int fd) {
  struct stat status;
  if (fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode))
    FORKQ__STORE(without_nosignal, true);
}

ssize_t forkq__os_pipe_write_cancellable(int fd, const struct iovec *parts, int count) {
  if (!FORKQ__LOAD(without_nosignal)) {
    ssize_t r = RETRY(pwritev2(fd, parts, count, WHERE_IT_IS, RWF_NOSIGNAL));
    if (!forkq__os_is_refusal(r))
      return r;
    remember_refusal(fd);
  }
  return write_with_sigpipe_blocked(fd, parts, count);
}

ssize_t forkq__os_stream_write(int fd, const struct iovec *parts, int count) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  ssize_t r = forkq__os_pipe_write_cancellable(fd, parts, count);
  pthread_setcancelstate(state, NULL);
  return r;
}

ssize_t forkq__os_socket_read_soon(int fd, void *data, size_t size) {
  return UNCANCELLED(recv(fd, data, size, MSG_DONTWAIT));
}

ssize_t forkq__os_socket_write_soon(int fd, const struct iovec *parts, int count) {
  struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts,
                            .msg_iovlen = (size_t)count };
  return UNCANCELLED(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/* The kernel is older than 6.4. Since 6.4, a read of a pipe has RWF_NOWAIT. */
static atomic_bool without_nowait;

ssize_t forkq__os_pipe_read_soon(int fd, void *data, size_t size) {
  if (FORKQ__LOAD(without_nowait))
    return -EAGAIN;
  const struct iovec part = { data, size };
  ssize_t r = UNCANCELLED(preadv2(fd, &part, 1, WHERE_IT_IS, RWF_NOWAIT));
  if (!forkq__os_is_refusal(r))
    return r;
  FORKQ__STORE(without_nowait, true);
  return -EAGAIN;
}

int forkq__os_is_pipe(int fd) {
  struct stat status;
  int r = RETRY(fstat(fd, &status));
  return r < 0 ? r : S_ISFIFO(status.st_mode);
}

bool forkq__os_socket_full(int fd) {
  int used = 0, room = 0;
  return ioctl(fd, SIOCOUTQ, &used) == 0 &&
         getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &(socklen_t){ sizeof room }) == 0 &&
         used >= room;
}
