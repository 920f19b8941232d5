/* The type SimpleQueue. */
#include "python/arguments.h"
#include "python/handle.h"
#include "python/message.h"

static const struct forkq__py_deadline forever = { .waits = true };

static void raise_error(struct forkq__py_handle *Py_UNUSED(self), int error) {
  if (error == FORKQ_ECLOSED)
    PyErr_SetString(PyExc_OSError, "handle is closed");
  else
    forkq__py_raise(error);
}

static void close_queue(struct forkq__py_handle *self) {
  Py_BEGIN_ALLOW_THREADS
    forkq_simple_queue_close(self->queue);
  Py_END_ALLOW_THREADS
}

static void interrupt(void *queue) {
  (void)forkq_simple_queue_interrupt(queue);
}

static int send_queue(void *queue, int socket) {
  return forkq_simple_queue_send(queue, socket);
}

static const struct forkq__py_handle_ops ops = {
  .close = close_queue,
  .interrupt = interrupt,
  .send = send_queue,
  .raise = raise_error,
};

static int begin(struct forkq__py_handle *self, forkq_simple_queue_t *queue, int r) {
  if (r < 0)
    raise_error(self, r);
  else
    forkq__py_handle_begin(self, &ops, queue);
  return r < 0 ? -1 : 0;
}

/* ---- methods ------------------------------------------------------------------------------ */

static int queue_init(PyObject *object, PyObject *args, PyObject *names) {
  static char *keywords[] = { NULL };
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (!PyArg_ParseTupleAndKeywords(args, names, "", keywords) ||
      forkq__py_handle_is_new(self) < 0)
    return -1;
  int r;
  forkq_simple_queue_t *queue = NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_create(&queue);
  Py_END_ALLOW_THREADS
  return begin(self, queue, r);
}

static PyObject *queue_receive(PyObject *object, PyObject *args) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  forkq_simple_queue_t *queue = NULL;
  int socket, r;
  if (!PyArg_ParseTuple(args, "i", &socket) || forkq__py_handle_is_new(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_receive(&queue, socket);
  Py_END_ALLOW_THREADS
  if (begin(self, queue, r) < 0)
    return NULL;
  Py_RETURN_NONE;
}

struct put {
  struct forkq__py_handle *self;
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
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  struct forkq__py_message message;
  PyObject *obj;
  if (forkq__py_arguments(&signature, &obj, args, count, keywords) < 0 ||
      forkq__py_handle_is_open(self) < 0 ||
      forkq__py_message_make(&message, obj, FORKQ__PY_PICKLE) < 0)
    return NULL;
  int r = FORKQ__PY_RAISED;
  if (forkq__py_handle_enter(self) == 0) {
    struct put put = { self, &message };
    r = forkq__py_handle_wait(self, &forever, true, run_put, &put);
    forkq__py_handle_leave(self);
  }
  forkq__py_message_end(&message);
  if (r != 0)
    return forkq__py_handle_raise(self, r);
  Py_RETURN_NONE;
}

struct get {
  struct forkq__py_handle *self;
  forkq_item_t item;
};

static int run_get(void *arg, int timeout_ms) {
  struct get *get = arg;
  (void)timeout_ms;
  return forkq_simple_queue_get_borrowed(get->self->queue, &get->item);
}

static PyObject *queue_get(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_enter(self) < 0)
    return NULL;
  struct get get = { self, FORKQ_ITEM_INIT };
  int r = forkq__py_handle_wait(self, &forever, true, run_get, &get);
  PyObject *got = r == 0 ? forkq__py_object_of(&get.item.object, FORKQ__PY_PICKLE)
                         : forkq__py_handle_raise(self, r);
  forkq_item_destroy(&get.item);
  forkq__py_handle_leave(self);
  return got;
}

static PyObject *queue_empty(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_open(self) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_simple_queue_empty(self->queue);
  Py_END_ALLOW_THREADS
  return r < 0 ? forkq__py_handle_raise(self, r) : PyBool_FromLong(r);
}

static void queue_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  forkq_simple_queue_t *queue = forkq__py_handle_of(object)->queue;
  Py_BEGIN_ALLOW_THREADS
    forkq_simple_queue_destroy(queue);
  Py_END_ALLOW_THREADS
  freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
  free_object(object);
  Py_DECREF(type);
}

static PyMethodDef methods[] = {
  { "put", FORKQ__PY_FAST(queue_put),
    "put(obj)\n--\n\nPuts an object. When it returns, the object is in the pipe." },
  { "get", queue_get, METH_NOARGS, "get()\n--\n\nGets an object, and waits for it." },
  { "empty", queue_empty, METH_NOARGS,
    "empty()\n--\n\nWhether there is nothing to get." },
  { "close", forkq__py_handle_close, METH_NOARGS,
    "close()\n--\n\nEnds the use of the queue by this process." },
  { "_send", forkq__py_handle_send, METH_O, NULL },
  { "_receive", queue_receive, METH_VARARGS, NULL },
  { NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
  { "closed", forkq__py_handle_closed, NULL, "Whether this process has closed the queue.",
    NULL },
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
  .basicsize = sizeof(struct forkq__py_handle),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
  .slots = slots,
};

int forkq__py_add_simple_queue(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  return type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
}
