/* The account: a process's own cell in the ledger, and what shows that it lives. */
#ifndef FORKQ_ACCOUNT_H
#define FORKQ_ACCOUNT_H

#include "shared/ledger.h"

struct forkq__account {
  struct forkq__ledger *ledger;
  struct forkq__liveness liveness;
  _Atomic uint32_t cell; /* or FORKQ__NO_CELL */
};

/* The ledger, and the memory's file for `liveness`, are the caller's to set. */
void forkq__account_init(struct forkq__account *account);

/* With the ledger's lock, and after forkq__liveness_prepare: a cell for this process, which stays
 * alive in the ledger's eyes until close or its death. 0, FORKQ_ETOOMANY, or a negative errno. */
int forkq__account_claim(struct forkq__account *account);

/* Gives the cell up, and back what it holds. If somebody keeps the ledger's lock for longer than a
 * moment, that is left to those who find the owner dead; drops its life in any case. */
void forkq__account_close(struct forkq__account *account);

/* Whether this process has a cell, and is not taken for dead by somebody. */
static inline bool forkq__account_owns(struct forkq__account *account) {
  return account->cell != FORKQ__NO_CELL &&
         forkq__ledger_owns(account->ledger, account->cell,
                            account->liveness.tasks.owner);
}

/* The cell, which there is. */
static inline struct forkq__cell *forkq__account_cell(struct forkq__account *account) {
  return &account->ledger->cells[account->cell];
}

/* Items in this process's outbox; 0 without a cell. */
uint64_t forkq__account_held(struct forkq__account *account);

/* Gives back `count` items that this process has accepted and will not send; none if it has the cell
 * no more. False if somebody keeps the lock for longer than a moment: then it is to be tried again. */
bool forkq__account_return(struct forkq__account *account, uint64_t count);

/* One task is done: of this process, or of the one that forked it, or of whom it may be:
 * forkq__ledger_task_done's results. */
int forkq__account_task_done(struct forkq__account *account);

/* Whether the process of a cell lives. Costs no system call for this process's own. */
bool forkq__account_sees_alive(const struct forkq__account *account, uint32_t cell);

/* Whether the process of a cell has tasks to do, and somebody may still do them. Costs a system call
 * only where there are tasks. */
bool forkq__account_tasks_live(struct forkq__account *account, uint32_t cell);

#endif
