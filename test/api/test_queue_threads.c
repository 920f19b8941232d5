/* One process, many threads on one queue: the part that ThreadSanitizer can judge. */
#include "support.h"

#include <check.h>
#include <forkq.h>
#include <stdlib.h>
#include <uv.h>

#define THREADS 4

/* Messages of each thread, or what FORKQ_TEST_EACH says, as a checker may be very slow. */
#define EACH 20000
static uint64_t each = EACH;

static forkq_queue_t *queue;
static _Atomic uint64_t received;
static _Atomic uint64_t sum;

static int put(uint64_t value, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = value;
  return forkq_queue_put(queue, &object, timeout_ms);
}

static void producer(void *arg) {
  uint64_t base = (uint64_t)(uintptr_t)arg * each;
  for (uint64_t i = 0; i < each; i++)
    ck_assert_int_eq(put(base + i, -1), 0);
}

/* Checks the order of each producer's items. */
static void consumer(void *arg) {
  (void)arg;
  uint64_t next[THREADS] = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (;;) {
    ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
    if (item.object.type == MSGPACK_OBJECT_NIL)
      break;
    uint64_t value = item.object.via.u64;
    ck_assert_uint_ge(value % each, next[value / each]);
    next[value / each] = value % each + 1;
    atomic_fetch_add(&received, 1);
    atomic_fetch_add(&sum, value);
  }
  forkq_item_destroy(&item);
}

static void set_up(void) {
  atomic_store(&received, 0);
  atomic_store(&sum, 0);
}

static void run(int64_t maxsize) {
  uv_thread_t producers[THREADS], consumers[THREADS];
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
  for (uintptr_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(uv_thread_create(&consumers[i], consumer, NULL), 0);
    ck_assert_int_eq(uv_thread_create(&producers[i], producer, (void *)i), 0);
  }
  for (int i = 0; i < THREADS; i++)
    uv_thread_join(&producers[i]);
  for (int i = 0; i < THREADS; i++)
    ck_assert_int_eq(forkq_queue_put_packed(queue, "\xc0", 1, -1), 0);
  for (int i = 0; i < THREADS; i++)
    uv_thread_join(&consumers[i]);
  uint64_t n = THREADS * each;
  ck_assert_uint_eq(atomic_load(&received), n);
  ck_assert_uint_eq(atomic_load(&sum), n * (n - 1) / 2);
  forkq_queue_destroy(queue);
}

START_TEST(unbounded) {
  run(0);
}
END_TEST

START_TEST(bounded) {
  run(100);
}
END_TEST

START_TEST(one_slot) {
  run(1);
}
END_TEST

static void asker(void *arg) {
  (void)arg;
  while (atomic_load(&received) < 1000) {
    ck_assert_int_ge(forkq_queue_qsize(queue), 0);
    ck_assert_int_ge(forkq_queue_empty(queue), 0);
    ck_assert_int_ge(forkq_queue_full(queue), 0);
  }
}

START_TEST(others_ask_meanwhile) {
  uv_thread_t thread;
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_create(&queue, 3), 0);
  ck_assert_int_eq(uv_thread_create(&thread, asker, NULL), 0);
  while (atomic_load(&received) < 1000) {
    ck_assert_int_eq(put(1, -1), 0);
    ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
    atomic_fetch_add(&received, 1);
  }
  uv_thread_join(&thread);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}
END_TEST

static void get_until_closed(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  while ((r = forkq_queue_get(queue, &item, -1)) == 0)
    ;
  ck_assert_int_eq(r, FORKQ_ECLOSED);
  forkq_item_destroy(&item);
}

static void put_until_closed(void *arg) {
  (void)arg;
  int r;
  while ((r = put(1, -1)) == 0)
    atomic_fetch_add(&received, 1);
  ck_assert_int_eq(r, FORKQ_ECLOSED);
}

START_TEST(closed_in_the_middle) {
  for (int round = 0; round < 20; round++) {
    uv_thread_t getters[2], putters[2];
    atomic_store(&received, 0);
    ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
    for (int i = 0; i < 2; i++) {
      uv_thread_create(&getters[i], get_until_closed, NULL);
      uv_thread_create(&putters[i], put_until_closed, NULL);
    }
    while (atomic_load(&received) < 100)
      ;
    forkq_queue_close(queue);
    for (int i = 0; i < 2; i++) {
      uv_thread_join(&getters[i]);
      uv_thread_join(&putters[i]);
    }
    ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
    forkq_queue_destroy(queue);
  }
}
END_TEST

int main(void) {
  const char *fewer = getenv("FORKQ_TEST_EACH");
  if (fewer != NULL)
    each = strtoull(fewer, NULL, 10);
  Suite *suite = suite_create("queue_threads");
  TCase *tcase = tcase_create("threads");
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up, NULL);
  tcase_add_test(tcase, unbounded);
  tcase_add_test(tcase, bounded);
  tcase_add_test(tcase, one_slot);
  tcase_add_test(tcase, others_ask_meanwhile);
  tcase_add_test(tcase, closed_in_the_middle);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
