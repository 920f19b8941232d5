/* The part of a large message that a reader had received when its time was over.
 *
 * It is kept in the shared memory's file, behind the part that is mapped, so that whoever
 * reads next goes on with it. All of it is guarded by the channel's read lock, and right
 * after the death of a reader at any instruction: `mark` alone says how much there is. */
#ifndef FORKQ_PARTIAL_H
#define FORKQ_PARTIAL_H

#include "shared/layout.h"

#include <stdbool.h>

/* Where the bytes are. */
struct forkq__partial_file {
  int fd;
  uint64_t
      identity; /* what the descriptor must be: it may have been closed and used again */
  int64_t offset;
};

/* A message being put together. */
struct forkq__assembly {
  bool active;
  uint32_t cell;
  uint32_t owner; /* of that cell: the how manieth */
  uint32_t total;
  uint32_t have;
  uint64_t seq;   /* of its last fragment so far */
  int unkeepable; /* it could not be kept, for this reason; or 0 */
};

/* Keeps `data`, the bytes of an assembly; 0 or a negative errno, and then there is none. */
int forkq__partial_keep(struct forkq__partial *partial, struct forkq__partial_file file,
                        const struct forkq__assembly *assembly, const void *data);

/* What is kept; not active if nothing is. */
struct forkq__assembly forkq__partial_kept(struct forkq__partial *partial, uint64_t seq);

/* Adds the payload of the packet with this seq. 0 or a negative errno, and then nothing is
 * changed. */
int forkq__partial_append(struct forkq__partial *partial, struct forkq__partial_file file,
                          uint64_t seq, const void *data, uint32_t size);

int forkq__partial_read(struct forkq__partial *partial, struct forkq__partial_file file,
                        void *data);

void forkq__partial_drop(struct forkq__partial *partial, struct forkq__partial_file file);

/* After the death of a reader: gives back what it may have left of one that it was keeping, or
 * dropping. */
void forkq__partial_repair(struct forkq__partial *partial,
                           struct forkq__partial_file file);

#endif
