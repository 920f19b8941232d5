/* Sums of counters that change while they are read: how often they are read anew, and what the
 * last reading says. The ledger's own source is built in here with loads that this test sees, as
 * no other process could change a counter at the one moment that matters. */
#include "shared/ledger.h"
#include "support.h"

#include <string.h>

static void on_load(const volatile void *field);

#undef FORKQ__LOAD
#define FORKQ__LOAD(field)                                                               \
  (on_load(&(field)), atomic_load_explicit(&(field), memory_order_acquire))
#undef atomic_load
#define atomic_load(field)                                                               \
  (on_load(field), atomic_load_explicit(field, memory_order_seq_cst))
#include "shared/ledger.c"

#define ITEMS 7

static struct forkq__ledger ledger;
static int readings, changes;

/* An item comes and goes in the middle of a reading, `changes` times. */
static void on_load(const volatile void *field) {
  if (field != &ledger.cells[0].accepted)
    return;
  readings++;
  if (changes > 0) {
    changes--;
    atomic_fetch_add(&ledger.cells[0].accepted, 1);
    atomic_fetch_add(&ledger.taken, 1);
    atomic_fetch_add(&ledger.done, 1);
  }
}

static void assert_read(uint64_t (*count)(struct forkq__ledger *), int meanwhile,
                        int expected_readings, uint64_t expected) {
  memset(&ledger, 0, sizeof ledger);
  atomic_store(&ledger.cells_used, 1);
  atomic_store(&ledger.cells[0].accepted, ITEMS);
  readings = 0;
  changes = meanwhile;
  ck_assert_uint_eq(count(&ledger), expected);
  ck_assert_int_eq(readings, expected_readings);
}

/* With the last reading undisturbed the count is exact; else the item that came and went
 * meanwhile counts as there, and no further reading is made. */
static void assert_limit(uint64_t (*count)(struct forkq__ledger *)) {
  assert_read(count, 0, 1, ITEMS);
  assert_read(count, 1, 2, ITEMS);
  assert_read(count, READINGS_MAX - 1, READINGS_MAX, ITEMS);
  assert_read(count, READINGS_MAX, READINGS_MAX, ITEMS + 1);
  assert_read(count, READINGS_MAX + 1, READINGS_MAX, ITEMS + 1);
}

START_TEST(the_size_is_read_so_often_and_no_more) {
  assert_limit(forkq__ledger_size);
}
END_TEST

START_TEST(what_is_unfinished_is_read_so_often_and_no_more) {
  assert_limit(forkq__ledger_unfinished);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("readings");
  TCase *tcase = tcase_create("readings");
  tcase_add_test(tcase, the_size_is_read_so_often_and_no_more);
  tcase_add_test(tcase, what_is_unfinished_is_read_so_often_and_no_more);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
