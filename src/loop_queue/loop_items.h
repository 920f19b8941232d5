/* The items of a loop queue: a ring, a stack, or a heap. Its struct is in the public header,
 * as the queue's memory is the user's. */
#ifndef FORKQ_LOOP_ITEMS_H
#define FORKQ_LOOP_ITEMS_H

#include <forkq/loop_queue.h>

enum forkq__loop_items_kind {
  FORKQ__LOOP_ITEMS_FIFO,
  FORKQ__LOOP_ITEMS_LIFO,
  FORKQ__LOOP_ITEMS_PRIORITY /* by compare_ */
};

/* Makes sure of room for that many items in all. 0, or -ENOMEM with nothing changed. */
int forkq__loop_items_reserve(struct forkq_loop_queue_items_ *items, size_t capacity);

/* Adds an item; there is room for it. */
void forkq__loop_items_add(struct forkq_loop_queue_items_ *items, void *item);

/* Takes the item that is next; there is one. */
void *forkq__loop_items_take(struct forkq_loop_queue_items_ *items);

/* Gives back the memory, whatever is in it. */
void forkq__loop_items_free(struct forkq_loop_queue_items_ *items);

#endif
