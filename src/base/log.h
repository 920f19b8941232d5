/* The log. An event that no return value can report goes to the program's log callback, if
 * there is one. */
#ifndef FORKQ_LOG_H
#define FORKQ_LOG_H

#include <forkq/base.h>

void forkq__log(forkq_log_level_t level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
