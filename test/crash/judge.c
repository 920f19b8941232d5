#define _GNU_SOURCE
#include "judge.h"

#include "check.h"
#include "nemesis.h"
#include "queue/queue_impl.h"
#include "support.h"
#include "tasks.h"

#include <forkq/simple_queue.h>
#include <inttypes.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What the judge itself gets comes at once, or something is wrong. On a machine that is busy
 * it may take its time all the same: the watch looks after the judge, too. */
#define PATIENCE_MS 20000

/* Between two strikes in a soak. */
#define SOAK_PAUSE_US 100000

static bool failed(const struct book *book) {
  return atomic_load(&book->failed) != 0;
}

/* ---- the run ----------------------------------------------------------------------------- */

static bool run_is_over(const struct book *book, int64_t end_ns) {
  if (failed(book) || atomic_load(&book->stop) != 0)
    return true;
  if (end_ns != 0)
    return book_now() >= end_ns;
  return atomic_load(&book->kills) >= book->plan.kills ||
         atomic_load(&book->lives_used) > LIVES_MAX - 64;
}

static void run(struct nemesis *nemesis, int64_t end_ns) {
  struct book *book = nemesis->book;
  nemesis_populate(nemesis);
  while (!run_is_over(book, end_ns)) {
    nemesis_strike(nemesis);
    nemesis_tend(nemesis);
    book_sleep_us(book->plan.forever ? SOAK_PAUSE_US
                                     : support_random_below(&nemesis->random, 2000));
  }
  nemesis_rest(nemesis);
  nemesis_tend(nemesis);
}

/* ---- coming to rest ---------------------------------------------------------------------- */

static void await_end_of(struct nemesis *nemesis, enum kind kind) {
  while (nemesis_running(nemesis->book, kind) > 0 && !failed(nemesis->book)) {
    book_sleep_us(200);
    nemesis_tend(nemesis);
  }
}

/* Those that put and get live on, and may just be in a put, unless they close already. */
static bool puts_are_over(const struct book *book) {
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++) {
    const struct life *life = &book->lives[i];
    uint32_t kind = atomic_load(&life->kind);
    if ((kind == MIXED || kind == LOOP) && atomic_load(&life->state) == RUNNING &&
        atomic_load(&life->phase) == RUN && atomic_load(&life->op) != CLOSE)
      return false;
  }
  return true;
}

static bool drained(const struct book *book) {
  if (!puts_are_over(book))
    return false;
  if (book->plan.simple)
    return forkq_simple_queue_empty((forkq_simple_queue_t *)book->queue) != 0;
  return forkq_queue_qsize(book->queue) <= 0;
}

static bool somebody_gets(const struct book *book) {
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++) {
    const struct life *life = &book->lives[i];
    uint32_t kind = atomic_load(&life->kind);
    if ((kind == CONSUMER || kind == MIXED || kind == LOOP) &&
        atomic_load(&life->state) == RUNNING && atomic_load(&life->op) != CLOSE)
      return true;
  }
  return false;
}

/* Until all that was put has been got. The last of those that get may have come to their end
 * with more put than the pipe holds: then they wait for somebody who gets it. */
static void await_drain(struct worker *judge, struct nemesis *nemesis) {
  struct book *book = judge->book;
  book_begin(book, judge->life, DRAIN, -1);
  while (!drained(book) && !failed(book)) {
    if (!book->plan.simple && puts_are_over(book) && !somebody_gets(book)) {
      (void)worker_get(judge, 1, PATIENCE_MS);
      book_begin(book, judge->life, DRAIN, -1);
    } else {
      book_sleep_us(200);
    }
    nemesis_tend(nemesis);
  }
  book_end(judge->life);
}

static bool outstanding(const struct book *book) {
  uint32_t last = atomic_load(&book->lives[0].accepted);
  return last > 0 && (book->plan.forever ? forkq_queue_qsize(book->queue) > 0
                                         : atomic_load(&book->fates[0][last].owner) == 0);
}

/* Consumers that wait without limit end when one more item has come. One after the other, so
 * that the last of them leaves one item at most. */
static void wake_consumers(struct worker *judge, struct nemesis *nemesis) {
  struct book *book = judge->book;
  while (!failed(book) && nemesis_running(book, CONSUMER) + nemesis_running(book, MIXED) +
                                  nemesis_running(book, LOOP) >
                              0) {
    if (!outstanding(book))
      (void)worker_put(judge, 1, book->plan.simple ? -1 : PATIENCE_MS);
    book_sleep_us(200);
    nemesis_tend(nemesis);
  }
}

static void get_the_rest(struct worker *judge) {
  while (outstanding(judge->book) && !failed(judge->book))
    (void)worker_get(judge, 1, judge->book->plan.simple ? -1 : PATIENCE_MS);
}

/* What processes left undone comes again when they, and the children that might do it, have ended. */
static void get_what_is_lost(struct worker *judge) {
  struct book *book = judge->book;
  while (plan_redelivers(&book->plan) && !failed(book) &&
         forkq__ledger_work_is_left(&book->queue->segment->ledger))
    (void)worker_get(judge, 1, 20);
}

/* What their gets bring nobody may ever hear of: so nothing is put for them. */
static void await_exits(struct nemesis *nemesis) {
  while (nemesis_exits(nemesis->book) && !failed(nemesis->book)) {
    book_sleep_us(200);
    nemesis_tend(nemesis);
  }
}

static void come_to_rest(struct worker *judge, struct nemesis *nemesis) {
  struct book *book = judge->book;
  atomic_store(&book->phase, FLUSH);
  await_end_of(nemesis, PRODUCER);
  await_exits(nemesis);
  await_drain(judge, nemesis);
  atomic_store(&book->phase, END);
  wake_consumers(judge, nemesis);
  get_the_rest(judge);
  get_what_is_lost(judge);
  await_end_of(nemesis, JOINER);
}

/* ---- the last questions ------------------------------------------------------------------ */

static void expect(struct book *book, const char *what, int64_t is, int64_t should) {
  if (is != should)
    book_fail(book, "in the end %s is %lld, not %lld", what, (long long)is,
              (long long)should);
}

static void check_empty(struct book *book) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  if (book->plan.simple) {
    expect(book, "empty", forkq_simple_queue_empty((forkq_simple_queue_t *)book->queue),
           1);
    return;
  }
  expect(book, "qsize", forkq_queue_qsize(book->queue), 0);
  expect(book, "empty", forkq_queue_empty(book->queue), 1);
  expect(book, "a get that does not wait", forkq_queue_get_nowait(book->queue, &item),
         FORKQ_EMPTY);
  forkq_item_destroy(&item);
}

/* Only what the dead have left is abandoned; where it is got again, nothing is. */
static void check_join(struct worker *judge) {
  struct book *book = judge->book;
  uint64_t abandoned = 0;
  int r = worker_join(judge, PATIENCE_MS, &abandoned);
  if (r != 0 && r != FORKQ_EABANDONED)
    return;
  if (r == FORKQ_EABANDONED && abandoned == 0)
    book_fail(book, "join says that no task was abandoned");
  if (book->plan.lost_tasks == FORKQ_LOST_TASKS_TELL)
    tasks_hear(judge);
  if (!book->plan.forever) {
    struct range range = check_abandoned(book);
    if (abandoned < range.low || abandoned > range.high)
      book_fail(book,
                "%" PRIu64 " tasks were abandoned, not from %" PRIu64 " to %" PRIu64,
                abandoned, range.low, range.high);
  }
  expect(book, "one task_done more", forkq_queue_task_done(book->queue), FORKQ_ETASKDONE);
}

/* As many items go in as the queue is for, and not one more. */
static void check_capacity(struct worker *judge) {
  struct book *book = judge->book;
  int64_t maxsize = book->plan.maxsize;
  for (int64_t i = 0; i < maxsize && !failed(book); i++)
    if (worker_put(judge, 1, 0) != 0)
      book_fail(book, "%lld items fill a queue for %lld", (long long)i,
                (long long)maxsize);
  if (worker_put(judge, 1, 0) == 0 || worker_put(judge, 1, 2) == 0)
    book_fail(book, "a queue for %lld takes one more", (long long)maxsize);
  expect(book, "qsize", forkq_queue_qsize(book->queue), maxsize);
  expect(book, "full", forkq_queue_full(book->queue), 1);
  for (int64_t i = 0; i < maxsize && !failed(book); i++)
    (void)worker_get(judge, 1, PATIENCE_MS);
  check_empty(book);
  if (book->plan.joinable)
    expect(book, "join", worker_join(judge, PATIENCE_MS, NULL), 0);
}

static void check_all(struct worker *judge) {
  struct book *book = judge->book;
  check_empty(book);
  if (book->plan.joinable)
    check_join(judge);
  if (!book->plan.forever)
    check_items(book);
  if (!book->plan.forever && !book->plan.simple)
    check_statistics(book);
  if (book->plan.maxsize > 0 && !failed(book))
    check_capacity(judge);
}

void judge_epoch(struct book *book, int64_t end_ns) {
  static struct worker judge;
  struct nemesis nemesis;
  prctl(PR_SET_CHILD_SUBREAPER, 1); /* of what workers leave behind */
  atomic_store(&book->lives_used, 1);
  atomic_store(&book->lives[0].pid, getpid());
  atomic_store(&book->lives[0].state, RUNNING);
  worker_init(&judge, book, &book->lives[0]);
  nemesis_init(&nemesis, book);
  int fds = worker_count_fds();
  run(&nemesis, end_ns);
  if (!failed(book))
    expect(book, "the number of descriptors", worker_count_fds(), fds);
  come_to_rest(&judge, &nemesis);
  if (!failed(book))
    check_all(&judge);
  nemesis_bury(book);
  worker_fini(&judge);
}
