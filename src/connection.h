/* The insides of a connection, for the files that make it up: connection.c its life,
 * connection_send.c, connection_recv.c and connection_fd.c what it does. */
#ifndef FORKQ_CONNECTION_PRIVATE_H
#define FORKQ_CONNECTION_PRIVATE_H

#include <forkq/connection.h>
#include <stdbool.h>
#include <stddef.h>

/* The message that is being received. Between calls it is begun only after a receive that
 * found no memory: the next one goes on with it. */
struct forkq__incoming {
  bool begun;      /* its header was read */
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

/* Sending touches `out`, `send_error` and `packing`, receiving `in` and `readable`;
 * either may go on in a thread of its own. */
struct forkq_connection {
  int fd; /* -1: closed */
  bool socket;
  bool readable;
  bool writable;
  bool packing;   /* in the caller's packing function */
  int send_error; /* of a send that left part of a message in the stream, or 0 */
  struct forkq__outgoing out;
  struct forkq__incoming in;
};

/* 0, or why the connection cannot be used to receive or to send just now. */
int forkq__connection_check_receive(const forkq_connection_t *connection);
int forkq__connection_check_send(const forkq_connection_t *connection);

/* Waits for POLLIN or POLLOUT, or for the end of either, as long as it takes. Not
 * negative, or a negative errno. */
int forkq__connection_wait(const forkq_connection_t *connection, short events);

#endif
