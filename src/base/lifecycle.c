/* The lifecycle: the fork and exit handlers, and the mark that identifies a child. */
#define _GNU_SOURCE
#include "base/lifecycle.h"

#include "base/mutex.h"
#include "base/os.h"

#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

/* How long a fork waits for locks, all together. */
#define FORK_MS 100

/* How long exit waits for the registry. Another thread may hold it for a fork. */
#define EXIT_MS 1000

static struct forkq__mutex registry_lock = { .mutex = PTHREAD_MUTEX_INITIALIZER };
static struct forkq__condition exit_done;
static struct forkq__life registry = { .next = &registry, .previous = &registry };
static uv_once_t handlers_once = UV_ONCE_INIT;
static bool fork_handlers, exit_handler; /* installed */

/* Two words in a page that the kernel clears in every child (madvise(2), MADV_WIPEONFORK): the
 * mark, and whether a thread has begun to initialize the child. Without such a page, only
 * forkq's fork handler recognizes a child, and clears the words itself. */
static _Atomic unsigned no_page[2] = { 1, 0 };
_Atomic unsigned *forkq__life_mark = no_page;
static unsigned forks = 1; /* inherited from the nearest initialized ancestor */

/* A handler may fork while its thread is forking. Each fork has one bit, the innermost the
 * lowest: whether that fork holds the registry. */
static _Thread_local unsigned forks_holding;

/* Initializes the child. The fork may have come at any instruction: the `next` links are always
 * consistent, and the `previous` links are rebuilt here. */
static void put_right(void) {
  forkq__mutex_init(&registry_lock);
  exit_done = (struct forkq__condition){ 0 };
  forks_holding = 0;
  struct forkq__life *previous = &registry;
  for (struct forkq__life *l = registry.next; l != &registry; l = l->next) {
    l->previous = previous;
    previous = l;
    l->exiting = false; /* the thread that ran at_exit is not in the child */
    l->ops->after_fork_child(l);
  }
  registry.previous = previous;
}

unsigned forkq__life_forked(void) {
  if (atomic_exchange(&forkq__life_mark[1], 1) == 0) {
    put_right();
    atomic_store(forkq__life_mark, ++forks);
  }
  unsigned mark;
  while ((mark = atomic_load(forkq__life_mark)) == 0)
    sched_yield();
  return mark;
}

/* A child that is not initialized has nothing that its own forks would have to wait for. */
static bool hold_for_fork(int64_t deadline) {
  return atomic_load(forkq__life_mark) != 0 &&
         forkq__mutex_lock(&registry_lock, deadline) == 0;
}

static void before_fork(void) {
  int64_t deadline = forkq__os_deadline_within(FORKQ__FOREVER, FORK_MS);
  bool held = hold_for_fork(deadline);
  forks_holding = forks_holding << 1 | held;
  if (!held)
    return;
  for (struct forkq__life *l = registry.next; l != &registry; l = l->next)
    if (l->ops->before_fork != NULL)
      l->ops->before_fork(l, deadline);
}

static void after_fork_parent(void) {
  bool held = forks_holding & 1;
  forks_holding >>= 1;
  if (!held)
    return;
  for (struct forkq__life *l = registry.previous; l != &registry; l = l->previous)
    if (l->ops->after_fork_parent != NULL)
      l->ops->after_fork_parent(l);
  forkq__mutex_unlock(&registry_lock);
}

static void after_fork_child(void) {
  if (forkq__life_mark == no_page) {
    atomic_store(&no_page[1], 0);
    atomic_store(&no_page[0], 0);
  }
  (void)forkq__life_forks();
}

/* The caller holds the registry. */
static struct forkq__life *newest_not_exited(void) {
  for (struct forkq__life *l = registry.previous; l != &registry; l = l->previous)
    if (!l->exited)
      return l;
  return NULL;
}

static bool hold_for_exit(void) {
  return forkq__mutex_lock(&registry_lock,
                           forkq__os_deadline_within(FORKQ__FOREVER, EXIT_MS)) == 0;
}

/* An object stays registered during its call, because other threads may still fork. A child that
 * was never initialized has used nothing. */
void forkq__life_exit(void) {
  struct forkq__life *life;
  if (atomic_load(forkq__life_mark) == 0 || !hold_for_exit())
    return;
  while ((life = newest_not_exited()) != NULL) {
    life->exited = life->exiting = true;
    forkq__mutex_unlock(&registry_lock);
    if (life->ops->at_exit != NULL)
      life->ops->at_exit(life);
    if (!hold_for_exit())
      return;
    life->exiting = false;
    forkq__mutex_wake(&exit_done);
  }
  forkq__mutex_unlock(&registry_lock);
}

static void make_page(void) {
  void *page = forkq__os_wiped_page();
  if (page == NULL)
    return;
  forkq__life_mark = page;
  atomic_store(forkq__life_mark, forks);
}

/* Installs each handler at most once, because a handler stays installed. */
static void install_handlers(void) {
  if (!fork_handlers)
    fork_handlers = pthread_atfork(before_fork, after_fork_parent, after_fork_child) == 0;
  if (fork_handlers && !exit_handler)
    exit_handler = atexit(forkq__life_exit) == 0;
}

static void first(void) {
  make_page();
  install_handlers();
}

int forkq__life_hold(void) {
  uv_once(&handlers_once, first);
  (void)forkq__life_forks();
  int r = forkq__mutex_lock(&registry_lock, FORKQ__FOREVER);
  if (r < 0)
    return r;
  if (!exit_handler) /* there was no memory for it before; there may be now */
    install_handlers();
  if (exit_handler)
    return 0;
  forkq__mutex_unlock(&registry_lock);
  return UV_ENOMEM;
}

void forkq__life_let_go(void) {
  forkq__mutex_unlock(&registry_lock);
}

void forkq__life_begin(struct forkq__life *life, const struct forkq__life_ops *ops) {
  life->ops = ops;
  life->exited = life->exiting = false;
  life->next = &registry;
  life->previous = registry.previous;
  atomic_thread_fence(memory_order_release);
  life->previous->next = life;
  registry.previous = life;
}

void forkq__life_end(struct forkq__life *life) {
  /* In a fork handler of the program, this thread already holds the registry. */
  bool locked = forkq__mutex_lock(&registry_lock, FORKQ__FOREVER) == 0;
  while (locked && life->exiting)
    forkq__mutex_wait(&registry_lock, &exit_done, FORKQ__FOREVER);
  life->previous->next = life->next;
  life->next->previous = life->previous;
  if (locked)
    forkq__mutex_unlock(&registry_lock);
}

bool forkq__life_any(bool (*matches)(const struct forkq__life *life, const void *arg),
                     const void *arg) {
  bool any = false;
  for (struct forkq__life *l = registry.next; l != &registry && !any; l = l->next)
    any = matches(l, arg);
  return any;
}

struct forkq__life *forkq__life_next(const struct forkq__life *life,
                                     const struct forkq__life_ops *ops) {
  struct forkq__life *next = life != NULL ? life->next : registry.next;
  while (next != &registry && next->ops != ops)
    next = next->next;
  return next != &registry ? next : NULL;
}
