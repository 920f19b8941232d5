/* The msgpack validator against msgpack-c, and against a second validator written down as the
 * specification reads.
 *
 * What the scan accepts, msgpack-c unpacks, to its last byte and in bounded memory, and what
 * that packs again is the same object. In pieces of any size the scan says the same. */
#include "fuzz.h"

#include "codec/item.h"
#include "codec/serializer.h"

#include <string.h>

/* ---- the specification ----------------------------------------------------------------- */

enum { WRONG, RIGHT, DEEP };

static int object(struct fuzz_input *input, int depth);

static int body(struct fuzz_input *input, uint64_t size) {
  return fuzz_take(input, size).size == size ? RIGHT : WRONG;
}

static int objects(struct fuzz_input *input, uint64_t count, int depth) {
  int r = depth <= FORKQ_DEPTH_MAX ? RIGHT : DEEP;
  for (; count > 0 && r == RIGHT; count--)
    r = object(input, depth);
  return r;
}

/* One of those with a length of 1, 2 or 4 bytes behind the first. */
static int counted(struct fuzz_input *input, uint8_t head, int depth) {
  static const uint8_t bytes[] = {
    [0xc4 - 0xc0] = 1, [0xc5 - 0xc0] = 2, [0xc6 - 0xc0] = 4, [0xc7 - 0xc0] = 1,
    [0xc8 - 0xc0] = 2, [0xc9 - 0xc0] = 4, [0xd9 - 0xc0] = 1, [0xda - 0xc0] = 2,
    [0xdb - 0xc0] = 4, [0xdc - 0xc0] = 2, [0xdd - 0xc0] = 4, [0xde - 0xc0] = 2,
    [0xdf - 0xc0] = 4,
  };
  size_t n = bytes[head - 0xc0];
  if (input->size < n)
    return WRONG;
  uint64_t length = fuzz_number(input, n);
  if (head >= 0xde)
    return objects(input, 2 * length, depth + 1);
  if (head >= 0xdc)
    return objects(input, length, depth + 1);
  return body(input, head >= 0xc7 && head <= 0xc9 ? length + 1 : length);
}

static int object(struct fuzz_input *input, int depth) {
  if (input->size == 0)
    return WRONG;
  uint8_t head = (uint8_t)fuzz_number(input, 1);
  if (head < 0x80 || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3)
    return RIGHT;
  if (head < 0x90)
    return objects(input, 2u * (head - 0x80u), depth + 1);
  if (head < 0xa0)
    return objects(input, head - 0x90u, depth + 1);
  if (head < 0xc0)
    return body(input, head - 0xa0u);
  if (head == 0xc1)
    return WRONG;
  if (head >= 0xca && head <= 0xcb) /* floats */
    return body(input, head == 0xca ? 4 : 8);
  if (head >= 0xcc && head <= 0xcf)
    return body(input, 1u << (head - 0xcc));
  if (head >= 0xd0 && head <= 0xd3)
    return body(input, 1u << (head - 0xd0));
  if (head >= 0xd4 && head <= 0xd8) /* fixext: a type, and 1, 2, 4, 8 or 16 bytes */
    return body(input, 1u + (1u << (head - 0xd4)));
  return counted(input, head, depth);
}

static int by_specification(struct fuzz_input input) {
  int r = object(&input, 0);
  return r == RIGHT && input.size > 0 ? WRONG : r;
}

/* ---- in pieces --------------------------------------------------------------------------- */

static void check_pieces(struct fuzz_input input, uint64_t seed, int whole,
                         uint64_t elements) {
  struct forkq__scan scan;
  forkq__scan_begin(&scan);
  while (input.size > 0) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    struct fuzz_input piece = fuzz_take(&input, (seed >> 33) % 9);
    (void)forkq__scan_feed(&scan, piece.data, piece.size);
  }
  int r = forkq__scan_end(&scan);
  MUST((r == 0) == (whole == 0));
  /* Whole, a container that promises too much is refused before what is in it is read. */
  MUST(r == whole || whole == FORKQ_EBADOBJECT);
  MUST(r != 0 || scan.elements == elements);
}

/* ---- against msgpack-c ------------------------------------------------------------------- */

static bool same(const msgpack_object *a, const msgpack_object *b);

static bool same_all(const msgpack_object *a, const msgpack_object *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (!same(&a[i], &b[i]))
      return false;
  return true;
}

static bool same_bytes(const char *a, uint32_t a_size, const char *b, uint32_t b_size) {
  return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

/* msgpack_object_equal, but that a number that is none is the same as itself. */
static bool same(const msgpack_object *a, const msgpack_object *b) {
  if (a->type != b->type)
    return false;
  switch (a->type) {
  case MSGPACK_OBJECT_ARRAY:
    return a->via.array.size == b->via.array.size &&
           same_all(a->via.array.ptr, b->via.array.ptr, a->via.array.size);
  case MSGPACK_OBJECT_MAP:
    if (a->via.map.size != b->via.map.size)
      return false;
    for (uint32_t i = 0; i < a->via.map.size; i++)
      if (!same(&a->via.map.ptr[i].key, &b->via.map.ptr[i].key) ||
          !same(&a->via.map.ptr[i].val, &b->via.map.ptr[i].val))
        return false;
    return true;
  case MSGPACK_OBJECT_FLOAT32:
  case MSGPACK_OBJECT_FLOAT64:
    return memcmp(&a->via.f64, &b->via.f64, sizeof a->via.f64) == 0;
  case MSGPACK_OBJECT_STR:
  case MSGPACK_OBJECT_BIN:
    return same_bytes(a->via.str.ptr, a->via.str.size, b->via.str.ptr, b->via.str.size);
  case MSGPACK_OBJECT_EXT:
    return a->via.ext.type == b->via.ext.type &&
           same_bytes(a->via.ext.ptr, a->via.ext.size, b->via.ext.ptr, b->via.ext.size);
  default:
    return msgpack_object_equal(*a, *b);
  }
}

static void receive(forkq_item_t *item, const void *data, size_t size) {
  fuzz_memory_begin();
  MUST(forkq__item_reserve(item, size) == 0);
  if (size > 0)
    memcpy(item->memory_, data, size);
  forkq__item_finish(item, size);
}

static void check_accepted(struct fuzz_input input) {
  forkq_item_t item = FORKQ_ITEM_INIT, again = FORKQ_ITEM_INIT;
  receive(&item, input.data, input.size);
  MUST(forkq__item_unpack(&item) == 0);
  MUST(fuzz_memory_peak() <= FUZZ_BOUND(input.size));

  msgpack_sbuffer packed;
  msgpack_packer packer;
  msgpack_sbuffer_init(&packed);
  msgpack_packer_init(&packer, &packed, msgpack_sbuffer_write);
  MUST(forkq__pack(&packer, &item.object) == 0);
  /* Shorter where the sender wrote a number or a length in more bytes than it needs. */
  MUST(packed.size <= input.size);
  MUST(forkq__scan(packed.data, packed.size, NULL) == 0);
  receive(&again, packed.data, packed.size);
  MUST(forkq__item_unpack(&again) == 0);
  (void)fuzz_memory_peak();
  MUST(same(&item.object, &again.object));
  msgpack_sbuffer_destroy(&packed);
  forkq_item_destroy(&again);
  forkq_item_destroy(&item);
}

static void check_refused(struct fuzz_input input) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  receive(&item, input.data, input.size);
  MUST(forkq__item_unpack(&item) == FORKQ_EBADFRAME);
  MUST(item.object.type == MSGPACK_OBJECT_NIL);
  MUST(fuzz_memory_peak() <= FUZZ_BOUND(input.size));
  forkq_item_destroy(&item);
}

/* What an item borrows is the object that it would have unpacked. */
static void check_lent(struct fuzz_input input, int r) {
  forkq_item_t lent = FORKQ_ITEM_INIT, copied = FORKQ_ITEM_INIT;
  if (!forkq__item_lend(&lent, input.data, input.size)) {
    MUST(lent.data == NULL && lent.object.type == MSGPACK_OBJECT_NIL);
    return;
  }
  MUST(r == 0);
  MUST(forkq__item_reserve(&copied, input.size) == 0);
  MUST(forkq__item_set(&copied, input.data, input.size) == 0);
  MUST(forkq__item_unpack(&copied) == 0 && same(&lent.object, &copied.object));
  forkq_item_destroy(&copied);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = { data, size };
  if (size < 2) /* an empty message does not come as far as this */
    return 0;
  uint64_t elements = 0;
  uint64_t seed = fuzz_number(&input, 1);
  int r = forkq__scan(input.data, input.size, &elements);
  int expected = by_specification(input);
  MUST((r == 0) == (expected == RIGHT));
  MUST(r == 0 || r == FORKQ_EBADOBJECT || r == FORKQ_ETOODEEP);
  MUST(r != FORKQ_ETOODEEP || expected == DEEP);
  MUST(elements <= input.size);
  check_pieces(input, seed, r, elements);
  check_lent(input, r);
  if (r == 0)
    check_accepted(input);
  else
    check_refused(input);
  return 0;
}
