/* The segment: making one, and checking one that another program made. */
#define _GNU_SOURCE
#include "shared/segment.h"

#include "base/libc.h"
#include "base/os.h"
#include "shared/kept.h"

#include <forkq/base.h>
#include <forkq/item.h>
#include <stdbool.h>
#include <string.h>

void forkq__segment_unmap(struct forkq__segment *segment) {
  forkq__os_memory_unmap(segment, sizeof *segment);
}

/* The bytes of a new lock of the segment's kind, as this C library makes it. */
static int draw_new_lock(unsigned char image[FORKQ__LOCK_IMAGE]) {
  struct forkq__lock lock;
  _Static_assert(sizeof lock.mutex <= FORKQ__LOCK_IMAGE, "it fits");
  memset(&lock, 0, sizeof lock);
  int r = forkq__lock_init(&lock);
  if (r < 0)
    return r;
  memcpy(image, &lock.mutex, sizeof lock.mutex);
  pthread_mutex_destroy(&lock.mutex);
  return 0;
}

/* The properties of this program. */
static int describe(struct forkq__abi *abi) {
  memset(abi, 0, sizeof *abi);
  forkq__libc_describe(abi->libc, sizeof abi->libc);
  abi->long_size = sizeof(long);
  abi->lock_size = sizeof(pthread_mutex_t);
  abi->lock_alignment = alignof(pthread_mutex_t);
  return draw_new_lock(abi->new_lock);
}

int forkq__segment_init_channel(struct forkq__channel_shared *channel) {
  int r = forkq__lock_init(&channel->write_lock);
  if (r == 0)
    r = forkq__lock_init(&channel->read_lock);
  if (r == 0)
    r = forkq__lock_init(&channel->turn);
  return r;
}

static int init(struct forkq__segment *segment, const char *name) {
  int r = forkq__segment_init_channel(&segment->channel);
  if (r == 0)
    r = forkq__ledger_init(&segment->ledger);
  if (r == 0)
    r = describe(&segment->head.abi);
  segment->head.layout = FORKQ__SEGMENT_LAYOUT;
  segment->head.size = sizeof *segment;
  snprintf(segment->ledger.name, sizeof segment->ledger.name, "%s", name);
  if (r == 0)
    atomic_store(&segment->head.magic, FORKQ__SEGMENT_MAGIC);
  return r;
}

static int check(const struct forkq__segment_head *head) {
  struct forkq__abi abi;
  if (atomic_load(&head->magic) != FORKQ__SEGMENT_MAGIC)
    return FORKQ_EHANDOVER;
  if (head->layout != FORKQ__SEGMENT_LAYOUT ||
      head->size != sizeof(struct forkq__segment))
    return FORKQ_EVERSION;
  int r = describe(&abi);
  if (r < 0)
    return r;
  return memcmp(&abi, &head->abi, sizeof abi) == 0 ? 0 : FORKQ_EVERSION;
}

/* Whether each field that names a cell has the index of a cell. */
static bool cells_in_bounds(const struct forkq__segment *segment) {
  uint64_t word = FORKQ__LOAD(segment->ledger.word);
  uint64_t last = word & ((UINT64_C(1) << FORKQ__CELL_BITS) - 1); /* a cell + 1 */
  uint32_t taker = FORKQ__LOAD(segment->channel.taker);           /* or FORKQ__NO_CELL */
  uint32_t confirming = (uint32_t)FORKQ__LOAD(segment->ledger.confirming);
  return FORKQ__LOAD(segment->ledger.cells_used) <= FORKQ__CELLS_MAX &&
         (word == 0 || (last > 0 && last <= FORKQ__CELLS_MAX)) &&
         (taker <= FORKQ__CELLS_MAX || taker == FORKQ__NO_CELL) &&
         FORKQ__LOAD(segment->channel.take_kept) <= FORKQ__KEPT_MAX &&
         confirming <= FORKQ__KEPT_MAX;
}

static bool keeps_in_bounds(const struct forkq__segment *segment) {
  uint32_t lost_tasks = segment->ledger.lost_tasks;
  return lost_tasks == FORKQ_LOST_TASKS_COUNT ||
         (lost_tasks <= FORKQ_LOST_TASKS_REDELIVER && segment->joinable &&
          segment->max_message <= FORKQ_KEPT_MESSAGE_MAX);
}

static bool limits_in_bounds(const struct forkq__segment *segment) {
  uint64_t kept = FORKQ__LOAD(segment->channel.spill.mark) >> 32;
  return segment->max_message > 0 && segment->max_message <= FORKQ_MESSAGE_MAX &&
         segment->slots.maxsize >= 0 && segment->joinable <= 1 &&
         kept <= FORKQ_MESSAGE_MAX && keeps_in_bounds(segment);
}

/* A reader may load the next packet meanwhile. Then `offset` or `read_seq` changes, and the
 * packet passes. */
static bool packet_in_bounds(const struct forkq__segment *segment) {
  const struct forkq__channel_shared *channel = &segment->channel;
  uint64_t seq = FORKQ__LOAD(channel->read_seq);
  uint32_t offset = FORKQ__LOAD(channel->offset);
  return offset == 0 ||
         (offset <= FORKQ__PACKET_END && channel->packet.length <= FORKQ__PACKET_END &&
          channel->packet.cell < FORKQ__CELLS_MAX) ||
         offset != FORKQ__LOAD(channel->offset) || seq != FORKQ__LOAD(channel->read_seq);
}

/* Refuses damaged memory that would lead out of the segment. This is for accidents: a process
 * that has the memory can write to it later as well, and is trusted not to. */
static bool in_bounds(const struct forkq__segment *segment) {
  return cells_in_bounds(segment) && limits_in_bounds(segment) &&
         packet_in_bounds(segment);
}

int forkq__segment_open(struct forkq__segment **ret_segment, int fd) {
  void *memory;
  /* The head is checked before the size, because another version has another size. */
  struct forkq__segment_head head;
  if (forkq__os_memory_read(fd, &head, sizeof head, 0) < 0)
    return FORKQ_EHANDOVER;
  int r = check(&head);
  if (r == 0)
    r = forkq__os_memory_check(fd, sizeof(struct forkq__segment));
  if (r < 0)
    return r;
  r = forkq__os_memory_map(fd, 0, sizeof(struct forkq__segment), &memory);
  if (r < 0)
    return r;
  if (!in_bounds(memory)) {
    forkq__segment_unmap(memory);
    return FORKQ_EHANDOVER;
  }
  *ret_segment = memory;
  return 0;
}

/* The table of kept tasks, as far as it was ever used, where the lost ones are items to be got again. */
static int read_kept(struct forkq__segment *ret_copy, int fd) {
  struct forkq__kept_shared *kept = &ret_copy->ledger.kept;
  int64_t begin = offsetof(struct forkq__segment, ledger.kept);
  size_t head = offsetof(struct forkq__kept_shared, tasks);
  if (!forkq__redelivers(&ret_copy->ledger))
    return 0;
  int r = forkq__os_memory_read(fd, kept, head, begin);
  uint32_t used = FORKQ__LOAD(kept->used);
  if (r < 0 || used > FORKQ__KEPT_MAX)
    return FORKQ_EHANDOVER;
  return forkq__os_memory_read(fd, kept->tasks, used * sizeof kept->tasks[0],
                               begin + (int64_t)head);
}

/* Reads each byte once, so that nothing changes after it was checked. The cells come last: an item that comes
 * and goes meanwhile counts as there (ledger.c). */
int forkq__segment_read(struct forkq__segment *ret_copy, int fd) {
  if (forkq__os_memory_read(fd, &ret_copy->head, sizeof ret_copy->head, 0) < 0)
    return FORKQ_EHANDOVER;
  int r = check(&ret_copy->head);
  if (r < 0)
    return r;
  size_t size = offsetof(struct forkq__segment, ledger.cells);
  if (forkq__os_memory_read(fd, ret_copy, size, 0) < 0)
    return FORKQ_EHANDOVER;
  r = check(&ret_copy->head);
  if (r < 0 || !in_bounds(ret_copy))
    return r < 0 ? r : FORKQ_EHANDOVER;
  uint32_t used = FORKQ__LOAD(ret_copy->ledger.cells_used);
  r = forkq__os_memory_read(fd, ret_copy->ledger.cells, used * sizeof(struct forkq__cell),
                            (int64_t)size);
  if (r == 0)
    r = read_kept(ret_copy, fd);
  return r < 0 ? FORKQ_EHANDOVER : 0;
}

int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd,
                          const char *name) {
  void *memory;
  char full_name[sizeof "forkq:" + FORKQ_NAME_MAX];
  snprintf(full_name, sizeof full_name, name[0] != '\0' ? "forkq:%s" : "forkq", name);
  int fd =
      forkq__os_memory_create(full_name, sizeof(struct forkq__segment),
                              FORKQ__FILE_END - (int64_t)sizeof(struct forkq__segment));
  if (fd < 0)
    return fd;
  int r = forkq__os_memory_back(fd, 0, offsetof(struct forkq__segment, ledger.cells));
  if (r == 0)
    r = forkq__os_memory_map(fd, 0, sizeof(struct forkq__segment), &memory);
  if (r != 0)
    goto err_close;
  r = init(memory, name);
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
