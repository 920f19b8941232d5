/* forkq/wait.h: waiting for any of several things.
 *
 * The counterpart of multiprocessing.connection.wait.
 */
#ifndef FORKQ_WAIT_H
#define FORKQ_WAIT_H

#include <forkq/base.h>
#include <forkq/connection.h>
#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum forkq_wait_kind {
  FORKQ_WAIT_CONNECTION,
  FORKQ_WAIT_FD,
  FORKQ_WAIT_QUEUE
} forkq_wait_kind_t;

/* One thing to wait for, and whether it is ready. Made by the functions below; borrowed,
 * not owned. */
typedef struct forkq_wait_entry {
  forkq_wait_kind_t kind;
  union {
    forkq_connection_t *connection;
    int fd;
    forkq_queue_t *queue;
  } on;
  int ready;
} forkq_wait_entry_t;

/* An entry for a connection. A connection that only sends may be waited for too: it is
 * ready when nobody can receive any more. */
static inline forkq_wait_entry_t forkq_wait_on(forkq_connection_t *connection) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_CONNECTION;
  entry.on.connection = connection;
  entry.ready = 0;
  return entry;
}

/* An entry for any descriptor that poll(2) takes: a socket, a pidfd, an eventfd, ... */
static inline forkq_wait_entry_t forkq_wait_on_fd(int fd) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_FD;
  entry.on.fd = fd;
  entry.ready = 0;
  return entry;
}

/* An entry for a queue. It is ready when a get would bring an item, or say that the queue is
 * shut down; but with other processes at the same queue one of them may be faster, so go on
 * with a get that does not wait. */
static inline forkq_wait_entry_t forkq_wait_on_queue(forkq_queue_t *queue) {
  forkq_wait_entry_t entry;
  entry.kind = FORKQ_WAIT_QUEUE;
  entry.on.queue = queue;
  entry.ready = 0;
  return entry;
}

/* Waits until at least one of the entries is ready, at most `timeout_ms`. Returns how
 * many are, and sets `ready` of every entry to 1 or 0: read in the order of the array
 * they are what Python's wait returns. 0: the time is over. A descriptor or connection is
 * ready when a read would not wait: bytes are there, or the end of the file, or an error
 * that a read would report. Of a message that may be the first bytes: a receive waits for
 * the rest.
 *
 * Without entries it sleeps for the timeout; for ever, if that is -1.
 *
 * Nothing is read, and nothing kept. The same entries may be used again and again; to
 * leave one out, move the last one to its place. Signals do not end the wait. A queue may
 * prolong it by some tenths of a second, also with `timeout_ms` 0, where another process is
 * stopped in the middle of its own put or get.
 *
 * Any number of threads may wait; for a connection it counts as a receive
 * (forkq/connection.h). A thread that is cancelled (pthread_cancel(3)) while it waits ends
 * at once, and nothing of the wait is left. Up to 32 entries it does not allocate.
 *
 * Errors, each with `ready` of every connection and descriptor as it was; that of a queue
 * may have changed:
 * FORKQ_ENULL (entries, a connection or a queue), FORKQ_ETIMEOUT, FORKQ_ECLOSED (a
 * connection or queue is, or is being closed), FORKQ_EPACKING, FORKQ_ETWICE (a queue or
 * descriptor is listed twice, on its own or as a connection's), -EBADF (a descriptor is not
 * open), -EINVAL (an entry of no kind, or more entries than the process may have
 * descriptors; a queue takes two), -ENOMEM.
 *
 * Python: multiprocessing.connection.wait(object_list, timeout), where None is our -1 and
 * a negative timeout our 0; a descriptor that is not open counts as ready there. There a
 * queue has no public descriptor, and one that is ready may still make a get wait. */
FORKQ_API FORKQ_MUST_CHECK int forkq_wait(forkq_wait_entry_t *entries, size_t count,
                                          int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
