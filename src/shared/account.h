/* The account: this process's cell in the ledger, and the locks that show that it lives. */
#ifndef FORKQ_ACCOUNT_H
#define FORKQ_ACCOUNT_H

#include "shared/ledger.h"

struct forkq__account {
  struct forkq__ledger *ledger;
  struct forkq__liveness liveness;
  _Atomic uint32_t cell; /* or FORKQ__NO_CELL */
  uint64_t number;       /* of the queue, as forkq ls shows it; for probes */
  uint8_t *kept_memory;  /* see kept.h; NULL: the queue keeps no tasks */
};

/* Without a cell. The caller sets `ledger`, and the memory's file in `liveness`. */
void forkq__account_init(struct forkq__account *account);

/* Claims a cell for this process. The caller holds the ledger's lock and has called
 * forkq__liveness_prepare. Until close or its death, the process counts as alive. Returns 0,
 * FORKQ_ETOOMANY or a negative errno. */
int forkq__account_claim(struct forkq__account *account);

/* Gives up the cell and returns the items that it holds. If the ledger's lock is held for
 * longer than a moment, a reaper returns them later. In either case, the process counts as dead
 * from now on. */
void forkq__account_close(struct forkq__account *account);

static inline bool forkq__account_has_cell(const struct forkq__account *account) {
  return FORKQ__LOAD(account->cell) != FORKQ__NO_CELL;
}

/* Whether this process has a cell and no reaper has taken the process for dead. */
static inline bool forkq__account_owns(struct forkq__account *account) {
  uint32_t cell = FORKQ__LOAD(account->cell);
  return cell != FORKQ__NO_CELL &&
         forkq__ledger_owns(account->ledger, cell, account->liveness.tasks.owner);
}

/* The cell of this process, which must have one. */
static inline struct forkq__cell *forkq__account_cell(struct forkq__account *account) {
  return &account->ledger->cells[FORKQ__LOAD(account->cell)];
}

/* Items in this process's outbox; 0 without a cell. */
uint64_t forkq__account_held(struct forkq__account *account);

/* Gives back `count` items that this process has accepted and will not send. Does nothing if
 * the process no longer owns its cell. Returns false if the ledger's lock is held for longer
 * than a moment: the caller must try again. */
bool forkq__account_return(struct forkq__account *account, uint64_t count);

/* Marks one task as done: a task of this process, else of its parent, else of no particular
 * process. Returns as forkq__ledger_task_done. */
int forkq__account_task_done(struct forkq__account *account);

/* Whether the process of a cell lives. Makes no system call for this process's own cell. */
bool forkq__account_sees_alive(const struct forkq__account *account, uint32_t cell);

/* Whether the process of a cell has tasks to do, and a process lives that may do them. Makes a
 * system call only if there are tasks. */
bool forkq__account_tasks_live(struct forkq__account *account, uint32_t cell);

#endif
