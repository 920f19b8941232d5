/* The queues that a subcommand is about, and how they are told to people and programs. */
#ifndef FORKQ_TOOL_LOOK_H
#define FORKQ_TOOL_LOOK_H

#include "tool/tool.h"

#include <forkq.h>
#include <jansson.h>

/* Looks at the queues of a process, or at all if `pid` is 0. Says what is wrong. Returns
 * FORKQ__TOOL_GOES_ON, or the exit code. */
int forkq__tool_look(forkq_inspect_t **ret_inspect, pid_t pid);

/* Says what is wrong, if forkq_inspect_open has returned that error. Returns the exit code. */
int forkq__tool_say_no_look(int error, pid_t pid);

/* Whether the text names a process, by its number. */
bool forkq__tool_is_pid(const char *text, pid_t *ret_pid);

/* Looks, and finds the one queue that the text means: its inode, its name, the number of a process that has
 * one queue, or the path at which it is served. Says what is wrong. Returns as look. */
int forkq__tool_find(forkq_inspect_t **ret_inspect,
                     const forkq_inspect_queue_t **ret_queue, const char *text);

/* Words for what a program sees as numbers. label: the name of the queue, or its inode, in `text`. */
const char *forkq__tool_state(const forkq_inspect_queue_t *queue);
const char *forkq__tool_life(const forkq_inspect_process_t *process);
const char *forkq__tool_lock(forkq_inspect_lock_kind_t kind);
const char *forkq__tool_wait(forkq_inspect_wait_kind_t kind);
const char *forkq__tool_label(const forkq_inspect_queue_t *queue, char text[40]);

/* A queue as JSON; with all about its processes, waits and locks, if there is `more`. */
json_t *forkq__tool_queue_json(const forkq_inspect_queue_t *queue, bool more);

/* Prints the value on a line of its own, and frees it. Returns an exit code. */
int forkq__tool_print_json(json_t *value);

#endif
