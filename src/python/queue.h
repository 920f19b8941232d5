/* A queue as an object of Python: what its rooms have in common. */
#ifndef FORKQ_PYTHON_QUEUE_H
#define FORKQ_PYTHON_QUEUE_H

#include "python/message.h"
#include "python/wait.h"

#define FORKQ__PY_BATCH_MAX 256 /* items that are taken in one call */

struct forkq__py_reporter;

struct forkq__py_queue {
  PyObject ob_base;     /* what PyObject_HEAD is */
  forkq_queue_t *queue; /* NULL before __init__ */
  struct forkq__py_reporter *reporter;
  forkq_server_t *server; /* while it has a name */
  enum forkq__py_codec codec;
  bool closed;
  bool
      close_due; /* by the last call that is on its way: borrowed bytes end with a close */
  unsigned long calls;      /* puts and gets of this process that are on their way */
  unsigned long generation; /* of the process that `calls` is about */
  unsigned long
      put_generation;  /* of the last process that has put, and 1 more; 0: none has */
  forkq_item_t *item;  /* for the next get, unless one has it */
  forkq_item_t *items; /* FORKQ__PY_BATCH_MAX, for the next batch, unless one has them */
};

/* Whether the queue can be used: it was made, and this process has not closed it. */
int forkq__py_queue_is_open(struct forkq__py_queue *self);

/* Begins and ends a put or a get. */
int forkq__py_queue_enter(struct forkq__py_queue *self);
void forkq__py_queue_leave(struct forkq__py_queue *self);

/* Makes a call that waits: at first it is tried without. `closes`: closing the queue ends it. */
int forkq__py_queue_wait(struct forkq__py_queue *self,
                         const struct forkq__py_deadline *deadline, bool closes,
                         int (*run)(void *arg, int timeout_ms), void *arg);

/* Sets the exception for what a call has returned. */
PyObject *forkq__py_queue_raise(struct forkq__py_queue *self, int error);

/* Methods. */
PyObject *forkq__py_queue_put(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *forkq__py_queue_put_nowait(PyObject *self, PyObject *object);
PyObject *forkq__py_queue_put_many(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count, PyObject *keywords);
PyObject *forkq__py_queue_get(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *forkq__py_queue_get_nowait(PyObject *self, PyObject *unused);
PyObject *forkq__py_queue_get_lost(PyObject *self, PyObject *unused);
PyObject *forkq__py_queue_get_many(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count, PyObject *keywords);

/* Frees items, of which there may be none. */
void forkq__py_items_free(forkq_item_t *items, size_t count);

/* What becomes of the handle of an object that is no more. It is closed; what it has not sent yet is sent
 * nevertheless, and then it is destroyed. */
void forkq__py_handle_drop(forkq_queue_t *queue, struct forkq__py_reporter *reporter);
/* Destroys those of which all is sent. */
void forkq__py_handles_sweep(void);
/* Waits until all are. */
PyObject *forkq__py_handles_join(PyObject *module, PyObject *unused);

/* Tells an object of Python of items that could not be sent. */
struct forkq__py_reporter *forkq__py_reporter_make(struct forkq__py_queue *self);
void forkq__py_reporter_free(struct forkq__py_reporter *reporter);
void forkq__py_report(forkq_queue_t *queue, int error, const char *data, size_t size,
                      void *arg);

/* From now on no feeder enters the interpreter, which is about to end; and none is in it any more. */
PyObject *forkq__py_reports_end(PyObject *module, PyObject *unused);
/* In a forked child: the feeders are the parent's. */
void forkq__py_reports_forked(void);

#endif
