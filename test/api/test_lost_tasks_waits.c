/* Queues that keep tasks: a process that sleeps, or watches the queue, finds those that are lost meanwhile. */
#define _GNU_SOURCE
#include "lost_tasks_helpers.h"

#include <forkq/loop_handle.h>
#include <forkq/wait.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* libuv keeps two descriptors of its own from the first loop on. */
static void redeliver_beside_a_loop(void) {
  uv_loop_t loop;
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  redeliver();
}

/* Nobody else would find the dead. */
START_TEST(a_getter_that_sleeps_finds_them) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  pid_t killer = fork();
  if (killer == 0) {
    support_until_asleep(getppid());
    kill(pid, SIGKILL);
    _exit(0);
  }
  assert_got(7, 1);
  ck_assert_int_eq(support_wait(killer), 0);
  ck_assert_int_eq(support_wait(pid), 128 + SIGKILL);
}
END_TEST

static _Atomic int *got_seven;

static void get_seven_or_the_end(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  atomic_store((_Atomic int *)arg, 1);
  int r = forkq_queue_get(queue, &item, PATIENCE_MS);
  if (r == FORKQ_ESHUTDOWN)
    return;
  CHILD_MUST(r == 0 && item.object.via.i64 == 7 && item.redelivered == 1);
  CHILD_MUST(forkq_queue_task_done_item(queue, &item) == 0);
  forkq_item_destroy(&item);
  atomic_store(got_seven, 1);
}

/* The one that reaps wakes the one that sleeps, or it finds them itself. */
START_TEST(a_getter_that_waits_for_the_turn_gets_them) {
  enum { GETTERS = 3 };
  got_seven = support_shared(sizeof *got_seven);
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 }), getters[GETTERS];
  for (int i = 0; i < GETTERS; i++) {
    _Atomic int *ready = support_shared(sizeof *ready);
    getters[i] = support_fork(get_seven_or_the_end, (void *)ready);
    support_until(ready);
    support_until_asleep(getters[i]);
  }
  support_kill_and_wait(pid);
  support_until(got_seven);
  assert_joined(0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < GETTERS; i++)
    ck_assert_int_eq(support_wait(getters[i]), 0);
}
END_TEST

/* It has the turn, and no other lock. */
static void stop_asleep(pid_t pid) {
  const _Atomic uint32_t *asleep = &queue->segment->channel.asleep;
  for (;;) {
    support_until_equal(asleep, 1);
    support_stop(pid);
    if (atomic_load(asleep) == 1)
      return;
    kill(pid, SIGCONT);
  }
}

START_TEST(also_one_that_waits_behind_a_stopped_one) {
  _Atomic int *first = support_shared(sizeof *first);
  _Atomic int *second = support_shared(sizeof *second);
  got_seven = support_shared(sizeof *got_seven);
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  pid_t sleeper = support_fork(get_seven_or_the_end, (void *)first);
  stop_asleep(sleeper);
  pid_t getter = support_fork(get_seven_or_the_end, (void *)second);
  support_until(second);
  support_until_asleep(getter);
  support_kill_and_wait(pid);
  ck_assert_int_eq(support_wait(getter), 0);
  ck_assert_int_eq(atomic_load(got_seven), 1);
  support_kill_and_wait(sleeper);
  assert_joined(0);
}
END_TEST

START_TEST(forkq_wait_finds_them) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  forkq_wait_entry_t entry = { .kind = FORKQ_WAIT_QUEUE, .on.queue = queue };
  ck_assert_int_eq(forkq_wait(&entry, 1, 150), 0);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_wait(&entry, 1, PATIENCE_MS), 1);
  assert_got(7, 1);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 0);
}
END_TEST

static bool readable(int fd, int timeout_ms) {
  struct pollfd polled = { .fd = fd, .events = POLLIN };
  return poll(&polled, 1, timeout_ms) > 0;
}

/* The process makes no call meanwhile. */
START_TEST(a_descriptor_that_is_watched_becomes_readable) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  int fd = forkq_queue_fileno(queue);
  ck_assert_int_ge(fd, 0);
  while (readable(fd, 0))
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  support_kill_and_wait(pid);
  ck_assert(readable(fd, PATIENCE_MS));
  assert_got(7, 1);
  while (readable(fd, 0))
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static int loop_status = 1;

static void note_status(forkq_loop_req_t *req, int status) {
  loop_status = status;
  (void)req;
}

START_TEST(a_get_on_a_loop_finds_them) {
  uv_loop_t loop;
  forkq_loop_handle_t *handle = NULL;
  static forkq_loop_req_t req;
  forkq_item_t item = FORKQ_ITEM_INIT;
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  ck_assert_int_eq(forkq_loop_get(&req, handle, &item, PATIENCE_MS, note_status), 0);
  for (int i = 0; i < 10; i++)
    uv_run(&loop, UV_RUN_NOWAIT);
  support_kill_and_wait(pid);
  while (loop_status == 1)
    uv_run(&loop, UV_RUN_ONCE);
  ck_assert_int_eq(loop_status, 0);
  ck_assert_int_eq(item.object.via.i64, 7);
  ck_assert_uint_eq(item.redelivered, 1);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  forkq_item_destroy(&item);
}
END_TEST

static void watch(void *arg) {
  int fd = forkq_queue_fileno(queue);
  (void)forkq_queue_qsize(queue);
  while (readable(fd, 0))
    CHILD_MUST(get(0) == FORKQ_EMPTY);
  atomic_store((_Atomic int *)arg, 1);
  CHILD_MUST(readable(fd, PATIENCE_MS));
  assert_got(7, 1);
}

START_TEST(also_in_a_child_of_the_process_that_watches) {
  _Atomic int *ready = support_shared(sizeof *ready);
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_ge(forkq_queue_fileno(queue), 0);
  pid_t child = support_fork(watch, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
  ck_assert_int_eq(support_wait(child), 0);
  assert_joined(0);
}
END_TEST

/* What the watching child calls first: a call that takes the mutex, or which cannot have it. */
enum first { FIRST_QSIZE, FIRST_CLOSE_PUT, FIRST_WITHOUT_MUTEX, FIRSTS };

struct watcher {
  enum first first;
  _Atomic int kept, let_go, ready, done;
};

static void *keep_mutex(void *arg) {
  struct watcher *watcher = arg;
  CHILD_MUST(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER) == 0);
  atomic_store(&watcher->kept, 1);
  support_until(&watcher->let_go);
  forkq__sender_unlock(&queue->feeder.sender);
  return NULL;
}

static void call_without_mutex(struct watcher *watcher) {
  pthread_t thread;
  CHILD_MUST(pthread_create(&thread, NULL, keep_mutex, watcher) == 0);
  support_until(&watcher->kept);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  atomic_store(&watcher->let_go, 1);
  CHILD_MUST(pthread_join(thread, NULL) == 0);
}

static void call_first(struct watcher *watcher) {
  if (watcher->first == FIRST_CLOSE_PUT) {
    CHILD_MUST(forkq_queue_close_put(queue) == 0);
    return;
  }
  if (watcher->first == FIRST_WITHOUT_MUTEX)
    call_without_mutex(watcher);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
}

static void watch_and_get(struct watcher *watcher, int fd) {
  support_end_after(60);
  call_first(watcher);
  while (readable(fd, 0))
    CHILD_MUST(get(0) == FORKQ_EMPTY);
  atomic_store(&watcher->ready, 1);
  CHILD_MUST(readable(fd, PATIENCE_MS));
  assert_got(7, 1);
  atomic_store(&watcher->done, 1);
}

static void fork_a_watcher(void *arg) {
  int fd = forkq_queue_fileno(queue);
  CHILD_MUST(fd >= 0);
  if (fork() == 0) {
    watch_and_get(arg, fd);
    _exit(0);
  }
}

/* The number of the descriptor is its parent's. Nobody else looks: the process that watched at first has
 * ended. */
START_TEST(a_child_that_goes_on_watching_finds_them_itself) {
  struct watcher *watcher = support_shared(sizeof *watcher);
  watcher->first = (enum first)_i;
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_eq(support_wait(support_fork(fork_a_watcher, watcher)), 0);
  support_until(&watcher->ready);
  support_kill_and_wait(pid);
  support_until(&watcher->done);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lost_tasks_waits");
  TCase *waits = tcase_create("waits");
  tcase_set_timeout(waits, 60);
  tcase_add_checked_fixture(waits, redeliver_beside_a_loop, queue_tear_down);
  tcase_add_test(waits, a_getter_that_sleeps_finds_them);
  tcase_add_test(waits, a_getter_that_waits_for_the_turn_gets_them);
  tcase_add_test(waits, also_one_that_waits_behind_a_stopped_one);
  tcase_add_test(waits, forkq_wait_finds_them);
  tcase_add_test(waits, a_descriptor_that_is_watched_becomes_readable);
  tcase_add_test(waits, a_get_on_a_loop_finds_them);
  tcase_add_test(waits, also_in_a_child_of_the_process_that_watches);
  tcase_add_loop_test(waits, a_child_that_goes_on_watching_finds_them_itself, 0, FIRSTS);
  suite_add_tcase(suite, waits);
  return support_main(suite);
}
