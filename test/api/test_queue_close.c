/* What is left of a queue after close, destroy and exit: who waits is told, and what was put is
 * sent. */
#define _GNU_SOURCE
#include "queue_fixture.h"

#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

START_TEST(close_gives_every_descriptor_back_unused_or_used) {
  forkq_queue_close(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
  set_maxsize(0);
  put(1, -1);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  uint64_t unsent = 99;
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
  ck_assert_uint_eq(unsent, 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), FORKQ_ECLOSED);
  ck_assert_int_eq(support_open_fds(), fds_before);
}
END_TEST

static void blocked_get(void *arg) {
  *(int64_t *)arg = get(-1);
}

static void blocked_put(void *arg) {
  *(int64_t *)arg = put(2, -1);
}

START_TEST(close_ends_the_waits_of_other_threads) {
  set_maxsize(1);
  uv_thread_t threads[3];
  int64_t results[3] = { 0 };
  for (int i = 0; i < 3; i++)
    uv_thread_create(&threads[i], blocked_get, &results[i]);
  support_until_threads_asleep(3);
  forkq_queue_close(queue);
  for (int i = 0; i < 3; i++) {
    uv_thread_join(&threads[i]);
    ck_assert_int_eq(results[i], FORKQ_ECLOSED);
  }
  set_maxsize(1);
  ck_assert_int_eq(put(1, -1), 0);
  uv_thread_create(&threads[0], blocked_put, &results[0]);
  support_until_threads_asleep(2); /* the feeder is the other */
  forkq_queue_cancel_join_thread(queue);
  forkq_queue_close(queue);
  uv_thread_join(&threads[0]);
  ck_assert_int_eq(results[0], FORKQ_ECLOSED);
}
END_TEST

/* More than a pipe holds, and through the pipe. */
static void put_much(void) {
  char *data = bin_of(10u << 20);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, 10u << 20, -1), 0);
  free(data);
}

START_TEST(nobody_else_has_it_so_destroy_does_not_hang) {
  put_much();
  forkq_queue_close(queue);
  uint64_t unsent = 0;
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_uint_eq(unsent, 1);
}
END_TEST

static void wait_for_flag(void *flag) {
  support_until(flag);
  _exit(0);
}

START_TEST(join_thread_times_out_and_says_what_is_unsent) {
  _Atomic int *flag = support_shared(sizeof *flag);
  pid_t holder = support_fork(wait_for_flag, (void *)flag);
  put_much();
  put_much();
  forkq_queue_close(queue);
  uint64_t unsent = 0;
  ck_assert_int_eq(forkq_queue_join_thread(queue, 50, &unsent), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(unsent, 2);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(holder), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_uint_eq(unsent, 2);
}
END_TEST

START_TEST(cancel_join_thread_lets_destroy_go_at_once) {
  _Atomic int *flag = support_shared(sizeof *flag);
  forkq_queue_cancel_join_thread(queue); /* before the first put */
  pid_t holder = support_fork(wait_for_flag, (void *)flag);
  put_much();
  forkq_queue_destroy(queue);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(holder), 0);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}
END_TEST

static void put_much_and_exit(void *arg) {
  (void)arg;
  put_much();
  exit(0);
}

static int64_t get_size(int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_packed(queue, &item, timeout_ms);
  int64_t size = r < 0 ? r : (int64_t)item.size;
  forkq_item_destroy(&item);
  return size;
}

START_TEST(exit_sends_what_was_put) {
  pid_t child = support_fork(put_much_and_exit, NULL);
  ck_assert_int_eq(get_size(-1), 10 << 20);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void exit_here(void *arg) {
  (void)arg;
  exit(0);
}

static void put_much_and_let_a_thread_exit(void *arg) {
  (void)arg;
  uv_thread_t thread;
  put_much();
  uv_thread_create(&thread, exit_here, NULL);
  for (;;)
    pause();
}

START_TEST(a_thread_that_exits_sends_what_was_put) {
  pid_t child = support_fork(put_much_and_let_a_thread_exit, NULL);
  ck_assert_int_eq(get_size(-1), 10 << 20);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void create_put_and_exit(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  put_much();
  exit(0);
}

START_TEST(exit_does_not_hang_when_nobody_can_read) {
  pid_t child = support_fork(create_put_and_exit, NULL);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void get_sleeping(void *arg) {
  (void)arg;
  get(-1);
}

static void exit_with_a_thread_in_get(void *arg) {
  (void)arg;
  uv_thread_t thread;
  uv_thread_create(&thread, get_sleeping, NULL);
  support_until_threads_asleep(1);
  exit(0);
}

START_TEST(exit_does_not_wait_for_threads_in_get) {
  pid_t child = support_fork(exit_with_a_thread_in_get, NULL);
  ck_assert_int_eq(support_wait(child), 0);
  assert_usable();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("queue_close");
  TCase *tcase = tcase_create("queue");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, close_gives_every_descriptor_back_unused_or_used);
  tcase_add_test(tcase, close_ends_the_waits_of_other_threads);
  tcase_add_test(tcase, nobody_else_has_it_so_destroy_does_not_hang);
  tcase_add_test(tcase, join_thread_times_out_and_says_what_is_unsent);
  tcase_add_test(tcase, cancel_join_thread_lets_destroy_go_at_once);
  tcase_add_test(tcase, exit_sends_what_was_put);
  tcase_add_test(tcase, a_thread_that_exits_sends_what_was_put);
  tcase_add_test(tcase, exit_does_not_hang_when_nobody_can_read);
  tcase_add_test(tcase, exit_does_not_wait_for_threads_in_get);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
