/* Connecting to a server, by TCP or a Unix socket. The system calls of this library that base/os.h does not have. */
#ifndef FORKQ_REDIS_NET_H
#define FORKQ_REDIS_NET_H

#include "redis/config.h"

#include <poll.h>

/* All that a wait on a connection needs to know. `poll` waits as forkq__os_poll does, and may end for a reason of its
 * own. */
struct forkq__patience {
  int64_t deadline;
  int (*poll)(void *arg, struct pollfd *fd, int64_t deadline);
  void *arg;
};

/* Returns a socket that does not block, or FORKQ_TIMEDOUT, what the poll returned, -EHOSTUNREACH if the host is not
 * known, or another negative errno. Looking up the host is not limited by the deadline. */
int forkq__net_connect(const struct forkq__redis_config *config,
                       const struct forkq__patience *patience);

/* Without waiting: -EAGAIN. read returns 0 at the end. */
ssize_t forkq__net_write(int fd, const void *data, size_t size);
ssize_t forkq__net_read(int fd, void *data, size_t size);

#endif
