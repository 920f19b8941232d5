/* Finding processes that died, and giving back what they held. */
#ifndef FORKQ_REAP_H
#define FORKQ_REAP_H

#include "pipe/channel.h"

/* Costs two system calls for each other process with something in its outbox; but of many that ask
 * at the same time one does it for all. Where it leaves a doubt, it waits for the pipe's locks, a
 * moment each, and reaps with them in hand. True if anything came back. */
bool forkq__reap(struct forkq__channel *channel);

/* Makes sure that this process has an account: reaps all the others', and claims a cell. With the
 * feeder's mutex. 0, FORKQ_ETOOMANY, FORKQ_EBROKEN, a negative errno, or FORKQ_TIMEDOUT when somebody
 * keeps the ledger's lock for longer than a moment. -EBADF: the process has closed the queue's
 * descriptors. */
int forkq__reap_and_claim(struct forkq__channel *channel);

/* Of a dead process, of which the caller has the items. `take_over` is called, with the ledger's
 * lock, with the number of those that it has not sent, and takes slots for them; then its account is
 * settled. 0; FORKQ__NOTHING if there is nothing to be taken over, now and ever; FORKQ__BUSY if it
 * lives, or what it has sent is not known, or the lock cannot be had: then it is to be tried
 * again. */
int forkq__reap_take_over(struct forkq__channel *channel,
                          const struct forkq__estate *estate,
                          void (*take_over)(void *arg, uint64_t count), void *arg);

#endif
