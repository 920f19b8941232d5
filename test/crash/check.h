/* The promises, checked exactly against the book when an epoch has come to rest. */
#ifndef FORKQ_CRASH_CHECK_H
#define FORKQ_CRASH_CHECK_H

#include "book.h"

/* Bounds of a number of which the book is in doubt about some. */
struct range {
  uint64_t low;
  uint64_t high;
};

/* Items of survivors arrived, those of the dead up to a point, in order, and no more are
 * missing than the dead had in their hands. */
void check_items(struct book *book);

/* What the queue's own statistics say of all this. */
void check_statistics(struct book *book);

/* Tasks that nobody has done: got by processes that have ended, and not done by their children. */
struct range check_abandoned(const struct book *book);

#endif
