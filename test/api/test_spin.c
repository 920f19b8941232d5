/* Waiting with the option spin_us. What a thread waits for comes while it spins: a wrapper around the
 * spin sees to that. */
#define _GNU_SOURCE
#include "base/os.h"
#include "base/spin.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <pthread.h>

#define LONG_US 1000000

bool __real_forkq__spin(struct forkq__spin *spin, bool (*over)(void *arg), void *arg,
                        int64_t deadline);
bool __wrap_forkq__spin(struct forkq__spin *spin, bool (*over)(void *arg), void *arg,
                        int64_t deadline);

/* What happens during the next spin, on another thread, and whether the thread is joined then. */
static void *(*meanwhile)(void *arg);
static bool joined;
static pthread_t helper;
static int spins;

bool __wrap_forkq__spin(struct forkq__spin *spin, bool (*over)(void *arg), void *arg,
                        int64_t deadline) {
  if (meanwhile != NULL) {
    void *(*run)(void *arg) = meanwhile;
    meanwhile = NULL;
    ck_assert_int_eq(pthread_create(&helper, NULL, run, NULL), 0);
    if (joined)
      ck_assert_int_eq(pthread_join(helper, NULL), 0);
  }
  bool r = __real_forkq__spin(spin, over, arg, deadline);
  spins += r;
  return r;
}

static void create(int64_t maxsize, uint64_t us) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = maxsize;
  options.spin_us = us;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  meanwhile = NULL;
  joined = true;
  spins = 0;
}

static forkq_queue_stats_t stats(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  ck_assert_int_eq(forkq_queue_stats(queue, &now), 0);
  return now;
}

static void *put_seven(void *arg) {
  (void)arg;
  support_assert(put(7, 0) == 0);
  return NULL;
}

static void *get_one(void *arg) {
  (void)arg;
  support_assert(get(0) == 1);
  return NULL;
}

static void *shut_down(void *arg) {
  (void)arg;
  support_assert(forkq_queue_shutdown(queue, 0) == 0);
  return NULL;
}

/* Comes back when the getter has gone. */
static void *close_queue(void *arg) {
  (void)arg;
  support_assert(forkq_queue_close(queue) == 0);
  return NULL;
}

START_TEST(a_get_does_not_sleep) {
  create(0, LONG_US);
  meanwhile = put_seven;
  ck_assert_int_eq(get(-1), 7);
  ck_assert_int_eq(spins, 1);
  ck_assert_uint_eq(stats().get_waits, 0);
}
END_TEST

START_TEST(a_put_does_not_sleep) {
  create(1, LONG_US);
  ck_assert_int_eq(put(1, 0), 0);
  meanwhile = get_one;
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(spins, 1);
  ck_assert_uint_eq(stats().put_waits, 0);
  ck_assert_int_eq(get(5000), 2);
}
END_TEST

START_TEST(a_shutdown_ends_it) {
  create(0, LONG_US);
  meanwhile = shut_down;
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(spins, 1);
}
END_TEST

START_TEST(a_shutdown_ends_that_of_a_put) {
  create(1, LONG_US);
  ck_assert_int_eq(put(1, 0), 0);
  meanwhile = shut_down;
  ck_assert_int_eq(put(2, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(spins, 1);
  ck_assert_uint_eq(stats().put_waits, 0);
}
END_TEST

START_TEST(a_close_ends_it) {
  create(0, LONG_US);
  meanwhile = close_queue;
  joined = false;
  ck_assert_int_eq(get(-1), FORKQ_ECLOSED);
  ck_assert_int_eq(spins, 1);
  ck_assert_int_eq(pthread_join(helper, NULL), 0);
}
END_TEST

/* From now on every spin would be over at once, and the getter must sleep between its looks. */
static void assert_sleeps(void) {
  ck_assert_int_eq(get(50), FORKQ_TIMEDOUT);
  ck_assert_int_eq(spins, 0);
  ck_assert_uint_ge(stats().get_waits, 1);
  ck_assert_uint_le(stats().get_waits, 5);
}

/* Whoever shuts down is stopped. */
START_TEST(not_beside_a_shutdown_that_is_announced) {
  create(0, LONG_US);
  atomic_store(&queue->segment->channel.shutting, 1);
  assert_sleeps();
}
END_TEST

/* A writer has numbered a packet, and has not written it. */
START_TEST(not_beside_a_packet_that_does_not_come) {
  create(0, LONG_US);
  atomic_fetch_add(&queue->segment->channel.write_seq, 1);
  assert_sleeps();
}
END_TEST

/* The time of the call is over before that of the spin. */
START_TEST(the_deadline_ends_it) {
  create(1, LONG_US);
  ck_assert_int_eq(get(10), FORKQ_TIMEDOUT);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 10), FORKQ_TIMEDOUT);
  ck_assert_int_eq(spins, 0);
}
END_TEST

START_TEST(without_the_option_they_sleep) {
  create(0, 0);
  meanwhile = put_seven;
  ck_assert_int_eq(get(-1), 7);
  ck_assert_int_eq(spins, 0);
  ck_assert_uint_eq(stats().get_waits, 1);
}
END_TEST

START_TEST(longer_than_the_longest) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  create(0, FORKQ_SPIN_US_MAX - 1);
  create(0, FORKQ_SPIN_US_MAX);
  options.spin_us = FORKQ_SPIN_US_MAX + 1;
  forkq_queue_t *other = NULL;
  ck_assert_int_eq(forkq_queue_create_with(&other, &options), FORKQ_ERANGE);
  ck_assert_ptr_null(other);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("spin");
  TCase *tcase = tcase_create("spin");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  if (forkq__os_cpus() > 1) {
    tcase_add_test(tcase, a_get_does_not_sleep);
    tcase_add_test(tcase, a_put_does_not_sleep);
    tcase_add_test(tcase, a_shutdown_ends_it);
    tcase_add_test(tcase, a_shutdown_ends_that_of_a_put);
    tcase_add_test(tcase, a_close_ends_it);
  }
  tcase_add_test(tcase, not_beside_a_shutdown_that_is_announced);
  tcase_add_test(tcase, not_beside_a_packet_that_does_not_come);
  tcase_add_test(tcase, the_deadline_ends_it);
  tcase_add_test(tcase, without_the_option_they_sleep);
  tcase_add_test(tcase, longer_than_the_longest);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
