/* Spinning: looking again and again for a short time before a thread sleeps. To wake a thread of
 * another CPU takes some 20 us. A thread that is awake when what it waits for comes saves that, and
 * uses a CPU meanwhile.
 *
 * A thread spins only while that pays: after spins in vain it sleeps at once for the next waits, for
 * more of them each time. If the process has a single CPU when it calls init, its
 * threads never spin, because nothing could come meanwhile. */
#ifndef FORKQ_SPIN_H
#define FORKQ_SPIN_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

/* How the threads of one process wait for one thing. */
struct forkq__spin {
  int64_t ns;             /* how long, at most; 0: not at all */
  _Atomic uint32_t skips; /* so many of the next waits are without */
  _Atomic uint32_t vain;  /* spins in vain since the last that paid */
};

/* `us`: how long, at most. */
void forkq__spin_init(struct forkq__spin *spin, uint64_t us);

/* Looks until `over` returns true, the time is over or the deadline. Returns the last result of
 * `over`. */
bool forkq__spin(struct forkq__spin *spin, bool (*over)(void *arg), void *arg,
                 int64_t deadline);

#endif
