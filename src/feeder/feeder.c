/* The feeder's thread: its start, its sleep, its work and its end. */
#include "feeder/feeder.h"

#include "base/contract.h"
#include "base/os.h"
#include "base/times.h"

#include <errno.h>

/* The thread ends after it has had nothing to do for so long. To start one costs some 50 us. */
#define IDLE_MS 1000

/* While messages lie beside the pipe that nobody has taken yet, the thread stays, for so many times as
 * long at most, to give back their memory. */
#define IDLE_TIMES 60

/* The size of its stack, because the limit for stacks (RLIMIT_STACK) may be anything. A
 * function of the program's may run on it (on_feeder_error). */
#define STACK_SIZE ((size_t)256 * 1024)

/* Puts are rare if they come less often than this. */
#define RARE_NS INT64_C(2000)

/* References are gathered for so long: docs/performance.md has the figures. */
#define GATHER_NS INT64_C(50000)

/* ---- the states ---------------------------------------------------------------------------- */

#define TO(state) (1u << FORKQ__FEEDER_##state)

/* What may follow each state. In the child of a fork, NONE follows each. */
static const unsigned follows[] = {
  [FORKQ__FEEDER_NONE] = TO(AWAKE) | TO(FINISHED),
  [FORKQ__FEEDER_AWAKE] = TO(ASLEEP) | TO(RETIRED) | TO(ENDED),
  [FORKQ__FEEDER_ASLEEP] = TO(AWAKE) | TO(GATHERING),
  [FORKQ__FEEDER_GATHERING] = TO(AWAKE),
  [FORKQ__FEEDER_RETIRED] = TO(NONE),
  [FORKQ__FEEDER_ENDED] = TO(FINISHED),
  [FORKQ__FEEDER_FINISHED] = 0,
};

static void become(struct forkq__feeder *feeder, enum forkq__feeder_state state) {
  FORKQ__HELD(&feeder->sender.mutex);
  FORKQ__CHECK(follows[feeder->state] & 1u << state);
  feeder->state = state;
}

bool forkq__feeder_has_finished(const struct forkq__feeder *feeder) {
  return feeder->has_run && (feeder->state == FORKQ__FEEDER_ENDED ||
                             feeder->state == FORKQ__FEEDER_FINISHED);
}

static void look_if_due(struct forkq__feeder *feeder) {
  if (forkq__os_now() >= feeder->look_at)
    feeder->look(feeder->arg);
}

/* While the thread waits for the pipe; see sender.h. */
static void look_meanwhile(void *arg) {
  look_if_due(arg);
}

int forkq__feeder_init(struct forkq__feeder *feeder) {
  feeder->look_at = FORKQ__FOREVER;
  feeder->sender.look = look_meanwhile;
  feeder->sender.feeder = feeder;
  int r = forkq__sender_init(&feeder->sender);
  if (r < 0)
    return r;
  r = uv_sem_init(&feeder->started, 0);
  if (r < 0)
    forkq__sender_fini(&feeder->sender);
  return r;
}

void forkq__feeder_fini(struct forkq__feeder *feeder) {
  uv_sem_destroy(&feeder->started);
  forkq__sender_fini(&feeder->sender);
}

/* ---- on the thread ------------------------------------------------------------------------- */

static bool has_work(struct forkq__feeder *feeder) {
  struct forkq__sender *sender = &feeder->sender;
  return sender->outbox.head != NULL || sender->closing ||
         atomic_load(&sender->abandoned);
}

/* A packet has room for hundreds of references, and to write it costs as much with one of them. A
 * getter that is awake meanwhile has something to do. Once it sleeps, the next put sends. */
static void gather(struct forkq__feeder *feeder) {
  int64_t deadline = forkq__os_now() + GATHER_NS;
  while (feeder->state == FORKQ__FEEDER_GATHERING && forkq__os_now() < deadline)
    forkq__mutex_wait(&feeder->sender.mutex, &feeder->work, deadline);
  if (feeder->state == FORKQ__FEEDER_GATHERING)
    become(feeder, FORKQ__FEEDER_AWAKE);
}

static void sleep_until(struct forkq__feeder *feeder, int64_t deadline) {
  become(feeder, FORKQ__FEEDER_ASLEEP);
  forkq__mutex_wait(&feeder->sender.mutex, &feeder->work, deadline);
  if (feeder->state == FORKQ__FEEDER_ASLEEP)
    become(feeder, FORKQ__FEEDER_AWAKE);
  gather(feeder);
}

void forkq__feeder_plan_look(struct forkq__feeder *feeder, int64_t at) {
  FORKQ__HELD(&feeder->sender.mutex);
  bool sooner = at < feeder->look_at;
  feeder->look_at = at;
  if (sooner && feeder->state == FORKQ__FEEDER_ASLEEP)
    forkq__mutex_wake(&feeder->work);
}

/* Sleeps until there is work, or for so long, and looks meanwhile. */
static void stay_idle(struct forkq__feeder *feeder) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, IDLE_MS);
  while (!has_work(feeder) && forkq__os_now() < deadline) {
    sleep_until(feeder, feeder->look_at < deadline ? feeder->look_at : deadline);
    look_if_due(feeder);
  }
}

/* Waits for work, or as long as it has to look. Returns false if the thread has been idle for too long. */
static bool wait_for_work(struct forkq__feeder *feeder) {
  stay_idle(feeder);
  for (int times = 1; !has_work(feeder); times++) {
    bool done = forkq__sender_trim(&feeder->sender) || times >= IDLE_TIMES;
    if (done && feeder->look_at == FORKQ__FOREVER)
      break;
    stay_idle(feeder);
  }
  return has_work(feeder);
}

static void let_go(struct forkq__feeder *feeder) {
  if (feeder->leaving)
    return;
  forkq__sender_close(&feeder->sender);
  feeder->finished(feeder->arg);
}

static void run(void *arg) {
  struct forkq__feeder *feeder = arg;
  struct forkq__sender *sender = &feeder->sender;
  uv_sem_post(&feeder->started);
  forkq__sender_relock(sender);
  bool work;
  while ((work = wait_for_work(feeder)) && sender->outbox.head != NULL &&
         !atomic_load(&sender->abandoned))
    forkq__sender_send_outbox(sender);
  if (work)
    let_go(feeder);
  become(feeder, work ? FORKQ__FEEDER_ENDED : FORKQ__FEEDER_RETIRED);
  forkq__mutex_wake(&sender->done);
  forkq__sender_unlock(sender);
}

/* ---- starting it --------------------------------------------------------------------------- */

/* A stack of that size may be too small for a program with much thread-local storage. Then the
 * default size is used. */
static int create_with_stack(struct forkq__feeder *feeder) {
  const uv_thread_options_t options = { .flags = UV_THREAD_HAS_STACK_SIZE,
                                        .stack_size = STACK_SIZE };
  int r = uv_thread_create_ex(&feeder->thread, &options, run, feeder);
  return r == UV_EINVAL ? uv_thread_create(&feeder->thread, run, feeder) : r;
}

/* No signal is ever delivered to the feeder: a handler of the program's runs on the program's
 * threads, and a write to a pipe without readers is an EPIPE. The mutex is kept until the
 * thread runs, because until then a runtime, such as a sanitizer's, may hold locks of its own,
 * which are not safe to fork. */
static int create_thread(struct forkq__feeder *feeder) {
  char mask[FORKQ__SIGNAL_MASK_SIZE];
  int state;
  forkq__os_signals_block(mask);
  int r = create_with_stack(feeder);
  forkq__os_signals_restore(mask);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  if (r == 0)
    uv_sem_wait(&feeder->started);
  pthread_setcancelstate(state, NULL);
  return r;
}

int forkq__feeder_start_thread(struct forkq__feeder *feeder) {
  if (forkq__feeder_has_thread(feeder))
    return 0;
  forkq__feeder_join_ended(feeder);
  int r = create_thread(feeder);
  if (r < 0) /* also -EINVAL, after unshare(CLONE_NEWPID), and -EPERM in a sandbox */
    return r == UV_ENOMEM ? r : FORKQ_ENOTHREAD;
  become(feeder, FORKQ__FEEDER_AWAKE);
  return 0;
}

int forkq__feeder_start(struct forkq__feeder *feeder) {
  int r = forkq__sender_open(&feeder->sender);
  if (r == 0)
    r = forkq__feeder_start_thread(feeder);
  if (r == 0)
    feeder->has_run = true;
  return r;
}

/* ---- giving it work ------------------------------------------------------------------------ */

/* Whether puts have become rare since the last that found the feeder idle. To write one packet
 * costs less than to wake the thread for it. But in a stream of messages a packet is full by
 * the time the thread has woken up. */
static bool puts_are_rare(struct forkq__feeder *feeder) {
  int64_t now = forkq__os_now();
  bool rare = now - feeder->found_idle >= feeder->pushes * RARE_NS;
  feeder->found_idle = now;
  feeder->pushes = 0;
  return rare;
}

/* Whether the thread leaves it to the putting threads to send. */
static bool is_idle(const struct forkq__feeder *feeder) {
  return feeder->state == FORKQ__FEEDER_ASLEEP ||
         feeder->state == FORKQ__FEEDER_GATHERING;
}

/* Full packets are sent here while they are in this processor's cache, and the thread sleeps on.
 * It starts to work when the pipe is full, and then sends all that come. */
static void send_here(struct forkq__feeder *feeder) {
  struct forkq__sender *sender = &feeder->sender;
  if (forkq__channel_hasten(sender->channel))
    forkq__sender_send_now(sender);
  else if (is_idle(feeder))
    forkq__sender_send_full(sender);
  if (sender->outbox.head != NULL && is_idle(feeder) && puts_are_rare(feeder))
    forkq__sender_send_now(sender);
}

/* Whether all that is left is one packet, which has room for more references. */
static bool may_gather(const struct forkq__outbox *outbox) {
  return outbox->head == outbox->tail &&
         (outbox->head->packet.flags & FORKQ__REFERENCES) != 0;
}

static void wake_to(struct forkq__feeder *feeder, enum forkq__feeder_state state) {
  if (!is_idle(feeder) || feeder->state == state)
    return;
  become(feeder, state);
  forkq__mutex_wake(&feeder->work);
}

void forkq__feeder_push(struct forkq__feeder *feeder, bool direct) {
  FORKQ__HELD(&feeder->sender.mutex);
  struct forkq__sender *sender = &feeder->sender;
  feeder->pushes++;
  if (direct && sender->in_flight == NULL)
    send_here(feeder);
  if (sender->outbox.head != NULL)
    wake_to(feeder, direct && may_gather(&sender->outbox) ? FORKQ__FEEDER_GATHERING
                                                          : FORKQ__FEEDER_AWAKE);
}

void forkq__feeder_hurry(struct forkq__feeder *feeder) {
  FORKQ__HELD(&feeder->sender.mutex);
  if (feeder->state != FORKQ__FEEDER_GATHERING)
    return;
  forkq__sender_send_now(&feeder->sender);
  if (feeder->sender.outbox.head != NULL)
    wake_to(feeder, FORKQ__FEEDER_AWAKE);
}

/* ---- ending it ----------------------------------------------------------------------------- */

/* The caller holds the mutex; a thread that has ended does not need it any more. */
void forkq__feeder_join_ended(struct forkq__feeder *feeder) {
  int state;
  if (feeder->state != FORKQ__FEEDER_RETIRED && feeder->state != FORKQ__FEEDER_ENDED)
    return;
  become(feeder, feeder->state == FORKQ__FEEDER_ENDED ? FORKQ__FEEDER_FINISHED
                                                      : FORKQ__FEEDER_NONE);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_thread_join(&feeder->thread);
  pthread_setcancelstate(state, NULL);
}

void forkq__feeder_close(struct forkq__feeder *feeder) {
  if (feeder->sender.closing)
    return;
  feeder->sender.closing = true;
  forkq__feeder_join_ended(feeder);
  forkq__sender_wake_putters(&feeder->sender);
  if (feeder->state == FORKQ__FEEDER_NONE) {
    let_go(feeder);
    become(feeder, FORKQ__FEEDER_FINISHED);
  }
  forkq__mutex_wake(&feeder->work);
}

void forkq__feeder_abandon(struct forkq__feeder *feeder) {
  forkq__sender_abandon(&feeder->sender);
  forkq__mutex_wake(&feeder->work);
}

/* Waits in short steps, so that a cancelled thread does not stay in it. Begins and ends
 * without the mutex. */
static int wait_for_end(struct forkq__feeder *feeder, int64_t deadline,
                        bool interruptible) {
  struct forkq__sender *sender = &feeder->sender;
  for (;;) {
    int r = forkq__sender_lock(sender, deadline);
    if (r < 0)
      return r;
    if (forkq__feeder_has_thread(feeder))
      forkq__mutex_wait(&sender->mutex, &sender->done,
                        forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS));
    bool running = forkq__feeder_has_thread(feeder);
    forkq__sender_unlock(sender);
    if (!running)
      return 0;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    if (interruptible && forkq__interrupted(&sender->channel->interrupts))
      return FORKQ_EINTERRUPTED;
    forkq__os_cancellation_point(NULL, NULL);
  }
}

int forkq__feeder_join(struct forkq__feeder *feeder, int64_t deadline,
                       bool interruptible) {
  int r = wait_for_end(feeder, deadline, interruptible);
  if (r == 0 && forkq__sender_lock(&feeder->sender, FORKQ__FOREVER) == 0) {
    forkq__feeder_join_ended(feeder);
    forkq__sender_unlock(&feeder->sender);
  }
  return r;
}

void forkq__feeder_forked(struct forkq__feeder *feeder) {
  feeder->work = (struct forkq__condition){ 0 };
  feeder->look_at = FORKQ__FOREVER;
  feeder->has_run = false;
  feeder->state = FORKQ__FEEDER_NONE;
  forkq__sender_forked(&feeder->sender);
}
