/* What only glibc has, and what is done in its place: meson.build looks for each and says which there
 * are. docs/limits.md says what is lost without. */
#ifndef FORKQ_LIBC_H
#define FORKQ_LIBC_H

#include "base/atomics.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#ifdef FORKQ__HAS_GNU_GET_LIBC_VERSION
#  include <gnu/libc-version.h>
#endif
#ifdef FORKQ__HAS___LIBC_SINGLE_THREADED
#  include <sys/single_threaded.h>
#endif

/* The word of a robust mutex: the number of the owner's thread, and whether a thread waits. The kernel
 * reads this format when the owner dies (Documentation/locking/robust-futex-ABI.rst). */
static inline _Atomic uint32_t *forkq__libc_lock_word(pthread_mutex_t *mutex) {
  return (_Atomic uint32_t *)&mutex->FORKQ__LOCK_WORD;
}

/* The name of an errno, or NULL. */
static inline const char *forkq__libc_error_name(int error) {
#ifdef FORKQ__HAS_STRERRORNAME_NP
  return strerrorname_np(error);
#else
  (void)error;
  return NULL;
#endif
}

/* Name and version of the C library. musl does not tell its version. */
static inline void forkq__libc_describe(char *text, size_t size) {
#ifdef FORKQ__HAS_GNU_GET_LIBC_VERSION
  snprintf(text, size, "glibc %s", gnu_get_libc_version());
#else
  snprintf(text, size, "another");
#endif
}

static inline bool forkq__libc_has_threads(void) {
#ifdef FORKQ__HAS___LIBC_SINGLE_THREADED
  return !__libc_single_threaded;
#else
  return true; /* it may */
#endif
}

/* pthread_mutex_clocklock(3) on CLOCK_MONOTONIC. Without it the wait is on the clock that may be set, and
 * so it is a short one: the callers look again. */
static inline int forkq__libc_clocklock(pthread_mutex_t *mutex,
                                        const struct timespec *at) {
#ifdef FORKQ__HAS_PTHREAD_MUTEX_CLOCKLOCK
  return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, at);
#else
  const int64_t ns_per_s = 1000000000;
  struct timespec now, end;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t left = (at->tv_sec - now.tv_sec) * ns_per_s + at->tv_nsec - now.tv_nsec;
  clock_gettime(CLOCK_REALTIME, &end);
  int64_t ns = end.tv_nsec + (left > 0 ? left : 0);
  end.tv_sec += (time_t)(ns / ns_per_s);
  end.tv_nsec = (long)(ns % ns_per_s);
  return pthread_mutex_timedlock(mutex, &end);
#endif
}

/* Reads and writes with flags. Without them it is as on a kernel that does not know the flags. */
#ifndef FORKQ__HAS_PWRITEV2
#  ifndef RWF_NOWAIT
#    define RWF_NOWAIT 0x00000008
#  endif
static inline ssize_t forkq__libc_refuse(void) {
  errno = ENOSYS;
  return -1;
}
#  define pwritev2(fd, parts, count, at, flags)                                          \
    ((void)(fd), (void)(parts), (void)(count), forkq__libc_refuse())
#  define preadv2(fd, parts, count, at, flags)                                           \
    ((void)(fd), (void)(parts), (void)(count), forkq__libc_refuse())
#endif

#endif
