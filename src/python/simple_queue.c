/* The type SimpleQueue. */
#include "python/arguments.h"
#include "python/message.h"
#include "python/wait.h"

struct simple_queue {
  PyObject ob_base;            /* what PyObject_HEAD is */
  forkq_simple_queue_t *queue; /* NULL before __init__ */
  bool closed;
  bool close_due;
  unsigned long calls, generation; /* as in forkq__py_queue */
};

static const struct forkq__py_deadline forever = { .waits = true };

static struct simple_queue *queue_of(PyObject *self) {
  return (struct simple_queue *)self;
}

static PyObject *raise_error(int error) {
  if (error == FORKQ__PY_RAISED)
    return NULL;
  if (error != FORKQ_ECLOSED)
    return forkq__py_raise(error);
  PyErr_SetString(PyExc_OSError, "handle is closed");
  return NULL;
}

static int check_made(const struct simple_queue *self) {
  if (self->queue != NULL)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the queue was not initialized");
  return -1;
}

static int check_open(const struct simple_queue *self) {
  if (check_made(self) < 0)
    return -1;
  if (self->closed)
    raise_error(FORKQ_ECLOSED);
  return self->closed ? -1 : 0;
}

/* ---- calls, and the close that waits for them ----------------------------------------------- */

static void close_now(struct simple_queue *self) {
  self->close_due = false;
  Py_BEGIN_ALLOW_THREADS
    forkq_simple_queue_close(self->queue);
  Py_END_ALLOW_THREADS
}

static void look_for_fork(struct simple_queue *self) {
  if (self->generation == forkq__py.generation)
    return;
  self->generation = forkq__py.generation;
  self->calls = 0;
  if (self->close_due)
    close_now(self);
}

static int enter(struct simple_queue *self) {
  look_for_fork(self);
  if (check_open(self) < 0)
    return -1;
  self->calls++;
  return 0;
}

static void leave(struct simple_queue *self) {
  if (self->generation != forkq__py.generation || self->calls == 0) {
    look_for_fork(self);
    return;
  }
  self->calls--;
  if (self->calls == 0 && self->close_due)
    close_now(self);
}

static void interrupt(void *target) {
  (void)forkq_simple_queue_interrupt(target);
}

static int wait_for(struct simple_queue *self, int (*run)(void *arg, int timeout_ms),
                    void *arg) {
  const struct forkq__py_call call = { .run = run,
                                       .interrupt = interrupt,
                                       .arg = arg,
                                       .target = self->queue,
                                       .closed = &self->closed };
  return forkq__py_wait(&call, &forever);
}

/* ---- methods ------------------------------------------------------------------------------ */

/* From now on the object has a queue, if `r` says that there is one. */
static int begin(struct simple_queue *self, forkq_simple_queue_t *queue, int r) {
  if (r < 0)
    raise_error(r);
  self->queue = queue;
  self->generation = forkq__py.generation;
  return r < 0 ? -1 : 0;
}

static int refuse_twice(const struct simple_queue *self) {
  if (self->queue == NULL)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the queue is initialized already");
  return -1;
}

static int queue_init(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { NULL };
  struct simple_queue *self = queue_of(object);
  if (!PyArg_ParseTupleAndKeywords(args, names, "", keywords) || refuse_twice(self) < 0)
    return -1;
  int r;
  forkq_simple_queue_t *queue = NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_create(&queue);
  Py_END_ALLOW_THREADS
  return begin(self, queue, r);
}

static PyObject *queue_send(PyObject *object, PyObject *args) {
  struct simple_queue *self = queue_of(object);
  int socket, r;
  if (!PyArg_ParseTuple(args, "i", &socket) || check_open(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_send(self->queue, socket);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return raise_error(r);
  Py_RETURN_NONE;
}

static PyObject *queue_receive(PyObject *object, PyObject *args) {
  struct simple_queue *self = queue_of(object);
  forkq_simple_queue_t *queue = NULL;
  int socket, r;
  if (!PyArg_ParseTuple(args, "i", &socket) || refuse_twice(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_receive(&queue, socket);
  Py_END_ALLOW_THREADS
  if (begin(self, queue, r) < 0)
    return NULL;
  Py_RETURN_NONE;
}

struct put {
  struct simple_queue *self;
  const struct forkq__py_message *message;
};

static int run_put(void *arg, int timeout_ms) {
  const struct put *put = arg;
  (void)timeout_ms;
  return forkq__py_message_put_simple(put->message, put->self->queue);
}

static PyObject *queue_put(PyObject *object, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords) {
  static const char *const names[] = { "obj", NULL };
  static const struct forkq__py_signature signature = { "put", names, 1 };
  struct simple_queue *self = queue_of(object);
  struct forkq__py_message message;
  PyObject *obj;
  if (forkq__py_arguments(&signature, &obj, args, count, keywords) < 0 ||
      check_open(self) < 0 || forkq__py_message_make(&message, obj, FORKQ__PY_PICKLE) < 0)
    return NULL;
  int r = FORKQ__PY_RAISED;
  if (enter(self) == 0) {
    struct put put = { self, &message };
    r = wait_for(self, run_put, &put);
    leave(self);
  }
  forkq__py_message_end(&message);
  if (r != 0)
    return raise_error(r);
  Py_RETURN_NONE;
}

struct get {
  struct simple_queue *self;
  forkq_item_t item;
};

static int run_get(void *arg, int timeout_ms) {
  struct get *get = arg;
  (void)timeout_ms;
  return forkq_simple_queue_get_borrowed(get->self->queue, &get->item);
}

static PyObject *queue_get(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct simple_queue *self = queue_of(object);
  if (enter(self) < 0)
    return NULL;
  struct get get = { self, FORKQ_ITEM_INIT };
  int r = wait_for(self, run_get, &get);
  PyObject *got =
      r == 0 ? forkq__py_object_of(&get.item.object, FORKQ__PY_PICKLE) : raise_error(r);
  forkq_item_destroy(&get.item);
  leave(self);
  return got;
}

static PyObject *queue_empty(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct simple_queue *self = queue_of(object);
  if (check_open(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_empty(self->queue);
  Py_END_ALLOW_THREADS
  return r < 0 ? raise_error(r) : PyBool_FromLong(r);
}

static PyObject *queue_close(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct simple_queue *self = queue_of(object);
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
    (void)forkq_simple_queue_interrupt(self->queue);
  }
  Py_RETURN_NONE;
}

static void queue_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  forkq_simple_queue_t *queue = queue_of(object)->queue;
  Py_BEGIN_ALLOW_THREADS
    forkq_simple_queue_destroy(queue);
  Py_END_ALLOW_THREADS
  freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
  free_object(object);
  Py_DECREF(type);
}

static PyObject *queue_closed(PyObject *object, void *Py_UNUSED(unused)) {
  return PyBool_FromLong(queue_of(object)->closed);
}

static PyMethodDef methods[] = {
  { "put", FORKQ__PY_FAST(queue_put),
    "put(obj)\n--\n\nPuts an object. When it returns, the object is in the pipe." },
  { "get", queue_get, METH_NOARGS, "get()\n--\n\nGets an object, and waits for it." },
  { "empty", queue_empty, METH_NOARGS,
    "empty()\n--\n\nWhether there is nothing to get." },
  { "close", queue_close, METH_NOARGS,
    "close()\n--\n\nEnds the use of the queue by this process." },
  { "_send", queue_send, METH_VARARGS, NULL },
  { "_receive", queue_receive, METH_VARARGS, NULL },
  { NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
  { "closed", queue_closed, NULL, "Whether this process has closed the queue.", NULL },
  { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
  { Py_tp_doc, (void *)"A queue of processes: see forkq.SimpleQueue." },
  { Py_tp_init, (void *)queue_init },
  { Py_tp_dealloc, (void *)queue_dealloc },
  { Py_tp_methods, methods },
  { Py_tp_getset, attributes },
  { 0, NULL },
};

static PyType_Spec spec = {
  .name = "forkq._forkq.SimpleQueue",
  .basicsize = sizeof(struct simple_queue),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
  .slots = slots,
};

int forkq__py_add_simple_queue(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  return type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
}
