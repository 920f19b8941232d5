/* Gets on a loop, and the serving that they share with receives. */
#include "loop/loop_impl.h"

#include "base/os.h"
#include "base/times.h"
#include "codec/item.h"

#include <errno.h>

/* How long a get blocks the loop while a reader or writer of another process is in the middle
 * of a message: as long as that usually takes. */
#define SOON_MS 2

/* If it takes longer, the handle does not poll the descriptor for the first of these times,
 * then ever longer, up to the last. */
#define FIRST_PAUSE_MS 1
#define LAST_PAUSE_MS 20

int forkq__loop_get_one(forkq_loop_req_t *req) {
  forkq_queue_t *queue = req->handle_->queue;
  int64_t soon = forkq__os_deadline_within(FORKQ__FOREVER, SOON_MS);
  if (req->kind_ == FORKQ__LOOP_GET_INTO)
    return forkq__queue_get_into_soon(queue, req->buffer_, req->size_, soon, &req->size);
  int r = forkq__queue_get_soon(queue, req->item_, soon,
                                req->kind_ == FORKQ__LOOP_GET_BORROWED);
  bool done = req->kind_ == FORKQ__LOOP_GET_PACKED || forkq__item_is_borrowed(req->item_);
  return r < 0 || done ? r : forkq__item_unpack(req->item_);
}

static bool still_readable(forkq_loop_handle_t *handle) {
  struct pollfd items = { .fd = handle->items.fd, .events = POLLIN };
  return forkq__os_poll(&items, 1, FORKQ__NOWAIT) > 0;
}

/* Called when no item could be had. Pauses if the descriptor is still readable, because
 * otherwise the loop would spin. */
static void pause_if_readable(forkq_loop_handle_t *handle) {
  if (!still_readable(handle)) {
    handle->pause_ms = 0;
    return;
  }
  handle->pause_ms = forkq__back_off(handle->pause_ms, FIRST_PAUSE_MS, LAST_PAUSE_MS);
  handle->resume_at = forkq__os_deadline_within(FORKQ__FOREVER, handle->pause_ms);
}

/* The callbacks may start requests, cancel them, and close the handle. */
void forkq__loop_serve_incoming(forkq_loop_handle_t *handle) {
  size_t budget = FORKQ__LOOP_TURN_BYTES;
  handle->cut_short = false;
  for (int n = 0; n < FORKQ__LOOP_TURN && !TAILQ_EMPTY(&handle->incoming.line); n++) {
    forkq_loop_req_t *req = TAILQ_FIRST(&handle->incoming.line);
    int r = handle->queue != NULL ? forkq__loop_get_one(req)
                                  : forkq__loop_recv_one(req, &budget);
    if (r == FORKQ__NOTHING) {
      handle->cut_short = budget == 0 && still_readable(handle);
      if (handle->queue != NULL)
        pause_if_readable(handle);
      return;
    }
    handle->pause_ms = 0;
    forkq__loop_complete(req, r);
  }
}

int forkq__loop_watch_items(forkq_loop_handle_t *handle) {
  bool wanted = !TAILQ_EMPTY(&handle->incoming.line);
  if (wanted == handle->items_watched)
    return 0;
  int r = wanted ? forkq__queue_watch_items(handle->queue) : 0;
  if (r < 0)
    return r;
  if (!wanted)
    forkq__queue_unwatch_items(handle->queue);
  handle->items_watched = wanted;
  return 0;
}

static int start(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                 const struct forkq__loop_wanted *wanted) {
  int r = forkq__loop_check(handle, req, wanted->timeout_ms, wanted->cb);
  if (r < 0)
    return r;
  if (wanted->item == NULL && wanted->kind != FORKQ__LOOP_GET_INTO)
    return FORKQ_ENULL;
  if (handle->queue == NULL)
    return -EINVAL;
  if (wanted->kind == FORKQ__LOOP_GET_BORROWED)
    forkq__queue_wish_to_borrow(handle->queue);
  forkq__loop_begin_incoming(handle, req, wanted);
  r = forkq__loop_watch_items(handle);
  if (r < 0) {
    forkq__loop_take_back(req);
    return r;
  }
  forkq__loop_arm(handle);
  return 0;
}

int forkq_loop_get(forkq_loop_req_t *req, forkq_loop_handle_t *handle, forkq_item_t *item,
                   int timeout_ms, forkq_loop_req_cb cb) {
  return start(
      req, handle,
      &(struct forkq__loop_wanted){
          .kind = FORKQ__LOOP_GET, .item = item, .timeout_ms = timeout_ms, .cb = cb });
}

int forkq_loop_get_packed(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                          forkq_item_t *item, int timeout_ms, forkq_loop_req_cb cb) {
  return start(req, handle,
               &(struct forkq__loop_wanted){ .kind = FORKQ__LOOP_GET_PACKED,
                                             .item = item,
                                             .timeout_ms = timeout_ms,
                                             .cb = cb });
}

int forkq_loop_get_borrowed(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                            forkq_item_t *item, int timeout_ms, forkq_loop_req_cb cb) {
  return start(req, handle,
               &(struct forkq__loop_wanted){ .kind = FORKQ__LOOP_GET_BORROWED,
                                             .item = item,
                                             .timeout_ms = timeout_ms,
                                             .cb = cb });
}

int forkq_loop_get_bytes_into(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                              void *buffer, size_t length, int timeout_ms,
                              forkq_loop_req_cb cb) {
  if (buffer == NULL && length > 0)
    return FORKQ_ENULL;
  return start(req, handle,
               &(struct forkq__loop_wanted){ .kind = FORKQ__LOOP_GET_INTO,
                                             .buffer = buffer,
                                             .maxlength = length,
                                             .timeout_ms = timeout_ms,
                                             .cb = cb });
}
