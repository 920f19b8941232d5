#include "segment.h"

#include "os.h"

void forkq__segment_unmap(struct forkq__segment *segment) {
  forkq__os_memory_unmap(segment, sizeof *segment);
}

static int init(struct forkq__segment *segment) {
  int r = forkq__channel_init(&segment->channel);
  if (r == 0)
    r = forkq__ledger_init(&segment->ledger);
  return r;
}

int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd) {
  void *memory;
  int fd = forkq__os_memory_create("forkq", sizeof(struct forkq__segment));
  if (fd < 0)
    return fd;
  int r = forkq__os_memory_map(fd, sizeof(struct forkq__segment), &memory);
  if (r < 0)
    goto err_close;
  r = init(memory);
  if (r < 0)
    goto err_unmap;
  *ret_segment = memory;
  *ret_fd = fd;
  return 0;
err_unmap:
  forkq__segment_unmap(memory);
err_close:
  forkq__os_close(fd);
  return r;
}
