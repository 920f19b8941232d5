/* The ledger: how many items each process put, how many left, and how many dead processes held.
 *
 * Each process that puts has a cell. The number of items in the queue, wherever they are, is
 *
 *     sum of all cells' accepted  -  taken  -  returned
 *
 * Each of these counters only grows and has one writer at a time. So the death of a writer
 * never leaves a sum half changed. A cell holds accepted - sent - returned items: those in its
 * process's outbox. A process that finds the cell's process dead gives these items back.
 *
 * With task_done, the number of tasks that are not done yet is
 *
 *     sum of all cells' accepted  -  returned  -  done  -  abandoned  -  dropped
 *
 * Then a process that gets has a cell, too. It is at work on `got` - `done` tasks, which are
 * `abandoned` when it dies. `dropped` counts items that no process got: torn messages, and
 * items that an immediate shutdown threw away.
 *
 * A process that is not at work on any task may call task_done for another one: for the parent
 * that forked it (liveness.h), or for no particular process, which is booked under `others`.
 * Tasks that a process got and has not done when it ends stay in its cell as long as such a
 * child lives.
 *
 * The memory of a cell is reserved when the cell comes into use. */
#ifndef FORKQ_LEDGER_H
#define FORKQ_LEDGER_H

#include "shared/layout.h"
#include "shared/liveness.h"

#include <forkq/inspect.h>
#include <stdbool.h>
#include <sys/types.h>

/* What became of the packet that a dead process was writing: whether it is in the pipe. */
enum forkq__verdict { FORKQ__NOT_SENT, FORKQ__SENT, FORKQ__UNKNOWN };

/* What a reaper has found out about a dead process. */
struct forkq__findings {
  enum forkq__verdict packet; /* if the process was writing one */
  bool reads_settled;         /* the items that it got are counted in its cell */
  bool tasks_live;            /* a process lives that may do its tasks */
};

int forkq__ledger_init(struct forkq__ledger *ledger);

/* lock returns 0, FORKQ_EBROKEN, or FORKQ_TIMEDOUT if another thread holds the lock for longer
 * than a moment: a caller has locks of its process, for which other threads wait, or a
 * deadline. */
int forkq__ledger_lock(struct forkq__ledger *ledger);
/* The same without waiting: 0, FORKQ_EBROKEN or FORKQ__BUSY. */
int forkq__ledger_try_lock(struct forkq__ledger *ledger);
void forkq__ledger_unlock(struct forkq__ledger *ledger);

/* ---- with the lock ------------------------------------------------------------------------- */

/* begin: this process becomes the owner of a free cell. end: it gives up the cell and gives
 * back the items that the cell holds. */
void forkq__ledger_begin_ownership(struct forkq__ledger *ledger, uint32_t index);
void forkq__ledger_end_ownership(struct forkq__ledger *ledger, uint32_t index,
                                 bool tasks_live);

/* give_back: gives back items that the cell's process will not send. They do not count as lost.
 * hand_on: the same for items that the heir of a dead process sends from its own cell. They count
 * as put there. */
void forkq__ledger_give_back(struct forkq__ledger *ledger, uint32_t index,
                             uint64_t count);
void forkq__ledger_hand_on(struct forkq__ledger *ledger, uint32_t index, uint64_t count);

/* Settles the account of a dead process, as far as that is possible now: gives back the items
 * that it held, which count as lost. */
void forkq__ledger_settle(struct forkq__ledger *ledger, uint32_t index,
                          struct forkq__findings found);

/* Parts of settle. finish_write: the packet that the process was writing; returns false if its
 * verdict is not known. finish_take: the slot that it was just taking (forkq__slots_try_take).
 * settle_tasks: its tasks; returns the new state of the cell. */
bool forkq__ledger_finish_write(struct forkq__cell *cell, enum forkq__verdict verdict);
void forkq__ledger_finish_take(struct forkq__ledger *ledger, uint32_t index);
enum forkq__cell_state forkq__ledger_settle_tasks(struct forkq__ledger *ledger,
                                                  uint32_t index, bool tasks_live);

/* After the state of a cell was stored: if the cell has become free, readers look for memory that nobody
 * needs any more: its own, or what it held. */
void forkq__ledger_note_orphan(struct forkq__ledger *ledger, uint32_t index);

/* has_account: whether the death of the cell's process would change a sum, or is not settled
 * yet. at_work: whether the process has tasks to do; at_work_on: how many. Of these, the own process
 * needs no lock for the last: it finds too many rather than too few. */
bool forkq__ledger_has_account(struct forkq__cell *cell);
bool forkq__ledger_at_work(struct forkq__cell *cell);
uint64_t forkq__ledger_at_work_on(struct forkq__cell *cell);

/* ---- without the lock ---------------------------------------------------------------------- */

/* Counts and logs that a lock of the queue was repaired, and which. For the repair of each lock (lock.h). */
void forkq__ledger_note_recovery(struct forkq__ledger *ledger,
                                 forkq_inspect_lock_kind_t kind);

/* Whether a reap has left the account of a dead process unsettled. */
bool forkq__ledger_in_doubt(struct forkq__ledger *ledger);

/* Whether owner number `owner` of this cell still has it. A reaper may have taken the process
 * for dead, if it has closed the descriptor that shows that it lives. */
static inline bool forkq__ledger_owns(struct forkq__ledger *ledger, uint32_t cell,
                                      uint32_t owner) {
  /* In this order: a USED of the next owner comes with its number. */
  return atomic_load(&ledger->cells[cell].state) == FORKQ__CELL_USED &&
         FORKQ__LOAD(ledger->cells[cell].owners) == owner;
}

/* What an heir must know of its parent's account: the parent, process `pid`, was owner number
 * `owner` of `cell`, had given back `returned` items, and would have sent `due` messages in all. */
struct forkq__estate {
  uint32_t cell;
  uint32_t owner;
  pid_t pid;
  uint64_t due;
  uint64_t returned;
};

/* is_open: whether the heir may take over the estate when the process is dead. It may not if
 * the process has given back more items since, because it is not known which. left_of: how many
 * items the heir takes over. */
bool forkq__ledger_is_open(struct forkq__ledger *ledger,
                           const struct forkq__estate *estate);
uint64_t forkq__ledger_left_of(struct forkq__ledger *ledger,
                               const struct forkq__estate *estate);

/* Whether any of these tasks is neither done nor abandoned. Their process may live, have closed
 * the queue, or be dead. */
bool forkq__ledger_has_tasks(struct forkq__ledger *ledger,
                             const struct forkq__tasks *tasks);

/* Marks one task as done: one of `own`, else of `inherited`, else of no particular process.
 * Takes the lock and waits for it without limit. Returns 0, FORKQ_EBROKEN, or FORKQ_ETASKDONE
 * if all tasks are done. */
int forkq__ledger_task_done(struct forkq__ledger *ledger, const struct forkq__tasks *own,
                            const struct forkq__tasks *inherited);

/* The same where tasks are kept: marks the kept task of this handle as done, or of 0 that task of the
 * account's process which was got first, or else of its parent. FORKQ_ETASKDONE if there is none. */
struct forkq__account;
int forkq__ledger_kept_done(const struct forkq__account *account, uint64_t handle);

/* Whether any items that were got are not done: processes work on them, or they are lost. */
bool forkq__ledger_work_is_left(struct forkq__ledger *ledger);

/* Returns the number of tasks that are not done yet. */
uint64_t forkq__ledger_unfinished(struct forkq__ledger *ledger);

/* Returns the number of items in the queue, with the lost tasks that are to be got again. */
uint64_t forkq__ledger_size(struct forkq__ledger *ledger);

/* Returns the number of items that were lost with the processes that held them. */
uint64_t forkq__ledger_lost(struct forkq__ledger *ledger);

/* Returns the number of items in the outbox of a cell's process. */
uint64_t forkq__ledger_held(struct forkq__ledger *ledger, uint32_t cell);

#endif
