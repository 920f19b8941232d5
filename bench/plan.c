#define _GNU_SOURCE
#include "plan.h"

#include <fnmatch.h>
#include <stdio.h>

#define KIB 1024
#define MIB (1024 * KIB)

struct shape {
  unsigned producers, consumers;
};

static const struct shape shapes[] = { { 1, 1 }, { 4, 1 }, { 1, 4 }, { 4, 4 } };
static const size_t sizes[] = { 64, 256, KIB, 4 * KIB, 64 * KIB, MIB };
static const size_t few_sizes[] = { 64, KIB, 64 * KIB, MIB };

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Above 1 KiB a queue without a bound measures how fast memory can be had for a backlog. */
#define UNBOUNDED_SIZE_MAX KIB

/* Nearest to the size of the dict: it is packed, so each queue has a size of its own. */
#define OBJECT_SIZE 64

/* Names that are not there (peer_find) or that cannot carry the load are left out. */
static const char *const unbounded_peers[] = {
  "forkq", "cpython_queue", "pipe", "packets", "ring", "boost", "zmq", NULL,
};
static const char *const bounded_peers[] = {
  "forkq", "forkq_spin", "cpython_queue", "pipe", "pipe_large", "packets",
  "ring",  "boost",      "zmq",           "mq",   "seqpacket",  NULL,
};
static const char *const object_peers[] = { "forkq_object", "cpython_object", NULL };
static const char *const batch_peers[] = { "forkq", "forkq_batch", "ring_batch", NULL };
static const char *const borrow_peers[] = { "forkq_borrow", "forkq", "ring", "boost",
                                            NULL };
static const char *const touched_peers[] = { "forkq", "forkq_borrow", "pipe", "ring",
                                             "boost", "zmq",          NULL };
static const char *const many_peers[] = { "forkq", "pipe", "boost", NULL };
static const char *const simple_peers[] = { "forkq_simple", "cpython_simple", "pipe",
                                            NULL };
static const char *const connection_peers[] = {
  "forkq_connection",
  "cpython_pipe",
  "pipe_framed",
  NULL,
};
static const char *const round_trip_peers[] = {
  "forkq",
  "forkq_spin",
  "cpython_queue",
  "forkq_simple",
  "cpython_simple",
  "forkq_connection",
  "cpython_pipe",
  "pipe",
  "ring",
  "boost",
  "zmq",
  "mq",
  "seqpacket",
  NULL,
};

static unsigned bound_of(size_t size) {
  return size <= KIB ? 1000 : size <= 64 * KIB ? 64 : 16;
}

static bool is_chosen(const struct cell *cell, const struct contender *contender,
                      const char *pattern) {
  char path[128], anywhere[128];
  if (pattern == NULL)
    return true;
  plan_path(cell, contender, path, sizeof path);
  snprintf(anywhere, sizeof anywhere, "*%s*", pattern);
  return fnmatch(anywhere, path, 0) == 0;
}

/* A cell where nobody but the first is chosen stays only if the first one is. */
static void add_cell(struct plan *plan, const struct cell *model,
                     const char *const *names, const char *pattern) {
  if (plan->cells == CELLS_MAX)
    errx(EXIT_FAILURE, "more than %d cells", CELLS_MAX);
  struct cell *cell = &plan->cell[plan->cells];
  bool chosen = false;
  *cell = *model;
  for (; *names != NULL; names++) {
    struct contender contender = { .peer = peer_find(*names) };
    const struct peer *peer = contender.peer;
    if (peer == NULL || (peer->can != NULL && !peer->can(&cell->load)))
      continue;
    if (!is_chosen(cell, &contender, pattern) && cell->contenders > 0)
      continue;
    chosen = chosen || is_chosen(cell, &contender, pattern);
    cell->contender[cell->contenders++] = contender;
  }
  if (chosen)
    plan->cells++;
}

static struct cell throughput(const char *section, struct shape shape, size_t size,
                              bool bounded) {
  return (struct cell){
    .section = section,
    .measure = MEASURE_THROUGHPUT,
    .load = {
      .producers = shape.producers,
      .consumers = shape.consumers,
      .size = size,
      .bound = bound_of(size),
      .bounded = bounded,
    },
  };
}

/* A quick run has the small sizes between one and one, and four and four. */
static bool is_left_out(bool quick, size_t shape, size_t size) {
  return quick && (shape == 1 || shape == 2 || size == 256 || size == 4 * KIB ||
                   size > 64 * KIB || (shape == 3 && size != 64));
}

static void add_bytes(struct plan *plan, bool bounded, bool quick, const char *pattern) {
  for (size_t shape = 0; shape < COUNT(shapes); shape++)
    for (size_t i = 0; i < COUNT(sizes); i++) {
      if (is_left_out(quick, shape, sizes[i]) ||
          (!bounded && sizes[i] > UNBOUNDED_SIZE_MAX))
        continue;
      struct cell cell =
          throughput(bounded ? "bounded" : "unbounded", shapes[shape], sizes[i], bounded);
      add_cell(plan, &cell, bounded ? bounded_peers : unbounded_peers, pattern);
    }
}

static void add_objects(struct plan *plan, bool bounded, bool quick,
                        const char *pattern) {
  for (size_t shape = 0; shape < COUNT(shapes); shape++)
    if (!is_left_out(quick, shape, OBJECT_SIZE)) {
      struct cell cell = throughput(bounded ? "objects, bounded" : "objects, unbounded",
                                    shapes[shape], OBJECT_SIZE, bounded);
      add_cell(plan, &cell, object_peers, pattern);
    }
}

static void add_batches(struct plan *plan, bool bounded, bool quick,
                        const char *pattern) {
  for (size_t shape = 0; shape < COUNT(shapes); shape++)
    if (!is_left_out(quick, shape, 64)) {
      struct cell cell = throughput(bounded ? "batches, bounded" : "batches, unbounded",
                                    shapes[shape], 64, bounded);
      add_cell(plan, &cell, batch_peers, pattern);
    }
}

static void add_borrowed(struct plan *plan, bool quick, const char *pattern) {
  static const size_t large[] = { 4 * KIB, 64 * KIB, MIB };
  for (size_t shape = 0; shape < COUNT(shapes); shape += 3)
    for (size_t i = 0; i < COUNT(large) && !quick; i++) {
      struct cell cell =
          throughput("reserved and borrowed", shapes[shape], large[i], true);
      add_cell(plan, &cell, borrow_peers, pattern);
    }
}

static void add_touched(struct plan *plan, bool quick, const char *pattern) {
  for (size_t shape = 0; shape < COUNT(shapes); shape += 3)
    for (size_t i = 2; i < COUNT(few_sizes) && !quick; i++) {
      struct cell cell =
          throughput("all bytes written and read", shapes[shape], few_sizes[i], true);
      cell.load.touched = true;
      add_cell(plan, &cell, touched_peers, pattern);
    }
}

static void add_many(struct plan *plan, bool quick, const char *pattern) {
  static const struct shape many = { 16, 16 };
  for (size_t i = 0; i < COUNT(few_sizes) && !quick; i += 2) {
    struct cell cell = throughput("many processes", many, few_sizes[i], true);
    add_cell(plan, &cell, many_peers, pattern);
  }
}

static void add_simple(struct plan *plan, bool quick, const char *pattern) {
  for (size_t shape = 0; shape < COUNT(shapes); shape += 3)
    for (size_t i = 0; i < COUNT(few_sizes); i++)
      if (!is_left_out(quick, shape, few_sizes[i])) {
        struct cell cell = throughput("simple queue", shapes[shape], few_sizes[i], false);
        add_cell(plan, &cell, simple_peers, pattern);
      }
}

static void add_connections(struct plan *plan, bool quick, const char *pattern) {
  for (size_t i = 0; i < COUNT(few_sizes); i++)
    if (!is_left_out(quick, 0, few_sizes[i])) {
      struct cell cell = throughput("connection", shapes[0], few_sizes[i], false);
      add_cell(plan, &cell, connection_peers, pattern);
    }
}

static void add_round_trips(struct plan *plan, bool quick, const char *pattern) {
  static const enum placement places[] = { PLACE_ONE_CPU, PLACE_TWO_CPUS,
                                           PLACE_ANYWHERE };
  for (size_t place = 0; place < COUNT(places); place++)
    for (size_t i = 0; i < COUNT(few_sizes) - 1; i++) {
      struct cell cell = throughput("round trip", shapes[0], few_sizes[i], false);
      cell.measure = MEASURE_ROUND_TRIP;
      cell.placement = places[place];
      if ((quick && few_sizes[i] != 64) ||
          (cell.placement == PLACE_TWO_CPUS && run_cpus() < 2))
        continue;
      add_cell(plan, &cell, round_trip_peers, pattern);
    }
}

struct plan *plan_make(bool quick, const char *pattern) {
  struct plan *plan = check_memory(calloc(1, sizeof *plan));
  add_bytes(plan, false, quick, pattern);
  add_bytes(plan, true, quick, pattern);
  add_objects(plan, false, quick, pattern);
  add_objects(plan, true, quick, pattern);
  add_batches(plan, false, quick, pattern);
  add_batches(plan, true, quick, pattern);
  add_touched(plan, quick, pattern);
  add_borrowed(plan, quick, pattern);
  add_many(plan, quick, pattern);
  add_simple(plan, quick, pattern);
  add_connections(plan, quick, pattern);
  add_round_trips(plan, quick, pattern);
  return plan;
}

const char *plan_placement(enum placement placement) {
  static const char *const names[] = { "anywhere", "one CPU", "two CPUs" };
  return names[placement];
}

void plan_shape(const struct cell *cell, char *text, size_t size) {
  if (cell->measure == MEASURE_ROUND_TRIP)
    snprintf(text, size, "%s", plan_placement(cell->placement));
  else
    snprintf(text, size, "%ux%u", cell->load.producers, cell->load.consumers);
}

void plan_path(const struct cell *cell, const struct contender *contender, char *path,
               size_t size) {
  char shape[32];
  plan_shape(cell, shape, sizeof shape);
  snprintf(path, size, "%s/%s/%zu/%s", cell->section, shape, cell->load.size,
           contender->peer->name);
}
