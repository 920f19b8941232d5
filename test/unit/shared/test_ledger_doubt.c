/* A process that died as it wrote a packet or took a slot: what is in doubt is waited for, and is
 * counted once. */
#define _GNU_SOURCE
#include "ledger_accounts.h"

/* ---- a packet on its way at death ---------------------------------------------------- */

START_TEST(a_pending_packet_that_arrived_was_sent) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert(cell->sent == 7 && cell->sent_wire == 1300 && cell->pending_seq == 0);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_pending_packet_that_cannot_come_was_not_sent) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__NOT_SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
  ck_assert(cell->sent == 4 && cell->sent_wire == 1000 && cell->pending_seq == 0);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_pending_packet_in_doubt_is_waited_for_the_rest_is_not) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__UNKNOWN;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert_uint_eq(cell->state, DEAD);
  ck_assert(!reap());
  ck_assert_uint_eq(cell->state, DEAD);
  verdict = FORKQ__SENT;
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(what_was_in_doubt_comes_back_when_it_cannot_come) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__UNKNOWN;
  reap();
  ck_assert_uint_eq(cell->state, DEAD);
  verdict = FORKQ__NOT_SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_cell_in_doubt_is_not_used_again) {
  dead_in_write();
  verdict = FORKQ__UNKNOWN;
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  forkq__account_close(account_here);
  verdict = FORKQ__NOT_SENT;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

/* Killed when its last write was counted, but still pending. */
START_TEST(a_pending_packet_that_was_counted_is_counted_once) {
  struct forkq__cell *cell = dead_in_write();
  cell->sent = 7;
  cell->sent_wire = 1300;
  verdict = FORKQ__SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert(cell->sent == 7 && cell->sent_wire == 1300);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

/* ---- a slot being taken at death --------------------------------------------------- */

static struct forkq__cell *dead_in_take(uint64_t accepted, uint64_t try_base,
                                        uint64_t try_count) {
  struct forkq__cell *cell = &ledger->cells[3];
  ledger->cells_used = 4;
  cell->state = USED;
  cell->accepted = accepted;
  cell->sent = accepted < 5 ? accepted : 5;
  cell->try_base = try_base;
  cell->try_count = try_count;
  return cell;
}

static uint64_t word_of(uint64_t count, uint32_t cell) {
  return count << FORKQ__CELL_BITS | (cell + 1);
}

/* All but the 5 that were sent come back; with `taken` one of them is the one at hand. */
static void assert_accepted(struct forkq__cell *cell, uint64_t accepted) {
  reap();
  ck_assert_uint_eq(cell->accepted, accepted);
  ck_assert_uint_eq(cell->try_count, 0);
  ck_assert_uint_eq(cell->state == USED ? 5 : forkq__ledger_size(ledger), 5);
}

START_TEST(a_take_before_the_word_did_not_happen) {
  ledger->word = word_of(20, 7);
  assert_accepted(dead_in_take(5, 5, 21), 5);
}
END_TEST

START_TEST(a_take_that_lost_the_word_did_not_happen) {
  ledger->word = word_of(21, 7);
  assert_accepted(dead_in_take(5, 5, 21), 5);
}
END_TEST

START_TEST(a_take_that_the_word_names_did_happen) {
  ledger->word = word_of(21, 3);
  assert_accepted(dead_in_take(5, 5, 21), 6);
}
END_TEST

START_TEST(a_take_that_is_confirmed_did_happen) {
  struct forkq__cell *cell = dead_in_take(5, 5, 21);
  cell->confirmed = 21;
  ledger->word = word_of(22, 7);
  assert_accepted(cell, 6);
}
END_TEST

START_TEST(a_take_that_was_counted_is_counted_once) {
  ledger->word = word_of(21, 3);
  assert_accepted(dead_in_take(6, 5, 21), 6);
  struct forkq__cell *cell = dead_in_take(7, 6, 31);
  cell->sent = 6;
  cell->confirmed = 31;
  ledger->word = word_of(40, 7);
  reap();
  ck_assert_uint_eq(cell->accepted, 7);
}
END_TEST

START_TEST(an_older_confirmation_says_nothing) {
  struct forkq__cell *cell = dead_in_take(5, 5, 21);
  cell->confirmed = 20;
  ledger->word = word_of(30, 7);
  assert_accepted(cell, 5);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ledger_doubt");
  TCase *tcase = tcase_create("doubt");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, a_pending_packet_that_arrived_was_sent);
  tcase_add_test(tcase, a_pending_packet_that_cannot_come_was_not_sent);
  tcase_add_test(tcase, a_pending_packet_in_doubt_is_waited_for_the_rest_is_not);
  tcase_add_test(tcase, what_was_in_doubt_comes_back_when_it_cannot_come);
  tcase_add_test(tcase, a_cell_in_doubt_is_not_used_again);
  tcase_add_test(tcase, a_pending_packet_that_was_counted_is_counted_once);
  tcase_add_test(tcase, a_take_before_the_word_did_not_happen);
  tcase_add_test(tcase, a_take_that_lost_the_word_did_not_happen);
  tcase_add_test(tcase, a_take_that_the_word_names_did_happen);
  tcase_add_test(tcase, a_take_that_is_confirmed_did_happen);
  tcase_add_test(tcase, a_take_that_was_counted_is_counted_once);
  tcase_add_test(tcase, an_older_confirmation_says_nothing);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
