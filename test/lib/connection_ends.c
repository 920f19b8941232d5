#include "connection_ends.h"

#include <string.h>

forkq_connection_t *a, *b;
forkq_item_t item;

void setup_nothing(void) {
  count_descriptors();
}

void setup_duplex(void) {
  count_descriptors();
  OK(forkq_pipe(&a, &b, 1));
}

void setup_one_way(void) {
  count_descriptors();
  OK(forkq_pipe(&a, &b, 0));
}

void close_a(void) {
  forkq_connection_destroy(a);
  a = NULL;
}

void close_b(void) {
  forkq_connection_destroy(b);
  b = NULL;
}

static void teardown(void) {
  close_a();
  close_b();
  forkq_item_destroy(&item);
  check_descriptors();
}

int send_bytes(const void *data, size_t size) {
  return forkq_connection_send_bytes(b, data, size, 0, FORKQ_ALL);
}

int recv_bytes(void) {
  return forkq_connection_recv_bytes(a, &item, FORKQ_ALL);
}

int send_text(forkq_connection_t *connection, const char *text) {
  return forkq_connection_send_bytes(connection, text, strlen(text), 0, FORKQ_ALL);
}

int send_int(forkq_connection_t *connection, uint64_t number) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                            .via = { .u64 = number } };
  return forkq_connection_send(connection, &object);
}

int send_nil(forkq_connection_t *connection) {
  msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  return forkq_connection_send(connection, &object);
}

int is_text(const char *text) {
  return item.size == strlen(text) && memcmp(item.data, text, item.size) == 0;
}

TCase *add_case(Suite *suite, const char *name, void (*setup)(void)) {
  TCase *tc = tcase_create(name);
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  return tc;
}
