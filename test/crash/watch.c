#define _GNU_SOURCE
#include "watch.h"

#include "queue/queue_impl.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS 20000000
#define HANG_NS INT64_C(2000000000)

/* A call that others overtake all the time gets its turn within this many times longer. */
#define STARVED 10

/* The next step of a call may need several processes to be scheduled, each as late as the
 * machine makes this one. How late that was counts for some time. */
#define STEPS 20
#define FADE_LOOKS 256

void watch_begin(struct watch *watch, struct book *book, pid_t judge) {
  int64_t worst_ns = watch->worst_ns;
  *watch = (struct watch){ .book = book, .judge = judge, .worst_ns = worst_ns };
  watch->progress_ns = watch->last_ns = book_now();
  atomic_store(&book->late_ns, worst_ns);
}

static int64_t bound_ns(const struct watch *watch) {
  return HANG_NS + STEPS * watch->worst_ns;
}

static void look_at(struct watch *watch, uint32_t index, int64_t now) {
  struct life *life = &watch->book->lives[index];
  uint64_t ops = atomic_load(&life->ops);
  uint32_t op = atomic_load(&life->op);
  int timeout_ms = atomic_load(&life->timeout_ms);
  int64_t since = atomic_load(&life->since_ns);
  int64_t resumed = atomic_load(&life->resumed_ns);
  if (op == IDLE || atomic_load(&life->stopped) || atomic_load(&life->state) != RUNNING)
    return;
  int64_t bound = bound_ns(watch);
  int64_t took = now - (resumed > since ? resumed : since);
  bool stuck = now - watch->progress_ns > bound;
  bool hangs = timeout_ms >= 0 ? took > timeout_ms * INT64_C(1000000) + bound
                               : took > bound && stuck;
  bool starves = timeout_ms < 0 && op != JOIN && op != DRAIN && took > STARVED * bound;
  if ((hangs || starves) && atomic_load(&life->ops) == ops)
    book_fail(
        watch->book,
        "life %u, a %s, %s: %s with timeout %d for %" PRId64 " ms (bound %" PRId64 " ms)",
        index, book_kind_name(atomic_load(&life->kind)), hangs ? "hangs" : "starves",
        book_op_name(op), timeout_ms, took / 1000000, bound / 1000000);
}

void watch_look(struct watch *watch) {
  struct book *book = watch->book;
  book_sleep_us(LOOK_NS / 1000);
  int64_t now = book_now();
  int64_t late = now - watch->last_ns - LOOK_NS;
  watch->last_ns = now;
  watch->worst_ns -= watch->worst_ns / FADE_LOOKS;
  if (late > watch->worst_ns)
    watch->worst_ns = late;
  atomic_store(&book->late_ns, watch->worst_ns);
  uint64_t progress = atomic_load(&book->progress);
  if (progress != watch->progress) {
    watch->progress = progress;
    watch->progress_ns = now;
  }
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    look_at(watch, i, now);
}

/* ---- showing ----------------------------------------------------------------------------- */

/* The file that the kernel has about a thread. */
static void show_file(pid_t pid, const char *tid, const char *name) {
  char path[128], line[256];
  snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)pid, tid, name);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return;
  while (fgets(line, sizeof line, file) != NULL)
    if (strcmp(name, "status") != 0 || strncmp(line, "State", 5) == 0)
      fprintf(stderr, "      %s/%s: %s%s", tid, name, line,
              strchr(line, '\n') == NULL ? "\n" : "");
  fclose(file);
}

static void show_threads(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *dir = opendir(path);
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
    if (entry->d_name[0] == '.')
      continue;
    show_file(pid, entry->d_name, "status");
    show_file(pid, entry->d_name, "wchan");
    show_file(pid, entry->d_name, "syscall");
    show_file(pid, entry->d_name, "stack");
  }
  if (dir != NULL)
    closedir(dir);
}

static void show_life(const struct book *book, uint32_t index, int64_t now) {
  static const char *const states[] = { "unborn", "running", "ended", "killed" };
  const struct life *life = &book->lives[index];
  uint32_t state = atomic_load(&life->state);
  fprintf(stderr,
          "  life %u pid %d %s %s%s%s%s%s: put %u/%u, %u for sure; got %" PRIu64
          ", done %" PRIu64 "/%" PRIu64 "; %s timeout %d for %" PRId64 " us%s\n",
          index, (int)atomic_load(&life->pid), book_kind_name(atomic_load(&life->kind)),
          states[state], atomic_load(&life->doomed) ? " doomed" : "",
          atomic_load(&life->stopped) ? " stopped" : "",
          atomic_load(&life->exits) ? " exits" : "",
          atomic_load(&life->vanished) ? " vanished" : "", atomic_load(&life->accepted),
          atomic_load(&life->begun), atomic_load(&life->flushed), atomic_load(&life->got),
          atomic_load(&life->done_ended), atomic_load(&life->done_begun),
          book_op_name(atomic_load(&life->op)), atomic_load(&life->timeout_ms),
          (now - atomic_load(&life->since_ns)) / 1000,
          atomic_load(&life->asked) != 0 ? ", in a get" : "");
  if (state == RUNNING)
    show_threads(atomic_load(&life->pid));
}

static void show_lock(const char *name, struct forkq__lock *lock) {
  fprintf(stderr, "  %s: owner %d, word %#x\n", name, lock->mutex.__data.__owner,
          (unsigned)lock->mutex.__data.__lock);
}

static void show_cells(struct forkq__ledger *ledger) {
  for (uint32_t i = 0; i < atomic_load(&ledger->cells_used); i++) {
    struct forkq__cell *cell = &ledger->cells[i];
    fprintf(stderr,
            "  cell %u state %u owners %u: accepted %" PRIu64 " sent %" PRIu64
            " returned %" PRIu64 " got %" PRIu64 " done %" PRIu64 " abandoned %" PRIu64
            " try %" PRIu64 " pending %" PRIu64 "\n",
            i, atomic_load(&cell->state), atomic_load(&cell->owners),
            atomic_load(&cell->accepted), atomic_load(&cell->sent),
            atomic_load(&cell->returned), atomic_load(&cell->got),
            atomic_load(&cell->done), atomic_load(&cell->abandoned),
            atomic_load(&cell->try_count), atomic_load(&cell->pending_seq));
  }
}

/* Straight from the shared memory: no call that could hang as well. */
static void show_queue(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  struct forkq__channel_shared *channel = &segment->channel;
  struct forkq__ledger *ledger = &segment->ledger;
  fprintf(stderr,
          "  qsize %" PRIu64 ", unfinished %" PRIu64 ", taken %" PRIu64
          ", returned %" PRIu64 ", done %" PRIu64 ", abandoned %" PRIu64
          ", dropped %" PRIu64 ", recoveries %" PRIu64 ", lost %" PRIu64 "\n",
          forkq__ledger_size(ledger), forkq__ledger_unfinished(ledger),
          atomic_load(&ledger->taken), atomic_load(&ledger->returned),
          atomic_load(&ledger->done), atomic_load(&ledger->abandoned),
          atomic_load(&ledger->dropped), atomic_load(&ledger->recoveries),
          forkq__ledger_lost(ledger));
  fprintf(
      stderr,
      "  offset %u of %u, unread %u, loading %u, raised %u, asleep %u; packets %" PRIu64
      " written, %" PRIu64 " read; put waiters %u\n",
      atomic_load(&channel->offset), channel->packet.length,
      atomic_load(&channel->unread), atomic_load(&channel->loading),
      atomic_load(&channel->raised), atomic_load(&channel->asleep),
      atomic_load(&channel->write_seq), atomic_load(&channel->read_seq),
      atomic_load(&segment->slots.waiters));
  show_lock("ledger lock", &ledger->lock);
  show_lock("write lock", &channel->write_lock);
  show_lock("read lock", &channel->read_lock);
  show_lock("turn", &channel->turn);
  show_cells(ledger);
}

void watch_show(struct watch *watch) {
  struct book *book = watch->book;
  int64_t now = book_now();
  show_queue(book->queue);
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    show_life(book, i, now);
}
