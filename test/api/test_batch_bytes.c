/* put_many_packed, put_many_bytes and get_many_packed: batches of bytes. */
#define _GNU_SOURCE
#include "batch_helpers.h"

#include <check.h>
#include <string.h>

START_TEST(bytes_in_order) {
  size_t n = UNTOUCHED;
  for (uint64_t round = 0; round < 100; round++) {
    ck_assert_int_eq(put_packed_numbers(round * BATCH, BATCH, -1, &n), 0);
    ck_assert_uint_eq(n, BATCH);
    put_all((round + 1) * BATCH, 1);
    ck_assert_int_eq(forkq_queue_qsize(queue), BATCH + 1);
    get_all_packed(round * BATCH, BATCH);
    get_all((round + 1) * BATCH, 1);
    ck_assert_int_eq(put_packed_numbers(1000, BATCH, -1, &n), 0);
    get_all(1000, BATCH);
    assert_empty();
  }
}
END_TEST

START_TEST(bytes_fill_a_bounded_queue_exactly) {
  create(10);
  size_t n = UNTOUCHED;
  ck_assert_int_eq(put_packed_numbers(0, BATCH, -1, &n), 0);
  ck_assert_uint_eq(n, 10);
  n = UNTOUCHED;
  ck_assert_int_eq(put_packed_numbers(0, BATCH, 0, &n), FORKQ_FULL);
  ck_assert_int_eq(put_packed_numbers(0, BATCH, 20, &n), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  get_all_packed(0, 10);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 4, 0, &n), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 4, 20, &n), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  assert_empty();
}
END_TEST

START_TEST(bad_arguments_of_bytes) {
  forkq_bytes_t message = { "\x05", 1 };
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many_packed(NULL, &message, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, NULL, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, &message, 1, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, &message, 1, -2, &n),
                   FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_get_many_packed(NULL, items, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, NULL, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 1, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 1, -2, &n), FORKQ_ETIMEOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, NULL, 0, 0, &n), 0);
  ck_assert_uint_eq(n, 0);
  n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, NULL, 0, 0, &n), 0);
  ck_assert_uint_eq(n, 0);
  assert_empty();
}
END_TEST

/* Each of these ends a batch, and is its error when it is the first; no slot is lost. */
START_TEST(bad_bytes_in_the_middle) {
  create(4);
  char deep[FORKQ_DEPTH_MAX + 2];
  memset(deep, 0x91, sizeof deep - 1);
  deep[sizeof deep - 1] = 0;
  const struct {
    forkq_bytes_t message;
    int error;
  } bad[] = {
    { { NULL, 1 }, FORKQ_ENULL },
    { { "\x01", 0 }, FORKQ_EBADOBJECT },
    { { "\xcf\x01", 2 }, FORKQ_EBADOBJECT },
    { { "\x01\x02", 2 }, FORKQ_EBADOBJECT },
    { { deep, sizeof deep }, FORKQ_ETOODEEP },
  };
  struct packed packed;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    size_t n = UNTOUCHED;
    pack_numbers(&packed, 0, 5);
    packed.messages[2] = bad[i].message;
    ck_assert_int_eq(forkq_queue_put_many_packed(queue, packed.messages, 5, -1, &n), 0);
    ck_assert_uint_eq(n, 2);
    n = UNTOUCHED;
    ck_assert_int_eq(forkq_queue_put_many_packed(queue, packed.messages + 2, 3, -1, &n),
                     bad[i].error);
    ck_assert_uint_eq(n, UNTOUCHED);
    get_all_packed(0, 2);
    ck_assert_int_eq(put_packed_numbers(0, 5, 0, &n), 0);
    ck_assert_uint_eq(n, 4);
    get_all_packed(0, 4);
    assert_empty();
  }
}
END_TEST

/* Small ones that lie in one packet are taken in one step, in any division. */
START_TEST(runs_of_every_length) {
  create_joinable(BATCH);
  for (size_t first = 1; first < BATCH; first++) {
    size_t n = UNTOUCHED;
    forkq_queue_stats_t before = { .size = sizeof before }, after = before;
    ck_assert_int_eq(forkq_queue_stats(queue, &before), 0);
    ck_assert_int_eq(put_packed_numbers(0, BATCH, -1, &n), 0);
    ck_assert_uint_eq(n, BATCH);
    get_all_packed(0, first);
    ck_assert_int_eq(forkq_queue_qsize(queue), (int64_t)(BATCH - first));
    get_all_packed(first, BATCH - first);
    ck_assert_int_eq(forkq_queue_stats(queue, &after), 0);
    ck_assert_uint_eq(after.got_items - before.got_items, BATCH);
    ck_assert_uint_eq(after.got_bytes - before.got_bytes, 9 * BATCH);
    for (int i = 0; i < BATCH; i++)
      ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), 0);
    assert_empty();
  }
}
END_TEST

/* ---- plain bytes ------------------------------------------------------------------------- */

/* In place, beside the pipe from there, and drafted; empty ones in between. */
static const size_t sizes[] = { 3, 0, 600, 31, 4000, 4060, 1, LARGE, 0, 5 };
#define SIZES (sizeof sizes / sizeof *sizes)

static void make_bytes(forkq_bytes_t *made, char *memory) {
  for (size_t i = 0; i < SIZES; i++) {
    made[i] = (forkq_bytes_t){ sizes[i] > 0 ? memory : NULL, sizes[i] };
    support_fill(memory, sizes[i], i);
    memory += sizes[i];
  }
}

START_TEST(plain_bytes_of_every_size) {
  static char memory[SIZES * LARGE];
  forkq_bytes_t made[SIZES];
  size_t n = UNTOUCHED;
  if (_i == 1)
    support_keep_to_pipe(queue);
  make_bytes(made, memory);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made, SIZES, -1, &n), 0);
  ck_assert_uint_eq(n, SIZES);
  for (size_t i = 0; i < SIZES; i++) {
    ck_assert_int_eq(forkq_queue_get(queue, &items[0], 5000), 0);
    msgpack_object object = items[0].object;
    ck_assert_int_eq(object.type, MSGPACK_OBJECT_BIN);
    ck_assert_uint_eq(object.via.bin.size, sizes[i]);
    ck_assert(sizes[i] == 0 || memcmp(object.via.bin.ptr, made[i].data, sizes[i]) == 0);
  }
  assert_empty();
}
END_TEST

START_TEST(plain_bytes_fill_a_bounded_queue_exactly) {
  create(2);
  const forkq_bytes_t made[] = { { "a", 1 }, { "bc", 2 }, { "d", 1 } };
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made, 3, -1, &n), 0);
  ck_assert_uint_eq(n, 2);
  n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made + 2, 1, 0, &n), FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made + 2, 1, 20, &n),
                   FORKQ_TIMEDOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  char buffer[2];
  for (size_t i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 2, 5000, &n), 0);
    ck_assert(n == made[i].size && memcmp(buffer, made[i].data, n) == 0);
  }
  assert_empty();
}
END_TEST

/* Each of these ends a batch, and is its error when it is the first. */
START_TEST(no_plain_bytes_in_the_middle) {
  create(4);
  const struct {
    forkq_bytes_t bytes;
    int error;
  } bad[] = {
    { { NULL, 1 }, FORKQ_ENULL },
    { { "x", (size_t)FORKQ_MESSAGE_MAX + 1 }, FORKQ_ETOOBIG },
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const forkq_bytes_t made[] = { { "a", 1 }, bad[i].bytes, { "b", 1 } };
    size_t n = UNTOUCHED;
    char buffer[1];
    ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made, 3, -1, &n), 0);
    ck_assert_uint_eq(n, 1);
    n = UNTOUCHED;
    ck_assert_int_eq(forkq_queue_put_many_bytes(queue, made + 1, 2, -1, &n),
                     bad[i].error);
    ck_assert_uint_eq(n, UNTOUCHED);
    ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 1, 5000, NULL), 0);
    assert_empty();
  }
}
END_TEST

START_TEST(bad_arguments_of_plain_bytes) {
  forkq_bytes_t bytes = { "x", 1 };
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_put_many_bytes(NULL, &bytes, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, NULL, 1, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, &bytes, 1, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, &bytes, 1, -2, &n), FORKQ_ETIMEOUT);
  ck_assert_uint_eq(n, UNTOUCHED);
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, NULL, 0, 0, &n), 0);
  ck_assert_uint_eq(n, 0);
  assert_empty();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("batch_bytes");
  TCase *tcase = tcase_create("batch_bytes");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, bytes_in_order);
  tcase_add_test(tcase, bytes_fill_a_bounded_queue_exactly);
  tcase_add_test(tcase, bad_arguments_of_bytes);
  tcase_add_test(tcase, bad_bytes_in_the_middle);
  tcase_add_test(tcase, runs_of_every_length);
  suite_add_tcase(suite, tcase);
  TCase *plain = tcase_create("plain");
  tcase_set_timeout(plain, 60);
  tcase_add_checked_fixture(plain, set_up, tear_down);
  tcase_add_loop_test(plain, plain_bytes_of_every_size, 0, 2);
  tcase_add_test(plain, plain_bytes_fill_a_bounded_queue_exactly);
  tcase_add_test(plain, no_plain_bytes_in_the_middle);
  tcase_add_test(plain, bad_arguments_of_plain_bytes);
  suite_add_tcase(suite, plain);
  return support_main(suite);
}
