/* Served queues without a thread: on a libuv loop, and on a loop of the program. */
#define _GNU_SOURCE
#include "loop_support.h"
#include "serve_helpers.h"

#include <errno.h>
#include <forkq/loop_serve.h>
#include <poll.h>
#include <unistd.h>

static forkq_loop_server_t *on_loop;
static int closed;

static void set_up(void) {
  uv_loop_t first; /* libuv opens some descriptors with the first loop, for good */
  ck_assert_int_eq(uv_loop_init(&first), 0);
  ck_assert_int_eq(uv_loop_close(&first), 0);
  serve_set_up();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_loop_serve(&on_loop, &loop, queue, path, NULL), 0);
  closed = 0;
}

static void on_closed(void *arg) {
  (*(int *)arg)++;
}

static void close_server(void) {
  ck_assert_int_eq(forkq_loop_server_close(on_loop, on_closed, &closed), 0);
  ck_assert_int_eq(names(), 0);
  ck_assert_int_eq(closed, 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(closed, 1);
}

static void tear_down(void) {
  loop_finish();
  serve_tear_down();
}

static void stop_loop(uv_timer_t *timer) {
  uv_stop(timer->loop);
}

/* Runs the loop for a while, or until it has nothing to do. */
static void run_for(int ms) {
  uv_timer_t timer;
  ck_assert_int_eq(uv_timer_init(&loop, &timer), 0);
  ck_assert_int_eq(uv_timer_start(&timer, stop_loop, (uint64_t)ms, 0), 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_close((uv_handle_t *)&timer, NULL);
  uv_run(&loop, UV_RUN_NOWAIT);
}

/* The loop turns for the clients, and for a timer that says when it is enough. */
static void until_loop_served(pid_t child, int count) {
  for (int i = 0; i < count;) {
    run_for(20);
    while (forkq_queue_qsize(queue) > 0) {
      ck_assert_int_eq(get_int(queue, 10000), 9);
      i++;
    }
  }
  ck_assert_int_eq(support_wait(child), 0);
}

START_TEST(clients_get_the_queue_in_turns_of_the_loop) {
  int value = 9;
  for (int i = 0; i < 5; i++)
    until_loop_served(support_fork(connect_and_put, &value), 1);
  close_server();
}
END_TEST

START_TEST(a_silent_client_does_not_keep_the_loop_busy) {
  int value = 9, silent = raw_connect(path);
  until_loop_served(support_fork(connect_and_put, &value), 1);
  int64_t begin = support_now_ms();
  while (support_now_ms() - begin < 6000)
    run_for(1000);
  until_hung_up(silent); /* dropped by time */
  close(silent);
  close_server();
}
END_TEST

START_TEST(a_server_that_is_closed_at_once_leaves_nothing) {
  close_server();
}
END_TEST

static void go_on_with_the_loop(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  uv_timer_t timer;
  CHILD_MUST(uv_timer_init(&loop, &timer) == 0);
  int fd = raw_connect(path); /* makes the parent's set readable */
  CHILD_MUST(uv_timer_start(&timer, stop_loop, 100, 0) == 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_close((uv_handle_t *)&timer, NULL);
  close(fd);
  CHILD_MUST(forkq_loop_server_close(on_loop, NULL, NULL) == 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHILD_MUST(uv_loop_close(&loop) == 0);
  CHILD_MUST(names() == 1);
}

START_TEST(a_child_that_goes_on_with_the_loop_does_not_serve) {
  int value = 9;
  ck_assert_int_eq(support_wait(support_fork(go_on_with_the_loop, NULL)), 0);
  until_loop_served(support_fork(connect_and_put, &value), 1);
  close_server();
}
END_TEST

START_TEST(errors_of_a_server_on_a_loop) {
  forkq_loop_server_t *other = NULL;
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  ck_assert_int_eq(forkq_loop_serve(NULL, &loop, queue, path, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_serve(&other, NULL, queue, path, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_serve(&other, &loop, NULL, path, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_serve(&other, &loop, queue, path, NULL), FORKQ_EINUSE);
  options.size = 0;
  ck_assert_int_eq(forkq_loop_serve(&other, &loop, queue, path, &options), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_loop_server_close(NULL, NULL, NULL), FORKQ_ENULL);
  ck_assert_ptr_null(other);
  close_server();
}
END_TEST

START_TEST(on_a_loop_of_the_program_its_descriptor_tells_of_clients) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  int value = 10;
  options.no_thread = 1;
  close_server();
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), 0);
  struct pollfd ready = { .fd = forkq_server_fileno(server), .events = POLLIN };
  ck_assert_int_eq(poll(&ready, 1, 0), 0);
  pid_t child = support_fork(connect_and_put, &value);
  while (forkq_queue_qsize(queue) == 0)
    if (poll(&ready, 1, 10) > 0)
      ck_assert_int_eq(forkq_server_turn(server), 0);
  ck_assert_int_eq(get_int(queue, 10000), 10);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(poll(&ready, 1, 0), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("serve_loop");
  TCase *tcase = tcase_create("serve_loop");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, clients_get_the_queue_in_turns_of_the_loop);
  tcase_add_test(tcase, a_server_that_is_closed_at_once_leaves_nothing);
  tcase_add_test(tcase, a_child_that_goes_on_with_the_loop_does_not_serve);
  tcase_add_test(tcase, errors_of_a_server_on_a_loop);
  tcase_add_test(tcase, on_a_loop_of_the_program_its_descriptor_tells_of_clients);
  suite_add_tcase(suite, tcase);
  TCase *slow = tcase_create("slow"); /* it waits for 6 s */
  tcase_add_checked_fixture(slow, set_up, tear_down);
  tcase_set_timeout(slow, 60);
  tcase_add_test(slow, a_silent_client_does_not_keep_the_loop_busy);
  suite_add_tcase(suite, slow);
  return support_main(suite);
}
