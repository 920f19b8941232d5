/* One run: the processes, the clock, the checks, what it cost. */
#ifndef FORKQ_BENCH_RUN_H
#define FORKQ_BENCH_RUN_H

#include "peer.h"

enum measure { MEASURE_THROUGHPUT, MEASURE_ROUND_TRIP };

/* Where the two processes of a round trip run. */
enum placement { PLACE_ANYWHERE, PLACE_ONE_CPU, PLACE_TWO_CPUS };

#define QUANTILES 21
extern const double quantile_at[QUANTILES];

struct outcome {
  bool ok;
  double seconds; /* from the common start to the last message */
  double
      cpu_seconds; /* of all processes that send or receive, with their start and end */
  double peak_kib; /* largest resident size, added up over those processes */
  double mean;     /* of the round trips, and the quantiles: microseconds */
  double quantiles[QUANTILES];
};

/* Forks what the run needs and waits for its end. ok is false, and something was written to
 * stderr, if a process failed or the run did not end within a minute. Whatever becomes of
 * it, and of the caller, no process and no name is left behind. */
struct outcome run_measure(const struct peer *peer, const struct load *load,
                           enum measure measure, enum placement placement);

/* How many CPUs this process may use. */
int run_cpus(void);

#endif
