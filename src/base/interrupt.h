/* Interrupts of a queue (forkq_queue_interrupt), as one process has them.
 *
 * An interrupt ends one call of each thread: the call in which the thread is blocked, or else its
 * next call that would block. So an interrupt that comes just before a thread blocks is not lost,
 * and no thread takes the interrupt of another. Interrupts that a thread has not been told of
 * count as one.
 *
 * A thread looks for an interrupt before it sleeps and after it wakes, and then does what it does
 * when its time is over. So an interrupt adds no step to what the processes do with each other
 * (test/model). A thread sleeps
 *
 * - on a futex that others change when they wake it. The interrupt changes and wakes it as well;
 * - on a lock's word, which only its owners may change. Then it sleeps on `word`, too;
 * - in poll. Then it polls the event, too. */
#ifndef FORKQ_INTERRUPT_H
#define FORKQ_INTERRUPT_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

/* What one thread was told. */
struct forkq__told;

/* All zero at first. */
struct forkq__interrupts {
  _Atomic uint32_t count;  /* how many came */
  _Atomic uint32_t word;   /* changes with each call to the threads that sleep on it */
  _Atomic uint32_t before; /* as many came before this process was forked */
  _Atomic int
      early; /* the process, a child that was not put right yet (lifecycle.h), in which one came */
  _Atomic int
      event_fd; /* for threads that poll; 0: none, as numbers are above the standard streams' */
  _Atomic uint32_t pollers;
  _Atomic(struct forkq__told *) told; /* only ever grows */
};

/* Interrupts the threads that poll or sleep on `word`. Safe in a signal handler. The caller wakes those
 * that sleep elsewhere, after this. */
void forkq__interrupt(struct forkq__interrupts *interrupts);

/* Makes the threads look up that sleep on `word`. */
void forkq__interrupts_call(struct forkq__interrupts *interrupts);

/* Whether the calling thread was not told of an interrupt. */
bool forkq__interrupts_find(struct forkq__interrupts *interrupts);
static inline bool forkq__interrupted(struct forkq__interrupts *interrupts) {
  return atomic_load(&interrupts->count) != 0 && forkq__interrupts_find(interrupts);
}

/* Passes on the result of a call of the calling thread. If it is FORKQ_EINTERRUPTED, the thread is told
 * now. Not under a lock between processes, because this may allocate. */
int forkq__interrupts_tell(struct forkq__interrupts *interrupts, int result);

/* Makes the event, if there is none; it may fail. The caller sees to it that no other thread does so, and
 * that no fork comes between. */
void forkq__interrupts_equip(struct forkq__interrupts *interrupts);

/* For a thread that polls the event. begin_poll comes before its look for an interrupt, and end_poll after
 * the poll; `saw`: the event was readable. If it was, and the thread is not interrupted, other threads have
 * yet to see it. The thread then does not poll it for FORKQ__INTERRUPT_PAUSE_MS. */
void forkq__interrupts_begin_poll(struct forkq__interrupts *interrupts);
void forkq__interrupts_end_poll(struct forkq__interrupts *interrupts, bool saw);
#define FORKQ__INTERRUPT_PAUSE_MS 1

/* The descriptor of the event, or -1: then the thread polls for FORKQ__CANCEL_MS at most. */
static inline int forkq__interrupts_fd(struct forkq__interrupts *interrupts) {
  int fd = FORKQ__LOAD(interrupts->event_fd);
  return fd > 0 ? fd : -1;
}

/* In the child of a fork: the interrupts so far were the parent's, and so is the event. `identity`: what
 * an event is (forkq__os_identity). */
void forkq__interrupts_forked(struct forkq__interrupts *interrupts, uint64_t identity);

/* Frees the memory, and closes the event. */
void forkq__interrupts_fini(struct forkq__interrupts *interrupts, uint64_t identity);

#endif
