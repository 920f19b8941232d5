/* Puts on a loop. A put that finds room puts at once. A put that finds none is packed and
 * waits. */
#include "loop/loop_impl.h"

#include "base/heap.h"
#include "base/os.h"
#include "base/times.h"
#include "codec/serializer.h"

#include <errno.h>
#include <string.h>

static int put_first(forkq_loop_handle_t *handle) {
  const forkq_loop_req_t *req = TAILQ_FIRST(&handle->puts.line);
  const struct forkq__source source = { .data = req->packed_, .size = req->size_ };
  return forkq__queue_put(handle->queue, &source, 0);
}

/* It looks for slots of dead processes, and for free slots as well, because a wake-up can die with
 * the process that it woke. */
static void look_later(forkq_loop_handle_t *handle, bool progress) {
  handle->look_ms = forkq__back_off(progress ? 0 : handle->look_ms, FORKQ__FIRST_LOOK_MS,
                                    FORKQ__LAST_LOOK_MS);
  handle->look_at = forkq__os_deadline_within(FORKQ__FOREVER, handle->look_ms);
}

/* The callbacks may start requests, cancel them, and close the handle. */
void forkq__loop_serve_puts(forkq_loop_handle_t *handle) {
  int n = 0;
  int r = 0;
  handle->look_again = false;
  for (; n < FORKQ__LOOP_TURN && !TAILQ_EMPTY(&handle->puts.line); n++) {
    r = put_first(handle);
    if (r == FORKQ_FULL)
      break;
    forkq__loop_complete(TAILQ_FIRST(&handle->puts.line), r);
  }
  if (TAILQ_EMPTY(&handle->puts.line))
    return;
  handle->look_again = r != FORKQ_FULL;
  look_later(handle, n > 0);
}

/* A handle that stops waiting passes on the room that is left, because the wake-up was for one
 * putter, and may have been this handle's. */
void forkq__loop_watch_room(forkq_loop_handle_t *handle) {
  bool wanted = !TAILQ_EMPTY(&handle->puts.line);
  if (!wanted)
    handle->look_at = FORKQ__FOREVER;
  if (wanted == handle->room_watched)
    return;
  handle->room_watched = wanted;
  if (wanted) {
    forkq__slots_watch_begin(&handle->slots);
    handle->look_again = true; /* room may have come before this */
    handle->look_ms = 0;
    look_later(handle, true);
    return;
  }
  forkq__slots_watch_end(&handle->slots);
  if (!forkq__slots_full(&handle->slots))
    forkq__slots_freed(&handle->slots);
}

/* ---- packing a put that waits ------------------------------------------------------------ */

static int copy_piece(void *arg, const void *data, size_t size) {
  char **end = arg;
  memcpy(*end, data, size);
  *end += size;
  return 0;
}

static int copy_draft(forkq_loop_req_t *req, struct forkq__outbox *draft) {
  char *end = forkq__malloc(draft->open.size);
  if (end == NULL)
    return -ENOMEM;
  req->packed_ = end;
  req->size_ = draft->open.size;
  return forkq__outbox_visit(draft, copy_piece, &end);
}

/* Packs by way of the thread's draft, which is not lost if a function of the program's does
 * not return. */
static int pack(forkq_loop_req_t *req, const struct forkq__source *source,
                uint32_t limit) {
  struct forkq__outbox *draft = forkq__source_draft();
  int r = forkq__outbox_begin(draft, limit);
  if (r == 0)
    r = forkq__queue_pack(draft, source);
  if (r == 0)
    r = copy_draft(req, draft);
  if (r != FORKQ_EPACKING) /* else the draft is another function's by now */
    forkq__source_drop_draft();
  return r;
}

static int wait_for_room(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                         const struct forkq__source *source) {
  int r = pack(req, source, forkq__queue_max_message(handle->queue));
  if (r < 0)
    return r;
  if (req->deadline_ == FORKQ__NOWAIT) {
    forkq__loop_decide(req, FORKQ_FULL);
    return 0;
  }
  forkq__loop_append(&handle->puts, req);
  forkq__loop_watch_room(handle);
  return 0;
}

static int start(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                 const struct forkq__source *source, int timeout_ms,
                 forkq_loop_req_cb cb) {
  int r = forkq__loop_check(handle, req, timeout_ms, cb);
  if (r < 0)
    return r;
  if (handle->queue == NULL)
    return -EINVAL;
  forkq__loop_begin(handle, req, FORKQ__LOOP_PUT, timeout_ms, cb);
  r = TAILQ_EMPTY(&handle->puts.line) ? forkq__queue_put(handle->queue, source, 0)
                                      : FORKQ_FULL; /* other puts come first */
  if (r == 0)
    forkq__loop_decide(req, 0);
  else if (r == FORKQ_FULL)
    r = wait_for_room(req, handle, source);
  if (r == 0)
    forkq__loop_arm(handle);
  return r;
}

int forkq_loop_put(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                   const msgpack_object *object, int timeout_ms, forkq_loop_req_cb cb) {
  if (object == NULL)
    return FORKQ_ENULL;
  const struct forkq__source source = { .object = object };
  return start(req, handle, &source, timeout_ms, cb);
}

int forkq_loop_put_packed(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                          const void *data, size_t size, int timeout_ms,
                          forkq_loop_req_cb cb) {
  if (data == NULL)
    return FORKQ_ENULL;
  int r = forkq__scan(data, size, NULL);
  if (r < 0)
    return r;
  const struct forkq__source source = { .data = data, .size = size };
  return start(req, handle, &source, timeout_ms, cb);
}

int forkq_loop_put_with(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                        forkq_pack_fn pack_fn, void *arg, int timeout_ms,
                        forkq_loop_req_cb cb) {
  if (pack_fn == NULL)
    return FORKQ_ENULL;
  const struct forkq__source source = { .pack = pack_fn, .arg = arg };
  return start(req, handle, &source, timeout_ms, cb);
}

int forkq_loop_put_bytes(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                         const void *data, size_t size, int timeout_ms,
                         forkq_loop_req_cb cb) {
  struct forkq__plain plain;
  int r = forkq__plain_bytes(&plain, data, size);
  return r < 0 ? r : start(req, handle, &plain.source, timeout_ms, cb);
}

int forkq_loop_put_str(forkq_loop_req_t *req, forkq_loop_handle_t *handle,
                       const char *text, int timeout_ms, forkq_loop_req_cb cb) {
  struct forkq__plain plain;
  int r = forkq__plain_str(&plain, text);
  return r < 0 ? r : start(req, handle, &plain.source, timeout_ms, cb);
}

int forkq_loop_put_int(forkq_loop_req_t *req, forkq_loop_handle_t *handle, int64_t value,
                       int timeout_ms, forkq_loop_req_cb cb) {
  struct forkq__plain plain;
  forkq__plain_int(&plain, value);
  return start(req, handle, &plain.source, timeout_ms, cb);
}

int forkq_loop_put_nil(forkq_loop_req_t *req, forkq_loop_handle_t *handle, int timeout_ms,
                       forkq_loop_req_cb cb) {
  struct forkq__plain plain;
  forkq__plain_nil(&plain);
  return start(req, handle, &plain.source, timeout_ms, cb);
}
