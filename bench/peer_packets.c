/* A raw pipe in packet mode (O_DIRECT): small messages are gathered in packets of 4096 bytes,
 * one write and one read each; larger ones are cut into such packets, between one producer
 * and one consumer. No lock, and nothing leaves before a packet is full: the limit of
 * a queue that batches, and no use for anything that must arrive in time. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "loop.h"

#define PACKET PIPE_BUF

struct packets {
  size_t size;
  int reader, writer;
  size_t used, next; /* of the packet, when messages are gathered */
  unsigned char packet[PACKET];
  unsigned char *payload; /* of a message that is cut */
};

static bool can(const struct load *load) {
  return load->size <= PACKET || (load->producers == 1 && load->consumers == 1);
}

static void *open_channel(const struct load *load, const char *name) {
  (void)name;
  int fds[2];
  if (pipe2(fds, O_DIRECT) < 0)
    err(EXIT_FAILURE, "pipe2");
  fcntl(fds[1], F_SETPIPE_SZ, 1024 * 1024);
  struct packets *self = check_memory(calloc(1, sizeof *self));
  self->payload = check_memory(calloc(1, load->size));
  self->size = load->size;
  self->reader = fds[0];
  self->writer = fds[1];
  return self;
}

static void write_packet(int fd, const void *data, size_t size) {
  if (write(fd, data, size) != (ssize_t)size)
    err(EXIT_FAILURE, "write");
}

static size_t read_packet(int fd, void *data, size_t size) {
  ssize_t n = read(fd, data, size);
  if (n <= 0)
    err(EXIT_FAILURE, "read");
  return (size_t)n;
}

static void flush(struct packets *self) {
  if (self->used > 0)
    write_packet(self->writer, self->packet, self->used);
  self->used = 0;
}

static void send_cut(struct packets *self, uint32_t producer, uint64_t number) {
  message_write(self->payload, self->size, producer, number);
  for (size_t at = 0; at < self->size; at += PACKET)
    write_packet(self->writer, self->payload + at,
                 self->size - at < PACKET ? self->size - at : PACKET);
}

static struct message_head receive_cut(struct packets *self) {
  for (size_t at = 0; at < self->size;)
    at += read_packet(self->reader, self->payload + at, self->size - at);
  return message_read(self->payload, self->size, self->size);
}

/* A message that says the end travels alone, as it is for one consumer only. */
LOOP_INLINE void send_gathered(void *channel, uint32_t producer, uint64_t number) {
  struct packets *self = channel;
  if (self->size > PACKET) {
    send_cut(self, producer, number);
    return;
  }
  if (self->used + self->size > PACKET || producer == MESSAGE_LAST)
    flush(self);
  message_write(self->packet + self->used, self->size, producer, number);
  self->used += self->size;
  if (producer == MESSAGE_LAST)
    flush(self);
}

LOOP_INLINE struct message_head receive_gathered(void *channel) {
  struct packets *self = channel;
  if (self->size > PACKET)
    return receive_cut(self);
  if (self->next == self->used) {
    self->used = read_packet(self->reader, self->packet, PACKET);
    self->next = 0;
  }
  const unsigned char *message = self->packet + self->next;
  self->next += self->size;
  return message_read(message, self->size, self->size);
}

LOOP_DEFINE(send_gathered, receive_gathered)

static void close_channel(void *channel) {
  struct packets *self = channel;
  close(self->reader);
  close(self->writer);
  free(self->payload);
  free(self);
}

const struct peer peer_packets = {
  .name = "packets",
  .label = "raw pipe, 4 KiB packets",
  .can = can,
  .open = open_channel,
  .produce = produce,
  .consume = consume,
  .close = close_channel,
};
