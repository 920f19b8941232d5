/* Sending packets: on the feeder's thread, on a putter's thread without waiting (push), or on
 * a putter's thread that waits (put_through).
 *
 * Only one thread of a process sends at a time. `in_flight` has the packets that a thread
 * sends without the mutex; while there are any, no other thread of the process sends, because
 * its packets would overtake them. All packets of a large message are written under one hold
 * of the write lock. The feeder gives back the slots of messages that it gives up. If the
 * ledger lock cannot be had, these slots stay in `owed`, for the next call. */
#include "feeder/feeder.h"

#include "base/heap.h"
#include "base/log.h"
#include "base/os.h"
#include "pipe/reap.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* A thread that waits for the write lock checks this often whether its feeder is abandoned. */
#define LOOK_MS 500

/* The thread ends after it has had nothing to do for so long. To start one costs some 50 us. */
#define IDLE_MS 1000

/* The size of its stack, because the limit for stacks (RLIMIT_STACK) may be anything. A
 * function of the program's may run on it (on_feeder_error). */
#define STACK_SIZE ((size_t)256 * 1024)

/* A thread that waits checks this often whether it was cancelled. */
#define CANCEL_MS 100

/* Puts are rare if they come less often than this. */
#define RARE_NS INT64_C(2000)

int forkq__feeder_init(struct forkq__feeder *feeder) {
  forkq__outbox_init(&feeder->outbox);
  feeder->stop_fd = -1;
  feeder->look_at = FORKQ__FOREVER;
  int r = forkq__mutex_init(&feeder->mutex);
  if (r < 0)
    return r;
  r = uv_sem_init(&feeder->started, 0);
  if (r < 0)
    forkq__mutex_fini(&feeder->mutex);
  return r;
}

void forkq__feeder_fini(struct forkq__feeder *feeder) {
  forkq__outbox_fini(&feeder->outbox);
  uv_sem_destroy(&feeder->started);
  forkq__mutex_fini(&feeder->mutex);
}

int forkq__feeder_lock(struct forkq__feeder *feeder, int64_t deadline) {
  return forkq__mutex_lock(&feeder->mutex, deadline);
}

void forkq__feeder_unlock(struct forkq__feeder *feeder) {
  forkq__mutex_unlock(&feeder->mutex);
}

/* Takes the mutex again. Only a thread that does not come back keeps the mutex for long; so
 * the feeder's thread, and a thread in a call, wait for it as long as it takes. */
static void relock(struct forkq__feeder *feeder) {
  (void)forkq__mutex_lock(&feeder->mutex, FORKQ__FOREVER);
}

static void wait_done(struct forkq__feeder *feeder, int64_t deadline) {
  forkq__mutex_wait(&feeder->mutex, &feeder->done, deadline);
}

/* ---- counting the bytes put and the bytes unsent ------------------------------------------ */

bool forkq__feeder_full(struct forkq__feeder *feeder) {
  return feeder->max_bytes > 0 && atomic_load(&feeder->bytes) >= feeder->max_bytes;
}

static void count_unsent(struct forkq__feeder *feeder, uint64_t bytes) {
  if (feeder->max_bytes > 0)
    atomic_fetch_add(&feeder->bytes, bytes);
}

static void count_put(struct forkq__feeder *feeder, uint64_t bytes) {
  struct forkq__cell *cell = forkq__account_cell(&feeder->channel->account);
  FORKQ__STORE(cell->put_bytes, FORKQ__LOAD(cell->put_bytes) + bytes);
  count_unsent(feeder, bytes);
}

void forkq__feeder_commit(struct forkq__feeder *feeder) {
  count_put(feeder, feeder->outbox.open.size);
  forkq__outbox_commit(&feeder->outbox);
}

void forkq__feeder_adopt(struct forkq__feeder *feeder, struct forkq__outbox *draft) {
  count_put(feeder, draft->open.size);
  forkq__outbox_join(&feeder->outbox, draft);
}

uint64_t forkq__feeder_copy(struct forkq__feeder *feeder,
                            const struct forkq__buffer *list, uint64_t skip) {
  struct forkq__copied copied = forkq__outbox_copy(&feeder->outbox, list, skip);
  feeder->copied_bytes += copied.bytes;
  count_unsent(feeder, copied.bytes);
  return copied.messages;
}

/* A putter counts itself as waiting before it looks for room. The feeder makes room before it
 * looks for waiting putters. So one of them sees the other. */
static void leave_wait(void *arg) {
  struct forkq__feeder *feeder = arg;
  atomic_fetch_sub(&feeder->room_waiters, 1);
}

void forkq__feeder_wait_room(struct forkq__feeder *feeder, int64_t deadline) {
  uint32_t event = atomic_load(&feeder->room_event);
  atomic_fetch_add(&feeder->room_waiters, 1);
  pthread_cleanup_push(leave_wait, feeder);
  if (forkq__feeder_full(feeder)) {
    atomic_fetch_add(&feeder->slots->shared->waits, 1);
    (void)forkq__os_futex_wait_cancellable(&feeder->room_event, event, deadline,
                                           FORKQ__ANY_BITS);
  }
  pthread_cleanup_pop(1);
}

void forkq__feeder_wake_putters(struct forkq__feeder *feeder) {
  atomic_fetch_add(&feeder->room_event, 1);
  if (atomic_load(&feeder->room_waiters) > 0)
    forkq__os_futex_wake(&feeder->room_event, INT_MAX);
  forkq__slots_tell_watchers(feeder->slots);
}

/* The messages in the packets from `first` to `last` do not count as unsent any more. */
static void release_bytes(struct forkq__feeder *feeder, const struct forkq__buffer *first,
                          const struct forkq__buffer *last) {
  if (feeder->max_bytes == 0)
    return;
  uint64_t bytes = forkq__packet_payload(&last->packet);
  for (const struct forkq__buffer *b = first; b != last; b = b->next)
    bytes += forkq__packet_payload(&b->packet);
  atomic_fetch_sub(&feeder->bytes, bytes);
  if (!forkq__feeder_full(feeder))
    forkq__feeder_wake_putters(feeder);
}

/* ---- items that could not be sent -------------------------------------------------------- */

/* Gives back the slots of items that will not be sent. If the ledger lock cannot be had,
 * because its owner was stopped, the next call gives them back. */
static void give_back(struct forkq__feeder *feeder, uint64_t items) {
  struct forkq__channel *channel = feeder->channel;
  uint64_t owed = atomic_exchange(&feeder->owed, 0) + items;
  if (owed == 0 || channel->account.cell == FORKQ__NO_CELL)
    return;
  if (forkq__account_return(&channel->account, owed))
    forkq__slots_freed(feeder->slots);
  else
    atomic_fetch_add(&feeder->owed, owed);
}

void forkq__feeder_withdraw(struct forkq__feeder *feeder) {
  if (feeder->channel->account.cell == FORKQ__NO_CELL)
    return;
  struct forkq__cell *cell = forkq__account_cell(&feeder->channel->account);
  give_back(feeder, 1);
  FORKQ__STORE(cell->not_put, FORKQ__LOAD(cell->not_put) + 1);
}

void forkq__feeder_lose(struct forkq__feeder *feeder, uint64_t items) {
  if (items == 0)
    return;
  forkq__log(FORKQ_LOG_ERROR, "lost %llu items: no memory", (unsigned long long)items);
  feeder->unsent += items;
  give_back(feeder, items);
}

/* Joins the fragments of a message; NULL if there is no memory. */
static char *join_fragments(const struct forkq__buffer *first, uint32_t total) {
  char *data = forkq__malloc(total);
  size_t have = 0;
  for (const struct forkq__buffer *b = first; data != NULL && have < total; b = b->next) {
    struct forkq__frame frame = forkq__packet_frame(&b->packet, FORKQ__PACKET_HEAD);
    memcpy(data + have, frame.data, frame.size);
    have += frame.size;
  }
  return data;
}

static void report_large(struct forkq__feeder *feeder, const struct forkq__buffer *first,
                         int error) {
  uint32_t total = first->packet.total;
  char *data = join_fragments(first, total);
  feeder->lost(feeder->arg, error, data, total);
  forkq__free(data);
}

static void report_small(struct forkq__feeder *feeder, const struct forkq__packet *packet,
                         int error) {
  for (uint32_t o = FORKQ__PACKET_HEAD; o < packet->length;) {
    struct forkq__frame frame = forkq__packet_frame(packet, o);
    feeder->lost(feeder->arg, error, frame.data, frame.size);
    o = frame.next;
  }
}

/* The last packet of the messages that begin in this one. */
static struct forkq__buffer *end_of_run(struct forkq__buffer *first) {
  struct forkq__buffer *last = first;
  if (first->packet.flags & FORKQ__FRAGMENT)
    while (!(last->packet.flags & FORKQ__LAST))
      last = last->next;
  return last;
}

/* Gives up on the messages that begin in packet `first`. */
static void give_up(struct forkq__feeder *feeder, struct forkq__buffer *first,
                    int error) {
  struct forkq__buffer *last = end_of_run(first);
  if (first->packet.flags & FORKQ__FRAGMENT) {
    report_large(feeder, first, error);
  } else {
    report_small(feeder, &first->packet, error);
  }
  uint32_t items = forkq__packet_messages(&last->packet);
  feeder->unsent += items;
  give_back(feeder, items);
}

/* ---- sending ----------------------------------------------------------------------------- */

static bool dropped(struct forkq__feeder *feeder) {
  return atomic_load(&feeder->channel->shared->shutdown) == FORKQ__DROPPED;
}

/* After an immediate shutdown nothing may stay in the pipe. A writer checks after its write
 * whether there was one, so that packets that it wrote after the draining are dropped, too.
 * The caller holds the mutex, which keeps the reading end open, if it is open. */
static void drain_if_dropped(struct forkq__feeder *feeder) {
  if (dropped(feeder) && feeder->channel->read_fd >= 0) {
    forkq__channel_drain(feeder->channel);
    forkq__slots_wake_all(feeder->slots);
  }
}

/* Gives back the items of packets that an immediate shutdown drops. */
static void throw_away(struct forkq__feeder *feeder, struct forkq__buffer *list) {
  uint64_t items = 0;
  for (struct forkq__buffer *b = list; b != NULL; b = b->next) {
    items += forkq__packet_messages(&b->packet);
    release_bytes(feeder, b, b);
  }
  give_back(feeder, items);
}

/* Whether nothing more is to be sent. */
static bool stopped(struct forkq__feeder *feeder) {
  return atomic_load(&feeder->abandoned) || dropped(feeder);
}

/* A thread that waits in put_through. If it is cancelled there, its message is not put. If a
 * part of the message was sent, readers drop that part. */
struct through {
  struct forkq__feeder *feeder;
  struct forkq__buffer *list;
  bool has_lock;
};

static void end_through(struct forkq__feeder *feeder, struct forkq__buffer *list) {
  relock(feeder);
  forkq__outbox_recycle(&feeder->outbox, list);
  feeder->in_flight = NULL;
  forkq__mutex_wake(&feeder->done);
}

static void cancel_through(void *arg) {
  const struct through *through = arg;
  if (through->has_lock)
    forkq__channel_unlock_write(through->feeder->channel);
  end_through(through->feeder, through->list);
  forkq__feeder_withdraw(through->feeder);
  forkq__feeder_unlock(through->feeder);
}

/* Whether the process may write: 0 or -EBADF. It may not if its descriptor is not the pipe any
 * more, or if it was taken for dead because it closed the descriptor that shows that it lives. */
static int check_pipe(struct forkq__feeder *feeder) {
  bool may = forkq__channel_is_pipe(feeder->channel, feeder->channel->write_fd) &&
             forkq__account_owns(&feeder->channel->account);
  return may ? 0 : -EBADF;
}

/* Takes the write lock. Returns 0, FORKQ__STOPPED when nothing more is to be sent,
 * FORKQ_EBROKEN, or -EBADF. */
static int lock_write(struct forkq__feeder *feeder, struct through *through) {
  int r;
  do {
    if (through != NULL)
      forkq__os_cancellation_point(cancel_through, through);
    if (stopped(feeder))
      return FORKQ__STOPPED;
    r = forkq__channel_lock_write(feeder->channel,
                                  forkq__os_deadline_within(FORKQ__FOREVER, LOOK_MS));
  } while (r == FORKQ_TIMEDOUT);
  if (r < 0 || (r = check_pipe(feeder)) == 0)
    return r;
  forkq__channel_unlock_write(feeder->channel);
  return r;
}

/* The checks of lock_write, for a thread that has the write lock and may have waited with it
 * for long. If the result is not 0, it gives the lock up. */
static int check_with_lock(struct forkq__feeder *feeder) {
  int r = stopped(feeder) ? FORKQ__STOPPED : check_pipe(feeder);
  if (r != 0)
    forkq__channel_unlock_write(feeder->channel);
  return r;
}

/* Waits for room in the pipe. No thread cancels the feeder's thread. */
static void wait_room(struct forkq__feeder *feeder, struct through *through,
                      bool has_lock) {
  struct forkq__channel *channel = feeder->channel;
  if (through == NULL) {
    forkq__channel_wait_room(channel, feeder->stop_fd, NULL, NULL);
    return;
  }
  through->has_lock = has_lock;
  forkq__channel_wait_room(channel, feeder->stop_fd, cancel_through, through);
}

/* Writes the packets from `first` to `last`, with no packets of another sender between. The
 * caller has the write lock. While the pipe is full, the lock is free for others, but not in
 * the middle of a message. After a failure the lock is given up. */
static int send_run(struct forkq__feeder *feeder, struct forkq__buffer *first,
                    struct forkq__buffer *last, struct through *through) {
  struct forkq__channel *channel = feeder->channel;
  for (struct forkq__buffer *b = first;;) {
    int r = forkq__channel_write(channel, &b->packet);
    if (r == 0) {
      if (b == last)
        return 0;
      b = b->next;
      continue;
    }
    bool keep_lock = b != first;
    if (r != FORKQ__NO_ROOM || !keep_lock)
      forkq__channel_unlock_write(channel);
    if (r != FORKQ__NO_ROOM)
      return r;
    wait_room(feeder, through, keep_lock);
    r = keep_lock ? check_with_lock(feeder) : lock_write(feeder, through);
    if (r != 0)
      return r;
  }
}

static void send_all(struct forkq__feeder *feeder, struct forkq__buffer *list) {
  struct forkq__buffer *b = list;
  int r = lock_write(feeder, NULL);
  while (b != NULL) {
    struct forkq__buffer *last = end_of_run(b);
    if (r == 0)
      r = send_run(feeder, b, last, NULL);
    if (r == FORKQ__STOPPED)
      break;
    release_bytes(feeder, b, last);
    if (r < 0) {
      give_up(feeder, b, r);
      r = lock_write(feeder, NULL);
    }
    b = last->next;
    if (r == 0 && b != NULL && stopped(feeder)) {
      forkq__channel_unlock_write(feeder->channel);
      r = FORKQ__STOPPED;
    }
  }
  if (r == 0)
    forkq__channel_unlock_write(feeder->channel);
  if (dropped(feeder))
    throw_away(feeder, b);
}

/* Waits until no packets are in flight. Returns whether none are by the deadline. */
static bool await_landing(struct forkq__feeder *feeder, int64_t deadline) {
  while (feeder->in_flight != NULL && forkq__os_now() < deadline)
    wait_done(feeder, deadline);
  return feeder->in_flight == NULL;
}

void forkq__feeder_await_turn(struct forkq__feeder *feeder, void (*leave)(void *arg),
                              void *arg) {
  while (!await_landing(feeder, forkq__os_deadline_within(FORKQ__FOREVER, CANCEL_MS)))
    forkq__os_cancellation_point(leave, arg);
}

int forkq__feeder_put_through(struct forkq__feeder *feeder) {
  struct forkq__buffer *list = forkq__outbox_take(&feeder->outbox);
  struct through through = { .feeder = feeder, .list = list };
  feeder->in_flight = list;
  forkq__feeder_unlock(feeder);
  int r = lock_write(feeder, &through);
  if (r == 0)
    r = send_run(feeder, list, end_of_run(list), &through);
  if (r == 0)
    forkq__channel_unlock_write(feeder->channel);
  end_through(feeder, list);
  if (r < 0)
    forkq__feeder_withdraw(feeder);
  return r == FORKQ__STOPPED ? FORKQ_ECLOSED : r;
}

/* Writes the messages that begin in packet `first`, without waiting. Returns their last
 * packet, or NULL if the thread must send them. A large message is begun only if it fits into
 * the pipe, because the write lock cannot be passed on to the thread in the middle of the
 * message. If the message does not fit after all, the thread begins it anew. */
static struct forkq__buffer *send_here(struct forkq__feeder *feeder,
                                       struct forkq__buffer *first) {
  struct forkq__channel *channel = feeder->channel;
  if (first->packet.flags & FORKQ__FRAGMENT &&
      first->packet.total / FORKQ__FRAME_MAX >= forkq__channel_room(channel))
    return NULL;
  struct forkq__buffer *last = end_of_run(first);
  uint64_t written = 0;
  for (struct forkq__buffer *b = first; forkq__channel_write(channel, &b->packet) == 0;
       b = b->next) {
    if (b == last)
      return last;
    written += forkq__packet_payload(&b->packet);
  }
  if (written > 0)
    forkq__channel_note_full(channel);
  forkq__channel_unwrite(channel, written);
  return NULL;
}

/* Sends the packets before `end`, up to the first that has to wait. */
static void send_until(struct forkq__feeder *feeder, const struct forkq__buffer *end) {
  struct forkq__outbox *outbox = &feeder->outbox;
  struct forkq__channel *channel = feeder->channel;
  /* These packets would overtake packets in flight. Without a reading end of its own, the
   * process could get a SIGPIPE here; the feeder's thread blocks the signal. */
  if (outbox->head == NULL || feeder->in_flight != NULL || channel->read_fd < 0 ||
      forkq__channel_try_lock_write(channel) != 0)
    return;
  if (check_pipe(feeder) < 0)
    feeder->failed = -EBADF; /* the thread reports it for each item */
  for (struct forkq__buffer *last; feeder->failed == 0 && outbox->head != end &&
                                   (last = send_here(feeder, outbox->head)) != NULL;) {
    release_bytes(feeder, outbox->head, last);
    forkq__outbox_recycle(outbox, forkq__outbox_pop(outbox, last));
  }
  forkq__channel_unlock_write(channel);
  drain_if_dropped(feeder);
}

void forkq__feeder_send_now(struct forkq__feeder *feeder) {
  send_until(feeder, NULL);
}

/* Sends full packets while they are in this processor's cache, and the feeder sleeps on. The
 * feeder starts to work when the pipe is full, and then sends all that come. */
static void send_full(struct forkq__feeder *feeder) {
  struct forkq__outbox *outbox = &feeder->outbox;
  if (!feeder->idle || outbox->head == outbox->tail)
    return;
  bool all_full =
      outbox->tail->packet.flags & FORKQ__FRAGMENT; /* no message is added to it */
  send_until(feeder, all_full ? NULL : outbox->tail);
}

/* Whether puts have become rare since the last that found the feeder idle. To write one packet
 * costs less than to wake the thread for it. But in a stream of messages a packet is full by
 * the time the thread has woken up. */
static bool puts_are_rare(struct forkq__feeder *feeder) {
  int64_t now = forkq__os_now();
  bool rare = now - feeder->found_idle >= feeder->pushes * RARE_NS;
  feeder->found_idle = now;
  feeder->pushes = 0;
  return rare;
}

void forkq__feeder_push(struct forkq__feeder *feeder, bool direct) {
  feeder->pushes++;
  if (direct && feeder->in_flight == NULL) {
    if (forkq__channel_hasten(feeder->channel))
      forkq__feeder_send_now(feeder);
    else
      send_full(feeder);
    if (feeder->outbox.head != NULL && feeder->idle && puts_are_rare(feeder))
      forkq__feeder_send_now(feeder);
  }
  if (feeder->outbox.head != NULL && feeder->idle) {
    feeder->idle = false;
    forkq__mutex_wake(&feeder->work);
  }
}

/* ---- the thread -------------------------------------------------------------------------- */

static bool has_work(struct forkq__feeder *feeder) {
  return feeder->outbox.head != NULL || feeder->closing ||
         atomic_load(&feeder->abandoned);
}

static void close_account(struct forkq__feeder *feeder) {
  struct forkq__channel *channel = feeder->channel;
  if (channel->account.cell == FORKQ__NO_CELL)
    return;
  feeder->unsent += forkq__account_held(&channel->account);
  forkq__account_close(&channel->account);
  forkq__slots_wake_all(feeder->slots);
}

static void close_stop(struct forkq__feeder *feeder) {
  if (feeder->stop_fd >= 0)
    forkq__os_close_own(feeder->stop_fd, feeder->channel->event_identity);
  feeder->stop_fd = -1;
}

static void let_go(struct forkq__feeder *feeder) {
  if (feeder->leaving)
    return;
  close_account(feeder);
  close_stop(feeder);
  forkq__outbox_recycle(&feeder->outbox, forkq__outbox_take(&feeder->outbox));
  feeder->finished(feeder->arg);
}

static void finish(struct forkq__feeder *feeder) {
  let_go(feeder);
  feeder->state = FORKQ__FEEDER_FINISHED;
  forkq__mutex_wake(&feeder->done);
}

static void retire(struct forkq__feeder *feeder) {
  feeder->state = FORKQ__FEEDER_NONE;
  forkq__mutex_wake(&feeder->done);
}

/* The caller holds the mutex; a thread that has ended does not need it any more. */
void forkq__feeder_join_ended(struct forkq__feeder *feeder) {
  int state;
  if (!feeder->to_join || feeder->state == FORKQ__FEEDER_RUNNING)
    return;
  feeder->to_join = false;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_thread_join(&feeder->thread);
  pthread_setcancelstate(state, NULL);
}

static void look_if_due(struct forkq__feeder *feeder) {
  if (forkq__os_now() >= feeder->look_at)
    feeder->look(feeder->arg);
}

/* Waits for work. Returns false if the thread has been idle for too long. */
static bool wait_for_work(struct forkq__feeder *feeder) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, IDLE_MS);
  while (!has_work(feeder) &&
         (feeder->look_at != FORKQ__FOREVER || forkq__os_now() < deadline)) {
    feeder->idle = true;
    forkq__mutex_wait(&feeder->mutex, &feeder->work,
                      feeder->look_at != FORKQ__FOREVER ? feeder->look_at : deadline);
    look_if_due(feeder);
  }
  feeder->idle = false;
  return has_work(feeder);
}

static void send_outbox(struct forkq__feeder *feeder) {
  feeder->in_flight = forkq__outbox_take(&feeder->outbox);
  give_back(feeder, 0);
  forkq__feeder_unlock(feeder);
  send_all(feeder, feeder->in_flight);
  relock(feeder);
  struct forkq__buffer *excess = forkq__outbox_keep(&feeder->outbox, feeder->in_flight);
  feeder->in_flight = NULL;
  if (dropped(feeder))
    drain_if_dropped(feeder);
  forkq__mutex_wake(&feeder->done);
  if (excess == NULL)
    return;
  forkq__feeder_unlock(feeder);
  forkq__outbox_free(excess);
  relock(feeder);
}

static void run(void *arg) {
  struct forkq__feeder *feeder = arg;
  uv_sem_post(&feeder->started);
  relock(feeder);
  bool work;
  while ((work = wait_for_work(feeder)) && feeder->outbox.head != NULL &&
         !atomic_load(&feeder->abandoned))
    send_outbox(feeder);
  if (work)
    finish(feeder);
  else
    retire(feeder);
  forkq__feeder_unlock(feeder);
}

/* A stack of that size may be too small for a program with much thread-local storage. Then the
 * default size is used. */
static int create_with_stack(struct forkq__feeder *feeder) {
  const uv_thread_options_t options = { .flags = UV_THREAD_HAS_STACK_SIZE,
                                        .stack_size = STACK_SIZE };
  int r = uv_thread_create_ex(&feeder->thread, &options, run, feeder);
  return r == UV_EINVAL ? uv_thread_create(&feeder->thread, run, feeder) : r;
}

/* No signal is ever delivered to the feeder: a handler of the program's runs on the program's
 * threads, and a write to a pipe without readers is an EPIPE. The mutex is kept until the
 * thread runs, because until then a runtime, such as a sanitizer's, may hold locks of its own,
 * which are not safe to fork. */
static int create_thread(struct forkq__feeder *feeder) {
  char mask[FORKQ__SIGNAL_MASK_SIZE];
  int state;
  forkq__os_signals_block(mask);
  int r = create_with_stack(feeder);
  forkq__os_signals_restore(mask);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  if (r == 0)
    uv_sem_wait(&feeder->started);
  pthread_setcancelstate(state, NULL);
  return r;
}

int forkq__feeder_open(struct forkq__feeder *feeder) {
  if (feeder->closing || atomic_load(&feeder->abandoned))
    return FORKQ_ECLOSED;
  if (feeder->failed != 0)
    return feeder->failed;
  int r = forkq__reap_and_claim(feeder->channel);
  if (r < 0 || feeder->stop_fd >= 0)
    return r;
  forkq__slots_begin(feeder->slots);
  feeder->stop_fd = forkq__os_event_create();
  return feeder->stop_fd < 0 ? feeder->stop_fd : 0;
}

int forkq__feeder_start_thread(struct forkq__feeder *feeder) {
  if (feeder->state == FORKQ__FEEDER_RUNNING)
    return 0;
  forkq__feeder_join_ended(feeder);
  int r = create_thread(feeder);
  if (r < 0) /* also -EINVAL, after unshare(CLONE_NEWPID), and -EPERM in a sandbox */
    return r == UV_ENOMEM ? r : FORKQ_ENOTHREAD;
  feeder->state = FORKQ__FEEDER_RUNNING;
  feeder->to_join = true;
  return 0;
}

int forkq__feeder_start(struct forkq__feeder *feeder) {
  int r = forkq__feeder_open(feeder);
  if (r == 0)
    r = forkq__feeder_start_thread(feeder);
  if (r == 0)
    feeder->has_run = true;
  return r;
}

void forkq__feeder_drop(struct forkq__feeder *feeder) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, LOOK_MS);
  struct forkq__buffer *list = forkq__outbox_take(&feeder->outbox);
  if (list != NULL)
    throw_away(feeder, list);
  forkq__outbox_recycle(&feeder->outbox, list);
  drain_if_dropped(feeder);
  /* The thread gives up at its next check, or when the draining has made room for it. */
  (void)await_landing(feeder, deadline);
}

bool forkq__feeder_stop_put_through(struct forkq__feeder *feeder, int64_t deadline) {
  forkq__feeder_abandon(feeder);
  return await_landing(feeder, deadline);
}

void forkq__feeder_close(struct forkq__feeder *feeder) {
  if (feeder->closing)
    return;
  feeder->closing = true;
  forkq__feeder_join_ended(feeder);
  forkq__feeder_wake_putters(feeder);
  if (feeder->state == FORKQ__FEEDER_NONE) {
    let_go(feeder);
    if (feeder->has_run)
      feeder->state = FORKQ__FEEDER_FINISHED;
  }
  forkq__mutex_wake(&feeder->work);
}

void forkq__feeder_abandon(struct forkq__feeder *feeder) {
  atomic_store(&feeder->abandoned, true);
  if (feeder->stop_fd >= 0)
    forkq__os_event_raise(feeder->stop_fd);
  forkq__mutex_wake(&feeder->work);
  forkq__feeder_wake_putters(feeder);
}

/* Waits in short steps, so that a cancelled thread does not stay in it. Begins and ends
 * without the mutex. */
static int wait_finished(struct forkq__feeder *feeder, int64_t deadline) {
  for (;;) {
    int r = forkq__feeder_lock(feeder, deadline);
    if (r < 0)
      return r;
    if (feeder->state == FORKQ__FEEDER_RUNNING)
      wait_done(feeder, forkq__os_deadline_within(deadline, CANCEL_MS));
    bool running = feeder->state == FORKQ__FEEDER_RUNNING;
    forkq__feeder_unlock(feeder);
    if (!running)
      return 0;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    forkq__os_cancellation_point(NULL, NULL);
  }
}

int forkq__feeder_join(struct forkq__feeder *feeder, int64_t deadline) {
  int r = wait_finished(feeder, deadline);
  if (r == 0 && forkq__feeder_lock(feeder, FORKQ__FOREVER) == 0) {
    forkq__feeder_join_ended(feeder);
    forkq__feeder_unlock(feeder);
  }
  return r;
}

uint64_t forkq__feeder_unsent(struct forkq__feeder *feeder) {
  return feeder->unsent + forkq__account_held(&feeder->channel->account);
}

bool forkq__feeder_estate(struct forkq__feeder *feeder,
                          struct forkq__estate *ret_estate) {
  struct forkq__channel *channel = feeder->channel;
  if (!forkq__account_owns(&channel->account) || atomic_load(&feeder->owed) != 0)
    return false;
  struct forkq__cell *cell = forkq__account_cell(&channel->account);
  uint64_t returned = FORKQ__LOAD(cell->returned);
  *ret_estate = (struct forkq__estate){
    .cell = channel->account.cell,
    .owner = channel->account.liveness.tasks.owner,
    .due = FORKQ__LOAD(cell->accepted) - returned,
    .returned = returned,
  };
  return true;
}

struct forkq__buffer *forkq__feeder_take_unsent(struct forkq__feeder *feeder) {
  struct forkq__buffer *first = feeder->in_flight, *last = first;
  while (last != NULL && last->next != NULL)
    last = last->next;
  struct forkq__buffer *rest = forkq__outbox_take(&feeder->outbox);
  feeder->in_flight = NULL;
  if (first == NULL)
    return rest;
  last->next = rest;
  return first;
}

/* Drops the child's copies of the packets that the parent had put and not sent. */
static void forget_packets(struct forkq__feeder *feeder) {
  if (feeder->forking)
    forkq__outbox_recycle(&feeder->outbox, forkq__feeder_take_unsent(feeder));
  else
    forkq__outbox_init(&feeder->outbox);
  feeder->in_flight = NULL;
}

void forkq__feeder_forked(struct forkq__feeder *feeder) {
  /* Threads of the parent may have been waiting for these conditions or the mutex, and are
   * recorded in them. They do not exist in the child. */
  forkq__mutex_init(&feeder->mutex);
  feeder->work = feeder->done = (struct forkq__condition){ 0 };
  forget_packets(feeder);
  feeder->forking = false;
  feeder->to_join = false;
  feeder->idle = false;
  feeder->look_at = FORKQ__FOREVER;
  feeder->has_run = false;
  feeder->unsent = 0;
  feeder->copied_bytes = 0;
  feeder->owed = 0;
  feeder->bytes = 0;
  feeder->room_waiters = 0;
  atomic_store(&feeder->abandoned, false);
  close_stop(feeder);
  feeder->channel->account.cell = FORKQ__NO_CELL;
  feeder->state = FORKQ__FEEDER_NONE;
}
