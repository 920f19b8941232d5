/* The ledger: who put how many items, how many left, and what the dead still held.
 *
 * Each process that puts has a cell. Items in the queue, wherever they are, are
 *
 *     sum of all cells' accepted  -  taken  -  returned
 *
 * where every counter only grows and has one writer at a time, so that the death of a writer
 * never leaves a sum half changed. `held` by a cell, accepted - sent - returned, are the items
 * in its process's outbox. Whoever finds a cell's process dead gives back what it held.
 *
 * With task_done, tasks that are not done yet are
 *
 *     sum of all cells' accepted  -  returned  -  done  -  abandoned  -  dropped
 *
 * A process that gets has a cell then, too: `got` - `done` are the tasks that it is at work
 * on, and `abandoned` when it dies. `dropped` are items that nobody got: torn messages and
 * what an immediate shutdown threw away.
 *
 * A process that is not at work on any task may say task_done for another: for the parent that
 * forked it (liveness.h), or for nobody in particular, which is booked under `others`. What a
 * process got and has not done when it goes stays in its cell as long as such a child lives.
 *
 * The memory of the cells is reserved as they come into use. */
#ifndef FORKQ_LEDGER_H
#define FORKQ_LEDGER_H

#include "liveness.h"
#include "lock.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Fields that others see without the lock, or that must be there in this order when the
 * writer dies. */
#define FORKQ__LOAD(field) atomic_load_explicit(&(field), memory_order_acquire)
#define FORKQ__STORE(field, value)                                                       \
  atomic_store_explicit(&(field), (value), memory_order_release)
/* In one order with all others of its kind: see slots.h. */
#define FORKQ__LOAD_IN_ORDER(field) atomic_load(&(field))

#define FORKQ__CELLS_MAX 4096u
#define FORKQ__NO_CELL UINT32_MAX
#define FORKQ__CELL_BITS 13 /* hold a cell + 1, in a word with a count: see slots.c */

struct forkq__cell {
  /* Written by the owner, one thread at a time (its feeder's mutex). */
  alignas(64) _Atomic uint64_t accepted;
  _Atomic uint64_t try_base;  /* see slots.c: a slot may just have been taken */
  _Atomic uint64_t try_count; /* 0: no */
  _Atomic uint64_t accepted_bytes;
  /* For the statistics: of these, what had been accepted before. */
  _Atomic uint64_t repeated;
  _Atomic uint64_t repeated_bytes;
  /* Written by the owner under the channel's write lock. */
  alignas(64) _Atomic uint64_t sent;
  _Atomic uint64_t sent_wire;    /* bytes of packets written */
  _Atomic uint64_t pending_sent; /* what `sent` and `sent_wire` will be ... */
  _Atomic uint64_t pending_wire;
  _Atomic uint64_t pending_seq; /* ... if this packet was written; 0: none is being */
  _Atomic uint64_t written_seq; /* the last packet that was */
  _Atomic uint64_t sent_bytes;
  /* Written by readers under the channel's read lock: the last packet that came. */
  _Atomic uint64_t arrived_seq;
  /* Written by anybody, only ever to a greater value: see slots.c. */
  _Atomic uint64_t confirmed;
  _Atomic uint64_t got; /* with task_done only */
  /* Guarded by the ledger's lock. */
  _Atomic uint64_t returned;
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  _Atomic uint32_t state;
  _Atomic uint32_t owners; /* how many there have been */
  _Atomic uint32_t pid;    /* of the owner */
};

struct forkq__ledger {
  alignas(64) struct forkq__lock lock;
  _Atomic uint32_t cells_used; /* cells ever used; guarded by lock */
  /* How many reaps were begun, and the number of the last that ended; guarded by lock. */
  _Atomic uint64_t reaps_begun;
  _Atomic uint64_t reaps_ended;
  alignas(64) _Atomic uint64_t returned; /* sums of the cells'; guarded by lock */
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  /* For the statistics: owners that died, and items that were lost. */
  _Atomic uint64_t recoveries;
  _Atomic uint64_t lost;
  /* A loss is being counted, of the cell `loss_cell` - 1; guarded by lock. 0: none. */
  _Atomic uint64_t loss_returned;
  _Atomic uint64_t loss_lost;
  _Atomic uint32_t loss_cell;
  alignas(64) _Atomic uint64_t taken; /* written under the channel's read lock */
  _Atomic uint64_t dropped;           /* of these, what nobody got; with task_done only */
  alignas(64) _Atomic uint64_t word;  /* with a maxsize: see slots.c */
  struct forkq__cell
      others; /* only `done`: by processes without a cell; guarded by lock */
  struct forkq__cell cells[FORKQ__CELLS_MAX];
};

/* Who knows what became of a dead process's last steps: the channel.
 *
 * arrived: whether the packet that it was writing (`pending_seq`) has come through the pipe,
 * or will: 1 or 0; -1: that cannot be said yet.
 * reads_settled: whether what it got is in its cell, now if not before; false: that cannot be
 * done yet. Both are asked under the ledger's lock, and must not wait. */
struct forkq__witness {
  int (*arrived)(void *arg, uint32_t cell);
  bool (*reads_settled)(void *arg);
  void *arg;
};

int forkq__ledger_init(struct forkq__ledger *ledger);

/* A cell for this process, which stays alive in the ledger's eyes until close or its death. 0,
 * FORKQ_ETOOMANY, FORKQ_EBROKEN, a negative errno, or FORKQ_TIMEDOUT when somebody keeps the lock
 * for longer than a moment. */
int forkq__ledger_open(struct forkq__ledger *ledger, struct forkq__liveness *liveness,
                       struct forkq__witness witness, uint32_t *ret_cell);

/* Gives the cell up, and back what it holds. If somebody keeps the lock for longer than a
 * moment, that is left to those who find the owner dead; drops its life in any case. */
void forkq__ledger_close(struct forkq__ledger *ledger, struct forkq__liveness *liveness,
                         uint32_t cell);

/* Gives back `count` items that the cell's process, its `owner`, has accepted and will not send;
 * none if that has it no more. False if somebody keeps the lock for longer than a moment: then it is
 * to be tried again. */
bool forkq__ledger_return(struct forkq__ledger *ledger, uint32_t cell, uint32_t owner,
                          uint64_t count);

/* Gives back what dead processes held. `own` is the caller's cell or FORKQ__NO_CELL. Costs two
 * system calls for each other process with something in its outbox; but of many that ask at the
 * same time one does it for all. True if anything came back. */
bool forkq__ledger_reap(struct forkq__ledger *ledger,
                        const struct forkq__liveness *liveness, uint32_t own,
                        struct forkq__witness witness);

/* Of a dead process, of which the caller has the items: it was the `owner` of `cell`, had given
 * `returned` items back, and would have sent `due` messages in all. `take_over` is called, with the
 * lock, with the number of those that it has not sent, and takes slots for them; then its account is
 * settled. 0; FORKQ__NOTHING if there is nothing to be taken over, now and ever, as when it gave
 * more items back: which, nobody knows; FORKQ__BUSY if it lives, or what it has sent is not known, or
 * the lock cannot be had: then it is to be tried again. */
struct forkq__estate {
  uint32_t cell;
  uint32_t owner;
  uint64_t due;
  uint64_t returned;
};

/* Whether it may be taken over when the process is dead. */
bool forkq__ledger_is_open(struct forkq__ledger *ledger,
                           const struct forkq__estate *estate);
int forkq__ledger_take_over(struct forkq__ledger *ledger,
                            const struct forkq__liveness *liveness,
                            const struct forkq__estate *estate,
                            struct forkq__witness witness,
                            void (*take_over)(void *arg, uint64_t count), void *arg);

/* Whether a reap has left something open about a dead process, as its witness did not know. */
bool forkq__ledger_in_doubt(struct forkq__ledger *ledger);

/* Whether the process of a cell lives. */
bool forkq__ledger_alive(struct forkq__ledger *ledger,
                         const struct forkq__liveness *liveness, uint32_t own,
                         uint32_t cell);

/* A cell whose process lives has this state. */
#define FORKQ__CELL_USED 1u

/* Whether the process that had this cell as the so manieth owner has it still. Somebody may have
 * taken it for dead, if it has closed what shows that it lives. */
static inline bool forkq__ledger_owns(struct forkq__ledger *ledger, uint32_t cell,
                                      uint32_t owner) {
  return FORKQ__LOAD(ledger->cells[cell].owners) == owner &&
         FORKQ__LOAD(ledger->cells[cell].state) == FORKQ__CELL_USED;
}

/* Whether any of these tasks is not done, or abandoned: of a process that lives, or has closed the
 * queue, or died. */
bool forkq__ledger_has_tasks(struct forkq__ledger *ledger,
                             const struct forkq__tasks *tasks);

/* One task is done: of this process, or of the one that forked it, or of whom it may be. 0, or
 * FORKQ_ETASKDONE if there is none to be done. */
int forkq__ledger_task_done(struct forkq__ledger *ledger,
                            const struct forkq__liveness *liveness);

/* Tasks not done yet. */
uint64_t forkq__ledger_unfinished(struct forkq__ledger *ledger);

/* Items in the queue. */
uint64_t forkq__ledger_size(struct forkq__ledger *ledger);

/* Items in the outbox of a cell's process. */
uint64_t forkq__ledger_held(struct forkq__ledger *ledger, uint32_t cell);

#endif
