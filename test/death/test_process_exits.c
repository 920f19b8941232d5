/* exit in a signal handler that has interrupted a wait, or a thread that has a lock. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"

#include "fork_heap.h"
#include "process_helpers.h"

#include <check.h>
#include <forkq.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static void set_up_simple(void) {
  fds_before = support_open_fds();
  create_simple();
}

/* ---- exit in a handler that has interrupted a wait ------------------------------------------- */

static _Atomic int *waits; /* it is about to */

static void is_about_to_wait(void) {
  handle_signal(SIGTERM, exit_now);
  atomic_store(waits, 1);
}

static pid_t start_waiting(void (*wait)(void *arg)) {
  waits = support_shared(sizeof *waits);
  pid_t pid = support_fork(wait, NULL);
  support_until(waits);
  support_until_asleep(pid);
  return pid;
}

static void assert_ends(pid_t pid) {
  kill(pid, SIGTERM);
  ck_assert_int_eq(support_wait(pid), 0);
}

#define NUMBERS 100

/* How often each was got. */
static _Atomic uint8_t *got;

static void get_on(void *arg) {
  (void)arg;
  for (;;) {
    int64_t value = get(-1);
    CHILD_MUST(value >= 0 && value <= NUMBERS);
    atomic_fetch_add(&got[value], 1);
  }
}

/* It has put as well, or exit would have nothing to do. */
static void put_and_wait_in_get(void *arg) {
  (void)arg;
  support_end_after(60);
  CHILD_MUST(put(NUMBERS, -1) == 0);
  is_about_to_wait();
  while (get(-1) >= 0)
    ;
}

/* Two sleep, and the one that goes is the one that would have been woken, or the other. */
START_TEST(exit_in_a_wait_for_an_item_leaves_the_others_waiting) {
  for (int which = 0; which < 2; which++) {
    got = support_shared(NUMBERS + 1);
    pid_t getters[2];
    pid_t first = start_waiting(put_and_wait_in_get);
    getters[0] = support_fork(get_on, NULL);
    support_until_asleep(getters[0]);
    pid_t second = start_waiting(put_and_wait_in_get);
    getters[1] = support_fork(get_on, NULL);
    support_until_asleep(getters[1]);
    assert_ends(which == 0 ? first : second);
    assert_ends(which == 0 ? second : first);
    for (int i = 0; i < NUMBERS; i++)
      ck_assert_int_eq(put(i, -1), 0);
    for (int i = 0; i < NUMBERS; i++)
      while (got[i] == 0)
        usleep(100);
    for (int i = 0; i < 2; i++)
      support_kill_and_wait(getters[i]);
  }
  assert_empty_and_works();
}
END_TEST

/* The outbox is behind a full pipe: exit waits until somebody reads, as always. */
static void wait_beside_an_outbox(void *arg) {
  (void)arg;
  forkq_queue_t *other;
  support_end_after(60);
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
  support_until_pipe_full(queue);
  CHILD_MUST(forkq_queue_create(&other, 0) == 0);
  is_about_to_wait();
  (void)get_int(other, -1);
}

static void assert_sends_all(void (*wait)(void *arg), int numbers) {
  struct harvest harvest = { 0 };
  pid_t pid = start_waiting(wait);
  kill(pid, SIGTERM);
  gather_until_its_end(&harvest, pid);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert(harvest.large && harvest.numbers == numbers);
  assert_empty_and_works();
}

START_TEST(exit_in_a_wait_for_an_item_sends_what_is_unsent) {
  support_shrink_pipe(queue);
  assert_sends_all(wait_beside_an_outbox, 3);
}
END_TEST

static void wait_for_room(void *arg) {
  (void)arg;
  support_end_after(60);
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
  support_until_pipe_full(queue);
  is_about_to_wait();
  (void)!put(3, -1);
}

START_TEST(exit_in_a_wait_for_room_sends_all_but_what_waits) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 4), 0);
  support_shrink_pipe(queue);
  assert_sends_all(wait_for_room, 3);
}
END_TEST

static void wait_for_the_feeder(void *arg) {
  (void)arg;
  support_end_after(60);
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0 && put(0, -1) == 0);
  support_until_pipe_full(queue);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  is_about_to_wait();
  (void)!forkq_queue_join_thread(queue, -1, NULL);
}

START_TEST(exit_in_a_wait_for_the_feeder_sends_all) {
  support_shrink_pipe(queue);
  assert_sends_all(wait_for_the_feeder, 1);
}
END_TEST

static int pack_without_end(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  is_about_to_wait();
  for (;;)
    pause();
  return 0;
}

static void wait_in_a_packing_function(void *arg) {
  (void)arg;
  support_end_after(60);
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0 && put(0, -1) == 0);
  support_until_pipe_full(queue);
  (void)!forkq_queue_put_with(queue, pack_without_end, NULL, -1);
}

START_TEST(exit_in_a_packing_function_sends_all_but_what_is_packed) {
  support_shrink_pipe(queue);
  assert_sends_all(wait_in_a_packing_function, 1);
}
END_TEST

static void wait_for_tasks(void *arg) {
  (void)arg;
  support_end_after(60);
  CHILD_MUST(put(0, -1) == 0);
  is_about_to_wait();
  (void)!forkq_queue_join(queue, -1, NULL);
}

START_TEST(exit_in_a_wait_for_tasks) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
  assert_ends(start_waiting(wait_for_tasks));
  ck_assert_int_eq(get(10000), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 10000, NULL), 0);
}
END_TEST

static void wait_in_wait(void *arg) {
  (void)arg;
  support_end_after(60);
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  is_about_to_wait();
  (void)!forkq_wait(&entry, 1, -1);
}

START_TEST(exit_in_forkq_wait) {
  assert_ends(start_waiting(wait_in_wait));
  assert_empty_and_works();
}
END_TEST

/* In a simple queue's put, which writes until the pipe is full and then waits, for itself. */
static void fill_the_pipe(void *arg) {
  (void)arg;
  support_end_after(60);
  is_about_to_wait();
  for (;;)
    CHILD_MUST(put_bin(1000, -1) == 0);
}

static void put_a_large_one(void *arg) {
  (void)arg;
  support_end_after(60);
  support_keep_to_pipe(queue);
  is_about_to_wait();
  (void)put_bin(LARGE, -1);
}

START_TEST(exit_in_a_put_of_a_simple_queue_into_a_full_pipe) {
  for (int large = 0; large < 2; large++) {
    pid_t pid = start_waiting(large ? put_a_large_one : fill_the_pipe);
    support_until_pipe_full(queue);
    support_until_asleep(pid);
    int64_t there = forkq_queue_qsize(queue);
    assert_ends(pid);
    forkq_item_t item = FORKQ_ITEM_INIT;
    int came = 0;
    while (forkq_queue_get_packed(queue, &item, 100) == 0) {
      ck_assert_uint_eq(item.size, 1000);
      came++;
    }
    forkq_item_destroy(&item);
    /* All but the one that it had in hand. */
    ck_assert_int_eq(came, there - 1);
    assert_empty_and_works();
  }
}
END_TEST

/* ---- exit with a lock in hand ---------------------------------------------------------------- */

static void nothing_to_repair(void *arg) {
  (void)arg;
}

static int acquire(struct forkq__lock *lock) {
  return forkq__lock_acquire(lock, FORKQ__FOREVER, nothing_to_repair, NULL);
}

static int have_the_mutex(void) {
  return forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
}

static int have_the_registry(void) {
  return forkq__life_hold();
}

static int have_the_ledger(void) {
  return acquire(&queue->segment->ledger.lock);
}

static int have_the_read_lock_in_a_get(void) {
  CHILD_MUST(forkq__queue_enter_get(queue) == 0);
  return acquire(&queue->segment->channel.read_lock);
}

static int have_the_write_lock_in_a_get(void) {
  CHILD_MUST(forkq__queue_enter_get(queue) == 0);
  return acquire(&queue->segment->channel.write_lock);
}

static int have_the_turn_in_a_get(void) {
  CHILD_MUST(forkq__queue_enter_get(queue) == 0);
  return acquire(&queue->segment->channel.turn);
}

static int (*const locks[])(void) = {
  have_the_mutex,
  have_the_registry,
  have_the_ledger,
  have_the_read_lock_in_a_get,
  have_the_write_lock_in_a_get,
  have_the_turn_in_a_get,
};

static void put_lock_and_exit(void *arg) {
  support_end_after(60);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
  send_all();
  CHILD_MUST((*(int (*const *)(void))arg)() == 0);
  exit(0);
}

START_TEST(exit_with_any_lock) {
  for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) {
    struct harvest harvest = { 0 };
    pid_t pid = support_fork(put_lock_and_exit, (void *)(uintptr_t)&locks[i]);
    ck_assert_int_eq(support_wait(pid), 0);
    gather(&harvest);
    ck_assert_int_eq(harvest.numbers, 3);
    assert_empty_and_works();
  }
}
END_TEST

static void lock_put_and_exit(void *arg) {
  (void)arg;
  support_end_after(60);
  CHILD_MUST(have_the_write_lock_in_a_get() == 0);
  CHILD_MUST(put(0, -1) == 0);
  exit(0);
}

/* The feeder waits for a lock that nobody will give up. */
START_TEST(exit_in_a_get_waits_for_the_feeder_but_not_for_ever) {
  ck_assert_int_eq(support_wait(support_fork(lock_put_and_exit, NULL)), 0);
  assert_empty_and_works();
}
END_TEST

/* ---- _exit, which sends nothing by itself ---------------------------------------------------- */

static void put_and_vanish(void *arg) {
  (void)arg;
  for (int i = 0; i < NUMBERS; i++)
    CHILD_MUST(put(i, -1) == 0);
  CHILD_MUST(forkq_queue_flush(queue, 10000, NULL) == 0);
  _exit(0);
}

/* Without the flush the feeder may not even have begun. */
START_TEST(what_was_flushed_survives_its_process) {
  for (int times = 0; times < 20; times++) {
    ck_assert_int_eq(support_wait(support_fork(put_and_vanish, NULL)), 0);
    for (int i = 0; i < NUMBERS; i++)
      ck_assert_int_eq(get(10000), i);
  }
}
END_TEST

int main(void) {
  use_heap_that_forks();
  Suite *suite = suite_create("process_exits");
  TCase *waiting = tcase_create("waiting");
  tcase_set_timeout(waiting, 100);
  tcase_add_checked_fixture(waiting, set_up, queue_tear_down);
  tcase_add_test(waiting, exit_in_a_wait_for_an_item_leaves_the_others_waiting);
  tcase_add_test(waiting, exit_in_a_wait_for_an_item_sends_what_is_unsent);
  tcase_add_test(waiting, exit_in_a_wait_for_room_sends_all_but_what_waits);
  tcase_add_test(waiting, exit_in_a_wait_for_the_feeder_sends_all);
  tcase_add_test(waiting, exit_in_a_packing_function_sends_all_but_what_is_packed);
  tcase_add_test(waiting, exit_in_a_wait_for_tasks);
  tcase_add_test(waiting, exit_in_forkq_wait);
  suite_add_tcase(suite, waiting);
  TCase *locked = tcase_create("locked");
  tcase_set_timeout(locked, 100);
  tcase_add_checked_fixture(locked, set_up, queue_tear_down);
  tcase_add_test(locked, exit_with_any_lock);
  tcase_add_test(locked, exit_in_a_get_waits_for_the_feeder_but_not_for_ever);
  suite_add_tcase(suite, locked);
  TCase *flushed = tcase_create("flushed");
  tcase_set_timeout(flushed, 100);
  tcase_add_checked_fixture(flushed, set_up, queue_tear_down);
  tcase_add_test(flushed, what_was_flushed_survives_its_process);
  suite_add_tcase(suite, flushed);
  TCase *simple = tcase_create("simple");
  tcase_set_timeout(simple, 100);
  tcase_add_checked_fixture(simple, set_up_simple, queue_tear_down);
  tcase_add_test(simple, exit_in_a_put_of_a_simple_queue_into_a_full_pipe);
  suite_add_tcase(suite, simple);
  return support_main(suite);
}
