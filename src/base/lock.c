/* The robust lock, and waiting for a lock that its owner keeps for long.
 *
 * forkq__lock_await sleeps on the mutex's word itself, because a thread of this process could
 * not be called back from pthread_mutex_lock(3). A waiter announces the lock to the kernel,
 * sets FUTEX_WAITERS in the word, sleeps, and then tries the lock. A waiter that is killed
 * after it was woken leaves its announcement, and the kernel wakes the next one. A waiter that
 * is cancelled wakes the next one itself. */
#define _GNU_SOURCE
#include "base/lock.h"

#include "base/contract.h"
#include "base/libc.h"
#include "base/os.h"

#include <errno.h>
#include <forkq/base.h>
#include <linux/futex.h>
#include <stdbool.h>

/* A wake-up can be lost: one waiter is woken and killed before it takes the lock, and a third
 * thread takes the lock meanwhile. The kernel then sees an owner, and the owner sees no waiter
 * (glibc 2.36). So no thread sleeps longer than this without looking at the lock. */
#define LOOK_MS 100

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

static _Atomic uint32_t *word_of(struct forkq__lock *lock) {
  return forkq__libc_lock_word(&lock->mutex);
}

/* Whether the C library knows the caller's thread number: it writes the number into a mutex
 * that the thread locks. */
static bool is_known_thread(struct forkq__lock *lock) {
  pthread_mutex_lock(&lock->mutex);
  bool known =
      (atomic_load(word_of(lock)) & FUTEX_TID_MASK) == (uint32_t)forkq__os_thread();
  pthread_mutex_unlock(&lock->mutex);
  return known;
}

static void *lock_and_end(void *lock) {
  pthread_mutex_lock(&((struct forkq__lock *)lock)->mutex);
  return NULL;
}

/* Whether the kernel frees a lock when its thread ends: a thread ends with the lock. For
 * kernels that do not report the list of robust mutexes. */
static bool is_freed_at_end(struct forkq__lock *lock) {
  pthread_t thread;
  int state;
  if (pthread_create(&thread, NULL, lock_and_end, lock) != 0)
    return true; /* not testable, and nothing says that locks do not work */
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  pthread_join(thread, NULL);
  pthread_setcancelstate(state, NULL);
  int r = pthread_mutex_trylock(&lock->mutex);
  if (r == EOWNERDEAD)
    pthread_mutex_consistent(&lock->mutex);
  if (r == EOWNERDEAD || r == 0)
    pthread_mutex_unlock(&lock->mutex);
  return r == EOWNERDEAD;
}

int forkq__lock_check(void) {
  struct forkq__lock lock;
  int r = forkq__lock_init(&lock);
  if (r < 0)
    return r;
  void *list = NULL;
  /* First, because musl tells the kernel of the list when the thread takes its first lock. */
  bool known = is_known_thread(&lock);
  int error = forkq__os_robust_list(&list);
  if (!known)
    r = FORKQ_ENAMESPACE;
  else if (error == 0 ? list == NULL : !is_freed_at_end(&lock))
    r = FORKQ_ENOROBUST;
  pthread_mutex_destroy(&lock.mutex);
  return r;
}

#ifdef FORKQ__CONTRACTS
/* More than a thread has at a time. In the child of a fork, a lock of the parent may be among
 * them, which the child does not have. */
#  define MINE_MAX 8

static _Thread_local const struct forkq__lock *mine[MINE_MAX] FORKQ__TLS;

static bool replace(const struct forkq__lock *old, const struct forkq__lock *new) {
  for (int i = 0; i < MINE_MAX; i++)
    if (mine[i] == old) {
      mine[i] = new;
      return true;
    }
  return false;
}

bool forkq__lock_is_mine(const struct forkq__lock *lock) {
  return replace(lock, lock);
}

static void note_taken(const struct forkq__lock *lock) {
  FORKQ__CHECK(replace(NULL, lock));
}

static void note_released(const struct forkq__lock *lock) {
  FORKQ__CHECK(replace(lock, NULL));
}
#else
static void note_taken(const struct forkq__lock *lock) {
  (void)lock;
}

static void note_released(const struct forkq__lock *lock) {
  (void)lock;
}
#endif

/* Converts the result of a pthread lock call. Repairs first, if the owner died. */
static int settle(struct forkq__lock *lock, int result, forkq__repair_fn repair,
                  void *arg) {
  switch (result) {
  case 0:
    note_taken(lock);
    return 0;
  case EOWNERDEAD:
    note_taken(lock);
    repair(arg);
    /* model: lock_consistent */
    pthread_mutex_consistent(&lock->mutex);
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
    r = forkq__os_clocklock(&lock->mutex, forkq__os_deadline_within(deadline, LOOK_MS));
  return settle(lock, r, repair, arg);
}

/* Announces to the kernel which lock this thread is just taking, in its list of robust mutexes;
 * NULL: none. If the thread is killed after it was woken, the kernel wakes the next waiter in
 * its place (handle_futex_death; for a mutex whose owner died, since Linux 6.2).
 * pthread_mutex_lock does the same. */
static void set_pending(struct forkq__lock *lock) {
  static _Thread_local struct robust_list_head *head FORKQ__TLS;
  if (head == NULL && forkq__os_robust_list((void **)&head) != 0)
    return;
  if (head != NULL)
    head->list_op_pending =
        lock != NULL ? (struct robust_list *)((char *)word_of(lock) - head->futex_offset)
                     : NULL;
  atomic_signal_fence(memory_order_seq_cst);
}

/* Sleeps until the lock is free, or may be. */
static void sleep_until_free(struct forkq__lock *lock, struct forkq__waiters waiters,
                             int64_t deadline) {
  _Atomic uint32_t *word = word_of(lock);
  uint32_t seen = atomic_load(word);
  if ((seen & FUTEX_TID_MASK) == 0)
    return;
  if (!(seen & FUTEX_WAITERS) &&
      !atomic_compare_exchange_strong(word, &seen, seen | FUTEX_WAITERS))
    return;
  (void)forkq__os_futex_wait_either((struct forkq__futex){ word, seen | FUTEX_WAITERS },
                                    waiters.call, deadline, waiters.bits);
}

struct wait {
  struct forkq__lock *lock;
  _Atomic uint32_t *waiting;
};

/* A cancelled thread may have been woken, so it wakes the next waiter. */
static void cancel_wait(void *arg) {
  const struct wait *wait = arg;
  set_pending(NULL);
  atomic_fetch_sub(wait->waiting, 1);
  forkq__lock_wake(wait->lock);
}

/* Sleeps, then tries. Returns the result of pthread_mutex_trylock(3). */
static int wait_and_try(struct forkq__lock *lock, struct forkq__waiters waiters,
                        int64_t deadline) {
  struct wait wait = { lock, waiters.count };
  atomic_fetch_add(waiters.count, 1);
  set_pending(lock);
  pthread_cleanup_push(cancel_wait, &wait);
  sleep_until_free(lock, waiters, deadline);
  pthread_cleanup_pop(0);
  int r = pthread_mutex_trylock(&lock->mutex); /* also clears the announced lock */
  set_pending(NULL);
  atomic_fetch_sub(waiters.count, 1);
  return r;
}

int forkq__lock_await(struct forkq__lock *lock, struct forkq__waiters waiters,
                      int64_t deadline, forkq__repair_fn repair, void *arg) {
  int r = pthread_mutex_trylock(&lock->mutex);
  if (r == EBUSY)
    r = wait_and_try(lock, waiters, deadline);
  if (r == EBUSY)
    return FORKQ_TIMEDOUT;
  /* Other waiters may still sleep, and the owner has taken the word without FUTEX_WAITERS. With
   * this bit, the release or the death of this owner wakes one of them. */
  if ((r == 0 || r == EOWNERDEAD) && atomic_load(waiters.count) > 0)
    atomic_fetch_or(word_of(lock), FUTEX_WAITERS);
  return settle(lock, r, repair, arg);
}

void forkq__lock_wake(struct forkq__lock *lock) {
  forkq__os_futex_wake(word_of(lock), 1);
}

void forkq__lock_hasten(struct forkq__lock *lock, uint32_t bits) {
  if (forkq__os_futex_waits_for_one())
    forkq__os_futex_wake_some(word_of(lock), bits);
}

int forkq__lock_try(struct forkq__lock *lock, forkq__repair_fn repair, void *arg) {
  return settle(lock, pthread_mutex_trylock(&lock->mutex), repair, arg);
}

void forkq__lock_release(struct forkq__lock *lock) {
  note_released(lock);
  /* model: lock_release */
  pthread_mutex_unlock(&lock->mutex);
}
