/* The hooks: all memory comes from the user's heap, all messages go to the user's log. */
#define _GNU_SOURCE
#include "base/heap.h"
#include "base/log.h"
#include "support.h"

#include <forkq/base.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- heap -------------------------------------------------------------------------- */

static struct calls {
  int mallocs, reallocs, frees;
  size_t size;
  void *memory;
  void *arg;
  bool fail;
} calls;

static void *count_malloc(size_t size, void *arg) {
  calls.mallocs++;
  calls.size = size;
  calls.arg = arg;
  return calls.fail ? NULL : memset(malloc(size), 0xaa, size);
}

static void *count_realloc(void *memory, size_t size, void *arg) {
  calls.reallocs++;
  calls.memory = memory;
  calls.size = size;
  calls.arg = arg;
  return calls.fail ? NULL : realloc(memory, size);
}

static void count_free(void *memory, void *arg) {
  calls.frees++;
  calls.memory = memory;
  calls.arg = arg;
  free(memory);
}

static void set_up(void) {
  calls = (struct calls){ 0 };
}

static void tear_down(void) {
  forkq_heap_set(NULL);
}

static void install(void) {
  forkq_heap_t heap = { count_malloc, count_realloc, count_free, &calls };
  forkq_heap_set(&heap);
  /* The struct was copied. */
  memset(&heap, 0, sizeof heap);
}

START_TEST(every_request_goes_to_the_hook) {
  install();
  void *memory = forkq__malloc(10);
  ck_assert(calls.mallocs == 1 && calls.size == 10 && calls.arg == &calls);
  void *moved = forkq__realloc(memory, 2000);
  ck_assert(calls.reallocs == 1 && calls.memory == memory && calls.size == 2000);
  ck_assert_ptr_eq(calls.arg, &calls);
  calls.arg = NULL;
  forkq__free(moved);
  ck_assert(calls.frees == 1 && calls.memory == moved && calls.arg == &calls);
}
END_TEST

START_TEST(calloc_clears_what_the_hook_gives) {
  install();
  unsigned char *memory = forkq__calloc(100);
  ck_assert_int_eq(calls.mallocs, 1);
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(memory[i], 0);
  forkq__free(memory);
}
END_TEST

START_TEST(null_from_the_hook_comes_through) {
  install();
  calls.fail = true;
  ck_assert_ptr_null(forkq__malloc(1));
  ck_assert_ptr_null(forkq__calloc(1));
  ck_assert_ptr_null(forkq__realloc(NULL, 1));
}
END_TEST

START_TEST(free_of_null_does_not_reach_the_hook) {
  install();
  forkq__free(NULL);
  ck_assert_int_eq(calls.frees, 0);
}
END_TEST

START_TEST(null_goes_back_to_libc) {
  install();
  forkq_heap_set(NULL);
  char *memory = forkq__realloc(forkq__calloc(1), 100);
  ck_assert_int_eq(memory[0], 0);
  forkq__free(memory);
  ck_assert_int_eq(calls.mallocs + calls.reallocs + calls.frees, 0);
}
END_TEST

/* ---- the tests' own heap: they trust its numbers ----------------------------------- */

static int failures_of(int requests) {
  int failures = 0;
  for (int i = 0; i < requests; i++) {
    void *memory = forkq__malloc(1);
    failures += memory == NULL;
    forkq__free(memory);
  }
  return failures;
}

START_TEST(the_failing_heap_fails_where_it_was_told) {
  long before = support_heap_requests();
  support_heap_install();
  support_heap_fail_at(3, false);
  ck_assert_int_eq(failures_of(2), 0);
  ck_assert_int_eq(failures_of(1), 1);
  ck_assert_int_eq(failures_of(5), 0);
  support_heap_fail_at(2, true);
  ck_assert_int_eq(failures_of(5), 4);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(failures_of(5), 0);
  ck_assert_int_eq(support_heap_requests() - before, 18);
  ck_assert_int_eq(support_heap_live(), 0);
  void *memory = forkq__realloc(forkq__realloc(NULL, 1), 100);
  ck_assert_int_eq(support_heap_live(), 1);
  forkq__free(memory);
  ck_assert_int_eq(support_heap_live(), 0);
}
END_TEST

/* ---- log --------------------------------------------------------------------------- */

static struct {
  int count;
  forkq_log_level_t level;
  char message[512];
  void *arg;
} logged;

static void keep(forkq_log_level_t level, const char *message, void *arg) {
  logged.count++;
  logged.level = level;
  logged.arg = arg;
  snprintf(logged.message, sizeof logged.message, "%s", message);
}

static void begin_log(void) {
  logged.count = 0;
}

static void end_log(void) {
  forkq_log_set(NULL, NULL);
}

START_TEST(the_callback_gets_level_message_and_argument) {
  forkq_log_set(keep, &logged);
  forkq__log(FORKQ_LOG_WARNING, "", "lost %d of %s", 3, "them");
  ck_assert(logged.count == 1 && logged.level == FORKQ_LOG_WARNING);
  ck_assert_ptr_eq(logged.arg, &logged);
  ck_assert_str_eq(logged.message, "lost 3 of them");
}
END_TEST

/* Nothing ends a name that a program has overwritten in the shared memory. */
START_TEST(a_name_comes_first) {
  char name[FORKQ_NAME_MAX + 2];
  memset(name, 'n', sizeof name);
  forkq_log_set(keep, &logged);
  forkq__log(FORKQ_LOG_WARNING, "jobs", "lost %d of %s", 3, "them");
  ck_assert_str_eq(logged.message, "jobs: lost 3 of them");
  forkq__log(FORKQ_LOG_WARNING, name, "lost");
  ck_assert_uint_eq(strlen(logged.message), FORKQ_NAME_MAX + strlen(": lost"));
}
END_TEST

START_TEST(a_long_message_is_cut_not_overrun) {
  char text[1000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  forkq_log_set(keep, NULL);
  forkq__log(FORKQ_LOG_ERROR, "", "%s", text);
  ck_assert_int_eq(logged.count, 1);
  ck_assert_uint_gt(strlen(logged.message), 100);
  ck_assert_int_eq(strncmp(logged.message, text, strlen(logged.message)), 0);
}
END_TEST

START_TEST(without_a_callback_nothing_is_printed) {
  int file = memfd_create("output", MFD_CLOEXEC);
  int out = dup(1), err = dup(2);
  dup2(file, 1);
  dup2(file, 2);
  forkq__log(FORKQ_LOG_ERROR, "", "never seen");
  forkq_log_set(keep, NULL);
  forkq_log_set(NULL, NULL);
  forkq__log(FORKQ_LOG_ERROR, "", "never seen");
  fflush(NULL);
  dup2(out, 1);
  dup2(err, 2);
  close(out);
  close(err);
  ck_assert_int_eq(lseek(file, 0, SEEK_END), 0);
  ck_assert_int_eq(logged.count, 0);
  close(file);
}
END_TEST

/* In a process of its own: the environment is read once. */
static void log_to(void *file) {
  setenv("FORKQ_LOG", "stderr", 1);
  dup2(*(int *)file, 2);
  forkq__log(FORKQ_LOG_WARNING, "", "lost %d of %s", 3, "them");
  forkq_log_set(keep, NULL);
  forkq__log(FORKQ_LOG_ERROR, "", "goes to the callback");
}

START_TEST(the_environment_asks_for_lines_on_stderr) {
  char line[512] = "", expected[512];
  int file = memfd_create("output", MFD_CLOEXEC);
  pid_t pid = support_fork(log_to, &file);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert_int_ge(pread(file, line, sizeof line - 1, 0), 0);
  snprintf(expected, sizeof expected, "forkq[%d] warning: lost 3 of them\n", (int)pid);
  ck_assert_str_eq(line, expected);
  close(file);
}
END_TEST

START_TEST(a_reader_of_stderr_that_is_gone_is_no_signal) {
  int ends[2], sockets[2];
  ck_assert_int_eq(pipe(ends), 0);
  close(ends[0]);
  ck_assert_int_eq(support_wait(support_fork(log_to, &ends[1])), 0);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  close(sockets[0]);
  ck_assert_int_eq(support_wait(support_fork(log_to, &sockets[1])), 0);
  close(ends[1]);
  close(sockets[1]);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("heap");
  TCase *heap = tcase_create("heap");
  tcase_add_checked_fixture(heap, set_up, tear_down);
  tcase_add_test(heap, every_request_goes_to_the_hook);
  tcase_add_test(heap, calloc_clears_what_the_hook_gives);
  tcase_add_test(heap, null_from_the_hook_comes_through);
  tcase_add_test(heap, free_of_null_does_not_reach_the_hook);
  tcase_add_test(heap, null_goes_back_to_libc);
  tcase_add_test(heap, the_failing_heap_fails_where_it_was_told);
  suite_add_tcase(suite, heap);
  TCase *log = tcase_create("log");
  tcase_add_checked_fixture(log, begin_log, end_log);
  tcase_add_test(log, the_callback_gets_level_message_and_argument);
  tcase_add_test(log, a_name_comes_first);
  tcase_add_test(log, a_long_message_is_cut_not_overrun);
  tcase_add_test(log, without_a_callback_nothing_is_printed);
  tcase_add_test(log, the_environment_asks_for_lines_on_stderr);
  tcase_add_test(log, a_reader_of_stderr_that_is_gone_is_no_signal);
  suite_add_tcase(suite, log);
  return support_main(suite);
}
