/* Receiving a message: its header, then its bytes, into an item, a buffer or nothing.
 *
 * A receive that finds no memory, or must not wait, leaves the part of a message that has come in
 * `in`, and the next receive continues with it. If the stream ends inside a message, the part is
 * dropped. After any other error inside a message, the start of the next message is unknown, and
 * the connection stops receiving. */
#include "base/heap.h"
#include "base/os.h"
#include "codec/item.h"
#include "codec/serializer.h"
#include "connection/connection_frame.h"
#include "connection/connection_impl.h"

#include <errno.h>
#include <string.h>

/* Memory for a message before its first byte has come. From then on the memory has room for as much
 * again as has come. So a length that a peer only announces costs nothing. */
#define FIRST_ROOM (16 * 1024)

/* Bytes that the caller does not want are read in pieces of this size. */
#define DROPPED_AT_ONCE 4096

static size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

/* Whether a read would not wait. The descriptor may be blocking, and its flags stay as they are,
 * because other processes may have it too. */
static bool ready(const forkq_connection_t *connection) {
  struct pollfd in = { .fd = connection->fd, .events = POLLIN };
  return forkq__os_poll(&in, 1, FORKQ__NOWAIT) != 0;
}

/* One read that does not wait. -EAGAIN: nothing has come, or the budget is used up. */
static ssize_t read_soon(forkq_connection_t *connection, void *data, size_t size) {
  size_t *budget = connection->in.budget;
  if (*budget == 0 || !ready(connection))
    return -EAGAIN;
  ssize_t n = forkq__os_read(connection->fd, data, smaller(size, *budget));
  if (n > 0)
    *budget -= (size_t)n;
  return n;
}

/* The first read of a message. The thread may be cancelled in it, so it waits in poll, not in a
 * read, whose bytes would be lost with the thread. */
static ssize_t read_first(forkq_connection_t *connection, void *data, size_t size) {
  ssize_t n = -EAGAIN;
  if (connection->socket)
    n = forkq__os_socket_read_soon(connection->fd, data, size);
  else if (connection->pipe)
    n = forkq__os_pipe_read_soon(connection->fd, data, size);
  while (n == -EAGAIN) {
    n = forkq__connection_wait_cancellably(connection, POLLIN);
    if (n >= 0)
      n = forkq__os_read(connection->fd, data, size);
  }
  return n;
}

/* One read of at least one byte. 0: the end of the stream. */
static ssize_t read_some(forkq_connection_t *connection, void *data, size_t size) {
  if (connection->in.budget != NULL)
    return read_soon(connection, data, size);
  if (!forkq__connection_in_message(connection) && forkq__os_has_threads())
    return read_first(connection, data, size);
  for (;;) {
    ssize_t n = forkq__os_read(connection->fd, data, size);
    if (n != -EAGAIN)
      return n;
    n = forkq__connection_wait(connection, POLLIN);
    if (n < 0)
      return n;
  }
}

/* Reads until *received is `size`: 0, FORKQ_EEOF, or the error of a read. */
static int read_until(forkq_connection_t *connection, void *data, size_t size,
                      size_t *received) {
  while (*received < size) {
    ssize_t n = read_some(connection, (char *)data + *received, size - *received);
    if (n <= 0)
      return n < 0 ? (int)n : FORKQ_EEOF;
    *received += (size_t)n;
  }
  return 0;
}

static void end_message(struct forkq__incoming *in) {
  char *memory = in->memory;
  *in = (struct forkq__incoming){ .begun = false };
  forkq__free(memory); /* last: a child that is forked meanwhile must not free it */
}

/* The start of the next message is unknown, so the connection stops receiving. */
static int lose_place(forkq_connection_t *connection, int error) {
  end_message(&connection->in);
  if (connection->writable)
    connection->readable = false;
  else
    (void)forkq_connection_close(connection);
  return error;
}

/* A read failed in the middle of a message. -EAGAIN: no more of it has come yet. */
static int fail_inside(forkq_connection_t *connection, int error) {
  if (error == -EAGAIN)
    return error;
  if (error != FORKQ_EEOF)
    return lose_place(connection, error);
  end_message(&connection->in);
  return FORKQ_ETORN;
}

/* Reads the header of the next message, unless a message has begun already. */
static int begin_message(forkq_connection_t *connection) {
  struct forkq__incoming *in = &connection->in;
  if (in->budget == NULL)
    forkq__connection_cancellation_point();
  if (in->begun)
    return 0;
  int r = read_until(connection, in->header, FORKQ__FRAME_SHORT, &in->header_have);
  if (r < 0)
    return in->header_have == 0 ? r : fail_inside(connection, r);
  int length = forkq__frame_length(in->header);
  if (length < 0)
    return lose_place(connection, length);
  if (length > FORKQ__FRAME_SHORT) {
    r = read_until(connection, in->header, (size_t)length, &in->header_have);
    if (r < 0)
      return fail_inside(connection, r);
  }
  uint64_t size = forkq__frame_size(in->header, length);
  if (size > PTRDIFF_MAX)
    return lose_place(connection, FORKQ_ETOOBIG);
  in->size = (size_t)size;
  in->begun = true;
  return 0;
}

/* lend_memory gives the item the memory with the bytes that have come. take_memory takes it
 * back. */
static void lend_memory(struct forkq__incoming *in, forkq_item_t *item) {
  if (in->memory == NULL)
    return;
  char *memory = in->memory;
  in->memory = NULL; /* as in end_message */
  forkq__free(item->memory_);
  item->memory_ = memory;
  item->capacity_ = in->capacity;
}

static void take_memory(struct forkq__incoming *in, forkq_item_t *item) {
  if (in->received == 0)
    return;
  in->memory = item->memory_;
  in->capacity = item->capacity_;
  item->memory_ = NULL;
  item->capacity_ = 0;
}

/* Receives the rest of a begun message into the item, whose memory grows to hold all of it. */
static int receive_into_item(forkq_connection_t *connection, forkq_item_t *item) {
  struct forkq__incoming *in = &connection->in;
  lend_memory(in, item);
  while (in->received < in->size) {
    size_t more = in->received > 0 ? in->received : FIRST_ROOM;
    int r = forkq__item_reserve(item, smaller(in->size, in->received + more));
    if (r < 0) {
      take_memory(in, item);
      return r;
    }
    r = read_until(connection, item->memory_, smaller(in->size, item->capacity_),
                   &in->received);
    if (r == -EAGAIN)
      take_memory(in, item);
    if (r < 0)
      return fail_inside(connection, r);
  }
  forkq__item_finish(item, in->received);
  if (item->data == NULL) /* an empty message in an item that never had memory */
    item->data = "";
  end_message(in);
  return 0;
}

/* Receives the rest of a begun message into the caller's buffer, which has room for it. */
static int receive_into_buffer(forkq_connection_t *connection, char *buffer,
                               size_t *ret_size) {
  struct forkq__incoming *in = &connection->in;
  /* The caller may pass no buffer only for a message of 0 bytes: */
  if (in->received > 0)
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
    memcpy(buffer, in->memory, in->received);
  int r = read_until(connection, buffer, in->size, &in->received);
  if (r < 0)
    return fail_inside(connection, r);
  *ret_size = in->received;
  end_message(in);
  return 0;
}

/* Receives the rest of a begun message and drops it. */
static int receive_into_nothing(forkq_connection_t *connection) {
  struct forkq__incoming *in = &connection->in;
  char dropped[DROPPED_AT_ONCE];
  while (in->received < in->size) {
    size_t n = 0;
    size_t size = smaller(in->size - in->received, sizeof dropped);
    int r = read_until(connection, dropped, size, &n);
    if (r < 0)
      return fail_inside(connection, r);
    in->received += n;
  }
  end_message(in);
  return 0;
}

int forkq_connection_recv_bytes(forkq_connection_t *connection, forkq_item_t *item,
                                size_t maxlength) {
  if (item != NULL)
    forkq__item_clear(item);
  if (connection == NULL || item == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_receive(connection);
  if (r < 0)
    return r;
  r = begin_message(connection);
  if (r < 0)
    return r;
  if (connection->in.size > maxlength)
    return lose_place(connection, FORKQ_ETOOBIG);
  return receive_into_item(connection, item);
}

int forkq__connection_recv_soon(forkq_connection_t *connection, forkq_item_t *item,
                                size_t maxlength, size_t *budget) {
  connection->in.budget = budget;
  int r = forkq_connection_recv_bytes(connection, item, maxlength);
  connection->in.budget = NULL;
  return r;
}

int forkq__connection_unpack(forkq_item_t *item) {
  int r = forkq__item_unpack(item);
  if (r != FORKQ_EBADFRAME)
    return r;
  /* The frame is valid, but the object is not. */
  r = forkq__scan(item->data, item->size, NULL);
  return r < 0 ? r : FORKQ_EBADOBJECT;
}

int forkq_connection_recv(forkq_connection_t *connection, forkq_item_t *item) {
  int r = forkq_connection_recv_bytes(connection, item, FORKQ_MESSAGE_MAX);
  return r < 0 ? r : forkq__connection_unpack(item);
}

int forkq_connection_recv_bytes_into(forkq_connection_t *connection, void *buffer,
                                     size_t length, size_t offset, size_t *ret_size,
                                     forkq_item_t *item) {
  if (item != NULL)
    forkq__item_clear(item);
  if (connection == NULL || ret_size == NULL || (buffer == NULL && length > 0))
    return FORKQ_ENULL;
  int r = forkq__connection_check_receive(connection);
  if (r < 0)
    return r;
  if (offset > length)
    return FORKQ_ERANGE;
  r = begin_message(connection);
  if (r < 0)
    return r;
  if (connection->in.size == 0 || connection->in.size <= length - offset)
    return receive_into_buffer(connection,
                               buffer == NULL ? NULL : (char *)buffer + offset, ret_size);
  r = item != NULL ? receive_into_item(connection, item)
                   : receive_into_nothing(connection);
  return r < 0 ? r : FORKQ_ETOOSHORT;
}
