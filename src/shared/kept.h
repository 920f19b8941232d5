/* Kept tasks: what processes got and have not done, with the bytes, so that it outlives them.
 *
 * There is one table for all processes. An entry says whose the task is. So a task goes from a dead
 * process to the next one by one store, and nothing is copied; and the cell of the dead is free at once.
 * The bytes of an entry have their place in the segment's file: a page; or room for a medium message,
 * which the first entries have, and whose memory stays for the next task; or room for a large one.
 *
 *   0           free
 *   prepared    a reader is about to take the task, or to drop it; only that reader, or the repair
 *               after its death, sees it
 *   kept        its process, and children that may do its tasks, can say that it is done
 *   lost        no process lives that may do it
 *
 * The state says which lock is needed to change it: the read lock, or for a kept one the ledger's lock.
 * A process has at most FORKQ_KEPT_TASKS_MAX. One that has none always finds a free entry: the last
 * FORKQ__CELLS_MAX entries are for such processes only, and each of these has at most one of them. */
#ifndef FORKQ_KEPT_H
#define FORKQ_KEPT_H

#include "shared/account.h"

/* Memory of medium messages that no task has stays for so long. */
#define FORKQ__KEPT_IDLE_MS 1000

static inline bool forkq__keeps_tasks(const struct forkq__ledger *ledger) {
  return ledger->lost_tasks != FORKQ_LOST_TASKS_COUNT;
}

static inline bool forkq__redelivers(const struct forkq__ledger *ledger) {
  return ledger->lost_tasks == FORKQ_LOST_TASKS_REDELIVER;
}

/* Maps the pages of the entries, and the rooms for medium messages, when the queue is opened: 0 or a negative errno; and unmaps them. */
int forkq__kept_map(struct forkq__account *account);
void forkq__kept_unmap(struct forkq__account *account);

/* Whether this process may have one more task: 0 or FORKQ_EUNDONE. Needs no lock. */
int forkq__kept_check(struct forkq__account *account);

/* ---- with the read lock ---------------------------------------------------------------------- */

/* Prepares an entry for a message of this process. Returns 0; FORKQ_EUNDONE: this process has too many,
 * or there is no room; or a negative errno: there is no memory. take: it is taken. */
int forkq__kept_prepare(struct forkq__account *account, const void *data, uint32_t size,
                        uint32_t *ret_task);
void forkq__kept_take(struct forkq__account *account, uint32_t task);

/* After the death of a reader, which took the task that it had prepared, or did not, or was to drop it. */
void forkq__kept_repair(struct forkq__ledger *ledger, bool took);

/* The lost task that was got before all other lost ones, or FORKQ__NO_TASK. Its size; its first `size`
 * bytes: 0 or a negative errno. hand_on: it is this process's. drop: it is nobody's. */
uint32_t forkq__kept_next_lost(struct forkq__ledger *ledger);
bool forkq__kept_is_lost(struct forkq__ledger *ledger, uint32_t task);
uint32_t forkq__kept_size(struct forkq__ledger *ledger, uint32_t task);
int forkq__kept_read(const struct forkq__account *account, uint32_t task, void *data,
                     uint32_t size);
void forkq__kept_hand_on(struct forkq__account *account, uint32_t task);
void forkq__kept_drop(const struct forkq__account *account, uint32_t task);

/* Of a task of this process: what an item keeps of it, by which it is found again; not 0. And how often
 * it was given to a process. */
uint64_t forkq__kept_handle(struct forkq__ledger *ledger, uint32_t task);
uint32_t forkq__kept_given(struct forkq__ledger *ledger, uint32_t task);

/* Gives back the memory of medium messages that no task has. */
void forkq__kept_trim(const struct forkq__account *account);

/* ---- with the ledger's lock ------------------------------------------------------------------ */

/* find: the kept task of a handle. first_of: the kept task that was got before the others of one owner
 * of a cell. Both: or FORKQ__NO_TASK. cell_of: in which it is booked. */
uint32_t forkq__kept_find(struct forkq__ledger *ledger, uint64_t handle);
uint32_t forkq__kept_first_of(struct forkq__ledger *ledger,
                              const struct forkq__tasks *tasks);
uint32_t forkq__kept_cell_of(struct forkq__ledger *ledger, uint32_t task);

/* clear: the entry is free, if the task in it still is the one with that number: after a death a reader may
 * already have put another one there. release: before, gives back the memory of a large message. */
uint64_t forkq__kept_number(struct forkq__ledger *ledger, uint32_t task);
void forkq__kept_release(const struct forkq__account *account, uint32_t task);
void forkq__kept_clear(struct forkq__ledger *ledger, uint32_t task, uint64_t number);

/* The kept tasks of a cell's process are lost. */
void forkq__kept_lose(struct forkq__ledger *ledger, uint32_t cell);

/* ---- without a lock -------------------------------------------------------------------------- */

/* How many are lost. */
uint64_t forkq__kept_lost(struct forkq__ledger *ledger);

/* Whether there may be memory of medium messages; and none was kept for FORKQ__KEPT_IDLE_MS. */
static inline bool forkq__kept_warm(const struct forkq__ledger *ledger) {
  return FORKQ__LOAD(ledger->kept.warm) != 0;
}
bool forkq__kept_idle(const struct forkq__ledger *ledger);

#endif
