/* Shared memory for the tests of the ledger and of what stands on it. */
#ifndef FORKQ_TEST_LEDGER_HELPERS_H
#define FORKQ_TEST_LEDGER_HELPERS_H

#include "shared/ledger.h"

/* All zero, and how a process shows in it that it lives. */
void *make_memory(struct forkq__liveness *liveness, size_t size);
void drop_memory(struct forkq__liveness *liveness, size_t size);

#endif
