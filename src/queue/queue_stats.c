/* The numbers of a queue: qsize, empty, full and stats. They come from the ledger's counters, which
 * are read without a lock. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/versioned.h"

#include <errno.h>
#include <string.h>

/* Takes back what dead processes held, before a number is told; not if the mutex cannot be had. */
static void reap_unlocked(forkq_queue_t *queue) {
  if (forkq__queue_check(queue) < 0 ||
      forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return;
  forkq__queue_reap(queue);
  forkq__sender_unlock(&queue->feeder.sender);
}

int64_t forkq_queue_qsize(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_is_elsewhere(queue))
    return forkq__elsewhere_qsize(queue);
  reap_unlocked(queue);
  int64_t size = (int64_t)forkq__ledger_size(&queue->segment->ledger);
  int64_t maxsize = queue->segment->slots.maxsize;
  return maxsize > 0 && size > maxsize ? maxsize : size;
}

/* If the mutex cannot be had, the feeder counts as not finished. */
static bool finished(forkq_queue_t *queue) {
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return false;
  bool is = forkq__feeder_has_finished(&queue->feeder);
  forkq__sender_unlock(&queue->feeder.sender);
  return is;
}

int forkq_queue_empty(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (forkq__queue_is_elsewhere(queue) && r == -ENOTSUP) {
    int64_t size = forkq__elsewhere_qsize(queue);
    return size < 0 ? (int)size : size == 0;
  }
  if (r < 0)
    return r;
  if (atomic_load(&queue->channel.closed) && finished(queue))
    return FORKQ_ECLOSED;
  return forkq_queue_qsize(queue) == 0;
}

int forkq_queue_full(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_is_elsewhere(queue))
    return forkq__elsewhere_full(queue);
  if (forkq__sender_full(&queue->feeder.sender))
    return 1;
  if (!forkq__slots_full(&queue->slots))
    return 0;
  reap_unlocked(queue);
  return forkq__slots_full(&queue->slots);
}

static void add_cells(struct forkq__ledger *ledger, forkq_queue_stats_t *stats) {
  for (uint32_t i = 0; i < atomic_load(&ledger->cells_used); i++) {
    const struct forkq__cell *cell = &ledger->cells[i];
    /* `not_put` first: an item counts there after it counts as accepted. */
    uint64_t not_put = atomic_load(&cell->not_put);
    stats->put_items += atomic_load(&cell->accepted) - not_put;
    stats->put_bytes += atomic_load(&cell->put_bytes);
  }
}

static void add_own(forkq_queue_t *queue, forkq_queue_stats_t *stats) {
  struct forkq__account *account = &queue->channel.account;
  if (!forkq__account_has_cell(account))
    return;
  struct forkq__cell *cell = forkq__account_cell(account);
  uint64_t sent_bytes = atomic_load(&cell->sent_bytes);
  stats->outbox_items = forkq__account_held(account);
  if (stats->outbox_items > 0)
    stats->outbox_bytes =
        atomic_load(&cell->put_bytes) + queue->feeder.sender.copied_bytes - sent_bytes;
}

static const size_t oldest_stats = offsetof(forkq_queue_stats_t, put_bytes);

int forkq_queue_stats(forkq_queue_t *queue, forkq_queue_stats_t *stats) {
  if (queue == NULL || stats == NULL)
    return FORKQ_ENULL;
  if (!forkq__is_version(stats->size, oldest_stats, sizeof *stats))
    return FORKQ_ERANGE;
  if (forkq__queue_is_elsewhere(queue))
    return forkq__elsewhere_stats(queue, stats);
  struct forkq__segment *segment = queue->segment;
  struct forkq__ledger *ledger = &segment->ledger;
  forkq_queue_stats_t now = { .size = stats->size };
  reap_unlocked(queue);
  add_cells(ledger, &now);
  add_own(queue, &now);
  now.got_items = atomic_load(&ledger->taken);
  now.got_bytes = atomic_load(&segment->channel.bytes_taken);
  now.put_waits = atomic_load(&segment->slots.waits);
  now.get_waits = atomic_load(&segment->channel.getter_waits);
  now.recoveries = atomic_load(&ledger->recoveries);
  now.lost_items = forkq__ledger_lost(ledger);
  if (queue->channel.keeps)
    now.redelivered_items = atomic_load(&ledger->kept.redelivered);
  memcpy(stats, &now, now.size);
  return 0;
}
