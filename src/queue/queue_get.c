/* Getting: forkq_queue_get and its variants.
 *
 * A get first receives without sleeping. If it finds nothing, it sends this process's own unsent
 * items and receives again. Only then does it sleep. A get counts itself in `getters` before it
 * looks at `closed`; close sets `closed` before it waits for `getters` to be 0. So no get meets a
 * descriptor that close has closed. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/probe.h"
#include "codec/item.h"
#include "pipe/reap.h"

#include <pthread.h>

/* How long a get with timeout 0 waits for this process's own feeder. */
#define OWN_MS 100

/* Packets that the feeder is sending, or that cannot be sent here, come in a moment; of a message in
 * fragments, its beginning. If they do not, the pipe is full, and there is something to get. */
void forkq__queue_send_own(forkq_queue_t *queue, int64_t deadline) {
  struct pollfd pipe = { .fd = queue->channel.read_fd, .events = POLLIN };
  if (forkq__sender_lock(&queue->feeder.sender, deadline) != 0)
    return;
  forkq__sender_send_now(&queue->feeder.sender);
  bool more = forkq__sender_has_packets(&queue->feeder.sender);
  forkq__sender_unlock(&queue->feeder.sender);
  if (more && deadline == FORKQ__NOWAIT)
    forkq__os_poll(&pipe, 1, forkq__os_deadline_within(FORKQ__FOREVER, OWN_MS));
}

/* The gets that this thread is in: at most one, except in a signal handler that has interrupted a
 * get. */
static _Thread_local int getting FORKQ__TLS;

bool forkq__queue_getting_here(void) {
  return getting > 0;
}

int forkq__queue_enter_get(forkq_queue_t *queue) {
  atomic_fetch_add(&queue->getters, 1);
  if (!atomic_load(&queue->channel.closed)) {
    getting++;
    return 0;
  }
  atomic_fetch_sub(&queue->getters, 1);
  return FORKQ_ECLOSED;
}

void forkq__queue_leave_get(forkq_queue_t *queue) {
  getting--;
  forkq__slots_freed(&queue->slots);
  atomic_fetch_sub(&queue->getters, 1);
}

static void leave_get(void *queue) {
  forkq__queue_leave_get(queue);
}

/* Tries once to get a cell, which this process can do without. */
static void wish_for_cell(forkq_queue_t *queue) {
  FORKQ__STORE(queue->channel.wish, FORKQ__WISHED);
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return;
  if (!atomic_load(&queue->channel.closed))
    (void)forkq__reap_and_claim(&queue->channel);
  forkq__sender_unlock(&queue->feeder.sender);
}

/* Where tasks are kept: prepare_to_get has prepared, and there is more to do. */
#define KEEPS 1

/* Prepares the first get of a process: a joinable queue counts the gets in the process's own
 * cell. Returns 0, KEEPS, FORKQ_EMPTY, or an error. */
static int prepare_to_get(forkq_queue_t *queue, int64_t deadline) {
  if (!queue->channel.joinable) {
    if (FORKQ__LOAD(queue->channel.wish) == FORKQ__WANTS_CELL)
      wish_for_cell(queue);
    return 0;
  }
  if (forkq__account_has_cell(&queue->channel.account))
    return forkq__account_owns(&queue->channel.account) ? queue->channel.keeps : -EBADF;
  for (;;) {
    int r = forkq__sender_lock(&queue->feeder.sender, deadline);
    if (r == 0) {
      r = atomic_load(&queue->channel.closed) ? FORKQ_ECLOSED
                                              : forkq__reap_and_claim(&queue->channel);
      forkq__sender_unlock(&queue->feeder.sender);
    }
    if (r == FORKQ_TIMEDOUT && deadline == FORKQ__NOWAIT)
      return FORKQ_EMPTY;
    if (r == 0)
      return queue->channel.keeps;
    if (r != FORKQ_TIMEDOUT || forkq__os_now() >= deadline)
      return r;
    if (forkq__interrupted(&queue->channel.interrupts))
      return forkq__interrupts_tell(&queue->channel.interrupts, FORKQ_EINTERRUPTED);
    forkq__os_cancellation_point(leave_get, queue);
  }
}

/* Whether this process may have unsent items. */
static bool may_have_own(const forkq_queue_t *queue) {
  return forkq__account_has_cell(&queue->channel.account) ||
         FORKQ__LOAD(queue->inherited.packets) != NULL;
}

/* What comes before all items in the pipe: 0, FORKQ__NOTHING, FORKQ_EUNDONE if this process may get
 * nothing, or another error. */
static __attribute__((noinline)) int receive_lost(forkq_queue_t *queue,
                                                  forkq_item_t *item, int64_t deadline) {
  struct forkq__channel *channel = &queue->channel;
  int r = forkq__kept_check(&channel->account);
  if (r < 0 || atomic_load(&channel->shared->shutdown) == FORKQ__DROPPED)
    return r < 0 ? r : FORKQ__NOTHING;
  return forkq__channel_receive_lost(channel, item, deadline);
}

/* Receives an item that is there: 0, FORKQ__NOTHING, FORKQ_ESHUTDOWN if no item will come any more,
 * or an error. */
static int receive_ready(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline) {
  int r = prepare_to_get(queue, deadline);
  if (r != 0 && (r = r < 0 ? r : receive_lost(queue, item, deadline)) != FORKQ__NOTHING)
    return r;
  if (atomic_load(&queue->segment->channel.shutdown) == FORKQ__DROPPED)
    return FORKQ_ESHUTDOWN;
  r = forkq__channel_receive(&queue->channel, item, deadline);
  if (r == FORKQ__NOTHING && may_have_own(queue)) {
    if (atomic_load(&queue->channel.closed))
      return FORKQ_ECLOSED;
    forkq__queue_send_own(queue, deadline);
    r = forkq__channel_receive(&queue->channel, item, deadline);
  }
  return r == FORKQ__NOTHING && forkq__channel_exhausted(&queue->channel)
             ? FORKQ_ESHUTDOWN
             : r;
}

/* An item for whose borrow there is no memory gets a copy. */
static void want_to_borrow(forkq_item_t *item) {
  if (item->borrow_ == NULL)
    item->borrow_ = forkq__borrow_new();
  if (item->borrow_ != NULL)
    item->borrow_->wanted = true;
}

static inline void empty(forkq_item_t *item, bool may_borrow) {
  forkq__item_clear(item);
  if (may_borrow)
    want_to_borrow(item);
}

int forkq__queue_begin_get_soon(forkq_queue_t *queue, forkq_item_t *item,
                                int64_t deadline, bool may_borrow) {
  empty(item, may_borrow);
  int r = forkq__queue_enter_get(queue);
  if (r < 0)
    return r;
  r = receive_ready(queue, item, deadline);
  if (r < 0)
    forkq__queue_leave_get(queue);
  return r == FORKQ_TIMEDOUT ? FORKQ__NOTHING : r;
}

int forkq__queue_get_soon(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline,
                          bool may_borrow) {
  int r = forkq__queue_begin_get_soon(queue, item, deadline, may_borrow);
  if (r == 0)
    forkq__queue_leave_get(queue);
  return r;
}

/* A thread that is cancelled while it waits leaves the get. */
static __attribute__((noinline)) int receive_wait(forkq_queue_t *queue,
                                                  forkq_item_t *item, int64_t deadline) {
  int r;
  forkq__queue_equip(queue);
  FORKQ__PROBE2(wait_begin, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_ITEM));
  pthread_cleanup_push(leave_get, queue);
  r = forkq__channel_receive_wait(&queue->channel, item, deadline);
  pthread_cleanup_pop(0);
  FORKQ__PROBE3(wait_end, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_ITEM), forkq__probe_value(r));
  return forkq__interrupts_tell(&queue->channel.interrupts, r);
}

static int receive(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline) {
  int r = receive_ready(queue, item, deadline);
  if (r != FORKQ__NOTHING)
    return r;
  return deadline == FORKQ__NOWAIT ? FORKQ_EMPTY : receive_wait(queue, item, deadline);
}

static __attribute__((noinline)) int
get_elsewhere(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms, int r) {
  r = forkq__elsewhere_get(queue, item, 1, timeout_ms, NULL, r);
  return r == 0 ? FORKQ__GOT_ELSEWHERE : r;
}

/* After success the caller leaves the get. */
static inline int begin_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms,
                            bool may_borrow) {
  if (queue == NULL || item == NULL)
    return FORKQ_ENULL;
  empty(item, may_borrow);
  int r = forkq__queue_begin_call(queue, timeout_ms);
  if (r == 0)
    r = forkq__queue_enter_get(queue);
  if (r < 0)
    return get_elsewhere(queue, item, timeout_ms, r);
  r = receive(queue, item, forkq__os_deadline(timeout_ms));
  if (r < 0)
    forkq__queue_leave_get(queue);
  return r;
}

/* Returns 0, FORKQ__GOT_ELSEWHERE, or an error. */
static inline int get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms,
                      bool may_borrow) {
  int r = begin_get(queue, item, timeout_ms, may_borrow);
  if (r == 0)
    forkq__queue_leave_get(queue);
  return r;
}

int forkq__queue_begin_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  return begin_get(queue, item, timeout_ms, true);
}

int forkq_queue_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  int r = get(queue, item, timeout_ms, false);
  return r < 0 ? r : forkq__item_unpack(item);
}

int forkq_queue_get_packed(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  int r = get(queue, item, timeout_ms, false);
  return r == FORKQ__GOT_ELSEWHERE ? 0 : r;
}

int forkq_queue_get_borrowed(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  if (queue != NULL)
    forkq__queue_wish_to_borrow(queue);
  int r = get(queue, item, timeout_ms, true);
  return r < 0 || forkq__item_is_borrowed(item) ? r : forkq__item_unpack(item);
}

int forkq_queue_get_nowait(forkq_queue_t *queue, forkq_item_t *item) {
  return forkq_queue_get(queue, item, 0);
}

/* The items of a batch. */
struct batch {
  forkq_item_t *items;
  size_t count;
  bool may_borrow;
};

static int get_many(forkq_queue_t *queue, const struct batch *batch, int timeout_ms,
                    size_t *ret_got) {
  size_t count = batch->count, n = 0;
  forkq_item_t *items = batch->items;
  if (queue == NULL || (items == NULL && count > 0) || ret_got == NULL)
    return FORKQ_ENULL;
  if (batch->may_borrow)
    forkq__queue_wish_to_borrow(queue);
  for (size_t i = 0; i < count; i++)
    empty(&items[i], batch->may_borrow);
  int r = forkq__queue_begin_call(queue, timeout_ms);
  if (r == 0)
    r = forkq__queue_enter_get(queue);
  if (r < 0)
    return forkq__elsewhere_get(queue, items, count, timeout_ms, ret_got, r);
  if (count > 0)
    r = receive(queue, &items[0], forkq__os_deadline(timeout_ms));
  if (count > 0 && r == 0) {
    size_t first = 1;
    while (first < count && forkq__channel_receive_lost(&queue->channel, &items[first],
                                                        FORKQ__NOWAIT) == 0)
      first++;
    (void)forkq__channel_receive_more(&queue->channel, items + first, count - first, &n);
    n += first;
  }
  forkq__queue_leave_get(queue);
  if (r == 0)
    *ret_got = n;
  return r;
}

/* The object of what is borrowed is there already. */
static int unpack_many(forkq_item_t *items, size_t count) {
  int r = 0;
  for (size_t i = 0; i < count; i++) {
    int unpacked = forkq__item_is_borrowed(&items[i]) ? 0 : forkq__item_unpack(&items[i]);
    r = unpacked < 0 ? unpacked : r;
  }
  return r;
}

int forkq_queue_get_many(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                         int timeout_ms, size_t *ret_got) {
  const struct batch batch = { .items = items, .count = count };
  int r = get_many(queue, &batch, timeout_ms, ret_got);
  return r < 0 ? r : unpack_many(items, *ret_got);
}

int forkq_queue_get_many_packed(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                                int timeout_ms, size_t *ret_got) {
  const struct batch batch = { .items = items, .count = count };
  return get_many(queue, &batch, timeout_ms, ret_got);
}

int forkq_queue_get_many_borrowed(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                                  int timeout_ms, size_t *ret_got) {
  const struct batch batch = { .items = items, .count = count, .may_borrow = true };
  int r = get_many(queue, &batch, timeout_ms, ret_got);
  return r < 0 ? r : unpack_many(items, *ret_got);
}
