/* Queues that keep tasks: which there may be, whose a task is, who is told of the lost ones, and how many a
 * process may have. */
#define _GNU_SOURCE
#include "lost_tasks_helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- creating -------------------------------------------------------------------------------- */

static int create_with(int joinable, int lost_tasks, size_t max_message) {
  forkq_queue_t *made = NULL;
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = joinable;
  options.lost_tasks = (int)lost_tasks;
  options.max_message = max_message;
  int r = forkq_queue_create_with(&made, &options);
  forkq_queue_destroy(made);
  return r;
}

START_TEST(what_a_queue_may_be) {
  ck_assert_int_eq(create_with(0, FORKQ_LOST_TASKS_COUNT, FORKQ_MESSAGE_MAX), 0);
  ck_assert_int_eq(create_with(1, FORKQ_LOST_TASKS_COUNT, FORKQ_MESSAGE_MAX), 0);
  ck_assert_int_eq(create_with(1, FORKQ_LOST_TASKS_TELL, FORKQ_KEPT_MESSAGE_MAX), 0);
  ck_assert_int_eq(create_with(1, FORKQ_LOST_TASKS_REDELIVER, 0), 0);
  ck_assert_int_eq(create_with(0, FORKQ_LOST_TASKS_TELL, 0), FORKQ_ERANGE);
  ck_assert_int_eq(create_with(1, -1, 0), FORKQ_ERANGE);
  ck_assert_int_eq(create_with(1, FORKQ_LOST_TASKS_REDELIVER + 1, 0), FORKQ_ERANGE);
  ck_assert_int_eq(create_with(1, FORKQ_LOST_TASKS_TELL, FORKQ_KEPT_MESSAGE_MAX + 1),
                   FORKQ_ERANGE);
}
END_TEST

START_TEST(calls_on_other_queues) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *plain, *joinable;
  ck_assert_int_eq(forkq_queue_create(&plain, 0), 0);
  ck_assert_int_eq(forkq_joinable_queue_create(&joinable, 0), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(NULL, &item), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_task_done_item(plain, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_lost(NULL, &item), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_lost(plain, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_task_done_item(plain, &item), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_get_lost(plain, &item), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_get_lost(joinable, &item), FORKQ_ENOTJOINABLE);
  /* Without the option it is a plain task_done. */
  ck_assert_int_eq(put_int(joinable, 1, -1), 0);
  ck_assert_int_eq(forkq_queue_get(joinable, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(joinable, &item), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(joinable, &item), FORKQ_ETASKDONE);
  forkq_item_destroy(&item);
  forkq_queue_destroy(joinable);
  forkq_queue_destroy(plain);
}
END_TEST

/* ---- task_done ------------------------------------------------------------------------------- */

START_TEST(items_are_done_in_any_order) {
  forkq_item_t items[3] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  put_numbers(0, 3);
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(forkq_queue_get(queue, &items[i], PATIENCE_MS), 0);
    ck_assert_uint_eq(items[i].redelivered, 0);
  }
  ck_assert_uint_eq(in_use(), 3);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &items[1]), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &items[1]), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0); /* the first */
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &items[0]), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &items[2]), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
  ck_assert_uint_eq(in_use(), 0);
  assert_joined(0);
  for (int i = 0; i < 3; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

START_TEST(an_item_of_nothing_or_of_another_queue_is_not_done) {
  forkq_item_t item = FORKQ_ITEM_INIT, other = FORKQ_ITEM_INIT;
  forkq_queue_t *first = queue;
  create(FORKQ_LOST_TASKS_TELL, 0);
  put_numbers(0, 1);
  ck_assert_int_eq(put_int(first, 1, -1), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get(first, &other, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &other), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_task_done_item(first, &item), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_task_done_item(first, &other), 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  /* An item forgets its task with the next get. */
  put_numbers(0, 1);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), FORKQ_ETASKDONE);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  forkq_item_destroy(&item);
  forkq_item_destroy(&other);
  forkq_queue_destroy(first);
}
END_TEST

/* As the process leaves it that dies in a task_done just before the end of its note. */
static void die_at_the_end_of_task_done(void *arg) {
  struct forkq__ledger *ledger = &queue->segment->ledger;
  CHILD_MUST(get(PATIENCE_MS) == 0);
  CHILD_MUST(forkq__ledger_lock(ledger) == 0);
  struct forkq__cell *cell = forkq__account_cell(&queue->channel.account);
  ledger->done_base = cell->done;
  ledger->done_number = kept()->tasks[0].number;
  ledger->confirming = (uint64_t)(cell - ledger->cells) << 32 | 1;
  cell->done++;
  kept()->tasks[0].word = 0;
  raise(SIGKILL);
  (void)arg;
}

/* Before anybody takes the ledger's lock, another task is in the entry. */
START_TEST(a_task_in_the_entry_of_one_that_is_done_stays) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  put_numbers(5, 6);
  ck_assert_int_eq(get(PATIENCE_MS), 5);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  put_numbers(0, 2);
  until_sent(queue);
  ck_assert_int_eq(support_wait(support_fork(die_at_the_end_of_task_done, NULL)),
                   128 + SIGKILL);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(item.object.via.i64, 1);
  ck_assert_uint_ne(kept()->tasks[0].word, 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  forkq_item_destroy(&item);
  assert_joined(0);
}
END_TEST

static void get_one_and_stay(void *arg) {
  CHILD_MUST(get(PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  for (;;)
    pause();
}

START_TEST(a_process_does_only_its_own) {
  _Atomic int *got = support_shared(sizeof *got);
  put_numbers(0, 1);
  pid_t pid = support_fork(get_one_and_stay, (void *)got);
  support_until(got);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
  support_kill_and_wait(pid);
}
END_TEST

/* ---- children, and processes that are not dead ------------------------------------------------ */

static forkq_item_t items[2] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };

static void do_them(void *arg) {
  CHILD_MUST(forkq_queue_task_done_item(queue, &items[1]) == 0);
  CHILD_MUST(forkq_queue_task_done_item(queue, &items[1]) == FORKQ_ETASKDONE);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  CHILD_MUST(forkq_queue_task_done(queue) == FORKQ_ETASKDONE);
  (void)arg;
}

START_TEST(a_child_does_its_parents_by_item) {
  put_numbers(0, 2);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(forkq_queue_get(queue, &items[i], PATIENCE_MS), 0);
  ck_assert_int_eq(support_wait(support_fork(do_them, NULL)), 0);
  assert_joined(0);
}
END_TEST

static _Atomic int *go;

static void get_two_and_leave_them(void *arg) {
  for (int i = 0; i < 2; i++)
    CHILD_MUST(forkq_queue_get(queue, &items[i], PATIENCE_MS) == 0);
  if (fork() == 0) {
    support_until(&go[1]);
    do_them(arg);
    atomic_store(&go[2], 1);
    _exit(0);
  }
  atomic_store(&go[0], 1);
  stay();
}

/* The parent is killed; its child lives, so the tasks are not lost. */
START_TEST(a_child_does_what_its_dead_parent_had) {
  go = support_shared(3 * sizeof *go);
  put_numbers(0, 2);
  pid_t pid = support_fork(get_two_and_leave_them, NULL);
  support_until(&go[0]);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_queue_join(queue, 50, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  atomic_store(&go[1], 1);
  support_until(&go[2]);
  assert_joined(0);
}
END_TEST

START_TEST(a_stopped_process_keeps_its_tasks) {
  put_numbers(0, 1);
  pid_t pid = start((struct worker){ .gets = 1 });
  support_stop(pid);
  ck_assert_int_eq(forkq_queue_join(queue, 250, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(250), FORKQ_TIMEDOUT);
  support_kill_and_wait(pid);
  ck_assert_int_eq(get(PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_joined(0);
}
END_TEST

/* ---- told ------------------------------------------------------------------------------------- */

START_TEST(exactly_the_lost_ones_are_told) {
  put_numbers(0, 10);
  ck_assert_int_eq(told(), FORKQ_EMPTY);
  lose(5, 2);
  ck_assert_int_eq(get(PATIENCE_MS), 5);
  lose(2, 1);
  ck_assert_int_eq(told(), 2);
  ck_assert_int_eq(told(), 3);
  ck_assert_int_eq(told(), 4);
  ck_assert_int_eq(told(), 7);
  ck_assert_int_eq(told(), FORKQ_EMPTY);
  ck_assert_uint_eq(in_use(), 1);
  for (int i = 8; i < 10; i++)
    ck_assert_int_eq(get(PATIENCE_MS), i);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_joined(4);
  assert_joined(0);
}
END_TEST

static void close_and_stay(void) {
  CHILD_MUST(forkq_queue_close(queue) == 0);
  stay();
}

static void destroy(void) {
  forkq_queue_destroy(queue);
}

static void end(void) {
  exit(0);
}

START_TEST(however_the_process_ends) {
  put_numbers(0, 3);
  ck_assert_int_eq(support_wait(start((struct worker){ .gets = 1, .then = end })), 0);
  ck_assert_int_eq(support_wait(start((struct worker){ .gets = 1, .then = destroy })), 0);
  support_kill_and_wait(start((struct worker){ .gets = 1, .then = close_and_stay }));
  assert_joined(3);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(told(), i);
  ck_assert_int_eq(told(), FORKQ_EMPTY);
}
END_TEST

START_TEST(what_is_told_is_no_task) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  put_numbers(7, 8);
  lose(1, 0);
  ck_assert_int_eq(forkq_queue_get_lost(queue, &item), 0);
  ck_assert_int_eq(item.object.via.i64, 7);
  ck_assert_uint_eq(item.redelivered, 0);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), FORKQ_ETASKDONE);
  assert_joined(1);
  forkq_item_destroy(&item);
}
END_TEST

/* ---- limits -------------------------------------------------------------------------------------- */

START_TEST(a_process_has_so_many_tasks) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  const int most = FORKQ_KEPT_TASKS_MAX;
  put_numbers(0, most + 2);
  for (int i = 0; i < most; i++)
    ck_assert_int_eq(get(PATIENCE_MS), i);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EUNDONE);
  ck_assert_int_eq(get(0), FORKQ_EUNDONE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(item.object.via.i64, most);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EUNDONE);
  /* Another process has room for it. */
  lose(1, 1);
  for (int i = 0; i < most; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_joined(0);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(a_batch_has_as_many_as_it_may) {
  enum { MORE = FORKQ_KEPT_TASKS_MAX + 10 };
  static forkq_item_t batch[MORE];
  size_t n = 0;
  put_numbers(0, MORE);
  until_sent(queue);
  ck_assert_int_eq(get(PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get_many(queue, batch, MORE, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, FORKQ_KEPT_TASKS_MAX - 1);
  ck_assert_int_eq(forkq_queue_get_many(queue, batch, MORE, PATIENCE_MS, &n),
                   FORKQ_EUNDONE);
  for (unsigned i = 0; i < FORKQ_KEPT_TASKS_MAX; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(forkq_queue_get_many(queue, batch, MORE, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 10);
  ck_assert_int_eq(batch[0].object.via.i64, FORKQ_KEPT_TASKS_MAX);
  for (int i = 0; i < 10; i++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  for (int i = 0; i < MORE; i++)
    forkq_item_destroy(&batch[i]);
  assert_joined(0);
}
END_TEST

/* As if others had them all. What a process without a task may have is its alone. */
static void use_up(uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++)
    kept()->tasks[i].word = 1u << 14 | (FORKQ__CELLS_MAX - 1) << 2 | 2;
  kept()->used = kept()->used < to ? to : kept()->used;
}

START_TEST(one_without_a_task_always_has_room) {
  put_numbers(0, 3);
  use_up(0, FORKQ__KEPT_COMMON);
  ck_assert_int_eq(get(PATIENCE_MS), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EUNDONE);
  kept()->tasks[5].word = 0;
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EUNDONE);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EUNDONE);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 2);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
}
END_TEST

/* Lost ones for which nobody asks make room, the oldest first. */
START_TEST(the_oldest_that_nobody_asks_for_are_forgotten) {
  put_numbers(0, 5);
  lose(3, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  use_up(3, FORKQ__KEPT_MAX);
  ck_assert_int_eq(get(PATIENCE_MS), 3);
  ck_assert_int_eq(get(PATIENCE_MS), 4);
  ck_assert_int_eq(told(), 2);
  ck_assert_int_eq(told(), FORKQ_EMPTY);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lost_tasks");
  TCase *any = tcase_create("any");
  tcase_add_test(any, what_a_queue_may_be);
  tcase_add_test(any, calls_on_other_queues);
  suite_add_tcase(suite, any);

  TCase *telling = tcase_create("tell");
  tcase_set_timeout(telling, 60);
  tcase_add_checked_fixture(telling, tell, queue_tear_down);
  tcase_add_test(telling, items_are_done_in_any_order);
  tcase_add_test(telling, an_item_of_nothing_or_of_another_queue_is_not_done);
  tcase_add_test(telling, a_task_in_the_entry_of_one_that_is_done_stays);
  tcase_add_test(telling, a_process_does_only_its_own);
  tcase_add_test(telling, a_child_does_its_parents_by_item);
  tcase_add_test(telling, exactly_the_lost_ones_are_told);
  tcase_add_test(telling, however_the_process_ends);
  tcase_add_test(telling, what_is_told_is_no_task);
  tcase_add_test(telling, a_process_has_so_many_tasks);
  tcase_add_test(telling, a_batch_has_as_many_as_it_may);
  tcase_add_test(telling, one_without_a_task_always_has_room);
  tcase_add_test(telling, the_oldest_that_nobody_asks_for_are_forgotten);
  suite_add_tcase(suite, telling);

  TCase *again = tcase_create("redeliver");
  tcase_set_timeout(again, 60);
  tcase_add_checked_fixture(again, redeliver, queue_tear_down);
  tcase_add_test(again, a_child_does_what_its_dead_parent_had);
  tcase_add_test(again, a_stopped_process_keeps_its_tasks);
  suite_add_tcase(suite, again);
  return support_main(suite);
}
