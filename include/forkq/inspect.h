/* forkq/inspect.h: looking at the queues of other processes, for monitors.
 *
 * It finds the queues of the processes of this user, or of all processes if this one is root,
 * and says what is in them, which process has put what, and which thread waits for what. The
 * program forkq(1) is made of it.
 *
 * It reads only. No function here takes a lock of a queue, writes to its memory, or makes
 * one of its processes wait. What it says was so a moment ago: the queue goes on meanwhile,
 * so that numbers that belong together may differ by the items of that moment.
 *
 * What it reads may be torn or hostile, as it belongs to others. Each number that leads
 * somewhere is checked, and a queue that fails is reported with an error instead of its
 * numbers.
 *
 * Where it looks
 *
 *   A queue is found by the descriptors in /proc/PID/fd, so a process that has closed the
 *   queue is not among its processes. A process of another user is not seen, and neither is
 *   one that may not be dumped (PR_SET_DUMPABLE in prctl(2)).
 *
 *   A queue of another PID namespace (a container's) knows its processes by other numbers.
 *   Its processes and their waits are found as ever. But which of them has put what, created
 *   the queue or owns a lock is not known, and dead processes are not listed.
 *
 *   What a thread waits for is in /proc/PID/syscall and in its memory. The system shows these
 *   to a process that may trace the other (ptrace(2)). Where it may not, as with
 *   kernel.yama.ptrace_scope above 0, `waits_known` is 0, and only the queue's own numbers of
 *   waiting processes are left.
 *
 * What is not known
 *
 *   Since when a thread waits or has a lock, and when the last item was put or got: each put
 *   and get would pay for such notes. A monitor that looks twice sees whether numbers such as
 *   `put_items` and `got_items` have changed. A thread that waits both times need not have
 *   waited in between. */
#ifndef FORKQ_INSPECT_H
#define FORKQ_INSPECT_H

#include <forkq/base.h>
#include <forkq/handover.h>
#include <forkq/queue.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a queue is shut down. */
typedef enum forkq_inspect_state {
  FORKQ_INSPECT_OPEN,     /* it is not */
  FORKQ_INSPECT_DRAINING, /* no more puts; gets go on until nothing is left */
  FORKQ_INSPECT_DROPPED   /* no more gets either */
} forkq_inspect_state_t;

/* Whether a process runs. */
typedef enum forkq_inspect_life {
  FORKQ_INSPECT_ALIVE,
  FORKQ_INSPECT_STOPPED, /* by a signal or a debugger */
  FORKQ_INSPECT_DEAD     /* the queue still has what it had put or got */
} forkq_inspect_life_t;

/* The locks of a queue. A thread keeps each for a moment only, except the turn: its owner
 * sleeps until an item comes, and the other getters wait for the turn. A feeder that waits
 * for room in the pipe may keep the write lock in the middle of a large message. */
typedef enum forkq_inspect_lock_kind {
  FORKQ_INSPECT_WRITE_LOCK,
  FORKQ_INSPECT_READ_LOCK,
  FORKQ_INSPECT_TURN,
  FORKQ_INSPECT_LEDGER_LOCK
} forkq_inspect_lock_kind_t;

#define FORKQ_INSPECT_LOCKS 4

/* Who has a lock. Later versions only add fields at the end. */
typedef struct forkq_inspect_lock {
  pid_t tid;      /* the owner's thread; 0: it is free */
  pid_t pid;      /* the process of that thread; 0: it has ended, or is not seen */
  int owner_died; /* nonzero: the owner has died, and nobody has taken the lock since */
  int contended;  /* nonzero: a thread waits for it, or has waited */
} forkq_inspect_lock_t;

/* What a thread waits for. */
typedef enum forkq_inspect_wait_kind {
  FORKQ_INSPECT_WAITS_FOR_ITEM,
  FORKQ_INSPECT_WAITS_FOR_ROOM,  /* in the queue, for a put */
  FORKQ_INSPECT_WAITS_FOR_PIPE,  /* for room in the pipe, to send what was put */
  FORKQ_INSPECT_WAITS_FOR_TASKS, /* in forkq_queue_join */
  FORKQ_INSPECT_WAITS_FOR_LOCK
} forkq_inspect_wait_kind_t;

/* A thread that waits in a call of forkq. Later versions only add fields at the end. */
typedef struct forkq_inspect_wait {
  pid_t pid;
  pid_t tid;
  forkq_inspect_wait_kind_t kind;
  forkq_inspect_lock_kind_t lock; /* with FORKQ_INSPECT_WAITS_FOR_LOCK */
} forkq_inspect_wait_t;

/* A process of a queue: it has the queue open, or it is dead and has left something. Later
 * versions only add fields at the end. */
typedef struct forkq_inspect_process {
  pid_t pid;
  /* As in /proc/PID/comm, with '?' for each byte that is not printable ASCII; empty: the
   * process is gone. */
  char command[16];
  forkq_inspect_life_t life;
  int open;           /* nonzero: it has the queue's descriptors */
  int has_cell;       /* nonzero: it is known to have put, or got from a joinable queue */
  uint64_t put_items; /* what it put since it uses the queue */
  uint64_t unsent_items;
  uint64_t got_items; /* with a joinable queue; otherwise 0 */
  uint64_t tasks;     /* of these, what is not done */
  int waits_known;    /* nonzero: the waits of this process are all listed */
  /* The queue's descriptors in the process, in the order of a forkq_handover_t; -1: none. */
  int fds[FORKQ_HANDOVER_FDS];
} forkq_inspect_process_t;

/* A queue. Later versions only add fields at the end. */
typedef struct forkq_inspect_queue {
  uint64_t inode; /* of its memory: no other queue has it at the time */
  /* As in forkq_queue_options_t, with '?' for each character that no name has; may be empty. */
  char name[FORKQ_NAME_MAX + 1];
  /* 0; or why the rest is not known: FORKQ_EVERSION, FORKQ_EHANDOVER if the memory is damaged,
   * or a negative errno. The numbers are then 0, and there are processes but no locks. */
  int error;
  forkq_inspect_state_t state;
  int joinable;
  pid_t creator;         /* 0: not known */
  int64_t maxsize;       /* 0: no limit */
  uint64_t size;         /* items in the queue, as forkq_queue_qsize */
  uint64_t unsent_items; /* of these, what is still in processes, and not in the pipe */
  uint64_t put_items, put_bytes;
  uint64_t got_items, got_bytes;
  uint64_t lost_items;
  uint64_t tasks; /* not done, with a joinable queue */
  uint64_t abandoned_tasks;
  uint32_t
      waiting_getters; /* in calls; as the queue counts them, with some that were killed */
  uint32_t waiting_putters;
  uint32_t joiners;
  uint32_t watchers;             /* in forkq_wait, on loops, or with a descriptor */
  uint64_t put_waits, get_waits; /* as in forkq_queue_stats_t */
  uint64_t recoveries;
  /* private */
  struct forkq__inspected *self_;
} forkq_inspect_queue_t;

/* What was found. */
typedef struct forkq_inspect forkq_inspect_t;

/* Looks at all queues that the process `pid` has, or that any process has if `pid` is 0. The
 * caller owns *ret_inspect and frees it with forkq_inspect_destroy. Which queues there are
 * does not change meanwhile; to look again, open again.
 *
 * Returns: 0, also if there is no queue.
 * Blocks: never on a queue. It reads some files of each process of the user.
 * Errors:
 *   FORKQ_ENULL  `ret_inspect` is NULL
 *   -ESRCH       no process has that number
 *   -EACCES      the process is another user's, or may not be looked at
 *   -ENOMEM      there is no memory
 *   other        a negative errno of open(2), such as -ENOENT without /proc, or -EMFILE
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_inspect_open(forkq_inspect_t **ret_inspect,
                                                  pid_t pid);

/* Frees what was found, with all that was returned from it. NULL is allowed.
 *
 * Blocks: never.
 * Errors: none.
 * Python: none. */
FORKQ_API void forkq_inspect_destroy(forkq_inspect_t *inspect);

/* Gets a queue. `index` counts from 0, in the order of their inodes.
 *
 * Returns: the queue, which `inspect` owns; NULL after the last.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
FORKQ_API const forkq_inspect_queue_t *
forkq_inspect_queue_at(const forkq_inspect_t *inspect, size_t index);

/* Gets a process of a queue. `index` counts from 0, in the order of their numbers.
 *
 * Returns: the process, which the forkq_inspect_t owns; NULL after the last.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
FORKQ_API const forkq_inspect_process_t *
forkq_inspect_process_at(const forkq_inspect_queue_t *queue, size_t index);

/* Gets a wait of a queue: a thread and what it waits for. `index` counts from 0, in the order of
 * the threads' numbers.
 *
 * Returns: the wait, which the forkq_inspect_t owns; NULL after the last.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
FORKQ_API const forkq_inspect_wait_t *
forkq_inspect_wait_at(const forkq_inspect_queue_t *queue, size_t index);

/* Gets who has a lock of a queue.
 *
 * Returns: the lock, which the forkq_inspect_t owns; NULL if there is no such lock.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
FORKQ_API const forkq_inspect_lock_t *
forkq_inspect_lock_of(const forkq_inspect_queue_t *queue, forkq_inspect_lock_kind_t kind);

/* Receives an item that forkq_inspect_peek found: its msgpack bytes, which are exactly one
 * object, borrowed until the function returns.
 *
 * Returns: 0, or anything else to stop. */
typedef int (*forkq_inspect_item_fn)(const char *data, size_t size, void *arg);

/* Shows the items in the pipe without taking them. It copies the pipe (tee(2)), and calls
 * `item` for each item, in the order in which they will be got.
 *
 * Items that are got meanwhile may be shown or not. An item that is not sent yet, or of which
 * only a part is in the pipe, is not shown.
 *
 * Returns: the number of items shown.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL      `queue` or `item` is NULL
 *   FORKQ_EHANDOVER  the memory of the queue is damaged, or not known (its `error`)
 *   -ESRCH           no process has the queue any more
 *   -EACCES          the pipe may not be opened
 *   -ENOMEM          there is no memory
 *   other            a negative errno of pipe2(2) or tee(2), such as -EMFILE
 * Python: none. */
FORKQ_API int forkq_inspect_peek(const forkq_inspect_queue_t *queue,
                                 forkq_inspect_item_fn item, void *arg);

#ifdef __cplusplus
}
#endif

#endif
