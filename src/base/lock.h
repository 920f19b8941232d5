/* A lock between processes that survives the death of its owner.
 *
 * It is a robust, process-shared mutex (pthread_mutexattr_setrobust(3)). After an owner died,
 * the next owner calls `repair` before anything else, with the lock held. If that owner dies in
 * the repair, the one after it calls `repair` again. So a repair must be able to run twice. */
#ifndef FORKQ_LOCK_H
#define FORKQ_LOCK_H

#include "base/os.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Checks that such a lock works in this thread. The C library writes the thread number that it
 * knows into the lock, and the kernel frees the lock if the thread that ends has this number.
 * Returns 0, or:
 *   FORKQ_ENAMESPACE  the numbers differ, as in a child of clone(2) that the library does not know
 *   FORKQ_ENOROBUST   the kernel does not free the lock, as under some emulators
 *   other             a negative errno */
int forkq__lock_check(void);

struct forkq__lock {
  pthread_mutex_t mutex;
};

typedef void (*forkq__repair_fn)(void *arg);

/* Initializes a lock in shared memory. Returns 0 or a negative errno. */
int forkq__lock_init(struct forkq__lock *lock);

/* Returns 0, FORKQ_TIMEDOUT or FORKQ_EBROKEN. Blocks until the deadline. */
int forkq__lock_acquire(struct forkq__lock *lock, int64_t deadline,
                        forkq__repair_fn repair, void *arg);

/* The waiters for a lock that its owner keeps for long. */
struct forkq__waiters {
  /* How many there are; shared, beside the lock. It also counts waiters that were killed, which
   * costs the others a system call now and then. */
  _Atomic uint32_t *count;
  uint32_t
      bits; /* identify the threads of this process, where `call` does not wake them */
  /* A word of this process. It changes when its threads are to look at something other than the lock. */
  struct forkq__futex call;
};

/* await returns as acquire. It may return FORKQ_TIMEDOUT before the deadline at any time, and
 * does so if the lock is still held after a wake-up, and once `call` has changed. It is a cancellation
 * point. hasten wakes all waiters that have one of these bits, where they do not wait for `call`. wake
 * wakes one waiter. */
int forkq__lock_await(struct forkq__lock *lock, struct forkq__waiters waiters,
                      int64_t deadline, forkq__repair_fn repair, void *arg);
void forkq__lock_hasten(struct forkq__lock *lock, uint32_t bits);
void forkq__lock_wake(struct forkq__lock *lock);

/* Returns 0, FORKQ__BUSY or FORKQ_EBROKEN. Never blocks. */
int forkq__lock_try(struct forkq__lock *lock, forkq__repair_fn repair, void *arg);

void forkq__lock_release(struct forkq__lock *lock);

/* Whether this thread has the lock; for contracts only (contract.h). */
bool forkq__lock_is_mine(const struct forkq__lock *lock);

#endif
