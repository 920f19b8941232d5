/* Children that take over what a dead parent had not sent: nobody else may have it, and nothing is
 * taken over twice. */
#define _GNU_SOURCE
#include "base/os.h"
#include "ledger_accounts.h"

#include <signal.h>
#include <string.h>

static uint64_t taken_over; /* UINT64_MAX: it was not asked */

static void note_count(void *arg, uint64_t count) {
  support_assert(arg == &taken_over);
  support_assert(taken_over == UINT64_MAX);
  taken_over = count;
}

/* Of `due` messages that there were when it had given back `returned`. */
static int inherit_since(uint64_t due, uint64_t returned) {
  struct forkq__estate estate = {
    .cell = 0, .owner = ledger->cells[0].owners, .due = due, .returned = returned
  };
  taken_over = UINT64_MAX;
  return forkq__reap_take_over(&channel, &estate, note_count, &taken_over);
}

static int inherit(uint64_t due) {
  return inherit_since(due, 0);
}

START_TEST(nothing_is_taken_over_from_the_living) {
  pid_t parent = start((struct account){ .cell = 0, .accepted = 5, .sent = 2 });
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  support_stop(parent);
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->cells[0].returned, 0);
  ck_assert_uint_eq(ledger->cells[0].state, USED);
  support_kill_and_wait(parent);
}
END_TEST

START_TEST(what_the_dead_had_not_sent_is_taken_over_once) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(ledger->cells[0].returned, 3);
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 0);
  ck_assert_uint_eq(ledger->cells[0].state, FREE);
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

/* What the parent put after the fork, the child has not. */
START_TEST(what_is_not_due_is_lost) {
  support_kill_and_wait(start((struct account){ .accepted = 9, .sent = 2 }));
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(ledger->returned, 7);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 4);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

START_TEST(what_was_sent_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 7, .sent = 5 }));
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_int_eq(inherit(4), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  /* The rest is whoever's who reaps. */
  ck_assert_uint_eq(ledger->cells[0].state, USED);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 2);
}
END_TEST

START_TEST(what_is_in_doubt_is_not_taken_over_before_it_is_known) {
  static const uint64_t counts[] = { 6, 3 }; /* it had not been sent; it had */
  for (int sent = 0; sent < 2; sent++) {
    dead_in_write();
    verdict = FORKQ__UNKNOWN;
    ck_assert_int_eq(inherit(10), FORKQ__BUSY);
    ck_assert_uint_eq(taken_over, UINT64_MAX);
    verdict = sent ? FORKQ__SENT : FORKQ__NOT_SENT;
    ck_assert_int_eq(inherit(10), 0);
    ck_assert_uint_eq(taken_over, counts[sent]);
    ck_assert_uint_eq(ledger->cells[0].state, FREE);
    memset(&ledger->cells[0], 0, sizeof ledger->cells[0]);
    ledger->returned = 0;
  }
}
END_TEST

/* The packet in doubt was the last that was due. */
START_TEST(what_proves_to_be_sent_is_not_taken_over) {
  dead_in_write();
  verdict = FORKQ__SENT;
  ck_assert_int_eq(inherit(7), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 3);
  ck_assert_uint_eq(ledger->cells[0].state, FREE);
}
END_TEST

START_TEST(the_slot_at_the_death_is_not_taken_over) {
  struct forkq__cell *cell = &ledger->cells[0];
  ledger->cells_used = 1;
  *cell = (struct forkq__cell){
    .state = USED, .accepted = 5, .sent = 2, .try_base = 5, .try_count = 21
  };
  ledger->word = UINT64_C(21) << FORKQ__CELL_BITS | 1;
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(cell->accepted, 6);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 1);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

START_TEST(another_owner_s_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  ledger->cells[0].owners = 2;
  taken_over = UINT64_MAX;
  ck_assert_int_eq(forkq__reap_take_over(&channel, &estate, note_count, &taken_over),
                   FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->cells[0].returned, 0);
}
END_TEST

START_TEST(what_others_have_given_back_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert(reap());
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->returned, 3);
}
END_TEST

/* They have given back all but what was in doubt. */
START_TEST(what_others_have_begun_to_give_back_is_not_taken_over) {
  dead_in_write();
  verdict = FORKQ__UNKNOWN;
  ck_assert(reap());
  ck_assert_uint_eq(ledger->cells[0].state, DEAD);
  verdict = FORKQ__SENT;
  ck_assert_int_eq(inherit(10), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  reap();
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
}
END_TEST

/* The account stays open for what the dead may have been getting. */
START_TEST(of_two_heirs_one_takes_over) {
  reads_settled = false;
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  taken_over = UINT64_MAX;
  ck_assert_int_eq(forkq__reap_take_over(&channel, &estate, note_count, &taken_over), 0);
  ck_assert_uint_eq(ledger->cells[0].state, DEAD);
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->returned, 3);
}
END_TEST

/* It was told that it could not be sent, and its slot was given back. */
START_TEST(what_the_parent_gave_up_is_not_taken_over) {
  support_kill_and_wait(
      start((struct account){ .accepted = 5, .sent = 2, .returned = 1 }));
  ck_assert_int_eq(inherit_since(5, 1), 0);
  ck_assert_uint_eq(taken_over, 2);
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

/* Which of those that the heir has it was, nobody knows. */
START_TEST(nothing_is_taken_over_where_the_parent_gave_up_one_meanwhile) {
  support_kill_and_wait(
      start((struct account){ .accepted = 5, .sent = 2, .returned = 1 }));
  ck_assert_int_eq(inherit_since(5, 0), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
}
END_TEST

/* How often a thread has waited for a lock. */
static int waits;

int __real_forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline);
int __wrap_forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline);
int __wrap_forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline) {
  waits++;
  return __real_forkq__os_clocklock(mutex, deadline);
}

START_TEST(nobody_waits_for_the_lock_to_inherit) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(hold_lock, NULL);
  support_until(&flags[0]);
  support_stop(child);
  waits = 0;
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  ck_assert_int_eq(waits, 0);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  support_kill_and_wait(child);
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
}
END_TEST

static void accept_and_die(void *arg, uint64_t count) {
  atomic_fetch_add(&ledger->cells[*(const uint32_t *)arg].accepted, count);
  raise(SIGKILL);
}

static void inherit_and_die(void *arg) {
  (void)arg;
  uint32_t index;
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  liveness->spared = 0;
  CHILD_MUST(open_cell(&index) == 0);
  CHILD_MUST(index == 1);
  (void)forkq__reap_take_over(&channel, &estate, accept_and_die, &index);
}

/* Both the slots of the dead and those of its heir are given back. */
START_TEST(an_heir_s_death_leaves_both_accounts_to_others) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert_int_eq(support_wait(support_fork(inherit_and_die, NULL)), 128 + SIGKILL);
  ck_assert_uint_eq(ledger->cells[1].accepted, 3);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  ck_assert(ledger->cells[0].state == FREE && ledger->cells[1].state == FREE);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ledger_heirs");
  TCase *tcase = tcase_create("heirs");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, nothing_is_taken_over_from_the_living);
  tcase_add_test(tcase, what_the_dead_had_not_sent_is_taken_over_once);
  tcase_add_test(tcase, what_is_not_due_is_lost);
  tcase_add_test(tcase, what_was_sent_is_not_taken_over);
  tcase_add_test(tcase, what_is_in_doubt_is_not_taken_over_before_it_is_known);
  tcase_add_test(tcase, what_proves_to_be_sent_is_not_taken_over);
  tcase_add_test(tcase, the_slot_at_the_death_is_not_taken_over);
  tcase_add_test(tcase, another_owner_s_is_not_taken_over);
  tcase_add_test(tcase, what_others_have_given_back_is_not_taken_over);
  tcase_add_test(tcase, what_others_have_begun_to_give_back_is_not_taken_over);
  tcase_add_test(tcase, of_two_heirs_one_takes_over);
  tcase_add_test(tcase, what_the_parent_gave_up_is_not_taken_over);
  tcase_add_test(tcase, nothing_is_taken_over_where_the_parent_gave_up_one_meanwhile);
  tcase_add_test(tcase, nobody_waits_for_the_lock_to_inherit);
  tcase_add_test(tcase, an_heir_s_death_leaves_both_accounts_to_others);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
