/* The queue as a user meets it: good use, bad use, and what is left after it. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <errno.h>
#include <forkq.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static void set_maxsize(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

/* After an error: an item still goes through, and nothing else does. */
static void assert_usable(void) {
  int64_t before = forkq_queue_qsize(queue);
  ck_assert_int_eq(put(77, 1000), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), before + 1);
  ck_assert_int_eq(get(1000), 77);
  ck_assert_int_eq(forkq_queue_qsize(queue), before);
}

/* ---- what goes in comes out
 * --------------------------------------------------------------- */

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

/* msgpack bin 32 of `size` bytes in all, filled so that a shift by a byte shows. */
static char *bin_of(size_t size) {
  char *data = malloc(size);
  size_t body = size - 5;
  for (size_t i = 0; i < size; i++)
    data[i] = (char)(i * 31 + i / 251);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)(body >> (24 - 8 * i));
  return data;
}

static void assert_round_trip(forkq_item_t *item, size_t size) {
  char *data = bin_of(size);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, item, -1), 0);
  ck_assert_uint_eq(item->size, size);
  ck_assert(memcmp(item->data, data, size) == 0);
  free(data);
}

START_TEST(every_size_around_a_packet_goes_through) {
  forkq_item_t item = FORKQ_ITEM_INIT;
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

/* ---- limits
 * ------------------------------------------------------------------------------- */

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

/* ---- bad use
 * ------------------------------------------------------------------------------ */

static int fails(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 1;
}

static int packs_two(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_nil(packer);
  return msgpack_pack_nil(packer);
}

static int packs_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  (void)arg;
  return 0;
}

static int packs_half_a_large_string(msgpack_packer *packer, void *arg) {
  (void)arg;
  static char body[10000];
  msgpack_pack_str(packer, 20000);
  return msgpack_pack_str_body(packer, body, sizeof body);
}

static int packs_too_deep(msgpack_packer *packer, void *arg) {
  (void)arg;
  for (int i = 0; i <= FORKQ_DEPTH_MAX; i++)
    msgpack_pack_array(packer, 1);
  return msgpack_pack_nil(packer);
}

static int uses_its_queue(msgpack_packer *packer, void *arg) {
  forkq_item_t *item = arg;
  ck_assert_int_eq(put(1, 0), FORKQ_EPACKING);
  ck_assert_int_eq(forkq_queue_get(queue, item, 0), FORKQ_EPACKING);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0); /* the one being packed is not yet put */
  return msgpack_pack_int(packer, 3);
}

/* What a packing function has at hand besides: a queue that is closed, and the text of one. */
struct at_hand {
  forkq_queue_t *closed;
  forkq_handover_t handover;
};

static int calls_everything(msgpack_packer *packer, void *arg) {
  const struct at_hand *at_hand = arg;
  forkq_queue_t *new_queue;
  forkq_simple_queue_t *new_simple_queue;
  forkq_handover_t handover;
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  const int results[] = {
    forkq_queue_empty(queue),
    forkq_queue_fileno(queue),
    forkq_queue_task_done(queue),
    forkq_queue_join(queue, 0, NULL),
    forkq_queue_shutdown(queue, 0),
    forkq_queue_close(queue),
    forkq_queue_join_thread(at_hand->closed, 0, NULL),
    forkq_queue_hand_over(queue, &handover),
    forkq_queue_send(queue, -1),
    forkq_queue_attach(&new_queue, at_hand->handover.text, NULL),
    forkq_queue_create(&new_queue, 0),
    forkq_simple_queue_create(&new_simple_queue),
    forkq_wait(&entry, 1, 0),
  };
  for (size_t i = 0; i < sizeof results / sizeof *results; i++)
    if (results[i] != FORKQ_EPACKING)
      ck_abort_msg("the call %zu returned %d", i, results[i]);
  return msgpack_pack_int(packer, 4);
}

START_TEST(a_packing_function_that_fails_loses_nothing) {
  set_maxsize(1);
  ck_assert_int_eq(forkq_queue_put_with(queue, fails, NULL, 0), FORKQ_EPACK);
  assert_usable();
  ck_assert_int_eq(forkq_queue_put_with(queue, packs_two, NULL, 0), FORKQ_EBADOBJECT);
  assert_usable();
  ck_assert_int_eq(forkq_queue_put_with(queue, packs_nothing, NULL, 0), FORKQ_EBADOBJECT);
  assert_usable();
  ck_assert_int_eq(forkq_queue_put_with(queue, packs_half_a_large_string, NULL, 0),
                   FORKQ_EBADOBJECT);
  assert_usable();
  ck_assert_int_eq(forkq_queue_put_with(queue, packs_too_deep, NULL, 0), FORKQ_ETOODEEP);
  assert_usable();
}
END_TEST

START_TEST(a_packing_function_cannot_use_its_own_queue) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_put_with(queue, uses_its_queue, &item, 0), 0);
  ck_assert_int_eq(get(-1), 3);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(a_packing_function_can_call_nothing_of_any_queue) {
  const forkq_queue_options_t joinable = { .size = sizeof joinable, .joinable = 1 };
  struct at_hand at_hand;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &joinable), 0);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &at_hand.handover), 0);
  ck_assert_int_eq(forkq_queue_create(&at_hand.closed, 0), 0);
  ck_assert_int_eq(forkq_queue_close(at_hand.closed), 0);
  ck_assert_int_eq(forkq_queue_put_with(queue, calls_everything, &at_hand, 0), 0);
  ck_assert_int_eq(get(-1), 4);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  forkq_queue_destroy(at_hand.closed);
}
END_TEST

START_TEST(bytes_that_are_not_one_object_are_refused) {
  static const struct {
    const char *bytes;
    size_t size;
    int error;
  } bad[] = {
    { "", 0, FORKQ_EBADOBJECT },
    { "\xc1", 1, FORKQ_EBADOBJECT },
    { "\x01\x02", 2, FORKQ_EBADOBJECT },
    { "\x92\x01", 2, FORKQ_EBADOBJECT },
    { "\xa3xy", 3, FORKQ_EBADOBJECT },
    { "\xdd\x10\x00\x00\x00", 5, FORKQ_EBADOBJECT },
    { "\xdf\xff\xff\xff\xff", 5, FORKQ_EBADOBJECT },
    { "\xc9\xff\xff\xff\xff\x01", 6, FORKQ_EBADOBJECT },
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    ck_assert_int_eq(forkq_queue_put_packed(queue, bad[i].bytes, bad[i].size, 0),
                     bad[i].error);
  char deep[FORKQ_DEPTH_MAX + 2];
  memset(deep, 0x91, sizeof deep);
  deep[sizeof deep - 1] = 0;
  ck_assert_int_eq(forkq_queue_put_packed(queue, deep, sizeof deep, 0), FORKQ_ETOODEEP);
  ck_assert_int_eq(forkq_queue_put_packed(queue, deep + 1, sizeof deep - 1, 0), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, -1), 0);
  ck_assert_uint_eq(item.size, sizeof deep - 1);
  forkq_item_destroy(&item);
  assert_usable();
}
END_TEST

START_TEST(an_object_of_no_type_is_refused) {
  msgpack_object object = { .type = (msgpack_object_type)0x77 };
  ck_assert_int_eq(forkq_queue_put(queue, &object, 0), FORKQ_EBADOBJECT);
  assert_usable();
}
END_TEST

START_TEST(null_and_bad_timeouts_have_their_errors) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  forkq_queue_options_t options = { .size = sizeof options };
  ck_assert_int_eq(forkq_queue_create(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_create_with(NULL, &options), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_create_with(&queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put(NULL, &nil, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put(queue, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_nowait(queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_packed(queue, NULL, 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_with(queue, NULL, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get(NULL, &item, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get(queue, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_packed(queue, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_qsize(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_empty(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_full(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_shutdown(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_close(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_join_thread(NULL, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_cancel_join_thread(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_handover_keep(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_receive(NULL, 0, NULL), FORKQ_ENULL);
  forkq_queue_destroy(NULL);
  forkq_item_destroy(NULL);
  ck_assert_int_eq(forkq_queue_put(queue, &nil, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_get(queue, &item, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -2, NULL), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 0, NULL), FORKQ_ENOTCLOSED);
  assert_usable();
}
END_TEST

START_TEST(unknown_options_are_refused) {
  forkq_queue_t *other = NULL;
  forkq_queue_options_t options = { .size = 3 };
  ck_assert_int_eq(forkq_queue_create_with(&other, &options), FORKQ_ERANGE);
  options.size = sizeof options;
  options.max_message = (size_t)FORKQ_MESSAGE_MAX + 1;
  ck_assert_int_eq(forkq_queue_create_with(&other, &options), FORKQ_ERANGE);
  ck_assert_ptr_null(other);
}
END_TEST

/* The options of a program that was built with another header: `size` bytes of them, and then
 * bytes that are none. */
static int create_with_size(forkq_queue_t **ret_queue, size_t size) {
  union {
    forkq_queue_options_t options;
    unsigned char bytes[2 * sizeof(forkq_queue_options_t)];
  } memory;
  const forkq_queue_options_t options = { .maxsize = 1 };
  memset(&memory, 0xff, sizeof memory);
  memcpy(&memory, &options, size < sizeof options ? size : sizeof options);
  memory.options.size = size;
  return forkq_queue_create_with(ret_queue, &memory.options);
}

START_TEST(options_of_an_older_header_are_accepted) {
  const size_t oldest = offsetof(forkq_queue_options_t, max_message);
  const size_t step = _Alignof(forkq_queue_options_t);
  for (size_t size = oldest; size <= sizeof(forkq_queue_options_t); size += step) {
    forkq_queue_t *other;
    ck_assert_int_eq(create_with_size(&other, size), 0);
    ck_assert_int_eq(put_int(other, 1, 0), 0);
    ck_assert_int_eq(put_int(other, 2, 0), FORKQ_FULL);
    ck_assert_int_eq(get_int(other, 1000), 1);
    ck_assert_int_eq(forkq_queue_task_done(other), FORKQ_ENOTJOINABLE);
    forkq_queue_destroy(other);
  }
}
END_TEST

/* In memory of its own, so that a look beyond its end is seen. */
START_TEST(options_are_read_to_their_end_only) {
  struct {
    size_t size;
    int64_t maxsize;
  } oldest = { .size = sizeof oldest, .maxsize = 1 };
  void *options = malloc(sizeof oldest);
  memcpy(options, &oldest, sizeof oldest);
  forkq_queue_t *other;
  ck_assert_int_eq(forkq_queue_create_with(&other, options), 0);
  free(options);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(options_of_no_known_size_are_refused) {
  const size_t oldest = offsetof(forkq_queue_options_t, max_message);
  forkq_queue_t *other = NULL;
  for (size_t size = 0; size < oldest; size++)
    ck_assert_int_eq(create_with_size(&other, size), FORKQ_ERANGE);
  for (size_t size = sizeof(forkq_queue_options_t) + 1;
       size <= 2 * sizeof(forkq_queue_options_t); size++)
    ck_assert_int_eq(create_with_size(&other, size), FORKQ_ERANGE);
  ck_assert_int_eq(create_with_size(&other, SIZE_MAX), FORKQ_ERANGE);
  ck_assert_int_eq(create_with_size(&other, oldest + 1), FORKQ_ERANGE); /* half a field */
  ck_assert_ptr_null(other);
}
END_TEST

START_TEST(options_begin_as_the_defaults) {
  const forkq_queue_options_t zero = { 0 };
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  ck_assert_uint_eq(options.size, sizeof options);
  options.size = 0;
  ck_assert_mem_eq(&options, &zero, sizeof zero);
}
END_TEST

/* ---- without memory ------------------------------------------------------------------------ */

START_TEST(every_allocation_may_fail) {
  forkq_queue_destroy(queue);
  support_heap_install();
  static forkq_item_t item;
  char *data = bin_of(10000);
  for (long k = 1;; k++) {
    queue = NULL;
    support_heap_fail_at(k, false);
    int created = forkq_queue_create(&queue, 1);
    int did_put = created < 0 ? created : forkq_queue_put_packed(queue, data, 10000, -1);
    int got = did_put < 0 ? did_put : forkq_queue_get(queue, &item, 5000);
    support_heap_fail_at(0, false);
    bool clean = created == 0 && did_put == 0 && got == 0;
    if (!clean) {
      ck_assert_int_eq(got, -ENOMEM);
      if (created == 0 && did_put == 0)
        ck_assert_int_eq(forkq_queue_get(queue, &item, 5000), 0); /* it was not lost */
      if (created == 0)
        assert_usable();
    } else {
      ck_assert(memcmp(item.data, data, 10000) == 0);
    }
    forkq_queue_destroy(queue);
    forkq_item_destroy(&item);
    if (clean)
      break;
  }
  ck_assert_int_eq(support_heap_live(), 0);
  free(data);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}
END_TEST

/* ---- closing
 * ------------------------------------------------------------------------------ */

START_TEST(close_gives_every_descriptor_back_unused_or_used) {
  forkq_queue_close(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
  set_maxsize(0);
  put(1, -1);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  uint64_t unsent = 99;
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
  ck_assert_uint_eq(unsent, 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), FORKQ_ECLOSED);
  ck_assert_int_eq(support_open_fds(), fds_before);
}
END_TEST

static void blocked_get(void *arg) {
  *(int64_t *)arg = get(-1);
}

static void blocked_put(void *arg) {
  *(int64_t *)arg = put(2, -1);
}

START_TEST(close_ends_the_waits_of_other_threads) {
  set_maxsize(1);
  uv_thread_t threads[3];
  int64_t results[3] = { 0 };
  for (int i = 0; i < 3; i++)
    uv_thread_create(&threads[i], blocked_get, &results[i]);
  support_until_threads_asleep(3);
  forkq_queue_close(queue);
  for (int i = 0; i < 3; i++) {
    uv_thread_join(&threads[i]);
    ck_assert_int_eq(results[i], FORKQ_ECLOSED);
  }
  set_maxsize(1);
  ck_assert_int_eq(put(1, -1), 0);
  uv_thread_create(&threads[0], blocked_put, &results[0]);
  support_until_threads_asleep(2); /* the feeder is the other */
  forkq_queue_cancel_join_thread(queue);
  forkq_queue_close(queue);
  uv_thread_join(&threads[0]);
  ck_assert_int_eq(results[0], FORKQ_ECLOSED);
}
END_TEST

/* More than a pipe holds. */
static void put_much(void) {
  char *data = bin_of(10u << 20);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, 10u << 20, -1), 0);
  free(data);
}

START_TEST(nobody_else_has_it_so_destroy_does_not_hang) {
  put_much();
  forkq_queue_close(queue);
  uint64_t unsent = 0;
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_uint_eq(unsent, 1);
}
END_TEST

static void wait_for_flag(void *flag) {
  support_until(flag);
  _exit(0);
}

START_TEST(join_thread_times_out_and_says_what_is_unsent) {
  _Atomic int *flag = support_shared(sizeof *flag);
  pid_t holder = support_fork(wait_for_flag, (void *)flag);
  put_much();
  put_much();
  forkq_queue_close(queue);
  uint64_t unsent = 0;
  ck_assert_int_eq(forkq_queue_join_thread(queue, 50, &unsent), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(unsent, 2);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(holder), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_uint_eq(unsent, 2);
}
END_TEST

START_TEST(cancel_join_thread_lets_destroy_go_at_once) {
  _Atomic int *flag = support_shared(sizeof *flag);
  forkq_queue_cancel_join_thread(queue); /* before the first put */
  pid_t holder = support_fork(wait_for_flag, (void *)flag);
  put_much();
  forkq_queue_destroy(queue);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(holder), 0);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}
END_TEST

static void put_much_and_exit(void *arg) {
  (void)arg;
  put_much();
  exit(0);
}

static int64_t get_size(int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_packed(queue, &item, timeout_ms);
  int64_t size = r < 0 ? r : (int64_t)item.size;
  forkq_item_destroy(&item);
  return size;
}

START_TEST(exit_sends_what_was_put) {
  pid_t child = support_fork(put_much_and_exit, NULL);
  ck_assert_int_eq(get_size(-1), 10 << 20);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void exit_here(void *arg) {
  (void)arg;
  exit(0);
}

static void put_much_and_let_a_thread_exit(void *arg) {
  (void)arg;
  uv_thread_t thread;
  put_much();
  uv_thread_create(&thread, exit_here, NULL);
  for (;;)
    pause();
}

START_TEST(a_thread_that_exits_sends_what_was_put) {
  pid_t child = support_fork(put_much_and_let_a_thread_exit, NULL);
  ck_assert_int_eq(get_size(-1), 10 << 20);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void create_put_and_exit(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  put_much();
  exit(0);
}

START_TEST(exit_does_not_hang_when_nobody_can_read) {
  pid_t child = support_fork(create_put_and_exit, NULL);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void get_sleeping(void *arg) {
  (void)arg;
  get(-1);
}

static void exit_with_a_thread_in_get(void *arg) {
  (void)arg;
  uv_thread_t thread;
  uv_thread_create(&thread, get_sleeping, NULL);
  support_until_threads_asleep(1);
  exit(0);
}

START_TEST(exit_does_not_wait_for_threads_in_get) {
  pid_t child = support_fork(exit_with_a_thread_in_get, NULL);
  ck_assert_int_eq(support_wait(child), 0);
  assert_usable();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("queue");
  TCase *tcase = tcase_create("queue");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, an_object_comes_out_as_it_went_in);
  tcase_add_test(tcase, a_packing_function_writes_the_item);
  tcase_add_test(tcase, get_packed_gives_the_bytes_alone);
  tcase_add_test(tcase, every_size_around_a_packet_goes_through);
  tcase_add_test(tcase, small_and_large_items_keep_their_order);
  tcase_add_test(tcase, what_this_process_put_it_gets_without_waiting);
  tcase_add_test(tcase, steady_state_allocates_nothing);
  tcase_add_test(tcase, maxsize_is_exact_and_zero_is_none);
  tcase_add_test(tcase, a_message_as_large_as_the_limit_goes_through);
  tcase_add_test(tcase, an_object_at_the_depth_limit_comes_out);
  tcase_add_test(tcase, a_packing_function_that_fails_loses_nothing);
  tcase_add_test(tcase, a_packing_function_cannot_use_its_own_queue);
  tcase_add_test(tcase, a_packing_function_can_call_nothing_of_any_queue);
  tcase_add_test(tcase, bytes_that_are_not_one_object_are_refused);
  tcase_add_test(tcase, an_object_of_no_type_is_refused);
  tcase_add_test(tcase, null_and_bad_timeouts_have_their_errors);
  tcase_add_test(tcase, unknown_options_are_refused);
  tcase_add_test(tcase, options_of_an_older_header_are_accepted);
  tcase_add_test(tcase, options_are_read_to_their_end_only);
  tcase_add_test(tcase, options_of_no_known_size_are_refused);
  tcase_add_test(tcase, options_begin_as_the_defaults);
  tcase_add_test(tcase, every_allocation_may_fail);
  tcase_add_test(tcase, close_gives_every_descriptor_back_unused_or_used);
  tcase_add_test(tcase, close_ends_the_waits_of_other_threads);
  tcase_add_test(tcase, nobody_else_has_it_so_destroy_does_not_hang);
  tcase_add_test(tcase, join_thread_times_out_and_says_what_is_unsent);
  tcase_add_test(tcase, cancel_join_thread_lets_destroy_go_at_once);
  tcase_add_test(tcase, exit_sends_what_was_put);
  tcase_add_test(tcase, a_thread_that_exits_sends_what_was_put);
  tcase_add_test(tcase, exit_does_not_hang_when_nobody_can_read);
  tcase_add_test(tcase, exit_does_not_wait_for_threads_in_get);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
