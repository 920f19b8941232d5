/* A queue of a server, for a test. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <pthread.h>
#include <stdlib.h>

#define SLACK_MS 2000 /* on a machine that others use, too */

void server_start_plain(void) {
  server_start(NULL);
}

forkq_queue_t *open_other(const char *query) {
  forkq_queue_t *other;
  int r = forkq_redis_open(&other, server_url(query), NULL);
  ck_assert_msg(r == 0, "%s: %s", forkq_error_name(r), forkq_redis_error());
  return other;
}

void open_queue(const char *query) {
  if (queue != NULL) {
    forkq_queue_destroy(queue);
    server_clear();
  }
  queue = open_other(query);
}

void redis_set_up(const char *query) {
  server_clear();
  fds_before = support_open_fds();
  support_heap_install();
  open_queue(query);
}

void redis_tear_down(void) {
  forkq_queue_destroy(queue);
  queue = NULL;
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(support_heap_live(), 0);
}

uint64_t asked_for(const char *name, uint64_t usual) {
  const char *text = getenv(name);
  return text != NULL && atoi(text) > 0 ? (uint64_t)atoi(text) : usual;
}

void took(int64_t began, int ms) {
  int64_t passed = support_now_ms() - began;
  ck_assert_int_ge(passed, ms - 1);
  ck_assert_int_le(passed, ms + SLACK_MS);
}

int64_t ended_waits(void) {
  return server_info("cmdstat_client|unblock:calls=");
}

static void *call_put(void *arg) {
  struct caller *caller = arg;
  caller->result = put_int(caller->queue, caller->value, caller->timeout_ms);
  caller->ended = support_now_ms();
  return NULL;
}

static void *call_get(void *arg) {
  struct caller *caller = arg;
  caller->result = get_int(caller->queue, caller->timeout_ms);
  caller->ended = support_now_ms();
  return NULL;
}

static void *call_join(void *arg) {
  struct caller *caller = arg;
  caller->result = forkq_queue_join(caller->queue, caller->timeout_ms, NULL);
  caller->ended = support_now_ms();
  return NULL;
}

static void begin(struct caller *caller, void *(*fn)(void *arg), forkq_queue_t *on,
                  int timeout_ms) {
  caller->queue = on;
  caller->timeout_ms = timeout_ms;
  ck_assert_int_eq(pthread_create(&caller->thread, NULL, fn, caller), 0);
}

void begin_put(struct caller *caller, forkq_queue_t *on, int64_t value, int timeout_ms) {
  caller->value = value;
  begin(caller, call_put, on, timeout_ms);
}

void begin_get(struct caller *caller, forkq_queue_t *on, int timeout_ms) {
  begin(caller, call_get, on, timeout_ms);
}

void begin_join(struct caller *caller, forkq_queue_t *on, int timeout_ms) {
  begin(caller, call_join, on, timeout_ms);
}

int64_t end_call(struct caller *caller) {
  ck_assert_ptr_null(support_join(caller->thread));
  return caller->result;
}

void until_puts_wait(int count) {
  until_server_number(count, "LLEN {fq:jobs}:w");
}

void until_blocked(int count) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (server_info("blocked_clients:") != count)
    ck_assert_int_lt(support_now_ms(), end);
}
