/* forkq/simple_queue.h: a queue without bound, feeder thread or timeouts.
 *
 * The counterpart of multiprocessing.SimpleQueue. A put writes to the pipe before it
 * returns. So a process never buffers items, and exit has nothing to send. The queue uses
 * the same channel as forkq/queue.h and keeps the same promises when a process is killed,
 * forks or exits. A dead process loses at most the message that it was putting or
 * getting. Messages of 512 bytes and more lie in shared memory beside the pipe, up to 64 MiB
 * of each process that puts; a process gives that memory back when it closes the queue or
 * ends.
 *
 * Any thread of any process that has the handle may call any function. The common errors
 * are those of forkq/queue.h. */
#ifndef FORKQ_SIMPLE_QUEUE_H
#define FORKQ_SIMPLE_QUEUE_H

#include <forkq/base.h>
#include <forkq/item.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_simple_queue forkq_simple_queue_t;

/* Creates a queue. The caller owns *ret_queue, and so does every child that inherits it.
 * Each destroys it with forkq_simple_queue_destroy.
 *
 * Returns, Blocks, Errors: as forkq_queue_create.
 * Python: multiprocessing.SimpleQueue(). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_create(forkq_simple_queue_t **ret_queue);

/* Puts one object.
 *
 * Returns: 0 when the item is in the pipe. After a failure nothing is put.
 * Blocks: while the pipe is full, without limit, and while other threads of the process
 *   put.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED     this process has closed the queue, or its puts, perhaps during the wait
 *   FORKQ_EINTERRUPTED  see forkq_simple_queue_interrupt
 *   FORKQ_ETOODEEP    the object is nested deeper than FORKQ_DEPTH_MAX
 *   FORKQ_ETOOBIG     the message is larger than FORKQ_MESSAGE_MAX
 *   FORKQ_EBADOBJECT  the object has a type that msgpack does not have
 *   FORKQ_ETOOMANY    4096 processes have put and not closed the queue
 *   FORKQ_EBROKEN     the shared memory is damaged
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM, -ENOSPC  there is no memory
 *   -EMFILE           the process has no descriptors left
 *   -EBADF            the program has closed the queue's descriptors
 * Python: SimpleQueue.put(obj). */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put(forkq_simple_queue_t *queue,
                                                      const msgpack_object *object);

/* Puts `size` bytes that are exactly one msgpack object. The call validates them. `data`
 * stays the caller's.
 *
 * Returns, Blocks, Errors: as forkq_simple_queue_put, and:
 *   FORKQ_EBADOBJECT  the bytes are not exactly one msgpack object
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_put_packed(forkq_simple_queue_t *queue, const void *data, size_t size);

/* Puts the object that `pack` writes (forkq/item.h), called with `arg`.
 *
 * Returns, Blocks, Errors: as forkq_simple_queue_put, and:
 *   FORKQ_EPACK       `pack` returned nonzero
 *   FORKQ_EBADOBJECT  `pack` did not write exactly one object
 *   FORKQ_EPACKING    `pack` called forkq, and forkq noticed this only afterwards
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put_with(forkq_simple_queue_t *queue,
                                                           forkq_pack_fn pack, void *arg);

/* Puts one plain value: bytes as a bin, a string up to its NUL as a str, an integer, or nil. Everything else
 * about the value is as in forkq_queue_put_bytes.
 *
 * Returns, Blocks, Errors: as forkq_simple_queue_put.
 * Python: SimpleQueue.put(data), .put(text), .put(value), .put(None). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_put_bytes(forkq_simple_queue_t *queue, const void *data, size_t size);
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put_str(forkq_simple_queue_t *queue,
                                                          const char *text);
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put_int(forkq_simple_queue_t *queue,
                                                          int64_t value);
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_put_nil(forkq_simple_queue_t *queue);

/* Gets one item: the unpacked object in item->object, and its bytes in item->data.
 *
 * Returns: 0.
 * Blocks: until an item arrives, without limit. It holds no lock that others need.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED    this process has closed the queue. A waiting get notices within 500
 *                    ms.
 *   FORKQ_EINTERRUPTED  see forkq_simple_queue_interrupt
 *   FORKQ_EALONE     nothing is left to get, and no process is left that could put: only after
 *                    forkq_simple_queue_close_put
 *   FORKQ_EBADFRAME  as in forkq_queue_get
 *   FORKQ_EBROKEN    the shared memory is damaged
 *   -ENOMEM          as in forkq_queue_get
 *   other            a negative errno, as in forkq_queue_get
 * Python: SimpleQueue.get(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_get(forkq_simple_queue_t *queue,
                                                      forkq_item_t *item);

/* Gets one item as bytes: item->data and item->size. The call neither unpacks nor checks
 * them.
 *
 * Returns, Blocks, Errors: as forkq_simple_queue_get.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_get_packed(forkq_simple_queue_t *queue,
                                                             forkq_item_t *item);

/* Gets one item without a copy of a large str, bin or ext: see forkq_queue_get_borrowed.
 *
 * Returns, Blocks, Errors: as forkq_simple_queue_get.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_get_borrowed(forkq_simple_queue_t *queue, forkq_item_t *item);

/* Gets one item that is a bin or a str, and copies its bytes into `buffer`, which has room for `length`: see
 * forkq_queue_get_bytes_into.
 *
 * Returns: 0.
 * Blocks: as forkq_simple_queue_get.
 * Errors: those of forkq_simple_queue_get, and:
 *   FORKQ_ETOOSHORT   the buffer is too short. *ret_size (may be NULL) is the length that the item needs.
 *   FORKQ_EWRONGTYPE  the next item is neither a bin nor a str
 *   FORKQ_ENULL       `buffer` is NULL, and `length` is not 0
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_get_bytes_into(forkq_simple_queue_t *queue, void *buffer,
                                  size_t length, size_t *ret_size);

/* Sends the queue over a connected Unix stream socket: see forkq_queue_send.
 *
 * Returns, Blocks, Errors: as forkq_queue_send.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_simple_queue_send(forkq_simple_queue_t *queue,
                                                       int socket);

/* Receives a queue that forkq_simple_queue_send sent, and opens it. The caller owns *ret_queue and keeps the
 * socket: see forkq_queue_receive.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_receive.
 * Errors: those of forkq_queue_receive, and, with everything that arrived taken and closed:
 *   FORKQ_EHANDOVER  the queue is one of forkq/queue.h with a maxsize, or is joinable
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_simple_queue_receive(forkq_simple_queue_t **ret_queue, int socket);

/* Tells whether there is nothing to get.
 *
 * Returns: 1 if there is nothing, else 0.
 * Blocks: as forkq_queue_qsize.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED  this process has closed the queue
 * Python: SimpleQueue.empty(). */
FORKQ_API int forkq_simple_queue_empty(forkq_simple_queue_t *queue);

/* Interrupts this process's puts and gets, each thread once: see forkq_queue_interrupt. A get returns at
 * once, a put within 0.5 s. If it had begun to write a large message, readers discard the partial message.
 * Async-signal-safe.
 *
 * Returns: 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `queue` is NULL
 * Python: none. */
FORKQ_API int forkq_simple_queue_interrupt(forkq_simple_queue_t *queue);

/* Ends the puts of this process, which goes on getting, until FORKQ_EALONE: see forkq_queue_close_put. A put
 * that another thread has begun goes on.
 *
 * Returns: 0.
 * Blocks: never for the pipe.
 * Errors:
 *   FORKQ_ECLOSED   this process has closed the queue
 *   FORKQ_ENULL     `queue` is NULL
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        see "Signals" in forkq/base.h
 * Python: SimpleQueue._writer.close(), which is private. */
FORKQ_API int forkq_simple_queue_close_put(forkq_simple_queue_t *queue);

/* Closes the queue for this process, with all its descriptors but the one of interrupts. Threads that wait in a put
 * or get return FORKQ_ECLOSED. Closing twice is allowed.
 *
 * Returns: 0.
 * Blocks: until these threads have left their calls.
 * Errors:
 *   FORKQ_ENULL     `queue` is NULL
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        see "Signals" in forkq/base.h
 * Python: SimpleQueue.close(). */
FORKQ_API int forkq_simple_queue_close(forkq_simple_queue_t *queue);

/* Closes the queue and frees the handle. NULL is allowed. No other thread may use the
 * handle, then or later. In a handler it behaves as forkq_queue_destroy.
 *
 * Blocks: as forkq_simple_queue_close.
 * Errors: none.
 * Python: none; the garbage collector does it. */
FORKQ_API void forkq_simple_queue_destroy(forkq_simple_queue_t *queue);

#ifdef __cplusplus
}
#endif

#endif
