/* Items that could not be sent: telling the program of them, and giving back their slots. If the
 * ledger lock cannot be had, these slots stay in `owed`, for the next call. */
#include "base/contract.h"
#include "base/heap.h"
#include "base/log.h"
#include "feeder/sender_impl.h"

#include <string.h>

void forkq__sender_give_back(struct forkq__sender *sender, uint64_t items) {
  struct forkq__channel *channel = sender->channel;
  uint64_t owed = atomic_exchange(&sender->owed, 0) + items;
  if (owed == 0 || !forkq__account_has_cell(&channel->account))
    return;
  if (forkq__account_return(&channel->account, owed))
    forkq__slots_freed(sender->slots);
  else
    atomic_fetch_add(&sender->owed, owed);
}

/* Inlined, it would cost the puts that keep their slots. */
__attribute__((noinline)) void forkq__sender_withdraw(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (!forkq__account_has_cell(&sender->channel->account))
    return;
  struct forkq__cell *cell = forkq__account_cell(&sender->channel->account);
  forkq__sender_give_back(sender, 1);
  FORKQ__STORE(cell->not_put, FORKQ__LOAD(cell->not_put) + 1);
}

void forkq__sender_lose(struct forkq__sender *sender, uint64_t items) {
  FORKQ__HELD(&sender->mutex);
  if (items == 0)
    return;
  forkq__log(FORKQ_LOG_ERROR, sender->channel->account.ledger->name,
             "lost %llu items: no memory", (unsigned long long)items);
  atomic_fetch_add(&sender->unsent, items);
  forkq__sender_give_back(sender, items);
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

static void report_large(struct forkq__sender *sender, const struct forkq__buffer *first,
                         int error) {
  uint32_t total = first->packet.total;
  char *data = join_fragments(first, total);
  sender->lost(sender->arg, error, data, total);
  forkq__free(data);
}

static void report_whole(struct forkq__sender *sender, struct forkq__frame frame,
                         int error) {
  if (!frame.is_reference) {
    sender->lost(sender->arg, error, frame.data, frame.size);
    return;
  }
  struct forkq__reference piece = forkq__frame_reference(frame);
  sender->lost(sender->arg, error, forkq__arena_at(&sender->arena, piece), piece.size);
}

static void report_small(struct forkq__sender *sender, const struct forkq__packet *packet,
                         int error) {
  for (uint32_t o = FORKQ__PACKET_HEAD; o < packet->length;) {
    struct forkq__frame frame = forkq__packet_frame(packet, o);
    report_whole(sender, frame, error);
    o = frame.next;
  }
}

void forkq__sender_give_up(struct forkq__sender *sender, struct forkq__buffer *first,
                           int error) {
  struct forkq__buffer *last = forkq__packets_end(first);
  if (first->packet.flags & FORKQ__FRAGMENT) {
    report_large(sender, first, error);
  } else {
    report_small(sender, &first->packet, error);
  }
  uint32_t items = forkq__packet_messages(&last->packet);
  atomic_fetch_add(&sender->unsent, items);
  forkq__sender_give_back(sender, items);
}

void forkq__sender_throw_away(struct forkq__sender *sender, struct forkq__buffer *list) {
  uint64_t items = 0;
  for (struct forkq__buffer *b = list; b != NULL; b = b->next) {
    items += forkq__packet_messages(&b->packet);
    forkq__sender_release_bytes(sender, b, b);
  }
  forkq__sender_give_back(sender, items);
}

uint64_t forkq__sender_unsent(struct forkq__sender *sender) {
  return FORKQ__LOAD(sender->unsent) + forkq__account_held(&sender->channel->account);
}
