#define _GNU_SOURCE
#include "nemesis.h"

#include "support.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* How long a victim may take to come to the call at which it dies, before it is killed where
 * it is. */
#define PATIENCE_NS 30000000

#define TOGETHER_MAX 4u

/* How long a child of a worker's may take. */
#define CHILD_PATIENCE_NS INT64_C(20000000000)

void nemesis_init(struct nemesis *nemesis, struct book *book) {
  nemesis->book = book;
  nemesis->random = book->plan.seed * 31 + book->plan.epoch;
}

static void start(struct nemesis *nemesis, enum kind kind, bool immortal) {
  if (worker_start(nemesis->book, kind, immortal, 0, 0) == NULL)
    book_fail(nemesis->book, "no place for another life");
}

void nemesis_populate(struct nemesis *nemesis) {
  const struct plan *plan = &nemesis->book->plan;
  for (enum kind kind = PRODUCER; kind < KINDS; kind++)
    for (uint32_t i = 0; i < plan->count[kind]; i++)
      start(nemesis, kind, i < plan->immortal);
}

/* ---- who has ended ----------------------------------------------------------------------- */

/* How the process of a life ended, if it has: true. */
static bool ended(struct nemesis *nemesis, struct life *life, siginfo_t *info) {
  int flags = WEXITED | WNOHANG | (nemesis->book->plan.late_reap ? WNOWAIT : 0);
  memset(info, 0, sizeof *info);
  return waitid(P_PID, (id_t)atomic_load(&life->pid), info, flags) == 0 &&
         info->si_pid != 0;
}

static void note_end(struct nemesis *nemesis, struct life *life, const siginfo_t *info) {
  struct book *book = nemesis->book;
  bool killed = info->si_code != CLD_EXITED;
  if (killed ? info->si_status != SIGKILL || !atomic_load(&life->doomed)
             : info->si_status != 0)
    book_fail(book, "life %u, a %s, ended by itself with %s %d",
              (uint32_t)(life - book->lives), book_kind_name(atomic_load(&life->kind)),
              killed ? "signal" : "status", info->si_status);
  atomic_store(&life->stopped, false);
  atomic_store(&life->state, killed ? KILLED : ENDED);
  if (killed)
    atomic_fetch_add(&book->kills, 1);
}

void nemesis_tend(struct nemesis *nemesis) {
  struct book *book = nemesis->book;
  uint32_t used = atomic_load(&book->lives_used);
  for (uint32_t i = 1; i < used; i++) {
    struct life *life = &book->lives[i];
    siginfo_t info;
    if (atomic_load(&life->state) != RUNNING || !ended(nemesis, life, &info))
      continue;
    note_end(nemesis, life, &info);
    enum kind kind = atomic_load(&life->kind);
    uint32_t last = kind == PRODUCER ? RUN : FLUSH;
    if (atomic_load(&book->phase) <= last && atomic_load(&book->failed) == 0 &&
        !atomic_load(&life->replaced))
      start(nemesis, kind, false);
  }
}

void nemesis_bury(struct book *book) {
  siginfo_t info = { 0 };
  int64_t deadline = book_now() + CHILD_PATIENCE_NS;
  while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0) {
    if (info.si_pid == 0 && atomic_load(&book->failed) != 0)
      return;
    if (info.si_pid == 0 && book_now() > deadline)
      book_fail(book, "a child of a worker does not end");
    if (info.si_pid == 0)
      book_sleep_us(200);
    info.si_pid = 0;
  }
}

bool nemesis_exits(const struct book *book) {
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++)
    if (atomic_load(&book->lives[i].exits) &&
        atomic_load(&book->lives[i].state) == RUNNING)
      return true;
  return false;
}

uint32_t nemesis_running(const struct book *book, enum kind kind) {
  uint32_t count = 0;
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++)
    count += atomic_load(&book->lives[i].kind) == kind &&
             atomic_load(&book->lives[i].state) == RUNNING;
  return count;
}

/* ---- choosing ---------------------------------------------------------------------------- */

static bool killable(const struct life *life) {
  return atomic_load(&life->state) == RUNNING && !atomic_load(&life->doomed) &&
         !atomic_load(&life->immortal) && !atomic_load(&life->stopped);
}

static struct life *choose(struct nemesis *nemesis) {
  struct book *book = nemesis->book;
  uint32_t used = atomic_load(&book->lives_used), count = 0;
  for (uint32_t i = 1; i < used; i++)
    count += killable(&book->lives[i]);
  if (count == 0)
    return NULL;
  uint32_t nth = support_random_below(&nemesis->random, count);
  for (uint32_t i = 1; i < used; i++)
    if (killable(&book->lives[i]) && nth-- == 0)
      return &book->lives[i];
  return NULL;
}

/* Most often while the call is at it: that takes microseconds, and setting the timer one.
 * Otherwise from microseconds to milliseconds, short times as often as long ones. */
static int64_t moment_ns(struct nemesis *nemesis) {
  if (support_random_below(&nemesis->random, 5) < 3)
    return 1000 + support_random_below(&nemesis->random, 15000);
  uint32_t power = 11 + support_random_below(&nemesis->random, 12);
  return (int64_t)(UINT64_C(1) << power) +
         support_random_below(&nemesis->random, 1u << power);
}

static void spin(int64_t ns) {
  for (int64_t end = book_now() + ns; book_now() < end;)
    ;
}

/* ---- killing ----------------------------------------------------------------------------- */

static void kill_now(struct nemesis *nemesis, struct life *life) {
  book_doom(nemesis->book, life);
  book_await_progress(nemesis->book, book_now());
  kill(atomic_load(&life->pid), SIGKILL);
}

/* It kills itself, a moment after the beginning of one of its next calls. */
static void arm(struct nemesis *nemesis, struct life *life) {
  book_doom(nemesis->book, life);
  atomic_store(&life->arm_ns, moment_ns(nemesis));
  atomic_store(&life->arm_at,
               atomic_load(&life->ops) + 1 + support_random_below(&nemesis->random, 8));
}

static bool gone(const struct life *life) {
  siginfo_t info = { 0 };
  return atomic_load(&life->state) != RUNNING ||
         waitid(P_PID, (id_t)atomic_load(&life->pid), &info,
                WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid != 0;
}

static void see_off(struct life *life) {
  int64_t deadline = book_now() + PATIENCE_NS;
  while (!gone(life)) {
    if (book_now() > deadline)
      kill(atomic_load(&life->pid), SIGKILL);
    book_sleep_us(50);
  }
}

static void kill_in_a_call(struct nemesis *nemesis) {
  struct life *victims[TOGETHER_MAX];
  uint32_t most = support_random_below(&nemesis->random, 4) == 0 ? TOGETHER_MAX : 1;
  uint32_t count = 0;
  while (count < most && (victims[count] = choose(nemesis)) != NULL)
    arm(nemesis, victims[count++]);
  for (uint32_t i = 0; i < count; i++)
    see_off(victims[i]);
}

static void kill_anywhere(struct nemesis *nemesis) {
  struct life *victim = choose(nemesis);
  spin(moment_ns(nemesis));
  if (victim != NULL)
    kill_now(nemesis, victim);
}

/* The second dies while it repairs what the first has left, or the third. */
static void kill_in_a_row(struct nemesis *nemesis) {
  uint32_t count = 2 + support_random_below(&nemesis->random, TOGETHER_MAX - 1);
  for (uint32_t i = 0; i < count; i++) {
    struct life *victim = choose(nemesis);
    if (victim == NULL)
      return;
    kill_now(nemesis, victim);
    spin(moment_ns(nemesis) % 200000);
  }
}

/* It takes the cell of a dead one over, which it has to settle first. */
static void kill_the_replacement(struct nemesis *nemesis) {
  struct life *victim = choose(nemesis);
  if (victim == NULL)
    return;
  atomic_store(&victim->replaced, true);
  kill_now(nemesis, victim);
  see_off(victim);
  struct life *next =
      worker_start(nemesis->book, atomic_load(&victim->kind), false,
                   1 + support_random_below(&nemesis->random, 3), moment_ns(nemesis));
  if (next != NULL)
    see_off(next);
}

/* ---- stopping ---------------------------------------------------------------------------- */

static void resume(struct life *life) {
  atomic_store(&life->resumed_ns, book_now());
  atomic_store(&life->stopped, false);
  kill(atomic_load(&life->pid), SIGCONT);
}

static void stop(struct nemesis *nemesis) {
  struct life *victim = choose(nemesis);
  if (victim == NULL)
    return;
  spin(moment_ns(nemesis) % 1000000);
  atomic_store(&victim->stopped, true);
  kill(atomic_load(&victim->pid), SIGSTOP);
  if (support_random_below(&nemesis->random, 3) == 0)
    kill_anywhere(nemesis);
  book_sleep_us(support_random_below(&nemesis->random,
                                     1u << support_random_below(&nemesis->random, 18)));
  if (support_random_below(&nemesis->random, 3) == 0) {
    kill_now(nemesis, victim);
    see_off(victim);
  } else {
    resume(victim);
  }
}

/* ---- what it does ------------------------------------------------------------------------ */

void nemesis_strike(struct nemesis *nemesis) {
  uint32_t chance = support_random_below(&nemesis->random, 100);
  if (nemesis->book->plan.stops && chance < 30)
    stop(nemesis);
  else if (chance < 65)
    kill_in_a_call(nemesis);
  else if (chance < 75)
    kill_anywhere(nemesis);
  else if (chance < 87)
    kill_in_a_row(nemesis);
  else
    kill_the_replacement(nemesis);
}

void nemesis_rest(struct nemesis *nemesis) {
  struct book *book = nemesis->book;
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++)
    if (atomic_load(&book->lives[i].doomed))
      see_off(&book->lives[i]);
}
