/* A queue of a server, for a test. */
#ifndef FORKQ_TEST_REDIS_QUEUE_H
#define FORKQ_TEST_REDIS_QUEUE_H

#include "queue_helpers.h"
#include "redis_server.h"

#define PATIENCE_MS 10000

/* Less than the server lets a command wait: whoever is back by then was woken. */
#define PROMPT_MS 3000

/* For fixtures: a server without a log on disk, on which the queue {fq:jobs} is opened with this query, instead of
 * `queue` if there is one. */
void server_start_plain(void);
void open_queue(const char *query);

/* Another handle on the same queue, as another process would have. */
forkq_queue_t *open_other(const char *query);

/* The end of a test: no descriptor and no memory is left. */
void redis_set_up(const char *query);
void redis_tear_down(void);

/* A number above 0 that the environment has under this name; else the usual one. */
uint64_t asked_for(const char *name, uint64_t usual);

/* That many milliseconds have passed since then, and not many more. How many waits the client has ended at the
 * server by itself, which does so later. */
void took(int64_t began, int ms);
int64_t ended_waits(void);

/* A thread that makes a call, and what it returned. */
struct caller {
  pthread_t thread;
  forkq_queue_t *queue;
  int timeout_ms;
  int64_t value;
  int64_t result;
  int64_t ended; /* support_now_ms */
};
void begin_put(struct caller *caller, forkq_queue_t *on, int64_t value, int timeout_ms);
void begin_get(struct caller *caller, forkq_queue_t *on, int timeout_ms);
void begin_join(struct caller *caller, forkq_queue_t *on, int timeout_ms);
int64_t end_call(struct caller *caller);

/* Until so many puts, gets or joins wait at the server. */
void until_puts_wait(int count);
void until_blocked(int count);

#endif
