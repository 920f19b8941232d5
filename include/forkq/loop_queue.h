/* forkq/loop_queue.h: a queue of pointers inside one event loop.
 *
 * The counterpart of asyncio.Queue, LifoQueue and PriorityQueue for programs on libuv. It
 * joins parts of one program that run on the same uv_loop_t: who finds the queue full, or
 * empty, starts a request and is called back when its turn has come, and the loop goes on
 * meanwhile. It is plain memory of one process; the queue between processes is
 * forkq/queue.h.
 *
 * Needs <uv.h>, and the program links libuv itself.
 *
 * A request is what a task that awaits is in asyncio: forkq_loop_queue_put(), _get() and
 * _join() start one, and
 *
 *   - its callback comes once, later, from the loop: never from inside the call that started
 *     it, and never if that call returned an error;
 *   - what it does, it does at its callback and not before. Until then it can be cancelled,
 *     and a cancelled get has taken nothing, a cancelled put has put nothing;
 *   - requests that can go on are served in the order in which they were started.
 *
 * Order and overtaking
 *
 *   Nothing is promised to a waiting request ahead of its turn, so there is no wake-up that
 *   could get lost or would have to be passed on. get_nowait and put_nowait take what is
 *   there at that moment, an item or room for one, also while a request waits for it that
 *   has not been called back yet: as in asyncio. There the overtaken waiter goes to the end
 *   of the line; here it keeps its place. (To hold an item back for it would make get_nowait
 *   say FORKQ_EMPTY beside an item, and a loop `while (!empty) get_nowait` without end.)
 *   So of several getters no one is passed by another, and only a program whose own nowait
 *   calls always come first can make a request wait on.
 *
 * Memory      The caller owns the queue and the requests, and keeps each where it is: a queue
 *             until its close callback, a request until its callback. The queue owns an array
 *             of pointers that grows and is freed with the queue, or by an immediate
 *             shutdown. What the pointers point to is never looked at; NULL is an item
 *             like any other.
 * The loop    stays alive while a request waits or a callback is due, and no longer; the
 *             queue alone, with or without items in it, does not keep it alive. While
 *             requests only wait the loop sleeps and makes no system call. A loop in which
 *             nothing but such requests is left sleeps for ever, as asyncio's does.
 *             A queue calls back at most 32 times in one turn of the loop, then everybody
 *             else has a turn, also when callbacks keep starting requests.
 * uv_walk     meets two handles of libuv for each queue, `idle_` and `prepare_`, whose data
 *             is the queue. They are the queue's: close it with forkq_loop_queue_close.
 * Threads     A queue belongs to its loop, so to one thread at a time. A program may use it
 *             in one thread and run the loop in another later. Once the loop ran with
 *             something pending, and as long as anything is, calls from other threads are
 *             FORKQ_EWRONGTHREAD; otherwise they are not noticed and are undefined.
 *             From another thread, uv_async_send to the loop's.
 * Signals     Nothing here may be called from a signal handler.
 * fork        The child has a copy of the queue, of what is in it and of the requests that
 *             wait, like of all memory; it shares nothing with the parent's from then on.
 *             To go on in the child call uv_loop_fork(loop) first, then anything. The
 *             same request so calls back in both processes, each time once. A child that does
 *             not run the loop has nothing to do.
 * Callbacks   may call every function here, on this queue too, start their own request
 *             again, and free it. `dispose` and the comparison function are not callbacks of
 *             the loop: see below.
 */
#ifndef FORKQ_LOOP_QUEUE_H
#define FORKQ_LOOP_QUEUE_H

#include <forkq/base.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_loop_queue forkq_loop_queue_t;
typedef struct forkq_loop_queue_req forkq_loop_queue_req_t;

/* The end of a request. `status`:
 *
 *   0                the item was put or got (req->item), or all tasks are done
 *   UV_ECANCELED     by forkq_loop_queue_cancel, or the queue was closed
 *   FORKQ_ESHUTDOWN  the queue was shut down; for a get: and is empty
 *
 * With a negative status nothing was put or got. `req` is the caller's again. */
typedef void (*forkq_loop_queue_cb)(forkq_loop_queue_req_t *req, int status);

/* The queue is closed and its memory is the caller's again. */
typedef void (*forkq_loop_queue_close_cb)(forkq_loop_queue_t *queue);

/* Told of each item that an immediate shutdown or a close drops, from inside that call, in
 * the order in which gets would have had them, so that it can free it. It may use the queue,
 * which is shut down or closing then and has no items any more. */
typedef void (*forkq_loop_queue_dispose_fn)(forkq_loop_queue_t *queue, void *item);

/* Negative if `a` comes out before `b`, positive if after, 0 if they are equal; a total
 * order that does not change while items are in the queue. It runs inside put_nowait,
 * get_nowait, shutdown, close and the loop's turn, and must not use the queue. */
typedef int (*forkq_loop_queue_compare_fn)(const void *a, const void *b, void *arg);

/* A request: to put, get or join. Begin with zeroed memory; after its callback it may be
 * used again as it is, for any of the three. It must not be copied while it is in use.
 *
 * `data`  the user's, never touched
 * `item`  of a put: the item, the caller's again if the put fails; of a get: the item that
 *         was got, NULL before and if it fails. Not written by the user. */
struct forkq_loop_queue_req {
  void *data;
  void *item;
  /* read-only */
  forkq_loop_queue_t *queue; /* whose request it is; NULL: it is not in use */
  /* private */
  forkq_loop_queue_cb cb_;
  forkq_loop_queue_req_t *previous_;
  forkq_loop_queue_req_t *next_;
  uint64_t ticket_;
  int line_;
};

/* private */
struct forkq_loop_queue_line_ {
  forkq_loop_queue_req_t *first_;
  forkq_loop_queue_req_t *last_;
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
 * `data`     the user's, never touched, also not by init
 * `dispose`  see above; NULL after init, the user may set it at any time. Without it the
 *            results of forkq_loop_queue_shutdown and _close tell how many were dropped. */
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

/* Makes *queue a queue on `loop` that holds at most `maxsize` items, any number if it is 0
 * or less.
 *
 *   forkq_loop_queue_init           first in, first out
 *   forkq_loop_queue_init_lifo      last in, first out
 *   forkq_loop_queue_init_priority  the smallest first, by `compare`, which is given `arg`;
 *                                   of equal ones the one that was put first
 *
 * The memory may hold anything but a queue that is not closed. Allocates nothing and makes
 * no system call. End with forkq_loop_queue_close, also when the queue was never used:
 * uv_loop_close is UV_EBUSY before.
 * Errors: FORKQ_ENULL (but for `arg`).
 * Python: asyncio.Queue(maxsize), LifoQueue(maxsize), PriorityQueue(maxsize). There the
 * items are compared themselves and equal ones come in any order; a float will do as
 * maxsize. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init(uv_loop_t *loop, forkq_loop_queue_t *queue, int64_t maxsize);
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init_lifo(uv_loop_t *loop, forkq_loop_queue_t *queue, int64_t maxsize);
FORKQ_API FORKQ_MUST_CHECK int
forkq_loop_queue_init_priority(uv_loop_t *loop, forkq_loop_queue_t *queue,
                               int64_t maxsize, forkq_loop_queue_compare_fn compare,
                               void *arg);

/* Starts a request to put `item`, which waits while the queue is full. The item is in the
 * queue from the callback on, if that says 0; until then, and if it says anything else, the
 * item is the caller's. Does not block. A request that was started does not fail for want
 * of memory: the place is reserved here.
 * Errors, with the request not started: FORKQ_ESHUTDOWN, FORKQ_EINUSE (the request is in
 * use), FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL (but for `item`), -ENOMEM.
 * Callback: 0, UV_ECANCELED, FORKQ_ESHUTDOWN.
 * Python: create_task(queue.put(item)). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_put(forkq_loop_queue_t *queue,
                                                    forkq_loop_queue_req_t *req,
                                                    void *item, forkq_loop_queue_cb cb);

/* Puts `item` now. Does not block.
 * Errors, with nothing put: FORKQ_FULL, FORKQ_ESHUTDOWN, FORKQ_ECLOSED, FORKQ_EWRONGTHREAD,
 * FORKQ_ENULL (queue), -ENOMEM.
 * Python: Queue.put_nowait(item). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_put_nowait(forkq_loop_queue_t *queue,
                                                           void *item);

/* Starts a request to get an item, which waits while the queue is empty. The item is taken
 * from the queue at the callback, into req->item, and is then the caller's: the smallest,
 * first or last of those that are in the queue at that moment. Does not block.
 * Errors, with the request not started: FORKQ_ESHUTDOWN (and the queue is empty),
 * FORKQ_EINUSE, FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Callback: 0, UV_ECANCELED, FORKQ_ESHUTDOWN (also when other gets took what was left).
 * Python: create_task(queue.get()). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_get(forkq_loop_queue_t *queue,
                                                    forkq_loop_queue_req_t *req,
                                                    forkq_loop_queue_cb cb);

/* Gets an item now, into *ret_item. Does not block.
 * Errors, with nothing got: FORKQ_EMPTY, FORKQ_ESHUTDOWN (and the queue is empty),
 * FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Python: Queue.get_nowait(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_get_nowait(forkq_loop_queue_t *queue,
                                                           void **ret_item);

/* One item that was got is worked off. When that was the last of all that were put, every
 * join request is released, also if more is put before it is called back.
 * Errors: FORKQ_ETASKDONE (more often than items were put), FORKQ_ECLOSED,
 * FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Python: Queue.task_done(). */
FORKQ_API int forkq_loop_queue_task_done(forkq_loop_queue_t *queue);

/* Starts a request that waits until every item that was put is worked off; called back in
 * the next turn if there is none. Does not block. A shutdown leaves it waiting, but for the
 * items that it drops.
 * Errors, with the request not started: FORKQ_EINUSE, FORKQ_ECLOSED, FORKQ_EWRONGTHREAD,
 * FORKQ_ENULL.
 * Callback: 0, UV_ECANCELED.
 * Python: create_task(queue.join()). */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_join(forkq_loop_queue_t *queue,
                                                     forkq_loop_queue_req_t *req,
                                                     forkq_loop_queue_cb cb);

/* Cancels a request that was started and not yet called back, whatever it waits for: its
 * callback comes with UV_ECANCELED, later, and it has no other effect.
 * Errors: FORKQ_ENOTPENDING (it was never started, was called back, or is cancelled already),
 * FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Python: Task.cancel(). */
FORKQ_API int forkq_loop_queue_cancel(forkq_loop_queue_req_t *req);

/* Ends the queue. Puts are FORKQ_ESHUTDOWN from now on: calls at once, requests that wait
 * with their callback. Gets go on until nothing is left, then they are FORKQ_ESHUTDOWN as
 * well, those that wait at once. With `immediate` what is left is dropped, and counts as
 * worked off: joins are released if nothing else is unfinished. A second call may only add
 * `immediate`. There is no way back.
 *
 * The number of items dropped (INT_MAX if it is more); `dispose` was called with each.
 * Errors: FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Python: Queue.shutdown(immediate), of 3.13, which says nothing of what it drops. */
FORKQ_API int forkq_loop_queue_shutdown(forkq_loop_queue_t *queue, int immediate);

/* How many items are in the queue. 1 if there is none, else 0. 1 if there are maxsize or
 * more, else 0, or if there is no limit. empty says what get_nowait would, and full what
 * put_nowait would.
 * Errors: FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * Python: Queue.qsize(), empty(), full(). */
FORKQ_API int64_t forkq_loop_queue_qsize(const forkq_loop_queue_t *queue);
FORKQ_API int forkq_loop_queue_empty(const forkq_loop_queue_t *queue);
FORKQ_API int forkq_loop_queue_full(const forkq_loop_queue_t *queue);

/* The state of a queue; the counterpart of its repr(). Requests count from their start to
 * their callback or their cancelling. */
typedef struct forkq_loop_queue_stats {
  size_t size;         /* sizeof(struct), set by the caller */
  int64_t maxsize;     /* as given to init */
  uint64_t items;      /* in the queue */
  uint64_t getters;    /* get requests */
  uint64_t putters;    /* put requests */
  uint64_t joiners;    /* join requests */
  uint64_t cancelled;  /* cancelled requests that are still to be called back */
  uint64_t unfinished; /* items that were put and not yet worked off */
  int is_shutdown;
} forkq_loop_queue_stats_t;

/* Errors: FORKQ_ERANGE (stats->size), FORKQ_ECLOSED, FORKQ_EWRONGTHREAD, FORKQ_ENULL. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_queue_stats(const forkq_loop_queue_t *queue,
                                                      forkq_loop_queue_stats_t *stats);

/* Ends the handle. What waits is called back with UV_ECANCELED; a join that was released
 * already, with 0. After the last of them comes `cb`, which may be NULL; never from inside
 * this call. Items that are left are dropped, so drain first if they matter and `dispose` is
 * not set; items of put requests are their callers'. Every other call is FORKQ_ECLOSED from
 * now on, but for forkq_loop_queue_cancel.
 *
 * The number of items dropped (INT_MAX if it is more).
 * Errors: FORKQ_ECLOSED (was closed already), FORKQ_EWRONGTHREAD, FORKQ_ENULL.
 * No Python counterpart: the garbage collector's work. */
FORKQ_API int forkq_loop_queue_close(forkq_loop_queue_t *queue,
                                     forkq_loop_queue_close_cb cb);

#ifdef __cplusplus
}
#endif

#endif
