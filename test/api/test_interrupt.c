/* Interrupts: every call that can block ends, and each thread is told once. What an interrupt leaves alone is
 * in test_interrupt_limits.c, threads on their way into a call are in test_interrupt_moments.c, and what fork
 * and other processes make of it is in test_interrupt_processes.c. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <forkq.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ThreadSanitizer keeps a signal back until the thread makes a call that it knows. The thread may sleep in
 * such a call by then, for ever. */
#if defined(__SANITIZE_THREAD__)
#  define UNDER_TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define UNDER_TSAN 1
#  endif
#endif
#ifndef UNDER_TSAN
#  define UNDER_TSAN 0
#endif

#define PATIENCE_MS 60000
#define LARGE (100 * 1024)
#define MANY_THREADS 8

static char *large;

/* ---- the calls that block ------------------------------------------------------------------ */

static _Thread_local forkq_item_t items[4];
static _Thread_local size_t count;
static void *reserved;

static int get_forever(void) {
  return forkq_queue_get(queue, &items[0], -1);
}

static int get_timed(void) {
  return forkq_queue_get(queue, &items[0], PATIENCE_MS);
}

static int get_packed(void) {
  return forkq_queue_get_packed(queue, &items[0], -1);
}

static int get_borrowed(void) {
  return forkq_queue_get_borrowed(queue, &items[0], -1);
}

static int get_into(void) {
  char buffer[64];
  return forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, -1, NULL);
}

static int get_many(void) {
  return forkq_queue_get_many(queue, items, 4, -1, &count);
}

static int put_forever(void) {
  return forkq_queue_put_int(queue, 1, -1);
}

static int put_timed(void) {
  return forkq_queue_put_int(queue, 1, PATIENCE_MS);
}

static int put_large(void) {
  return forkq_queue_put_packed(queue, large, LARGE, -1);
}

static int put_many(void) {
  const msgpack_object objects[2] = { { .type = MSGPACK_OBJECT_NIL },
                                      { .type = MSGPACK_OBJECT_NIL } };
  return forkq_queue_put_many(queue, objects, 2, -1, &count);
}

static int commit(void) {
  return forkq_queue_commit(queue, reserved, LARGE, -1);
}

static int join(void) {
  return forkq_queue_join(queue, -1, NULL);
}

static int flush(void) {
  return forkq_queue_flush(queue, -1, NULL);
}

static int join_thread(void) {
  return forkq_queue_join_thread(queue, -1, NULL);
}

static int wait_for_queue(void) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  return forkq_wait(&entry, 1, -1);
}

static int wait_for_both(void) {
  int fds[2];
  if (pipe(fds) < 0)
    abort();
  forkq_wait_entry_t entries[] = { forkq_wait_on_fd(fds[0]), forkq_wait_on_queue(queue) };
  int r = forkq_wait(entries, 2, PATIENCE_MS);
  close(fds[0]);
  close(fds[1]);
  return r;
}

static int simple_get(void) {
  return forkq_simple_queue_get((forkq_simple_queue_t *)queue, &items[0]);
}

static int simple_put(void) {
  return forkq_simple_queue_put_packed((forkq_simple_queue_t *)queue, large, LARGE);
}

/* ---- the states in which they do ------------------------------------------------------------ */

static void be_empty(void) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static void spin(void) {
  const forkq_queue_options_t options = { .size = sizeof options,
                                          .maxsize = 1,
                                          .spin_us = FORKQ_SPIN_US_MAX };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

static void be_full(void) {
  ck_assert_int_eq(forkq_queue_create(&queue, 1), 0);
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
}

static void spin_full(void) {
  spin();
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
}

static void reserve_and_be_full(void) {
  be_full();
  ck_assert_int_eq(forkq_queue_reserve(queue, LARGE, &reserved), 0);
  memcpy(reserved, large, LARGE);
}

/* The feeder cannot send. */
static void fill_pipe(void) {
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(put_bin(LARGE, 0), 0);
  support_until_pipe_full(queue);
}

static void have_unsent(void) {
  be_empty();
  fill_pipe();
}

static void have_too_many_bytes(void) {
  const forkq_queue_options_t options = { .size = sizeof options,
                                          .outbox_max_bytes = 2 * LARGE };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  fill_pipe();
}

/* Another process seems to have it, so the feeder does not give up. */
static int kept;

static void close_with_unsent(void) {
  have_unsent();
  kept = dup(queue->channel.read_fd);
  ck_assert_int_ge(kept, 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
}

static void have_tasks(void) {
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
}

static void be_simple(void) {
  create_simple();
}

/* Some other thread has put a large one, of which a part is sent. */
static void *put_and_stay(void *arg) {
  (void)arg;
  return (void *)(intptr_t)simple_put();
}

static pthread_t stays;

static void be_simple_and_full(void) {
  be_simple();
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
}

static void be_simple_and_sending(void) {
  be_simple_and_full();
  ck_assert_int_eq(pthread_create(&stays, NULL, put_and_stay, NULL), 0);
  support_until_pipe_full(queue);
}

struct kind {
  const char *name;
  void (*prepare)(void);
  int (*call)(void);
  bool spins; /* for as long as a call may: the thread does not sleep */
};

static const struct kind kinds[] = {
  { "get", be_empty, get_forever, false },
  { "timed get", be_empty, get_timed, false },
  { "get_packed", be_empty, get_packed, false },
  { "get_borrowed", be_empty, get_borrowed, false },
  { "get_bytes_into", be_empty, get_into, false },
  { "get_many", be_empty, get_many, false },
  { "get that spins", spin, get_forever, true },
  { "put", be_full, put_forever, false },
  { "timed put", be_full, put_timed, false },
  { "large put", be_full, put_large, false },
  { "put_many", be_full, put_many, false },
  { "put, too many bytes", have_too_many_bytes, put_forever, false },
  { "put that spins", spin_full, put_forever, true },
  { "commit", reserve_and_be_full, commit, false },
  { "join", have_tasks, join, false },
  { "flush", have_unsent, flush, false },
  { "join_thread", close_with_unsent, join_thread, false },
  { "wait", be_empty, wait_for_queue, false },
  { "wait for more", be_empty, wait_for_both, false },
  { "simple get", be_simple, simple_get, false },
  { "simple put", be_simple_and_full, simple_put, false },
  { "simple put, another's turn", be_simple_and_sending, simple_put, false },
};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

static const struct kind *kind_of(int (*call)(void)) {
  const struct kind *kind = kinds;
  while (kind->call != call)
    kind++;
  return kind;
}

static void destroy_items(void) {
  for (size_t i = 0; i < sizeof items / sizeof items[0]; i++)
    forkq_item_destroy(&items[i]);
}

static void set_up(void) {
  large = malloc(LARGE);
  make_bin(large, LARGE);
  kept = -1;
  reserved = NULL;
  fds_before = support_open_fds();
}

static void end(void) {
  destroy_items();
  (void)forkq_queue_cancel_join_thread(queue);
  if (kept >= 0)
    close(kept);
  queue_tear_down();
  free(large);
}

/* ---- a thread in such a call ------------------------------------------------------------------ */

struct blocked {
  const struct kind *kind;
  pthread_t thread;
  _Atomic pid_t number;
  int result;
  bool interrupted; /* after it */
};

static bool is_interrupted(void) {
  return forkq__interrupted(&queue->channel.interrupts);
}

static void *call(void *arg) {
  struct blocked *blocked = arg;
  atomic_store(&blocked->number, gettid());
  blocked->result = blocked->kind->call();
  blocked->interrupted = is_interrupted();
  destroy_items();
  return NULL;
}

static void begin(struct blocked *blocked, const struct kind *kind) {
  *blocked = (struct blocked){ .kind = kind };
  ck_assert_int_eq(pthread_create(&blocked->thread, NULL, call, blocked), 0);
  while (atomic_load(&blocked->number) == 0)
    usleep(100);
}

static void begin_and_block(struct blocked *blocked, const struct kind *kind) {
  begin(blocked, kind);
  if (!kind->spins)
    support_until_thread_asleep(atomic_load(&blocked->number));
}

static void assert_told(struct blocked *blocked) {
  support_join(blocked->thread);
  ck_assert_msg(blocked->result == FORKQ_EINTERRUPTED, "%s: %s", blocked->kind->name,
                forkq_error_name(blocked->result));
  ck_assert_msg(!blocked->interrupted, "%s: told, and not noted", blocked->kind->name);
}

/* Where the test has a thread that sends, it is told as well. */
static void end_stays(void) {
  if (queue == NULL || stays == 0)
    return;
  ck_assert_ptr_eq(support_join(stays), (void *)(intptr_t)FORKQ_EINTERRUPTED);
  stays = 0;
}

START_TEST(a_blocked_call_ends) {
  struct blocked blocked;
  kinds[_i].prepare();
  begin_and_block(&blocked, &kinds[_i]);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  assert_told(&blocked);
  end_stays();
}
END_TEST

/* As if it came between the look at a flag and the call. */
START_TEST(the_next_call_ends) {
  kinds[_i].prepare();
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0); /* counts as one */
  ck_assert(is_interrupted());
  ck_assert_msg(kinds[_i].call() == FORKQ_EINTERRUPTED, "%s", kinds[_i].name);
  ck_assert(!is_interrupted());
  end_stays();
}
END_TEST

static void interrupt(int signo) {
  (void)signo;
  errno = EDOM;
  if (forkq_queue_interrupt(queue) != 0 || errno != EDOM)
    abort();
}

static void handle(int flags) {
  struct sigaction action = { .sa_handler = interrupt, .sa_flags = flags };
  ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

/* On the thread that is blocked. SA_RESTART: the kernel repeats the system call. */
START_TEST(a_handler_ends_its_own_call) {
  struct blocked blocked;
  handle(_i < KINDS ? 0 : SA_RESTART);
  kinds[_i % KINDS].prepare();
  begin_and_block(&blocked, &kinds[_i % KINDS]);
  ck_assert_int_eq(pthread_kill(blocked.thread, SIGUSR1), 0);
  assert_told(&blocked);
  end_stays();
}
END_TEST

/* The signal comes at any moment: before the call, in it, or when it is about to sleep. */
START_TEST(a_handler_comes_at_any_moment) {
  const struct kind *const at[] = { kind_of(get_forever), kind_of(put_forever),
                                    kind_of(wait_for_queue) };
  handle(_i % 2 == 0 ? 0 : SA_RESTART);
  for (int i = 0; i < 100; i++) {
    struct blocked blocked;
    const struct kind *kind = at[i % 3];
    kind->prepare();
    begin(&blocked, kind);
    for (volatile int spins = i * 50; spins > 0; spins--)
      ;
    ck_assert_int_eq(pthread_kill(blocked.thread, SIGUSR1), 0);
    assert_told(&blocked);
    if (i < 99)
      forkq_queue_destroy(queue);
  }
}
END_TEST

/* ---- several threads ---------------------------------------------------------------------------- */

/* Of the getters one sleeps on the pipe, and the others wait for the turn. */
START_TEST(all_blocked_threads_are_told) {
  struct blocked blocked[MANY_THREADS];
  int threads = kinds[_i].call == commit ? 1 : MANY_THREADS; /* of one reservation */
  kinds[_i].prepare();
  for (int i = 0; i < threads; i++) {
    bool waits = kinds[_i].prepare == be_empty && i % 3 == 2;
    begin_and_block(&blocked[i], waits ? kind_of(wait_for_queue) : &kinds[_i]);
  }
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  for (int i = 0; i < threads; i++)
    assert_told(&blocked[i]);
  end_stays();
}
END_TEST

/* Each thread has its own: that one was told does not take it from another. */
START_TEST(each_thread_is_told_once) {
  struct blocked blocked;
  be_empty();
  begin_and_block(&blocked, kind_of(get_forever));
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  assert_told(&blocked);
  ck_assert_int_eq(get_forever(), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(get(10), FORKQ_TIMEDOUT);
}
END_TEST

#define ROUNDS 20

static _Atomic uint32_t told_often;

static void *be_told_often(void *arg) {
  struct blocked *blocked = arg;
  atomic_store(&blocked->number, gettid());
  for (int i = 0; i < ROUNDS; i++) {
    support_assert(blocked->kind->call() == FORKQ_EINTERRUPTED);
    atomic_fetch_add(&told_often, 1);
  }
  destroy_items();
  return NULL;
}

/* One is told, and polls again, while another has yet to see it. The event calms down. */
START_TEST(after_it_nobody_polls_in_vain) {
  struct blocked blocked[MANY_THREADS];
  be_empty();
  atomic_store(&told_often, 0);
  for (int i = 0; i < MANY_THREADS; i++) {
    blocked[i] =
        (struct blocked){ .kind = kind_of(i % 2 == 0 ? get_forever : wait_for_queue) };
    ck_assert_int_eq(pthread_create(&blocked[i].thread, NULL, be_told_often, &blocked[i]),
                     0);
    while (atomic_load(&blocked[i].number) == 0)
      usleep(100);
  }
  for (uint32_t round = 1; round <= ROUNDS; round++) {
    for (int i = 0; i < MANY_THREADS; i++)
      support_until_thread_asleep(atomic_load(&blocked[i].number));
    ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
    support_until_equal(&told_often, round * MANY_THREADS);
  }
  for (int i = 0; i < MANY_THREADS; i++)
    support_join(blocked[i].thread);
  if (is_interrupted())
    ck_assert_int_eq(get_forever(), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(get(5), FORKQ_TIMEDOUT); /* lowers it, if it is raised */
  struct pollfd event = { .fd = forkq__interrupts_fd(&queue->channel.interrupts),
                          .events = POLLIN };
  ck_assert_int_ge(event.fd, 0);
  ck_assert_int_eq(poll(&event, 1, 0), 0);
  ck_assert_uint_eq(atomic_load(&queue->channel.interrupts.pollers), 0);
  assert_nothing_held();
}
END_TEST

static _Atomic int polls;

int __real_forkq__os_poll_cancellable(struct pollfd *fds, nfds_t fd_count,
                                      int64_t deadline, void (*leave)(void *arg),
                                      void *arg);
int __wrap_forkq__os_poll_cancellable(struct pollfd *fds, nfds_t fd_count,
                                      int64_t deadline, void (*leave)(void *arg),
                                      void *arg);
int __wrap_forkq__os_poll_cancellable(struct pollfd *fds, nfds_t fd_count,
                                      int64_t deadline, void (*leave)(void *arg),
                                      void *arg) {
  atomic_fetch_add(&polls, 1);
  return __real_forkq__os_poll_cancellable(fds, fd_count, deadline, leave, arg);
}

#define WITH_IT_RAISED_MS 50

/* It is raised for another thread, which does not come to see it. */
START_TEST(who_was_told_pauses_while_the_event_is_raised_for_others) {
  be_empty();
  struct forkq__interrupts *interrupts = &queue->channel.interrupts;
  forkq__queue_equip(queue);
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  forkq__interrupts_begin_poll(interrupts);
  forkq__os_event_raise(forkq__interrupts_fd(interrupts));
  atomic_store(&polls, 0);
  if (_i == 0)
    ck_assert_int_eq(get(WITH_IT_RAISED_MS), FORKQ_TIMEDOUT);
  else
    ck_assert_int_eq(forkq_wait(&entry, 1, WITH_IT_RAISED_MS), 0);
  ck_assert_int_lt(atomic_load(&polls), 4 * WITH_IT_RAISED_MS);
  forkq__interrupts_end_poll(interrupts, true);
}
END_TEST

/* An interrupt that comes when a thread has stopped polling and is about to lower the event. */
static bool interrupt_late;

void __real_forkq__os_event_lower(int fd);
void __wrap_forkq__os_event_lower(int fd);
void __wrap_forkq__os_event_lower(int fd) {
  if (interrupt_late) {
    interrupt_late = false;
    ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  }
  __real_forkq__os_event_lower(fd);
}

START_TEST(the_event_is_raised_again_for_an_interrupt_that_it_would_hide) {
  be_empty();
  struct forkq__interrupts *interrupts = &queue->channel.interrupts;
  forkq__queue_equip(queue);
  struct pollfd event = { .fd = forkq__interrupts_fd(interrupts), .events = POLLIN };
  for (int late = 0; late < 2; late++) {
    interrupt_late = late;
    forkq__interrupts_begin_poll(interrupts);
    forkq__os_event_raise(event.fd);
    forkq__interrupts_end_poll(interrupts, true);
    ck_assert_int_eq(poll(&event, 1, 0), late);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("interrupt");
  TCase *blocked = tcase_create("blocked");
  tcase_set_timeout(blocked, 60);
  tcase_add_checked_fixture(blocked, set_up, end);
  tcase_add_loop_test(blocked, a_blocked_call_ends, 0, KINDS);
  tcase_add_loop_test(blocked, the_next_call_ends, 0, KINDS);
  tcase_add_loop_test(blocked, a_handler_ends_its_own_call, 0,
                      UNDER_TSAN ? 0 : 2 * KINDS);
  tcase_add_loop_test(blocked, a_handler_comes_at_any_moment, 0, UNDER_TSAN ? 0 : 2);
  tcase_add_loop_test(blocked, all_blocked_threads_are_told, 0, KINDS);
  suite_add_tcase(suite, blocked);
  TCase *others = tcase_create("others");
  tcase_set_timeout(others, 120);
  tcase_add_checked_fixture(others, set_up, end);
  tcase_add_test(others, each_thread_is_told_once);
  tcase_add_test(others, after_it_nobody_polls_in_vain);
  tcase_add_loop_test(others, who_was_told_pauses_while_the_event_is_raised_for_others, 0,
                      2);
  tcase_add_test(others, the_event_is_raised_again_for_an_interrupt_that_it_would_hide);
  suite_add_tcase(suite, others);
  return support_main(suite);
}
