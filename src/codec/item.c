/* The received item: its memory, and unpacking its bytes. */
#include "codec/item.h"
#include "base/heap.h"
#include "codec/serializer.h"

#include <errno.h>

/* The least size of a zone's first chunk. When msgpack-c clears a zone, it keeps the first
 * chunk and frees the others. So the first chunk is made to hold the whole object, and the next
 * message of that size allocates nothing. */
#define FIRST_ZONE_SIZE 1024

/* The first capacity of an item's memory for bytes, which then doubles. */
#define FIRST_CAPACITY 256

size_t forkq__grown(size_t capacity, uint64_t size, size_t most) {
  if (size > most)
    return 0;
  while (capacity < size)
    capacity = capacity <= most / 2 ? capacity * 2 : most;
  return capacity;
}

int forkq__item_reserve(forkq_item_t *item, size_t size) {
  if (size <= item->capacity_)
    return 0;
  size_t capacity = item->capacity_ < FIRST_CAPACITY ? FIRST_CAPACITY : item->capacity_;
  capacity = forkq__grown(capacity, size, FORKQ__MEMORY_MAX);
  char *memory = capacity > 0 ? forkq__realloc(item->memory_, capacity) : NULL;
  if (memory == NULL)
    return -ENOMEM;
  item->memory_ = memory;
  item->capacity_ = capacity;
  return 0;
}

int forkq__item_grow(forkq_item_t *item) {
  size_t size = item->size;
  forkq__item_clear(item);
  return forkq__item_reserve(item, size);
}

void forkq__item_finish(forkq_item_t *item, size_t size) {
  item->data = item->memory_;
  item->size = size;
}

bool forkq__borrow_end(struct forkq__borrow *borrow) {
  bool held = borrow->end == NULL || borrow->end(borrow);
  borrow->end = NULL;
  borrow->wanted = false;
  return held;
}

int forkq_item_is_borrowed(const forkq_item_t *item) {
  return item != NULL ? forkq__item_is_borrowed(item) : FORKQ_ENULL;
}

void forkq__item_clear(forkq_item_t *item) {
  if (item->borrow_ != NULL)
    (void)forkq__borrow_end(item->borrow_);
  item->object.type = MSGPACK_OBJECT_NIL;
  item->data = NULL;
  item->size = 0;
  item->redelivered = 0;
  item->task_ = 0;
}

/* msgpack-c takes one msgpack_object from the zone for each element of an array, two for each
 * pair of a map, and nothing else: strings stay where they are. There are at most as many
 * elements as bytes, so the product fits in 64 bits. It may not fit in a smaller size_t. */
static int prepare_zone(forkq_item_t *item, uint64_t elements) {
  size_t size =
      forkq__grown(FIRST_ZONE_SIZE, elements * sizeof(msgpack_object), FORKQ__MEMORY_MAX);
  if (size == 0)
    return -ENOMEM;
  if (item->zone_ != NULL && item->zone_->chunk_size >= size) {
    msgpack_zone_clear(item->zone_);
    return 0;
  }
  if (item->zone_ != NULL)
    msgpack_zone_free(item->zone_);
  item->zone_ = msgpack_zone_new(size);
  return item->zone_ != NULL ? 0 : -ENOMEM;
}

/* How a str, bin or ext begins: what it is, and the bytes of its length and of a type. */
static const struct head {
  uint8_t first;
  uint8_t length, ext;
  msgpack_object_type type;
} heads[] = {
  { 0xc4, 1, 0, MSGPACK_OBJECT_BIN }, { 0xc5, 2, 0, MSGPACK_OBJECT_BIN },
  { 0xc6, 4, 0, MSGPACK_OBJECT_BIN }, { 0xc7, 1, 1, MSGPACK_OBJECT_EXT },
  { 0xc8, 2, 1, MSGPACK_OBJECT_EXT }, { 0xc9, 4, 1, MSGPACK_OBJECT_EXT },
  { 0xd9, 1, 0, MSGPACK_OBJECT_STR }, { 0xda, 2, 0, MSGPACK_OBJECT_STR },
  { 0xdb, 4, 0, MSGPACK_OBJECT_STR },
};

static const struct head *head_of(uint8_t first) {
  for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
    if (heads[i].first == first)
      return &heads[i];
  return NULL;
}

static uint32_t big_endian(const uint8_t *bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++)
    value = value << 8 | bytes[i];
  return value;
}

/* A str of up to 31 bytes has its length in the first byte; an ext of a power of two up to 16, too. */
static bool read_short(const uint8_t *head, size_t size, struct forkq__raw *ret_raw) {
  if ((head[0] & 0xe0) == 0xa0)
    *ret_raw = (struct forkq__raw){ MSGPACK_OBJECT_STR, 1, head[0] & 0x1fu, 0 };
  else if (head[0] >= 0xd4 && head[0] <= 0xd8 && size > 1)
    *ret_raw = (struct forkq__raw){ MSGPACK_OBJECT_EXT, 2, 1u << (head[0] - 0xd4),
                                    (int8_t)head[1] };
  else
    return false;
  return size - ret_raw->before == ret_raw->length;
}

bool forkq__raw_read(const uint8_t *bytes, size_t size, struct forkq__raw *ret_raw) {
  const struct head *head = size > 0 ? head_of(bytes[0]) : NULL;
  if (head == NULL)
    return size > 0 && read_short(bytes, size, ret_raw);
  uint32_t before = 1u + head->length + head->ext;
  if (size < before)
    return false;
  *ret_raw = (struct forkq__raw){
    .type = head->type,
    .before = before,
    .length = big_endian(bytes + 1, head->length),
    .ext = (int8_t)bytes[before - 1],
  };
  return size - before == ret_raw->length;
}

static void set_raw(msgpack_object *object, const struct forkq__raw *raw,
                    const char *data) {
  object->type = raw->type;
  if (raw->type == MSGPACK_OBJECT_STR)
    object->via.str = (msgpack_object_str){ raw->length, data };
  else if (raw->type == MSGPACK_OBJECT_BIN)
    object->via.bin = (msgpack_object_bin){ raw->length, data };
  else
    object->via.ext = (msgpack_object_ext){ raw->ext, raw->length, data };
}

/* Each byte of the head is read once. */
bool forkq__item_lend(forkq_item_t *item, const uint8_t *data, size_t size) {
  uint8_t head[FORKQ__RAW_HEAD] = { 0 };
  struct forkq__raw raw;
  for (size_t i = 0; i < sizeof head && i < size; i++)
    head[i] = ((const volatile uint8_t *)data)[i];
  if (!forkq__raw_read(head, size, &raw))
    return false;
  item->data = (const char *)data;
  item->size = size;
  set_raw(&item->object, &raw, item->data + raw.before);
  return true;
}

int forkq__item_unpack(forkq_item_t *item) {
  uint64_t elements;
  if (forkq__scan(item->data, item->size, &elements) != 0)
    return FORKQ_EBADFRAME;
  int r = prepare_zone(item, elements);
  if (r < 0)
    return r;
  size_t offset = 0;
  switch (msgpack_unpack(item->data, item->size, &offset, item->zone_, &item->object)) {
  case MSGPACK_UNPACK_SUCCESS:
    return 0;
  case MSGPACK_UNPACK_NOMEM_ERROR:
    r = -ENOMEM;
    break;
  default:
    r = FORKQ_EBADFRAME;
    break;
  }
  item->object.type = MSGPACK_OBJECT_NIL;
  return r;
}

void forkq_item_destroy(forkq_item_t *item) {
  if (item == NULL)
    return;
  forkq__item_clear(item);
  forkq__free(item->borrow_);
  item->borrow_ = NULL;
  forkq__free(item->memory_);
  item->memory_ = NULL;
  item->capacity_ = 0;
  if (item->zone_ != NULL)
    msgpack_zone_free(item->zone_);
  item->zone_ = NULL;
}
