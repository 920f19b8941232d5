/* Waiting for a queue of a server: without polling, in order, and what ends a wait. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define WAITERS 5

static void set_up(void) {
  redis_set_up("queue=jobs&maxsize=2");
}

static void fill(void) {
  ck_assert_int_eq(put(0, 0), 0);
  ck_assert_int_eq(put(1, 0), 0);
}

START_TEST(a_get_is_woken_by_a_put) {
  struct caller getter;
  begin_get(&getter, queue, -1);
  until_blocked(1);
  int64_t began = support_now_ms();
  ck_assert_int_eq(put(7, 0), 0);
  ck_assert_int_eq(end_call(&getter), 7);
  ck_assert_int_le(getter.ended - began, PROMPT_MS);
}
END_TEST

START_TEST(a_put_is_let_in_by_a_get) {
  struct caller putter;
  fill();
  begin_put(&putter, queue, 2, -1);
  until_puts_wait(1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  int64_t began = support_now_ms();
  ck_assert_int_eq(get(0), 0);
  ck_assert_int_eq(end_call(&putter), 0);
  ck_assert_int_le(putter.ended - began, PROMPT_MS);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

START_TEST(puts_are_let_in_in_their_order) {
  struct caller putters[WAITERS];
  fill();
  for (int i = 0; i < WAITERS; i++) {
    begin_put(&putters[i], queue, 2 + i, PATIENCE_MS);
    until_puts_wait(i + 1);
  }
  ck_assert_int_eq(put(99, 0), FORKQ_FULL);
  for (int i = 0; i < 2 + WAITERS; i++) {
    ck_assert_int_eq(get(0), i);
    ck_assert_int_le(server_number("LLEN {fq:jobs}:i"), 2);
  }
  for (int i = 0; i < WAITERS; i++)
    ck_assert_int_eq(end_call(&putters[i]), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

START_TEST(a_put_whose_time_is_over_is_not_let_in) {
  struct caller first, second;
  fill();
  begin_put(&first, queue, 2, 1500);
  until_puts_wait(1);
  begin_put(&second, queue, 3, PATIENCE_MS);
  until_puts_wait(2);
  ck_assert_int_eq(end_call(&first), FORKQ_TIMEDOUT);
  until_puts_wait(1);
  ck_assert_int_eq(get(0), 0);
  ck_assert_int_eq(end_call(&second), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 3);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

START_TEST(waiting_costs_few_commands) {
  struct caller getter;
  begin_get(&getter, queue, 1500);
  until_blocked(1);
  int64_t before = server_info("total_commands_processed:");
  ck_assert_int_eq(end_call(&getter), FORKQ_TIMEDOUT);
  /* What ends the wait, and the look itself. */
  ck_assert_int_le(server_info("total_commands_processed:") - before, 25);
}
END_TEST

START_TEST(an_interrupt_ends_waits) {
  struct caller getter, putter;
  forkq_queue_t *other = open_other("queue=other&maxsize=1");
  ck_assert_int_eq(put_int(other, 0, 0), 0);
  begin_get(&getter, queue, -1);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(end_call(&getter), FORKQ_EINTERRUPTED);
  begin_put(&putter, other, 1, -1);
  until_server_number(1, "LLEN {fq:other}:w");
  ck_assert_int_eq(forkq_queue_interrupt(other), 0);
  ck_assert_int_eq(end_call(&putter), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(server_number("LLEN {fq:other}:w"), 0);
  ck_assert_int_eq(get_int(other, 0), 0);
  ck_assert_int_eq(get_int(other, 0), FORKQ_EMPTY);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(a_close_ends_waits) {
  struct caller getter, putter;
  forkq_queue_t *other = open_other("queue=other&maxsize=1");
  ck_assert_int_eq(put_int(other, 0, 0), 0);
  begin_put(&putter, other, 1, -1);
  until_server_number(1, "LLEN {fq:other}:w");
  begin_get(&getter, queue, -1);
  until_blocked(2);
  ck_assert_int_eq(forkq_queue_close(other), 0);
  ck_assert_int_eq(end_call(&putter), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(end_call(&getter), FORKQ_ECLOSED);
  ck_assert_int_eq(server_number("LLEN {fq:other}:w"), 0);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(a_shutdown_ends_waits) {
  struct caller getters[WAITERS], putters[WAITERS];
  forkq_queue_t *other = open_other("queue=other&maxsize=1");
  ck_assert_int_eq(put_int(other, 5, 0), 0);
  for (int i = 0; i < WAITERS; i++)
    begin_get(&getters[i], queue, -1);
  until_blocked(WAITERS);
  for (int i = 0; i < WAITERS; i++)
    begin_put(&putters[i], other, i, -1);
  until_server_number(WAITERS, "LLEN {fq:other}:w");
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(forkq_queue_shutdown(other, 0), 0);
  for (int i = 0; i < WAITERS; i++) {
    ck_assert_int_eq(end_call(&getters[i]), FORKQ_ESHUTDOWN);
    ck_assert_int_eq(end_call(&putters[i]), FORKQ_ESHUTDOWN);
  }
  ck_assert_int_eq(put_int(other, 6, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_qsize(other), 1);
  ck_assert_int_eq(get_int(other, -1), 5);
  ck_assert_int_eq(get_int(other, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get_int(other, 0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_qsize(other), 0);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(an_immediate_shutdown_drops) {
  fill();
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

static void cancel(struct caller *caller) {
  ck_assert_int_eq(pthread_cancel(caller->thread), 0);
  ck_assert_ptr_eq(support_join(caller->thread), PTHREAD_CANCELED);
}

/* What the thread's get might have taken is there for others, and its put is gone. */
START_TEST(cancelled_threads_leave_nothing) {
  struct caller caller;
  begin_get(&caller, queue, -1);
  until_blocked(1);
  cancel(&caller);
  until_blocked(0);
  fill();
  begin_put(&caller, queue, 2, -1);
  until_puts_wait(1);
  cancel(&caller);
  until_puts_wait(0);
  ck_assert_int_eq(get(0), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(3, 0), 0);
  ck_assert_int_eq(get(-1), 3);
}
END_TEST

/* Processes that wait are killed: the server sees their connections end. */
static void wait_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(get(-1) == 0);
}

#define KILLED_MS 1500 /* within which the test sees it wait */

static void put_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(put(2, KILLED_MS) == 0);
}

/* The server drops it when its time is over; its process cannot say so any more. */
START_TEST(a_killed_put_is_not_let_in_later) {
  fill();
  pid_t child = support_fork(put_and_die, NULL);
  until_puts_wait(1);
  int64_t end = support_now_ms() + KILLED_MS;
  support_kill_and_wait(child);
  while (support_now_ms() <= end)
    usleep(10000);
  ck_assert_int_eq(get(0), 0);
  ck_assert_int_eq(server_number("LLEN {fq:jobs}:w"), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

START_TEST(killed_getters_delay_nobody) {
  pid_t children[WAITERS];
  struct caller getter;
  for (int i = 0; i < WAITERS; i++)
    children[i] = support_fork(wait_and_die, NULL);
  until_blocked(WAITERS);
  begin_get(&getter, queue, -1);
  until_blocked(WAITERS + 1);
  for (int i = 0; i < WAITERS; i++)
    support_kill_and_wait(children[i]);
  until_blocked(1);
  int64_t began = support_now_ms();
  ck_assert_int_eq(put(7, 0), 0);
  ck_assert_int_eq(end_call(&getter), 7);
  ck_assert_int_le(getter.ended - began, PROMPT_MS);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_waits");
  TCase *tcase = tcase_create("redis_waits");
  tcase_add_unchecked_fixture(tcase, server_start_plain, server_stop);
  tcase_add_checked_fixture(tcase, set_up, redis_tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, a_get_is_woken_by_a_put);
  tcase_add_test(tcase, a_put_is_let_in_by_a_get);
  tcase_add_test(tcase, puts_are_let_in_in_their_order);
  tcase_add_test(tcase, a_put_whose_time_is_over_is_not_let_in);
  tcase_add_test(tcase, waiting_costs_few_commands);
  tcase_add_test(tcase, an_interrupt_ends_waits);
  tcase_add_test(tcase, a_close_ends_waits);
  tcase_add_test(tcase, a_shutdown_ends_waits);
  tcase_add_test(tcase, an_immediate_shutdown_drops);
  tcase_add_test(tcase, cancelled_threads_leave_nothing);
  tcase_add_test(tcase, a_killed_put_is_not_let_in_later);
  tcase_add_test(tcase, killed_getters_delay_nobody);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
