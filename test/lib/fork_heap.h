/* What forks beside threads that allocate need under AddressSanitizer. */
#ifndef FORKQ_TEST_FORK_HEAP_H
#define FORKQ_TEST_FORK_HEAP_H

#include "support.h"

/* Before anything else, in main. The sanitizer's allocator does not come whole through such a
 * fork: in the child its locks stay locked. The C library's does, and so all that forkq allocates
 * is that one's then. What is missing in a child, the leak checker would find leaking: it is off in
 * a program that calls this. */
void use_heap_that_forks(void);

/* There it waits until the feeder of this process sleeps, or has ended: a thread that begins
 * allocates in the sanitizer. */
void await_feeder(void);

#endif
