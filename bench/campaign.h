/* Carries a plan out: how many messages, how many rounds, in which order. */
#ifndef FORKQ_BENCH_CAMPAIGN_H
#define FORKQ_BENCH_CAMPAIGN_H

#include "plan.h"

struct campaign {
  unsigned rounds;
  double seconds; /* that a run should last */
};

/* Every contender runs once in every round, the contenders of a cell one after the other.
 * First of all each is calibrated: it runs with ever more messages, until it is known how
 * many take the time wanted. Who fails is said on stderr and left out from then on.
 * Returns how many failed. */
unsigned campaign_run(struct plan *plan, const struct campaign *campaign);

/* For profile.py: the contender with that path runs alone, once, with that many messages of
 * each producer; 0: it is calibrated first, and *messages says what came of it. */
bool campaign_run_alone(const struct plan *plan, const char *path, double seconds,
                        uint64_t *messages, struct outcome *ret_outcome);

#endif
