/* The log hook. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

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

void forkq__log(forkq_log_level_t level, const char *format, ...) {
  if (log_fn == NULL)
    return;
  char message[MESSAGE_SIZE];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  call_log_fn(level, message);
}
