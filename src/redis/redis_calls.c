/* The calls that neither put nor get. */
#include "redis/redis_impl.h"

#include "redis/host.h"

#include <errno.h>
#include <string.h>

/* ---- numbers ------------------------------------------------------------------------------- */

enum { SIZE, MAXSIZE, SHUT_DOWN, UNFINISHED, WAITING, NUMBERS };

static void write_stat(struct forkq__lane *lane, const void *arg) {
  (void)arg;
  forkq__link_run(&lane->link, FORKQ__LUA_STAT, 0);
}

static int read_numbers(const redisReply *reply, int64_t ret_numbers[NUMBERS]) {
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != NUMBERS)
    return FORKQ_ESERVER;
  for (int i = 0; i < NUMBERS; i++) {
    if (reply->element[i]->type != REDIS_REPLY_INTEGER)
      return FORKQ_ESERVER;
    ret_numbers[i] = reply->element[i]->integer;
  }
  return 0;
}

static int ask_numbers(struct forkq__redis *redis, int64_t ret_numbers[NUMBERS]) {
  struct forkq__lane *lane;
  redisReply *reply;
  bool sent;
  int r = forkq__redis_take(redis, FORKQ__FOREVER, false, &lane);
  if (r != 0)
    return r;
  r = forkq__lane_ask(lane, write_stat, NULL, FORKQ__NOWAIT, &reply, &sent);
  if (r == 0) {
    r = read_numbers(reply, ret_numbers);
    freeReplyObject(reply);
  }
  forkq__redis_give(lane);
  return r;
}

int64_t forkq__redis_qsize(void *state) {
  int64_t numbers[NUMBERS] = { 0 };
  int r = ask_numbers(state, numbers);
  return r != 0 ? r : numbers[SIZE];
}

int forkq__redis_full(void *state) {
  int64_t numbers[NUMBERS] = { 0 };
  int r = ask_numbers(state, numbers);
  return r != 0 ? r : numbers[MAXSIZE] > 0 && numbers[SIZE] >= numbers[MAXSIZE];
}

/* A put has sent its item before it returns. */
int forkq__redis_flush(void *state, int64_t deadline, uint64_t *ret_unsent) {
  struct forkq__redis *redis = state;
  int r = forkq__mutex_lock(&redis->mutex, deadline);
  if (r < 0)
    return r;
  r = redis->closed ? FORKQ_ECLOSED : 0;
  forkq__mutex_unlock(&redis->mutex);
  if (r == 0 && ret_unsent != NULL)
    *ret_unsent = 0;
  return r;
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* An item that is being marked. It stays among what was got until that has its answer: the lane must know of it. */
struct marked {
  uint64_t task, client;
  bool lost, asked;
  char id[FORKQ__REDIS_ID_MAX + 1];
};

/* With the mutex. `task` 0: the first that was got of all. */
static bool begin_mark(struct forkq__redis *redis, uint64_t task,
                       struct marked *ret_marked) {
  struct forkq__held *found = NULL;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next) {
    for (size_t i = 0; i < l->held_count; i++) {
      struct forkq__held *held = &l->held[i];
      bool is =
          task != 0 ? held->task == task : found == NULL || held->task < found->task;
      if (is && !held->marking) {
        found = held;
        ret_marked->client = FORKQ__LOAD(l->client);
      }
    }
  }
  if (found == NULL)
    return false;
  found->marking = true;
  ret_marked->task = found->task;
  ret_marked->lost = found->lost;
  ret_marked->asked = found->asked;
  memcpy(ret_marked->id, found->id, sizeof ret_marked->id);
  return true;
}

/* After a failure the item is not done. `sent`: but the server may have marked it. */
static void end_mark(struct forkq__redis *redis, const struct marked *marked, bool failed,
                     bool sent) {
  if (forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER) != 0)
    return;
  for (struct forkq__lane *l = atomic_load(&redis->lanes); l != NULL; l = l->next) {
    size_t i = 0;
    while (i < l->held_count && l->held[i].task != marked->task)
      i++;
    if (i == l->held_count)
      continue;
    l->held[i].marking = false;
    l->held[i].asked = l->held[i].asked || sent;
    if (!failed)
      forkq__lane_let_go(l, i);
  }
  forkq__mutex_unlock(&redis->mutex);
}

static void write_done(struct forkq__lane *lane, const void *arg) {
  const struct marked *marked = arg;
  forkq__link_run(&lane->link, FORKQ__LUA_DONE, 2);
  forkq__link_number(&lane->link, (int64_t)marked->client);
  forkq__link_text(&lane->link, marked->id);
}

/* Where the request was sent twice, by this call or by one that had no answer, the first one may have marked the
 * item. */
static int mark(struct forkq__lane *lane, const struct marked *marked, bool *ret_sent) {
  int64_t confirmed;
  int r = forkq__lane_ask_number(lane, write_done, marked, FORKQ__NOWAIT, &confirmed,
                                 ret_sent);
  if (r < 0)
    return r;
  return confirmed > 0 || lane->reopened || marked->asked ? 0 : FORKQ_ELEASE;
}

/* Not known by this thread's lane: another process may have it, or it was done before. */
static int find_marked(struct forkq__redis *redis, const forkq_item_t *item,
                       struct marked *ret_marked) {
  int r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (!FORKQ__LOAD(redis->joinable))
    r = FORKQ_ENOTJOINABLE;
  else if ((item != NULL && item->task_ == 0) ||
           !begin_mark(redis, item != NULL ? item->task_ : 0, ret_marked))
    r = FORKQ_ETASKDONE;
  forkq__mutex_unlock(&redis->mutex);
  return r;
}

int forkq__redis_task_done(void *state, const forkq_item_t *item) {
  struct forkq__redis *redis = state;
  struct forkq__lane *lane;
  struct marked marked;
  int r = forkq__redis_take(redis, FORKQ__FOREVER, false, &lane);
  if (r != 0)
    return r;
  r = find_marked(redis, item, &marked);
  if (r == 0) {
    bool sent = false;
    r = marked.lost ? FORKQ_ELEASE : mark(lane, &marked, &sent);
    end_mark(redis, &marked, r < 0 && r != FORKQ_ELEASE, sent);
  }
  forkq__redis_give(lane);
  return r;
}

/* ---- join ---------------------------------------------------------------------------------- */

#define ENTRY_MAX 48

struct joined {
  int64_t unfinished;
  char last[ENTRY_MAX]; /* the entry that says when nothing was unfinished */
};

static void write_join(struct forkq__lane *lane, const void *arg) {
  (void)arg;
  forkq__link_run(&lane->link, FORKQ__LUA_JOIN, 0);
}

static int look_at_tasks(struct forkq__lane *lane, int64_t deadline,
                         struct joined *ret_joined) {
  redisReply *reply;
  bool sent;
  int r = forkq__lane_ask(lane, write_join, NULL, deadline, &reply, &sent);
  if (r < 0)
    return r;
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
      reply->element[0]->type != REDIS_REPLY_INTEGER ||
      reply->element[1]->type != REDIS_REPLY_STRING ||
      reply->element[1]->len >= ENTRY_MAX) {
    r = FORKQ_ESERVER;
  } else {
    ret_joined->unfinished = reply->element[0]->integer;
    memcpy(ret_joined->last, reply->element[1]->str, reply->element[1]->len + 1);
  }
  freeReplyObject(reply);
  return r;
}

static void cancel(void *arg) {
  struct forkq__lane *lane = arg;
  forkq__link_close(&lane->link);
  forkq__redis_give(lane);
}

static void write_read(struct forkq__lane *lane, const char *last, int64_t until) {
  struct forkq__link *link = &lane->link;
  int64_t ms = (until - forkq__os_now()) / 1000000 + 1;
  forkq__link_begin(link, 6);
  forkq__link_text(link, "XREAD");
  forkq__link_text(link, "BLOCK");
  forkq__link_number(link, ms > 0 ? ms : 1);
  forkq__link_text(link, "STREAMS");
  forkq__link_key(link, "e", 0);
  forkq__link_text(link, last);
}

/* Waits for a new entry, for a slice: 0, FORKQ__NOTHING, FORKQ_TIMEDOUT, FORKQ_ECONNLOST, or why the call ends. */
static int await_entry(struct forkq__lane *lane, const char *last, int64_t deadline) {
  struct forkq__lane_wait wait = { lane, cancel, lane };
  struct forkq__patience patience = { forkq__lane_slice(deadline), forkq__lane_poll,
                                      &wait };
  redisReply *reply;
  if (!forkq__link_is_open(&lane->link))
    return FORKQ_ECONNLOST;
  write_read(lane, last, patience.deadline);
  int why = forkq__link_receive(&lane->link, &patience, &reply), r = why;
  if (why == FORKQ_TIMEDOUT || why == FORKQ_EINTERRUPTED || why == FORKQ_ECLOSED) {
    const struct forkq__patience rest = { forkq__lane_grace(lane), forkq__link_poll,
                                          NULL };
    forkq__lane_unblock(lane);
    r = forkq__link_receive(&lane->link, &rest, &reply);
  }
  if (r < 0) {
    forkq__link_close(&lane->link); /* the answer must not come later */
    return why;
  }
  r = forkq__link_judge(reply);
  bool came = r == 0 && reply->type == REDIS_REPLY_ARRAY;
  freeReplyObject(reply);
  if (came)
    return 0;
  return r < 0 ? r : why < 0 ? why : FORKQ__NOTHING;
}

/* The queue may be full of new tasks again by the time that the entry is seen: that nothing was unfinished for a
 * moment is enough, as in CPython. */
static int join(struct forkq__lane *lane, int64_t deadline) {
  struct joined joined;
  for (;;) {
    int r = look_at_tasks(lane, deadline, &joined);
    if (r < 0)
      return r == FORKQ_ECONNLOST && deadline != FORKQ__NOWAIT ? FORKQ_TIMEDOUT : r;
    if (joined.unfinished <= 0)
      return 0;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    r = await_entry(lane, joined.last, deadline);
    if (r != FORKQ__NOTHING && r != FORKQ_TIMEDOUT && r != FORKQ_ECONNLOST)
      return r;
  }
}

int forkq__redis_join(void *state, int64_t deadline, uint64_t *ret_abandoned) {
  struct forkq__redis *redis = state;
  struct forkq__lane *lane;
  (void)ret_abandoned;
  int r = forkq__redis_take(redis, deadline, false, &lane);
  if (r != 0)
    return r;
  r = FORKQ__LOAD(redis->joinable) ? join(lane, deadline) : FORKQ_ENOTJOINABLE;
  forkq__redis_give(lane);
  return r;
}

/* ---- shutdown ------------------------------------------------------------------------------ */

static void write_shut(struct forkq__lane *lane, const void *immediate) {
  forkq__link_run(&lane->link, FORKQ__LUA_SHUT, 1);
  forkq__link_text(&lane->link, *(const bool *)immediate ? "1" : "0");
}

int forkq__redis_shutdown(void *state, bool immediate) {
  struct forkq__lane *lane;
  int64_t number;
  bool sent;
  int r = forkq__redis_take(state, FORKQ__FOREVER, false, &lane);
  if (r != 0)
    return r;
  r = forkq__lane_ask_number(lane, write_shut, &immediate, FORKQ__NOWAIT, &number, &sent);
  forkq__redis_give(lane);
  return r;
}
