/* A lock between processes that survives the death of its owner.
 *
 * A robust, process-shared mutex (pthread_mutexattr_setrobust(3)). Whoever takes it after an
 * owner died calls `repair` before anything else, with the lock held; the next owner after a
 * death in repair calls it again, so a repair must be able to run twice. */
#ifndef FORKQ_LOCK_H
#define FORKQ_LOCK_H

#include <pthread.h>
#include <stdint.h>

struct forkq__lock {
  pthread_mutex_t mutex;
};

typedef void (*forkq__repair_fn)(void *arg);

/* In shared memory. 0 or a negative errno. */
int forkq__lock_init(struct forkq__lock *lock);

/* 0, FORKQ_TIMEDOUT or FORKQ_EBROKEN. */
int forkq__lock_acquire(struct forkq__lock *lock, int64_t deadline,
                        forkq__repair_fn repair, void *arg);

/* 0, FORKQ__BUSY or FORKQ_EBROKEN; never waits. */
int forkq__lock_try(struct forkq__lock *lock, forkq__repair_fn repair, void *arg);

void forkq__lock_release(struct forkq__lock *lock);

#endif
