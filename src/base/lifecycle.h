/* What must happen to every queue of a process when it forks and when it exits.
 *
 * Objects register themselves. Before a fork all of them are locked, in the order of their
 * registration, so that the child finds each in one piece; after it the parent unlocks, and
 * the child lets each start anew. Lock order: the registry, then the objects.
 *
 * No fork and no exit waits without an end for a lock: what cannot be had in FORK_MS, as when the
 * very thread has it that a signal handler interrupted, is done without.
 *
 * A child may also have been made in a way that runs no handlers: by _Fork(3) or clone(2), or it
 * is in a fork handler of the program's that comes before ours. So it is told by a mark, which
 * the kernel clears in every child, and put right by the first call that sees it. */
#ifndef FORKQ_LIFECYCLE_H
#define FORKQ_LIFECYCLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct forkq__life;

struct forkq__life_ops {
  /* Locks the object, if that can be done until the deadline; and unlocks it, if it was. */
  void (*before_fork)(struct forkq__life *life, int64_t deadline);
  void (*after_fork_parent)(struct forkq__life *life);
  /* Nothing is known of locks here: the object may have been in the middle of anything, unless
   * before_fork was called and has locked it. */
  void (*after_fork_child)(struct forkq__life *life);
  /* At exit() and at the return from main, once; not with the registry locked, and
   * forkq__life_end waits for it. */
  void (*at_exit)(struct forkq__life *life);
};

struct forkq__life {
  const struct forkq__life_ops *ops;
  struct forkq__life *next;
  struct forkq__life *previous;
  bool exited;  /* its at_exit was called */
  bool exiting; /* and runs */
};

/* Between hold and let_go no fork of this process happens, and the registry stays as it is:
 * what is opened meanwhile is registered before a child can inherit it. 0, -EDEADLK, or another
 * negative errno. */
int forkq__life_hold(void);
void forkq__life_let_go(void);

/* While it is held: registers an object; says whether any registered one matches. */
void forkq__life_begin(struct forkq__life *life, const struct forkq__life_ops *ops);
bool forkq__life_any(bool (*matches)(const struct forkq__life *life, const void *arg),
                     const void *arg);

/* While it is not held. */
void forkq__life_end(struct forkq__life *life);

/* Which process this is: a number that grows with every fork between it and the first that used a
 * queue. In a child that has not been put right the mark is 0, and the call does that. */
extern _Atomic unsigned *forkq__life_mark;
unsigned forkq__life_forked(void);
static inline unsigned forkq__life_forks(void) {
  unsigned forks = atomic_load_explicit(forkq__life_mark, memory_order_acquire);
  return forks != 0 ? forks : forkq__life_forked();
}

#endif
