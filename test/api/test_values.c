/* Plain values: what is put without an object, and what comes out. */
#include "codec/item.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
  ck_assert(size == 0 || memcmp(object.via.bin.ptr, data, size) == 0);
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

/* msgpack-c unpacks what is empty to a pointer of NULL. */
static msgpack_object empty_at_null(int type) {
  msgpack_object object = { .type = type == 0   ? MSGPACK_OBJECT_STR
                                    : type == 1 ? MSGPACK_OBJECT_BIN
                                                : MSGPACK_OBJECT_EXT };
  return object;
}

START_TEST(what_is_empty_need_not_be_anywhere) {
  static char large[6000]; /* with it the array is packed in a draft */
  msgpack_object members[] = {
    { .type = MSGPACK_OBJECT_BIN, .via.bin = { sizeof large, large } },
    empty_at_null(_i),
  };
  msgpack_object objects[] = {
    empty_at_null(_i),
    { .type = MSGPACK_OBJECT_ARRAY, .via.array = { 2, members } },
  };
  forkq_connection_t *a, *b;
  ck_assert_int_eq(forkq_pipe(&a, &b, 1), 0);
  for (size_t i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_queue_put(queue, &objects[i], PATIENCE_MS), 0);
    ck_assert(msgpack_object_equal(got(), objects[i]));
    ck_assert_int_eq(forkq_queue_put(queue, &item.object, PATIENCE_MS), 0);
    ck_assert(msgpack_object_equal(got(), objects[i]));
    ck_assert_int_eq(forkq_connection_send(b, &item.object), 0);
    ck_assert_int_eq(forkq_connection_recv(a, &item), 0);
    ck_assert(msgpack_object_equal(item.object, objects[i]));
  }
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
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

/* ---- into a buffer of the program's -------------------------------------------------------- */

/* Beside the pipe, or through it. */
static void choose_way(int i) {
  if (i % 2 == 1)
    support_keep_to_pipe(queue);
}

static char *new_bytes(size_t size) {
  char *data = malloc(size + 1);
  support_fill(data, size, size);
  return data;
}

START_TEST(into_a_buffer_of_that_size_or_more) {
  size_t size = sizes[_i / 2], got_size = 7;
  char *data = new_bytes(size), *buffer = malloc(size + 100);
  choose_way(_i);
  for (size_t more = 0; more <= 99; more += 99) {
    ck_assert_int_eq(forkq_queue_put_bytes(queue, data, size, PATIENCE_MS), 0);
    memset(buffer, 0, size + 100);
    ck_assert_int_eq(
        forkq_queue_get_bytes_into(queue, buffer, size + more, PATIENCE_MS, &got_size),
        0);
    ck_assert_uint_eq(got_size, size);
    ck_assert(memcmp(buffer, data, size) == 0 && buffer[size] == 0);
  }
  free(data);
  free(buffer);
}
END_TEST

START_TEST(what_does_not_fit_stays_the_next) {
  size_t size = sizes[_i / 2], needed = 0;
  if (size == 0)
    return;
  char *data = new_bytes(size), *buffer = calloc(1, size + 1);
  choose_way(_i);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, size, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_put_int(queue, 5, PATIENCE_MS), 0);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(
        forkq_queue_get_bytes_into(queue, buffer, size - 1, PATIENCE_MS, &needed),
        FORKQ_ETOOSHORT);
    ck_assert_uint_eq(needed, size);
    ck_assert(buffer[0] == 0 && forkq_queue_qsize(queue) == 2);
  }
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, size, PATIENCE_MS, NULL), 0);
  ck_assert(memcmp(buffer, data, size) == 0);
  ck_assert_int_eq(got().via.i64, 5);
  free(data);
  free(buffer);
}
END_TEST

START_TEST(another_type_stays_the_next) {
  char buffer[100];
  size_t size = 7;
  msgpack_object ext = { .type = MSGPACK_OBJECT_EXT, .via.ext = { 3, 4, "four" } };
  ck_assert_int_eq(forkq_queue_put_int(queue, 5, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_put(queue, &ext, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_put_str(queue, "text", PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 100, PATIENCE_MS, &size),
                   FORKQ_EWRONGTYPE);
  ck_assert_int_eq(got().via.i64, 5);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 100, PATIENCE_MS, &size),
                   FORKQ_EWRONGTYPE);
  ck_assert_uint_eq(size, 7);
  ck_assert_int_eq(got().type, MSGPACK_OBJECT_EXT);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 100, PATIENCE_MS, &size), 0);
  ck_assert(size == 4 && memcmp(buffer, "text", 4) == 0);
}
END_TEST

static void get_and_give_up(void *arg) {
  char buffer[100];
  CHILD_MUST(forkq_queue_get_bytes_into(queue, buffer, *(size_t *)arg, PATIENCE_MS,
                                        NULL) == FORKQ_ETOOSHORT);
}

START_TEST(it_stays_for_other_processes) {
  size_t length = 3;
  char buffer[4];
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "four", 4, PATIENCE_MS), 0);
  ck_assert_int_eq(support_wait(support_fork(get_and_give_up, &length)), 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 4, PATIENCE_MS, NULL), 0);
}
END_TEST

#define LARGE 100000

/* A reader has left a part of it in the file: its head is there. */
START_TEST(of_what_a_reader_has_left_a_part) {
  char *data = new_bytes(LARGE), *buffer = malloc(LARGE);
  size_t needed = 0;
  struct forkq__spill *spill = &queue->segment->channel.spill;
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, LARGE, PATIENCE_MS), 0);
  support_until_pipe_full(queue);
  forkq_item_t small = FORKQ_ITEM_INIT; /* grows in the middle, and so leaves a part */
  ck_assert_int_eq(forkq__item_reserve(&small, 5000), 0);
  ck_assert_int_eq(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER), 0);
  struct forkq__late_copy late = { 0 };
  ck_assert_int_eq(
      forkq__channel_receive_locked(&queue->channel, &small, FORKQ__FOREVER, &late),
      FORKQ__GROW);
  forkq__channel_unlock_read(&queue->channel);
  ck_assert_uint_ne(FORKQ__LOAD(spill->cell), 0);
  ck_assert_int_eq(
      forkq_queue_get_bytes_into(queue, buffer, LARGE - 1, PATIENCE_MS, &needed),
      FORKQ_ETOOSHORT);
  ck_assert_uint_eq(needed, LARGE);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, LARGE, PATIENCE_MS, NULL),
                   0);
  ck_assert(memcmp(buffer, data, LARGE) == 0);
  forkq_item_destroy(&small);
  free(data);
  free(buffer);
}
END_TEST

static int copies_that_fail;

int __real_forkq__piece_copy(struct forkq__pieces *pieces,
                             const struct forkq__account *account, uint32_t cell,
                             struct forkq__reference piece, void *into);
int __wrap_forkq__piece_copy(struct forkq__pieces *pieces,
                             const struct forkq__account *account, uint32_t cell,
                             struct forkq__reference piece, void *into);
int __wrap_forkq__piece_copy(struct forkq__pieces *pieces,
                             const struct forkq__account *account, uint32_t cell,
                             struct forkq__reference piece, void *into) {
  if (copies_that_fail > 0) {
    copies_that_fail--;
    return -ENOMEM;
  }
  return __real_forkq__piece_copy(pieces, account, cell, piece, into);
}

/* Its head cannot be read, but it could be borrowed. */
START_TEST(what_cannot_be_looked_at_stays_the_next) {
  char *data = new_bytes(LARGE), *buffer = malloc(LARGE);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, LARGE, PATIENCE_MS), 0);
  copies_that_fail = 1;
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, LARGE, PATIENCE_MS, NULL),
                   -ENOMEM);
  ck_assert_int_eq(copies_that_fail, 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, LARGE, PATIENCE_MS, NULL),
                   0);
  ck_assert(memcmp(buffer, data, LARGE) == 0);
  free(data);
  free(buffer);
}
END_TEST

#define COPIED (256 * 1024)

/* The buffer can be written to from the first fault on. */
static char *guarded;
static int getters_in_copy;
static bool lose_hold;

static void open_buffer(int signo) {
  (void)signo;
  struct forkq__account *account = &queue->channel.account;
  getters_in_copy = (int)atomic_load(&queue->getters);
  if (lose_hold) /* as a producer does to which this process is dead */
    for (uint32_t i = 0; i < FORKQ__HOLDS; i++)
      atomic_store(&account->ledger->cells[account->cell].holds[i], 0);
  if (mprotect(guarded, COPIED, PROT_READ | PROT_WRITE) != 0)
    abort();
}

/* A close waits for the copy, and who lost the hold does not take the bytes for the message. */
START_TEST(bytes_are_copied_within_the_get_and_the_hold) {
  struct sigaction action = { .sa_handler = open_buffer }, before;
  size_t size = 0;
  lose_hold = _i == 1;
  guarded = mmap(NULL, COPIED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ck_assert(guarded != MAP_FAILED);
  char *data = calloc(1, COPIED);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, COPIED, 0), 0);
  ck_assert_int_eq(sigaction(SIGSEGV, &action, &before), 0);
  int r = forkq_queue_get_bytes_into(queue, guarded, COPIED, 1000, &size);
  ck_assert_int_eq(sigaction(SIGSEGV, &before, NULL), 0);
  ck_assert_int_eq(r, lose_hold ? -EBADF : 0);
  ck_assert_int_eq(getters_in_copy, 1);
  free(data);
  munmap(guarded, COPIED);
}
END_TEST

START_TEST(getting_nothing) {
  char buffer[4];
  size_t size = 7;
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 4, 0, &size), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 4, 1, &size),
                   FORKQ_TIMEDOUT);
  ck_assert_uint_eq(size, 7);
  ck_assert_int_eq(forkq_queue_get_bytes_into(NULL, buffer, 4, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, NULL, 4, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "", 0, 0), 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, NULL, 0, PATIENCE_MS, &size), 0);
  ck_assert_uint_eq(size, 0);
}
END_TEST

/* ---- where it lies ----------------------------------------------------------------------- */

static bool is_aligned(const void *memory) {
  return (uintptr_t)memory % _Alignof(max_align_t) == 0;
}

static void put_bytes_of(size_t size) {
  char *data = new_bytes(size);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data, size, PATIENCE_MS), 0);
  free(data);
}

/* Of what comes through the pipe, beside it, and in parts. */
START_TEST(the_message_is_aligned) {
  size_t n = 0;
  choose_way(_i);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    for (int j = 0; j < 4; j++)
      put_bytes_of(sizes[i]);
    (void)got();
    ck_assert(is_aligned(item.data));
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, PATIENCE_MS), 0);
    ck_assert(is_aligned(item.data));
    ck_assert_int_eq(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS), 0);
    ck_assert(is_aligned(item.data));
    ck_assert_int_eq(forkq_queue_get_many(queue, &item, 1, PATIENCE_MS, &n), 0);
    ck_assert(is_aligned(item.data));
  }
}
END_TEST

START_TEST(what_is_reserved_is_aligned) {
  choose_way(_i);
  for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++) {
    void *memory = NULL;
    ck_assert_int_eq(forkq_queue_reserve(queue, sizes[i], &memory), 0);
    ck_assert(is_aligned(memory));
    ck_assert_int_eq(forkq_queue_abandon(queue, memory), 0);
  }
}
END_TEST

START_TEST(plain_bytes_of_a_connection_are_aligned) {
  forkq_connection_t *a, *b;
  char byte = 1;
  ck_assert_int_eq(forkq_pipe(&a, &b, 0), 0);
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(forkq_connection_send_bytes(b, &byte, 1, 0, FORKQ_ALL), 0);
    ck_assert_int_eq(forkq_connection_recv_bytes(a, &item, FORKQ_ALL), 0);
    ck_assert(is_aligned(item.data));
  }
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
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
  tcase_add_loop_test(tcase, what_is_empty_need_not_be_anywhere, 0, 3);
  tcase_add_test(tcase, a_full_queue_takes_none);
  suite_add_tcase(suite, tcase);
  TCase *into = tcase_create("into");
  tcase_set_timeout(into, 60);
  tcase_add_checked_fixture(into, set_up, tear_down);
  tcase_add_loop_test(into, into_a_buffer_of_that_size_or_more, 0, 2 * SIZES);
  tcase_add_loop_test(into, what_does_not_fit_stays_the_next, 0, 2 * SIZES);
  tcase_add_test(into, another_type_stays_the_next);
  tcase_add_test(into, it_stays_for_other_processes);
  tcase_add_test(into, of_what_a_reader_has_left_a_part);
  tcase_add_test(into, what_cannot_be_looked_at_stays_the_next);
  tcase_add_loop_test(into, bytes_are_copied_within_the_get_and_the_hold, 0, 2);
  tcase_add_test(into, getting_nothing);
  suite_add_tcase(suite, into);
  TCase *where = tcase_create("where");
  tcase_add_checked_fixture(where, set_up, tear_down);
  tcase_add_loop_test(where, the_message_is_aligned, 0, 2);
  tcase_add_loop_test(where, what_is_reserved_is_aligned, 0, 2);
  tcase_add_test(where, plain_bytes_of_a_connection_are_aligned);
  suite_add_tcase(suite, where);
  return support_main(suite);
}
