/* The object of a queue that a server holds, for those who open it. */
#ifndef FORKQ_REDIS_QUEUE_H
#define FORKQ_REDIS_QUEUE_H

#include "redis/redis_impl.h"

extern const struct forkq__elsewhere_ops forkq__redis_ops;

/* Frees one that is closed, or that was never opened. */
void forkq__redis_free(struct forkq__redis *redis);

#endif
