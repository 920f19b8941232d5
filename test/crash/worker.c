#define _GNU_SOURCE
#include "worker.h"

#include "loop.h"
#include "queue/queue_impl.h"
#include "support.h"
#include "tasks.h"

#include <dirent.h>
#include <forkq/simple_queue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define LARGEST (512u << 10)

/* How much too early a call may say that its time is over: what the clocks are apart. */
#define EARLY_NS 1000000

bool worker_working(const struct worker *worker, enum phase last) {
  return atomic_load(&worker->book->phase) <= (uint32_t)last &&
         atomic_load(&worker->book->failed) == 0;
}

static forkq_simple_queue_t *simple(const struct worker *worker) {
  return (forkq_simple_queue_t *)worker->book->queue;
}

int worker_count_fds(void) {
  DIR *dir = opendir("/proc/self/fd");
  int count = 0;
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
      count++;
  if (dir != NULL)
    closedir(dir);
  return count;
}

void worker_init(struct worker *worker, struct book *book, struct life *life) {
  memset(worker, 0, sizeof *worker);
  worker->book = book;
  worker->life = life;
  worker->self = (uint32_t)(life - book->lives);
  worker->random = book->plan.seed ^ (uint64_t)book->plan.epoch << 32 ^
                   (uint64_t)worker->self << 16 ^ atomic_load(&life->generation);
}

void worker_fini(struct worker *worker) {
  for (int i = 0; i < BATCH_MAX; i++) {
    free(worker->messages[i]);
    forkq_item_destroy(&worker->items[i]);
  }
  kept_drop(&worker->kept);
}

/* A put waits so long for the ledger's lock. Who has it may be stopped, or may be kept from
 * running by a machine that wakes idle processes so late. */
#define LEDGER_WAIT_NS 100000000
#define BUSY_NS 20000000

static bool ledger_may_be_held(const struct book *book, int64_t took) {
  return book->plan.stops ||
         (took >= LEDGER_WAIT_NS && atomic_load(&book->late_ns) > BUSY_NS);
}

/* A call that says its time is over, or that nothing or everything is there. */
static bool outcome_allowed(const struct worker *worker, enum op op, int r,
                            int timeout_ms, int64_t took) {
  int at_once = op == PUT ? FORKQ_FULL : FORKQ_EMPTY;
  if (r == 0)
    return true;
  /* A queue without limit takes everything, unless somebody else has the ledger and does not run. */
  if (op == PUT && worker->book->plan.maxsize == 0 &&
      !ledger_may_be_held(worker->book, took))
    return false;
  if (r == at_once && op != JOIN)
    return timeout_ms == 0;
  return r == FORKQ_TIMEDOUT && timeout_ms >= 0 &&
         took >= (int64_t)timeout_ms * 1000000 - EARLY_NS;
}

void worker_judge_outcome(struct worker *worker, enum op op, int r, int timeout_ms,
                          int64_t since_ns) {
  int64_t took = book_now() - since_ns;
  if (!outcome_allowed(worker, op, r, timeout_ms, took))
    book_fail(worker->book, "life %u: %s with timeout %d says %s after %lld us",
              worker->self, book_op_name(op), timeout_ms,
              r == 0 ? "0" : forkq_error_name(r), (long long)took / 1000);
}

static void judge_outcome(struct worker *worker, enum op op, int r) {
  worker_judge_outcome(worker, op, r, atomic_load(&worker->life->timeout_ms),
                       atomic_load(&worker->life->since_ns));
}

/* ---- putting ----------------------------------------------------------------------------- */

char *worker_write_message(struct worker *worker, uint32_t i, uint32_t seq,
                           uint32_t *ret_size) {
  struct life *life = worker->life;
  struct payload payload = {
    .by = worker->self,
    .generation = atomic_load(&life->generation),
    .seq = seq,
    .size = plan_size(&worker->book->plan, atomic_load(&life->kind), &worker->random),
  };
  if (worker->messages[i] == NULL)
    worker->messages[i] = malloc(PAYLOAD_HEAD + LARGEST);
  payload_write(worker->messages[i], payload);
  *ret_size = payload.size;
  return worker->messages[i];
}

msgpack_object worker_binary(const char *message, uint32_t size) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  object.via.bin.ptr = message + PAYLOAD_HEAD;
  object.via.bin.size = size;
  return object;
}

int worker_pack_binary(msgpack_packer *packer, void *arg) {
  const msgpack_object *object = arg;
  int r = msgpack_pack_bin(packer, object->via.bin.size);
  return r != 0
             ? r
             : msgpack_pack_bin_body(packer, object->via.bin.ptr, object->via.bin.size);
}

static int put_simple(struct worker *worker, char *message, msgpack_object *object) {
  switch (support_random_below(&worker->random, 3)) {
  case 0:
    return forkq_simple_queue_put(simple(worker), object);
  case 1:
    return forkq_simple_queue_put_with(simple(worker), worker_pack_binary, object);
  default:
    return forkq_simple_queue_put_packed(simple(worker), message,
                                         PAYLOAD_HEAD + object->via.bin.size);
  }
}

static int put_one(struct worker *worker, int timeout_ms) {
  forkq_queue_t *queue = worker->book->queue;
  uint32_t size;
  char *message =
      worker_write_message(worker, 0, atomic_load(&worker->life->accepted) + 1, &size);
  msgpack_object object = worker_binary(message, size);
  if (worker->book->plan.simple)
    return put_simple(worker, message, &object);
  switch (support_random_below(&worker->random, 3)) {
  case 0:
    return forkq_queue_put(queue, &object, timeout_ms);
  case 1:
    return forkq_queue_put_with(queue, worker_pack_binary, &object, timeout_ms);
  default:
    return forkq_queue_put_packed(queue, message, PAYLOAD_HEAD + size, timeout_ms);
  }
}

static int put_batch(struct worker *worker, uint32_t count, int timeout_ms,
                     size_t *ret_put) {
  msgpack_object objects[BATCH_MAX];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t size;
    char *message = worker_write_message(
        worker, i, atomic_load(&worker->life->accepted) + 1 + i, &size);
    objects[i] = worker_binary(message, size);
  }
  return forkq_queue_put_many(worker->book->queue, objects, count, timeout_ms, ret_put);
}

int worker_put(struct worker *worker, uint32_t count, int timeout_ms) {
  struct book *book = worker->book;
  struct life *life = worker->life;
  uint32_t accepted = atomic_load(&life->accepted);
  size_t put = 0;
  atomic_store(&life->begun, accepted + count);
  book_begin(book, life, PUT, timeout_ms);
  int r = count > 1 ? put_batch(worker, count, timeout_ms, &put)
                    : put_one(worker, timeout_ms);
  if (r == 0 && count == 1)
    put = 1;
  atomic_store(&life->accepted, accepted + (uint32_t)put);
  atomic_store(&life->puts, accepted + (uint32_t)put);
  atomic_store(&life->begun, accepted + (uint32_t)put);
  judge_outcome(worker, PUT, r);
  if (put > 0)
    book_progress(book, PUT, (uint32_t)put);
  book_end(life);
  return r;
}

/* What is known to be in the pipe is not lost with this process. */
void worker_look(struct worker *worker) {
  struct life *life = worker->life;
  forkq_queue_stats_t stats = { .size = sizeof stats };
  if (worker->book->plan.simple) {
    atomic_store(&life->flushed, atomic_load(&life->accepted));
    return;
  }
  book_begin(worker->book, life, LOOK, 0);
  int r = forkq_queue_stats(worker->book->queue, &stats);
  if (r == 0 && stats.outbox_items == 0)
    atomic_store(&life->flushed, atomic_load(&life->accepted));
  book_end(life);
}

/* ---- getting ----------------------------------------------------------------------------- */

bool worker_read(struct worker *worker, const forkq_item_t *item,
                 struct payload *ret_payload) {
  struct book *book = worker->book;
  if (payload_read(item->data, item->size, ret_payload) && ret_payload->by < LIVES_MAX &&
      ret_payload->seq > 0 && (book->plan.forever || ret_payload->seq < ITEMS_MAX))
    return true;
  book_fail(book, "life %u got a torn item of %zu bytes", worker->self, item->size);
  return false;
}

/* Of one producer no item comes behind a later one, but for what is got again. */
static void check_order(struct worker *worker, const struct payload *payload) {
  uint64_t now = (uint64_t)payload->generation << 32 | payload->seq;
  uint64_t last = worker->last[payload->by];
  if (now <= last)
    book_fail(worker->book,
              "life %u got item %u of life %u, generation %u, behind %u of %u",
              worker->self, payload->seq, payload->by, payload->generation,
              (uint32_t)last, (uint32_t)(last >> 32));
  worker->last[payload->by] = now;
}

/* An item is whole, not older than the one before of its producer, and nobody else's. */
struct task worker_take(struct worker *worker, const forkq_item_t *item) {
  struct payload payload;
  if (!worker_read(worker, item, &payload))
    return (struct task){ .item = item };
  if (item->redelivered == 0)
    check_order(worker, &payload);
  else if (!plan_redelivers(&worker->book->plan))
    book_fail(worker->book, "life %u got an item again", worker->self);
  atomic_fetch_add(&worker->life->got, 1);
  book_got(worker->book, worker->life, payload.by, payload.seq, item->redelivered);
  return (struct task){ item, payload.by, payload.seq };
}
static int get_one(struct worker *worker, int timeout_ms, forkq_item_t **ret_item) {
  forkq_item_t *item = *ret_item = &worker->items[0];
  if (support_random_below(&worker->random, 3) == 0)
    return kept_borrow(&worker->kept, worker->book,
                       support_random_below(&worker->random, KEPT_MAX), timeout_ms,
                       ret_item);
  bool unpacked = support_random_below(&worker->random, 2) == 0;
  if (worker->book->plan.simple)
    return unpacked ? forkq_simple_queue_get(simple(worker), item)
                    : forkq_simple_queue_get_packed(simple(worker), item);
  return unpacked ? forkq_queue_get(worker->book->queue, item, timeout_ms)
                  : forkq_queue_get_packed(worker->book->queue, item, timeout_ms);
}

int worker_get(struct worker *worker, uint32_t count, int timeout_ms) {
  struct book *book = worker->book;
  struct life *life = worker->life;
  forkq_item_t *item = worker->items;
  struct task tasks[BATCH_MAX];
  size_t got = 0;
  atomic_store(&life->want, count);
  atomic_store(&life->asked, atomic_fetch_add(&book->clock, 1) + 1);
  book_begin(book, life, GET, timeout_ms);
  int r = count > 1
              ? forkq_queue_get_many(book->queue, worker->items, count, timeout_ms, &got)
              : get_one(worker, timeout_ms, &item);
  if (r == 0 && count == 1)
    got = 1;
  for (size_t i = 0; i < got; i++)
    tasks[i] = worker_take(worker, item + i);
  atomic_store(&life->asked, 0);
  judge_outcome(worker, GET, r);
  if (got > 0)
    book_progress(book, GET, (uint32_t)got);
  book_end(life);
  if (book->plan.joinable)
    tasks_finish(worker, tasks, got);
  return r;
}

/* ---- joining ----------------------------------------------------------------------------- */

static uint64_t sum_accepted(const struct book *book) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    sum += atomic_load(&book->lives[i].puts);
  return sum;
}

static uint64_t sum_done(const struct book *book) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    sum += atomic_load(&book->lives[i].done_begun);
  return sum;
}

/* While nobody has died, what was put before a join is done behind it. */
int worker_join(struct worker *worker, int timeout_ms, uint64_t *ret_abandoned) {
  struct book *book = worker->book;
  uint64_t before = sum_accepted(book);
  book_begin(book, worker->life, JOIN, timeout_ms);
  int r = forkq_queue_join(book->queue, timeout_ms, ret_abandoned);
  if (r != FORKQ_EABANDONED)
    judge_outcome(worker, JOIN, r);
  book_end(worker->life);
  uint64_t done = sum_done(book);
  if (r != FORKQ_TIMEDOUT && !book->plan.forever && atomic_load(&book->doomed) == 0 &&
      done < before)
    book_fail(book, "life %u: join says %s with %llu tasks put before and %llu done",
              worker->self, r == 0 ? "0" : forkq_error_name(r),
              (unsigned long long)before, (unsigned long long)done);
  return r;
}

/* ---- the kinds --------------------------------------------------------------------------- */

static void rest(struct worker *worker, enum kind kind) {
  uint32_t most = worker->book->plan.pause_us[kind];
  if (most > 0 && worker_working(worker, RUN))
    book_sleep_us(support_random_below(&worker->random, most + 1));
}

static uint32_t batch(struct worker *worker, uint32_t most) {
  return most == 1 ? 1 : 1 + support_random_below(&worker->random, most);
}

/* So many items the book has place for, and an outbox without limit memory. */
bool worker_may_put(const struct worker *worker) {
  const struct plan *plan = &worker->book->plan;
  uint32_t most = plan->maxsize == 0 && plan->sizes >= LARGE ? ITEMS_MAX / 8 : ITEMS_MAX;
  return plan->forever || atomic_load(&worker->life->begun) + BATCH_MAX + 1 < most;
}

/* A process that lives for some operations only is at its end; but what is left when nobody
 * puts any more takes no more processes to get. */
bool worker_worn_out(const struct worker *worker, uint32_t n) {
  uint32_t most = worker->book->plan.life_ops;
  return most > 0 && n >= most && worker_working(worker, RUN) &&
         !atomic_load(&worker->life->immortal);
}

/* ---- going on as one's own child --------------------------------------------------------- */

/* One in so many puts is the last of its process. */
#define PUTS_PER_DAEMON 32

static struct life *claim(struct book *book);
static void begin(struct life *life, enum kind kind);

static void become(struct worker *worker, struct life *life) {
  worker->life = life;
  worker->self = (uint32_t)(life - worker->book->lives);
  worker->random ^= (uint64_t)worker->self << 32;
  worker->helper = 0;
  kept_drop(&worker->kept); /* it is the parent's */
  worker->orphan = true;
  atomic_store(&life->pid, getpid());
  atomic_store(&life->state, RUNNING);
}

/* As daemon(3) does, but that it may have put before: that is the child's to send now, unless
 * somebody is faster to take the room back. */
static void daemonize(struct worker *worker) {
  struct life *old = worker->life, *life = claim(worker->book);
  if (life == NULL)
    return;
  begin(life, atomic_load(&old->kind));
  atomic_store(&life->heir_of, worker->self);
  atomic_store(&old->vanished, true);
  pid_t pid = fork();
  if (pid == 0) {
    become(worker, life);
    return;
  }
  if (pid < 0) {
    book_fail(worker->book, "fork failed");
    return;
  }
  while (atomic_load(&life->state) == UNBORN)
    book_sleep_us(50);
  atomic_store(&old->replaced, true);
  _exit(0);
}

/* It shall not outlive the judge, whose child it is now. */
static void settle_in(struct worker *worker) {
  if (!worker->orphan || getppid() != atomic_load(&worker->book->lives[0].pid))
    return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  worker->orphan = false;
}

static void produce(struct worker *worker) {
  const struct plan *plan = &worker->book->plan;
  for (uint32_t n = 0; worker_working(worker, RUN) && worker_may_put(worker) &&
                       !worker_worn_out(worker, n);
       n++) {
    int timeout_ms = plan->simple ? -1 : plan_timeout(plan, &worker->random);
    (void)worker_put(worker, batch(worker, plan->batch_put), timeout_ms);
    if (n % OPS_PER_LOOK == OPS_PER_LOOK - 1)
      worker_look(worker);
    settle_in(worker);
    if (plan->daemons && support_random_below(&worker->random, PUTS_PER_DAEMON) == 0)
      daemonize(worker);
    rest(worker, PRODUCER);
  }
}

static void consume(struct worker *worker) {
  const struct plan *plan = &worker->book->plan;
  for (uint32_t n = 0; worker_working(worker, FLUSH) && !worker_worn_out(worker, n);
       n++) {
    int timeout_ms = plan->simple ? -1 : plan_timeout(plan, &worker->random);
    int r = worker_get(worker, batch(worker, plan->batch_get), timeout_ms);
    if (r == FORKQ_EMPTY)
      book_sleep_us(100);
    rest(worker, CONSUMER);
  }
}

/* Puts and gets; where the queue is full it may be the only one that could get, so it waits
 * for a short time only. */
static void produce_and_consume(struct worker *worker) {
  const struct plan *plan = &worker->book->plan;
  for (uint32_t n = 0; worker_working(worker, FLUSH) && !worker_worn_out(worker, n);
       n++) {
    uint32_t phase = atomic_load(&worker->book->phase);
    atomic_store(&worker->life->phase, phase);
    if (phase == RUN && worker_may_put(worker))
      (void)worker_put(worker, batch(worker, plan->batch_put),
                       (int)support_random_below(&worker->random, 20));
    (void)worker_get(worker, batch(worker, plan->batch_get),
                     (int)support_random_below(&worker->random, 20));
    rest(worker, MIXED);
  }
}

static void join(struct worker *worker) {
  while (worker_working(worker, FLUSH)) {
    int timeout_ms = plan_timeout(&worker->book->plan, &worker->random);
    uint64_t abandoned;
    if (worker_join(worker, timeout_ms, &abandoned) != FORKQ_TIMEDOUT)
      book_sleep_us(200);
    if (worker->book->plan.lost_tasks == FORKQ_LOST_TASKS_TELL)
      tasks_hear(worker);
  }
}

static void (*const works[KINDS])(struct worker *worker) = {
  [PRODUCER] = produce, [CONSUMER] = consume, [MIXED] = produce_and_consume,
  [JOINER] = join,      [LOOP] = loop_work,
};

/* ---- its life ---------------------------------------------------------------------------- */

static void *get_in_thread(void *arg) {
  struct worker *worker = arg;
  forkq_item_t *item = &worker->items[0];
  int r = worker->book->plan.simple
              ? forkq_simple_queue_get_packed(simple(worker), item)
              : forkq_queue_get_packed(worker->book->queue, item, -1);
  if (r != 0 && r != FORKQ_ECLOSED)
    book_fail(worker->book, "life %u: a get beside exit says %s", worker->self,
              forkq_error_name(r));
  struct task task = { .item = item };
  if (r == 0)
    task = worker_take(worker, item);
  atomic_store(&worker->life->asked, 0);
  if (r == 0 && worker->book->plan.joinable)
    tasks_say_done(worker, &task, true);
  return arg;
}

/* The process may end at any point of it, behind the item's coming as well. */
static void exit_beside_get(struct worker *worker) {
  struct book *book = worker->book;
  struct life *life = worker->life;
  pthread_t thread;
  atomic_store(&life->exits, true);
  if (!worker_working(worker, RUN)) {
    atomic_store(&life->exits, false);
    return;
  }
  atomic_store(&life->want, 1);
  atomic_store(&life->asked, atomic_fetch_add(&book->clock, 1) + 1);
  if (pthread_create(&thread, NULL, get_in_thread, worker) != 0)
    book_fail(book, "pthread_create failed");
  while (atomic_load(&book->queue->getters) == 0 && atomic_load(&life->asked) != 0)
    book_sleep_us(50);
  book_sleep_us(support_random_below(&worker->random, 300));
  book_begin(book, life, CLOSE, -1);
  exit(0);
}

static bool exits_in_get(struct worker *worker) {
  return worker->book->plan.exits && atomic_load(&worker->life->kind) != JOINER &&
         support_random_below(&worker->random, 2) == 0;
}

/* The ways in which a process takes its leave. */
static void leave(struct worker *worker) {
  if (exits_in_get(worker))
    exit_beside_get(worker);
  struct book *book = worker->book;
  forkq_queue_t *queue = book->queue;
  uint64_t unsent = 0;
  int r = 0;
  book_begin(book, worker->life, CLOSE, -1);
  switch (support_random_below(&worker->random, 3)) {
  case 0:
    forkq_queue_destroy(queue);
    break;
  case 1:
    forkq_queue_close(queue);
    r = forkq_queue_join_thread(queue, -1, &unsent);
    if (r != 0 || unsent != 0)
      book_fail(book, "life %u: join_thread says %d, with %llu not sent", worker->self, r,
                (unsigned long long)unsent);
    break;
  default:
    break; /* exit does it */
  }
}

/* Who puts or gets opens one to show by that it lives, because it may hold pieces, and one that its tasks
 * may be done; who puts, one more to stop the feeder by; who waits in a get, one to be interrupted by. */
static int descriptors_of_its_own(const struct worker *worker) {
  uint32_t kind = atomic_load(&worker->life->kind);
  bool joinable = worker->book->plan.joinable;
  bool puts = kind == PRODUCER || kind == MIXED || kind == LOOP;
  bool waits = kind != PRODUCER && kind != LOOP;
  if (kind == JOINER)
    return 0;
  return 1 + joinable + puts + waits;
}

/* Bytes that take the kernel longer to give back than a death takes otherwise: it frees the locks
 * in the shared memory before that, and those on files behind it. */
#define MUCH_MEMORY ((size_t)256 << 20)

static void take_much_memory(struct worker *worker) {
  char *memory = mmap(NULL, MUCH_MEMORY, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return;
  madvise(memory, MUCH_MEMORY, MADV_NOHUGEPAGE); /* huge ones are given back at once */
  for (size_t i = 0; i < MUCH_MEMORY && worker_working(worker, RUN); i += 4096)
    memory[i] = 1;
}

/* From now on no arena can be mapped. */
static void limit_address_space(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  bool known = file != NULL && fscanf(file, "%lu", &pages) == 1;
  if (file != NULL)
    fclose(file);
  struct rlimit limit = { pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)56 << 20),
                          RLIM_INFINITY };
  if (known && !UNDER_ASAN)
    (void)setrlimit(RLIMIT_AS, &limit);
}

static void live(struct worker *worker) {
  struct book *book = worker->book;
  uint32_t kind = atomic_load(&worker->life->kind);
  if (book->plan.heavy && support_random_below(&worker->random, 6) == 0)
    take_much_memory(worker);
  if (book->plan.poor && support_random_below(&worker->random, 2) == 0)
    limit_address_space();
  if (kind == LOOP)
    loop_open_for_good(worker);
  int before = worker_count_fds();
  works[kind](worker);
  int after = worker_count_fds();
  if (after > before + descriptors_of_its_own(worker))
    book_fail(book, "life %u had %d descriptors at first and %d in the end", worker->self,
              before, after);
  kept_check(&worker->kept, book);
  kept_drop(&worker->kept);
  leave(worker);
  worker_fini(worker);
  exit(0);
}

static struct life *claim(struct book *book) {
  uint32_t used = atomic_load(&book->lives_used);
  for (uint32_t i = 1; book->plan.forever && i < used; i++) {
    uint32_t state = atomic_load(&book->lives[i].state);
    if (state == ENDED || state == KILLED)
      return &book->lives[i];
  }
  do {
    if (used == LIVES_MAX)
      return NULL;
  } while (!atomic_compare_exchange_weak(&book->lives_used, &used, used + 1));
  return &book->lives[used];
}

static void begin(struct life *life, enum kind kind) {
  uint32_t generation = atomic_load(&life->generation);
  memset(life, 0, sizeof *life);
  atomic_store(&life->generation, generation + 1);
  atomic_store(&life->kind, kind);
}

struct life *worker_start(struct book *book, enum kind kind, bool immortal,
                          uint64_t arm_at, int64_t arm_ns) {
  struct life *life = claim(book);
  if (life == NULL)
    return NULL;
  begin(life, kind);
  atomic_store(&life->immortal, immortal);
  if (arm_at != 0)
    book_doom(book, life);
  atomic_store(&life->arm_ns, arm_ns);
  atomic_store(&life->arm_at, arm_at);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    static struct worker worker;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      _exit(1);
    worker_init(&worker, book, life);
    live(&worker);
  }
  if (pid < 0) {
    book_fail(book, "fork failed");
    return NULL;
  }
  atomic_store(&life->pid, pid);
  atomic_store(&life->state, RUNNING);
  return life;
}
