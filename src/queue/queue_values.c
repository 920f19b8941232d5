/* Plain values: bytes, strings and numbers, without an object of msgpack-c. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "codec/item.h"

#include <pthread.h>
#include <string.h>

/* The size is known, so a large one gets its piece at the first try. */
static int put_raw(forkq_queue_t *queue, const msgpack_object *object, size_t size,
                   int timeout_ms) {
  struct forkq__source source = { .object = object, .size = size };
  return size > FORKQ_MESSAGE_MAX ? FORKQ_ETOOBIG
                                  : forkq__queue_put(queue, &source, timeout_ms);
}

int forkq_queue_put_bytes(forkq_queue_t *queue, const void *data, size_t size,
                          int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  if (queue == NULL || (data == NULL && size > 0))
    return FORKQ_ENULL;
  object.via.bin = (msgpack_object_bin){ (uint32_t)size, data };
  return put_raw(queue, &object, size, timeout_ms);
}

int forkq_queue_put_str(forkq_queue_t *queue, const char *text, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_STR };
  if (queue == NULL || text == NULL)
    return FORKQ_ENULL;
  size_t size = strlen(text);
  object.via.str = (msgpack_object_str){ (uint32_t)size, text };
  return put_raw(queue, &object, size, timeout_ms);
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

/* ---- getting ------------------------------------------------------------------------------- */

/* A get into the program's buffer. Large bytes are borrowed, and so copied once. */
struct into {
  struct forkq__piece_borrow piece; /* the first, so that its borrow is the item's */
  size_t length;
  struct forkq__raw raw; /* of the item that was looked at last */
};

static int check(struct forkq__borrow *borrow, const uint8_t *head, size_t size) {
  struct into *into = (struct into *)borrow;
  if (!forkq__raw_read(head, size, &into->raw) || into->raw.type == MSGPACK_OBJECT_EXT)
    return FORKQ_EWRONGTYPE;
  return into->raw.length > into->length ? FORKQ_ETOOSHORT : 0;
}

/* The borrow is not on the heap. */
static void end_item(void *item) {
  forkq__item_clear(item);
  ((forkq_item_t *)item)->borrow_ = NULL;
  forkq_item_destroy(item);
}

/* What is borrowed may have changed since it was looked at. */
static int copy(const forkq_item_t *item, const struct forkq__raw *raw, void *buffer) {
  if (item->size != (size_t)raw->before + raw->length)
    return FORKQ_EBADFRAME;
  if (buffer != NULL) /* where there is none, there are no bytes */
    memcpy(buffer, item->data + raw->before, raw->length);
  return 0;
}

static int get_into(forkq_queue_t *queue, struct into *into, void *buffer,
                    int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  item.borrow_ = &into->piece.borrow;
  pthread_cleanup_push(end_item, &item);
  r = forkq__queue_get(queue, &item, timeout_ms);
  if (r == 0)
    r = copy(&item, &into->raw, buffer);
  pthread_cleanup_pop(1);
  return r;
}

int forkq_queue_get_bytes_into(forkq_queue_t *queue, void *buffer, size_t length,
                               int timeout_ms, size_t *ret_size) {
  if (queue == NULL || (buffer == NULL && length > 0))
    return FORKQ_ENULL;
  struct into into = { .piece.borrow.check = check, .length = length };
  int r = get_into(queue, &into, buffer, timeout_ms);
  if (ret_size != NULL && (r == 0 || r == FORKQ_ETOOSHORT))
    *ret_size = into.raw.length;
  return r;
}
