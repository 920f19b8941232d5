/* The serializer: which objects and bytes may pass through forkq, checked on the way in and
 * out. */
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

#endif
