/* forkq/item.h: what a get fills. */
#ifndef FORKQ_ITEM_H
#define FORKQ_ITEM_H

#include <forkq/base.h>
#include <msgpack.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A received item: the object and the memory it lives in.
 *
 * Begin with FORKQ_ITEM_INIT (or zeroed memory), hand it to as many gets as you like, end
 * with forkq_item_destroy. Each get overwrites what the one before it left, and reuses its
 * memory: once an item has grown to the size of the messages, a get allocates nothing.
 *
 * `object`  the unpacked object. Its strings, bins and exts point into `data`; its arrays
 *           and maps live in the item. Nil after a get that asked for bytes only.
 * `data`    the message as msgpack bytes, `size` of them. Borrowed: valid, like `object`,
 *           until the item's next get or its destruction, also after the queue is destroyed.
 *
 * After a get that failed, `object` is nil, and `size` is 0 but where the get says otherwise.
 * An item is not locked: one thread at a time. It may be used with any number of queues, and
 * after a fork parent and child each have their own. Copying the struct does not copy the
 * memory. */
typedef struct forkq_item {
  msgpack_object object;
  const char *data;
  size_t size;
  /* private */
  char *memory_;
  size_t capacity_;
  msgpack_zone *zone_;
} forkq_item_t;

#define FORKQ_ITEM_INIT                                                                  \
  { { MSGPACK_OBJECT_NIL, { 0 } }, NULL, 0, NULL, 0, NULL }

/* Gives the item's memory back and leaves it as FORKQ_ITEM_INIT does, fit for another get.
 * NULL is allowed. */
FORKQ_API void forkq_item_destroy(forkq_item_t *item);

/* Writes one msgpack object through `packer`; returns 0, or anything else to give up: the
 * call that was given the function then fails with FORKQ_EPACK and nothing was sent.
 *
 * It may be called before the call returns and not after; it runs on the caller's thread,
 * under a lock of the queue, so it must not use any queue (FORKQ_EPACKING, also from
 * create; destroy would hang), fork or block for long. What it packs must be exactly one
 * object, else FORKQ_EBADOBJECT. */
typedef int (*forkq_pack_fn)(msgpack_packer *packer, void *arg);

/* Limits of every object that passes through forkq, checked on the way in as on the way out,
 * so that what goes in comes out. The depth is msgpack-c's (MSGPACK_EMBED_STACK_SIZE, 32:
 * deeper objects pack but do not unpack): an array in an array is depth 2. */
#define FORKQ_DEPTH_MAX 32
#define FORKQ_MESSAGE_MAX 0x7fffffffu

#ifdef __cplusplus
}
#endif

#endif
