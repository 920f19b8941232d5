/* SIGPIPE and threads that are cancelled (pthread_cancel(3)) in a write: the signal kills nobody,
 * and each thread ends with the signals that it had. */
#define _GNU_SOURCE
#include "connection_calls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

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

static void add_pipe_tests(TCase *tc) {
  tcase_add_test(tc, a_thread_ends_with_the_signals_that_it_had);
  tcase_add_test(tc, no_sigpipe_in_a_process_with_threads);
  tcase_add_test(tc, a_cancellation_in_a_write_of_all_leaves_nothing);
  tcase_add_test(tc, a_cancellation_in_a_write_of_a_part_waits_for_its_end);
}

int main(void) {
  Suite *suite = suite_create("cancelled in a write");
  add_pipe_tests(add_case(suite, "sigpipe", setup_nothing));

  /* Last, as a process remembers for good that its kernel refused. */
  add_pipe_tests(add_case(suite, "older kernel", setup_older_kernel));
  return support_main(suite);
}
