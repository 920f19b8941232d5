/* Sending a message: its header and its bytes, in one write where that is possible.
 *
 * A cancelled thread ends before the first byte of a message is written, or after the last. A send
 * that fails after it has written a part of a message sets `send_error`: no later send may follow
 * in the stream. */
#include "base/heap.h"
#include "base/os.h"
#include "codec/item.h"
#include "codec/serializer.h"
#include "connection/connection_frame.h"
#include "connection/connection_impl.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* The packed object begins at this offset, so that its header can be written directly before it. */
#define HEADER_ROOM FORKQ__FRAME_LONG

/* A send frees its memory at the end if it is larger than this. */
#define KEPT_CAPACITY (64 * 1024)

/* Memory for packing begins with this size, and is doubled. */
#define FIRST_CAPACITY 256

/* The header of a message larger than this goes into a pipe in a separate write, as in CPython.
 * Then the pages of the pipe, and the reads at its other end, begin where the message begins. When
 * they were four bytes off, the copies of 1 MiB took half as long again. */
#define TOGETHER_MAX (16 * 1024)

/* A message up to this size is copied after its header, because the kernel takes longer for two
 * pieces. */
#define COPIED_MAX 512

/* Skips the bytes of the parts that were written. */
static void advance(struct iovec *parts, int count, size_t written) {
  for (int i = 0; i < count; i++) {
    size_t n = written < parts[i].iov_len ? written : parts[i].iov_len;
    parts[i].iov_base = (char *)parts[i].iov_base + n;
    parts[i].iov_len -= n;
    written -= n;
  }
}

static ssize_t write_now(forkq_connection_t *connection, const struct iovec *parts,
                         int count) {
  return connection->socket ? forkq__os_socket_write(connection->fd, parts, count)
                            : forkq__os_stream_write(connection->fd, parts, count);
}

/* One write of at least one byte. Waits for room. */
static ssize_t write_some(forkq_connection_t *connection, const struct iovec *parts,
                          int count) {
  for (;;) {
    ssize_t n = write_now(connection, parts, count);
    if (n != -EAGAIN)
      return n;
    n = forkq__connection_wait(connection, POLLOUT);
    if (n < 0)
      return n;
  }
}

/* The part of a message that a write sends. */
enum part { WHOLE, BEGINNING, REST };

/* The first write of a message. The thread may be cancelled in it, so it waits for room in poll, or
 * in the write of a message that a pipe takes completely or not at all. */
static ssize_t write_first(forkq_connection_t *connection, const struct iovec *parts,
                           int count, bool at_once) {
  ssize_t n = -EAGAIN;
  if (connection->socket)
    n = forkq__os_socket_write_soon(connection->fd, parts, count);
  else if (connection->pipe && at_once)
    n = forkq__os_pipe_write_cancellable(connection->fd, parts, count);
  while (n == -EAGAIN) {
    n = forkq__connection_wait_cancellably(connection, POLLOUT);
    if (n >= 0)
      n = write_now(connection, parts, count);
  }
  return n;
}

static int write_parts(forkq_connection_t *connection, struct iovec *parts, int count,
                       enum part part) {
  size_t left = 0;
  for (int i = 0; i < count; i++)
    left += parts[i].iov_len;
  bool at_once = part == WHOLE && left <= PIPE_BUF;
  while (left > 0) {
    ssize_t n = part == REST || !forkq__os_has_threads()
                    ? write_some(connection, parts, count)
                    : write_first(connection, parts, count, at_once);
    if (n < 0) {
      if (part == REST)
        connection->send_error = (int)n;
      return (int)n;
    }
    part = REST;
    advance(parts, count, (size_t)n);
    left -= (size_t)n;
  }
  return 0;
}

/* Writes a header and its message in one piece: one system call, so that no reader sees half of a
 * small message. */
static int write_whole(forkq_connection_t *connection, void *frame, size_t size) {
  struct iovec piece = { frame, size };
  return write_parts(connection, &piece, 1, WHOLE);
}

/* Writes a header and its message in two pieces. */
static int write_two(forkq_connection_t *connection, void *header, size_t header_size,
                     const void *data, size_t size) {
  struct iovec parts[2] = { { header, header_size }, { (void *)(uintptr_t)data, size } };
  if (connection->socket || size <= TOGETHER_MAX)
    return write_parts(connection, parts, 2, WHOLE);
  int r = write_parts(connection, &parts[0], 1, BEGINNING);
  return r < 0 ? r : write_parts(connection, &parts[1], 1, REST);
}

static int write_message(forkq_connection_t *connection, const void *data, size_t size) {
  unsigned char frame[FORKQ__FRAME_LONG + COPIED_MAX];
  size_t header_size = forkq__frame_write(frame, size);
  if (size > COPIED_MAX)
    return write_two(connection, frame, header_size, data, size);
  if (size > 0)
    memcpy(frame + header_size, data, size);
  return write_whole(connection, frame, header_size + size);
}

/* Makes room for `size` more bytes of a packed object: 0, FORKQ_ETOOBIG or -ENOMEM. */
static int reserve(struct forkq__outgoing *out, size_t size) {
  if (size > HEADER_ROOM + (size_t)FORKQ_MESSAGE_MAX - out->size)
    return FORKQ_ETOOBIG;
  if (size <= out->capacity - out->size)
    return 0;
  size_t capacity = out->capacity > 0 ? out->capacity : FIRST_CAPACITY;
  capacity = forkq__grown(capacity, (uint64_t)out->size + size, FORKQ__MEMORY_MAX);
  if (capacity == 0)
    return -ENOMEM;
  char *old = out->memory;
  out->memory = NULL; /* a child that is forked meanwhile must not free it */
  char *memory = forkq__realloc(old, capacity);
  out->memory = memory != NULL ? memory : old;
  if (memory == NULL)
    return -ENOMEM;
  out->capacity = capacity;
  return 0;
}

static int packer_write(void *data, const char *bytes, size_t size) {
  struct forkq__outgoing *out = data;
  if (out->error == 0)
    out->error = reserve(out, size);
  if (out->error != 0)
    return -1;
  if (size > 0) /* `bytes` of an empty str or bin may be NULL */
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

static int end_object(forkq_connection_t *connection) {
  struct forkq__outgoing *out = &connection->out;
  unsigned char header[FORKQ__FRAME_LONG];
  size_t size = out->size - HEADER_ROOM;
  size_t header_size = forkq__frame_write(header, size);
  char *object = out->memory + HEADER_ROOM, *begin = object - header_size;
  memcpy(begin, header, header_size);
  return size <= TOGETHER_MAX ? write_whole(connection, begin, header_size + size)
                              : write_two(connection, begin, header_size, object, size);
}

/* Runs however a send ends: by a return, by an exception that its packing function throws, or with
 * its thread. */
static void fini_object(forkq_connection_t **connection) {
  struct forkq__outgoing *out = &(*connection)->out;
  (*connection)->packing.frame = NULL;
  if (out->capacity > KEPT_CAPACITY) {
    char *memory = out->memory;
    out->memory = NULL; /* as in reserve */
    out->capacity = 0;
    forkq__free(memory);
  }
}
#define FINI_OBJECT __attribute__((cleanup(fini_object)))

static int begin_send(forkq_connection_t *connection, const void *frame) {
  int r = forkq__connection_check_send(connection, frame);
  if (r == 0)
    forkq__connection_cancellation_point();
  return r;
}

int forkq_connection_send(forkq_connection_t *connection, const msgpack_object *object) {
  if (connection == NULL || object == NULL)
    return FORKQ_ENULL;
  int r = begin_send(connection, __builtin_frame_address(0));
  if (r < 0)
    return r;
  FINI_OBJECT forkq_connection_t *sending = connection;
  msgpack_packer packer;
  r = begin_object(&sending->out, &packer);
  if (r < 0)
    return r;
  r = forkq__pack(&packer, object);
  if (r < 0 && sending->out.error != 0)
    r = sending->out.error;
  return r < 0 ? r : end_object(sending);
}

/* Not inlined, so that its frame is below that of its caller, and above those of the functions that
 * it calls. */
static __attribute__((noinline)) int call_packing_function(forkq_connection_t *connection,
                                                           forkq_pack_fn pack,
                                                           msgpack_packer *packer,
                                                           void *arg) {
  connection->packing.thread = pthread_self();
  connection->packing.frame = __builtin_frame_address(0);
  int r = pack(packer, arg);
  connection->packing.frame = NULL;
  return r;
}

int forkq_connection_send_with(forkq_connection_t *connection, forkq_pack_fn pack,
                               void *arg) {
  if (connection == NULL || pack == NULL)
    return FORKQ_ENULL;
  int r = begin_send(connection, __builtin_frame_address(0));
  if (r < 0)
    return r;
  FINI_OBJECT forkq_connection_t *sending = connection;
  struct forkq__outgoing *out = &connection->out;
  msgpack_packer packer;
  r = begin_object(out, &packer);
  if (r < 0)
    return r;
  bool failed = call_packing_function(connection, pack, &packer, arg) != 0;
  if (out->error != 0)
    return out->error;
  if (failed)
    return FORKQ_EPACK;
  r = forkq__scan(out->memory + HEADER_ROOM, out->size - HEADER_ROOM, NULL);
  return r < 0 ? r : end_object(sending);
}

int forkq_connection_send_packed(forkq_connection_t *connection, const void *data,
                                 size_t size) {
  if (connection == NULL || data == NULL)
    return FORKQ_ENULL;
  int r = begin_send(connection, __builtin_frame_address(0));
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
  int r = begin_send(connection, __builtin_frame_address(0));
  if (r < 0)
    return r;
  if (offset > length)
    return FORKQ_ERANGE;
  if (size == FORKQ_ALL)
    size = length - offset;
  if (size > length - offset)
    return FORKQ_ERANGE;
  if (size > PTRDIFF_MAX) /* no object of a program, and more than a system call takes */
    return FORKQ_ETOOBIG;
  if (size == 0)
    return write_message(connection, NULL, 0);
  return write_message(connection, (const char *)data + offset, size);
}
