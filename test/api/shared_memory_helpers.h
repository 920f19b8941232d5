/* What the tests of messages beside the pipe have in common. */
#ifndef FORKQ_TEST_SHARED_MEMORY_HELPERS_H
#define FORKQ_TEST_SHARED_MEMORY_HELPERS_H

#include "queue/queue_impl.h"
#include "queue_helpers.h"

#define PATIENCE_MS 10000
#define LEAST FORKQ__BESIDE_MIN
#define MIB (1u << 20)

/* A queue in the place of that of the fixture, with so much shared memory. */
void create_with_limit(size_t bytes);

/* Bytes of packets that were sent; shared memory that is there. */
uint64_t wire(void);
int64_t held(void);

/* Also in a child. Puts a bin: whether it went beside the pipe. Gets one. */
bool goes_beside(size_t size);
void must_get_bin(size_t size);

/* Packs a bin, `size` of size_t, in two parts. */
int pack_bin(msgpack_packer *packer, void *size);

/* From now on this process has address space for some stacks and items, and for no arena; as far as the
 * sanitizers allow. */
void limit_address_space(void);

/* A case whose fixture is a queue without limit. */
TCase *add_case(Suite *suite, const char *name);

#endif
