#include "figures.h"

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static struct range range_of(double *values, unsigned count) {
  qsort(values, count, sizeof *values, by_value);
  return (struct range){
    .median = (values[(count - 1) / 2] + values[count / 2]) / 2,
    .least = values[0],
    .greatest = values[count - 1],
  };
}

static double all_messages(const struct cell *cell, const struct contender *contender) {
  return (double)(contender->messages * cell->load.producers);
}

double figures_rate(const struct cell *cell, const struct contender *contender,
                    unsigned round) {
  const struct outcome *outcome = &contender->outcomes[round];
  if (cell->measure == MEASURE_ROUND_TRIP)
    return 1e6 / outcome->mean;
  return all_messages(cell, contender) / outcome->seconds;
}

/* What a round is compared by: more is better. */
static double worth(const struct cell *cell, const struct contender *contender,
                    unsigned round) {
  if (cell->measure == MEASURE_ROUND_TRIP)
    return 1 / contender->outcomes[round].quantiles[FIGURES_P50];
  return figures_rate(cell, contender, round);
}

static void add_ratios(struct figures *figures, const struct cell *cell,
                       const struct contender *contender) {
  const struct contender *base = &cell->contender[0];
  double values[ROUNDS_MAX];
  if (base->rounds != contender->rounds || base->messages == 0)
    return;
  for (unsigned i = 0; i < contender->rounds; i++)
    values[i] = worth(cell, base, i) / worth(cell, contender, i);
  figures->ratio = range_of(values, contender->rounds);
}

static double median_of(const struct contender *contender, size_t offset) {
  double values[ROUNDS_MAX];
  for (unsigned i = 0; i < contender->rounds; i++)
    memcpy(&values[i], (const char *)&contender->outcomes[i] + offset, sizeof *values);
  return range_of(values, contender->rounds).median;
}

struct figures figures_of(const struct cell *cell, const struct contender *contender) {
  struct figures figures = { .complete =
                                 contender->messages > 0 && contender->rounds > 0 };
  double rates[ROUNDS_MAX];
  if (!figures.complete)
    return figures;
  for (unsigned i = 0; i < contender->rounds; i++)
    rates[i] = figures_rate(cell, contender, i);
  figures.rate = range_of(rates, contender->rounds);
  add_ratios(&figures, cell, contender);
  figures.cpu_us = 1e6 * median_of(contender, offsetof(struct outcome, cpu_seconds)) /
                   all_messages(cell, contender);
  figures.peak_mib = median_of(contender, offsetof(struct outcome, peak_kib)) / 1024;
  figures.mean = median_of(contender, offsetof(struct outcome, mean));
  for (int i = 0; i < QUANTILES; i++)
    figures.quantiles[i] = median_of(contender, offsetof(struct outcome, quantiles) +
                                                    (size_t)i * sizeof(double));
  return figures;
}
