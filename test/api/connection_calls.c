/* Calls on connections, made by threads that may be cancelled in them; and system calls that fail. */
#define _GNU_SOURCE
#include "connection_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- the system calls --------------------------------------------------------------------- */

static int refusal;       /* what an older kernel says to pwritev2 and preadv2 */
bool newest_kernel;       /* and this is one that knows all of their flags */
void (*in_a_write)(void); /* called before the next write */

int fails_with[FUNCTIONS];

static bool fails(int function) {
  int error = fails_with[function];
  fails_with[function] = 0;
  if (error == 0 && (function == PWRITEV2 || function == PREADV2))
    error = refusal;
  if (error != 0)
    errno = error;
  return error != 0;
}

static void meet_write(void) {
  void (*fn)(void) = in_a_write;
  in_a_write = NULL;
  if (fn != NULL)
    fn();
}

ssize_t __real_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags) {
  if (fails(PWRITEV2))
    return -1;
  meet_write();
  return __real_pwritev64v2(fd, parts, count, at, newest_kernel ? 0 : flags);
}

ssize_t __real_preadv64v2(int fd, const struct iovec *parts, int count, off64_t at,
                          int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *parts, int count, off64_t at,
                          int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *parts, int count, off64_t at,
                          int flags) {
  int bytes = 0;
  if (fails(PREADV2))
    return -1;
  if (!newest_kernel)
    return __real_preadv64v2(fd, parts, count, at, flags);
  if (ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0)
    return __real_preadv64v2(fd, parts, count, at, 0);
  errno = EAGAIN;
  return -1;
}

ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  meet_write();
  return __real_writev(fd, parts, count);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
  return fails(SENDMSG) ? -1 : __real_sendmsg(fd, message, flags);
}

ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags) {
  return fails(RECV) ? -1 : __real_recv(fd, data, size, flags);
}

int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask) {
  return fails(PPOLL) ? -1 : __real_ppoll(fds, count, timeout, mask);
}

/* ---- a thread in a call ------------------------------------------------------------------- */

int result;
bool returned;
sigset_t mask_at_the_end;

static void look_at_signals(void *arg) {
  (void)arg;
  pthread_sigmask(SIG_BLOCK, NULL, &mask_at_the_end);
}

void *make_call(void *arg) {
  int (*const *call)(void) = arg;
  pthread_cleanup_push(look_at_signals, NULL);
  result = (*call)();
  returned = true;
  pthread_testcancel();
  pthread_cleanup_pop(0);
  return NULL;
}

pthread_t start_thread(void *(*fn)(void *arg), void *arg) {
  pthread_t thread;
  returned = false;
  ck_assert_int_eq(pthread_create(&thread, NULL, fn, arg), 0);
  return thread;
}

pthread_t start_call(int (*const *call)(void)) {
  return start_thread(make_call, (void *)(uintptr_t)call);
}

bool ends_cancelled(pthread_t thread) {
  void *end = NULL;
  ck_assert_int_eq(pthread_join(thread, &end), 0);
  return end == PTHREAD_CANCELED;
}

/* It sleeps in its call, and ends there. */
void cancel_asleep(pthread_t thread) {
  support_until_threads_asleep(1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
  ck_assert(ends_cancelled(thread));
  ck_assert(!returned);
}

/* ---- calls -------------------------------------------------------------------------------- */

static int send_object(void) {
  return send_int(b, 7);
}

static int pack_nil(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_nil(packer);
}

static int send_packed_by_function(void) {
  return forkq_connection_send_with(b, pack_nil, NULL);
}

static int send_packed_object(void) {
  return forkq_connection_send_packed(b, "\xc0", 1);
}

static char page[PIPE_BUF];

/* With its header just as much as a pipe takes as a whole, and one more. */
int send_a_page(void) {
  return send_bytes(page, PIPE_BUF - 4);
}

static int send_more_than_a_page(void) {
  return send_bytes(page, PIPE_BUF - 3);
}

char large[LARGE];

int send_large(void) {
  return send_bytes(large, LARGE);
}

int (*const sends[SENDS])(void) = {
  send_object, send_packed_by_function, send_packed_object,
  send_a_page, send_more_than_a_page,   send_large,
};

/* ---- a full stream ------------------------------------------------------------------------ */

/* From b to a, and soon full. */
void make_small_stream(int kind) {
  make_stream(kind, &a, &b);
  if (kind == PIPE || kind == PIPE_NONBLOCKING)
    ck_assert_int_gt(fcntl(forkq_connection_fileno(b), F_SETPIPE_SZ, 4096), 0);
}

/* Fills it with empty messages, as far as they go: how many. */
size_t fill(void) {
  const int fd = forkq_connection_fileno(b), flags = fcntl(fd, F_GETFL);
  size_t count = 0;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, "\0\0\0", 4) == 4)
    count++;
  fcntl(fd, F_SETFL, flags);
  return count;
}

void receive_empty(size_t count) {
  for (size_t i = 0; i < count; i++) {
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, 0);
  }
}

/* Nothing is in the stream, not even a part of a message, and messages go through it. */
void check_stream(void) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(send_text(b, "after"));
  RECEIVES(a, "after");
}

void setup_older_kernel(void) {
  setup_nothing();
  refusal = EOPNOTSUPP;
}
