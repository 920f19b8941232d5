#define _GNU_SOURCE
#include "fork_heap.h"

#include "support.h"

#include <forkq/base.h>

#if UNDER_ASAN

void *__libc_malloc(size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void) {
  return 1;
}

static void *libc_malloc(size_t size, void *arg) {
  (void)arg;
  return __libc_malloc(size);
}

static void *libc_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  return __libc_realloc(memory, size);
}

static void libc_free(void *memory, void *arg) {
  (void)arg;
  __libc_free(memory);
}

void use_heap_that_forks(void) {
  static const forkq_heap_t heap = { libc_malloc, libc_realloc, libc_free, NULL };
  forkq_heap_set(&heap);
}

void await_feeder(void) {
  support_until_others_asleep();
}

#else

void use_heap_that_forks(void) {}

void await_feeder(void) {}

#endif
