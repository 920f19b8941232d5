#include "python/message.h"

#include "python/plain.h"

/* ---- making ------------------------------------------------------------------------------- */

static int check_size(size_t size) {
  if (size <= FORKQ_MESSAGE_MAX)
    return 0;
  forkq__py_raise(FORKQ_ETOOBIG);
  return -1;
}

/* Returns 1, or 0 if msgpack does not have so large a number. */
static int make_int(msgpack_object *made, PyObject *object) {
  int overflow;
  long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow != 0)
    return 0;
  made->type =
      value < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
  made->via.i64 = value;
  return 1;
}

/* Returns 1, or 0 for a string that is not Unicode, as it has a half of a pair. */
static int make_str(msgpack_object *made, PyObject *object) {
  Py_ssize_t size;
  const char *text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError))
    return -1;
  PyErr_Clear();
  if (text == NULL)
    return 0;
  made->type = MSGPACK_OBJECT_STR;
  made->via.str.ptr = text;
  made->via.str.size = (uint32_t)size;
  return check_size((size_t)size) < 0 ? -1 : 1;
}

static int make_bytes(msgpack_object *made, PyObject *object) {
  char *bytes;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(object, &bytes, &size) < 0 || check_size((size_t)size) < 0)
    return -1;
  made->type = MSGPACK_OBJECT_BIN;
  made->via.bin.ptr = bytes;
  made->via.bin.size = (uint32_t)size;
  return 1;
}

/* Objects of exactly these types come back as what they were. Returns 1, 0 if it is another, or -1. */
static int make_plain(msgpack_object *made, PyObject *object) {
  *made = (msgpack_object){ .type = MSGPACK_OBJECT_NIL };
  if (object == Py_None)
    return 1;
  if (PyBytes_CheckExact(object))
    return make_bytes(made, object);
  if (PyUnicode_CheckExact(object))
    return make_str(made, object);
  if (PyLong_CheckExact(object))
    return make_int(made, object);
  if (PyFloat_CheckExact(object)) {
    made->type = MSGPACK_OBJECT_FLOAT64;
    made->via.f64 = PyFloat_AsDouble(object);
    return 1;
  }
  if (!PyBool_Check(object))
    return 0;
  made->type = MSGPACK_OBJECT_BOOLEAN;
  made->via.boolean = object == Py_True;
  return 1;
}

static int make_packed(struct forkq__py_message *message, PyObject *object) {
  msgpack_packer packer;
  msgpack_sbuffer_init(&message->packed);
  message->is_packed = true;
  msgpack_packer_init(&packer, &message->packed, msgpack_sbuffer_write);
  return forkq__py_pack(&packer, object);
}

/* A pickle in one piece is a value with its bytes in one place. */
static int make_pickled(struct forkq__py_message *message, PyObject *object) {
  struct forkq__py_pickled *pickled = &message->pickled;
  message->is_pickled = true;
  if (forkq__py_pickle(pickled, object) < 0 || check_size(pickled->size) < 0)
    return -1;
  if (pickled->count != 1 || pickled->has_buffers)
    return 0;
  message->object.type = MSGPACK_OBJECT_EXT;
  message->object.via.ext.type = FORKQ__PY_EXT_PICKLE;
  message->object.via.ext.ptr = pickled->views[0].buf;
  message->object.via.ext.size = (uint32_t)pickled->size;
  return 0;
}

static int make(struct forkq__py_message *message, PyObject *object,
                enum forkq__py_codec codec) {
  int r = make_plain(&message->object, object);
  if (r != 0)
    return r;
  return codec == FORKQ__PY_MSGPACK ? make_packed(message, object)
                                    : make_pickled(message, object);
}

int forkq__py_message_make(struct forkq__py_message *ret_message, PyObject *object,
                           enum forkq__py_codec codec) {
  *ret_message = (struct forkq__py_message){ .owner = object };
  Py_INCREF(object);
  int r = make(ret_message, object, codec);
  if (r < 0)
    forkq__py_message_end(ret_message);
  return r < 0 ? -1 : 0;
}

void forkq__py_message_end(struct forkq__py_message *message) {
  Py_DECREF(message->owner);
  if (message->is_packed)
    msgpack_sbuffer_destroy(&message->packed);
  if (message->is_pickled)
    forkq__py_pickled_end(&message->pickled);
}

size_t forkq__py_message_size(const struct forkq__py_message *message) {
  if (message->is_packed)
    return message->packed.size;
  if (message->is_pickled)
    return message->pickled.size;
  if (message->object.type == MSGPACK_OBJECT_BIN)
    return message->object.via.bin.size;
  return message->object.type == MSGPACK_OBJECT_STR ? message->object.via.str.size : 0;
}

/* ---- putting ------------------------------------------------------------------------------ */

/* From where the parts lie straight to where the library packs. */
static int pack_parts(msgpack_packer *packer, void *arg) {
  const struct forkq__py_pickled *pickled = arg;
  int8_t type = pickled->has_buffers ? FORKQ__PY_EXT_BUFFERS : FORKQ__PY_EXT_PICKLE;
  int r = msgpack_pack_ext(packer, pickled->size, type);
  if (r == 0 && pickled->head_size > 0)
    r = msgpack_pack_ext_body(packer, pickled->head, pickled->head_size);
  for (size_t i = 0; r == 0 && i < pickled->count; i++)
    if (pickled->views[i].len > 0)
      r = msgpack_pack_ext_body(packer, pickled->views[i].buf,
                                (size_t)pickled->views[i].len);
  return r;
}

static bool is_in_parts(const struct forkq__py_message *message) {
  return message->is_pickled && message->object.type == MSGPACK_OBJECT_NIL;
}

/* A packing function's argument is not const. */
static void *parts_of(const struct forkq__py_message *message) {
  union {
    const struct forkq__py_pickled *in;
    void *out;
  } pointer = { .in = &message->pickled };
  return pointer.out;
}

int forkq__py_message_put(const struct forkq__py_message *message, forkq_queue_t *queue,
                          int timeout_ms) {
  if (message->is_packed)
    return forkq_queue_put_packed(queue, message->packed.data, message->packed.size,
                                  timeout_ms);
  if (is_in_parts(message))
    return forkq_queue_put_with(queue, pack_parts, parts_of(message), timeout_ms);
  return forkq_queue_put(queue, &message->object, timeout_ms);
}

int forkq__py_message_put_simple(const struct forkq__py_message *message,
                                 forkq_simple_queue_t *queue) {
  if (message->is_packed)
    return forkq_simple_queue_put_packed(queue, message->packed.data,
                                         message->packed.size);
  if (is_in_parts(message))
    return forkq_simple_queue_put_with(queue, pack_parts, parts_of(message));
  return forkq_simple_queue_put(queue, &message->object);
}

int forkq__py_message_append(const struct forkq__py_message *message,
                             msgpack_packer *packer) {
  int r;
  if (message->is_packed)
    r = packer->callback(packer->data, message->packed.data, message->packed.size);
  else if (is_in_parts(message))
    r = pack_parts(packer, parts_of(message));
  else
    r = msgpack_pack_object(packer, message->object);
  if (r == 0)
    return 0;
  PyErr_NoMemory();
  return -1;
}

/* ---- getting ------------------------------------------------------------------------------ */

static bool is_pickle(const msgpack_object *object) {
  return object->type == MSGPACK_OBJECT_EXT &&
         (object->via.ext.type == FORKQ__PY_EXT_PICKLE ||
          object->via.ext.type == FORKQ__PY_EXT_BUFFERS);
}

PyObject *forkq__py_object_of(const msgpack_object *object, enum forkq__py_codec codec) {
  if (!is_pickle(object))
    return forkq__py_unpack(object);
  if (codec == FORKQ__PY_MSGPACK) {
    PyErr_SetString(
        forkq__py.codec_error,
        "the item is a pickle, and this end of the queue has codec='msgpack'");
    return NULL;
  }
  const msgpack_object_ext *ext = &object->via.ext;
  return ext->type == FORKQ__PY_EXT_BUFFERS
             ? forkq__py_unpickle_buffers(ext->ptr, ext->size)
             : forkq__py_unpickle(ext->ptr, ext->size);
}
