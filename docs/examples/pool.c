/* pool [LAST [BAD]]: a pool of workers that outlives the crash of a worker, and that a Ctrl-C ends in
 * order.
 *
 * The parent puts the numbers from 1 to LAST, or without end, on a bounded queue. The workers count the
 * steps that a number takes to 1, where an even one is halved, and an odd one multiplied by 3 and one
 * added. A worker crashes at the number BAD. The parent starts another one, and says that this number stays
 * without an answer; no other does. (With FORKQ_LOST_TASKS_REDELIVER another worker would get it.)
 *
 * After a Ctrl-C, or a SIGTERM, the parent puts no more. The workers ignore the Ctrl-C, finish what is on
 * the queue, and end. If the parent is killed, they end at once. */
#include <err.h>
#include <errno.h>
#include <forkq.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define WORKERS 4
#define CRASHES_MAX 100 /* then the fault is not in one task */

struct answer {
  uint64_t number, steps;
};

struct pool {
  forkq_queue_t *tasks, *answers;
  forkq_process_t *workers[WORKERS]; /* NULL: has ended */
  int running, crashes, signals;
  bool interrupted, finished; /* finished: no more tasks will come */
  uint64_t last, bad, put, answered;
  struct answer longest;
};

static void must(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

/* ---- a worker -------------------------------------------------------------------------------- */

static uint64_t steps_of(uint64_t number) {
  uint64_t steps = 0;
  for (; number > 1; steps++)
    number = number % 2 == 0 ? number / 2 : 3 * number + 1;
  return steps;
}

static int work(void *arg) {
  const struct pool *pool = arg;
  uint64_t number;
  size_t size;
  int r;
  while ((r = forkq_queue_get_bytes_into(pool->tasks, &number, sizeof number, -1,
                                         &size)) == 0) {
    if (number == pool->bad)
      abort();
    struct answer answer = { number, steps_of(number) };
    must(forkq_queue_put_bytes(pool->answers, &answer, sizeof answer, -1), "put");
    must(forkq_queue_flush(pool->answers, -1, NULL),
         "flush"); /* a crash loses it no more */
    must(forkq_queue_task_done(pool->tasks), "task_done");
  }
  return r == FORKQ_ESHUTDOWN ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the parent ------------------------------------------------------------------------------ */

static void start_worker(struct pool *pool, int i) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = 1;
  options.ignore_sigint = 1;
  must(forkq_process_start(&pool->workers[i], work, pool, &options), "start");
  pool->running++;
}

/* What workers had got and not done when they crashed. */
static void name_lost(struct pool *pool) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  uint64_t number;
  int r;
  while ((r = forkq_queue_get_lost(pool->tasks, &item)) == 0) {
    memcpy(&number, item.object.via.bin.ptr, sizeof number);
    warnx("%ju stays without an answer", (uintmax_t)number);
  }
  must(r == FORKQ_EMPTY ? 0 : r, "get_lost");
  forkq_item_destroy(&item);
}

/* A worker has ended: because there is nothing more to do, or by a crash. */
static void replace_worker(struct pool *pool, int i) {
  forkq_process_t *worker = pool->workers[i];
  int code = EXIT_FAILURE;
  must(forkq_process_join(worker, -1), "join");
  must(forkq_process_exitcode(worker, &code), "exit code");
  int pid = forkq_process_pid(worker);
  forkq_process_destroy(worker);
  pool->workers[i] = NULL;
  pool->running--;
  if (code == EXIT_SUCCESS)
    return;
  if (++pool->crashes > CRASHES_MAX)
    errx(EXIT_FAILURE, "too many crashes");
  warnx("worker %d: exit code %d; another one starts", pid, code);
  name_lost(pool);
  start_worker(pool, i);
}

static void finish(struct pool *pool) {
  pool->finished = true;
  must(forkq_queue_shutdown(pool->tasks, 0), "shutdown");
}

/* Puts as many numbers as there is room for. The parent never waits for room. */
static void put_tasks(struct pool *pool) {
  while (!pool->finished) {
    uint64_t number = pool->put + 1;
    if (number > pool->last) {
      finish(pool);
      return;
    }
    int r = forkq_queue_put_bytes(pool->tasks, &number, sizeof number, 0);
    if (r == FORKQ_FULL)
      return;
    must(r, "put");
    pool->put = number;
  }
}

static void get_answers(struct pool *pool) {
  struct answer answer;
  size_t size;
  int r;
  while ((r = forkq_queue_get_bytes_into(pool->answers, &answer, sizeof answer, 0,
                                         &size)) == 0) {
    pool->answered++;
    if (answer.steps > pool->longest.steps)
      pool->longest = answer;
  }
  must(r == FORKQ_EMPTY ? 0 : r, "get");
}

static void take_signal(struct pool *pool) {
  struct signalfd_siginfo info;
  if (read(pool->signals, &info, sizeof info) != sizeof info)
    err(EXIT_FAILURE, "signal");
  pool->interrupted = true;
  finish(pool);
}

/* Waits for an answer, for a signal, and for the end of a worker, and does what there is to do. */
static void turn(struct pool *pool) {
  forkq_wait_entry_t entries[2 + WORKERS];
  int worker_of[2 + WORKERS];
  size_t count = 0;
  entries[count++] = forkq_wait_on_queue(pool->answers);
  entries[count++] = forkq_wait_on_fd(pool->signals);
  for (int i = 0; i < WORKERS; i++) {
    if (pool->workers[i] == NULL)
      continue;
    int fd = forkq_process_fileno(pool->workers[i]);
    must(fd, "descriptor");
    worker_of[count] = i;
    entries[count++] = forkq_wait_on_fd(fd);
  }
  must(forkq_wait(entries, count, -1), "wait");
  if (entries[0].ready)
    get_answers(pool);
  if (entries[1].ready)
    take_signal(pool);
  for (size_t k = 2; k < count; k++)
    if (entries[k].ready)
      replace_worker(pool, worker_of[k]);
}

/* The signals become readable instead of interrupting something. The workers do not inherit that they
 * are blocked. */
static int open_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_CLOEXEC);
  must(fd < 0 ? -errno : 0, "signalfd");
  return fd;
}

static uint64_t number_of(const char *text) {
  return text != NULL ? strtoull(text, NULL, 10) : 0;
}

int main(int argc, char **argv) {
  struct pool pool = { .last = UINT64_MAX - 1 };
  if (argc > 1)
    pool.last = number_of(argv[1]);
  if (argc > 2)
    pool.bad = number_of(argv[2]);
  pool.signals = open_signals();
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = 4 * WORKERS;
  options.joinable = 1;
  options.lost_tasks = FORKQ_LOST_TASKS_TELL;
  must(forkq_queue_create_with(&pool.tasks, &options), "create");
  must(forkq_queue_create(&pool.answers, 4 * WORKERS), "create");
  for (int i = 0; i < WORKERS; i++)
    start_worker(&pool, i);
  while (pool.running > 0) {
    put_tasks(&pool);
    turn(&pool);
  }
  get_answers(&pool);
  printf("%ju of %ju answered, the longest is %ju with %ju steps\n",
         (uintmax_t)pool.answered, (uintmax_t)pool.put, (uintmax_t)pool.longest.number,
         (uintmax_t)pool.longest.steps);
  forkq_queue_destroy(pool.tasks);
  forkq_queue_destroy(pool.answers);
  close(pool.signals);
  if (pool.interrupted)
    return 128 + SIGINT;
  return pool.answered == pool.put ? EXIT_SUCCESS : EXIT_FAILURE;
}
