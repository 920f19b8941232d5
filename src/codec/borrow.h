/* What an item has besides the memory of its own. */
#ifndef FORKQ_BORROW_H
#define FORKQ_BORROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a get asks for besides; and the bytes that an item borrows, instead of having a copy. They are in use
 * until `end` is called. */
struct forkq__borrow {
  bool wanted; /* the get may borrow */
  /* Not NULL: says 0 if the get takes a message of `size` bytes that begins with these, or the error with
   * which the message stays. With the read lock. */
  int (*check)(struct forkq__borrow *borrow, const uint8_t *head, size_t size);
  /* False: the bytes may have changed while they were in use. NULL: it has borrowed nothing. */
  bool (*end)(struct forkq__borrow *borrow);
};

/* Returns false if what was borrowed may have changed while it was in use. */
bool forkq__borrow_end(struct forkq__borrow *borrow);

#endif
