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

/* The path of a socket in the directory, with the end that a proxy's has, must fit into an address. */
#define SOCKET_NAME "/s"

static pid_t server, remover;
static char directory[96], path[sizeof directory + sizeof SOCKET_NAME], url[512];

static const char *const usual[] = {
  "redis-server", "--port",      "0",  "--save",     "",       "--appendonly",
  "no",           "--daemonize", "no", "--loglevel", "warning"
};
#define USUAL (sizeof usual / sizeof usual[0])

static void run(void *arg) {
  const char *const *options = arg;
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
  if (freopen("/dev/null", "w", stdout) == NULL)
    _exit(126);
  execvp(args[0], (char *const *)(uintptr_t)args);
  _exit(127);
}

/* Removes the directory when it is told to, or when the test has ended in whatever way. It is in no group
 * that is killed with the test. */
static void remove_at_end(void *arg) {
  const sigset_t *ends = arg;
  pid_t test = getppid();
  int signo;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() == test)
    sigwait(ends, &signo);
  execlp("rm", "rm", "-rf", directory, NULL);
  _exit(127);
}

static void make_directory(void) {
  const char *parent = getenv("TMPDIR");
  sigset_t ends, before;
  int n = snprintf(directory, sizeof directory, "%s/forkq-redis-XXXXXX",
                   parent != NULL ? parent : "/tmp");
  ck_assert_msg(n < (int)sizeof directory, "TMPDIR is too long for the path of a socket");
  ck_assert_ptr_nonnull(mkdtemp(directory));
  snprintf(path, sizeof path, "%s" SOCKET_NAME, directory);
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, &before); /* its signal may come before it waits */
  remover = support_fork(remove_at_end, &ends);
  sigprocmask(SIG_SETMASK, &before, NULL);
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
  if (directory[0] == '\0')
    make_directory();
  server = support_fork(run, (void *)(uintptr_t)options);
  while (!answers()) {
    ck_assert_int_eq(waitpid(server, NULL, WNOHANG), 0);
    ck_assert_int_lt(support_now_ms(), end);
    usleep(2000);
  }
}

void server_stop(void) {
  support_kill_and_wait(server);
  kill(remover, SIGTERM);
  ck_assert_int_eq(support_wait(remover), 0);
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
