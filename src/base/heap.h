/* Memory. forkq allocates everything through these functions, except the zones of msgpack-c. So
 * a program can install its own allocator, and a test can make the k-th request fail. */
#ifndef FORKQ_HEAP_H
#define FORKQ_HEAP_H

#include <stddef.h>

void *forkq__malloc(size_t size);
void *forkq__calloc(size_t size);
void *forkq__realloc(void *memory, size_t size);
void forkq__free(void *memory);

#endif
