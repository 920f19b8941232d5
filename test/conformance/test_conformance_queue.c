/* CPython's own tests of multiprocessing.Queue (test/_test_multiprocessing.py, class
 * _TestQueue and neighbours), ported under their names. */
#define _GNU_SOURCE
#include "support.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT1_MS 820
#define TIMEOUT2_MS 350
#define TIMEOUT3_MS 1400

static msgpack_object integer(int64_t value) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)value;
  return object;
}

static int put(forkq_queue_t *queue, int64_t value, int timeout_ms) {
  msgpack_object object = integer(value);
  return forkq_queue_put(queue, &object, timeout_ms);
}

/* The integer that comes next, or the negative code. */
static int64_t get(forkq_queue_t *queue, int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get(queue, &item, timeout_ms);
  int64_t value = r < 0 ? r : (int64_t)item.object.via.u64;
  forkq_item_destroy(&item);
  return value;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static forkq_queue_t *queue_of(int64_t maxsize) {
  forkq_queue_t *queue;
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
  return queue;
}

struct pair {
  forkq_queue_t *queue;
  _Atomic int *child_can_start;
  _Atomic int *parent_can_continue;
};

static struct pair pair_of(int64_t maxsize) {
  _Atomic int *flags = support_shared(2 * sizeof *flags);
  return (struct pair){ queue_of(maxsize), &flags[0], &flags[1] };
}

static void drain_six(void *arg) {
  struct pair *pair = arg;
  support_until(pair->child_can_start);
  for (int i = 0; i < 6; i++)
    if (get(pair->queue, -1) < 0)
      _exit(1);
  atomic_store(pair->parent_can_continue, 1);
}

static void assert_full_after(forkq_queue_t *queue, int timeout_ms) {
  double start = now();
  ck_assert_int_eq(put(queue, 7, timeout_ms),
                   timeout_ms == 0 ? FORKQ_FULL : FORKQ_TIMEDOUT);
  ck_assert_double_ge(now() - start, timeout_ms / 1e3 - 0.001);
}

START_TEST(test_put) {
  struct pair pair = pair_of(6);
  forkq_queue_t *queue = pair.queue;
  pid_t child = support_fork(drain_six, &pair);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(put(queue, 1, -1), 0);
  ck_assert_int_eq(put(queue, 2, -1), 0);
  ck_assert_int_eq(put(queue, 3, TIMEOUT1_MS), 0);
  ck_assert_int_eq(put(queue, 4, 0), 0);
  ck_assert_int_eq(put(queue, 5, 0), 0);
  msgpack_object six = integer(6);
  ck_assert_int_eq(forkq_queue_put_nowait(queue, &six), 0);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 1);
  ck_assert_int_eq(forkq_queue_put_nowait(queue, &six), FORKQ_FULL);
  assert_full_after(queue, 0);
  assert_full_after(queue, TIMEOUT1_MS);
  assert_full_after(queue, TIMEOUT2_MS);
  assert_full_after(queue, TIMEOUT3_MS);
  atomic_store(pair.child_can_start, 1);
  support_until(pair.parent_can_continue);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_queue_destroy(queue);
}
END_TEST

static void put_four(void *arg) {
  struct pair *pair = arg;
  support_until(pair->child_can_start);
  for (int i = 2; i <= 5; i++)
    if (put(pair->queue, i, -1) != 0)
      _exit(1);
  forkq_queue_destroy(pair->queue);
  atomic_store(pair->parent_can_continue, 1);
}

static void assert_empty_after(forkq_queue_t *queue, int timeout_ms) {
  double start = now();
  ck_assert_int_eq(get(queue, timeout_ms),
                   timeout_ms == 0 ? FORKQ_EMPTY : FORKQ_TIMEDOUT);
  ck_assert_double_ge(now() - start, timeout_ms / 1e3 - 0.001);
}

START_TEST(test_get) {
  struct pair pair = pair_of(0);
  forkq_queue_t *queue = pair.queue;
  pid_t child = support_fork(put_four, &pair);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  atomic_store(pair.child_can_start, 1);
  support_until(pair.parent_can_continue);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  ck_assert_int_eq(get(queue, -1), 2);
  ck_assert_int_eq(get(queue, -1), 3);
  ck_assert_int_eq(get(queue, 1000), 4);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get_nowait(queue, &item), 0);
  ck_assert_uint_eq(item.object.via.u64, 5);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  ck_assert_int_eq(forkq_queue_get_nowait(queue, &item), FORKQ_EMPTY);
  assert_empty_after(queue, 0);
  assert_empty_after(queue, TIMEOUT1_MS);
  assert_empty_after(queue, TIMEOUT2_MS);
  assert_empty_after(queue, TIMEOUT3_MS);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}
END_TEST

static void put_ten_to_twenty(void *arg) {
  for (int i = 10; i < 20; i++)
    if (put(arg, i, -1) != 0)
      _exit(1);
  /* As in CPython: the child does not close, its exit sends what it put. */
  exit(0);
}

START_TEST(test_fork) {
  /* CPython's test sleeps, so that the parent's items are in the pipe before the fork.
   * Here the order of each process is what is looked at, with the parent's feeder
   * running. */
  forkq_queue_t *queue = queue_of(0);
  for (int i = 0; i < 10; i++)
    ck_assert_int_eq(put(queue, i, -1), 0);
  pid_t child = support_fork(put_ten_to_twenty, queue);
  int64_t next[] = { 0, 10 };
  for (int i = 0; i < 20; i++) {
    int64_t value = get(queue, -1);
    ck_assert_int_ge(value, 0);
    ck_assert_int_eq(value, next[value >= 10]++);
  }
  ck_assert_int_eq(next[0], 10);
  ck_assert_int_eq(next[1], 20);
  ck_assert_int_eq(get(queue, 0), FORKQ_EMPTY);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(test_qsize) {
  forkq_queue_t *queue = queue_of(0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(put(queue, 1, -1), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 1);
  ck_assert_int_eq(put(queue, 5, -1), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  ck_assert_int_eq(get(queue, -1), 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 1);
  ck_assert_int_eq(get(queue, -1), 5);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(test_timeout) {
  forkq_queue_t *queue = queue_of(0);
  double start = now();
  ck_assert_int_eq(get(queue, 200), FORKQ_TIMEDOUT);
  ck_assert_double_ge(now() - start, 0.199);
  forkq_queue_destroy(queue);
}
END_TEST

static int cannot_be_packed(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_array(packer, 3);
  return -1;
}

START_TEST(test_queue_feeder_donot_stop_onexc) {
  /* In CPython the put succeeds and the feeder meets the error; here the put says so. */
  forkq_queue_t *queue = queue_of(0);
  ck_assert_int_eq(forkq_queue_put_with(queue, cannot_be_packed, NULL, -1), FORKQ_EPACK);
  ck_assert_int_eq(put(queue, 1, -1), 0);
  ck_assert_int_eq(get(queue, -1), 1);
  forkq_queue_destroy(queue);

  queue = queue_of(1);
  ck_assert_int_eq(forkq_queue_put_with(queue, cannot_be_packed, NULL, -1), FORKQ_EPACK);
  ck_assert_int_eq(put(queue, 1, -1), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 1);
  ck_assert_int_eq(get(queue, -1), 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  forkq_queue_destroy(queue);
}
END_TEST

/* The number of the writing end of a queue's pipe. */
static int write_end(void) {
  for (int fd = 0; fd < 100; fd++) {
    char path[32], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags != -1 && (flags & (O_ACCMODE | O_DIRECT)) == (O_WRONLY | O_DIRECT) &&
        readlink(path, target, sizeof target - 1) > 0 && strncmp(target, "pipe:", 5) == 0)
      return fd;
  }
  ck_abort_msg("no pipe");
  return -1;
}

struct feeder_error {
  _Atomic int called;
  int error;
  char data[8];
  size_t size;
};

static void on_feeder_error(forkq_queue_t *queue, int error, const char *data,
                            size_t size, void *arg) {
  (void)queue;
  struct feeder_error *seen = arg;
  seen->error = error;
  seen->size = size;
  memcpy(seen->data, data, size < sizeof seen->data ? size : sizeof seen->data);
  atomic_store(&seen->called, 1);
}

START_TEST(test_queue_feeder_on_queue_feeder_error) {
  static struct feeder_error seen;
  forkq_queue_options_t options = { .size = sizeof options,
                                    .maxsize = 1,
                                    .on_feeder_error = on_feeder_error,
                                    .on_feeder_error_arg = &seen };
  forkq_queue_t *queue;
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  /* Every write fails with EBADF for a while. */
  int fd = write_end();
  int saved = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  int unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ck_assert_int_eq(dup3(unwritable, fd, O_CLOEXEC), fd);
  ck_assert_int_eq(put(queue, 42, -1), 0);
  support_until(&seen.called);
  ck_assert_int_eq(seen.error, -EBADF);
  ck_assert_uint_eq(seen.size, 1);
  ck_assert_int_eq(seen.data[0], 42);
  ck_assert_int_eq(dup3(saved, fd, O_CLOEXEC), fd);
  close(saved);
  close(unwritable);
  /* The slot is free again, and the feeder goes on. */
  ck_assert_int_eq(put(queue, 43, -1), 0);
  ck_assert_int_eq(get(queue, -1), 43);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(test_closed_queue_put_get_exceptions) {
  forkq_queue_t *queue = queue_of(0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(put(queue, 1, -1), FORKQ_ECLOSED);
  ck_assert_int_eq(get(queue, -1), FORKQ_ECLOSED);
  ck_assert_str_eq(forkq_strerror(FORKQ_ECLOSED),
                   "queue, connection or handle is closed");
  forkq_queue_destroy(queue);
}
END_TEST

START_TEST(test_closed_queue_empty_exceptions) {
  /* A queue that was closed without a put says that it is empty. */
  forkq_queue_t *queue = queue_of(0);
  forkq_queue_close(queue);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  forkq_queue_destroy(queue);
  /* One that was used, closed and joined says that it is closed. */
  queue = queue_of(0);
  ck_assert_int_eq(put(queue, 1, -1), 0);
  forkq_queue_close(queue);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
  ck_assert_int_eq(forkq_queue_empty(queue), FORKQ_ECLOSED);
  forkq_queue_destroy(queue);
}
END_TEST

static void put_in_grandchild(void *arg) {
  ck_assert_int_eq(support_wait(support_fork(put_ten_to_twenty, arg)), 0);
  exit(0);
}

/* TestStdinBadfiledescriptor: a queue in a child of a child. */
START_TEST(test_queue_in_process) {
  forkq_queue_t *queue = queue_of(0);
  pid_t child = support_fork(put_in_grandchild, queue);
  for (int i = 10; i < 20; i++)
    ck_assert_int_eq(get(queue, -1), i);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_queue_destroy(queue);
}
END_TEST

static void put_two(void *arg) {
  put(arg, 2, -1);
  exit(0);
}

static void put_one_and_pass_on(void *arg) {
  put(arg, 1, -1);
  ck_assert_int_eq(support_wait(support_fork(put_two, arg)), 0);
  exit(0);
}

/* TestStartMethod: the child puts, and passes the queue on to a child of its own. */
START_TEST(test_nested_startmethod) {
  forkq_queue_t *queue = queue_of(0);
  pid_t child = support_fork(put_one_and_pass_on, queue);
  int64_t sum = get(queue, -1);
  sum += 10 * get(queue, -1);
  ck_assert(sum == 21 || sum == 12);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_queue_destroy(queue);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("conformance_queue");
  TCase *tcase = tcase_create("_TestQueue");
  tcase_set_timeout(tcase, 30);
  tcase_add_test(tcase, test_put);
  tcase_add_test(tcase, test_get);
  tcase_add_test(tcase, test_fork);
  tcase_add_test(tcase, test_qsize);
  tcase_add_test(tcase, test_timeout);
  tcase_add_test(tcase, test_queue_feeder_donot_stop_onexc);
  tcase_add_test(tcase, test_queue_feeder_on_queue_feeder_error);
  tcase_add_test(tcase, test_closed_queue_put_get_exceptions);
  tcase_add_test(tcase, test_closed_queue_empty_exceptions);
  suite_add_tcase(suite, tcase);
  tcase = tcase_create("start methods");
  tcase_set_timeout(tcase, 30);
  tcase_add_test(tcase, test_queue_in_process);
  tcase_add_test(tcase, test_nested_startmethod);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
