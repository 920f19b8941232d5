/* The library's descriptors beside the program's: which numbers they have. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static int open_below_3(void) {
  int count = 0;
  for (int fd = 0; fd < 3; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* Whatever it has done, nothing stands where the standard streams were. */
static void begin_without_streams(void) {
  for (int fd = 0; fd < 3; fd++)
    close(fd);
}

static void make_and_use_a_queue(void *arg) {
  forkq_queue_t *own;
  (void)arg;
  begin_without_streams();
  CHILD_MUST(forkq_queue_create(&own, 0) == 0);
  CHILD_MUST(open_below_3() == 0);
  CHILD_MUST(put_int(own, 7, 1000) == 0 && get_int(own, 1000) == 7);
  CHILD_MUST(forkq_queue_fileno(own) >= 3);
  CHILD_MUST(open_below_3() == 0);
  forkq_queue_destroy(own);
}

START_TEST(a_queue_keeps_off_the_numbers_of_the_standard_streams) {
  ck_assert_int_eq(support_wait(support_fork(make_and_use_a_queue, NULL)), 0);
}
END_TEST

static void print_and_get(void *arg) {
  forkq_queue_t *own;
  (void)arg;
  begin_without_streams();
  CHILD_MUST(forkq_queue_create(&own, 0) == 0);
  for (int i = 0; i < 200; i++) {
    printf("this program prints what nobody reads: line %d\n", i);
    fprintf(stderr, "nor what it complains of: line %d\n", i);
    CHILD_MUST(put_int(own, i, 1000) == 0);
  }
  fflush(stdout);
  for (int i = 0; i < 200; i++)
    CHILD_MUST(get_int(own, 1000) == i);
  CHILD_MUST(get_int(own, 0) == FORKQ_EMPTY);
  forkq_queue_destroy(own);
}

START_TEST(what_a_program_prints_does_not_go_into_a_queue) {
  ck_assert_int_eq(support_wait(support_fork(print_and_get, NULL)), 0);
}
END_TEST

static void make_pipes(void *arg) {
  forkq_connection_t *a, *b;
  (void)arg;
  begin_without_streams();
  for (int duplex = 0; duplex <= 1; duplex++) {
    CHILD_MUST(forkq_pipe(&a, &b, duplex) == 0);
    CHILD_MUST(open_below_3() == 0);
    forkq_connection_destroy(a);
    forkq_connection_destroy(b);
  }
}

START_TEST(a_pipe_keeps_off_the_numbers_of_the_standard_streams) {
  ck_assert_int_eq(support_wait(support_fork(make_pipes, NULL)), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("descriptors");
  TCase *tcase = tcase_create("numbers");
  suite_add_tcase(suite, tcase);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, a_queue_keeps_off_the_numbers_of_the_standard_streams);
  tcase_add_test(tcase, what_a_program_prints_does_not_go_into_a_queue);
  tcase_add_test(tcase, a_pipe_keeps_off_the_numbers_of_the_standard_streams);
  return support_main(suite);
}
