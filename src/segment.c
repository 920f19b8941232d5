#include "segment.h"

#include "os.h"

#include <forkq/base.h>
#include <stdbool.h>

void forkq__segment_unmap(struct forkq__segment *segment) {
  forkq__os_memory_unmap(segment, sizeof *segment);
}

static int init(struct forkq__segment *segment) {
  int r = forkq__channel_init(&segment->channel);
  if (r == 0)
    r = forkq__ledger_init(&segment->ledger);
  segment->head.layout = FORKQ__SEGMENT_LAYOUT;
  segment->head.lock_size = sizeof(pthread_mutex_t);
  segment->head.size = sizeof *segment;
  if (r == 0)
    atomic_store(&segment->head.magic, FORKQ__SEGMENT_MAGIC);
  return r;
}

static int check(const struct forkq__segment_head *head) {
  if (atomic_load(&head->magic) != FORKQ__SEGMENT_MAGIC)
    return FORKQ_EHANDOVER;
  bool same = head->layout == FORKQ__SEGMENT_LAYOUT &&
              head->lock_size == sizeof(pthread_mutex_t) &&
              head->size == sizeof(struct forkq__segment);
  return same ? 0 : FORKQ_EVERSION;
}

int forkq__segment_open(struct forkq__segment **ret_segment, int fd) {
  void *memory;
  /* The identity comes before the size: that of another version differs. */
  struct forkq__segment_head head;
  if (forkq__os_memory_read(fd, &head, sizeof head, 0) < 0)
    return FORKQ_EHANDOVER;
  int r = check(&head);
  if (r == 0)
    r = forkq__os_memory_check(fd, sizeof(struct forkq__segment));
  if (r < 0)
    return r;
  r = forkq__os_memory_map(fd, sizeof(struct forkq__segment), &memory);
  if (r < 0)
    return r;
  *ret_segment = memory;
  return 0;
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
