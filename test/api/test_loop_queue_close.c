/* The ends of a loop queue: tasks that are joined, a shutdown, and the close. */
#include "loop_queue_helpers.h"

#include <stdlib.h>
#include <string.h>

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

int main(void) {
  Suite *suite = suite_create("loop_queue_close");
  TCase *tcase = tcase_create("all");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 30);
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
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
