/* A queue or connection on a libuv loop: the private part of a handle.
 *
 * loop_handle.c has the handle's life, cancellation and the timer; loop_get.c, loop_recv.c and
 * loop_put.c serve the requests. Requests wait in lists. When a descriptor becomes readable,
 * the handle serves the requests of its list, the first in line first. */
#ifndef FORKQ_LOOP_IMPL_H
#define FORKQ_LOOP_IMPL_H

#include "base/atomics.h"
#include "queue/queue_impl.h"

#include <forkq/loop_handle.h>
#include <sys/queue.h>

/* Requests that a handle serves in one turn of the loop. */
#define FORKQ__LOOP_TURN 64

/* Bytes that a handle receives from a connection in one turn: a few microseconds of work. */
#define FORKQ__LOOP_TURN_BYTES ((size_t)64 * 1024)

enum {
  FORKQ__LOOP_GET,
  FORKQ__LOOP_GET_PACKED,
  FORKQ__LOOP_GET_BORROWED,
  FORKQ__LOOP_GET_INTO,
  FORKQ__LOOP_RECV,
  FORKQ__LOOP_RECV_BYTES,
  FORKQ__LOOP_PUT,
};

/* The values of a request's state_. */
enum {
  FORKQ__LOOP_IDLE,    /* not in use by forkq */
  FORKQ__LOOP_WAITING, /* in `incoming` or `puts` */
  FORKQ__LOOP_DECIDED, /* in `decided`: only its callback is left to do */
};

struct forkq__loop_list {
  TAILQ_HEAD(, forkq_loop_req) line;
  size_t timed; /* waiting requests with a deadline */
};

/* A descriptor that the loop polls while `active`. */
struct forkq__loop_poll {
  uv_poll_t uv;
  int fd;
  bool active;
};

struct forkq_loop_handle {
  uv_loop_t *loop;
  forkq_queue_t *queue; /* one of these two */
  forkq_connection_t *connection;
  struct forkq__loop_list incoming; /* gets or receives that wait */
  struct forkq__loop_list puts;     /* puts that wait */
  struct forkq__loop_list decided;
  struct forkq__loop_poll items; /* readable: there may be an item or a message */
  struct forkq__loop_poll room;  /* readable: the queue may have room */
  struct forkq__slots slots;     /* the queue's, with `room` as the event */
  bool items_watched;            /* this handle counts as a watcher of the queue */
  bool room_watched;
  bool look_again; /* look for room in the next turn */
  bool cut_short;  /* the last turn left bytes that it was not allowed to receive */
  /* The descriptor was readable, but no item could be had: the handle does not poll it until
   * this time. And the length of the last pause. */
  int64_t resume_at;
  int pause_ms;
  /* When to look again for slots of dead processes, and the time between two looks. */
  int64_t look_at;
  int look_ms;
  uv_idle_t deliver; /* calls the callbacks of decided requests */
  uv_timer_t timer;
  int64_t timer_at;
  uv_async_t told; /* a thread of this process has closed the queue */
  struct forkq__follower follower;
  uv_prepare_t before_poll;
  uv_check_t after_poll;
  bool in_poll; /* the loop's thread is between these two */
  /* The thread that is certainly inside the loop, or 0. Atomic, because other threads read it. */
  _Atomic uintptr_t inside;
  unsigned forks; /* see forkq__life_forks */
  int uv_handles; /* handles of libuv that are not closed */
  bool closing;
  forkq_loop_close_cb close_cb;
  void *close_arg;
};

/* Whether a request can be started: 0, or
 *
 *   FORKQ_ENULL         an argument is NULL
 *   FORKQ_EPACKING      a packing function made the call
 *   FORKQ_EFORKED       the handle is the parent's, and forkq_loop_fork was not called
 *   FORKQ_EWRONGTHREAD  another thread is inside the loop
 *   FORKQ_EINUSE        the request is in use
 *   FORKQ_ECLOSED       the handle is closing
 *   FORKQ_ETIMEOUT      timeout_ms is below -1 */
int forkq__loop_check(const forkq_loop_handle_t *handle, const forkq_loop_req_t *req,
                      int timeout_ms, forkq_loop_req_cb cb);

/* Fills in a request that is not in any list yet. */
void forkq__loop_begin(forkq_loop_handle_t *handle, forkq_loop_req_t *req, int kind,
                       int timeout_ms, forkq_loop_req_cb cb);

/* What a get or receive is to bring: into an item, or into a buffer. */
struct forkq__loop_wanted {
  int kind;
  forkq_item_t *item;
  void *buffer;
  size_t maxlength; /* of a receive, or of the buffer */
  int timeout_ms;
  forkq_loop_req_cb cb;
};

/* Begins such a request: empties the item, if there is one, and appends the request to `incoming`. */
void forkq__loop_begin_incoming(forkq_loop_handle_t *handle, forkq_loop_req_t *req,
                                const struct forkq__loop_wanted *wanted);

void forkq__loop_append(struct forkq__loop_list *list, forkq_loop_req_t *req);

/* Takes a request out of its list again, because it was not started after all. */
void forkq__loop_take_back(forkq_loop_req_t *req);

/* Decides a request that waits, or that is in no list. Its callback comes in another turn of
 * the loop. */
void forkq__loop_decide(forkq_loop_req_t *req, int status);

/* Ends a request that waits, and calls its callback now. */
void forkq__loop_complete(forkq_loop_req_t *req, int status);

/* Makes the loop poll, and wake up, for exactly the events that the handle waits for. */
void forkq__loop_arm(forkq_loop_handle_t *handle);

/* Serve the waiting requests, up to the limits of a turn. */
void forkq__loop_serve_incoming(forkq_loop_handle_t *handle);
void forkq__loop_serve_puts(forkq_loop_handle_t *handle);

/* Tell the other processes that requests wait here, or that none waits any more. watch_items
 * returns 0 or the errors of forkq__queue_watch_items. */
int forkq__loop_watch_items(forkq_loop_handle_t *handle);
void forkq__loop_watch_room(forkq_loop_handle_t *handle);

/* Get or receive for the first request in line. They return 0, FORKQ__NOTHING if nothing is
 * there, or an error. recv_one returns FORKQ__NOTHING also if a part of the message is
 * missing, or the message exceeds the budget, from which it takes the bytes received. */
int forkq__loop_get_one(forkq_loop_req_t *req);
int forkq__loop_recv_one(forkq_loop_req_t *req, size_t *budget);

#endif
