/* The module _forkq: what it imports, its exceptions, and what the package forkq gives it. */
#include "python/arguments.h"
#include "python/queue.h"
#include "python/signals.h"

#include <errno.h>

struct forkq__py forkq__py;

PyObject *forkq__py_raise(int error) {
  switch (error) {
  case FORKQ_ESHUTDOWN:
    PyErr_SetString(forkq__py.shut_down, forkq_strerror(error));
    return NULL;
  case FORKQ_ETOODEEP:
  case FORKQ_ETOOBIG:
  case FORKQ_EBADOBJECT:
  case FORKQ_ERANGE:
  case FORKQ_ENOTJOINABLE:
    PyErr_SetString(PyExc_ValueError, forkq_strerror(error));
    return NULL;
  case FORKQ_ETASKDONE:
    PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
    return NULL;
  case -ENOMEM:
    return PyErr_NoMemory();
  default:
    break;
  }
  if (error > FORKQ_EMPTY) { /* forkq's own errors are below */
    errno = -error;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  PyObject *arguments = Py_BuildValue("(is)", error, forkq_strerror(error));
  if (arguments != NULL)
    PyErr_SetObject(forkq__py.error, arguments);
  Py_XDECREF(arguments);
  return NULL;
}

/* ---- what the package gives --------------------------------------------------------------- */

static void keep(PyObject **place, PyObject *object) {
  PyObject *old = *place;
  Py_INCREF(object);
  *place = object;
  Py_XDECREF(old);
}

static PyObject *configure(PyObject *Py_UNUSED(module), PyObject *args, PyObject *names) {
  static char *keywords[] = { "ext", "new_pickler", "first_put", NULL };
  PyObject *ext, *new_pickler, *first_put;
  if (!PyArg_ParseTupleAndKeywords(args, names, "$OOO", keywords, &ext, &new_pickler,
                                   &first_put))
    return NULL;
  keep(&forkq__py.ext, ext);
  keep(&forkq__py.new_pickler, new_pickler);
  keep(&forkq__py.first_put, first_put);
  Py_RETURN_NONE;
}

static PyObject *after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
  forkq__py.generation++;
  forkq__py_signals_forked();
  forkq__py_reports_forked();
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
  { "configure", FORKQ__PY_KEYWORDS(configure), NULL },
  { "after_fork", after_fork, METH_NOARGS, NULL },
  { "end", forkq__py_reports_end, METH_NOARGS, NULL },
  { "join_dropped", forkq__py_handles_join, METH_NOARGS, NULL },
  { NULL, NULL, 0, NULL },
};

/* ---- the import --------------------------------------------------------------------------- */

static int import(PyObject **place, const char *module, const char *name) {
  PyObject *imported = PyImport_ImportModule(module);
  *place = imported == NULL ? NULL : PyObject_GetAttrString(imported, name);
  Py_XDECREF(imported);
  return *place == NULL ? -1 : 0;
}

/* Makes an exception, and adds it to the module. */
static int make(PyObject *module, PyObject **place, const char *name, const char *doc,
                PyObject *base) {
  *place = PyErr_NewExceptionWithDoc(name, doc, base, NULL);
  if (*place == NULL)
    return -1;
  return PyModule_AddObjectRef(module, name + sizeof "forkq." - 1, *place);
}

static int make_exceptions(PyObject *module) {
  struct forkq__py *py = &forkq__py;
  if (import(&py->shut_down, "queue", "ShutDown") == 0) {
    if (PyModule_AddObjectRef(module, "ShutDown", py->shut_down) < 0)
      return -1;
  } else {
    PyErr_Clear();
    if (make(module, &py->shut_down, "forkq.ShutDown", "The queue is shut down.",
             PyExc_Exception) < 0)
      return -1;
  }
  if (make(module, &py->error, "forkq.Error",
           "An error of forkq: errno is its number, strerror its text.",
           PyExc_OSError) < 0)
    return -1;
  if (make(module, &py->abandoned, "forkq.Abandoned",
           "join() ended, but processes ended without finishing their tasks: "
           "`count` of them.",
           py->error) < 0)
    return -1;
  return make(module, &py->codec_error, "forkq.CodecError",
              "An item cannot be read by this end of the queue.", PyExc_ValueError);
}

/* The main thread, on which handlers of signals run, need not be the one that imports. */
static int find_main_thread(void) {
  PyObject *find, *thread = NULL, *ident = NULL;
  if (import(&find, "threading", "main_thread") < 0)
    return -1;
  thread = PyObject_CallFunctionObjArgs(find, NULL);
  if (thread != NULL)
    ident = PyObject_GetAttrString(thread, "ident");
  if (ident != NULL)
    forkq__py_signals_begin(PyLong_AsUnsignedLong(ident));
  Py_DECREF(find);
  Py_XDECREF(thread);
  Py_XDECREF(ident);
  return PyErr_Occurred() ? -1 : 0;
}

static int fill(PyObject *module) {
  struct forkq__py *py = &forkq__py;
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError, "forkq is for the main interpreter only");
    return -1;
  }
  if (py->loads != NULL) {
    PyErr_SetString(PyExc_ImportError, "_forkq can be imported once in a process");
    return -1;
  }
  if (import(&py->empty, "queue", "Empty") < 0 ||
      import(&py->full, "queue", "Full") < 0 ||
      import(&py->loads, "pickle", "loads") < 0 ||
      import(&py->set_wakeup_fd, "signal", "set_wakeup_fd") < 0 ||
      make_exceptions(module) < 0 || find_main_thread() < 0)
    return -1;
  return PyModule_AddStringConstant(module, "__version__", forkq_version()) < 0 ||
                 forkq__py_add_queue(module) < 0 || forkq__py_add_simple_queue(module) < 0
             ? -1
             : 0;
}

static PyModuleDef_Slot slots[] = {
  { Py_mod_exec, (void *)fill },
  { 0, NULL },
};

static struct PyModuleDef definition = {
  PyModuleDef_HEAD_INIT,
  .m_name = "_forkq",
  .m_doc = "The part of forkq that is written in C. Use the package forkq.",
  .m_methods = functions,
  .m_slots = slots,
};

PyMODINIT_FUNC PyInit__forkq(void);
PyMODINIT_FUNC PyInit__forkq(void) {
  return PyModuleDef_Init(&definition);
}
