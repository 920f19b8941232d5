/* Threads that are cancelled (pthread_cancel(3)) in calls: what they had in hand is given back, and
 * what they had not done is there for others. What leaves a packing function is in
 * test_packing.c. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fork is slow under a sanitizer, and a thread is. */
#if defined(__SANITIZE_ADDRESS__)
#  define ROUNDS 10
#else
#  define ROUNDS 20
#endif
#define LARGE (1u << 20)
#define CROWD 40

static void set_up(void) {
  fds_before = support_open_fds();
}

static void create(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

static void create_joinable(void) {
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
}

static struct forkq__channel_shared *channel(void) {
  return &queue->segment->channel;
}

static struct forkq__slots_shared *slots(void) {
  return &queue->segment->slots;
}

/* ---- a thread that is cancelled ---------------------------------------------------------- */

struct victim {
  pthread_t thread;
  _Atomic int tid;
  int (*call)(struct victim *victim);
  int result;
  _Atomic int returned;
  forkq_item_t items[2];
};

static void *run_victim(void *arg) {
  struct victim *victim = arg;
  atomic_store(&victim->tid, gettid());
  victim->result = victim->call(victim);
  atomic_store(&victim->returned, 1);
  return NULL;
}

static void start(struct victim *victim, int (*call)(struct victim *victim)) {
  memset(victim, 0, sizeof *victim);
  victim->call = call;
  ck_assert_int_eq(pthread_create(&victim->thread, NULL, run_victim, victim), 0);
  support_until(&victim->tid);
}

static void until_asleep(struct victim *victim) {
  support_until_thread_asleep(atomic_load(&victim->tid));
}

/* Whether it was cancelled before its call returned. */
static bool join(struct victim *victim) {
  bool cancelled = support_join(victim->thread) == PTHREAD_CANCELED;
  ck_assert_int_eq(atomic_load(&victim->returned), !cancelled);
  for (int i = 0; i < 2; i++)
    forkq_item_destroy(&victim->items[i]);
  return cancelled;
}

static void cancel(struct victim *victim) {
  ck_assert_int_eq(pthread_cancel(victim->thread), 0);
}

static void assert_ends(struct victim *victim) {
  cancel(victim);
  ck_assert(join(victim));
}

static int64_t value_of(const struct victim *victim) {
  return (int64_t)victim->items[0].object.via.u64;
}

/* A time that is another each time, and no matter which. */
static void pass_some_time(uint64_t *seed, uint32_t most) {
  for (uint32_t n = support_random_below(seed, most); n > 0; n--)
    sched_yield();
}

/* ---- get --------------------------------------------------------------------------------- */

static int get_forever(struct victim *victim) {
  return forkq_queue_get(queue, victim->items, -1);
}

static int get_for_an_hour(struct victim *victim) {
  return forkq_queue_get(queue, victim->items, 3600 * 1000);
}

static int get_packed(struct victim *victim) {
  return forkq_queue_get_packed(queue, victim->items, -1);
}

static int get_many(struct victim *victim) {
  size_t got;
  return forkq_queue_get_many(queue, victim->items, 2, -1, &got);
}

static int (*const gets[])(struct victim *) = { get_forever, get_for_an_hour, get_packed,
                                                get_many };
#define GETS ((int)(sizeof gets / sizeof *gets))

static int put_one(struct victim *victim) {
  (void)victim;
  return put(1, -1);
}

static void until_in_turn(struct victim *victim) {
  support_until_equal(&channel()->asleep, 1);
  until_asleep(victim);
}

static void until_waiting_for_turn(struct victim *victim, uint32_t waiting) {
  support_until_equal(&channel()->turn_waiting, waiting);
  until_asleep(victim);
}

START_TEST(a_getter_that_sleeps_ends_and_leaves_nothing) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    start(&victim, gets[round % GETS]);
    until_in_turn(&victim);
    assert_ends(&victim);
    assert_whole();
  }
}
END_TEST

/* The first sleeps for all, the second waits for its turn. */
START_TEST(of_two_getters_either_may_be_cancelled) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim first, second;
    bool first_ends = round % 2 == 0;
    start(&first, gets[round % GETS]);
    until_in_turn(&first);
    start(&second, get_forever);
    until_waiting_for_turn(&second, 1);
    struct victim *ends = first_ends ? &first : &second;
    struct victim *stays = first_ends ? &second : &first;
    assert_ends(ends);
    support_until_equal(&channel()->turn_waiting, 0);
    until_in_turn(stays);
    ck_assert_int_eq(put(round, 0), 0);
    ck_assert(!join(stays));
    ck_assert_int_eq(stays->result, 0);
    assert_whole();
  }
}
END_TEST

static void get_one(void *arg) {
  CHILD_MUST(get(-1) == (intptr_t)arg);
}

START_TEST(a_getter_ends_that_waits_for_its_turn_behind_another_process) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    struct victim victim;
    pid_t child = support_fork(get_one, (void *)7);
    support_until_equal(&channel()->asleep, 1);
    support_until_asleep(child);
    start(&victim, gets[round % GETS]);
    until_waiting_for_turn(&victim, 1);
    if (round % 2 == 0)
      support_stop(child);
    assert_ends(&victim);
    ck_assert_uint_eq(atomic_load(&channel()->turn_waiting), 0);
    kill(child, SIGCONT);
    ck_assert_int_eq(put(7, 0), 0);
    ck_assert_int_eq(support_wait(child), 0);
    assert_whole();
  }
}
END_TEST

static _Atomic int *flag; /* shared */

static void get_one_and_keep_the_read_lock(void *arg) {
  CHILD_MUST(get(10000) == (intptr_t)arg);
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
  atomic_store(flag, 1);
  pause();
}

static void put_two(void) {
  const msgpack_object two[] = {
    { .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 1 },
    { .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 2 },
  };
  size_t count;
  ck_assert_int_eq(forkq_queue_put_many(queue, two, 2, 0, &count), 0);
  ck_assert_uint_eq(count, 2);
}

/* An item is there, and cannot be had: the one with the turn does not sleep for it. */
START_TEST(getters_end_beside_a_reader_that_is_stopped) {
  struct victim first, second;
  create(0);
  flag = support_shared(sizeof *flag);
  put_two();
  support_until_others_asleep();
  pid_t child = support_fork(get_one_and_keep_the_read_lock, (void *)1);
  support_until(flag);
  support_stop(child);
  ck_assert_uint_eq(atomic_load(&channel()->unread), 1);
  start(&first, get_forever);
  until_asleep(&first);
  start(&second, get_forever);
  until_waiting_for_turn(&second, 1); /* so the first has the turn, or is beside it */
  assert_ends(&first);
  assert_ends(&second);
  start(&first, get_forever);
  until_asleep(&first);
  assert_ends(&first);
  support_kill_and_wait(child);
  ck_assert_int_eq(get(10000), 2);
  assert_whole();
}
END_TEST

static void keep_the_ledgers_lock(void *arg) {
  (void)arg;
  struct forkq__ledger *ledger = &queue->segment->ledger;
  CHILD_MUST(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, NULL, NULL) == 0);
  atomic_store(flag, 1);
  pause();
}

/* The first call of a process needs that lock, and tries again and again where it cannot have it. */
START_TEST(first_calls_end_beside_a_process_that_is_stopped) {
  struct victim victim;
  create_joinable();
  flag = support_shared(sizeof *flag);
  pid_t child = support_fork(keep_the_ledgers_lock, NULL);
  support_until(flag);
  start(&victim, get_forever);
  until_asleep(&victim);
  assert_ends(&victim);
  start(&victim, put_one);
  until_asleep(&victim);
  assert_ends(&victim);
  support_kill_and_wait(child);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(10000), 1);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_whole();
}
END_TEST

/* They do not look for the cancellation from time to time, which of a crowd each would do rarely.
 * The one with the turn keeps it meanwhile. */
START_TEST(a_crowd_of_getters_ends_at_once) {
  struct victim crowd[CROWD], in_turn;
  create(0);
  start(&in_turn, get_forever);
  until_in_turn(&in_turn);
  for (int i = 0; i < CROWD; i++)
    start(&crowd[i], gets[i % GETS]);
  support_until_equal(&channel()->turn_waiting, CROWD);
  for (int i = 0; i < CROWD; i++)
    until_asleep(&crowd[i]);
  for (int i = 0; i < CROWD; i++)
    cancel(&crowd[i]);
  for (int i = 0; i < CROWD; i++)
    ck_assert(join(&crowd[i]));
  assert_ends(&in_turn);
  assert_whole();
}
END_TEST

/* It is woken for an item and cancelled: either it has it, or the one behind it gets it. */
START_TEST(an_item_that_came_for_a_cancelled_getter_is_another_s) {
  create(0);
  for (int round = 0; round < 4 * ROUNDS; round++) {
    struct victim first, second;
    start(&first, get_forever);
    until_in_turn(&first);
    start(&second, get_forever);
    until_waiting_for_turn(&second, 1);
    ck_assert_int_eq(put(1, 0), 0);
    cancel(&first);
    if (!join(&first)) {
      ck_assert_int_eq(first.result, 0);
      ck_assert_int_eq(put(1, 0), 0);
    }
    ck_assert(!join(&second));
    ck_assert_int_eq(second.result, 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    assert_nothing_held();
  }
  assert_whole();
}
END_TEST

/* A lock that two threads wait for without an end. */
static struct forkq__lock lock;
static _Atomic uint32_t lock_waiting;

static void no_repair(void *arg) {
  (void)arg;
  ck_abort_msg("a thread has ended with a lock");
}

static int await_lock(struct victim *victim) {
  (void)victim;
  int r = forkq__lock_await(&lock, &lock_waiting, 1, FORKQ__FOREVER, no_repair, NULL);
  while (r == FORKQ_TIMEDOUT) /* or somebody else was faster */
    r = forkq__lock_await(&lock, &lock_waiting, 1, FORKQ__FOREVER, no_repair, NULL);
  forkq__lock_release(&lock);
  return r;
}

/* The owner wakes one who waits. If it is just that one who is cancelled it wakes the next. */
START_TEST(the_end_of_a_lock_is_told_to_another) {
  queue = NULL;
  ck_assert_int_eq(forkq__lock_init(&lock), 0);
  for (int round = 0; round < 4 * ROUNDS; round++) {
    struct victim first, second;
    ck_assert_int_eq(forkq__lock_try(&lock, no_repair, NULL), 0);
    start(&first, await_lock);
    support_until_equal(&lock_waiting, 1);
    until_asleep(&first);
    start(&second, await_lock);
    support_until_equal(&lock_waiting, 2);
    until_asleep(&second);
    forkq__lock_release(&lock);
    cancel(&first);
    (void)join(&first);
    ck_assert(!join(&second));
    ck_assert_uint_eq(atomic_load(&lock_waiting), 0);
  }
}
END_TEST

#define VALUES 20000
static struct seen { _Atomic uint8_t times[VALUES + 1]; } * seen; /* shared */

static void see(int64_t value) {
  support_assert(value > 0 && value <= VALUES);
  atomic_fetch_add(&seen->times[value], 1);
}

static int get_all(struct victim *victim) {
  int r;
  while ((r = forkq_queue_get(queue, victim->items, -1)) == 0)
    see(value_of(victim));
  return r;
}

static void get_until_last(void *arg) {
  (void)arg;
  for (int64_t value; (value = get(-1)) != VALUES;) {
    CHILD_MUST(value > 0 && value < VALUES);
    atomic_fetch_add(&seen->times[value], 1);
  }
}

/* Beside a process that gets as well, and whose turn it may be. Each item is got once. */
START_TEST(getters_cancelled_at_any_moment_take_nothing_along) {
  uint64_t seed = 1;
  int64_t next = 1;
  create(10);
  seen = support_shared(sizeof *seen);
  pid_t child = support_fork(get_until_last, NULL);
  while (next < VALUES - 200) {
    struct victim victims[3];
    for (int i = 0; i < 3; i++)
      start(&victims[i], get_all);
    for (int i = 0; i < 3; i++) {
      for (uint32_t n = support_random_below(&seed, 60); n > 0; n--)
        ck_assert_int_eq(put(next++, 10000), 0);
      pass_some_time(&seed, 20);
      assert_ends(&victims[i]);
    }
  }
  while (next <= VALUES)
    ck_assert_int_eq(put(next++, 10000), 0);
  ck_assert_int_eq(support_wait(child), 0);
  for (int64_t value = 1; value < VALUES; value++)
    ck_assert_int_eq(atomic_load(&seen->times[value]), 1);
  assert_whole();
}
END_TEST

/* ---- put --------------------------------------------------------------------------------- */

static int pack_bin(msgpack_packer *packer, size_t size) {
  static char body[100000];
  msgpack_pack_bin(packer, size);
  return msgpack_pack_bin_body(packer, body, size);
}

static int pack_small(msgpack_packer *packer, void *arg) {
  (void)arg;
  return pack_bin(packer, 100);
}

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

static void empty(void) {
  ck_assert_int_eq(get(10000), 1);
  ck_assert_int_eq(get(10000), 2);
}

/* The memory of a draft is given back, too; but not that of the outbox. */
START_TEST(a_putter_that_waits_for_a_slot_ends_and_leaves_nothing) {
  create(2);
  for (int round = 0; round < 2 * ROUNDS; round++) {
    struct victim victim;
    fill();
    long live = support_heap_live();
    start(&victim, puts_that_wait[round % PUTS]);
    until_waiting_for_slot(&victim, 1);
    assert_ends(&victim);
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

/* ---- a producer that is cancelled anywhere ----------------------------------------------- */

#define LAST UINT64_C(0xffffffff)
#define PROBE UINT64_C(0xfffffffe)

/* A bin with a number in it: some are one packet with others, some many. */
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

START_TEST(a_producer_is_cancelled_at_any_moment) {
  static const int64_t sizes[] = { 1, 10, 1000, 0 };
  create(sizes[_i]);
  cancel_producers();
}
END_TEST

START_TEST(a_producer_with_a_bound_in_bytes_is_cancelled_at_any_moment) {
  create_with_a_bound_in_bytes();
  cancel_producers();
}
END_TEST

START_TEST(a_producer_of_a_simple_queue_is_cancelled_at_any_moment) {
  create_simple();
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

/* ---- join, and the end ------------------------------------------------------------------- */

static int join_tasks(struct victim *victim) {
  (void)victim;
  return forkq_queue_join(queue, -1, NULL);
}

START_TEST(cancelled_while_it_waits_for_tasks) {
  create_joinable();
  for (int round = 0; round < ROUNDS; round++) {
    struct victim first, second;
    ck_assert_int_eq(put(1, 0), 0);
    start(&first, join_tasks);
    start(&second, join_tasks);
    support_until_equal(&queue->segment->joiners, 2);
    until_asleep(&first);
    until_asleep(&second);
    assert_ends(&first);
    ck_assert_uint_eq(atomic_load(&queue->segment->joiners), 1);
    ck_assert_int_eq(get(10000), 1);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    ck_assert(!join(&second));
    ck_assert_int_eq(second.result, 0);
    assert_nothing_held();
  }
}
END_TEST

static int join_feeder(struct victim *victim) {
  (void)victim;
  return forkq_queue_join_thread(queue, -1, NULL);
}

/* When it is told to: gets what another process has put. */
static void get_large(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  (void)arg;
  support_until(flag);
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 10000) == 0);
  CHILD_MUST(is_bin(&item, LARGE));
  forkq_item_destroy(&item);
}

static pid_t close_with_much_to_send(void) {
  flag = support_shared(sizeof *flag);
  pid_t child = support_fork(get_large, NULL);
  ck_assert_int_eq(put_bin(LARGE, 0), 0);
  support_until_pipe_full(queue);
  return child;
}

START_TEST(cancelled_while_it_waits_for_the_feeder) {
  struct victim first, second;
  create(0);
  pid_t child = close_with_much_to_send();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  start(&first, join_feeder);
  start(&second, join_feeder);
  until_asleep(&first);
  until_asleep(&second);
  assert_ends(&first);
  atomic_store(flag, 1);
  ck_assert(!join(&second));
  ck_assert_int_eq(second.result, 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 10000, NULL), 0);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* Nobody could tell how far it had come. */
static int destroy_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  forkq_queue_destroy(queue);
  queue = NULL;
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

START_TEST(a_cancelled_thread_destroys_the_whole_queue) {
  struct victim victim;
  create(0);
  pid_t child = close_with_much_to_send();
  start(&victim, destroy_though_cancelled);
  until_asleep(&victim);
  atomic_store(flag, 1);
  ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim.returned), 1);
  ck_assert_ptr_null(queue);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* Registered before the queue's, and so called after it. */
static _Atomic int *came_to_its_end; /* shared */
static void note_end(void) {
  if (came_to_its_end != NULL)
    atomic_store(came_to_its_end, 1);
}

static void exit_though_cancelled(void *arg) {
  (void)arg;
  CHILD_MUST(put_bin(LARGE, 0) == 0);
  support_until_pipe_full(queue);
  atomic_store(flag, 1);
  pthread_cancel(pthread_self());
  exit(0);
}

/* It sends what it has put, and goes through all handlers, as any exit does. */
START_TEST(an_exit_of_a_cancelled_thread_comes_to_its_end) {
  ck_assert_int_eq(atexit(note_end), 0);
  create(0);
  flag = support_shared(sizeof *flag);
  came_to_its_end = support_shared(sizeof *came_to_its_end);
  pid_t child = support_fork(exit_though_cancelled, NULL);
  support_until(flag);
  support_until_asleep(child);
  assert_get_bin(LARGE);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(*came_to_its_end, 1);
  came_to_its_end = NULL;
  assert_whole();
}
END_TEST

/* ---- a thread that does not want to be cancelled ----------------------------------------- */

static int (*protected_call)(struct victim *victim);

/* Its own later point is where it ends. */
static int call_protected(struct victim *victim) {
  int state, old;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  victim->result = protected_call(victim);
  pthread_testcancel();
  pthread_setcancelstate(state, &old);
  support_assert(old == PTHREAD_CANCEL_DISABLE);
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

static void start_protected(struct victim *victim, int (*call)(struct victim *victim)) {
  protected_call = call;
  start(victim, call_protected);
  until_asleep(victim);
}

static void assert_ends_afterwards(struct victim *victim) {
  ck_assert_ptr_eq(support_join(victim->thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim->returned), 1);
  ck_assert_int_eq(victim->result, 0);
  for (int i = 0; i < 2; i++)
    forkq_item_destroy(&victim->items[i]);
}

START_TEST(a_get_goes_on_where_cancellation_is_off) {
  create(0);
  for (int round = 0; round < GETS; round++) {
    struct victim first, second;
    start_protected(&first, gets[round]);
    support_until_equal(&channel()->asleep, 1);
    start_protected(&second, gets[round]);
    support_until_equal(&channel()->turn_waiting, 1);
    cancel(&first);
    cancel(&second);
    ck_assert_int_eq(put(1, 0), 0);
    assert_ends_afterwards(&first);
    ck_assert_int_eq(put(2, 0), 0);
    assert_ends_afterwards(&second);
    assert_whole();
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

START_TEST(a_simple_put_goes_on_where_cancellation_is_off) {
  struct victim victim;
  create_simple();
  start_protected(&victim, put_very_large);
  support_until_pipe_full(queue);
  until_asleep(&victim);
  cancel(&victim);
  assert_get_bin(LARGE);
  assert_ends_afterwards(&victim);
  assert_whole();
}
END_TEST

START_TEST(joins_go_on_where_cancellation_is_off) {
  struct victim victim;
  create_joinable();
  ck_assert_int_eq(put(1, 0), 0);
  start_protected(&victim, join_tasks);
  support_until_equal(&queue->segment->joiners, 1);
  cancel(&victim);
  ck_assert_int_eq(get(10000), 1);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_ends_afterwards(&victim);
  pid_t child = close_with_much_to_send();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  start_protected(&victim, join_feeder);
  cancel(&victim);
  atomic_store(flag, 1);
  assert_ends_afterwards(&victim);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* ---- calls of all kinds ------------------------------------------------------------------ */

static forkq_queue_t *other;
static forkq_item_t an_item;
static forkq_queue_stats_t stats;
static uint64_t a_count;
static size_t a_size;
static forkq_handover_t handover;
static const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
static char large[100000];
static const forkq_bytes_t large_twice[2] = { { large, sizeof large },
                                              { large, sizeof large } };

/* clang-format off */
static int do_put(void) { return forkq_queue_put(queue, &nil, -1); }
static int do_put_large(void) { return forkq_queue_put_packed(queue, large, sizeof large, -1); }
static int do_put_with(void) { return forkq_queue_put_with(queue, pack_small, NULL, 0); }
static int do_put_many(void) { return forkq_queue_put_many_packed(queue, large_twice, 2, 0, &a_size); }
static int do_get(void) { return forkq_queue_get(queue, &an_item, -1); }
static int do_get_many(void) { return forkq_queue_get_many(queue, &an_item, 1, -1, &a_size); }
static int do_get_nowait(void) { return forkq_queue_get_nowait(queue, &an_item); }
static int do_task_done(void) { return forkq_queue_task_done(queue); }
static int do_join(void) { return forkq_queue_join(queue, -1, &a_count); }
static int do_join_again(void) { return forkq_queue_join(queue, 1, &a_count) != FORKQ_TIMEDOUT; }
static int do_qsize(void) { return forkq_queue_qsize(queue) < 0; }
static int do_empty(void) { return forkq_queue_empty(queue) < 0; }
static int do_full(void) { return forkq_queue_full(queue) < 0; }
static int do_stats(void) { return forkq_queue_stats(queue, &stats); }
static int do_fileno(void) { return forkq_queue_fileno(queue) < 0; }
static int do_hand_over(void) { return forkq_queue_hand_over(queue, &handover); }
static int do_create(void) { return forkq_queue_create(&other, 1); }
static int do_put_other(void) { return forkq_queue_put(other, &nil, 0); }
static int do_put_other_again(void) { return forkq_queue_put(other, &nil, 1) != FORKQ_TIMEDOUT; }
static int do_get_other(void) { return forkq_queue_get(other, &an_item, 0); }
static int do_get_other_again(void) { return forkq_queue_get(other, &an_item, 1) != FORKQ_TIMEDOUT; }
static int do_shutdown(void) { return forkq_queue_shutdown(other, 1); }
static int do_close(void) { return forkq_queue_close(other); }
static int do_join_thread(void) { return forkq_queue_join_thread(other, -1, NULL); }
static int do_cancel_join(void) { return forkq_queue_cancel_join_thread(other); }
static int do_destroy(void) { forkq_queue_destroy(other); return 0; }
static int do_simple_create(void) { return forkq_simple_queue_create(&simple_queue); }
static int do_simple_put(void) { return forkq_simple_queue_put_packed(simple_queue, large, sizeof large); }
static int do_simple_get(void) { return forkq_simple_queue_get(simple_queue, &an_item); }
static int do_simple_empty(void) { return forkq_simple_queue_empty(simple_queue) < 0; }
static int do_simple_close(void) { return forkq_simple_queue_close(simple_queue); }
static int do_simple_destroy(void) { forkq_simple_queue_destroy(simple_queue); return 0; }
/* clang-format on */

/* In an order in which each succeeds, and none but those with a time of 1 ms waits. */
static const struct call {
  int (*make)(void);
  bool may_end; /* a thread that was cancelled before; then it has done nothing */
} calls[] = {
  { do_put, true },
  { do_get, true },
  { do_task_done, false },
  { do_join, false },
  { do_put_large, true },
  { do_put_with, true },
  { do_put_many, true },
  { do_get, true },
  { do_get_many, true },
  { do_get_nowait, true },
  { do_get, true },
  { do_join_again, true },
  { do_task_done, false },
  { do_task_done, false },
  { do_task_done, false },
  { do_task_done, false },
  { do_qsize, false },
  { do_empty, false },
  { do_full, false },
  { do_stats, false },
  { do_fileno, false },
  { do_hand_over, false },
  { do_create, false },
  { do_put_other, true },
  { do_put_other_again, true },
  { do_get_other, true },
  { do_get_other_again, true },
  { do_shutdown, false },
  { do_close, false },
  { do_join_thread, true },
  { do_cancel_join, false },
  { do_destroy, false },
  { do_simple_create, false },
  { do_simple_put, true },
  { do_simple_get, true },
  { do_simple_empty, false },
  { do_simple_close, false },
  { do_simple_destroy, false },
};
#define CALLS (sizeof calls / sizeof *calls)

static void prepare_calls(void) {
  create_joinable();
  make_bin(large, sizeof large);
  stats.size = sizeof stats;
}

static void make(const struct call *call, size_t i) {
  int r = call->make();
  if (r != 0)
    ck_abort_msg("call %zu: %d", i, r);
}

static void make_all_with(int state, int type) {
  int now;
  for (size_t i = 0; i < CALLS; i++) {
    pthread_setcanceltype(type, NULL);
    pthread_setcancelstate(state, NULL);
    make(&calls[i], i);
    pthread_setcancelstate(state, &now);
    ck_assert_msg(now == state, "state after call %zu", i);
    pthread_setcanceltype(type, &now);
    ck_assert_msg(now == type, "type after call %zu", i);
  }
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &now);
  ck_assert_int_eq(now, state);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &now);
  ck_assert_int_eq(now, type);
}

/* Asynchronous cancellation where none is on. */
START_TEST(calls_leave_state_and_type_as_they_were) {
  prepare_calls();
  make_all_with(PTHREAD_CANCEL_ENABLE, PTHREAD_CANCEL_DEFERRED);
  make_all_with(PTHREAD_CANCEL_DISABLE, PTHREAD_CANCEL_DEFERRED);
  make_all_with(PTHREAD_CANCEL_DISABLE, PTHREAD_CANCEL_ASYNCHRONOUS);
  forkq_item_destroy(&an_item);
}
END_TEST

static const struct call *call_to_make;

static int make_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  make(call_to_make, (size_t)(call_to_make - calls));
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

/* What is changed by a call. */
static int64_t items_in_queues(void) {
  return forkq_queue_qsize(queue) + (other != NULL ? forkq_queue_qsize(other) : 0) +
         (simple_queue != NULL ? forkq_queue_qsize((forkq_queue_t *)simple_queue) : 0);
}

/* Each call is made by a thread that was cancelled just before. It is made whole, or, by some,
 * not at all, and is made by another thread then. */
START_TEST(a_thread_cancelled_before_a_call_makes_it_whole_or_not_at_all) {
  prepare_calls();
  other = NULL;
  simple_queue = NULL;
  for (size_t i = 0; i < CALLS; i++) {
    struct victim victim;
    int64_t items = items_in_queues();
    call_to_make = &calls[i];
    start(&victim, make_though_cancelled);
    ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
    assert_nothing_held();
    if (victim.returned == 0) {
      ck_assert_msg(calls[i].may_end, "call %zu", i);
      ck_assert_int_eq(items_in_queues(), items);
      make(&calls[i], i);
    }
    if (calls[i].make == do_destroy)
      other = NULL;
    if (calls[i].make == do_simple_destroy)
      simple_queue = NULL;
  }
  forkq_item_destroy(&an_item);
}
END_TEST

/* ---- functions of the program's that are cancellation points ----------------------------- */

static _Atomic int logged;

static void log_and_test(forkq_log_level_t level, const char *message, void *arg) {
  (void)level;
  (void)message;
  (void)arg;
  atomic_fetch_add(&logged, 1);
  pthread_testcancel(); /* as any printf is */
}

static void take_the_read_lock_along(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
}

static int log_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  (void)forkq_queue_qsize(queue);
  bool settled = forkq__channel_settle_reads(&queue->channel);
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return settled;
}

/* Who repairs a lock says so while it has it. */
START_TEST(a_thread_is_not_cancelled_while_it_logs) {
  struct victim victim;
  create(0);
  ck_assert_int_eq(support_wait(support_fork(take_the_read_lock_along, NULL)), 0);
  start(&victim, log_though_cancelled);
  ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim.returned), 1);
  ck_assert_int_gt(atomic_load(&logged), 0);
  assert_whole();
}
END_TEST

static TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}

static Suite *cancel_suite(void) {
  Suite *suite = suite_create("cancel");
  TCase *get = add_case(suite, "get");
  tcase_add_test(get, a_getter_that_sleeps_ends_and_leaves_nothing);
  tcase_add_test(get, of_two_getters_either_may_be_cancelled);
  tcase_add_test(get, a_getter_ends_that_waits_for_its_turn_behind_another_process);
  tcase_add_test(get, getters_end_beside_a_reader_that_is_stopped);
  tcase_add_test(get, first_calls_end_beside_a_process_that_is_stopped);
  tcase_add_test(get, a_crowd_of_getters_ends_at_once);
  tcase_add_test(get, an_item_that_came_for_a_cancelled_getter_is_another_s);
  tcase_add_test(get, the_end_of_a_lock_is_told_to_another);
  tcase_add_test(get, getters_cancelled_at_any_moment_take_nothing_along);
  TCase *put = add_case(suite, "put");
  tcase_add_test(put, a_putter_that_waits_for_a_slot_ends_and_leaves_nothing);
  tcase_add_test(put, a_putter_that_waits_for_its_outbox_ends_and_leaves_nothing);
  tcase_add_test(put, a_crowd_of_putters_ends_at_once);
  tcase_add_test(put, a_slot_that_came_for_a_cancelled_putter_is_told_to_another);
  tcase_add_loop_test(put, a_producer_is_cancelled_at_any_moment, 0, 4);
  tcase_add_test(put, a_producer_with_a_bound_in_bytes_is_cancelled_at_any_moment);
  TCase *simples = add_case(suite, "simple");
  tcase_add_test(simples, a_producer_of_a_simple_queue_is_cancelled_at_any_moment);
  tcase_add_test(simples, cancelled_before_its_message_went_into_a_full_pipe);
  tcase_add_test(simples, cancelled_in_the_middle_of_a_large_message);
  tcase_add_test(simples, cancelled_while_another_process_writes);
  tcase_add_test(simples, cancelled_while_it_waits_for_another_thread_s_message);
  TCase *ends = add_case(suite, "ends");
  tcase_add_test(ends, cancelled_while_it_waits_for_tasks);
  tcase_add_test(ends, cancelled_while_it_waits_for_the_feeder);
  tcase_add_test(ends, a_cancelled_thread_destroys_the_whole_queue);
  tcase_add_test(ends, an_exit_of_a_cancelled_thread_comes_to_its_end);
  TCase *calls_case = add_case(suite, "calls");
  tcase_add_test(calls_case, a_get_goes_on_where_cancellation_is_off);
  tcase_add_test(calls_case, a_put_goes_on_where_cancellation_is_off);
  tcase_add_test(calls_case, a_simple_put_goes_on_where_cancellation_is_off);
  tcase_add_test(calls_case, joins_go_on_where_cancellation_is_off);
  tcase_add_test(calls_case, calls_leave_state_and_type_as_they_were);
  tcase_add_test(calls_case,
                 a_thread_cancelled_before_a_call_makes_it_whole_or_not_at_all);
  tcase_add_test(calls_case, a_thread_is_not_cancelled_while_it_logs);
  return suite;
}

int main(void) {
  support_heap_install();
  forkq_log_set(log_and_test, NULL);
  return support_main(cancel_suite());
}
