/* Slots: exactly `maxsize` of them, whoever takes, dies or sleeps. */
#define _GNU_SOURCE
#include "base/os.h"
#include "ledger_helpers.h"
#include "pipe/reap.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"
#include "shared/slots.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define TAKERS 4
#define FIRST_LOOK_MS 20

static struct shared {
  struct forkq__slots_shared slots;
  struct forkq__ledger ledger;
  struct forkq__channel_shared channel;
  _Atomic int flag;
  _Atomic int ready;
  _Atomic int stop;
  _Atomic uint64_t took[TAKERS];
} * shared;
static struct forkq__slots_shared *slots;
static struct forkq__ledger *ledger;
static struct forkq__channel channel; /* over which nothing is sent */
static struct forkq__slots here = { .account = &channel.account,
                                    .event_fd = -1,
                                    .interrupts = &channel.interrupts };

static void set_up(void) {
  forkq__account_init(&channel.account);
  shared = make_memory(&channel.account.liveness, sizeof *shared);
  slots = here.shared = &shared->slots;
  ledger = channel.account.ledger = &shared->ledger;
  channel.shared = &shared->channel;
  ck_assert_int_eq(forkq__ledger_init(ledger), 0);
  ck_assert_int_eq(forkq__segment_init_channel(channel.shared), 0);
}

static void tear_down(void) {
  drop_memory(&channel.account.liveness, sizeof *shared);
}

static uint64_t count(void) {
  return atomic_load(&ledger->word) >> FORKQ__CELL_BITS;
}

static uint64_t sum_of_accepted(void) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ledger->cells_used; i++)
    sum += ledger->cells[i].accepted;
  return sum;
}

/* This process's cell; its items leave by release. */
static uint32_t own;

static void open_own(void) {
  ck_assert_int_eq(forkq__reap_and_claim(&channel), 0);
  own = channel.account.cell;
  here.gone = 0;
}

static bool take(void) {
  return forkq__slots_try_take(&here);
}

static void release(uint64_t items) {
  atomic_fetch_add(&ledger->taken, items);
  forkq__slots_freed(&here);
}

/* ---- counting ---------------------------------------------------------------------- */

START_TEST(take_fails_when_full) {
  open_own();
  for (int64_t maxsize = 1; maxsize <= 100; maxsize += 11) {
    slots->maxsize = maxsize;
    for (int64_t i = 0; i < maxsize; i++) {
      ck_assert(!forkq__slots_full(&here));
      ck_assert(take());
    }
    ck_assert(forkq__slots_full(&here));
    ck_assert(!take());
    ck_assert(!take());
    ck_assert_int_eq((int64_t)forkq__ledger_size(ledger), maxsize);
    release((uint64_t)maxsize);
  }
}
END_TEST

START_TEST(one_that_leaves_makes_room_for_one) {
  open_own();
  slots->maxsize = 3;
  while (take())
    ;
  for (int i = 0; i < 1000; i++) {
    release(1);
    support_assert(!forkq__slots_full(&here));
    support_assert(take());
    support_assert(!take());
  }
}
END_TEST

START_TEST(one_that_is_returned_makes_room_as_well) {
  open_own();
  slots->maxsize = 2;
  ck_assert(take() && take() && !take());
  ck_assert(forkq__account_return(&channel.account, 1));
  ck_assert(take() && !take());
}
END_TEST

START_TEST(without_a_limit_there_is_always_room) {
  open_own();
  slots->maxsize = 0;
  for (int i = 0; i < 100000; i++)
    support_assert(take() && !forkq__slots_full(&here));
  ck_assert_uint_eq(forkq__ledger_size(ledger), 100000);
}
END_TEST

/* A caller's own number of those that left may be old, never wrong. */
START_TEST(an_old_memory_of_what_left_costs_no_slot) {
  open_own();
  slots->maxsize = 2;
  ck_assert(take() && take() && !take());
  release(2);
  struct forkq__slots fresh = here;
  fresh.gone = 0;
  ck_assert(forkq__slots_try_take(&fresh));
  ck_assert(take() && !take());
  ck_assert(!forkq__slots_try_take(&fresh));
}
END_TEST

START_TEST(the_count_may_run_over_the_end_of_its_word) {
  uint64_t most = UINT64_MAX >> FORKQ__CELL_BITS;
  open_own();
  slots->maxsize = 4;
  ledger->word = (most - 5) << FORKQ__CELL_BITS | (own + 1);
  ledger->cells[own].accepted = most - 5;
  ledger->taken = here.gone = most - 5;
  for (int i = 0; i < 20; i++) {
    int taken = 0;
    while (take())
      taken++;
    ck_assert_int_eq(taken, i == 0 ? 4 : 3);
    ck_assert(forkq__slots_full(&here));
    release(3);
  }
}
END_TEST

/* ---- slots that are taken over ------------------------------------------------------ */

/* Until the one whose item it was has given its own back, there is one more than `maxsize`. */
START_TEST(a_slot_is_taken_over_whether_there_is_one_or_not) {
  open_own();
  slots->maxsize = 2;
  ck_assert(take() && take() && !take());
  forkq__slots_take_over(&here);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  ck_assert_uint_eq(count(), 3);
  ck_assert_uint_eq(sum_of_accepted(), 3);
  ck_assert(forkq__account_return(&channel.account, 1));
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  ck_assert(!take() && forkq__slots_full(&here));
  release(1);
  ck_assert(take() && !take());
}
END_TEST

START_TEST(a_slot_of_a_queue_without_a_limit_is_taken_over) {
  open_own();
  slots->maxsize = 0;
  forkq__slots_take_over(&here);
  ck_assert_uint_eq(ledger->cells[own].accepted, 1);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 1);
  ck_assert_uint_eq(ledger->word, 0);
}
END_TEST

/* Whoever takes next says that the last take did happen. */
START_TEST(a_slot_that_is_taken_over_confirms_the_one_before) {
  open_own();
  slots->maxsize = 5;
  ledger->cells_used = 4;
  ledger->word = UINT64_C(7) << FORKQ__CELL_BITS | (3 + 1);
  ledger->taken = 7;
  forkq__slots_take_over(&here);
  ck_assert_uint_eq(ledger->cells[3].confirmed, 7);
  ck_assert_uint_eq(ledger->word, UINT64_C(8) << FORKQ__CELL_BITS | (own + 1));
  ck_assert_uint_eq(ledger->cells[own].try_count, 0);
}
END_TEST

/* ---- many at once ------------------------------------------------------------------ */

/* On a slow machine who holds the ledger's lock may not run for longer than it is waited for. */
static uint32_t open_cell(void) {
  int r;
  forkq__liveness_forked(&channel.account.liveness, false);
  channel.account.cell = FORKQ__NO_CELL;
  here.gone = 0;
  do
    r = forkq__reap_and_claim(&channel);
  while (r == FORKQ_TIMEDOUT);
  CHILD_MUST(r == 0);
  atomic_fetch_add(&shared->ready, 1);
  return channel.account.cell;
}

static void take_until_full(void *arg) {
  _Atomic uint64_t *took = arg;
  open_cell();
  support_until(&shared->flag);
  while (forkq__slots_try_take(&here))
    atomic_fetch_add(took, 1);
  support_until(&shared->stop); /* its items are its own for as long as it lives */
}

static void start_takers(pid_t *children, void (*run)(void *)) {
  for (int i = 0; i < TAKERS; i++)
    children[i] = support_fork(run, (void *)&shared->took[i]);
  while (atomic_load(&shared->ready) < TAKERS)
    usleep(100);
  atomic_store(&shared->flag, 1);
}

START_TEST(concurrent_takers_get_maxsize_together) {
  pid_t children[TAKERS];
  slots->maxsize = 100000;
  start_takers(children, take_until_full);
  while (!forkq__slots_full(&here))
    usleep(100);
  atomic_store(&shared->stop, 1);
  uint64_t sum = 0;
  for (int i = 0; i < TAKERS; i++) {
    ck_assert_int_eq(support_wait(children[i]), 0);
    sum += shared->took[i];
  }
  ck_assert_uint_eq(sum, 100000);
  ck_assert_uint_eq(count(), 100000);
  ck_assert_uint_eq(sum_of_accepted(), 100000);
}
END_TEST

static void take_over_many(void *arg) {
  (void)arg;
  open_cell();
  support_until(&shared->flag);
  for (int i = 0; i < 20000; i++)
    forkq__slots_take_over(&here);
  support_until(&shared->stop);
}

START_TEST(concurrent_heirs_take_each_what_it_takes) {
  pid_t children[TAKERS];
  slots->maxsize = 1;
  start_takers(children, take_over_many);
  atomic_store(&shared->stop, 1);
  for (int i = 0; i < TAKERS; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_uint_eq(count(), TAKERS * 20000);
  ck_assert_uint_eq(sum_of_accepted(), TAKERS * 20000);
}
END_TEST

static void take_until_stopped(void *arg) {
  (void)arg;
  uint32_t cell = open_cell();
  while (!atomic_load(&shared->stop))
    if (forkq__slots_try_take(&here))
      atomic_fetch_add(&ledger->cells[cell].sent, 1); /* it is the getter's now */
}

START_TEST(never_more_than_maxsize_are_there_at_once) {
  pid_t children[TAKERS];
  slots->maxsize = 7;
  start_takers(children, take_until_stopped);
  int64_t deadline = support_now_ms() + 8000;
  while (count() < 30000 && support_now_ms() < deadline) {
    /* What left is read first: it only grows, as the count does. */
    uint64_t left = atomic_load(&ledger->taken);
    uint64_t there = count() - left;
    support_assert(there <= 7);
    if (there > 0)
      atomic_store(&ledger->taken, left + there);
  }
  atomic_store(&shared->stop, 1);
  for (int i = 0; i < TAKERS; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_uint_gt(count(), 1000);
  ck_assert_uint_eq(sum_of_accepted(), count());
}
END_TEST

/* ---- takers that are killed -------------------------------------------------------- */

/* Lets everything leave that is there, for a while. */
static void drain(int rounds) {
  for (int i = 0; i < rounds; i++)
    atomic_store(&ledger->taken, count());
}

/* Killed at any instruction of a take: after the reaping, what the cells say is what the word
 * says. */
START_TEST(a_take_that_was_cut_off_is_counted_or_not_but_nothing_between) {
  uint64_t seed = 3;
  slots->maxsize = 5;
  for (int round = 0; round < 100 || count() <= 10000; round++) {
    pid_t children[2];
    atomic_store(&shared->ready, 0);
    children[0] = support_fork(take_until_stopped, NULL);
    children[1] = support_fork(take_until_stopped, NULL);
    while (atomic_load(&shared->ready) < 2)
      drain(1);
    drain(1000 + (int)support_random_below(&seed, 5000));
    support_kill_and_wait(children[0]);
    drain(100);
    support_kill_and_wait(children[1]);
    drain(1);
    forkq__reap(&channel);
    uint64_t accepted = sum_of_accepted();
    support_assert(accepted == count());
    /* A take whose item was not yet "sent" has come back, so all that is there is counted. */
    atomic_store(&ledger->taken, accepted - ledger->returned);
  }
}
END_TEST

static void take_three_and_wait(void *arg) {
  (void)arg;
  open_cell();
  for (int i = 0; i < 3; i++)
    CHILD_MUST(forkq__slots_try_take(&here));
  atomic_store(&shared->flag, 1);
  for (;;)
    pause();
}

START_TEST(slots_of_the_killed_come_back_exactly) {
  open_own();
  slots->maxsize = 5;
  for (int round = 0; round < 50; round++) {
    atomic_store(&shared->flag, 0);
    pid_t child = support_fork(take_three_and_wait, NULL);
    support_until(&shared->flag);
    support_assert(take() && take() && !take());
    support_kill_and_wait(child);
    support_assert(!take());
    support_assert(forkq__reap(&channel));
    support_assert(take() && take() && take() && !take());
    release(5);
  }
}
END_TEST

/* ---- after very many items ---------------------------------------------------------- */

#define HALF (UINT64_C(1) << 50) /* of what the word holds */

/* As the queue is when so many items have come and gone, by way of this process's cell. */
static void have_passed(uint64_t items) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(1000), 1);
  struct forkq__ledger *all = &queue->segment->ledger;
  struct forkq__cell *cell = &all->cells[queue->channel.account.cell];
  all->word = items << FORKQ__CELL_BITS | (queue->channel.account.cell + 1);
  cell->accepted = cell->sent = all->taken = queue->slots.gone = items;
}

static void put_until_full(void *arg) {
  (void)arg;
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, 0) == 0);
  CHILD_MUST(put(3, 0) == FORKQ_FULL);
  CHILD_MUST(forkq_queue_full(queue) == 1);
  CHILD_MUST(forkq_queue_qsize(queue) == 3);
  CHILD_MUST(put(4, 2) == FORKQ_TIMEDOUT);
  for (int i = 0; i < 3; i++) {
    CHILD_MUST(get(5000) == i);
    CHILD_MUST(put(10 + i, 0) == 0);
    CHILD_MUST(put(20, 0) == FORKQ_FULL);
  }
  forkq_queue_destroy(queue);
}

/* A process that has just come may not begin its counting at 0. */
START_TEST(who_comes_after_very_many_items_meets_as_many_slots) {
  static const uint64_t items[] = { HALF - 2,     HALF,         HALF + 5,
                                    2 * HALF - 9, 2 * HALF - 2, 2 * HALF };
  ck_assert_int_eq(forkq_queue_create(&queue, 3), 0);
  have_passed(items[_i]);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(support_wait(support_fork(put_until_full, NULL)), 0);
    for (int k = 0; k < 3; k++)
      ck_assert_int_eq(get(5000), 10 + k);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  }
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  forkq_queue_destroy(queue);
}
END_TEST

static void die_behind_the_word(void *arg) {
  (void)arg;
  uint32_t cell = open_cell();
  uint64_t number = count() + 1;
  ledger->cells[cell].try_base = 0;
  ledger->cells[cell].try_count = number;
  ledger->word = number << FORKQ__CELL_BITS | (cell + 1);
  raise(SIGKILL);
}

/* Who takes next confirms it, unless a later one of that cell was confirmed. */
START_TEST(a_take_is_confirmed_after_very_many_items) {
  static const uint64_t items[] = { 3, HALF + 7, 2 * HALF - 9, 2 * HALF };
  open_own();
  slots->maxsize = 3;
  ledger->word = items[_i] << FORKQ__CELL_BITS | (own + 1);
  ledger->cells[own].accepted = ledger->taken = here.gone = items[_i];
  ck_assert_int_eq(support_wait(support_fork(die_behind_the_word, NULL)), 128 + SIGKILL);
  ck_assert(take());
  ck_assert(forkq__reap(&channel));
  ck_assert_uint_eq(ledger->cells[own + 1].accepted, 1);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 1);
  ck_assert(take() && take() && !take());
}
END_TEST

/* ---- waiting ----------------------------------------------------------------------- */

static void fill(int64_t maxsize) {
  open_own();
  slots->maxsize = maxsize;
  while (take())
    ;
}

/* Waits without a deadline of its own, and takes one slot. */
static void wait_and_take(void *arg) {
  (void)arg;
  uint32_t cell = open_cell();
  while (!forkq__slots_try_take(&here))
    forkq__slots_wait(&here, FORKQ__FOREVER);
  atomic_fetch_add(&ledger->cells[cell].sent, 1);
  if (!forkq__slots_full(&here))
    forkq__slots_freed(&here);
}

static pid_t waiter(void (*run)(void *)) {
  pid_t child = support_fork(run, NULL);
  support_until_asleep(child);
  /* It sleeps in the wait, and not on its way there. */
  while (atomic_load(&slots->waiters) == 0 || !support_asleep(child))
    usleep(100);
  return child;
}

START_TEST(a_free_slot_wakes_a_waiter) {
  fill(2);
  for (int i = 0; i < 100; i++) {
    pid_t child = waiter(wait_and_take);
    release(1);
    support_assert(support_wait(child) == 0);
    support_assert(slots->waiters == 0);
  }
}
END_TEST

/* One wake-up is handed from waiter to waiter while there are slots. */
START_TEST(many_free_slots_wake_many_waiters) {
  fill(3);
  for (int i = 0; i < 30; i++) {
    pid_t children[3];
    for (int k = 0; k < 3; k++)
      children[k] = waiter(wait_and_take);
    release(3);
    for (int k = 0; k < 3; k++)
      support_assert(support_wait(children[k]) == 0);
  }
}
END_TEST

START_TEST(nobody_is_woken_where_nobody_waits) {
  fill(1);
  uint32_t event = slots->event;
  release(1);
  ck_assert_uint_eq(slots->event, event);
  ck_assert_uint_eq(slots->waking, 0);
}
END_TEST

START_TEST(a_second_wake_up_is_saved_while_one_is_on_its_way) {
  slots->maxsize = 1;
  slots->waiters = 2;
  forkq__slots_freed(&here);
  uint32_t event = slots->event;
  forkq__slots_freed(&here);
  ck_assert_uint_eq(slots->event, event);
  slots->waking = 0;
  forkq__slots_freed(&here);
  ck_assert_uint_ne(slots->event, event);
}
END_TEST

START_TEST(who_need_not_wait_does_not_sleep) {
  open_own();
  slots->maxsize = 1;
  forkq__slots_wait(&here, FORKQ__FOREVER);
  ck_assert_uint_eq(slots->waiters, 0);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline) {
  fill(1);
  for (int ms = 1; ms <= 51; ms += 25) {
    int64_t start = forkq__os_now();
    forkq__slots_wait(&here, start + ms * INT64_C(1000000));
    int64_t took = forkq__os_now() - start;
    ck_assert_int_ge(took, ms * INT64_C(1000000));
    ck_assert_int_lt(took, INT64_C(5000000000));
  }
  ck_assert_uint_eq(slots->waiters, 0);
}
END_TEST

static void wait_once(void *arg) {
  (void)arg;
  forkq__slots_wait(&here, FORKQ__FOREVER);
}

START_TEST(wake_all_wakes_all) {
  fill(1);
  pid_t children[3];
  for (int i = 0; i < 3; i++)
    children[i] = waiter(wait_once);
  while (atomic_load(&slots->waiters) < 3)
    usleep(100);
  for (int i = 0; i < 3; i++)
    support_until_asleep(children[i]);
  forkq__slots_wake_all(&here);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
}
END_TEST

/* As a put does: it looks again now and then, for slots and for the dead. */
static void wait_and_take_looking(void *arg) {
  (void)arg;
  uint32_t cell = open_cell();
  while (!forkq__slots_try_take(&here)) {
    forkq__reap(&channel);
    forkq__slots_wait(&here, forkq__os_deadline_within(FORKQ__FOREVER, FIRST_LOOK_MS));
  }
  atomic_fetch_add(&ledger->cells[cell].sent, 1);
}

/* It keeps what it takes, until it is dead. */
static void wait_and_keep(void *arg) {
  (void)arg;
  open_cell();
  while (!forkq__slots_try_take(&here))
    forkq__slots_wait(&here, FORKQ__FOREVER);
}

/* The first sleeper is killed when it has just been woken: with the wake-up and before its
 * take, or with the slot. Either way the other gets the slot. */
START_TEST(a_wake_up_that_dies_with_the_woken_leaves_nobody_behind) {
  fill(1);
  for (int round = 0; round < 50; round++) {
    pid_t victim = waiter(wait_and_keep);
    pid_t other = waiter(wait_and_take_looking);
    release(1);
    kill(victim, SIGKILL);
    (void)support_wait(victim);
    support_assert(support_wait(other) == 0);
    forkq__reap(&channel);
    release(1);
    support_assert(take() && !take());
  }
}
END_TEST

/* Killed in their sleep, they stay in the number of waiters: that costs a system call. */
START_TEST(killed_sleepers_do_no_harm) {
  fill(1);
  for (int round = 0; round < 50; round++) {
    support_kill_and_wait(waiter(wait_and_take));
    pid_t other = waiter(wait_and_take_looking);
    release(1);
    support_assert(support_wait(other) == 0);
  }
}
END_TEST

static void add_cases_of_counting(Suite *suite) {
  TCase *tcase = tcase_create("counting");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, take_fails_when_full);
  tcase_add_test(tcase, one_that_leaves_makes_room_for_one);
  tcase_add_test(tcase, one_that_is_returned_makes_room_as_well);
  tcase_add_test(tcase, without_a_limit_there_is_always_room);
  tcase_add_test(tcase, an_old_memory_of_what_left_costs_no_slot);
  tcase_add_test(tcase, the_count_may_run_over_the_end_of_its_word);
  tcase_add_test(tcase, a_slot_is_taken_over_whether_there_is_one_or_not);
  tcase_add_test(tcase, a_slot_of_a_queue_without_a_limit_is_taken_over);
  tcase_add_test(tcase, a_slot_that_is_taken_over_confirms_the_one_before);
  tcase_add_test(tcase, concurrent_takers_get_maxsize_together);
  tcase_add_test(tcase, concurrent_heirs_take_each_what_it_takes);
  tcase_add_loop_test(tcase, a_take_is_confirmed_after_very_many_items, 0, 4);
  tcase_add_loop_test(tcase, who_comes_after_very_many_items_meets_as_many_slots, 0, 6);
  tcase_add_test(tcase, never_more_than_maxsize_are_there_at_once);
  tcase_add_test(tcase, a_take_that_was_cut_off_is_counted_or_not_but_nothing_between);
  tcase_add_test(tcase, slots_of_the_killed_come_back_exactly);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_waiting(Suite *suite) {
  TCase *tcase = tcase_create("waiting");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, a_free_slot_wakes_a_waiter);
  tcase_add_test(tcase, many_free_slots_wake_many_waiters);
  tcase_add_test(tcase, nobody_is_woken_where_nobody_waits);
  tcase_add_test(tcase, a_second_wake_up_is_saved_while_one_is_on_its_way);
  tcase_add_test(tcase, who_need_not_wait_does_not_sleep);
  tcase_add_test(tcase, a_wait_ends_at_its_deadline);
  tcase_add_test(tcase, wake_all_wakes_all);
  tcase_add_test(tcase, a_wake_up_that_dies_with_the_woken_leaves_nobody_behind);
  tcase_add_test(tcase, killed_sleepers_do_no_harm);
  suite_add_tcase(suite, tcase);
}

int main(void) {
  Suite *suite = suite_create("slots");
  add_cases_of_counting(suite);
  add_cases_of_waiting(suite);
  return support_main(suite);
}
