/* The stream of a connection, against a model of it: every receive gives what the model does,
 * in memory in proportion to the bytes that came.
 *
 * The first bytes choose how it is received, the others are the stream, to its end. */
#include "fuzz.h"

#include "codec/serializer.h"
#include "connection/connection_frame.h"

#include <forkq/connection.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 64

/* Memory for a message grows to twice what has come, in steps that are doubled, and both are
 * there while it moves. */
#define RECEIVE_BYTES_PER_BYTE 6
#define RECEIVE_BYTES_BESIDES (64 * 1024)

enum { OBJECT, BYTES, INTO, INTO_NOTHING, KINDS };

static forkq_connection_t *connection;
static forkq_item_t item;
static bool duplex;

/* ---- the model ------------------------------------------------------------------------------ */

struct message {
  int result;
  bool lost; /* nothing more can be received */
  struct fuzz_input bytes;
};

static struct message lose(int result) {
  return (struct message){ .result = result, .lost = true };
}

static struct message next_message(struct fuzz_input *stream, uint64_t limit) {
  if (stream->size == 0)
    return (struct message){ .result = FORKQ_EEOF };
  if (stream->size < 4) {
    stream->size = 0;
    return (struct message){ .result = FORKQ_ETORN };
  }
  uint64_t size = fuzz_number(stream, 4);
  if (size == UINT32_MAX && stream->size < 8) {
    stream->size = 0;
    return (struct message){ .result = FORKQ_ETORN };
  }
  if (size == UINT32_MAX)
    size = fuzz_number(stream, 8);
  else if (size > INT32_MAX)
    return lose(FORKQ_EBADFRAME);
  if (size > INT64_MAX || size > limit)
    return lose(FORKQ_ETOOBIG);
  struct message message = { .bytes = fuzz_take(stream, size) };
  if (message.bytes.size < size)
    message.result = FORKQ_ETORN;
  return message;
}

/* ---- receiving ------------------------------------------------------------------------------ */

static void must_be(const struct message *message, const void *data, size_t size) {
  MUST(size == message->bytes.size);
  MUST(data != NULL && memcmp(data, message->bytes.data, size) == 0);
}

static int expected_object(const struct message *message) {
  if (message->result < 0)
    return message->result;
  return forkq__scan(message->bytes.data, message->bytes.size, NULL);
}

static int receive_object(const struct message *message) {
  int r = forkq_connection_recv(connection, &item);
  MUST(r == expected_object(message));
  if (message->result == 0)
    must_be(message, item.data, item.size);
  MUST(r == 0 || item.object.type == MSGPACK_OBJECT_NIL);
  return r;
}

static int receive_bytes(const struct message *message, size_t limit) {
  int r = forkq_connection_recv_bytes(connection, &item, limit);
  MUST(r == message->result);
  if (r == 0)
    must_be(message, item.data, item.size);
  return r;
}

static int receive_into(const struct message *message, size_t offset,
                        forkq_item_t *into) {
  char buffer[BUFFER];
  size_t size = 0;
  int r =
      forkq_connection_recv_bytes_into(connection, buffer, BUFFER, offset, &size, into);
  bool fits = message->bytes.size <= BUFFER - offset;
  if (message->result == 0 && !fits) {
    MUST(r == FORKQ_ETOOSHORT);
    if (into != NULL)
      must_be(message, into->data, into->size);
    return r;
  }
  MUST(r == message->result);
  if (r == 0)
    must_be(message, buffer + offset, size);
  return r;
}

/* Receives the next message; whether there can be another one. */
static bool receive(struct fuzz_input *stream, int kind, uint8_t parameter) {
  size_t limit = kind == OBJECT ? FORKQ_MESSAGE_MAX : FORKQ_ALL;
  if (kind == BYTES && parameter & 1)
    limit = parameter;
  struct message message = next_message(stream, limit);
  fuzz_memory_begin();
  int r = kind == OBJECT  ? receive_object(&message)
          : kind == BYTES ? receive_bytes(&message, limit)
                          : receive_into(&message, parameter % (BUFFER + 1),
                                         kind == INTO ? &item : NULL);
  size_t peak = fuzz_memory_peak();
  size_t came = message.bytes.size;
  MUST(peak <= RECEIVE_BYTES_PER_BYTE * came + RECEIVE_BYTES_BESIDES +
                   (kind == OBJECT ? FUZZ_BOUND(came) : 0));
  forkq_item_destroy(&item);
  if (message.lost)
    MUST(duplex ? forkq_connection_recv_bytes(connection, &item, FORKQ_ALL) ==
                      FORKQ_EWRITEONLY
                : forkq_connection_closed(connection));
  return r != FORKQ_EEOF && !message.lost;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input stream = { data, size < 60000 ? size : 60000 };
  int fds[2];
  if (size < 2)
    return 0;
  uint8_t first = (uint8_t)fuzz_number(&stream, 1);
  uint8_t parameter = (uint8_t)fuzz_number(&stream, 1);
  duplex = first & 0x80;
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  MUST(write(fds[1], stream.data, stream.size) == (ssize_t)stream.size);
  shutdown(fds[1], SHUT_WR);
  MUST(forkq_connection_open(&connection, fds[0], 1, duplex) == 0);
  for (unsigned i = 0; receive(&stream, (int)(first + i) % KINDS, parameter); i++)
    ;
  forkq_connection_destroy(connection);
  close(fds[1]);
  return 0;
}
