/* Scenarios of faults in which a queue is created and items go through it: each put and each get. */
#define _GNU_SOURCE
#include "fault_world.h"

#include <pthread.h>
#include <string.h>

/* ---- creating ---------------------------------------------------------------------- */

static void act_create(struct world *w) {
  met(w, create(w, 2, false, true));
}

static void act_create_plain(struct world *w) {
  met(w, forkq_queue_create(&w->queue, 2));
}

static void act_create_joinable(struct world *w) {
  met(w, forkq_joinable_queue_create(&w->queue, 2));
}

static void act_simple(struct world *w) {
  forkq_simple_queue_t *queue;
  if (met(w, forkq_simple_queue_create(&queue)) < 0)
    return;
  support_keep_to_pipe(queue);
  msgpack_object object = small(4);
  put_done(w, 4, forkq_simple_queue_put(queue, &object));
  put_done(w, 5, forkq_simple_queue_put_packed(queue, "\x05", 1));
  object = bytes(2, LARGE);
  put_done(w, 2, forkq_simple_queue_put(queue, &object));
  put_done(w, 6, forkq_simple_queue_put_int(queue, 6));
  put_done(w, 7, forkq_simple_queue_put_str(queue, "\7"));
  put_done(w, NIL_ID, forkq_simple_queue_put_nil(queue));
  met(w, forkq_simple_queue_empty(queue));
  for (int i = 0; i < 10 && (w->accepted & ~w->got) != 0; i++)
    met(w, get_done(w, &w->item, forkq_simple_queue_get(queue, &w->item)));
  w->queue = (forkq_queue_t *)queue;
}

/* With a fault that lasts, the gets above may all have failed. */
static void after_simple(struct world *w) {
  forkq_simple_queue_t *queue = (forkq_simple_queue_t *)w->queue;
  if (queue == NULL)
    CHILD_MUST(forkq_simple_queue_create(&queue) == 0);
  msgpack_object object = small(LAST_ID);
  CHILD_MUST(forkq_simple_queue_put(queue, &object) == 0);
  w->accepted |= bit(LAST_ID);
  while ((w->accepted & ~w->got) != 0)
    CHILD_MUST(get_done(w, &w->item, forkq_simple_queue_get(queue, &w->item)) == 0);
  CHILD_MUST(forkq_simple_queue_empty(queue) == 1);
  CHILD_MUST(forkq_simple_queue_close(queue) == 0);
  forkq_simple_queue_destroy(queue);
  w->queue = NULL;
}

/* ---- putting ----------------------------------------------------------------------- */

static void act_put(struct world *w) {
  put_small(w, 4);
  put_small(w, 5);
  put_done(w, 6, forkq_queue_put_packed(w->queue, "\x06", 1, 1000));
  uint64_t id = 7;
  put_done(w, 7, forkq_queue_put_with(w->queue, pack_small, &id, 1000));
  msgpack_object object = small(8);
  put_done(w, 8, forkq_queue_put_nowait(w->queue, &object));
}

static void act_putf(struct world *w) {
  huge[0] = 2;
  put_done(w, 4, forkq_queue_putf(w->queue, 1000, "U", (uint64_t)4));
  put_done(w, 2, forkq_queue_putf(w->queue, 1000, "y#", huge, (size_t)LARGE));
}

static void put_bytes(struct world *w, unsigned id, uint32_t size) {
  msgpack_object_bin bin = bytes(id, size).via.bin;
  put_done(w, id, forkq_queue_put_bytes(w->queue, bin.ptr, bin.size, 1000));
}

/* In place, beside the pipe, and drafted. */
static void put_three_bins(struct world *w) {
  put_bytes(w, 4, 1);
  put_bytes(w, 5, 2000);
  put_bytes(w, 2, LARGE);
}

static void act_put_plain(struct world *w) {
  size_t count = 0;
  put_three_bins(w);
  put_done(w, 7, forkq_queue_put_str(w->queue, "\7", 1000));
  put_done(w, 8, forkq_queue_put_int(w->queue, 8, 1000));
  put_done(w, NIL_ID, forkq_queue_put_nil(w->queue, 1000));
  (void)bytes(9, 1);
  const forkq_bytes_t many[] = { { "\12", 1 }, { huge, 2000 }, { "\13", 1 } };
  static const unsigned ids[] = { 10, 9, 11 };
  if (met(w, forkq_queue_put_many_bytes(w->queue, many, 3, 1000, &count)) < 0)
    return;
  for (size_t i = 0; i < count; i++)
    once(&w->accepted, ids[i]);
}

static void act_put_large(struct world *w) {
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
  put_small(w, 4);
}

/* Into a piece at once, from the outbox into a piece, and drafted in a piece: of the two that are drafted
 * objects, only the second. */
static void act_put_beside(struct world *w) {
  put_beside(w, 2);
  msgpack_object object = bytes(4, 1000);
  put_done(w, 4, forkq_queue_put(w->queue, &object, 1000));
  for (unsigned id = 5; id < 7; id++) {
    object = bytes(id, 5000);
    put_done(w, id, forkq_queue_put(w->queue, &object, 1000));
  }
  put_small(w, 7);
}

/* More than the pipe holds, so that the feeder waits in the middle. */
static void act_put_huge(struct world *w) {
  msgpack_object object = bytes(3, HUGE);
  put_done(w, 3, forkq_queue_put(w->queue, &object, 1000));
  put_small(w, 4);
  for (int i = 0; i < 3; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

static void act_put_many(struct world *w) {
  msgpack_object objects[] = { small(4), small(5), small(6), bytes(2, LARGE) };
  size_t count = 0;
  if (met(w, forkq_queue_put_many(w->queue, objects, 4, 1000, &count)) < 0)
    return;
  CHILD_MUST(count > 0);
  static const unsigned ids[] = { 4, 5, 6, 2 };
  for (size_t i = 0; i < count; i++)
    once(&w->accepted, ids[i]);
}

static void act_put_many_packed(struct world *w) {
  huge[0] = '\xc6'; /* a bin 32, whose first byte is its number */
  memcpy(huge + 1, "\0\1\0\0\2", 5);
  const forkq_bytes_t messages[] = { { "\4", 1 }, { "\5", 1 }, { huge, 5 + 65536 } };
  static const unsigned ids[] = { 4, 5, 2 };
  size_t count = 0;
  if (met(w, forkq_queue_put_many_packed(w->queue, messages, 3, 1000, &count)) < 0)
    return;
  CHILD_MUST(count > 0);
  for (size_t i = 0; i < count; i++)
    once(&w->accepted, ids[i]);
}

/* Full, with and without waiting; then there is room. */
static void act_put_full(struct world *w) {
  for (unsigned id = 4; id < 8; id++) {
    msgpack_object object = small(id);
    put_done(w, id, forkq_queue_put(w->queue, &object, id % 2 == 0 ? 0 : SOON_MS));
  }
  met(w, forkq_queue_full(w->queue));
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
  msgpack_object object = small(8);
  put_done(w, 8, forkq_queue_put(w->queue, &object, SOON_MS));
}

static void *make_room(void *arg) {
  struct world *w = arg;
  get_done(w, &w->items[0], forkq_queue_get(w->queue, &w->items[0], 200));
  return NULL;
}

/* A put that waits until another thread gets. */
static void act_put_waits(struct world *w) {
  pthread_t thread;
  put_small(w, 4);
  put_small(w, 5);
  CHILD_MUST(pthread_create(&thread, NULL, make_room, w) == 0);
  msgpack_object object = small(6);
  put_done(w, 6, forkq_queue_put(w->queue, &object, 200));
  pthread_join(thread, NULL);
}

/* ---- getting ----------------------------------------------------------------------- */

static void act_get(struct world *w) {
  for (int i = 0; i < 3; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
  met(w, get_done(w, &w->item, forkq_queue_get_nowait(w->queue, &w->item)));
}

static void act_get_packed(struct world *w) {
  for (int i = 0; i < 3; i++)
    met(w, get_done(w, &w->item, forkq_queue_get_packed(w->queue, &w->item, SOON_MS)));
  met(w, get_done(w, &w->item, forkq_queue_get_packed(w->queue, &w->item, 0)));
}

static void make_filled_with_bins(struct world *w) {
  make_running(w);
  put_three_bins(w);
}

/* The same, but through the pipe. */
static void make_piped_bins(struct world *w) {
  make_running(w);
  support_keep_to_pipe(w->queue);
  put_three_bins(w);
}

static void act_get_bytes_into(struct world *w) {
  static char buffer[LARGE];
  size_t size = 0;
  for (int i = 0; i < 4; i++)
    if (met(w, forkq_queue_get_bytes_into(w->queue, buffer, LARGE, SOON_MS, &size)) == 0)
      once(&w->got, (unsigned char)buffer[0]);
}

static void act_get_many_borrowed(struct world *w) {
  for (int round = 0; round < 2; round++) {
    size_t count = 0;
    met(w, forkq_queue_get_many_borrowed(w->queue, w->items, 4, SOON_MS, &count));
    for (size_t i = 0; i < 4; i++)
      if (w->items[i].size > 0)
        once(&w->got, id_of(w->items[i].data, w->items[i].size));
  }
}

static void act_get_own(struct world *w) {
  put_small(w, 4);
  met(w, get_done(w, &w->item, forkq_queue_get_nowait(w->queue, &w->item)));
  put_small(w, 5);
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

static void act_get_many(struct world *w) {
  for (int round = 0; round < 2; round++) {
    size_t count = 0;
    met(w, forkq_queue_get_many(w->queue, w->items, 4, SOON_MS, &count));
    for (size_t i = 0; i < 4; i++)
      if (w->items[i].size > 0)
        once(&w->got, id_of(w->items[i].data, w->items[i].size));
  }
}

static void act_get_many_packed(struct world *w) {
  for (int round = 0; round < 2; round++) {
    size_t count = 0;
    int r = met(w, forkq_queue_get_many_packed(w->queue, w->items, 4, SOON_MS, &count));
    for (size_t i = 0; r == 0 && i < count; i++)
      once(&w->got, id_of(w->items[i].data, w->items[i].size));
  }
}

static void *put_soon(void *arg) {
  struct world *w = arg;
  support_until_threads_asleep(1);
  msgpack_object object = small(5);
  int r = forkq_queue_put(w->queue, &object, 1000);
  if (r == 0)
    w->accepted |= bit(5);
  return NULL;
}

/* A get that sleeps until another thread puts. */
static void act_get_waits(struct world *w) {
  pthread_t thread;
  CHILD_MUST(pthread_create(&thread, NULL, put_soon, w) == 0);
  int r = forkq_queue_get(w->queue, &w->item, 300);
  pthread_join(thread, NULL);
  met(w, get_done(w, &w->item, r));
}

/* ---- the table --------------------------------------------------------------------- */

const struct scenario scenarios_of_items[] = {
  { "create", nothing, act_create, use_and_destroy, false, { 0 } },
  { "create, default options", nothing, act_create_plain, use_and_destroy, false, { 0 } },
  { "create joinable", nothing, act_create_joinable, use_and_destroy, false, { 0 } },
  { "simple queue", nothing, act_simple, after_simple, false, { -ENOMEM } },
  { "put", make_queue, act_put, use_and_destroy, false, { PUT_ERRORS } },
  { "put, feeder running",
    make_running,
    act_put,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "putf", make_queue, act_putf, use_and_destroy, false, { PUT_ERRORS } },
  { "put plain values",
    make_queue,
    act_put_plain,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put plain values, through the pipe",
    make_kept_to_pipe,
    act_put_plain,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put large",
    make_kept_to_pipe,
    act_put_large,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put beside the pipe",
    make_queue,
    act_put_beside,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put huge",
    make_small_pipe,
    act_put_huge,
    use_and_destroy,
    false,
    { PUT_ERRORS, FORKQ_EMPTY } },
  { "put many", make_kept_to_pipe, act_put_many, use_and_destroy, false, { PUT_ERRORS } },
  { "put many packed",
    make_kept_to_pipe,
    act_put_many_packed,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put many packed, beside the pipe",
    make_queue,
    act_put_many_packed,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put, full", make_bounded, act_put_full, use_and_destroy, false, { PUT_ERRORS } },
  { "put waits", make_bounded, act_put_waits, use_and_destroy, false, { PUT_ERRORS } },
  { "get", make_filled, act_get, use_and_destroy, false, { GET_ERRORS } },
  { "get, beside the pipe",
    make_filled_beside,
    act_get,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get packed", make_filled, act_get_packed, use_and_destroy, false, { GET_ERRORS } },
  { "get bytes into a buffer",
    make_filled_with_bins,
    act_get_bytes_into,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get bytes into a buffer, through the pipe",
    make_piped_bins,
    act_get_bytes_into,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get many borrowed",
    make_filled_with_bins,
    act_get_many_borrowed,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get own",
    make_queue,
    act_get_own,
    use_and_destroy,
    false,
    { PUT_ERRORS, GET_ERRORS } },
  { "get many", make_filled, act_get_many, use_and_destroy, false, { GET_ERRORS } },
  { "get many, beside the pipe",
    make_filled_beside,
    act_get_many,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get many packed",
    make_filled,
    act_get_many_packed,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get waits", make_running, act_get_waits, use_and_destroy, false, { GET_ERRORS } },
  { NULL, NULL, NULL, NULL, false, { 0 } },
};
