/* What is measured: cells, each a load with the contenders that carry it. */
#ifndef FORKQ_BENCH_PLAN_H
#define FORKQ_BENCH_PLAN_H

#include "run.h"

#define ROUNDS_MAX 25
#define CONTENDERS_MAX 16
#define CELLS_MAX 128

struct contender {
  const struct peer *peer;
  uint64_t messages; /* of each producer, once calibrated; 0: left out */
  unsigned rounds;
  struct outcome outcomes[ROUNDS_MAX];
};

/* The first contender is forkq's: the others are compared with it. */
struct cell {
  const char *section;
  enum measure measure;
  enum placement placement;
  struct load load;
  unsigned contenders;
  struct contender contender[CONTENDERS_MAX];
};

struct plan {
  unsigned cells;
  struct cell cell[CELLS_MAX];
};

/* All cells, or the few of a quick run; of these the contenders whose path_of has `pattern` in
 * it (NULL: all), with the first of each such cell. */
struct plan *plan_make(bool quick, const char *pattern);

/* "bounded/4x1/64/zmq", "round trip/two CPUs/64/pipe". */
void plan_path(const struct cell *cell, const struct contender *contender, char *path,
               size_t size);

const char *plan_placement(enum placement placement);

/* "4x1", or the placement. */
void plan_shape(const struct cell *cell, char *text, size_t size);

#endif
