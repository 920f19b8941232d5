#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "script.h"

#define RUN_SECONDS_MAX 60

const double quantile_at[QUANTILES] = {
  0.001, 0.01, 0.05, 0.1,  0.2,   0.3,   0.4,   0.5,    0.6,    0.7, 0.8,
  0.9,   0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1,
};

/* A run has a leader, forked from the program, and its members, forked from the leader. Each
 * dies with its parent. */
struct run {
  const struct peer *peer;
  struct load load;
  enum placement placement;
  int ready[2]; /* a byte for each member that is ready */
  int start[2]; /* its end is the start */
  pthread_barrier_t
      *met; /* of the two of a round trip: both receive, now they may send */
  struct tally *tallies;
  struct outcome *outcome;
  void *channel, *back; /* there is a way back in round trips only */
};

typedef void member_fn(struct run *run, unsigned index);

/* ---- members ----------------------------------------------------------------------- */

static void fork_member(struct run *run, member_fn *member, unsigned index) {
  if (fork_child() > 0)
    return;
  close(run->start[1]);
  close(run->ready[0]);
  member(run, index);
  exit(EXIT_SUCCESS);
}

static void wait_for_start(struct run *run) {
  char byte = 0;
  if (write(run->ready[1], &byte, 1) != 1 || read(run->start[0], &byte, 1) != 0)
    errx(EXIT_FAILURE, "no start");
}

static void join(const struct run *run, void *channel, enum role role, unsigned index) {
  if (run->peer->join != NULL)
    run->peer->join(channel, role, index);
}

static void leave(const struct run *run, void *channel) {
  if (run->peer->leave != NULL)
    run->peer->leave(channel);
}

static void be_producer(struct run *run, unsigned index) {
  struct party party = { .load = &run->load, .index = index, .tallies = run->tallies };
  join(run, run->channel, ROLE_PRODUCER, index);
  wait_for_start(run);
  run->peer->produce(run->channel, &party);
  leave(run, run->channel);
}

static void be_consumer(struct run *run, unsigned index) {
  struct party party = {
    .load = &run->load,
    .index = index,
    .tallies = run->tallies,
    .tally = &run->tallies[index],
  };
  join(run, run->channel, ROLE_CONSUMER, index);
  wait_for_start(run);
  run->peer->consume(run->channel, &party);
  leave(run, run->channel);
}

/* The n-th CPU that this process may use, or -1. */
static int nth_cpu(int n) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0)
    return -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET((size_t)cpu, &set) && n-- == 0)
      return cpu;
  return -1;
}

static void go_to_place(enum placement placement, int member) {
  if (placement == PLACE_ANYWHERE)
    return;
  cpu_set_t set;
  int cpu = nth_cpu(placement == PLACE_TWO_CPUS ? member : 0);
  if (cpu < 0)
    errx(EXIT_FAILURE, "too few CPUs");
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0)
    err(EXIT_FAILURE, "sched_setaffinity");
}

/* The first trips of a round trip are not counted: everybody wakes up and fills caches. */
static uint64_t warm_up(const struct load *load) {
  return load->messages / 10 + 10;
}

static void be_server(struct run *run, unsigned index) {
  (void)index;
  go_to_place(run->placement, 1);
  join(run, run->channel, ROLE_CONSUMER, 0);
  pthread_barrier_wait(run->met);
  join(run, run->back, ROLE_PRODUCER, 0);
  wait_for_start(run);
  uint64_t trips = warm_up(&run->load) + run->load.messages;
  for (uint64_t i = 1; i <= trips; i++) {
    struct message_head head = run->peer->receive(run->channel);
    if (head.number != i)
      errx(EXIT_FAILURE, "message %ju is out of order", (uintmax_t)head.number);
    run->peer->send(run->back, 0, i);
  }
  leave(run, run->back);
  leave(run, run->channel);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void summarize(struct outcome *outcome, double *trips, uint64_t count) {
  qsort(trips, count, sizeof *trips, by_value);
  for (uint64_t i = 0; i < count; i++)
    outcome->mean += 1e6 * trips[i] / (double)count;
  for (int i = 0; i < QUANTILES; i++)
    outcome->quantiles[i] = 1e6 * trips[(uint64_t)(quantile_at[i] * (double)(count - 1))];
}

static void be_client(struct run *run, unsigned index) {
  (void)index;
  uint64_t first = warm_up(&run->load), count = run->load.messages;
  double *trips = check_memory(calloc(count, sizeof *trips));
  go_to_place(run->placement, 0);
  join(run, run->back, ROLE_CONSUMER, 0);
  pthread_barrier_wait(run->met);
  join(run, run->channel, ROLE_PRODUCER, 0);
  wait_for_start(run);
  for (uint64_t i = 1; i <= first + count; i++) {
    double sent = now();
    run->peer->send(run->channel, 0, i);
    if (run->peer->receive(run->back).number != i)
      errx(EXIT_FAILURE, "not the answer to message %ju", (uintmax_t)i);
    if (i > first)
      trips[i - first - 1] = now() - sent;
  }
  run->tallies->end = now();
  summarize(run->outcome, trips, count);
  free(trips);
  leave(run, run->channel);
  leave(run, run->back);
}

/* ---- the leader -------------------------------------------------------------------- */

/* The leader holds the other end itself, so that a member's failure is not told by the pipe:
 * it looks for the dead twice a second. */
static void wait_until_ready(struct run *run, unsigned members) {
  struct pollfd ready = { .fd = run->ready[0], .events = POLLIN };
  while (members > 0) {
    char byte;
    if (poll(&ready, 1, 500) > 0)
      members -= (unsigned)read(run->ready[0], &byte, 1);
    else if (waitpid(-1, NULL, WNOHANG) > 0)
      errx(EXIT_FAILURE, "a process failed before the start");
  }
}

static double start_members(struct run *run) {
  double begin = now();
  close(run->start[1]);
  return begin;
}

static double seconds_of(const struct timeval *time) {
  return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void wait_for_members(struct outcome *outcome) {
  struct rusage usage;
  for (int status; wait4(-1, &status, 0, &usage) > 0;) {
    if (status != 0)
      errx(EXIT_FAILURE, "a process failed");
    outcome->cpu_seconds += seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime);
    outcome->peak_kib += (double)usage.ru_maxrss;
  }
}

/* All that was sent was received, and only that. */
static double check_tallies(const struct run *run) {
  uint64_t count = 0, sum = 0, n = run->load.messages, producers = run->load.producers;
  double end = 0;
  for (unsigned i = 0; i < run->load.consumers; i++) {
    count += run->tallies[i].count;
    sum += run->tallies[i].sum;
    end = run->tallies[i].end > end ? run->tallies[i].end : end;
  }
  if (count != producers * n || sum != producers * (n * (n + 1) / 2))
    errx(EXIT_FAILURE, "%ju messages of %ju were received", (uintmax_t)count,
         (uintmax_t)(producers * n));
  return end;
}

static void lead_throughput(struct run *run) {
  char name[64];
  snprintf(name, sizeof name, "/forkq-bench-%d", (int)getpid());
  run->channel = run->peer->open(&run->load, name);
  for (unsigned i = 0; i < run->load.consumers; i++)
    fork_member(run, be_consumer, i);
  wait_until_ready(run, run->load.consumers);
  for (unsigned i = 0; i < run->load.producers; i++)
    fork_member(run, be_producer, i);
  wait_until_ready(run, run->load.producers);
  double begin = start_members(run);
  wait_for_members(run->outcome);
  run->outcome->seconds = check_tallies(run) - begin;
}

static pthread_barrier_t *make_barrier(void) {
  pthread_barrier_t *barrier = shared_memory(sizeof *barrier);
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(barrier, &attributes, 2);
  return barrier;
}

static void lead_round_trips(struct run *run) {
  char name[64];
  snprintf(name, sizeof name, "/forkq-bench-%d-there", (int)getpid());
  run->channel = run->peer->open(&run->load, name);
  snprintf(name, sizeof name, "/forkq-bench-%d-back", (int)getpid());
  run->back = run->peer->open(&run->load, name);
  run->met = make_barrier();
  fork_member(run, be_server, 0);
  fork_member(run, be_client, 0);
  wait_until_ready(run, 2);
  double begin = start_members(run);
  wait_for_members(run->outcome);
  run->outcome->seconds = run->tallies->end - begin;
}

static void lead(struct run *run, enum measure measure) {
  alarm(RUN_SECONDS_MAX);
  run->tallies = shared_memory(CONSUMERS_MAX * sizeof *run->tallies);
  if (pipe(run->ready) < 0 || pipe(run->start) < 0)
    err(EXIT_FAILURE, "pipe");
  if (measure == MEASURE_THROUGHPUT)
    lead_throughput(run);
  else
    lead_round_trips(run);
  run->outcome->ok = true;
  if (run->peer->close != NULL) {
    run->peer->close(run->channel);
    if (run->back != NULL)
      run->peer->close(run->back);
  }
}

struct outcome run_measure(const struct peer *peer, const struct load *load,
                           enum measure measure, enum placement placement) {
  message_touched = load->touched;
  if (peer->script != NULL)
    return script_measure(peer, load, measure, placement);
  struct outcome *shared = shared_memory(sizeof *shared), outcome;
  struct run run = {
    .peer = peer, .load = *load, .placement = placement, .outcome = shared
  };
  pid_t leader = fork_child();
  if (leader == 0) {
    lead(&run, measure);
    exit(EXIT_SUCCESS);
  }
  int status;
  while (waitpid(leader, &status, 0) < 0 && errno == EINTR)
    ;
  if (WIFSIGNALED(status))
    warnx("%s: ended by signal %d", peer->name, WTERMSIG(status));
  outcome = *shared;
  outcome.ok = outcome.ok && status == 0;
  munmap(shared, sizeof *shared);
  return outcome;
}

int run_cpus(void) {
  int count = 0;
  while (nth_cpu(count) >= 0)
    count++;
  return count;
}
