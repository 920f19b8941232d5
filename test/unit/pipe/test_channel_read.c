/* The packet that was read ahead: whoever dies with the read lock, nothing else is lost. The room's
 * own source is built in here, so that a reader can be killed at each of its steps. */
#define _GNU_SOURCE
#include "dying.h"

#include "pipe/channel_read.c"

#include "channel_helpers.h"

#include <errno.h>
#include <forkq/base.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct death {
  void (*run)(int steps);
  int steps;
};

static void run_and_die(void *arg) {
  const struct death *death = arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  death->run(death->steps);
  atomic_store(&flag[3], 1);
  raise(SIGKILL);
}

/* A reader that is killed after so many steps, with the read lock. Returns whether it had none left. */
static bool die_after(void (*run)(int steps), int steps) {
  struct death death = { run, steps };
  atomic_store(&flag[3], 0);
  ck_assert_int_eq(support_wait(support_fork(run_and_die, &death)), 128 + SIGKILL);
  return atomic_load(&flag[3]) != 0;
}

static void load(int steps) {
  steps_left = steps;
  CHILD_MUST(forkq__channel_load(&channel) == 0);
  steps_left = -1;
}

START_TEST(a_reader_killed_at_any_step_of_a_read_loses_nothing) {
  bool whole = false;
  for (int steps = 0; !whole; steps++) {
    send_three(10);
    for (uint64_t i = 0; i < 3; i++)
      assert_receives(10 + i, 10);
    send_three(20);
    send_message(30, 500);
    whole = die_after(load, steps);
    for (uint64_t i = 0; i < 3; i++)
      assert_receives(20 + i, 10);
    assert_receives(30, 500);
    assert_empty();
    ck_assert_uint_eq(shared->read_wire, wire_sent());
  }
}
END_TEST

START_TEST(a_reader_killed_at_its_very_first_read_loses_nothing) {
  bool whole = false;
  for (int steps = 0; !whole; steps++) {
    make_channel_anew();
    send_message(1, 10);
    send_message(2, 10);
    whole = die_after(load, steps);
    assert_receives(1, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

/* The kernel has copied a part of the packet, and left the whole in the pipe: what the library does
 * up to its read, and then that. */
static void copy_half(int bytes) {
  static struct forkq__packet whole;
  struct forkq__buffer *list = packets_of(7, 1000);
  whole = list->packet;
  uint32_t size = forkq__packet_finish(&whole, STRANGER, ++shared->write_seq);
  CHILD_MUST(forkq__channel_load(&channel) == FORKQ__NOTHING);
  FORKQ__STORE(shared->loading, 1);
  CHILD_MUST(write(channel.write_fd, &whole, size) == (ssize_t)size);
  memcpy(&shared->packet, &whole, (size_t)bytes);
}

START_TEST(half_a_copy_is_not_taken_for_a_packet) {
  static const int sizes[] = { 0, 3, 4, 24, 25, 500, 1025, 1026 };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    make_channel_anew();
    send_message(1, 1000);
    assert_receives(1, 1000);
    die_after(copy_half, sizes[i]);
    ck_assert_int_eq(receive(), 0);
    ck_assert(holds(7, 1000));
    ck_assert_int_eq(receive(), FORKQ__NOTHING);
  }
}
END_TEST

START_TEST(a_whole_copy_of_a_packet_that_stays_in_the_pipe_is_taken_once) {
  die_after(copy_half, 24 + 2 + 1000 + 8);
  ck_assert_int_eq(receive(), 0);
  ck_assert(holds(7, 1000));
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
}
END_TEST

/* A packet with a number that was not given yet is refused. It is still refused when the number has
 * been given, and a reader dies before it has read the next packet over it. */
START_TEST(a_packet_that_was_refused_does_not_come_back) {
  bool whole = false;
  for (int steps = 0; !whole; steps++) {
    make_channel_anew();
    struct forkq__buffer *list = packets_of(7, 1000);
    uint32_t size =
        forkq__packet_finish(&list->packet, channel.account.cell, shared->write_seq + 2);
    write_raw(&list->packet, size);
    free_packets(list);
    ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
    for (uint64_t seed = 1; seed <= 3; seed++)
      send_message(seed, 10);
    whole = die_after(load, steps);
    for (uint64_t seed = 1; seed <= 3; seed++)
      assert_receives(seed, 10);
    assert_empty();
  }
}
END_TEST

/* Takes a small message, or a piece of a large one, with all that is counted for task_done. */
static void take(int steps) {
  struct forkq__frame frame = forkq__packet_frame(&shared->packet, shared->offset);
  bool large = shared->packet.flags & FORKQ__FRAGMENT;
  FORKQ__STORE(channel.account.cell, STRANGER);
  steps_left = steps;
  if (large && !(shared->packet.flags & FORKQ__LAST))
    forkq__channel_pass(&channel, frame.next, 1, 0);
  else
    ck_assert_int_eq(forkq__channel_take(&channel, NULL, frame.next, 1, 1), 0);
  steps_left = -1;
}

START_TEST(a_reader_killed_while_it_takes_has_the_message_or_not) {
  channel.joinable = true;
  uint64_t got = 0;
  bool whole = false;
  for (int steps = 0; !whole; steps++) {
    send_three(10);
    assert_receives(10, 10);
    uint32_t offset = shared->offset;
    whole = die_after(take, steps);
    bool took = shared->offset != offset; /* that store decides */
    got += took;
    if (!took)
      assert_receives(11, 10);
    assert_receives(12, 10);
    assert_empty();
    ck_assert_uint_eq(ledger->cells[STRANGER].got, got);
  }
  ck_assert_uint_gt(got, 0);
}
END_TEST

static void load_and_take(int steps) {
  load(-1);
  take(steps);
}

/* What the dead had of a large message is gone with it; the end is still an item less. */
START_TEST(a_reader_killed_in_a_large_message_takes_it_along) {
  bool whole = false;
  for (int steps = 0; !whole; steps++) {
    send_message(1, LARGE);
    struct forkq__packet skipped;
    for (int i = 0; i < 3; i++)
      ck_assert_int_gt(read(channel.read_fd, &skipped, sizeof skipped), 0);
    whole = die_after(load_and_take, steps);
    send_message(2, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

static void load_append_and_take(int steps) {
  load(-1);
  struct forkq__frame frame = forkq__packet_frame(&shared->packet, shared->offset);
  CHILD_MUST(forkq__spill_append(&shared->spill, &channel.account, shared->packet.seq,
                                 frame.data, frame.size) == 0);
  take(steps);
}

/* Between the append to what was kept and the taking: the piece is not appended twice. */
START_TEST(a_reader_killed_behind_an_append_is_carried_on_by_the_next) {
  for (int part = 1; part <= 3; part++) {
    bool whole = false;
    for (int steps = 0; !whole; steps++) {
      atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
      send_part(1, LARGE, 0, part);
      ck_assert_int_eq(receive(), FORKQ__NOTHING);
      send_part(1, LARGE, part, 4);
      whole = die_after(load_append_and_take, steps);
      /* Who has taken the end takes the message along. */
      if (part < 3 || shared->offset == FORKQ__PACKET_HEAD)
        assert_receives(1, LARGE);
      send_message(2, 10);
      assert_receives(2, 10);
      assert_empty();
    }
  }
}
END_TEST

/* It has taken the end, and was killed before it could drop what had been kept. */
START_TEST(what_a_killed_reader_kept_does_not_come_again) {
  for (int large = 0; large <= 1; large++) {
    atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
    send_part(1, LARGE, 0, 3);
    ck_assert_int_eq(receive(), FORKQ__NOTHING);
    send_part(1, LARGE, 3, 4);
    ck_assert(die_after(load_append_and_take, -1));
    send_message(2, large ? LARGE : 10);
    assert_receives(2, large ? LARGE : 10);
    assert_empty();
  }
}
END_TEST

/* ---- readers killed anywhere ------------------------------------------------------- */

static struct tally {
  _Atomic uint64_t received; /* the number of the message that came last */
  _Atomic uint64_t count;
  _Atomic uint64_t bad;
} * tally;

static void send_numbers(void *arg) {
  (void)arg;
  uint32_t cell = open_cell();
  for (uint64_t number = 1;; number++) {
    atomic_fetch_add(&ledger->cells[cell].accepted, 1);
    send_part(number, number % 5 == 0 ? LARGE : 20, 0, 1 << 30);
  }
}

static bool is_number(uint64_t number) {
  return holds(number, number % 5 == 0 ? LARGE : 20);
}

/* A gap of one may be what the reader before had taken. */
static void receive_numbers(void *arg) {
  (void)arg;
  for (;;) {
    if (receive_within(10000) != 0)
      atomic_store(&tally->bad, 1);
    uint64_t next = atomic_load(&tally->received) + 1;
    bool first = is_number(next);
    if (!first && !is_number(next + 1))
      atomic_store(&tally->bad, next);
    atomic_store(&tally->received, first ? next : next + 1);
    atomic_fetch_add(&tally->count, 1);
  }
}

START_TEST(readers_killed_anywhere_lose_at_most_what_they_had) {
  tally = support_shared(sizeof *tally);
  uint64_t seed = 5;
  int64_t end = support_now_ms() + 3000;
  pid_t sender = support_fork(send_numbers, NULL);
  uint64_t kills = 0;
  while (kills < 300 && support_now_ms() < end) {
    pid_t reader = support_fork(receive_numbers, NULL);
    uint64_t goal = tally->count + 1 + support_random_below(&seed, 50);
    while (atomic_load(&tally->count) < goal && support_now_ms() < end + 5000)
      ;
    support_kill_and_wait(reader);
    kills++;
    ck_assert_uint_eq(tally->bad, 0);
  }
  support_kill_and_wait(sender);
  ck_assert_uint_le(tally->received - tally->count, kills);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("read_ahead");
  TCase *tcase = channel_case(suite, "read_ahead");
  tcase_add_test(tcase, a_reader_killed_at_any_step_of_a_read_loses_nothing);
  tcase_add_test(tcase, a_reader_killed_at_its_very_first_read_loses_nothing);
  tcase_add_test(tcase, half_a_copy_is_not_taken_for_a_packet);
  tcase_add_test(tcase, a_whole_copy_of_a_packet_that_stays_in_the_pipe_is_taken_once);
  tcase_add_test(tcase, a_packet_that_was_refused_does_not_come_back);
  tcase_add_test(tcase, a_reader_killed_while_it_takes_has_the_message_or_not);
  tcase_add_test(tcase, a_reader_killed_in_a_large_message_takes_it_along);
  tcase_add_test(tcase, a_reader_killed_behind_an_append_is_carried_on_by_the_next);
  tcase_add_test(tcase, what_a_killed_reader_kept_does_not_come_again);
  tcase_add_test(tcase, readers_killed_anywhere_lose_at_most_what_they_had);
  return support_main(suite);
}
