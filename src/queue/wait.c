/* forkq_wait: waiting for connections, descriptors and queues with one poll(2). A queue has three
 * descriptors in it: its pipe, its event, and the event of this process's interrupts. */
#include <forkq/wait.h>

#include "base/heap.h"
#include "base/os.h"
#include "base/times.h"
#include "codec/item.h"
#include "queue/queue_impl.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* For up to this many entries forkq_wait does not allocate. */
#define FEW 32

/* The most entries: the places of their table fit in an int. The system's own limit, the
 * descriptors that a process may have, is far below. */
#define ENTRIES_MAX (INT32_MAX / 4)

/* Entry i has its descriptor at fds[i]. A queue has a second one at fds[count + i], and a third one at
 * fds[2 * count + i]. The queues among the first `begun` entries are watched.
 *
 * `places` is a hash table that finds a descriptor which is listed twice. The number of places is a
 * power of two, and at least twice the number of entries. 0 marks a free place; a descriptor is
 * stored plus one. */
struct watch {
  struct pollfd *fds;
  unsigned *places;
  size_t place_count;
  nfds_t polled;
  const forkq_wait_entry_t *entries;
  size_t begun;
  bool polling; /* the queues' events of interrupts as well */
  void *memory; /* what was allocated for fds and places, or NULL */
  struct pollfd few_fds[3 * FEW];
  unsigned few_places[2 * FEW];
};

static int watch_init(struct watch *watch, const forkq_wait_entry_t *entries,
                      size_t count) {
  watch->entries = entries;
  watch->begun = 0;
  watch->polling = false;
  watch->memory = NULL;
  watch->fds = watch->few_fds;
  watch->places = watch->few_places;
  watch->place_count = 2 * FEW;
  if (count > FEW) {
    if (count > ENTRIES_MAX)
      return -EINVAL;
    while (watch->place_count < 2 * count)
      watch->place_count *= 2;
    const uint64_t fds_size = 3 * (uint64_t)count * sizeof *watch->fds;
    const uint64_t size = fds_size + watch->place_count * sizeof *watch->places;
    watch->memory = size <= FORKQ__MEMORY_MAX ? forkq__malloc((size_t)size) : NULL;
    if (watch->memory == NULL)
      return -ENOMEM;
    watch->fds = watch->memory;
    watch->places = (unsigned *)(void *)((char *)watch->memory + fds_size);
  }
  memset(watch->places, 0, watch->place_count * sizeof *watch->places);
  return 0;
}

/* Adds the descriptor to the table: whether it was not there yet. */
static bool watch_is_new(struct watch *watch, int fd) {
  const unsigned mark = (unsigned)fd + 1;
  const size_t mask = watch->place_count - 1;
  size_t place = mark & mask;
  while (watch->places[place] != 0) {
    if (watch->places[place] == mark)
      return false;
    place = (place + 1) & mask;
  }
  watch->places[place] = mark;
  return true;
}

static int descriptor_of(const forkq_wait_entry_t *entry) {
  switch (entry->kind) {
  case FORKQ_WAIT_CONNECTION:
    return forkq_connection_fileno(entry->on.connection);
  case FORKQ_WAIT_FD:
    return entry->on.fd >= 0 ? entry->on.fd : -EBADF;
  case FORKQ_WAIT_QUEUE:
    return forkq__queue_is_elsewhere(entry->on.queue)
               ? forkq_queue_fileno(entry->on.queue)
               : entry->on.queue->channel.read_fd;
  default:
    return -EINVAL;
  }
}

static bool is_any_queue(const forkq_wait_entry_t *entry) {
  return entry->kind == FORKQ_WAIT_QUEUE;
}

/* A queue that another library holds has a descriptor like any other, besides the event of interrupts. */
static bool is_queue(const forkq_wait_entry_t *entry) {
  return is_any_queue(entry) && !forkq__queue_is_elsewhere(entry->on.queue);
}

static struct forkq__interrupts *interrupts_of(const forkq_wait_entry_t *entry) {
  return &entry->on.queue->channel.interrupts;
}

/* See interrupt.h. */
static void begin_poll(struct watch *watch) {
  watch->polling = true;
  for (size_t i = 0; i < watch->begun; i++)
    if (is_any_queue(&watch->entries[i]))
      forkq__interrupts_begin_poll(interrupts_of(&watch->entries[i]));
}

/* Returns whether any of the events was raised. A thread that was cancelled does not know. */
static bool end_poll(struct watch *watch, bool cancelled) {
  bool any = false;
  watch->polling = false;
  for (size_t i = 0; i < watch->begun; i++) {
    bool saw = watch->fds[2 * watch->begun + i].revents != 0;
    if (!is_any_queue(&watch->entries[i]))
      continue;
    forkq__interrupts_end_poll(interrupts_of(&watch->entries[i]), cancelled || saw);
    any = any || saw;
  }
  return any;
}

/* Whether the thread is interrupted, by any of the queues. */
static bool interrupted(const struct watch *watch) {
  for (size_t i = 0; i < watch->begun; i++)
    if (is_any_queue(&watch->entries[i]) &&
        forkq__interrupted(interrupts_of(&watch->entries[i])))
      return true;
  return false;
}

/* Frees what a wait has, however it ends: by a return, or with its thread (pthread_cancel(3)). */
static void watch_fini(struct watch *watch) {
  if (watch->polling)
    (void)end_poll(watch, true);
  for (size_t i = 0; i < watch->begun; i++)
    if (is_queue(&watch->entries[i]))
      forkq__queue_watch_end(watch->entries[i].on.queue);
  forkq__free(watch->memory);
}

/* From here to watch_fini, no queue closes its descriptors. */
static int begin_queues(struct watch *watch, size_t count) {
  for (size_t i = 0; i < count; i++) {
    forkq_queue_t *queue = watch->entries[i].on.queue;
    int r = 0;
    if (is_any_queue(&watch->entries[i]))
      r = queue == NULL ? FORKQ_ENULL : forkq__queue_watch_begin(queue);
    if (r == -ENOTSUP && forkq__queue_is_elsewhere(queue))
      r = 0;
    if (r < 0)
      return r;
    watch->begun = i + 1;
  }
  return 0;
}

static int watch_add(struct watch *watch, const forkq_wait_entry_t *entries,
                     size_t count) {
  watch->polled = (nfds_t)count;
  for (size_t i = 0; i < count; i++) {
    int fd = descriptor_of(&entries[i]);
    if (fd < 0)
      return fd;
    if (!watch_is_new(watch, fd))
      return FORKQ_ETWICE;
    watch->fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
    watch->fds[count + i] = (struct pollfd){ .fd = -1, .events = POLLIN };
    watch->fds[2 * count + i] = (struct pollfd){ .fd = -1, .events = POLLIN };
    if (is_any_queue(&entries[i]))
      watch->polled = 3 * (nfds_t)count;
  }
  return 0;
}

/* Sets `ready` of each queue. Returns how many are ready, or FORKQ_ECLOSED. */
static int look_at_queues(struct watch *watch, forkq_wait_entry_t *entries,
                          size_t count) {
  int ready = 0;
  for (size_t i = 0; i < count; i++) {
    if (!is_queue(&entries[i]))
      continue;
    struct pollfd *event = &watch->fds[count + i];
    int r = forkq__queue_watch_look(entries[i].on.queue, event->revents != 0);
    if (r < 0)
      return r;
    entries[i].ready = r;
    ready += r;
  }
  return ready;
}

/* Sets what to poll of a queue's event of interrupts. Returns the deadline, which is soon where there is none. */
static int64_t prepare_interrupts(struct watch *watch, const forkq_wait_entry_t *entry,
                                  struct pollfd *event, int64_t deadline) {
  event->fd = watch->polling ? forkq__interrupts_fd(interrupts_of(entry)) : -1;
  return event->fd < 0 ? forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS) : deadline;
}

/* Sets what to poll, and returns the deadline of one poll. After a shutdown, or the end of the pipe, it is
 * soon, because there may be no wake-up when the last item or task is gone. */
static int64_t prepare_queues(struct watch *watch, const forkq_wait_entry_t *entries,
                              size_t count, int64_t deadline) {
  for (size_t i = 0; i < count; i++) {
    int fds[2];
    if (!is_any_queue(&entries[i]))
      continue;
    deadline =
        prepare_interrupts(watch, &entries[i], &watch->fds[2 * count + i], deadline);
    if (!is_queue(&entries[i]))
      continue;
    forkq__queue_watch_fds(entries[i].on.queue, fds);
    watch->fds[i].fd = fds[0];
    watch->fds[count + i].fd = fds[1];
    /* Lost tasks are found by a look. */
    if (entries[i].on.queue->channel.redelivers)
      deadline = forkq__os_deadline_within(deadline, FORKQ__LAST_LOOK_MS);
    if (fds[0] < 0 || fds[1] < 0)
      deadline = forkq__os_deadline_within(deadline, FORKQ__SHUTDOWN_LOOK_MS);
  }
  return watch->polling ? deadline
                        : forkq__os_deadline_within(deadline, FORKQ__INTERRUPT_PAUSE_MS);
}

/* poll(2) reports ends and errors without being asked. Entries with these are ready, too. */
static bool is_ready(const struct watch *watch, const forkq_wait_entry_t *entries,
                     size_t i) {
  return is_queue(&entries[i]) ? entries[i].ready != 0 : watch->fds[i].revents != 0;
}

static int count_ready(const struct watch *watch, const forkq_wait_entry_t *entries,
                       size_t count) {
  for (size_t i = 0; i < count; i++)
    if (watch->fds[i].revents & POLLNVAL)
      return -EBADF;
  int ready = 0;
  for (size_t i = 0; i < count; i++)
    ready += is_ready(watch, entries, i);
  return ready;
}

/* Polls until one entry may be ready: as forkq_wait, but it marks only queues. */
static int poll_once(struct watch *watch, forkq_wait_entry_t *entries, size_t count,
                     int64_t deadline) {
  int ready = look_at_queues(watch, entries, count);
  if (ready < 0)
    return ready;
  int64_t until = FORKQ__NOWAIT;
  if (ready == 0 && !interrupted(watch))
    until = prepare_queues(watch, entries, count, deadline);
  /* model: wait_poll */
  int r = forkq__os_poll_cancellable(watch->fds, watch->polled, until, NULL, NULL);
  if (r >= 0 && ready == 0 && r > 0)
    r = look_at_queues(watch, entries, count);
  return r >= 0 ? count_ready(watch, entries, count) : r;
}

static int wait_for_any(struct watch *watch, forkq_wait_entry_t *entries, size_t count,
                        int64_t deadline) {
  bool pause = false;
  for (;;) {
    if (!pause)
      begin_poll(watch);
    int r = poll_once(watch, entries, count, deadline);
    pause = !pause && end_poll(watch, false);
    if (r != 0 || deadline == FORKQ__NOWAIT)
      return r;
    if (interrupted(watch))
      return FORKQ_EINTERRUPTED;
    if (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline)
      return 0;
  }
}

static int tell(const struct watch *watch, int result) {
  for (size_t i = 0; i < watch->begun && result == FORKQ_EINTERRUPTED; i++)
    if (is_any_queue(&watch->entries[i]) &&
        forkq__interrupted(interrupts_of(&watch->entries[i])))
      (void)forkq__interrupts_tell(interrupts_of(&watch->entries[i]), result);
  return result;
}

int forkq_wait(forkq_wait_entry_t *entries, size_t count, int timeout_ms) {
  if (entries == NULL && count > 0)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  const int64_t deadline = forkq__os_deadline(timeout_ms);
  __attribute__((cleanup(watch_fini))) struct watch watch;
  int r = watch_init(&watch, entries, count);
  if (r == 0)
    r = begin_queues(&watch, count);
  if (r == 0)
    r = watch_add(&watch, entries, count);
  if (r == 0)
    r = tell(&watch, wait_for_any(&watch, entries, count, deadline));
  for (size_t i = 0; r >= 0 && i < count; i++)
    entries[i].ready = is_ready(&watch, entries, i);
  return r;
}
