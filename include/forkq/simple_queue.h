/* forkq/simple_queue.h: a queue without bound, thread or timeouts.
 *
 * The counterpart of multiprocessing.SimpleQueue: a put goes through to the pipe before it
 * returns, so nothing is ever buffered in a process, and exit has nothing to send. It is the
 * channel of forkq/queue.h and keeps its promises when a process is killed, forks or exits;
 * lost is at most the message that the dead process was just putting or getting.
 *
 * Every function may be called by any thread and by any process that has the handle. */
#ifndef FORKQ_SIMPLE_QUEUE_H
#define FORKQ_SIMPLE_QUEUE_H

#include <forkq/base.h>
#include <forkq/item.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_simple_queue forkq_simple_queue_t;

/* Creates a queue. The caller owns it, and so does every child that inherits it: each gives
 * it back with forkq_simple_queue_destroy. Errors: FORKQ_ENULL, FORKQ_EPACKING, -ENOMEM,
 * -EMFILE, -ENFILE. Python: multiprocessing.SimpleQueue(). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_create(forkq_simple_queue_t **ret_queue);

/* Puts an object, bytes that are exactly one msgpack object, or what a function packs
 * (forkq/item.h). Blocks while the pipe is full, without limit; other threads of the process
 * that put meanwhile wait for their turn. When it returns 0, the item is in the pipe.
 * Errors, each with nothing put: FORKQ_ECLOSED (also when another thread closes the queue
 * meanwhile), FORKQ_ENULL, FORKQ_ETOODEEP, FORKQ_ETOOBIG, FORKQ_EBADOBJECT, FORKQ_EPACK,
 * FORKQ_EPACKING, FORKQ_ETOOMANY, FORKQ_EBROKEN, -ENOMEM, -EMFILE.
 * Python: SimpleQueue.put(obj). */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put(forkq_simple_queue_t *queue,
                                                      const msgpack_object *object);
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_put_packed(forkq_simple_queue_t *queue, const void *data, size_t size);
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put_with(forkq_simple_queue_t *queue,
                                                           forkq_pack_fn pack, void *arg);

/* Gets an item, unpacked or as bytes only, and waits for it without limit, holding no lock
 * that others need. Errors: FORKQ_ECLOSED (also when another thread closes the queue during
 * the wait; seen within half a second), FORKQ_ENULL, FORKQ_EPACKING, FORKQ_EBADFRAME, -ENOMEM,
 * FORKQ_EBROKEN, as forkq_queue_get has them. Python: SimpleQueue.get(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_get(forkq_simple_queue_t *queue,
                                                      forkq_item_t *item);
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_get_packed(forkq_simple_queue_t *queue,
                                                             forkq_item_t *item);

/* 1 if there is nothing to get, else 0. Errors: FORKQ_ENULL, FORKQ_EPACKING, FORKQ_ECLOSED.
 * Python: SimpleQueue.empty(). */
FORKQ_API int forkq_simple_queue_empty(forkq_simple_queue_t *queue);

/* This process uses the queue no more; all its descriptors are closed. Threads that wait in a
 * put or get return FORKQ_ECLOSED, and this call waits for them. Closing twice is allowed.
 * Errors: FORKQ_ENULL, FORKQ_EPACKING. Python: SimpleQueue.close(). */
FORKQ_API int forkq_simple_queue_close(forkq_simple_queue_t *queue);

/* Closes it and frees the handle. No other thread may be in a call on it, or make one
 * afterwards. NULL is allowed. */
FORKQ_API void forkq_simple_queue_destroy(forkq_simple_queue_t *queue);

#ifdef __cplusplus
}
#endif

#endif
