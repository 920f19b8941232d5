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

void forkq__item_clear(forkq_item_t *item) {
  item->object.type = MSGPACK_OBJECT_NIL;
  item->data = NULL;
  item->size = 0;
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
  forkq__free(item->memory_);
  item->memory_ = NULL;
  item->capacity_ = 0;
  if (item->zone_ != NULL)
    msgpack_zone_free(item->zone_);
  item->zone_ = NULL;
}
