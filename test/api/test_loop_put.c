/* Puts as requests on a loop: what waits for room, without polling and without blocking. */
#include "loop_support.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct outcome a, b, c, d;
static _Atomic int *steps; /* shared with children */

static void set_up(void) {
  loop_set_up_bounded(); /* two items */
  steps = support_shared(4 * sizeof *steps);
}

static void tear_down(void) {
  loop_tear_down();
  free_outcome(&a);
  free_outcome(&b);
  free_outcome(&c);
  free_outcome(&d);
}

static void fill(void) {
  ck_assert_int_eq(put_int(queue, 100, 0), 0);
  ck_assert_int_eq(put_int(queue, 101, 0), 0);
}

START_TEST(put_with_room) {
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(a.calls, 0); /* never from inside the call */
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_int_eq(get_int(queue, 1000), 1);
}
END_TEST

static void get_one(void *arg) {
  CHILD_MUST(get_int(queue, 10000) == (intptr_t)arg);
}

START_TEST(put_waits_for_another_process_to_get) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  pid_t child = support_fork(get_one, (void *)100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  ck_assert_int_eq(get_int(queue, 1000), 1);
}
END_TEST

START_TEST(room_that_came_while_the_put_began_to_wait) {
  /* Nobody tells the loop of it: the slot was free before it waited. */
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
}
END_TEST

START_TEST(puts_are_served_in_order) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(start_put(&b, 2, 10000), 0);
  ck_assert_int_eq(start_put(&c, 3, -1), 0);
  for (int64_t i = 0; i < 2; i++)
    ck_assert_int_eq(get_int(queue, 1000), 100 + i);
  run_until(&b);
  ck_assert(a.calls == 1 && c.calls == 0);
  ck_assert_int_eq(get_int(queue, 1000), 1);
  run_until(&c);
  ck_assert(a.order < b.order && b.order < c.order);
  ck_assert_int_eq(get_int(queue, 1000), 2);
  ck_assert_int_eq(get_int(queue, 1000), 3);
}
END_TEST

START_TEST(a_new_put_does_not_overtake) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(get_int(queue, 1000), 100); /* room, which is a's */
  ck_assert_int_eq(start_put(&b, 2, -1), 0);
  run_until(&a);
  ck_assert_int_eq(b.calls, 0);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  run_until(&b);
  ck_assert_int_eq(get_int(queue, 1000), 1);
  ck_assert_int_eq(get_int(queue, 1000), 2);
}
END_TEST

START_TEST(timeouts_put_nothing) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, 0), 0);
  ck_assert_int_eq(start_put(&b, 2, 20), 0);
  ck_assert_int_eq(a.calls, 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_FULL);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_TIMEDOUT);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  ck_assert_int_eq(get_int(queue, 0), FORKQ_EMPTY);
}
END_TEST

START_TEST(a_cancelled_put_puts_nothing) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(start_put(&b, 2, -1), 0);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0); /* its room is b's then */
  run_until(&b);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(b.status, 0);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  ck_assert_int_eq(get_int(queue, 1000), 2);
  ck_assert_int_eq(get_int(queue, 0), FORKQ_EMPTY);
}
END_TEST

START_TEST(too_late_to_cancel) {
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), FORKQ_ENOTPENDING);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.calls, 1);
}
END_TEST

static void put_blocked(void *arg) {
  (void)arg;
  atomic_store(&steps[0], 1);
  CHILD_MUST(put_int(queue, 7, 10000) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, -1, NULL) == 0);
}

START_TEST(who_is_cancelled_passes_the_wake_up_on) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  run_ready();
  pid_t child = support_fork(put_blocked, NULL);
  support_until(&steps[0]);
  support_until_asleep(child);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  ck_assert_int_eq(support_wait(child), 0);
  run_until(&a);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  ck_assert_int_eq(get_int(queue, 1000), 7);
}
END_TEST

static void hold_a_slot(void *arg) {
  (void)arg;
  /* Its item cannot leave: the pipe is full of the parent's. */
  CHILD_MUST(put_int(queue, 8, -1) == 0);
  atomic_store(&steps[0], 1);
  for (;;)
    pause();
}

START_TEST(room_of_a_killed_process) {
  loop_close_handle();
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 201), 0);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  /* 200 items that more than fill the pipe; the child's is one more. */
  static char bytes[4000];
  bytes[0] = (char)0xc5;
  bytes[1] = (char)((sizeof bytes - 3) >> 8);
  bytes[2] = (char)((sizeof bytes - 3) & 255);
  for (int i = 0; i < 200; i++)
    ck_assert_int_eq(forkq_queue_put_packed(queue, bytes, sizeof bytes, 0), 0);
  support_until_pipe_full(queue);
  pid_t child = support_fork(hold_a_slot, NULL);
  support_until(&steps[0]);
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  run_ready();
  int before = a.calls;
  support_kill(child); /* left a zombie: nobody is told */
  run_until(&a);
  ck_assert_int_eq(before, 0);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
}
END_TEST

START_TEST(shutdown_ends_those_that_wait) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(start_put(&b, 2, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  run_until(&b);
  ck_assert_int_eq(a.status, FORKQ_ESHUTDOWN);
  ck_assert_int_eq(b.status, FORKQ_ESHUTDOWN);
  ck_assert_int_eq(start_put(&c, 3, -1), FORKQ_ESHUTDOWN);
  run_ready();
  ck_assert_int_eq(c.calls, 0);
}
END_TEST

START_TEST(closing_cancels_those_that_wait) {
  fill();
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  ck_assert_int_eq(start_put(&b, 2, 5000), 0);
  loop_close_handle();
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(b.status, UV_ECANCELED);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  ck_assert_int_eq(get_int(queue, 0), FORKQ_EMPTY);
}
END_TEST

START_TEST(bad_objects_are_the_calls_error) {
  msgpack_object bad = { .type = (msgpack_object_type)77 };
  ck_assert_int_eq(forkq_loop_put(&a.req, handle, &bad, -1, keep_outcome),
                   FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_loop_put(&a.req, handle, NULL, -1, keep_outcome), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle, "\xc1", 1, -1, keep_outcome),
                   FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle, NULL, 1, -1, keep_outcome),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_put_with(&a.req, handle, NULL, NULL, -1, keep_outcome),
                   FORKQ_ENULL);
  fill(); /* and the same when it would have to wait */
  ck_assert_int_eq(forkq_loop_put(&a.req, handle, &bad, -1, keep_outcome),
                   FORKQ_EBADOBJECT);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  ck_assert_int_eq(start_put(&a, 1, 0), 0); /* the request is free */
}
END_TEST

static int pack_pair(msgpack_packer *packer, void *arg) {
  msgpack_pack_array(packer, 2);
  msgpack_pack_int(packer, *(int *)arg);
  return msgpack_pack_int(packer, 2);
}

static int pack_too_little(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_array(packer, 2);
}

static int pack_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return -1;
}

static int put_from_function(forkq_pack_fn pack, void *arg) {
  return forkq_loop_put_with(&a.req, handle, pack, arg, -1, keep_outcome);
}

static int pack_and_use_the_handle(msgpack_packer *packer, void *arg) {
  int *results = arg;
  results[0] = start_get(&b, -1);
  results[1] = start_put(&c, 1, -1);
  results[2] = forkq_loop_close(handle, NULL, NULL);
  forkq_loop_handle_t *another;
  results[3] = forkq_loop_open_queue(&another, &loop, queue);
  return msgpack_pack_nil(packer);
}

START_TEST(a_packing_function_uses_no_handle) {
  int results[4] = { 0 };
  ck_assert_int_eq(put_from_function(pack_and_use_the_handle, results), 0);
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(results[i], FORKQ_EPACKING);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(b.calls + c.calls, 0);
}
END_TEST

START_TEST(functions_pack_now_also_when_the_put_waits) {
  int one = 1;
  fill();
  ck_assert_int_eq(put_from_function(pack_nothing, NULL), FORKQ_EPACK);
  ck_assert_int_eq(put_from_function(pack_too_little, NULL), FORKQ_EBADOBJECT);
  ck_assert_int_eq(put_from_function(pack_pair, &one), 0);
  one = 3;
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, 1000), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(item.object.via.array.ptr[0].via.u64, 1);
  forkq_item_destroy(&item);
}
END_TEST

#define LARGE_SIZE 5000

/* A bin as make_bin makes it, its header and its body each in one step. */
static int pack_large(msgpack_packer *packer, void *arg) {
  char data[LARGE_SIZE];
  (void)arg;
  make_bin(data, sizeof data);
  packer->callback(packer->data, data, 5);
  return packer->callback(packer->data, data + 5, sizeof data - 5);
}

START_TEST(what_a_function_packs_while_the_put_waits_may_be_large) {
  fill();
  ck_assert_int_eq(put_from_function(pack_large, NULL), 0);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(get_int(queue, 1000), 101);
  assert_get_bin(LARGE_SIZE);
}
END_TEST

static int pack_large_and_exit(msgpack_packer *packer, void *arg) {
  pack_large(packer, arg);
  pthread_exit(arg);
}

static void *put_and_exit(void *arg) {
  (void)put_from_function(pack_large_and_exit, arg);
  ck_abort_msg("came back from the put");
}

/* Packed into memory that is the handle's, as the put has to wait. */
START_TEST(a_function_that_does_not_return_leaves_the_handle_usable) {
  enum { TIMES = 50 };
  fill();
  long before = support_heap_live();
  for (int i = 0; i < TIMES; i++) {
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, put_and_exit, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
  }
  ck_assert_int_lt(support_heap_live(), before + TIMES);
  ck_assert_int_eq(start_put(&a, 1, -1), 0); /* the same request */
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
}
END_TEST

/* The last that is left in the handle's memory goes with the handle. */
START_TEST(what_such_a_function_left_goes_with_the_handle) {
  pthread_t thread;
  fill();
  ck_assert_int_eq(pthread_create(&thread, NULL, put_and_exit, NULL), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  loop_close_handle();
  forkq_queue_destroy(queue);
  queue = NULL;
  ck_assert_int_eq(support_heap_live(), 0);
}
END_TEST

START_TEST(too_big_for_the_queue_also_when_the_put_waits) {
  loop_close_handle();
  forkq_queue_destroy(queue);
  forkq_queue_options_t options = { .size = sizeof options,
                                    .maxsize = 2,
                                    .max_message = 8 };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  fill();
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle,
                                         "\xa8"
                                         "12345678",
                                         9, -1, keep_outcome),
                   FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle,
                                         "\xa7"
                                         "1234567",
                                         8, -1, keep_outcome),
                   0);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
}
END_TEST

/* Memory that fails is the call's error, not a later one. */
START_TEST(no_memory_to_wait_with) {
  fill();
  support_heap_fail_at(1, true);
  int r = start_put(&a, 1, -1);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(r, -ENOMEM);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
}
END_TEST

START_TEST(room_in_the_outbox) {
  loop_close_handle();
  forkq_queue_destroy(queue);
  forkq_queue_options_t options = { .size = sizeof options, .outbox_max_bytes = 1 };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  static char bytes[2 << 20]; /* more than the pipe holds */
  bytes[0] = (char)0xc6;
  bytes[2] = (char)((sizeof bytes - 5) >> 16);
  bytes[3] = (char)((sizeof bytes - 5) >> 8);
  bytes[4] = (char)((sizeof bytes - 5) & 255);
  ck_assert_int_eq(forkq_queue_put_packed(queue, bytes, sizeof bytes, 0), 0);
  ck_assert_int_eq(start_put(&a, 1, -1), 0);
  run_ready();
  ck_assert_int_eq(a.calls, 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 10000), 0);
  forkq_item_destroy(&item);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
}
END_TEST

static int rest;

static void put_again(forkq_loop_req_t *req, int status) {
  ck_assert_int_eq(status, 0);
  if (--rest > 0)
    ck_assert_int_eq(forkq_loop_put_packed(req, handle, "\x05", 1, -1, put_again), 0);
}

static void get_many_one_by_one(void *arg) {
  for (intptr_t i = 0; i < (intptr_t)arg; i++)
    CHILD_MUST(get_int(queue, 10000) == 5);
}

START_TEST(thousands_through_two_slots) {
  rest = 5000;
  pid_t child = support_fork(get_many_one_by_one, (void *)(intptr_t)rest);
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle, "\x05", 1, -1, put_again), 0);
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(rest, 0);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void cancelled_in_child(void *arg) {
  (void)arg;
  CHILD_MUST(uv_loop_fork(&loop) == 0);
  CHILD_MUST(forkq_loop_fork(handle) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(a.calls == 1 && a.status == UV_ECANCELED);
  CHILD_MUST(b.calls == 1 && b.status == UV_ECANCELED);
}

START_TEST(what_waits_stays_the_parents_in_a_fork) {
  ck_assert_int_eq(put_int(queue, 100, 0), 0);
  ck_assert_int_eq(start_put(&b, 1, -1), 0); /* done, not yet called back */
  ck_assert_int_eq(start_put(&a, 2, -1), 0);
  pid_t child = support_fork(cancelled_in_child, NULL);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(get_int(queue, 1000), 100);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(get_int(queue, 1000), 1);
  ck_assert_int_eq(get_int(queue, 1000), 2);
  ck_assert_int_eq(get_int(queue, 0), FORKQ_EMPTY);
}
END_TEST

int main(void) {
  support_heap_install();
  Suite *suite = suite_create("loop_put");
  TCase *tcase = tcase_create("loop_put");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, put_with_room);
  tcase_add_test(tcase, put_waits_for_another_process_to_get);
  tcase_add_test(tcase, room_that_came_while_the_put_began_to_wait);
  tcase_add_test(tcase, puts_are_served_in_order);
  tcase_add_test(tcase, a_new_put_does_not_overtake);
  tcase_add_test(tcase, timeouts_put_nothing);
  tcase_add_test(tcase, a_cancelled_put_puts_nothing);
  tcase_add_test(tcase, too_late_to_cancel);
  tcase_add_test(tcase, who_is_cancelled_passes_the_wake_up_on);
  tcase_add_test(tcase, room_of_a_killed_process);
  tcase_add_test(tcase, shutdown_ends_those_that_wait);
  tcase_add_test(tcase, closing_cancels_those_that_wait);
  tcase_add_test(tcase, bad_objects_are_the_calls_error);
  tcase_add_test(tcase, a_packing_function_uses_no_handle);
  tcase_add_test(tcase, functions_pack_now_also_when_the_put_waits);
  tcase_add_test(tcase, what_a_function_packs_while_the_put_waits_may_be_large);
  tcase_add_test(tcase, a_function_that_does_not_return_leaves_the_handle_usable);
  tcase_add_test(tcase, what_such_a_function_left_goes_with_the_handle);
  tcase_add_test(tcase, too_big_for_the_queue_also_when_the_put_waits);
  tcase_add_test(tcase, no_memory_to_wait_with);
  tcase_add_test(tcase, room_in_the_outbox);
  tcase_add_test(tcase, thousands_through_two_slots);
  tcase_add_test(tcase, what_waits_stays_the_parents_in_a_fork);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
