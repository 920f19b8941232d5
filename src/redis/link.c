/* A connection to the server, and what the two say to each other first. */
#define _GNU_SOURCE
#include "redis/link.h"

#include "base/heap.h"
#include "base/os.h"
#include "redis_scripts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES (16 * 1024)
#define FIRST_BYTES 4096

/* LMOVE, and LPOP with a count. */
#define VERSION_MIN 602

/* The most elements of an answer: a batch has three for each item, and a beat may have one for each lane. */
#define ELEMENTS_MAX 4096

static const char *const scripts[] = {
  [FORKQ__LUA_OPEN] = lua_open, [FORKQ__LUA_PUT] = lua_put,
  [FORKQ__LUA_ASK] = lua_ask,   [FORKQ__LUA_FETCH] = lua_fetch,
  [FORKQ__LUA_BACK] = lua_back, [FORKQ__LUA_DONE] = lua_done,
  [FORKQ__LUA_JOIN] = lua_join, [FORKQ__LUA_SHUT] = lua_shut,
  [FORKQ__LUA_BEAT] = lua_beat, [FORKQ__LUA_LEAVE] = lua_leave,
  [FORKQ__LUA_STAT] = lua_stat,
};

#define ERROR_MAX 128
static _Thread_local char said[ERROR_MAX];
static _Thread_local bool
    refused; /* the server said it, of a request that had no effect */

const char *forkq_redis_error(void) {
  return said;
}

void forkq__redis_say(const char *text) {
  snprintf(said, sizeof said, "%s", text);
  refused = false;
}

bool forkq__redis_refused(void) {
  return refused;
}

void forkq__link_init(struct forkq__link *link,
                      const struct forkq__redis_config *config) {
  *link = (struct forkq__link){ .config = config, .fd = -1 };
}

void forkq__link_close(struct forkq__link *link) {
  if (link->fd >= 0)
    forkq__os_close_own(link->fd, link->identity);
  link->fd = -1;
  if (link->reader != NULL)
    redisReaderFree(link->reader);
  link->reader = NULL;
  forkq__free(link->out);
  link->out = NULL;
  link->out_size = link->out_sent = link->out_capacity = 0;
  link->error = 0;
}

/* What may be half changed is left alone. */
void forkq__link_lose(struct forkq__link *link, bool whole) {
  if (!whole) {
    link->lost[0] = link->reader;
    link->lost[1] = link->out;
    link->reader = NULL;
    link->out = NULL;
  }
  forkq__link_close(link);
}

/* ---- writing ------------------------------------------------------------------------------- */

static char *make_room(struct forkq__link *link, size_t size) {
  if (link->out_capacity - link->out_size < size) {
    size_t capacity = link->out_capacity > 0 ? link->out_capacity : FIRST_BYTES;
    while (capacity - link->out_size < size && capacity <= SIZE_MAX / 4)
      capacity *= 2;
    char *out =
        capacity - link->out_size < size ? NULL : forkq__realloc(link->out, capacity);
    if (out == NULL) {
      link->error = -ENOMEM;
      return NULL;
    }
    link->out = out;
    link->out_capacity = capacity;
  }
  return link->out + link->out_size;
}

#define HEAD_MAX 24

static void write_head(struct forkq__link *link, char kind, size_t number) {
  char *at = make_room(link, HEAD_MAX);
  if (at != NULL)
    link->out_size += (size_t)snprintf(at, HEAD_MAX, "%c%zu\r\n", kind, number);
}

void forkq__link_begin(struct forkq__link *link, size_t words) {
  write_head(link, '*', words);
}

void forkq__link_word(struct forkq__link *link, const void *data, size_t size) {
  write_head(link, '$', size);
  char *at = make_room(link, size + 2);
  if (at == NULL)
    return;
  if (size > 0)
    memcpy(at, data, size);
  at[size] = '\r';
  at[size + 1] = '\n';
  link->out_size += size + 2;
}

void forkq__link_text(struct forkq__link *link, const char *text) {
  forkq__link_word(link, text, strlen(text));
}

void forkq__link_number(struct forkq__link *link, int64_t number) {
  char text[HEAD_MAX];
  forkq__link_word(link, text,
                   (size_t)snprintf(text, sizeof text, "%lld", (long long)number));
}

void forkq__link_key(struct forkq__link *link, const char *what, uint64_t client) {
  char key[FORKQ__KEY_MAX], number[HEAD_MAX] = "";
  if (client > 0)
    snprintf(number, sizeof number, "%llu", (unsigned long long)client);
  forkq__link_word(link, key,
                   (size_t)snprintf(key, sizeof key, "{fq:%s}:%s%s", link->config->name,
                                    what, number));
}

void forkq__link_run(struct forkq__link *link, enum forkq__script script, size_t words) {
  forkq__link_begin(link, 4 + words);
  forkq__link_text(link, "EVALSHA");
  forkq__link_text(link, link->scripts[script]);
  forkq__link_text(link, "1");
  forkq__link_key(link, "", 0);
}

int forkq__link_poll(void *arg, struct pollfd *fd, int64_t deadline) {
  (void)arg;
  return forkq__os_poll(fd, 1, deadline);
}

/* ---- sending and receiving ----------------------------------------------------------------- */

/* Returns 0, -EAGAIN, or why the connection is lost. */
static int send_some(struct forkq__link *link) {
  while (link->out_sent < link->out_size) {
    ssize_t n = forkq__net_write(link->fd, link->out + link->out_sent,
                                 link->out_size - link->out_sent);
    if (n < 0)
      return (int)n;
    link->out_sent += (size_t)n;
  }
  link->out_sent = link->out_size = 0;
  return 0;
}

/* Returns 0, -EAGAIN, or why the connection is lost. */
static int read_some(struct forkq__link *link) {
  char buffer[READ_BYTES];
  ssize_t n = forkq__net_read(link->fd, buffer, sizeof buffer);
  if (n <= 0)
    return n == 0 ? -ECONNRESET : (int)n;
  return redisReaderFeed(link->reader, buffer, (size_t)n) == REDIS_OK ? 0 : -ENOMEM;
}

static int lose(struct forkq__link *link, int error) {
  if (error == -ENOMEM) {
    forkq__link_close(link);
    return error;
  }
  forkq__redis_say(error == -ECONNRESET
                       ? "the server closed the connection"
                       : strerror(-error)); /* NOLINT(concurrency-mt-unsafe) */
  forkq__link_close(link);
  return FORKQ_ECONNLOST;
}

/* Sends and reads as far as that goes without waiting: 0 and the answer, if it has come; -EAGAIN; or FORKQ_TIMEDOUT,
 * where more and more comes of an answer. */
static int step(struct forkq__link *link, int64_t deadline, redisReply **ret_reply) {
  void *reply = NULL;
  int sent = send_some(link);
  bool lost = sent < 0 && sent != -EAGAIN; /* what the server has said may tell why */
  for (;;) {
    if (redisReaderGetReply(link->reader, &reply) != REDIS_OK)
      return link->reader->err == REDIS_ERR_OOM ? -ENOMEM : -EPROTO;
    if (reply != NULL) {
      *ret_reply = reply;
      return 0;
    }
    int r = read_some(link);
    if (r < 0)
      return lost ? sent : r;
    if (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
  }
}

int forkq__link_receive(struct forkq__link *link, const struct forkq__patience *patience,
                        redisReply **ret_reply) {
  if (link->error < 0)
    return lose(link, link->error);
  for (;;) {
    int r = step(link, patience->deadline, ret_reply);
    if (r == 0 || r == FORKQ_TIMEDOUT)
      return r;
    if (r != -EAGAIN)
      return lose(link, r);
    short events = POLLIN | (link->out_size > 0 ? POLLOUT : 0);
    struct pollfd fd = { .fd = link->fd, .events = events };
    r = patience->poll(patience->arg, &fd, patience->deadline);
    if (r <= 0)
      return r == 0 ? FORKQ_TIMEDOUT : r;
  }
}

static bool begins(const redisReply *reply, const char *with) {
  return strncmp(reply->str, with, strlen(with)) == 0;
}

/* The server says a word in capitals first. */
int forkq__link_judge(const redisReply *reply) {
  if (reply->type != REDIS_REPLY_ERROR)
    return 0;
  forkq__redis_say(reply->str);
  if (begins(reply, "NOAUTH") || begins(reply, "WRONGPASS") || begins(reply, "NOPERM"))
    return FORKQ_EAUTH;
  if (begins(reply, "FORKQVERSION"))
    return FORKQ_EVERSION;
  if (begins(reply, "FORKQDIFFERS"))
    return FORKQ_EDIFFERS;
  refused = begins(reply, "LOADING") || begins(reply, "READONLY") ||
            begins(reply, "MASTERDOWN");
  if (refused || begins(reply, "NOSCRIPT") || begins(reply, "FORKQGONE") ||
      begins(reply, "UNBLOCKED"))
    return FORKQ_ECONNLOST;
  return FORKQ_ESERVER;
}

#if HIREDIS_MAJOR >= 1
typedef size_t elements_t;
#else
typedef int elements_t;
#endif

/* hiredis takes memory for all elements that are announced, before one of them has come. */
static void *create_array(const redisReadTask *task, elements_t elements) {
  const redisReplyObjectFunctions *usual = task->privdata;
  return elements > ELEMENTS_MAX ? NULL : usual->createArray(task, elements);
}

static int create_reader(struct forkq__link *link) {
  link->reader = redisReaderCreate();
  if (link->reader == NULL)
    return -ENOMEM;
  link->functions = *link->reader->fn;
  link->functions.createArray = create_array;
  link->reader->privdata = link->reader->fn;
  link->reader->fn = &link->functions;
  return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* An answer that must not be an error. `type` 0: whichever. */
static int expect(struct forkq__link *link, const struct forkq__patience *patience,
                  int type, redisReply **ret_reply) {
  redisReply *reply;
  int r = forkq__link_receive(link, patience, &reply);
  if (r < 0)
    return r;
  r = forkq__link_judge(reply);
  if (r == 0 && type != 0 && reply->type != type)
    r = FORKQ_ESERVER;
  if (r < 0 || ret_reply == NULL)
    freeReplyObject(reply);
  else
    *ret_reply = reply;
  return r;
}

static void write_greeting(struct forkq__link *link) {
  const struct forkq__redis_config *config = link->config;
  if (config->password[0] != '\0') {
    bool user = config->user[0] != '\0';
    forkq__link_begin(link, user ? 3 : 2);
    forkq__link_text(link, "AUTH");
    if (user)
      forkq__link_text(link, config->user);
    forkq__link_text(link, config->password);
  }
  forkq__link_begin(link, 2);
  forkq__link_text(link, "SELECT");
  forkq__link_number(link, config->database);
  forkq__link_begin(link, 2);
  forkq__link_text(link, "CLIENT");
  forkq__link_text(link, "ID");
  forkq__link_begin(link, 1);
  forkq__link_text(link, "INFO");
  for (int i = 0; i < FORKQ__LUA_SCRIPTS; i++) {
    forkq__link_begin(link, 3);
    forkq__link_text(link, "SCRIPT");
    forkq__link_text(link, "LOAD");
    forkq__link_text(link, scripts[i]);
  }
}

/* The value of a line "name:value" of INFO. */
static void read_info(const char *info, const char *name, char *ret_value, size_t size) {
  const char *line = strstr(info, name);
  ret_value[0] = '\0';
  if (line == NULL)
    return;
  line += strlen(name);
  size_t length = strcspn(line, "\r\n");
  if (length < size) {
    memcpy(ret_value, line, length);
    ret_value[length] = '\0';
  }
}

static int version_of(const char *info) {
  char version[32];
  char *rest;
  read_info(info, "redis_version:", version, sizeof version);
  long major = strtol(version, &rest, 10);
  long minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
  return (int)(major * 100 + minor);
}

static int unsafe(const char *text) {
  forkq__redis_say(text);
  return FORKQ_EUNSAFE;
}

/* A server that keeps all in memory is not full before the machine is. */
static int check_memory(const char *info) {
  char most[32], policy[32];
  read_info(info, "maxmemory:", most, sizeof most);
  read_info(info, "maxmemory_policy:", policy, sizeof policy);
  if (strcmp(most, "0") == 0 || most[0] == '\0' || strcmp(policy, "noeviction") == 0)
    return 0;
  return unsafe("maxmemory-policy is not noeviction: the server may evict items");
}

/* The setting itself may be hidden from this user. Then it is not known, and so not safe. */
static int check_fsync(struct forkq__link *link, const struct forkq__patience *patience) {
  redisReply *reply;
  forkq__link_begin(link, 3);
  forkq__link_text(link, "CONFIG");
  forkq__link_text(link, "GET");
  forkq__link_text(link, "appendfsync");
  int r = expect(link, patience, REDIS_REPLY_ARRAY, &reply);
  if (r == FORKQ_ECONNLOST || r == FORKQ_TIMEDOUT || r == FORKQ_ECLOSED || r == -ENOMEM)
    return r;
  bool always = r == 0 && reply->elements == 2 &&
                reply->element[1]->type == REDIS_REPLY_STRING &&
                strcmp(reply->element[1]->str, "always") == 0;
  if (r == 0)
    freeReplyObject(reply);
  return always ? 0 : unsafe("appendfsync is not always");
}

static int check(struct forkq__link *link, const char *info,
                 const struct forkq__patience *patience) {
  char aof[8];
  if (version_of(info) < VERSION_MIN) {
    forkq__redis_say("the server is older than Redis 6.2");
    return FORKQ_EVERSION;
  }
  int r = check_memory(info);
  read_info(info, "aof_enabled:", aof, sizeof aof);
  if (r < 0 || !link->config->durable)
    return r;
  return strcmp(aof, "1") == 0 ? check_fsync(link, patience)
                               : unsafe("appendonly is not yes");
}

static int read_scripts(struct forkq__link *link,
                        const struct forkq__patience *patience) {
  for (int i = 0; i < FORKQ__LUA_SCRIPTS; i++) {
    redisReply *reply;
    int r = expect(link, patience, REDIS_REPLY_STRING, &reply);
    if (r < 0)
      return r;
    snprintf(link->scripts[i], FORKQ__SHA_MAX, "%s", reply->str);
    freeReplyObject(reply);
  }
  return 0;
}

/* Where the user may not, or the password is wrong, the first answers say so. */
static int greet(struct forkq__link *link, const struct forkq__patience *patience,
                 bool checks) {
  redisReply *id = NULL, *info = NULL;
  write_greeting(link);
  int r = link->config->password[0] != '\0' ? expect(link, patience, 0, NULL) : 0;
  if (r == FORKQ_ESERVER)
    r = FORKQ_EAUTH;
  if (r == 0)
    r = expect(link, patience, 0, NULL);
  if (r == 0)
    r = expect(link, patience, REDIS_REPLY_INTEGER, &id);
  if (r < 0)
    return r;
  link->id = id->integer;
  freeReplyObject(id);
  r = expect(link, patience, REDIS_REPLY_STRING, &info);
  if (r < 0)
    return r;
  read_info(info->str, "run_id:", link->run_id, sizeof link->run_id);
  r = read_scripts(link, patience);
  if (r == 0 && checks)
    r = check(link, info->str, patience);
  freeReplyObject(info);
  return r;
}

int forkq__link_open(struct forkq__link *link, const struct forkq__patience *patience,
                     bool checks) {
  int fd = forkq__net_connect(link->config, patience);
  if (fd < 0) {
    forkq__redis_say(forkq_strerror(fd));
    return fd;
  }
  link->fd = fd;
  int r = create_reader(link);
  if (r == 0)
    r = forkq__os_identity(fd, &link->identity);
  if (r == 0)
    r = greet(link, patience, checks);
  if (r < 0)
    forkq__link_close(link);
  return r;
}
