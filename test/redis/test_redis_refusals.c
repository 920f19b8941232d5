/* A server that refuses: each reason has its error, and no item is lost or doubled by it. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEYS 1000 /* which take 10 s and more to load, with the delay below */
#define BODY 2000 /* so that events are looked at after each */

static const char *const debug_server[] = { "--enable-debug-command",
                                            "yes",
                                            "--key-load-delay",
                                            "10000",
                                            "--rdbcompression",
                                            "no",
                                            "--loading-process-events-interval-bytes",
                                            "1024",
                                            NULL };

static void set_up(void) {
  server_start(debug_server);
  redis_set_up("queue=jobs&maxsize=4");
}

static void tear_down(void) {
  redis_tear_down();
  server_stop();
}

static int open_now(void) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  forkq_queue_t *other;
  options.answer_ms = 500;
  int r = forkq_redis_open(&other, server_url("queue=jobs"), &options);
  if (r == 0)
    forkq_queue_destroy(other);
  return r;
}

static bool said(const char *text) {
  return strstr(forkq_redis_error(), text) != NULL;
}

/* How often the server has refused a command in this way. */
static int64_t refusals(const char *name) {
  char field[64];
  snprintf(field, sizeof field, "errorstat_%s:count=", name);
  return server_info(field);
}

static void until_refused(const char *name, int64_t more_than) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (refusals(name) <= more_than) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(1000);
  }
}

/* The server is a replica for a while, whose master is nowhere. */
START_TEST(a_replica) {
  struct caller putter;
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert(server_says("OK", "REPLICAOF 127.0.0.1 1"));
  ck_assert_int_eq(put(2, 0), FORKQ_ESERVER);
  ck_assert(said("READONLY"));
  ck_assert_int_eq(put(2, 30), FORKQ_ESERVER);
  ck_assert_int_eq(get(0), FORKQ_ESERVER);
  ck_assert(said("READONLY"));
  ck_assert_int_eq(get(30), FORKQ_ESERVER);
  ck_assert_int_eq(open_now(), FORKQ_ESERVER);
  ck_assert(said("READONLY"));
  int64_t before = refusals("READONLY");
  begin_put(&putter, queue, 3, PATIENCE_MS);
  until_refused("READONLY", before);
  ck_assert(server_says("OK", "REPLICAOF NO ONE"));
  ck_assert_int_eq(end_call(&putter), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 3);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

/* Has the server load its data, for which it takes its time, unless it is hurried. */
static redisContext *begin_loading(void) {
  char body[BODY + 1];
  int sent = 0;
  memset(body, 'x', BODY);
  body[BODY] = '\0';
  for (int i = 0; i < KEYS; i++)
    (void)server_number("SET other:%d %s", i, body);
  redisContext *context = redisConnectUnix(server_path());
  ck_assert_int_eq(redisAppendCommand(context, "DEBUG RELOAD"), REDIS_OK);
  while (!sent)
    ck_assert_int_eq(redisBufferWrite(context, &sent), REDIS_OK);
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (server_info("loading:") != 1) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(1000);
  }
  return context;
}

START_TEST(a_server_that_loads) {
  struct caller putter;
  ck_assert_int_eq(put(1, 0), 0);
  redisContext *context = begin_loading();
  ck_assert_int_eq(put(2, 0), FORKQ_ESERVER);
  ck_assert(said("LOADING"));
  ck_assert_int_eq(open_now(), FORKQ_ESERVER);
  ck_assert(said("LOADING"));
  int64_t before = refusals("LOADING");
  begin_put(&putter, queue, 3, PATIENCE_MS);
  until_refused("LOADING", before);
  ck_assert(server_says("OK", "CONFIG SET key-load-delay 0"));
  ck_assert_int_eq(end_call(&putter), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 3);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  redisFree(context);
}
END_TEST

/* Another program has a key of the queue. Where it is gone, the queue works. */
START_TEST(keys_of_another_program) {
  static const char *const keys[] = { "i", "p", "w", "wd", "l", "n", "e", "m" };
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    ck_assert(server_says("OK", "SET {fq:jobs}:%s 1", keys[i]));
    int r = put(1, 0);
    ck_assert(r == 0 || r == FORKQ_ESERVER);
    int64_t got = get(0);
    ck_assert_msg(got == FORKQ_ESERVER || got == FORKQ_EMPTY || got == 1, "%s: %lld",
                  keys[i], (long long)got);
    server_clear();
    ck_assert_msg(put(2, PATIENCE_MS) == 0, "%s: %s", keys[i], forkq_redis_error());
    ck_assert_msg(get(PATIENCE_MS) == 2, "%s: %s", keys[i], forkq_redis_error());
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  }
}
END_TEST

/* Items are in the queue, and one key has a value of another type for a while. */
START_TEST(a_key_that_is_replaced_for_a_while) {
  static const char *const keys[] = { "i", "p", "l", "m" };
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    ck_assert_int_eq(put(1, 0), 0);
    ck_assert(server_says("OK", "RENAME {fq:jobs}:%s {fq:jobs}:kept", keys[i]));
    ck_assert(server_says("OK", "SET {fq:jobs}:%s 1", keys[i]));
    int r = put(2, 0);
    int64_t got = get(0);
    ck_assert(r == 0 || r == FORKQ_ESERVER);
    ck_assert(got == FORKQ_ESERVER || got == 1);
    ck_assert(server_says("OK", "RENAME {fq:jobs}:kept {fq:jobs}:%s", keys[i]));
    ck_assert_msg(put(3, PATIENCE_MS) == 0, "%s: %s", keys[i], forkq_redis_error());
    if (got != 1)
      ck_assert_msg((got = get(PATIENCE_MS)) == 1, "%s: %lld, %s", keys[i],
                    (long long)got, forkq_redis_error());
    if (r == 0)
      ck_assert_int_eq(get(0), 2);
    ck_assert_msg((got = get(0)) == 3, "%s: %lld, %s", keys[i], (long long)got,
                  forkq_redis_error());
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
    ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  }
}
END_TEST

/* The queue's own connections stay; there are no more. */
START_TEST(too_many_clients) {
  ck_assert_int_eq(put(1, 0), 0);
  redisContext *context = redisConnectUnix(server_path());
  redisReply *reply = redisCommand(context, "CONFIG SET maxclients 1");
  ck_assert_str_eq(reply->str, "OK");
  freeReplyObject(reply);
  ck_assert_int_eq(open_now(), FORKQ_ESERVER);
  ck_assert(said("max number of clients"));
  ck_assert_int_eq(put(2, 0), 0);
  reply = redisCommand(context, "CONFIG SET maxclients 100");
  ck_assert_str_eq(reply->str, "OK");
  freeReplyObject(reply);
  redisFree(context);
  ck_assert_int_eq(open_now(), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
}
END_TEST

/* The server wants a password from now on; connections that are there stay. */
START_TEST(a_password_that_is_new) {
  ck_assert_int_eq(put(1, 0), 0);
  redisContext *context = redisConnectUnix(server_path());
  redisReply *reply = redisCommand(context, "CONFIG SET requirepass secret");
  ck_assert_str_eq(reply->str, "OK");
  freeReplyObject(reply);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(open_now(), FORKQ_EAUTH);
  freeReplyObject(redisCommand(context, "AUTH secret"));
  freeReplyObject(redisCommand(context, "CLIENT KILL TYPE normal SKIPME yes"));
  ck_assert_int_eq(put(3, 0), FORKQ_EAUTH);
  ck_assert_int_eq(get(100), FORKQ_EAUTH);
  reply = redisCommand(context, "CONFIG SET requirepass %s", "");
  ck_assert_str_eq(reply->str, "OK");
  freeReplyObject(reply);
  redisFree(context);
  ck_assert_int_eq(put(4, 0), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), 4);
}
END_TEST

/* A server without memory still gives items away; a put is there once, or not at all. */
START_TEST(no_memory_for_a_while) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert(server_says("OK", "CONFIG SET maxmemory 1"));
  ck_assert_int_eq(put(2, 0), FORKQ_ESERVER);
  ck_assert(said("OOM"));
  ck_assert_int_eq(put(3, 50), FORKQ_ESERVER);
  int64_t got = get(0);
  ck_assert(got == 1 || got == FORKQ_ESERVER);
  ck_assert(server_says("OK", "CONFIG SET maxmemory 0"));
  if (got != 1)
    ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(put(4, 0), 0);
  ck_assert_int_eq(get(0), 4);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_refusals");
  TCase *tcase = tcase_create("redis_refusals");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, a_replica);
  tcase_add_test(tcase, a_server_that_loads);
  tcase_add_test(tcase, keys_of_another_program);
  tcase_add_test(tcase, a_key_that_is_replaced_for_a_while);
  tcase_add_test(tcase, too_many_clients);
  tcase_add_test(tcase, a_password_that_is_new);
  tcase_add_test(tcase, no_memory_for_a_while);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
