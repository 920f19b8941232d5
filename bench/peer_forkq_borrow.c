/* forkq's queue with no copy at all: the producer writes each message into memory that it has reserved,
 * and the consumer reads it there. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

static void *open_queue(const struct load *load, const char *name) {
  (void)name;
  return forkq_channel_open(load, 0);
}

LOOP_INLINE void send_reserved(void *channel, uint32_t producer, uint64_t number) {
  struct forkq_channel *self = channel;
  size_t size = BIN_HEADER + self->size;
  void *memory;
  forkq_must(forkq_queue_reserve(self->queue, size, &memory), "reserve");
  memcpy(memory, self->bin, BIN_HEADER);
  message_write((unsigned char *)memory + BIN_HEADER, self->size, producer, number);
  forkq_must(forkq_queue_commit(self->queue, memory, size, -1), "commit");
}

LOOP_INLINE struct message_head receive_borrowed(void *channel) {
  struct forkq_channel *self = channel;
  forkq_must(forkq_queue_get_borrowed(self->queue, &self->item, -1), "get");
  return message_read((const unsigned char *)self->item.data + BIN_HEADER,
                      self->item.size - BIN_HEADER, self->size);
}

LOOP_DEFINE(send_reserved, receive_borrowed)

const struct peer peer_forkq_borrow = {
  .name = "forkq_borrow",
  .label = "forkq, reserved and borrowed",
  .open = open_queue,
  .send = send_reserved,
  .receive = receive_borrowed,
  .produce = produce,
  .consume = consume,
  .close = forkq_channel_close,
  .version = forkq_version,
};
