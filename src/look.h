/* Looking from time to time for what nobody announces: what the dead held, a wake-up that died
 * with the woken, somebody who is stopped.
 *
 * Many may wait for the same. Each of them comes so much more rarely that all together look about
 * as often as one would; and the time of the last look is shared, so one that comes just after
 * another leaves it at that. A process that is woken costs the system a tenth of a millisecond. */
#ifndef FORKQ_LOOK_H
#define FORKQ_LOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How rarely one of a crowd comes at last. */
#define FORKQ__LOOK_CROWD_MS 30000

struct forkq__look {
  int64_t next; /* when it comes again */
  int ms;       /* how long that is after the last time */
  int last_ms;  /* how long it is at last for one who waits alone */
};

/* The first look is due after `first_ms`, and then after twice that, up to `last_ms`. `waiting`:
 * how many wait, this one not counted; a few too many, that were killed, do no harm. */
void forkq__look_begin(struct forkq__look *look, int first_ms, int last_ms,
                       uint32_t waiting);

/* Until when to wait. */
int64_t forkq__look_deadline(const struct forkq__look *look, int64_t deadline);

/* Whether it is time to look. `looked` is shared; 0 at first. */
bool forkq__look_due(struct forkq__look *look, _Atomic int64_t *looked);

#endif
