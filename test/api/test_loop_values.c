/* Plain values as requests on a loop, gets into a buffer of the program's, and borrowed gets. */
#include "loop_support.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LARGE 100000

static struct outcome a, b, c;
static forkq_item_t item;
static char buffer[LARGE], data[LARGE];

static void set_up(void) {
  loop_set_up_bounded(); /* two items */
  support_fill(data, LARGE, 1);
  memset(buffer, 0, sizeof buffer);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  loop_tear_down();
  free_outcome(&a);
  free_outcome(&b);
  free_outcome(&c);
}

static msgpack_object got(void) {
  ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  return item.object;
}

static void assert_bytes(size_t size) {
  msgpack_object object = got();
  ck_assert_int_eq(object.type, MSGPACK_OBJECT_BIN);
  ck_assert_uint_eq(object.via.bin.size, size);
  ck_assert(memcmp(object.via.bin.ptr, data, size) == 0);
}

/* The request has its own copy when the call returns. */
static int start_put_bytes(struct outcome *outcome, size_t size, int timeout_ms) {
  char *copy = malloc(size + 1);
  memcpy(copy, data, size);
  int r =
      forkq_loop_put_bytes(&outcome->req, handle, copy, size, timeout_ms, keep_outcome);
  memset(copy, 'x', size);
  free(copy);
  return r;
}

static int start_into(struct outcome *outcome, size_t length, int timeout_ms) {
  return forkq_loop_get_bytes_into(&outcome->req, handle, buffer, length, timeout_ms,
                                   keep_outcome);
}

/* ---- putting ------------------------------------------------------------------------------- */

static const size_t sizes[] = { 0, 1, 511, 4060, LARGE };
#define SIZES (int)(sizeof sizes / sizeof *sizes)

START_TEST(bytes_with_room) {
  ck_assert_int_eq(start_put_bytes(&a, sizes[_i], -1), 0);
  ck_assert_int_eq(a.calls, 0); /* never from inside the call */
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  assert_bytes(sizes[_i]);
}
END_TEST

START_TEST(bytes_that_wait_for_room) {
  ck_assert_int_eq(forkq_queue_put_int(queue, 1, 0), 0);
  ck_assert_int_eq(forkq_queue_put_int(queue, 2, 0), 0);
  ck_assert_int_eq(start_put_bytes(&a, sizes[_i], -1), 0);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  ck_assert_int_eq(got().via.i64, 1);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(got().via.i64, 2);
  assert_bytes(sizes[_i]);
}
END_TEST

static void put_str_int_and_nil(int timeout_ms) {
  ck_assert_int_eq(
      forkq_loop_put_str(&a.req, handle, "two words", timeout_ms, keep_outcome), 0);
  ck_assert_int_eq(forkq_loop_put_int(&b.req, handle, -40, timeout_ms, keep_outcome), 0);
  ck_assert_int_eq(forkq_loop_put_nil(&c.req, handle, timeout_ms, keep_outcome), 0);
}

/* The third one waits for room. */
START_TEST(strings_integers_and_nil) {
  put_str_int_and_nil(-1);
  run_until(&b);
  ck_assert_int_eq(c.calls, 0);
  msgpack_object object = got();
  ck_assert_int_eq(object.type, MSGPACK_OBJECT_STR);
  ck_assert_uint_eq(object.via.str.size, 9);
  ck_assert(memcmp(object.via.str.ptr, "two words", 9) == 0);
  run_until(&c);
  ck_assert_int_eq(got().via.i64, -40);
  ck_assert(got().type == MSGPACK_OBJECT_NIL && item.size == 1);
  ck_assert(a.status == 0 && b.status == 0 && c.status == 0);
}
END_TEST

START_TEST(no_room_within_the_timeout) {
  ck_assert_int_eq(forkq_queue_put_int(queue, 1, 0), 0);
  ck_assert_int_eq(forkq_queue_put_int(queue, 2, 0), 0);
  put_str_int_and_nil(0);
  run_until(&a);
  ck_assert(a.status == FORKQ_FULL && b.status == FORKQ_FULL && c.status == FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
}
END_TEST

START_TEST(bad_values_are_the_calls_error) {
  ck_assert_int_eq(forkq_loop_put_bytes(&a.req, handle, NULL, 1, -1, keep_outcome),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_bytes(&a.req, handle, data,
                                        (size_t)FORKQ_MESSAGE_MAX + 1, -1, keep_outcome),
                   FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_loop_put_str(&a.req, handle, NULL, -1, keep_outcome),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_int(&a.req, NULL, 1, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_int(NULL, handle, 1, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_nil(&a.req, handle, -1, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_nil(&a.req, handle, -2, keep_outcome), FORKQ_ETIMEOUT);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* ---- into a buffer of the program's -------------------------------------------------------- */

/* Beside the pipe, or through it. */
static void choose_way(int i) {
  if (i % 2 == 1)
    support_keep_to_pipe(queue);
}

static void put_bytes(size_t size) {
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, size, 10000), 0);
}

START_TEST(into_a_buffer) {
  size_t size = sizes[_i / 2];
  choose_way(_i);
  ck_assert_int_eq(start_into(&a, size, -1), 0);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  put_bytes(size);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_uint_eq(a.req.size, size);
  ck_assert(memcmp(buffer, data, size) == 0);
}
END_TEST

START_TEST(what_does_not_fit_is_got_by_the_next) {
  size_t size = sizes[_i / 2];
  if (size == 0)
    return;
  choose_way(_i);
  put_bytes(size);
  ck_assert_int_eq(start_into(&a, size - 1, -1), 0);
  ck_assert_int_eq(start_into(&b, size, -1), 0);
  run_until(&b);
  ck_assert_int_eq(a.status, FORKQ_ETOOSHORT);
  ck_assert_uint_eq(a.req.size, size);
  ck_assert(a.order < b.order);
  ck_assert_int_eq(b.status, 0);
  ck_assert(memcmp(buffer, data, size) == 0);
}
END_TEST

START_TEST(another_type_is_got_by_the_next) {
  ck_assert_int_eq(forkq_queue_put_int(queue, 5, 0), 0);
  ck_assert_int_eq(forkq_queue_put_str(queue, "text", 0), 0);
  ck_assert_int_eq(start_into(&a, 100, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(start_into(&c, 100, -1), 0);
  run_until(&c);
  ck_assert_int_eq(a.status, FORKQ_EWRONGTYPE);
  ck_assert_uint_eq(a.req.size, 0);
  ck_assert_int_eq(b.value, 5);
  ck_assert_int_eq(c.status, 0);
  ck_assert(c.req.size == 4 && memcmp(buffer, "text", 4) == 0);
}
END_TEST

START_TEST(into_a_buffer_in_vain) {
  ck_assert_int_eq(start_into(&a, 100, 0), 0);
  ck_assert_int_eq(start_into(&b, 100, 10), 0);
  ck_assert_int_eq(start_into(&c, 100, -1), 0);
  run_until(&a);
  run_until(&b);
  ck_assert_int_eq(forkq_loop_cancel(&c.req), 0);
  run_until(&c);
  ck_assert_int_eq(a.status, FORKQ_EMPTY);
  ck_assert_int_eq(b.status, FORKQ_TIMEDOUT);
  ck_assert_int_eq(c.status, UV_ECANCELED);
  ck_assert_int_eq(buffer[0], 0);
  ck_assert_int_eq(forkq_loop_get_bytes_into(&a.req, handle, NULL, 1, -1, keep_outcome),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get_bytes_into(&a.req, handle, buffer, 1, -1, NULL),
                   FORKQ_ENULL);
  put_bytes(0);
  ck_assert_int_eq(forkq_loop_get_bytes_into(&b.req, handle, NULL, 0, -1, keep_outcome),
                   0);
  b.calls = 0;
  run_until(&b);
  ck_assert_int_eq(b.status, 0);
}
END_TEST

/* ---- borrowing ----------------------------------------------------------------------------- */

static int start_borrow(struct outcome *outcome, int timeout_ms) {
  return forkq_loop_get_borrowed(&outcome->req, handle, &outcome->item, timeout_ms,
                                 keep_outcome);
}

/* The bytes outlast the handle; a small item is copied. */
START_TEST(borrowed_until_the_item_ends) {
  put_bytes(LARGE);
  ck_assert_int_eq(forkq_queue_put_int(queue, 5, 0), 0);
  ck_assert_int_eq(start_borrow(&a, -1), 0);
  ck_assert_int_eq(start_borrow(&b, -1), 0);
  run_until(&b);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&a.item), 1);
  ck_assert_int_eq(forkq_item_is_borrowed(&b.item), 0);
  ck_assert_int_eq(b.value, 5);
  loop_close_handle();
  for (int i = 0; i < 50; i++) { /* the producer packs around it */
    put_bytes(LARGE - 1);
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 10000), 0);
  }
  ck_assert_uint_eq(a.item.object.via.bin.size, LARGE);
  ck_assert(memcmp(a.item.object.via.bin.ptr, data, LARGE) == 0);
}
END_TEST

START_TEST(through_the_pipe_it_is_copied) {
  support_keep_to_pipe(queue);
  ck_assert_int_eq(start_borrow(&a, -1), 0);
  put_bytes(LARGE);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&a.item), 0);
  ck_assert_uint_eq(a.item.object.via.bin.size, LARGE);
  ck_assert(memcmp(a.item.object.via.bin.ptr, data, LARGE) == 0);
}
END_TEST

static void put_and_leave(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_put_bytes(queue, data, LARGE, 10000) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, 10000, NULL) == 0);
}

/* This process has put nothing: the request has seen to it that it can hold a piece. */
START_TEST(the_first_item_of_a_process_is_borrowed) {
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  ck_assert_int_eq(start_borrow(&a, -1), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&a.item), 1);
  ck_assert(memcmp(a.item.object.via.bin.ptr, data, LARGE) == 0);
}
END_TEST

START_TEST(nothing_to_borrow) {
  ck_assert_int_eq(start_borrow(&a, 0), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EMPTY);
  ck_assert_int_eq(forkq_item_is_borrowed(&a.item), 0);
  ck_assert_int_eq(forkq_loop_get_borrowed(&b.req, handle, NULL, -1, keep_outcome),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get_borrowed(&b.req, NULL, &b.item, -1, keep_outcome),
                   FORKQ_ENULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("loop_values");
  TCase *put = tcase_create("put");
  tcase_add_checked_fixture(put, set_up, tear_down);
  tcase_add_loop_test(put, bytes_with_room, 0, SIZES);
  tcase_add_loop_test(put, bytes_that_wait_for_room, 0, SIZES);
  tcase_add_test(put, strings_integers_and_nil);
  tcase_add_test(put, no_room_within_the_timeout);
  tcase_add_test(put, bad_values_are_the_calls_error);
  suite_add_tcase(suite, put);
  TCase *into = tcase_create("into");
  tcase_add_checked_fixture(into, set_up, tear_down);
  tcase_add_loop_test(into, into_a_buffer, 0, 2 * SIZES);
  tcase_add_loop_test(into, what_does_not_fit_is_got_by_the_next, 0, 2 * SIZES);
  tcase_add_test(into, another_type_is_got_by_the_next);
  tcase_add_test(into, into_a_buffer_in_vain);
  suite_add_tcase(suite, into);
  TCase *borrow = tcase_create("borrow");
  tcase_add_checked_fixture(borrow, set_up, tear_down);
  tcase_add_test(borrow, borrowed_until_the_item_ends);
  tcase_add_test(borrow, through_the_pipe_it_is_copied);
  tcase_add_test(borrow, the_first_item_of_a_process_is_borrowed);
  tcase_add_test(borrow, nothing_to_borrow);
  suite_add_tcase(suite, borrow);
  return support_main(suite);
}
