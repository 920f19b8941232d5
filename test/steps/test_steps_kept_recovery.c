/* Killed at every step of the recovery from a death, in queues that keep tasks. */
#define _GNU_SOURCE
#include "steps_world.h"

static void three_at_once(void) {
  world_put_many(3);
}

static void two_lost_of_three(void) {
  world_put_many(3);
  world_lose(2);
}

static void two_known_to_be_lost(void) {
  two_lost_of_three();
  world_must(forkq_queue_qsize(world_queue) >= 0);
}

static forkq_item_t item = FORKQ_ITEM_INIT;

static void get_and_do(void) {
  CHILD_MUST(forkq_queue_get_packed(world_queue, &item, -1) == 0);
  CHILD_MUST(forkq_queue_task_done_item(world_queue, &item) == 0);
}

/* What may be there, after whatever death. */
static void get_some(void) {
  for (int i = 0; i < 3; i++) {
    int r = forkq_queue_get_packed(world_queue, &item, 0);
    CHILD_MUST(r == 0 || r == FORKQ_EMPTY);
  }
}

static void look(void) {
  CHILD_MUST(forkq_queue_qsize(world_queue) >= 0);
}

static void join(void) {
  int r = forkq_queue_join(world_queue, 0, NULL);
  CHILD_MUST(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_EABANDONED);
}

static void be_told_if_any(void) {
  int r = forkq_queue_get_lost(world_queue, &item);
  CHILD_MUST(r == 0 || r == FORKQ_EMPTY);
}

#define TELL FORKQ_LOST_TASKS_TELL
#define REDELIVER FORKQ_LOST_TASKS_REDELIVER

static const struct operation gets = {
  .name = "keep: get and task_done",
  .maxsize = 3,
  .joinable = true,
  .lost_tasks = REDELIVER,
  .prepare = three_at_once,
  .begin = get_and_do,
  .act = get_and_do,
  .takes = 2,
};

static const struct operation gets_again = {
  .name = "keep: get again and task_done",
  .maxsize = 3,
  .joinable = true,
  .lost_tasks = REDELIVER,
  .prepare = two_known_to_be_lost,
  .act = get_and_do,
  .takes = 1,
};

static const struct operation finds = {
  .name = "keep: find the dead",
  .joinable = true,
  .lost_tasks = TELL,
  .prepare = two_lost_of_three,
  .act = look,
};

static const struct operation gets_next = { .name = "get", .act = get_some };
static const struct operation looks_next = { .name = "qsize", .act = look };
static const struct operation joins_next = { .name = "join", .act = join };
static const struct operation is_told_next = { .name = "be told",
                                               .act = be_told_if_any,
                                               .takes = 1 };

static const struct pair pairs[] = {
  { &gets, &gets_next },        { &gets_again, &gets_next }, { &gets, &looks_next },
  { &gets_again, &looks_next }, { &gets, &joins_next },      { &finds, &is_told_next },
  { &finds, &looks_next },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments, &(struct world_work){
                                   .name = "steps_kept_recovery",
                                   .pairs = pairs,
                                   .pair_count = sizeof pairs / sizeof *pairs,
                                   .sample = 61,
                               });
}
