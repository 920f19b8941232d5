/* Packing by a format: each letter, what does not fit, and within packing functions. */
#include "format_helpers.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_map_of_a_string_and_a_number) {
  (void)format_put_and_get("{s:s,s:i}", "path", "/a", "hits", 3);
  format_assert_bytes("\x82\xa4path\xa2/a\xa4hits\x03", 15);
}
END_TEST

START_TEST(what_stands_between_letters_means_nothing) {
  (void)format_put_and_get(" {ss ,\ts::i}\n", "path", "/a", "hits", 3);
  format_assert_bytes("\x82\xa4path\xa2/a\xa4hits\x03", 15);
}
END_TEST

START_TEST(each_letter_packs_its_type) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true };
  (void)format_put_and_get("[s s# y# i u I U f b b n o]", "a", "bcd", (size_t)2, "\0e",
                           (size_t)2, -1, 1u, INT64_MIN, UINT64_MAX, 0.5, true, false,
                           &object);
  format_assert_bytes("\x9c\xa1"
                      "a\xa2"
                      "bc\xc4\x02\0e\xff\x01"
                      "\xd3\x80\0\0\0\0\0\0\0\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
                      "\xcb\x3f\xe0\0\0\0\0\0\0\xc3\xc2\xc0\xc3",
                      43);
}
END_TEST

START_TEST(containers_in_containers) {
  (void)format_put_and_get("{s:[],s:{},s#:[[i],{s:[ii]}]}", "a", "b", "cx", (size_t)1, 1,
                           "d", 2, 3);
  format_assert_bytes("\x83\xa1"
                      "a\x90\xa1"
                      "b\x80\xa1"
                      "c\x92\x91\x01\x81\xa1"
                      "d\x92\x02\x03",
                      18);
}
END_TEST

START_TEST(more_members_than_a_short_header_counts) {
  const msgpack_object *object =
      format_put_and_get("[iiii iiii iiii iiii i]", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                         12, 13, 14, 15, 16);
  ck_assert_int_eq(object->type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(object->via.array.size, 17);
  ck_assert_uint_eq(object->via.array.ptr[16].via.u64, 16);
}
END_TEST

START_TEST(null_is_nil_where_it_may_be) {
  (void)format_put_and_get("[s?,s#?,y#?,o?]", NULL, NULL, (size_t)7, NULL, (size_t)0,
                           NULL);
  format_assert_bytes("\x94\xc0\xc0\xc0\xc0", 5);
  (void)format_put_and_get("[s?,s#,y#]", "", NULL, (size_t)0, NULL, (size_t)0);
  format_assert_bytes("\x93\xa0\xa0\xc4\0", 5);
}
END_TEST

START_TEST(null_is_an_error_elsewhere) {
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "{s:i,s:s}", "a", 1, "b", NULL),
                   FORKQ_ENULL);
  format_assert_said("a required argument is NULL: at 7 of \"{s:i,s:s}\"");
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
  (void)format_put_and_get("[hi,hi,hu,hhi,hhi,hhu]", SHRT_MIN, SHRT_MAX, USHRT_MAX,
                           SCHAR_MIN, SCHAR_MAX, UCHAR_MAX);
  short h[2];
  unsigned short hu;
  signed char hh[2];
  unsigned char hhu;
  ck_assert_int_eq(forkq_object_scanf(&format_item.object, "[hi,hi,hu,hhi,hhi,hhu]",
                                      &h[0], &h[1], &hu, &hh[0], &hh[1], &hhu),
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
  (void)format_put_and_get("i", 1);
  ck_assert_int_eq(forkq_object_scanf(&format_item.object, wrong[_i], &number),
                   FORKQ_EFORMAT);
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
  const msgpack_object *object = format_put_and_get(format);
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
    (void)format_got();
    format_assert_bytes("\x93\xa1"
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
  ck_assert_int_eq(forkq_object_scanf(format_put_and_get("[s#]", text, size), "[s#]",
                                      &data, &got_size),
                   0);
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
  format_assert_said("format is not valid");
  ck_assert_int_eq(forkq_connection_recv(a, &format_item), 0);
  ck_assert_int_eq(
      forkq_object_scanf(&format_item.object, "[si]", text, sizeof text, &number), 0);
  ck_assert_int_eq(number, 1);
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  ck_assert_int_eq(forkq_simple_queue_put_with(simple, pack_pair, "{s:i}"), 0);
  ck_assert_int_eq(forkq_simple_queue_get(simple, &format_item), 0);
  ck_assert_int_eq(forkq_object_scanf(&format_item.object, "{s:i}", "a", &number), 0);
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
  format_assert_said("packing function failed: at 0 of \"o\"");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("format_pack");
  TCase *tcase = format_case(suite, "packing");
  tcase_add_test(tcase, a_map_of_a_string_and_a_number);
  tcase_add_test(tcase, what_stands_between_letters_means_nothing);
  tcase_add_test(tcase, each_letter_packs_its_type);
  tcase_add_test(tcase, containers_in_containers);
  tcase_add_test(tcase, more_members_than_a_short_header_counts);
  tcase_add_test(tcase, null_is_nil_where_it_may_be);
  tcase_add_test(tcase, null_is_an_error_elsewhere);
  tcase_add_test(tcase, short_integers_are_not_cut);
  tcase_add_test(tcase, a_string_longer_than_msgpack_has_is_too_big);
  tcase_add_loop_test(tcase, a_wrong_format_is_an_error_of_the_put, 0, WRONG);
  tcase_add_test(tcase, some_formats_are_for_reading_only);
  tcase_add_test(tcase, a_wrong_format_is_pointed_at);
  tcase_add_test(tcase, formats_may_be_as_deep_as_messages);
  tcase_add_test(tcase, an_object_of_no_type_is_bad);
  tcase_add_test(tcase, a_wrapper_passes_its_arguments_on);
  tcase_add_test(tcase, a_large_string_goes_through);
  tcase_add_test(tcase, connections_and_simple_queues_take_formats);
  tcase_add_test(tcase, a_write_that_fails_ends_the_packing);
  return support_main(suite);
}
