/* A raw pipe in several ways, and a socket pair. No lock, no bound but the kernel's, nothing
 * that outlives a crash but the pipe itself: what a queue adds is measured against them.
 *
 *   pipe          one write and one read a message of a fixed size. Up to PIPE_BUF the kernel
 *                 keeps messages whole. Above, several writers or readers need a lock each
 *                 (a plain process-shared mutex). The pipe has its default size, 64 KiB.
 *   pipe_large    the same with a pipe of 1 MiB, the most that an unprivileged process gets,
 *                 for messages above PIPE_BUF: smaller ones gain nothing by it.
 *   pipe_framed   the system calls of a connection: length and message in one write, up to
 *                 16 KiB, else in two; two reads.
 *   seqpacket     a pair of Unix sockets, SOCK_SEQPACKET, with a send buffer as large as the
 *                 machine allows, 8 MiB at most. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"

#define PIPE_LARGE (1024 * 1024)
#define SOCKET_BUFFER (8 * 1024 * 1024)
#define SOCKET_SIZE_MAX (64 * 1024)

struct pipe_locks {
  pthread_mutex_t write, read;
};

struct pipe_channel {
  size_t size;
  int reader, writer;
  struct pipe_locks *locks; /* NULL: none needed */
  uint32_t *frame;          /* a length, and behind it the payload */
  unsigned char *payload;
};

static void write_all(int fd, const void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = write(fd, (const char *)data + done, size - done);
    if (n < 0)
      err(EXIT_FAILURE, "write");
    done += (size_t)n;
  }
}

static void read_all(int fd, void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = read(fd, (char *)data + done, size - done);
    if (n <= 0)
      err(EXIT_FAILURE, "read");
    done += (size_t)n;
  }
}

static struct pipe_channel *new_channel(size_t size, const int fds[2]) {
  struct pipe_channel *self = check_memory(calloc(1, sizeof *self));
  self->size = size;
  self->reader = fds[0];
  self->writer = fds[1];
  self->frame = check_memory(calloc(1, sizeof *self->frame + size));
  *self->frame = htonl((uint32_t)size);
  self->payload = (unsigned char *)(self->frame + 1);
  return self;
}

static void close_channel(void *channel) {
  struct pipe_channel *self = channel;
  close(self->reader);
  if (self->writer != self->reader)
    close(self->writer);
  free(self->frame);
  free(self);
}

static struct pipe_locks *make_locks(void) {
  struct pipe_locks *locks = shared_memory(sizeof *locks);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&locks->write, &attributes);
  pthread_mutex_init(&locks->read, &attributes);
  return locks;
}

static void *open_pipe(const struct load *load, const char *name) {
  (void)name;
  int fds[2];
  if (pipe(fds) < 0)
    err(EXIT_FAILURE, "pipe");
  struct pipe_channel *self = new_channel(load->size, fds);
  if (load->size > PIPE_BUF && load->producers + load->consumers > 2)
    self->locks = make_locks();
  return self;
}

LOOP_INLINE void send_pipe(void *channel, uint32_t producer, uint64_t number) {
  struct pipe_channel *self = channel;
  message_write(self->payload, self->size, producer, number);
  if (self->locks != NULL)
    pthread_mutex_lock(&self->locks->write);
  write_all(self->writer, self->payload, self->size);
  if (self->locks != NULL)
    pthread_mutex_unlock(&self->locks->write);
}

LOOP_INLINE struct message_head receive_pipe(void *channel) {
  struct pipe_channel *self = channel;
  if (self->locks != NULL)
    pthread_mutex_lock(&self->locks->read);
  read_all(self->reader, self->payload, self->size);
  if (self->locks != NULL)
    pthread_mutex_unlock(&self->locks->read);
  return message_read(self->payload, self->size, self->size);
}

static void produce_pipe(void *channel, struct party *party) {
  loop_produce(channel, party, send_pipe);
}

static void consume_pipe(void *channel, struct party *party) {
  loop_consume(channel, party, receive_pipe);
}

const struct peer peer_pipe = {
  .name = "pipe",
  .label = "raw pipe",
  .open = open_pipe,
  .send = send_pipe,
  .receive = receive_pipe,
  .produce = produce_pipe,
  .consume = consume_pipe,
  .close = close_channel,
};

static bool is_large(const struct load *load) {
  return load->size > PIPE_BUF;
}

static void *open_large(const struct load *load, const char *name) {
  struct pipe_channel *self = open_pipe(load, name);
  if (fcntl(self->writer, F_SETPIPE_SZ, PIPE_LARGE) < 0)
    err(EXIT_FAILURE, "F_SETPIPE_SZ");
  return self;
}

const struct peer peer_pipe_large = {
  .name = "pipe_large",
  .label = "raw pipe of 1 MiB",
  .can = is_large,
  .open = open_large,
  .send = send_pipe,
  .receive = receive_pipe,
  .produce = produce_pipe,
  .consume = consume_pipe,
  .close = close_channel,
};

#define FRAME_IN_ONE_WRITE 16384 /* CPython's rule, and forkq's */

static bool can_be_framed(const struct load *load) {
  return load->producers == 1 && load->consumers == 1;
}

LOOP_INLINE void send_framed(void *channel, uint32_t producer, uint64_t number) {
  struct pipe_channel *self = channel;
  message_write(self->payload, self->size, producer, number);
  if (self->size <= FRAME_IN_ONE_WRITE) {
    write_all(self->writer, self->frame, sizeof *self->frame + self->size);
    return;
  }
  write_all(self->writer, self->frame, sizeof *self->frame);
  write_all(self->writer, self->payload, self->size);
}

LOOP_INLINE struct message_head receive_framed(void *channel) {
  struct pipe_channel *self = channel;
  uint32_t length;
  read_all(self->reader, &length, sizeof length);
  if (ntohl(length) != self->size)
    errx(EXIT_FAILURE, "a frame of %u bytes instead of %zu", ntohl(length), self->size);
  read_all(self->reader, self->payload, self->size);
  return message_read(self->payload, self->size, self->size);
}

static void produce_framed(void *channel, struct party *party) {
  loop_produce(channel, party, send_framed);
}

static void consume_framed(void *channel, struct party *party) {
  loop_consume(channel, party, receive_framed);
}

static void *open_framed(const struct load *load, const char *name) {
  (void)name;
  int fds[2];
  if (pipe(fds) < 0)
    err(EXIT_FAILURE, "pipe");
  return new_channel(load->size, fds);
}

const struct peer peer_pipe_framed = {
  .name = "pipe_framed",
  .label = "raw pipe, the same system calls",
  .can = can_be_framed,
  .open = open_framed,
  .send = send_framed,
  .receive = receive_framed,
  .produce = produce_framed,
  .consume = consume_framed,
  .close = close_channel,
};

static bool fits_socket(const struct load *load) {
  return load->size <= SOCKET_SIZE_MAX;
}

static void *open_seqpacket(const struct load *load, const char *name) {
  (void)name;
  int fds[2], size = SOCKET_BUFFER;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
    err(EXIT_FAILURE, "socketpair");
  if (setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return new_channel(load->size, fds);
}

LOOP_INLINE void send_seqpacket(void *channel, uint32_t producer, uint64_t number) {
  struct pipe_channel *self = channel;
  message_write(self->payload, self->size, producer, number);
  if (send(self->writer, self->payload, self->size, 0) != (ssize_t)self->size)
    err(EXIT_FAILURE, "send");
}

LOOP_INLINE struct message_head receive_seqpacket(void *channel) {
  struct pipe_channel *self = channel;
  ssize_t n = recv(self->reader, self->payload, self->size, 0);
  if (n < 0)
    err(EXIT_FAILURE, "recv");
  return message_read(self->payload, (size_t)n, self->size);
}

static void produce_seqpacket(void *channel, struct party *party) {
  loop_produce(channel, party, send_seqpacket);
}

static void consume_seqpacket(void *channel, struct party *party) {
  loop_consume(channel, party, receive_seqpacket);
}

const struct peer peer_seqpacket = {
  .name = "seqpacket",
  .label = "SOCK_SEQPACKET",
  .can = fits_socket,
  .open = open_seqpacket,
  .send = send_seqpacket,
  .receive = receive_seqpacket,
  .produce = produce_seqpacket,
  .consume = consume_seqpacket,
  .close = close_channel,
};
