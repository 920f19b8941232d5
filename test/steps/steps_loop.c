#include "steps_loop.h"

#include "support.h"

#include <forkq/loop_handle.h>

static uv_loop_t loop;
static forkq_loop_handle_t *handle;
static forkq_loop_req_t request = FORKQ_LOOP_REQ_INIT;
static int calls;
static int outcome;

static void over(forkq_loop_req_t *req, int status) {
  (void)req;
  calls++;
  outcome = status;
}

static _Atomic int *waits;

void steps_loop_tell(_Atomic int *flag) {
  waits = flag;
}

static int until_over(void) {
  if (waits != NULL)
    atomic_store(waits, 1);
  while (calls == 0)
    uv_run(&loop, UV_RUN_ONCE);
  calls = 0;
  return outcome;
}

void steps_loop_open(forkq_queue_t *queue) {
  CHILD_MUST(uv_loop_init(&loop) == 0);
  CHILD_MUST(forkq_loop_open_queue(&handle, &loop, queue) == 0);
}

void steps_loop_close(void) {
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
  CHILD_MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHILD_MUST(uv_loop_close(&loop) == 0);
}

int steps_loop_get(forkq_item_t *item, int timeout_ms) {
  CHILD_MUST(forkq_loop_get(&request, handle, item, timeout_ms, over) == 0);
  return until_over();
}

int steps_loop_borrow(forkq_item_t *item, int timeout_ms) {
  CHILD_MUST(forkq_loop_get_borrowed(&request, handle, item, timeout_ms, over) == 0);
  return until_over();
}

int steps_loop_get_into(void *buffer, size_t length, int timeout_ms) {
  CHILD_MUST(
      forkq_loop_get_bytes_into(&request, handle, buffer, length, timeout_ms, over) == 0);
  return until_over();
}

int steps_loop_put(const msgpack_object *object, int timeout_ms) {
  CHILD_MUST(forkq_loop_put(&request, handle, object, timeout_ms, over) == 0);
  return until_over();
}

int steps_loop_get_cancelled(forkq_item_t *item) {
  CHILD_MUST(forkq_loop_get(&request, handle, item, -1, over) == 0);
  CHILD_MUST(forkq_loop_cancel(&request) == 0);
  return until_over();
}
