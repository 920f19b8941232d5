/* Gets as requests on a loop; and what is common to all requests: cancellation, closing, bad
 * use, fork. */
#include "base/os.h"
#include "loop/loop_impl.h"
#include "loop_support.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct outcome a, b, c;

static void set_up(void) {
  loop_set_up();
}

static void tear_down(void) {
  loop_tear_down();
  free_outcome(&a);
  free_outcome(&b);
  free_outcome(&c);
}

static void put_seven(void *arg) {
  (void)arg;
  CHILD_MUST(put_int(queue, 7, -1) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, -1, NULL) == 0);
}

START_TEST(get_waits_for_another_process) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  pid_t child = support_fork(put_seven, NULL);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.value, 7);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(get_finds_what_is_there) {
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(a.calls, 0); /* never from inside the call */
  run_until(&a);
  ck_assert_int_eq(a.value, 1);
  ck_assert_int_eq(a.calls, 1);
}
END_TEST

START_TEST(get_packed_gives_the_bytes) {
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(forkq_loop_get_packed(&a.req, handle, &a.item, -1, keep_outcome), 0);
  run_until(&a);
  ck_assert_int_eq(a.item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(a.item.size, 1);
  ck_assert_int_eq(a.item.data[0], 1);
}
END_TEST

START_TEST(gets_are_served_in_order) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(start_get(&c, -1), 0);
  for (int i = 1; i <= 3; i++)
    ck_assert_int_eq(put_int(queue, i, -1), 0);
  run_until(&c);
  ck_assert_int_eq(a.value, 1);
  ck_assert_int_eq(b.value, 2);
  ck_assert_int_eq(c.value, 3);
  ck_assert(a.order < b.order && b.order < c.order);
}
END_TEST

START_TEST(timeouts_consume_nothing) {
  ck_assert_int_eq(start_get(&a, 0), 0);
  ck_assert_int_eq(start_get(&b, 20), 0);
  ck_assert_int_eq(a.calls, 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EMPTY);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_TIMEDOUT);
  ck_assert_int_eq(put_int(queue, 5, -1), 0);
  run_ready();
  ck_assert_int_eq(get_int(queue, 0), 5);
}
END_TEST

START_TEST(an_item_that_is_there_beats_timeout_0) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  ck_assert_int_eq(put_int(queue, 5, -1), 0);
  ck_assert_int_eq(forkq_wait(&entry, 1, -1), 1); /* the feeder has sent it */
  ck_assert_int_eq(start_get(&a, 0), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.value, 5);
}
END_TEST

START_TEST(a_cancelled_get_consumes_nothing) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(put_int(queue, 5, -1), 0);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  ck_assert_int_eq(a.calls, 0);
  run_until(&b);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(b.value, 5);
}
END_TEST

START_TEST(cancelled_with_the_item_there) {
  /* The descriptor is readable when the loop looks, but nobody is left who wants to get. */
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(put_int(queue, 5, -1), 0);
  run_until(&a);
  ck_assert_int_eq(a.value, 5);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(put_int(queue, 6, -1), 0);
  ck_assert_int_eq(forkq_loop_cancel(&b.req), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, UV_ECANCELED);
  ck_assert_int_eq(get_int(queue, 0), 6);
}
END_TEST

START_TEST(bad_use_is_an_error_and_calls_nobody) {
  ck_assert_int_eq(forkq_loop_cancel(&a.req), FORKQ_ENOTPENDING);
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&a, -1), FORKQ_EINUSE);
  ck_assert_int_eq(start_put(&a, 1, -1), FORKQ_EINUSE);
  ck_assert_int_eq(start_get(&b, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_loop_get(&b.req, handle, NULL, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get(&b.req, handle, &b.item, -1, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get(&b.req, NULL, &b.item, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get(NULL, handle, &b.item, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_recv(&b.req, handle, &b.item, -1, keep_outcome), -EINVAL);
  ck_assert_int_eq(forkq_loop_cancel(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), FORKQ_ENOTPENDING);
  run_until(&a);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), FORKQ_ENOTPENDING);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(b.calls, 0);
  ck_assert_int_eq(forkq_loop_close(NULL, NULL, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_fork(handle), -EINVAL);
  ck_assert_int_eq(forkq_loop_fork(NULL), FORKQ_ENULL);
  forkq_loop_handle_t *none = NULL;
  ck_assert_int_eq(forkq_loop_open_queue(&none, &loop, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_open_queue(&none, NULL, queue), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_open_queue(NULL, &loop, queue), FORKQ_ENULL);
}
END_TEST

START_TEST(closing_calls_back_what_is_pending_first) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, 5000), 0);
  forkq_loop_handle_t *closing = handle;
  loop_close_handle();
  (void)closing;
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(b.status, UV_ECANCELED);
  ck_assert_int_eq(a.calls + b.calls, 2);
}
END_TEST

static int closed;

static void on_closed(void *arg) {
  (void)arg;
  closed++;
}

static void close_in_callback(forkq_loop_req_t *req, int status) {
  keep_outcome(req, status);
  if (handle == NULL)
    return;
  ck_assert_int_eq(forkq_loop_close(handle, on_closed, NULL), 0);
  ck_assert_int_eq(forkq_loop_close(handle, on_closed, NULL), FORKQ_ECLOSED);
  ck_assert_int_eq(start_get(&c, -1), FORKQ_ECLOSED);
  ck_assert_int_eq(closed, 0);
  handle = NULL;
}

START_TEST(closing_in_a_callback) {
  closed = 0;
  ck_assert_int_eq(forkq_loop_get(&a.req, handle, &a.item, -1, close_in_callback), 0);
  ck_assert_int_eq(forkq_loop_get(&b.req, handle, &b.item, -1, close_in_callback), 0);
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(put_int(queue, 2, -1), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(a.value, 1);
  ck_assert_int_eq(b.status, UV_ECANCELED);
  ck_assert_int_eq(closed, 1);
  ck_assert_int_eq(get_int(queue, 1000), 2);
}
END_TEST

START_TEST(the_loop_lives_while_something_is_pending) {
  ck_assert_int_eq(uv_loop_alive(&loop), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_ne(uv_loop_alive(&loop), 0);
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0); /* comes back of itself */
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(uv_loop_alive(&loop), 0);
}
END_TEST

static int rest;

static void get_again(forkq_loop_req_t *req, int status) {
  keep_outcome(req, status);
  if (status == 0 && --rest > 0)
    ck_assert_int_eq(forkq_loop_get(req, handle, &a.item, -1, get_again), 0);
}

static void count_tick(uv_timer_t *timer) {
  *(int *)timer->data += 1;
}

START_TEST(many_items_leave_the_loop_to_others) {
  enum { ITEMS = 20000 };
  static uv_timer_t timer; /* closed when the test is over */
  int ticks = 0;
  for (int i = 0; i < ITEMS; i++)
    ck_assert_int_eq(put_int(queue, i, -1), 0);
  uv_timer_init(&loop, &timer);
  timer.data = &ticks;
  uv_timer_start(&timer, count_tick, 0, 0);
  rest = ITEMS;
  ck_assert_int_eq(forkq_loop_get(&a.req, handle, &a.item, -1, get_again), 0);
  while (ticks == 0)
    uv_run(&loop, UV_RUN_ONCE);
  ck_assert_int_gt(rest, ITEMS / 2); /* the timer did not wait for all of them */
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(rest, 0);
  ck_assert_int_eq(a.value, ITEMS - 1);
  uv_close((uv_handle_t *)&timer, NULL);
}
END_TEST

static _Atomic int *steps; /* shared with children */

/* Numbers from 0 on, in one packet. */
static void put_ten(void) {
  msgpack_object objects[10] = { 0 };
  size_t n = 0;
  for (unsigned i = 0; i < 10; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = i;
  }
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 10, -1, &n), 0);
  ck_assert_uint_eq(n, 10);
}

static void read_ahead(void *arg) {
  (void)arg;
  CHILD_MUST(get_int(queue, 10000) == 0);
  atomic_store(&steps[0], 1);
  support_until(&steps[1]);
}

START_TEST(items_that_another_process_has_read_ahead) {
  steps = support_shared(2 * sizeof *steps);
  put_ten();
  pid_t child = support_fork(read_ahead, NULL);
  support_until(&steps[0]);
  rest = 9;
  ck_assert_int_eq(forkq_loop_get(&a.req, handle, &a.item, -1, get_again), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(rest, 0);
  ck_assert_int_eq(a.value, 9);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void hold_read_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
  atomic_store(&steps[0], 1);
  for (;;)
    pause();
}

/* Or the loop would go round and round, for as long as the other is stopped. */
START_TEST(a_reader_that_stays_in_the_middle_makes_the_loop_pause) {
  steps = support_shared(2 * sizeof *steps);
  pid_t child = support_fork(hold_read_lock, NULL);
  support_until(&steps[0]);
  ck_assert_int_eq(put_int(queue, 7, -1), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  while (handle->pause_ms < 4)
    uv_run(&loop, UV_RUN_ONCE);
  ck_assert_int_eq(a.calls, 0);
  support_kill_and_wait(child);
  run_until(&a);
  ck_assert_int_eq(a.value, 7);
}
END_TEST

/* Beside the pipe, or in fragments. */
START_TEST(large_items) {
  enum { SIZE = 700 * 1000 };
  if (_i == 1)
    support_keep_to_pipe(queue);
  char *bytes = malloc(SIZE + 5);
  memcpy(bytes, "\xc6", 1); /* bin 32 */
  bytes[1] = (char)(SIZE >> 24);
  bytes[2] = (char)(SIZE >> 16);
  bytes[3] = (char)(SIZE >> 8);
  bytes[4] = (char)SIZE;
  support_fill(bytes + 5, SIZE, 1);
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(start_get(&a, -1), 0);
    ck_assert_int_eq(forkq_queue_put_packed(queue, bytes, SIZE + 5, -1), 0);
    a.calls = 0;
    run_until(&a);
    ck_assert_int_eq(a.status, 0);
    ck_assert_uint_eq(a.item.size, SIZE + 5);
    ck_assert_int_eq(memcmp(a.item.data, bytes, SIZE + 5), 0);
  }
  free(bytes);
}
END_TEST

START_TEST(shutdown_comes_after_the_last_item) {
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  run_until(&b);
  ck_assert_int_eq(a.value, 1);
  ck_assert_int_eq(b.status, FORKQ_ESHUTDOWN);
}
END_TEST

static void shut_down(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_shutdown(queue, 1) == 0);
}

START_TEST(shutdown_by_another_process) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  run_ready();
  pid_t child = support_fork(shut_down, NULL);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_ESHUTDOWN);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void *close_it(void *arg) {
  (void)arg;
  return (void *)(intptr_t)forkq_queue_close(queue);
}

START_TEST(closed_by_another_thread) {
  pthread_t thread;
  ck_assert_int_eq(start_get(&a, -1), 0);
  run_ready();
  ck_assert_int_eq(pthread_create(&thread, NULL, close_it, NULL), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_ECLOSED);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_int_eq(start_get(&b, -1), FORKQ_ECLOSED);
  ck_assert_int_eq(b.calls, 0);
}
END_TEST

/* A packet that nobody could have sent. */
START_TEST(garbage_in_the_pipe_is_an_error_and_the_loop_goes_on) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(write(handover.fds[1], "garbage", 7), 7);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EBADFRAME);
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  run_until(&b);
  ck_assert_int_eq(b.value, 1);
}
END_TEST

START_TEST(two_handles_on_one_loop) {
  forkq_loop_handle_t *first = handle, *second;
  ck_assert_int_eq(forkq_loop_open_queue(&second, &loop, queue), 0);
  ck_assert_int_eq(start_get(&a, -1), 0);
  handle = second;
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(put_int(queue, 2, -1), 0);
  run_until(&a);
  run_until(&b);
  ck_assert_int_eq(a.value + b.value, 3);
  loop_close_handle();
  handle = first;
}
END_TEST

/* ---- fork -------------------------------------------------------------------------------- */

static void go_on_in_child(void *arg) {
  (void)arg;
  CHILD_MUST(start_get(&b, -1) == FORKQ_EFORKED);
  CHILD_MUST(forkq_loop_cancel(&a.req) == FORKQ_EFORKED);
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_fork(handle) == 0);
  CHILD_MUST(a.calls == 0);
  while (a.calls == 0)
    uv_run(&loop, UV_RUN_ONCE);
  CHILD_MUST(a.calls == 1 && a.status == UV_ECANCELED);
  CHILD_MUST(start_get(&b, 10000) == 0);
  atomic_store(&steps[0], 1);
  while (b.calls == 0)
    uv_run(&loop, UV_RUN_ONCE);
  CHILD_MUST(b.status == 0 && b.value == 1);
  CHILD_MUST(start_put(&c, 2, 10000) == 0);
  while (c.calls == 0)
    uv_run(&loop, UV_RUN_ONCE);
  CHILD_MUST(c.status == 0);
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(uv_loop_close(&loop) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, -1, NULL) == 0);
}

START_TEST(a_child_goes_on_with_the_loop) {
  steps = support_shared(sizeof *steps);
  ck_assert_int_eq(start_get(&a, -1), 0);
  run_ready();
  pid_t child = support_fork(go_on_in_child, NULL);
  support_until(&steps[0]);
  /* The first one is for the child, as the parent's loop does not run. */
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(support_wait(child), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.value, 2);
}
END_TEST

static void run_on(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(a.status == UV_ECANCELED);
  CHILD_MUST(uv_loop_close(&loop) == 0);
}

START_TEST(a_child_that_only_closes) {
  /* Its closing does not make the parent's readers forget that the parent waits. */
  ck_assert_int_eq(start_get(&a, -1), 0);
  run_ready();
  pid_t child = support_fork(run_on, NULL);
  ck_assert_int_eq(support_wait(child), 0);
  steps = support_shared(2 * sizeof *steps);
  put_ten();
  child = support_fork(read_ahead, NULL);
  support_until(&steps[0]);
  run_until(&a);
  ck_assert_int_eq(a.value, 1);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* ---- waiting costs nothing --------------------------------------------------------------- */

static void wait_on_loop(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_fork(handle) == 0);
  CHILD_MUST(start_get(&a, -1) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(a.value == 3);
}

/* How often a process has gone to sleep. */
static long sleeps(pid_t pid) {
  char path[64], line[256];
  long n = -1;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *file = fopen(path, "re");
  while (file != NULL && fgets(line, sizeof line, file) != NULL)
    (void)sscanf(line, "voluntary_ctxt_switches: %ld", &n);
  if (file != NULL)
    fclose(file);
  return n;
}

START_TEST(a_loop_that_waits_sleeps_on) {
  pid_t child = support_fork(wait_on_loop, NULL);
  /* What it does before it waits may put it to sleep, too: until it does no more. */
  long before = -1, now;
  while ((now = sleeps(child)) != before || !support_asleep(child)) {
    before = now;
    usleep(20000);
  }
  usleep(300000);
  ck_assert_int_eq(sleeps(child), before);
  ck_assert_int_eq(put_int(queue, 3, -1), 0);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("loop_get");
  TCase *tcase = tcase_create("loop_get");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, get_waits_for_another_process);
  tcase_add_test(tcase, get_finds_what_is_there);
  tcase_add_test(tcase, get_packed_gives_the_bytes);
  tcase_add_test(tcase, gets_are_served_in_order);
  tcase_add_test(tcase, timeouts_consume_nothing);
  tcase_add_test(tcase, an_item_that_is_there_beats_timeout_0);
  tcase_add_test(tcase, a_cancelled_get_consumes_nothing);
  tcase_add_test(tcase, cancelled_with_the_item_there);
  tcase_add_test(tcase, bad_use_is_an_error_and_calls_nobody);
  tcase_add_test(tcase, closing_calls_back_what_is_pending_first);
  tcase_add_test(tcase, closing_in_a_callback);
  tcase_add_test(tcase, the_loop_lives_while_something_is_pending);
  tcase_add_test(tcase, many_items_leave_the_loop_to_others);
  tcase_add_test(tcase, items_that_another_process_has_read_ahead);
  tcase_add_test(tcase, a_reader_that_stays_in_the_middle_makes_the_loop_pause);
  tcase_add_loop_test(tcase, large_items, 0, 2);
  tcase_add_test(tcase, shutdown_comes_after_the_last_item);
  tcase_add_test(tcase, shutdown_by_another_process);
  tcase_add_test(tcase, closed_by_another_thread);
  tcase_add_test(tcase, garbage_in_the_pipe_is_an_error_and_the_loop_goes_on);
  tcase_add_test(tcase, two_handles_on_one_loop);
  tcase_add_test(tcase, a_child_goes_on_with_the_loop);
  tcase_add_test(tcase, a_child_that_only_closes);
  tcase_add_test(tcase, a_loop_that_waits_sleeps_on);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
