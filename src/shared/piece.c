/* Reading pieces: through a mapping, or through the file. */
#include "shared/piece.h"

#include "base/heap.h"
#include "base/lifecycle.h"
#include "base/os.h"
#include "codec/item.h"
#include "shared/segment.h"

#include <errno.h>
#include <string.h>

/* The first step, as a binary logarithm. */
#define FIRST_MAP 20

/* So many arenas at most are given back in one hold of the read lock. */
#define SWEPT_AT_ONCE 4

/* When there was no address space for a whole arena, so many pieces are not held before the next try. */
#define SKIPS 1024

/* A map begins at a page, so its lowest bits are free. */
#define SIZE_BITS 63u

static uint8_t *memory_of(uintptr_t map) {
  return (uint8_t *)(map & ~(uintptr_t)SIZE_BITS);
}

static size_t size_of(uintptr_t map) {
  return map == 0 ? 0 : (size_t)1 << (map & SIZE_BITS);
}

static void unmap(uintptr_t map) {
  if (map != 0)
    forkq__os_memory_unmap(memory_of(map), size_of(map));
}

/* Maps so much of the arena at least. Returns the new map, or 0. The number may become another file's at
 * any time. */
static __attribute__((noinline)) uintptr_t grow(struct forkq__pieces *pieces,
                                                const struct forkq__account *account,
                                                uint32_t cell, uint64_t size) {
  uintptr_t old = FORKQ__LOAD(pieces->maps[cell]);
  unsigned bits = FIRST_MAP;
  void *memory;
  while ((UINT64_C(1) << bits) < size)
    bits++;
  if (!forkq__liveness_has_memory(&account->liveness) ||
      forkq__os_memory_map(account->liveness.memory_fd, forkq__arena_begin(cell),
                           (size_t)1 << bits, &memory) < 0)
    return 0;
  uintptr_t map = (uintptr_t)memory | bits;
  if (!forkq__liveness_has_memory(&account->liveness)) {
    unmap(map);
    return 0;
  }
  forkq__os_memory_omit(memory, size_of(map));
  FORKQ__STORE(pieces->maps[cell], map);
  unmap(old);
  return map;
}

const uint8_t *forkq__piece_hold(struct forkq__pieces *pieces,
                                 struct forkq__account *account, uint32_t cell,
                                 struct forkq__reference piece,
                                 struct forkq__hold *ret_hold) {
  uintptr_t map = FORKQ__LOAD(pieces->maps[cell]);
  if (size_of(map) < FORKQ__ARENA_SIZE) {
    if (pieces->skip > 0) {
      pieces->skip--;
      return NULL;
    }
    map = grow(pieces, account, cell, FORKQ__ARENA_SIZE);
    pieces->skip = map == 0 ? SKIPS : 0;
  }
  if (map == 0 || !forkq__hold_begin(account, cell, piece, ret_hold))
    return NULL;
  return memory_of(map) + piece.at;
}

int forkq__piece_copy(struct forkq__pieces *pieces, const struct forkq__account *account,
                      uint32_t cell, struct forkq__reference piece, void *data) {
  uintptr_t map = FORKQ__LOAD(pieces->maps[cell]);
  uint64_t end = (uint64_t)piece.at + piece.size;
  if (end > size_of(map))
    map = grow(pieces, account, cell, end);
  if (map == 0)
    return forkq__piece_copy_unmapped(account, cell, piece, data);
  memcpy(data, memory_of(map) + piece.at, piece.size);
  return 0;
}

int forkq__piece_copy_unmapped(const struct forkq__account *account, uint32_t cell,
                               struct forkq__reference piece, void *data) {
  if (!forkq__liveness_has_memory(&account->liveness))
    return -EBADF;
  return forkq__os_memory_read(account->liveness.memory_fd, data, piece.size,
                               forkq__arena_begin(cell) + piece.at);
}

/* ---- borrowing --------------------------------------------------------------------------- */

struct forkq__borrow *forkq__borrow_new(void) {
  struct forkq__piece_borrow *self = forkq__calloc(sizeof *self);
  return self != NULL ? &self->borrow : NULL;
}

/* The queue may be destroyed by now. In a child of a fork the hold is the parent's. */
static bool end_borrow(struct forkq__borrow *borrow) {
  struct forkq__piece_borrow *self = (struct forkq__piece_borrow *)borrow;
  bool held = self->forks != forkq__life_forks() || forkq__hold_end(&self->hold);
  forkq__pieces_leave(self->pieces);
  return held;
}

bool forkq__piece_borrow(struct forkq__pieces *pieces, struct forkq__account *account,
                         uint32_t cell, struct forkq__reference piece,
                         forkq_item_t *item) {
  struct forkq__piece_borrow *self = (struct forkq__piece_borrow *)item->borrow_;
  const uint8_t *data = forkq__piece_hold(pieces, account, cell, piece, &self->hold);
  if (data == NULL)
    return false;
  if (!forkq__item_lend(item, data, piece.size)) {
    (void)forkq__hold_end(&self->hold);
    return false;
  }
  atomic_fetch_add(&pieces->users, 1);
  self->pieces = pieces;
  self->forks = forkq__life_forks();
  self->borrow.end = end_borrow;
  return true;
}

/* ---- memory of owners that are gone ------------------------------------------------------ */

/* The owner for whom the cell's arena may have memory, if that owner is gone, or FORKQ__SWEPT if a reader
 * has died in the sweep; else 0. */
static uint32_t gone_owner(struct forkq__cell *cell) {
  /* model: sweep_look */
  uint32_t of = FORKQ__LOAD(cell->arena);
  bool gone = of == FORKQ__SWEPT || of != FORKQ__LOAD(cell->owners) ||
              FORKQ__LOAD(cell->state) == FORKQ__CELL_FREE;
  return gone && of != FORKQ__LOST ? of : 0;
}

/* The pipe is looked at after the cell: the owner may have sent until then, and left since. The next
 * owner may have begun to use the arena; then its word has changed. Who still holds a piece says when it
 * does no more (hold_end). */
bool forkq__pieces_release_orphans(const struct forkq__account *account, int pipe_fd) {
  struct forkq__ledger *ledger = account->ledger;
  if (!forkq__liveness_has_memory(&account->liveness))
    return false;
  int swept = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    struct forkq__cell *cell = &ledger->cells[i];
    uint32_t of = gone_owner(cell);
    if (of == 0 || forkq__holds_living(account, i))
      continue;
    /* model: sweep_empty */
    if (forkq__os_pipe_level(pipe_fd) != 0 || swept++ == SWEPT_AT_ONCE)
      return false;
    /* model: sweep_mark */
    if (!atomic_compare_exchange_strong(&cell->arena, &of, FORKQ__SWEPT))
      continue;
    /* model: sweep_release */
    forkq__os_memory_release(account->liveness.memory_fd, forkq__arena_begin(i),
                             FORKQ__ARENA_SIZE);
    /* model: sweep_over */
    FORKQ__STORE(cell->arena, 0);
  }
  return true;
}

struct forkq__pieces *forkq__pieces_new(void) {
  struct forkq__pieces *pieces = forkq__calloc(sizeof *pieces);
  if (pieces != NULL)
    FORKQ__STORE(pieces->users, 1);
  return pieces;
}

void forkq__pieces_leave(struct forkq__pieces *pieces) {
  if (atomic_fetch_sub(&pieces->users, 1) > 1)
    return;
  for (uint32_t i = 0; i < FORKQ__CELLS_MAX; i++)
    unmap(FORKQ__LOAD(pieces->maps[i]));
  if (pieces->segment != NULL)
    forkq__segment_unmap(pieces->segment);
  forkq__free(pieces);
}
