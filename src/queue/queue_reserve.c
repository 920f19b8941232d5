/* Reserving: a message that the program writes straight into the piece from which readers copy it.
 *
 * A reservation is memory only. Its message takes a slot, and its place in the order, when it is
 * committed. So a process that dies, or forgets it, holds nobody up. */
#include "queue/queue_impl.h"

#include "base/heap.h"
#include "codec/serializer.h"

#include <errno.h>
#include <pthread.h>

struct forkq__reservation {
  TAILQ_ENTRY(forkq__reservation) entry;
  struct forkq__outbox draft;
  char *memory;
  uint32_t size;
  bool is_piece; /* of the arena, which the draft has; else the memory is the heap's */
  _Atomic bool busy; /* a call commits or ends it */
};

static void free_reservation(struct forkq__reservation *reservation) {
  if (!reservation->is_piece)
    forkq__free(reservation->memory);
  forkq__outbox_fini(&reservation->draft);
  forkq__free(reservation);
}

static struct forkq__reservation *new_reservation(uint32_t size) {
  struct forkq__reservation *reservation = forkq__calloc(sizeof *reservation);
  if (reservation != NULL)
    reservation->size = size;
  return reservation;
}

/* Why nothing could be put: 0, or an error. */
static int check_open(forkq_queue_t *queue) {
  if (atomic_load(&queue->channel.puts_closed))
    return FORKQ_ECLOSED;
  return forkq__queue_is_shut(queue) ? FORKQ_ESHUTDOWN : 0;
}

/* Lends the draft a piece, if it is large enough and there is room. */
static int lend(forkq_queue_t *queue, struct forkq__reservation *reservation) {
  struct forkq__sender *sender = &queue->feeder.sender;
  if (reservation->size < FORKQ__BESIDE_MIN)
    return 0;
  int r = forkq__sender_lock(sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  forkq__sender_lend(sender, &reservation->draft, reservation->size);
  forkq__sender_unlock(sender);
  return 0;
}

/* Gives the reservation its memory. */
static int equip(forkq_queue_t *queue, struct forkq__reservation *reservation) {
  struct forkq__outbox *draft = &reservation->draft;
  int r = lend(queue, reservation);
  if (r < 0)
    return r;
  reservation->is_piece = draft->loan != NULL;
  if (reservation->is_piece) {
    reservation->memory = (char *)draft->loan->memory;
    return forkq__outbox_begin(draft, queue->channel.max_message);
  }
  reservation->memory = forkq__malloc(reservation->size);
  return reservation->memory == NULL ? -ENOMEM : 0;
}

static int add(forkq_queue_t *queue, struct forkq__reservation *reservation) {
  int r = forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER);
  if (r < 0)
    return r;
  TAILQ_INSERT_TAIL(&queue->reservations, reservation, entry);
  forkq__sender_unlock(&queue->feeder.sender);
  return 0;
}

/* With the mutex. */
static struct forkq__reservation *find(forkq_queue_t *queue, const void *memory) {
  struct forkq__reservation *reservation;
  TAILQ_FOREACH(reservation, &queue->reservations, entry) {
    if (reservation->memory == memory && !FORKQ__LOAD(reservation->busy))
      return reservation;
  }
  return NULL;
}

/* Makes the reservation the caller's alone. NULL, and an error, if it is not to be had. */
static struct forkq__reservation *take(forkq_queue_t *queue, const void *memory,
                                       int64_t deadline, int *ret_error) {
  *ret_error = forkq__queue_lock_to_put(queue, deadline);
  if (*ret_error < 0)
    return NULL;
  struct forkq__reservation *reservation = find(queue, memory);
  if (reservation != NULL)
    FORKQ__STORE(reservation->busy, true);
  else
    *ret_error = -EINVAL;
  forkq__sender_unlock(&queue->feeder.sender);
  return reservation;
}

/* Frees it. If a signal handler keeps another thread from giving the mutex back, destroy frees it. */
static void end(forkq_queue_t *queue, struct forkq__reservation *reservation) {
  if (forkq__sender_lock(&queue->feeder.sender, FORKQ__NOWAIT) != 0)
    return;
  TAILQ_REMOVE(&queue->reservations, reservation, entry);
  forkq__sender_unlock(&queue->feeder.sender);
  free_reservation(reservation);
}

int forkq_queue_reserve(forkq_queue_t *queue, size_t size, void **ret_memory) {
  if (queue == NULL || ret_memory == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r == 0)
    r = check_open(queue);
  if (r == 0 && (size == 0 || size > queue->channel.max_message))
    r = size == 0 ? FORKQ_ERANGE : FORKQ_ETOOBIG;
  if (r < 0)
    return r;
  struct forkq__reservation *reservation = new_reservation((uint32_t)size);
  if (reservation == NULL)
    return -ENOMEM;
  r = equip(queue, reservation);
  if (r == 0)
    r = add(queue, reservation);
  if (r < 0)
    free_reservation(reservation);
  else
    *ret_memory = reservation->memory;
  return r;
}

/* The piece becomes the message's when its slot is taken. */
static int put_piece(forkq_queue_t *queue, struct forkq__reservation *reservation,
                     uint32_t size, int64_t deadline) {
  struct forkq__outbox *draft = &reservation->draft;
  int r = forkq__queue_lock_with_slot(queue, deadline);
  if (r < 0)
    return r;
  draft->open.size = size;
  forkq__outbox_commit(draft);
  r = forkq__queue_send_draft(queue, draft);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

/* Whether the bytes can be put: 0, or why not. After a close the piece is empty. */
static int check(const struct forkq__reservation *reservation, size_t size) {
  const struct forkq__loan *loan = reservation->draft.loan;
  if (size > reservation->size)
    return FORKQ_ETOOBIG;
  if (reservation->is_piece && loan == NULL)
    return FORKQ_ECLOSED;
  int r = forkq__scan(reservation->memory, size, NULL);
  int lost = loan != NULL ? forkq__loan_check(loan) : 0;
  return lost < 0 ? lost : r;
}

static int put(forkq_queue_t *queue, struct forkq__reservation *reservation, size_t size,
               int64_t deadline) {
  int r = check_open(queue);
  if (r == 0)
    r = check(reservation, size);
  if (r < 0)
    return r;
  if (reservation->is_piece)
    return put_piece(queue, reservation, (uint32_t)size, deadline);
  const struct forkq__source source = { .data = reservation->memory, .size = size };
  return forkq__queue_put_until(queue, &source, deadline);
}

/* Other calls may use the reservation again: a thread that is cancelled has not put it. */
static void give_back(void *reservation) {
  FORKQ__STORE(((struct forkq__reservation *)reservation)->busy, false);
}

int forkq_queue_commit(forkq_queue_t *queue, void *memory, size_t size, int timeout_ms) {
  int r;
  if (queue == NULL || memory == NULL)
    return FORKQ_ENULL;
  r = forkq__queue_begin_call(queue, timeout_ms);
  if (r < 0)
    return r;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  struct forkq__reservation *reservation = take(queue, memory, deadline, &r);
  if (reservation == NULL)
    return r;
  pthread_cleanup_push(give_back, reservation);
  r = put(queue, reservation, size, deadline);
  pthread_cleanup_pop(0);
  if (r < 0)
    give_back(reservation);
  else
    end(queue, reservation);
  return r;
}

int forkq_queue_abandon(forkq_queue_t *queue, void *memory) {
  if (queue == NULL || memory == NULL)
    return FORKQ_ENULL;
  int r = forkq__queue_check(queue);
  if (r < 0)
    return r;
  struct forkq__reservation *reservation = take(queue, memory, FORKQ__FOREVER, &r);
  if (reservation == NULL)
    return r;
  end(queue, reservation);
  return 0;
}

void forkq__queue_end_reservations(forkq_queue_t *queue) {
  struct forkq__reservation *reservation;
  while ((reservation = TAILQ_FIRST(&queue->reservations)) != NULL) {
    TAILQ_REMOVE(&queue->reservations, reservation, entry);
    free_reservation(reservation);
  }
}

void forkq__queue_reservations_forked(forkq_queue_t *queue) {
  if (queue->feeder.sender.forking)
    forkq__queue_end_reservations(queue);
  else
    TAILQ_INIT(&queue->reservations); /* the list may be half changed */
}
