/* Flushing: everything that was put before is in the pipe, or the call says what is not. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define SMALL 400
#define MANY 3000 /* more than the pipe holds */

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  support_keep_to_pipe(queue);
}

static void put_many_small(int count) {
  for (int i = 0; i < count; i++)
    CHILD_MUST(put_bin(SMALL, PATIENCE_MS) == 0);
}

static void get_many_small(int count) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < count; i++)
    CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  forkq_item_destroy(&item);
}

static uint64_t held(void) {
  return forkq__account_held(&queue->channel.account);
}

START_TEST(nothing_is_there_to_be_sent) {
  uint64_t unsent = 7;
  ck_assert_int_eq(forkq_queue_flush(queue, 0, &unsent), 0);
  ck_assert_uint_eq(unsent, 0);
  ck_assert_int_eq(forkq_queue_flush(queue, -1, NULL), 0);
}
END_TEST

START_TEST(a_full_pipe_is_told_with_the_number) {
  uint64_t unsent = 0;
  put_many_small(MANY);
  ck_assert_int_eq(forkq_queue_flush(queue, 50, &unsent), FORKQ_TIMEDOUT);
  ck_assert_uint_gt(unsent, 0);
  ck_assert_uint_le(unsent, MANY);
  ck_assert_uint_eq(unsent, held());
  ck_assert_int_eq(forkq_queue_flush(queue, 0, NULL), FORKQ_TIMEDOUT);
  get_many_small(MANY);
  ck_assert_int_eq(forkq_queue_flush(queue, PATIENCE_MS, &unsent), 0);
  ck_assert_uint_eq(unsent, 0);
}
END_TEST

static void *flush(void *result) {
  *(int *)result = forkq_queue_flush(queue, -1, NULL);
  return NULL;
}

START_TEST(it_waits_until_a_reader_has_made_room) {
  int result = 1;
  pthread_t thread;
  put_many_small(MANY);
  support_until_pipe_full(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, flush, &result), 0);
  get_many_small(MANY);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, 0);
  ck_assert_uint_eq(held(), 0);
}
END_TEST

START_TEST(what_is_put_later_is_not_waited_for) {
  int result = 1;
  pthread_t thread;
  put_many_small(MANY);
  support_until_pipe_full(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, flush, &result), 0);
  support_until_threads_asleep(2); /* the feeder, and this one */
  for (int i = 0; i < MANY; i++) {
    get_many_small(1);
    put_many_small(1); /* the outbox never empties */
  }
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, 0);
  ck_assert_uint_gt(held(), 0);
  get_many_small(MANY);
}
END_TEST

static void cancelled(void *arg) {
  *(bool *)arg = true;
}

static void *flush_and_be_cancelled(void *arg) {
  pthread_cleanup_push(cancelled, arg);
  (void)!forkq_queue_flush(queue, -1, NULL);
  pthread_cleanup_pop(0);
  return NULL;
}

START_TEST(a_thread_in_it_can_be_cancelled) {
  bool was = false;
  pthread_t thread;
  put_many_small(MANY);
  support_until_pipe_full(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, flush_and_be_cancelled, &was), 0);
  pthread_cancel(thread);
  pthread_join(thread, NULL);
  ck_assert(was);
  get_many_small(MANY);
  ck_assert_int_eq(forkq_queue_flush(queue, PATIENCE_MS, NULL), 0);
}
END_TEST

START_TEST(who_closes_ends_it) {
  int result = 1;
  pthread_t thread;
  put_many_small(MANY);
  support_until_pipe_full(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, flush, &result), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_flush(queue, 0, NULL), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_cancel_join_thread(queue), 0);
}
END_TEST

START_TEST(errors) {
  ck_assert_int_eq(forkq_queue_flush(NULL, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_flush(queue, -2, NULL), FORKQ_ETIMEOUT);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("flush");
  TCase *tcase = tcase_create("flush");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, nothing_is_there_to_be_sent);
  tcase_add_test(tcase, a_full_pipe_is_told_with_the_number);
  tcase_add_test(tcase, it_waits_until_a_reader_has_made_room);
  tcase_add_test(tcase, what_is_put_later_is_not_waited_for);
  tcase_add_test(tcase, a_thread_in_it_can_be_cancelled);
  tcase_add_test(tcase, who_closes_ends_it);
  tcase_add_test(tcase, errors);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
