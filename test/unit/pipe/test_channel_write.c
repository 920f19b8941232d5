/* Writing, and what a dead writer had on its way. The room's own source is built in here, so that a
 * writer can be killed at each of its steps. */
#define _GNU_SOURCE
#include "dying.h"

#include "pipe/channel_write.c"

#include "channel_helpers.h"
#include "pipe/reap.h"

#include <errno.h>
#include <forkq/base.h>
#include <signal.h>
#include <unistd.h>

/* ---- writing ----------------------------------------------------------------------- */

START_TEST(a_full_pipe_is_no_room_and_changes_nothing) {
  struct forkq__buffer *list = packets_of(1, 10);
  int r, written = 0;
  while ((r = try_write(&list->packet)) == 0)
    written++;
  const struct forkq__cell *cell = &ledger->cells[channel.account.cell];
  ck_assert_int_eq(r, FORKQ__NO_ROOM);
  ck_assert_int_ge(written, 4);
  ck_assert_int_eq((int)cell->sent, written);
  ck_assert_uint_eq(cell->pending_seq, 0);
  ck_assert_uint_eq(cell->sent_wire, (uint64_t)forkq__os_pipe_level(channel.read_fd));
  for (int i = 0; i < written; i++)
    assert_receives(1, 10);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  free_packets(list);
}
END_TEST

START_TEST(a_pipe_without_readers_is_epipe) {
  struct forkq__buffer *list = packets_of(1, 10);
  signal(SIGPIPE, SIG_IGN);
  close(channel.read_fd);
  channel.read_fd = -1;
  ck_assert_int_eq(try_write(&list->packet), -EPIPE);
  ck_assert_uint_eq(ledger->cells[channel.account.cell].sent, 0);
  ck_assert_uint_eq(ledger->cells[channel.account.cell].pending_seq, 0);
  free_packets(list);
}
END_TEST

START_TEST(a_wait_for_room_ends_with_room_or_a_stop) {
  int stop = forkq__os_event_create();
  forkq__channel_wait_room(&channel, stop, NULL, NULL);
  struct forkq__buffer *list = packets_of(1, 10);
  while (try_write(&list->packet) == 0)
    ;
  free_packets(list);
  forkq__os_event_raise(stop);
  forkq__channel_wait_room(&channel, stop, NULL, NULL);
  forkq__os_close(stop);
}
END_TEST

static void lock_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_try_lock_write(&channel) == 0);
  raise(SIGKILL);
}

START_TEST(a_writer_s_death_leaves_the_lock_to_the_next) {
  ck_assert_int_eq(support_wait(support_fork(lock_and_die, NULL)), 128 + SIGKILL);
  ck_assert_int_eq(forkq__channel_try_lock_write(&channel), 0);
  forkq__channel_unlock_write(&channel);
  ck_assert_int_eq(support_wait(support_fork(lock_and_die, NULL)), 128 + SIGKILL);
  send_message(1, 10);
  assert_receives(1, 10);
}
END_TEST

/* ---- what a dead writer had on its way --------------------------------------------- */

struct writer {
  int steps;
  _Atomic int *ready;
  _Atomic int *go;
};

static void write_and_die(void *arg) {
  const struct writer *writer = arg;
  struct forkq__buffer *list = packets_of(5, 10);
  uint32_t index = open_cell();
  atomic_fetch_add(&ledger->cells[index].accepted, 2);
  atomic_store(writer->ready, 1);
  support_until(writer->go);
  CHILD_MUST(forkq__channel_lock_write(&channel, FORKQ__FOREVER) == 0);
  steps_left = writer->steps;
  CHILD_MUST(forkq__channel_write(&channel, &list->packet) == 0);
  steps_left = -1;
  atomic_store(writer->go, 2);
  raise(SIGKILL);
}

/* Up to two at a time, with cells of their own, before either of them dies. */
static pid_t start_writer(int which, int steps) {
  struct writer writer = { steps, &flag[2 * which], &flag[2 * which + 1] };
  atomic_store(writer.ready, 0);
  atomic_store(writer.go, 0);
  pid_t child = support_fork(write_and_die, &writer);
  support_until(writer.ready);
  return child;
}

/* What it was killed after. */
struct death {
  bool sent;
  bool whole; /* all of its steps */
};

static struct death let_die(int which, pid_t writer) {
  int level = forkq__os_pipe_level(channel.read_fd);
  atomic_store(&flag[2 * which + 1], 1);
  ck_assert_int_eq(support_wait(writer), 128 + SIGKILL);
  return (struct death){ .sent = forkq__os_pipe_level(channel.read_fd) > level,
                         .whole = atomic_load(&flag[2 * which + 1]) == 2 };
}

static struct death die_writing(int steps) {
  return let_die(0, start_writer(0, steps));
}

/* The dead had put two items and was writing one: that one comes or not, and the books say
 * the same, whether they are made up before it is read or after. */
static enum forkq__verdict verdict(uint32_t cell) {
  return forkq__channel_try_verdict(&channel, cell);
}

START_TEST(a_writer_killed_at_any_step_has_sent_or_not) {
  for (int when = 0; when <= 1; when++) {
    struct death death = { 0 };
    for (int steps = 0; !death.whole; steps++) {
      send_message(1, 10);
      death = die_writing(steps);
      if (when == 0)
        reap();
      ck_assert(when == 1 || forkq__ledger_size(ledger) == (death.sent ? 2 : 1));
      send_message(2, 10);
      assert_receives(1, 10);
      if (death.sent)
        assert_receives(5, 10);
      assert_receives(2, 10);
      ck_assert_int_eq(receive(), FORKQ__NOTHING);
      reap();
      assert_empty();
      ck_assert_uint_eq(shared->read_wire, wire_sent());
    }
    ck_assert(death.sent);
  }
}
END_TEST

/* The same with the other's packet behind it, unread. */
START_TEST(a_dead_writer_s_packet_is_known_among_others) {
  struct death death = { 0 };
  for (int steps = 0; !death.whole; steps++) {
    death = die_writing(steps);
    send_message(1, 10);
    reap();
    ck_assert_uint_eq(forkq__ledger_size(ledger), death.sent ? 2 : 1);
    if (death.sent)
      assert_receives(5, 10);
    assert_receives(1, 10);
    assert_empty();
  }
}
END_TEST

/* Two in a row, before anybody looks: together they may be in doubt, but not for ever. */
START_TEST(two_dead_writers_are_told_apart_in_the_end) {
  struct death first = { 0 };
  for (int i = 0; !first.whole; i++) {
    struct death second = { 0 };
    for (int k = 0; !second.whole; k++) {
      pid_t writers[] = { start_writer(0, i), start_writer(1, k) };
      first = let_die(0, writers[0]);
      second = let_die(1, writers[1]);
      reap();
      int sent = first.sent + second.sent;
      ck_assert_int_ge((int)forkq__ledger_size(ledger), sent);
      for (int m = 0; m < sent; m++)
        assert_receives(5, 10);
      ck_assert_int_eq(receive(), FORKQ__NOTHING);
      reap();
      assert_empty();
    }
  }
}
END_TEST

/* What the pipe holds then fits to neither outcome, until the packet comes. */
START_TEST(beside_a_stranger_s_bytes_a_dead_writer_is_in_doubt) {
  struct death death;
  for (int steps = 0; !(death = die_writing(steps)).sent; steps++)
    reap();
  ck_assert(!death.whole);
  write_raw("garbage", 7);
  reap();
  ck_assert_uint_eq(forkq__ledger_size(ledger), 1);
  assert_receives(5, 10);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  reap();
  assert_empty();
}
END_TEST

static void hold_write_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_lock_write(&channel, FORKQ__FOREVER) == 0);
  atomic_store(&flag[0], 1);
  for (;;)
    pause();
}

START_TEST(what_a_stopped_writer_hides_is_in_doubt_until_it_goes_on) {
  die_writing(5);
  atomic_store(&flag[0], 0);
  pid_t child = support_fork(hold_write_lock, NULL);
  support_until(&flag[0]);
  uint32_t dead = channel.account.cell + 1;
  ck_assert_int_eq(verdict(dead), FORKQ__UNKNOWN);
  support_kill_and_wait(child);
  ck_assert_int_eq(verdict(dead), FORKQ__SENT);
  assert_receives(5, 10);
  ck_assert_int_eq(verdict(dead), FORKQ__SENT);
  reap();
  assert_empty();
}
END_TEST

static void reap_again_and_again(void *arg) {
  (void)arg;
  for (;;)
    forkq__reap(&channel);
}

static void repair_nothing(void *arg) {
  (void)arg;
}

/* All who put for the first time, or have done a task, need the ledger's lock. */
START_TEST(a_reap_that_waits_for_a_writer_keeps_the_ledger_from_nobody) {
  die_writing(5);
  atomic_store(&flag[0], 0);
  pid_t writer = support_fork(hold_write_lock, NULL);
  support_until(&flag[0]);
  pid_t reaper = support_fork(reap_again_and_again, NULL);
  support_until_asleep(reaper);
  int taken = 0;
  for (int i = 0; i < 100; i++) {
    if (forkq__lock_try(&ledger->lock, repair_nothing, NULL) == 0) {
      forkq__lock_release(&ledger->lock);
      taken++;
    }
    usleep(1000);
  }
  ck_assert_int_ge(taken, 75);
  support_kill_and_wait(reaper);
  support_kill_and_wait(writer);
  forkq__reap(&channel);
  assert_receives(5, 10);
  assert_empty();
}
END_TEST

START_TEST(what_a_dead_writer_noted_itself_needs_no_lock) {
  die_writing(6);
  atomic_store(&flag[0], 0);
  pid_t child = support_fork(hold_write_lock, NULL);
  support_until(&flag[0]);
  ck_assert_int_eq(verdict(channel.account.cell + 1), FORKQ__SENT);
  support_kill_and_wait(child);
}
END_TEST

/* Whatever else is in the pipe. */
START_TEST(a_packet_that_later_ones_have_passed_will_not_come) {
  die_writing(4);
  send_message(1, 10);
  assert_receives(1, 10);
  write_raw("garbage", 7);
  ck_assert_int_eq(verdict(channel.account.cell + 1), FORKQ__NOT_SENT);
}
END_TEST

static void write_without_readers(void *arg) {
  struct forkq__buffer *list = packets_of(5, 10);
  *(_Atomic int *)arg = (int)open_cell();
  close(channel.read_fd);
  (void)try_write(&list->packet);
}

/* SIGPIPE kills it right in the system call. */
START_TEST(a_writer_killed_in_its_write_has_noted_what_it_writes) {
  close(channel.read_fd);
  ck_assert_int_eq(support_wait(support_fork(write_without_readers, (void *)flag)),
                   128 + SIGPIPE);
  const struct forkq__cell *cell = &ledger->cells[*flag];
  ck_assert_uint_eq(cell->pending_seq, shared->write_seq);
  ck_assert(cell->pending_sent == 1 && cell->sent == 0);
  ck_assert(cell->pending_wire > 10 && cell->sent_wire == 0);
  channel.read_fd = -1;
}
END_TEST

int main(void) {
  Suite *suite = suite_create("channel_write");
  TCase *tcase = channel_case(suite, "channel_write");
  tcase_add_test(tcase, a_writer_s_death_leaves_the_lock_to_the_next);
  tcase_add_test(tcase, a_writer_killed_at_any_step_has_sent_or_not);
  tcase_add_test(tcase, a_dead_writer_s_packet_is_known_among_others);
  tcase_add_test(tcase, two_dead_writers_are_told_apart_in_the_end);
  tcase_add_test(tcase, beside_a_stranger_s_bytes_a_dead_writer_is_in_doubt);
  tcase_add_test(tcase, what_a_stopped_writer_hides_is_in_doubt_until_it_goes_on);
  tcase_add_test(tcase, a_reap_that_waits_for_a_writer_keeps_the_ledger_from_nobody);
  tcase_add_test(tcase, what_a_dead_writer_noted_itself_needs_no_lock);
  tcase_add_test(tcase, a_packet_that_later_ones_have_passed_will_not_come);
  tcase_add_test(tcase, a_writer_killed_in_its_write_has_noted_what_it_writes);
  tcase_add_test(tcase, a_full_pipe_is_no_room_and_changes_nothing);
  tcase_add_test(tcase, a_pipe_without_readers_is_epipe);
  tcase_add_test(tcase, a_wait_for_room_ends_with_room_or_a_stop);
  return support_main(suite);
}
