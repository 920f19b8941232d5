/* The process-shared queue: the public object behind forkq/queue.h.
 *
 * queue_open.c creates it, or opens another program's; queue_put.c, queue_get.c and queue_stats.c
 * have its calls, queue_source.c packs; queue_tasks.c has task_done and join, queue_life.c shutdown
 * and close, and what fork and exit do; queue_inherit.c sends what a dead parent has not sent;
 * queue_watch.c is for a program that waits for other things as well. */
#ifndef FORKQ_QUEUE_IMPL_H
#define FORKQ_QUEUE_IMPL_H

#include "base/lifecycle.h"
#include "base/os.h"
#include "feeder/feeder.h"
#include "shared/segment.h"

#include <forkq/handover.h>
#include <forkq/queue.h>

/* Who wants to know that the queue is closed in this process. Called with the feeder's mutex,
 * on any thread. */
struct forkq__follower {
  struct forkq__follower *next;
  void (*closed)(struct forkq__follower *follower);
};

struct forkq_queue {
  struct forkq__life life;
  struct forkq__segment *segment;
  struct forkq__channel channel;
  struct forkq__slots slots;
  struct forkq__feeder feeder;
  forkq_feeder_error_fn on_feeder_error;
  void *on_feeder_error_arg;
  _Atomic unsigned arrived; /* the process for which this was found out, by its forks: */
  int refusal;              /* why it cannot use the queue, or 0 */
  bool parted;   /* it, or one between it and the first, left its PID namespace */
  int poll_set;  /* of pipe and event, or -1; see forkq_queue_fileno */
  bool observed; /* the program has that descriptor */
  struct forkq__follower *followers;
  bool direct_write;
  bool simple;              /* a put sends on the caller's thread; there is no feeder */
  uint32_t drafted_packets; /* that the last packing function filled */
  _Atomic bool join_cancelled;
  /* Of the process that forked this one: see queue_inherit.c. With the feeder's mutex. */
  struct {
    struct forkq__buffer *_Atomic packets; /* without the mutex */
    struct forkq__estate estate;
    int look_ms;
  } inherited;
  struct forkq__estate estate; /* this process's own, before a fork */
  bool has_estate;
  _Atomic int getters;             /* threads of this process in a get */
  _Atomic uint64_t abandoned_seen; /* tasks that joins of this process have reported */
};

extern const struct forkq__life_ops forkq__queue_life_ops;
forkq_queue_t *forkq__queue_of(const struct forkq__life *life);

/* A queue on descriptors that came from elsewhere, in the order of a handover; they are its
 * own if this succeeds. */
int forkq__queue_adopt(forkq_queue_t **ret_queue, const int fds[FORKQ_HANDOVER_FDS],
                       const forkq_queue_options_t *options);

/* What it would refuse whatever the descriptors: 0, FORKQ_ERANGE or FORKQ_EPACKING. */
int forkq__queue_adopt_allowed(const forkq_queue_options_t *options);

/* Whether the calling thread is in a packing function of the user's: it was, and is still. */
extern _Thread_local bool forkq__packing FORKQ__TLS;
bool forkq__still_packing(void);
static inline bool forkq__queue_packing_here(void) {
  return forkq__packing && forkq__still_packing();
}

/* What is put: one of an object, bytes, a function. */
struct forkq__source {
  const msgpack_object *object;
  const void *data;
  size_t size;
  forkq_pack_fn pack;
  void *arg;
};

/* Where this thread writes what it is going to put, before it has a lock of the queue's; and gives
 * up what it has written. */
struct forkq__outbox *forkq__source_draft(void);
void forkq__source_drop_draft(void);

/* Packs it with `write`, which returns other than 0 to stop, as msgpack-c wants it: 0,
 * FORKQ_EBADOBJECT or FORKQ_ETOODEEP of an object, or other than 0 if stopped. A function writes into
 * the thread's draft, in which a message is begun, and what it wrote is not checked: also
 * FORKQ_EPACK, or FORKQ_EPACKING if the draft is another's by now, and not to be touched. */
int forkq__source_write(const struct forkq__source *source, void *sink,
                        msgpack_packer_write write);

/* Packs it into the message that is begun in an outbox, for a function the thread's draft, and
 * checks it: the errors above, and those of forkq__outbox_append. */
int forkq__queue_pack(struct forkq__outbox *outbox, const struct forkq__source *source);

int forkq__queue_put(forkq_queue_t *queue, const struct forkq__source *source,
                     int timeout_ms);

/* Whether a call of a queue's can be made: 0, FORKQ_EPACKING, or why not in this process
 * (FORKQ_ENAMESPACE, FORKQ_ENOROBUST), which its first call finds out. */
int forkq__queue_find_refusal(forkq_queue_t *queue, unsigned forks);
static inline int forkq__queue_check(forkq_queue_t *queue) {
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  unsigned forks = forkq__life_forks();
  bool known = atomic_load_explicit(&queue->arrived, memory_order_acquire) == forks;
  return known ? queue->refusal : forkq__queue_find_refusal(queue, forks);
}

/* The beginning of a call that may wait: also FORKQ_ETIMEOUT. A thread that was cancelled ends before
 * it has begun: in a loop of calls that need not wait there may be no other place for it. */
static inline int forkq__queue_begin_call(forkq_queue_t *queue, int timeout_ms) {
  forkq__os_cancellation_point(NULL, NULL);
  return timeout_ms < -1 ? FORKQ_ETIMEOUT : forkq__queue_check(queue);
}

/* Gets an item that is there, its bytes only: FORKQ__NOTHING if none is, or it cannot be had until
 * the deadline, because a reader is stopped or the item is still being sent; else the errors of
 * forkq_queue_get. */
int forkq__queue_get_soon(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline);

/* A get is between these two; close waits for it. 0 or FORKQ_ECLOSED. */
int forkq__queue_enter_get(forkq_queue_t *queue);
void forkq__queue_leave_get(forkq_queue_t *queue);

/* Sends what this process has put, so that it finds it itself. */
void forkq__queue_send_own(forkq_queue_t *queue, int64_t deadline);

/* Those in join look whether all is done. */
void forkq__queue_wake_joiners(forkq_queue_t *queue);

/* For forkq_wait. begin: 0, and the descriptors to poll, of which the second is -1 where only
 * a look now and then helps; or what a get would fail with. look: 1 or 0, or FORKQ_ECLOSED.
 * While it is watched, close waits as it does for a get. */
int forkq__queue_watch_begin(forkq_queue_t *queue);
void forkq__queue_watch_fds(forkq_queue_t *queue, int fds[2]);
int forkq__queue_watch_look(forkq_queue_t *queue, bool saw_event);
void forkq__queue_watch_end(forkq_queue_t *queue);

/* For forkq_queue_fileno: its end, in close, and in the child of a fork. With the feeder's
 * mutex. */
void forkq__queue_end_observing(forkq_queue_t *queue);
void forkq__queue_observing_forked(forkq_queue_t *queue);

/* For a loop: descriptors of its own, readable when there may be an item or a slot, which it
 * closes; 0, FORKQ_ECLOSED or a negative errno. */
int forkq__queue_duplicate_watched(forkq_queue_t *queue, int *ret_items_fd,
                                   int *ret_room_fd);
int forkq__queue_watch_items(forkq_queue_t *queue); /* until forkq__channel_watch_end */
void forkq__queue_follow(forkq_queue_t *queue, struct forkq__follower *follower);
void forkq__queue_unfollow(forkq_queue_t *queue, struct forkq__follower *follower);

/* With the feeder's mutex. */
void forkq__queue_tell_followers(forkq_queue_t *queue);

/* Whether this thread is in a get of any queue, as when a signal handler has interrupted it. */
bool forkq__queue_getting_here(void);

/* What a parent had put and not sent. Before its fork it notes how much that is; then the child is
 * heir to it, in case that the parent does not send it. take_over: if the parent is dead, the child
 * sends it; end_looking does that for the last time. With the feeder's mutex. begin_looking has the
 * feeder do that from time to time, and is called without the mutex: false if it cannot be had. */
void forkq__queue_note_estate(forkq_queue_t *queue);
void forkq__queue_inherit(forkq_queue_t *queue);
void forkq__queue_take_over(forkq_queue_t *queue);
void forkq__queue_drop_inherited(forkq_queue_t *queue);
bool forkq__queue_begin_looking(forkq_queue_t *queue);
void forkq__queue_end_looking(forkq_queue_t *queue);

/* So many of the items that this process accepts are no new ones: of another process, or of a put
 * that begins anew. With the feeder's mutex. */
void forkq__queue_note_repeated(forkq_queue_t *queue, uint64_t items, uint64_t bytes);

/* Takes back what the dead held. With the feeder's mutex, which keeps the descriptors open. */
bool forkq__queue_reap(forkq_queue_t *queue);

/* Those that are still open; with the feeder's mutex, or before anybody else knows the
 * queue. The memory's stays open with task_done, until close_memory. */
void forkq__queue_close_descriptors(forkq_queue_t *queue);
void forkq__queue_close_memory(forkq_queue_t *queue);

/* The memory and descriptors of a queue that nothing runs on. */
void forkq__queue_free(forkq_queue_t *queue);

#endif
