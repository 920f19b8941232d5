/* Lost tasks: getting them again, being told of them, and finding the processes that left them.
 *
 * A reaper that finds tasks lost stores `look`, and then raises the event for a getter that sleeps, or for
 * watchers. A getter sets `asleep` before it looks at `look`, so that one of them sees the other. Who
 * lowers the event looks at `look` once more. A reader that finds no lost task clears `look`, looks once
 * more, and stores it again if it has found one. No getter sleeps for more than 0.1 s where tasks are to be
 * got again: it has to find the dead itself, as often nobody else would. So no wake-up has to outlive its
 * process. */
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"
#include "codec/item.h"
#include "pipe/channel_read.h"
#include "pipe/reap.h"

void forkq__channel_tell_lost(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  if (forkq__channel_has_lost(channel) && channel->event_fd >= 0 &&
      (atomic_load(&shared->asleep) || atomic_load(&shared->watchers)))
    forkq__os_event_raise(channel->event_fd);
}

/* Many threads of the process may come here at once. One of them looks. */
static void look_for_lost(struct forkq__channel *channel) {
  if (!channel->redelivers || !(forkq__ledger_work_is_left(channel->account.ledger) ||
                                forkq__channel_awaits_tasks(channel)))
    return;
  int64_t at = FORKQ__LOAD(channel->reap_at), now = forkq__os_now();
  if (now >= at && atomic_compare_exchange_strong(
                       &channel->reap_at, &at,
                       forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__LAST_LOOK_MS)))
    (void)forkq__reap(channel);
}

void forkq__channel_tend_kept(struct forkq__channel *channel) {
  if (!channel->keeps)
    return;
  look_for_lost(channel);
  if (forkq__kept_idle(channel->account.ledger))
    forkq__channel_trim_kept(channel);
}

int64_t forkq__channel_kept_deadline(struct forkq__channel *channel, int64_t deadline) {
  if (channel->redelivers)
    return forkq__os_deadline_within(deadline, FORKQ__LAST_LOOK_MS);
  return channel->keeps && forkq__kept_warm(channel->account.ledger)
             ? forkq__os_deadline_within(deadline, FORKQ__KEPT_IDLE_MS)
             : deadline;
}

void forkq__channel_trim_kept(struct forkq__channel *channel) {
  if (!channel->keeps || !forkq__kept_warm(channel->account.ledger) ||
      forkq__channel_try_lock_read(channel) != 0)
    return;
  forkq__kept_trim(&channel->account);
  forkq__channel_unlock_read(channel);
}

/* What the get asks of a message, before it takes it: 0, or why it does not. */
static int check(struct forkq__channel *channel, uint32_t task, forkq_item_t *item) {
  uint32_t size = forkq__kept_size(channel->account.ledger, task);
  uint8_t head[FORKQ__RAW_HEAD] = { 0 };
  if (!forkq__item_has_check(item))
    return 0;
  int r = forkq__kept_read(&channel->account, task, head,
                           size < sizeof head ? size : (uint32_t)sizeof head);
  return r < 0 ? r : item->borrow_->check(item->borrow_, head, size);
}

/* Gives the item the bytes: 0, FORKQ__GROW, or an error. */
static int set(struct forkq__channel *channel, uint32_t task, forkq_item_t *item) {
  uint32_t size = forkq__kept_size(channel->account.ledger, task);
  if (size > channel->max_message)
    return FORKQ_EBADFRAME;
  if (size > item->capacity_)
    return forkq__item_ask(item, size);
  int r = forkq__kept_read(&channel->account, task, item->memory_, size);
  if (r == 0)
    forkq__item_finish(item, size);
  return r;
}

/* Looks for the first lost task, and clears `look` if there is none. As long as there is one, a get that does
 * not wait must not see 0. After the clearing it looks once more: a task may have been lost meanwhile. */
static uint32_t look(struct forkq__channel *channel) {
  struct forkq__ledger *ledger = channel->account.ledger;
  /* model: look_oldest */
  uint32_t task = forkq__kept_next_lost(ledger);
  if (task != FORKQ__NO_TASK)
    return task;
  /* model: look_clear */
  atomic_store(&ledger->kept.look, 0);
  /* model: look_oldest_again */
  task = forkq__kept_next_lost(ledger);
  if (task != FORKQ__NO_TASK)
    /* model: look_again */
    atomic_store(&ledger->kept.look, 1);
  return task;
}

/* Finds the first lost task, and gives the item its bytes. */
static int find(struct forkq__channel *channel, forkq_item_t *item, uint32_t *ret_task) {
  *ret_task = look(channel);
  if (*ret_task == FORKQ__NO_TASK)
    return FORKQ__NOTHING;
  int r = check(channel, *ret_task, item);
  return r < 0 ? r : set(channel, *ret_task, item);
}

static int receive_again(struct forkq__channel *channel, forkq_item_t *item) {
  struct forkq__kept_shared *kept = &channel->account.ledger->kept;
  uint32_t task = FORKQ__NO_TASK;
  int r = forkq__kept_check(&channel->account);
  if (r == 0)
    r = find(channel, item, &task);
  if (r == FORKQ_EBADFRAME)
    forkq__channel_drop_lost(channel, task);
  if (r < 0)
    return r;
  forkq__channel_take_lost(channel, item, task);
  FORKQ__STORE(kept->redelivered, FORKQ__LOAD(kept->redelivered) + 1);
  FORKQ__PROBE2(get_again, channel->account.number, item->size);
  (void)look(channel);
  return 0;
}

/* It is nobody's task any more: it was counted as abandoned. */
static int be_told(struct forkq__channel *channel, forkq_item_t *item) {
  uint32_t task = FORKQ__NO_TASK;
  int r = find(channel, item, &task);
  if (r == 0 || r == FORKQ_EBADFRAME)
    forkq__kept_drop(&channel->account, task);
  return r;
}

typedef int receive_fn(struct forkq__channel *channel, forkq_item_t *item);

/* The item gets its memory without the lock. */
static int with_lock(struct forkq__channel *channel, forkq_item_t *item, int64_t deadline,
                     receive_fn *receive) {
  int r;
  do {
    r = forkq__channel_lock_read(channel, deadline);
    if (r < 0)
      return r;
    r = receive(channel, item);
    forkq__channel_unlock_read(channel);
  } while (r == FORKQ__GROW && (r = forkq__item_grow(item)) == 0);
  return r;
}

int forkq__channel_receive_lost(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline) {
  /* model: get_look */
  return forkq__channel_has_lost(channel)
             ? with_lock(channel, item, deadline, receive_again)
             : FORKQ__NOTHING;
}

int forkq__channel_get_lost(struct forkq__channel *channel, forkq_item_t *item) {
  return with_lock(channel, item, FORKQ__NOWAIT, be_told);
}
