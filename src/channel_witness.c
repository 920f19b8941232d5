/* What became of the last steps of a dead process, for the ledger. */
#include "channel.h"

#include "os.h"

/* Bytes that the pipe should hold, going by what was written and read. With both pipe locks.
 * Sums of counters that wrap around, as the counters may. */
static uint64_t expected_level(struct forkq__channel *channel, uint64_t *ret_pending) {
  struct forkq__ledger *ledger = channel->ledger;
  uint64_t level = 0 - FORKQ__LOAD(channel->shared->read_wire);
  *ret_pending = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    struct forkq__cell *cell = &ledger->cells[i];
    level += FORKQ__LOAD(cell->sent_wire);
    if (FORKQ__LOAD(cell->pending_seq) != 0)
      *ret_pending += FORKQ__LOAD(cell->pending_wire) - FORKQ__LOAD(cell->sent_wire);
  }
  return level;
}

/* With both pipe locks, so that whatever is still pending anywhere is of the dead: either all
 * of that is in the pipe or nothing, else it is not known. */
static int judge(struct forkq__channel *channel, const struct forkq__cell *cell,
                 uint64_t seq) {
  if (FORKQ__LOAD(cell->arrived_seq) >= seq)
    return 1;
  if (FORKQ__LOAD(channel->shared->read_seq) > seq)
    return 0;
  uint64_t pending;
  uint64_t expected = expected_level(channel, &pending);
  int level = forkq__os_pipe_level(channel->read_fd);
  if (level < 0)
    return -1;
  if (level == 0 || (uint64_t)level == expected)
    return 0;
  return (uint64_t)level == expected + pending ? 1 : -1;
}

static int arrived_locked(void *arg, uint32_t index) {
  struct forkq__channel *channel = arg;
  const struct forkq__cell *cell = &channel->ledger->cells[index];
  uint64_t seq = FORKQ__LOAD(cell->pending_seq);
  return FORKQ__LOAD(cell->written_seq) == seq ? 1 : judge(channel, cell, seq);
}

static bool reads_settled_locked(void *arg) {
  (void)arg;
  return true; /* taking the read lock repaired them */
}

/* The two that follow wait for neither of the pipe's locks, which a large message may keep:
 * everybody who opens a cell, reaps or has done a task waits for the ledger's lock, under which
 * they are called. */
static int arrived(void *arg, uint32_t index) {
  struct forkq__channel *channel = arg;
  const struct forkq__cell *cell = &channel->ledger->cells[index];
  if (FORKQ__LOAD(cell->written_seq) == FORKQ__LOAD(cell->pending_seq))
    return 1;
  int r = -1;
  if (forkq__channel_try_lock_write(channel) != 0)
    return r;
  if (forkq__channel_try_lock_read(channel) == 0) {
    r = arrived_locked(channel, index);
    forkq__channel_unlock_read(channel);
  }
  forkq__channel_unlock_write(channel);
  return r;
}

/* A dead owner of the read lock may have been counting what it got. */
static bool reads_settled(void *arg) {
  struct forkq__channel *channel = arg;
  if (forkq__channel_try_lock_read(channel) != 0)
    return false;
  forkq__channel_unlock_read(channel);
  return true;
}

struct forkq__witness forkq__channel_witness(struct forkq__channel *channel) {
  return (struct forkq__witness){ arrived, reads_settled, channel };
}

static bool reap(struct forkq__channel *channel, struct forkq__witness witness) {
  return forkq__ledger_reap(channel->ledger, &channel->liveness, channel->cell, witness);
}

/* Waits for the pipe's locks. Who has the ledger's waits for neither, so that lock may come
 * behind them as well as before. */
static bool reap_in_doubt(struct forkq__channel *channel) {
  struct forkq__witness witness = { arrived_locked, reads_settled_locked, channel };
  int64_t moment = forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS);
  bool found = false;
  if (forkq__channel_lock_write(channel, moment) != 0)
    return found;
  if (forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0) {
    found = reap(channel, witness);
    forkq__channel_unlock_read(channel);
  }
  forkq__channel_unlock_write(channel);
  return found;
}

bool forkq__channel_reap(struct forkq__channel *channel) {
  bool found = reap(channel, forkq__channel_witness(channel));
  return (forkq__ledger_in_doubt(channel->ledger) && reap_in_doubt(channel)) || found;
}
