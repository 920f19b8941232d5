/* The packet read ahead. It lies in shared memory, and the gets of all processes take their
 * frames from it. When the last frame is taken, a reader reads the next packet. This is a part
 * of the channel, for the channel's own files. All functions but pipe_readable and pipe_ended need
 * the read lock. */
#ifndef FORKQ_CHANNEL_READ_H
#define FORKQ_CHANNEL_READ_H

#include "codec/borrow.h"
#include "pipe/channel.h"

/* Whether a frame of the packet is left. */
static inline bool forkq__channel_unread(const struct forkq__channel_shared *shared) {
  uint32_t offset = FORKQ__LOAD(shared->offset);
  return offset != 0 && offset < shared->packet.length;
}

/* Reads the next packet from the pipe. Never blocks. Returns 0, FORKQ__NOTHING if there is
 * none, FORKQ_EALONE if the pipe has ended, FORKQ_EBADFRAME if the bytes are not a packet, -EBADF if
 * the descriptor is no longer the pipe, FORKQ_EBROKEN at the end of the file where this process could
 * put, or another negative errno of the read. */
int forkq__channel_load(struct forkq__channel *channel);

/* Steps over `frames` frames, the last of which ends at `next`; `messages` end in them. pass: they
 * are not counted as got. take: this process has got these messages, at least one, the first of which is
 * in `item`; where tasks are kept, it is one. Returns 0, or the error of forkq__kept_prepare, and then
 * the item is empty. drop: it is one frame, and no process has got the message. */
void forkq__channel_pass(struct forkq__channel *channel, uint32_t next, uint32_t frames,
                         uint64_t messages);
int forkq__channel_take_counted(struct forkq__channel *channel, forkq_item_t *item,
                                uint32_t next, uint32_t frames, uint64_t messages);
static inline int forkq__channel_take(struct forkq__channel *channel, forkq_item_t *item,
                                      uint32_t next, uint32_t frames, uint64_t messages) {
  if (channel->joinable)
    return forkq__channel_take_counted(channel, item, next, frames, messages);
  forkq__channel_pass(channel, next, frames, messages);
  return 0;
}
void forkq__channel_drop(struct forkq__channel *channel, uint32_t next,
                         uint64_t messages);

/* The task is no longer lost: this process has it, in `item`; or nobody. */
void forkq__channel_take_lost(struct forkq__channel *channel, forkq_item_t *item,
                              uint32_t task);
void forkq__channel_drop_lost(struct forkq__channel *channel, uint32_t task);

/* Whether the get looks at the head of a message before it takes it. */
static inline bool forkq__item_has_check(const forkq_item_t *item) {
  return item->borrow_ != NULL && item->borrow_->check != NULL;
}

/* Whether a read of the pipe would bring something, or find its end. */
bool forkq__channel_pipe_readable(const struct forkq__channel *channel);

/* Whether nothing is in the pipe, and no process has its writing end. Always false in a process that has
 * not given up its own. */
bool forkq__channel_pipe_ended(const struct forkq__channel *channel);

#endif
