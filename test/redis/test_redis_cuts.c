/* Every operation on a queue of a server, with its connection cut at each byte, there and back: it returns what it does
 * without, at once, and each item is there once. Then frozen at some.
 *
 * FORKQ_REDIS_SPARSE=N: where an operation has many bytes, or waits, one in N of those in the middle; 1: all.
 * FORKQ_REDIS_FREEZE=N: one in N is frozen. */
#define _GNU_SOURCE
#include "proxy.h"
#include "redis_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPARSE 997
#define FREEZE 149

/* So many bytes at each end of an operation are all taken; or one in LONG of so many, if it waits. In the middle is
 * the opening of a connection, with all scripts. */
#define DENSE 300
#define DENSE_LONG 1000
#define LONG 13

#define AT_ONCE_MS                                                                       \
  1500 /* with what others do to the machine; an answer is waited for for 5 s */
#define ANSWER_MS 100 /* where a connection freezes */

#define LATE_MS 8

#define PLAIN "queue=jobs&maxsize=4&joinable=0"
#define TASKS "queue=jobs&maxsize=4&joinable=1"
#define BATCH 3
#define LARGE ((size_t)100 * 1024)

/* The queue, through the proxy; `direct` is not, and sees what became of it. */
static forkq_queue_t *direct;
static const char *query;
static bool freezes;
static int64_t value; /* of the last item that was put */
static forkq_item_t item, items[BATCH];
static char *large;

/* What is done with the connection cut, and before and after that without. */
struct operation {
  const char *query;
  void (*before)(void);
  void (*run)(void);
  void (*after)(void);
  bool waits;  /* a frozen connection is seen after 5 s */
  bool varies; /* it has not the same bytes each time */
};

static int open_through(forkq_queue_t **ret_queue) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  options.answer_ms = freezes ? ANSWER_MS : 0;
  return forkq_redis_open(ret_queue, proxy_url(query), &options);
}

static void nothing(void) {}

/* A call that does not wait has one try, which a frozen connection may use up. */
static int timeout(void) {
  return freezes ? PATIENCE_MS : 0;
}

static bool may_fail(int64_t r) {
  return freezes && r == FORKQ_ECONNLOST;
}

static void is_empty(void) {
  ck_assert_int_eq(get_int(direct, 0), FORKQ_EMPTY);
  ck_assert_int_eq(server_number("LLEN {fq:jobs}:w"), 0);
}

/* The items that were put last are there, once and in order, and nothing else. */
static void are_there(int count) {
  for (int i = count - 1; i >= 0; i--)
    ck_assert_int_eq(get_int(direct, 0), value - i);
  is_empty();
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}

/* ---- putting -------------------------------------------------------------------------------- */

static void run_put(void) {
  ck_assert_int_eq(put_int(queue, ++value, timeout()), 0);
}

static void after_put(void) {
  are_there(1);
}

static void run_put_batch(void) {
  msgpack_object objects[BATCH];
  size_t count = 0;
  for (int i = 0; i < BATCH; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = (uint64_t)++value;
  }
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, BATCH, timeout(), &count), 0);
  ck_assert_uint_eq(count, BATCH);
}

static void after_put_batch(void) {
  are_there(BATCH);
}

static void run_put_large(void) {
  support_fill(large, LARGE, (uint64_t)++value);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, large, LARGE, timeout()), 0);
}

static void after_put_large(void) {
  ck_assert_int_eq(forkq_queue_get(direct, &item, 0), 0);
  ck_assert_uint_eq(item.object.via.bin.size, LARGE);
  ck_assert_mem_eq(item.object.via.bin.ptr, large, LARGE);
  is_empty();
}

static void fill(void) {
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(put_int(direct, ++value, 0), 0);
}

static void run_waiting_put(void) {
  struct caller putter;
  begin_put(&putter, queue, ++value, -1);
  until_puts_wait(1);
  until_blocked(1);
  ck_assert_int_eq(get_int(direct, 0), value - 4);
  ck_assert_int_eq(end_call(&putter), 0);
}

static void after_waiting_put(void) {
  are_there(4);
}

/* A short time may be over before there is a connection again. */
static void run_late_put(void) {
  int r = put_int(queue, value + 1, LATE_MS);
  ck_assert(r == FORKQ_TIMEDOUT || r == FORKQ_EUNKNOWN || r == FORKQ_ECONNLOST);
}

/* After this thread's next call it does not come any more. */
static void after_late_put(void) {
  int full;
  while (may_fail(full = forkq_queue_full(queue)))
    ;
  ck_assert_int_eq(full, 1);
  are_there(4);
}

/* ---- getting -------------------------------------------------------------------------------- */

static void before_get(void) {
  ck_assert_int_eq(put_int(direct, ++value, 0), 0);
}

static void run_get(void) {
  ck_assert_int_eq(get_int(queue, timeout()), value);
}

/* Only that item is not done, and that is said with the next get. */
static void after_get(void) {
  is_empty();
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 1);
}

static void before_get_batch(void) {
  for (int i = 0; i < BATCH; i++)
    before_get();
}

static void run_get_batch(void) {
  size_t count = 0;
  ck_assert_int_eq(forkq_queue_get_many(queue, items, BATCH, timeout(), &count), 0);
  ck_assert_uint_eq(count, BATCH);
  for (size_t i = 0; i < BATCH; i++) {
    ck_assert_int_eq(items[i].object.via.i64, value - BATCH + 1 + (int)i);
    ck_assert_uint_eq(items[i].redelivered, 0);
    forkq_item_destroy(&items[i]);
  }
}

static void after_get_batch(void) {
  is_empty();
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), BATCH);
}

static void before_get_large(void) {
  support_fill(large, LARGE, (uint64_t)++value);
  ck_assert_int_eq(forkq_queue_put_bytes(direct, large, LARGE, 0), 0);
}

static void run_get_large(void) {
  ck_assert_int_eq(forkq_queue_get(queue, &item, timeout()), 0);
  ck_assert_uint_eq(item.object.via.bin.size, LARGE);
  ck_assert_mem_eq(item.object.via.bin.ptr, large, LARGE);
}

static void run_waiting_get(void) {
  struct caller getter;
  begin_get(&getter, queue, -1);
  until_blocked(1);
  ck_assert_int_eq(put_int(direct, ++value, 0), 0);
  ck_assert_int_eq(end_call(&getter), value);
}

static void run_late_get(void) {
  int64_t r = get_int(queue, LATE_MS);
  ck_assert(r == FORKQ_TIMEDOUT || r == FORKQ_ECONNLOST);
}

/* What comes now is not the late one's; or, where the server does not know that it gave up, it is its next one's. */
static void after_late_get(void) {
  before_get();
  int64_t got = get_int(direct, 0);
  if (freezes && got == FORKQ_EMPTY)
    got = get_int(queue, timeout());
  ck_assert_int_eq(got, value);
  is_empty();
}

/* ---- tasks ---------------------------------------------------------------------------------- */

static void before_task(void) {
  before_get();
  run_get();
}

static void run_task_done(void) {
  int r;
  while (may_fail(r = forkq_queue_task_done(queue)))
    ;
  ck_assert_int_eq(r, 0);
}

static void after_task(void) {
  is_empty();
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
}

static void run_join(void) {
  ck_assert_int_eq(forkq_queue_join(queue, timeout(), NULL), 0);
}

static void before_waiting_join(void) {
  before_get();
  ck_assert_int_eq(get_int(direct, 0), value);
}

static void run_waiting_join(void) {
  struct caller joiner;
  begin_join(&joiner, queue, -1);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_task_done(direct), 0);
  ck_assert_int_eq(end_call(&joiner), 0);
}

static void run_late_join(void) {
  ck_assert_int_eq(forkq_queue_join(queue, LATE_MS, NULL), FORKQ_TIMEDOUT);
}

static void after_late_join(void) {
  ck_assert_int_eq(forkq_queue_task_done(direct), 0);
}

/* ---- the others ----------------------------------------------------------------------------- */

static void run_qsize(void) {
  int64_t size, full;
  while (may_fail(size = forkq_queue_qsize(queue)))
    ;
  while (may_fail(full = forkq_queue_full(queue)))
    ;
  ck_assert_int_eq(size, 1);
  ck_assert_int_eq(full, 0);
}

static void before_shutdown(void) {
  server_clear();
  run_put();
}

static void shut_down(bool immediate) {
  int r;
  while (may_fail(r = forkq_queue_shutdown(queue, immediate)))
    ;
  ck_assert_int_eq(r, 0);
}

static void run_shutdown(void) {
  shut_down(false);
}

static void after_shutdown(void) {
  ck_assert_int_eq(put_int(queue, 0, 0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get_int(direct, 0), value);
  ck_assert_int_eq(get_int(direct, 0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get_int(queue, -1), FORKQ_ESHUTDOWN);
}

static void run_shutdown_at_once(void) {
  shut_down(true);
}

static void after_shutdown_at_once(void) {
  ck_assert_int_eq(get_int(direct, 0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}

static void run_open(void) {
  forkq_queue_t *other;
  int r = open_through(&other);
  ck_assert_msg(r == 0 || r == FORKQ_ECONNLOST, "%s: %s", forkq_error_name(r),
                forkq_redis_error());
  proxy_pass();
  if (r == 0) {
    ck_assert_int_eq(put_int(other, ++value, 0), 0);
    ck_assert_int_eq(get_int(other, 0), value);
    forkq_queue_destroy(other);
  }
}

static forkq_queue_t *closing;

static void before_close(void) {
  while (may_fail(open_through(&closing)))
    ;
  before_get();
  ck_assert_int_eq(get_int(closing, 0), value);
}

static void run_close(void) {
  ck_assert_int_eq(forkq_queue_close(closing), 0);
}

static void after_plain_close(void) {
  forkq_queue_destroy(closing);
  is_empty();
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}

static void after_tasks_close(void) {
  forkq_queue_destroy(closing);
  ck_assert_int_eq(forkq_queue_get(direct, &item, 0), 0);
  ck_assert_int_eq(item.object.via.i64, value);
  ck_assert_uint_eq(item.redelivered, 1);
  ck_assert_int_eq(forkq_queue_task_done(direct), 0);
  is_empty();
}

static const struct operation operations[] = {
  { PLAIN, nothing, run_put, after_put, false, false },
  { PLAIN, nothing, run_put_batch, after_put_batch, false, false },
  { PLAIN, nothing, run_put_large, after_put_large, false, false },
  { PLAIN, fill, run_waiting_put, after_waiting_put, true, true },
  { PLAIN, fill, run_late_put, after_late_put, false, true },
  { PLAIN, before_get, run_get, after_get, false, false },
  { TASKS, before_get, run_get, after_get, false, false },
  { PLAIN, before_get_batch, run_get_batch, after_get_batch, false, false },
  { PLAIN, before_get_large, run_get_large, after_get, false, false },
  { PLAIN, nothing, run_waiting_get, after_get, true, true },
  { TASKS, nothing, run_waiting_get, after_get, true, true },
  { PLAIN, nothing, run_late_get, after_late_get, false, true },
  { TASKS, before_task, run_task_done, after_task, false, false },
  { TASKS, nothing, run_join, nothing, false, false },
  { TASKS, before_waiting_join, run_waiting_join, nothing, true, true },
  { TASKS, before_waiting_join, run_late_join, after_late_join, false, true },
  { PLAIN, before_get, run_qsize, after_put, false, false },
  { TASKS, before_shutdown, run_shutdown, after_shutdown, false, false },
  { TASKS, before_shutdown, run_shutdown_at_once, after_shutdown_at_once, false, false },
  { PLAIN, nothing, run_open, nothing, false, true },
  { PLAIN, before_close, run_close, after_plain_close, false, false },
  { TASKS, before_close, run_close, after_tasks_close, false, false },
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

/* Of a queue with tasks, what was got is done, so that it is not there next time. */
static void end_round(const struct operation *operation) {
  if (strcmp(operation->query, TASKS) == 0)
    while (forkq_queue_task_done(queue) == 0)
      ;
}

/* ---- the sweep ------------------------------------------------------------------------------ */

/* Longer where the wait is one of the server's. */
static int64_t most_ms(const struct operation *operation) {
  return freezes && operation->waits ? 5000 + AT_ONCE_MS : AT_ONCE_MS;
}

static void once(const struct operation *operation, enum proxy_way way, uint64_t at,
                 void (*plan)(enum proxy_way way, uint64_t at)) {
  operation->before();
  plan(way, at);
  int64_t began = support_now_ms();
  operation->run();
  ck_assert_int_le(support_now_ms() - began, most_ms(operation));
}

/* Which bytes: every so many-th at the ends, and in the middle. */
struct grid {
  uint64_t ends, fine, coarse;
};

static uint64_t next(const struct grid *grid, uint64_t at, uint64_t bytes) {
  return at + (at < grid->ends || at + grid->ends >= bytes ? grid->fine : grid->coarse);
}

static void at_each(const struct operation *operation, enum proxy_way way,
                    const struct grid *grid,
                    void (*plan)(enum proxy_way way, uint64_t at)) {
  once(operation, way, UINT64_MAX, plan);
  uint64_t bytes = proxy_passed();
  proxy_pass();
  operation->after();
  end_round(operation);
  int beyond = 0; /* the first time may have had a connection more to open */
  for (uint64_t at = 0; at <= bytes && beyond < 8;) {
    once(operation, way, at, plan);
    bool fired = proxy_fired();
    proxy_pass();
    proxy_thaw();
    operation->after();
    end_round(operation);
    ck_assert(fired || operation->varies);
    beyond = fired ? 0 : beyond + 1;
    at = next(grid, at, bytes);
  }
}

static void open_both(const struct operation *operation) {
  query = operation->query;
  proxy_pass();
  proxy_thaw();
  server_clear();
  fds_before = support_open_fds();
  support_heap_install();
  large = malloc(LARGE);
  while (may_fail(open_through(&queue)))
    ;
  ck_assert_ptr_nonnull(queue);
  direct = open_other(query);
}

static void close_both(void) {
  forkq_item_destroy(&item);
  forkq_queue_destroy(direct);
  free(large);
  redis_tear_down();
}

START_TEST(cut_at_every_byte) {
  const struct operation *operation = &operations[_i / 2];
  open_both(operation);
  bool is_long = operation->varies && operation->run != run_open;
  uint64_t coarse = asked_for("FORKQ_REDIS_SPARSE", SPARSE);
  uint64_t fine = is_long && coarse > LONG ? LONG : 1;
  const struct grid grid = { is_long ? DENSE_LONG : DENSE, fine, coarse };
  at_each(operation, _i % 2 == 0 ? TO_SERVER : TO_CLIENT, &grid, proxy_cut);
  close_both();
}
END_TEST

START_TEST(frozen_at_some_bytes) {
  const struct operation *operation = &operations[_i / 2];
  uint64_t step = asked_for("FORKQ_REDIS_FREEZE", FREEZE);
  if (operation->waits && step == FREEZE)
    return;
  freezes = true;
  open_both(operation);
  bool is_large = operation->run == run_open || operation->run == run_put_large ||
                  operation->run == run_get_large;
  uint64_t coarse = is_large ? step * 97 : step;
  const struct grid grid = { 0, coarse, coarse };
  at_each(operation, _i % 2 == 0 ? TO_SERVER : TO_CLIENT, &grid, proxy_freeze);
  close_both();
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_cuts");
  TCase *tcase = tcase_create("redis_cuts");
  tcase_add_unchecked_fixture(tcase, proxy_start, proxy_stop);
  tcase_set_timeout(tcase, 300);
  tcase_add_loop_test(tcase, cut_at_every_byte, 0, 2 * OPERATIONS);
  tcase_add_loop_test(tcase, frozen_at_some_bytes, 0, 2 * OPERATIONS);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
