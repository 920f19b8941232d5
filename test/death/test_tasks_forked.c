/* Tasks that others do than the process that got them: its children, theirs, strangers; and
 * what is left of them when nobody can do them any more. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <check.h>
#include <fcntl.h>
#include <forkq.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TASKS 10

/* States of a cell, as ledger.c has them. */
enum { FREE, USED, DEAD, AT_TASKS };

/* How a process ends. */
enum end { EXITS, LEAVES, IS_KILLED, ENDS };

/* What the processes of a test say to each other. */
static struct scene {
  enum end end;            /* of the dispatcher */
  _Atomic int started;     /* workers */
  _Atomic int go[TASKS];   /* each is to say task_done ... */
  _Atomic int done[TASKS]; /* ... and has */
  _Atomic int leave;       /* then they may end */
  _Atomic pid_t pids[TASKS];
  _Atomic int given_up;
  _Atomic int joined;
  _Atomic int ready;
  _Atomic uint32_t cell;
} * scene;

/* Workers whose parent has ended are this process's to wait for. */
static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
  scene = support_shared(sizeof *scene);
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

static struct forkq__ledger *ledger(void) {
  return &queue->segment->ledger;
}

static int done(void) {
  return forkq_queue_task_done(queue);
}

static int join(int timeout_ms) {
  return forkq_queue_join(queue, timeout_ms, NULL);
}

static void put_tasks(int count) {
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(put(i, -1), 0);
}

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
static void assert_joined(uint64_t expected) {
  uint64_t abandoned = 0;
  int r = forkq_queue_join(queue, 10000, &abandoned);
  ck_assert_int_eq(r, expected > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, expected);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}

static _Noreturn void end_by(enum end end) {
  switch (end) {
  case EXITS:
    exit(0);
  case LEAVES:
    _exit(0);
  default:
    raise(SIGKILL);
    abort();
  }
}

static int status_of(enum end end) {
  return end == IS_KILLED ? 128 + SIGKILL : 0;
}

/* ---- a dispatcher and its workers -------------------------------------------------------- */

/* It outlives its parent. */
static void begin_worker(int number) {
  prctl(PR_SET_PDEATHSIG, 0);
  atomic_store(&scene->pids[number], getpid());
  atomic_fetch_add(&scene->started, 1);
}

static void work(int number) {
  begin_worker(number);
  support_until(&scene->go[number]);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->done[number], 1);
  support_until(&scene->leave);
}

static void fork_one(int number, void (*worker)(int number)) {
  pid_t pid = fork();
  CHILD_MUST(pid >= 0);
  if (pid > 0)
    return;
  worker(number);
  _exit(0);
}

/* Gets the tasks, forks for each who does it, and ends when they run. */
static void dispatch_to(void (*worker)(int number), int count) {
  for (int i = 0; i < count; i++) {
    CHILD_MUST(get(5000) >= 0);
    fork_one(i, worker);
  }
  while (atomic_load(&scene->started) < count)
    usleep(100);
  end_by(scene->end);
}

static void dispatch(void *arg) {
  (void)arg;
  dispatch_to(work, TASKS);
}

/* Starts a dispatcher, and comes back when it has ended. */
static void run_dispatcher(void (*run)(void *arg), enum end end) {
  scene->end = end;
  ck_assert_int_eq(support_wait(support_fork(run, NULL)), status_of(end));
}

static void let_work(int number) {
  atomic_store(&scene->go[number], 1);
  support_until(&scene->done[number]);
}

static void see_off(int number) {
  ck_assert_int_eq(support_wait(atomic_load(&scene->pids[number])), 0);
}

static void see_all_off(int count) {
  atomic_store(&scene->leave, 1);
  for (int i = 0; i < count; i++)
    see_off(i);
}

static void join_and_say(void *arg) {
  (void)arg;
  CHILD_MUST(join(-1) == 0);
  atomic_store(&scene->joined, 1);
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

/* ---- strangers --------------------------------------------------------------------------- */

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

static void add_cases_of_workers(Suite *suite) {
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
}

static void add_cases_of_close(Suite *suite) {
  TCase *tcase = tcase_create("close");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, what_was_got_before_close_is_done_after_it);
  tcase_add_loop_test(
      tcase, what_was_got_before_close_and_not_done_is_abandoned_at_the_end, EXITS, ENDS);
  tcase_add_test(tcase, what_was_got_and_not_done_is_abandoned_by_destroy);
  tcase_add_loop_test(tcase, a_worker_that_is_forked_after_close_does_it, EXITS, ENDS);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_strangers(Suite *suite) {
  TCase *tcase = tcase_create("strangers");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_stranger_s_task_done_counts_and_is_nobody_s);
  tcase_add_test(tcase, task_done_more_often_than_it_got_is_not_for_its_own);
  tcase_add_test(tcase, the_sum_that_is_made_anew_has_what_strangers_did);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_cells(Suite *suite) {
  TCase *tcase = tcase_create("cells");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_cell_whose_tasks_a_child_holds_is_passed_over);
  tcase_add_test(tcase, a_child_of_one_without_tasks_holds_no_cell);
  tcase_add_test(tcase, a_cell_with_tasks_is_passed_over_until_they_are_done);
  tcase_add_test(tcase, many_dispatchers_use_few_cells);
  suite_add_tcase(suite, tcase);
}

int main(void) {
  Suite *suite = suite_create("tasks_forked");
  add_cases_of_workers(suite);
  add_cases_of_close(suite);
  add_cases_of_strangers(suite);
  add_cases_of_cells(suite);
  return support_main(suite);
}
