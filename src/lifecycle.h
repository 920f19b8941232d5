/* What must happen to every queue of a process when it forks and when it exits.
 *
 * Objects register themselves. Before a fork all of them are locked, in the order of their
 * registration, so that the child finds each in one piece; after it the parent unlocks, and
 * the child lets each start anew. Lock order: the registry, then the objects. */
#ifndef FORKQ_LIFECYCLE_H
#define FORKQ_LIFECYCLE_H

#include <stdbool.h>

struct forkq__life;

struct forkq__life_ops {
  void (*before_fork)(struct forkq__life *life);
  void (*after_fork_parent)(struct forkq__life *life);
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
 * what is opened meanwhile is registered before a child can inherit it. 0 or a negative
 * errno. */
int forkq__life_hold(void);
void forkq__life_let_go(void);

/* While it is held: registers an object; says whether any registered one matches. */
void forkq__life_begin(struct forkq__life *life, const struct forkq__life_ops *ops);
bool forkq__life_any(bool (*matches)(const struct forkq__life *life, const void *arg),
                     const void *arg);

/* How many forks lie between this process and the one that first asked. */
unsigned forkq__life_forks(void);

/* While it is not held. */
void forkq__life_end(struct forkq__life *life);

#endif
