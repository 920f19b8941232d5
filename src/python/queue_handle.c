/* Handles whose objects are no more, and items that could not be sent. */
#include "python/queue.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define PATIENCE_MS 20 /* for a feeder that has nothing to send and is about to end */

/* ---- what is still sent ------------------------------------------------------------------- */

/* A queue has it from its beginning, so its end needs no memory. */
struct forkq__py_reporter {
  PyObject *object; /* a weak reference: the feeder may outlive the object */
  enum forkq__py_codec codec;
  forkq_queue_t *queue; /* once the object is no more */
  struct forkq__py_reporter *next;
};

static struct forkq__py_reporter *dropped; /* the GIL guards it */

static void destroy(struct forkq__py_reporter *reporter) {
  Py_BEGIN_ALLOW_THREADS
    /* the feeder may be about to report */
    forkq_queue_destroy(reporter->queue);
  Py_END_ALLOW_THREADS
  forkq__py_reporter_free(reporter);
}

/* Whether the feeder has ended, or will at once. */
static bool is_sent(forkq_queue_t *queue, int timeout_ms) {
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_join_thread(queue, timeout_ms, NULL);
    if (r == FORKQ_EINTERRUPTED)
      r = forkq_queue_join_thread(queue, timeout_ms, NULL);
  Py_END_ALLOW_THREADS
  return r != FORKQ_TIMEDOUT && r != FORKQ_EINTERRUPTED;
}

static bool has_unsent(forkq_queue_t *queue) {
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  return forkq_queue_stats(queue, &stats) < 0 || stats.outbox_items > 0;
}

static void keep(struct forkq__py_reporter *reporter) {
  reporter->next = dropped;
  dropped = reporter;
}

void forkq__py_handle_drop(forkq_queue_t *queue, struct forkq__py_reporter *reporter) {
  forkq__py_handles_sweep();
  bool unsent;
  Py_BEGIN_ALLOW_THREADS
    unsent = has_unsent(queue);
    forkq_queue_close(queue);
  Py_END_ALLOW_THREADS
  reporter->queue = queue;
  if (is_sent(queue, unsent ? 0 : PATIENCE_MS))
    destroy(reporter);
  else
    keep(reporter);
}

/* The list is others' as well while the GIL is let go. */
static struct forkq__py_reporter *take_all(void) {
  struct forkq__py_reporter *all = dropped;
  dropped = NULL;
  return all;
}

void forkq__py_handles_sweep(void) {
  struct forkq__py_reporter *next;
  for (struct forkq__py_reporter *entry = take_all(); entry != NULL; entry = next) {
    next = entry->next;
    if (is_sent(entry->queue, 0))
      destroy(entry);
    else
      keep(entry);
  }
}

/* The close may be left to a call that is on its way, perhaps below this one on the stack. */
int forkq__py_queue_run_join_thread(void *queue, int timeout_ms) {
  int r = forkq_queue_join_thread(queue, timeout_ms, NULL);
  if (r != FORKQ_ENOTCLOSED)
    return r;
  r = forkq_queue_flush(queue, timeout_ms, NULL);
  return r == FORKQ_ECLOSED ? FORKQ_EINTERRUPTED : r;
}

void forkq__py_queue_interrupt(void *queue) {
  (void)forkq_queue_interrupt(queue);
}

/* A signal may end it; then the rest is given up. */
PyObject *forkq__py_handles_join(PyObject *Py_UNUSED(module),
                                 PyObject *Py_UNUSED(unused)) {
  const struct forkq__py_deadline forever = { .waits = true };
  struct forkq__py_reporter *next;
  bool raised = false;
  for (struct forkq__py_reporter *entry = take_all(); entry != NULL; entry = next) {
    next = entry->next;
    const struct forkq__py_call call = { .run = forkq__py_queue_run_join_thread,
                                         .interrupt = forkq__py_queue_interrupt,
                                         .arg = entry->queue,
                                         .target = entry->queue };
    if (!raised)
      raised = forkq__py_wait(&call, &forever) == FORKQ__PY_RAISED;
    if (raised)
      (void)forkq_queue_cancel_join_thread(entry->queue);
    destroy(entry);
  }
  if (raised)
    return NULL;
  Py_RETURN_NONE;
}

/* ---- what cannot be sent ------------------------------------------------------------------ */

struct forkq__py_reporter *forkq__py_reporter_make(struct forkq__py_queue *self) {
  struct forkq__py_reporter *reporter = malloc(sizeof *reporter);
  if (reporter == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  reporter->codec = self->codec;
  reporter->object = PyWeakref_NewRef((PyObject *)self, NULL);
  if (reporter->object != NULL)
    return reporter;
  free(reporter);
  return NULL;
}

void forkq__py_reporter_free(struct forkq__py_reporter *reporter) {
  if (reporter == NULL)
    return;
  Py_DECREF(reporter->object);
  free(reporter);
}

/* The item as an object; None if it cannot be one any more. */
static PyObject *read_item(const struct forkq__py_reporter *reporter, const char *data,
                           size_t size) {
  PyObject *object = NULL;
  msgpack_unpacked unpacked;
  msgpack_unpacked_init(&unpacked);
  size_t offset = 0;
  if (data != NULL &&
      msgpack_unpack_next(&unpacked, data, size, &offset) == MSGPACK_UNPACK_SUCCESS)
    object = forkq__py_object_of(&unpacked.data, reporter->codec);
  msgpack_unpacked_destroy(&unpacked);
  PyErr_Clear();
  return object != NULL ? object : Py_NewRef(Py_None);
}

static void call_hook(PyObject *queue, const struct forkq__py_reporter *reporter,
                      int error, const char *data, size_t size) {
  PyObject *type, *value, *traceback;
  forkq__py_raise(error);
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject *object = read_item(reporter, data, size);
  PyObject *none =
      PyObject_CallMethod(queue, "_on_queue_feeder_error", "OO", value, object);
  if (none == NULL)
    PyErr_WriteUnraisable(queue);
  Py_XDECREF(none);
  Py_DECREF(object);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

/* Feeders that are in a report, or about to enter the interpreter for one. A thread that waits for the GIL
 * while the interpreter ends is ended itself, and its queue would wait for it for ever. */
static atomic_uint reporting;
static atomic_bool ended;

static void report(const struct forkq__py_reporter *reporter, int error, const char *data,
                   size_t size) {
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject *object = PyObject_CallFunctionObjArgs(reporter->object, NULL);
  if (object == NULL)
    PyErr_Clear();
  else if (object != Py_None)
    call_hook(object, reporter, error, data, size);
  Py_XDECREF(object);
  PyGILState_Release(state);
}

void forkq__py_report(forkq_queue_t *Py_UNUSED(queue), int error, const char *data,
                      size_t size, void *arg) {
  atomic_fetch_add(&reporting, 1);
  if (!atomic_load(&ended))
    report(arg, error, data, size);
  atomic_fetch_sub(&reporting, 1);
}

PyObject *forkq__py_reports_end(PyObject *Py_UNUSED(module),
                                PyObject *Py_UNUSED(unused)) {
  const struct timespec moment = { 0, 1000000 };
  atomic_store(&ended, true);
  Py_BEGIN_ALLOW_THREADS
    while (atomic_load(&reporting) > 0)
      (void)nanosleep(&moment, NULL);
  Py_END_ALLOW_THREADS
  Py_RETURN_NONE;
}

void forkq__py_reports_forked(void) {
  atomic_store(&reporting, 0);
}
