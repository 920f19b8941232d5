/* The items of a loop queue, in one array that doubles when it is full: a ring for FIFO, the
 * same ring used as a stack for LIFO, a binary heap for priorities. */
#include "loop_queue/loop_items.h"

#include "base/heap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CAPACITY_MIN 16

typedef struct forkq_loop_queue_items_ items_t;

/* An entry of the heap. Equal items are ordered by their arrival, so that the heap is stable. */
struct entry {
  void *item;
  uint64_t order;
};

/* ---- ring and stack: the stack is a ring whose first place stays the first ---------- */

static void **place(const items_t *items, size_t index) {
  void **ring = items->memory_;
  return &ring[(items->first_ + index) & (items->capacity_ - 1)];
}

static void *take_first(items_t *items) {
  void *item = *place(items, 0);
  items->first_ = (items->first_ + 1) & (items->capacity_ - 1);
  items->count_--;
  return item;
}

/* Unwraps a ring that has grown. Items that had wrapped to the front of the old memory move
 * after its old end. The ring has at least doubled, so there is room. */
static void unwrap(items_t *items, size_t old_capacity) {
  void **ring = items->memory_;
  size_t end = items->first_ + items->count_;
  if (end > old_capacity)
    memcpy(&ring[old_capacity], ring, (end - old_capacity) * sizeof *ring);
}

/* ---- heap: no entry comes after one of its children, 2i + 1 and 2i + 2 -------------- */

static bool is_before(const items_t *items, const struct entry *a,
                      const struct entry *b) {
  int difference = items->compare_(a->item, b->item, items->compare_arg_);
  return difference < 0 || (difference == 0 && a->order < b->order);
}

static void heap_add(items_t *items, struct entry added) {
  struct entry *heap = items->memory_;
  size_t i = items->count_++;
  for (size_t parent; i > 0; i = parent) {
    parent = (i - 1) / 2;
    if (!is_before(items, &added, &heap[parent]))
      break;
    heap[i] = heap[parent];
  }
  heap[i] = added;
}

static void *heap_take(items_t *items) {
  struct entry *heap = items->memory_;
  void *item = heap[0].item;
  size_t count = --items->count_;
  struct entry last = heap[count];
  size_t i = 0;
  for (size_t child; (child = 2 * i + 1) < count; i = child) {
    if (child + 1 < count && is_before(items, &heap[child + 1], &heap[child]))
      child++;
    if (!is_before(items, &heap[child], &last))
      break;
    heap[i] = heap[child];
  }
  heap[i] = last;
  return item;
}

/* ---- all three ---------------------------------------------------------------------- */

int forkq__loop_items_reserve(items_t *items, size_t capacity) {
  size_t old = items->capacity_, new = old > 0 ? old : CAPACITY_MIN;
  size_t size =
      items->kind_ == FORKQ__LOOP_ITEMS_PRIORITY ? sizeof(struct entry) : sizeof(void *);
  if (capacity <= old)
    return 0;
  if (capacity > SIZE_MAX / 2 / size)
    return -ENOMEM;
  while (new < capacity)
    new *= 2;
  void *memory = items->memory_ != NULL ? forkq__realloc(items->memory_, new *size)
                                        : forkq__malloc(new *size);
  if (memory == NULL)
    return -ENOMEM;
  items->memory_ = memory;
  items->capacity_ = new;
  if (items->kind_ == FORKQ__LOOP_ITEMS_FIFO)
    unwrap(items, old);
  return 0;
}

void forkq__loop_items_add(items_t *items, void *item) {
  if (items->kind_ == FORKQ__LOOP_ITEMS_PRIORITY)
    heap_add(items, (struct entry){ item, items->order_++ });
  else
    *place(items, items->count_++) = item;
}

void *forkq__loop_items_take(items_t *items) {
  switch (items->kind_) {
  case FORKQ__LOOP_ITEMS_FIFO:
    return take_first(items);
  case FORKQ__LOOP_ITEMS_LIFO:
    return *place(items, --items->count_);
  default:
    return heap_take(items);
  }
}

void forkq__loop_items_free(items_t *items) {
  forkq__free(items->memory_);
  items->memory_ = NULL;
  items->capacity_ = items->first_ = items->count_ = 0;
}
