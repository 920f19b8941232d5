/* Finding processes that died, and giving back what they held. */
#ifndef FORKQ_REAP_H
#define FORKQ_REAP_H

#include "pipe/channel.h"

/* Finds dead processes and gives back what they held. Returns whether any slot came back. It
 * costs two system calls for each other process that may hold something; when many processes
 * call it at once, one does it for all. If it leaves a doubt, it waits for the locks of the
 * pipe, a moment for each, and reaps again with both. */
bool forkq__reap(struct forkq__channel *channel);

/* Makes sure that this process has an account: reaps all dead processes, and claims a cell.
 * The caller holds the sender's mutex. Returns 0, or
 *
 *   FORKQ_ETOOMANY  no cell is free
 *   FORKQ_EBROKEN   the ledger lock is damaged
 *   FORKQ_TIMEDOUT  a process kept the ledger lock for longer than a moment
 *   -EBADF          this process has closed the queue's descriptors
 *
 * or another negative errno. */
int forkq__reap_and_claim(struct forkq__channel *channel);

/* Takes over the items of a dead process, of which the caller has copies. Calls `take_over`,
 * under the ledger lock, with the number of items that the dead process has not sent; it takes
 * slots for them. Then settles the dead process's account. Returns 0, or
 *
 *   FORKQ__NOTHING  there is nothing to take over, now and forever
 *   FORKQ__BUSY     the process lives, or the verdict on its last packet is not known, or the
 *                   ledger lock cannot be had: the caller tries again later */
int forkq__reap_take_over(struct forkq__channel *channel,
                          const struct forkq__estate *estate,
                          void (*take_over)(void *arg, uint64_t count), void *arg);

#endif
