/* What may pass: the scan against a decoder of its own, msgpack-c, and random bytes. */
#include "codec/item.h"
#include "codec/serializer.h"
#include "scan_helpers.h"
#include "support.h"

#include <forkq/base.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 70000

static const uint64_t seed_of_all = 20240517;

/* ---- a decoder to compare with: recursive, and written after the format's table ---- */

enum kind { ATOM, FIXED, STRING, EXT, ARRAY, MAP, NEVER };

struct format {
  enum kind kind;
  unsigned length_bytes;
  uint64_t value; /* bytes of FIXED; count or length where it is in the first byte */
};

static struct format format_of(unsigned head) {
  static const struct format table[] = {
    { ATOM, 0, 0 },   { NEVER, 0, 0 },  { ATOM, 0, 0 },   { ATOM, 0, 0 },  /* c0 nil */
    { STRING, 1, 0 }, { STRING, 2, 0 }, { STRING, 4, 0 },                  /* c4 bin */
    { EXT, 1, 0 },    { EXT, 2, 0 },    { EXT, 4, 0 },                     /* c7 ext */
    { FIXED, 0, 4 },  { FIXED, 0, 8 },                                     /* ca float */
    { FIXED, 0, 1 },  { FIXED, 0, 2 },  { FIXED, 0, 4 },  { FIXED, 0, 8 }, /* cc uint */
    { FIXED, 0, 1 },  { FIXED, 0, 2 },  { FIXED, 0, 4 },  { FIXED, 0, 8 }, /* d0 int */
    { FIXED, 0, 2 },  { FIXED, 0, 3 },  { FIXED, 0, 5 },                   /* d4 fixext */
    { FIXED, 0, 9 },  { FIXED, 0, 17 },                                    /* d7 */
    { STRING, 1, 0 }, { STRING, 2, 0 }, { STRING, 4, 0 },                  /* d9 str */
    { ARRAY, 2, 0 },  { ARRAY, 4, 0 },                                     /* dc array */
    { MAP, 2, 0 },    { MAP, 4, 0 },                                       /* de map */
  };
  if (head >= 0xe0 || head < 0x80)
    return (struct format){ ATOM, 0, 0 };
  if (head < 0x90)
    return (struct format){ MAP, 0, head - 0x80 };
  if (head < 0xa0)
    return (struct format){ ARRAY, 0, head - 0x90 };
  if (head < 0xc0)
    return (struct format){ STRING, 0, head - 0xa0 };
  return table[head - 0xc0];
}

struct reader {
  const uint8_t *p;
  const uint8_t *end;
  uint64_t elements;
};

static bool read_objects(struct reader *reader, uint64_t count, int depth);

static bool skip(struct reader *reader, uint64_t count) {
  if (count > (uint64_t)(reader->end - reader->p))
    return false;
  reader->p += count;
  return true;
}

static bool read_object(struct reader *reader, int depth) {
  if (reader->p == reader->end)
    return false;
  struct format format = format_of(*reader->p++);
  for (unsigned i = 0; i < format.length_bytes; i++) {
    if (reader->p == reader->end)
      return false;
    format.value = format.value << 8 | *reader->p++;
  }
  switch (format.kind) {
  case ATOM:
    return true;
  case FIXED:
  case STRING:
    return skip(reader, format.value);
  case EXT:
    return skip(reader, format.value + 1);
  case ARRAY:
    return read_objects(reader, format.value, depth + 1);
  case MAP:
    return read_objects(reader, 2 * format.value, depth + 1);
  default:
    return false;
  }
}

static bool read_objects(struct reader *reader, uint64_t count, int depth) {
  if (depth > 32)
    return false;
  reader->elements += count;
  while (count-- > 0)
    if (!read_object(reader, depth))
      return false;
  return true;
}

static bool expected(const void *data, size_t size, uint64_t *ret_elements) {
  struct reader reader = { data, (const uint8_t *)data + size, 0 };
  bool valid = read_object(&reader, 0) && reader.p == reader.end;
  *ret_elements = reader.elements;
  return valid;
}

/* ---- feeding ----------------------------------------------------------------------- */

static int scan_pieces(const void *data, size_t size, size_t piece) {
  struct forkq__scan scan;
  forkq__scan_begin(&scan);
  for (size_t at = 0; at < size; at += piece) {
    size_t n = size - at < piece ? size - at : piece;
    uint8_t *copy = copy_of((const uint8_t *)data + at, n);
    int r = forkq__scan_feed(&scan, copy, n);
    free(copy);
    support_assert(r == 0 || forkq__scan_end(&scan) == r);
  }
  return forkq__scan_end(&scan);
}

/* ---- every first byte -------------------------------------------------------------- */

/* An object with this first byte and count or length n, whose elements are nil. */
static size_t build(uint8_t *out, unsigned head, uint64_t n) {
  struct format format = format_of(head);
  const uint64_t body[] = { 0, format.value, n, n + 1, n, 2 * n, 0 };
  uint8_t *p = out;
  *p++ = (uint8_t)head;
  for (unsigned i = format.length_bytes; i-- > 0;)
    *p++ = (uint8_t)(n >> (8 * i));
  size_t size = (size_t)body[format.kind];
  memset(p, 0xc0, size);
  return (size_t)(p - out) + size;
}

static void assert_exact(const uint8_t *bytes, size_t size) {
  ck_assert_int_eq(scan_whole(bytes, size), 0);
  ck_assert_int_eq(scan_pieces(bytes, size, 1), 0);
  ck_assert_int_eq(scan_pieces(bytes, size, 7), 0);
  ck_assert_int_eq(scan_whole(bytes, size - 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_pieces(bytes, size - 1, 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_whole(bytes, size + 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_pieces(bytes, size + 1, 1), FORKQ_EBADOBJECT);
}

START_TEST(every_first_byte_is_read_to_its_limits) {
  static uint8_t bytes[2 * 70000 + 16];
  for (unsigned head = 0; head <= 0xff; head++) {
    struct format format = format_of(head);
    uint64_t limits[] = { format.value, 0, 1, 0xff, 0xffff, 70000 };
    if (format.kind == NEVER)
      continue;
    /* What fits in one byte of length, in two, and what needs more. */
    size_t first = format.length_bytes == 0 ? 0 : 1;
    size_t last = (size_t[]){ 0, 3, 4, 0, 5 }[format.length_bytes];
    for (size_t i = first; i <= last; i++) {
      size_t size = build(bytes, head, limits[i]);
      bytes[size] = 0xc0;
      assert_exact(bytes, size);
    }
  }
}
END_TEST

START_TEST(the_reserved_byte_is_refused) {
  ck_assert_int_eq(scan_whole("\xc1", 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_whole("\x91\xc1", 2), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_pieces("\x92\xc0\xc1", 3, 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_whole("\xa1\xc1", 2), 0); /* in a string it is a byte as any */
}
END_TEST

START_TEST(nothing_is_not_an_object) {
  ck_assert_int_eq(scan_whole("", 0), FORKQ_EBADOBJECT);
  ck_assert_int_eq(scan_pieces("", 0, 1), FORKQ_EBADOBJECT);
}
END_TEST

START_TEST(a_failed_scan_stays_failed) {
  struct forkq__scan scan;
  forkq__scan_begin(&scan);
  ck_assert_int_eq(forkq__scan_feed(&scan, "\x91\xc1", 2), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq__scan_feed(&scan, "\xc0", 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq__scan_end(&scan), FORKQ_EBADOBJECT);
}
END_TEST

START_TEST(elements_are_counted_over_all_containers) {
  uint64_t elements = 77;
  /* [1, {2: [3, 4]}, []] */
  ck_assert_int_eq(forkq__scan("\x93\x01\x81\x02\x92\x03\x04\x90", 8, &elements), 0);
  ck_assert_uint_eq(elements, 3 + 2 + 2);
}
END_TEST

/* ---- lengths that lie -------------------------------------------------------------- */

static const struct {
  const char *bytes;
  size_t size;
} liars[] = {
  { "\xdd\x10\x00\x00\x00", 5 },     /* msgpack-c reserves 6 GiB for it */
  { "\xdd\xff\xff\xff\xff", 5 },     /* array 32 */
  { "\xdf\xff\xff\xff\xff", 5 },     /* map 32 */
  { "\xdf\x80\x00\x00\x00", 5 },     /* ... whose count of objects overflows 32 bits */
  { "\xc9\xff\xff\xff\xff\x01", 6 }, /* ext 32, whose size with its type does as well */
  { "\xc9\xff\xff\xff\xff", 5 },
  { "\xc6\xff\xff\xff\xff", 5 },             /* bin 32 */
  { "\xdb\xff\xff\xff\xff", 5 },             /* str 32 */
  { "\xdc\xff\xff\xc0", 4 },                 /* array 16 */
  { "\x93\xdd\x00\x00\x00\x02\xc0\xc0", 8 }, /* the outer array owes two more */
};

START_TEST(a_count_beyond_the_bytes_is_refused_and_nothing_allocated) {
  support_heap_install();
  for (size_t i = 0; i < sizeof liars / sizeof *liars; i++) {
    ck_assert_int_eq(scan_whole(liars[i].bytes, liars[i].size), FORKQ_EBADOBJECT);
    ck_assert_int_eq(scan_pieces(liars[i].bytes, liars[i].size, 1), FORKQ_EBADOBJECT);
    forkq_item_t item = FORKQ_ITEM_INIT;
    item.data = liars[i].bytes;
    item.size = liars[i].size;
    ck_assert_int_eq(forkq__item_unpack(&item), FORKQ_EBADFRAME);
    ck_assert_ptr_null(item.zone_);
  }
  ck_assert_int_eq(support_heap_requests(), 0);
}
END_TEST

/* Many headers, each of which declares all that is left: they must not add up. */
START_TEST(nested_headers_do_not_amplify) {
  static uint8_t bytes[30000];
  size_t size = sizeof bytes;
  for (size_t at = 0; at + 3 <= size; at += 3) {
    bytes[at] = 0xdc;
    bytes[at + 1] = (uint8_t)((size - at - 3) / 2 >> 8);
    bytes[at + 2] = (uint8_t)((size - at - 3) / 2);
  }
  ck_assert_int_eq(scan_whole(bytes, size), FORKQ_EBADOBJECT);
}
END_TEST

/* ---- depth ------------------------------------------------------------------------- */

/* Levels of a shape within each other, with `inner` in the innermost place. */
struct shape {
  const char *before;
  const char *after;
  int deeper; /* how deep it goes itself, beside the inner place */
};

static size_t nest(uint8_t *out, int levels, struct shape shape, const char *inner) {
  uint8_t *p = out;
  for (int i = 0; i < levels; i++)
    for (const char *s = shape.before; *s != 0; s++)
      *p++ = (uint8_t)*s;
  for (const char *s = inner; *s != 0; s++)
    *p++ = (uint8_t)*s;
  for (int i = 0; i < levels; i++)
    for (const char *s = shape.after; *s != 0; s++)
      *p++ = (uint8_t)*s;
  return (size_t)(p - out);
}

static bool msgpack_accepts(const void *data, size_t size) {
  msgpack_zone zone;
  msgpack_object object;
  size_t offset = 0;
  msgpack_zone_init(&zone, 1024);
  msgpack_unpack_return r =
      msgpack_unpack((const char *)data, size, &offset, &zone, &object);
  msgpack_zone_destroy(&zone);
  return r == MSGPACK_UNPACK_SUCCESS && offset == size;
}

static const struct shape shapes[] = {
  { "\x91", "", 0 },             /* an array, as the only element */
  { "\x92\x01", "", 0 },         /* ... as the last */
  { "\x92", "\x01", 0 },         /* ... as the first */
  { "\x81\xa1k", "", 0 },        /* a map, as the value */
  { "\x81", "\x01", 0 },         /* ... as the key */
  { "\x82\x01\x02\x03", "", 0 }, /* ... as the last value */
  { "\x93\x90\x80", "", 1 },     /* behind empty ones */
};
#define SHAPES (sizeof shapes / sizeof *shapes)

START_TEST(depth_32_is_accepted_and_33_is_too_deep) {
  static uint8_t bytes[1000];
  static const char *const inner[] = { "\x01", "\x90", "\x80", "\x91\x01",
                                       "\x81\x01\x02" };
  for (size_t s = 0; s < SHAPES; s++) {
    for (int i = 0; i < 5; i++) {
      int most = i == 0 ? 32 - shapes[s].deeper : 31;
      size_t size = nest(bytes, most, shapes[s], inner[i]);
      ck_assert_int_eq(scan_whole(bytes, size), 0);
      ck_assert_int_eq(scan_pieces(bytes, size, 1), 0);
      ck_assert(msgpack_accepts(bytes, size));
      size = nest(bytes, most + 1, shapes[s], inner[i]);
      ck_assert_int_eq(scan_whole(bytes, size), FORKQ_ETOODEEP);
      ck_assert_int_eq(scan_pieces(bytes, size, 1), FORKQ_ETOODEEP);
      ck_assert(!msgpack_accepts(bytes, size));
    }
  }
}
END_TEST

START_TEST(depth_counts_what_is_open_not_what_was) {
  static uint8_t bytes[3 + 100 * 100];
  size_t size = 3;
  memcpy(bytes, "\xdc\x00\x64", 3);
  for (size_t i = 0; i < 100; i++) {
    struct shape shape = shapes[i % SHAPES];
    size += nest(bytes + size, 31 - shape.deeper, shape, "\x01");
  }
  ck_assert_int_eq(scan_whole(bytes, size), 0);
  ck_assert(msgpack_accepts(bytes, size));
}
END_TEST

START_TEST(endless_nesting_is_refused_at_once) {
  static uint8_t bytes[1 << 20];
  memset(bytes, 0x91, sizeof bytes);
  ck_assert_int_eq(scan_whole(bytes, sizeof bytes), FORKQ_ETOODEEP);
}
END_TEST

/* ---- random objects, mutated ------------------------------------------------------- */

/* Writes a random object of about `budget` bytes. */
static uint8_t *write_random(uint8_t *p, uint64_t *seed, int depth, uint32_t budget) {
  static const uint8_t sized[] = { 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd9,
                                   0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf };
  uint8_t head = (uint8_t)support_random(seed);
  if (head == 0xc1 || support_random_below(seed, 4) == 0)
    head = sized[support_random_below(seed, sizeof sized)];
  struct format format = format_of(head);
  bool container = format.kind == ARRAY || format.kind == MAP;
  if (container && (depth >= 31 || budget < 2)) {
    *p++ = 0x07;
    return p;
  }
  uint64_t n = format.length_bytes > 0 ? support_random_below(seed, budget < 9 ? 3 : 9)
                                       : format.value;
  p += build(p, head, n);
  if (!container)
    return p;
  uint32_t count = (uint32_t)(format.kind == MAP ? 2 * n : n);
  p -= count;
  for (uint32_t i = 0; i < count; i++)
    p = write_random(p, seed, depth + 1, budget / count);
  return p;
}

static size_t mutate(uint8_t *bytes, size_t size, uint64_t *seed) {
  size_t at = support_random_below(seed, (uint32_t)size);
  switch (support_random_below(seed, 6)) {
  case 0: /* as it is */
    return size;
  case 1:
    return at;
  case 2:
    bytes[at] ^= (uint8_t)(1u << support_random_below(seed, 8));
    return size;
  case 3:
    bytes[at] = (uint8_t)(0xc0 + support_random_below(seed, 0x20));
    return size;
  case 4:
    memmove(bytes + at + 1, bytes + at, size - at);
    bytes[at] = (uint8_t)support_random(seed);
    return size + 1;
  default:
    memmove(bytes + at, bytes + at + 1, size - at - 1);
    return size - 1;
  }
}

/* The places that msgpack-c took from the zone for an object's arrays and maps. */
struct places {
  const char *low;
  const char *high;
  size_t sum;
};

static void add_place(struct places *places, const void *memory, size_t size) {
  const char *low = memory;
  if (size == 0)
    return;
  if (places->low == NULL || low < places->low)
    places->low = low;
  if (low + size > places->high)
    places->high = low + size;
  places->sum += size;
}

static void find_places(struct places *places, const msgpack_object *object) {
  if (object->type == MSGPACK_OBJECT_ARRAY) {
    const msgpack_object_array *array = &object->via.array;
    add_place(places, array->ptr, array->size * sizeof *array->ptr);
    for (uint32_t i = 0; i < array->size; i++)
      find_places(places, &array->ptr[i]);
  } else if (object->type == MSGPACK_OBJECT_MAP) {
    const msgpack_object_map *map = &object->via.map;
    add_place(places, map->ptr, map->size * sizeof *map->ptr);
    for (uint32_t i = 0; i < map->size; i++) {
      find_places(places, &map->ptr[i].key);
      find_places(places, &map->ptr[i].val);
    }
  }
}

/* All of them lie in the chunk that was made for them beforehand: the zone did not grow. */
static void assert_within_first_chunk(const forkq_item_t *item) {
  struct places places = { NULL, NULL, 0 };
  find_places(&places, &item->object);
  const msgpack_zone *zone = item->zone_;
  support_assert(places.sum <= zone->chunk_size);
  const char *end = zone->chunk_list.ptr + zone->chunk_list.free;
  support_assert(places.low == NULL || (places.low >= end - zone->chunk_size &&
                                        places.high <= zone->chunk_list.ptr));
}

static void assert_unpacks(forkq_item_t *item, const uint8_t *bytes, size_t size) {
  bool fresh = item->zone_ == NULL;
  support_assert(forkq__item_reserve(item, size) == 0);
  memcpy(item->memory_, bytes, size);
  forkq__item_finish(item, size);
  support_assert(forkq__item_unpack(item) == 0);
  assert_within_first_chunk(item);
  /* A small multiple of the message, where no larger one came before it. */
  support_assert(!fresh || item->zone_->chunk_size <= 1024 + 48 * size);
  support_assert(msgpack_accepts(bytes, size));
}

START_TEST(scan_agrees_with_the_format_and_with_msgpack) {
  static uint8_t bytes[ROOM];
  static forkq_item_t item;
  uint64_t seed = seed_of_all;
  int accepted = 0;
  for (int i = 0; i < 100000; i++) {
    size_t size =
        (size_t)(write_random(bytes, &seed, 0, support_random_below(&seed, 300)) - bytes);
    for (uint32_t m = support_random_below(&seed, 3); m > 0 && size > 0; m--)
      size = mutate(bytes, size, &seed);
    uint64_t wanted, elements = 0;
    bool valid = expected(bytes, size, &wanted);
    size_t piece = 1 + support_random_below(&seed, 20);
    support_assert((forkq__scan(bytes, size, &elements) == 0) == valid);
    support_assert((scan_pieces(bytes, size, piece) == 0) == valid);
    if (!valid)
      continue;
    support_assert(elements == wanted && elements <= size);
    assert_unpacks(&item, bytes, size);
    if (i % 10 == 0)
      forkq_item_destroy(&item);
    accepted++;
  }
  forkq_item_destroy(&item);
  /* Both verdicts were put to the test. */
  ck_assert_int_gt(accepted, 20000);
  ck_assert_int_lt(accepted, 80000);
}
END_TEST

START_TEST(truncation_at_every_length_is_refused) {
  static uint8_t bytes[ROOM];
  uint64_t seed = seed_of_all;
  for (int i = 0; i < 200; i++) {
    size_t size = (size_t)(write_random(bytes, &seed, 0, 200) - bytes);
    size = size < 500 ? size : 0;
    for (size_t n = 0; n < size; n++)
      support_assert(scan_whole(bytes, n) == FORKQ_EBADOBJECT);
  }
}
END_TEST

START_TEST(pieces_of_every_size_give_the_same_verdict) {
  static uint8_t bytes[ROOM];
  uint64_t seed = seed_of_all + 1;
  for (int i = 0; i < 200; i++) {
    size_t size = (size_t)(write_random(bytes, &seed, 0, 100) - bytes);
    if (i % 2 == 1)
      size = mutate(bytes, size, &seed);
    size = size < 300 ? size : 300;
    bool valid = scan_whole(bytes, size) == 0;
    for (size_t piece = 1; piece <= size; piece++)
      support_assert((scan_pieces(bytes, size, piece) == 0) == valid);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("serializer_scan");
  TCase *scan = tcase_create("scan");
  tcase_set_timeout(scan, 60);
  tcase_add_test(scan, every_first_byte_is_read_to_its_limits);
  tcase_add_test(scan, the_reserved_byte_is_refused);
  tcase_add_test(scan, nothing_is_not_an_object);
  tcase_add_test(scan, a_failed_scan_stays_failed);
  tcase_add_test(scan, elements_are_counted_over_all_containers);
  tcase_add_test(scan, a_count_beyond_the_bytes_is_refused_and_nothing_allocated);
  tcase_add_test(scan, nested_headers_do_not_amplify);
  tcase_add_test(scan, depth_32_is_accepted_and_33_is_too_deep);
  tcase_add_test(scan, depth_counts_what_is_open_not_what_was);
  tcase_add_test(scan, endless_nesting_is_refused_at_once);
  tcase_add_test(scan, truncation_at_every_length_is_refused);
  tcase_add_test(scan, pieces_of_every_size_give_the_same_verdict);
  tcase_add_test(scan, scan_agrees_with_the_format_and_with_msgpack);
  suite_add_tcase(suite, scan);
  return support_main(suite);
}
