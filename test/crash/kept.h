/* Items that a worker has borrowed and keeps for a while: they stay as they were, whoever dies. */
#ifndef FORKQ_CRASH_KEPT_H
#define FORKQ_CRASH_KEPT_H

#include "book.h"

#define KEPT_MAX 4

struct kept {
  struct {
    forkq_item_t item;
    uint32_t by, seq; /* whose it was, and its number; 0: none */
  } place[KEPT_MAX];
};

/* Borrows an item into a place, whose last item ends; that is checked before. *ret_item is the item. Returns
 * as the get. check: all of them; what has changed is a failure in the book. drop: ends all, unchecked. */
int kept_borrow(struct kept *kept, struct book *book, uint32_t place, int timeout_ms,
                forkq_item_t **ret_item);
void kept_check(const struct kept *kept, struct book *book);
void kept_drop(struct kept *kept);

#endif
