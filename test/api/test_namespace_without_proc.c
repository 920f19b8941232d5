/* PID namespaces where there is no /proc: the kernel tells a process its namespace all the same, or
 * it goes by descent. */
#define _GNU_SOURCE
#include "base/os.h"
#include "namespace_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic int *flag; /* shared */

/* The kernel tells a process its namespace all the same, since Linux 6.11; or it does not. */
enum { TOLD, NOT_TOLD };

static bool kernel_tells(void) {
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  int found = self < 0 ? -1 : ioctl(self, _IO(0xff, 5), 0); /* PIDFD_GET_PID_NAMESPACE */
  if (self >= 0)
    close(self);
  if (found >= 0)
    close(found);
  return found >= 0;
}

static void leave_proc(int told) {
  const struct refusal no_pidfd = { .call = SYS_pidfd_open, .error = ENOSYS };
  CHILD_MUST(chroot("/dev") == 0 && chdir("/") == 0 && access("/proc", F_OK) != 0);
  if (told == NOT_TOLD)
    refuse(&no_pidfd, 1);
  else if (!kernel_tells())
    _exit(SKIPPED);
  CHILD_MUST((told == TOLD) == (forkq__os_pid_namespace() != 0));
}

/* Runs it in a process without, which has only begun; `arg` is told or not. */
static void run_without_proc(void (*run)(void *arg), int told) {
  int status = support_wait(support_fork(run, &told));
  if (status == SKIPPED)
    printf("skipped: the kernel does not tell the namespace without /proc\n");
  else
    ck_assert_int_eq(status, 0);
}

static void put_and_get(void *arg) {
  (void)arg;
  for (int i = 0; i < 100; i++)
    CHILD_MUST(put(i, 0) == 0 && get(PATIENCE_MS) == i);
  forkq_queue_destroy(queue);
}

static void put_and_get_in_a_child(void *arg) {
  CHILD_MUST(wait_for(support_fork(put_and_get, arg)) == 0);
}

static void use_without_proc(void *told) {
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  CHILD_MUST(wait_for(support_fork(put_and_get, NULL)) == 0);
  CHILD_MUST(wait_for(support_fork(put_and_get_in_a_child, NULL)) == 0);
  put_and_get(NULL);
}

START_TEST(without_proc_processes_have_a_queue_by_descent) {
  run_without_proc(use_without_proc, _i);
}
END_TEST

/* A queue that was made with or without. */
static void be_refused_without_proc(void *told) {
  leave_proc(*(int *)told);
  for (int made_here = 0; made_here <= 1; made_here++) {
    if (made_here) {
      forkq_queue_destroy(queue);
      CHILD_MUST(forkq_joinable_queue_create(&queue, 10) == 0);
    }
    CHILD_MUST(put(7, 0) == 0);
    until_sent(queue);
    write_down(before);
    refused_by_every_way(1);
    CHILD_MUST(is_as_it_was());
    CHILD_MUST(get(0) == 7);
  }
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_another_namespace_is_refused) {
  run_without_proc(be_refused_without_proc, _i);
}
END_TEST

static void attach_without_proc(void *told) {
  leave_proc(*(int *)told);
  void (*const attach)(void *) = *(int *)told == TOLD ? attach_well : attach_refused;
  CHILD_MUST(wait_for(support_fork(attach, NULL)) == 0);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  CHILD_MUST(wait_for(support_fork(attach, NULL)) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_a_program_is_refused_where_nothing_tells_its_namespace) {
  run_without_proc(attach_without_proc, _i);
}
END_TEST

/* Fills the queue behind a message that no pipe holds, and waits to be killed. */
static void hoard(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(HUGE, 0) == 0);
  while (put(1, 0) == 0)
    ;
  CHILD_MUST(queue->channel.account.liveness.fd < 0); /* the lock is the process's */
  atomic_store(flag, 1);
  for (;;)
    pause();
}

static void outlive_a_putter(void *told) {
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  pid_t putter = support_fork(hoard, NULL);
  support_until(flag);
  CHILD_MUST(put(0, 0) == FORKQ_FULL);
  support_kill(putter); /* a zombie */
  for (int i = 0; i < 10; i++)
    CHILD_MUST(put(i, PATIENCE_MS) == 0);
  CHILD_MUST(put(10, 0) == FORKQ_FULL);
  for (int i = 0; i < 10; i++)
    CHILD_MUST(get(PATIENCE_MS) == i);
  CHILD_MUST(wait_for(putter) == 128 + SIGKILL);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_what_a_killed_putter_held_comes_back) {
  flag = support_shared(sizeof *flag);
  run_without_proc(outlive_a_putter, _i);
}
END_TEST

static void get_and_wait(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_MS) == 7);
  CHILD_MUST(queue->channel.account.liveness.tasks.fd < 0);
  atomic_store(flag, 1);
  for (;;)
    pause();
}

static void outlive_a_worker(void *told) {
  uint64_t abandoned = 0;
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_joinable_queue_create(&queue, 10) == 0);
  CHILD_MUST(put(7, 0) == 0);
  pid_t worker = support_fork(get_and_wait, NULL);
  support_until(flag);
  CHILD_MUST(forkq_queue_join(queue, 0, NULL) == FORKQ_TIMEDOUT);
  support_kill(worker);
  CHILD_MUST(forkq_queue_join(queue, PATIENCE_MS, &abandoned) == FORKQ_EABANDONED);
  CHILD_MUST(abandoned == 1 && wait_for(worker) == 128 + SIGKILL);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_the_tasks_of_a_killed_worker_are_abandoned) {
  flag = support_shared(sizeof *flag);
  run_without_proc(outlive_a_worker, _i);
}
END_TEST

static Suite *namespace_without_proc_suite(void) {
  Suite *suite = suite_create("namespace_without_proc");
  TCase *tcase = add_case(suite);
  tcase_add_loop_test(tcase, without_proc_processes_have_a_queue_by_descent, 0, 2);
  tcase_add_loop_test(tcase, without_proc_another_namespace_is_refused, 0, 2);
  tcase_add_loop_test(
      tcase, without_proc_a_program_is_refused_where_nothing_tells_its_namespace, 0, 2);
  tcase_add_loop_test(tcase, without_proc_what_a_killed_putter_held_comes_back, 0, 2);
  tcase_add_loop_test(tcase, without_proc_the_tasks_of_a_killed_worker_are_abandoned, 0,
                      2);
  return suite;
}

int main(void) {
  if (!has_the_right())
    return SKIPPED;
  return support_main(namespace_without_proc_suite());
}
