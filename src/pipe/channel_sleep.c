/* Receiving with a deadline, and sleeping or watching until a message is there.
 *
 * A sleeper sets `asleep` before it looks at `loading` and `unread`; a reader sets `loading`
 * before it looks at `asleep`, and raises the event before it reads. So one of them sees the
 * other. The event is lowered with the read lock: `raised` is cleared before the event is
 * lowered, and `shutting` is checked before and after. When the owner of the turn dies, the
 * kernel passes the turn to the next getter, which clears `asleep` and looks at the pipe
 * itself. */
#include "base/look.h"
#include "base/os.h"
#include "base/times.h"
#include "codec/item.h"
#include "pipe/channel_read.h"
#include "pipe/reap.h"

#include <pthread.h>

void forkq__channel_poke(struct forkq__channel *channel) {
  forkq__os_event_raise(channel->event_fd);
}

void forkq__channel_poke_own(struct forkq__channel *channel) {
  forkq__interrupts_call(&channel->interrupts);
  forkq__lock_hasten(&channel->shared->turn, channel->process_bit);
}

bool forkq__channel_shutting(struct forkq__channel *channel) {
  return atomic_load(&channel->shared->shutting) != 0;
}

/* The event is raised with the read lock, so that no process that has not seen the
 * announcement lowers the event after the raise. If such a process died between its two steps,
 * the event would stay lowered, and a getter that slept before the announcement would sleep
 * forever. */
void forkq__channel_announce_shutdown(struct forkq__channel *channel) {
  /* model: shutdown_announce */
  atomic_store(&channel->shared->shutting, 1);
  bool locked = forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0;
  /* model: announce_poke */
  forkq__channel_poke(channel);
  if (locked)
    forkq__channel_unlock_read(channel);
}

/* Lowers the event, which stands for nothing now. The order keeps the promise of `raised`. An
 * announced shutdown raises the event for good. It can come between these steps only if it
 * could not get the read lock, because the lock's owner was stopped. */
static void lower_event(struct forkq__channel *channel) {
  /* model: lower_raised */
  FORKQ__STORE(channel->shared->raised, 0);
  /* model: lower_shutting */
  if (forkq__channel_shutting(channel))
    return;
  /* model: lower_event */
  forkq__os_event_lower(channel->event_fd);
  /* model: lower_again */
  if (forkq__channel_shutting(channel) || forkq__channel_has_lost(channel))
    forkq__os_event_raise(channel->event_fd);
}

/* Whether tasks that other processes have may be got again. A process that has tasks itself does not wait
 * for others, which may wait for it. */
static bool tasks_may_come(struct forkq__channel *channel) {
  struct forkq__ledger *ledger = channel->account.ledger;
  return channel->redelivers && forkq__ledger_unfinished(ledger) > 0 &&
         !(forkq__account_has_cell(&channel->account) &&
           forkq__ledger_at_work(forkq__account_cell(&channel->account)));
}

bool forkq__channel_awaits_tasks(struct forkq__channel *channel) {
  return tasks_may_come(channel) && forkq__channel_pipe_ended(channel);
}

/* Nothing is in the pipe, and nothing will come through it. What the dead had put and not sent counts as
 * unfinished until it is given back. The reaper needs the read lock, so this one must not have it. */
static __attribute__((noinline)) int find_end(struct forkq__channel *channel) {
  if (tasks_may_come(channel)) {
    (void)forkq__reap(channel);
    if (tasks_may_come(channel))
      return FORKQ__NOTHING;
  }
  if (forkq__channel_has_lost(channel))
    return FORKQ__NOTHING;
  return atomic_load(&channel->shared->shutdown) == FORKQ__OPEN ? FORKQ_EALONE
                                                                : FORKQ_ESHUTDOWN;
}

/* Ends a receive that got nothing, and lets go of the read lock. A watcher may have raised the event itself,
 * and would see it raised forever. */
static __attribute__((noinline)) int end_in_vain(struct forkq__channel *channel, int r,
                                                 bool saw_event) {
  if ((r == FORKQ__NOTHING || r == FORKQ_EALONE) &&
      (saw_event || FORKQ__LOAD(channel->shared->raised) ||
       /* model: receive_watchers */
       atomic_load(&channel->shared->watchers)))
    lower_event(channel);
  forkq__channel_unlock_read(channel);
  return r == FORKQ_EALONE ? find_end(channel) : r;
}

static int receive_once(struct forkq__channel *channel, forkq_item_t *item,
                        int64_t deadline, bool saw_event) {
  int r = forkq__channel_lock_read(channel, deadline);
  if (r < 0)
    return r;
  struct forkq__late_copy late;
  late.data = NULL;
  r = forkq__channel_receive_locked(channel, item, deadline, &late);
  if (r < 0)
    return end_in_vain(channel, r, saw_event);
  forkq__channel_unlock_read(channel);
  return late.data != NULL ? forkq__channel_copy_late(item, &late) : r;
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

/* Whether no packet was numbered after the last one that came. This is a hint: it misses bytes
 * that another program wrote into the pipe, and an event that stands for nothing. A read finds
 * both. */
static bool all_came(const struct forkq__channel_shared *shared) {
  return FORKQ__LOAD(shared->unread) == 0 && FORKQ__LOAD(shared->loading) == 0 &&
         atomic_load(&shared->watchers) == 0 &&
         FORKQ__LOAD(shared->write_seq) == FORKQ__LOAD(shared->read_seq);
}

int forkq__channel_receive(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  /* A call that can wait does not read in vain: before it sleeps it polls the pipe. */
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

static void leave_poll(void *arg) {
  struct forkq__channel *channel = arg;
  forkq__interrupts_end_poll(&channel->interrupts, true);
  leave_turn(channel);
}

/* Polls the first two of `fds`, and with them the event of interrupts. Returns a negative errno if it cannot
 * poll. */
static int poll_for_any(struct forkq__channel *channel, struct pollfd fds[3],
                        int64_t deadline) {
  struct forkq__interrupts *interrupts = &channel->interrupts;
  int r = 0;
  fds[2].fd = forkq__interrupts_fd(interrupts);
  if (fds[2].fd < 0)
    deadline = forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS);
  forkq__interrupts_begin_poll(interrupts);
  if (!forkq__interrupted(interrupts))
    /* model: watch_sleep */
    r = forkq__os_poll_cancellable(fds, 3, deadline, leave_poll, channel);
  forkq__interrupts_end_poll(interrupts, fds[2].revents != 0);
  if (r == 1 && fds[2].revents != 0 && !forkq__interrupted(interrupts))
    r = poll_in_turn(channel, fds, 2,
                     forkq__os_deadline_within(deadline, FORKQ__INTERRUPT_PAUSE_MS));
  return r;
}

static void repair_turn(void *arg) {
  struct forkq__channel *channel = arg;
  forkq__ledger_note_recovery(channel->account.ledger, FORKQ_INSPECT_TURN);
  /* model: repair_asleep */
  atomic_store(&channel->shared->asleep, 0);
}

/* Whether a spin is over. */
static bool may_have_come(void *arg) {
  struct forkq__channel *channel = arg;
  return !all_came(channel->shared) || forkq__channel_shutting(channel) ||
         atomic_load(&channel->closed) || forkq__interrupted(&channel->interrupts);
}

/* Spins while no packet is on its way. True: there may be a message, or a reason to give up. The
 * next wait then does not spin if that was in vain: the writer of the new packet is stopped or dead,
 * or a shutdown is announced and does not come. The caller has set `asleep`, so putters write at
 * once, and a death in here leaves what that of a sleeper leaves. */
static bool spin(struct forkq__channel *channel, int64_t deadline) {
  return !may_have_come(channel) &&
         forkq__spin(&channel->spin, may_have_come, channel, deadline);
}

/* Sleeps until there may be a message. Returns 1 if the event was raised, 0 if not, or a
 * negative errno if it could not sleep. The caller owns the turn. */
static int watch(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  struct pollfd fds[] = {
    { .fd = channel->read_fd, .events = POLLIN },
    { .fd = channel->event_fd, .events = POLLIN },
    { .events = POLLIN },
  };
  int r = 0;
  if (channel->keeps)
    deadline = forkq__channel_kept_deadline(channel, deadline);
  if (forkq__channel_awaits_tasks(channel)) {
    fds[0].fd = -1;
    deadline = forkq__os_deadline_within(deadline, FORKQ__SHUTDOWN_LOOK_MS);
  }
  FORKQ__STORE(shared->hastened, 0);
  /* model: watch_asleep */
  atomic_store(&shared->asleep, 1);
  /* If a reader did not see `asleep`, its `loading` or `unread` is seen here. */
  /* model: watch_loading */
  if (atomic_load(&shared->loading) == 0 &&
      /* model: watch_unread */
      atomic_load(&shared->unread) == 0 && !atomic_load(&channel->closed) &&
      !forkq__channel_has_lost(channel) && !spin(channel, deadline)) {
    atomic_fetch_add(&shared->getter_waits, 1);
    /* The event then stays raised, so only the pipe is polled. */
    /* model: poll_shutting */
    if (forkq__channel_shutting(channel))
      r = poll_in_turn(channel, fds, 1,
                       forkq__os_deadline_within(deadline, FORKQ__SHUTDOWN_LOOK_MS));
    else
      r = poll_for_any(channel, fds, deadline);
  }
  /* model: watch_over */
  atomic_store(&shared->asleep, 0);
  return r < 0 ? r : fds[1].revents != 0;
}

/* Why a receive that found nothing is over, or 0. An interrupted getter leaves the turn as one whose time is
 * over: it is the same step for all others, and for the model. */
static int why_over(struct forkq__channel *channel, int64_t deadline) {
  if (atomic_load(&channel->closed))
    return FORKQ_ECLOSED;
  if (forkq__interrupted(&channel->interrupts))
    return FORKQ_EINTERRUPTED;
  return forkq__channel_over(channel, deadline) ? FORKQ_TIMEDOUT : 0;
}

/* Receives a message, and sleeps until one is there. The caller owns the turn, and has found
 * no message. So the loop begins with a look that costs no read while there is still none.
 * After a shutdown it does not sleep in vain, so that the turn passes quickly through many
 * getters that end with it. */
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
    int r = forkq__channel_receive_lost(channel, item, deadline);
    if (r == FORKQ__NOTHING)
      r = receive(channel, item, deadline, saw_event != 0);
    if (r != FORKQ__NOTHING)
      return r;
    forkq__channel_tend_kept(channel);
    if (forkq__channel_exhausted(channel))
      return FORKQ_ESHUTDOWN;
    r = why_over(channel, deadline);
    if (r < 0)
      return r;
    /* watch did not sleep, and was no cancellation point, if an item is there and its reader
     * is stopped. */
    forkq__os_cancellation_point(leave_turn, channel);
  }
}

/* Looks for an item without the turn, because the owner of the turn may be stopped. Then it does not look for
 * the dead either. */
static int look_beside_turn(struct forkq__channel *channel, forkq_item_t *item) {
  forkq__channel_tend_kept(channel);
  int r = forkq__channel_receive_lost(channel, item, FORKQ__NOWAIT);
  if (r != FORKQ__NOTHING)
    return r;
  bool none = all_came(channel->shared) && !forkq__channel_pipe_ended(channel);
  return none ? FORKQ__NOTHING : forkq__channel_receive(channel, item, FORKQ__NOWAIT);
}

/* Whether it is time to look. One whose time is over looks for the end of the pipe, which it has not seen
 * yet: it has polled nothing. */
static bool is_to_look(struct forkq__channel *channel, struct forkq__look *look,
                       int64_t deadline) {
  return forkq__look_due(look) ||
         (FORKQ__LOAD(channel->puts_closed) && forkq__channel_over(channel, deadline));
}

/* Seats for the getters that wait for the turn and look often: see look.h. */
#define TURN_SEATS 4

struct turn_wait {
  struct forkq__channel *channel;
  struct forkq__look look;
};

/* Ends the wait for the turn, also if the thread is cancelled. */
static void end_look(void *arg) {
  struct turn_wait *wait = arg;
  if (forkq__look_end(&wait->look))
    forkq__lock_wake(&wait->channel->shared->turn);
}

/* Waits for the turn. Returns 0 when the caller owns it, FORKQ_TIMEDOUT, FORKQ_ECLOSED,
 * FORKQ_EINTERRUPTED or FORKQ_EBROKEN. With *ret_received set, it returns the result of a receive without the turn. */
static int wait_for_turn(struct turn_wait *wait, forkq_item_t *item, int64_t deadline,
                         bool *ret_received) {
  struct forkq__channel *channel = wait->channel;
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__waiters waiters = { &shared->turn_waiting,
                                    channel->process_bit,
                                    { &channel->interrupts.word, 0 } };
  for (;;) {
    /* Before the look: an interrupt or a close that comes after it changes the word. */
    waiters.call.expected = atomic_load(&channel->interrupts.word);
    int r = why_over(channel, FORKQ__FOREVER);
    if (r < 0)
      return r;
    r = forkq__lock_await(&shared->turn, waiters,
                          forkq__look_until(&wait->look, deadline), repair_turn, channel);
    if (r != FORKQ_TIMEDOUT)
      return r;
    if (is_to_look(channel, &wait->look, deadline) &&
        (r = look_beside_turn(channel, item)) != FORKQ__NOTHING) {
      *ret_received = true;
      return r;
    }
    if ((r = why_over(channel, deadline)) < 0)
      return r;
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

/* Whether no item will come any more of a queue that is shut down: there is none, and none that other
 * processes have can come again. */
static bool is_empty_for_good(struct forkq__channel *channel) {
  return forkq__ledger_size(channel->account.ledger) == 0 && !tasks_may_come(channel);
}

bool forkq__channel_exhausted(struct forkq__channel *channel) {
  /* model: exhausted_shut */
  switch (atomic_load(&channel->shared->shutdown)) {
  case FORKQ__OPEN:
    return false;
  case FORKQ__DRAINING:
    /* model: exhausted_size */
    if (is_empty_for_good(channel))
      return true;
    forkq__reap(channel);
    return is_empty_for_good(channel);
  default:
    return true;
  }
}

void forkq__channel_watch_begin(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  /* model: begin_watchers */
  atomic_fetch_add(&shared->watchers, 1);
  /* A packet that was read ahead before, or is being read, has raised no event. */
  /* model: begin_loading */
  if (atomic_load(&shared->loading) ||
      /* model: begin_unread */
      atomic_load(&shared->unread) || forkq__channel_has_lost(channel))
    /* model: begin_raise */
    forkq__os_event_raise(channel->event_fd);
}

void forkq__channel_watch_end(struct forkq__channel *channel) {
  /* model: watch_end */
  atomic_fetch_sub(&channel->shared->watchers, 1);
}

bool forkq__channel_watch_look(struct forkq__channel *channel, bool saw_event) {
  struct forkq__channel_shared *shared = channel->shared;
  forkq__channel_tend_kept(channel);
  /* A reader is loading a packet, or died while loading. Once this process has the read lock,
   * the loading is over. */
  /* model: look_loading */
  if ((saw_event || atomic_load(&shared->loading)) &&
      forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0) {
    if (saw_event && !forkq__channel_unread(shared))
      lower_event(channel);
    forkq__channel_unlock_read(channel);
  }
  /* model: look_unread */
  return atomic_load(&shared->unread) > 0 || forkq__channel_has_lost(channel) ||
         /* model: look_pipe */
         (forkq__channel_pipe_readable(channel) &&
          !forkq__channel_awaits_tasks(channel)) ||
         forkq__channel_exhausted(channel);
}
