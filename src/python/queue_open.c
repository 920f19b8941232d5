/* How a queue begins: it is made, received or found under a name; and giving it to others under a name. */
#include "python/queue.h"

#include <string.h>

/* A connect is made again so often, as it cannot be interrupted: signals are looked for in between. */
#define CONNECT_MS 500

/* ---- options ------------------------------------------------------------------------------ */

static int read_codec(enum forkq__py_codec *ret_codec, const char *name) {
  if (strcmp(name, "pickle") == 0)
    *ret_codec = FORKQ__PY_PICKLE;
  else if (strcmp(name, "msgpack") == 0)
    *ret_codec = FORKQ__PY_MSGPACK;
  else {
    PyErr_Format(PyExc_ValueError, "codec is 'pickle' or 'msgpack', not '%s'", name);
    return -1;
  }
  return 0;
}

static int read_lost_tasks(int *ret_lost_tasks, const char *name) {
  static const char *const names[] = { "count", "tell", "redeliver" };
  for (int i = 0; i < 3; i++)
    if (strcmp(name, names[i]) == 0) {
      *ret_lost_tasks = FORKQ_LOST_TASKS_COUNT + i;
      return 0;
    }
  PyErr_Format(PyExc_ValueError, "lost_tasks is 'count', 'tell' or 'redeliver', not '%s'",
               name);
  return -1;
}

/* ---- the beginning ------------------------------------------------------------------------ */

struct opening {
  forkq_queue_t *queue; /* what it results in */
  forkq_queue_options_t options;
  int socket;
  const char *path;
};

static int create(void *arg, int timeout_ms) {
  struct opening *opening = arg;
  (void)timeout_ms;
  return forkq_queue_create_with(&opening->queue, &opening->options);
}

static int receive(void *arg, int timeout_ms) {
  struct opening *opening = arg;
  (void)timeout_ms;
  return forkq_queue_receive(&opening->queue, opening->socket, &opening->options);
}

static int connect_to(void *arg, int timeout_ms) {
  struct opening *opening = arg;
  forkq_connect_options_t connecting = FORKQ_CONNECT_OPTIONS_INIT;
  connecting.queue = &opening->options;
  bool all = timeout_ms >= 0 && timeout_ms <= CONNECT_MS;
  int r = forkq_queue_connect(&opening->queue, opening->path,
                              all ? timeout_ms : CONNECT_MS, &connecting);
  return r == FORKQ_TIMEDOUT && !all ? FORKQ_EINTERRUPTED : r;
}

/* Without a deadline it does not wait. */
static int run(int (*open)(void *arg, int timeout_ms), struct opening *opening,
               const struct forkq__py_deadline *deadline) {
  const struct forkq__py_call call = { .run = open, .arg = opening };
  int r;
  if (deadline != NULL)
    return forkq__py_wait(&call, deadline);
  Py_BEGIN_ALLOW_THREADS
    r = open(opening, 0);
  Py_END_ALLOW_THREADS
  return r;
}

/* From now on the object has a queue. */
static int begin(struct forkq__py_queue *self, struct opening *opening,
                 int (*open)(void *arg, int timeout_ms),
                 const struct forkq__py_deadline *deadline) {
  forkq__py_handles_sweep();
  struct forkq__py_reporter *reporter = forkq__py_reporter_make(self);
  if (reporter == NULL)
    return -1;
  opening->options.on_feeder_error = forkq__py_report;
  opening->options.on_feeder_error_arg = reporter;
  int r = run(open, opening, deadline);
  if (r != 0) {
    forkq__py_reporter_free(reporter);
    if (r != FORKQ__PY_RAISED)
      forkq__py_queue_raise(&self->handle, r);
    return -1;
  }
  self->reporter = reporter;
  forkq__py_handle_begin(&self->handle, &forkq__py_queue_ops, opening->queue);
  return 0;
}

int forkq__py_queue_init(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "maxsize",
                              "joinable",
                              "codec",
                              "name",
                              "lost_tasks",
                              "max_message",
                              "outbox_max_bytes",
                              "shared_max_bytes",
                              "spin_us",
                              NULL };
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  struct opening opening = { .options = FORKQ_QUEUE_OPTIONS_INIT };
  forkq_queue_options_t *options = &opening.options;
  const char *codec = "pickle", *lost_tasks = "count";
  long long maxsize = 0;
  unsigned long long spin_us = 0;
  if (!PyArg_ParseTupleAndKeywords(
          args, names, "|L$pszsnnnK", keywords, &maxsize, &options->joinable, &codec,
          &options->name, &lost_tasks, &options->max_message, &options->outbox_max_bytes,
          &options->shared_max_bytes, &spin_us))
    return -1;
  options->maxsize = maxsize;
  options->spin_us = spin_us;
  if (forkq__py_handle_is_new(&self->handle) < 0 || read_codec(&self->codec, codec) < 0 ||
      read_lost_tasks(&options->lost_tasks, lost_tasks) < 0)
    return -1;
  return begin(self, &opening, create, NULL);
}

PyObject *forkq__py_queue_receive(PyObject *object, PyObject *args) {
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  struct opening opening = { .options = FORKQ_QUEUE_OPTIONS_INIT };
  const char *codec;
  if (!PyArg_ParseTuple(args, "is", &opening.socket, &codec) ||
      forkq__py_handle_is_new(&self->handle) < 0 || read_codec(&self->codec, codec) < 0 ||
      begin(self, &opening, receive, NULL) < 0)
    return NULL;
  Py_RETURN_NONE;
}

PyObject *forkq__py_queue_connect(PyObject *object, PyObject *args) {
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  struct opening opening = { .options = FORKQ_QUEUE_OPTIONS_INIT };
  struct forkq__py_deadline deadline;
  const char *codec;
  PyObject *path, *timeout;
  if (!PyArg_ParseTuple(args, "O&Os", PyUnicode_FSConverter, &path, &timeout, &codec))
    return NULL;
  opening.path = PyBytes_AsString(path);
  bool ok = forkq__py_deadline(&deadline, NULL, timeout) == 0 &&
            forkq__py_handle_is_new(&self->handle) == 0 &&
            read_codec(&self->codec, codec) == 0 &&
            begin(self, &opening, connect_to, &deadline) == 0;
  Py_DECREF(path);
  if (!ok)
    return NULL;
  Py_RETURN_NONE;
}

/* ---- giving it to others -------------------------------------------------------------------- */

static void end_server(forkq_server_t *server) {
  Py_BEGIN_ALLOW_THREADS
    forkq_server_destroy(server);
  Py_END_ALLOW_THREADS
}

void forkq__py_queue_serve_no_more(struct forkq__py_queue *self) {
  forkq_server_t *server = self->server;
  self->server = NULL;
  end_server(server);
}

static int raise_served(void) {
  PyErr_SetString(PyExc_ValueError, "the queue is served already");
  return -1;
}

static int serve(struct forkq__py_queue *self, const char *path) {
  forkq_server_t *server = NULL;
  int r;
  if (self->server != NULL)
    return raise_served();
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_serve(&server, self->handle.queue, path, NULL);
  Py_END_ALLOW_THREADS
  if (r < 0) {
    forkq__py_queue_raise(&self->handle, r);
    return -1;
  }
  if (self->server != NULL) { /* another thread was faster */
    end_server(server);
    return raise_served();
  }
  self->server = server;
  return 0;
}

/* A close meanwhile ends the server as well. */
PyObject *forkq__py_queue_serve(PyObject *object, PyObject *argument) {
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  PyObject *path;
  if (!PyUnicode_FSConverter(argument, &path))
    return NULL;
  int r = forkq__py_handle_enter(&self->handle);
  if (r == 0) {
    r = serve(self, PyBytes_AsString(path));
    forkq__py_handle_leave(&self->handle);
  }
  Py_DECREF(path);
  if (r < 0)
    return NULL;
  Py_RETURN_NONE;
}
