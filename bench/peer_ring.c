/* A ring of fixed slots in shared memory, with a mutex for each side and a futex for those
 * that find it empty or full: one copy in, one copy out, no system call while it is neither.
 * It neither packs nor survives a death. Close to the limit of any queue that takes a lock
 * for each message; and the same with one lock for up to 64 messages. */
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

#define BATCH 64

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

static unsigned char *slot_of(const struct ring *self, uint64_t position) {
  return self->shared->slots + position % self->slots * self->size;
}

LOOP_INLINE void send_ring(void *channel, uint32_t producer, uint64_t number) {
  struct ring *self = channel;
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  message_write(self->payload, self->size, producer, number);
  pthread_mutex_lock(&head->mutex);
  uint64_t at = atomic_load_explicit(&head->position, memory_order_relaxed);
  if (at >= self->slots)
    wait_beyond(tail, at - self->slots);
  memcpy(slot_of(self, at), self->payload, self->size);
  advance(head, at + 1);
  pthread_mutex_unlock(&head->mutex);
}

LOOP_INLINE struct message_head receive_ring(void *channel) {
  struct ring *self = channel;
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  pthread_mutex_lock(&tail->mutex);
  uint64_t at = atomic_load_explicit(&tail->position, memory_order_relaxed);
  wait_beyond(head, at);
  memcpy(self->payload, slot_of(self, at), self->size);
  advance(tail, at + 1);
  pthread_mutex_unlock(&tail->mutex);
  return message_read(self->payload, self->size, self->size);
}

LOOP_DEFINE(send_ring, receive_ring)

/* ---- batches ----------------------------------------------------------------------- */

/* As many as there is room for, at least one; returns how many. */
static size_t send_some(struct ring *self, const unsigned char *messages, size_t count) {
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  pthread_mutex_lock(&head->mutex);
  uint64_t at = atomic_load_explicit(&head->position, memory_order_relaxed);
  if (at >= self->slots)
    wait_beyond(tail, at - self->slots);
  uint64_t taken = atomic_load_explicit(&tail->position, memory_order_acquire);
  size_t room = (size_t)(taken + self->slots - at);
  count = count < room ? count : room;
  for (size_t i = 0; i < count; i++)
    memcpy(slot_of(self, at + i), messages + i * self->size, self->size);
  advance(head, at + count);
  pthread_mutex_unlock(&head->mutex);
  return count;
}

static void produce_batches(void *channel, struct party *party) {
  struct ring *self = channel;
  unsigned char *messages = check_memory(calloc(BATCH, self->size));
  for (uint64_t number = 0; number < party->load->messages;) {
    size_t count = 0;
    for (; count < BATCH && number < party->load->messages; count++)
      message_write(messages + count * self->size, self->size, party->index, ++number);
    for (size_t done = 0; done < count;)
      done += send_some(self, messages + done * self->size, count - done);
  }
  for (unsigned i = 0; i < party->load->consumers; i++)
    send_ring(self, MESSAGE_LAST, 0);
  free(messages);
}

static bool is_last(const unsigned char *message) {
  struct message_head head;
  memcpy(&head, message, sizeof head);
  return head.producer == MESSAGE_LAST;
}

/* As many as there are, at least one, and none behind one that says the end: the next such
 * may be for another consumer. */
static size_t receive_some(struct ring *self, unsigned char *messages) {
  struct ring_side *head = &self->shared->head, *tail = &self->shared->tail;
  size_t count = 0;
  pthread_mutex_lock(&tail->mutex);
  uint64_t at = atomic_load_explicit(&tail->position, memory_order_relaxed);
  wait_beyond(head, at);
  uint64_t end = atomic_load_explicit(&head->position, memory_order_acquire);
  for (bool last = false; count < BATCH && at + count < end && !last; count++) {
    unsigned char *message = messages + count * self->size;
    memcpy(message, slot_of(self, at + count), self->size);
    last = is_last(message);
  }
  advance(tail, at + count);
  pthread_mutex_unlock(&tail->mutex);
  return count;
}

static void consume_batches(void *channel, struct party *party) {
  struct ring *self = channel;
  unsigned char *messages = check_memory(calloc(BATCH, self->size));
  uint64_t timed = 0;
  for (unsigned left = party->load->producers; left > 0;) {
    size_t count = receive_some(self, messages);
    for (size_t i = 0; i < count; i++) {
      struct message_head head =
          message_read(messages + i * self->size, self->size, self->size);
      if (head.producer == MESSAGE_LAST)
        left--;
      else
        loop_count(party, &head);
    }
    if (is_last(messages + (count - 1) * self->size) && party->tally->count > timed) {
      timed = party->tally->count;
      party->tally->end = now();
    }
  }
  free(messages);
}

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

const struct peer peer_ring_batch = {
  .name = "ring_batch",
  .label = "shared-memory ring, mutex, batches of 64",
  .open = open_ring,
  .produce = produce_batches,
  .consume = consume_batches,
  .close = close_ring,
};
