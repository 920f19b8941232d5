/* Calls in another PID namespace than that of the queue: a robust lock knows its owner by a number
 * that is good in one of them, so each call is refused and does no harm. */
#define _GNU_SOURCE
#include "base/os.h"
#include "namespace_helpers.h"

#include <forkq/loop_handle.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

START_TEST(the_first_call_in_another_namespace_is_refused) {
  int64_t items = 1;
  put_one_that_arrives();
  write_down(before);
  for (size_t i = 0; i < CALLS; i++)
    one_refused(_i, &calls[i]);
  ck_assert_int_eq(run_apart(_i, call_all, NULL), 0);
  ck_assert_int_eq(run_apart(_i, tell_first, &items), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(get(0), 7);
}
END_TEST

/* Here the numbers are the same: the first process of a namespace, and the first of one in it. */
static void be_first_of_both(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
  make_space();
  CHILD_MUST(getpid() == 1 && forkq_joinable_queue_create(&queue, 10) == 0);
  CHILD_MUST(put(7, 0) == 0);
  until_sent(queue);
  write_down(before);
  refused_by_every_way(1);
  CHILD_MUST(is_as_it_was());
  CHILD_MUST(get(0) == 7);
  forkq_queue_destroy(queue);
}

START_TEST(who_has_the_same_number_in_another_namespace_is_refused) {
  ck_assert_int_eq(run_apart(FORKED, be_first_of_both, NULL), 0);
}
END_TEST

/* ---- leaving --- */

static void close_it(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, 1000, NULL) == 0);
}

static void destroy_it(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
}

static void exit_with_it(void *arg) {
  (void)arg;
  exit(0);
}

static void call_and_exit(void *arg) {
  call_all(arg);
  exit(0);
}

static void (*const endings[])(void *arg) = { close_it, destroy_it, exit_with_it,
                                              call_and_exit };

static void leave_by_every_way(void) {
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
      ck_assert_int_eq(run_apart(way, endings[i], NULL), 0);
  ck_assert(is_as_it_was());
}

START_TEST(who_leaves_in_another_namespace_touches_nothing) {
  put_one_that_arrives();
  leave_by_every_way();
  ck_assert_int_eq(get(0), 7);
}
END_TEST

/* It has its parent's items, but is not the one to send them. */
START_TEST(who_leaves_with_items_of_its_parent_touches_nothing) {
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(HUGE, 0), 0);
  ck_assert_int_eq(put(8, 0), 0);
  support_until_pipe_full(queue);
  support_until_threads_asleep(1);
  leave_by_every_way();
  assert_get_bin(HUGE);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

/* ---- meanwhile --- */

#define ITEMS 1000
#define ROUNDS WAYS

static _Atomic int *flag, *rounds;

static void call_all_the_time(void *arg) {
  (void)arg;
  for (int way = 0; !atomic_load(flag); way = (way + 1) % WAYS) {
    CHILD_MUST(run_apart(way, call_all, NULL) == 0);
    CHILD_MUST(run_apart(way, call_and_exit, NULL) == 0);
    atomic_fetch_add(rounds, 1);
  }
}

static void put_items(void *arg) {
  (void)arg;
  for (int i = 1; i <= ITEMS; i++)
    CHILD_MUST(put(i, PATIENCE_MS) == 0);
  forkq_queue_destroy(queue);
}

/* And when those are through, some more, until enough have tried to come between. */
START_TEST(the_others_go_on_meanwhile) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  flag = support_shared(sizeof *flag);
  rounds = support_shared(sizeof *rounds);
  pid_t strangers = support_fork(call_all_the_time, NULL);
  do {
    pid_t putter = support_fork(put_items, NULL);
    for (int i = 1; i <= ITEMS; i++) {
      ck_assert_int_eq(get(PATIENCE_MS), i);
      ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    }
    ck_assert_int_eq(support_wait(putter), 0);
  } while (atomic_load(rounds) < ROUNDS);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(strangers), 0);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
  ck_assert_int_eq(forkq_queue_join(queue, PATIENCE_MS, NULL), 0);
}
END_TEST

static void get_five(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_S * 1000) == 5);
}

/* Nor does their death free a lock of somebody else's. */
START_TEST(the_lock_of_a_sleeper_stays_its_own) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  forkq_queue_stats_t stats = { .size = sizeof stats };
  pid_t sleeper = support_fork(get_five, NULL);
  while (atomic_load(&channel->asleep) == 0)
    sched_yield();
  support_until_asleep(sleeper);
  int owner = channel->turn.mutex.__data.__lock;
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, call_all, NULL), 0);
  ck_assert_int_eq(channel->turn.mutex.__data.__lock, owner);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
  ck_assert_int_eq(put(5, 0), 0);
  ck_assert_int_eq(support_wait(sleeper), 0);
}
END_TEST

/* ---- a process whose children will be in another one --- */

/* It may have no more threads, says the kernel. What runs goes on. */
static void unshare_and_go_on(void *arg) {
  bool has_put = arg != NULL;
  if (has_put)
    CHILD_MUST(put(7, 0) == 0);
  CHILD_MUST(unshare(CLONE_NEWPID) == 0);
  CHILD_MUST(put(8, 0) == (has_put ? 0 : FORKQ_ENOTHREAD));
  if (has_put)
    CHILD_MUST(get(PATIENCE_MS) == 7 && get(PATIENCE_MS) == 8);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(a_process_that_is_to_have_children_elsewhere_is_not_there_itself) {
  char has_put = 1;
  ck_assert_int_eq(support_wait(support_fork(unshare_and_go_on, &has_put)), 0);
  ck_assert_int_eq(support_wait(support_fork(unshare_and_go_on, NULL)), 0);
}
END_TEST

/* ---- on a loop --- */

static uv_loop_t loop;
static forkq_loop_handle_t *handle;

static void ignore(forkq_loop_req_t *req, int status) {
  (void)req;
  (void)status;
}

/* A handle that it was forked with, and has made its own. */
static void go_on_with_the_loop(void *arg) {
  (void)arg;
  forkq_loop_req_t req = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(uv_loop_fork(&loop) == 0 && forkq_loop_fork(handle) == 0);
  CHILD_MUST(forkq_loop_get(&req, handle, &item, 0, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_put(&req, handle, &nil, 0, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_get(&req, handle, &item, -1, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_put(&req, handle, &nil, -1, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
  uv_run(&loop, UV_RUN_DEFAULT);
}

START_TEST(a_handle_on_a_loop_is_refused_in_another_namespace) {
  put_one_that_arrives();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, go_on_with_the_loop, NULL), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  ck_assert_int_eq(get(0), 7);
}
END_TEST

static Suite *namespace_calls_suite(void) {
  Suite *suite = suite_create("namespace_calls");
  TCase *tcase = add_case(suite);
  tcase_add_loop_test(tcase, the_first_call_in_another_namespace_is_refused, 0, WAYS);
  tcase_add_test(tcase, who_has_the_same_number_in_another_namespace_is_refused);
  tcase_add_test(tcase, who_leaves_in_another_namespace_touches_nothing);
  tcase_add_test(tcase, who_leaves_with_items_of_its_parent_touches_nothing);
  tcase_add_test(tcase, the_others_go_on_meanwhile);
  tcase_add_test(tcase, the_lock_of_a_sleeper_stays_its_own);
  tcase_add_test(tcase, a_process_that_is_to_have_children_elsewhere_is_not_there_itself);
  tcase_add_test(tcase, a_handle_on_a_loop_is_refused_in_another_namespace);
  return suite;
}

int main(void) {
  if (!has_the_right())
    return SKIPPED;
  return support_main(namespace_calls_suite());
}
