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

/* As LOOK_BYTES, for looking whether those who hold pieces live. */
#define LIFE_BYTES (1024 * 1024)

static bool is_held(const struct forkq__held *held, struct forkq__reference piece) {
  for (uint32_t i = 0; i < held->count; i++)
    if (held->at[i] == piece.at)
      return true;
  return false;
}

/* Frees a piece that was taken, or notes that it is held. There are never more pieces to be noted than
 * holds. */
static void release_taken(struct forkq__sender *sender, const struct forkq__held *held,
                          struct forkq__reference piece) {
  if (is_held(held, piece))
    sender->held.pieces[sender->held.count++] = piece;
  else
    forkq__arena_release(&sender->arena, piece);
}

static void release_held(struct forkq__sender *sender, const struct forkq__held *held) {
  uint32_t count = sender->held.count;
  sender->held.count = 0;
  for (uint32_t i = 0; i < count; i++)
    release_taken(sender, held, sender->held.pieces[i]);
}

/* Frees the pieces to which the frames from `from` up to `end` refer. Returns where it ended. */
static uint32_t release(struct forkq__sender *sender, const struct forkq__held *held,
                        const struct forkq__packet *packet, uint32_t from, uint32_t end) {
  while (from < end) {
    struct forkq__frame frame = forkq__packet_frame(packet, from);
    if (frame.is_reference)
      release_taken(sender, held, forkq__frame_reference(frame));
    from = frame.next;
  }
  return from;
}

/* How far readers have come in the line: `packets` of it are taken, and the next one up to `taken`. */
struct progress {
  uint32_t packets;
  uint32_t taken;
};

static struct progress look_at_line(const struct forkq__sender *sender) {
  struct progress progress = { 0, FORKQ__PACKET_HEAD };
  for (const struct forkq__buffer *b = sender->lent.first; b != NULL; b = b->next) {
    const struct forkq__packet *packet = &b->packet;
    uint32_t taken = forkq__channel_taken(sender->channel, packet->seq, packet->length);
    if (taken < packet->length) {
      progress.taken = taken;
      break;
    }
    progress.packets++;
  }
  return progress;
}

static void release_packet(struct forkq__sender *sender, const struct forkq__held *held) {
  struct forkq__buffer *b = sender->lent.first;
  (void)release(sender, held, &b->packet, sender->lent.taken, b->packet.length);
  sender->lent.first = b->next;
  sender->lent.taken = FORKQ__PACKET_HEAD;
  b->next = NULL;
  forkq__outbox_recycle(&sender->outbox, b);
}

/* Holds are looked at after the line: who takes a piece and holds it says so before it takes it. */
static void collect(struct forkq__sender *sender) {
  struct forkq__held held;
  struct progress progress = look_at_line(sender);
  forkq__holds_read(forkq__account_cell(&sender->channel->account), &held);
  sender->uncollected = 0;
  forkq__arena_sweep(&sender->arena);
  release_held(sender, &held);
  while (progress.packets-- > 0)
    release_packet(sender, &held);
  if (sender->lent.first != NULL && progress.taken > sender->lent.taken)
    sender->lent.taken = release(sender, &held, &sender->lent.first->packet,
                                 sender->lent.taken, progress.taken);
}

/* Clears the holds of processes that are gone. */
static void look_for_life(struct forkq__sender *sender) {
  const struct forkq__account *account = &sender->channel->account;
  sender->unlooked = 0;
  (void)forkq__holds_living(account, FORKQ__LOAD(account->cell));
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

static const struct forkq__held nothing_held;

/* Whether the packet must stay in the line. */
static bool is_lent(struct forkq__sender *sender, struct forkq__buffer *b) {
  if (!(b->packet.flags & FORKQ__REFERENCES) || !forkq__arena_is_open(&sender->arena))
    return false;
  if (b->packet.seq == 0) /* it was not sent */
    (void)release(sender, &nothing_held, &b->packet, FORKQ__PACKET_HEAD,
                  b->packet.length);
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
  if (sender->unlooked >= LIFE_BYTES)
    look_for_life(sender);
  if (sender->uncollected >= LOOK_BYTES || !forkq__arena_has_room(&sender->arena, size))
    collect(sender);
  sender->uncollected += size;
  sender->unlooked += size;
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
  look_for_life(sender);
  collect(sender);
  forkq__arena_trim(&sender->arena);
  return sender->lent.first == NULL && sender->held.count == 0;
}

void forkq__sender_close_arena(struct forkq__sender *sender) {
  FORKQ__HELD(&sender->mutex);
  if (forkq__arena_is_open(&sender->arena))
    collect(sender);
  forkq__arena_close(&sender->arena);
  forkq__outbox_recycle(&sender->outbox, sender->lent.first);
  sender->lent.first = NULL;
  sender->held.count = 0;
}

void forkq__sender_forget_pieces(struct forkq__sender *sender) {
  if (sender->forking)
    forkq__outbox_recycle(&sender->outbox, sender->lent.first);
  sender->lent.first = NULL;
  sender->held.count = 0;
  sender->uncollected = 0;
  forkq__arena_forked(&sender->arena, sender->forking);
}
