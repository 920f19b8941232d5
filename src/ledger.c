#include "ledger.h"

#include "log.h"
#include "os.h"

#include <forkq/base.h>
#include <unistd.h>

enum state {
  FREE, /* nobody's, or claimed by a process that died in ledger_open */
  USED = FORKQ__CELL_USED,
  /* Its process is dead, but what became of its last write or read is not known yet. */
  DEAD,
  /* Its process is gone and all is settled but its tasks, which a child of its may still do. */
  TASKS
};

/* Who holds the lock does so for microseconds, unless it is stopped. Nobody waits longer for
 * it than this: a caller has locks of its process, for which others wait, or a deadline. */
#define MOMENT_MS 100

/* Counters that change while they are summed up are read again, this often. */
#define READINGS_MAX 16

/* What is given back of a dead process's is lost. Who counts it may die at it in turn: so the
 * cell, and both counts as they were before, stand beside it. */
static void begin_loss(struct forkq__ledger *ledger, uint32_t index) {
  FORKQ__STORE(ledger->loss_returned, FORKQ__LOAD(ledger->cells[index].returned));
  FORKQ__STORE(ledger->loss_lost, FORKQ__LOAD(ledger->lost));
  FORKQ__STORE(ledger->loss_cell, index + 1);
}

static void end_loss(struct forkq__ledger *ledger) {
  uint32_t cell = FORKQ__LOAD(ledger->loss_cell);
  if (cell == 0)
    return;
  FORKQ__STORE(ledger->lost, FORKQ__LOAD(ledger->loss_lost) +
                                 FORKQ__LOAD(ledger->cells[cell - 1].returned) -
                                 FORKQ__LOAD(ledger->loss_returned));
  FORKQ__STORE(ledger->loss_cell, 0);
}

/* After the death of an owner of the lock: the sums are made anew from their parts. */
static void repair(void *arg) {
  struct forkq__ledger *ledger = arg;
  uint64_t returned = 0, done = FORKQ__LOAD(ledger->others.done), abandoned = 0;
  atomic_fetch_add(&ledger->recoveries, 1);
  end_loss(ledger);
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    returned += FORKQ__LOAD(ledger->cells[i].returned);
    done += FORKQ__LOAD(ledger->cells[i].done);
    abandoned += FORKQ__LOAD(ledger->cells[i].abandoned);
  }
  /* model: repair_returned */
  FORKQ__STORE(ledger->returned, returned);
  /* model: repair_done */
  FORKQ__STORE(ledger->done, done);
  /* model: repair_abandoned */
  FORKQ__STORE(ledger->abandoned, abandoned);
}

static int acquire(struct forkq__ledger *ledger) {
  return forkq__lock_acquire(&ledger->lock,
                             forkq__os_deadline_within(FORKQ__FOREVER, MOMENT_MS), repair,
                             ledger);
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

/* Tasks that a process got and has not done. Of those that others did for it nobody knows: so
 * not more than there are unfinished. */
static uint64_t at_work_on(struct forkq__cell *cell) {
  uint64_t done = FORKQ__LOAD(cell->done) + FORKQ__LOAD(cell->abandoned);
  uint64_t got = FORKQ__LOAD(cell->got);
  return got > done ? got - done : 0;
}

static void abandon(struct forkq__ledger *ledger, struct forkq__cell *cell) {
  uint64_t count = at_work_on(cell);
  uint64_t unfinished = forkq__ledger_unfinished(ledger);
  if (count > 0)
    add(&cell->abandoned, &ledger->abandoned, count < unfinished ? count : unfinished);
  /* What others did for it is off its account, too, before the next owner's begins. */
  /* model: abandon_got */
  FORKQ__STORE(cell->got, FORKQ__LOAD(cell->done) + FORKQ__LOAD(cell->abandoned));
}

/* Whether the packet that a dead process was writing has arrived is known, and written down. */
static bool finish_write(struct forkq__cell *cell, uint32_t index,
                         struct forkq__witness witness) {
  if (FORKQ__LOAD(cell->pending_seq) == 0)
    return true;
  int arrived = witness.arrived(witness.arg, index);
  if (arrived == 1) {
    /* model: settle_sent */
    FORKQ__STORE(cell->sent, FORKQ__LOAD(cell->pending_sent));
    /* model: settle_wire */
    FORKQ__STORE(cell->sent_wire, FORKQ__LOAD(cell->pending_wire));
  }
  if (arrived >= 0)
    /* model: settle_pending */
    FORKQ__STORE(cell->pending_seq, 0);
  return arrived >= 0;
}

/* Settles the tasks of a process that is gone: the state of its cell from now on. */
static enum state settle_tasks(struct forkq__ledger *ledger,
                               const struct forkq__liveness *liveness, uint32_t index) {
  struct forkq__cell *cell = &ledger->cells[index];
  if (at_work_on(cell) > 0 && forkq__liveness_tasks_live(liveness, index))
    return TASKS;
  abandon(ledger, cell);
  return FREE;
}

/* Settles the account of a dead process, as far as that can be done now. */
static void settle(struct forkq__ledger *ledger, const struct forkq__liveness *liveness,
                   uint32_t index, struct forkq__witness witness) {
  struct forkq__cell *cell = &ledger->cells[index];
  bool settled = witness.reads_settled(witness.arg);
  bool known = finish_write(cell, index, witness);
  uint64_t in_doubt =
      known ? 0 : FORKQ__LOAD(cell->pending_sent) - FORKQ__LOAD(cell->sent);
  uint64_t lost = held(cell) - in_doubt;
  if (lost > 0) {
    begin_loss(ledger, index);
    add(&cell->returned, &ledger->returned, lost);
    end_loss(ledger);
  }
  /* model: settle_state */
  FORKQ__STORE(cell->state,
               known && settled ? settle_tasks(ledger, liveness, index) : DEAD);
}

/* The slot that the dead process was just taking, see forkq__slots_try_take: taken it is if
 * the shared word says so, or did before somebody else's take. */
static void finish_take(struct forkq__cell *cell, uint32_t index, uint64_t word) {
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

/* Whether the death of the cell's process would change a sum. */
static bool has_account(struct forkq__cell *cell) {
  return held(cell) > 0 || at_work_on(cell) > 0 || FORKQ__LOAD(cell->try_count) != 0 ||
         FORKQ__LOAD(cell->state) == DEAD;
}

static void settle_dead(struct forkq__ledger *ledger,
                        const struct forkq__liveness *liveness, uint32_t index,
                        struct forkq__witness witness) {
  struct forkq__cell *cell = &ledger->cells[index];
  if (FORKQ__LOAD(cell->state) == USED)
    atomic_fetch_add(&ledger->recoveries, 1);
  /* model: finish_take_look */
  finish_take(cell, index, FORKQ__LOAD(ledger->word));
  uint64_t was_returned = FORKQ__LOAD(cell->returned);
  settle(ledger, liveness, index, witness);
  if (FORKQ__LOAD(cell->returned) != was_returned)
    forkq__log(FORKQ_LOG_WARNING, "lost %llu items of a process that died",
               (unsigned long long)(FORKQ__LOAD(cell->returned) - was_returned));
}

/* Settles with the dead: with all of them, or only with those who may hold something, which
 * saves the system calls for each of the others. */
static void reap_locked(struct forkq__ledger *ledger,
                        const struct forkq__liveness *liveness, uint32_t own,
                        struct forkq__witness witness, bool all) {
  uint64_t number = FORKQ__LOAD(ledger->reaps_begun) + 1;
  FORKQ__STORE(ledger->reaps_begun, number);
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    struct forkq__cell *cell = &ledger->cells[i];
    uint32_t state = FORKQ__LOAD(cell->state);
    if (state == TASKS)
      FORKQ__STORE(cell->state, settle_tasks(ledger, liveness, i));
    else if (state != FREE && i != liveness->spared && (all || has_account(cell)) &&
             !forkq__ledger_alive(ledger, liveness, own, i))
      settle_dead(ledger, liveness, i, witness);
  }
  FORKQ__STORE(ledger->reaps_ended, number);
}

bool forkq__ledger_alive(struct forkq__ledger *ledger,
                         const struct forkq__liveness *liveness, uint32_t own,
                         uint32_t cell) {
  return cell == own ||
         forkq__liveness_lives(liveness, cell, FORKQ__LOAD(ledger->cells[cell].pid));
}

bool forkq__ledger_reap(struct forkq__ledger *ledger,
                        const struct forkq__liveness *liveness, uint32_t own,
                        struct forkq__witness witness) {
  /* What the repair of the lock brings back counts, too. */
  uint64_t before = FORKQ__LOAD(ledger->returned);
  uint64_t begun = FORKQ__LOAD(ledger->reaps_begun);
  if (acquire(ledger) != 0)
    return false;
  /* One that has begun since then and has ended has seen all that this one would. */
  if (FORKQ__LOAD(ledger->reaps_ended) <= begun)
    reap_locked(ledger, liveness, own, witness, false);
  forkq__lock_release(&ledger->lock);
  return FORKQ__LOAD(ledger->returned) != before;
}

/* Of the messages that the heir has, those that the dead process has not sent. What it held and
 * somebody has given back is lost: so it is not more than it held. */
static uint64_t left_of(const struct forkq__estate *estate, struct forkq__cell *cell) {
  int64_t unsent = (int64_t)(estate->due - FORKQ__LOAD(cell->sent));
  uint64_t holds = held(cell);
  if (unsent <= 0)
    return 0;
  return (uint64_t)unsent < holds ? (uint64_t)unsent : holds;
}

/* A reap that has found the process dead has given back what it held but what is in doubt. */
bool forkq__ledger_is_open(struct forkq__ledger *ledger,
                           const struct forkq__estate *estate) {
  struct forkq__cell *cell = &ledger->cells[estate->cell];
  return forkq__ledger_owns(ledger, estate->cell, estate->owner) &&
         FORKQ__LOAD(cell->returned) == estate->returned && left_of(estate, cell) > 0;
}

static int take_over_locked(struct forkq__ledger *ledger,
                            const struct forkq__liveness *liveness,
                            const struct forkq__estate *estate,
                            struct forkq__witness witness,
                            void (*take_over)(void *arg, uint64_t count), void *arg) {
  uint32_t index = estate->cell;
  struct forkq__cell *cell = &ledger->cells[index];
  if (!forkq__ledger_is_open(ledger, estate))
    return FORKQ__NOTHING;
  if (forkq__ledger_alive(ledger, liveness, FORKQ__NO_CELL, index) ||
      !finish_write(cell, index, witness))
    return FORKQ__BUSY;
  finish_take(cell, index, FORKQ__LOAD(ledger->word));
  uint64_t count = left_of(estate, cell);
  if (count > 0) {
    /* The new slots first: a death in between leaves both to be given back. */
    take_over(arg, count);
    add(&cell->returned, &ledger->returned, count);
  }
  settle_dead(ledger, liveness, index, witness);
  return count > 0 ? 0 : FORKQ__NOTHING;
}

int forkq__ledger_take_over(struct forkq__ledger *ledger,
                            const struct forkq__liveness *liveness,
                            const struct forkq__estate *estate,
                            struct forkq__witness witness,
                            void (*take_over)(void *arg, uint64_t count), void *arg) {
  if (acquire(ledger) != 0)
    return FORKQ__BUSY;
  int r = take_over_locked(ledger, liveness, estate, witness, take_over, arg);
  forkq__lock_release(&ledger->lock);
  return r;
}

bool forkq__ledger_in_doubt(struct forkq__ledger *ledger) {
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    if (FORKQ__LOAD(ledger->cells[i].state) == DEAD)
      return true;
  return false;
}

/* Makes a cell that was never used accessible. */
static int reserve_cell(struct forkq__ledger *ledger,
                        const struct forkq__liveness *liveness, uint32_t index) {
  if (index < FORKQ__LOAD(ledger->cells_used))
    return 0;
  struct forkq__cell *cell = &ledger->cells[index];
  int64_t offset = (const char *)cell - (const char *)liveness->base;
  return forkq__os_memory_back(liveness->memory_fd, offset, sizeof *cell);
}

static void begin_ownership(struct forkq__ledger *ledger, uint32_t index) {
  struct forkq__cell *cell = &ledger->cells[index];
  FORKQ__STORE(cell->sent_bytes,
               FORKQ__LOAD(cell->accepted_bytes)); /* what was lost is not unsent */
  /* Counts that have run over the end of the word are compared by their difference: so this, too,
   * begins where the count is, and not at 0. */
  FORKQ__STORE(cell->confirmed, FORKQ__LOAD(ledger->word) >> FORKQ__CELL_BITS);
  FORKQ__STORE(cell->pid, (uint32_t)getpid());
  /* model: claim_owners */
  FORKQ__STORE(cell->owners, FORKQ__LOAD(cell->owners) + 1);
  /* model: claim_used */
  FORKQ__STORE(cell->state, USED);
  if (index >= FORKQ__LOAD(ledger->cells_used))
    /* model: claim_cells_used */
    FORKQ__STORE(ledger->cells_used, index + 1);
}

/* A cell whose lock is another's is passed over: the kernel frees the robust locks of a dying
 * process before the locks on its files, and as much later as its memory takes to be given back.
 * So it may have died right here, and have the lock on a free cell still. */
static int claim(struct forkq__ledger *ledger, struct forkq__liveness *liveness,
                 uint32_t *ret_cell) {
  for (uint32_t i = 0; i < FORKQ__CELLS_MAX; i++) {
    int r = reserve_cell(ledger, liveness, i);
    if (r < 0)
      return r;
    if (FORKQ__LOAD(ledger->cells[i].state) != FREE)
      continue;
    /* model: claim_life */
    r = forkq__liveness_take(liveness, i);
    if (r == FORKQ__BUSY)
      continue;
    if (r < 0)
      return r;
    begin_ownership(ledger, i);
    *ret_cell = i;
    return 0;
  }
  return FORKQ_ETOOMANY;
}

int forkq__ledger_open(struct forkq__ledger *ledger, struct forkq__liveness *liveness,
                       struct forkq__witness witness, uint32_t *ret_cell) {
  int r = forkq__liveness_prepare(liveness);
  if (r == 0)
    r = acquire(ledger);
  if (r < 0)
    return r;
  reap_locked(ledger, liveness, FORKQ__NO_CELL, witness, true);
  r = claim(ledger, liveness, ret_cell);
  if (r == 0) {
    liveness->tasks.cell = *ret_cell;
    liveness->tasks.owner = FORKQ__LOAD(ledger->cells[*ret_cell].owners);
  }
  forkq__lock_release(&ledger->lock);
  return r;
}

void forkq__ledger_close(struct forkq__ledger *ledger, struct forkq__liveness *liveness,
                         uint32_t index) {
  struct forkq__cell *cell = &ledger->cells[index];
  if (acquire(ledger) != 0) {
    forkq__liveness_drop(liveness, index);
    return;
  }
  if (forkq__ledger_owns(ledger, index, liveness->tasks.owner)) {
    add(&cell->returned, &ledger->returned, held(cell));
    /* model: close_state */
    FORKQ__STORE(cell->state, settle_tasks(ledger, liveness, index));
  }
  /* model: close_life */
  forkq__liveness_drop(liveness, index);
  forkq__lock_release(&ledger->lock);
}

bool forkq__ledger_return(struct forkq__ledger *ledger, uint32_t cell, uint32_t owner,
                          uint64_t count) {
  if (acquire(ledger) != 0)
    return false;
  if (forkq__ledger_owns(ledger, cell, owner))
    add(&ledger->cells[cell].returned, &ledger->returned, count);
  forkq__lock_release(&ledger->lock);
  return true;
}

/* The cell that these tasks are booked in, if any of them is not done. */
static struct forkq__cell *cell_of_tasks(struct forkq__ledger *ledger,
                                         const struct forkq__tasks *tasks) {
  if (tasks->cell >= FORKQ__LOAD(ledger->cells_used))
    return NULL;
  struct forkq__cell *cell = &ledger->cells[tasks->cell];
  bool same =
      FORKQ__LOAD(cell->owners) == tasks->owner && FORKQ__LOAD(cell->state) != FREE;
  return same && at_work_on(cell) > 0 ? cell : NULL;
}

bool forkq__ledger_has_tasks(struct forkq__ledger *ledger,
                             const struct forkq__tasks *tasks) {
  return cell_of_tasks(ledger, tasks) != NULL;
}

static struct forkq__cell *to_be_booked_in(struct forkq__ledger *ledger,
                                           const struct forkq__liveness *liveness) {
  struct forkq__cell *cell = cell_of_tasks(ledger, &liveness->tasks);
  if (cell == NULL)
    cell = cell_of_tasks(ledger, &liveness->inherited);
  return cell != NULL ? cell : &ledger->others;
}

int forkq__ledger_task_done(struct forkq__ledger *ledger,
                            const struct forkq__liveness *liveness) {
  int r = forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, repair, ledger);
  if (r < 0)
    return r;
  if (forkq__ledger_unfinished(ledger) == 0)
    r = FORKQ_ETASKDONE;
  else
    add(&to_be_booked_in(ledger, liveness)->done, &ledger->done, 1);
  forkq__lock_release(&ledger->lock);
  return r;
}

static uint64_t accepted_by_all(struct forkq__ledger *ledger) {
  uint64_t accepted = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    accepted += FORKQ__LOAD_IN_ORDER(ledger->cells[i].accepted);
  return accepted;
}

/* The counters change while they are read. What is gone is read before what was accepted, so
 * that an item which comes and goes meanwhile counts as there; and all is read again while
 * that happens, a few times. */
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
  return accepted_less(ledger, left);
}

uint64_t forkq__ledger_held(struct forkq__ledger *ledger, uint32_t cell) {
  return held(&ledger->cells[cell]);
}
