/* The log. An event that no return value can report goes to the program's log callback, if
 * there is one. */
#ifndef FORKQ_LOG_H
#define FORKQ_LOG_H

#include <forkq/queue.h>

/* `name`: the queue's, at most FORKQ_NAME_MAX bytes, with which the message then begins; empty: it has none. */
void forkq__log(forkq_log_level_t level, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
