/* A ring of fixed slots in shared memory, with a mutex for each side and a futex for those
 * that find it empty or full: one copy in, one copy out, no system call while it is neither.
 * It neither packs nor survives a death. Close to the limit of any queue that takes a lock
 * for each message. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop.h"

/* Each side has its own cache lines. `event` is what the other side sleeps on, at most one of
 * it, as it holds the lock of its side meanwhile: twice the position, and 1 if it sleeps.
 * The step clears the 1, so that one sleep costs one wake-up, however many messages come
 * until it runs; and both are one word, as a 1 set for the next sleep must not be cleared by
 * the step before. */
struct ring_side {
  _Alignas(128) pthread_mutex_t mutex;
  _Atomic uint64_t position;
  _Alignas(128) _Atomic uint32_t event;
};

struct ring_shared {
  struct ring_side head, tail; /* where it is written, where it is read */
  _Alignas(128) unsigned char slots[];
};

struct ring {
  struct ring_shared *shared;
  size_t size, slots, mapped;
  unsigned char *payload;
};

static void make_side(struct ring_side *side) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&side->mutex, &attributes);
}

static void *open_ring(const struct load *load, const char *name) {
  (void)name;
  struct ring *self = check_memory(calloc(1, sizeof *self));
  self->size = load->size;
  self->slots = load->bound;
  self->mapped = sizeof *self->shared + self->size * self->slots;
  self->shared = shared_memory(self->mapped);
  self->payload = check_memory(calloc(1, load->size));
  make_side(&self->shared->head);
  make_side(&self->shared->tail);
  return self;
}

static void wait_for_event(struct ring_side *side, uint32_t event) {
  if (atomic_compare_exchange_strong(&side->event, &event, event | 1) &&
      syscall(SYS_futex, &side->event, FUTEX_WAIT, event | 1, NULL, NULL, 0) < 0 &&
      errno != EAGAIN && errno != EINTR)
    err(EXIT_FAILURE, "futex");
}

/* The caller has the lock of the side. */
static void advance(struct ring_side *side, uint64_t position) {
  atomic_store_explicit(&side->position, position, memory_order_release);
  if (atomic_exchange(&side->event, (uint32_t)position << 1) & 1)
    syscall(SYS_futex, &side->event, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Waits until the other side is further than `position`. */
static void wait_beyond(struct ring_side *other, uint64_t position) {
  for (;;) {
    uint32_t event = atomic_load(&other->event);
    if (atomic_load_explicit(&other->position, memory_order_acquire) > position)
      return;
    wait_for_event(other, event);
  }
}

LOOP_INLINE void send_ring(void *channel, uint32_t producer, uint64_t number) {
  struct ring *self = channel;
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  message_write(self->payload, self->size, producer, number);
  pthread_mutex_lock(&head->mutex);
  uint64_t at = atomic_load_explicit(&head->position, memory_order_relaxed);
  if (at >= self->slots)
    wait_beyond(tail, at - self->slots);
  memcpy(self->shared->slots + at % self->slots * self->size, self->payload, self->size);
  advance(head, at + 1);
  pthread_mutex_unlock(&head->mutex);
}

LOOP_INLINE struct message_head receive_ring(void *channel) {
  struct ring *self = channel;
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  pthread_mutex_lock(&tail->mutex);
  uint64_t at = atomic_load_explicit(&tail->position, memory_order_relaxed);
  wait_beyond(head, at);
  memcpy(self->payload, self->shared->slots + at % self->slots * self->size, self->size);
  advance(tail, at + 1);
  pthread_mutex_unlock(&tail->mutex);
  return message_read(self->payload, self->size, self->size);
}

LOOP_DEFINE(send_ring, receive_ring)

static void close_ring(void *channel) {
  struct ring *self = channel;
  munmap(self->shared, self->mapped);
  free(self->payload);
  free(self);
}

const struct peer peer_ring = {
  .name = "ring",
  .label = "shared-memory ring, mutex",
  .open = open_ring,
  .send = send_ring,
  .receive = receive_ring,
  .produce = produce,
  .consume = consume,
  .close = close_ring,
};
