/* A pool of workers of which some are killed, or stopped, at any time. Every task is done at least once, or
 * is told: none is lost, and none is both. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "queue_helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define TASKS 10000
#define KILLS 150
#define LARGE_EACH 16 /* one in so many tasks is large ... */
#define LARGE 9000    /* ... and its message so long */
#define BATCH 8
#define PATIENCE_MS 30000

/* What became of a task: */
enum {
  UNTOUCHED,
  TRIED,
  CONFIRMED
}; /* task_done may have been called; it has returned 0 */

static struct pool {
  _Atomic uint32_t worked[TASKS]; /* how often a worker did its work */
  _Atomic uint32_t state[TASKS];
  _Atomic uint32_t confirms[TASKS];
  _Atomic uint32_t again; /* that were got with `redelivered` above 0 */
} * pool;

static void create(forkq_lost_tasks_t lost_tasks) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = 1;
  options.maxsize = 100;
  options.lost_tasks = (int)lost_tasks;
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  pool = support_shared(sizeof *pool);
}

static void tell(void) {
  create(FORKQ_LOST_TASKS_TELL);
}

static void redeliver(void) {
  create(FORKQ_LOST_TASKS_REDELIVER);
}

/* ---- tasks ------------------------------------------------------------------------------------ */

static void put_task(uint32_t number) {
  static char data[LARGE];
  memcpy(data, &number, sizeof number);
  support_fill(data + sizeof number, sizeof data - sizeof number, number);
  size_t size = number % LARGE_EACH == 0 ? sizeof data : sizeof number;
  CHILD_MUST(forkq_queue_put_bytes(queue, data, size, -1) == 0);
}

static void put_tasks(void *arg) {
  (void)arg;
  for (uint32_t i = 0; i < TASKS; i++)
    put_task(i);
  forkq_queue_destroy(queue);
}

/* Whose bytes are seen to be right. */
static uint32_t number_of(const forkq_item_t *item) {
  static char expected[LARGE];
  uint32_t number;
  support_assert(item->object.type == MSGPACK_OBJECT_BIN);
  memcpy(&number, item->object.via.bin.ptr, sizeof number);
  size_t size = item->object.via.bin.size - sizeof number;
  support_fill(expected, LARGE - sizeof number, number);
  support_assert(number < TASKS);
  support_assert(memcmp(item->object.via.bin.ptr + sizeof number, expected, size) == 0);
  return number;
}

/* ---- workers ---------------------------------------------------------------------------------- */

static void confirm(const forkq_item_t *item, uint32_t number) {
  atomic_store(&pool->state[number], TRIED);
  CHILD_MUST(forkq_queue_task_done_item(queue, item) == 0);
  atomic_store(&pool->state[number], CONFIRMED);
  atomic_fetch_add(&pool->confirms[number], 1);
}

static int get_some(forkq_item_t *items, uint64_t *seed, size_t *ret_got) {
  switch (support_random_below(seed, 3)) {
  case 0:
    *ret_got = 1;
    return forkq_queue_get(queue, &items[0], -1);
  case 1:
    *ret_got = 1;
    return forkq_queue_get_borrowed(queue, &items[0], -1);
  default:
    return forkq_queue_get_many(queue, items, 1 + support_random_below(seed, BATCH), -1,
                                ret_got);
  }
}

/* Does them, and says so in any order. */
static void work(void *arg) {
  forkq_item_t items[BATCH];
  uint32_t numbers[BATCH];
  uint64_t seed = (uint64_t)getpid();
  size_t got;
  int r;
  (void)arg;
  memset(items, 0, sizeof items);
  while ((r = get_some(items, &seed, &got)) == 0) {
    for (size_t i = 0; i < got; i++) {
      numbers[i] = number_of(&items[i]);
      atomic_fetch_add(&pool->worked[numbers[i]], 1);
      atomic_fetch_add(&pool->again, items[i].redelivered > 0);
    }
    bool backwards = support_random_below(&seed, 2) == 0;
    for (size_t i = 0; i < got; i++) {
      size_t which = backwards ? got - 1 - i : i;
      confirm(&items[which], numbers[which]);
    }
  }
  CHILD_MUST(r == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

/* ---- the pool --------------------------------------------------------------------------------- */

static pid_t workers[WORKERS];

/* Kills one, perhaps stopped before, and starts another. */
static void replace_one(uint64_t *seed) {
  uint32_t victim = support_random_below(seed, WORKERS);
  usleep(support_random_below(seed, 3000));
  if (support_random_below(seed, 4) == 0) {
    support_stop(workers[victim]);
    usleep(support_random_below(seed, 3000));
  }
  support_kill_and_wait(workers[victim]);
  workers[victim] = support_fork(work, NULL);
}

/* With its last tasks they are killed as well as with the others. */
static void run(uint64_t seed, uint64_t *ret_abandoned) {
  pid_t putter = support_fork(put_tasks, NULL);
  for (int i = 0; i < WORKERS; i++)
    workers[i] = support_fork(work, NULL);
  for (int kills = 0; kills < KILLS; kills++)
    replace_one(&seed);
  ck_assert_int_eq(support_wait(putter), 0);
  int r = forkq_queue_join(queue, PATIENCE_MS, ret_abandoned);
  ck_assert_int_eq(r, *ret_abandoned > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < WORKERS; i++)
    ck_assert_int_eq(support_wait(workers[i]), 0);
}

static void assert_nothing_kept(void) {
  struct forkq__kept_shared *kept = &queue->segment->ledger.kept;
  for (uint32_t i = 0; i < kept->used; i++)
    ck_assert_uint_eq(kept->tasks[i].word, 0);
  ck_assert_uint_le(kept->used, WORKERS * 2 * BATCH * 4);
}

START_TEST(each_task_is_done_at_least_once) {
  uint64_t abandoned = 0, worked = 0;
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  run((uint64_t)_i + 1, &abandoned);
  ck_assert_uint_eq(abandoned, 0);
  for (int i = 0; i < TASKS; i++) {
    support_assert(pool->worked[i] >= 1);
    support_assert(pool->confirms[i] <= 1);
    support_assert(pool->state[i] != UNTOUCHED);
    worked += pool->worked[i];
  }
  ck_assert_uint_eq(queue->segment->ledger.done, TASKS);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.put_items, TASKS);
  ck_assert_uint_eq(stats.got_items, TASKS);
  ck_assert_uint_le(worked - TASKS, stats.redelivered_items);
  ck_assert(pool->again > 0 && pool->again <= stats.redelivered_items);
  assert_nothing_kept();
}
END_TEST

START_TEST(each_task_is_done_or_told) {
  uint64_t abandoned = 0, told = 0;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  run((uint64_t)_i + 1, &abandoned);
  while ((r = forkq_queue_get_lost(queue, &item)) == 0) {
    uint32_t number = number_of(&item);
    ck_assert_uint_ne(pool->state[number], CONFIRMED);
    atomic_store(&pool->state[number], CONFIRMED); /* another one would be told twice */
    told++;
  }
  ck_assert_int_eq(r, FORKQ_EMPTY);
  ck_assert_uint_eq(told, abandoned);
  for (int i = 0; i < TASKS; i++)
    support_assert(pool->state[i] != UNTOUCHED && pool->worked[i] <= 1);
  ck_assert_uint_eq(queue->segment->ledger.done + told, TASKS);
  forkq_item_destroy(&item);
  assert_nothing_kept();
}
END_TEST

#define SEEDS 3

int main(void) {
  Suite *suite = suite_create("lost_tasks_pool");
  TCase *again = tcase_create("redeliver");
  tcase_set_timeout(again, 100);
  tcase_add_checked_fixture(again, redeliver, queue_tear_down);
  tcase_add_loop_test(again, each_task_is_done_at_least_once, 0, SEEDS);
  suite_add_tcase(suite, again);
  TCase *telling = tcase_create("tell");
  tcase_set_timeout(telling, 100);
  tcase_add_checked_fixture(telling, tell, queue_tear_down);
  tcase_add_loop_test(telling, each_task_is_done_or_told, 0, SEEDS);
  suite_add_tcase(suite, telling);
  return support_main(suite);
}
