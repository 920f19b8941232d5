/* Threads that are cancelled (pthread_cancel(3)) in a get: what they had in hand is given back, and
 * another thread has the item. */
#define _GNU_SOURCE
#include "cancel_helpers.h"

#include <unistd.h>

static int64_t value_of(const struct victim *victim) {
  return (int64_t)victim->items[0].object.via.u64;
}

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
static _Atomic uint32_t lock_waiting, no_call;

static void no_repair(void *arg) {
  (void)arg;
  ck_abort_msg("a thread has ended with a lock");
}

static int await_lock(struct victim *victim) {
  (void)victim;
  struct forkq__waiters waiters = { &lock_waiting, 1, { &no_call, 0 } };
  int r = forkq__lock_await(&lock, waiters, FORKQ__FOREVER, no_repair, NULL);
  while (r == FORKQ_TIMEDOUT) /* or somebody else was faster */
    r = forkq__lock_await(&lock, waiters, FORKQ__FOREVER, no_repair, NULL);
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

static Suite *cancel_get_suite(void) {
  Suite *suite = suite_create("cancel_get");
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
  TCase *off = add_case(suite, "cancellation off");
  tcase_add_test(off, a_get_goes_on_where_cancellation_is_off);
  return suite;
}

int main(void) {
  return cancel_main(cancel_get_suite());
}
