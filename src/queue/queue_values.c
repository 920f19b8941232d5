/* Plain values: bytes, strings and numbers, without an object of msgpack-c. */
#include "queue/queue_impl.h"

#include "base/os.h"
#include "codec/item.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static void set_source(struct forkq__plain *plain, size_t size) {
  plain->source = (struct forkq__source){ .object = &plain->object, .size = size };
}

/* The size is known, so a large one gets its piece at the first try. No memory is copied from NULL, not
 * even 0 bytes: memcpy(3) must not be given it. */
int forkq__plain_bytes(struct forkq__plain *plain, const void *data, size_t size) {
  if (data == NULL) {
    if (size > 0)
      return FORKQ_ENULL;
    data = "";
  }
  if (size > FORKQ_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  plain->object.type = MSGPACK_OBJECT_BIN;
  plain->object.via.bin = (msgpack_object_bin){ (uint32_t)size, data };
  set_source(plain, size);
  return 0;
}

int forkq__plain_str(struct forkq__plain *plain, const char *text) {
  if (text == NULL)
    return FORKQ_ENULL;
  size_t size = strlen(text);
  if (size > FORKQ_MESSAGE_MAX)
    return FORKQ_ETOOBIG;
  plain->object.type = MSGPACK_OBJECT_STR;
  plain->object.via.str = (msgpack_object_str){ (uint32_t)size, text };
  set_source(plain, size);
  return 0;
}

void forkq__plain_int(struct forkq__plain *plain, int64_t value) {
  bool negative = value < 0;
  plain->object.type =
      negative ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
  plain->object.via.i64 = value;
  set_source(plain, 0);
}

void forkq__plain_nil(struct forkq__plain *plain) {
  plain->object.type = MSGPACK_OBJECT_NIL;
  set_source(plain, 0);
}

int forkq_queue_put_bytes(forkq_queue_t *queue, const void *data, size_t size,
                          int timeout_ms) {
  struct forkq__plain plain;
  int r = queue == NULL ? FORKQ_ENULL : forkq__plain_bytes(&plain, data, size);
  return r < 0 ? r : forkq__queue_put(queue, &plain.source, timeout_ms);
}

int forkq_queue_put_str(forkq_queue_t *queue, const char *text, int timeout_ms) {
  struct forkq__plain plain;
  int r = queue == NULL ? FORKQ_ENULL : forkq__plain_str(&plain, text);
  return r < 0 ? r : forkq__queue_put(queue, &plain.source, timeout_ms);
}

int forkq_queue_put_int(forkq_queue_t *queue, int64_t value, int timeout_ms) {
  struct forkq__plain plain;
  if (queue == NULL)
    return FORKQ_ENULL;
  forkq__plain_int(&plain, value);
  return forkq__queue_put(queue, &plain.source, timeout_ms);
}

int forkq_queue_put_nil(forkq_queue_t *queue, int timeout_ms) {
  struct forkq__plain plain;
  if (queue == NULL)
    return FORKQ_ENULL;
  forkq__plain_nil(&plain);
  return forkq__queue_put(queue, &plain.source, timeout_ms);
}

/* ---- getting ------------------------------------------------------------------------------- */

/* A get into the program's buffer. Large bytes are borrowed, and so copied once. */
struct into {
  struct forkq__piece_borrow piece; /* the first, so that its borrow is the item's */
  void *buffer;
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

/* What is borrowed may have changed since it was looked at. If this process was taken for dead meanwhile, the
 * producer may have put another message there. */
static int copy(const forkq_item_t *item, struct into *into) {
  const struct forkq__raw *raw = &into->raw;
  if (item->size != (size_t)raw->before + raw->length)
    return FORKQ_EBADFRAME;
  if (into->buffer != NULL) /* where there is none, there are no bytes */
    memcpy(into->buffer, item->data + raw->before, raw->length);
  return forkq__borrow_end(&into->piece.borrow) ? 0 : -EBADF;
}

/* A close waits for the copy: it gives up the cell, by which the producer knows who holds its piece. */
static int copy_and_leave(forkq_queue_t *queue, const forkq_item_t *item,
                          struct into *into) {
  int r = copy(item, into);
  forkq__queue_leave_get(queue);
  return r;
}

static int get_into(forkq_queue_t *queue, struct into *into, int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  item.borrow_ = &into->piece.borrow;
  pthread_cleanup_push(end_item, &item);
  r = forkq__queue_begin_get(queue, &item, timeout_ms);
  if (r >= 0)
    r = r == 0 ? copy_and_leave(queue, &item, into) : copy(&item, into);
  pthread_cleanup_pop(1);
  return r;
}

static int get_into_soon(forkq_queue_t *queue, struct into *into, int64_t deadline) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  item.borrow_ = &into->piece.borrow;
  int r = forkq__queue_begin_get_soon(queue, &item, deadline, true);
  if (r == 0)
    r = copy_and_leave(queue, &item, into);
  end_item(&item);
  return r;
}

static struct into make_into(void *buffer, size_t length) {
  return (struct into){ .piece.borrow.check = check, .buffer = buffer, .length = length };
}

static bool knows_size(int result) {
  return result == 0 || result == FORKQ_ETOOSHORT;
}

int forkq__queue_get_into_soon(forkq_queue_t *queue, void *buffer, size_t length,
                               int64_t deadline, size_t *ret_size) {
  struct into into = make_into(buffer, length);
  int r = get_into_soon(queue, &into, deadline);
  if (knows_size(r))
    *ret_size = into.raw.length;
  return r;
}

int forkq_queue_get_bytes_into(forkq_queue_t *queue, void *buffer, size_t length,
                               int timeout_ms, size_t *ret_size) {
  if (queue == NULL || (buffer == NULL && length > 0))
    return FORKQ_ENULL;
  struct into into = make_into(buffer, length);
  int r = get_into(queue, &into, timeout_ms);
  if (ret_size != NULL && knows_size(r))
    *ret_size = into.raw.length;
  return r;
}
