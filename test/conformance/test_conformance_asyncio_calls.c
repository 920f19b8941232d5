/* CPython's own tests of asyncio's queues (test/test_asyncio/test_queues.py), ported under their
 * names, class by class: QueueBasicTests, QueueGetTests, QueuePutTests. Left out is
 * test_generic_alias: C has no generics. */
#include "asyncio_helpers.h"

/* ---- a coroutine that puts 0, 1, ... one after the other, or gets that many ---------- */

struct series {
  forkq_loop_queue_req_t req;
  forkq_loop_queue_t *queue;
  int count;
  int done;
  int sum;
};

static void put_next(forkq_loop_queue_req_t *req, int status) {
  struct series *series = req->data;
  ck_assert_int_eq(status, 0);
  if (++series->done < series->count)
    ck_assert_int_eq(forkq_loop_queue_put(series->queue, req,
                                          (void *)(intptr_t)series->done, put_next),
                     0);
}

static void get_next(forkq_loop_queue_req_t *req, int status) {
  struct series *series = req->data;
  ck_assert_int_eq(status, 0);
  series->sum += (int)(intptr_t)req->item;
  if (++series->done < series->count)
    ck_assert_int_eq(forkq_loop_queue_get(series->queue, req, get_next), 0);
}

static void start_putting(struct series *series, forkq_loop_queue_t *queue, int count) {
  *series = (struct series){ .queue = queue, .count = count };
  series->req.data = series;
  ck_assert_int_eq(forkq_loop_queue_put(queue, &series->req, (void *)0, put_next), 0);
}

static void start_getting(struct series *series, forkq_loop_queue_t *queue, int count) {
  *series = (struct series){ .queue = queue, .count = count };
  series->req.data = series;
  ck_assert_int_eq(forkq_loop_queue_get(queue, &series->req, get_next), 0);
}

/* ---- call_later -------------------------------------------------------------------- */

static void close_timer(uv_timer_t *timer) {
  uv_close((uv_handle_t *)timer, NULL);
}

static void call_later(uv_timer_t *timer, uint64_t ms, uv_timer_cb fn, void *arg) {
  uv_timer_init(&loop, timer);
  timer->data = arg;
  ck_assert_int_eq(uv_timer_start(timer, fn, ms, 0), 0);
}

static void put_one_later(uv_timer_t *timer) {
  ck_assert_int_eq(put_nowait(timer->data, 1), 0);
  close_timer(timer);
}

static void get_one_later(uv_timer_t *timer) {
  ck_assert_int_eq(get_nowait(timer->data), 1);
  close_timer(timer);
}

static void cancel_later(uv_timer_t *timer) {
  cancel(timer->data);
  close_timer(timer);
}

/* ---- QueueBasicTests --------------------------------------------------------------- */

static void repr_or_str(void) {
  struct task getter, putter;
  forkq_loop_queue_t *queue = queue_of(0);
  start_get(&getter, queue);
  turn();
  ck_assert_str_eq(format(queue), "maxsize=0 _getters[1]");
  ck_assert_int_eq(put_nowait(queue, 0), 0);
  ck_assert_int_eq(await(&getter), 0);

  queue = queue_of(1);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  start_put(&putter, queue, 2);
  turn();
  ck_assert_str_eq(format(queue), "maxsize=1 _queue[1] _putters[1] tasks=1");
  ck_assert_int_eq(get_nowait(queue), 1);
  turn();
  ck_assert(putter.done);

  queue = queue_of(0);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_str_eq(format(queue), "maxsize=0 _queue[1] tasks=1");
}

START_TEST(test_repr) {
  repr_or_str();
}
END_TEST

START_TEST(test_str) {
  repr_or_str();
}
END_TEST

START_TEST(test_empty) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(forkq_loop_queue_empty(queue), 1);
  ck_assert_int_eq(await_put(queue, 1), 0);
  ck_assert_int_eq(forkq_loop_queue_empty(queue), 0);
  ck_assert_int_eq(await_get(queue), 1);
  ck_assert_int_eq(forkq_loop_queue_empty(queue), 1);
}
END_TEST

START_TEST(test_full) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(forkq_loop_queue_full(queue), 0);
  queue = queue_of(1);
  ck_assert_int_eq(await_put(queue, 1), 0);
  ck_assert_int_eq(forkq_loop_queue_full(queue), 1);
}
END_TEST

/* Puts 1, 3, 2 and gets what is given. The test_order of Queue, LifoQueue, PriorityQueue. */
static void assert_order(const int expected[3]) {
  static const int put[] = { 1, 3, 2 };
  forkq_loop_queue_t *queue = queue_of(0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(await_put(queue, put[i]), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(await_get(queue), expected[i]);
}

START_TEST(test_order) {
  static const int expected[][3] = { { 1, 3, 2 }, { 2, 3, 1 }, { 1, 2, 3 } };
  assert_order(expected[q_class]);
}
END_TEST

START_TEST(test_maxsize) {
  forkq_loop_queue_t *queue = queue_of(2);
  ck_assert_int_eq(queue->maxsize, 2);
  struct series putter;
  start_putting(&putter, queue, 3);
  for (int i = 0; i < 2; i++)
    turn();
  ck_assert_int_eq(putter.done, 2);
  ck_assert_int_eq(await_get(queue), 0);
  turn();
  ck_assert_int_eq(putter.done, 3);
  ck_assert_int_eq(await_get(queue), 1);
  ck_assert_int_eq(await_get(queue), 2);
}
END_TEST

/* ---- QueueGetTests ----------------------------------------------------------------- */

START_TEST(test_blocking_get) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(await_get(queue), 1);
}
END_TEST

START_TEST(test_get_with_putters) {
  forkq_loop_queue_t *queue = queue_of(1);
  ck_assert_int_eq(await_put(queue, 1), 0);
  struct task waiter;
  start_put(&waiter, queue, 2);
  ck_assert_int_eq(await_get(queue), 1);
  turn();
  ck_assert(waiter.done);
  ck_assert_int_ge(waiter.result, 0);
}
END_TEST

START_TEST(test_blocking_get_wait) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task getter;
  uv_timer_t timer;
  start_get(&getter, queue);
  turn();
  ck_assert(!getter.done);
  call_later(&timer, 10, put_one_later, queue);
  ck_assert_int_eq(await(&getter), 1);
}
END_TEST

START_TEST(test_nonblocking_get) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(get_nowait(queue), 1);
}
END_TEST

START_TEST(test_nonblocking_get_exception) {
  ck_assert_int_eq(get_nowait(queue_of(0)), FORKQ_EMPTY);
}
END_TEST

START_TEST(test_get_cancelled_race) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task t1, t2;
  start_get(&t1, queue);
  start_get(&t2, queue);
  turn();
  cancel(&t1);
  turn();
  ck_assert(t1.done);
  ck_assert_int_eq(await_put(queue, 'a'), 0);
  turn();
  ck_assert_int_eq(await(&t2), 'a');
}
END_TEST

START_TEST(test_get_with_waiting_putters) {
  forkq_loop_queue_t *queue = queue_of(1);
  struct task a, b;
  start_put(&a, queue, 'a');
  start_put(&b, queue, 'b');
  ck_assert_int_eq(await_get(queue), 'a');
  ck_assert_int_eq(await_get(queue), 'b');
}
END_TEST

START_TEST(test_why_are_getters_waiting) {
  forkq_loop_queue_t *queue = queue_of(1);
  struct series producer, consumer;
  start_putting(&producer, queue, 5);
  start_getting(&consumer, queue, 5);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(producer.done, 5);
  ck_assert_int_eq(consumer.done, 5);
}
END_TEST

START_TEST(test_cancelled_getters_not_being_held_in_self_getters) {
  forkq_loop_queue_t *queue = queue_of(5);
  struct task getter;
  uv_timer_t timer;
  start_get(&getter, queue);
  call_later(&timer, 100, cancel_later, &getter);
  ck_assert_int_eq(await(&getter), UV_ECANCELED);
  ck_assert_uint_eq(stats_of(queue).getters, 0);
}
END_TEST

/* ---- QueuePutTests ----------------------------------------------------------------- */

START_TEST(test_blocking_put) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(await_put(queue, 1), 0);
  ck_assert_int_eq(await_get(queue), 1);
}
END_TEST

START_TEST(test_blocking_put_wait) {
  forkq_loop_queue_t *queue = queue_of(1);
  struct task first, second;
  uv_timer_t timer;
  start_put(&first, queue, 1);
  start_put(&second, queue, 2);
  turn();
  call_later(&timer, 10, get_one_later, queue);
  ck_assert(first.done);
  ck_assert(!second.done);
  ck_assert_int_ge(await(&second), 0);
}
END_TEST

START_TEST(test_nonblocking_put) {
  forkq_loop_queue_t *queue = queue_of(0);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(get_nowait(queue), 1);
}
END_TEST

START_TEST(test_get_cancel_drop_one_pending_reader) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task reader;
  start_get(&reader, queue);
  turn();
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(put_nowait(queue, 2), 0);
  cancel(&reader);
  ck_assert_int_eq(await(&reader), UV_ECANCELED);
  ck_assert_int_eq(await_get(queue), 1);
}
END_TEST

START_TEST(test_get_cancel_drop_many_pending_readers) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task reader1, reader2, reader3;
  start_get(&reader1, queue);
  start_get(&reader2, queue);
  start_get(&reader3, queue);
  turn();
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(put_nowait(queue, 2), 0);
  cancel(&reader1);
  ck_assert_int_eq(await(&reader1), UV_ECANCELED);
  /* There in no certain order. */
  ck_assert_int_eq(await(&reader2), 1);
  ck_assert_int_eq(await(&reader3), 2);
}
END_TEST

START_TEST(test_put_cancel_drop) {
  forkq_loop_queue_t *queue = queue_of(1);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  struct task writer;
  start_put(&writer, queue, 2);
  turn();
  ck_assert_int_eq(get_nowait(queue), 1);
  cancel(&writer);
  ck_assert_int_eq(await(&writer), UV_ECANCELED);
  ck_assert_int_eq(await_put(queue, 2), 0);
  ck_assert_int_eq(get_nowait(queue), 2);
  ck_assert_int_eq(forkq_loop_queue_qsize(queue), 0);
}
END_TEST

START_TEST(test_nonblocking_put_exception) {
  forkq_loop_queue_t *queue = queue_of(1);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(put_nowait(queue, 2), FORKQ_FULL);
}
END_TEST

/* There the maxsize is 1.3, for which no C type of a count stands: it holds 2. */
START_TEST(test_float_maxsize) {
  forkq_loop_queue_t *queue = queue_of(2);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  ck_assert_int_eq(put_nowait(queue, 2), 0);
  ck_assert_int_eq(forkq_loop_queue_full(queue), 1);
  ck_assert_int_eq(put_nowait(queue, 3), FORKQ_FULL);

  queue = queue_of(2);
  ck_assert_int_eq(await_put(queue, 1), 0);
  ck_assert_int_eq(await_put(queue, 2), 0);
  ck_assert_int_eq(forkq_loop_queue_full(queue), 1);
}
END_TEST

START_TEST(test_put_cancelled) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task putter;
  start_put(&putter, queue, 1);
  ck_assert_int_eq(await_get(queue), 1);
  ck_assert(putter.done);
  ck_assert_int_ge(putter.result, 0);
}
END_TEST

START_TEST(test_put_cancelled_race) {
  forkq_loop_queue_t *queue = queue_of(1);
  struct task a, b, c;
  start_put(&a, queue, 'a');
  start_put(&b, queue, 'b');
  start_put(&c, queue, 'X');
  turn();
  ck_assert(a.done);
  ck_assert(!b.done);
  cancel(&c);
  turn();
  ck_assert(c.done);
  ck_assert_int_eq(get_nowait(queue), 'a');
  turn();
  ck_assert_int_eq(get_nowait(queue), 'b');
  ck_assert_int_ge(await(&b), 0);
}
END_TEST

START_TEST(test_put_with_waiting_getters) {
  forkq_loop_queue_t *queue = queue_of(0);
  struct task getter;
  start_get(&getter, queue);
  turn();
  ck_assert_int_eq(await_put(queue, 'a'), 0);
  ck_assert_int_eq(await(&getter), 'a');
}
END_TEST

START_TEST(test_why_are_putters_waiting) {
  forkq_loop_queue_t *queue = queue_of(2);
  struct task putters[4];
  for (int i = 0; i < 4; i++)
    start_put(&putters[i], queue, i);
  turn();
  int64_t count = forkq_loop_queue_qsize(queue);
  ck_assert_int_eq(count, 2);
  for (int64_t i = 0; i < count; i++)
    ck_assert_int_ge(get_nowait(queue), 0);
  for (int i = 0; i < 4; i++)
    ck_assert_int_ge(await(&putters[i]), 0);
}
END_TEST

START_TEST(test_cancelled_puts_not_being_held_in_self_putters) {
  forkq_loop_queue_t *queue = queue_of(1);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  struct task putter;
  start_put(&putter, queue, 1);
  turn();
  ck_assert_uint_eq(stats_of(queue).putters, 1);
  cancel(&putter);
  ck_assert_int_eq(await(&putter), UV_ECANCELED);
  ck_assert_uint_eq(stats_of(queue).putters, 0);
}
END_TEST

START_TEST(test_cancelled_put_silence_value_error_exception) {
  forkq_loop_queue_t *queue = queue_of(1);
  ck_assert_int_eq(put_nowait(queue, 1), 0);
  struct task putter;
  start_put(&putter, queue, 1);
  turn();
  ck_assert_int_eq(get_nowait(queue), 1);
  cancel(&putter);
  ck_assert_int_eq(await(&putter), UV_ECANCELED);
}
END_TEST

int main(void) {
  const TTest *basic[] = { test_repr, test_str,   test_empty,
                           test_full, test_order, test_maxsize };
  const TTest *order[] = { test_order };
  const TTest *get[] = { test_blocking_get,
                         test_get_with_putters,
                         test_blocking_get_wait,
                         test_nonblocking_get,
                         test_nonblocking_get_exception,
                         test_get_cancelled_race,
                         test_get_with_waiting_putters,
                         test_why_are_getters_waiting,
                         test_cancelled_getters_not_being_held_in_self_getters };
  const TTest *put[] = { test_blocking_put,
                         test_blocking_put_wait,
                         test_nonblocking_put,
                         test_get_cancel_drop_one_pending_reader,
                         test_get_cancel_drop_many_pending_readers,
                         test_put_cancel_drop,
                         test_nonblocking_put_exception,
                         test_float_maxsize,
                         test_put_cancelled,
                         test_put_cancelled_race,
                         test_put_with_waiting_getters,
                         test_why_are_putters_waiting,
                         test_cancelled_puts_not_being_held_in_self_putters,
                         test_cancelled_put_silence_value_error_exception };
  Suite *suite = suite_create("conformance_asyncio_calls");
  add_class(suite, "QueueBasicTests", set_up, basic, LENGTH(basic));
  add_class(suite, "QueueGetTests", set_up, get, LENGTH(get));
  add_class(suite, "QueuePutTests", set_up, put, LENGTH(put));
  add_class(suite, "LifoQueueTests", set_up_lifo, order, LENGTH(order));
  add_class(suite, "PriorityQueueTests", set_up_priority, order, LENGTH(order));
  return support_main(suite);
}
