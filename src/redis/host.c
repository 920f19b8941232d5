/* For the shared library: the heap is libforkq's, which the program may have set. */
#include "redis/host.h"

#include "base/heap.h"

#include <string.h>

void *forkq__malloc(size_t size) {
  return forkq__host()->malloc(size);
}

void *forkq__calloc(size_t size) {
  void *memory = forkq__malloc(size);
  if (memory != NULL)
    memset(memory, 0, size);
  return memory;
}

void *forkq__realloc(void *memory, size_t size) {
  return forkq__host()->realloc(memory, size);
}

void forkq__free(void *memory) {
  forkq__host()->free(memory);
}
