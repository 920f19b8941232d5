#include "ledger_helpers.h"

#include "base/os.h"
#include "support.h"

#include <unistd.h>

void *make_memory(struct forkq__liveness *liveness, size_t size) {
  void *memory;
  forkq__liveness_init(liveness);
  liveness->memory_fd = forkq__os_memory_create("test", size, 0);
  ck_assert_int_ge(liveness->memory_fd, 0);
  ck_assert_int_eq(forkq__os_identity(liveness->memory_fd, &liveness->identity), 0);
  ck_assert_int_eq(forkq__os_memory_map(liveness->memory_fd, 0, size, &memory), 0);
  liveness->base = memory;
  return memory;
}

void drop_memory(struct forkq__liveness *liveness, size_t size) {
  forkq__liveness_end(liveness);
  forkq__os_memory_unmap((void *)(uintptr_t)liveness->base, size);
  close(liveness->memory_fd);
}
