/* Preloaded by ./dev helgrind, which tells helgrind 3.19 what it does not know of robust locks.
 *
 * It has no word of pthread_mutex_clocklock: a lock that was taken by it is for helgrind one that
 * nobody holds, and its release an error. So it is made of pthread_mutex_timedlock here, whose
 * clock is that of the day. And it takes EOWNERDEAD for a failure, though the lock is held then:
 * it is told so, and its report is left out by helgrind.supp. What fails otherwise ends the test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <valgrind/helgrind.h>

#define NS_PER_S 1000000000L

static int told(pthread_mutex_t *mutex, int result) {
  if (result == EOWNERDEAD)
    VALGRIND_HG_MUTEX_LOCK_POST(mutex);
  else if (result != 0 && result != EBUSY && result != ETIMEDOUT)
    abort();
  return result;
}

int pthread_mutex_trylock(pthread_mutex_t *mutex) {
  static int (*next)(pthread_mutex_t *);
  if (next == NULL)
    *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_trylock");
  return told(mutex, next(mutex));
}

static struct timespec time_of_day(clockid_t clock, const struct timespec *at) {
  struct timespec now, day;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &day);
  day.tv_sec += at->tv_sec - now.tv_sec;
  day.tv_nsec += at->tv_nsec - now.tv_nsec;
  if (day.tv_nsec < 0) {
    day.tv_nsec += NS_PER_S;
    day.tv_sec--;
  } else if (day.tv_nsec >= NS_PER_S) {
    day.tv_nsec -= NS_PER_S;
    day.tv_sec++;
  }
  return day;
}

int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
                            const struct timespec *at) {
  struct timespec day = time_of_day(clock, at);
  return told(mutex, pthread_mutex_timedlock(mutex, &day));
}
