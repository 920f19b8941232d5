/* The received item: its memory, and unpacking its bytes. */
#ifndef FORKQ_ITEM_IMPL_H
#define FORKQ_ITEM_IMPL_H

#include "base/os.h"
#include "codec/borrow.h"

#include <forkq/item.h>
#include <string.h>

/* The largest size of one piece of memory: no distance in it is more than ptrdiff_t holds. */
#define FORKQ__MEMORY_MAX ((size_t)PTRDIFF_MAX)

/* Returns the capacity to which memory of `capacity`, at least 1, must grow to have room for
 * `size`: doubled as often as necessary, but at most `most`. 0 if `size` is above `most`. */
size_t forkq__grown(size_t capacity, uint64_t size, size_t most);

/* The head of a str, bin or ext of `size` bytes: its payload has `length` bytes and comes after `before`.
 * `head` has the first FORKQ__RAW_HEAD bytes, or all. Returns false if it is anything else, or shorter or
 * longer. */
#define FORKQ__RAW_HEAD 6u
struct forkq__raw {
  msgpack_object_type type;
  uint32_t before, length;
  int8_t ext;
};
bool forkq__raw_read(const uint8_t *head, size_t size, struct forkq__raw *ret_raw);

/* Sets the item to bytes that it borrows, and its object to the str, bin or ext that they are. Returns
 * false, and changes nothing, if they are anything else. The bytes may change at any time, to anything;
 * the object is checked, and stays as it is. */
bool forkq__item_lend(forkq_item_t *item, const uint8_t *data, size_t size);

static inline bool forkq__item_is_borrowed(const forkq_item_t *item) {
  return item->borrow_ != NULL && item->borrow_->end != NULL;
}

/* The memory of an item.
 *   reserve  makes room for `size` bytes in all and keeps the bytes that are there: 0 or -ENOMEM
 *   grow     empties the item and makes room for item->size bytes, to be received: 0 or -ENOMEM
 *   set      copies `size` bytes into it: 0, or FORKQ__GROW if it has no room for them
 *   ask      notes how much room it needs, for grow: FORKQ__GROW
 *   finish   sets item->data and item->size to the first `size` bytes of the memory
 *   unpack   validates the bytes and unpacks them into item->object: 0, FORKQ_EBADFRAME or -ENOMEM
 *   clear    removes object and data, ends a borrow, and keeps the memory for the next message */
int forkq__item_reserve(forkq_item_t *item, size_t size);
int forkq__item_grow(forkq_item_t *item);
static inline int forkq__item_set(forkq_item_t *item, const void *data, size_t size);
static inline int forkq__item_ask(forkq_item_t *item, size_t size);
void forkq__item_finish(forkq_item_t *item, size_t size);
int forkq__item_unpack(forkq_item_t *item);
void forkq__item_clear(forkq_item_t *item);

static inline int forkq__item_ask(forkq_item_t *item, size_t size) {
  item->size = size;
  return FORKQ__GROW;
}

static inline int forkq__item_set(forkq_item_t *item, const void *data, size_t size) {
  if (size > item->capacity_)
    return forkq__item_ask(item, size);
  memcpy(item->memory_, data, size);
  forkq__item_finish(item, size);
  return 0;
}

#endif
