/* Pieces: reading the messages that lie in the arenas of other processes (arena.h).
 *
 * A process maps of an arena what it reads from, in steps that double, and keeps it mapped. Where there
 * is no address space for that, it reads through the file. What it holds (hold.h) lies in a mapping of
 * the whole arena, which never moves. */
#ifndef FORKQ_PIECE_H
#define FORKQ_PIECE_H

#include "codec/borrow.h"
#include "shared/hold.h"

#include <forkq/item.h>

/* What this process has mapped of the arenas, by cell: the address, and in its lowest bits the binary
 * logarithm of the size; 0: nothing. Written with the channel's read lock, in one store, so that a fork
 * may come at any time. The segment and all maps stay mapped until the queue and each item that borrows
 * has left. */
struct forkq__pieces {
  _Atomic uint32_t users;
  struct forkq__segment *segment; /* NULL until the queue leaves it here */
  uint32_t skip;                  /* so many pieces are not held without a try */
  _Atomic uintptr_t maps[FORKQ__CELLS_MAX];
};

/* new: with one user, the queue; NULL: no memory. leave: the last one unmaps all. */
struct forkq__pieces *forkq__pieces_new(void);
void forkq__pieces_leave(struct forkq__pieces *pieces);

/* Whether the piece lies within an arena. */
static inline bool forkq__piece_in_bounds(struct forkq__reference piece) {
  return piece.size > 0 && piece.size <= FORKQ__ARENA_SIZE &&
         piece.at <= FORKQ__ARENA_SIZE - piece.size;
}

/* Copies the bytes of a piece in the arena of `cell`. Returns 0, -EBADF if the descriptor of the memory
 * is no longer ours, or another negative errno. copy needs the read lock. copy_unmapped does not, and
 * is slow. */
int forkq__piece_copy(struct forkq__pieces *pieces, const struct forkq__account *account,
                      uint32_t cell, struct forkq__reference piece, void *data);
int forkq__piece_copy_unmapped(const struct forkq__account *account, uint32_t cell,
                               struct forkq__reference piece, void *data);

/* Holds a piece, with the read lock. Returns where it lies, or NULL if it cannot be held. */
const uint8_t *forkq__piece_hold(struct forkq__pieces *pieces,
                                 struct forkq__account *account, uint32_t cell,
                                 struct forkq__reference piece,
                                 struct forkq__hold *ret_hold);

/* The borrow of an item that lies in a piece. new: on the heap; NULL: no memory. borrow: with the read lock; false: the
 * piece must be copied. */
struct forkq__piece_borrow {
  struct forkq__borrow borrow;
  struct forkq__hold hold;
  struct forkq__pieces *pieces;
  unsigned forks; /* the process that borrowed */
};
struct forkq__borrow *forkq__borrow_new(void);
bool forkq__piece_borrow(struct forkq__pieces *pieces, struct forkq__account *account,
                         uint32_t cell, struct forkq__reference piece,
                         forkq_item_t *item);

/* Gives back the memory of owners that are gone. With the read lock, when the packet read ahead is taken.
 * False: there may be some left. */
bool forkq__pieces_release_orphans(const struct forkq__account *account, int pipe_fd);

#endif
