/* The log hook, and logging to the standard error. */
#define _GNU_SOURCE
#include "base/log.h"

#include "base/atomics.h"
#include "base/os.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of a message, with the terminating zero. A longer message is cut. */
#define MESSAGE_SIZE 256

static forkq_log_fn log_fn;
static void *log_arg;

void forkq_log_set(forkq_log_fn log, void *arg) {
  log_fn = log;
  log_arg = arg;
}

/* The callback runs while forkq holds locks. It is probably a cancellation point, as all output
 * functions are, so cancellation is disabled. */
static void call_log_fn(forkq_log_level_t level, const char *message) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  log_fn(level, message, log_arg);
  pthread_setcancelstate(state, NULL);
}

/* Whether the user wants to see messages on the standard error. */
static bool wanted_on_stderr(void) {
  static _Atomic int wanted; /* 1 if so, -1 if not, 0 if not yet known */
  int known = FORKQ__LOAD(wanted);
  if (known == 0) {
    const char *where = secure_getenv("FORKQ_LOG");
    known = where != NULL && strcmp(where, "stderr") == 0 ? 1 : -1;
    FORKQ__STORE(wanted, known);
  }
  return known > 0;
}

/* In one write, so that the lines of several processes stay whole. */
static void print(forkq_log_level_t level, const char *message) {
  static const char *const names[] = { "info", "warning", "error" };
  char line[MESSAGE_SIZE + 64];
  int size = snprintf(line, sizeof line, "forkq[%d] %s: %s\n", (int)getpid(),
                      names[level], message);
  const struct iovec part = { line, (size_t)size };
  if (forkq__os_is_socket(STDERR_FILENO) > 0)
    (void)forkq__os_socket_write(STDERR_FILENO, &part, 1);
  else
    (void)forkq__os_stream_write(STDERR_FILENO, &part, 1);
}

/* The name lies in shared memory, where another program may have overwritten its end. Returns the bytes
 * written. */
static size_t begin_with(const char *name, char message[MESSAGE_SIZE]) {
  if (name[0] == '\0')
    return 0;
  return (size_t)snprintf(message, MESSAGE_SIZE, "%.*s: ", FORKQ_NAME_MAX, name);
}

void forkq__log(forkq_log_level_t level, const char *name, const char *format, ...) {
  if (log_fn == NULL && !wanted_on_stderr())
    return;
  char message[MESSAGE_SIZE];
  size_t begun = begin_with(name, message);
  va_list args;
  va_start(args, format);
  vsnprintf(message + begun, sizeof message - begun, format, args);
  va_end(args);
  if (log_fn != NULL)
    call_log_fn(level, message);
  else
    print(level, message);
}
