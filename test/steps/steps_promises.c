/* What survivors check when a victim is dead. */
#define _GNU_SOURCE
#include "steps_state.h"

#include <sys/wait.h>

static bool shut;
static bool filled; /* see look_full */
static uint64_t abandoned;
static uint64_t told; /* lost tasks, by name */
static pid_t newcomer;
static int fds_before;

void begin_promises(void) {
  shut = filled = false;
  abandoned = told = 0;
  newcomer = 0;
  fds_before = support_open_fds();
}

static void look_nothing(void) {}

static void look_qsize(void) {
  world_must(forkq_queue_qsize(world_queue) >= 0);
}

/* Who waits for room may take it first. */
static void child_puts(void *arg) {
  int r = put_number_within(world_puts + 1, (world->waiting & PUTTER) ? 0 : PATIENCE_MS);
  CHILD_MUST(r == 0 || (r == FORKQ_FULL && (world->waiting & PUTTER)));
  atomic_store((_Atomic int *)arg, r == 0 ? 1 : 2);
  forkq_queue_destroy(world_queue);
}

/* Somebody new, whose first put settles with all the dead. */
static void look_new(void) {
  if (world->ending != STAYS_OPEN || forkq_queue_full(world_queue) != 0)
    return;
  atomic_store(&journal->newcomer_put, 0);
  newcomer = support_fork(child_puts, (void *)&journal->newcomer_put);
  support_until(&journal->newcomer_put);
  world_puts += atomic_load(&journal->newcomer_put) == 1;
}

static void look_stats(void) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  world_must(forkq_queue_stats(world_queue, &stats) == 0);
  if (world->joinable) {
    int r = forkq_queue_join(world_queue, 0, NULL);
    world_must(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_EABANDONED);
    /* What it told of is told once: it stays this process's to account for. */
    abandoned = atomic_load(&world_queue->abandoned_seen);
  }
}

/* Before anybody gets: full is what holds as many items as it may. */
static void look_full(void) {
  if (world->maxsize == 0 || world->ending != STAYS_OPEN || world->waiting != 0)
    return;
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  for (int r = 0; r == 0; world_puts += r == 0) {
    object.via.u64 = (uint64_t)world_puts + 1;
    r = forkq_queue_put_nowait(world_queue, &object);
    world_must(r == 0 || r == FORKQ_FULL);
  }
  filled = true;
}

static void (*const looks[])(void) = { look_nothing, look_qsize, look_new, look_stats,
                                       look_full };
_Static_assert(sizeof looks / sizeof *looks == LOOKS, "each has its number");

/* Gets until nothing is left, where others may get, too. */
static void drain(void) {
  int before = journal->got_count;
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  forkq_item_t item = FORKQ_ITEM_INIT;
  while (forkq_queue_qsize(world_queue) > 0) {
    int r = forkq_queue_get(world_queue, &item, 200);
    if (r == 0)
      note_got(0, &item);
    if (r == 0 && world->joinable)
      world_must(forkq_queue_task_done(world_queue) == 0);
    world_must(r == 0 || r == FORKQ_TIMEDOUT || (shut && r == FORKQ_ESHUTDOWN));
    world_must(support_now_ms() < deadline && "what is counted can be got");
  }
  if (filled && !world->large)
    world_must(world->lost_tasks != 0 ? journal->got_count - before >= world->maxsize
                                      : journal->got_count - before == world->maxsize);
  filled = false;
  forkq_item_destroy(&item);
}

/* Each number once, those of one producer in order, as far as one process got them. */
static void check_items(const struct operation *operation) {
  static unsigned char seen[BYSTANDERS + LOG_SIZE];
  int last[2][BYSTANDERS / EACH + 1] = { { 0 } };
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < journal->got_count; i++) {
    int number = journal->got[i].number, by = journal->got[i].by;
    world_must(number > 0 && number < (int)sizeof seen);
    world_must(!seen[number]++);
    int *previous = &last[by][number < VICTIMS ? 0 : number / EACH];
    world_must(number > *previous || operation->lost_tasks != 0);
    *previous = number;
  }
  /* What arrived of a victim's is what it put first. */
  for (int number = VICTIMS + 2; number < BYSTANDERS && !operation->gets_own; number++)
    world_must(!seen[number] || number % EACH == 1 || seen[number - 1]);
  world_must(world_arrived() <= operation->puts + operation->gets_own);
  world_must(world_missing() >= 0);
  if (operation->ending != SHUT_DOWN_AT_ONCE)
    world_must(world_missing() <= operation->takes);
}

static void check_bystanders(void) {
  if (bystanders[THE_PUTTER] != 0)
    world_must(result_of(THE_PUTTER) == 0);
  if (bystanders[THE_GETTER] != 0) {
    if (!is_over(THE_GETTER) && forkq_queue_qsize(world_queue) == 0)
      world_put(1);
    world_must(result_of(THE_GETTER) == 0);
  }
}

/* Exactly `maxsize` items go in, and come out again. */
static void check_capacity(int64_t maxsize) {
  drain();
  world_must(forkq_queue_qsize(world_queue) == 0);
  int count = maxsize > 0 ? (int)maxsize : 3;
  for (int i = 0; i < count; i++) {
    world_must(put_number_within(++world_puts, 0) == 0);
  }
  world_must(forkq_queue_qsize(world_queue) == count);
  if (maxsize > 0) {
    msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
    world_must(forkq_queue_put_nowait(world_queue, &nil) == FORKQ_FULL);
    world_must(forkq_queue_full(world_queue) == 1);
  }
  for (int i = 0; i < count; i++)
    world_get();
  world_must(forkq_queue_qsize(world_queue) == 0);
}

/* No entry is left in use. */
static void check_kept(void) {
  struct forkq__kept_shared *kept = &world_queue->segment->ledger.kept;
  if (world->lost_tasks == 0)
    return;
  for (uint32_t i = 0; i < kept->used; i++)
    world_must((kept->tasks[i].word & 3) == 0);
}

static void check_tasks(const struct operation *operation) {
  uint64_t more = 0;
  int r = forkq_queue_join(world_queue, PATIENCE_MS, &more);
  world_must(r == 0 || r == FORKQ_EABANDONED);
  abandoned += more;
  if (operation->lost_tasks == FORKQ_LOST_TASKS_REDELIVER)
    world_must(abandoned == 0);
  else
    world_must(abandoned <= (uint64_t)operation->takes + told && abandoned >= told);
  check_kept();
  world_must(forkq_queue_join(world_queue, 0, NULL) == 0);
  world_must(forkq_queue_task_done(world_queue) == FORKQ_ETASKDONE);
  if (bystanders[THE_JOINER] != 0) {
    r = result_of(THE_JOINER);
    world_must(r == 0 || r == FORKQ_EABANDONED);
  }
}

static void read_stats(forkq_queue_stats_t *stats) {
  *stats = (forkq_queue_stats_t){ .size = sizeof *stats };
  world_must(forkq_queue_stats(world_queue, stats) == 0);
}

static void check_stats(const struct operation *operation) {
  forkq_queue_stats_t stats;
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  /* The feeder counts an item as sent a moment after others can get it. */
  for (read_stats(&stats); stats.outbox_items > 0; read_stats(&stats))
    world_must(support_now_ms() < deadline && "the outbox is empty");
  uint64_t withdrawn = stats.put_items - stats.got_items - stats.lost_items;
  world_must(withdrawn <= (uint64_t)operation->withdrawn);
  world_must(stats.got_bytes <= stats.put_bytes);
  world_must(stats.recoveries < 20);
}

/* All memory beside the pipe is free again, whoever held some. */
static void check_pieces(void) {
  struct forkq__sender *sender = &world_queue->feeder.sender;
  world_must(forkq__sender_lock(sender, FORKQ__FOREVER) == 0);
  (void)forkq__sender_trim(sender);
  world_must(sender->arena.free == sender->arena.leaves);
  forkq__sender_unlock(sender);
}

/* Each lost task is told once. */
static void be_told(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  if (world->lost_tasks != FORKQ_LOST_TASKS_TELL)
    return;
  while ((r = forkq_queue_get_lost(world_queue, &item)) == 0) {
    note_got(0, &item);
    told++;
  }
  world_must(r == FORKQ_EMPTY);
  forkq_item_destroy(&item);
}

static void check_open(const struct operation *operation) {
  drain();
  be_told();
  check_bystanders();
  check_capacity(operation->maxsize);
  check_items(operation);
  if (operation->joinable)
    check_tasks(operation);
  check_stats(operation);
  if (operation->beside)
    check_pieces();
}

/* It was shut down, if the victim came so far, and else is now: those who wait hear of it
 * without help. */
static void check_shut(const struct operation *operation) {
  int at_once = operation->ending == SHUT_DOWN_AT_ONCE;
  forkq_item_t item = FORKQ_ITEM_INIT;
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  shut = atomic_load(&world_queue->segment->channel.shutdown) != FORKQ__OPEN;
  if (!shut)
    world_must(forkq_queue_shutdown(world_queue, at_once) == 0);
  shut = true;
  world_must(forkq_queue_put_nowait(world_queue, &nil) == FORKQ_ESHUTDOWN);
  if (bystanders[THE_PUTTER] != 0)
    world_must(result_of(THE_PUTTER) == FORKQ_ESHUTDOWN);
  if (bystanders[THE_GETTER] != 0)
    world_must(result_of(THE_GETTER) == FORKQ_ESHUTDOWN);
  if (at_once && bystanders[THE_JOINER] != 0) {
    /* All is dropped, without anybody's get. */
    int r = result_of(THE_JOINER);
    world_must(r == 0 || r == FORKQ_EABANDONED);
    bystanders[THE_JOINER] = 0;
  }
  if (!at_once)
    drain();
  be_told();
  world_must(forkq_queue_get_nowait(world_queue, &item) == FORKQ_ESHUTDOWN);
  check_items(operation);
  if (operation->joinable)
    check_tasks(operation);
  forkq_item_destroy(&item);
}

int64_t world_check(const struct operation *operation) {
  int64_t start = support_now_ms();
  if (operation->after != NULL)
    operation->after();
  looks[first_look]();
  if (operation->ending == STAYS_OPEN)
    check_open(operation);
  else
    check_shut(operation);
  if (writer != 0)
    world_must(support_wait(writer) == 0);
  if (newcomer != 0)
    world_must(support_wait(newcomer) == 0);
  forkq_queue_destroy(world_queue);
  world_queue = NULL;
  world_must(support_open_fds() == fds_before);
  world_must(waitpid(-1, NULL, WNOHANG) == -1 && "no child is left");
  return support_now_ms() - start;
}
