/* The crash harness: producers, consumers, joiners and loops on one queue, a nemesis that kills and
 * stops them, and the promises checked exactly after every epoch. See README.md.
 *
 * Four kinds of processes: this one, which watches; the judge, its child, one for each epoch;
 * the workers, children of the judge; and nobody else. Each dies with its parent. */
#define _GNU_SOURCE
#include "judge.h"
#include "leaks.h"
#include "soak.h"
#include "support.h"
#include "watch.h"

#include <forkq/simple_queue.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 500
#define ALL_SAMPLES 65536

struct run {
  uint64_t seed;
  uint64_t kills;
  long epoch;   /* this one only; -1: all, from 0 on */
  long minutes; /* a soak; 0: none */
  const char *csv;
  bool verbose;
};

/* Over all epochs. */
struct totals {
  uint64_t epochs;
  uint64_t kills;
  uint64_t gets;
  uint64_t recoveries;
  uint64_t again; /* tasks of the dead that were got again */
  uint64_t told;  /* and that were told */
  int64_t late_ns;
  uint32_t count[2];
  int32_t us[2][ALL_SAMPLES];
};

static struct totals totals;
static struct watch watch;
static volatile sig_atomic_t told_to_stop;

/* The epoch that runs is the last. */
static void on_signal(int signal) {
  (void)signal;
  told_to_stop = 1;
}

static void handle_signals(void (*handler)(int signal)) {
  struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ---- one epoch --------------------------------------------------------------------------- */

static void feeder_error(forkq_queue_t *queue, int error, const char *data, size_t size,
                         void *arg) {
  (void)queue, (void)data;
  book_fail(arg, "a feeder could not send %zu bytes: %s", size, forkq_error_name(error));
}

static int create(struct book *book) {
  const struct plan *plan = &book->plan;
  if (plan->simple)
    return forkq_simple_queue_create((forkq_simple_queue_t **)&book->queue);
  forkq_queue_options_t options = {
    .size = sizeof options,
    .maxsize = plan->maxsize,
    .joinable = plan->joinable,
    .lost_tasks = (int)plan->lost_tasks,
    .no_direct_write = !plan->direct,
    .on_feeder_error = feeder_error,
    .on_feeder_error_arg = book,
    .shared_max_bytes = (size_t)plan->shared_max_bytes,
  };
  return forkq_queue_create_with(&book->queue, &options);
}

static pid_t start_judge(struct book *book, int64_t end_ns) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) {
    perror("fork");
    exit(2);
  }
  if (pid > 0) {
    setpgid(pid, pid);
    return pid;
  }
  setpgid(0, 0);
  handle_signals(SIG_DFL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(1);
  judge_epoch(book, end_ns);
  exit(0);
}

/* Until the judge has ended, or something is wrong. */
static void attend(struct book *book, pid_t judge, struct soak *soak) {
  int status;
  watch_begin(&watch, book, judge);
  while (waitpid(judge, &status, WNOHANG) == 0) {
    watch_look(&watch);
    if (soak != NULL)
      soak_look(soak);
    if (watch.worst_ns > totals.late_ns)
      totals.late_ns = watch.worst_ns;
    if (atomic_load(&book->failed) != 0)
      return;
    if (told_to_stop)
      atomic_store(&book->stop, 1);
  }
  if (atomic_load(&book->failed) == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
    book_fail(book, "the judge ended with %#x", (unsigned)status);
}

static void show_failure(const struct run *run, struct book *book) {
  fprintf(stderr, "FAILED: seed %" PRIu64 ", epoch %u: %s\n", run->seed, book->plan.epoch,
          book->failure);
  fprintf(stderr, "  again: ./dev crash --seed %" PRIu64 " --epoch %u\n", run->seed,
          book->plan.epoch);
  watch_show(&watch);
}

static void add_samples(uint32_t kind, const struct samples *samples) {
  uint32_t count = atomic_load(&samples->count);
  for (uint32_t i = 0; i < count && i < SAMPLES_MAX; i++)
    if (totals.count[kind] < ALL_SAMPLES)
      totals.us[kind][totals.count[kind]++] = samples->us[i];
}

static void add_to_totals(struct book *book) {
  totals.epochs++;
  totals.kills += atomic_load(&book->kills);
  totals.gets += atomic_load(&book->gets);
  totals.recoveries += book_recoveries(book);
  totals.again += book_again(book);
  totals.told += atomic_load(&book->told);
  add_samples(0, &book->puts_after);
  add_samples(1, &book->gets_after);
}

static void check_leaks(struct book *book, struct leaks before) {
  struct leaks now = leaks_now();
  for (int tries = 0; now.shm > before.shm && tries < 100; tries++, now = leaks_now())
    book_sleep_us(10000); /* somebody else's */
  if (now.fds != before.fds)
    book_fail(book, "%d descriptors before the queue, and %d after it", before.fds,
              now.fds);
  if (now.shm > before.shm)
    book_fail(book, "%d entries of /dev/shm more than before", now.shm - before.shm);
}

/* 0, or 1 when a promise was broken. */
static int run_epoch(const struct run *run, const struct plan *plan) {
  struct leaks before = leaks_now();
  struct book *book = book_open(plan);
  struct soak soak;
  int64_t begin = book_now();
  int r = create(book);
  if (r < 0) {
    fprintf(stderr, "create: %s\n", forkq_strerror(r));
    exit(2);
  }
  if (plan->late)
    support_copy_late(book->queue);
  if (run->minutes > 0 && soak_begin(&soak, book, run->csv) < 0) {
    perror(run->csv);
    exit(2);
  }
  int64_t end = run->minutes > 0 ? begin + run->minutes * INT64_C(60000000000) : 0;
  pid_t judge = start_judge(book, end);
  attend(book, judge, run->minutes > 0 ? &soak : NULL);
  if (atomic_load(&book->failed) != 0)
    show_failure(run, book);
  bool failed = atomic_load(&book->failed) != 0;
  if (leaks_end_group(judge) && !failed)
    book_fail(book, "processes were left behind");
  add_to_totals(book);
  if (run->minutes > 0 && soak_end(&soak) != 0)
    book_fail(book, "not flat");
  if (!failed) {
    forkq_queue_destroy(book->queue);
    check_leaks(book, before);
    if (atomic_load(&book->failed) != 0)
      fprintf(stderr, "FAILED: seed %" PRIu64 ", epoch %u: %s\n", run->seed, plan->epoch,
              book->failure);
  }
  if (run->verbose)
    fprintf(stderr, "  %u kills, %" PRIu64 " gets, %" PRId64 " ms\n",
            atomic_load(&book->kills), atomic_load(&book->gets),
            (book_now() - begin) / 1000000);
  r = atomic_load(&book->failed) != 0;
  book_close(book);
  return r;
}

/* ---- all of them ------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

static void print_times(const char *what, uint32_t kind) {
  uint32_t count = totals.count[kind];
  int32_t *us = totals.us[kind];
  if (count == 0)
    return;
  qsort(us, count, sizeof *us, compare);
  printf("from a death that left something to repair to the next %s: p50 %.3f ms, "
         "p99 %.3f ms, max %.3f ms (%u deaths)\n",
         what, us[count / 2] / 1e3, us[(uint64_t)count * 99 / 100] / 1e3,
         us[count - 1] / 1e3, count);
}

static void print_totals(const struct run *run, int64_t began) {
  printf("seed %" PRIu64 ": %" PRIu64 " kills in %" PRIu64 " epochs, %" PRIu64
         " recoveries, %" PRIu64 " items got, %" PRIu64 " tasks got again, %" PRIu64
         " told, %.1f s\n",
         run->seed, totals.kills, totals.epochs, totals.recoveries, totals.gets,
         totals.again, totals.told, (double)(book_now() - began) / 1e9);
  print_times("put", 0);
  print_times("get", 1);
  printf("an idle process was up to %.1f ms late\n", (double)totals.late_ns / 1e6);
}

static int run_all(const struct run *run) {
  char line[512];
  int64_t began = book_now();
  int failed = 0;
  uint32_t epoch = run->epoch >= 0 ? (uint32_t)run->epoch : 0;
  printf("seed %" PRIu64 "\n", run->seed);
  fflush(stdout);
  do {
    struct plan plan =
        run->minutes > 0 ? plan_soak(run->seed) : plan_epoch(run->seed, epoch);
    plan_describe(&plan, line, sizeof line);
    if (run->verbose || run->epoch >= 0)
      fprintf(stderr, "epoch %u: %s\n", epoch, line);
    failed = run_epoch(run, &plan);
    if (failed)
      fprintf(stderr, "epoch %u was: %s\n", epoch, line);
    epoch++;
  } while (!failed && !told_to_stop && run->epoch < 0 && run->minutes == 0 &&
           totals.kills < run->kills);
  print_totals(run, began);
  printf(failed ? "a promise was BROKEN\n" : "every promise was kept\n");
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static _Noreturn void usage(void) {
  fprintf(stderr, "usage: crash [--kills N] [--seed S] [--epoch E] [--verbose]\n"
                  "       crash --soak MINUTES [--csv FILE] [--seed S]\n");
  exit(2);
}

static struct run parse(int argc, char **argv) {
  static const struct option options[] = {
    { "kills", required_argument, NULL, 'k' },
    { "seed", required_argument, NULL, 's' },
    { "epoch", required_argument, NULL, 'e' },
    { "soak", required_argument, NULL, 'm' },
    { "csv", required_argument, NULL, 'c' },
    { "verbose", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
  };
  struct run run = {
    .seed = (uint64_t)book_now() / 1000, .kills = KILLS, .epoch = -1, .csv = "soak.csv"
  };
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 'k':
      run.kills = strtoull(optarg, NULL, 10);
      break;
    case 's':
      run.seed = strtoull(optarg, NULL, 10);
      break;
    case 'e':
      run.epoch = strtol(optarg, NULL, 10);
      break;
    case 'm':
      run.minutes = strtol(optarg, NULL, 10);
      break;
    case 'c':
      run.csv = optarg;
      break;
    case 'v':
      run.verbose = true;
      break;
    default:
      usage();
    }
  }
  if (optind != argc || run.minutes < 0)
    usage();
  return run;
}

int main(int argc, char **argv) {
  struct run run = parse(argc, argv);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  handle_signals(on_signal);
  return run_all(&run);
}
