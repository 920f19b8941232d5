/* Connecting to a server, by TCP or a Unix socket. The system calls of this library that base/os.h does not have. */
#ifndef FORKQ_REDIS_NET_H
#define FORKQ_REDIS_NET_H

#include "redis/config.h"

/* Returns a socket that does not block, or FORKQ_TIMEDOUT, -EHOSTUNREACH if the host is not known, or another
 * negative errno. Looking up the host is not limited by the deadline. */
int forkq__net_connect(const struct forkq__redis_config *config, int64_t deadline);

/* Without waiting: -EAGAIN. read returns 0 at the end. */
ssize_t forkq__net_write(int fd, const void *data, size_t size);
ssize_t forkq__net_read(int fd, void *data, size_t size);

#endif
