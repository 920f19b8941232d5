/* What can be wrong with a server, its URL and its connections, and what a queue of it says. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_up(void) {
  redis_set_up("queue=jobs&maxsize=2");
}

static int open_url(const char *url, const forkq_redis_options_t *options) {
  forkq_queue_t *other;
  int r = forkq_redis_open(&other, url, options);
  if (r == 0)
    forkq_queue_destroy(other);
  return r;
}

/* One character more than a name may have. */
#define NAME_16 "aaaaaaaaaaaaaaaa"
#define LONG_NAME "redis://localhost?queue=" NAME_16 NAME_16 NAME_16 NAME_16

START_TEST(urls_that_are_not_valid) {
  static const char *const urls[] = {
    "",
    "redis",
    "http://localhost/0?queue=a",
    "redis://localhost",
    "redis://localhost?queue=",
    "redis://?queue=a",
    "redis://localhost:0?queue=a",
    "redis://localhost:65536?queue=a",
    "redis://localhost:1x?queue=a",
    "redis://localhost/x?queue=a",
    "redis://user@localhost?queue=a",
    "redis://[::1?queue=a",
    "redis://[::1]x?queue=a",
    "redis://localhost?queue=a%2",
    "redis://localhost?queue=a%00",
    "redis://localhost?queue=a%20b",
    "redis://localhost?queue=a&maxsize=-1",
    "redis://localhost?queue=a&maxsize=",
    "redis://localhost?queue=a&maxsize=281474976710657",
    "redis://localhost?queue=a&joinable=2",
    "redis://localhost?queue=a&lease=299",
    "redis://localhost?queue=a&lease=86400001",
    "redis://localhost?queue=a&durable=yes",
    "redis://localhost?queue=a&db=1",
    "redis://localhost?queue=a&what=1",
    "redis://localhost?queue=a&what",
    "redis+unix://s?queue=a",
    "redis+unix://?queue=a",
    LONG_NAME,
  };
  for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
    ck_assert_msg(open_url(urls[i], NULL) == FORKQ_ERANGE, "%s", urls[i]);
  ck_assert_int_eq(open_url("rediss://localhost?queue=a", NULL), -ENOTSUP);
  ck_assert_int_eq(forkq_redis_open(NULL, "", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_redis_open(&queue, NULL, NULL), FORKQ_ENULL);
}
END_TEST

START_TEST(options_that_are_not_valid) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  char text[300];
  memset(text, 'a', sizeof text);
  text[sizeof text - 1] = '\0';
  options.size--;
  ck_assert_int_eq(open_url(server_url("queue=jobs"), &options), FORKQ_ERANGE);
  options.size++;
  options.answer_ms = -1;
  ck_assert_int_eq(open_url(server_url("queue=jobs"), &options), FORKQ_ERANGE);
  options.answer_ms = 0;
  options.password = text;
  ck_assert_int_eq(open_url(server_url("queue=jobs"), &options), FORKQ_ERANGE);
  options.password = NULL;
  ck_assert_int_eq(open_url(server_url("queue=jobs"), &options), 0);
}
END_TEST

START_TEST(another_queue_than_was_wanted) {
  ck_assert_int_eq(open_url(server_url("queue=jobs&maxsize=3"), NULL), FORKQ_EDIFFERS);
  ck_assert_ptr_nonnull(strstr(forkq_redis_error(), "maxsize=2"));
  ck_assert_int_eq(open_url(server_url("queue=jobs&joinable=1"), NULL), FORKQ_EDIFFERS);
  ck_assert_int_eq(open_url(server_url("queue=jobs&joinable=0"), NULL), 0);
  ck_assert_str_eq(forkq_redis_error(), "");
  ck_assert_int_eq(open_url(server_url("queue=jobs&db=1&maxsize=9"), NULL), 0);
  ck_assert_int_ge(server_number("HSET {fq:jobs}:m v 2"), 0);
  ck_assert_int_eq(open_url(server_url("queue=jobs"), NULL), FORKQ_EVERSION);
  ck_assert_int_ge(server_number("RPUSH {fq:odd}:m 1"), 0);
  ck_assert_int_eq(open_url(server_url("queue=odd"), NULL), FORKQ_ESERVER);
  ck_assert_int_ge(server_number("HSET {fq:jobs}:m v 1"), 0);
}
END_TEST

START_TEST(nobody_is_there) {
  ck_assert_int_eq(open_url("redis+unix:///nonexistent/s?queue=a", NULL), -ENOENT);
  ck_assert_int_eq(open_url("redis://127.0.0.1:1?queue=a", NULL), -ECONNREFUSED);
  ck_assert_int_eq(open_url("redis://no.invalid?queue=a", NULL), -EHOSTUNREACH);
}
END_TEST

START_TEST(a_server_that_may_lose_items) {
  ck_assert_int_eq(open_url(server_url("queue=jobs&durable=1"), NULL), FORKQ_EUNSAFE);
  ck_assert(server_says("OK", "CONFIG SET maxmemory-policy allkeys-lru"));
  ck_assert_int_eq(open_url(server_url("queue=jobs"), NULL), 0);
  ck_assert(server_says("OK", "CONFIG SET maxmemory 1gb"));
  ck_assert_int_eq(open_url(server_url("queue=jobs"), NULL), FORKQ_EUNSAFE);
  ck_assert(server_says("OK", "CONFIG SET maxmemory-policy noeviction"));
  ck_assert_int_eq(open_url(server_url("queue=jobs"), NULL), 0);
  ck_assert(server_says("OK", "CONFIG SET maxmemory 0"));
  ck_assert(server_says("OK", "CONFIG SET appendonly yes"));
  ck_assert_int_eq(open_url(server_url("queue=jobs&durable=1"), NULL), FORKQ_EUNSAFE);
  ck_assert(server_says("OK", "CONFIG SET appendfsync always"));
  ck_assert_int_eq(open_url(server_url("queue=jobs&durable=1"), NULL), 0);
  ck_assert(server_says("OK", "CONFIG SET appendfsync everysec"));
  ck_assert(server_says("OK", "CONFIG SET appendonly no"));
}
END_TEST

START_TEST(a_full_server) {
  ck_assert(server_says("OK", "CONFIG SET maxmemory 1"));
  ck_assert_int_eq(put(1, 0), FORKQ_ESERVER);
  ck_assert_ptr_nonnull(strstr(forkq_redis_error(), "OOM"));
  ck_assert(server_says("OK", "CONFIG SET maxmemory 0"));
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

START_TEST(passwords) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  char url[512];
  ck_assert(server_says("OK", "ACL SETUSER worker on >s%%3Acret ~{fq:* +@all"));
  ck_assert(server_says(
      "OK", "ACL SETUSER reader on >secret ~{fq:* +@read +@connection +info"));
  snprintf(url, sizeof url, "redis+unix://worker:s%%253Acret@%s?queue=own",
           server_path());
  ck_assert_int_eq(open_url(url, NULL), 0);
  snprintf(url, sizeof url, "redis+unix://worker:wrong@%s?queue=own", server_path());
  ck_assert_int_eq(open_url(url, NULL), FORKQ_EAUTH);
  snprintf(url, sizeof url, "redis+unix://reader:secret@%s?queue=own", server_path());
  ck_assert_int_eq(open_url(url, NULL), FORKQ_EAUTH);
  options.user = "worker";
  options.password = "s%3Acret";
  ck_assert_int_eq(open_url(server_url("queue=own"), &options), 0);
  options.password = NULL;
  setenv("FORKQ_REDIS_PASSWORD", "s%3Acret", 1);
  ck_assert_int_eq(open_url(server_url("queue=own"), &options), 0);
  setenv("FORKQ_REDIS_PASSWORD", "nonsense", 1);
  ck_assert_int_eq(open_url(server_url("queue=own"), &options), FORKQ_EAUTH);
  unsetenv("FORKQ_REDIS_PASSWORD");
}
END_TEST

/* Its bytes are not looked at. */
START_TEST(a_message_that_is_too_large) {
  size_t size = (size_t)FORKQ_REDIS_MESSAGE_MAX + 1;
  char *data = calloc(1, size); /* not written to: no memory */
  ck_assert_ptr_nonnull(data);
  data[0] = (char)0xc6; /* a bin of zeros */
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)((size - 5) >> (24 - 8 * i));
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, 0), FORKQ_ETOOBIG);
  free(data);
}
END_TEST

/* The user that docs/redis.md tells to make can do all that a queue does. */
START_TEST(a_user_with_few_rights) {
  char url[512];
  struct caller getter;
  ck_assert(server_says(
      "OK",
      "ACL SETUSER jobs on >secret ~{fq:* +auth +select +client|id +client|kill "
      "+client|unblock +info +config|get +script|load +evalsha +blmove +blpop +xread "
      "+time +exists +del +pexpire +hget +hset +hmget +hdel +hexists +hlen +hincrby "
      "+llen +lrange +lpop +rpop +lpush +rpush +lrem +ltrim +zadd +zscore +zrem "
      "+zrangebyscore +xadd +xrevrange"));
  snprintf(url, sizeof url,
           "redis+unix://jobs:secret@%s?queue=own&maxsize=1&joinable=1&lease=300",
           server_path());
  forkq_queue_t *own;
  ck_assert_int_eq(forkq_redis_open(&own, url, NULL), 0);
  ck_assert_int_eq(get_int(own, 20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(put_int(own, 1, 0), 0);
  ck_assert_int_eq(put_int(own, 2, 20), FORKQ_TIMEDOUT);
  (void)server_number("CLIENT KILL TYPE normal");
  ck_assert_int_eq(get_int(own, 0), 1);
  ck_assert_int_eq(forkq_queue_join(own, 20, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_task_done(own), 0);
  ck_assert_int_eq(forkq_queue_join(own, -1, NULL), 0);
  begin_get(&getter, own, -1);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_shutdown(own, 1), 0);
  ck_assert_int_eq(end_call(&getter), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_qsize(own), 0);
  forkq_queue_destroy(own);
  ck_assert_int_eq(server_number("ZCARD {fq:own}:l"), 0);
}
END_TEST

/* The connections end, and the scripts are forgotten: the next call does not notice. */
START_TEST(lost_connections_are_made_anew) {
  ck_assert_int_eq(put(1, 0), 0);
  for (int i = 2; i < 20; i++) {
    (void)server_number("CLIENT KILL TYPE normal");
    ck_assert_int_eq(put(i, 0), 0);
    if (i % 2 == 0)
      ck_assert(server_says("OK", "SCRIPT FLUSH"));
    else
      (void)server_number("CLIENT KILL TYPE normal");
    ck_assert_int_eq(get(0), i - 1);
  }
  ck_assert_int_eq(get(0), 19);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(waits_go_on_over_a_lost_connection) {
  struct caller getter, putter;
  begin_get(&getter, queue, -1);
  until_blocked(1);
  (void)server_number("CLIENT KILL TYPE normal");
  until_blocked(1);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(end_call(&getter), 1);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(put(3, 0), 0);
  begin_put(&putter, queue, 4, -1);
  until_puts_wait(1);
  until_blocked(1);
  (void)server_number("CLIENT KILL TYPE normal");
  until_blocked(1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(end_call(&putter), 0);
  ck_assert_int_eq(get(0), 3);
  ck_assert_int_eq(get(0), 4);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

/* While the server is stopped no call gets an answer. The put that said that it is unknown is not there later. */
START_TEST(a_server_that_does_not_answer) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  forkq_queue_t *other;
  options.answer_ms = 100;
  ck_assert_int_eq(forkq_redis_open(&other, server_url("queue=jobs"), &options), 0);
  ck_assert_int_eq(kill(server_pid(), SIGSTOP), 0);
  int64_t began = support_now_ms();
  ck_assert_int_eq(put_int(other, 1, 150), FORKQ_EUNKNOWN);
  took(began, 150);
  ck_assert_int_eq(get_int(other, 150), FORKQ_ECONNLOST);
  ck_assert_int_lt(forkq_queue_qsize(other), 0);
  ck_assert_int_eq(kill(server_pid(), SIGCONT), 0);
  ck_assert_int_eq(put_int(other, 2, PATIENCE_MS), 0);
  int64_t first = get_int(other, PATIENCE_MS);
  if (first == 1) /* it was put, after all, before the put that followed */
    first = get_int(other, PATIENCE_MS);
  ck_assert_int_eq(first, 2);
  ck_assert_int_eq(get_int(other, 0), FORKQ_EMPTY);
  forkq_queue_destroy(other);
}
END_TEST

static _Atomic int *steps;

static void stop_server(void) {
  CHILD_MUST(kill(server_pid(), SIGSTOP) == 0);
}

static void let_server_go_on(void) {
  CHILD_MUST(kill(server_pid(), SIGCONT) == 0);
}

/* The second put settles the first. */
static void *put_twice(void *other) {
  CHILD_MUST(put_int(other, 1, 150) == FORKQ_EUNKNOWN);
  atomic_store(&steps[0], 1);
  CHILD_MUST(put_int(other, 2, PATIENCE_MS) == 0);
  return NULL;
}

/* A put that is not known is settled in the child as well: the next one does not pass for it. */
static void put_twice_as_child(void *other) {
  support_until(&steps[1]);
  CHILD_MUST(forkq_queue_qsize(other) == 0);
  stop_server();
  CHILD_MUST(put_int(other, 3, 150) == FORKQ_EUNKNOWN);
  let_server_go_on();
  until_server_number(1, "LLEN {fq:jobs}:i");
  CHILD_MUST(put_int(other, 4, PATIENCE_MS) == 0);
  CHILD_MUST(get_int(other, PATIENCE_MS) == 3);
  CHILD_MUST(get_int(other, PATIENCE_MS) == 4);
}

START_TEST(a_fork_while_a_put_is_settled) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  forkq_queue_t *other;
  pthread_t thread;
  steps = support_shared(2 * sizeof *steps);
  options.answer_ms = 100;
  ck_assert_int_eq(forkq_redis_open(&other, server_url("queue=jobs"), &options), 0);
  stop_server();
  ck_assert_int_eq(pthread_create(&thread, NULL, put_twice, other), 0);
  support_until(&steps[0]);
  support_until_others_asleep();
  pid_t child = support_fork(put_twice_as_child, other);
  let_server_go_on();
  ck_assert_ptr_null(support_join(thread));
  while (get_int(other, 0) > 0)
    ;
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_queue_destroy(other);
}
END_TEST

/* The beat is about to make its connection anew by then, and is not waited for. */
static void exit_where_nobody_answers(void *arg) {
  int64_t *began = arg;
  (void)open_other("queue=jobs&lease=300");
  (void)server_number("CLIENT KILL TYPE normal");
  stop_server();
  usleep(400000);
  *began = support_now_ms();
  exit(0);
}

START_TEST(an_exit_where_nobody_answers) {
  int64_t *began = support_shared(sizeof *began);
  ck_assert_int_eq(support_wait(support_fork(exit_where_nobody_answers, began)), 0);
  int64_t passed = support_now_ms() - *began;
  let_server_go_on();
  ck_assert_int_le(passed, PROMPT_MS);
}
END_TEST

/* A server that comes back without its data: the queue is made anew. */
START_TEST(a_queue_that_was_deleted) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(0), 1);
  server_clear();
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get(0), 2);
  server_clear();
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(3, 0), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(get(0), 3);
}
END_TEST

/* The first request without memory fails, and so on: each call fails, or works. */
START_TEST(without_memory) {
  for (long k = 1; k <= 12; k++) {
    support_heap_fail_at(k, false);
    int r = put(7, 0);
    support_heap_fail_at(0, false);
    ck_assert(r == 0 || r == -ENOMEM || r == FORKQ_EUNKNOWN || r == FORKQ_ECONNLOST);
    support_heap_fail_at(k, false);
    int64_t got = get(0);
    support_heap_fail_at(0, false);
    ck_assert(got == 7 || got == FORKQ_EMPTY || got == -ENOMEM || got == FORKQ_ECONNLOST);
    while ((got = get(0)) == 7)
      ;
    ck_assert_int_eq(got, FORKQ_EMPTY);
  }
  for (long k = 1; k <= 12; k++) {
    support_heap_fail_at(k, false);
    int r = open_url(server_url("queue=jobs"), NULL);
    support_heap_fail_at(0, false);
    ck_assert(r == 0 || r == -ENOMEM);
  }
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_errors");
  TCase *tcase = tcase_create("redis_errors");
  tcase_add_unchecked_fixture(tcase, server_start_plain, server_stop);
  tcase_add_checked_fixture(tcase, set_up, redis_tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, urls_that_are_not_valid);
  tcase_add_test(tcase, options_that_are_not_valid);
  tcase_add_test(tcase, another_queue_than_was_wanted);
  tcase_add_test(tcase, nobody_is_there);
  tcase_add_test(tcase, a_server_that_may_lose_items);
  tcase_add_test(tcase, a_full_server);
  tcase_add_test(tcase, passwords);
  tcase_add_test(tcase, a_message_that_is_too_large);
  tcase_add_test(tcase, a_user_with_few_rights);
  tcase_add_test(tcase, lost_connections_are_made_anew);
  tcase_add_test(tcase, waits_go_on_over_a_lost_connection);
  tcase_add_test(tcase, a_server_that_does_not_answer);
  tcase_add_test(tcase, a_fork_while_a_put_is_settled);
  tcase_add_test(tcase, an_exit_where_nobody_answers);
  tcase_add_test(tcase, a_queue_that_was_deleted);
  tcase_add_test(tcase, without_memory);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
