#define _GNU_SOURCE
#include "fault_scenarios.h"
#include "queue/queue_impl.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <forkq/handover.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE 20000 /* a message of several packets */
#define HUGE 100000 /* of more packets than a small pipe holds, which is 16 */
#define PATIENCE_MS 10000

/* The waits of the acts, of which some are in vain. */
#define SOON_MS 10

/* Numbers of items: those of the act, and the one that is put when all is well again. */
#define LAST_ID 60

/* All that a scenario has. Sets of items are bits. */
struct world {
  const struct scenario *scenario;
  int injected; /* the fault's errno, negative, or 0 */
  forkq_queue_t *queue;
  forkq_connection_t *a, *b;
  forkq_item_t item;
  forkq_item_t items[4];
  uint64_t accepted, got;
  _Atomic uint64_t reported; /* by the feeder */
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
  uint64_t sent, arrived; /* over connections */
  int last;               /* the latest result of the act */
};

struct scenario {
  const char *name;
  void (*before)(struct world *w);
  void (*act)(struct world *w);
  void (*after)(struct world *w);
  bool streams;
  /* Results that the headers name, besides 0 and the fault's own errno. */
  int allowed[12];
};

static char huge[HUGE + 8];

/* ---- items ------------------------------------------------------------------------- */

static uint64_t bit(unsigned id) {
  return UINT64_C(1) << id;
}

static msgpack_object small(unsigned id) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                            .via = { .u64 = id } };
  return object;
}

/* Bytes of which the first is the number. */
static msgpack_object bytes(unsigned id, uint32_t size) {
  huge[0] = (char)id;
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN,
                            .via = { .bin = { .size = size, .ptr = huge } } };
  return object;
}

/* The number of an item by its msgpack bytes. */
static unsigned id_of(const char *data, size_t size) {
  CHILD_MUST(data != NULL && size > 0);
  unsigned head = (unsigned char)data[0];
  if (head < 64)
    return head;
  CHILD_MUST((head == 0xc5 && size > 3) || (head == 0xc6 && size > 5));
  return (unsigned char)data[head == 0xc5 ? 3 : 5];
}

static void once(uint64_t *set, unsigned id) {
  CHILD_MUST(id < 64 && !(*set & bit(id)));
  *set |= bit(id);
}

/* ---- results ----------------------------------------------------------------------- */

/* A result of a call in the act must be one that its header names. */
static int met(struct world *w, int r) {
  bool known = r >= 0 || r == w->injected;
  for (int i = 0; i < 12 && !known; i++)
    known = r == w->scenario->allowed[i];
  if (!known)
    fprintf(stderr, "unexpected: %s\n", forkq_error_name(r));
  CHILD_MUST(known);
  w->last = r;
  return r;
}

static void put_done(struct world *w, unsigned id, int r) {
  if (met(w, r) >= 0)
    once(&w->accepted, id);
}

/* What a get left in the item counts whatever it returned. */
static int get_done(struct world *w, forkq_item_t *item, int r) {
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

static uint64_t outstanding(struct world *w) {
  return w->accepted & ~w->got & ~atomic_load(&w->reported);
}

/* ---- the queue, before and after ----------------------------------------------------- */

static int create(struct world *w, int64_t maxsize, bool joinable, bool direct) {
  forkq_queue_options_t options = {
    .size = sizeof options,
    .maxsize = maxsize,
    .joinable = joinable,
    .no_direct_write = !direct,
    .on_feeder_error = lost,
    .on_feeder_error_arg = w,
  };
  return forkq_queue_create_with(&w->queue, &options);
}

static void make_queue(struct world *w) {
  CHILD_MUST(create(w, 0, false, true) == 0);
}

static void make_small_pipe(struct world *w) {
  make_queue(w);
  support_shrink_pipe(w->queue);
}

static void make_bounded(struct world *w) {
  CHILD_MUST(create(w, 2, false, true) == 0);
}

static void make_joinable(struct world *w) {
  CHILD_MUST(create(w, 0, true, true) == 0);
}

static void put_small(struct world *w, unsigned id) {
  msgpack_object object = small(id);
  put_done(w, id, forkq_queue_put(w->queue, &object, 1000));
}

/* A queue whose feeder runs already. */
static void make_running(struct world *w) {
  make_queue(w);
  msgpack_object object = small(1);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 1000) == 0);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == 0);
}

/* A queue with three items, the last of several packets. */
static void make_filled(struct world *w) {
  make_running(w);
  put_small(w, 4);
  put_small(w, 5);
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
}

/* Everything that was accepted comes, once, unless its loss was reported. */
static void drain(struct world *w) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  while (outstanding(w) != 0) {
    int r = get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 100));
    CHILD_MUST(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_ESHUTDOWN);
    CHILD_MUST(support_now_ms() < deadline);
  }
  CHILD_MUST((w->got & ~w->accepted) == 0);
}

/* The queue works, and is empty in the end. */
static void use_queue(struct world *w) {
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

static void destroy_queue(struct world *w) {
  forkq_queue_destroy(w->queue);
  w->queue = NULL;
}

static void use_and_destroy(struct world *w) {
  use_queue(w);
  destroy_queue(w);
}

/* ---- creating ---------------------------------------------------------------------- */

static void nothing(struct world *w) {
  (void)w;
}

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
  msgpack_object object = small(4);
  put_done(w, 4, forkq_simple_queue_put(queue, &object));
  put_done(w, 5, forkq_simple_queue_put_packed(queue, "\x05", 1));
  object = bytes(2, LARGE);
  put_done(w, 2, forkq_simple_queue_put(queue, &object));
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

static int pack_small(msgpack_packer *packer, void *arg) {
  return msgpack_pack_uint64(packer, *(uint64_t *)arg);
}

static void act_put(struct world *w) {
  put_small(w, 4);
  put_small(w, 5);
  put_done(w, 6, forkq_queue_put_packed(w->queue, "\x06", 1, 1000));
  uint64_t id = 7;
  put_done(w, 7, forkq_queue_put_with(w->queue, pack_small, &id, 1000));
  msgpack_object object = small(8);
  put_done(w, 8, forkq_queue_put_nowait(w->queue, &object));
}

static void act_put_large(struct world *w) {
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
  put_small(w, 4);
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

/* ---- tasks, looking, ending ---------------------------------------------------------- */

static void act_tasks(struct world *w) {
  put_small(w, 4);
  put_small(w, 5);
  for (int i = 0; i < 2; i++) {
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
    if (w->last == 0)
      met(w, forkq_queue_task_done(w->queue));
  }
  met(w, forkq_queue_join(w->queue, SOON_MS, NULL));
}

/* Join comes to its end, with what was not worked off in the act. */
static void after_tasks(struct world *w) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  use_queue(w);
  while (forkq_queue_task_done(w->queue) == 0)
    ;
  CHILD_MUST(forkq_queue_task_done(w->queue) == FORKQ_ETASKDONE);
  CHILD_MUST(forkq_queue_join(w->queue, PATIENCE_MS, NULL) == 0);
  CHILD_MUST(forkq_queue_stats(w->queue, &stats) == 0);
  destroy_queue(w);
}

static void act_look(struct world *w) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  CHILD_MUST(forkq_queue_qsize(w->queue) >= 0);
  met(w, forkq_queue_empty(w->queue));
  met(w, forkq_queue_full(w->queue));
  met(w, forkq_queue_stats(w->queue, &stats));
}

static void act_shutdown(struct world *w) {
  met(w, forkq_queue_shutdown(w->queue, 0));
  for (int i = 0; i < 4; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

static void after_shutdown(struct world *w) {
  drain(w);
  msgpack_object object = small(LAST_ID);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == FORKQ_ESHUTDOWN);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == FORKQ_ESHUTDOWN);
  destroy_queue(w);
}

static void act_shutdown_now(struct world *w) {
  met(w, forkq_queue_shutdown(w->queue, 1));
  met(w, forkq_queue_get(w->queue, &w->item, SOON_MS));
}

static void after_shutdown_now(struct world *w) {
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, 1000) == FORKQ_ESHUTDOWN);
  destroy_queue(w);
}

/* A second process has the queue and gets what this one sends as it ends. */
static void get_all(void *arg) {
  struct world *w = arg;
  w->got = 0;
  for (;;) {
    int r = get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, PATIENCE_MS));
    CHILD_MUST(r == 0);
    if (w->got & bit(9))
      break;
  }
  uint64_t got = w->got;
  CHILD_MUST(write(w->fds[3], &got, sizeof got) == (ssize_t)sizeof got);
}

static void make_with_getter(struct world *w) {
  int ends[2];
  make_queue(w);
  CHILD_MUST(pipe2(ends, O_CLOEXEC) == 0);
  w->fds[2] = ends[0];
  w->fds[3] = ends[1];
  w->fds[0] = support_fork(get_all, w);
}

static void act_close(struct world *w) {
  uint64_t unsent = 0;
  put_small(w, 4);
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
  put_small(w, 9);
  met(w, forkq_queue_close(w->queue));
  met(w, forkq_queue_join_thread(w->queue, PATIENCE_MS, &unsent));
  CHILD_MUST(unsent == 0 || atomic_load(&w->reported) != 0);
  destroy_queue(w);
}

static void after_close(struct world *w) {
  uint64_t got = 0;
  if (outstanding(w) & bit(9)) {
    CHILD_MUST(read(w->fds[2], &got, sizeof got) == (ssize_t)sizeof got);
    CHILD_MUST(support_wait(w->fds[0]) == 0);
  } else {
    support_kill_and_wait(w->fds[0]);
    got = outstanding(w); /* whoever got them is dead */
  }
  w->got = got;
  CHILD_MUST(outstanding(w) == 0);
  close(w->fds[2]);
  close(w->fds[3]);
}

static void act_cancel(struct world *w) {
  put_small(w, 4);
  met(w, forkq_queue_cancel_join_thread(w->queue));
  met(w, forkq_queue_close(w->queue));
  met(w, forkq_queue_join_thread(w->queue, -1, NULL));
  destroy_queue(w);
}

static void act_destroy(struct world *w) {
  destroy_queue(w);
}

/* ---- the dead ---------------------------------------------------------------------- */

static void die_holding(void *arg) {
  struct world *w = arg;
  for (unsigned id = 40; id < 42; id++) {
    msgpack_object object = bytes(id, HUGE);
    CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  }
  raise(SIGKILL);
}

/* A process that filled the queue, and the pipe, is dead. */
static void make_dead(struct world *w) {
  make_bounded(w);
  support_shrink_pipe(w->queue);
  CHILD_MUST(support_wait(support_fork(die_holding, w)) == 128 + SIGKILL);
}

static void act_reap(struct world *w) {
  msgpack_object object = small(4);
  put_done(w, 4, forkq_queue_put(w->queue, &object, SOON_MS));
  CHILD_MUST(forkq_queue_qsize(w->queue) >= 0);
  met(w, forkq_queue_full(w->queue));
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

/* A process that died in the write of a packet, of which it is not known at first whether it
 * came to the pipe: it did not. */
static void die_writing(void *arg) {
  struct world *w = arg;
  struct forkq__channel *channel = &w->queue->channel;
  msgpack_object object = small(40);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  struct forkq__cell *cell = &channel->account.ledger->cells[channel->account.cell];
  while (atomic_load(&cell->sent_wire) == 0)
    usleep(100);
  atomic_store(&channel->shared->write_seq, 2);
  atomic_store(&cell->accepted, 2);
  atomic_store(&cell->pending_sent, 2);
  atomic_store(&cell->pending_wire, atomic_load(&cell->sent_wire) + 40);
  atomic_store(&cell->pending_seq, 2);
  raise(SIGKILL);
}

static void make_dead_in_write(struct world *w) {
  make_bounded(w);
  CHILD_MUST(support_wait(support_fork(die_writing, w)) == 128 + SIGKILL);
  w->accepted = bit(40);
}

/* ---- the stopped ------------------------------------------------------------------- */

static void sleep_in_get(void *arg) {
  struct world *w = arg;
  (void)!forkq_queue_get(w->queue, &w->item, -1);
}

/* A process that is asleep in a get, and stopped: it does not hear of what comes. */
static void make_sleeper(struct world *w) {
  make_running(w);
  w->fds[0] = support_fork(sleep_in_get, w);
  struct forkq__channel_shared *shared = w->queue->channel.shared;
  while (atomic_load(&shared->asleep) == 0)
    usleep(100);
  support_until_asleep(w->fds[0]);
  support_stop(w->fds[0]);
}

static void act_beside_sleeper(struct world *w) {
  put_small(w, 4);
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 200)));
  met(w, get_done(w, &w->item, forkq_queue_get_nowait(w->queue, &w->item)));
}

static void after_stopped(struct world *w) {
  support_kill_and_wait(w->fds[0]);
  use_and_destroy(w);
}

static void put_huge(void *arg) {
  struct world *w = arg;
  msgpack_object object = bytes(3, HUGE);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  CHILD_MUST(forkq_queue_close(w->queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(w->queue, -1, NULL) == 0);
}

/* A process that was stopped in the middle of a large item. */
static void make_half_sent(struct world *w) {
  make_small_pipe(w);
  w->fds[0] = support_fork(put_huge, w);
  support_until_pipe_full(w->queue);
  support_stop(w->fds[0]);
  w->accepted = bit(3);
}

/* The part that is there is left for the next get; the sender goes on. A failure to keep the
 * part is told by the get that lost it. */
static void act_get_half(struct world *w) {
  int r = met(w, forkq_queue_get(w->queue, &w->item, SOON_MS));
  if (r == -ENOSPC)
    atomic_store(&w->reported, bit(3));
  CHILD_MUST(r < 0 && w->item.size == 0);
  CHILD_MUST(kill(w->fds[0], SIGCONT) == 0);
  for (int i = 0; i < 3 && w->got == 0; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 200)));
  if (r != FORKQ_TIMEDOUT && w->got == 0) /* the memory of the part could not be had */
    atomic_store(&w->reported, bit(3));
}

static void after_half(struct world *w) {
  drain(w);
  while (waitpid(w->fds[0], NULL, WNOHANG) == 0)
    (void)!forkq_queue_get(w->queue, &w->item, 1); /* the rest of what was lost */
  use_and_destroy(w);
}

static void act_fork(struct world *w) {
  put_small(w, 4);
  pid_t child = fork();
  CHILD_MUST(child >= 0);
  if (child == 0) {
    w->accepted = w->got = 0;
    atomic_store(&w->reported, 0);
    put_small(w, 5);
    forkq_queue_destroy(w->queue);
    _exit(w->accepted != 0 && atomic_load(&w->reported) == 0 ? 0 : 10);
  }
  int status;
  CHILD_MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
  CHILD_MUST(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 10);
  if (WEXITSTATUS(status) == 0)
    once(&w->accepted, 5);
}

/* ---- handover ---------------------------------------------------------------------- */

/* A queue that is not this process's any more, by its descriptors, or on its way through a
 * socket. */
static void make_detached(struct world *w) {
  forkq_handover_t handover;
  unsigned layout;
  make_queue(w);
  CHILD_MUST(forkq_queue_hand_over(w->queue, &handover) == 0);
  CHILD_MUST(sscanf(handover.text, "forkq:%u:", &layout) == 1);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    w->fds[i] = dup(handover.fds[i]);
  snprintf(w->text, sizeof w->text, "forkq:%u:%d:%d:%d:%d:%d", layout, w->fds[0],
           w->fds[1], w->fds[2], w->fds[3], w->fds[4]);
  destroy_queue(w);
}

static void act_attach(struct world *w) {
  if (met(w, forkq_queue_attach(&w->queue, w->text, NULL)) < 0)
    w->queue = NULL;
}

/* Those of make_detached survive exec; what fails to make them so cannot undo it either. */
static void must_be_as_they_were(struct world *w) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(fcntl(w->fds[i], F_GETFD) == 0 || w->last == -EBADF);
}

static void after_attach(struct world *w) {
  if (w->queue == NULL)
    must_be_as_they_were(w);
  if (w->queue == NULL)
    CHILD_MUST(forkq_queue_attach(&w->queue, w->text, NULL) == 0);
  use_and_destroy(w);
}

static void make_sockets(struct world *w) {
  CHILD_MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->fds) == 0);
}

static void make_to_send(struct world *w) {
  make_queue(w);
  make_sockets(w);
}

static void close_sockets(struct world *w) {
  close(w->fds[0]);
  close(w->fds[1]);
}

static void act_send_queue(struct world *w) {
  forkq_handover_t handover;
  met(w, forkq_queue_hand_over(w->queue, &handover));
  met(w, forkq_handover_keep(&handover));
  met(w, forkq_queue_send(w->queue, w->fds[0]));
}

static void after_send_queue(struct world *w) {
  use_and_destroy(w);
  close_sockets(w);
}

static void make_sent(struct world *w) {
  make_to_send(w);
  CHILD_MUST(forkq_queue_send(w->queue, w->fds[0]) == 0);
  destroy_queue(w);
}

static void act_receive_queue(struct world *w) {
  if (met(w, forkq_queue_receive(&w->queue, w->fds[1], NULL)) < 0)
    w->queue = NULL;
}

/* ---- connections ------------------------------------------------------------------- */

static void make_pair(struct world *w) {
  CHILD_MUST(forkq_pipe(&w->a, &w->b, 1) == 0);
}

static void make_pipe(struct world *w) {
  CHILD_MUST(forkq_pipe(&w->b, &w->a, 0) == 0);
}

static void make_pipe_of_older_kernel(struct world *w) {
  make_pipe(w);
  faults_older_kernel();
}

static void destroy_pair(struct world *w) {
  forkq_connection_destroy(w->a);
  forkq_connection_destroy(w->b);
  w->a = w->b = NULL;
}

static void act_pipe(struct world *w) {
  if (met(w, forkq_pipe(&w->a, &w->b, 1)) < 0)
    w->a = w->b = NULL;
  destroy_pair(w);
  if (met(w, forkq_pipe(&w->a, &w->b, 0)) < 0)
    w->a = w->b = NULL;
  met(w, w->a != NULL ? forkq_connection_close(w->a) : 0);
}

static void make_end(struct world *w) {
  make_sockets(w);
}

static void act_open(struct world *w) {
  if (met(w, forkq_connection_open(&w->a, w->fds[0], 1, 1)) < 0)
    w->a = NULL;
}

static void after_open(struct world *w) {
  if (w->a == NULL)
    CHILD_MUST(forkq_connection_open(&w->a, w->fds[0], 1, 1) == 0);
  close(w->fds[1]);
  destroy_pair(w);
}

static void sent(struct world *w, unsigned id, int r) {
  if (met(w, r) == 0)
    once(&w->sent, id);
}

static void act_send(struct world *w) {
  msgpack_object object = small(4);
  uint64_t id = 6;
  sent(w, 4, forkq_connection_send(w->a, &object));
  sent(w, 5, forkq_connection_send_packed(w->a, "\x05", 1));
  sent(w, 6, forkq_connection_send_with(w->a, pack_small, &id));
  sent(w, 7, forkq_connection_send_bytes(w->a, "\x07", 1, 0, FORKQ_ALL));
  object = bytes(2, LARGE);
  sent(w, 2, forkq_connection_send(w->a, &object));
  object = small(8);
  sent(w, 8, forkq_connection_send(w->a, &object));
}

static void arrived(struct world *w, forkq_item_t *item) {
  once(&w->arrived, id_of(item->data, item->size));
}

/* What was sent arrives. Behind a message that went only in part there is nothing more. */
static void after_send(struct world *w) {
  int r;
  CHILD_MUST(forkq_connection_close(w->a) == 0);
  while ((r = forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL)) == 0)
    arrived(w, &w->item);
  CHILD_MUST(r == FORKQ_EEOF || r == FORKQ_ETORN);
  CHILD_MUST(w->arrived == w->sent);
  destroy_pair(w);
}

static void make_to_receive(struct world *w) {
  make_pair(w);
  msgpack_object object = small(4);
  CHILD_MUST(forkq_connection_send(w->a, &object) == 0);
  object = bytes(2, LARGE);
  CHILD_MUST(forkq_connection_send(w->a, &object) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x05", 1, 0, 1) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x06__", 3, 0, 3) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x07__", 3, 0, 3) == 0);
  w->sent = bit(4) | bit(2) | bit(5) | bit(6) | bit(7);
}

static void received(struct world *w, int r, forkq_item_t *item) {
  (void)met(w, r);
  if (item->size > 0)
    arrived(w, item);
}

static void receive_into(struct world *w, size_t length) {
  char buffer[8];
  size_t size = 0;
  int r = forkq_connection_recv_bytes_into(w->b, buffer, length, 0, &size, &w->item);
  received(w, r, &w->item);
  if (r == 0)
    once(&w->arrived, id_of(buffer, size));
}

static void act_receive(struct world *w) {
  met(w, forkq_connection_poll(w->b, 10));
  received(w, forkq_connection_recv(w->b, &w->item), &w->item);
  received(w, forkq_connection_recv(w->b, &w->item), &w->item);
  receive_into(w, 8);
  receive_into(w, 1);
  received(w, forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL), &w->item);
}

/* Unless the place in the stream was lost, all the rest arrives now. */
static void after_receive(struct world *w) {
  while (forkq_connection_readable(w->b) == 1 && !forkq_connection_closed(w->b) &&
         w->arrived != w->sent) {
    CHILD_MUST(forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL) == 0);
    arrived(w, &w->item);
  }
  CHILD_MUST((w->arrived & ~w->sent) == 0);
  destroy_pair(w);
}

static void act_send_fd(struct world *w) {
  int fd = -1;
  if (met(w, forkq_connection_send_fd(w->a, 0)) < 0)
    return;
  if (met(w, forkq_connection_recv_fd(w->b, &fd)) == 0)
    close(fd);
}

/* ---- waiting for several ------------------------------------------------------------- */

static void make_to_wait(struct world *w) {
  make_queue(w);
  make_pair(w);
  make_sockets(w);
}

static void act_wait(struct world *w) {
  forkq_wait_entry_t entries[40] = { forkq_wait_on_queue(w->queue), forkq_wait_on(w->b),
                                     forkq_wait_on_fd(w->fds[0]) };
  met(w, forkq_wait(entries, 3, SOON_MS));
  put_small(w, 4);
  met(w, forkq_wait(entries, 3, SOON_MS));
  msgpack_object object = small(5);
  sent(w, 5, forkq_connection_send(w->a, &object));
  met(w, forkq_wait(entries, 3, SOON_MS));
}

static void act_wait_many(struct world *w) {
  forkq_wait_entry_t entries[40];
  int fds[40];
  for (int i = 0; i < 40; i++)
    fds[i] = dup(0);
  for (int i = 0; i < 40; i++)
    entries[i] = forkq_wait_on_fd(fds[i]);
  met(w, forkq_wait(entries, 40, 0));
  for (int i = 0; i < 40; i++)
    close(fds[i]);
}

static void after_wait(struct world *w) {
  use_and_destroy(w);
  destroy_pair(w);
  close_sockets(w);
}

/* ---- the table --------------------------------------------------------------------- */

#define PUT_ERRORS FORKQ_FULL, FORKQ_TIMEDOUT, FORKQ_ENOTHREAD, -ENOMEM, -EMFILE
#define GET_ERRORS FORKQ_EMPTY, FORKQ_TIMEDOUT, -ENOMEM

static const struct scenario scenarios[] = {
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
  { "put large", make_queue, act_put_large, use_and_destroy, false, { PUT_ERRORS } },
  { "put huge",
    make_small_pipe,
    act_put_huge,
    use_and_destroy,
    false,
    { PUT_ERRORS, FORKQ_EMPTY } },
  { "put many", make_queue, act_put_many, use_and_destroy, false, { PUT_ERRORS } },
  { "put many packed",
    make_queue,
    act_put_many_packed,
    use_and_destroy,
    false,
    { PUT_ERRORS } },
  { "put, full", make_bounded, act_put_full, use_and_destroy, false, { PUT_ERRORS } },
  { "put waits", make_bounded, act_put_waits, use_and_destroy, false, { PUT_ERRORS } },
  { "get", make_filled, act_get, use_and_destroy, false, { GET_ERRORS } },
  { "get packed", make_filled, act_get_packed, use_and_destroy, false, { GET_ERRORS } },
  { "get own",
    make_queue,
    act_get_own,
    use_and_destroy,
    false,
    { PUT_ERRORS, GET_ERRORS } },
  { "get many", make_filled, act_get_many, use_and_destroy, false, { GET_ERRORS } },
  { "get many packed",
    make_filled,
    act_get_many_packed,
    use_and_destroy,
    false,
    { GET_ERRORS } },
  { "get waits", make_running, act_get_waits, use_and_destroy, false, { GET_ERRORS } },
  { "tasks", make_joinable, act_tasks, after_tasks, false, { PUT_ERRORS, FORKQ_EMPTY } },
  { "look", make_filled, act_look, use_and_destroy, false, { 0 } },
  { "shutdown",
    make_filled,
    act_shutdown,
    after_shutdown,
    false,
    { GET_ERRORS, FORKQ_ESHUTDOWN } },
  { "shutdown, immediate",
    make_filled,
    act_shutdown_now,
    after_shutdown_now,
    false,
    { FORKQ_ESHUTDOWN } },
  { "close", make_with_getter, act_close, after_close, false, { PUT_ERRORS } },
  { "cancel", make_queue, act_cancel, nothing, false, { PUT_ERRORS } },
  { "destroy", make_running, act_destroy, nothing, false, { 0 } },
  { "reap", make_dead, act_reap, use_and_destroy, false, { PUT_ERRORS, FORKQ_EMPTY } },
  { "reap in a write",
    make_dead_in_write,
    act_reap,
    use_and_destroy,
    false,
    { PUT_ERRORS, FORKQ_EMPTY } },
  { "beside a sleeper",
    make_sleeper,
    act_beside_sleeper,
    after_stopped,
    false,
    { PUT_ERRORS, GET_ERRORS } },
  { "half a message",
    make_half_sent,
    act_get_half,
    after_half,
    false,
    { FORKQ_TIMEDOUT, -ENOMEM } },
  { "fork", make_running, act_fork, use_and_destroy, false, { PUT_ERRORS } },
  { "attach",
    make_detached,
    act_attach,
    after_attach,
    false,
    { FORKQ_EHANDOVER, -EBADF } },
  { "send a queue",
    make_to_send,
    act_send_queue,
    after_send_queue,
    false,
    { -EMSGSIZE } },
  { "receive a queue",
    make_sent,
    act_receive_queue,
    after_send_queue,
    false,
    { FORKQ_EHANDOVER } },
  { "pipe", nothing, act_pipe, destroy_pair, true, { 0 } },
  { "open a connection", make_end, act_open, after_open, true, { 0 } },
  { "send", make_pair, act_send, after_send, true, { -ENOMEM } },
  { "send over a pipe", make_pipe, act_send, after_send, true, { -ENOMEM } },
  { "send over a pipe, older kernel",
    make_pipe_of_older_kernel,
    act_send,
    after_send,
    true,
    { -ENOMEM } },
  { "receive",
    make_to_receive,
    act_receive,
    after_receive,
    true,
    { -ENOMEM, FORKQ_ETOOSHORT, FORKQ_ECLOSED, FORKQ_EWRITEONLY } },
  { "send a descriptor", make_pair, act_send_fd, destroy_pair, true, { 0 } },
  { "wait", make_to_wait, act_wait, after_wait, true, { PUT_ERRORS } },
  { "wait for many", make_to_wait, act_wait_many, after_wait, true, { 0 } },
};

#define COUNT (sizeof scenarios / sizeof scenarios[0])

/* ---- running ----------------------------------------------------------------------- */

/* What a run tells its parent. */
struct report {
  bool met;
  long calls[FAULT_CALLS];
};

struct run {
  const struct scenario *scenario;
  const struct fault *fault;
  struct report *report;
};

static void end_of_time(int signal) {
  static const char text[] = "it hangs\n";
  (void)signal;
  (void)!write(2, text, sizeof text - 1);
  _exit(1);
}

/* As support_open_fds, but without Check, whose own memory would be counted. */
static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++)
    count += fcntl(fd, F_GETFD) != -1;
  return count;
}

/* Threads of a feeder that was not waited for are about to give back what they have. This one's
 * packet, in which it packs, would stay with it until it ends. */
static void until_all_is_back(int fds, long blocks) {
  forkq__source_drop_draft();
  int64_t deadline = support_now_ms() + 1000;
  while ((open_fds() != fds || faults_live_blocks() != blocks) &&
         support_now_ms() < deadline)
    usleep(100);
  CHILD_MUST(open_fds() == fds);
  if (faults_live_blocks() != blocks)
    fprintf(stderr, "blocks: %ld before, %ld after\n", blocks, faults_live_blocks());
  CHILD_MUST(faults_live_blocks() == blocks);
}

/* What pwritev2 does not know yet, there is another way for. */
static bool may_be_returned(const struct fault *fault) {
  bool older = fault->error == EOPNOTSUPP || fault->error == ENOSYS;
  return fault->first > 0 && fault->error > 0 &&
         !(fault->call == FAULT_PWRITEV2 && older);
}

static void run_here(void *arg) {
  const struct run *run = arg;
  const struct scenario *scenario = run->scenario;
  struct world *w = calloc(1, sizeof *w);
  signal(SIGALRM, end_of_time);
  alarm(30);
  w->scenario = scenario;
  w->injected = may_be_returned(run->fault) ? -run->fault->error : 0;
  int fds = open_fds();
  long blocks = faults_live_blocks();
  scenario->before(w);
  faults_begin(run->fault);
  scenario->act(w);
  run->report->met = faults_end();
  for (int i = 0; i < FAULT_CALLS; i++)
    run->report->calls[i] = faults_calls((enum fault_call)i);
  scenario->after(w);
  forkq_item_destroy(&w->item);
  for (int i = 0; i < 4; i++)
    forkq_item_destroy(&w->items[i]);
  until_all_is_back(fds, blocks);
  free(w);
}

/* Runs a scenario in a child. Whether the fault came about; calls: how many were made. */
static bool run_scenario(size_t index, const struct fault *fault, long *calls) {
  static struct report *report;
  if (report == NULL)
    report = support_shared(sizeof *report);
  memset(report, 0, sizeof *report);
  struct run run = { &scenarios[index], fault, report };
  int status = support_wait(support_fork(run_here, &run));
  char what[128];
  faults_describe(fault, what, sizeof what);
  if (status != 0)
    fprintf(stderr, "%s, where %s: ends with %d\n", scenarios[index].name, what, status);
  CHILD_MUST(status == 0);
  if (calls != NULL)
    memcpy(calls, report->calls, sizeof report->calls);
  return report->met;
}

/* As threads come in another order each time, it goes on to the number of calls of a run
 * without faults, and from there until there is none left to fail. */
static long with_each(size_t index, struct fault fault, long usual) {
  long runs = 0;
  for (fault.first = 1;; fault.first++) {
    runs++;
    if (!run_scenario(index, &fault, NULL) && fault.first > usual)
      return runs;
  }
}

static long with_scenario(size_t index, enum fault_call call, int error, bool lasts) {
  const struct fault none = { .first = 0 };
  long calls[FAULT_CALLS];
  run_scenario(index, &none, calls);
  if (calls[call] == 0)
    return 0;
  struct fault fault = { call, error, 0, 1 };
  long runs = with_each(index, fault, calls[call]);
  fault.count = lasts ? FAULT_LASTS : 3;
  return runs + with_each(index, fault, calls[call]);
}

/* Most runs wait most of the time, so there are several at once. */
#define WORKERS 6

struct work {
  enum fault_call call;
  int error;
  bool lasts;
  _Atomic size_t *next;
  _Atomic long *runs;
};

static void work(void *arg) {
  const struct work *work = arg;
  size_t i;
  while ((i = atomic_fetch_add(work->next, 1)) < COUNT) {
    bool packets = work->call >= FAULT_READ && work->call <= FAULT_PWRITEV2;
    if (work->error == FAULT_SHORT && packets && !scenarios[i].streams)
      continue;
    atomic_fetch_add(work->runs, with_scenario(i, work->call, work->error, work->lasts));
  }
}

long fault_scenarios_with(enum fault_call call, int error, bool lasts) {
  struct {
    _Atomic size_t next;
    _Atomic long runs;
  } *shared = support_shared(sizeof *shared);
  struct work each = { call, error, lasts, &shared->next, &shared->runs };
  pid_t workers[WORKERS];
  for (int i = 0; i < WORKERS; i++)
    workers[i] = support_fork(work, &each);
  int failed = 0;
  for (int i = 0; i < WORKERS; i++)
    failed += support_wait(workers[i]) != 0;
  ck_assert_msg(failed == 0, "%d of %d workers failed", failed, WORKERS);
  return atomic_load(&shared->runs);
}
