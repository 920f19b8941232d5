/* The cells of the ledger: which process has which, when a cell is used again, and what the sums
 * over all cells say. */
#define _GNU_SOURCE
#include "ledger_accounts.h"

#include <unistd.h>

/* ---- cells ------------------------------------------------------------------------- */

START_TEST(each_process_has_a_cell_of_its_own) {
  pid_t children[3];
  for (uint32_t i = 0; i < 3; i++)
    children[i] = start((struct account){ .cell = i });
  for (uint32_t i = 0; i < 3; i++)
    ck_assert(sees_alive(i));
  for (uint32_t i = 0; i < 3; i++)
    support_kill_and_wait(children[i]);
}
END_TEST

START_TEST(a_cell_is_used_again_and_again) {
  uint32_t index = 77;
  for (int i = 1; i <= 10000; i++) {
    support_assert(open_cell(&index) == 0 && index == 0);
    support_assert(ledger->cells[0].owners == (uint32_t)i);
    forkq__account_close(account_here);
  }
  ck_assert_uint_eq(ledger->cells_used, 1);
}
END_TEST

START_TEST(a_dead_process_s_cell_is_used_again) {
  struct account account = { .cell = 0, .accepted = 2, .sent = 1 };
  for (int i = 0; i < 200; i++)
    support_assert(support_wait(support_fork(keep_account, &account)) == 0);
  ck_assert_uint_eq(ledger->cells_used, 1);
  reap();
  ck_assert_uint_eq(forkq__ledger_size(ledger), 200);
}
END_TEST

START_TEST(a_closed_cell_is_no_longer_alive_and_its_items_come_back) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 1 });
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  ledger->cells[1].accepted = 10;
  ledger->cells[1].sent = 4;
  forkq__account_close(account_here);
  ck_assert(!sees_alive(1));
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5);
  ck_assert(!reap());
  support_kill_and_wait(child);
}
END_TEST

static void mark_all_used(void) {
  for (uint32_t i = 0; i < FORKQ__CELLS_MAX; i++)
    ledger->cells[i].state = USED;
}

/* The marks stand for processes that live: nobody looks at cells beyond `cells_used`. */
START_TEST(one_process_more_than_cells_is_too_many) {
  uint32_t index = 77;
  mark_all_used();
  ck_assert_int_eq(open_cell(&index), FORKQ_ETOOMANY);
  ck_assert_uint_eq(index, 77);
  ledger->cells[FORKQ__CELLS_MAX - 1].state = FREE;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, FORKQ__CELLS_MAX - 1);
  forkq__account_close(account_here);
}
END_TEST

START_TEST(open_looks_for_the_dead_before_it_gives_up) {
  uint32_t index;
  mark_all_used();
  ledger->cells_used = FORKQ__CELLS_MAX;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

static void take_and_stay(void *arg) {
  CHILD_MUST(forkq__liveness_prepare(liveness) == 0);
  CHILD_MUST(forkq__liveness_take(liveness, *(const uint32_t *)arg) == 0);
  atomic_store(&flags[0], 1);
  pause();
}

/* As a process that was killed in its claim, when it had the lock on its life: the kernel has freed
 * the ledger's lock, and not yet this one. */
static pid_t start_to_die_in_claim(uint32_t cell) {
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(take_and_stay, &cell);
  support_until(&flags[0]);
  return child;
}

START_TEST(a_free_cell_whose_life_another_has_is_passed_over) {
  uint32_t index;
  pid_t first = start_to_die_in_claim(0), second = start_to_die_in_claim(1);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 2);
  ck_assert_uint_eq(ledger->cells_used, 3);
  ck_assert(ledger->cells[0].state == FREE && ledger->cells[1].state == FREE);
  forkq__account_close(account_here);
  support_kill_and_wait(second);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  forkq__account_close(account_here);
  support_kill_and_wait(first);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
  ck_assert_uint_eq(ledger->cells_used, 3);
}
END_TEST

/* With task_done a process has two locks, and both or none. */
static void keep_tasks_only(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__liveness_prepare(liveness) == 0);
  CHILD_MUST(forkq__liveness_take(liveness, 0) == 0);
  forkq__liveness_drop(liveness, 0);
  atomic_store(&flags[0], 1);
  pause();
}

START_TEST(a_free_cell_whose_tasks_another_has_is_passed_over) {
  uint32_t index;
  liveness->joinable = true;
  pid_t child = support_fork(keep_tasks_only, NULL);
  support_until(&flags[0]);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  ck_assert(!forkq__liveness_lives(liveness, 0, 0));
  forkq__account_close(account_here);
  support_kill_and_wait(child);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

/* ---- numbers ----------------------------------------------------------------------- */

START_TEST(the_size_is_never_below_zero) {
  ledger->taken = 5;
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

START_TEST(what_is_returned_is_not_held) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 5, .sent = 1 });
  ck_assert(give_back(0, 2));
  ck_assert_uint_eq(forkq__ledger_held(ledger, 0), 2);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  ledger->taken = 1;
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  support_kill_and_wait(child);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ledger_cells");
  TCase *tcase = tcase_create("cells");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, each_process_has_a_cell_of_its_own);
  tcase_add_test(tcase, a_cell_is_used_again_and_again);
  tcase_add_test(tcase, a_dead_process_s_cell_is_used_again);
  tcase_add_test(tcase, a_closed_cell_is_no_longer_alive_and_its_items_come_back);
  tcase_add_test(tcase, one_process_more_than_cells_is_too_many);
  tcase_add_test(tcase, open_looks_for_the_dead_before_it_gives_up);
  tcase_add_test(tcase, a_free_cell_whose_life_another_has_is_passed_over);
  tcase_add_test(tcase, a_free_cell_whose_tasks_another_has_is_passed_over);
  tcase_add_test(tcase, the_size_is_never_below_zero);
  tcase_add_test(tcase, what_is_returned_is_not_held);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
