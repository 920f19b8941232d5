/* forkq's queue with bytes, one call a message; what is put is a msgpack bin. And the same queue with
 * the option to spin before it sleeps. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

static void *open_queue(const struct load *load, const char *name) {
  (void)name;
  return forkq_channel_open(load, 0);
}

/* Longer than it takes to wake the other side: some 20 us. */
static void *open_spinning(const struct load *load, const char *name) {
  (void)name;
  return forkq_channel_open(load, 50);
}

LOOP_INLINE void send_bytes(void *channel, uint32_t producer, uint64_t number) {
  struct forkq_channel *self = channel;
  message_write(self->bin + BIN_HEADER, self->size, producer, number);
  forkq_must(forkq_queue_put_packed(self->queue, self->bin, BIN_HEADER + self->size, -1),
             "put");
}

LOOP_INLINE struct message_head receive_bytes(void *channel) {
  struct forkq_channel *self = channel;
  forkq_must(forkq_queue_get_packed(self->queue, &self->item, -1), "get");
  return message_read((const unsigned char *)self->item.data + BIN_HEADER,
                      self->item.size - BIN_HEADER, self->size);
}

LOOP_DEFINE(send_bytes, receive_bytes)

#define PEER(name_, label_, open_)                                                       \
  {                                                                                      \
    .name = name_, .label = label_, .open = open_, .send = send_bytes,                   \
    .receive = receive_bytes, .produce = produce, .consume = consume,                    \
    .close = forkq_channel_close, .version = forkq_version,                              \
  }

const struct peer peer_forkq = PEER("forkq", "forkq", open_queue);
const struct peer peer_forkq_spin =
    PEER("forkq_spin", "forkq, spin_us 50", open_spinning);
