/* A daemon ends with its parent, and only then; any other process goes on. The parent is a child of
 * the test. */
#define _GNU_SOURCE
#include "base/os.h"
#include "process_calls.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
  _Atomic int daemon, other; /* their pids */
  _Atomic int ready, go, ran;
} * shared;

static void set_up(void) {
  shared = support_shared(sizeof *shared);
}

static int live(void *changes_user) {
  if (changes_user != NULL)
    CHILD_MUST(setresuid(65534, 65534, 65534) == 0);
  signal(SIGIO, SIG_IGN); /* what the kernel sends if nobody says otherwise */
  atomic_fetch_add(&shared->ran, 1);
  return sleep_on(NULL);
}

static int live_until_go(void *nothing) {
  (void)nothing;
  atomic_fetch_add(&shared->ran, 1);
  while (atomic_load(&shared->go) == 0)
    usleep(1000);
  atomic_store(&shared->go, 2);
  return 0;
}

static void start_daemon(void *changes_user) {
  atomic_store(&shared->daemon, forkq_process_pid(start(live, changes_user)));
  support_until_equal((_Atomic uint32_t *)&shared->ran, 1);
}

/* ---- its parent ends ---------------------------------------------------------------------------- */

static void be_ready_and_sleep(void) {
  atomic_store(&shared->ready, 1);
  sleep_on(NULL);
}

static void parent_of_a_daemon(void *changes_user) {
  start_daemon(changes_user);
  be_ready_and_sleep();
}

static void assert_ends_with(pid_t parent) {
  support_until(&shared->ready);
  pid_t daemon = atomic_load(&shared->daemon);
  support_until_asleep(daemon); /* so it has not ended before */
  support_kill_and_wait(parent);
  until_gone(daemon);
}

START_TEST(a_daemon_ends_when_its_parent_is_killed) {
  assert_ends_with(support_fork(parent_of_a_daemon, NULL));
}
END_TEST

START_TEST(a_daemon_that_has_changed_its_user_ends) {
  if (geteuid() == 0)
    assert_ends_with(support_fork(parent_of_a_daemon, shared));
}
END_TEST

static void exit_beside_a_daemon(void *nothing) {
  start_daemon(nothing);
  exit(0);
}

START_TEST(a_daemon_ends_when_its_parent_exits) {
  ck_assert_int_eq(support_wait(support_fork(exit_beside_a_daemon, NULL)), 0);
  until_gone(atomic_load(&shared->daemon));
}
END_TEST

/* Each has a copy of all that its parent had open, a bare fork and a started process. */
static void parent_of_others(void *started) {
  start_daemon(NULL);
  if (started != NULL) {
    forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
    atomic_store(&shared->other,
                 forkq_process_pid(start_with(live_until_go, NULL, options)));
  } else {
    pid_t pid = fork();
    CHILD_MUST(pid >= 0);
    if (pid == 0)
      _exit(live_until_go(NULL));
    atomic_store(&shared->other, pid);
  }
  support_until_equal((_Atomic uint32_t *)&shared->ran, 2);
  be_ready_and_sleep();
}

START_TEST(a_sibling_neither_ends_nor_keeps_the_daemon) {
  assert_ends_with(support_fork(parent_of_others, _i == 0 ? NULL : shared));
  atomic_store(&shared->go, 1);
  support_until_equal((_Atomic uint32_t *)&shared->go, 2);
  until_gone(atomic_load(&shared->other));
}
END_TEST

/* ---- its parent goes on --------------------------------------------------------------------------- */

static void *start_on_a_thread(void *ret_process) {
  atomic_store(&shared->ready, gettid());
  *(forkq_process_t **)ret_process = start(live_until_go, NULL);
  support_until_equal((_Atomic uint32_t *)&shared->ran, 1);
  return NULL;
}

/* A thread that was joined may still be on its way out of the kernel. */
static void until_thread_gone(pid_t thread) {
  char path[64];
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  snprintf(path, sizeof path, "/proc/self/task/%d", (int)thread);
  while (access(path, F_OK) == 0)
    ck_assert_int_lt(support_now_ms(), deadline);
}

START_TEST(the_end_of_the_thread_that_started_it_ends_no_daemon) {
  forkq_process_t *process = NULL;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, start_on_a_thread, &process), 0);
  support_join(thread);
  until_thread_gone(atomic_load(&shared->ready));
  atomic_store(&shared->go, 1);
  ck_assert_int_eq(end(process), 0);
}
END_TEST

/* ---- its parent ends too soon ---------------------------------------------------------------------- */

static pid_t dying;

static void die_in_fork(void) {
  kill(getpid(), SIGKILL);
}

static void outlive_parent(void) {
  atomic_store(&shared->daemon, getpid());
  while (getppid() == dying)
    usleep(1000);
}

static int count_the_run(void *nothing) {
  (void)nothing;
  return atomic_fetch_add(&shared->ran, 1);
}

static void die_while_starting(void *daemon) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = *(int *)daemon;
  dying = getpid();
  CHILD_MUST(pthread_atfork(NULL, die_in_fork, outlive_parent) == 0);
  start_with(count_the_run, NULL, options);
}

START_TEST(a_parent_that_dies_in_the_start_leaves_nothing) {
  ck_assert_int_eq(support_wait(support_fork(die_while_starting, &_i)), 128 + SIGKILL);
  support_until(&shared->daemon);
  until_gone(atomic_load(&shared->daemon));
  ck_assert_int_eq(shared->ran, 0);
}
END_TEST

/* Between the byte of the parent and the moment from which on the kernel sends the signal. */
static void own_what_is_closed(void *nothing) {
  (void)nothing;
  int fds[2];
  signal(SIGTERM, SIG_DFL); /* Check has a handler */
  CHILD_MUST(forkq__os_pipe(fds) == 0);
  CHILD_MUST(forkq__os_hangup_prepare(fds[0]) == 0);
  close(fds[1]);
  CHILD_MUST(forkq__os_hangup_own(fds[0]) == 0);
}

START_TEST(a_pipe_that_is_closed_already_is_noticed) {
  ck_assert_int_eq(support_wait(support_fork(own_what_is_closed, NULL)), 128 + SIGTERM);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("process_parent");
  TCase *ends = tcase_create("parent");
  tcase_add_checked_fixture(ends, set_up, NULL);
  tcase_add_test(ends, a_daemon_ends_when_its_parent_is_killed);
  tcase_add_test(ends, a_daemon_that_has_changed_its_user_ends);
  tcase_add_test(ends, a_daemon_ends_when_its_parent_exits);
  tcase_add_loop_test(ends, a_sibling_neither_ends_nor_keeps_the_daemon, 0, 2);
  tcase_add_test(ends, the_end_of_the_thread_that_started_it_ends_no_daemon);
  tcase_add_loop_test(ends, a_parent_that_dies_in_the_start_leaves_nothing, 0, 2);
  tcase_add_test(ends, a_pipe_that_is_closed_already_is_noticed);
  suite_add_tcase(suite, ends);
  return support_main(suite);
}
