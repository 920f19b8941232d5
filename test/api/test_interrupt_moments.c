/* Interrupts that come at any moment, to threads that are busy: no item is lost, and no thread misses the
 * end. */
#include "queue_helpers.h"

#include <forkq.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
}

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

#define THREADS 8

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
  pthread_t threads[THREADS];
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  for (int round = 0; round < 50; round++) {
    atomic_store(&stop, 0);
    for (int i = 0; i < THREADS; i++)
      ck_assert_int_eq(pthread_create(&threads[i], NULL, get_until_stopped, NULL), 0);
    for (volatile int spins = round * 1000; spins > 0; spins--)
      ;
    atomic_store(&stop, 1);
    ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
    for (int i = 0; i < THREADS; i++)
      support_join(threads[i]);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("interrupt_moments");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 120);
  tcase_add_checked_fixture(all, set_up, queue_tear_down);
  tcase_add_test(all, a_storm_loses_nothing);
  tcase_add_test(all, no_thread_misses_the_end);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
