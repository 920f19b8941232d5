#include "queue.h"

#include "heap.h"
#include "os.h"

/* How long exit waits for threads that are in a get to notice. */
#define EXIT_GETTERS_MS 100

static void close_fd(int *fd) {
  if (*fd >= 0)
    forkq__os_close(*fd);
  *fd = -1;
}

void forkq__queue_close_descriptors(forkq_queue_t *queue) {
  close_fd(&queue->poll_set);
  close_fd(&queue->channel.read_fd);
  close_fd(&queue->channel.event_fd);
  close_fd(&queue->channel.write_fd);
  close_fd(&queue->channel.room_fd);
  close_fd(&queue->channel.spill.fd);
}

void forkq__queue_free(forkq_queue_t *queue) {
  forkq__queue_close_descriptors(queue);
  if (queue->segment != NULL)
    forkq__segment_unmap(queue->segment);
  forkq__free(queue);
}

int forkq_queue_shutdown(forkq_queue_t *queue, int immediate) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  struct forkq__segment *segment = queue->segment;
  uint32_t to = immediate ? FORKQ__DROPPED : FORKQ__DRAINING;
  int r = 0;
  forkq__feeder_lock(&queue->feeder);
  if (queue->channel.read_fd < 0)
    r = FORKQ_ECLOSED;
  else
    forkq__channel_announce_shutdown(&queue->channel);
  uint32_t was = r < 0 ? to : atomic_load(&segment->channel.shutdown);
  /* model: shutdown_shut */
  while (was < to && !atomic_compare_exchange_weak(&segment->channel.shutdown, &was, to))
    ;
  if (r == 0) {
    if (immediate)
      forkq__feeder_drop(&queue->feeder);
    forkq__slots_wake_all(&segment->slots, queue->channel.room_fd);
    forkq__feeder_wake_putters(&queue->feeder);
    /* model: shutdown_poke */
    forkq__channel_poke(&queue->channel);
    forkq__queue_wake_joiners(queue);
  }
  forkq__feeder_unlock(&queue->feeder);
  return r;
}

/* Threads of this process leave their gets. One of them may be the sleeper that a poke wakes,
 * or another process's may be: so it pokes until they have left. */
static void see_getters_off(forkq_queue_t *queue, int64_t deadline) {
  while (atomic_load(&queue->getters) > 0 && forkq__os_now() < deadline) {
    forkq__channel_poke(&queue->channel);
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, 1));
  }
}

/* First nobody of this process reads, then its reading end is closed, then the rest of the
 * outbox is sent: where no other process has the pipe, that ends with EPIPE, not in a wait
 * for a reader that cannot come. */
static void close_queue(forkq_queue_t *queue, int64_t getters_deadline) {
  if (atomic_exchange(&queue->channel.closed, true))
    return;
  forkq__slots_wake_all(&queue->segment->slots, queue->channel.room_fd);
  see_getters_off(queue, getters_deadline);
  forkq__feeder_lock(&queue->feeder);
  /* A put on a thread of the program's must not meet a pipe without reader: SIGPIPE. */
  if (queue->simple)
    forkq__feeder_stop_put_through(&queue->feeder);
  forkq__queue_end_observing(queue);
  close_fd(&queue->poll_set);
  close_fd(&queue->channel.read_fd);
  close_fd(&queue->channel.event_fd);
  forkq__queue_tell_followers(queue);
  forkq__feeder_close(&queue->feeder);
  forkq__feeder_unlock(&queue->feeder);
}

/* The last of the feeder, for a queue that is closed. */
static void end_feeder(forkq_queue_t *queue) {
  if (atomic_load(&queue->join_cancelled)) {
    forkq__feeder_lock(&queue->feeder);
    forkq__feeder_abandon(&queue->feeder);
    forkq__feeder_unlock(&queue->feeder);
  }
  (void)forkq__feeder_join(&queue->feeder, FORKQ__FOREVER);
}

int forkq_queue_close(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  close_queue(queue, FORKQ__FOREVER);
  return 0;
}

int forkq_queue_join_thread(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  if (!atomic_load(&queue->channel.closed))
    return FORKQ_ENOTCLOSED;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  int r = 0;
  if (!atomic_load(&queue->join_cancelled))
    r = forkq__feeder_join(&queue->feeder, forkq__os_deadline(timeout_ms));
  forkq__feeder_lock(&queue->feeder);
  if (ret_unsent != NULL)
    *ret_unsent = forkq__feeder_unsent(&queue->feeder);
  forkq__feeder_unlock(&queue->feeder);
  return r;
}

int forkq_queue_cancel_join_thread(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  atomic_store(&queue->join_cancelled, true);
  return 0;
}

void forkq_queue_destroy(forkq_queue_t *queue) {
  if (queue == NULL)
    return;
  close_queue(queue, FORKQ__FOREVER);
  end_feeder(queue);
  forkq__life_end(&queue->life);
  forkq__feeder_fini(&queue->feeder);
  forkq__queue_free(queue);
}

/* ---- fork and exit ----------------------------------------------------------------------- */

forkq_queue_t *forkq__queue_of(const struct forkq__life *life) {
  return (forkq_queue_t *)((uintptr_t)life - offsetof(forkq_queue_t, life));
}

static void before_fork(struct forkq__life *life) {
  forkq__feeder_lock(&forkq__queue_of(life)->feeder);
}

static void after_fork_parent(struct forkq__life *life) {
  forkq__feeder_unlock(&forkq__queue_of(life)->feeder);
}

static void after_fork_child(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  forkq__feeder_forked(&queue->feeder);
  atomic_store(&queue->getters, 0);
  atomic_store(&queue->join_cancelled, false);
  queue->followers = NULL; /* the parent's */
  forkq__queue_observing_forked(queue);
  if (atomic_load(&queue->channel.closed)) {
    queue->feeder.closing = true;
    forkq__queue_close_descriptors(queue);
  }
}

static void at_exit(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  /* Threads that sleep in a get do not keep the program from its end. */
  close_queue(queue, forkq__os_deadline(EXIT_GETTERS_MS));
  end_feeder(queue);
}

const struct forkq__life_ops forkq__queue_life_ops = {
  .before_fork = before_fork,
  .after_fork_parent = after_fork_parent,
  .after_fork_child = after_fork_child,
  .at_exit = at_exit,
};
