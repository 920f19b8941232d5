/* A queue of the library as an object has it: what the types of queues have in common.
 *
 * Bytes that a get borrows end with the close of the queue. So puts and gets are counted, and a close while
 * some are on their way is made by the last of them. */
#ifndef FORKQ_PYTHON_HANDLE_H
#define FORKQ_PYTHON_HANDLE_H

#include "python/wait.h"

struct forkq__py_handle;

/* What each type does in its own way. */
struct forkq__py_handle_ops {
  void (*close)(struct forkq__py_handle *self); /* ends the use by this process */
  void (*interrupt)(void *queue);
  int (*send)(void *queue, int socket); /* without the GIL */
  void (*raise)(struct forkq__py_handle *self, int error);
};

/* The beginning of an object of each type. */
struct forkq__py_handle {
  PyObject ob_base; /* what PyObject_HEAD is */
  const struct forkq__py_handle_ops *ops;
  void *queue; /* of the library; NULL before __init__ */
  bool closed;
  bool close_due;           /* by the last call that is on its way */
  unsigned long calls;      /* puts and gets of this process that are on their way */
  unsigned long generation; /* of the process that `calls` is about */
};

static inline struct forkq__py_handle *forkq__py_handle_of(PyObject *object) {
  return (struct forkq__py_handle *)object;
}

/* From now on the object has a queue. */
void forkq__py_handle_begin(struct forkq__py_handle *self,
                            const struct forkq__py_handle_ops *ops, void *queue);

/* Whether the object has a queue: 0, or -1 with an exception; whether it has none yet; and whether its queue
 * can be used, which this process has not closed. */
int forkq__py_handle_is_made(struct forkq__py_handle *self);
int forkq__py_handle_is_new(struct forkq__py_handle *self);
int forkq__py_handle_is_open(struct forkq__py_handle *self);

/* Begins and ends a put or a get. */
int forkq__py_handle_enter(struct forkq__py_handle *self);
void forkq__py_handle_leave(struct forkq__py_handle *self);

/* Forgets the calls of other threads that have stayed in the parent. */
void forkq__py_handle_look_for_fork(struct forkq__py_handle *self);

/* Makes a call that waits. `closes`: closing the queue ends it. */
int forkq__py_handle_wait(struct forkq__py_handle *self,
                          const struct forkq__py_deadline *deadline, bool closes,
                          int (*run)(void *arg, int timeout_ms), void *arg);

/* Sets the exception for what a call has returned, if it has none yet. Returns NULL. */
PyObject *forkq__py_handle_raise(struct forkq__py_handle *self, int error);

/* Methods, and an attribute. */
PyObject *forkq__py_handle_close(PyObject *self, PyObject *unused);
PyObject *forkq__py_handle_send(PyObject *self, PyObject *socket);
PyObject *forkq__py_handle_closed(PyObject *self, void *unused);

#endif
