#include "loop_support.h"

#include <string.h>

uv_loop_t loop;
forkq_loop_handle_t *handle;
int callbacks;

/* libuv opens some descriptors with the first loop, for good. */
static void open_libuvs_own(void) {
  uv_loop_t first;
  ck_assert_int_eq(uv_loop_init(&first), 0);
  ck_assert_int_eq(uv_loop_close(&first), 0);
}

static void begin(int64_t maxsize) {
  open_libuvs_own();
  fds_before = support_open_fds();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  callbacks = 0;
}

void loop_set_up(void) {
  begin(0);
}

void loop_set_up_bounded(void) {
  begin(2);
}

static void on_closed(void *arg) {
  *(int *)arg += 1;
}

void loop_close_handle(void) {
  int closed = 0;
  if (handle != NULL) {
    ck_assert_int_eq(forkq_loop_close(handle, on_closed, &closed), 0);
    ck_assert_int_eq(closed, 0);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(closed, 1);
  }
  handle = NULL;
}

void loop_finish(void) {
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
}

void loop_tear_down(void) {
  loop_close_handle();
  loop_finish();
  queue_tear_down();
}

void keep_outcome(forkq_loop_req_t *req, int status) {
  struct outcome *outcome = (struct outcome *)(void *)req;
  outcome->calls++;
  outcome->status = status;
  outcome->order = ++callbacks;
  if (status == 0 && outcome->item.object.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
    outcome->value = (int64_t)outcome->item.object.via.u64;
}

int start_get(struct outcome *outcome, int timeout_ms) {
  return forkq_loop_get(&outcome->req, handle, &outcome->item, timeout_ms, keep_outcome);
}

int start_put(struct outcome *outcome, int64_t value, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)value;
  int r = forkq_loop_put(&outcome->req, handle, &object, timeout_ms, keep_outcome);
  object.via.u64 = 999999; /* what was put is a snapshot */
  return r;
}

void free_outcome(struct outcome *outcome) {
  forkq_item_destroy(&outcome->item);
  *outcome = (struct outcome){ .calls = 0 };
}

/* The loop runs its timers before it waits for what else there is: so it must not wait long
 * for that, when it was a timer that ended the request. */
#define TICK_MS 10

static void tick(uv_timer_t *timer) {
  if (++*(int *)timer->data > 10000 / TICK_MS)
    ck_abort_msg("the request was not called back within ten seconds");
}

void run_until(struct outcome *outcome) {
  static uv_timer_t patience; /* closed a turn after it is needed */
  int ticks = 0;
  uv_timer_init(&loop, &patience);
  patience.data = &ticks;
  uv_timer_start(&patience, tick, TICK_MS, TICK_MS);
  while (outcome->calls == 0)
    uv_run(&loop, UV_RUN_ONCE);
  uv_close((uv_handle_t *)&patience, NULL);
  uv_run(&loop, UV_RUN_NOWAIT);
}

void run_ready(void) {
  for (int i = 0; i < 5; i++)
    uv_run(&loop, UV_RUN_NOWAIT);
}
