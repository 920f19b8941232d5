/* Looking from time to time for what nobody announces: what the dead held, a wake-up that died
 * with the woken, somebody who is stopped.
 *
 * Many may wait for the same, and to wake a process costs a tenth of a millisecond. So there are
 * some seats, in shared memory; who has one looks often, and says from time to time that it still
 * has it; the others of a crowd look rarely. A seat whose owner has said nothing for a while, as
 * it was killed, is anybody's. And of those who look often one that comes just after another
 * leaves it at that. */
#ifndef FORKQ_LOOK_H
#define FORKQ_LOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FORKQ__SEATS 16

/* How much more rarely one without a seat looks. */
#define FORKQ__LOOK_CROWD 32

struct forkq__look_shared {
  _Atomic int64_t seats[FORKQ__SEATS]; /* when its owner last said so; 0: free */
  _Atomic int64_t looked;              /* when one with a seat last looked */
};

struct forkq__look {
  struct forkq__look_shared *shared;
  int seats;    /* of those that there are */
  int seat;     /* -1: none */
  int ms;       /* between two looks, with a seat */
  int last_ms;  /* what that grows to, by doubling */
  int64_t next; /* when it comes again */
};

/* The first look of one with a seat is due after `first_ms`. */
struct forkq__look forkq__look_begin(struct forkq__look_shared *shared, int seats,
                                     int first_ms, int last_ms);

/* Until when to wait now. */
int64_t forkq__look_until(struct forkq__look *look, int64_t deadline);

/* After the wait: whether it is time to look. */
bool forkq__look_due(struct forkq__look *look);

/* No more waiting. Whether one of a crowd is to be woken, to take over the seat. */
bool forkq__look_end(struct forkq__look *look);

#endif
