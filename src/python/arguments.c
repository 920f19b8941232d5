#include "python/arguments.h"

static Py_ssize_t count_names(const struct forkq__py_signature *signature) {
  Py_ssize_t count = 0;
  while (signature->names[count] != NULL)
    count++;
  return count;
}

static int set_named(const struct forkq__py_signature *signature, PyObject **values,
                     PyObject *name, PyObject *value) {
  for (Py_ssize_t i = 0; signature->names[i] != NULL; i++) {
    if (PyUnicode_CompareWithASCIIString(name, signature->names[i]) != 0)
      continue;
    if (values[i] == NULL) {
      values[i] = value;
      return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                 signature->method, signature->names[i]);
    return -1;
  }
  PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
               signature->method, name);
  return -1;
}

static int check_needed(const struct forkq__py_signature *signature,
                        PyObject *const *values) {
  for (Py_ssize_t i = 0; i < signature->needed; i++)
    if (values[i] == NULL) {
      PyErr_Format(PyExc_TypeError, "%s() missing a required argument: '%s'",
                   signature->method, signature->names[i]);
      return -1;
    }
  return 0;
}

int forkq__py_arguments(const struct forkq__py_signature *signature, PyObject **values,
                        PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
  Py_ssize_t most = count_names(signature);
  if (count > most) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, and got %zd",
                 signature->method, most, count);
    return -1;
  }
  for (Py_ssize_t i = 0; i < most; i++)
    values[i] = i < count ? args[i] : NULL;
  Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords);
  for (Py_ssize_t i = 0; i < named; i++)
    if (set_named(signature, values, PyTuple_GetItem(keywords, i), args[count + i]) < 0)
      return -1;
  return check_needed(signature, values);
}
