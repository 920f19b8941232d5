#include "python/pickled.h"

#include <string.h>

/* In bytes of an ext with buffers: their number, for each a word with its size and whether it is for reading
 * only, the buffers, the pickle. Numbers are of this machine, as the queue is. */
#define WORD sizeof(uint64_t)
#define READ_ONLY ((uint64_t)1 << 63)

/* A pickler is used again: to make one takes longer than to pickle a small object. It writes to two lists:
 * pieces of the pickle, and buffers. A large object leaves it with a large memo, and then it goes. */
#define SPARE_MAX 4
#define SPARE_PICKLE_MAX 65536

struct pickler {
  PyObject *dump, *clear_memo;
  PyObject *chunks, *buffers;
};

/* Picklers that nobody uses. An object may pickle others while it is pickled, and so may other threads. */
static struct pickler spare[SPARE_MAX];
static size_t spare_count;

static void pickler_free(struct pickler *pickler) {
  Py_CLEAR(pickler->dump);
  Py_CLEAR(pickler->clear_memo);
  Py_CLEAR(pickler->chunks);
  Py_CLEAR(pickler->buffers);
}

static int pickler_make(struct pickler *ret_pickler) {
  PyObject *parts = PyObject_CallFunctionObjArgs(forkq__py.new_pickler, NULL);
  if (parts == NULL)
    return -1;
  struct pickler made = { NULL, NULL, NULL, NULL };
  int ok = PyArg_ParseTuple(parts, "OOO!O!", &made.dump, &made.clear_memo, &PyList_Type,
                            &made.chunks, &PyList_Type, &made.buffers);
  if (ok) {
    *ret_pickler = made;
    Py_INCREF(made.dump);
    Py_INCREF(made.clear_memo);
    Py_INCREF(made.chunks);
    Py_INCREF(made.buffers);
  }
  Py_DECREF(parts);
  return ok ? 0 : -1;
}

static int pickler_take(struct pickler *ret_pickler) {
  if (spare_count == 0)
    return pickler_make(ret_pickler);
  *ret_pickler = spare[--spare_count];
  return 0;
}

static int empty(PyObject *list) {
  return PyList_SetSlice(list, 0, PyList_Size(list), NULL);
}

static int make_clean(const struct pickler *pickler) {
  PyObject *none = PyObject_CallFunctionObjArgs(pickler->clear_memo, NULL);
  if (none == NULL)
    return -1;
  Py_DECREF(none);
  return empty(pickler->chunks) < 0 || empty(pickler->buffers) < 0 ? -1 : 0;
}

static int pickler_give_back(struct pickler *pickler, size_t size) {
  if (size > SPARE_PICKLE_MAX) {
    pickler_free(pickler);
    return 0;
  }
  int r = make_clean(pickler);
  if (r < 0 || spare_count == SPARE_MAX)
    pickler_free(pickler);
  else
    spare[spare_count++] = *pickler;
  return r;
}

/* ---- the way there ------------------------------------------------------------------------ */

static int add_view(struct forkq__py_pickled *pickled, PyObject *object) {
  Py_buffer *view = &pickled->views[pickled->count];
  if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
    return -1;
  pickled->count++;
  pickled->size += (size_t)view->len;
  return 0;
}

/* A buffer of several dimensions, whose bytes lie in any order but without gaps, as plain bytes. */
static int add_raw(struct forkq__py_pickled *pickled, PyObject *buffer) {
  PyObject *raw = PyObject_CallMethod(buffer, "raw", NULL);
  if (raw == NULL)
    return -1;
  int r = add_view(pickled, raw);
  Py_DECREF(raw);
  return r;
}

static int make_head(struct forkq__py_pickled *pickled) {
  uint64_t count = pickled->count;
  pickled->head_size = (1 + count) * WORD;
  pickled->head = PyMem_Malloc(pickled->head_size);
  if (pickled->head == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  memcpy(pickled->head, &count, WORD);
  for (size_t i = 0; i < count; i++) {
    const Py_buffer *view = &pickled->views[i];
    uint64_t word = (uint64_t)view->len | (view->readonly ? READ_ONLY : 0);
    memcpy(pickled->head + (1 + i) * WORD, &word, WORD);
  }
  pickled->size += pickled->head_size;
  return 0;
}

static int add_buffers(struct forkq__py_pickled *pickled, PyObject *buffers) {
  Py_ssize_t count = PyList_Size(buffers);
  for (Py_ssize_t i = 0; i < count; i++)
    if (add_raw(pickled, PyList_GetItem(buffers, i)) < 0)
      return -1;
  pickled->has_buffers = count > 0;
  return count > 0 ? make_head(pickled) : 0;
}

static int collect(struct forkq__py_pickled *pickled, const struct pickler *pickler) {
  Py_ssize_t chunks = PyList_Size(pickler->chunks);
  size_t most = (size_t)(chunks + PyList_Size(pickler->buffers));
  pickled->views = PyMem_Calloc(most, sizeof *pickled->views);
  if (pickled->views == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  if (add_buffers(pickled, pickler->buffers) < 0)
    return -1;
  for (Py_ssize_t i = 0; i < chunks; i++)
    if (add_view(pickled, PyList_GetItem(pickler->chunks, i)) < 0)
      return -1;
  return 0;
}

static int dump(const struct pickler *pickler, PyObject *object) {
  PyObject *none = PyObject_CallFunctionObjArgs(pickler->dump, object, NULL);
  if (none == NULL)
    return -1;
  Py_DECREF(none);
  return 0;
}

int forkq__py_pickle(struct forkq__py_pickled *ret_pickled, PyObject *object) {
  struct pickler pickler;
  *ret_pickled = (struct forkq__py_pickled){ 0 };
  if (pickler_take(&pickler) < 0)
    return -1;
  if (dump(&pickler, object) == 0 && collect(ret_pickled, &pickler) == 0 &&
      pickler_give_back(&pickler, ret_pickled->size) == 0)
    return 0;
  pickler_free(&pickler); /* of one that was given back nothing is left here */
  forkq__py_pickled_end(ret_pickled);
  return -1;
}

void forkq__py_pickled_end(struct forkq__py_pickled *pickled) {
  for (size_t i = 0; i < pickled->count; i++)
    PyBuffer_Release(&pickled->views[i]);
  PyMem_Free(pickled->views);
  PyMem_Free(pickled->head);
  *pickled = (struct forkq__py_pickled){ 0 };
}

/* ---- the way back ------------------------------------------------------------------------- */

/* `view` is a view of memory that others will use again: nothing may be left that refers to it. */
static int release(PyObject *view) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyObject *none = PyObject_CallMethod(view, "release", NULL);
  if (none == NULL && type == NULL)
    return -1;
  Py_XDECREF(none);
  PyErr_Clear();
  PyErr_Restore(type, value, traceback);
  return 0;
}

/* PyMemoryView_FromMemory takes char *, and promises to read only. */
static char *readable(const char *data) {
  union {
    const char *in;
    char *out;
  } pointer = { .in = data };
  return pointer.out;
}

/* `buffers` may be NULL. */
static PyObject *load(PyObject *bytes, PyObject *buffers) {
  if (buffers == NULL)
    return PyObject_CallFunctionObjArgs(forkq__py.loads, bytes, NULL);
  PyObject *arguments = PyTuple_Pack(1, bytes);
  PyObject *names = Py_BuildValue("{sO}", "buffers", buffers);
  PyObject *object = arguments != NULL && names != NULL
                         ? PyObject_Call(forkq__py.loads, arguments, names)
                         : NULL;
  Py_XDECREF(arguments);
  Py_XDECREF(names);
  return object;
}

static PyObject *unpickle(const char *data, size_t size, PyObject *buffers) {
  PyObject *view = PyMemoryView_FromMemory(readable(data), (Py_ssize_t)size, PyBUF_READ);
  if (view == NULL)
    return NULL;
  PyObject *object = load(view, buffers);
  if (release(view) < 0)
    Py_CLEAR(object);
  Py_DECREF(view);
  return object;
}

PyObject *forkq__py_unpickle(const char *data, size_t size) {
  return unpickle(data, size, NULL);
}

static void copy(char *to, const char *from, size_t size) {
  if (size < FORKQ__PY_LARGE) {
    memcpy(to, from, size);
    return;
  }
  Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, size);
  Py_END_ALLOW_THREADS
}

/* A buffer of the receiver's own: bytes, or what can be written to if the sender's could. */
static PyObject *copy_buffer(const char *data, size_t size, bool read_only) {
  PyObject *buffer = read_only ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                               : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
  if (buffer != NULL)
    copy(read_only ? PyBytes_AsString(buffer) : PyByteArray_AsString(buffer), data, size);
  return buffer;
}

static uint64_t word_at(const char *data, size_t index) {
  uint64_t word;
  memcpy(&word, data + index * WORD, WORD);
  return word;
}

static PyObject *bad_buffers(void) {
  PyErr_SetString(forkq__py.codec_error, "the item is not a pickle with buffers");
  return NULL;
}

/* *used is how many bytes of the item come before the pickle. */
static PyObject *read_buffers(const char *data, size_t size, size_t *used) {
  uint64_t count = size < WORD ? UINT64_MAX : word_at(data, 0);
  if (count >= size / WORD)
    return bad_buffers();
  size_t begin = (1 + (size_t)count) * WORD;
  PyObject *buffers = PyList_New((Py_ssize_t)count);
  for (size_t i = 0; buffers != NULL && i < count; i++) {
    uint64_t word = word_at(data, 1 + i), length = word & ~READ_ONLY;
    PyObject *buffer = length > size - begin
                           ? bad_buffers()
                           : copy_buffer(data + begin, (size_t)length, word & READ_ONLY);
    if (buffer == NULL || PyList_SetItem(buffers, (Py_ssize_t)i, buffer) < 0)
      Py_CLEAR(buffers);
    else
      begin += (size_t)length;
  }
  *used = begin;
  return buffers;
}

PyObject *forkq__py_unpickle_buffers(const char *data, size_t size) {
  size_t used = 0;
  PyObject *buffers = read_buffers(data, size, &used);
  if (buffers == NULL)
    return NULL;
  PyObject *object = unpickle(data + used, size - used, buffers);
  Py_DECREF(buffers);
  return object;
}
