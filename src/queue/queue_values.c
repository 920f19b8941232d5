/* Plain values: bytes, strings and numbers, without an object of msgpack-c. */
#include "queue/queue_impl.h"

#include <string.h>

int forkq_queue_put_bytes(forkq_queue_t *queue, const void *data, size_t size,
                          int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  if (queue == NULL || (data == NULL && size > 0))
    return FORKQ_ENULL;
  if (size > FORKQ_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  object.via.bin = (msgpack_object_bin){ (uint32_t)size, data };
  return forkq_queue_put(queue, &object, timeout_ms);
}

int forkq_queue_put_str(forkq_queue_t *queue, const char *text, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_STR };
  if (queue == NULL || text == NULL)
    return FORKQ_ENULL;
  size_t size = strlen(text);
  if (size > FORKQ_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  object.via.str = (msgpack_object_str){ (uint32_t)size, text };
  return forkq_queue_put(queue, &object, timeout_ms);
}

int forkq_queue_put_int(forkq_queue_t *queue, int64_t value, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_NEGATIVE_INTEGER };
  if (queue == NULL)
    return FORKQ_ENULL;
  object.via.i64 = value;
  if (value >= 0) {
    object.type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    object.via.u64 = (uint64_t)value;
  }
  return forkq_queue_put(queue, &object, timeout_ms);
}

int forkq_queue_put_nil(forkq_queue_t *queue, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  if (queue == NULL)
    return FORKQ_ENULL;
  return forkq_queue_put(queue, &object, timeout_ms);
}
