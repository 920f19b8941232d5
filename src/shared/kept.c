/* The table of kept tasks. A word of it:
 *
 *   bits 46 to 61   how often the task was given to a process, as far as these bits go
 *   bits 14 to 45   the number of the process, as owner of its cell
 *   bits 2 to 13    its cell
 *   bits 0 and 1    the state: see kept.h
 *
 * The word is stored last when a task comes, and first when it goes. So a death leaves the task there or
 * not, and at most memory that the next one in this entry uses.
 *
 * Reserving memory, making it appear in a process, and giving it back cost more than copying a medium message.
 * So the rooms for these are mapped all the time, and keep their memory from task to task. A getter that
 * sleeps gives it back when no such message was kept for a second; a process that closes does at once. */
#include "shared/kept.h"

#include "base/log.h"
#include "base/os.h"
#include "base/times.h"

#include <errno.h>
#include <string.h>

enum { FREE, PREPARED, KEPT, LOST };

#define STATE_BITS 2
#define CELL_BITS 12
#define OWNER_BITS 32
#define GIVEN_MAX UINT16_MAX
_Static_assert(FORKQ__CELLS_MAX == 1 << CELL_BITS, "a cell has its bits");

/* A handle: the number, and the entry in the lowest bits. */
#define ENTRY_BITS 13
_Static_assert(FORKQ__KEPT_MAX <= 1 << ENTRY_BITS, "an entry has its bits");

static unsigned state_of(uint64_t word) {
  return (unsigned)(word & ((1u << STATE_BITS) - 1));
}

static uint32_t cell_of(uint64_t word) {
  return (uint32_t)(word >> STATE_BITS) & ((1u << CELL_BITS) - 1);
}

static uint32_t given_of(uint64_t word) {
  return (uint32_t)(word >> (STATE_BITS + CELL_BITS + OWNER_BITS)) & GIVEN_MAX;
}

static uint64_t with_state(uint64_t word, unsigned state) {
  return (word & ~(uint64_t)((1u << STATE_BITS) - 1)) | state;
}

/* The word of a task that this process has. */
static uint64_t own_word(const struct forkq__tasks *owner, unsigned state,
                         uint32_t given) {
  uint64_t word = given < GIVEN_MAX ? given : GIVEN_MAX;
  word = word << OWNER_BITS | owner->owner;
  word = word << CELL_BITS | owner->cell;
  return word << STATE_BITS | state;
}

static struct forkq__kept *entry(struct forkq__ledger *ledger, uint32_t task) {
  return &ledger->kept.tasks[task];
}

static uint32_t used(struct forkq__ledger *ledger) {
  uint32_t count = FORKQ__LOAD(ledger->kept.used);
  return count < FORKQ__KEPT_MAX ? count : FORKQ__KEPT_MAX;
}

static int64_t small_begin(uint32_t task) {
  return FORKQ__KEPT_BEGIN + (int64_t)task * FORKQ__KEPT_SMALL;
}

static int64_t large_begin(uint32_t task) {
  return FORKQ__KEPT_LARGE_BEGIN + (int64_t)task * FORKQ_KEPT_MESSAGE_MAX;
}

static int64_t medium_begin(uint32_t task) {
  return FORKQ__KEPT_MEDIUM_BEGIN + (int64_t)task * FORKQ__KEPT_MEDIUM;
}

#define PAGES_SIZE ((size_t)FORKQ__KEPT_MAX * FORKQ__KEPT_SMALL)
#define MAPPED_SIZE (PAGES_SIZE + (size_t)FORKQ__KEPT_MEDIUMS * FORKQ__KEPT_MEDIUM)

static bool is_medium(uint32_t task, uint32_t size) {
  return size > FORKQ__KEPT_SMALL && size <= FORKQ__KEPT_MEDIUM &&
         task < FORKQ__KEPT_MEDIUMS;
}

/* Where a message of that size lies, or NULL: where there is room for a large one. */
static uint8_t *mapped(const struct forkq__account *account, uint32_t task,
                       uint32_t size) {
  if (size <= FORKQ__KEPT_SMALL)
    return account->kept_memory + (size_t)task * FORKQ__KEPT_SMALL;
  return is_medium(task, size)
             ? account->kept_memory + PAGES_SIZE + (size_t)task * FORKQ__KEPT_MEDIUM
             : NULL;
}

int forkq__kept_map(struct forkq__account *account) {
  void *memory;
  int r = forkq__os_memory_map(account->liveness.memory_fd, FORKQ__KEPT_BEGIN,
                               MAPPED_SIZE, &memory);
  if (r < 0)
    return r;
  forkq__os_memory_omit(memory, MAPPED_SIZE);
  account->kept_memory = memory;
  return 0;
}

void forkq__kept_unmap(struct forkq__account *account) {
  if (account->kept_memory != NULL)
    forkq__os_memory_unmap(account->kept_memory, MAPPED_SIZE);
  account->kept_memory = NULL;
}

static uint64_t count_own(struct forkq__account *account) {
  return forkq__ledger_at_work_on(forkq__account_cell(account));
}

int forkq__kept_check(struct forkq__account *account) {
  return count_own(account) < FORKQ_KEPT_TASKS_MAX ? 0 : FORKQ_EUNDONE;
}

/* ---- a task comes ---------------------------------------------------------------------------- */

/* The lowest free entry, so that a few are used again and again. `common`: of those for everybody. */
static uint32_t free_entry(struct forkq__ledger *ledger, bool common) {
  uint32_t count = used(ledger), end = common ? FORKQ__KEPT_COMMON : FORKQ__KEPT_MAX;
  for (uint32_t i = 0; i < count && i < end; i++)
    if (FORKQ__LOAD(entry(ledger, i)->word) == 0)
      return i;
  if (count >= end)
    return FORKQ__NO_TASK;
  FORKQ__STORE(ledger->kept.used, count + 1);
  return count;
}

/* Of lost tasks that nobody asks for, the oldest. */
static uint32_t forget_one(const struct forkq__account *account) {
  uint32_t task = forkq__redelivers(account->ledger)
                      ? FORKQ__NO_TASK
                      : forkq__kept_next_lost(account->ledger);
  if (task == FORKQ__NO_TASK)
    return task;
  forkq__log(FORKQ_LOG_WARNING, account->ledger->name,
             "forgot a task of a process that ended, for which nobody asked");
  forkq__kept_drop(account, task);
  return task;
}

static int reserve(const struct forkq__account *account, int64_t begin, size_t size) {
  return forkq__liveness_has_memory(&account->liveness)
             ? forkq__os_memory_back(account->liveness.memory_fd, begin, size)
             : -EBADF;
}

static int reserve_small(const struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  if (FORKQ__LOAD(kept->backed) != 0)
    return 0;
  int r = reserve(account, small_begin(task), FORKQ__KEPT_SMALL);
  if (r == 0)
    FORKQ__STORE(kept->backed, 1);
  return r;
}

/* `warm` before, so that somebody looks for it whatever becomes of this process. */
static int reserve_medium(const struct forkq__account *account, uint32_t task,
                          uint32_t size) {
  struct forkq__kept_shared *shared = &account->ledger->kept;
  struct forkq__kept *kept = entry(account->ledger, task);
  FORKQ__STORE(shared->used_at, forkq__os_now());
  if (FORKQ__LOAD(kept->medium) >= size)
    return 0;
  FORKQ__STORE(shared->warm, 1);
  uint32_t pages = (size + FORKQ__KEPT_SMALL - 1) / FORKQ__KEPT_SMALL * FORKQ__KEPT_SMALL;
  /* model: kept_reserve */
  int r = reserve(account, medium_begin(task), pages);
  if (r == 0)
    /* model: kept_reserved */
    FORKQ__STORE(kept->medium, pages);
  return r;
}

static int write_mapped(const struct forkq__account *account, uint32_t task, uint8_t *to,
                        const void *data, uint32_t size) {
  if (FORKQ__LOAD(entry(account->ledger, task)->large) != 0)
    forkq__kept_release(account, task); /* its last reader was killed */
  int r = size <= FORKQ__KEPT_SMALL ? reserve_small(account, task)
                                    : reserve_medium(account, task, size);
  if (r == 0)
    /* model: kept_bytes */
    memcpy(to, data, size);
  return r;
}

static int write_large(const struct forkq__account *account, uint32_t task,
                       const void *data, uint32_t size) {
  if (!forkq__liveness_has_memory(&account->liveness))
    return -EBADF;
  FORKQ__STORE(entry(account->ledger, task)->large, size);
  int r =
      forkq__os_memory_write(account->liveness.memory_fd, data, size, large_begin(task));
  if (r < 0)
    forkq__kept_release(account, task);
  return r;
}

static uint64_t next_number(struct forkq__ledger *ledger) {
  uint64_t number = FORKQ__LOAD(ledger->kept.numbers) + 1;
  FORKQ__STORE(ledger->kept.numbers, number);
  return number;
}

int forkq__kept_prepare(struct forkq__account *account, const void *data, uint32_t size,
                        uint32_t *ret_task) {
  struct forkq__ledger *ledger = account->ledger;
  uint64_t has = count_own(account);
  if (has >= FORKQ_KEPT_TASKS_MAX)
    return FORKQ_EUNDONE;
  uint32_t task = free_entry(ledger, has > 0);
  if (task == FORKQ__NO_TASK)
    task = forget_one(account);
  if (task == FORKQ__NO_TASK)
    return FORKQ_EUNDONE;
  uint8_t *to = mapped(account, task, size);
  int r = to != NULL ? write_mapped(account, task, to, data, size)
                     : write_large(account, task, data, size);
  if (r < 0)
    return r;
  struct forkq__kept *kept = entry(ledger, task);
  FORKQ__STORE(kept->size, size);
  /* model: kept_number */
  FORKQ__STORE(kept->number, next_number(ledger));
  /* model: kept_prepared */
  FORKQ__STORE(kept->word, own_word(&account->liveness.tasks, PREPARED, 1));
  *ret_task = task;
  return 0;
}

void forkq__kept_take(struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  /* model: kept_taken */
  FORKQ__STORE(kept->word, with_state(FORKQ__LOAD(kept->word), KEPT));
}

void forkq__kept_repair(struct forkq__ledger *ledger, bool took) {
  for (uint32_t i = 0; i < used(ledger); i++) {
    uint64_t word = FORKQ__LOAD(entry(ledger, i)->word);
    if (state_of(word) == PREPARED)
      /* model: repair_kept */
      FORKQ__STORE(entry(ledger, i)->word, took ? with_state(word, KEPT) : 0);
  }
  /* The reader may have been looking. */
  /* model: repair_kept_look */
  atomic_store(&ledger->kept.look, 1);
}

/* ---- a task that is kept, or lost --------------------------------------------------------------- */

/* The oldest whose word is `wanted`, but for the bits that are not in `mask`. The words are read in the one
 * order for all: see forkq__kept_lose. */
static uint32_t oldest(struct forkq__ledger *ledger, uint64_t wanted, uint64_t mask) {
  uint32_t found = FORKQ__NO_TASK, count = used(ledger);
  uint64_t least = UINT64_MAX;
  for (uint32_t i = 0; i < count; i++) {
    struct forkq__kept *kept = entry(ledger, i);
    if ((atomic_load(&kept->word) & mask) != wanted)
      continue;
    /* After the word, as it may be of a task that has just come. */
    uint64_t number = FORKQ__LOAD(kept->number);
    if (number < least) {
      least = number;
      found = i;
    }
  }
  return found;
}

#define STATE_MASK ((UINT64_C(1) << STATE_BITS) - 1)
#define OWNER_MASK ((UINT64_C(1) << (STATE_BITS + CELL_BITS + OWNER_BITS)) - 1)

uint32_t forkq__kept_next_lost(struct forkq__ledger *ledger) {
  return oldest(ledger, LOST, STATE_MASK);
}

uint32_t forkq__kept_first_of(struct forkq__ledger *ledger,
                              const struct forkq__tasks *tasks) {
  return tasks->cell == FORKQ__NO_CELL
             ? FORKQ__NO_TASK
             : oldest(ledger, own_word(tasks, KEPT, 0), OWNER_MASK);
}

bool forkq__kept_is_lost(struct forkq__ledger *ledger, uint32_t task) {
  return task < FORKQ__KEPT_MAX &&
         state_of(FORKQ__LOAD(entry(ledger, task)->word)) == LOST;
}

uint32_t forkq__kept_size(struct forkq__ledger *ledger, uint32_t task) {
  return FORKQ__LOAD(entry(ledger, task)->size);
}

/* The caller has read the size of the task, too, and it may be another by now where the memory is damaged. So
 * no more is copied from a place than lies there. */
int forkq__kept_read(const struct forkq__account *account, uint32_t task, void *data,
                     uint32_t size) {
  uint32_t whole = forkq__kept_size(account->ledger, task);
  const uint8_t *from = size <= whole ? mapped(account, task, whole) : NULL;
  if (from != NULL) {
    memcpy(data, from, size);
    return 0;
  }
  return forkq__liveness_has_memory(&account->liveness)
             ? forkq__os_memory_read(account->liveness.memory_fd, data, size,
                                     large_begin(task))
             : -EBADF;
}

/* By its new number an item of a process that was taken for dead does not find it. */
void forkq__kept_hand_on(struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  uint32_t given = given_of(FORKQ__LOAD(kept->word));
  /* model: hand_on_number */
  FORKQ__STORE(kept->number, next_number(account->ledger));
  /* model: hand_on_word */
  FORKQ__STORE(kept->word, own_word(&account->liveness.tasks, KEPT, given + 1));
}

uint64_t forkq__kept_handle(struct forkq__ledger *ledger, uint32_t task) {
  return FORKQ__LOAD(entry(ledger, task)->number) << ENTRY_BITS | task;
}

uint32_t forkq__kept_given(struct forkq__ledger *ledger, uint32_t task) {
  return given_of(FORKQ__LOAD(entry(ledger, task)->word));
}

uint32_t forkq__kept_find(struct forkq__ledger *ledger, uint64_t handle) {
  uint32_t task = (uint32_t)handle & ((1u << ENTRY_BITS) - 1);
  if (handle == 0 || task >= used(ledger))
    return FORKQ__NO_TASK;
  bool same = state_of(FORKQ__LOAD(entry(ledger, task)->word)) == KEPT &&
              forkq__kept_handle(ledger, task) == handle;
  return same ? task : FORKQ__NO_TASK;
}

uint32_t forkq__kept_cell_of(struct forkq__ledger *ledger, uint32_t task) {
  return cell_of(FORKQ__LOAD(entry(ledger, task)->word));
}

/* ---- a task goes ---------------------------------------------------------------------------------- */

void forkq__kept_release(const struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  if (FORKQ__LOAD(kept->large) == 0 || !forkq__liveness_has_memory(&account->liveness))
    return;
  forkq__os_memory_release(account->liveness.memory_fd, large_begin(task),
                           FORKQ_KEPT_MESSAGE_MAX);
  FORKQ__STORE(kept->large, 0);
}

bool forkq__kept_idle(const struct forkq__ledger *ledger) {
  return forkq__kept_warm(ledger) &&
         forkq__os_now() - FORKQ__LOAD(ledger->kept.used_at) >=
             FORKQ__KEPT_IDLE_MS * FORKQ__NS_PER_MS;
}

/* The first entry from `task` on that is free, or is not, of those below `end`; else `end`. */
static uint32_t next_medium(struct forkq__ledger *ledger, uint32_t task, uint32_t end,
                            bool free) {
  while (task < end && (FORKQ__LOAD(entry(ledger, task)->word) == 0) != free)
    task++;
  return task;
}

/* Until their memory is given back, they say that they have none: who dies here leaves memory for which
 * nothing speaks but `warm`. So a room is given back whatever its entry says. */
static void release_mediums(const struct forkq__account *account, uint32_t begin,
                            uint32_t end) {
  for (uint32_t i = begin; i < end; i++)
    /* model: trim_says */
    FORKQ__STORE(entry(account->ledger, i)->medium, 0);
  if (begin < end)
    /* model: trim_release */
    forkq__os_memory_release(account->liveness.memory_fd, medium_begin(begin),
                             medium_begin(end) - medium_begin(begin));
}

/* A free entry stays free as long as the caller has the lock. */
void forkq__kept_trim(const struct forkq__account *account) {
  struct forkq__ledger *ledger = account->ledger;
  uint32_t end = used(ledger) < FORKQ__KEPT_MEDIUMS ? used(ledger) : FORKQ__KEPT_MEDIUMS;
  uint32_t left = 0;
  if (!forkq__liveness_has_memory(&account->liveness))
    return;
  for (uint32_t i = 0; i < end;) {
    uint32_t busy = next_medium(ledger, i, end, false);
    release_mediums(account, i, busy);
    i = next_medium(ledger, busy, end, true);
    for (uint32_t j = busy; j < i; j++)
      left |= FORKQ__LOAD(entry(ledger, j)->medium);
  }
  FORKQ__STORE(ledger->kept.warm, left != 0);
}

uint64_t forkq__kept_number(struct forkq__ledger *ledger, uint32_t task) {
  return FORKQ__LOAD(entry(ledger, task)->number);
}

/* A word that says "kept" changes only with the lock that the caller has. */
void forkq__kept_clear(struct forkq__ledger *ledger, uint32_t task, uint64_t number) {
  struct forkq__kept *kept = entry(ledger, task);
  if (state_of(FORKQ__LOAD(kept->word)) == KEPT && FORKQ__LOAD(kept->number) == number)
    /* model: finish_clear */
    FORKQ__STORE(kept->word, 0);
}

/* The next owner of the entry may not write before the memory is given back; and without its memory the
 * task may not be found. So it is as one that was never taken meanwhile. */
void forkq__kept_drop(const struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  FORKQ__STORE(kept->word, with_state(FORKQ__LOAD(kept->word), PREPARED));
  forkq__kept_release(account, task);
  FORKQ__STORE(kept->word, 0);
}

/* Also of an owner of the cell that was taken for dead, and did not know. */
void forkq__kept_lose(struct forkq__ledger *ledger, uint32_t cell) {
  uint32_t lost = 0;
  for (uint32_t i = 0; i < used(ledger); i++) {
    uint64_t word = FORKQ__LOAD(entry(ledger, i)->word);
    if (state_of(word) != KEPT || cell_of(word) != cell)
      continue;
    /* A reader clears `look`, and then looks at the words. */
    /* model: lose_word */
    atomic_store(&entry(ledger, i)->word, with_state(word, LOST));
    /* model: lose_look */
    atomic_store(&ledger->kept.look, 1);
    lost++;
  }
  if (lost > 0)
    forkq__log(FORKQ_LOG_WARNING, ledger->name,
               forkq__redelivers(ledger)
                   ? "%u tasks of a process that ended are to be got again"
                   : "%u tasks of a process that ended are lost",
               lost);
}

uint64_t forkq__kept_lost(struct forkq__ledger *ledger) {
  uint64_t lost = 0;
  for (uint32_t i = 0; i < used(ledger); i++)
    lost += state_of(FORKQ__LOAD(entry(ledger, i)->word)) == LOST;
  return lost;
}
