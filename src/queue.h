/* The process-shared queue: the public object behind forkq/queue.h.
 *
 * queue.c creates it, puts and gets; queue_tasks.c has task_done and join, queue_life.c
 * shutdown and close, and what fork and exit do. */
#ifndef FORKQ_SRC_QUEUE_H
#define FORKQ_SRC_QUEUE_H

#include "feeder.h"
#include "lifecycle.h"
#include "segment.h"

#include <forkq/queue.h>

struct forkq_queue {
  struct forkq__life life;
  struct forkq__segment *segment;
  struct forkq__channel channel;
  struct forkq__feeder feeder;
  forkq_feeder_error_fn on_feeder_error;
  void *on_feeder_error_arg;
  bool direct_write;
  _Atomic bool join_cancelled;
  _Atomic int getters;             /* threads of this process in a get */
  _Atomic uint64_t abandoned_seen; /* tasks that joins of this process have reported */
};

extern const struct forkq__life_ops forkq__queue_life_ops;

/* Whether the calling thread is in a packing function of the user's. */
bool forkq__queue_packing_here(void);

/* Takes back what the dead held. With the feeder's mutex, which keeps the descriptors open. */
bool forkq__queue_reap(forkq_queue_t *queue);

/* Those that are still open; with the feeder's mutex, or before anybody else knows the
 * queue. */
void forkq__queue_close_descriptors(forkq_queue_t *queue);

/* The memory and descriptors of a queue that nothing runs on. */
void forkq__queue_free(forkq_queue_t *queue);

#endif
