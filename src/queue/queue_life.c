#include "queue/queue_impl.h"

#include "base/heap.h"
#include "base/os.h"

#include <errno.h>
#include <pthread.h>

/* How long exit waits for threads that are in a get, or in a simple queue's put, to notice. */
#define EXIT_GETTERS_MS 100

/* How long exit waits for the feeder where a thread is in a get all the same, or exit comes in a
 * handler that interrupted a get: the feeder may wait for what that thread holds. And for its
 * mutex, which the interrupted thread may have. */
#define EXIT_FEEDER_MS 1000

/* The number may be another file's by now: a program may have closed all that it did not know. */
static void close_fd(int *fd, uint64_t identity) {
  if (*fd >= 0)
    forkq__os_close_own(*fd, identity);
  *fd = -1;
}

static void close_reading(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  close_fd(&queue->poll_set, channel->event_identity); /* of one anonymous kind, too */
  close_fd(&channel->read_fd, channel->pipe_identity);
  close_fd(&channel->event_fd, channel->event_identity);
}

/* Who joins after this, or has tasks to do, needs the memory's file to see who lives. */
void forkq__queue_close_descriptors(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  close_reading(queue);
  close_fd(&channel->write_fd, channel->pipe_identity);
  close_fd(&queue->slots.event_fd, channel->event_identity);
  if (!channel->joinable)
    forkq__queue_close_memory(queue);
}

void forkq__queue_close_memory(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  forkq__liveness_end(&channel->account.liveness);
  close_fd(&channel->spill.fd, channel->account.liveness.identity);
  channel->account.liveness.memory_fd = -1;
}

void forkq__queue_free(forkq_queue_t *queue) {
  forkq__queue_close_descriptors(queue);
  forkq__queue_close_memory(queue);
  if (queue->segment != NULL)
    forkq__segment_unmap(queue->segment);
  forkq__free(queue);
}

/* Where the namespace cannot be told it is the parent's, unless that one is outside. */
static bool is_same_namespace(const forkq_queue_t *queue) {
  uint64_t here = forkq__os_pid_namespace(), there = queue->segment->pid_namespace;
  return here != 0 && there != 0 ? here == there
                                 : !queue->parted && !forkq__os_parent_is_outside();
}

/* Why this process cannot use the queue, or 0. */
static int find_refusal(const forkq_queue_t *queue) {
  if (queue->refusal != 0)
    return queue->refusal;
  return is_same_namespace(queue) ? forkq__lock_check() : FORKQ_ENAMESPACE;
}

int forkq__queue_find_refusal(forkq_queue_t *queue, unsigned forks) {
  queue->refusal = find_refusal(queue);
  queue->channel.process_bit = forkq__os_process_bit();
  if (queue->refusal == 0 && !forkq__queue_begin_looking(queue))
    return 0; /* the next call does it */
  atomic_store_explicit(&queue->arrived, forks, memory_order_release);
  return queue->refusal;
}

int forkq_queue_shutdown(forkq_queue_t *queue, int immediate) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = forkq__feeder_lock(&queue->feeder, FORKQ__FOREVER);
  if (r < 0)
    return r;
  struct forkq__segment *segment = queue->segment;
  uint32_t to = immediate ? FORKQ__DROPPED : FORKQ__DRAINING;
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
    forkq__slots_wake_all(&queue->slots);
    forkq__feeder_wake_putters(&queue->feeder);
    /* model: shutdown_poke */
    forkq__channel_poke(&queue->channel);
    forkq__queue_wake_joiners(queue);
  }
  forkq__feeder_unlock(&queue->feeder);
  return r;
}

/* Threads of this process leave their gets. One of them may be the sleeper that a poke wakes,
 * or another process's may be: so it pokes until they have left. Whether they have. */
static bool see_getters_off(forkq_queue_t *queue, int64_t deadline) {
  while (atomic_load(&queue->getters) > 0 && forkq__os_now() < deadline) {
    forkq__channel_poke(&queue->channel);
    forkq__channel_poke_own(&queue->channel);
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, 1));
  }
  return atomic_load(&queue->getters) == 0;
}

/* First nobody of this process reads, then its reading end is closed, then the rest of the
 * outbox is sent: where no other process has the pipe, that ends with EPIPE, not in a wait
 * for a reader that cannot come. At exit threads may stay in their gets, and in a simple queue's
 * put: then what they use stays theirs, and the kernel's to give back. */
static int close_queue(forkq_queue_t *queue, int64_t deadline) {
  if (forkq__mutex_is_mine(&queue->feeder.mutex))
    return -EDEADLK;
  if (atomic_exchange(&queue->channel.closed, true))
    return 0;
  forkq__slots_wake_all(&queue->slots);
  bool left = see_getters_off(queue, deadline);
  int r = forkq__feeder_lock(&queue->feeder, FORKQ__FOREVER);
  if (r < 0)
    return r;
  /* A put on a thread of the program's must not meet a pipe without reader: SIGPIPE. */
  if (queue->simple && !forkq__feeder_stop_put_through(&queue->feeder, deadline))
    left = false;
  forkq__queue_end_observing(queue);
  if (forkq__queue_check(queue) == 0)
    forkq__queue_end_looking(queue);
  forkq__queue_drop_inherited(queue);
  queue->feeder.leaving = !left;
  if (left)
    close_reading(queue);
  forkq__queue_tell_followers(queue);
  forkq__feeder_close(&queue->feeder);
  forkq__feeder_unlock(&queue->feeder);
  return 0;
}

static void abandon_feeder(forkq_queue_t *queue) {
  if (forkq__feeder_lock(&queue->feeder, FORKQ__FOREVER) != 0)
    return;
  forkq__feeder_abandon(&queue->feeder);
  forkq__feeder_unlock(&queue->feeder);
}

/* Where a thread is not to be cancelled: of an exit, or a destroy, that had ended in the middle
 * nobody could tell how far it had come. */
static int join_to_the_end(forkq_queue_t *queue, int64_t deadline) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = forkq__feeder_join(&queue->feeder, deadline);
  pthread_setcancelstate(state, NULL);
  return r;
}

/* The last of the feeder, for a queue that is closed. */
static void end_feeder(forkq_queue_t *queue) {
  if (atomic_load(&queue->join_cancelled))
    abandon_feeder(queue);
  (void)join_to_the_end(queue, FORKQ__FOREVER);
}

int forkq_queue_close(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  (void)forkq__life_forks(); /* a child is put right */
  return close_queue(queue, FORKQ__FOREVER);
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
  (void)forkq__life_forks();
  int r = 0;
  if (!atomic_load(&queue->join_cancelled))
    r = forkq__feeder_join(&queue->feeder, forkq__os_deadline(timeout_ms));
  if (ret_unsent == NULL || (r < 0 && r != FORKQ_TIMEDOUT))
    return r;
  int locked = forkq__feeder_lock(&queue->feeder, FORKQ__NOWAIT);
  if (locked < 0)
    return locked;
  *ret_unsent = forkq__feeder_unsent(&queue->feeder);
  forkq__feeder_unlock(&queue->feeder);
  return r;
}

int forkq_queue_cancel_join_thread(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  (void)forkq__life_forks();
  atomic_store(&queue->join_cancelled, true);
  return 0;
}

void forkq_queue_destroy(forkq_queue_t *queue) {
  if (queue == NULL)
    return;
  (void)forkq__life_forks();
  if (close_queue(queue, FORKQ__FOREVER) == -EDEADLK)
    return; /* in a handler that has interrupted a call, which goes on with it */
  end_feeder(queue);
  forkq__life_end(&queue->life);
  forkq__feeder_fini(&queue->feeder);
  forkq__queue_free(queue);
}

/* ---- fork and exit ----------------------------------------------------------------------- */

forkq_queue_t *forkq__queue_of(const struct forkq__life *life) {
  return (forkq_queue_t *)((uintptr_t)life - offsetof(forkq_queue_t, life));
}

static void before_fork(struct forkq__life *life, int64_t deadline) {
  struct forkq__feeder *feeder = &forkq__queue_of(life)->feeder;
  if (forkq__feeder_lock(feeder, deadline) != 0)
    return;
  forkq__feeder_join_ended(feeder);
  forkq__feeder_send_now(feeder);
  forkq__queue_note_estate(forkq__queue_of(life));
  feeder->forking = true;
}

static void after_fork_parent(struct forkq__life *life) {
  struct forkq__feeder *feeder = &forkq__queue_of(life)->feeder;
  if (!feeder->forking)
    return;
  feeder->forking = false;
  forkq__feeder_unlock(feeder);
}

/* Whether the parent was at work on tasks: then one of them may be this child's. It may have closed
 * the queue before it forked, and have died since. */
static bool parent_has_tasks(const forkq_queue_t *queue) {
  const struct forkq__tasks *tasks = &queue->channel.account.liveness.tasks;
  return tasks->fd >= 0 && forkq__ledger_has_tasks(&queue->segment->ledger, tasks);
}

static void after_fork_child(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  queue->parted = queue->parted || forkq__os_parent_is_outside();
  forkq__queue_inherit(queue);
  forkq__liveness_forked(&queue->channel.account.liveness, parent_has_tasks(queue));
  forkq__feeder_forked(&queue->feeder);
  atomic_store(&queue->getters, 0);
  atomic_store(&queue->join_cancelled, false);
  queue->followers = NULL; /* the parent's */
  forkq__queue_observing_forked(queue);
  if (atomic_load(&queue->channel.closed)) {
    forkq__queue_drop_inherited(queue);
    queue->feeder.closing = true;
    forkq__queue_close_descriptors(queue);
  }
}

/* Whether this process has put, or taken a task, or is watched: a child that has not leaves
 * everything as it is. */
static bool is_used(const forkq_queue_t *queue) {
  return queue->channel.account.cell != FORKQ__NO_CELL ||
         queue->feeder.state != FORKQ__FEEDER_NONE || queue->observed;
}

/* Not where exit comes in a handler that has interrupted a put; which this thread cannot tell for
 * certain while it is just about to have the mutex, or to give it up. */
static bool can_have_mutex(forkq_queue_t *queue) {
  int64_t deadline = forkq__os_deadline(EXIT_FEEDER_MS);
  if (forkq__feeder_lock(&queue->feeder, deadline) != 0)
    return false;
  forkq__feeder_unlock(&queue->feeder);
  return true;
}

/* Exit may come in a handler that has interrupted a call. What a put has in hand then nobody can
 * end, and so nothing is sent. */
static void at_exit(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  bool interrupted = forkq__queue_getting_here();
  if (!is_used(queue) || !can_have_mutex(queue))
    return;
  /* Threads that sleep in a get do not keep the program from its end. */
  (void)close_queue(queue, forkq__os_deadline(interrupted ? 0 : EXIT_GETTERS_MS));
  if (!queue->feeder.leaving) {
    end_feeder(queue);
    return;
  }
  if (join_to_the_end(queue, forkq__os_deadline(EXIT_FEEDER_MS)) != 0)
    abandon_feeder(queue);
}

const struct forkq__life_ops forkq__queue_life_ops = {
  .before_fork = before_fork,
  .after_fork_parent = after_fork_parent,
  .after_fork_child = after_fork_child,
  .at_exit = at_exit,
};
