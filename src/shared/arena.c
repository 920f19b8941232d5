/* The arena of this process: which leaves are used, which chunks have memory, and what is lent. */
#include "shared/arena.h"

#include "base/contract.h"
#include "base/heap.h"
#include "base/os.h"
#include "shared/hold.h"

#include <errno.h>
#include <forkq/base.h>
#include <string.h>

/* The arena is trimmed each time that so many bytes were reserved, as many as make some laps through
 * all of it: what was not needed meanwhile was for a burst. */
#define TRIM_PERIOD (4 * FORKQ__ARENA_SIZE)

/* The states of a loan. Who ends it second frees it. */
enum { LENT, DROPPED, CLOSED };

/* When memory was refused, so many messages at most go through the pipe before the next try. */
#define SKIPS_MAX 1024

#define NO_LEAF UINT32_MAX /* no leaf has this number */

/* ---- bits ---------------------------------------------------------------------------------- */

/* The first bit from `from` on that is `value`, or `to` if there is none before it. */
static uint32_t next_bit(const uint64_t *bits, uint32_t from, uint32_t to, bool value) {
  while (from < to) {
    uint64_t word = (value ? bits[from / 64] : ~bits[from / 64]) >> from % 64;
    if (word != 0) {
      from += (uint32_t)__builtin_ctzll(word);
      return from < to ? from : to;
    }
    from += 64 - from % 64;
  }
  return to;
}

static void set_bits(uint64_t *bits, uint32_t from, uint32_t count, bool value) {
  while (count > 0) {
    uint32_t here = 64 - from % 64 < count ? 64 - from % 64 : count;
    uint64_t mask = (here == 64 ? UINT64_MAX : (UINT64_C(1) << here) - 1) << from % 64;
    if (value)
      bits[from / 64] |= mask;
    else
      bits[from / 64] &= ~mask;
    from += here;
    count -= here;
  }
}

/* ---- opening and closing ------------------------------------------------------------------- */

void forkq__arena_init(struct forkq__arena *arena, uint64_t limit) {
  memset(arena, 0, sizeof *arena);
  arena->limit = limit < FORKQ__ARENA_SIZE ? limit : FORKQ__ARENA_SIZE;
  TAILQ_INIT(&arena->loans);
}

static size_t mapped_size(const struct forkq__arena *arena) {
  return (size_t)arena->leaves * FORKQ__ARENA_LEAF;
}

/* The number may become another file's at any time. */
static bool map(struct forkq__arena *arena) {
  void *memory;
  if (!forkq__liveness_has_memory(&arena->account->liveness) ||
      forkq__os_memory_map(arena->account->liveness.memory_fd, arena->begin,
                           mapped_size(arena), &memory) < 0)
    return false;
  if (!forkq__liveness_has_memory(&arena->account->liveness)) {
    forkq__os_memory_unmap(memory, mapped_size(arena));
    return false;
  }
  forkq__os_memory_omit(memory, mapped_size(arena));
  arena->memory = memory;
  return true;
}

static bool open(struct forkq__arena *arena) {
  uint32_t chunks = (uint32_t)(arena->limit / FORKQ__ARENA_CHUNK);
  arena->leaves = arena->free = chunks * (FORKQ__ARENA_CHUNK / FORKQ__ARENA_LEAF);
  arena->used = chunks > 0 ? forkq__calloc(arena->leaves / 8) : NULL;
  if (arena->used == NULL)
    return false;
  if (map(arena))
    return true;
  forkq__free(arena->used);
  arena->used = NULL;
  return false;
}

static struct forkq__cell *own_cell(const struct forkq__arena *arena) {
  return &arena->account->ledger->cells[arena->account->liveness.tasks.cell];
}

bool forkq__arena_open(struct forkq__arena *arena, const struct forkq__account *account,
                       bool first, uint64_t floor) {
  if (arena->memory != NULL || arena->unusable)
    return !arena->unusable;
  arena->account = account;
  arena->begin = forkq__arena_begin(FORKQ__LOAD(account->cell));
  arena->floor = floor;
  arena->unusable = !open(arena);
  if (!arena->unusable && first) {
    FORKQ__STORE(own_cell(arena)->arena, account->liveness.tasks.owner);
    arena->taken_over = true;
  }
  return !arena->unusable;
}

/* If the process was taken for dead, its cell may have another owner. */
static bool is_ours(const struct forkq__arena *arena) {
  const struct forkq__tasks *tasks = &arena->account->liveness.tasks;
  return forkq__ledger_owns(arena->account->ledger, tasks->cell, tasks->owner) &&
         forkq__liveness_has_memory(&arena->account->liveness);
}

/* Ends all loans. Returns whether a thread may still write to one. */
static bool end_loans(struct forkq__arena *arena) {
  bool written_to = false;
  struct forkq__loan *loan;
  while ((loan = TAILQ_FIRST(&arena->loans)) != NULL) {
    TAILQ_REMOVE(&arena->loans, loan, entry);
    if (atomic_exchange(&loan->state, CLOSED) == DROPPED)
      forkq__free(loan);
    else
      written_to = true;
  }
  return written_to;
}

static void free_loans(struct forkq__arena *arena) {
  struct forkq__loan *loan;
  while ((loan = TAILQ_FIRST(&arena->loans)) != NULL) {
    TAILQ_REMOVE(&arena->loans, loan, entry);
    forkq__free(loan);
  }
}

/* A fork may come in between. */
static void unmap(struct forkq__arena *arena) {
  uint8_t *memory = arena->memory;
  arena->memory = NULL;
  if (memory != NULL)
    forkq__os_memory_unmap(memory, mapped_size(arena));
}

/* Everything but its memory, if that is still mapped. */
static void forget_all(struct forkq__arena *arena) {
  uint8_t *memory = arena->memory;
  uint32_t leaves = arena->leaves;
  forkq__free(arena->used);
  forkq__arena_init(arena, arena->limit);
  arena->memory = memory;
  arena->leaves = leaves;
  arena->unusable = true;
}

static void release_chunks(struct forkq__arena *arena, uint32_t from, uint32_t count) {
  forkq__os_memory_release(arena->account->liveness.memory_fd,
                           arena->begin + (int64_t)from * FORKQ__ARENA_CHUNK,
                           (int64_t)count * FORKQ__ARENA_CHUNK);
  set_bits(arena->backed, from, count, false);
}

/* So many messages more than the last time go through the pipe before the next try. */
static void back_off(struct forkq__arena *arena) {
  arena->skip = arena->skipped < SKIPS_MAX / 2 ? 2 * arena->skipped + 1 : SKIPS_MAX;
  arena->skipped = arena->skip;
}

/* A reader that sweeps the arena, or has died there, has it. The next one that finds nothing to read
 * makes it free again. A reader that holds a piece of the last owner's keeps it, too. */
void forkq__arena_take_over(struct forkq__arena *arena) {
  struct forkq__cell *cell = own_cell(arena);
  if (arena->skip > 0) {
    arena->skip--;
    return;
  }
  if (forkq__holds_living(arena->account, FORKQ__LOAD(arena->account->cell))) {
    back_off(arena);
    return;
  }
  arena->skipped = 0;
  /* model: arena_look */
  uint32_t of = FORKQ__LOAD(cell->arena);
  if (!is_ours(arena) || of == FORKQ__SWEPT || of == FORKQ__LOST ||
      /* model: arena_mine */
      !atomic_compare_exchange_strong(&cell->arena, &of,
                                      arena->account->liveness.tasks.owner))
    return;
  release_chunks(arena, 0, FORKQ__ARENA_CHUNKS);
  arena->taken_over = true;
}

static bool has_piece(const struct forkq__arena *arena, uint32_t chunk) {
  uint32_t leaves = FORKQ__ARENA_CHUNK / FORKQ__ARENA_LEAF, from = chunk * leaves;
  return next_bit(arena->used, from, from + leaves, true) < from + leaves;
}

/* Gives back the chunks from `from` on that have memory and no piece. */
static void release_free(struct forkq__arena *arena, uint32_t from) {
  uint32_t end = arena->leaves / (FORKQ__ARENA_CHUNK / FORKQ__ARENA_LEAF);
  while ((from = next_bit(arena->backed, from, end, true)) < end) {
    uint32_t stop = from;
    while (stop < end && next_bit(arena->backed, stop, stop + 1, true) == stop &&
           !has_piece(arena, stop))
      stop++;
    if (stop > from)
      release_chunks(arena, from, stop - from);
    from = stop + 1;
  }
}

/* With the cell. Nobody uses the arena any more if threads of this process may go on writing to it. */
static void leave_cell(struct forkq__arena *arena, bool lost) {
  if (!is_ours(arena) || !arena->taken_over)
    return;
  release_free(arena, 0);
  if (lost)
    FORKQ__STORE(own_cell(arena)->arena, FORKQ__LOST);
  else if (next_bit(arena->backed, 0, FORKQ__ARENA_CHUNKS, true) == FORKQ__ARENA_CHUNKS)
    FORKQ__STORE(own_cell(arena)->arena, 0);
}

/* A thread that packs a piece goes on in memory that no other process sees: it could otherwise write
 * into what the next owner of the cell has packed. */
void forkq__arena_close(struct forkq__arena *arena) {
  if (!forkq__arena_is_open(arena))
    return;
  bool written_to = end_loans(arena);
  bool lost =
      written_to && forkq__os_memory_forget(arena->memory, mapped_size(arena)) < 0;
  leave_cell(arena, lost);
  if (!written_to)
    unmap(arena);
  forget_all(arena);
}

void forkq__arena_fini(struct forkq__arena *arena) {
  forkq__arena_close(arena);
  unmap(arena);
}

/* The loans were those of threads that do not exist in the child: the calling thread has left its own
 * (queue_life.c). */
void forkq__arena_forked(struct forkq__arena *arena, bool sound) {
  unmap(arena);
  if (sound)
    free_loans(arena);
  else
    arena->used = NULL;
  forget_all(arena);
  arena->unusable = false;
}

/* ---- pieces -------------------------------------------------------------------------------- */

static uint32_t leaves_of(uint32_t size) {
  return (size + FORKQ__ARENA_LEAF - 1) / FORKQ__ARENA_LEAF;
}

/* The first free leaves from `begin` on, `count` in a row and before `end`; or NO_LEAF. */
static uint32_t find_from(const struct forkq__arena *arena, uint32_t begin, uint32_t end,
                          uint32_t count) {
  for (;;) {
    begin = next_bit(arena->used, begin, end, false);
    if (count > end - begin)
      return NO_LEAF;
    uint32_t stop = next_bit(arena->used, begin, begin + count, true);
    if (stop == begin + count)
      return begin;
    begin = stop;
  }
}

/* Where the next piece of so many leaves is to lie, in its round or else at the lowest place; or NO_LEAF. */
static uint32_t find(const struct forkq__arena *arena, uint32_t count) {
  uint32_t round = FORKQ__ARENA_ROUND / FORKQ__ARENA_LEAF;
  if (count > arena->free || (arena->too_many > 0 && count >= arena->too_many))
    return NO_LEAF;
  if (round > arena->leaves)
    round = arena->leaves;
  uint32_t from = find_from(arena, arena->next, round, count);
  return from != NO_LEAF ? from : find_from(arena, arena->lowest, arena->leaves, count);
}

/* Makes sure that the chunks have memory. */
static bool back(struct forkq__arena *arena, uint32_t from, uint32_t end) {
  while ((from = next_bit(arena->backed, from, end, false)) < end) {
    uint32_t stop = next_bit(arena->backed, from, end, true);
    int64_t offset = arena->begin + (int64_t)from * FORKQ__ARENA_CHUNK;
    size_t size = (size_t)(stop - from) * FORKQ__ARENA_CHUNK;
    if (!is_ours(arena))
      return false;
    if (forkq__os_memory_back(arena->account->liveness.memory_fd, offset, size) < 0) {
      release_chunks(arena, from, stop - from); /* some of it may be there */
      back_off(arena);
      return false;
    }
    arena->skipped = 0;
    set_bits(arena->backed, from, stop - from, true);
    from = stop;
  }
  return true;
}

static void trim_above_need(struct forkq__arena *arena) {
  if (is_ours(arena))
    release_free(arena, arena->high_chunk);
  arena->high_chunk = 0;
  arena->reserved = 0;
}

static void note_reserved(struct forkq__arena *arena, uint32_t end_chunk, uint32_t size) {
  if (arena->high_chunk < end_chunk)
    arena->high_chunk = end_chunk;
  arena->reserved += size;
  if (arena->reserved >= TRIM_PERIOD)
    trim_above_need(arena);
}

bool forkq__arena_reserve(struct forkq__arena *arena, uint32_t size,
                          struct forkq__reference *ret_piece) {
  uint32_t count = leaves_of(size);
  if (arena->skip > 0) {
    arena->skip--;
    return false;
  }
  uint32_t from = find(arena, count);
  if (from == NO_LEAF) {
    if (arena->too_many == 0 || count < arena->too_many)
      arena->too_many = count;
    return false;
  }
  uint32_t end = from * FORKQ__ARENA_LEAF + count * FORKQ__ARENA_LEAF;
  uint32_t end_chunk = (end + FORKQ__ARENA_CHUNK - 1) / FORKQ__ARENA_CHUNK;
  if (!back(arena, from * FORKQ__ARENA_LEAF / FORKQ__ARENA_CHUNK, end_chunk))
    return false;
  set_bits(arena->used, from, count, true);
  arena->free -= count;
  arena->lowest = next_bit(arena->used, arena->lowest, arena->leaves, false);
  arena->next = from + count;
  *ret_piece = (struct forkq__reference){ .at = from * FORKQ__ARENA_LEAF, .size = size };
  note_reserved(arena, end_chunk, size);
  return true;
}

static void release_leaves(struct forkq__arena *arena, uint32_t from, uint32_t count) {
  FORKQ__CHECK(next_bit(arena->used, from, from + count, false) == from + count);
  set_bits(arena->used, from, count, false);
  arena->free += count;
  arena->too_many = 0;
  if (from < arena->lowest)
    arena->lowest = from;
}

void forkq__arena_release(struct forkq__arena *arena, struct forkq__reference piece) {
  release_leaves(arena, piece.at / FORKQ__ARENA_LEAF, leaves_of(piece.size));
}

void forkq__arena_trim(struct forkq__arena *arena) {
  arena->next = 0;
  if (forkq__arena_is_open(arena) && is_ours(arena))
    release_free(arena, FORKQ__ARENA_KEPT / FORKQ__ARENA_CHUNK);
}

/* ---- loans --------------------------------------------------------------------------------- */

struct forkq__loan *forkq__arena_lend(struct forkq__arena *arena, uint32_t size) {
  struct forkq__loan *loan = forkq__malloc(sizeof *loan);
  if (loan == NULL)
    return NULL;
  if (!forkq__arena_reserve(arena, size, &loan->reference)) {
    forkq__free(loan);
    return NULL;
  }
  loan->memory = forkq__arena_at(arena, loan->reference);
  loan->ledger = arena->account->ledger;
  loan->cell = arena->account->liveness.tasks.cell;
  loan->owner = arena->account->liveness.tasks.owner;
  atomic_init(&loan->state, LENT);
  TAILQ_INSERT_TAIL(&arena->loans, loan, entry);
  return loan;
}

int forkq__loan_check(const struct forkq__loan *loan) {
  if (atomic_load(&loan->state) == CLOSED)
    return FORKQ_ECLOSED;
  return forkq__ledger_owns(loan->ledger, loan->cell, loan->owner) ? 0 : -EBADF;
}

bool forkq__arena_accept(struct forkq__arena *arena, struct forkq__loan *loan,
                         uint32_t size) {
  if (atomic_load(&loan->state) == CLOSED) {
    forkq__free(loan);
    return false;
  }
  TAILQ_REMOVE(&arena->loans, loan, entry);
  struct forkq__reference piece = loan->reference;
  uint32_t lent = leaves_of(piece.size), kept = leaves_of(size);
  uint32_t end = piece.at / FORKQ__ARENA_LEAF + kept;
  if (arena->next == end + (lent - kept))
    arena->next = end;
  if (kept < lent)
    release_leaves(arena, end, lent - kept);
  forkq__free(loan);
  return true;
}

void forkq__loan_drop(struct forkq__loan *loan) {
  if (atomic_exchange(&loan->state, DROPPED) == CLOSED)
    forkq__free(loan);
}

void forkq__arena_sweep(struct forkq__arena *arena) {
  struct forkq__loan *loan = TAILQ_FIRST(&arena->loans);
  while (loan != NULL) {
    struct forkq__loan *next = TAILQ_NEXT(loan, entry);
    if (atomic_load(&loan->state) == DROPPED) {
      TAILQ_REMOVE(&arena->loans, loan, entry);
      forkq__arena_release(arena, loan->reference);
      forkq__free(loan);
    }
    loan = next;
  }
}
