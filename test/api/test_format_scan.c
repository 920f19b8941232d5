/* Reading by a format: each letter, what does not fit, and finding a value by its key. */
#include "format_helpers.h"

#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(each_letter_reads_its_type) {
  char text[4] = "zzz";
  const char *str;
  const void *bin;
  size_t str_size, bin_size;
  int i;
  unsigned u;
  int64_t long_i;
  uint64_t long_u;
  double f;
  bool b;
  const msgpack_object *o;
  const msgpack_object *object = format_put_and_get(
      "[s,s#,y#,i,u,I,U,f,b,n,[i]]", "abc", "d\0e", (size_t)3, "\0", (size_t)1, INT_MIN,
      UINT_MAX, INT64_MIN, UINT64_MAX, DBL_MIN, true, 5);
  ck_assert_int_eq(forkq_object_scanf(object, "[s,s#,y#,i,u,I,U,f,b,n,o]", text,
                                      sizeof text, &str, &str_size, &bin, &bin_size, &i,
                                      &u, &long_i, &long_u, &f, &b, &o),
                   0);
  ck_assert_str_eq(text, "abc");
  ck_assert(str_size == 3 && memcmp(str, "d\0e", 3) == 0);
  ck_assert(bin_size == 1 && memcmp(bin, "\0", 1) == 0);
  ck_assert(i == INT_MIN && u == UINT_MAX && long_i == INT64_MIN && long_u == UINT64_MAX);
  ck_assert(f == DBL_MIN && b);
  ck_assert_ptr_eq(o, &object->via.array.ptr[10]);
}
END_TEST

START_TEST(keys_may_come_in_any_order) {
  char path[8];
  int hits, x;
  const msgpack_object *object = format_put_and_get("{s:i,s:{s:i,s:i},s:s}", "hits", 1,
                                                    "at", "y", 2, "x", 3, "path", "/a");
  ck_assert_int_eq(forkq_object_scanf(object, "{s:s,s:{s#:i},s:i}", "path", path,
                                      sizeof path, "at", "xyz", (size_t)1, &x, "hits",
                                      &hits),
                   0);
  ck_assert_str_eq(path, "/a");
  ck_assert(hits == 1 && x == 3);
}
END_TEST

START_TEST(more_keys_and_elements_are_ignored) {
  int a, b;
  const msgpack_object *object =
      format_put_and_get("{s:[iii],s:n,s:i}", "a", 1, 2, 3, "x", "b", 4);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[i],s:i}", "a", &a, "b", &b), 0);
  ck_assert(a == 1 && b == 4);
  ck_assert_int_eq(forkq_object_scanf(object, "{}"), 0);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[]}", "a"), 0);
}
END_TEST

START_TEST(of_a_key_that_is_there_twice_the_later_counts) {
  int a;
  const msgpack_object *object = format_put_and_get("{s:i,s:i}", "a", 1, "a", 2);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:i}", "a", &a), 0);
  ck_assert_int_eq(a, 2);
  ck_assert_int_eq(forkq_object_at(object, "a")->via.i64, 2);
}
END_TEST

START_TEST(what_may_be_missing_leaves_its_variables) {
  char text[3] = "ab";
  int a = 1, b = 2, c = 3, there = 4;
  const char *str = "str";
  size_t size = 3;
  const msgpack_object *object = format_put_and_get("{s:i,s:n}", "there", 5, "nil");
  ck_assert_int_eq(forkq_object_scanf(
                       object, "{s?:{s:i,s:[i,{s:s}]},s#?:s#,s:i?,s:s?,s?:i}", "none",
                       "x", &a, "y", &b, "z", text, sizeof text, "none", (size_t)4, &str,
                       &size, "nil", &c, "nil", text, sizeof text, "there", &there),
                   0);
  ck_assert_str_eq(text, "ab");
  ck_assert_str_eq(str, "str");
  ck_assert(a == 1 && b == 2 && c == 3 && there == 5 && size == 3);
}
END_TEST

START_TEST(a_missing_key_is_named) {
  int a = 7, b = 7;
  const msgpack_object *object = format_put_and_get("{s:i,s:[i]}", "a", 1, "list", 2);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:i,s:i}", "a", &a, "hits", &b),
                   FORKQ_EMISSING);
  ck_assert_str_eq(
      forkq_format_error(),
      "object lacks a key or an element: key \"hits\", at 5 of \"{s:i,s:i}\"");
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[ii]}", "list", &a, &b),
                   FORKQ_EMISSING);
  format_assert_said("key \"list\", at 5 of");
  ck_assert(a == 7 && b == 7);
}
END_TEST

START_TEST(another_type_is_an_error_and_nothing_is_stored) {
  static const char *const values[] = { "s", "i", "f", "b", "n", "[]", "{}", "y#" };
  static const struct {
    const char *format;
    const char *takes; /* first letters of the values */
  } readers[] = {
    { "[is]", "s" },  { "[is#]", "s" }, { "[iy#]", "y" }, { "[ii]", "i" },
    { "[iu]", "i" },  { "[iI]", "i" },  { "[iU]", "i" },  { "[ihhu]", "i" },
    { "[if]", "if" }, { "[ib]", "b" },  { "[in]", "n" },  { "[i[]]", "[" },
    { "[i{}]", "{" },
  };
  for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
    char format[8] = "";
    (void)snprintf(format, sizeof format, "[i%s]", values[v]);
    const msgpack_object *object =
        values[v][0] == 'f'   ? format_put_and_get(format, 1, 0.5)
        : values[v][0] == 'i' ? format_put_and_get(format, 1, 1)
                              : format_put_and_get(format, 1, "", (size_t)0);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
      int first = 7;
      char room[64] = "room", untouched[64] = "room";
      void *at[8]; /* pointers to numbers and pointers, a buffer, and its size */
      bool fits = strchr(readers[i].takes, values[v][0]) != NULL;
      bool copies = strcmp(readers[i].format, "[is]") == 0;
      int r = copies ? forkq_object_scanf(object, readers[i].format, &first, room,
                                          sizeof room)
                     : forkq_object_scanf(object, readers[i].format, &first, (void *)room,
                                          (void *)at);
      ck_assert_int_eq(r, fits ? 0 : FORKQ_EWRONGTYPE);
      ck_assert_int_eq(first, fits ? 1 : 7);
      if (!fits) {
        ck_assert(memcmp(room, untouched, sizeof room) == 0);
        format_assert_said("at 2 of");
      }
    }
  }
}
END_TEST

/* One below, at and above each limit of an integer. */
START_TEST(integers_that_do_not_fit_are_out_of_range) {
  static const struct {
    const char *format;
    int64_t least;
    uint64_t most;
  } kinds[] = {
    { "hhi", SCHAR_MIN, SCHAR_MAX }, { "hhu", 0, UCHAR_MAX },
    { "hi", SHRT_MIN, SHRT_MAX },    { "hu", 0, USHRT_MAX },
    { "i", INT_MIN, INT_MAX },       { "u", 0, UINT_MAX },
    { "I", INT64_MIN, INT64_MAX },   { "U", 0, UINT64_MAX },
  };
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    int64_t room = 0;
    const char *format = kinds[i].format;
    ck_assert_int_eq(
        forkq_object_scanf(format_put_and_get("U", kinds[i].most), format, &room), 0);
    ck_assert_int_eq(
        forkq_object_scanf(format_put_and_get("I", kinds[i].least), format, &room), 0);
    room = 7;
    if (kinds[i].most < UINT64_MAX)
      ck_assert_int_eq(
          forkq_object_scanf(format_put_and_get("U", kinds[i].most + 1), format, &room),
          FORKQ_ERANGE);
    if (kinds[i].least > INT64_MIN)
      ck_assert_int_eq(
          forkq_object_scanf(format_put_and_get("I", kinds[i].least - 1), format, &room),
          FORKQ_ERANGE);
    ck_assert_int_eq(room, 7);
  }
}
END_TEST

/* A number beside that which is read stays as it is. */
START_TEST(an_integer_is_stored_in_its_own_bytes) {
  unsigned char bytes[3] = { 1, 2, 3 };
  unsigned short shorts[3] = { 1, 2, 3 };
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("[ii]", 200, 60000), "[hhu,hu]",
                                      &bytes[1], &shorts[1]),
                   0);
  ck_assert(bytes[0] == 1 && bytes[1] == 200 && bytes[2] == 3);
  ck_assert(shorts[0] == 1 && shorts[1] == 60000 && shorts[2] == 3);
}
END_TEST

START_TEST(a_double_takes_integers_that_it_has_exactly) {
  double f = 0;
  const int64_t most = INT64_C(1) << 53;
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("I", most), "f", &f), 0);
  ck_assert(f == 9007199254740992.0);
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("I", -most), "f", &f), 0);
  ck_assert(f == -9007199254740992.0);
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("I", most + 1), "f", &f),
                   FORKQ_ERANGE);
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("I", -most - 1), "f", &f),
                   FORKQ_ERANGE);
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("U", UINT64_MAX), "f", &f),
                   FORKQ_ERANGE);
  ck_assert(f == -9007199254740992.0);
  msgpack_object single = { .type = MSGPACK_OBJECT_FLOAT32, .via.f64 = 0.25 };
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("o", &single), "f", &f), 0);
  ck_assert(f == 0.25);
}
END_TEST

/* An integer that says that it is negative, and is not. */
START_TEST(a_positive_integer_of_the_negative_type) {
  msgpack_object object = { .type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = 200 };
  unsigned char byte;
  double f;
  ck_assert_int_eq(forkq_object_scanf(&object, "hhu", &byte), 0);
  ck_assert_int_eq(byte, 200);
  ck_assert_int_eq(forkq_object_scanf(&object, "hhi", &byte), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_object_scanf(&object, "f", &f), 0);
  ck_assert(f == 200.0);
}
END_TEST

START_TEST(a_string_and_its_nul_must_fit) {
  char text[6] = "12345";
  const msgpack_object *object = format_put_and_get("s", "abc");
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)3), FORKQ_ETOOSHORT);
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)0), FORKQ_ETOOSHORT);
  ck_assert_str_eq(text, "12345");
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)4), 0);
  ck_assert(memcmp(text,
                   "abc\0"
                   "5",
                   6) == 0);
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("s", ""), "s", text, (size_t)1),
                   0);
  ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(a_string_with_a_nul_in_it_is_none_for_c) {
  char text[8] = "12345";
  const msgpack_object *object = format_put_and_get("s#", "a\0b", (size_t)3);
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, sizeof text), FORKQ_EWRONGTYPE);
  ck_assert_str_eq(text, "12345");
}
END_TEST

START_TEST(reading_into_nothing_is_an_error) {
  size_t size;
  const char *str;
  char room[8];
  const msgpack_object *object = format_put_and_get("{s:s,s:i}", "a", "b", "c", 1);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:s}", "a", NULL, (size_t)1),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:s#}", "a", NULL, &size), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:s#}", "a", &str, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:y#}", "a", NULL, &size), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:y#}", "a", &str, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:i}", "c", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:f}", "c", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:b}", "c", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:o}", "c", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s?:i}", "none", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:s}", NULL, room, sizeof room),
                   FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(NULL, "n"), FORKQ_ENULL);
  ck_assert_int_eq(forkq_object_scanf(object, NULL), FORKQ_ENULL);
  format_assert_said("a required argument is NULL: at 0 of \"\"");
}
END_TEST

START_TEST(a_value_is_found_by_its_key) {
  const msgpack_object *object =
      format_put_and_get("{s:i,s:{s:b},s:i}", "a", 1, "ab", "", true, "", 2);
  ck_assert_uint_eq(forkq_object_at(object, "a")->via.u64, 1);
  ck_assert_uint_eq(forkq_object_at(object, "")->via.u64, 2);
  ck_assert(forkq_object_at(forkq_object_at(object, "ab"), "")->via.boolean);
  ck_assert_ptr_null(forkq_object_at(object, "b"));
  ck_assert_ptr_null(forkq_object_at(object, NULL));
  ck_assert_ptr_null(forkq_object_at(NULL, "a"));
  ck_assert_ptr_null(forkq_object_at(forkq_object_at(object, "a"), "a"));
  ck_assert_ptr_null(forkq_object_at(forkq_object_at(object, "none"), "a"));
}
END_TEST

/* A key that is no str is not found, and is no harm. */
START_TEST(a_map_may_have_keys_of_any_type) {
  int a = 0;
  msgpack_object_kv entries[] = {
    { { MSGPACK_OBJECT_NIL, { 0 } }, { MSGPACK_OBJECT_NIL, { 0 } } },
    { { MSGPACK_OBJECT_STR, { .str = { 1, "a" } } },
      { MSGPACK_OBJECT_POSITIVE_INTEGER, { .u64 = 3 } } },
    { { MSGPACK_OBJECT_BIN, { .bin = { 1, "a" } } },
      { MSGPACK_OBJECT_POSITIVE_INTEGER, { .u64 = 4 } } },
  };
  msgpack_object map = { .type = MSGPACK_OBJECT_MAP, .via.map = { 3, entries } };
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("o", &map), "{s:i}", "a", &a),
                   0);
  ck_assert_int_eq(a, 3);
}
END_TEST

START_TEST(a_long_key_and_format_are_cut_not_overrun) {
  char key[300] = "", format[300] = "";
  int n;
  memset(key, 'k', sizeof key - 1);
  memset(format, ' ', sizeof format - 1);
  memcpy(format, "{s:i}", 5);
  const msgpack_object *object = format_put_and_get("{}");
  ck_assert_int_eq(forkq_object_scanf(object, format, key, &n), FORKQ_EMISSING);
  format_assert_said("key \"kkkkkkkk");
  ck_assert_uint_lt(strlen(forkq_format_error()), 160);
}
END_TEST

static void *look_for_failures(void *arg) {
  (void)arg;
  return forkq_format_error()[0] == '\0' ? NULL : queue;
}

START_TEST(each_thread_has_its_own_failure) {
  pthread_t thread;
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "?"), FORKQ_EFORMAT);
  ck_assert_int_eq(pthread_create(&thread, NULL, look_for_failures, NULL), 0);
  ck_assert_ptr_null(support_join(thread));
  format_assert_said("format is not valid");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("format_scan");
  TCase *tcase = format_case(suite, "reading");
  tcase_add_test(tcase, each_letter_reads_its_type);
  tcase_add_test(tcase, keys_may_come_in_any_order);
  tcase_add_test(tcase, more_keys_and_elements_are_ignored);
  tcase_add_test(tcase, of_a_key_that_is_there_twice_the_later_counts);
  tcase_add_test(tcase, what_may_be_missing_leaves_its_variables);
  tcase_add_test(tcase, a_missing_key_is_named);
  tcase_add_test(tcase, another_type_is_an_error_and_nothing_is_stored);
  tcase_add_test(tcase, integers_that_do_not_fit_are_out_of_range);
  tcase_add_test(tcase, an_integer_is_stored_in_its_own_bytes);
  tcase_add_test(tcase, a_double_takes_integers_that_it_has_exactly);
  tcase_add_test(tcase, a_positive_integer_of_the_negative_type);
  tcase_add_test(tcase, a_string_and_its_nul_must_fit);
  tcase_add_test(tcase, a_string_with_a_nul_in_it_is_none_for_c);
  tcase_add_test(tcase, reading_into_nothing_is_an_error);
  tcase_add_test(tcase, a_value_is_found_by_its_key);
  tcase_add_test(tcase, a_map_may_have_keys_of_any_type);
  tcase_add_test(tcase, a_long_key_and_format_are_cut_not_overrun);
  tcase_add_test(tcase, each_thread_has_its_own_failure);
  return support_main(suite);
}
