/* CPython's own tests of queue.Queue.shutdown (Lib/test/test_queue.py, 3.13), ported under
 * their names, with processes in place of threads; and _TestQueue.test_task_done. */
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKERS 4

static void create(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, maxsize), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  create(0);
}

static int done(void) {
  return forkq_queue_task_done(queue);
}

static int join(int timeout_ms) {
  return forkq_queue_join(queue, timeout_ms, NULL);
}

/* ---- _TestQueue ---------------------------------------------------------------------------- */

static void work_until_none(void *arg) {
  (void)arg;
  int64_t value;
  while ((value = get(-1)) != 1000) {
    CHILD_MUST(value >= 0);
    CHILD_MUST(done() == 0);
  }
  forkq_queue_destroy(queue);
}

START_TEST(test_task_done) {
  pid_t workers[WORKERS];
  for (int i = 0; i < WORKERS; i++)
    workers[i] = support_fork(work_until_none, NULL);
  for (int i = 0; i < 10; i++)
    ck_assert_int_eq(put(i, -1), 0);
  ck_assert_int_eq(join(-1), 0);
  for (int i = 0; i < WORKERS; i++)
    ck_assert_int_eq(put(1000, -1), 0);
  for (int i = 0; i < WORKERS; i++)
    ck_assert_int_eq(support_wait(workers[i]), 0);
}
END_TEST

/* ---- BaseQueueTestMixin -------------------------------------------------------------------- */

START_TEST(test_queue_task_done) {
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}
END_TEST

static void work_until_shut_down(void *arg) {
  (void)arg;
  int64_t value;
  while ((value = get(-1)) >= 0)
    CHILD_MUST(done() == 0);
  CHILD_MUST(value == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

START_TEST(test_queue_join) {
  pid_t workers[2];
  for (int i = 0; i < 2; i++)
    workers[i] = support_fork(work_until_shut_down, NULL);
  /* Twice: a queue that was joined can be joined again. */
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 100; i++)
      ck_assert_int_eq(put(i, -1), 0);
    ck_assert_int_eq(join(-1), 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  }
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(support_wait(workers[i]), 0);
}
END_TEST

START_TEST(test_shutdown_empty) {
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(put(1, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
}
END_TEST

START_TEST(test_shutdown_nonempty) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
}
END_TEST

START_TEST(test_shutdown_immediate) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
}
END_TEST

START_TEST(test_shutdown_allowed_transitions) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
}
END_TEST

static void shut_down_with_two(int immediate) {
  create(2);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
  ck_assert_int_eq(put(3, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(put(3, 0), FORKQ_ESHUTDOWN);
}

START_TEST(test_shutdown_all_methods_in_one_thread) {
  shut_down_with_two(0);
  for (int i = 1; i <= 2; i++) {
    ck_assert_int_eq(get(-1), i);
    ck_assert_int_eq(done(), 0);
  }
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(join(-1), 0);
}
END_TEST

START_TEST(test_shutdown_immediate_all_methods_in_one_thread) {
  shut_down_with_two(1);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_int_eq(join(-1), 0);
}
END_TEST

static void put_until_shut_down(void *arg) {
  _Atomic int *count = arg;
  int r;
  while ((r = put(1, -1)) == 0)
    atomic_fetch_add(count, 1);
  CHILD_MUST(r == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

static void get_until_shut_down(void *arg) {
  _Atomic int *count = arg;
  int64_t value;
  while ((value = get(-1)) >= 0) {
    atomic_fetch_add(count, 1);
    CHILD_MUST(done() == 0);
  }
  CHILD_MUST(value == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

static void join_once(void *arg) {
  (void)arg;
  CHILD_MUST(join(-1) == 0);
  forkq_queue_destroy(queue);
}

static void many(int immediate) {
  create(100);
  _Atomic int *counts = support_shared(2 * sizeof *counts);
  pid_t pids[2 * WORKERS + 1];
  for (int i = 0; i < WORKERS; i++) {
    pids[2 * i] = support_fork(put_until_shut_down, (void *)&counts[0]);
    pids[2 * i + 1] = support_fork(get_until_shut_down, (void *)&counts[1]);
  }
  while (atomic_load(&counts[1]) < 20000)
    usleep(100);
  ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
  pids[2 * WORKERS] = support_fork(join_once, NULL);
  for (int i = 0; i < 2 * WORKERS + 1; i++)
    ck_assert_int_eq(support_wait(pids[i]), 0);
  if (!immediate)
    ck_assert_int_eq(counts[0], counts[1]);
  else
    ck_assert_int_ge(counts[0], counts[1]);
  ck_assert_int_eq(join(-1), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

START_TEST(test_shutdown_all_methods_in_many_threads) {
  many(0);
}
END_TEST

START_TEST(test_shutdown_immediate_all_methods_in_many_threads) {
  many(1);
}
END_TEST

struct outcome {
  _Atomic int *go;
  _Atomic int64_t *results;
  int index;
};

static struct outcome outcome;

static void get_after_go(void *arg) {
  struct outcome *o = arg;
  support_until(o->go);
  o->results[o->index] = get(-1);
}

static void put_after_go(void *arg) {
  struct outcome *o = arg;
  support_until(o->go);
  o->results[o->index] = put(3, -1);
}

/* Children that act once the queue is shut down; how many of them succeeded. */
static int act_after_shutdown(void (*act)(void *), int immediate) {
  pid_t pids[WORKERS];
  outcome.go = support_shared(sizeof *outcome.go);
  outcome.results = support_shared(WORKERS * sizeof *outcome.results);
  for (outcome.index = 0; outcome.index < WORKERS; outcome.index++)
    pids[outcome.index] = support_fork(act, &outcome);
  ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
  atomic_store(outcome.go, 1);
  int succeeded = 0;
  for (int i = 0; i < WORKERS; i++) {
    ck_assert_int_eq(support_wait(pids[i]), 0);
    if (outcome.results[i] >= 0)
      succeeded++;
    else
      ck_assert_int_eq(outcome.results[i], FORKQ_ESHUTDOWN);
  }
  return succeeded;
}

static void put_two(void) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
}

START_TEST(test_shutdown_get) {
  put_two();
  ck_assert_int_eq(act_after_shutdown(get_after_go, 0), 2);
}
END_TEST

START_TEST(test_shutdown_immediate_get) {
  put_two();
  ck_assert_int_eq(act_after_shutdown(get_after_go, 1), 0);
}
END_TEST

START_TEST(test_shutdown_put) {
  ck_assert_int_eq(act_after_shutdown(put_after_go, 0), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(test_shutdown_immediate_put) {
  ck_assert_int_eq(act_after_shutdown(put_after_go, 1), 0);
}
END_TEST

START_TEST(test_shutdown_join) {
  put_two();
  pid_t joiner = support_fork(join_once, NULL);
  support_until_asleep(joiner);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  /* What is left must still be done. */
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  for (int i = 1; i <= 2; i++) {
    ck_assert_int_eq(get(-1), i);
    ck_assert_int_eq(done(), 0);
  }
  ck_assert_int_eq(support_wait(joiner), 0);
}
END_TEST

START_TEST(test_shutdown_immediate_join) {
  put_two();
  pid_t joiner = support_fork(join_once, NULL);
  support_until_asleep(joiner);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(support_wait(joiner), 0);
}
END_TEST

static void put_blocked(void *arg) {
  (void)arg;
  CHILD_MUST(put(3, -1) == FORKQ_ESHUTDOWN);
}

static void put_join(int immediate) {
  create(2);
  put_two();
  pid_t putter = support_fork(put_blocked, NULL);
  pid_t joiner = support_fork(join_once, NULL);
  support_until_asleep(putter);
  support_until_asleep(joiner);
  ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
  ck_assert_int_eq(support_wait(putter), 0);
  if (!immediate) {
    for (int i = 1; i <= 2; i++) {
      ck_assert_int_eq(get(-1), i);
      ck_assert_int_eq(done(), 0);
    }
  }
  ck_assert_int_eq(support_wait(joiner), 0);
}

START_TEST(test_shutdown_put_join) {
  put_join(0);
}
END_TEST

START_TEST(test_shutdown_immediate_put_join) {
  put_join(1);
}
END_TEST

START_TEST(test_shutdown_get_task_done_join) {
  put_two();
  pid_t joiner = support_fork(join_once, NULL);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(done(), 0);
  ck_assert_int_eq(get(-1), 2);
  ck_assert_int_eq(done(), 0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_int_eq(support_wait(joiner), 0);
}
END_TEST

static void get_blocked(void *arg) {
  (void)arg;
  CHILD_MUST(get(-1) == FORKQ_ESHUTDOWN);
}

START_TEST(test_shutdown_pending_get) {
  for (int immediate = 0; immediate < 2; immediate++) {
    create(0);
    pid_t pids[WORKERS];
    for (int i = 0; i < WORKERS; i++)
      pids[i] = support_fork(get_blocked, NULL);
    for (int i = 0; i < WORKERS; i++)
      support_until_asleep(pids[i]);
    ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
    for (int i = 0; i < WORKERS; i++)
      ck_assert_int_eq(support_wait(pids[i]), 0);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("conformance_shutdown");
  TCase *tcase = tcase_create("shutdown");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, test_task_done);
  tcase_add_test(tcase, test_queue_task_done);
  tcase_add_test(tcase, test_queue_join);
  tcase_add_test(tcase, test_shutdown_empty);
  tcase_add_test(tcase, test_shutdown_nonempty);
  tcase_add_test(tcase, test_shutdown_immediate);
  tcase_add_test(tcase, test_shutdown_allowed_transitions);
  tcase_add_test(tcase, test_shutdown_all_methods_in_one_thread);
  tcase_add_test(tcase, test_shutdown_immediate_all_methods_in_one_thread);
  tcase_add_test(tcase, test_shutdown_all_methods_in_many_threads);
  tcase_add_test(tcase, test_shutdown_immediate_all_methods_in_many_threads);
  tcase_add_test(tcase, test_shutdown_get);
  tcase_add_test(tcase, test_shutdown_immediate_get);
  tcase_add_test(tcase, test_shutdown_put);
  tcase_add_test(tcase, test_shutdown_immediate_put);
  tcase_add_test(tcase, test_shutdown_join);
  tcase_add_test(tcase, test_shutdown_immediate_join);
  tcase_add_test(tcase, test_shutdown_put_join);
  tcase_add_test(tcase, test_shutdown_immediate_put_join);
  tcase_add_test(tcase, test_shutdown_get_task_done_join);
  tcase_add_test(tcase, test_shutdown_pending_get);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
