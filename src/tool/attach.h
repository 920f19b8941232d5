/* Using the queue of another process. */
#ifndef FORKQ_TOOL_ATTACH_H
#define FORKQ_TOOL_ATTACH_H

#include "tool/tool.h"

#include <forkq.h>

/* Opens the queue that the text names (look.h) in this process: it duplicates the descriptors of a process
 * that has it (pidfd_getfd(2)), which does not notice; or connects, if the text is a path at which a queue is
 * served. Says what is wrong. Returns FORKQ__TOOL_GOES_ON, or the exit code. */
int forkq__tool_attach(forkq_queue_t **ret_queue, const char *text);

#endif
