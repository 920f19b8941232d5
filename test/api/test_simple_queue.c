/* The simple queue: CPython's TestSimpleQueue by name, and what forkq adds to it. */
#include "support.h"

#include <check.h>
#include <forkq.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static forkq_simple_queue_t *queue;
static int fds_before;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_simple_queue_create(&queue), 0);
}

static void tear_down(void) {
  forkq_simple_queue_destroy(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

static int put(int64_t value) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)value;
  return forkq_simple_queue_put(queue, &object);
}

static int64_t get(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_simple_queue_get(queue, &item);
  int64_t value = r < 0 ? r : item.object.via.i64;
  forkq_item_destroy(&item);
  return value;
}

static int put_bin(size_t size) {
  char *data = calloc(1, size);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)((size - 5) >> (24 - 8 * i));
  int r = forkq_simple_queue_put_packed(queue, data, size);
  free(data);
  return r;
}

/* ---- TestSimpleQueue ----------------------------------------------------------------------- */

struct turns {
  _Atomic int child_can_start;
  _Atomic int parent_can_continue;
};

static void put_what_empty_says(void *arg) {
  struct turns *turns = arg;
  support_until(&turns->child_can_start);
  CHILD_MUST(put(forkq_simple_queue_empty(queue)) == 0);
  CHILD_MUST(put(forkq_simple_queue_empty(queue)) == 0);
  atomic_store(&turns->parent_can_continue, 1);
}

START_TEST(test_empty) {
  struct turns *turns = support_shared(sizeof *turns);
  pid_t child = support_fork(put_what_empty_says, turns);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  atomic_store(&turns->child_can_start, 1);
  support_until(&turns->parent_can_continue);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 0);
  ck_assert_int_eq(get(), 1);
  ck_assert_int_eq(get(), 0);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(test_close) {
  ck_assert_int_eq(forkq_simple_queue_close(queue), 0);
  ck_assert_int_eq(forkq_simple_queue_close(queue), 0);
}
END_TEST

START_TEST(test_closed) {
  ck_assert_int_eq(put(1), 0);
  ck_assert_int_eq(forkq_simple_queue_close(queue), 0);
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(put(1), FORKQ_ECLOSED);
  ck_assert_int_eq(get(), FORKQ_ECLOSED);
}
END_TEST

START_TEST(test_empty_exceptions) {
  ck_assert_int_eq(forkq_simple_queue_close(queue), 0);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), FORKQ_ECLOSED);
}
END_TEST

/* ---- more ---------------------------------------------------------------------------------- */

static void put_many_and_leave(void *arg) {
  (void)arg;
  for (int i = 0; i < 1000; i++)
    CHILD_MUST(put(i) == 0);
}

START_TEST(what_was_put_is_there_after_any_exit) {
  /* support_fork ends with _exit: there is nothing to flush. */
  ck_assert_int_eq(put(5), 0);
  ck_assert_int_eq(get(), 5);
  pid_t child = support_fork(put_many_and_leave, NULL);
  for (int i = 0; i < 1000; i++)
    ck_assert_int_eq(get(), i);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void put_ten_large(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  for (int i = 0; i < 10; i++)
    CHILD_MUST(put_bin(1u << 20) == 0);
}

START_TEST(a_put_blocks_while_the_pipe_is_full) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  pid_t child = support_fork(put_ten_large, NULL);
  support_until_pipe_full(queue);
  support_until_asleep(child);
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(forkq_simple_queue_get(queue, &item), 0);
    ck_assert_uint_eq(item.size, 1u << 20);
  }
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(a_putter_killed_in_the_middle_of_a_message) {
  for (int round = 0; round < 20; round++) {
    pid_t child = support_fork(put_ten_large, NULL);
    support_until_pipe_full(queue);
    support_until_asleep(child);
    support_kill_and_wait(child);
    pid_t other = support_fork(put_many_and_leave, NULL);
    for (int i = 0; i < 1000; i++)
      ck_assert_int_eq(get(), i);
    ck_assert_int_eq(support_wait(other), 0);
    ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  }
}
END_TEST

static void put_and_be_refused(void *arg) {
  support_keep_to_pipe(queue);
  *(int *)arg = put_bin(1u << 20);
}

START_TEST(close_ends_a_blocked_put) {
  uv_thread_t thread;
  int result = 0;
  uv_thread_create(&thread, put_and_be_refused, &result);
  support_until_pipe_full(queue);
  support_until_threads_asleep(1);
  ck_assert_int_eq(forkq_simple_queue_close(queue), 0);
  uv_thread_join(&thread);
  ck_assert_int_eq(result, FORKQ_ECLOSED);
}
END_TEST

static void put_a_thousand(void *arg) {
  for (int64_t i = 0; i < 1000; i++)
    ck_assert_int_eq(put((int64_t)(intptr_t)arg * 1000 + i), 0);
}

START_TEST(threads_put_in_turn) {
  uv_thread_t threads[4];
  int64_t next[4] = { 0 };
  for (intptr_t i = 0; i < 4; i++)
    uv_thread_create(&threads[i], put_a_thousand, (void *)i);
  for (int i = 0; i < 4000; i++) {
    int64_t value = get();
    ck_assert_int_eq(value % 1000, next[value / 1000]++);
  }
  for (int i = 0; i < 4; i++)
    uv_thread_join(&threads[i]);
}
END_TEST

static void put_bytes_of_size(void *arg) {
  size_t size = *(size_t *)arg;
  char *data = malloc(size);
  support_fill(data, size, size);
  CHILD_MUST(forkq_simple_queue_put_bytes(queue, data, size) == 0);
  free(data);
}

START_TEST(plain_values) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_simple_queue_put_bytes(queue, "a\0b", 3), 0);
  ck_assert_int_eq(forkq_simple_queue_put_str(queue, "text"), 0);
  ck_assert_int_eq(forkq_simple_queue_put_int(queue, -40), 0);
  ck_assert_int_eq(forkq_simple_queue_put_nil(queue), 0);
  ck_assert_int_eq(forkq_simple_queue_get(queue, &item), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_BIN);
  ck_assert_uint_eq(item.object.via.bin.size, 3);
  ck_assert(memcmp(item.object.via.bin.ptr, "a\0b", 3) == 0);
  ck_assert_int_eq(forkq_simple_queue_get(queue, &item), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_STR);
  ck_assert_uint_eq(item.object.via.str.size, 4);
  ck_assert_int_eq(get(), -40);
  ck_assert_int_eq(forkq_simple_queue_get(queue, &item), 0);
  ck_assert(item.object.type == MSGPACK_OBJECT_NIL && item.size == 1);
  forkq_item_destroy(&item);
}
END_TEST

static const size_t sizes[] = { 0, 1, 4059, 4060, 1u << 20 };

/* Beside the pipe, or through it, where a large put waits for the get. */
START_TEST(bytes_into_a_buffer) {
  size_t size = sizes[_i / 2], got = 0;
  char *data = malloc(size + 1), *buffer = malloc(size + 1);
  support_fill(data, size, size);
  if (_i % 2 == 1)
    support_keep_to_pipe(queue);
  bool waits = _i % 2 == 1 && size > 4060;
  pid_t child = waits ? support_fork(put_bytes_of_size, &size) : -1;
  if (!waits)
    ck_assert_int_eq(forkq_simple_queue_put_bytes(queue, data, size), 0);
  if (size > 0)
    ck_assert_int_eq(forkq_simple_queue_get_bytes_into(queue, buffer, size - 1, &got),
                     FORKQ_ETOOSHORT);
  ck_assert_uint_eq(got, size);
  ck_assert_int_eq(forkq_simple_queue_get_bytes_into(queue, buffer, size, &got), 0);
  ck_assert_uint_eq(got, size);
  ck_assert(memcmp(buffer, data, size) == 0);
  if (waits)
    ck_assert_int_eq(support_wait(child), 0);
  free(data);
  free(buffer);
}
END_TEST

START_TEST(no_values_and_no_buffer) {
  ck_assert_int_eq(forkq_simple_queue_put_bytes(NULL, "x", 1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_bytes(queue, NULL, 1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_bytes(queue, "", (size_t)FORKQ_MESSAGE_MAX + 1),
                   FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_simple_queue_put_str(NULL, "x"), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_str(queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_int(NULL, 1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_nil(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  ck_assert_int_eq(forkq_simple_queue_put_int(queue, 3), 0);
  ck_assert_int_eq(forkq_simple_queue_get_bytes_into(NULL, NULL, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_get_bytes_into(queue, NULL, 1, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_get_bytes_into(queue, NULL, 0, NULL),
                   FORKQ_EWRONGTYPE);
  ck_assert_int_eq(get(), 3);
}
END_TEST

static int fails(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 1;
}

START_TEST(errors_leave_it_usable) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_simple_queue_create(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put(queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_put_packed(queue, "\xc1", 1), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_simple_queue_put_with(queue, fails, NULL), FORKQ_EPACK);
  ck_assert_int_eq(forkq_simple_queue_get(queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_empty(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_close(NULL), FORKQ_ENULL);
  forkq_simple_queue_destroy(NULL);
  ck_assert_int_eq(forkq_simple_queue_empty(queue), 1);
  ck_assert_int_eq(put(1), 0);
  ck_assert_int_eq(forkq_simple_queue_get_packed(queue, &item), 0);
  ck_assert_uint_eq(item.size, 1);
  forkq_item_destroy(&item);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("simple_queue");
  TCase *tcase = tcase_create("TestSimpleQueue");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, test_empty);
  tcase_add_test(tcase, test_close);
  tcase_add_test(tcase, test_closed);
  tcase_add_test(tcase, test_empty_exceptions);
  tcase_add_test(tcase, what_was_put_is_there_after_any_exit);
  tcase_add_test(tcase, a_put_blocks_while_the_pipe_is_full);
  tcase_add_test(tcase, a_putter_killed_in_the_middle_of_a_message);
  tcase_add_test(tcase, close_ends_a_blocked_put);
  tcase_add_test(tcase, threads_put_in_turn);
  tcase_add_test(tcase, plain_values);
  tcase_add_loop_test(tcase, bytes_into_a_buffer, 0,
                      2 * (int)(sizeof sizes / sizeof *sizes));
  tcase_add_test(tcase, no_values_and_no_buffer);
  tcase_add_test(tcase, errors_leave_it_usable);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
