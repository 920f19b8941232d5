/* The packet that was read ahead: it lies in shared memory, where the gets of all processes take
 * their frames from it. One packet is read when the last frame of the one before was taken. A
 * part of the channel, for its own files; all but pipe_readable want the read lock. */
#ifndef FORKQ_READ_AHEAD_H
#define FORKQ_READ_AHEAD_H

#include "pipe/channel.h"

/* Whether a frame of it is left. */
static inline bool forkq__ahead_unread(const struct forkq__channel_shared *shared) {
  uint32_t offset = FORKQ__LOAD(shared->offset);
  return offset != 0 && offset < shared->packet.length;
}

/* Reads the next packet from the pipe: 0, FORKQ__NOTHING if there is none, or FORKQ_EBADFRAME. */
int forkq__ahead_load(struct forkq__channel *channel);

/* Passes over `frames` frames, the last of which ends at `next`; `messages` end in them. take:
 * this process has got these. drop: one frame, and nobody has got the message. */
void forkq__ahead_take(struct forkq__channel *channel, uint32_t next, uint32_t frames,
                       uint64_t messages);
void forkq__ahead_drop(struct forkq__channel *channel, uint32_t next, uint64_t messages);

/* Whether a read of the pipe would bring something. */
bool forkq__channel_pipe_readable(const struct forkq__channel *channel);

#endif
