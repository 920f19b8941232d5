/* forkq/loop_queue.h: a queue of pointers inside one event loop.
 *
 * The counterpart of asyncio.Queue, LifoQueue and PriorityQueue for programs on libuv. It
 * connects parts of one program that run on the same uv_loop_t. A part that finds the
 * queue full or empty starts a request. Its callback runs when the request can be served,
 * and the loop continues meanwhile. The queue is ordinary memory of one process. For a
 * queue between processes see forkq/queue.h.
 *
 * The header needs <uv.h>, and the program links libuv itself.
 *
 * Requests
 *
 *   A request corresponds to an awaiting task in asyncio. forkq_loop_queue_put,
 *   forkq_loop_queue_get and forkq_loop_queue_join start one.
 *   - Its callback runs once, later, from the loop. It never runs from inside the call
 *     that started the request, nor if that call returned an error.
 *   - The request takes effect at its callback, not before. Until then it can be
 *     cancelled. A cancelled get has taken nothing, and a cancelled put has put nothing.
 *   - Requests that can proceed are served in the order in which they were started.
 *
 * Order and overtaking
 *
 *   A waiting request has no claim to an item or to room before its callback. So there is
 *   no wake-up that could be lost or would have to be passed on. As in asyncio,
 *   get_nowait and put_nowait take an item or room that is there, even if a request waits
 *   for it and was not called back yet. asyncio then moves the overtaken waiter to the
 *   end of the line; here it keeps its place. (If items were reserved for requests,
 *   get_nowait would return FORKQ_EMPTY although there is an item, and a loop `while
 *   (!empty) get_nowait` would not end.) So no getter overtakes another. A request can
 *   wait forever only if the program's own nowait calls always come first.
 *
 * Memory
 *
 *   The caller owns the queue and the requests. It must not move or free a queue until
 *   its close callback, or a request until its callback. The queue owns an array of
 *   pointers that grows. It is freed with the queue, or by an immediate shutdown. forkq
 *   never looks at what the pointers point to. NULL is a valid item.
 *
 * The loop
 *
 *   The loop stays alive while a request waits or a callback is due. The queue alone,
 *   with or without items, does not keep it alive. While requests only wait, the loop
 *   sleeps and makes no system calls. A loop with nothing but such requests sleeps
 *   forever, as asyncio's does. A queue runs at most 32 callbacks in one turn of the
 *   loop, so that other handles get their turn, even if callbacks keep starting requests.
 *
 *   uv_walk finds two libuv handles for each queue, `idle_` and `prepare_`. Their data is
 *   the queue. They belong to the queue: close it with forkq_loop_queue_close.
 *
 * Threads
 *
 *   A queue belongs to its loop, and so to one thread at a time. A program may use it in
 *   one thread and run the loop later in another. From the time when the loop first runs
 *   with a request pending, and as long as one is pending, calls from other threads
 *   return FORKQ_EWRONGTHREAD. At other times such calls are not detected, and their
 *   behaviour is undefined. From another thread, call uv_async_send to reach the loop's
 *   thread.
 *
 * Signals
 *
 *   A signal handler must not call these functions.
 *
 * fork
 *
 *   The child has a copy of the queue, its items and its waiting requests, as of all
 *   memory. It shares nothing with the parent's queue. To continue in the child, call
 *   uv_loop_fork(loop) first. Each request is then called back once in each process. A
 *   child that does not run the loop need not do anything.
 *
 * Callbacks
 *
 *   A callback may call every function here, also for the same queue. It may start its
 *   own request again, or free it. `dispose` and the comparison function have their own
 *   rules, below.
 *
 * Blocking
 *
 *   No function blocks.
 *
 * Common errors
 *
 *   Functions that list "the common errors" can return these, without effect:
 *   FORKQ_ENULL         a required argument is NULL
 *   FORKQ_ECLOSED       the queue is closed or closing
 *   FORKQ_EWRONGTHREAD  the call is on another thread than the loop's */
#ifndef FORKQ_LOOP_QUEUE_H
#define FORKQ_LOOP_QUEUE_H

#include <forkq/base.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_loop_queue forkq_loop_queue_t;
typedef struct forkq_loop_queue_req forkq_loop_queue_req_t;

/* Reports the end of a request. `req` is the caller's again. `status`:
 *
 *   0                the item was put or got (req->item), or all items are done
 *   UV_ECANCELED     forkq_loop_queue_cancel cancelled the request, or the queue was
 *                    closed
 *   FORKQ_ESHUTDOWN  the queue is shut down; for a get, also empty
 *
 * With a negative status nothing was put or got. */
typedef void (*forkq_loop_queue_cb)(forkq_loop_queue_req_t *req, int status);

/* Reports that the queue is closed. Its memory is the caller's again. */
typedef void (*forkq_loop_queue_close_cb)(forkq_loop_queue_t *queue);

/* Receives each item that an immediate shutdown or a close drops, for example to free it.
 * It runs inside that call, in the order in which gets would have returned the items. It
 * may use the queue, which is then shut down or closing, and empty. */
typedef void (*forkq_loop_queue_dispose_fn)(forkq_loop_queue_t *queue, void *item);

/* Compares two items.
 *
 * Returns: negative if `a` comes out before `b`, positive if after, 0 if they are equal.
 *   It must be a total order that does not change while items are in the queue.
 *
 * It runs inside put_nowait, get_nowait, shutdown, close and the loop's turn, and must
 * not use the queue. */
typedef int (*forkq_loop_queue_compare_fn)(const void *a, const void *b, void *arg);

/* A request to put, get or join. Begin with FORKQ_LOOP_QUEUE_REQ_INIT (or zeroed memory).
 * After its callback it may be used again as it is, for any of the three. Do not copy it
 * while it is in use.
 *
 * `data`  the user's; forkq does not touch it
 * `item`  of a put: the item, which the caller owns again if the put fails. Of a get: the
 *         item that was got, or NULL before the callback and on failure. The user does
 *         not write it. */
struct forkq_loop_queue_req {
  void *data;
  void *item;
  /* read-only */
  forkq_loop_queue_t *queue; /* the queue that the request is used with, or NULL */
  /* private */
  forkq_loop_queue_cb cb_;
  struct {
    forkq_loop_queue_req_t *tqe_next;
    forkq_loop_queue_req_t **tqe_prev;
  } link_; /* as TAILQ_ENTRY of <sys/queue.h> */
  uint64_t ticket_;
  int line_;
};

#define FORKQ_LOOP_QUEUE_REQ_INIT                                                        \
  { NULL, NULL, NULL, NULL, { NULL, NULL }, 0, 0 }

/* private */
struct forkq_loop_queue_line_ {
  struct {
    forkq_loop_queue_req_t *tqh_first;
    forkq_loop_queue_req_t **tqh_last;
  } waiting_; /* as TAILQ_HEAD of <sys/queue.h> */
  size_t count_;
};

/* private */
struct forkq_loop_queue_items_ {
  void *memory_;
  size_t capacity_;
  size_t first_;
  size_t count_;
  uint64_t order_;
  int kind_;
  forkq_loop_queue_compare_fn compare_;
  void *compare_arg_;
};

/* A queue.
 *
 * `data`     the user's; forkq does not touch it, not even in init
 * `dispose`  see forkq_loop_queue_dispose_fn. NULL after init; the user may set it at any
 *            time. Without it, the results of forkq_loop_queue_shutdown and
 *            forkq_loop_queue_close tell how many items were dropped. */
struct forkq_loop_queue {
  void *data;
  forkq_loop_queue_dispose_fn dispose;
  /* read-only */
  uv_loop_t *loop;
  int64_t maxsize; /* as given to init */
  /* private */
  uv_idle_t idle_;
  uv_prepare_t prepare_;
  forkq_loop_queue_close_cb close_cb_;
  struct forkq_loop_queue_line_ lines_[4];
  struct forkq_loop_queue_items_ items_;
  uint64_t tickets_;
  uint64_t released_;
  uint64_t unfinished_;
  uintptr_t thread_;
  int open_handles_;
  int is_shutdown_;
  int is_closing_;
};

/* Makes *queue a first-in, first-out queue on `loop` that holds at most `maxsize` items.
 * 0 or less: no limit.
 *
 * The memory may contain anything except an open queue. The call allocates nothing and
 * makes no system call. End with forkq_loop_queue_close, even if the queue was never
 * used: until then uv_loop_close returns UV_EBUSY.
 *
 * Returns: 0.
 * Errors:
 *   FORKQ_ENULL  a required argument is NULL
 * Python: asyncio.Queue(maxsize), where maxsize may be a float. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init(uv_loop_t *loop, forkq_loop_queue_t *queue, int64_t maxsize);

/* Makes *queue a last-in, first-out queue. Everything else is as in
 * forkq_loop_queue_init.
 * Python: asyncio.LifoQueue(maxsize). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init_lifo(uv_loop_t *loop, forkq_loop_queue_t *queue, int64_t maxsize);

/* Makes *queue a priority queue: the smallest item comes out first, by `compare`, which
 * receives `arg` (may be NULL). Equal items come out in the order of their puts.
 * Everything else is as in forkq_loop_queue_init.
 * Python: asyncio.PriorityQueue(maxsize), which compares the items themselves, and
 *   returns equal items in any order. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init_priority(uv_loop_t *loop, forkq_loop_queue_t *queue,
                               int64_t maxsize, forkq_loop_queue_compare_fn compare,
                               void *arg);

/* Starts a request to put `item` (may be NULL), which waits while the queue is full. If
 * the callback's status is 0, the item is in the queue. Until then, and with any other
 * status, the item is the caller's. The call reserves memory for the item, so a started
 * request never fails for lack of memory.
 *
 * Returns: 0. After a failure the request is not started.
 * Errors: the common errors, and:
 *   FORKQ_ESHUTDOWN  the queue is shut down
 *   FORKQ_EINUSE     the request is in use
 *   -ENOMEM          there is no memory
 * Callback: 0, UV_ECANCELED or FORKQ_ESHUTDOWN.
 * Python: create_task(queue.put(item)). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_put(forkq_loop_queue_t *queue,
                                                    forkq_loop_queue_req_t *req,
                                                    void *item, forkq_loop_queue_cb cb);

/* Puts `item` (may be NULL) now.
 *
 * Returns: 0. After a failure nothing is put.
 * Errors: the common errors, and:
 *   FORKQ_FULL       the queue is full
 *   FORKQ_ESHUTDOWN  the queue is shut down
 *   -ENOMEM          there is no memory
 * Python: Queue.put_nowait(item). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_put_nowait(forkq_loop_queue_t *queue,
                                                           void *item);

/* Starts a request to get an item, which waits while the queue is empty. At the callback,
 * the item is taken from the queue into req->item, and is then the caller's. It is the
 * first, last or smallest item in the queue at that moment.
 *
 * Returns: 0. After a failure the request is not started.
 * Errors: the common errors, and:
 *   FORKQ_ESHUTDOWN  the queue is shut down and empty
 *   FORKQ_EINUSE     the request is in use
 * Callback: 0, UV_ECANCELED or FORKQ_ESHUTDOWN (also if other gets took the last items).
 * Python: create_task(queue.get()). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_get(forkq_loop_queue_t *queue,
                                                    forkq_loop_queue_req_t *req,
                                                    forkq_loop_queue_cb cb);

/* Gets an item now, into *ret_item. It is then the caller's.
 *
 * Returns: 0. After a failure nothing is taken.
 * Errors: the common errors, and:
 *   FORKQ_EMPTY      the queue is empty
 *   FORKQ_ESHUTDOWN  the queue is shut down and empty
 * Python: Queue.get_nowait(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_get_nowait(forkq_loop_queue_t *queue,
                                                           void **ret_item);

/* Marks one item that was got as done. When this was the last of all items that were put,
 * every join request is released, even if more items are put before its callback.
 *
 * Returns: 0.
 * Errors: the common errors, and:
 *   FORKQ_ETASKDONE  it was called more often than items were put
 * Python: Queue.task_done(). */
FORKQ_API int forkq_loop_queue_task_done(forkq_loop_queue_t *queue);

/* Starts a request that waits until every item that was put is done. If there is none, it
 * is called back in the next turn of the loop. A shutdown does not end it, except by the
 * items that it drops.
 *
 * Returns: 0. After a failure the request is not started.
 * Errors: the common errors, and:
 *   FORKQ_EINUSE  the request is in use
 * Callback: 0 or UV_ECANCELED.
 * Python: create_task(queue.join()). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_join(forkq_loop_queue_t *queue,
                                                     forkq_loop_queue_req_t *req,
                                                     forkq_loop_queue_cb cb);

/* Cancels a request of any kind that was started and not yet called back. Its callback
 * comes later, with UV_ECANCELED, and the request has no other effect. It also works on a
 * closing queue.
 *
 * Returns: 0.
 * Errors:
 *   FORKQ_ENULL         `req` is NULL
 *   FORKQ_ENOTPENDING   the request was never started, was called back, or is already
 *                       cancelled
 *   FORKQ_EWRONGTHREAD  the call is on another thread than the loop's
 * Python: Task.cancel(). */
FORKQ_API int forkq_loop_queue_cancel(forkq_loop_queue_req_t *req);

/* Shuts the queue down. There is no way back. Puts fail with FORKQ_ESHUTDOWN from now on:
 * calls at once, waiting requests in their callback. Gets continue until nothing is left,
 * then they fail with FORKQ_ESHUTDOWN; gets that wait on an empty queue fail at once.
 *
 * With `immediate` nonzero, the items that are left are dropped and count as done. Each
 * is passed to `dispose`. Joins are released if nothing else is unfinished. A second call
 * can only add `immediate`.
 *
 * Returns: the number of items dropped (INT_MAX if there are more).
 * Errors: the common errors.
 * Python: Queue.shutdown(immediate) of 3.13, which does not tell what it drops. */
FORKQ_API int forkq_loop_queue_shutdown(forkq_loop_queue_t *queue, int immediate);

/* Counts the items in the queue.
 *
 * Returns: the number of items.
 * Errors: the common errors.
 * Python: Queue.qsize(). */
FORKQ_API int64_t forkq_loop_queue_qsize(const forkq_loop_queue_t *queue);

/* Tells whether the queue has no items. It agrees with get_nowait.
 *
 * Returns: 1 if there are none, else 0.
 * Errors: the common errors.
 * Python: Queue.empty(). */
FORKQ_API int forkq_loop_queue_empty(const forkq_loop_queue_t *queue);

/* Tells whether the queue is full. It agrees with put_nowait.
 *
 * Returns: 1 if there are maxsize items or more, else 0. Without a limit: 0.
 * Errors: the common errors.
 * Python: Queue.full(). */
FORKQ_API int forkq_loop_queue_full(const forkq_loop_queue_t *queue);

/* The state of a queue; the counterpart of its repr(). A request counts from its start to
 * its callback or its cancellation. */
typedef struct forkq_loop_queue_stats_s {
  size_t size;         /* sizeof(forkq_loop_queue_stats_t), set by the caller */
  int64_t maxsize;     /* as given to init */
  uint64_t items;      /* in the queue */
  uint64_t getters;    /* get requests */
  uint64_t putters;    /* put requests */
  uint64_t joiners;    /* join requests */
  uint64_t cancelled;  /* cancelled requests whose callback is still due */
  uint64_t unfinished; /* items that were put and are not done */
  int is_shutdown;
} forkq_loop_queue_stats_t;

#define FORKQ_LOOP_QUEUE_STATS_INIT                                                      \
  { sizeof(forkq_loop_queue_stats_t), 0, 0, 0, 0, 0, 0, 0, 0 }

/* Fills in *stats, the state of the queue. The caller sets stats->size before, as
 * FORKQ_LOOP_QUEUE_STATS_INIT does. It may be smaller than the library's: later versions
 * only add fields at the end. The smallest valid size ends after `maxsize`.
 *
 * Returns: 0.
 * Errors: the common errors, and:
 *   FORKQ_ERANGE  stats->size is too small, larger than this library's, or not the size of
 *                 a struct
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_stats(const forkq_loop_queue_t *queue,
                                                      forkq_loop_queue_stats_t *stats);

/* Closes the queue. Waiting requests are called back with UV_ECANCELED, and released
 * joins with 0. After the last of them comes `cb` (may be NULL), never from inside this
 * call.
 *
 * The items that are left are dropped and passed to `dispose`. If they matter and
 * `dispose` is not set, get them before. The items of put requests stay their callers'.
 * From now on, every other call except forkq_loop_queue_cancel returns FORKQ_ECLOSED.
 *
 * Returns: the number of items dropped (INT_MAX if there are more).
 * Errors: the common errors.
 * Python: none; the garbage collector does it. */
FORKQ_API int forkq_loop_queue_close(forkq_loop_queue_t *queue,
                                     forkq_loop_queue_close_cb cb);

#ifdef __cplusplus
}
#endif

#endif
