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

#include "shared/layout.h"
#include "shared/liveness.h"

#include <stdbool.h>

/* What became of the packet that a dead process was writing. */
enum forkq__verdict { FORKQ__NOT_SENT, FORKQ__SENT, FORKQ__UNKNOWN };

/* What was found out about a dead process. */
struct forkq__findings {
  enum forkq__verdict packet; /* if it was writing one */
  bool reads_settled;         /* what it got is in its cell */
  bool tasks_live;            /* somebody may still do its tasks */
};

int forkq__ledger_init(struct forkq__ledger *ledger);

/* lock: 0, FORKQ_EBROKEN, or FORKQ_TIMEDOUT when somebody keeps the lock for longer than a moment: a
 * caller has locks of its process, for which others wait, or a deadline. */
int forkq__ledger_lock(struct forkq__ledger *ledger);
void forkq__ledger_unlock(struct forkq__ledger *ledger);

/* ---- with the lock ------------------------------------------------------------------------- */

/* A free cell is this process's, and is so no more: what it holds is given back. */
void forkq__ledger_begin_ownership(struct forkq__ledger *ledger, uint32_t index);
void forkq__ledger_end_ownership(struct forkq__ledger *ledger, uint32_t index,
                                 bool tasks_live);

/* Gives back items that the cell's process, or its heir, does not send for it. */
void forkq__ledger_give_back(struct forkq__ledger *ledger, uint32_t index,
                             uint64_t count);

/* Settles the account of a dead process, as far as that can be done now: what it held is given back,
 * and counts as lost. */
void forkq__ledger_settle(struct forkq__ledger *ledger, uint32_t index,
                          struct forkq__findings found);

/* Its parts. finish_write: false if nothing is known. finish_take: of the slot that it was just
 * taking, see forkq__slots_try_take. settle_tasks: the state of the cell from now on. */
bool forkq__ledger_finish_write(struct forkq__cell *cell, enum forkq__verdict verdict);
void forkq__ledger_finish_take(struct forkq__ledger *ledger, uint32_t index);
enum forkq__cell_state forkq__ledger_settle_tasks(struct forkq__ledger *ledger,
                                                  uint32_t index, bool tasks_live);

/* Whether the death of the cell's process would change a sum; whether it has tasks to do. */
bool forkq__ledger_has_account(struct forkq__cell *cell);
bool forkq__ledger_at_work(struct forkq__cell *cell);

/* ---- without it ---------------------------------------------------------------------------- */

/* Whether a reap has left something open about a dead process. */
bool forkq__ledger_in_doubt(struct forkq__ledger *ledger);

/* Whether the process that had this cell as the so manieth owner has it still. Somebody may have
 * taken it for dead, if it has closed what shows that it lives. */
static inline bool forkq__ledger_owns(struct forkq__ledger *ledger, uint32_t cell,
                                      uint32_t owner) {
  return FORKQ__LOAD(ledger->cells[cell].owners) == owner &&
         FORKQ__LOAD(ledger->cells[cell].state) == FORKQ__CELL_USED;
}

/* What a process leaves to the child that has copies of its messages: it was the `owner` of `cell`,
 * had given `returned` items back, and would have sent `due` messages in all. */
struct forkq__estate {
  uint32_t cell;
  uint32_t owner;
  uint64_t due;
  uint64_t returned;
};

/* Whether it may be taken over when the process is dead; and of how many items. When it gave more
 * items back, nobody knows which. */
bool forkq__ledger_is_open(struct forkq__ledger *ledger,
                           const struct forkq__estate *estate);
uint64_t forkq__ledger_left_of(struct forkq__ledger *ledger,
                               const struct forkq__estate *estate);

/* Whether any of these tasks is not done, or abandoned: of a process that lives, or has closed the
 * queue, or died. */
bool forkq__ledger_has_tasks(struct forkq__ledger *ledger,
                             const struct forkq__tasks *tasks);

/* One task is done: of these, or of those, or of whom it may be. Takes the lock: 0, FORKQ_EBROKEN, or
 * FORKQ_ETASKDONE if there is none to be done. */
int forkq__ledger_task_done(struct forkq__ledger *ledger, const struct forkq__tasks *own,
                            const struct forkq__tasks *inherited);

/* Tasks not done yet. */
uint64_t forkq__ledger_unfinished(struct forkq__ledger *ledger);

/* Items in the queue. */
uint64_t forkq__ledger_size(struct forkq__ledger *ledger);

/* Items that were lost with the processes that held them. */
uint64_t forkq__ledger_lost(struct forkq__ledger *ledger);

/* Items in the outbox of a cell's process. */
uint64_t forkq__ledger_held(struct forkq__ledger *ledger, uint32_t cell);

#endif
