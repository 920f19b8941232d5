/* Processes that are stopped, and processes that are dead and not reaped: who waits for them,
 * who does not, and that a stopped one is never taken for a dead one. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE (1u << 20)
#define TIMEOUT_MS 200

/* A call ends with its timeout or some tenths of a second later; the rest is for a machine that
 * is busy. */
#define LATE_MS 3000

static void set_up(void) {
  queue = NULL;
  fds_before = support_open_fds();
}

/* A binary of LARGE bytes in all that depend on `seed`. */
static void fill(char *data, uint64_t seed) {
  support_fill(data, LARGE, seed);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)((LARGE - 5) >> (24 - 8 * i));
}

static int put_large(uint64_t seed) {
  char *data = malloc(LARGE);
  fill(data, seed);
  int r = forkq_queue_put_packed(queue, data, LARGE, 0);
  free(data);
  return r;
}

static void assert_get_large(uint64_t seed) {
  char *data = malloc(LARGE);
  forkq_item_t item = FORKQ_ITEM_INIT;
  fill(data, seed);
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 20000), 0);
  ck_assert_uint_eq(item.size, LARGE);
  ck_assert(memcmp(item.data, data, LARGE) == 0);
  forkq_item_destroy(&item);
  free(data);
}

/* Puts a large message and a small one behind it; the pipe holds a part of the first. */
static void put_and_stay(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_large(7) == 0 && put(8, 0) == 0);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

static pid_t start_writer(void) {
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t writer = support_fork(put_and_stay, (void *)ready);
  support_until(ready);
  support_until_pipe_full(queue);
  return writer;
}

static pid_t stopped_writer(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
  support_shrink_pipe(queue);
  pid_t writer = start_writer();
  support_stop(writer);
  return writer;
}

static void assert_on_time(int64_t begin_ms, int timeout_ms) {
  int64_t took = support_now_ms() - begin_ms;
  ck_assert_int_ge(took, timeout_ms);
  ck_assert_int_lt(took, timeout_ms + LATE_MS);
}

static void get_for_a_while(void *arg) {
  (void)arg;
  int64_t begin_ms = support_now_ms();
  CHILD_MUST(get(TIMEOUT_MS) == FORKQ_TIMEDOUT);
  int64_t took = support_now_ms() - begin_ms;
  CHILD_MUST(took >= TIMEOUT_MS && took < TIMEOUT_MS + LATE_MS);
  forkq_queue_destroy(queue);
}

/* The part that came is handed from one of them to the next; none waits for the other. */
START_TEST(gets_of_several_processes_end_on_time_and_nothing_is_lost) {
  pid_t writer = stopped_writer(0), getters[4];
  for (int i = 0; i < 4; i++)
    getters[i] = support_fork(get_for_a_while, NULL);
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(support_wait(getters[i]), 0);
  kill(writer, SIGCONT);
  assert_get_large(7);
  ck_assert_int_eq(get(20000), 8);
  support_kill_and_wait(writer);
}
END_TEST

START_TEST(a_batch_ends_on_time) {
  pid_t writer = stopped_writer(0);
  forkq_item_t items[4] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT,
                            FORKQ_ITEM_INIT };
  size_t got;
  int64_t begin_ms = support_now_ms();
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 4, TIMEOUT_MS, &got),
                   FORKQ_TIMEDOUT);
  assert_on_time(begin_ms, TIMEOUT_MS);
  for (int i = 0; i < 4; i++)
    forkq_item_destroy(&items[i]);
  kill(writer, SIGCONT);
  assert_get_large(7);
  ck_assert_int_eq(get(20000), 8);
  support_kill_and_wait(writer);
}
END_TEST

/* Another process may put meanwhile, and its items come behind the message. */
START_TEST(puts_do_not_wait_for_a_stopped_writer) {
  pid_t writer = stopped_writer(0);
  int64_t begin_ms = support_now_ms();
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(put(100 + i, 0), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 102);
  assert_on_time(begin_ms, 0);
  kill(writer, SIGCONT);
  assert_get_large(7);
  for (int64_t next = 100, own = 8, left = 101, value; left > 0; left--) {
    value = get(20000);
    ck_assert(value == next || value == own);
    if (value == next)
      next++;
    else
      own = -1;
  }
  support_kill_and_wait(writer);
}
END_TEST

/* With all slots in the hands of a stopped process a put waits its time, however often. */
START_TEST(slots_of_a_stopped_process_are_not_taken_back) {
  pid_t writer = stopped_writer(2);
  int64_t begin_ms = support_now_ms();
  ck_assert_int_eq(put(1, TIMEOUT_MS), FORKQ_TIMEDOUT);
  assert_on_time(begin_ms, TIMEOUT_MS);
  for (int i = 0; i < 20; i++)
    ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  ck_assert_int_eq(forkq_queue_full(queue), 1);
  kill(writer, SIGCONT);
  assert_get_large(7);
  ck_assert_int_eq(get(20000), 8);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  support_kill_and_wait(writer);
}
END_TEST

/* Killed while it is stopped, and not reaped, it is dead: what it had not written is lost, and
 * its slots are free. */
START_TEST(a_stopped_process_that_is_killed_and_not_reaped_is_dead) {
  pid_t writer = stopped_writer(2);
  support_kill(writer);
  ck_assert_int_eq(put(1, 5000), 0);
  ck_assert_int_eq(put(2, 5000), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  ck_assert_int_eq(get(20000), 1);
  ck_assert_int_eq(get(20000), 2);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(support_wait(writer), 128 + SIGKILL);
}
END_TEST

/* The same of a simple queue, whose putting process writes itself: with the write lock, in the
 * middle of its message. */
static forkq_simple_queue_t *simple;

static void put_large_through(void *arg) {
  (void)arg;
  support_keep_to_pipe(simple);
  char *data = malloc(LARGE);
  fill(data, 7);
  (void)!forkq_simple_queue_put_packed(simple, data, LARGE);
}

static void put_nil_and_leave(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_simple_queue_put_packed(simple, "\xc0", 1) == 0);
  forkq_simple_queue_destroy(simple);
}

START_TEST(a_simple_queue_goes_on_behind_a_zombie) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  pid_t writer = support_fork(put_large_through, NULL);
  support_until_pipe_full(simple);
  support_stop(writer);
  pid_t next = support_fork(put_nil_and_leave, NULL);
  support_until_asleep(next); /* it waits for the stopped one */
  support_kill(writer);
  ck_assert_int_eq(forkq_simple_queue_get_packed(simple, &item), 0);
  ck_assert_uint_eq(item.size, 1);
  ck_assert_int_eq(support_wait(next), 0);
  ck_assert_int_eq(support_wait(writer), 128 + SIGKILL);
  forkq_item_destroy(&item);
  forkq_simple_queue_destroy(simple);
}
END_TEST

/* Neither a stop of the sleeper nor its end as a zombie keeps an item from the others. */
static void get_one(void *arg) {
  (void)arg;
  _exit(get(-1) == 1 ? 0 : 1);
}

START_TEST(a_zombie_that_slept_in_a_get_hands_on) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  support_shrink_pipe(queue);
  pid_t first = support_fork(get_one, NULL);
  support_until_asleep(first);
  pid_t second = support_fork(get_one, NULL);
  support_until_asleep(second);
  support_stop(first);
  support_kill(first);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(support_wait(second), 0);
  ck_assert_int_eq(support_wait(first), 128 + SIGKILL);
}
END_TEST

/* A message may stop and go on at any place, again and again. */
START_TEST(a_writer_that_stutters_loses_nothing) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  support_shrink_pipe(queue);
  for (int round = 0; round < 20; round++) {
    pid_t writer = start_writer();
    for (int i = 0; i < 5; i++) {
      support_stop(writer);
      ck_assert_int_eq(get(i), i == 0 ? FORKQ_EMPTY : FORKQ_TIMEDOUT);
      kill(writer, SIGCONT);
      support_until_pipe_full(queue);
    }
    assert_get_large(7);
    ck_assert_int_eq(get(20000), 8);
    support_kill_and_wait(writer);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("stalled");
  TCase *tcase = tcase_create("stalled");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, gets_of_several_processes_end_on_time_and_nothing_is_lost);
  tcase_add_test(tcase, a_batch_ends_on_time);
  tcase_add_test(tcase, puts_do_not_wait_for_a_stopped_writer);
  tcase_add_test(tcase, slots_of_a_stopped_process_are_not_taken_back);
  tcase_add_test(tcase, a_stopped_process_that_is_killed_and_not_reaped_is_dead);
  tcase_add_test(tcase, a_simple_queue_goes_on_behind_a_zombie);
  tcase_add_test(tcase, a_zombie_that_slept_in_a_get_hands_on);
  tcase_add_test(tcase, a_writer_that_stutters_loses_nothing);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
