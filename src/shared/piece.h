/* Pieces: reading the messages that lie in the arenas of other processes (arena.h).
 *
 * A process maps of an arena what it reads from, in steps that double, and keeps it mapped. Where there
 * is no address space for that, it reads through the file. */
#ifndef FORKQ_PIECE_H
#define FORKQ_PIECE_H

#include "shared/account.h"

/* What this process has mapped of the arenas, by cell: the address, and in its lowest bits the binary
 * logarithm of the size; 0: nothing. Written with the channel's read lock, in one store, so that a fork
 * may come at any time. */
struct forkq__pieces {
  _Atomic uintptr_t maps[FORKQ__CELLS_MAX];
};

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

/* Gives back the memory of owners that are gone. With the read lock, when the packet read ahead is taken.
 * False: there may be some left. */
bool forkq__pieces_release_orphans(const struct forkq__account *account, int pipe_fd);

void forkq__pieces_unmap(struct forkq__pieces *pieces);

#endif
