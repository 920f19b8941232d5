#include "channel.h"

#include "log.h"
#include "os.h"
#include "read_ahead.h"
#include "serializer.h"

#include <errno.h>
#include <string.h>

/* How long a reader that has begun with a message waits for the rest before it leaves it, and
 * how often it looks meanwhile whether the sender lives. */
#define REST_MS 20
#define REST_LOOK_MS 2

/* Pieces of a message between two looks at the clock. */
#define FRAGMENTS_PER_LOOK 64

int forkq__channel_init(struct forkq__channel_shared *shared) {
  int r = forkq__lock_init(&shared->write_lock);
  if (r == 0)
    r = forkq__lock_init(&shared->read_lock);
  if (r == 0)
    r = forkq__lock_init(&shared->turn);
  return r;
}

static int take_small(struct forkq__channel *channel, forkq_item_t *item) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__frame frame =
      forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
  int r = forkq__item_reserve(item, frame.size);
  if (r < 0)
    return r;
  memcpy(item->memory_, frame.data, frame.size);
  forkq__item_finish(item, frame.size);
  forkq__ahead_take(channel, frame.next, 1, 1);
  return 0;
}

static __attribute__((noinline)) void drop_beginning(struct forkq__channel *channel,
                                                     struct forkq__assembly *assembly) {
  forkq__log(FORKQ_LOG_WARNING, "dropped the beginning of a message without its end");
  assembly->active = false;
  forkq__partial_drop(&channel->shared->partial, channel->spill);
}

static inline void drop_torn(struct forkq__channel *channel,
                             struct forkq__assembly *assembly) {
  if (assembly->active || FORKQ__LOAD(channel->shared->partial.cell) != 0)
    drop_beginning(channel, assembly);
}

static bool continues(const struct forkq__assembly *assembly,
                      const struct forkq__packet *packet, uint32_t size) {
  return assembly->active && assembly->cell == packet->cell &&
         size <= assembly->total - assembly->have;
}

/* Room for what has come, twice that at most: the total is the sender's word only. */
static int append_private(struct forkq__assembly *assembly, forkq_item_t *item,
                          const struct forkq__packet *packet, struct forkq__frame frame) {
  int r = forkq__item_reserve(item, (size_t)assembly->have + frame.size);
  if (r < 0)
    return r;
  memcpy(item->memory_ + assembly->have, frame.data, frame.size);
  assembly->have += frame.size;
  assembly->seq = packet->seq;
  return 0;
}

/* Takes the current packet's fragment into a message that was kept. */
static int take_kept(struct forkq__channel *channel, forkq_item_t *item,
                     struct forkq__frame frame) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  struct forkq__assembly kept = forkq__partial_kept(&shared->partial, packet->seq);
  /* Equal: a reader died between its append and its consume. */
  bool appended = kept.seq == packet->seq;
  if (!appended && !continues(&kept, packet, frame.size)) {
    struct forkq__assembly none = { 0 };
    drop_torn(channel, &none);
    forkq__ahead_drop(channel, frame.next, forkq__packet_messages(packet));
    return FORKQ__MORE;
  }
  int r = 0;
  if (!appended)
    r = forkq__partial_append(&shared->partial, channel->spill, packet->seq, frame.data,
                              frame.size);
  if (r == 0 && packet->flags & FORKQ__LAST) {
    kept = forkq__partial_kept(&shared->partial, packet->seq);
    r = forkq__item_reserve(item, kept.have);
    if (r == 0)
      r = forkq__partial_read(&shared->partial, channel->spill, item->memory_);
  }
  if (r < 0)
    return -ENOMEM;
  forkq__ahead_take(channel, frame.next, 1, forkq__packet_messages(packet));
  if (!(packet->flags & FORKQ__LAST))
    return FORKQ__MORE;
  forkq__partial_drop(&shared->partial, channel->spill);
  if (kept.have != kept.total)
    return FORKQ_EBADFRAME;
  forkq__item_finish(item, kept.have);
  return 0;
}

/* Keeps what there is of a message for whoever reads next. Where that cannot be done the
 * message is lost, and the get that has it fails. */
static int keep(struct forkq__channel *channel, struct forkq__assembly *assembly,
                forkq_item_t *item) {
  int r = 0;
  if (assembly->active && assembly->have > 0)
    r = forkq__partial_keep(&channel->shared->partial, channel->spill, assembly,
                            item->memory_);
  if (r < 0)
    forkq__log(FORKQ_LOG_ERROR, "lost a message: no memory to keep a part of it");
  assembly->active = false;
  return r;
}

/* Takes the fragment that is the current packet: 0 when it ends the message, FORKQ__MORE
 * when more is to come or it was dropped. */
static int take_fragment(struct forkq__channel *channel, struct forkq__assembly *assembly,
                         forkq_item_t *item) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  struct forkq__frame frame = forkq__packet_frame(packet, FORKQ__LOAD(shared->offset));
  if (packet->flags & FORKQ__FIRST) {
    drop_torn(channel, assembly);
    assembly->active = packet->total <= channel->max_message;
    assembly->cell = packet->cell;
    assembly->owner = FORKQ__LOAD(channel->ledger->cells[packet->cell].owners);
    assembly->total = packet->total;
    assembly->have = 0;
  } else if (!assembly->active && FORKQ__LOAD(shared->partial.cell) != 0) {
    return take_kept(channel, item, frame);
  }
  if (!continues(assembly, packet, frame.size)) {
    bool first = packet->flags & FORKQ__FIRST;
    drop_torn(channel, assembly);
    forkq__ahead_drop(channel, frame.next, forkq__packet_messages(packet));
    return first ? FORKQ_EBADFRAME : FORKQ__MORE;
  }
  int r = append_private(assembly, item, packet, frame);
  if (r < 0) {
    int kept = keep(channel, assembly, item);
    return kept < 0 ? kept : r;
  }
  forkq__ahead_take(channel, frame.next, 1, forkq__packet_messages(packet));
  if (!(packet->flags & FORKQ__LAST))
    return FORKQ__MORE;
  if (assembly->have != assembly->total)
    return FORKQ_EBADFRAME;
  forkq__item_finish(item, assembly->have);
  return 0;
}

static bool sender_lives(struct forkq__channel *channel,
                         const struct forkq__assembly *assembly) {
  return FORKQ__LOAD(channel->ledger->cells[assembly->cell].owners) == assembly->owner &&
         forkq__ledger_alive(channel->spill.fd, channel->cell, assembly->cell);
}

/* Leaves a message, or what there is of it, for a later get. */
static int leave(struct forkq__channel *channel, struct forkq__assembly *assembly,
                 forkq_item_t *item) {
  int r = keep(channel, assembly, item);
  return r < 0 ? r : FORKQ__NOTHING;
}

/* Polls until more of a message comes, its sender dies or the deadline is over: what poll
 * returned last. */
static int poll_for_rest(struct forkq__channel *channel,
                         const struct forkq__assembly *assembly, int64_t deadline) {
  struct pollfd pipe = { .fd = channel->read_fd, .events = POLLIN };
  for (;;) {
    int64_t look = deadline;
    if (deadline != FORKQ__NOWAIT)
      look = forkq__os_deadline_within(deadline, REST_LOOK_MS);
    int ready = forkq__os_poll(&pipe, 1, look);
    if (ready != 0 || look == deadline || !sender_lives(channel, assembly))
      return ready;
  }
}

/* Waits for more of a message that has begun: 0 to go on, FORKQ__NOTHING when it was left, or
 * dropped as its sender is dead. It keeps the read lock, and so it waits for no more than a
 * moment: the rest of a message comes at once, or something is amiss. */
static int wait_for_rest(struct forkq__channel *channel, struct forkq__assembly *assembly,
                         forkq_item_t *item, int64_t deadline) {
  if (deadline != FORKQ__NOWAIT)
    deadline = forkq__os_deadline_within(deadline, REST_MS);
  int ready = poll_for_rest(channel, assembly, deadline);
  if (ready > 0)
    return 0;
  if (ready < 0 || sender_lives(channel, assembly))
    return leave(channel, assembly, item);
  /* What it wrote before its death is there by now. */
  if (forkq__channel_pipe_readable(channel))
    return 0;
  drop_torn(channel, assembly);
  return FORKQ__NOTHING;
}

bool forkq__channel_over(struct forkq__channel *channel, int64_t deadline) {
  return atomic_load(&channel->closed) ||
         (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline);
}

/* With the read lock. */
static int receive_message(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__assembly assembly = { 0 };
  for (int fragments = 0;;) {
    int r;
    if (!forkq__ahead_unread(shared)) {
      r = forkq__ahead_load(channel);
      if (r == FORKQ__NOTHING && assembly.active)
        r = wait_for_rest(channel, &assembly, item, deadline);
      else if (r < 0 && assembly.active)
        (void)keep(channel, &assembly, item);
      if (r < 0)
        return r;
    } else if (shared->packet.flags & FORKQ__FRAGMENT) {
      r = take_fragment(channel, &assembly, item);
      if (r != FORKQ__MORE)
        return r;
      if (++fragments % FRAGMENTS_PER_LOOK == 0 && forkq__channel_over(channel, deadline))
        return leave(channel, &assembly, item);
    } else {
      drop_torn(channel, &assembly);
      return take_small(channel, item);
    }
  }
}

int forkq__channel_receive_locked(struct forkq__channel *channel, forkq_item_t *item,
                                  int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  int r = receive_message(channel, item, deadline);
  if (r == 0)
    FORKQ__STORE(shared->bytes_taken, FORKQ__LOAD(shared->bytes_taken) + item->size);
  return r;
}

/* Takes up to `count` messages of the current packet, which is of small ones, in one step. */
static int take_run(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                    size_t *ret_taken) {
  struct forkq__channel_shared *shared = channel->shared;
  uint32_t next = FORKQ__LOAD(shared->offset);
  uint32_t taken = 0, bytes = 0;
  int r = 0;
  while (taken < count && next < shared->packet.length) {
    struct forkq__frame frame = forkq__packet_frame(&shared->packet, next);
    r = forkq__item_reserve(&items[taken], frame.size);
    if (r < 0)
      break;
    memcpy(items[taken].memory_, frame.data, frame.size);
    forkq__item_finish(&items[taken++], frame.size);
    bytes += frame.size;
    next = frame.next;
  }
  *ret_taken = taken;
  if (taken == 0)
    return r;
  forkq__ahead_take(channel, next, taken, taken);
  FORKQ__STORE(shared->bytes_taken, FORKQ__LOAD(shared->bytes_taken) + bytes);
  return r;
}

/* A large message is left for a call that can wait for its rest. */
static int receive_run(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                       size_t *ret_received) {
  struct forkq__channel_shared *shared = channel->shared;
  int r = forkq__ahead_unread(shared) ? 0 : forkq__ahead_load(channel);
  if (r == 0 && shared->packet.flags & FORKQ__FRAGMENT)
    r = FORKQ__NOTHING;
  *ret_received = 0;
  return r == 0 ? take_run(channel, items, count, ret_received) : r;
}

int forkq__channel_receive_more(struct forkq__channel *channel, forkq_item_t *items,
                                size_t count, size_t *ret_received) {
  size_t received = 0;
  int r = forkq__channel_lock_read(channel, FORKQ__NOWAIT);
  if (r == 0) {
    while (received < count && r == 0) {
      size_t more;
      r = receive_run(channel, items + received, count - received, &more);
      received += more;
    }
    forkq__channel_unlock_read(channel);
  }
  *ret_received = received;
  return r == FORKQ__NOTHING ? 0 : r;
}

void forkq__channel_drain(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  if (forkq__channel_lock_read(channel, FORKQ__NOWAIT) != 0)
    return; /* a reader that is in a message sees the shutdown itself */
  forkq__partial_drop(&shared->partial, channel->spill);
  for (;;) {
    if (forkq__ahead_unread(shared)) {
      struct forkq__frame frame =
          forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
      bool ends = !(shared->packet.flags & FORKQ__FRAGMENT) ||
                  (shared->packet.flags & FORKQ__LAST);
      forkq__ahead_drop(channel, frame.next, ends ? 1 : 0);
      continue;
    }
    int r = forkq__ahead_load(channel);
    if (r < 0 && r != FORKQ_EBADFRAME)
      break;
  }
  forkq__channel_unlock_read(channel);
}
