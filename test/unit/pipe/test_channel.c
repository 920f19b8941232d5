/* The channel: what is sent comes, once and in order. */
#define _GNU_SOURCE
#include "channel_helpers.h"

#include <errno.h>
#include <forkq/base.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- good messages ----------------------------------------------------------------- */

START_TEST(messages_of_all_sizes_come_in_order) {
  static const uint32_t sizes[] = { 1,     2,    100,  4000,  4060, 4061,
                                    4062,  4063, 4064, 8123,  8124, 8125,
                                    LARGE, 7,    3,    40000, 1 };
  for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    send_message(i, sizes[i]);
    if (i % 3 == 2)
      for (uint32_t k = i - 2; k <= i; k++)
        assert_receives(k, sizes[k]);
  }
  assert_receives(15, 40000);
  assert_receives(16, 1);
  assert_empty();
}
END_TEST

static void send_very_large(void *arg) {
  (void)arg;
  open_cell();
  send_message(1, 3000000);
}

START_TEST(a_message_larger_than_the_pipe_comes_as_it_is_written) {
  pid_t child = support_fork(send_very_large, NULL);
  ck_assert_int_eq(receive_within(10000), 0);
  ck_assert(holds(1, 3000000));
  ck_assert_int_eq(support_wait(child), 0);
  assert_empty();
}
END_TEST

START_TEST(what_one_has_read_ahead_another_gets) {
  send_three(1);
  assert_receives(1, 10);
  ck_assert_uint_eq(shared->unread, 2);
  ck_assert_int_eq(support_wait(receiver(2, 10)), 0);
  assert_receives(3, 10);
  assert_empty();
}
END_TEST

START_TEST(nothing_there_is_eagain) {
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  send_message(1, 5);
  assert_receives(1, 5);
  assert_empty();
  /* What came before is not mistaken for what this read brought. */
  ck_assert_uint_eq(shared->packet.magic, 0);
}
END_TEST

START_TEST(a_batch_takes_what_is_there_and_leaves_a_large_one) {
  forkq_item_t items[5] = { FORKQ_ITEM_INIT };
  size_t received = 77;
  ck_assert_int_eq(forkq__channel_receive_more(&channel, items, 5, &received), 0);
  ck_assert_uint_eq(received, 0);
  send_three(1);
  send_message(4, 10);
  send_message(5, LARGE);
  ck_assert_int_eq(forkq__channel_receive_more(&channel, items, 2, &received), 0);
  ck_assert_uint_eq(received, 2);
  ck_assert_int_eq(forkq__channel_receive_more(&channel, items, 5, &received), 0);
  ck_assert_uint_eq(received, 2);
  ck_assert_uint_eq(items[0].size, 10);
  for (int i = 0; i < 5; i++)
    forkq_item_destroy(&items[i]);
  assert_receives(5, LARGE);
  assert_empty();
}
END_TEST

START_TEST(drain_leaves_nothing) {
  send_three(1);
  assert_receives(1, 10);
  send_message(4, LARGE);
  send_message(5, 10);
  forkq__channel_drain(&channel);
  assert_empty();
}
END_TEST

/* ---- bad packets ------------------------------------------------------------------- */

/* A packet by somebody who does not keep to the rules, but to the form. */
static void write_fragment(uint16_t flags, uint32_t total, uint32_t size) {
  static struct forkq__packet packet;
  forkq__packet_begin(&packet);
  memset(packet.body, 'x', sizeof packet.body);
  forkq__packet_set_frame(&packet, packet.length, size);
  packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + size);
  packet.frames = 1;
  packet.flags = flags;
  packet.total = total;
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted,
                   forkq__packet_messages(&packet));
  ck_assert_int_eq(try_write(&packet), 0);
}

START_TEST(garbage_costs_one_error_and_nothing_else) {
  static uint8_t bytes[FORKQ__PACKET_SIZE];
  static const size_t sizes[] = { 1, 7, 24, 100, FORKQ__PACKET_SIZE };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    support_fill(bytes, sizes[i], i);
    send_message(1, 10);
    write_raw(bytes, sizes[i]);
    send_message(2, LARGE);
    assert_receives(1, 10);
    ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
    assert_receives(2, LARGE);
    assert_empty();
  }
}
END_TEST

START_TEST(garbage_in_a_message_costs_one_error_and_not_the_message) {
  send_part(1, LARGE, 0, 2);
  write_raw("garbage", 7);
  send_part(1, LARGE, 2, 4);
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_message(2, 10);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_receives(1, LARGE);
  assert_receives(2, 10);
  assert_empty();
}
END_TEST

START_TEST(a_packet_of_no_cell_is_garbage) {
  struct forkq__buffer *list = packets_of(1, 10);
  uint32_t size = forkq__packet_finish(&list->packet, FORKQ__CELLS_MAX, 1000);
  write_raw(&list->packet, size);
  free_packets(list);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_empty();
}
END_TEST

/* It would make all that follow look like packets that came before. */
START_TEST(a_number_that_was_never_given_is_garbage) {
  struct forkq__buffer *list = packets_of(1, 10);
  uint32_t size =
      forkq__packet_finish(&list->packet, channel.account.cell, UINT64_MAX - 1);
  write_raw(&list->packet, size);
  free_packets(list);
  send_message(2, 10);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_receives(2, 10);
  assert_empty();
}
END_TEST

START_TEST(a_packet_that_comes_twice_is_taken_once) {
  struct forkq__buffer *list = packets_of(1, 10);
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  ck_assert_int_eq(try_write(&list->packet), 0);
  write_raw(&list->packet, list->packet.length + FORKQ__PACKET_TAIL);
  free_packets(list);
  send_message(2, 10);
  assert_receives(1, 10);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_receives(2, 10);
  assert_empty();
}
END_TEST

START_TEST(a_message_above_the_limit_is_one_error_whatever_its_length) {
  channel.max_message = LARGE;
  send_message(1, LARGE);
  send_message(2, LARGE + 1);
  send_message(3, 10);
  assert_receives(1, LARGE);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_receives(3, 10);
  assert_empty();
}
END_TEST

START_TEST(a_total_that_lies_is_found_out_and_nothing_reserved_for_it) {
  support_heap_install();
  write_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, FORKQ_MESSAGE_MAX, 100);
  write_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 0, 100);
  send_message(1, 10);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  ck_assert_uint_lt(item.capacity_, 1000);
  assert_receives(1, 10);
  write_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, 150, 100);
  write_fragment(FORKQ__FRAGMENT, 0, 100);
  write_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 0, 100);
  send_message(2, 10);
  assert_receives(2, 10);
  assert_empty();
}
END_TEST

START_TEST(a_total_that_lies_is_found_out_in_what_was_kept) {
  write_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, 300, 100);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  write_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 0, 100);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_empty();
  write_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, 150, 100);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  write_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 0, 100);
  send_message(1, 10);
  assert_receives(1, 10);
  assert_empty();
}
END_TEST

/* ---- torn messages ----------------------------------------------------------------- */

START_TEST(a_message_without_its_end_is_dropped_by_the_next) {
  for (int parts = 1; parts <= 3; parts++) {
    send_part(1, LARGE, 0, parts);
    send_message(2, 10);
    assert_receives(2, 10);
    send_part(3, LARGE, 0, parts);
    send_message(4, LARGE);
    assert_receives(4, LARGE);
    assert_empty();
  }
}
END_TEST

/* The end is counted as an item that is gone: its sender has sent it. */
START_TEST(a_message_without_its_beginning_is_dropped) {
  for (int from = 1; from <= 3; from++) {
    atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
    send_part(1, LARGE, from, 4);
    send_message(2, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

/* ---- a message that stops coming --------------------------------------------------- */

static uint32_t kept_bytes(void) {
  struct forkq__assembly kept = forkq__spill_kept(&shared->spill, UINT64_MAX);
  return kept.active ? kept.have : 0;
}

START_TEST(a_timed_receive_ends_on_time_and_another_process_completes_it) {
  send_part(1, LARGE, 0, 2);
  int64_t start = forkq__os_now();
  ck_assert_int_eq(receive_within(100), FORKQ_TIMEDOUT);
  int64_t took = forkq__os_now() - start;
  ck_assert_int_ge(took, INT64_C(100000000));
  ck_assert_int_lt(took, INT64_C(3000000000));
  ck_assert_uint_eq(kept_bytes(), 2 * FORKQ__FRAME_MAX);
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  pid_t child = receiver(1, LARGE);
  send_part(1, LARGE, 2, 4);
  ck_assert_int_eq(support_wait(child), 0);
  assert_empty();
}
END_TEST

START_TEST(a_receive_that_does_not_wait_keeps_what_there_is) {
  for (int split = 1; split <= 3; split++) {
    atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
    send_part(1, LARGE, 0, split);
    ck_assert_int_eq(receive(), FORKQ__NOTHING);
    ck_assert_int_eq(receive(), FORKQ__NOTHING);
    ck_assert_uint_eq(kept_bytes(), (uint32_t)split * FORKQ__FRAME_MAX);
    send_part(1, LARGE, split, 4);
    send_message(2, 10);
    assert_receives(1, LARGE);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

START_TEST(a_message_may_stop_at_each_of_its_packets) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  for (int part = 0; part < 4; part++) {
    ck_assert_int_eq(receive(), FORKQ__NOTHING);
    send_part(1, LARGE, part, part + 1);
  }
  ck_assert_int_eq(support_wait(receiver(1, LARGE)), 0);
  assert_empty();
}
END_TEST

START_TEST(what_was_kept_is_dropped_when_another_message_comes) {
  send_part(1, LARGE, 0, 2);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  send_message(2, 10);
  assert_receives(2, 10);
  assert_empty();
  send_part(3, LARGE, 0, 2);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  send_message(4, LARGE);
  assert_receives(4, LARGE);
  assert_empty();
}
END_TEST

/* Its end is of another message than what was kept. */
START_TEST(what_was_kept_is_not_completed_by_a_stranger) {
  send_part(1, LARGE, 0, 2);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  uint32_t own = channel.account.cell;
  channel.account.cell = STRANGER;
  atomic_fetch_add(&ledger->cells[own].accepted, 1);
  send_part(1, LARGE, 2, 4);
  channel.account.cell = own;
  send_message(2, 10);
  assert_receives(2, 10);
  assert_empty();
}
END_TEST

/* ---- senders ----------------------------------------------------------------------- */

static void send_half_and_stay(void *arg) {
  (void)arg;
  struct forkq__buffer *list = packets_of(1, LARGE);
  uint32_t cell = open_cell();
  atomic_fetch_add(&ledger->cells[cell].accepted, 1);
  CHILD_MUST(forkq__channel_lock_write(&channel, FORKQ__FOREVER) == 0);
  write_packet(&list->packet);
  write_packet(&list->next->packet);
  atomic_store(&flag[0], 1);
  while (atomic_load(&flag[1]) == 0)
    usleep(100);
  write_packet(&list->next->next->packet);
  write_packet(&list->next->next->next->packet);
  forkq__channel_unlock_write(&channel);
}

static pid_t half_sender(void) {
  atomic_store(&flag[0], 0);
  pid_t child = support_fork(send_half_and_stay, NULL);
  support_until(&flag[0]);
  return child;
}

START_TEST(a_message_of_a_dead_sender_is_dropped) {
  for (int round = 0; round < 20; round++) {
    support_kill_and_wait(half_sender());
    ck_assert_int_eq(receive_within(1), FORKQ_TIMEDOUT);
    reap();
    assert_empty();
    send_message(2, 10);
    assert_receives(2, 10);
  }
}
END_TEST

START_TEST(a_sender_that_dies_while_it_is_waited_for_holds_nobody_up) {
  pid_t sender = half_sender();
  pid_t child = sleeping_receiver(2, 10);
  support_kill_and_wait(sender);
  send_message(2, 10);
  ck_assert_int_eq(support_wait(child), 0);
  reap();
  assert_empty();
}
END_TEST

START_TEST(the_message_of_a_stopped_sender_comes_when_it_goes_on) {
  pid_t sender = half_sender();
  support_stop(sender);
  ck_assert_int_eq(receive_within(100), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(kept_bytes(), 2 * FORKQ__FRAME_MAX);
  atomic_store(&flag[1], 1);
  kill(sender, SIGCONT);
  ck_assert_int_eq(receive_within(10000), 0);
  ck_assert(holds(1, LARGE));
  ck_assert_int_eq(support_wait(sender), 0);
  assert_empty();
}
END_TEST

/* ---- memory ------------------------------------------------------------------------ */

/* One round with the k-th allocation failing; whether none did. */
static bool receive_without_memory(long k, bool persistent, uint32_t size) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(1, size, 0, 3);
  support_heap_fail_at(k, persistent);
  int first = receive();
  support_heap_fail_at(0, false);
  send_part(1, size, 3, 4);
  send_message(2, 10);
  support_heap_fail_at(k, persistent);
  int second = first == 0 ? 0 : receive();
  support_heap_fail_at(0, false);
  ck_assert(first == 0 || first == FORKQ__NOTHING || first == -ENOMEM);
  ck_assert(second == 0 || second == -ENOMEM);
  if (second != 0) {
    ck_assert_int_eq(receive(), 0);
    ck_assert(holds(1, size));
  } else if (size > 10) {
    ck_assert(holds(1, size));
  }
  assert_receives(2, 10);
  assert_empty();
  forkq_item_destroy(&item);
  return first != -ENOMEM && second != -ENOMEM;
}

START_TEST(no_memory_is_an_error_and_the_message_stays) {
  static const uint32_t sizes[] = { LARGE, 300 };
  support_heap_install();
  for (int i = 0; i < 2; i++) {
    for (int persistent = 0; persistent <= 1; persistent++) {
      long k = 1;
      while (!receive_without_memory(k, persistent, sizes[i]))
        k++;
      ck_assert_int_gt(k, 1);
    }
  }
}
END_TEST

START_TEST(steady_state_allocates_nothing) {
  static const uint32_t sizes[] = { LARGE, 10, 4000, 9000 };
  support_heap_install();
  long requests = 0;
  for (uint32_t i = 0; i < 200; i++) {
    send_message(i, sizes[i % 4]);
    long before = support_heap_requests();
    assert_receives(i, sizes[i % 4]);
    requests += i < 4 ? 0 : support_heap_requests() - before;
  }
  ck_assert_int_eq(requests, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("channel");
  TCase *messages = channel_case(suite, "messages");
  tcase_add_test(messages, messages_of_all_sizes_come_in_order);
  tcase_add_test(messages, a_message_larger_than_the_pipe_comes_as_it_is_written);
  tcase_add_test(messages, what_one_has_read_ahead_another_gets);
  tcase_add_test(messages, nothing_there_is_eagain);
  tcase_add_test(messages, a_batch_takes_what_is_there_and_leaves_a_large_one);
  tcase_add_test(messages, drain_leaves_nothing);
  tcase_add_test(messages, garbage_costs_one_error_and_nothing_else);
  tcase_add_test(messages, garbage_in_a_message_costs_one_error_and_not_the_message);
  tcase_add_test(messages, a_packet_of_no_cell_is_garbage);
  tcase_add_test(messages, a_number_that_was_never_given_is_garbage);
  tcase_add_test(messages, a_packet_that_comes_twice_is_taken_once);
  tcase_add_test(messages, a_message_above_the_limit_is_one_error_whatever_its_length);
  tcase_add_test(messages, a_total_that_lies_is_found_out_and_nothing_reserved_for_it);
  tcase_add_test(messages, a_total_that_lies_is_found_out_in_what_was_kept);
  tcase_add_test(messages, no_memory_is_an_error_and_the_message_stays);
  tcase_add_test(messages, steady_state_allocates_nothing);
  TCase *torn = channel_case(suite, "torn");
  tcase_add_test(torn, a_message_without_its_end_is_dropped_by_the_next);
  tcase_add_test(torn, a_message_without_its_beginning_is_dropped);
  tcase_add_test(torn, a_timed_receive_ends_on_time_and_another_process_completes_it);
  tcase_add_test(torn, a_receive_that_does_not_wait_keeps_what_there_is);
  tcase_add_test(torn, a_message_may_stop_at_each_of_its_packets);
  tcase_add_test(torn, what_was_kept_is_dropped_when_another_message_comes);
  tcase_add_test(torn, what_was_kept_is_not_completed_by_a_stranger);
  tcase_add_test(torn, a_message_of_a_dead_sender_is_dropped);
  tcase_add_test(torn, a_sender_that_dies_while_it_is_waited_for_holds_nobody_up);
  tcase_add_test(torn, the_message_of_a_stopped_sender_comes_when_it_goes_on);
  return support_main(suite);
}
