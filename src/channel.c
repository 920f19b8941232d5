#include "channel.h"

#include "log.h"
#include "os.h"
#include "serializer.h"

#include <errno.h>
#include <string.h>

/* How long a reader that has begun with a message waits for the rest before it leaves it. */
#define REST_MS 20

/* Once a shutdown is announced nobody sleeps for longer than this: who announced it, or who was
 * to bring the last items, may have died. */
#define SHUTDOWN_LOOK_MS 20

/* Who waits for a lock in order to get looks up this often, because the lock's owner may be
 * stopped (its death needs no look: the kernel passes the lock on), and to see the queue
 * closed. */
#define LOOK_MS 500

/* More empty packets in a row than a pipe holds are the end of the file. */
#define EMPTY_PACKETS 1024

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

/* ---- the packet that was read ahead ------------------------------------------------------ */

static bool has_unread(const struct forkq__channel_shared *shared) {
  uint32_t offset = FORKQ__LOAD(shared->offset);
  return offset != 0 && offset < shared->packet.length;
}

static uint64_t wire_after(const struct forkq__channel_shared *shared) {
  return FORKQ__LOAD(shared->wire_base) + shared->packet.length + FORKQ__PACKET_TAIL;
}

/* Makes a packet that lies in `packet` the current one. The store of `offset` is what counts:
 * before it the packet has not come, after it all else here can be had from it again. */
static void accept_packet(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  /* model: accept_base */
  FORKQ__STORE(shared->base, FORKQ__LOAD(channel->ledger->taken));
  /* model: accept_arrived */
  FORKQ__STORE(channel->ledger->cells[packet->cell].arrived_seq, packet->seq);
  /* model: accept_offset */
  FORKQ__STORE(shared->offset, FORKQ__PACKET_HEAD);
  /* model: accept_read_seq */
  FORKQ__STORE(shared->read_seq, packet->seq);
  /* model: accept_read_wire */
  FORKQ__STORE(shared->read_wire, wire_after(shared));
  FORKQ__STORE(shared->unread, packet->frames);
  /* model: accept_loading */
  FORKQ__STORE(shared->loading, 0);
}

static bool acceptable(struct forkq__channel *channel, size_t size) {
  struct forkq__channel_shared *shared = channel->shared;
  return forkq__packet_valid(&shared->packet, size) &&
         shared->packet.cell < FORKQ__CELLS_MAX &&
         shared->packet.seq > FORKQ__LOAD(shared->read_seq) &&
         shared->packet.seq <=
             FORKQ__LOAD(shared->write_seq); /* or it is not one of ours */
}

/* Messages that the frames before `offset` end. */
static uint64_t messages_before(const struct forkq__packet *packet, uint32_t offset) {
  if (packet->flags & FORKQ__FRAGMENT)
    return offset == packet->length ? forkq__packet_messages(packet) : 0;
  return forkq__packet_frames_before(packet, offset);
}

#define DROPPED UINT32_MAX

/* The counter of what a taker got. */
static _Atomic uint64_t *got_by(struct forkq__channel *channel, uint32_t taker) {
  struct forkq__ledger *ledger = channel->ledger;
  return taker == DROPPED ? &ledger->dropped : &ledger->cells[taker - 1].got;
}

static void repair_take(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  uint32_t taker = FORKQ__LOAD(shared->taker);
  if (taker == 0)
    return;
  bool took = FORKQ__LOAD(shared->offset) != FORKQ__LOAD(shared->take_offset);
  /* model: repair_got */
  FORKQ__STORE(*got_by(channel, taker), FORKQ__LOAD(shared->take_base) +
                                            (took ? FORKQ__LOAD(shared->take_items) : 0));
  /* model: repair_taker */
  FORKQ__STORE(shared->taker, 0);
}

/* After the death of a reader. Its read may have brought a packet: the magic says so, which
 * was wiped before. Should the kernel have copied the packet and left it in the pipe as well,
 * its number excludes the second. What was taken from the current packet says `offset`. */
static void repair_read(void *arg) {
  struct forkq__channel *channel = arg;
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  uint32_t offset = FORKQ__LOAD(shared->offset);
  atomic_fetch_add(&channel->ledger->recoveries, 1);
  /* `raised` may say 1 only where the event is raised; an event too many costs one look. */
  FORKQ__STORE(shared->raised, 0);
  repair_take(channel);
  if (offset == 0) {
    if (FORKQ__LOAD(shared->loading) &&
        acceptable(channel, packet->length + FORKQ__PACKET_TAIL))
      accept_packet(channel);
    /* model: repair_nothing */
    FORKQ__STORE(shared->loading, 0);
    return;
  }
  /* model: repair_read_seq */
  FORKQ__STORE(shared->read_seq, packet->seq);
  /* model: repair_read_wire */
  FORKQ__STORE(shared->read_wire, wire_after(shared));
  /* model: repair_taken */
  atomic_store(&channel->ledger->taken,
               FORKQ__LOAD(shared->base) + messages_before(packet, offset));
  FORKQ__STORE(shared->unread,
               packet->frames - forkq__packet_frames_before(packet, offset));
  /* model: repair_loading */
  FORKQ__STORE(shared->loading, 0);
}

/* A read brings nothing where a write could not copy its packet (older kernels leave an empty
 * one). It is never the end of the file: this process can write, too. */
static ssize_t read_packet(struct forkq__channel *channel) {
  ssize_t n = 0;
  for (int tries = 0; n == 0 && tries < EMPTY_PACKETS; tries++)
    n = forkq__os_read(channel->read_fd, &channel->shared->packet, FORKQ__PACKET_SIZE);
  return n;
}

/* Whether somebody who sleeps has to be told of a packet that is read. */
static bool to_be_told(struct forkq__channel_shared *shared) {
  return (atomic_load(&shared->asleep) || atomic_load(&shared->watchers)) &&
         !FORKQ__LOAD(shared->raised);
}

static bool pipe_readable(const struct forkq__channel *channel) {
  struct pollfd pipe = { .fd = channel->read_fd, .events = POLLIN };
  return forkq__os_poll(&pipe, 1, FORKQ__NOWAIT) > 0;
}

/* Reads one packet from the pipe: 0, or -EAGAIN if there is none, or FORKQ_EBADFRAME. */
static int load_packet(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  /* Nobody is woken for an empty pipe. */
  if (to_be_told(shared) && !pipe_readable(channel))
    return -EAGAIN;
  /* model: load_offset */
  FORKQ__STORE(shared->offset, 0);
  /* model: load_wire_base */
  FORKQ__STORE(shared->wire_base, FORKQ__LOAD(shared->read_wire));
  /* model: load_wiped */
  shared->packet.magic = 0;
  /* model: load_loading */
  atomic_store(&shared->loading, 1);
  /* A sleeper that looked at `loading` before will not hear of this packet from the pipe,
   * for it will have left it. It is told first: should this process die behind the read,
   * the one that it woke finds the packet. */
  if (to_be_told(shared)) {
    forkq__os_event_raise(channel->event_fd);
    FORKQ__STORE(shared->raised, 1);
  }
  /* model: load_read */
  ssize_t n = read_packet(channel);
  if (n > 0 && acceptable(channel, (size_t)n)) {
    accept_packet(channel);
    return 0;
  }
  /* model: load_nothing */
  FORKQ__STORE(shared->loading, 0);
  if (n <= 0)
    return n < 0 ? (int)n : FORKQ_EBROKEN;
  forkq__log(FORKQ_LOG_ERROR, "dropped %zd bytes that are not a packet", n);
  return FORKQ_EBADFRAME;
}

/* Passes over `frames` frames, the last of which ends at `next`; `messages` end in them. */
static void consume(struct forkq__channel *channel, uint32_t next, uint32_t frames,
                    uint64_t messages) {
  struct forkq__channel_shared *shared = channel->shared;
  /* model: consume_offset */
  FORKQ__STORE(shared->offset, next);
  if (messages > 0)
    /* model: consume_taken */
    FORKQ__STORE(channel->ledger->taken, FORKQ__LOAD(channel->ledger->taken) + messages);
  FORKQ__STORE(shared->unread, FORKQ__LOAD(shared->unread) - frames);
}

/* The same, and counts them as got by `taker`. */
static void consume_for(struct forkq__channel *channel, uint32_t taker, uint32_t next,
                        uint32_t frames, uint64_t messages) {
  struct forkq__channel_shared *shared = channel->shared;
  if (!channel->joinable || messages == 0) {
    consume(channel, next, frames, messages);
    return;
  }
  _Atomic uint64_t *got = got_by(channel, taker);
  /* model: take_base */
  FORKQ__STORE(shared->take_base, FORKQ__LOAD(*got));
  /* model: take_items */
  FORKQ__STORE(shared->take_items, (uint32_t)messages);
  /* model: take_offset */
  FORKQ__STORE(shared->take_offset, FORKQ__LOAD(shared->offset));
  /* model: take_taker */
  FORKQ__STORE(shared->taker, taker);
  consume(channel, next, frames, messages);
  /* model: take_got */
  FORKQ__STORE(*got, FORKQ__LOAD(*got) + messages);
  /* model: take_noted */
  FORKQ__STORE(shared->taker, 0);
}

static void take(struct forkq__channel *channel, uint32_t next, uint64_t messages) {
  consume_for(channel, channel->cell + 1, next, 1, messages);
}

static void drop(struct forkq__channel *channel, uint32_t next, uint64_t messages) {
  consume_for(channel, DROPPED, next, 1, messages);
}

/* ---- receiving --------------------------------------------------------------------------- */

static int take_small(struct forkq__channel *channel, forkq_item_t *item) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__frame frame =
      forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
  int r = forkq__item_reserve(item, frame.size);
  if (r < 0)
    return r;
  memcpy(item->memory_, frame.data, frame.size);
  forkq__item_finish(item, frame.size);
  take(channel, frame.next, 1);
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
    drop(channel, frame.next, forkq__packet_messages(packet));
    return -EINPROGRESS;
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
  take(channel, frame.next, forkq__packet_messages(packet));
  if (!(packet->flags & FORKQ__LAST))
    return -EINPROGRESS;
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

/* Takes the fragment that is the current packet: 0 when it ends the message, -EINPROGRESS
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
    drop(channel, frame.next, forkq__packet_messages(packet));
    return first ? FORKQ_EBADFRAME : -EINPROGRESS;
  }
  int r = append_private(assembly, item, packet, frame);
  if (r < 0) {
    int kept = keep(channel, assembly, item);
    return kept < 0 ? kept : r;
  }
  take(channel, frame.next, forkq__packet_messages(packet));
  if (!(packet->flags & FORKQ__LAST))
    return -EINPROGRESS;
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
  return r < 0 ? r : -EAGAIN;
}

/* Waits for more of a message that has begun: 0 to go on, -EAGAIN when it was left, or
 * dropped as its sender is dead. It keeps the read lock, and so it waits for no more than a
 * moment: the rest of a message comes at once, or something is amiss. */
static int wait_for_rest(struct forkq__channel *channel, struct forkq__assembly *assembly,
                         forkq_item_t *item, int64_t deadline) {
  struct pollfd pipe = { .fd = channel->read_fd, .events = POLLIN };
  if (deadline != FORKQ__NOWAIT)
    deadline = forkq__os_deadline_within(deadline, REST_MS);
  int ready = forkq__os_poll(&pipe, 1, deadline);
  if (ready > 0)
    return 0;
  if (ready < 0 || sender_lives(channel, assembly))
    return leave(channel, assembly, item);
  /* What it wrote before its death is there by now. */
  if (forkq__os_poll(&pipe, 1, FORKQ__NOWAIT) > 0)
    return 0;
  drop_torn(channel, assembly);
  return -EAGAIN;
}

static bool over(struct forkq__channel *channel, int64_t deadline) {
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
    if (!has_unread(shared)) {
      r = load_packet(channel);
      if (r == -EAGAIN && assembly.active)
        r = wait_for_rest(channel, &assembly, item, deadline);
      else if (r < 0 && assembly.active)
        (void)keep(channel, &assembly, item);
      if (r < 0)
        return r;
    } else if (shared->packet.flags & FORKQ__FRAGMENT) {
      r = take_fragment(channel, &assembly, item);
      if (r != -EINPROGRESS)
        return r;
      if (++fragments % FRAGMENTS_PER_LOOK == 0 && over(channel, deadline))
        return leave(channel, &assembly, item);
    } else {
      drop_torn(channel, &assembly);
      return take_small(channel, item);
    }
  }
}

static int receive_locked(struct forkq__channel *channel, forkq_item_t *item,
                          int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  int r = receive_message(channel, item, deadline);
  if (r == 0)
    FORKQ__STORE(shared->bytes_taken, FORKQ__LOAD(shared->bytes_taken) + item->size);
  return r;
}

int forkq__channel_try_lock_read(struct forkq__channel *channel) {
  return forkq__lock_try(&channel->shared->read_lock, repair_read, channel);
}

int forkq__channel_lock_read(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__lock *lock = &channel->shared->read_lock;
  int r = forkq__channel_try_lock_read(channel);
  if (r != -EBUSY)
    return r;
  deadline = deadline == FORKQ__NOWAIT
                 ? forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS)
                 : forkq__os_deadline_within(deadline, LOOK_MS);
  r = forkq__lock_acquire(lock, deadline, repair_read, channel);
  return r == FORKQ_TIMEDOUT ? -EAGAIN : r;
}

void forkq__channel_unlock_read(struct forkq__channel *channel) {
  forkq__lock_release(&channel->shared->read_lock);
}

bool forkq__channel_settle_reads(struct forkq__channel *channel) {
  uint64_t before = FORKQ__LOAD(channel->ledger->taken);
  if (forkq__lock_try(&channel->shared->read_lock, repair_read, channel) != 0)
    return false;
  forkq__channel_unlock_read(channel);
  return FORKQ__LOAD(channel->ledger->taken) != before;
}

bool forkq__channel_shutting(struct forkq__channel *channel) {
  return atomic_load(&channel->shared->shutting) != 0;
}

void forkq__channel_announce_shutdown(struct forkq__channel *channel) {
  atomic_store(&channel->shared->shutting, 1);
  forkq__channel_poke(channel);
}

/* Nothing is there that the event could stand for. The order keeps the promise of `raised`. A
 * shutdown raises the event for good. */
static void lower_event(struct forkq__channel *channel) {
  FORKQ__STORE(channel->shared->raised, 0);
  forkq__os_event_lower(channel->event_fd);
  if (forkq__channel_shutting(channel))
    forkq__os_event_raise(channel->event_fd);
}

static int receive(struct forkq__channel *channel, forkq_item_t *item, int64_t deadline,
                   bool saw_event) {
  int r = forkq__channel_lock_read(channel, deadline);
  if (r < 0)
    return r;
  r = receive_locked(channel, item, deadline);
  /* Who watches may have raised it himself, and would see it for ever. */
  if (r == -EAGAIN && (saw_event || FORKQ__LOAD(channel->shared->raised) ||
                       atomic_load(&channel->shared->watchers)))
    lower_event(channel);
  forkq__channel_unlock_read(channel);
  return r;
}

/* No packet has been numbered behind the last one that came. A hint: it says nothing of what a
 * stranger has written, which a read finds, as it finds an event that stands for nothing. */
static bool all_came(const struct forkq__channel_shared *shared) {
  return FORKQ__LOAD(shared->unread) == 0 && FORKQ__LOAD(shared->loading) == 0 &&
         atomic_load(&shared->watchers) == 0 &&
         FORKQ__LOAD(shared->write_seq) == FORKQ__LOAD(shared->read_seq);
}

int forkq__channel_receive(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  /* Who can wait need not read in vain: before it sleeps it polls the pipe itself. */
  if (deadline != FORKQ__NOWAIT && all_came(channel->shared))
    return -EAGAIN;
  return receive(channel, item, deadline, false);
}

void forkq__channel_drain(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  if (forkq__channel_lock_read(channel, FORKQ__NOWAIT) != 0)
    return; /* a reader that is in a message sees the shutdown itself */
  forkq__partial_drop(&shared->partial, channel->spill);
  for (;;) {
    if (has_unread(shared)) {
      struct forkq__frame frame =
          forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
      bool ends = !(shared->packet.flags & FORKQ__FRAGMENT) ||
                  (shared->packet.flags & FORKQ__LAST);
      drop(channel, frame.next, ends ? 1 : 0);
      continue;
    }
    int r = load_packet(channel);
    if (r < 0 && r != FORKQ_EBADFRAME)
      break;
  }
  forkq__channel_unlock_read(channel);
}

/* ---- sleeping ---------------------------------------------------------------------------- */

static void repair_turn(void *arg) {
  struct forkq__channel *channel = arg;
  atomic_fetch_add(&channel->ledger->recoveries, 1);
  atomic_store(&channel->shared->asleep, 0);
}

/* Sleeps until there may be something; 1 if the event was raised, 0 if not, or why it could
 * not sleep. The owner of the turn calls it. */
static int watch(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  struct pollfd fds[] = {
    { .fd = channel->read_fd, .events = POLLIN },
    { .fd = channel->event_fd, .events = POLLIN },
  };
  int r = 0;
  FORKQ__STORE(shared->hastened, 0);
  atomic_store(&shared->asleep, 1);
  /* A reader that did not see `asleep` is seen here. */
  if (atomic_load(&shared->loading) == 0 && atomic_load(&shared->unread) == 0 &&
      !atomic_load(&channel->closed)) {
    atomic_fetch_add(&shared->getter_waits, 1);
    /* Then the event says nothing any more. */
    if (forkq__channel_shutting(channel))
      r = forkq__os_poll(fds, 1, forkq__os_deadline_within(deadline, SHUTDOWN_LOOK_MS));
    else
      r = forkq__os_poll(fds, 2, deadline);
  }
  atomic_store(&shared->asleep, 0);
  return r < 0 ? r : fds[1].revents != 0;
}

/* Owns the turn until a message is there. The caller has found none, so it begins with a look
 * that costs no read where there still is none. */
static int receive_in_turn(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline) {
  for (;;) {
    if (atomic_load(&channel->closed))
      return FORKQ_ECLOSED;
    int saw_event = watch(channel, deadline);
    if (saw_event < 0)
      return saw_event;
    int r = receive(channel, item, deadline, saw_event != 0);
    if (r != -EAGAIN)
      return r;
    if (forkq__channel_exhausted(channel))
      return FORKQ_ESHUTDOWN;
    if (over(channel, deadline))
      return atomic_load(&channel->closed) ? FORKQ_ECLOSED : FORKQ_TIMEDOUT;
  }
}

int forkq__channel_receive_wait(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline) {
  for (;;) {
    int r = forkq__lock_acquire(&channel->shared->turn,
                                forkq__os_deadline_within(deadline, LOOK_MS), repair_turn,
                                channel);
    if (r == 0) {
      r = receive_in_turn(channel, item, deadline);
      forkq__lock_release(&channel->shared->turn);
      return r;
    }
    if (r != FORKQ_TIMEDOUT)
      return r;
    if (atomic_load(&channel->closed))
      return FORKQ_ECLOSED;
    r = forkq__channel_receive(channel, item, FORKQ__NOWAIT);
    if (r != -EAGAIN)
      return r;
    if (over(channel, deadline))
      return FORKQ_TIMEDOUT;
  }
}

bool forkq__channel_exhausted(struct forkq__channel *channel) {
  switch (FORKQ__LOAD(channel->shared->shutdown)) {
  case FORKQ__OPEN:
    return false;
  case FORKQ__DRAINING:
    if (forkq__ledger_size(channel->ledger) == 0)
      return true;
    forkq__channel_reap(channel);
    return forkq__ledger_size(channel->ledger) == 0;
  default:
    return true;
  }
}

void forkq__channel_watch_begin(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  atomic_fetch_add(&shared->watchers, 1);
  /* What was read ahead before that, or is just being read, raised nothing. */
  if (atomic_load(&shared->loading) || atomic_load(&shared->unread))
    forkq__os_event_raise(channel->event_fd);
}

void forkq__channel_watch_end(struct forkq__channel *channel) {
  atomic_fetch_sub(&channel->shared->watchers, 1);
}

bool forkq__channel_watch_look(struct forkq__channel *channel, bool saw_event) {
  struct forkq__channel_shared *shared = channel->shared;
  /* A reader is at it, or died at it; with its lock in hand that is over. */
  if ((saw_event || atomic_load(&shared->loading)) &&
      forkq__channel_lock_read(channel, FORKQ__NOWAIT) == 0) {
    if (saw_event && !has_unread(shared))
      lower_event(channel);
    forkq__channel_unlock_read(channel);
  }
  return atomic_load(&shared->unread) > 0 || pipe_readable(channel) ||
         forkq__channel_exhausted(channel);
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
  consume_for(channel, channel->cell + 1, next, taken, taken);
  FORKQ__STORE(shared->bytes_taken, FORKQ__LOAD(shared->bytes_taken) + bytes);
  return r;
}

/* A large message is left for a call that can wait for its rest. */
static int receive_run(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                       size_t *ret_received) {
  struct forkq__channel_shared *shared = channel->shared;
  int r = has_unread(shared) ? 0 : load_packet(channel);
  if (r == 0 && shared->packet.flags & FORKQ__FRAGMENT)
    r = -EAGAIN;
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
  return r == -EAGAIN ? 0 : r;
}

void forkq__channel_poke(struct forkq__channel *channel) {
  forkq__os_event_raise(channel->event_fd);
}
