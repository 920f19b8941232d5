/* A queue without a limit, and bins that go through it. */
#ifndef FORKQ_TEST_QUEUE_FIXTURE_H
#define FORKQ_TEST_QUEUE_FIXTURE_H

#include "queue_helpers.h"

/* A fixture; queue_tear_down is its end. Or a queue with a limit instead. */
void set_up(void);
void set_maxsize(int64_t maxsize);

/* After an error: an item still goes through, and nothing else does. */
void assert_usable(void);

/* msgpack bin 32 of `size` bytes in all, filled so that a shift by a byte shows; the caller frees
 * it. */
char *bin_of(size_t size);

#endif
