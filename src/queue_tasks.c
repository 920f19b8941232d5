#include "queue.h"

#include "os.h"

#include <limits.h>

/* Who joins looks after a while, and then ever more rarely, whether processes died at their
 * tasks: their death wakes nobody. */
#define FIRST_LOOK_MS 5
#define LAST_LOOK_MS 100

void forkq__queue_wake_joiners(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  if (atomic_load(&segment->joiners) == 0)
    return;
  atomic_fetch_add(&segment->joined_event, 1);
  forkq__os_futex_wake(&segment->joined_event, INT_MAX);
}

int forkq_queue_task_done(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (!queue->channel.joinable)
    return FORKQ_ENOTJOINABLE;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  struct forkq__segment *segment = queue->segment;
  uint32_t cell = FORKQ__NO_CELL;
  int r;
  do {
    forkq__feeder_lock(&queue->feeder);
    r = forkq__feeder_open_cell(&queue->feeder);
    cell = queue->channel.cell;
    forkq__feeder_unlock(&queue->feeder);
  } while (r == FORKQ_TIMEDOUT);
  if (r == 0)
    r = forkq__ledger_task_done(&segment->ledger, cell);
  if (r == 0 && atomic_load(&segment->joiners) > 0 &&
      forkq__ledger_unfinished(&segment->ledger) == 0)
    forkq__queue_wake_joiners(queue);
  return r;
}

static bool all_done(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  if (forkq__ledger_unfinished(&segment->ledger) == 0)
    return true;
  forkq__feeder_lock(&queue->feeder);
  forkq__queue_reap(queue);
  /* Who dropped the items may have died at it. */
  if (atomic_load(&segment->channel.shutdown) == FORKQ__DROPPED &&
      queue->channel.read_fd >= 0)
    forkq__channel_drain(&queue->channel);
  forkq__feeder_unlock(&queue->feeder);
  return forkq__ledger_unfinished(&segment->ledger) == 0;
}

static int wait_all_done(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__segment *segment = queue->segment;
  int look_ms = FIRST_LOOK_MS;
  int r = 0;
  atomic_fetch_add(&segment->joiners, 1);
  for (;;) {
    uint32_t event = atomic_load(&segment->joined_event);
    if (all_done(queue))
      break;
    if (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline) {
      r = FORKQ_TIMEDOUT;
      break;
    }
    forkq__os_futex_wait(&segment->joined_event, event,
                         forkq__os_deadline_within(deadline, look_ms));
    look_ms = look_ms * 2 < LAST_LOOK_MS ? look_ms * 2 : LAST_LOOK_MS;
  }
  atomic_fetch_sub(&segment->joiners, 1);
  return r;
}

int forkq_queue_join(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_abandoned) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  if (!queue->channel.joinable)
    return FORKQ_ENOTJOINABLE;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  int r = wait_all_done(queue, forkq__os_deadline(timeout_ms));
  if (r < 0)
    return r;
  uint64_t abandoned = atomic_load(&queue->segment->ledger.abandoned);
  uint64_t seen = atomic_exchange(&queue->abandoned_seen, abandoned);
  if (abandoned <= seen)
    return 0;
  if (ret_abandoned != NULL)
    *ret_abandoned = abandoned - seen;
  return FORKQ_EABANDONED;
}
