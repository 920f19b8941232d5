/* The loop queue: order, cancellation, what keeps the loop alive, bad use, and a model that
 * every kind of it is compared with. What CPython tests is in test_conformance_asyncio.c. */
#include "support.h"

#include <check.h>
#include <errno.h>
#include <forkq/loop_queue.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVED_IN_A_TURN 32

static uv_loop_t loop;
static forkq_loop_queue_t queue;
static bool is_open;
static int closed;
static int disposed_count;
static int fds_before;

/* Set while a call of the library is under way that must not call back. */
static bool in_call;
#define CALL(call) (in_call = true, result = (call), in_call = false, result)
static int result;

/* How the requests ended, in that order. */
static struct end {
  forkq_loop_queue_req_t *req;
  int status;
  intptr_t item;
} ends[4096];
static size_t end_count;

static void on_end(forkq_loop_queue_req_t *req, int status) {
  support_assert(!in_call);
  support_assert(req->queue == NULL);
  support_assert(end_count < sizeof ends / sizeof *ends);
  ends[end_count++] = (struct end){ req, status, (intptr_t)req->item };
}

static void on_close(forkq_loop_queue_t *q) {
  ck_assert(!in_call);
  ck_assert_ptr_eq(q, &queue);
  closed++;
}

static void set_up(void) {
  support_heap_install();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  fds_before = support_open_fds();
  end_count = 0;
  closed = disposed_count = 0;
  is_open = in_call = false;
}

static int close_queue(void) {
  is_open = false;
  return CALL(forkq_loop_queue_close(&queue, on_close));
}

static void run(void) {
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static void turn(void) {
  uv_run(&loop, UV_RUN_NOWAIT);
}

static void tear_down(void) {
  support_heap_fail_at(0, false);
  if (is_open)
    ck_assert_int_ge(close_queue(), 0);
  run();
  ck_assert_int_eq(closed, 1);
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  ck_assert_int_eq(support_heap_live(), 0);
}

static void open_queue(int64_t maxsize) {
  ck_assert_int_eq(forkq_loop_queue_init(&loop, &queue, maxsize), 0);
  is_open = true;
}

static int put(forkq_loop_queue_req_t *req, intptr_t item) {
  return CALL(forkq_loop_queue_put(&queue, req, (void *)item, on_end));
}

static int get(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_get(&queue, req, on_end));
}

static int join(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_join(&queue, req, on_end));
}

static int cancel(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_cancel(req));
}

static int put_nowait(intptr_t item) {
  return CALL(forkq_loop_queue_put_nowait(&queue, (void *)item));
}

static intptr_t get_nowait(void) {
  void *item = (void *)-1;
  int r = CALL(forkq_loop_queue_get_nowait(&queue, &item));
  if (r < 0)
    ck_assert_ptr_eq(item, (void *)-1);
  return r < 0 ? r : (intptr_t)item;
}

static void assert_end(size_t i, const forkq_loop_queue_req_t *req, int status,
                       intptr_t item) {
  ck_assert_uint_lt(i, end_count);
  ck_assert_ptr_eq(ends[i].req, req);
  ck_assert_int_eq(ends[i].status, status);
  ck_assert_int_eq(ends[i].item, item);
}

/* ---- order and overtaking ---------------------------------------------------------- */

START_TEST(waiters_are_served_first_in_first_out) {
  forkq_loop_queue_req_t getters[5] = { 0 }, putters[5] = { 0 };
  open_queue(2);
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(get(&getters[i]), 0);
  turn();
  ck_assert_uint_eq(end_count, 0);
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(put(&putters[i], i), 0);
  run();
  ck_assert_uint_eq(end_count, 10);
  int next_getter = 0, next_putter = 0;
  for (size_t i = 0; i < 10; i++) {
    ck_assert_int_eq(ends[i].status, 0);
    if (ends[i].req == &getters[next_getter])
      ck_assert_int_eq(ends[i].item, next_getter++);
    else
      ck_assert_ptr_eq(ends[i].req, &putters[next_putter++]);
  }
}
END_TEST

START_TEST(what_can_go_on_goes_in_the_order_of_its_start) {
  forkq_loop_queue_req_t reqs[6] = { 0 };
  open_queue(0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&reqs[0], 2), 0);
  ck_assert_int_eq(get(&reqs[1]), 0);
  ck_assert_int_eq(put(&reqs[2], 3), 0);
  ck_assert_int_eq(get(&reqs[3]), 0);
  ck_assert_int_eq(get(&reqs[4]), 0);
  ck_assert_int_eq(put(&reqs[5], 4), 0);
  turn();
  for (size_t i = 0; i < 6; i++)
    ck_assert_ptr_eq(ends[i].req, &reqs[i]);
  assert_end(1, &reqs[1], 0, 1);
  assert_end(3, &reqs[3], 0, 2);
  assert_end(4, &reqs[4], 0, 3);
}
END_TEST

START_TEST(an_overtaken_getter_keeps_its_place) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 };
  open_queue(0);
  ck_assert_int_eq(get(&first), 0);
  ck_assert_int_eq(get(&second), 0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(get_nowait(), 1);
  turn();
  ck_assert_uint_eq(end_count, 0);
  ck_assert_int_eq(put_nowait(2), 0);
  turn();
  assert_end(0, &first, 0, 2);
  ck_assert_uint_eq(end_count, 1);
  ck_assert_int_eq(put_nowait(3), 0);
  turn();
  assert_end(1, &second, 0, 3);
}
END_TEST

START_TEST(an_overtaken_putter_keeps_its_place) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 };
  open_queue(1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&first, 2), 0);
  ck_assert_int_eq(put(&second, 3), 0);
  ck_assert_int_eq(get_nowait(), 1);
  ck_assert_int_eq(put_nowait(4), 0);
  ck_assert_int_eq(put_nowait(5), FORKQ_FULL);
  turn();
  ck_assert_uint_eq(end_count, 0);
  ck_assert_int_eq(get_nowait(), 4);
  turn();
  assert_end(0, &first, 0, 2);
  ck_assert_uint_eq(end_count, 1);
  ck_assert_int_eq(get_nowait(), 2);
  turn();
  assert_end(1, &second, 0, 3);
}
END_TEST

START_TEST(a_put_is_in_the_queue_from_its_callback_on) {
  forkq_loop_queue_req_t req = { 0 };
  open_queue(0);
  ck_assert_int_eq(put(&req, 1), 0);
  ck_assert_int_eq(forkq_loop_queue_qsize(&queue), 0);
  ck_assert_int_eq(get_nowait(), FORKQ_EMPTY);
  turn();
  assert_end(0, &req, 0, 1);
  ck_assert_int_eq(forkq_loop_queue_qsize(&queue), 1);
}
END_TEST

/* ---- cancelling -------------------------------------------------------------------- */

START_TEST(a_cancelled_request_calls_back_once_and_later) {
  forkq_loop_queue_req_t getter = { 0 }, putter = { 0 }, joiner = { 0 };
  open_queue(1);
  ck_assert_int_eq(get(&getter), 0);
  ck_assert_int_eq(cancel(&getter), 0);
  ck_assert_int_eq(cancel(&getter), FORKQ_ENOTPENDING);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&putter, 2), 0);
  ck_assert_int_eq(join(&joiner), 0);
  ck_assert_int_eq(cancel(&joiner), 0);
  ck_assert_int_eq(cancel(&putter), 0);
  ck_assert_uint_eq(end_count, 0);
  run();
  ck_assert_uint_eq(end_count, 3);
  assert_end(0, &getter, UV_ECANCELED, 0);
  assert_end(1, &joiner, UV_ECANCELED, 0);
  assert_end(2, &putter, UV_ECANCELED, 2);
  ck_assert_int_eq(get_nowait(), 1);
}
END_TEST

START_TEST(cancelling_what_is_not_pending_is_an_error) {
  forkq_loop_queue_req_t req = { 0 };
  open_queue(0);
  ck_assert_int_eq(cancel(NULL), FORKQ_ENULL);
  ck_assert_int_eq(cancel(&req), FORKQ_ENOTPENDING);
  ck_assert_int_eq(put(&req, 1), 0);
  turn();
  ck_assert_int_eq(cancel(&req), FORKQ_ENOTPENDING);
  run();
  ck_assert_uint_eq(end_count, 1);
}
END_TEST

START_TEST(a_getter_cancelled_on_its_turn_leaves_the_item_to_the_next) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 };
  open_queue(0);
  ck_assert_int_eq(get(&first), 0);
  ck_assert_int_eq(get(&second), 0);
  turn();
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(cancel(&first), 0);
  turn();
  ck_assert_uint_eq(end_count, 2);
  assert_end(0, &second, 0, 1);
  assert_end(1, &first, UV_ECANCELED, 0);
}
END_TEST

START_TEST(a_putter_cancelled_on_its_turn_leaves_the_room_to_the_next) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 };
  open_queue(1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&first, 2), 0);
  ck_assert_int_eq(put(&second, 3), 0);
  turn();
  ck_assert_int_eq(get_nowait(), 1);
  ck_assert_int_eq(cancel(&first), 0);
  run();
  ck_assert_uint_eq(end_count, 2);
  assert_end(0, &second, 0, 3);
  assert_end(1, &first, UV_ECANCELED, 2);
  ck_assert_int_eq(get_nowait(), 3);
  ck_assert_int_eq(get_nowait(), FORKQ_EMPTY);
}
END_TEST

static void cancel_the_other(forkq_loop_queue_req_t *req, int status) {
  on_end(req, status);
  ck_assert_int_eq(forkq_loop_queue_cancel(req->data), 0);
}

START_TEST(a_callback_may_cancel_who_comes_next) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 };
  open_queue(0);
  first.data = &second;
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put_nowait(2), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_get(&queue, &first, cancel_the_other)), 0);
  ck_assert_int_eq(get(&second), 0);
  run();
  ck_assert_uint_eq(end_count, 2);
  assert_end(0, &first, 0, 1);
  assert_end(1, &second, UV_ECANCELED, 0);
  ck_assert_int_eq(get_nowait(), 2);
}
END_TEST

/* ---- the loop ---------------------------------------------------------------------- */

START_TEST(the_queue_alone_keeps_no_loop_alive) {
  open_queue(0);
  ck_assert_int_eq(uv_loop_alive(&loop), 0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(uv_loop_alive(&loop), 0);
  run();
}
END_TEST

START_TEST(a_loop_with_waiters_is_alive_and_sleeps) {
  forkq_loop_queue_req_t getter = { 0 }, joiner = { 0 };
  open_queue(0);
  ck_assert_int_eq(get(&getter), 0);
  ck_assert_int_ne(uv_loop_alive(&loop), 0);
  turn(); /* before its first turn the loop does not know */
  ck_assert_int_eq(uv_backend_timeout(&loop), -1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(uv_backend_timeout(&loop), 0);
  ck_assert_int_eq(join(&joiner), 0);
  turn();
  assert_end(0, &getter, 0, 1);
  ck_assert_int_ne(uv_loop_alive(&loop), 0);
  ck_assert_int_eq(uv_backend_timeout(&loop), -1);
  ck_assert_int_eq(cancel(&joiner), 0);
  ck_assert_int_eq(uv_backend_timeout(&loop), 0);
  run();
  ck_assert_int_eq(uv_loop_alive(&loop), 0);
}
END_TEST

START_TEST(a_loop_sleeps_again_when_the_waiter_was_overtaken) {
  forkq_loop_queue_req_t getter = { 0 };
  open_queue(0);
  ck_assert_int_eq(get(&getter), 0);
  turn();
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(uv_backend_timeout(&loop), 0);
  ck_assert_int_eq(get_nowait(), 1);
  ck_assert_int_eq(uv_backend_timeout(&loop), -1);
  turn();
  ck_assert_int_eq(uv_backend_timeout(&loop), -1);
  ck_assert_int_eq(cancel(&getter), 0);
  run();
}
END_TEST

static int turns, calls, calls_in_turn, most_in_turn;

static void count_turn(uv_check_t *check) {
  (void)check;
  turns++;
  most_in_turn = calls_in_turn > most_in_turn ? calls_in_turn : most_in_turn;
  calls_in_turn = 0;
}

/* Puts an item and times_got it, again and again. */
static void get_for_ever(forkq_loop_queue_req_t *req, int status) {
  support_assert(!in_call);
  calls++;
  calls_in_turn++;
  if (status < 0)
    return;
  support_assert(forkq_loop_queue_put_nowait(&queue, NULL) == 0);
  support_assert(CALL(forkq_loop_queue_get(&queue, req, get_for_ever)) == 0);
}

static void stop_after_some_time(uv_timer_t *timer) {
  forkq_loop_queue_req_t *req = timer->data;
  if (calls < 1000)
    return;
  uv_timer_stop(timer);
  ck_assert_int_eq(forkq_loop_queue_cancel(req), 0);
}

START_TEST(callbacks_that_start_requests_let_others_have_their_turn) {
  forkq_loop_queue_req_t req = { 0 };
  uv_check_t check;
  uv_timer_t timer;
  open_queue(0);
  uv_check_init(&loop, &check);
  uv_check_start(&check, count_turn);
  uv_unref((uv_handle_t *)&check);
  uv_timer_init(&loop, &timer);
  timer.data = &req;
  uv_timer_start(&timer, stop_after_some_time, 1, 1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_get(&queue, &req, get_for_ever)), 0);
  run();
  ck_assert_int_ge(calls, 1000);
  ck_assert_int_eq(most_in_turn, SERVED_IN_A_TURN);
  ck_assert_int_ge(turns, calls / SERVED_IN_A_TURN);
  uv_close((uv_handle_t *)&check, NULL);
  uv_close((uv_handle_t *)&timer, NULL);
  run();
}
END_TEST

/* A getter and a putter that both start again: neither may live at the other's cost. */
static int times_got, times_put;

static void get_again(forkq_loop_queue_req_t *req, int status) {
  if (status < 0)
    return;
  times_got++;
  support_assert(times_got - times_put <= 2 && times_put - times_got <= 2);
  support_assert(forkq_loop_queue_get(&queue, req, get_again) == 0);
}

static void put_again(forkq_loop_queue_req_t *req, int status) {
  if (status < 0)
    return;
  if (++times_put == 10000)
    ck_assert_int_eq(forkq_loop_queue_cancel(req->data), 0);
  else
    support_assert(forkq_loop_queue_put(&queue, req, NULL, put_again) == 0);
}

START_TEST(getters_and_putters_take_turns) {
  forkq_loop_queue_req_t getter = { 0 }, putter = { 0 };
  open_queue(0);
  putter.data = &getter;
  ck_assert_int_eq(forkq_loop_queue_get(&queue, &getter, get_again), 0);
  ck_assert_int_eq(forkq_loop_queue_put(&queue, &putter, NULL, put_again), 0);
  run();
  ck_assert_int_eq(times_put, 10000);
}
END_TEST

static void count_handle(uv_handle_t *handle, void *arg) {
  *(int *)arg += handle->data == &queue;
}

START_TEST(uv_walk_meets_two_handles_whose_data_is_the_queue) {
  int count = 0;
  open_queue(0);
  uv_walk(&loop, count_handle, &count);
  ck_assert_int_eq(count, 2);
}
END_TEST

/* ---- tasks ------------------------------------------------------------------------- */

START_TEST(a_joiner_is_released_once_all_is_done_whatever_is_put_then) {
  forkq_loop_queue_req_t before = { 0 }, after = { 0 };
  open_queue(0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(join(&before), 0);
  turn();
  ck_assert_uint_eq(end_count, 0);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), 0);
  ck_assert_int_eq(put_nowait(2), 0);
  ck_assert_int_eq(join(&after), 0);
  turn();
  ck_assert_uint_eq(end_count, 1);
  assert_end(0, &before, 0, 0);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), 0);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), FORKQ_ETASKDONE);
  run();
  assert_end(1, &after, 0, 0);
}
END_TEST

START_TEST(a_released_joiner_can_still_be_cancelled) {
  forkq_loop_queue_req_t req = { 0 };
  open_queue(0);
  ck_assert_int_eq(join(&req), 0);
  ck_assert_int_eq(cancel(&req), 0);
  run();
  ck_assert_uint_eq(end_count, 1);
  assert_end(0, &req, UV_ECANCELED, 0);
}
END_TEST

START_TEST(dropped_items_never_make_the_tasks_negative) {
  forkq_loop_queue_req_t req = { 0 };
  open_queue(0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put_nowait(i), 0);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(forkq_loop_queue_task_done(&queue), 0);
  ck_assert_int_eq(join(&req), 0);
  ck_assert_int_eq(forkq_loop_queue_shutdown(&queue, 1), 3);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), FORKQ_ETASKDONE);
  run();
  assert_end(0, &req, 0, 0);
}
END_TEST

/* ---- shutdown and close ------------------------------------------------------------ */

static intptr_t disposed[8];

static void dispose(forkq_loop_queue_t *q, void *item) {
  ck_assert_ptr_eq(q, &queue);
  disposed[disposed_count++] = (intptr_t)item;
}

START_TEST(a_shutdown_lets_gets_have_what_is_left) {
  forkq_loop_queue_req_t getters[3] = { 0 }, putter = { 0 }, late = { 0 };
  open_queue(2);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put_nowait(2), 0);
  ck_assert_int_eq(put(&putter, 3), 0);
  ck_assert_int_eq(forkq_loop_queue_shutdown(&queue, 0), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(&getters[i]), 0);
  ck_assert_int_eq(put(&late, 4), FORKQ_ESHUTDOWN);
  run();
  ck_assert_uint_eq(end_count, 4);
  assert_end(0, &putter, FORKQ_ESHUTDOWN, 3);
  assert_end(1, &getters[0], 0, 1);
  assert_end(2, &getters[1], 0, 2);
  assert_end(3, &getters[2], FORKQ_ESHUTDOWN, 0);
  ck_assert_int_eq(get(&late), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get_nowait(), FORKQ_ESHUTDOWN);
}
END_TEST

START_TEST(a_shutdown_alone_ends_what_waits) {
  forkq_loop_queue_req_t getter = { 0 }, putter = { 0 };
  open_queue(1);
  ck_assert_int_eq(get(&getter), 0);
  turn();
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 0)), 0);
  turn();
  assert_end(0, &getter, FORKQ_ESHUTDOWN, 0);
  ck_assert_int_eq(close_queue(), 0);
  run();

  closed = 0;
  open_queue(1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&putter, 2), 0);
  turn();
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 0)), 0);
  turn();
  assert_end(1, &putter, FORKQ_ESHUTDOWN, 2);
}
END_TEST

START_TEST(a_shutdown_comes_before_room) {
  forkq_loop_queue_req_t putter = { 0 };
  open_queue(1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put(&putter, 2), 0);
  ck_assert_int_eq(get_nowait(), 1);
  ck_assert_int_eq(forkq_loop_queue_shutdown(&queue, 0), 0);
  run();
  assert_end(0, &putter, FORKQ_ESHUTDOWN, 2);
  ck_assert_int_eq(forkq_loop_queue_empty(&queue), 1);
}
END_TEST

START_TEST(a_second_shutdown_may_add_immediate) {
  open_queue(0);
  queue.dispose = dispose;
  for (int i = 1; i <= 3; i++)
    ck_assert_int_eq(put_nowait(i), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 0)), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 0)), 0);
  ck_assert_int_eq(forkq_loop_queue_qsize(&queue), 3);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 1)), 3);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 1)), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 0)), 0);
  ck_assert_int_eq(forkq_loop_queue_qsize(&queue), 0);
  ck_assert_int_eq(disposed_count, 3);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(disposed[i], i + 1);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), FORKQ_ETASKDONE);
}
END_TEST

START_TEST(close_calls_back_everything_that_waits_then_itself) {
  forkq_loop_queue_req_t putters[40] = { 0 }, joiner = { 0 }, cancelled = { 0 };
  open_queue(1);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(join(&joiner), 0);
  for (int i = 0; i < 40; i++)
    ck_assert_int_eq(put(&putters[i], i), 0);
  ck_assert_int_eq(put(&cancelled, 50), 0);
  ck_assert_int_eq(cancel(&cancelled), 0);
  ck_assert_int_eq(close_queue(), 1);
  ck_assert_uint_eq(end_count, 0);
  turn();
  ck_assert_uint_eq(end_count, SERVED_IN_A_TURN);
  ck_assert_int_eq(closed, 0);
  run();
  ck_assert_int_eq(closed, 1);
  ck_assert_uint_eq(end_count, 42);
  for (size_t i = 0; i < 42; i++)
    ck_assert_int_eq(ends[i].status, UV_ECANCELED);
  for (size_t i = 0; i < 40; i++)
    assert_end(i + 1, &putters[i], UV_ECANCELED, (intptr_t)i);
}
END_TEST

START_TEST(getters_beside_items_get_nothing_from_a_closed_queue) {
  forkq_loop_queue_req_t getter = { 0 }, putter = { 0 }, joiner = { 0 };
  open_queue(0);
  queue.dispose = dispose;
  ck_assert_int_eq(join(&joiner), 0);
  ck_assert_int_eq(get(&getter), 0);
  ck_assert_int_eq(put(&putter, 2), 0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(close_queue(), 1);
  ck_assert_int_eq(disposed_count, 1);
  ck_assert_int_eq(disposed[0], 1);
  ck_assert_int_eq(cancel(&putter), 0);
  run();
  /* It was released before: true is true. */
  assert_end(0, &joiner, 0, 0);
  assert_end(1, &getter, UV_ECANCELED, 0);
  assert_end(2, &putter, UV_ECANCELED, 2);
}
END_TEST

static forkq_loop_queue_req_t another;

static void try_all_then(forkq_loop_queue_req_t *req, int status) {
  on_end(req, status);
  ck_assert_int_eq(forkq_loop_queue_get(&queue, req, on_end), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_loop_queue_get(&queue, &another, on_end), FORKQ_ECLOSED);
}

START_TEST(a_closing_queue_takes_no_requests) {
  forkq_loop_queue_req_t req = { 0 };
  void *item;
  forkq_loop_queue_stats_t stats = { .size = sizeof stats };
  open_queue(0);
  ck_assert_int_eq(CALL(forkq_loop_queue_get(&queue, &req, try_all_then)), 0);
  ck_assert_int_eq(close_queue(), 0);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_loop_queue_close(&queue, on_close), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_shutdown(&queue, 1), FORKQ_ECLOSED);
    ck_assert_int_eq(put_nowait(1), FORKQ_ECLOSED);
    ck_assert_int_eq(put(&another, 1), FORKQ_ECLOSED);
    ck_assert_int_eq(get(&another), FORKQ_ECLOSED);
    ck_assert_int_eq(join(&another), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_get_nowait(&queue, &item), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_task_done(&queue), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_qsize(&queue), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_empty(&queue), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_full(&queue), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_loop_queue_stats(&queue, &stats), FORKQ_ECLOSED);
    run();
  }
  ck_assert_uint_eq(end_count, 1);
  ck_assert_int_eq(closed, 1);
}
END_TEST

static void close_in_callback(forkq_loop_queue_req_t *req, int status) {
  on_end(req, status);
  ck_assert_int_eq(close_queue(), 1);
}

START_TEST(a_callback_may_close_the_queue) {
  forkq_loop_queue_req_t first = { 0 }, second = { 0 }, third = { 0 };
  open_queue(0);
  ck_assert_int_eq(put_nowait(1), 0);
  ck_assert_int_eq(put_nowait(2), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_get(&queue, &first, close_in_callback)), 0);
  ck_assert_int_eq(get(&second), 0);
  ck_assert_int_eq(get(&third), 0);
  run();
  ck_assert_uint_eq(end_count, 3);
  assert_end(0, &first, 0, 1);
  assert_end(1, &second, UV_ECANCELED, 0);
  assert_end(2, &third, UV_ECANCELED, 0);
}
END_TEST

static void close_in_dispose(forkq_loop_queue_t *q, void *item) {
  dispose(q, item);
  int r = forkq_loop_queue_close(q, on_close);
  ck_assert_int_eq(r, is_open ? 0 : FORKQ_ECLOSED);
  is_open = false;
}

START_TEST(dispose_may_use_the_queue) {
  open_queue(0);
  queue.dispose = close_in_dispose;
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put_nowait(i), 0);
  ck_assert_int_eq(CALL(forkq_loop_queue_shutdown(&queue, 1)), 3);
  ck_assert_int_eq(disposed_count, 3);
}
END_TEST

static void free_request(forkq_loop_queue_req_t *req, int status) {
  on_end(req, status);
  free(req);
}

static void free_queue(forkq_loop_queue_t *q) {
  closed++;
  free(q);
}

START_TEST(callbacks_may_free_what_is_theirs_again) {
  forkq_loop_queue_t *q = malloc(sizeof *q);
  memset(q, 0xaa, sizeof *q);
  q->data = &closed;
  ck_assert_int_eq(forkq_loop_queue_init(&loop, q, 1), 0);
  ck_assert_ptr_eq(q->data, &closed);
  for (int i = 0; i < 100; i++) {
    forkq_loop_queue_req_t *req = calloc(1, sizeof *req);
    ck_assert_int_eq(i % 2 ? forkq_loop_queue_get(q, req, free_request)
                           : forkq_loop_queue_put(q, req, NULL, free_request),
                     0);
  }
  ck_assert_int_eq(forkq_loop_queue_put_nowait(q, NULL), 0);
  turn();
  ck_assert_int_ge(forkq_loop_queue_close(q, free_queue), 0);
  run();
  ck_assert_uint_eq(end_count, 100);
}
END_TEST

START_TEST(close_needs_no_callback) {
  open_queue(0);
  ck_assert_int_eq(forkq_loop_queue_close(&queue, NULL), 0);
  run();
  open_queue(0);
}
END_TEST

/* ---- bad use ----------------------------------------------------------------------- */

START_TEST(a_request_is_used_once_at_a_time) {
  forkq_loop_queue_req_t req = { 0 };
  forkq_loop_queue_t other;
  open_queue(0);
  ck_assert_int_eq(forkq_loop_queue_init(&loop, &other, 0), 0);
  ck_assert_int_eq(get(&req), 0);
  ck_assert_int_eq(get(&req), FORKQ_EINUSE);
  ck_assert_int_eq(put(&req, 2), FORKQ_EINUSE);
  ck_assert_int_eq(join(&req), FORKQ_EINUSE);
  ck_assert_int_eq(forkq_loop_queue_get(&other, &req, on_end), FORKQ_EINUSE);
  ck_assert_int_eq(put_nowait(1), 0);
  run();
  ck_assert_uint_eq(end_count, 1);
  assert_end(0, &req, 0, 1);
  ck_assert_int_eq(put(&req, 2), 0);
  ck_assert_int_eq(cancel(&req), 0);
  ck_assert_int_eq(put(&req, 3), FORKQ_EINUSE);
  run();
  assert_end(1, &req, UV_ECANCELED, 2);
  ck_assert_int_eq(forkq_loop_queue_close(&other, NULL), 0);
  run();
}
END_TEST

static int compare(const void *a, const void *b, void *arg) {
  (void)arg;
  return ((intptr_t)a > (intptr_t)b) - ((intptr_t)a < (intptr_t)b);
}

START_TEST(null_is_an_error_but_for_items) {
  forkq_loop_queue_req_t req = { 0 };
  forkq_loop_queue_stats_t stats = { .size = sizeof stats };
  void *item;
  open_queue(0);
  ck_assert_int_eq(forkq_loop_queue_init(NULL, &queue, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_init(&loop, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_init_lifo(NULL, &queue, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_init_priority(&loop, &queue, 0, NULL, NULL),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_init_priority(NULL, &queue, 0, compare, NULL),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_put(NULL, &req, &item, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_put(&queue, NULL, &item, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_put(&queue, &req, &item, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_put_nowait(NULL, &item), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_get(NULL, &req, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_get(&queue, NULL, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_get(&queue, &req, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_get_nowait(NULL, &item), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_get_nowait(&queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_task_done(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_join(NULL, &req, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_join(&queue, NULL, on_end), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_join(&queue, &req, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_shutdown(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq((int)forkq_loop_queue_qsize(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_empty(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_full(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_stats(NULL, &stats), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_queue_stats(&queue, NULL), FORKQ_ENULL);
  stats.size = 1;
  ck_assert_int_eq(forkq_loop_queue_stats(&queue, &stats), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_loop_queue_close(NULL, NULL), FORKQ_ENULL);

  ck_assert_int_eq(forkq_loop_queue_put(&queue, &req, NULL, on_end), 0);
  run();
  ck_assert_int_eq(forkq_loop_queue_get_nowait(&queue, &item), 0);
  ck_assert_ptr_null(item);
}
END_TEST

START_TEST(maxsize_0_or_less_is_no_limit) {
  static const int64_t sizes[] = { 0, -1, INT64_MIN };
  for (int s = 0; s < 3; s++) {
    open_queue(sizes[s]);
    for (int i = 0; i < 1000; i++)
      ck_assert_int_eq(put_nowait(i), 0);
    ck_assert_int_eq(forkq_loop_queue_full(&queue), 0);
    ck_assert_int_eq(close_queue(), 1000);
    run();
  }
  closed = 1;
}
END_TEST

/* ---- memory ------------------------------------------------------------------------ */

START_TEST(without_memory_a_put_changes_nothing) {
  forkq_loop_queue_req_t req = { 0 };
  forkq_loop_queue_stats_t before = { .size = sizeof before }, after = before;
  open_queue(0);
  int count = 0;
  for (int failures = 0; failures < 4; count++) {
    long requests = support_heap_requests();
    support_heap_fail_at(1, true);
    ck_assert_int_eq(forkq_loop_queue_stats(&queue, &before), 0);
    int r = put_nowait(count);
    if (r < 0) {
      ck_assert_int_eq(r, -ENOMEM);
      ck_assert_int_eq(put(&req, count), -ENOMEM);
      ck_assert_ptr_null(req.queue);
      ck_assert_int_eq(support_heap_requests(), requests + 2);
      ck_assert_int_eq(forkq_loop_queue_stats(&queue, &after), 0);
      ck_assert_mem_eq(&before, &after, sizeof before);
      support_heap_fail_at(0, false);
      ck_assert_int_eq(put_nowait(count), 0);
      failures++;
    }
  }
  support_heap_fail_at(1, true);
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(get_nowait(), i);
  ck_assert_uint_eq(end_count, 0);
}
END_TEST

START_TEST(a_put_that_was_started_needs_no_memory) {
  static forkq_loop_queue_req_t reqs[1000];
  open_queue(600);
  for (int i = 0; i < 1000; i++)
    ck_assert_int_eq(put(&reqs[i], i), 0);
  support_heap_fail_at(1, true);
  for (int i = 0; i < 1000; i++) {
    while (forkq_loop_queue_empty(&queue))
      turn();
    ck_assert_int_eq(get_nowait(), i);
  }
  run();
  ck_assert_uint_eq(end_count, 1000);
}
END_TEST

START_TEST(waiting_puts_take_no_more_memory_than_maxsize_items) {
  static forkq_loop_queue_req_t reqs[1000];
  open_queue(16);
  ck_assert_int_eq(put_nowait(0), 0);
  long before = support_heap_requests();
  for (int i = 0; i < 1000; i++)
    ck_assert_int_eq(put(&reqs[i], i), 0);
  ck_assert_int_eq(support_heap_requests(), before);
}
END_TEST

START_TEST(an_overtaking_put_leaves_the_memory_of_those_that_wait) {
  forkq_loop_queue_req_t reqs[16] = { 0 };
  open_queue(0);
  for (int i = 0; i < 16; i++)
    ck_assert_int_eq(put(&reqs[i], i), 0);
  support_heap_fail_at(1, true);
  ck_assert_int_eq(put_nowait(-1), -ENOMEM);
  run();
  ck_assert_uint_eq(end_count, 16);
  for (int i = 0; i < 16; i++)
    ck_assert_int_eq(get_nowait(), i);
}
END_TEST

/* ---- the kinds, against a model ---------------------------------------------------- */

enum kind { FIFO, LIFO, PRIORITY };

/* An item is a rank for the priority queue and a number. Compared by the rank alone. */
#define RANK(item) ((item) >> 32)

static int compare_ranks(const void *a, const void *b, void *arg) {
  ck_assert_ptr_eq(arg, &queue);
  return (int)(RANK((intptr_t)a) - RANK((intptr_t)b));
}

static void open_kind(enum kind kind, int64_t maxsize) {
  if (kind == FIFO)
    ck_assert_int_eq(forkq_loop_queue_init(&loop, &queue, maxsize), 0);
  else if (kind == LIFO)
    ck_assert_int_eq(forkq_loop_queue_init_lifo(&loop, &queue, maxsize), 0);
  else
    ck_assert_int_eq(
        forkq_loop_queue_init_priority(&loop, &queue, maxsize, compare_ranks, &queue), 0);
  is_open = true;
}

/* What must be in the queue, in the order in which it was put. */
#define MODEL_MAX 100000
static struct model {
  enum kind kind;
  int64_t maxsize;
  intptr_t items[MODEL_MAX];
  int count;
  uint64_t put, got;
} model;

static void open_model(enum kind kind, int64_t maxsize) {
  model.kind = kind;
  model.maxsize = maxsize;
  model.count = 0;
  model.put = model.got = 0;
  open_kind(kind, maxsize);
}

static void model_put(intptr_t item) {
  support_assert(model.count < MODEL_MAX);
  model.items[model.count++] = item;
  model.put++;
  support_assert(model.maxsize <= 0 || model.count <= model.maxsize);
}

static int model_next(void) {
  int next = model.kind == LIFO ? model.count - 1 : 0;
  if (model.kind == PRIORITY)
    for (int i = 1; i < model.count; i++)
      if (RANK(model.items[i]) < RANK(model.items[next]))
        next = i;
  return next;
}

static void model_get(intptr_t item) {
  support_assert(model.count > 0);
  int next = model_next();
  support_assert(model.items[next] == item);
  model.count--;
  memmove(&model.items[next], &model.items[next + 1],
          (size_t)(model.count - next) * sizeof *model.items);
  model.got++;
}

static void dispose_from_model(forkq_loop_queue_t *q, void *item) {
  (void)q;
  model_get((intptr_t)item);
}

/* Requests in use, with when they were started: those of one sort end in that order. */
#define REQUESTS 24
enum sort { GET, PUT, CANCELLED };
static struct request {
  forkq_loop_queue_req_t req;
  enum sort sort;
  uint64_t started;
  intptr_t item;
} requests[REQUESTS];
static uint64_t starts, last_get, last_put;

static void on_model_end(forkq_loop_queue_req_t *req, int status) {
  struct request *request = (struct request *)req;
  support_assert(!in_call);
  if (request->sort == CANCELLED || !is_open) {
    support_assert(status == UV_ECANCELED);
    return;
  }
  support_assert(status == 0);
  uint64_t *last = request->sort == GET ? &last_get : &last_put;
  support_assert(request->started > *last);
  *last = request->started;
  if (request->sort == GET)
    model_get((intptr_t)req->item);
  else
    model_put(request->item);
}

static uint64_t seed;

static intptr_t new_item(void) {
  static intptr_t number;
  return (intptr_t)support_random_below(&seed, 5) << 32 | ++number;
}

static void start_or_cancel(struct request *request, bool is_get) {
  if (request->req.queue != NULL) {
    int r = CALL(forkq_loop_queue_cancel(&request->req));
    support_assert(r == (request->sort == CANCELLED ? FORKQ_ENOTPENDING : 0));
    request->sort = CANCELLED;
    return;
  }
  request->sort = is_get ? GET : PUT;
  request->started = ++starts;
  request->item = new_item();
  int r = is_get ? CALL(forkq_loop_queue_get(&queue, &request->req, on_model_end))
                 : CALL(forkq_loop_queue_put(&queue, &request->req, (void *)request->item,
                                             on_model_end));
  support_assert(r == 0);
}

static void one_step(void) {
  intptr_t item = new_item();
  switch (support_random_below(&seed, 8)) {
  case 0:
  case 1:
    turn();
    break;
  case 2:
    if (put_nowait(item) == 0)
      model_put(item);
    else
      support_assert(model.maxsize > 0 && model.count == model.maxsize);
    break;
  case 3:
    if ((item = get_nowait()) != FORKQ_EMPTY)
      model_get(item);
    else
      support_assert(model.count == 0);
    break;
  default:
    start_or_cancel(&requests[support_random_below(&seed, REQUESTS)],
                    support_random_below(&seed, 2));
  }
  support_assert(forkq_loop_queue_qsize(&queue) == model.count);
  support_assert(forkq_loop_queue_empty(&queue) == (model.count == 0));
  support_assert(forkq_loop_queue_full(&queue) ==
                 (model.maxsize > 0 && model.count >= model.maxsize));
}

START_TEST(no_item_is_lost_or_doubled_whatever_is_cancelled) {
  static const int64_t sizes[] = { 0, 1, 3, 20 };
  seed = (uint64_t)_i;
  open_model((enum kind)(_i % 3), sizes[_i / 3]);
  queue.dispose = dispose_from_model;
  for (int i = 0; i < 20000; i++)
    one_step();
  int left = model.count;
  ck_assert_int_eq(close_queue(), left);
  run();
  ck_assert_int_eq(model.count, 0);
  ck_assert_uint_eq(model.put, model.got);
  ck_assert_uint_gt(model.put, 1000);
}
END_TEST

START_TEST(a_large_queue_keeps_its_order) {
  open_model((enum kind)_i, 0);
  seed = 1;
  /* Up and down, so that a ring wraps around in all of its sizes. */
  for (int round = 0; round < 9; round++) {
    for (int i = 0; i < 700; i++) {
      intptr_t item = new_item();
      ck_assert_int_eq(put_nowait(item), 0);
      model_put(item);
    }
    for (int i = 0; i < 500; i++)
      model_get(get_nowait());
  }
  while (model.count > 0)
    model_get(get_nowait());
  ck_assert_int_eq(get_nowait(), FORKQ_EMPTY);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------- */

static uv_async_t wake;
static uv_barrier_t barrier;

static void on_wake(uv_async_t *async) {
  (void)async;
  ck_assert_int_eq(put_nowait(1), 0);
}

static void run_loop(void *arg) {
  (void)arg;
  uv_run(&loop, UV_RUN_DEFAULT);
}

/* At the second time: then all of a turn has gone by. */
static void meet(uv_timer_t *timer) {
  if (uv_timer_get_repeat(timer) == 1) {
    uv_timer_set_repeat(timer, 2);
    return;
  }
  uv_close((uv_handle_t *)timer, NULL);
  uv_barrier_wait(&barrier);
}

START_TEST(another_thread_than_the_loop_s_is_refused) {
  forkq_loop_queue_req_t getter = { 0 }, req = { 0 };
  forkq_loop_queue_stats_t stats = { .size = sizeof stats };
  uv_thread_t thread;
  uv_timer_t timer;
  void *item;
  open_queue(0);
  ck_assert_int_eq(uv_async_init(&loop, &wake, on_wake), 0);
  uv_unref((uv_handle_t *)&wake);
  uv_timer_init(&loop, &timer);
  uv_timer_start(&timer, meet, 1, 1);
  uv_barrier_init(&barrier, 2);
  ck_assert_int_eq(get(&getter), 0);
  ck_assert_int_eq(uv_thread_create(&thread, run_loop, NULL), 0);
  uv_barrier_wait(&barrier); /* after a turn of the loop */
  ck_assert_int_eq(forkq_loop_queue_put_nowait(&queue, NULL), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_put(&queue, &req, NULL, on_end), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_get(&queue, &req, on_end), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_join(&queue, &req, on_end), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_get_nowait(&queue, &item), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_cancel(&getter), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_task_done(&queue), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_shutdown(&queue, 1), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq((int)forkq_loop_queue_qsize(&queue), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_empty(&queue), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_full(&queue), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_stats(&queue, &stats), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_queue_close(&queue, on_close), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(uv_async_send(&wake), 0);
  uv_thread_join(&thread);
  uv_barrier_destroy(&barrier);
  ck_assert_uint_eq(end_count, 1);
  assert_end(0, &getter, 0, 1);
  /* Nothing is pending, and the loop may be run here. */
  ck_assert_int_eq(put(&req, 2), 0);
  run();
  assert_end(1, &req, 0, 2);
  uv_close((uv_handle_t *)&wake, NULL);
}
END_TEST

/* ---- fork -------------------------------------------------------------------------- */

static void go_on_in_child(void *arg) {
  forkq_loop_queue_req_t *getter = arg, req = { 0 };
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_queue_qsize(&queue) == 0);
  CHILD_MUST(put_nowait(10) == 0);
  CHILD_MUST(put_nowait(11) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(end_count == 1 && ends[0].req == getter && ends[0].item == 10);
  CHILD_MUST(get(&req) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(end_count == 2 && ends[1].req == &req && ends[1].item == 11);
  CHILD_MUST(close_queue() == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0 && closed == 1);
  CHILD_MUST(uv_loop_close(&loop) == 0);
}

START_TEST(a_forked_child_has_a_copy_of_its_own) {
  forkq_loop_queue_req_t getter = { 0 };
  open_queue(0);
  ck_assert_int_eq(get(&getter), 0);
  turn();
  pid_t child = support_fork(go_on_in_child, &getter);
  ck_assert_int_eq(support_wait(child), 0);
  turn();
  ck_assert_uint_eq(end_count, 0);
  ck_assert_int_eq(put_nowait(20), 0);
  run();
  ck_assert_uint_eq(end_count, 1);
  assert_end(0, &getter, 0, 20);
}
END_TEST

/* ---- all --------------------------------------------------------------------------- */

int main(void) {
  Suite *suite = suite_create("loop_queue");
  TCase *tcase = tcase_create("all");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 30);
  tcase_add_test(tcase, waiters_are_served_first_in_first_out);
  tcase_add_test(tcase, what_can_go_on_goes_in_the_order_of_its_start);
  tcase_add_test(tcase, an_overtaken_getter_keeps_its_place);
  tcase_add_test(tcase, an_overtaken_putter_keeps_its_place);
  tcase_add_test(tcase, a_put_is_in_the_queue_from_its_callback_on);
  tcase_add_test(tcase, a_cancelled_request_calls_back_once_and_later);
  tcase_add_test(tcase, cancelling_what_is_not_pending_is_an_error);
  tcase_add_test(tcase, a_getter_cancelled_on_its_turn_leaves_the_item_to_the_next);
  tcase_add_test(tcase, a_putter_cancelled_on_its_turn_leaves_the_room_to_the_next);
  tcase_add_test(tcase, a_callback_may_cancel_who_comes_next);
  tcase_add_test(tcase, the_queue_alone_keeps_no_loop_alive);
  tcase_add_test(tcase, a_loop_with_waiters_is_alive_and_sleeps);
  tcase_add_test(tcase, a_loop_sleeps_again_when_the_waiter_was_overtaken);
  tcase_add_test(tcase, callbacks_that_start_requests_let_others_have_their_turn);
  tcase_add_test(tcase, getters_and_putters_take_turns);
  tcase_add_test(tcase, uv_walk_meets_two_handles_whose_data_is_the_queue);
  tcase_add_test(tcase, a_joiner_is_released_once_all_is_done_whatever_is_put_then);
  tcase_add_test(tcase, a_released_joiner_can_still_be_cancelled);
  tcase_add_test(tcase, dropped_items_never_make_the_tasks_negative);
  tcase_add_test(tcase, a_shutdown_lets_gets_have_what_is_left);
  tcase_add_test(tcase, a_shutdown_alone_ends_what_waits);
  tcase_add_test(tcase, a_shutdown_comes_before_room);
  tcase_add_test(tcase, a_second_shutdown_may_add_immediate);
  tcase_add_test(tcase, close_calls_back_everything_that_waits_then_itself);
  tcase_add_test(tcase, getters_beside_items_get_nothing_from_a_closed_queue);
  tcase_add_test(tcase, a_closing_queue_takes_no_requests);
  tcase_add_test(tcase, a_callback_may_close_the_queue);
  tcase_add_test(tcase, dispose_may_use_the_queue);
  tcase_add_test(tcase, callbacks_may_free_what_is_theirs_again);
  tcase_add_test(tcase, close_needs_no_callback);
  tcase_add_test(tcase, a_request_is_used_once_at_a_time);
  tcase_add_test(tcase, null_is_an_error_but_for_items);
  tcase_add_test(tcase, maxsize_0_or_less_is_no_limit);
  tcase_add_test(tcase, without_memory_a_put_changes_nothing);
  tcase_add_test(tcase, a_put_that_was_started_needs_no_memory);
  tcase_add_test(tcase, waiting_puts_take_no_more_memory_than_maxsize_items);
  tcase_add_test(tcase, an_overtaking_put_leaves_the_memory_of_those_that_wait);
  tcase_add_loop_test(tcase, no_item_is_lost_or_doubled_whatever_is_cancelled, 0, 12);
  tcase_add_loop_test(tcase, a_large_queue_keeps_its_order, 0, 3);
  tcase_add_test(tcase, another_thread_than_the_loop_s_is_refused);
  tcase_add_test(tcase, a_forked_child_has_a_copy_of_its_own);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
