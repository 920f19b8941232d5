/* Liveness: how other processes see that one lives, and that its tasks may still be done.
 *
 * A process that has a cell in the ledger has a lock on one byte of the memory's file for itself,
 * and with task_done one for its tasks. Each lock belongs to an open file description that was
 * made for nothing else (see os.h), so the kernel drops it when the process ends. A child of a
 * fork closes its copy of the first, and of the second, too, unless the parent was at work on
 * tasks: one of them may be the child's to do. A child that was made without fork handlers, and
 * has called nothing of ours, holds the first as well; so the process has to exist besides. */
#ifndef FORKQ_LIVENESS_H
#define FORKQ_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

/* Tasks that were taken by the process that had a cell at that time. */
struct forkq__tasks {
  int fd; /* with the lock for them; -1: none */
  uint32_t cell;
  uint32_t owner; /* see `owners` in ledger.h */
};

struct forkq__liveness {
  int memory_fd;     /* borrowed */
  uint64_t identity; /* of its file */
  const void *base;  /* where the memory is mapped */
  bool joinable;     /* tasks are counted */
  int fd;            /* with the lock for the process; -1: none, or memory_fd has it */
  struct forkq__tasks tasks;
  struct forkq__tasks inherited;
  uint32_t spared; /* a cell whose account this process settles in another way */
};

void forkq__liveness_init(struct forkq__liveness *liveness);

/* Makes what take needs, and may fail, before the ledger is locked: 0 or a negative errno. */
int forkq__liveness_prepare(struct forkq__liveness *liveness);

/* For a cell: 0, FORKQ__BUSY where another, who is just dying, has it still, or a negative
 * errno. */
int forkq__liveness_take(struct forkq__liveness *liveness, uint32_t cell);

/* The process has the cell no more. What it got stays its tasks until end. */
void forkq__liveness_drop(struct forkq__liveness *liveness, uint32_t cell);
void forkq__liveness_end(struct forkq__liveness *liveness);

/* In the child of a fork: of what the parent had it keeps its hold on the parent's tasks, if
 * `keep` says that there are any, else on those that the parent had inherited. */
void forkq__liveness_forked(struct forkq__liveness *liveness, bool keep);

/* Whether the owner of a cell, whose process has this number, lives; and whether anybody may still
 * do its tasks. */
bool forkq__liveness_lives(const struct forkq__liveness *liveness, uint32_t cell,
                           uint32_t pid);
bool forkq__liveness_tasks_live(const struct forkq__liveness *liveness, uint32_t cell);

#endif
