/* Killed at every step of what a queue does that keeps tasks. Of what the
 * victim had got, survivors get again, or are told, all that it had not said to be done. */
#define _GNU_SOURCE
#include "steps_world.h"

#define SEVERAL_PACKETS 13000

static void one(void) {
  world_put(1);
}

static void three_at_once(void) {
  world_put_many(3);
}

static void one_large(void) {
  world_put_large(SEVERAL_PACKETS);
}

/* As if other tasks had all rooms for medium messages. */
static void no_mediums(void) {
  struct forkq__kept_shared *kept = &world_queue->segment->ledger.kept;
  for (uint32_t i = 0; i < FORKQ__KEPT_MEDIUMS; i++)
    kept->tasks[i].word = 1u << 30;
  kept->used = FORKQ__KEPT_MEDIUMS;
}

static void one_large_without_mediums(void) {
  no_mediums();
  one_large();
}

static void two_lost_of_three(void) {
  world_put_many(3);
  world_lose(2);
}

/* Which the test's process has found. */
static void two_known_to_be_lost(void) {
  two_lost_of_three();
  world_must(forkq_queue_qsize(world_queue) >= 0);
}

static void a_large_one_known_to_be_lost(void) {
  no_mediums();
  world_put_large(SEVERAL_PACKETS);
  world_lose(1);
  world_must(forkq_queue_qsize(world_queue) >= 0);
}

static void get_one(void) {
  victim_get(1);
}

static void get_two(void) {
  victim_get(2);
}

static void get_three(void) {
  victim_get_many(3);
}

static void do_task(void) {
  CHILD_MUST(forkq_queue_task_done(world_queue) == 0);
}

static forkq_item_t item = FORKQ_ITEM_INIT;

static void get_an_item(void) {
  CHILD_MUST(forkq_queue_get_packed(world_queue, &item, -1) == 0);
}

static void do_item(void) {
  CHILD_MUST(forkq_queue_task_done_item(world_queue, &item) == 0);
}

static void get_and_do(void) {
  get_an_item();
  do_item();
}

static void look(void) {
  CHILD_MUST(forkq_queue_qsize(world_queue) >= 0);
}

static void be_told(void) {
  CHILD_MUST(forkq_queue_get_lost(world_queue, &item) == 0);
}

static void close_it(void) {
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
}

static void shut_down_at_once(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 1) == 0);
}

#define TELL FORKQ_LOST_TASKS_TELL
#define REDELIVER FORKQ_LOST_TASKS_REDELIVER

static const struct operation operations[] = {
  { .name = "keep: get, the first of a process",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = three_at_once,
    .act = get_one,
    .floor = 60 },
  { .name = "keep: get, from the read-ahead",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = three_at_once,
    .begin = get_one,
    .act = get_one,
    .floor = 25 },
  { .name = "keep: get, to be told",
    .joinable = true,
    .lost_tasks = TELL,
    .prepare = three_at_once,
    .begin = get_one,
    .act = get_two,
    .floor = 40 },
  { .name = "keep: get_many",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = three_at_once,
    .act = get_three,
    .floor = 90 },
  { .name = "keep: get, of several packets",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one_large,
    .act = get_one,
    .large = true,
    .floor = 90 },
  { .name = "keep: get beside",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one_large,
    .act = get_one,
    .beside = true,
    .floor = 70 },
  { .name = "keep: get beside, with its own room",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one_large_without_mediums,
    .act = get_one,
    .beside = true,
    .floor = 70 },
  { .name = "keep: task_done",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = three_at_once,
    .begin = get_two,
    .act = do_task,
    .takes = 1,
    .floor = 15 },
  { .name = "keep: task_done, to be told",
    .joinable = true,
    .lost_tasks = TELL,
    .prepare = three_at_once,
    .begin = get_two,
    .act = do_task,
    .takes = 1,
    .floor = 15 },
  { .name = "keep: task_done_item of a large one, the last, for one who joins",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one_large_without_mediums,
    .begin = get_an_item,
    .act = do_item,
    .waiting = JOINER,
    .takes = 1,
    .beside = true,
    .unsteady = true,
    .floor = 15 },
  { .name = "keep: get again what was lost",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = two_known_to_be_lost,
    .begin = get_one,
    .act = get_two,
    .floor = 40 },
  { .name = "keep: get again a large one",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = a_large_one_known_to_be_lost,
    .act = get_and_do,
    .takes = 1,
    .beside = true,
    .floor = 80 },
  { .name = "keep: find the dead",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = two_lost_of_three,
    .act = look,
    .floor = 25 },
  { .name = "keep: find the dead, to be told",
    .joinable = true,
    .lost_tasks = TELL,
    .prepare = two_lost_of_three,
    .act = look,
    .floor = 25 },
  { .name = "keep: be told",
    .joinable = true,
    .lost_tasks = TELL,
    .prepare = two_known_to_be_lost,
    .act = be_told,
    .takes = 1,
    .floor = 20 },
  { .name = "keep: be told of a large one",
    .joinable = true,
    .lost_tasks = TELL,
    .prepare = a_large_one_known_to_be_lost,
    .act = be_told,
    .takes = 1,
    .beside = true,
    .floor = 20 },
  { .name = "keep: close",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one,
    .begin = get_one,
    .act = close_it,
    .floor = 12 },
  { .name = "keep: close, and give memory back",
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = one_large,
    .begin = get_and_do,
    .act = close_it,
    .takes = 1,
    .beside = true,
    .floor = 20 },
  { .name = "keep: shutdown at once",
    .maxsize = 3,
    .joinable = true,
    .lost_tasks = REDELIVER,
    .prepare = two_known_to_be_lost,
    .act = shut_down_at_once,
    .waiting = JOINER,
    .ending = SHUT_DOWN_AT_ONCE,
    .floor = 20 },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments,
                    &(struct world_work){
                        .name = "steps_kept",
                        .operations = operations,
                        .operation_count = sizeof operations / sizeof *operations,
                        .sample = 1,
                    });
}
