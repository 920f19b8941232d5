/* Interrupts: who was told of them, and the event for those who poll. */
#include "base/interrupt.h"

#include "base/heap.h"
#include "base/lifecycle.h"
#include "base/os.h"

#include <forkq/base.h>
#include <limits.h>
#include <unistd.h>

/* Only the thread itself reads or writes `count`, and the only thread of a forked child. A later thread
 * with the same number began after this one had ended, and so after the interrupts that this one was told
 * of. */
struct forkq__told {
  struct forkq__told *next;
  pthread_t thread;
  uint32_t count;
};

void forkq__interrupts_call(struct forkq__interrupts *interrupts) {
  atomic_fetch_add(&interrupts->word, 1);
  forkq__os_futex_wake(&interrupts->word, INT_MAX);
}

/* In a child that is not put right yet the event is the parent's, and no thread is in a call. */
void forkq__interrupt(struct forkq__interrupts *interrupts) {
  atomic_fetch_add(&interrupts->count, 1);
  if (FORKQ__LOAD(*forkq__life_mark) == 0) {
    atomic_store(&interrupts->early, (int)getpid());
    return;
  }
  forkq__interrupts_call(interrupts);
  int fd = forkq__interrupts_fd(interrupts);
  if (fd >= 0)
    forkq__os_event_raise(fd);
}

static struct forkq__told *find(struct forkq__interrupts *interrupts) {
  struct forkq__told *told = atomic_load(&interrupts->told);
  while (told != NULL && told->thread != pthread_self())
    told = told->next;
  return told;
}

bool forkq__interrupts_find(struct forkq__interrupts *interrupts) {
  const struct forkq__told *told = find(interrupts);
  uint32_t known = told != NULL ? told->count : atomic_load(&interrupts->before);
  return atomic_load(&interrupts->count) != known;
}

static struct forkq__told *add(struct forkq__interrupts *interrupts) {
  struct forkq__told *told = forkq__malloc(sizeof *told);
  if (told == NULL)
    return NULL;
  told->thread = pthread_self();
  told->next = atomic_load(&interrupts->told);
  while (!atomic_compare_exchange_weak(&interrupts->told, &told->next, told))
    ;
  return told;
}

/* Without memory the thread is told once more by its next call. */
int forkq__interrupts_tell(struct forkq__interrupts *interrupts, int result) {
  if (result != FORKQ_EINTERRUPTED)
    return result;
  uint32_t count = atomic_load(&interrupts->count);
  struct forkq__told *told = find(interrupts);
  if (told == NULL)
    told = add(interrupts);
  if (told != NULL)
    told->count = count;
  return result;
}

void forkq__interrupts_equip(struct forkq__interrupts *interrupts) {
  if (forkq__interrupts_fd(interrupts) >= 0)
    return;
  int fd = forkq__os_event_create();
  if (fd >= 0)
    FORKQ__STORE(interrupts->event_fd, fd);
}

void forkq__interrupts_begin_poll(struct forkq__interrupts *interrupts) {
  atomic_fetch_add(&interrupts->pollers, 1);
}

/* The event stays raised until no thread polls it: each has then seen it. A thread that begins to poll
 * after that finds the interrupts that came before, as it looks for them after it has begun. For one that
 * came since, the event is raised again. */
void forkq__interrupts_end_poll(struct forkq__interrupts *interrupts, bool saw) {
  uint32_t count = atomic_load(&interrupts->count);
  if (atomic_fetch_sub(&interrupts->pollers, 1) > 1 || !saw)
    return;
  int fd = forkq__interrupts_fd(interrupts);
  forkq__os_event_lower(fd);
  if (atomic_load(&interrupts->count) != count)
    forkq__os_event_raise(fd);
}

static void close_event(struct forkq__interrupts *interrupts, uint64_t identity) {
  int fd = forkq__interrupts_fd(interrupts);
  if (fd >= 0)
    forkq__os_close_own(fd, identity);
  FORKQ__STORE(interrupts->event_fd, 0);
}

/* The child of a fork has one thread, and starts with no interrupt, as with no signal (fork(2)). */
void forkq__interrupts_forked(struct forkq__interrupts *interrupts, uint64_t identity) {
  uint32_t count = atomic_load(&interrupts->count);
  if (atomic_exchange(&interrupts->early, 0) == (int)getpid())
    count--;
  atomic_store(&interrupts->before, count);
  atomic_store(&interrupts->pollers, 0);
  for (struct forkq__told *told = atomic_load(&interrupts->told); told != NULL;
       told = told->next)
    told->count = count;
  close_event(interrupts, identity);
}

void forkq__interrupts_fini(struct forkq__interrupts *interrupts, uint64_t identity) {
  struct forkq__told *told = atomic_load(&interrupts->told);
  while (told != NULL) {
    struct forkq__told *next = told->next;
    forkq__free(told);
    told = next;
  }
  close_event(interrupts, identity);
}
