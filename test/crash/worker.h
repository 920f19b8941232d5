/* What the processes do. A kind of worker is a function in a table; one more is one more
 * row. */
#ifndef FORKQ_CRASH_WORKER_H
#define FORKQ_CRASH_WORKER_H

#include "book.h"
#include "kept.h"
#include "payload.h"

/* Forks a worker: its life, or NULL when the book is full. A process that dies at its
 * `arm_at`-th call, `arm_ns` later; 0: it does not. */
struct life *worker_start(struct book *book, enum kind kind, bool immortal,
                          uint64_t arm_at, int64_t arm_ns);

/* The operations of workers, for the judge as well. All of them write into the book. */
struct worker {
  struct book *book;
  struct life *life;
  uint32_t self; /* index of the life */
  uint64_t random;
  char *messages[BATCH_MAX];
  forkq_item_t items[BATCH_MAX];
  struct kept kept;
  uint64_t last[LIVES_MAX]; /* generation and number of the last item of each */
  pid_t helper;             /* the child that does a task of its; 0: none */
  bool orphan;              /* its parent has ended, or will */
};

void worker_init(struct worker *worker, struct book *book, struct life *life);
void worker_fini(struct worker *worker);

/* Puts up to `count` items, and gets up to `count`: 0, or what the library says. What it may
 * not say is a failure in the book. */
int worker_put(struct worker *worker, uint32_t count, int timeout_ms);
int worker_get(struct worker *worker, uint32_t count, int timeout_ms);
int worker_join(struct worker *worker, int timeout_ms, uint64_t *ret_abandoned);

/* ---- the parts of these, for a kind that puts and gets in its own way -------------------- */

/* Fails unless a call with that timeout may say `r`, now. */
void worker_judge_outcome(struct worker *worker, enum op op, int r, int timeout_ms,
                          int64_t since_ns);

/* Whether the epoch is no further than `last`; and there is place for more items; and the
 * process is, after `n` operations, at its end. */
bool worker_working(const struct worker *worker, enum phase last);
bool worker_may_put(const struct worker *worker);
bool worker_worn_out(const struct worker *worker, uint32_t n);

/* Item `seq` of this life, in the memory of the i-th message: msgpack, its object, and who
 * packs the object. */
char *worker_write_message(struct worker *worker, uint32_t i, uint32_t seq,
                           uint32_t *ret_size);
msgpack_object worker_binary(const char *message, uint32_t size);
int worker_pack_binary(msgpack_packer *packer, void *arg);

/* An item that was got, and whose it was: life and number. */
struct task {
  const forkq_item_t *item;
  uint32_t by, seq;
};

/* read: false, and a failure in the book, if any byte is wrong. take: the item came, in a get. */
bool worker_read(struct worker *worker, const forkq_item_t *item,
                 struct payload *ret_payload);
struct task worker_take(struct worker *worker, const forkq_item_t *item);

/* After so many operations: what is in the pipe for sure? */
#define OPS_PER_LOOK 16
void worker_look(struct worker *worker);

/* Descriptors of this process. */
int worker_count_fds(void);

#endif
