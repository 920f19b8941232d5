/* Watching: a descriptor that is readable when a get may find something, for a loop of the program.
 *
 * A thread blocks at the server as a get does, on a client of its own, and gives back what came at once: the item is not
 * this process's before it gets it. Then it raises the descriptor, and sleeps. A get that finds nothing lowers it, and the thread
 * blocks again. So what is there is told once, and a process that does not get costs nothing. */
#include "redis/redis_impl.h"

#include "base/times.h"

#include <errno.h>

#define FIRST_RETRY_MS 10
#define LAST_RETRY_MS 1000

/* With the mutex: so a get that found nothing, and an item that has come since, are not mixed up. */
static void raise_it(struct forkq__redis *redis) {
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return;
  redis->watch.raised = true;
  forkq__os_event_raise(redis->watch.fd);
  forkq__mutex_unlock(&redis->mutex);
}

void forkq__watch_found_nothing(struct forkq__redis *redis) {
  if (!FORKQ__LOAD(redis->watch.runs) ||
      forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return;
  if (redis->watch.raised) {
    redis->watch.raised = false;
    forkq__os_event_lower(redis->watch.fd);
    forkq__os_event_raise(redis->watch.poke_fd);
  }
  forkq__mutex_unlock(&redis->mutex);
}

static bool is_raised(struct forkq__redis *redis) {
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return true;
  bool is = redis->watch.raised;
  forkq__mutex_unlock(&redis->mutex);
  return is;
}

/* Sleeps until a get found nothing, or the end. */
static void await_get(struct forkq__redis *redis) {
  struct pollfd fds[2] = { { .fd = redis->wake_fd, .events = POLLIN },
                           { .fd = redis->watch.poke_fd, .events = POLLIN } };
  while (is_raised(redis) && !atomic_load(&redis->stopping))
    (void)forkq__os_poll(fds, 2, FORKQ__FOREVER);
  forkq__os_event_lower(redis->watch.poke_fd);
}

/* Waits for an item, or the mark of a shutdown, for a slice: 1, 0, or why the connection is lost. */
static int block(struct forkq__lane *lane) {
  struct forkq__redis *redis = lane->redis;
  int64_t until = forkq__os_deadline_within(FORKQ__FOREVER, FORKQ__REDIS_SLICE_MS);
  const struct forkq__patience patience = {
    until + redis->config.answer_ms * FORKQ__NS_PER_MS, forkq__redis_poll, redis
  };
  redisReply *moved = NULL, *given = NULL;
  forkq__lane_write_watch(lane, until);
  int r = forkq__link_receive(&lane->link, &patience, &moved);
  if (r < 0)
    return r;
  bool came = moved->type == REDIS_REPLY_STRING;
  r = forkq__link_judge(moved);
  freeReplyObject(moved);
  if (r == 0)
    r = forkq__link_receive(&lane->link, &patience, &given);
  if (given == NULL)
    return r;
  r = forkq__link_judge(given);
  freeReplyObject(given);
  return r < 0 ? r : came;
}

/* Where there is no connection, a get says why. */
static int watch_once(struct forkq__lane *lane, int *ms) {
  const struct forkq__patience patience = { FORKQ__FOREVER, forkq__redis_poll,
                                            lane->redis };
  int r = forkq__lane_connect(lane, patience);
  if (r == 0)
    r = block(lane);
  if (r >= 0) {
    *ms = 0;
    return r;
  }
  forkq__link_close(&lane->link);
  *ms = *ms == 0 ? FIRST_RETRY_MS : *ms < LAST_RETRY_MS / 2 ? 2 * *ms : LAST_RETRY_MS;
  (void)forkq__redis_poll(lane->redis, NULL,
                          forkq__os_deadline_within(FORKQ__FOREVER, *ms));
  return 0;
}

static void run(void *arg) {
  struct forkq__redis *redis = arg;
  struct forkq__lane *lane = redis->watch.lane;
  int ms = 0;
  uv_sem_post(&redis->begun);
  while (!atomic_load(&redis->stopping)) {
    if (watch_once(lane, &ms) > 0) {
      raise_it(redis);
      await_get(redis);
    }
  }
}

/* ---- beginning and end --------------------------------------------------------------------- */

/* With the mutex. */
static int start(struct forkq__redis *redis) {
  int r = forkq__redis_make_event(redis, &redis->watch.fd);
  if (r == 0)
    r = forkq__redis_make_event(redis, &redis->watch.poke_fd);
  if (r == 0 && redis->watch.lane == NULL) {
    redis->watch.lane = forkq__redis_add_lane(redis);
    if (redis->watch.lane == NULL)
      return -ENOMEM;
  }
  if (r < 0)
    return r;
  redis->watch.lane->busy = true;
  r = forkq__redis_begin_thread(redis, &redis->watch.thread, run);
  FORKQ__STORE(redis->watch.runs, r == 0);
  return r;
}

int forkq__redis_fileno(void *state) {
  struct forkq__redis *redis = state;
  int r = forkq__redis_start(redis);
  if (r == 0)
    r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (redis->closed)
    r = FORKQ_ECLOSED;
  else if (!FORKQ__LOAD(redis->watch.runs))
    r = start(redis);
  if (r == 0)
    r = redis->watch.fd;
  forkq__mutex_unlock(&redis->mutex);
  return r;
}

/* The caller has set `stopping`, and raised the event that wakes all. */
void forkq__watch_stop(struct forkq__redis *redis) {
  if (!FORKQ__LOAD(redis->watch.runs))
    return;
  forkq__redis_end_thread(&redis->watch.thread);
  FORKQ__STORE(redis->watch.runs, false);
  redis->watch.lane->busy = false;
  forkq__os_event_raise(redis->watch.fd); /* a get says that the queue is closed */
  forkq__link_close(&redis->watch.lane->link);
}
