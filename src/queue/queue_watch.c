/* Watching a queue along with other things, instead of sleeping in a get: for forkq_wait, for a
 * loop of the program through a descriptor, and for libuv's loop. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/times.h"

int forkq__queue_watch_begin(forkq_queue_t *queue) {
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = forkq__queue_enter_get(queue);
  if (r < 0)
    return r;
  forkq__queue_equip(queue);
  forkq__channel_watch_begin(&queue->channel);
  if (forkq__account_has_cell(&queue->channel.account))
    forkq__queue_send_own(queue, FORKQ__FOREVER);
  return 0;
}

void forkq__queue_watch_fds(forkq_queue_t *queue, int fds[2]) {
  bool shutting = forkq__channel_shutting(&queue->channel);
  fds[0] = forkq__channel_awaits_tasks(&queue->channel) ? -1 : queue->channel.read_fd;
  fds[1] = shutting ? -1 : queue->channel.event_fd;
}

int forkq__queue_watch_look(forkq_queue_t *queue, bool saw_event) {
  if (atomic_load(&queue->channel.closed))
    return FORKQ_ECLOSED;
  return forkq__channel_watch_look(&queue->channel, saw_event);
}

void forkq__queue_watch_end(forkq_queue_t *queue) {
  forkq__channel_watch_end(&queue->channel);
  forkq__queue_leave_get(queue);
}

/* Pipe and event in one descriptor, which the first call makes. With the sender's mutex, which
 * keeps both open. */
static int poll_set(forkq_queue_t *queue) {
  const struct forkq__channel *channel = &queue->channel;
  if (channel->read_fd < 0)
    return FORKQ_ECLOSED;
  if (queue->poll_set < 0) {
    const int fds[] = { channel->read_fd, channel->event_fd };
    int r = forkq__os_poll_set_create(fds, 2);
    if (r < 0)
      return r;
    queue->poll_set = r;
  }
  return queue->poll_set;
}

static void plan_lost_look(forkq_queue_t *queue) {
  queue->lost_look_at = forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__LAST_LOOK_MS);
}

/* Where there is no thread, other processes find the dead. */
void forkq__queue_begin_lost_looks(forkq_queue_t *queue) {
  if (!queue->channel.redelivers || queue->lost_look_at != FORKQ__FOREVER ||
      forkq__feeder_start_thread(&queue->feeder) < 0)
    return;
  FORKQ__STORE(queue->feeder.sender.looks, true);
  plan_lost_look(queue);
  forkq__queue_plan_look(queue);
}

void forkq__queue_look_for_lost(forkq_queue_t *queue) {
  queue->lost_look_at = FORKQ__FOREVER;
  if (!queue->observed && atomic_load(&queue->loop_watches) == 0)
    return;
  if (forkq__ledger_work_is_left(&queue->segment->ledger))
    (void)forkq__queue_reap(queue);
  if (forkq__kept_idle(&queue->segment->ledger))
    forkq__channel_trim_kept(&queue->channel);
  plan_lost_look(queue);
}

bool forkq__queue_resume_lost_looks(forkq_queue_t *queue) {
  if (!queue->channel.redelivers)
    return true;
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return false;
  if (queue->observed)
    forkq__queue_begin_lost_looks(queue);
  forkq__sender_unlock(&queue->feeder.sender);
  return true;
}

int forkq__queue_watch_items(forkq_queue_t *queue) {
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  r = queue->channel.read_fd < 0 ? FORKQ_ECLOSED : 0;
  if (r == 0) {
    forkq__channel_watch_begin(&queue->channel);
    atomic_fetch_add(&queue->loop_watches, 1);
    forkq__queue_begin_lost_looks(queue);
  }
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

void forkq__queue_unwatch_items(forkq_queue_t *queue) {
  atomic_fetch_sub(&queue->loop_watches, 1);
  forkq__channel_watch_end(&queue->channel);
}

static void begin_observing(forkq_queue_t *queue) {
  if (queue->observed)
    return;
  queue->observed = true;
  forkq__channel_watch_begin(&queue->channel);
}

void forkq__queue_end_observing(forkq_queue_t *queue) {
  if (!queue->observed)
    return;
  queue->observed = false;
  queue->lost_look_at = FORKQ__FOREVER;
  forkq__channel_watch_end(&queue->channel);
}

void forkq__queue_observing_forked(forkq_queue_t *queue) {
  bool was = queue->observed;
  queue->observed = false; /* that was counted for the parent */
  if (was && queue->channel.read_fd >= 0)
    begin_observing(queue);
}

int forkq_queue_fileno(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return forkq__elsewhere_fileno(queue, r);
  r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  r = poll_set(queue);
  if (r >= 0) {
    begin_observing(queue);
    forkq__queue_begin_lost_looks(queue);
  }
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

int forkq__queue_duplicate_watched(forkq_queue_t *queue, int *ret_items_fd,
                                   int *ret_room_fd) {
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  r = poll_set(queue);
  int items = r < 0 ? r : forkq__os_duplicate(r);
  int room = items < 0 ? items : forkq__os_duplicate(queue->slots.event_fd);
  forkq__sender_unlock(&queue->feeder.sender);
  if (room < 0) {
    if (items >= 0)
      forkq__os_close(items);
    return room;
  }
  *ret_items_fd = items;
  *ret_room_fd = room;
  return 0;
}

/* The thread of a loop calls these two. In a fork handler of the program it may have the mutex
 * already. Then it may go on without taking it. */
void forkq__queue_follow(forkq_queue_t *queue, struct forkq__follower *follower) {
  bool locked = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER) == 0;
  follower->next = queue->followers;
  queue->followers = follower;
  if (locked)
    forkq__sender_unlock(&queue->feeder.sender);
}

void forkq__queue_unfollow(forkq_queue_t *queue, struct forkq__follower *follower) {
  bool locked = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER) == 0;
  struct forkq__follower **at = &queue->followers;
  while (*at != NULL && *at != follower)
    at = &(*at)->next;
  if (*at != NULL)
    *at = follower->next;
  if (locked)
    forkq__sender_unlock(&queue->feeder.sender);
}

void forkq__queue_tell_followers(forkq_queue_t *queue) {
  for (struct forkq__follower *f = queue->followers; f != NULL; f = f->next)
    f->closed(f);
}
