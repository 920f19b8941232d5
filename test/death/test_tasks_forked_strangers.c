/* Tasks that a process does which has not got them, and is no child of the one that has. */
#define _GNU_SOURCE
#include "base/os.h"
#include "tasks_helpers.h"

#include <signal.h>
#include <unistd.h>

static void say_done(void *arg) {
  for (int i = 0; i < *(const int *)arg; i++)
    CHILD_MUST(done() == 0);
  CHILD_MUST(queue->channel.account.cell == FORKQ__NO_CELL);
}

static void get_all_and_stay(void *arg) {
  for (int i = 0; i < *(const int *)arg; i++)
    CHILD_MUST(get(5000) == i);
  atomic_store(&scene->cell, queue->channel.account.cell);
  atomic_store(&scene->ready, 1);
  pause();
}

/* A process that has got nothing. */
START_TEST(a_stranger_s_task_done_counts_and_is_nobody_s) {
  int count = 3, two = 2;
  put_tasks(count);
  pid_t getter = support_fork(get_all_and_stay, &count);
  support_until(&scene->ready);
  ck_assert_int_eq(support_wait(support_fork(say_done, &two)), 0);
  ck_assert_uint_eq(ledger()->others.done, 2);
  ck_assert_uint_eq(ledger()->cells[scene->cell].done, 0);
  ck_assert_uint_eq(forkq__ledger_unfinished(ledger()), 1);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  /* This one has put, and got nothing either. */
  ck_assert_int_eq(done(), 0);
  ck_assert_uint_eq(ledger()->others.done, 3);
  assert_joined(0);
  /* Of three that it got all were done, whoever said so: the end of the getter leaves none. */
  support_kill_and_wait(getter);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_uint_eq(ledger()->abandoned, 0);
  put_tasks(1);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(5000), 0);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
}
END_TEST

static void get_one_and_do_three(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(done() == 0);
  const struct forkq__cell *cell = &ledger()->cells[queue->channel.account.cell];
  CHILD_MUST(cell->got == 1 && cell->done == 1);
}

START_TEST(task_done_more_often_than_it_got_is_not_for_its_own) {
  put_tasks(4);
  ck_assert_int_eq(support_wait(support_fork(get_one_and_do_three, NULL)), 0);
  ck_assert_uint_eq(ledger()->others.done, 2);
  ck_assert_uint_eq(forkq__ledger_unfinished(ledger()), 1);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  for (int i = 1; i < 4; i++)
    ck_assert_int_eq(get(5000), i);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_uint_eq(ledger()->done, 4);
}
END_TEST

static void do_nothing(void *arg) {
  (void)arg;
}

static void die_with_the_ledger(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger()->lock, FORKQ__FOREVER, do_nothing, NULL) == 0);
  atomic_store(&ledger()->done, 0);
  raise(SIGKILL);
}

/* What strangers did is in no process's cell. */
START_TEST(the_sum_that_is_made_anew_has_what_strangers_did) {
  int two = 2;
  put_tasks(4);
  ck_assert_int_eq(get(5000), 0);
  ck_assert_int_eq(done(), 0);
  ck_assert_int_eq(support_wait(support_fork(say_done, &two)), 0);
  ck_assert_uint_eq(ledger()->others.done, 2);
  ck_assert_int_eq(support_wait(support_fork(die_with_the_ledger, NULL)), 128 + SIGKILL);
  ck_assert_int_eq(done(), 0);
  ck_assert_uint_eq(ledger()->done, 4);
  assert_joined(0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("tasks_forked_strangers");
  TCase *tcase = tcase_create("strangers");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_stranger_s_task_done_counts_and_is_nobody_s);
  tcase_add_test(tcase, task_done_more_often_than_it_got_is_not_for_its_own);
  tcase_add_test(tcase, the_sum_that_is_made_anew_has_what_strangers_did);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
