/* Shutdown, close and destruction of a queue, and what fork and exit do to it.
 *
 * A shutdown is announced, then stored, then the sleepers are woken. If the process dies in
 * between, no getter stays asleep: after the announcement none sleeps for more than 20 ms. The
 * order of close is told at close_queue; queue_get.c tells how a get and a close meet. */
#include "queue/queue_impl.h"

#include "base/heap.h"
#include "base/os.h"

#include <errno.h>
#include <pthread.h>

/* How long exit waits until threads have left a get, or the put of a simple queue. */
#define EXIT_GETTERS_MS 100

/* How long exit waits for the feeder, if a thread stays in a get, or exit runs in a handler that
 * interrupted a get: the feeder may wait for a lock that this thread holds. And how long exit waits
 * for the sender's mutex, which the interrupted thread may have. */
#define EXIT_FEEDER_MS 1000

/* The number may be another file's by now: a program may have closed all descriptors that it did
 * not know. */
static void close_fd(int *fd, uint64_t identity) {
  if (*fd >= 0)
    forkq__os_close_own(*fd, identity);
  *fd = -1;
}

static void close_reading(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  close_fd(&queue->poll_set, channel->event_identity); /* the same anonymous inode */
  close_fd(&channel->read_fd, channel->pipe_identity);
  close_fd(&channel->event_fd, channel->event_identity);
}

/* A process that joins after this, or has tasks to do, needs the memory's file to see which
 * processes live. */
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
  close_fd(&channel->account.liveness.memory_fd, channel->account.liveness.identity);
}

void forkq__queue_free(forkq_queue_t *queue) {
  forkq__queue_close_descriptors(queue);
  forkq__queue_close_memory(queue);
  forkq__kept_unmap(&queue->channel.account);
  forkq__queue_end_reservations(queue);
  forkq__interrupts_fini(&queue->channel.interrupts, queue->channel.event_identity);
  queue->channel.pieces->segment = queue->segment;
  forkq__pieces_leave(queue->channel.pieces);
  forkq__free(queue);
}

/* Where a namespace cannot be determined, this process is taken to be in its parent's, unless its
 * parent is outside. */
static bool is_same_namespace(const forkq_queue_t *queue) {
  uint64_t here = forkq__os_pid_namespace(), there = queue->segment->pid_namespace;
  return here != 0 && there != 0 ? here == there
                                 : !queue->parted && !forkq__os_parent_is_outside();
}

static int find_refusal(const forkq_queue_t *queue) {
  if (queue->refusal != 0)
    return queue->refusal;
  return is_same_namespace(queue) ? forkq__lock_check() : FORKQ_ENAMESPACE;
}

int forkq__queue_find_refusal(forkq_queue_t *queue, unsigned forks) {
  queue->refusal = find_refusal(queue);
  queue->channel.process_bit = forkq__os_process_bit();
  if (queue->refusal == 0 &&
      !(forkq__queue_begin_looking(queue) && forkq__queue_resume_lost_looks(queue)))
    return 0; /* the next call tries again */
  FORKQ__STORE(queue->arrived, forks);
  return queue->refusal;
}

int forkq_queue_shutdown(forkq_queue_t *queue, int immediate) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return forkq__elsewhere_shutdown(queue, immediate, r);
  r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
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
      forkq__sender_drop(&queue->feeder.sender);
    forkq__slots_wake_all(&queue->slots);
    forkq__sender_wake_putters(&queue->feeder.sender);
    /* model: shutdown_poke */
    forkq__channel_poke(&queue->channel);
    forkq__queue_wake_joiners(queue);
  }
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

/* Waits until the threads of this process have left their gets: whether they have. A poke wakes
 * only the sleeper, which may be a thread of another process. So it pokes until they have left. */
static bool see_getters_off(forkq_queue_t *queue, int64_t deadline) {
  while (atomic_load(&queue->getters) > 0 && forkq__os_now() < deadline) {
    forkq__channel_poke(&queue->channel);
    forkq__channel_poke_own(&queue->channel);
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, 1));
  }
  return atomic_load(&queue->getters) == 0;
}

/* The order: first the threads of this process stop reading, then close_queue closes the reading
 * end, then the feeder sends the rest of the outbox. If no other process has the pipe, the sending
 * then ends with EPIPE, and does not wait for a reader that cannot come. At exit, threads may stay
 * in their gets, and in the put of a simple queue. What they use then stays open, and the kernel
 * gives it back. */
static int close_queue(forkq_queue_t *queue, int64_t deadline) {
  if (forkq__mutex_is_mine(&queue->feeder.sender.mutex))
    return -EDEADLK;
  if (atomic_exchange(&queue->channel.closed, true))
    return 0;
  atomic_store(&queue->channel.puts_closed, true);
  forkq__slots_wake_all(&queue->slots);
  bool left = see_getters_off(queue, deadline);
  int r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  /* A put on a thread of the program must not meet a pipe without a reader: that raises SIGPIPE. */
  if (!forkq__feeder_has_thread(&queue->feeder) &&
      !forkq__sender_stop_put_through(&queue->feeder.sender, deadline))
    left = false;
  forkq__queue_end_observing(queue);
  forkq__queue_end_room(queue);
  if (forkq__queue_check(queue) == 0) {
    forkq__queue_end_looking(queue);
    forkq__channel_trim_kept(&queue->channel);
  }
  forkq__queue_drop_inherited(queue);
  queue->feeder.leaving = !left;
  if (left)
    close_reading(queue);
  forkq__queue_tell_followers(queue);
  forkq__feeder_close(&queue->feeder);
  forkq__sender_unlock(&queue->feeder.sender);
  return 0;
}

static void abandon_feeder(forkq_queue_t *queue) {
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER) != 0)
    return;
  forkq__feeder_abandon(&queue->feeder);
  forkq__sender_unlock(&queue->feeder.sender);
}

/* Joins with cancellation disabled: after an exit, or a destroy, that ended in the middle, no
 * caller could tell how far it had come. */
static int join_to_the_end(forkq_queue_t *queue, int64_t deadline) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = forkq__feeder_join(&queue->feeder, deadline, false);
  pthread_setcancelstate(state, NULL);
  return r;
}

/* Ends the feeder of a closed queue. */
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
  (void)forkq__life_forks(); /* puts a forked child right */
  if (forkq__queue_is_elsewhere(queue))
    return forkq__elsewhere_close(queue);
  return close_queue(queue, FORKQ__FOREVER);
}

/* With the mutex. What a dead parent has left is sent for the last time, as in a close. */
static void end_puts(forkq_queue_t *queue) {
  if (forkq__queue_check(queue) == 0)
    forkq__queue_end_looking(queue);
  forkq__queue_drop_inherited(queue);
  forkq__sender_end_puts(&queue->feeder.sender);
  forkq__queue_tell_room(queue);
  forkq__slots_wake_all(&queue->slots);
  forkq__sender_wake_putters(&queue->feeder.sender);
}

int forkq_queue_close_put(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  if (forkq__queue_is_elsewhere(queue))
    return -ENOTSUP;
  (void)forkq__queue_check(queue); /* what a first call does takes the mutex */
  int r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (atomic_load(&queue->channel.closed))
    r = FORKQ_ECLOSED;
  else if (!atomic_load(&queue->channel.puts_closed))
    end_puts(queue);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
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
  if (forkq__queue_is_elsewhere(queue)) { /* a put has sent its item before it returns */
    if (ret_unsent != NULL)
      *ret_unsent = 0;
    return 0;
  }
  int r = 0;
  if (!atomic_load(&queue->join_cancelled))
    r = forkq__interrupts_tell(
        &queue->channel.interrupts,
        forkq__feeder_join(&queue->feeder, forkq__os_deadline(timeout_ms), true));
  if (ret_unsent == NULL || (r < 0 && r != FORKQ_TIMEDOUT))
    return r;
  int locked = forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT);
  if (locked < 0)
    return locked;
  *ret_unsent = forkq__sender_unsent(&queue->feeder.sender);
  forkq__sender_unlock(&queue->feeder.sender);
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
  if (forkq__queue_is_elsewhere(queue)) {
    forkq__elsewhere_destroy(queue);
    return;
  }
  if (close_queue(queue, FORKQ__FOREVER) == -EDEADLK)
    return; /* in a handler: the interrupted call still uses the queue */
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
  forkq__source_before_fork();
  if (forkq__sender_lock(&feeder->sender, deadline) != 0)
    return;
  forkq__feeder_join_ended(feeder);
  forkq__sender_send_now(&feeder->sender);
  forkq__queue_note_estate(forkq__queue_of(life));
  feeder->sender.forking = true;
}

static void after_fork_parent(struct forkq__life *life) {
  struct forkq__feeder *feeder = &forkq__queue_of(life)->feeder;
  if (!feeder->sender.forking)
    return;
  feeder->sender.forking = false;
  forkq__sender_unlock(&feeder->sender);
}

/* Whether the parent had tasks: one of them may be this child's to do. The parent may have closed
 * the queue before it forked, and may have died since. */
static bool parent_has_tasks(const forkq_queue_t *queue) {
  const struct forkq__tasks *tasks = &queue->channel.account.liveness.tasks;
  return tasks->fd >= 0 && forkq__ledger_has_tasks(&queue->segment->ledger, tasks);
}

/* The parent may have been about to send the rest, and kept the writing end for that. */
static void end_puts_forked(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  forkq__queue_drop_inherited(queue);
  close_fd(&channel->write_fd, channel->pipe_identity);
}

static void after_fork_child(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  queue->parted = queue->parted || forkq__os_parent_is_outside();
  forkq__source_forked();
  forkq__queue_reservations_forked(queue);
  queue->inherited.look_at = queue->lost_look_at = FORKQ__FOREVER;
  atomic_store(&queue->loop_watches, 0);
  forkq__queue_inherit(queue);
  forkq__liveness_forked(&queue->channel.account.liveness, parent_has_tasks(queue));
  forkq__feeder_forked(&queue->feeder);
  atomic_store(&queue->getters, 0);
  atomic_store(&queue->join_cancelled, false);
  queue->followers = NULL; /* they follow the parent's queue */
  forkq__interrupts_forked(&queue->channel.interrupts, queue->channel.event_identity);
  forkq__queue_observing_forked(queue);
  forkq__queue_room_forked(queue);
  if (atomic_load(&queue->channel.puts_closed))
    end_puts_forked(queue);
  if (atomic_load(&queue->channel.closed)) {
    queue->feeder.sender.closing = true;
    forkq__queue_close_descriptors(queue);
  }
}

/* Whether this process has put, or has taken a task, or observes the queue. A child that has done
 * none of these changes nothing at exit. */
static bool is_used(const forkq_queue_t *queue) {
  return forkq__account_has_cell(&queue->channel.account) ||
         queue->feeder.state != FORKQ__FEEDER_NONE || queue->observed;
}

/* Whether exit can have the mutex. It cannot in a handler that has interrupted a put. The thread
 * cannot tell this for certain if it was interrupted just when it took the mutex or gave it up, so
 * it waits with a deadline. */
static bool can_have_mutex(forkq_queue_t *queue) {
  int64_t deadline = forkq__os_deadline(EXIT_FEEDER_MS);
  if (forkq__sender_lock(&queue->feeder.sender, deadline) != 0)
    return false;
  forkq__sender_unlock(&queue->feeder.sender);
  return true;
}

/* Exit may come in a handler that has interrupted a call. If this is a put, nothing can complete
 * the message that it has begun, and so nothing is sent. */
static void at_exit(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  bool interrupted = forkq__queue_getting_here();
  if (!is_used(queue) || !can_have_mutex(queue))
    return;
  /* Threads that sleep in a get do not keep the program from ending. */
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
