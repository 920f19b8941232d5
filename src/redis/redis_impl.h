/* A queue that a server holds, as one process has it: the object, and what its files share.
 *
 * lane.c: one client of the server, its connection, and asking until there is an answer. lane_put.c and lane_get.c: putting
 * and getting. redis_queue.c: the object, and giving lanes to threads; redis_calls.c: its other calls; redis_open.c:
 * opening. beat.c: the thread that says that this process lives; watch.c: the one that watches; thread.c: what the two have
 * in common.
 *
 * Each thread that is in a call has a lane of its own, so nothing of a connection is shared, and no thread
 * waits for another's answer. A lane is a client of the server: it has a number there, a lease, and the items
 * that were got on it. The mutex guards who has which lane, and what was got on each; nobody waits with it. */
#ifndef FORKQ_REDIS_IMPL_H
#define FORKQ_REDIS_IMPL_H

#include "base/mutex.h"
#include "base/os.h"
#include "queue/elsewhere.h"
#include "redis/link.h"

#include <forkq/redis.h>

/* The most items in one command, and the longest id. */
#define FORKQ__REDIS_BATCH 64
#define FORKQ__REDIS_ID_MAX 47

/* How long the server lets a command wait before this process asks anew. */
#define FORKQ__REDIS_SLICE_MS 5000

/* An item that was got and is not done. */
struct forkq__held {
  uint64_t task; /* item->task_ */
  bool lost;     /* another client may have it by now */
  bool marking;  /* a thread says that it is done */
  bool asked;    /* that was said before, and had no answer */
  char id[FORKQ__REDIS_ID_MAX + 1];
};

struct forkq__lane {
  struct forkq__lane *next; /* lanes stay until the queue is destroyed */
  struct forkq__redis *redis;
  struct forkq__link link;
  bool busy;               /* a thread has it, or the beat does */
  pthread_t owner;         /* the thread that had it last */
  _Atomic uint64_t client; /* its number; 0: none yet */
  char queue_id[64];       /* of the queue in which it has that number */
  int64_t
      old_id; /* of its last connection, on that process of the server; 0: there was none */
  char old_run_id[FORKQ__RUN_ID_MAX];
  uint64_t number; /* of the next message that it puts */
  uint64_t
      unknown; /* messages from that number on of which it is not known whether they were put; 0: none */
  bool settling; /* the request is what became of those */
  bool unseen;   /* it may have been given items of which it does not know */
  bool reopened; /* the last request was sent more than once */
  bool leaves;   /* a close uses it, which nothing interrupts */
  struct forkq__held *held;
  size_t held_count, held_capacity;
  size_t done_count; /* so many of these, the first, a get has said to be done */
};

struct forkq__redis {
  forkq_queue_t *queue;
  struct forkq__redis_config config;
  struct forkq__mutex mutex;
  struct forkq__condition left; /* woken when the last thread has left, after `closed` */
  struct forkq__lane *_Atomic lanes;
  uint32_t users; /* threads in a call */
  bool closed;    /* with the mutex; `stopping` without */
  _Atomic bool stopping;
  int wake_fd; /* readable once the queue is closed; -1: none */
  uint64_t wake_identity;
  uint64_t tasks;       /* the last number of a task */
  _Atomic bool started; /* this process has what it needs of its own */
  _Atomic bool joinable;
  bool forking;                      /* a fork has the mutex */
  struct forkq__mutex control_mutex; /* a thread uses `control` */
  struct forkq__link control;        /* ends the waits of others */
  uv_sem_t begun;                    /* a thread that was begun runs */
  struct {
    uv_thread_t thread;
    bool runs;
    struct forkq__link link;
    int poke_fd; /* to look now */
  } beat;
  struct {
    uv_thread_t thread;
    struct forkq__lane *lane;
    int fd;      /* what the program has; -1: it has not asked for it */
    int poke_fd; /* a get found nothing */
    bool raised; /* with the mutex */
    _Atomic bool runs;
  } watch;
};

/* ---- threads: thread.c ------------------------------------------------------------------------- */

/* Waits as forkq__os_poll does, on one descriptor or none (NULL), until the queue is closed: FORKQ_ECLOSED. */
int forkq__redis_poll(void *redis, struct pollfd *fd, int64_t deadline);

/* begin: 0, FORKQ_ENOTHREAD or -ENOMEM. With the mutex, so that no fork comes between. `run` posts `begun` first. end:
 * the caller has seen to it that the thread ends. */
int forkq__redis_begin_thread(struct forkq__redis *redis, uv_thread_t *thread,
                              void (*run)(void *redis));
void forkq__redis_end_thread(uv_thread_t *thread);

/* ---- watching: watch.c ------------------------------------------------------------------------- */

/* found_nothing: a get. stop: at close. */
int forkq__redis_fileno(void *state);
void forkq__watch_found_nothing(struct forkq__redis *redis);
void forkq__watch_stop(struct forkq__redis *redis);

/* ---- lanes: redis_queue.c --------------------------------------------------------------------- */

/* Gives the calling thread a lane, the one that it had, if it can: 0, FORKQ_ECLOSED, -ENOMEM, -EDEADLK, or
 * FORKQ_TIMEDOUT. to_get: one that may have been given items comes first. */
int forkq__redis_take(struct forkq__redis *redis, int64_t deadline, bool to_get,
                      struct forkq__lane **ret_lane);
void forkq__redis_give(struct forkq__lane *lane);

/* Adds a lane, with the mutex; NULL: there is no memory. */
struct forkq__lane *forkq__redis_add_lane(struct forkq__redis *redis);

/* Starts what the process has of the queue, in its first call. */
int forkq__redis_start(struct forkq__redis *redis);

/* Makes an event, unless there is one: 0 or a negative errno. */
int forkq__redis_make_event(struct forkq__redis *redis, int *fd);

/* ---- one lane: lane.c -------------------------------------------------------------------------- */

/* When a call ends whose deadline is this one. A call that does not wait waits for the answer. */
int64_t forkq__lane_limit(const struct forkq__lane *lane, int64_t deadline);

/* When a call ends that learns from the server how its wait ended. That is short: the connection may be why it is late. */
int64_t forkq__lane_grace(const struct forkq__lane *lane);

/* Waits on the lane's connection, as a call that waits does: the descriptors that are ready, FORKQ_ECLOSED,
 * FORKQ_EINTERRUPTED or a negative errno. `leave` is called if the thread is cancelled. */
struct forkq__lane_wait {
  struct forkq__lane *lane;
  void (*leave)(void *arg);
  void *arg;
};
int forkq__lane_poll(void *wait, struct pollfd *fd, int64_t deadline);

/* Makes sure that the lane has a connection, and is a client, in no more than `answer_ms`: 0, or the errors of
 * forkq__link_open. */
int forkq__lane_connect(struct forkq__lane *lane, struct forkq__patience patience);

/* Writes a request with `write`, which may be called more than once, and receives one answer, until the limit: 0, and
 * the answer is no error; FORKQ_ECONNLOST; FORKQ_ECLOSED; FORKQ_EINTERRUPTED; or another error of the server. *ret_sent
 * says whether the server may have the request. */
typedef void (*forkq__write_fn)(struct forkq__lane *lane, const void *arg);
int forkq__lane_ask(struct forkq__lane *lane, forkq__write_fn write, const void *arg,
                    int64_t deadline, redisReply **ret_reply, bool *ret_sent);

/* The same, of a script that answers with a number. */
int forkq__lane_ask_number(struct forkq__lane *lane, forkq__write_fn write,
                           const void *arg, int64_t deadline, int64_t *ret_number,
                           bool *ret_sent);

/* A command that blocks on this lane's connection ends now. */
void forkq__lane_unblock(struct forkq__lane *lane);

/* The time for a blocking command that ends by itself: a slice, or less. */
int64_t forkq__lane_slice(int64_t deadline);
void forkq__lane_seconds(struct forkq__link *link, int64_t until);

/* ---- putting and getting ----------------------------------------------------------------------- */

int forkq__lane_put(struct forkq__lane *lane, const forkq_bytes_t *messages, size_t count,
                    int64_t deadline, size_t *ret_put);

/* Before a request: what became of the last put that is not known, which has no effect any more after that. 0, or an
 * error. */
int forkq__lane_settle(struct forkq__lane *lane, int64_t deadline);

/* Gives the lane up to `count` items. */
int forkq__lane_get(struct forkq__lane *lane, forkq_item_t *items, size_t count,
                    int64_t deadline, size_t *ret_got);

/* Writes a command that blocks until there is an item, and one that gives it back. */
void forkq__lane_write_watch(struct forkq__lane *lane, int64_t until);

/* Gives back what the lane may have been given and does not know of. */
void forkq__lane_put_back(struct forkq__lane *lane, int64_t deadline);

/* What a lane has got. With the queue's mutex. hold: false: there is no memory. */
bool forkq__lane_hold(struct forkq__lane *lane, const char *id, uint64_t task);
void forkq__lane_let_go(struct forkq__lane *lane, size_t index);

/* ---- the other calls: redis_calls.c ------------------------------------------------------------ */

int64_t forkq__redis_qsize(void *state);
int forkq__redis_full(void *state);
int forkq__redis_flush(void *state, int64_t deadline, uint64_t *ret_unsent);
int forkq__redis_task_done(void *state, const forkq_item_t *item);
int forkq__redis_join(void *state, int64_t deadline, uint64_t *ret_abandoned);
int forkq__redis_shutdown(void *state, bool immediate);

/* ---- the beat: beat.c -------------------------------------------------------------------------- */

/* start: 0, FORKQ_ENOTHREAD or -ENOMEM. poke: it looks now. */
int forkq__beat_start(struct forkq__redis *redis);
void forkq__beat_stop(struct forkq__redis *redis);
void forkq__beat_poke(struct forkq__redis *redis);

#endif
