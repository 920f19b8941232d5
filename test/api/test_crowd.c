/* Many that wait for the same, and calls beside a shutdown, a close or an exit that is under way. */
#define _GNU_SOURCE
#include "base/os.h"
#include "base/times.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <check.h>
#include <fcntl.h>
#include <forkq/simple_queue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE (5u << 20)

static _Atomic int *flags; /* what children say, and what they wait for */

static void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  flags = support_shared(16 * sizeof *flags);
}

static struct forkq__ledger *ledger(void) {
  return &queue->segment->ledger;
}

static void until_value(const _Atomic uint32_t *word, uint32_t value) {
  for (int64_t end = support_now_ms() + 60000; atomic_load(word) != value;) {
    if (support_now_ms() > end)
      ck_abort_msg("%u instead of %u", atomic_load(word), value);
    usleep(100);
  }
}

/* ---- calls that a test stops or counts -------------------------------------------------- */

/* Of this process: it stops before it takes a slot; it dies when there is one that it could take. */
static bool stop_before_take, die_beside_room;

bool __real_forkq__slots_try_take(struct forkq__slots *slots);
bool __wrap_forkq__slots_try_take(struct forkq__slots *slots);
bool __wrap_forkq__slots_try_take(struct forkq__slots *slots) {
  if (stop_before_take) {
    stop_before_take = false;
    raise(SIGSTOP);
  }
  if (die_beside_room && !forkq__slots_full(slots))
    raise(SIGKILL);
  return __real_forkq__slots_try_take(slots);
}

/* Threads of this process that send what they put. */
static _Atomic int sending, most_sending;

int __real_forkq__sender_put_through(struct forkq__sender *sender);
int __wrap_forkq__sender_put_through(struct forkq__sender *sender);
int __wrap_forkq__sender_put_through(struct forkq__sender *sender) {
  int now = atomic_fetch_add(&sending, 1) + 1;
  if (now > atomic_load(&most_sending))
    atomic_store(&most_sending, now);
  int r = __real_forkq__sender_put_through(sender);
  atomic_fetch_sub(&sending, 1);
  return r;
}

/* ---- many getters ------------------------------------------------------------------------ */

#define GETTERS 100

static void get_until_shut_down(void *arg) {
  (void)arg;
  CHILD_MUST(get(-1) == FORKQ_ESHUTDOWN);
}

/* All of them asleep, one of them with the turn. */
static void start_getters(pid_t *children) {
  for (int i = 0; i < GETTERS; i++)
    children[i] = support_fork(get_until_shut_down, NULL);
  until_value(&queue->segment->channel.turn_waiting, GETTERS - 1);
  until_value(&queue->segment->channel.asleep, 1);
  for (int i = 0; i < GETTERS; i++)
    support_until_asleep(children[i]);
}

/* The turn goes through all of them, and nobody lies down again when it comes to him. */
START_TEST(nobody_sleeps_on_its_way_out_of_a_shutdown) {
  pid_t children[GETTERS];
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  start_getters(children);
  ck_assert_int_eq(forkq_queue_shutdown(queue, _i), 0);
  uint64_t waits = queue->segment->channel.getter_waits;
  for (int i = 0; i < GETTERS; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_uint_eq(queue->segment->channel.getter_waits, waits);
}
END_TEST

static void get_some_until_shut_down(void *arg) {
  (void)arg;
  int64_t r;
  while ((r = get(-1)) >= 0)
    atomic_fetch_add(&flags[0], 1);
  CHILD_MUST(r == FORKQ_ESHUTDOWN);
}

/* What is left is got before, each item once. */
START_TEST(what_is_left_is_got_on_the_way_out) {
  pid_t children[20];
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  for (int i = 0; i < 20; i++)
    children[i] = support_fork(get_some_until_shut_down, NULL);
  until_value(&queue->segment->channel.turn_waiting, 19);
  for (int i = 0; i < 1000; i++)
    ck_assert_int_eq(put(i, -1), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < 20; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  ck_assert_int_eq(atomic_load(&flags[0]), 1000);
}
END_TEST

/* ---- many putters ------------------------------------------------------------------------ */

#define PUTTERS 50
#define VICTIMS 5 /* one in so many */
#define LOOKS 20  /* of one alone, for which a crowd is watched */

static void put_one(void *arg) {
  CHILD_MUST(put_int(arg, 7, -1) == 0);
  atomic_fetch_add(&flags[0], 1);
  forkq_queue_destroy(arg);
}

static void start_putters(forkq_queue_t *to, pid_t *children, int count) {
  for (int i = 0; i < count; i++)
    children[i] = support_fork(put_one, to);
  until_value(&to->segment->slots.waiters, (uint32_t)count);
  for (int i = 0; i < count; i++)
    support_until_asleep(children[i]);
}

static forkq_queue_t *full_queue(void) {
  forkq_queue_t *full;
  ck_assert_int_eq(forkq_queue_create(&full, 1), 0);
  ck_assert_int_eq(put_int(full, 1, 0), 0);
  return full;
}

/* How often a process has gone to sleep. */
static long sleeps_of(pid_t pid) {
  char path[64], line[128];
  long sleeps = -1;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *file = fopen(path, "re");
  ck_assert_ptr_nonnull(file);
  while (fgets(line, sizeof line, file) != NULL)
    (void)sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
  fclose(file);
  ck_assert_int_ge(sleeps, 0);
  return sleeps;
}

static long sleeps_of_all(const pid_t *children) {
  long sum = 0;
  for (int i = 0; i < PUTTERS; i++)
    sum += sleeps_of(children[i]);
  return sum;
}

static void until_reaps(forkq_queue_t *of, uint64_t more) {
  uint64_t until = of->segment->ledger.reaps_begun + more;
  while (of->segment->ledger.reaps_begun < until)
    usleep(1000);
}

/* Compared with one alone, on the same machine in the same time. */
START_TEST(a_crowd_of_putters_looks_as_one_does) {
  pid_t children[PUTTERS], one;
  forkq_queue_t *lonely = full_queue();
  queue = full_queue();
  start_putters(lonely, &one, 1);
  start_putters(queue, children, PUTTERS);
  until_reaps(lonely, LOOKS / 2); /* so that they have found their pace */
  long sleeps = sleeps_of_all(children);
  uint64_t reaps = ledger()->reaps_begun;
  until_reaps(lonely, LOOKS);
  sleeps = sleeps_of_all(children) - sleeps;
  reaps = ledger()->reaps_begun - reaps;
  printf("while one looked %d times: a crowd %llu times, with %ld sleeps\n", LOOKS,
         (unsigned long long)reaps, sleeps);
  ck_assert_uint_ge(reaps, 1);
  ck_assert_uint_le(reaps, LOOKS * 8);
  ck_assert_int_le(sleeps, LOOKS * 40);
  for (int i = 0; i < PUTTERS; i++)
    support_kill_and_wait(children[i]);
  support_kill_and_wait(one);
  forkq_queue_destroy(lonely);
}
END_TEST

/* How many have put, with those that were to die; those that were not have to come to their end. */
static int count_ended(pid_t *children, int count) {
  int ended = 0;
  for (int i = 0; i < count; i++) {
    int status;
    if (children[i] > 0 && waitpid(children[i], &status, WNOHANG) == children[i]) {
      ck_assert((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                (i % VICTIMS == 0 && WIFSIGNALED(status)));
      children[i] = 0;
    }
    ended += children[i] == 0;
  }
  return ended;
}

/* One in five dies when it was just woken: with its wake-up, before it has its slot. */
static void put_one_or_die(void *arg) {
  die_beside_room = *(const int *)arg % VICTIMS == 0;
  put_one(queue);
}

START_TEST(of_a_crowd_of_putters_all_come_through) {
  pid_t children[PUTTERS];
  queue = full_queue();
  for (int i = 0; i < PUTTERS; i++)
    children[i] = support_fork(put_one_or_die, &i);
  until_value(&queue->segment->slots.waiters, PUTTERS);
  /* ... and some in their sleep. */
  for (int i = 0; i < PUTTERS; i += 2 * VICTIMS)
    support_kill(children[i]);
  int got = 0;
  while (count_ended(children, PUTTERS) < PUTTERS) {
    int64_t r = get(100);
    ck_assert(r >= 0 || r == FORKQ_TIMEDOUT);
    got += r >= 0;
  }
  while (get(0) >= 0)
    got++;
  ck_assert_int_eq(got, 1 + PUTTERS - PUTTERS / VICTIMS);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), FORKQ_FULL);
}
END_TEST

static void hold_the_slot(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  atomic_store(&flags[1], 1);
  pause();
}

/* Nobody gets anything: it is the crowd that has to find out. */
START_TEST(a_crowd_of_putters_notices_room_of_the_dead) {
  pid_t children[PUTTERS];
  ck_assert_int_eq(forkq_queue_create(&queue, 1), 0);
  pid_t holder = support_fork(hold_the_slot, NULL);
  support_until(&flags[1]);
  start_putters(queue, children, PUTTERS);
  ck_assert_int_eq(atomic_load(&flags[0]), 0);
  support_kill_and_wait(holder);
  support_until(&flags[0]);
  while (count_ended(children, PUTTERS) < PUTTERS) {
    int64_t r = get(100);
    ck_assert(r == 7 || r == FORKQ_TIMEDOUT);
  }
  ck_assert_int_eq(atomic_load(&flags[0]), PUTTERS);
}
END_TEST

/* ---- a put beside a shutdown ------------------------------------------------------------- */

enum { SMALL_ITEM, LARGE_ITEM, BATCH, PUTS };

static int put_by(int kind) {
  static const char bytes[] = { 1, 2, 3 };
  const forkq_bytes_t messages[] = { { bytes, 1 }, { bytes + 1, 1 }, { bytes + 2, 1 } };
  size_t count;
  if (kind == LARGE_ITEM)
    return put_bin(20000, -1);
  return kind == BATCH ? forkq_queue_put_many_packed(queue, messages, 3, -1, &count)
                       : put(2, -1);
}

static void put_and_stop(void *arg) {
  CHILD_MUST(put(1, -1) == 0);
  while (forkq__ledger_held(ledger(), queue->channel.account.cell) > 0)
    usleep(100);
  stop_before_take = true;
  CHILD_MUST(put_by(*(const int *)arg) == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
}

static void until_stopped(pid_t pid) {
  int status;
  ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
  ck_assert(WIFSTOPPED(status));
}

/* It has seen no shutdown, and has no slot yet. Those who see the shutdown have all that there is,
 * and go. */
START_TEST(a_put_that_a_shutdown_overtakes_has_put_nothing) {
  int kind = _i % PUTS, immediate = _i / PUTS % 2;
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, _i / PUTS / 2 % 2 * 4), 0);
  pid_t putter = support_fork(put_and_stop, &kind);
  until_stopped(putter);
  ck_assert_int_eq(forkq_queue_shutdown(queue, immediate), 0);
  if (!immediate) {
    ck_assert_int_eq(get(5000), 1);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  ck_assert_int_eq(get(5000), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  kill(putter, SIGCONT);
  ck_assert_int_eq(support_wait(putter), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
}
END_TEST

/* ---- beside a process that is stopped with the read lock --------------------------------- */

static void hold_read_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
  atomic_store(&flags[1], 1);
  support_until(&flags[2]);
  forkq__channel_unlock_read(&queue->channel);
}

static pid_t stopped_reader(void) {
  pid_t reader = support_fork(hold_read_lock, NULL);
  support_until(&flags[1]);
  support_stop(reader);
  return reader;
}

static void let_go_on(pid_t reader) {
  atomic_store(&flags[2], 1);
  kill(reader, SIGCONT);
  ck_assert_int_eq(support_wait(reader), 0);
}

static void *get_in_thread(void *arg) {
  *(_Atomic int *)arg = (int)get(-1);
  atomic_store(&flags[4], 1);
  return NULL;
}

/* The program's own work at exit, after that of the queues: a thread is in its get all the while. */
static bool works_at_exit;

static void work_at_exit(void) {
  if (!works_at_exit)
    return;
  atomic_store(&flags[3], 1);
  support_until(&flags[4]);
}

static void exit_beside_get(void *arg) {
  pthread_t thread;
  works_at_exit = true;
  CHILD_MUST(pthread_create(&thread, NULL, get_in_thread, arg) == 0);
  while (queue->channel.account.cell == FORKQ__NO_CELL)
    usleep(100);
  support_until_threads_asleep(1);
  exit(0);
}

/* At exit its get cannot be waited for, and it needs the account that the process has for it. */
START_TEST(a_get_may_outlast_exit) {
  static const char bytes[] = { 1, 2, 3, 4 };
  const forkq_bytes_t messages[] = {
    { bytes, 1 }, { bytes + 1, 1 }, { bytes + 2, 1 }, { bytes + 3, 1 }
  };
  _Atomic int *result = &flags[5];
  size_t count;
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 4, -1, &count), 0);
  /* The others are read ahead with it: to have one takes no read of the pipe. */
  ck_assert_int_eq(get(5000), 1);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  pid_t reader = stopped_reader();
  pid_t child = support_fork(exit_beside_get, (void *)result);
  support_until(&flags[3]);
  if (_i == 0)
    let_go_on(reader);
  else
    support_kill_and_wait(reader);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert(*result == 2 || *result == FORKQ_ECLOSED);
  /* What it got is with it. */
  int left = 0;
  for (; get(0) >= 0; left++)
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  uint64_t abandoned = 0;
  ck_assert_int_eq(left, *result == 2 ? 2 : 3);
  ck_assert_int_eq(forkq_queue_join(queue, 10000, &abandoned),
                   left == 2 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, left == 2 ? 1 : 0);
}
END_TEST

START_TEST(close_does_not_wait_for_a_stopped_reader) {
  _Atomic int result = 0;
  pthread_t thread;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(put(1, -1), 0);
  pid_t reader = stopped_reader();
  ck_assert_int_eq(pthread_create(&thread, NULL, get_in_thread, (void *)&result), 0);
  while (atomic_load(&queue->getters) == 0)
    usleep(100);
  support_until_threads_asleep(1);
  int64_t begin = support_now_ms();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  printf("close beside a get that waits for a stopped process: %lld ms\n",
         (long long)(support_now_ms() - begin));
  ck_assert_int_eq(result, FORKQ_ECLOSED);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)reader);
  ck_assert_int_eq(support_state_in(path), 'T');
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  let_go_on(reader);
}
END_TEST

/* ---- a simple queue with two threads in put ----------------------------------------------- */

#define FULL_PACKET 4000

static int put_packet(void) {
  char data[FULL_PACKET];
  make_bin(data, sizeof data);
  return forkq_simple_queue_put_packed(simple_queue, data, sizeof data);
}

/* Each takes a page. */
static int pipe_packets(void) {
  return fcntl(queue->channel.write_fd, F_GETPIPE_SZ) / (int)sysconf(_SC_PAGESIZE);
}

static void fill_pipe(void *arg) {
  (void)arg;
  int room = pipe_packets();
  for (int i = 0; i < room; i++)
    CHILD_MUST(put_packet() == 0);
}

static void do_nothing(void *arg) {
  (void)arg;
}

static void hold_ledger(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger()->lock, FORKQ__FOREVER, do_nothing, NULL) == 0);
  atomic_store(&flags[1], 1);
  support_until(&flags[2]);
  forkq__lock_release(&ledger()->lock);
}

static _Atomic int putting;

static void *put_in_thread(void *arg) {
  atomic_fetch_add(&putting, 1);
  *(int *)arg = put_packet();
  return NULL;
}

static int64_t drain(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int64_t got = 0;
  while (forkq_queue_get_packed(queue, &item, 0) == 0)
    got++;
  forkq_item_destroy(&item);
  return got;
}

/* Two first puts wait for the ledger, then one is at the full pipe and the other waits for its
 * turn. */
static void put_twice_and_close(void *arg) {
  int results[2] = { 1, 1 };
  pthread_t threads[2];
  (void)arg;
  for (int i = 0; i < 2; i++)
    CHILD_MUST(pthread_create(&threads[i], NULL, put_in_thread, &results[i]) == 0);
  while (atomic_load(&putting) < 2)
    usleep(100);
  support_until_threads_asleep(2);
  atomic_store(&flags[3], 1);
  while (atomic_load(&sending) == 0)
    usleep(100);
  support_until_threads_asleep(2);
  CHILD_MUST(forkq_simple_queue_close(simple_queue) == 0);
  CHILD_MUST(atomic_load(&sending) == 0);
  for (int i = 0; i < 2; i++)
    CHILD_MUST(pthread_join(threads[i], NULL) == 0);
  CHILD_MUST(results[0] == FORKQ_ECLOSED && results[1] == FORKQ_ECLOSED);
  CHILD_MUST(atomic_load(&most_sending) == 1);
  forkq_simple_queue_destroy(simple_queue);
}

START_TEST(close_waits_for_both_that_put_into_a_simple_queue) {
  create_simple();
  int room = pipe_packets();
  ck_assert_int_eq(support_wait(support_fork(fill_pipe, NULL)), 0);
  for (int round = 0; round < 10; round++) {
    memset((void *)flags, 0, 16 * sizeof *flags);
    pid_t keeper = support_fork(hold_ledger, NULL);
    support_until(&flags[1]);
    pid_t child = support_fork(put_twice_and_close, NULL);
    support_until(&flags[3]);
    atomic_store(&flags[2], 1);
    ck_assert_int_eq(support_wait(keeper), 0);
    ck_assert_int_eq(support_wait(child), 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), room);
  }
  ck_assert_int_eq(drain(), room);
  ck_assert_int_eq(forkq_simple_queue_empty(simple_queue), 1);
  ck_assert_uint_eq(forkq__ledger_lost(ledger()), 0);
}
END_TEST

/* ---- a mutex that another thread has ------------------------------------------------------- */

/* Puts with a timeout that is long over when the mutex is free. */
static void *put_for_a_moment(void *ret_put) {
  *(_Atomic int *)ret_put = put(1, 1);
  return NULL;
}

/* On a machine so busy that this thread had the mutex for too long, the put may give up. */
static bool put_beside_owner(_Atomic int *ret_put) {
  pthread_t putter;
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  int64_t begin_ms = support_now_ms();
  ck_assert_int_eq(pthread_create(&putter, NULL, put_for_a_moment, (void *)ret_put), 0);
  while (support_now_ms() - begin_ms < 20)
    usleep(1000);
  forkq__sender_unlock(&queue->feeder.sender);
  bool in_time = support_now_ms() - begin_ms < FORKQ__MOMENT_MS;
  pthread_join(putter, NULL);
  return in_time;
}

START_TEST(a_thread_that_has_the_mutex_does_not_make_the_queue_full) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  for (int round = 0; round < 20; round++) {
    _Atomic int r = 0;
    bool in_time = put_beside_owner(&r);
    ck_assert(atomic_load(&r) == 0 || (!in_time && atomic_load(&r) == FORKQ_TIMEDOUT));
    if (atomic_load(&r) == 0)
      ck_assert_int_eq(get(5000), 1);
  }
}
END_TEST

static void add_cases_of_crowds(Suite *suite) {
  TCase *tcase = tcase_create("crowds");
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_loop_test(tcase, nobody_sleeps_on_its_way_out_of_a_shutdown, 0, 2);
  tcase_add_test(tcase, what_is_left_is_got_on_the_way_out);
  tcase_add_test(tcase, a_crowd_of_putters_looks_as_one_does);
  tcase_add_test(tcase, of_a_crowd_of_putters_all_come_through);
  tcase_add_test(tcase, a_crowd_of_putters_notices_room_of_the_dead);
  tcase_add_test(tcase, a_thread_that_has_the_mutex_does_not_make_the_queue_full);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_ends(Suite *suite) {
  TCase *tcase = tcase_create("ends");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_loop_test(tcase, a_put_that_a_shutdown_overtakes_has_put_nothing, 0,
                      PUTS * 4);
  tcase_add_loop_test(tcase, a_get_may_outlast_exit, 0, 2);
  tcase_add_test(tcase, close_does_not_wait_for_a_stopped_reader);
  tcase_add_test(tcase, close_waits_for_both_that_put_into_a_simple_queue);
  suite_add_tcase(suite, tcase);
}

int main(void) {
  atexit(work_at_exit); /* before any queue: so it comes after the queues' own */
  Suite *suite = suite_create("crowd");
  add_cases_of_crowds(suite);
  add_cases_of_ends(suite);
  return support_main(suite);
}
