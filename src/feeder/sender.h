/* The sender: the packets of this process on their way from the outbox into the pipe, and the
 * mutex around both.
 *
 * Only one thread of a process sends at a time: the feeder's thread (send_outbox), a putter that
 * does not wait (send_now, send_full), or a putter that waits (put_through). `in_flight` has the
 * packets that a thread sends without the mutex; while there are any, no other thread of the
 * process sends, because its packets would overtake them.
 *
 * The caller holds the mutex in every function but init, fini and lock, and those that say
 * otherwise. */
#ifndef FORKQ_SENDER_H
#define FORKQ_SENDER_H

#include "base/mutex.h"
#include "feeder/outbox.h"
#include "pipe/channel.h"
#include "shared/arena.h"
#include "shared/slots.h"

struct forkq__sender {
  struct forkq__mutex mutex; /* guards all below, and the feeder */
  struct forkq__condition
      done; /* woken when no packets are in flight, and at the feeder's end */
  struct forkq__outbox outbox;
  struct forkq__channel *channel;
  struct forkq__slots *slots;
  /* For a limit on the unsent bytes. These need no mutex. */
  uint64_t max_bytes;          /* 0: no limit */
  _Atomic uint64_t bytes;      /* of messages that are not sent to their end yet */
  _Atomic uint32_t room_event; /* putters sleep on it; it changes with each wake-up */
  _Atomic uint32_t room_waiters;
  struct forkq__buffer *in_flight; /* not in the outbox any more */
  /* Messages beside the pipe: see sender_pieces.c. */
  struct forkq__arena arena;
  struct {
    struct forkq__buffer *first,
        *last;      /* sent packets with references, not wholly taken */
    uint32_t taken; /* up to where the first one is taken */
  } lent;
  struct {
    uint32_t count;
    struct forkq__reference pieces[FORKQ__HOLDS];
  } held;               /* pieces that were taken and are still held */
  uint64_t uncollected; /* bytes packed beside since it last looked for free pieces ... */
  uint64_t unlooked; /* ... and since it last looked whether those who hold some live */
  _Atomic uint64_t owed;   /* slots to give back, when the ledger lock can be had */
  _Atomic uint64_t unsent; /* items lost; needs no mutex */
  uint64_t copied_bytes;   /* of the messages that a dead process had put */
  bool closing;            /* no more puts */
  bool forking;            /* a fork has the mutex */
  int failed;              /* why nothing more can be put; or 0 */
  _Atomic bool abandoned;  /* nothing is sent after this packet; read without the mutex */
  int stop_fd;             /* readable once the sender is abandoned */
  /* Called for each item that could not be sent, on the feeder's thread, without the mutex. */
  void (*lost)(void *arg, int error, const void *data, size_t size);
  void *arg;
  /* If `looks`: called with the mutex from time to time while the feeder's thread waits for the pipe. */
  _Atomic bool looks;
  void (*look)(void *feeder);
  void *feeder;
};

/* The caller sets the fields channel, slots, max_bytes, lost and arg, and has initialized the arena.
 * init returns 0 or a negative errno. */
int forkq__sender_init(struct forkq__sender *sender);
void forkq__sender_fini(struct forkq__sender *sender);

/* lock returns the results of forkq__mutex_lock. relock takes the mutex again, as long as it
 * takes: only a thread that does not come back keeps the mutex for long. */
FORKQ_MUST_CHECK int forkq__sender_lock(struct forkq__sender *sender, int64_t deadline);
void forkq__sender_relock(struct forkq__sender *sender);
void forkq__sender_unlock(struct forkq__sender *sender);

/* Makes sure that this process has a cell and a stop_fd. Returns 0, the errors of
 * forkq__reap_and_claim, FORKQ_ECLOSED, the reason why nothing more can be put, or -EMFILE
 * or another errno of eventfd(2). */
int forkq__sender_open(struct forkq__sender *sender);

/* Whether the sender is open and may still send. */
static inline bool forkq__sender_is_open(struct forkq__sender *sender) {
  return !sender->closing && !FORKQ__LOAD(sender->abandoned) && sender->failed == 0 &&
         forkq__account_owns(&sender->channel->account);
}

/* Gives up the cell and the stop_fd. What is left in the outbox is lost. */
void forkq__sender_close(struct forkq__sender *sender);

/* No more puts: they are FORKQ_ECLOSED. Gives up the writing end of the pipe, now or when all that was put
 * is sent. The cell stays. */
void forkq__sender_end_puts(struct forkq__sender *sender);

/* ---- putting ------------------------------------------------------------------------------- */

/* full: whether too many bytes are unsent for another put. wait_room: waits until fewer bytes
 * are unsent, the deadline is over, the thread is interrupted, or wake_putters is called. interrupt wakes
 * those that wait, after an interrupt, and is safe in a signal handler. None of the four needs the
 * mutex. */
bool forkq__sender_full(struct forkq__sender *sender);
void forkq__sender_wait_room(struct forkq__sender *sender, int64_t deadline);
void forkq__sender_wake_putters(struct forkq__sender *sender);
void forkq__sender_interrupt(struct forkq__sender *sender);

/* Adds messages to the outbox; the caller has taken a slot for each. commit: the message that
 * is open in the outbox. adopt: a drafted message. copy: all messages of a list but the first
 * `skip`, which the dead process of `cell` had put, as many as there is memory for; returns how
 * many. */
void forkq__sender_commit(struct forkq__sender *sender);
void forkq__sender_adopt(struct forkq__sender *sender, struct forkq__outbox *draft);
uint64_t forkq__sender_copy(struct forkq__sender *sender, uint32_t cell,
                            const struct forkq__buffer *list, uint64_t skip);

/* Messages of at least this size go beside the pipe, where there is room. */
#define FORKQ__BESIDE_MIN 512u

/* put_beside: the bytes go into a piece, and the message that is open in the outbox becomes a reference
 * to it; false: there is no room. lend: gives the draft a piece of `size` bytes, if there is room.
 * end_loan: before adopt; false: the queue was closed since lend, and the draft's bytes are gone. */
bool forkq__sender_put_beside(struct forkq__sender *sender, const void *data,
                              uint32_t size);
void forkq__sender_lend(struct forkq__sender *sender, struct forkq__outbox *draft,
                        uint32_t size);
bool forkq__sender_end_loan(struct forkq__sender *sender, struct forkq__outbox *draft);

/* Gives back to the system the memory that no message needs, but for what an idle process keeps. Returns
 * whether no message is left of those that were sent. */
bool forkq__sender_trim(struct forkq__sender *sender);

/* Gives back the slot of an item that is not put after all. If the queue was closed meanwhile,
 * the slot is gone with the cell. */
void forkq__sender_withdraw(struct forkq__sender *sender);

/* So many items that this process was to send are lost: logs them and gives back their slots. */
void forkq__sender_lose(struct forkq__sender *sender, uint64_t items);

/* ---- sending ------------------------------------------------------------------------------- */

/* Whether there are packets that are not sent. */
static inline bool forkq__sender_has_packets(const struct forkq__sender *sender) {
  return sender->in_flight != NULL || sender->outbox.head != NULL;
}

/* Sends the packets of the outbox, and waits as long as that takes. The mutex is free meanwhile.
 * For the feeder's thread. */
void forkq__sender_send_outbox(struct forkq__sender *sender);

/* Without waiting: send_now sends all packets that no thread has begun with, send_full those to
 * which no message can be added. They end before the first packet that has to wait, or that is a
 * fragment. */
void forkq__sender_send_now(struct forkq__sender *sender);
void forkq__sender_send_full(struct forkq__sender *sender);

/* Sends the one message in the outbox on the calling thread, and blocks until the message is
 * in the pipe. The mutex is free meanwhile. Returns 0, FORKQ_ECLOSED if the sender is
 * abandoned or the queue was shut down with `immediate`, FORKQ_EINTERRUPTED, FORKQ_EBROKEN, or the
 * errno of the write. After an error the message is not sent. A cancellation point. */
int forkq__sender_put_through(struct forkq__sender *sender);

/* Waits until no other thread sends: 0, or FORKQ_EINTERRUPTED. The mutex is free meanwhile. A thread
 * that is cancelled in it calls leave(arg), with the mutex, and ends. */
int forkq__sender_await_turn(struct forkq__sender *sender, void (*leave)(void *arg),
                             void *arg);

/* Ends put_through for good, if a thread is in it, and waits for that thread until the deadline.
 * Returns whether none is left in it. A put_through that a signal handler has interrupted on this
 * thread does not end. */
bool forkq__sender_stop_put_through(struct forkq__sender *sender, int64_t deadline);

/* Nothing is sent after the packet that is being written. */
void forkq__sender_abandon(struct forkq__sender *sender);

/* After an immediate shutdown: drops the unsent items of this process, and the items in the
 * pipe. */
void forkq__sender_drop(struct forkq__sender *sender);

/* Items put and not yet sent; after the end of the feeder, items that were never sent. */
uint64_t forkq__sender_unsent(struct forkq__sender *sender);

/* ---- a fork -------------------------------------------------------------------------------- */

/* Fills in the facts that an heir must know of this process. False if there is nothing to
 * leave: the process has no cell; or it owes slots, which the heir could not tell from those
 * of the messages. */
bool forkq__sender_estate(struct forkq__sender *sender, struct forkq__estate *ret_estate);

/* Returns the packets that are not known to be sent, in their order, as a list that the caller
 * frees. Packets that a thread was sending may be sent. For the child of a fork that had the
 * mutex. */
struct forkq__buffer *forkq__sender_take_unsent(struct forkq__sender *sender);

/* Resets the sender in the child of a fork. A sender that was closing stays closed. Afterwards
 * the mutex is free. If the fork did not have the mutex, the outbox may have been in the
 * middle of a change: its memory is lost. */
void forkq__sender_forked(struct forkq__sender *sender);

#endif
