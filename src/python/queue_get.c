/* The gets of a queue. */
#include "python/arguments.h"
#include "python/queue.h"

#define KEPT_MAX 65536 /* bytes of memory that an item keeps for the next get */

struct get {
  struct forkq__py_queue *self;
  forkq_item_t *item;
};

static int run_get(void *arg, int timeout_ms) {
  const struct get *get = arg;
  return forkq_queue_get_borrowed(get->self->handle.queue, get->item, timeout_ms);
}

static PyObject *raise_empty(struct forkq__py_queue *self, int r) {
  if (r == FORKQ_EMPTY || r == FORKQ_TIMEDOUT) {
    PyErr_SetNone(forkq__py.empty);
    return NULL;
  }
  return forkq__py_handle_raise(&self->handle, r);
}

void forkq__py_items_free(forkq_item_t *items, size_t count) {
  for (size_t i = 0; items != NULL && i < count; i++)
    forkq_item_destroy(&items[i]);
  PyMem_Free(items);
}

/* Takes those that are kept at `place`, unless a get of another thread has them: then it makes some. */
static forkq_item_t *take_items(forkq_item_t **place, size_t count) {
  forkq_item_t *items = *place;
  *place = NULL;
  if (items == NULL)
    items = PyMem_Calloc(count, sizeof *items); /* each is FORKQ_ITEM_INIT */
  if (items == NULL)
    PyErr_NoMemory();
  return items;
}

static void give_items_back(forkq_item_t **place, forkq_item_t *items, size_t count) {
  if (*place == NULL)
    *place = items;
  else
    forkq__py_items_free(items, count);
}

/* Bytes that are borrowed go back to their producer now. */
static void clear_item(forkq_item_t *item) {
  if (forkq_item_is_borrowed(item) == 1 || item->size > KEPT_MAX)
    forkq_item_destroy(item);
}

static PyObject *get_object(struct forkq__py_queue *self,
                            const struct forkq__py_deadline *deadline) {
  if (forkq__py_handle_enter(&self->handle) < 0)
    return NULL;
  PyObject *object = NULL;
  struct get get = { self, take_items(&self->item, 1) };
  if (get.item != NULL) {
    int r = run_get(&get, 0);
    if (r == FORKQ_EMPTY && deadline->waits)
      r = forkq__py_handle_wait(&self->handle, deadline, true, run_get, &get);
    object = r == 0 ? forkq__py_object_of(&get.item->object, self->codec)
                    : raise_empty(self, r);
    clear_item(get.item);
    give_items_back(&self->item, get.item, 1);
  }
  forkq__py_handle_leave(&self->handle);
  return object;
}

PyObject *forkq__py_queue_get(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
  static const char *const names[] = { "block", "timeout", NULL };
  static const struct forkq__py_signature signature = { "get", names, 0 };
  PyObject *values[2];
  struct forkq__py_deadline deadline;
  if (forkq__py_arguments(&signature, values, args, count, keywords) < 0 ||
      forkq__py_deadline(&deadline, values[0], values[1]) < 0)
    return NULL;
  return get_object((struct forkq__py_queue *)self, &deadline);
}

PyObject *forkq__py_queue_get_nowait(PyObject *self, PyObject *Py_UNUSED(unused)) {
  const struct forkq__py_deadline deadline = { .waits = false };
  return get_object((struct forkq__py_queue *)self, &deadline);
}

/* Also after a close. */
PyObject *forkq__py_queue_get_lost(PyObject *object, PyObject *Py_UNUSED(unused)) {
  struct forkq__py_queue *self = (struct forkq__py_queue *)object;
  forkq_item_t item = FORKQ_ITEM_INIT;
  if (forkq__py_handle_is_made(&self->handle) < 0)
    return NULL;
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = forkq_queue_get_lost(self->handle.queue, &item);
  Py_END_ALLOW_THREADS
  PyObject *lost =
      r == 0 ? forkq__py_object_of(&item.object, self->codec) : raise_empty(self, r);
  forkq_item_destroy(&item);
  return lost;
}

/* ---- batches ------------------------------------------------------------------------------ */

struct batch {
  struct forkq__py_queue *self;
  forkq_item_t *items;
  size_t count; /* of items, for one call */
  size_t got;
  PyObject *objects;
  PyObject *error; /* of the first item that could not be read */
};

static int run_batch(void *arg, int timeout_ms) {
  struct batch *batch = arg;
  batch->got = 0;
  return forkq_queue_get_many_borrowed(batch->self->handle.queue, batch->items,
                                       batch->count, timeout_ms, &batch->got);
}

static void note_error(struct batch *batch) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (batch->error == NULL && value != NULL) {
    batch->error = value;
    Py_INCREF(value);
  }
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

/* All of them were taken: one that cannot be read does not keep the others from being told. */
static void add_objects(struct batch *batch) {
  for (size_t i = 0; i < batch->got; i++) {
    PyObject *object = forkq__py_object_of(&batch->items[i].object, batch->self->codec);
    if (object == NULL || PyList_Append(batch->objects, object) < 0)
      note_error(batch);
    Py_XDECREF(object);
    clear_item(&batch->items[i]);
  }
}

static int get_some(struct batch *batch, const struct forkq__py_deadline *deadline) {
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = run_batch(batch, 0);
  Py_END_ALLOW_THREADS
  if (r == FORKQ_EMPTY && deadline->waits)
    r = forkq__py_handle_wait(&batch->self->handle, deadline, true, run_batch, batch);
  add_objects(batch);
  return r;
}

/* Waits for the first one only. What the calls after it meet, the next get meets again. */
static int get_all(struct batch *batch, size_t wanted,
                   const struct forkq__py_deadline *deadline) {
  const struct forkq__py_deadline none = { .waits = false };
  size_t most = batch->count;
  int r = get_some(batch, deadline);
  for (size_t left = wanted - batch->got; r == 0 && left > 0; left -= batch->got) {
    batch->count = left < most ? left : most;
    if (get_some(batch, &none) != 0)
      break;
  }
  return r;
}

static PyObject *objects_of(struct batch *batch, int r) {
  if (batch->error != NULL) {
    PyObject_SetAttrString(batch->error, "items", batch->objects);
    PyErr_Clear();
    PyErr_SetObject((PyObject *)Py_TYPE(batch->error), batch->error);
    return NULL;
  }
  if (r != 0)
    return raise_empty(batch->self, r);
  Py_INCREF(batch->objects);
  return batch->objects;
}

static PyObject *get_batch(struct batch *batch, size_t wanted,
                           const struct forkq__py_deadline *deadline) {
  struct forkq__py_queue *self = batch->self;
  PyObject *result = NULL;
  batch->count = wanted < FORKQ__PY_BATCH_MAX ? wanted : FORKQ__PY_BATCH_MAX;
  batch->objects = PyList_New(0);
  batch->items = take_items(&self->items, FORKQ__PY_BATCH_MAX);
  if (batch->objects != NULL && batch->items != NULL &&
      forkq__py_handle_enter(&self->handle) == 0) {
    int r = get_all(batch, wanted, deadline);
    forkq__py_handle_leave(&self->handle);
    result = objects_of(batch, r);
  }
  if (batch->items != NULL)
    give_items_back(&self->items, batch->items, FORKQ__PY_BATCH_MAX);
  Py_XDECREF(batch->objects);
  Py_XDECREF(batch->error);
  return result;
}

PyObject *forkq__py_queue_get_many(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count, PyObject *keywords) {
  static const char *const names[] = { "count", "block", "timeout", NULL };
  static const struct forkq__py_signature signature = { "get_many", names, 1 };
  PyObject *values[3];
  struct forkq__py_deadline deadline;
  struct batch batch = { .self = (struct forkq__py_queue *)self };
  if (forkq__py_arguments(&signature, values, args, count, keywords) < 0 ||
      forkq__py_deadline(&deadline, values[1], values[2]) < 0)
    return NULL;
  Py_ssize_t wanted = PyNumber_AsSsize_t(values[0], PyExc_OverflowError);
  if (wanted == -1 && PyErr_Occurred())
    return NULL;
  if (wanted < 1) {
    PyErr_SetString(PyExc_ValueError, "count is less than 1");
    return NULL;
  }
  return get_batch(&batch, (size_t)wanted, &deadline);
}
