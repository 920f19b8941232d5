/* Slots: taking them, and waiting for them.
 *
 * With a limit, one shared word has the number of items ever accepted, and the cell that
 * accepted the last one: count << FORKQ__CELL_BITS | (cell + 1). A take makes these steps:
 *
 * 1. It stores `accepted` of the taker's own cell in `try_base`.
 * 2. It writes into the cell that the word names that this cell's take did happen
 *    (`confirmed`).
 * 3. It stores the count that it tries for in `try_count`.
 * 4. It swaps the word (compare-and-swap), or repeats steps 2 and 3.
 * 5. It stores `accepted` + 1, then 0 in `try_count`.
 *
 * A taker that dies after step 3 leaves `try_count`. Then the word or `confirmed` says whether
 * its swap happened (forkq__ledger_finish_take). */
#include "shared/slots.h"

#include "base/os.h"

#include <limits.h>
#include <pthread.h>

_Static_assert(FORKQ__CELLS_MAX < 1 << FORKQ__CELL_BITS, "a cell + 1 fits");
#define CELL_MASK ((UINT64_C(1) << FORKQ__CELL_BITS) - 1)

/* A getter stores `taken`, then looks for waiters (slots_freed). A putter counts itself as a
 * waiter, then looks at `taken` (slots_wait). For at least one of them to see the other, there
 * is a fence between the getter's two steps, and the putter's two are sequentially consistent. */
static uint64_t items_gone(struct forkq__ledger *ledger) {
  return atomic_load(&ledger->taken) + atomic_load(&ledger->returned);
}

/* a - b, for counts that may have overflowed their bits in the word. */
static int64_t difference(uint64_t a, uint64_t b) {
  return (int64_t)((a - b) << FORKQ__CELL_BITS) >> FORKQ__CELL_BITS;
}

static bool room(const struct forkq__slots *slots, uint64_t count) {
  /* Signed, because `gone` may be newer than `count`. */
  return difference(count, slots->gone) < slots->shared->maxsize;
}

static void confirm(struct forkq__ledger *ledger, uint64_t word) {
  uint64_t count = word >> FORKQ__CELL_BITS;
  _Atomic uint64_t *confirmed = &ledger->cells[(word & CELL_MASK) - 1].confirmed;
  uint64_t old = atomic_load(confirmed);
  /* model: take_confirm */
  while (difference(old, count) < 0 &&
         !atomic_compare_exchange_weak(confirmed, &old, count))
    ;
}

void forkq__slots_begin(struct forkq__slots *slots) {
  slots->gone = items_gone(slots->account->ledger);
}

/* `anyhow`: takes a slot even if none is free. */
static bool take_limited(struct forkq__slots *slots, bool anyhow) {
  struct forkq__ledger *ledger = slots->account->ledger;
  uint32_t index = FORKQ__LOAD(slots->account->cell);
  struct forkq__cell *cell = &ledger->cells[index];
  uint64_t base = FORKQ__LOAD(cell->accepted);
  /* model: take_try_base */
  FORKQ__STORE(cell->try_base, base);
  /* model: take_word */
  uint64_t word = atomic_load(&ledger->word);
  uint64_t next;
  do {
    uint64_t count = word >> FORKQ__CELL_BITS;
    if (!anyhow && !room(slots, count)) {
      /* model: take_gone */
      slots->gone = items_gone(ledger);
      if (!room(slots, count)) {
        /* model: take_none */
        FORKQ__STORE(cell->try_count, 0);
        return false;
      }
    }
    if (word != 0 && (word & CELL_MASK) != index + 1)
      confirm(ledger, word);
    /* model: take_try_count */
    FORKQ__STORE(cell->try_count, count + 1);
    next = (count + 1) << FORKQ__CELL_BITS | (index + 1);
    /* model: take_swap */
  } while (!atomic_compare_exchange_weak(&ledger->word, &word, next));
  /* model: take_accepted */
  atomic_store(&cell->accepted, base + 1);
  /* model: take_over */
  FORKQ__STORE(cell->try_count, 0);
  return true;
}

static bool take_unlimited(struct forkq__slots *slots) {
  struct forkq__cell *cell = forkq__account_cell(slots->account);
  atomic_store(&cell->accepted, FORKQ__LOAD(cell->accepted) + 1);
  return true;
}

bool forkq__slots_try_take(struct forkq__slots *slots) {
  return slots->shared->maxsize > 0 ? take_limited(slots, false) : take_unlimited(slots);
}

void forkq__slots_take_over(struct forkq__slots *slots) {
  if (slots->shared->maxsize > 0)
    (void)take_limited(slots, true);
  else
    (void)take_unlimited(slots);
}

bool forkq__slots_full(struct forkq__slots *slots) {
  if (slots->shared->maxsize <= 0)
    return false;
  struct forkq__ledger *ledger = slots->account->ledger;
  uint64_t gone = items_gone(ledger);
  uint64_t count = atomic_load(&ledger->word) >> FORKQ__CELL_BITS;
  return difference(count, gone) >= slots->shared->maxsize;
}

/* Clears `waking`, because this thread is awake: a wake-up that was on its way, to it or to a
 * putter that died, is over. A thread that was cancelled may have been woken for a slot that it
 * does not take. */
static void leave_wait(void *arg) {
  struct forkq__slots_shared *slots = arg;
  /* model: wait_over */
  atomic_store(&slots->waking, 0);
  /* model: wait_leaves */
  atomic_fetch_sub(&slots->waiters, 1);
}

struct spin_for_slot {
  struct forkq__slots *slots;
  uint32_t event;
};

/* The event also changes where putters are to look at something other than slots. */
static bool is_over(void *arg) {
  const struct spin_for_slot *spin = arg;
  return !forkq__slots_full(spin->slots) ||
         FORKQ__LOAD(spin->slots->shared->event) != spin->event ||
         forkq__interrupted(spin->slots->interrupts);
}

void forkq__slots_wait(struct forkq__slots *slots, int64_t deadline) {
  struct forkq__slots_shared *shared = slots->shared;
  struct spin_for_slot spin = { slots, FORKQ__LOAD(shared->event) };
  if (forkq__spin(&slots->spin, is_over, &spin, deadline))
    return;
  /* model: wait_event */
  uint32_t event = atomic_load(&shared->event);
  /* model: wait_waiters */
  atomic_fetch_add(&shared->waiters, 1);
  pthread_cleanup_push(leave_wait, shared);
  atomic_fetch_add(&shared->waits, 1);
  /* model: wait_awake */
  atomic_store(&shared->waking, 0);
  if (forkq__slots_full(slots) && !forkq__interrupted(slots->interrupts))
    /* model: wait_sleep */
    (void)forkq__os_futex_wait_cancellable(&shared->event, event, deadline,
                                           FORKQ__ANY_BITS);
  pthread_cleanup_pop(1);
}

void forkq__slots_tell_watchers(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  if (atomic_load(&shared->watchers) > 0)
    forkq__os_event_raise(slots->event_fd);
}

void forkq__slots_freed(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  if (shared->maxsize <= 0)
    return;
  atomic_thread_fence(memory_order_seq_cst);
  /* model: freed_waiters */
  if (FORKQ__LOAD(shared->waiters) == 0 ||
      /* model: freed_waking */
      atomic_exchange(&shared->waking, 1) != 0)
    return;
  /* model: freed_event */
  atomic_fetch_add(&shared->event, 1);
  /* model: freed_wake */
  forkq__os_futex_wake(&shared->event, 1);
  forkq__slots_tell_watchers(slots);
}

void forkq__slots_wake_all(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  atomic_fetch_add(&shared->event, 1);
  forkq__os_futex_wake(&shared->event, INT_MAX);
  forkq__slots_tell_watchers(slots);
}

/* A putter counts itself as a waiter, then looks for an interrupt. The interrupt was counted before it
 * looks here. So one of them sees the other. Putters of other processes sleep on the word, too: they
 * look, and sleep again. */
void forkq__slots_interrupt(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  if (atomic_load(&shared->waiters) == 0)
    return;
  atomic_fetch_add(&shared->event, 1);
  forkq__os_futex_wake(&shared->event, INT_MAX);
}

/* As in wait, a wake-up that was on its way is over. */
void forkq__slots_watch_begin(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  atomic_fetch_add(&shared->watchers, 1);
  atomic_fetch_add(&shared->waiters, 1);
  atomic_fetch_add(&shared->waits, 1);
  atomic_store(&shared->waking, 0);
}

/* Lowers the event before the caller looks: a slot that becomes free after this raises it
 * again. */
void forkq__slots_watch_woken(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  forkq__os_event_lower(slots->event_fd);
  atomic_store(&shared->waking, 0);
}

void forkq__slots_watch_end(struct forkq__slots *slots) {
  struct forkq__slots_shared *shared = slots->shared;
  atomic_store(&shared->waking, 0);
  atomic_fetch_sub(&shared->waiters, 1);
  atomic_fetch_sub(&shared->watchers, 1);
}
