/* Flushing: waiting until what this process has put is in the pipe. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/times.h"

/* What the process has sent when all is sent that it had put at this moment. Messages are sent in the
 * order in which they were put. */
static uint64_t due_of(struct forkq__account *account) {
  return FORKQ__LOAD(forkq__account_cell(account)->sent) + forkq__account_held(account);
}

/* How many of them are not sent yet. */
static uint64_t unsent_of(forkq_queue_t *queue, uint64_t due) {
  struct forkq__account *account = &queue->channel.account;
  if (!forkq__account_has_cell(account) ||
      !forkq__sender_has_packets(&queue->feeder.sender))
    return 0;
  uint64_t sent = FORKQ__LOAD(forkq__account_cell(account)->sent);
  return sent < due ? due - sent : 0;
}

/* Waits for a moment, in which a thread may be cancelled. With the mutex; a failure to get it back is
 * returned. */
static int wait_a_moment(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__sender *sender = &queue->feeder.sender;
  forkq__mutex_wait(&sender->mutex, &sender->done,
                    forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS));
  forkq__sender_unlock(sender);
  forkq__os_cancellation_point(NULL, NULL);
  return forkq__sender_lock(sender, deadline);
}

/* Whether all is sent: 0, FORKQ__MORE, or why the call ends. A close comes first: what the feeder gave up
 * after it was not sent. */
static int look(forkq_queue_t *queue, int64_t deadline, uint64_t unsent) {
  if (atomic_load(&queue->channel.closed))
    return FORKQ_ECLOSED;
  if (unsent == 0)
    return 0;
  if (deadline == FORKQ__NOWAIT || forkq__os_now() >= deadline)
    return FORKQ_TIMEDOUT;
  return forkq__interrupted(&queue->channel.interrupts) ? FORKQ_EINTERRUPTED
                                                        : FORKQ__MORE;
}

/* With the mutex at first; without it at the end. */
static int flush_until(forkq_queue_t *queue, int64_t deadline, uint64_t *ret_unsent) {
  struct forkq__sender *sender = &queue->feeder.sender;
  bool has_cell = forkq__account_has_cell(&queue->channel.account);
  uint64_t due = has_cell ? due_of(&queue->channel.account) : 0;
  int r;
  forkq__sender_send_now(sender);
  while ((r = look(queue, deadline, *ret_unsent = unsent_of(queue, due))) ==
         FORKQ__MORE) {
    r = wait_a_moment(queue, deadline);
    if (r < 0)
      return r;
  }
  forkq__sender_unlock(sender);
  return r;
}

int forkq_queue_flush(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_begin_call(queue, timeout_ms);
  if (r < 0)
    return forkq__elsewhere_flush(queue, timeout_ms, ret_unsent, r);
  if (atomic_load(&queue->channel.closed))
    return FORKQ_ECLOSED;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  uint64_t unsent = 0;
  r = forkq__sender_lock(&queue->feeder.sender, deadline);
  if (r == 0)
    r = flush_until(queue, deadline, &unsent);
  if (ret_unsent != NULL && (r == 0 || (r == FORKQ_TIMEDOUT && unsent > 0)))
    *ret_unsent = unsent;
  return forkq__interrupts_tell(&queue->channel.interrupts, r);
}
