/* Deaths between the steps of a source that a test builds in: the test includes this, then the source.
 * A step is a store that other processes see, or a system call on the pipe or the memory. A process
 * makes `steps_left` more of them, and is killed before the next one. If `steps_left` is negative, it
 * is not killed. */
#ifndef FORKQ_TEST_DYING_H
#define FORKQ_TEST_DYING_H

#include "base/atomics.h"
#include "base/os.h"

#include <signal.h>

static int steps_left = -1;

static inline void step(void) {
  if (steps_left == 0)
    raise(SIGKILL);
  steps_left -= steps_left > 0;
}

#undef FORKQ__STORE
#define FORKQ__STORE(field, value)                                                       \
  (step(), atomic_store_explicit(&(field), (value), memory_order_release))
#undef atomic_store
#define atomic_store(field, value)                                                       \
  (step(), atomic_store_explicit(field, value, memory_order_seq_cst))

static inline ssize_t read_or_die(int fd, void *data, size_t size) {
  step();
  return forkq__os_read(fd, data, size);
}

static inline ssize_t write_or_die(int fd, const void *data, size_t size) {
  step();
  return forkq__os_write(fd, data, size);
}

static inline void release_or_die(int fd, int64_t offset, int64_t size) {
  step();
  forkq__os_memory_release(fd, offset, size);
}

#define forkq__os_read read_or_die
#define forkq__os_write write_or_die
#define forkq__os_memory_release release_or_die

#endif
