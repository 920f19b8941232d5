/* What the files of inspect.h share: the queues that were found, and what was found out about each.
 *
 * One look has these steps: find the queues by the descriptors of all processes (inspect_find.c), read the
 * memory of each (inspect_read.c), then look at the processes again, for descriptors that the memory names
 * and for threads that wait (inspect_waits.c). */
#ifndef FORKQ_INSPECT_IMPL_H
#define FORKQ_INSPECT_IMPL_H

#include "base/proc.h"
#include "shared/layout.h"

#include <forkq/inspect.h>

/* An array that grows. */
struct forkq__inspect_list {
  void *entries;
  size_t count, room;
};

/* Room for one entry more, all zero, at the end; NULL: no memory. What was returned before may have moved. */
void *forkq__inspect_add(struct forkq__inspect_list *list, size_t size);

struct forkq__inspected {
  forkq_inspect_queue_t queue;
  uint64_t identity; /* of the memory's file */
  uint64_t pipe_identity;
  uint64_t event_id, room_id; /* as in the segment: plus 1; 0: not known */
  struct forkq__inspect_list processes;
  struct forkq__inspect_list waits;
  forkq_inspect_lock_t locks[FORKQ_INSPECT_LOCKS];
};

struct forkq_inspect {
  struct forkq__inspect_list queues; /* of pointers to a struct forkq__inspected */
};

static inline struct forkq__inspected *forkq__inspected_at(const forkq_inspect_t *inspect,
                                                           size_t index) {
  return ((struct forkq__inspected **)inspect->queues.entries)[index];
}

/* Places in the array of descriptors of a process. */
enum {
  FORKQ__AT_READ,
  FORKQ__AT_WRITE,
  FORKQ__AT_EVENT,
  FORKQ__AT_ROOM,
  FORKQ__AT_MEMORY,
};

/* The process with this number; with `add`, as a new one if there is none. NULL: none, or no memory. */
forkq_inspect_process_t *forkq__inspect_process_of(struct forkq__inspected *queue,
                                                   pid_t pid, bool add);

/* Calls `fn` with each process that has one of the queues open, until it returns a negative errno. Returns
 * that or 0. */
int forkq__inspect_each_process(forkq_inspect_t *inspect,
                                int (*fn)(forkq_inspect_t *inspect, pid_t pid));

/* find: all queues and the processes that have them; or of `pid`, the queues that it has. Returns 0 or a
 * negative errno. fds: the other descriptors of each process. */
int forkq__inspect_find(forkq_inspect_t *inspect, pid_t pid);
int forkq__inspect_fds(forkq_inspect_t *inspect);

/* Reads the memory of a queue into its numbers, locks and processes. `copy` is room for a segment. Returns 0,
 * or -ENOMEM. What is wrong with the queue itself is in its `error`. */
int forkq__inspect_read(struct forkq__inspected *queue, struct forkq__segment *copy);

/* Reads the memory from this descriptor, as it may come from anywhere; for forkq__inspect_read, and for
 * tests. */
int forkq__inspect_memory(struct forkq__inspected *queue, struct forkq__segment *copy,
                          int fd);

/* Finds the threads that wait. Returns 0 or -ENOMEM. */
int forkq__inspect_waits(forkq_inspect_t *inspect);

#endif
