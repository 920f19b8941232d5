/* Runs scenarios of faults: each in a child of its own, with each call that fails at each time that
 * it is made. */
#define _GNU_SOURCE
#include "fault_scenarios.h"
#include "fault_world.h"
#include "queue/queue_impl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- all scenarios ------------------------------------------------------------------ */

static const struct scenario *const tables[] = { scenarios_of_items, scenarios_of_ends,
                                                 scenarios_of_streams };

/* The one with that number; behind the last there is none. */
static const struct scenario *scenario_at(size_t index) {
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    for (const struct scenario *scenario = tables[i]; scenario->name != NULL; scenario++)
      if (index-- == 0)
        return scenario;
  return NULL;
}

/* ---- running ----------------------------------------------------------------------- */

/* What a run tells its parent. */
struct report {
  bool met;
  long calls[FAULT_CALLS];
};

struct run {
  const struct scenario *scenario;
  const struct fault *fault;
  struct report *report;
};

static void end_of_time(int signal) {
  static const char text[] = "it hangs\n";
  (void)signal;
  (void)!write(2, text, sizeof text - 1);
  _exit(1);
}

/* As support_open_fds, but without Check, whose own memory would be counted. */
static int open_fds(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++)
    count += fcntl(fd, F_GETFD) != -1;
  return count;
}

/* Threads of a feeder that was not waited for are about to give back what they have. This one's
 * packet, in which it packs, would stay with it until it ends. */
static void until_all_is_back(int fds, long blocks) {
  forkq__source_drop_draft();
  int64_t deadline = support_now_ms() + 1000;
  while ((open_fds() != fds || faults_live_blocks() != blocks) &&
         support_now_ms() < deadline)
    usleep(100);
  CHILD_MUST(open_fds() == fds);
  if (faults_live_blocks() != blocks)
    fprintf(stderr, "blocks: %ld before, %ld after\n", blocks, faults_live_blocks());
  CHILD_MUST(faults_live_blocks() == blocks);
}

/* What pwritev2 does not know yet, there is another way for. */
static bool may_be_returned(const struct fault *fault) {
  bool older = fault->error == EOPNOTSUPP || fault->error == ENOSYS;
  return fault->first > 0 && fault->error > 0 &&
         !(fault->call == FAULT_PWRITEV2 && older);
}

static void run_here(void *arg) {
  const struct run *run = arg;
  const struct scenario *scenario = run->scenario;
  struct world *w = calloc(1, sizeof *w);
  signal(SIGALRM, end_of_time);
  alarm(30);
  w->scenario = scenario;
  w->injected = may_be_returned(run->fault) ? -run->fault->error : 0;
  int fds = open_fds();
  long blocks = faults_live_blocks();
  scenario->before(w);
  faults_begin(run->fault);
  scenario->act(w);
  run->report->met = faults_end();
  for (int i = 0; i < FAULT_CALLS; i++)
    run->report->calls[i] = faults_calls((enum fault_call)i);
  scenario->after(w);
  forkq_item_destroy(&w->item);
  for (int i = 0; i < 4; i++)
    forkq_item_destroy(&w->items[i]);
  until_all_is_back(fds, blocks);
  free(w);
}

/* Runs a scenario in a child. Whether the fault came about; calls: how many were made. */
static bool run_scenario(size_t index, const struct fault *fault, long *calls) {
  static struct report *report;
  if (report == NULL)
    report = support_shared(sizeof *report);
  memset(report, 0, sizeof *report);
  struct run run = { scenario_at(index), fault, report };
  int status = support_wait(support_fork(run_here, &run));
  char what[128];
  faults_describe(fault, what, sizeof what);
  if (status != 0)
    fprintf(stderr, "%s, where %s: ends with %d\n", run.scenario->name, what, status);
  CHILD_MUST(status == 0);
  if (calls != NULL)
    memcpy(calls, report->calls, sizeof report->calls);
  return report->met;
}

/* As threads come in another order each time, it goes on to the number of calls of a run
 * without faults, and from there until there is none left to fail. */
static long with_each(size_t index, struct fault fault, long usual) {
  long runs = 0;
  for (fault.first = 1;; fault.first++) {
    runs++;
    if (!run_scenario(index, &fault, NULL) && fault.first > usual)
      return runs;
  }
}

static long with_scenario(size_t index, enum fault_call call, int error, bool lasts) {
  const struct fault none = { .first = 0 };
  long calls[FAULT_CALLS];
  run_scenario(index, &none, calls);
  if (calls[call] == 0)
    return 0;
  struct fault fault = { call, error, 0, 1 };
  long runs = with_each(index, fault, calls[call]);
  fault.count = lasts ? FAULT_LASTS : 3;
  return runs + with_each(index, fault, calls[call]);
}

/* Most runs wait most of the time, so there are several at once. */
#define WORKERS 6

struct work {
  enum fault_call call;
  int error;
  bool lasts;
  _Atomic size_t *next;
  _Atomic long *runs;
};

static void work(void *arg) {
  const struct work *work = arg;
  const struct scenario *scenario;
  size_t i;
  while ((scenario = scenario_at(i = atomic_fetch_add(work->next, 1))) != NULL) {
    bool packets = work->call >= FAULT_READ && work->call <= FAULT_PWRITEV2;
    if (work->error == FAULT_SHORT && packets && !scenario->streams)
      continue;
    atomic_fetch_add(work->runs, with_scenario(i, work->call, work->error, work->lasts));
  }
}

long fault_scenarios_with(enum fault_call call, int error, bool lasts) {
  struct {
    _Atomic size_t next;
    _Atomic long runs;
  } *shared = support_shared(sizeof *shared);
  struct work each = { call, error, lasts, &shared->next, &shared->runs };
  pid_t workers[WORKERS];
  for (int i = 0; i < WORKERS; i++)
    workers[i] = support_fork(work, &each);
  int failed = 0;
  for (int i = 0; i < WORKERS; i++)
    failed += support_wait(workers[i]) != 0;
  ck_assert_msg(failed == 0, "%d of %d workers failed", failed, WORKERS);
  return atomic_load(&shared->runs);
}
