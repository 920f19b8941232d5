/* put_many and get_many. Of bytes: test_batch_bytes.c. */
#define _GNU_SOURCE
#include "batch_helpers.h"

#include <check.h>
#include <forkq.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EACH 200000

/* ---- one process --------------------------------------------------------------------- */

START_TEST(order) {
  for (uint64_t round = 0; round < 100; round++) {
    put_all(round * BATCH, BATCH);
    put_all((round + 1) * BATCH, 1);
    ck_assert_int_eq(forkq_queue_qsize(queue), BATCH + 1);
    get_all(round * BATCH, BATCH + 1);
    assert_empty();
  }
}
END_TEST

/* Small items that are there already come along with the first. */
START_TEST(what_is_there_is_taken_at_once) {
  size_t n;
  put_all(0, 40);
  support_until_threads_asleep(1);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 10, 5000, &n), 0);
  ck_assert_uint_eq(n, 10);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, BATCH, 5000, &n), 0);
  ck_assert_uint_eq(n, 30);
  for (size_t i = 0; i < n; i++)
    ck_assert_uint_eq(items[i].object.via.u64, 10 + i);
  assert_empty();
}
END_TEST

START_TEST(mixed_with_single_puts_and_gets) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (uint64_t i = 0; i < 1000; i += 10) {
    msgpack_object first = number(i);
    ck_assert_int_eq(forkq_queue_put(queue, &first, -1), 0);
    put_all(i + 1, 9);
    get_all(i, 4);
    ck_assert_int_eq(forkq_queue_get(queue, &item, 5000), 0);
    ck_assert_uint_eq(item.object.via.u64, i + 4);
    get_all(i + 5, 5);
  }
  forkq_item_destroy(&item);
  assert_empty();
}
END_TEST

START_TEST(a_bounded_queue_is_filled_exactly) {
  create(5);
  for (int round = 0; round < 50; round++) {
    size_t n = UNTOUCHED;
    ck_assert_int_eq(put_numbers(0, 8, -1, &n), 0);
    ck_assert_uint_eq(n, 5);
    ck_assert_int_eq(forkq_queue_full(queue), 1);
    n = UNTOUCHED;
    ck_assert_int_eq(put_numbers(5, 3, 0, &n), FORKQ_FULL);
    ck_assert_int_eq(put_numbers(5, 3, 1, &n), FORKQ_TIMEDOUT);
    ck_assert_uint_eq(n, UNTOUCHED);
    get_all(0, 2);
    ck_assert_int_eq(put_numbers(5, 3, 0, &n), 0);
    ck_assert_uint_eq(n, 2);
    get_all(2, 5);
    assert_empty();
  }
}
END_TEST

START_TEST(bad_arguments) {
  msgpack_object object = number(1);
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many(NULL, &object, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many(queue, NULL, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many(queue, &object, 1, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many(queue, &object, 1, -2, &n), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_get_many(NULL, items, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many(queue, NULL, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 1, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 1, -2, &n), FORKQ_ETIMEOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  assert_empty();
}
END_TEST

/* None of none are all, also where one would wait. */
START_TEST(a_count_of_zero) {
  create(1);
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 0, -1, &n), 0);
  ck_assert_uint_eq(n, 0);
  put_all(1, 1);
  n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many(queue, NULL, 0, -1, &n), 0);
  ck_assert_uint_eq(n, 0);
  n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_get_many(queue, NULL, 0, -1, &n), 0);
  ck_assert_uint_eq(n, 0);
  get_all(1, 1);
}
END_TEST

START_TEST(waiting_that_is_in_vain) {
  size_t n = UNTOUCHED;
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 4, 100, &n), FORKQ_TIMEDOUT);
  ck_assert_int_ge(support_now_ms() - start, 99);
  create(1);
  put_all(1, 1);
  start = support_now_ms();
  ck_assert_int_eq(put_numbers(2, 3, 100, &n), FORKQ_TIMEDOUT);
  ck_assert_int_ge(support_now_ms() - start, 99);
  ck_assert_uint_eq(n, UNTOUCHED);
}
END_TEST

START_TEST(a_queue_that_is_shut_down) {
  size_t n = UNTOUCHED;
  put_all(0, 3);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(put_numbers(3, 3, -1, &n), FORKQ_ESHUTDOWN);
  get_all(0, 3);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 3, -1, &n), FORKQ_ESHUTDOWN);
  ck_assert_uint_eq(n, UNTOUCHED);
}
END_TEST

START_TEST(a_queue_that_is_closed) {
  size_t n = UNTOUCHED;
  put_all(0, 3);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(put_numbers(3, 3, -1, &n), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 3, -1, &n), FORKQ_ECLOSED);
  ck_assert_uint_eq(n, UNTOUCHED);
}
END_TEST

static int pack_and_use_the_queue(msgpack_packer *packer, void *arg) {
  int *results = arg;
  size_t n = UNTOUCHED;
  results[0] = put_numbers(1, 2, -1, &n);
  results[1] = forkq_queue_get_many(queue, items, 2, -1, &n);
  results[2] = n == UNTOUCHED;
  return msgpack_pack_int(packer, 9);
}

START_TEST(in_a_packing_function) {
  int results[3] = { 0 };
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_and_use_the_queue, results, -1), 0);
  ck_assert_int_eq(results[0], FORKQ_EPACKING);
  ck_assert_int_eq(results[1], FORKQ_EPACKING);
  ck_assert_int_eq(results[2], 1);
  get_all(9, 1);
}
END_TEST

/* Arrays in arrays, one more than is allowed. */
static msgpack_object *too_deep(void) {
  static msgpack_object nested[FORKQ_DEPTH_MAX + 1];
  for (int i = 0; i < FORKQ_DEPTH_MAX + 1; i++) {
    nested[i].type = MSGPACK_OBJECT_ARRAY;
    nested[i].via.array.size = i < FORKQ_DEPTH_MAX;
    nested[i].via.array.ptr = &nested[i + 1];
  }
  return nested;
}

/* Those before it are put; it says its error when it is the first. No slot is lost. */
START_TEST(a_bad_object_in_the_middle) {
  create(4);
  msgpack_object objects[] = { number(0), number(1), *too_deep(), number(2), number(3) };
  for (int round = 0; round < 20; round++) {
    size_t n = UNTOUCHED;
    ck_assert_int_eq(forkq_queue_put_many(queue, objects, 5, -1, &n), 0);
    ck_assert_uint_eq(n, 2);
    n = UNTOUCHED;
    ck_assert_int_eq(forkq_queue_put_many(queue, objects + 2, 3, -1, &n), FORKQ_ETOODEEP);
    ck_assert_uint_eq(n, UNTOUCHED);
    ck_assert_int_eq(forkq_queue_put_many(queue, objects + 3, 2, 0, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(put_numbers(4, 1, 0, &n), FORKQ_FULL);
    get_all(0, 4);
    assert_empty();
  }
}
END_TEST

/* The small ones come in batches, a large one beside the pipe with them, or as the first of its own. */
START_TEST(mixed_with_large_items) {
  if (_i == 1)
    support_keep_to_pipe(queue);
  static char bytes[LARGE];
  msgpack_object objects[BATCH];
  support_fill(bytes, sizeof bytes, 3);
  for (int round = 0; round < 20; round++) {
    for (uint64_t i = 0; i < BATCH; i++) {
      objects[i] = number(i);
      if (i % 7 == 3) {
        objects[i].type = MSGPACK_OBJECT_BIN;
        objects[i].via.bin.ptr = bytes + i;
        objects[i].via.bin.size = (uint32_t)(LARGE - i * 1000);
      }
    }
    size_t n = UNTOUCHED;
    ck_assert_int_eq(forkq_queue_put_many(queue, objects, BATCH, -1, &n), 0);
    ck_assert_uint_eq(n, BATCH);
    for (size_t have = 0; have < BATCH; have += n) {
      ck_assert_int_eq(forkq_queue_get_many(queue, items, BATCH - have, 5000, &n), 0);
      ck_assert_uint_ge(n, 1);
      for (size_t i = 0; i < n; i++)
        ck_assert(msgpack_object_equal(items[i].object, objects[have + i]));
    }
    assert_empty();
  }
}
END_TEST

/* ---- several processes --------------------------------------------------------------- */

struct result {
  _Atomic int r;
  _Atomic size_t n;
};

static void put_three(void *arg) {
  struct result *result = arg;
  size_t n = UNTOUCHED;
  result->r = put_numbers(10, 3, -1, &n);
  result->n = n;
  forkq_queue_destroy(queue);
}

/* There is room for one, and it does not wait for more. */
START_TEST(put_many_waits_for_the_first_only) {
  create(3);
  struct result *result = support_shared(sizeof *result);
  put_all(0, 3);
  pid_t pid = support_fork(put_three, result);
  support_until_asleep(pid);
  get_all(0, 1);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert_int_eq(result->r, 0);
  ck_assert_uint_eq(result->n, 1);
  get_all(1, 2);
  get_all(10, 1);
  assert_empty();
}
END_TEST

static void get_three(void *arg) {
  struct result *result = arg;
  size_t n = UNTOUCHED;
  result->r = forkq_queue_get_many(queue, items, 3, -1, &n);
  result->n = n;
}

START_TEST(get_many_waits_for_the_first_only) {
  struct result *result = support_shared(sizeof *result);
  pid_t pid = support_fork(get_three, result);
  support_until_asleep(pid);
  put_all(0, 1);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert_int_eq(result->r, 0);
  ck_assert_uint_eq(result->n, 1);
  assert_empty();
}
END_TEST

struct crowd {
  uint64_t producer;
  _Atomic uint8_t *seen; /* how often each number was */
  bool tasks;
};

static void produce(void *arg) {
  const struct crowd *crowd = arg;
  uint64_t seed = crowd->producer;
  for (uint64_t i = 0; i < EACH;) {
    size_t count = support_random_below(&seed, BATCH) + 1, n;
    count = count < EACH - i ? count : (size_t)(EACH - i);
    CHILD_MUST(put_numbers(crowd->producer * EACH + i, count, -1, &n) == 0);
    CHILD_MUST(n >= 1 && n <= count);
    i += n;
  }
  forkq_queue_destroy(queue);
}

static void consume(void *arg) {
  const struct crowd *crowd = arg;
  uint64_t next[2] = { 0, EACH };
  size_t n;
  int r;
  while ((r = forkq_queue_get_many(queue, items, BATCH, -1, &n)) == 0) {
    for (size_t i = 0; i < n; i++) {
      uint64_t value = items[i].object.via.u64;
      CHILD_MUST(value < 2 * EACH && value >= next[value / EACH]);
      next[value / EACH] = value + 1;
      atomic_fetch_add(&crowd->seen[value], 1);
      CHILD_MUST(!crowd->tasks || forkq_queue_task_done(queue) == 0);
    }
  }
  CHILD_MUST(r == FORKQ_ESHUTDOWN);
}

static void run_crowd(bool tasks) {
  struct crowd crowd = { .tasks = tasks, .seen = support_shared(2 * EACH) };
  pid_t producers[2], consumers[2];
  for (int i = 0; i < 2; i++) {
    crowd.producer = (uint64_t)i;
    producers[i] = support_fork(produce, &crowd);
    consumers[i] = support_fork(consume, &crowd);
  }
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(support_wait(producers[i]), 0);
  if (tasks)
    ck_assert_int_eq(forkq_queue_join(queue, -1, NULL), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(support_wait(consumers[i]), 0);
  for (int i = 0; i < 2 * EACH; i++)
    support_assert(crowd.seen[i] == 1);
}

START_TEST(two_by_two_processes) {
  run_crowd(false);
}
END_TEST

START_TEST(two_by_two_processes_and_a_bound) {
  create(100);
  run_crowd(false);
}
END_TEST

START_TEST(two_by_two_processes_with_tasks) {
  create_joinable(1000);
  run_crowd(true);
}
END_TEST

/* ---- with task_done ------------------------------------------------------------------ */

static void get_many_and_vanish(void *arg) {
  size_t n;
  get_three(arg);
  CHILD_MUST(forkq_queue_get_many(queue, items, 1, -1, &n) == 0);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
}

START_TEST(every_item_is_a_task) {
  create_joinable(0);
  msgpack_object objects[] = { number(0), number(1), *too_deep() };
  size_t n;
  put_all(0, 10);
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  get_all(0, 10);

  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 3, -1, &n), 0);
  ck_assert_uint_eq(n, 2);
  get_all(0, 2);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
}
END_TEST

START_TEST(tasks_of_a_batch_are_abandoned) {
  create_joinable(0);
  struct result *result = support_shared(sizeof *result);
  uint64_t abandoned = 0;
  put_all(0, 4);
  ck_assert_int_eq(support_wait(support_fork(get_many_and_vanish, result)), 0);
  ck_assert_uint_ge(result->n, 1);
  for (uint64_t i = result->n + 1; i < 4; i++) {
    get_all(i, 1);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  ck_assert_int_eq(forkq_queue_join(queue, 5000, &abandoned), FORKQ_EABANDONED);
  ck_assert_uint_eq(abandoned, result->n);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("batch");
  TCase *tcase = tcase_create("batch");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, order);
  tcase_add_test(tcase, what_is_there_is_taken_at_once);
  tcase_add_test(tcase, mixed_with_single_puts_and_gets);
  tcase_add_test(tcase, a_bounded_queue_is_filled_exactly);
  tcase_add_test(tcase, bad_arguments);
  tcase_add_test(tcase, a_count_of_zero);
  tcase_add_test(tcase, waiting_that_is_in_vain);
  tcase_add_test(tcase, a_queue_that_is_shut_down);
  tcase_add_test(tcase, a_queue_that_is_closed);
  tcase_add_test(tcase, in_a_packing_function);
  tcase_add_test(tcase, a_bad_object_in_the_middle);
  tcase_add_loop_test(tcase, mixed_with_large_items, 0, 2);
  tcase_add_test(tcase, put_many_waits_for_the_first_only);
  tcase_add_test(tcase, get_many_waits_for_the_first_only);
  tcase_add_test(tcase, two_by_two_processes);
  tcase_add_test(tcase, two_by_two_processes_and_a_bound);
  tcase_add_test(tcase, two_by_two_processes_with_tasks);
  tcase_add_test(tcase, every_item_is_a_task);
  tcase_add_test(tcase, tasks_of_a_batch_are_abandoned);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
