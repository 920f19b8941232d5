/* The object: lanes for threads, closing, and what fork does to it. */
#include "redis/redis_queue.h"

#include "base/heap.h"
#include "redis/host.h"

#include <errno.h>
#include <string.h>

/* How long a close waits until threads have left their calls. */
#define LEAVE_MS 500

/* A command has at most so many bytes of messages, unless the first one has more. */
#define RUN_BYTES (4 * 1024 * 1024)

/* ---- lanes --------------------------------------------------------------------------------- */

/* What another thread has got on a lane of its own is done with that thread's next get, and with no other call. A put
 * of another thread that is not known is settled by that thread's next call. */
static bool suits(const struct forkq__redis *redis, const struct forkq__lane *lane) {
  if (lane->busy)
    return false;
  if (pthread_equal(lane->owner, pthread_self()))
    return true;
  return lane->unknown == 0 && (FORKQ__LOAD(redis->joinable) || lane->held_count == 0);
}

/* How well an idle lane suits: this thread's unknown put is to be settled now, unseen items are to be seen soon, and a
 * lane that the thread had is at hand. */
static int rank(const struct forkq__lane *lane, bool to_get) {
  bool mine = pthread_equal(lane->owner, pthread_self()) != 0;
  return 8 * (mine && lane->unknown > 0) + 4 * (to_get && lane->unseen) + 2 * mine +
         forkq__link_is_open(&lane->link) + 1;
}

static struct forkq__lane *find(struct forkq__redis *redis, bool to_get) {
  struct forkq__lane *best = NULL;
  int best_rank = 0;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next) {
    if (suits(redis, l) && rank(l, to_get) > best_rank) {
      best = l;
      best_rank = rank(l, to_get);
    }
  }
  return best;
}

struct forkq__lane *forkq__redis_add_lane(struct forkq__redis *redis) {
  struct forkq__lane *lane = forkq__calloc(sizeof *lane);
  if (lane == NULL)
    return NULL;
  lane->redis = redis;
  lane->number = 1;
  forkq__link_init(&lane->link, &redis->config);
  lane->next = atomic_load(&redis->lanes);
  atomic_store(&redis->lanes, lane);
  return lane;
}

int forkq__redis_take(struct forkq__redis *redis, int64_t deadline, bool to_get,
                      struct forkq__lane **ret_lane) {
  int r = forkq__redis_start(redis);
  if (r == 0)
    r = forkq__mutex_lock(&redis->mutex, deadline);
  if (r < 0)
    return r;
  struct forkq__lane *lane = NULL;
  if (redis->closed)
    r = FORKQ_ECLOSED;
  else if ((lane = find(redis, to_get)) == NULL &&
           (lane = forkq__redis_add_lane(redis)) == NULL)
    r = -ENOMEM;
  if (r == 0) {
    lane->busy = true;
    lane->owner = pthread_self();
    redis->users++;
    *ret_lane = lane;
  }
  forkq__mutex_unlock(&redis->mutex);
  return r;
}

void forkq__redis_give(struct forkq__lane *lane) {
  struct forkq__redis *redis = lane->redis;
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return;
  lane->busy = false;
  if (--redis->users == 0)
    forkq__mutex_wake(&redis->left);
  forkq__mutex_unlock(&redis->mutex);
}

/* ---- putting and getting ------------------------------------------------------------------- */

/* So many messages go into one command. The first is not too large. */
static size_t count_run(const forkq_bytes_t *messages, size_t count) {
  size_t n = 1, bytes = messages[0].size;
  while (n < count && n < FORKQ__REDIS_BATCH && bytes <= RUN_BYTES &&
         messages[n].size <= RUN_BYTES - bytes)
    bytes += messages[n++].size;
  return n;
}

static int put(void *state, const forkq_bytes_t *messages, size_t count, int64_t deadline,
               size_t *ret_put) {
  struct forkq__lane *lane;
  if (messages[0].size > FORKQ_REDIS_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  int r = forkq__redis_take(state, deadline, false, &lane);
  if (r != 0)
    return r;
  r = forkq__lane_put(lane, messages, count_run(messages, count), deadline, ret_put);
  forkq__redis_give(lane);
  return r;
}

static int get(void *state, forkq_item_t *items, size_t count, int64_t deadline,
               size_t *ret_got) {
  struct forkq__lane *lane;
  int r = forkq__redis_take(state, deadline, true, &lane);
  if (r != 0)
    return r;
  r = forkq__lane_get(lane, items, count, deadline, ret_got);
  forkq__redis_give(lane);
  if (r == FORKQ_EMPTY || r == FORKQ_TIMEDOUT)
    forkq__watch_found_nothing(state);
  return r;
}

/* ---- the end ------------------------------------------------------------------------------- */

static void write_leave(struct forkq__lane *lane, const void *arg) {
  const struct forkq__lane *client = arg;
  size_t done = FORKQ__LOAD(lane->redis->joinable) ? 0 : client->held_count;
  forkq__link_run(&lane->link, FORKQ__LUA_LEAVE, 1 + done);
  forkq__link_number(&lane->link, (int64_t)FORKQ__LOAD(client->client));
  for (size_t i = 0; i < done; i++)
    forkq__link_text(&lane->link, client->held[i].lost ? "" : client->held[i].id);
}

static bool is_client(const struct forkq__lane *lane) {
  return FORKQ__LOAD(lane->client) > 0 && !lane->busy;
}

/* Ends the clients on one of the connections. Where the server does not answer, their leases end. */
static void leave_server(struct forkq__redis *redis, int64_t deadline) {
  deadline = forkq__os_deadline_within(deadline, redis->config.answer_ms);
  struct forkq__lane *through = NULL;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next)
    if (is_client(l) && (through == NULL || forkq__link_is_open(&l->link)))
      through = l;
  if (through == NULL)
    return;
  through->leaves = true;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next) {
    int64_t number;
    bool sent;
    if (!is_client(l))
      continue;
    l->leaves = true;
    (void)forkq__lane_settle(l, deadline);
    if (forkq__lane_ask_number(through, write_leave, l, deadline, &number, &sent) < 0 ||
        forkq__os_now() >= deadline)
      return;
  }
}

static void close_links(struct forkq__redis *redis) {
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next)
    if (!l->busy)
      forkq__link_close(&l->link);
  if (forkq__mutex_lock(&redis->control_mutex, FORKQ__FOREVER) != 0)
    return;
  forkq__link_close(&redis->control);
  forkq__mutex_unlock(&redis->control_mutex);
}

/* Waits until no thread is in a call. With the mutex. */
static void see_users_off(struct forkq__redis *redis, int64_t deadline) {
  deadline = forkq__os_deadline_within(deadline, LEAVE_MS);
  while (redis->users > 0 && forkq__os_now() < deadline)
    forkq__mutex_wait(&redis->mutex, &redis->left, deadline);
}

static int close_queue(void *state, int64_t deadline) {
  struct forkq__redis *redis = state;
  if (forkq__mutex_is_mine(&redis->mutex))
    return -EDEADLK;
  int r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  bool was = redis->closed;
  redis->closed = true;
  if (!was) {
    atomic_store(&redis->stopping, true);
    if (redis->wake_fd >= 0)
      forkq__os_event_raise(redis->wake_fd);
    see_users_off(redis, deadline);
  }
  forkq__mutex_unlock(&redis->mutex);
  if (was)
    return 0;
  forkq__beat_stop(redis);
  forkq__watch_stop(redis);
  leave_server(redis, deadline);
  close_links(redis);
  return 0;
}

void forkq__redis_free(struct forkq__redis *redis) {
  struct forkq__lane *lane = atomic_load(&redis->lanes);
  while (lane != NULL) {
    struct forkq__lane *next = lane->next;
    forkq__link_close(&lane->link);
    forkq__free(lane->held);
    forkq__free(lane);
    lane = next;
  }
  forkq__link_close(&redis->control);
  forkq__link_close(&redis->beat.link);
  if (redis->wake_fd >= 0)
    forkq__os_close_own(redis->wake_fd, redis->wake_identity);
  if (redis->beat.poke_fd >= 0)
    forkq__os_close_own(redis->beat.poke_fd, redis->wake_identity);
  if (redis->watch.fd >= 0)
    forkq__os_close_own(redis->watch.fd, redis->wake_identity);
  if (redis->watch.poke_fd >= 0)
    forkq__os_close_own(redis->watch.poke_fd, redis->wake_identity);
  uv_sem_destroy(&redis->begun);
  forkq__mutex_fini(&redis->control_mutex);
  forkq__mutex_fini(&redis->mutex);
  memset(&redis->config, 0, sizeof redis->config); /* the password */
  forkq__free(redis);
}

static void destroy(void *state) {
  forkq__redis_free(state);
}

/* ---- a process's own ----------------------------------------------------------------------- */

int forkq__redis_make_event(struct forkq__redis *redis, int *fd) {
  if (*fd >= 0)
    return 0;
  int r = forkq__os_event_create();
  if (r < 0)
    return r;
  *fd = r;
  return forkq__os_identity(r, &redis->wake_identity); /* all events have one */
}

static int start(struct forkq__redis *redis) {
  int r = forkq__redis_make_event(redis, &redis->wake_fd);
  if (r == 0)
    r = forkq__redis_make_event(redis, &redis->beat.poke_fd);
  return r < 0 || redis->beat.runs ? r : forkq__beat_start(redis);
}

int forkq__redis_start(struct forkq__redis *redis) {
  if (FORKQ__LOAD(redis->started))
    return 0;
  int r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (!FORKQ__LOAD(redis->started) && !redis->closed)
    r = start(redis);
  if (r == 0)
    FORKQ__STORE(redis->started, true);
  forkq__mutex_unlock(&redis->mutex);
  return r;
}

static void before_fork(void *state, int64_t deadline) {
  struct forkq__redis *redis = state;
  redis->forking = forkq__mutex_lock(&redis->mutex, deadline) == 0;
}

static void after_fork_parent(void *state) {
  struct forkq__redis *redis = state;
  if (!redis->forking)
    return;
  redis->forking = false;
  forkq__mutex_unlock(&redis->mutex);
}

/* The connections are the parent's: the child closes its descriptors of them, and says nothing. */
static void lose_lane(struct forkq__lane *lane, bool whole) {
  forkq__link_lose(&lane->link, whole && !lane->busy);
  *lane = (struct forkq__lane){ .next = lane->next,
                                .redis = lane->redis,
                                .link = lane->link,
                                .number = 1,
                                .held = whole ? lane->held : NULL,
                                .held_capacity = whole ? lane->held_capacity : 0 };
}

static void close_event(struct forkq__redis *redis, int *fd) {
  if (*fd >= 0)
    forkq__os_close_own(*fd, redis->wake_identity);
  *fd = -1;
}

static void after_fork_child(void *state) {
  struct forkq__redis *redis = state;
  bool whole = redis->forking;
  redis->forking = false;
  (void)forkq__mutex_init(&redis->mutex);
  bool control = forkq__mutex_lock(&redis->control_mutex, FORKQ__NOWAIT) == 0;
  (void)forkq__mutex_init(&redis->control_mutex);
  redis->left = (struct forkq__condition){ 0 };
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next)
    lose_lane(l, whole);
  forkq__link_lose(&redis->control, control);
  forkq__link_lose(&redis->beat.link, false);
  close_event(redis, &redis->wake_fd);
  close_event(redis, &redis->beat.poke_fd);
  close_event(redis, &redis->watch.fd);
  close_event(redis, &redis->watch.poke_fd);
  redis->watch.raised = false;
  FORKQ__STORE(redis->watch.runs, false);
  redis->watch.lane = NULL; /* it is a lane like others */
  redis->beat.runs = false;
  redis->users = 0;
  atomic_store(&redis->stopping, false);
  FORKQ__STORE(redis->started, redis->closed);
}

const struct forkq__elsewhere_ops forkq__redis_ops = {
  .put = put,
  .get = get,
  .qsize = forkq__redis_qsize,
  .full = forkq__redis_full,
  .flush = forkq__redis_flush,
  .task_done = forkq__redis_task_done,
  .join = forkq__redis_join,
  .shutdown = forkq__redis_shutdown,
  .fileno = forkq__redis_fileno,
  .close = close_queue,
  .destroy = destroy,
  .before_fork = before_fork,
  .after_fork_parent = after_fork_parent,
  .after_fork_child = after_fork_child,
};
