/* forkq/loop.h: forkq for programs that run a libuv loop. It needs <uv.h>.
 *
 *   forkq/loop_handle.h  queues between processes, and connections, as requests on a loop
 *   forkq/loop_serve.h   serving a queue under a name, on a loop
 *   forkq/loop_queue.h   asyncio's queues: pointers within one loop
 *
 * For any other loop (epoll, GLib, libevent) see forkq_queue_fileno in forkq/queue.h. */
#ifndef FORKQ_LOOP_H
#define FORKQ_LOOP_H

#include <forkq/loop_handle.h>
#include <forkq/loop_queue.h>
#include <forkq/loop_serve.h>

#endif
