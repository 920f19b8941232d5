/* What the tests of connections and of wait have in common. */
#ifndef FORKQ_TEST_CONNECTION_HELPERS_H
#define FORKQ_TEST_CONNECTION_HELPERS_H

#include "support.h"

#include <forkq/connection.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A call that has to succeed, or to end with a certain code; in the test's own
 * process. */
#define OK(call) CODE(call, 0)
#define CODE(call, code)                                                                 \
  do {                                                                                   \
    int code_ = (call);                                                                  \
    ck_assert_msg(code_ == (code), "%s is %d (%s), not %s", #call, code_,                \
                  forkq_error_name(code_), #code);                                       \
  } while (0)

/* Waits for a child, which has to exit with 0. */
void reap(pid_t pid);

/* A fixture: the test must close every descriptor that it opens. */
void count_descriptors(void);
void check_descriptors(void);

/* All of it, or the process ends; with 1, as a child should. */
void write_all(int fd, const void *data, size_t size);
void read_all(int fd, void *data, size_t size);

/* Memory of a size whose bytes depend on their place and on the seed; the caller frees
 * it. */
char *pattern(size_t size, unsigned seed);
int is_pattern(const void *data, size_t size, unsigned seed);

/* The four kinds of streams that a connection meets. */
enum { PIPE, SOCKET, PIPE_NONBLOCKING, SOCKET_NONBLOCKING, KINDS };
void make_stream(int kind, forkq_connection_t **ret_reader,
                 forkq_connection_t **ret_writer);
void set_nonblocking(const forkq_connection_t *connection);

/* forkq's heap, which counts, and fails from the `fail_at`-th request on (1: the next),
 * for `fail_count` requests. */
extern struct test_heap {
  size_t now;
  size_t peak;
  int requests;
  int fail_at;
  int fail_count;
} test_heap;
void use_test_heap(void);

#endif
