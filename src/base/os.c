/* Time, polling, cancellation, threads and signals. */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/os_impl.h"
#include "base/times.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

int64_t forkq__os_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t forkq__os_deadline(int timeout_ms) {
  if (timeout_ms < 0)
    return FORKQ__FOREVER;
  if (timeout_ms == 0)
    return FORKQ__NOWAIT;
  return forkq__os_now() + timeout_ms * FORKQ__NS_PER_MS;
}

int64_t forkq__os_deadline_within(int64_t deadline, int ms) {
  int64_t soon = forkq__os_now() + ms * FORKQ__NS_PER_MS;
  return soon < deadline ? soon : deadline;
}

void forkq__os_cancellation_point(void (*leave)(void *arg), void *arg) {
  if (leave == NULL) {
    pthread_testcancel();
    return;
  }
  pthread_cleanup_push(leave, arg);
  pthread_testcancel();
  pthread_cleanup_pop(0);
}

struct timespec forkq__os_timespec(int64_t ns) {
  return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S),
                            .tv_nsec = (long)(ns % NS_PER_S) };
}

static int poll_until(struct pollfd *fds, nfds_t count, int64_t deadline) {
  for (;;) {
    struct timespec left = { 0, 0 };
    if (deadline != FORKQ__FOREVER && deadline != FORKQ__NOWAIT) {
      int64_t ns = deadline - forkq__os_now();
      left = forkq__os_timespec(ns > 0 ? ns : 0);
    }
    int r = ppoll(fds, count, deadline == FORKQ__FOREVER ? NULL : &left, NULL);
    if (r >= 0)
      return r;
    if (errno != EINTR)
      return -errno;
  }
}

int forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = poll_until(fds, count, deadline);
  pthread_setcancelstate(state, NULL);
  return r;
}

int forkq__os_poll_cancellable(struct pollfd *fds, nfds_t count, int64_t deadline,
                               void (*leave)(void *arg), void *arg) {
  if (leave == NULL)
    return poll_until(fds, count, deadline);
  int r;
  pthread_cleanup_push(leave, arg);
  r = poll_until(fds, count, deadline);
  pthread_cleanup_pop(0);
  return r;
}

bool forkq__os_has_threads(void) {
  return forkq__libc_has_threads();
}

/* For the first thread, the C library asks the kernel, by reading a file. */
static bool own_stack(uintptr_t *ret_begin, size_t *ret_size) {
  pthread_attr_t attr;
  void *begin = NULL;
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  bool known = pthread_getattr_np(pthread_self(), &attr) == 0;
  if (known) {
    known = pthread_attr_getstack(&attr, &begin, ret_size) == 0;
    pthread_attr_destroy(&attr);
  }
  pthread_setcancelstate(state, NULL);
  *ret_begin = (uintptr_t)begin;
  return known;
}

bool forkq__os_on_stack(const void *const *places, size_t count) {
  uintptr_t begin;
  size_t size;
  if (!own_stack(&begin, &size))
    return false;
  for (size_t i = 0; i < count; i++)
    if ((uintptr_t)places[i] - begin >= size)
      return false;
  return true;
}

void forkq__os_signals_block(void *ret_old_mask) {
  _Static_assert(sizeof(sigset_t) <= FORKQ__SIGNAL_MASK_SIZE, "mask fits");
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  memcpy(ret_old_mask, &old, sizeof old);
}

void forkq__os_signals_restore(const void *old_mask) {
  sigset_t old;
  memcpy(&old, old_mask, sizeof old);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}
