/* The type Queue: what it does in its own way, its end, and what it is asked. */
#include "python/queue.h"

#include "python/arguments.h"

void forkq__py_queue_raise(struct forkq__py_handle *self, int error) {
  if (error == FORKQ_ECLOSED)
    PyErr_Format(PyExc_ValueError, "Queue %R is closed", (PyObject *)self);
  else if (error == FORKQ_TIMEDOUT)
    PyErr_SetString(PyExc_TimeoutError, forkq_strerror(error));
  else
    forkq__py_raise(error);
}

static void close_queue(struct forkq__py_handle *self) {
  forkq__py_queue_serve_no_more((struct forkq__py_queue *)self);
  Py_BEGIN_ALLOW_THREADS
    forkq_queue_close(self->queue);
  Py_END_ALLOW_THREADS
}

static int send_queue(void *queue, int socket) {
  return forkq_queue_send(queue, socket);
}

const struct forkq__py_handle_ops forkq__py_queue_ops = {
  .close = close_queue,
  .interrupt = forkq__py_queue_interrupt,
  .send = send_queue,
  .raise = forkq__py_queue_raise,
};

/* ---- the end ------------------------------------------------------------------------------ */

static PyObject *none_or_raise(struct forkq__py_handle *self, int r) {
  if (r != 0)
    return forkq__py_handle_raise(self, r);
  Py_RETURN_NONE;
}

static PyObject *wait_for_end(struct forkq__py_handle *self, PyObject *timeout,
                              int (*run)(void *arg, int timeout_ms)) {
  struct forkq__py_deadline deadline;
  if (forkq__py_deadline(&deadline, NULL, timeout) < 0)
    return NULL;
  return none_or_raise(self,
                       forkq__py_handle_wait(self, &deadline, false, run, self->queue));
}

static PyObject *queue_join_thread(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "timeout", NULL };
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  PyObject *timeout = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      forkq__py_handle_is_made(self) < 0)
    return NULL;
  if (!self->closed) {
    PyErr_Format(PyExc_AssertionError, "Queue %R not closed", object);
    return NULL;
  }
  forkq__py_handle_look_for_fork(self);
  return wait_for_end(self, timeout, forkq__py_queue_run_join_thread);
}

static PyObject *queue_cancel_join_thread(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  (void)forkq_queue_cancel_join_thread(self->queue);
  Py_RETURN_NONE;
}

static int run_flush(void *arg, int timeout_ms) {
  return forkq_queue_flush(arg, timeout_ms, NULL);
}

static PyObject *queue_flush(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "timeout", NULL };
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  PyObject *timeout = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      forkq__py_handle_is_open(self) < 0)
    return NULL;
  return wait_for_end(self, timeout, run_flush);
}

/* The process is about to end. A queue that nobody else has is closed, so that its unread objects do not keep
 * the process. A thread that is in a call, and dies with the process, is to notice nothing. */
static PyObject *queue_end(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  forkq__py_handle_look_for_fork(self);
  if (self->calls == 0)
    Py_XDECREF(forkq__py_handle_close(object, NULL));
  return wait_for_end(self, NULL, forkq__py_queue_run_join_thread);
}

static PyObject *queue_shutdown(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { "immediate", NULL };
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  int immediate = 0, r;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|p", keywords, &immediate) ||
      forkq__py_handle_is_open(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_shutdown(self->queue, immediate);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_handle_raise(self, r);
  Py_RETURN_NONE;
}

static void queue_dealloc(PyObject *object) {
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  PyTypeObject *type = Py_TYPE(object);
  forkq__py_queue_serve_no_more(self);
  if (self->handle.queue != NULL)
    forkq__py_handle_drop(self->handle.queue, self->reporter);
  forkq__py_items_free(self->item, 1);
  forkq__py_items_free(self->items, FORKQ__PY_BATCH_MAX);
  freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
  free_object(object);
  Py_DECREF(type);
}

/* ---- tasks -------------------------------------------------------------------------------- */

static PyObject *queue_task_done(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_task_done(self->queue);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_handle_raise(self, r);
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
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  PyObject *timeout = NULL;
  struct forkq__py_deadline deadline;
  if (!PyArg_ParseTupleAndKeywords(args, names, "|O", keywords, &timeout) ||
      forkq__py_handle_is_made(self) < 0 ||
      forkq__py_deadline(&deadline, NULL, timeout) < 0)
    return NULL;
  struct join join = { self->queue, 0 };
  int r = forkq__py_handle_wait(self, &deadline, false, run_join, &join);
  return r == FORKQ_EABANDONED ? raise_abandoned(join.abandoned) : none_or_raise(self, r);
}

/* ---- questions ---------------------------------------------------------------------------- */

static PyObject *queue_qsize(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  int64_t size;
  Py_BEGIN_ALLOW_THREADS
    size = forkq_queue_qsize(self->queue);
  Py_END_ALLOW_THREADS
  return size < 0 ? forkq__py_handle_raise(self, (int)size) : PyLong_FromLongLong(size);
}

static PyObject *ask(PyObject *object, int (*question)(forkq_queue_t *queue)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = question(self->queue);
  Py_END_ALLOW_THREADS
  if (r == FORKQ_ECLOSED) {
    PyErr_SetString(PyExc_OSError, "handle is closed");
    return NULL;
  }
  return r < 0 ? forkq__py_handle_raise(self, r) : PyBool_FromLong(r);
}

static PyObject *queue_empty(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return ask(object, forkq_queue_empty);
}

static PyObject *queue_full(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return ask(object, forkq_queue_full);
}

static PyObject *descriptor(PyObject *object, int (*find)(forkq_queue_t *queue)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_open(self) < 0)
    return NULL;
  int fd;
  Py_BEGIN_ALLOW_THREADS
    fd = find(self->queue);
  Py_END_ALLOW_THREADS
  return fd < 0 ? forkq__py_handle_raise(self, fd) : PyLong_FromLong(fd);
}

static PyObject *queue_fileno(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return descriptor(object, forkq_queue_fileno);
}

static PyObject *queue_room_fileno(PyObject *object, PyObject *Py_UNUSED(unused)) {
  return descriptor(object, forkq_queue_room_fileno);
}

static PyObject *queue_stats(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_stats(self->queue, &stats);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_handle_raise(self, r);
  return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsK}", "put_items", stats.put_items,
                       "put_bytes", stats.put_bytes, "got_items", stats.got_items,
                       "got_bytes", stats.got_bytes, "put_waits", stats.put_waits,
                       "get_waits", stats.get_waits, "outbox_items", stats.outbox_items,
                       "outbox_bytes", stats.outbox_bytes, "recoveries", stats.recoveries,
                       "lost_items", stats.lost_items, "redelivered_items",
                       stats.redelivered_items);
}

static PyObject *queue_codec(PyObject *object, void *Py_UNUSED(unused)) {
  return PyUnicode_FromString(
      ((struct forkq__py_queue *)object)->codec == FORKQ__PY_MSGPACK ? "msgpack"
                                                                     : "pickle");
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
  { "close", forkq__py_handle_close, METH_NOARGS,
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
  { "serve", forkq__py_queue_serve, METH_O,
    "serve(path, /)\n--\n\n"
    "Gives the queue to programs of this user that connect to the path, until it is "
    "closed." },
  { "stats", queue_stats, METH_NOARGS,
    "stats()\n--\n\nCounts of all processes since the queue was made, as a dict." },
  { "_end", queue_end, METH_NOARGS, NULL },
  { "_connect", forkq__py_queue_connect, METH_VARARGS, NULL },
  { "_send", forkq__py_handle_send, METH_O, NULL },
  { "_receive", forkq__py_queue_receive, METH_VARARGS, NULL },
  { NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
  { "codec", queue_codec, NULL, "What the queue carries: 'pickle' or 'msgpack'.", NULL },
  { "closed", forkq__py_handle_closed, NULL, "Whether this process has closed the queue.",
    NULL },
  { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
  { Py_tp_doc, (void *)"A queue of processes: see forkq.Queue." },
  { Py_tp_init, (void *)forkq__py_queue_init },
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

int forkq__py_add_queue(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  return type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
}
