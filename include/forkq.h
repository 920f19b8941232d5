/* forkq: multiprocessing.Queue for C, and its family.
 *
 * This header is the core library. It needs <msgpack.h>. Each part is a manual of its
 * own:
 *
 *   forkq/base.h          errors, timeouts, the hooks for memory and logging
 *   forkq/item.h          what a get fills in: an object and its memory
 *   forkq/format.h        packing and reading objects by a format
 *   forkq/queue.h         the queue between processes, and what holds when one dies
 *   forkq/simple_queue.h  a queue without bound, feeder thread or timeouts
 *   forkq/handover.h      passing a queue to another program
 *   forkq/serve.h         serving a queue under a name, for programs that do not know each other
 *   forkq/connection.h    pipes; the other end may belong to CPython
 *   forkq/wait.h          waiting for several objects at once
 *   forkq/process.h       a child process that runs a function
 *   forkq/inspect.h       looking at the queues of other processes
 *   forkq/redis.h         a queue that a Redis server holds; it is not included here, because
 *                         its functions are those of another library, libforkq-redis */
#ifndef FORKQ_H
#define FORKQ_H

#include <forkq/base.h>
#include <forkq/connection.h>
#include <forkq/format.h>
#include <forkq/handover.h>
#include <forkq/inspect.h>
#include <forkq/item.h>
#include <forkq/process.h>
#include <forkq/queue.h>
#include <forkq/serve.h>
#include <forkq/simple_queue.h>
#include <forkq/wait.h>

#endif
