/* forkq: multiprocessing.Queue for C, and its family.
 *
 * This header is the core library; it needs <msgpack.h>. Each part is a manual of its own:
 *
 *   forkq/base.h          errors, timeouts, the hooks for memory and for logging
 *   forkq/item.h          what a get fills: an object and the memory it lives in
 *   forkq/queue.h         the queue between processes, and what holds when one dies
 *   forkq/simple_queue.h  the same without bound, thread and timeouts
 *   forkq/handover.h      giving a queue to another program
 *   forkq/connection.h    pipes, whose other end may be CPython's
 *   forkq/wait.h          waiting for several things at once
 */
#ifndef FORKQ_H
#define FORKQ_H

#include <forkq/base.h>
#include <forkq/connection.h>
#include <forkq/handover.h>
#include <forkq/item.h>
#include <forkq/queue.h>
#include <forkq/simple_queue.h>
#include <forkq/wait.h>

#endif
