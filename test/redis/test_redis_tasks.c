/* Tasks of a queue of a server: done, joined, given back; leases; and what a fork makes of it all. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that is not run for so long loses what it has. So only tests of leases have the short one. */
#define TASKS "queue=jobs&joinable=1&lease=60000"
#define LEASE "queue=jobs&joinable=1&lease=300"

static forkq_item_t item;

static void set_up(void) {
  redis_set_up(TASKS);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  redis_tear_down();
}

static int get_item(forkq_queue_t *from, int timeout_ms) {
  int r = forkq_queue_get(from, &item, timeout_ms);
  return r < 0 ? r : (int)item.object.via.i64;
}

START_TEST(tasks_are_done_and_joined) {
  struct caller joiner;
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(forkq_queue_join(queue, 50, NULL), FORKQ_TIMEDOUT);
  begin_join(&joiner, queue, -1);
  until_blocked(1);
  int64_t began = support_now_ms();
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(end_call(&joiner), 0);
  ck_assert_int_le(joiner.ended - began, PROMPT_MS);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

START_TEST(a_join_ends_on_time) {
  ck_assert_int_eq(put(1, 0), 0);
  int64_t began = support_now_ms();
  ck_assert_int_eq(forkq_queue_join(queue, 150, NULL), FORKQ_TIMEDOUT);
  took(began, 150);
  struct caller joiner;
  begin_join(&joiner, queue, -1);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(end_call(&joiner), FORKQ_EINTERRUPTED);
}
END_TEST

START_TEST(items_are_marked_in_any_order) {
  forkq_item_t other = FORKQ_ITEM_INIT;
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get_item(queue, 0), 1);
  ck_assert_int_eq(forkq_queue_get(queue, &other, 0), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &other), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &other), FORKQ_ETASKDONE);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 1);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  forkq_item_destroy(&other);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &other), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
}
END_TEST

START_TEST(a_close_gives_back) {
  forkq_queue_t *other = open_other(TASKS);
  for (int i = 1; i <= 4; i++)
    ck_assert_int_eq(put(i, 0), 0);
  for (int i = 1; i <= 3; i++)
    ck_assert_int_eq(get_int(other, 0), i);
  ck_assert_int_eq(forkq_queue_close(other), 0);
  for (int i = 1; i <= 4; i++) {
    ck_assert_int_eq(get_item(queue, 0), i);
    ck_assert_uint_eq(item.redelivered, i <= 3);
  }
  forkq_queue_destroy(other);
}
END_TEST

static void get_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(get(0) == 1);
  CHILD_MUST(get(0) == 2);
  raise(SIGKILL);
}

START_TEST(what_a_killed_process_had_comes_back) {
  open_queue(LEASE);
  for (int i = 1; i <= 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  int64_t began = support_now_ms();
  ck_assert_int_eq(support_wait(support_fork(get_and_die, NULL)), 128 + SIGKILL);
  ck_assert_int_eq(get_item(queue, 0), 3);
  ck_assert_int_eq(get_item(queue, PATIENCE_MS), 1);
  ck_assert_int_le(support_now_ms() - began, 300 * 4 / 3 + PROMPT_MS);
  ck_assert_uint_eq(item.redelivered, 1);
  ck_assert_int_eq(get_item(queue, PATIENCE_MS), 2);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  ck_assert_int_eq(server_number("EXISTS {fq:jobs}:n"), 0);
}
END_TEST

static _Atomic int *steps;

static void get_and_wait(void *arg) {
  (void)arg;
  CHILD_MUST(get(0) == 1);
  atomic_store(&steps[0], 1);
  support_until(&steps[1]);
  CHILD_MUST(forkq_queue_task_done(queue) == FORKQ_ELEASE);
  CHILD_MUST(forkq_queue_task_done(queue) == FORKQ_ETASKDONE);
  CHILD_MUST(put(5, 0) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 5);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  until_server_number(0, "ZCARD {fq:jobs}:g"); /* its numbers are not to be forgotten */
}

START_TEST(a_stopped_process_loses_its_lease) {
  open_queue(LEASE);
  steps = support_shared(2 * sizeof *steps);
  ck_assert_int_eq(put(1, 0), 0);
  pid_t child = support_fork(get_and_wait, NULL);
  support_until(&steps[0]);
  support_stop(child);
  ck_assert_int_eq(get_item(queue, PATIENCE_MS), 1);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  atomic_store(&steps[1], 1);
  kill(child, SIGCONT);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* A living process keeps what it has, however long it takes. */
START_TEST(a_lease_is_kept) {
  open_queue(LEASE);
  forkq_queue_t *other = open_other(LEASE);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get_item(queue, 0), 1);
  ck_assert_int_eq(get_int(other, 1200), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  forkq_queue_destroy(other);
}
END_TEST

static void until_above(const char *name, int64_t number) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (server_info(name) <= number) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(1000);
  }
}

/* The beat is the only one that asks the server. It loads the scripts again. */
START_TEST(a_lease_is_kept_where_scripts_are_gone) {
  open_queue(LEASE);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get_item(queue, 0), 1);
  until_above("cmdstat_evalsha:calls=", server_info("cmdstat_evalsha:calls="));
  ck_assert(server_says("OK", "SCRIPT FLUSH"));
  until_above("number_of_cached_scripts:", 0);
}
END_TEST

/* The queue is the child's as well, but not what its parent got. */
static void use_as_child(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_task_done(queue) == FORKQ_ETASKDONE);
  CHILD_MUST(put(7, 0) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 7);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
}

START_TEST(a_child_has_connections_of_its_own) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get_item(queue, 0), 1);
  ck_assert_int_eq(support_wait(support_fork(use_as_child, NULL)), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(get_item(queue, 0), 2);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
}
END_TEST

static void use_beside(void *arg) {
  (void)arg;
  forkq_queue_t *other = open_other("queue=other");
  CHILD_MUST(put_int(other, 7, 0) == 0);
  CHILD_MUST(get_int(other, PATIENCE_MS) == 7);
  forkq_queue_destroy(other);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
}

static void do_nothing(void *arg) {
  (void)arg;
  exit(0);
}

START_TEST(a_fork_beside_a_waiting_thread) {
  struct caller getter;
  begin_get(&getter, queue, -1);
  until_blocked(1);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(support_wait(support_fork(use_beside, NULL)), 0);
    ck_assert_int_eq(support_wait(support_fork(do_nothing, NULL)), 0);
  }
  ck_assert_int_eq(put(9, 0), 0);
  ck_assert_int_eq(end_call(&getter), 9);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
}
END_TEST

static void get_and_exit(void *arg) {
  (void)arg;
  CHILD_MUST(get(0) == 1);
  exit(0);
}

START_TEST(exit_gives_back_at_once) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(support_wait(support_fork(get_and_exit, NULL)), 0);
  ck_assert_int_eq(get_item(queue, 0), 1);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_tasks");
  TCase *tcase = tcase_create("redis_tasks");
  tcase_add_unchecked_fixture(tcase, server_start_plain, server_stop);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, tasks_are_done_and_joined);
  tcase_add_test(tcase, a_join_ends_on_time);
  tcase_add_test(tcase, items_are_marked_in_any_order);
  tcase_add_test(tcase, a_close_gives_back);
  tcase_add_test(tcase, what_a_killed_process_had_comes_back);
  tcase_add_test(tcase, a_stopped_process_loses_its_lease);
  tcase_add_test(tcase, a_lease_is_kept);
  tcase_add_test(tcase, a_lease_is_kept_where_scripts_are_gone);
  tcase_add_test(tcase, a_child_has_connections_of_its_own);
  tcase_add_test(tcase, a_fork_beside_a_waiting_thread);
  tcase_add_test(tcase, exit_gives_back_at_once);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
