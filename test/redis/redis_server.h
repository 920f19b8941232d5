/* A Redis server for a test: Debian's redis-server, with a directory of its own below TMPDIR. Both end with the
 * test, also if that is killed. */
#ifndef FORKQ_TEST_REDIS_SERVER_H
#define FORKQ_TEST_REDIS_SERVER_H

#include "support.h"

#include <forkq.h>
#include <forkq/redis.h>
#include <hiredis/hiredis.h>

/* Starts the server, with more of its options, NULL at the end; NULL: none. start comes back when it answers. */
void server_start(const char *const *options);
void server_stop(void);
pid_t server_pid(void);

/* Kills the server, which may have a log on disk. cut_log takes so many bytes off its end, as if the server had been
 * killed in the middle of a write. mend_log takes off what such a write has left, as docs/redis.md says. */
void server_kill(void);
void server_cut_log(int bytes);
void server_mend_log(void);

/* The path of its socket, and a URL of it with this query. */
const char *server_path(void);
const char *server_url(const char *query);

/* Forgets all that the server has. */
void server_clear(void);

/* A connection for the test's own looks: a command, and its answer as a number, a text, or a size. */
int64_t server_number(const char *format, ...);
bool server_says(const char *text, const char *format, ...);

/* A number of INFO, by its name and what follows; 0: there is none. */
int64_t server_info(const char *name);

/* Until the number is that. */
void until_server_number(int64_t value, const char *format, ...);

#endif
