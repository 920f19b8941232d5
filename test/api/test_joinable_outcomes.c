/* task_done and join: their arguments and outcomes. CPython's own tests of them are in
 * test_conformance_shutdown.c. */
#define _GNU_SOURCE
#include "joinable_helpers.h"

START_TEST(a_queue_without_tasks) {
  forkq_queue_t *plain;
  ck_assert_int_eq(forkq_queue_create(&plain, 0), 0);
  uint64_t abandoned = 77;
  ck_assert_int_eq(forkq_queue_task_done(plain), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_join(plain, -1, &abandoned), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_join(plain, 0, NULL), FORKQ_ENOTJOINABLE);
  ck_assert_uint_eq(abandoned, 77);
  forkq_queue_destroy(plain);
}
END_TEST

START_TEST(bad_arguments) {
  uint64_t abandoned = 77;
  ck_assert_int_eq(forkq_queue_task_done(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_join(NULL, -1, &abandoned), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_join(queue, -2, &abandoned), FORKQ_ETIMEOUT);
  ck_assert_uint_eq(abandoned, 77);
  ck_assert_int_eq(forkq_joinable_queue_create(NULL, 0), FORKQ_ENULL);
}
END_TEST

START_TEST(a_queue_that_was_never_put_into_is_done) {
  uint64_t abandoned = 77;
  ck_assert_int_eq(forkq_queue_join(queue, -1, &abandoned), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, &abandoned), 0);
  ck_assert_uint_eq(abandoned, 77);
}
END_TEST

START_TEST(task_done_more_often_than_put) {
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, -1), 0);
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(get(1000), i);
    ck_assert_int_eq(done(), 0);
  }
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  /* The refusals left no mark. */
  ck_assert_int_eq(put(3, -1), 0);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(1000), 3);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
}
END_TEST

START_TEST(task_done_before_the_get_counts) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
  ck_assert_int_eq(get(1000), 1);
  assert_joined(0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}
END_TEST

START_TEST(join_keeps_its_timeout) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  static const int timeouts[] = { 1, 30, 150 };
  for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
    int64_t start = support_now_ms();
    ck_assert_int_eq(join(timeouts[i]), FORKQ_TIMEDOUT);
    ck_assert_int_ge(support_now_ms() - start, timeouts[i] - 1);
  }
  /* Got is not done. */
  ck_assert_int_eq(get(1000), 1);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
}
END_TEST

static void work_off(void *arg) {
  int count = *(const int *)arg;
  for (int i = 0; i < count; i++) {
    CHILD_MUST(get(5000) >= 0);
    CHILD_MUST(done() == 0);
  }
  forkq_queue_destroy(queue);
}

static void join_and_say(void *arg) {
  CHILD_MUST(join(-1) == 0);
  atomic_store((_Atomic int *)arg, 1);
  forkq_queue_destroy(queue);
}

/* The last task_done wakes all of them, and nothing before it. */
START_TEST(several_join_at_once) {
  _Atomic int *ended = support_shared(3 * sizeof *ended);
  int count = 2;
  pid_t joiners[3];
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  for (int i = 0; i < 3; i++)
    joiners[i] = support_fork(join_and_say, (void *)&ended[i]);
  for (int i = 0; i < 3; i++)
    support_until_asleep(joiners[i]);
  ck_assert_int_eq(get(1000), 1);
  ck_assert_int_eq(done(), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(ended[i], 0);
  count = 1;
  ck_assert_int_eq(support_wait(support_fork(work_off, &count)), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(support_wait(joiners[i]), 0);
  assert_joined(0);
}
END_TEST

static void say_done(void *arg) {
  int count = *(const int *)arg;
  for (int i = 0; i < count; i++)
    CHILD_MUST(done() == 0);
  forkq_queue_destroy(queue);
}

START_TEST(another_process_than_the_getter_may_say_done) {
  int count = 3;
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(put(i, -1), 0);
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(get(1000), i);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  ck_assert_int_eq(support_wait(support_fork(say_done, &count)), 0);
  assert_joined(0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}
END_TEST

static int pack_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 1;
}

/* A queue that was closed in this process, of which another one still works off the items. */
START_TEST(join_after_close) {
  int count = 1;
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nothing, NULL, -1), FORKQ_EPACK);
  pid_t worker = support_fork(work_off, &count);
  ck_assert_int_eq(support_wait(worker), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 5000, NULL), 0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  assert_joined(0);
}
END_TEST

/* The last task of a worker that has no more use for the queue. */
START_TEST(task_done_after_close) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 5000, NULL), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("joinable_outcomes");
  TCase *tcase = tcase_create("joinable");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_queue_without_tasks);
  tcase_add_test(tcase, bad_arguments);
  tcase_add_test(tcase, a_queue_that_was_never_put_into_is_done);
  tcase_add_test(tcase, task_done_more_often_than_put);
  tcase_add_test(tcase, task_done_before_the_get_counts);
  tcase_add_test(tcase, join_keeps_its_timeout);
  tcase_add_test(tcase, several_join_at_once);
  tcase_add_test(tcase, another_process_than_the_getter_may_say_done);
  tcase_add_test(tcase, join_after_close);
  tcase_add_test(tcase, task_done_after_close);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
