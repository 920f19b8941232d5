/* epollserver [PORT | PATH [WORKERS]]: answers each line that a client sends with the same line
 * backwards, which forked workers work out. A PATH has a slash, and is that of a Unix socket. Port 0 is any
 * free one; it prints which.
 *
 *     socket -> line -> work queue, bounded -> a worker -> answers -> socket
 *
 * The server is one thread in epoll_wait, without libuv and without a timer. It never blocks in
 * anything else:
 *
 * - A put with timeout 0 says FORKQ_FULL. Then no client is read, until the descriptor of
 *   forkq_queue_room_fileno is readable. The clients' own sockets fill meanwhile.
 * - The descriptor of forkq_queue_fileno is readable when there are answers.
 *
 * A client has one line at a time in the queue, so its answers come in order. A worker that is
 * killed is replaced, and what is unanswered is put again: an answer that comes twice is dropped. Ends with
 * SIGINT or SIGTERM. lineserver.c is the same server with libuv. */
#define _GNU_SOURCE
#include <errno.h>
#include <forkq.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define WORK_ITEMS 32 /* lines in the queue */
#define WORKERS_MAX 64
#define TURN 64 /* events, or answers, before other things have their turn */

struct client {
  TAILQ_ENTRY(client) all;
  TAILQ_ENTRY(client) in_line;
  int fd; /* -1: closed */
  uint64_t id;
  uint64_t number; /* of its line, the first of `input` */
  char *input;
  size_t input_size;
  char *answer; /* what is not written yet of it, or NULL */
  size_t answer_size, written;
  bool busy;  /* its line is in the queue, or with a worker */
  bool waits; /* for room, in `waiting` */
  bool ended; /* it sends nothing more */
};

TAILQ_HEAD(clients, client);
static struct clients clients = TAILQ_HEAD_INITIALIZER(clients);
static struct clients waiting = TAILQ_HEAD_INITIALIZER(waiting);
static struct clients closed = TAILQ_HEAD_INITIALIZER(closed); /* freed after the turn */
static int epoll_fd, listener, signal_fd, room_fd, answers_fd;
static forkq_queue_t *work, *answers;
static forkq_item_t item = FORKQ_ITEM_INIT;
static uint64_t last_id;
static pid_t workers[WORKERS_MAX];
static int worker_count = 4;
static bool stopping;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "epollserver: %s: %s\n", what, why);
  exit(EXIT_FAILURE);
}

static int must(int result, const char *what) {
  if (result < 0)
    fail(what, forkq_strerror(result));
  return result;
}

/* For system calls. */
static int call(int result, const char *what) {
  if (result < 0)
    fail(what, strerror(errno));
  return result;
}

static void *allocate(size_t size) {
  void *memory = calloc(1, size);
  if (memory == NULL)
    fail("memory", strerror(ENOMEM));
  return memory;
}

/* `what` is the address of one of the descriptors above, or a client. */
static void watch(int how, int fd, uint32_t events, void *what) {
  struct epoll_event event = { .events = events, .data = { .ptr = what } };
  call(epoll_ctl(epoll_fd, how, fd, &event), "epoll_ctl");
}

/* ---- what goes through the queues: [client, number, line] --------------------------------- */

struct message {
  uint64_t id;
  uint64_t number;
  const char *text;
  size_t size;
};

static int pack(msgpack_packer *packer, void *arg) {
  const struct message *message = arg;
  return forkq_packf(packer, "[UUy#]", message->id, message->number, message->text,
                     message->size);
}

static struct message unpacked(const msgpack_object *object) {
  struct message message;
  must(forkq_object_scanf(object, "[UUy#]", &message.id, &message.number, &message.text,
                          &message.size),
       "message");
  return message;
}

/* ---- workers ------------------------------------------------------------------------------ */

static void work_on_lines(void) {
  char *backwards = allocate(LINE_MAX_BYTES);
  while (forkq_queue_get(work, &item, -1) == 0) {
    struct message message = unpacked(&item.object);
    for (size_t i = 0; i < message.size; i++)
      backwards[i] = message.text[message.size - 1 - i];
    message.text = backwards;
    if (forkq_queue_put_with(answers, pack, &message, -1) < 0)
      break;
  }
  free(backwards);
}

/* A worker that was forked while the server runs must not keep its connections open. */
static void leave_server(void) {
  struct client *client;
  sigset_t none;
  TAILQ_FOREACH(client, &clients, all) {
    close(client->fd);
  }
  close(listener);
  close(epoll_fd);
  close(signal_fd);
  signal(SIGINT, SIG_IGN); /* the server ends its workers */
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the server be killed */
}

static pid_t start_worker(void) {
  pid_t pid = call(fork(), "fork");
  if (pid != 0)
    return pid;
  leave_server();
  forkq_item_destroy(&item); /* the server's */
  work_on_lines();
  forkq_item_destroy(&item);
  forkq_queue_destroy(work);
  forkq_queue_destroy(answers);
  _exit(EXIT_SUCCESS);
}

/* ---- clients ------------------------------------------------------------------------------- */

static void close_client(struct client *client) {
  watch(EPOLL_CTL_DEL, client->fd, 0, NULL);
  close(client->fd);
  client->fd = -1;
  if (client->waits)
    TAILQ_REMOVE(&waiting, client, in_line);
  TAILQ_REMOVE(&clients, client, all);
  TAILQ_INSERT_TAIL(&closed, client, all); /* an event of this turn may name it */
}

static void free_closed(void) {
  struct client *client;
  while ((client = TAILQ_FIRST(&closed)) != NULL) {
    TAILQ_REMOVE(&closed, client, all);
    free(client->answer);
    free(client->input);
    free(client);
  }
}

/* It is read only when it has no line on its way, and writable matters only for an answer. */
static void update(struct client *client) {
  bool reads =
      !client->busy && !client->waits && !client->ended && client->answer == NULL;
  uint32_t events = (reads ? EPOLLIN : 0) | (client->answer != NULL ? EPOLLOUT : 0);
  watch(EPOLL_CTL_MOD, client->fd, events, client);
}

/* The room matters only to clients that wait for it. */
static void wait_for_room(struct client *client) {
  if (TAILQ_EMPTY(&waiting))
    watch(EPOLL_CTL_MOD, room_fd, EPOLLIN, &room_fd);
  client->waits = true;
  TAILQ_INSERT_TAIL(&waiting, client, in_line);
}

/* Whether the queue had room for its first line. */
static bool put_line(struct client *client, size_t size) {
  struct message message = { client->id, client->number, client->input, size };
  int r = forkq_queue_put_with(work, pack, &message, 0);
  if (r == FORKQ_FULL)
    return false;
  must(r, "put");
  client->busy = true;
  return true;
}

static size_t first_line(const struct client *client, bool *ret_whole) {
  const char *end = memchr(client->input, '\n', client->input_size);
  *ret_whole = end != NULL;
  return end != NULL ? (size_t)(end - client->input) : client->input_size;
}

/* Goes on with a client that has no line on its way. False: the queue is full. */
static bool go_on(struct client *client) {
  bool whole;
  size_t size = first_line(client, &whole);
  if (whole && !put_line(client, size))
    return false;
  if (!whole && (client->ended || size == LINE_MAX_BYTES))
    close_client(client); /* there is nothing more to do, or the line is too long */
  else
    update(client);
  return true;
}

/* Behind those that wait already. */
static void go_on_in_turn(struct client *client) {
  if (!TAILQ_EMPTY(&waiting) || !go_on(client)) {
    wait_for_room(client);
    update(client);
  }
}

static void on_room(void) {
  struct client *client;
  while ((client = TAILQ_FIRST(&waiting)) != NULL) {
    TAILQ_REMOVE(&waiting, client, in_line);
    client->waits = false;
    if (!go_on(client)) {
      client->waits = true;
      TAILQ_INSERT_HEAD(&waiting, client, in_line);
      return;
    }
  }
  watch(EPOLL_CTL_MOD, room_fd, 0, &room_fd);
}

static void on_readable(struct client *client) {
  if (!TAILQ_EMPTY(&waiting)) { /* the queue is full: it is read in its turn */
    go_on_in_turn(client);
    return;
  }
  ssize_t size = read(client->fd, client->input + client->input_size,
                      LINE_MAX_BYTES - client->input_size);
  if (size < 0 && errno != EAGAIN && errno != EINTR) {
    close_client(client);
    return;
  }
  client->ended = size == 0;
  client->input_size += size > 0 ? (size_t)size : 0;
  go_on_in_turn(client);
}

/* Drops the line that is answered, and goes on with the next one. */
static void end_line(struct client *client) {
  bool whole;
  size_t size = first_line(client, &whole) + 1;
  free(client->answer);
  client->answer = NULL;
  client->input_size -= size;
  memmove(client->input, client->input + size, client->input_size);
  client->number++;
  go_on_in_turn(client);
}

static void write_answer(struct client *client) {
  ssize_t size = write(client->fd, client->answer + client->written,
                       client->answer_size - client->written);
  if (size < 0 && errno != EAGAIN && errno != EINTR) {
    close_client(client);
    return;
  }
  client->written += size > 0 ? (size_t)size : 0;
  if (client->written == client->answer_size)
    end_line(client);
  else
    update(client);
}

static void on_client(struct client *client, uint32_t events) {
  if (client->fd < 0)
    return; /* closed in this turn */
  if (events & EPOLLOUT)
    write_answer(client);
  else if (events & EPOLLIN)
    on_readable(client);
  else
    close_client(client); /* it is gone */
}

static void on_connection(void) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0)
    return;
  struct client *client = allocate(sizeof *client);
  client->input = allocate(LINE_MAX_BYTES);
  client->fd = fd;
  client->id = ++last_id;
  TAILQ_INSERT_TAIL(&clients, client, all);
  watch(EPOLL_CTL_ADD, fd, EPOLLIN, client);
}

/* ---- answers ------------------------------------------------------------------------------- */

static struct client *client_of(uint64_t id) {
  struct client *client;
  TAILQ_FOREACH(client, &clients, all) {
    if (client->id == id)
      return client;
  }
  return NULL;
}

/* The client may be gone, or the line answered twice, of which one was lost with a worker. */
static void take_answer(const struct message *message) {
  struct client *client = client_of(message->id);
  if (client == NULL || client->number != message->number || client->answer != NULL)
    return;
  if (client->waits) { /* to be put once more, which is not necessary */
    TAILQ_REMOVE(&waiting, client, in_line);
    client->waits = false;
  }
  client->busy = false;
  client->answer = allocate(message->size + 1);
  memcpy(client->answer, message->text, message->size);
  client->answer[message->size] = '\n';
  client->answer_size = message->size + 1;
  client->written = 0;
  write_answer(client);
}

static void on_answers(void) {
  int r = 0;
  for (int n = 0; n < TURN && (r = forkq_queue_get(answers, &item, 0)) == 0; n++) {
    struct message message = unpacked(&item.object);
    take_answer(&message);
  }
  if (r != FORKQ_EMPTY)
    must(r, "get");
}

/* ---- beginning and end --------------------------------------------------------------------- */

/* Which lines the dead had is not known: all that are unanswered are put once more. */
static void put_again(void) {
  struct client *client, *next;
  for (client = TAILQ_FIRST(&clients); client != NULL; client = next) {
    next = TAILQ_NEXT(client, all);
    if (!client->busy)
      continue;
    client->busy = false;
    go_on_in_turn(client);
  }
}

static void replace_workers(void) {
  bool died = false;
  for (int i = 0; i < worker_count; i++)
    if (waitpid(workers[i], NULL, WNOHANG) == workers[i]) {
      died = true;
      workers[i] = start_worker();
    }
  if (died)
    put_again();
}

static void on_signal(void) {
  struct signalfd_siginfo signal;
  if (read(signal_fd, &signal, sizeof signal) != sizeof signal)
    return;
  if (signal.ssi_signo == SIGCHLD)
    replace_workers();
  else
    stopping = true;
}

static void dispatch(const struct epoll_event *event) {
  void *what = event->data.ptr;
  if (what == &listener)
    on_connection();
  else if (what == &signal_fd)
    on_signal();
  else if (what == &room_fd)
    on_room();
  else if (what == &answers_fd)
    on_answers();
  else
    on_client(what, event->events);
}

static void run(void) {
  struct epoll_event events[TURN];
  while (!stopping) {
    int n = epoll_wait(epoll_fd, events, TURN, -1);
    for (int i = 0; i < n && !stopping; i++)
      dispatch(&events[i]);
    free_closed();
  }
}

static void listen_on_port(int port) {
  struct sockaddr_in address = { .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr = { htonl(INADDR_LOOPBACK) } };
  socklen_t size = sizeof address;
  int on = 1;
  listener =
      call(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  call(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "setsockopt");
  call(bind(listener, (struct sockaddr *)&address, size), "bind");
  call(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
  printf("%d\n", ntohs(address.sin_port));
}

static void listen_on_path(const char *path) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (strlen(path) >= sizeof address.sun_path)
    fail(path, strerror(ENAMETOOLONG));
  strcpy(address.sun_path, path);
  listener =
      call(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  call(bind(listener, (struct sockaddr *)&address, sizeof address), path);
  printf("%s\n", path);
}

static void take_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  signal_fd = call(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd");
}

static void start(void) {
  must(forkq_queue_create(&work, WORK_ITEMS), "work");
  must(forkq_queue_create(&answers, 0), "answers"); /* one of each client at most */
  for (int i = 0; i < worker_count; i++)
    workers[i] = start_worker();
  room_fd = must(forkq_queue_room_fileno(work), "room");
  answers_fd = must(forkq_queue_fileno(answers), "answers");
  watch(EPOLL_CTL_ADD, listener, EPOLLIN, &listener);
  watch(EPOLL_CTL_ADD, signal_fd, EPOLLIN, &signal_fd);
  watch(EPOLL_CTL_ADD, room_fd, 0, &room_fd);
  watch(EPOLL_CTL_ADD, answers_fd, EPOLLIN, &answers_fd);
}

static void end(void) {
  (void)forkq_queue_shutdown(work, 1); /* the workers' gets end */
  (void)forkq_queue_shutdown(answers, 1);
  for (int i = 0; i < worker_count; i++)
    waitpid(workers[i], NULL, 0);
  while (!TAILQ_EMPTY(&clients))
    close_client(TAILQ_FIRST(&clients));
  free_closed();
  watch(EPOLL_CTL_DEL, room_fd, 0, NULL);
  watch(EPOLL_CTL_DEL, answers_fd, 0, NULL);
  forkq_item_destroy(&item);
  forkq_queue_destroy(work);
  forkq_queue_destroy(answers);
}

int main(int argc, char **argv) {
  const char *where = argc > 1 ? argv[1] : "7777";
  bool is_path = strchr(where, '/') != NULL;
  int port = atoi(where);
  if (argc > 2)
    worker_count = atoi(argv[2]);
  if (port < 0 || port > 65535 || worker_count < 1 || worker_count > WORKERS_MAX) {
    fprintf(stderr, "usage: epollserver [PORT | PATH [WORKERS]]\n");
    return 2;
  }
  epoll_fd = call(epoll_create1(EPOLL_CLOEXEC), "epoll");
  take_signals();
  if (is_path)
    listen_on_path(where);
  else
    listen_on_port(port);
  call(listen(listener, 256), "listen");
  fflush(stdout); /* before the workers are forked, who would print it again */
  start();
  run();
  end();
  if (is_path)
    unlink(where);
  return EXIT_SUCCESS;
}
