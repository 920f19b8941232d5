/* forkq_wait on queues. */
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

static forkq_queue_t *other;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_create(&other, 0), 0);
}

static void tear_down(void) {
  forkq_queue_destroy(other);
  queue_tear_down();
}

static int wait_for(forkq_queue_t *on, int timeout_ms) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(on);
  int r = forkq_wait(&entry, 1, timeout_ms);
  if (r >= 0)
    ck_assert_int_eq(entry.ready, r);
  return r;
}

START_TEST(ready_says_which) {
  int fds[2];
  ck_assert_int_eq(pipe(fds), 0);
  forkq_wait_entry_t on[] = { forkq_wait_on_queue(queue), forkq_wait_on_fd(fds[0]),
                              forkq_wait_on_queue(other) };
  ck_assert_int_eq(forkq_wait(on, 3, 0), 0);
  ck_assert_int_eq(forkq_wait(on, 3, 20), 0);
  ck_assert_int_eq(put_int(other, 1, -1), 0);
  ck_assert_int_eq(forkq_wait(on, 3, -1), 1);
  ck_assert(!on[0].ready && !on[1].ready && on[2].ready);
  ck_assert_int_eq(write(fds[1], "x", 1), 1);
  ck_assert_int_eq(forkq_wait(on, 3, -1), 2);
  ck_assert(!on[0].ready && on[1].ready && on[2].ready);
  ck_assert_int_eq(get_int(other, 0), 1);
  ck_assert_int_eq(forkq_wait(on, 3, -1), 1);
  ck_assert(!on[0].ready && on[1].ready && !on[2].ready);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

static void put_when_told(void *arg) {
  support_until(arg);
  CHILD_MUST(put_int(queue, 3, -1) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(an_item_of_another_process_ends_the_wait) {
  _Atomic int *go = support_shared(sizeof *go);
  pid_t child = support_fork(put_when_told, (void *)go);
  ck_assert_int_eq(wait_for(queue, 20), 0);
  atomic_store(go, 1);
  ck_assert_int_eq(wait_for(queue, -1), 1);
  ck_assert_int_eq(get_int(queue, 0), 3);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void get_one(void *arg) {
  CHILD_MUST(get_int(arg, -1) == 1);
}

/* Two items in one packet: another process takes the first and with it reads both, so the
 * pipe is empty. */
START_TEST(what_another_has_read_ahead_is_ready) {
  msgpack_object two[2] = { { .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 1 },
                            { .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 2 } };
  size_t n;
  ck_assert_int_eq(forkq_queue_put_many(queue, two, 2, -1, &n), 0);
  ck_assert_uint_eq(n, 2);
  ck_assert_int_eq(support_wait(support_fork(get_one, queue)), 0);
  ck_assert_int_eq(wait_for(queue, -1), 1);
  ck_assert_int_eq(get_int(queue, 0), 2);
  ck_assert_int_eq(wait_for(queue, 0), 0);
}
END_TEST

static void wait_and_get(void *arg) {
  _Atomic int *total = arg;
  for (;;) {
    CHILD_MUST(wait_for(queue, 20000) == 1);
    int64_t value = get_int(queue, 0);
    if (value == FORKQ_EMPTY)
      continue; /* another one was faster */
    if (value == FORKQ_ESHUTDOWN)
      break;
    CHILD_MUST(value >= 0);
    atomic_fetch_add(total, 1);
  }
  forkq_queue_destroy(queue);
}

START_TEST(many_wait_and_each_item_is_got_once) {
  _Atomic int *total = support_shared(sizeof *total);
  pid_t children[4];
  for (int i = 0; i < 4; i++)
    children[i] = support_fork(wait_and_get, (void *)total);
  for (int i = 0; i < 20000; i++)
    ck_assert_int_eq(put_int(queue, i, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_int_eq(atomic_load(total), 20000);
}
END_TEST

START_TEST(a_queue_that_is_shut_down_is_ready) {
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(wait_for(queue, -1), 1);
  ck_assert_int_eq(get_int(queue, 0), 1);
  ck_assert_int_eq(wait_for(queue, -1), 1);
  ck_assert_int_eq(get_int(queue, 0), FORKQ_ESHUTDOWN);
}
END_TEST

static void wait_until_closed(void *arg) {
  *(int *)arg = wait_for(queue, -1);
}

START_TEST(closing_ends_the_wait_of_another_thread) {
  uv_thread_t thread;
  int result = 0;
  uv_thread_create(&thread, wait_until_closed, &result);
  support_until_threads_asleep(1);
  forkq_queue_close(queue);
  uv_thread_join(&thread);
  ck_assert_int_eq(result, FORKQ_ECLOSED);
  ck_assert_int_eq(wait_for(queue, 0), FORKQ_ECLOSED);
}
END_TEST

static void close_with_a_waiter(void *arg) {
  (void)arg;
  uv_thread_t thread;
  int result = 0;
  uv_thread_create(&thread, wait_until_closed, &result);
  support_until_threads_asleep(1);
  forkq_queue_close(queue);
  uv_thread_join(&thread);
  CHILD_MUST(result == FORKQ_ECLOSED);
}

START_TEST(a_wait_for_nothing_does_not_spin) {
  /* A getter in another process was closed: its poke is left behind, an event that stands for
   * nothing. It is lowered, and this wait sleeps its time. */
  struct rusage before, after;
  ck_assert_int_eq(support_wait(support_fork(close_with_a_waiter, NULL)), 0);
  getrusage(RUSAGE_SELF, &before);
  ck_assert_int_eq(wait_for(queue, 300), 0);
  getrusage(RUSAGE_SELF, &after);
  ck_assert_int_lt(after.ru_nvcsw - before.ru_nvcsw, 20);
}
END_TEST

START_TEST(bad_use) {
  forkq_wait_entry_t twice[] = { forkq_wait_on_queue(queue), forkq_wait_on_queue(queue) };
  ck_assert_int_eq(forkq_wait(twice, 2, 0), FORKQ_ETWICE);
  ck_assert_int_eq(wait_for(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_wait(twice, 1, 0), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("wait_queue");
  TCase *tcase = tcase_create("wait");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, ready_says_which);
  tcase_add_test(tcase, an_item_of_another_process_ends_the_wait);
  tcase_add_test(tcase, what_another_has_read_ahead_is_ready);
  tcase_add_test(tcase, many_wait_and_each_item_is_got_once);
  tcase_add_test(tcase, a_queue_that_is_shut_down_is_ready);
  tcase_add_test(tcase, closing_ends_the_wait_of_another_thread);
  tcase_add_test(tcase, a_wait_for_nothing_does_not_spin);
  tcase_add_test(tcase, bad_use);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
