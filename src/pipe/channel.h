/* The channel: the pipe with its locks, the packet read ahead, and sleeping on the pipe.
 *
 *   write lock   one writer at a time, from the first to the last fragment of a message
 *   read lock    one reader at a time, for as long as it takes one message
 *   turn         one sleeper at a time watches the pipe; other getters wait for the turn.
 *                It is a robust lock: when its owner dies, the kernel itself passes the
 *                watch on, whatever the owner had been woken for. Only a getter that is
 *                about to sleep takes it, so a stopped sleeper blocks no getter that finds
 *                an item.
 *
 * Lock order: the turn, the write lock, the read lock, the ledger lock. A thread that has the
 * ledger lock waits for no lock of the pipe. Only the reaper takes both the write lock and the
 * read lock. */
#ifndef FORKQ_CHANNEL_H
#define FORKQ_CHANNEL_H

#include "base/interrupt.h"
#include "base/look.h"
#include "base/spin.h"
#include "codec/packet.h"
#include "shared/kept.h"
#include "shared/piece.h"
#include "shared/spill.h"

#include <forkq/item.h>
#include <stdalign.h>

/* A getter that waits for a lock looks for an item this often, or one of many getters looks
 * for all, because the lock's owner may be stopped. The owner's death needs no look: the
 * kernel passes the lock on. */
#define FORKQ__CHANNEL_LOOK_MS 500

/* A process that holds pieces has a cell, which a process that only gets need not have. */
enum forkq__wish {
  FORKQ__NO_WISH,
  FORKQ__WANTS_CELL,
  FORKQ__WISHED, /* it has tried to get one */
};

/* One process's use of the channel. */
struct forkq__channel {
  struct forkq__channel_shared *shared;
  struct forkq__account account;
  uint32_t max_message;
  uint32_t late_min;      /* messages of so many bytes are copied without the read lock */
  uint64_t pipe_identity; /* what read_fd and write_fd must be ... */
  uint64_t event_identity; /* ... and what event_fd must be */
  int read_fd;
  int write_fd;
  int event_fd; /* readable: look at the packet read ahead, or why this thread was called */
  uint32_t process_bit; /* see forkq__lock_await */
  struct forkq__interrupts interrupts;
  bool joinable;   /* gets are counted in this process's cell, which then exists */
  bool keeps;      /* and what is got and not done is kept (kept.h) ... */
  bool redelivers; /* ... and got again after the death of its process */
  _Atomic int64_t reap_at;      /* when it looks next for lost tasks */
  _Atomic bool closed;          /* threads in a receive give up soon */
  _Atomic bool puts_closed;     /* no more puts; write_fd goes when all is sent */
  struct forkq__spin spin;      /* of the owner of the turn, before it sleeps */
  struct forkq__pieces *pieces; /* guarded by the read lock */
  _Atomic int wish;             /* an enum forkq__wish */
};

/* Takes the read lock. With FORKQ__NOWAIT it waits for FORKQ__MOMENT_MS; else until the
 * deadline, but for at most half a second, because the caller then has other things to look
 * at. Returns 0, FORKQ_EBROKEN, or FORKQ__NOTHING if that time is over or the channel is
 * closed. try_lock never waits: 0, FORKQ__BUSY or FORKQ_EBROKEN. */
int forkq__channel_lock_read(struct forkq__channel *channel, int64_t deadline);
int forkq__channel_try_lock_read(struct forkq__channel *channel);
void forkq__channel_unlock_read(struct forkq__channel *channel);

/* Counts what dead readers had taken and not counted, without waiting. False: another reader has
 * the lock, or it is broken. */
bool forkq__channel_settle_reads(struct forkq__channel *channel);

/* The write lock. lock: 0, FORKQ_TIMEDOUT or FORKQ_EBROKEN. try_lock: 0, FORKQ__BUSY or
 * FORKQ_EBROKEN. */
int forkq__channel_lock_write(struct forkq__channel *channel, int64_t deadline);
int forkq__channel_try_lock_write(struct forkq__channel *channel);
void forkq__channel_unlock_write(struct forkq__channel *channel);

/* Writes one packet. The caller holds the write lock. Never blocks. The packet's number is 0 unless it
 * was written. Returns 0, FORKQ__NO_ROOM if the pipe is full, -EPIPE if it has no reader, or another negative errno. */
int forkq__channel_write(struct forkq__channel *channel, struct forkq__packet *packet);

/* Up to which offset readers have taken the packet that was written with the number `seq` and this
 * length: 0 if they have not yet read it. The bytes of the pieces that are referred to before that
 * offset are copied. Needs no lock. */
uint32_t forkq__channel_taken(const struct forkq__channel *channel, uint64_t seq,
                              uint32_t length);

/* Whether descriptor `fd` is still the pipe. A program that closes descriptors that it does
 * not know may have opened another file under the number. */
bool forkq__channel_is_pipe(const struct forkq__channel *channel, int fd);

/* Waits until the pipe has room or has lost its last reader, or until `stop_fd` is readable.
 * If nothing can be polled, it waits for a moment. With `leave` it is a cancellation point: a
 * cancelled thread calls leave(arg) and ends. Then it also returns after FORKQ__CANCEL_MS, for the
 * caller to look for an interrupt. */
void forkq__channel_wait_room(struct forkq__channel *channel, int stop_fd,
                              void (*leave)(void *arg), void *arg);
void forkq__channel_wait_room_within(struct forkq__channel *channel, int stop_fd, int ms);

/* Whether a getter sleeps for which no writer has hurried yet. True for one caller per sleep. */
bool forkq__channel_hasten(struct forkq__channel *channel);

/* Receives one message into the item's memory. If only a part of the message has come, it
 * waits for the rest until the deadline, but for no piece longer than 20 ms. Then it keeps the
 * part for the next reader. Returns 0, or
 *
 *   FORKQ__NOTHING   no message is there, or not all of it
 *   -ENOMEM          there is no memory; the message is still there, unless a part of it could
 *                    not be kept: then it is lost
 *   -EBADF           the descriptor is no longer the pipe
 *   FORKQ_EBADFRAME  the bytes were no valid packet or message, and were dropped
 *   FORKQ_EALONE     nothing is there, and no process is left that could put; after a shutdown it
 *                    is FORKQ_ESHUTDOWN instead
 *   FORKQ_EBROKEN    the read lock is damaged, or the pipe has ended for a process that could put
 *
 * or another negative errno, of the read or of the keeping. */
int forkq__channel_receive(struct forkq__channel *channel, forkq_item_t *item,
                           int64_t deadline);

/* The bytes of a message that its reader copies when it has let go of the read lock. */
struct forkq__late_copy {
  const uint8_t *data; /* NULL: there is nothing to copy */
  struct forkq__hold hold;
};

/* As forkq__channel_receive, with the read lock held. Also FORKQ__GROW: the item has no room
 * for item->size bytes. The caller then grows the item, without the lock, and calls again. *late, which
 * has no data before, says what the caller copies. */
int forkq__channel_receive_locked(struct forkq__channel *channel, forkq_item_t *item,
                                  int64_t deadline, struct forkq__late_copy *late);

/* Copies the bytes without the lock: 0, or -EBADF if they may have changed. */
int forkq__channel_copy_late(forkq_item_t *item, struct forkq__late_copy *late);

/* As forkq__channel_receive, but sleeps until a message is there. Instead of FORKQ__NOTHING it
 * returns FORKQ_TIMEDOUT, FORKQ_ECLOSED, FORKQ_ESHUTDOWN or FORKQ_EINTERRUPTED. A cancellation point. */
int forkq__channel_receive_wait(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline);

/* Whether a receive must end: its deadline is over, or the channel is closed. */
bool forkq__channel_over(struct forkq__channel *channel, int64_t deadline);

/* As forkq__channel_receive, of a lost task that is to be got again; FORKQ__NOTHING if there is none. Also
 * FORKQ_EUNDONE: this process has too many. has_lost: whether there may be any, for one who will sleep.
 * tell_lost: wakes a getter, or a watcher, if so. */
int forkq__channel_receive_lost(struct forkq__channel *channel, forkq_item_t *item,
                                int64_t deadline);
static inline bool forkq__channel_has_lost(struct forkq__channel *channel) {
  return channel->redelivers && atomic_load(&channel->account.ledger->kept.look) != 0;
}
void forkq__channel_tell_lost(struct forkq__channel *channel);

/* Where tasks are kept. tend: if it is time for that, finds dead processes that had tasks, and gives back
 * memory that nobody uses. deadline: until when the owner of the turn may sleep, as it has to tend. trim: gives
 * that memory back at once, unless a reader has the lock. */
void forkq__channel_tend_kept(struct forkq__channel *channel);
int64_t forkq__channel_kept_deadline(struct forkq__channel *channel, int64_t deadline);
void forkq__channel_trim_kept(struct forkq__channel *channel);

/* Gets the bytes of a lost task that is to be told: 0, FORKQ__NOTHING, or an error. */
int forkq__channel_get_lost(struct forkq__channel *channel, forkq_item_t *item);

/* Receives up to `count` more small messages that are there without waiting. Returns 0, or the
 * error of the message after those that it received. */
int forkq__channel_receive_more(struct forkq__channel *channel, forkq_item_t *items,
                                size_t count, size_t *ret_received);

/* Announces a shutdown. From now on no getter sleeps without looking up from time to time, so
 * the caller may die at any later step of the shutdown. */
void forkq__channel_announce_shutdown(struct forkq__channel *channel);

/* Whether a shutdown was announced. The event descriptor then stays raised, and tells nothing
 * more. */
bool forkq__channel_shutting(struct forkq__channel *channel);

/* Whether a shutdown has left nothing to get, now and forever. */
bool forkq__channel_exhausted(struct forkq__channel *channel);

/* Whether the pipe has ended, but tasks that others have may still come again. The pipe is then readable
 * for good, and tells nothing more. */
bool forkq__channel_awaits_tasks(struct forkq__channel *channel);

/* Receives and drops all messages that are there. If a reader keeps the read lock, it drops
 * none. */
void forkq__channel_drain(struct forkq__channel *channel);

/* Between begin and end, readers raise the event for this process, too. So pipe and event
 * together are readable whenever there is something to receive. look returns whether a receive
 * would bring a message, or report that none will come. `saw_event` says that the event was
 * raised when the caller last looked; look lowers the event if it stands for nothing. */
void forkq__channel_watch_begin(struct forkq__channel *channel);
bool forkq__channel_watch_look(struct forkq__channel *channel, bool saw_event);
void forkq__channel_watch_end(struct forkq__channel *channel);

/* poke makes the sleeper look up. poke_own makes the threads of this process look up that wait
 * for the turn. */
void forkq__channel_poke(struct forkq__channel *channel);
void forkq__channel_poke_own(struct forkq__channel *channel);

/* The verdict on the packet that the dead process of a cell was writing. verdict: the caller
 * holds both locks of the pipe. try_verdict takes them if they are free, and returns
 * FORKQ__UNKNOWN if it needs them and they are not. */
enum forkq__verdict forkq__channel_verdict(struct forkq__channel *channel,
                                           uint32_t index);
enum forkq__verdict forkq__channel_try_verdict(struct forkq__channel *channel,
                                               uint32_t index);

#endif
