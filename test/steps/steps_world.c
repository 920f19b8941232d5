/* Who lives in a world: bystanders, and the victim. */
#define _GNU_SOURCE
#include "steps_state.h"

#include "steps_loop.h"

#include <forkq/simple_queue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The shared memory as far as these queues use it. */
#define CELLS 8
#define SHARED_SIZE offsetof(struct forkq__segment, ledger.cells[CELLS])
#define KEPT_SIZE offsetof(struct forkq__kept_shared, tasks[FORKQ__KEPT_MEDIUMS + CELLS])

forkq_queue_t *world_queue;
const struct operation *world;
struct journal *journal;
pid_t bystanders[3];
long first_look;
int victims;
pid_t writer;

_Noreturn void world_failed(const char *file, int line, const char *condition) {
  fprintf(stderr, "%s:%d: %s; the victim died: %s, first look %ld: not so: %s\n", file,
          line, world->name, steps_where(), first_look, condition);
  _exit(1);
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

bool is_over(int who) {
  return bystanders[who] == 0 || atomic_load(&journal->over[who]) != 0;
}

/* Its call has to come back now. */
int result_of(int who) {
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
  victims = 0;
  writer = 0;
  begin_promises();
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
