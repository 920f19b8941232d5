/* The items of a loop queue: a ring, a stack, or a heap. The struct is in the public header,
 * because the user provides the queue's memory. */
#ifndef FORKQ_LOOP_ITEMS_H
#define FORKQ_LOOP_ITEMS_H

#include <forkq/loop_queue.h>

enum forkq__loop_items_kind {
  FORKQ__LOOP_ITEMS_FIFO,
  FORKQ__LOOP_ITEMS_LIFO,
  FORKQ__LOOP_ITEMS_PRIORITY /* ordered by compare_ */
};

/* Makes sure that there is room for `capacity` items in all. Returns 0, or -ENOMEM with
 * nothing changed. */
int forkq__loop_items_reserve(struct forkq_loop_queue_items_ *items, size_t capacity);

/* Adds an item. The caller has made sure of room. */
void forkq__loop_items_add(struct forkq_loop_queue_items_ *items, void *item);

/* Takes the next item. The caller has made sure that there is one. */
void *forkq__loop_items_take(struct forkq_loop_queue_items_ *items);

/* Frees the memory, whatever items are in it. */
void forkq__loop_items_free(struct forkq_loop_queue_items_ *items);

#endif
