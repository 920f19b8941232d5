/* forkq/item.h: what a get fills in, and packing functions. */
#ifndef FORKQ_ITEM_H
#define FORKQ_ITEM_H

#include <forkq/base.h>
#include <msgpack.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A received item: the object and the memory it lives in.
 *
 * Begin with FORKQ_ITEM_INIT (or zeroed memory), pass the item to any number of gets, and
 * end with forkq_item_destroy. Each get overwrites the previous contents and reuses their
 * memory. Once an item has grown to the size of the messages, a get allocates nothing.
 *
 * `object`  the unpacked object. Its strings, bins and exts point into `data`. Its arrays
 *           and maps live in the item. It is nil after a get that returns bytes only.
 * `data`    the message as msgpack bytes. Borrowed: `data` and `object` are valid until
 *           the item's next get or its destruction, also after the queue is destroyed.
 *           (Those of forkq_queue_get_borrowed are valid for a shorter time.)
 * `size`    the number of bytes in `data`.
 * `redelivered`  how often the item was given before to a process that died without finishing it: see
 *           FORKQ_LOST_TASKS_REDELIVER in forkq/queue.h. Else 0.
 *
 * `data` is aligned for any object, as memory of malloc(3) is. What `object` points to is not, because the
 * bytes of a str, bin or ext come after a head of 1 to 6 bytes: copy a struct out of them with memcpy(3).
 * Plain bytes of a connection have no head (forkq_connection_recv_bytes): a struct can stay where it is.
 *
 * After a failed get, `object` is nil, and `size` is 0 unless the get says otherwise.
 *
 * An item has no lock: only one thread may use it at a time. It may be used with any
 * number of queues. After a fork, parent and child each have their own. Copying the
 * struct does not copy the memory. */
struct forkq__borrow;
typedef struct forkq_item {
  msgpack_object object;
  const char *data;
  size_t size;
  uint32_t redelivered;
  /* private */
  uint64_t task_;
  char *memory_;
  size_t capacity_;
  msgpack_zone *zone_;
  struct forkq__borrow *borrow_;
} forkq_item_t;

#define FORKQ_ITEM_INIT                                                                  \
  { { MSGPACK_OBJECT_NIL, { 0 } }, NULL, 0, 0, 0, NULL, 0, NULL, NULL }

/* Frees the item's memory and resets the item to FORKQ_ITEM_INIT. It can be used for
 * another get. NULL is allowed.
 *
 * Blocks: never.
 * Errors: none. */
FORKQ_API void forkq_item_destroy(forkq_item_t *item);

/* Tells whether the item's bytes are still where the producer packed them, and not a copy: see
 * forkq_queue_get_borrowed.
 *
 * Returns: 1 or 0.
 * Blocks: never.
 * Errors: FORKQ_ENULL.
 * Python: none. */
FORKQ_API int forkq_item_is_borrowed(const forkq_item_t *item);

/* A packing function of the program: it writes exactly one msgpack object through
 * `packer`. `arg` is what the caller passed with the function.
 *
 * Returns: 0, or anything else to give up. The call then fails with FORKQ_EPACK, and
 *   nothing is put or sent. If the function did not write exactly one object, the call
 *   fails with FORKQ_EBADOBJECT.
 *
 * The call runs the function before it returns, on its own thread and stack. A put on a
 * loop may run it twice, if another process takes the room in between. A put holds no
 * lock meanwhile, so other threads and processes continue. The function may take its
 * time, block, and fork. After fork(3) parent and child may both go on packing, each its
 * own message. In a child of _Fork(3) or clone(2), or of a fork that did not get forkq's locks
 * within 0.1 s, the message may be lost, and then its put returns FORKQ_ECLOSED.
 *
 * The function need not return. It may throw a C++ exception, call longjmp(3) to a frame
 * above the call, end its thread (pthread_exit(3)), or be cancelled. Then nothing is put,
 * no room is taken, and the queue stays usable, also for this thread. forkq frees what
 * the function has written: after a longjmp, in the thread's next put or get or at its
 * end, else at once. (For connections see forkq_connection_send_with.) A function that
 * returns must return on the same thread and stack.
 *
 * The function may call the functions of forkq/format.h, such as forkq_packf. Beside these, the function of a
 * put must not call forkq (FORKQ_EPACKING):
 * - Calls on any queue, and calls that create one, fail with FORKQ_EPACKING and have no
 *   effect. Calls that only read numbers (forkq_queue_qsize, _full, _stats) work.
 * - forkq_queue_destroy is not detected. It frees memory that the put still needs.
 * - forkq finds a running packing function by walking the thread's stack. It does not
 *   find one beyond code that was compiled without unwind tables. It does not find one
 *   that waits on another stack of the thread either, in programs with several stacks in
 *   a thread. Then the call in the function succeeds, and the put fails with
 *   FORKQ_EPACKING when the function returns. */
typedef int (*forkq_pack_fn)(msgpack_packer *packer, void *arg);

/* Limits of every object that passes through forkq. They are checked on the way in and on
 * the way out, so everything that goes in comes out. The depth is msgpack-c's
 * MSGPACK_EMBED_STACK_SIZE: msgpack-c packs deeper objects, but does not unpack them. An
 * array in an array has depth 2. */
#define FORKQ_DEPTH_MAX 32
#define FORKQ_MESSAGE_MAX 0x7fffffffu /* bytes */

#ifdef __cplusplus
}
#endif

#endif
