/* Queues that keep tasks, and processes that end with tasks. */
#define _GNU_SOURCE
#include "lost_tasks_helpers.h"

#include <unistd.h>

void create(forkq_lost_tasks_t lost_tasks, int64_t maxsize) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = 1;
  options.maxsize = maxsize;
  options.lost_tasks = (int)lost_tasks;
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  if (UNDER_ASAN) {
    ck_assert_int_eq(put(0, -1), 0);
    ck_assert_int_eq(get(PATIENCE_MS), 0);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    support_until_threads_asleep(1);
  }
}

void tell(void) {
  fds_before = support_open_fds();
  create(FORKQ_LOST_TASKS_TELL, 0);
}

void redeliver(void) {
  fds_before = support_open_fds();
  create(FORKQ_LOST_TASKS_REDELIVER, 0);
}

struct forkq__kept_shared *kept(void) {
  return &queue->segment->ledger.kept;
}

unsigned in_use(void) {
  unsigned count = 0;
  for (uint32_t i = 0; i < kept()->used; i++)
    count += kept()->tasks[i].word != 0;
  return count;
}

void put_numbers(int from, int to) {
  for (int i = from; i < to; i++)
    ck_assert_int_eq(put(i, -1), 0);
}

static void work(void *arg) {
  const struct worker *worker = arg;
  for (int i = 0; i < worker->gets; i++)
    CHILD_MUST(get(PATIENCE_MS) >= 0);
  for (int i = 0; i < worker->dones; i++)
    CHILD_MUST(forkq_queue_task_done(queue) == 0);
  atomic_store(worker->ready, 1);
  worker->then();
}

void stay(void) {
  for (;;)
    pause();
}

pid_t start(struct worker worker) {
  worker.ready = support_shared(sizeof *worker.ready);
  if (worker.then == NULL)
    worker.then = stay;
  pid_t pid = support_fork(work, &worker);
  support_until(worker.ready);
  return pid;
}

void lose(int gets, int dones) {
  support_kill_and_wait(start((struct worker){ .gets = gets, .dones = dones }));
}

int64_t told(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_lost(queue, &item);
  int64_t value = r == 0 ? item.object.via.i64 : r;
  forkq_item_destroy(&item);
  return value;
}

void assert_joined(uint64_t expected) {
  uint64_t abandoned = 0;
  ck_assert_int_eq(forkq_queue_join(queue, PATIENCE_MS, &abandoned),
                   expected > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, expected);
}

void assert_got(int64_t value, uint32_t again) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(item.object.via.i64, value);
  ck_assert_uint_eq(item.redelivered, again);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  forkq_item_destroy(&item);
}
