/* The channel: the pipe, its two locks, the packet that readers have read ahead, and sleep.
 *
 *   write lock   one writer at a time, from the first to the last fragment of a message
 *   read lock    one reader at a time, for as long as it takes one message
 *   turn         one sleeper at a time watches the pipe; the others wait for their turn to.
 *                A robust lock, so the kernel itself hands the watch on when its owner dies,
 *                whatever that owner had been woken for. Nobody who is not about to sleep
 *                takes it: a stopped watcher holds up nobody who finds something to get.
 *
 * Order: the turn, the write lock, the read lock, the ledger's lock, under which nobody waits
 * for one of the pipe's. Only the reaper, which has no turn, takes both of those. */
#ifndef FORKQ_CHANNEL_H
#define FORKQ_CHANNEL_H

#include "base/look.h"
#include "codec/packet.h"
#include "shared/account.h"
#include "shared/partial.h"

#include <forkq/item.h>
#include <stdalign.h>

/* Who holds a lock here holds it for microseconds, or as long as a large message takes, unless
 * it is stopped: a call that must not wait gives it this long. */
#define FORKQ__MOMENT_MS 100

/* Who waits for a lock in order to get looks up this often, or of many one for all, because the
 * lock's owner may be stopped. Its death needs no look: the kernel passes the lock on. */
#define FORKQ__CHANNEL_LOOK_MS 500

/* A process's use of it. */
struct forkq__channel {
  struct forkq__channel_shared *shared;
  struct forkq__account account;
  struct forkq__partial_file spill;
  uint32_t max_message;
  uint32_t pipe_packets; /* that the pipe had room for when it was opened; 0: not known */
  uint64_t pipe_identity;  /* of what the next two must be ... */
  uint64_t event_identity; /* ... and the two after them */
  int read_fd;
  int write_fd;
  int event_fd; /* readable: look at the read-ahead packet, or at why you were called */
  uint32_t process_bit; /* see forkq__lock_await */
  bool joinable;        /* gets are counted in this process's cell, which it has then */
  _Atomic bool closed;  /* whoever waits in a receive gives up soon */
};

/* Read side: 0, FORKQ_EBROKEN, or FORKQ__NOTHING when the deadline is over, or FORKQ__MOMENT_MS if it
 * does not wait, or after half a second, when it is time to look at other things. */
int forkq__channel_lock_read(struct forkq__channel *channel, int64_t deadline);
int forkq__channel_try_lock_read(struct forkq__channel *channel); /* or FORKQ__BUSY */
void forkq__channel_unlock_read(struct forkq__channel *channel);

/* Counts what a dead reader had taken and not counted, without waiting: whether something
 * was. */
bool forkq__channel_settle_reads(struct forkq__channel *channel);

/* Write side. lock: 0, FORKQ_TIMEDOUT, FORKQ_EBROKEN; try_lock: or FORKQ__BUSY. */
int forkq__channel_lock_write(struct forkq__channel *channel, int64_t deadline);
int forkq__channel_try_lock_write(struct forkq__channel *channel);
void forkq__channel_unlock_write(struct forkq__channel *channel);

/* Writes one packet, under the write lock, and never blocks: 0, FORKQ__NO_ROOM when the pipe is
 * full, -EPIPE when it has no reader, or another negative errno. */
int forkq__channel_write(struct forkq__channel *channel, struct forkq__packet *packet);

/* Whether its descriptor is still that of the pipe: a program that closes what it does not know may
 * have opened another with the number. */
bool forkq__channel_is_pipe(const struct forkq__channel *channel, int fd);

/* How many packets go into a pipe of that size. */
uint32_t forkq__channel_packets_in(int pipe_bytes);

/* How many packets the pipe has room for, at the least, as long as the write lock is kept. Only
 * a stranger, who has made the pipe smaller or written into it, makes that wrong. */
uint32_t forkq__channel_room(struct forkq__channel *channel);

/* The pipe had less room than it should have: it holds no more than what is there. */
void forkq__channel_note_full(struct forkq__channel *channel);

/* The message whose first packets were written, with `bytes` of it, will be sent once more from
 * its beginning: whoever reads drops these. Under the write lock. */
void forkq__channel_unwrite(struct forkq__channel *channel, uint64_t bytes);

/* Waits until the pipe has room or has no reader any more, or `stop_fd` is readable; or for a
 * moment, where nothing can be polled. With `leave` a thread that is cancelled ends in it. */
void forkq__channel_wait_room(struct forkq__channel *channel, int stop_fd,
                              void (*leave)(void *arg), void *arg);

/* Whether a getter sleeps for whom nobody has hurried yet; true to one caller a sleep. */
bool forkq__channel_hasten(struct forkq__channel *channel);

/* Receives one message into the item's memory: 0, or FORKQ__NOTHING if none is there, -ENOMEM with
 * the message still there, FORKQ_EBADFRAME, FORKQ_EBROKEN. Of a message that has begun to
 * come it waits for the rest until the deadline. */
int forkq__channel_receive(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline);

/* The same with the read lock in hand. */
int forkq__channel_receive_locked(struct forkq__channel *channel, forkq_item_t *item,
                                  int64_t deadline);

/* The same, and sleeps until one is there: also FORKQ_TIMEDOUT, FORKQ_ECLOSED, and
 * FORKQ_ESHUTDOWN. */
int forkq__channel_receive_wait(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline);

/* Whether a receive has to end: its deadline is over, or the channel is closed. */
bool forkq__channel_over(struct forkq__channel *channel, int64_t deadline);

/* Up to `count` more small messages, as far as they are there without waiting: 0, or what
 * went wrong with one, after those that were received. */
int forkq__channel_receive_more(struct forkq__channel *channel, forkq_item_t *items,
                                size_t count, size_t *ret_received);

/* Says that a shutdown is about to come. Nobody sleeps without looking up from now on, so that
 * who says it may die at any point of what follows. */
void forkq__channel_announce_shutdown(struct forkq__channel *channel);

/* Whether that was said: the event descriptor stays raised then, and says nothing more. */
bool forkq__channel_shutting(struct forkq__channel *channel);

/* Whether a shutdown has left nothing to get, now and ever. */
bool forkq__channel_exhausted(struct forkq__channel *channel);

/* Receives and drops all that is there. */
void forkq__channel_drain(struct forkq__channel *channel);

/* Between begin and end, readers raise the event for this process, too: pipe and event together
 * are readable whenever there is something to receive. look: whether a receive would bring
 * something, or say that nothing will come; `saw_event` says that the event was raised when the
 * caller last looked, and is lowered if it stands for nothing. */
void forkq__channel_watch_begin(struct forkq__channel *channel);
bool forkq__channel_watch_look(struct forkq__channel *channel, bool saw_event);
void forkq__channel_watch_end(struct forkq__channel *channel);

/* Makes the sleeper look up; and those threads of this process that wait for the turn. */
void forkq__channel_poke(struct forkq__channel *channel);
void forkq__channel_poke_own(struct forkq__channel *channel);

/* What became of the packet that the dead process of a cell was writing. try_verdict takes the
 * pipe's locks if they are free, and verdict has them. */
enum forkq__verdict forkq__channel_verdict(struct forkq__channel *channel,
                                           uint32_t index);
enum forkq__verdict forkq__channel_try_verdict(struct forkq__channel *channel,
                                               uint32_t index);

/* Whether all is counted that dead readers got: now, if not before. */
bool forkq__channel_try_settle_reads(struct forkq__channel *channel);

#endif
