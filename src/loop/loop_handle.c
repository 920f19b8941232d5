/* The life of a handle on a libuv loop: its requests, the events of the loop, opening and
 * closing.
 *
 * A request waits in a list until it is served, which calls its callback at once. A request
 * that ends in another way (a put that found room, a deadline, a cancel, the close of the
 * queue) is decided first, and its callback comes in a later turn of the loop. In the child of
 * a fork, the handle cancels the parent's requests and forgets the parent's registrations. */
#include "loop/loop_impl.h"

#include "base/heap.h"
#include "base/os.h"
#include "base/times.h"
#include "codec/item.h"
#include "connection/connection_impl.h"

#include <errno.h>
#include <string.h>

/* ---- requests ---------------------------------------------------------------------------- */

/* A loop belongs to the thread that runs it, and while no thread runs it, to any thread: it
 * may be opened in one thread, run in a second, and continue in a third. So a call from
 * another thread is wrong only while a thread is known to be inside the loop: while it polls,
 * which is nearly always, and while it serves this handle. */
static void set_inside(forkq_loop_handle_t *handle, uintptr_t thread) {
  FORKQ__STORE(handle->inside, thread);
}

static bool other_thread(const forkq_loop_handle_t *handle) {
  uintptr_t inside = FORKQ__LOAD(handle->inside);
  return inside != 0 && inside != (uintptr_t)uv_thread_self();
}

static int check_handle(const forkq_loop_handle_t *handle) {
  if (handle->forks != forkq__life_forks())
    return FORKQ_EFORKED;
  return other_thread(handle) ? FORKQ_EWRONGTHREAD : 0;
}

int forkq__loop_check(const forkq_loop_handle_t *handle, const forkq_loop_req_t *req,
                      int timeout_ms, forkq_loop_req_cb cb) {
  if (handle == NULL || req == NULL || cb == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here()) /* this thread already has the mutex that is needed */
    return FORKQ_EPACKING;
  int r = check_handle(handle);
  if (r < 0)
    return r;
  if (req->state_ != FORKQ__LOOP_IDLE)
    return FORKQ_EINUSE;
  if (handle->closing)
    return FORKQ_ECLOSED;
  return timeout_ms < -1 ? FORKQ_ETIMEOUT : 0;
}

void forkq__loop_begin(forkq_loop_handle_t *handle, forkq_loop_req_t *req, int kind,
                       int timeout_ms, forkq_loop_req_cb cb) {
  void *data = req->data;
  *req = (forkq_loop_req_t){
    .data = data,
    .handle_ = handle,
    .cb_ = cb,
    .deadline_ = forkq__os_deadline(timeout_ms),
    .kind_ = kind,
  };
}

void forkq__loop_begin_incoming(forkq_loop_handle_t *handle, forkq_loop_req_t *req,
                                const struct forkq__loop_wanted *wanted) {
  forkq__loop_begin(handle, req, wanted->kind, wanted->timeout_ms, wanted->cb);
  req->item_ = wanted->item;
  req->buffer_ = wanted->buffer;
  req->size_ = wanted->maxlength;
  if (wanted->item != NULL)
    forkq__item_clear(wanted->item);
  forkq__loop_append(&handle->incoming, req);
}

static struct forkq__loop_list *list_of(const forkq_loop_req_t *req) {
  forkq_loop_handle_t *handle = req->handle_;
  if (req->state_ == FORKQ__LOOP_DECIDED)
    return &handle->decided;
  return req->kind_ == FORKQ__LOOP_PUT ? &handle->puts : &handle->incoming;
}

void forkq__loop_append(struct forkq__loop_list *list, forkq_loop_req_t *req) {
  req->state_ = FORKQ__LOOP_WAITING;
  list->timed += req->deadline_ != FORKQ__FOREVER;
  TAILQ_INSERT_TAIL(&list->line, req, link_);
}

void forkq__loop_take_back(forkq_loop_req_t *req) {
  if (req->state_ == FORKQ__LOOP_IDLE)
    return;
  struct forkq__loop_list *list = list_of(req);
  TAILQ_REMOVE(&list->line, req, link_);
  if (req->state_ == FORKQ__LOOP_WAITING)
    list->timed -= req->deadline_ != FORKQ__FOREVER;
  req->state_ = FORKQ__LOOP_IDLE;
}

static void drop_packed(forkq_loop_req_t *req) {
  forkq__free(req->packed_);
  req->packed_ = NULL;
}

void forkq__loop_decide(forkq_loop_req_t *req, int status) {
  forkq__loop_take_back(req);
  drop_packed(req);
  req->status_ = status;
  req->state_ = FORKQ__LOOP_DECIDED;
  TAILQ_INSERT_TAIL(&req->handle_->decided.line, req, link_);
}

void forkq__loop_complete(forkq_loop_req_t *req, int status) {
  forkq__loop_take_back(req);
  drop_packed(req);
  req->cb_(req, status);
}

static void decide_all(struct forkq__loop_list *list, int status) {
  while (!TAILQ_EMPTY(&list->line))
    forkq__loop_decide(TAILQ_FIRST(&list->line), status);
}

/* The parent registered this handle's watches and started its requests, for itself. */
static void adopt_if_forked(forkq_loop_handle_t *handle) {
  if (handle->forks == forkq__life_forks())
    return;
  handle->forks = forkq__life_forks();
  handle->items_watched = handle->room_watched = handle->look_again = false;
  handle->in_poll = false;
  set_inside(handle, 0); /* that thread stayed in the parent */
  if (handle->queue != NULL && !handle->closing)
    forkq__queue_follow(handle->queue, &handle->follower);
  decide_all(&handle->incoming, UV_ECANCELED);
  decide_all(&handle->puts, UV_ECANCELED);
  forkq_loop_req_t *req;
  TAILQ_FOREACH(req, &handle->decided.line, link_)
  req->status_ = UV_ECANCELED;
}

/* ---- events of the loop ------------------------------------------------------------------ */

static void go_on(forkq_loop_handle_t *handle);

static void begin_turn(forkq_loop_handle_t *handle) {
  adopt_if_forked(handle);
  set_inside(handle, (uintptr_t)uv_thread_self());
}

static void end_turn(forkq_loop_handle_t *handle) {
  go_on(handle);
  if (!handle->in_poll)
    set_inside(handle, 0);
}

static void on_before_poll(uv_prepare_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  handle->in_poll = true;
  set_inside(handle, (uintptr_t)uv_thread_self());
}

static void on_after_poll(uv_check_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  handle->in_poll = false;
  set_inside(handle, 0);
}

static void on_items(uv_poll_t *uv, int status, int events) {
  (void)status;
  (void)events;
  forkq_loop_handle_t *handle = uv->data;
  begin_turn(handle);
  forkq__loop_serve_incoming(handle);
  end_turn(handle);
}

static void on_room(uv_poll_t *uv, int status, int events) {
  (void)status;
  (void)events;
  forkq_loop_handle_t *handle = uv->data;
  begin_turn(handle);
  forkq__slots_watch_woken(&handle->slots);
  forkq__loop_serve_puts(handle);
  end_turn(handle);
}

static void deliver(forkq_loop_handle_t *handle) {
  for (int n = 0; n < FORKQ__LOOP_TURN && !TAILQ_EMPTY(&handle->decided.line); n++)
    forkq__loop_complete(TAILQ_FIRST(&handle->decided.line),
                         TAILQ_FIRST(&handle->decided.line)->status_);
}

static void on_deliver(uv_idle_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  begin_turn(handle);
  deliver(handle);
  if (handle->look_again)
    forkq__loop_serve_puts(handle);
  end_turn(handle);
}

static int64_t earlier(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* A receive that does not wait is not ended while bytes are there, even if it needs another
 * turn to take them. */
static bool is_spared(const forkq_loop_req_t *req, bool cut_short) {
  return cut_short && req->deadline_ == FORKQ__NOWAIT;
}

/* The earliest deadline. Goes through the list only if a request has one. */
static int64_t next_deadline(const struct forkq__loop_list *list, bool cut_short) {
  int64_t next = FORKQ__FOREVER;
  const forkq_loop_req_t *req;
  if (list->timed == 0)
    return next;
  TAILQ_FOREACH(req, &list->line, link_)
  if (!is_spared(req, cut_short))
    next = earlier(next, req->deadline_);
  return next;
}

static int64_t next_incoming(const forkq_loop_handle_t *handle) {
  return next_deadline(&handle->incoming, handle->cut_short);
}

static int64_t next_put(const forkq_loop_handle_t *handle) {
  return next_deadline(&handle->puts, false);
}

static void expire(struct forkq__loop_list *list, int64_t now, int outcome,
                   bool cut_short) {
  forkq_loop_req_t *next;
  for (forkq_loop_req_t *req = TAILQ_FIRST(&list->line); req != NULL; req = next) {
    next = TAILQ_NEXT(req, link_);
    if (is_spared(req, cut_short))
      continue;
    if (req->deadline_ == FORKQ__NOWAIT)
      forkq__loop_decide(req, outcome);
    else if (req->deadline_ <= now)
      forkq__loop_decide(req, FORKQ_TIMEDOUT);
  }
}

static void on_timer(uv_timer_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  int64_t now = forkq__os_now();
  begin_turn(handle);
  handle->timer_at = FORKQ__FOREVER;
  /* A request is tried once more before its deadline ends it. */
  bool over = next_incoming(handle) <= now;
  if (over || handle->resume_at <= now) {
    handle->resume_at = FORKQ__FOREVER;
    forkq__loop_serve_incoming(handle);
  }
  if (handle->look_at <= now || next_put(handle) <= now)
    forkq__loop_serve_puts(handle);
  expire(&handle->incoming, now, FORKQ_EMPTY, handle->cut_short);
  expire(&handle->puts, now, FORKQ_FULL, false);
  end_turn(handle);
}

static void on_told(uv_async_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  begin_turn(handle);
  decide_all(&handle->incoming, FORKQ_ECLOSED);
  decide_all(&handle->puts, FORKQ_ECLOSED);
  end_turn(handle);
}

static void closed(struct forkq__follower *follower) {
  forkq_loop_handle_t *handle =
      (forkq_loop_handle_t *)((uintptr_t)follower -
                              offsetof(forkq_loop_handle_t, follower));
  (void)uv_async_send(
      &handle->told); /* fails only for a closing handle, which is not followed */
}

static void set_poll(struct forkq__loop_poll *poll, bool active, uv_poll_cb cb) {
  if (active == poll->active)
    return;
  poll->active = active;
  if (active)
    (void)uv_poll_start(&poll->uv, UV_READABLE, cb); /* fails for closing handles only */
  else
    (void)uv_poll_stop(&poll->uv);
}

static void set_timer(forkq_loop_handle_t *handle) {
  int64_t at = earlier(next_incoming(handle), next_put(handle));
  at = earlier(at, earlier(handle->resume_at, handle->look_at));
  if (at == handle->timer_at)
    return;
  handle->timer_at = at;
  if (at == FORKQ__FOREVER) {
    (void)uv_timer_stop(&handle->timer);
    return;
  }
  int64_t left = at - forkq__os_now();
  uint64_t ms =
      left > 0 ? (uint64_t)((left + FORKQ__NS_PER_MS - 1) / FORKQ__NS_PER_MS) : 0;
  uv_update_time(handle->loop);
  (void)uv_timer_start(&handle->timer, on_timer, ms, 0);
}

static void unwatch(forkq_loop_handle_t *handle) {
  if (handle->queue == NULL)
    return;
  if (TAILQ_EMPTY(&handle->incoming.line))
    (void)forkq__loop_watch_items(handle);
  if (TAILQ_EMPTY(&handle->puts.line))
    forkq__loop_watch_room(handle);
}

void forkq__loop_arm(forkq_loop_handle_t *handle) {
  if (TAILQ_EMPTY(&handle->incoming.line)) {
    handle->resume_at = FORKQ__FOREVER;
    handle->cut_short = false;
  }
  unwatch(handle);
  set_poll(&handle->items,
           !TAILQ_EMPTY(&handle->incoming.line) && handle->resume_at == FORKQ__FOREVER,
           on_items);
  if (handle->queue != NULL)
    set_poll(&handle->room, !TAILQ_EMPTY(&handle->puts.line), on_room);
  if (!TAILQ_EMPTY(&handle->decided.line) || handle->look_again)
    (void)uv_idle_start(&handle->deliver, on_deliver);
  else
    (void)uv_idle_stop(&handle->deliver);
  set_timer(handle);
}

/* ---- opening, closing, forking ----------------------------------------------------------- */

static void free_handle(forkq_loop_handle_t *handle) {
  if (handle->items.fd >= 0)
    forkq__os_close(handle->items.fd);
  if (handle->room.fd >= 0)
    forkq__os_close(handle->room.fd);
  forkq__free(handle);
}

static void on_uv_closed(uv_handle_t *uv) {
  forkq_loop_handle_t *handle = uv->data;
  if (--handle->uv_handles > 0)
    return;
  forkq_loop_close_cb cb = handle->close_cb;
  void *arg = handle->close_arg;
  free_handle(handle);
  if (cb != NULL)
    cb(arg);
}

static void close_uv(forkq_loop_handle_t *handle) {
  uv_handle_t *all[] = {
    (uv_handle_t *)&handle->timer,       (uv_handle_t *)&handle->deliver,
    (uv_handle_t *)&handle->before_poll, (uv_handle_t *)&handle->after_poll,
    (uv_handle_t *)&handle->told,        (uv_handle_t *)&handle->items.uv,
    (uv_handle_t *)&handle->room.uv,
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (all[i]->data != NULL && !uv_is_closing(all[i]))
      uv_close(all[i], on_uv_closed);
}

/* A closing handle lives until the callbacks of all its requests have run. */
static void go_on(forkq_loop_handle_t *handle) {
  if (handle->closing && TAILQ_EMPTY(&handle->decided.line))
    close_uv(handle);
  else
    forkq__loop_arm(handle);
}

/* `data` says that the libuv handle must be closed. */
static int open_poll(forkq_loop_handle_t *handle, struct forkq__loop_poll *poll) {
  int r = uv_poll_init(handle->loop, &poll->uv, poll->fd);
  if (r == 0) {
    poll->uv.data = handle;
    handle->uv_handles++;
  }
  return r;
}

/* From now on the handle sees when the loop polls. These two libuv handles alone do not keep
 * the loop alive. */
static void watch_poll(forkq_loop_handle_t *handle) {
  (void)uv_prepare_init(handle->loop, &handle->before_poll); /* none of these fails */
  (void)uv_check_init(handle->loop, &handle->after_poll);
  handle->before_poll.data = handle->after_poll.data = handle;
  handle->uv_handles += 2;
  (void)uv_prepare_start(&handle->before_poll, on_before_poll);
  (void)uv_check_start(&handle->after_poll, on_after_poll);
  uv_unref((uv_handle_t *)&handle->before_poll);
  uv_unref((uv_handle_t *)&handle->after_poll);
}

static int open_uv(forkq_loop_handle_t *handle) {
  (void)uv_timer_init(handle->loop, &handle->timer); /* these two do not fail */
  (void)uv_idle_init(handle->loop, &handle->deliver);
  handle->timer.data = handle->deliver.data = handle;
  handle->uv_handles = 2;
  watch_poll(handle);
  int r = uv_async_init(handle->loop, &handle->told, on_told);
  if (r < 0)
    return r;
  handle->told.data = handle;
  handle->uv_handles++;
  uv_unref((uv_handle_t *)&handle->told);
  r = open_poll(handle, &handle->items);
  if (r == 0 && handle->room.fd >= 0)
    r = open_poll(handle, &handle->room);
  return r;
}

static forkq_loop_handle_t *new_handle(uv_loop_t *loop) {
  forkq_loop_handle_t *handle = forkq__calloc(sizeof *handle);
  if (handle == NULL)
    return NULL;
  handle->loop = loop;
  TAILQ_INIT(&handle->incoming.line);
  TAILQ_INIT(&handle->puts.line);
  TAILQ_INIT(&handle->decided.line);
  handle->items.fd = handle->room.fd = -1;
  handle->resume_at = handle->look_at = handle->timer_at = FORKQ__FOREVER;
  handle->follower.closed = closed;
  handle->forks = forkq__life_forks();
  return handle;
}

static int open_handle(forkq_loop_handle_t **ret_handle, forkq_loop_handle_t *handle) {
  int r = open_uv(handle);
  if (r < 0) {
    handle->closing = true;
    close_uv(handle);
    return r;
  }
  *ret_handle = handle;
  return 0;
}

int forkq_loop_open_queue(forkq_loop_handle_t **ret_handle, uv_loop_t *loop,
                          forkq_queue_t *queue) {
  if (ret_handle == NULL || loop == NULL || queue == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  forkq_loop_handle_t *handle = new_handle(loop);
  if (handle == NULL)
    return -ENOMEM;
  handle->queue = queue;
  int r = forkq__queue_duplicate_watched(queue, &handle->items.fd, &handle->room.fd);
  if (r < 0) {
    free_handle(handle);
    return r;
  }
  handle->slots = forkq__queue_slots(queue, handle->room.fd);
  r = open_handle(ret_handle, handle);
  if (r == 0)
    forkq__queue_follow(queue, &handle->follower);
  return r;
}

int forkq_loop_open_connection(forkq_loop_handle_t **ret_handle, uv_loop_t *loop,
                               forkq_connection_t *connection) {
  if (ret_handle == NULL || loop == NULL || connection == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_receive(connection);
  if (r < 0)
    return r;
  forkq_loop_handle_t *handle = new_handle(loop);
  if (handle == NULL)
    return -ENOMEM;
  handle->connection = connection;
  /* libuv would make the connection's own descriptor nonblocking, and with it that of every
   * process that shares it. */
  handle->items.fd = forkq__os_poll_set_create(&connection->fd, 1);
  if (handle->items.fd < 0) {
    r = handle->items.fd;
    free_handle(handle);
    return r;
  }
  return open_handle(ret_handle, handle);
}

int forkq_loop_cancel(forkq_loop_req_t *req) {
  if (req == NULL)
    return FORKQ_ENULL;
  if (req->state_ == FORKQ__LOOP_IDLE)
    return FORKQ_ENOTPENDING;
  int r = check_handle(req->handle_);
  if (r < 0)
    return r;
  if (req->state_ == FORKQ__LOOP_DECIDED)
    return FORKQ_ENOTPENDING;
  forkq__loop_decide(req, UV_ECANCELED);
  forkq__loop_arm(req->handle_);
  return 0;
}

int forkq_loop_close(forkq_loop_handle_t *handle, forkq_loop_close_cb cb, void *arg) {
  if (handle == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  adopt_if_forked(handle);
  if (other_thread(handle))
    return FORKQ_EWRONGTHREAD;
  if (handle->closing)
    return FORKQ_ECLOSED;
  handle->closing = true;
  handle->close_cb = cb;
  handle->close_arg = arg;
  if (handle->queue != NULL)
    forkq__queue_unfollow(handle->queue, &handle->follower);
  decide_all(&handle->incoming, UV_ECANCELED);
  decide_all(&handle->puts, UV_ECANCELED);
  handle->look_again = false;
  forkq__loop_arm(handle);
  go_on(handle);
  return 0;
}

int forkq_loop_fork(forkq_loop_handle_t *handle) {
  if (handle == NULL)
    return FORKQ_ENULL;
  if (handle->forks == forkq__life_forks())
    return -EINVAL;
  begin_turn(handle);
  end_turn(handle);
  return 0;
}
