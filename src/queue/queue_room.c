/* A descriptor that says that there is room, for a loop of the program: forkq_queue_room_fileno.
 *
 * It is an epoll instance over two events. The room event is shared by all processes: a getter that
 * frees a slot raises it while anybody watches (slots.h), and whoever found the queue full lowers
 * it. The other event is this process's own. It is readable from the beginning, until a put
 * finds no room. Then the process counts as one that watches, and its feeder looks from time to time
 * whether there is room, as a put does that waits: for slots of dead processes, and because a
 * wake-up can be lost with the process that owed it, or go to another. When it finds room, it
 * raises the process's own event, and the process does not watch any more.
 *
 * So a put that finds room does nothing for it, nor does a get while nobody has found the queue full. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "base/times.h"

static bool is_asked_for(const forkq_queue_t *queue) {
  return queue->room.set >= 0;
}

static void close_descriptors(forkq_queue_t *queue) {
  uint64_t identity = queue->channel.event_identity; /* of all anonymous descriptors */
  if (queue->room.set >= 0)
    forkq__os_close_own(queue->room.set, identity);
  if (queue->room.own_fd >= 0)
    forkq__os_close_own(queue->room.own_fd, identity);
  queue->room.set = queue->room.own_fd = -1;
}

static int make_descriptors(forkq_queue_t *queue) {
  int own_fd = forkq__os_event_create();
  if (own_fd < 0)
    return own_fd;
  const int fds[] = { queue->slots.event_fd, own_fd };
  int set = forkq__os_poll_set_create(fds, 2);
  if (set < 0) {
    forkq__os_close(own_fd);
    return set;
  }
  forkq__os_event_raise(own_fd);
  queue->room.own_fd = own_fd;
  queue->room.set = set;
  FORKQ__STORE(queue->feeder.sender.looks, true);
  return 0;
}

int forkq_queue_room_fileno(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (atomic_load(&queue->channel.closed))
    r = FORKQ_ECLOSED;
  else if (!is_asked_for(queue))
    r = make_descriptors(queue);
  if (r == 0)
    r = queue->room.set;
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

/* The wake-up that came for this process may have been for another putter as well. */
static void end_watching(forkq_queue_t *queue) {
  if (!queue->room.watching)
    return;
  queue->room.watching = false;
  queue->room.look_at = FORKQ__FOREVER;
  bool crowd = forkq__look_end(&queue->room.look);
  forkq__slots_watch_end(&queue->slots);
  if (crowd || !forkq__slots_full(&queue->slots))
    forkq__slots_freed(&queue->slots);
}

static void begin_watching(forkq_queue_t *queue) {
  if (queue->room.watching)
    return;
  queue->room.watching = true;
  queue->room.look = forkq__look_begin(&queue->segment->slots.look, FORKQ__SEATS,
                                       FORKQ__FIRST_LOOK_MS, FORKQ__LAST_LOOK_MS);
  forkq__slots_watch_begin(&queue->slots);
}

/* A put that would be refused does not wait. */
static bool would_wait(forkq_queue_t *queue) {
  return forkq__queue_is_full(queue) && !forkq__queue_is_shut(queue) &&
         !atomic_load(&queue->channel.puts_closed);
}

static void look_later(forkq_queue_t *queue) {
  queue->room.look_at = forkq__look_until(&queue->room.look, FORKQ__FOREVER);
}

static void tell(forkq_queue_t *queue) {
  end_watching(queue);
  forkq__os_event_raise(queue->room.own_fd);
}

/* Lowers the events before it looks again: room that comes after this raises one of them. Without the
 * feeder's thread nobody would look, so the program is to try again. */
void forkq__queue_note_no_room(forkq_queue_t *queue) {
  if (!is_asked_for(queue))
    return;
  begin_watching(queue);
  forkq__os_event_lower(queue->room.own_fd);
  forkq__slots_watch_woken(&queue->slots);
  if (!would_wait(queue) || forkq__feeder_start_thread(&queue->feeder) < 0) {
    tell(queue);
    return;
  }
  look_later(queue);
  forkq__queue_plan_look(queue);
}

void forkq__queue_look_for_room(forkq_queue_t *queue) {
  if (forkq__look_due(&queue->room.look))
    (void)forkq__queue_reap(queue);
  if (would_wait(queue))
    look_later(queue);
  else
    tell(queue);
}

void forkq__queue_tell_room(forkq_queue_t *queue) {
  if (is_asked_for(queue))
    tell(queue);
}

void forkq__queue_end_room(forkq_queue_t *queue) {
  end_watching(queue);
  close_descriptors(queue);
}

/* The parent watches for itself, and has the seat. */
void forkq__queue_room_forked(forkq_queue_t *queue) {
  queue->room.watching = false;
  queue->room.look_at = FORKQ__FOREVER;
  FORKQ__STORE(queue->feeder.sender.looks, false);
  close_descriptors(queue);
}
