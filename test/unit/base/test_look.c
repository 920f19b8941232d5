/* Looking from time to time: who comes when, alone and in a crowd, on a clock that stands still
 * unless a test moves it. */
#include "base/look.h"
#include "base/os.h"
#include "support.h"

#include <string.h>

#define MS INT64_C(1000000)

/* Any time but 0: a machine that has run for some days. */
#define BEGINNING (INT64_C(345678901234567))

#define SEATS 4
#define FIRST_MS 5
#define LAST_MS 100

/* How long one without a seat may sleep: half as long again as it does on average. */
#define RARELY_MS (LAST_MS * FORKQ__LOOK_CROWD * 3 / 2)

static int64_t now;
static struct forkq__look_shared shared;

int64_t __wrap_forkq__os_now(void);
int64_t __wrap_forkq__os_now(void) {
  return now;
}

static void set_up(void) {
  now = BEGINNING;
  memset(&shared, 0, sizeof shared);
}

static struct forkq__look begin(void) {
  return forkq__look_begin(&shared, SEATS, FIRST_MS, LAST_MS);
}

/* It sits down to wait: for so many ms. */
static int64_t wait_ms(struct forkq__look *look) {
  return (forkq__look_until(look, FORKQ__FOREVER) - now) / MS;
}

/* Waits until its time has come: whether it has to look. */
static bool come(struct forkq__look *look) {
  now = forkq__look_until(look, FORKQ__FOREVER);
  return forkq__look_due(look);
}

static int taken_seats(void) {
  int taken = 0;
  for (int i = 0; i < SEATS; i++)
    taken += shared.seats[i] != 0;
  return taken;
}

/* ---- one ------------------------------------------------------------------------------- */

START_TEST(one_alone_looks_ever_more_rarely_up_to_the_last) {
  static const int64_t times[] = { 5, 10, 20, 40, 80, 100, 100, 100 };
  struct forkq__look look = begin();
  for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
    ck_assert_int_eq(wait_ms(&look), times[i]);
    ck_assert(come(&look));
    ck_assert_int_eq(shared.looked, now);
  }
  ck_assert_int_eq(taken_seats(), 1);
}
END_TEST

START_TEST(who_is_woken_early_does_not_look) {
  struct forkq__look look = begin();
  (void)forkq__look_until(&look, FORKQ__FOREVER);
  now += FIRST_MS * MS - 1;
  ck_assert(!forkq__look_due(&look));
  ck_assert_int_eq(shared.looked, 0);
}
END_TEST

START_TEST(a_wait_ends_with_the_earlier_of_look_and_deadline) {
  struct forkq__look look = begin();
  int64_t next = now + FIRST_MS * MS;
  ck_assert_int_eq(forkq__look_until(&look, next + 1), next);
  ck_assert_int_eq(forkq__look_until(&look, next - 1), next - 1);
  ck_assert_int_eq(forkq__look_until(&look, FORKQ__NOWAIT), FORKQ__NOWAIT);
}
END_TEST

START_TEST(who_leaves_leaves_its_seat) {
  struct forkq__look look = begin();
  ck_assert(!forkq__look_end(&look)); /* it has not waited */
  (void)wait_ms(&look);
  ck_assert_int_eq(taken_seats(), 1);
  ck_assert(!forkq__look_end(&look)); /* it was alone */
  ck_assert_int_eq(taken_seats(), 0);
  ck_assert(!forkq__look_end(&look));
}
END_TEST

/* ---- some, and a crowd ----------------------------------------------------------------- */

START_TEST(who_comes_just_after_another_leaves_it_at_that) {
  for (int part = 0; part < 100; part++) {
    set_up();
    struct forkq__look look = begin();
    now = forkq__look_until(&look, FORKQ__FOREVER);
    int64_t before = now - FIRST_MS * MS * part / 100;
    shared.looked = before;
    bool due = forkq__look_due(&look);
    ck_assert(due == (part >= 50));
    ck_assert_int_eq(shared.looked, due ? now : before);
  }
}
END_TEST

START_TEST(who_finds_no_seat_comes_rarely) {
  struct forkq__look looks[SEATS + 3];
  for (int i = 0; i < SEATS + 3; i++) {
    looks[i] = begin();
    int64_t ms = wait_ms(&looks[i]);
    if (i < SEATS)
      ck_assert_int_eq(ms, FIRST_MS);
    else
      ck_assert(ms >= RARELY_MS / 3 && ms < RARELY_MS);
    now += 7 * MS / 3;
  }
  ck_assert_int_eq(taken_seats(), SEATS);
}
END_TEST

/* A crowd that came at the same time does not come back at the same time. */
START_TEST(a_crowd_comes_back_one_by_one) {
  struct forkq__look looks[SEATS + 200];
  int64_t earliest = INT64_MAX, latest = 0;
  for (int i = 0; i < SEATS + 200; i++) {
    looks[i] = begin();
    int64_t ms = wait_ms(&looks[i]);
    now += 20 * MS; /* as long as the seats do not fall free */
    for (int seat = 0; seat < SEATS && i >= SEATS; seat++)
      (void)wait_ms(&looks[seat]);
    if (i >= SEATS) {
      earliest = ms < earliest ? ms : earliest;
      latest = ms > latest ? ms : latest;
    }
  }
  ck_assert_int_lt(earliest, RARELY_MS / 3 + RARELY_MS / 6);
  ck_assert_int_gt(latest, RARELY_MS - RARELY_MS / 6);
}
END_TEST

/* The last of the seats: one that has none may be asleep for long, and is woken to take it. */
START_TEST(who_leaves_a_full_table_wakes_another) {
  struct forkq__look looks[SEATS], other = begin();
  for (int i = 0; i < SEATS; i++) {
    looks[i] = begin();
    (void)wait_ms(&looks[i]);
  }
  ck_assert_int_ge(wait_ms(&other), RARELY_MS / 3);
  ck_assert(forkq__look_end(&looks[2]));
  ck_assert_int_eq(wait_ms(&other), FIRST_MS);
  ck_assert_int_eq(taken_seats(), SEATS);
  ck_assert(forkq__look_end(&looks[0]));
  ck_assert(!forkq__look_end(&looks[1]));
}
END_TEST

/* It was killed. One that lives says that it does more often than that. */
START_TEST(the_seat_of_one_that_has_long_said_nothing_is_anybody_s) {
  struct forkq__look looks[SEATS], other = begin();
  for (int i = 0; i < SEATS; i++) {
    looks[i] = begin();
    (void)wait_ms(&looks[i]);
  }
  now += 2 * LAST_MS * MS - 1;
  for (int i = 1; i < SEATS; i++)
    (void)wait_ms(&looks[i]);
  ck_assert_int_ge(wait_ms(&other), RARELY_MS / 3);
  now++;
  ck_assert_int_eq(wait_ms(&other), FIRST_MS);
}
END_TEST

START_TEST(those_who_were_killed_are_no_crowd) {
  for (int i = 0; i < SEATS; i++)
    shared.seats[i] = now - 2 * LAST_MS * MS;
  struct forkq__look look = begin();
  ck_assert_int_eq(wait_ms(&look), FIRST_MS);
  ck_assert(!forkq__look_end(&look));
}
END_TEST

/* Times that nobody can have written. */
START_TEST(damaged_memory_keeps_nobody_from_looking) {
  for (int i = 0; i < SEATS; i++)
    shared.seats[i] = i % 2 == 0 ? INT64_MAX : INT64_MIN;
  for (int i = 0; i < 2; i++) {
    shared.looked = i == 0 ? INT64_MAX : INT64_MIN;
    struct forkq__look look = begin();
    ck_assert_int_eq(wait_ms(&look), FIRST_MS);
    ck_assert(come(&look));
    ck_assert_int_eq(shared.looked, now);
    ck_assert(!forkq__look_end(&look));
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("look");
  TCase *tcase = tcase_create("look");
  tcase_add_checked_fixture(tcase, set_up, NULL);
  tcase_add_test(tcase, one_alone_looks_ever_more_rarely_up_to_the_last);
  tcase_add_test(tcase, who_is_woken_early_does_not_look);
  tcase_add_test(tcase, a_wait_ends_with_the_earlier_of_look_and_deadline);
  tcase_add_test(tcase, who_leaves_leaves_its_seat);
  tcase_add_test(tcase, who_comes_just_after_another_leaves_it_at_that);
  tcase_add_test(tcase, who_finds_no_seat_comes_rarely);
  tcase_add_test(tcase, a_crowd_comes_back_one_by_one);
  tcase_add_test(tcase, who_leaves_a_full_table_wakes_another);
  tcase_add_test(tcase, the_seat_of_one_that_has_long_said_nothing_is_anybody_s);
  tcase_add_test(tcase, those_who_were_killed_are_no_crowd);
  tcase_add_test(tcase, damaged_memory_keeps_nobody_from_looking);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
