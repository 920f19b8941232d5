/* The allocator hook: the program's functions, or those of the C library. */
#include "base/heap.h"

#include <forkq/base.h>
#include <stdlib.h>
#include <string.h>

static void *libc_malloc(size_t size, void *arg) {
  (void)arg;
  return malloc(size);
}

static void *libc_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  return realloc(memory, size);
}

static void libc_free(void *memory, void *arg) {
  (void)arg;
  free(memory);
}

static const forkq_heap_t libc_heap = { libc_malloc, libc_realloc, libc_free, NULL };
static forkq_heap_t heap = { libc_malloc, libc_realloc, libc_free, NULL };

void forkq_heap_set(const forkq_heap_t *new_heap) {
  heap = new_heap != NULL ? *new_heap : libc_heap;
}

void *forkq__malloc(size_t size) {
  return heap.malloc(size, heap.arg);
}

void *forkq__calloc(size_t size) {
  void *memory = forkq__malloc(size);
  if (memory != NULL)
    memset(memory, 0, size);
  return memory;
}

void *forkq__realloc(void *memory, size_t size) {
  return heap.realloc(memory, size, heap.arg);
}

void forkq__free(void *memory) {
  if (memory != NULL)
    heap.free(memory, heap.arg);
}
