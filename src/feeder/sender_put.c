/* What is put: adding it to the outbox, and waiting where too many bytes are unsent. */
#include "base/contract.h"
#include "base/os.h"
#include "base/probe.h"
#include "feeder/sender_impl.h"

#include <limits.h>

bool forkq__sender_full(struct forkq__sender *sender) {
  return sender->max_bytes > 0 && atomic_load(&sender->bytes) >= sender->max_bytes;
}

static void count_unsent(struct forkq__sender *sender, uint64_t bytes) {
  if (sender->max_bytes > 0)
    atomic_fetch_add(&sender->bytes, bytes);
}

static void count_put(struct forkq__sender *sender, const struct forkq__outbox *put) {
  struct forkq__account *account = &sender->channel->account;
  struct forkq__cell *cell = forkq__account_cell(account);
  uint64_t bytes = put->open.size;
  FORKQ__PROBE2(put, account->number, put->open.size);
  FORKQ__STORE(cell->put_bytes, FORKQ__LOAD(cell->put_bytes) + bytes);
  count_unsent(sender, bytes);
}

void forkq__sender_commit(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  count_put(sender, &sender->outbox);
  forkq__outbox_commit(&sender->outbox);
}

void forkq__sender_adopt(struct forkq__sender *sender, struct forkq__outbox *draft) {
  FORKQ__HELD(&sender->mutex);
  count_put(sender, draft);
  forkq__outbox_join(&sender->outbox, draft);
}

/* The pieces of a dead process, before its cell has a next owner. */
struct estate {
  const struct forkq__account *account;
  uint32_t cell;
};

static int fetch(void *arg, struct forkq__reference piece, void *data) {
  const struct estate *estate = arg;
  return forkq__piece_copy_unmapped(estate->account, estate->cell, piece, data);
}

uint64_t forkq__sender_copy(struct forkq__sender *sender, uint32_t cell,
                            const struct forkq__buffer *list, uint64_t skip) {
  FORKQ__HELD(&sender->mutex);
  struct estate estate = { &sender->channel->account, cell };
  struct forkq__copied copied =
      forkq__outbox_copy(&sender->outbox, list, skip, fetch, &estate);
  sender->copied_bytes += copied.bytes;
  count_unsent(sender, copied.bytes);
  return copied.messages;
}

/* A putter counts itself as waiting before it looks for room. The feeder makes room before it
 * looks for waiting putters. So one of them sees the other. */
static void leave_wait(void *arg) {
  struct forkq__sender *sender = arg;
  atomic_fetch_sub(&sender->room_waiters, 1);
}

void forkq__sender_wait_room(struct forkq__sender *sender, int64_t deadline) {
  uint32_t event = atomic_load(&sender->room_event);
  atomic_fetch_add(&sender->room_waiters, 1);
  pthread_cleanup_push(leave_wait, sender);
  if (forkq__sender_full(sender) && !forkq__interrupted(sender->slots->interrupts)) {
    atomic_fetch_add(&sender->slots->shared->waits, 1);
    (void)forkq__os_futex_wait_cancellable(&sender->room_event, event, deadline,
                                           FORKQ__ANY_BITS);
  }
  pthread_cleanup_pop(1);
}

void forkq__sender_interrupt(struct forkq__sender *sender) {
  atomic_fetch_add(&sender->room_event, 1);
  if (atomic_load(&sender->room_waiters) > 0)
    forkq__os_futex_wake(&sender->room_event, INT_MAX);
}

void forkq__sender_wake_putters(struct forkq__sender *sender) {
  forkq__sender_interrupt(sender);
  forkq__slots_tell_watchers(sender->slots);
}

void forkq__sender_release_bytes(struct forkq__sender *sender,
                                 const struct forkq__buffer *first,
                                 const struct forkq__buffer *last) {
  if (sender->max_bytes == 0)
    return;
  uint64_t bytes = forkq__packet_payload(&last->packet);
  for (const struct forkq__buffer *b = first; b != last; b = b->next)
    bytes += forkq__packet_payload(&b->packet);
  atomic_fetch_sub(&sender->bytes, bytes);
  if (!forkq__sender_full(sender))
    forkq__sender_wake_putters(sender);
}
