/* Slots: the right to have an item in a queue with a `maxsize`, and waiting for it. A put takes
 * a slot, and a get frees it. */
#ifndef FORKQ_SLOTS_H
#define FORKQ_SLOTS_H

#include "base/interrupt.h"
#include "base/look.h"
#include "base/spin.h"
#include "shared/account.h"

/* The slots, as one process uses them. */
struct forkq__slots {
  struct forkq__slots_shared *shared;
  struct forkq__account *account; /* of this process; it has a cell before it takes */
  int event_fd;                   /* readable: a slot may be free; for loops that watch */
  /* How many items had left when this process last looked. It saves reading a cache line that
   * getters write. */
  uint64_t gone;
  struct forkq__spin spin; /* of putters, before they sleep */
  struct forkq__interrupts *interrupts;
};

/* Call before the first take of an account. */
void forkq__slots_begin(struct forkq__slots *slots);

/* Takes a slot for an item of this process, if one is free. A process makes one such call at a
 * time.
 *
 * After a take, the putter looks whether the queue was shut down meanwhile. A process that
 * shuts the queue down does so before it looks at what was taken. The store here and that load
 * are sequentially consistent, so at least one of the two sees the other. */
bool forkq__slots_try_take(struct forkq__slots *slots);

/* Takes a slot even if none is free, for an item that has one in another process's name. The
 * caller gives that one back. */
void forkq__slots_take_over(struct forkq__slots *slots);

/* Whether a take would fail. */
bool forkq__slots_full(struct forkq__slots *slots);

/* Waits until a slot may be free, until the thread is interrupted, or until the deadline. A wake-up is
 * lost if the process that it woke dies, or the process that owed it. So the caller must look again now and then. A
 * cancellation point. */
void forkq__slots_wait(struct forkq__slots *slots, int64_t deadline);

/* Call after a slot became free (the ledger's `taken` or `returned` grew). Wakes one putter and
 * the loops that watch, if any of them waits and no woken one is on its way. A putter that was
 * woken and has taken its slot calls it, too, so that the next putter gets a slot that is left. */
void forkq__slots_freed(struct forkq__slots *slots);

/* Wakes all putters and loops, to look at something other than slots. */
void forkq__slots_wake_all(struct forkq__slots *slots);

/* Wakes the putters that wait, after an interrupt. Safe in a signal handler. */
void forkq__slots_interrupt(struct forkq__slots *slots);

/* For a loop, which waits in its own way. Between begin and end, the event is raised when a
 * slot becomes free. woken lowers the event after that. After begin and woken, the caller looks
 * for a slot. */
void forkq__slots_watch_begin(struct forkq__slots *slots);
void forkq__slots_watch_woken(struct forkq__slots *slots);
void forkq__slots_watch_end(struct forkq__slots *slots);

/* Raises the event now if a loop watches, for room of another kind. */
void forkq__slots_tell_watchers(struct forkq__slots *slots);

#endif
