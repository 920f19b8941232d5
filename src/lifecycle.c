#include "lifecycle.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <uv.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t exit_done = PTHREAD_COND_INITIALIZER;
static struct forkq__life registry = { .next = &registry, .previous = &registry };
static uv_once_t handlers_once = UV_ONCE_INIT;
static bool fork_handlers, exit_handler; /* installed */
static unsigned forks;

static void before_fork(void) {
  pthread_mutex_lock(&registry_lock);
  for (struct forkq__life *l = registry.next; l != &registry; l = l->next)
    l->ops->before_fork(l);
}

static void after_fork_parent(void) {
  for (struct forkq__life *l = registry.previous; l != &registry; l = l->previous)
    l->ops->after_fork_parent(l);
  pthread_mutex_unlock(&registry_lock);
}

static void after_fork_child(void) {
  forks++;
  for (struct forkq__life *l = registry.previous; l != &registry; l = l->previous) {
    l->exiting = false; /* the thread that does is not here */
    l->ops->after_fork_child(l);
  }
  pthread_cond_init(&exit_done, NULL);
  pthread_mutex_unlock(&registry_lock);
}

/* With the registry locked. */
static struct forkq__life *newest_not_exited(void) {
  for (struct forkq__life *l = registry.previous; l != &registry; l = l->previous)
    if (!l->exited)
      return l;
  return NULL;
}

/* The newest first, as CPython runs its finalizers. Each stays registered meanwhile: other
 * threads may still fork. */
static void at_exit(void) {
  struct forkq__life *life;
  pthread_mutex_lock(&registry_lock);
  while ((life = newest_not_exited()) != NULL) {
    life->exited = life->exiting = true;
    pthread_mutex_unlock(&registry_lock);
    life->ops->at_exit(life);
    pthread_mutex_lock(&registry_lock);
    life->exiting = false;
    pthread_cond_broadcast(&exit_done);
  }
  pthread_mutex_unlock(&registry_lock);
}

/* Each at most once: what is installed stays. */
static void install_handlers(void) {
  if (!fork_handlers)
    fork_handlers = pthread_atfork(before_fork, after_fork_parent, after_fork_child) == 0;
  if (fork_handlers && !exit_handler)
    exit_handler = atexit(at_exit) == 0;
}

int forkq__life_hold(void) {
  uv_once(&handlers_once, install_handlers);
  pthread_mutex_lock(&registry_lock);
  if (!exit_handler) /* there was no memory for it; there may be now */
    install_handlers();
  if (exit_handler)
    return 0;
  pthread_mutex_unlock(&registry_lock);
  return UV_ENOMEM;
}

unsigned forkq__life_forks(void) {
  uv_once(&handlers_once, install_handlers);
  return forks;
}

void forkq__life_let_go(void) {
  pthread_mutex_unlock(&registry_lock);
}

void forkq__life_begin(struct forkq__life *life, const struct forkq__life_ops *ops) {
  life->ops = ops;
  life->exited = life->exiting = false;
  life->next = &registry;
  life->previous = registry.previous;
  life->previous->next = life;
  registry.previous = life;
}

void forkq__life_end(struct forkq__life *life) {
  pthread_mutex_lock(&registry_lock);
  while (life->exiting)
    pthread_cond_wait(&exit_done, &registry_lock);
  life->previous->next = life->next;
  life->next->previous = life->previous;
  pthread_mutex_unlock(&registry_lock);
}

bool forkq__life_any(bool (*matches)(const struct forkq__life *life, const void *arg),
                     const void *arg) {
  bool any = false;
  for (struct forkq__life *l = registry.next; l != &registry && !any; l = l->next)
    any = matches(l, arg);
  return any;
}
