/* Queues under a thousand signals a second, none of which restarts a system call; and a feeder
 * that takes none of them. What connections and wait do then is in test_connection_signals.c
 * and test_wait.c. */
#define _GNU_SOURCE
#include "support.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <forkq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define MAXSIZE 5
#define LAST INT64_C(-1)

/* Every process goes on until it has seen this many. */
#define TICKS 1000

static forkq_queue_t *queue;
static int fds_before;
static volatile sig_atomic_t ticks;

static void tick(int number) {
  (void)number;
  ticks = ticks + 1;
}

static void start_timer(void) {
  struct sigaction action = { .sa_handler = tick };
  const struct itimerval interval = { { 0, 1000 }, { 0, 1000 } };
  ticks = 0;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &interval, NULL);
}

static void stop_timer(void) {
  setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 0 } }, NULL);
}

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, MAXSIZE), 0);
}

static void tear_down(void) {
  stop_timer();
  forkq_queue_destroy(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

/* A binary of this size with a number in it: some are one packet with others, some many, or beside
 * the pipe. */
static size_t size_of(int64_t number) {
  return number % 50 == 49 ? 20000 : 16;
}

static msgpack_object object_of(int64_t number) {
  static char body[20000];
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  memcpy(body, &number, sizeof number);
  object.via.bin.ptr = body;
  object.via.bin.size = (uint32_t)size_of(number);
  return object;
}

static int put(int64_t number, int timeout_ms) {
  const msgpack_object object = object_of(number);
  return forkq_queue_put(queue, &object, timeout_ms);
}

static int get(forkq_item_t *item, int64_t *ret_number, int timeout_ms) {
  int r = forkq_queue_get(queue, item, timeout_ms);
  if (r == 0)
    memcpy(ret_number, item->object.via.bin.ptr, sizeof *ret_number);
  return r;
}

/* ---- put, get and join ------------------------------------------------------------------- */

static _Atomic int *consumer_ticks;

/* Gets everything, in order, and says so. */
static void consume(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int64_t number;
  start_timer();
  for (int64_t expected = 0;; expected++) {
    /* Every way to wait: without limit, with one, and not at all. */
    int r = FORKQ_EMPTY;
    while (r == FORKQ_EMPTY || r == FORKQ_TIMEDOUT) {
      int timeout_ms = expected % 3 == 0 ? -1 : expected % 3 == 1 ? 2 : 0;
      r = get(&item, &number, timeout_ms);
      CHILD_MUST(r == 0 || r == (timeout_ms == 0 ? FORKQ_EMPTY : FORKQ_TIMEDOUT));
    }
    CHILD_MUST(number == LAST || number == expected);
    CHILD_MUST(number == LAST || item.object.via.bin.size == size_of(number));
    CHILD_MUST(forkq_queue_task_done(queue) == 0);
    atomic_store(consumer_ticks, ticks);
    if (number == LAST)
      break;
  }
  stop_timer();
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}

START_TEST(put_get_and_join_do_as_without) {
  if (_i == 1)
    support_keep_to_pipe(queue);
  consumer_ticks = support_shared(sizeof *consumer_ticks);
  pid_t consumer = support_fork(consume, NULL);
  start_timer();
  int64_t number = 0;
  while (ticks < TICKS || atomic_load(consumer_ticks) < TICKS) {
    int r;
    int timeout_ms = number % 3 == 0 ? -1 : number % 3 == 1 ? 2 : 0;
    while ((r = put(number, timeout_ms)) != 0)
      ck_assert_int_eq(r, timeout_ms == 0 ? FORKQ_FULL : FORKQ_TIMEDOUT);
    if (++number % 1000 == 0) {
      ck_assert_int_eq(forkq_queue_join(queue, -1, NULL), 0);
      ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    }
  }
  ck_assert_int_eq(put(LAST, -1), 0);
  ck_assert_int_eq(forkq_queue_join(queue, -1, NULL), 0);
  stop_timer();
  ck_assert_int_eq(support_wait(consumer), 0);
}
END_TEST

/* ---- a simple queue, whose puts write themselves and wait for the pipe ------------------- */

static forkq_simple_queue_t *simple;

/* Gets numbers in order until it has seen enough signals and the last has come. */
static void consume_simple(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int64_t number = 0;
  start_timer();
  for (int64_t expected = 0; number != LAST; expected++) {
    CHILD_MUST(forkq_simple_queue_get(simple, &item) == 0);
    memcpy(&number, item.object.via.bin.ptr, sizeof number);
    CHILD_MUST(number == LAST || number == expected);
    CHILD_MUST(number == LAST || item.object.via.bin.size == size_of(number));
    atomic_store(consumer_ticks, ticks);
  }
  stop_timer();
  forkq_item_destroy(&item);
  forkq_simple_queue_destroy(simple);
}

static int put_simple(int64_t number) {
  const msgpack_object object = object_of(number);
  return forkq_simple_queue_put(simple, &object);
}

START_TEST(a_simple_queue_does_as_without) {
  consumer_ticks = support_shared(sizeof *consumer_ticks);
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  if (_i == 1)
    support_keep_to_pipe(simple);
  pid_t consumer = support_fork(consume_simple, NULL);
  start_timer();
  for (int64_t number = 0; ticks < TICKS || atomic_load(consumer_ticks) < TICKS; number++)
    support_assert(put_simple(number) == 0);
  ck_assert_int_eq(put_simple(LAST), 0);
  stop_timer();
  ck_assert_int_eq(support_wait(consumer), 0);
  forkq_simple_queue_destroy(simple);
}
END_TEST

/* ---- waits end on time --------------------------------------------------------------------- */

#define WAIT_MS 150

static void assert_took(int64_t start) {
  ck_assert_int_ge(support_now_ms() - start, WAIT_MS - 1);
  ck_assert_int_gt(ticks, 0);
}

START_TEST(waits_are_neither_ended_nor_put_off) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int64_t number, start = support_now_ms();
  start_timer();
  ck_assert_int_eq(get(&item, &number, WAIT_MS), FORKQ_TIMEDOUT);
  assert_took(start);
  for (int64_t i = 0; i < MAXSIZE; i++)
    ck_assert_int_eq(put(i, -1), 0);
  start = support_now_ms();
  ck_assert_int_eq(put(9, WAIT_MS), FORKQ_TIMEDOUT);
  assert_took(start);
  start = support_now_ms();
  ck_assert_int_eq(forkq_queue_join(queue, WAIT_MS, NULL), FORKQ_TIMEDOUT);
  assert_took(start);
  stop_timer();
  for (int64_t i = 0; i < MAXSIZE; i++) {
    ck_assert_int_eq(get(&item, &number, 10000), 0);
    ck_assert_int_eq(number, i);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  forkq_item_destroy(&item);
}
END_TEST

/* ---- the feeder ------------------------------------------------------------------------------ */

/* The signals that a thread of this process blocks, as proc(5) has them. */
static uint64_t blocked_by(pid_t thread) {
  char path[64], line[256];
  unsigned long long blocked = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)thread);
  FILE *file = fopen(path, "re");
  ck_assert_ptr_nonnull(file);
  while (fgets(line, sizeof line, file) != NULL)
    if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
      break;
  fclose(file);
  return blocked;
}

/* The only one beside the caller. */
static pid_t other_thread(void) {
  DIR *dir = opendir("/proc/self/task");
  pid_t found = 0;
  ck_assert_ptr_nonnull(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != gettid())
      found = atoi(entry->d_name);
  closedir(dir);
  return found;
}

START_TEST(the_feeder_blocks_all_signals) {
  uint64_t before = blocked_by(gettid());
  ck_assert_int_eq(put(1, -1), 0);
  support_until_threads_asleep(1);
  pid_t feeder = other_thread();
  ck_assert_int_gt(feeder, 0);
  uint64_t blocked = blocked_by(feeder);
  for (int number = 1; number < 32; number++)
    if (number != SIGKILL && number != SIGSTOP)
      ck_assert_msg(blocked >> (number - 1) & 1, "signal %d", number);
  for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
    ck_assert_msg(blocked >> (number - 1) & 1, "signal %d", number);
  /* And who put does not. */
  ck_assert_uint_eq(blocked_by(gettid()), before);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("signals");
  TCase *tcase = tcase_create("signals");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, put_get_and_join_do_as_without, 0, 2);
  tcase_add_loop_test(tcase, a_simple_queue_does_as_without, 0, 2);
  tcase_add_test(tcase, waits_are_neither_ended_nor_put_off);
  tcase_add_test(tcase, the_feeder_blocks_all_signals);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
