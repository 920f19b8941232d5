/* A queue or connection on a libuv loop: the insides of a handle.
 *
 * loop_handle.c has its life, cancellation and the timer; loop_get.c, loop_recv.c and loop_put.c
 * what the requests do. Requests wait in lists; a descriptor becomes readable when one may be
 * served, the first in line first. */
#ifndef FORKQ_LOOP_IMPL_H
#define FORKQ_LOOP_IMPL_H

#include "queue/queue_impl.h"

#include <forkq/loop_handle.h>
#include <stdatomic.h>

/* Requests that one turn of the loop serves. */
#define FORKQ__LOOP_TURN 64

/* Bytes that it receives from a connection: a few microseconds' worth. */
#define FORKQ__LOOP_TURN_BYTES ((size_t)64 * 1024)

enum {
  FORKQ__LOOP_GET,
  FORKQ__LOOP_GET_PACKED,
  FORKQ__LOOP_RECV,
  FORKQ__LOOP_RECV_BYTES,
  FORKQ__LOOP_PUT,
};

/* What a request's state_ says. */
enum {
  FORKQ__LOOP_IDLE,    /* not forkq's */
  FORKQ__LOOP_WAITING, /* in `incoming` or `puts` */
  FORKQ__LOOP_DECIDED, /* in `decided`: its callback is all that is left to do */
};

struct forkq__loop_list {
  forkq_loop_req_t *first;
  forkq_loop_req_t *last;
  size_t timed; /* of those that wait: with a deadline */
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
  struct forkq__loop_poll items; /* may have something to get */
  struct forkq__loop_poll room;  /* may have room, of a queue */
  struct forkq__slots slots;     /* of the queue, with that event */
  bool items_watched;            /* the queue's other processes know of it */
  bool room_watched;
  bool look_again; /* for room, in the next turn */
  bool cut_short;  /* more is there than the last turn was allowed to receive */
  /* Something was readable but could not be had: not polled until then, and how long the next
   * time. */
  int64_t resume_at;
  int pause_ms;
  /* When room of the dead is looked for again, and how long after it. */
  int64_t look_at;
  int look_ms;
  uv_idle_t deliver; /* calls back what is decided */
  uv_timer_t timer;
  int64_t timer_at;
  uv_async_t told; /* the queue was closed by somebody */
  struct forkq__follower follower;
  uv_prepare_t before_poll;
  uv_check_t after_poll;
  bool in_poll; /* the loop's thread is between these two */
  /* The thread that is certainly inside the loop, or 0. Atomic, for the other threads that it is
   * there to find. */
  _Atomic uintptr_t inside;
  unsigned forks; /* see forkq__life_forks */
  int uv_handles; /* open */
  bool closing;
  forkq_loop_close_cb close_cb;
  void *close_arg;
};

/* 0, or why a request cannot be started. */
int forkq__loop_check(const forkq_loop_handle_t *handle, const forkq_loop_req_t *req,
                      int timeout_ms, forkq_loop_req_cb cb);

/* Fills in a request, which is not in any list yet. */
void forkq__loop_begin(forkq_loop_handle_t *handle, forkq_loop_req_t *req, int kind,
                       int timeout_ms, forkq_loop_req_cb cb);

void forkq__loop_append(struct forkq__loop_list *list, forkq_loop_req_t *req);

/* Out of its list again: it was not started after all. */
void forkq__loop_take_back(forkq_loop_req_t *req);

/* A request that waits, or is in no list, is decided: its callback comes in another turn. */
void forkq__loop_decide(forkq_loop_req_t *req, int status);

/* A request that waits is over: calls it back, right here. */
void forkq__loop_complete(forkq_loop_req_t *req, int status);

/* Sees to it that the loop polls, and wakes up, for just what the handle waits for. */
void forkq__loop_arm(forkq_loop_handle_t *handle);

/* Serve those that wait, as far as it goes. */
void forkq__loop_serve_incoming(forkq_loop_handle_t *handle);
void forkq__loop_serve_puts(forkq_loop_handle_t *handle);

/* Makes it known to other processes that requests wait here, or that none does any more. */
int forkq__loop_watch_items(forkq_loop_handle_t *handle);
void forkq__loop_watch_room(forkq_loop_handle_t *handle);

/* Gets or receives for the first in line: FORKQ__NOTHING if nothing is there, or, of a message,
 * not all of it or more than the budget. */
int forkq__loop_get_one(forkq_loop_req_t *req);
int forkq__loop_recv_one(forkq_loop_req_t *req, size_t *budget);

#endif
