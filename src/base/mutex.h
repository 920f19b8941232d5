/* A mutex between the threads of this process, for which nobody has to wait without an end: a
 * thread waits until its deadline, and one that has it already is told so. That one is in a
 * signal handler that has interrupted a call, or in a fork handler of the program's that runs
 * while forkq holds its mutexes across the fork. */
#ifndef FORKQ_MUTEX_H
#define FORKQ_MUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* It is held for microseconds. Who does not wait, or goes on without it in the end, waits this
 * long. */
#define FORKQ__MUTEX_MS 100

struct forkq__mutex {
  uv_mutex_t mutex;
  _Atomic(pthread_t) owner; /* 0: nobody, or a thread that has just got it */
};

/* 0 or a negative errno. */
int forkq__mutex_init(struct forkq__mutex *mutex);
void forkq__mutex_fini(struct forkq__mutex *mutex);

/* 0, FORKQ_TIMEDOUT, or -EDEADLK if the calling thread has it. With FORKQ__NOWAIT it waits for
 * FORKQ__MUTEX_MS. */
int forkq__mutex_lock(struct forkq__mutex *mutex, int64_t deadline);
void forkq__mutex_unlock(struct forkq__mutex *mutex);

bool forkq__mutex_is_mine(const struct forkq__mutex *mutex);

/* What threads wait for with the mutex; all zero at first. The C library's condition variables would
 * not do: who wakes waits there until those that were woken before have left, and one of them may
 * be interrupted by a signal handler that does not return. */
struct forkq__condition {
  _Atomic uint32_t event; /* changes with each wake-up */
  uint32_t waiters;
};

/* Both with the mutex. wait lets go of it and waits for the condition until the deadline; has the
 * mutex again when it returns. Its waits may end early. It is no cancellation point. */
void forkq__mutex_wait(struct forkq__mutex *mutex, struct forkq__condition *condition,
                       int64_t deadline);
void forkq__mutex_wake(struct forkq__condition *condition);

#endif
