/* Putting on a lane.
 *
 * Each message has a number, and the server knows the last one that it has accepted, so a put can be repeated. A put
 * that waits is noted by the server, which lets it in when there is room, and says so in the client's mailbox. */
#include "redis/redis_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the scripts say of a put. */
enum { WAITS = -1, SHUT = -2 };

struct put {
  const forkq_bytes_t *messages;
  size_t count;
  int64_t deadline;
};

static int64_t ms_until(int64_t deadline) {
  if (deadline == FORKQ__NOWAIT)
    return 0;
  if (deadline == FORKQ__FOREVER)
    return -1;
  int64_t ms = (deadline - forkq__os_now()) / 1000000 + 1;
  return ms > 0 ? ms : 1;
}

static void write_put(struct forkq__lane *lane, const void *arg) {
  const struct put *put = arg;
  struct forkq__link *link = &lane->link;
  forkq__link_run(link, FORKQ__LUA_PUT, 3 + put->count);
  forkq__link_number(link, (int64_t)FORKQ__LOAD(lane->client));
  forkq__link_number(link, (int64_t)lane->number);
  forkq__link_number(link, ms_until(put->deadline));
  for (size_t i = 0; i < put->count; i++)
    forkq__link_word(link, put->messages[i].data, put->messages[i].size);
}

struct question {
  uint64_t count;
  bool gives_up;
};

static void write_question(struct forkq__lane *lane, const void *arg) {
  const struct question *question = arg;
  struct forkq__link *link = &lane->link;
  forkq__link_run(link, FORKQ__LUA_ASK, 4);
  forkq__link_number(link, (int64_t)FORKQ__LOAD(lane->client));
  forkq__link_number(link, (int64_t)lane->number);
  forkq__link_number(link, (int64_t)question->count);
  forkq__link_text(link, question->gives_up ? "1" : "0");
}

/* The number is used up, whatever became of it. */
static void step_over(struct forkq__lane *lane, uint64_t count) {
  lane->number += count;
  lane->unknown = 0;
}

int forkq__lane_settle(struct forkq__lane *lane, int64_t deadline) {
  if (lane->unknown == 0 || lane->settling)
    return 0;
  const struct question question = { lane->unknown, true };
  int64_t number;
  bool sent;
  lane->settling = true;
  int r =
      forkq__lane_ask_number(lane, write_question, &question, deadline, &number, &sent);
  lane->settling = false;
  if (r == 0 && lane->unknown > 0)
    step_over(lane, lane->unknown);
  return r;
}

/* ---- waiting for room ---------------------------------------------------------------------- */

/* Receives what the mailbox has: 0 if the put is in, FORKQ_ESHUTDOWN, FORKQ__NOTHING if it is not known yet. */
static int read_mailbox(const struct forkq__lane *lane, const redisReply *reply) {
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
      reply->element[1]->type != REDIS_REPLY_STRING)
    return FORKQ__NOTHING;
  char *end;
  uint64_t number = strtoull(reply->element[1]->str, &end, 10);
  if (number != lane->number)
    return FORKQ__NOTHING; /* of a put that had given up */
  return *end == 'S' ? FORKQ_ESHUTDOWN : 0;
}

/* Gives up. Returns 0 if the put had been let in. */
static int give_up(struct forkq__lane *lane, int r) {
  const struct question question = { 1, true };
  int64_t number;
  bool sent;
  int asked = forkq__lane_ask_number(lane, write_question, &question,
                                     forkq__lane_grace(lane), &number, &sent);
  if (asked < 0) {
    lane->unknown = 1;
    return FORKQ_EUNKNOWN;
  }
  step_over(lane, 1);
  if (number > 0)
    return 0;
  return number == SHUT ? FORKQ_ESHUTDOWN : r;
}

/* The thread was cancelled: nothing is put, unless it was let in just now. */
static void cancel(void *arg) {
  struct forkq__lane *lane = arg;
  forkq__link_close(&lane->link);
  (void)give_up(lane, 0);
  forkq__redis_give(lane);
}

/* Ends the command, and receives what came all the same. */
static int end_wait(struct forkq__lane *lane, int why, redisReply **ret_reply) {
  const struct forkq__patience patience = { forkq__lane_grace(lane), forkq__link_poll,
                                            NULL };
  forkq__lane_unblock(lane);
  return forkq__link_receive(&lane->link, &patience, ret_reply) < 0 ? why : 0;
}

/* Waits for one message of the mailbox, for a slice: 0 and what it says; or FORKQ_TIMEDOUT, FORKQ_EINTERRUPTED,
 * FORKQ_ECLOSED, FORKQ_ECONNLOST. */
static int await_mailbox(struct forkq__lane *lane, int64_t deadline, int *ret_says) {
  struct forkq__lane_wait wait = { lane, cancel, lane };
  struct forkq__patience patience = { forkq__lane_slice(deadline), forkq__lane_poll,
                                      &wait };
  redisReply *reply;
  if (!forkq__link_is_open(&lane->link))
    return FORKQ_ECONNLOST;
  forkq__link_begin(&lane->link, 3);
  forkq__link_text(&lane->link, "BLPOP");
  forkq__link_key(&lane->link, "b:", FORKQ__LOAD(lane->client));
  forkq__lane_seconds(&lane->link, patience.deadline);
  int why = forkq__link_receive(&lane->link, &patience, &reply), r = why;
  if (why == FORKQ_TIMEDOUT || why == FORKQ_EINTERRUPTED || why == FORKQ_ECLOSED)
    r = end_wait(lane, why, &reply);
  if (r < 0) {
    forkq__link_close(&lane->link); /* the answer must not come later */
    return r;
  }
  r = forkq__link_judge(reply);
  *ret_says = read_mailbox(lane, reply);
  freeReplyObject(reply);
  return r < 0 || *ret_says != FORKQ__NOTHING ? r : why;
}

/* What the server knows of the put: 0 it is in; FORKQ__NOTHING, it waits; FORKQ_ESHUTDOWN; FORKQ_FULL, it was dropped
 * because its time was over; or an error. */
static int look(struct forkq__lane *lane, int64_t deadline) {
  const struct question question = { 1, false };
  int64_t number;
  bool sent;
  int r =
      forkq__lane_ask_number(lane, write_question, &question, deadline, &number, &sent);
  if (r < 0)
    return r;
  if (number > 0)
    return 0;
  if (number == SHUT)
    return FORKQ_ESHUTDOWN;
  return number == WAITS ? FORKQ__NOTHING : FORKQ_FULL;
}

static int wait_for_room(struct forkq__lane *lane, int64_t deadline) {
  for (;;) {
    int says = FORKQ__NOTHING;
    int r = await_mailbox(lane, deadline, &says);
    if (r == 0 && says != FORKQ__NOTHING) {
      step_over(lane, 1);
      return says;
    }
    if (r == FORKQ_EINTERRUPTED || r == FORKQ_ECLOSED || r == -ENOMEM)
      return give_up(lane, r);
    if (forkq__os_now() >= deadline)
      return give_up(lane, FORKQ_TIMEDOUT);
    r = look(lane, deadline);
    if (r == 0) {
      step_over(lane, 1);
      return 0;
    }
    if (r != FORKQ__NOTHING)
      return give_up(lane, r == FORKQ_FULL ? FORKQ_TIMEDOUT : r);
  }
}

/* ---- the put ------------------------------------------------------------------------------- */

/* A put of which the server may know is fenced before the next one, which would have its number. */
static int without_answer(struct forkq__lane *lane, size_t count, int r, bool sent) {
  if (!sent)
    return r;
  lane->unknown = count;
  bool lost = r == FORKQ_ECONNLOST || r == FORKQ_EINTERRUPTED || r == FORKQ_ECLOSED;
  return lost || r == -ENOMEM ? FORKQ_EUNKNOWN : r;
}

int forkq__lane_put(struct forkq__lane *lane, const forkq_bytes_t *messages, size_t count,
                    int64_t deadline, size_t *ret_put) {
  const struct put put = { messages, count, deadline };
  int64_t number;
  bool sent;
  int r = forkq__lane_settle(lane, deadline);
  if (r < 0)
    return r;
  r = forkq__lane_ask_number(lane, write_put, &put, deadline, &number, &sent);
  if (r < 0)
    return without_answer(lane, count, r, sent);
  if (number == SHUT)
    return FORKQ_ESHUTDOWN;
  if (number == 0)
    return FORKQ_FULL;
  if (number == WAITS) {
    r = wait_for_room(lane, deadline);
    *ret_put = 1;
    return r;
  }
  if (number < 0 || (uint64_t)number > count)
    return FORKQ_ESERVER;
  step_over(lane, (uint64_t)number);
  *ret_put = (size_t)number;
  return 0;
}
