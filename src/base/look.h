/* Looking: periodic checks for events that no process announces: what dead processes held, a
 * wake-up that died with the woken process, a lock owner that is stopped.
 *
 * Many processes may wait for one event, and to wake a process costs a tenth of a millisecond.
 * So there are a few seats in shared memory. The owner of a seat looks often and stores the
 * time before each wait. The other waiters of a crowd look rarely. If an owner has stored no
 * time for a while, because it was killed, any waiter may take its seat. A waiter that comes
 * just after another one has looked skips its own look. */
#ifndef FORKQ_LOOK_H
#define FORKQ_LOOK_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

#define FORKQ__SEATS 16

/* A waiter without a seat looks this many times as rarely. */
#define FORKQ__LOOK_CROWD 32

struct forkq__look_shared {
  _Atomic int64_t seats[FORKQ__SEATS]; /* when the owner last stored the time; 0: free */
  _Atomic int64_t looked;              /* when a waiter last looked */
};

struct forkq__look {
  struct forkq__look_shared *shared;
  int seats;    /* how many of the shared seats are used */
  int seat;     /* the waiter's own; -1: none */
  int ms;       /* between two looks, with a seat */
  int last_ms;  /* what `ms` grows to, by doubling */
  int64_t next; /* when the next look is due */
};

/* Call before the first wait. With a seat, the first look is due after `first_ms`. */
struct forkq__look forkq__look_begin(struct forkq__look_shared *shared, int seats,
                                     int first_ms, int last_ms);

/* Call before each wait. Takes a seat, if one is free, and returns the time until which to
 * wait. */
int64_t forkq__look_until(struct forkq__look *look, int64_t deadline);

/* Call after each wait. Returns whether the caller must look now. */
bool forkq__look_due(struct forkq__look *look);

/* Call after the last wait. Gives the seat back. Returns true if all seats were taken: the
 * caller then wakes one waiter, which can take the seat. */
bool forkq__look_end(struct forkq__look *look);

#endif
