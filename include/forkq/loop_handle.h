/* forkq/loop_handle.h: queues between processes, and connections, on a libuv loop.
 *
 * What blocks in forkq/queue.h and forkq/connection.h is here a request, as libuv has them: a
 * call starts it and comes back at once, and a callback on the loop's thread says how it went.
 * Any number of processes, threads and loops may have handles on one queue.
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
 * What holds for all requests
 *
 *   - A callback is called by the loop, never from inside the call that started its request:
 *     exactly once for a call that returned 0, never for one that returned an error.
 *   - Requests of one kind and handle are served in the order of their calls.
 *   - A request that is cancelled or whose time is over has consumed nothing: an item that it
 *     might have got is got by another.
 *   - The request's memory, and the item of a get, are the caller's, and forkq uses them until
 *     the callback. When it is called the request is free again, also to be started anew.
 *   - The loop stays alive while a request is pending or a handle is closing, and not because
 *     of an open handle that is idle. A handle that waits makes no system call until something
 *     happens; but while a put waits, room that dead processes held is looked for, soon at
 *     first, then ten times a second, because nobody reports their death; and so is, after a
 *     shutdown, what is still to come to a get.
 *   - In one turn of the loop a handle serves at most 64 requests of a kind, so that other
 *     handles have theirs.
 *   - A callback's `status` is 0, UV_ECANCELED (cancelled, or the handle was closed), or what
 *     the blocking call would have returned.
 *
 * Threads  A handle and its requests belong to the thread that runs the loop. While no thread
 *          runs it, one thread at a time may use them, whichever it is: a program may open a
 *          handle and start requests in one thread, run the loop in another, and go on in a
 *          third. A call from any other thread than the loop's is FORKQ_EWRONGTHREAD while the
 *          loop waits for events, and while it serves this handle; in the moments between, it is
 *          not noticed, and what happens then is undefined. The queue of a handle may be used by
 *          every thread.
 * Fork     Pending requests stay the parent's. In a child that goes on with the loop, call
 *          uv_loop_fork, then forkq_loop_fork for each handle.
 * Blocking No call waits for room, for an item or for a message. A call, and a turn of the loop,
 *          may be held up for some milliseconds where another process is in the middle of its
 *          own put or get, and for some tenths of a second at most where it is stopped there.
 * Packing  A packing function must use no handle: where that would hang, the call is
 *          FORKQ_EPACKING. If it does not return, but throws or jumps out, the request was not
 *          started.
 * Signals  None of this may be called in a signal handler.
 * Cancel   A thread that is in uv_run, or in a call on a handle, must not be cancelled
 *          (pthread_cancel(3)): libuv's loop does not survive it.
 *
 * Python has no counterpart: an asyncio program that needs a multiprocessing.Queue leaves a
 * thread in get. */
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
typedef void (*forkq_loop_req_cb)(forkq_loop_req_t *req, int status);
typedef void (*forkq_loop_close_cb)(void *arg);

/* A request. Begin with FORKQ_LOOP_REQ_INIT (or zeroed memory). */
struct forkq_loop_req {
  void *data; /* the user's; forkq does not touch it */
  /* private */
  forkq_loop_handle_t *handle_;
  forkq_loop_req_t *next_;
  forkq_loop_req_t *previous_;
  forkq_loop_req_cb cb_;
  forkq_item_t *item_;
  char *packed_;
  size_t size_;
  int64_t deadline_;
  int kind_;
  int state_;
  int status_;
};

#define FORKQ_LOOP_REQ_INIT                                                              \
  { NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/* Opens a handle. The queue or connection stays the caller's and must not be destroyed
 * before the handle is closed. Should another thread close the queue, or this one without
 * closing the handle before, pending requests get FORKQ_ECLOSED; a connection must be
 * closed after its handle. A queue's handle costs two descriptors, a connection's one,
 * apart from the queue's own for all handles. The descriptor of a connection keeps its
 * flags.
 *
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EPACKING, FORKQ_EWRITEONLY (connection),
 * -EPERM (a connection on a file that cannot be waited for), -ENOMEM, -EMFILE, -ENFILE.
 * After an error nothing is left, once the loop has run. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_open_queue(forkq_loop_handle_t **ret_handle,
                                                     uv_loop_t *loop,
                                                     forkq_queue_t *queue);
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_open_connection(forkq_loop_handle_t **ret_handle, uv_loop_t *loop,
                           forkq_connection_t *connection);

/* Gets an item as forkq_queue_get and forkq_queue_get_packed do, with at most `timeout_ms`
 * from now: -1 waits, 0 takes what is there, the status being FORKQ_EMPTY if nothing is. With
 * 0, what this process has just put may not be there yet: it is not waited for, as
 * forkq_queue_get does.
 *
 * Errors of the call: FORKQ_ENULL, FORKQ_ETIMEOUT, FORKQ_EINUSE (the request is pending),
 * FORKQ_ECLOSED (the queue, or the handle is closing), FORKQ_EWRONGTHREAD, FORKQ_EFORKED,
 * -EINVAL (a connection's handle). Status: 0, UV_ECANCELED, FORKQ_EMPTY, FORKQ_TIMEDOUT,
 * FORKQ_ESHUTDOWN, FORKQ_ECLOSED, FORKQ_EBADFRAME, FORKQ_ETOOMANY, FORKQ_EBROKEN, -ENOMEM,
 * the item being as after forkq_queue_get. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get(forkq_loop_req_t *req,
                                              forkq_loop_handle_t *handle,
                                              forkq_item_t *item, int timeout_ms,
                                              forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_get_packed(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     forkq_item_t *item, int timeout_ms,
                                                     forkq_loop_req_cb cb);

/* Puts an item as forkq_queue_put, forkq_queue_put_packed and forkq_queue_put_with do. The
 * object is packed before the call returns and is the caller's again then, also when the put
 * has to wait for room; only in that case its bytes are copied once more.
 *
 * Errors of the call, with nothing put: FORKQ_ENULL, FORKQ_ETIMEOUT, FORKQ_EINUSE,
 * FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_EFORKED, -EINVAL (a connection's handle), and those
 * of forkq_queue_put but FORKQ_FULL and FORKQ_TIMEDOUT. Status: 0 (accepted),
 * UV_ECANCELED, FORKQ_FULL (timeout 0), FORKQ_TIMEDOUT, FORKQ_ESHUTDOWN, FORKQ_ECLOSED,
 * -ENOMEM, FORKQ_EBROKEN; nothing is put unless it is 0. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put(forkq_loop_req_t *req,
                                              forkq_loop_handle_t *handle,
                                              const msgpack_object *object,
                                              int timeout_ms, forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_packed(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     const void *data, size_t size,
                                                     int timeout_ms,
                                                     forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_put_with(forkq_loop_req_t *req,
                                                   forkq_loop_handle_t *handle,
                                                   forkq_pack_fn pack, void *arg,
                                                   int timeout_ms, forkq_loop_req_cb cb);

/* Receives a message as forkq_connection_recv does, or as forkq_connection_recv_bytes with a
 * `maxlength`. A message is not waited for in one go: a turn of the loop takes what is there of
 * it, up to 64 KiB of bytes for all receives of the handle together; the rest comes in the
 * turns after it. With `timeout_ms` 0 a message that is there is received, in however many
 * turns. What has come when the request is cancelled or its time is over stays with the
 * connection, and the next receive goes on with it. While a receive is pending, nothing else
 * may receive on the connection.
 *
 * Errors of the call: FORKQ_ENULL, FORKQ_ETIMEOUT, FORKQ_EINUSE, FORKQ_ECLOSED,
 * FORKQ_EWRITEONLY, FORKQ_EWRONGTHREAD, FORKQ_EFORKED, -EINVAL (a queue's handle). Status: 0,
 * UV_ECANCELED, FORKQ_EMPTY (timeout 0), FORKQ_TIMEDOUT, and the errors of
 * forkq_connection_recv or forkq_connection_recv_bytes. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_recv(forkq_loop_req_t *req,
                                               forkq_loop_handle_t *handle,
                                               forkq_item_t *item, int timeout_ms,
                                               forkq_loop_req_cb cb);
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_recv_bytes(forkq_loop_req_t *req,
                                                     forkq_loop_handle_t *handle,
                                                     forkq_item_t *item, size_t maxlength,
                                                     int timeout_ms,
                                                     forkq_loop_req_cb cb);

/* Cancels a pending request: its callback comes with UV_ECANCELED, on a later turn of the
 * loop. Errors, with the request as it was: FORKQ_ENULL, FORKQ_ENOTPENDING (never started,
 * called back already, cancelled before, or too late: a put that found room at once is
 * done, only its callback is still to come), FORKQ_EWRONGTHREAD, FORKQ_EFORKED. */
FORKQ_API int forkq_loop_cancel(forkq_loop_req_t *req);

/* Closes a handle: pending requests are called back with UV_ECANCELED, then `cb`, which may be
 * NULL, with `arg`, and the handle is gone. Nothing of it is called from inside this call.
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED (closing already), FORKQ_EPACKING, FORKQ_EWRONGTHREAD. */
FORKQ_API int forkq_loop_close(forkq_loop_handle_t *handle, forkq_loop_close_cb cb,
                               void *arg);

/* In the child of a fork that goes on with the loop, after uv_loop_fork and before
 * anything else of the handle: makes the handle the child's. What was pending is the
 * parent's, which gets and puts it; here each request is called back with UV_ECANCELED.
 * Until then requests can neither be started nor cancelled (FORKQ_EFORKED); forkq_loop_close
 * closes the handle as ever. In a child that does not use the loop nothing needs to be done.
 * Errors: FORKQ_ENULL, -EINVAL (this process has not come from a fork since the handle was
 * opened or made its own). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_fork(forkq_loop_handle_t *handle);

#ifdef __cplusplus
}
#endif

#endif
