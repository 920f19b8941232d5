/* The channel: what is sent comes, once and in order, whoever dies on the way. */
#define _GNU_SOURCE
#include "os.h"
#include "outbox.h"
#include "segment.h"
#include "serializer.h"
#include "support.h"

#include <errno.h>
#include <forkq/base.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE 15000 /* bytes: four packets */
#define STRANGER 9  /* a cell that nobody has */

static struct forkq__segment *segment;
static struct forkq__channel_shared *shared;
static struct forkq__ledger *ledger;
static struct forkq__channel channel;
static forkq_item_t item;
static _Atomic int *flag;
static int fds_before;

/* ---- setting up -------------------------------------------------------------------- */

static uint32_t open_cell(void) {
  struct forkq__witness witness = forkq__channel_witness(&channel);
  uint32_t cell = FORKQ__NO_CELL;
  if (forkq__ledger_open(ledger, channel.spill.fd, witness, &cell) != 0)
    abort();
  channel.cell = cell;
  return cell;
}

static void set_up(void) {
  int pipe[2];
  fds_before = support_open_fds();
  memset(&channel, 0, sizeof channel);
  ck_assert_int_eq(forkq__segment_create(&segment, &channel.spill.fd), 0);
  ck_assert_int_eq(forkq__os_packet_pipe(pipe), 0);
  channel.read_fd = pipe[0];
  channel.write_fd = pipe[1];
  channel.event_fd = forkq__os_event_create();
  channel.spill.offset = (int64_t)sizeof *segment;
  channel.shared = shared = &segment->channel;
  channel.ledger = ledger = &segment->ledger;
  channel.max_message = FORKQ_MESSAGE_MAX;
  open_cell();
  flag = support_shared(4 * sizeof *flag);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  if (channel.read_fd >= 0)
    close(channel.read_fd);
  close(channel.write_fd);
  close(channel.event_fd);
  close(channel.spill.fd);
  forkq__segment_unmap(segment);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

/* ---- sending ----------------------------------------------------------------------- */

/* The packets of a message, its bytes made from the seed. */
static struct forkq__buffer *packets_of(uint64_t seed, uint32_t size) {
  static struct forkq__outbox outbox;
  uint8_t *data = malloc(size);
  support_fill(data, size, seed);
  if (forkq__outbox_begin(&outbox, UINT32_MAX) != 0 ||
      forkq__outbox_append(&outbox, data, size) != 0)
    abort();
  forkq__outbox_commit(&outbox);
  free(data);
  return forkq__outbox_take(&outbox);
}

static void free_packets(struct forkq__buffer *list) {
  while (list != NULL) {
    struct forkq__buffer *next = list->next;
    free(list);
    list = next;
  }
}

/* As a feeder does, with the write lock. */
static void write_packet(struct forkq__packet *packet) {
  int r;
  while ((r = forkq__channel_write(&channel, packet)) == -EAGAIN)
    forkq__channel_wait_room(&channel, -1, FORKQ__FOREVER);
  if (r != 0)
    abort();
}

/* Sends the packets `from` to `to` - 1 of a message, or to its end. */
static void send_part(uint64_t seed, uint32_t size, int from, int to) {
  struct forkq__buffer *list = packets_of(seed, size);
  if (forkq__channel_lock_write(&channel, FORKQ__FOREVER) != 0)
    abort();
  int i = 0;
  for (struct forkq__buffer *b = list; b != NULL; b = b->next, i++)
    if (i >= from && i < to)
      write_packet(&b->packet);
  forkq__channel_unlock_write(&channel);
  free_packets(list);
}

static void send_message(uint64_t seed, uint32_t size) {
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
  send_part(seed, size, 0, 1 << 30);
}

/* Three small messages in one packet, with the seeds from `seed` on. */
static void send_three(uint64_t seed) {
  struct forkq__packet packet;
  forkq__packet_begin(&packet);
  for (uint64_t i = 0; i < 3; i++) {
    forkq__packet_set_frame(&packet, packet.length, 10);
    support_fill(packet.body + packet.length - FORKQ__PACKET_HEAD + FORKQ__FRAME_HEAD, 10,
                 seed + i);
    packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + 10);
    packet.frames++;
  }
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 3);
  ck_assert_int_eq(forkq__channel_lock_write(&channel, FORKQ__FOREVER), 0);
  write_packet(&packet);
  forkq__channel_unlock_write(&channel);
}

/* ---- receiving --------------------------------------------------------------------- */

static int receive(void) {
  return forkq__channel_receive(&channel, &item, FORKQ__NOWAIT);
}

static int receive_within(int ms) {
  return forkq__channel_receive_wait(&channel, &item, forkq__os_deadline(ms));
}

static bool holds(uint64_t seed, uint32_t size) {
  uint8_t *data = malloc(size);
  support_fill(data, size, seed);
  bool same = item.size == size && memcmp(item.data, data, size) == 0;
  free(data);
  return same;
}

/* It is there, and needs no waiting. */
static void assert_receives(uint64_t seed, uint32_t size) {
  int r = receive();
  ck_assert_msg(r == 0, "receive is %s", forkq_error_name(r));
  ck_assert(holds(seed, size));
}

/* Nothing is left, and the books say so. */
static void assert_empty(void) {
  ck_assert_int_eq(receive(), -EAGAIN);
  ck_assert_uint_eq(shared->unread, 0);
  ck_assert_uint_eq(shared->loading, 0);
  ck_assert_uint_eq(shared->partial.cell, 0);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_int_eq(forkq__os_pipe_level(channel.read_fd), 0);
}

struct expectation {
  uint64_t seed;
  uint32_t size;
};

/* Its deadline is later than the test's: who is not woken in time fails. */
static void receive_expected(void *arg) {
  const struct expectation *expected = arg;
  CHILD_MUST(receive_within(60000) == 0);
  CHILD_MUST(holds(expected->seed, expected->size));
}

static pid_t receiver(uint64_t seed, uint32_t size) {
  struct expectation expected = { seed, size };
  return support_fork(receive_expected, &expected);
}

static pid_t sleeping_receiver(uint64_t seed, uint32_t size) {
  pid_t child = receiver(seed, size);
  support_until_asleep(child);
  while (atomic_load(&shared->asleep) == 0 || !support_asleep(child))
    usleep(100);
  return child;
}

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
  ck_assert_int_eq(receive(), -EAGAIN);
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

static void write_raw(const void *data, size_t size) {
  ck_assert_int_eq(write(channel.write_fd, data, size), (ssize_t)size);
}

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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted,
                   forkq__packet_messages(&packet));
  ck_assert_int_eq(forkq__channel_write(&channel, &packet), 0);
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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
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
  uint32_t size = forkq__packet_finish(&list->packet, channel.cell, UINT64_MAX - 1);
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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
  write_packet(&list->packet);
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
  ck_assert_int_eq(receive(), -EAGAIN);
  write_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 0, 100);
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  assert_empty();
  write_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, 150, 100);
  ck_assert_int_eq(receive(), -EAGAIN);
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
    atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
    send_part(1, LARGE, from, 4);
    send_message(2, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

/* ---- a message that stops coming --------------------------------------------------- */

static uint32_t kept_bytes(void) {
  struct forkq__assembly kept = forkq__partial_kept(&shared->partial, UINT64_MAX);
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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
  pid_t child = receiver(1, LARGE);
  send_part(1, LARGE, 2, 4);
  ck_assert_int_eq(support_wait(child), 0);
  assert_empty();
}
END_TEST

START_TEST(a_receive_that_does_not_wait_keeps_what_there_is) {
  for (int split = 1; split <= 3; split++) {
    atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
    send_part(1, LARGE, 0, split);
    ck_assert_int_eq(receive(), -EAGAIN);
    ck_assert_int_eq(receive(), -EAGAIN);
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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
  for (int part = 0; part < 4; part++) {
    ck_assert_int_eq(receive(), -EAGAIN);
    send_part(1, LARGE, part, part + 1);
  }
  ck_assert_int_eq(support_wait(receiver(1, LARGE)), 0);
  assert_empty();
}
END_TEST

START_TEST(what_was_kept_is_dropped_when_another_message_comes) {
  send_part(1, LARGE, 0, 2);
  ck_assert_int_eq(receive(), -EAGAIN);
  send_message(2, 10);
  assert_receives(2, 10);
  assert_empty();
  send_part(3, LARGE, 0, 2);
  ck_assert_int_eq(receive(), -EAGAIN);
  send_message(4, LARGE);
  assert_receives(4, LARGE);
  assert_empty();
}
END_TEST

/* Its end is of another message than what was kept. */
START_TEST(what_was_kept_is_not_completed_by_a_stranger) {
  send_part(1, LARGE, 0, 2);
  ck_assert_int_eq(receive(), -EAGAIN);
  uint32_t own = channel.cell;
  channel.cell = STRANGER;
  atomic_fetch_add(&ledger->cells[own].accepted, 1);
  send_part(1, LARGE, 2, 4);
  channel.cell = own;
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

static void reap(void) {
  struct forkq__witness witness = forkq__channel_witness(&channel);
  forkq__ledger_reap(ledger, channel.spill.fd, channel.cell, witness);
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
  atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
  send_part(1, size, 0, 3);
  support_heap_fail_at(k, persistent);
  int first = receive();
  support_heap_fail_at(0, false);
  send_part(1, size, 3, 4);
  send_message(2, 10);
  support_heap_fail_at(k, persistent);
  int second = first == 0 ? 0 : receive();
  support_heap_fail_at(0, false);
  ck_assert(first == 0 || first == -EAGAIN || first == -ENOMEM);
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

/* ---- readers that die -------------------------------------------------------------- */

static void no_repair(void *arg) {
  (void)arg;
}

struct death {
  void (*run)(int steps);
  int steps;
};

static void run_and_die(void *arg) {
  const struct death *death = arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  death->run(death->steps);
  raise(SIGKILL);
}

/* A reader that is killed after so many steps, with the read lock. */
static void die_after(void (*run)(int steps), int steps) {
  struct death death = { run, steps };
  ck_assert_int_eq(support_wait(support_fork(run_and_die, &death)), 128 + SIGKILL);
}

/* The stores that bring a packet, in the order of channel.c. */
#define LOAD_STEPS 13
static void load(int steps) {
  int i = 0;
  if (i++ < steps)
    shared->offset = 0;
  if (i++ < steps)
    shared->wire_base = shared->read_wire;
  if (i++ < steps)
    shared->packet.magic = 0;
  if (i++ < steps)
    shared->loading = 1;
  if (i++ < steps)
    CHILD_MUST(read(channel.read_fd, &shared->packet, FORKQ__PACKET_SIZE) > 0);
  if (i++ < steps)
    shared->base = ledger->taken;
  if (i++ < steps)
    ledger->cells[shared->packet.cell].arrived_seq = shared->packet.seq;
  if (i++ < steps)
    shared->offset = FORKQ__PACKET_HEAD;
  if (i++ < steps)
    shared->read_seq = shared->packet.seq;
  if (i++ < steps)
    shared->read_wire = shared->wire_base + shared->packet.length + FORKQ__PACKET_TAIL;
  if (i++ < steps)
    shared->unread = shared->packet.frames;
  if (i++ < steps)
    shared->loading = 0;
}

static uint64_t wire_sent(void) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ledger->cells_used; i++)
    sum += ledger->cells[i].sent_wire;
  return sum;
}

START_TEST(a_reader_killed_at_any_step_of_a_read_loses_nothing) {
  for (int steps = 0; steps <= LOAD_STEPS; steps++) {
    send_three(10);
    for (uint64_t i = 0; i < 3; i++)
      assert_receives(10 + i, 10);
    send_three(20);
    send_message(30, 500);
    die_after(load, steps);
    for (uint64_t i = 0; i < 3; i++)
      assert_receives(20 + i, 10);
    assert_receives(30, 500);
    assert_empty();
    ck_assert_uint_eq(shared->read_wire, wire_sent());
  }
}
END_TEST

START_TEST(a_reader_killed_at_its_very_first_read_loses_nothing) {
  for (int steps = 0; steps <= LOAD_STEPS; steps++) {
    tear_down();
    set_up();
    send_message(1, 10);
    send_message(2, 10);
    die_after(load, steps);
    assert_receives(1, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

/* The kernel has copied a part of the packet, and left the whole in the pipe. */
static void copy_half(int bytes) {
  load(4);
  static struct forkq__packet whole;
  struct forkq__buffer *list = packets_of(7, 1000);
  whole = list->packet;
  uint32_t size = forkq__packet_finish(&whole, STRANGER, ++shared->write_seq);
  CHILD_MUST(write(channel.write_fd, &whole, size) == (ssize_t)size);
  memcpy(&shared->packet, &whole, (size_t)bytes);
}

START_TEST(half_a_copy_is_not_taken_for_a_packet) {
  static const int sizes[] = { 0, 3, 4, 24, 25, 500, 1025, 1026 };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    tear_down();
    set_up();
    send_message(1, 1000);
    assert_receives(1, 1000);
    die_after(copy_half, sizes[i]);
    ck_assert_int_eq(receive(), 0);
    ck_assert(holds(7, 1000));
    ck_assert_int_eq(receive(), -EAGAIN);
  }
}
END_TEST

START_TEST(a_whole_copy_of_a_packet_that_stays_in_the_pipe_is_taken_once) {
  die_after(copy_half, 24 + 2 + 1000 + 8);
  ck_assert_int_eq(receive(), 0);
  ck_assert(holds(7, 1000));
  ck_assert_int_eq(receive(), FORKQ_EBADFRAME);
  ck_assert_int_eq(receive(), -EAGAIN);
}
END_TEST

/* The stores that take a small message, or the last piece of a large one, with all that is
 * counted for task_done. */
#define TAKE_STEPS 9
static void take(int steps) {
  struct forkq__frame frame = forkq__packet_frame(&shared->packet, shared->offset);
  struct forkq__cell *cell = &ledger->cells[STRANGER];
  uint32_t messages = shared->packet.flags & FORKQ__FRAGMENT
                          ? forkq__packet_messages(&shared->packet)
                          : 1;
  int i = 0;
  if (i++ < steps)
    shared->take_base = cell->got;
  if (i++ < steps)
    shared->take_items = messages;
  if (i++ < steps)
    shared->take_offset = shared->offset;
  if (i++ < steps)
    shared->taker = STRANGER + 1;
  if (i++ < steps)
    shared->offset = frame.next;
  if (i++ < steps)
    ledger->taken += messages;
  if (i++ < steps)
    shared->unread -= 1;
  if (i++ < steps)
    cell->got += messages;
  if (i++ < steps)
    shared->taker = 0;
}

START_TEST(a_reader_killed_while_it_takes_has_the_message_or_not) {
  channel.joinable = true;
  uint64_t got = 0;
  for (int steps = 0; steps <= TAKE_STEPS; steps++) {
    bool took = steps >= 5; /* the store of the offset */
    got += took;
    send_three(10);
    assert_receives(10, 10);
    die_after(take, steps);
    if (!took)
      assert_receives(11, 10);
    assert_receives(12, 10);
    assert_empty();
    ck_assert_uint_eq(ledger->cells[STRANGER].got, got);
  }
}
END_TEST

static void load_and_take_last(int steps) {
  load(LOAD_STEPS);
  take(steps);
}

/* What the dead had of a large message is gone with it; the end is still an item less. */
START_TEST(a_reader_killed_in_a_large_message_takes_it_along) {
  for (int steps = 0; steps <= TAKE_STEPS; steps++) {
    send_message(1, LARGE);
    struct forkq__packet skipped;
    for (int i = 0; i < 3; i++)
      ck_assert_int_gt(read(channel.read_fd, &skipped, sizeof skipped), 0);
    die_after(load_and_take_last, steps);
    send_message(2, 10);
    assert_receives(2, 10);
    assert_empty();
  }
}
END_TEST

static void load_append_and_take(int steps) {
  load(LOAD_STEPS);
  struct forkq__frame frame = forkq__packet_frame(&shared->packet, shared->offset);
  CHILD_MUST(forkq__partial_append(&shared->partial, channel.spill, shared->packet.seq,
                                   frame.data, frame.size) == 0);
  take(steps);
}

/* Between the append to what was kept and the taking: the piece is not appended twice. */
START_TEST(a_reader_killed_behind_an_append_is_carried_on_by_the_next) {
  for (int part = 1; part <= 3; part++) {
    for (int steps = 0; steps <= 4; steps++) {
      atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
      send_part(1, LARGE, 0, part);
      ck_assert_int_eq(receive(), -EAGAIN);
      send_part(1, LARGE, part, 4);
      die_after(load_append_and_take, steps);
      assert_receives(1, LARGE);
      assert_empty();
    }
  }
}
END_TEST

/* It has taken the end, and was killed before it could drop what had been kept. */
START_TEST(what_a_killed_reader_kept_does_not_come_again) {
  for (int large = 0; large <= 1; large++) {
    atomic_fetch_add(&ledger->cells[channel.cell].accepted, 1);
    send_part(1, LARGE, 0, 3);
    ck_assert_int_eq(receive(), -EAGAIN);
    send_part(1, LARGE, 3, 4);
    die_after(load_append_and_take, TAKE_STEPS);
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

/* ---- sleeping ---------------------------------------------------------------------- */

START_TEST(a_sleeper_wakes_for_a_message) {
  for (int i = 0; i < 50; i++) {
    pid_t child = sleeping_receiver(1, 10);
    send_message(1, 10);
    support_assert(support_wait(child) == 0);
  }
  assert_empty();
}
END_TEST

START_TEST(many_sleepers_get_one_message_each) {
  for (int round = 0; round < 20; round++) {
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
      children[i] = receiver(7, 10);
      support_until_asleep(children[i]);
    }
    for (int i = 0; i < 4; i++)
      send_message(7, 10);
    for (int i = 0; i < 4; i++)
      support_assert(support_wait(children[i]) == 0);
  }
  assert_empty();
}
END_TEST

/* One packet brings three messages: who takes the first tells the sleeper of the others. */
START_TEST(a_sleeper_hears_of_what_another_has_read_ahead) {
  for (int i = 0; i < 100; i++) {
    pid_t child = sleeping_receiver(7, 10);
    struct forkq__packet packet;
    forkq__packet_begin(&packet);
    for (int k = 0; k < 2; k++) {
      forkq__packet_set_frame(&packet, packet.length, 10);
      support_fill(packet.body + packet.length + FORKQ__FRAME_HEAD - FORKQ__PACKET_HEAD,
                   10, 7);
      packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + 10);
      packet.frames++;
    }
    atomic_fetch_add(&ledger->cells[channel.cell].accepted, 2);
    write_packet(&packet);
    int r;
    while ((r = receive()) == -EAGAIN)
      ;
    support_assert(r == 0 && support_wait(child) == 0);
  }
  assert_empty();
}
END_TEST

START_TEST(a_killed_sleeper_is_not_taken_for_one_that_sleeps) {
  support_kill_and_wait(sleeping_receiver(1, 10));
  ck_assert_uint_eq(shared->asleep, 1);
  ck_assert_int_eq(forkq__channel_receive_wait(&channel, &item, FORKQ__NOWAIT),
                   FORKQ_TIMEDOUT);
  ck_assert_uint_eq(shared->asleep, 0);
}
END_TEST

/* It has read three messages ahead, told nobody, and lets them go later. */
static void read_ahead_and_release(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  load(LOAD_STEPS);
  atomic_store(&flag[0], 1);
  support_until(&flag[1]);
  forkq__lock_release(&shared->read_lock);
}

START_TEST(nobody_sleeps_beside_what_is_read_ahead) {
  send_three(1);
  pid_t reader = support_fork(read_ahead_and_release, NULL);
  support_until(&flag[0]);
  pid_t child = receiver(1, 10);
  /* For long enough to give the read lock up and go to sleep. */
  int64_t deadline = support_now_ms() + 1000;
  while (support_now_ms() < deadline && atomic_load(&shared->getter_waits) == 0)
    usleep(1000);
  atomic_store(&flag[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(support_wait(reader), 0);
  assert_receives(2, 10);
}
END_TEST

START_TEST(a_killed_sleeper_hands_the_watch_on) {
  for (int i = 0; i < 50; i++) {
    pid_t victim = sleeping_receiver(1, 10);
    pid_t other = receiver(1, 10);
    support_until_asleep(other);
    support_kill_and_wait(victim);
    send_message(1, 10);
    support_assert(support_wait(other) == 0);
  }
  assert_empty();
}
END_TEST

/* Woken for a message and killed before it takes it, or after: either way the other one gets
 * what is there. */
START_TEST(a_wake_up_that_dies_with_the_woken_leaves_nobody_behind) {
  for (int i = 0; i < 100; i++) {
    pid_t victim = sleeping_receiver(1, 10);
    pid_t other = receiver(1, 10);
    support_until_asleep(other);
    send_message(1, 10);
    kill(victim, SIGKILL);
    (void)support_wait(victim);
    send_message(1, 10);
    support_assert(support_wait(other) == 0);
    int r = receive();
    support_assert(r == 0 || r == -EAGAIN);
  }
  assert_empty();
}
END_TEST

START_TEST(a_stopped_sleeper_holds_nobody_up) {
  pid_t stopped = sleeping_receiver(2, 10);
  support_stop(stopped);
  pid_t other = receiver(1, 10);
  send_message(1, 10);
  ck_assert_int_eq(support_wait(other), 0);
  assert_empty();
  support_kill_and_wait(stopped);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline) {
  for (int ms = 1; ms <= 61; ms += 30) {
    int64_t start = forkq__os_now();
    ck_assert_int_eq(receive_within(ms), FORKQ_TIMEDOUT);
    int64_t took = forkq__os_now() - start;
    ck_assert_int_ge(took, ms * INT64_C(1000000));
    ck_assert_int_lt(took, INT64_C(3000000000));
  }
}
END_TEST

/* The reader holds its lock for longer than any deadline. */
static void hold_read_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  atomic_store(&flag[0], 1);
  for (;;)
    pause();
}

START_TEST(a_deadline_covers_the_wait_for_the_locks) {
  pid_t child = support_fork(hold_read_lock, NULL);
  support_until(&flag[0]);
  send_message(1, 10);
  int64_t start = forkq__os_now();
  ck_assert_int_eq(receive(), -EAGAIN);
  ck_assert_int_eq(receive_within(50), FORKQ_TIMEDOUT);
  ck_assert_int_lt(forkq__os_now() - start, INT64_C(3000000000));
  support_kill_and_wait(child);
  assert_receives(1, 10);
  assert_empty();
}
END_TEST

static void expect_closed(void *arg) {
  (void)arg;
  /* The child has a channel of its own to close: a thread would do it in life. */
  support_end_after(10);
  channel.closed = true;
  CHILD_MUST(receive_within(10000) == FORKQ_ECLOSED);
}

START_TEST(a_closed_channel_is_not_waited_for) {
  ck_assert_int_eq(support_wait(support_fork(expect_closed, NULL)), 0);
}
END_TEST

START_TEST(one_sleep_is_hastened_once) {
  ck_assert(!forkq__channel_hasten(&channel));
  for (int i = 0; i < 20; i++) {
    pid_t child = sleeping_receiver(1, 10);
    support_assert(forkq__channel_hasten(&channel));
    support_assert(!forkq__channel_hasten(&channel));
    send_message(1, 10);
    support_assert(support_wait(child) == 0);
  }
}
END_TEST

/* ---- writing ----------------------------------------------------------------------- */

START_TEST(a_full_pipe_is_eagain_and_changes_nothing) {
  struct forkq__buffer *list = packets_of(1, 10);
  int r, written = 0;
  while ((r = forkq__channel_write(&channel, &list->packet)) == 0)
    written++;
  const struct forkq__cell *cell = &ledger->cells[channel.cell];
  ck_assert_int_eq(r, -EAGAIN);
  ck_assert_int_ge(written, 4);
  ck_assert_int_eq((int)cell->sent, written);
  ck_assert_uint_eq(cell->pending_seq, 0);
  ck_assert_uint_eq(cell->sent_wire, (uint64_t)forkq__os_pipe_level(channel.read_fd));
  for (int i = 0; i < written; i++)
    assert_receives(1, 10);
  ck_assert_int_eq(receive(), -EAGAIN);
  free_packets(list);
}
END_TEST

START_TEST(a_pipe_without_readers_is_epipe) {
  struct forkq__buffer *list = packets_of(1, 10);
  signal(SIGPIPE, SIG_IGN);
  close(channel.read_fd);
  channel.read_fd = -1;
  ck_assert_int_eq(forkq__channel_write(&channel, &list->packet), -EPIPE);
  ck_assert_uint_eq(ledger->cells[channel.cell].sent, 0);
  ck_assert_uint_eq(ledger->cells[channel.cell].pending_seq, 0);
  free_packets(list);
}
END_TEST

START_TEST(a_wait_for_room_ends_with_room_a_stop_or_its_deadline) {
  int stop = forkq__os_event_create();
  forkq__channel_wait_room(&channel, stop, FORKQ__FOREVER);
  struct forkq__buffer *list = packets_of(1, 10);
  while (forkq__channel_write(&channel, &list->packet) == 0)
    ;
  free_packets(list);
  forkq__channel_wait_room(&channel, stop, forkq__os_deadline(20));
  forkq__os_event_raise(stop);
  forkq__channel_wait_room(&channel, stop, FORKQ__FOREVER);
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

/* The stores of a write, in the order of channel.c; its lock goes with it. */
#define WRITE_STEPS 10
struct writer {
  int steps;
  _Atomic int *ready;
  _Atomic int *go;
};

static void write_and_die(void *arg) {
  const struct writer *writer = arg;
  int steps = writer->steps, i = 0;
  struct forkq__buffer *list = packets_of(5, 10);
  uint32_t index = open_cell();
  struct forkq__cell *cell = &ledger->cells[index];
  atomic_fetch_add(&cell->accepted, 2);
  atomic_store(writer->ready, 1);
  support_until(writer->go);
  CHILD_MUST(forkq__channel_lock_write(&channel, FORKQ__FOREVER) == 0);
  uint64_t seq = shared->write_seq + 1;
  uint32_t size = forkq__packet_finish(&list->packet, index, seq);
  if (i++ < steps)
    shared->write_seq = seq;
  if (i++ < steps)
    cell->pending_sent = cell->sent + 1;
  if (i++ < steps)
    cell->pending_wire = cell->sent_wire + size;
  if (i++ < steps)
    cell->pending_seq = seq;
  if (i++ < steps)
    CHILD_MUST(write(channel.write_fd, &list->packet, size) == (ssize_t)size);
  if (i++ < steps)
    cell->written_seq = seq;
  if (i++ < steps)
    cell->sent = cell->pending_sent;
  if (i++ < steps)
    cell->sent_wire = cell->pending_wire;
  if (i++ < steps)
    cell->pending_seq = 0;
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

static void let_die(int which, pid_t writer) {
  atomic_store(&flag[2 * which + 1], 1);
  ck_assert_int_eq(support_wait(writer), 128 + SIGKILL);
}

static void die_writing(int steps) {
  let_die(0, start_writer(0, steps));
}

/* The dead had put two items and was writing one: that one comes or not, and the books say
 * the same, whether they are made up before it is read or after. */
static int arrived(uint32_t cell) {
  struct forkq__witness witness = forkq__channel_witness(&channel);
  return witness.arrived(witness.arg, cell);
}

START_TEST(a_writer_killed_at_any_step_has_sent_or_not) {
  for (int when = 0; when <= 1; when++) {
    for (int steps = 0; steps <= WRITE_STEPS; steps++) {
      bool sent = steps >= 5;
      send_message(1, 10);
      die_writing(steps);
      if (when == 0)
        reap();
      ck_assert(when == 1 || forkq__ledger_size(ledger) == (sent ? 2 : 1));
      send_message(2, 10);
      assert_receives(1, 10);
      if (sent)
        assert_receives(5, 10);
      assert_receives(2, 10);
      ck_assert_int_eq(receive(), -EAGAIN);
      reap();
      assert_empty();
      ck_assert_uint_eq(shared->read_wire, wire_sent());
    }
  }
}
END_TEST

/* The same with the other's packet behind it, unread. */
START_TEST(a_dead_writer_s_packet_is_known_among_others) {
  for (int steps = 0; steps <= WRITE_STEPS; steps++) {
    bool sent = steps >= 5;
    die_writing(steps);
    send_message(1, 10);
    reap();
    ck_assert_uint_eq(forkq__ledger_size(ledger), sent ? 2 : 1);
    if (sent)
      assert_receives(5, 10);
    assert_receives(1, 10);
    assert_empty();
  }
}
END_TEST

/* Two in a row, before anybody looks: together they may be in doubt, but not for ever. */
START_TEST(two_dead_writers_are_told_apart_in_the_end) {
  for (int first = 3; first <= 6; first++) {
    for (int second = 3; second <= 6; second++) {
      pid_t writers[] = { start_writer(0, first), start_writer(1, second) };
      let_die(0, writers[0]);
      let_die(1, writers[1]);
      reap();
      int sent = (first >= 5) + (second >= 5);
      ck_assert_int_ge((int)forkq__ledger_size(ledger), sent);
      for (int i = 0; i < sent; i++)
        assert_receives(5, 10);
      ck_assert_int_eq(receive(), -EAGAIN);
      reap();
      assert_empty();
    }
  }
}
END_TEST

/* What the pipe holds then fits to neither outcome, until the packet comes. */
START_TEST(beside_a_stranger_s_bytes_a_dead_writer_is_in_doubt) {
  die_writing(5);
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
  uint32_t dead = channel.cell + 1;
  ck_assert_int_eq(arrived(dead), -1);
  support_kill_and_wait(child);
  ck_assert_int_eq(arrived(dead), 1);
  assert_receives(5, 10);
  ck_assert_int_eq(arrived(dead), 1);
  reap();
  assert_empty();
}
END_TEST

static void reap_again_and_again(void *arg) {
  (void)arg;
  for (;;)
    forkq__channel_reap(&channel);
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
  forkq__channel_reap(&channel);
  assert_receives(5, 10);
  assert_empty();
}
END_TEST

START_TEST(what_a_dead_writer_noted_itself_needs_no_lock) {
  die_writing(6);
  atomic_store(&flag[0], 0);
  pid_t child = support_fork(hold_write_lock, NULL);
  support_until(&flag[0]);
  ck_assert_int_eq(arrived(channel.cell + 1), 1);
  support_kill_and_wait(child);
}
END_TEST

/* Whatever else is in the pipe. */
START_TEST(a_packet_that_later_ones_have_passed_will_not_come) {
  die_writing(4);
  send_message(1, 10);
  assert_receives(1, 10);
  write_raw("garbage", 7);
  ck_assert_int_eq(arrived(channel.cell + 1), 0);
}
END_TEST

static void write_without_readers(void *arg) {
  struct forkq__buffer *list = packets_of(5, 10);
  *(_Atomic int *)arg = (int)open_cell();
  close(channel.read_fd);
  (void)forkq__channel_write(&channel, &list->packet);
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

/* ---- the suite --------------------------------------------------------------------- */

static TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}

static void add_messages(Suite *suite) {
  TCase *tcase = add_case(suite, "messages");
  tcase_add_test(tcase, messages_of_all_sizes_come_in_order);
  tcase_add_test(tcase, a_message_larger_than_the_pipe_comes_as_it_is_written);
  tcase_add_test(tcase, what_one_has_read_ahead_another_gets);
  tcase_add_test(tcase, nothing_there_is_eagain);
  tcase_add_test(tcase, a_batch_takes_what_is_there_and_leaves_a_large_one);
  tcase_add_test(tcase, drain_leaves_nothing);
  tcase_add_test(tcase, garbage_costs_one_error_and_nothing_else);
  tcase_add_test(tcase, garbage_in_a_message_costs_one_error_and_not_the_message);
  tcase_add_test(tcase, a_packet_of_no_cell_is_garbage);
  tcase_add_test(tcase, a_number_that_was_never_given_is_garbage);
  tcase_add_test(tcase, a_packet_that_comes_twice_is_taken_once);
  tcase_add_test(tcase, a_message_above_the_limit_is_one_error_whatever_its_length);
  tcase_add_test(tcase, a_total_that_lies_is_found_out_and_nothing_reserved_for_it);
  tcase_add_test(tcase, a_total_that_lies_is_found_out_in_what_was_kept);
  tcase_add_test(tcase, no_memory_is_an_error_and_the_message_stays);
  tcase_add_test(tcase, steady_state_allocates_nothing);
}

static void add_torn(Suite *suite) {
  TCase *tcase = add_case(suite, "torn");
  tcase_add_test(tcase, a_message_without_its_end_is_dropped_by_the_next);
  tcase_add_test(tcase, a_message_without_its_beginning_is_dropped);
  tcase_add_test(tcase, a_timed_receive_ends_on_time_and_another_process_completes_it);
  tcase_add_test(tcase, a_receive_that_does_not_wait_keeps_what_there_is);
  tcase_add_test(tcase, a_message_may_stop_at_each_of_its_packets);
  tcase_add_test(tcase, what_was_kept_is_dropped_when_another_message_comes);
  tcase_add_test(tcase, what_was_kept_is_not_completed_by_a_stranger);
  tcase_add_test(tcase, a_message_of_a_dead_sender_is_dropped);
  tcase_add_test(tcase, a_sender_that_dies_while_it_is_waited_for_holds_nobody_up);
  tcase_add_test(tcase, the_message_of_a_stopped_sender_comes_when_it_goes_on);
}

static void add_deaths(Suite *suite) {
  TCase *tcase = add_case(suite, "deaths");
  tcase_add_test(tcase, a_reader_killed_at_any_step_of_a_read_loses_nothing);
  tcase_add_test(tcase, a_reader_killed_at_its_very_first_read_loses_nothing);
  tcase_add_test(tcase, half_a_copy_is_not_taken_for_a_packet);
  tcase_add_test(tcase, a_whole_copy_of_a_packet_that_stays_in_the_pipe_is_taken_once);
  tcase_add_test(tcase, a_reader_killed_while_it_takes_has_the_message_or_not);
  tcase_add_test(tcase, a_reader_killed_in_a_large_message_takes_it_along);
  tcase_add_test(tcase, a_reader_killed_behind_an_append_is_carried_on_by_the_next);
  tcase_add_test(tcase, what_a_killed_reader_kept_does_not_come_again);
  tcase_add_test(tcase, readers_killed_anywhere_lose_at_most_what_they_had);
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
}

static void add_sleep(Suite *suite) {
  TCase *tcase = add_case(suite, "sleep");
  tcase_add_test(tcase, a_sleeper_wakes_for_a_message);
  tcase_add_test(tcase, many_sleepers_get_one_message_each);
  tcase_add_test(tcase, a_sleeper_hears_of_what_another_has_read_ahead);
  tcase_add_test(tcase, a_killed_sleeper_is_not_taken_for_one_that_sleeps);
  tcase_add_test(tcase, nobody_sleeps_beside_what_is_read_ahead);
  tcase_add_test(tcase, a_killed_sleeper_hands_the_watch_on);
  tcase_add_test(tcase, a_wake_up_that_dies_with_the_woken_leaves_nobody_behind);
  tcase_add_test(tcase, a_stopped_sleeper_holds_nobody_up);
  tcase_add_test(tcase, a_wait_ends_at_its_deadline);
  tcase_add_test(tcase, a_deadline_covers_the_wait_for_the_locks);
  tcase_add_test(tcase, a_closed_channel_is_not_waited_for);
  tcase_add_test(tcase, one_sleep_is_hastened_once);
  tcase_add_test(tcase, a_full_pipe_is_eagain_and_changes_nothing);
  tcase_add_test(tcase, a_pipe_without_readers_is_epipe);
  tcase_add_test(tcase, a_wait_for_room_ends_with_room_a_stop_or_its_deadline);
}

int main(void) {
  Suite *suite = suite_create("channel");
  add_messages(suite);
  add_torn(suite);
  add_deaths(suite);
  add_sleep(suite);
  return support_main(suite);
}
