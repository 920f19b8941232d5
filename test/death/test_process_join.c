/* The parent of a process: waiting for it, its exit code, and no zombies. */
#define _GNU_SOURCE
#include "process_calls.h"
#include "refuse.h"

#include <errno.h>
#include <forkq/wait.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 10
#define THREADS 8

static _Atomic int *go;
static int fds_before;

static void set_up(void) {
  go = support_shared(sizeof *go);
  fds_before = support_open_fds_below(256);
}

static void tear_down(void) {
  ck_assert_int_eq(support_open_fds_below(256), fds_before);
}

static int run_until_go(void *nothing) {
  (void)nothing;
  while (atomic_load(go) == 0)
    usleep(1000);
  return 4;
}

static int seven = 7;

/* ---- waiting ------------------------------------------------------------------------------------ */

static void assert_runs(forkq_process_t *process) {
  int code = 1000;
  ck_assert_int_eq(forkq_process_is_alive(process), 1);
  ck_assert_int_eq(forkq_process_exitcode(process, &code), 0);
  ck_assert_int_eq(code, 1000);
  ck_assert_int_eq(forkq_process_join(process, 0), FORKQ_TIMEDOUT);
}

static ino_t inode_of(int fd) {
  struct stat status;
  ck_assert_int_eq(fstat(fd, &status), 0);
  return status.st_ino;
}

/* The program has closed it, and another process has its number. Before Linux 6.9 they all look alike. */
START_TEST(a_descriptor_that_is_another_s_is_left_alone) {
  forkq_process_t *one = start(sleep_on, NULL), *other = start(run_until_go, NULL);
  int fd = forkq_process_fileno(one);
  bool alike = inode_of(fd) == inode_of(forkq_process_fileno(other));
  if (!alike) {
    ck_assert_int_eq(dup2(forkq_process_fileno(other), fd), fd);
    ck_assert_int_eq(forkq_process_fileno(one), -EBADF);
  }
  ck_assert_int_eq(forkq_process_terminate(one), 0);
  ck_assert_int_eq(end(one), -SIGTERM);
  assert_runs(other);
  atomic_store(go, 1);
  ck_assert_int_eq(end(other), 4);
  if (!alike)
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_join_waits_as_long_as_it_may) {
  forkq_process_t *process = start(run_until_go, NULL);
  assert_runs(process);
  int64_t begin_ms = support_now_ms();
  ck_assert_int_eq(forkq_process_join(process, 30), FORKQ_TIMEDOUT);
  ck_assert_int_ge(support_now_ms() - begin_ms, 29);
  ck_assert_int_eq(forkq_process_join(process, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_process_exitcode(process, NULL), FORKQ_ENULL);
  atomic_store(go, 1);
  ck_assert_int_eq(forkq_process_join(process, -1), 0);
  ck_assert_int_eq(forkq_process_join(process, 0), 0);
  ck_assert_int_eq(forkq_process_is_alive(process), 0);
  ck_assert_int_eq(end(process), 4);
}
END_TEST

START_TEST(the_descriptor_tells_of_the_end) {
  forkq_process_t *process = start(run_until_go, NULL);
  forkq_wait_entry_t entry = forkq_wait_on_fd(forkq_process_fileno(process));
  ck_assert_int_gt(entry.on.fd, STDERR_FILENO);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 0);
  atomic_store(go, 1);
  ck_assert_int_eq(forkq_wait(&entry, 1, PATIENCE_MS), 1);
  ck_assert_int_eq(forkq_process_join(process, 0), 0);
  ck_assert_int_eq(exitcode_of(process), 4);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 1);
  forkq_process_destroy(process);
}
END_TEST

struct joiner {
  forkq_process_t *process;
  int code;
};

static void *join_it(void *arg) {
  struct joiner *joiner = arg;
  if (forkq_process_join(joiner->process, -1) != 0 ||
      forkq_process_exitcode(joiner->process, &joiner->code) != 1)
    joiner->code = 1000;
  return NULL;
}

/* One of them reaps it, and all know the exit code. */
START_TEST(several_threads_join) {
  pthread_t threads[THREADS];
  struct joiner joiners[THREADS];
  forkq_process_t *process = start(run_until_go, NULL);
  for (int i = 0; i < THREADS; i++) {
    joiners[i].process = process;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, join_it, &joiners[i]), 0);
  }
  support_until_threads_asleep(THREADS);
  atomic_store(go, 1);
  for (int i = 0; i < THREADS; i++) {
    support_join(threads[i]);
    ck_assert_int_eq(joiners[i].code, 4);
  }
  forkq_process_destroy(process);
}
END_TEST

START_TEST(a_thread_can_be_cancelled_in_a_join) {
  pthread_t thread;
  struct joiner joiner = { start(run_until_go, NULL), 0 };
  ck_assert_int_eq(pthread_create(&thread, NULL, join_it, &joiner), 0);
  support_until_threads_asleep(1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
  ck_assert_ptr_eq(support_join(thread), PTHREAD_CANCELED);
  atomic_store(go, 1);
  ck_assert_int_eq(end(joiner.process), 4);
}
END_TEST

/* ---- no zombies ---------------------------------------------------------------------------------- */

START_TEST(the_next_start_reaps_what_nobody_joined) {
  forkq_process_t *processes[PROCESSES];
  int code;
  for (int i = 0; i < PROCESSES; i++) {
    processes[i] = start(return_it, &seven);
    until_zombie(forkq_process_pid(processes[i]));
    for (int earlier = 0; earlier < i; earlier++)
      ck_assert(is_reaped(forkq_process_pid(processes[earlier])));
  }
  for (int i = 0; i < PROCESSES; i++) {
    ck_assert_int_eq(forkq_process_exitcode(processes[i], &code), 1);
    ck_assert_int_eq(code, 7);
    forkq_process_destroy(processes[i]);
  }
}
END_TEST

START_TEST(a_destroy_reaps_it) {
  forkq_process_t *process = start(return_it, &seven);
  pid_t pid = forkq_process_pid(process);
  until_zombie(pid);
  forkq_process_destroy(process);
  ck_assert(is_reaped(pid));
}
END_TEST

START_TEST(what_was_destroyed_while_it_ran_is_reaped_later) {
  forkq_process_t *left = start(run_until_go, NULL);
  pid_t pid = forkq_process_pid(left);
  forkq_process_destroy(left);
  ck_assert_int_eq(end(start(return_it, &seven)), 7);
  ck_assert(!is_zombie(pid) && !is_reaped(pid));
  atomic_store(go, 1);
  until_zombie(pid);
  ck_assert_int_eq(end(start(return_it, &seven)), 7);
  ck_assert(is_reaped(pid));
}
END_TEST

static void *start_and_leave_many(void *nothing) {
  (void)nothing;
  for (int i = 0; i < 30; i++) {
    forkq_process_t *process = start(return_it, &seven);
    if (i % 3 == 0)
      ck_assert_int_eq(forkq_process_join(process, PATIENCE_MS), 0);
    forkq_process_destroy(process);
  }
  return NULL;
}

/* Threads that reap each other's processes. */
START_TEST(threads_start_and_destroy) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, start_and_leave_many, NULL), 0);
  for (int i = 0; i < 4; i++)
    support_join(threads[i]);
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  while (support_open_fds_below(256) != fds_before && support_now_ms() < deadline)
    ck_assert_int_eq(end(start(return_it, &seven)), 7);
  ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

static forkq_process_t *looked_at;

static void *look_on(void *nothing) {
  while (atomic_load(go) == 0)
    (void)forkq_process_is_alive(looked_at);
  return nothing;
}

static int destroy_the_parents(void *nothing) {
  (void)nothing;
  forkq_process_destroy(looked_at);
  return 0;
}

/* The mutex is mostly locked when the child is forked. */
START_TEST(a_child_can_destroy_what_a_thread_of_its_parent_looks_at) {
  pthread_t thread;
  looked_at = start(run_until_go, NULL);
  ck_assert_int_eq(pthread_create(&thread, NULL, look_on, NULL), 0);
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(end(start(destroy_the_parents, NULL)), 0);
  atomic_store(go, 1);
  support_join(thread);
  ck_assert_int_eq(end(looked_at), 4);
}
END_TEST

/* ---- somebody else takes the exit code -------------------------------------------------------- */

static void assert_unknown(forkq_process_t *process) {
  int code = 1000;
  ck_assert_int_eq(forkq_process_join(process, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_process_exitcode(process, &code), -ECHILD);
  ck_assert_int_eq(code, 1000);
  ck_assert_int_eq(forkq_process_is_alive(process), 0);
  ck_assert_int_eq(forkq_process_terminate(process), 0);
  forkq_process_destroy(process);
}

START_TEST(another_has_waited_for_it) {
  forkq_process_t *process = start(return_it, &seven);
  ck_assert_int_eq(waitpid(-1, NULL, 0), forkq_process_pid(process));
  assert_unknown(process);
}
END_TEST

static void ignore_children(int how) {
  struct sigaction action = { .sa_flags = SA_NOCLDWAIT };
  if (how == 0)
    signal(SIGCHLD, SIG_IGN);
  else
    ck_assert_int_eq(sigaction(SIGCHLD, &action, NULL), 0);
}

/* A join waits for the end, and the end tells its descriptor. */
START_TEST(nobody_waits_for_children) {
  ignore_children(_i);
  forkq_process_t *process = start(run_until_go, NULL);
  assert_runs(process);
  atomic_store(go, 1);
  forkq_wait_entry_t entry = forkq_wait_on_fd(forkq_process_fileno(process));
  ck_assert_int_eq(forkq_wait(&entry, 1, PATIENCE_MS), 1);
  assert_unknown(process);
  /* One that has ended before start is back. */
  for (int i = 0; i < PROCESSES; i++)
    assert_unknown(start(return_it, &seven));
}
END_TEST

/* ---- a kernel without pidfds ------------------------------------------------------------------- */

static void use_without_pidfds(void *what) {
  const struct refusal refusals[] = {
    { .call = SYS_pidfd_open, .error = ENOSYS },
    { .call = SYS_pidfd_send_signal, .error = ENOSYS },
    { .call = SYS_waitid, .error = EINVAL, .argument = 1, .is = 3 /* P_PIDFD */ },
  };
  bool later = *(int *)what != 0; /* than pidfds, but earlier than waiting by them */
  refuse(refusals + later, 3 - (size_t)later);
  if (!later) {
    forkq_process_t *process = start(run_until_go, NULL);
    CHILD_MUST(forkq_process_fileno(process) == -ENOSYS);
    forkq_process_destroy(process);
  }
  forkq_process_t *process = start(run_until_go, NULL);
  CHILD_MUST(forkq_process_is_alive(process) == 1);
  CHILD_MUST(forkq_process_join(process, 30) == FORKQ_TIMEDOUT);
  CHILD_MUST(forkq_process_terminate(process) == 0);
  CHILD_MUST(end(process) == -SIGTERM);
  atomic_store(go, 1);
  CHILD_MUST(end(start(run_until_go, NULL)) == 4);
  ignore_children(0);
  process = start(return_it, &seven);
  CHILD_MUST(forkq_process_join(process, -1) == 0);
  forkq_process_destroy(process);
}

START_TEST(without_pidfds_all_but_the_descriptor_works) {
  ck_assert_int_eq(support_wait(support_fork(use_without_pidfds, &_i)), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("process_join");
  TCase *waits = tcase_create("waits");
  tcase_add_checked_fixture(waits, set_up, tear_down);
  tcase_add_test(waits, a_join_waits_as_long_as_it_may);
  tcase_add_test(waits, the_descriptor_tells_of_the_end);
  tcase_add_test(waits, several_threads_join);
  tcase_add_test(waits, a_descriptor_that_is_another_s_is_left_alone);
  tcase_add_test(waits, a_thread_can_be_cancelled_in_a_join);
  suite_add_tcase(suite, waits);
  TCase *zombies = tcase_create("zombies");
  tcase_add_checked_fixture(zombies, set_up, tear_down);
  tcase_set_timeout(zombies, 60);
  tcase_add_test(zombies, the_next_start_reaps_what_nobody_joined);
  tcase_add_test(zombies, a_destroy_reaps_it);
  tcase_add_test(zombies, what_was_destroyed_while_it_ran_is_reaped_later);
  tcase_add_test(zombies, threads_start_and_destroy);
  tcase_add_test(zombies, a_child_can_destroy_what_a_thread_of_its_parent_looks_at);
  suite_add_tcase(suite, zombies);
  TCase *others = tcase_create("others");
  tcase_add_checked_fixture(others, set_up, tear_down);
  tcase_add_test(others, another_has_waited_for_it);
  tcase_add_loop_test(others, nobody_waits_for_children, 0, 2);
  if (can_refuse())
    tcase_add_loop_test(others, without_pidfds_all_but_the_descriptor_works, 0, 2);
  suite_add_tcase(suite, others);
  return support_main(suite);
}
