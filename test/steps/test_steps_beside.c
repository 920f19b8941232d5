/* Killed at every step of a put and a get beside the pipe, and of what becomes of their memory. */
#define _GNU_SOURCE
#include "steps_world.h"

#define IN_PLACE 2000
#define DRAFTED 18000
#define COPIED_LATE (SUPPORT_LATE + 1000)

static void make(void) {
  victim_make_large(IN_PLACE);
}

static void make_larger(void) {
  victim_make_large(DRAFTED);
}

static void make_after_one(void) {
  victim_put(1);
  make();
}

static void make_larger_after_one(void) {
  victim_put(1);
  make_larger();
}

static void make_for_one_that_sleeps(void) {
  victim_put_and_let_sleep();
  make();
}

/* The piece of the first one is free again when the next one is put. */
static void put_and_get_and_make(void) {
  make_larger();
  victim_put_large();
  victim_get(1);
  make_larger();
}

static void put(void) {
  victim_put_large();
}

static void put_and_get(void) {
  victim_put_large();
  victim_get(1);
}

static void put_and_close(void) {
  victim_put_large();
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, -1, NULL) == 0);
}

static void get_one(void) {
  victim_get(1);
}

static void get_three(void) {
  victim_get_many_packed(3);
}

static void borrow_three(void) {
  victim_borrow_many(3);
}

static void three_large(void) {
  for (int i = 0; i < 3; i++)
    world_put_large(i == 1 ? DRAFTED : IN_PLACE);
}

static void three_larger(void) {
  for (int i = 0; i < 3; i++)
    world_put_large(COPIED_LATE);
}

static void borrow_two(void) {
  victim_end_borrow();
  victim_borrow();
}

static void large_and_small(void) {
  world_put_large(IN_PLACE);
  world_put(1);
  world_put_large(DRAFTED);
}

/* Of the cell that the victim will have. */
static void owner_before(void) {
  world_put_large_and_die(IN_PLACE);
  world_get();
}

static const struct operation operations[] = {
  { .name = "put beside, the first of a process",
    .begin = make,
    .act = put,
    .puts = 1,
    .floor = 70 },
  { .name = "put beside, the first of a process, drafted",
    .begin = make_larger,
    .act = put,
    .puts = 1,
    .floor = 70 },
  { .name = "put beside, bounded, joinable",
    .maxsize = 3,
    .joinable = true,
    .begin = make_after_one,
    .act = put,
    .puts = 2,
    .floor = 15 },
  { .name = "put beside, drafted",
    .begin = make_larger_after_one,
    .act = put,
    .puts = 2,
    .floor = 15 },
  { .name = "put beside, straight to a getter that sleeps",
    .maxsize = 3,
    .begin = make_for_one_that_sleeps,
    .act = put,
    .waiting = GETTER,
    .gets_twice = true,
    .puts = 2,
    .unsteady = true,
    .floor = 15 },
  { .name = "put beside, into memory that was used",
    .begin = put_and_get_and_make,
    .act = put,
    .puts = 1,
    .gets_own = 1,
    .floor = 15 },
  { .name = "put beside, and get it",
    .begin = put_and_get_and_make,
    .act = put_and_get,
    .gets_own = 2,
    .floor = 25 },
  { .name = "put beside, where the cell had another owner",
    .prepare = owner_before,
    .begin = put_and_get_and_make,
    .act = put,
    .puts = 1,
    .gets_own = 1,
    .floor = 15 },
  { .name = "put beside, and close",
    .begin = make_after_one,
    .act = put_and_close,
    .puts = 2,
    .floor = 40 },
  { .name = "reserve and commit, the first of a process",
    .begin = make_larger,
    .act = victim_reserve_and_commit,
    .puts = 1,
    .floor = 70 },
  { .name = "reserve and commit, bounded, joinable",
    .maxsize = 3,
    .joinable = true,
    .begin = make_larger_after_one,
    .act = victim_reserve_and_commit,
    .puts = 2,
    .floor = 15 },
  { .name = "put_bytes beside",
    .maxsize = 3,
    .begin = make_larger_after_one,
    .act = victim_put_bytes,
    .puts = 2,
    .floor = 15 },
  { .name = "get beside",
    .maxsize = 3,
    .joinable = true,
    .prepare = large_and_small,
    .begin = get_one,
    .act = get_one,
    .takes = 2,
    .floor = 15 },
  { .name = "get beside, that makes room for one who waits",
    .maxsize = 3,
    .prepare = three_large,
    .act = get_one,
    .waiting = PUTTER,
    .takes = 1,
    .unsteady = true,
    .floor = 15 },
  { .name = "borrow, the first get of a process",
    .maxsize = 3,
    .prepare = three_large,
    .act = victim_borrow,
    .takes = 1,
    .floor = 30 },
  { .name = "borrow, when the last one ends",
    .maxsize = 3,
    .joinable = true,
    .prepare = three_large,
    .begin = victim_borrow,
    .act = victim_borrow,
    .takes = 2,
    .floor = 15 },
  { .name = "end what is borrowed, and borrow",
    .maxsize = 3,
    .prepare = three_large,
    .begin = victim_borrow,
    .act = borrow_two,
    .takes = 2,
    .floor = 15 },
  { .name = "get beside, and copy without the lock",
    .maxsize = 3,
    .joinable = true,
    .prepare = three_larger,
    .begin = get_one,
    .act = get_one,
    .takes = 2,
    .floor = 15 },
  { .name = "get_bytes_into beside",
    .maxsize = 3,
    .joinable = true,
    .prepare = three_large,
    .begin = victim_get_into,
    .act = victim_get_into,
    .takes = 2,
    .floor = 15 },
  { .name = "get_many_borrowed",
    .maxsize = 3,
    .joinable = true,
    .prepare = three_large,
    .act = borrow_three,
    .takes = 3,
    .floor = 30 },
  { .name = "get_many beside",
    .maxsize = 3,
    .joinable = true,
    .prepare = three_large,
    .act = get_three,
    .takes = 3,
    .floor = 15 },
};

static struct operation beside[sizeof operations / sizeof *operations];

int main(int count, char **arguments) {
  (void)count;
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    beside[i] = operations[i];
    beside[i].beside = true;
  }
  return world_main(arguments, &(struct world_work){
                                   .name = "steps_beside",
                                   .operations = beside,
                                   .operation_count = sizeof beside / sizeof *beside,
                                   .sample = 1,
                               });
}
