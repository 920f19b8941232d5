/* Slots: room for `maxsize` items in the queue, and waiting for it. */
#ifndef FORKQ_SLOTS_H
#define FORKQ_SLOTS_H

#include "ledger.h"
#include "look.h"

struct forkq__slots {
  int64_t maxsize; /* 0: no limit */
  /* Waiting putters sleep on `event`, which changes with each wake-up. */
  alignas(64) _Atomic uint32_t event;
  _Atomic uint32_t waiters;
  _Atomic uint64_t waits;  /* how often, for the statistics */
  _Atomic uint32_t waking; /* one is on its way: no need to wake another */
  /* Loops on which a put waits, or that were killed there: it costs them an event. */
  _Atomic uint32_t watchers;
  struct forkq__look_shared look;
};

/* Items that have left. */
uint64_t forkq__slots_gone(struct forkq__ledger *ledger);

/* Takes a slot for an item of the cell's process, if there is one. Calls for one cell come
 * one at a time. `gone` is the caller's own memory of how many items have left, as slots_gone
 * says it: it saves looking at a line that getters write.
 *
 * Who has taken one looks whether the queue was shut down meanwhile, and who shuts it down does so
 * before it looks at what was taken. The store here and that load are sequentially consistent, so
 * that one of them sees the other. */
bool forkq__slots_try_take(struct forkq__slots *slots, struct forkq__ledger *ledger,
                           uint32_t cell, uint64_t *gone);

/* Takes a slot whether or not there is one, for an item that had one in another's name and will give
 * it back. */
void forkq__slots_take_over(struct forkq__slots *slots, struct forkq__ledger *ledger,
                            uint32_t cell);

/* Whether a take would fail. */
bool forkq__slots_full(struct forkq__slots *slots, struct forkq__ledger *ledger);

/* Waits until there may be a slot, or the deadline. A wake-up can die with the process that
 * it woke, and so can the process that owed it: the caller looks again now and then. A cancellation
 * point. */
void forkq__slots_wait(struct forkq__slots *slots, struct forkq__ledger *ledger,
                       int64_t deadline);

/* A slot came free (`ledger->taken` or `returned` grew): wakes one putter, if one sleeps and
 * none is already on its way, and the loops that watch `room_fd`, the queue's event descriptor
 * for this. Who was woken and has taken its slot calls it too, so that the next one gets what
 * is left. */
void forkq__slots_freed(struct forkq__slots *slots, int room_fd);

/* Wakes all of them, to look at something else. */
void forkq__slots_wake_all(struct forkq__slots *slots, int room_fd);

/* For a loop, which waits in its own way: between begin and end `room_fd` is raised when a
 * slot comes free. Once it was raised, woken makes it quiet again; then, as after begin, the
 * caller looks. */
void forkq__slots_watch_begin(struct forkq__slots *slots);
void forkq__slots_watch_woken(struct forkq__slots *slots, int room_fd);
void forkq__slots_watch_end(struct forkq__slots *slots);

/* Raises it now, for room of another kind. */
void forkq__slots_tell_watchers(struct forkq__slots *slots, int room_fd);

#endif
