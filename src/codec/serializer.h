/* The serializer: which objects and bytes may pass through forkq, checked on the way in and
 * out; and the memory of received items. */
#ifndef FORKQ_SERIALIZER_H
#define FORKQ_SERIALIZER_H

#include <forkq/item.h>
#include <stdbool.h>
#include <stdint.h>

/* A scan checks that bytes, fed in any number of pieces, are exactly one msgpack object that
 * can be received: nothing missing, nothing after it, and nested at most FORKQ_DEPTH_MAX deep.
 * It neither allocates nor recurses, and takes time in proportion to the bytes. */
struct forkq__scan {
  uint64_t skip;       /* bytes of a string, bin, ext or number still to skip */
  uint64_t owed;       /* objects still to come, in all open containers */
  uint64_t elements;   /* objects in containers so far; unpacking needs memory for them */
  uint32_t length;     /* the length or count being read */
  uint8_t length_left; /* bytes of `length` still to come */
  uint8_t head;        /* first byte of the object that `length` belongs to */
  int error;
  int depth;                          /* open containers */
  uint64_t left[FORKQ_DEPTH_MAX + 1]; /* objects still to come at each depth */
};

void forkq__scan_begin(struct forkq__scan *scan);

/* Each returns 0, FORKQ_ETOODEEP or FORKQ_EBADOBJECT. A scan that failed in feed stays failed. */
int forkq__scan_feed(struct forkq__scan *scan, const void *data, size_t size);
int forkq__scan_end(const struct forkq__scan *scan);

/* Scans bytes in one piece. Also refuses a container, at its header, if more objects are then
 * to come than bytes are left. So `elements` is at most `size`. ret_elements may be NULL.
 * Returns 0, FORKQ_ETOODEEP or FORKQ_EBADOBJECT. */
int forkq__scan(const void *data, size_t size, uint64_t *ret_elements);

/* Packs an object. Returns 0, FORKQ_ETOODEEP, FORKQ_EBADOBJECT (a type that msgpack does not
 * have), or -1 if the packer's write failed. */
int forkq__pack(msgpack_packer *packer, const msgpack_object *object);

/* The largest size of one piece of memory: no distance in it is more than ptrdiff_t holds. */
#define FORKQ__MEMORY_MAX ((size_t)PTRDIFF_MAX)

/* Returns the capacity to which memory of `capacity`, at least 1, must grow to have room for
 * `size`: doubled as often as necessary, but at most `most`. 0 if `size` is above `most`. */
size_t forkq__grown(size_t capacity, uint64_t size, size_t most);

/* The memory of an item.
 *   reserve  makes room for `size` bytes in all and keeps the bytes that are there: 0 or -ENOMEM
 *   grow     empties the item and makes room for item->size bytes, to be received: 0 or -ENOMEM
 *   finish   sets item->data and item->size to the first `size` bytes of the memory
 *   unpack   validates the bytes and unpacks them into item->object: 0, FORKQ_EBADFRAME or -ENOMEM
 *   clear    removes object and data, and keeps the memory for the next message */
int forkq__item_reserve(forkq_item_t *item, size_t size);
int forkq__item_grow(forkq_item_t *item);
void forkq__item_finish(forkq_item_t *item, size_t size);
int forkq__item_unpack(forkq_item_t *item);
void forkq__item_clear(forkq_item_t *item);

#endif
