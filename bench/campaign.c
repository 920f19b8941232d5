#include "campaign.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Bytes that a queue without a bound may come to hold in a run. */
#define BACKLOG_MAX (512u * 1024 * 1024)

/* A round trip's quantiles need no more samples, and they are all kept. */
#define TRIPS_MAX 100000

struct progress {
  unsigned done, total;
  double begin;
};

static void show_progress(struct progress *progress, const struct cell *cell,
                          const struct contender *contender) {
  char path[128], line[160];
  if (!isatty(STDERR_FILENO))
    return;
  double seconds = now() - progress->begin;
  double left = progress->done == 0
                    ? 0
                    : seconds / progress->done * (progress->total - progress->done);
  plan_path(cell, contender, path, sizeof path);
  snprintf(line, sizeof line, "%u of %u, %.0f s to go: %s", progress->done,
           progress->total, left, path);
  fprintf(stderr, "\r%-78.78s", line);
  progress->done++;
}

static void end_progress(void) {
  if (isatty(STDERR_FILENO))
    fprintf(stderr, "\r%78s\r", "");
}

static struct outcome measure(const struct cell *cell, const struct contender *contender,
                              uint64_t messages) {
  struct load load = cell->load;
  load.messages = messages;
  return run_measure(contender->peer, &load, cell->measure, cell->placement);
}

static uint64_t first_guess(const struct cell *cell) {
  uint64_t all = cell->measure == MEASURE_ROUND_TRIP ? 200
                 : cell->load.size <= 1024           ? 4000
                 : cell->load.size <= 65536          ? 256
                                                     : 16;
  return all / cell->load.producers;
}

static uint64_t most(const struct cell *cell) {
  if (cell->measure == MEASURE_ROUND_TRIP)
    return TRIPS_MAX;
  return cell->load.bounded ? UINT64_MAX
                            : BACKLOG_MAX / cell->load.size / cell->load.producers;
}

/* At most 16 times as many at once: the first ones are slow. */
static bool calibrate(const struct cell *cell, struct contender *contender,
                      double seconds) {
  uint64_t messages = first_guess(cell);
  for (;;) {
    struct outcome outcome = measure(cell, contender, messages);
    if (!outcome.ok)
      return false;
    double factor = seconds / outcome.seconds;
    bool last = factor < 4;
    messages = (uint64_t)((double)messages * (factor > 16 ? 16 : factor)) + 1;
    if (last || messages >= most(cell))
      break;
  }
  contender->messages = messages < most(cell) ? messages : most(cell);
  return true;
}

static bool run_round(const struct cell *cell, struct contender *contender) {
  struct outcome outcome = measure(cell, contender, contender->messages);
  contender->outcomes[contender->rounds++] = outcome;
  return outcome.ok;
}

/* Round 0 calibrates. */
static bool step(const struct cell *cell, struct contender *contender, unsigned round,
                 double seconds) {
  if (round > 0 && contender->messages == 0)
    return true;
  if (round == 0 ? calibrate(cell, contender, seconds) : run_round(cell, contender))
    return true;
  char path[128];
  plan_path(cell, contender, path, sizeof path);
  warnx("failed: %s", path);
  contender->messages = 0;
  return false;
}

unsigned campaign_run(struct plan *plan, const struct campaign *campaign) {
  struct progress progress = { .begin = now() };
  unsigned failed = 0;
  for (unsigned i = 0; i < plan->cells; i++)
    progress.total += plan->cell[i].contenders * (campaign->rounds + 1);
  for (unsigned round = 0; round <= campaign->rounds; round++)
    for (unsigned i = 0; i < plan->cells; i++)
      for (unsigned j = 0; j < plan->cell[i].contenders; j++) {
        struct cell *cell = &plan->cell[i];
        show_progress(&progress, cell, &cell->contender[j]);
        failed += !step(cell, &cell->contender[j], round, campaign->seconds);
      }
  end_progress();
  return failed;
}

static bool has_path(const struct cell *cell, const struct contender *contender,
                     const char *wanted) {
  char path[128];
  plan_path(cell, contender, path, sizeof path);
  return strcmp(path, wanted) == 0;
}

bool campaign_run_alone(const struct plan *plan, const char *path, double seconds,
                        uint64_t *messages, struct outcome *ret_outcome) {
  for (unsigned i = 0; i < plan->cells; i++)
    for (unsigned j = 0; j < plan->cell[i].contenders; j++) {
      const struct cell *cell = &plan->cell[i];
      struct contender contender = cell->contender[j];
      if (!has_path(cell, &contender, path))
        continue;
      if (*messages == 0 && !calibrate(cell, &contender, seconds))
        return false;
      if (*messages == 0)
        *messages = contender.messages;
      *ret_outcome = measure(cell, &contender, *messages);
      return ret_outcome->ok;
    }
  return false;
}
