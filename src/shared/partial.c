/* Partial messages: keeping a part, adding to it, and dropping it.
 *
 * A reader keeps a part in this order: the bytes, `total`, `mark`, `cell`. It appends the bytes
 * before `mark`. It drops `cell` before the bytes. So a reader that dies leaves the part as it
 * was before or after its step. It may also leave bytes without a `cell`, which repair
 * releases. */
#include "shared/partial.h"

#include "base/os.h"

#include <errno.h>

static uint64_t mark_of(uint32_t have, uint64_t seq) {
  return (uint64_t)have << 32 | (uint32_t)seq;
}

static uint32_t have(struct forkq__partial *partial) {
  return (uint32_t)(atomic_load(&partial->mark) >> 32);
}

static bool is_ours(struct forkq__partial_file file) {
  return forkq__os_is_file(file.fd, file.identity);
}

static int write_at(struct forkq__partial_file file, const void *data, uint32_t size,
                    uint32_t begin) {
  return is_ours(file) ? forkq__os_memory_write(file.fd, data, size, file.offset + begin)
                       : -EBADF;
}

static void release(struct forkq__partial_file file) {
  if (is_ours(file))
    forkq__os_memory_release(file.fd, file.offset);
}

int forkq__partial_keep(struct forkq__partial *partial, struct forkq__partial_file file,
                        const struct forkq__assembly *assembly, const void *data) {
  int r = write_at(file, data, assembly->have, 0);
  if (r < 0) {
    release(file); /* some of the bytes may be there */
    return r;
  }
  atomic_store(&partial->total, assembly->total);
  /* model: partial_mark */
  atomic_store(&partial->mark, mark_of(assembly->have, assembly->seq));
  /* model: partial_cell */
  atomic_store(&partial->cell, assembly->cell + 1);
  return 0;
}

struct forkq__assembly forkq__partial_kept(struct forkq__partial *partial, uint64_t seq) {
  uint32_t cell = atomic_load(&partial->cell);
  uint32_t last = (uint32_t)atomic_load(&partial->mark);
  return (struct forkq__assembly){
    .active = cell != 0,
    .cell = cell - 1,
    .total = atomic_load(&partial->total),
    .have = have(partial),
    /* Only the lower half of seq is kept in `last`: the whole is the latest such number up to
     * `seq`. */
    .seq = seq - (uint32_t)((uint32_t)seq - last),
  };
}

int forkq__partial_append(struct forkq__partial *partial, struct forkq__partial_file file,
                          uint64_t seq, const void *data, uint32_t size) {
  uint32_t before = have(partial);
  int r = write_at(file, data, size, before);
  if (r == 0)
    /* model: partial_append */
    atomic_store(&partial->mark, mark_of(before + size, seq));
  return r;
}

int forkq__partial_read(struct forkq__partial *partial, struct forkq__partial_file file,
                        void *data) {
  return forkq__os_memory_read(file.fd, data, have(partial), file.offset);
}

void forkq__partial_drop(struct forkq__partial *partial,
                         struct forkq__partial_file file) {
  /* model: partial_drop */
  if (atomic_exchange(&partial->cell, 0) != 0)
    release(file);
}

void forkq__partial_repair(struct forkq__partial *partial,
                           struct forkq__partial_file file) {
  if (atomic_load(&partial->cell) == 0)
    release(file);
}
