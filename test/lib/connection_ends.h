/* The two ends of a pipe, which a test begins with, and brief ways to use them. */
#ifndef FORKQ_TEST_CONNECTION_ENDS_H
#define FORKQ_TEST_CONNECTION_ENDS_H

#include "connection_helpers.h"

/* Duplex, or one-way from b to a; the item is for whatever is received. */
extern forkq_connection_t *a, *b;
extern forkq_item_t item;

/* A test that loops over the kinds of streams makes its own. */
void setup_nothing(void);
void setup_duplex(void);
void setup_one_way(void);

/* A test case with one of these. */
TCase *add_case(Suite *suite, const char *name, void (*setup)(void));

/* Ends an end before the test does. */
void close_a(void);
void close_b(void);

/* From b to a. */
int send_bytes(const void *data, size_t size);
int recv_bytes(void);

int send_text(forkq_connection_t *connection, const char *text);
int send_int(forkq_connection_t *connection, uint64_t number);
int send_nil(forkq_connection_t *connection);

/* Whether the item is these bytes. */
int is_text(const char *text);

#define RECEIVES(connection, text)                                                       \
  do {                                                                                   \
    OK(forkq_connection_recv_bytes(connection, &item, FORKQ_ALL));                       \
    ck_assert_msg(is_text(text), "received %zu bytes, not '%s'", item.size, text);       \
  } while (0)

#define RECEIVES_INT(connection, number)                                                 \
  do {                                                                                   \
    OK(forkq_connection_recv(connection, &item));                                        \
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_POSITIVE_INTEGER);                 \
    ck_assert_uint_eq(item.object.via.u64, number);                                      \
  } while (0)

#endif
