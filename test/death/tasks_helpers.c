/* A queue of tasks, a dispatcher that gets them, and its workers that do them. */
#define _GNU_SOURCE
#include "tasks_helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct scene *scene;

/* Workers whose parent has ended are this process's to wait for. */
void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
  scene = support_shared(sizeof *scene);
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

struct forkq__ledger *ledger(void) {
  return &queue->segment->ledger;
}

int done(void) {
  return forkq_queue_task_done(queue);
}

int join(int timeout_ms) {
  return forkq_queue_join(queue, timeout_ms, NULL);
}

void put_tasks(int count) {
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(put(i, -1), 0);
}

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
void assert_joined(uint64_t expected) {
  uint64_t abandoned = 0;
  int r = forkq_queue_join(queue, 10000, &abandoned);
  ck_assert_int_eq(r, expected > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, expected);
  ck_assert_int_eq(done(), FORKQ_ETASKDONE);
}

_Noreturn void end_by(enum end end) {
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

int status_of(enum end end) {
  return end == IS_KILLED ? 128 + SIGKILL : 0;
}

/* ---- a dispatcher and its workers -------------------------------------------------------- */

/* It outlives its parent. */
void begin_worker(int number) {
  prctl(PR_SET_PDEATHSIG, 0);
  atomic_store(&scene->pids[number], getpid());
  atomic_fetch_add(&scene->started, 1);
}

void work(int number) {
  begin_worker(number);
  support_until(&scene->go[number]);
  CHILD_MUST(done() == 0);
  atomic_store(&scene->done[number], 1);
  support_until(&scene->leave);
}

void fork_one(int number, void (*worker)(int number)) {
  pid_t pid = fork();
  CHILD_MUST(pid >= 0);
  if (pid > 0)
    return;
  worker(number);
  _exit(0);
}

/* Gets the tasks, forks for each who does it, and ends when they run. */
void dispatch_to(void (*worker)(int number), int count) {
  for (int i = 0; i < count; i++) {
    CHILD_MUST(get(5000) >= 0);
    fork_one(i, worker);
  }
  while (atomic_load(&scene->started) < count)
    usleep(100);
  end_by(scene->end);
}

/* Starts a dispatcher, and comes back when it has ended. */
void run_dispatcher(void (*run)(void *arg), enum end end) {
  scene->end = end;
  ck_assert_int_eq(support_wait(support_fork(run, NULL)), status_of(end));
}

void let_work(int number) {
  atomic_store(&scene->go[number], 1);
  support_until(&scene->done[number]);
}

void see_off(int number) {
  ck_assert_int_eq(support_wait(atomic_load(&scene->pids[number])), 0);
}

void see_all_off(int count) {
  atomic_store(&scene->leave, 1);
  for (int i = 0; i < count; i++)
    see_off(i);
}

void join_and_say(void *arg) {
  (void)arg;
  CHILD_MUST(join(-1) == 0);
  atomic_store(&scene->joined, 1);
}
