/* Opening a queue of a server. */
#include "base/heap.h"
#include "redis/host.h"
#include "redis/redis_queue.h"

#include <errno.h>

static int create(struct forkq__redis **ret_redis,
                  const struct forkq__redis_config *config) {
  struct forkq__redis *redis = forkq__calloc(sizeof *redis);
  if (redis == NULL)
    return -ENOMEM;
  redis->config = *config;
  redis->wake_fd = redis->beat.poke_fd = -1;
  redis->watch.fd = redis->watch.poke_fd = -1;
  forkq__link_init(&redis->control, &redis->config);
  forkq__link_init(&redis->beat.link, &redis->config);
  int r = forkq__mutex_init(&redis->mutex);
  if (r == 0)
    r = forkq__mutex_init(&redis->control_mutex);
  if (r == 0)
    r = uv_sem_init(&redis->begun, 0);
  if (r < 0)
    forkq__free(redis);
  else
    *ret_redis = redis;
  return r;
}

/* One try: whoever opens a queue wants to know what is wrong. */
static int connect_first(struct forkq__redis *redis) {
  struct forkq__lane *lane;
  int r = forkq__redis_take(redis, FORKQ__FOREVER, false, &lane);
  if (r != 0)
    return r;
  const struct forkq__patience patience = { FORKQ__FOREVER, forkq__link_poll, NULL };
  r = forkq__lane_connect(lane, patience);
  forkq__redis_give(lane);
  if (r == FORKQ_ECONNLOST && forkq__redis_refused())
    return FORKQ_ESERVER;
  return r == FORKQ_TIMEDOUT ? FORKQ_ECONNLOST : r;
}

int forkq_redis_open(forkq_queue_t **ret_queue, const char *url,
                     const forkq_redis_options_t *options) {
  struct forkq__redis_config config;
  struct forkq__redis *redis = NULL;
  forkq_queue_t *queue;
  forkq__redis_say("");
  if (ret_queue == NULL || url == NULL)
    return FORKQ_ENULL;
  int r = forkq__redis_configure(&config, url, options);
  if (r < 0)
    return r;
  r = create(&redis, &config);
  if (r < 0)
    return r;
  r = forkq__host()->queue_hold(&queue, &forkq__redis_ops, redis);
  if (r < 0) {
    forkq__redis_free(redis);
    return r;
  }
  redis->queue = queue;
  r = connect_first(redis);
  if (r == 0)
    *ret_queue = queue;
  else
    forkq_queue_destroy(queue);
  return r;
}
