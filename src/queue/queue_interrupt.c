/* Interrupting calls that are blocked. interrupt.h says how threads see an interrupt. */
#include "queue/queue_impl.h"

#include "base/os.h"

#include <errno.h>
#include <forkq/simple_queue.h>
#include <pthread.h>

/* The mutex keeps a fork away: a child would have the descriptor and not know it. Without the event, a
 * thread that polls looks for an interrupt from time to time. */
void forkq__queue_equip(forkq_queue_t *queue) {
  struct forkq__interrupts *interrupts = &queue->channel.interrupts;
  if (forkq__interrupts_fd(interrupts) >= 0 || atomic_load(&queue->channel.closed) ||
      forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return;
  forkq__interrupts_equip(interrupts);
  forkq__sender_unlock(&queue->feeder.sender);
}

/* The thread may have been interrupted where it can be cancelled at any instruction (os_futex.c). */
int forkq_queue_interrupt(forkq_queue_t *queue) {
  int state, error = errno;
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_is_elsewhere(queue))
    return forkq__elsewhere_interrupt(queue);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  forkq__interrupt(&queue->channel.interrupts);
  forkq__lock_hasten(&queue->channel.shared->turn, queue->channel.process_bit);
  forkq__slots_interrupt(&queue->slots);
  forkq__sender_interrupt(&queue->feeder.sender);
  forkq__queue_wake_joiners(queue);
  pthread_setcancelstate(state, NULL);
  errno = error;
  return 0;
}

int forkq_simple_queue_interrupt(forkq_simple_queue_t *queue) {
  return forkq_queue_interrupt((forkq_queue_t *)queue);
}
