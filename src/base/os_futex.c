/* Sleeping on a word of memory, and waking. */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/os_impl.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/time_types.h>
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

/* Whether the kernel has refused futex_waitv(2). */
static _Atomic bool one_only;

bool forkq__os_futex_waits_for_one(void) {
  return atomic_load(&one_only);
}

/* The headers of Linux 5.16, and a C library that has the number of the call. */
#if defined FUTEX_32 && defined SYS_futex_waitv
/* Returns 0, or the errno. As wait_cancellable. */
static __attribute__((noinline)) int wait_either(struct futex_waitv *words,
                                                 int64_t deadline) {
  const struct timespec at = forkq__os_timespec(deadline);
  const struct __kernel_timespec until = { at.tv_sec, at.tv_nsec };
  int type;
  /* NOLINTNEXTLINE(cert-pos47-c,concurrency-thread-canceltype-asynchronous): see above */
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  long r = syscall(SYS_futex_waitv, words, 2, 0,
                   deadline == FORKQ__FOREVER ? NULL : &until, CLOCK_MONOTONIC);
  int error = errno;
  pthread_setcanceltype(type, NULL);
  (void)poll(NULL, 0, 0);
  return r == -1 ? error : 0;
}

static struct futex_waitv waitv_of(struct forkq__futex futex) {
  return (struct futex_waitv){ .val = futex.expected,
                               .uaddr = (uintptr_t)futex.word,
                               .flags = FUTEX_32 };
}

static bool try_either(struct forkq__futex first, struct forkq__futex second,
                       int64_t deadline, int *ret_result) {
  if (forkq__os_futex_waits_for_one())
    return false;
  struct futex_waitv words[] = { waitv_of(first), waitv_of(second) };
  int error = wait_either(words, deadline);
  if (error != 0 && forkq__os_is_refusal(-error)) {
    atomic_store(&one_only, true);
    return false;
  }
  *ret_result = error == ETIMEDOUT ? -ETIMEDOUT : 0;
  return true;
}
#else
static bool try_either(struct forkq__futex first, struct forkq__futex second,
                       int64_t deadline, int *ret_result) {
  (void)first, (void)second, (void)deadline, (void)ret_result;
  atomic_store(&one_only, true);
  return false;
}
#endif

int forkq__os_futex_wait_either(struct forkq__futex first, struct forkq__futex second,
                                int64_t deadline, uint32_t bits) {
  int r;
  if (try_either(first, second, deadline, &r))
    return r;
  if (atomic_load(second.word) != second.expected)
    return 0;
  return forkq__os_futex_wait_cancellable(first.word, first.expected, deadline, bits);
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
