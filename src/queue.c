#include "queue.h"

#include "os.h"
#include "serializer.h"

#include <string.h>

/* A putter that is kept waiting looks for slots of the dead after the first of these, and then
 * ever more rarely, down to the last. A wake-up can die with whom it woke, so it looks for
 * free slots as well. */
#define FIRST_LOOK_MS 5
#define LAST_LOOK_MS 100

/* How long a get that does not wait gives this process's own feeder. */
#define OWN_MS 100

/* ---- putting ----------------------------------------------------------------------------- */

static int write_to_outbox(void *outbox, const char *data, size_t size) {
  return forkq__outbox_append(outbox, data, size);
}

static int scan_piece(void *scan, const void *data, size_t size) {
  return forkq__scan_feed(scan, data, size);
}

/* Whether what the packing function wrote is one object. */
static int check_packed(struct forkq__outbox *outbox) {
  struct forkq__scan scan;
  const uint8_t *whole = forkq__outbox_whole(outbox);
  if (whole != NULL)
    return forkq__scan(whole, outbox->open.size, NULL);
  forkq__scan_begin(&scan);
  int r = forkq__outbox_visit(outbox, scan_piece, &scan);
  return r != 0 ? r : forkq__scan_end(&scan);
}

/* Writes the message into the open frame of the outbox. */
static int pack(forkq_queue_t *queue, const struct forkq__source *source) {
  struct forkq__outbox *outbox = &queue->feeder.outbox;
  int r = forkq__source_write(source, outbox, write_to_outbox);
  if (outbox->open.error != 0)
    return outbox->open.error;
  return r == 0 && source->pack != NULL ? check_packed(outbox) : r;
}

bool forkq__queue_reap(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  if (queue->channel.spill.fd < 0 || queue->channel.read_fd < 0)
    return false;
  bool taken = forkq__channel_settle_reads(&queue->channel);
  if (!forkq__channel_reap(&queue->channel) && !taken)
    return false;
  forkq__slots_freed(&segment->slots, queue->channel.room_fd);
  return true;
}

static bool take_slot(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  return forkq__slots_try_take(&segment->slots, &segment->ledger, queue->channel.cell,
                               &queue->feeder.gone);
}

/* 0, FORKQ__NOTHING while there is no slot, or why there will be none. The feeder runs. */
static int try_next_slot(forkq_queue_t *queue) {
  if (atomic_load(&queue->segment->channel.shutdown) != FORKQ__OPEN)
    return FORKQ_ESHUTDOWN;
  if (forkq__feeder_full(&queue->feeder))
    return FORKQ__NOTHING;
  return take_slot(queue) || (forkq__queue_reap(queue) && take_slot(queue))
             ? 0
             : FORKQ__NOTHING;
}

static int try_slot(forkq_queue_t *queue) {
  int r = queue->simple ? forkq__feeder_open(&queue->feeder)
                        : forkq__feeder_start(&queue->feeder);
  if (r < 0) /* FORKQ_TIMEDOUT: somebody is stopped with the ledger's lock */
    return r == FORKQ_TIMEDOUT ? FORKQ__NOTHING : r;
  return try_next_slot(queue);
}

/* Waits for what a put lacks, without the mutex. */
static void wait_for_change(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__segment *segment = queue->segment;
  forkq__feeder_unlock(&queue->feeder);
  if (forkq__feeder_full(&queue->feeder))
    forkq__feeder_wait_room(&queue->feeder, deadline);
  else
    forkq__slots_wait(&segment->slots, &segment->ledger, deadline);
  forkq__feeder_lock(&queue->feeder);
}

/* Takes a slot, waiting for it without the mutex, which it comes and goes with. */
static int wait_for_slot(forkq_queue_t *queue, int64_t deadline) {
  struct forkq__segment *segment = queue->segment;
  bool waited = false;
  int look_ms = FIRST_LOOK_MS;
  int r;
  while ((r = try_slot(queue)) == FORKQ__NOTHING) {
    if (deadline == FORKQ__NOWAIT)
      return FORKQ_FULL;
    if (waited && forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    wait_for_change(queue, forkq__os_deadline_within(deadline, look_ms));
    waited = true;
    look_ms = look_ms * 2 < LAST_LOOK_MS ? look_ms * 2 : LAST_LOOK_MS;
  }
  /* Others may have been passed over for this wake-up. */
  if (waited && !forkq__slots_full(&segment->slots, &segment->ledger))
    forkq__slots_freed(&segment->slots, queue->channel.room_fd);
  return r;
}

/* With the feeder's mutex, and a slot, which is given back if it fails. */
static int put_in_slot(forkq_queue_t *queue, const struct forkq__source *source) {
  struct forkq__outbox *outbox = &queue->feeder.outbox;
  int r = forkq__outbox_begin(outbox, queue->channel.max_message);
  if (r == 0)
    r = pack(queue, source);
  uint32_t cell = queue->channel.cell;
  if (r < 0) {
    forkq__outbox_rollback(outbox);
    forkq__feeder_withdraw(&queue->feeder);
    return r;
  }
  _Atomic uint64_t *bytes = &queue->segment->ledger.cells[cell].accepted_bytes;
  atomic_store_explicit(bytes, atomic_load(bytes) + outbox->open.size,
                        memory_order_release);
  forkq__feeder_commit(&queue->feeder);
  return 0;
}

static int check_timeout(int timeout_ms) {
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  return forkq__queue_packing_here() ? FORKQ_EPACKING : 0;
}

int forkq__queue_put(forkq_queue_t *queue, const struct forkq__source *source,
                     int timeout_ms) {
  int r = check_timeout(timeout_ms);
  if (r < 0)
    return r;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  forkq__feeder_lock(&queue->feeder);
  if (queue->simple)
    forkq__feeder_await_turn(&queue->feeder);
  r = wait_for_slot(queue, deadline);
  if (r == 0)
    r = put_in_slot(queue, source);
  if (r == 0 && queue->simple)
    r = forkq__feeder_put_through(&queue->feeder);
  else if (r == 0)
    forkq__feeder_push(&queue->feeder, queue->direct_write);
  forkq__feeder_unlock(&queue->feeder);
  return r;
}

int forkq_queue_put(forkq_queue_t *queue, const msgpack_object *object, int timeout_ms) {
  if (queue == NULL || object == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .object = object };
  return forkq__queue_put(queue, &source, timeout_ms);
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
  return forkq__queue_put(queue, &source, timeout_ms);
}

int forkq_queue_put_with(forkq_queue_t *queue, forkq_pack_fn pack_fn, void *arg,
                         int timeout_ms) {
  if (queue == NULL || pack_fn == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .pack = pack_fn, .arg = arg };
  return forkq__queue_put(queue, &source, timeout_ms);
}

/* What a batch is of: one of the two. */
struct batch {
  const msgpack_object *objects;
  const forkq_bytes_t *messages;
  size_t count;
};

/* Number `n` of a batch: 0, or why it cannot be put. */
static int source_in_batch(const struct batch *batch, size_t n,
                           struct forkq__source *ret_source) {
  *ret_source = (struct forkq__source){ 0 };
  if (batch->objects != NULL) {
    ret_source->object = &batch->objects[n];
    return 0;
  }
  if (batch->messages == NULL || batch->messages[n].data == NULL)
    return FORKQ_ENULL;
  ret_source->data = batch->messages[n].data;
  ret_source->size = batch->messages[n].size;
  return forkq__scan(ret_source->data, ret_source->size, NULL);
}

/* The mutex is kept from the first to the last: the feeder that runs for the first runs for
 * all. Returns why it ended before the last. */
static int put_batch(forkq_queue_t *queue, const struct batch *batch,
                     struct forkq__source *source, int64_t deadline, size_t *ret_put) {
  size_t n = 0;
  int r = wait_for_slot(queue, deadline);
  while (r == 0 && (r = put_in_slot(queue, source)) == 0 && ++n < batch->count) {
    r = source_in_batch(batch, n, source);
    if (r == 0)
      r = try_next_slot(queue);
  }
  *ret_put = n;
  return r;
}

static int put_many(forkq_queue_t *queue, const struct batch *batch, int timeout_ms,
                    size_t *ret_put) {
  struct forkq__source source;
  size_t n = 0;
  int r = check_timeout(timeout_ms);
  if (r == 0 && batch->count > 0)
    r = source_in_batch(batch, 0, &source);
  if (r == 0 && batch->count > 0) {
    int64_t deadline = forkq__os_deadline(timeout_ms);
    forkq__feeder_lock(&queue->feeder);
    r = put_batch(queue, batch, &source, deadline, &n);
    if (n > 0)
      forkq__feeder_push(&queue->feeder, queue->direct_write);
    forkq__feeder_unlock(&queue->feeder);
  }
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

/* ---- getting ----------------------------------------------------------------------------- */

/* What the feeder has in its hands, or cannot be sent here, comes in a moment, unless the pipe
 * is full: then something is there. */
void forkq__queue_send_own(forkq_queue_t *queue, int64_t deadline) {
  struct pollfd pipe = { .fd = queue->channel.read_fd, .events = POLLIN };
  forkq__feeder_lock(&queue->feeder);
  forkq__feeder_send_now(&queue->feeder);
  bool more = queue->feeder.in_flight != NULL || queue->feeder.outbox.head != NULL;
  forkq__feeder_unlock(&queue->feeder);
  if (more && deadline == FORKQ__NOWAIT)
    forkq__os_poll(&pipe, 1, forkq__os_deadline_within(FORKQ__FOREVER, OWN_MS));
}

/* What is to be done before the first get of a process: with task_done, its gets are counted
 * in a cell of its own. */
static int prepare_to_get(forkq_queue_t *queue, int64_t deadline) {
  int r = 0;
  if (!queue->channel.joinable || queue->channel.cell != FORKQ__NO_CELL)
    return r;
  do {
    forkq__feeder_lock(&queue->feeder);
    r = forkq__feeder_open_cell(&queue->feeder);
    forkq__feeder_unlock(&queue->feeder);
  } while (r == FORKQ_TIMEDOUT && forkq__os_now() < deadline);
  return r == FORKQ_TIMEDOUT && deadline == FORKQ__NOWAIT ? FORKQ_EMPTY : r;
}

/* What is there: 0, FORKQ__NOTHING, or FORKQ_ESHUTDOWN when nothing will ever be. */
static int receive_ready(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline) {
  int r = prepare_to_get(queue, deadline);
  if (r < 0)
    return r;
  if (atomic_load(&queue->segment->channel.shutdown) == FORKQ__DROPPED)
    return FORKQ_ESHUTDOWN;
  r = forkq__channel_receive(&queue->channel, item, deadline);
  if (r == FORKQ__NOTHING && queue->channel.cell != FORKQ__NO_CELL) {
    forkq__queue_send_own(queue, deadline);
    r = forkq__channel_receive(&queue->channel, item, deadline);
  }
  return r == FORKQ__NOTHING && forkq__channel_exhausted(&queue->channel)
             ? FORKQ_ESHUTDOWN
             : r;
}

static int receive(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline) {
  int r = receive_ready(queue, item, deadline);
  if (r != FORKQ__NOTHING)
    return r;
  if (deadline == FORKQ__NOWAIT)
    return FORKQ_EMPTY;
  return forkq__channel_receive_wait(&queue->channel, item, deadline);
}

int forkq__queue_enter_get(forkq_queue_t *queue) {
  atomic_fetch_add(&queue->getters, 1);
  if (!atomic_load(&queue->channel.closed))
    return 0;
  atomic_fetch_sub(&queue->getters, 1);
  return FORKQ_ECLOSED;
}

void forkq__queue_leave_get(forkq_queue_t *queue) {
  forkq__slots_freed(&queue->segment->slots, queue->channel.room_fd);
  atomic_fetch_sub(&queue->getters, 1);
}

int forkq__queue_get_soon(forkq_queue_t *queue, forkq_item_t *item, int64_t deadline) {
  forkq__item_clear(item);
  int r = forkq__queue_enter_get(queue);
  if (r < 0)
    return r;
  r = receive_ready(queue, item, deadline);
  forkq__queue_leave_get(queue);
  return r == FORKQ_TIMEDOUT ? FORKQ__NOTHING : r;
}

static int get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  if (queue == NULL || item == NULL)
    return FORKQ_ENULL;
  forkq__item_clear(item);
  int r = check_timeout(timeout_ms);
  if (r == 0)
    r = forkq__queue_enter_get(queue);
  if (r < 0)
    return r;
  r = receive(queue, item, forkq__os_deadline(timeout_ms));
  forkq__queue_leave_get(queue);
  return r;
}

int forkq_queue_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  int r = get(queue, item, timeout_ms);
  return r < 0 ? r : forkq__item_unpack(item);
}

int forkq_queue_get_packed(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms) {
  return get(queue, item, timeout_ms);
}

int forkq_queue_get_nowait(forkq_queue_t *queue, forkq_item_t *item) {
  return forkq_queue_get(queue, item, 0);
}

static int get_many(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                    int timeout_ms, size_t *ret_got) {
  for (size_t i = 0; i < count; i++)
    forkq__item_clear(&items[i]);
  int r = check_timeout(timeout_ms);
  if (r == 0)
    r = forkq__queue_enter_get(queue);
  if (r < 0)
    return r;
  size_t n = 0;
  if (count > 0)
    r = receive(queue, &items[0], forkq__os_deadline(timeout_ms));
  if (count > 0 && r == 0) {
    (void)forkq__channel_receive_more(&queue->channel, items + 1, count - 1, &n);
    n++;
  }
  forkq__queue_leave_get(queue);
  if (r == 0)
    *ret_got = n;
  return r;
}

int forkq_queue_get_many(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                         int timeout_ms, size_t *ret_got) {
  if (queue == NULL || (items == NULL && count > 0) || ret_got == NULL)
    return FORKQ_ENULL;
  int r = get_many(queue, items, count, timeout_ms, ret_got);
  if (r < 0)
    return r;
  for (size_t i = 0; i < *ret_got; i++) {
    int unpacked = forkq__item_unpack(&items[i]);
    r = unpacked < 0 ? unpacked : r;
  }
  return r;
}

int forkq_queue_get_many_packed(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                                int timeout_ms, size_t *ret_got) {
  if (queue == NULL || (items == NULL && count > 0) || ret_got == NULL)
    return FORKQ_ENULL;
  return get_many(queue, items, count, timeout_ms, ret_got);
}

/* ---- looking ----------------------------------------------------------------------------- */

/* Before numbers are told, the dead are taken out of them. */
static void reap_unlocked(forkq_queue_t *queue) {
  if (forkq__queue_packing_here())
    return;
  forkq__feeder_lock(&queue->feeder);
  forkq__queue_reap(queue);
  forkq__feeder_unlock(&queue->feeder);
}

int64_t forkq_queue_qsize(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  reap_unlocked(queue);
  int64_t size = (int64_t)forkq__ledger_size(&queue->segment->ledger);
  int64_t maxsize = queue->segment->slots.maxsize;
  return maxsize > 0 && size > maxsize ? maxsize : size;
}

static bool finished(forkq_queue_t *queue) {
  forkq__feeder_lock(&queue->feeder);
  bool is = queue->feeder.state == FORKQ__FEEDER_FINISHED;
  forkq__feeder_unlock(&queue->feeder);
  return is;
}

int forkq_queue_empty(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  if (atomic_load(&queue->channel.closed) && finished(queue))
    return FORKQ_ECLOSED;
  return forkq_queue_qsize(queue) == 0;
}

int forkq_queue_full(forkq_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  struct forkq__segment *segment = queue->segment;
  if (forkq__feeder_full(&queue->feeder))
    return 1;
  if (!forkq__slots_full(&segment->slots, &segment->ledger))
    return 0;
  reap_unlocked(queue);
  return forkq__slots_full(&segment->slots, &segment->ledger);
}

static void add_cells(struct forkq__ledger *ledger, forkq_queue_stats_t *stats) {
  uint64_t accepted = 0, bytes = 0;
  for (uint32_t i = 0; i < atomic_load(&ledger->cells_used); i++) {
    accepted += atomic_load(&ledger->cells[i].accepted);
    bytes += atomic_load(&ledger->cells[i].accepted_bytes);
  }
  stats->put_items = accepted;
  stats->put_bytes = bytes;
}

static void add_own(forkq_queue_t *queue, forkq_queue_stats_t *stats) {
  uint32_t index = queue->channel.cell;
  if (index == FORKQ__NO_CELL)
    return;
  struct forkq__cell *cell = &queue->segment->ledger.cells[index];
  uint64_t sent_bytes = atomic_load(&cell->sent_bytes);
  stats->outbox_items = forkq__ledger_held(&queue->segment->ledger, index);
  stats->outbox_bytes =
      stats->outbox_items > 0 ? atomic_load(&cell->accepted_bytes) - sent_bytes : 0;
}

int forkq_queue_stats(forkq_queue_t *queue, forkq_queue_stats_t *stats) {
  if (queue == NULL || stats == NULL)
    return FORKQ_ENULL;
  if (stats->size != sizeof *stats)
    return FORKQ_ERANGE;
  struct forkq__segment *segment = queue->segment;
  struct forkq__ledger *ledger = &segment->ledger;
  *stats = (forkq_queue_stats_t){ .size = sizeof *stats };
  reap_unlocked(queue);
  add_cells(ledger, stats);
  add_own(queue, stats);
  stats->got_items = atomic_load(&ledger->taken);
  stats->got_bytes = atomic_load(&segment->channel.bytes_taken);
  stats->put_waits = atomic_load(&segment->slots.waits);
  stats->get_waits = atomic_load(&segment->channel.getter_waits);
  stats->recoveries = atomic_load(&ledger->recoveries);
  stats->lost_items = atomic_load(&ledger->lost);
  return 0;
}
