/* ZeroMQ, PUSH to PULL over ipc (Unix sockets, with names in the abstract namespace). No
 * shared queue: each consumer binds a socket of its own, each producer connects one to all
 * of them, and messages are dealt out in turn. A thread of ZeroMQ's in each process sends and
 * receives in batches. Both ends hold `bound` messages, 1000 for small ones, its default.
 * A message is copied once on each side by the calling thread (zmq_send, zmq_recv), as with
 * all peers. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#include "loop.h"

#define IDLE_MS 10
#define RETRY_MS 1
#define LINGER_MS 1000

struct zmq_channel {
  struct load load;
  char name[64];
  void *context, *socket;
  unsigned char *payload;
};

static void must(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, zmq_strerror(errno));
}

/* A context is not to be carried across a fork, so each process makes its own. */
static void *open_zmq(const struct load *load, const char *name) {
  struct zmq_channel *self = check_memory(calloc(1, sizeof *self));
  self->load = *load;
  snprintf(self->name, sizeof self->name, "%s", name);
  self->payload = check_memory(calloc(1, load->size));
  return self;
}

static void set_option(struct zmq_channel *self, int option, int value) {
  must(zmq_setsockopt(self->socket, option, &value, sizeof value), "zmq_setsockopt");
}

/* The number of the consumer is a part of its address. */
static void address_of(const struct zmq_channel *self, unsigned consumer, char *address,
                       size_t size) {
  snprintf(address, size, "ipc://@%s-%u", self->name, consumer);
}

static void join(void *channel, enum role role, unsigned index) {
  struct zmq_channel *self = channel;
  char address[96];
  self->context = zmq_ctx_new();
  self->socket = zmq_socket(self->context, role == ROLE_PRODUCER ? ZMQ_PUSH : ZMQ_PULL);
  if (self->socket == NULL)
    errx(EXIT_FAILURE, "zmq_socket: %s", zmq_strerror(errno));
  set_option(self, role == ROLE_PRODUCER ? ZMQ_SNDHWM : ZMQ_RCVHWM,
             (int)self->load.bound);
  set_option(self, ZMQ_LINGER, LINGER_MS);
  if (role == ROLE_CONSUMER) {
    address_of(self, index, address, sizeof address);
    must(zmq_bind(self->socket, address), address);
    return;
  }
  set_option(self, ZMQ_RECONNECT_IVL, RETRY_MS);
  set_option(self, ZMQ_IMMEDIATE, 1); /* nothing is dealt to who is not there */
  for (unsigned i = 0; i < self->load.consumers; i++) {
    address_of(self, i, address, sizeof address);
    must(zmq_connect(self->socket, address), address);
  }
}

LOOP_INLINE void send_zmq(void *channel, uint32_t producer, uint64_t number) {
  struct zmq_channel *self = channel;
  message_write(self->payload, self->load.size, producer, number);
  must(zmq_send(self->socket, self->payload, self->load.size, 0), "zmq_send");
}

LOOP_INLINE struct message_head receive_zmq(void *channel) {
  struct zmq_channel *self = channel;
  int n = zmq_recv(self->socket, self->payload, self->load.size, 0);
  must(n, "zmq_recv");
  return message_read(self->payload, (size_t)n, self->load.size);
}

/* What all consumers have published; nobody can say the end to all of them, since who gets
 * what is not the producer's choice. */
static bool all_received(const struct party *party) {
  uint64_t count = 0;
  for (unsigned i = 0; i < party->load->consumers; i++)
    count += __atomic_load_n(&party->tallies[i].count, __ATOMIC_RELAXED);
  return count == party->load->messages * party->load->producers;
}

/* The producer stays until all is received: with the other side gone, the end of its context
 * may wait for ever, although nothing is left to be sent (4.3.4). */
static void produce(void *channel, struct party *party) {
  for (uint64_t number = 1; number <= party->load->messages; number++)
    send_zmq(channel, party->index, number);
  while (!all_received(party))
    usleep(1000);
}

/* Each consumer looks whether all of them together have got everything, whenever there is
 * nothing for it, and takes the time then: it may have been its last message. */
static void consume(void *channel, struct party *party) {
  struct zmq_channel *self = channel;
  uint64_t timed = 0;
  set_option(self, ZMQ_RCVTIMEO, IDLE_MS);
  for (int flags = ZMQ_DONTWAIT;;) {
    int n = zmq_recv(self->socket, self->payload, self->load.size, flags);
    if (n < 0 && errno != EAGAIN)
      must(n, "zmq_recv");
    if (n >= 0) {
      struct message_head head = message_read(self->payload, (size_t)n, self->load.size);
      loop_count(party, &head);
      flags = ZMQ_DONTWAIT;
      continue;
    }
    if (party->tally->count > timed) {
      timed = party->tally->count;
      party->tally->end = now();
    }
    if (all_received(party))
      return;
    flags = 0;
  }
}

/* What is not sent yet, the last answer of a round trip, still goes. */
static void leave(void *channel) {
  struct zmq_channel *self = channel;
  zmq_close(self->socket);
  zmq_ctx_term(self->context);
}

static void close_zmq(void *channel) {
  struct zmq_channel *self = channel;
  free(self->payload);
  free(self);
}

static const char *version(void) {
  static char text[32];
  int major, minor, patch;
  zmq_version(&major, &minor, &patch);
  snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
  return text;
}

const struct peer peer_zmq = {
  .name = "zmq",
  .label = "ZeroMQ PUSH/PULL, ipc",
  .open = open_zmq,
  .join = join,
  .send = send_zmq,
  .receive = receive_zmq,
  .produce = produce,
  .consume = consume,
  .leave = leave,
  .close = close_zmq,
  .version = version,
};
