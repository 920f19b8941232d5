/* The mutex: libuv's, and the thread that owns it. */
#define _GNU_SOURCE
#include "base/mutex.h"

#include "base/os.h"
#include "base/times.h"

#include <errno.h>
#include <forkq/base.h>
#include <limits.h>

int forkq__mutex_init(struct forkq__mutex *mutex) {
  FORKQ__STORE(mutex->owner, 0);
  return uv_mutex_init(&mutex->mutex);
}

void forkq__mutex_fini(struct forkq__mutex *mutex) {
  uv_mutex_destroy(&mutex->mutex);
}

bool forkq__mutex_is_mine(const struct forkq__mutex *mutex) {
  return FORKQ__LOAD(mutex->owner) == pthread_self();
}

static void set_owner(struct forkq__mutex *mutex, pthread_t owner) {
  FORKQ__STORE(mutex->owner, owner);
}

static __attribute__((noinline)) int wait_for(struct forkq__mutex *mutex,
                                              int64_t deadline) {
  if (forkq__mutex_is_mine(mutex))
    return -EDEADLK;
  int64_t moment = forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS);
  if (deadline < moment)
    deadline = moment;
  if (deadline == FORKQ__FOREVER)
    uv_mutex_lock(&mutex->mutex);
  else if (forkq__os_clocklock(&mutex->mutex, deadline) != 0)
    return FORKQ_TIMEDOUT;
  set_owner(mutex, pthread_self());
  return 0;
}

int forkq__mutex_lock(struct forkq__mutex *mutex, int64_t deadline) {
  if (uv_mutex_trylock(&mutex->mutex) != 0)
    return wait_for(mutex, deadline);
  set_owner(mutex, pthread_self());
  return 0;
}

void forkq__mutex_unlock(struct forkq__mutex *mutex) {
  set_owner(mutex, 0);
  uv_mutex_unlock(&mutex->mutex);
}

void forkq__mutex_wait(struct forkq__mutex *mutex, struct forkq__condition *condition,
                       int64_t deadline) {
  uint32_t event = atomic_load(&condition->event);
  condition->waiters++;
  forkq__mutex_unlock(mutex);
  (void)forkq__os_futex_wait(&condition->event, event, deadline);
  uv_mutex_lock(&mutex->mutex);
  set_owner(mutex, pthread_self());
  condition->waiters--;
}

void forkq__mutex_wake(struct forkq__condition *condition) {
  atomic_fetch_add(&condition->event, 1);
  if (condition->waiters > 0)
    forkq__os_futex_wake(&condition->event, INT_MAX);
}
