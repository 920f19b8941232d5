#include "format_helpers.h"

#include <string.h>

forkq_item_t format_item;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 4), 0);
}

static void tear_down(void) {
  forkq_item_destroy(&format_item);
  queue_tear_down();
}

const msgpack_object *format_got(void) {
  ck_assert_int_eq(forkq_queue_get(queue, &format_item, PATIENCE_MS), 0);
  return &format_item.object;
}

const msgpack_object *format_put_and_get(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_queue_vputf(queue, PATIENCE_MS, format, args);
  va_end(args);
  ck_assert_int_eq(r, 0);
  return format_got();
}

void format_assert_bytes(const void *bytes, size_t size) {
  ck_assert_uint_eq(format_item.size, size);
  ck_assert(memcmp(format_item.data, bytes, size) == 0);
}

void format_assert_said(const char *text) {
  ck_assert_msg(strstr(forkq_format_error(), text) != NULL, "%s: %s", text,
                forkq_format_error());
}

TCase *format_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}
