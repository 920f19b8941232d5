/* Reaping: finding processes that died, and giving back what they held.
 *
 * With the ledger's lock a reaper goes through the cells. Of each whose process is dead it finds out
 * three things: whether the packet that it was writing got into the pipe, whether what it had got is
 * counted, whether anybody may still do its tasks. Then the ledger settles the account. What cannot
 * be found out without one of the pipe's locks stays open, and the cell DEAD, until a reaper has
 * both. Under the ledger's lock these are only tried, never waited for: a large message may keep
 * them, and everybody needs the ledger. */
#include "pipe/reap.h"

#include "base/os.h"

#include <errno.h>

static enum forkq__verdict last_packet(struct forkq__channel *channel, uint32_t index,
                                       bool has_pipe) {
  if (FORKQ__LOAD(channel->account.ledger->cells[index].pending_seq) == 0)
    return FORKQ__NOT_SENT;
  return has_pipe ? forkq__channel_verdict(channel, index)
                  : forkq__channel_try_verdict(channel, index);
}

/* `has_pipe`: with both locks of the pipe; taking the read lock has settled what was got. */
static struct forkq__findings find_out(struct forkq__channel *channel, uint32_t index,
                                       bool has_pipe) {
  struct forkq__findings found;
  found.reads_settled = has_pipe || forkq__channel_try_settle_reads(channel);
  found.packet = last_packet(channel, index, has_pipe);
  found.tasks_live = forkq__account_tasks_live(&channel->account, index);
  return found;
}

static void reap_cell(struct forkq__channel *channel, uint32_t index, bool has_pipe,
                      bool all) {
  struct forkq__account *account = &channel->account;
  struct forkq__cell *cell = &account->ledger->cells[index];
  uint32_t state = FORKQ__LOAD(cell->state);
  if (state == FORKQ__CELL_TASKS)
    FORKQ__STORE(cell->state,
                 forkq__ledger_settle_tasks(account->ledger, index,
                                            forkq__account_tasks_live(account, index)));
  else if (state != FORKQ__CELL_FREE && index != account->liveness.spared &&
           (all || forkq__ledger_has_account(cell)) &&
           !forkq__account_sees_alive(account, index))
    forkq__ledger_settle(account->ledger, index, find_out(channel, index, has_pipe));
}

/* With the ledger's lock: settles with all the dead, or only with those who may hold something,
 * which saves the system calls for each of the others. */
static void reap_locked(struct forkq__channel *channel, bool has_pipe, bool all) {
  struct forkq__ledger *ledger = channel->account.ledger;
  uint64_t number = FORKQ__LOAD(ledger->reaps_begun) + 1;
  FORKQ__STORE(ledger->reaps_begun, number);
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    reap_cell(channel, i, has_pipe, all);
  FORKQ__STORE(ledger->reaps_ended, number);
}

static bool reap(struct forkq__channel *channel, bool has_pipe) {
  struct forkq__ledger *ledger = channel->account.ledger;
  /* What the repair of the lock brings back counts, too. */
  uint64_t before = FORKQ__LOAD(ledger->returned);
  uint64_t begun = FORKQ__LOAD(ledger->reaps_begun);
  if (forkq__ledger_lock(ledger) != 0)
    return false;
  /* One that has begun since then and has ended has seen all that this one would. */
  if (FORKQ__LOAD(ledger->reaps_ended) <= begun)
    reap_locked(channel, has_pipe, false);
  forkq__ledger_unlock(ledger);
  return FORKQ__LOAD(ledger->returned) != before;
}

/* Waits for the pipe's locks. Who has the ledger's waits for neither, so that lock may come
 * behind them as well as before. */
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
  if (account->cell != FORKQ__NO_CELL)
    return forkq__account_owns(account) ? 0 : -EBADF;
  int r = forkq__liveness_prepare(&account->liveness);
  if (r == 0)
    r = forkq__ledger_lock(account->ledger);
  if (r < 0)
    return r;
  reap_locked(channel, false, true);
  r = forkq__account_claim(account);
  forkq__ledger_unlock(account->ledger);
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
    /* The new slots first: a death in between leaves both to be given back. */
    take_over(arg, count);
    forkq__ledger_give_back(ledger, index, count);
  }
  forkq__ledger_settle(ledger, index, find_out(channel, index, false));
  return count > 0 ? 0 : FORKQ__NOTHING;
}

int forkq__reap_take_over(struct forkq__channel *channel,
                          const struct forkq__estate *estate,
                          void (*take_over)(void *arg, uint64_t count), void *arg) {
  struct forkq__ledger *ledger = channel->account.ledger;
  if (forkq__ledger_lock(ledger) != 0)
    return FORKQ__BUSY;
  int r = take_over_locked(channel, estate, take_over, arg);
  forkq__ledger_unlock(ledger);
  return r;
}
