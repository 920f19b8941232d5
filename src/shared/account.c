/* The account: claiming a cell, using it, and giving it up.
 *
 * A claim takes the life lock before it marks the cell as used, and a close settles the cell
 * before it drops the life lock. A process that dies in either leaves a free cell, or one that
 * a reaper settles. */
#include "shared/account.h"

#include "base/os.h"

#include <forkq/base.h>

void forkq__account_init(struct forkq__account *account) {
  forkq__liveness_init(&account->liveness);
  FORKQ__STORE(account->cell, FORKQ__NO_CELL);
}

/* Reserves the memory of a cell that was never used. */
static int reserve_cell(const struct forkq__account *account, uint32_t index) {
  if (index < FORKQ__LOAD(account->ledger->cells_used))
    return 0;
  const struct forkq__cell *cell = &account->ledger->cells[index];
  int64_t offset = (const char *)cell - (const char *)account->liveness.base;
  return forkq__os_memory_back(account->liveness.memory_fd, offset, sizeof *cell);
}

static void begin(struct forkq__account *account, uint32_t index) {
  struct forkq__tasks *tasks = &account->liveness.tasks;
  forkq__ledger_begin_ownership(account->ledger, index);
  tasks->cell = index;
  tasks->owner = FORKQ__LOAD(account->ledger->cells[index].owners);
  FORKQ__STORE(account->cell, index);
}

/* Passes over a free cell whose life lock another process has. When a process dies, the kernel
 * frees its robust locks, then its memory, which takes time, and then the locks on its files.
 * So a process may have died in this function and still have the life lock of a free cell. */
int forkq__account_claim(struct forkq__account *account) {
  struct forkq__ledger *ledger = account->ledger;
  for (uint32_t i = 0; i < FORKQ__CELLS_MAX; i++) {
    int r = reserve_cell(account, i);
    if (r < 0)
      return r;
    if (FORKQ__LOAD(ledger->cells[i].state) != FORKQ__CELL_FREE)
      continue;
    /* model: claim_life */
    r = forkq__liveness_take(&account->liveness, i);
    if (r == FORKQ__BUSY)
      continue;
    if (r == 0)
      begin(account, i);
    return r;
  }
  return FORKQ_ETOOMANY;
}

bool forkq__account_tasks_live(struct forkq__account *account, uint32_t index) {
  return forkq__ledger_at_work(&account->ledger->cells[index]) &&
         forkq__liveness_tasks_live(&account->liveness, index);
}

void forkq__account_close(struct forkq__account *account) {
  struct forkq__ledger *ledger = account->ledger;
  uint32_t index = FORKQ__LOAD(account->cell);
  FORKQ__STORE(account->cell, FORKQ__NO_CELL);
  if (forkq__ledger_lock(ledger) != 0) {
    forkq__liveness_drop(&account->liveness, index);
    return;
  }
  if (forkq__ledger_owns(ledger, index, account->liveness.tasks.owner))
    forkq__ledger_end_ownership(ledger, index, forkq__account_tasks_live(account, index));
  /* model: close_life */
  forkq__liveness_drop(&account->liveness, index);
  forkq__ledger_unlock(ledger);
}

uint64_t forkq__account_held(struct forkq__account *account) {
  uint32_t cell = FORKQ__LOAD(account->cell);
  return cell == FORKQ__NO_CELL ? 0 : forkq__ledger_held(account->ledger, cell);
}

bool forkq__account_return(struct forkq__account *account, uint64_t count) {
  if (forkq__ledger_lock(account->ledger) != 0)
    return false;
  if (forkq__account_owns(account))
    forkq__ledger_give_back(account->ledger, FORKQ__LOAD(account->cell), count);
  forkq__ledger_unlock(account->ledger);
  return true;
}

int forkq__account_task_done(struct forkq__account *account) {
  const struct forkq__liveness *liveness = &account->liveness;
  return forkq__ledger_task_done(account->ledger, &liveness->tasks, &liveness->inherited);
}

bool forkq__account_sees_alive(const struct forkq__account *account, uint32_t cell) {
  return cell == FORKQ__LOAD(account->cell) ||
         forkq__liveness_lives(&account->liveness, cell,
                               FORKQ__LOAD(account->ledger->cells[cell].pid));
}
