/* A thread that is cancelled in a call, and what the tests of it have in common. */
#define _GNU_SOURCE
#include "cancel_helpers.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
}

void create(int64_t maxsize) {
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

void create_joinable(void) {
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
}

struct forkq__channel_shared *channel(void) {
  return &queue->segment->channel;
}

struct forkq__slots_shared *slots(void) {
  return &queue->segment->slots;
}

/* ---- a thread that is cancelled ---------------------------------------------------------- */

static void *run_victim(void *arg) {
  struct victim *victim = arg;
  atomic_store(&victim->tid, gettid());
  victim->result = victim->call(victim);
  atomic_store(&victim->returned, 1);
  return NULL;
}

void start(struct victim *victim, int (*call)(struct victim *victim)) {
  memset(victim, 0, sizeof *victim);
  victim->call = call;
  ck_assert_int_eq(pthread_create(&victim->thread, NULL, run_victim, victim), 0);
  support_until(&victim->tid);
}

void until_asleep(struct victim *victim) {
  support_until_thread_asleep(atomic_load(&victim->tid));
}

/* Whether it was cancelled before its call returned. */
bool join(struct victim *victim) {
  bool cancelled = support_join(victim->thread) == PTHREAD_CANCELED;
  ck_assert_int_eq(atomic_load(&victim->returned), !cancelled);
  for (int i = 0; i < 2; i++)
    forkq_item_destroy(&victim->items[i]);
  return cancelled;
}

void cancel(struct victim *victim) {
  ck_assert_int_eq(pthread_cancel(victim->thread), 0);
}

void assert_ends(struct victim *victim) {
  cancel(victim);
  ck_assert(join(victim));
}

/* A time that is another each time, and no matter which. */
void pass_some_time(uint64_t *seed, uint32_t most) {
  for (uint32_t n = support_random_below(seed, most); n > 0; n--)
    sched_yield();
}

int put_one(struct victim *victim) {
  (void)victim;
  return put(1, -1);
}

int pack_bin(msgpack_packer *packer, size_t size) {
  static char body[100000];
  msgpack_pack_bin(packer, size);
  return msgpack_pack_bin_body(packer, body, size);
}

int pack_small(msgpack_packer *packer, void *arg) {
  (void)arg;
  return pack_bin(packer, 100);
}

/* ---- a thread that does not want to be cancelled ----------------------------------------- */

static int (*protected_call)(struct victim *victim);

/* Its own later point is where it ends. */
static int call_protected(struct victim *victim) {
  int state, old;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  victim->result = protected_call(victim);
  pthread_testcancel();
  pthread_setcancelstate(state, &old);
  support_assert(old == PTHREAD_CANCEL_DISABLE);
  atomic_store(&victim->returned, 1);
  pthread_testcancel();
  return 0;
}

void start_protected(struct victim *victim, int (*call)(struct victim *victim)) {
  protected_call = call;
  start(victim, call_protected);
  until_asleep(victim);
}

void assert_ends_afterwards(struct victim *victim) {
  ck_assert_ptr_eq(support_join(victim->thread), PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&victim->returned), 1);
  ck_assert_int_eq(victim->result, 0);
  for (int i = 0; i < 2; i++)
    forkq_item_destroy(&victim->items[i]);
}

/* ---- functions of the program's that are cancellation points ----------------------------- */

_Atomic int logged;

static void log_and_test(forkq_log_level_t level, const char *message, void *arg) {
  (void)level;
  (void)message;
  (void)arg;
  atomic_fetch_add(&logged, 1);
  pthread_testcancel(); /* as any printf is */
}

TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}

int cancel_main(Suite *suite) {
  support_heap_install();
  forkq_log_set(log_and_test, NULL);
  return support_main(suite);
}
