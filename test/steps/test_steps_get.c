/* Killed at every step of a get. */
#define _GNU_SOURCE
#include "steps_world.h"

#define SEVERAL_PACKETS 13000
#define MORE_THAN_A_PIPE 70000

static void one(void) {
  world_put(1);
}

static void one_of_each(void) {
  world_put(1);
  world_put_large(SEVERAL_PACKETS);
  world_put(1);
}

/* The first get of these reads all of them ahead. */
static void five_at_once(void) {
  world_put_many(5);
}

static void three_at_once(void) {
  world_put_many(3);
}

static void five_of_which_one_is_gone(void) {
  world_put_many(5);
  world_get();
}

static void more_than_are_waited_for(void) {
  world_put(2);
}

static void another_waits_too(void) {
  world_wait_in_get();
  world_put(2);
}

static void half_a_large_one(void) {
  world_stop_in_put(MORE_THAN_A_PIPE);
}

static void full(void) {
  world_put(3);
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

static void get_three_packed(void) {
  victim_get_many_packed(3);
}

static void get_in_vain(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_nowait(world_queue, &item) == FORKQ_EMPTY);
}

/* Takes what has come of a large message, and leaves it to whoever comes. */
static void get_half(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(world_queue, &item, 1) == FORKQ_TIMEDOUT);
}

static void put_and_get(void) {
  victim_put(1);
  victim_get(1);
}

static void put_one(void) {
  victim_put(1);
}

static void wait_for_some(void) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(world_queue);
  CHILD_MUST(forkq_wait(&entry, 1, 5000) == 1);
}

static const struct operation operations[] = {
  { .name = "get, from the pipe",
    .maxsize = 2,
    .prepare = one,
    .act = get_one,
    .takes = 1,
    .floor = 30 },
  { .name = "get, from the read-ahead",
    .maxsize = 5,
    .prepare = five_of_which_one_is_gone,
    .act = get_one,
    .takes = 1,
    .floor = 15 },
  { .name = "get, the last of the read-ahead and on",
    .maxsize = 5,
    .prepare = five_of_which_one_is_gone,
    .begin = get_two,
    .act = get_two,
    .takes = 4,
    .floor = 20 },
  { .name = "get, joinable, the first of a process",
    .maxsize = 5,
    .joinable = true,
    .prepare = five_at_once,
    .act = get_one,
    .takes = 1,
    .floor = 50 },
  { .name = "get, joinable, from the read-ahead",
    .maxsize = 5,
    .joinable = true,
    .prepare = five_at_once,
    .begin = get_one,
    .act = get_one,
    .takes = 2,
    .floor = 15 },
  { .name = "get, that makes room for one who waits",
    .maxsize = 3,
    .prepare = full,
    .act = get_one,
    .waiting = PUTTER,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "get, asleep and woken",
    .act = get_one,
    .wake = one,
    .takes = 1,
    .unsteady = true,
    .floor = 50 },
  { .name = "get, asleep and woken, another behind it",
    .act = get_one,
    .wake = another_waits_too,
    .takes = 1,
    .unsteady = true,
    .floor = 50 },
  { .name = "get, behind another that sleeps",
    .act = get_one,
    .wake = more_than_are_waited_for,
    .waiting = GETTER,
    .takes = 1,
    .unsteady = true,
    .floor = 40 },
  { .name = "get, of several packets",
    .maxsize = 3,
    .joinable = true,
    .large = true,
    .prepare = one_of_each,
    .begin = get_one,
    .act = get_one,
    .takes = 2,
    .floor = 60 },
  { .name = "get, of a part, which is kept",
    .prepare = half_a_large_one,
    .act = get_half,
    .after = world_go_on,
    .takes = 1,
    .leaves = 1,
    .unsteady = true,
    .floor = 100 },
  { .name = "get, of the rest of what was kept",
    .joinable = true,
    .prepare = half_a_large_one,
    .begin = get_half,
    .act = get_one,
    .wake = world_go_on,
    .after = world_go_on,
    .takes = 1,
    .unsteady = true,
    .floor = 60 },
  { .name = "get_many",
    .maxsize = 5,
    .joinable = true,
    .prepare = five_at_once,
    .begin = get_one,
    .act = get_three,
    .takes = 4,
    .floor = 30 },
  { .name = "get_many_packed, that makes room for one who waits",
    .maxsize = 3,
    .prepare = three_at_once,
    .act = get_three_packed,
    .waiting = PUTTER,
    .takes = 3,
    .unsteady = true,
    .floor = 30 },
  { .name = "get_nowait, empty", .act = get_in_vain, .floor = 10 },
  { .name = "get, of its own",
    .begin = put_one,
    .act = put_and_get,
    .puts = 1,
    .gets_own = 1,
    .floor = 30 },
  { .name = "forkq_wait",
    .act = wait_for_some,
    .wake = one,
    .unsteady = true,
    .floor = 8 },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments,
                    &(struct world_work){
                        .name = "steps_get",
                        .operations = operations,
                        .operation_count = sizeof operations / sizeof *operations,
                        .sample = 1,
                    });
}
