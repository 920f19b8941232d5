/* The private parts of a connection, for the files that implement it. connection.c opens, closes
 * and polls a connection. connection_send.c, connection_recv.c and connection_fd.c send and
 * receive. */
#ifndef FORKQ_CONNECTION_IMPL_H
#define FORKQ_CONNECTION_IMPL_H

#include "connection/connection_frame.h"

#include <forkq/connection.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The message that is being received. A part of it stays here between calls only after a receive
 * that found no memory, or that did not wait. The next receive continues with it. */
struct forkq__incoming {
  size_t *budget;     /* not NULL: never wait, and read at most so many bytes */
  size_t header_have; /* bytes of `header` that have come */
  unsigned char header[FORKQ__FRAME_LONG];
  bool begun;      /* all of its header was read */
  size_t size;     /* of the message, from its header */
  size_t received; /* bytes of the message that have come */
  char *memory;    /* holds them between calls, `capacity` bytes; NULL: none kept */
  size_t capacity;
};

/* The object that is being packed, after room for a header. */
struct forkq__outgoing {
  char *memory;
  size_t size;
  size_t capacity;
  int error; /* why the last write of the packer failed, or 0 */
};

/* A running call of the program's packing function: the stack frame that made it, or NULL, and the
 * thread of that frame. A longjmp(3) out of the function leaves the frame set. */
struct forkq__packing {
  const void *frame;
  pthread_t thread;
};

/* Sending uses `out`, `send_error` and `packing`. Receiving uses `in` and `readable`. One thread
 * may send while another one receives. */
struct forkq_connection {
  int fd; /* -1: closed */
  bool socket;
  bool pipe;
  bool readable;
  bool writable;
  int send_error; /* of a send that left a part of a message in the stream, or 0 */
  struct forkq__packing packing;
  struct forkq__outgoing out;
  struct forkq__incoming in;
};

/* Whether the connection can receive, or send, now. `frame` is the stack frame of the public
 * function that calls check_send. check_receive returns 0, FORKQ_ECLOSED or FORKQ_EWRITEONLY.
 * check_send returns 0, FORKQ_ECLOSED, FORKQ_EREADONLY, FORKQ_EPACKING, or `send_error`. */
int forkq__connection_check_receive(const forkq_connection_t *connection);
int forkq__connection_check_send(forkq_connection_t *connection, const void *frame);

/* Whether the public function with this frame was called from inside the packing function. */
bool forkq__connection_packing(forkq_connection_t *connection, const void *frame);

/* Receives the bytes of a message that have come, but at most *budget, and subtracts their number
 * from *budget. Never waits. Returns the results of forkq_connection_recv_bytes, and -EAGAIN if a
 * part of the message is missing. */
int forkq__connection_recv_soon(forkq_connection_t *connection, forkq_item_t *item,
                                size_t maxlength, size_t *budget);

/* Unpacks a received item, whose bytes must be one object: 0, FORKQ_EBADOBJECT, FORKQ_ETOODEEP or
 * -ENOMEM. */
int forkq__connection_unpack(forkq_item_t *item);

/* Whether a part of a message has come. */
static inline bool forkq__connection_in_message(const forkq_connection_t *connection) {
  return connection->in.begun || connection->in.header_have > 0;
}

/* Waits without limit until POLLIN or POLLOUT, or the end of the stream, is reported. Returns a
 * number that is not negative, or a negative errno. wait_cancellably is a cancellation point
 * (pthread_cancel(3)). */
int forkq__connection_wait(const forkq_connection_t *connection, short events);
int forkq__connection_wait_cancellably(const forkq_connection_t *connection,
                                       short events);

/* Ends the thread here if it was cancelled. A call uses this at its beginning. Otherwise a
 * cancelled thread ends only while it waits for the first byte of a message, or for room for that
 * byte: never with a part of a message in the stream. */
void forkq__connection_cancellation_point(void);

#endif
