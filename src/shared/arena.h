/* The arena: the memory beside the pipe into which a process packs large messages.
 *
 * Each cell of the ledger has an arena in the segment's file. Only the owner of the cell writes to it.
 * A message lies there in one piece, and what goes through the pipe in its stead is a reference. Which
 * pieces are in use is known to the owner alone, and dies with it: nothing in shared memory says it, so
 * no death can leave it wrong. A piece becomes free when readers have taken its reference, which the
 * packet read ahead shows (forkq__channel_taken).
 *
 * The next owner of a cell may not write to the arena while a reference of its predecessor's may be in
 * the pipe. So it waits until a packet has come whose number is above all of its predecessor's.
 *
 * Memory is reserved before it is written, so that no access can fail with SIGBUS; where that is
 * refused, there is no room.
 *
 * A process that goes on putting goes round in two MiB of its arena. Memory that a reader has just read
 * is in the cache of the reader's CPU, and writing to it there is slow (docs/performance.md). What does
 * not fit into the round lies in the lowest free memory.
 *
 * The caller has the sender's mutex in every function but two of a loan. */
#ifndef FORKQ_ARENA_H
#define FORKQ_ARENA_H

#include "shared/account.h"

#include <sys/queue.h>

#define FORKQ__ARENA_LEAF 256u           /* pieces begin at multiples of this */
#define FORKQ__ARENA_CHUNK (64u * 1024u) /* memory comes and goes in these */
#define FORKQ__ARENA_CHUNKS (FORKQ__ARENA_SIZE / FORKQ__ARENA_CHUNK)

/* Twice the second-level cache of a CPU of today. */
#define FORKQ__ARENA_ROUND (2u * 1024 * 1024)

/* What an idle process keeps. */
#define FORKQ__ARENA_KEPT (256u * 1024u)

/* A piece that a thread packs, without the mutex. It belongs to the thread's draft and to the arena. A
 * thread may never come back from a packing function, and a queue may be closed meanwhile. So either
 * side can end it first, and the other one frees it. */
struct forkq__loan {
  TAILQ_ENTRY(forkq__loan) entry;
  struct forkq__reference reference; /* where it lies; its room, in bytes */
  uint8_t *memory;
  struct forkq__ledger *ledger; /* as long as the loan is not closed ... */
  uint32_t cell, owner;         /* ... whose owner it is */
  _Atomic int state;            /* see arena.c */
};

struct forkq__arena {
  uint64_t limit;   /* bytes that it may use; less than a chunk: none */
  uint8_t *memory;  /* NULL: it is not open */
  bool unusable;    /* this owner of the cell cannot have it */
  uint32_t skip;    /* so many reserves, or take_overs, are refused without a try ... */
  uint32_t skipped; /* ... and so many were before that: it was refused */
  uint64_t floor;   /* it is to be taken over once a packet above this number has come */
  bool taken_over;
  uint64_t *used;  /* a bit for each leaf */
  uint32_t leaves; /* that it may use */
  uint32_t free;   /* how many of them are free */
  uint32_t lowest; /* the first free leaf, or `leaves` */
  uint32_t next; /* where the round goes on: the end of the last piece; 0 after a pause */
  uint32_t too_many;   /* so many free leaves in a row were not found; or 0 */
  uint32_t high_chunk; /* chunks from here on were not used since the last trim */
  uint64_t reserved;   /* bytes reserved since then */
  uint64_t backed[FORKQ__ARENA_CHUNKS / 64]; /* a bit for each chunk that has memory */
  int64_t begin;                             /* in the file */
  const struct forkq__account *account;
  TAILQ_HEAD(, forkq__loan) loans;
};

static inline bool forkq__arena_is_open(const struct forkq__arena *arena) {
  return arena->memory != NULL && !arena->unusable;
}

/* limit: the most bytes it may use. */
void forkq__arena_init(struct forkq__arena *arena, uint64_t limit);

/* Opens the arena of the account's cell, unless it is open. `first`: the cell has had no other owner, and
 * the arena can be used; otherwise `floor` is as above, and it can be used after take_over. Returns false
 * if there is none. */
bool forkq__arena_open(struct forkq__arena *arena, const struct forkq__account *account,
                       bool first, uint64_t floor);

/* Nothing of the last owner's is in the pipe any more: gives back the memory of that, unless a reader still
 * holds some. Sets `taken_over` if the arena can be used now. */
void forkq__arena_take_over(struct forkq__arena *arena);

/* Closes it, and gives back all memory but that of pieces in use, which readers still need. fini also
 * unmaps what threads with a loan still write to. */
void forkq__arena_close(struct forkq__arena *arena);
void forkq__arena_fini(struct forkq__arena *arena);

/* In the child of a fork, whose calling thread has no loan. `sound`: the fork had the mutex. */
void forkq__arena_forked(struct forkq__arena *arena, bool sound);

/* has_room: whether so much memory is free in one piece, as far as is known. reserve: takes it; false if
 * there is no room. release: a piece is free again. */
static inline bool forkq__arena_has_room(const struct forkq__arena *arena,
                                         uint32_t size) {
  return size / FORKQ__ARENA_LEAF < arena->free &&
         (arena->too_many == 0 || size / FORKQ__ARENA_LEAF < arena->too_many - 1);
}
bool forkq__arena_reserve(struct forkq__arena *arena, uint32_t size,
                          struct forkq__reference *ret_piece);
void forkq__arena_release(struct forkq__arena *arena, struct forkq__reference piece);

static inline uint8_t *forkq__arena_at(const struct forkq__arena *arena,
                                       struct forkq__reference piece) {
  return arena->memory + piece.at;
}

/* After a pause: gives back to the system the memory of all chunks without a piece, but for the first. The
 * next piece lies as low as it can. */
void forkq__arena_trim(struct forkq__arena *arena);

/* lend: a piece of `size` bytes for a draft, or NULL. check: whether the bytes may be read and written: 0;
 * FORKQ_ECLOSED, the arena was closed meanwhile; or -EBADF, this process was taken for dead. accept: ends
 * the loan; its first `size` bytes are a piece in use; false if the arena was closed. drop: the draft
 * does not use the piece. sweep: frees what was dropped. check and drop need no mutex. */
struct forkq__loan *forkq__arena_lend(struct forkq__arena *arena, uint32_t size);
int forkq__loan_check(const struct forkq__loan *loan);
bool forkq__arena_accept(struct forkq__arena *arena, struct forkq__loan *loan,
                         uint32_t size);
void forkq__loan_drop(struct forkq__loan *loan);
void forkq__arena_sweep(struct forkq__arena *arena);

#endif
