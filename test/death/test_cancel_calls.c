/* Calls of all kinds by threads that are cancelled (pthread_cancel(3)): a call leaves the state and
 * the type of cancellation as they were, and is made whole or not at all. */
#define _GNU_SOURCE
#include "cancel_helpers.h"

/* ---- calls of all kinds ------------------------------------------------------------------ */

static forkq_queue_t *other;
static forkq_item_t an_item;
static forkq_queue_stats_t stats;
static uint64_t a_count;
static size_t a_size;
static forkq_handover_t handover;
static const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
static char large[100000];
static const forkq_bytes_t large_twice[2] = { { large, sizeof large },
                                              { large, sizeof large } };

/* The large ones go beside the pipe, or in fragments. */
static bool in_fragments;

static void keep_to_pipe_if_so(void *of) {
  if (in_fragments)
    support_keep_to_pipe(of);
}

/* clang-format off */
static int do_put(void) { return forkq_queue_put(queue, &nil, -1); }
static int do_put_large(void) { return forkq_queue_put_packed(queue, large, sizeof large, -1); }
static int do_put_with(void) { return forkq_queue_put_with(queue, pack_small, NULL, 0); }
static int do_put_many(void) { return forkq_queue_put_many_packed(queue, large_twice, 2, 0, &a_size); }
static int do_get(void) { return forkq_queue_get(queue, &an_item, -1); }
static int do_get_many(void) { return forkq_queue_get_many(queue, &an_item, 1, -1, &a_size); }
static int do_get_nowait(void) { return forkq_queue_get_nowait(queue, &an_item); }
static int do_task_done(void) { return forkq_queue_task_done(queue); }
static int do_join(void) { return forkq_queue_join(queue, -1, &a_count); }
static int do_join_again(void) { return forkq_queue_join(queue, 1, &a_count) != FORKQ_TIMEDOUT; }
static int do_qsize(void) { return forkq_queue_qsize(queue) < 0; }
static int do_empty(void) { return forkq_queue_empty(queue) < 0; }
static int do_full(void) { return forkq_queue_full(queue) < 0; }
static int do_stats(void) { return forkq_queue_stats(queue, &stats); }
static int do_fileno(void) { return forkq_queue_fileno(queue) < 0; }
static int do_hand_over(void) { return forkq_queue_hand_over(queue, &handover); }
static int do_create(void) { return forkq_queue_create(&other, 1); }
static int do_put_other(void) { return forkq_queue_put(other, &nil, 0); }
static int do_put_other_again(void) { return forkq_queue_put(other, &nil, 1) != FORKQ_TIMEDOUT; }
static int do_get_other(void) { return forkq_queue_get(other, &an_item, 0); }
static int do_get_other_again(void) { return forkq_queue_get(other, &an_item, 1) != FORKQ_TIMEDOUT; }
static int do_shutdown(void) { return forkq_queue_shutdown(other, 1); }
static int do_close(void) { return forkq_queue_close(other); }
static int do_join_thread(void) { return forkq_queue_join_thread(other, -1, NULL); }
static int do_cancel_join(void) { return forkq_queue_cancel_join_thread(other); }
static int do_destroy(void) { forkq_queue_destroy(other); return 0; }
static int do_simple_create(void) { int r = forkq_simple_queue_create(&simple_queue); if (r == 0) keep_to_pipe_if_so(simple_queue); return r; }
static int do_simple_put(void) { return forkq_simple_queue_put_packed(simple_queue, large, sizeof large); }
static int do_simple_get(void) { return forkq_simple_queue_get(simple_queue, &an_item); }
static int do_simple_empty(void) { return forkq_simple_queue_empty(simple_queue) < 0; }
static int do_simple_close(void) { return forkq_simple_queue_close(simple_queue); }
static int do_simple_destroy(void) { forkq_simple_queue_destroy(simple_queue); return 0; }
/* clang-format on */

/* In an order in which each succeeds, and none but those with a time of 1 ms waits. */
static const struct call {
  int (*make)(void);
  bool may_end; /* a thread that was cancelled before; then it has done nothing */
} calls[] = {
  { do_put, true },
  { do_get, true },
  { do_task_done, false },
  { do_join, false },
  { do_put_large, true },
  { do_put_with, true },
  { do_put_many, true },
  { do_get, true },
  { do_get_many, true },
  { do_get_nowait, true },
  { do_get, true },
  { do_join_again, true },
  { do_task_done, false },
  { do_task_done, false },
  { do_task_done, false },
  { do_task_done, false },
  { do_qsize, false },
  { do_empty, false },
  { do_full, false },
  { do_stats, false },
  { do_fileno, false },
  { do_hand_over, false },
  { do_create, false },
  { do_put_other, true },
  { do_put_other_again, true },
  { do_get_other, true },
  { do_get_other_again, true },
  { do_shutdown, false },
  { do_close, false },
  { do_join_thread, true },
  { do_cancel_join, false },
  { do_destroy, false },
  { do_simple_create, false },
  { do_simple_put, true },
  { do_simple_get, true },
  { do_simple_empty, false },
  { do_simple_close, false },
  { do_simple_destroy, false },
};
#define CALLS (sizeof calls / sizeof *calls)

static void prepare_calls(bool keep_to_pipe) {
  in_fragments = keep_to_pipe;
  create_joinable();
  keep_to_pipe_if_so(queue);
  make_bin(large, sizeof large);
  stats.size = sizeof stats;
}

static void make(const struct call *call, size_t i) {
  int r = call->make();
  if (r != 0)
    ck_abort_msg("call %zu: %d", i, r);
}

static void make_all_with(int state, int type) {
  int now;
  for (size_t i = 0; i < CALLS; i++) {
    pthread_setcanceltype(type, NULL);
    pthread_setcancelstate(state, NULL);
    make(&calls[i], i);
    pthread_setcancelstate(state, &now);
    ck_assert_msg(now == state, "state after call %zu", i);
    pthread_setcanceltype(type, &now);
    ck_assert_msg(now == type, "type after call %zu", i);
  }
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &now);
  ck_assert_int_eq(now, state);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &now);
  ck_assert_int_eq(now, type);
}

/* Asynchronous cancellation where none is on. */
START_TEST(calls_leave_state_and_type_as_they_were) {
  prepare_calls(_i == 1);
  make_all_with(PTHREAD_CANCEL_ENABLE, PTHREAD_CANCEL_DEFERRED);
  make_all_with(PTHREAD_CANCEL_DISABLE, PTHREAD_CANCEL_DEFERRED);
  make_all_with(PTHREAD_CANCEL_DISABLE, PTHREAD_CANCEL_ASYNCHRONOUS);
  forkq_item_destroy(&an_item);
}
END_TEST

static const struct call *call_to_make;

static int make_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  make(call_to_make, (size_t)(call_to_make - calls));
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

/* What is changed by a call. */
static int64_t items_in_queues(void) {
  return forkq_queue_qsize(queue) + (other != NULL ? forkq_queue_qsize(other) : 0) +
         (simple_queue != NULL ? forkq_queue_qsize((forkq_queue_t *)simple_queue) : 0);
}

/* Each call is made by a thread that was cancelled just before. It is made whole, or, by some,
 * not at all, and is made by another thread then. */
START_TEST(a_thread_cancelled_before_a_call_makes_it_whole_or_not_at_all) {
  prepare_calls(_i == 1);
  other = NULL;
  simple_queue = NULL;
  for (size_t i = 0; i < CALLS; i++) {
    struct victim victim;
    int64_t items = items_in_queues();
    call_to_make = &calls[i];
    start(&victim, make_though_cancelled);
    ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
    assert_nothing_held();
    if (victim.returned == 0) {
      ck_assert_msg(calls[i].may_end, "call %zu", i);
      ck_assert_int_eq(items_in_queues(), items);
      make(&calls[i], i);
    }
    if (calls[i].make == do_destroy)
      other = NULL;
    if (calls[i].make == do_simple_destroy)
      simple_queue = NULL;
  }
  forkq_item_destroy(&an_item);
}
END_TEST

/* ---- functions of the program's that are cancellation points ----------------------------- */

static void take_the_read_lock_along(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
}

static int log_though_cancelled(struct victim *victim) {
  pthread_cancel(pthread_self());
  (void)forkq_queue_qsize(queue);
  bool settled = forkq__channel_settle_reads(&queue->channel);
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return settled;
}

/* Who repairs a lock says so while it has it. */
START_TEST(a_thread_is_not_cancelled_while_it_logs) {
  struct victim victim;
  create(0);
  ck_assert_int_eq(support_wait(support_fork(take_the_read_lock_along, NULL)), 0);
  start(&victim, log_though_cancelled);
  ck_assert_ptr_eq(support_join(victim.thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim.returned), 1);
  ck_assert_int_gt(atomic_load(&logged), 0);
  assert_whole();
}
END_TEST

static Suite *cancel_calls_suite(void) {
  Suite *suite = suite_create("cancel_calls");
  TCase *calls_case = add_case(suite, "calls");
  tcase_add_loop_test(calls_case, calls_leave_state_and_type_as_they_were, 0, 2);
  tcase_add_loop_test(
      calls_case, a_thread_cancelled_before_a_call_makes_it_whole_or_not_at_all, 0, 2);
  tcase_add_test(calls_case, a_thread_is_not_cancelled_while_it_logs);
  return suite;
}

int main(void) {
  return cancel_main(cancel_calls_suite());
}
