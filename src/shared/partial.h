/* Partial messages: the part of a large message that a reader had received when its time was
 * over.
 *
 * The reader keeps the part in the shared memory's file, after the mapped range, and the next
 * reader continues with it. The channel's read lock guards all fields. They are right after the
 * death of a reader at any instruction: `mark` alone says how many bytes there are. */
#ifndef FORKQ_PARTIAL_H
#define FORKQ_PARTIAL_H

#include "shared/layout.h"

#include <stdbool.h>

/* Where the bytes are. */
struct forkq__partial_file {
  int fd;
  uint64_t identity; /* of its file: the number may be another file's by now */
  int64_t offset;
};

/* A message that a reader assembles from fragments. */
struct forkq__assembly {
  bool active;
  uint32_t cell;
  uint32_t owner; /* the number of that cell's owner */
  uint32_t total;
  uint32_t have;
  uint64_t seq;   /* of its last fragment so far */
  int unkeepable; /* the error because of which it could not be kept; or 0 */
};

/* Keeps `data`, the bytes of an assembly. Returns 0, or a negative errno: then nothing is kept. */
int forkq__partial_keep(struct forkq__partial *partial, struct forkq__partial_file file,
                        const struct forkq__assembly *assembly, const void *data);

/* Returns the part that is kept; not active if there is none. `seq` is the number of the last
 * packet read. */
struct forkq__assembly forkq__partial_kept(struct forkq__partial *partial, uint64_t seq);

/* Adds the payload of the packet with this seq. Returns 0, or a negative errno: then the part
 * is unchanged. */
int forkq__partial_append(struct forkq__partial *partial, struct forkq__partial_file file,
                          uint64_t seq, const void *data, uint32_t size);

int forkq__partial_read(struct forkq__partial *partial, struct forkq__partial_file file,
                        void *data);

void forkq__partial_drop(struct forkq__partial *partial, struct forkq__partial_file file);

/* After the death of a reader: releases bytes that it may have left when it was keeping or
 * dropping a part. */
void forkq__partial_repair(struct forkq__partial *partial,
                           struct forkq__partial_file file);

#endif
