/* Threads that are cancelled (pthread_cancel(3)) while they wait for tasks or for the feeder, or
 * while they end the queue or the process. */
#define _GNU_SOURCE
#include "cancel_helpers.h"

#include <stdlib.h>

static _Atomic int *flag; /* shared */

static int join_tasks(struct victim *victim) {
  (void)victim;
  return forkq_queue_join(queue, -1, NULL);
}

START_TEST(cancelled_while_it_waits_for_tasks) {
  create_joinable();
  for (int round = 0; round < ROUNDS; round++) {
    struct victim first, second;
    ck_assert_int_eq(put(1, 0), 0);
    start(&first, join_tasks);
    start(&second, join_tasks);
    support_until_equal(&queue->segment->joiners, 2);
    until_asleep(&first);
    until_asleep(&second);
    assert_ends(&first);
    ck_assert_uint_eq(atomic_load(&queue->segment->joiners), 1);
    ck_assert_int_eq(get(10000), 1);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    ck_assert(!join(&second));
    ck_assert_int_eq(second.result, 0);
    assert_nothing_held();
  }
}
END_TEST

static int join_feeder(struct victim *victim) {
  (void)victim;
  return forkq_queue_join_thread(queue, -1, NULL);
}

/* When it is told to: gets what another process has put. */
static void get_large(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  (void)arg;
  support_until(flag);
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 10000) == 0);
  CHILD_MUST(is_bin(&item, LARGE));
  forkq_item_destroy(&item);
}

static pid_t close_with_much_to_send(void) {
  flag = support_shared(sizeof *flag);
  support_keep_to_pipe(queue);
  pid_t child = support_fork(get_large, NULL);
  ck_assert_int_eq(put_bin(LARGE, 0), 0);
  support_until_pipe_full(queue);
  return child;
}

START_TEST(cancelled_while_it_waits_for_the_feeder) {
  struct victim first, second;
  create(0);
  pid_t child = close_with_much_to_send();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  start(&first, join_feeder);
  start(&second, join_feeder);
  until_asleep(&first);
  until_asleep(&second);
  assert_ends(&first);
  atomic_store(flag, 1);
  ck_assert(!join(&second));
  ck_assert_int_eq(second.result, 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 10000, NULL), 0);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* Nobody could tell how far it had come. */
static int destroy_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  forkq_queue_destroy(queue);
  queue = NULL;
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

START_TEST(a_cancelled_thread_destroys_the_whole_queue) {
  struct victim victim;
  create(0);
  pid_t child = close_with_much_to_send();
  start(&victim, destroy_though_cancelled);
  until_asleep(&victim);
  atomic_store(flag, 1);
  ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim.returned), 1);
  ck_assert_ptr_null(queue);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* Registered before the queue's, and so called after it. */
static _Atomic int *came_to_its_end; /* shared */
static void note_end(void) {
  if (came_to_its_end != NULL)
    atomic_store(came_to_its_end, 1);
}

static void exit_though_cancelled(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, 0) == 0);
  support_until_pipe_full(queue);
  atomic_store(flag, 1);
  pthread_cancel(pthread_self());
  exit(0);
}

/* It sends what it has put, and goes through all handlers, as any exit does. */
START_TEST(an_exit_of_a_cancelled_thread_comes_to_its_end) {
  ck_assert_int_eq(atexit(note_end), 0);
  create(0);
  flag = support_shared(sizeof *flag);
  came_to_its_end = support_shared(sizeof *came_to_its_end);
  pid_t child = support_fork(exit_though_cancelled, NULL);
  support_until(flag);
  support_until_asleep(child);
  assert_get_bin(LARGE);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(*came_to_its_end, 1);
  came_to_its_end = NULL;
  assert_whole();
}
END_TEST

START_TEST(joins_go_on_where_cancellation_is_off) {
  struct victim victim;
  create_joinable();
  ck_assert_int_eq(put(1, 0), 0);
  start_protected(&victim, join_tasks);
  support_until_equal(&queue->segment->joiners, 1);
  cancel(&victim);
  ck_assert_int_eq(get(10000), 1);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_ends_afterwards(&victim);
  pid_t child = close_with_much_to_send();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  start_protected(&victim, join_feeder);
  cancel(&victim);
  atomic_store(flag, 1);
  assert_ends_afterwards(&victim);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static Suite *cancel_ends_suite(void) {
  Suite *suite = suite_create("cancel_ends");
  TCase *ends = add_case(suite, "ends");
  tcase_add_test(ends, cancelled_while_it_waits_for_tasks);
  tcase_add_test(ends, cancelled_while_it_waits_for_the_feeder);
  tcase_add_test(ends, a_cancelled_thread_destroys_the_whole_queue);
  tcase_add_test(ends, an_exit_of_a_cancelled_thread_comes_to_its_end);
  TCase *off = add_case(suite, "cancellation off");
  tcase_add_test(off, joins_go_on_where_cancellation_is_off);
  return suite;
}

int main(void) {
  return cancel_main(cancel_ends_suite());
}
