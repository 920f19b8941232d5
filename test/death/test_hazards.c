/* What goes wrong with CPython's queues, each tried here in the same way: it does not. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <errno.h>
#include <forkq.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A fork beside a thread that begins leaves AddressSanitizer's allocator locked. */
#if defined(__SANITIZE_ADDRESS__)
#  define ROUNDS 5
#  define await_feeder() support_until_others_asleep()
#else
#  define ROUNDS 20
#  define await_feeder() (void)0
#endif
#define LARGE (10u << 20)

static void create(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
}

static void assert_alive(void) {
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(put(100 + i, 5000), 0);
    ck_assert_int_eq(get(5000), 100 + i);
  }
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
  await_feeder();
}

static void put_one_and_exit(void *arg) {
  CHILD_MUST(put(*(const int64_t *)arg, -1) == 0);
  exit(0);
}

static void assert_another_process_can_put(void) {
  int64_t value = 55;
  ck_assert_int_eq(support_wait(support_fork(put_one_and_exit, &value)), 0);
  ck_assert_int_eq(get(5000), 55);
}

static void get_one(void *arg) {
  signal(SIGTERM, SIG_DFL); /* Check has a handler */
  *(_Atomic int64_t *)arg = get(-1);
}

/* ---- H1 ------------------------------------------------------------------------------ */

/* A consumer that is idle in a get has no lock that others need, or does not take it with
 * it. */
START_TEST(h1_an_idle_getter_is_killed) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int64_t *got = support_shared(2 * sizeof *got);
    pid_t victim = support_fork(get_one, (void *)&got[0]);
    support_until_asleep(victim);
    pid_t other = support_fork(get_one, (void *)&got[1]);
    support_until_asleep(other);
    int signal = round % 2 == 0 ? SIGTERM : SIGKILL;
    kill(victim, signal);
    ck_assert_int_eq(support_wait(victim), 128 + signal);
    ck_assert_int_eq(put(3, -1), 0);
    ck_assert_int_eq(support_wait(other), 0);
    ck_assert_int_eq(got[1], 3);
    assert_alive();
  }
}
END_TEST

/* ---- H2 ------------------------------------------------------------------------------ */

static void put_where_nobody_reads(void *arg) {
  create(0);
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(*(const size_t *)arg, -1) == 0);
  exit(0);
}

/* More in the queue than the pipe holds, and nobody else has it: exit comes to its end. */
START_TEST(h2_exit_with_a_full_pipe_and_no_reader) {
  static size_t sizes[] = { 4000, 65514, 65515, 1u << 20, LARGE };
  queue = NULL;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    ck_assert_int_eq(support_wait(support_fork(put_where_nobody_reads, &sizes[i])), 0);
}
END_TEST

/* ---- H3 ------------------------------------------------------------------------------ */

static void put_large_and_stay(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

/* A child whose feeder is in the middle of a message. */
static pid_t start_writer(void) {
  _Atomic int *flag = support_shared(sizeof *flag);
  pid_t pid = support_fork(put_large_and_stay, (void *)flag);
  support_until(flag);
  support_until_pipe_full(queue);
  return pid;
}

/* The reader that waits for the rest of the message goes on to the next; the next writer
 * writes, and its exit ends. */
START_TEST(h3_a_writer_is_killed_in_the_middle_of_a_message) {
  create(0);
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int64_t *got = support_shared(sizeof *got);
    pid_t writer = start_writer();
    support_stop(writer);
    pid_t reader = support_fork(get_one, (void *)got);
    support_until_pipe_empty(queue);
    support_kill_and_wait(writer);
    int64_t value = 7;
    ck_assert_int_eq(support_wait(support_fork(put_one_and_exit, &value)), 0);
    ck_assert_int_eq(support_wait(reader), 0);
    ck_assert_int_eq(*got, 7);
    assert_alive();
  }
}
END_TEST

/* ---- H4 ------------------------------------------------------------------------------ */

static void hoard(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(1u << 20, -1) == 0);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, 0) == 0);
  CHILD_MUST(put(3, 0) == FORKQ_FULL);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

START_TEST(h4_a_producer_is_killed_with_items_in_its_outbox) {
  create(4);
  for (int round = 0; round < ROUNDS; round++) {
    _Atomic int *flag = support_shared(sizeof *flag);
    pid_t pid = support_fork(hoard, (void *)flag);
    support_until(flag);
    ck_assert_int_eq(forkq_queue_full(queue), 1);
    support_kill_and_wait(pid);
    ck_assert_int_eq(forkq_queue_full(queue), 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    for (int i = 0; i < 4; i++)
      ck_assert_int_eq(put(i, 0), 0);
    ck_assert_int_eq(put(4, 0), FORKQ_FULL);
    for (int i = 0; i < 4; i++)
      ck_assert_int_eq(get(5000), i);
    assert_alive();
  }
}
END_TEST

/* ---- H5 ------------------------------------------------------------------------------ */

static void cancel_and_exit(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  CHILD_MUST(put(1, -1) == 0);
  support_until_pipe_full(queue);
  CHILD_MUST(forkq_queue_cancel_join_thread(queue) == 0);
  exit(0);
}

/* Nobody reads until it has left: the beginning of its message is in the pipe. */
START_TEST(h5_cancelled_and_left_in_the_middle_of_a_message) {
  create(2);
  for (int round = 0; round < ROUNDS; round++) {
    ck_assert_int_eq(support_wait(support_fork(cancel_and_exit, NULL)), 0);
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    ck_assert_int_eq(get(10), FORKQ_TIMEDOUT);
    assert_another_process_can_put();
    assert_alive();
  }
}
END_TEST

struct race {
  _Atomic int64_t *large;
  _Atomic int *reading;
};

/* Reads large messages as they come, until there is the number 0. */
static void read_whole_ones(void *arg) {
  struct race *race = arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (;;) {
    CHILD_MUST(forkq_queue_get(queue, &item, -1) == 0);
    atomic_store(race->reading, 1);
    if (item.size == 1 && item.object.via.u64 == 0)
      break;
    CHILD_MUST(item.size == 1 ? item.object.via.u64 == 1 : is_bin(&item, LARGE / 8));
    atomic_fetch_add(race->large, item.size != 1);
  }
  forkq_item_destroy(&item);
}

static void put_cancel_and_exit(void *arg) {
  CHILD_MUST(put_bin(LARGE / 8, -1) == 0);
  CHILD_MUST(forkq_queue_cancel_join_thread(queue) == 0);
  usleep(*(const unsigned *)arg);
  exit(0);
}

/* Read while they leave, at all sorts of places of the message: whole ones or none. Beside the pipe,
 * or in fragments. */
START_TEST(h5_cancelled_and_left_while_it_is_read) {
  create(0);
  if (_i == 1)
    support_keep_to_pipe(queue);
  struct race race = { support_shared(sizeof *race.large),
                       support_shared(sizeof *race.reading) };
  pid_t reader = support_fork(read_whole_ones, &race);
  ck_assert_int_eq(put(1, -1), 0);
  support_until(race.reading);
  await_feeder();
  for (unsigned delay = 0; delay < 1000; delay += 10)
    ck_assert_int_eq(support_wait(support_fork(put_cancel_and_exit, &delay)), 0);
  ck_assert_int_eq(put(0, -1), 0);
  ck_assert_int_eq(support_wait(reader), 0);
  ck_assert_int_le(*race.large, 100);
  assert_another_process_can_put();
  assert_alive();
}
END_TEST

/* ---- H6 ------------------------------------------------------------------------------ */

static void fork_and_put(int depth) {
  pid_t pid = fork();
  if (pid < 0)
    _exit(1);
  if (pid == 0) {
    if (put(depth, -1) != 0)
      _exit(1);
    if (depth > 1) {
      await_feeder();
      fork_and_put(depth - 1);
    }
    exit(0);
  }
  CHILD_MUST(support_wait(pid) == 0);
}

/* The feeder runs, and is at work, in the one that forks; so is the child's when it forks in
 * its turn. What each put comes, and once. */
START_TEST(h6_a_raw_fork_with_a_running_feeder) {
  create(0);
  support_keep_to_pipe(queue);
  for (int round = 0; round < ROUNDS; round++) {
    bool seen[4] = { false };
    ck_assert_int_eq(put_bin(LARGE, -1), 0);
    support_until_pipe_full(queue);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
      fork_and_put(3);
      _exit(0);
    }
    assert_get_bin(LARGE);
    for (int i = 0; i < 3; i++) {
      int64_t value = get(5000);
      ck_assert(value >= 1 && value <= 3 && !seen[value]);
      seen[value] = true;
    }
    ck_assert_int_eq(support_wait(pid), 0);
    assert_alive();
  }
}
END_TEST

/* ---- H7 ------------------------------------------------------------------------------ */

START_TEST(h7_a_part_of_a_message_and_a_timeout) {
  create(0);
  pid_t writer = start_writer();
  support_stop(writer);
  for (int round = 0; round < ROUNDS; round++) {
    int64_t start = support_now_ms();
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
    ck_assert_int_eq(get(50), FORKQ_TIMEDOUT);
    forkq_item_t item = FORKQ_ITEM_INIT;
    ck_assert_int_eq(forkq_queue_get_nowait(queue, &item), FORKQ_EMPTY);
    ck_assert_int_lt(support_now_ms() - start, 5000);
  }
  kill(writer, SIGCONT);
  assert_get_bin(LARGE);
  assert_alive();
  support_kill_and_wait(writer);
}
END_TEST

/* ---- H8 ------------------------------------------------------------------------------ */

static int pack_half(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_array(packer, 2);
  msgpack_pack_int(packer, 1);
  return 1;
}

static int pack_too_little(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_array(packer, 2);
}

/* What was never put is no task. */
START_TEST(h8_an_item_that_does_not_serialize) {
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 2), 0);
  for (int round = 0; round < ROUNDS; round++) {
    ck_assert_int_eq(forkq_queue_put_with(queue, pack_half, NULL, -1), FORKQ_EPACK);
    ck_assert_int_eq(forkq_queue_put_with(queue, pack_too_little, NULL, -1),
                     FORKQ_EBADOBJECT);
    ck_assert_int_eq(forkq_queue_put_packed(queue, "\x92", 1, -1), FORKQ_EBADOBJECT);
    ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
    ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ETASKDONE);
    ck_assert_int_eq(put(1, -1), 0);
    ck_assert_int_eq(put(2, -1), 0);
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_eq(put(3, 10), FORKQ_TIMEDOUT);
    for (int i = 1; i <= 2; i++) {
      ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
      ck_assert_int_eq(get(5000), i);
      ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    }
    ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
  }
}
END_TEST

/* ---- H10 ----------------------------------------------------------------------------- */

struct family {
  _Atomic int *orphaned;
  _Atomic int64_t *sum;
};

static void be_producer(struct family *family) {
  support_until(family->orphaned);
  for (int i = 1; i <= 1000; i++)
    CHILD_MUST(put(i, -1) == 0);
  CHILD_MUST(put(0, -1) == 0);
  exit(0);
}

static void be_consumer(struct family *family) {
  support_until(family->orphaned);
  for (int64_t value; (value = get(-1)) != 0;) {
    CHILD_MUST(value > 0);
    atomic_fetch_add(family->sum, value);
  }
  exit(0);
}

static void have_children_and_leave(void *arg) {
  create(3);
  pid_t pid = fork();
  if (pid == 0)
    be_producer(arg);
  CHILD_MUST(pid > 0);
  pid = fork();
  if (pid == 0)
    be_consumer(arg);
  CHILD_MUST(pid > 0);
  exit(0);
}

/* The queue is its creator's no more than anybody else's. */
START_TEST(h10_the_parent_exits_right_after_its_fork) {
  queue = NULL;
  ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  for (int round = 0; round < ROUNDS; round++) {
    struct family family = { support_shared(sizeof *family.orphaned),
                             support_shared(sizeof *family.sum) };
    ck_assert_int_eq(support_wait(support_fork(have_children_and_leave, &family)), 0);
    atomic_store(family.orphaned, 1);
    for (int i = 0; i < 2; i++) {
      int status;
      ck_assert_int_gt(wait(&status), 0);
      ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(*family.sum, 500500);
    ck_assert_int_eq(wait(NULL), -1);
    ck_assert_int_eq(errno, ECHILD);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("hazards");
  TCase *tcase = tcase_create("hazards");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, h1_an_idle_getter_is_killed);
  tcase_add_test(tcase, h2_exit_with_a_full_pipe_and_no_reader);
  tcase_add_test(tcase, h3_a_writer_is_killed_in_the_middle_of_a_message);
  tcase_add_test(tcase, h4_a_producer_is_killed_with_items_in_its_outbox);
  tcase_add_test(tcase, h5_cancelled_and_left_in_the_middle_of_a_message);
  tcase_add_loop_test(tcase, h5_cancelled_and_left_while_it_is_read, 0, 2);
  tcase_add_test(tcase, h6_a_raw_fork_with_a_running_feeder);
  tcase_add_test(tcase, h7_a_part_of_a_message_and_a_timeout);
  tcase_add_test(tcase, h8_an_item_that_does_not_serialize);
  tcase_add_test(tcase, h10_the_parent_exits_right_after_its_fork);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
