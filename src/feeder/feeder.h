/* The feeder: the thread that sends what is in the outbox, and the mutex around both.
 *
 * It starts with a put, and ends when there was nothing to do for a while, so that it does not
 * keep a process that has no other thread left. A fork leaves it in the parent, with the packets
 * that the parent had; the child starts empty and with none. All functions but the first
 * three and join want the mutex held. */
#ifndef FORKQ_FEEDER_H
#define FORKQ_FEEDER_H

#include "base/mutex.h"
#include "feeder/outbox.h"
#include "pipe/channel.h"
#include "shared/slots.h"

struct forkq__feeder {
  struct forkq__mutex mutex;    /* guards all below */
  struct forkq__condition work; /* the feeder sleeps here */
  struct forkq__condition done; /* ... and joiners here */
  uv_sem_t started;             /* the thread runs */
  struct forkq__outbox outbox;
  struct forkq__channel *channel;
  struct forkq__slots *slots;
  /* Where the bytes that may be unsent have a limit. These need no mutex. */
  uint64_t max_bytes;          /* 0: no limit */
  _Atomic uint64_t bytes;      /* of messages not sent to their end yet */
  _Atomic uint32_t room_event; /* putters sleep on it; it changes with each wake-up */
  _Atomic uint32_t room_waiters;
  /* Packets that the thread is sending, no longer in the outbox. */
  struct forkq__buffer *in_flight;
  _Atomic uint64_t owed;   /* slots to give back, when the ledger can be had */
  _Atomic uint64_t unsent; /* items lost; without the mutex */
  uv_thread_t thread;
  enum { FORKQ__FEEDER_NONE, FORKQ__FEEDER_RUNNING, FORKQ__FEEDER_FINISHED } state;
  bool has_run; /* some time, in this process */
  bool to_join; /* the thread of the last time, when it has ended */
  bool idle;
  int64_t found_idle; /* when a put last found it so, and how many were put since */
  int64_t pushes;
  int64_t look_at; /* when the thread is to call `look`; FORKQ__FOREVER: never */
  bool closing;    /* it ends when all is sent */
  bool leaving;    /* and leaves the cell and the descriptors to the kernel, at exit */
  bool forking;    /* a fork has the mutex */
  int failed;      /* nothing can be sent any more, for this reason; or 0 */
  _Atomic bool abandoned; /* it ends at the next packet; read without the mutex */
  int stop_fd;            /* readable once it is abandoned */
  /* Called for each item that could not be sent, on the thread, without the mutex. */
  void (*lost)(void *arg, int error, const void *data, size_t size);
  /* Called when the thread has let go of the channel, with the mutex. */
  void (*finished)(void *arg);
  /* Called with the mutex, on the thread, when `look_at` is over; it says when it is to be called
   * again. */
  void (*look)(void *arg);
  void *arg;
};

/* Fields channel, slots, max_bytes, lost, finished, look and arg are the caller's to set. */
int forkq__feeder_init(struct forkq__feeder *feeder);
void forkq__feeder_fini(struct forkq__feeder *feeder);

/* lock: forkq__mutex_lock's results. */
FORKQ_MUST_CHECK int forkq__feeder_lock(struct forkq__feeder *feeder, int64_t deadline);
void forkq__feeder_unlock(struct forkq__feeder *feeder);

/* Makes sure that there is a feeder, and an account: forkq__reap_and_claim's results, FORKQ_ECLOSED,
 * FORKQ_ENOTHREAD, -EMFILE. */
int forkq__feeder_start(struct forkq__feeder *feeder);

/* Whether that is so already. */
static inline bool forkq__feeder_runs(struct forkq__feeder *feeder) {
  return feeder->state == FORKQ__FEEDER_RUNNING && !feeder->closing &&
         !feeder->abandoned && feeder->failed == 0 &&
         forkq__account_owns(&feeder->channel->account);
}

/* Makes sure that the thread runs, though it may have nothing to send: to look. 0, FORKQ_ENOTHREAD
 * or -EMFILE. */
int forkq__feeder_start_thread(struct forkq__feeder *feeder);

/* For a queue without a feeder: makes sure that this process has a cell, and can be stopped in
 * put_through. Errors of open_cell, or -EMFILE. */
int forkq__feeder_open(struct forkq__feeder *feeder);

/* Sends the one message in the outbox on the calling thread, and blocks until it is in the
 * pipe. Comes and goes with the mutex, which is free meanwhile. FORKQ_ECLOSED if abandoned,
 * FORKQ_EBROKEN, or the errno of the write; the message is then not sent. */
int forkq__feeder_put_through(struct forkq__feeder *feeder);

/* Waits until no other thread is in put_through; the mutex is free meanwhile. A thread that is
 * cancelled in it ends there, after a call of `leave` with the mutex. */
void forkq__feeder_await_turn(struct forkq__feeder *feeder, void (*leave)(void *arg),
                              void *arg);

/* Ends it, for good: whether it is over by the deadline. It is not where a signal handler has
 * interrupted it on this thread. */
bool forkq__feeder_stop_put_through(struct forkq__feeder *feeder, int64_t deadline);

/* Whether too many bytes are unsent for another put. wait_room waits, without the mutex, until
 * they are fewer, or the deadline, or wake_putters. None of the three wants the mutex. */
bool forkq__feeder_full(struct forkq__feeder *feeder);
void forkq__feeder_wait_room(struct forkq__feeder *feeder, int64_t deadline);
void forkq__feeder_wake_putters(struct forkq__feeder *feeder);

/* A slot was taken for each message that is put into the outbox: that which is open there, one that
 * was drafted, or all of a list but the first `skip`, as many as there is memory for. */
void forkq__feeder_commit(struct forkq__feeder *feeder);
void forkq__feeder_adopt(struct forkq__feeder *feeder, struct forkq__outbox *draft);
struct forkq__copied forkq__feeder_copy(struct forkq__feeder *feeder,
                                        const struct forkq__buffer *list, uint64_t skip);

/* The packets that are not known to be sent, in their order, as a list that is the caller's: those
 * that the thread had in its hands may be. In the child of a fork that had the mutex. */
struct forkq__buffer *forkq__feeder_take_unsent(struct forkq__feeder *feeder);

/* What an heir has to know of this process. False if it has nothing to leave: no cell; or slots to
 * give back, which nobody could tell from those of its messages. */
bool forkq__feeder_estate(struct forkq__feeder *feeder, struct forkq__estate *ret_estate);

/* An item for which a slot was taken is not put after all. */
void forkq__feeder_withdraw(struct forkq__feeder *feeder);

/* So many are lost that this process was to send. */
void forkq__feeder_lose(struct forkq__feeder *feeder, uint64_t items);

/* Something was committed: sends it right here if `direct` and a getter sleeps, or else wakes
 * the feeder, unless it is awake. */
void forkq__feeder_push(struct forkq__feeder *feeder, bool direct);

/* Sends here what the feeder has not yet begun with, as far as that needs no waiting. */
void forkq__feeder_send_now(struct forkq__feeder *feeder);

/* Waits until the thread is gone that has ended by itself, if one has: what a runtime does at
 * its end, a sanitizer's say, may hold locks of its own that are not safe to fork. */
void forkq__feeder_join_ended(struct forkq__feeder *feeder);

/* After an immediate shutdown: drops what is unsent in this process, and what is in the pipe. */
void forkq__feeder_drop(struct forkq__feeder *feeder);

/* The feeder ends once all is sent, or at once. */
void forkq__feeder_close(struct forkq__feeder *feeder);
void forkq__feeder_abandon(struct forkq__feeder *feeder);

/* Waits for the end of the feeder: 0 or FORKQ_TIMEDOUT. Takes the mutex itself. */
int forkq__feeder_join(struct forkq__feeder *feeder, int64_t deadline);

/* Items put and not yet sent; after the end, those that never were. */
uint64_t forkq__feeder_unsent(struct forkq__feeder *feeder);

/* In the child of a fork. A feeder that was closing stays closed. The mutex is free then. Where the
 * fork did not have it, what was put may be in the middle of a change: that memory is lost. */
void forkq__feeder_forked(struct forkq__feeder *feeder);

#endif
