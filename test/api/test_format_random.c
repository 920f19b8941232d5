/* Packing and reading by formats at random, beside a second grammar. */
#include "codec/serializer.h"
#include "format_helpers.h"

#include <stdlib.h>
#include <string.h>

/* The grammar once more: the end of a value, or NULL if there is none. */
static const char *after_separators(const char *p) {
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
  for (p = after_separators(p + 1); p != NULL && *p != end;
       p = p == NULL ? p : after_separators(p)) {
    if (end == '}')
      p = end_of_key(p, reading);
    if (p != NULL)
      p = end_of_value(after_separators(p), reading, depth + 1);
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
  const char *end = end_of_value(after_separators(format), reading, 0);
  return end != NULL && *after_separators(end) == '\0';
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
  Suite *suite = suite_create("format_random");
  TCase *tcase = format_case(suite, "formats at random");
  tcase_add_loop_test(tcase, formats_at_random_do_no_harm, 0, 4);
  return support_main(suite);
}
