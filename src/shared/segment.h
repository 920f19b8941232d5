/* The shared segment: the memory that the processes of one queue share; layout.h is its map.
 *
 * Anonymous memory (memfd_create(2)) of fixed size, known only by its descriptor: it goes
 * with the last process that has it. Behind the mapped part there is room for a partial message
 * (partial.h). Memory is reserved before it is written, so that nobody meets a SIGBUS where the
 * system has none left: here all but the ledger's cells, which are as they come into use. */
#ifndef FORKQ_SEGMENT_H
#define FORKQ_SEGMENT_H

#include "shared/layout.h"

/* A new segment, mapped; *ret_fd is its descriptor. 0 or a negative errno. */
int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd);

/* Maps the segment of another program: 0, FORKQ_EHANDOVER if it is none or is damaged,
 * FORKQ_EVERSION if it is one of another version or layout, or a negative errno. The
 * descriptor stays open. */
int forkq__segment_open(struct forkq__segment **ret_segment, int fd);

/* The locks in a part of it that is all zero: 0 or a negative errno. */
int forkq__segment_init_channel(struct forkq__channel_shared *channel);

void forkq__segment_unmap(struct forkq__segment *segment);

#endif
