/* forkq/loop_serve.h: a queue that is served on a libuv loop.
 *
 * forkq_queue_serve (forkq/serve.h) without a thread: clients get the queue in callbacks of
 * the loop. Names, access, and what holds for clients, are as there.
 *
 * Threads
 *
 *   A server belongs to the thread that runs the loop, as the loop's own handles do. While no
 *   thread runs it, any one thread at a time may use it.
 *
 * fork
 *
 *   A child that goes on with the loop (uv_loop_fork) does not serve, and may close its copy. */
#ifndef FORKQ_LOOP_SERVE_H
#define FORKQ_LOOP_SERVE_H

#include <forkq/loop_handle.h>
#include <forkq/serve.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A queue that is served on a loop. */
typedef struct forkq_loop_server forkq_loop_server_t;

/* Serves the queue under a name, on a loop. The caller owns *ret_server and closes it with
 * forkq_loop_server_close, before it destroys the queue. As a socket of libuv that listens, it
 * keeps the loop alive until then. `options` is as in forkq_queue_serve; `no_thread` is not
 * looked at.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_serve.
 * Errors: those of forkq_queue_serve, and:
 *   FORKQ_ENULL  `loop` is NULL
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_loop_serve(forkq_loop_server_t **ret_server,
                                                uv_loop_t *loop, forkq_queue_t *queue,
                                                const char *path,
                                                const forkq_server_options_t *options);

/* Ends a server at once, as forkq_server_destroy does. Its memory is freed in a later turn of the
 * loop, after which `cb`, unless NULL, is called with `arg`. The server must not be used after
 * this call.
 *
 * Returns: 0.
 * Blocks: as forkq_server_destroy.
 * Errors:
 *   FORKQ_ENULL  `server` is NULL
 * Python: none. */
FORKQ_API int forkq_loop_server_close(forkq_loop_server_t *server, forkq_loop_close_cb cb,
                                      void *arg);

#ifdef __cplusplus
}
#endif

#endif
