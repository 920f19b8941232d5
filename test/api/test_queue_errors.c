/* What a queue refuses: bad packing functions, bad arguments and options, and a call that there is
 * no memory for. */
#define _GNU_SOURCE
#include "queue_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- bad use ----------------------------------------------------------------------------- */

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

/* Beside the pipe, where the item goes another way without memory; or in fragments. The last round is
 * one in which there was no allocation left to fail. */
START_TEST(every_allocation_may_fail) {
  forkq_queue_destroy(queue);
  support_heap_install();
  static forkq_item_t item;
  char *data = bin_of(10000);
  bool last = false;
  for (long k = 1; !last; k++) {
    queue = NULL;
    long requests = support_heap_requests();
    support_heap_fail_at(k, false);
    int created = forkq_queue_create(&queue, 1);
    if (created == 0 && _i == 1)
      support_keep_to_pipe(queue);
    int did_put = created < 0 ? created : forkq_queue_put_packed(queue, data, 10000, -1);
    int got = did_put < 0 ? did_put : forkq_queue_get(queue, &item, 5000);
    support_heap_fail_at(0, false);
    last = support_heap_requests() - requests < k;
    bool clean = created == 0 && did_put == 0 && got == 0;
    ck_assert(clean || !last);
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
  }
  ck_assert_int_eq(support_heap_live(), 0);
  free(data);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("queue_errors");
  TCase *tcase = tcase_create("queue");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
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
  tcase_add_loop_test(tcase, every_allocation_may_fail, 0, 2);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
