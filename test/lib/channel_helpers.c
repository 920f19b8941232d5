#define _GNU_SOURCE
#include "channel_helpers.h"

#include "pipe/reap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct forkq__channel_shared *shared;
struct forkq__ledger *ledger;
struct forkq__channel channel;
forkq_item_t item;
_Atomic int *flag;

static struct forkq__segment *segment;
static int fds_before;

/* ---- setting up -------------------------------------------------------------------- */

uint32_t open_cell(void) {
  forkq__liveness_forked(&channel.account.liveness,
                         false); /* in a child; else it has none */
  channel.account.cell = FORKQ__NO_CELL;
  if (forkq__reap_and_claim(&channel) != 0)
    abort();
  return channel.account.cell;
}

static void set_up(void) {
  int pipe[2];
  fds_before = support_open_fds();
  memset(&channel, 0, sizeof channel);
  forkq__account_init(&channel.account);
  ck_assert_int_eq(
      forkq__segment_create(&segment, &channel.account.liveness.memory_fd, ""), 0);
  ck_assert_int_eq(forkq__os_packet_pipe(pipe), 0);
  channel.read_fd = pipe[0];
  channel.write_fd = pipe[1];
  ck_assert_int_eq(forkq__os_identity(pipe[0], &channel.pipe_identity), 0);
  channel.event_fd = forkq__os_event_create();
  channel.account.liveness.base = segment;
  channel.pieces = forkq__pieces_new();
  ck_assert_int_eq(forkq__os_identity(channel.account.liveness.memory_fd,
                                      &channel.account.liveness.identity),
                   0);
  channel.shared = shared = &segment->channel;
  channel.account.ledger = ledger = &segment->ledger;
  channel.max_message = FORKQ_MESSAGE_MAX;
  channel.process_bit = FORKQ__ANY_BITS;
  open_cell();
  ledger->cells_used = STRANGER + 1; /* as if others had used cells before */
  ck_assert_int_eq(forkq__os_memory_back(channel.account.liveness.memory_fd,
                                         (char *)ledger->cells - (char *)segment,
                                         (STRANGER + 1) * sizeof ledger->cells[0]),
                   0);
  flag = support_shared(4 * sizeof *flag);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  if (channel.read_fd >= 0)
    close(channel.read_fd);
  close(channel.write_fd);
  close(channel.event_fd);
  forkq__liveness_end(&channel.account.liveness);
  close(channel.account.liveness.memory_fd);
  channel.pieces->segment = segment;
  forkq__pieces_leave(channel.pieces);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

/* ---- sending ----------------------------------------------------------------------- */

/* The packets of a message, its bytes made from the seed. */
struct forkq__buffer *packets_of(uint64_t seed, uint32_t size) {
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

void free_packets(struct forkq__buffer *list) {
  while (list != NULL) {
    struct forkq__buffer *next = list->next;
    free(list);
    list = next;
  }
}

/* As a feeder does, with the write lock. */
void write_packet(struct forkq__packet *packet) {
  int r;
  while ((r = forkq__channel_write(&channel, packet)) == FORKQ__NO_ROOM)
    forkq__channel_wait_room(&channel, -1, NULL, NULL);
  if (r != 0)
    abort();
}

int try_write(struct forkq__packet *packet) {
  if (forkq__channel_lock_write(&channel, FORKQ__FOREVER) != 0)
    abort();
  int r = forkq__channel_write(&channel, packet);
  forkq__channel_unlock_write(&channel);
  return r;
}

/* Sends the packets `from` to `to` - 1 of a message, or to its end. */
void send_part(uint64_t seed, uint32_t size, int from, int to) {
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

void send_message(uint64_t seed, uint32_t size) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(seed, size, 0, 1 << 30);
}

/* Three small messages in one packet, with the seeds from `seed` on. */
void send_three(uint64_t seed) {
  struct forkq__packet packet;
  forkq__packet_begin(&packet);
  for (uint64_t i = 0; i < 3; i++) {
    forkq__packet_set_frame(&packet, packet.length, 10);
    support_fill(packet.body + packet.length - FORKQ__PACKET_HEAD + FORKQ__FRAME_HEAD, 10,
                 seed + i);
    packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + 10);
    packet.frames++;
  }
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 3);
  ck_assert_int_eq(forkq__channel_lock_write(&channel, FORKQ__FOREVER), 0);
  write_packet(&packet);
  forkq__channel_unlock_write(&channel);
}

/* ---- receiving --------------------------------------------------------------------- */

int receive(void) {
  return forkq__channel_receive(&channel, &item, FORKQ__NOWAIT);
}

int receive_within(int ms) {
  return forkq__channel_receive_wait(&channel, &item, forkq__os_deadline(ms));
}

bool holds(uint64_t seed, uint32_t size) {
  uint8_t *data = malloc(size);
  support_fill(data, size, seed);
  bool same = item.size == size && memcmp(item.data, data, size) == 0;
  free(data);
  return same;
}

/* It is there, and needs no waiting. */
void assert_receives(uint64_t seed, uint32_t size) {
  int r = receive();
  ck_assert_msg(r == 0, "receive is %s", forkq_error_name(r));
  ck_assert(holds(seed, size));
}

/* Nothing is left, and the books say so. */
void assert_empty(void) {
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_uint_eq(shared->unread, 0);
  ck_assert_uint_eq(shared->loading, 0);
  ck_assert_uint_eq(shared->spill.cell, 0);
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

pid_t receiver(uint64_t seed, uint32_t size) {
  struct expectation expected = { seed, size };
  return support_fork(receive_expected, &expected);
}

pid_t sleeping_receiver(uint64_t seed, uint32_t size) {
  pid_t child = receiver(seed, size);
  support_until_asleep(child);
  while (atomic_load(&shared->asleep) == 0 || !support_asleep(child))
    usleep(100);
  return child;
}

void write_raw(const void *data, size_t size) {
  ck_assert_int_eq(write(channel.write_fd, data, size), (ssize_t)size);
}

/* ---- recovery ---------------------------------------------------------------------- */

void reap(void) {
  forkq__reap(&channel);
}

uint64_t wire_sent(void) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ledger->cells_used; i++)
    sum += ledger->cells[i].sent_wire;
  return sum;
}

void no_repair(void *arg) {
  (void)arg;
}

void make_channel_anew(void) {
  tear_down();
  set_up();
}

TCase *channel_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}
