#include "connection.h"
#include "connection_frame.h"
#include "heap.h"
#include "os.h"
#include "serializer.h"

#include <errno.h>
#include <string.h>

/* The packed object begins here, so that its header can be put right before it. */
#define HEADER_ROOM FORKQ__FRAME_LONG

/* More memory than this is given back after a send. */
#define KEPT_CAPACITY (64 * 1024)

/* Memory for packing begins with this and is doubled. */
#define FIRST_CAPACITY 256

/* Passes over what was written of the parts. */
static void advance(struct iovec *parts, int count, size_t written) {
  for (int i = 0; i < count; i++) {
    size_t n = written < parts[i].iov_len ? written : parts[i].iov_len;
    parts[i].iov_base = (char *)parts[i].iov_base + n;
    parts[i].iov_len -= n;
    written -= n;
  }
}

/* One write, once there is room for at least some of it. */
static ssize_t write_some(forkq_connection_t *connection, const struct iovec *parts,
                          int count) {
  for (;;) {
    ssize_t n = connection->socket ? forkq__os_socket_write(connection->fd, parts, count)
                                   : forkq__os_stream_write(connection->fd, parts, count);
    if (n != -EAGAIN)
      return n;
    n = forkq__connection_wait(connection, POLLOUT);
    if (n < 0)
      return n;
  }
}

/* Writes all of the parts. Header and message go together, so that a small message is
 * never seen in halves, and takes one system call. */
static int write_parts(forkq_connection_t *connection, struct iovec *parts, int count) {
  size_t left = 0;
  for (int i = 0; i < count; i++)
    left += parts[i].iov_len;
  const size_t all = left;
  while (left > 0) {
    ssize_t n = write_some(connection, parts, count);
    if (n < 0) {
      if (left < all)
        connection->send_error = (int)n;
      return (int)n;
    }
    advance(parts, count, (size_t)n);
    left -= (size_t)n;
  }
  return 0;
}

static int write_message(forkq_connection_t *connection, const void *data, size_t size) {
  unsigned char header[FORKQ__FRAME_LONG];
  struct iovec parts[2] = {
    { .iov_base = header, .iov_len = forkq__frame_write(header, size) },
    { .iov_base = (void *)(uintptr_t)data, .iov_len = size },
  };
  return write_parts(connection, parts, size > 0 ? 2 : 1);
}

/* Room for `size` more bytes of a packed object. */
static int reserve(struct forkq__outgoing *out, size_t size) {
  if (size > HEADER_ROOM + (size_t)FORKQ_MESSAGE_MAX - out->size)
    return FORKQ_ETOOBIG;
  if (size <= out->capacity - out->size)
    return 0;
  size_t capacity = out->capacity > 0 ? 2 * out->capacity : FIRST_CAPACITY;
  if (capacity < out->size + size)
    capacity = out->size + size;
  char *memory = forkq__realloc(out->memory, capacity);
  if (memory == NULL)
    return -ENOMEM;
  out->memory = memory;
  out->capacity = capacity;
  return 0;
}

static int packer_write(void *data, const char *bytes, size_t size) {
  struct forkq__outgoing *out = data;
  if (out->error == 0)
    out->error = reserve(out, size);
  if (out->error != 0)
    return -1;
  memcpy(out->memory + out->size, bytes, size);
  out->size += size;
  return 0;
}

static int begin_object(struct forkq__outgoing *out, msgpack_packer *packer) {
  out->size = 0;
  out->error = 0;
  int r = reserve(out, HEADER_ROOM);
  if (r < 0)
    return r;
  out->size = HEADER_ROOM;
  msgpack_packer_init(packer, out, packer_write);
  return 0;
}

/* Sends what was packed, unless packing failed. */
static int end_object(forkq_connection_t *connection, int error) {
  struct forkq__outgoing *out = &connection->out;
  if (error == 0) {
    unsigned char header[FORKQ__FRAME_LONG];
    size_t header_size = forkq__frame_write(header, out->size - HEADER_ROOM);
    char *begin = out->memory + HEADER_ROOM - header_size;
    memcpy(begin, header, header_size);
    struct iovec part = { begin, out->size - HEADER_ROOM + header_size };
    error = write_parts(connection, &part, 1);
  }
  if (out->capacity > KEPT_CAPACITY) {
    forkq__free(out->memory);
    out->memory = NULL;
    out->capacity = 0;
  }
  return error;
}

int forkq_connection_send(forkq_connection_t *connection, const msgpack_object *object) {
  if (connection == NULL || object == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection);
  if (r < 0)
    return r;
  msgpack_packer packer;
  r = begin_object(&connection->out, &packer);
  if (r < 0)
    return r;
  r = forkq__pack(&packer, object);
  if (r < 0 && connection->out.error != 0)
    r = connection->out.error;
  return end_object(connection, r);
}

int forkq_connection_send_with(forkq_connection_t *connection, forkq_pack_fn pack,
                               void *arg) {
  if (connection == NULL || pack == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection);
  if (r < 0)
    return r;
  struct forkq__outgoing *out = &connection->out;
  msgpack_packer packer;
  r = begin_object(out, &packer);
  if (r < 0)
    return r;
  connection->packing = true;
  bool failed = pack(&packer, arg) != 0;
  connection->packing = false;
  if (out->error != 0)
    r = out->error;
  else if (failed)
    r = FORKQ_EPACK;
  else
    r = forkq__scan(out->memory + HEADER_ROOM, out->size - HEADER_ROOM, NULL);
  return end_object(connection, r);
}

int forkq_connection_send_packed(forkq_connection_t *connection, const void *data,
                                 size_t size) {
  if (connection == NULL || data == NULL)
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection);
  if (r < 0)
    return r;
  if (size > FORKQ_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  r = forkq__scan(data, size, NULL);
  return r < 0 ? r : write_message(connection, data, size);
}

int forkq_connection_send_bytes(forkq_connection_t *connection, const void *data,
                                size_t length, size_t offset, size_t size) {
  if (connection == NULL || (data == NULL && length > 0))
    return FORKQ_ENULL;
  int r = forkq__connection_check_send(connection);
  if (r < 0)
    return r;
  if (offset > length)
    return FORKQ_ERANGE;
  if (size == FORKQ_ALL)
    size = length - offset;
  if (size > length - offset)
    return FORKQ_ERANGE;
  if (size == 0)
    return write_message(connection, NULL, 0);
  return write_message(connection, (const char *)data + offset, size);
}
