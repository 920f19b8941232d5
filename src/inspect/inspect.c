/* Looking at the queues of other processes: the order of the steps, and who owns what was found. */
#include "base/heap.h"
#include "inspect/inspect_impl.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 8

void *forkq__inspect_add(struct forkq__inspect_list *list, size_t size) {
  if (list->count == list->room) {
    size_t room = list->room == 0 ? FIRST_ROOM : 2 * list->room;
    void *entries = forkq__realloc(list->entries, room * size);
    if (entries == NULL)
      return NULL;
    list->entries = entries;
    list->room = room;
  }
  void *entry = (char *)list->entries + list->count++ * size;
  memset(entry, 0, size);
  return entry;
}

forkq_inspect_process_t *forkq__inspect_process_of(struct forkq__inspected *queue,
                                                   pid_t pid, bool add) {
  forkq_inspect_process_t *processes = queue->processes.entries;
  for (size_t i = 0; i < queue->processes.count; i++)
    if (processes[i].pid == pid)
      return &processes[i];
  forkq_inspect_process_t *process =
      add ? forkq__inspect_add(&queue->processes, sizeof *process) : NULL;
  if (process == NULL)
    return NULL;
  process->pid = pid;
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    process->fds[i] = -1;
  return process;
}

static void free_queue(struct forkq__inspected *queue) {
  forkq__free(queue->processes.entries);
  forkq__free(queue->waits.entries);
  forkq__free(queue);
}

/* Room for a segment lies as a segment does, at a multiple of its alignment. */
static struct forkq__segment *aligned(void *memory) {
  const uintptr_t alignment = alignof(struct forkq__segment);
  return (struct forkq__segment *)(((uintptr_t)memory + alignment - 1) &
                                   ~(alignment - 1));
}

static int read_all(forkq_inspect_t *inspect) {
  void *memory =
      forkq__calloc(sizeof(struct forkq__segment) + alignof(struct forkq__segment));
  int r = memory != NULL ? 0 : -ENOMEM;
  for (size_t i = 0; i < inspect->queues.count && r == 0; i++)
    r = forkq__inspect_read(forkq__inspected_at(inspect, i), aligned(memory));
  forkq__free(memory);
  return r;
}

/* A queue that nobody has any more was none a moment later. */
static void drop_gone(forkq_inspect_t *inspect) {
  struct forkq__inspected **queues = inspect->queues.entries;
  size_t left = 0;
  for (size_t i = 0; i < inspect->queues.count; i++) {
    if (queues[i]->queue.error == -ESRCH)
      free_queue(queues[i]);
    else
      queues[left++] = queues[i];
  }
  inspect->queues.count = left;
}

/* ---- order -------------------------------------------------------------------------------- */

static int compare_queues(const void *a, const void *b) {
  uint64_t first = (*(struct forkq__inspected *const *)a)->queue.inode;
  uint64_t second = (*(struct forkq__inspected *const *)b)->queue.inode;
  return first < second ? -1 : first > second;
}

static int compare_processes(const void *a, const void *b) {
  pid_t first = ((const forkq_inspect_process_t *)a)->pid;
  pid_t second = ((const forkq_inspect_process_t *)b)->pid;
  return first < second ? -1 : first > second;
}

static int compare_waits(const void *a, const void *b) {
  pid_t first = ((const forkq_inspect_wait_t *)a)->tid;
  pid_t second = ((const forkq_inspect_wait_t *)b)->tid;
  return first < second ? -1 : first > second;
}

static void sort(struct forkq__inspect_list *list, size_t size,
                 int (*compare)(const void *a, const void *b)) {
  if (list->count > 1)
    qsort(list->entries, list->count, size, compare);
}

static void sort_all(forkq_inspect_t *inspect) {
  sort(&inspect->queues, sizeof(struct forkq__inspected *), compare_queues);
  for (size_t i = 0; i < inspect->queues.count; i++) {
    struct forkq__inspected *queue = forkq__inspected_at(inspect, i);
    sort(&queue->processes, sizeof(forkq_inspect_process_t), compare_processes);
    sort(&queue->waits, sizeof(forkq_inspect_wait_t), compare_waits);
  }
}

/* ---- the public functions ----------------------------------------------------------------- */

static int look(forkq_inspect_t *inspect, pid_t pid) {
  int r = forkq__inspect_find(inspect, pid);
  if (r == 0)
    r = read_all(inspect);
  drop_gone(inspect);
  if (r == 0)
    r = forkq__inspect_fds(inspect);
  if (r == 0)
    r = forkq__inspect_waits(inspect);
  if (r == 0)
    sort_all(inspect);
  return r;
}

int forkq_inspect_open(forkq_inspect_t **ret_inspect, pid_t pid) {
  if (ret_inspect == NULL)
    return FORKQ_ENULL;
  forkq_inspect_t *inspect = forkq__calloc(sizeof *inspect);
  if (inspect == NULL)
    return -ENOMEM;
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = look(inspect, pid);
  pthread_setcancelstate(state, NULL);
  if (r < 0)
    forkq_inspect_destroy(inspect);
  else
    *ret_inspect = inspect;
  return r;
}

void forkq_inspect_destroy(forkq_inspect_t *inspect) {
  if (inspect == NULL)
    return;
  for (size_t i = 0; i < inspect->queues.count; i++)
    free_queue(forkq__inspected_at(inspect, i));
  forkq__free(inspect->queues.entries);
  forkq__free(inspect);
}

const forkq_inspect_queue_t *forkq_inspect_queue_at(const forkq_inspect_t *inspect,
                                                    size_t index) {
  return inspect != NULL && index < inspect->queues.count
             ? &forkq__inspected_at(inspect, index)->queue
             : NULL;
}

const forkq_inspect_process_t *
forkq_inspect_process_at(const forkq_inspect_queue_t *queue, size_t index) {
  if (queue == NULL || index >= queue->self_->processes.count)
    return NULL;
  return (const forkq_inspect_process_t *)queue->self_->processes.entries + index;
}

const forkq_inspect_wait_t *forkq_inspect_wait_at(const forkq_inspect_queue_t *queue,
                                                  size_t index) {
  if (queue == NULL || index >= queue->self_->waits.count)
    return NULL;
  return (const forkq_inspect_wait_t *)queue->self_->waits.entries + index;
}

const forkq_inspect_lock_t *forkq_inspect_lock_of(const forkq_inspect_queue_t *queue,
                                                  forkq_inspect_lock_kind_t kind) {
  bool known = queue != NULL && queue->error == 0 && (unsigned)kind < FORKQ_INSPECT_LOCKS;
  return known ? &queue->self_->locks[kind] : NULL;
}
