#include "python/wait.h"

#include "python/signals.h"

#include <limits.h>
#include <math.h>
#include <time.h>

#define NS_PER_S 1000000000
#define NS_PER_MS 1000000

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * NS_PER_S + time.tv_nsec;
}

static int read_timeout(struct forkq__py_deadline *deadline, PyObject *timeout) {
  double seconds = PyFloat_AsDouble(timeout);
  if (seconds == -1.0 && PyErr_Occurred())
    return -1;
  if (isnan(seconds)) {
    PyErr_SetString(PyExc_ValueError, "timeout is not a number");
    return -1;
  }
  const double longest = 1e9; /* 30 years are for ever */
  deadline->waits = seconds > 0;
  deadline->ends = seconds < longest;
  if (deadline->waits && deadline->ends)
    deadline->time = now() + (int64_t)(seconds * NS_PER_S);
  return 0;
}

int forkq__py_deadline(struct forkq__py_deadline *ret_deadline, PyObject *block,
                       PyObject *timeout) {
  int waits = block == NULL ? 1 : PyObject_IsTrue(block);
  if (waits < 0)
    return -1;
  *ret_deadline = (struct forkq__py_deadline){ .waits = waits != 0 };
  if (!waits || timeout == NULL || timeout == Py_None)
    return 0;
  return read_timeout(ret_deadline, timeout);
}

/* Never less than what is left, so that no call ends before its time. */
static int remaining_ms(const struct forkq__py_deadline *deadline) {
  if (!deadline->waits)
    return 0;
  if (!deadline->ends)
    return -1;
  int64_t left = deadline->time - now();
  if (left <= 0)
    return 0;
  int64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
  return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Whether the call has ended by itself, and not in the middle of a time that is longer than an int. */
static bool is_over(int r, const struct forkq__py_deadline *deadline) {
  if (r == FORKQ_TIMEDOUT)
    return remaining_ms(deadline) == 0;
  return r != FORKQ_EINTERRUPTED;
}

static int run_without_gil(const struct forkq__py_call *call,
                           const struct forkq__py_deadline *deadline) {
  int r;
  Py_BEGIN_ALLOW_THREADS
    r = call->run(call->arg, remaining_ms(deadline));
  Py_END_ALLOW_THREADS
  return r;
}

int forkq__py_wait(const struct forkq__py_call *call,
                   const struct forkq__py_deadline *deadline) {
  for (;;) {
    if (forkq__py_signals_watch(call->interrupt, call->target) < 0)
      return FORKQ__PY_RAISED;
    /* A signal that came before is looked for after the watch has begun: none is missed in between. */
    bool raised = PyErr_CheckSignals() < 0;
    if (!raised && forkq__py_signals_ended())
      continue;
    int r = raised ? FORKQ__PY_RAISED : run_without_gil(call, deadline);
    forkq__py_signals_leave();
    if (raised || is_over(r, deadline))
      return r;
    if (PyErr_CheckSignals() < 0)
      return FORKQ__PY_RAISED;
    if (call->closed != NULL && *call->closed)
      return FORKQ_ECLOSED;
  }
}
