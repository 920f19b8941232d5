/* The judge: the parent of the workers, who leads an epoch from its beginning to the checks. */
#ifndef FORKQ_CRASH_JUDGE_H
#define FORKQ_CRASH_JUDGE_H

#include "book.h"

/* Runs the epoch of the book, in a process of its own, until as many have died as planned;
 * with `end_ns`, until then. What went wrong is in the book. */
void judge_epoch(struct book *book, int64_t end_ns);

#endif
