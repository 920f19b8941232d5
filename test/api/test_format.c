/* Packing and reading by a format: each letter, what does not fit, and formats at random. */
#include "codec/serializer.h"
#include "queue_helpers.h"

#include <float.h>
#include <limits.h>
#include <stdio.h>
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

static const msgpack_object *got(void) {
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  return &item.object;
}

/* What is put by a format: the object that a get returns. */
static const msgpack_object *put_and_get(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_queue_vputf(queue, PATIENCE_MS, format, args);
  va_end(args);
  ck_assert_int_eq(r, 0);
  return got();
}

static void assert_bytes(const void *bytes, size_t size) {
  ck_assert_uint_eq(item.size, size);
  ck_assert(memcmp(item.data, bytes, size) == 0);
}

static void assert_said(const char *text) {
  ck_assert_msg(strstr(forkq_format_error(), text) != NULL, "%s: %s", text,
                forkq_format_error());
}

/* ---- packing ------------------------------------------------------------------------------- */

START_TEST(a_map_of_a_string_and_a_number) {
  (void)put_and_get("{s:s,s:i}", "path", "/a", "hits", 3);
  assert_bytes("\x82\xa4path\xa2/a\xa4hits\x03", 15);
}
END_TEST

START_TEST(what_stands_between_letters_means_nothing) {
  (void)put_and_get(" {ss ,\ts::i}\n", "path", "/a", "hits", 3);
  assert_bytes("\x82\xa4path\xa2/a\xa4hits\x03", 15);
}
END_TEST

START_TEST(each_letter_packs_its_type) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true };
  (void)put_and_get("[s s# y# i u I U f b b n o]", "a", "bcd", (size_t)2, "\0e",
                    (size_t)2, -1, 1u, INT64_MIN, UINT64_MAX, 0.5, true, false, &object);
  assert_bytes("\x9c\xa1"
               "a\xa2"
               "bc\xc4\x02\0e\xff\x01"
               "\xd3\x80\0\0\0\0\0\0\0\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
               "\xcb\x3f\xe0\0\0\0\0\0\0\xc3\xc2\xc0\xc3",
               43);
}
END_TEST

START_TEST(containers_in_containers) {
  (void)put_and_get("{s:[],s:{},s#:[[i],{s:[ii]}]}", "a", "b", "cx", (size_t)1, 1, "d", 2,
                    3);
  assert_bytes("\x83\xa1"
               "a\x90\xa1"
               "b\x80\xa1"
               "c\x92\x91\x01\x81\xa1"
               "d\x92\x02\x03",
               18);
}
END_TEST

START_TEST(more_members_than_a_short_header_counts) {
  const msgpack_object *object = put_and_get("[iiii iiii iiii iiii i]", 0, 1, 2, 3, 4, 5,
                                             6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
  ck_assert_int_eq(object->type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(object->via.array.size, 17);
  ck_assert_uint_eq(object->via.array.ptr[16].via.u64, 16);
}
END_TEST

START_TEST(null_is_nil_where_it_may_be) {
  (void)put_and_get("[s?,s#?,y#?,o?]", NULL, NULL, (size_t)7, NULL, (size_t)0, NULL);
  assert_bytes("\x94\xc0\xc0\xc0\xc0", 5);
  (void)put_and_get("[s?,s#,y#]", "", NULL, (size_t)0, NULL, (size_t)0);
  assert_bytes("\x93\xa0\xa0\xc4\0", 5);
}
END_TEST

START_TEST(null_is_an_error_elsewhere) {
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "{s:i,s:s}", "a", 1, "b", NULL),
                   FORKQ_ENULL);
  assert_said("a required argument is NULL: at 7 of \"{s:i,s:s}\"");
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "{s:i}", NULL, 1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "s#", NULL, (size_t)1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "y#", NULL, (size_t)1), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "o", NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_putf(NULL, 0, "n"), FORKQ_ENULL);
  ck_assert_int_eq(forkq_packf(NULL, "n"), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(short_integers_are_not_cut) {
  (void)put_and_get("[hi,hi,hu,hhi,hhi,hhu]", SHRT_MIN, SHRT_MAX, USHRT_MAX, SCHAR_MIN,
                    SCHAR_MAX, UCHAR_MAX);
  short h[2];
  unsigned short hu;
  signed char hh[2];
  unsigned char hhu;
  ck_assert_int_eq(forkq_object_scanf(&item.object, "[hi,hi,hu,hhi,hhi,hhu]", &h[0],
                                      &h[1], &hu, &hh[0], &hh[1], &hhu),
                   0);
  ck_assert(h[0] == SHRT_MIN && h[1] == SHRT_MAX && hu == USHRT_MAX);
  ck_assert(hh[0] == SCHAR_MIN && hh[1] == SCHAR_MAX && hhu == UCHAR_MAX);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hi", SHRT_MAX + 1), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hi", SHRT_MIN - 1), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hu", USHRT_MAX + 1u), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hhi", SCHAR_MAX + 1), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hhi", SCHAR_MIN - 1), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "hhu", UCHAR_MAX + 1u), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(a_string_longer_than_msgpack_has_is_too_big) {
  if (sizeof(size_t) > sizeof(uint32_t))
    ck_assert_int_eq(forkq_queue_putf(queue, 0, "s#", "", (size_t)UINT32_MAX + 1),
                     FORKQ_ETOOBIG);
}
END_TEST

static const char *const wrong[] = {
  "",       " ",    "x",    "ii",   "i i",    "[",       "{",     "]",      "}",
  "[}",     "{]",   "[i",   "{s:i", "{s}",    "{s:i,s}", "{i:i}", "{n:i}",  "{[]:i}",
  "{y#:i}", "[i]]", "[]i",  "y",    "i#",     "o#",      "s##",   "s??",    "s?#",
  "hs",     "hI",   "hhhi", "h",    "hh",     "[hh]",    "h[]",   "[]?",    "{}?",
  "[]#",    "n#",   "%s",   "s ?",  "s #",    "h i",     "[i]?",  "{hs:i}", "i\x80",
  "{s:i}h", "#",    "?",    "ih",   "{s::,}",
};
#define WRONG (int)(sizeof wrong / sizeof *wrong)

/* Also where the queue is full: it depends on the format alone. */
START_TEST(a_wrong_format_is_an_error_of_the_put) {
  int number = 7;
  ck_assert_int_eq(forkq_queue_putf(queue, 0, wrong[_i]), FORKQ_EFORMAT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  (void)put_and_get("i", 1);
  ck_assert_int_eq(forkq_object_scanf(&item.object, wrong[_i], &number), FORKQ_EFORMAT);
  ck_assert_int_eq(number, 7);
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(forkq_queue_putf(queue, 0, "i", i), 0);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, wrong[_i]), FORKQ_EFORMAT);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "i", 4), FORKQ_FULL);
}
END_TEST

START_TEST(some_formats_are_for_reading_only) {
  static const char *const formats[] = { "{s?:i}", "{s#?:i}", "i?", "f?", "b?", "n?" };
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
    ck_assert_int_eq(forkq_queue_putf(queue, 0, formats[i]), FORKQ_EFORMAT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(a_wrong_format_is_pointed_at) {
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "{s:i,i:s}"), FORKQ_EFORMAT);
  ck_assert_str_eq(forkq_format_error(), "format is not valid: at 5 of \"{s:i,i:s}\"");
}
END_TEST

/* As deep as a message may be, and one deeper; with an object in it. */
START_TEST(formats_may_be_as_deep_as_messages) {
  char format[2 * FORKQ_DEPTH_MAX + 3] = "";
  memset(format, '[', FORKQ_DEPTH_MAX);
  memset(format + FORKQ_DEPTH_MAX, ']', FORKQ_DEPTH_MAX);
  const msgpack_object *object = put_and_get(format);
  ck_assert_int_eq(forkq_object_scanf(object, format), 0);
  memset(format, '[', FORKQ_DEPTH_MAX + 1);
  memset(format + FORKQ_DEPTH_MAX + 1, ']', FORKQ_DEPTH_MAX + 1);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, format), FORKQ_ETOODEEP);
  ck_assert_int_eq(forkq_object_scanf(object, format), FORKQ_ETOODEEP);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "[o]", object), FORKQ_ETOODEEP);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(an_object_of_no_type_is_bad) {
  msgpack_object object = { .type = (msgpack_object_type)99 };
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "[io]", 1, &object), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

static int put_by(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_queue_vputf(queue, 0, format, args);
  if (r == 0) /* the list is as it was */
    r = forkq_queue_vputf(queue, 0, format, args);
  va_end(args);
  return r;
}

START_TEST(a_wrapper_passes_its_arguments_on) {
  ck_assert_int_eq(put_by("[sif]", "a", 1, 0.5), 0);
  for (int i = 0; i < 2; i++) {
    (void)got();
    assert_bytes("\x93\xa1"
                 "a\x01\xcb\x3f\xe0\0\0\0\0\0\0",
                 13);
  }
}
END_TEST

/* Beside the pipe as well as in it. */
START_TEST(a_large_string_goes_through) {
  char *text = malloc(1 << 20);
  const char *data;
  size_t size = 1 << 20, got_size;
  support_fill(text, size, 1);
  ck_assert_int_eq(
      forkq_object_scanf(put_and_get("[s#]", text, size), "[s#]", &data, &got_size), 0);
  ck_assert_uint_eq(got_size, size);
  ck_assert(memcmp(data, text, size) == 0);
  free(text);
}
END_TEST

/* ---- within packing functions -------------------------------------------------------------- */

static int pack_pair(msgpack_packer *packer, void *arg) {
  return forkq_packf(packer, arg, "a", 1);
}

START_TEST(connections_and_simple_queues_take_formats) {
  forkq_connection_t *a, *b;
  forkq_simple_queue_t *simple;
  char text[2];
  int number;
  ck_assert_int_eq(forkq_pipe(&a, &b, 0), 0);
  ck_assert_int_eq(forkq_connection_send_with(b, pack_pair, "[si]"), 0);
  ck_assert_int_eq(forkq_connection_send_with(b, pack_pair, "[si"), FORKQ_EPACK);
  assert_said("format is not valid");
  ck_assert_int_eq(forkq_connection_recv(a, &item), 0);
  ck_assert_int_eq(forkq_object_scanf(&item.object, "[si]", text, sizeof text, &number),
                   0);
  ck_assert_int_eq(number, 1);
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  ck_assert_int_eq(forkq_simple_queue_put_with(simple, pack_pair, "{s:i}"), 0);
  ck_assert_int_eq(forkq_simple_queue_get(simple, &item), 0);
  ck_assert_int_eq(forkq_object_scanf(&item.object, "{s:i}", "a", &number), 0);
  forkq_simple_queue_destroy(simple);
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
}
END_TEST

static int refuse(void *data, const char *buf, size_t size) {
  (void)data;
  (void)buf;
  (void)size;
  return 1;
}

START_TEST(a_write_that_fails_ends_the_packing) {
  msgpack_packer packer;
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  msgpack_packer_init(&packer, NULL, refuse);
  ck_assert_int_eq(forkq_packf(&packer, "[]"), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "{}"), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "n"), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "s", ""), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "s?", NULL), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "y#", "a", (size_t)1), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "i", 1), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "u", 1u), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "f", 1.0), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "b", true), FORKQ_EPACK);
  ck_assert_int_eq(forkq_packf(&packer, "o", &nil), FORKQ_EPACK);
  assert_said("packing function failed: at 0 of \"o\"");
}
END_TEST

/* ---- reading ------------------------------------------------------------------------------- */

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
  const msgpack_object *object =
      put_and_get("[s,s#,y#,i,u,I,U,f,b,n,[i]]", "abc", "d\0e", (size_t)3, "\0",
                  (size_t)1, INT_MIN, UINT_MAX, INT64_MIN, UINT64_MAX, DBL_MIN, true, 5);
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
  const msgpack_object *object =
      put_and_get("{s:i,s:{s:i,s:i},s:s}", "hits", 1, "at", "y", 2, "x", 3, "path", "/a");
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
      put_and_get("{s:[iii],s:n,s:i}", "a", 1, 2, 3, "x", "b", 4);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[i],s:i}", "a", &a, "b", &b), 0);
  ck_assert(a == 1 && b == 4);
  ck_assert_int_eq(forkq_object_scanf(object, "{}"), 0);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[]}", "a"), 0);
}
END_TEST

START_TEST(of_a_key_that_is_there_twice_the_later_counts) {
  int a;
  const msgpack_object *object = put_and_get("{s:i,s:i}", "a", 1, "a", 2);
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
  const msgpack_object *object = put_and_get("{s:i,s:n}", "there", 5, "nil");
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
  const msgpack_object *object = put_and_get("{s:i,s:[i]}", "a", 1, "list", 2);
  ck_assert_int_eq(forkq_object_scanf(object, "{s:i,s:i}", "a", &a, "hits", &b),
                   FORKQ_EMISSING);
  ck_assert_str_eq(
      forkq_format_error(),
      "object lacks a key or an element: key \"hits\", at 5 of \"{s:i,s:i}\"");
  ck_assert_int_eq(forkq_object_scanf(object, "{s:[ii]}", "list", &a, &b),
                   FORKQ_EMISSING);
  assert_said("key \"list\", at 5 of");
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
    const msgpack_object *object = values[v][0] == 'f' ? put_and_get(format, 1, 0.5)
                                   : values[v][0] == 'i'
                                       ? put_and_get(format, 1, 1)
                                       : put_and_get(format, 1, "", (size_t)0);
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
        assert_said("at 2 of");
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
    ck_assert_int_eq(forkq_object_scanf(put_and_get("U", kinds[i].most), format, &room),
                     0);
    ck_assert_int_eq(forkq_object_scanf(put_and_get("I", kinds[i].least), format, &room),
                     0);
    room = 7;
    if (kinds[i].most < UINT64_MAX)
      ck_assert_int_eq(
          forkq_object_scanf(put_and_get("U", kinds[i].most + 1), format, &room),
          FORKQ_ERANGE);
    if (kinds[i].least > INT64_MIN)
      ck_assert_int_eq(
          forkq_object_scanf(put_and_get("I", kinds[i].least - 1), format, &room),
          FORKQ_ERANGE);
    ck_assert_int_eq(room, 7);
  }
}
END_TEST

/* A number beside that which is read stays as it is. */
START_TEST(an_integer_is_stored_in_its_own_bytes) {
  unsigned char bytes[3] = { 1, 2, 3 };
  unsigned short shorts[3] = { 1, 2, 3 };
  ck_assert_int_eq(forkq_object_scanf(put_and_get("[ii]", 200, 60000), "[hhu,hu]",
                                      &bytes[1], &shorts[1]),
                   0);
  ck_assert(bytes[0] == 1 && bytes[1] == 200 && bytes[2] == 3);
  ck_assert(shorts[0] == 1 && shorts[1] == 60000 && shorts[2] == 3);
}
END_TEST

START_TEST(a_double_takes_integers_that_it_has_exactly) {
  double f = 0;
  const int64_t most = INT64_C(1) << 53;
  ck_assert_int_eq(forkq_object_scanf(put_and_get("I", most), "f", &f), 0);
  ck_assert(f == 9007199254740992.0);
  ck_assert_int_eq(forkq_object_scanf(put_and_get("I", -most), "f", &f), 0);
  ck_assert(f == -9007199254740992.0);
  ck_assert_int_eq(forkq_object_scanf(put_and_get("I", most + 1), "f", &f), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_object_scanf(put_and_get("I", -most - 1), "f", &f),
                   FORKQ_ERANGE);
  ck_assert_int_eq(forkq_object_scanf(put_and_get("U", UINT64_MAX), "f", &f),
                   FORKQ_ERANGE);
  ck_assert(f == -9007199254740992.0);
  msgpack_object single = { .type = MSGPACK_OBJECT_FLOAT32, .via.f64 = 0.25 };
  ck_assert_int_eq(forkq_object_scanf(put_and_get("o", &single), "f", &f), 0);
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
  const msgpack_object *object = put_and_get("s", "abc");
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)3), FORKQ_ETOOSHORT);
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)0), FORKQ_ETOOSHORT);
  ck_assert_str_eq(text, "12345");
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, (size_t)4), 0);
  ck_assert(memcmp(text,
                   "abc\0"
                   "5",
                   6) == 0);
  ck_assert_int_eq(forkq_object_scanf(put_and_get("s", ""), "s", text, (size_t)1), 0);
  ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(a_string_with_a_nul_in_it_is_none_for_c) {
  char text[8] = "12345";
  const msgpack_object *object = put_and_get("s#", "a\0b", (size_t)3);
  ck_assert_int_eq(forkq_object_scanf(object, "s", text, sizeof text), FORKQ_EWRONGTYPE);
  ck_assert_str_eq(text, "12345");
}
END_TEST

START_TEST(reading_into_nothing_is_an_error) {
  size_t size;
  const char *str;
  char room[8];
  const msgpack_object *object = put_and_get("{s:s,s:i}", "a", "b", "c", 1);
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
  assert_said("a required argument is NULL: at 0 of \"\"");
}
END_TEST

START_TEST(a_value_is_found_by_its_key) {
  const msgpack_object *object =
      put_and_get("{s:i,s:{s:b},s:i}", "a", 1, "ab", "", true, "", 2);
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
  ck_assert_int_eq(forkq_object_scanf(put_and_get("o", &map), "{s:i}", "a", &a), 0);
  ck_assert_int_eq(a, 3);
}
END_TEST

START_TEST(a_long_key_and_format_are_cut_not_overrun) {
  char key[300] = "", format[300] = "";
  int n;
  memset(key, 'k', sizeof key - 1);
  memset(format, ' ', sizeof format - 1);
  memcpy(format, "{s:i}", 5);
  const msgpack_object *object = put_and_get("{}");
  ck_assert_int_eq(forkq_object_scanf(object, format, key, &n), FORKQ_EMISSING);
  assert_said("key \"kkkkkkkk");
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
  assert_said("format is not valid");
}
END_TEST

/* ---- formats at random --------------------------------------------------------------------- */

/* The grammar once more: the end of a value, or NULL if there is none. */
static const char *skip(const char *p) {
  return p + strspn(p, " \t\n,:");
}

static const char *end_of_value(const char *p, bool reading, int depth);

static const char *end_of_key(const char *p, bool reading) {
  if (*p++ != 's')
    return NULL;
  p += *p == '#';
  return p + (reading && *p == '?');
}

static const char *end_of_container(const char *p, bool reading, int depth) {
  char end = *p == '{' ? '}' : ']';
  if (depth == FORKQ_DEPTH_MAX)
    return NULL;
  for (p = skip(p + 1); p != NULL && *p != end; p = p == NULL ? p : skip(p)) {
    if (end == '}')
      p = end_of_key(p, reading);
    if (p != NULL)
      p = end_of_value(skip(p), reading, depth + 1);
    if (p == NULL)
      return NULL;
  }
  return p + 1;
}

static const char *end_of_value(const char *p, bool reading, int depth) {
  if (*p == '[' || *p == '{')
    return end_of_container(p, reading, depth);
  bool short_one = *p == 'h';
  p += short_one;
  p += short_one && *p == 'h';
  char letter = *p;
  if (letter == '\0' || strchr(short_one ? "iu" : "syiuIUfbno", letter) == NULL)
    return NULL;
  p++;
  if (letter == 'y' && *p != '#')
    return NULL;
  p += (letter == 's' || letter == 'y') && *p == '#';
  return p + (*p == '?' && (reading || strchr("syo", letter) != NULL));
}

static bool is_valid(const char *format, bool reading) {
  const char *end = end_of_value(skip(format), reading, 0);
  return end != NULL && *skip(end) == '\0';
}

/* Half of them are what a grammar would make, and half are letters as they come. */
static void make_format(char *format, size_t room, uint64_t *seed) {
  static const char letters[] = "ssiuIUbnohh[[{{]]}}##??:, yx";
  static const char *const parts[] = {
    "i",   "s",  "s:", "[",  "]",  "{",   "}",  "s:i,", "n",    "o?", "b", "hi",
    "hhu", "y#", "s#", "s?", "[]", "{s:", "{}", "}]",   "{s?:", "U",  "I", "u"
  };
  *format = '\0';
  bool by_letter = support_random_below(seed, 2) == 0;
  for (size_t n = support_random_below(seed, by_letter ? 10 : 14); n-- > 0;) {
    char one[2] = { letters[support_random_below(seed, sizeof letters - 1)] };
    const char *part =
        by_letter ? one : parts[support_random_below(seed, sizeof parts / sizeof *parts)];
    if (strlen(format) + strlen(part) < room)
      strcat(format, part);
  }
}

/* Every argument has the size of a pointer here, and is taken as the letter says: as a pointer to zeros, which
 * are an empty string, a nil object and room for what is read; or as 0. */
#define TIMES_4(x) x, x, x, x
#define TIMES_64(x) TIMES_4(TIMES_4(TIMES_4(x)))

static int pack_at_random(msgpack_packer *packer, const char *format, void *argument) {
  return forkq_packf(packer, format, TIMES_64(argument));
}

static void unpack(msgpack_zone *zone, const msgpack_sbuffer *packed,
                   msgpack_object *ret_object) {
  size_t offset = 0;
  ck_assert_int_eq(msgpack_unpack(packed->data, packed->size, &offset, zone, ret_object),
                   MSGPACK_UNPACK_SUCCESS);
}

/* Reads an object by some formats. */
static void read_at_random(const msgpack_object *object, uint64_t *seed) {
  static char zeros[4096];
  char format[64];
  for (int i = 0; i < 4; i++) {
    make_format(format, sizeof format, seed);
    memset(zeros, 0, sizeof zeros);
    void *argument = support_random_below(seed, 4) == 0 ? NULL : zeros;
    int r = forkq_object_scanf(object, format, TIMES_64(argument));
    support_assert((r == FORKQ_EFORMAT) == !is_valid(format, true));
    support_assert(r == 0 || r == FORKQ_EFORMAT || r == FORKQ_ENULL ||
                   r == FORKQ_EMISSING || r == FORKQ_EWRONGTYPE || r == FORKQ_ERANGE);
    support_assert(r == 0 || forkq_format_error()[0] != '\0');
  }
}

START_TEST(formats_at_random_do_no_harm) {
  uint64_t seed = (uint64_t)_i + 1;
  static char zeros[4096];
  char format[64];
  int packed_some = 0;
  for (int i = 0; i < 20000; i++) {
    msgpack_sbuffer packed;
    msgpack_packer packer;
    msgpack_sbuffer_init(&packed);
    msgpack_packer_init(&packer, &packed, msgpack_sbuffer_write);
    make_format(format, sizeof format, &seed);
    /* A size is not a pointer. */
    int r = pack_at_random(&packer, format, strchr(format, '#') != NULL ? NULL : zeros);
    support_assert((r == FORKQ_EFORMAT) == !is_valid(format, false));
    support_assert(r == 0 || r == FORKQ_EFORMAT || r == FORKQ_ENULL || r == FORKQ_ERANGE);
    support_assert(r != FORKQ_EFORMAT || packed.size == 0);
    if (r == 0) {
      msgpack_zone zone;
      msgpack_object object;
      support_assert(forkq__scan(packed.data, packed.size, NULL) == 0);
      support_assert(msgpack_zone_init(&zone, 1024));
      unpack(&zone, &packed, &object);
      read_at_random(&object, &seed);
      msgpack_zone_destroy(&zone);
      packed_some++;
    }
    msgpack_sbuffer_destroy(&packed);
  }
  ck_assert_int_gt(packed_some, 500);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("format");
  TCase *packing = tcase_create("packing");
  tcase_add_checked_fixture(packing, set_up, tear_down);
  tcase_add_test(packing, a_map_of_a_string_and_a_number);
  tcase_add_test(packing, what_stands_between_letters_means_nothing);
  tcase_add_test(packing, each_letter_packs_its_type);
  tcase_add_test(packing, containers_in_containers);
  tcase_add_test(packing, more_members_than_a_short_header_counts);
  tcase_add_test(packing, null_is_nil_where_it_may_be);
  tcase_add_test(packing, null_is_an_error_elsewhere);
  tcase_add_test(packing, short_integers_are_not_cut);
  tcase_add_test(packing, a_string_longer_than_msgpack_has_is_too_big);
  tcase_add_loop_test(packing, a_wrong_format_is_an_error_of_the_put, 0, WRONG);
  tcase_add_test(packing, some_formats_are_for_reading_only);
  tcase_add_test(packing, a_wrong_format_is_pointed_at);
  tcase_add_test(packing, formats_may_be_as_deep_as_messages);
  tcase_add_test(packing, an_object_of_no_type_is_bad);
  tcase_add_test(packing, a_wrapper_passes_its_arguments_on);
  tcase_add_test(packing, a_large_string_goes_through);
  tcase_add_test(packing, connections_and_simple_queues_take_formats);
  tcase_add_test(packing, a_write_that_fails_ends_the_packing);
  suite_add_tcase(suite, packing);
  TCase *reading = tcase_create("reading");
  tcase_add_checked_fixture(reading, set_up, tear_down);
  tcase_add_test(reading, each_letter_reads_its_type);
  tcase_add_test(reading, keys_may_come_in_any_order);
  tcase_add_test(reading, more_keys_and_elements_are_ignored);
  tcase_add_test(reading, of_a_key_that_is_there_twice_the_later_counts);
  tcase_add_test(reading, what_may_be_missing_leaves_its_variables);
  tcase_add_test(reading, a_missing_key_is_named);
  tcase_add_test(reading, another_type_is_an_error_and_nothing_is_stored);
  tcase_add_test(reading, integers_that_do_not_fit_are_out_of_range);
  tcase_add_test(reading, an_integer_is_stored_in_its_own_bytes);
  tcase_add_test(reading, a_double_takes_integers_that_it_has_exactly);
  tcase_add_test(reading, a_positive_integer_of_the_negative_type);
  tcase_add_test(reading, a_string_and_its_nul_must_fit);
  tcase_add_test(reading, a_string_with_a_nul_in_it_is_none_for_c);
  tcase_add_test(reading, reading_into_nothing_is_an_error);
  tcase_add_test(reading, a_value_is_found_by_its_key);
  tcase_add_test(reading, a_map_may_have_keys_of_any_type);
  tcase_add_test(reading, a_long_key_and_format_are_cut_not_overrun);
  tcase_add_test(reading, each_thread_has_its_own_failure);
  suite_add_tcase(suite, reading);
  TCase *at_random = tcase_create("formats at random");
  tcase_add_checked_fixture(at_random, set_up, tear_down);
  tcase_add_loop_test(at_random, formats_at_random_do_no_harm, 0, 4);
  suite_add_tcase(suite, at_random);
  return support_main(suite);
}
