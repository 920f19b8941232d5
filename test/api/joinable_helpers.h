/* A joinable queue, and brief ways to use it. */
#ifndef FORKQ_TEST_JOINABLE_HELPERS_H
#define FORKQ_TEST_JOINABLE_HELPERS_H

#include "queue_helpers.h"

/* A fixture; queue_tear_down is its end. Or another queue instead. */
void set_up(void);
void create(int64_t maxsize);

int done(void);
int join(int timeout_ms);

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
void assert_joined(uint64_t expected);

#endif
