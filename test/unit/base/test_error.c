/* Errors: each code has a name and a text of its own, and no code is without. */
#include "support.h"

#include <errno.h>
#include <forkq/base.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const struct {
  int value;
  const char *name;
  const char *text;
} codes[] = {
#define XX(name, value, text) { value, "FORKQ_" #name, text },
  FORKQ_ERROR_MAP(XX)
#undef XX
};
#define CODES (sizeof codes / sizeof *codes)

START_TEST(each_code_has_its_name_and_text) {
  for (size_t i = 0; i < CODES; i++) {
    ck_assert_str_eq(forkq_error_name(codes[i].value), codes[i].name);
    ck_assert_str_eq(forkq_strerror(codes[i].value), codes[i].text);
    ck_assert_uint_gt(strlen(codes[i].text), 0);
  }
}
END_TEST

START_TEST(no_two_codes_are_alike) {
  for (size_t i = 0; i < CODES; i++) {
    for (size_t j = 0; j < i; j++) {
      ck_assert_int_ne(codes[i].value, codes[j].value);
      ck_assert_str_ne(codes[i].text, codes[j].text);
    }
  }
}
END_TEST

/* Where an errno is returned as -errno, it is at most 4095 in the kernel's interface. */
START_TEST(codes_are_negative_and_no_errno) {
  for (size_t i = 0; i < CODES; i++)
    ck_assert_int_lt(codes[i].value, -4095);
}
END_TEST

START_TEST(errnos_pass_through) {
  ck_assert_str_eq(forkq_error_name(-ENOMEM), "ENOMEM");
  ck_assert_str_eq(forkq_error_name(-EMFILE), "EMFILE");
  ck_assert_str_eq(forkq_strerror(-EPIPE), strerror(EPIPE));
}
END_TEST

START_TEST(every_number_has_a_text_and_a_name) {
  static const int odd[] = { 0, 1, -1, ENOMEM, -4096, -20000, -20024, INT_MAX, INT_MIN };
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    ck_assert_ptr_nonnull(forkq_strerror(odd[i]));
    ck_assert_ptr_nonnull(forkq_error_name(odd[i]));
  }
  ck_assert_str_eq(forkq_error_name(-20000), "UNKNOWN");
  ck_assert_str_eq(forkq_error_name(ENOMEM), "UNKNOWN");
}
END_TEST

START_TEST(the_version_is_the_header_s) {
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", FORKQ_VERSION_MAJOR, FORKQ_VERSION_MINOR,
           FORKQ_VERSION_PATCH);
  ck_assert_str_eq(forkq_version(), version);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("error");
  TCase *tcase = tcase_create("codes");
  tcase_add_test(tcase, each_code_has_its_name_and_text);
  tcase_add_test(tcase, no_two_codes_are_alike);
  tcase_add_test(tcase, codes_are_negative_and_no_errno);
  tcase_add_test(tcase, errnos_pass_through);
  tcase_add_test(tcase, every_number_has_a_text_and_a_name);
  tcase_add_test(tcase, the_version_is_the_header_s);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
