/* A served queue on a loop: the server's descriptor, polled by libuv. */
#include "base/heap.h"
#include "queue/queue_impl.h"

#include <errno.h>
#include <forkq/loop_serve.h>

struct forkq_loop_server {
  forkq_server_t *server;
  uv_poll_t poll;
  forkq_loop_close_cb close_cb;
  void *close_arg;
};

/* In a forked child the descriptor is the parent's set, too, and so is what makes it readable. */
static void on_clients(uv_poll_t *poll, int status, int events) {
  forkq_loop_server_t *server = poll->data;
  (void)status;
  (void)events;
  if (forkq_server_turn(server->server) == FORKQ_EFORKED)
    (void)uv_poll_stop(poll);
}

static void on_closed(uv_handle_t *handle) {
  forkq_loop_server_t *server = handle->data;
  forkq_loop_close_cb cb = server->close_cb;
  void *arg = server->close_arg;
  forkq__free(server);
  if (cb != NULL)
    cb(arg);
}

static int serve(forkq_loop_server_t *server, uv_loop_t *loop, forkq_queue_t *queue,
                 const char *path, const forkq_server_options_t *options) {
  int r = forkq_queue_serve(&server->server, queue, path, options);
  if (r < 0)
    return r;
  r = uv_poll_init(loop, &server->poll, forkq_server_fileno(server->server));
  if (r < 0) {
    forkq_server_destroy(server->server);
    return r;
  }
  server->poll.data = server;
  (void)uv_poll_start(&server->poll, UV_READABLE, on_clients); /* it does not fail */
  return 0;
}

int forkq_loop_serve(forkq_loop_server_t **ret_server, uv_loop_t *loop,
                     forkq_queue_t *queue, const char *path,
                     const forkq_server_options_t *options) {
  forkq_server_options_t all = FORKQ_SERVER_OPTIONS_INIT;
  if (ret_server == NULL || loop == NULL)
    return FORKQ_ENULL;
  if (options != NULL && options->size != sizeof all)
    return FORKQ_ERANGE;
  if (options != NULL)
    all = *options;
  all.no_thread = 1;
  forkq_loop_server_t *server = forkq__calloc(sizeof *server);
  if (server == NULL)
    return -ENOMEM;
  int r = serve(server, loop, queue, path, &all);
  if (r < 0)
    forkq__free(server);
  else
    *ret_server = server;
  return r;
}

/* libuv lets go of the descriptor before it is closed. */
int forkq_loop_server_close(forkq_loop_server_t *server, forkq_loop_close_cb cb,
                            void *arg) {
  if (server == NULL)
    return FORKQ_ENULL;
  server->close_cb = cb;
  server->close_arg = arg;
  uv_close((uv_handle_t *)&server->poll, on_closed);
  forkq_server_destroy(server->server);
  return 0;
}
