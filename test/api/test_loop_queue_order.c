/* The order of a loop queue: who is served first, who is overtaken, and who goes on when a request
 * is cancelled. What CPython tests is in test_conformance_asyncio_*.c. */
#include "loop_queue_helpers.h"

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

int main(void) {
  Suite *suite = suite_create("loop_queue_order");
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
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
