/* What a parent had put and not sent when it forked. It is the parent's to send. But a parent may
 * end without sending it, as daemon(3) has it end; so the child keeps the copies that it has
 * anyway, and its feeder looks from time to time whether the parent lives. Where it finds the parent
 * dead, and what it held not given back, it sends them. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "pipe/reap.h"

/* The first look after this, and then ever more rarely, down to the last. */
#define FIRST_LOOK_MS 10
#define LAST_LOOK_MS 200

/* So long the last try may take, at close. */
#define LAST_TRY_MS 300

/* More packets than these no child keeps: it may never use the queue, and never free them. */
#define PACKETS_MAX 16384

void forkq__queue_note_estate(forkq_queue_t *queue) {
  queue->has_estate = forkq__feeder_estate(&queue->feeder, &queue->estate);
}

/* The pointer first: a fork without the mutex may come in between. */
void forkq__queue_drop_inherited(forkq_queue_t *queue) {
  forkq__outbox_free(atomic_exchange(&queue->inherited.packets, NULL));
  queue->channel.account.liveness.spared = FORKQ__NO_CELL;
  queue->feeder.look_at = FORKQ__FOREVER;
}

static bool is_too_much(const struct forkq__buffer *packets) {
  int count = 0;
  for (const struct forkq__buffer *b = packets; b != NULL && count <= PACKETS_MAX;
       b = b->next)
    count++;
  return count > PACKETS_MAX;
}

static void inherit_packets(forkq_queue_t *queue, struct forkq__buffer *packets) {
  if (is_too_much(packets)) {
    forkq__outbox_free(packets);
    return;
  }
  queue->inherited.packets = packets;
  queue->inherited.estate = queue->estate;
  queue->channel.account.liveness.spared = queue->estate.cell;
}

/* The parent may have inherited in turn, and had nothing of its own: then this child is heir to
 * that. */
void forkq__queue_inherit(forkq_queue_t *queue) {
  if (!queue->feeder.forking) { /* all this may have been in the middle of a change */
    queue->inherited.packets = NULL;
    queue->channel.account.liveness.spared = FORKQ__NO_CELL;
    return;
  }
  struct forkq__buffer *packets = NULL;
  if (queue->has_estate && !queue->simple)
    packets = forkq__feeder_take_unsent(&queue->feeder);
  if (packets == NULL)
    return;
  forkq__queue_drop_inherited(queue);
  inherit_packets(queue, packets);
}

/* Under the ledger's lock: slots, and then the items. What does not fit into memory is given back
 * by the caller. */
struct heir {
  forkq_queue_t *queue;
  uint64_t taken;
  uint64_t copied;
};

static void take_items(void *arg, uint64_t count) {
  struct heir *heir = arg;
  forkq_queue_t *queue = heir->queue;
  const struct forkq__buffer *packets = queue->inherited.packets;
  uint64_t there = forkq__outbox_count(packets);
  heir->taken = count < there ? count : there;
  for (uint64_t i = 0; i < heir->taken; i++)
    forkq__slots_take_over(&queue->slots);
  struct forkq__copied copied =
      forkq__feeder_copy(&queue->feeder, packets, there - heir->taken);
  forkq__queue_note_repeated(queue, heir->taken, copied.bytes);
  heir->copied = copied.messages;
}

/* Of a parent that is dead. 0, FORKQ__BUSY or FORKQ_TIMEDOUT if that is to be tried again, or why
 * there is nothing to be taken over. */
static int take_over(forkq_queue_t *queue) {
  struct heir heir = { .queue = queue };
  int r = forkq__feeder_start(&queue->feeder);
  if (r == 0)
    r = forkq__reap_take_over(&queue->channel, &queue->inherited.estate, take_items,
                              &heir);
  if (r != 0)
    return r;
  forkq__feeder_lose(&queue->feeder, heir.taken - heir.copied);
  forkq__feeder_push(&queue->feeder, queue->direct_write);
  return 0;
}

/* 0 if this process is not to look again: the parent has sent or given back what it had, or it is
 * taken over, or it cannot be. FORKQ__NOTHING while the parent lives; FORKQ__BUSY if it is dead, but
 * the time has not come. */
static int look(forkq_queue_t *queue) {
  struct forkq__account *account = &queue->channel.account;
  const struct forkq__estate *estate = &queue->inherited.estate;
  if (!forkq__ledger_is_open(account->ledger, estate))
    return 0;
  if (forkq__account_sees_alive(account, estate->cell))
    return FORKQ__NOTHING;
  int r = take_over(queue);
  return r == FORKQ__BUSY || r == FORKQ_TIMEDOUT ? FORKQ__BUSY : 0;
}

/* Who takes a message or writes one at this moment keeps what the parent has sent from being known. */
void forkq__queue_end_looking(forkq_queue_t *queue) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, LAST_TRY_MS);
  while (queue->inherited.packets != NULL && look(queue) == FORKQ__BUSY &&
         forkq__os_now() < deadline)
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, 1));
  forkq__queue_drop_inherited(queue);
}

void forkq__queue_take_over(forkq_queue_t *queue) {
  if (queue->inherited.packets == NULL)
    return;
  if (look(queue) == 0) {
    forkq__queue_drop_inherited(queue);
    return;
  }
  int ms = queue->inherited.look_ms;
  queue->feeder.look_at = forkq__os_deadline_within(FORKQ__FOREVER, ms);
  queue->inherited.look_ms = 2 * ms < LAST_LOOK_MS ? 2 * ms : LAST_LOOK_MS;
}

bool forkq__queue_begin_looking(forkq_queue_t *queue) {
  if (queue->inherited.packets == NULL)
    return true;
  if (forkq__feeder_lock(&queue->feeder, FORKQ__NOWAIT) != 0)
    return false;
  queue->inherited.look_ms = FIRST_LOOK_MS;
  forkq__queue_take_over(queue);
  if (queue->inherited.packets != NULL && forkq__feeder_start_thread(&queue->feeder) < 0)
    forkq__queue_drop_inherited(queue);
  forkq__feeder_unlock(&queue->feeder);
  return true;
}
