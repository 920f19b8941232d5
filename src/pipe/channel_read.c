/* Reading a packet for all getters, and taking frames from it, under the read lock.
 *
 * The store of `offset` decides in both: 0 means no packet, else the frames before `offset` are
 * taken, and all other fields follow from the packet. With task_done, a take is noted in `take*`
 * and `taker` before, because the count of items got does not follow from the packet.
 *
 *   a reader dies after           and leaves                       repair_read
 *   load_offset                   offset 0; the read has not       sets `loading` to 0
 *                                 begun, or brought nothing
 *   load_read                     offset 0, `loading`, and the     accepts the packet
 *                                 packet with its magic and tail
 *     (as it is copied)           the packet without magic or      sets `loading` to 0: the packet
 *                                 tail, and in the pipe            is read again
 *   accept_offset                 a packet, its numbers not        sets `read_seq`, `read_wire`,
 *                                 counted                          `unread` from the packet
 *   consume_offset                frames taken, and not counted    sets `taken`, `unread` from
 *                                                                  `base` and `offset`
 *   take_taker                    a noted take, done or not        sets the count of items got
 *                                                                  (repair_take)
 *
 * Where tasks are kept, the entry is prepared before the note, and taken before the note ends. So after a
 * death it is as the note says: of a take that was done, or begun, or over. A take of a lost task steps
 * over no frame: the word of its entry says whether it is done. */
#include "pipe/channel_read.h"

#include "base/contract.h"
#include "base/log.h"
#include "base/os.h"
#include "base/times.h"
#include "codec/item.h"

#include <errno.h>

/* A reader that finds more empty packets in a row than a pipe holds takes this for the end of
 * the file. */
#define EMPTY_PACKETS 1024

static uint64_t wire_after(const struct forkq__channel_shared *shared) {
  return FORKQ__LOAD(shared->wire_base) + shared->packet.length + FORKQ__PACKET_TAIL;
}

/* Makes the packet that lies in `packet` the current one. The store of `offset` decides: see
 * above. */
static void accept_packet(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  /* model: accept_base */
  FORKQ__STORE(shared->base, FORKQ__LOAD(channel->account.ledger->taken));
  /* model: accept_arrived */
  FORKQ__STORE(channel->account.ledger->cells[packet->cell].arrived_seq, packet->seq);
  /* model: accept_offset */
  FORKQ__STORE(shared->offset, FORKQ__PACKET_HEAD);
  /* model: accept_read_seq */
  FORKQ__STORE(shared->read_seq, packet->seq);
  /* model: accept_read_wire */
  FORKQ__STORE(shared->read_wire, wire_after(shared));
  /* model: accept_unread */
  FORKQ__STORE(shared->unread, packet->frames);
  /* model: accept_loading */
  FORKQ__STORE(shared->loading, 0);
}

static bool acceptable(struct forkq__channel *channel, size_t size) {
  struct forkq__channel_shared *shared = channel->shared;
  return forkq__packet_valid(&shared->packet, size) &&
         shared->packet.cell < FORKQ__LOAD(channel->account.ledger->cells_used) &&
         shared->packet.seq > FORKQ__LOAD(shared->read_seq) &&
         shared->packet.seq <=
             FORKQ__LOAD(shared->write_seq); /* else it is not one of ours */
}

/* Messages that end in the frames before `offset`. */
static uint64_t messages_before(const struct forkq__packet *packet, uint32_t offset) {
  if (packet->flags & FORKQ__FRAGMENT)
    return offset == packet->length ? forkq__packet_messages(packet) : 0;
  return forkq__packet_frames_before(packet, offset);
}

#define DROPPED UINT32_MAX

/* The counter of the items that a taker got, or of the dropped ones. */
static _Atomic uint64_t *got_by(struct forkq__channel *channel, uint32_t taker) {
  struct forkq__ledger *ledger = channel->account.ledger;
  return taker == DROPPED ? &ledger->dropped : &ledger->cells[taker - 1].got;
}

/* Whether the noted take was done. */
static bool was_taken(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  uint32_t kept = FORKQ__LOAD(shared->take_kept);
  return kept != 0 ? !forkq__kept_is_lost(channel->account.ledger, kept - 1)
                   : FORKQ__LOAD(shared->offset) != FORKQ__LOAD(shared->take_offset);
}

static void repair_take(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  uint32_t taker = FORKQ__LOAD(shared->taker);
  bool took = taker != 0 && was_taken(channel);
  if (channel->keeps)
    forkq__kept_repair(channel->account.ledger,
                       took && FORKQ__LOAD(shared->take_kept) == 0);
  if (taker == 0) {
    FORKQ__STORE(shared->take_kept, 0);
    return;
  }
  /* model: repair_got */
  FORKQ__STORE(*got_by(channel, taker), FORKQ__LOAD(shared->take_base) +
                                            (took ? FORKQ__LOAD(shared->take_items) : 0));
  /* model: repair_taker */
  FORKQ__STORE(shared->taker, 0);
  /* model: repair_take_kept */
  FORKQ__STORE(shared->take_kept, 0);
}

/* Called after the death of a reader. If its read brought a packet, the magic is back, which
 * was wiped before. If the kernel copied the packet and left it in the pipe as well, the
 * number excludes the second copy. `offset` tells which frames were taken from the current
 * packet. */
static void repair_read(void *arg) {
  struct forkq__channel *channel = arg;
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  uint32_t offset = FORKQ__LOAD(shared->offset);
  forkq__ledger_note_recovery(channel->account.ledger, FORKQ_INSPECT_READ_LOCK);
  /* `raised` may be 1 only while the event is raised. An event too many costs one look. */
  /* model: repair_raised */
  FORKQ__STORE(shared->raised, 0);
  repair_take(channel);
  forkq__spill_repair(&shared->spill, &channel->account);
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
  atomic_store(&channel->account.ledger->taken,
               FORKQ__LOAD(shared->base) + messages_before(packet, offset));
  /* model: repair_unread */
  FORKQ__STORE(shared->unread,
               packet->frames - forkq__packet_frames_before(packet, offset));
  /* model: repair_loading */
  FORKQ__STORE(shared->loading, 0);
}

/* Whether a sleeper or watcher must be told of a packet that is read. */
static bool to_be_told(struct forkq__channel_shared *shared) {
  /* model: told_asleep */
  return (atomic_load(&shared->asleep) ||
          /* model: told_watchers */
          atomic_load(&shared->watchers)) &&
         !FORKQ__LOAD(shared->raised);
}

static bool says_end(int events) {
  return events > 0 && (events & (POLLIN | POLLHUP)) == POLLHUP;
}

static int poll_pipe(const struct forkq__channel *channel) {
  struct pollfd pipe = { .fd = channel->read_fd, .events = POLLIN };
  int r = forkq__os_poll(&pipe, 1, FORKQ__NOWAIT);
  return r > 0 ? pipe.revents : r;
}

/* What poll(2) says of the pipe: 0 if nothing is there, or a negative errno. The kernel looks for bytes before
 * it looks for writers, and without a lock: the last write, and the end of its process, may come in between.
 * Once there is no writer, no more bytes come, so the second answer is right. */
static int pipe_events(const struct forkq__channel *channel) {
  int events = poll_pipe(channel);
  return says_end(events) ? poll_pipe(channel) : events;
}

bool forkq__channel_pipe_readable(const struct forkq__channel *channel) {
  return pipe_events(channel) > 0;
}

/* The kernel says so once the last descriptor of the writing end is closed, wherever it was: in a process,
 * in a child that never used the queue, or on its way through a socket. What was written before is read
 * first: until then poll says POLLIN as well. */
static bool is_end(const struct forkq__channel *channel, int events) {
  return FORKQ__LOAD(channel->puts_closed) && says_end(events);
}

bool forkq__channel_pipe_ended(const struct forkq__channel *channel) {
  return FORKQ__LOAD(channel->puts_closed) && is_end(channel, pipe_events(channel));
}

/* Whether there is more to read after a read that brought no bytes. On the pipe of a process that could put,
 * such a read is never the end of the file. */
static bool may_have_more(const struct forkq__channel *channel) {
  if (!FORKQ__LOAD(channel->puts_closed))
    return true;
  int events = pipe_events(channel);
  return events > 0 && (events & POLLIN) != 0;
}

/* A read brings no bytes where a write could not copy its packet (older kernels leave an empty
 * one), and at the end of the pipe. */
static ssize_t read_packet(struct forkq__channel *channel) {
  ssize_t n;
  int tries = 0;
  do
    n = forkq__os_read(channel->read_fd, &channel->shared->packet, FORKQ__PACKET_SIZE);
  while (n == 0 && ++tries < EMPTY_PACKETS && may_have_more(channel));
  return n;
}

/* There was nothing to read: also of processes that are gone, perhaps. */
static int find_nothing(struct forkq__channel *channel) {
  uint32_t orphans = FORKQ__LOAD(channel->account.ledger->orphans);
  if (orphans != FORKQ__LOAD(channel->shared->orphans_seen) &&
      forkq__channel_is_pipe(channel, channel->read_fd) &&
      forkq__pieces_release_orphans(&channel->account, channel->read_fd))
    FORKQ__STORE(channel->shared->orphans_seen, orphans);
  return FORKQ__NOTHING;
}

/* The number of the descriptor may be another pipe's by now. */
static int find_end(struct forkq__channel *channel) {
  (void)find_nothing(channel);
  return forkq__channel_is_pipe(channel, channel->read_fd) ? FORKQ_EALONE : -EBADF;
}

/* No getter is woken for an empty pipe: 0 if there is something to read, else what a load returns. */
static int peek(struct forkq__channel *channel) {
  int events = pipe_events(channel);
  if (events <= 0)
    return find_nothing(channel);
  return is_end(channel, events) ? find_end(channel) : 0;
}

/* The read brought no bytes: the end, or only empty packets. */
static int find_no_bytes(struct forkq__channel *channel) {
  bool could_put = !FORKQ__LOAD(channel->puts_closed);
  int events = could_put ? POLLIN : pipe_events(channel);
  if (events <= 0)
    return events < 0 ? events : find_nothing(channel);
  if (is_end(channel, events))
    return find_end(channel);
  return forkq__channel_is_pipe(channel, channel->read_fd) ? FORKQ_EBROKEN : -EBADF;
}

int forkq__channel_load(struct forkq__channel *channel) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  struct forkq__channel_shared *shared = channel->shared;
  /* model: load_peek */
  int r = to_be_told(shared) ? peek(channel) : 0;
  if (r != 0)
    return r;
  /* model: load_offset */
  FORKQ__STORE(shared->offset, 0);
  /* model: load_wire_base */
  FORKQ__STORE(shared->wire_base, FORKQ__LOAD(shared->read_wire));
  /* model: load_wiped */
  shared->packet.magic = 0;
  /* model: load_loading */
  atomic_store(&shared->loading, 1);
  /* A sleeper that looked at `loading` before this store does not learn of the packet from the
   * pipe, because the packet has left it by then. So the sleeper is told before the read: if
   * this process dies after the read, the getter that it woke finds the packet. */
  if (to_be_told(shared)) {
    /* model: load_raise */
    forkq__os_event_raise(channel->event_fd);
    /* model: load_raised */
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
  if (n == -EAGAIN)
    return find_nothing(channel);
  if (n == 0)
    return find_no_bytes(channel);
  if (!forkq__channel_is_pipe(channel, channel->read_fd))
    return -EBADF;
  if (n < 0)
    return (int)n;
  forkq__log(FORKQ_LOG_ERROR, channel->account.ledger->name,
             "dropped %zd bytes that are not a packet", n);
  return FORKQ_EBADFRAME;
}

/* Steps over `frames` frames, the last of which ends at `next`; `messages` end in them. */
static void consume(struct forkq__channel *channel, uint32_t next, uint32_t frames,
                    uint64_t messages) {
  struct forkq__channel_shared *shared = channel->shared;
  /* model: consume_offset */
  FORKQ__STORE(shared->offset, next);
  if (messages > 0)
    /* model: consume_taken */
    FORKQ__STORE(channel->account.ledger->taken,
                 FORKQ__LOAD(channel->account.ledger->taken) + messages);
  /* model: consume_unread */
  FORKQ__STORE(shared->unread, FORKQ__LOAD(shared->unread) - frames);
}

/* Notes that a take of so many items by `taker` has begun. Returns the counter of these. */
static inline _Atomic uint64_t *note_take(struct forkq__channel *channel, uint32_t taker,
                                          uint64_t messages) {
  struct forkq__channel_shared *shared = channel->shared;
  _Atomic uint64_t *got = got_by(channel, taker);
  /* model: take_base */
  FORKQ__STORE(shared->take_base, FORKQ__LOAD(*got));
  /* model: take_items */
  FORKQ__STORE(shared->take_items, (uint32_t)messages);
  /* model: take_offset */
  FORKQ__STORE(shared->take_offset, FORKQ__LOAD(shared->offset));
  /* model: take_taker */
  FORKQ__STORE(shared->taker, taker);
  return got;
}

static inline void end_take(struct forkq__channel *channel, _Atomic uint64_t *got,
                            uint64_t messages) {
  /* model: take_got */
  FORKQ__STORE(*got, FORKQ__LOAD(*got) + messages);
  /* model: take_noted */
  FORKQ__STORE(channel->shared->taker, 0);
}

/* As consume, and counts the messages as got by `taker`. */
static void consume_for(struct forkq__channel *channel, uint32_t taker, uint32_t next,
                        uint32_t frames, uint64_t messages) {
  _Atomic uint64_t *got = note_take(channel, taker, messages);
  consume(channel, next, frames, messages);
  end_take(channel, got, messages);
}

void forkq__channel_pass(struct forkq__channel *channel, uint32_t next, uint32_t frames,
                         uint64_t messages) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  consume(channel, next, frames, messages);
}

/* This process, as a taker. */
static uint32_t self(struct forkq__channel *channel) {
  return FORKQ__LOAD(channel->account.cell) + 1;
}

static void set_task(struct forkq__channel *channel, forkq_item_t *item, uint32_t task) {
  struct forkq__ledger *ledger = channel->account.ledger;
  item->task_ = forkq__kept_handle(ledger, task);
  item->redelivered = forkq__kept_given(ledger, task) - 1;
}

static __attribute__((noinline)) int take_and_keep(struct forkq__channel *channel,
                                                   forkq_item_t *item, uint32_t next) {
  struct forkq__account *account = &channel->account;
  uint32_t task = 0;
  int r = forkq__kept_prepare(account, item->data, (uint32_t)item->size, &task);
  if (r < 0) {
    forkq__item_clear(item);
    return r;
  }
  _Atomic uint64_t *got = note_take(channel, self(channel), 1);
  consume(channel, next, 1, 1);
  forkq__kept_take(account, task);
  end_take(channel, got, 1);
  set_task(channel, item, task);
  return 0;
}

int forkq__channel_take_counted(struct forkq__channel *channel, forkq_item_t *item,
                                uint32_t next, uint32_t frames, uint64_t messages) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  if (channel->keeps)
    return take_and_keep(channel, item, next);
  consume_for(channel, self(channel), next, frames, messages);
  return 0;
}

/* As a take, but the word of the entry decides, and not `offset`. */
static void take_lost_for(struct forkq__channel *channel, uint32_t taker, uint32_t task,
                          void (*change)(struct forkq__channel *channel, uint32_t task)) {
  struct forkq__channel_shared *shared = channel->shared;
  /* model: take_kept */
  FORKQ__STORE(shared->take_kept, task + 1);
  _Atomic uint64_t *got = note_take(channel, taker, 1);
  change(channel, task);
  end_take(channel, got, 1);
  /* model: take_kept_over */
  FORKQ__STORE(shared->take_kept, 0);
}

static void hand_on(struct forkq__channel *channel, uint32_t task) {
  forkq__kept_hand_on(&channel->account, task);
}

static void drop_kept(struct forkq__channel *channel, uint32_t task) {
  forkq__kept_drop(&channel->account, task);
}

void forkq__channel_take_lost(struct forkq__channel *channel, forkq_item_t *item,
                              uint32_t task) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  take_lost_for(channel, self(channel), task, hand_on);
  set_task(channel, item, task);
}

void forkq__channel_drop_lost(struct forkq__channel *channel, uint32_t task) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  take_lost_for(channel, DROPPED, task, drop_kept);
}

void forkq__channel_drop(struct forkq__channel *channel, uint32_t next,
                         uint64_t messages) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  if (channel->joinable && messages > 0)
    consume_for(channel, DROPPED, next, 1, messages);
  else
    consume(channel, next, 1, messages);
}

/* A reader stores 0 in `offset`, then reads the next packet, and stores its `offset` before its number.
 * So if the number is still that of this packet, an `offset` of 0 or beyond it says that all of it was
 * taken; and one that lies within it is this packet's, or all of it was taken. */
uint32_t forkq__channel_taken(const struct forkq__channel *channel, uint64_t seq,
                              uint32_t length) {
  const struct forkq__channel_shared *shared = channel->shared;
  /* model: taken_read_seq */
  uint64_t read_seq = FORKQ__LOAD(shared->read_seq);
  if (read_seq != seq)
    return read_seq > seq ? length : 0;
  /* model: taken_offset */
  uint32_t offset = FORKQ__LOAD(shared->offset);
  return offset == 0 || offset > length ? length : offset;
}

int forkq__channel_try_lock_read(struct forkq__channel *channel) {
  return forkq__lock_try(&channel->shared->read_lock, repair_read, channel);
}

/* Looks from time to time whether the queue is closed, because close waits for the threads in
 * a get, and whether the thread is interrupted. */
int forkq__channel_lock_read(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__lock *lock = &channel->shared->read_lock;
  int r = forkq__channel_try_lock_read(channel);
  if (r != FORKQ__BUSY)
    return r;
  deadline = deadline == FORKQ__NOWAIT
                 ? forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__MOMENT_MS)
                 : forkq__os_deadline_within(deadline, FORKQ__CHANNEL_LOOK_MS);
  do {
    int64_t look = forkq__os_deadline_within(deadline, FORKQ__MOMENT_MS);
    r = forkq__lock_acquire(lock, look, repair_read, channel);
  } while (r == FORKQ_TIMEDOUT && !forkq__channel_over(channel, deadline) &&
           !forkq__interrupted(&channel->interrupts));
  return r == FORKQ_TIMEDOUT ? FORKQ__NOTHING : r;
}

void forkq__channel_unlock_read(struct forkq__channel *channel) {
  forkq__lock_release(&channel->shared->read_lock);
}

/* A reader may have died while it counted what it got. Taking the lock repairs that. */
bool forkq__channel_settle_reads(struct forkq__channel *channel) {
  if (forkq__channel_try_lock_read(channel) != 0)
    return false;
  forkq__channel_unlock_read(channel);
  return true;
}
