/* Holds: one word each, in the cell of the piece's owner.
 *
 *   bits 32 to 63   the number of the holder, as owner of its cell: at least 1
 *   bits 18 to 29   the holder's cell
 *   bits 0 to 17    the place of the piece, in leaves
 *
 * One reader at a time begins a hold, because it has the read lock. Only the holder, and who finds the
 * holder gone, clear the word; and no other hold has the same value before that, as no other process is
 * ever the same owner of the same cell. */
#include "shared/hold.h"

#include "shared/arena.h"

#define LEAF_BITS 18
#define CELL_BITS 12
_Static_assert(FORKQ__ARENA_SIZE / FORKQ__ARENA_LEAF <= 1 << LEAF_BITS,
               "a leaf has its bits");
_Static_assert(FORKQ__CELLS_MAX == 1 << CELL_BITS,
               "a cell has its bits, and none are left over");

static uint64_t value_of(uint32_t holder, uint32_t owner, uint32_t leaf) {
  return (uint64_t)owner << 32 | (uint64_t)holder << LEAF_BITS | leaf;
}

static uint32_t at_of(uint64_t value) {
  return (uint32_t)(value & ((1u << LEAF_BITS) - 1)) * FORKQ__ARENA_LEAF;
}

static bool is_living(const struct forkq__account *account, uint64_t value) {
  uint32_t holder = (uint32_t)(value >> LEAF_BITS) & ((1u << CELL_BITS) - 1);
  return forkq__ledger_owns(account->ledger, holder, (uint32_t)(value >> 32)) &&
         forkq__account_sees_alive(account, holder);
}

static _Atomic uint64_t *free_word(struct forkq__cell *cell) {
  uint32_t used = FORKQ__LOAD(cell->holds_used);
  for (uint32_t i = 0; i < used && i < FORKQ__HOLDS; i++)
    if (FORKQ__LOAD(cell->holds[i]) == 0)
      return &cell->holds[i];
  if (used >= FORKQ__HOLDS)
    return NULL;
  FORKQ__STORE(cell->holds_used, used + 1);
  return &cell->holds[used];
}

bool forkq__hold_begin(struct forkq__account *account, uint32_t cell,
                       struct forkq__reference piece, struct forkq__hold *ret_hold) {
  _Atomic uint64_t *word = free_word(&account->ledger->cells[cell]);
  if (word == NULL || !forkq__account_owns(account))
    return false;
  ret_hold->word = word;
  ret_hold->value = value_of(FORKQ__LOAD(account->cell), account->liveness.tasks.owner,
                             piece.at / FORKQ__ARENA_LEAF);
  ret_hold->ledger = account->ledger;
  ret_hold->cell = cell;
  ret_hold->owner = FORKQ__LOAD(account->ledger->cells[cell].owners);
  /* model: hold_begin */
  FORKQ__STORE(*word, ret_hold->value);
  return true;
}

/* If the owner of the piece is gone, a reader that found the piece held may have left the memory. The
 * store of the owner's state, the look at it here, and the reader's look at the hold are sequentially
 * consistent: so the reader sees that it is not held any more, or this thread that the owner is gone. */
bool forkq__hold_end(struct forkq__hold *hold) {
  uint64_t value = hold->value;
  /* model: hold_end */
  bool mine = atomic_compare_exchange_strong(hold->word, &value, 0);
  if (!forkq__ledger_owns(hold->ledger, hold->cell, hold->owner))
    atomic_fetch_add(&hold->ledger->orphans, 1);
  return mine;
}

void forkq__holds_read(const struct forkq__cell *cell, struct forkq__held *ret_held) {
  uint32_t used = FORKQ__LOAD(cell->holds_used);
  ret_held->count = 0;
  for (uint32_t i = 0; i < used && i < FORKQ__HOLDS; i++) {
    /* model: holds_read */
    uint64_t value = FORKQ__LOAD(cell->holds[i]);
    if (value != 0)
      ret_held->at[ret_held->count++] = at_of(value);
  }
}

bool forkq__holds_living(const struct forkq__account *account, uint32_t cell) {
  struct forkq__cell *owned = &account->ledger->cells[cell];
  uint32_t used = FORKQ__LOAD(owned->holds_used);
  bool living = false;
  for (uint32_t i = 0; i < used && i < FORKQ__HOLDS; i++) {
    _Atomic uint64_t *word = &owned->holds[i];
    /* model: holds_living */
    uint64_t value = atomic_load(word);
    if (value == 0)
      continue;
    if (is_living(account, value))
      living = true;
    else
      (void)atomic_compare_exchange_strong(word, &value, 0);
  }
  return living;
}
