#include "tasks.h"

#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

/* Tasks that the children of one process leave undone at most, where tasks are kept: it may have only so
 * many. */
#define LEFT_MAX 8u

void tasks_say_done(struct worker *worker, const struct task *task, bool by_item) {
  struct book *book = worker->book;
  atomic_fetch_add(&worker->life->done_begun, 1);
  book_done_begins(book, task->by, task->seq);
  int r = by_item ? forkq_queue_task_done_item(book->queue, task->item)
                  : forkq_queue_task_done(book->queue);
  if (r == 0)
    book_done_ends(book, task->by, task->seq);
  atomic_fetch_add(&worker->life->done_ended, 1);
  if (r != 0)
    book_fail(book, "life %u: task_done%s says %s", worker->self, by_item ? "_item" : "",
              forkq_error_name(r));
}

/* Where tasks are kept, they stay the process's as long as it lives. */
static bool may_leave_one(struct worker *worker) {
  return !plan_keeps(&worker->book->plan) ||
         atomic_fetch_add(&worker->life->left, 1) < LEFT_MAX;
}

/* In a child of the process that got the tasks, which need not live any more. One in so many is
 * left undone. */
static _Noreturn void do_in_child(struct worker *worker, const struct task *tasks,
                                  size_t count) {
  uint64_t random = worker->random ^ (uint64_t)getpid();
  if (support_random_below(&random, 4) == 0)
    book_sleep_us(support_random_below(&random, 2000));
  for (size_t i = 0; i < count; i++) {
    if (support_random_below(&random, 16) == 0 && may_leave_one(worker)) {
      atomic_fetch_add(&worker->book->doomed, 1); /* a join may hear of it */
      if (!plan_keeps(&worker->book->plan))
        _exit(0);
      continue;
    }
    tasks_say_done(worker, &tasks[i], true);
  }
  _exit(0);
}

static void await_helper(struct worker *worker) {
  if (worker->helper == 0)
    return;
  book_begin(worker->book, worker->life, DONE, -1);
  (void)waitpid(worker->helper, NULL, 0);
  book_end(worker->life);
  worker->helper = 0;
}

/* The judge lives on, and so would a task that its child leaves undone. */
static bool has_it_done(struct worker *worker) {
  return worker->book->plan.dispatch && atomic_load(&worker->life->kind) != JUDGE &&
         support_random_below(&worker->random, 4) == 0;
}

static void have_it_done(struct worker *worker, const struct task *tasks, size_t count) {
  await_helper(worker);
  worker->helper = fork();
  if (worker->helper == 0)
    do_in_child(worker, tasks, count);
  if (worker->helper < 0)
    book_fail(worker->book, "fork failed");
}

/* It may die in the middle of it. */
static void work(struct worker *worker) {
  const struct plan *plan = &worker->book->plan;
  if (plan_keeps(plan) && plan->work_us > 0 && worker_working(worker, RUN))
    book_sleep_us(support_random_below(&worker->random, plan->work_us + 1));
}

/* In the order of the gets, unless it has others, too; or by items, last first. */
void tasks_finish(struct worker *worker, const struct task *tasks, size_t count) {
  if (has_it_done(worker)) {
    have_it_done(worker, tasks, count);
    return;
  }
  bool by_item =
      plan_keeps(&worker->book->plan) &&
      (worker->book->plan.dispatch || support_random_below(&worker->random, 2) == 0);
  for (size_t i = 0; i < count; i++) {
    work(worker);
    book_begin(worker->book, worker->life, DONE, 0);
    tasks_say_done(worker, &tasks[by_item ? count - 1 - i : i], by_item);
    book_end(worker->life);
  }
}

/* What is told is nobody's any more. So it is lost for good if the process dies before it has written it
 * down. */
static int hear_one(struct worker *worker, forkq_item_t *item) {
  struct payload payload;
  book_begin(worker->book, worker->life, HEAR, 0);
  atomic_store(&worker->life->hears, true);
  int r = forkq_queue_get_lost(worker->book->queue, item);
  if (r == 0 && worker_read(worker, item, &payload))
    book_told(worker->book, payload.by, payload.seq);
  atomic_store(&worker->life->hears, false);
  book_end(worker->life);
  return r;
}

void tasks_hear(struct worker *worker) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  while ((r = hear_one(worker, &item)) == 0)
    ;
  forkq_item_destroy(&item);
  if (r != FORKQ_EMPTY)
    book_fail(worker->book, "life %u: get_lost says %s", worker->self,
              forkq_error_name(r));
}
