#include "connection.h"
#include "os.h"

#include <errno.h>

/* What goes with one descriptor, by CPython's convention: their number. */
#define ONE_FD 1

int forkq_connection_send_fd(forkq_connection_t *connection, int fd) {
  if (connection == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection);
  if (r < 0)
    return r;
  for (;;) {
    ssize_t n = forkq__os_fd_send(connection->fd, ONE_FD, fd);
    if (n != -EAGAIN)
      return n < 0 ? (int)n : 0;
    r = forkq__connection_wait(connection, POLLOUT);
    if (r < 0)
      return r;
  }
}

/* What a byte that was received, and what came beside it, amount to. */
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
  unsigned char byte = 0;
  int fd = -1;
  bool lost = false;
  ssize_t n;
  while ((n = forkq__os_fd_receive(connection->fd, &byte, &fd, &lost)) == -EAGAIN) {
    r = forkq__connection_wait(connection, POLLIN);
    if (r < 0)
      return r;
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
