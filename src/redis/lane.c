/* A lane: one client of the server, its connection, and asking until there is an answer.
 *
 * Where the connection is lost, nobody knows what the server has done. A request is sent again on a new
 * connection, after the old one was ended at the server, so that nothing that is still on its way comes later.
 * The scripts make sure that a request has its effect once: a put has a number, and what was given to
 * a client is listed there. */
#include "redis/redis_impl.h"

#include "base/times.h"
#include "redis/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FIRST_RETRY_MS 2
#define LAST_RETRY_MS 500

/* How long a call whose wait is over waits for the server. */
#define GRACE_MS 250

int64_t forkq__lane_limit(const struct forkq__lane *lane, int64_t deadline) {
  return deadline == FORKQ__NOWAIT
             ? forkq__os_deadline_within(FORKQ__FOREVER, lane->redis->config.answer_ms)
             : deadline;
}

int64_t forkq__lane_grace(const struct forkq__lane *lane) {
  int answer_ms = lane->redis->config.answer_ms;
  return forkq__os_deadline_within(FORKQ__FOREVER,
                                   answer_ms < GRACE_MS ? answer_ms : GRACE_MS);
}

int forkq__lane_poll(void *arg, struct pollfd *fd, int64_t deadline) {
  struct forkq__lane_wait *wait = arg;
  struct forkq__redis *redis = wait->lane->redis;
  struct pollfd fds[2] = { { .fd = redis->wake_fd, .events = POLLIN } };
  if (fd != NULL)
    fds[1] = *fd;
  int r = forkq__host()->poll(redis->queue, fds, fd != NULL ? 2 : 1, deadline,
                              wait->leave, wait->arg);
  if (r < 0)
    return r;
  if (atomic_load(&redis->stopping))
    return FORKQ_ECLOSED;
  if (fd != NULL)
    fd->revents = fds[1].revents;
  return r;
}

/* ---- being a client ------------------------------------------------------------------------ */

/* Ends the last connection at the server. A user who may not do that goes without. */
static int fence(struct forkq__lane *lane, const struct forkq__patience *patience) {
  redisReply *reply;
  if (lane->old_id == 0 || strcmp(lane->old_run_id, lane->link.run_id) != 0)
    return 0;
  forkq__link_begin(&lane->link, 4);
  forkq__link_text(&lane->link, "CLIENT");
  forkq__link_text(&lane->link, "KILL");
  forkq__link_text(&lane->link, "ID");
  forkq__link_number(&lane->link, lane->old_id);
  int r = forkq__link_receive(&lane->link, patience, &reply);
  if (r == 0)
    freeReplyObject(reply);
  return r;
}

static void write_open(struct forkq__lane *lane) {
  const struct forkq__redis_config *config = &lane->redis->config;
  struct forkq__link *link = &lane->link;
  forkq__link_run(link, FORKQ__LUA_OPEN, 5);
  if (config->maxsize >= 0)
    forkq__link_number(link, config->maxsize);
  else
    forkq__link_text(link, "");
  if (config->joinable >= 0)
    forkq__link_number(link, config->joinable);
  else
    forkq__link_text(link, "");
  forkq__link_number(link, config->lease_ms);
  forkq__link_text(link, lane->queue_id);
  forkq__link_number(link, (int64_t)FORKQ__LOAD(lane->client));
}

/* What was got is another's, or is gone with the queue. */
static void lose_items(struct forkq__lane *lane) {
  if (forkq__mutex_lock(&lane->redis->mutex, FORKQ__FOREVER) != 0)
    return;
  for (size_t i = 0; i < lane->held_count; i++)
    lane->held[i].lost = true;
  forkq__mutex_unlock(&lane->redis->mutex);
}

static bool is_number(const redisReply *reply, size_t index) {
  return index < reply->elements && reply->element[index]->type == REDIS_REPLY_INTEGER;
}

static int become(struct forkq__lane *lane, const redisReply *reply) {
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 6 || !is_number(reply, 0) ||
      reply->element[1]->type != REDIS_REPLY_STRING || !is_number(reply, 3) ||
      !is_number(reply, 4) || !is_number(reply, 5))
    return FORKQ_ESERVER;
  bool known = reply->element[4]->integer == 1;
  if (FORKQ__LOAD(lane->client) > 0 && (!known || reply->element[5]->integer == 0))
    lose_items(lane);
  if (!known) {
    lane->number = 1;
    lane->unknown = 0;
  }
  FORKQ__STORE(lane->client, (uint64_t)reply->element[0]->integer);
  snprintf(lane->queue_id, sizeof lane->queue_id, "%s", reply->element[1]->str);
  FORKQ__STORE(lane->redis->joinable, reply->element[3]->integer == 1);
  return 0;
}

static int register_client(struct forkq__lane *lane,
                           const struct forkq__patience *patience) {
  redisReply *reply;
  int r = fence(lane, patience);
  if (r < 0)
    return r;
  lane->old_id = lane->link.id;
  snprintf(lane->old_run_id, sizeof lane->old_run_id, "%s", lane->link.run_id);
  write_open(lane);
  r = forkq__link_receive(&lane->link, patience, &reply);
  if (r < 0)
    return r;
  r = forkq__link_judge(reply);
  if (r == 0)
    r = become(lane, reply);
  freeReplyObject(reply);
  return r;
}

int forkq__lane_connect(struct forkq__lane *lane, struct forkq__patience patience) {
  if (forkq__link_is_open(&lane->link))
    return 0;
  patience.deadline =
      forkq__os_deadline_within(patience.deadline, lane->redis->config.answer_ms);
  int r = forkq__link_open(&lane->link, &patience, FORKQ__LOAD(lane->client) == 0);
  if (r == 0)
    r = register_client(lane, &patience);
  if (r < 0)
    forkq__link_close(&lane->link);
  return r;
}

/* ---- asking -------------------------------------------------------------------------------- */

/* Whether another try may go better. */
static bool is_passing(int r) {
  return r == FORKQ_ECONNLOST || r == FORKQ_TIMEDOUT || r == -ECONNREFUSED ||
         r == -ENOENT || r == -ECONNRESET || r == -ETIMEDOUT || r == -ENETUNREACH ||
         r == -EHOSTUNREACH || r == -EHOSTDOWN || r == -EPIPE || r == -ECONNABORTED;
}

static int ask_once(struct forkq__lane *lane, forkq__write_fn write, const void *arg,
                    int64_t limit, redisReply **ret_reply, bool *ret_sent) {
  struct forkq__patience patience = { limit, forkq__link_poll, NULL };
  int r = forkq__lane_connect(lane, patience);
  if (r < 0)
    return r;
  write(lane, arg);
  bool whole = lane->link.error == 0;
  patience.deadline = forkq__os_deadline_within(limit, lane->redis->config.answer_ms);
  r = forkq__link_receive(&lane->link, &patience, ret_reply);
  if (r < 0) {
    *ret_sent = *ret_sent || whole;
    forkq__link_close(&lane->link);
    return r;
  }
  r = forkq__link_judge(*ret_reply);
  if (r < 0)
    freeReplyObject(*ret_reply);
  if (r == FORKQ_ECONNLOST)
    forkq__link_close(&lane->link); /* it had no effect */
  else
    *ret_sent = true;
  return r;
}

static int pause_for(struct forkq__lane *lane, int ms, int64_t limit) {
  struct forkq__lane_wait wait = { lane, NULL, NULL };
  int state;
  if (lane->leaves) {
    int slept = forkq__os_poll(NULL, 0, forkq__os_deadline_within(limit, ms));
    return slept < 0 ? slept : 0;
  }
  /* A thread that ended here would leave with its lane. */
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = forkq__lane_poll(&wait, NULL, forkq__os_deadline_within(limit, ms));
  pthread_setcancelstate(state, NULL);
  return r < 0 ? r : 0;
}

int forkq__lane_ask(struct forkq__lane *lane, forkq__write_fn write, const void *arg,
                    int64_t deadline, redisReply **ret_reply, bool *ret_sent) {
  int64_t limit = forkq__lane_limit(lane, deadline);
  *ret_sent = false;
  forkq__redis_say("");
  int r = forkq__lane_settle(lane, deadline);
  if (r < 0)
    return r;
  lane->reopened = false;
  for (int ms = 0;;) {
    r = ask_once(lane, write, arg, limit, ret_reply, ret_sent);
    if (!is_passing(r))
      return r;
    if (forkq__os_now() >= limit || (deadline == FORKQ__NOWAIT && ms > 0))
      return forkq__redis_refused() && !*ret_sent ? FORKQ_ESERVER : FORKQ_ECONNLOST;
    lane->reopened = *ret_sent;
    ms = forkq__back_off(ms, FIRST_RETRY_MS, LAST_RETRY_MS);
    r = pause_for(lane, ms, limit);
    if (r < 0)
      return r;
  }
}

int forkq__lane_ask_number(struct forkq__lane *lane, forkq__write_fn write,
                           const void *arg, int64_t deadline, int64_t *ret_number,
                           bool *ret_sent) {
  redisReply *reply;
  int r = forkq__lane_ask(lane, write, arg, deadline, &reply, ret_sent);
  if (r < 0)
    return r;
  if (reply->type == REDIS_REPLY_INTEGER)
    *ret_number = reply->integer;
  else
    r = FORKQ_ESERVER;
  freeReplyObject(reply);
  return r;
}

/* ---- commands that block ------------------------------------------------------------------- */

int64_t forkq__lane_slice(int64_t deadline) {
  return forkq__os_deadline_within(deadline, FORKQ__REDIS_SLICE_MS);
}

/* 0 would mean without limit. */
void forkq__lane_seconds(struct forkq__link *link, int64_t until) {
  int64_t ms = (until - forkq__os_now()) / FORKQ__NS_PER_MS + 1;
  char text[32];
  ms = ms > 0 ? ms : 1;
  snprintf(text, sizeof text, "%d.%03d", (int)(ms / 1000), (int)(ms % 1000));
  forkq__link_text(link, text);
}

/* The server looks ten times a second whether the time of a command is over; this is on time. Where it fails, the
 * command ends at the server's look. */
void forkq__lane_unblock(struct forkq__lane *lane) {
  struct forkq__redis *redis = lane->redis;
  struct forkq__link *link = &redis->control;
  const struct forkq__patience patience = { forkq__lane_grace(lane), forkq__link_poll,
                                            NULL };
  redisReply *reply;
  if (forkq__mutex_lock(&redis->control_mutex, patience.deadline) != 0)
    return;
  int r = forkq__link_is_open(link) ? 0 : forkq__link_open(link, &patience, false);
  if (r == 0) {
    forkq__link_begin(link, 3);
    forkq__link_text(link, "CLIENT");
    forkq__link_text(link, "UNBLOCK");
    forkq__link_number(link, lane->link.id);
    r = forkq__link_receive(link, &patience, &reply);
    if (r == 0)
      freeReplyObject(reply);
    else
      forkq__link_close(link);
  }
  forkq__mutex_unlock(&redis->control_mutex);
}
