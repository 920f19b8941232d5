/* The puts of a queue. */
#include "python/arguments.h"
#include "python/queue.h"

struct put {
  struct forkq__py_queue *self;
  const struct forkq__py_message *message;
};

static int run_put(void *arg, int timeout_ms) {
  const struct put *put = arg;
  return forkq__py_message_put(put->message, put->self->handle.queue, timeout_ms);
}

/* Whoever puts has something to send at its end. */
static int begin_to_put(struct forkq__py_queue *self) {
  if (self->put_generation == forkq__py.generation + 1)
    return 0;
  PyObject *none = PyObject_CallFunctionObjArgs(forkq__py.first_put, self, NULL);
  if (none == NULL)
    return -1;
  Py_DECREF(none);
  self->put_generation = forkq__py.generation + 1;
  return 0;
}

/* A small message is copied faster than the GIL is let go and taken. */
static int try_put(const struct put *put) {
  if (forkq__py_message_size(put->message) < FORKQ__PY_LARGE)
    return forkq__py_message_put(put->message, put->self->handle.queue, 0);
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq__py_message_put(put->message, put->self->handle.queue, 0);
  Py_END_ALLOW_THREADS
  return r;
}

static PyObject *result_of(struct forkq__py_queue *self, int r) {
  if (r == 0)
    Py_RETURN_NONE;
  if (r == FORKQ_FULL || r == FORKQ_TIMEDOUT) {
    PyErr_SetNone(forkq__py.full);
    return NULL;
  }
  return forkq__py_handle_raise(&self->handle, r);
}

static PyObject *put_message(struct forkq__py_queue *self,
                             const struct forkq__py_message *message,
                             const struct forkq__py_deadline *deadline) {
  if (begin_to_put(self) < 0 || forkq__py_handle_enter(&self->handle) < 0)
    return NULL;
  struct put put = { self, message };
  int r = try_put(&put);
  if (r == FORKQ_FULL && deadline->waits)
    r = forkq__py_handle_wait(&self->handle, deadline, true, run_put, &put);
  forkq__py_handle_leave(&self->handle);
  return result_of(self, r);
}

static PyObject *put_object(struct forkq__py_queue *self, PyObject *object,
                            const struct forkq__py_deadline *deadline) {
  struct forkq__py_message message;
  if (forkq__py_handle_is_open(&self->handle) < 0 ||
      forkq__py_message_make(&message, object, self->codec) < 0)
    return NULL;
  PyObject *result = put_message(self, &message, deadline);
  forkq__py_message_end(&message);
  return result;
}

PyObject *forkq__py_queue_put(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
  static const char *const names[] = { "obj", "block", "timeout", NULL };
  static const struct forkq__py_signature signature = { "put", names, 1 };
  PyObject *values[3];
  struct forkq__py_deadline deadline;
  if (forkq__py_arguments(&signature, values, args, count, keywords) < 0 ||
      forkq__py_deadline(&deadline, values[1], values[2]) < 0)
    return NULL;
  return put_object((struct forkq__py_queue *)self, values[0], &deadline);
}

PyObject *forkq__py_queue_put_nowait(PyObject *self, PyObject *object) {
  const struct forkq__py_deadline deadline = { .waits = false };
  return put_object((struct forkq__py_queue *)self, object, &deadline);
}

/* ---- batches ------------------------------------------------------------------------------ */

/* Objects that are put together: bytes where they lie, or msgpack in a buffer. */
struct batch {
  struct forkq__py_queue *self;
  PyObject *objects; /* a tuple, which does not change */
  bool are_bytes;
  forkq_bytes_t *spans;
  size_t count, put;
  msgpack_sbuffer packed;
};

static bool are_bytes(PyObject *tuple, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!PyBytes_CheckExact(PyTuple_GetItem(tuple, (Py_ssize_t)i)))
      return false;
  return true;
}

static int find_bytes(struct batch *batch) {
  for (size_t i = 0; i < batch->count; i++) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(PyTuple_GetItem(batch->objects, (Py_ssize_t)i), &bytes,
                                &size) < 0)
      return -1;
    batch->spans[i] = (forkq_bytes_t){ bytes, (size_t)size };
  }
  return 0;
}

static int append(struct batch *batch, size_t i, msgpack_packer *packer) {
  struct forkq__py_message message;
  size_t before = batch->packed.size;
  if (forkq__py_message_make(&message, PyTuple_GetItem(batch->objects, (Py_ssize_t)i),
                             batch->self->codec) < 0)
    return -1;
  int r = forkq__py_message_append(&message, packer);
  forkq__py_message_end(&message);
  batch->spans[i].size = batch->packed.size - before;
  return r;
}

/* The buffer moves while it grows, so the spans get their places at the end. */
static int pack_all(struct batch *batch) {
  msgpack_packer packer;
  msgpack_packer_init(&packer, &batch->packed, msgpack_sbuffer_write);
  for (size_t i = 0; i < batch->count; i++)
    if (append(batch, i, &packer) < 0)
      return -1;
  const char *data = batch->packed.data;
  for (size_t i = 0; i < batch->count; i++) {
    batch->spans[i].data = data;
    data += batch->spans[i].size;
  }
  return 0;
}

static int batch_make(struct batch *batch) {
  batch->count = (size_t)PyTuple_Size(batch->objects);
  batch->spans = PyMem_Calloc(batch->count, sizeof *batch->spans);
  if (batch->spans == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  batch->are_bytes = are_bytes(batch->objects, batch->count);
  return batch->are_bytes ? find_bytes(batch) : pack_all(batch);
}

static int run_batch(void *arg, int timeout_ms) {
  struct batch *batch = arg;
  size_t put = 0;
  const forkq_bytes_t *rest = batch->spans + batch->put;
  size_t count = batch->count - batch->put;
  int r = batch->are_bytes ? forkq_queue_put_many_bytes(batch->self->handle.queue, rest,
                                                        count, timeout_ms, &put)
                           : forkq_queue_put_many_packed(batch->self->handle.queue, rest,
                                                         count, timeout_ms, &put);
  batch->put += put;
  return r;
}

static int try_batch(struct batch *batch) {
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = run_batch(batch, 0);
  Py_END_ALLOW_THREADS
  return r;
}

/* Until all are put, or the time is over. */
static int put_batch(struct batch *batch, const struct forkq__py_deadline *deadline) {
  int r = 0;
  while (r == 0 && batch->put < batch->count) {
    r = try_batch(batch);
    if (r == FORKQ_FULL && deadline->waits)
      r = forkq__py_handle_wait(&batch->self->handle, deadline, true, run_batch, batch);
  }
  return r;
}

/* What was put stays put: where nothing raises, the number says how many that are. */
static PyObject *put_all(struct batch *batch, const struct forkq__py_deadline *deadline) {
  if (batch_make(batch) < 0 || begin_to_put(batch->self) < 0 ||
      forkq__py_handle_enter(&batch->self->handle) < 0)
    return NULL;
  int r = put_batch(batch, deadline);
  forkq__py_handle_leave(&batch->self->handle);
  bool full = r == FORKQ_FULL || r == FORKQ_TIMEDOUT;
  if (r == 0 || (full && batch->put > 0))
    return PyLong_FromSize_t(batch->put);
  return result_of(batch->self, r);
}

PyObject *forkq__py_queue_put_many(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count, PyObject *keywords) {
  static const char *const names[] = { "objs", "block", "timeout", NULL };
  static const struct forkq__py_signature signature = { "put_many", names, 1 };
  PyObject *values[3];
  struct forkq__py_deadline deadline;
  struct batch batch = { .self = (struct forkq__py_queue *)self };
  if (forkq__py_arguments(&signature, values, args, count, keywords) < 0 ||
      forkq__py_deadline(&deadline, values[1], values[2]) < 0 ||
      forkq__py_handle_is_open(&batch.self->handle) < 0)
    return NULL;
  batch.objects = PySequence_Tuple(values[0]);
  if (batch.objects == NULL)
    return NULL;
  msgpack_sbuffer_init(&batch.packed);
  PyObject *result = put_all(&batch, &deadline);
  msgpack_sbuffer_destroy(&batch.packed);
  PyMem_Free(batch.spans);
  Py_DECREF(batch.objects);
  return result;
}
