/* The lifecycle: what happens to every queue of a process at fork and at exit.
 *
 * Each object registers itself. Before a fork, the handler locks the registry, then every
 * object in the order of registration, so that the child finds each object consistent. After
 * the fork, the parent unlocks them, and the child resets each object. Lock order: the
 * registry, then the objects.
 *
 * Neither fork nor exit waits for a lock without limit, because a signal handler may have
 * interrupted the thread that holds it. A fork waits for FORK_MS in all and continues without
 * the locks that it did not get. If exit does not get the registry within EXIT_MS, it skips
 * the remaining at_exit calls.
 *
 * Some children run none of forkq's handlers before their first call: children of _Fork(3) and
 * of clone(2), and a child that makes this call in a fork handler of the program that runs
 * before forkq's. So the kernel clears a mark in every child, and the first call that finds the
 * mark cleared initializes the child. */
#ifndef FORKQ_LIFECYCLE_H
#define FORKQ_LIFECYCLE_H

#include "base/atomics.h"

#include <stdbool.h>
#include <stdint.h>

struct forkq__life;

/* NULL where there is nothing to do; but each object has an after_fork_child. */
struct forkq__life_ops {
  /* before_fork locks the object, if it can do so before the deadline. after_fork_parent
   * unlocks it, if before_fork locked it. */
  void (*before_fork)(struct forkq__life *life, int64_t deadline);
  void (*after_fork_parent)(struct forkq__life *life);
  /* Resets the object in the child. The state of its locks is unknown, and the object may be in
   * the middle of any change, unless before_fork was called and locked it. */
  void (*after_fork_child)(struct forkq__life *life);
  /* Called once, at exit() or at the return from main, without the registry. forkq__life_end
   * waits until it has returned. */
  void (*at_exit)(struct forkq__life *life);
};

struct forkq__life {
  const struct forkq__life_ops *ops;
  struct forkq__life *next;
  struct forkq__life *previous;
  bool exited;  /* its at_exit was called */
  bool exiting; /* its at_exit is running */
};

/* hold locks the registry and blocks without limit. Until let_go, the registry does not change,
 * and a fork of this process waits, for FORK_MS at most. So the caller registers what it opens
 * before a child inherits it. Returns 0, -EDEADLK if this thread holds the registry, or -ENOMEM
 * if the fork and exit handlers cannot be installed. */
int forkq__life_hold(void);
void forkq__life_let_go(void);

/* The caller holds the registry. begin registers an object. any says whether `matches` is true
 * for a registered object. next returns the object with these operations that was registered
 * first after `life`, or first of all if that is NULL; or NULL. */
void forkq__life_begin(struct forkq__life *life, const struct forkq__life_ops *ops);
bool forkq__life_any(bool (*matches)(const struct forkq__life *life, const void *arg),
                     const void *arg);
struct forkq__life *forkq__life_next(const struct forkq__life *life,
                                     const struct forkq__life_ops *ops);

/* Removes an object. The caller does not hold the registry, except in a fork handler. Blocks
 * while at_exit of the object runs. */
void forkq__life_end(struct forkq__life *life);

/* Calls at_exit of each object, the newest first, as CPython runs its finalizers. It is what exit()
 * calls, for a process that ends without the exit handlers of its parent. A second call does
 * nothing. */
void forkq__life_exit(void);

/* Identifies this process: the number of initialized processes from the first that used a queue
 * down to this one. In a child that is not initialized the mark is 0, and the call initializes
 * the child. */
extern _Atomic unsigned *forkq__life_mark;
unsigned forkq__life_forked(void);
static inline unsigned forkq__life_forks(void) {
  unsigned forks = FORKQ__LOAD(*forkq__life_mark);
  return forks != 0 ? forks : forkq__life_forked();
}

#endif
