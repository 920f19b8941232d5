/* Which thread may use a handle: the one that runs the loop, and while none does, any. */
#include "loop/loop_impl.h"
#include "loop_support.h"

#include <pthread.h>
#include <unistd.h>

static struct outcome a, b;

static void tear_down(void) {
  loop_tear_down();
  free_outcome(&a);
  free_outcome(&b);
}

/* ---- the loop's thread ------------------------------------------------------------------- */

static void *run(void *arg) {
  (void)arg;
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  return NULL;
}

static pthread_t start_thread(void *(*fn)(void *arg)) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, fn, NULL), 0);
  return thread;
}

static void end_thread(pthread_t thread) {
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static void in_a_thread(void *(*fn)(void *arg)) {
  end_thread(start_thread(fn));
}

/* Until the loop's thread polls, which it goes on to do while nothing happens. */
static void until_in_poll(void) {
  while (atomic_load(&handle->inside) == 0)
    usleep(100);
}

static void close_handle(void) {
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), 0);
  handle = NULL;
}

/* ---- who may ----------------------------------------------------------------------------- */

/* In the first turn of the loop, where nothing of the handle's has run. */
static void use_handle(uv_timer_t *timer) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  ck_assert_int_eq(start_put(&b, 1, -1), 0);
  close_handle();
  uv_close((uv_handle_t *)timer, NULL);
}

START_TEST(a_loop_runs_in_another_thread_than_the_one_that_opened_the_handle) {
  uv_timer_t timer;
  uv_timer_init(&loop, &timer);
  uv_timer_start(&timer, use_handle, 0, 0);
  in_a_thread(run);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(b.status, 0);
  ck_assert_int_eq(b.calls, 1);
}
END_TEST

START_TEST(requests_are_started_before_the_loops_thread) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  ck_assert_int_eq(start_get(&b, -1), 0);
  ck_assert_int_eq(forkq_loop_cancel(&b.req), 0);
  pthread_t thread = start_thread(run);
  until_in_poll();
  ck_assert_int_eq(put_int(queue, 7, -1), 0);
  end_thread(thread);
  ck_assert_int_eq(a.value, 7);
  ck_assert_int_eq(b.status, UV_ECANCELED);
}
END_TEST

static void *run_a_turn(void *arg) {
  (void)arg;
  ck_assert_int_ne(uv_run(&loop, UV_RUN_NOWAIT), 0);
  return NULL;
}

static void *use_and_run_a_turn(void *arg) {
  ck_assert_int_eq(start_get(&b, -1), 0);
  return run_a_turn(arg);
}

START_TEST(a_loop_moves_from_thread_to_thread) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  in_a_thread(run_a_turn);
  in_a_thread(use_and_run_a_turn);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  in_a_thread(run_a_turn);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(put_int(queue, 7, -1), 0);
  in_a_thread(run);
  ck_assert_int_eq(b.value, 7);
}
END_TEST

/* A run of one turn serves a timer at its end, if that was not due at its beginning already: then
 * the request is called back in the same turn, and it is tried with more time. */
static void *run_until_the_time_is_over(void *arg) {
  for (int ms = 1; TAILQ_EMPTY(&handle->decided.line); ms *= 2) {
    a.calls = 0;
    ck_assert_int_eq(start_get(&a, ms), 0);
    while (TAILQ_EMPTY(&handle->decided.line) && a.calls == 0)
      uv_run(&loop, UV_RUN_ONCE);
  }
  return arg;
}

START_TEST(a_run_that_ends_with_a_timer_leaves_the_handle_to_any_thread) {
  in_a_thread(run_until_the_time_is_over);
  ck_assert_int_eq(start_get(&b, 0), 0);
  run(NULL);
  ck_assert_int_eq(a.status, FORKQ_TIMEDOUT);
  ck_assert_int_eq(b.status, FORKQ_EMPTY);
}
END_TEST

/* ---- who may not ------------------------------------------------------------------------- */

START_TEST(another_thread_is_refused_while_the_loop_waits) {
  ck_assert_int_eq(start_get(&a, -1), 0);
  pthread_t thread = start_thread(run);
  until_in_poll();
  ck_assert_int_eq(start_get(&b, -1), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(start_put(&b, 1, -1), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(put_int(queue, 7, -1), 0);
  end_thread(thread);
  ck_assert_int_eq(a.value, 7);
  ck_assert_int_eq(b.calls, 0);
}
END_TEST

static int from_thread;

static void *get_elsewhere(void *arg) {
  (void)arg;
  from_thread = start_get(&b, -1);
  return NULL;
}

static void get_in_a_thread(forkq_loop_req_t *req, int status) {
  keep_outcome(req, status);
  in_a_thread(get_elsewhere);
}

/* A request that does not wait is called back before the poll. */
START_TEST(another_thread_is_refused_while_the_handle_is_served) {
  ck_assert_int_eq(forkq_loop_get(&a.req, handle, &a.item, 0, get_in_a_thread), 0);
  run_until(&a);
  ck_assert_int_eq(from_thread, FORKQ_EWRONGTHREAD);
  ck_assert_int_eq(b.calls, 0);
}
END_TEST

/* ---- fork -------------------------------------------------------------------------------- */

static void only_close(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
}

static void go_on(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_fork(handle) == 0);
  CHILD_MUST(start_get(&b, -1) == 0);
}

/* The loop's thread, which was in the poll then, has stayed with the parent. */
START_TEST(a_child_of_another_thread_may) {
  static void (*const children[])(void *arg) = { only_close, go_on };
  ck_assert_int_eq(start_get(&a, -1), 0);
  pthread_t thread = start_thread(run);
  until_in_poll();
  for (size_t i = 0; i < 2; i++)
    ck_assert_int_eq(support_wait(support_fork(children[i], NULL)), 0);
  ck_assert_int_eq(put_int(queue, 7, -1), 0);
  end_thread(thread);
  ck_assert_int_eq(a.value, 7);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("loop_thread");
  TCase *tcase = tcase_create("loop_thread");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, loop_set_up, tear_down);
  tcase_add_test(tcase,
                 a_loop_runs_in_another_thread_than_the_one_that_opened_the_handle);
  tcase_add_test(tcase, requests_are_started_before_the_loops_thread);
  tcase_add_test(tcase, a_loop_moves_from_thread_to_thread);
  tcase_add_test(tcase, a_run_that_ends_with_a_timer_leaves_the_handle_to_any_thread);
  tcase_add_test(tcase, another_thread_is_refused_while_the_loop_waits);
  tcase_add_test(tcase, another_thread_is_refused_while_the_handle_is_served);
  tcase_add_test(tcase, a_child_of_another_thread_may);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
