/* Queues that keep tasks: what was got and not done outlives its process. It is told, or got again. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "queue_helpers.h"

#include <forkq/loop_handle.h>
#include <forkq/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_MAX FORKQ__KEPT_SMALL
#define PATIENCE_MS 10000

static void create(forkq_lost_tasks_t lost_tasks, int64_t maxsize) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = 1;
  options.maxsize = maxsize;
  options.lost_tasks = (int)lost_tasks;
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  if (UNDER_ASAN) {
    ck_assert_int_eq(put(0, -1), 0);
    ck_assert_int_eq(get(PATIENCE_MS), 0);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    support_until_threads_asleep(1);
  }
}

static void tell(void) {
  fds_before = support_open_fds();
  create(FORKQ_LOST_TASKS_TELL, 0);
}

/* libuv keeps two descriptors of its own from the first loop on. */
static void redeliver(void) {
  uv_loop_t loop;
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  fds_before = support_open_fds();
  create(FORKQ_LOST_TASKS_REDELIVER, 0);
}

static struct forkq__kept_shared *kept(void) {
  return &queue->segment->ledger.kept;
}

/* How many entries are in use. */
static unsigned in_use(void) {
  unsigned count = 0;
  for (uint32_t i = 0; i < kept()->used; i++)
    count += kept()->tasks[i].word != 0;
  return count;
}

static void put_numbers(int from, int to) {
  for (int i = from; i < to; i++)
    ck_assert_int_eq(put(i, -1), 0);
}

/* ---- processes that end with tasks ---------------------------------------------------------- */

struct worker {
  int gets;
  int dones;
  void (*then)(void);
  _Atomic int *ready;
};

static void work(void *arg) {
  const struct worker *worker = arg;
  for (int i = 0; i < worker->gets; i++)
    CHILD_MUST(get(PATIENCE_MS) >= 0);
  for (int i = 0; i < worker->dones; i++)
    CHILD_MUST(forkq_queue_task_done(queue) == 0);
  atomic_store(worker->ready, 1);
  worker->then();
}

static void stay(void) {
  for (;;)
    pause();
}

static pid_t start(struct worker worker) {
  worker.ready = support_shared(sizeof *worker.ready);
  if (worker.then == NULL)
    worker.then = stay;
  pid_t pid = support_fork(work, &worker);
  support_until(worker.ready);
  return pid;
}

static void lose(int gets, int dones) {
  support_kill_and_wait(start((struct worker){ .gets = gets, .dones = dones }));
}

static int64_t told(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_lost(queue, &item);
  int64_t value = r == 0 ? item.object.via.i64 : r;
  forkq_item_destroy(&item);
  return value;
}

static void assert_joined(uint64_t expected) {
  uint64_t abandoned = 0;
  ck_assert_int_eq(forkq_queue_join(queue, PATIENCE_MS, &abandoned),
                   expected > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, expected);
}

static uint64_t redelivered(void) {
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  return stats.redelivered_items;
}

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
    stay();
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

/* ---- sizes -------------------------------------------------------------------------------------- */

static const size_t sizes[] = {
  6, 511, SMALL_MAX - 1, SMALL_MAX, SMALL_MAX + 1, 100000, FORKQ_KEPT_MESSAGE_MAX
};
#define SIZES (sizeof sizes / sizeof *sizes)

static void take_all_borrowed(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (size_t i = 0; i < SIZES; i++)
    CHILD_MUST(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void take_all_packed(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (size_t i = 0; i < SIZES; i++)
    CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void take_all_as_a_batch(void *arg) {
  forkq_item_t batch[SIZES];
  memset(batch, 0, sizeof batch);
  for (size_t got = 0, n = 0; got < SIZES; got += n)
    CHILD_MUST(forkq_queue_get_many(queue, batch, SIZES - got, PATIENCE_MS, &n) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void lose_by(void (*take_all)(void *arg)) {
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t pid = support_fork(take_all, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
}

static void each_size_comes_again(bool by_pipe) {
  static void (*const takes[])(void *) = { take_all_borrowed, take_all_packed,
                                           take_all_as_a_batch };
  if (by_pipe)
    support_keep_to_pipe(queue);
  for (size_t t = 0; t < sizeof takes / sizeof *takes; t++) {
    for (size_t i = 0; i < SIZES; i++)
      ck_assert_int_eq(put_bin(sizes[i], -1), 0);
    lose_by(takes[t]);
    forkq_item_t item = FORKQ_ITEM_INIT;
    for (size_t i = 0; i < SIZES; i++) {
      ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
      ck_assert(is_bin(&item, sizes[i]));
      ck_assert_uint_eq(item.redelivered, 1);
      ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
    }
    forkq_item_destroy(&item);
    assert_joined(0);
    ck_assert_uint_eq(in_use(), 0);
    for (uint32_t i = 0; i < kept()->used; i++)
      ck_assert_uint_eq(kept()->tasks[i].large, 0);
  }
}

START_TEST(messages_of_each_size) {
  each_size_comes_again(false);
}
END_TEST

START_TEST(messages_of_each_size_by_the_pipe) {
  each_size_comes_again(true);
}
END_TEST

/* Their bytes are kept before the read lock is let go. */
START_TEST(messages_of_each_size_where_others_are_copied_late) {
  support_copy_late(queue);
  each_size_comes_again(false);
}
END_TEST

START_TEST(into_a_buffer) {
  char buffer[100];
  size_t size = 0;
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "of a task", 9, -1), 0);
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t pid = fork();
  if (pid == 0) {
    CHILD_MUST(forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, PATIENCE_MS,
                                          &size) == 0);
    atomic_store(ready, 1);
    stay();
  }
  support_until(ready);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 3, PATIENCE_MS, &size),
                   FORKQ_ETOOSHORT);
  ck_assert_uint_eq(size, 9);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, 0, &size), 0);
  ck_assert_uint_eq(size, 9);
  ck_assert_mem_eq(buffer, "of a task", 9);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_joined(0);
}
END_TEST

/* ---- got again ---------------------------------------------------------------------------------- */

static void assert_got(int64_t value, uint32_t again) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(item.object.via.i64, value);
  ck_assert_uint_eq(item.redelivered, again);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  forkq_item_destroy(&item);
}

START_TEST(lost_tasks_come_before_all_others) {
  put_numbers(0, 5);
  lose(3, 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 4);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  lose(1, 0); /* 1, again */
  ck_assert_int_eq(forkq_queue_qsize(queue), 4);
  assert_got(2, 1);
  assert_got(1, 2);
  assert_got(3, 0);
  assert_got(4, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  assert_joined(0);
  ck_assert_uint_eq(redelivered(), 3);
}
END_TEST

START_TEST(a_batch_has_them_first) {
  forkq_item_t batch[8];
  size_t n = 0;
  memset(batch, 0, sizeof batch);
  put_numbers(0, 5);
  lose(2, 0);
  until_sent(queue);
  ck_assert_int_ge(forkq_queue_qsize(queue), 5);
  ck_assert_int_eq(forkq_queue_get_many(queue, batch, 8, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 5);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(batch[i].object.via.i64, i);
    ck_assert_uint_eq(batch[i].redelivered, i < 2);
    ck_assert_int_eq(forkq_queue_task_done_item(queue, &batch[i]), 0);
  }
  for (int i = 0; i < 8; i++)
    forkq_item_destroy(&batch[i]);
  assert_joined(0);
}
END_TEST

/* The put takes a slot; what is got again has none. */
START_TEST(with_a_maxsize) {
  forkq_queue_destroy(queue);
  create(FORKQ_LOST_TASKS_REDELIVER, 2);
  put_numbers(0, 2);
  lose(2, 0);
  put_numbers(2, 4);
  ck_assert_int_eq(put(4, 0), FORKQ_FULL);
  for (int i = 0; i < 4; i++)
    assert_got(i, i < 2);
  assert_joined(0);
}
END_TEST

/* Nobody else would find the dead. */
START_TEST(a_getter_that_sleeps_finds_them) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  pid_t killer = fork();
  if (killer == 0) {
    support_until_asleep(getppid());
    kill(pid, SIGKILL);
    _exit(0);
  }
  assert_got(7, 1);
  ck_assert_int_eq(support_wait(killer), 0);
  ck_assert_int_eq(support_wait(pid), 128 + SIGKILL);
}
END_TEST

static void get_seven(void *arg) {
  atomic_store((_Atomic int *)arg, 1);
  assert_got(7, 1);
}

/* The one that reaps wakes the one that sleeps, or it finds them itself. */
START_TEST(a_getter_that_waits_for_the_turn_gets_them) {
  enum { GETTERS = 3 };
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 }), getters[GETTERS];
  for (int i = 0; i < GETTERS; i++) {
    _Atomic int *ready = support_shared(sizeof *ready);
    getters[i] = support_fork(get_seven, (void *)ready);
    support_until(ready);
    support_until_asleep(getters[i]);
  }
  support_kill_and_wait(pid);
  int status;
  ck_assert_int_gt(wait(&status), 0);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  assert_joined(0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
}
END_TEST

START_TEST(forkq_wait_finds_them) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  forkq_wait_entry_t entry = { .kind = FORKQ_WAIT_QUEUE, .on.queue = queue };
  ck_assert_int_eq(forkq_wait(&entry, 1, 150), 0);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_wait(&entry, 1, PATIENCE_MS), 1);
  assert_got(7, 1);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 0);
}
END_TEST

static bool readable(int fd, int timeout_ms) {
  struct pollfd polled = { .fd = fd, .events = POLLIN };
  return poll(&polled, 1, timeout_ms) > 0;
}

/* The process makes no call meanwhile. */
START_TEST(a_descriptor_that_is_watched_becomes_readable) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  int fd = forkq_queue_fileno(queue);
  ck_assert_int_ge(fd, 0);
  while (readable(fd, 0))
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  support_kill_and_wait(pid);
  ck_assert(readable(fd, PATIENCE_MS));
  assert_got(7, 1);
  while (readable(fd, 0))
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static int loop_status = 1;

static void note_status(forkq_loop_req_t *req, int status) {
  loop_status = status;
  (void)req;
}

START_TEST(a_get_on_a_loop_finds_them) {
  uv_loop_t loop;
  forkq_loop_handle_t *handle = NULL;
  static forkq_loop_req_t req;
  forkq_item_t item = FORKQ_ITEM_INIT;
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  ck_assert_int_eq(forkq_loop_get(&req, handle, &item, PATIENCE_MS, note_status), 0);
  for (int i = 0; i < 10; i++)
    uv_run(&loop, UV_RUN_NOWAIT);
  support_kill_and_wait(pid);
  while (loop_status == 1)
    uv_run(&loop, UV_RUN_ONCE);
  ck_assert_int_eq(loop_status, 0);
  ck_assert_int_eq(item.object.via.i64, 7);
  ck_assert_uint_eq(item.redelivered, 1);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  forkq_item_destroy(&item);
}
END_TEST

static void watch(void *arg) {
  int fd = forkq_queue_fileno(queue);
  (void)forkq_queue_qsize(queue);
  while (readable(fd, 0))
    CHILD_MUST(get(0) == FORKQ_EMPTY);
  atomic_store((_Atomic int *)arg, 1);
  CHILD_MUST(readable(fd, PATIENCE_MS));
  assert_got(7, 1);
}

START_TEST(also_in_a_child_of_the_process_that_watches) {
  _Atomic int *ready = support_shared(sizeof *ready);
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_ge(forkq_queue_fileno(queue), 0);
  pid_t child = support_fork(watch, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
  ck_assert_int_eq(support_wait(child), 0);
  assert_joined(0);
}
END_TEST

/* ---- shutdown ------------------------------------------------------------------------------------ */

/* The last worker has no task, and waits for that of the other, which dies. */
START_TEST(a_shutdown_waits_for_tasks_that_others_have) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(get(50), FORKQ_TIMEDOUT);
  support_kill_and_wait(pid);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  /* It does not wait for itself. */
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_ESHUTDOWN);
  forkq_item_destroy(&item);
  assert_joined(0);
}
END_TEST

START_TEST(an_immediate_shutdown_drops_what_is_to_be_got_again) {
  put_numbers(0, 3);
  lose(2, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  assert_joined(0);
  ck_assert_uint_eq(in_use(), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(also_what_is_lost_after_it) {
  put_numbers(0, 3);
  pid_t pid = start((struct worker){ .gets = 2 });
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
  support_kill_and_wait(pid);
  assert_joined(0);
  ck_assert_uint_eq(in_use(), 0);
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

/* ---- another program ------------------------------------------------------------------------------ */

static void attach_and_take(void *arg) {
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  int fds[FORKQ_HANDOVER_FDS];
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST((fds[i] = dup(handover.fds[i])) >= 0);
  forkq_queue_destroy(queue);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(dup2(fds[i], handover.fds[i]) >= 0 && close(fds[i]) == 0);
  CHILD_MUST(forkq_queue_attach(&queue, handover.text, NULL) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 1);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

START_TEST(a_process_that_attaches_keeps_tasks_too) {
  _Atomic int *ready = support_shared(sizeof *ready);
  put_numbers(0, 2);
  pid_t pid = support_fork(attach_and_take, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
  assert_got(1, 1);
  assert_joined(0);
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
  tcase_add_test(again, messages_of_each_size);
  tcase_add_test(again, messages_of_each_size_by_the_pipe);
  tcase_add_test(again, messages_of_each_size_where_others_are_copied_late);
  tcase_add_test(again, into_a_buffer);
  tcase_add_test(again, lost_tasks_come_before_all_others);
  tcase_add_test(again, a_batch_has_them_first);
  tcase_add_test(again, with_a_maxsize);
  tcase_add_test(again, a_getter_that_sleeps_finds_them);
  tcase_add_test(again, a_getter_that_waits_for_the_turn_gets_them);
  tcase_add_test(again, forkq_wait_finds_them);
  tcase_add_test(again, a_descriptor_that_is_watched_becomes_readable);
  tcase_add_test(again, a_get_on_a_loop_finds_them);
  tcase_add_test(again, also_in_a_child_of_the_process_that_watches);
  tcase_add_test(again, a_shutdown_waits_for_tasks_that_others_have);
  tcase_add_test(again, an_immediate_shutdown_drops_what_is_to_be_got_again);
  tcase_add_test(again, also_what_is_lost_after_it);
  tcase_add_test(again, a_process_that_attaches_keeps_tasks_too);
  suite_add_tcase(suite, again);
  return support_main(suite);
}
