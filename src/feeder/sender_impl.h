/* What the files of the sender share. */
#ifndef FORKQ_SENDER_IMPL_H
#define FORKQ_SENDER_IMPL_H

#include "feeder/sender.h"

/* The last packet of the messages that begin in this one. */
static inline struct forkq__buffer *forkq__packets_end(struct forkq__buffer *first) {
  struct forkq__buffer *last = first;
  if (first->packet.flags & FORKQ__FRAGMENT)
    while (!(last->packet.flags & FORKQ__LAST))
      last = last->next;
  return last;
}

/* Takes packets back, as forkq__outbox_recycle and forkq__outbox_keep do, and their pieces. */
void forkq__sender_recycle(struct forkq__sender *sender, struct forkq__buffer *list);
struct forkq__buffer *forkq__sender_keep(struct forkq__sender *sender,
                                         struct forkq__buffer *list);

/* close_arena: while the process still has its cell. forget_pieces: in the child of a fork. */
void forkq__sender_close_arena(struct forkq__sender *sender);
void forkq__sender_forget_pieces(struct forkq__sender *sender);

/* The messages in the packets from `first` to `last` do not count as unsent any more. */
void forkq__sender_release_bytes(struct forkq__sender *sender,
                                 const struct forkq__buffer *first,
                                 const struct forkq__buffer *last);

/* Gives back the slots of items that will not be sent, and those owed from before. If the ledger
 * lock cannot be had, because its owner was stopped, the next call gives them back. */
void forkq__sender_give_back(struct forkq__sender *sender, uint64_t items);

/* give_up: the messages that begin in packet `first` cannot be sent. throw_away: gives back the
 * items of packets that an immediate shutdown drops. */
void forkq__sender_give_up(struct forkq__sender *sender, struct forkq__buffer *first,
                           int error);
void forkq__sender_throw_away(struct forkq__sender *sender, struct forkq__buffer *list);

#endif
