/* The memory for parts of a message: there is none for a part, or the reader that has kept one
 * dies. The room's own source is built in here, so that a reader can be killed at each of its steps. */
#define _GNU_SOURCE
#include "dying.h"

#include "shared/spill.c"

#include "codec/item.h"

#include "channel_helpers.h"
#include "memory_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALL_ONE 10

/* ---- a part that cannot be kept ------------------------------------------------------------ */

#define PACKETS 100
#define PACKETS_SIZE ((uint32_t)PACKETS * FORKQ__FRAME_MAX)

static void make_channel_without_room_for_parts(void) {
  struct rlimit limits, before;
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  limits = before;
  limits.rlim_cur = SEGMENT;
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limits), 0);
  make_channel_anew();
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static bool pipe_is_large_enough(void) {
  return fcntl(channel.write_fd, F_GETPIPE_SZ) / sysconf(_SC_PAGESIZE) > PACKETS;
}

static void send_beginning(int packets) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(1, PACKETS_SIZE, 0, packets);
}

static void must_be_empty(void) {
  CHILD_MUST(receive() == FORKQ__NOTHING && forkq__ledger_size(ledger) == 0);
  CHILD_MUST(shared->spill.cell == 0);
}

/* Its deadline is over from the beginning, but all of the message is there. An item with some room
 * gets more in the middle of it. */
static void complete_it(size_t room) {
  forkq_item_destroy(&item);
  CHILD_MUST(forkq__item_reserve(&item, room) == 0);
  send_beginning(PACKETS);
  CHILD_MUST(receive() == 0 && holds(1, PACKETS_SIZE));
  must_be_empty();
}

/* Nothing of what comes later is taken for something else. */
static void lose_it(int error) {
  int64_t before = held(channel.account.liveness.memory_fd);
  send_beginning(PACKETS / 2);
  CHILD_MUST(receive() == error);
  CHILD_MUST(receive() == FORKQ__NOTHING);
  send_part(1, PACKETS_SIZE, PACKETS / 2, PACKETS);
  send_message(2, SMALL_ONE);
  CHILD_MUST(receive() == 0 && holds(2, SMALL_ONE));
  must_be_empty();
  CHILD_MUST(held(channel.account.liveness.memory_fd) == before);
}

static void complete_and_lose(void *arg) {
  int error = *(const int *)arg;
  const struct refusal refusal = { .call = SYS_fallocate, .error = error };
  (void)open_cell();
  if (error != EFBIG)
    refuse(&refusal, 1);
  for (int i = 0; i < 2; i++) {
    complete_it(0);
    complete_it(PACKETS_SIZE / 3);
    lose_it(-error);
  }
  forkq_item_destroy(&item);
}

START_TEST(a_part_that_cannot_be_kept_is_completed_or_lost_with_an_error) {
  static int reasons[] = { EFBIG, ENOSPC, ENOMEM };
  if (!pipe_is_large_enough())
    return;
  if (reasons[_i] == EFBIG)
    make_channel_without_room_for_parts();
  run(complete_and_lose, &reasons[_i]);
}
END_TEST

/* ---- readers that die with a part ---------------------------------------------------------- */

struct death {
  void (*run)(int steps);
  int steps;
};

static void take_lock_and_die(void *arg) {
  const struct death *death = arg;
  struct forkq__lock *lock = &shared->read_lock;
  CHILD_MUST(forkq__lock_acquire(lock, FORKQ__FOREVER, no_repair, NULL) == 0);
  death->run(death->steps);
  raise(SIGKILL);
}

static void die_after(void (*run_steps)(int steps), int steps) {
  struct death death = { run_steps, steps };
  ck_assert_int_eq(support_wait(support_fork(take_lock_and_die, &death)), 128 + SIGKILL);
}

static void keep(int steps) {
  static char part[300000];
  const struct forkq__assembly assembly = {
    .active = true, .cell = STRANGER, .total = 2 * sizeof part, .have = sizeof part
  };
  steps_left = steps;
  (void)forkq__spill_keep(&shared->spill, &channel.account, &assembly, part);
}

/* Up to the step that makes it count. */
#define KEEP_STEPS 3

START_TEST(what_a_reader_wrote_that_died_before_it_counted_is_given_back) {
  int64_t before = held(channel.account.liveness.memory_fd);
  for (int steps = 0; steps < KEEP_STEPS; steps++) {
    die_after(keep, steps);
    ck_assert_uint_eq(shared->spill.cell, 0);
    ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
    assert_empty();
    ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
    send_message(1, LARGE);
    assert_receives(1, LARGE);
  }
}
END_TEST

static void drop(int steps) {
  steps_left = steps;
  forkq__spill_drop(&shared->spill, &channel.account);
}

static void keep_a_part(void) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(1, LARGE, 0, 3);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_uint_ne(shared->spill.cell, 0);
}

START_TEST(what_a_reader_was_dropping_when_it_died_is_given_back) {
  int64_t before = held(channel.account.liveness.memory_fd);
  keep_a_part();
  ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
  die_after(drop, 0); /* it does not count any more, and its memory is there */
  ck_assert_uint_eq(shared->spill.cell, 0);
  ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
  send_part(1, LARGE, 3, 4);
  assert_empty();
  ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
}
END_TEST

static void nothing(int steps) {
  (void)steps;
}

START_TEST(what_counts_is_kept_when_a_reader_dies_and_given_back_when_it_is_complete) {
  int64_t before = held(channel.account.liveness.memory_fd);
  keep_a_part();
  die_after(nothing, 0);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
  send_part(1, LARGE, 3, 4);
  assert_receives(1, LARGE);
  assert_empty();
  ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("memory_parts");
  TCase *parts = channel_case(suite, "parts");
  tcase_add_test(parts, what_a_reader_wrote_that_died_before_it_counted_is_given_back);
  tcase_add_test(parts, what_a_reader_was_dropping_when_it_died_is_given_back);
  tcase_add_test(
      parts, what_counts_is_kept_when_a_reader_dies_and_given_back_when_it_is_complete);
  if (!can_refuse()) {
    printf("skipped in part: no filters of system calls here\n");
    return support_main(suite);
  }
  tcase_add_loop_test(
      parts, a_part_that_cannot_be_kept_is_completed_or_lost_with_an_error, 0, 3);
  return support_main(suite);
}
