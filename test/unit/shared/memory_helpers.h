/* What the tests of memory have in common: children that must succeed, limits, and a sender that is
 * stopped in the middle. */
#ifndef FORKQ_TEST_MEMORY_HELPERS_H
#define FORKQ_TEST_MEMORY_HELPERS_H

#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <sys/resource.h>

#define PATIENCE_MS 10000
#define SEGMENT ((rlim_t)sizeof(struct forkq__segment))
#define WHOLE_FILE ((rlim_t)FORKQ__FILE_END)
#define LARGE_ONE 20000
#define HUGE (1u << 20) /* bytes: more than the pipe holds */

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Calls it in a child, which must exit with 0. */
void run(void (*fn)(void *arg), void *arg);

/* Bytes of a file that are there. */
int64_t held(int fd);

/* In a child: a limit of its own. To go beyond that for files is a signal that ends it. */
void limit(__rlimit_resource_t resource, rlim_t value);
void limit_files(rlim_t bytes);

/* In a child: gets a bin of that size, or an error; puts a large one and gets it. */
int get_bin(size_t size, int timeout_ms);
void pass_large_one(void);

/* A fixture: a queue of ten items. */
void set_up_queue(void);

/* A sender that is stopped in the middle of an item: all that is in the pipe is of that. */
pid_t sender_in_the_middle(void);

/* Whether the queue keeps a part of an item. */
bool is_kept(void);

TCase *add_case(Suite *suite, const char *name);

#endif
