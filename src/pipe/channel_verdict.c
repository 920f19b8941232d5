/* The verdict on the packet that a process was writing when it died: sent, not sent, or not
 * known.
 *
 * If the writer noted the write in `written_seq`, the packet is sent. Otherwise the caller
 * takes both locks of the pipe, so that nothing moves. If a reader has read that packet or a
 * later one, the numbers tell. Else the bytes in the pipe are compared with the bytes written
 * less the bytes read, with and without the pending packets. */
#include "pipe/channel.h"

#include "base/contract.h"
#include "base/os.h"

/* Bytes that the pipe should hold, by the counts of bytes written and read. *ret_pending: the
 * bytes of pending packets. The caller holds both locks of the pipe. The sums wrap around, as
 * the counters may. */
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

/* The caller holds both locks of the pipe, so every packet that is still pending belongs to a
 * dead process. Either all of these packets are in the pipe or none; else the result is not
 * known. */
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
  FORKQ__HELD_LOCK(&channel->shared->write_lock);
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
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
