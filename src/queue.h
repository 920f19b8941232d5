/* The process-shared queue: the public object behind forkq/queue.h.
 *
 * queue_open.c creates it, or opens another program's; queue.c puts and gets; queue_tasks.c has task_done and join, queue_life.c
 * shutdown and close, and what fork and exit do. */
#ifndef FORKQ_SRC_QUEUE_H
#define FORKQ_SRC_QUEUE_H

#include "feeder.h"
#include "lifecycle.h"
#include "segment.h"

#include <forkq/handover.h>
#include <forkq/queue.h>

struct forkq_queue {
  struct forkq__life life;
  struct forkq__segment *segment;
  struct forkq__channel channel;
  struct forkq__feeder feeder;
  forkq_feeder_error_fn on_feeder_error;
  void *on_feeder_error_arg;
  uint64_t identity; /* of the shared memory */
  bool direct_write;
  bool
      simple; /* puts go through to the pipe on the caller's thread; there is no feeder */
  _Atomic bool join_cancelled;
  _Atomic int getters;             /* threads of this process in a get */
  _Atomic uint64_t abandoned_seen; /* tasks that joins of this process have reported */
};

extern const struct forkq__life_ops forkq__queue_life_ops;
forkq_queue_t *forkq__queue_of(const struct forkq__life *life);

/* A queue on descriptors that came from elsewhere, in the order of a handover; they are its
 * own if this succeeds. */
int forkq__queue_adopt(forkq_queue_t **ret_queue, const int fds[FORKQ_HANDOVER_FDS],
                       const forkq_queue_options_t *options);

/* Whether the calling thread is in a packing function of the user's. */
bool forkq__queue_packing_here(void);

/* Those in join look whether all is done. */
void forkq__queue_wake_joiners(forkq_queue_t *queue);

/* For forkq_wait. begin: 0, and the descriptors to poll, of which the second is -1 where only
 * a look now and then helps; or what a get would fail with. look: 1 or 0, or FORKQ_ECLOSED.
 * While it is watched, close waits as it does for a get. */
int forkq__queue_watch_begin(forkq_queue_t *queue);
void forkq__queue_watch_fds(forkq_queue_t *queue, int fds[2]);
int forkq__queue_watch_look(forkq_queue_t *queue, bool saw_event);
void forkq__queue_watch_end(forkq_queue_t *queue);

/* Takes back what the dead held. With the feeder's mutex, which keeps the descriptors open. */
bool forkq__queue_reap(forkq_queue_t *queue);

/* Those that are still open; with the feeder's mutex, or before anybody else knows the
 * queue. */
void forkq__queue_close_descriptors(forkq_queue_t *queue);

/* The memory and descriptors of a queue that nothing runs on. */
void forkq__queue_free(forkq_queue_t *queue);

#endif
