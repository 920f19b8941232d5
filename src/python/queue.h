/* A queue as an object of Python: what its rooms have in common. */
#ifndef FORKQ_PYTHON_QUEUE_H
#define FORKQ_PYTHON_QUEUE_H

#include "python/handle.h"
#include "python/message.h"

#define FORKQ__PY_BATCH_MAX 256 /* items that are taken in one call */

struct forkq__py_reporter;

struct forkq__py_queue {
  struct forkq__py_handle handle;
  struct forkq__py_reporter *reporter;
  forkq_server_t *server; /* while it has a name */
  enum forkq__py_codec codec;
  unsigned long
      put_generation;  /* of the last process that has put, and 1 more; 0: none has */
  forkq_item_t *item;  /* for the next get, unless one has it */
  forkq_item_t *items; /* FORKQ__PY_BATCH_MAX, for the next batch, unless one has them */
};

extern const struct forkq__py_handle_ops forkq__py_queue_ops;

/* Sets the exception for what a call has returned. */
void forkq__py_queue_raise(struct forkq__py_handle *self, int error);

/* The calls of the library, for struct forkq__py_call. */
void forkq__py_queue_interrupt(void *queue);
/* Until all is sent, also where a close is still due. */
int forkq__py_queue_run_join_thread(void *queue, int timeout_ms);

/* Methods. */
int forkq__py_queue_init(PyObject *self, PyObject *args, PyObject *names);
PyObject *forkq__py_queue_receive(PyObject *self, PyObject *args);
PyObject *forkq__py_queue_connect(PyObject *self, PyObject *args);
PyObject *forkq__py_queue_serve(PyObject *self, PyObject *path);
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

/* Ends the server, if there is one. */
void forkq__py_queue_serve_no_more(struct forkq__py_queue *self);

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
