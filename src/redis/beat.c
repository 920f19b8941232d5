/* The beat: a thread that tells the server, three times in each lease, that the clients of this process live, on a
 * connection of its own. It also gives back what clients had that no longer say so, and what was given to a
 * lane of this process that does not know of it. */
#include "redis/redis_impl.h"

#include "redis/host.h"

#include <errno.h>

#define FIRST_RETRY_MS 10

/* With the mutex. */
static size_t count_clients(struct forkq__redis *redis) {
  size_t count = 0;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next)
    count += FORKQ__LOAD(l->client) > 0;
  return count;
}

static int write_beat(struct forkq__redis *redis) {
  struct forkq__link *link = &redis->beat.link;
  int r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  size_t count = count_clients(redis);
  forkq__link_run(link, FORKQ__LUA_BEAT, 1 + count);
  forkq__link_number(link, redis->config.lease_ms);
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL && count > 0;
       l = l->next) {
    if (FORKQ__LOAD(l->client) == 0)
      continue;
    forkq__link_number(link, (int64_t)FORKQ__LOAD(l->client));
    count--;
  }
  /* A lane that became a client meanwhile is told next time. */
  forkq__mutex_unlock(&redis->mutex);
  return 0;
}

static void lose_items(struct forkq__redis *redis, uint64_t client) {
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next)
    for (size_t i = 0; FORKQ__LOAD(l->client) == client && i < l->held_count; i++)
      l->held[i].lost = true;
  forkq__mutex_unlock(&redis->mutex);
}

static void read_lost(struct forkq__redis *redis, const redisReply *reply) {
  for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
    if (reply->element[i]->type != REDIS_REPLY_INTEGER)
      continue;
    forkq__host()->log(
        FORKQ_LOG_WARNING, redis->config.name,
        "the lease was over: items that were got may be another process's");
    lose_items(redis, (uint64_t)reply->element[i]->integer);
  }
}

/* Returns 0, or why the next try comes soon. */
static int beat(struct forkq__redis *redis) {
  struct forkq__link *link = &redis->beat.link;
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, redis->config.answer_ms);
  const struct forkq__patience patience = { deadline, forkq__redis_poll, redis };
  redisReply *reply = NULL;
  int r = forkq__link_is_open(link) ? 0 : forkq__link_open(link, &patience, false);
  if (r == 0)
    r = write_beat(redis);
  if (r == 0)
    r = forkq__link_receive(link, &patience, &reply);
  if (reply == NULL) {
    forkq__link_close(link);
    return r;
  }
  r = forkq__link_judge(reply);
  if (r == 0)
    read_lost(redis, reply);
  else if (r == FORKQ_ECONNLOST)
    forkq__link_close(link); /* the next one loads the scripts, or finds another server */
  freeReplyObject(reply);
  return r;
}

/* An idle lane that may have been given items becomes this thread's. */
static struct forkq__lane *take_unseen(struct forkq__redis *redis) {
  struct forkq__lane *lane = NULL;
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return NULL;
  if (!redis->closed) {
    lane = atomic_load(&redis->lanes);
    while (lane != NULL && (lane->busy || !lane->unseen))
      lane = lane->next;
  }
  if (lane != NULL) {
    lane->busy = true;
    redis->users++;
  }
  forkq__mutex_unlock(&redis->mutex);
  return lane;
}

static void put_back(struct forkq__redis *redis) {
  struct forkq__lane *lane;
  while ((lane = take_unseen(redis)) != NULL) {
    forkq__lane_put_back(lane, FORKQ__NOWAIT);
    bool failed = lane->unseen;
    forkq__redis_give(lane);
    if (failed)
      return; /* until the next beat */
  }
}

static void run(void *arg) {
  struct forkq__redis *redis = arg;
  struct pollfd poke = { .fd = redis->beat.poke_fd, .events = POLLIN };
  int lease_third = (int)(redis->config.lease_ms / 3), ms = lease_third;
  uv_sem_post(&redis->begun);
  for (;;) {
    int r = forkq__os_poll(&poke, 1, forkq__os_deadline_within(FORKQ__FOREVER, ms));
    if (atomic_load(&redis->stopping))
      return;
    if (r > 0)
      forkq__os_event_lower(redis->beat.poke_fd);
    if (beat(redis) == 0)
      ms = lease_third;
    else
      ms = ms == lease_third      ? FIRST_RETRY_MS
           : ms * 2 < lease_third ? ms * 2
                                  : lease_third;
    put_back(redis);
  }
}

/* With the mutex. */
int forkq__beat_start(struct forkq__redis *redis) {
  int r = forkq__redis_begin_thread(redis, &redis->beat.thread, run);
  redis->beat.runs = r == 0;
  return r;
}

/* The caller has set `stopping`. */
void forkq__beat_stop(struct forkq__redis *redis) {
  if (!redis->beat.runs)
    return;
  forkq__beat_poke(redis);
  forkq__redis_end_thread(&redis->beat.thread);
  redis->beat.runs = false;
}

void forkq__beat_poke(struct forkq__redis *redis) {
  if (redis->beat.poke_fd >= 0)
    forkq__os_event_raise(redis->beat.poke_fd);
}
