/* What a parent had put and not sent when it forked. It is the parent's to send. But a parent may
 * end without sending it, as daemon(3) has it end; so the child keeps the copies that it has
 * anyway, and where it finds the parent dead, and what it held not given back, it sends them. */
#include "queue.h"

#include "os.h"

/* Between two looks whether the parent lives. */
#define LOOK_MS 20

/* More packets than these no child keeps: it may never use the queue, and never free them. */
#define PACKETS_MAX 16384

void forkq__queue_note_due(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  queue->due = channel->cell != FORKQ__NO_CELL ? forkq__feeder_due(&queue->feeder) : 0;
}

void forkq__queue_drop_inherited(forkq_queue_t *queue) {
  forkq__outbox_free(queue->inherited.packets);
  queue->inherited.packets = NULL;
  queue->channel.liveness.spared = FORKQ__NO_CELL;
}

static bool is_too_much(const struct forkq__buffer *packets) {
  int count = 0;
  for (const struct forkq__buffer *b = packets; b != NULL && count <= PACKETS_MAX;
       b = b->next)
    count++;
  return count > PACKETS_MAX;
}

/* The parent may have inherited in turn, and had nothing of its own: then this child is heir to
 * that. */
void forkq__queue_inherit(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  struct forkq__feeder *feeder = &queue->feeder;
  if (!feeder->forking || queue->simple || channel->cell == FORKQ__NO_CELL)
    return;
  struct forkq__buffer *packets = forkq__feeder_take_unsent(feeder);
  if (packets == NULL)
    return;
  forkq__queue_drop_inherited(queue);
  if (is_too_much(packets)) {
    forkq__outbox_free(packets);
    return;
  }
  queue->inherited.packets = packets;
  queue->inherited.look_at = 0;
  channel->liveness.spared = channel->cell;
  queue->inherited.estate = (struct forkq__estate){
    .cell = channel->cell,
    .owner = channel->liveness.tasks.owner,
    .due = queue->due,
  };
}

/* Under the ledger's lock: slots, and then the items. What does not fit into memory is given back
 * by the caller. */
struct heir {
  forkq_queue_t *queue;
  uint64_t taken;
  uint64_t copied;
};

static void take_over(void *arg, uint64_t count) {
  struct heir *heir = arg;
  forkq_queue_t *queue = heir->queue;
  struct forkq__segment *segment = queue->segment;
  const struct forkq__buffer *packets = queue->inherited.packets;
  uint64_t there = forkq__outbox_count(packets);
  heir->taken = count < there ? count : there;
  for (uint64_t i = 0; i < heir->taken; i++)
    forkq__slots_take_over(&segment->slots, &segment->ledger, queue->channel.cell);
  (void)forkq__outbox_copy(&queue->feeder.outbox, packets, there - heir->taken,
                           &heir->copied);
}

static int try_take_over(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  struct heir heir = { .queue = queue };
  int r = forkq__feeder_start(&queue->feeder);
  if (r < 0)
    return FORKQ__BUSY;
  r = forkq__ledger_take_over(channel->ledger, &channel->liveness,
                              &queue->inherited.estate, forkq__channel_witness(channel),
                              take_over, &heir);
  if (r != 0)
    return r;
  forkq__feeder_lose(&queue->feeder, heir.taken - heir.copied);
  forkq__feeder_push(&queue->feeder, queue->direct_write);
  return 0;
}

bool forkq__queue_take_over(forkq_queue_t *queue) {
  int64_t now = forkq__os_now();
  if (queue->inherited.packets == NULL || now < queue->inherited.look_at)
    return false;
  queue->inherited.look_at = forkq__os_deadline_within(FORKQ__FOREVER, LOOK_MS);
  int r = try_take_over(queue);
  if (r != FORKQ__BUSY)
    forkq__queue_drop_inherited(queue);
  return r == 0;
}

int64_t forkq__queue_inherited_deadline(forkq_queue_t *queue, int64_t deadline) {
  bool heir = queue->inherited.packets != NULL;
  return heir ? forkq__os_deadline_within(deadline, LOOK_MS) : deadline;
}
