/* Processes that put and get on a queue of a server while clients are killed, or the server is killed, restarted or
 * stopped: no item is lost, and none is done twice.
 *
 * FORKQ_REDIS_KILLS=N: so many kills of clients; one in 10 as many of the server. FORKQ_REDIS_SEED=N: other ones. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 40
#define PUTTERS 3
#define GETTERS 3
#define ITEMS 200000 /* of one putter */
#define LONG_MS 60000

#define SHORT_LEASE "queue=jobs&maxsize=16&joinable=1&lease=600"
#define LONG_LEASE "queue=jobs&maxsize=16&joinable=1&lease=60000"

/* What is known of an item. The processes write it down, and the test adds it up. */
struct account {
  _Atomic uint8_t put;          /* the call has returned 0 */
  _Atomic uint8_t fresh, again; /* how often it was got, with redelivered 0 and above */
  _Atomic uint8_t done;
  uint8_t maybe; /* its getter was killed while it said that it is done */
};

struct shared {
  _Atomic int end_putting, end_getting;
  _Atomic uint32_t next[PUTTERS];    /* items that the putter has begun to put */
  _Atomic uint32_t marking[GETTERS]; /* the item that the getter says to be done, and 1 */
  _Atomic uint32_t lost_leases;
  struct account accounts[PUTTERS][ITEMS];
};

static struct shared *shared;
static const char *query;
static int answer_ms;
static uint64_t seed;
static pid_t workers[PUTTERS + GETTERS];

static struct account *account_of(uint32_t value) {
  return &shared->accounts[value / ITEMS][value % ITEMS];
}

/* ---- the workers ---------------------------------------------------------------------------- */

static forkq_queue_t *open_own(void) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  forkq_queue_t *own = NULL;
  options.answer_ms = answer_ms;
  for (;;) {
    int r = forkq_redis_open(&own, server_url(query), &options);
    if (r == 0)
      return own;
    usleep(5000); /* the server is away */
  }
}

static void must_be(int r, int should) {
  if (r != should)
    fprintf(stderr, "%s: %s\n", forkq_error_name(r), forkq_redis_error());
  CHILD_MUST(r == should);
}

static void put_items(void *arg) {
  uint32_t putter = (uint32_t)(uintptr_t)arg;
  forkq_queue_t *own = open_own();
  while (!atomic_load(&shared->end_putting)) {
    uint32_t number = atomic_fetch_add(&shared->next[putter], 1);
    CHILD_MUST(number < ITEMS);
    uint32_t value = putter * ITEMS + number;
    must_be(put_int(own, value, LONG_MS), 0);
    atomic_store(&account_of(value)->put, 1);
  }
  forkq_queue_destroy(own);
}

static void say_done(forkq_queue_t *own, uint32_t getter, const forkq_item_t *got) {
  uint32_t value = (uint32_t)got->object.via.u64;
  atomic_store(&shared->marking[getter], value + 1);
  int r;
  do
    r = forkq_queue_task_done_item(own, got);
  while (r == FORKQ_ECONNLOST || r == FORKQ_ESERVER); /* it is loading */
  if (r != FORKQ_ELEASE)
    must_be(r, 0);
  if (r == 0)
    atomic_fetch_add(&account_of(value)->done, 1);
  else
    atomic_fetch_add(&shared->lost_leases, 1);
  atomic_store(&shared->marking[getter], 0);
}

static void get_items(void *arg) {
  uint32_t getter = (uint32_t)(uintptr_t)arg;
  uint64_t random = seed + (uint64_t)getpid();
  forkq_queue_t *own = open_own();
  forkq_item_t items[4] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT,
                            FORKQ_ITEM_INIT };
  while (!atomic_load(&shared->end_getting)) {
    size_t count = 0;
    int r = forkq_queue_get_many(own, items, 1 + support_random_below(&random, 4), 50,
                                 &count);
    if (r != FORKQ_TIMEDOUT && r != FORKQ_ECONNLOST && r != FORKQ_ESERVER)
      must_be(r, 0);
    for (size_t i = 0; r == 0 && i < count; i++) {
      struct account *account = account_of((uint32_t)items[i].object.via.u64);
      atomic_fetch_add(items[i].redelivered > 0 ? &account->again : &account->fresh, 1);
    }
    for (size_t i = 0; r == 0 && i < count; i++) {
      if (support_random_below(&random, 8) == 0)
        usleep(support_random_below(&random, 3000));
      say_done(own, getter, &items[i]);
      forkq_item_destroy(&items[i]);
    }
  }
  forkq_queue_destroy(own);
}

static void begin_worker(int worker) {
  workers[worker] = worker < PUTTERS
                        ? support_fork(put_items, (void *)(uintptr_t)worker)
                        : support_fork(get_items, (void *)(uintptr_t)(worker - PUTTERS));
}

/* ---- what happens to them ------------------------------------------------------------------- */

static void kill_client(void) {
  int worker = (int)support_random_below(&seed, PUTTERS + GETTERS);
  usleep(support_random_below(&seed, 30000));
  support_kill_and_wait(workers[worker]);
  if (worker >= PUTTERS) {
    uint32_t marking = atomic_exchange(&shared->marking[worker - PUTTERS], 0);
    if (marking > 0)
      account_of(marking - 1)->maybe = 1;
  }
  begin_worker(worker);
}

static const char *const durable[] = { "--appendonly", "yes", "--appendfsync", "always",
                                       NULL };

static void kill_server(void) {
  usleep(50000 + support_random_below(&seed, 100000));
  server_kill();
  server_mend_log();
  server_start(durable);
}

static void stop_server(void) {
  usleep(50000 + support_random_below(&seed, 100000));
  ck_assert_int_eq(kill(server_pid(), SIGSTOP), 0);
  usleep(700000);
  ck_assert_int_eq(kill(server_pid(), SIGCONT), 0);
}

/* ---- what must be so ------------------------------------------------------------------------ */

static void check(uint32_t value, bool redelivers) {
  const struct account *a = account_of(value);
  ck_assert_msg(!a->put || a->done + a->maybe >= 1, "item %u is lost", value);
  ck_assert_msg(a->done <= 1, "item %u was done %d times", value, a->done);
  ck_assert_msg(a->fresh <= 1, "item %u came %d times as a new one", value, a->fresh);
  ck_assert_msg(redelivers || a->again == 0, "item %u was redelivered", value);
}

static void end_workers(int from, int to) {
  for (int i = from; i < to; i++)
    ck_assert_int_eq(support_wait(workers[i]), 0);
}

static void attack(void (*strike)(void), uint64_t times, bool redelivers) {
  uint32_t sum = 0;
  shared = support_shared(sizeof *shared);
  for (int i = 0; i < PUTTERS + GETTERS; i++)
    begin_worker(i);
  for (uint64_t i = 0; i < times; i++)
    strike();
  atomic_store(&shared->end_putting, 1);
  end_workers(0, PUTTERS);
  forkq_queue_t *own = open_other(query);
  int r = forkq_queue_join(own, LONG_MS, NULL);
  ck_assert_msg(r == 0, "%s: %d are not done, of which the queue has %d",
                forkq_error_name(r), (int)server_number("HLEN {fq:jobs}:p"),
                (int)server_number("LLEN {fq:jobs}:i"));
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  forkq_queue_destroy(own);
  atomic_store(&shared->end_getting, 1);
  end_workers(PUTTERS, PUTTERS + GETTERS);
  for (uint32_t putter = 0; putter < PUTTERS; putter++) {
    sum += shared->next[putter];
    for (uint32_t i = 0; i < shared->next[putter]; i++)
      check(putter * ITEMS + i, redelivers);
  }
  if (!redelivers)
    ck_assert_uint_eq(shared->lost_leases, 0);
  printf("%ju strikes, %u puts, %u leases lost\n", (uintmax_t)times, sum,
         shared->lost_leases);
}

START_TEST(killed_clients) {
  query = SHORT_LEASE;
  attack(kill_client, asked_for("FORKQ_REDIS_KILLS", KILLS), true);
}
END_TEST

START_TEST(a_killed_server) {
  query = LONG_LEASE;
  attack(kill_server, asked_for("FORKQ_REDIS_KILLS", KILLS) / 10, false);
}
END_TEST

/* The server is killed while it writes what a get has done, and once more later. */
START_TEST(a_log_that_was_cut) {
  forkq_queue_t *own = open_other(LONG_LEASE);
  for (int i = 1; i <= 4; i++)
    ck_assert_int_eq(put_int(own, i, 0), 0);
  ck_assert_int_eq(get_int(own, 0), 1);
  server_kill();
  server_cut_log(20); /* its last command, and a part of the one before */
  server_mend_log();
  server_start(durable);
  forkq_queue_t *other = open_other(LONG_LEASE);
  ck_assert_int_eq(get_int(other, 0), 1);
  server_kill();
  server_start(durable);
  ck_assert_int_eq(server_number("LLEN {fq:jobs}:i"), 3);
  forkq_queue_destroy(own);
  forkq_queue_destroy(other);
}
END_TEST

/* Its clients give a request up, and make it anew, while it has their old ones. */
START_TEST(a_stopped_server) {
  query = LONG_LEASE;
  answer_ms = 150;
  attack(stop_server, asked_for("FORKQ_REDIS_KILLS", KILLS) / 20, false);
}
END_TEST

static void set_up(void) {
  seed = asked_for("FORKQ_REDIS_SEED", 1);
  server_start(durable);
}

static Suite *suite(void) {
  Suite *s = suite_create("redis_kills");
  TCase *tcase = tcase_create("redis_kills");
  tcase_add_checked_fixture(tcase, set_up, server_stop);
  tcase_set_timeout(tcase, 250);
  tcase_add_test(tcase, killed_clients);
  tcase_add_test(tcase, a_killed_server);
  tcase_add_test(tcase, a_log_that_was_cut);
  tcase_add_test(tcase, a_stopped_server);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
