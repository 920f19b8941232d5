/* From the rounds of a contender to the figures that are told. */
#ifndef FORKQ_BENCH_FIGURES_H
#define FORKQ_BENCH_FIGURES_H

#include "plan.h"

struct range {
  double median, least, greatest;
};

struct figures {
  bool complete;      /* ran in every round */
  struct range rate;  /* messages a second; round trips a second */
  struct range ratio; /* forkq against this one, round by round: how many times as fast */
  double cpu_us;      /* CPU microseconds a message, median */
  double peak_mib;
  double mean; /* of the round trips, medians over the rounds: microseconds */
  double quantiles[QUANTILES];
};

/* Messages or round trips a second. */
double figures_rate(const struct cell *cell, const struct contender *contender,
                    unsigned round);

/* The ratio of a round trip is that of the medians of the time: the other's by forkq's. */
struct figures figures_of(const struct cell *cell, const struct contender *contender);

/* Where the median is among quantile_at. */
#define FIGURES_P50 7
#define FIGURES_P99 14
#define FIGURES_P999 17

#endif
