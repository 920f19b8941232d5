/* Putting: forkq_queue_put and its variants.
 *
 * A small message is packed into the outbox after its slot was taken, with the mutex. A large
 * message and that of a packing function are packed into a draft of the thread before that, without
 * the mutex. A simple queue sends its drafts on the caller's thread. From FORKQ__BESIDE_MIN on a
 * message goes into a piece of the arena, if there is room.
 *
 * A put looks at the shutdown, takes its slot, and looks again. A getter looks at the shutdown, and
 * then at the number of items. So either the put sees the shutdown and gives its slot back, or the
 * getter sees its item. The stores and these loads are sequentially consistent
 * (test/model/put_shutdown.pml). */
#include "queue/queue_impl.h"

#include "base/look.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"
#include "codec/item.h"
#include "codec/serializer.h"
#include "pipe/reap.h"

#include <pthread.h>

/* A batch gives the mutex to other threads after it has packed so many bytes of small messages. */
#define RUN_BYTES (256 * 1024)

static int write_to_outbox(void *outbox, const char *data, size_t size) {
  return forkq__outbox_append(outbox, data, size);
}

static int scan_piece(void *scan, const void *data, size_t size) {
  return forkq__scan_feed(scan, data, size);
}

/* Whether the packing function has written one object. */
static int check_packed(struct forkq__outbox *outbox) {
  struct forkq__scan scan;
  const uint8_t *whole = forkq__outbox_whole(outbox);
  if (whole != NULL)
    return forkq__scan(whole, outbox->open.size, NULL);
  forkq__scan_begin(&scan);
  int r = forkq__outbox_visit(outbox, scan_piece, &scan);
  return r != 0 ? r : forkq__scan_end(&scan);
}

int forkq__queue_pack(struct forkq__outbox *outbox, const struct forkq__source *source) {
  int r = forkq__source_write(source, outbox, write_to_outbox);
  if (r == FORKQ_EPACKING)
    return r;
  if (outbox->open.error != 0)
    return outbox->open.error;
  return r == 0 && source->pack != NULL ? check_packed(outbox) : r;
}

bool forkq__queue_reap(forkq_queue_t *queue) {
  if (queue->channel.account.liveness.memory_fd < 0)
    return false;
  struct forkq__ledger *ledger = &queue->segment->ledger;
  uint64_t taken = FORKQ__LOAD(ledger->taken);
  (void)forkq__channel_settle_reads(&queue->channel);
  if (!forkq__reap(&queue->channel) && FORKQ__LOAD(ledger->taken) == taken)
    return false;
  forkq__slots_freed(&queue->slots);
  return true;
}

/* Takes a slot of a queue that is not shut down: 0, FORKQ__NOTHING if there is none, or
 * FORKQ_ESHUTDOWN. A getter or joiner that saw the shutdown may have gone without this slot's item,
 * if the slot was taken after the shutdown. */
static int take_slot(forkq_queue_t *queue) {
  if (!forkq__slots_try_take(&queue->slots))
    return FORKQ__NOTHING;
  /* model: put_shut */
  if (!forkq__queue_is_shut(queue))
    return 0;
  forkq__sender_withdraw(&queue->feeder.sender);
  return FORKQ_ESHUTDOWN;
}

/* Takes a slot, as take_slot. FORKQ__NOTHING also if the outbox is at its limit. The feeder
 * runs. */
static int try_next_slot(forkq_queue_t *queue) {
  /* model: put_open */
  if (forkq__queue_is_shut(queue))
    return FORKQ_ESHUTDOWN;
  if (forkq__sender_full(&queue->feeder.sender))
    return FORKQ__NOTHING;
  return take_slot(queue);
}

/* Makes room where it can: lets getters have what this process has put, and looks for slots of dead
 * processes. Returns whether there is room by then. */
static bool make_room(forkq_queue_t *queue) {
  forkq__feeder_hurry(&queue->feeder);
  if (!forkq__sender_full(&queue->feeder.sender))
    (void)forkq__queue_reap(queue);
  return !forkq__queue_is_full(queue);
}

/* Out of line: a batch comes by here for each of its messages. */
static __attribute__((noinline)) int make_slot(forkq_queue_t *queue) {
  return make_room(queue) ? take_slot(queue) : FORKQ__NOTHING;
}

/* The same, but if there is no room, it makes some. */
static int try_next_slot_or_make_room(forkq_queue_t *queue) {
  int r = try_next_slot(queue);
  return r == FORKQ__NOTHING ? make_slot(queue) : r;
}

/* Whether the process can put: 0, FORKQ__NOTHING to try again, or why not. */
static int open_for_put(forkq_queue_t *queue) {
  if (forkq__feeder_runs(&queue->feeder))
    return 0;
  int r = forkq__feeder_start(&queue->feeder);
  /* FORKQ_TIMEDOUT: a process is stopped with the ledger's lock. */
  return r == FORKQ_TIMEDOUT ? FORKQ__NOTHING : r;
}

static int try_slot(forkq_queue_t *queue, bool reap) {
  int r = open_for_put(queue);
  if (r < 0)
    return r;
  return reap ? try_next_slot_or_make_room(queue) : try_next_slot(queue);
}

struct put_wait {
  forkq_queue_t *queue;
  struct forkq__look look;
  bool reap;
};

static void end_wait(struct put_wait *wait) {
  bool crowd = forkq__look_end(&wait->look);
  /* Other putters may have been left asleep because this one was being woken. */
  if (crowd || !forkq__slots_full(&wait->queue->slots))
    forkq__slots_freed(&wait->queue->slots);
}

/* A thread that is cancelled while it waits has put nothing. */
static void cancel_wait(void *arg) {
  end_wait(arg);
  forkq__source_drop_draft();
}

/* Waits for room in the outbox, or else for a slot. */
static void wait_for_change(struct put_wait *wait, int64_t deadline) {
  forkq_queue_t *queue = wait->queue;
  int64_t until = forkq__look_until(&wait->look, deadline);
  pthread_cleanup_push(cancel_wait, wait);
  forkq__os_cancellation_point(NULL, NULL);
  if (forkq__sender_full(&queue->feeder.sender))
    forkq__sender_wait_room(&queue->feeder.sender, until);
  else
    forkq__slots_wait(&queue->slots, until);
  pthread_cleanup_pop(0);
  wait->reap = forkq__look_due(&wait->look);
}

/* Takes the mutex. FORKQ_FULL: with FORKQ__NOWAIT, the mutex could not be had. */
int forkq__queue_lock_to_put(forkq_queue_t *queue, int64_t deadline) {
  int r = forkq__sender_lock(&queue->feeder.sender, deadline);
  return r == FORKQ_TIMEDOUT && deadline == FORKQ__NOWAIT ? FORKQ_FULL : r;
}

/* Takes the mutex and a slot, or neither if it fails. FORKQ__NOTHING: the caller is to try
 * again. */
static int try_lock_with_slot(forkq_queue_t *queue, int64_t deadline, bool reap) {
  int r = forkq__queue_lock_to_put(queue, deadline);
  if (r < 0)
    return r;
  r = try_slot(queue, reap);
  if (r != 0)
    forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

/* Of many putters, one looks for slots of dead processes for all. A wake-up can die with the putter
 * that it woke, so each putter also looks for free slots itself. */
static int wait_for_slot(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__look look = forkq__look_begin(&queue->segment->slots.look, FORKQ__SEATS,
                                              FORKQ__FIRST_LOOK_MS, FORKQ__LAST_LOOK_MS);
  struct put_wait wait = { .queue = queue, .look = look };
  int r;
  FORKQ__PROBE2(wait_begin, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_ROOM));
  do {
    wait_for_change(&wait, deadline);
    r = try_lock_with_slot(queue, deadline, wait.reap);
    if (r == FORKQ__NOTHING && forkq__interrupted(&queue->channel.interrupts))
      r = FORKQ_EINTERRUPTED;
  } while (r == FORKQ__NOTHING && forkq__os_now() < deadline);
  end_wait(&wait);
  if (r == FORKQ__NOTHING)
    r = FORKQ_TIMEDOUT;
  FORKQ__PROBE3(wait_end, queue->channel.account.number,
                forkq__probe_value(FORKQ_INSPECT_WAITS_FOR_ROOM), forkq__probe_value(r));
  return forkq__interrupts_tell(&queue->channel.interrupts, r);
}

/* A put that does not wait found no room. */
static __attribute__((noinline)) int tell_full(forkq_queue_t *queue) {
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) == 0) {
    forkq__queue_note_no_room(queue);
    forkq__sender_unlock(&queue->feeder.sender);
  }
  return FORKQ_FULL;
}

/* Takes the mutex and a slot, or neither. Waits for the slot without the mutex. */
int forkq__queue_lock_with_slot(forkq_queue_t *queue, int64_t deadline) {
  int r = try_lock_with_slot(queue, deadline, true);
  if (r != FORKQ__NOTHING)
    return r;
  return deadline == FORKQ__NOWAIT ? tell_full(queue) : wait_for_slot(queue, deadline);
}

/* A message that is packed with the mutex is one frame at most, because other threads wait for the
 * mutex. */
static uint32_t limit_in_place(const forkq_queue_t *queue) {
  uint32_t most = queue->channel.max_message;
  return most < FORKQ__FRAME_MAX ? most : FORKQ__FRAME_MAX;
}

/* Large bytes go into a piece at once. The size of an object is known only when it is packed. */
static __attribute__((noinline)) bool put_beside(forkq_queue_t *queue, const void *data,
                                                 size_t size) {
  return size <= queue->feeder.sender.outbox.open.limit &&
         forkq__sender_put_beside(&queue->feeder.sender, data, (uint32_t)size);
}

static int pack_in_place(forkq_queue_t *queue, struct forkq__outbox *outbox,
                         const struct forkq__source *source) {
  if (source->data != NULL) {
    if (source->size >= FORKQ__BESIDE_MIN &&
        put_beside(queue, source->data, source->size))
      return 0;
    return forkq__outbox_append(outbox, source->data, source->size);
  }
  int r = forkq__queue_pack(outbox, source);
  if (r == 0 && outbox->open.size >= FORKQ__BESIDE_MIN)
    (void)put_beside(queue, forkq__outbox_whole(outbox), outbox->open.size);
  return r;
}

/* With the mutex, and a slot, which it gives back if it fails. FORKQ_ETOOBIG: the message may be
 * too large only to be packed in place. Then it gets another slot later. */
static int put_in_place(forkq_queue_t *queue, const struct forkq__source *source) {
  struct forkq__outbox *outbox = &queue->feeder.sender.outbox;
  int r = forkq__outbox_begin(outbox, limit_in_place(queue));
  if (r == 0)
    r = pack_in_place(queue, outbox, source);
  if (r < 0) {
    forkq__outbox_rollback(outbox);
    forkq__sender_withdraw(&queue->feeder.sender);
    return r;
  }
  forkq__sender_commit(&queue->feeder.sender);
  return 0;
}

/* Makes room where it can before it returns FORKQ_FULL. */
static int check_room_now(forkq_queue_t *queue) {
  if (!forkq__queue_is_full(queue))
    return 0;
  int r = forkq__queue_lock_to_put(queue, FORKQ__NOWAIT);
  if (r < 0)
    return r;
  bool room = make_room(queue);
  if (!room)
    forkq__queue_note_no_room(queue);
  forkq__sender_unlock(&queue->feeder.sender);
  return room ? 0 : FORKQ_FULL;
}

/* Why a message need not be packed, because it could not be put; or 0. */
static int check_before_draft(forkq_queue_t *queue, const struct forkq__source *source,
                              int64_t deadline) {
  if (atomic_load(&queue->channel.puts_closed))
    return FORKQ_ECLOSED;
  if (forkq__queue_is_shut(queue))
    return FORKQ_ESHUTDOWN;
  if (source->size > queue->channel.max_message)
    return FORKQ_ETOOBIG;
  return deadline == FORKQ__NOWAIT ? check_room_now(queue) : 0;
}

/* The bytes that the draft will need. For most objects, or a function, this is a guess: a little more
 * than the last one needed. */
static uint32_t bytes_of(forkq_queue_t *queue, const struct forkq__source *source) {
  uint32_t last = queue->drafted_bytes;
  if (source->size > 0)
    return (uint32_t)source->size + (source->data != NULL ? 0 : FORKQ__RAW_HEAD);
  return last <= FORKQ_SHARED_MAX / 2 ? last + last / 4 : last;
}

/* Lends the draft a piece of the arena, or else spare packets of the outbox. The thread has one of its
 * own. */
static int lend(forkq_queue_t *queue, struct forkq__outbox *draft, uint32_t bytes,
                int64_t deadline) {
  struct forkq__sender *sender = &queue->feeder.sender;
  if (bytes < FORKQ__BESIDE_MIN)
    return 0;
  int r = forkq__queue_lock_to_put(queue, deadline);
  if (r < 0)
    return r;
  forkq__sender_lend(sender, draft, bytes);
  if (draft->loan == NULL)
    forkq__outbox_lend(&sender->outbox, draft, bytes / FORKQ__FRAME_MAX + 1);
  forkq__sender_unlock(sender);
  return 0;
}

/* Packs the message without a lock, so that no thread waits: a packing function may take its time,
 * or leave by longjmp, and a large message takes long. */
static int write_draft(forkq_queue_t *queue, const struct forkq__source *source,
                       struct forkq__outbox *draft, int64_t deadline) {
  int r = check_before_draft(queue, source, deadline);
  if (r == 0)
    r = lend(queue, draft, bytes_of(queue, source), deadline);
  if (r == 0)
    r = forkq__outbox_begin(draft, queue->channel.max_message);
  if (r < 0)
    return r;
  r = forkq__queue_pack(draft, source);
  if (r == 0)
    forkq__outbox_commit(draft);
  else if (r == FORKQ_EBADOBJECT && draft->loan != NULL &&
           forkq__loan_check(draft->loan) < 0)
    r = forkq__loan_check(draft->loan); /* the piece has gone, with the object */
  return r;
}

/* FORKQ_ECLOSED: this is a child of the process that packed the message. */
static int adopt_draft(forkq_queue_t *queue, struct forkq__outbox *draft) {
  struct forkq__sender *sender = &queue->feeder.sender;
  if (!forkq__sender_end_loan(sender, draft)) {
    forkq__outbox_fini(draft);
    forkq__sender_withdraw(sender);
    return FORKQ_ECLOSED;
  }
  forkq__sender_adopt(sender, draft);
  return 0;
}

int forkq__queue_send_draft(forkq_queue_t *queue, struct forkq__outbox *draft) {
  int r = adopt_draft(queue, draft);
  if (r == 0)
    forkq__feeder_push(&queue->feeder, queue->direct_write);
  return r;
}

/* So that the next draft of an object or a function has a piece of that size. With the mutex. */
static void note_size(forkq_queue_t *queue, const struct forkq__outbox *draft,
                      const struct forkq__source *source) {
  if (source->data == NULL)
    queue->drafted_bytes = draft->open.size;
}

static int put_drafted(forkq_queue_t *queue, const struct forkq__source *source,
                       int64_t deadline) {
  struct forkq__outbox *draft = forkq__source_draft();
  int r = write_draft(queue, source, draft, deadline);
  if (r == FORKQ_EPACKING)
    return r; /* the function no longer has the draft */
  if (r == 0)
    r = forkq__queue_lock_with_slot(queue, deadline);
  if (r < 0) {
    forkq__source_drop_draft();
    return r;
  }
  note_size(queue, draft, source);
  r = forkq__queue_send_draft(queue, draft);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

static bool to_be_drafted(const struct forkq__source *source) {
  return source->pack != NULL || source->size > FORKQ__FRAME_MAX;
}

/* FORKQ_ETOOBIG: the message is too large to be packed in place. */
static int put_locked(forkq_queue_t *queue, const struct forkq__source *source,
                      int64_t deadline) {
  int r = forkq__queue_lock_with_slot(queue, deadline);
  if (r < 0)
    return r;
  r = put_in_place(queue, source);
  if (r == 0)
    forkq__feeder_push(&queue->feeder, queue->direct_write);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

int forkq__queue_put_until(forkq_queue_t *queue, const struct forkq__source *source,
                           int64_t deadline) {
  int r = to_be_drafted(source) ? FORKQ_ETOOBIG : put_locked(queue, source, deadline);
  return r == FORKQ_ETOOBIG ? put_drafted(queue, source, deadline) : r;
}

/* Inlined into the public functions: a call more is 20 of the 500 instructions of a put. */
static inline int put(forkq_queue_t *queue, const struct forkq__source *source,
                      int timeout_ms) {
  int r = forkq__queue_begin_call(queue, timeout_ms);
  return r < 0 ? forkq__elsewhere_put(queue, source, timeout_ms, r)
               : forkq__queue_put_until(queue, source, forkq__os_deadline(timeout_ms));
}

/* Inlined into its callers, in all of the library, it would keep other functions from being inlined into
 * the puts above. */
__attribute__((noinline)) int forkq__queue_put(forkq_queue_t *queue,
                                               const struct forkq__source *source,
                                               int timeout_ms) {
  return put(queue, source, timeout_ms);
}

/* ---- through, on the caller's thread ------------------------------------------------------- */

static void drop_draft(void *arg) {
  (void)arg;
  forkq__source_drop_draft();
}

static void leave_turn(void *queue) {
  drop_draft(NULL);
  forkq__sender_unlock(&((forkq_queue_t *)queue)->feeder.sender);
}

/* Takes the mutex and a slot when no other thread sends, or neither. FORKQ_TIMEDOUT: a process
 * is stopped with the ledger's lock. */
static int try_lock_in_turn(forkq_queue_t *queue) {
  struct forkq__sender *sender = &queue->feeder.sender;
  int r = forkq__sender_lock(sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  r = forkq__sender_await_turn(sender, leave_turn, queue);
  if (r == 0)
    r = forkq__sender_open(sender);
  if (r == 0)
    r = take_slot(queue);
  if (r < 0)
    forkq__sender_unlock(sender);
  return r;
}

static int lock_in_turn(forkq_queue_t *queue) {
  int r;
  while ((r = try_lock_in_turn(queue)) == FORKQ_TIMEDOUT) {
    if (atomic_load(&queue->channel.closed))
      return FORKQ_ECLOSED;
    if (forkq__interrupted(&queue->channel.interrupts))
      return FORKQ_EINTERRUPTED;
    forkq__os_cancellation_point(drop_draft, NULL);
  }
  return r;
}

static int put_through(forkq_queue_t *queue, const struct forkq__source *source) {
  int r = forkq__queue_begin_call(queue, -1);
  if (r < 0)
    return r;
  struct forkq__outbox *draft = forkq__source_draft();
  r = write_draft(queue, source, draft, FORKQ__FOREVER);
  if (r == FORKQ_EPACKING)
    return r; /* the function no longer has the draft */
  if (r == 0)
    r = lock_in_turn(queue);
  if (r < 0) {
    forkq__source_drop_draft();
    return r;
  }
  note_size(queue, draft, source);
  r = adopt_draft(queue, draft);
  if (r == 0)
    r = forkq__sender_put_through(&queue->feeder.sender);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

int forkq__queue_put_through(forkq_queue_t *queue, const struct forkq__source *source) {
  return forkq__interrupts_tell(&queue->channel.interrupts, put_through(queue, source));
}

/* ---- the variants -------------------------------------------------------------------------- */

int forkq_queue_put(forkq_queue_t *queue, const msgpack_object *object, int timeout_ms) {
  if (queue == NULL || object == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .object = object };
  return put(queue, &source, timeout_ms);
}

int forkq_queue_put_nowait(forkq_queue_t *queue, const msgpack_object *object) {
  return forkq_queue_put(queue, object, 0);
}

int forkq_queue_put_packed(forkq_queue_t *queue, const void *data, size_t size,
                           int timeout_ms) {
  if (queue == NULL || data == NULL)
    return FORKQ_ENULL;
  int r = forkq__scan(data, size, NULL);
  if (r < 0)
    return r;
  struct forkq__source source = { .data = data, .size = size };
  return put(queue, &source, timeout_ms);
}

int forkq_queue_put_with(forkq_queue_t *queue, forkq_pack_fn pack_fn, void *arg,
                         int timeout_ms) {
  if (queue == NULL || pack_fn == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .pack = pack_fn, .arg = arg };
  return put(queue, &source, timeout_ms);
}

/* A batch of objects, of messages, or of plain bytes, of which one at a time is `plain`. */
struct batch {
  const msgpack_object *objects;
  const forkq_bytes_t *messages;
  const forkq_bytes_t *bytes;
  struct forkq__plain *plain;
  size_t count;
};

static __attribute__((noinline)) int bytes_in_batch(const struct batch *batch, size_t n,
                                                    struct forkq__source *ret_source) {
  int r = forkq__plain_bytes(batch->plain, batch->bytes[n].data, batch->bytes[n].size);
  if (r == 0)
    *ret_source = batch->plain->source;
  return r;
}

/* Makes the source of message `n` of a batch: 0, or why it cannot be put. */
static inline __attribute__((always_inline)) int
source_in_batch(const struct batch *batch, size_t n, struct forkq__source *ret_source) {
  *ret_source = (struct forkq__source){ 0 };
  if (batch->objects != NULL) {
    ret_source->object = &batch->objects[n];
    return 0;
  }
  if (batch->bytes != NULL)
    return bytes_in_batch(batch, n, ret_source);
  if (batch->messages == NULL || batch->messages[n].data == NULL)
    return FORKQ_ENULL;
  ret_source->data = batch->messages[n].data;
  ret_source->size = batch->messages[n].size;
  return forkq__scan(ret_source->data, batch->messages[n].size, NULL);
}

/* Puts small messages from number *n on, of which `source` is the first, and counts them in *n. It
 * ends before a large message, or after RUN_BYTES. Returns 0, or why it ended earlier. */
static int put_run(forkq_queue_t *queue, const struct batch *batch,
                   struct forkq__source *source, int64_t deadline, size_t *n) {
  uint64_t bytes = 0;
  int r = forkq__queue_lock_with_slot(queue, deadline);
  if (r < 0)
    return r;
  while ((r = put_in_place(queue, source)) == 0) {
    bytes += queue->feeder.sender.outbox.open.size;
    if (++*n == batch->count || bytes >= RUN_BYTES ||
        (r = source_in_batch(batch, *n, source)) < 0 || to_be_drafted(source) ||
        (r = try_next_slot_or_make_room(queue)) < 0)
      break;
  }
  forkq__feeder_push(&queue->feeder, queue->direct_write);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

/* Returns 0, or why it ended before the last message. */
static int put_batch(forkq_queue_t *queue, const struct batch *batch, int64_t deadline,
                     size_t *n) {
  int r = 0;
  while (r == 0 && *n < batch->count) {
    struct forkq__source source;
    r = source_in_batch(batch, *n, &source);
    if (r < 0)
      break;
    r = FORKQ_ETOOBIG;
    if (!to_be_drafted(&source))
      r = put_run(queue, batch, &source, deadline, n);
    if (*n > 0)
      deadline = FORKQ__NOWAIT; /* only the first put waits */
    if (r == FORKQ_ETOOBIG) {
      r = source_in_batch(batch, *n, &source);
      if (r == 0)
        r = put_drafted(queue, &source, deadline);
      *n += r == 0;
    }
    deadline = FORKQ__NOWAIT;
  }
  return r;
}

/* Out of the way, so that the batch above is compiled as if this were not there. */
static __attribute__((noinline, cold)) int make_source(const void *batch, size_t n,
                                                       struct forkq__source *ret_source) {
  return source_in_batch(batch, n, ret_source);
}

static int put_many(forkq_queue_t *queue, const struct batch *batch, int timeout_ms,
                    size_t *ret_put) {
  size_t n = 0;
  int r = forkq__queue_begin_call(queue, timeout_ms);
  if (r == 0)
    r = put_batch(queue, batch, forkq__os_deadline(timeout_ms), &n);
  else
    r = forkq__elsewhere_put_many(
        queue, &(struct forkq__sources){ make_source, batch, batch->count }, timeout_ms,
        &n, r);
  if (n == 0 && r < 0)
    return r;
  *ret_put = n;
  return 0;
}

int forkq_queue_put_many(forkq_queue_t *queue, const msgpack_object *objects,
                         size_t count, int timeout_ms, size_t *ret_put) {
  if (queue == NULL || (objects == NULL && count > 0) || ret_put == NULL)
    return FORKQ_ENULL;
  struct batch batch = { .objects = objects, .count = count };
  return put_many(queue, &batch, timeout_ms, ret_put);
}

int forkq_queue_put_many_packed(forkq_queue_t *queue, const forkq_bytes_t *messages,
                                size_t count, int timeout_ms, size_t *ret_put) {
  if (queue == NULL || (messages == NULL && count > 0) || ret_put == NULL)
    return FORKQ_ENULL;
  struct batch batch = { .messages = messages, .count = count };
  return put_many(queue, &batch, timeout_ms, ret_put);
}

int forkq_queue_put_many_bytes(forkq_queue_t *queue, const forkq_bytes_t *items,
                               size_t count, int timeout_ms, size_t *ret_put) {
  struct forkq__plain plain;
  if (queue == NULL || (items == NULL && count > 0) || ret_put == NULL)
    return FORKQ_ENULL;
  struct batch batch = { .bytes = items, .plain = &plain, .count = count };
  return put_many(queue, &batch, timeout_ms, ret_put);
}
