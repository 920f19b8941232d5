/* Sending packets: on the feeder's thread (send_outbox), on a putter's thread without waiting
 * (send_now, send_full), or on a putter's thread that waits (put_through).
 *
 * All packets of a large message are written under one hold of the write lock. */
#include "feeder/sender_impl.h"

#include "base/contract.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"
#include "pipe/reap.h"

#include <errno.h>

/* A thread that waits for the write lock checks this often whether its sender is abandoned. */
#define LOOK_MS 500

int forkq__sender_init(struct forkq__sender *sender) {
  forkq__outbox_init(&sender->outbox);
  sender->stop_fd = -1;
  return forkq__mutex_init(&sender->mutex);
}

void forkq__sender_fini(struct forkq__sender *sender) {
  forkq__outbox_fini(&sender->outbox);
  forkq__outbox_free(sender->lent.first);
  forkq__arena_fini(&sender->arena);
  forkq__mutex_fini(&sender->mutex);
}

int forkq__sender_lock(struct forkq__sender *sender, int64_t deadline) {
  return forkq__mutex_lock(&sender->mutex, deadline);
}

void forkq__sender_relock(struct forkq__sender *sender) {
  (void)forkq__mutex_lock(&sender->mutex, FORKQ__FOREVER);
}

void forkq__sender_unlock(struct forkq__sender *sender) {
  forkq__mutex_unlock(&sender->mutex);
}

static void wait_done(struct forkq__sender *sender, int64_t deadline) {
  forkq__mutex_wait(&sender->mutex, &sender->done, deadline);
}

/* ---- opening and closing ------------------------------------------------------------------- */

int forkq__sender_open(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (sender->closing || atomic_load(&sender->abandoned))
    return FORKQ_ECLOSED;
  if (sender->failed != 0)
    return sender->failed;
  int r = forkq__reap_and_claim(sender->channel);
  if (r < 0 || sender->stop_fd >= 0)
    return r;
  forkq__slots_begin(sender->slots);
  sender->stop_fd = forkq__os_event_create();
  return sender->stop_fd < 0 ? sender->stop_fd : 0;
}

static void close_account(struct forkq__sender *sender) {
  struct forkq__channel *channel = sender->channel;
  if (!forkq__account_has_cell(&channel->account))
    return;
  atomic_fetch_add(&sender->unsent, forkq__account_held(&channel->account));
  forkq__account_close(&channel->account);
  forkq__slots_wake_all(sender->slots);
}

static void close_stop(struct forkq__sender *sender) {
  if (sender->stop_fd >= 0)
    forkq__os_close_own(sender->stop_fd, sender->channel->event_identity);
  sender->stop_fd = -1;
}

void forkq__sender_close(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  forkq__sender_recycle(sender, forkq__outbox_take(&sender->outbox));
  forkq__sender_close_arena(sender);
  close_account(sender);
  close_stop(sender);
}

/* Gives up the writing end when nothing is left to be sent. The thread that sends without the mutex uses it,
 * and calls this when it has sent. A close gives up all descriptors together, after the gets have ended. */
static void close_writing(struct forkq__sender *sender) {
  struct forkq__channel *channel = sender->channel;
  bool puts = !atomic_load(&channel->puts_closed);
  if (puts || atomic_load(&channel->closed) || channel->write_fd < 0 ||
      forkq__sender_has_packets(sender))
    return;
  forkq__os_close_own(channel->write_fd, channel->pipe_identity);
  channel->write_fd = -1;
}

void forkq__sender_end_puts(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  forkq__sender_send_now(sender);
  sender->failed = FORKQ_ECLOSED;
  FORKQ__STORE(sender->channel->puts_closed, true);
  close_writing(sender);
}

/* ---- sending ----------------------------------------------------------------------------- */

static bool dropped(struct forkq__sender *sender) {
  return atomic_load(&sender->channel->shared->shutdown) == FORKQ__DROPPED;
}

/* After an immediate shutdown nothing may stay in the pipe. A writer checks after its write
 * whether there was one, so that packets that it wrote after the draining are dropped, too.
 * The caller holds the mutex, which keeps the reading end open, if it is open. */
static void drain_if_dropped(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (dropped(sender) && sender->channel->read_fd >= 0) {
    forkq__channel_drain(sender->channel);
    forkq__slots_wake_all(sender->slots);
  }
}

/* Whether nothing more is to be sent. */
static bool stopped(struct forkq__sender *sender) {
  return atomic_load(&sender->abandoned) || dropped(sender);
}

/* A thread that waits in put_through. If it is cancelled there, its message is not put. If a
 * part of the message was sent, readers drop that part. */
struct through {
  struct forkq__sender *sender;
  struct forkq__buffer *list;
  bool has_lock;
};

static void end_through(struct forkq__sender *sender, struct forkq__buffer *list) {
  forkq__sender_relock(sender);
  forkq__sender_recycle(sender, list);
  sender->in_flight = NULL;
  close_writing(sender);
  forkq__mutex_wake(&sender->done);
}

static void cancel_through(void *arg) {
  const struct through *through = arg;
  if (through->has_lock)
    forkq__channel_unlock_write(through->sender->channel);
  end_through(through->sender, through->list);
  forkq__sender_withdraw(through->sender);
  forkq__sender_unlock(through->sender);
}

/* Whether the process may write: 0 or -EBADF. It may not if its descriptor is not the pipe any
 * more, or if it was taken for dead because it closed the descriptor that shows that it lives. */
static int check_pipe(struct forkq__sender *sender) {
  bool may = forkq__channel_is_pipe(sender->channel, sender->channel->write_fd) &&
             forkq__account_owns(&sender->channel->account);
  return may ? 0 : -EBADF;
}

static bool interrupted(struct forkq__sender *sender, const struct through *through) {
  return through != NULL && forkq__interrupted(&sender->channel->interrupts);
}

/* Takes the write lock. Returns 0, FORKQ__STOPPED when nothing more is to be sent,
 * FORKQ_EINTERRUPTED, FORKQ_EBROKEN, or -EBADF. */
static int lock_write(struct forkq__sender *sender, struct through *through) {
  int r;
  do {
    if (through != NULL)
      forkq__os_cancellation_point(cancel_through, through);
    if (stopped(sender))
      return FORKQ__STOPPED;
    r = forkq__channel_lock_write(sender->channel,
                                  forkq__os_deadline_within(FORKQ__FOREVER, LOOK_MS));
    if (r == FORKQ_TIMEDOUT && interrupted(sender, through))
      return FORKQ_EINTERRUPTED;
  } while (r == FORKQ_TIMEDOUT);
  if (r < 0 || (r = check_pipe(sender)) == 0)
    return r;
  forkq__channel_unlock_write(sender->channel);
  return r;
}

/* The checks of lock_write, for a thread that has the write lock and may have waited with it
 * for long. If the result is not 0, it gives the lock up. */
static int check_with_lock(struct forkq__sender *sender) {
  int r = stopped(sender) ? FORKQ__STOPPED : check_pipe(sender);
  if (r != 0)
    forkq__channel_unlock_write(sender->channel);
  return r;
}

/* Under the write lock the feeder's thread looks for nothing, as a look may wait for that lock. */
static void look_and_wait_room(struct forkq__sender *sender, bool has_lock) {
  if (has_lock || !FORKQ__LOAD(sender->looks)) {
    forkq__channel_wait_room(sender->channel, sender->stop_fd, NULL, NULL);
    return;
  }
  forkq__sender_relock(sender);
  sender->look(sender->feeder);
  forkq__sender_unlock(sender);
  forkq__channel_wait_room_within(sender->channel, sender->stop_fd, FORKQ__LAST_LOOK_MS);
}

/* Waits for room in the pipe. No thread cancels the feeder's thread. */
static void wait_room(struct forkq__sender *sender, struct through *through,
                      bool has_lock) {
  struct forkq__channel *channel = sender->channel;
  if (through == NULL) {
    look_and_wait_room(sender, has_lock);
    return;
  }
  through->has_lock = has_lock;
  forkq__channel_wait_room(channel, sender->stop_fd, cancel_through, through);
}

/* Writes the packets from `first` to `last`, with no packets of another sender between. The
 * caller has the write lock. While the pipe is full, the lock is free for others, but not in
 * the middle of a message. After a failure the lock is given up. */
static int send_run(struct forkq__sender *sender, struct forkq__buffer *first,
                    struct forkq__buffer *last, struct through *through) {
  struct forkq__channel *channel = sender->channel;
  for (struct forkq__buffer *b = first;;) {
    int r = forkq__channel_write(channel, &b->packet);
    if (r == 0) {
      if (b == last)
        return 0;
      b = b->next;
      continue;
    }
    bool keep_lock = b != first;
    if (r == FORKQ__NO_ROOM && interrupted(sender, through))
      r = FORKQ_EINTERRUPTED;
    if (r != FORKQ__NO_ROOM || !keep_lock)
      forkq__channel_unlock_write(channel);
    if (r != FORKQ__NO_ROOM)
      return r;
    FORKQ__PROBE2(wait_begin, channel->account.number,
                  forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_PIPE));
    wait_room(sender, through, keep_lock);
    FORKQ__PROBE3(wait_end, channel->account.number,
                  forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_PIPE),
                  forkq__probe_value(0));
    r = keep_lock ? check_with_lock(sender) : lock_write(sender, through);
    if (r != 0)
      return r;
  }
}

static void send_all(struct forkq__sender *sender, struct forkq__buffer *list) {
  struct forkq__buffer *b = list;
  int r = lock_write(sender, NULL);
  while (b != NULL) {
    struct forkq__buffer *last = forkq__packets_end(b);
    if (r == 0)
      r = send_run(sender, b, last, NULL);
    if (r == FORKQ__STOPPED)
      break;
    forkq__sender_release_bytes(sender, b, last);
    if (r < 0) {
      forkq__sender_give_up(sender, b, r);
      r = lock_write(sender, NULL);
    }
    b = last->next;
    if (r == 0 && b != NULL && stopped(sender)) {
      forkq__channel_unlock_write(sender->channel);
      r = FORKQ__STOPPED;
    }
  }
  if (r == 0)
    forkq__channel_unlock_write(sender->channel);
  if (dropped(sender))
    forkq__sender_throw_away(sender, b);
}

/* Waits until no packets are in flight. Returns whether none are by the deadline. */
static bool await_landing(struct forkq__sender *sender, int64_t deadline) {
  while (sender->in_flight != NULL && forkq__os_now() < deadline)
    wait_done(sender, deadline);
  return sender->in_flight == NULL;
}

int forkq__sender_await_turn(struct forkq__sender *sender, void (*leave)(void *arg),
                             void *arg) {
  FORKQ__HELD(&sender->mutex);
  while (!await_landing(sender,
                        forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__CANCEL_MS))) {
    if (forkq__interrupted(&sender->channel->interrupts))
      return FORKQ_EINTERRUPTED;
    forkq__os_cancellation_point(leave, arg);
  }
  return 0;
}

int forkq__sender_put_through(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__buffer *list = forkq__outbox_take(&sender->outbox);
  struct through through = { .sender = sender, .list = list };
  sender->in_flight = list;
  forkq__sender_unlock(sender);
  int r = lock_write(sender, &through);
  if (r == 0)
    r = send_run(sender, list, forkq__packets_end(list), &through);
  if (r == 0)
    forkq__channel_unlock_write(sender->channel);
  end_through(sender, list);
  if (r < 0)
    forkq__sender_withdraw(sender);
  return r == FORKQ__STOPPED ? FORKQ_ECLOSED : r;
}

/* A message in fragments is not begun here: the write lock cannot be passed on in the middle of it. */
static bool can_be_sent_here(const struct forkq__buffer *b,
                             const struct forkq__buffer *end) {
  return b != end && !(b->packet.flags & FORKQ__FRAGMENT);
}

/* Sends the packets before `end`, up to the first that has to wait, or that is a fragment. */
static void send_until(struct forkq__sender *sender, const struct forkq__buffer *end) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__outbox *outbox = &sender->outbox;
  struct forkq__channel *channel = sender->channel;
  /* These packets would overtake packets in flight. Without a reading end of its own, the
   * process could get a SIGPIPE here; the feeder's thread blocks the signal. */
  if (outbox->head == NULL || !can_be_sent_here(outbox->head, end) ||
      sender->in_flight != NULL || channel->read_fd < 0 ||
      forkq__channel_try_lock_write(channel) != 0)
    return;
  if (check_pipe(sender) < 0)
    sender->failed = -EBADF; /* the thread reports it for each item */
  while (sender->failed == 0 && can_be_sent_here(outbox->head, end) &&
         forkq__channel_write(channel, &outbox->head->packet) == 0) {
    forkq__sender_release_bytes(sender, outbox->head, outbox->head);
    forkq__sender_recycle(sender, forkq__outbox_pop(outbox));
  }
  forkq__channel_unlock_write(channel);
  drain_if_dropped(sender);
}

void forkq__sender_send_now(struct forkq__sender *sender) {
  send_until(sender, NULL);
}

void forkq__sender_send_full(struct forkq__sender *sender) {
  send_until(sender, sender->outbox.tail);
}

void forkq__sender_send_outbox(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  sender->in_flight = forkq__outbox_take(&sender->outbox);
  forkq__sender_give_back(sender, 0);
  forkq__sender_unlock(sender);
  send_all(sender, sender->in_flight);
  forkq__sender_relock(sender);
  struct forkq__buffer *excess = forkq__sender_keep(sender, sender->in_flight);
  sender->in_flight = NULL;
  close_writing(sender);
  if (dropped(sender))
    drain_if_dropped(sender);
  forkq__mutex_wake(&sender->done);
  if (excess == NULL)
    return;
  forkq__sender_unlock(sender);
  forkq__outbox_free(excess);
  forkq__sender_relock(sender);
}

void forkq__sender_abandon(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  atomic_store(&sender->abandoned, true);
  if (sender->stop_fd >= 0)
    forkq__os_event_raise(sender->stop_fd);
  forkq__sender_wake_putters(sender);
}

void forkq__sender_drop(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, LOOK_MS);
  struct forkq__buffer *list = forkq__outbox_take(&sender->outbox);
  if (list != NULL)
    forkq__sender_throw_away(sender, list);
  forkq__sender_recycle(sender, list);
  close_writing(sender);
  drain_if_dropped(sender);
  /* The thread gives up at its next check, or when the draining has made room for it. */
  (void)await_landing(sender, deadline);
}

bool forkq__sender_stop_put_through(struct forkq__sender *sender, int64_t deadline) {
  if (sender->in_flight == NULL)
    return true;
  forkq__sender_abandon(sender);
  return await_landing(sender, deadline);
}

/* ---- a fork --------------------------------------------------------------------------------- */

bool forkq__sender_estate(struct forkq__sender *sender,
                          struct forkq__estate *ret_estate) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__channel *channel = sender->channel;
  if (!forkq__account_owns(&channel->account) || atomic_load(&sender->owed) != 0)
    return false;
  struct forkq__cell *cell = forkq__account_cell(&channel->account);
  uint64_t returned = FORKQ__LOAD(cell->returned);
  *ret_estate = (struct forkq__estate){
    .cell = FORKQ__LOAD(channel->account.cell),
    .owner = channel->account.liveness.tasks.owner,
    .pid = (pid_t)FORKQ__LOAD(cell->pid),
    .due = FORKQ__LOAD(cell->accepted) - returned,
    .returned = returned,
  };
  return true;
}

struct forkq__buffer *forkq__sender_take_unsent(struct forkq__sender *sender) {
  struct forkq__buffer *first = sender->in_flight, *last = first;
  while (last != NULL && last->next != NULL)
    last = last->next;
  struct forkq__buffer *rest = forkq__outbox_take(&sender->outbox);
  sender->in_flight = NULL;
  if (first == NULL)
    return rest;
  last->next = rest;
  return first;
}

/* Drops the child's copies of the packets that the parent had put and not sent. */
static void forget_packets(struct forkq__sender *sender) {
  if (sender->forking)
    forkq__outbox_recycle(&sender->outbox, forkq__sender_take_unsent(sender));
  else
    forkq__outbox_init(&sender->outbox);
  sender->in_flight = NULL;
}

void forkq__sender_forked(struct forkq__sender *sender) {
  /* Threads of the parent may have been waiting for this condition or the mutex, and are
   * recorded in them. They do not exist in the child. */
  forkq__mutex_init(&sender->mutex);
  sender->done = (struct forkq__condition){ 0 };
  forget_packets(sender);
  forkq__sender_forget_pieces(sender);
  sender->forking = false;
  FORKQ__STORE(sender->unsent, 0);
  sender->copied_bytes = 0;
  FORKQ__STORE(sender->owed, 0);
  FORKQ__STORE(sender->bytes, 0);
  FORKQ__STORE(sender->room_waiters, 0);
  atomic_store(&sender->abandoned, false);
  close_stop(sender);
  FORKQ__STORE(sender->channel->account.cell, FORKQ__NO_CELL);
  FORKQ__STORE(sender->channel->wish, FORKQ__NO_WISH);
}
