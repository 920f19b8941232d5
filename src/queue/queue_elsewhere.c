/* A queue that another library holds (elsewhere.h): what the public functions ask of that library, and what it
 * is told of fork and exit. Messages are packed here, and are then one piece of memory each. */
#include "queue/queue_impl.h"

#include "base/contract.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/times.h"
#include "codec/item.h"
#include "codec/serializer.h"

#include <errno.h>
#include <string.h>

/* So many messages, or bytes, of a batch are packed before they are put. */
#define RUN_MESSAGES 64
#define RUN_BYTES (256 * 1024)

/* How long exit waits until the process has left its queue. */
#define EXIT_MS 1000

/* Whether the check has failed because the queue is elsewhere. */
static bool is_due(const forkq_queue_t *queue, int r) {
  return r == -ENOTSUP && forkq__queue_is_elsewhere(queue);
}

static int tell(forkq_queue_t *queue, int r) {
  return forkq__interrupts_tell(&queue->channel.interrupts, r);
}

/* ---- packing ------------------------------------------------------------------------------- */

/* Messages, one after the other. A message of the caller's stays where it is. */
struct run {
  char *memory;
  size_t size, capacity;
  size_t count;
  forkq_bytes_t messages[RUN_MESSAGES];
  size_t begins[RUN_MESSAGES]; /* in the memory */
  bool packed[RUN_MESSAGES];
  bool no_memory;
};

static void free_run(struct run *run) {
  forkq__free(run->memory);
}

static int add_bytes(void *arg, const void *data, size_t size) {
  struct run *run = arg;
  if (size > run->capacity - run->size) {
    size_t capacity = forkq__grown(run->capacity > 0 ? run->capacity : 256,
                                   (uint64_t)run->size + size, FORKQ__MEMORY_MAX);
    char *memory = capacity > 0 ? forkq__realloc(run->memory, capacity) : NULL;
    run->no_memory = memory == NULL;
    if (memory == NULL)
      return -ENOMEM;
    run->memory = memory;
    run->capacity = capacity;
  }
  if (size > 0)
    memcpy(run->memory + run->size, data, size);
  run->size += size;
  return 0;
}

static int write_to_run(void *run, const char *data, size_t size) {
  return add_bytes(run, data, size);
}

/* The function writes into the thread's draft, as in any put. */
static int run_function(struct run *run, const struct forkq__source *source) {
  struct forkq__outbox *draft = forkq__source_draft();
  int r = forkq__outbox_begin(draft, FORKQ_MESSAGE_MAX);
  if (r == 0)
    r = forkq__queue_pack(draft, source);
  if (r == FORKQ_EPACKING)
    return r; /* the function no longer has the draft */
  if (r == 0)
    r = forkq__outbox_visit(draft, add_bytes, run);
  forkq__source_drop_draft();
  return r;
}

static int pack(struct run *run, const struct forkq__source *source) {
  run->no_memory = false;
  if (source->pack != NULL)
    return run_function(run, source);
  int r = forkq__source_write(source, run, write_to_run);
  return run->no_memory ? -ENOMEM : r;
}

/* Adds a message. After a failure the run is as it was. */
static int add(struct run *run, const struct forkq__source *source) {
  size_t n = run->count;
  run->begins[n] = run->size;
  run->packed[n] = source->data == NULL;
  run->messages[n] = (forkq_bytes_t){ source->data, source->size };
  if (run->packed[n]) {
    int r = pack(run, source);
    run->messages[n].size = run->size - run->begins[n];
    if (r < 0 || run->messages[n].size > FORKQ_MESSAGE_MAX) {
      run->size = run->begins[n];
      return r < 0 ? r : FORKQ_ETOOBIG;
    }
  }
  run->count++;
  return 0;
}

/* The memory does not move any more. */
static void settle(struct run *run) {
  for (size_t i = 0; i < run->count; i++)
    if (run->packed[i])
      run->messages[i].data = run->memory + run->begins[i];
}

/* ---- putting and getting ------------------------------------------------------------------- */

static int put_run(forkq_queue_t *queue, struct run *run, int64_t deadline,
                   size_t *ret_put) {
  settle(run);
  return tell(queue, queue->elsewhere->put(queue->elsewhere_state, run->messages,
                                           run->count, deadline, ret_put));
}

int forkq__elsewhere_put(forkq_queue_t *queue, const struct forkq__source *source,
                         int timeout_ms, int r) {
  if (!is_due(queue, r) || queue->elsewhere->put == NULL)
    return r;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  __attribute__((cleanup(free_run))) struct run run = { .memory = NULL };
  r = add(&run, source);
  return r < 0 ? r : put_run(queue, &run, deadline, &(size_t){ 0 });
}

/* Adds messages from number *n on: 0, or why the next one cannot be put. */
static int fill(struct run *run, const struct forkq__sources *sources, size_t n) {
  int r = 0;
  run->size = run->count = 0;
  while (r == 0 && n + run->count < sources->count && run->count < RUN_MESSAGES &&
         run->size < RUN_BYTES) {
    struct forkq__source source;
    r = sources->make(sources->arg, n + run->count, &source);
    if (r == 0)
      r = add(run, &source);
  }
  return r;
}

int forkq__elsewhere_put_many(forkq_queue_t *queue, const struct forkq__sources *sources,
                              int timeout_ms, size_t *n, int r) {
  if (!is_due(queue, r) || queue->elsewhere->put == NULL)
    return r;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  __attribute__((cleanup(free_run))) struct run run = { .memory = NULL };
  r = 0;
  while (r == 0 && *n < sources->count) {
    size_t put = 0;
    r = fill(&run, sources, *n);
    if (run.count == 0)
      break;
    int done = put_run(queue, &run, deadline, &put);
    if (done < 0)
      return done;
    *n += put;
    if (put < run.count)
      break;
    deadline = FORKQ__NOWAIT; /* only the first put waits */
  }
  return r;
}

int forkq__elsewhere_get(forkq_queue_t *queue, forkq_item_t *items, size_t count,
                         int timeout_ms, size_t *ret_got, int r) {
  if (!is_due(queue, r) || queue->elsewhere->get == NULL)
    return r;
  size_t got = 0;
  r = 0;
  if (count > 0)
    r = tell(queue, queue->elsewhere->get(queue->elsewhere_state, items, count,
                                          forkq__os_deadline(timeout_ms), &got));
  if (r == 0 && ret_got != NULL)
    *ret_got = got;
  return r;
}

/* ---- the other calls ----------------------------------------------------------------------- */

int forkq__elsewhere_task_done(forkq_queue_t *queue, const forkq_item_t *item, int r) {
  if (!is_due(queue, r) || queue->elsewhere->task_done == NULL)
    return r;
  return queue->elsewhere->task_done(queue->elsewhere_state, item);
}

int forkq__elsewhere_join(forkq_queue_t *queue, int64_t deadline, uint64_t *ret_abandoned,
                          int r) {
  if (!is_due(queue, r) || queue->elsewhere->join == NULL)
    return r;
  return tell(queue,
              queue->elsewhere->join(queue->elsewhere_state, deadline, ret_abandoned));
}

int forkq__elsewhere_flush(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent,
                           int r) {
  if (!is_due(queue, r) || queue->elsewhere->flush == NULL)
    return r;
  return tell(queue, queue->elsewhere->flush(queue->elsewhere_state,
                                             forkq__os_deadline(timeout_ms), ret_unsent));
}

int forkq__elsewhere_shutdown(forkq_queue_t *queue, int immediate, int r) {
  if (!is_due(queue, r) || queue->elsewhere->shutdown == NULL)
    return r;
  return queue->elsewhere->shutdown(queue->elsewhere_state, immediate != 0);
}

int forkq__elsewhere_fileno(forkq_queue_t *queue, int r) {
  if (!is_due(queue, r) || queue->elsewhere->fileno == NULL)
    return r;
  return queue->elsewhere->fileno(queue->elsewhere_state);
}

int64_t forkq__elsewhere_qsize(forkq_queue_t *queue) {
  (void)forkq__life_forks(); /* puts a forked child right */
  return queue->elsewhere->qsize != NULL ? queue->elsewhere->qsize(queue->elsewhere_state)
                                         : -ENOTSUP;
}

int forkq__elsewhere_full(forkq_queue_t *queue) {
  (void)forkq__life_forks();
  return queue->elsewhere->full != NULL ? queue->elsewhere->full(queue->elsewhere_state)
                                        : -ENOTSUP;
}

int forkq__elsewhere_stats(forkq_queue_t *queue, forkq_queue_stats_t *stats) {
  (void)forkq__life_forks();
  if (queue->elsewhere->stats == NULL)
    return -ENOTSUP;
  forkq_queue_stats_t now = { .size = stats->size };
  int r = queue->elsewhere->stats(queue->elsewhere_state, &now);
  if (r == 0)
    memcpy(stats, &now, now.size);
  return r;
}

/* As forkq_queue_interrupt. Those that wait poll the event. */
int forkq__elsewhere_interrupt(forkq_queue_t *queue) {
  int state, error = errno;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  forkq__interrupt(&queue->channel.interrupts);
  pthread_setcancelstate(state, NULL);
  errno = error;
  return 0;
}

int forkq__elsewhere_close(forkq_queue_t *queue) {
  int r = queue->elsewhere->close(queue->elsewhere_state, FORKQ__FOREVER);
  if (r == 0)
    atomic_store(&queue->channel.closed, true); /* for forkq_queue_join_thread */
  return r;
}

void forkq__elsewhere_destroy(forkq_queue_t *queue) {
  if (queue->elsewhere->close(queue->elsewhere_state, FORKQ__FOREVER) == -EDEADLK)
    return; /* in a handler: the interrupted call still uses the queue */
  forkq__life_end(&queue->life);
  queue->elsewhere->destroy(queue->elsewhere_state);
  forkq__interrupts_fini(&queue->channel.interrupts, queue->channel.event_identity);
  forkq__free(queue);
}

/* ---- fork and exit ------------------------------------------------------------------------- */

/* Makes the event of interrupts. Where it cannot be made, interrupts are looked for from time to time. */
static int equip(forkq_queue_t *queue) {
  struct forkq__interrupts *interrupts = &queue->channel.interrupts;
  forkq__interrupts_equip(interrupts);
  int fd = forkq__interrupts_fd(interrupts);
  return fd < 0 ? 0 : forkq__os_identity(fd, &queue->channel.event_identity);
}

static void before_fork(struct forkq__life *life, int64_t deadline) {
  forkq_queue_t *queue = forkq__queue_of(life);
  forkq__source_before_fork();
  queue->elsewhere->before_fork(queue->elsewhere_state, deadline);
}

static void after_fork_parent(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  queue->elsewhere->after_fork_parent(queue->elsewhere_state);
}

/* The event of interrupts is made anew, because threads of the parent poll the one that is there. */
static void after_fork_child(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  forkq__source_forked();
  forkq__interrupts_forked(&queue->channel.interrupts, queue->channel.event_identity);
  (void)equip(queue);
  queue->elsewhere->after_fork_child(queue->elsewhere_state);
}

static void at_exit(struct forkq__life *life) {
  forkq_queue_t *queue = forkq__queue_of(life);
  (void)queue->elsewhere->close(queue->elsewhere_state,
                                forkq__os_deadline_within(FORKQ__FOREVER, EXIT_MS));
}

static const struct forkq__life_ops life_ops = {
  .before_fork = before_fork,
  .after_fork_parent = after_fork_parent,
  .after_fork_child = after_fork_child,
  .at_exit = at_exit,
};

/* ---- for the other library ----------------------------------------------------------------- */

/* With the registry, so that no child is forked meanwhile that has the event and does not know it. */
static int open_held(forkq_queue_t *queue, const struct forkq__elsewhere_ops *ops,
                     void *state) {
  int r = equip(queue);
  if (r < 0) {
    forkq__os_close(forkq__interrupts_fd(&queue->channel.interrupts));
    return r;
  }
  queue->elsewhere = ops;
  queue->elsewhere_state = state;
  queue->refusal = -ENOTSUP;
  FORKQ__STORE(queue->arrived, forkq__life_forks());
  forkq__life_begin(&queue->life, &life_ops);
  return 0;
}

static int queue_hold(forkq_queue_t **ret_queue, const struct forkq__elsewhere_ops *ops,
                      void *state) {
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  forkq_queue_t *queue = forkq__calloc(sizeof *queue);
  if (queue == NULL)
    return -ENOMEM;
  int r = forkq__life_hold();
  if (r == 0) {
    r = open_held(queue, ops, state);
    forkq__life_let_go();
  }
  if (r < 0)
    forkq__free(queue);
  else
    *ret_queue = queue;
  return r;
}

static void *queue_state(forkq_queue_t *queue, const struct forkq__elsewhere_ops *ops) {
  return queue->elsewhere == ops ? queue->elsewhere_state : NULL;
}

struct polling {
  struct forkq__interrupts *interrupts;
  void (*leave)(void *arg);
  void *arg;
};

static void leave_poll(void *arg) {
  struct polling *polling = arg;
  forkq__interrupts_end_poll(polling->interrupts, true);
  if (polling->leave != NULL)
    polling->leave(polling->arg);
}

/* The caller's descriptors, and the event of interrupts. */
#define POLL_MAX 4

static int poll_once(forkq_queue_t *queue, struct pollfd *fds, nfds_t count,
                     int64_t deadline, struct polling *polling, bool *ret_saw) {
  struct forkq__interrupts *interrupts = &queue->channel.interrupts;
  struct pollfd all[POLL_MAX + 1];
  memcpy(all, fds, count * sizeof *fds);
  all[count] =
      (struct pollfd){ .fd = forkq__interrupts_fd(interrupts), .events = POLLIN };
  forkq__interrupts_begin_poll(interrupts);
  bool interrupted = forkq__interrupted(interrupts);
  int r = forkq__os_poll_cancellable(
      all, count + 1, interrupted ? FORKQ__NOWAIT : deadline, leave_poll, polling);
  *ret_saw = r > 0 && all[count].revents != 0;
  forkq__interrupts_end_poll(interrupts, *ret_saw);
  memcpy(fds, all, count * sizeof *fds);
  if (r > 0 && *ret_saw)
    r--;
  return r == 0 && forkq__interrupted(interrupts) ? FORKQ_EINTERRUPTED : r;
}

/* The event may be raised for other threads: then this one pauses, without the event. */
static int host_poll(forkq_queue_t *queue, struct pollfd *fds, nfds_t count,
                     int64_t deadline, void (*leave)(void *arg), void *arg) {
  struct polling polling = { &queue->channel.interrupts, leave, arg };
  FORKQ__CHECK(count <= POLL_MAX);
  for (;;) {
    bool saw;
    int64_t until = forkq__interrupts_fd(&queue->channel.interrupts) >= 0
                        ? deadline
                        : forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS);
    int r = poll_once(queue, fds, count, until, &polling, &saw);
    if (r == 0 && saw)
      r = forkq__os_poll_cancellable(
          fds, count, forkq__os_deadline_within(deadline, FORKQ__INTERRUPT_PAUSE_MS),
          leave, arg);
    if (r != 0 || deadline == FORKQ__NOWAIT || forkq__os_now() >= deadline)
      return r;
  }
}

const struct forkq__host *forkq__host(void) {
  static const struct forkq__host host = {
    .malloc = forkq__malloc,
    .realloc = forkq__realloc,
    .free = forkq__free,
    .log = forkq__log,
    .item_reserve = forkq__item_reserve,
    .item_finish = forkq__item_finish,
    .scan = forkq__scan,
    .queue_hold = queue_hold,
    .queue_state = queue_state,
    .poll = host_poll,
  };
  return &host;
}
