#include "plan.h"

#include "support.h"

#include <stdio.h>

/* The smallest message holds its own description, the largest is many pipes long. */
#define SMALLEST 16u
#define LARGEST (300u << 10)

enum { WAIT_ANY, WAIT_FOREVER, WAIT_SHORT, WAITS };

static uint64_t seed_of(uint64_t seed, uint32_t epoch) {
  uint64_t state = seed * UINT64_C(0x100000001b3) + epoch;
  return support_random(&state);
}

static uint32_t pick(uint64_t *random, const uint32_t *from, uint32_t count) {
  return from[support_random_below(random, count)];
}

static bool one_in(uint64_t *random, uint32_t count) {
  return support_random_below(random, count) == 0;
}

static void choose_queue(struct plan *plan, uint64_t *random) {
  static const uint32_t maxsizes[] = { 0, 0, 1, 2, 3, 7, 64, 1000 };
  plan->simple = one_in(random, 8);
  plan->joinable = !plan->simple && one_in(random, 3);
  plan->direct = !plan->simple && one_in(random, 2);
  plan->maxsize = plan->simple ? 0 : pick(random, maxsizes, 8);
  plan->sizes = (enum sizes)support_random_below(random, SIZES);
  plan->batch_put = plan->simple || !one_in(random, 3)
                        ? 1
                        : 2 + support_random_below(random, BATCH_MAX - 1);
  plan->batch_get = plan->simple || !one_in(random, 3)
                        ? 1
                        : 2 + support_random_below(random, BATCH_MAX - 1);
}

static void choose_processes(struct plan *plan, uint64_t *random) {
  static const uint32_t pauses[] = { 0, 0, 0, 20, 200, 2000 };
  static const uint32_t lives[] = { 0, 0, 0, 4, 40 };
  plan->count[PRODUCER] = 1 + support_random_below(random, 4);
  plan->count[CONSUMER] = 1 + support_random_below(random, 4);
  plan->count[MIXED] =
      plan->simple || !one_in(random, 2) ? 0 : 1 + support_random_below(random, 2);
  plan->count[JOINER] = plan->joinable ? 1 + support_random_below(random, 2) : 0;
  plan->pause_us[PRODUCER] = pick(random, pauses, 6);
  plan->pause_us[CONSUMER] = pick(random, pauses, 6);
  plan->pause_us[MIXED] = pick(random, pauses, 6);
  plan->life_ops = pick(random, lives, 5);
  plan->wait = (int)support_random_below(random, WAITS);
}

/* Behind everything else, so that the rest of an epoch is what it was before there were loops.
 * Some are left to themselves: others would do what a loop fails to do. */
static void choose_loops(struct plan *plan, uint64_t *random) {
  static const uint32_t pauses[] = { 0, 0, 0, 20 };
  plan->count[LOOP] =
      plan->simple || one_in(random, 3) ? 0 : 1 + support_random_below(random, 3);
  plan->pause_us[LOOP] = pick(random, pauses, 4);
  if (plan->count[LOOP] > 0 && one_in(random, 3))
    plan->count[PRODUCER] = plan->count[CONSUMER] = plan->count[MIXED] = 0;
}

/* Behind these, likewise. */
static void choose_ends(struct plan *plan, uint64_t *random) {
  plan->heavy = one_in(random, 6);
  plan->exits = one_in(random, 4);
  plan->dispatch = one_in(random, 2) && plan->joinable;
  plan->daemons = one_in(random, 4) && !plan->simple;
  if (plan->exits && plan->life_ops == 0)
    plan->life_ops = 40;
}

/* An outbox of so many large messages needs more memory than a process has without address space. */
static bool may_fill_memory(const struct plan *plan) {
  return plan->sizes == LARGE && (plan->maxsize <= 0 || plan->maxsize > 100);
}

/* And likewise. In a third of the epochs there is room beside the pipe for some messages only, or for
 * none. */
static void choose_memory(struct plan *plan, uint64_t *random) {
  static const uint32_t most[] = { 0, 0, 0, 0, 64u << 10, FORKQ_SHARED_NONE };
  plan->shared_max_bytes = plan->simple ? 0 : pick(random, most, 6);
  plan->poor = one_in(random, 6) && !plan->heavy && !may_fill_memory(plan);
  plan->late = one_in(random, 2);
}

/* And likewise. */
static void choose_tasks(struct plan *plan, uint64_t *random) {
  static const forkq_lost_tasks_t ways[] = { FORKQ_LOST_TASKS_COUNT,
                                             FORKQ_LOST_TASKS_TELL,
                                             FORKQ_LOST_TASKS_REDELIVER };
  static const uint32_t works[] = { 0, 50, 500 };
  uint32_t way = support_random_below(random, 3);
  plan->work_us = pick(random, works, 3);
  plan->lost_tasks = plan->joinable ? ways[way] : FORKQ_LOST_TASKS_COUNT;
}

struct plan plan_epoch(uint64_t seed, uint32_t epoch) {
  uint64_t random = seed_of(seed, epoch);
  struct plan plan = { .seed = seed, .epoch = epoch };
  choose_queue(&plan, &random);
  choose_processes(&plan, &random);
  plan.kills = 10 + support_random_below(&random, 40);
  plan.stops = one_in(&random, 4);
  plan.late_reap = one_in(&random, 3);
  choose_loops(&plan, &random);
  choose_ends(&plan, &random);
  choose_memory(&plan, &random);
  choose_tasks(&plan, &random);
  return plan;
}

struct plan plan_soak(uint64_t seed) {
  struct plan plan = {
    .seed = seed,
    .direct = true,
    .joinable = true,
    .forever = true,
    .stops = true,
    .late = true,
    .maxsize = 64,
    .sizes = ANY,
    .batch_put = 8,
    .batch_get = 8,
    .count = { [PRODUCER] = 4, [CONSUMER] = 4, [MIXED] = 2, [JOINER] = 1, [LOOP] = 2 },
    .immortal = 1,
    .pause_us = { [PRODUCER] = 500, [CONSUMER] = 100, [MIXED] = 500 },
  };
  return plan;
}

void plan_describe(const struct plan *plan, char *line, size_t size) {
  static const char *const sizes[] = { "small", "page", "large", "any" };
  static const char *const lost[] = { "", ", lost tasks told", ", lost tasks got again" };
  snprintf(line, size,
           "%s%s%s maxsize %lld, %s messages, batches %u/%u, %uP %uC %uM %uJ %uL, pauses "
           "%u/%u "
           "us%s%s%s%s%s%s%s%s%s%s, %u KiB beside, %u us a task, "
           "%u kills",
           plan->simple ? "simple" : "queue", plan->joinable ? " joinable" : "",
           lost[plan->lost_tasks], (long long)plan->maxsize, sizes[plan->sizes],
           plan->batch_put, plan->batch_get, plan->count[PRODUCER], plan->count[CONSUMER],
           plan->count[MIXED], plan->count[JOINER], plan->count[LOOP],
           plan->pause_us[PRODUCER], plan->pause_us[CONSUMER],
           plan->direct ? ", direct" : "", plan->stops ? ", stops" : "",
           plan->late_reap ? ", zombies" : "", plan->life_ops > 0 ? ", short lives" : "",
           plan->heavy ? ", heavy" : "", plan->exits ? ", exits in gets" : "",
           plan->dispatch ? ", dispatchers" : "", plan->daemons ? ", daemons" : "",
           plan->poor ? ", poor" : "", plan->late ? ", late copies" : "",
           (unsigned)((plan->shared_max_bytes == 0 ? FORKQ_SHARED_MAX
                                                   : plan->shared_max_bytes) >>
                      10),
           plan_keeps(plan) ? plan->work_us : 0, plan->kills);
}

int plan_timeout(const struct plan *plan, uint64_t *random) {
  uint32_t kind = support_random_below(random, 4);
  if (plan->wait == WAIT_FOREVER || (plan->wait == WAIT_ANY && kind < 2))
    return -1;
  return kind == 2 ? 0 : 1 + (int)support_random_below(random, 40);
}

static uint32_t between(uint64_t *random, uint32_t low, uint32_t high) {
  return low + support_random_below(random, high - low + 1);
}

/* Small sizes are as likely as large ones: a range of powers of two, then one in it. */
static uint32_t large_size(uint64_t *random) {
  uint32_t high = 8192u << support_random_below(random, 7);
  return between(random, high / 2 + 1024, high < LARGEST ? high : LARGEST);
}

uint32_t plan_size(const struct plan *plan, enum kind kind, uint64_t *random) {
  enum sizes sizes = kind == JUDGE ? SMALL : plan->sizes;
  if (sizes == ANY) {
    uint32_t chance = support_random_below(random, 20);
    sizes = chance == 0 ? LARGE : chance < 4 ? PAGES : SMALL;
  }
  switch (sizes) {
  case SMALL:
    return between(random, SMALLEST, 200);
  case PAGES: /* around what is a packet, or goes beside the pipe */
    return one_in(random, 2) ? between(random, 3900, 4200) : between(random, 400, 1200);
  default:
    return large_size(random);
  }
}
