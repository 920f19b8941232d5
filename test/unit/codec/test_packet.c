/* Packets as pure functions: what is valid, and that nothing else is ever read. */
#include "codec/packet.h"
#include "support.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static struct forkq__packet packet;

static void add_frame(const void *data, uint32_t size) {
  forkq__packet_set_frame(&packet, packet.length, size);
  if (size > 0)
    memcpy(packet.body + packet.length - FORKQ__PACKET_HEAD + FORKQ__FRAME_HEAD, data,
           size);
  packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + size);
  packet.frames++;
}

static void add_reference(struct forkq__reference reference) {
  packet.length =
      (uint16_t)forkq__packet_set_reference(&packet, packet.length, reference);
  packet.frames++;
}

/* Ready to be read: `length` bytes and the tail. */
static size_t size_of(void) {
  return forkq__packet_finish(&packet, 7, 1000);
}

/* Three frames: "one", "2", "three". */
static void make_packet(void) {
  memset(&packet, 0xee, sizeof packet);
  forkq__packet_begin(&packet);
  add_frame("one", 3);
  add_frame("2", 1);
  add_frame("three", 5);
  (void)size_of();
}

/* Both sizes do not fit into 32 bits together. */
static const struct forkq__reference far = { .at = 0x12345600, .size = 3000000001u };
static const struct forkq__reference near = { .at = 0, .size = 2000000000u };

/* Four frames: "one", a reference, "three", a reference. */
static void make_packet_with_references(void) {
  memset(&packet, 0xee, sizeof packet);
  forkq__packet_begin(&packet);
  add_frame("one", 3);
  add_reference(far);
  add_frame("three", 5);
  add_reference(near);
  (void)size_of();
}

/* One frame, a fragment. */
static void make_fragment(uint16_t flags, uint32_t size) {
  static const uint8_t zeros[FORKQ__PACKET_SIZE];
  forkq__packet_begin(&packet);
  add_frame(zeros, size);
  packet.flags = flags;
  (void)size_of();
}

/* As a reader asks, of memory that ends where the packet does. */
static bool is_valid(size_t size) {
  void *copy = malloc(size > 0 ? size : 1);
  memcpy(copy, &packet, size);
  bool valid = forkq__packet_valid(copy, size);
  free(copy);
  return valid;
}

/* ---- good packets ------------------------------------------------------------------ */

START_TEST(frames_come_out_as_they_went_in) {
  make_packet();
  struct forkq__frame frame = forkq__packet_frame(&packet, FORKQ__PACKET_HEAD);
  ck_assert_uint_eq(frame.size, 3);
  ck_assert_mem_eq(frame.data, "one", 3);
  frame = forkq__packet_frame(&packet, frame.next);
  ck_assert_uint_eq(frame.size, 1);
  ck_assert_mem_eq(frame.data, "2", 1);
  frame = forkq__packet_frame(&packet, frame.next);
  ck_assert_uint_eq(frame.size, 5);
  ck_assert_mem_eq(frame.data, "three", 5);
  ck_assert_uint_eq(frame.next, packet.length);
}
END_TEST

START_TEST(frames_are_counted_up_to_an_offset) {
  make_packet();
  uint32_t offset = FORKQ__PACKET_HEAD;
  for (uint32_t i = 0; i < 3; i++) {
    ck_assert_uint_eq(forkq__packet_frames_before(&packet, offset), i);
    offset = forkq__packet_frame(&packet, offset).next;
  }
  ck_assert_uint_eq(forkq__packet_frames_before(&packet, offset), 3);
}
END_TEST

START_TEST(a_message_counts_where_it_ends) {
  make_packet();
  ck_assert_uint_eq(forkq__packet_messages(&packet), 3);
  make_fragment(FORKQ__FRAGMENT | FORKQ__FIRST, 10);
  ck_assert_uint_eq(forkq__packet_messages(&packet), 0);
  make_fragment(FORKQ__FRAGMENT, 10);
  ck_assert_uint_eq(forkq__packet_messages(&packet), 0);
  make_fragment(FORKQ__FRAGMENT | FORKQ__LAST, 10);
  ck_assert_uint_eq(forkq__packet_messages(&packet), 1);
  make_fragment(FORKQ__FRAGMENT | FORKQ__FIRST | FORKQ__LAST, 10);
  ck_assert_uint_eq(forkq__packet_messages(&packet), 1);
}
END_TEST

START_TEST(the_payload_is_what_the_frames_hold) {
  make_packet();
  ck_assert_uint_eq(forkq__packet_payload(&packet), 3 + 1 + 5);
  make_fragment(FORKQ__FRAGMENT, FORKQ__FRAME_MAX);
  ck_assert_uint_eq(forkq__packet_payload(&packet), FORKQ__FRAME_MAX);
}
END_TEST

static void assert_refers(struct forkq__frame frame, struct forkq__reference wanted) {
  ck_assert(frame.is_reference);
  ck_assert_uint_eq(frame.size, sizeof wanted);
  ck_assert_uint_eq(forkq__frame_reference(frame).at, wanted.at);
  ck_assert_uint_eq(forkq__frame_reference(frame).size, wanted.size);
}

START_TEST(references_come_out_as_they_went_in) {
  make_packet_with_references();
  struct forkq__frame frame = forkq__packet_frame(&packet, FORKQ__PACKET_HEAD);
  ck_assert(!frame.is_reference);
  ck_assert_uint_eq(frame.size, 3);
  frame = forkq__packet_frame(&packet, frame.next);
  assert_refers(frame, far);
  frame = forkq__packet_frame(&packet, frame.next);
  ck_assert(!frame.is_reference);
  ck_assert_uint_eq(frame.size, 5);
  ck_assert_mem_eq(frame.data, "three", 5);
  frame = forkq__packet_frame(&packet, frame.next);
  assert_refers(frame, near);
  ck_assert_uint_eq(frame.next, packet.length);
}
END_TEST

START_TEST(a_reference_is_one_frame_and_one_message) {
  make_packet_with_references();
  ck_assert_uint_eq(forkq__packet_messages(&packet), 4);
  ck_assert_uint_eq(forkq__packet_frames_before(&packet, packet.length), 4);
  ck_assert_uint_eq(packet.length, FORKQ__PACKET_HEAD + (2 + 3) + (2 + 5) + 2 * (2 + 8));
}
END_TEST

START_TEST(the_payload_counts_what_is_referred_to) {
  make_packet_with_references();
  ck_assert_uint_eq(forkq__packet_payload(&packet),
                    UINT64_C(3) + far.size + UINT64_C(5) + near.size);
}
END_TEST

START_TEST(good_packets_are_valid) {
  make_packet();
  ck_assert(is_valid(size_of()));
  ck_assert(packet.cell == 7 && packet.seq == 1000);
  for (uint16_t flags = 1; flags <= 7; flags += 2) {
    make_fragment(flags, 100);
    ck_assert(is_valid(size_of()));
  }
  make_fragment(FORKQ__FRAGMENT, FORKQ__FRAME_MAX);
  ck_assert_uint_eq(size_of(), FORKQ__PACKET_SIZE);
  ck_assert(is_valid(size_of()));
}
END_TEST

START_TEST(good_packets_with_references_are_valid) {
  make_packet_with_references();
  ck_assert_uint_eq(packet.flags, FORKQ__REFERENCES);
  ck_assert(is_valid(size_of()));
  /* As many as a packet holds. */
  forkq__packet_begin(&packet);
  while (packet.length + FORKQ__FRAME_HEAD + sizeof far <= FORKQ__PACKET_END)
    add_reference(far);
  ck_assert_uint_gt(packet.frames, 400);
  ck_assert(is_valid(size_of()));
}
END_TEST

START_TEST(a_packet_is_one_atomic_write) {
  ck_assert_uint_le(sizeof packet, PIPE_BUF);
  ck_assert_uint_eq(FORKQ__PACKET_HEAD + FORKQ__FRAME_HEAD + FORKQ__FRAME_MAX +
                        FORKQ__PACKET_TAIL,
                    sizeof packet);
}
END_TEST

/* ---- bad packets ------------------------------------------------------------------- */

START_TEST(an_empty_packet_is_not_valid) {
  forkq__packet_begin(&packet);
  ck_assert(!is_valid(size_of()));
}
END_TEST

START_TEST(an_empty_frame_is_not_valid) {
  make_packet();
  add_frame("", 0);
  ck_assert(!is_valid(size_of()));
}
END_TEST

START_TEST(every_size_but_its_own_is_refused) {
  make_packet();
  size_t own = size_of();
  for (size_t size = 0; size <= FORKQ__PACKET_SIZE; size++)
    support_assert(is_valid(size) == (size == own));
  ck_assert(!forkq__packet_valid(&packet, FORKQ__PACKET_SIZE + 1));
}
END_TEST

START_TEST(every_wrong_bit_of_the_magic_is_refused) {
  for (int bit = 0; bit < 32; bit++) {
    make_packet();
    packet.magic ^= UINT32_C(1) << bit;
    ck_assert(!is_valid(size_of()));
  }
}
END_TEST

/* As it lies in memory where its end has not been copied. */
START_TEST(every_wrong_byte_of_the_tail_is_refused) {
  for (uint32_t i = 0; i < FORKQ__PACKET_TAIL; i++) {
    make_packet();
    size_t size = size_of();
    ((uint8_t *)&packet)[size - 1 - i] ^= 0x40;
    ck_assert(!is_valid(size));
  }
}
END_TEST

START_TEST(a_wrong_length_is_refused_also_where_size_and_tail_agree) {
  for (int by = -1; by <= 1; by += 2) {
    make_packet();
    size_t size = size_of();
    packet.length = (uint16_t)(packet.length + by);
    ck_assert(!is_valid(size));
    ck_assert(!is_valid(size_of()));
  }
}
END_TEST

START_TEST(a_wrong_number_of_frames_is_refused) {
  for (uint32_t frames = 0; frames <= UINT16_MAX; frames++) {
    make_packet();
    packet.frames = (uint16_t)frames;
    support_assert(is_valid(size_of()) == (frames == 3));
  }
}
END_TEST

START_TEST(unknown_flags_and_flags_without_fragment_are_refused) {
  for (uint32_t flags = 0; flags <= UINT16_MAX; flags++) {
    make_packet();
    packet.flags = (uint16_t)flags;
    bool whole = flags == 0 || flags == FORKQ__REFERENCES;
    support_assert(is_valid(size_of()) == whole);
    make_fragment((uint16_t)flags, 9);
    bool known = whole || (flags <= 7 && (flags & FORKQ__FRAGMENT));
    support_assert(is_valid(size_of()) == known);
  }
}
END_TEST

START_TEST(a_fragment_of_two_frames_is_refused) {
  make_fragment(FORKQ__FRAGMENT, 9);
  add_frame("x", 1);
  ck_assert(!is_valid(size_of()));
}
END_TEST

START_TEST(a_reference_in_a_packet_without_the_flag_is_refused) {
  make_packet_with_references();
  packet.flags = 0;
  ck_assert(!is_valid(size_of()));
}
END_TEST

START_TEST(a_reference_with_another_length_than_its_own_is_refused) {
  static const uint8_t zeros[FORKQ__FRAME_MAX];
  make_packet();
  const uint32_t offset = packet.length;
  const uint32_t most = FORKQ__PACKET_END - FORKQ__FRAME_HEAD - offset;
  for (uint32_t size = 0; size <= most; size++) {
    make_packet();
    packet.flags = FORKQ__REFERENCES;
    add_frame(zeros, size);
    support_assert(is_valid(size_of()) == (size > 0));
    forkq__packet_set_frame(&packet, offset, FORKQ__REFERENCE | size);
    support_assert(is_valid(size_of()) == (size == sizeof(struct forkq__reference)));
  }
}
END_TEST

START_TEST(a_reference_in_a_fragment_is_refused) {
  for (uint32_t flags = 0; flags <= UINT16_MAX; flags++) {
    forkq__packet_begin(&packet);
    add_reference(near);
    packet.flags = (uint16_t)flags;
    support_assert(is_valid(size_of()) == (flags == FORKQ__REFERENCES));
  }
}
END_TEST

/* The three frames have their lengths at 24, 29 and 32. */
START_TEST(every_wrong_length_of_a_frame_is_refused) {
  static const struct {
    uint32_t offset;
    uint32_t size;
  } frames[] = { { 24, 3 }, { 29, 1 }, { 32, 5 } };
  for (int i = 0; i < 3; i++) {
    for (uint32_t size = 0; size <= UINT16_MAX; size++) {
      make_packet();
      forkq__packet_set_frame(&packet, frames[i].offset, size);
      support_assert(is_valid(size_of()) == (size == frames[i].size));
    }
  }
}
END_TEST

START_TEST(half_a_frame_head_is_refused) {
  make_packet();
  packet.frames++;
  packet.length++;
  ck_assert(!is_valid(size_of()));
}
END_TEST

/* ---- random bytes ------------------------------------------------------------------ */

/* Written after the comment in packet.h, with numbers that do not overflow. */
static bool expected(const uint8_t *bytes, size_t size) {
  struct forkq__packet head;
  if (size < 24 + 8 || size > 4096)
    return false;
  memcpy(&head, bytes, 24);
  size -= 8;
  bool fragment = head.flags & FORKQ__FRAGMENT;
  if (head.magic != FORKQ__PACKET_MAGIC || head.length != size ||
      (fragment && (head.flags > 7 || head.frames != 1)) ||
      (!fragment && head.flags != 0 && head.flags != FORKQ__REFERENCES) ||
      head.frames == 0 || memcmp(&head.seq, bytes + size, 8) != 0)
    return false;
  size_t at = FORKQ__PACKET_HEAD;
  for (size_t i = 0; i < head.frames; i++) {
    if (at + 2 > size)
      return false;
    uint16_t frame;
    memcpy(&frame, bytes + at, 2);
    if (frame >= 0x8000 && (head.flags != FORKQ__REFERENCES || frame != 0x8008))
      return false;
    at += 2u + frame % 0x8000;
    if (at > size || frame == 0)
      return false;
  }
  return at == size;
}

/* Now and then a reference, of the right length more often than not. */
static uint16_t maybe_reference(uint64_t *seed, uint16_t frame) {
  uint32_t lucky = support_random_below(seed, 16);
  if (lucky < 4)
    return 0x8008;
  return lucky == 4 ? frame | 0x8000 : frame;
}

/* Random bytes under a header that is good more often than not, and frames that are short
 * enough to end in the packet now and then. */
static size_t make_random(uint8_t *bytes, uint64_t *seed) {
  uint32_t size = 1 + support_random_below(seed, 80);
  if (support_random_below(seed, 50) == 0)
    size = 1 + support_random_below(seed, FORKQ__PACKET_SIZE);
  for (uint32_t at = 0; at < size; at += 8) {
    uint64_t random = support_random(seed);
    memcpy(bytes + at, &random, size - at < 8 ? size - at : 8);
  }
  uint64_t lucky = support_random(seed);
  struct forkq__packet head;
  if (size < FORKQ__PACKET_HEAD + FORKQ__PACKET_TAIL || lucky % 8 == 0)
    return size;
  if (lucky % 32 != 3)
    memcpy(bytes + size - 8, bytes + offsetof(struct forkq__packet, seq), 8);
  uint32_t end = size - FORKQ__PACKET_TAIL;
  memcpy(&head, bytes, FORKQ__PACKET_HEAD);
  head.magic = FORKQ__PACKET_MAGIC;
  head.length = (uint16_t)(lucky % 16 == 1 ? lucky >> 32 : end);
  head.frames = (uint16_t)(1 + (lucky >> 8) % 4);
  head.flags = (uint16_t)((lucky >> 16) % 4 == 0 ? (lucky >> 18) % 16 : 0);
  if ((lucky >> 32) % 3 == 0)
    head.flags = FORKQ__REFERENCES;
  memcpy(bytes, &head, FORKQ__PACKET_HEAD);
  for (uint32_t at = FORKQ__PACKET_HEAD; at + 2 <= end && lucky % 8 != 2;) {
    uint16_t left = (uint16_t)(end - at - 2);
    uint16_t frame =
        (uint16_t)support_random_below(seed, (lucky >> 24) % 2 ? left + 1u : 9);
    if (support_random_below(seed, 3) == 0)
      frame = left;
    if (head.flags & FORKQ__REFERENCES || support_random_below(seed, 16) == 0)
      frame = maybe_reference(seed, frame);
    memcpy(bytes + at, &frame, 2);
    at += 2u + frame % 0x8000;
  }
  return size;
}

static uint32_t sum_of_frames(const struct forkq__packet *valid) {
  uint32_t sum = 0;
  for (uint32_t offset = FORKQ__PACKET_HEAD; offset < valid->length;) {
    struct forkq__frame frame = forkq__packet_frame(valid, offset);
    for (uint32_t i = 0; i < frame.size; i++)
      sum += frame.data[i];
    offset = frame.next;
  }
  return sum;
}

/* The references of a packet; each counts with its bytes for the payload. */
static int count_references(const struct forkq__packet *valid) {
  int references = 0;
  uint64_t payload = 0;
  for (uint32_t offset = FORKQ__PACKET_HEAD; offset < valid->length;) {
    struct forkq__frame frame = forkq__packet_frame(valid, offset);
    references += frame.is_reference;
    payload += frame.is_reference ? forkq__frame_reference(frame).size : frame.size;
    offset = frame.next;
  }
  support_assert(forkq__packet_payload(valid) == payload);
  return references;
}

START_TEST(random_bytes_are_judged_without_reading_behind_them) {
  static uint8_t bytes[FORKQ__PACKET_SIZE + 8];
  uint64_t seed = 7;
  uint32_t sum = 0;
  int accepted = 0, references = 0;
  for (int i = 0; i < 1000000; i++) {
    size_t size = make_random(bytes, &seed);
    struct forkq__packet *copy = malloc(size);
    memcpy(copy, bytes, size);
    bool valid = forkq__packet_valid(copy, size);
    support_assert(valid == expected(bytes, size));
    if (valid) {
      accepted++;
      sum += sum_of_frames(copy);
      references += count_references(copy);
      support_assert(forkq__packet_frames_before(copy, copy->length) == copy->frames);
    }
    free(copy);
  }
  ck_assert_uint_ne(sum, 0);
  /* Both verdicts were put to the test. */
  ck_assert_int_gt(accepted, 50000);
  ck_assert_int_lt(accepted, 900000);
  ck_assert_int_gt(references, 2000);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("packet");
  TCase *good = tcase_create("good");
  tcase_add_test(good, frames_come_out_as_they_went_in);
  tcase_add_test(good, frames_are_counted_up_to_an_offset);
  tcase_add_test(good, a_message_counts_where_it_ends);
  tcase_add_test(good, the_payload_is_what_the_frames_hold);
  tcase_add_test(good, references_come_out_as_they_went_in);
  tcase_add_test(good, a_reference_is_one_frame_and_one_message);
  tcase_add_test(good, the_payload_counts_what_is_referred_to);
  tcase_add_test(good, good_packets_are_valid);
  tcase_add_test(good, good_packets_with_references_are_valid);
  tcase_add_test(good, a_packet_is_one_atomic_write);
  suite_add_tcase(suite, good);
  TCase *bad = tcase_create("bad");
  tcase_set_timeout(bad, 60);
  tcase_add_test(bad, an_empty_packet_is_not_valid);
  tcase_add_test(bad, an_empty_frame_is_not_valid);
  tcase_add_test(bad, every_wrong_byte_of_the_tail_is_refused);
  tcase_add_test(bad, every_size_but_its_own_is_refused);
  tcase_add_test(bad, every_wrong_bit_of_the_magic_is_refused);
  tcase_add_test(bad, a_wrong_length_is_refused_also_where_size_and_tail_agree);
  tcase_add_test(bad, a_wrong_number_of_frames_is_refused);
  tcase_add_test(bad, unknown_flags_and_flags_without_fragment_are_refused);
  tcase_add_test(bad, a_fragment_of_two_frames_is_refused);
  tcase_add_test(bad, a_reference_in_a_packet_without_the_flag_is_refused);
  tcase_add_test(bad, a_reference_with_another_length_than_its_own_is_refused);
  tcase_add_test(bad, a_reference_in_a_fragment_is_refused);
  tcase_add_test(bad, every_wrong_length_of_a_frame_is_refused);
  tcase_add_test(bad, half_a_frame_head_is_refused);
  tcase_add_test(bad, random_bytes_are_judged_without_reading_behind_them);
  suite_add_tcase(suite, bad);
  return support_main(suite);
}
