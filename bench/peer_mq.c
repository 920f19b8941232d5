/* A POSIX message queue. By default the kernel allows 10 messages of 8 KiB, and 800 KiB for
 * all queues of a user. As root the limits are raised, as far as they may be, in an IPC
 * namespace of the run's own, so that the machine is left as it was. The queue is then as
 * deep as the bound says, or else half as deep, a quarter, ... whatever can be had. All
 * messages have the same priority. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop.h"

#define SIZE_ALLOWED (64 * 1024)
#define SIZE_UNPRIVILEGED 8192

struct mq {
  mqd_t queue;
  size_t size;
  unsigned char *payload;
};

static void write_limit(const char *path, unsigned long value) {
  FILE *file = fopen(path, "we");
  if (file == NULL)
    return;
  fprintf(file, "%lu", value);
  fclose(file);
}

static void raise_limits(const struct load *load) {
  const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
  if (unshare(CLONE_NEWIPC) < 0)
    return;
  write_limit("/proc/sys/fs/mqueue/msg_max", load->bound);
  write_limit("/proc/sys/fs/mqueue/msgsize_max", SIZE_ALLOWED);
  setrlimit(RLIMIT_MSGQUEUE, &none);
}

static bool can(const struct load *load) {
  return load->size <= (geteuid() == 0 ? SIZE_ALLOWED : SIZE_UNPRIVILEGED);
}

static void *open_mq(const struct load *load, const char *name) {
  struct mq_attr attributes = { .mq_maxmsg = (long)load->bound,
                                .mq_msgsize = (long)load->size };
  struct mq *self = check_memory(calloc(1, sizeof *self));
  raise_limits(load);
  do {
    self->queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    attributes.mq_maxmsg /= 2;
  } while (self->queue == (mqd_t)-1 && attributes.mq_maxmsg > 0);
  if (self->queue == (mqd_t)-1)
    err(EXIT_FAILURE, "mq_open");
  mq_unlink(name);
  self->size = load->size;
  self->payload = check_memory(calloc(1, load->size));
  return self;
}

LOOP_INLINE void send_mq(void *channel, uint32_t producer, uint64_t number) {
  struct mq *self = channel;
  message_write(self->payload, self->size, producer, number);
  if (mq_send(self->queue, (char *)self->payload, self->size, 0) < 0)
    err(EXIT_FAILURE, "mq_send");
}

LOOP_INLINE struct message_head receive_mq(void *channel) {
  struct mq *self = channel;
  ssize_t n = mq_receive(self->queue, (char *)self->payload, self->size, NULL);
  if (n < 0)
    err(EXIT_FAILURE, "mq_receive");
  return message_read(self->payload, (size_t)n, self->size);
}

LOOP_DEFINE(send_mq, receive_mq)

static void close_mq(void *channel) {
  struct mq *self = channel;
  mq_close(self->queue);
  free(self->payload);
  free(self);
}

const struct peer peer_mq = {
  .name = "mq",
  .label = "POSIX mq",
  .can = can,
  .open = open_mq,
  .send = send_mq,
  .receive = receive_mq,
  .produce = produce,
  .consume = consume,
  .close = close_mq,
};
