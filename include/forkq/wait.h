/* forkq/wait.h: waiting for several objects at once.
 *
 * The counterpart of multiprocessing.connection.wait. */
#ifndef FORKQ_WAIT_H
#define FORKQ_WAIT_H

#include <forkq/base.h>
#include <forkq/connection.h>
#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The kinds of entries. */
typedef enum forkq_wait_kind {
  FORKQ_WAIT_CONNECTION,
  FORKQ_WAIT_FD,
  FORKQ_WAIT_QUEUE
} forkq_wait_kind_t;

/* One object to wait for, and whether it is ready. forkq_wait_on, forkq_wait_on_fd and
 * forkq_wait_on_queue make entries. An entry borrows its object and does not own it.
 * FORKQ_WAIT_ENTRY_INIT is an entry without an object: FORKQ_ENULL. */
typedef struct forkq_wait_entry {
  forkq_wait_kind_t kind;
  union {
    forkq_connection_t *connection;
    int fd;
    forkq_queue_t *queue;
  } on;
  int ready;
} forkq_wait_entry_t;

#define FORKQ_WAIT_ENTRY_INIT                                                            \
  { FORKQ_WAIT_CONNECTION, { NULL }, 0 }

/* Makes an entry for a connection. It is ready when a receive would return data, end of
 * file or an error without waiting. Only the start of a message may have arrived: the
 * receive may still wait for the rest. A write-only connection is ready when nobody can
 * receive any more.
 *
 * Returns: the entry.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
static inline forkq_wait_entry_t forkq_wait_on(forkq_connection_t *connection) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_CONNECTION;
  entry.on.connection = connection;
  entry.ready = 0;
  return entry;
}

/* Makes an entry for a descriptor that poll(2) supports, such as a socket, a pidfd or an
 * eventfd. It is ready when a read would return data, end of file or an error without
 * waiting. With the descriptor of forkq_queue_room_fileno it is ready when there may be room
 * for a put.
 *
 * Returns: the entry.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
static inline forkq_wait_entry_t forkq_wait_on_fd(int fd) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_FD;
  entry.on.fd = fd;
  entry.ready = 0;
  return entry;
}

/* Makes an entry for a queue. It is ready when a get would return an item, FORKQ_ESHUTDOWN or
 * FORKQ_EALONE. Another process may get the item first: continue with a get that does
 * not wait.
 *
 * Returns: the entry.
 * Blocks: never.
 * Errors: none.
 * Python: none. */
static inline forkq_wait_entry_t forkq_wait_on_queue(forkq_queue_t *queue) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_QUEUE;
  entry.on.queue = queue;
  entry.ready = 0;
  return entry;
}

/* Waits until at least one of `count` entries is ready, and sets `ready` of each entry to
 * 1 or 0. Without entries it sleeps for the timeout.
 *
 * The call reads nothing and keeps nothing. The same entries may be used again. To remove
 * one, move the last entry to its place. Up to 32 entries it does not allocate.
 *
 * Returns: the number of ready entries, or 0 on timeout.
 * Blocks: for at most `timeout_ms`; -1: without limit. Signals do not end the wait; a handler can do
 *   so with forkq_queue_interrupt, or with an eventfd that is an entry and that it writes to. If
 *   another process is stopped in the middle of its own put or get on a queue, the call
 *   may take some tenths of a second longer, also with timeout 0.
 * Errors: a failed call does not change `ready` of connections and descriptors, but may
 *   change `ready` of queues.
 *   FORKQ_ENULL       `entries`, a connection or a queue is NULL
 *   FORKQ_ETIMEOUT    timeout_ms is below -1
 *   FORKQ_ECLOSED     a connection or queue is closed, perhaps during the wait
 *   FORKQ_EINTERRUPTED  one of the queues was interrupted: see forkq_queue_interrupt. The thread is
 *                     then told for all of them.
 *   FORKQ_EPACKING    a queue is listed, and a packing function made the call
 *   FORKQ_ENAMESPACE  this process cannot use a queue (forkq/queue.h)
 *   FORKQ_ENOROBUST   a queue is listed, and robust mutexes do not work on this system
 *   FORKQ_ETWICE      a queue or descriptor is listed twice, by itself or as a
 *                     connection's
 *   -EBADF            a descriptor is not open
 *   -EINVAL           an entry has no known kind, or there are more entries than the
 *                     process may have descriptors (a queue counts as three)
 *   -ENOMEM           there is no memory
 * Threads: any number of threads may wait. For a connection, the wait counts as a receive
 *   (forkq/connection.h). A thread that is cancelled during the wait ends at once, and
 *   leaves nothing behind.
 * Python: multiprocessing.connection.wait(object_list, timeout). Its result is the ready
 *   entries in the order of the array. None there is -1 here, and a negative timeout is
 *   0. There, a descriptor that is not open counts as ready, a queue has no public
 *   descriptor, and a get from a ready queue may wait. */
FORKQ_API FORKQ_MUST_CHECK int forkq_wait(forkq_wait_entry_t *entries, size_t count,
                                          int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
