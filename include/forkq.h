/* forkq: multiprocessing.Queue for C.
 *
 * This header is the core library; it needs <msgpack.h>. Each part is a manual of its own:
 *
 *   forkq/base.h        errors, timeouts, the hooks for memory and for logging
 *   forkq/item.h        what a get fills: an object and the memory it lives in
 *   forkq/queue.h       the queue between processes, and what holds when one dies
 */
#ifndef FORKQ_H
#define FORKQ_H

#include <forkq/base.h>
#include <forkq/item.h>
#include <forkq/queue.h>

#endif
