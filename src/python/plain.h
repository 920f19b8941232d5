/* Plain data as msgpack, and back. */
#ifndef FORKQ_PYTHON_PLAIN_H
#define FORKQ_PYTHON_PLAIN_H

#include "python/python.h"

/* Packs None, booleans, numbers, strings, bytes, lists, tuples, dicts and forkq.Ext. A class derived from one
 * of them counts as this one. Anything else is a TypeError. */
int forkq__py_pack(msgpack_packer *packer, PyObject *object);

/* The object of Python. Its bytes are copied. An array as a key of a map is a tuple, else a list. */
PyObject *forkq__py_unpack(const msgpack_object *object);

#endif
