/* Receiving as a call of the queue does: with its deadline, asleep or watching meanwhile. */
#include "base/look.h"
#include "base/os.h"
#include "codec/serializer.h"
#include "pipe/read_ahead.h"
#include "pipe/reap.h"

#include <pthread.h>

/* Once a shutdown is announced nobody sleeps for longer than this: who announced it, or who was
 * to bring the last items, may have died. */
#define SHUTDOWN_LOOK_MS 20

void forkq__channel_poke(struct forkq__channel *channel) {
  forkq__os_event_raise(channel->event_fd);
}

void forkq__channel_poke_own(struct forkq__channel *channel) {
  forkq__lock_hasten(&channel->shared->turn, channel->process_bit);
}

bool forkq__channel_shutting(struct forkq__channel *channel) {
  return atomic_load(&channel->shared->shutting) != 0;
}

/* With the read lock, so that nobody lowers the event behind the raise because he has not seen
 * the announcement: a death between his two steps would leave it lowered, and who was asleep
 * before the announcement asleep for ever. */
void forkq__channel_announce_shutdown(struct forkq__channel *channel) {
  /* model: shutdown_announce */
  atomic_store(&channel->shared->shutting, 1);
  bool locked = forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0;
  /* model: announce_poke */
  forkq__channel_poke(channel);
  if (locked)
    forkq__channel_unlock_read(channel);
}

/* Nothing is there that the event could stand for. The order keeps the promise of `raised`. An
 * announced shutdown raises the event for good; it comes in between only where it could not
 * have the read lock, whose owner was stopped. */
static void lower_event(struct forkq__channel *channel) {
  /* model: lower_raised */
  FORKQ__STORE(channel->shared->raised, 0);
  /* model: lower_shutting */
  if (forkq__channel_shutting(channel))
    return;
  /* model: lower_event */
  forkq__os_event_lower(channel->event_fd);
  /* model: lower_again */
  if (forkq__channel_shutting(channel))
    forkq__os_event_raise(channel->event_fd);
}

static int receive_once(struct forkq__channel *channel, forkq_item_t *item,
                        int64_t deadline, bool saw_event) {
  int r = forkq__channel_lock_read(channel, deadline);
  if (r < 0)
    return r;
  r = forkq__channel_receive_locked(channel, item, deadline);
  /* Who watches may have raised it himself, and would see it for ever. */
  if (r == FORKQ__NOTHING && (saw_event || FORKQ__LOAD(channel->shared->raised) ||
                              /* model: receive_watchers */
                              atomic_load(&channel->shared->watchers)))
    lower_event(channel);
  forkq__channel_unlock_read(channel);
  return r;
}

/* The item gets its memory without the lock. */
static int receive(struct forkq__channel *channel, forkq_item_t *item, int64_t deadline,
                   bool saw_event) {
  int r;
  while ((r = receive_once(channel, item, deadline, saw_event)) == FORKQ__GROW)
    if ((r = forkq__item_grow(item)) < 0)
      return r;
  return r;
}

/* No packet has been numbered behind the last one that came. A hint: it says nothing of what a
 * stranger has written, which a read finds, as it finds an event that stands for nothing. */
static bool all_came(const struct forkq__channel_shared *shared) {
  return FORKQ__LOAD(shared->unread) == 0 && FORKQ__LOAD(shared->loading) == 0 &&
         atomic_load(&shared->watchers) == 0 &&
         FORKQ__LOAD(shared->write_seq) == FORKQ__LOAD(shared->read_seq);
}

int forkq__channel_receive(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  /* Who can wait need not read in vain: before it sleeps it polls the pipe itself. */
  if (deadline != FORKQ__NOWAIT && all_came(channel->shared))
    return FORKQ__NOTHING;
  return receive(channel, item, deadline, false);
}

static void leave_turn(void *arg) {
  struct forkq__channel *channel = arg;
  atomic_store(&channel->shared->asleep, 0);
  forkq__lock_release(&channel->shared->turn);
}

static int poll_in_turn(struct forkq__channel *channel, struct pollfd *fds, nfds_t count,
                        int64_t deadline) {
  return forkq__os_poll_cancellable(fds, count, deadline, leave_turn, channel);
}

static void repair_turn(void *arg) {
  struct forkq__channel *channel = arg;
  atomic_fetch_add(&channel->account.ledger->recoveries, 1);
  /* model: repair_asleep */
  atomic_store(&channel->shared->asleep, 0);
}

/* Sleeps until there may be something; 1 if the event was raised, 0 if not, or why it could
 * not sleep. The owner of the turn calls it. */
static int watch(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  struct pollfd fds[] = {
    { .fd = channel->read_fd, .events = POLLIN },
    { .fd = channel->event_fd, .events = POLLIN },
  };
  int r = 0;
  FORKQ__STORE(shared->hastened, 0);
  /* model: watch_asleep */
  atomic_store(&shared->asleep, 1);
  /* A reader that did not see `asleep` is seen here. */
  /* model: watch_loading */
  if (atomic_load(&shared->loading) == 0 &&
      /* model: watch_unread */
      atomic_load(&shared->unread) == 0 && !atomic_load(&channel->closed)) {
    atomic_fetch_add(&shared->getter_waits, 1);
    /* Then the event says nothing any more. */
    /* model: poll_shutting */
    if (forkq__channel_shutting(channel))
      r = poll_in_turn(channel, fds, 1,
                       forkq__os_deadline_within(deadline, SHUTDOWN_LOOK_MS));
    else
      /* model: watch_sleep */
      r = poll_in_turn(channel, fds, 2, deadline);
  }
  /* model: watch_over */
  atomic_store(&shared->asleep, 0);
  return r < 0 ? r : fds[1].revents != 0;
}

/* Owns the turn until a message is there. The caller has found none, so it begins with a look
 * that costs no read where there still is none. After a shutdown it does not sleep in vain: the
 * turn goes from one to the next of many that end with it. */
static int receive_in_turn(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  for (;;) {
    if (atomic_load(&channel->closed))
      return FORKQ_ECLOSED;
    if (forkq__channel_shutting(channel) && forkq__channel_exhausted(channel))
      return FORKQ_ESHUTDOWN;
    int saw_event = watch(channel, deadline);
    if (saw_event < 0)
      return saw_event;
    int r = receive(channel, item, deadline, saw_event != 0);
    if (r != FORKQ__NOTHING)
      return r;
    if (forkq__channel_exhausted(channel))
      return FORKQ_ESHUTDOWN;
    if (forkq__channel_over(channel, deadline))
      return atomic_load(&channel->closed) ? FORKQ_ECLOSED : FORKQ_TIMEDOUT;
    /* It has not slept where an item is there and whoever is reading it is stopped. */
    forkq__os_cancellation_point(leave_turn, channel);
  }
}

/* The owner of the turn may be stopped beside an item. */
static int look_beside_turn(struct forkq__channel *channel, forkq_item_t *item) {
  return all_came(channel->shared) ? FORKQ__NOTHING
                                   : forkq__channel_receive(channel, item, FORKQ__NOWAIT);
}

/* Seats for those who wait for the turn and look often: see look.h. */
#define TURN_SEATS 4

struct turn_wait {
  struct forkq__channel *channel;
  struct forkq__look look;
};

/* No more waiting for the turn; also where the thread is cancelled. */
static void end_look(void *arg) {
  struct turn_wait *wait = arg;
  if (forkq__look_end(&wait->look))
    forkq__lock_wake(&wait->channel->shared->turn);
}

/* Waits for the turn: 0 and it is the caller's, FORKQ__NOTHING if its time is over, what a look
 * beside it has brought, or an error. *ret_received says that the look has brought it. */
static int wait_for_turn(struct turn_wait *wait, forkq_item_t *item, int64_t deadline,
                         bool *ret_received) {
  struct forkq__channel *channel = wait->channel;
  struct forkq__channel_shared *shared = channel->shared;
  for (;;) {
    int r =
        forkq__lock_await(&shared->turn, &shared->turn_waiting, channel->process_bit,
                          forkq__look_until(&wait->look, deadline), repair_turn, channel);
    if (r != FORKQ_TIMEDOUT)
      return r;
    if (atomic_load(&channel->closed))
      return FORKQ_ECLOSED;
    if (forkq__look_due(&wait->look) &&
        (r = look_beside_turn(channel, item)) != FORKQ__NOTHING) {
      *ret_received = true;
      return r;
    }
    if (forkq__channel_over(channel, deadline))
      return FORKQ_TIMEDOUT;
  }
}

int forkq__channel_receive_wait(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline) {
  struct turn_wait wait = { channel, forkq__look_begin(&channel->shared->turn_look,
                                                       TURN_SEATS, FORKQ__CHANNEL_LOOK_MS,
                                                       FORKQ__CHANNEL_LOOK_MS) };
  bool received = false;
  int r;
  pthread_cleanup_push(end_look, &wait);
  r = wait_for_turn(&wait, item, deadline, &received);
  pthread_cleanup_pop(1);
  if (r != 0 || received)
    return r;
  r = receive_in_turn(channel, item, deadline);
  forkq__lock_release(&channel->shared->turn);
  return r;
}

bool forkq__channel_exhausted(struct forkq__channel *channel) {
  /* model: exhausted_shut */
  switch (atomic_load(&channel->shared->shutdown)) {
  case FORKQ__OPEN:
    return false;
  case FORKQ__DRAINING:
    /* model: exhausted_size */
    if (forkq__ledger_size(channel->account.ledger) == 0)
      return true;
    forkq__reap(channel);
    return forkq__ledger_size(channel->account.ledger) == 0;
  default:
    return true;
  }
}

void forkq__channel_watch_begin(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  /* model: begin_watchers */
  atomic_fetch_add(&shared->watchers, 1);
  /* What was read ahead before that, or is just being read, raised nothing. */
  /* model: begin_loading */
  if (atomic_load(&shared->loading) ||
      /* model: begin_unread */
      atomic_load(&shared->unread))
    /* model: begin_raise */
    forkq__os_event_raise(channel->event_fd);
}

void forkq__channel_watch_end(struct forkq__channel *channel) {
  /* model: watch_end */
  atomic_fetch_sub(&channel->shared->watchers, 1);
}

bool forkq__channel_watch_look(struct forkq__channel *channel, bool saw_event) {
  struct forkq__channel_shared *shared = channel->shared;
  /* A reader is at it, or died at it; with its lock in hand that is over. */
  /* model: look_loading */
  if ((saw_event || atomic_load(&shared->loading)) &&
      forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0) {
    if (saw_event && !forkq__ahead_unread(shared))
      lower_event(channel);
    forkq__channel_unlock_read(channel);
  }
  /* model: look_unread */
  return atomic_load(&shared->unread) > 0 ||
         /* model: look_pipe */
         forkq__channel_pipe_readable(channel) || forkq__channel_exhausted(channel);
}
