/* The shared segment: the map of the memory that the processes of one queue share.
 *
 * Anonymous memory (memfd_create(2)) of fixed size, known only by its descriptor: it goes
 * with the last process that has it. Behind the mapped part lies a partial message, if there
 * is one (partial.h). */
#ifndef FORKQ_SEGMENT_H
#define FORKQ_SEGMENT_H

#include "channel.h"
#include "slots.h"

struct forkq__segment {
  uint64_t max_message;
  uint32_t joinable;
  /* Those in join sleep on `event`, which changes when the last task is done. */
  alignas(64) _Atomic uint32_t joined_event;
  _Atomic uint32_t joiners;
  struct forkq__slots slots;
  struct forkq__channel_shared channel;
  struct forkq__ledger ledger;
};

/* A new segment, mapped; *ret_fd is its descriptor. 0 or a negative errno. */
int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd);
void forkq__segment_unmap(struct forkq__segment *segment);

#endif
