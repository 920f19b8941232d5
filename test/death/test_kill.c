/* kill -9: what the others are left with. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 50

static void create(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
}

static void check_descriptors(void) {
  ck_assert_int_eq(support_open_fds(), fds_before);
}

static void assert_alive(void) {
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(put(100 + i, 2000), 0);
    ck_assert_int_eq(get(2000), 100 + i);
  }
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

static void get_forever(void *arg) {
  (void)arg;
  get(-1);
}

START_TEST(idle_getters_killed_harm_nobody) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    pid_t getters[3];
    for (int i = 0; i < 3; i++)
      getters[i] = support_fork(get_forever, NULL);
    for (int i = 0; i < 3; i++)
      support_until_asleep(getters[i]);
    for (int i = 0; i < 3; i++)
      support_kill_and_wait(getters[i]);
    assert_alive();
  }
  forkq_queue_destroy(queue);
}
END_TEST

static void get_one(void *arg) {
  *(_Atomic int64_t *)arg = get(-1);
}

/* Whichever of two sleepers dies, also right after it was woken, the other gets the
 * item. */
START_TEST(a_wake_up_does_not_die_with_the_woken) {
  create(0);
  for (int round = 0; round < 4 * ROUNDS; round++) {
    _Atomic int64_t *got = support_shared(2 * sizeof *got);
    pid_t getters[2];
    for (int i = 0; i < 2; i++) {
      getters[i] = support_fork(get_one, (void *)&got[i]);
      support_until_asleep(getters[i]);
    }
    int victim = round & 1;
    ck_assert_int_eq(put(1, -1), 0);
    kill(getters[victim], SIGKILL);
    support_wait(getters[victim]);
    /* The victim may have taken the item with it: then there is another. Otherwise the
     * other gets this one, with nothing more to wake it. */
    if (forkq_queue_qsize(queue) == 0)
      ck_assert_int_eq(put(1, -1), 0);
    ck_assert_int_eq(support_wait(getters[!victim]), 0);
    ck_assert_int_eq(got[!victim], 1);
    while (forkq_queue_qsize(queue) > 0)
      get(0);
  }
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(a_stopped_getter_does_not_keep_an_item_from_another) {
  create(0);
  for (int victim = 0; victim < 2; victim++) {
    _Atomic int64_t *got = support_shared(2 * sizeof *got);
    pid_t getters[2];
    for (int i = 0; i < 2; i++) {
      getters[i] = support_fork(get_one, (void *)&got[i]);
      support_until_asleep(getters[i]);
    }
    support_stop(getters[victim]);
    ck_assert_int_eq(put(5, -1), 0);
    ck_assert_int_eq(support_wait(getters[!victim]), 0);
    ck_assert_int_eq(got[!victim], 5);
    kill(getters[victim], SIGCONT);
    ck_assert_int_eq(put(6, -1), 0);
    ck_assert_int_eq(support_wait(getters[victim]), 0);
    ck_assert_int_eq(got[victim], 6);
  }
  forkq_queue_destroy(queue);
}
END_TEST

static void put_forever(void *arg) {
  (void)arg;
  CHILD_MUST(put(9, -1) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(blocked_putters_killed_harm_nobody) {
  create(2);
  for (int round = 0; round < ROUNDS; round++) {
    ck_assert_int_eq(put(1, 0), 0);
    ck_assert_int_eq(put(2, 0), 0);
    pid_t putters[3];
    for (int i = 0; i < 3; i++)
      putters[i] = support_fork(put_forever, NULL);
    for (int i = 0; i < 3; i++)
      support_until_asleep(putters[i]);
    for (int i = 0; i < 3; i++)
      support_kill_and_wait(putters[i]);
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_eq(get(1000), 1);
    ck_assert_int_eq(put(3, 0), 0);
    ck_assert_int_eq(put(4, 0), FORKQ_FULL);
    ck_assert_int_eq(get(1000), 2);
    ck_assert_int_eq(get(1000), 3);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  }
  forkq_queue_destroy(queue);
}
END_TEST

static void put_large_and_stay(void *arg) {
  support_keep_to_pipe(queue);
  if (put_bin(10u << 20, -1) != 0)
    _exit(1);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

/* The feeder has filled the pipe and waits for room, in the middle of its message, with
 * the write lock. */
START_TEST(a_feeder_killed_in_the_middle_of_a_message) {
  create(2);
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int *flag = support_shared(sizeof *flag);
    pid_t child = support_fork(put_large_and_stay, (void *)flag);
    support_until(flag);
    support_until_pipe_full(queue);
    ck_assert_int_eq(put(1, 0), 0); /* behind it */
    ck_assert_int_eq(put(2, 0), FORKQ_FULL);
    support_kill_and_wait(child);
    ck_assert_int_eq(get(5000), 1);
    assert_alive();
    ck_assert_int_eq(put(1, 0), 0);
    ck_assert_int_eq(put(2, 0), 0);
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_eq(get(1000) + get(1000), 3);
  }
  forkq_queue_destroy(queue);
}
END_TEST

static void get_packed_forever(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  _exit(forkq_queue_get_packed(queue, &item, -1) < 0);
}

/* The reader sleeps with the read lock: the rest of the message does not come, as its
 * writer is stopped. */
START_TEST(a_getter_killed_in_the_middle_of_a_message) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int *flag = support_shared(sizeof *flag);
    pid_t writer = support_fork(put_large_and_stay, (void *)flag);
    support_until(flag);
    support_until_pipe_full(queue);
    support_stop(writer);
    pid_t reader = support_fork(get_packed_forever, NULL);
    support_until_pipe_empty(queue);
    support_until_asleep(reader);
    support_kill_and_wait(reader);
    kill(writer, SIGCONT);
    /* The message was the killed reader's, unless it had already left it to others. What
     * comes behind it comes. */
    ck_assert_int_eq(put(8, -1), 0);
    forkq_item_t item = FORKQ_ITEM_INIT;
    do {
      ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 5000), 0);
      ck_assert(item.size == 1 || item.size == 10u << 20);
    } while (item.size != 1);
    ck_assert_int_eq(item.data[0], 8);
    forkq_item_destroy(&item);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    support_kill_and_wait(writer);
  }
  forkq_queue_destroy(queue);
}
END_TEST

/* A stopped writer: timed gets end on time, and nothing is lost when it goes on. */
START_TEST(a_writer_stopped_in_the_middle_of_a_message) {
  create(0);
  _Atomic int *flag = support_shared(sizeof *flag);
  pid_t writer = support_fork(put_large_and_stay, (void *)flag);
  support_until(flag);
  support_until_pipe_full(queue);
  support_stop(writer);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(get(100), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  kill(writer, SIGCONT);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  ck_assert_uint_eq(item.size, 10u << 20);
  forkq_item_destroy(&item);
  assert_alive();
  support_kill_and_wait(writer);
  forkq_queue_destroy(queue);
}
END_TEST

struct hoarder {
  int64_t count;
  _Atomic int *done;
};

/* Puts items behind a message that fills the pipe, so that they stay in the outbox. */
static void hoard(void *arg) {
  struct hoarder *hoarder = arg;
  support_keep_to_pipe(queue);
  if (put_bin(1u << 20, -1) != 0)
    _exit(1);
  for (int64_t i = 1; i < hoarder->count; i++)
    if (put(i, 0) != 0)
      _exit(1);
  atomic_store(hoarder->done, 1);
  pause();
}

START_TEST(slots_of_a_killed_producer_come_back_exactly) {
  create(4);
  for (int round = 0; round < ROUNDS; round++) {
    struct hoarder hoarder = { 1 + round % 4, support_shared(sizeof(int)) };
    pid_t child = support_fork(hoard, &hoarder);
    support_until(hoarder.done);
    ck_assert_int_eq(forkq_queue_qsize(queue), hoarder.count);
    support_kill_and_wait(child);
    for (int i = 0; i < 4; i++)
      ck_assert_int_eq(put(i, 0), 0);
    ck_assert_int_eq(put(4, 0), FORKQ_FULL);
    for (int i = 0; i < 4; i++)
      ck_assert_int_eq(get(2000), i);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  }
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(a_putter_waiting_for_slots_of_the_dead_goes_on) {
  create(2);
  for (int round = 0; round < ROUNDS; round++) {
    struct hoarder hoarder = { 2, support_shared(sizeof(int)) };
    pid_t child = support_fork(hoard, &hoarder);
    support_until(hoarder.done);
    pid_t putter = support_fork(put_forever, NULL);
    support_until_asleep(putter);
    support_kill_and_wait(child);
    ck_assert_int_eq(get(5000), 9);
    ck_assert_int_eq(support_wait(putter), 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  }
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(an_unreaped_zombie_is_dead) {
  create(1);
  struct hoarder hoarder = { 1, support_shared(sizeof(int)) };
  pid_t child = support_fork(hoard, &hoarder);
  support_until(hoarder.done);
  support_kill(child);
  ck_assert_int_eq(put(1, 1000), 0);
  ck_assert_int_eq(get(1000), 1);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(a_stopped_producer_is_not_dead) {
  create(2);
  struct hoarder hoarder = { 2, support_shared(sizeof(int)) };
  pid_t child = support_fork(hoard, &hoarder);
  support_until(hoarder.done);
  support_stop(child);
  ck_assert_int_eq(put(1, 300), FORKQ_TIMEDOUT);
  kill(child, SIGCONT);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 5000), 0);
  ck_assert_uint_eq(item.size, 1u << 20);
  forkq_item_destroy(&item);
  ck_assert_int_eq(get(5000), 1);
  support_kill_and_wait(child);
  forkq_queue_destroy(queue);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("kill");
  TCase *tcase = tcase_create("kill");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, check_descriptors);
  tcase_add_test(tcase, idle_getters_killed_harm_nobody);
  tcase_add_test(tcase, a_wake_up_does_not_die_with_the_woken);
  tcase_add_test(tcase, a_stopped_getter_does_not_keep_an_item_from_another);
  tcase_add_test(tcase, blocked_putters_killed_harm_nobody);
  tcase_add_test(tcase, a_feeder_killed_in_the_middle_of_a_message);
  tcase_add_test(tcase, a_getter_killed_in_the_middle_of_a_message);
  tcase_add_test(tcase, a_writer_stopped_in_the_middle_of_a_message);
  tcase_add_test(tcase, slots_of_a_killed_producer_come_back_exactly);
  tcase_add_test(tcase, a_putter_waiting_for_slots_of_the_dead_goes_on);
  tcase_add_test(tcase, an_unreaped_zombie_is_dead);
  tcase_add_test(tcase, a_stopped_producer_is_not_dead);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
