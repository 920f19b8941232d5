/* The arguments of methods that are called often. */
#ifndef FORKQ_PYTHON_ARGUMENTS_H
#define FORKQ_PYTHON_ARGUMENTS_H

#include "python/python.h"

/* What a method takes: the names of its arguments, up to NULL, and how many must be there. */
struct forkq__py_signature {
  const char *method;
  const char *const *names;
  Py_ssize_t needed;
};

/* Puts the arguments of a METH_FASTCALL | METH_KEYWORDS method into `values`, which has NULL for those that
 * are not there. They are borrowed. */
int forkq__py_arguments(const struct forkq__py_signature *signature, PyObject **values,
                        PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* How a method of this kind is written down. */
#define FORKQ__PY_FAST(function_)                                                        \
  (PyCFunction)(void (*)(void))(function_), METH_FASTCALL | METH_KEYWORDS
#define FORKQ__PY_KEYWORDS(function_)                                                    \
  (PyCFunction)(void (*)(void))(function_), METH_VARARGS | METH_KEYWORDS

#endif
