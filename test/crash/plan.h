/* The plan of an epoch: what runs, and how it is to die. It follows from the seed and the
 * number of the epoch alone, so that an epoch can be run again. */
#ifndef FORKQ_CRASH_PLAN_H
#define FORKQ_CRASH_PLAN_H

#include <forkq/queue.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { JUDGE, PRODUCER, CONSUMER, MIXED, JOINER, LOOP, KINDS };

enum sizes { SMALL, PAGES, LARGE, ANY, SIZES };

#define BATCH_MAX 32

struct plan {
  uint64_t seed;
  uint32_t epoch;
  uint32_t kills;
  bool simple;
  bool joinable;
  forkq_lost_tasks_t lost_tasks; /* what becomes of the tasks of the dead */
  bool direct;
  bool stops;
  bool late_reap; /* the dead stay zombies to the end of the epoch */
  bool forever;   /* of a soak: no ledger of single items */
  bool heavy;     /* some have so much memory that their death takes its time */
  bool exits;     /* some exit while a thread of theirs is in a get */
  bool dispatch;  /* tasks are done by children of those that got them */
  bool daemons;   /* producers end without a close, and go on as their own children */
  bool poor;      /* some have no address space for messages beside the pipe */
  bool late;      /* large messages are copied without the read lock */
  uint64_t shared_max_bytes; /* see forkq_queue_options_t */
  int64_t maxsize;
  enum sizes sizes;
  uint32_t batch_put; /* 1: none */
  uint32_t batch_get;
  uint32_t count[KINDS];    /* processes of each kind */
  uint32_t immortal;        /* so many of each kind are never killed */
  uint32_t pause_us[KINDS]; /* between two operations, at most */
  uint32_t work_us;         /* that a task takes, at most, where tasks are kept */
  uint32_t life_ops;        /* operations after which a process ends by itself; 0: none */
  int wait;                 /* see plan_timeout */
};

struct plan plan_epoch(uint64_t seed, uint32_t epoch);

/* Of a soak. */
struct plan plan_soak(uint64_t seed);

/* One line. */
void plan_describe(const struct plan *plan, char *line, size_t size);

/* Whether tasks are kept; and got again. */
static inline bool plan_keeps(const struct plan *plan) {
  return plan->lost_tasks != FORKQ_LOST_TASKS_COUNT;
}

static inline bool plan_redelivers(const struct plan *plan) {
  return plan->lost_tasks == FORKQ_LOST_TASKS_REDELIVER;
}

/* A timeout for the next put or get: without limit, none, or some milliseconds. */
int plan_timeout(const struct plan *plan, uint64_t *random);

/* A size for the next message, in bytes. The judge's own fit into an empty pipe. */
uint32_t plan_size(const struct plan *plan, enum kind kind, uint64_t *random);

#endif
