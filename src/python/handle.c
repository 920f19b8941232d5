#include "python/handle.h"

PyObject *forkq__py_handle_raise(struct forkq__py_handle *self, int error) {
  if (error != FORKQ__PY_RAISED)
    self->ops->raise(self, error);
  return NULL;
}

/* ---- its state ---------------------------------------------------------------------------- */

void forkq__py_handle_begin(struct forkq__py_handle *self,
                            const struct forkq__py_handle_ops *ops, void *queue) {
  self->ops = ops;
  self->queue = queue;
  self->generation = forkq__py.generation;
}

int forkq__py_handle_is_made(struct forkq__py_handle *self) {
  if (self->queue != NULL)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the queue was not initialized");
  return -1;
}

int forkq__py_handle_is_new(struct forkq__py_handle *self) {
  if (self->queue == NULL)
    return 0;
  PyErr_SetString(PyExc_ValueError, "the queue is initialized already");
  return -1;
}

int forkq__py_handle_is_open(struct forkq__py_handle *self) {
  if (forkq__py_handle_is_made(self) < 0)
    return -1;
  if (self->closed)
    forkq__py_handle_raise(self, FORKQ_ECLOSED);
  return self->closed ? -1 : 0;
}

PyObject *forkq__py_handle_closed(PyObject *self, void *Py_UNUSED(unused)) {
  return PyBool_FromLong(forkq__py_handle_of(self)->closed);
}

/* ---- calls, and the close that waits for them ----------------------------------------------- */

static void close_now(struct forkq__py_handle *self) {
  self->close_due = false;
  self->ops->close(self);
}

void forkq__py_handle_look_for_fork(struct forkq__py_handle *self) {
  if (self->generation == forkq__py.generation)
    return;
  self->generation = forkq__py.generation;
  self->calls = 0;
  if (self->close_due)
    close_now(self);
}

int forkq__py_handle_enter(struct forkq__py_handle *self) {
  forkq__py_handle_look_for_fork(self);
  if (forkq__py_handle_is_open(self) < 0)
    return -1;
  self->calls++;
  return 0;
}

void forkq__py_handle_leave(struct forkq__py_handle *self) {
  if (self->generation != forkq__py.generation || self->calls == 0) {
    forkq__py_handle_look_for_fork(self); /* the object forked while it was read */
    return;
  }
  self->calls--;
  if (self->calls == 0 && self->close_due)
    close_now(self);
}

int forkq__py_handle_wait(struct forkq__py_handle *self,
                          const struct forkq__py_deadline *deadline, bool closes,
                          int (*run)(void *arg, int timeout_ms), void *arg) {
  const struct forkq__py_call call = { .run = run,
                                       .interrupt = self->ops->interrupt,
                                       .arg = arg,
                                       .target = self->queue,
                                       .closed = closes ? &self->closed : NULL };
  return forkq__py_wait(&call, deadline);
}

PyObject *forkq__py_handle_close(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  if (forkq__py_handle_is_made(self) < 0)
    return NULL;
  forkq__py_handle_look_for_fork(self);
  if (self->closed)
    Py_RETURN_NONE;
  self->closed = true;
  if (self->calls == 0) {
    close_now(self);
  } else {
    self->close_due = true;
    self->ops->interrupt(self->queue);
  }
  Py_RETURN_NONE;
}

/* ---- handing over ------------------------------------------------------------------------- */

PyObject *forkq__py_handle_send(PyObject *object, PyObject *socket) {
  struct forkq__py_handle *self = forkq__py_handle_of(object);
  int r, fd = PyObject_AsFileDescriptor(socket);
  if (fd < 0 || forkq__py_handle_is_open(self) < 0)
    return NULL;
  Py_BEGIN_ALLOW_THREADS
    r = self->ops->send(self->queue, fd);
  Py_END_ALLOW_THREADS
  if (r < 0)
    return forkq__py_handle_raise(self, r);
  Py_RETURN_NONE;
}
