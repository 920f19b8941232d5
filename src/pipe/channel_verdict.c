/* What became of the last packet of a process that died in its write. */
#include "pipe/channel.h"

#include "base/os.h"

/* Bytes that the pipe should hold, going by what was written and read. With both pipe locks.
 * Sums of counters that wrap around, as the counters may. */
static uint64_t expected_level(struct forkq__channel *channel, uint64_t *ret_pending) {
  struct forkq__ledger *ledger = channel->account.ledger;
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
static enum forkq__verdict judge(struct forkq__channel *channel,
                                 const struct forkq__cell *cell, uint64_t seq) {
  if (FORKQ__LOAD(cell->arrived_seq) >= seq)
    return FORKQ__SENT;
  if (FORKQ__LOAD(channel->shared->read_seq) > seq)
    return FORKQ__NOT_SENT;
  uint64_t pending;
  uint64_t expected = expected_level(channel, &pending);
  int level = forkq__os_pipe_level(channel->read_fd);
  if (level < 0)
    return FORKQ__UNKNOWN;
  if (level == 0 || (uint64_t)level == expected)
    return FORKQ__NOT_SENT;
  return (uint64_t)level == expected + pending ? FORKQ__SENT : FORKQ__UNKNOWN;
}

enum forkq__verdict forkq__channel_verdict(struct forkq__channel *channel,
                                           uint32_t index) {
  const struct forkq__cell *cell = &channel->account.ledger->cells[index];
  uint64_t seq = FORKQ__LOAD(cell->pending_seq);
  return FORKQ__LOAD(cell->written_seq) == seq ? FORKQ__SENT : judge(channel, cell, seq);
}

enum forkq__verdict forkq__channel_try_verdict(struct forkq__channel *channel,
                                               uint32_t index) {
  const struct forkq__cell *cell = &channel->account.ledger->cells[index];
  if (FORKQ__LOAD(cell->written_seq) == FORKQ__LOAD(cell->pending_seq))
    return FORKQ__SENT;
  enum forkq__verdict verdict = FORKQ__UNKNOWN;
  if (forkq__channel_try_lock_write(channel) != 0)
    return verdict;
  if (forkq__channel_try_lock_read(channel) == 0) {
    verdict = forkq__channel_verdict(channel, index);
    forkq__channel_unlock_read(channel);
  }
  forkq__channel_unlock_write(channel);
  return verdict;
}

/* A dead owner of the read lock may have been counting what it got. */
bool forkq__channel_try_settle_reads(struct forkq__channel *channel) {
  if (forkq__channel_try_lock_read(channel) != 0)
    return false;
  forkq__channel_unlock_read(channel);
  return true;
}
