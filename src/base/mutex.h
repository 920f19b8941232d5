/* A mutex between the threads of this process, with a deadline and an owner. A thread that already
 * holds it gets -EDEADLK: it is in a signal handler that interrupted a call, or in a fork handler
 * of the program that runs while forkq holds its mutexes for the fork. */
#ifndef FORKQ_MUTEX_H
#define FORKQ_MUTEX_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct forkq__mutex {
  uv_mutex_t mutex;
  _Atomic(pthread_t) owner; /* 0: no thread, or one that is just taking or releasing it */
};

/* Returns 0 or a negative errno. */
int forkq__mutex_init(struct forkq__mutex *mutex);
void forkq__mutex_fini(struct forkq__mutex *mutex);

/* Returns 0, FORKQ_TIMEDOUT, or -EDEADLK if the calling thread holds the mutex. Blocks until
 * the deadline, but at least for FORKQ__MOMENT_MS: threads hold the mutex for microseconds, or
 * longer while they look for the dead, and the deadline is for room or for an item. */
int forkq__mutex_lock(struct forkq__mutex *mutex, int64_t deadline);
void forkq__mutex_unlock(struct forkq__mutex *mutex);

bool forkq__mutex_is_mine(const struct forkq__mutex *mutex);

/* A condition variable for this mutex, all zero at first. In the C library's condition
 * variables, a thread that signals waits until the threads woken before have left. One of them
 * may be interrupted by a signal handler that does not return. */
struct forkq__condition {
  _Atomic uint32_t event; /* changes with each wake-up */
  uint32_t waiters;
};

/* The caller holds the mutex. wait releases it, waits for a wake until the deadline, and takes
 * the mutex again. It may return early. It is not a cancellation point. */
void forkq__mutex_wait(struct forkq__mutex *mutex, struct forkq__condition *condition,
                       int64_t deadline);
void forkq__mutex_wake(struct forkq__condition *condition);

#endif
