/* Queues on a loop, as the tests of asyncio have them. A request stands for a task. */
#include "asyncio_helpers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUES_MAX 8

uv_loop_t loop;
enum class q_class;
forkq_loop_queue_t *queues[QUEUES_MAX];
static int queue_count;
static int fds_before;

static void set_up_class(enum class class) {
  support_heap_install();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  fds_before = support_open_fds();
  q_class = class;
  queue_count = 0;
}

void set_up(void) {
  set_up_class(FIFO);
}

void set_up_lifo(void) {
  set_up_class(LIFO);
}

void set_up_priority(void) {
  set_up_class(PRIORITY);
}

static void tear_down(void) {
  for (int i = 0; i < queue_count; i++)
    ck_assert_int_ge(forkq_loop_queue_close(queues[i], NULL), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  for (int i = 0; i < queue_count; i++)
    free(queues[i]);
  ck_assert_int_eq(support_heap_live(), 0);
}

static int compare(const void *a, const void *b, void *arg) {
  (void)arg;
  return ((intptr_t)a > (intptr_t)b) - ((intptr_t)a < (intptr_t)b);
}

forkq_loop_queue_t *queue_of(int64_t maxsize) {
  forkq_loop_queue_t *queue = calloc(1, sizeof *queue);
  int r = q_class == FIFO ? forkq_loop_queue_init(&loop, queue, maxsize)
          : q_class == LIFO
              ? forkq_loop_queue_init_lifo(&loop, queue, maxsize)
              : forkq_loop_queue_init_priority(&loop, queue, maxsize, compare, NULL);
  ck_assert_int_eq(r, 0);
  ck_assert_int_lt(queue_count, QUEUES_MAX);
  return queues[queue_count++] = queue;
}

/* ---- tasks ------------------------------------------------------------------------- */

static void on_done(forkq_loop_queue_req_t *req, int status) {
  struct task *task = req->data;
  ck_assert(!task->done);
  task->done = true;
  task->result = status < 0 ? status : (intptr_t)req->item;
}

void turn(void) {
  uv_run(&loop, UV_RUN_NOWAIT);
}

static void begin(struct task *task) {
  *task = (struct task){ .done = false };
  task->req.data = task;
}

/* A call that fails at once has no callback. */
static void started(struct task *task, int r) {
  if (r == 0)
    return;
  task->done = true;
  task->result = r;
}

void start_put(struct task *task, forkq_loop_queue_t *queue, intptr_t item) {
  begin(task);
  started(task, forkq_loop_queue_put(queue, &task->req, (void *)item, on_done));
}

void start_get(struct task *task, forkq_loop_queue_t *queue) {
  begin(task);
  started(task, forkq_loop_queue_get(queue, &task->req, on_done));
}

void start_join(struct task *task, forkq_loop_queue_t *queue) {
  begin(task);
  started(task, forkq_loop_queue_join(queue, &task->req, on_done));
}

void cancel(struct task *task) {
  ck_assert_int_eq(forkq_loop_queue_cancel(&task->req), 0);
}

int64_t await(struct task *task) {
  while (!task->done)
    ck_assert(uv_run(&loop, UV_RUN_ONCE) != 0 || task->done);
  return task->result;
}

int64_t await_put(forkq_loop_queue_t *queue, intptr_t item) {
  struct task task;
  start_put(&task, queue, item);
  int64_t result = await(&task);
  return result < 0 ? result : 0;
}

int64_t await_get(forkq_loop_queue_t *queue) {
  struct task task;
  start_get(&task, queue);
  return await(&task);
}

int64_t await_join(forkq_loop_queue_t *queue) {
  struct task task;
  start_join(&task, queue);
  return await(&task);
}

int put_nowait(forkq_loop_queue_t *queue, intptr_t item) {
  return forkq_loop_queue_put_nowait(queue, (void *)item);
}

int64_t get_nowait(forkq_loop_queue_t *queue) {
  void *item;
  int r = forkq_loop_queue_get_nowait(queue, &item);
  return r < 0 ? r : (intptr_t)item;
}

forkq_loop_queue_stats_t stats_of(const forkq_loop_queue_t *queue) {
  forkq_loop_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(forkq_loop_queue_stats(queue, &stats), 0);
  return stats;
}

/* As Queue._format does it, from what forkq tells; of the items, their number. */
const char *format(const forkq_loop_queue_t *queue) {
  static char text[128];
  forkq_loop_queue_stats_t stats = stats_of(queue);
  int n = snprintf(text, sizeof text, "maxsize=%" PRId64, stats.maxsize);
  const struct {
    const char *form;
    uint64_t count;
  } parts[] = { { " _queue[%" PRIu64 "]", stats.items },
                { " _getters[%" PRIu64 "]", stats.getters },
                { " _putters[%" PRIu64 "]", stats.putters },
                { " tasks=%" PRIu64, stats.unfinished } };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (parts[i].count > 0)
      n += snprintf(text + n, sizeof text - (size_t)n, parts[i].form, parts[i].count);
  snprintf(text + n, sizeof text - (size_t)n, "%s", stats.is_shutdown ? " shutdown" : "");
  return text;
}

void add_class(Suite *suite, const char *name, void (*fixture)(void),
               const TTest *const *tests, size_t count) {
  TCase *tcase = tcase_create(name);
  tcase_add_checked_fixture(tcase, fixture, tear_down);
  for (size_t i = 0; i < count; i++)
    tcase_add_test(tcase, tests[i]);
  suite_add_tcase(suite, tcase);
}
