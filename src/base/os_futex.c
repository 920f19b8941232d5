/* Sleeping on a word of memory, and waking. */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/os_impl.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(time_t) == sizeof(long),
               "the system call takes the C library's time");

/* FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC (futex(2)). */
static long futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline,
                       uint32_t bits) {
  struct timespec at = forkq__os_timespec(deadline);
  return syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                 deadline == FORKQ__FOREVER ? NULL : &at, NULL, bits);
}

int forkq__os_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline) {
  long r = futex_wait(word, expected, deadline, FORKQ__ANY_BITS);
  return r == -1 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

/* Cancellation is asynchronous only around the system call, as at the C library's own
 * cancellation points. The function must have nothing to clean up: the compiler does not see
 * that a thread can end in the system call, only that it can end in the call of this function.
 *
 * After the wait, the signal of a cancellation may still be on its way. glibc (2.36) acts on it
 * if it comes in any system call that may be cancelled, even if cancellation is disabled by
 * then. glibc's own functions wait for the signal before they return. So one of them, poll,
 * follows. */
int __attribute__((noinline))
forkq__os_futex_wait_cancellable(_Atomic uint32_t *word, uint32_t expected,
                                 int64_t deadline, uint32_t bits) {
  int type;
  /* NOLINTNEXTLINE(cert-pos47-c,concurrency-thread-canceltype-asynchronous): see above */
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  long r = futex_wait(word, expected, deadline, bits);
  int error = errno;
  pthread_setcanceltype(type, NULL);
  (void)poll(NULL, 0, 0);
  return r == -1 && error == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void forkq__os_futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

void forkq__os_futex_wake_some(_Atomic uint32_t *word, uint32_t bits) {
  syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

uint32_t forkq__os_process_bit(void) {
  return UINT32_C(1) << (getpid() % 32);
}

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

/* ThreadSanitizer (gcc 12, clang 14) does not know pthread_mutex_clocklock, so it is told. */
int forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline) {
  struct timespec at = forkq__os_timespec(deadline);
#ifdef UNDER_TSAN
  __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
#endif
  int r = forkq__libc_clocklock(mutex, &at);
#ifdef UNDER_TSAN
  bool got = r == 0 || r == EOWNERDEAD;
  __tsan_mutex_post_lock(
      mutex, __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed), 0);
#endif
  return r;
}
