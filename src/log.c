#include "log.h"

#include <stdarg.h>
#include <stdio.h>

/* Bytes of a line; what is longer is cut. */
#define MESSAGE_SIZE 256

static forkq_log_fn log_fn;
static void *log_arg;

void forkq_log_set(forkq_log_fn log, void *arg) {
  log_fn = log;
  log_arg = arg;
}

void forkq__log(forkq_log_level_t level, const char *format, ...) {
  if (log_fn == NULL)
    return;
  char message[MESSAGE_SIZE];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  log_fn(level, message, log_arg);
}
