/* CPython's own tests of asyncio's queues (test/test_asyncio/test_queues.py), ported under their
 * names, class by class: those of join and of shutdown. */
#include "asyncio_helpers.h"

/* ---- QueueJoinTests, LifoQueueJoinTests, PriorityQueueJoinTests --------------------- */

START_TEST(test_task_done_underflow) {
  ck_assert_int_eq(forkq_loop_queue_task_done(queue_of(0)), FORKQ_ETASKDONE);
}
END_TEST

struct worker {
  forkq_loop_queue_req_t req;
  bool *running;
  int *accumulator;
};

static void work(forkq_loop_queue_req_t *req, int status) {
  struct worker *worker = req->data;
  forkq_loop_queue_t *queue = queues[0];
  ck_assert_int_eq(status, 0);
  *worker->accumulator += (int)(intptr_t)req->item;
  ck_assert_int_eq(forkq_loop_queue_task_done(queue), 0);
  if (*worker->running)
    ck_assert_int_eq(forkq_loop_queue_get(queue, req, work), 0);
}

START_TEST(test_task_done) {
  forkq_loop_queue_t *queue = queue_of(0);
  bool running = true;
  int accumulator = 0;
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(put_nowait(queue, i), 0);
  struct worker workers[2];
  for (int i = 0; i < 2; i++) {
    workers[i] = (struct worker){ .running = &running, .accumulator = &accumulator };
    workers[i].req.data = &workers[i];
    ck_assert_int_eq(forkq_loop_queue_get(queue, &workers[i].req, work), 0);
  }
  ck_assert_int_eq(await_join(queue), 0);
  ck_assert_int_eq(accumulator, 99 * 100 / 2);
  running = false;
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(put_nowait(queue, 0), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
}
END_TEST

START_TEST(test_join_empty_queue) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(await_join(queue), 0);
  ck_assert_int_eq(await_join(queue), 0);
}
END_TEST

/* The two tests of that name, of the Join and of the Shutdown classes. */
START_TEST(test_format) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_str_eq(format(queue), "maxsize=0");
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(put_nowait(queue, 1), 0);
    ck_assert_int_eq(get_nowait(queue), 1);
  }
  ck_assert_str_eq(format(queue), "maxsize=0 tasks=2");

  queue = queue_of(0);
  ck_assert_int_eq(forkq_loop_queue_shutdown(queue, 0), 0);
  ck_assert_str_eq(format(queue), "maxsize=0 shutdown");
}
END_TEST

/* ---- QueueShutdownTests, LifoQueueShutdownTests, PriorityQueueShutdownTests (3.13) ---- */

static void assert_shut_down(forkq_loop_queue_t *queue) {
  ck_assert_int_eq(await_put(queue, 1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(put_nowait(queue, 1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(await_get(queue), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get_nowait(queue), FORKQ_ESHUTDOWN);
}

START_TEST(test_shutdown_empty) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task getter;
  start_get(&getter, queue);
  turn();
  ck_assert_int_eq(forkq_loop_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(forkq_loop_queue_qsize(queue), 0);
  ck_assert_int_eq(await_join(queue), 0);
  turn();
  ck_assert(getter.done);
  ck_assert_int_eq(getter.result, FORKQ_ESHUTDOWN);
  assert_shut_down(queue);
}
END_TEST

START_TEST(test_shutdown_nonempty) {
  forkq_loop_queue_t *queue = queue_of(1);
  struct task joiner, putter;
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  start_join(&joiner, queue);
  start_put(&putter, queue, 2);
  turn();
  ck_assert(!putter.done);

  ck_assert_int_eq(forkq_loop_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(forkq_loop_queue_qsize(queue), 1);
  turn();
  ck_assert(putter.done);
  ck_assert_int_eq(putter.result, FORKQ_ESHUTDOWN);
  ck_assert_int_eq(await_get(queue), 1);
  turn();
  ck_assert(!joiner.done);
  assert_shut_down(queue);

  ck_assert_int_eq(forkq_loop_queue_task_done(queue), 0);
  turn();
  ck_assert(joiner.done);
  ck_assert_int_eq(joiner.result, 0);
  ck_assert_int_eq(forkq_loop_queue_task_done(queue), FORKQ_ETASKDONE);
}
END_TEST

START_TEST(test_shutdown_immediate) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task joiner;
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  start_join(&joiner, queue);
  ck_assert_int_eq(forkq_loop_queue_shutdown(queue, 1), 1);
  ck_assert_int_eq(forkq_loop_queue_qsize(queue), 0);
  turn();
  ck_assert(joiner.done);
  ck_assert_int_eq(joiner.result, 0);
  assert_shut_down(queue);
  ck_assert_int_eq(forkq_loop_queue_task_done(queue), FORKQ_ETASKDONE);
}
END_TEST

START_TEST(test_shutdown_immediate_with_unfinished) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task joiner;
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  start_join(&joiner, queue);
  ck_assert_int_eq(await_get(queue), 1);
  ck_assert_int_eq(forkq_loop_queue_shutdown(queue, 1), 1);
  ck_assert_int_eq(forkq_loop_queue_qsize(queue), 0);
  turn();
  ck_assert(!joiner.done);
  assert_shut_down(queue);
  ck_assert_int_eq(forkq_loop_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_loop_queue_task_done(queue), FORKQ_ETASKDONE);
  turn();
  ck_assert(joiner.done);
  ck_assert_int_eq(joiner.result, 0);
}
END_TEST

int main(void) {
  const TTest *join[] = { test_task_done_underflow, test_task_done, test_join_empty_queue,
                          test_format };
  const TTest *shutdown[] = { test_format, test_shutdown_empty, test_shutdown_nonempty,
                              test_shutdown_immediate,
                              test_shutdown_immediate_with_unfinished };
  static void (*const fixtures[])(void) = { set_up, set_up_lifo, set_up_priority };
  static const char *const joins[] = { "QueueJoinTests", "LifoQueueJoinTests",
                                       "PriorityQueueJoinTests" };
  static const char *const shutdowns[] = { "QueueShutdownTests", "LifoQueueShutdownTests",
                                           "PriorityQueueShutdownTests" };
  Suite *suite = suite_create("conformance_asyncio_ends");
  for (int i = 0; i < 3; i++)
    add_class(suite, joins[i], fixtures[i], join, LENGTH(join));
  for (int i = 0; i < 3; i++)
    add_class(suite, shutdowns[i], fixtures[i], shutdown, LENGTH(shutdown));
  return support_main(suite);
}
