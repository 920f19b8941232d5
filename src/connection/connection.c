/* The life of a connection: opening and closing it, its state, and waiting until its descriptor is
 * ready. */
#include "connection/connection_impl.h"

#include "base/heap.h"
#include "base/os.h"

#include <errno.h>

int forkq_connection_open(forkq_connection_t **ret_connection, int fd, int readable,
                          int writable) {
  if (ret_connection == NULL)
    return FORKQ_ENULL;
  if (!readable && !writable)
    return -EINVAL;
  int socket = forkq__os_is_socket(fd);
  int pipe = socket < 0 ? socket : forkq__os_is_pipe(fd);
  if (pipe < 0)
    return pipe;
  forkq_connection_t *connection = forkq__calloc(sizeof *connection);
  if (connection == NULL)
    return -ENOMEM;
  connection->fd = fd;
  connection->socket = socket;
  connection->pipe = pipe;
  connection->readable = readable != 0;
  connection->writable = writable != 0;
  *ret_connection = connection;
  return 0;
}

int forkq_pipe(forkq_connection_t **ret_a, forkq_connection_t **ret_b, int duplex) {
  if (ret_a == NULL || ret_b == NULL)
    return FORKQ_ENULL;
  int fds[2];
  int r = duplex ? forkq__os_socket_pair(fds) : forkq__os_pipe(fds);
  if (r < 0)
    return r;
  forkq_connection_t *a, *b;
  r = forkq_connection_open(&a, fds[0], 1, duplex);
  if (r < 0)
    goto err_close;
  r = forkq_connection_open(&b, fds[1], duplex, 1);
  if (r < 0)
    goto err_free;
  *ret_a = a;
  *ret_b = b;
  return 0;

err_free:
  forkq__free(a);
err_close:
  forkq__os_close(fds[0]);
  forkq__os_close(fds[1]);
  return r;
}

int forkq_connection_close(forkq_connection_t *connection) {
  if (connection == NULL)
    return FORKQ_ENULL;
  if (forkq__connection_packing(connection, __builtin_frame_address(0)))
    return FORKQ_EPACKING;
  if (connection->fd < 0)
    return 0;
  int fd = connection->fd;
  connection->fd = -1;
  return forkq__os_close(fd);
}

void forkq_connection_destroy(forkq_connection_t *connection) {
  if (connection == NULL)
    return;
  if (connection->fd >= 0)
    forkq__os_close(connection->fd);
  forkq__free(connection->out.memory);
  forkq__free(connection->in.memory);
  forkq__free(connection);
}

int forkq_connection_fileno(const forkq_connection_t *connection) {
  if (connection == NULL)
    return FORKQ_ENULL;
  return connection->fd >= 0 ? connection->fd : FORKQ_ECLOSED;
}

int forkq_connection_readable(const forkq_connection_t *connection) {
  return connection != NULL ? connection->readable : FORKQ_ENULL;
}

int forkq_connection_writable(const forkq_connection_t *connection) {
  return connection != NULL ? connection->writable : FORKQ_ENULL;
}

int forkq_connection_closed(const forkq_connection_t *connection) {
  return connection != NULL ? connection->fd < 0 : FORKQ_ENULL;
}

int forkq__connection_check_receive(const forkq_connection_t *connection) {
  if (connection->fd < 0)
    return FORKQ_ECLOSED;
  return connection->readable ? 0 : FORKQ_EWRITEONLY;
}

/* Whether a longjmp(3) has left the packing function. Stacks grow downwards: what a frame calls has
 * lower frames. */
static bool was_left(const struct forkq__packing *packing, const void *frame) {
  const void *const places[] = { packing->frame, frame };
  return pthread_equal(packing->thread, pthread_self()) &&
         (uintptr_t)frame >= (uintptr_t)packing->frame && forkq__os_on_stack(places, 2);
}

bool forkq__connection_packing(forkq_connection_t *connection, const void *frame) {
  struct forkq__packing *packing = &connection->packing;
  if (packing->frame != NULL && was_left(packing, frame))
    packing->frame = NULL;
  return packing->frame != NULL;
}

int forkq__connection_check_send(forkq_connection_t *connection, const void *frame) {
  if (connection->fd < 0)
    return FORKQ_ECLOSED;
  if (!connection->writable)
    return FORKQ_EREADONLY;
  if (forkq__connection_packing(connection, frame))
    return FORKQ_EPACKING;
  return connection->send_error;
}

void forkq__connection_cancellation_point(void) {
  forkq__os_cancellation_point(NULL, NULL);
}

static int outcome(const struct pollfd *one, int r) {
  return r > 0 && (one->revents & POLLNVAL) ? -EBADF : r;
}

int forkq__connection_wait(const forkq_connection_t *connection, short events) {
  struct pollfd one = { .fd = connection->fd, .events = events };
  return outcome(&one, forkq__os_poll(&one, 1, FORKQ__FOREVER));
}

static int poll_cancellably(const forkq_connection_t *connection, short events,
                            int64_t deadline) {
  struct pollfd one = { .fd = connection->fd, .events = events };
  return outcome(&one, forkq__os_poll_cancellable(&one, 1, deadline, NULL, NULL));
}

int forkq__connection_wait_cancellably(const forkq_connection_t *connection,
                                       short events) {
  return poll_cancellably(connection, events, FORKQ__FOREVER);
}

int forkq_connection_poll(forkq_connection_t *connection, int timeout_ms) {
  if (connection == NULL)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  int r = forkq__connection_check_receive(connection);
  if (r < 0)
    return r;
  return poll_cancellably(connection, POLLIN, forkq__os_deadline(timeout_ms));
}
