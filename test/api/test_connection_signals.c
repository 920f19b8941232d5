/* Connections and signals: SIGPIPE, which no program may notice, and others, which no
 * call may notice. */
#define _GNU_SOURCE
#include "connection_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>

/* The kernel, which may be made one that does not know RWF_NOSIGNAL: then it says `refusal`. */

static int refusal, pwritev2_calls;

ssize_t __real_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags) {
  pwritev2_calls++;
  if (refusal == 0)
    return __real_pwritev64v2(fd, parts, count, at, flags);
  errno = refusal;
  return -1;
}

static void setup_older_kernel(void) {
  setup_nothing();
  refusal = EOPNOTSUPP;
}

/* Whether the tests share a process, as under valgrind. */
static bool in_one_process(void) {
  const char *fork_status = getenv("CK_FORK");
  return fork_status != NULL && strcmp(fork_status, "no") == 0;
}

/* SIGPIPE */

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int number) {
  (void)number;
  sigpipes++;
}

static void set_sigpipe(void (*handler)(int)) {
  struct sigaction action = { .sa_handler = handler };
  sigpipes = 0;
  sigaction(SIGPIPE, &action, NULL);
}

static sigset_t sigpipe_set(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

static int sigpipe_is(int (*get)(sigset_t *set)) {
  sigset_t set;
  ck_assert_int_eq(get(&set), 0);
  return sigismember(&set, SIGPIPE);
}

static int get_blocked(sigset_t *set) {
  return pthread_sigmask(SIG_BLOCK, NULL, set);
}

/* Every way of sending to nobody. */
static void send_to_nobody(int kind) {
  make_stream(kind, &a, &b);
  close_a();
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  for (int i = 0; i < 3; i++) {
    CODE(send_bytes("x", 1), -EPIPE);
    CODE(forkq_connection_send(b, &nil), -EPIPE);
    CODE(forkq_connection_send_packed(b, "\xc0", 1), -EPIPE);
  }
  if (kind == SOCKET)
    CODE(forkq_connection_send_fd(b, 0), -EPIPE);
  close_b();
}

START_TEST(sigpipe_with_each_disposition) {
  static void (*const handlers[])(int) = { SIG_DFL, SIG_IGN, count_sigpipe };
  for (size_t i = 0; i < 3; i++) {
    set_sigpipe(handlers[i]);
    send_to_nobody(_i);
    ck_assert_int_eq(sigpipe_is(sigpending), 0);
    ck_assert_int_eq(sigpipe_is(get_blocked), 0);
  }
  ck_assert_int_eq(sigpipes, 0);
}
END_TEST

START_TEST(sigpipe_that_is_blocked_stays_blocked) {
  const sigset_t set = sigpipe_set();
  set_sigpipe(count_sigpipe);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  send_to_nobody(_i);
  ck_assert_int_eq(sigpipe_is(get_blocked), 1);
  ck_assert_int_eq(sigpipe_is(sigpending), 0);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  ck_assert_int_eq(sigpipes, 0);
}
END_TEST

/* Sent to the thread, to the process, and to both, which makes two. */
START_TEST(sigpipe_of_others_stays_pending) {
  const sigset_t set = sigpipe_set();
  set_sigpipe(count_sigpipe);
  for (int to = 1; to <= 3; to++) {
    sigpipes = 0;
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (to & 1)
      pthread_kill(pthread_self(), SIGPIPE);
    if (to & 2)
      kill(getpid(), SIGPIPE);
    send_to_nobody(_i);
    ck_assert_int_eq(sigpipe_is(sigpending), 1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    ck_assert_int_eq(sigpipes, to == 3 ? 2 : 1);
  }
}
END_TEST

static void receive_1_mib(void *arg) {
  (void)arg;
  close_b();
  CHILD_MUST(recv_bytes() == 0);
  CHILD_MUST(item.size == 1 << 20);
}

/* A short write may have raised one or not. */
START_TEST(sigpipe_of_others_outlasts_short_writes) {
  const sigset_t set = sigpipe_set();
  make_stream(_i, &a, &b);
  pid_t pid = support_fork(receive_1_mib, NULL);
  close_a();
  set_sigpipe(count_sigpipe);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  kill(getpid(), SIGPIPE);
  char *data = pattern(1 << 20, 0);
  OK(send_bytes(data, 1 << 20));
  free(data);
  ck_assert_int_eq(sigpipe_is(sigpending), 1);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  ck_assert_int_eq(sigpipes, 1);
  reap(pid);
}
END_TEST

/* Reads a little of a message and goes. */
static void leave_inside(void *arg) {
  char bytes[100];
  (void)arg;
  close_b();
  read_all(forkq_connection_fileno(a), bytes, sizeof bytes);
}

START_TEST(message_cut_short_is_followed_by_nothing) {
  make_stream(PIPE, &a, &b);
  pid_t pid = support_fork(leave_inside, NULL);
  close_a();
  char *data = pattern(16 << 20, 0);
  CODE(send_bytes(data, 16 << 20), -EPIPE);
  free(data);
  reap(pid);

  /* Somebody reads again: what follows would be taken for the rest of the message. */
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", forkq_connection_fileno(b));
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  char *rest = malloc(1 << 20);
  while (read(fd, rest, 1 << 20) > 0)
    ;
  CODE(send_bytes("x", 1), -EPIPE);
  CODE(forkq_connection_send_packed(b, "\xc0", 1), -EPIPE);
  ck_assert_int_eq(read(fd, rest, 1), -1);
  ck_assert_int_eq(errno, EAGAIN);
  free(rest);
  close(fd);
}
END_TEST

/* What a kernel says that does not know the flag or the call; and a filter of system calls, such
 * as a container's, that does not. */
static const int refusals[] = { EOPNOTSUPP, EINVAL, ENOSYS, EPERM, EACCES };
#define REFUSALS ((int)(sizeof refusals / sizeof *refusals))

START_TEST(refusal_is_remembered) {
  refusal = refusals[_i];
  set_sigpipe(count_sigpipe);
  make_stream(PIPE, &a, &b);
  for (int n = 0; n < 3; n++) {
    OK(send_text(b, "text"));
    RECEIVES(a, "text");
  }
  close_a();
  CODE(send_bytes("x", 1), -EPIPE);
  ck_assert_int_eq(pwritev2_calls, 1);
  ck_assert_int_eq(sigpipes, 0);
}
END_TEST

/* An eventfd refuses the flag, today as ever. Pipes need not suffer for it. */
START_TEST(refusal_by_what_is_no_pipe_is_not_remembered) {
  forkq_connection_t *event;
  OK(forkq_connection_open(&event, eventfd(0, EFD_CLOEXEC), 0, 1));
  CODE(send_text(event, "x"), -EINVAL); /* eventfd(2): it takes no five bytes */
  ck_assert_int_eq(pwritev2_calls, 1);
  make_stream(PIPE, &a, &b);
  OK(send_text(b, "text"));
  ck_assert_int_eq(pwritev2_calls, 2);
  forkq_connection_destroy(event);
}
END_TEST

/* Signals */

static volatile sig_atomic_t ticks;

static void tick(int number) {
  (void)number;
  ticks++;
}

/* A thousand interruptions a second, none of which restarts a system call. */
static void start_timer(void) {
  struct sigaction action = { .sa_handler = tick };
  const struct itimerval interval = { { 0, 1000 }, { 0, 1000 } };
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &interval, NULL);
}

static void stop_timer(void) {
  setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 0 } }, NULL);
}

#define INTERRUPTED_SIZE ((size_t)300000)

static void send_interrupted(void *arg) {
  (void)arg;
  close_a();
  start_timer();
  char *data = pattern(INTERRUPTED_SIZE, 2);
  int i;
  for (i = 0; i < 200 || ticks < 50; i++) {
    CHILD_MUST(send_bytes("go on", 5) == 0);
    CHILD_MUST(send_bytes(data, INTERRUPTED_SIZE - (size_t)i % 1000) == 0);
  }
  stop_timer();
  CHILD_MUST(send_bytes(NULL, 0) == 0);
}

START_TEST(a_thousand_signals_a_second) {
  make_stream(_i, &a, &b);
  pid_t pid = support_fork(send_interrupted, NULL);
  close_b();
  start_timer();
  for (size_t i = 0;; i++) {
    OK(recv_bytes());
    if (item.size == 0)
      break;
    ck_assert_uint_eq(item.size, 5);
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, INTERRUPTED_SIZE - i % 1000);
    ck_assert(is_pattern(item.data, item.size, 2));
  }
  while (ticks < 20)
    ck_assert_int_eq(forkq_connection_poll(a, 0), 1);
  stop_timer();
  CODE(recv_bytes(), FORKQ_EEOF);
  reap(pid);
}
END_TEST

/* In memory that parent and child share: interruptions of a send that has no room at
 * all. */
static volatile sig_atomic_t *shared_ticks;

static void tick_shared(int number) {
  (void)number;
  ++*shared_ticks;
}

static void send_without_room(void *arg) {
  (void)arg;
  close_a();
  start_timer();
  struct sigaction action = { .sa_handler = tick_shared };
  sigaction(SIGALRM, &action, NULL);
  CHILD_MUST(send_bytes("last", 4) == 0);
  stop_timer();
}

START_TEST(signals_while_there_is_no_room) {
  shared_ticks = mmap(NULL, sizeof *shared_ticks, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne((void *)shared_ticks, MAP_FAILED);
  make_stream(_i, &a, &b);
  const int fd = forkq_connection_fileno(b), flags = fcntl(fd, F_GETFL);
  size_t frames = 0;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, "\0\0\0", 4) == 4)
    frames++;
  fcntl(fd, F_SETFL, flags);

  pid_t pid = support_fork(send_without_room, NULL);
  close_b();
  while (*shared_ticks < 20)
    usleep(1000);
  for (size_t i = 0; i < frames; i++) {
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, 0);
  }
  OK(recv_bytes());
  ck_assert_uint_eq(item.size, 4);
  reap(pid);
  munmap((void *)(uintptr_t)shared_ticks, sizeof *shared_ticks);
}
END_TEST

START_TEST(poll_is_not_ended_by_signals) {
  make_stream(PIPE, &a, &b);
  start_timer();
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_connection_poll(a, 100), 0);
  ck_assert_int_ge(support_now_ms() - start, 99);
  while (ticks == 0)
    ;
  stop_timer();
}
END_TEST

static void add_sigpipe_case(Suite *suite, const char *name, void (*setup)(void)) {
  TCase *tc = add_case(suite, name, setup);
  tcase_add_loop_test(tc, sigpipe_with_each_disposition, 0, KINDS);
  tcase_add_loop_test(tc, sigpipe_that_is_blocked_stays_blocked, 0, KINDS);
  tcase_add_loop_test(tc, sigpipe_of_others_stays_pending, 0, KINDS);
  tcase_add_loop_test(tc, sigpipe_of_others_outlasts_short_writes, 0, KINDS);
  tcase_add_test(tc, message_cut_short_is_followed_by_nothing);
}

int main(void) {
  Suite *suite = suite_create("connection and signals");
  add_sigpipe_case(suite, "sigpipe", setup_nothing);

  TCase *tc = add_case(suite, "signals", setup_nothing);
  tcase_add_loop_test(tc, a_thousand_signals_a_second, 0, KINDS);
  tcase_add_loop_test(tc, signals_while_there_is_no_room, 0, KINDS);
  tcase_add_test(tc, poll_is_not_ended_by_signals);

  /* Last, as a process remembers for good that its kernel refused. */
  add_sigpipe_case(suite, "sigpipe, older kernel", setup_older_kernel);
  tc = add_case(suite, "older kernel", setup_nothing);
  if (!in_one_process()) { /* each counts the calls of a process that knows nothing yet */
    tcase_add_loop_test(tc, refusal_is_remembered, 0, REFUSALS);
    tcase_add_test(tc, refusal_by_what_is_no_pipe_is_not_remembered);
  }
  return support_main(suite);
}
