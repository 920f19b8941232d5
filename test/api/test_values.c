/* Plain values: what is put without an object, and what comes out. */
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 10000

static forkq_item_t item;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 4), 0);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  queue_tear_down();
}

static msgpack_object got(void) {
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  return item.object;
}

static void assert_raw(msgpack_object object, msgpack_object_type type, const void *data,
                       size_t size) {
  ck_assert_int_eq(object.type, type);
  ck_assert_uint_eq(object.via.bin.size, size);
  ck_assert(memcmp(object.via.bin.ptr, data, size) == 0);
}

START_TEST(a_struct_comes_out_as_it_went_in) {
  struct {
    double weight;
    int32_t count;
    char name[12];
  } in = { 0.5, -3, "a name" }, out;
  ck_assert_int_eq(forkq_queue_put_bytes(queue, &in, sizeof in, 0), 0);
  msgpack_object object = got();
  assert_raw(object, MSGPACK_OBJECT_BIN, &in, sizeof in);
  memcpy(&out, object.via.bin.ptr, sizeof out);
  ck_assert(out.weight == in.weight && out.count == in.count);
}
END_TEST

static const size_t sizes[] = { 0,    1,    31,   32,    255,   256,     4055,
                                4056, 4060, 4062, 65535, 65536, 1u << 20 };
#define SIZES (int)(sizeof sizes / sizeof *sizes)

START_TEST(bytes_of_every_size) {
  size_t size = sizes[_i];
  char *data = malloc(size + 1);
  support_fill(data, size, size);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, size, PATIENCE_MS), 0);
  assert_raw(got(), MSGPACK_OBJECT_BIN, data, size);
  free(data);
}
END_TEST

START_TEST(a_string_ends_at_its_nul) {
  ck_assert_int_eq(forkq_queue_put_str(queue, "two words", PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_put_str(queue, "", PATIENCE_MS), 0);
  assert_raw(got(), MSGPACK_OBJECT_STR, "two words", 9);
  assert_raw(got(), MSGPACK_OBJECT_STR, "", 0);
}
END_TEST

START_TEST(integers_and_nil) {
  static const int64_t values[] = { 0, 1, -1, 127, -33, INT64_MAX, INT64_MIN };
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    ck_assert_int_eq(forkq_queue_put_int(queue, values[i], PATIENCE_MS), 0);
    msgpack_object object = got();
    ck_assert_int_eq(object.type, values[i] < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER
                                                : MSGPACK_OBJECT_POSITIVE_INTEGER);
    ck_assert_int_eq(object.via.i64, values[i]);
  }
  ck_assert_int_eq(forkq_queue_put_nil(queue, PATIENCE_MS), 0);
  ck_assert_int_eq(got().type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(item.size, 1);
}
END_TEST

START_TEST(without_arguments_nothing_is_put) {
  ck_assert_int_eq(forkq_queue_put_bytes(NULL, "x", 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, NULL, 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, NULL, 0, 0), 0);
  assert_raw(got(), MSGPACK_OBJECT_BIN, "", 0);
  ck_assert_int_eq(forkq_queue_put_str(NULL, "x", 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_str(queue, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_int(NULL, 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_nil(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_int(queue, 1, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "", (size_t)FORKQ_MESSAGE_MAX + 1, 0),
                   FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(a_full_queue_takes_none) {
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(forkq_queue_put_int(queue, i, 0), 0);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "x", 1, 0), FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_put_str(queue, "x", 1), FORKQ_TIMEDOUT);
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(got().via.i64, i);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("values");
  TCase *tcase = tcase_create("values");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, a_struct_comes_out_as_it_went_in);
  tcase_add_loop_test(tcase, bytes_of_every_size, 0, SIZES);
  tcase_add_test(tcase, a_string_ends_at_its_nul);
  tcase_add_test(tcase, integers_and_nil);
  tcase_add_test(tcase, without_arguments_nothing_is_put);
  tcase_add_test(tcase, a_full_queue_takes_none);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
