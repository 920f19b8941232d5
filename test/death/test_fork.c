/* fork: at any time, by anybody, and what parent and child have of a queue then. */
#define _GNU_SOURCE
#include "fork_heap.h"
#include "queue_helpers.h"

#include <check.h>
#include <forkq.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORKS (UNDER_ASAN ? 200 : 1000)
#define THREADS 4 /* that put, and as many that get */
#define AT_ONCE 8 /* children */
#define LARGE (10u << 20)

static void create(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
}

/* Gets `count` numbers below it, each once, and nothing else. */
static void assert_get_each_once(int count) {
  bool *seen = calloc((size_t)count, sizeof *seen);
  for (int i = 0; i < count; i++) {
    int64_t value = get(5000);
    ck_assert_int_ge(value, 0);
    ck_assert_int_lt(value, count);
    ck_assert(!seen[value]);
    seen[value] = true;
  }
  free(seen);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

static pthread_t spawn(void *(*fn)(void *), void *arg) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, fn, arg), 0);
  return thread;
}

static void join(pthread_t thread) {
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* ---- among threads that put and get -------------------------------------------------- */

/* Numbers of who put and what: the children's are below FORKS, thread t's k-th is
 * (t + 1) << 32 | k. */
static _Atomic int stop, started;
static _Atomic uint8_t from_children[FORKS];
static _Atomic uint64_t put_by_thread[THREADS], got_of_thread[THREADS];
static _Atomic uint64_t sum_of_thread[THREADS];

static void *put_on(void *arg) {
  uint64_t thread = (uint64_t)(uintptr_t)arg;
  uint64_t k = 0;
  atomic_fetch_add(&started, 1);
  for (; !atomic_load(&stop); k++)
    support_assert(put((int64_t)((thread + 1) << 32 | k), -1) == 0);
  put_by_thread[thread] = k;
  return NULL;
}

static void *get_on(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  atomic_fetch_add(&started, 1);
  while ((r = forkq_queue_get(queue, &item, -1)) == 0) {
    uint64_t value = item.object.via.u64;
    uint64_t thread = value >> 32;
    if (thread == 0) {
      support_assert(value < FORKS);
      atomic_fetch_add(&from_children[value], 1);
      continue;
    }
    support_assert(thread <= THREADS);
    atomic_fetch_add(&got_of_thread[thread - 1], 1);
    atomic_fetch_add(&sum_of_thread[thread - 1], value & UINT32_MAX);
  }
  support_assert(r == FORKQ_ESHUTDOWN);
  forkq_item_destroy(&item);
  return NULL;
}

static void put_one_and_destroy(void *arg) {
  CHILD_MUST(put(*(const int *)arg, -1) == 0);
  forkq_queue_destroy(queue);
}

static void put_one_and_exit(void *arg) {
  CHILD_MUST(put(*(const int *)arg, -1) == 0);
  exit(0);
}

static void fork_among_threads(int64_t maxsize) {
  pthread_t threads[2 * THREADS];
  pid_t children[AT_ONCE];
  create(maxsize);
  ck_assert_int_eq(put(0, -1), 0);
  ck_assert_int_eq(get(5000), 0);
  await_feeder();
  for (int i = 0; i < THREADS; i++) {
    threads[2 * i] = spawn(put_on, (void *)(uintptr_t)i);
    threads[2 * i + 1] = spawn(get_on, NULL);
  }
  while (atomic_load(&started) < 2 * THREADS)
    usleep(100);
  for (int i = 0; i < FORKS + AT_ONCE; i++) {
    if (i >= AT_ONCE)
      ck_assert_int_eq(support_wait(children[i % AT_ONCE]), 0);
    if (i < FORKS)
      children[i % AT_ONCE] =
          support_fork(i % 2 == 0 ? put_one_and_destroy : put_one_and_exit, &i);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    join(threads[2 * i]);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < THREADS; i++)
    join(threads[2 * i + 1]);
  for (int i = 0; i < FORKS; i++)
    ck_assert_int_eq(from_children[i], 1);
  for (int i = 0; i < THREADS; i++) {
    uint64_t count = put_by_thread[i];
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_eq(got_of_thread[i], count);
    ck_assert_uint_eq(sum_of_thread[i], count * (count - 1) / 2);
  }
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

START_TEST(among_threads_that_put_and_get) {
  fork_among_threads(1000);
}
END_TEST

/* So that threads wait for room and are woken all the time. */
START_TEST(among_threads_that_put_and_get_and_wait) {
  fork_among_threads(2);
}
END_TEST

/* ---- the outbox is the parent's ------------------------------------------------------ */

static void destroy(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
}

/* Children that put nothing, put and destroy, put and exit: none of them sends anything of
 * the parent's, which has a hundred items unsent. */
START_TEST(what_is_unsent_is_sent_once_and_by_the_parent) {
  create(0);
  support_keep_to_pipe(queue);
  for (int round = 0; round < 20; round++) {
    static int numbers[] = { 100, 101 };
    ck_assert_int_eq(put_bin(LARGE, -1), 0);
    for (int i = 0; i < 100; i++)
      ck_assert_int_eq(put(i, -1), 0);
    support_until_pipe_full(queue);
    ck_assert_int_eq(support_wait(support_fork(destroy, NULL)), 0);
    pid_t children[2] = { support_fork(put_one_and_destroy, &numbers[0]),
                          support_fork(put_one_and_exit, &numbers[1]) };
    assert_get_bin(LARGE);
    for (int i = 0; i < 2; i++)
      ck_assert_int_eq(support_wait(children[i]), 0);
    assert_get_each_once(102);
  }
}
END_TEST

static void get_hundred(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, 5000) == 0 && item.size == LARGE);
  forkq_item_destroy(&item);
  for (int i = 0; i < 100; i++)
    CHILD_MUST(get(5000) == i);
  CHILD_MUST(get(0) == FORKQ_EMPTY);
}

/* The child of the fork reads what the parent had not sent then. */
START_TEST(a_child_gets_what_the_parent_had_not_sent) {
  create(0);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(put(i, -1), 0);
  await_feeder();
  ck_assert_int_eq(support_wait(support_fork(get_hundred, NULL)), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* Every generation puts before its fork, and after it. */
static void put_and_fork(int generation, int generations) {
  CHILD_MUST(put(2 * generation, -1) == 0);
  if (generation + 1 < generations) {
    await_feeder();
    pid_t pid = fork();
    CHILD_MUST(pid >= 0);
    if (pid == 0) {
      put_and_fork(generation + 1, generations);
      _exit(0);
    }
    CHILD_MUST(put(2 * generation + 1, -1) == 0);
    CHILD_MUST(support_wait(pid) == 0);
  } else {
    CHILD_MUST(put(2 * generation + 1, -1) == 0);
  }
  if (generation % 2 == 0)
    exit(0);
  forkq_queue_destroy(queue);
}

static void be_first_generation(void *arg) {
  put_and_fork(0, *(const int *)arg);
}

START_TEST(a_fork_of_a_fork_of_a_fork) {
  create(0);
  for (int generations = 1; generations <= 8; generations++) {
    ck_assert_int_eq(support_wait(support_fork(be_first_generation, &generations)), 0);
    assert_get_each_once(2 * generations);
  }
}
END_TEST

/* ---- while other queues come and go -------------------------------------------------- */

static void *make_and_destroy(void *arg) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  forkq_item_t item = FORKQ_ITEM_INIT;
  uint64_t seed = (uint64_t)(uintptr_t)arg;
  while (!atomic_load(&stop)) {
    forkq_queue_t *other;
    support_assert(forkq_queue_create(&other, 0) == 0);
    for (uint32_t i = support_random_below(&seed, 4); i > 0; i--)
      support_assert(forkq_queue_put(other, &nil, -1) == 0);
    if (support_random_below(&seed, 2) == 0)
      (void)!forkq_queue_get(other, &item, 0);
    if (support_random_below(&seed, 2) == 0)
      support_assert(forkq_queue_close(other) == 0 &&
                     forkq_queue_join_thread(other, -1, NULL) == 0);
    forkq_queue_destroy(other);
  }
  forkq_item_destroy(&item);
  return NULL;
}

START_TEST(while_other_threads_close_join_and_destroy_queues) {
  pthread_t threads[THREADS];
  create(0);
  for (int i = 0; i < THREADS; i++)
    threads[i] = spawn(make_and_destroy, (void *)(uintptr_t)(i + 1));
  for (int i = 0; i < FORKS / 2; i++) {
    pid_t pid = support_fork(i % 2 == 0 ? put_one_and_destroy : put_one_and_exit, &i);
    ck_assert_int_eq(get(10000), i);
    ck_assert_int_eq(support_wait(pid), 0);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    join(threads[i]);
}
END_TEST

/* ---- while the parent closes, and exits ---------------------------------------------- */

static void *close_it(void *arg) {
  (void)arg;
  support_assert(forkq_queue_close(queue) == 0);
  support_assert(forkq_queue_join_thread(queue, -1, NULL) == 0);
  return NULL;
}

static void put_or_find_closed(void *arg) {
  (void)arg;
  int r = put(1, -1);
  CHILD_MUST(r == 0 || r == FORKQ_ECLOSED);
  CHILD_MUST(r == 0 || get(0) == FORKQ_ECLOSED);
  forkq_queue_destroy(queue);
}

/* The queue is closed in the child if the fork found it so; never half. */
START_TEST(while_another_thread_closes_the_queue) {
  for (int round = 0; round < 100; round++) {
    create(0);
    ck_assert_int_eq(put(0, -1), 0);
    pthread_t thread = spawn(close_it, NULL);
    pid_t pid = support_fork(put_or_find_closed, NULL);
    ck_assert_int_eq(support_wait(pid), 0);
    join(thread);
    forkq_queue_destroy(queue);
  }
  queue = NULL;
}
END_TEST

/* In the exit handlers of a process: `before` runs before forkq's own, `after` after it. */
static void before(void) {
  pid_t pid = fork();
  CHILD_MUST(pid >= 0);
  if (pid == 0) {
    CHILD_MUST(put(0, -1) == 0);
    forkq_queue_destroy(queue);
    _exit(0);
  }
  CHILD_MUST(support_wait(pid) == 0);
  CHILD_MUST(put(1, -1) == 0);
}

static void after(void) {
  pid_t pid = fork();
  CHILD_MUST(pid >= 0);
  if (pid == 0) {
    CHILD_MUST(put(9, -1) == FORKQ_ECLOSED);
    CHILD_MUST(get(0) == FORKQ_ECLOSED);
    forkq_queue_destroy(queue);
    _exit(0);
  }
  CHILD_MUST(support_wait(pid) == 0);
  CHILD_MUST(put(9, -1) == FORKQ_ECLOSED);
}

/* The handlers of forkq are installed with the first queue of a process, which in the tests'
 * has been made by nobody yet. */
static void exit_with_handlers(void *arg) {
  forkq_queue_t *other;
  (void)arg;
  CHILD_MUST(atexit(after) == 0);
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  CHILD_MUST(forkq_queue_create(&other, 0) == 0);
  CHILD_MUST(atexit(before) == 0);
  pid_t reader = fork();
  CHILD_MUST(reader >= 0);
  if (reader == 0) {
    int64_t first = get(5000);
    int64_t second = get(5000);
    CHILD_MUST(first + second == 1);
    CHILD_MUST(get(0) == FORKQ_EMPTY);
    _exit(0);
  }
  exit(0);
}

START_TEST(in_exit_handlers) {
  queue = NULL;
  for (int round = 0; round < 20; round++)
    ck_assert_int_eq(support_wait(support_fork(exit_with_handlers, NULL)), 0);
}
END_TEST

struct exiting {
  _Atomic int *forks;
};

static void *fork_on(void *arg) {
  const struct exiting *exiting = arg;
  for (;;) {
    pid_t pid = fork();
    CHILD_MUST(pid >= 0);
    if (pid == 0) {
      int r = put(1, -1);
      CHILD_MUST(r == 0 || r == FORKQ_ECLOSED);
      /* It would have to wait for the large one. */
      CHILD_MUST(forkq_queue_cancel_join_thread(queue) == 0);
      forkq_queue_destroy(queue);
      _exit(0);
    }
    CHILD_MUST(support_wait(pid) == 0);
    atomic_fetch_add(exiting->forks, 1);
  }
  return NULL;
}

static void exit_while_a_thread_forks(void *arg) {
  pthread_t thread;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  await_feeder();
  CHILD_MUST(pthread_create(&thread, NULL, fork_on, arg) == 0);
  exit(0);
}

/* exit waits for a reader of what is unsent, and another thread forks meanwhile, and until
 * the end. */
START_TEST(during_exit_by_another_thread) {
  create(0);
  for (int round = 0; round < 5; round++) {
    struct exiting exiting = { support_shared(sizeof *exiting.forks) };
    pid_t pid = support_fork(exit_while_a_thread_forks, &exiting);
    while (atomic_load(exiting.forks) < 20)
      usleep(100);
    assert_get_bin(LARGE);
    ck_assert_int_eq(support_wait(pid), 0);
    while (get(0) == 1)
      ;
  }
}
END_TEST

/* ---- cancel_join_thread -------------------------------------------------------------- */

static void put_large_and_exit(void *arg) {
  (void)arg;
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  exit(0);
}

static void put_large_and_destroy(void *arg) {
  (void)arg;
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  forkq_queue_destroy(queue);
}

static void stay(void *arg) {
  (void)arg;
  pause();
}

/* The child waits for its feeder, though its parent would not. */
START_TEST(a_cancel_of_the_parent_is_not_the_childs) {
  create(0);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put(0, -1), 0);
  ck_assert_int_eq(get(5000), 0);
  await_feeder();
  ck_assert_int_eq(forkq_queue_cancel_join_thread(queue), 0);
  for (int round = 0; round < 20; round++) {
    pid_t pid =
        support_fork(round % 2 ? put_large_and_exit : put_large_and_destroy, NULL);
    support_until_pipe_full(queue);
    assert_get_bin(LARGE);
    ck_assert_int_eq(support_wait(pid), 0);
  }
  /* The parent's still stands. */
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  support_until_pipe_full(queue);
  pid_t other = support_fork(stay, NULL);
  forkq_queue_destroy(queue);
  queue = NULL;
  support_kill_and_wait(other);
}
END_TEST

static _Atomic bool stop_creating;
static forkq_queue_t *created;

static void *create_and_destroy(void *arg) {
  (void)arg;
  while (!atomic_load(&stop_creating)) {
    /* Unsynchronized on purpose: a child looks at it only where this thread is not. */
    support_assert(forkq_queue_create(&created, 0) == 0);
    forkq_queue_destroy(created);
  }
  return NULL;
}

/* The queue that the other thread had at the fork is whole or not there; without it, what is
 * open is what was open before. */
static void count_what_is_open(void *arg) {
  int more = support_open_fds() - *(int *)arg;
  CHILD_MUST(more == 0 || more == FORKQ_HANDOVER_FDS);
}

START_TEST(while_another_thread_creates_queues) {
  pthread_t thread;
  create(0);
  int open_now = support_open_fds();
  support_assert(pthread_create(&thread, NULL, create_and_destroy, NULL) == 0);
  for (int i = 0; i < FORKS; i++)
    ck_assert_int_eq(support_wait(support_fork(count_what_is_open, &open_now)), 0);
  atomic_store(&stop_creating, true);
  pthread_join(thread, NULL);
}
END_TEST

/* ---- a feeder that has ended by itself ------------------------------------------------ */

static pthread_key_t of_feeder;
static _Atomic bool at_its_end, at_end_for_good;

/* The last that runs on a thread; the heap below sees to it that the feeder has it. */
static void end_slowly(void *arg) {
  (void)arg;
  atomic_store(&at_its_end, true);
  usleep(100000);
  atomic_store(&at_end_for_good, true);
}

static void *allocate(size_t size, void *arg) {
  (void)arg;
  return malloc(size);
}

static void *reallocate(void *memory, size_t size, void *arg) {
  (void)arg;
  return realloc(memory, size);
}

/* The feeder frees the packets of a large message. */
static void release(void *memory, void *arg) {
  if (!pthread_equal(pthread_self(), *(const pthread_t *)arg))
    support_assert(pthread_setspecific(of_feeder, &of_feeder) == 0);
  free(memory);
}

static void make_feeder_that_ends(void) {
  static pthread_t main_thread;
  static const forkq_heap_t heap = { allocate, reallocate, release, &main_thread };
  main_thread = pthread_self();
  ck_assert_int_eq(pthread_key_create(&of_feeder, end_slowly), 0);
  forkq_heap_set(&heap);
  create(0);
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  assert_get_bin(LARGE);
  while (!atomic_load(&at_its_end))
    usleep(100); /* it is idle for a second before */
  ck_assert(!atomic_load(&at_end_for_good));
}

static void find_it_gone(void *arg) {
  (void)arg;
  CHILD_MUST(atomic_load(&at_end_for_good));
}

/* What runs at the end of a thread, a sanitizer's say, may have a lock that would stay locked. */
START_TEST(a_feeder_that_has_ended_is_gone_at_a_fork) {
  make_feeder_that_ends();
  ck_assert_int_eq(support_wait(support_fork(find_it_gone, NULL)), 0);
}
END_TEST

START_TEST(a_feeder_that_has_ended_is_gone_after_a_destroy) {
  make_feeder_that_ends();
  forkq_queue_destroy(queue);
  queue = NULL;
  ck_assert(atomic_load(&at_end_for_good));
}
END_TEST

START_TEST(a_feeder_that_has_ended_is_gone_after_a_join) {
  make_feeder_that_ends();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
  ck_assert(atomic_load(&at_end_for_good));
}
END_TEST

START_TEST(a_feeder_that_has_ended_is_gone_before_the_next) {
  make_feeder_that_ends();
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  ck_assert(atomic_load(&at_end_for_good));
  assert_get_bin(LARGE);
}
END_TEST

int main(void) {
  use_heap_that_forks();
  Suite *suite = suite_create("fork");
  TCase *tcase = tcase_create("fork");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, among_threads_that_put_and_get);
  tcase_add_test(tcase, among_threads_that_put_and_get_and_wait);
  tcase_add_test(tcase, what_is_unsent_is_sent_once_and_by_the_parent);
  tcase_add_test(tcase, a_child_gets_what_the_parent_had_not_sent);
  tcase_add_test(tcase, a_fork_of_a_fork_of_a_fork);
  /* In these, threads start and end, which allocates in the sanitizer. */
  if (!UNDER_ASAN) {
    tcase_add_test(tcase, while_other_threads_close_join_and_destroy_queues);
    tcase_add_test(tcase, while_another_thread_closes_the_queue);
    tcase_add_test(tcase, while_another_thread_creates_queues);
  }
  tcase_add_test(tcase, in_exit_handlers);
  tcase_add_test(tcase, during_exit_by_another_thread);
  tcase_add_test(tcase, a_cancel_of_the_parent_is_not_the_childs);
  tcase_add_test(tcase, a_feeder_that_has_ended_is_gone_at_a_fork);
  tcase_add_test(tcase, a_feeder_that_has_ended_is_gone_after_a_destroy);
  tcase_add_test(tcase, a_feeder_that_has_ended_is_gone_after_a_join);
  tcase_add_test(tcase, a_feeder_that_has_ended_is_gone_before_the_next);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
