/* The received item: whose memory, for how long, and when it is allocated. */
#define _GNU_SOURCE
#include "codec/item.h"
#include "support.h"

#include <errno.h>
#include <forkq/item.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting what msgpack's zone asks of malloc --------------------------------------------
 *
 * A sanitizer has its own malloc. Elsewhere the tests put themselves before glibc's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define COUNTS_MALLOC 0
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#    define COUNTS_MALLOC 0
#  endif
#endif
#ifndef COUNTS_MALLOC
#  define COUNTS_MALLOC 1
#endif

static long mallocs;

#if COUNTS_MALLOC
static bool malloc_fails;

void *__libc_malloc(size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) {
  mallocs++;
  if (malloc_fails) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_malloc(size);
}

void *realloc(void *memory, size_t size) {
  mallocs++;
  if (malloc_fails) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_realloc(memory, size);
}
#endif

/* ---- messages ---------------------------------------------------------------------- */

static forkq_item_t item = FORKQ_ITEM_INIT;
static msgpack_sbuffer message;

/* [number, "xxx...", {number: [number, ...]}] with `strings` x and `count` numbers. */
static void make_message(uint32_t number, size_t strings, size_t count) {
  msgpack_packer packer;
  msgpack_sbuffer_clear(&message);
  msgpack_packer_init(&packer, &message, msgpack_sbuffer_write);
  msgpack_pack_array(&packer, 3);
  msgpack_pack_uint32(&packer, number);
  msgpack_pack_str(&packer, strings);
  char *text = malloc(strings + 1);
  memset(text, 'x', strings);
  msgpack_pack_str_body(&packer, text, strings);
  free(text);
  msgpack_pack_map(&packer, 1);
  msgpack_pack_uint32(&packer, number);
  msgpack_pack_array(&packer, count);
  for (size_t i = 0; i < count; i++)
    msgpack_pack_uint32(&packer, number);
}

/* As a get does it. */
static int deliver(const void *data, size_t size) {
  forkq__item_clear(&item);
  int r = forkq__item_reserve(&item, size);
  if (r < 0)
    return r;
  memcpy(item.memory_, data, size);
  forkq__item_finish(&item, size);
  return forkq__item_unpack(&item);
}

static int deliver_message(void) {
  return deliver(message.data, message.size);
}

static void assert_holds(uint32_t number, size_t strings, size_t count) {
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  const msgpack_object *parts = item.object.via.array.ptr;
  ck_assert_uint_eq(parts[0].via.u64, number);
  ck_assert_uint_eq(parts[1].via.str.size, strings);
  ck_assert_uint_eq(parts[2].via.map.ptr[0].key.via.u64, number);
  ck_assert_uint_eq(parts[2].via.map.ptr[0].val.via.array.size, count);
  ck_assert_uint_eq(item.size, message.size);
  ck_assert_mem_eq(item.data, message.data, message.size);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  msgpack_sbuffer_destroy(&message);
  msgpack_sbuffer_init(&message);
}

/* ---- tests ------------------------------------------------------------------------- */

START_TEST(a_message_comes_out_as_it_went_in) {
  static const size_t sizes[] = { 0, 1, 31, 32, 300, 5000, 100000 };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    make_message(100000 + (uint32_t)i, sizes[i], sizes[i] / 2);
    ck_assert_int_eq(deliver_message(), 0);
    assert_holds(100000 + (uint32_t)i, sizes[i], sizes[i] / 2);
  }
}
END_TEST

START_TEST(strings_point_into_the_data) {
  make_message(1, 500, 3);
  ck_assert_int_eq(deliver_message(), 0);
  const char *text = item.object.via.array.ptr[1].via.str.ptr;
  ck_assert(text > item.data && text + 500 <= item.data + item.size);
}
END_TEST

/* The largest comes first, then all sizes below it. */
START_TEST(a_grown_item_allocates_nothing) {
  support_heap_install();
  make_message(1, 3000, 3000);
  ck_assert_int_eq(deliver_message(), 0);
  const void *memory = item.memory_, *zone = item.zone_;
  long requests = support_heap_requests();
  for (size_t n = 0; n <= 3000; n += 10) {
    make_message(1, n, n);
    long before = mallocs;
    int r = deliver_message();
    support_assert(r == 0 && mallocs == before);
    support_assert(item.memory_ == memory && item.zone_ == zone);
  }
  ck_assert_int_eq(support_heap_requests(), requests);
}
END_TEST

START_TEST(growing_costs_few_allocations) {
  support_heap_install();
  for (size_t n = 0; n < 100000; n += 10) {
    support_assert(forkq__item_reserve(&item, n) == 0);
    support_assert(item.capacity_ >= n && item.capacity_ <= 2 * n + 256);
  }
  ck_assert_int_le(support_heap_requests(), 12);
}
END_TEST

/* As on a machine where a size has 32 bits: an object of so many elements, or bytes. */
START_TEST(memory_grows_to_its_limit_and_not_beyond) {
  const size_t most = INT32_MAX;
  ck_assert_uint_eq(forkq__grown(256, 0, most), 256);
  ck_assert_uint_eq(forkq__grown(256, 256, most), 256);
  ck_assert_uint_eq(forkq__grown(256, 257, most), 512);
  ck_assert_uint_eq(forkq__grown(300, 301, most), 600);
  ck_assert_uint_eq(forkq__grown(256, 1 << 30, most), 1 << 30);
  ck_assert_uint_eq(forkq__grown(256, (1 << 30) + 1, most), most);
  ck_assert_uint_eq(forkq__grown(256, most, most), most);
  ck_assert_uint_eq(forkq__grown(most, most, most), most);
  ck_assert_uint_eq(forkq__grown(most, (uint64_t)most + 1, most), 0);
  ck_assert_uint_eq(forkq__grown(256, UINT32_MAX, most), 0);
  ck_assert_uint_eq(
      forkq__grown(1024, (uint64_t)INT32_MAX * sizeof(msgpack_object), most), 0);
  ck_assert_uint_eq(forkq__grown(1, UINT64_MAX, FORKQ__MEMORY_MAX), 0);
  ck_assert_uint_eq(forkq__grown(1, FORKQ__MEMORY_MAX, FORKQ__MEMORY_MAX),
                    FORKQ__MEMORY_MAX);
}
END_TEST

START_TEST(more_than_memory_can_have_is_no_memory) {
  make_message(1, 10, 10);
  ck_assert_int_eq(deliver_message(), 0);
  ck_assert_int_eq(forkq__item_reserve(&item, SIZE_MAX), -ENOMEM);
  ck_assert_int_eq(deliver_message(), 0);
  assert_holds(1, 10, 10);
}
END_TEST

START_TEST(reserve_keeps_what_is_there) {
  char bytes[200];
  support_fill(bytes, sizeof bytes, 1);
  ck_assert_int_eq(forkq__item_reserve(&item, sizeof bytes), 0);
  memcpy(item.memory_, bytes, sizeof bytes);
  ck_assert_int_eq(forkq__item_reserve(&item, 100000), 0);
  ck_assert_mem_eq(item.memory_, bytes, sizeof bytes);
}
END_TEST

START_TEST(clear_leaves_no_object_and_keeps_the_memory) {
  make_message(1, 10, 10);
  ck_assert_int_eq(deliver_message(), 0);
  const void *memory = item.memory_;
  forkq__item_clear(&item);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_ptr_null(item.data);
  ck_assert_uint_eq(item.size, 0);
  ck_assert_ptr_eq(item.memory_, memory);
}
END_TEST

START_TEST(destroy_leaves_it_as_new_and_fit_for_use) {
  const forkq_item_t fresh = FORKQ_ITEM_INIT;
  support_heap_install();
  for (uint32_t i = 0; i < 3; i++) {
    make_message(i, 1000, 1000);
    ck_assert_int_eq(deliver_message(), 0);
    assert_holds(i, 1000, 1000);
    forkq_item_destroy(&item);
    ck_assert_int_eq(support_heap_live(), 0);
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
    ck_assert(item.data == fresh.data && item.size == 0 && item.memory_ == NULL &&
              item.capacity_ == 0 && item.zone_ == NULL);
  }
  forkq_item_destroy(&item);
  forkq_item_destroy(NULL);
}
END_TEST

START_TEST(zeroed_memory_is_an_item) {
  memset(&item, 0, sizeof item);
  make_message(4, 5, 6);
  ck_assert_int_eq(deliver_message(), 0);
  assert_holds(4, 5, 6);
}
END_TEST

START_TEST(bad_bytes_leave_no_object_and_a_usable_item) {
  make_message(1, 10, 10);
  ck_assert_int_eq(deliver_message(), 0);
  for (size_t n = 0; n < message.size; n++) {
    ck_assert_int_eq(deliver(message.data, n), FORKQ_EBADFRAME);
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  }
  ck_assert_int_eq(deliver_message(), 0);
  assert_holds(1, 10, 10);
}
END_TEST

START_TEST(no_memory_for_the_bytes_leaves_it_usable) {
  support_heap_install();
  make_message(1, 10, 10);
  ck_assert_int_eq(deliver_message(), 0);
  make_message(2, 10000, 10);
  support_heap_fail_at(1, true);
  ck_assert_int_eq(deliver_message(), -ENOMEM);
  ck_assert_int_eq(deliver_message(), -ENOMEM);
  ck_assert(item.object.type == MSGPACK_OBJECT_NIL && item.size == 0);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(deliver_message(), 0);
  assert_holds(2, 10000, 10);
  forkq_item_destroy(&item);
  ck_assert_int_eq(support_heap_live(), 0);
}
END_TEST

#if COUNTS_MALLOC
START_TEST(no_memory_for_the_object_leaves_it_usable) {
  make_message(1, 10, 10);
  ck_assert_int_eq(deliver_message(), 0);
  make_message(2, 10, 10000);
  ck_assert_int_eq(forkq__item_reserve(&item, message.size), 0);
  for (int i = 0; i < 2; i++) {
    malloc_fails = true;
    int r = deliver_message();
    malloc_fails = false;
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  }
  ck_assert_int_eq(deliver_message(), 0);
  assert_holds(2, 10, 10000);
}
END_TEST
#endif

/* ---- borrowed bytes ------------------------------------------------------------------------ */

#define LENT 10 /* bytes of a message here */

static bool lends(const char head[LENT]) {
  return forkq__item_lend(&item, (const uint8_t *)head, LENT);
}

START_TEST(a_str_bin_or_ext_is_lent_as_it_is) {
  static const struct {
    const char *bytes;
    msgpack_object_type type;
    uint32_t before;
  } heads[] = {
    { "\xc5\0\7abcdefg", MSGPACK_OBJECT_BIN, 3 },
    { "\xc6\0\0\0\5abcde", MSGPACK_OBJECT_BIN, 5 },
    { "\xda\0\7abcdefg", MSGPACK_OBJECT_STR, 3 },
    { "\xdb\0\0\0\5abcde", MSGPACK_OBJECT_STR, 5 },
    { "\xc8\0\6\xf9zbcdef", MSGPACK_OBJECT_EXT, 4 },
    { "\xc9\0\0\0\4\xf9zbcd", MSGPACK_OBJECT_EXT, 6 },
    { "\xc4\10abcdefgh", MSGPACK_OBJECT_BIN, 2 },
    { "\xc7\7\xf9zbcdefg", MSGPACK_OBJECT_EXT, 3 },
    { "\xd9\10abcdefgh", MSGPACK_OBJECT_STR, 2 },
    { "\xa9zbcdefghi", MSGPACK_OBJECT_STR, 1 },
    { "\xd7\xf9zbcdefgh", MSGPACK_OBJECT_EXT, 2 },
  };
  for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
    const char *bytes = heads[i].bytes, *payload = bytes + heads[i].before;
    ck_assert(lends(bytes));
    ck_assert(item.data == bytes && item.size == LENT);
    ck_assert_int_eq(item.object.type, heads[i].type);
    bool ext = heads[i].type == MSGPACK_OBJECT_EXT;
    ck_assert_uint_eq(ext ? item.object.via.ext.size : item.object.via.bin.size,
                      LENT - heads[i].before);
    ck_assert((ext ? item.object.via.ext.ptr : item.object.via.bin.ptr) == payload);
    ck_assert(!ext || item.object.via.ext.type == -7);
    forkq__item_clear(&item);
  }
}
END_TEST

START_TEST(nothing_else_is_lent) {
  static const char *const others[] = {
    "\xc5\0\6abcdefg",   "\xc5\0\10abcdefg",         "\xc6\xff\xff\xff\xffxyzzy",
    "\xdb\0\0\0\4abcde", "\xc8\0\7\xf9zbcdef",       "\xc9\0\0\0\5\xf9zbcd",
    "\xdc\0\7abcdefg",   "\x99\1\2\3\4\5\6\7\10\11", "\xc4\7abcdefgh",
    "\xa8xbcdefghi",     "\xd6\xf9xbcdefgh",         "\xc1\0\7abcdefg",
  };
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    ck_assert(!lends(others[i]));
    ck_assert(item.data == NULL && item.size == 0);
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  }
  ck_assert(!forkq__item_lend(&item, (const uint8_t *)"\xc5\0\2ab", 2));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("item");
  TCase *tcase = tcase_create("item");
  tcase_add_checked_fixture(tcase, NULL, tear_down);
  tcase_add_test(tcase, a_message_comes_out_as_it_went_in);
  tcase_add_test(tcase, strings_point_into_the_data);
  tcase_add_test(tcase, a_grown_item_allocates_nothing);
  tcase_add_test(tcase, growing_costs_few_allocations);
  tcase_add_test(tcase, memory_grows_to_its_limit_and_not_beyond);
  tcase_add_test(tcase, more_than_memory_can_have_is_no_memory);
  tcase_add_test(tcase, reserve_keeps_what_is_there);
  tcase_add_test(tcase, clear_leaves_no_object_and_keeps_the_memory);
  tcase_add_test(tcase, destroy_leaves_it_as_new_and_fit_for_use);
  tcase_add_test(tcase, zeroed_memory_is_an_item);
  tcase_add_test(tcase, bad_bytes_leave_no_object_and_a_usable_item);
  tcase_add_test(tcase, no_memory_for_the_bytes_leaves_it_usable);
  tcase_add_test(tcase, a_str_bin_or_ext_is_lent_as_it_is);
  tcase_add_test(tcase, nothing_else_is_lent);
#if COUNTS_MALLOC
  tcase_add_test(tcase, no_memory_for_the_object_leaves_it_usable);
#endif
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
