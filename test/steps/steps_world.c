#define _GNU_SOURCE
#include "steps_world.h"

#include "steps_loop.h"

#include <forkq/simple_queue.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 5000

/* The numbers of items: below the first a survivor's, from there on those of victims, each of
 * which has so many, and then those of bystanders. */
#define VICTIMS 1000
#define EACH 500
#define BYSTANDERS 2000
#define LOG_SIZE 512
#define LARGEST (1u << 17)

/* The shared memory as far as these queues use it. */
#define CELLS 8
#define SHARED_SIZE offsetof(struct forkq__segment, ledger.cells[CELLS])
#define KEPT_SIZE offsetof(struct forkq__kept_shared, tasks[FORKQ__KEPT_MEDIUMS + CELLS])

/* What survivors got, and what they are at; for all processes of a world. */
struct journal {
  _Atomic int got_count;
  struct {
    int by;
    int number;
  } got[LOG_SIZE];
  _Atomic int over[3]; /* the bystander's call has returned ... */
  _Atomic int result[3];
  _Atomic int waits[3]; /* ... its request on a loop was made */
  _Atomic int newcomer_put;
  _Atomic int victim_puts; /* of the present victim */
};

enum { THE_GETTER, THE_PUTTER, THE_JOINER };

forkq_queue_t *world_queue;
static const struct operation *world;
static struct journal *journal;
static int fds_before;
static int world_puts;
static pid_t bystanders[3];
static bool shut;
static bool filled;     /* see look_full */
static long first_look; /* who finds the dead first */
static uint64_t abandoned;
static uint64_t told; /* lost tasks, by name */
static int victims;   /* how many there have been in this world */
static pid_t newcomer;
static pid_t writer; /* see world_stop_in_put */

_Noreturn void world_failed(const char *file, int line, const char *condition) {
  fprintf(stderr, "%s:%d: %s; the victim died: %s, first look %ld: not so: %s\n", file,
          line, world->name, steps_where(), first_look, condition);
  _exit(1);
}

/* ---- items --------------------------------------------------------------------------- */

/* A put into a simple queue has no timeout. */
static int put_number_within(int number, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)number;
  return world->simple
             ? forkq_simple_queue_put((forkq_simple_queue_t *)world_queue, &object)
             : forkq_queue_put(world_queue, &object, timeout_ms);
}

static int put_number(int number) {
  return put_number_within(number, PATIENCE_MS);
}

static uint8_t data[LARGEST];

/* A bin of that size, whose bytes follow from its number, which stands in front. */
static void make_large(int number, size_t size) {
  data[0] = 0xc6;
  for (int i = 0; i < 4; i++) {
    data[1 + i] = (uint8_t)((size - 5) >> (24 - 8 * i));
    data[5 + i] = (uint8_t)(number >> (24 - 8 * i));
  }
  support_fill(data + 9, size - 9, (uint64_t)number);
}

static int put_large_number(int number, size_t size) {
  make_large(number, size);
  return forkq_queue_put_packed(world_queue, data, size, PATIENCE_MS);
}

/* The number of a received object, once its bytes are seen to be right; 0: they are not. */
static int number_of(const msgpack_object *object) {
  static uint8_t expected[LARGEST];
  if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
    return (int)object->via.u64;
  if (object->type != MSGPACK_OBJECT_BIN || object->via.bin.size < 4)
    return 0;
  const uint8_t *bytes = (const uint8_t *)object->via.bin.ptr;
  int number = bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
  size_t size = object->via.bin.size - 4;
  support_fill(expected, size, (uint64_t)number);
  return memcmp(expected, bytes + 4, size) == 0 ? number : 0;
}

static void note_got(int by, const forkq_item_t *item) {
  int i = atomic_fetch_add(&journal->got_count, 1);
  journal->got[i].by = by;
  journal->got[i].number = number_of(&item->object);
}

void world_put(int count) {
  for (int i = 0; i < count; i++)
    world_must(put_number(++world_puts) == 0);
}

void world_put_many(int count) {
  msgpack_object objects[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = (uint64_t)++world_puts;
  }
  world_must(forkq_queue_put_many(world_queue, objects, (size_t)count, -1, &put) == 0);
  world_must(put == (size_t)count);
}

void world_put_large(size_t size) {
  world_must(put_large_number(++world_puts, size) == 0);
}

static void put_large_and_die(void *size) {
  CHILD_MUST(put_large_number(world_puts, *(size_t *)size) == 0);
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, PATIENCE_MS, NULL) == 0);
}

void world_put_large_and_die(size_t size) {
  world_puts++;
  world_must(support_wait(support_fork(put_large_and_die, &size)) == 0);
}

static void get_and_die(void *count) {
  victim_get(*(int *)count);
  raise(SIGKILL);
}

void world_lose(int count) {
  world_must(support_wait(support_fork(get_and_die, &count)) == 128 + SIGKILL);
}

void world_get(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  world_must(forkq_queue_get(world_queue, &item, PATIENCE_MS) == 0);
  note_got(0, &item);
  if (world->joinable)
    world_must(forkq_queue_task_done(world_queue) == 0);
  forkq_item_destroy(&item);
}

int victim_number(void) {
  return VICTIMS + EACH * (victims - 1) + atomic_fetch_add(&journal->victim_puts, 1) + 1;
}

void victim_put(int count) {
  for (int i = 0; i < count; i++)
    CHILD_MUST(put_number(victim_number()) == 0);
}

static size_t made_size;

void victim_make_large(size_t size) {
  made_size = size;
  make_large(victim_number(), size);
}

void victim_put_large(void) {
  CHILD_MUST(forkq_queue_put_packed(world_queue, data, made_size, PATIENCE_MS) == 0);
}

void victim_put_bytes(void) {
  CHILD_MUST(forkq_queue_put_bytes(world_queue, data + 5, made_size - 5, PATIENCE_MS) ==
             0);
}

void victim_reserve_and_commit(void) {
  void *memory = NULL;
  CHILD_MUST(forkq_queue_reserve(world_queue, made_size, &memory) == 0);
  memcpy(memory, data, made_size);
  CHILD_MUST(forkq_queue_commit(world_queue, memory, made_size, PATIENCE_MS) == 0);
}

void victim_put_many(int count) {
  msgpack_object objects[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = (uint64_t)victim_number();
  }
  CHILD_MUST(
      forkq_queue_put_many(world_queue, objects, (size_t)count, PATIENCE_MS, &put) == 0);
  CHILD_MUST(put == (size_t)count);
}

/* Numbers of two bytes: as unsigned 16 of msgpack. Those that have no room are not put, so
 * that their numbers are given back. */
void victim_put_some_packed(int count) {
  uint8_t numbers[16][3];
  forkq_bytes_t messages[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    int number = victim_number();
    numbers[i][0] = 0xcd;
    numbers[i][1] = (uint8_t)(number >> 8);
    numbers[i][2] = (uint8_t)number;
    messages[i] = (forkq_bytes_t){ numbers[i], sizeof numbers[i] };
  }
  CHILD_MUST(forkq_queue_put_many_packed(world_queue, messages, (size_t)count,
                                         PATIENCE_MS, &put) == 0);
  atomic_fetch_sub(&journal->victim_puts, count - (int)put);
}

void victim_get(int count) {
  static forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < count; i++)
    CHILD_MUST(forkq_queue_get_packed(world_queue, &item, PATIENCE_MS) == 0);
}

static forkq_item_t borrowed = FORKQ_ITEM_INIT;

void victim_borrow(void) {
  CHILD_MUST(forkq_queue_get_borrowed(world_queue, &borrowed, PATIENCE_MS) == 0);
  CHILD_MUST(forkq_item_is_borrowed(&borrowed) == 1);
}

void victim_get_into(void) {
  static uint8_t buffer[LARGEST];
  CHILD_MUST(forkq_queue_get_bytes_into(world_queue, buffer, sizeof buffer, PATIENCE_MS,
                                        NULL) == 0);
}

void victim_borrow_many(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many_borrowed(world_queue, items, (size_t)count,
                                             PATIENCE_MS, &n) == 0);
}

void victim_end_borrow(void) {
  forkq_item_destroy(&borrowed);
}

void victim_get_many(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many(world_queue, items, (size_t)count, PATIENCE_MS, &n) ==
               0);
}

void victim_get_many_packed(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many_packed(world_queue, items, (size_t)count, PATIENCE_MS,
                                           &n) == 0);
}

int world_arrived(void) {
  int arrived = 0;
  for (int i = 0; i < journal->got_count; i++)
    arrived += journal->got[i].number > VICTIMS && journal->got[i].number < BYSTANDERS;
  return arrived;
}

int world_missing(void) {
  int arrived = 0;
  for (int i = 0; i < journal->got_count; i++)
    arrived += journal->got[i].number < VICTIMS;
  return world_puts - arrived;
}

/* ---- bystanders ---------------------------------------------------------------------- */

static void say_over(int who, int result) {
  atomic_store(&journal->result[who], result);
  atomic_store(&journal->over[who], 1);
}

static int bystander_get(forkq_item_t *item) {
  if (!world->on_loops)
    return forkq_queue_get(world_queue, item, -1);
  steps_loop_open(world_queue);
  steps_loop_tell(&journal->waits[THE_GETTER]);
  int r = steps_loop_get(item, -1);
  steps_loop_close();
  return r;
}

static int bystander_put(const msgpack_object *object) {
  if (!world->on_loops)
    return forkq_queue_put(world_queue, object, -1);
  steps_loop_open(world_queue);
  steps_loop_tell(&journal->waits[THE_PUTTER]);
  int r = steps_loop_put(object, -1);
  steps_loop_close();
  return r;
}

static void wait_for_item(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = 0;
  for (int i = 0; i < (world->gets_twice ? 2 : 1) && r == 0; i++) {
    r = bystander_get(&item);
    if (r == 0)
      note_got(1, &item);
    if (r == 0 && world->joinable)
      CHILD_MUST(forkq_queue_task_done(world_queue) == 0);
  }
  say_over(THE_GETTER, r);
  forkq_queue_destroy(world_queue);
}

static void wait_for_room(void *arg) {
  (void)arg;
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = BYSTANDERS + 1;
  say_over(THE_PUTTER, bystander_put(&object));
  forkq_queue_destroy(world_queue);
}

static void wait_for_all(void *arg) {
  (void)arg;
  say_over(THE_JOINER, forkq_queue_join(world_queue, -1, NULL));
  forkq_queue_destroy(world_queue);
}

static void start_bystanders(int waiting) {
  static void (*const calls[3])(void *) = { wait_for_item, wait_for_room, wait_for_all };
  for (int i = 0; i < 3; i++) {
    bystanders[i] = 0;
    if (waiting & 1 << i) {
      bystanders[i] = support_fork(calls[i], NULL);
      if (world->on_loops && i != THE_JOINER)
        support_until(&journal->waits[i]);
      support_until_asleep(bystanders[i]);
    }
  }
}

static bool getter_sleeps(void) {
  return journal->got_count > 0 &&
         (world->on_loops ? support_asleep(bystanders[THE_GETTER])
                          : atomic_load(&world_queue->segment->channel.asleep) != 0);
}

void victim_put_and_let_sleep(void) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  victim_put(1);
  while (!getter_sleeps()) {
    CHILD_MUST(support_now_ms() < deadline);
    usleep(50);
  }
}

void world_wait_in_get(void) {
  bystanders[THE_GETTER] = support_fork(wait_for_item, NULL);
  support_until_asleep(bystanders[THE_GETTER]);
}

static size_t writer_size;

static void write_large(void *arg) {
  (void)arg;
  CHILD_MUST(put_large_number(world_puts + 1, writer_size) == 0);
  forkq_queue_destroy(world_queue);
}

void world_stop_in_put(size_t size) {
  writer_size = size;
  writer = support_fork(write_large, NULL);
  support_until_pipe_full(world_queue);
  support_stop(writer);
  world_puts++;
}

void world_go_on(void) {
  kill(writer, SIGCONT);
}

static bool is_over(int who) {
  return bystanders[who] == 0 || atomic_load(&journal->over[who]) != 0;
}

/* Its call has to come back now. */
static int result_of(int who) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  while (!is_over(who)) {
    world_must(support_now_ms() < deadline && "a bystander's call comes back");
    usleep(50);
  }
  world_must(support_wait(bystanders[who]) == 0);
  return atomic_load(&journal->result[who]);
}

/* ---- the world ----------------------------------------------------------------------- */

/* The feeder of this process runs before anything is forked, and nothing is under way. */
static void start_feeder(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  world_must(forkq_queue_put(world_queue, &nil, -1) == 0);
  world_must(forkq_queue_get(world_queue, &item, PATIENCE_MS) == 0);
  if (world->joinable)
    world_must(forkq_queue_task_done(world_queue) == 0);
  forkq_item_destroy(&item);
  support_until_others_asleep();
}

static void create(void) {
  forkq_queue_options_t options = {
    .size = sizeof options,
    .maxsize = world->maxsize,
    .joinable = world->joinable,
    .lost_tasks = world->lost_tasks,
  };
  if (world->simple) {
    forkq_simple_queue_t *simple;
    world_must(forkq_simple_queue_create(&simple) == 0);
    world_queue = (forkq_queue_t *)simple;
  } else {
    world_must(forkq_queue_create_with(&world_queue, &options) == 0);
    support_shrink_pipe(world_queue); /* fewer steps until it is full */
  }
  support_copy_late(world_queue);
  if (!world->beside)
    support_keep_to_pipe(world_queue);
}

void world_begin(const struct operation *operation, long look) {
  first_look = look % LOOKS;
  world = operation;
  if (journal == NULL)
    journal = support_shared(sizeof *journal);
  memset(journal, 0, sizeof *journal);
  world_puts = 0;
  abandoned = told = 0;
  shut = filled = false;
  victims = 0;
  writer = newcomer = 0;
  fds_before = support_open_fds();
  create();
  start_feeder();
  if (operation->prepare != NULL) {
    operation->prepare();
    support_until_others_asleep(); /* a feeder that has long had nothing to do has ended */
  }
  start_bystanders(operation->waiting);
}

static void victim(void *arg) {
  const struct operation *operation = arg;
  if (operation->begin != NULL)
    operation->begin();
  steps_mark();
  operation->act();
  steps_mark();
}

/* Who waits for room or for tasks looks for the dead now and then, each time with stores of its own.
 * So it stands still while the victim is on its way, until the victim waits or is dead. A putter
 * does so only where the victim waits, too. */
static bool stands_still(const struct operation *operation, int who) {
  return bystanders[who] != 0 &&
         (who == THE_JOINER || (who == THE_PUTTER && operation->wake != NULL));
}

static void stop_bystanders(const struct operation *operation) {
  for (int i = 0; i < 3; i++)
    if (stands_still(operation, i))
      support_stop_unless_ended(bystanders[i]);
}

static void let_bystanders_go(const struct operation *operation) {
  for (int i = 0; i < 3; i++)
    if (stands_still(operation, i))
      kill(bystanders[i], SIGCONT);
}

static void wake(void *arg) {
  const struct operation *operation = arg;
  let_bystanders_go(operation);
  operation->wake();
}

enum steps_end world_kill(const struct operation *operation, long point,
                          struct steps_course *course) {
  struct steps steps = {
    .victim = victim,
    .wake = operation->wake != NULL ? wake : NULL,
    .arg = (void *)operation,
    .shared = world_queue->segment,
    .shared_size = SHARED_SIZE,
    .more = &world_queue->segment->ledger.kept,
    .more_size = operation->lost_tasks != 0 ? KEPT_SIZE : 0,
    .newest_first = operation->newest_first,
    .course = course,
  };
  victims++;
  atomic_store(&journal->victim_puts, 0);
  stop_bystanders(operation);
  enum steps_end end = steps_kill(&steps, point);
  let_bystanders_go(operation);
  return end;
}

/* ---- the promises -------------------------------------------------------------------- */

static void look_nothing(void) {}

static void look_qsize(void) {
  world_must(forkq_queue_qsize(world_queue) >= 0);
}

/* Who waits for room may take it first. */
static void child_puts(void *arg) {
  int r = put_number_within(world_puts + 1, (world->waiting & PUTTER) ? 0 : PATIENCE_MS);
  CHILD_MUST(r == 0 || (r == FORKQ_FULL && (world->waiting & PUTTER)));
  atomic_store((_Atomic int *)arg, r == 0 ? 1 : 2);
  forkq_queue_destroy(world_queue);
}

/* Somebody new, whose first put settles with all the dead. */
static void look_new(void) {
  if (world->ending != STAYS_OPEN || forkq_queue_full(world_queue) != 0)
    return;
  atomic_store(&journal->newcomer_put, 0);
  newcomer = support_fork(child_puts, (void *)&journal->newcomer_put);
  support_until(&journal->newcomer_put);
  world_puts += atomic_load(&journal->newcomer_put) == 1;
}

static void look_stats(void) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  world_must(forkq_queue_stats(world_queue, &stats) == 0);
  if (world->joinable) {
    int r = forkq_queue_join(world_queue, 0, NULL);
    world_must(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_EABANDONED);
    /* What it told of is told once: it stays this process's to account for. */
    abandoned = atomic_load(&world_queue->abandoned_seen);
  }
}

/* Before anybody gets: full is what holds as many items as it may. */
static void look_full(void) {
  if (world->maxsize == 0 || world->ending != STAYS_OPEN || world->waiting != 0)
    return;
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  for (int r = 0; r == 0; world_puts += r == 0) {
    object.via.u64 = (uint64_t)world_puts + 1;
    r = forkq_queue_put_nowait(world_queue, &object);
    world_must(r == 0 || r == FORKQ_FULL);
  }
  filled = true;
}

static void (*const looks[])(void) = { look_nothing, look_qsize, look_new, look_stats,
                                       look_full };
_Static_assert(sizeof looks / sizeof *looks == LOOKS, "each has its number");

/* Gets until nothing is left, where others may get, too. */
static void drain(void) {
  int before = journal->got_count;
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  forkq_item_t item = FORKQ_ITEM_INIT;
  while (forkq_queue_qsize(world_queue) > 0) {
    int r = forkq_queue_get(world_queue, &item, 200);
    if (r == 0)
      note_got(0, &item);
    if (r == 0 && world->joinable)
      world_must(forkq_queue_task_done(world_queue) == 0);
    world_must(r == 0 || r == FORKQ_TIMEDOUT || (shut && r == FORKQ_ESHUTDOWN));
    world_must(support_now_ms() < deadline && "what is counted can be got");
  }
  if (filled && !world->large)
    world_must(world->lost_tasks != 0 ? journal->got_count - before >= world->maxsize
                                      : journal->got_count - before == world->maxsize);
  filled = false;
  forkq_item_destroy(&item);
}

/* Each number once, those of one producer in order, as far as one process got them. */
static void check_items(const struct operation *operation) {
  static unsigned char seen[BYSTANDERS + LOG_SIZE];
  int last[2][BYSTANDERS / EACH + 1] = { { 0 } };
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < journal->got_count; i++) {
    int number = journal->got[i].number, by = journal->got[i].by;
    world_must(number > 0 && number < (int)sizeof seen);
    world_must(!seen[number]++);
    int *previous = &last[by][number < VICTIMS ? 0 : number / EACH];
    world_must(number > *previous || operation->lost_tasks != 0);
    *previous = number;
  }
  /* What arrived of a victim's is what it put first. */
  for (int number = VICTIMS + 2; number < BYSTANDERS && !operation->gets_own; number++)
    world_must(!seen[number] || number % EACH == 1 || seen[number - 1]);
  world_must(world_arrived() <= operation->puts + operation->gets_own);
  world_must(world_missing() >= 0);
  if (operation->ending != SHUT_DOWN_AT_ONCE)
    world_must(world_missing() <= operation->takes);
}

static void check_bystanders(void) {
  if (bystanders[THE_PUTTER] != 0)
    world_must(result_of(THE_PUTTER) == 0);
  if (bystanders[THE_GETTER] != 0) {
    if (!is_over(THE_GETTER) && forkq_queue_qsize(world_queue) == 0)
      world_put(1);
    world_must(result_of(THE_GETTER) == 0);
  }
}

/* Exactly `maxsize` items go in, and come out again. */
static void check_capacity(int64_t maxsize) {
  drain();
  world_must(forkq_queue_qsize(world_queue) == 0);
  int count = maxsize > 0 ? (int)maxsize : 3;
  for (int i = 0; i < count; i++) {
    world_must(put_number_within(++world_puts, 0) == 0);
  }
  world_must(forkq_queue_qsize(world_queue) == count);
  if (maxsize > 0) {
    msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
    world_must(forkq_queue_put_nowait(world_queue, &nil) == FORKQ_FULL);
    world_must(forkq_queue_full(world_queue) == 1);
  }
  for (int i = 0; i < count; i++)
    world_get();
  world_must(forkq_queue_qsize(world_queue) == 0);
}

/* No entry is left in use. */
static void check_kept(void) {
  struct forkq__kept_shared *kept = &world_queue->segment->ledger.kept;
  if (world->lost_tasks == 0)
    return;
  for (uint32_t i = 0; i < kept->used; i++)
    world_must((kept->tasks[i].word & 3) == 0);
}

static void check_tasks(const struct operation *operation) {
  uint64_t more = 0;
  int r = forkq_queue_join(world_queue, PATIENCE_MS, &more);
  world_must(r == 0 || r == FORKQ_EABANDONED);
  abandoned += more;
  if (operation->lost_tasks == FORKQ_LOST_TASKS_REDELIVER)
    world_must(abandoned == 0);
  else
    world_must(abandoned <= (uint64_t)operation->takes + told && abandoned >= told);
  check_kept();
  world_must(forkq_queue_join(world_queue, 0, NULL) == 0);
  world_must(forkq_queue_task_done(world_queue) == FORKQ_ETASKDONE);
  if (bystanders[THE_JOINER] != 0) {
    r = result_of(THE_JOINER);
    world_must(r == 0 || r == FORKQ_EABANDONED);
  }
}

static void read_stats(forkq_queue_stats_t *stats) {
  *stats = (forkq_queue_stats_t){ .size = sizeof *stats };
  world_must(forkq_queue_stats(world_queue, stats) == 0);
}

static void check_stats(const struct operation *operation) {
  forkq_queue_stats_t stats;
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  /* The feeder counts an item as sent a moment after others can get it. */
  for (read_stats(&stats); stats.outbox_items > 0; read_stats(&stats))
    world_must(support_now_ms() < deadline && "the outbox is empty");
  uint64_t withdrawn = stats.put_items - stats.got_items - stats.lost_items;
  world_must(withdrawn <= (uint64_t)operation->withdrawn);
  world_must(stats.got_bytes <= stats.put_bytes);
  world_must(stats.recoveries < 20);
}

/* All memory beside the pipe is free again, whoever held some. */
static void check_pieces(void) {
  struct forkq__sender *sender = &world_queue->feeder.sender;
  world_must(forkq__sender_lock(sender, FORKQ__FOREVER) == 0);
  (void)forkq__sender_trim(sender);
  world_must(sender->arena.free == sender->arena.leaves);
  forkq__sender_unlock(sender);
}

/* Each lost task is told once. */
static void be_told(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  if (world->lost_tasks != FORKQ_LOST_TASKS_TELL)
    return;
  while ((r = forkq_queue_get_lost(world_queue, &item)) == 0) {
    note_got(0, &item);
    told++;
  }
  world_must(r == FORKQ_EMPTY);
  forkq_item_destroy(&item);
}

static void check_open(const struct operation *operation) {
  drain();
  be_told();
  check_bystanders();
  check_capacity(operation->maxsize);
  check_items(operation);
  if (operation->joinable)
    check_tasks(operation);
  check_stats(operation);
  if (operation->beside)
    check_pieces();
}

/* It was shut down, if the victim came so far, and else is now: those who wait hear of it
 * without help. */
static void check_shut(const struct operation *operation) {
  int at_once = operation->ending == SHUT_DOWN_AT_ONCE;
  forkq_item_t item = FORKQ_ITEM_INIT;
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  shut = atomic_load(&world_queue->segment->channel.shutdown) != FORKQ__OPEN;
  if (!shut)
    world_must(forkq_queue_shutdown(world_queue, at_once) == 0);
  shut = true;
  world_must(forkq_queue_put_nowait(world_queue, &nil) == FORKQ_ESHUTDOWN);
  if (bystanders[THE_PUTTER] != 0)
    world_must(result_of(THE_PUTTER) == FORKQ_ESHUTDOWN);
  if (bystanders[THE_GETTER] != 0)
    world_must(result_of(THE_GETTER) == FORKQ_ESHUTDOWN);
  if (at_once && bystanders[THE_JOINER] != 0) {
    /* All is dropped, without anybody's get. */
    int r = result_of(THE_JOINER);
    world_must(r == 0 || r == FORKQ_EABANDONED);
    bystanders[THE_JOINER] = 0;
  }
  if (!at_once)
    drain();
  be_told();
  world_must(forkq_queue_get_nowait(world_queue, &item) == FORKQ_ESHUTDOWN);
  check_items(operation);
  if (operation->joinable)
    check_tasks(operation);
  forkq_item_destroy(&item);
}

int64_t world_check(const struct operation *operation) {
  int64_t start = support_now_ms();
  if (operation->after != NULL)
    operation->after();
  looks[first_look]();
  if (operation->ending == STAYS_OPEN)
    check_open(operation);
  else
    check_shut(operation);
  if (writer != 0)
    world_must(support_wait(writer) == 0);
  if (newcomer != 0)
    world_must(support_wait(newcomer) == 0);
  forkq_queue_destroy(world_queue);
  world_queue = NULL;
  world_must(support_open_fds() == fds_before);
  world_must(waitpid(-1, NULL, WNOHANG) == -1 && "no child is left");
  return support_now_ms() - start;
}
