/* Receiving a message, under the read lock: a whole one from the packet read ahead, or from the piece
 * to which that refers; or one fragment by fragment.
 *
 * A reader copies a frame first, and then takes it (forkq__channel_take). A reader that runs out
 * of time in a large message keeps its part in shared memory, for the next reader (spill.h).
 * If a reader dies with a part that was not kept, the next readers drop the remaining
 * fragments. If it dies after it appended a fragment to a kept part and before it took the
 * fragment, the part has that packet's number, and the next reader does not append it again. */
#include "pipe/channel.h"

#include "base/contract.h"
#include "base/log.h"
#include "base/os.h"
#include "base/probe.h"
#include "codec/item.h"
#include "pipe/channel_read.h"

#include <errno.h>
#include <string.h>

/* A reader that has begun a message waits this long for the rest before it leaves the message.
 * Meanwhile it checks this often whether the sender lives. */
#define REST_MS 20
#define REST_LOOK_MS 2

/* The same for a message of its own process, whose thread may have to wait for a CPU. */
#define OWN_REST_MS 1000

/* Fragments of a message between two looks at the clock. */
#define FRAGMENTS_PER_LOOK 64

/* Whether this process may hold pieces. */
static bool may_hold(struct forkq__channel *channel) {
  if (forkq__account_has_cell(&channel->account))
    return true;
  if (FORKQ__LOAD(channel->wish) == FORKQ__NO_WISH)
    FORKQ__STORE(channel->wish, FORKQ__WANTS_CELL);
  return false;
}

static bool lend(struct forkq__channel *channel, struct forkq__reference piece,
                 forkq_item_t *item) {
  return item->borrow_ != NULL && item->borrow_->wanted && may_hold(channel) &&
         forkq__piece_borrow(channel->pieces, &channel->account,
                             channel->shared->packet.cell, piece, item);
}

static bool put_off(struct forkq__channel *channel, struct forkq__reference piece,
                    forkq_item_t *item, struct forkq__late_copy *late) {
  if (late == NULL || channel->keeps || piece.size < channel->late_min ||
      piece.size > item->capacity_ || !may_hold(channel))
    return false;
  late->data = forkq__piece_hold(channel->pieces, &channel->account,
                                 channel->shared->packet.cell, piece, &late->hold);
  if (late->data != NULL)
    forkq__item_finish(item, piece.size);
  return late->data != NULL;
}

/* Gives the item a piece without a copy, or puts the copy off. False: it must be copied. */
static __attribute__((noinline)) bool hold(struct forkq__channel *channel,
                                           struct forkq__reference piece,
                                           forkq_item_t *item,
                                           struct forkq__late_copy *late) {
  return lend(channel, piece, item) || put_off(channel, piece, item, late);
}

/* Gives the item the message that a frame refers to. */
static inline __attribute__((always_inline)) int
set_to_piece(struct forkq__channel *channel, struct forkq__frame frame,
             forkq_item_t *item, struct forkq__late_copy *late) {
  struct forkq__reference piece = forkq__frame_reference(frame);
  if (piece.size > channel->max_message || !forkq__piece_in_bounds(piece))
    return FORKQ_EBADFRAME;
  if ((item->borrow_ != NULL || piece.size >= channel->late_min) &&
      hold(channel, piece, item, late))
    return 0;
  if (piece.size > item->capacity_)
    return forkq__item_ask(item, piece.size);
  /* model: piece_copied */
  int r = forkq__piece_copy(channel->pieces, &channel->account,
                            channel->shared->packet.cell, piece, item->memory_);
  if (r == 0)
    forkq__item_finish(item, piece.size);
  return r == -EIO ? FORKQ_EBADFRAME : r; /* the file ends before */
}

int forkq__channel_copy_late(forkq_item_t *item, struct forkq__late_copy *late) {
  memcpy(item->memory_, late->data, item->size);
  if (forkq__hold_end(&late->hold))
    return 0;
  forkq__item_clear(item);
  return -EBADF;
}

/* Gives the item the message of a frame: 0, FORKQ__GROW, FORKQ_EBADFRAME, or an error of reading a
 * piece. */
static inline int set_to_frame(struct forkq__channel *channel, struct forkq__frame frame,
                               forkq_item_t *item, struct forkq__late_copy *late) {
  return frame.is_reference ? set_to_piece(channel, frame, item, late)
                            : forkq__item_set(item, frame.data, frame.size);
}

/* Whether the get takes a message of `size` bytes that begins with `head`: 0, or why not. */
static int check_head(forkq_item_t *item, const uint8_t *head, size_t size) {
  return item->borrow_->check(item->borrow_, head, size);
}

/* The same of the message of a frame, or of the piece to which it refers. */
static __attribute__((noinline)) int check_frame(struct forkq__channel *channel,
                                                 struct forkq__frame frame,
                                                 forkq_item_t *item) {
  if (!forkq__item_has_check(item))
    return 0;
  if (!frame.is_reference)
    return check_head(item, frame.data, frame.size);
  struct forkq__reference piece = forkq__frame_reference(frame);
  uint8_t head[FORKQ__RAW_HEAD] = { 0 };
  if (!forkq__piece_in_bounds(piece))
    return 0; /* it is refused later */
  struct forkq__reference first = { piece.at,
                                    piece.size < sizeof head ? piece.size : sizeof head };
  int r = forkq__piece_copy(channel->pieces, &channel->account,
                            channel->shared->packet.cell, first, head);
  if (r == -EIO)
    return 0; /* the file ends before: as well */
  return r < 0 ? r : check_head(item, head, piece.size);
}

/* The same of the message of which a part is kept. */
static int check_kept(struct forkq__channel *channel, forkq_item_t *item,
                      uint32_t total) {
  uint8_t head[FORKQ__RAW_HEAD] = { 0 };
  int n =
      forkq__spill_head(&channel->shared->spill, &channel->account, head, sizeof head);
  return n < 0 ? n : check_head(item, head, total);
}

static int take_whole(struct forkq__channel *channel, forkq_item_t *item,
                      struct forkq__late_copy *late) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__frame frame =
      forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
  int r = item->borrow_ != NULL ? check_frame(channel, frame, item) : 0;
  if (r < 0)
    return r;
  r = set_to_frame(channel, frame, item, late);
  if (r == 0)
    return forkq__channel_take(channel, item, frame.next, 1, 1);
  if (r == FORKQ_EBADFRAME)
    forkq__channel_drop(channel, frame.next, 1);
  return r;
}

static __attribute__((noinline)) void drop_beginning(struct forkq__channel *channel,
                                                     struct forkq__assembly *assembly) {
  forkq__log(FORKQ_LOG_WARNING, channel->account.ledger->name,
             "dropped the beginning of a message without its end");
  assembly->active = false;
  forkq__spill_drop(&channel->shared->spill, &channel->account);
}

static inline void drop_torn(struct forkq__channel *channel,
                             struct forkq__assembly *assembly) {
  if (assembly->active || FORKQ__LOAD(channel->shared->spill.cell) != 0)
    drop_beginning(channel, assembly);
}

static bool continues(const struct forkq__assembly *assembly,
                      const struct forkq__packet *packet, uint32_t size) {
  return assembly->active && assembly->cell == packet->cell &&
         size <= assembly->total - assembly->have;
}

/* Room for the bytes that have come and those in the pipe, or for twice the bytes that have
 * come, if that is more: the total is only the sender's word. */
static size_t room_wanted(struct forkq__channel *channel,
                          const struct forkq__assembly *assembly, uint32_t size) {
  int level = forkq__os_pipe_level(channel->read_fd);
  uint64_t room = (uint64_t)assembly->have + size;
  uint64_t come = room + (level > 0 ? (uint64_t)level : 0);
  room = come > 2 * room ? come : 2 * room;
  return room < assembly->total ? (size_t)room : assembly->total;
}

static void append(struct forkq__assembly *assembly, forkq_item_t *item,
                   const struct forkq__packet *packet, struct forkq__frame frame) {
  memcpy(item->memory_ + assembly->have, frame.data, frame.size);
  assembly->have += frame.size;
  assembly->seq = packet->seq;
}

/* Takes the current packet's fragment into the part that was kept. */
static int take_kept(struct forkq__channel *channel, forkq_item_t *item,
                     struct forkq__frame frame) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  struct forkq__assembly kept = forkq__spill_kept(&shared->spill, packet->seq);
  /* Equal if a reader died between its append and its take. */
  bool appended = kept.seq == packet->seq;
  if (!appended && !continues(&kept, packet, frame.size)) {
    struct forkq__assembly none = { 0 };
    drop_torn(channel, &none);
    forkq__channel_drop(channel, frame.next, forkq__packet_messages(packet));
    return FORKQ__MORE;
  }
  int r = forkq__item_has_check(item) ? check_kept(channel, item, kept.total) : 0;
  if (r < 0)
    return r;
  if (!appended)
    r = forkq__spill_append(&shared->spill, &channel->account, packet->seq, frame.data,
                            frame.size);
  if (r == 0 && packet->flags & FORKQ__LAST) {
    kept = forkq__spill_kept(&shared->spill, packet->seq);
    if (kept.have > item->capacity_)
      return forkq__item_ask(item, kept.have);
    r = forkq__spill_read(&shared->spill, &channel->account, item->memory_);
  }
  if (r < 0)
    return -ENOMEM;
  if (!(packet->flags & FORKQ__LAST)) {
    forkq__channel_pass(channel, frame.next, 1, 0);
    return FORKQ__MORE;
  }
  if (kept.have == kept.total) {
    forkq__item_finish(item, kept.have);
    r = forkq__channel_take(channel, item, frame.next, 1, 1);
    if (r < 0)
      return r;
  } else {
    forkq__channel_drop(channel, frame.next, 1);
    r = FORKQ_EBADFRAME;
  }
  forkq__spill_drop(&shared->spill, &channel->account);
  return r;
}

/* Keeps the part of a message for the next reader. Returns 0, and then the assembly is not
 * active any more, or a negative errno. */
static int keep(struct forkq__channel *channel, struct forkq__assembly *assembly,
                forkq_item_t *item) {
  if (assembly->active && assembly->have > 0)
    assembly->unkeepable = forkq__spill_keep(&channel->shared->spill, &channel->account,
                                             assembly, item->memory_);
  if (assembly->unkeepable == 0)
    assembly->active = false;
  return assembly->unkeepable;
}

/* The part can be neither kept nor completed, so the get fails. */
static int lose(struct forkq__channel *channel, struct forkq__assembly *assembly) {
  forkq__log(FORKQ_LOG_ERROR, channel->account.ledger->name,
             "lost a message: no memory to keep a part of it");
  assembly->active = false;
  return assembly->unkeepable;
}

/* Makes room for a fragment that does not fit into the item. The program's allocator may take
 * any time, so it is not called under the lock: the reader keeps the part, and continues when
 * the item has room. Only if the part cannot be kept is the allocator called under the lock. */
static __attribute__((noinline)) int make_room(struct forkq__channel *channel,
                                               struct forkq__assembly *assembly,
                                               forkq_item_t *item, uint32_t size) {
  size_t room = room_wanted(channel, assembly, size);
  if (assembly->unkeepable == 0 && keep(channel, assembly, item) == 0)
    return forkq__item_ask(item, room);
  return forkq__item_reserve(item, room);
}

/* Takes the fragment in the current packet. Returns 0 when it ends the message, FORKQ__MORE
 * when more is to come or the fragment was dropped, or an error. */
static int take_fragment(struct forkq__channel *channel, struct forkq__assembly *assembly,
                         forkq_item_t *item) {
  struct forkq__channel_shared *shared = channel->shared;
  const struct forkq__packet *packet = &shared->packet;
  struct forkq__frame frame = forkq__packet_frame(packet, FORKQ__LOAD(shared->offset));
  if (packet->flags & FORKQ__FIRST) {
    drop_torn(channel, assembly);
    int r = forkq__item_has_check(item) ? check_head(item, frame.data, packet->total) : 0;
    if (r < 0)
      return r;
    assembly->active = packet->total <= channel->max_message;
    assembly->cell = packet->cell;
    assembly->owner = FORKQ__LOAD(channel->account.ledger->cells[packet->cell].owners);
    assembly->total = packet->total;
    assembly->have = 0;
  } else if (!assembly->active && FORKQ__LOAD(shared->spill.cell) != 0) {
    return take_kept(channel, item, frame);
  }
  if (!continues(assembly, packet, frame.size)) {
    bool first = packet->flags & FORKQ__FIRST;
    drop_torn(channel, assembly);
    forkq__channel_drop(channel, frame.next, forkq__packet_messages(packet));
    return first ? FORKQ_EBADFRAME : FORKQ__MORE;
  }
  if ((size_t)assembly->have + frame.size > item->capacity_) {
    int r = make_room(channel, assembly, item, frame.size);
    if (r < 0)
      return r == FORKQ__GROW ? r : lose(channel, assembly);
  }
  append(assembly, item, packet, frame);
  if (!(packet->flags & FORKQ__LAST)) {
    /* Where tasks are kept, so is each part from the first on: this process may die. */
    if (channel->keeps && assembly->unkeepable == 0)
      (void)keep(channel, assembly, item);
    forkq__channel_pass(channel, frame.next, 1, 0);
    return FORKQ__MORE;
  }
  if (assembly->have != assembly->total) {
    forkq__channel_drop(channel, frame.next, 1);
    return FORKQ_EBADFRAME;
  }
  forkq__item_finish(item, assembly->have);
  int r = forkq__channel_take(channel, item, frame.next, 1, 1);
  /* The next reader finds what has come, with this fragment. */
  if (r < 0 && keep(channel, assembly, item) < 0)
    return lose(channel, assembly);
  return r;
}

static bool sender_lives(struct forkq__channel *channel,
                         const struct forkq__assembly *assembly) {
  return FORKQ__LOAD(channel->account.ledger->cells[assembly->cell].owners) ==
             assembly->owner &&
         forkq__account_sees_alive(&channel->account, assembly->cell);
}

/* Leaves the part of a message for a later get. Returns FORKQ__NOTHING, or FORKQ__MORE if the
 * part could not be kept. The get then continues with it while more comes, whatever its
 * deadline. */
static int leave(struct forkq__channel *channel, struct forkq__assembly *assembly,
                 forkq_item_t *item) {
  return keep(channel, assembly, item) == 0 ? FORKQ__NOTHING : FORKQ__MORE;
}

/* Polls until more of a message comes, its sender dies or the deadline is over. Returns the
 * last result of poll. */
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

/* Whether the message of which a part is here, or is kept, is this process's own. Its feeder needs nothing
 * but a CPU to write the rest. */
static bool is_own(const struct forkq__channel *channel,
                   const struct forkq__assembly *assembly) {
  uint32_t cell =
      assembly->active ? assembly->cell + 1 : FORKQ__LOAD(channel->shared->spill.cell);
  return cell == FORKQ__LOAD(channel->account.cell) + 1;
}

/* Until when to wait for the rest. A process's own message is found with any timeout. */
static int64_t rest_deadline(const struct forkq__channel *channel,
                             const struct forkq__assembly *assembly, int64_t deadline) {
  if (assembly->unkeepable != 0)
    return forkq__os_deadline_within(FORKQ__FOREVER, REST_MS);
  if (deadline != FORKQ__NOWAIT)
    return forkq__os_deadline_within(deadline, REST_MS);
  return is_own(channel, assembly)
             ? forkq__os_deadline_within(FORKQ__FOREVER, OWN_REST_MS)
             : FORKQ__NOWAIT;
}

/* Waits for more of a message that has begun. Returns 0 to continue, FORKQ__NOTHING if it left
 * the message, or dropped it because the sender is dead, or an error. It keeps the read lock,
 * so it waits for a moment only: the rest of a message comes at once, or something is wrong. */
static int wait_for_rest(struct forkq__channel *channel, struct forkq__assembly *assembly,
                         forkq_item_t *item, int64_t deadline) {
  int ready =
      poll_for_rest(channel, assembly, rest_deadline(channel, assembly, deadline));
  if (ready > 0)
    return 0;
  if (ready < 0 || sender_lives(channel, assembly)) {
    if (assembly->unkeepable != 0)
      return lose(channel, assembly);
    return leave(channel, assembly, item) == FORKQ__MORE ? 0 : FORKQ__NOTHING;
  }
  /* Everything that the sender wrote before its death is in the pipe by now. */
  if (forkq__channel_pipe_readable(channel))
    return 0;
  drop_torn(channel, assembly);
  return FORKQ__NOTHING;
}

/* The same for more of a message of which a part is kept, though this reader runs on: to make room, or as
 * all parts are. Without the second, only a get that does not wait, and so does not come back, waits, and
 * only for its process's own. If the process has sent all, the rest has come by now, or an earlier owner of
 * the cell has left it torn. */
static int wait_for_kept(struct forkq__channel *channel, int64_t deadline) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__assembly kept =
      forkq__spill_kept(&shared->spill, FORKQ__LOAD(shared->read_seq));
  bool own = kept.cell == FORKQ__LOAD(channel->account.cell);
  if (!kept.active || (!channel->keeps && (!own || deadline != FORKQ__NOWAIT)))
    return FORKQ__NOTHING;
  kept.owner = FORKQ__LOAD(channel->account.ledger->cells[kept.cell].owners);
  bool may_come = !own || forkq__account_held(&channel->account) > 0;
  deadline = may_come ? rest_deadline(channel, &kept, deadline) : FORKQ__NOWAIT;
  return poll_for_rest(channel, &kept, deadline) > 0 ? 0 : FORKQ__NOTHING;
}

bool forkq__channel_over(struct forkq__channel *channel, int64_t deadline) {
  return atomic_load(&channel->closed) ||
         (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline);
}

/* No packet could be loaded, for the reason `r`. Returns 0 to try again, or why the receive ends. */
static __attribute__((noinline)) int go_without(struct forkq__channel *channel,
                                                struct forkq__assembly *assembly,
                                                forkq_item_t *item, int64_t deadline,
                                                int r) {
  if (r == FORKQ__NOTHING)
    return assembly->active ? wait_for_rest(channel, assembly, item, deadline)
                            : wait_for_kept(channel, deadline);
  if (r == FORKQ_EALONE)
    drop_torn(channel, assembly); /* nobody is left that could send the rest */
  else if (assembly->active && keep(channel, assembly, item) < 0)
    (void)lose(channel, assembly);
  return r;
}

/* The caller holds the read lock. */
static int receive_message(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline, struct forkq__late_copy *late) {
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__assembly assembly = { 0 };
  for (int fragments = 0;;) {
    int r;
    if (!forkq__channel_unread(shared)) {
      r = forkq__channel_load(channel);
      if (r < 0)
        r = go_without(channel, &assembly, item, deadline, r);
      if (r < 0)
        return r;
    } else if (shared->packet.flags & FORKQ__FRAGMENT) {
      r = take_fragment(channel, &assembly, item);
      if (r != FORKQ__MORE)
        return r;
      if (++fragments % FRAGMENTS_PER_LOOK == 0 && assembly.unkeepable == 0 &&
          forkq__channel_over(channel, rest_deadline(channel, &assembly, deadline)) &&
          leave(channel, &assembly, item) == FORKQ__NOTHING)
        return FORKQ__NOTHING;
    } else {
      drop_torn(channel, &assembly);
      return take_whole(channel, item, late);
    }
  }
}

/* This process has got `count` messages. */
static inline void count_bytes(struct forkq__channel *channel, uint64_t bytes,
                               int count) {
  struct forkq__channel_shared *shared = channel->shared;
  FORKQ__STORE(shared->bytes_taken, FORKQ__LOAD(shared->bytes_taken) + bytes);
  FORKQ__PROBE3(get, channel->account.number, bytes, forkq__probe_value(count));
}

int forkq__channel_receive_locked(struct forkq__channel *channel, forkq_item_t *item,
                                  int64_t deadline, struct forkq__late_copy *late) {
  FORKQ__HELD_LOCK(&channel->shared->read_lock);
  int r = receive_message(channel, item, deadline, late);
  if (r == 0)
    count_bytes(channel, item->size, 1);
  return r;
}

/* Takes up to `count` whole messages of the current packet, in one step. Ends before one that cannot be
 * had: FORKQ__GROW if the item has no room for it. */
static int take_run(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                    size_t *ret_taken) {
  struct forkq__channel_shared *shared = channel->shared;
  if (channel->keeps)
    count = 1;
  uint32_t next = FORKQ__LOAD(shared->offset);
  uint32_t taken = 0;
  uint64_t bytes = 0;
  int r = 0;
  while (taken < count && next < shared->packet.length) {
    struct forkq__frame frame = forkq__packet_frame(&shared->packet, next);
    r = set_to_frame(channel, frame, &items[taken], NULL);
    if (r != 0)
      break;
    bytes += items[taken].size;
    taken++;
    next = frame.next;
  }
  *ret_taken = 0;
  if (taken == 0)
    return r;
  int took = forkq__channel_take(channel, items, next, taken, taken);
  if (took < 0)
    return took;
  *ret_taken = taken;
  count_bytes(channel, bytes, (int)taken);
  return r;
}

/* Leaves a large message for a call that can wait for its rest. */
static int receive_run(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                       size_t *ret_received) {
  struct forkq__channel_shared *shared = channel->shared;
  int r = forkq__channel_unread(shared) ? 0 : forkq__channel_load(channel);
  if (r == 0 && shared->packet.flags & FORKQ__FRAGMENT)
    r = FORKQ__NOTHING;
  *ret_received = 0;
  return r == 0 ? take_run(channel, items, count, ret_received) : r;
}

static int receive_runs(struct forkq__channel *channel, forkq_item_t *items, size_t count,
                        size_t *received) {
  int r = forkq__channel_lock_read(channel, FORKQ__NOWAIT);
  if (r < 0)
    return r;
  while (*received < count && r == 0) {
    size_t more;
    r = receive_run(channel, items + *received, count - *received, &more);
    *received += more;
  }
  forkq__channel_unlock_read(channel);
  return r;
}

int forkq__channel_receive_more(struct forkq__channel *channel, forkq_item_t *items,
                                size_t count, size_t *ret_received) {
  size_t received = 0;
  int r;
  while ((r = receive_runs(channel, items, count, &received)) == FORKQ__GROW &&
         (r = forkq__item_grow(&items[received])) == 0)
    ;
  *ret_received = received;
  return r == FORKQ__NOTHING ? 0 : r;
}

static void drop_lost(struct forkq__channel *channel) {
  uint32_t task;
  while ((task = forkq__kept_next_lost(channel->account.ledger)) != FORKQ__NO_TASK)
    forkq__channel_drop_lost(channel, task);
}

void forkq__channel_drain(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  if (forkq__channel_lock_read(channel, FORKQ__NOWAIT) != 0)
    return; /* a reader in a message sees the shutdown itself */
  if (channel->redelivers)
    drop_lost(channel);
  forkq__spill_drop(&shared->spill, &channel->account);
  for (;;) {
    if (forkq__channel_unread(shared)) {
      struct forkq__frame frame =
          forkq__packet_frame(&shared->packet, FORKQ__LOAD(shared->offset));
      bool ends = !(shared->packet.flags & FORKQ__FRAGMENT) ||
                  (shared->packet.flags & FORKQ__LAST);
      forkq__channel_drop(channel, frame.next, ends ? 1 : 0);
      continue;
    }
    int r = forkq__channel_load(channel);
    if (r < 0 && r != FORKQ_EBADFRAME)
      break;
  }
  forkq__channel_unlock_read(channel);
}
