/* Writing a packet, under the write lock.
 *
 * A writer uses up a number (`write_seq`), notes in the pending fields of its cell what its
 * counts will be, writes the packet, notes the number in `written_seq`, and brings its counts
 * up to date. The store of `written_seq` decides. Before it, no process knows whether a dead
 * writer's packet was written, and the reaper needs a verdict (channel_verdict.c). After it,
 * the reaper takes the counts from the pending fields. */
#include "pipe/channel.h"

#include "base/contract.h"
#include "base/os.h"
#include "base/probe.h"
#include "base/times.h"

#include <errno.h>

/* If nothing can be polled, a writer looks for room in the pipe this often. */
#define WITHOUT_POLL_MS 10

/* The write lock guards a number that only grows, and the pending fields of its owner's own
 * cell, which the ledger settles. Readers drop a message that was left without its end. */
static void repair_write(void *arg) {
  struct forkq__channel *channel = arg;
  forkq__ledger_note_recovery(channel->account.ledger, FORKQ_INSPECT_WRITE_LOCK);
}

int forkq__channel_lock_write(struct forkq__channel *channel, int64_t deadline) {
  return forkq__lock_acquire(&channel->shared->write_lock, deadline, repair_write,
                             channel);
}

int forkq__channel_try_lock_write(struct forkq__channel *channel) {
  return forkq__lock_try(&channel->shared->write_lock, repair_write, channel);
}

void forkq__channel_unlock_write(struct forkq__channel *channel) {
  forkq__lock_release(&channel->shared->write_lock);
}

/* The store of written_seq decides: see above. */
static void note_written(struct forkq__cell *cell, const struct forkq__packet *packet) {
  /* model: written_seq */
  FORKQ__STORE(cell->written_seq, packet->seq);
  /* model: written_sent */
  FORKQ__STORE(cell->sent, FORKQ__LOAD(cell->pending_sent));
  /* model: written_wire */
  FORKQ__STORE(cell->sent_wire, FORKQ__LOAD(cell->pending_wire));
  FORKQ__STORE(cell->sent_bytes,
               FORKQ__LOAD(cell->sent_bytes) + forkq__packet_payload(packet));
}

int forkq__channel_write(struct forkq__channel *channel, struct forkq__packet *packet) {
  FORKQ__HELD_LOCK(&channel->shared->write_lock);
  struct forkq__channel_shared *shared = channel->shared;
  struct forkq__cell *cell = forkq__account_cell(&channel->account);
  /* The number is used up before the write: a number may be skipped, but never used twice. */
  uint64_t seq = FORKQ__LOAD(shared->write_seq) + 1;
  uint32_t size = forkq__packet_finish(packet, FORKQ__LOAD(channel->account.cell), seq);
  /* model: write_seq */
  FORKQ__STORE(shared->write_seq, seq);
  /* model: write_pending_sent */
  FORKQ__STORE(cell->pending_sent,
               FORKQ__LOAD(cell->sent) + forkq__packet_messages(packet));
  /* model: write_pending_wire */
  FORKQ__STORE(cell->pending_wire, FORKQ__LOAD(cell->sent_wire) + size);
  /* model: write_pending_seq */
  FORKQ__STORE(cell->pending_seq, seq);
  /* model: write_pipe */
  ssize_t n = forkq__os_write(channel->write_fd, packet, size);
  FORKQ__PROBE3(write, channel->account.number, n, forkq__packet_messages(packet));
  if (n >= 0)
    note_written(cell, packet);
  else
    packet->seq = 0;
  /* model: write_over */
  FORKQ__STORE(cell->pending_seq, 0);
  return n == -EAGAIN ? FORKQ__NO_ROOM : n < 0 ? (int)n : 0;
}

bool forkq__channel_is_pipe(const struct forkq__channel *channel, int fd) {
  return forkq__os_is_file(fd, channel->pipe_identity);
}

static void poll_room(const struct forkq__channel *channel, int stop_fd, int64_t deadline,
                      void (*leave)(void *arg), void *arg) {
  struct pollfd fds[] = {
    { .fd = channel->write_fd, .events = POLLOUT },
    { .fd = stop_fd, .events = POLLIN },
  };
  int r = leave == NULL ? forkq__os_poll(fds, 2, deadline)
                        : forkq__os_poll_cancellable(fds, 2, deadline, leave, arg);
  if (r < 0) {
    _Atomic uint32_t nobody = 0;
    forkq__os_futex_wait(&nobody, 0,
                         forkq__os_deadline_within(FORKQ__FOREVER, WITHOUT_POLL_MS));
  }
}

void forkq__channel_wait_room(struct forkq__channel *channel, int stop_fd,
                              void (*leave)(void *arg), void *arg) {
  int64_t deadline = FORKQ__FOREVER;
  if (leave != NULL)
    deadline = forkq__os_deadline_within(deadline, FORKQ__CANCEL_MS);
  poll_room(channel, stop_fd, deadline, leave, arg);
}

void forkq__channel_wait_room_within(struct forkq__channel *channel, int stop_fd,
                                     int ms) {
  poll_room(channel, stop_fd, forkq__os_deadline_within(FORKQ__FOREVER, ms), NULL, NULL);
}

bool forkq__channel_hasten(struct forkq__channel *channel) {
  struct forkq__channel_shared *shared = channel->shared;
  return FORKQ__LOAD(shared->asleep) != 0 && FORKQ__LOAD(shared->hastened) == 0 &&
         atomic_exchange(&shared->hastened, 1) == 0;
}
