/* Tasks that children of the process do which got them, and the children of these; and what is left
 * when nobody can do them any more. */
#define _GNU_SOURCE
#include "tasks_helpers.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void dispatch(void *arg) {
  (void)arg;
  dispatch_to(work, TASKS);
}

/* ---- workers say it for their parent ----------------------------------------------------- */

START_TEST(join_waits_for_the_workers_of_a_dispatcher_that_has_ended) {
  put_tasks(TASKS);
  run_dispatcher(dispatch, (enum end)_i);
  pid_t joiner = support_fork(join_and_say, NULL);
  for (int i = 0; i < TASKS; i++) {
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    ck_assert_int_eq(atomic_load(&scene->joined), 0);
    let_work(i);
  }
  /* They need not end for it. */
  ck_assert_int_eq(support_wait(joiner), 0);
  assert_joined(0);
  see_all_off(TASKS);
  assert_joined(0);
}
END_TEST

START_TEST(items_that_nobody_has_got_are_waited_for_as_well) {
  put_tasks(TASKS + 5);
  run_dispatcher(dispatch, EXITS);
  for (int i = 0; i < TASKS; i++)
    let_work(i);
  see_all_off(TASKS);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    ck_assert_int_eq(get(5000), TASKS + i);
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    ck_assert_int_eq(done(), 0);
  }
  assert_joined(0);
}
END_TEST

static void work_or_die(int number) {
  begin_worker(number);
  support_until(&scene->go[number]);
  if (number == 3)
    raise(SIGKILL);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->done[number], 1);
  support_until(&scene->leave);
}

static void dispatch_to_one_that_dies(void *arg) {
  (void)arg;
  dispatch_to(work_or_die, TASKS);
}

static void let_all_but_the_fourth_work(void) {
  for (int i = 0; i < TASKS; i++)
    if (i != 3)
      let_work(i);
}

/* Which of them was to do it nobody knows, so it is abandoned when the last is gone. */
START_TEST(a_worker_that_dies_leaves_one_task_abandoned_when_nobody_can_do_it) {
  put_tasks(TASKS);
  run_dispatcher(dispatch_to_one_that_dies, (enum end)_i);
  atomic_store(&scene->go[3], 1);
  ck_assert_int_eq(support_wait(atomic_load(&scene->pids[3])), 128 + SIGKILL);
  ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
  let_all_but_the_fourth_work();
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->leave, 1);
  for (int i = 0; i < TASKS; i++)
    if (i != 3)
      see_off(i);
  assert_joined(1);
  assert_joined(0);
}
END_TEST

static void put_and_stay(void *arg) {
  (void)arg;
  for (int i = 0; i < 4; i++)
    CHILD_MUST(put(100 + i, -1) == 0);
  atomic_store(&scene->ready, 1);
  pause();
}

/* With items in the queue there would be more than one unfinished to be taken for abandoned. */
START_TEST(one_task_is_abandoned_beside_items_that_nobody_has_got) {
  put_tasks(TASKS);
  run_dispatcher(dispatch_to_one_that_dies, EXITS);
  pid_t producer = support_fork(put_and_stay, NULL);
  support_until(&scene->ready);
  atomic_store(&scene->go[3], 1);
  let_all_but_the_fourth_work();
  atomic_store(&scene->leave, 1);
  for (int i = 0; i < TASKS; i++)
    ck_assert_int_eq(support_wait(atomic_load(&scene->pids[i])),
                     i == 3 ? 128 + SIGKILL : 0);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(get(5000), 100 + i);
    ck_assert_int_eq(done(), 0);
  }
  assert_joined(1);
  support_kill_and_wait(producer);
}
END_TEST

/* While the dispatcher lives it might do it itself. */
static void dispatch_and_stay(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(0, work);
  support_until(&scene->started);
  CHILD_MUST(waitpid(atomic_load(&scene->pids[0]), NULL, 0) > 0);
  atomic_store(&scene->ready, 1);
  support_until(&scene->leave);
}

START_TEST(a_task_is_not_abandoned_while_the_dispatcher_lives) {
  put_tasks(1);
  pid_t dispatcher = support_fork(dispatch_and_stay, NULL);
  support_until(&scene->started);
  kill(atomic_load(&scene->pids[0]), SIGKILL);
  support_until(&scene->ready);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->leave, 1);
  ck_assert_int_eq(support_wait(dispatcher), 0);
  assert_joined(1);
}
END_TEST

/* ---- workers that become another program, and workers of workers ------------------------- */

static void execute(int number) {
  begin_worker(number);
  support_until(&scene->go[number]);
  execl("/bin/sleep", "sleep", "1000", (char *)NULL);
  CHILD_MUST(false); /* a program to execute */
}

static void dispatch_to_program(void *arg) {
  (void)arg;
  dispatch_to(execute, 1);
}

static bool runs_sleep(pid_t pid) {
  char path[64], name[32] = "";
  snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return false;
  bool read = fgets(name, sizeof name, file) != NULL;
  fclose(file);
  return read && strcmp(name, "sleep\n") == 0;
}

START_TEST(a_program_that_a_worker_executes_holds_no_task) {
  put_tasks(1);
  run_dispatcher(dispatch_to_program, EXITS);
  pid_t program = atomic_load(&scene->pids[0]);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->go[0], 1);
  while (!runs_sleep(program))
    usleep(100);
  assert_joined(1);
  ck_assert(runs_sleep(program));
  support_kill_and_wait(program);
}
END_TEST

static void fork_worker_and_end(int number) {
  begin_worker(number);
  fork_one(1, work);
  while (atomic_load(&scene->started) < 2)
    usleep(100);
}

static void dispatch_to_forker(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(0, fork_worker_and_end);
  while (atomic_load(&scene->started) < 2)
    usleep(100);
  end_by(scene->end);
}

START_TEST(a_worker_of_a_worker_does_it) {
  put_tasks(1);
  run_dispatcher(dispatch_to_forker, (enum end)_i);
  see_off(0);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  let_work(1);
  assert_joined(0);
  atomic_store(&scene->leave, 1);
  see_off(1);
  assert_joined(0);
}
END_TEST

START_TEST(a_worker_of_a_worker_that_dies_leaves_it_abandoned) {
  put_tasks(1);
  run_dispatcher(dispatch_to_forker, EXITS);
  see_off(0);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  support_kill_and_wait(atomic_load(&scene->pids[1]));
  assert_joined(1);
}
END_TEST

/* A worker that gets a task of its own: its first task_done is for that one. */
static void get_another_and_do_one(int number) {
  begin_worker(number);
  CHILD_MUST(get(5000) >= 0);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->done[number], 1);
  pause();
}

static void dispatch_and_do_it_later(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(0, get_another_and_do_one);
  CHILD_MUST(waitpid(-1, NULL, 0) > 0);
  atomic_store(&scene->ready, 1);
  support_until(&scene->leave);
  CHILD_MUST(done() == 0);
}

START_TEST(task_done_is_for_one_s_own_task_first) {
  put_tasks(2);
  pid_t dispatcher = support_fork(dispatch_and_do_it_later, NULL);
  support_until(&scene->done[0]);
  kill(atomic_load(&scene->pids[0]), SIGKILL);
  support_until(&scene->ready);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  atomic_store(&scene->leave, 1);
  ck_assert_int_eq(support_wait(dispatcher), 0);
  assert_joined(0);
}
END_TEST

/* ... and its second for its parent's. */
static void get_another_and_do_two(int number) {
  begin_worker(number);
  CHILD_MUST(get(5000) >= 0);
  CHILD_MUST(done() == 0);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->done[number], 1);
}

static void dispatch_and_leave_it(void *arg) {
  (void)arg;
  CHILD_MUST(get(5000) >= 0);
  fork_one(0, get_another_and_do_two);
  support_until(&scene->done[0]);
  CHILD_MUST(waitpid(-1, NULL, 0) > 0);
}

/* The item that is left would be taken for what the dispatcher had not done. */
START_TEST(task_done_is_for_the_parent_s_task_next) {
  put_tasks(3);
  ck_assert_int_eq(support_wait(support_fork(dispatch_and_leave_it, NULL)), 0);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(5000), 2);
  ck_assert_int_eq(done(), 0);
  assert_joined(0);
}
END_TEST

/* ---- at random --------------------------------------------------------------------------- */

#define ROUNDS 60

static void work_at_random(int number) {
  prctl(PR_SET_PDEATHSIG, 0);
  uint64_t seed = (uint64_t)getpid();
  usleep(support_random_below(&seed, 2000));
  if (support_random_below(&seed, 4) == 0) {
    atomic_fetch_add(&scene->given_up, 1);
    return;
  }
  CHILD_MUST(done() == 0);
  atomic_fetch_add(&scene->done[number], 1);
}

static void dispatch_at_random(void *arg) {
  (void)arg;
  uint64_t seed = (uint64_t)getpid();
  for (int i = 0; i < 5; i++) {
    CHILD_MUST(get(5000) >= 0);
    fork_one(0, work_at_random);
  }
  usleep(support_random_below(&seed, 2000));
  end_by((enum end)support_random_below(&seed, 3));
}

static void wait_for_all_children(void) {
  while (waitpid(-1, NULL, 0) > 0)
    ;
}

/* Each task is done or abandoned, and only what was not done is. */
START_TEST(what_is_not_done_is_abandoned_and_nothing_else) {
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t abandoned = 0;
    atomic_store(&scene->done[0], 0);
    atomic_store(&scene->given_up, 0);
    put_tasks(10);
    support_fork(dispatch_at_random, NULL);
    support_fork(dispatch_at_random, NULL);
    int r = forkq_queue_join(queue, -1, &abandoned);
    wait_for_all_children();
    support_assert(r == (abandoned > 0 ? FORKQ_EABANDONED : 0));
    support_assert(abandoned == (uint64_t)atomic_load(&scene->given_up));
    support_assert(abandoned + (uint64_t)atomic_load(&scene->done[0]) == 10);
    assert_joined(0);
  }
  ck_assert_uint_le(ledger()->cells_used, 32);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("tasks_forked_workers");
  TCase *tcase = tcase_create("workers");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_loop_test(tcase, join_waits_for_the_workers_of_a_dispatcher_that_has_ended,
                      EXITS, ENDS);
  tcase_add_test(tcase, items_that_nobody_has_got_are_waited_for_as_well);
  tcase_add_loop_test(tcase,
                      a_worker_that_dies_leaves_one_task_abandoned_when_nobody_can_do_it,
                      EXITS, ENDS);
  tcase_add_test(tcase, one_task_is_abandoned_beside_items_that_nobody_has_got);
  tcase_add_test(tcase, a_task_is_not_abandoned_while_the_dispatcher_lives);
  tcase_add_test(tcase, a_program_that_a_worker_executes_holds_no_task);
  tcase_add_loop_test(tcase, a_worker_of_a_worker_does_it, EXITS, ENDS);
  tcase_add_test(tcase, a_worker_of_a_worker_that_dies_leaves_it_abandoned);
  tcase_add_test(tcase, task_done_is_for_one_s_own_task_first);
  tcase_add_test(tcase, task_done_is_for_the_parent_s_task_next);
  tcase_add_test(tcase, what_is_not_done_is_abandoned_and_nothing_else);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
