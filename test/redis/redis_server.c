/* A Redis server for a test. */
#define _GNU_SOURCE
#include "redis_server.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define OPTIONS_MAX 32

static pid_t server;
static char directory[64], path[80], url[512];

static const char *const usual[] = {
  "redis-server", "--port",      "0",  "--save",     "",       "--appendonly",
  "no",           "--daemonize", "no", "--loglevel", "warning"
};
#define USUAL (sizeof usual / sizeof usual[0])

static void run(const char *const *options) {
  const char *args[OPTIONS_MAX];
  size_t n = 0;
  while (n < USUAL) {
    args[n] = usual[n];
    n++;
  }
  args[n++] = "--dir";
  args[n++] = directory;
  args[n++] = "--unixsocket";
  args[n++] = path;
  for (; options != NULL && *options != NULL && n < OPTIONS_MAX - 1; options++)
    args[n++] = *options;
  args[n] = NULL;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (freopen("/dev/null", "w", stdout) == NULL)
    _exit(126);
  execvp(args[0], (char *const *)(uintptr_t)args);
  _exit(127);
}

static redisContext *try_connect(void) {
  redisContext *context = redisConnectUnix(path);
  if (context != NULL && context->err == 0)
    return context;
  if (context != NULL)
    redisFree(context);
  return NULL;
}

/* Whether it answers: it may not listen yet, or be loading. */
static bool answers(void) {
  redisContext *context = try_connect();
  if (context == NULL)
    return false;
  redisReply *reply = redisCommand(context, "PING");
  bool is = reply != NULL &&
            (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "NOAUTH", 6) == 0);
  if (reply != NULL)
    freeReplyObject(reply);
  redisFree(context);
  return is;
}

void server_start(const char *const *options) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  if (directory[0] == '\0') {
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.40s/forkqXXXXXX",
             tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
  }
  server = fork();
  ck_assert_int_ge(server, 0);
  if (server == 0)
    run(options);
  while (!answers()) {
    ck_assert_int_eq(waitpid(server, NULL, WNOHANG), 0);
    ck_assert_int_lt(support_now_ms(), end);
    usleep(2000);
  }
}

void server_stop(void) {
  char command[160];
  kill(server, SIGKILL);
  waitpid(server, NULL, 0);
  snprintf(command, sizeof command, "rm -rf '%s'", directory);
  ck_assert_int_eq(system(command), 0);
  directory[0] = '\0';
}

void server_kill(void) {
  ck_assert_int_eq(kill(server, SIGKILL), 0);
  ck_assert_int_eq(waitpid(server, NULL, 0), server);
}

/* Since Redis 7 the log is in a directory, with a manifest. */
static void run_on_log(const char *command) {
  char line[320];
  snprintf(line, sizeof line, "cd '%s' && cd appendonlydir 2>/dev/null; %s", directory,
           command);
  ck_assert_int_eq(system(line), 0);
}

void server_cut_log(int bytes) {
  char command[96];
  snprintf(command, sizeof command,
           "truncate -s -%d $(ls *.incr.aof 2>/dev/null || ls *.aof)", bytes);
  run_on_log(command);
}

void server_mend_log(void) {
  run_on_log("echo y | redis-check-aof --fix $(ls *.manifest 2>/dev/null || ls *.aof) "
             ">/dev/null");
}

pid_t server_pid(void) {
  return server;
}

const char *server_path(void) {
  return path;
}

const char *server_url(const char *query) {
  snprintf(url, sizeof url, "redis+unix://%s?%s", path, query);
  return url;
}

static redisReply *command(const char *format, va_list args) {
  redisContext *context = try_connect();
  ck_assert_ptr_nonnull(context);
  redisReply *reply = redisvCommand(context, format, args);
  ck_assert_ptr_nonnull(reply);
  ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "%s", reply->str);
  redisFree(context);
  return reply;
}

static int64_t number(const char *format, va_list args) {
  redisReply *reply = command(format, args);
  int64_t result = reply->integer;
  if (reply->type == REDIS_REPLY_ARRAY)
    result = (int64_t)reply->elements;
  else if (reply->type == REDIS_REPLY_STRING)
    result = strtoll(reply->str, NULL, 10);
  freeReplyObject(reply);
  return result;
}

int64_t server_number(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int64_t result = number(format, args);
  va_end(args);
  return result;
}

void until_server_number(int64_t value, const char *format, ...) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  for (;;) {
    va_list args;
    va_start(args, format);
    int64_t result = number(format, args);
    va_end(args);
    if (result == value)
      return;
    ck_assert_int_lt(support_now_ms(), end);
    usleep(1000);
  }
}

int64_t server_info(const char *name) {
  redisContext *context = try_connect();
  ck_assert_ptr_nonnull(context);
  redisReply *reply = redisCommand(context, "INFO everything");
  ck_assert_ptr_nonnull(reply);
  const char *line = strstr(reply->str, name);
  int64_t result = line != NULL ? strtoll(line + strlen(name), NULL, 10) : 0;
  freeReplyObject(reply);
  redisFree(context);
  return result;
}

bool server_says(const char *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  redisReply *reply = command(format, args);
  va_end(args);
  bool is = reply->str != NULL && strcmp(reply->str, text) == 0;
  freeReplyObject(reply);
  return is;
}

void server_clear(void) {
  (void)server_number("FLUSHALL");
}
