/* The ledger: counting, settling accounts, tasks, and sums.
 *
 * Each sum is stored after the part in the cell. A process that dies between the two stores
 * holds the ledger's lock, and the next owner of the lock makes the sums anew from the cells. */
#include "shared/ledger.h"

#include "base/contract.h"
#include "base/log.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"

#include "shared/kept.h"

#include <forkq/base.h>
#include <unistd.h>

/* How often counters are read, at most, while they change during a sum. */
#define READINGS_MAX 16

/* The sums over the cells that are guarded by the lock. */
struct sums {
  uint64_t returned;
  uint64_t done;
  uint64_t abandoned;
};

static struct sums add_up(struct forkq__ledger *ledger) {
  struct sums sums = { .done = FORKQ__LOAD(ledger->others.done) };
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    sums.returned += FORKQ__LOAD(ledger->cells[i].returned);
    sums.done += FORKQ__LOAD(ledger->cells[i].done);
    sums.abandoned += FORKQ__LOAD(ledger->cells[i].abandoned);
  }
  return sums;
}

void forkq__ledger_note_recovery(struct forkq__ledger *ledger,
                                 forkq_inspect_lock_kind_t kind) {
  FORKQ__PROBE2(lock_recovered, ledger->name, forkq__probe_value((int)kind));
  atomic_fetch_add(&ledger->recoveries, 1);
  forkq__log(FORKQ_LOG_INFO, ledger->name, "recovered a lock whose owner died");
}

/* Ends the task_done that was noted, from the beginning or from where its process died. */
static void finish_confirm(struct forkq__ledger *ledger) {
  uint64_t confirming = FORKQ__LOAD(ledger->confirming);
  uint32_t task = (uint32_t)confirming - 1, cell = (uint32_t)(confirming >> 32);
  if (confirming == 0)
    return;
  if (task < FORKQ__KEPT_MAX && cell < FORKQ__CELLS_MAX) {
    /* model: finish_done */
    FORKQ__STORE(ledger->cells[cell].done, FORKQ__LOAD(ledger->done_base) + 1);
    forkq__kept_clear(ledger, task, FORKQ__LOAD(ledger->done_number));
  }
  /* model: finish_over */
  FORKQ__STORE(ledger->confirming, 0);
}

/* After the death of an owner of the lock: makes the sums anew from their parts. */
static void repair(void *arg) {
  struct forkq__ledger *ledger = arg;
  if (forkq__keeps_tasks(ledger)) {
    finish_confirm(ledger);
    /* model: repair_lost_look */
    atomic_store(&ledger->kept.look, 1); /* it may have lost tasks, and not said so */
  }
  struct sums sums = add_up(ledger);
  /* model: repair_returned */
  FORKQ__STORE(ledger->returned, sums.returned);
  /* model: repair_done */
  FORKQ__STORE(ledger->done, sums.done);
  /* model: repair_abandoned */
  FORKQ__STORE(ledger->abandoned, sums.abandoned);
  forkq__ledger_note_recovery(ledger, FORKQ_INSPECT_LEDGER_LOCK);
}

/* Between two owners of the lock the sums agree with their parts. */
static bool is_sound(struct forkq__ledger *ledger) {
  struct sums sums = add_up(ledger);
  return sums.returned == FORKQ__LOAD(ledger->returned) &&
         sums.done == FORKQ__LOAD(ledger->done) &&
         sums.abandoned == FORKQ__LOAD(ledger->abandoned);
}

int forkq__ledger_lock(struct forkq__ledger *ledger) {
  return forkq__lock_acquire(&ledger->lock,
                             forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS),
                             repair, ledger);
}

int forkq__ledger_try_lock(struct forkq__ledger *ledger) {
  return forkq__lock_try(&ledger->lock, repair, ledger);
}

void forkq__ledger_unlock(struct forkq__ledger *ledger) {
  FORKQ__CHECK_MEMORY(is_sound(ledger));
  forkq__lock_release(&ledger->lock);
}

int forkq__ledger_init(struct forkq__ledger *ledger) {
  return forkq__lock_init(&ledger->lock);
}

static void add(_Atomic uint64_t *part, _Atomic uint64_t *sum, uint64_t count) {
  /* model: add_part */
  FORKQ__STORE(*part, FORKQ__LOAD(*part) + count);
  /* model: add_sum */
  FORKQ__STORE(*sum, FORKQ__LOAD(*sum) + count);
}

static uint64_t held(struct forkq__cell *cell) {
  uint64_t gone = FORKQ__LOAD(cell->sent) + FORKQ__LOAD(cell->returned);
  uint64_t accepted = FORKQ__LOAD(cell->accepted);
  return accepted > gone ? accepted - gone : 0;
}

uint64_t forkq__ledger_at_work_on(struct forkq__cell *cell) {
  uint64_t done = FORKQ__LOAD(cell->done) + FORKQ__LOAD(cell->abandoned);
  uint64_t got = FORKQ__LOAD(cell->got);
  return got > done ? got - done : 0;
}

/* Other processes may have done some of these tasks; how many is not known. So the number of
 * abandoned tasks is at most that of unfinished ones. */
static void abandon(struct forkq__ledger *ledger, struct forkq__cell *cell) {
  uint64_t count = forkq__ledger_at_work_on(cell);
  uint64_t unfinished = forkq__ledger_unfinished(ledger);
  if (forkq__keeps_tasks(ledger))
    forkq__kept_lose(ledger, (uint32_t)(cell - ledger->cells));
  if (count > 0 && !forkq__redelivers(ledger))
    add(&cell->abandoned, &ledger->abandoned, count < unfinished ? count : unfinished);
  /* Ends the account before the next owner's begins, also of tasks that other processes did. */
  /* model: abandon_got */
  FORKQ__STORE(cell->got, FORKQ__LOAD(cell->done) + FORKQ__LOAD(cell->abandoned));
}

/* Counts the items as not lost first: if the process dies before it has given them back, the
 * next reaper gives them back for it. */
void forkq__ledger_give_back(struct forkq__ledger *ledger, uint32_t index,
                             uint64_t count) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  FORKQ__STORE(cell->withdrawn, FORKQ__LOAD(cell->withdrawn) + count);
  add(&cell->returned, &ledger->returned, count);
}

void forkq__ledger_hand_on(struct forkq__ledger *ledger, uint32_t index, uint64_t count) {
  struct forkq__cell *cell = &ledger->cells[index];
  forkq__ledger_give_back(ledger, index, count);
  FORKQ__STORE(cell->not_put, FORKQ__LOAD(cell->not_put) + count);
}

bool forkq__ledger_finish_write(struct forkq__cell *cell, enum forkq__verdict verdict) {
  if (FORKQ__LOAD(cell->pending_seq) == 0)
    return true;
  if (verdict == FORKQ__SENT) {
    /* model: settle_sent */
    FORKQ__STORE(cell->sent, FORKQ__LOAD(cell->pending_sent));
    /* model: settle_wire */
    FORKQ__STORE(cell->sent_wire, FORKQ__LOAD(cell->pending_wire));
  }
  if (verdict != FORKQ__UNKNOWN)
    /* model: settle_pending */
    FORKQ__STORE(cell->pending_seq, 0);
  return verdict != FORKQ__UNKNOWN;
}

/* The slot was taken if the shared word says so, or said so before another process's take. */
void forkq__ledger_finish_take(struct forkq__ledger *ledger, uint32_t index) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  /* model: finish_take_look */
  uint64_t word = FORKQ__LOAD(ledger->word);
  uint64_t count = FORKQ__LOAD(cell->try_count);
  if (count == 0)
    return;
  bool taken = FORKQ__LOAD(cell->confirmed) == count ||
               word == (count << FORKQ__CELL_BITS | (index + 1));
  /* model: finish_take_accepted */
  FORKQ__STORE(cell->accepted, FORKQ__LOAD(cell->try_base) + (taken ? 1 : 0));
  /* model: finish_take_over */
  FORKQ__STORE(cell->try_count, 0);
}

enum forkq__cell_state forkq__ledger_settle_tasks(struct forkq__ledger *ledger,
                                                  uint32_t index, bool tasks_live) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  if (tasks_live && forkq__ledger_at_work_on(cell) > 0)
    return FORKQ__CELL_TASKS;
  abandon(ledger, cell);
  return FORKQ__CELL_FREE;
}

void forkq__ledger_note_orphan(struct forkq__ledger *ledger, uint32_t index) {
  FORKQ__HELD_LOCK(&ledger->lock);
  if (FORKQ__LOAD(ledger->cells[index].state) == FORKQ__CELL_FREE)
    atomic_fetch_add(&ledger->orphans, 1);
}

void forkq__ledger_settle(struct forkq__ledger *ledger, uint32_t index,
                          struct forkq__findings found) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  bool is_new = FORKQ__LOAD(cell->state) == FORKQ__CELL_USED;
  if (is_new)
    atomic_fetch_add(&ledger->recoveries, 1);
  forkq__ledger_finish_take(ledger, index);
  bool known = forkq__ledger_finish_write(cell, found.packet);
  uint64_t in_doubt =
      known ? 0 : FORKQ__LOAD(cell->pending_sent) - FORKQ__LOAD(cell->sent);
  uint64_t lost = held(cell) - in_doubt;
  if (lost > 0) {
    add(&cell->returned, &ledger->returned, lost);
    forkq__log(FORKQ_LOG_WARNING, ledger->name,
               "lost %llu item%s of process %u, which died", (unsigned long long)lost,
               lost == 1 ? "" : "s", FORKQ__LOAD(cell->pid));
  }
  if (is_new || lost > 0)
    FORKQ__PROBE3(death, ledger->name, FORKQ__LOAD(cell->pid), lost);
  bool settled = known && found.reads_settled;
  /* model: settle_state */
  atomic_store(&cell->state,
               settled ? forkq__ledger_settle_tasks(ledger, index, found.tasks_live)
                       : FORKQ__CELL_DEAD);
  forkq__ledger_note_orphan(ledger, index);
}

bool forkq__ledger_has_account(struct forkq__cell *cell) {
  return held(cell) > 0 || forkq__ledger_at_work_on(cell) > 0 ||
         FORKQ__LOAD(cell->try_count) != 0 ||
         FORKQ__LOAD(cell->state) == FORKQ__CELL_DEAD;
}

bool forkq__ledger_at_work(struct forkq__cell *cell) {
  return forkq__ledger_at_work_on(cell) > 0;
}

bool forkq__ledger_in_doubt(struct forkq__ledger *ledger) {
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    if (FORKQ__LOAD(ledger->cells[i].state) == FORKQ__CELL_DEAD)
      return true;
  return false;
}

/* ---- what a dead process leaves to its child --------------------------------------------- */

/* The heir's messages that the dead process has not sent. They are not more than the items that
 * the process holds: a message that a reaper has given back is lost. */
uint64_t forkq__ledger_left_of(struct forkq__ledger *ledger,
                               const struct forkq__estate *estate) {
  struct forkq__cell *cell = &ledger->cells[estate->cell];
  int64_t unsent = (int64_t)(estate->due - FORKQ__LOAD(cell->sent));
  uint64_t holds = held(cell);
  if (unsent <= 0)
    return 0;
  return (uint64_t)unsent < holds ? (uint64_t)unsent : holds;
}

/* A reaper that has found the process dead has given back the items that it held, except those
 * in doubt. So `returned` has changed. */
bool forkq__ledger_is_open(struct forkq__ledger *ledger,
                           const struct forkq__estate *estate) {
  struct forkq__cell *cell = &ledger->cells[estate->cell];
  return forkq__ledger_owns(ledger, estate->cell, estate->owner) &&
         FORKQ__LOAD(cell->returned) == estate->returned &&
         forkq__ledger_left_of(ledger, estate) > 0;
}

/* ---- owners ------------------------------------------------------------------------------ */

void forkq__ledger_begin_ownership(struct forkq__ledger *ledger, uint32_t index) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  /* lost bytes do not count as unsent */
  FORKQ__STORE(cell->sent_bytes, FORKQ__LOAD(cell->put_bytes));
  /* A count may have overflowed its bits in the word, so counts are compared by their
   * difference. So `confirmed` begins at the present count, and not at 0. */
  FORKQ__STORE(cell->confirmed, FORKQ__LOAD(ledger->word) >> FORKQ__CELL_BITS);
  FORKQ__STORE(cell->pid, (uint32_t)getpid());
  FORKQ__STORE(cell->first_put, FORKQ__LOAD(cell->accepted) - FORKQ__LOAD(cell->not_put));
  FORKQ__STORE(cell->first_got, FORKQ__LOAD(cell->got));
  /* model: claim_owners */
  FORKQ__STORE(cell->owners, FORKQ__LOAD(cell->owners) + 1);
  /* model: claim_used */
  FORKQ__STORE(cell->state, FORKQ__CELL_USED);
  if (index >= FORKQ__LOAD(ledger->cells_used))
    /* model: claim_cells_used */
    atomic_store(&ledger->cells_used, index + 1);
}

void forkq__ledger_end_ownership(struct forkq__ledger *ledger, uint32_t index,
                                 bool tasks_live) {
  FORKQ__HELD_LOCK(&ledger->lock);
  struct forkq__cell *cell = &ledger->cells[index];
  forkq__ledger_give_back(ledger, index, held(cell));
  /* model: close_state */
  atomic_store(&cell->state, forkq__ledger_settle_tasks(ledger, index, tasks_live));
  forkq__ledger_note_orphan(ledger, index);
}

/* ---- tasks ------------------------------------------------------------------------------- */

/* The cell in which these tasks are booked, if one of them is not done; else NULL. */
static struct forkq__cell *cell_of_tasks(struct forkq__ledger *ledger,
                                         const struct forkq__tasks *tasks) {
  if (tasks->cell >= FORKQ__LOAD(ledger->cells_used))
    return NULL;
  struct forkq__cell *cell = &ledger->cells[tasks->cell];
  bool same = FORKQ__LOAD(cell->owners) == tasks->owner &&
              FORKQ__LOAD(cell->state) != FORKQ__CELL_FREE;
  return same && forkq__ledger_at_work_on(cell) > 0 ? cell : NULL;
}

bool forkq__ledger_has_tasks(struct forkq__ledger *ledger,
                             const struct forkq__tasks *tasks) {
  return cell_of_tasks(ledger, tasks) != NULL;
}

static struct forkq__cell *to_be_booked_in(struct forkq__ledger *ledger,
                                           const struct forkq__tasks *own,
                                           const struct forkq__tasks *inherited) {
  struct forkq__cell *cell = cell_of_tasks(ledger, own);
  if (cell == NULL)
    cell = cell_of_tasks(ledger, inherited);
  return cell != NULL ? cell : &ledger->others;
}

int forkq__ledger_task_done(struct forkq__ledger *ledger, const struct forkq__tasks *own,
                            const struct forkq__tasks *inherited) {
  int r = forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, repair, ledger);
  if (r < 0)
    return r;
  if (forkq__ledger_unfinished(ledger) == 0)
    r = FORKQ_ETASKDONE;
  else
    add(&to_be_booked_in(ledger, own, inherited)->done, &ledger->done, 1);
  forkq__lock_release(&ledger->lock);
  return r;
}

/* The note decides: what is noted is done, by this process or by the next owner of the lock. */
static void confirm(const struct forkq__account *account, uint32_t task) {
  struct forkq__ledger *ledger = account->ledger;
  uint32_t cell = forkq__kept_cell_of(ledger, task);
  /* model: confirm_base */
  FORKQ__STORE(ledger->done_base, FORKQ__LOAD(ledger->cells[cell].done));
  /* model: confirm_number */
  FORKQ__STORE(ledger->done_number, forkq__kept_number(ledger, task));
  /* model: confirm_note */
  FORKQ__STORE(ledger->confirming, (uint64_t)cell << 32 | (task + 1));
  forkq__kept_release(account, task);
  finish_confirm(ledger);
  /* model: confirm_sum */
  FORKQ__STORE(ledger->done, FORKQ__LOAD(ledger->done) + 1);
}

int forkq__ledger_kept_done(const struct forkq__account *account, uint64_t handle) {
  struct forkq__ledger *ledger = account->ledger;
  const struct forkq__liveness *liveness = &account->liveness;
  int r = forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, repair, ledger);
  if (r < 0)
    return r;
  uint32_t task = handle != 0 ? forkq__kept_find(ledger, handle)
                              : forkq__kept_first_of(ledger, &liveness->tasks);
  if (task == FORKQ__NO_TASK && handle == 0)
    task = forkq__kept_first_of(ledger, &liveness->inherited);
  if (task == FORKQ__NO_TASK)
    r = FORKQ_ETASKDONE;
  else
    confirm(account, task);
  forkq__ledger_unlock(ledger);
  return r;
}

/* ---- sums -------------------------------------------------------------------------------- */

/* Of a put that does not see a shutdown, a getter that sees it sees the cell, and what it accepted. */
static uint64_t accepted_by_all(struct forkq__ledger *ledger) {
  uint64_t accepted = 0;
  for (uint32_t i = 0; i < atomic_load(&ledger->cells_used); i++)
    accepted += atomic_load(&ledger->cells[i].accepted);
  return accepted;
}

/* The counters change while they are read. This reads the items that are gone before the
 * accepted ones, so that an item that comes and goes meanwhile counts as there. It reads all of
 * them again if items went meanwhile, a few times. */
static uint64_t accepted_less(struct forkq__ledger *ledger,
                              uint64_t (*gone)(struct forkq__ledger *ledger)) {
  uint64_t before, accepted;
  int tries = 0;
  do {
    before = gone(ledger);
    accepted = accepted_by_all(ledger);
  } while (gone(ledger) != before && ++tries < READINGS_MAX);
  return accepted > before ? accepted - before : 0;
}

static uint64_t finished(struct forkq__ledger *ledger) {
  return FORKQ__LOAD(ledger->returned) + FORKQ__LOAD(ledger->done) +
         FORKQ__LOAD(ledger->abandoned) + FORKQ__LOAD(ledger->dropped);
}

static uint64_t left(struct forkq__ledger *ledger) {
  return FORKQ__LOAD(ledger->taken) + FORKQ__LOAD(ledger->returned);
}

uint64_t forkq__ledger_unfinished(struct forkq__ledger *ledger) {
  return accepted_less(ledger, finished);
}

uint64_t forkq__ledger_size(struct forkq__ledger *ledger) {
  uint64_t lost = forkq__redelivers(ledger) ? forkq__kept_lost(ledger) : 0;
  return accepted_less(ledger, left) + lost;
}

uint64_t forkq__ledger_held(struct forkq__ledger *ledger, uint32_t cell) {
  return held(&ledger->cells[cell]);
}

bool forkq__ledger_work_is_left(struct forkq__ledger *ledger) {
  return FORKQ__LOAD(ledger->taken) > FORKQ__LOAD(ledger->done) +
                                          FORKQ__LOAD(ledger->abandoned) +
                                          FORKQ__LOAD(ledger->dropped);
}

uint64_t forkq__ledger_lost(struct forkq__ledger *ledger) {
  uint64_t lost = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    uint64_t returned = FORKQ__LOAD(ledger->cells[i].returned);
    uint64_t withdrawn = FORKQ__LOAD(ledger->cells[i].withdrawn);
    lost += returned > withdrawn ? returned - withdrawn : 0;
  }
  return lost;
}
