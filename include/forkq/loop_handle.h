/* forkq/loop_handle.h: queues between processes, and connections, on a libuv loop.
 *
 * Calls that block in forkq/queue.h and forkq/connection.h are requests here, as in
 * libuv: a call starts a request and returns at once. Later, a callback on the loop's
 * thread reports the result. Any number of processes, threads and loops may have handles
 * on one queue.
 *
 *     static void got(forkq_loop_req_t *req, int status) {
 *       if (status == 0)
 *         use(&item.object);
 *       if (status == 0 || status == FORKQ_EBADFRAME)
 *         (void)forkq_loop_get(req, handle, &item, -1, got);
 *     }
 *     ...
 *     forkq_loop_open_queue(&handle, loop, queue);
 *     forkq_loop_get(&req, handle, &item, -1, got);
 *     uv_run(loop, UV_RUN_DEFAULT);
 *
 * Requests
 *
 *   - The loop calls a callback exactly once if the call returned 0, and never if the
 *     call returned an error. It never calls it from inside the call that started the
 *     request.
 *   - A handle serves requests of one kind in the order of their calls.
 *   - A request that is cancelled or times out has consumed nothing: another request gets
 *     the item.
 *   - The caller owns the request's memory and the item of a get. forkq uses them until
 *     the callback. When the callback runs, the request is free and may be started again.
 *   - A callback's `status` is 0, UV_ECANCELED (the request was cancelled or the handle
 *     was closed), or what the blocking call would have returned.
 *
 * The loop
 *
 *   A pending request or a closing handle keeps the loop alive; an idle open handle does
 *   not. Waiting makes no system calls until an event arrives, with two exceptions. A
 *   waiting put looks for room of dead processes, because nothing reports their death:
 *   soon at first, later ten times a second. A waiting get looks after a shutdown for
 *   items that are still on their way. In one turn of the loop, a handle serves at most
 *   64 requests of a kind, so that other handles get their turn.
 *
 * Threads
 *
 *   A handle and its requests belong to the thread that runs the loop. While no thread
 *   runs it, any one thread at a time may use them. So a program may open a handle and
 *   start requests in one thread, run the loop in another, and continue in a third. A
 *   call from another thread returns FORKQ_EWRONGTHREAD while the loop waits for events,
 *   and while it serves this handle. At other moments such a call is not detected, and
 *   its behaviour is undefined. Any thread may use the queue of a handle.
 *
 * fork
 *
 *   Pending requests stay the parent's. A child that continues with the loop calls
 *   uv_loop_fork, then forkq_loop_fork for each handle.
 *
 * Blocking
 *
 *   No call waits for room, for an item or for a message. A call, or a turn of the loop,
 *   may take some milliseconds longer while another process is in the middle of its own
 *   put or get. If that process is stopped there, it may take some tenths of a second
 *   longer.
 *
 * Packing functions
 *
 *   A packing function must not use a handle. Where this would hang, the call returns
 *   FORKQ_EPACKING. If the function does not return but throws or jumps out, the request
 *   is not started.
 *
 * Signals and cancellation
 *
 *   A signal handler must not call these functions. A thread in uv_run, or in a call on a
 *   handle, must not be cancelled (pthread_cancel(3)): libuv's loop does not survive it.
 *
 * Common errors
 *
 *   Functions that list "the common errors" can return these, with the request not
 *   started:
 *   FORKQ_ENULL         a required argument is NULL
 *   FORKQ_ETIMEOUT      timeout_ms is below -1
 *   FORKQ_EINUSE        the request is pending
 *   FORKQ_ECLOSED       the handle is closing, or the queue or connection is closed
 *   FORKQ_EPACKING      a packing function made the call
 *   FORKQ_EWRONGTHREAD  the call is on another thread than the loop's
 *   FORKQ_EFORKED       the handle is the parent's: forkq_loop_fork was not called
 *   -EINVAL             the handle is of the wrong kind: a connection's instead of a
 *                       queue's, or the reverse
 *
 * Python: there is no counterpart. An asyncio program that needs a multiprocessing.Queue
 *   keeps a thread in get. */
#ifndef FORKQ_LOOP_HANDLE_H
#define FORKQ_LOOP_HANDLE_H

#include <forkq/connection.h>
#include <forkq/item.h>
#include <forkq/queue.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A queue or a connection on a loop. */
typedef struct forkq_loop_handle forkq_loop_handle_t;

typedef struct forkq_loop_req forkq_loop_req_t;

/* Reports the end of a request. See "Requests" above. */
typedef void (*forkq_loop_req_cb)(forkq_loop_req_t *req, int status);

/* Reports that a handle is closed. `arg` is that of forkq_loop_close. */
typedef void (*forkq_loop_close_cb)(void *arg);

/* A request. Begin with FORKQ_LOOP_REQ_INIT (or zeroed memory).
 *
 * `data`  the user's; forkq does not touch it
 * `size`  of forkq_loop_get_bytes_into: the number of bytes, when the callback runs. The user does not
 *         write it. */
struct forkq_loop_req {
  void *data;
  size_t size;
  /* private */
  forkq_loop_handle_t *handle_;
  struct {
    forkq_loop_req_t *tqe_next;
    forkq_loop_req_t **tqe_prev;
  } link_; /* as TAILQ_ENTRY of <sys/queue.h> */
  forkq_loop_req_cb cb_;
  forkq_item_t *item_;
  char *packed_;
  void *buffer_;
  size_t size_;
  int64_t deadline_;
  int kind_;
  int state_;
  int status_;
};

#define FORKQ_LOOP_REQ_INIT                                                              \
  { NULL, 0, NULL, { NULL, NULL }, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/* Opens a handle on a queue. The caller owns *ret_handle and closes it with
 * forkq_loop_close. The caller keeps the queue, and must not destroy it before the handle
 * is closed. If any thread closes the queue before, pending requests end with
 * FORKQ_ECLOSED. A handle uses two descriptors; all handles of a queue share one more.
 *
 * Returns: 0. After a failure nothing is left behind, once the loop has run.
 * Blocks: as forkq_queue_fileno.
 * Errors:
 *   FORKQ_ENULL       a required argument is NULL
 *   FORKQ_ECLOSED     this process has closed the queue
 *   FORKQ_EPACKING    a packing function made the call
 *   FORKQ_ENAMESPACE  this process cannot use the queue (forkq/queue.h)
 *   FORKQ_ENOROBUST   robust mutexes do not work on this system
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM           there is no memory
 *   -EMFILE           the process has no descriptors left
 *   -ENFILE           the system has no descriptors left
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_open_queue(forkq_loop_handle_t **ret_handle,
                                                     uv_loop_t *loop,
                                                     forkq_queue_t *queue);

/* Opens a handle on a connection. The caller owns *ret_handle and closes it with
 * forkq_loop_close. The caller keeps the connection, and closes it after the handle. The
 * handle uses one descriptor. The flags of the connection's descriptor do not change.
 *
 * Returns: 0. After a failure nothing is left behind, once the loop has run.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL       a required argument is NULL
 *   FORKQ_ECLOSED     the connection is closed
 *   FORKQ_EWRITEONLY  the connection does not receive
 *   -EPERM            the connection is on a file that cannot be polled
 *   -ENOMEM           there is no memory
 *   -EMFILE           the process has no descriptors left
 *   -ENFILE           the system has no descriptors left
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_open_connection(forkq_loop_handle_t **ret_handle, uv_loop_t *loop,
                           forkq_connection_t *connection);

/* Starts a request to get an item into `item`, as forkq_queue_get. With timeout 0 it
 * takes what is there. Unlike forkq_queue_get, it does not wait then for an item that
 * this process has just put.
 *
 * Returns: 0.
 * Blocks: see "Blocking".
 * Errors: the common errors, and FORKQ_ENAMESPACE, FORKQ_ENOROBUST and -EDEADLK as in
 *   forkq_queue_get.
 * Status: the item is as after forkq_queue_get.
 *   0                the item was got
 *   UV_ECANCELED     the request was cancelled, or the handle was closed
 *   FORKQ_EMPTY      the queue is empty (timeout 0)
 *   FORKQ_TIMEDOUT   no item arrived within the timeout
 *   FORKQ_ESHUTDOWN  the queue is shut down, and nothing is left to get
 *   FORKQ_EALONE     nothing is left to get, and no process is left that could put: see
 *                    forkq_queue_close_put
 *   FORKQ_ECLOSED    this process has closed the queue
 *   other            FORKQ_EBADFRAME, FORKQ_ETOOMANY, FORKQ_EUNDONE, FORKQ_EBROKEN, -ENOMEM and others,
 *                    as in forkq_queue_get
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get(forkq_loop_req_t *req,
                                              forkq_loop_handle_t *handle,
                                              forkq_item_t *item, int timeout_ms,
                                              forkq_loop_req_cb cb);

/* Starts a request to get an item as bytes, as forkq_queue_get_packed. Everything else is
 * as in forkq_loop_get, including errors and status.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get_packed(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     forkq_item_t *item, int timeout_ms,
                                                     forkq_loop_req_cb cb);

/* Starts a request to get an item without a copy of a large str, bin or ext, as
 * forkq_queue_get_borrowed. What is borrowed is in use from the callback on, until the item's next get, its
 * destruction, or the close of the queue by this process. Closing the handle does not end it. Everything
 * else is as in forkq_loop_get, including errors and status.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get_borrowed(forkq_loop_req_t *req,
                                                       forkq_loop_handle_t *handle,
                                                       forkq_item_t *item, int timeout_ms,
                                                       forkq_loop_req_cb cb);

/* Starts a request to get the bytes of a bin or a str into `buffer`, which has room for `length`, as
 * forkq_queue_get_bytes_into. The caller owns the buffer, and forkq uses it until the callback. It may be
 * NULL if `length` is 0. An item that does not fit, or is of another type, ends the request, and stays the
 * next one to be got.
 *
 * Returns, Blocks: as forkq_loop_get.
 * Errors: those of forkq_loop_get, and:
 *   FORKQ_ENULL  `buffer` is NULL, and `length` is not 0
 * Status: unless it is 0, the buffer is as it was.
 *   0                 the bytes are in the buffer. req->size is their number.
 *   FORKQ_ETOOSHORT   the buffer is too short. req->size is the length that the item needs.
 *   FORKQ_EWRONGTYPE  the next item is neither a bin nor a str
 *   other             as in forkq_loop_get
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get_bytes_into(forkq_loop_req_t *req,
                                                         forkq_loop_handle_t *handle,
                                                         void *buffer, size_t length,
                                                         int timeout_ms,
                                                         forkq_loop_req_cb cb);

/* Starts a request to put an object, as forkq_queue_put. The object is packed before the
 * call returns and may be changed or freed then. If the put must wait for room, the
 * packed bytes are copied once more.
 *
 * Returns: 0.
 * Blocks: see "Blocking".
 * Errors: the common errors, and those of forkq_queue_put except FORKQ_FULL and
 *   FORKQ_TIMEDOUT. Nothing is put.
 * Status: unless it is 0, nothing is put.
 *   0                the item was accepted
 *   UV_ECANCELED     the request was cancelled, or the handle was closed
 *   FORKQ_FULL       the queue is full (timeout 0)
 *   FORKQ_TIMEDOUT   the queue was full for the whole timeout
 *   FORKQ_ESHUTDOWN  the queue is shut down
 *   FORKQ_ECLOSED    this process has closed the queue, or its puts
 *   other            FORKQ_EBROKEN, -ENOMEM and others, as in forkq_queue_put
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put(forkq_loop_req_t *req,
                                              forkq_loop_handle_t *handle,
                                              const msgpack_object *object,
                                              int timeout_ms, forkq_loop_req_cb cb);

/* Starts a request to put bytes that are exactly one msgpack object, as
 * forkq_queue_put_packed. Everything else is as in forkq_loop_put, with the errors of
 * forkq_queue_put_packed.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_packed(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     const void *data, size_t size,
                                                     int timeout_ms,
                                                     forkq_loop_req_cb cb);

/* Starts a request to put what `pack` writes, as forkq_queue_put_with. Everything else is
 * as in forkq_loop_put, with the errors of forkq_queue_put_with. `pack` may run twice
 * (forkq/item.h). It runs before the call returns.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_with(forkq_loop_req_t *req,
                                                   forkq_loop_handle_t *handle,
                                                   forkq_pack_fn pack, void *arg,
                                                   int timeout_ms, forkq_loop_req_cb cb);

/* Starts a request to put one plain value, as forkq_queue_put_bytes, forkq_queue_put_str,
 * forkq_queue_put_int and forkq_queue_put_nil. The call takes the bytes before it returns: `data` and `text`
 * stay the caller's, and may be changed or freed then. Everything else is as in forkq_loop_put, including
 * errors and status.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_bytes(forkq_loop_req_t *req,
                                                    forkq_loop_handle_t *handle,
                                                    const void *data, size_t size,
                                                    int timeout_ms, forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_str(forkq_loop_req_t *req,
                                                  forkq_loop_handle_t *handle,
                                                  const char *text, int timeout_ms,
                                                  forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_int(forkq_loop_req_t *req,
                                                  forkq_loop_handle_t *handle,
                                                  int64_t value, int timeout_ms,
                                                  forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_nil(forkq_loop_req_t *req,
                                                  forkq_loop_handle_t *handle,
                                                  int timeout_ms, forkq_loop_req_cb cb);

/* Starts a request to receive an object into `item`, as forkq_connection_recv. While a
 * receive is pending, nothing else may receive on the connection.
 *
 * A turn of the loop takes what has arrived of a message, up to 64 KiB for all receives
 * of the handle together. The rest follows in later turns. With timeout 0, a message that
 * has arrived is received completely, in as many turns as it needs. When the request is
 * cancelled or times out, the part that has arrived stays with the connection, and the
 * next receive continues with it.
 *
 * Returns: 0.
 * Blocks: see "Blocking".
 * Errors: the common errors, and:
 *   FORKQ_EWRITEONLY  the connection does not receive
 * Status:
 *   0               the message was received
 *   UV_ECANCELED    the request was cancelled, or the handle was closed
 *   FORKQ_EMPTY     no complete message is there (timeout 0)
 *   FORKQ_TIMEDOUT  no complete message arrived within the timeout
 *   other           the errors of forkq_connection_recv
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_recv(forkq_loop_req_t *req,
                                               forkq_loop_handle_t *handle,
                                               forkq_item_t *item, int timeout_ms,
                                               forkq_loop_req_cb cb);

/* Starts a request to receive plain bytes, as forkq_connection_recv_bytes with
 * `maxlength`. Everything else is as in forkq_loop_recv. The status can have the errors
 * of forkq_connection_recv_bytes.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_recv_bytes(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     forkq_item_t *item, size_t maxlength,
                                                     int timeout_ms,
                                                     forkq_loop_req_cb cb);

/* Cancels a pending request. Its callback comes with UV_ECANCELED, in a later turn of the
 * loop.
 *
 * Returns: 0. After a failure the request is as it was.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL         `req` is NULL
 *   FORKQ_ENOTPENDING   the request was never started, was called back, was cancelled
 *                       before, or is already decided: a put that found room at once is
 *                       done, and only its callback is due
 *   FORKQ_EWRONGTHREAD  the call is on another thread than the loop's
 *   FORKQ_EFORKED       the handle is the parent's: forkq_loop_fork was not called
 * Python: none. */
FORKQ_API int forkq_loop_cancel(forkq_loop_req_t *req);

/* Closes and frees a handle. The callbacks of pending requests come with UV_ECANCELED,
 * then `cb` (may be NULL) with `arg`. None of them comes from inside this call.
 *
 * Returns: 0.
 * Blocks: see "Blocking".
 * Errors:
 *   FORKQ_ENULL         `handle` is NULL
 *   FORKQ_ECLOSED       the handle is already closing
 *   FORKQ_EPACKING      a packing function made the call
 *   FORKQ_EWRONGTHREAD  the call is on another thread than the loop's
 * Python: none. */
FORKQ_API int forkq_loop_close(forkq_loop_handle_t *handle, forkq_loop_close_cb cb,
                               void *arg);

/* Makes the handle the child's, in a child of a fork that continues with the loop. Call
 * it after uv_loop_fork and before any other call on the handle. A child that does not
 * use the loop need not call it.
 *
 * The parent serves the pending requests. In the child, each of these requests is called
 * back with UV_ECANCELED. Until this call, requests can be neither started nor cancelled
 * (FORKQ_EFORKED). forkq_loop_close works as usual.
 *
 * Returns: 0.
 * Blocks: see "Blocking".
 * Errors:
 *   FORKQ_ENULL  `handle` is NULL
 *   -EINVAL      there was no fork since this process opened the handle or made it its
 *                own
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_fork(forkq_loop_handle_t *handle);

#ifdef __cplusplus
}
#endif

#endif
