/* A loop queue and what is around it: what keeps the loop alive, how callbacks share its turns,
 * other threads and forked children. */
#include "loop_queue_helpers.h"

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

int main(void) {
  Suite *suite = suite_create("loop_queue_loop");
  TCase *tcase = tcase_create("all");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 30);
  tcase_add_test(tcase, the_queue_alone_keeps_no_loop_alive);
  tcase_add_test(tcase, a_loop_with_waiters_is_alive_and_sleeps);
  tcase_add_test(tcase, a_loop_sleeps_again_when_the_waiter_was_overtaken);
  tcase_add_test(tcase, callbacks_that_start_requests_let_others_have_their_turn);
  tcase_add_test(tcase, getters_and_putters_take_turns);
  tcase_add_test(tcase, uv_walk_meets_two_handles_whose_data_is_the_queue);
  tcase_add_test(tcase, another_thread_than_the_loop_s_is_refused);
  tcase_add_test(tcase, a_forked_child_has_a_copy_of_its_own);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
