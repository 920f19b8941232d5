/* The type Queue: its life, and what it is asked. */
#include "python/queue.h"

#include "python/arguments.h"

#include <string.h>
#include <time.h>

static struct forkq__py_queue *queue_of(PyObject *self) {
  return (struct forkq__py_queue *)self;
}

/* ---- errors ------------------------------------------------------------------------------- */

static int raise_closed(struct forkq__py_queue *self) {
  PyErr_Format(PyExc_ValueError, "Queue %R is closed", (PyObject *)self);
  return -1;
}

static int raise_not_made(void) {
  PyErr_SetString(PyExc_ValueError, "the queue was not initialized");
  return -1;
}

PyObject *forkq__py_queue_raise(struct forkq__py_queue *self, int error) {
  if (error == FORKQ_ENULL)
    raise_not_made();
  else if (error == FORKQ_ECLOSED)
    raise_closed(self);
  else
    forkq__py_raise(error);
  return NULL;
}

static int check_made(struct forkq__py_queue *self) {
  return self->queue == NULL ? raise_not_made() : 0;
}

int forkq__py_queue_is_open(struct forkq__py_queue *self) {
  if (check_made(self) < 0)
    return -1;
  return self->closed ? raise_closed(self) : 0;
}

/* ---- calls, and the close that waits for them ----------------------------------------------- */

static void end_server(struct forkq__py_queue *self) {
  forkq_server_t *server = self->server;
  self->server = NULL;
  Py_BEGIN_ALLOW_THREADS
    forkq_server_destroy(server);
  Py_END_ALLOW_THREADS
}

static void close_now(struct forkq__py_queue *self) {
  self->close_due = false;
  end_server(self);
  Py_BEGIN_ALLOW_THREADS
    forkq_queue_close(self->queue);
  Py_END_ALLOW_THREADS
}

/* The calls of other threads stay in the parent. */
static void look_for_fork(struct forkq__py_queue *self) {
  if (self->generation == forkq__py.generation)
    return;
  self->generation = forkq__py.generation;
  self->calls = 0;
  if (self->close_due)
    close_now(self);
}

int forkq__py_queue_enter(struct forkq__py_queue *self) {
  look_for_fork(self);
  if (forkq__py_queue_is_open(self) < 0)
    return -1;
  self->calls++;
  return 0;
}

void forkq__py_queue_leave(struct forkq__py_queue *self) {
  if (self->generation != forkq__py.generation || self->calls == 0) {
    look_for_fork(self); /* the object forked while it was read */
    return;
  }
  self->calls--;
  if (self->calls == 0 && self->close_due)
    close_now(self);
}

static void interrupt(void *target) {
  (void)forkq_queue_interrupt(target);
}

int forkq__py_queue_wait(struct forkq__py_queue *self,
                         const struct forkq__py_deadline *deadline, bool closes,
                         int (*run)(void *arg, int timeout_ms), void *arg) {
  const struct forkq__py_call call = { .run = run,
                                       .interrupt = interrupt,
                                       .arg = arg,
                                       .target = self->queue,
                                       .closed = closes ? &self->closed : NULL };
  return forkq__py_wait(&call, deadline);
}

/* ---- the beginning ------------------------------------------------------------------------ */

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

/* From where a queue comes. */
struct origin {
  int socket;
  const char *path;
  int timeout_ms;
};

/* From now on the object has a queue, which `open` makes. */
static int begin(struct forkq__py_queue *self, forkq_queue_options_t *options,
                 int (*open)(forkq_queue_t **, const forkq_queue_options_t *,
                             const struct origin *),
                 const struct origin *origin) {
  forkq__py_handles_sweep();
  struct forkq__py_reporter *reporter = forkq__py_reporter_make(self);
  if (reporter == NULL)
    return -1;
  options->on_feeder_error = forkq__py_report;
  options->on_feeder_error_arg = reporter;
  forkq_queue_t *queue = NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = open(&queue, options, origin);
  Py_END_ALLOW_THREADS
  if (r < 0) {
    forkq__py_reporter_free(reporter);
    forkq__py_raise(r);
    return -1;
  }
  self->queue = queue;
  self->reporter = reporter;
  self->generation = forkq__py.generation;
  return 0;
}

static int create(forkq_queue_t **ret_queue, const forkq_queue_options_t *options,
                  const struct origin *Py_UNUSED(origin)) {
  return forkq_queue_create_with(ret_queue, options);
}

static int receive(forkq_queue_t **ret_queue, const forkq_queue_options_t *options,
                   const struct origin *origin) {
  return forkq_queue_receive(ret_queue, origin->socket, options);
}

static int connect_to(forkq_queue_t **ret_queue, const forkq_queue_options_t *options,
                      const struct origin *origin) {
  forkq_connect_options_t connecting = FORKQ_CONNECT_OPTIONS_INIT;
  connecting.queue = options;
  return forkq_queue_connect(ret_queue, origin->path, origin->timeout_ms, &connecting);
}

static int refuse_twice(struct forkq__py_queue *self) {
  if (self->queue == NULL)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the queue is initialized already");
  return -1;
}

static int queue_init(PyObject *object, PyObject *args, PyObject *names) {
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
  struct forkq__py_queue *self = queue_of(object);
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  const char *codec = "pickle", *lost_tasks = "count";
  long long maxsize = 0;
  unsigned long long spin_us = 0;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|L$pszsnnnK", keywords, &maxsize,
                                   &options.joinable, &codec, &options.name, &lost_tasks,
                                   &options.max_message, &options.outbox_max_bytes,
                                   &options.shared_max_bytes, &spin_us))
    return -1;
  options.maxsize = maxsize;
  options.spin_us = spin_us;
  if (refuse_twice(self) < 0 || read_codec(&self->codec, codec) < 0 ||
      read_lost_tasks(&options.lost_tasks, lost_tasks) < 0)
    return -1;
  return begin(self, &options, create, NULL);
}

/* ---- handing over ------------------------------------------------------------------------- */

static PyObject *queue_send(PyObject *object, PyObject *args) {
  struct forkq__py_queue *self = queue_of(object);
  int socket, r;
  if (!PyArg_ParseTuple(args, "i", &socket) || forkq__py_queue_is_open(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_send(self->queue, socket);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_queue_raise(self, r);
  Py_RETURN_NONE;
}

static PyObject *queue_receive(PyObject *object, PyObject *args) {
  struct forkq__py_queue *self = queue_of(object);
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  struct origin origin = { 0 };
  const char *codec;
  if (!PyArg_ParseTuple(args, "is", &origin.socket, &codec) || refuse_twice(self) < 0 ||
      read_codec(&self->codec, codec) < 0 || begin(self, &options, receive, &origin) < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* ---- names -------------------------------------------------------------------------------- */

static PyObject *queue_connect(PyObject *object, PyObject *args) {
  struct forkq__py_queue *self = queue_of(object);
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  struct origin origin = { 0 };
  const char *codec;
  PyObject *path;
  if (!PyArg_ParseTuple(args, "O&is", PyUnicode_FSConverter, &path, &origin.timeout_ms,
                        &codec))
    return NULL;
  origin.path = PyBytes_AsString(path);
  bool ok = refuse_twice(self) == 0 && read_codec(&self->codec, codec) == 0 &&
            begin(self, &options, connect_to, &origin) == 0;
  Py_DECREF(path);
  if (!ok)
    return NULL;
  Py_RETURN_NONE;
}

static int serve(struct forkq__py_queue *self, const char *path) {
  forkq_server_t *server = NULL;
  int r;
  if (forkq__py_queue_is_open(self) < 0)
    return -1;
  if (self->server != NULL) {
    PyErr_SetString(PyExc_ValueError, "the queue is served already");
    return -1;
  }
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_serve(&server, self->queue, path, NULL);
  Py_END_ALLOW_THREADS
  if (r < 0)
    forkq__py_queue_raise(self, r);
  self->server = server;
  return r < 0 ? -1 : 0;
}

static PyObject *queue_serve(PyObject *object, PyObject *argument) {
  PyObject *path;
  if (!PyUnicode_FSConverter(argument, &path))
    return NULL;
  int r = serve(queue_of(object), PyBytes_AsString(path));
  Py_DECREF(path);
  if (r < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* ---- the end ------------------------------------------------------------------------------ */

static PyObject *queue_close(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  look_for_fork(self);
  if (self->closed)
    Py_RETURN_NONE;
  self->closed = true;
  if (self->calls == 0) {
    close_now(self);
  } else {
    self->close_due = true;
    (void)forkq_queue_interrupt(self->queue);
  }
  Py_RETURN_NONE;
}

static int run_join_thread(void *arg, int timeout_ms) {
  return forkq_queue_join_thread(arg, timeout_ms, NULL);
}

/* Sleeps for a moment until the last call has closed the queue. */
static int wait_for_close(struct forkq__py_queue *self) {
  const struct timespec moment = { 0, 1000000 };
  look_for_fork(self);
  while (self->close_due) {
    Py_BEGIN_ALLOW_THREADS
      nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals() < 0)
      return -1;
  }
  return 0;
}

static PyObject *done_or_timeout(struct forkq__py_queue *self, int r) {
  if (r == 0)
    Py_RETURN_NONE;
  if (r == FORKQ__PY_RAISED)
    return NULL;
  if (r != FORKQ_TIMEDOUT)
    return forkq__py_queue_raise(self, r);
  PyErr_SetString(PyExc_TimeoutError, forkq_strerror(r));
  return NULL;
}

static PyObject *wait_for_end(PyObject *object, PyObject *timeout,
                              int (*run)(void *arg, int timeout_ms)) {
  struct forkq__py_queue *self = queue_of(object);
  struct forkq__py_deadline deadline;
  if (forkq__py_deadline(&deadline, NULL, timeout) < 0)
    return NULL;
  return done_or_timeout(self,
                         forkq__py_queue_wait(self, &deadline, false, run, self->queue));
}

static PyObject *queue_join_thread(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "timeout", NULL };
  struct forkq__py_queue *self = queue_of(object);
  PyObject *timeout = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      check_made(self) < 0)
    return NULL;
  if (!self->closed) {
    PyErr_Format(PyExc_AssertionError, "Queue %R not closed", object);
    return NULL;
  }
  return wait_for_close(self) < 0 ? NULL : wait_for_end(object, timeout, run_join_thread);
}

static PyObject *queue_cancel_join_thread(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  (void)forkq_queue_cancel_join_thread(self->queue);
  Py_RETURN_NONE;
}

static int run_flush(void *arg, int timeout_ms) {
  return forkq_queue_flush(arg, timeout_ms, NULL);
}

static PyObject *queue_flush(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "timeout", NULL };
  PyObject *timeout = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      forkq__py_queue_is_open(queue_of(object)) < 0)
    return NULL;
  return wait_for_end(object, timeout, run_flush);
}

/* The process is about to end. A queue that nobody else has is closed, so that its unread objects do not keep
 * the process. A thread that is in a call, and dies with the process, is to notice nothing. */
static PyObject *queue_end(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  look_for_fork(self);
  if (self->calls > 0)
    return wait_for_end(object, NULL, run_flush);
  if (!self->closed)
    close_now(self);
  self->closed = true;
  return wait_for_end(object, NULL, run_join_thread);
}

static PyObject *queue_shutdown(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "immediate", NULL };
  struct forkq__py_queue *self = queue_of(object);
  int immediate = 0, r;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|p", keywords, &immediate) ||
      forkq__py_queue_is_open(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_shutdown(self->queue, immediate);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_queue_raise(self, r);
  Py_RETURN_NONE;
}

static void queue_dealloc(PyObject *object) {
  struct forkq__py_queue *self = queue_of(object);
  PyTypeObject *type = Py_TYPE(object);
  end_server(self);
  if (self->queue != NULL)
    forkq__py_handle_drop(self->queue, self->reporter);
  forkq__py_items_free(self->item, 1);
  forkq__py_items_free(self->items, FORKQ__PY_BATCH_MAX);
  freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
  free_object(object);
  Py_DECREF(type);
}

/* ---- tasks -------------------------------------------------------------------------------- */

static PyObject *queue_task_done(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_task_done(self->queue);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_queue_raise(self, r);
  Py_RETURN_NONE;
}

struct join {
  forkq_queue_t *queue;
  uint64_t abandoned;
};

static int run_join(void *arg, int timeout_ms) {
  struct join *join = arg;
  return forkq_queue_join(join->queue, timeout_ms, &join->abandoned);
}

static PyObject *raise_abandoned(uint64_t count) {
  PyObject *error = PyObject_CallFunction(forkq__py.abandoned, "is", FORKQ_EABANDONED,
                                          forkq_strerror(FORKQ_EABANDONED));
  PyObject *number = PyLong_FromUnsignedLongLong(count);
  if (error != NULL && number != NULL &&
      PyObject_SetAttrString(error, "count", number) == 0)
    PyErr_SetObject(forkq__py.abandoned, error);
  Py_XDECREF(error);
  Py_XDECREF(number);
  return NULL;
}

static PyObject *queue_join(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "timeout", NULL };
  struct forkq__py_queue *self = queue_of(object);
  PyObject *timeout = NULL;
  struct forkq__py_deadline deadline;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      check_made(self) < 0 || forkq__py_deadline(&deadline, NULL, timeout) < 0)
    return NULL;
  struct join join = { self->queue, 0 };
  int r = forkq__py_queue_wait(self, &deadline, false, run_join, &join);
  return r == FORKQ_EABANDONED ? raise_abandoned(join.abandoned)
                               : done_or_timeout(self, r);
}

/* ---- questions ---------------------------------------------------------------------------- */

static PyObject *queue_qsize(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  int64_t size;
  Py_BEGIN_ALLOW_THREADS
    size = forkq_queue_qsize(self->queue);
  Py_END_ALLOW_THREADS
  return size < 0 ? forkq__py_queue_raise(self, (int)size) : PyLong_FromLongLong(size);
}

static PyObject *ask(PyObject *object, int (*question)(forkq_queue_t *queue)) {
  struct forkq__py_queue *self = queue_of(object);
  if (check_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = question(self->queue);
  Py_END_ALLOW_THREADS
  if (r == FORKQ_ECLOSED) {
    PyErr_SetString(PyExc_OSError, "handle is closed");
    return NULL;
  }
  return r < 0 ? forkq__py_queue_raise(self, r) : PyBool_FromLong(r);
}

static PyObject *queue_empty(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return ask(object, forkq_queue_empty);
}

static PyObject *queue_full(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return ask(object, forkq_queue_full);
}

static PyObject *descriptor(PyObject *object, int (*find)(forkq_queue_t *queue)) {
  struct forkq__py_queue *self = queue_of(object);
  if (forkq__py_queue_is_open(self) < 0)
    return NULL;
  int fd;
  Py_BEGIN_ALLOW_THREADS
    fd = find(self->queue);
  Py_END_ALLOW_THREADS
  return fd < 0 ? forkq__py_queue_raise(self, fd) : PyLong_FromLong(fd);
}

static PyObject *queue_fileno(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return descriptor(object, forkq_queue_fileno);
}

static PyObject *queue_room_fileno(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return descriptor(object, forkq_queue_room_fileno);
}

static PyObject *queue_stats(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = queue_of(object);
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  if (check_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_stats(self->queue, &stats);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_queue_raise(self, r);
  return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsK}", "put_items", stats.put_items,
                       "put_bytes", stats.put_bytes, "got_items", stats.got_items,
                       "got_bytes", stats.got_bytes, "put_waits", stats.put_waits,
                       "get_waits", stats.get_waits, "outbox_items", stats.outbox_items,
                       "outbox_bytes", stats.outbox_bytes, "recoveries", stats.recoveries,
                       "lost_items", stats.lost_items, "redelivered_items",
                       stats.redelivered_items);
}

static PyObject *queue_codec(PyObject *object, void *Py_UNUSED(unused)) {
  return PyUnicode_FromString(queue_of(object)->codec == FORKQ__PY_MSGPACK ? "msgpack"
                                                                           : "pickle");
}

static PyObject *queue_closed(PyObject *object, void *Py_UNUSED(unused)) {
  return PyBool_FromLong(queue_of(object)->closed);
}

/* ---- the type ----------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
  { "put", FORKQ__PY_FAST(forkq__py_queue_put),
    "put(obj, block=True, timeout=None)\n--\n\n"
    "Puts an object. Raises queue.Full if there is no room within `timeout` seconds, or\n"
    "at once without `block`. The object is packed before put returns: what cannot be\n"
    "pickled is an error of its put, and a later change of the object does not count." },
  { "put_nowait", forkq__py_queue_put_nowait, METH_O,
    "put_nowait(obj, /)\n--\n\nThe same as put(obj, False)." },
  { "put_many", FORKQ__PY_FAST(forkq__py_queue_put_many),
    "put_many(objs, block=True, timeout=None)\n--\n\n"
    "Puts the objects one after the other, until all are put or the time is over.\n"
    "Returns how many were put. Raises queue.Full if that is none of them." },
  { "get", FORKQ__PY_FAST(forkq__py_queue_get),
    "get(block=True, timeout=None)\n--\n\n"
    "Gets an object. Raises queue.Empty if there is none within `timeout` seconds, or "
    "at\n"
    "once without `block`; and ShutDown if the queue is shut down and nothing is left." },
  { "get_nowait", forkq__py_queue_get_nowait, METH_NOARGS,
    "get_nowait()\n--\n\nThe same as get(False)." },
  { "get_many", FORKQ__PY_FAST(forkq__py_queue_get_many),
    "get_many(count, block=True, timeout=None)\n--\n\n"
    "Waits for an object as get does, and gets more that are there already, up to\n"
    "`count`. Returns them as a list. If one of them cannot be read, the exception has\n"
    "the others in its attribute `items`." },
  { "get_lost", forkq__py_queue_get_lost, METH_NOARGS,
    "get_lost()\n--\n\n"
    "Gets an object whose process ended without task_done, of a queue with\n"
    "lost_tasks='tell'. Raises queue.Empty if there is none." },
  { "task_done", queue_task_done, METH_NOARGS,
    "task_done()\n--\n\nMarks an object that was got as done." },
  { "join", FORKQ__PY_KEYWORDS(queue_join),
    "join(timeout=None)\n--\n\n"
    "Waits until all objects that were put are done. Raises TimeoutError when the time "
    "is\n"
    "over, and Abandoned if processes ended without finishing theirs." },
  { "flush", FORKQ__PY_KEYWORDS(queue_flush),
    "flush(timeout=None)\n--\n\n"
    "Waits until all that this process has put is in the pipe. Raises TimeoutError." },
  { "shutdown", FORKQ__PY_KEYWORDS(queue_shutdown),
    "shutdown(immediate=False)\n--\n\n"
    "Shuts the queue down for all processes: puts raise ShutDown, and gets do when\n"
    "nothing is left. With `immediate` nothing is left at once." },
  { "close", queue_close, METH_NOARGS,
    "close()\n--\n\nEnds the use of the queue by this process. What it has put is "
    "sent." },
  { "join_thread", FORKQ__PY_KEYWORDS(queue_join_thread),
    "join_thread(timeout=None)\n--\n\n"
    "After close: waits until all is sent. Raises TimeoutError." },
  { "cancel_join_thread", queue_cancel_join_thread, METH_NOARGS,
    "cancel_join_thread()\n--\n\nThe end of the process does not wait until all is "
    "sent." },
  { "qsize", queue_qsize, METH_NOARGS,
    "qsize()\n--\n\nThe number of objects that were put and not yet got." },
  { "empty", queue_empty, METH_NOARGS, "empty()\n--\n\nWhether qsize() is 0." },
  { "full", queue_full, METH_NOARGS,
    "full()\n--\n\nWhether a put would find the queue full." },
  { "fileno", queue_fileno, METH_NOARGS,
    "fileno()\n--\n\n"
    "A descriptor that can be read from when there is something to get. Only look at "
    "it." },
  { "room_fileno", queue_room_fileno, METH_NOARGS,
    "room_fileno()\n--\n\n"
    "A descriptor that can be read from when there may be room, after a queue.Full." },
  { "serve", queue_serve, METH_O,
    "serve(path, /)\n--\n\n"
    "Gives the queue to programs of this user that connect to the path, until it is "
    "closed." },
  { "stats", queue_stats, METH_NOARGS,
    "stats()\n--\n\nCounts of all processes since the queue was made, as a dict." },
  { "_end", queue_end, METH_NOARGS, NULL },
  { "_connect", queue_connect, METH_VARARGS, NULL },
  { "_send", queue_send, METH_VARARGS, NULL },
  { "_receive", queue_receive, METH_VARARGS, NULL },
  { NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
  { "codec", queue_codec, NULL, "What the queue carries: 'pickle' or 'msgpack'.", NULL },
  { "closed", queue_closed, NULL, "Whether this process has closed the queue.", NULL },
  { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
  { Py_tp_doc, (void *)"A queue of processes: see forkq.Queue." },
  { Py_tp_init, (void *)queue_init },
  { Py_tp_dealloc, (void *)queue_dealloc },
  { Py_tp_methods, methods },
  { Py_tp_getset, attributes },
  { 0, NULL },
};

/* Its classes in Python have a place for weak references, which the reporter needs. */
static PyType_Spec spec = {
  .name = "forkq._forkq.Queue",
  .basicsize = sizeof(struct forkq__py_queue),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
  .slots = slots,
};

static PyMethodDef handles_join = { "join_dropped", forkq__py_handles_join, METH_NOARGS,
                                    NULL };

int forkq__py_add_queue(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0)
    return -1;
  PyObject *join = PyCFunction_NewEx(&handles_join, NULL, NULL);
  return join == NULL ? -1 : PyModule_AddObject(module, "join_dropped", join);
}
