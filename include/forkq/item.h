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
 * call that was given the function then fails with FORKQ_EPACK, and nothing was put or sent.
 * What it packs must be exactly one object, else the call fails with FORKQ_EBADOBJECT.
 *
 * The call that is given the function runs it on its own thread and stack, before it returns
 * and not after. (A put on a loop may run it twice, where another process takes the room in
 * between.) A put holds no lock meanwhile: other threads and processes go on. So the function
 * may take its time, block, and fork.
 *
 * It need not return. It may leave by a C++ exception, by longjmp(3) to a frame above the call,
 * with the end of its thread (pthread_exit(3)), or because the thread is cancelled in it. Then
 * nothing was put, no room is taken, and the queue can be used, by this thread as well. What
 * the function had written is freed, after a longjmp by the thread's next put, get or end.
 * (What holds for a connection is in forkq/connection.h.)
 *
 * If it returns, it returns on the stack on which it was called, and on the same thread.
 *
 * FORKQ_EPACKING  A put must make no call of forkq's in its function. Calls on any queue, and
 *                 those that create one, fail with FORKQ_EPACKING, and nothing has happened;
 *                 those that only look at numbers (forkq_queue_qsize, _full, _stats) work.
 *                 Nothing notices a forkq_queue_destroy, which frees what the put needs.
 *                 That a function runs is found by going through the stack of the thread. In
 *                 two cases it is not found: beyond code that was compiled without unwind
 *                 tables, and where the program has several stacks in a thread and the
 *                 function waits on another one. Then the call in the function succeeds, and
 *                 the put that runs the function fails with FORKQ_EPACKING instead when the
 *                 function returns. */
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
