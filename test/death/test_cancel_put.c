/* Threads that are cancelled (pthread_cancel(3)) in a put: what they had in hand is given back, and
 * no half of a message is left. What leaves a packing function is in test_packing.c. */
#define _GNU_SOURCE
#include "cancel_helpers.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* ---- put --------------------------------------------------------------------------------- */

static int pack_large(msgpack_packer *packer, void *arg) {
  (void)arg;
  return pack_bin(packer, 100000);
}

static int put_for_an_hour(struct victim *victim) {
  (void)victim;
  return put(1, 3600 * 1000);
}

static int put_large(struct victim *victim) {
  (void)victim;
  static char data[100000];
  make_bin(data, sizeof data);
  return put_packed(data, sizeof data, -1);
}

static int put_with(struct victim *victim) {
  (void)victim;
  return put_packing(pack_small, NULL, -1);
}

static int put_large_with(struct victim *victim) {
  (void)victim;
  return put_packing(pack_large, NULL, -1);
}

static int put_many(struct victim *victim) {
  (void)victim;
  const msgpack_object two[2] = { { .type = MSGPACK_OBJECT_NIL } };
  size_t count;
  return forkq_queue_put_many(queue, two, 2, -1, &count);
}

static int put_many_large(struct victim *victim) {
  (void)victim;
  static char data[100000];
  make_bin(data, sizeof data);
  const forkq_bytes_t two[2] = { { data, sizeof data }, { data, sizeof data } };
  size_t count;
  return forkq_queue_put_many_packed(queue, two, 2, -1, &count);
}

static int (*const puts_that_wait[])(struct victim *) = {
  put_one, put_large, put_with, put_large_with, put_for_an_hour, put_many, put_many_large
};
#define PUTS ((int)(sizeof puts_that_wait / sizeof *puts_that_wait))
#define SIMPLE_PUTS 4 /* the first ones */

static void until_waiting_for_slot(struct victim *victim, uint32_t waiting) {
  support_until_equal(&slots()->waiters, waiting);
  until_asleep(victim);
}

static void fill(void) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
}

static void get_the_rest(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  while (forkq_queue_qsize(queue) > 0)
    ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  forkq_item_destroy(&item);
}

/* The first large item of a process brings memory that stays until it closes the queue. From then on
 * all that functions pack goes into a piece, too. */
static void put_first_large_ones(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(put_packing(pack_large, NULL, 0), 0);
    ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  }
  forkq_item_destroy(&item);
}

static void empty(void) {
  ck_assert_int_eq(get(10000), 1);
  ck_assert_int_eq(get(10000), 2);
}

/* The memory of a draft is given back, too; but not that of the outbox. */
START_TEST(a_putter_that_waits_for_a_slot_ends_and_leaves_nothing) {
  create(2);
  put_first_large_ones();
  for (int round = 0; round < 2 * ROUNDS; round++) {
    struct victim victim;
    fill();
    long live = support_heap_live();
    start(&victim, puts_that_wait[round % PUTS]);
    until_waiting_for_slot(&victim, 1);
    assert_ends(&victim);
    ck_assert_ptr_nonnull(queue->feeder.sender.arena.memory);
    assert_no_piece_is_used();
    ck_assert_int_le(support_heap_live(), live);
    assert_nothing_held();
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_eq(forkq_queue_qsize(queue), 2);
    empty();
    assert_whole();
  }
}
END_TEST

static void create_with_a_bound_in_bytes(void) {
  const forkq_queue_options_t options = { .size = sizeof options, .outbox_max_bytes = 1 };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

START_TEST(a_putter_that_waits_for_its_outbox_ends_and_leaves_nothing) {
  create_with_a_bound_in_bytes();
  support_keep_to_pipe(queue);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    ck_assert_int_eq(put_bin(LARGE, 0), 0);
    support_until_pipe_full(queue);
    long live = support_heap_live();
    start(&victim, puts_that_wait[round % PUTS]);
    support_until_equal(&queue->feeder.sender.room_waiters, 1);
    until_asleep(&victim);
    assert_ends(&victim);
    ck_assert_int_le(support_heap_live(), live);
    ck_assert_uint_eq(atomic_load(&queue->feeder.sender.room_waiters), 0);
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_eq(forkq_queue_qsize(queue), 1);
    assert_get_bin(LARGE);
    assert_whole();
  }
}
END_TEST

START_TEST(a_crowd_of_putters_ends_at_once) {
  struct victim crowd[CROWD];
  create(2);
  fill();
  for (int i = 0; i < CROWD; i++)
    start(&crowd[i], puts_that_wait[i % PUTS]);
  support_until_equal(&slots()->waiters, CROWD);
  for (int i = 0; i < CROWD; i++)
    until_asleep(&crowd[i]);
  for (int i = 0; i < CROWD; i++)
    cancel(&crowd[i]);
  for (int i = 0; i < CROWD; i++)
    ck_assert(join(&crowd[i]));
  empty();
  assert_whole();
}
END_TEST

/* A slot came free and one was woken for it, who may be the one that is cancelled. Then either
 * somebody has taken it, or somebody else was woken: a change of the event is a wake-up. Whoever
 * waits looks from time to time, too; but of a crowd each does so rarely. */
START_TEST(a_slot_that_came_for_a_cancelled_putter_is_told_to_another) {
  create(2);
  for (int round = 0; round < 4 * ROUNDS; round++) {
    struct victim first, second;
    fill();
    start(&first, put_one);
    until_waiting_for_slot(&first, 1);
    start(&second, put_one);
    until_waiting_for_slot(&second, 2);
    uint32_t event = atomic_load(&slots()->event);
    ck_assert_int_eq(get(10000), 1);
    cancel(&first);
    bool cancelled = join(&first);
    if (cancelled && !forkq_queue_full(queue))
      ck_assert_uint_ge(atomic_load(&slots()->event) - event, 2);
    if (!cancelled)
      ck_assert_int_eq(get(10000), 2);
    ck_assert(!join(&second));
    ck_assert_int_eq(second.result, 0);
    get_the_rest();
    assert_nothing_held();
  }
}
END_TEST

START_TEST(a_put_goes_on_where_cancellation_is_off) {
  create(2);
  for (int round = 0; round < PUTS; round++) {
    struct victim victim;
    fill();
    start_protected(&victim, puts_that_wait[round]);
    support_until_equal(&slots()->waiters, 1);
    cancel(&victim);
    empty();
    assert_ends_afterwards(&victim);
    get_the_rest();
    assert_whole();
  }
}
END_TEST

/* ---- a producer that is cancelled anywhere ----------------------------------------------- */

#define LAST UINT64_C(0xffffffff)
#define PROBE UINT64_C(0xfffffffe)

/* A bin with a number in it: some are one packet with others, some many, or beside the pipe. */
static size_t size_of(uint64_t number) {
  return number % 50 == 49 ? 20000 : 16;
}

static int pack_number(msgpack_packer *packer, void *arg) {
  const uint64_t *number = arg;
  char body[20000];
  memset(body, 0, size_of(*number));
  memcpy(body, number, sizeof *number);
  msgpack_pack_bin(packer, size_of(*number));
  return msgpack_pack_bin_body(packer, body, size_of(*number));
}

static int put_number(uint64_t number) {
  char body[20000] = { 0 };
  const msgpack_object object = { .type = MSGPACK_OBJECT_BIN,
                                  .via.bin = { (uint32_t)size_of(number), body } };
  memcpy(body, &number, sizeof number);
  return number % 3 == 0 ? put_packing(pack_number, &number, -1)
                         : put_object(&object, -1);
}

/* Gets the numbers in order, whole and once, and in between those of another process. */
static void get_numbers(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  uint64_t expected = 0, number = 0, probes = 0;
  while (number != LAST) {
    CHILD_MUST(forkq_queue_get(queue, &item, -1) == 0);
    memcpy(&number, item.object.via.bin.ptr, sizeof number);
    CHILD_MUST(item.object.via.bin.size == size_of(number));
    CHILD_MUST(number == expected || number == PROBE || number == LAST);
    expected += number == expected;
    probes += number == PROBE;
  }
  forkq_item_destroy(&item);
  uint64_t *result = arg;
  result[0] = expected;
  result[1] = probes;
}

static uint64_t next_number;

static int put_numbers(struct victim *victim) {
  (void)victim;
  int r;
  while ((r = put_number(next_number)) == 0) {
    next_number++;
    pthread_testcancel();
  }
  return r;
}

static void put_probe(void *arg) {
  (void)arg;
  CHILD_MUST(put_number(PROBE) == 0);
  exit(0);
}

/* After each the same thread, another one and a child put. */
static void cancel_producers(void) {
  uint64_t seed = 7;
  uint64_t *result = support_shared(2 * sizeof *result);
  next_number = 0;
  pid_t child = support_fork(get_numbers, result);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    start(&victim, put_numbers);
    pass_some_time(&seed, 60);
    assert_ends(&victim);
    assert_puts_hold_nothing();
    ck_assert_int_eq(put_number(next_number), 0);
    next_number++;
    if (round % 4 == 0) {
      support_until_others_asleep();
      ck_assert_int_eq(support_wait(support_fork(put_probe, NULL)), 0);
    }
  }
  ck_assert_int_eq(put_number(LAST), 0);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_uint_eq(result[0], next_number);
  ck_assert_uint_eq(result[1], (ROUNDS + 3) / 4);
  assert_whole();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 10000, NULL), 0);
}

static void keep_to_pipe_if(bool so) {
  if (so)
    support_keep_to_pipe(queue);
}

START_TEST(a_producer_is_cancelled_at_any_moment) {
  static const int64_t sizes[] = { 1, 10, 1000, 0 };
  create(sizes[_i / 2]);
  keep_to_pipe_if(_i % 2 == 1);
  cancel_producers();
}
END_TEST

START_TEST(a_producer_with_a_bound_in_bytes_is_cancelled_at_any_moment) {
  create_with_a_bound_in_bytes();
  keep_to_pipe_if(_i == 1);
  cancel_producers();
}
END_TEST

START_TEST(a_producer_of_a_simple_queue_is_cancelled_at_any_moment) {
  create_simple();
  keep_to_pipe_if(_i == 1);
  support_shrink_pipe(queue);
  cancel_producers();
}
END_TEST

/* ---- a simple queue ---------------------------------------------------------------------- */

static void put_seven(void *arg) {
  (void)arg;
  CHILD_MUST(put(7, -1) == 0);
}

static void assert_another_process_puts(void) {
  support_until_others_asleep();
  pid_t child = support_fork(put_seven, NULL);
  ck_assert_int_eq(get(-1), 7);
  ck_assert_int_eq(support_wait(child), 0);
}

/* What it had put is there, what it was putting is not. */
START_TEST(cancelled_before_its_message_went_into_a_full_pipe) {
  create_simple();
  support_shrink_pipe(queue);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    next_number = 0;
    start(&victim, put_numbers);
    support_until_pipe_full(queue);
    until_asleep(&victim);
    assert_ends(&victim);
    assert_nothing_held();
    ck_assert_int_eq(forkq_queue_qsize(queue), (int64_t)next_number);
    ck_assert_uint_gt(next_number, 0);
    for (forkq_item_t item = FORKQ_ITEM_INIT; next_number > 0; next_number--) {
      ck_assert_int_eq(forkq_queue_get(queue, &item, 0), 0);
      forkq_item_destroy(&item);
    }
    assert_another_process_puts();
    assert_whole();
  }
}
END_TEST

static int put_very_large(struct victim *victim) {
  (void)victim;
  return put_bin(LARGE, -1);
}

static void get_one_of_others(void *arg) {
  *(_Atomic int64_t *)arg = get(-1);
}

/* In every other round a reader of another process has taken the beginning. */
START_TEST(cancelled_in_the_middle_of_a_large_message) {
  create_simple();
  support_keep_to_pipe(queue);
  _Atomic int64_t *got = support_shared(sizeof *got);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    start(&victim, put_very_large);
    support_until_pipe_full(queue);
    until_asleep(&victim);
    ck_assert_int_eq(forkq_queue_qsize(queue), 1);
    if (round % 2 == 0) {
      long live = support_heap_live();
      assert_ends(&victim); /* its packets are kept for the next, up to a number */
      ck_assert_int_le(support_heap_live(), live);
      assert_nothing_held();
      ck_assert_int_eq(forkq_queue_qsize(queue), 0);
      ck_assert_int_eq(get(0), FORKQ_EMPTY);
    } else {
      pid_t reader = support_fork(get_one_of_others, (void *)got);
      while (atomic_load(&channel()->read_seq) < atomic_load(&channel()->write_seq) - 100)
        sched_yield();
      cancel(&victim);
      bool cancelled = join(&victim);
      ck_assert_int_eq(put(8, -1), 0);
      ck_assert_int_eq(support_wait(reader), 0);
      if (cancelled)
        ck_assert_int_eq(*got, 8);
      else
        ck_assert_int_eq(get(10000), 8);
    }
    assert_another_process_puts();
    assert_whole();
  }
}
END_TEST

static void put_large_and_wait(void *arg) {
  (void)arg;
  (void)put_bin(LARGE, -1);
}

/* Another process has the write lock, in the middle of its message. */
START_TEST(cancelled_while_another_process_writes) {
  create_simple();
  support_keep_to_pipe(queue);
  for (int round = 0; round < 4; round++) {
    struct victim victim;
    pid_t child = support_fork(put_large_and_wait, NULL);
    support_until_pipe_full(queue);
    support_until_asleep(child);
    start(&victim, put_one);
    until_asleep(&victim);
    if (round % 2 == 0)
      support_stop(child);
    assert_ends(&victim);
    kill(child, SIGCONT);
    ck_assert_int_eq(forkq_queue_qsize(queue), 1);
    assert_get_bin(LARGE);
    ck_assert_int_eq(support_wait(child), 0);
    assert_whole();
  }
}
END_TEST

START_TEST(cancelled_while_it_waits_for_another_thread_s_message) {
  create_simple();
  support_keep_to_pipe(queue);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim writer, victim;
    start(&writer, put_very_large);
    support_until_pipe_full(queue);
    until_asleep(&writer);
    long live = support_heap_live();
    start(&victim, puts_that_wait[round % SIMPLE_PUTS]);
    until_asleep(&victim);
    assert_ends(&victim);
    ck_assert_int_le(support_heap_live(), live);
    ck_assert_int_eq(forkq_queue_qsize(queue), 1);
    assert_get_bin(LARGE);
    ck_assert(!join(&writer));
    ck_assert_int_eq(writer.result, 0);
    assert_whole();
  }
}
END_TEST

START_TEST(a_simple_put_goes_on_where_cancellation_is_off) {
  struct victim victim;
  create_simple();
  support_keep_to_pipe(queue);
  start_protected(&victim, put_very_large);
  support_until_pipe_full(queue);
  until_asleep(&victim);
  cancel(&victim);
  assert_get_bin(LARGE);
  assert_ends_afterwards(&victim);
  assert_whole();
}
END_TEST

static Suite *cancel_put_suite(void) {
  Suite *suite = suite_create("cancel_put");
  TCase *put = add_case(suite, "put");
  tcase_add_test(put, a_putter_that_waits_for_a_slot_ends_and_leaves_nothing);
  tcase_add_test(put, a_putter_that_waits_for_its_outbox_ends_and_leaves_nothing);
  tcase_add_test(put, a_crowd_of_putters_ends_at_once);
  tcase_add_test(put, a_slot_that_came_for_a_cancelled_putter_is_told_to_another);
  tcase_add_loop_test(put, a_producer_is_cancelled_at_any_moment, 0, 2 * 4);
  tcase_add_loop_test(put, a_producer_with_a_bound_in_bytes_is_cancelled_at_any_moment, 0,
                      2);
  TCase *simples = add_case(suite, "simple");
  tcase_add_loop_test(simples, a_producer_of_a_simple_queue_is_cancelled_at_any_moment, 0,
                      2);
  tcase_add_test(simples, cancelled_before_its_message_went_into_a_full_pipe);
  tcase_add_test(simples, cancelled_in_the_middle_of_a_large_message);
  tcase_add_test(simples, cancelled_while_another_process_writes);
  tcase_add_test(simples, cancelled_while_it_waits_for_another_thread_s_message);
  TCase *off = add_case(suite, "cancellation off");
  tcase_add_test(off, a_put_goes_on_where_cancellation_is_off);
  tcase_add_test(off, a_simple_put_goes_on_where_cancellation_is_off);
  return suite;
}

int main(void) {
  return cancel_main(cancel_put_suite());
}
