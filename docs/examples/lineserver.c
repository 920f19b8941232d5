/* lineserver [PORT [WORKERS]]: answers each line that a client sends over TCP with the same
 * line backwards, which forked workers work out. Port 0 is any free one; it prints which.
 *
 *     socket -> line -> work queue, bounded -> a worker -> answers -> socket
 *
 * The server is one libuv loop that never blocks. When the work queue is full its puts wait,
 * the connections that wait for them are not read, and the clients' own sockets fill. Lines of
 * one connection are worked on by several workers at once; their answers are put in order again
 * by their numbers. A worker that is killed is replaced, and what was unanswered is put again:
 * an answer that comes twice is dropped. Ends with SIGINT or SIGTERM. */
#include <forkq.h>
#include <forkq/loop_handle.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define WINDOW 32       /* lines of one connection that are not answered yet */
#define WORK_ITEMS 1000 /* lines in the queue */
#define WORKERS_MAX 64

/* A line on its way. */
struct line {
  forkq_loop_req_t put;
  uv_write_t write;
  struct connection *connection;
  uint64_t number;
  char *answer; /* NULL until it is there */
  size_t size;
  bool putting; /* its request is pending */
  bool again;   /* a worker died meanwhile, maybe with this line */
  bool writing;
  char text[];
};

struct connection {
  uv_tcp_t tcp;
  struct connection *next, *previous;
  uint64_t id;
  uint64_t lines;              /* that came */
  uint64_t answered;           /* of these, written or being written, in order */
  struct line *window[WINDOW]; /* by number % WINDOW */
  unsigned on_their_way;
  char *input; /* the beginning of a line */
  size_t input_size;
  bool paused, ended, closing;
};

static uv_loop_t loop;
static uv_tcp_t listener;
static uv_signal_t on_term, on_int, on_child;
static forkq_queue_t *work, *answers;
static forkq_loop_handle_t *to_workers, *from_workers;
static forkq_loop_req_t get;
static forkq_item_t item = FORKQ_ITEM_INIT;
static struct connection *connections;
static uint64_t last_id;
static pid_t workers[WORKERS_MAX];
static int worker_count = 4;
static bool stopping;

static void must(int result, const char *what) {
  if (result >= 0)
    return;
  fprintf(stderr, "lineserver: %s: %s\n", what, forkq_strerror(result));
  exit(EXIT_FAILURE);
}

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL)
    must(UV_ENOMEM, "memory");
  return memory;
}

/* ---- what goes through the queues: [connection, number, line] ---------------------------- */

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

/* ---- workers ----------------------------------------------------------------------------- */

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
static void close_sockets(void) {
  uv_os_fd_t fd;
  for (struct connection *c = connections; c != NULL; c = c->next)
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
      close(fd);
  if (uv_fileno((uv_handle_t *)&listener, &fd) == 0)
    close(fd);
}

static pid_t start_worker(void) {
  pid_t pid = fork();
  if (pid != 0)
    return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the server be killed */
  close_sockets();
  signal(SIGINT, SIG_IGN); /* the server ends its workers */
  signal(SIGTERM, SIG_DFL);
  signal(SIGCHLD, SIG_DFL);
  forkq_item_destroy(&item); /* the server's */
  work_on_lines();
  forkq_item_destroy(&item);
  forkq_queue_destroy(work);
  forkq_queue_destroy(answers);
  _exit(EXIT_SUCCESS);
}

/* ---- connections ------------------------------------------------------------------------- */

static void free_line(struct line *line) {
  struct connection *connection = line->connection;
  connection->window[line->number % WINDOW] = NULL;
  connection->on_their_way--;
  free(line->answer);
  free(line);
}

static void read_or_not(struct connection *connection);

/* When all of its lines are done with. */
static void free_connection(struct connection *connection) {
  if (!connection->closing || connection->on_their_way > 0 ||
      connection->tcp.data != NULL)
    return;
  free(connection->input);
  free(connection);
}

static void on_closed(uv_handle_t *handle) {
  struct connection *connection = handle->data;
  handle->data = NULL;
  free_connection(connection);
}

static void close_connection(struct connection *connection) {
  if (connection->closing)
    return;
  connection->closing = true;
  if (connection->previous != NULL)
    connection->previous->next = connection->next;
  else
    connections = connection->next;
  if (connection->next != NULL)
    connection->next->previous = connection->previous;
  for (int i = 0; i < WINDOW; i++) {
    struct line *line = connection->window[i];
    if (line != NULL && line->putting)
      (void)forkq_loop_cancel(&line->put); /* or it is called back in a moment anyway */
    else if (line != NULL && !line->writing)
      free_line(line);
  }
  uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void on_written(uv_write_t *write, int status) {
  struct line *line = write->data;
  struct connection *connection = line->connection;
  free_line(line);
  if (status < 0)
    close_connection(connection);
  else if (!connection->closing)
    read_or_not(connection);
  free_connection(connection);
}

/* Writes the answers whose turn it is. */
static void write_answers(struct connection *connection) {
  for (;;) {
    struct line *line = connection->window[connection->answered % WINDOW];
    if (line == NULL || line->answer == NULL || line->writing || line->putting ||
        line->number != connection->answered)
      return;
    uv_buf_t bytes = uv_buf_init(line->answer, (unsigned)line->size + 1);
    line->writing = true;
    line->write.data = line;
    connection->answered++;
    if (uv_write(&line->write, (uv_stream_t *)&connection->tcp, &bytes, 1, on_written) <
        0) {
      line->writing = false;
      close_connection(connection);
      return;
    }
  }
}

static void put_line(struct line *line);

static void on_put(forkq_loop_req_t *req, int status) {
  struct line *line = req->data;
  struct connection *connection = line->connection;
  line->putting = false;
  if (connection->closing)
    free_line(line);
  else if (status < 0)
    close_connection(connection);
  else if (line->answer != NULL)
    write_answers(connection);
  else if (line->again)
    put_line(line);
  free_connection(connection);
}

static void put_line(struct line *line) {
  struct message message = { line->connection->id, line->number, line->text, line->size };
  must(forkq_loop_put_with(&line->put, to_workers, pack, &message, -1, on_put), "put");
  line->putting = true;
  line->again = false;
}

static void on_line(struct connection *connection, const char *text, size_t size) {
  struct line *line = allocate(sizeof *line + size);
  memset(line, 0, sizeof *line);
  memcpy(line->text, text, size);
  line->connection = connection;
  line->number = connection->lines++;
  line->size = size;
  line->put.data = line;
  connection->window[line->number % WINDOW] = line;
  connection->on_their_way++;
  put_line(line);
}

/* The lines that are complete, as far as the window goes. */
static void take_lines(struct connection *connection) {
  size_t done = 0;
  while (connection->lines - connection->answered < WINDOW &&
         connection->on_their_way < WINDOW) {
    const char *begin = connection->input + done;
    const char *end = memchr(begin, '\n', connection->input_size - done);
    if (end == NULL)
      break;
    on_line(connection, begin, (size_t)(end - begin));
    done += (size_t)(end - begin) + 1;
  }
  memmove(connection->input, connection->input + done, connection->input_size - done);
  connection->input_size -= done;
}

static void allocate_input(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  struct connection *connection = handle->data;
  (void)suggested;
  *buffer = uv_buf_init(connection->input + connection->input_size,
                        (unsigned)(LINE_MAX_BYTES - connection->input_size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
  struct connection *connection = stream->data;
  (void)buffer;
  if (size == UV_EOF && (connection->on_their_way > 0 || connection->input_size > 0))
    connection->ended = true; /* the answers are still to come */
  else if (size < 0) {
    close_connection(connection);
    return;
  } else
    connection->input_size += (size_t)size;
  read_or_not(connection);
}

/* Lines that have room are taken; without room, or at the end, nothing more is read. */
static void read_or_not(struct connection *connection) {
  take_lines(connection);
  bool full = connection->on_their_way == WINDOW;
  bool too_long = connection->input_size == LINE_MAX_BYTES && !full;
  if (too_long || (connection->ended && connection->on_their_way == 0)) {
    close_connection(connection);
    return;
  }
  bool pause = full || connection->ended;
  if (pause && !connection->paused)
    uv_read_stop((uv_stream_t *)&connection->tcp);
  else if (!pause && connection->paused)
    (void)uv_read_start((uv_stream_t *)&connection->tcp, allocate_input, on_read);
  connection->paused = pause;
}

static void on_connection(uv_stream_t *server, int status) {
  if (status < 0)
    return;
  struct connection *connection = allocate(sizeof *connection);
  memset(connection, 0, sizeof *connection);
  connection->input = allocate(LINE_MAX_BYTES);
  connection->id = ++last_id;
  must(uv_tcp_init(&loop, &connection->tcp), "connection");
  connection->tcp.data = connection;
  connection->next = connections;
  if (connections != NULL)
    connections->previous = connection;
  connections = connection;
  if (uv_accept(server, (uv_stream_t *)&connection->tcp) < 0 ||
      uv_read_start((uv_stream_t *)&connection->tcp, allocate_input, on_read) < 0)
    close_connection(connection);
}

/* ---- answers ----------------------------------------------------------------------------- */

static struct connection *connection_of(uint64_t id) {
  struct connection *connection = connections;
  while (connection != NULL && connection->id != id)
    connection = connection->next;
  return connection;
}

/* The client may be gone, or a dead worker's line have been answered twice. */
static void take_answer(const struct message *message) {
  struct connection *connection = connection_of(message->id);
  struct line *line =
      connection == NULL ? NULL : connection->window[message->number % WINDOW];
  if (line == NULL || line->number != message->number || line->answer != NULL)
    return;
  line->answer = allocate(message->size + 1);
  memcpy(line->answer, message->text, message->size);
  line->answer[message->size] = '\n';
  write_answers(connection);
}

static void on_answer(forkq_loop_req_t *req, int status) {
  if (stopping)
    return;
  if (status == 0) {
    struct message message = unpacked(&item.object);
    take_answer(&message);
  }
  must(forkq_loop_get(req, from_workers, &item, -1, on_answer), "answers");
}

/* ---- beginning and end ------------------------------------------------------------------- */

/* Which lines the dead had is not known: all that are unanswered are put once more. */
static void put_again(void) {
  for (struct connection *c = connections; c != NULL; c = c->next)
    for (int i = 0; i < WINDOW; i++) {
      struct line *line = c->window[i];
      if (line == NULL || line->answer != NULL)
        continue;
      if (line->putting) /* it may be in the queue, or have been */
        line->again = true;
      else
        put_line(line);
    }
}

static void on_sigchld(uv_signal_t *handle, int signum) {
  bool died = false;
  (void)handle;
  (void)signum;
  for (int i = 0; i < worker_count; i++)
    if (workers[i] > 0 && waitpid(workers[i], NULL, WNOHANG) == workers[i]) {
      died = true;
      workers[i] = stopping ? -1 : start_worker();
    }
  if (died && !stopping)
    put_again();
}

static void stop(uv_signal_t *handle, int signum) {
  (void)handle;
  (void)signum;
  if (stopping)
    return;
  stopping = true;
  while (connections != NULL)
    close_connection(connections);
  (void)forkq_queue_shutdown(work, 1); /* the workers' gets end */
  (void)forkq_queue_shutdown(answers, 1);
  (void)forkq_loop_close(to_workers, NULL, NULL);
  (void)forkq_loop_close(from_workers, NULL, NULL);
  uv_close((uv_handle_t *)&listener, NULL);
  uv_close((uv_handle_t *)&on_term, NULL);
  uv_close((uv_handle_t *)&on_int, NULL);
  uv_close((uv_handle_t *)&on_child, NULL);
}

static void listen_on(int port) {
  struct sockaddr_in address;
  int size = sizeof address;
  must(uv_ip4_addr("127.0.0.1", port, &address), "address");
  must(uv_tcp_init(&loop, &listener), "listener");
  must(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "bind");
  must(uv_listen((uv_stream_t *)&listener, 256, on_connection), "listen");
  must(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size), "port");
  const unsigned char *bytes = (const unsigned char *)&address.sin_port;
  printf("%d\n", bytes[0] << 8 | bytes[1]);
  fflush(stdout);
}

static void start_signals(void) {
  must(uv_signal_init(&loop, &on_term), "signals");
  must(uv_signal_init(&loop, &on_int), "signals");
  must(uv_signal_init(&loop, &on_child), "signals");
  must(uv_signal_start(&on_term, stop, SIGTERM), "signals");
  must(uv_signal_start(&on_int, stop, SIGINT), "signals");
  must(uv_signal_start(&on_child, on_sigchld, SIGCHLD), "signals");
}

int main(int argc, char **argv) {
  int port = argc > 1 ? atoi(argv[1]) : 7777;
  if (argc > 2)
    worker_count = atoi(argv[2]);
  if (port < 0 || port > 65535 || worker_count < 1 || worker_count > WORKERS_MAX) {
    fprintf(stderr, "usage: lineserver [PORT [WORKERS]]\n");
    return 2;
  }
  must(forkq_queue_create(&work, WORK_ITEMS), "work");
  must(forkq_queue_create(&answers, 0),
       "answers"); /* as many as there are lines at most */
  must(uv_loop_init(&loop), "loop");
  signal(SIGPIPE, SIG_IGN);
  start_signals();
  listen_on(port);
  for (int i = 0; i < worker_count; i++)
    must(workers[i] = start_worker(), "fork");
  must(forkq_loop_open_queue(&to_workers, &loop, work), "work");
  must(forkq_loop_open_queue(&from_workers, &loop, answers), "answers");
  must(forkq_loop_get(&get, from_workers, &item, -1, on_answer), "answers");
  uv_run(&loop, UV_RUN_DEFAULT);
  for (int i = 0; i < worker_count; i++)
    if (workers[i] > 0)
      waitpid(workers[i], NULL, 0);
  forkq_item_destroy(&item);
  forkq_queue_destroy(work);
  forkq_queue_destroy(answers);
  return uv_loop_close(&loop) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
