/* The map of the memory that the processes of one queue share: every struct in it.
 *
 * A process may die at any instruction. So each field has one writer at a time, and one place
 * that repairs it after a death:
 *
 *   struct            field                       who writes it               who repairs it
 *   cell              accepted, try_*             its process, with the       the reaper, for the
 *                                                 feeder's mutex              dead process
 *                                                                             (finish_take)
 *                     sent*, pending_*,           its process, with the       the reaper
 *                     written_seq                 write lock                  (finish_write)
 *                     arrived_seq, got            readers, with the read      the next reader
 *                                                 lock                        (repair_read)
 *                     confirmed                   anybody, only to a greater  needs none
 *                                                 value
 *                     returned, done, abandoned,  with the ledger's lock      the reaper
 *                     withdrawn, state, owners,
 *                     pid
 *   ledger            returned, done, abandoned   with the ledger's lock      the next owner makes
 *                                                                             them anew from the
 *                                                                             cells (repair)
 *                     taken, dropped              readers, with the read      the next reader, from
 *                                                 lock                        `base` and `offset`
 *                     word                        putters, by exchange        needs none
 *   channel_shared    write_seq                   the owner of the write      needs none: a number
 *                                                 lock                        is never used twice
 *                     offset to packet            the owner of the read       the next reader
 *                                                 lock                        (repair_read)
 *                     shutdown, shutting          anybody; they only grow     a sleeper looks
 *                     asleep, hastened            the owner of the turn, and  the next owner of the
 *                                                 a writer who hurries        turn (repair_turn)
 *                     watchers                    atomically                  one too many costs an
 *                                                                             event
 *   slots_shared      event, waiters, waking      atomically                  a waiting putter looks
 *   partial           cell, total, mark           the owner of the read       the next reader
 *                                                 lock                        (partial_repair)
 */
#ifndef FORKQ_LAYOUT_H
#define FORKQ_LAYOUT_H

#include "base/lock.h"
#include "base/look.h"
#include "codec/packet.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

/* Fields that others see without the lock, or that must be there in this order when the
 * writer dies. */
#define FORKQ__LOAD(field) atomic_load_explicit(&(field), memory_order_acquire)
#define FORKQ__STORE(field, value)                                                       \
  atomic_store_explicit(&(field), (value), memory_order_release)
/* In one order with all others of its kind: see slots.h. */
#define FORKQ__LOAD_IN_ORDER(field) atomic_load(&(field))

#define FORKQ__CELLS_MAX 4096u
#define FORKQ__NO_CELL UINT32_MAX
#define FORKQ__CELL_BITS 13 /* hold a cell + 1, in a word with a count: see slots.c */

/* ---- the ledger: who has put, got and lost how many; see ledger.h ------------------------ */

enum forkq__cell_state {
  FORKQ__CELL_FREE, /* nobody's, or claimed by a process that died at it */
  FORKQ__CELL_USED,
  /* Its process is dead, but what became of its last write or read is not known yet. */
  FORKQ__CELL_DEAD,
  /* Its process is gone and all is settled but its tasks, which a child of its may still do. */
  FORKQ__CELL_TASKS
};

struct forkq__cell {
  /* Written by the owner, one thread at a time (its feeder's mutex). */
  alignas(64) _Atomic uint64_t accepted;
  _Atomic uint64_t try_base;  /* see slots.c: a slot may just have been taken */
  _Atomic uint64_t try_count; /* 0: no */
  _Atomic uint64_t accepted_bytes;
  /* For the statistics: of these, what had been accepted before. */
  _Atomic uint64_t repeated;
  _Atomic uint64_t repeated_bytes;
  /* Written by the owner under the channel's write lock. */
  alignas(64) _Atomic uint64_t sent;
  _Atomic uint64_t sent_wire;    /* bytes of packets written */
  _Atomic uint64_t pending_sent; /* what `sent` and `sent_wire` will be ... */
  _Atomic uint64_t pending_wire;
  _Atomic uint64_t pending_seq; /* ... if this packet was written; 0: none is being */
  _Atomic uint64_t written_seq; /* the last packet that was */
  _Atomic uint64_t sent_bytes;
  /* Written by readers under the channel's read lock: the last packet that came. */
  _Atomic uint64_t arrived_seq;
  /* Written by anybody, only ever to a greater value: see slots.c. */
  _Atomic uint64_t confirmed;
  _Atomic uint64_t got; /* with task_done only */
  /* Guarded by the ledger's lock. */
  _Atomic uint64_t returned;
  _Atomic uint64_t withdrawn; /* of these, what no death has lost; for the statistics */
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  _Atomic uint32_t state;  /* an enum forkq__cell_state */
  _Atomic uint32_t owners; /* how many there have been */
  _Atomic uint32_t pid;    /* of the owner */
};

struct forkq__ledger {
  alignas(64) struct forkq__lock lock;
  _Atomic uint32_t cells_used; /* cells ever used; guarded by lock */
  /* How many reaps were begun, and the number of the last that ended; guarded by lock. */
  _Atomic uint64_t reaps_begun;
  _Atomic uint64_t reaps_ended;
  alignas(64) _Atomic uint64_t returned; /* sums of the cells'; guarded by lock */
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  _Atomic uint64_t recoveries;        /* owners that died; for the statistics */
  alignas(64) _Atomic uint64_t taken; /* written under the channel's read lock */
  _Atomic uint64_t dropped;           /* of these, what nobody got; with task_done only */
  alignas(64) _Atomic uint64_t word;  /* with a maxsize: see slots.c */
  struct forkq__cell
      others; /* only `done`: by processes without a cell; guarded by lock */
  struct forkq__cell cells[FORKQ__CELLS_MAX];
};

/* ---- slots: room for `maxsize` items; see slots.h --------------------------------------- */

struct forkq__slots_shared {
  int64_t maxsize; /* 0: no limit */
  /* Waiting putters sleep on `event`, which changes with each wake-up. */
  alignas(64) _Atomic uint32_t event;
  _Atomic uint32_t waiters;
  _Atomic uint64_t waits;  /* how often, for the statistics */
  _Atomic uint32_t waking; /* one is on its way: no need to wake another */
  /* Loops on which a put waits, or that were killed there: it costs them an event. */
  _Atomic uint32_t watchers;
  struct forkq__look_shared look;
};

/* ---- the pipe: its locks, what was read ahead, who sleeps; see channel.h and partial.h ---- */

struct forkq__partial {
  _Atomic uint32_t cell; /* of the sender, plus 1; 0: there is none */
  _Atomic uint32_t total;
  /* Bytes there, and the seq of the packet that brought the last of them: have << 32 | seq's
   * lower half. One word, so that an append is there or not. */
  _Atomic uint64_t mark;
};

/* What a shutdown has made of the queue. */
enum forkq__shutdown {
  FORKQ__OPEN,
  FORKQ__DRAINING, /* nothing more is put; what is there is got */
  FORKQ__DROPPED,  /* nor is anything got: what is there is thrown away */
};

struct forkq__channel_shared {
  alignas(64) struct forkq__lock write_lock;
  _Atomic uint64_t write_seq; /* last number given to a packet; guarded by write_lock */

  alignas(64) struct forkq__lock read_lock; /* guards all from here to `packet` */
  _Atomic uint32_t offset;    /* next frame in `packet`; 0: none was read yet */
  _Atomic uint32_t unread;    /* frames left in it; read without the lock as a hint */
  _Atomic uint32_t loading;   /* a read into `packet` has begun; hint as well */
  _Atomic uint32_t raised;    /* 1: the event descriptor is readable */
  _Atomic uint64_t base;      /* the ledger's `taken` when `packet` came */
  _Atomic uint64_t read_seq;  /* of the last packet that came */
  _Atomic uint64_t read_wire; /* bytes of packets that came */
  _Atomic uint64_t wire_base; /* and before `packet` did */
  _Atomic uint64_t bytes_taken;
  /* With task_done: a take of `take_items` from `take_offset` is being counted in a counter
   * that stood at `take_base`: that of cell `taker` - 1, or of what is dropped. 0: none. */
  _Atomic uint64_t take_base;
  _Atomic uint32_t take_items;
  _Atomic uint32_t take_offset;
  _Atomic uint32_t taker;
  struct forkq__partial partial;

  alignas(64) _Atomic uint32_t shutdown; /* an enum forkq__shutdown; only ever grows */
  _Atomic uint32_t shutting; /* 1: it is about to grow, or has; nobody sleeps for long */
  _Atomic uint64_t getter_waits;

  alignas(64) struct forkq__lock turn;
  _Atomic uint32_t turn_waiting; /* see forkq__lock_await */
  struct forkq__look_shared turn_look;
  _Atomic uint32_t asleep;   /* the owner of the turn is in poll, or was woken from it */
  _Atomic uint32_t hastened; /* a writer has hurried because of this sleep */
  /* In forkq_wait, on a loop or with a descriptor of the queue's; or killed there: it costs
   * the others an event. */
  _Atomic uint32_t watchers;

  alignas(FORKQ__PACKET_SIZE) struct forkq__packet
      packet; /* read ahead; one page, one copy */
};

/* ---- all of it ---------------------------------------------------------------------------- */

/* What a process must find in a segment to use it: the same layout of all shared structs. */
#define FORKQ__SEGMENT_MAGIC UINT64_C(0x746e656d67736671)
#define FORKQ__SEGMENT_LAYOUT 4u

#define FORKQ__LIBC_TEXT 32
#define FORKQ__LOCK_IMAGE 64

/* What programs must have in common besides, to share these structs and their C library's mutexes
 * in them. All bytes behind what is said are zero. */
struct forkq__abi {
  char libc[FORKQ__LIBC_TEXT]; /* name and version of the C library */
  uint32_t long_size;
  uint32_t lock_size; /* of a pthread_mutex_t */
  uint32_t lock_alignment;
  uint32_t unused;
  unsigned char new_lock[FORKQ__LOCK_IMAGE]; /* the bytes of one that nobody has taken */
};

/* Of any version, magic and layout stand where they do here. */
struct forkq__segment_head {
  _Atomic uint64_t magic; /* written last */
  uint32_t layout;
  uint32_t size; /* of the segment */
  struct forkq__abi abi;
};

struct forkq__segment {
  struct forkq__segment_head head;
  uint64_t pipe_identity; /* of the pipe that belongs to it */
  uint64_t pid_namespace; /* of the process that made it; 0: not known */
  uint64_t event_id; /* one more than the kernel's numbers for its event descriptors; */
  uint64_t room_id;  /* 0: not known */
  uint64_t max_message;
  uint32_t joinable;
  /* Those in join sleep on `joined_event`, which changes when the last task is done. */
  alignas(64) _Atomic uint32_t joined_event;
  _Atomic uint32_t joiners;
  struct forkq__look_shared join_look;
  struct forkq__slots_shared slots;
  struct forkq__channel_shared channel;
  struct forkq__ledger ledger;
};

#endif
