/* forkq's simple queue, and its connection over a pipe, with bytes. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

struct simple {
  forkq_simple_queue_t *queue;
  size_t size;
  unsigned char *bin;
  forkq_item_t item;
};

static void *open_simple(const struct load *load, const char *name) {
  (void)name;
  struct simple *self = check_memory(calloc(1, sizeof *self));
  forkq_must(forkq_simple_queue_create(&self->queue), "create");
  self->size = load->size;
  self->bin = forkq_make_bin(load->size);
  return self;
}

static void close_simple(void *channel) {
  struct simple *self = channel;
  forkq_simple_queue_destroy(self->queue);
  forkq_item_destroy(&self->item);
  free(self->bin);
  free(self);
}

LOOP_INLINE void send_simple(void *channel, uint32_t producer, uint64_t number) {
  struct simple *self = channel;
  message_write(self->bin + BIN_HEADER, self->size, producer, number);
  forkq_must(
      forkq_simple_queue_put_packed(self->queue, self->bin, BIN_HEADER + self->size),
      "put");
}

LOOP_INLINE struct message_head receive_simple(void *channel) {
  struct simple *self = channel;
  forkq_must(forkq_simple_queue_get_packed(self->queue, &self->item), "get");
  return message_read((const unsigned char *)self->item.data + BIN_HEADER,
                      self->item.size - BIN_HEADER, self->size);
}

static void produce_simple(void *channel, struct party *party) {
  loop_produce(channel, party, send_simple);
}

static void consume_simple(void *channel, struct party *party) {
  loop_consume(channel, party, receive_simple);
}

const struct peer peer_forkq_simple = {
  .name = "forkq_simple",
  .label = "forkq, simple queue",
  .open = open_simple,
  .send = send_simple,
  .receive = receive_simple,
  .produce = produce_simple,
  .consume = consume_simple,
  .close = close_simple,
};

struct connection {
  forkq_connection_t *reader, *writer;
  size_t size;
  unsigned char *payload;
};

static bool is_pair(const struct load *load) {
  return load->producers == 1 && load->consumers == 1;
}

static void *open_connection(const struct load *load, const char *name) {
  (void)name;
  struct connection *self = check_memory(calloc(1, sizeof *self));
  forkq_must(forkq_pipe(&self->reader, &self->writer, 0), "pipe");
  self->size = load->size;
  self->payload = check_memory(calloc(1, load->size));
  return self;
}

static void close_connection(void *channel) {
  struct connection *self = channel;
  forkq_connection_destroy(self->reader);
  forkq_connection_destroy(self->writer);
  free(self->payload);
  free(self);
}

LOOP_INLINE void send_connection(void *channel, uint32_t producer, uint64_t number) {
  struct connection *self = channel;
  message_write(self->payload, self->size, producer, number);
  forkq_must(
      forkq_connection_send_bytes(self->writer, self->payload, self->size, 0, FORKQ_ALL),
      "send");
}

LOOP_INLINE struct message_head receive_connection(void *channel) {
  struct connection *self = channel;
  size_t size;
  forkq_must(forkq_connection_recv_bytes_into(self->reader, self->payload, self->size, 0,
                                              &size, NULL),
             "recv");
  return message_read(self->payload, size, self->size);
}

static void produce_connection(void *channel, struct party *party) {
  loop_produce(channel, party, send_connection);
}

static void consume_connection(void *channel, struct party *party) {
  loop_consume(channel, party, receive_connection);
}

const struct peer peer_forkq_connection = {
  .name = "forkq_connection",
  .label = "forkq, connection",
  .can = is_pair,
  .open = open_connection,
  .send = send_connection,
  .receive = receive_connection,
  .produce = produce_connection,
  .consume = consume_connection,
  .close = close_connection,
};
