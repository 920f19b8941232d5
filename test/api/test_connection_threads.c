/* Connections in a process with threads: messages of each size go through, and a call that fails
 * has taken and sent nothing. */
#define _GNU_SOURCE
#include "connection_calls.h"

#include <errno.h>
#include <pthread.h>

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

static void add_tests(TCase *tc, int kind) {
  tcase_add_loop_test(tc, messages_of_each_size_leave_a_process_with_threads, kind,
                      kind + 1);
  tcase_add_loop_test(tc, messages_of_each_size_reach_a_process_with_threads, kind,
                      kind + 1);
}

int main(void) {
  Suite *suite = suite_create("connection_threads");
  TCase *tc = add_case(suite, "messages", setup_nothing);
  for (int kind = 0; kind < KINDS; kind++)
    add_tests(tc, kind);

  tc = add_case(suite, "failing calls", setup_nothing);
  tcase_add_loop_test(tc, calls_that_fail_first_in_a_process_with_threads, 0, KINDS);

  /* Last, as a process remembers for good that its kernel refused. */
  tc = add_case(suite, "older kernel", setup_older_kernel);
  add_tests(tc, PIPE);
  add_tests(tc, PIPE_NONBLOCKING);
  return support_main(suite);
}
