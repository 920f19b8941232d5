/* The insides of a connection, for the files that make it up: connection.c its life,
 * connection_send.c, connection_recv.c and connection_fd.c what it does. */
#ifndef FORKQ_CONNECTION_IMPL_H
#define FORKQ_CONNECTION_IMPL_H

#include "connection/connection_frame.h"

#include <forkq/connection.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The message that is being received. Between calls there is a part of it only after a receive
 * that found no memory or would not wait: the next one goes on with it. */
struct forkq__incoming {
  size_t *budget;     /* it is not waited for, and no more bytes than these are read */
  size_t header_have; /* bytes of `header` */
  unsigned char header[FORKQ__FRAME_LONG];
  bool begun;      /* its header was read, whole */
  size_t size;     /* of the message, by its header */
  size_t received; /* bytes of it */
  char *memory;    /* where they are between calls, `capacity` bytes; NULL: none kept */
  size_t capacity;
};

/* The object that is being packed, behind room for a header. */
struct forkq__outgoing {
  char *memory;
  size_t size;
  size_t capacity;
  int error; /* why the last write of the packer failed, or 0 */
};

/* A call of the caller's packing function: the stack frame that makes it, or NULL, and whose that
 * is. A longjmp(3) out of the function leaves it here. */
struct forkq__packing {
  const void *frame;
  pthread_t thread;
};

/* Sending touches `out`, `send_error` and `packing`, receiving `in` and `readable`;
 * either may go on in a thread of its own. */
struct forkq_connection {
  int fd; /* -1: closed */
  bool socket;
  bool pipe;
  bool readable;
  bool writable;
  int send_error; /* of a send that left part of a message in the stream, or 0 */
  struct forkq__packing packing;
  struct forkq__outgoing out;
  struct forkq__incoming in;
};

/* 0, or why the connection cannot be used to receive or to send just now. `frame`: of the public
 * function that asks. */
int forkq__connection_check_receive(const forkq_connection_t *connection);
int forkq__connection_check_send(forkq_connection_t *connection, const void *frame);

/* Whether that function was called from inside the packing function. */
bool forkq__connection_packing(forkq_connection_t *connection, const void *frame);

/* Receives a message's bytes as far as they are there, but at most *budget, from which they are
 * taken: -EAGAIN if that is not all of it. */
int forkq__connection_recv_soon(forkq_connection_t *connection, forkq_item_t *item,
                                size_t maxlength, size_t *budget);

/* What a received item holds is to be one object: forkq_connection_recv's errors. */
int forkq__connection_unpack(forkq_item_t *item);

/* Whether a part of a message was received. */
static inline bool forkq__connection_in_message(const forkq_connection_t *connection) {
  return connection->in.begun || connection->in.header_have > 0;
}

/* Waits for POLLIN or POLLOUT, or for the end of either, as long as it takes. Not
 * negative, or a negative errno. cancellably: the thread may end in it (pthread_cancel(3)). */
int forkq__connection_wait(const forkq_connection_t *connection, short events);
int forkq__connection_wait_cancellably(const forkq_connection_t *connection,
                                       short events);

/* Ends the thread here if it was cancelled. A call does so at its beginning, and while it waits for
 * the first byte of a message, or for room for it: never with a part of one in the stream. */
void forkq__connection_cancellation_point(void);

#endif
