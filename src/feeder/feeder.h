/* The feeder: the thread that sends the packets of the outbox.
 *
 * A put starts the feeder. It ends after it has had nothing to do for a while, so that it does
 * not keep a process alive that has no other thread left. Before that it gives back memory that no
 * message needs any more. A fork leaves the feeder in the
 * parent, with the parent's packets; the child starts with an empty outbox and without a
 * feeder. The caller holds the sender's mutex in every function but init, fini and join. */
#ifndef FORKQ_FEEDER_H
#define FORKQ_FEEDER_H

#include "feeder/sender.h"

/* feeder.c has the table of what may follow what. */
enum forkq__feeder_state {
  FORKQ__FEEDER_NONE,      /* there is no thread */
  FORKQ__FEEDER_AWAKE,     /* the thread sends, or is about to look for work */
  FORKQ__FEEDER_ASLEEP,    /* the thread waits for work */
  FORKQ__FEEDER_GATHERING, /* the thread lets a moment pass before it sends */
  FORKQ__FEEDER_RETIRED, /* the thread has ended, for want of work, and is to be joined */
  FORKQ__FEEDER_ENDED,   /* the thread has ended, after a close, and is to be joined */
  FORKQ__FEEDER_FINISHED /* closed, and the thread is joined */
};

struct forkq__feeder {
  struct forkq__sender sender;
  struct forkq__condition work; /* the thread sleeps here */
  uv_sem_t started;             /* posted when the thread runs */
  uv_thread_t thread;
  enum forkq__feeder_state state;
  bool has_run;       /* for a put, at some time, in this process */
  int64_t found_idle; /* when a put last found the thread asleep, and the pushes since */
  int64_t pushes;
  int64_t look_at; /* when the thread calls `look`; FORKQ__FOREVER: never */
  bool leaving;    /* at exit: it leaves the cell and the descriptors to the kernel */
  /* Called with the mutex, when the feeder has let go of the channel. */
  void (*finished)(void *arg);
  /* Called on the thread, with the mutex, when the time `look_at` has come. It plans the next call. */
  void (*look)(void *arg);
  void *arg;
};

/* The caller sets the fields of the sender, and finished, look and arg. init returns 0 or a
 * negative errno. */
int forkq__feeder_init(struct forkq__feeder *feeder);
void forkq__feeder_fini(struct forkq__feeder *feeder);

/* Whether there is a thread that has not ended. */
static inline bool forkq__feeder_has_thread(const struct forkq__feeder *feeder) {
  return feeder->state == FORKQ__FEEDER_AWAKE || feeder->state == FORKQ__FEEDER_ASLEEP ||
         feeder->state == FORKQ__FEEDER_GATHERING;
}

/* Whether the feeder runs and can send already. */
static inline bool forkq__feeder_runs(struct forkq__feeder *feeder) {
  return forkq__feeder_has_thread(feeder) && forkq__sender_is_open(&feeder->sender);
}

/* Makes sure that the feeder runs and the process has an account. Returns the results of
 * forkq__sender_open and forkq__feeder_start_thread. */
int forkq__feeder_start(struct forkq__feeder *feeder);

/* Makes sure that the thread runs, even with nothing to send, so that it can look. Returns 0,
 * FORKQ_ENOTHREAD or -ENOMEM. */
int forkq__feeder_start_thread(struct forkq__feeder *feeder);

/* The thread calls `look` at that time. It does so within FORKQ__LAST_LOOK_MS where it waits for the pipe, if
 * the sender `looks`, and not in the middle of a message. */
void forkq__feeder_plan_look(struct forkq__feeder *feeder, int64_t at);

/* Called after a commit. If `direct`, it sends packets on this thread, but no fragments, without waiting,
 * when a getter sleeps, a packet is full, or puts are rare. If packets are left, it wakes the
 * thread, unless the thread is awake. If that is one packet of references, the thread gathers: it
 * sends the packet after a moment, with the references that came meanwhile. */
void forkq__feeder_push(struct forkq__feeder *feeder, bool direct);

/* What the thread is gathering is sent at once. */
void forkq__feeder_hurry(struct forkq__feeder *feeder);

/* Waits until the thread is gone, if it has ended by itself. At the end of a thread a runtime,
 * such as a sanitizer's, may hold locks of its own, which are not safe to fork. */
void forkq__feeder_join_ended(struct forkq__feeder *feeder);

/* The feeder ends: with close once all packets are sent, with abandon at once. */
void forkq__feeder_close(struct forkq__feeder *feeder);
void forkq__feeder_abandon(struct forkq__feeder *feeder);

/* Whether it ran for a put, and has ended after a close. */
bool forkq__feeder_has_finished(const struct forkq__feeder *feeder);

/* Waits for the end of the feeder. Takes the mutex itself. Returns 0, FORKQ_TIMEDOUT,
 * -EDEADLK, or, if `interruptible`, FORKQ_EINTERRUPTED. A cancellation point. */
int forkq__feeder_join(struct forkq__feeder *feeder, int64_t deadline,
                       bool interruptible);

/* Resets the feeder and its sender in the child of a fork: see forkq__sender_forked. */
void forkq__feeder_forked(struct forkq__feeder *feeder);

#endif
