/* The clients of a server. Each is asked for by the kernel who it is, says that it wants the queue, and
 * gets it, mostly all in one turn. Those that have not said it yet wait in a small table. */
#include "queue/server_impl.h"

#include "base/os.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* How long a server waits for a client. */
#define CLIENT_MS 5000

/* Clients that are accepted in a turn. */
#define ACCEPTED_AT_ONCE 64

/* When a client that cannot have the queue now is tried again; and when a server accepts again after it
 * could not, because the process or the system has no descriptors left. */
#define RETRY_MS 10
#define PAUSE_MS 100

static void close_client(struct forkq__client *client) {
  int fd = client->fd;
  client->fd = -1;
  forkq__os_close(fd);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* The buffer of a new connection has room for it. */
static void say(int fd, const char *reason) {
  char text[FORKQ_HANDOVER_TEXT] = "";
  struct iovec part = { text, sizeof text };
  snprintf(text, sizeof text, FORKQ__GREETING "%s", FORKQ__SEGMENT_LAYOUT, reason);
  (void)forkq__os_socket_write_soon(fd, &part, 1);
}

static bool is_allowed(const forkq_server_t *server, int fd) {
  const forkq_server_options_t *options = &server->options;
  forkq_peer_t peer;
  if (forkq__os_peer(fd, &peer) < 0)
    return false;
  if (options->allow != NULL)
    return options->allow(&peer, options->arg) != 0;
  return peer.user == forkq__os_user() ||
         (options->by_group && forkq__os_is_peer_in_group(fd, &peer, options->group));
}

/* What a client wants: 0, the queue; -EAGAIN, it has said nothing yet; FORKQ_EVERSION; or another error,
 * if it has ended or is no client of forkq. A greeting is exactly what a client of forkq writes, as a
 * handover is. */
static int hear(int fd) {
  char text[FORKQ__GREETING_SIZE], same[FORKQ__GREETING_SIZE] = "";
  unsigned layout;
  ssize_t n = forkq__os_socket_read_soon(fd, text, sizeof text);
  if (n != sizeof text || text[sizeof text - 1] != '\0')
    return n < 0 ? (int)n : FORKQ_EHANDOVER;
  if (sscanf(text, FORKQ__GREETING, &layout) != 1)
    return FORKQ_EHANDOVER;
  snprintf(same, sizeof same, FORKQ__GREETING, layout);
  if (memcmp(text, same, sizeof text) != 0)
    return FORKQ_EHANDOVER;
  return layout == FORKQ__SEGMENT_LAYOUT ? 0 : FORKQ_EVERSION;
}

/* Whether the same may succeed later: others must receive their descriptors first, or another thread lets
 * go of the queue. */
static bool is_passing(int error) {
  return error == FORKQ_TIMEDOUT || error == -ETOOMANYREFS || error == -ENOMEM ||
         error == -ENOBUFS;
}

/* Whether the client was answered, or is to have no answer. A turn waits only once for a thread that has the
 * queue, and not once a client. */
static bool answer(forkq_server_t *server, struct forkq__client *client) {
  if (!client->has_asked) {
    int r = hear(client->fd);
    if (r == -EAGAIN)
      return false;
    if (r == FORKQ_EVERSION)
      say(client->fd, FORKQ__SAYS_VERSION);
    if (r < 0)
      return true;
    client->has_asked = true;
  }
  if (server->is_queue_held)
    return false;
  int r = forkq__queue_send_soon(server->queue, client->fd);
  server->is_queue_held = r == FORKQ_TIMEDOUT;
  if (r == FORKQ_ECLOSED)
    say(client->fd, FORKQ__SAYS_CLOSED);
  return !is_passing(r);
}

/* ---- those who wait -------------------------------------------------------------------------- */

/* The descriptor leaves the set before it is closed: in a child that was just forked there may be another
 * one for the connection. */
static void end_client(forkq_server_t *server, struct forkq__client *client) {
  forkq__os_poll_set_remove(server->set, client->fd);
  close_client(client);
}

static void look_at(forkq_server_t *server, struct forkq__client *client, int64_t now) {
  bool had_asked = client->has_asked;
  bool is_done = answer(server, client);
  if (!is_done && now >= client->until && client->has_asked)
    say(client->fd, FORKQ__SAYS_BUSY);
  if (is_done || now >= client->until)
    end_client(server, client);
  else if (client->has_asked && !had_asked)
    forkq__os_poll_set_remove(server->set, client->fd); /* it is tried by time */
}

static void look_at_all(forkq_server_t *server) {
  int64_t now = forkq__os_now();
  for (int i = 0; i < FORKQ__SERVER_WAITING; i++)
    if (server->waiting[i].fd >= 0)
      look_at(server, &server->waiting[i], now);
}

/* A free place. If there is none, that of the client that has waited longest. */
static struct forkq__client *make_place(forkq_server_t *server) {
  struct forkq__client *oldest = &server->waiting[0];
  for (int i = 0; i < FORKQ__SERVER_WAITING; i++) {
    struct forkq__client *client = &server->waiting[i];
    if (client->fd < 0)
      return client;
    if (client->until < oldest->until)
      oldest = client;
  }
  end_client(server, oldest);
  return oldest;
}

static void keep_waiting(forkq_server_t *server, const struct forkq__client *client) {
  struct forkq__client *place = make_place(server);
  *place = *client;
  if (!client->has_asked && forkq__os_poll_set_add(server->set, client->fd) < 0)
    close_client(place);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void admit(forkq_server_t *server, int fd) {
  struct forkq__client client = {
    .fd = fd, .until = forkq__os_deadline_within(FORKQ__FOREVER, CLIENT_MS)
  };
  bool is_done = true;
  if (is_allowed(server, fd))
    is_done = answer(server, &client);
  else
    say(fd, FORKQ__SAYS_REFUSED);
  if (is_done)
    close_client(&client);
  else
    keep_waiting(server, &client);
}

/* Without a descriptor for the next client, the listener stays readable. */
static void pause_accepting(forkq_server_t *server) {
  forkq__os_poll_set_remove(server->set, server->listener);
  server->resume_at = forkq__os_deadline_within(FORKQ__FOREVER, PAUSE_MS);
}

static bool may_accept(forkq_server_t *server) {
  if (server->resume_at != 0 && forkq__os_now() >= server->resume_at) {
    int r = forkq__os_poll_set_add(server->set, server->listener);
    server->resume_at = r == 0 ? 0 : forkq__os_deadline_within(FORKQ__FOREVER, PAUSE_MS);
  }
  return server->resume_at == 0;
}

/* While another thread has the queue, those who come wait in the kernel's line, which is longer than the
 * table. */
static void accept_some(forkq_server_t *server) {
  for (int i = 0; i < ACCEPTED_AT_ONCE && !server->is_queue_held && may_accept(server);
       i++) {
    int fd = forkq__os_accept(server->listener);
    if (fd == -EAGAIN)
      return;
    if (fd >= 0)
      admit(server, fd);
    else
      pause_accepting(server);
  }
}

static int64_t next_look(const forkq_server_t *server) {
  int64_t next = server->resume_at != 0 ? server->resume_at : FORKQ__FOREVER;
  for (int i = 0; i < FORKQ__SERVER_WAITING; i++) {
    const struct forkq__client *client = &server->waiting[i];
    if (client->fd < 0)
      continue;
    next = client->until < next ? client->until : next;
    if (client->has_asked)
      next = forkq__os_deadline_within(next, RETRY_MS);
  }
  return next;
}

void forkq__server_attend(forkq_server_t *server) {
  server->is_queue_held = false;
  look_at_all(server);
  accept_some(server);
  forkq__os_timer_set(server->timer, next_look(server));
}
