/* Threads put and get on a queue of a server while their connections are cut at random bytes: each item comes once.
 *
 * FORKQ_REDIS_CUTS=N: so many cuts, in each test. FORKQ_REDIS_SEED=N: other ones. */
#define _GNU_SOURCE
#include "proxy.h"
#include "redis_queue.h"

#include <pthread.h>
#include <unistd.h>

#define CUTS 300
#define HANDLES 2
#define THREADS 4 /* that put, and as many that get */
#define ITEMS 100000
#define LONG_MS 60000
#define QUERY "queue=jobs&maxsize=8&joinable=1"

static forkq_queue_t *handles[HANDLES];
static _Atomic uint8_t got[THREADS][ITEMS];
static uint8_t results[THREADS][ITEMS]; /* of puts */
static uint32_t counts[THREADS];        /* items that a thread has put, or tried to */
static _Atomic int end_putting, end_getting;
static uint64_t seed;

enum { NOT_PUT, IS_PUT, MAY_BE };

/* ---- with time enough ----------------------------------------------------------------------- */

static void *put_all(void *arg) {
  size_t self = (size_t)(uintptr_t)arg;
  while (!atomic_load(&end_putting)) {
    uint32_t number = counts[self]++;
    support_assert(number < ITEMS);
    support_assert(
        put_int(handles[self % HANDLES], (int64_t)(self * ITEMS + number), LONG_MS) == 0);
    results[self][number] = IS_PUT;
  }
  return NULL;
}

static void done(forkq_queue_t *with, const forkq_item_t *item) {
  int r;
  while ((r = forkq_queue_task_done_item(with, item)) == FORKQ_ECONNLOST)
    ;
  support_assert(r == 0);
}

static void *get_all(void *arg) {
  forkq_queue_t *with = handles[(size_t)(uintptr_t)arg % HANDLES];
  forkq_item_t items[3] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  while (!atomic_load(&end_getting)) {
    size_t count = 0;
    int r = forkq_queue_get_many(with, items, 3, 50, &count);
    support_assert(r == 0 || r == FORKQ_TIMEDOUT || r == FORKQ_ECONNLOST);
    for (size_t i = 0; i < count; i++) {
      uint64_t value = items[i].object.via.u64;
      support_assert(items[i].redelivered == 0);
      support_assert(atomic_fetch_add(&got[value / ITEMS][value % ITEMS], 1) == 0);
      done(with, &items[i]);
      forkq_item_destroy(&items[i]);
    }
  }
  return NULL;
}

static void begin(pthread_t threads[THREADS], void *(*fn)(void *arg)) {
  for (size_t i = 0; i < THREADS; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, fn, (void *)i), 0);
}

static void end(pthread_t threads[THREADS]) {
  for (size_t i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
}

static void until_cuts(uint64_t wanted) {
  int64_t latest = support_now_ms() + 200000;
  while (proxy_cuts() < wanted) {
    ck_assert_int_lt(support_now_ms(), latest);
    usleep(1000);
  }
}

static void open_handles(int answer_ms) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  options.answer_ms = answer_ms;
  proxy_down(false);
  for (int i = 0; i < HANDLES; i++)
    ck_assert_int_eq(forkq_redis_open(&handles[i], proxy_url(QUERY), &options), 0);
  seed = asked_for("FORKQ_REDIS_SEED", 1);
}

static void close_handles(void) {
  proxy_random(0, 0, 0);
  for (int i = 0; i < HANDLES; i++)
    forkq_queue_destroy(handles[i]);
}

START_TEST(random_cuts) {
  pthread_t putters[THREADS], getters[THREADS];
  open_handles(0);
  proxy_random(seed, 30000, 10000);
  begin(putters, put_all);
  begin(getters, get_all);
  until_cuts(proxy_cuts() + asked_for("FORKQ_REDIS_CUTS", CUTS));
  atomic_store(&end_putting, 1);
  end(putters);
  proxy_random(0, 0, 0);
  ck_assert_int_eq(forkq_queue_join(handles[0], LONG_MS, NULL), 0);
  atomic_store(&end_getting, 1);
  end(getters);
  for (int i = 0; i < THREADS; i++)
    for (uint32_t k = 0; k < counts[i]; k++)
      ck_assert_msg(got[i][k] == 1, "item %u of %d came %d times", k, i, got[i][k]);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  close_handles();
}
END_TEST

/* ---- with little time ----------------------------------------------------------------------- */

static uint8_t judge(int r) {
  support_assert(r == 0 || r == FORKQ_FULL || r == FORKQ_TIMEDOUT ||
                 r == FORKQ_EUNKNOWN || r == FORKQ_ECONNLOST);
  return r == 0 ? IS_PUT : r == FORKQ_EUNKNOWN ? MAY_BE : NOT_PUT;
}

static void *put_in_haste(void *arg) {
  size_t self = (size_t)(uintptr_t)arg;
  uint64_t random = seed + self;
  while (!atomic_load(&end_putting)) {
    uint32_t number = counts[self]++;
    support_assert(number < ITEMS);
    results[self][number] =
        judge(put_int(handles[self % HANDLES], (int64_t)(self * ITEMS + number),
                      (int)support_random_below(&random, 12)));
  }
  return NULL;
}

/* One getter, which sees each thread's items in their order: one that was not known does not come after the next. */
static void *get_in_order(void *arg) {
  forkq_queue_t *direct = arg;
  int64_t last[THREADS] = { -1, -1, -1, -1 };
  for (;;) {
    int64_t value = get_int(direct, 50);
    /* On a machine that others use, the answer may not come in that time. */
    if (value == FORKQ_TIMEDOUT || value == FORKQ_ECONNLOST) {
      if (atomic_load(&end_getting))
        return NULL;
      continue;
    }
    if (value < 0)
      ck_abort_msg("%s: %s", forkq_error_name((int)value), forkq_redis_error());
    if (value % ITEMS <= last[value / ITEMS])
      ck_abort_msg("item %d of %d came after item %d", (int)(value % ITEMS),
                   (int)(value / ITEMS), (int)last[value / ITEMS]);
    last[value / ITEMS] = value % ITEMS;
    atomic_fetch_add(&got[value / ITEMS][value % ITEMS], 1);
    support_assert(forkq_queue_task_done(direct) == 0);
  }
}

START_TEST(random_cuts_and_little_time) {
  pthread_t putters[THREADS], getter;
  open_handles(30);
  forkq_queue_t *direct = open_other(QUERY);
  uint64_t wanted = proxy_cuts() + asked_for("FORKQ_REDIS_CUTS", CUTS);
  uint64_t random = seed;
  proxy_random(seed, 30000, 10000);
  begin(putters, put_in_haste);
  ck_assert_int_eq(pthread_create(&getter, NULL, get_in_order, direct), 0);
  while (proxy_cuts() < wanted) {
    usleep(20000);
    proxy_down(true);
    usleep(support_random_below(&random, 30000));
    proxy_down(false);
  }
  atomic_store(&end_putting, 1);
  end(putters);
  close_handles(); /* what was not known is settled */
  atomic_store(&end_getting, 1);
  pthread_join(getter, NULL);
  forkq_queue_destroy(direct);
  for (int i = 0; i < THREADS; i++)
    for (uint32_t k = 0; k < counts[i]; k++)
      ck_assert_msg(results[i][k] == MAY_BE || got[i][k] == results[i][k],
                    "item %u of %d: %d, came %d times", k, i, results[i][k], got[i][k]);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_random");
  TCase *tcase = tcase_create("redis_random");
  tcase_add_unchecked_fixture(tcase, proxy_start, proxy_stop);
  tcase_add_checked_fixture(tcase, server_clear, NULL);
  tcase_set_timeout(tcase, 250);
  tcase_add_test(tcase, random_cuts);
  tcase_add_test(tcase, random_cuts_and_little_time);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
