/* Getting on a lane.
 *
 * The server moves an item to the list of what the client has, and answers with it. A get that waits has the
 * server move it when it comes, and the answer follows. What was moved by an answer that was lost, or in a wait that
 * ended in between, is known to the server, and is asked for by the next get. */
#include "redis/redis_impl.h"

#include "base/heap.h"
#include "codec/borrow.h"
#include "redis/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* With the mutex. */
bool forkq__lane_hold(struct forkq__lane *lane, const char *id, uint64_t task) {
  if (lane->held_count == lane->held_capacity) {
    size_t capacity = lane->held_capacity > 0 ? 2 * lane->held_capacity : 8;
    struct forkq__held *held = forkq__realloc(lane->held, capacity * sizeof *held);
    if (held == NULL)
      return false;
    lane->held = held;
    lane->held_capacity = capacity;
  }
  struct forkq__held *held = &lane->held[lane->held_count++];
  *held = (struct forkq__held){ .task = task };
  strcpy(held->id, id); /* NOLINT: its length was looked at */
  return true;
}

void forkq__lane_let_go(struct forkq__lane *lane, size_t index) {
  lane->held_count--;
  memmove(&lane->held[index], &lane->held[index + 1],
          (lane->held_count - index) * sizeof *lane->held);
}

/* ---- the requests -------------------------------------------------------------------------- */

/* The ids of what was got on the lane, each of which counts as a word. In a queue without tasks they are done with
 * this get. In others, they are what the lane knows of, which matters where an answer was lost. */
static size_t begin_ids(struct forkq__lane *lane, bool wanted) {
  bool locked = wanted && forkq__mutex_lock(&lane->redis->mutex, FORKQ__FOREVER) == 0;
  return locked ? lane->held_count : SIZE_MAX;
}

static void write_ids(struct forkq__lane *lane, size_t count) {
  if (count == SIZE_MAX)
    return;
  for (size_t i = 0; i < count; i++)
    forkq__link_text(&lane->link, lane->held[i].lost ? "" : lane->held[i].id);
  forkq__mutex_unlock(&lane->redis->mutex);
}

static size_t words_of(size_t count) {
  return count == SIZE_MAX ? 0 : count;
}

static void write_fetch(struct forkq__lane *lane, const void *most) {
  bool seen = lane->unseen || lane->reopened, done = !FORKQ__LOAD(lane->redis->joinable);
  size_t count = begin_ids(lane, seen || done);
  forkq__link_run(&lane->link, FORKQ__LUA_FETCH, 4 + words_of(count));
  forkq__link_number(&lane->link, (int64_t)FORKQ__LOAD(lane->client));
  forkq__link_number(&lane->link, (int64_t) * (const size_t *)most);
  forkq__link_text(&lane->link, seen ? "seen" : "fetch");
  forkq__link_text(&lane->link, done ? "done" : "known");
  lane->done_count = done ? words_of(count) : 0;
  write_ids(lane, count);
}

static void write_back(struct forkq__lane *lane, const void *arg) {
  (void)arg;
  size_t count = begin_ids(lane, true);
  forkq__link_run(&lane->link, FORKQ__LUA_BACK, 1 + words_of(count));
  forkq__link_number(&lane->link, (int64_t)FORKQ__LOAD(lane->client));
  write_ids(lane, count);
}

/* ---- the answer ---------------------------------------------------------------------------- */

static int fill_item(forkq_item_t *item, const redisReply *body) {
  int r = forkq__host()->item_reserve(item, body->len > 0 ? body->len : 1);
  if (r < 0)
    return r;
  memcpy(item->memory_, body->str, body->len);
  forkq__host()->item_finish(item, body->len);
  return 0;
}

/* Makes an item of three answers from `at` on: 0, FORKQ_EBADFRAME, or -ENOMEM. */
static int take(struct forkq__lane *lane, redisReply *const *at, forkq_item_t *item) {
  const redisReply *id = at[0], *body = at[1], *times = at[2];
  if (id->type != REDIS_REPLY_STRING || id->len > FORKQ__REDIS_ID_MAX ||
      strlen(id->str) != id->len || body->type != REDIS_REPLY_STRING)
    return FORKQ_EBADFRAME;
  struct forkq__borrow *borrow = item->borrow_;
  int r = 0;
  if (borrow != NULL && borrow->check != NULL)
    r = borrow->check(borrow, (const uint8_t *)body->str, body->len);
  if (r == 0)
    r = fill_item(item, body);
  if (r < 0)
    return r;
  struct forkq__redis *redis = lane->redis;
  r = forkq__mutex_lock(&redis->mutex, FORKQ__FOREVER);
  if (r < 0)
    return r;
  item->task_ = ++redis->tasks;
  item->redelivered =
      times->type == REDIS_REPLY_STRING ? (uint32_t)strtoul(times->str, NULL, 10) : 0;
  bool held = forkq__lane_hold(lane, id->str, item->task_);
  forkq__mutex_unlock(&redis->mutex);
  return held ? 0 : -ENOMEM;
}

/* Returns 0 and how many items there are, FORKQ__NOTHING, FORKQ_ESHUTDOWN, or an error. What could not be taken stays
 * unseen. */
static int read_answer(struct forkq__lane *lane, const redisReply *reply,
                       forkq_item_t *items, size_t count, size_t *ret_got) {
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 ||
      reply->elements % 3 != 1 || reply->element[0]->type != REDIS_REPLY_INTEGER)
    return FORKQ_ESERVER;
  size_t there = reply->elements / 3, n = 0;
  int r = 0;
  while (n < there && n < count &&
         (r = take(lane, &reply->element[1 + 3 * n], &items[n])) == 0)
    n++;
  lane->unseen = n < there;
  *ret_got = n;
  if (n > 0)
    return 0;
  if (r < 0)
    return r;
  return reply->element[0]->integer != 0 ? FORKQ_ESHUTDOWN : FORKQ__NOTHING;
}

/* ---- getting ------------------------------------------------------------------------------- */

void forkq__lane_put_back(struct forkq__lane *lane, int64_t deadline) {
  redisReply *reply;
  bool sent;
  if (forkq__lane_ask(lane, write_back, NULL, deadline, &reply, &sent) != 0)
    return;
  freeReplyObject(reply);
  lane->unseen = false;
}

/* The server has confirmed what was done. Nobody else takes it away. */
static void forget_done(struct forkq__lane *lane) {
  if (lane->done_count == 0 ||
      forkq__mutex_lock(&lane->redis->mutex, FORKQ__FOREVER) != 0)
    return;
  lane->held_count -= lane->done_count;
  memmove(lane->held, lane->held + lane->done_count,
          lane->held_count * sizeof *lane->held);
  lane->done_count = 0;
  forkq__mutex_unlock(&lane->redis->mutex);
}

/* An answer to a get: what was done before is done, whatever else it has. */
static int end_get(struct forkq__lane *lane, redisReply *reply, forkq_item_t *items,
                   size_t count, size_t *ret_got) {
  forget_done(lane);
  int r = read_answer(lane, reply, items, count, ret_got);
  freeReplyObject(reply);
  return r;
}

static int get_now(struct forkq__lane *lane, forkq_item_t *items, size_t count,
                   int64_t deadline, size_t *ret_got) {
  redisReply *reply;
  bool sent;
  int r = forkq__lane_ask(lane, write_fetch, &count, deadline, &reply, &sent);
  if (r == 0)
    return end_get(lane, reply, items, count, ret_got);
  lane->unseen = lane->unseen || sent;
  return r;
}

static void cancel(void *arg) {
  struct forkq__lane *lane = arg;
  struct forkq__redis *redis = lane->redis;
  forkq__link_close(&lane->link);
  lane->unseen = true;
  forkq__redis_give(lane);
  forkq__beat_poke(redis);
}

/* Two answers: of the command that blocked, and of what follows. */
static int receive_item(struct forkq__lane *lane, const struct forkq__patience *patience,
                        forkq_item_t *item, int *owed) {
  while (*owed > 0) {
    redisReply *reply;
    int r = forkq__link_receive(&lane->link, patience, &reply);
    if (r < 0)
      return r;
    r = forkq__link_judge(reply);
    --*owed;
    if (r == 0 && *owed == 0)
      return end_get(lane, reply, item, 1, &(size_t){ 0 });
    freeReplyObject(reply);
    if (r < 0)
      return r;
  }
  return FORKQ__NOTHING;
}

/* Ends the command, and receives what came all the same. */
static int end_wait(struct forkq__lane *lane, forkq_item_t *item, int *owed) {
  const struct forkq__patience patience = { forkq__lane_grace(lane), forkq__link_poll,
                                            NULL };
  forkq__lane_unblock(lane);
  return receive_item(lane, &patience, item, owed);
}

static void write_move(struct forkq__lane *lane, int64_t until) {
  struct forkq__link *link = &lane->link;
  forkq__link_begin(link, 6);
  forkq__link_text(link, "BLMOVE");
  forkq__link_key(link, "i", 0);
  forkq__link_key(link, "t:", FORKQ__LOAD(lane->client));
  forkq__link_text(link, "LEFT");
  forkq__link_text(link, "RIGHT");
  forkq__lane_seconds(link, until);
}

static void write_wait(struct forkq__lane *lane, int64_t until) {
  write_move(lane, until);
  write_fetch(lane, &(size_t){ 1 });
}

void forkq__lane_write_watch(struct forkq__lane *lane, int64_t until) {
  write_move(lane, until);
  write_back(lane, NULL);
}

/* Waits for one item, for a slice: 0, FORKQ__NOTHING, or an error. Where an answer is still to come, the
 * connection is closed. */
static int wait_for_item(struct forkq__lane *lane, forkq_item_t *item, int64_t deadline) {
  struct forkq__lane_wait wait = { lane, cancel, lane };
  struct forkq__patience patience = { forkq__lane_slice(deadline), forkq__lane_poll,
                                      &wait };
  int owed = 2;
  if (!forkq__link_is_open(&lane->link))
    return FORKQ__NOTHING;
  lane->reopened = false;
  write_wait(lane, patience.deadline);
  int why = receive_item(lane, &patience, item, &owed), r = why;
  if (why == FORKQ_TIMEDOUT || why == FORKQ_EINTERRUPTED || why == FORKQ_ECLOSED)
    r = end_wait(lane, item, &owed);
  if (owed > 0) {
    forkq__link_close(&lane->link);
    lane->unseen = true;
  }
  return r == FORKQ__NOTHING || owed > 0 ? why : r;
}

static bool is_over(int r) {
  return r != FORKQ__NOTHING && r != FORKQ_TIMEDOUT && r != FORKQ_ECONNLOST;
}

static int get_until(struct forkq__lane *lane, forkq_item_t *items, size_t count,
                     int64_t deadline, size_t *ret_got) {
  count = count < FORKQ__REDIS_BATCH ? count : FORKQ__REDIS_BATCH;
  for (;;) {
    int r = get_now(lane, items, count, deadline, ret_got);
    if (r != FORKQ__NOTHING)
      return r;
    if (deadline == FORKQ__NOWAIT)
      return FORKQ_EMPTY;
    r = wait_for_item(lane, &items[0], deadline);
    *ret_got = 1;
    if (is_over(r))
      return r;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
  }
}

/* What was not taken because of its length, or type, is to be got next, by whatever process. */
int forkq__lane_get(struct forkq__lane *lane, forkq_item_t *items, size_t count,
                    int64_t deadline, size_t *ret_got) {
  int r = get_until(lane, items, count, deadline, ret_got);
  if (r == FORKQ_ETOOSHORT || r == FORKQ_EWRONGTYPE)
    forkq__lane_put_back(lane, FORKQ__NOWAIT);
  return r;
}
