/* Liveness: how other processes see that a process lives, and that its tasks may still be done.
 *
 * A process with a cell in the ledger locks one byte of the memory's file for itself and, with
 * task_done, a second byte for its tasks. Each lock belongs to an open file description that
 * was made for nothing else (os.h), so the kernel drops it when the process ends. A forked
 * child closes its copy of the first descriptor. It closes its copy of the second, too, unless
 * the parent was at work on tasks: one of these may be the child's to do. A child that ran no
 * fork handlers and has called no function of forkq holds the first lock, too. So the
 * process's number must exist as well. */
#ifndef FORKQ_LIVENESS_H
#define FORKQ_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

/* The tasks that one owner of a cell got. */
struct forkq__tasks {
  int fd; /* holds the lock for the tasks; -1: none */
  uint32_t cell;
  uint32_t owner; /* see `owners` in ledger.h */
};

struct forkq__liveness {
  int memory_fd;     /* of the shared memory; the queue closes it */
  uint64_t identity; /* of the memory's file */
  const void *base;  /* where the memory is mapped */
  bool joinable;     /* tasks are counted */
  int fd;            /* holds the lock for the process; -1: none, or memory_fd holds it */
  struct forkq__tasks tasks;
  struct forkq__tasks inherited;
  uint32_t spared; /* a cell that this process does not reap: it is the heir */
};

void forkq__liveness_init(struct forkq__liveness *liveness);

/* Whether memory_fd is the memory's still: a program may have closed all descriptors that it did not know, and
 * opened another file under the number. */
bool forkq__liveness_has_memory(const struct forkq__liveness *liveness);

/* Opens the descriptors for take, before the ledger is locked, because this may fail. Returns 0
 * or a negative errno. */
int forkq__liveness_prepare(struct forkq__liveness *liveness);

/* Takes the locks of a cell. Returns 0, FORKQ__BUSY if a dying process still has one, or a
 * negative errno. */
int forkq__liveness_take(struct forkq__liveness *liveness, uint32_t cell);

/* drop: the process no longer has the cell. The items that it got stay its tasks until end. */
void forkq__liveness_drop(struct forkq__liveness *liveness, uint32_t cell);
void forkq__liveness_end(struct forkq__liveness *liveness);

/* In a forked child: closes the parent's descriptors. If the parent has tasks (`keep`), the
 * child keeps the lock for them; else, for those that the parent had inherited. */
void forkq__liveness_forked(struct forkq__liveness *liveness, bool keep);

/* lives: whether the owner of a cell lives; `pid` is its process's number, or 0. tasks_live:
 * whether a process lives that may do the cell's tasks. */
bool forkq__liveness_lives(const struct forkq__liveness *liveness, uint32_t cell,
                           uint32_t pid);
bool forkq__liveness_tasks_live(const struct forkq__liveness *liveness, uint32_t cell);

#endif
