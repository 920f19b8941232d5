/* Reaping: finding processes that died, and giving back what they held.
 *
 * A reaper takes the ledger lock and goes through the cells. For each dead process it finds
 * out whether the packet that it was writing got into the pipe, whether everything that it got
 * is counted, and whether a process may still do its tasks. Then the ledger settles the
 * account. Some answers need a lock of the pipe. Under the ledger lock the reaper only tries
 * these locks and never waits for them, because a large message may keep them, and every
 * process needs the ledger. Without an answer the cell stays DEAD, until a reaper comes that
 * has both locks of the pipe. */
#include "pipe/reap.h"

#include "base/os.h"
#include "base/times.h"

#include <errno.h>

static enum forkq__verdict last_packet(struct forkq__channel *channel, uint32_t index,
                                       bool has_pipe) {
  if (FORKQ__LOAD(channel->account.ledger->cells[index].pending_seq) == 0)
    return FORKQ__NOT_SENT;
  return has_pipe ? forkq__channel_verdict(channel, index)
                  : forkq__channel_try_verdict(channel, index);
}

/* `has_pipe`: the caller holds both locks of the pipe. Taking the read lock has settled what
 * the dead process got. */
static struct forkq__findings find_out(struct forkq__channel *channel, uint32_t index,
                                       bool has_pipe) {
  struct forkq__findings found;
  found.reads_settled = has_pipe || forkq__channel_settle_reads(channel);
  found.packet = last_packet(channel, index, has_pipe);
  found.tasks_live = forkq__account_tasks_live(&channel->account, index);
  return found;
}

/* `look`: also if its process holds nothing. */
static void reap_cell(struct forkq__channel *channel, uint32_t index, bool has_pipe,
                      bool look) {
  struct forkq__account *account = &channel->account;
  struct forkq__cell *cell = &account->ledger->cells[index];
  uint32_t state = FORKQ__LOAD(cell->state);
  if (state == FORKQ__CELL_TASKS) {
    atomic_store(&cell->state,
                 forkq__ledger_settle_tasks(account->ledger, index,
                                            forkq__account_tasks_live(account, index)));
    forkq__ledger_note_orphan(account->ledger, index);
  } else if (state != FORKQ__CELL_FREE && index != account->liveness.spared &&
             (look || forkq__ledger_has_account(cell)) &&
             !forkq__account_sees_alive(account, index))
    forkq__ledger_settle(account->ledger, index, find_out(channel, index, has_pipe));
}

/* Settles with all dead processes, or, without `all`, with those that may hold something, which saves the
 * system calls for each of the others. Of those that may have left nothing but memory it looks at one, in
 * turn. The caller holds the ledger lock. */
static void reap_locked(struct forkq__channel *channel, bool has_pipe, bool all) {
  struct forkq__ledger *ledger = channel->account.ledger;
  uint64_t number = FORKQ__LOAD(ledger->reaps_begun) + 1;
  FORKQ__STORE(ledger->reaps_begun, number);
  uint32_t cells = FORKQ__LOAD(ledger->cells_used);
  for (uint32_t i = 0; i < cells; i++) {
    bool turn = number % cells == i && FORKQ__LOAD(ledger->cells[i].arena) != 0;
    reap_cell(channel, i, has_pipe, all || turn);
  }
  FORKQ__STORE(ledger->reaps_ended, number);
}

static bool reap(struct forkq__channel *channel, bool has_pipe) {
  struct forkq__ledger *ledger = channel->account.ledger;
  /* Slots that the repair of the lock brings back count, too. */
  uint64_t before = FORKQ__LOAD(ledger->returned);
  uint64_t begun = FORKQ__LOAD(ledger->reaps_begun);
  if (forkq__ledger_lock(ledger) != 0)
    return false;
  /* A reap that has begun and ended since then has seen everything that this one would. */
  if (FORKQ__LOAD(ledger->reaps_ended) <= begun)
    reap_locked(channel, has_pipe, false);
  forkq__ledger_unlock(ledger);
  forkq__channel_tell_lost(channel);
  return FORKQ__LOAD(ledger->returned) != before;
}

/* Waits for the locks of the pipe. The owner of the ledger lock waits for neither, so they may
 * be taken before the ledger lock. */
static bool reap_in_doubt(struct forkq__channel *channel) {
  int64_t moment = forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS);
  bool found = false;
  if (forkq__channel_lock_write(channel, moment) != 0)
    return found;
  if (forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0) {
    found = reap(channel, true);
    forkq__channel_unlock_read(channel);
  }
  forkq__channel_unlock_write(channel);
  return found;
}

bool forkq__reap(struct forkq__channel *channel) {
  bool found = reap(channel, false);
  return (forkq__ledger_in_doubt(channel->account.ledger) && reap_in_doubt(channel)) ||
         found;
}

int forkq__reap_and_claim(struct forkq__channel *channel) {
  struct forkq__account *account = &channel->account;
  if (forkq__account_has_cell(account))
    return forkq__account_owns(account) ? 0 : -EBADF;
  int r = forkq__liveness_prepare(&account->liveness);
  if (r == 0)
    r = forkq__ledger_lock(account->ledger);
  if (r < 0)
    return r;
  reap_locked(channel, false, true);
  r = forkq__account_claim(account);
  forkq__ledger_unlock(account->ledger);
  forkq__channel_tell_lost(channel);
  return r;
}

static int take_over_locked(struct forkq__channel *channel,
                            const struct forkq__estate *estate,
                            void (*take_over)(void *arg, uint64_t count), void *arg) {
  struct forkq__account *account = &channel->account;
  struct forkq__ledger *ledger = account->ledger;
  uint32_t index = estate->cell;
  if (!forkq__ledger_is_open(ledger, estate))
    return FORKQ__NOTHING;
  if (forkq__account_sees_alive(account, index) ||
      !forkq__ledger_finish_write(&ledger->cells[index],
                                  last_packet(channel, index, false)))
    return FORKQ__BUSY;
  forkq__ledger_finish_take(ledger, index);
  uint64_t count = forkq__ledger_left_of(ledger, estate);
  if (count > 0) {
    /* The new slots are taken first: if this process dies in between, both the new and the old
     * ones are given back. */
    take_over(arg, count);
    forkq__ledger_hand_on(ledger, index, count);
  }
  forkq__ledger_settle(ledger, index, find_out(channel, index, false));
  return count > 0 ? 0 : FORKQ__NOTHING;
}

int forkq__reap_take_over(struct forkq__channel *channel,
                          const struct forkq__estate *estate,
                          void (*take_over)(void *arg, uint64_t count), void *arg) {
  struct forkq__ledger *ledger = channel->account.ledger;
  if (forkq__ledger_try_lock(ledger) != 0)
    return FORKQ__BUSY;
  int r = take_over_locked(channel, estate, take_over, arg);
  forkq__ledger_unlock(ledger);
  return r;
}
