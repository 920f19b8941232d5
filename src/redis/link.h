/* A connection to the server: commands are written one after the other, and each has its answer.
 *
 * A link is one thread's at a time. After a failure it is closed, because nobody knows which answers are
 * still to come; the next use opens it anew. */
#ifndef FORKQ_REDIS_LINK_H
#define FORKQ_REDIS_LINK_H

#include "redis/config.h"
#include "redis/net.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>

/* The scripts; src/redis/lua has them. */
enum forkq__script {
  FORKQ__LUA_OPEN,
  FORKQ__LUA_PUT,
  FORKQ__LUA_ASK,
  FORKQ__LUA_FETCH,
  FORKQ__LUA_BACK,
  FORKQ__LUA_DONE,
  FORKQ__LUA_JOIN,
  FORKQ__LUA_SHUT,
  FORKQ__LUA_BEAT,
  FORKQ__LUA_LEAVE,
  FORKQ__LUA_STAT,
  FORKQ__LUA_SCRIPTS
};

#define FORKQ__RUN_ID_MAX 64
#define FORKQ__SHA_MAX 48

struct forkq__link {
  const struct forkq__redis_config *config;
  int fd; /* -1: closed */
  uint64_t identity;
  redisReader *reader;
  redisReplyObjectFunctions functions; /* its own */
  char *out;                           /* what is not sent yet */
  size_t out_size, out_sent, out_capacity;
  int error;                      /* -ENOMEM: a command is not whole */
  int64_t id;                     /* the server's number for the connection */
  char run_id[FORKQ__RUN_ID_MAX]; /* of the server's process */
  char scripts[FORKQ__LUA_SCRIPTS][FORKQ__SHA_MAX];
  void *lost
      [2]; /* memory of the parent of a fork, which a thread of it may have been changing */
};

/* For a wait that ends at its deadline only. */
int forkq__link_poll(void *arg, struct pollfd *fd, int64_t deadline);

void forkq__link_init(struct forkq__link *link, const struct forkq__redis_config *config);

/* Opens a link that is closed: connects, says who this is, and loads the scripts. The first one of a queue
 * checks what the server is and does: `checks`. Returns 0, or FORKQ_EAUTH, FORKQ_EVERSION, FORKQ_EUNSAFE,
 * FORKQ_ESERVER, FORKQ_ECONNLOST, FORKQ_TIMEDOUT, what the poll returned, or a negative errno. */
int forkq__link_open(struct forkq__link *link, const struct forkq__patience *patience,
                     bool checks);
static inline bool forkq__link_is_open(const struct forkq__link *link) {
  return link->fd >= 0;
}

/* close also forgets what was written. lose does it in the child of a fork, in which another thread of the parent
 * may have been in the middle of a change: `whole` says that none was. */
void forkq__link_close(struct forkq__link *link);
void forkq__link_lose(struct forkq__link *link, bool whole);

/* Writes a command of so many words, each of which follows. run begins one that runs a script for the queue, of so
 * many words more. */
void forkq__link_begin(struct forkq__link *link, size_t words);
void forkq__link_word(struct forkq__link *link, const void *data, size_t size);
void forkq__link_text(struct forkq__link *link, const char *text);
void forkq__link_number(struct forkq__link *link, int64_t number);
void forkq__link_run(struct forkq__link *link, enum forkq__script script, size_t words);

/* A key of the queue: its prefix and what follows. */
#define FORKQ__KEY_MAX 128
void forkq__link_key(struct forkq__link *link, const char *what, uint64_t client);

/* Sends what was written, and receives the next answer, which the caller frees (freeReplyObject). Returns 0; what the
 * poll returned; FORKQ_TIMEDOUT; or, after which the link is closed, FORKQ_ECONNLOST or -ENOMEM. An answer may be
 * an error of the server. */
int forkq__link_receive(struct forkq__link *link, const struct forkq__patience *patience,
                        redisReply **ret_reply);

/* What an answer says that is an error: 0 if it is none; FORKQ_EAUTH; FORKQ_EVERSION; FORKQ_EDIFFERS; FORKQ_ECONNLOST,
 * if it may go well on another connection; or FORKQ_ESERVER. It is then this thread's error. */
int forkq__link_judge(const redisReply *reply);

/* The text of forkq_redis_error; and whether it is an answer that says that the server is loading, or read-only. */
void forkq__redis_say(const char *text);
bool forkq__redis_refused(void);

#endif
