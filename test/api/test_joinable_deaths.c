/* What task_done and join say of processes that died: workers, producers, and a worker killed at
 * every step. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "joinable_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 20
#define LARGE (1u << 20)

/* ---- workers that end ---------------------------------------------------------------- */

struct worker {
  int gets;
  int dones;
  _Atomic int *ready;
};

static void get_some(const struct worker *worker) {
  for (int i = 0; i < worker->gets; i++)
    CHILD_MUST(get(5000) >= 0);
  for (int i = 0; i < worker->dones; i++)
    CHILD_MUST(done() == 0);
  atomic_store(worker->ready, 1);
}

static void get_some_and_stay(void *arg) {
  get_some(arg);
  pause();
}

static void get_some_and_exit(void *arg) {
  get_some(arg);
  exit(0);
}

static void get_some_and_destroy(void *arg) {
  get_some(arg);
  forkq_queue_destroy(queue);
}

static void get_some_and_vanish(void *arg) {
  get_some(arg);
}

static pid_t start(struct worker *worker, void (*fn)(void *)) {
  worker->ready = support_shared(sizeof *worker->ready);
  pid_t pid = support_fork(fn, worker);
  support_until(worker->ready);
  return pid;
}

/* It got i + 3, and has done i of them. */
START_TEST(a_worker_killed_between_get_and_task_done) {
  for (int round = 0; round < ROUNDS; round++) {
    struct worker worker = { .gets = round % 5 + 3, .dones = round % 5 };
    for (int i = 0; i < worker.gets; i++)
      ck_assert_int_eq(put(i, -1), 0);
    pid_t pid = start(&worker, get_some_and_stay);
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    support_kill_and_wait(pid);
    assert_joined(3);
    assert_joined(0);
    ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  }
}
END_TEST

START_TEST(a_worker_that_ends_normally_without_task_done) {
  static void (*const ends[])(void *) = { get_some_and_exit, get_some_and_destroy,
                                          get_some_and_vanish };
  for (int round = 0; round < ROUNDS; round++) {
    struct worker worker = { .gets = 4, .dones = 2 };
    for (int i = 0; i < worker.gets; i++)
      ck_assert_int_eq(put(i, -1), 0);
    ck_assert_int_eq(support_wait(start(&worker, ends[round % 3])), 0);
    assert_joined(2);
    assert_joined(0);
  }
}
END_TEST

/* The death wakes a join that waits already. */
START_TEST(a_worker_killed_during_the_join) {
  for (int round = 0; round < ROUNDS; round++) {
    struct worker worker = { .gets = 1 };
    ck_assert_int_eq(put(1, -1), 0);
    pid_t pid = start(&worker, get_some_and_stay);
    pid_t killer = fork();
    if (killer == 0) {
      support_until_asleep(getppid());
      kill(pid, SIGKILL);
      _exit(0);
    }
    assert_joined(1);
    ck_assert_int_eq(support_wait(killer), 0);
    ck_assert_int_eq(support_wait(pid), 128 + SIGKILL);
  }
}
END_TEST

static void join_abandoned(void *arg) {
  uint64_t abandoned = 0;
  CHILD_MUST(forkq_queue_join(queue, 5000, &abandoned) == FORKQ_EABANDONED);
  CHILD_MUST(abandoned == *(const uint64_t *)arg);
  CHILD_MUST(join(0) == 0);
  forkq_queue_destroy(queue);
}

/* Every process hears of it, each once; a NULL for the number is fine. */
START_TEST(each_process_is_told_once) {
  uint64_t expected = 2;
  struct worker worker = { .gets = 2 };
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  support_kill_and_wait(start(&worker, get_some_and_stay));
  pid_t children[2];
  for (int i = 0; i < 2; i++)
    children[i] = support_fork(join_abandoned, &expected);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_int_eq(join(5000), FORKQ_EABANDONED);
  ck_assert_int_eq(join(0), 0);
}
END_TEST

/* While anything is left, join waits; the number is then the sum. */
START_TEST(abandoned_tasks_do_not_hide_what_is_left) {
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(put(i, -1), 0);
  for (int i = 0; i < 2; i++) {
    struct worker worker = { .gets = 2 };
    support_kill_and_wait(start(&worker, get_some_and_stay));
    ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  }
  ck_assert_int_eq(get(1000), 4);
  ck_assert_int_eq(join(20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(done(), 0);
  assert_joined(4);
  assert_joined(0);
}
END_TEST

START_TEST(a_zombie_is_dead) {
  struct worker worker = { .gets = 1 };
  ck_assert_int_eq(put(1, -1), 0);
  pid_t pid = start(&worker, get_some_and_stay);
  support_kill(pid);
  assert_joined(1);
  ck_assert_int_eq(support_wait(pid), 128 + SIGKILL);
}
END_TEST

static void get_some_and_do_them_later(void *arg) {
  struct worker *worker = arg;
  get_some(worker);
  atomic_store(worker->ready, 0);
  support_until(worker->ready);
  CHILD_MUST(done() == 0);
  forkq_queue_destroy(queue);
}

START_TEST(a_stopped_worker_is_not_dead) {
  struct worker worker = { .gets = 1 };
  worker.ready = support_shared(sizeof *worker.ready);
  ck_assert_int_eq(put(1, -1), 0);
  pid_t pid = support_fork(get_some_and_do_them_later, &worker);
  while (forkq_queue_qsize(queue) > 0)
    usleep(100);
  support_stop(pid);
  ck_assert_int_eq(join(300), FORKQ_TIMEDOUT);
  kill(pid, SIGCONT);
  while (join(1) == FORKQ_TIMEDOUT)
    atomic_store(worker.ready, 1);
  assert_joined(0);
  ck_assert_int_eq(support_wait(pid), 0);
}
END_TEST

/* ---- producers that end -------------------------------------------------------------- */

static void hoard(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

START_TEST(a_producer_killed_with_unsent_items) {
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int *ready = support_shared(sizeof *ready);
    pid_t pid = support_fork(hoard, (void *)ready);
    support_until(ready);
    support_until_pipe_full(queue);
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    support_kill_and_wait(pid);
    assert_joined(0);
    ck_assert_int_eq(done(), FORKQ_ETASKDONE);
    /* ... and what others put counts as ever. */
    ck_assert_int_eq(put(7, -1), 0);
    ck_assert_int_eq(join(0), FORKQ_TIMEDOUT);
    ck_assert_int_eq(get(5000), 7);
    ck_assert_int_eq(done(), 0);
    assert_joined(0);
  }
}
END_TEST

static void hoard_and_cancel(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  CHILD_MUST(put(1, -1) == 0);
  CHILD_MUST(forkq_queue_cancel_join_thread(queue) == 0);
  exit(0);
}

START_TEST(a_producer_that_cancelled_and_left) {
  for (int round = 0; round < ROUNDS; round++) {
    ck_assert_int_eq(support_wait(support_fork(hoard_and_cancel, NULL)), 0);
    assert_joined(0);
  }
}
END_TEST

/* ---- killed at every step ------------------------------------------------------------ */

/* What the processes share, as far as it is in use here: where it is the same, so is what a
 * death leaves, but for the few instructions around a lock, which some steps more cover. */
#define SHARED_SIZE offsetof(struct forkq__segment, ledger.cells[4])
#define MORE_STEPS 2

static bool stopped_by(pid_t pid, int *ret_signal) {
  int status;
  while (waitpid(pid, &status, 0) != pid)
    ck_assert_int_eq(errno, EINTR);
  *ret_signal = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
  return WIFSTOPPED(status);
}

static void trace_me(void) {
  CHILD_MUST(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
  raise(SIGSTOP);
}

/* One instruction. False at the next SIGSTOP that the child raises. */
static bool step(pid_t pid) {
  int by;
  ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
  ck_assert(stopped_by(pid, &by));
  return by == SIGTRAP;
}

/* Lets a child go on from its trace_me until it has changed the shared memory that often, and
 * `more` instructions further, and kills it. False if it had come to its end before. */
static bool kill_after(pid_t pid, int changes, int more) {
  static char before[SHARED_SIZE];
  int by;
  ck_assert(stopped_by(pid, &by));
  ck_assert_int_eq(by, SIGSTOP);
  bool within = true;
  memcpy(before, queue->segment, SHARED_SIZE);
  while (within && changes > 0) {
    within = step(pid);
    if (memcmp(before, queue->segment, SHARED_SIZE) != 0)
      changes--;
    memcpy(before, queue->segment, SHARED_SIZE);
  }
  while (within && more-- > 0)
    within = step(pid);
  kill(pid, SIGKILL);
  ck_assert(!stopped_by(pid, &by));
  return within;
}

static bool can_trace(void) {
  pid_t pid = fork();
  if (pid == 0)
    _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
  return support_wait(pid) == 0;
}

/* Has its cell and its memory from a first task, and stops at the second. */
static void work_in_steps(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 5000) == 0);
  CHILD_MUST(done() == 0);
  trace_me();
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 5000) == 0);
  CHILD_MUST(done() == 0);
  raise(SIGSTOP);
}

static struct worker heir;

static void stay_and_work_off(void *arg) {
  struct worker *worker = arg;
  get_some(worker);
  pause();
}

/* Whatever the dead was doing: its item is in the queue, or abandoned, or done. With an heir,
 * a process that gets first finds the dead and stays, and else the one that joins. */
static void assert_accounted_for(bool with_heir) {
  pid_t pid = 0;
  if (with_heir) {
    heir = (struct worker){ .gets = 1, .dones = 1 };
    ck_assert_int_eq(put(3, -1), 0);
    pid = start(&heir, stay_and_work_off);
  }
  while (get(0) >= 0)
    ck_assert_int_eq(done(), 0);
  uint64_t abandoned = 0;
  int r = forkq_queue_join(queue, 3000, &abandoned);
  ck_assert_int_ne(r, FORKQ_TIMEDOUT);
  ck_assert(r == 0 || (r == FORKQ_EABANDONED && abandoned == 1));
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  if (with_heir)
    support_kill_and_wait(pid);
  ck_assert_int_eq(join(0), 0);
}

static void kill_workers_at_every_step(bool with_heir) {
  if (!can_trace())
    return;
  bool within = true;
  int changes = 0;
  for (; within; changes++) {
    for (int more = 0; within && more <= MORE_STEPS; more++) {
      ck_assert_int_eq(put(1, -1), 0);
      ck_assert_int_eq(put(2, -1), 0);
      pid_t pid = support_fork(work_in_steps, NULL);
      within = kill_after(pid, changes, more);
      assert_accounted_for(with_heir);
    }
  }
  ck_assert_int_gt(changes, 10);
}

START_TEST(a_worker_killed_at_any_step) {
  kill_workers_at_every_step(false);
}
END_TEST

START_TEST(a_worker_killed_at_any_step_and_replaced) {
  kill_workers_at_every_step(true);
}
END_TEST

/* ---- killed at random ---------------------------------------------------------------- */

#define PROCESSES 4 /* that put, and as many that work */
#define KILLS 300

struct counts {
  _Atomic int stop;
  _Atomic uint64_t put;
  _Atomic uint64_t done;
};

static void put_until_told(void *arg) {
  struct counts *counts = arg;
  while (!atomic_load(&counts->stop)) {
    CHILD_MUST(put(1, -1) == 0);
    atomic_fetch_add(&counts->put, 1);
  }
  forkq_queue_destroy(queue);
}

static void work_until_shut_down(void *arg) {
  struct counts *counts = arg;
  int64_t value;
  while ((value = get(-1)) >= 0) {
    CHILD_MUST(done() == 0);
    atomic_fetch_add(&counts->done, 1);
  }
  CHILD_MUST(value == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

/* Starts the i-th: the even ones put, the odd ones work. */
static pid_t start_one(int i, struct counts *counts) {
  return support_fork(i % 2 == 0 ? put_until_told : work_until_shut_down, counts);
}

/* done + abandoned + lost == put, for the library to the item; and for the processes
 * themselves, of which each may have died before it could count its last. */
START_TEST(many_killed_at_random) {
  create(50);
  struct counts *counts = support_shared(sizeof *counts);
  pid_t pids[2 * PROCESSES];
  uint64_t seed = 5, abandoned = 0;
  for (int i = 0; i < 2 * PROCESSES; i++)
    pids[i] = start_one(i, counts);
  for (int kills = 0; kills < KILLS; kills++) {
    int victim = (int)support_random_below(&seed, 2 * PROCESSES);
    usleep(support_random_below(&seed, 2000));
    support_kill_and_wait(pids[victim]);
    pids[victim] = start_one(victim, counts);
  }
  atomic_store(&counts->stop, 1);
  for (int i = 0; i < 2 * PROCESSES; i += 2)
    ck_assert_int_eq(support_wait(pids[i]), 0);
  int r = forkq_queue_join(queue, 10000, &abandoned);
  ck_assert(r == 0 || r == FORKQ_EABANDONED);
  ck_assert_int_eq(join(0), 0);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 1; i < 2 * PROCESSES; i += 2)
    ck_assert_int_eq(support_wait(pids[i]), 0);

  forkq_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  uint64_t all_done = queue->segment->ledger.done;
  ck_assert_uint_eq(all_done + abandoned + stats.lost_items, stats.put_items);
  ck_assert_uint_eq(stats.got_items + stats.lost_items, stats.put_items);
  ck_assert_uint_le(abandoned, KILLS);
  ck_assert(all_done >= counts->done && all_done <= counts->done + KILLS);
  ck_assert(stats.put_items >= counts->put && stats.put_items <= counts->put + KILLS);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("joinable_deaths");
  TCase *tcase = tcase_create("joinable");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_worker_killed_between_get_and_task_done);
  tcase_add_test(tcase, a_worker_that_ends_normally_without_task_done);
  tcase_add_test(tcase, a_worker_killed_during_the_join);
  tcase_add_test(tcase, each_process_is_told_once);
  tcase_add_test(tcase, abandoned_tasks_do_not_hide_what_is_left);
  tcase_add_test(tcase, a_zombie_is_dead);
  tcase_add_test(tcase, a_stopped_worker_is_not_dead);
  tcase_add_test(tcase, a_producer_killed_with_unsent_items);
  tcase_add_test(tcase, a_producer_that_cancelled_and_left);
  tcase_add_test(tcase, a_worker_killed_at_any_step);
  tcase_add_test(tcase, a_worker_killed_at_any_step_and_replaced);
  tcase_add_test(tcase, many_killed_at_random);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
