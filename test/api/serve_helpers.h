/* What the tests of served queues have in common: a directory, a path in it, and a server; and raw
 * clients and servers, which do not keep to what forkq's do. */
#ifndef FORKQ_TEST_SERVE_HELPERS_H
#define FORKQ_TEST_SERVE_HELPERS_H

#include "queue_helpers.h"

#include <forkq.h>

extern forkq_server_t *server;
/* The directory is below TMPDIR. Its names must fit into the address of a socket. */
#define SERVE_DIRECTORY 96
extern char directory[SERVE_DIRECTORY], path[SERVE_DIRECTORY + 8];

/* A directory of the test's own with nothing in it; a queue; and with served also a server. At the end
 * nothing is in the directory, and as many descriptors are open as before. */
void serve_set_up(void);
void served_set_up(void);
void serve_tear_down(void);

/* How many names are in the directory. */
int names(void);

/* In a child, which has the queue of its parent by fork: gives that up, and connects. */
forkq_queue_t *child_connect(const char *name);
int child_connect_result(const char *name, const forkq_connect_options_t *options);

/* In a child: connects, and puts the number that `value` points to. */
void connect_and_put(void *value);

/* A raw client: connected, and nothing said. Or a raw socket that listens. */
int raw_connect(const char *name);
int raw_listen(const char *name, int type, int backlog);

/* What a client of forkq says. */
void raw_greet(int socket);

/* Waits for an answer: its bytes, 0 at the end, and how many descriptors came, which are closed. */
int raw_answer(int socket, char *text, size_t size, int *ret_fds);

/* Until the connection is at its end, or the other side has closed it. */
void until_hung_up(int socket);

#endif
