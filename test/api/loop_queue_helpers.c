/* A loop queue with its loop, and brief ways to use it. */
#include "loop_queue_helpers.h"

uv_loop_t loop;
forkq_loop_queue_t queue;
bool is_open;
int closed;
int disposed_count;
static int fds_before;
bool in_call;
int result;
struct end ends[4096];
size_t end_count;

void on_end(forkq_loop_queue_req_t *req, int status) {
  support_assert(!in_call);
  support_assert(req->queue == NULL);
  support_assert(end_count < sizeof ends / sizeof *ends);
  ends[end_count++] = (struct end){ req, status, (intptr_t)req->item };
}

void on_close(forkq_loop_queue_t *q) {
  ck_assert(!in_call);
  ck_assert_ptr_eq(q, &queue);
  closed++;
}

void set_up(void) {
  support_heap_install();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  fds_before = support_open_fds();
  end_count = 0;
  closed = disposed_count = 0;
  is_open = in_call = false;
}

int close_queue(void) {
  is_open = false;
  return CALL(forkq_loop_queue_close(&queue, on_close));
}

void run(void) {
  ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

void turn(void) {
  uv_run(&loop, UV_RUN_NOWAIT);
}

void tear_down(void) {
  support_heap_fail_at(0, false);
  if (is_open)
    ck_assert_int_ge(close_queue(), 0);
  run();
  ck_assert_int_eq(closed, 1);
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  ck_assert_int_eq(support_heap_live(), 0);
}

void open_queue(int64_t maxsize) {
  ck_assert_int_eq(forkq_loop_queue_init(&loop, &queue, maxsize), 0);
  is_open = true;
}

int put(forkq_loop_queue_req_t *req, intptr_t item) {
  return CALL(forkq_loop_queue_put(&queue, req, (void *)item, on_end));
}

int get(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_get(&queue, req, on_end));
}

int join(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_join(&queue, req, on_end));
}

int cancel(forkq_loop_queue_req_t *req) {
  return CALL(forkq_loop_queue_cancel(req));
}

int put_nowait(intptr_t item) {
  return CALL(forkq_loop_queue_put_nowait(&queue, (void *)item));
}

intptr_t get_nowait(void) {
  void *item = (void *)-1;
  int r = CALL(forkq_loop_queue_get_nowait(&queue, &item));
  if (r < 0)
    ck_assert_ptr_eq(item, (void *)-1);
  return r < 0 ? r : (intptr_t)item;
}

void assert_end(size_t i, const forkq_loop_queue_req_t *req, int status, intptr_t item) {
  ck_assert_uint_lt(i, end_count);
  ck_assert_ptr_eq(ends[i].req, req);
  ck_assert_int_eq(ends[i].status, status);
  ck_assert_int_eq(ends[i].item, item);
}
