/* Processes that come about, or end, in a way of their own: beside handlers of fork, without them,
 * without the thread that began them, and as daemons. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"

#include "process_helpers.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void set_up(void) {
  fds_before = support_open_fds();
}

static void create(void) {
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
}

/* ---- handlers of fork ------------------------------------------------------------------ */

static void (*before)(void), (*in_parent)(void), (*in_child)(void);

static void call_before(void) {
  if (before != NULL)
    before();
}

static void call_in_parent(void) {
  if (in_parent != NULL)
    in_parent();
}

static void call_in_child(void) {
  if (in_child != NULL)
    in_child();
}

static int results[3];

static void put_before(void) {
  results[0] = put(1, 100);
}

static void put_in_parent(void) {
  results[1] = put(2, 100);
}

static void put_in_child(void) {
  results[2] = put(3, 100);
}

/* Registered before the library's, they are called between these and the fork. */
static void create_behind_handlers(void) {
  ck_assert_int_eq(pthread_atfork(call_before, call_in_parent, call_in_child), 0);
  create();
}

static pid_t fork_once(void (*child)(void *arg)) {
  pid_t pid = support_fork(child, NULL);
  before = in_parent = in_child = NULL;
  return pid;
}

static bool is_put_or_refused(int r) {
  return r == 0 || r == -EDEADLK;
}

static void note_child(void *arg) {
  (void)arg;
  in_child = NULL;
  CHILD_MUST(is_put_or_refused(results[2]));
  exit(results[2] == 0 ? 1 : 0);
}

START_TEST(a_handler_of_fork_may_put) {
  create_behind_handlers();
  before = put_before;
  in_parent = put_in_parent;
  in_child = put_in_child;
  int in_queue = support_wait(fork_once(note_child));
  for (int i = 0; i < 2; i++) {
    ck_assert(is_put_or_refused(results[i]));
    in_queue += results[i] == 0;
  }
  ck_assert_int_eq(forkq_queue_qsize(queue), in_queue);
  while (in_queue-- > 0) {
    ck_assert_int_gt(get(10000), 0);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  assert_empty_and_works();
}
END_TEST

static void destroy(void) {
  forkq_queue_destroy(queue);
}

static void use_in_child(void *arg) {
  (void)arg;
  CHILD_MUST(put(5, 10000) == 0);
  exit(0);
}

/* Around the fork the handle is in use: it stays as it is. */
START_TEST(a_handler_of_fork_does_not_destroy) {
  create_behind_handlers();
  before = destroy;
  ck_assert_int_eq(support_wait(fork_once(use_in_child)), 0);
  ck_assert_int_eq(get(10000), 5);
  assert_empty_and_works();
}
END_TEST

/* ---- children of which the library is not told -------------------------------------------- */

static pid_t bare_fork(void) {
  return _Fork();
}

static pid_t bare_clone(void) {
  return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static pid_t (*const bare[])(void) = { bare_fork, bare_clone };

static void wait_for(pid_t pid) {
  ck_assert_int_eq(support_wait(pid), 0);
}

/* The parent's thread that has the mutex is not in the child, which has no use for it. */
START_TEST(a_child_that_has_not_used_the_queue_exits) {
  create();
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, 0), 0);
  ck_assert_int_eq(put(8, 0), 0);
  support_until_pipe_full(queue);
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  pid_t pid = bare[_i]();
  if (pid == 0) {
    support_end_after(30);
    exit(0);
  }
  wait_for(pid);
  forkq__sender_unlock(&queue->feeder.sender);
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(10000), 8);
}
END_TEST

/* A child of clone(2) has locks under the thread number of its parent: the C library does not know
 * that it is another. */
START_TEST(a_child_that_uses_the_queue_is_put_right_or_refused) {
  create();
  ck_assert_int_eq(put(1, 0), 0);
  forkq__queue_send_own(queue, FORKQ__FOREVER);
  pid_t pid = bare[_i]();
  if (pid == 0) {
    support_end_after(30);
    int64_t r = get(10000);
    int wanted = bare[_i] == bare_fork ? 0 : FORKQ_ENAMESPACE;
    if (r != (wanted == 0 ? 1 : wanted) || put(2, 10000) != wanted)
      _exit(1);
    exit(0);
  }
  wait_for(pid);
  ck_assert_int_eq(get(10000), bare[_i] == bare_fork ? 2 : 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* ---- threads that are left ------------------------------------------------------------- */

static void *put_late(void *arg) {
  (void)arg;
  support_until_threads_asleep(0);
  CHILD_MUST(put_bin(LARGE, 10000) == 0);
  return NULL;
}

/* The process lives on until its last thread ends, which then calls exit. */
static void end_main_thread(void *arg) {
  pthread_t thread;
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put(1, 10000) == 0);
  CHILD_MUST(pthread_create(&thread, NULL, put_late, NULL) == 0);
  pthread_detach(thread);
  pthread_exit(NULL);
}

START_TEST(main_may_end_before_the_other_threads) {
  create();
  pid_t pid = support_fork(end_main_thread, NULL);
  ck_assert_int_eq(get(10000), 1);
  assert_get_bin(LARGE);
  ck_assert_int_eq(support_wait(pid), 0);
}
END_TEST

/* ---- daemons --------------------------------------------------------------------------- */

#define ITEMS 500 /* more than the pipe holds, a page each */
#define SIZE 3000

static void become_a_daemon(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  for (int i = 0; i < ITEMS; i++)
    CHILD_MUST(put_bin(SIZE, 10000) == 0);
  pid_t self = getpid();
  CHILD_MUST(daemon(1, 1) == 0);
  CHILD_MUST(put(2, 10000) == 0);
  support_end_after(60);
  while (getppid() == self) /* who ends before it leaves all to it */
    usleep(1000);
  exit(0);
}

/* The parent, which ends at once, without handlers of exit, had not sent them. */
START_TEST(a_daemon_sends_what_it_put_before_it_became_one) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(support_wait(support_fork(become_a_daemon, NULL)), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  int bins = 0, numbers = 0;
  while (bins + numbers < ITEMS + 1) {
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 30000), 0);
    bool bin = is_bin(&item, SIZE);
    ck_assert(bin || (item.size == 1 && *(const char *)item.data == 2));
    bins += bin;
    numbers += !bin;
  }
  ck_assert_int_eq(numbers, 1);
  forkq_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.put_items, ITEMS + 1);
  ck_assert_uint_eq(stats.put_bytes, stats.got_bytes);
  ck_assert_uint_eq(stats.lost_items, 0);
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_item_destroy(&item);
}
END_TEST

/* ---- as many as a child keeps ---------------------------------------------------------- */

#define KEPT_MAX 16384 /* queue_inherit.c */

static void leave_items(void *arg) {
  pid_t self = getpid();
  support_keep_to_pipe(queue);
  for (int count = *(const int *)arg; count > 0; count--)
    CHILD_MUST(put_bin(SIZE, 10000) == 0);
  support_until_pipe_full(queue);
  if (fork() == 0) /* support_fork's would die with this one */
    send_when_parent_is_gone(self);
  _exit(0);
}

/* Those that the pipe holds are sent before. qsize would give back what nobody sends. */
START_TEST(of_too_many_packets_a_child_keeps_none) {
  int put = _i == 0 ? KEPT_MAX : KEPT_MAX + 1000, got = 0;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(support_wait(support_fork(leave_items, &put)), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  while (got < put && forkq_queue_get_packed(queue, &item, _i == 0 ? 30000 : 1000) == 0)
    got++;
  forkq_item_destroy(&item);
  if (_i == 0)
    ck_assert_int_eq(got, put);
  else
    ck_assert_int_le(got, 1000);
}
END_TEST

/* ---- a last look ------------------------------------------------------------------------- */

/* So often it cannot be known yet what the dead parent has sent: others have the pipe's locks. */
static _Atomic int unknown;

int __real_forkq__reap_take_over(struct forkq__channel *channel,
                                 const struct forkq__estate *estate,
                                 void (*take_over)(void *arg, uint64_t count), void *arg);
int __wrap_forkq__reap_take_over(struct forkq__channel *channel,
                                 const struct forkq__estate *estate,
                                 void (*take_over)(void *arg, uint64_t count), void *arg);
int __wrap_forkq__reap_take_over(struct forkq__channel *channel,
                                 const struct forkq__estate *estate,
                                 void (*take_over)(void *arg, uint64_t count),
                                 void *arg) {
  return atomic_load(&unknown) > 0 && atomic_fetch_sub(&unknown, 1) > 0
             ? FORKQ__BUSY
             : __real_forkq__reap_take_over(channel, estate, take_over, arg);
}

/* So often the dead parent still shows that it lives: its memory takes time to go. */
static _Atomic int seen_alive;

bool __real_forkq__account_sees_alive(const struct forkq__account *account,
                                      uint32_t cell);
bool __wrap_forkq__account_sees_alive(const struct forkq__account *account,
                                      uint32_t cell);
bool __wrap_forkq__account_sees_alive(const struct forkq__account *account,
                                      uint32_t cell) {
  return (atomic_load(&seen_alive) > 0 && atomic_fetch_sub(&seen_alive, 1) > 0) ||
         __real_forkq__account_sees_alive(account, cell);
}

/* What keeps the heir from taking over, until it ends and three times after that. */
static _Atomic int *const hindrances[] = { &unknown, &seen_alive };

static void close_as_heir(pid_t parent, _Atomic int *hindrance) {
  support_end_after(60);
  atomic_store(hindrance, INT_MAX);
  CHILD_MUST(forkq_queue_qsize(queue) > 0);
  while (getppid() == parent)
    usleep(1000);
  atomic_store(hindrance, 3);
  exit(0);
}

static void leave_to_one_that_closes(void *hindrance) {
  pid_t self = getpid();
  support_keep_to_pipe(queue);
  for (int i = 0; i < ITEMS; i++)
    CHILD_MUST(put_bin(SIZE, 10000) == 0);
  support_until_pipe_full(queue);
  if (fork() == 0) /* as above */
    close_as_heir(self, hindrance);
  _exit(0);
}

START_TEST(an_heir_that_ends_waits_until_it_is_known) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(support_wait(support_fork(leave_to_one_that_closes, hindrances[_i])),
                   0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < ITEMS; i++)
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 10000), 0);
  forkq_item_destroy(&item);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("process_ways");
  TCase *tcase = tcase_create("ways");
  suite_add_tcase(suite, tcase);
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_handler_of_fork_may_put);
  tcase_add_test(tcase, a_handler_of_fork_does_not_destroy);
  tcase_add_loop_test(tcase, a_child_that_has_not_used_the_queue_exits, 0, 2);
  tcase_add_loop_test(tcase, a_child_that_uses_the_queue_is_put_right_or_refused, 0, 2);
  tcase_add_test(tcase, main_may_end_before_the_other_threads);
  tcase_add_test(tcase, a_daemon_sends_what_it_put_before_it_became_one);
  tcase_add_loop_test(tcase, of_too_many_packets_a_child_keeps_none, 0, 2);
  tcase_add_loop_test(tcase, an_heir_that_ends_waits_until_it_is_known, 0, 2);
  return support_main(suite);
}
