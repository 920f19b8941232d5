/* The URL and the options of a queue that a server holds. */
#ifndef FORKQ_REDIS_CONFIG_H
#define FORKQ_REDIS_CONFIG_H

#include <forkq/redis.h>
#include <stdbool.h>
#include <stdint.h>

#define FORKQ__REDIS_NAME_MAX 63
#define FORKQ__REDIS_TEXT 256 /* user, password, host and path, with their NUL */

struct forkq__redis_config {
  bool is_unix;
  char place[FORKQ__REDIS_TEXT]; /* the host, or the path */
  char port[8];
  char user[FORKQ__REDIS_TEXT]; /* empty: none */
  char password[FORKQ__REDIS_TEXT];
  int64_t database;
  char name[FORKQ__REDIS_NAME_MAX + 1];
  int64_t maxsize; /* -1: not given */
  int64_t joinable;
  int64_t lease_ms;
  bool durable;
  int answer_ms;
};

/* Returns 0, FORKQ_ERANGE or -ENOTSUP. `options` may be NULL. */
int forkq__redis_configure(struct forkq__redis_config *ret_config, const char *url,
                           const forkq_redis_options_t *options);

#endif
