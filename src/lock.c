#define _GNU_SOURCE
#include "lock.h"

#include "log.h"
#include "os.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

/* A wake-up can be lost with a waiter that is killed on its way, if a third thread takes the
 * lock meanwhile: the kernel then sees an owner, and the owner no waiter (seen with glibc
 * 2.36). So nobody sleeps longer than this without looking. */
#define LOOK_MS 100

#if defined(__SANITIZE_THREAD__)
#  define UNDER_TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define UNDER_TSAN 1
#  endif
#endif

#ifdef UNDER_TSAN
#  include <sanitizer/tsan_interface.h>
#endif

/* ThreadSanitizer (gcc 12, clang 14) does not know pthread_mutex_clocklock: it is told. */
static int clocklock(pthread_mutex_t *mutex, int64_t deadline) {
  struct timespec at = forkq__os_timespec(deadline);
#ifdef UNDER_TSAN
  __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
#endif
  int r = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &at);
#ifdef UNDER_TSAN
  bool got = r == 0 || r == EOWNERDEAD;
  __tsan_mutex_post_lock(
      mutex, __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed), 0);
#endif
  return r;
}

int forkq__lock_init(struct forkq__lock *lock) {
  pthread_mutexattr_t attr;
  int r = pthread_mutexattr_init(&attr);
  if (r != 0)
    return -r;
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  r = pthread_mutex_init(&lock->mutex, &attr);
  pthread_mutexattr_destroy(&attr);
  return -r;
}

/* The result of a pthread lock call as ours, after the repair if one is due. */
static int settle(struct forkq__lock *lock, int result, forkq__repair_fn repair,
                  void *arg) {
  switch (result) {
  case 0:
    return 0;
  case EOWNERDEAD:
    repair(arg);
    /* model: lock_consistent */
    pthread_mutex_consistent(&lock->mutex);
    forkq__log(FORKQ_LOG_INFO, "recovered a lock whose owner died");
    return 0;
  case EBUSY:
    return FORKQ__BUSY;
  case ETIMEDOUT:
    return FORKQ_TIMEDOUT;
  default:
    return FORKQ_EBROKEN;
  }
}

int forkq__lock_acquire(struct forkq__lock *lock, int64_t deadline,
                        forkq__repair_fn repair, void *arg) {
  int r = pthread_mutex_trylock(&lock->mutex);
  while (r == EBUSY || (r == ETIMEDOUT && forkq__os_now() < deadline))
    r = clocklock(&lock->mutex, forkq__os_deadline_within(deadline, LOOK_MS));
  return settle(lock, r, repair, arg);
}

int forkq__lock_try(struct forkq__lock *lock, forkq__repair_fn repair, void *arg) {
  return settle(lock, pthread_mutex_trylock(&lock->mutex), repair, arg);
}

void forkq__lock_release(struct forkq__lock *lock) {
  /* model: lock_release */
  pthread_mutex_unlock(&lock->mutex);
}
