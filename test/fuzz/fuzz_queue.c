/* A queue whose pipe somebody writes hostile bytes into. The input is a series of steps.
 *
 * Garbage: bytes that are no packet cost one error each and nothing else: what the queue's own
 * puts wrote before, between and behind them comes out, once and in order, and counts.
 *
 * Forgery: packets that have a number which this queue gives out, as only a process that
 * shares its memory can know. Of those it is promised that no get crashes, hangs, or takes
 * more memory than is in proportion to what was written; and that the next put and get of the
 * queue's own works. What they do to the counts (qsize, room, join) is not promised. */
#include "fuzz.h"

#include "queue/queue_impl.h"

#include <errno.h>
#include <forkq/simple_queue.h>
#include <string.h>
#include <unistd.h>

#define LARGE 10000u
#define ITEMS 3

/* As much as this is surely in the pipe without waiting for room. */
#define PACKETS_MAX 8

static forkq_queue_t *queue;
static int pipe_end;
static size_t written; /* hostile bytes so far */

static bool simple; /* whether puts go through, as in a simple queue */

static void open_queue(bool is_simple, int joinable, int64_t maxsize) {
  forkq_queue_options_t options = { .size = sizeof options,
                                    .joinable = joinable,
                                    .maxsize = maxsize };
  forkq_handover_t handover;
  MUST(forkq_queue_create_with(&queue, &options) == 0);
  MUST(forkq_queue_hand_over(queue, &handover) == 0);
  simple = is_simple;
  pipe_end = handover.fds[1];
  written = 0;
}

/* A binary of `size` bytes with a number in it, which comes out as it went in. */
static void own_put(uint32_t number, uint32_t size) {
  uint8_t data[LARGE] = { 0xc6 };
  for (uint32_t i = 0; i < 4; i++) {
    data[1 + i] = (uint8_t)((size - 5) >> (24 - 8 * i));
    data[5 + i] = (uint8_t)(number >> (24 - 8 * i));
  }
  MUST((simple ? forkq_simple_queue_put_packed((forkq_simple_queue_t *)queue, data, size)
               : forkq_queue_put_packed(queue, data, size, -1)) == 0);
}

static void must_be_own(const forkq_item_t *item, uint32_t number) {
  MUST(item->object.type == MSGPACK_OBJECT_BIN && item->object.via.bin.size >= 4);
  struct fuzz_input body = { (const uint8_t *)item->object.via.bin.ptr, 4 };
  MUST(fuzz_number(&body, 4) == number);
}

/* Bytes behind the header's, and of it only what there was. */
static bool is_packet(struct fuzz_input bytes) {
  static struct forkq__packet packet;
  memcpy(&packet, bytes.data, bytes.size);
  return forkq__packet_valid(&packet, bytes.size);
}

/* Writes bytes as they are, in pieces of a packet at most, as the kernel would do itself;
 * whether the pipe took them. */
static bool write_raw(struct fuzz_input bytes) {
  ssize_t n = write(pipe_end, bytes.data, bytes.size);
  MUST(n == (ssize_t)bytes.size || (n < 0 && errno == EAGAIN));
  written += n > 0 ? (size_t)n : 0;
  return n > 0;
}

/* ---- garbage ------------------------------------------------------------------------------ */

/* What is in the pipe: an own item, small or large, or a packet of garbage. */
enum kind { GARBAGE, SMALL, BIG };
static enum kind expected[4 * PACKETS_MAX];
static size_t expected_count, packets_there;
static uint32_t numbers_put, numbers_got;

static void expect(enum kind kind) {
  expected[expected_count++] = kind;
  packets_there += kind == BIG ? 3 : 1;
}

static enum kind next_expected(void) {
  enum kind kind = expected[0];
  memmove(expected, expected + 1, --expected_count * sizeof *expected);
  packets_there -= kind == BIG ? 3 : 1;
  return kind;
}

static void must_match(forkq_item_t *items, size_t got, size_t asked) {
  for (size_t i = 0; i < got; i++) {
    MUST(next_expected() != GARBAGE);
    must_be_own(&items[i], numbers_got++);
  }
  /* What ends a batch early is garbage, which goes with it, or a large item. */
  if (got < asked && expected_count > 0 && expected[0] != BIG)
    MUST(next_expected() == GARBAGE);
}

static void get_expected(size_t count) {
  forkq_item_t items[ITEMS] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got = 0;
  int r = count == 1 ? forkq_queue_get(queue, items, 0)
                     : forkq_queue_get_many(queue, items, count, 0, &got);
  if (expected_count == 0) {
    MUST(r == FORKQ_EMPTY);
  } else if (expected[0] == GARBAGE) {
    MUST(r == FORKQ_EBADFRAME && items[0].object.type == MSGPACK_OBJECT_NIL);
    next_expected();
  } else {
    MUST(r == 0);
    must_match(items, count == 1 ? 1 : got, count);
  }
  for (size_t i = 0; i < ITEMS; i++)
    forkq_item_destroy(&items[i]);
}

static void put_garbage(struct fuzz_input *input) {
  struct fuzz_input bytes = fuzz_take(input, fuzz_number(input, 2) % 9000);
  while (bytes.size > 0) {
    struct fuzz_input packet = fuzz_take(&bytes, FORKQ__PACKET_SIZE);
    if (packets_there < PACKETS_MAX && !is_packet(packet) && write_raw(packet))
      expect(GARBAGE);
  }
}

static void garbage(struct fuzz_input input) {
  open_queue(true, 0, 0);
  expected_count = packets_there = 0;
  numbers_put = numbers_got = 0;
  while (input.size > 0) {
    uint8_t step = (uint8_t)fuzz_number(&input, 1) % 6;
    if (step < 2) {
      put_garbage(&input);
    } else if (step < 4 && packets_there < PACKETS_MAX) {
      own_put(numbers_put++, step == 2 ? 9 : LARGE);
      expect(step == 2 ? SMALL : BIG);
    } else {
      get_expected(step == 4 ? 1 : ITEMS);
    }
    MUST(forkq_queue_qsize(queue) == numbers_put - numbers_got);
  }
  while (expected_count > 0)
    get_expected(1);
  MUST(numbers_put == numbers_got);
}

static void must_work(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (uint32_t size = 9; size <= LARGE; size += LARGE - 9) {
    own_put(size, size);
    MUST(forkq_queue_get(queue, &item, 10000) == 0);
    must_be_own(&item, size);
  }
  MUST(forkq_queue_get(queue, &item, 0) == FORKQ_EMPTY);
  forkq_item_destroy(&item);
}

/* ---- forgery ------------------------------------------------------------------------------ */

static void add_frames(struct forkq__packet *packet, struct fuzz_input *input) {
  uint32_t offset = packet->length;
  packet->frames = (uint16_t)(1 + fuzz_number(input, 1) % 5);
  for (int i = 0; i < packet->frames; i++) {
    uint32_t size = 1 + (uint32_t)fuzz_number(input, 2) % FORKQ__FRAME_MAX;
    uint32_t room = FORKQ__PACKET_END - offset;
    if (room <= FORKQ__FRAME_HEAD)
      break;
    size = size < room - FORKQ__FRAME_HEAD ? size : room - FORKQ__FRAME_HEAD;
    /* A few bytes of the input, and nils. */
    struct fuzz_input bytes = fuzz_take(input, size < 32 ? size : 32);
    uint8_t *body = packet->body + (offset + FORKQ__FRAME_HEAD - FORKQ__PACKET_HEAD);
    forkq__packet_set_frame(packet, offset, size);
    memset(body, 0xc0, size);
    memcpy(body, bytes.data, bytes.size);
    offset += FORKQ__FRAME_HEAD + size;
  }
  packet->length = (uint16_t)offset;
}

enum { OTHER_CELL = 1, OTHER_NUMBER = 2, DAMAGE = 4, LATER = 8 };

/* A packet as the queue's own, but for what the input changes. */
static void forge(struct fuzz_input *input) {
  static struct forkq__packet packet;
  _Atomic uint64_t *last = &queue->channel.shared->write_seq;
  uint8_t what = (uint8_t)fuzz_number(input, 1);
  uint32_t cell = queue->channel.account.cell;
  memset(&packet, 0, sizeof packet);
  forkq__packet_begin(&packet);
  packet.flags = fuzz_number(input, 1) & 7;
  packet.total = (uint32_t)fuzz_number(input, packet.flags & FORKQ__FIRST ? 4 : 0);
  add_frames(&packet, input);
  if (packet.flags & FORKQ__FRAGMENT)
    packet.frames = 1;
  else
    packet.flags = 0;
  if (what & OTHER_CELL)
    cell = (uint32_t)fuzz_number(input, 2);
  uint64_t number = atomic_load(last) + 1 + (what & LATER ? UINT64_C(1) << 33 : 0);
  if (what & OTHER_NUMBER)
    number = fuzz_number(input, 8);
  else
    atomic_store(last, number);
  struct fuzz_input bytes = { (const uint8_t *)&packet,
                              forkq__packet_finish(&packet, cell, number) };
  if (what & DAMAGE) {
    uint64_t at = fuzz_number(input, 2) % bytes.size;
    ((uint8_t *)&packet)[at] ^= (uint8_t)fuzz_number(input, 1);
  }
  (void)write_raw(bytes);
}

static void write_forged(struct fuzz_input *input) {
  struct fuzz_input bytes = fuzz_take(input, fuzz_number(input, 2) % 5000);
  if (bytes.size > 0)
    (void)write_raw(bytes);
}

static int get_any(size_t count) {
  forkq_item_t items[ITEMS] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got = 0, size = 0;
  fuzz_memory_begin();
  int r = count == 1 ? forkq_queue_get(queue, items, 0)
                     : forkq_queue_get_many(queue, items, count, 0, &got);
  size_t peak = fuzz_memory_peak();
  MUST(r == 0 || r == FORKQ_EBADFRAME || r == FORKQ_EMPTY);
  for (size_t i = 0; i < ITEMS; i++) {
    size += items[i].size;
    forkq_item_destroy(&items[i]);
  }
  /* The bytes of a torn message came, too, before those of the one that was got. */
  MUST(peak <= ITEMS * FUZZ_BYTES_BESIDES + FUZZ_BYTES_PER_BYTE * size + 3 * written);
  return r;
}

static void drain(void) {
  int tries = 0;
  while (get_any(1) != FORKQ_EMPTY)
    MUST(++tries < 100000);
}

static void forgery(struct fuzz_input input) {
  uint8_t options = (uint8_t)fuzz_number(&input, 1);
  open_queue(options & 7, options & 8, options & 16 ? 5 : 0);
  must_work(); /* and so this process is one that sends, whose messages are waited for */
  while (input.size > 0) {
    uint8_t step = (uint8_t)fuzz_number(&input, 1) % 8;
    if (step < 4)
      forge(&input);
    else if (step == 4)
      write_forged(&input);
    else if (step == 5)
      (void)get_any(ITEMS);
    else if (step == 6)
      (void)get_any(1);
    else
      drain();
  }
  drain();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = { data, size };
  if (size == 0)
    return 0;
  if (fuzz_number(&input, 1) & 1)
    garbage(input);
  else
    forgery(input);
  must_work();
  forkq_queue_destroy(queue);
  return 0;
}
