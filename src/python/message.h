/* An object of Python as what a put of the library takes, and a received item as an object.
 *
 * None, booleans, numbers, strings and bytes are plain msgpack in every queue, so a C program reads them, and
 * bytes are copied once. Any other object is one ext with a pickle; or, in a queue for plain data, msgpack as
 * well. A get reads plain msgpack in every queue. */
#ifndef FORKQ_PYTHON_MESSAGE_H
#define FORKQ_PYTHON_MESSAGE_H

#include "python/pickled.h"

struct forkq__py_message {
  msgpack_object
      object; /* a value whose bytes lie in one place; or, where nothing of this is so, nil */
  PyObject *owner; /* of these bytes */
  bool is_packed;  /* `packed` has it */
  msgpack_sbuffer packed;
  bool is_pickled; /* `pickled` has it, in several parts */
  struct forkq__py_pickled pickled;
};

int forkq__py_message_make(struct forkq__py_message *ret_message, PyObject *object,
                           enum forkq__py_codec codec);
void forkq__py_message_end(struct forkq__py_message *message);

/* The bytes of the message, without its head. */
size_t forkq__py_message_size(const struct forkq__py_message *message);

/* The puts of the library, with its results. They need no GIL. */
int forkq__py_message_put(const struct forkq__py_message *message, forkq_queue_t *queue,
                          int timeout_ms);
int forkq__py_message_put_simple(const struct forkq__py_message *message,
                                 forkq_simple_queue_t *queue);

/* Appends the message to others, as msgpack. Returns -1 with an exception. */
int forkq__py_message_append(const struct forkq__py_message *message,
                             msgpack_packer *packer);

/* The object of an item. A pickle in a queue for plain data is a CodecError. */
PyObject *forkq__py_object_of(const msgpack_object *object, enum forkq__py_codec codec);

#endif
