/* Partial messages: keeping a part, adding to it, and dropping it.
 *
 * A reader keeps a part in this order: the bytes, `total`, `mark`, `cell`. It appends the bytes
 * before `mark`. It drops `cell` before the bytes. So a reader that dies leaves the part as it
 * was before or after its step. It may also leave bytes without a `cell`, which repair
 * releases. */
#include "shared/spill.h"

#include "base/os.h"

#include <errno.h>

/* Where the bytes are in the file. */
#define BEGIN FORKQ__SPILL_BEGIN

static uint64_t mark_of(uint32_t have, uint64_t seq) {
  return (uint64_t)have << 32 | (uint32_t)seq;
}

static uint32_t have(struct forkq__spill *spill) {
  return (uint32_t)(atomic_load(&spill->mark) >> 32);
}

static int write_at(const struct forkq__account *account, const void *data, uint32_t size,
                    uint32_t begin) {
  return forkq__liveness_has_memory(&account->liveness)
             ? forkq__os_memory_write(account->liveness.memory_fd, data, size,
                                      BEGIN + begin)
             : -EBADF;
}

static void release(const struct forkq__account *account) {
  if (forkq__liveness_has_memory(&account->liveness))
    forkq__os_memory_release(account->liveness.memory_fd, BEGIN, FORKQ_MESSAGE_MAX);
}

int forkq__spill_keep(struct forkq__spill *spill, const struct forkq__account *account,
                      const struct forkq__assembly *assembly, const void *data) {
  int r = write_at(account, data, assembly->have, 0);
  if (r < 0) {
    release(account); /* some of the bytes may be there */
    return r;
  }
  atomic_store(&spill->total, assembly->total);
  /* model: spill_mark */
  atomic_store(&spill->mark, mark_of(assembly->have, assembly->seq));
  /* model: spill_cell */
  atomic_store(&spill->cell, assembly->cell + 1);
  return 0;
}

struct forkq__assembly forkq__spill_kept(struct forkq__spill *spill, uint64_t seq) {
  uint32_t cell = atomic_load(&spill->cell);
  uint32_t last = (uint32_t)atomic_load(&spill->mark);
  return (struct forkq__assembly){
    .active = cell != 0,
    .cell = cell - 1,
    .total = atomic_load(&spill->total),
    .have = have(spill),
    /* Only the lower half of seq is kept in `last`: the whole is the latest such number up to
     * `seq`. */
    .seq = seq - (uint32_t)((uint32_t)seq - last),
  };
}

int forkq__spill_append(struct forkq__spill *spill, const struct forkq__account *account,
                        uint64_t seq, const void *data, uint32_t size) {
  uint32_t before = have(spill);
  int r = write_at(account, data, size, before);
  if (r == 0)
    /* model: spill_append */
    atomic_store(&spill->mark, mark_of(before + size, seq));
  return r;
}

int forkq__spill_head(struct forkq__spill *spill, const struct forkq__account *account,
                      void *data, uint32_t size) {
  uint32_t there = have(spill) < size ? have(spill) : size;
  int r = forkq__os_memory_read(account->liveness.memory_fd, data, there, BEGIN);
  return r < 0 ? r : (int)there;
}

int forkq__spill_read(struct forkq__spill *spill, const struct forkq__account *account,
                      void *data) {
  return forkq__os_memory_read(account->liveness.memory_fd, data, have(spill), BEGIN);
}

void forkq__spill_drop(struct forkq__spill *spill, const struct forkq__account *account) {
  /* model: spill_drop */
  if (atomic_exchange(&spill->cell, 0) != 0)
    release(account);
}

void forkq__spill_repair(struct forkq__spill *spill,
                         const struct forkq__account *account) {
  if (atomic_load(&spill->cell) == 0)
    release(account);
}
