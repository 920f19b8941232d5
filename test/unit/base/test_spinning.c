/* Spinning: how long, how often, and where not at all. The clock goes on by a microsecond each time
 * that it is looked at. */
#include "base/os.h"
#include "base/spin.h"
#include "support.h"

#define NEVER INT_MAX
#define LOOKS_PER_CLOCK 16

int64_t __wrap_forkq__os_now(void);
int __wrap_forkq__os_cpus(void);

static int64_t now;
static int cpus;
static int looks, over_at;
static struct forkq__spin spin;

int64_t __wrap_forkq__os_now(void) {
  return now += 1000;
}

int __wrap_forkq__os_cpus(void) {
  return cpus;
}

static bool is_over(void *arg) {
  (void)arg;
  return ++looks == over_at;
}

static void set_up(void) {
  now = 0;
  cpus = 2;
  looks = 0;
  over_at = NEVER;
  forkq__spin_init(&spin, 10);
}

static bool wait_until(int64_t deadline) {
  looks = 0;
  return forkq__spin(&spin, is_over, NULL, deadline);
}

START_TEST(not_at_all_by_default) {
  forkq__spin_init(&spin, 0);
  ck_assert(!wait_until(FORKQ__FOREVER));
  ck_assert_int_eq(looks, 0);
}
END_TEST

START_TEST(not_at_all_on_one_cpu) {
  cpus = 1;
  forkq__spin_init(&spin, 10);
  ck_assert(!wait_until(FORKQ__FOREVER));
  ck_assert_int_eq(looks, 0);
}
END_TEST

START_TEST(ends_with_its_time) {
  ck_assert(!wait_until(FORKQ__FOREVER));
  ck_assert_int_eq(looks, 10 * LOOKS_PER_CLOCK);
  ck_assert_int_eq(now, 11 * 1000);
}
END_TEST

START_TEST(ends_with_the_deadline) {
  ck_assert(!wait_until(4 * 1000));
  ck_assert_int_eq(looks, 3 * LOOKS_PER_CLOCK);
}
END_TEST

START_TEST(ends_with_what_it_waits_for) {
  over_at = 2 * LOOKS_PER_CLOCK + 3;
  ck_assert(wait_until(FORKQ__FOREVER));
  ck_assert_int_eq(looks, over_at);
}
END_TEST

/* How many waits in a row do not spin. */
static int waits_without(void) {
  int waits = 0;
  for (; !wait_until(FORKQ__FOREVER) && looks == 0; waits++)
    support_assert(waits < 1000);
  return waits;
}

/* After the first, and after each that follows, there are more waits without a spin, up to a most.
 * One that pays ends this. */
START_TEST(spins_in_vain_become_rare) {
  const int expected[] = { 0, 1, 3, 7, 15, 31, 63, 127, 255, 255, 255 };
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    ck_assert_int_eq(waits_without(), expected[i]);
  for (int i = 0; i < 255; i++)
    ck_assert(!wait_until(FORKQ__FOREVER));
  over_at = 1;
  ck_assert(wait_until(FORKQ__FOREVER));
  ck_assert_int_eq(looks, 1);
  ck_assert(wait_until(FORKQ__FOREVER));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("spinning");
  TCase *tcase = tcase_create("spinning");
  tcase_add_checked_fixture(tcase, set_up, NULL);
  tcase_add_test(tcase, not_at_all_by_default);
  tcase_add_test(tcase, not_at_all_on_one_cpu);
  tcase_add_test(tcase, ends_with_its_time);
  tcase_add_test(tcase, ends_with_the_deadline);
  tcase_add_test(tcase, ends_with_what_it_waits_for);
  tcase_add_test(tcase, spins_in_vain_become_rare);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
