/* The shared segment: the memory that the processes of one queue share; layout.h is its map.
 *
 * It is anonymous memory (memfd_create(2)) of fixed size, known only by its descriptor. The
 * kernel frees it with the last process that has it. After the mapped part there is room for a
 * partial message (spill.h). Memory is reserved before it is written, so that no process gets
 * a SIGBUS when the system has none left. create reserves everything except the ledger's cells,
 * which are reserved as they come into use, and the table of kept tasks, which only some queues have. */
#ifndef FORKQ_SEGMENT_H
#define FORKQ_SEGMENT_H

#include "shared/layout.h"

/* Creates and maps a segment. *ret_fd is its descriptor. `name`: the queue's, or empty. Returns 0 or a negative
 * errno. */
int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd,
                          const char *name);

/* Maps the segment of another program. The descriptor stays open. Returns 0, or:
 *   FORKQ_EHANDOVER  it is not a segment, or it is damaged
 *   FORKQ_EVERSION   it has another version or layout
 *   other            a negative errno */
int forkq__segment_open(struct forkq__segment **ret_segment, int fd);

/* Copies the segment of another program, without a lock and without a map: of the cells, and of the kept tasks
 * where lost ones are got again, those that were ever used; the others in *ret_copy stay as they were. What the
 * copy has is in bounds, as after open. Returns 0 or the errors of open. */
int forkq__segment_read(struct forkq__segment *ret_copy, int fd);

/* Initializes the locks of a channel that is all zero. Returns 0 or a negative errno. */
int forkq__segment_init_channel(struct forkq__channel_shared *channel);

void forkq__segment_unmap(struct forkq__segment *segment);

#endif
