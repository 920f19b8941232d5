/* The table of kept tasks. A word of it:
 *
 *   bits 46 to 61   how often the task was given to a process, as far as these bits go
 *   bits 14 to 45   the number of the process, as owner of its cell
 *   bits 2 to 13    its cell
 *   bits 0 and 1    the state: see kept.h
 *
 * The word is stored last when a task comes, and first when it goes. So a death leaves the task there or
 * not, and at most memory that the next one in this entry uses. */
#include "shared/kept.h"

#include "base/log.h"
#include "base/os.h"

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

#define PAGES_SIZE ((size_t)FORKQ__KEPT_MAX * FORKQ__KEPT_SMALL)

/* The number may be another file's by now. */
static bool is_ours(const struct forkq__account *account) {
  return forkq__os_is_file(account->liveness.memory_fd, account->liveness.identity);
}

int forkq__kept_map(struct forkq__account *account) {
  void *memory;
  int r = forkq__os_memory_map(account->liveness.memory_fd, FORKQ__KEPT_BEGIN, PAGES_SIZE,
                               &memory);
  if (r < 0)
    return r;
  forkq__os_memory_omit(memory, PAGES_SIZE);
  account->kept_pages = memory;
  return 0;
}

void forkq__kept_unmap(struct forkq__account *account) {
  if (account->kept_pages != NULL)
    forkq__os_memory_unmap(account->kept_pages, PAGES_SIZE);
  account->kept_pages = NULL;
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

static int write_small(const struct forkq__account *account, uint32_t task,
                       const void *data, uint32_t size) {
  struct forkq__kept *kept = entry(account->ledger, task);
  if (FORKQ__LOAD(kept->large) != 0)
    forkq__kept_release(account, task); /* its last reader was killed */
  if (FORKQ__LOAD(kept->backed) == 0) {
    int r = is_ours(account) ? forkq__os_memory_back(account->liveness.memory_fd,
                                                     small_begin(task), FORKQ__KEPT_SMALL)
                             : -EBADF;
    if (r < 0)
      return r;
    FORKQ__STORE(kept->backed, 1);
  }
  memcpy(account->kept_pages + (size_t)task * FORKQ__KEPT_SMALL, data, size);
  return 0;
}

static int write_large(const struct forkq__account *account, uint32_t task,
                       const void *data, uint32_t size) {
  if (!is_ours(account))
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
  int r = size <= FORKQ__KEPT_SMALL ? write_small(account, task, data, size)
                                    : write_large(account, task, data, size);
  if (r < 0)
    return r;
  struct forkq__kept *kept = entry(ledger, task);
  FORKQ__STORE(kept->size, size);
  FORKQ__STORE(kept->number, next_number(ledger));
  FORKQ__STORE(kept->word, own_word(&account->liveness.tasks, PREPARED, 1));
  *ret_task = task;
  return 0;
}

void forkq__kept_take(struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  FORKQ__STORE(kept->word, with_state(FORKQ__LOAD(kept->word), KEPT));
}

void forkq__kept_repair(struct forkq__ledger *ledger, bool took) {
  for (uint32_t i = 0; i < used(ledger); i++) {
    uint64_t word = FORKQ__LOAD(entry(ledger, i)->word);
    if (state_of(word) == PREPARED)
      FORKQ__STORE(entry(ledger, i)->word, took ? with_state(word, KEPT) : 0);
  }
  /* The reader may have been looking. */
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
 * what is copied is bounded by what is asked for as well. */
int forkq__kept_read(const struct forkq__account *account, uint32_t task, void *data,
                     uint32_t size) {
  if (size <= FORKQ__KEPT_SMALL &&
      forkq__kept_size(account->ledger, task) <= FORKQ__KEPT_SMALL) {
    memcpy(data, account->kept_pages + (size_t)task * FORKQ__KEPT_SMALL, size);
    return 0;
  }
  return is_ours(account) ? forkq__os_memory_read(account->liveness.memory_fd, data, size,
                                                  large_begin(task))
                          : -EBADF;
}

/* By its new number an item of a process that was taken for dead does not find it. */
void forkq__kept_hand_on(struct forkq__account *account, uint32_t task) {
  struct forkq__kept *kept = entry(account->ledger, task);
  uint32_t given = given_of(FORKQ__LOAD(kept->word));
  FORKQ__STORE(kept->number, next_number(account->ledger));
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
  if (FORKQ__LOAD(kept->large) == 0 || !is_ours(account))
    return;
  forkq__os_memory_release(account->liveness.memory_fd, large_begin(task),
                           FORKQ_KEPT_MESSAGE_MAX);
  FORKQ__STORE(kept->large, 0);
}

uint64_t forkq__kept_number(struct forkq__ledger *ledger, uint32_t task) {
  return FORKQ__LOAD(entry(ledger, task)->number);
}

/* A word that says "kept" changes only with the lock that the caller has. */
void forkq__kept_clear(struct forkq__ledger *ledger, uint32_t task, uint64_t number) {
  struct forkq__kept *kept = entry(ledger, task);
  if (state_of(FORKQ__LOAD(kept->word)) == KEPT && FORKQ__LOAD(kept->number) == number)
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
    atomic_store(&entry(ledger, i)->word, with_state(word, LOST));
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
