/* Slots: room for `maxsize` items in the queue, and waiting for it. */
#ifndef FORKQ_SLOTS_H
#define FORKQ_SLOTS_H

#include "base/look.h"
#include "shared/account.h"

/* A process's use of them. */
struct forkq__slots {
  struct forkq__slots_shared *shared;
  struct forkq__account *account; /* of this process; who takes has a cell */
  int event_fd; /* readable: look for a free slot; for loops that watch */
  /* How many items had left when this process last looked, which saves looking at a line that
   * getters write. */
  uint64_t gone;
};

/* Before the first take of an account. */
void forkq__slots_begin(struct forkq__slots *slots);

/* Takes a slot for an item of this process, if there is one. Calls of one process come one at a
 * time.
 *
 * Who has taken one looks whether the queue was shut down meanwhile, and who shuts it down does so
 * before it looks at what was taken. The store here and that load are sequentially consistent, so
 * that one of them sees the other. */
bool forkq__slots_try_take(struct forkq__slots *slots);

/* Takes a slot whether or not there is one, for an item that had one in another's name and will give
 * it back. */
void forkq__slots_take_over(struct forkq__slots *slots);

/* Whether a take would fail. */
bool forkq__slots_full(struct forkq__slots *slots);

/* Waits until there may be a slot, or the deadline. A wake-up can die with the process that
 * it woke, and so can the process that owed it: the caller looks again now and then. A cancellation
 * point. */
void forkq__slots_wait(struct forkq__slots *slots, int64_t deadline);

/* A slot came free (the ledger's `taken` or `returned` grew): wakes one putter, if one sleeps and
 * none is already on its way, and the loops that watch. Who was woken and has taken its slot calls
 * it too, so that the next one gets what is left. */
void forkq__slots_freed(struct forkq__slots *slots);

/* Wakes all of them, to look at something else. */
void forkq__slots_wake_all(struct forkq__slots *slots);

/* For a loop, which waits in its own way: between begin and end the event is raised when a slot
 * comes free. Once it was raised, woken makes it quiet again; then, as after begin, the caller
 * looks. */
void forkq__slots_watch_begin(struct forkq__slots *slots);
void forkq__slots_watch_woken(struct forkq__slots *slots);
void forkq__slots_watch_end(struct forkq__slots *slots);

/* Raises it now, for room of another kind. */
void forkq__slots_tell_watchers(struct forkq__slots *slots);

#endif
