/* Interrupts: every call that can block ends, each thread is told once, and nothing is lost by it. What
 * fork and other processes make of it is in test_interrupt_processes.c. */
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

/* ---- what is not interrupted -------------------------------------------------------------------- */

START_TEST(a_call_that_need_not_wait_goes_on) {
  forkq_wait_entry_t entry;
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  entry = forkq_wait_on_queue(queue);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  until_sent(queue);
  ck_assert_int_eq(forkq_queue_flush(queue, -1, NULL), 0);
  ck_assert_int_eq(forkq_wait(&entry, 1, -1), 1);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(get(-1), 2);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(put(3, -1), 0);
  ck_assert_int_eq(get(-1), 3);
}
END_TEST

START_TEST(a_close_and_a_shutdown_come_first) {
  be_empty();
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(put(1, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(get(-1), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
}
END_TEST

START_TEST(of_two_queues_one_is_interrupted) {
  forkq_queue_t *other;
  be_empty();
  ck_assert_int_eq(forkq_queue_create(&other, 0), 0);
  forkq_wait_entry_t both[] = { forkq_wait_on_queue(queue), forkq_wait_on_queue(other) };
  ck_assert_int_eq(forkq_queue_interrupt(other), 0);
  ck_assert_int_eq(get(5), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_wait(both, 2, -1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(forkq_wait(both, 2, 5), 0);
  ck_assert_int_eq(get_int(other, 5), FORKQ_TIMEDOUT);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(without_memory_it_is_told_once_more) {
  support_heap_install();
  be_empty();
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  support_heap_fail_at(1, true);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED); /* once more */
  ck_assert_int_eq(get(5), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_interrupt(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_interrupt(NULL), FORKQ_ENULL);
}
END_TEST

/* ---- a storm, while items flow ----------------------------------------------------------------- */

#define EACH 3000
#define PAIRS 3

static _Atomic uint32_t arrived[PAIRS * EACH];
static _Atomic int at_work;
static _Atomic uint64_t told;

static void *produce(void *arg) {
  int64_t first = (intptr_t)arg * EACH;
  for (int64_t n = first; n < first + EACH; n++) {
    int r;
    while ((r = put(n, -1)) == FORKQ_EINTERRUPTED)
      atomic_fetch_add(&told, 1);
    support_assert(r == 0);
  }
  return NULL;
}

/* Some get at once what is there, and some wait before they get. */
static int consume_some(intptr_t number, forkq_item_t some[4], size_t *ret_got) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  *ret_got = 0;
  if (number % 3 == 1)
    return forkq_queue_get_many(queue, some, 4, -1, ret_got);
  if (number % 3 == 2) {
    int r = forkq_wait(&entry, 1, -1);
    if (r < 0)
      return r;
  }
  *ret_got = 1;
  return forkq_queue_get(queue, &some[0], number % 3 == 2 ? 0 : -1);
}

static void put_nil(void) {
  int r;
  while ((r = forkq_queue_put_nil(queue, -1)) == FORKQ_EINTERRUPTED)
    ;
  support_assert(r == 0);
}

/* Until a nil comes. */
static void *consume(void *arg) {
  forkq_item_t some[4] = { FORKQ_ITEM_INIT };
  bool over = false;
  while (!over) {
    size_t got;
    int r = consume_some((intptr_t)arg, some, &got);
    support_assert(r == 0 || r == FORKQ_EINTERRUPTED || r == FORKQ_EMPTY);
    atomic_fetch_add(&told, r == FORKQ_EINTERRUPTED);
    for (size_t i = 0; r == 0 && i < got; i++) {
      if (some[i].object.type == MSGPACK_OBJECT_NIL && over)
        put_nil(); /* for another consumer */
      else if (some[i].object.type == MSGPACK_OBJECT_NIL)
        over = true;
      else
        atomic_fetch_add(&arrived[some[i].object.via.u64], 1);
    }
  }
  for (int i = 0; i < 4; i++)
    forkq_item_destroy(&some[i]);
  return NULL;
}

static void *interrupt_often(void *arg) {
  (void)arg;
  while (atomic_load(&at_work)) {
    support_assert(forkq_queue_interrupt(queue) == 0);
    usleep(50);
  }
  return NULL;
}

START_TEST(a_storm_loses_nothing) {
  pthread_t producers[PAIRS], consumers[PAIRS], storm;
  ck_assert_int_eq(forkq_queue_create(&queue, 4), 0);
  memset((void *)arrived, 0, sizeof arrived);
  atomic_store(&told, 0);
  atomic_store(&at_work, 1);
  for (intptr_t i = 0; i < PAIRS; i++) {
    ck_assert_int_eq(pthread_create(&consumers[i], NULL, consume, (void *)i), 0);
    ck_assert_int_eq(pthread_create(&producers[i], NULL, produce, (void *)i), 0);
  }
  ck_assert_int_eq(pthread_create(&storm, NULL, interrupt_often, NULL), 0);
  for (int i = 0; i < PAIRS; i++)
    pthread_join(producers[i], NULL);
  for (int i = 0; i < PAIRS; i++)
    put_nil();
  for (int i = 0; i < PAIRS; i++)
    pthread_join(consumers[i], NULL);
  atomic_store(&at_work, 0);
  pthread_join(storm, NULL);
  for (int i = 0; i < PAIRS * EACH; i++)
    support_assert(atomic_load(&arrived[i]) == 1);
  ck_assert_uint_gt(atomic_load(&told), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  assert_nothing_held();
}
END_TEST

/* ---- a loop that ends by a flag -------------------------------------------------------------- */

static _Atomic int stop;

static void *get_until_stopped(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    int64_t r = get(-1);
    support_assert(r == FORKQ_EINTERRUPTED || r == 7);
  }
  return NULL;
}

/* Each thread may be anywhere between its look at the flag and its sleep. One that missed the interrupt
 * would sleep for ever, or until it looks up by itself, which the getters that wait for the turn do rarely. */
START_TEST(no_thread_misses_the_end) {
  pthread_t threads[MANY_THREADS];
  be_empty();
  for (int round = 0; round < 50; round++) {
    atomic_store(&stop, 0);
    for (int i = 0; i < MANY_THREADS; i++)
      ck_assert_int_eq(pthread_create(&threads[i], NULL, get_until_stopped, NULL), 0);
    for (volatile int spins = round * 1000; spins > 0; spins--)
      ;
    atomic_store(&stop, 1);
    ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
    for (int i = 0; i < MANY_THREADS; i++)
      support_join(threads[i]);
  }
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
  tcase_add_test(others, the_event_is_raised_again_for_an_interrupt_that_it_would_hide);
  tcase_add_test(others, a_call_that_need_not_wait_goes_on);
  tcase_add_test(others, a_close_and_a_shutdown_come_first);
  tcase_add_test(others, of_two_queues_one_is_interrupted);
  tcase_add_test(others, without_memory_it_is_told_once_more);
  tcase_add_test(others, a_storm_loses_nothing);
  tcase_add_test(others, no_thread_misses_the_end);
  suite_add_tcase(suite, others);
  return support_main(suite);
}
