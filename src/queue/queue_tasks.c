/* task_done and join.
 *
 * A joiner counts itself in `joiners`, and reads `joined_event`, before it looks at the unfinished
 * tasks and sleeps. A task_done counts its task before it looks at `joiners`, and the last one
 * changes `joined_event` and wakes, as an interrupt does. The death of a process wakes no joiner, so joiners also look
 * from time to time. */
#include "queue/queue_impl.h"

#include "base/look.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"
#include "codec/item.h"

#include <limits.h>
#include <pthread.h>

/* After a task was counted. A joiner has such a fence, too: for at least one of them to see the other. */
static bool has_joiners(struct forkq__segment *segment) {
  atomic_thread_fence(memory_order_seq_cst);
  return FORKQ__LOAD(segment->joiners) > 0;
}

void forkq__queue_wake_joiners(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  if (!has_joiners(segment))
    return;
  atomic_fetch_add(&segment->joined_event, 1);
  forkq__os_futex_wake(&segment->joined_event, INT_MAX);
}

/* `item`: of a kept task; NULL: the next one. */
static int task_done(forkq_queue_t *queue, const forkq_item_t *item) {
  if (!queue->channel.joinable && !forkq__queue_is_elsewhere(queue))
    return FORKQ_ENOTJOINABLE;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return forkq__elsewhere_task_done(queue, item, r);
  uint64_t handle = item != NULL ? item->task_ : 0;
  struct forkq__segment *segment = queue->segment;
  struct forkq__account *account = &queue->channel.account;
  r = queue->channel.keeps ? forkq__ledger_kept_done(account, handle)
                           : forkq__account_task_done(account);
  if (r == 0 && has_joiners(segment) && forkq__ledger_unfinished(&segment->ledger) == 0)
    forkq__queue_wake_joiners(queue);
  return r;
}

int forkq_queue_task_done(forkq_queue_t *queue) {
  return queue == NULL ? FORKQ_ENULL : task_done(queue, NULL);
}

int forkq_queue_task_done_item(forkq_queue_t *queue, const forkq_item_t *item) {
  if (queue == NULL || item == NULL)
    return FORKQ_ENULL;
  if (queue->channel.keeps && item->task_ == 0)
    return FORKQ_ETASKDONE;
  return task_done(queue, item);
}

/* If the mutex cannot be had, the next look tries again. */
static void reap(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return;
  forkq__queue_reap(queue);
  /* The process that was dropping the items may have died. */
  if (atomic_load(&segment->channel.shutdown) == FORKQ__DROPPED &&
      queue->channel.read_fd >= 0)
    forkq__channel_drain(&queue->channel);
  forkq__sender_unlock(&queue->feeder.sender);
}

int forkq_queue_get_lost(forkq_queue_t *queue, forkq_item_t *item) {
  if (queue == NULL || item == NULL)
    return FORKQ_ENULL;
  forkq__item_clear(item);
  if (!queue->channel.keeps || queue->channel.redelivers)
    return FORKQ_ENOTJOINABLE;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return r;
  reap(queue);
  r = forkq__channel_get_lost(&queue->channel, item);
  if (r == 0)
    r = forkq__item_unpack(item);
  return r == FORKQ__NOTHING ? FORKQ_EMPTY : r;
}

struct join_wait {
  struct forkq__segment *segment;
  struct forkq__look look;
};

static void leave_join(void *arg) {
  struct join_wait *wait = arg;
  struct forkq__segment *segment = wait->segment;
  atomic_fetch_sub(&segment->joiners, 1);
  if (forkq__look_end(&wait->look))
    forkq__os_futex_wake(&segment->joined_event, 1);
}

static int wait_in_join(forkq_queue_t *queue, struct forkq__look *look,
                        int64_t deadline) {
  struct forkq__segment *segment = queue->segment;
  bool look_now = true;
  for (;;) {
    uint32_t event = atomic_load(&segment->joined_event);
    if (forkq__ledger_unfinished(&segment->ledger) == 0)
      return 0;
    if (look_now)
      reap(queue);
    if (look_now && forkq__ledger_unfinished(&segment->ledger) == 0)
      return 0;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    if (forkq__interrupted(&queue->channel.interrupts))
      return FORKQ_EINTERRUPTED;
    (void)forkq__os_futex_wait_cancellable(&segment->joined_event, event,
                                           forkq__look_until(look, deadline),
                                           FORKQ__ANY_BITS);
    look_now = forkq__look_due(look);
  }
}

static int wait_all_done(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__segment *segment = queue->segment;
  struct join_wait wait = { .segment = segment };
  int r;
  if (forkq__ledger_unfinished(&segment->ledger) == 0)
    return 0;
  wait.look = forkq__look_begin(&segment->join_look, FORKQ__SEATS, FORKQ__FIRST_LOOK_MS,
                                FORKQ__LAST_LOOK_MS);
  atomic_fetch_add(&segment->joiners, 1);
  atomic_thread_fence(memory_order_seq_cst);
  FORKQ__PROBE2(wait_begin, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_TASKS));
  pthread_cleanup_push(leave_join, &wait);
  r = wait_in_join(queue, &wait.look, deadline);
  pthread_cleanup_pop(1);
  FORKQ__PROBE3(wait_end, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_TASKS), forkq__probe_value(r));
  return r;
}

int forkq_queue_join(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_abandoned) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  if (!queue->channel.joinable && !forkq__queue_is_elsewhere(queue))
    return FORKQ_ENOTJOINABLE;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return forkq__elsewhere_join(queue, forkq__os_deadline(timeout_ms), ret_abandoned, r);
  r = forkq__interrupts_tell(&queue->channel.interrupts,
                             wait_all_done(queue, forkq__os_deadline(timeout_ms)));
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
