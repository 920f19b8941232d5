/* The kinds of loop queues, first in, last in and by priority: each is compared with a model. */
#include "loop_queue_helpers.h"

#include <string.h>

/* ---- the kinds, against a model ---------------------------------------------------- */

enum kind { FIFO, LIFO, PRIORITY };

/* An item is a rank for the priority queue and a number. Compared by the rank alone. */
#define RANK_SHIFT 24 /* an item may have 32 bits */
#define RANK(item) ((item) >> RANK_SHIFT)

static int compare_ranks(const void *a, const void *b, void *arg) {
  ck_assert_ptr_eq(arg, &queue);
  return (int)(RANK((intptr_t)a) - RANK((intptr_t)b));
}

static void open_kind(enum kind kind, int64_t maxsize) {
  if (kind == FIFO)
    ck_assert_int_eq(forkq_loop_queue_init(&loop, &queue, maxsize), 0);
  else if (kind == LIFO)
    ck_assert_int_eq(forkq_loop_queue_init_lifo(&loop, &queue, maxsize), 0);
  else
    ck_assert_int_eq(
        forkq_loop_queue_init_priority(&loop, &queue, maxsize, compare_ranks, &queue), 0);
  is_open = true;
}

/* What must be in the queue, in the order in which it was put. */
#define MODEL_MAX 100000
static struct model {
  enum kind kind;
  int64_t maxsize;
  intptr_t items[MODEL_MAX];
  int count;
  uint64_t put, got;
} model;

static void open_model(enum kind kind, int64_t maxsize) {
  model.kind = kind;
  model.maxsize = maxsize;
  model.count = 0;
  model.put = model.got = 0;
  open_kind(kind, maxsize);
}

static void model_put(intptr_t item) {
  support_assert(model.count < MODEL_MAX);
  model.items[model.count++] = item;
  model.put++;
  support_assert(model.maxsize <= 0 || model.count <= model.maxsize);
}

static int model_next(void) {
  int next = model.kind == LIFO ? model.count - 1 : 0;
  if (model.kind == PRIORITY)
    for (int i = 1; i < model.count; i++)
      if (RANK(model.items[i]) < RANK(model.items[next]))
        next = i;
  return next;
}

static void model_get(intptr_t item) {
  support_assert(model.count > 0);
  int next = model_next();
  support_assert(model.items[next] == item);
  model.count--;
  memmove(&model.items[next], &model.items[next + 1],
          (size_t)(model.count - next) * sizeof *model.items);
  model.got++;
}

static void dispose_from_model(forkq_loop_queue_t *q, void *item) {
  (void)q;
  model_get((intptr_t)item);
}

/* Requests in use, with when they were started: those of one sort end in that order. */
#define REQUESTS 24
enum sort { GET, PUT, CANCELLED };
static struct request {
  forkq_loop_queue_req_t req;
  enum sort sort;
  uint64_t started;
  intptr_t item;
} requests[REQUESTS];
static uint64_t starts, last_get, last_put;

static void on_model_end(forkq_loop_queue_req_t *req, int status) {
  struct request *request = (struct request *)req;
  support_assert(!in_call);
  if (request->sort == CANCELLED || !is_open) {
    support_assert(status == UV_ECANCELED);
    return;
  }
  support_assert(status == 0);
  uint64_t *last = request->sort == GET ? &last_get : &last_put;
  support_assert(request->started > *last);
  *last = request->started;
  if (request->sort == GET)
    model_get((intptr_t)req->item);
  else
    model_put(request->item);
}

static uint64_t seed;

static intptr_t new_item(void) {
  static intptr_t number;
  return (intptr_t)support_random_below(&seed, 5) << RANK_SHIFT | ++number;
}

static void start_or_cancel(struct request *request, bool is_get) {
  if (request->req.queue != NULL) {
    int r = CALL(forkq_loop_queue_cancel(&request->req));
    support_assert(r == (request->sort == CANCELLED ? FORKQ_ENOTPENDING : 0));
    request->sort = CANCELLED;
    return;
  }
  request->sort = is_get ? GET : PUT;
  request->started = ++starts;
  request->item = new_item();
  int r = is_get ? CALL(forkq_loop_queue_get(&queue, &request->req, on_model_end))
                 : CALL(forkq_loop_queue_put(&queue, &request->req, (void *)request->item,
                                             on_model_end));
  support_assert(r == 0);
}

static void one_step(void) {
  intptr_t item = new_item();
  switch (support_random_below(&seed, 8)) {
  case 0:
  case 1:
    turn();
    break;
  case 2:
    if (put_nowait(item) == 0)
      model_put(item);
    else
      support_assert(model.maxsize > 0 && model.count == model.maxsize);
    break;
  case 3:
    if ((item = get_nowait()) != FORKQ_EMPTY)
      model_get(item);
    else
      support_assert(model.count == 0);
    break;
  default:
    start_or_cancel(&requests[support_random_below(&seed, REQUESTS)],
                    support_random_below(&seed, 2));
  }
  support_assert(forkq_loop_queue_qsize(&queue) == model.count);
  support_assert(forkq_loop_queue_empty(&queue) == (model.count == 0));
  support_assert(forkq_loop_queue_full(&queue) ==
                 (model.maxsize > 0 && model.count >= model.maxsize));
}

START_TEST(no_item_is_lost_or_doubled_whatever_is_cancelled) {
  static const int64_t sizes[] = { 0, 1, 3, 20 };
  seed = (uint64_t)_i;
  open_model((enum kind)(_i % 3), sizes[_i / 3]);
  queue.dispose = dispose_from_model;
  for (int i = 0; i < 20000; i++)
    one_step();
  int left = model.count;
  ck_assert_int_eq(close_queue(), left);
  run();
  ck_assert_int_eq(model.count, 0);
  ck_assert_uint_eq(model.put, model.got);
  ck_assert_uint_gt(model.put, 1000);
}
END_TEST

START_TEST(a_large_queue_keeps_its_order) {
  open_model((enum kind)_i, 0);
  seed = 1;
  /* Up and down, so that a ring wraps around in all of its sizes. */
  for (int round = 0; round < 9; round++) {
    for (int i = 0; i < 700; i++) {
      intptr_t item = new_item();
      ck_assert_int_eq(put_nowait(item), 0);
      model_put(item);
    }
    for (int i = 0; i < 500; i++)
      model_get(get_nowait());
  }
  while (model.count > 0)
    model_get(get_nowait());
  ck_assert_int_eq(get_nowait(), FORKQ_EMPTY);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("loop_queue_kinds");
  TCase *tcase = tcase_create("all");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 30);
  tcase_add_loop_test(tcase, no_item_is_lost_or_doubled_whatever_is_cancelled, 0, 12);
  tcase_add_loop_test(tcase, a_large_queue_keeps_its_order, 0, 3);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
