/* outbox_max_bytes: a process with so many bytes unsent finds the queue full. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LARGE (2u << 20) /* a message that no pipe holds */
#define LIMIT 1000u

static void set_up(void) {
  forkq_queue_options_t options = { .size = sizeof options, .outbox_max_bytes = LIMIT };
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

static _Atomic int *born, *dead; /* a child is, its parent is */

/* The outbox is over its limit, and stays so until somebody gets. */
static void fill(void) {
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, 0), 0);
  support_until_pipe_full(queue);
}

static uint64_t waits(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  ck_assert_int_eq(forkq_queue_stats(queue, &now), 0);
  return now.put_waits;
}

START_TEST(over_the_limit_it_is_full) {
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  fill();
  ck_assert_int_eq(forkq_queue_full(queue), 1);
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  ck_assert_int_eq(put_bin(100, 20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 1);
  assert_get_bin(LARGE);
  ck_assert_int_eq(put(2, 10000), 0);
  ck_assert_int_eq(get(10000), 2);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

static void put_in_child(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_full(queue) == 0);
  CHILD_MUST(put(3, 0) == 0);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, -1, NULL) == 0);
}

START_TEST(each_process_has_a_limit_of_its_own) {
  fill();
  pid_t child = support_fork(put_in_child, NULL);
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(10000), 3);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static uint64_t unsent_bytes(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  CHILD_MUST(forkq_queue_stats(queue, &now) == 0);
  return now.outbox_bytes;
}

static void child_must_get(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 10000) == 0);
  CHILD_MUST(is_bin(&item, size));
  forkq_item_destroy(&item);
}

static uint64_t put_items(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  CHILD_MUST(forkq_queue_stats(queue, &now) == 0);
  CHILD_MUST(now.put_bytes == now.put_items * LARGE);
  return now.put_items;
}

/* What it takes over counts as its own: the process is full until it is sent, and then it is not. */
static void inherit(void *arg) {
  (void)arg;
  prctl(PR_SET_PDEATHSIG, 0);
  atomic_store(born, 1);
  support_until(dead);
  while (unsent_bytes() == 0)
    usleep(100); /* it looks for what the dead held */
  CHILD_MUST(unsent_bytes() == LARGE);
  CHILD_MUST(put_items() == 1); /* it was put once */
  CHILD_MUST(forkq_queue_full(queue) == 1);
  CHILD_MUST(put(1, 0) == FORKQ_FULL);
  child_must_get(LARGE);
  CHILD_MUST(put(2, 10000) == 0);
  CHILD_MUST(get(10000) == 2);
  CHILD_MUST(unsent_bytes() == 0);
  CHILD_MUST(forkq_queue_full(queue) == 0);
  CHILD_MUST(put_bin(LARGE, 0) == 0);
  CHILD_MUST(unsent_bytes() > 0 && unsent_bytes() <= LARGE);
  CHILD_MUST(forkq_queue_full(queue) == 1);
  child_must_get(LARGE);
  CHILD_MUST(put(3, 10000) == 0);
  forkq_queue_destroy(queue);
}

static void leave_it_to_a_child(void *arg) {
  fill();
  *(pid_t *)arg = support_fork(inherit, NULL);
  support_until(born);
}

START_TEST(an_heir_counts_what_it_inherits) {
  pid_t *heir = support_shared(sizeof *heir);
  born = support_shared(sizeof *born);
  dead = support_shared(sizeof *dead);
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  ck_assert_int_eq(support_wait(support_fork(leave_it_to_a_child, heir)), 0);
  atomic_store(dead, 1);
  ck_assert_int_eq(support_wait(*heir), 0);
  ck_assert_int_eq(get(10000), 3);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* The bytes come back on every way out: with the feeder, and without; beside the pipe, and through
 * it. */
START_TEST(what_is_sent_counts_no_more) {
  if (_i == 1)
    support_keep_to_pipe(queue);
  for (int i = 0; i < 3000; i++) {
    ck_assert_int_eq(put_bin(600, 10000), 0);
    ck_assert_int_eq(put(i, 10000), 0);
    if (i % 100 == 50)
      ck_assert_int_eq(put_bin(9000, 10000), 0);
    assert_get_bin(600);
    ck_assert_int_eq(get(10000), i);
    if (i % 100 == 50)
      assert_get_bin(9000);
  }
  ck_assert_int_eq(put(1, 10000), 0);
}
END_TEST

static int fail_to_pack(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_str_with_body(packer, "x", 1) == 0 ? -1 : -2;
}

START_TEST(what_cannot_be_packed_does_not_count) {
  for (unsigned i = 0; i < 2 * LIMIT; i++)
    ck_assert_int_eq(forkq_queue_put_with(queue, fail_to_pack, NULL, 0), FORKQ_EPACK);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(10000), 1);
}
END_TEST

START_TEST(a_batch_stops_there) {
  msgpack_object objects[3];
  static char bytes[600];
  for (int i = 0; i < 3; i++) {
    objects[i].type = MSGPACK_OBJECT_BIN;
    objects[i].via.bin.ptr = bytes;
    objects[i].via.bin.size = sizeof bytes;
  }
  size_t n = 77;
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 3, 0, &n), 0);
  ck_assert_uint_eq(n, 2);
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 10000), 0);
    ck_assert_uint_eq(item.size, sizeof bytes + 3);
  }
  forkq_item_destroy(&item);
}
END_TEST

/* ---- a put that waits ---------------------------------------------------------------- */

static void *put_and_wait(void *arg) {
  *(int *)arg = put(4, 60000);
  return NULL;
}

static pthread_t waiting_putter(int *result) {
  pthread_t thread;
  fill();
  uint64_t before = waits();
  ck_assert_int_eq(pthread_create(&thread, NULL, put_and_wait, result), 0);
  while (waits() == before)
    usleep(100);
  return thread;
}

START_TEST(it_goes_on_when_there_is_room) {
  int result = 77;
  pthread_t thread = waiting_putter(&result);
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(10000), 4);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(it_sees_a_shutdown) {
  int result = 77;
  pthread_t thread = waiting_putter(&result);
  ck_assert_int_eq(forkq_queue_shutdown(queue, _i), 0);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, FORKQ_ESHUTDOWN);
  if (_i == 0)
    assert_get_bin(LARGE);
  else
    ck_assert_int_eq(forkq_queue_full(queue), 0);
}
END_TEST

static void shut_down(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_shutdown(queue, 0) == 0);
}

START_TEST(it_sees_the_shutdown_of_another_process) {
  int result = 77;
  pthread_t thread = waiting_putter(&result);
  ck_assert_int_eq(support_wait(support_fork(shut_down, NULL)), 0);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, FORKQ_ESHUTDOWN);
  assert_get_bin(LARGE);
}
END_TEST

START_TEST(it_sees_a_close) {
  int result = 77;
  pthread_t thread = waiting_putter(&result);
  ck_assert_int_eq(forkq_queue_cancel_join_thread(queue), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  pthread_join(thread, NULL);
  ck_assert_int_eq(result, FORKQ_ECLOSED);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("outbox_bound");
  TCase *tcase = tcase_create("outbox_bound");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, over_the_limit_it_is_full);
  tcase_add_test(tcase, each_process_has_a_limit_of_its_own);
  tcase_add_test(tcase, an_heir_counts_what_it_inherits);
  tcase_add_loop_test(tcase, what_is_sent_counts_no_more, 0, 2);
  tcase_add_test(tcase, what_cannot_be_packed_does_not_count);
  tcase_add_test(tcase, a_batch_stops_there);
  tcase_add_test(tcase, it_goes_on_when_there_is_room);
  tcase_add_loop_test(tcase, it_sees_a_shutdown, 0, 2);
  tcase_add_test(tcase, it_sees_the_shutdown_of_another_process);
  tcase_add_test(tcase, it_sees_a_close);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
