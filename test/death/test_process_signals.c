/* The signals of a child of forkq_process_start: nothing of its parent's runs in it, and it can be
 * ended. */
#define _GNU_SOURCE
#include "process_calls.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct {
  _Atomic int handled; /* the pid in which the handler has run */
} * shared;

static void set_up(void) {
  shared = support_shared(sizeof *shared);
}

static void note(int signo) {
  (void)signo;
  atomic_store(&shared->handled, getpid());
}

static bool is_blocked(int signo) {
  sigset_t blocked;
  return pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0 &&
         sigismember(&blocked, signo);
}

static void *disposition(int signo) {
  struct sigaction action;
  CHILD_MUST(sigaction(signo, NULL, &action) == 0);
  return (void *)(uintptr_t)action.sa_handler;
}

static void block_all(void) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static int look_at_mask(void *nothing) {
  (void)nothing;
  for (int signo = 1; signo < NSIG; signo++)
    if (is_blocked(signo))
      return signo;
  return 0;
}

START_TEST(nothing_is_blocked_whatever_the_parent_blocks) {
  block_all();
  ck_assert_int_eq(end(start(look_at_mask, NULL)), 0);
  ck_assert(is_blocked(SIGINT) && is_blocked(SIGTERM));
}
END_TEST

/* The dispositions that a child must have. */
static int look_at_dispositions(void *nothing) {
  (void)nothing;
  CHILD_MUST(disposition(SIGINT) == SIG_DFL);
  CHILD_MUST(disposition(SIGUSR1) == SIG_DFL);
  CHILD_MUST(disposition(SIGCHLD) == SIG_DFL);
  CHILD_MUST(disposition(SIGRTMAX) == SIG_DFL);
  CHILD_MUST(disposition(SIGTERM) == SIG_DFL);
  CHILD_MUST(disposition(SIGHUP) == SIG_IGN);
  CHILD_MUST(disposition(SIGPIPE) == SIG_IGN);
  CHILD_MUST(disposition(SIGSEGV) == (void *)(uintptr_t)note);
  return 0;
}

START_TEST(handlers_go_and_ignored_signals_and_handlers_of_faults_stay) {
  int handled[] = { SIGINT, SIGUSR1, SIGCHLD, SIGRTMAX, SIGSEGV };
  for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
    signal(handled[i], note);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  ck_assert_int_eq(end(start(look_at_dispositions, NULL)), 0);
  ck_assert_ptr_eq(disposition(SIGINT), (void *)(uintptr_t)note);
  ck_assert_ptr_eq(disposition(SIGTERM), SIG_IGN);
  signal(SIGSEGV, SIG_DFL);
}
END_TEST

/* ---- the way from the fork to the run ---------------------------------------------------------- */

static int raised_in_fork;

static void raise_in_child(void) {
  if (raised_in_fork != 0)
    kill(getpid(), raised_in_fork);
}

START_TEST(a_signal_right_after_the_fork_does_not_run_a_handler_of_the_parent) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  signal(SIGINT, note);
  signal(SIGTERM, note);
  ck_assert_int_eq(pthread_atfork(NULL, NULL, raise_in_child), 0);
  raised_in_fork = SIGTERM;
  ck_assert_int_eq(end(start(sleep_on, NULL)), -SIGTERM);
  raised_in_fork = SIGINT;
  ck_assert_int_eq(end(start(sleep_on, NULL)), -SIGINT);
  ck_assert_int_eq(shared->handled, 0);
  options.ignore_sigint = 1;
  ck_assert_int_eq(end(start_with(look_at_mask, NULL, options)), 0);
  ck_assert_int_eq(shared->handled, 0);
}
END_TEST

/* ---- options ------------------------------------------------------------------------------------ */

static int ignore_sigint_and_return(void *nothing) {
  (void)nothing;
  kill(getpid(), SIGINT);
  return disposition(SIGINT) == SIG_IGN ? 0 : 1;
}

START_TEST(sigint_can_be_ignored) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = options.ignore_sigint = 1;
  signal(SIGINT, note);
  ck_assert_int_eq(end(start_with(ignore_sigint_and_return, NULL, options)), 0);
  options.keep_signals = 1;
  ck_assert_int_eq(end(start_with(ignore_sigint_and_return, NULL, options)), 0);
  ck_assert_int_eq(shared->handled, 0);
}
END_TEST

static int look_at_what_was_kept(void *nothing) {
  (void)nothing;
  CHILD_MUST(is_blocked(SIGUSR2) && !is_blocked(SIGUSR1) && !is_blocked(SIGTERM));
  CHILD_MUST(disposition(SIGTERM) == SIG_IGN);
  CHILD_MUST(disposition(SIGINT) == (void *)(uintptr_t)note);
  kill(getpid(), SIGINT);
  return atomic_load(&shared->handled) == getpid() ? 0 : 1;
}

START_TEST(signals_can_be_kept) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  sigset_t blocked;
  options.daemon = options.keep_signals = 1;
  signal(SIGINT, note);
  signal(SIGTERM, SIG_IGN);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &blocked, NULL);
  ck_assert_int_eq(end(start_with(look_at_what_was_kept, NULL, options)), 0);
}
END_TEST

/* ---- ending it ---------------------------------------------------------------------------------- */

START_TEST(terminate_ends_it_whatever_the_parent_does_with_sigterm) {
  void (*handlers[])(int) = { SIG_DFL, SIG_IGN, note };
  for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
    signal(SIGTERM, handlers[i]);
    forkq_process_t *process = start(sleep_on, NULL);
    ck_assert_int_eq(forkq_process_terminate(process), 0);
    ck_assert_int_eq(end(process), -SIGTERM);
  }
  ck_assert_int_eq(shared->handled, 0);
}
END_TEST

static int ignore_sigterm(void *nothing) {
  signal(SIGTERM, SIG_IGN);
  atomic_store(&shared->handled, 1);
  return sleep_on(nothing);
}

START_TEST(kill_ends_what_ignores_sigterm) {
  forkq_process_t *process = start(ignore_sigterm, NULL);
  support_until(&shared->handled);
  ck_assert_int_eq(forkq_process_terminate(process), 0);
  ck_assert_int_eq(forkq_process_join(process, 20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_process_kill(process), 0);
  ck_assert_int_eq(exitcode_of(process), -SIGKILL);
  ck_assert_int_eq(forkq_process_terminate(process), 0);
  ck_assert_int_eq(forkq_process_kill(process), 0);
  forkq_process_destroy(process);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("process_signals");
  TCase *child = tcase_create("child");
  tcase_add_checked_fixture(child, set_up, NULL);
  tcase_add_test(child, nothing_is_blocked_whatever_the_parent_blocks);
  tcase_add_test(child, handlers_go_and_ignored_signals_and_handlers_of_faults_stay);
  tcase_add_test(child,
                 a_signal_right_after_the_fork_does_not_run_a_handler_of_the_parent);
  tcase_add_test(child, sigint_can_be_ignored);
  tcase_add_test(child, signals_can_be_kept);
  suite_add_tcase(suite, child);
  TCase *ends = tcase_create("ends");
  tcase_add_checked_fixture(ends, set_up, NULL);
  tcase_add_test(ends, terminate_ends_it_whatever_the_parent_does_with_sigterm);
  tcase_add_test(ends, kill_ends_what_ignores_sigterm);
  suite_add_tcase(suite, ends);
  return support_main(suite);
}
