/* Queues that keep tasks, and processes that end with tasks. */
#ifndef FORKQ_TEST_LOST_TASKS_HELPERS_H
#define FORKQ_TEST_LOST_TASKS_HELPERS_H

#include "queue/queue_impl.h"

#include "queue_helpers.h"

#define PATIENCE_MS 10000

/* Fixtures; queue_tear_down is their end. Or another queue instead. */
void tell(void);
void redeliver(void);
void create(forkq_lost_tasks_t lost_tasks, int64_t maxsize);

/* The table of kept tasks, and how many of its entries are in use. */
struct forkq__kept_shared *kept(void);
unsigned in_use(void);

void put_numbers(int from, int to);

/* A process that gets so many items, does so many of them, and then calls `then`, or stays. start: until it is
 * there. lose: it is killed then. */
struct worker {
  int gets;
  int dones;
  void (*then)(void);
  _Atomic int *ready;
};

pid_t start(struct worker worker);
void lose(int gets, int dones);
void stay(void);

/* The value of the next lost task that is told, or an error. */
int64_t told(void);

/* Gets the value, which was given to so many processes before, and does it. */
void assert_got(int64_t value, uint32_t again);

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
void assert_joined(uint64_t expected);

#endif
