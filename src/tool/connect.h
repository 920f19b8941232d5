/* A queue that is named by the path at which it is served. */
#ifndef FORKQ_TOOL_CONNECT_H
#define FORKQ_TOOL_CONNECT_H

#include "tool/tool.h"

#include <forkq.h>

/* Whether the text names a served queue: it begins with '/', "./", "../" or '@'. Others are numbers and
 * names of queues. */
bool forkq__tool_is_served(const char *text);

/* Connects to it. Says what is wrong. Returns FORKQ__TOOL_GOES_ON, or the exit code. */
int forkq__tool_connect(forkq_queue_t **ret_queue, const char *text);

/* Finds out its number, as in forkq_inspect_queue_t, and has the queue only for that moment. Returns as
 * connect. */
int forkq__tool_served_inode(uint64_t *ret_inode, const char *text);

#endif
