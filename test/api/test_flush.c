/* Flushing: everything that was put before is in the pipe, or the call says what is not. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
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

/* A thread that flushes, and is in its wait. */
static struct {
  pthread_t thread;
  int result;
  uint64_t held; /* when it was done */
} flusher;

static void cancelled(void *result) {
  *(int *)result = -ECANCELED;
}

static void *flush(void *arg) {
  (void)arg;
  pthread_cleanup_push(cancelled, &flusher.result);
  flusher.result = forkq_queue_flush(queue, -1, NULL);
  flusher.held = held();
  pthread_cleanup_pop(0);
  return NULL;
}

static void begin_flush(void) {
  put_many_small(MANY);
  support_until_pipe_full(queue);
  ck_assert_int_eq(pthread_create(&flusher.thread, NULL, flush, NULL), 0);
  support_until_threads_asleep(2); /* the feeder, and this one */
}

static void assert_flush_ends(int expected) {
  pthread_join(flusher.thread, NULL);
  ck_assert_int_eq(flusher.result, expected);
}

START_TEST(it_waits_until_a_reader_has_made_room) {
  begin_flush();
  get_many_small(MANY);
  assert_flush_ends(0);
  ck_assert_uint_eq(flusher.held, 0);
}
END_TEST

START_TEST(what_is_put_later_is_not_waited_for) {
  begin_flush();
  for (int i = 0; i < MANY; i++) {
    get_many_small(1);
    put_many_small(1); /* the outbox never empties */
  }
  assert_flush_ends(0);
  ck_assert_uint_gt(flusher.held, 0);
  get_many_small(MANY);
}
END_TEST

START_TEST(a_thread_in_it_can_be_cancelled) {
  begin_flush();
  pthread_cancel(flusher.thread);
  assert_flush_ends(-ECANCELED);
  get_many_small(MANY);
  ck_assert_int_eq(forkq_queue_flush(queue, PATIENCE_MS, NULL), 0);
}
END_TEST

START_TEST(who_closes_ends_it) {
  begin_flush();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  assert_flush_ends(FORKQ_ECLOSED);
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
