/* The lock: owners, waiters and repairs that are killed. */
#define _GNU_SOURCE
#include "base/lock.h"
#include "base/os.h"
#include "support.h"

#include <errno.h>
#include <forkq/base.h>
#include <signal.h>
#include <unistd.h>

static struct shared {
  struct forkq__lock lock;
  _Atomic int repairs;
  _Atomic int flag; /* a child has come where it should */
  _Atomic int owners;
  _Atomic int entered;
  long counter; /* guarded by the lock */
} * shared;

static void set_up(void) {
  shared = support_shared(sizeof *shared);
  ck_assert_int_eq(forkq__lock_init(&shared->lock), 0);
}

static void count_repair(void *arg) {
  support_assert(arg == &shared->repairs);
  atomic_fetch_add(&shared->repairs, 1);
}

static int acquire(int64_t deadline) {
  return forkq__lock_acquire(&shared->lock, deadline, count_repair, &shared->repairs);
}

static int acquire_within(int ms) {
  return acquire(forkq__os_deadline(ms));
}

static int try(void) {
  return forkq__lock_try(&shared->lock, count_repair, &shared->repairs);
}

/* ---- children ---------------------------------------------------------------------- */

static void hold(void *arg) {
  (void)arg;
  CHILD_MUST(acquire(FORKQ__FOREVER) == 0);
  atomic_store(&shared->flag, 1);
  for (;;)
    pause();
}

static pid_t holder(void) {
  atomic_store(&shared->flag, 0);
  pid_t child = support_fork(hold, NULL);
  support_until(&shared->flag);
  return child;
}

static void leave_to_the_next(void) {
  support_kill_and_wait(holder());
}

static void die_in_repair(void *arg) {
  (void)arg;
  atomic_fetch_add(&shared->repairs, 1);
  raise(SIGKILL);
}

static void acquire_and_die_in_repair(void *arg) {
  (void)arg;
  (void)forkq__lock_acquire(&shared->lock, FORKQ__FOREVER, die_in_repair, NULL);
}

static void acquire_and_release(void *arg) {
  (void)arg;
  CHILD_MUST(acquire_within(10000) == 0);
  forkq__lock_release(&shared->lock);
}

/* ---- tests ------------------------------------------------------------------------- */

START_TEST(it_excludes) {
  pid_t child = holder();
  ck_assert_int_eq(try(), FORKQ__BUSY);
  ck_assert_int_eq(acquire_within(1), FORKQ_TIMEDOUT);
  support_kill_and_wait(child);
}
END_TEST

static void add_many(void *arg) {
  (void)arg;
  for (int i = 0; i < 100000; i++) {
    CHILD_MUST(acquire(FORKQ__FOREVER) == 0);
    shared->counter++;
    forkq__lock_release(&shared->lock);
  }
}

START_TEST(two_processes_take_turns) {
  pid_t children[] = { support_fork(add_many, NULL), support_fork(add_many, NULL) };
  ck_assert_int_eq(support_wait(children[0]), 0);
  ck_assert_int_eq(support_wait(children[1]), 0);
  ck_assert_int_eq(shared->counter, 200000);
  ck_assert_int_eq(shared->repairs, 0);
}
END_TEST

START_TEST(after_a_death_the_next_owner_repairs_once) {
  for (int round = 1; round <= 20; round++) {
    leave_to_the_next();
    ck_assert_int_eq(round % 2 ? acquire(FORKQ__FOREVER) : acquire_within(10000), 0);
    ck_assert_int_eq(shared->repairs, round);
    forkq__lock_release(&shared->lock);
    ck_assert_int_eq(acquire(FORKQ__FOREVER), 0);
    forkq__lock_release(&shared->lock);
    ck_assert_int_eq(try(), 0);
    forkq__lock_release(&shared->lock);
    ck_assert_int_eq(shared->repairs, round);
  }
}
END_TEST

START_TEST(who_tries_repairs_as_well) {
  leave_to_the_next();
  ck_assert_int_eq(try(), 0);
  ck_assert_int_eq(shared->repairs, 1);
  forkq__lock_release(&shared->lock);
  ck_assert_int_eq(support_wait(support_fork(acquire_and_release, NULL)), 0);
  ck_assert_int_eq(shared->repairs, 1);
}
END_TEST

/* Who is dead and not yet waited for has let go as well. */
START_TEST(a_zombie_holds_nothing) {
  pid_t child = holder();
  support_kill(child);
  ck_assert_int_eq(acquire_within(10000), 0);
  ck_assert_int_eq(shared->repairs, 1);
  forkq__lock_release(&shared->lock);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
}
END_TEST

START_TEST(a_stopped_owner_still_has_it) {
  pid_t child = holder();
  support_stop(child);
  ck_assert_int_eq(try(), FORKQ__BUSY);
  ck_assert_int_eq(acquire_within(20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(shared->repairs, 0);
  support_kill_and_wait(child);
}
END_TEST

START_TEST(a_death_in_repair_makes_the_next_repair_again) {
  leave_to_the_next();
  for (int i = 1; i <= 3; i++) {
    pid_t child = support_fork(acquire_and_die_in_repair, NULL);
    ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
    ck_assert_int_eq(shared->repairs, i);
  }
  ck_assert_int_eq(acquire_within(10000), 0);
  ck_assert_int_eq(shared->repairs, 4);
  forkq__lock_release(&shared->lock);
  ck_assert_int_eq(try(), 0);
  ck_assert_int_eq(shared->repairs, 4);
}
END_TEST

static void acquire_briefly(void *arg) {
  (void)arg;
  CHILD_MUST(acquire_within(20) == FORKQ_TIMEDOUT);
}

static void repair_while_another_asks(void *arg) {
  (void)arg;
  atomic_store(&shared->entered,
               support_wait(support_fork(acquire_briefly, NULL)) == 0 ? 1 : -1);
}

START_TEST(repair_runs_with_the_lock_held) {
  leave_to_the_next();
  ck_assert_int_eq(
      forkq__lock_acquire(&shared->lock, FORKQ__FOREVER, repair_while_another_asks, NULL),
      0);
  ck_assert_int_eq(shared->entered, 1);
}
END_TEST

START_TEST(the_deadline_is_kept) {
  pid_t child = holder();
  static const int timeouts[] = { 1, 30, 100 };
  for (int i = 0; i < 3; i++) {
    int64_t start = forkq__os_now();
    ck_assert_int_eq(acquire_within(timeouts[i]), FORKQ_TIMEDOUT);
    int64_t took = forkq__os_now() - start;
    ck_assert_int_ge(took, timeouts[i] * INT64_C(1000000));
    ck_assert_int_lt(took, INT64_C(5000000000));
  }
  support_kill_and_wait(child);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_a_try) {
  ck_assert_int_eq(acquire(FORKQ__NOWAIT), 0);
  forkq__lock_release(&shared->lock);
  ck_assert_int_eq(acquire(1), 0);
  forkq__lock_release(&shared->lock);
  pid_t child = holder();
  ck_assert_int_eq(acquire(FORKQ__NOWAIT), FORKQ_TIMEDOUT);
  ck_assert_int_eq(acquire(1), FORKQ_TIMEDOUT);
  support_kill_and_wait(child);
}
END_TEST

/* ---- waiters that are killed ------------------------------------------------------- */

static void wait_for_it(void *arg) {
  CHILD_MUST((arg == NULL ? acquire(FORKQ__FOREVER) : acquire_within(10000)) == 0);
  atomic_fetch_add(&shared->owners, 1);
  forkq__lock_release(&shared->lock);
}

/* One waiter is killed in its sleep, the other gets the lock. */
START_TEST(a_killed_waiter_does_no_harm) {
  for (int round = 0; round < 200; round++) {
    void *timed = round % 2 ? shared : NULL;
    support_assert(acquire(FORKQ__FOREVER) == 0);
    pid_t victim = support_fork(wait_for_it, timed);
    support_until_asleep(victim);
    pid_t other = support_fork(wait_for_it, timed);
    support_until_asleep(other);
    support_kill_and_wait(victim);
    support_assert(shared->owners == round);
    forkq__lock_release(&shared->lock);
    support_assert(support_wait(other) == 0);
    support_assert(shared->owners == round + 1);
  }
}
END_TEST

/* It is killed when the lock has just become free, so on its way out of sleep, with the lock
 * or without: the other must not go on sleeping. */
START_TEST(a_wake_up_does_not_die_with_the_woken) {
  for (int round = 0; round < 200; round++) {
    support_assert(acquire(FORKQ__FOREVER) == 0);
    pid_t victim = support_fork(wait_for_it, NULL);
    support_until_asleep(victim);
    pid_t other = support_fork(wait_for_it, NULL);
    support_until_asleep(other);
    forkq__lock_release(&shared->lock);
    kill(victim, SIGKILL);
    (void)support_wait(victim);
    support_assert(support_wait(other) == 0);
    support_assert(acquire_within(10000) == 0);
    forkq__lock_release(&shared->lock);
  }
}
END_TEST

START_TEST(an_owner_s_death_wakes_a_sleeper) {
  for (int round = 1; round <= 50; round++) {
    pid_t owner = holder();
    pid_t waiter = support_fork(wait_for_it, NULL);
    support_until_asleep(waiter);
    support_kill_and_wait(owner);
    support_assert(support_wait(waiter) == 0);
    support_assert(shared->repairs == round);
  }
}
END_TEST

/* ---- beyond repair ----------------------------------------------------------------- */

/* An unlock without pthread_mutex_consistent makes it so. */
static void make_broken(void) {
  ck_assert_int_eq(forkq__lock_init(&shared->lock), 0);
  leave_to_the_next();
  ck_assert_int_eq(pthread_mutex_lock(&shared->lock.mutex), EOWNERDEAD);
  pthread_mutex_unlock(&shared->lock.mutex);
}

START_TEST(a_lock_beyond_repair_says_so) {
  make_broken();
  ck_assert_int_eq(acquire(FORKQ__FOREVER), FORKQ_EBROKEN);
  make_broken();
  ck_assert_int_eq(acquire_within(10), FORKQ_EBROKEN);
  make_broken();
  ck_assert_int_eq(try(), FORKQ_EBROKEN);
  ck_assert_int_eq(shared->repairs, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lock");
  TCase *tcase = tcase_create("lock");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, NULL);
  tcase_add_test(tcase, it_excludes);
  tcase_add_test(tcase, two_processes_take_turns);
  tcase_add_test(tcase, after_a_death_the_next_owner_repairs_once);
  tcase_add_test(tcase, who_tries_repairs_as_well);
  tcase_add_test(tcase, a_zombie_holds_nothing);
  tcase_add_test(tcase, a_stopped_owner_still_has_it);
  tcase_add_test(tcase, a_death_in_repair_makes_the_next_repair_again);
  tcase_add_test(tcase, repair_runs_with_the_lock_held);
  tcase_add_test(tcase, the_deadline_is_kept);
  tcase_add_test(tcase, a_deadline_that_has_passed_is_a_try);
  tcase_add_test(tcase, a_killed_waiter_does_no_harm);
  tcase_add_test(tcase, a_wake_up_does_not_die_with_the_woken);
  tcase_add_test(tcase, an_owner_s_death_wakes_a_sleeper);
  tcase_add_test(tcase, a_lock_beyond_repair_says_so);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
