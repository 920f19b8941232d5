/* A served queue: its life, its thread, and what fork and exit do to it. */
#include "queue/server_impl.h"

#include "base/heap.h"
#include "base/os.h"
#include "base/versioned.h"

#include <errno.h>
#include <string.h>

/* How long the thread does nothing where it cannot poll. */
#define WITHOUT_POLL_MS 10

static forkq_server_t *server_of(struct forkq__life *life) {
  return (forkq_server_t *)((uintptr_t)life - offsetof(forkq_server_t, life));
}

static bool is_mine(const forkq_server_t *server) {
  return server->forks == forkq__life_forks();
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static void close_fd(int *fd) {
  int old = *fd;
  *fd = -1;
  if (old >= 0)
    forkq__os_close(old);
}

static void close_listener(forkq_server_t *server) {
  if (server->options.socket == 0)
    close_fd(&server->listener);
  server->listener = -1;
}

/* All but the set, which a loop may still poll. */
static void close_all(forkq_server_t *server) {
  close_listener(server);
  for (int i = 0; i < FORKQ__SERVER_WAITING; i++)
    close_fd(&server->waiting[i].fd);
  close_fd(&server->timer);
  close_fd(&server->name.directory);
}

/* ---- fork and exit --------------------------------------------------------------------------- */

/* With a copy of the socket in a child, the name would look as if it were in use after the server's end. */
static void after_fork_child(struct forkq__life *life) {
  forkq_server_t *server = server_of(life);
  server->has_thread = false;
  close_all(server);
}

static void at_exit(struct forkq__life *life) {
  forkq_server_t *server = server_of(life);
  if (is_mine(server))
    forkq__server_name_drop(&server->name);
}

static const struct forkq__life_ops server_ops = {
  .after_fork_child = after_fork_child,
  .at_exit = at_exit,
};

/* ---- the thread ------------------------------------------------------------------------------ */

static void run(void *arg) {
  forkq_server_t *server = arg;
  uv_sem_post(&server->started);
  struct pollfd set = { .fd = server->set, .events = POLLIN };
  while (!atomic_load(&server->stopping)) {
    if (forkq__os_poll(&set, 1, FORKQ__FOREVER) < 0)
      forkq__os_poll(NULL, 0, forkq__os_deadline_within(FORKQ__FOREVER, WITHOUT_POLL_MS));
    forkq__server_attend(server);
  }
}

/* Waits for the thread to run: until then a runtime, such as a sanitizer's, may hold locks of its own,
 * which are not safe to fork. */
static int start_thread(forkq_server_t *server) {
  char mask[FORKQ__SIGNAL_MASK_SIZE];
  int state;
  forkq__os_signals_block(mask);
  const uv_thread_options_t options = { .flags = UV_THREAD_NO_FLAGS };
  int r = uv_thread_create_ex(&server->thread, &options, run, server);
  forkq__os_signals_restore(mask);
  if (r < 0)
    return r == UV_ENOMEM ? r : FORKQ_ENOTHREAD;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_sem_wait(&server->started);
  pthread_setcancelstate(state, NULL);
  server->has_thread = true;
  return 0;
}

/* The thread sets the timer before it looks at `stopping`. So if it has not seen that, this time is the last
 * that the timer is set to. */
static void end_thread(forkq_server_t *server) {
  int state;
  if (!server->has_thread)
    return;
  atomic_store(&server->stopping, true);
  forkq__os_timer_set(server->timer, FORKQ__NOWAIT);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_thread_join(&server->thread);
  pthread_setcancelstate(state, NULL);
  server->has_thread = false;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int read_options(forkq_server_options_t *all,
                        const forkq_server_options_t *options) {
  *all = (forkq_server_options_t)FORKQ_SERVER_OPTIONS_INIT;
  if (options == NULL)
    return 0;
  if (!forkq__is_version(options->size, sizeof *all, sizeof *all))
    return FORKQ_ERANGE;
  memcpy(all, options, options->size);
  return all->socket >= 0 ? 0 : FORKQ_ERANGE;
}

/* Opens what the server needs, before another process can know of it. */
static int open_all(forkq_server_t *server, const char *path, bool is_abstract) {
  int r = 0;
  if (server->options.socket == 0) {
    if (!is_abstract)
      r = forkq__server_name_open(&server->name, path);
    if (r == 0)
      server->listener = r = forkq__os_socket();
  }
  if (r >= 0)
    server->timer = r = forkq__os_timer_create();
  if (r >= 0)
    server->set = r = forkq__os_poll_set_create(&server->timer, 1);
  return r < 0 ? r : 0;
}

/* Registers the server before a child can inherit a descriptor of it. */
static int begin(forkq_server_t *server, const char *path, bool is_abstract) {
  int r = forkq__life_hold();
  if (r < 0)
    return r;
  server->forks = forkq__life_forks();
  r = open_all(server, path, is_abstract);
  if (r == 0) {
    forkq__life_begin(&server->life, &server_ops);
  } else {
    close_all(server);
    close_fd(&server->set);
  }
  forkq__life_let_go();
  return r;
}

static int listen_on(forkq_server_t *server, const struct forkq__address *address) {
  int r;
  if (server->options.socket != 0) {
    server->listener = server->options.socket;
    r = forkq__os_adopt_listener(server->listener);
  } else {
    r = forkq__server_name_take(&server->name, server->listener, address,
                                &server->options);
  }
  if (r == 0)
    r = forkq__os_poll_set_add(server->set, server->listener);
  return r < 0 || server->options.no_thread ? r : start_thread(server);
}

static int create(forkq_server_t **ret_server, forkq_queue_t *queue,
                  const forkq_server_options_t *options) {
  forkq_server_t *server = forkq__calloc(sizeof *server);
  if (server == NULL)
    return -ENOMEM;
  server->queue = queue;
  server->options = *options;
  server->listener = server->set = server->timer = -1;
  server->name.directory = -1;
  for (int i = 0; i < FORKQ__SERVER_WAITING; i++)
    server->waiting[i].fd = -1;
  int r = uv_sem_init(&server->started, 0);
  if (r < 0) {
    forkq__free(server);
    return r;
  }
  *ret_server = server;
  return 0;
}

static void free_server(forkq_server_t *server) {
  forkq__server_name_close(&server->name);
  uv_sem_destroy(&server->started);
  forkq__free(server);
}

static int open_server(forkq_server_t **ret_server, forkq_queue_t *queue,
                       const char *path, const struct forkq__address *address,
                       const forkq_server_options_t *options) {
  forkq_server_t *server = NULL;
  int r = create(&server, queue, options);
  if (r < 0)
    return r;
  r = begin(server, path, address->is_abstract);
  if (r < 0) {
    free_server(server);
    return r;
  }
  r = listen_on(server, address);
  if (r < 0)
    forkq_server_destroy(server);
  else
    *ret_server = server;
  return r;
}

int forkq_queue_serve(forkq_server_t **ret_server, forkq_queue_t *queue, const char *path,
                      const forkq_server_options_t *options) {
  forkq_server_options_t all;
  struct forkq__address address = { .size = 0 };
  forkq_handover_t handover;
  if (ret_server == NULL || queue == NULL)
    return FORKQ_ENULL;
  int r = read_options(&all, options);
  if (r < 0)
    return r;
  if (all.socket > 0)
    r = path == NULL ? 0 : FORKQ_ERANGE;
  else
    r = path != NULL ? forkq__os_address(path, &address) : FORKQ_ENULL;
  if (r == 0)
    r = forkq_queue_hand_over(queue, &handover);
  return r < 0 ? r : open_server(ret_server, queue, path, &address, &all);
}

/* ---- serving, and the end -------------------------------------------------------------------- */

int forkq_server_fileno(const forkq_server_t *server) {
  if (server == NULL)
    return FORKQ_ENULL;
  return is_mine(server) ? server->set : FORKQ_EFORKED;
}

int forkq_server_turn(forkq_server_t *server) {
  if (server == NULL)
    return FORKQ_ENULL;
  if (!is_mine(server))
    return FORKQ_EFORKED;
  if (!server->options.no_thread)
    return -EINVAL;
  forkq__server_attend(server);
  return 0;
}

/* The path goes first: while this process still listens, no other server takes it. A socket of the program
 * goes on listening. */
static void stop_listening(forkq_server_t *server) {
  forkq__server_name_drop(&server->name);
  if (server->options.socket == 0)
    forkq__os_refuse(server->listener);
}

/* With the registry, so that no child is forked meanwhile that has a descriptor and does not know it. In a
 * handler that has interrupted a call there is no registry. */
void forkq_server_destroy(forkq_server_t *server) {
  if (server == NULL)
    return;
  bool mine = is_mine(server);
  if (mine)
    end_thread(server);
  bool held = forkq__life_hold() == 0;
  if (mine)
    stop_listening(server);
  close_all(server);
  close_fd(&server->set);
  if (held)
    forkq__life_let_go();
  forkq__life_end(&server->life);
  free_server(server);
}
