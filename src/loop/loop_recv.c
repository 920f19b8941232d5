/* Receives on a loop. A message comes in as many turns as it needs. */
#include "loop/loop_impl.h"

#include "base/os.h"
#include "codec/item.h"
#include "connection/connection_impl.h"

#include <errno.h>

int forkq__loop_recv_one(forkq_loop_req_t *req, size_t *budget) {
  int r = forkq__connection_recv_soon(req->handle_->connection, req->item_, req->size_,
                                      budget);
  if (r == -EAGAIN)
    return FORKQ__NOTHING;
  bool object = req->kind_ == FORKQ__LOOP_RECV;
  return r == 0 && object ? forkq__connection_unpack(req->item_) : r;
}

static int start(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                 const struct forkq__loop_wanted *wanted) {
  int r = forkq__loop_check(handle, req, wanted->timeout_ms, wanted->cb);
  if (r < 0)
    return r;
  if (wanted->item == NULL)
    return FORKQ_ENULL;
  if (handle->connection == NULL)
    return -EINVAL;
  r = forkq__connection_check_receive(handle->connection);
  if (r < 0)
    return r;
  forkq__loop_begin_incoming(handle, req, wanted);
  forkq__loop_arm(handle);
  return 0;
}

int forkq_loop_recv(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                    forkq_item_t *item, int timeout_ms, forkq_loop_req_cb cb) {
  return start(req, handle,
               &(struct forkq__loop_wanted){ .kind = FORKQ__LOOP_RECV,
                                             .item = item,
                                             .maxlength = FORKQ_MESSAGE_MAX,
                                             .timeout_ms = timeout_ms,
                                             .cb = cb });
}

int forkq_loop_recv_bytes(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                          forkq_item_t *item, size_t maxlength, int timeout_ms,
                          forkq_loop_req_cb cb) {
  return start(req, handle,
               &(struct forkq__loop_wanted){ .kind = FORKQ__LOOP_RECV_BYTES,
                                             .item = item,
                                             .maxlength = maxlength,
                                             .timeout_ms = timeout_ms,
                                             .cb = cb });
}
