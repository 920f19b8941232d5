/* What a loop queue refuses: bad use, and a put that there is no memory for. */
#include "loop_queue_helpers.h"

#include <errno.h>

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
  stats.size = sizeof stats + sizeof(size_t);
  ck_assert_int_eq(forkq_loop_queue_stats(&queue, &stats), FORKQ_ERANGE);
  stats.size = offsetof(forkq_loop_queue_stats_t, items);
  stats.items = 5;
  ck_assert_int_eq(forkq_loop_queue_stats(&queue, &stats), 0);
  ck_assert_uint_eq(stats.items, 5); /* the field of a later version */
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

int main(void) {
  Suite *suite = suite_create("loop_queue_errors");
  TCase *tcase = tcase_create("all");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 30);
  tcase_add_test(tcase, a_request_is_used_once_at_a_time);
  tcase_add_test(tcase, null_is_an_error_but_for_items);
  tcase_add_test(tcase, maxsize_0_or_less_is_no_limit);
  tcase_add_test(tcase, without_memory_a_put_changes_nothing);
  tcase_add_test(tcase, a_put_that_was_started_needs_no_memory);
  tcase_add_test(tcase, waiting_puts_take_no_more_memory_than_maxsize_items);
  tcase_add_test(tcase, an_overtaking_put_leaves_the_memory_of_those_that_wait);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
