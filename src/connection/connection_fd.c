/* Sending and receiving a descriptor over a connection, as CPython does: one byte, with the
 * descriptor beside it. */
#include "base/os.h"
#include "connection/connection_impl.h"

#include <errno.h>

/* The byte that goes with one descriptor: by CPython's convention the number of descriptors. */
#define ONE_FD 1

int forkq_connection_send_fd(forkq_connection_t *connection, int fd) {
  if (connection == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection, __builtin_frame_address(0));
  if (r < 0)
    return r;
  forkq__connection_cancellation_point();
  /* The thread may be cancelled while it waits, so it waits in poll, not in the send. */
  bool wait = forkq__os_has_threads() && forkq__os_socket_full(connection->fd);
  ssize_t n = wait ? -EAGAIN : forkq__os_fd_send(connection->fd, ONE_FD, fd);
  while (n == -EAGAIN) {
    n = forkq__connection_wait_cancellably(connection, POLLOUT);
    if (n >= 0)
      n = forkq__os_fd_send(connection->fd, ONE_FD, fd);
  }
  return n < 0 ? (int)n : 0;
}

/* Judges a received byte and the descriptor beside it (-1: none). `lost`: another one came, or did
 * not fit in the process's table. Returns 0, -EMFILE, FORKQ_ENOFD or FORKQ_EBADFRAME. */
static int judge(unsigned char byte, int fd, bool lost) {
  if (fd < 0)
    return lost ? -EMFILE : FORKQ_ENOFD;
  return lost || byte != ONE_FD ? FORKQ_EBADFRAME : 0;
}

int forkq_connection_recv_fd(forkq_connection_t *connection, int *ret_fd) {
  if (connection == NULL || ret_fd == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_receive(connection);
  if (r < 0)
    return r;
  if (forkq__connection_in_message(connection))
    return -EBUSY;
  forkq__connection_cancellation_point();
  unsigned char byte = 0;
  int fd = -1;
  bool lost = false;
  bool wait = forkq__os_has_threads() && connection->socket; /* as in send_fd */
  ssize_t n = wait ? -EAGAIN : forkq__os_fd_receive(connection->fd, &byte, &fd, &lost);
  while (n == -EAGAIN) {
    n = forkq__connection_wait_cancellably(connection, POLLIN);
    if (n >= 0)
      n = forkq__os_fd_receive(connection->fd, &byte, &fd, &lost);
  }
  if (n <= 0)
    return n < 0 ? (int)n : FORKQ_EEOF;
  r = judge(byte, fd, lost);
  if (r == 0)
    *ret_fd = fd;
  else if (fd >= 0)
    forkq__os_close(fd);
  return r;
}
