#include "python/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define STACK_SIZE 65536
#define FAILED (-2) /* no descriptor, and not none either */

/* The main thread writes it, and the thread that reads the pipe reads it, with the mutex. */
static struct {
  pthread_mutex_t mutex;
  unsigned long main_thread;
  bool running; /* there is a thread that reads the pipe */
  bool watches; /* CPython writes signals to the pipe */
  int pipe[2];
  ino_t
      ino; /* of the pipe: a program may close what it does not know, and open a file in its place */
  int old_fd; /* what was set before */
  void (*interrupt)(void *target);
  void *target;
} watch = { .mutex = PTHREAD_MUTEX_INITIALIZER, .pipe = { -1, -1 }, .old_fd = -1 };

static void pass_on(const char *bytes, ssize_t size) {
  pthread_mutex_lock(&watch.mutex);
  if (watch.old_fd >= 0 && write(watch.old_fd, bytes, (size_t)size) < 0)
    errno = 0; /* full, or closed: who set it misses it, as it would have without us */
  if (watch.interrupt != NULL)
    watch.interrupt(watch.target);
  pthread_mutex_unlock(&watch.mutex);
}

/* Ends with the process. */
static void *read_signals(void *arg) {
  int fd = *(const int *)arg;
  char bytes[64];
  for (;;) {
    ssize_t size = read(fd, bytes, sizeof bytes);
    if (size > 0)
      pass_on(bytes, size);
    else if (size == 0 || errno != EINTR)
      return NULL; /* the program has closed what it does not know */
  }
}

static int start_thread(void) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  int error = pthread_create(&thread, &attributes, read_signals, watch.pipe);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

/* The end to which CPython writes must not block: it is written to in the handler. */
static int make_pipe(void) {
  struct stat status;
  if (pipe2(watch.pipe, O_CLOEXEC) < 0 || fstat(watch.pipe[1], &status) < 0 ||
      fcntl(watch.pipe[1], F_SETFL, O_NONBLOCK | O_WRONLY) < 0)
    return errno;
  watch.ino = status.st_ino;
  return 0;
}

static bool is_ours(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) &&
         status.st_ino == watch.ino;
}

static void close_pipe(void) {
  for (int i = 0; i < 2; i++)
    if (is_ours(watch.pipe[i]))
      close(watch.pipe[i]);
}

static int start(void) {
  int error = make_pipe();
  if (error == 0) {
    error = start_thread();
    if (error != 0)
      close_pipe();
  }
  if (error != 0) {
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
  }
  watch.running = true;
  return 0;
}

/* Returns the descriptor that was set before, which may be -1, or FAILED. */
static int set_wakeup_fd(int fd) {
  PyObject *number = PyLong_FromLong(fd);
  PyObject *result =
      number == NULL
          ? NULL
          : PyObject_CallFunctionObjArgs(forkq__py.set_wakeup_fd, number, NULL);
  Py_XDECREF(number);
  if (result == NULL)
    return FAILED;
  long old = PyLong_AsLong(result);
  Py_DECREF(result);
  return (int)old;
}

int forkq__py_signals_watch(void (*interrupt)(void *target), void *target) {
  if (PyThread_get_thread_ident() != watch.main_thread)
    return 0;
  if (!(watch.running && is_ours(watch.pipe[1])) && start() < 0)
    return -1;
  pthread_mutex_lock(&watch.mutex); /* whatever is read now is passed on after this */
  int old = set_wakeup_fd(watch.pipe[1]);
  if (old != FAILED) {
    if (old != watch.pipe[1]) /* else this is a handler, in the middle of a wait */
      watch.old_fd = old;
    watch.interrupt = interrupt;
    watch.target = target;
    watch.watches = true;
  }
  pthread_mutex_unlock(&watch.mutex);
  return old == FAILED ? -1 : 0;
}

/* A descriptor that the program has closed meanwhile cannot be set again. */
static void restore_wakeup_fd(int fd) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (set_wakeup_fd(fd) == FAILED) {
    PyErr_Clear();
    if (set_wakeup_fd(-1) == FAILED)
      PyErr_Clear();
  }
  PyErr_Restore(type, value, traceback);
}

void forkq__py_signals_leave(void) {
  if (!watch.watches || PyThread_get_thread_ident() != watch.main_thread)
    return;
  pthread_mutex_lock(&watch.mutex);
  watch.interrupt = NULL;
  watch.watches = false;
  pthread_mutex_unlock(&watch.mutex);
  restore_wakeup_fd(watch.old_fd);
}

bool forkq__py_signals_ended(void) {
  return !watch.watches && PyThread_get_thread_ident() == watch.main_thread;
}

void forkq__py_signals_begin(unsigned long main_thread) {
  watch.main_thread = main_thread;
}

/* The thread and the mutex were the parent's, and so is the pipe. */
void forkq__py_signals_forked(void) {
  bool watches = watch.watches;
  int old_fd = watch.old_fd;
  pthread_mutex_init(&watch.mutex, NULL);
  if (watch.running)
    close_pipe();
  watch.running = watch.watches = false;
  watch.interrupt = NULL;
  watch.main_thread = PyThread_get_thread_ident();
  if (watches)
    restore_wakeup_fd(old_fd);
}
