/* A loop has up to REQUESTS gets and puts under way at once; some have no time, some little,
 * some all, and some are cancelled.
 *
 * For the book it does one thing at a time all the same. A get takes its item right before its
 * callback, and its callback writes that down: so what a death leaves in doubt is one item,
 * taken after the callback before it had ended. A put may be in the queue from its call on,
 * so each that has not been called back is in doubt. */
#include "loop.h"

#include "payload.h"
#include "support.h"
#include "tasks.h"

#include <forkq/loop_handle.h>
#include <uv.h>

#define REQUESTS 8u

/* How often the loop looks at the phase, and cancels something. */
#define TICK_MS 2

struct looper;

struct request {
  forkq_loop_req_t req; /* the first: a callback finds the rest */
  struct looper *looper;
  forkq_item_t item;
  enum op op;
  uint32_t seq; /* of a put */
  int timeout_ms;
  int64_t since_ns;
  bool pending;
  bool cancelled;
};

struct looper {
  struct worker *worker;
  uv_loop_t loop;
  uv_timer_t tick;
  forkq_loop_handle_t *handle;
  struct request gets[REQUESTS];
  struct request puts[REQUESTS];
  uint32_t callbacks;
  bool closing;
};

static void complain(struct looper *looper, const char *what, int r) {
  book_fail(looper->worker->book, "life %u, a loop: %s says %s", looper->worker->self,
            what, r < 0 ? forkq_error_name(r) : "0");
}

static void must(struct looper *looper, const char *what, int r) {
  if (r != 0)
    complain(looper, what, r);
}

static bool any_pending(const struct request *requests) {
  for (uint32_t i = 0; i < REQUESTS; i++)
    if (requests[i].pending)
      return true;
  return false;
}

/* ---- the book ---------------------------------------------------------------------------- */

static int64_t due_ns(const struct request *request) {
  return request->timeout_ms < 0
             ? INT64_MAX
             : request->since_ns + request->timeout_ms * INT64_C(1000000);
}

/* Of two that wait without limit the older one. */
static const struct request *more_urgent(const struct request *a,
                                         const struct request *b) {
  if (a == NULL || !b->pending)
    return b->pending ? b : a;
  int64_t due_a = due_ns(a), due_b = due_ns(b);
  return due_a < due_b || (due_a == due_b && a->since_ns <= b->since_ns) ? a : b;
}

/* What the loop may do next is a get; what the watch waits for is the request that is due
 * next, or was. */
static void go_on(struct looper *looper) {
  struct book *book = looper->worker->book;
  struct life *life = looper->worker->life;
  const struct request *next = NULL;
  for (uint32_t i = 0; i < REQUESTS; i++)
    next = more_urgent(more_urgent(next, &looper->gets[i]), &looper->puts[i]);
  atomic_store(&life->want, 1);
  atomic_store(&life->asked,
               any_pending(looper->gets) ? atomic_fetch_add(&book->clock, 1) + 1 : 0);
  if (next != NULL)
    book_begin_at(book, life, next->op, next->timeout_ms, next->since_ns);
  else
    book_end(life);
}

static void withdraw(struct request *request) {
  struct worker *worker = request->looper->worker;
  book_note_put(worker->book, worker->life, request->seq, WITHDRAWN);
}

static void note_accepted(struct request *request) {
  struct worker *worker = request->looper->worker;
  struct life *life = worker->life;
  book_note_put(worker->book, life, request->seq, AS_NUMBERED);
  atomic_fetch_add(&life->puts, 1);
  if (atomic_load(&life->accepted) < request->seq)
    atomic_store(&life->accepted, request->seq);
  book_progress(worker->book, PUT, 1);
}

static void note_got(struct request *request) {
  struct worker *worker = request->looper->worker;
  struct task task = worker_take(worker, &request->item);
  book_progress(worker->book, GET, 1);
  if (worker->book->plan.joinable)
    tasks_finish(worker, &task, 1);
}

/* ---- what a callback may say ------------------------------------------------------------- */

static void judge_status(struct request *request, int status) {
  struct looper *looper = request->looper;
  if (!request->pending)
    complain(looper, "a callback that nobody waits for", status);
  if (request->cancelled && status != UV_ECANCELED)
    complain(looper, "a request that was cancelled", status);
  if (status == UV_ECANCELED) {
    if (!request->cancelled && !looper->closing)
      complain(looper, "a request that nobody cancelled", status);
    return;
  }
  worker_judge_outcome(looper->worker, request->op, status, request->timeout_ms,
                       request->since_ns);
}

/* ---- requests ---------------------------------------------------------------------------- */

static void refill(struct looper *looper);
static void cancel_one(struct looper *looper);

static bool one_in(struct looper *looper, uint32_t count) {
  return support_random_below(&looper->worker->random, count) == 0;
}

/* What found nothing, or no room, begins again at the next tick only. */
static void on_end(struct request *request, int status) {
  struct looper *looper = request->looper;
  request->pending = false;
  if (++looper->callbacks % OPS_PER_LOOK == 0)
    worker_look(looper->worker);
  if (!looper->closing && one_in(looper, 32))
    cancel_one(looper);
  if (status == 0 && looper->worker->book->plan.pause_us[LOOP] == 0)
    refill(looper);
  go_on(looper);
}

static void on_get(forkq_loop_req_t *req, int status) {
  struct request *request = (struct request *)(void *)req;
  judge_status(request, status);
  if (status == 0)
    note_got(request);
  on_end(request, status);
}

static void on_put(forkq_loop_req_t *req, int status) {
  struct request *request = (struct request *)(void *)req;
  judge_status(request, status);
  if (status == 0)
    note_accepted(request);
  else
    withdraw(request);
  on_end(request, status);
}

static void begin(struct looper *looper, struct request *request, enum op op) {
  struct worker *worker = looper->worker;
  request->looper = looper;
  request->op = op;
  request->timeout_ms = plan_timeout(&worker->book->plan, &worker->random);
  request->cancelled = false;
  request->pending = true;
  request->since_ns = book_now();
}

static void get(struct looper *looper, struct request *request) {
  begin(looper, request, GET);
  go_on(looper);
  int r = one_in(looper, 2)
              ? forkq_loop_get(&request->req, looper->handle, &request->item,
                               request->timeout_ms, on_get)
              : forkq_loop_get_packed(&request->req, looper->handle, &request->item,
                                      request->timeout_ms, on_get);
  must(looper, "the call of a get", r);
}

static int start_put(struct looper *looper, struct request *request) {
  uint32_t size;
  char *message = worker_write_message(looper->worker, 0, request->seq, &size);
  msgpack_object object = worker_binary(message, size);
  switch (support_random_below(&looper->worker->random, 4)) {
  case 0:
    return forkq_loop_put(&request->req, looper->handle, &object, request->timeout_ms,
                          on_put);
  case 1:
    return forkq_loop_put_with(&request->req, looper->handle, worker_pack_binary, &object,
                               request->timeout_ms, on_put);
  default:
    return forkq_loop_put_packed(&request->req, looper->handle, message,
                                 PAYLOAD_HEAD + size, request->timeout_ms, on_put);
  }
}

static void put(struct looper *looper, struct request *request) {
  struct worker *worker = looper->worker;
  request->seq = atomic_load(&worker->life->begun) + 1;
  begin(looper, request, PUT);
  book_note_put(worker->book, worker->life, request->seq, IN_DOUBT);
  atomic_store(&worker->life->begun, request->seq);
  go_on(looper);
  must(looper, "the call of a put", start_put(looper, request));
}

/* Cancels a request that waits; one that is done already cannot be. */
static void cancel(struct looper *looper, struct request *request) {
  if (!request->pending || request->cancelled)
    return;
  int r = forkq_loop_cancel(&request->req);
  if (r == 0) {
    request->cancelled = true;
    if (request->op == PUT)
      withdraw(request);
  } else if (r != FORKQ_ENOTPENDING) {
    complain(looper, "cancel", r);
  }
}

/* Not the first: it may wait for so long that somebody notices. */
static void cancel_one(struct looper *looper) {
  uint32_t i = 1 + support_random_below(&looper->worker->random, REQUESTS - 1);
  cancel(looper, one_in(looper, 2) ? &looper->gets[i] : &looper->puts[i]);
}

/* Some of the places stay free at times, never that of the first get: a full queue of which
 * this is the only consumer has to come to an end. */
static void refill(struct looper *looper) {
  struct worker *worker = looper->worker;
  for (uint32_t i = 0; i < REQUESTS && worker_working(worker, FLUSH); i++)
    if (!looper->closing && !looper->gets[i].pending && (i == 0 || one_in(looper, 4)))
      get(looper, &looper->gets[i]);
  for (uint32_t i = 0; i < REQUESTS && worker_working(worker, RUN); i++)
    if (!looper->closing && !looper->puts[i].pending && worker_may_put(worker) &&
        one_in(looper, 4))
      put(looper, &looper->puts[i]);
}

/* ---- its life ---------------------------------------------------------------------------- */

static void on_handle_closed(void *arg) {
  struct looper *looper = arg;
  looper->handle = NULL;
}

/* What waits is cancelled by the handle's end, or before it, one by one. */
static void close_all(struct looper *looper) {
  if (looper->closing)
    return;
  for (uint32_t i = 0; i < REQUESTS && one_in(looper, 2); i++) {
    cancel(looper, &looper->gets[i]);
    cancel(looper, &looper->puts[i]);
  }
  looper->closing = true;
  uv_close((uv_handle_t *)&looper->tick, NULL);
  must(looper, "close", forkq_loop_close(looper->handle, on_handle_closed, looper));
}

/* Once nothing is put any more and the last put has been called back, the judge may count. */
static void note_phase(struct looper *looper) {
  uint32_t phase = atomic_load(&looper->worker->book->phase);
  if (phase == RUN || !any_pending(looper->puts))
    atomic_store(&looper->worker->life->phase, phase);
}

/* The first get waits on: the judge puts something for it, as for a consumer. Only who sleeps
 * for good is not woken by that. */
static void finish(struct looper *looper) {
  for (uint32_t i = 1; i < REQUESTS; i++)
    cancel(looper, &looper->gets[i]);
  if (!looper->gets[0].pending || atomic_load(&looper->worker->book->failed) != 0)
    close_all(looper);
}

static void on_tick(uv_timer_t *timer) {
  struct looper *looper = timer->data;
  note_phase(looper);
  if (worker_worn_out(looper->worker, looper->callbacks)) {
    close_all(looper);
    return;
  }
  if (!worker_working(looper->worker, FLUSH)) {
    finish(looper);
    return;
  }
  if (one_in(looper, 4))
    cancel_one(looper);
  refill(looper);
  go_on(looper);
}

static void open_loop(struct looper *looper, struct worker *worker) {
  looper->worker = worker;
  must(looper, "uv_loop_init", uv_loop_init(&looper->loop));
  must(looper, "open_queue",
       forkq_loop_open_queue(&looper->handle, &looper->loop, worker->book->queue));
  uv_timer_init(&looper->loop, &looper->tick);
  looper->tick.data = looper;
}

static void close_loop(struct looper *looper) {
  must(looper, "uv_run", uv_run(&looper->loop, UV_RUN_DEFAULT));
  if (looper->handle != NULL || any_pending(looper->gets) || any_pending(looper->puts))
    complain(looper, "the end of a loop, with something left,", 0);
  must(looper, "uv_loop_close", uv_loop_close(&looper->loop));
  for (uint32_t i = 0; i < REQUESTS; i++)
    forkq_item_destroy(&looper->gets[i].item);
}

void loop_open_for_good(struct worker *worker) {
  static struct looper looper;
  open_loop(&looper, worker);
  close_all(&looper);
  close_loop(&looper);
}

void loop_work(struct worker *worker) {
  static struct looper looper;
  open_loop(&looper, worker);
  uv_timer_start(&looper.tick, on_tick, 0, TICK_MS);
  close_loop(&looper);
}
