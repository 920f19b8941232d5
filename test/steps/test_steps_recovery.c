/* Killed at every step of the recovery from the death of another. */
#define _GNU_SOURCE
#include "steps_loop.h"
#include "steps_world.h"

#define SEVERAL_PACKETS 13000
#define COPIED_LATE (SUPPORT_LATE + 1000)

static void two(void) {
  world_put(2);
}

static void three_at_once(void) {
  world_put_many(3);
}

static void one_and_a_large_one(void) {
  world_put(1);
  world_put_large(SEVERAL_PACKETS);
}

static void three_copied_late(void) {
  for (int i = 0; i < 3; i++)
    world_put_large(COPIED_LATE);
}

/* Of the arena that the victim will have. */
static void owner_before(void) {
  world_put_large_and_die(SEVERAL_PACKETS);
  world_get();
}

/* The next one goes into the arena: what its last owner sent is read. */
static void take_over_and_make_large(void) {
  victim_make_large(SEVERAL_PACKETS);
  victim_put_large();
  victim_get(1);
  victim_make_large(SEVERAL_PACKETS);
}

static void put_one(void) {
  victim_put(1);
}

static void make_large(void) {
  victim_make_large(SEVERAL_PACKETS);
}

static void put_large_and_one(void) {
  victim_put_large();
  victim_put(1);
}

static void get_one(void) {
  victim_get(1);
}

static void end_borrow_and_borrow(void) {
  victim_end_borrow();
  victim_borrow();
}

static void do_task(void) {
  CHILD_MUST(forkq_queue_task_done(world_queue) == 0);
}

static void get_and_do(void) {
  victim_get(1);
  do_task();
}

static void put_four(void) {
  victim_put_some_packed(4);
}

static void get_three(void) {
  victim_get_many(3);
}

static void shut_down(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 0) == 0);
}

static void shut_down_at_once(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 1) == 0);
}

static void get_on_loop(void) {
  static forkq_item_t item = FORKQ_ITEM_INIT;
  steps_loop_open(world_queue);
  CHILD_MUST(steps_loop_get(&item, -1) == 0);
}

static void put_and_close(void) {
  victim_put(1);
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, -1, NULL) == 0);
}

/* What may be there, after whatever death. */
static void get_some(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 3; i++) {
    int r = forkq_queue_get_packed(world_queue, &item, 0);
    CHILD_MUST(r == 0 || r == FORKQ_EMPTY || r == FORKQ_ESHUTDOWN);
  }
}

static void borrow_some(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 3; i++) {
    int r = forkq_queue_get_borrowed(world_queue, &item, 0);
    CHILD_MUST(r == 0 || r == FORKQ_EMPTY);
  }
  forkq_item_destroy(&item);
}

static void put_if_there_is_room(void) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)victim_number();
  int r = forkq_queue_put_nowait(world_queue, &object);
  CHILD_MUST(r == 0 || r == FORKQ_FULL);
}

/* Behind what may be the half of another. */
static void put_large_if_there_is_room(void) {
  if (forkq_queue_full(world_queue) == 0)
    victim_put_large();
}

static void look(void) {
  CHILD_MUST(forkq_queue_qsize(world_queue) >= 0);
}

static void look_full(void) {
  CHILD_MUST(forkq_queue_full(world_queue) >= 0);
}

static void get_some_on_loop(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  steps_loop_open(world_queue);
  for (int i = 0; i < 3; i++) {
    int r = steps_loop_get(&item, 0);
    CHILD_MUST(r == 0 || r == FORKQ_EMPTY);
  }
}

static void put_on_loop_if_there_is_room(void) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)victim_number();
  steps_loop_open(world_queue);
  int r = steps_loop_put(&object, 0);
  CHILD_MUST(r == 0 || r == FORKQ_FULL);
}

static void join(void) {
  int r = forkq_queue_join(world_queue, 0, NULL);
  CHILD_MUST(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_EABANDONED);
}

/* ---- the first to die ------------------------------------------------------------------ */

static const struct operation puts_bounded = {
  .name = "put", .maxsize = 3, .prepare = two, .act = put_one, .puts = 1
};

static const struct operation puts_large = {
  .name = "put, of several packets",
  .maxsize = 3,
  .newest_first = true,
  .begin = make_large,
  .act = put_large_and_one,
  .puts = 2,
  .large = true,
};

static const struct operation gets_joinable = {
  .name = "get and task_done",
  .maxsize = 3,
  .joinable = true,
  .prepare = two,
  .begin = get_and_do,
  .act = get_and_do,
  .takes = 2,
};

static const struct operation gets_large = {
  .name = "get, of several packets",
  .maxsize = 3,
  .joinable = true,
  .prepare = one_and_a_large_one,
  .begin = get_one,
  .act = get_one,
  .takes = 2,
  .large = true,
};

static const struct operation closes = {
  .name = "put and close",
  .maxsize = 3,
  .joinable = true,
  .act = put_and_close,
  .puts = 1,
};

static const struct operation puts_many = {
  .name = "put_many_packed", .maxsize = 3, .act = put_four, .puts = 3
};

static const struct operation gets_many = {
  .name = "get_many",
  .maxsize = 3,
  .prepare = three_at_once,
  .act = get_three,
  .takes = 3,
};

static const struct operation gets_on_loop = {
  .name = "loop, get",
  .maxsize = 3,
  .prepare = two,
  .act = get_on_loop,
  .takes = 1,
};

static const struct operation shuts_down = {
  .name = "shutdown",
  .maxsize = 3,
  .joinable = true,
  .prepare = two,
  .act = shut_down,
  .waiting = JOINER,
  .ending = SHUT_DOWN,
};

static const struct operation shuts_down_at_once = {
  .name = "shutdown at once",
  .maxsize = 3,
  .joinable = true,
  .prepare = two,
  .act = shut_down_at_once,
  .waiting = JOINER,
  .ending = SHUT_DOWN_AT_ONCE,
};

static const struct operation puts_beside = {
  .name = "put beside, where the cell had another owner",
  .maxsize = 3,
  .prepare = owner_before,
  .begin = take_over_and_make_large,
  .act = put_large_and_one,
  .puts = 2,
  .gets_own = 1,
  .beside = true,
};

static const struct operation copies_late = {
  .name = "get beside, and copy without the lock",
  .maxsize = 3,
  .joinable = true,
  .prepare = three_copied_late,
  .begin = get_one,
  .act = get_one,
  .takes = 2,
  .beside = true,
};

static const struct operation borrows = {
  .name = "end what is borrowed, and borrow",
  .maxsize = 3,
  .prepare = three_copied_late,
  .begin = victim_borrow,
  .act = end_borrow_and_borrow,
  .takes = 2,
  .beside = true,
};

/* ---- the next, who finds it ------------------------------------------------------------ */

static const struct operation puts_next = { .name = "put",
                                            .act = put_if_there_is_room,
                                            .puts = 1 };
static const struct operation puts_large_next = { .name = "put, of several packets",
                                                  .begin = make_large,
                                                  .act = put_large_if_there_is_room,
                                                  .puts = 1 };
static const struct operation gets_next = { .name = "get", .act = get_some, .takes = 3 };
static const struct operation borrows_next = { .name = "borrow",
                                               .act = borrow_some,
                                               .takes = 3 };
static const struct operation looks_next = { .name = "qsize", .act = look };
static const struct operation joins_next = { .name = "join", .act = join };

static const struct operation looks_full_next = { .name = "full", .act = look_full };
static const struct operation gets_on_loop_next = { .name = "loop, get",
                                                    .act = get_some_on_loop,
                                                    .takes = 3 };
static const struct operation puts_on_loop_next = { .name = "loop, put",
                                                    .act = put_on_loop_if_there_is_room,
                                                    .puts = 1 };
static const struct operation shuts_down_next = { .name = "shutdown", .act = shut_down };
static const struct operation shuts_down_at_once_next = { .name = "shutdown at once",
                                                          .act = shut_down_at_once };

/* Those that take longest come first. */
static const struct pair pairs[] = {
  { &puts_large, &gets_next },
  { &gets_large, &gets_next },
  { &puts_bounded, &puts_on_loop_next },
  { &gets_on_loop, &gets_on_loop_next },
  { &puts_bounded, &puts_next },
  { &gets_joinable, &gets_next },
  { &closes, &puts_next },
  { &puts_many, &puts_next },
  { &gets_many, &gets_next },
  { &puts_large, &puts_large_next },
  { &puts_beside, &puts_large_next },
  { &puts_beside, &gets_next },
  { &puts_beside, &looks_next },
  { &copies_late, &gets_next },
  { &copies_late, &looks_next },
  { &borrows, &borrows_next },
  { &borrows, &gets_next },
  { &puts_large, &looks_next },
  { &puts_bounded, &looks_next },
  { &puts_bounded, &looks_full_next },
  { &gets_many, &looks_full_next },
  { &gets_joinable, &looks_next },
  { &gets_joinable, &joins_next },
  { &closes, &joins_next },
  { &shuts_down, &shuts_down_next },
  { &shuts_down, &gets_next },
  { &shuts_down_at_once, &shuts_down_at_once_next },
  { &shuts_down_at_once, &gets_next },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments, &(struct world_work){
                                   .name = "steps_recovery",
                                   .pairs = pairs,
                                   .pair_count = sizeof pairs / sizeof *pairs,
                                   .sample = 61,
                               });
}
