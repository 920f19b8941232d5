/* The feeder: the thread that sends the packets of the outbox, and the mutex around both.
 *
 * A put starts the feeder. It ends after it has had nothing to do for a while, so that it does
 * not keep a process alive that has no other thread left. A fork leaves the feeder in the
 * parent, with the parent's packets; the child starts with an empty outbox and without a
 * feeder. The caller holds the mutex in every function but init, fini, lock and join, and
 * those that say otherwise. */
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
  uv_sem_t started;             /* posted when the thread runs */
  struct forkq__outbox outbox;
  struct forkq__channel *channel;
  struct forkq__slots *slots;
  /* For a limit on the unsent bytes. These need no mutex. */
  uint64_t max_bytes;          /* 0: no limit */
  _Atomic uint64_t bytes;      /* of messages that are not sent to their end yet */
  _Atomic uint32_t room_event; /* putters sleep on it; it changes with each wake-up */
  _Atomic uint32_t room_waiters;
  /* Packets that the thread, or a putter in put_through, is sending. They are not in the
   * outbox any more. */
  struct forkq__buffer *in_flight;
  _Atomic uint64_t owed;   /* slots to give back, when the ledger lock can be had */
  _Atomic uint64_t unsent; /* items lost; needs no mutex */
  uint64_t copied_bytes;   /* of the messages that a dead process had put */
  uv_thread_t thread;
  enum { FORKQ__FEEDER_NONE, FORKQ__FEEDER_RUNNING, FORKQ__FEEDER_FINISHED } state;
  bool has_run; /* at some time, in this process */
  bool to_join; /* the last thread must be joined once it has ended */
  bool idle;
  int64_t found_idle; /* when a put last found the feeder idle, and the pushes since */
  int64_t pushes;
  int64_t look_at; /* when the thread calls `look`; FORKQ__FOREVER: never */
  bool closing;    /* the feeder ends when all packets are sent */
  bool leaving;    /* at exit: it leaves the cell and the descriptors to the kernel */
  bool forking;    /* a fork has the mutex */
  int failed;      /* why nothing can be sent any more; or 0 */
  _Atomic bool abandoned; /* the feeder ends at the next packet; read without the mutex */
  int stop_fd;            /* readable once the feeder is abandoned */
  /* Called for each item that could not be sent, on the thread, without the mutex. */
  void (*lost)(void *arg, int error, const void *data, size_t size);
  /* Called with the mutex, when the feeder has let go of the channel. */
  void (*finished)(void *arg);
  /* Called on the thread, with the mutex, when the time `look_at` has come. It sets `look_at`
   * to the time of the next call. */
  void (*look)(void *arg);
  void *arg;
};

/* The caller sets the fields channel, slots, max_bytes, lost, finished, look and arg. init
 * returns 0 or a negative errno. */
int forkq__feeder_init(struct forkq__feeder *feeder);
void forkq__feeder_fini(struct forkq__feeder *feeder);

/* lock returns the results of forkq__mutex_lock. */
FORKQ_MUST_CHECK int forkq__feeder_lock(struct forkq__feeder *feeder, int64_t deadline);
void forkq__feeder_unlock(struct forkq__feeder *feeder);

/* Makes sure that the feeder runs and the process has an account. Returns the results of
 * forkq__feeder_open and forkq__feeder_start_thread. */
int forkq__feeder_start(struct forkq__feeder *feeder);

/* Whether the feeder runs and can send already. */
static inline bool forkq__feeder_runs(struct forkq__feeder *feeder) {
  return feeder->state == FORKQ__FEEDER_RUNNING && !feeder->closing &&
         !feeder->abandoned && feeder->failed == 0 &&
         forkq__account_owns(&feeder->channel->account);
}

/* Makes sure that the thread runs, even with nothing to send, so that it can look. Returns 0,
 * FORKQ_ENOTHREAD or -ENOMEM. */
int forkq__feeder_start_thread(struct forkq__feeder *feeder);

/* Makes sure that this process has a cell and a stop_fd, so that a put_through can be stopped.
 * A queue without a feeder calls it alone. Returns 0, the errors of forkq__reap_and_claim,
 * FORKQ_ECLOSED, the reason why nothing can be sent any more, or -EMFILE or another errno of
 * eventfd(2). */
int forkq__feeder_open(struct forkq__feeder *feeder);

/* Sends the one message in the outbox on the calling thread, and blocks until the message is
 * in the pipe. The mutex is free meanwhile. Returns 0, FORKQ_ECLOSED if the feeder is
 * abandoned or the queue was shut down with `immediate`, FORKQ_EBROKEN, or the errno of the
 * write. After an error the message is not sent. A cancellation point. */
int forkq__feeder_put_through(struct forkq__feeder *feeder);

/* Waits until no other thread is in put_through. The mutex is free meanwhile. A thread that is
 * cancelled in it calls leave(arg), with the mutex, and ends. */
void forkq__feeder_await_turn(struct forkq__feeder *feeder, void (*leave)(void *arg),
                              void *arg);

/* Ends put_through for good, and waits until the deadline for a thread in it. Returns whether
 * none is left in it. A put_through that a signal handler has interrupted on this thread does
 * not end. */
bool forkq__feeder_stop_put_through(struct forkq__feeder *feeder, int64_t deadline);

/* full: whether too many bytes are unsent for another put. wait_room: waits until fewer bytes
 * are unsent, the deadline is over, or wake_putters is called. None of the three needs the
 * mutex. */
bool forkq__feeder_full(struct forkq__feeder *feeder);
void forkq__feeder_wait_room(struct forkq__feeder *feeder, int64_t deadline);
void forkq__feeder_wake_putters(struct forkq__feeder *feeder);

/* Adds messages to the outbox; the caller has taken a slot for each. commit: the message that
 * is open in the outbox. adopt: a drafted message. copy: all messages of a list but the first
 * `skip`, which a dead process had put, as many as there is memory for; returns how many. */
void forkq__feeder_commit(struct forkq__feeder *feeder);
void forkq__feeder_adopt(struct forkq__feeder *feeder, struct forkq__outbox *draft);
uint64_t forkq__feeder_copy(struct forkq__feeder *feeder,
                            const struct forkq__buffer *list, uint64_t skip);

/* Returns the packets that are not known to be sent, in their order, as a list that the caller
 * frees. Packets that the thread was sending may be sent. For the child of a fork that had the
 * mutex. */
struct forkq__buffer *forkq__feeder_take_unsent(struct forkq__feeder *feeder);

/* Fills in the facts that an heir must know of this process. False if there is nothing to
 * leave: the process has no cell; or it owes slots, which the heir could not tell from those
 * of the messages. */
bool forkq__feeder_estate(struct forkq__feeder *feeder, struct forkq__estate *ret_estate);

/* Gives back the slot of an item that is not put after all. If the queue was closed meanwhile, the
 * slot is gone with the cell. */
void forkq__feeder_withdraw(struct forkq__feeder *feeder);

/* So many items that this process was to send are lost: logs them and gives back their slots. */
void forkq__feeder_lose(struct forkq__feeder *feeder, uint64_t items);

/* Called after a commit. If `direct`, it sends the packets on this thread, without waiting,
 * when a getter sleeps, a packet is full, or puts are rare. If packets are left, it wakes the
 * feeder, unless the feeder is awake. */
void forkq__feeder_push(struct forkq__feeder *feeder, bool direct);

/* Sends on this thread the packets that the feeder has not yet begun with, as far as that
 * needs no waiting. */
void forkq__feeder_send_now(struct forkq__feeder *feeder);

/* Waits until the thread is gone, if it has ended by itself. At the end of a thread a runtime,
 * such as a sanitizer's, may hold locks of its own, which are not safe to fork. */
void forkq__feeder_join_ended(struct forkq__feeder *feeder);

/* After an immediate shutdown: drops the unsent items of this process, and the items in the
 * pipe. */
void forkq__feeder_drop(struct forkq__feeder *feeder);

/* The feeder ends: with close once all packets are sent, with abandon at once. */
void forkq__feeder_close(struct forkq__feeder *feeder);
void forkq__feeder_abandon(struct forkq__feeder *feeder);

/* Waits for the end of the feeder. Takes the mutex itself. Returns 0, FORKQ_TIMEDOUT or
 * -EDEADLK. A cancellation point. */
int forkq__feeder_join(struct forkq__feeder *feeder, int64_t deadline);

/* Items put and not yet sent; after the end of the feeder, items that were never sent. */
uint64_t forkq__feeder_unsent(struct forkq__feeder *feeder);

/* Resets the feeder in the child of a fork. A feeder that was closing stays closed. Afterwards
 * the mutex is free. If the fork did not have the mutex, the outbox may have been in the
 * middle of a change: its memory is lost. */
void forkq__feeder_forked(struct forkq__feeder *feeder);

#endif
