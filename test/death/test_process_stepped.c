/* Signal handlers that fork, or exit, at every point of a call that they interrupt. */
#define _GNU_SOURCE
#include "fork_heap.h"
#include "process_helpers.h"
#include "stepped.h"

#include <check.h>
#include <errno.h>
#include <forkq.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS (UNDER_ASAN ? 50 : 300)
#define POINTS 15         /* of a call, at which it is interrupted */
#define VALUES (1u << 20) /* of a test, at most */

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static void set_up_simple(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_simple_queue_create((forkq_simple_queue_t **)&queue), 0);
}

/* The C library's own fork waits for its allocator, for ever where the handler has interrupted
 * that: so a call that is interrupted has all its memory already, the queue's packets and the
 * item. */
static forkq_item_t item = FORKQ_ITEM_INIT;

static int64_t get_without_allocating(int timeout_ms) {
  int r = forkq_queue_get_packed(queue, &item, timeout_ms);
  if (r < 0)
    return r;
  int64_t value = 0;
  const unsigned char *bytes = (const void *)item.data;
  int size = *bytes < 0x80 ? 0 : 1 << (*bytes - 0xcc);
  if (size == 0)
    return *bytes;
  for (int i = 0; i < size; i++)
    value = value << 8 | bytes[1 + i];
  return value;
}

/* Through the pipe: each takes a packet. */
static void take_memory(void) {
  support_keep_to_pipe(queue);
  for (int i = 0; i < 20; i++)
    CHILD_MUST(put_bin(3000, -1) == 0);
  for (int i = 0; i < 20; i++)
    CHILD_MUST(forkq_queue_get_packed(queue, &item, 10000) == 0);
  support_until_others_asleep();
}

/* The length of a call. What its process leaves behind goes. */
static long measure(const struct stepped *stepped) {
  long length = stepped_length(stepped);
  while (forkq_queue_get_packed(queue, &item, 100) == 0)
    ;
  return length;
}

/* ---- a fork in a handler ------------------------------------------------------------------- */

/* How often each number was got, by whomever. */
static _Atomic uint8_t *got;

static void note(int64_t value) {
  CHILD_MUST(value >= 0 && value < VALUES);
  atomic_fetch_add(&got[value], 1);
}

static void (*act)(void); /* what the child of the handler does */
static volatile pid_t made;
static int64_t number_of_child;

static void do_nothing(void) {}

static void put_and_get(void) {
  CHILD_MUST(put(number_of_child, -1) == 0);
  note(get(10000));
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, -1, NULL) == 0);
}

static pid_t fork_and_act(void) {
  pid_t pid = fork();
  if (pid != 0)
    return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  support_end_after(30);
  act();
  _exit(0);
}

static void fork_once(int signo) {
  (void)signo;
  int error = errno;
  made = fork_and_act();
  errno = error;
}

#define OWN 1
#define OF_CHILD 2

static void prepare_to_put(void) {
  number_of_child = OF_CHILD;
  take_memory();
  handle_signal(SIGUSR1, fork_once);
}

static int outcome;

static void put_own(void) {
  outcome = put(OWN, -1);
}

static void prepare_to_get(void) {
  prepare_to_put();
  CHILD_MUST(put(OWN, -1) == 0);
  support_until_others_asleep();
}

static int64_t value;

static void get_one(void) {
  value = get_without_allocating(10000);
}

static void end_of_parent(void) {
  while (made == 0)
    usleep(100);
  CHILD_MUST(made > 0 && support_wait(made) == 0);
  forkq_queue_destroy(queue);
}

static void end_of_put(void) {
  CHILD_MUST(outcome == 0);
  note(get(10000));
  end_of_parent();
}

static void end_of_get(void) {
  note(value);
  end_of_parent();
}

static const struct stepped puts_and_forks = { prepare_to_put, put_own, end_of_put,
                                               SIGUSR1 };
static const struct stepped gets_and_forks = { prepare_to_get, get_one, end_of_get,
                                               SIGUSR1 };

static void fork_at_every_point(const struct stepped *stepped, void (*childs)(void)) {
  act = childs;
  got = support_shared(VALUES);
  long length = measure(stepped);
  for (int i = 0; length > 0 && i < POINTS; i++) {
    memset((void *)got, 0, 3);
    long point = stepped_point(length, i, POINTS);
    int status = support_wait(stepped_start(stepped, point));
    ck_assert_msg(status == 0, "behind %ld of %ld: %d", point, length, status);
    ck_assert_int_eq(got[OWN], 1);
    ck_assert_int_eq(got[OF_CHILD], childs == put_and_get);
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  }
  assert_empty_and_works();
}

START_TEST(a_handler_forks_in_a_put) {
  fork_at_every_point(&puts_and_forks, do_nothing);
}
END_TEST

START_TEST(a_handler_forks_in_a_get) {
  fork_at_every_point(&gets_and_forks, do_nothing);
}
END_TEST

START_TEST(a_handler_forks_in_a_put_and_the_child_uses_the_queue) {
  fork_at_every_point(&puts_and_forks, put_and_get);
}
END_TEST

START_TEST(a_handler_forks_in_a_get_and_the_child_uses_the_queue) {
  fork_at_every_point(&gets_and_forks, put_and_get);
}
END_TEST

/* As a server does: it forks the next child when one has ended. */
static volatile sig_atomic_t forked, ended;

static void fork_the_next(int signo) {
  (void)signo;
  int error = errno, status;
  while (waitpid(-1, &status, WNOHANG) > 0) {
    CHILD_MUST(status == 0);
    ended++;
  }
  if (forked < FORKS) {
    number_of_child = (int64_t)(VALUES - 1) - forked;
    forked++;
    CHILD_MUST(fork_and_act() > 0);
  }
  errno = error;
}

static int64_t put_and_get_on(void) {
  int64_t count = 0;
  raise(SIGCHLD);
  for (; ended < FORKS; count++) {
    CHILD_MUST(count < VALUES - FORKS);
    CHILD_MUST(put(count, -1) == 0);
    note(get_without_allocating(10000));
  }
  return count;
}

static void be_a_server(void *arg) {
  (void)arg;
  support_end_after(60);
  take_memory();
  handle_signal(SIGCHLD, fork_the_next);
  int64_t count = put_and_get_on();
  CHILD_MUST(get(0) == FORKQ_EMPTY);
  for (int64_t i = 0; i < count; i++)
    CHILD_MUST(got[i] == 1);
  for (int64_t i = 0; i < FORKS; i++)
    CHILD_MUST(got[VALUES - 1 - i] == (act == put_and_get));
  forkq_queue_destroy(queue);
}

static void serve(void (*childs)(void)) {
  act = childs;
  got = support_shared(VALUES);
  ck_assert_int_eq(support_wait(support_fork(be_a_server, NULL)), 0);
  assert_empty_and_works();
}

START_TEST(a_handler_forks_each_time_that_a_child_ends) {
  serve(do_nothing);
}
END_TEST

START_TEST(a_handler_forks_a_child_that_uses_the_queue_each_time_that_one_ends) {
  serve(put_and_get);
}
END_TEST

/* ---- exit in a handler ----------------------------------------------------------------------- */

static void sleep_on(void) {
  for (;;)
    pause();
}

static void prepare_to_exit(void) {
  take_memory();
  handle_signal(SIGTERM, exit_now);
}

/* Three numbers behind what the pipe does not hold. */
static void prepare_behind_a_full_pipe(void) {
  prepare_to_exit();
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  support_until_pipe_full(queue);
  for (int i = 0; i < 3; i++)
    CHILD_MUST(put(i, -1) == 0);
}

static void put_the_fourth(void) {
  (void)!put(3, -1);
}

static void put_the_first(void) {
  (void)!put(0, -1);
}

static void prepare_to_get_the_first(void) {
  prepare_to_exit();
  for (int i = 0; i < 4; i++)
    CHILD_MUST(put(i, -1) == 0);
  support_until_others_asleep();
}

static void assert_good_end(pid_t pid, long point, long length) {
  int status = support_wait(pid);
  ck_assert_msg(status == 0, "behind %ld of %ld: %d", point, length, status);
}

static const struct stepped puts_behind_a_full_pipe = { prepare_behind_a_full_pipe,
                                                        put_the_fourth, sleep_on,
                                                        SIGTERM };

/* All that was put before is sent where the put was not begun; within it nobody can tell. */
START_TEST(exit_in_a_put_behind_a_full_pipe) {
  const struct stepped *stepped = &puts_behind_a_full_pipe;
  support_shrink_pipe(queue);
  long length = measure(stepped);
  for (int i = 0; length > 0 && i < POINTS; i++) {
    struct harvest harvest = { 0 };
    long point = stepped_point(length, i, POINTS);
    pid_t pid = stepped_start(stepped, point);
    gather_until_its_end(&harvest, pid);
    assert_good_end(pid, point, length);
    ck_assert(harvest.numbers <= (harvest.large ? 4 : 0));
    if (i == 0 || i == POINTS - 1)
      ck_assert_int_eq(harvest.numbers, i == 0 ? 3 : 4);
    assert_empty_and_works();
  }
}
END_TEST

/* Of one put either all comes or nothing, wherever exit met it. */
static void exit_at_every_point(const struct stepped *puts) {
  long length = measure(puts);
  for (int i = 0; length > 0 && i < POINTS; i++) {
    struct harvest harvest = { 0 };
    long point = stepped_point(length, i, POINTS);
    assert_good_end(stepped_start(puts, point), point, length);
    gather(&harvest);
    ck_assert_int_le(harvest.numbers, 1);
    if (i == 0 || i == POINTS - 1)
      ck_assert_int_eq(harvest.numbers, i == 0 ? 0 : 1);
    assert_empty_and_works();
  }
}

static const struct stepped single_puts = { prepare_to_exit, put_the_first, sleep_on,
                                            SIGTERM };

START_TEST(exit_in_a_put) {
  exit_at_every_point(&single_puts);
}
END_TEST

/* Of what is put to take memory it makes nothing. */
static void get_on(void *arg) {
  (void)arg;
  for (;;) {
    CHILD_MUST(forkq_queue_get_packed(queue, &item, -1) == 0);
    if (item.size == 1)
      note(*(const char *)item.data);
  }
}

static void put_to_a_getter(void) {
  support_keep_to_pipe(queue);
  for (int i = 0; i < 20; i++)
    CHILD_MUST(put_bin(3000, -1) == 0);
  while (forkq_queue_qsize(queue) > 0)
    usleep(100);
  support_until_others_asleep();
  handle_signal(SIGTERM, exit_now);
}

static const struct stepped puts_to_a_getter = { put_to_a_getter, put_the_first, sleep_on,
                                                 SIGTERM };

static bool all_got(pid_t getter) {
  return forkq_queue_qsize(queue) == 0 && support_asleep(getter);
}

/* Then the put writes to the pipe, and wakes. */
START_TEST(exit_in_a_put_while_a_getter_sleeps) {
  got = support_shared(VALUES);
  pid_t getter = support_fork(get_on, NULL);
  long length = stepped_length(&puts_to_a_getter);
  for (int i = 0; length > 0 && i < POINTS; i++) {
    long point = stepped_point(length, i, POINTS);
    while (!all_got(getter))
      usleep(100);
    got[0] = 0;
    assert_good_end(stepped_start(&puts_to_a_getter, point), point, length);
    while (!all_got(getter))
      usleep(100);
    ck_assert_int_le(got[0], 1);
    if (i == 0 || i == POINTS - 1)
      ck_assert_int_eq(got[0], i == 0 ? 0 : 1);
  }
  support_kill_and_wait(getter);
  assert_empty_and_works();
}
END_TEST

static const struct stepped gets = { prepare_to_get_the_first, get_one, sleep_on,
                                     SIGTERM };

/* Lost is at most the one that it was getting. */
START_TEST(exit_in_a_get) {
  long length = measure(&gets);
  for (int i = 0; length > 0 && i < POINTS; i++) {
    long point = stepped_point(length, i, POINTS);
    assert_good_end(stepped_start(&gets, point), point, length);
    int64_t first = get(10000);
    ck_assert(first == (i == POINTS - 1) || (first <= 1 && i > 0));
    struct harvest harvest = { .first = (int)first + 1 };
    gather(&harvest);
    ck_assert_int_eq(first + harvest.numbers, 3);
    assert_empty_and_works();
  }
}
END_TEST

static void prepare_simple(void) {
  handle_signal(SIGTERM, exit_now);
  put_the_first();
  CHILD_MUST(get_without_allocating(10000) == 0);
}

static const struct stepped simple_puts = { prepare_simple, put_the_first, sleep_on,
                                            SIGTERM };

START_TEST(exit_in_a_put_of_a_simple_queue) {
  exit_at_every_point(&simple_puts);
}
END_TEST

int main(void) {
  use_heap_that_forks();
  Suite *suite = suite_create("process_stepped");
  TCase *forks = tcase_create("forks");
  tcase_set_timeout(forks, 100);
  tcase_add_checked_fixture(forks, set_up, queue_tear_down);
  tcase_add_test(forks, a_handler_forks_in_a_put);
  tcase_add_test(forks, a_handler_forks_in_a_get);
  tcase_add_test(forks, a_handler_forks_in_a_put_and_the_child_uses_the_queue);
  tcase_add_test(forks, a_handler_forks_in_a_get_and_the_child_uses_the_queue);
  tcase_add_test(forks, a_handler_forks_each_time_that_a_child_ends);
  tcase_add_test(forks,
                 a_handler_forks_a_child_that_uses_the_queue_each_time_that_one_ends);
  suite_add_tcase(suite, forks);
  TCase *exits = tcase_create("exits");
  tcase_set_timeout(exits, 100);
  tcase_add_checked_fixture(exits, set_up, queue_tear_down);
  tcase_add_test(exits, exit_in_a_put_behind_a_full_pipe);
  tcase_add_test(exits, exit_in_a_put);
  tcase_add_test(exits, exit_in_a_put_while_a_getter_sleeps);
  tcase_add_test(exits, exit_in_a_get);
  suite_add_tcase(suite, exits);
  TCase *simple = tcase_create("simple");
  tcase_set_timeout(simple, 100);
  tcase_add_checked_fixture(simple, set_up_simple, queue_tear_down);
  tcase_add_test(simple, exit_in_a_put_of_a_simple_queue);
  suite_add_tcase(suite, simple);
  return support_main(suite);
}
