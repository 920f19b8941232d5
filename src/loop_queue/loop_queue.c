/* A queue of pointers inside one libuv loop.
 *
 * The queue stores no mark that a request could proceed: that follows from the queue's state
 * (see can_go_on), whatever items came and went in between. Each call changes the state, and
 * then makes the two libuv handles agree with it (settle). The requests are served in the
 * loop's idle phase. */
#include "base/versioned.h"
#include "loop_queue/loop_items.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

/* Callbacks in one turn of the loop: few enough for the loop's other handles, and enough that
 * the turn's own system call costs little in comparison. */
#define SERVED_IN_A_TURN 32

typedef forkq_loop_queue_t queue_t;
typedef forkq_loop_queue_req_t req_t;
typedef struct forkq_loop_queue_line_ line_t;
typedef struct forkq_loop_queue_items_ items_t;

/* The lines in which requests wait, each in the order of its tickets. */
enum line { GETTERS, PUTTERS, JOINERS, CANCELLED, LINES };

/* ---- lines ------------------------------------------------------------------------- */

static void line_up(queue_t *queue, req_t *req, enum line which) {
  line_t *line = &queue->lines_[which];
  req->line_ = (int)which;
  req->ticket_ = queue->tickets_++;
  TAILQ_INSERT_TAIL(&line->waiting_, req, link_);
  line->count_++;
}

static void leave_line(queue_t *queue, req_t *req) {
  line_t *line = &queue->lines_[req->line_];
  TAILQ_REMOVE(&line->waiting_, req, link_);
  line->count_--;
}

static bool somebody_waits(const queue_t *queue) {
  for (int i = 0; i < LINES; i++)
    if (!TAILQ_EMPTY(&queue->lines_[i].waiting_))
      return true;
  return false;
}

/* ---- serving a request ------------------------------------------------------------- */

static bool has_room(const queue_t *queue) {
  return queue->maxsize <= 0 || queue->items_.count_ < (uint64_t)queue->maxsize;
}

static void add(queue_t *queue, void *item) {
  forkq__loop_items_add(&queue->items_, item);
  queue->unfinished_++;
}

/* Ends the joins that were started before this moment. */
static void release_joiners(queue_t *queue) {
  queue->released_ = queue->tickets_;
}

static bool can_go_on(const queue_t *queue, const req_t *req) {
  if (queue->is_closing_)
    return true;
  switch (req->line_) {
  case GETTERS:
    return queue->items_.count_ > 0 || queue->is_shutdown_;
  case PUTTERS:
    return has_room(queue) || queue->is_shutdown_;
  case JOINERS:
    return req->ticket_ < queue->released_;
  default:
    return true;
  }
}

/* The request that was started first among those that can proceed, or NULL. */
static req_t *next_to_serve(const queue_t *queue) {
  req_t *next = NULL;
  for (int i = 0; i < LINES; i++) {
    req_t *req = TAILQ_FIRST(&queue->lines_[i].waiting_);
    if (req != NULL && can_go_on(queue, req) &&
        (next == NULL || req->ticket_ < next->ticket_))
      next = req;
  }
  return next;
}

static int finish_get(queue_t *queue, req_t *req) {
  if (queue->is_closing_)
    return UV_ECANCELED;
  if (queue->items_.count_ == 0)
    return FORKQ_ESHUTDOWN;
  req->item = forkq__loop_items_take(&queue->items_);
  return 0;
}

static int finish_put(queue_t *queue, const req_t *req) {
  if (queue->is_closing_)
    return UV_ECANCELED;
  if (queue->is_shutdown_)
    return FORKQ_ESHUTDOWN;
  add(queue, req->item);
  return 0;
}

/* Carries out a request that can proceed, and returns its status. */
static int finish(queue_t *queue, req_t *req) {
  switch (req->line_) {
  case GETTERS:
    return finish_get(queue, req);
  case PUTTERS:
    return finish_put(queue, req);
  case JOINERS:
    return req->ticket_ < queue->released_ ? 0 : UV_ECANCELED;
  default:
    return UV_ECANCELED;
  }
}

/* ---- the loop ---------------------------------------------------------------------- */

/* Notes the thread that was seen to run the loop, or 0. Atomic, because other threads read it. */
static void set_thread(queue_t *queue, uintptr_t thread) {
  __atomic_store_n(&queue->thread_, thread, __ATOMIC_RELAXED);
}

static void on_handle_closed(uv_handle_t *handle) {
  queue_t *queue = handle->data;
  if (--queue->open_handles_ == 0 && queue->close_cb_ != NULL)
    queue->close_cb_(queue);
}

static void close_handles(queue_t *queue) {
  if (uv_is_closing((uv_handle_t *)&queue->idle_))
    return;
  uv_close((uv_handle_t *)&queue->idle_, on_handle_closed);
  uv_close((uv_handle_t *)&queue->prepare_, on_handle_closed);
}

static void on_idle(uv_idle_t *idle);

/* Keeps the loop alive but lets it sleep, and notes the thread that runs it. */
static void on_prepare(uv_prepare_t *prepare) {
  set_thread(prepare->data, (uintptr_t)uv_thread_self());
}

/* An active idle handle keeps the loop from sleeping, for requests that can proceed. Starting
 * and stopping a handle do not fail, and cost nothing when there is nothing to change. */
static void settle(queue_t *queue) {
  if (somebody_waits(queue)) {
    uv_prepare_start(&queue->prepare_, on_prepare);
  } else {
    set_thread(queue, 0);
    uv_prepare_stop(&queue->prepare_);
    if (queue->is_closing_)
      close_handles(queue);
  }
  if (next_to_serve(queue) != NULL)
    uv_idle_start(&queue->idle_, on_idle);
  else
    uv_idle_stop(&queue->idle_);
}

static void on_idle(uv_idle_t *idle) {
  queue_t *queue = idle->data;
  set_thread(queue, (uintptr_t)uv_thread_self());
  req_t *req;
  for (int i = 0; i < SERVED_IN_A_TURN && (req = next_to_serve(queue)) != NULL; i++) {
    int status = finish(queue, req);
    leave_line(queue, req);
    req->queue = NULL;
    req->cb_(req, status); /* the callback may free the request */
  }
  settle(queue);
}

/* ---- checks at the start of each call ---------------------------------------------- */

/* The thread is checked first: nothing else of another thread's queue may be read. */
static int check_thread(const queue_t *queue) {
  uintptr_t thread = __atomic_load_n(&queue->thread_, __ATOMIC_RELAXED);
  return thread == 0 || thread == (uintptr_t)uv_thread_self() ? 0 : FORKQ_EWRONGTHREAD;
}

static int check(const queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  int r = check_thread(queue);
  return r == 0 && queue->is_closing_ ? FORKQ_ECLOSED : r;
}

static int check_start(const queue_t *queue, const req_t *req, forkq_loop_queue_cb cb) {
  if (req == NULL || cb == NULL)
    return FORKQ_ENULL;
  int r = check(queue);
  return r == 0 && req->queue != NULL ? FORKQ_EINUSE : r;
}

static void start(queue_t *queue, req_t *req, enum line line, void *item,
                  forkq_loop_queue_cb cb) {
  req->queue = queue;
  req->item = item;
  req->cb_ = cb;
  line_up(queue, req, line);
  settle(queue);
}

/* ---- opening ----------------------------------------------------------------------- */

static int init(uv_loop_t *loop, queue_t *queue, int64_t maxsize,
                enum forkq__loop_items_kind kind) {
  if (loop == NULL || queue == NULL)
    return FORKQ_ENULL;
  void *data = queue->data;
  memset(queue, 0, sizeof *queue);
  queue->data = data;
  queue->loop = loop;
  queue->maxsize = maxsize;
  queue->items_.kind_ = (int)kind;
  for (int i = 0; i < LINES; i++)
    TAILQ_INIT(&queue->lines_[i].waiting_);
  uv_idle_init(loop, &queue->idle_); /* these two do not fail */
  uv_prepare_init(loop, &queue->prepare_);
  queue->idle_.data = queue->prepare_.data = queue;
  queue->open_handles_ = 2;
  return 0;
}

int forkq_loop_queue_init(uv_loop_t *loop, queue_t *queue, int64_t maxsize) {
  return init(loop, queue, maxsize, FORKQ__LOOP_ITEMS_FIFO);
}

int forkq_loop_queue_init_lifo(uv_loop_t *loop, queue_t *queue, int64_t maxsize) {
  return init(loop, queue, maxsize, FORKQ__LOOP_ITEMS_LIFO);
}

int forkq_loop_queue_init_priority(uv_loop_t *loop, queue_t *queue, int64_t maxsize,
                                   forkq_loop_queue_compare_fn compare, void *arg) {
  if (compare == NULL)
    return FORKQ_ENULL;
  int r = init(loop, queue, maxsize, FORKQ__LOOP_ITEMS_PRIORITY);
  if (r < 0)
    return r;
  queue->items_.compare_ = compare;
  queue->items_.compare_arg_ = arg;
  return 0;
}

/* ---- put and get ------------------------------------------------------------------- */

/* Makes sure that one more item fits, besides the items of waiting puts, because these puts
 * have no way to fail. */
static int reserve_one(queue_t *queue) {
  size_t most = queue->items_.count_ + queue->lines_[PUTTERS].count_ + 1;
  if (queue->maxsize > 0 && most > (uint64_t)queue->maxsize)
    most = (size_t)queue->maxsize;
  return forkq__loop_items_reserve(&queue->items_, most);
}

int forkq_loop_queue_put(queue_t *queue, req_t *req, void *item, forkq_loop_queue_cb cb) {
  int r = check_start(queue, req, cb);
  if (r == 0 && queue->is_shutdown_)
    r = FORKQ_ESHUTDOWN;
  if (r == 0)
    r = reserve_one(queue);
  if (r == 0)
    start(queue, req, PUTTERS, item, cb);
  return r;
}

int forkq_loop_queue_put_nowait(queue_t *queue, void *item) {
  int r = check(queue);
  if (r < 0)
    return r;
  if (queue->is_shutdown_)
    return FORKQ_ESHUTDOWN;
  if (!has_room(queue))
    return FORKQ_FULL;
  r = reserve_one(queue);
  if (r < 0)
    return r;
  add(queue, item);
  settle(queue);
  return 0;
}

int forkq_loop_queue_get(queue_t *queue, req_t *req, forkq_loop_queue_cb cb) {
  int r = check_start(queue, req, cb);
  if (r == 0 && queue->is_shutdown_ && queue->items_.count_ == 0)
    r = FORKQ_ESHUTDOWN;
  if (r == 0)
    start(queue, req, GETTERS, NULL, cb);
  return r;
}

int forkq_loop_queue_get_nowait(queue_t *queue, void **ret_item) {
  if (ret_item == NULL)
    return FORKQ_ENULL;
  int r = check(queue);
  if (r < 0)
    return r;
  if (queue->items_.count_ == 0)
    return queue->is_shutdown_ ? FORKQ_ESHUTDOWN : FORKQ_EMPTY;
  *ret_item = forkq__loop_items_take(&queue->items_);
  settle(queue);
  return 0;
}

int forkq_loop_queue_cancel(req_t *req) {
  if (req == NULL)
    return FORKQ_ENULL;
  queue_t *queue = req->queue;
  if (queue == NULL)
    return FORKQ_ENOTPENDING;
  int r = check_thread(queue);
  if (r < 0)
    return r;
  if (req->line_ == CANCELLED)
    return FORKQ_ENOTPENDING;
  leave_line(queue, req);
  line_up(queue, req, CANCELLED);
  settle(queue);
  return 0;
}

/* ---- tasks ------------------------------------------------------------------------- */

int forkq_loop_queue_task_done(queue_t *queue) {
  int r = check(queue);
  if (r < 0)
    return r;
  if (queue->unfinished_ == 0)
    return FORKQ_ETASKDONE;
  if (--queue->unfinished_ == 0)
    release_joiners(queue);
  settle(queue);
  return 0;
}

int forkq_loop_queue_join(queue_t *queue, req_t *req, forkq_loop_queue_cb cb) {
  int r = check_start(queue, req, cb);
  if (r < 0)
    return r;
  start(queue, req, JOINERS, NULL, cb);
  if (queue->unfinished_ == 0) {
    release_joiners(queue);
    settle(queue);
  }
  return 0;
}

/* ---- shutdown and close ------------------------------------------------------------ */

/* Takes all items out of the queue before `dispose` is called, because `dispose` may use the
 * queue. */
static items_t take_all(queue_t *queue) {
  items_t all = queue->items_;
  queue->items_.memory_ = NULL;
  forkq__loop_items_free(&queue->items_);
  return all;
}

static int dispose_all(queue_t *queue, items_t all) {
  size_t count = all.count_;
  while (queue->dispose != NULL && all.count_ > 0)
    queue->dispose(queue, forkq__loop_items_take(&all));
  forkq__loop_items_free(&all);
  return count < INT_MAX ? (int)count : INT_MAX;
}

int forkq_loop_queue_shutdown(queue_t *queue, int immediate) {
  int r = check(queue);
  if (r < 0)
    return r;
  queue->is_shutdown_ = 1;
  if (!immediate) {
    settle(queue);
    return 0;
  }
  items_t dropped = take_all(queue);
  /* More tasks may have been done than items were got. */
  queue->unfinished_ -=
      dropped.count_ < queue->unfinished_ ? dropped.count_ : queue->unfinished_;
  if (queue->unfinished_ == 0)
    release_joiners(queue);
  settle(queue);
  return dispose_all(queue, dropped);
}

int forkq_loop_queue_close(queue_t *queue, forkq_loop_queue_close_cb cb) {
  int r = check(queue);
  if (r < 0)
    return r;
  queue->is_closing_ = 1;
  queue->close_cb_ = cb;
  items_t dropped = take_all(queue);
  settle(queue);
  return dispose_all(queue, dropped);
}

/* ---- the state of a queue ---------------------------------------------------------- */

int64_t forkq_loop_queue_qsize(const queue_t *queue) {
  int r = check(queue);
  return r < 0 ? r : (int64_t)queue->items_.count_;
}

int forkq_loop_queue_empty(const queue_t *queue) {
  int r = check(queue);
  return r < 0 ? r : queue->items_.count_ == 0;
}

int forkq_loop_queue_full(const queue_t *queue) {
  int r = check(queue);
  return r < 0 ? r : !has_room(queue);
}

static const size_t oldest_stats = offsetof(forkq_loop_queue_stats_t, items);

int forkq_loop_queue_stats(const queue_t *queue, forkq_loop_queue_stats_t *stats) {
  if (stats == NULL)
    return FORKQ_ENULL;
  int r = check(queue);
  if (r < 0)
    return r;
  if (!forkq__is_version(stats->size, oldest_stats, sizeof *stats))
    return FORKQ_ERANGE;
  forkq_loop_queue_stats_t now;
  memset(&now, 0, sizeof now); /* also between the fields and behind them */
  now.size = stats->size;
  now.maxsize = queue->maxsize;
  now.items = queue->items_.count_;
  now.getters = queue->lines_[GETTERS].count_;
  now.putters = queue->lines_[PUTTERS].count_;
  now.joiners = queue->lines_[JOINERS].count_;
  now.cancelled = queue->lines_[CANCELLED].count_;
  now.unfinished = queue->unfinished_;
  now.is_shutdown = queue->is_shutdown_;
  memcpy(stats, &now, now.size);
  return 0;
}
