/* Calls on connections, made by threads that may be cancelled in them; and system calls that fail or
 * that an older kernel does not know. */
#ifndef FORKQ_TEST_CONNECTION_CALLS_H
#define FORKQ_TEST_CONNECTION_CALLS_H

#include "connection_ends.h"

#include <pthread.h>
#include <signal.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- the system calls --------------------------------------------------------------------- */

extern bool newest_kernel;       /* one that knows all flags of pwritev2 and preadv2 */
extern void (*in_a_write)(void); /* called before the next write */

/* A call that fails, once. */
enum { PWRITEV2, PREADV2, SENDMSG, RECV, PPOLL, FUNCTIONS };
extern int fails_with[FUNCTIONS];

/* A setup for add_case: the kernel knows neither pwritev2 nor preadv2. */
void setup_older_kernel(void);

/* ---- a thread in a call ------------------------------------------------------------------- */

extern int result;
extern bool returned;
extern sigset_t mask_at_the_end;

/* What a thread does that makes a call, by a pointer to it. */
void *make_call(void *arg);

pthread_t start_thread(void *(*fn)(void *arg), void *arg);
pthread_t start_call(int (*const *call)(void));
bool ends_cancelled(pthread_t thread);

/* It sleeps in its call, and ends there. */
void cancel_asleep(pthread_t thread);

/* ---- calls -------------------------------------------------------------------------------- */

/* With its header just as much as a pipe takes as a whole. */
int send_a_page(void);

#define LARGE ((size_t)1 << 20)
extern char large[LARGE];
int send_large(void);

#define SENDS 6
extern int (*const sends[SENDS])(void);

/* ---- a full stream ------------------------------------------------------------------------ */

/* From b to a, and soon full. */
void make_small_stream(int kind);

/* Fills it with empty messages, as far as they go: how many. receive_empty takes so many. */
size_t fill(void);
void receive_empty(size_t count);

/* Nothing is in the stream, not even a part of a message, and messages go through it. */
void check_stream(void);

#endif
