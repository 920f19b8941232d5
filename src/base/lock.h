/* A lock between processes that survives the death of its owner.
 *
 * A robust, process-shared mutex (pthread_mutexattr_setrobust(3)). Whoever takes it after an
 * owner died calls `repair` before anything else, with the lock held; the next owner after a
 * death in repair calls it again, so a repair must be able to run twice. */
#ifndef FORKQ_LOCK_H
#define FORKQ_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* Whether such a lock works in this thread. It belongs to a thread by the number that the C library
 * knows, and the kernel frees it if that is the number of the thread that ends: 0; FORKQ_ENAMESPACE
 * if they differ, as in a child of clone(2) that the library does not know of; FORKQ_ENOROBUST if
 * the kernel does not free it, as an emulator may. */
int forkq__lock_check(void);

struct forkq__lock {
  pthread_mutex_t mutex;
};

typedef void (*forkq__repair_fn)(void *arg);

/* In shared memory. 0 or a negative errno. */
int forkq__lock_init(struct forkq__lock *lock);

/* 0, FORKQ_TIMEDOUT or FORKQ_EBROKEN. */
int forkq__lock_acquire(struct forkq__lock *lock, int64_t deadline,
                        forkq__repair_fn repair, void *arg);

/* For a lock that is kept for long. `waiting` is shared beside it: how many wait, or were killed
 * there, which costs the others a system call now and then. `bits` is what hasten tells the threads
 * of a process by, which then return FORKQ_TIMEDOUT; so do those that wake wakes, one at a time, and
 * any other may at any time. A cancellation point. */
int forkq__lock_await(struct forkq__lock *lock, _Atomic uint32_t *waiting, uint32_t bits,
                      int64_t deadline, forkq__repair_fn repair, void *arg);
void forkq__lock_hasten(struct forkq__lock *lock, uint32_t bits);
void forkq__lock_wake(struct forkq__lock *lock);

/* 0, FORKQ__BUSY or FORKQ_EBROKEN; never waits. */
int forkq__lock_try(struct forkq__lock *lock, forkq__repair_fn repair, void *arg);

void forkq__lock_release(struct forkq__lock *lock);

#endif
