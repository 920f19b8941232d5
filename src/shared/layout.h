/* The map of the memory that the processes of one queue share: every struct in it.
 *
 * A process may die at any instruction. So each field has a rule for its writers, and one place
 * that repairs it after a death:
 *
 *   struct            field                       written by                  repaired by
 *   cell              accepted, try_*, not_put,   its process, with the       the reaper, for the
 *                     put_bytes                   sender's mutex              dead process
 *                                                                             (finish_take)
 *                     sent*, pending_*,           its process, with the       the reaper
 *                     written_seq                 write lock                  (finish_write)
 *                     arrived_seq, got            readers, with the read      the next reader
 *                                                 lock                        (repair_read)
 *                     confirmed                   any process, only to a      needs none
 *                                                 greater value
 *                     arena                       its process; when it is     needs none: memory
 *                                                 free, a reader with the     stays for longer
 *                                                 read lock
 *                     holds                       a reader with the read      the owner of the cell,
 *                                                 lock begins one; the same   or a reader that sweeps
 *                                                 process ends it             (holds_living)
 *                     holds_used                  a reader with the read      needs none: it grows
 *                                                 lock
 *                     returned, done, abandoned,  with the ledger's lock      the reaper
 *                     withdrawn, state, owners,
 *                     pid, first_*
 *   ledger            returned, done, abandoned   with the ledger's lock      the next owner of the
 *                                                                             lock, from the cells
 *                                                                             (repair)
 *                     orphans                     any process, atomically     needs none, as `arena`
 *                     taken, dropped              readers, with the read      the next reader, from
 *                                                 lock                        `base` and `offset`
 *                     word                        putters, by                 needs none
 *                                                 compare-and-swap
 *                     lost_tasks                  the creator                 needs none
 *                     confirming, done_number,    with the ledger's lock      the next owner of the
 *                     done_base                                               lock (finish_confirm)
 *   kept_shared       used, numbers               readers, with the read      needs none: they grow
 *                                                 lock
 *                     look                        any process                 the next owner of the
 *                                                                             lock that the dead had
 *                     used_at, warm               readers, with the read      needs none: memory
 *                                                 lock                        stays for longer
 *                     redelivered                 readers, with the read      needs none: a count
 *                                                 lock                        for the statistics
 *   kept              word                        see kept.c: in each state   the next reader
 *                                                 one lock changes it         (repair_kept), or the
 *                                                                             next owner of the
 *                                                                             ledger's lock
 *                     number, size                readers, with the read      needs none: they count
 *                                                 lock                        once the word says so
 *                     backed, medium, large       who has the lock of the     needs none: memory
 *                                                 word's state                stays for longer
 *   channel_shared    write_seq                   the owner of the write      needs none: no number
 *                                                 lock                        is used twice
 *                     offset to take_kept,        the owner of the read       the next reader
 *                     packet                      lock                        (repair_read)
 *                     shutdown, shutting          any process; they only      needs none: sleepers
 *                                                 grow                        look
 *                     asleep, hastened            the owner of the turn;      the next owner of the
 *                                                 hastened: a writer, too     turn (repair_turn)
 *                     watchers                    any process, atomically     needs none: one too
 *                                                                             many costs an event
 *   slots_shared      event, waiters, waking      any process, atomically     needs none: a waiting
 *                                                                             putter looks
 *   spill             cell, total, mark           the owner of the read       the next reader
 *                                                 lock                        (spill_repair)
 */
#ifndef FORKQ_LAYOUT_H
#define FORKQ_LAYOUT_H

#include "base/atomics.h"
#include "base/lock.h"
#include "base/look.h"
#include "codec/packet.h"

#include <forkq/queue.h>
#include <stdalign.h>
#include <stdint.h>

#define FORKQ__CELLS_MAX 4096u
#define FORKQ__NO_CELL UINT32_MAX
/* Instead of an owner of an arena: see forkq__cell. */
#define FORKQ__SWEPT UINT32_MAX
#define FORKQ__LOST (UINT32_MAX - 1)
#define FORKQ__HOLDS 64u
#define FORKQ__CELL_BITS 13 /* bits for a cell + 1, in a word with a count: see slots.c */
/* Tasks that are kept. Above FORKQ__KEPT_COMMON lie those of processes that keep no other: one each. */
#define FORKQ__KEPT_COMMON 4096u
#define FORKQ__KEPT_MAX (FORKQ__KEPT_COMMON + FORKQ__CELLS_MAX)
#define FORKQ__NO_TASK UINT32_MAX

/* ---- the ledger: how many items each process put, got and lost; see ledger.h ------------- */

enum forkq__cell_state {
  FORKQ__CELL_FREE, /* no process has it, or one died while it claimed it */
  FORKQ__CELL_USED,
  /* Its process is dead. What became of its last write or read is not known yet. */
  FORKQ__CELL_DEAD,
  /* Its process is gone. All is settled except its tasks, which a child of it may still do. */
  FORKQ__CELL_TASKS
};

struct forkq__cell {
  /* Written by the owner, one thread at a time (with its sender's mutex). */
  alignas(64) _Atomic uint64_t accepted;
  _Atomic uint64_t try_base;  /* a take in progress: `accepted` before it; see slots.c */
  _Atomic uint64_t try_count; /* the count that the take makes; 0: no take */
  /* For the statistics. `not_put` are those of `accepted` that were not put after all, or that an
   * heir has put again. `put_bytes` is without what the process took over as an heir. */
  _Atomic uint64_t not_put;
  _Atomic uint64_t put_bytes;
  /* Written by the owner under the channel's write lock. */
  alignas(64) _Atomic uint64_t sent;
  _Atomic uint64_t sent_wire;    /* bytes of packets written */
  _Atomic uint64_t pending_sent; /* what `sent` and `sent_wire` become ... */
  _Atomic uint64_t pending_wire;
  _Atomic uint64_t pending_seq; /* ... when this packet is written; 0: no write */
  _Atomic uint64_t written_seq; /* seq of the last packet that was written */
  _Atomic uint64_t sent_bytes;
  /* Written by readers under the channel's read lock: seq of the cell's last packet that came. */
  _Atomic uint64_t arrived_seq;
  /* Written by any process, only to a greater value: see slots.c. */
  _Atomic uint64_t confirmed;
  _Atomic uint64_t got; /* with task_done only */
  /* Guarded by the ledger's lock. */
  _Atomic uint64_t returned;
  _Atomic uint64_t withdrawn; /* of `returned`, not lost; for the statistics */
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  _Atomic uint32_t state;  /* an enum forkq__cell_state */
  _Atomic uint32_t owners; /* how many owners the cell has had */
  _Atomic uint32_t pid;    /* of the owner */
  /* The number of the owner for whom the arena may have memory, or 0; FORKQ__SWEPT: a reader gives back
   * what an owner has left that is gone; FORKQ__LOST: nobody may use it any more. The next owner changes
   * it to its own number before it uses the arena, and waits as long as it is being swept. */
  _Atomic uint32_t arena;
  _Atomic uint32_t holds_used; /* words of `holds` that were ever used */
  /* For those who look on: what former owners of the cell had put and got. */
  _Atomic uint64_t first_put;
  _Atomic uint64_t first_got;
  /* The pieces of the arena that readers still use after they were taken: see hold.c. 0: none. */
  alignas(64) _Atomic uint64_t holds[FORKQ__HOLDS];
};

/* ---- tasks that were got and are not done, with their bytes; see kept.h ------------------- */

struct forkq__kept {
  _Atomic uint64_t word;   /* whose it is, and what became of it; 0: free */
  _Atomic uint64_t number; /* no other has had it; the older, the smaller */
  _Atomic uint32_t size;
  _Atomic uint32_t backed; /* 1: the memory for a small message is reserved */
  _Atomic uint32_t large;  /* bytes that are reserved for a large one */
  _Atomic uint32_t medium; /* at least so many bytes are reserved for a medium one */
};

struct forkq__kept_shared {
  alignas(64) _Atomic uint32_t used; /* of `tasks`, that were ever used */
  _Atomic uint32_t look;             /* 1: there may be one that no living process has */
  _Atomic uint64_t numbers;          /* the last that was given */
  _Atomic uint64_t redelivered;      /* for the statistics */
  _Atomic int64_t used_at;           /* when a medium message was kept last */
  _Atomic uint32_t warm;             /* 1: memory may be reserved for medium ones */
  alignas(64) struct forkq__kept tasks[FORKQ__KEPT_MAX];
};

struct forkq__ledger {
  alignas(64) struct forkq__lock lock;
  _Atomic uint32_t cells_used; /* cells ever used; guarded by lock */
  /* The number of reaps begun, and the number of the last that ended; guarded by lock. */
  _Atomic uint64_t reaps_begun;
  _Atomic uint64_t reaps_ended;
  alignas(64) _Atomic uint64_t returned; /* sums over the cells; guarded by lock */
  _Atomic uint64_t done;
  _Atomic uint64_t abandoned;
  _Atomic uint32_t
      orphans; /* changes when memory of an owner that is gone may have become free */
  _Atomic uint64_t recoveries; /* dead owners of locks and cells; for the statistics */
  alignas(64) _Atomic uint64_t taken; /* written under the channel's read lock */
  _Atomic uint64_t dropped;           /* items that no process got; with task_done only */
  /* The queue's, for messages to the log; empty: it has none. Written before another process has it. */
  char name[FORKQ_NAME_MAX + 1];
  uint32_t lost_tasks; /* a forkq_lost_tasks_t; the creator writes it */
  /* A task_done in progress, of the kept task `confirming` - 1, which has number `done_number`; in the upper
   * half its cell, which had done `done_base` before; 0: none. Guarded by lock. */
  _Atomic uint64_t confirming;
  _Atomic uint64_t done_number;
  _Atomic uint64_t done_base;
  alignas(64) _Atomic uint64_t word; /* with a maxsize: see slots.c */
  struct forkq__cell
      others; /* only `done`: tasks of no particular process; guarded by lock */
  struct forkq__cell cells[FORKQ__CELLS_MAX];
  struct forkq__kept_shared kept; /* has memory where the queue keeps tasks */
};

/* ---- slots: room for `maxsize` items; see slots.h --------------------------------------- */

struct forkq__slots_shared {
  int64_t maxsize; /* 0: no limit */
  /* Waiting putters sleep on `event`, which changes with each wake-up. */
  alignas(64) _Atomic uint32_t event;
  _Atomic uint32_t waiters;
  _Atomic uint64_t waits;  /* how often a putter waited; for the statistics */
  _Atomic uint32_t waking; /* 1: a woken putter is on its way, so no other is woken */
  /* Loops on which a put waits. A loop that was killed there stays counted, which costs the
   * others an event. */
  _Atomic uint32_t watchers;
  struct forkq__look_shared look;
};

/* ---- the pipe: its locks, the packet read ahead, the sleepers; see channel.h, spill.h --- */

struct forkq__spill {
  _Atomic uint32_t cell; /* of the sender, plus 1; 0: no part is kept */
  _Atomic uint32_t total;
  /* `have` << 32 | lower half of `seq`: the number of bytes kept, and the seq of the packet
   * that brought the last of them. They share one word, so that a death leaves an append done
   * or not begun. */
  _Atomic uint64_t mark;
};

/* The shutdown state of the queue. */
enum forkq__shutdown {
  FORKQ__OPEN,
  FORKQ__DRAINING, /* no more puts; gets go on until nothing is left */
  FORKQ__DROPPED,  /* no more gets either; the items that are left are dropped */
};

struct forkq__channel_shared {
  alignas(64) struct forkq__lock write_lock;
  _Atomic uint64_t write_seq; /* last number given to a packet; guarded by write_lock */

  alignas(64) struct forkq__lock read_lock; /* for all down to `spill`, and `packet` */
  _Atomic uint32_t offset;  /* of the next frame in `packet`; 0: no packet was read yet */
  _Atomic uint32_t unread;  /* frames left in `packet`; read without the lock as a hint */
  _Atomic uint32_t loading; /* 1: a read into `packet` has begun; a hint as well */
  _Atomic uint32_t raised;  /* 1: the event descriptor is readable */
  _Atomic uint64_t base;    /* the ledger's `taken` when `packet` came */
  _Atomic uint64_t read_seq;  /* seq of the last packet that came */
  _Atomic uint64_t read_wire; /* bytes of packets that came */
  _Atomic uint64_t wire_base; /* `read_wire` before `packet` came */
  _Atomic uint64_t bytes_taken;
  _Atomic uint32_t orphans_seen; /* `orphans` when the pipe was last found empty */
  /* With task_done: a take in progress. It adds `take_items`, taken at `take_offset`, to a
   * counter that was `take_base`: `got` of cell `taker` - 1, or the ledger's `dropped` if
   * `taker` is FORKQ__NO_CELL. `taker` is 0 without a take. */
  _Atomic uint64_t take_base;
  _Atomic uint32_t take_items;
  _Atomic uint32_t take_offset;
  _Atomic uint32_t taker;
  /* Not 0: the take is of kept task `take_kept` - 1, which is done when no longer lost. */
  _Atomic uint32_t take_kept;
  struct forkq__spill spill;

  alignas(64) _Atomic uint32_t shutdown; /* an enum forkq__shutdown; only grows */
  _Atomic uint32_t shutting; /* 1: it is about to grow, or has; no thread sleeps long */
  _Atomic uint64_t getter_waits;

  alignas(64) struct forkq__lock turn;
  _Atomic uint32_t turn_waiting; /* see forkq__lock_await */
  struct forkq__look_shared turn_look;
  _Atomic uint32_t asleep;   /* the owner of the turn is in poll, or was woken from it */
  _Atomic uint32_t hastened; /* 1: a writer has hurried because of this sleep */
  /* Watchers in forkq_wait, on a loop, or with a descriptor of the queue. A watcher that was
   * killed stays counted, which costs the others an event. */
  _Atomic uint32_t watchers;

  alignas(FORKQ__PACKET_SIZE) struct forkq__packet
      packet; /* read ahead; one page, one copy */
};

/* ---- the segment -------------------------------------------------------------------------- */

/* A process must find both numbers in a segment to use it. The second stands for the layout of
 * all shared structs. */
#define FORKQ__SEGMENT_MAGIC UINT64_C(0x746e656d67736671)
#define FORKQ__SEGMENT_LAYOUT 9u

#define FORKQ__LIBC_TEXT 32
#define FORKQ__LOCK_IMAGE 64

/* What programs must have in common besides, to share these structs and the C library's mutexes
 * in them. All unused bytes are zero. */
struct forkq__abi {
  char libc[FORKQ__LIBC_TEXT]; /* name and version of the C library */
  uint32_t long_size;
  uint32_t lock_size; /* of a pthread_mutex_t */
  uint32_t lock_alignment;
  uint32_t unused;
  unsigned char new_lock[FORKQ__LOCK_IMAGE]; /* the bytes of one never taken */
};

/* In every version, magic and layout are at these places. */
struct forkq__segment_head {
  _Atomic uint64_t magic; /* written last */
  uint32_t layout;
  uint32_t size; /* of the segment */
  struct forkq__abi abi;
};

struct forkq__segment {
  struct forkq__segment_head head;
  uint64_t pipe_identity; /* of the queue's pipe */
  uint64_t pid_namespace; /* of the process that created the segment; 0: not known */
  uint64_t event_id;      /* the kernel's numbers for the event descriptors ... */
  uint64_t room_id;       /* ... plus 1; 0: not known */
  uint64_t max_message;
  uint32_t joinable;
  uint32_t creator; /* its process, for those who look on */
  /* Joiners sleep on `joined_event`, which changes when the last task is done. */
  alignas(64) _Atomic uint32_t joined_event;
  _Atomic uint32_t joiners;
  struct forkq__look_shared join_look;
  struct forkq__slots_shared slots;
  struct forkq__channel_shared channel;
  struct forkq__ledger ledger;
};

/* ---- the file ------------------------------------------------------------------------------
 *
 * The segment, then room for the kept part of a large message (spill.h), then an arena for each cell
 * (arena.h), then the bytes of kept tasks (kept.h): a page for each, room for a medium
 * message for some, and room for a large one for each. All but the segment is a hole at first, and takes no
 * memory. */
#define FORKQ__SPILL_BEGIN ((int64_t)sizeof(struct forkq__segment))
#define FORKQ__ARENA_SIZE (INT64_C(64) << 20) /* FORKQ_SHARED_MAX */
#define FORKQ__ARENAS_BEGIN                                                              \
  ((FORKQ__SPILL_BEGIN + FORKQ_MESSAGE_MAX + FORKQ__ARENA_SIZE - 1) /                    \
   FORKQ__ARENA_SIZE * FORKQ__ARENA_SIZE)
#define FORKQ__KEPT_SMALL 4096u /* messages of so many bytes lie in the page */
#define FORKQ__KEPT_BEGIN (FORKQ__ARENAS_BEGIN + FORKQ__CELLS_MAX * FORKQ__ARENA_SIZE)
#define FORKQ__KEPT_MEDIUM                                                               \
  524288u /* messages of so many bytes lie in the first rooms, ... */
#define FORKQ__KEPT_MEDIUMS 64u /* ... of which there are so many */
#define FORKQ__KEPT_MEDIUM_BEGIN                                                         \
  (FORKQ__KEPT_BEGIN + (int64_t)FORKQ__KEPT_MAX * FORKQ__KEPT_SMALL)
#define FORKQ__KEPT_LARGE_BEGIN                                                          \
  (FORKQ__KEPT_MEDIUM_BEGIN + (int64_t)FORKQ__KEPT_MEDIUMS * FORKQ__KEPT_MEDIUM)
#define FORKQ__FILE_END                                                                  \
  (FORKQ__KEPT_LARGE_BEGIN + (int64_t)FORKQ__KEPT_MAX * FORKQ_KEPT_MESSAGE_MAX)

static inline int64_t forkq__arena_begin(uint32_t cell) {
  return FORKQ__ARENAS_BEGIN + cell * FORKQ__ARENA_SIZE;
}

#endif
