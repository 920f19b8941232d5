#include "fuzz.h"

#include <forkq/base.h>
#include <malloc.h>

uint64_t fuzz_number(struct fuzz_input *input, size_t bytes) {
  uint64_t number = 0;
  for (; bytes > 0; bytes--) {
    number = number << 8 | (input->size > 0 ? *input->data : 0);
    input->data += input->size > 0;
    input->size -= input->size > 0;
  }
  return number;
}

struct fuzz_input fuzz_take(struct fuzz_input *input, uint64_t size) {
  struct fuzz_input taken = { input->data,
                              size < input->size ? (size_t)size : input->size };
  input->data += taken.size;
  input->size -= taken.size;
  return taken;
}

/* ---- memory -------------------------------------------------------------------------- */

static _Thread_local bool counting;
static _Thread_local long long live, peak;

static void count(long long bytes) {
  if (!counting)
    return;
  live += bytes;
  if (live > peak)
    peak = live;
}

static void *heap_malloc(size_t size, void *arg) {
  (void)arg;
  void *memory = malloc(size);
  count((long long)malloc_usable_size(memory));
  return memory;
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  count(-(long long)malloc_usable_size(memory));
  void *moved = realloc(memory, size);
  count((long long)malloc_usable_size(moved));
  return moved;
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  count(-(long long)malloc_usable_size(memory));
  free(memory);
}

/* The sanitizers' own (sanitizer/allocator_interface.h), where there is one. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *,
                                                                size_t),
                                              void (*on_free)(const volatile void *))
    __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *memory) __attribute__((weak));

static void on_malloc(const volatile void *memory, size_t size) {
  (void)memory;
  count((long long)size);
}

static void on_free(const volatile void *memory) {
  if (memory != NULL)
    count(-(long long)__sanitizer_get_allocated_size(memory));
}

static void install(void) {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  static bool installed;
  if (installed)
    return;
  installed = true;
  if (__sanitizer_install_malloc_and_free_hooks == NULL ||
      __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) == 0)
    forkq_heap_set(&heap);
}

void fuzz_memory_begin(void) {
  install();
  live = peak = 0;
  counting = true;
}

size_t fuzz_memory_peak(void) {
  counting = false;
  return (size_t)peak;
}
