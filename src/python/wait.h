/* Calls that wait: without the GIL, until a deadline, and until a signal whose handler raises. */
#ifndef FORKQ_PYTHON_WAIT_H
#define FORKQ_PYTHON_WAIT_H

#include "python/python.h"

#define FORKQ__PY_RAISED                                                                 \
  1 /* what forkq__py_wait returns if a handler of a signal raised */

/* When a call gives up. */
struct forkq__py_deadline {
  bool waits;   /* it waits at all */
  bool ends;    /* there is a time */
  int64_t time; /* nanoseconds of the monotonic clock */
};

/* What the arguments `block` and `timeout` of put and get say. NULL stands for the default; a timeout below 0
 * is 0, as in multiprocessing. */
int forkq__py_deadline(struct forkq__py_deadline *ret_deadline, PyObject *block,
                       PyObject *timeout);

/* A call of the library that waits. `run` makes it, without the GIL, and returns its result. `interrupt` ends
 * it from another thread; it has done nothing then, and returns FORKQ_EINTERRUPTED. */
struct forkq__py_call {
  int (*run)(void *arg, int timeout_ms);
  void (*interrupt)(void *target);
  void *arg;
  void *target;
  const bool *closed; /* where an interrupt may mean that the queue was closed */
};

/* Makes the call again and again until it ends otherwise than by an interrupt. Returns its result, or
 * FORKQ__PY_RAISED. */
int forkq__py_wait(const struct forkq__py_call *call,
                   const struct forkq__py_deadline *deadline);

#endif
