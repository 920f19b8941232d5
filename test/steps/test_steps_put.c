/* Killed at every step of a put, and of what the feeder does with it. */
#define _GNU_SOURCE
#include "steps_world.h"

#define SEVERAL_PACKETS 18000
#define MORE_THAN_A_PIPE 70000

static void put_one(void) {
  victim_put(1);
}

static void put_many(void) {
  victim_put_many(5);
}

/* For three of which there is room. */
static void put_five_packed(void) {
  victim_put_some_packed(5);
}

static void make_large(void) {
  victim_make_large(SEVERAL_PACKETS);
}

static void make_large_after_one(void) {
  victim_put(1);
  victim_make_large(SEVERAL_PACKETS);
}

static void make_large_after_one_is_got(void) {
  victim_put_and_let_sleep();
  victim_make_large(SEVERAL_PACKETS);
}

static void make_larger(void) {
  victim_make_large(MORE_THAN_A_PIPE);
}

/* The feeder fills the pipe, and sleeps in the middle of the message. */
static void put_larger(void) {
  victim_put_large();
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, -1, NULL) == 0);
}

static void put_by_format(void) {
  CHILD_MUST(forkq_queue_putf(world_queue, -1, "i", victim_number()) == 0);
}

static int pack_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 1;
}

static void put_what_cannot_be(void) {
  CHILD_MUST(forkq_queue_put_with(world_queue, pack_nothing, NULL, -1) == FORKQ_EPACK);
}

static void put_into_full(void) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  CHILD_MUST(forkq_queue_put_nowait(world_queue, &nil) == FORKQ_FULL);
}

/* Its feeder looks for room from then on. */
static void ask_for_room(void) {
  CHILD_MUST(forkq_queue_room_fileno(world_queue) >= 0);
}

static void three(void) {
  world_put(3);
}

static void get_two(void) {
  world_get();
  world_get();
}

static const struct operation operations[] = {
  { .name = "put, the first of a process", .act = put_one, .puts = 1, .floor = 70 },
  { .name = "put, the first, the feeder as soon as it can",
    .newest_first = true,
    .act = put_one,
    .puts = 1,
    .floor = 70 },
  { .name = "put, unbounded", .begin = put_one, .act = put_one, .puts = 2, .floor = 15 },
  { .name = "put, unbounded, the feeder as soon as it can",
    .newest_first = true,
    .begin = put_one,
    .act = put_one,
    .puts = 2,
    .floor = 15 },
  { .name = "put, bounded",
    .maxsize = 3,
    .begin = put_one,
    .act = put_one,
    .puts = 2,
    .floor = 15 },
  { .name = "put, bounded, joinable, the first of a process",
    .maxsize = 3,
    .joinable = true,
    .act = put_one,
    .puts = 1,
    .floor = 70 },
  { .name = "put, waits for room",
    .maxsize = 3,
    .prepare = three,
    .act = put_one,
    .wake = world_get,
    .puts = 1,
    .unsteady = true,
    .floor = 70 },
  { .name = "put, waits for room with another",
    .maxsize = 3,
    .prepare = three,
    .act = put_one,
    .wake = get_two,
    .waiting = PUTTER,
    .puts = 1,
    .unsteady = true,
    .floor = 70 },
  { .name = "put, straight to a getter that sleeps",
    .maxsize = 3,
    .begin = victim_put_and_let_sleep,
    .act = put_one,
    .waiting = GETTER,
    .gets_twice = true,
    .puts = 2,
    .unsteady = true,
    .floor = 15 },
  { .name = "put, of several packets",
    .maxsize = 3,
    .begin = make_large,
    .act = victim_put_large,
    .large = true,
    .puts = 1,
    .floor = 100 },
  { .name = "put, of several packets, the feeder as soon as it can",
    .maxsize = 3,
    .newest_first = true,
    .begin = make_large_after_one,
    .act = victim_put_large,
    .large = true,
    .puts = 2,
    .floor = 50 },
  { .name = "put, of several packets, not the first of a process",
    .maxsize = 3,
    .begin = make_large_after_one,
    .act = victim_put_large,
    .large = true,
    .puts = 2,
    .floor = 50 },
  { .name = "put, of several packets, to a getter that sleeps",
    .begin = make_large_after_one_is_got,
    .act = victim_put_large,
    .waiting = GETTER,
    .gets_twice = true,
    .large = true,
    .puts = 2,
    .unsteady = true,
    .floor = 50 },
  { .name = "put, of several packets, to one who gets on a loop",
    .begin = make_large_after_one_is_got,
    .act = victim_put_large,
    .waiting = GETTER,
    .gets_twice = true,
    .on_loops = true,
    .large = true,
    .puts = 2,
    .unsteady = true,
    .floor = 50 },
  { .name = "put, of more than the pipe holds, and its sending",
    .maxsize = 3,
    .begin = make_larger,
    .act = put_larger,
    .large = true,
    .wake = world_wait_in_get,
    .puts = 1,
    .unsteady = true,
    .floor = 200 },
  { .name = "put, straight to one who gets on a loop",
    .maxsize = 3,
    .begin = victim_put_and_let_sleep,
    .act = put_one,
    .waiting = GETTER,
    .on_loops = true,
    .gets_twice = true,
    .puts = 2,
    .unsteady = true,
    .floor = 15 },
  { .name = "put_many", .maxsize = 8, .act = put_many, .puts = 5, .floor = 80 },
  { .name = "put_many_packed, more than there is room for",
    .maxsize = 3,
    .begin = put_one,
    .act = put_five_packed,
    .puts = 3,
    .floor = 20 },
  { .name = "put, simple queue", .simple = true, .act = put_one, .puts = 1, .floor = 20 },
  { .name = "putf",
    .maxsize = 3,
    .begin = put_one,
    .act = put_by_format,
    .puts = 2,
    .floor = 15 },
  { .name = "put, of what cannot be packed",
    .maxsize = 3,
    .begin = put_one,
    .act = put_what_cannot_be,
    .puts = 1,
    .withdrawn = 1,
    .floor = 3 }, /* it is packed before anything is taken */
  { .name = "put_nowait, full",
    .maxsize = 3,
    .prepare = three,
    .act = put_into_full,
    .floor = 50 },
  { .name = "put_nowait, full, where room_fileno was asked for",
    .maxsize = 3,
    .prepare = three,
    .begin = ask_for_room,
    .act = put_into_full,
    .unsteady = true,
    .floor = 60 },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments,
                    &(struct world_work){
                        .name = "steps_put",
                        .operations = operations,
                        .operation_count = sizeof operations / sizeof *operations,
                        .sample = 1,
                    });
}
