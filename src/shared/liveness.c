/* Liveness: the locks on bytes of the memory's file. */
#include "shared/liveness.h"

#include "base/os.h"
#include "shared/ledger.h"

#include <errno.h>

/* The offsets of the locked bytes. The file need not have data there. */
static int64_t life_byte(uint32_t cell) {
  return cell;
}

static int64_t tasks_byte(uint32_t cell) {
  return (int64_t)FORKQ__CELLS_MAX + cell;
}

void forkq__liveness_init(struct forkq__liveness *liveness) {
  liveness->memory_fd = liveness->fd = -1;
  liveness->spared = FORKQ__NO_CELL;
  liveness->tasks = liveness->inherited =
      (struct forkq__tasks){ .fd = -1, .cell = FORKQ__NO_CELL };
}

/* Closes a descriptor if it is still the memory's. A program may have closed all descriptors
 * that it did not know, and the number may be another file's by now. */
static void close_own(const struct forkq__liveness *liveness, int *fd) {
  if (*fd >= 0)
    forkq__os_close_own(*fd, liveness->identity);
  *fd = -1;
}

static bool no_proc(int r) {
  return r == -ENOENT || r == -EACCES || r == -EPERM || r == -ENOTDIR || r == -ENOSYS;
}

bool forkq__liveness_has_memory(const struct forkq__liveness *liveness) {
  return forkq__os_is_file(liveness->memory_fd, liveness->identity);
}

static int open_own(const struct forkq__liveness *liveness, int *fd) {
  if (*fd >= 0)
    return 0;
  if (!forkq__liveness_has_memory(liveness))
    return -EBADF;
  int r = forkq__os_open_again(liveness->memory_fd);
  if (r < 0)
    return no_proc(r) ? 0 : r;
  *fd = r;
  return 0;
}

int forkq__liveness_prepare(struct forkq__liveness *liveness) {
  int r = open_own(liveness, &liveness->fd);
  close_own(liveness, &liveness->tasks.fd); /* of an earlier cell */
  if (r == 0 && liveness->joinable)
    r = open_own(liveness, &liveness->tasks.fd);
  return r;
}

static int lock_byte(const struct forkq__liveness *liveness, int fd, int64_t byte) {
  bool own = fd >= 0;
  return forkq__os_life_take(own ? fd : liveness->memory_fd, byte, own);
}

static void unlock_byte(const struct forkq__liveness *liveness, int fd, int64_t byte) {
  bool own = fd >= 0;
  (void)forkq__os_life_drop(own ? fd : liveness->memory_fd, byte, own);
}

int forkq__liveness_take(struct forkq__liveness *liveness, uint32_t cell) {
  int r = lock_byte(liveness, liveness->fd, life_byte(cell));
  if (r < 0 || !liveness->joinable)
    return r;
  r = lock_byte(liveness, liveness->tasks.fd, tasks_byte(cell));
  if (r < 0)
    unlock_byte(liveness, liveness->fd, life_byte(cell));
  return r;
}

void forkq__liveness_drop(struct forkq__liveness *liveness, uint32_t cell) {
  if (liveness->fd < 0)
    unlock_byte(liveness, liveness->fd, life_byte(cell));
  close_own(liveness, &liveness->fd);
}

void forkq__liveness_end(struct forkq__liveness *liveness) {
  close_own(liveness, &liveness->fd);
  close_own(liveness, &liveness->tasks.fd);
  close_own(liveness, &liveness->inherited.fd);
}

void forkq__liveness_forked(struct forkq__liveness *liveness, bool keep) {
  close_own(liveness, &liveness->fd);
  if (keep && liveness->tasks.fd >= 0) {
    close_own(liveness, &liveness->inherited.fd);
    liveness->inherited = liveness->tasks;
    liveness->tasks.fd = -1;
  }
  close_own(liveness, &liveness->tasks.fd);
}

/* If the kernel cannot tell, or the descriptor is another file's by now, no process is taken
 * for dead. */
static bool is_locked(const struct forkq__liveness *liveness, int64_t byte) {
  return !forkq__liveness_has_memory(liveness) ||
         forkq__os_life_taken(liveness->memory_fd, byte) != 0;
}

bool forkq__liveness_lives(const struct forkq__liveness *liveness, uint32_t cell,
                           uint32_t pid) {
  return is_locked(liveness, life_byte(cell)) &&
         (pid == 0 || !forkq__os_process_gone((pid_t)pid));
}

bool forkq__liveness_tasks_live(const struct forkq__liveness *liveness, uint32_t cell) {
  return is_locked(liveness, tasks_byte(cell));
}
