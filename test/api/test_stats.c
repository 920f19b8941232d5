/* forkq_queue_stats: every number moves as its documentation says. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE (1u << 20)

static void create(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

static void await_feeder(void) {
  if (UNDER_ASAN)
    support_until_threads_asleep(1);
}

static void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  create(0);
}

static forkq_queue_stats_t stats(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  CHILD_MUST(forkq_queue_stats(queue, &now) == 0);
  CHILD_MUST(now.size == sizeof now);
  return now;
}

START_TEST(arguments) {
  forkq_queue_stats_t now;
  forkq_queue_stats_t same;
  memset(&now, 0x5a, sizeof now);
  ck_assert_int_eq(put(1, -1), 0);
  static const size_t sizes[] = { 0, 8, sizeof now - 1, sizeof now + 1, SIZE_MAX };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    now.size = sizes[i];
    same = now;
    ck_assert_int_eq(forkq_queue_stats(queue, &now), FORKQ_ERANGE);
    ck_assert_mem_eq(&now, &same, sizeof now);
  }
  now.size = sizeof now;
  ck_assert_int_eq(forkq_queue_stats(NULL, &now), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_stats(queue, NULL), FORKQ_ENULL);
}
END_TEST

/* As of a program that was built with an earlier version: the fields it has are filled in, and not a
 * byte behind them is written. */
START_TEST(of_an_earlier_version) {
  ck_assert_int_eq(put(1, -1), 0);
  const size_t oldest = offsetof(forkq_queue_stats_t, put_bytes);
  for (size_t size = oldest; size <= sizeof(forkq_queue_stats_t);
       size += sizeof(size_t)) {
    forkq_queue_stats_t whole = stats(), older;
    memset(&older, 0x5a, sizeof older);
    older.size = whole.size = size;
    ck_assert_int_eq(forkq_queue_stats(queue, &older), 0);
    ck_assert_mem_eq(&older, &whole, size);
    for (size_t i = size; i < sizeof older; i++)
      ck_assert_int_eq(((const char *)&older)[i], 0x5a);
  }
}
END_TEST

START_TEST(a_new_queue_has_none) {
  forkq_queue_stats_t none = { .size = sizeof none };
  forkq_queue_stats_t now = stats();
  ck_assert_mem_eq(&now, &none, sizeof now);
}
END_TEST

static int pack_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 1;
}

static void put_and_leave(void *arg) {
  (void)arg;
  CHILD_MUST(put(70000, -1) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(items_and_bytes) {
  static const int64_t values[] = { 1, 200, 1000, 70000 };
  static const uint64_t bytes[] = { 1, 3, 6, 11 }; /* their sums */
  for (uint64_t i = 0; i < 3; i++) {
    ck_assert_int_eq(put(values[i], -1), 0);
    ck_assert_uint_eq(stats().put_items, i + 1);
    ck_assert_uint_eq(stats().put_bytes, bytes[i]);
    ck_assert_uint_eq(stats().got_items, 0);
    ck_assert_uint_eq(stats().got_bytes, 0);
  }
  await_feeder();
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  ck_assert_uint_eq(stats().put_items, 4);
  ck_assert_uint_eq(stats().put_bytes, bytes[3]);
  uint64_t got_bytes = 0;
  for (uint64_t i = 0; i < 4; i++) {
    int64_t value = get(5000);
    got_bytes += value < 128 ? 1 : value < 256 ? 2 : value < 65536 ? 3 : 5;
    ck_assert_uint_eq(stats().got_items, i + 1);
    ck_assert_uint_eq(stats().got_bytes, got_bytes);
  }
  ck_assert_uint_eq(stats().put_items, 4);
  ck_assert_uint_eq(got_bytes, bytes[3]);
}
END_TEST

/* The large ones go beside the pipe, or in fragments. */
enum { BESIDE, IN_FRAGMENTS, WAYS };

START_TEST(a_large_item_counts_as_one) {
  if (_i == IN_FRAGMENTS)
    support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  ck_assert_uint_eq(stats().put_items, 1);
  ck_assert_uint_eq(stats().put_bytes, LARGE);
  assert_get_bin(LARGE);
  ck_assert_uint_eq(stats().got_items, 1);
  ck_assert_uint_eq(stats().got_bytes, LARGE);
}
END_TEST

/* As an object its size is not known before it is packed. */
START_TEST(a_large_object_counts_as_one) {
  static char data[LARGE];
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  forkq_item_t item = FORKQ_ITEM_INIT;
  object.via.bin.ptr = data;
  object.via.bin.size = LARGE;
  create(2);
  if (_i == IN_FRAGMENTS)
    support_keep_to_pipe(queue);
  for (uint64_t i = 1; i <= 3; i++) {
    ck_assert_int_eq(forkq_queue_put(queue, &object, 0), 0);
    ck_assert_uint_eq(stats().put_items, i);
    ck_assert_uint_eq(stats().put_bytes, i * (LARGE + 5));
    ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
    ck_assert_uint_eq(stats().got_items, i);
  }
  size_t put;
  const msgpack_object batch[] = { object, object };
  ck_assert_int_eq(forkq_queue_put_many(queue, batch, 2, 0, &put), 0);
  ck_assert_uint_eq(put, 2);
  ck_assert_uint_eq(stats().put_items, 5);
  ck_assert_int_eq(forkq_queue_put(queue, &object, 0), FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_put(queue, &object, 2), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(stats().put_items, 5);
  ck_assert_uint_eq(stats().lost_items, 0);
  forkq_item_destroy(&item);
}
END_TEST

/* What did not pack was not accepted. */
START_TEST(items_that_were_not_put) {
  static msgpack_object deep[FORKQ_DEPTH_MAX + 2];
  for (int i = 0; i <= FORKQ_DEPTH_MAX; i++) {
    deep[i].type = MSGPACK_OBJECT_ARRAY;
    deep[i].via.array.size = 1;
    deep[i].via.array.ptr = &deep[i + 1];
  }
  create(1);
  ck_assert_int_eq(forkq_queue_put(queue, deep, -1), FORKQ_ETOODEEP);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nothing, NULL, -1), FORKQ_EPACK);
  ck_assert_uint_eq(stats().put_items, 0);
  ck_assert_uint_eq(stats().put_bytes, 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  ck_assert_uint_eq(stats().put_items, 1);
  ck_assert_uint_eq(stats().put_bytes, 1);
  ck_assert_uint_eq(stats().lost_items, 0);
}
END_TEST

static void put_and_wait(void *arg) {
  (void)arg;
  CHILD_MUST(put(2, -1) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(waits_of_putters) {
  create(1);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, 0), FORKQ_FULL);
  ck_assert_uint_eq(stats().put_waits, 0);
  await_feeder();
  pid_t putter = support_fork(put_and_wait, NULL);
  while (stats().put_waits == 0)
    usleep(100);
  support_until_asleep(putter);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_int_eq(support_wait(putter), 0);
  uint64_t waits = stats().put_waits;
  ck_assert_uint_ge(waits, 1);
  ck_assert_int_eq(get(5000), 2);
  ck_assert_int_eq(put(3, -1), 0);
  ck_assert_uint_eq(stats().put_waits, waits);
}
END_TEST

static void get_and_wait(void *arg) {
  (void)arg;
  CHILD_MUST(get(-1) == 1);
}

START_TEST(waits_of_getters) {
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(get(0), 2);
  ck_assert_uint_eq(stats().get_waits, 0);
  await_feeder();
  pid_t getter = support_fork(get_and_wait, NULL);
  while (stats().get_waits == 0)
    usleep(100);
  support_until_asleep(getter);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(support_wait(getter), 0);
  uint64_t waits = stats().get_waits;
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(get(5000), 2);
  ck_assert_uint_eq(stats().get_waits, waits);
}
END_TEST

static void see_nothing_of_the_outbox(void *arg) {
  (void)arg;
  CHILD_MUST(stats().outbox_items == 0);
  CHILD_MUST(stats().outbox_bytes == 0);
  CHILD_MUST(stats().put_items == 4);
  CHILD_MUST(stats().put_bytes == LARGE + 3);
}

/* What one process holds is no number of the other's. */
START_TEST(the_outbox_of_this_process) {
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, -1), 0);
  support_until_pipe_full(queue);
  forkq_queue_stats_t now = stats();
  ck_assert_uint_eq(now.outbox_items, 4);
  ck_assert_uint_gt(now.outbox_bytes, 3);
  ck_assert_uint_lt(now.outbox_bytes, LARGE);
  ck_assert_int_eq(support_wait(support_fork(see_nothing_of_the_outbox, NULL)), 0);
  assert_get_bin(LARGE);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(5000), i);
  /* What was read here a moment ago, the feeder may not have counted yet. */
  for (int64_t start = support_now_ms(); stats().outbox_items > 0;)
    ck_assert_int_lt(support_now_ms() - start, 5000);
  ck_assert_uint_eq(stats().outbox_bytes, 0);
}
END_TEST

static void hoard(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
  support_until_pipe_full(queue);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

static pid_t start_hoarder(void) {
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t pid = support_fork(hoard, (void *)ready);
  support_until(ready);
  return pid;
}

START_TEST(items_lost_with_their_process) {
  for (uint64_t round = 1; round <= 3; round++) {
    pid_t pid = start_hoarder();
    ck_assert_uint_eq(stats().lost_items, (round - 1) * 4);
    support_kill_and_wait(pid);
    ck_assert_uint_eq(stats().lost_items, round * 4);
    ck_assert_uint_eq(stats().put_items, round * 4);
    ck_assert_uint_eq(stats().got_items, 0);
  }
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_uint_eq(stats().lost_items, 12);
}
END_TEST

/* Who puts next has nothing of the dead one's in its outbox. */
START_TEST(the_outbox_of_a_dead_process_is_not_inherited) {
  support_keep_to_pipe(queue);
  support_kill_and_wait(start_hoarder());
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  ck_assert_int_eq(put(1, -1), 0);
  support_until_pipe_full(queue);
  forkq_queue_stats_t now = stats();
  ck_assert_uint_eq(now.outbox_items, 2);
  ck_assert_uint_le(now.outbox_bytes, LARGE + 1);
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(5000), 1);
}
END_TEST

/* An account put right, a lock taken from the dead. */
START_TEST(recoveries_after_deaths) {
  ck_assert_uint_eq(stats().recoveries, 0);
  support_kill_and_wait(start_hoarder());
  uint64_t recoveries = stats().recoveries;
  ck_assert_uint_ge(recoveries, 1);

  pid_t getter = support_fork(get_and_wait, NULL);
  support_until_asleep(getter);
  ck_assert_uint_eq(stats().recoveries, recoveries);
  support_kill_and_wait(getter);
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT);
  ck_assert_uint_gt(stats().recoveries, recoveries);

  recoveries = stats().recoveries;
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT);
  ck_assert_uint_ge(stats().recoveries, recoveries);
  recoveries = stats().recoveries;
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_uint_eq(stats().recoveries, recoveries);
}
END_TEST

/* Its end, where nothing was lost, is nothing to recover from. */
START_TEST(processes_that_end_normally_are_no_recoveries) {
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  ck_assert_uint_eq(stats().recoveries, 0);
  ck_assert_uint_eq(stats().lost_items, 0);
  ck_assert_uint_eq(stats().put_items, 5);
}
END_TEST

START_TEST(numbers_after_close) {
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(get(5000), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 5000, NULL), 0);
  forkq_queue_stats_t now = stats();
  ck_assert_uint_eq(now.put_items, 1);
  ck_assert_uint_eq(now.got_items, 1);
  ck_assert_uint_eq(now.outbox_items, 0);
  ck_assert_uint_eq(now.outbox_bytes, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("stats");
  TCase *tcase = tcase_create("stats");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, arguments);
  tcase_add_test(tcase, of_an_earlier_version);
  tcase_add_test(tcase, a_new_queue_has_none);
  tcase_add_test(tcase, items_and_bytes);
  tcase_add_loop_test(tcase, a_large_item_counts_as_one, 0, WAYS);
  tcase_add_loop_test(tcase, a_large_object_counts_as_one, 0, WAYS);
  tcase_add_test(tcase, items_that_were_not_put);
  tcase_add_test(tcase, waits_of_putters);
  tcase_add_test(tcase, waits_of_getters);
  tcase_add_test(tcase, the_outbox_of_this_process);
  tcase_add_test(tcase, items_lost_with_their_process);
  tcase_add_test(tcase, the_outbox_of_a_dead_process_is_not_inherited);
  tcase_add_test(tcase, recoveries_after_deaths);
  tcase_add_test(tcase, processes_that_end_normally_are_no_recoveries);
  tcase_add_test(tcase, numbers_after_close);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
