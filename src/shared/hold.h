/* Holds: pieces that readers still use after their references were taken.
 *
 * A piece is free again when its reference was taken (sender_pieces.c), unless a reader holds it. The
 * holds on the pieces of an arena stand in the cell of the arena's owner, each in one word: which piece,
 * and which owner of which cell holds it. The holder may be stopped or die; a hold of a process that is
 * gone counts for nothing, and whoever meets it clears it.
 *
 * A reader begins a hold before its store of `offset`, which takes the reference. So whoever sees the
 * reference taken sees the hold, too. */
#ifndef FORKQ_HOLD_H
#define FORKQ_HOLD_H

#include "shared/account.h"

struct forkq__hold {
  _Atomic uint64_t *word;
  uint64_t value;
  struct forkq__ledger *ledger;
  uint32_t cell, owner; /* whose piece it is */
};

/* Begins a hold of this process on a piece in the arena of `cell`, with the read lock. False: this
 * process has no cell, or there are as many holds as there can be. */
bool forkq__hold_begin(struct forkq__account *account, uint32_t cell,
                       struct forkq__reference piece, struct forkq__hold *ret_hold);

/* Ends it, on any thread, without a lock. False: it was cleared before, because this process was taken
 * for dead. */
bool forkq__hold_end(struct forkq__hold *hold);

/* The pieces of the cell that are held at this moment, by their places in the arena. */
struct forkq__held {
  uint32_t count;
  uint32_t at[FORKQ__HOLDS];
};
void forkq__holds_read(const struct forkq__cell *cell, struct forkq__held *ret_held);

/* Clears the holds on pieces of `cell` whose holders are gone. Returns whether any is left. A system call
 * for each. */
bool forkq__holds_living(const struct forkq__account *account, uint32_t cell);

#endif
