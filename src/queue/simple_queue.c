/* Simple queues. A simple queue is a forkq_queue of which only the sender is used: its puts send on
 * the caller's thread, and no feeder is started. Its type exists only in the public header. */
#include <forkq/simple_queue.h>

#include "codec/serializer.h"
#include "queue/queue_impl.h"

static forkq_queue_t *as_queue(forkq_simple_queue_t *queue) {
  return (forkq_queue_t *)queue;
}

int forkq_simple_queue_create(forkq_simple_queue_t **ret_queue) {
  forkq_queue_t *queue;
  if (ret_queue == NULL)
    return FORKQ_ENULL;
  int r = forkq_queue_create(&queue, 0);
  if (r == 0)
    *ret_queue = (forkq_simple_queue_t *)queue;
  return r;
}

int forkq_simple_queue_put(forkq_simple_queue_t *queue, const msgpack_object *object) {
  if (queue == NULL || object == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .object = object };
  return forkq__queue_put_through(as_queue(queue), &source);
}

int forkq_simple_queue_put_packed(forkq_simple_queue_t *queue, const void *data,
                                  size_t size) {
  if (queue == NULL || data == NULL)
    return FORKQ_ENULL;
  int r = forkq__scan(data, size, NULL);
  if (r < 0)
    return r;
  struct forkq__source source = { .data = data, .size = size };
  return forkq__queue_put_through(as_queue(queue), &source);
}

int forkq_simple_queue_put_with(forkq_simple_queue_t *queue, forkq_pack_fn pack,
                                void *arg) {
  if (queue == NULL || pack == NULL)
    return FORKQ_ENULL;
  struct forkq__source source = { .pack = pack, .arg = arg };
  return forkq__queue_put_through(as_queue(queue), &source);
}

int forkq_simple_queue_put_bytes(forkq_simple_queue_t *queue, const void *data,
                                 size_t size) {
  struct forkq__plain plain;
  int r = queue == NULL ? FORKQ_ENULL : forkq__plain_bytes(&plain, data, size);
  return r < 0 ? r : forkq__queue_put_through(as_queue(queue), &plain.source);
}

int forkq_simple_queue_put_str(forkq_simple_queue_t *queue, const char *text) {
  struct forkq__plain plain;
  int r = queue == NULL ? FORKQ_ENULL : forkq__plain_str(&plain, text);
  return r < 0 ? r : forkq__queue_put_through(as_queue(queue), &plain.source);
}

int forkq_simple_queue_put_int(forkq_simple_queue_t *queue, int64_t value) {
  struct forkq__plain plain;
  if (queue == NULL)
    return FORKQ_ENULL;
  forkq__plain_int(&plain, value);
  return forkq__queue_put_through(as_queue(queue), &plain.source);
}

int forkq_simple_queue_put_nil(forkq_simple_queue_t *queue) {
  struct forkq__plain plain;
  if (queue == NULL)
    return FORKQ_ENULL;
  forkq__plain_nil(&plain);
  return forkq__queue_put_through(as_queue(queue), &plain.source);
}

int forkq_simple_queue_get(forkq_simple_queue_t *queue, forkq_item_t *item) {
  return forkq_queue_get(as_queue(queue), item, -1);
}

int forkq_simple_queue_get_packed(forkq_simple_queue_t *queue, forkq_item_t *item) {
  return forkq_queue_get_packed(as_queue(queue), item, -1);
}

int forkq_simple_queue_get_borrowed(forkq_simple_queue_t *queue, forkq_item_t *item) {
  return forkq_queue_get_borrowed(as_queue(queue), item, -1);
}

int forkq_simple_queue_get_bytes_into(forkq_simple_queue_t *queue, void *buffer,
                                      size_t length, size_t *ret_size) {
  return forkq_queue_get_bytes_into(as_queue(queue), buffer, length, -1, ret_size);
}

int forkq_simple_queue_send(forkq_simple_queue_t *queue, int socket) {
  return forkq_queue_send(as_queue(queue), socket);
}

/* A put that goes straight to the pipe takes no slot, and counts no task. */
static bool is_simple(const forkq_queue_t *queue) {
  return queue->segment->slots.maxsize == 0 && !queue->channel.joinable;
}

int forkq_simple_queue_receive(forkq_simple_queue_t **ret_queue, int socket) {
  forkq_queue_t *queue;
  if (ret_queue == NULL)
    return FORKQ_ENULL;
  int r = forkq_queue_receive(&queue, socket, NULL);
  if (r < 0)
    return r;
  if (!is_simple(queue)) {
    forkq_queue_destroy(queue);
    return FORKQ_EHANDOVER;
  }
  *ret_queue = (forkq_simple_queue_t *)queue;
  return 0;
}

int forkq_simple_queue_empty(forkq_simple_queue_t *queue) {
  if (queue == NULL)
    return FORKQ_ENULL;
  if (atomic_load(&as_queue(queue)->channel.closed))
    return FORKQ_ECLOSED;
  return forkq_queue_empty(as_queue(queue));
}

int forkq_simple_queue_close_put(forkq_simple_queue_t *queue) {
  return forkq_queue_close_put(as_queue(queue));
}

int forkq_simple_queue_close(forkq_simple_queue_t *queue) {
  return forkq_queue_close(as_queue(queue));
}

void forkq_simple_queue_destroy(forkq_simple_queue_t *queue) {
  forkq_queue_destroy(as_queue(queue));
}
