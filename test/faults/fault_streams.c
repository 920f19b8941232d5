/* Scenarios of faults in which a queue is handed over, or messages go over connections, also where
 * several are waited for. */
#define _GNU_SOURCE
#include "fault_world.h"
#include "shared/layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- handover ---------------------------------------------------------------------- */

/* A queue that is not this process's any more, by its descriptors, or on its way through a
 * socket. */
static void make_detached(struct world *w) {
  forkq_handover_t handover;
  unsigned layout;
  make_queue(w);
  CHILD_MUST(forkq_queue_hand_over(w->queue, &handover) == 0);
  CHILD_MUST(sscanf(handover.text, "forkq:%u:", &layout) == 1);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    w->fds[i] = dup(handover.fds[i]);
  snprintf(w->text, sizeof w->text, "forkq:%u:%d:%d:%d:%d:%d", layout, w->fds[0],
           w->fds[1], w->fds[2], w->fds[3], w->fds[4]);
  destroy_queue(w);
}

static void act_attach(struct world *w) {
  if (met(w, forkq_queue_attach(&w->queue, w->text, NULL)) < 0)
    w->queue = NULL;
}

/* Those of make_detached survive exec; what fails to make them so cannot undo it either. */
static void must_be_as_they_were(struct world *w) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(fcntl(w->fds[i], F_GETFD) == 0 || w->last == -EBADF);
}

static void after_attach(struct world *w) {
  if (w->queue == NULL)
    must_be_as_they_were(w);
  if (w->queue == NULL)
    CHILD_MUST(forkq_queue_attach(&w->queue, w->text, NULL) == 0);
  use_and_destroy(w);
}

static void make_sockets(struct world *w) {
  CHILD_MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->fds) == 0);
}

static void make_to_send(struct world *w) {
  make_queue(w);
  make_sockets(w);
}

static void close_sockets(struct world *w) {
  close(w->fds[0]);
  close(w->fds[1]);
}

static void act_send_queue(struct world *w) {
  forkq_handover_t handover;
  met(w, forkq_queue_hand_over(w->queue, &handover));
  met(w, forkq_handover_keep(&handover));
  met(w, forkq_queue_send(w->queue, w->fds[0]));
}

static void after_send_queue(struct world *w) {
  use_and_destroy(w);
  close_sockets(w);
}

static void make_sent(struct world *w) {
  make_to_send(w);
  CHILD_MUST(forkq_queue_send(w->queue, w->fds[0]) == 0);
  destroy_queue(w);
}

static void act_receive_queue(struct world *w) {
  if (met(w, forkq_queue_receive(&w->queue, w->fds[1], NULL)) < 0)
    w->queue = NULL;
}

/* ---- a queue under a name ------------------------------------------------------------ */

static char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

static void choose_path(void) {
  const char *parent = getenv("TMPDIR");
  int n = snprintf(path, sizeof path, "%s/forkq-faults-%d",
                   parent != NULL ? parent : "/tmp", (int)getpid());
  CHILD_MUST(n < (int)sizeof path);
}

static void make_to_serve(struct world *w) {
  make_queue(w);
  choose_path();
}

/* A client that is none of the library's. Its calls do not fail. */
static int connect_raw(void) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  char greeting[24] = "";
  memcpy(address.sun_path, path, strlen(path));
  snprintf(greeting, sizeof greeting, "forkq:%u:", FORKQ__SEGMENT_LAYOUT);
  int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHILD_MUST(fd >= 0);
  CHILD_MUST(syscall(SYS_connect, fd, &address, sizeof address) == 0);
  CHILD_MUST(syscall(SYS_sendto, fd, greeting, sizeof greeting, MSG_NOSIGNAL, NULL, 0) ==
             sizeof greeting);
  return fd;
}

static void act_serve(struct world *w) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  forkq_server_t *server = NULL;
  if (met(w, forkq_queue_serve(&server, w->queue, path, NULL)) == 0)
    forkq_server_destroy(server);
  options.no_thread = 1;
  if (met(w, forkq_queue_serve(&server, w->queue, path, &options)) < 0)
    return;
  int fd = connect_raw();
  met(w, forkq_server_turn(server));
  met(w, forkq_server_turn(server));
  forkq_server_destroy(server);
  close(fd);
}

static void after_serve(struct world *w) {
  CHILD_MUST(access(path, F_OK) != 0);
  use_and_destroy(w);
}

/* Another process serves. This one has the queue no more. */
static void serve_for_others(void *arg) {
  struct world *w = arg;
  forkq_server_t *server;
  CHILD_MUST(forkq_queue_serve(&server, w->queue, path, NULL) == 0);
  CHILD_MUST(write(w->fds[1], "", 1) == 1);
  pause();
}

static void make_served(struct world *w) {
  char byte;
  make_to_serve(w);
  CHILD_MUST(pipe2(w->fds, O_CLOEXEC) == 0);
  w->fds[2] = support_fork(serve_for_others, w);
  CHILD_MUST(read(w->fds[0], &byte, 1) == 1);
  destroy_queue(w);
}

static void act_connect(struct world *w) {
  w->queue = NULL;
  if (met(w, forkq_queue_connect(&w->queue, path, 500, NULL)) < 0)
    w->queue = NULL;
}

static void after_connect(struct world *w) {
  if (w->queue == NULL)
    CHILD_MUST(forkq_queue_connect(&w->queue, path, PATIENCE_MS, NULL) == 0);
  use_and_destroy(w);
  support_kill_and_wait(w->fds[2]);
  CHILD_MUST(unlink(path) == 0);
  close_sockets(w);
}

/* ---- connections ------------------------------------------------------------------- */

static void make_pair(struct world *w) {
  CHILD_MUST(forkq_pipe(&w->a, &w->b, 1) == 0);
}

static void make_pipe(struct world *w) {
  CHILD_MUST(forkq_pipe(&w->b, &w->a, 0) == 0);
}

static void make_pipe_of_older_kernel(struct world *w) {
  make_pipe(w);
  faults_older_kernel();
}

static void destroy_pair(struct world *w) {
  forkq_connection_destroy(w->a);
  forkq_connection_destroy(w->b);
  w->a = w->b = NULL;
}

static void act_pipe(struct world *w) {
  if (met(w, forkq_pipe(&w->a, &w->b, 1)) < 0)
    w->a = w->b = NULL;
  destroy_pair(w);
  if (met(w, forkq_pipe(&w->a, &w->b, 0)) < 0)
    w->a = w->b = NULL;
  met(w, w->a != NULL ? forkq_connection_close(w->a) : 0);
}

static void make_end(struct world *w) {
  make_sockets(w);
}

static void act_open(struct world *w) {
  if (met(w, forkq_connection_open(&w->a, w->fds[0], 1, 1)) < 0)
    w->a = NULL;
}

static void after_open(struct world *w) {
  if (w->a == NULL)
    CHILD_MUST(forkq_connection_open(&w->a, w->fds[0], 1, 1) == 0);
  close(w->fds[1]);
  destroy_pair(w);
}

static void sent(struct world *w, unsigned id, int r) {
  if (met(w, r) == 0)
    once(&w->sent, id);
}

static void act_send(struct world *w) {
  msgpack_object object = small(4);
  uint64_t id = 6;
  sent(w, 4, forkq_connection_send(w->a, &object));
  sent(w, 5, forkq_connection_send_packed(w->a, "\x05", 1));
  sent(w, 6, forkq_connection_send_with(w->a, pack_small, &id));
  sent(w, 7, forkq_connection_send_bytes(w->a, "\x07", 1, 0, FORKQ_ALL));
  object = bytes(2, LARGE);
  sent(w, 2, forkq_connection_send(w->a, &object));
  object = small(8);
  sent(w, 8, forkq_connection_send(w->a, &object));
}

static void arrived(struct world *w, forkq_item_t *item) {
  once(&w->arrived, id_of(item->data, item->size));
}

/* What was sent arrives. Behind a message that went only in part there is nothing more. */
static void after_send(struct world *w) {
  int r;
  CHILD_MUST(forkq_connection_close(w->a) == 0);
  while ((r = forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL)) == 0)
    arrived(w, &w->item);
  CHILD_MUST(r == FORKQ_EEOF || r == FORKQ_ETORN);
  CHILD_MUST(w->arrived == w->sent);
  destroy_pair(w);
}

static void make_to_receive(struct world *w) {
  make_pair(w);
  msgpack_object object = small(4);
  CHILD_MUST(forkq_connection_send(w->a, &object) == 0);
  object = bytes(2, LARGE);
  CHILD_MUST(forkq_connection_send(w->a, &object) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x05", 1, 0, 1) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x06__", 3, 0, 3) == 0);
  CHILD_MUST(forkq_connection_send_bytes(w->a, "\x07__", 3, 0, 3) == 0);
  w->sent = bit(4) | bit(2) | bit(5) | bit(6) | bit(7);
}

static void received(struct world *w, int r, forkq_item_t *item) {
  (void)met(w, r);
  if (item->size > 0)
    arrived(w, item);
}

static void receive_into(struct world *w, size_t length) {
  char buffer[8];
  size_t size = 0;
  int r = forkq_connection_recv_bytes_into(w->b, buffer, length, 0, &size, &w->item);
  received(w, r, &w->item);
  if (r == 0)
    once(&w->arrived, id_of(buffer, size));
}

static void act_receive(struct world *w) {
  met(w, forkq_connection_poll(w->b, 10));
  received(w, forkq_connection_recv(w->b, &w->item), &w->item);
  received(w, forkq_connection_recv(w->b, &w->item), &w->item);
  receive_into(w, 8);
  receive_into(w, 1);
  received(w, forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL), &w->item);
}

/* Unless the place in the stream was lost, all the rest arrives now. */
static void after_receive(struct world *w) {
  while (forkq_connection_readable(w->b) == 1 && !forkq_connection_closed(w->b) &&
         w->arrived != w->sent) {
    CHILD_MUST(forkq_connection_recv_bytes(w->b, &w->item, FORKQ_ALL) == 0);
    arrived(w, &w->item);
  }
  CHILD_MUST((w->arrived & ~w->sent) == 0);
  destroy_pair(w);
}

static void act_send_fd(struct world *w) {
  int fd = -1;
  if (met(w, forkq_connection_send_fd(w->a, 0)) < 0)
    return;
  if (met(w, forkq_connection_recv_fd(w->b, &fd)) == 0)
    close(fd);
}

/* ---- waiting for several ------------------------------------------------------------- */

static void make_to_wait(struct world *w) {
  make_queue(w);
  make_pair(w);
  make_sockets(w);
}

static void act_wait(struct world *w) {
  forkq_wait_entry_t entries[40] = { forkq_wait_on_queue(w->queue), forkq_wait_on(w->b),
                                     forkq_wait_on_fd(w->fds[0]) };
  met(w, forkq_wait(entries, 3, SOON_MS));
  put_small(w, 4);
  met(w, forkq_wait(entries, 3, SOON_MS));
  msgpack_object object = small(5);
  sent(w, 5, forkq_connection_send(w->a, &object));
  met(w, forkq_wait(entries, 3, SOON_MS));
}

static void act_wait_many(struct world *w) {
  forkq_wait_entry_t entries[40];
  int fds[40];
  for (int i = 0; i < 40; i++)
    fds[i] = dup(0);
  for (int i = 0; i < 40; i++)
    entries[i] = forkq_wait_on_fd(fds[i]);
  met(w, forkq_wait(entries, 40, 0));
  for (int i = 0; i < 40; i++)
    close(fds[i]);
}

static void after_wait(struct world *w) {
  use_and_destroy(w);
  destroy_pair(w);
  close_sockets(w);
}

/* ---- the table --------------------------------------------------------------------- */

const struct scenario scenarios_of_streams[] = {
  { "attach",
    make_detached,
    act_attach,
    after_attach,
    false,
    { FORKQ_EHANDOVER, -EBADF } },
  { "send a queue",
    make_to_send,
    act_send_queue,
    after_send_queue,
    false,
    { -EMSGSIZE } },
  { "receive a queue",
    make_sent,
    act_receive_queue,
    after_send_queue,
    false,
    { FORKQ_EHANDOVER } },
  { "serve a queue",
    make_to_serve,
    act_serve,
    after_serve,
    false,
    { FORKQ_EINUSE, FORKQ_ENOTHREAD, FORKQ_TIMEDOUT } },
  { "connect to a queue",
    make_served,
    act_connect,
    after_connect,
    false,
    { FORKQ_EHANDOVER, FORKQ_TIMEDOUT, FORKQ_EEOF } },
  { "pipe", nothing, act_pipe, destroy_pair, true, { 0 } },
  { "open a connection", make_end, act_open, after_open, true, { 0 } },
  { "send", make_pair, act_send, after_send, true, { -ENOMEM } },
  { "send over a pipe", make_pipe, act_send, after_send, true, { -ENOMEM } },
  { "send over a pipe, older kernel",
    make_pipe_of_older_kernel,
    act_send,
    after_send,
    true,
    { -ENOMEM } },
  { "receive",
    make_to_receive,
    act_receive,
    after_receive,
    true,
    { -ENOMEM, FORKQ_ETOOSHORT, FORKQ_ECLOSED, FORKQ_EWRITEONLY } },
  { "send a descriptor", make_pair, act_send_fd, destroy_pair, true, { 0 } },
  { "wait", make_to_wait, act_wait, after_wait, true, { PUT_ERRORS } },
  { "wait for many", make_to_wait, act_wait_many, after_wait, true, { 0 } },
  { NULL, NULL, NULL, NULL, false, { 0 } },
};
