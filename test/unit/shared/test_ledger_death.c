/* Processes that die with a cell, also in the middle of a return or of a reap: what they held comes
 * back once. */
#define _GNU_SOURCE
#include "base/os.h"
#include "ledger_accounts.h"

#include <signal.h>
#include <unistd.h>

/* ---- life and death ---------------------------------------------------------------- */

START_TEST(what_a_killed_process_held_comes_back_exactly) {
  pid_t other = start((struct account){ .cell = 0, .accepted = 5, .sent = 2 });
  pid_t victim =
      start((struct account){ .cell = 1, .accepted = 20, .sent = 7, .returned = 3 });
  ck_assert_uint_eq(forkq__ledger_held(ledger, 1), 10);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5 + 20 - 3);
  ck_assert(!reap());
  support_kill_and_wait(victim);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_held(ledger, 1), 0);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5 + 7);
  ck_assert_uint_eq(ledger->returned, 13);
  ck_assert(!reap());
  support_kill_and_wait(other);
}
END_TEST

START_TEST(who_exits_without_close_is_dead_as_well) {
  struct account account = { .cell = 0, .accepted = 3 };
  ck_assert_int_eq(support_wait(support_fork(keep_account, &account)), 0);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

START_TEST(a_zombie_is_dead) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 3 });
  support_kill(child);
  ck_assert(!sees_alive(0));
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
}
END_TEST

START_TEST(a_stopped_process_lives) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 3 });
  support_stop(child);
  ck_assert(sees_alive(0));
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  support_kill_and_wait(child);
  ck_assert(reap());
}
END_TEST

START_TEST(one_s_own_cell_lives) {
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ledger->cells[index].accepted = 3;
  ck_assert(sees_alive(index));
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
}
END_TEST

START_TEST(where_the_kernel_cannot_say_nobody_is_dead) {
  struct forkq__account no_file = *account_here;
  no_file.liveness.memory_fd = -1;
  ck_assert(forkq__account_sees_alive(&no_file, 0));
}
END_TEST

static void wait_forever(void *arg) {
  (void)arg;
  atomic_store(&flags[1], 1);
  for (;;)
    pause();
}

static void open_and_fork(void *arg) {
  (void)arg;
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  atomic_store(&ledger->cells[index].accepted, 4);
  atomic_store(&flags[0], support_fork(wait_forever, NULL));
  for (;;)
    pause();
}

/* The parent's items are not the child's: it cannot send them. */
START_TEST(a_forked_child_does_not_keep_its_parent_s_cell_alive) {
  pid_t child = support_fork(open_and_fork, NULL);
  support_until(&flags[1]);
  support_until(&flags[0]);
  pid_t grandchild = flags[0];
  ck_assert(!reap());
  /* The grandchild is stopped, so that it does not end with its parent at once. */
  kill(grandchild, SIGSTOP);
  support_kill_and_wait(child);
  ck_assert(reap());
  kill(grandchild, SIGKILL);
}
END_TEST

static void close_another_descriptor(void *arg) {
  (void)arg;
  int other = dup(liveness->memory_fd);
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  close(other);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

START_TEST(a_close_of_another_descriptor_of_the_file_changes_nothing) {
  pid_t child = support_fork(close_another_descriptor, NULL);
  support_until(&flags[0]);
  ck_assert(sees_alive(0));
  support_kill_and_wait(child);
  ck_assert(!sees_alive(0));
}
END_TEST

/* ---- a death in the ledger itself -------------------------------------------------- */

/* As a process that was killed between the two stores of a return. */
static void half_return(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL) == 0);
  atomic_fetch_add(&ledger->cells[0].returned, 2);
  raise(SIGKILL);
}

START_TEST(a_return_that_was_cut_in_two_is_completed) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 5 });
  ck_assert_int_eq(support_wait(support_fork(half_return, NULL)), 128 + SIGKILL);
  ck_assert_uint_eq(ledger->returned, 0);
  ck_assert(give_back(0, 1));
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  support_kill_and_wait(child);
}
END_TEST

static void reap_and_die(void *arg) {
  (void)arg;
  die_at_verdict = true;
  reap();
}

START_TEST(a_reaper_s_death_leaves_the_reaping_to_the_next) {
  dead_in_write();
  ck_assert_int_eq(support_wait(support_fork(reap_and_die, NULL)), 128 + SIGKILL);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
}
END_TEST

/* Whoever calls has a lock of its process, or a deadline. */
START_TEST(nobody_waits_for_a_stopped_owner_of_the_lock) {
  uint32_t mine;
  ck_assert_int_eq(open_cell(&mine), 0);
  ledger->cells[mine].accepted = 5;
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(hold_lock, NULL);
  support_until(&flags[0]);
  support_stop(child);
  ck_assert(!reap());
  ck_assert(!give_back(mine, 1));
  struct forkq__channel another = channel;
  forkq__account_init(&another.account);
  another.account.liveness.memory_fd = liveness->memory_fd;
  another.account.liveness.identity = liveness->identity;
  ck_assert_int_eq(forkq__reap_and_claim(&another), FORKQ_TIMEDOUT);
  forkq__liveness_end(&another.account.liveness);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5);
  /* What close could not do is left to those who find its life dropped. */
  forkq__account_close(account_here);
  ck_assert_uint_eq(ledger->cells[mine].state, USED);
  support_kill_and_wait(child);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_uint_eq(ledger->cells[mine].state, FREE);
}
END_TEST

/* ---- many that reap ---------------------------------------------------------------- */

#define ASKERS 5
#define ROUNDS_MAX 200

static void ask(void *arg) {
  (void)arg;
  reap();
  atomic_fetch_add(&flags[0], 1);
}

static void until_asleep_or_gone(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  for (char state = 'R'; state != 'S' && state != 'Z'; state = support_state_in(path))
    usleep(100);
}

/* How many waited for the lock, and how many reaps it took then. */
static int reap_at_once(uint64_t *ret_reaps) {
  pid_t children[ASKERS];
  atomic_store(&flags[0], 0);
  ck_assert_int_eq(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL),
                   0);
  uint64_t before = ledger->reaps_begun;
  for (int i = 0; i < ASKERS; i++)
    children[i] = support_fork(ask, NULL);
  for (int i = 0; i < ASKERS; i++)
    until_asleep_or_gone(children[i]);
  int waiting = ASKERS - atomic_load(&flags[0]);
  forkq__lock_release(&ledger->lock);
  for (int i = 0; i < ASKERS; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  *ret_reaps = ledger->reaps_begun - before;
  return waiting;
}

/* They wait for a tenth of a second, so on a slow machine some may have given up. */
START_TEST(one_reap_serves_all_who_wait_for_it) {
  int good = 0;
  for (int i = 0; i < ROUNDS_MAX && good < 10; i++) {
    uint64_t reaps;
    int waiting = reap_at_once(&reaps);
    ck_assert_uint_le(reaps, 2);
    good += waiting == ASKERS && reaps > 0;
  }
  ck_assert_int_eq(good, 10);
}
END_TEST

/* One that began before may have passed by who has died since. */
START_TEST(who_asks_when_no_reap_is_under_way_gets_one) {
  for (uint64_t i = 1; i <= 3; i++) {
    reap();
    ck_assert_uint_eq(ledger->reaps_begun, i);
    ck_assert_uint_eq(ledger->reaps_ended, i);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ledger_death");
  TCase *tcase = tcase_create("death");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, what_a_killed_process_held_comes_back_exactly);
  tcase_add_test(tcase, who_exits_without_close_is_dead_as_well);
  tcase_add_test(tcase, a_zombie_is_dead);
  tcase_add_test(tcase, a_stopped_process_lives);
  tcase_add_test(tcase, one_s_own_cell_lives);
  tcase_add_test(tcase, where_the_kernel_cannot_say_nobody_is_dead);
  tcase_add_test(tcase, a_forked_child_does_not_keep_its_parent_s_cell_alive);
  tcase_add_test(tcase, a_close_of_another_descriptor_of_the_file_changes_nothing);
  tcase_add_test(tcase, a_return_that_was_cut_in_two_is_completed);
  tcase_add_test(tcase, a_reaper_s_death_leaves_the_reaping_to_the_next);
  tcase_add_test(tcase, nobody_waits_for_a_stopped_owner_of_the_lock);
  tcase_add_test(tcase, one_reap_serves_all_who_wait_for_it);
  tcase_add_test(tcase, who_asks_when_no_reap_is_under_way_gets_one);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
