#include "python/plain.h"

#include <string.h>

/* ---- packing ------------------------------------------------------------------------------ */

/* The packer fails only for want of memory. */
static int packed(int r) {
  if (r < 0)
    PyErr_NoMemory();
  return r < 0 ? -1 : 0;
}

static int fits(Py_ssize_t size) {
  if (size <= (Py_ssize_t)FORKQ_MESSAGE_MAX)
    return 0;
  forkq__py_raise(FORKQ_ETOOBIG);
  return -1;
}

static int pack_int(msgpack_packer *packer, PyObject *object) {
  int overflow;
  long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (value == -1 && PyErr_Occurred())
    return -1;
  if (overflow == 0)
    return packed(msgpack_pack_int64(packer, value));
  unsigned long long large = PyLong_AsUnsignedLongLong(object);
  if (large == ULLONG_MAX && PyErr_Occurred())
    return -1;
  return packed(msgpack_pack_uint64(packer, large));
}

static int pack_float(msgpack_packer *packer, PyObject *object) {
  return packed(msgpack_pack_double(packer, PyFloat_AsDouble(object)));
}

static int pack_str(msgpack_packer *packer, PyObject *object) {
  Py_ssize_t size;
  const char *text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text == NULL || fits(size) < 0)
    return -1;
  return packed(msgpack_pack_str_with_body(packer, text, (size_t)size));
}

/* Any object with a buffer whose bytes lie one after the other. */
static int pack_bytes(msgpack_packer *packer, PyObject *object) {
  Py_buffer view;
  if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0)
    return -1;
  int r = fits(view.len);
  if (r == 0)
    r = packed(msgpack_pack_bin_with_body(packer, view.buf, (size_t)view.len));
  PyBuffer_Release(&view);
  return r;
}

static int pack_ext(msgpack_packer *packer, PyObject *object) {
  int code;
  Py_buffer view;
  if (!PyArg_ParseTuple(object, "iy*;an Ext has a code and bytes", &code, &view))
    return -1;
  int r = fits(view.len);
  if (code < INT8_MIN || code > INT8_MAX) {
    PyErr_Format(PyExc_ValueError, "the code of an Ext is -128 to 127, not %d", code);
    r = -1;
  }
  if (r == 0)
    r = packed(
        msgpack_pack_ext_with_body(packer, view.buf, (size_t)view.len, (int8_t)code));
  PyBuffer_Release(&view);
  return r;
}

static int pack(msgpack_packer *packer, PyObject *object, int depth);

/* A list of itself would never end. */
static int check_depth(int depth) {
  if (depth < FORKQ_DEPTH_MAX)
    return 0;
  forkq__py_raise(FORKQ_ETOODEEP);
  return -1;
}

static int pack_array(msgpack_packer *packer, PyObject *object, int depth) {
  Py_ssize_t size = PySequence_Size(object);
  if (size < 0 || check_depth(depth) < 0 || fits(size) < 0 ||
      packed(msgpack_pack_array(packer, (size_t)size)) < 0)
    return -1;
  for (Py_ssize_t i = 0; i < size; i++) {
    PyObject *element = PySequence_GetItem(object, i);
    int r = element == NULL ? -1 : pack(packer, element, depth + 1);
    Py_XDECREF(element);
    if (r < 0)
      return -1;
  }
  return 0;
}

static int pack_map(msgpack_packer *packer, PyObject *object, int depth) {
  Py_ssize_t size = PyDict_Size(object), place = 0, seen = 0;
  if (check_depth(depth) < 0 || fits(size) < 0 ||
      packed(msgpack_pack_map(packer, (size_t)size)) < 0)
    return -1;
  PyObject *key, *value;
  while (PyDict_Next(object, &place, &key, &value)) {
    Py_INCREF(key);
    Py_INCREF(value);
    int r =
        pack(packer, key, depth + 1) < 0 || pack(packer, value, depth + 1) < 0 ? -1 : 0;
    Py_DECREF(key);
    Py_DECREF(value);
    if (r < 0)
      return -1;
    seen++;
  }
  if (seen == size)
    return 0;
  PyErr_SetString(PyExc_RuntimeError, "a dict changed its size while it was packed");
  return -1;
}

static int pack_other(msgpack_packer *packer, PyObject *object, int depth) {
  int is_ext = PyObject_IsInstance(object, forkq__py.ext);
  if (is_ext < 0)
    return -1;
  if (is_ext)
    return pack_ext(packer, object);
  if (PyList_Check(object) || PyTuple_Check(object))
    return pack_array(packer, object, depth);
  if (PyByteArray_Check(object) || PyMemoryView_Check(object))
    return pack_bytes(packer, object);
  PyErr_Format(PyExc_TypeError, "msgpack does not have an object of %R",
               (PyObject *)Py_TYPE(object));
  return -1;
}

static int pack(msgpack_packer *packer, PyObject *object, int depth) {
  if (object == Py_None)
    return packed(msgpack_pack_nil(packer));
  if (PyBool_Check(object))
    return packed(object == Py_True ? msgpack_pack_true(packer)
                                    : msgpack_pack_false(packer));
  if (PyUnicode_Check(object))
    return pack_str(packer, object);
  if (PyLong_Check(object))
    return pack_int(packer, object);
  if (PyFloat_Check(object))
    return pack_float(packer, object);
  if (PyBytes_Check(object))
    return pack_bytes(packer, object);
  if (PyDict_Check(object))
    return pack_map(packer, object, depth);
  return pack_other(packer, object, depth);
}

int forkq__py_pack(msgpack_packer *packer, PyObject *object) {
  return pack(packer, object, 0);
}

/* ---- unpacking ---------------------------------------------------------------------------- */

static PyObject *unpack_bytes(const char *data, size_t size) {
  if (size < FORKQ__PY_LARGE)
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
  if (bytes == NULL)
    return NULL;
  char *to = PyBytes_AsString(bytes);
  Py_BEGIN_ALLOW_THREADS
    memcpy(to, data, size);
  Py_END_ALLOW_THREADS
  return bytes;
}

/* A key must be one for ever, and a list could change. */
static PyObject *unpack_array(const msgpack_object_array *array, bool is_key) {
  Py_ssize_t size = (Py_ssize_t)array->size;
  PyObject *made = is_key ? PyTuple_New(size) : PyList_New(size);
  for (Py_ssize_t i = 0; made != NULL && i < size; i++) {
    const msgpack_object *element = &array->ptr[i];
    PyObject *value = is_key && element->type == MSGPACK_OBJECT_ARRAY
                          ? unpack_array(&element->via.array, true)
                          : forkq__py_unpack(element);
    if (value == NULL ||
        (is_key ? PyTuple_SetItem(made, i, value) : PyList_SetItem(made, i, value)) < 0)
      Py_CLEAR(made);
  }
  return made;
}

static PyObject *unpack_key(const msgpack_object *key) {
  if (key->type == MSGPACK_OBJECT_ARRAY)
    return unpack_array(&key->via.array, true);
  return forkq__py_unpack(key);
}

static int add_pair(PyObject *dict, const msgpack_object_kv *pair) {
  PyObject *key = unpack_key(&pair->key);
  PyObject *value = key == NULL ? NULL : forkq__py_unpack(&pair->val);
  int r = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
  Py_XDECREF(key);
  Py_XDECREF(value);
  return r;
}

static PyObject *unpack_map(const msgpack_object_map *map) {
  PyObject *dict = PyDict_New();
  for (uint32_t i = 0; dict != NULL && i < map->size; i++)
    if (add_pair(dict, &map->ptr[i]) < 0)
      Py_CLEAR(dict);
  return dict;
}

static PyObject *unpack_ext(const msgpack_object_ext *ext) {
  return PyObject_CallFunction(forkq__py.ext, "iy#", (int)ext->type, ext->ptr,
                               (Py_ssize_t)ext->size);
}

PyObject *forkq__py_unpack(const msgpack_object *object) {
  switch (object->type) {
  case MSGPACK_OBJECT_NIL:
    Py_RETURN_NONE;
  case MSGPACK_OBJECT_BOOLEAN:
    return PyBool_FromLong(object->via.boolean);
  case MSGPACK_OBJECT_POSITIVE_INTEGER:
    return PyLong_FromUnsignedLongLong(object->via.u64);
  case MSGPACK_OBJECT_NEGATIVE_INTEGER:
    return PyLong_FromLongLong(object->via.i64);
  case MSGPACK_OBJECT_FLOAT32:
  case MSGPACK_OBJECT_FLOAT64:
    return PyFloat_FromDouble(object->via.f64);
  case MSGPACK_OBJECT_STR:
    return PyUnicode_FromStringAndSize(object->via.str.ptr,
                                       (Py_ssize_t)object->via.str.size);
  case MSGPACK_OBJECT_BIN:
    return unpack_bytes(object->via.bin.ptr, object->via.bin.size);
  case MSGPACK_OBJECT_ARRAY:
    return unpack_array(&object->via.array, false);
  case MSGPACK_OBJECT_MAP:
    return unpack_map(&object->via.map);
  case MSGPACK_OBJECT_EXT:
    return unpack_ext(&object->via.ext);
  }
  return forkq__py_raise(FORKQ_EBADFRAME);
}
