/* Partial messages: the part of a large message that a reader had received when its time was
 * over.
 *
 * The reader keeps the part in the shared memory's file, after the mapped range, and the next
 * reader continues with it. The channel's read lock guards all fields. They are right after the
 * death of a reader at any instruction: `mark` alone says how many bytes there are. */
#ifndef FORKQ_SPILL_H
#define FORKQ_SPILL_H

#include "shared/account.h"

#include <stdbool.h>

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

/* The account tells which file the shared memory's is.
 *
 * Keeps `data`, the bytes of an assembly. Returns 0, or a negative errno: then nothing is kept. */
int forkq__spill_keep(struct forkq__spill *spill, const struct forkq__account *account,
                      const struct forkq__assembly *assembly, const void *data);

/* Returns the part that is kept; not active if there is none. `seq` is the number of the last
 * packet read. */
struct forkq__assembly forkq__spill_kept(struct forkq__spill *spill, uint64_t seq);

/* Adds the payload of the packet with this seq. Returns 0, or a negative errno: then the part
 * is unchanged. */
int forkq__spill_append(struct forkq__spill *spill, const struct forkq__account *account,
                        uint64_t seq, const void *data, uint32_t size);

/* The first bytes of the part, up to `size`: as many as there are, or a negative errno. */
int forkq__spill_head(struct forkq__spill *spill, const struct forkq__account *account,
                      void *data, uint32_t size);

int forkq__spill_read(struct forkq__spill *spill, const struct forkq__account *account,
                      void *data);

void forkq__spill_drop(struct forkq__spill *spill, const struct forkq__account *account);

/* After the death of a reader: releases bytes that it may have left when it was keeping or
 * dropping a part. */
void forkq__spill_repair(struct forkq__spill *spill,
                         const struct forkq__account *account);

#endif
