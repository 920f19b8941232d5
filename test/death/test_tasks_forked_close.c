/* Tasks of a process that has closed the queue, and the cells of the ledger that tasks hold. */
#define _GNU_SOURCE
#include "tasks_helpers.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- after close ------------------------------------------------------------------------- */

/* Gets one, closes the queue, and then ... */
static void get_and_close(void) {
  CHILD_MUST(get(5000) >= 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(get(0) == FORKQ_ECLOSED);
}

static void do_after_close(void *arg) {
  (void)arg;
  get_and_close();
  atomic_store(&scene->ready, 1);
  support_until(&scene->leave);
  CHILD_MUST(done() == 0);
  CHILD_MUST(join(0) == 0);
  CHILD_MUST(done() == FORKQ_ETASKDONE);
}

START_TEST(what_was_got_before_close_is_done_after_it) {
  put_tasks(1);
  pid_t worker = support_fork(do_after_close, NULL);
  pid_t joiner = support_fork(join_and_say, NULL);
  support_until(&scene->ready);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(atomic_load(&scene->joined), 0);
  atomic_store(&scene->leave, 1);
  ck_assert_int_eq(support_wait(joiner), 0);
  ck_assert_int_eq(support_wait(worker), 0);
  assert_joined(0);
}
END_TEST

static void close_and_end(void *arg) {
  (void)arg;
  get_and_close();
  atomic_store(&scene->ready, 1);
  support_until(&scene->leave);
  if (scene->end == ENDS) {
    forkq_queue_destroy(queue);
    atomic_store(&scene->done[0], 1);
    support_until(&scene->go[0]);
    _exit(0);
  }
  end_by(scene->end);
}

/* It may do it until its end. */
START_TEST(what_was_got_before_close_and_not_done_is_abandoned_at_the_end) {
  put_tasks(1);
  scene->end = (enum end)_i;
  pid_t worker = support_fork(close_and_end, NULL);
  support_until(&scene->ready);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->leave, 1);
  ck_assert_int_eq(support_wait(worker), status_of(scene->end));
  assert_joined(1);
}
END_TEST

/* The process lives on, and has no queue any more. */
START_TEST(what_was_got_and_not_done_is_abandoned_by_destroy) {
  put_tasks(1);
  scene->end = ENDS;
  pid_t worker = support_fork(close_and_end, NULL);
  support_until(&scene->ready);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->leave, 1);
  support_until(&scene->done[0]);
  assert_joined(1);
  atomic_store(&scene->go[0], 1);
  ck_assert_int_eq(support_wait(worker), 0);
}
END_TEST

static void close_and_dispatch(void *arg) {
  (void)arg;
  get_and_close();
  fork_one(0, work);
  support_until(&scene->started);
  end_by(scene->end);
}

START_TEST(a_worker_that_is_forked_after_close_does_it) {
  put_tasks(1);
  run_dispatcher(close_and_dispatch, (enum end)_i);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  let_work(0);
  assert_joined(0);
  see_all_off(1);
  assert_joined(0);
}
END_TEST

/* ---- cells ------------------------------------------------------------------------------- */

static void hold(int number) {
  begin_worker(number);
  atomic_store(&scene->done[number], 1);
  support_until(&scene->leave);
}

/* The child holds a task that its parent has done by the time it ends. */
static void fork_and_do_it(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(0, hold);
  support_until(&scene->done[0]);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->cell, queue->channel.account.cell);
}

static void get_and_say_cell(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->cell, queue->channel.account.cell);
}

static uint32_t cell_of_next_process(void) {
  put_tasks(1);
  ck_assert_int_eq(support_wait(support_fork(get_and_say_cell, NULL)), 0);
  return atomic_load(&scene->cell);
}

START_TEST(a_cell_whose_tasks_a_child_holds_is_passed_over) {
  put_tasks(1);
  ck_assert_int_eq(support_wait(support_fork(fork_and_do_it, NULL)), 0);
  uint32_t held = atomic_load(&scene->cell);
  for (int i = 0; i < 3; i++)
    ck_assert_uint_eq(cell_of_next_process(), held + 1);
  ck_assert_uint_eq(ledger()->cells[held].state, FREE);
  ck_assert(forkq__liveness_tasks_live(&queue->channel.account.liveness, held));
  see_all_off(1);
  ck_assert_uint_eq(cell_of_next_process(), held);
  assert_joined(0);
}
END_TEST

/* Nothing is the child's to do. */
static void fork_with_nothing_to_do(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->cell, queue->channel.account.cell);
  fork_one(0, hold);
  support_until(&scene->done[0]);
}

START_TEST(a_child_of_one_without_tasks_holds_no_cell) {
  put_tasks(1);
  ck_assert_int_eq(support_wait(support_fork(fork_with_nothing_to_do, NULL)), 0);
  uint32_t cell = atomic_load(&scene->cell);
  ck_assert_uint_eq(cell_of_next_process(), cell);
  see_all_off(1);
  assert_joined(0);
}
END_TEST

START_TEST(a_cell_with_tasks_is_passed_over_until_they_are_done) {
  put_tasks(1);
  run_dispatcher(close_and_dispatch, LEAVES);
  uint32_t next = cell_of_next_process();
  ck_assert_uint_eq(ledger()->cells[next - 1].state, AT_TASKS);
  let_work(0);
  ck_assert_uint_eq(cell_of_next_process(), next);
  see_all_off(1);
  ck_assert_uint_eq(cell_of_next_process(), next - 1);
  assert_joined(0);
}
END_TEST

static void dispatch_one(void *arg) {
  (void)arg;
  int number = *(const int *)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(number, work);
  while (atomic_load(&scene->started) == 0)
    usleep(100);
  end_by(scene->end);
}

/* Two workers at once, of which the older one ends in each round. */
START_TEST(many_dispatchers_use_few_cells) {
  atomic_store(&scene->leave, 1);
  for (int round = 0; round < 200; round++) {
    int number = round % 2;
    put_tasks(1);
    scene->end = (enum end)(round % 3);
    atomic_store(&scene->started, 0);
    atomic_store(&scene->go[number], 0);
    support_assert(support_wait(support_fork(dispatch_one, &number)) ==
                   status_of(scene->end));
    if (round == 0)
      continue;
    atomic_store(&scene->go[1 - number], 1);
    see_off(1 - number);
  }
  atomic_store(&scene->go[1], 1);
  see_off(1);
  assert_joined(0);
  ck_assert_uint_le(ledger()->cells_used, 4);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("tasks_forked_close");
  TCase *tcase = tcase_create("close");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, what_was_got_before_close_is_done_after_it);
  tcase_add_loop_test(
      tcase, what_was_got_before_close_and_not_done_is_abandoned_at_the_end, EXITS, ENDS);
  tcase_add_test(tcase, what_was_got_and_not_done_is_abandoned_by_destroy);
  tcase_add_loop_test(tcase, a_worker_that_is_forked_after_close_does_it, EXITS, ENDS);
  suite_add_tcase(suite, tcase);
  tcase = tcase_create("cells");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_cell_whose_tasks_a_child_holds_is_passed_over);
  tcase_add_test(tcase, a_child_of_one_without_tasks_holds_no_cell);
  tcase_add_test(tcase, a_cell_with_tasks_is_passed_over_until_they_are_done);
  tcase_add_test(tcase, many_dispatchers_use_few_cells);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
