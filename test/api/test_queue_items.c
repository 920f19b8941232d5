/* What a user puts into a queue comes out as it went in: items of all kinds and sizes, up to the
 * limits. */
#define _GNU_SOURCE
#include "queue_fixture.h"

#include <stdlib.h>
#include <string.h>

static const char golden[] = "\x85\xa1"
                             "a\xc0\xa1"
                             "b\x93\xc3\xc2\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18\xa1"
                             "c\xc4\x03\x00\x01\x02\xa1"
                             "d\xd4\x05\x7f\xa1"
                             "e\xd3\x80\x00\x00\x00\x00\x00\x00\x00";

START_TEST(an_object_comes_out_as_it_went_in) {
  forkq_item_t first = FORKQ_ITEM_INIT, second = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_put_packed(queue, golden, sizeof golden - 1, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &first, -1), 0);
  ck_assert_uint_eq(first.size, sizeof golden - 1);
  ck_assert_mem_eq(first.data, golden, first.size);
  ck_assert_int_eq(forkq_queue_put(queue, &first.object, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &second, -1), 0);
  ck_assert(msgpack_object_equal(first.object, second.object));
  ck_assert_mem_eq(second.data, golden, sizeof golden - 1);
  forkq_item_destroy(&first);
  forkq_item_destroy(&second);
}
END_TEST

static int pack_pair(msgpack_packer *packer, void *arg) {
  const char *text = arg;
  msgpack_pack_array(packer, 2);
  msgpack_pack_int(packer, 1);
  msgpack_pack_str(packer, strlen(text));
  msgpack_pack_str_body(packer, text, strlen(text));
  return 0;
}

START_TEST(a_packing_function_writes_the_item) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  char text[] = "hello";
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_pair, text, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
  ck_assert_uint_eq(item.object.via.array.size, 2);
  ck_assert_mem_eq(item.object.via.array.ptr[1].via.str.ptr, "hello", 5);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(get_packed_gives_the_bytes_alone) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(put(5, -1), 0);
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, -1), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(item.size, 1);
  ck_assert_int_eq(item.data[0], 5);
  forkq_item_destroy(&item);
}
END_TEST

static void assert_round_trip(forkq_item_t *item, size_t size) {
  char *data = bin_of(size);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, item, -1), 0);
  ck_assert_uint_eq(item->size, size);
  ck_assert(memcmp(item->data, data, size) == 0);
  free(data);
}

/* Large items go beside the pipe, or in fragments. */
enum { BESIDE, IN_FRAGMENTS, WAYS };

START_TEST(every_size_around_a_packet_goes_through) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  if (_i == IN_FRAGMENTS)
    support_keep_to_pipe(queue);
  for (size_t size = 5; size < 100; size++)
    assert_round_trip(&item, size);
  for (size_t size = 3900; size < 4200; size++)
    assert_round_trip(&item, size);
  for (size_t size = 8130; size < 8150; size++)
    assert_round_trip(&item, size);
  for (size_t size = 65000; size < 66100; size += 13)
    assert_round_trip(&item, size);
  assert_round_trip(&item, 16u << 20);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(small_and_large_items_keep_their_order) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  if (_i == IN_FRAGMENTS)
    support_keep_to_pipe(queue);
  for (size_t i = 0; i < 300; i++) {
    size_t size = 5 + i * 7919 % 20000;
    char *data = bin_of(size);
    data[size - 1] = (char)i;
    ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, -1), 0);
    free(data);
  }
  for (size_t i = 0; i < 300; i++) {
    ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
    ck_assert_uint_eq(item.size, 5 + i * 7919 % 20000);
    if (item.size > 5)
      ck_assert_int_eq(item.data[item.size - 1], (char)i);
  }
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(what_this_process_put_it_gets_without_waiting) {
  for (int i = 0; i < 2000; i++) {
    ck_assert_int_eq(put(i, 0), 0);
    int64_t value;
    /* Only while the feeder has it in its hands is it not there yet. */
    while ((value = get(0)) == FORKQ_EMPTY)
      ;
    ck_assert_int_eq(value, i);
  }
}
END_TEST

START_TEST(steady_state_allocates_nothing) {
  static forkq_item_t item;
  char *data = bin_of(900);
  forkq_queue_destroy(queue);
  support_heap_install();
  ck_assert_int_eq(forkq_queue_create(&queue, 100), 0);
  if (_i == IN_FRAGMENTS)
    support_keep_to_pipe(queue);
  long requests = 0;
  for (int round = 0; round < 300; round++) {
    if (round == 100)
      requests = support_heap_requests();
    for (int i = 0; i < 20; i++)
      ck_assert_int_eq(forkq_queue_put_packed(queue, data, 900, -1), 0);
    for (int i = 0; i < 20; i++)
      ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
  }
  /* How many packets are under way depends on how far the feeder is behind: a few more may
   * come late. One for each message would be 4000. */
  ck_assert_int_le(support_heap_requests(), requests + 10);
  free(data);
  forkq_item_destroy(&item);
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------ */

START_TEST(maxsize_is_exact_and_zero_is_none) {
  for (int64_t maxsize = 1; maxsize <= 3; maxsize++) {
    set_maxsize(maxsize);
    for (int64_t i = 0; i < maxsize; i++)
      ck_assert_int_eq(put(i, 0), 0);
    ck_assert_int_eq(put(9, 0), FORKQ_FULL);
    ck_assert_int_eq(put(9, 20), FORKQ_TIMEDOUT);
    ck_assert_int_eq(forkq_queue_full(queue), 1);
    ck_assert_int_eq(get(-1), 0);
    ck_assert_int_eq(forkq_queue_full(queue), 0);
    ck_assert_int_eq(put(9, 0), 0);
    ck_assert_int_eq(put(9, 0), FORKQ_FULL);
  }
  set_maxsize(-5);
  for (int i = 0; i < 200000; i++)
    ck_assert_int_eq(put(i, 0), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 200000);
  forkq_queue_cancel_join_thread(queue);
}
END_TEST

START_TEST(a_message_as_large_as_the_limit_goes_through) {
  for (size_t limit = 4000; limit < 13000; limit += 4500) {
    forkq_queue_destroy(queue);
    forkq_queue_options_t options = { .size = sizeof options, .max_message = limit };
    ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
    if (_i == IN_FRAGMENTS)
      support_keep_to_pipe(queue);
    forkq_item_t item = FORKQ_ITEM_INIT;
    assert_round_trip(&item, limit - 1);
    assert_round_trip(&item, limit);
    char *data = bin_of(limit + 1);
    ck_assert_int_eq(forkq_queue_put_packed(queue, data, limit + 1, -1), FORKQ_ETOOBIG);
    free(data);
    assert_usable();
    forkq_item_destroy(&item);
  }
}
END_TEST

static msgpack_object nested(int depth, msgpack_object *storage) {
  msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  for (int i = 0; i < depth; i++) {
    storage[i] = object;
    object.type = MSGPACK_OBJECT_ARRAY;
    object.via.array.size = 1;
    object.via.array.ptr = &storage[i];
  }
  return object;
}

START_TEST(an_object_at_the_depth_limit_comes_out) {
  msgpack_object storage[FORKQ_DEPTH_MAX + 1];
  msgpack_object object = nested(FORKQ_DEPTH_MAX, storage);
  ck_assert_int_eq(forkq_queue_put(queue, &object, -1), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
  ck_assert(msgpack_object_equal(item.object, object));
  forkq_item_destroy(&item);
  object = nested(FORKQ_DEPTH_MAX + 1, storage);
  ck_assert_int_eq(forkq_queue_put(queue, &object, -1), FORKQ_ETOODEEP);
  assert_usable();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("queue_items");
  TCase *tcase = tcase_create("queue");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, an_object_comes_out_as_it_went_in);
  tcase_add_test(tcase, a_packing_function_writes_the_item);
  tcase_add_test(tcase, get_packed_gives_the_bytes_alone);
  tcase_add_loop_test(tcase, every_size_around_a_packet_goes_through, 0, WAYS);
  tcase_add_loop_test(tcase, small_and_large_items_keep_their_order, 0, WAYS);
  tcase_add_test(tcase, what_this_process_put_it_gets_without_waiting);
  tcase_add_loop_test(tcase, steady_state_allocates_nothing, 0, WAYS);
  tcase_add_test(tcase, maxsize_is_exact_and_zero_is_none);
  tcase_add_loop_test(tcase, a_message_as_large_as_the_limit_goes_through, 0, WAYS);
  tcase_add_test(tcase, an_object_at_the_depth_limit_comes_out);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
