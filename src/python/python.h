/* What the rooms of the Python module _forkq have in common.
 *
 * The module is a user of the library: it includes public headers only. It uses the stable part of CPython's
 * C API, so that one binary serves each version from 3.11 on. All of its state is the process's, and so it is
 * for the main interpreter only: the import elsewhere is an ImportError. A function that returns -1 or NULL
 * has set an exception. */
#ifndef FORKQ_PYTHON_H
#define FORKQ_PYTHON_H

#ifndef Py_LIMITED_API
#  define Py_LIMITED_API 0x030b0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h> /* first, as it sets what other headers declare */

#include <forkq.h>
#include <stdbool.h>

#ifdef Py_GIL_DISABLED
#  error "the module needs the GIL: its objects have no locks of their own"
#endif

/* A number of bytes from which on the GIL is let go for a copy. */
#define FORKQ__PY_LARGE 65536

/* What an item says that is more than plain msgpack: the type of its ext. A pickle; and a pickle with the
 * buffers that it left out of band. */
#define FORKQ__PY_EXT_PICKLE 0x50
#define FORKQ__PY_EXT_BUFFERS 0x51

/* What a queue carries. One with msgpack carries plain data only; one with pickles any object. */
enum forkq__py_codec { FORKQ__PY_PICKLE, FORKQ__PY_MSGPACK };

/* What the module has imported or was given, and what it has made. */
struct forkq__py {
  PyObject *empty, *full; /* of the module queue */
  PyObject *shut_down;    /* the same, from 3.13 on */
  PyObject *error;        /* forkq.Error, an OSError */
  PyObject *abandoned;    /* forkq.Abandoned, an Error */
  PyObject *codec_error;  /* forkq.CodecError, a ValueError */
  PyObject *ext;          /* forkq.Ext(code, data) */
  PyObject *loads;        /* pickle.loads */
  PyObject *new_pickler;  /* makes the parts of a forkq__py_pickler */
  PyObject *
      first_put; /* called with a queue into which this process puts for the first time */
  PyObject *set_wakeup_fd;  /* of the module signal */
  unsigned long generation; /* one more in each forked child */
};
extern struct forkq__py forkq__py;

/* Sets the exception for an error of the library that has no other meaning to the caller. Returns NULL. */
PyObject *forkq__py_raise(int error);

int forkq__py_add_queue(PyObject *module);
int forkq__py_add_simple_queue(PyObject *module);

#endif
