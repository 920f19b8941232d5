/* Messages beside the pipe: packing them into pieces of this process's arena, and knowing when a piece
 * is free again.
 *
 * A packet with references that was sent is not used again at once. It stays in the line `lent`, in the
 * order of sending, until readers have taken its last frame; up to there it says which pieces are still
 * to be read. A packet that was not sent gives back its pieces at once. */
#include "base/contract.h"
#include "base/lifecycle.h"
#include "feeder/sender_impl.h"

#include <string.h>

/* The sender looks for pieces that are free again each time it has used so many bytes, and when there
 * is no room. The words that it looks at are written by each reader: a look costs a cache miss. */
#define LOOK_BYTES (64 * 1024)

/* ---- pieces that are free again ------------------------------------------------------------ */

/* Frees the pieces to which the frames from `from` up to `end` refer. Returns where it ended. */
static uint32_t release(struct forkq__arena *arena, const struct forkq__packet *packet,
                        uint32_t from, uint32_t end) {
  while (from < end) {
    struct forkq__frame frame = forkq__packet_frame(packet, from);
    if (frame.is_reference)
      forkq__arena_release(arena, forkq__frame_reference(frame));
    from = frame.next;
  }
  return from;
}

static void collect(struct forkq__sender *sender) {
  struct forkq__buffer *b;
  sender->uncollected = 0;
  forkq__arena_sweep(&sender->arena);
  while ((b = sender->lent.first) != NULL) {
    const struct forkq__packet *packet = &b->packet;
    uint32_t taken = forkq__channel_taken(sender->channel, packet->seq, packet->length);
    if (taken > sender->lent.taken)
      sender->lent.taken = release(&sender->arena, packet, sender->lent.taken, taken);
    if (sender->lent.taken < packet->length)
      return;
    sender->lent.first = b->next;
    sender->lent.taken = FORKQ__PACKET_HEAD;
    b->next = NULL;
    forkq__outbox_recycle(&sender->outbox, b);
  }
}

static void append_to_lent(struct forkq__sender *sender, struct forkq__buffer *b) {
  b->next = NULL;
  if (sender->lent.first != NULL) {
    sender->lent.last->next = b;
  } else {
    sender->lent.first = b;
    sender->lent.taken = FORKQ__PACKET_HEAD;
  }
  sender->lent.last = b;
}

/* Whether the packet must stay in the line. */
static bool is_lent(struct forkq__sender *sender, struct forkq__buffer *b) {
  if (!(b->packet.flags & FORKQ__REFERENCES) || !forkq__arena_is_open(&sender->arena))
    return false;
  if (b->packet.seq == 0) /* it was not sent */
    (void)release(&sender->arena, &b->packet, FORKQ__PACKET_HEAD, b->packet.length);
  return b->packet.seq != 0;
}

struct forkq__buffer *forkq__sender_keep(struct forkq__sender *sender,
                                         struct forkq__buffer *list) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__buffer *rest = NULL, **end = &rest;
  while (list != NULL) {
    struct forkq__buffer *b = list;
    list = b->next;
    if (is_lent(sender, b)) {
      append_to_lent(sender, b);
      continue;
    }
    *end = b;
    end = &b->next;
  }
  *end = NULL;
  return forkq__outbox_keep(&sender->outbox, rest);
}

void forkq__sender_recycle(struct forkq__sender *sender, struct forkq__buffer *list) {
  forkq__outbox_free(forkq__sender_keep(sender, list));
}

/* ---- using a piece ------------------------------------------------------------------------- */

/* What the last owner of the cell may have sent has a number up to that of the last packet. The first
 * owner need not wait. */
static bool open_arena(struct forkq__sender *sender) {
  const struct forkq__channel *channel = sender->channel;
  uint32_t cell = FORKQ__LOAD(channel->account.cell);
  bool first = FORKQ__LOAD(channel->account.ledger->cells[cell].owners) == 1;
  /* model: arena_floor */
  uint64_t floor = FORKQ__LOAD(channel->shared->write_seq);
  return forkq__arena_open(&sender->arena, &channel->account, first, floor);
}

/* Whether nothing is to be read any more that the last owner has sent; 0: nothing was ever sent. */
static bool has_passed_floor(struct forkq__sender *sender) {
  uint64_t floor = sender->arena.floor;
  /* model: arena_passed */
  return floor == 0 || FORKQ__LOAD(sender->channel->shared->read_seq) > floor;
}

static bool may_use_arena(struct forkq__sender *sender) {
  struct forkq__arena *arena = &sender->arena;
  if (!forkq__account_owns(&sender->channel->account) ||
      (arena->memory == NULL && !open_arena(sender)) || arena->unusable)
    return false;
  if (!arena->taken_over && has_passed_floor(sender))
    forkq__arena_take_over(arena);
  return arena->taken_over;
}

/* Makes room where it can, before a piece of that size is reserved. */
static void make_room(struct forkq__sender *sender, uint32_t size) {
  if (sender->uncollected >= LOOK_BYTES || !forkq__arena_has_room(&sender->arena, size))
    collect(sender);
  sender->uncollected += size;
}

bool forkq__sender_put_beside(struct forkq__sender *sender, const void *data,
                              uint32_t size) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__reference piece;
  if (!may_use_arena(sender))
    return false;
  make_room(sender, size);
  if (!forkq__arena_reserve(&sender->arena, size, &piece))
    return false;
  /* model: piece_packed */
  memcpy(forkq__arena_at(&sender->arena, piece), data, size);
  forkq__outbox_refer(&sender->outbox, piece);
  return true;
}

void forkq__sender_lend(struct forkq__sender *sender, struct forkq__outbox *draft,
                        uint32_t size) {
  FORKQ__HELD(&sender->mutex);
  if (forkq__sender_open(sender) != 0 || !may_use_arena(sender))
    return;
  make_room(sender, size);
  draft->loan = forkq__arena_lend(&sender->arena, size);
  draft->loan_forks = forkq__life_forks();
}

bool forkq__sender_end_loan(struct forkq__sender *sender, struct forkq__outbox *draft) {
  FORKQ__HELD(&sender->mutex);
  struct forkq__loan *loan = draft->loan;
  draft->loan = NULL;
  return loan == NULL || forkq__arena_accept(&sender->arena, loan, draft->open.size);
}

/* ---- giving memory back -------------------------------------------------------------------- */

bool forkq__sender_trim(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (!forkq__arena_is_open(&sender->arena))
    return true;
  collect(sender);
  forkq__arena_trim(&sender->arena);
  return sender->lent.first == NULL;
}

void forkq__sender_close_arena(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (forkq__arena_is_open(&sender->arena))
    collect(sender);
  forkq__arena_close(&sender->arena);
  forkq__outbox_recycle(&sender->outbox, sender->lent.first);
  sender->lent.first = NULL;
}

void forkq__sender_forget_pieces(struct forkq__sender *sender) {
  if (sender->forking)
    forkq__outbox_recycle(&sender->outbox, sender->lent.first);
  sender->lent.first = NULL;
  sender->uncollected = 0;
  forkq__arena_forked(&sender->arena, sender->forking);
}
