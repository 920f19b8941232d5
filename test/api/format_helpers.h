/* What the tests of formats have in common. */
#ifndef FORKQ_TEST_FORMAT_HELPERS_H
#define FORKQ_TEST_FORMAT_HELPERS_H

#include "queue_helpers.h"

#define PATIENCE_MS 10000

/* What was got last. */
extern forkq_item_t format_item;

/* got: the next object. put_and_get: the object that a get returns of what is put by the format. */
const msgpack_object *format_got(void);
const msgpack_object *format_put_and_get(const char *format, ...);

/* The bytes that were got; what forkq_format_error says. */
void format_assert_bytes(const void *bytes, size_t size);
void format_assert_said(const char *text);

/* Adds a case whose fixture is a queue of four. */
TCase *format_case(Suite *suite, const char *name);

#endif
