#define _GNU_SOURCE
#include "book.h"

#include "queue/queue_impl.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static size_t size_of(const struct plan *plan) {
  return plan->forever ? offsetof(struct book, fates) : sizeof(struct book);
}

struct book *book_open(const struct plan *plan) {
  struct book *book = mmap(NULL, size_of(plan), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (book == MAP_FAILED) {
    perror("mmap");
    exit(2);
  }
  book->plan = *plan;
  return book;
}

void book_close(struct book *book) {
  munmap(book, size_of(&book->plan));
}

int64_t book_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void book_sleep_us(int64_t us) {
  struct timespec time = { (time_t)(us / 1000000), (long)(us % 1000000 * 1000) };
  nanosleep(&time, NULL);
}

void book_fail(struct book *book, const char *format, ...) {
  int none = 0;
  if (!atomic_compare_exchange_strong(&book->failed, &none, 1))
    return;
  va_list args;
  va_start(args, format);
  vsnprintf(book->failure, sizeof book->failure, format, args);
  va_end(args);
  atomic_store(&book->failed, 2);
}

uint64_t book_recoveries(const struct book *book) {
  return atomic_load(&book->queue->segment->ledger.recoveries);
}

uint64_t book_again(const struct book *book) {
  return plan_keeps(&book->plan)
             ? atomic_load(&book->queue->segment->ledger.kept.redelivered)
             : 0;
}

const char *book_op_name(uint32_t op) {
  static const char *const names[] = { "idle", "put",   "get",   "task_done", "join",
                                       "look", "close", "drain", "get_lost" };
  return names[op];
}

const char *book_kind_name(uint32_t kind) {
  static const char *const names[] = { "judge", "producer", "consumer",
                                       "mixed", "joiner",   "loop" };
  return names[kind];
}

/* ---- dying on time ----------------------------------------------------------------------- */

/* Whether somebody is there to make progress, whom nobody is about to kill. */
static bool survivors(const struct book *book, enum kind kind) {
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++) {
    const struct life *life = &book->lives[i];
    uint32_t is = atomic_load(&life->kind);
    if ((is == kind || is == MIXED || is == LOOP) &&
        atomic_load(&life->state) == RUNNING && !atomic_load(&life->doomed))
      return true;
  }
  return false;
}

static void await(struct book *book, struct samples *samples, enum kind kind,
                  int64_t death) {
  atomic_store(&samples->recoveries, book_recoveries(book));
  atomic_store(&samples->death_ns, survivors(book, kind) ? death : 0);
}

void book_await_progress(struct book *book, int64_t death_ns) {
  const struct plan *plan = &book->plan;
  if (plan->stops || plan->life_ops > 0 || plan->pause_us[PRODUCER] > 0 ||
      plan->pause_us[CONSUMER] > 0)
    return;
  await(book, &book->puts_after, PRODUCER, death_ns);
  await(book, &book->gets_after, CONSUMER, death_ns);
}

void book_doom(struct book *book, struct life *life) {
  atomic_fetch_add(&book->doomed, 1);
  atomic_store(&life->doomed, true);
  if (!survivors(book, PRODUCER))
    atomic_store(&book->puts_after.death_ns, 0);
  if (!survivors(book, CONSUMER))
    atomic_store(&book->gets_after.death_ns, 0);
}

/* The kernel kills this process when the time is over, wherever it is then. */
static void die_in(struct book *book, int64_t ns) {
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer;
  struct itimerspec time = { .it_value = { (time_t)(ns / 1000000000),
                                           (long)(ns % 1000000000) } };
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
    book_fail(book, "timer_create: %s", strerror(errno));
    return;
  }
  book_await_progress(book, book_now() + ns);
  timer_settime(timer, 0, &time, NULL);
}

/* ---- around each call -------------------------------------------------------------------- */

void book_begin_at(struct book *book, struct life *life, enum op op, int timeout_ms,
                   int64_t since_ns) {
  uint64_t ops = atomic_load(&life->ops) + 1;
  atomic_store(&life->timeout_ms, timeout_ms);
  atomic_store(&life->since_ns, since_ns);
  atomic_store(&life->op, op);
  atomic_store(&life->ops, ops);
  uint64_t arm_at = atomic_load(&life->arm_at);
  if (arm_at != 0 && ops >= arm_at) {
    atomic_store(&life->arm_at, 0);
    die_in(book, atomic_load(&life->arm_ns));
  }
}

void book_begin(struct book *book, struct life *life, enum op op, int timeout_ms) {
  book_begin_at(book, life, op, timeout_ms, book_now());
}

void book_end(struct life *life) {
  atomic_store(&life->op, IDLE);
}

/* Only of deaths that left something to repair, and that somebody has repaired. */
static void sample(struct book *book, struct samples *samples) {
  int64_t death = atomic_load(&samples->death_ns);
  if (death == 0)
    return;
  int64_t now = book_now();
  if (now < death || book_recoveries(book) == atomic_load(&samples->recoveries) ||
      !atomic_compare_exchange_strong(&samples->death_ns, &death, 0))
    return;
  uint32_t i = atomic_fetch_add(&samples->count, 1);
  if (i < SAMPLES_MAX)
    samples->us[i] = (int32_t)((now - death) / 1000);
}

void book_progress(struct book *book, enum op op, uint32_t items) {
  atomic_fetch_add(&book->progress, items);
  if (op == GET)
    atomic_fetch_add(&book->gets, items);
  sample(book, op == GET ? &book->gets_after : &book->puts_after);
}

void book_note_put(struct book *book, struct life *life, uint32_t seq, enum put put) {
  if (!book->plan.forever)
    atomic_store(&book->fates[life - book->lives][seq].put, put);
}

/* Each get of it but the last was of a process that is gone. Of some of those it is not in the book. */
static void note_given(struct book *book, struct fate *fate, uint32_t by, uint32_t seq,
                       uint32_t redelivered) {
  uint32_t before = atomic_fetch_add(&fate->given, 1);
  if (before > redelivered)
    book_fail(book, "item %u of life %u came %u times before, and says %u", seq, by,
              before, redelivered);
  if (before > 0 && redelivered <= atomic_load(&fate->again))
    book_fail(book, "item %u of life %u was given %u times before, and says %u", seq, by,
              atomic_load(&fate->again) + 1, redelivered);
  if (atomic_load(&fate->done_ended) > 0)
    book_fail(book, "item %u of life %u came again after it was done", seq, by);
  if (atomic_load(&fate->told) > 0)
    book_fail(book, "item %u of life %u came again after it was told to be lost", seq,
              by);
  atomic_store(&fate->again, redelivered);
}

void book_got(struct book *book, struct life *life, uint32_t by, uint32_t seq,
              uint32_t redelivered) {
  if (book->plan.forever)
    return;
  struct fate *fate = &book->fates[by][seq];
  uint32_t self = (uint32_t)(life - book->lives) + 1, owner = 0;
  if (atomic_load(&fate->owner) == 0) {
    atomic_store(&fate->asked, atomic_load(&life->asked));
    atomic_store(&fate->came, atomic_fetch_add(&book->clock, 1) + 1);
    atomic_store(&fate->late, redelivered > 0);
  }
  note_given(book, fate, by, seq, redelivered);
  if (!atomic_compare_exchange_strong(&fate->owner, &owner, self) &&
      !plan_redelivers(&book->plan))
    book_fail(book, "item %u of life %u came twice: to life %u and to life %u", seq, by,
              owner - 1, self - 1);
}

void book_done_begins(struct book *book, uint32_t by, uint32_t seq) {
  if (!book->plan.forever)
    atomic_fetch_add(&book->fates[by][seq].done_begun, 1);
}

void book_done_ends(struct book *book, uint32_t by, uint32_t seq) {
  if (!book->plan.forever && atomic_fetch_add(&book->fates[by][seq].done_ended, 1) > 0)
    book_fail(book, "item %u of life %u is done twice", seq, by);
}

void book_told(struct book *book, uint32_t by, uint32_t seq) {
  struct fate *fate = &book->fates[by][seq];
  atomic_fetch_add(&book->told, 1);
  if (atomic_fetch_add(&fate->told, 1) > 0)
    book_fail(book, "item %u of life %u was told to be lost twice", seq, by);
  if (atomic_load(&fate->done_ended) > 0)
    book_fail(book, "item %u of life %u was told to be lost and is done", seq, by);
}
