/* Killed at every step of what a handle on a loop does with a queue; and survivors that wait
 * on loops. */
#define _GNU_SOURCE
#include "steps_loop.h"
#include "steps_world.h"

#include <poll.h>
#include <uv.h>

#define LARGE 2000

static void one(void) {
  world_put(1);
}

static void three(void) {
  world_put(3);
}

static void five_at_once(void) {
  world_put_many(5);
}

static void two_large(void) {
  world_put_large(LARGE);
  world_put_large(LARGE);
}

static void open_handle(void) {
  steps_loop_open(world_queue);
}

static void get_one(void) {
  static forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(steps_loop_get(&item, -1) == 0);
}

static void get_three(void) {
  for (int i = 0; i < 3; i++)
    get_one();
}

static void get_in_vain(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(steps_loop_get(&item, 0) == FORKQ_EMPTY);
}

static void get_cancelled(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(steps_loop_get_cancelled(&item) == UV_ECANCELED);
}

static void borrow_one(void) {
  static forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(steps_loop_borrow(&item, -1) == 0);
  CHILD_MUST(forkq_item_is_borrowed(&item) == 1);
}

static void get_into(void) {
  static char buffer[LARGE];
  CHILD_MUST(steps_loop_get_into(buffer, sizeof buffer, -1) == 0);
}

static void put_one(void) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)victim_number();
  CHILD_MUST(steps_loop_put(&object, -1) == 0);
}

static void open_and_put_one(void) {
  open_handle();
  put_one();
}

static void open_get_and_close(void) {
  open_handle();
  get_one();
  steps_loop_close();
}

static void plain_get_one(void) {
  victim_get(1);
}

static void more_than_are_waited_for(void) {
  world_put(2);
}

static void get_two(void) {
  world_get();
  world_get();
}

static void shut_down(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 0) == 0);
}

static void watch_and_get(void) {
  struct pollfd watched = { .fd = forkq_queue_fileno(world_queue), .events = POLLIN };
  CHILD_MUST(watched.fd >= 0);
  CHILD_MUST(poll(&watched, 1, -1) == 1);
  victim_get(1);
}

static const struct operation operations[] = {
  { .name = "loop, open, get, close",
    .maxsize = 3,
    .prepare = three,
    .act = open_get_and_close,
    .takes = 1,
    .floor = 60 },
  { .name = "loop, get from the read-ahead",
    .maxsize = 5,
    .joinable = true,
    .prepare = five_at_once,
    .begin = open_handle,
    .act = get_three,
    .takes = 3,
    .floor = 60 },
  { .name = "loop, get, asleep and woken",
    .begin = open_handle,
    .act = get_one,
    .wake = one,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "loop, get, beside another that sleeps",
    .begin = open_handle,
    .act = get_one,
    .wake = more_than_are_waited_for,
    .waiting = GETTER,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "loop, get, beside another on a loop",
    .begin = open_handle,
    .act = get_one,
    .wake = more_than_are_waited_for,
    .waiting = GETTER,
    .on_loops = true,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "loop, get in vain", .begin = open_handle, .act = get_in_vain, .floor = 10 },
  { .name = "loop, get and cancel",
    .begin = open_handle,
    .act = get_cancelled,
    .floor = 2 },
  { .name = "loop, borrow",
    .maxsize = 3,
    .beside = true,
    .prepare = two_large,
    .begin = open_handle,
    .act = borrow_one,
    .takes = 1,
    .floor = 30 },
  { .name = "loop, get into a buffer",
    .maxsize = 3,
    .beside = true,
    .prepare = two_large,
    .begin = open_handle,
    .act = get_into,
    .takes = 1,
    .floor = 30 },
  { .name = "loop, put, the first of a process",
    .maxsize = 3,
    .act = open_and_put_one,
    .puts = 1,
    .floor = 90 },
  { .name = "loop, put, waits for room",
    .maxsize = 3,
    .prepare = three,
    .begin = open_handle,
    .act = put_one,
    .wake = world_get,
    .puts = 1,
    .unsteady = true,
    .floor = 90 },
  { .name = "loop, put, waits for room with another on a loop",
    .maxsize = 3,
    .prepare = three,
    .begin = open_handle,
    .act = put_one,
    .wake = get_two,
    .waiting = PUTTER,
    .on_loops = true,
    .puts = 1,
    .unsteady = true,
    .floor = 90 },
  { .name = "fileno, watch and get",
    .act = watch_and_get,
    .wake = one,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "get, that makes room for one on a loop",
    .maxsize = 3,
    .prepare = three,
    .act = plain_get_one,
    .waiting = PUTTER,
    .on_loops = true,
    .takes = 1,
    .unsteady = true,
    .floor = 30 },
  { .name = "shutdown, with one who gets on a loop",
    .maxsize = 3,
    .act = shut_down,
    .waiting = GETTER,
    .on_loops = true,
    .ending = SHUT_DOWN,
    .unsteady = true,
    .floor = 5 },
  { .name = "shutdown, with one who puts on a loop",
    .maxsize = 3,
    .prepare = three,
    .act = shut_down,
    .waiting = PUTTER,
    .on_loops = true,
    .ending = SHUT_DOWN,
    .unsteady = true,
    .floor = 5 },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments,
                    &(struct world_work){
                        .name = "steps_loop",
                        .operations = operations,
                        .operation_count = sizeof operations / sizeof *operations,
                        .sample = 1,
                    });
}
