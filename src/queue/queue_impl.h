/* The process-shared queue: the object of forkq/queue.h, and what its files share.
 *
 * queue_open.c creates a queue, or opens one of another program. queue_put.c, queue_get.c and
 * queue_stats.c have its calls; queue_source.c packs, and queue_reserve.c lets the program write.
 * queue_tasks.c has task_done and join; queue_life.c has shutdown and close, and what fork and exit do.
 * queue_inherit.c sends what a dead parent has not sent; queue_interrupt.c ends calls that are blocked;
 * queue_room.c tells a loop of the program that there is room; queue_watch.c is for programs that wait
 * for other things as well; queue_elsewhere.c asks another library that holds a queue. */
#ifndef FORKQ_QUEUE_IMPL_H
#define FORKQ_QUEUE_IMPL_H

#include "base/lifecycle.h"
#include "base/os.h"
#include "feeder/feeder.h"
#include "queue/elsewhere.h"
#include "shared/segment.h"

#include <forkq/handover.h>
#include <forkq/queue.h>

/* A follower of a queue. `closed` is called when this process closes the queue, with the feeder's
 * mutex, on any thread. */
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
  _Atomic unsigned arrived; /* forkq__life_forks() when `refusal` was determined */
  int refusal;              /* why this process cannot use the queue, or 0 */
  bool parted;   /* this process, or an ancestor with the queue, left its PID namespace */
  int poll_set;  /* an epoll over pipe and event, or -1; see forkq_queue_fileno */
  bool observed; /* the program was given poll_set */
  _Atomic int loop_watches; /* loops of this process that watch it for items */
  int64_t lost_look_at; /* when the feeder looks next for lost tasks; as room.look_at */
  /* See queue_room.c. With the feeder's mutex. */
  struct {
    int set; /* an epoll over the room event and own_fd, or -1: the program has not asked for it */
    int own_fd;    /* readable: there may be room */
    bool watching; /* a put has found no room */
    struct forkq__look look;
    int64_t look_at; /* when the feeder looks next; FORKQ__FOREVER: never */
  } room;
  struct forkq__follower *followers;
  bool direct_write;
  uint32_t drafted_bytes; /* of the last draft of an object or a function */
  TAILQ_HEAD(, forkq__reservation) reservations; /* with the sender's mutex */
  _Atomic bool join_cancelled;
  /* Unsent items of the process that forked this one: see queue_inherit.c. With the feeder's
   * mutex. */
  struct {
    struct forkq__buffer *_Atomic packets; /* read without the mutex */
    struct forkq__estate estate;
    bool from_parent; /* not from a process before it */
    int look_ms;
    int64_t look_at; /* when the feeder looks next; FORKQ__FOREVER: never */
  } inherited;
  struct forkq__estate estate; /* this process's own, noted before a fork */
  bool has_estate;
  _Atomic int getters;             /* threads of this process in a get or in forkq_wait */
  _Atomic uint64_t abandoned_seen; /* abandoned tasks that joins here have reported */
  /* Another library has the queue: see elsewhere.h. Else NULL. */
  const struct forkq__elsewhere_ops *elsewhere;
  void *elsewhere_state;
};

extern const struct forkq__life_ops forkq__queue_life_ops;
forkq_queue_t *forkq__queue_of(const struct forkq__life *life);

/* Opens a queue on descriptors that came from elsewhere, in the order of a handover. On success the
 * queue owns them; on failure the caller keeps them, as they were. Returns and blocks as
 * forkq_queue_attach. */
int forkq__queue_adopt(forkq_queue_t **ret_queue, const int fds[FORKQ_HANDOVER_FDS],
                       const forkq_queue_options_t *options);

/* The checks of forkq__queue_adopt that need no descriptors: 0, FORKQ_ERANGE or FORKQ_EPACKING. */
int forkq__queue_adopt_allowed(const forkq_queue_options_t *options);

/* Sends the queue as forkq_queue_send does, without waiting for the socket. No thread closes the queue
 * meanwhile. Returns 0; FORKQ_ECLOSED; FORKQ_TIMEDOUT, if another thread has the sender's mutex for long;
 * or a negative errno. */
int forkq__queue_send_soon(forkq_queue_t *queue, int socket);

/* Whether the calling thread is in a packing function of the program. `forkq__packing` says that it
 * was; forkq__still_packing says whether it still is. */
extern _Thread_local bool forkq__packing FORKQ__TLS;
bool forkq__still_packing(void);
static inline bool forkq__queue_packing_here(void) {
  return forkq__packing && forkq__still_packing();
}

/* The message of a put: one of an object, bytes, and a function. `size` is that of the bytes; or of what is
 * in a str or bin, where the caller knows it; or 0. */
struct forkq__source {
  const msgpack_object *object;
  const void *data;
  size_t size;
  forkq_pack_fn pack;
  void *arg;
};

/* A plain value, as the source of a put. The source points to the object, so the struct is not copied. */
struct forkq__plain {
  struct forkq__source source;
  msgpack_object object;
};

/* Make a plain value, which refers to the caller's bytes. They return 0, FORKQ_ENULL or FORKQ_ETOOBIG. */
int forkq__plain_bytes(struct forkq__plain *plain, const void *data, size_t size);
int forkq__plain_str(struct forkq__plain *plain, const char *text);
void forkq__plain_int(struct forkq__plain *plain, int64_t value);
void forkq__plain_nil(struct forkq__plain *plain);

/* The calling thread's draft: the outbox into which it packs a message before it takes a lock of
 * the queue. drop_draft discards what the thread has written. before_fork and forked: what is in the
 * parent's arena is not the child's. */
struct forkq__outbox *forkq__source_draft(void);
void forkq__source_drop_draft(void);
void forkq__source_before_fork(void);
void forkq__source_forked(void);

/* Packs the message with `write`, which returns nonzero to stop, as msgpack-c demands. Returns 0;
 * FORKQ_EBADOBJECT or FORKQ_ETOODEEP, for an object; or nonzero, if `write` has stopped it. A
 * function writes into the thread's draft instead, in which the caller has begun a message. The
 * function's output is not checked here. The result can then also be FORKQ_EPACK, or FORKQ_EPACKING
 * if the function no longer has the draft. The caller must not touch the draft in that case. */
int forkq__source_write(const struct forkq__source *source, void *sink,
                        msgpack_packer_write write);

/* Packs the message into `outbox`, in which the caller has begun a message. For a function,
 * `outbox` is the thread's draft, and its output is checked. Returns 0, the errors above, and those
 * of forkq__outbox_append. */
int forkq__queue_pack(struct forkq__outbox *outbox, const struct forkq__source *source);

/* Whether no more may be put. */
static inline bool forkq__queue_is_shut(forkq_queue_t *queue) {
  return atomic_load(&queue->segment->channel.shutdown) != FORKQ__OPEN;
}

/* Puts the message. Returns and blocks as forkq_queue_put_with. put_until is for a call that has
 * begun. */
int forkq__queue_put_until(forkq_queue_t *queue, const struct forkq__source *source,
                           int64_t deadline);
int forkq__queue_put(forkq_queue_t *queue, const struct forkq__source *source,
                     int timeout_ms);

/* Puts the message on the caller's thread, without a feeder, into a queue without maxsize. Blocks
 * until the message is in the pipe. Returns as forkq_simple_queue_put_with. */
int forkq__queue_put_through(forkq_queue_t *queue, const struct forkq__source *source);

/* For queue_reserve.c. lock_to_put takes the sender's mutex, lock_with_slot the mutex and a slot, or
 * neither; they return and block as forkq_queue_put. send_draft puts a drafted message, with the mutex and a slot; if it fails,
 * with FORKQ_ECLOSED, it gives the slot back. */
int forkq__queue_lock_to_put(forkq_queue_t *queue, int64_t deadline);
int forkq__queue_lock_with_slot(forkq_queue_t *queue, int64_t deadline);
int forkq__queue_send_draft(forkq_queue_t *queue, struct forkq__outbox *draft);

/* Ends all reservations; no thread uses the queue. forked: in the child of a fork. */
void forkq__queue_end_reservations(forkq_queue_t *queue);
void forkq__queue_reservations_forked(forkq_queue_t *queue);

/* Whether this thread can make a call on the queue: 0, FORKQ_EPACKING, or why this process cannot
 * use the queue (FORKQ_ENAMESPACE, FORKQ_ENOROBUST). The first call of a process determines the
 * last two. */
int forkq__queue_find_refusal(forkq_queue_t *queue, unsigned forks);
static inline int forkq__queue_check(forkq_queue_t *queue) {
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  unsigned forks = forkq__life_forks();
  bool known = FORKQ__LOAD(queue->arrived) == forks;
  return known ? queue->refusal : forkq__queue_find_refusal(queue, forks);
}

/* Begins a call that may wait: the results of forkq__queue_check, and FORKQ_ETIMEOUT. A cancelled
 * thread ends here, before the call has begun. A loop of calls that need not wait may have no other
 * cancellation point. */
static inline int forkq__queue_begin_call(forkq_queue_t *queue, int timeout_ms) {
  forkq__os_cancellation_point(NULL, NULL);
  return timeout_ms < -1 ? FORKQ_ETIMEOUT : forkq__queue_check(queue);
}

/* For a queue that another library holds: see elsewhere.h. Each takes the place of a public function whose check
 * has failed with `r`, which it returns if the queue is another one. `timeout_ms` is valid, unless `r` says
 * that it is not. The sources are made as they are put. `ret_got` may be NULL. */
struct forkq__sources {
  int (*make)(const void *arg, size_t n, struct forkq__source *ret_source);
  const void *arg;
  size_t count;
};
int forkq__elsewhere_put(forkq_queue_t *queue, const struct forkq__source *source,
                         int timeout_ms, int r);
int forkq__elsewhere_put_many(forkq_queue_t *queue, const struct forkq__sources *sources,
                              int timeout_ms, size_t *n, int r);
int forkq__elsewhere_get(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                         int timeout_ms, size_t *ret_got, int r);
int forkq__elsewhere_task_done(forkq_queue_t *queue, const forkq_item_t *item, int r);
int forkq__elsewhere_join(forkq_queue_t *queue, int64_t deadline, uint64_t *ret_abandoned,
                          int r);
int forkq__elsewhere_flush(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent,
                           int r);
int forkq__elsewhere_fileno(forkq_queue_t *queue, int r);
int forkq__elsewhere_shutdown(forkq_queue_t *queue, int immediate, int r);

/* The same for the functions that make no check, or whose check does not matter. Only for such a queue. */
int64_t forkq__elsewhere_qsize(forkq_queue_t *queue);
int forkq__elsewhere_full(forkq_queue_t *queue);
int forkq__elsewhere_stats(forkq_queue_t *queue, forkq_queue_stats_t *stats);
int forkq__elsewhere_interrupt(forkq_queue_t *queue);
int forkq__elsewhere_close(forkq_queue_t *queue);
void forkq__elsewhere_destroy(forkq_queue_t *queue);
static inline bool forkq__queue_is_elsewhere(const forkq_queue_t *queue) {
  return queue->elsewhere != NULL;
}

/* Gets the bytes of an item that is there, or borrows them: 0, FORKQ__NOTHING, or the errors of
 * forkq_queue_get. FORKQ__NOTHING: there is no item, or the caller cannot have it until the deadline,
 * because a reader is stopped or the item is still being sent. get_into_soon returns the errors of
 * forkq_queue_get_bytes_into as well. After a begin_get_soon that returns 0 the caller leaves the get. */
int forkq__queue_get_soon(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline,
                          bool may_borrow);
int forkq__queue_begin_get_soon(forkq_queue_t *queue, forkq_item_t *item,
                                int64_t deadline, bool may_borrow);
int forkq__queue_get_into_soon(forkq_queue_t *queue, void *buffer, size_t length,
                               int64_t deadline, size_t *ret_size);

/* The first item that this process borrows is to be borrowed already: its next get takes a cell. */
static inline void forkq__queue_wish_to_borrow(forkq_queue_t *queue) {
  if (FORKQ__LOAD(queue->channel.wish) == FORKQ__NO_WISH)
    FORKQ__STORE(queue->channel.wish, FORKQ__WANTS_CELL);
}

/* Gets the bytes of an item, as forkq_queue_get_packed, or borrows it. If it returns 0, the caller leaves
 * the get. GOT_ELSEWHERE: the item is there, and there is no get to be left. */
enum { FORKQ__GOT_ELSEWHERE = 1 };
int forkq__queue_begin_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms);

/* A thread is in a get between these two, and close waits for it. enter_get: 0 or FORKQ_ECLOSED. */
int forkq__queue_enter_get(forkq_queue_t *queue);
void forkq__queue_leave_get(forkq_queue_t *queue);

/* Sends the items that this process has put, so that its own get finds them. */
void forkq__queue_send_own(forkq_queue_t *queue, int64_t deadline);

/* Wakes the joiners, which then look whether all tasks are done. Safe in a signal handler. */
void forkq__queue_wake_joiners(forkq_queue_t *queue);

/* For forkq_wait. Between begin and end, close waits as it does for a get. begin: 0, or the error
 * that a get would return. fds: the descriptors to poll; each is -1 where only a look from time to time helps.
 * look: 1 if a get would find an item, a shutdown or the end, else 0; or FORKQ_ECLOSED. */
int forkq__queue_watch_begin(forkq_queue_t *queue);
void forkq__queue_watch_fds(forkq_queue_t *queue, int fds[2]);
int forkq__queue_watch_look(forkq_queue_t *queue, bool saw_event);
void forkq__queue_watch_end(forkq_queue_t *queue);

/* For forkq_queue_fileno. end_observing ends what it began; close calls this, with the feeder's
 * mutex. observing_forked counts the child of a fork as an observer of its own, before its first
 * call. */
void forkq__queue_end_observing(forkq_queue_t *queue);
void forkq__queue_observing_forked(forkq_queue_t *queue);

/* Where tasks are to be got again: a process that watches the queue, and so makes no call meanwhile, has
 * its feeder look for processes that died. begin: from now on; look: the time lost_look_at has come; both
 * with the feeder's mutex. resume: in the child of a fork, in its first call; false: another thread has the
 * mutex, and the next call tries again. */
void forkq__queue_begin_lost_looks(forkq_queue_t *queue);
void forkq__queue_look_for_lost(forkq_queue_t *queue);
bool forkq__queue_resume_lost_looks(forkq_queue_t *queue);

/* For forkq_queue_room_fileno, all with the feeder's mutex. note_no_room: a put that does not wait finds no
 * room. look_for_room: the time room.look_at has come. tell_room: a put would not wait. end_room: at close.
 * room_forked: in the child of a fork. */
void forkq__queue_note_no_room(forkq_queue_t *queue);
void forkq__queue_look_for_room(forkq_queue_t *queue);
void forkq__queue_tell_room(forkq_queue_t *queue);
void forkq__queue_end_room(forkq_queue_t *queue);
void forkq__queue_room_forked(forkq_queue_t *queue);

/* Tells the feeder when to look next: for room, for lost tasks, or for what a parent has left. With its
 * mutex. */
void forkq__queue_plan_look(forkq_queue_t *queue);

/* Whether there is no room for a put of this process. */
static inline bool forkq__queue_is_full(forkq_queue_t *queue) {
  return forkq__sender_full(&queue->feeder.sender) || forkq__slots_full(&queue->slots);
}

/* For a loop. duplicate_watched: two new descriptors, which the loop closes. The first is readable
 * when there may be an item, the second when there may be a slot. watch_items: until
 * unwatch_items, the first is readable also for items that were read ahead. Both return 0,
 * FORKQ_ECLOSED, the errors of forkq__queue_check, or a negative errno. follow and unfollow add and
 * remove a follower. All but unwatch_items take the sender's mutex. */
int forkq__queue_duplicate_watched(forkq_queue_t *queue, int *ret_items_fd,
                                   int *ret_room_fd);
int forkq__queue_watch_items(forkq_queue_t *queue);
void forkq__queue_unwatch_items(forkq_queue_t *queue);
void forkq__queue_follow(forkq_queue_t *queue, struct forkq__follower *follower);
void forkq__queue_unfollow(forkq_queue_t *queue, struct forkq__follower *follower);

/* The slots of the queue, for a loop that waits for one with its own descriptor. */
static inline struct forkq__slots forkq__queue_slots(const forkq_queue_t *queue,
                                                     int room_fd) {
  struct forkq__slots slots = queue->slots;
  slots.event_fd = room_fd;
  return slots;
}

/* The most bytes that a message may have. */
static inline uint32_t forkq__queue_max_message(const forkq_queue_t *queue) {
  return queue->channel.max_message;
}

/* Calls `closed` of each follower. With the sender's mutex. */
void forkq__queue_tell_followers(forkq_queue_t *queue);

/* Makes what a thread needs to be interrupted in a poll; see interrupt.h. */
void forkq__queue_equip(forkq_queue_t *queue);

/* Whether this thread is in a get of any queue, as in a signal handler that has interrupted the
 * get. */
bool forkq__queue_getting_here(void);

/* The items that a parent had put and not sent: see queue_inherit.c. With the sender's mutex, or in
 * a child before its first call; begin_looking takes the mutex itself. note_estate: the parent
 * notes, before its fork, how many items these are. inherit: the child keeps its copies of them.
 * take_over: if the parent is dead and has not sent them, the child sends them. drop_inherited:
 * frees the copies. begin_looking: the feeder calls take_over from time to time; false if the mutex
 * cannot be had. end_looking: tries to take over for the last time, and then drops. */
void forkq__queue_note_estate(forkq_queue_t *queue);
void forkq__queue_inherit(forkq_queue_t *queue);
void forkq__queue_take_over(forkq_queue_t *queue);
void forkq__queue_drop_inherited(forkq_queue_t *queue);
bool forkq__queue_begin_looking(forkq_queue_t *queue);
void forkq__queue_end_looking(forkq_queue_t *queue);

/* Takes back what dead processes held: whether anything came back. With the sender's mutex, which
 * keeps the descriptors open. */
bool forkq__queue_reap(forkq_queue_t *queue);

/* Closes the descriptors that are still open. With the sender's mutex, or before another thread has
 * the queue. In a joinable queue the descriptor of the memory stays open until close_memory. */
void forkq__queue_close_descriptors(forkq_queue_t *queue);
void forkq__queue_close_memory(forkq_queue_t *queue);

/* Frees the memory and closes the descriptors of a queue that no thread uses. */
void forkq__queue_free(forkq_queue_t *queue);

#endif
