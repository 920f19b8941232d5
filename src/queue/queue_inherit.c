/* Heirs: how a child sends the items that its parent had put and not sent when it forked.
 *
 * It is for the parent to send them, but a parent may end before, as in daemon(3). So the child
 * keeps its copies of the parent's packets, and its feeder looks from time to time whether the
 * parent lives. If the parent is dead and its account is not settled, the child takes slots for the
 * items that were not sent, copies these items into its outbox, and gives back the parent's slots,
 * all under the ledger's lock; then it sends them. If the child dies in between, the reaper gives
 * back the slots of both. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/times.h"
#include "pipe/reap.h"

/* The feeder looks after the first of these, then at intervals that double up to the last. */
#define FIRST_LOOK_MS 10
#define LAST_LOOK_MS 200

/* How long the last try, at close, may take. */
#define LAST_TRY_MS 300

/* A child keeps no copies if there are more packets than these: it may never use the queue, and so
 * never free them. */
#define PACKETS_MAX 16384

void forkq__queue_note_estate(forkq_queue_t *queue) {
  queue->has_estate = forkq__feeder_has_thread(&queue->feeder) &&
                      forkq__sender_estate(&queue->feeder.sender, &queue->estate);
}

/* Clears the pointer before it frees the packets, because a fork that does not have the mutex may
 * come in between. */
void forkq__queue_drop_inherited(forkq_queue_t *queue) {
  forkq__outbox_free(atomic_exchange(&queue->inherited.packets, NULL));
  queue->channel.account.liveness.spared = FORKQ__NO_CELL;
  queue->inherited.look_at = FORKQ__FOREVER;
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
  FORKQ__STORE(queue->inherited.packets, packets);
  queue->inherited.estate = queue->estate;
  queue->inherited.from_parent = true;
  queue->channel.account.liveness.spared = queue->estate.cell;
}

/* If the parent had inherited packets, and had no unsent packets of its own, this child is heir to
 * the inherited ones. */
void forkq__queue_inherit(forkq_queue_t *queue) {
  if (!queue->feeder.sender
           .forking) { /* the fork had no mutex: all may be half changed */
    FORKQ__STORE(queue->inherited.packets, NULL);
    queue->channel.account.liveness.spared = FORKQ__NO_CELL;
    return;
  }
  struct forkq__buffer *packets = NULL;
  queue->inherited.from_parent = false;
  if (queue->has_estate)
    packets = forkq__sender_take_unsent(&queue->feeder.sender);
  if (packets == NULL)
    return;
  forkq__queue_drop_inherited(queue);
  inherit_packets(queue, packets);
}

/* Used under the ledger's lock: take_items takes the slots, and then copies the items. Its caller
 * gives back the slots of those for which there is no memory. */
struct heir {
  forkq_queue_t *queue;
  uint64_t taken;
  uint64_t copied;
};

static void take_items(void *arg, uint64_t count) {
  struct heir *heir = arg;
  forkq_queue_t *queue = heir->queue;
  const struct forkq__buffer *packets = FORKQ__LOAD(queue->inherited.packets);
  uint64_t there = forkq__outbox_count(packets);
  heir->taken = count < there ? count : there;
  for (uint64_t i = 0; i < heir->taken; i++)
    forkq__slots_take_over(&queue->slots);
  heir->copied = forkq__sender_copy(&queue->feeder.sender, queue->inherited.estate.cell,
                                    packets, there - heir->taken);
}

/* Takes over from a dead parent: 0; FORKQ__BUSY or FORKQ_TIMEDOUT, to be tried again; or why
 * nothing can be taken over. */
static int take_over(forkq_queue_t *queue) {
  struct heir heir = { .queue = queue };
  int r = forkq__feeder_start(&queue->feeder);
  if (r == 0)
    r = forkq__reap_take_over(&queue->channel, &queue->inherited.estate, take_items,
                              &heir);
  if (r != 0)
    return r;
  forkq__sender_lose(&queue->feeder.sender, heir.taken - heir.copied);
  forkq__feeder_push(&queue->feeder, queue->direct_write);
  return 0;
}

/* Whether the parent is gone as a parent and still shows that it lives: a process gives up its children,
 * perhaps, while its last thread still gives back its memory, and its locks on files after that. */
static bool is_ending(const forkq_queue_t *queue) {
  return queue->inherited.from_parent &&
         !forkq__os_is_parent(queue->inherited.estate.pid);
}

/* Looks once. 0: this process need not look again, because the parent has sent or given back its
 * items, or this process has taken them over, or cannot. FORKQ__NOTHING: the parent lives.
 * FORKQ__BUSY: the parent is dead or ending, but its items cannot be taken over yet. */
static int look(forkq_queue_t *queue) {
  struct forkq__account *account = &queue->channel.account;
  const struct forkq__estate *estate = &queue->inherited.estate;
  if (!forkq__ledger_is_open(account->ledger, estate))
    return 0;
  if (forkq__account_sees_alive(account, estate->cell))
    return is_ending(queue) ? FORKQ__BUSY : FORKQ__NOTHING;
  int r = take_over(queue);
  return r == FORKQ__BUSY || r == FORKQ_TIMEDOUT ? FORKQ__BUSY : 0;
}

/* A reader or writer that has a lock of the pipe at this moment keeps this process from knowing
 * what the parent has sent; or the parent is just ending. So it tries again for a while. */
void forkq__queue_end_looking(forkq_queue_t *queue) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, LAST_TRY_MS);
  while (FORKQ__LOAD(queue->inherited.packets) != NULL && look(queue) == FORKQ__BUSY &&
         forkq__os_now() < deadline)
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, 1));
  forkq__queue_drop_inherited(queue);
}

void forkq__queue_take_over(forkq_queue_t *queue) {
  if (FORKQ__LOAD(queue->inherited.packets) == NULL)
    return;
  if (look(queue) == 0) {
    forkq__queue_drop_inherited(queue);
    return;
  }
  int ms = forkq__back_off(queue->inherited.look_ms, FIRST_LOOK_MS, LAST_LOOK_MS);
  queue->inherited.look_ms = ms;
  queue->inherited.look_at = forkq__os_deadline_within(FORKQ__FOREVER, ms);
}

bool forkq__queue_begin_looking(forkq_queue_t *queue) {
  if (FORKQ__LOAD(queue->inherited.packets) == NULL)
    return true;
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return false;
  queue->inherited.look_ms = 0;
  forkq__queue_take_over(queue);
  if (FORKQ__LOAD(queue->inherited.packets) != NULL &&
      forkq__feeder_start_thread(&queue->feeder) < 0)
    forkq__queue_drop_inherited(queue);
  forkq__queue_plan_look(queue);
  forkq__sender_unlock(&queue->feeder.sender);
  return true;
}
