/* What the scenarios of faults have in common: items, what calls may return, and a queue before and
 * after. */
#define _GNU_SOURCE
#include "fault_world.h"

#include <stdio.h>

char huge[HUGE + 8];

/* ---- items ------------------------------------------------------------------------- */

uint64_t bit(unsigned id) {
  return UINT64_C(1) << id;
}

msgpack_object small(unsigned id) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                            .via = { .u64 = id } };
  return object;
}

/* Bytes of which the first is the number. */
msgpack_object bytes(unsigned id, uint32_t size) {
  huge[0] = (char)id;
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN,
                            .via = { .bin = { .size = size, .ptr = huge } } };
  return object;
}

/* The number of an item by its msgpack bytes. */
unsigned id_of(const char *data, size_t size) {
  CHILD_MUST(data != NULL && size > 0);
  unsigned head = (unsigned char)data[0];
  if (head < 64)
    return head;
  if (head == 0xc0)
    return NIL_ID;
  if (head == 0xa1)
    return (unsigned char)data[1];
  CHILD_MUST(head >= 0xc4 && head <= 0xc6);
  unsigned before = 1 + (1u << (head - 0xc4));
  CHILD_MUST(size > before);
  return (unsigned char)data[before];
}

void once(uint64_t *set, unsigned id) {
  CHILD_MUST(id < 64 && !(*set & bit(id)));
  *set |= bit(id);
}

int pack_small(msgpack_packer *packer, void *arg) {
  return msgpack_pack_uint64(packer, *(uint64_t *)arg);
}

/* ---- results ----------------------------------------------------------------------- */

/* A result of a call in the act must be one that its header names. */
int met(struct world *w, int r) {
  bool known = r >= 0 || r == w->injected;
  for (int i = 0; i < 12 && !known; i++)
    known = r == w->scenario->allowed[i];
  if (!known)
    fprintf(stderr, "unexpected: %s\n", forkq_error_name(r));
  CHILD_MUST(known);
  w->last = r;
  return r;
}

void put_done(struct world *w, unsigned id, int r) {
  if (met(w, r) >= 0)
    once(&w->accepted, id);
}

/* What a get left in the item counts whatever it returned. */
int get_done(struct world *w, forkq_item_t *item, int r) {
  if (item->size > 0)
    once(&w->got, id_of(item->data, item->size));
  else
    CHILD_MUST(r < 0);
  return r;
}

static void lost(forkq_queue_t *queue, int error, const char *data, size_t size,
                 void *arg) {
  struct world *w = arg;
  (void)queue;
  CHILD_MUST(error < 0);
  /* Without memory for a large item there is only its size, and here one of that size. */
  unsigned id = data != NULL ? id_of(data, size) : size > LARGE + 8 ? 3 : 2;
  CHILD_MUST(!(atomic_fetch_or(&w->reported, bit(id)) & bit(id)));
}

uint64_t outstanding(struct world *w) {
  return w->accepted & ~w->got & ~atomic_load(&w->reported);
}

/* ---- the queue, before and after ----------------------------------------------------- */

static int create_with(struct world *w, forkq_queue_options_t options) {
  options.size = sizeof options;
  options.on_feeder_error = lost;
  options.on_feeder_error_arg = w;
  return forkq_queue_create_with(&w->queue, &options);
}

int create(struct world *w, int64_t maxsize, bool joinable, bool direct) {
  return create_with(w, (forkq_queue_options_t){ .maxsize = maxsize,
                                                 .joinable = joinable,
                                                 .no_direct_write = !direct });
}

int create_that_tells(struct world *w) {
  return create_with(
      w, (forkq_queue_options_t){ .joinable = 1, .lost_tasks = FORKQ_LOST_TASKS_TELL });
}

void make_queue(struct world *w) {
  CHILD_MUST(create(w, 0, false, true) == 0);
}

void make_kept_to_pipe(struct world *w) {
  make_queue(w);
  support_keep_to_pipe(w->queue);
}

void make_small_pipe(struct world *w) {
  make_kept_to_pipe(w);
  support_shrink_pipe(w->queue);
}

void make_bounded(struct world *w) {
  CHILD_MUST(create(w, 2, false, true) == 0);
}

void put_small(struct world *w, unsigned id) {
  msgpack_object object = small(id);
  put_done(w, id, forkq_queue_put(w->queue, &object, 1000));
}

/* A queue whose feeder runs already. */
void make_running(struct world *w) {
  make_queue(w);
  msgpack_object object = small(1);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 1000) == 0);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == 0);
}

/* A queue with three items, the last of several packets. */
void make_filled(struct world *w) {
  make_running(w);
  support_keep_to_pipe(w->queue);
  put_small(w, 4);
  put_small(w, 5);
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
}

/* Only of bytes it is known beforehand how many there are. */
void put_beside(struct world *w, unsigned id) {
  static char large[5 + LARGE] = "\xc6\0\0\x4e\x20"; /* a bin 32 */
  large[5] = (char)id;
  put_done(w, id, forkq_queue_put_packed(w->queue, large, sizeof large, 1000));
}

void make_filled_beside(struct world *w) {
  make_running(w);
  put_small(w, 4);
  put_small(w, 5);
  put_beside(w, 2);
}

/* Everything that was accepted comes, once, unless its loss was reported. */
void drain(struct world *w) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  while (outstanding(w) != 0) {
    int r = get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 100));
    CHILD_MUST(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_ESHUTDOWN);
    CHILD_MUST(support_now_ms() < deadline);
  }
  CHILD_MUST((w->got & ~w->accepted) == 0);
}

/* The queue works, and is empty in the end. */
void use_queue(struct world *w) {
  if (w->queue == NULL)
    CHILD_MUST(create(w, 2, false, true) == 0);
  drain(w);
  msgpack_object object = small(LAST_ID);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 1000) == 0);
  w->accepted |= bit(LAST_ID);
  drain(w);
  CHILD_MUST(forkq_queue_qsize(w->queue) == 0);
  CHILD_MUST(forkq_queue_get_nowait(w->queue, &w->item) == FORKQ_EMPTY);
}

void destroy_queue(struct world *w) {
  forkq_queue_destroy(w->queue);
  w->queue = NULL;
}

void use_and_destroy(struct world *w) {
  use_queue(w);
  destroy_queue(w);
}

void nothing(struct world *w) {
  (void)w;
}
