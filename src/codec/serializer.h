/* Objects and their bytes: what may pass through forkq, checked on the way in and out. */
#ifndef FORKQ_SERIALIZER_H
#define FORKQ_SERIALIZER_H

#include <forkq/item.h>
#include <stdbool.h>
#include <stdint.h>

/* Checks that bytes, handed over in any number of pieces, are exactly one msgpack object that
 * can be received: nothing missing, nothing behind it, nested at most FORKQ_DEPTH_MAX deep.
 * Neither allocates nor recurses, and takes time in proportion to the bytes. */
struct forkq__scan {
  uint64_t skip;       /* bytes of a string, bin, ext or number still to pass over */
  uint64_t owed;       /* objects still to come, over all open containers */
  uint64_t elements;   /* objects in containers so far: what unpacking needs memory for */
  uint32_t length;     /* the length or count being read */
  uint8_t length_left; /* bytes of it still to come */
  uint8_t head;        /* first byte of the object whose length this is */
  int error;
  int depth;                          /* containers open */
  uint64_t left[FORKQ_DEPTH_MAX + 1]; /* objects still owed at each depth */
};

void forkq__scan_begin(struct forkq__scan *scan);

/* 0, FORKQ_ETOODEEP or FORKQ_EBADOBJECT; once it failed it stays failed. */
int forkq__scan_feed(struct forkq__scan *scan, const void *data, size_t size);
int forkq__scan_end(const struct forkq__scan *scan);

/* All of it at once, for bytes in one piece. Also refuses, at the header, a container that
 * declares more objects than there are bytes left, so that `elements` is at most `size`.
 * ret_elements may be NULL. */
int forkq__scan(const void *data, size_t size, uint64_t *ret_elements);

/* Packs an object: 0, FORKQ_ETOODEEP, FORKQ_EBADOBJECT (a type that msgpack does not have),
 * or -1 where the packer's write failed. */
int forkq__pack(msgpack_packer *packer, const msgpack_object *object);

/* The most that one piece of memory has: no distance in it is more than ptrdiff_t holds. */
#define FORKQ__MEMORY_MAX ((size_t)PTRDIFF_MAX)

/* What memory of `capacity`, at least 1, grows to so that it has room for `size`: it is doubled,
 * as often as need be, but to no more than `most`. 0: `size` is more than that. */
size_t forkq__grown(size_t capacity, uint64_t size, size_t most);

/* Item memory. reserve: room for `size` bytes in all, keeping what is there; 0 or -ENOMEM.
 * grow: for item->size bytes, which are to be received; afterwards it holds nothing.
 * finish: gives item->data and item->size the `size` bytes at its memory.
 * unpack: validates them and unpacks them into item->object; 0, FORKQ_EBADFRAME, -ENOMEM.
 * clear: no object, no data; the memory is kept for the next message. */
int forkq__item_reserve(forkq_item_t *item, size_t size);
int forkq__item_grow(forkq_item_t *item);
void forkq__item_finish(forkq_item_t *item, size_t size);
int forkq__item_unpack(forkq_item_t *item);
void forkq__item_clear(forkq_item_t *item);

#endif
