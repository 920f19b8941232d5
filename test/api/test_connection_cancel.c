/* Threads that are cancelled (pthread_cancel) in a call on connections, or in forkq_wait: they end
 * while they wait, and never with a part of a message in the stream. */
#define _GNU_SOURCE
#include "connection_ends.h"
#include "queue/queue_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/wait.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- the system calls --------------------------------------------------------------------- */

static int refusal;              /* what an older kernel says to pwritev2 and preadv2 */
static bool newest_kernel;       /* and this is one that knows all of their flags */
static void (*in_a_write)(void); /* called before the next write */

/* A call that fails, once. */
enum { PWRITEV2, PREADV2, SENDMSG, RECV, PPOLL, FUNCTIONS };
static int fails_with[FUNCTIONS];

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

static int result;
static bool returned;
static sigset_t mask_at_the_end;

static void look_at_signals(void *arg) {
  (void)arg;
  pthread_sigmask(SIG_BLOCK, NULL, &mask_at_the_end);
}

static void *make_call(void *arg) {
  int (*const *call)(void) = arg;
  pthread_cleanup_push(look_at_signals, NULL);
  result = (*call)();
  returned = true;
  pthread_testcancel();
  pthread_cleanup_pop(0);
  return NULL;
}

/* An own cancellation is pending when the call begins. */
static void *make_call_cancelled(void *arg) {
  pthread_cancel(pthread_self());
  return make_call(arg);
}

static pthread_t start_thread(void *(*fn)(void *arg), void *arg) {
  pthread_t thread;
  returned = false;
  ck_assert_int_eq(pthread_create(&thread, NULL, fn, arg), 0);
  return thread;
}

static pthread_t start_call(int (*const *call)(void)) {
  return start_thread(make_call, (void *)(uintptr_t)call);
}

static bool ends_cancelled(pthread_t thread) {
  void *end = NULL;
  ck_assert_int_eq(pthread_join(thread, &end), 0);
  return end == PTHREAD_CANCELED;
}

/* It sleeps in its call, and ends there. */
static void cancel_asleep(pthread_t thread) {
  support_until_threads_asleep(1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
  ck_assert(ends_cancelled(thread));
  ck_assert(!returned);
}

/* It sleeps in its call, and goes on there. */
static void cancel_too_late(pthread_t thread) {
  support_until_threads_asleep(1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
}

/* ---- calls -------------------------------------------------------------------------------- */

static int receive(void) {
  return forkq_connection_recv(a, &item);
}

static int receive_into(void) {
  static char buffer[10];
  size_t size;
  return forkq_connection_recv_bytes_into(a, buffer, sizeof buffer, 0, &size, NULL);
}

static int poll_for_ever(void) {
  return forkq_connection_poll(a, -1);
}

static int poll_for_long(void) {
  return forkq_connection_poll(a, 1000000);
}

static int wait_for_a(void) {
  forkq_wait_entry_t on = forkq_wait_on(a);
  return forkq_wait(&on, 1, -1);
}

static int receive_fd(void) {
  int fd;
  return forkq_connection_recv_fd(a, &fd);
}

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
static int send_a_page(void) {
  return send_bytes(page, PIPE_BUF - 4);
}

static int send_more_than_a_page(void) {
  return send_bytes(page, PIPE_BUF - 3);
}

#define LARGE ((size_t)1 << 20)
static char large[LARGE];

static int send_large(void) {
  return send_bytes(large, LARGE);
}

static int send_a_descriptor(void) {
  return forkq_connection_send_fd(b, 0);
}

static int (*const receives[])(void) = { receive,       recv_bytes,    receive_into,
                                         poll_for_ever, poll_for_long, wait_for_a };
static int (*const sends[])(void) = {
  send_object, send_packed_by_function, send_packed_object,
  send_a_page, send_more_than_a_page,   send_large,
};
static int (*const calls_with_fds[])(void) = { receive_fd, send_a_descriptor };
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- a full stream ------------------------------------------------------------------------ */

/* From b to a, and soon full. */
static void make_small_stream(int kind) {
  make_stream(kind, &a, &b);
  if (kind == PIPE || kind == PIPE_NONBLOCKING)
    ck_assert_int_gt(fcntl(forkq_connection_fileno(b), F_SETPIPE_SZ, 4096), 0);
}

/* Fills it with empty messages, as far as they go: how many. */
static size_t fill(void) {
  const int fd = forkq_connection_fileno(b), flags = fcntl(fd, F_GETFL);
  size_t count = 0;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, "\0\0\0", 4) == 4)
    count++;
  fcntl(fd, F_SETFL, flags);
  return count;
}

static void receive_empty(size_t count) {
  for (size_t i = 0; i < count; i++) {
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, 0);
  }
}

/* Nothing is in the stream, not even a part of a message, and messages go through it. */
static void check_stream(void) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(send_text(b, "after"));
  RECEIVES(a, "after");
}

/* ---- while they wait ---------------------------------------------------------------------- */

START_TEST(a_thread_that_waits_for_a_message_ends) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(receives); i++) {
    cancel_asleep(start_call(&receives[i]));
    check_stream();
  }
}
END_TEST

START_TEST(a_thread_that_waits_for_room_ends) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(sends); i++) {
    size_t count = fill();
    cancel_asleep(start_call(&sends[i]));
    receive_empty(count);
    check_stream();
  }
}
END_TEST

START_TEST(a_thread_that_waits_for_a_descriptor_or_room_for_it_ends) {
  make_small_stream(_i);
  cancel_asleep(start_call(&calls_with_fds[0]));
  check_stream();
  size_t count = fill();
  cancel_asleep(start_call(&calls_with_fds[1]));
  receive_empty(count);
  check_stream();
}
END_TEST

/* As in a process with one thread, there may be more in a socket than poll(2) wants to see. */
START_TEST(a_descriptor_goes_where_there_is_room) {
  make_small_stream(SOCKET);
  size_t count = fill(); /* and half of it received */
  receive_empty(count / 2);
  pthread_t thread = start_call(&calls_with_fds[1]);
  ck_assert(!ends_cancelled(thread));
  OK(result);
  receive_empty(count - count / 2);
  int fd = -1;
  OK(forkq_connection_recv_fd(a, &fd));
  close(fd);
}
END_TEST

/* ---- before they wait, and when they must not end ----------------------------------------- */

START_TEST(a_cancelled_thread_takes_nothing) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(receives); i++) {
    OK(send_nil(b));
    ck_assert(ends_cancelled(
        start_thread(make_call_cancelled, (void *)(uintptr_t)&receives[i])));
    ck_assert(!returned);
    OK(receive());
    check_stream();
  }
}
END_TEST

START_TEST(a_cancelled_thread_sends_nothing) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(sends); i++) {
    ck_assert(
        ends_cancelled(start_thread(make_call_cancelled, (void *)(uintptr_t)&sends[i])));
    ck_assert(!returned);
    check_stream();
  }
}
END_TEST

START_TEST(a_cancelled_thread_takes_and_sends_no_descriptor) {
  make_small_stream(_i);
  int fd = -1;
  for (size_t i = 0; i < COUNT(calls_with_fds); i++) {
    OK(forkq_connection_send_fd(b, 0));
    ck_assert(ends_cancelled(
        start_thread(make_call_cancelled, (void *)(uintptr_t)&calls_with_fds[i])));
    ck_assert(!returned);
    OK(forkq_connection_recv_fd(a, &fd));
    close(fd);
    check_stream();
  }
}
END_TEST

static void *make_call_uncancellable(void *arg) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  make_call(arg);
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  if (state != PTHREAD_CANCEL_DISABLE)
    return arg; /* not cancelled, which is seen */
  pthread_testcancel();
  return NULL;
}

START_TEST(a_thread_that_does_not_want_to_be_cancelled_is_not) {
  make_small_stream(_i);
  pthread_t thread =
      start_thread(make_call_uncancellable, (void *)(uintptr_t)&receives[0]);
  cancel_too_late(thread);
  OK(send_int(b, 5));
  ck_assert(ends_cancelled(thread));
  OK(result);
  ck_assert_uint_eq(item.object.via.u64, 5);

  size_t count = fill();
  thread = start_thread(make_call_uncancellable, (void *)(uintptr_t)&sends[0]);
  cancel_too_late(thread);
  receive_empty(count);
  RECEIVES_INT(a, 7);
  ck_assert(ends_cancelled(thread));
  OK(result);
  check_stream();
}
END_TEST

/* Up to here the other end has written it: in its length, and in its bytes. */
static const size_t parts_of_a_message[] = { 1, 3, 4, 6 };

static void until_received(void) {
  int bytes = -1;
  while (ioctl(forkq_connection_fileno(a), FIONREAD, &bytes) == 0 && bytes > 0)
    usleep(100);
}

START_TEST(a_message_that_has_begun_is_received_to_its_end) {
  static const char message[] = "\0\0\0\5hello";
  const size_t size = sizeof message - 1;
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(parts_of_a_message); i++) {
    const size_t part = parts_of_a_message[i];
    pthread_t thread = start_call(&receives[1]);
    write_all(forkq_connection_fileno(b), message, part);
    until_received();
    cancel_too_late(thread);
    write_all(forkq_connection_fileno(b), message + part, size - part);
    ck_assert(ends_cancelled(thread));
    ck_assert(returned);
    OK(result);
    ck_assert(is_text("hello"));
    check_stream();
  }
}
END_TEST

START_TEST(a_message_that_has_begun_is_sent_to_its_end) {
  make_small_stream(_i);
  pthread_t thread = start_call(&sends[COUNT(sends) - 1]);
  cancel_too_late(thread);
  OK(recv_bytes());
  ck_assert(ends_cancelled(thread));
  ck_assert(returned);
  OK(result);
  ck_assert_uint_eq(item.size, LARGE);
  check_stream();
}
END_TEST

/* ---- SIGPIPE ------------------------------------------------------------------------------ */

static int sigpipe_pending(void) {
  sigset_t set;
  return sigpending(&set) == 0 && sigismember(&set, SIGPIPE);
}

START_TEST(a_thread_ends_with_the_signals_that_it_had) {
  make_small_stream(PIPE);
  for (size_t i = 0; i < COUNT(sends); i++) {
    size_t count = fill();
    cancel_asleep(start_call(&sends[i]));
    ck_assert_int_eq(sigismember(&mask_at_the_end, SIGPIPE), 0);
    receive_empty(count);
    check_stream();
  }
}
END_TEST

static void cancel_this_thread(void) {
  pthread_cancel(pthread_self());
}

static int send_to_nobody(void) {
  static const size_t sizes[] = { 1, PIPE_BUF - 4, PIPE_BUF, LARGE };
  for (size_t i = 0; i < COUNT(sizes); i++)
    if (send_bytes(large, sizes[i]) != -EPIPE)
      return -1;
  return sigpipe_pending();
}

/* The process would be dead. */
START_TEST(no_sigpipe_in_a_process_with_threads) {
  int (*const call)(void) = send_to_nobody;
  make_small_stream(PIPE);
  close_a();
  ck_assert(!ends_cancelled(start_call(&call)));
  OK(result);
}
END_TEST

static int send_a_page_cancelled(void) {
  in_a_write = cancel_this_thread;
  return send_a_page();
}

static int send_large_cancelled(void) {
  in_a_write = cancel_this_thread;
  return send_large();
}

START_TEST(a_cancellation_in_a_write_of_all_leaves_nothing) {
  int (*const call)(void) = send_a_page_cancelled;
  make_small_stream(PIPE);
  ck_assert(ends_cancelled(start_call(&call)));
  ck_assert(!returned);
  ck_assert_int_eq(sigismember(&mask_at_the_end, SIGPIPE), 0);
  check_stream();
}
END_TEST

/* Where SIGPIPE is blocked for that time, too. */
START_TEST(a_cancellation_in_a_write_of_a_part_waits_for_its_end) {
  int (*const call)(void) = send_large_cancelled;
  make_small_stream(PIPE);
  close_a();
  ck_assert(ends_cancelled(start_call(&call)));
  ck_assert(returned);
  CODE(result, -EPIPE);
  ck_assert_int_eq(sigismember(&mask_at_the_end, SIGPIPE), 0);
  ck_assert(!sigpipe_pending());
}
END_TEST

/* ---- a process with threads --------------------------------------------------------------- */

/* A call takes other ways there: what may be cancelled must be woken. */
static void *idle(void *arg) {
  for (;;)
    pause();
  return arg;
}

static void receive_of_each_size(void *arg) {
  (void)arg;
  close_b();
  for (size_t size = 0; size < 5000; size += 1 + size / 50) {
    CHILD_MUST(recv_bytes() == 0);
    CHILD_MUST(item.size == size && is_pattern(item.data, size, 1));
  }
  CHILD_MUST(recv_bytes() == 0);
  CHILD_MUST(item.size == LARGE && is_pattern(item.data, LARGE, 1));
}

START_TEST(messages_of_each_size_leave_a_process_with_threads) {
  char *data = pattern(LARGE, 1);
  make_stream(_i, &a, &b);
  pid_t child = support_fork(receive_of_each_size, NULL);
  close_a();
  pthread_t bystander = start_thread(idle, NULL);
  for (size_t size = 0; size < 5000; size += 1 + size / 50)
    OK(send_bytes(data, size));
  OK(send_bytes(data, LARGE));
  reap(child);
  CODE(send_bytes(data, 1), -EPIPE);
  pthread_cancel(bystander);
  ck_assert(ends_cancelled(bystander));
  free(data);
}
END_TEST

static void send_of_each_size(void *arg) {
  char *data = pattern(LARGE, 1);
  (void)arg;
  close_a();
  for (size_t size = 0; size < 5000; size += 1 + size / 50)
    CHILD_MUST(send_bytes(data, size) == 0);
  CHILD_MUST(send_bytes(data, LARGE) == 0);
}

START_TEST(messages_of_each_size_reach_a_process_with_threads) {
  make_stream(_i, &a, &b);
  pid_t child = support_fork(send_of_each_size, NULL);
  close_b();
  pthread_t bystander = start_thread(idle, NULL);
  for (size_t size = 0; size < 5000; size += 1 + size / 50) {
    OK(recv_bytes());
    ck_assert(item.size == size && is_pattern(item.data, size, 1));
  }
  OK(recv_bytes());
  ck_assert(item.size == LARGE && is_pattern(item.data, LARGE, 1));
  CODE(recv_bytes(), FORKQ_EEOF);
  reap(child);
  pthread_cancel(bystander);
  ck_assert(ends_cancelled(bystander));
}
END_TEST

/* A call that is interrupted is made again; one that fails has taken and sent nothing. */
static void check_failing(int error, bool socket) {
  const int expected = error == EINTR ? 0 : -error;
  OK(send_text(b, "one"));
  fails_with[socket ? RECV : PREADV2] = error;
  CODE(recv_bytes(), expected);
  if (expected < 0)
    OK(recv_bytes());
  ck_assert(is_text("one"));

  fails_with[socket ? SENDMSG : PWRITEV2] = error;
  CODE(send_text(b, "two"), expected);
  if (expected < 0)
    OK(send_text(b, "two"));
  RECEIVES(a, "two");

  fails_with[PPOLL] = error;
  CODE(forkq_connection_poll(a, 0), expected);
  for (int i = 0; i < FUNCTIONS; i++)
    ck_assert_int_eq(fails_with[i], 0); /* each call was made */
}

START_TEST(calls_that_fail_first_in_a_process_with_threads) {
  const bool socket = _i == SOCKET || _i == SOCKET_NONBLOCKING;
  make_stream(_i, &a, &b);
  newest_kernel = true;
  pthread_t bystander = start_thread(idle, NULL);
  check_failing(EINTR, socket);
  check_failing(EIO, socket);
  fails_with[PPOLL] = ENOMEM;
  CODE(recv_bytes(), -ENOMEM); /* as nothing is there */
  check_stream();
  newest_kernel = false;
  pthread_cancel(bystander);
  ck_assert(ends_cancelled(bystander));
}
END_TEST

/* ---- at any moment ------------------------------------------------------------------------ */

#define LIVES 60

static _Atomic uint64_t count_done;

/* Numbers, one after another. A thread that is cancelled was at any of its steps. */
static void *receive_numbers(void *arg) {
  for (;;) {
    if (receive() != 0 || item.object.via.u64 != atomic_load(&count_done))
      return arg; /* not cancelled, which is seen */
    atomic_fetch_add(&count_done, 1);
  }
}

static void *send_numbers(void *arg) {
  while (send_int(b, atomic_load(&count_done)) == 0)
    atomic_fetch_add(&count_done, 1);
  return arg;
}

/* So that the cancellation finds it at different places. */
static void let_it_run(unsigned life) {
  for (unsigned i = 0; i < life % 23; i++)
    sched_yield();
}

START_TEST(threads_that_are_cancelled_at_any_moment_lose_no_message) {
  uint64_t sent = 0;
  make_small_stream(_i);
  atomic_store(&count_done, 0);
  for (unsigned life = 0; life < LIVES; life++) {
    pthread_t thread = start_thread(receive_numbers, NULL);
    for (unsigned i = 0; i < life % 7; i++)
      OK(send_int(b, sent++));
    let_it_run(life);
    pthread_cancel(thread);
    ck_assert(ends_cancelled(thread));
  }
  while (atomic_load(&count_done) < sent) {
    RECEIVES_INT(a, atomic_load(&count_done));
    atomic_fetch_add(&count_done, 1);
  }
  check_stream();
}
END_TEST

/* A number comes twice where its thread had sent it and not counted it. */
START_TEST(threads_that_are_cancelled_at_any_moment_send_whole_messages) {
  uint64_t next = 0;
  make_small_stream(_i);
  atomic_store(&count_done, 0);
  for (unsigned life = 0; life < LIVES; life++) {
    pthread_t thread = start_thread(send_numbers, NULL);
    let_it_run(life);
    pthread_cancel(thread);
    ck_assert(ends_cancelled(thread));
    while (forkq_connection_poll(a, 0) == 1) {
      OK(receive());
      uint64_t number = item.object.via.u64;
      ck_assert(number == next || number + 1 == next);
      next = number + 1;
    }
    ck_assert(next == atomic_load(&count_done) || next == atomic_load(&count_done) + 1);
  }
  check_stream();
}
END_TEST

/* ---- forkq_wait --------------------------------------------------------------------------- */

static forkq_queue_t *queue;
static size_t wait_count;

/* The queue, and beside it so many descriptors that memory is needed. */
static int wait_for_queue(void) {
  forkq_wait_entry_t on[64];
  on[0] = forkq_wait_on_queue(queue);
  for (size_t i = 1; i < wait_count; i++)
    on[i] = forkq_wait_on_fd(dup(forkq_connection_fileno(a)));
  int r = forkq_wait(on, wait_count, -1);
  return r;
}

static void close_from(int first) {
  for (int fd = first; fd < first + 64; fd++)
    close(fd);
}

START_TEST(a_thread_that_waits_for_a_queue_ends) {
  int (*const call)(void) = wait_for_queue;
  static const size_t counts[] = { 1, 2, 64 };
  use_test_heap();
  OK(forkq_pipe(&a, &b, 0));
  OK(forkq_queue_create(&queue, 0));
  const int first = dup(0);
  close(first);
  const size_t before = test_heap.now;
  for (size_t i = 0; i < COUNT(counts); i++) {
    wait_count = counts[i];
    cancel_asleep(start_call(&call));
    close_from(first);
    ck_assert_uint_eq(test_heap.now, before);
    ck_assert_int_eq(atomic_load(&queue->getters), 0);
    ck_assert_uint_eq(atomic_load(&queue->channel.shared->watchers), 0);
  }
  OK(forkq_queue_close(queue)); /* which waits for who waits */
  forkq_queue_destroy(queue);
}
END_TEST

/* ------------------------------------------------------------------------------------------- */

static void setup_older_kernel(void) {
  setup_nothing();
  refusal = EOPNOTSUPP;
}

static void add_pipe_tests(TCase *tc) {
  tcase_add_test(tc, a_thread_ends_with_the_signals_that_it_had);
  tcase_add_test(tc, no_sigpipe_in_a_process_with_threads);
  tcase_add_test(tc, a_cancellation_in_a_write_of_all_leaves_nothing);
  tcase_add_test(tc, a_cancellation_in_a_write_of_a_part_waits_for_its_end);
}

static void add_tests(TCase *tc, int kind) {
  tcase_add_loop_test(tc, a_thread_that_waits_for_a_message_ends, kind, kind + 1);
  tcase_add_loop_test(tc, a_thread_that_waits_for_room_ends, kind, kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_takes_nothing, kind, kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_sends_nothing, kind, kind + 1);
  tcase_add_loop_test(tc, a_thread_that_does_not_want_to_be_cancelled_is_not, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_message_that_has_begun_is_received_to_its_end, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_message_that_has_begun_is_sent_to_its_end, kind, kind + 1);
  tcase_add_loop_test(tc, messages_of_each_size_leave_a_process_with_threads, kind,
                      kind + 1);
  tcase_add_loop_test(tc, messages_of_each_size_reach_a_process_with_threads, kind,
                      kind + 1);
  tcase_add_loop_test(tc, threads_that_are_cancelled_at_any_moment_lose_no_message, kind,
                      kind + 1);
  tcase_add_loop_test(tc, threads_that_are_cancelled_at_any_moment_send_whole_messages,
                      kind, kind + 1);
}

static void add_descriptor_tests(TCase *tc, int kind) {
  tcase_add_loop_test(tc, a_thread_that_waits_for_a_descriptor_or_room_for_it_ends, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_takes_and_sends_no_descriptor, kind,
                      kind + 1);
}

int main(void) {
  Suite *suite = suite_create("cancelled in a connection");
  TCase *tc = add_case(suite, "messages", setup_nothing);
  for (int kind = 0; kind < KINDS; kind++)
    add_tests(tc, kind);

  tc = add_case(suite, "failing calls", setup_nothing);
  tcase_add_loop_test(tc, calls_that_fail_first_in_a_process_with_threads, 0, KINDS);

  tc = add_case(suite, "descriptors", setup_nothing);
  add_descriptor_tests(tc, SOCKET);
  add_descriptor_tests(tc, SOCKET_NONBLOCKING);
  tcase_add_test(tc, a_descriptor_goes_where_there_is_room);

  tc = add_case(suite, "wait", setup_nothing);
  tcase_add_test(tc, a_thread_that_waits_for_a_queue_ends);

  add_pipe_tests(add_case(suite, "sigpipe", setup_nothing));

  /* Last, as a process remembers for good that its kernel refused. */
  tc = add_case(suite, "older kernel", setup_older_kernel);
  add_tests(tc, PIPE);
  add_tests(tc, PIPE_NONBLOCKING);
  add_pipe_tests(tc);
  return support_main(suite);
}
