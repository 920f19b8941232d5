/* The library's descriptors beside the program's: which numbers they have, and what is done where
 * a number has become the program's. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* ---- numbers that have become the program's ----------------------------------------------- */

#define FILE_TEXT "of the program"

/* A file of the program's at every number from 3 on at which there was a descriptor. */
static void take_all_numbers(int file) {
  for (int fd = 3; fd < 256; fd++)
    if (fd != file && fcntl(fd, F_GETFD) >= 0)
      CHILD_MUST(dup2(file, fd) == fd);
}

static int own_file(void) {
  int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  CHILD_MUST(file >= 0 && write(file, FILE_TEXT, sizeof FILE_TEXT) == sizeof FILE_TEXT);
  CHILD_MUST(lseek(file, 0, SEEK_SET) == 0);
  return file;
}

static void assert_untouched(int file) {
  char text[sizeof FILE_TEXT + 1];
  CHILD_MUST(lseek(file, 0, SEEK_CUR) == 0);
  CHILD_MUST(pread(file, text, sizeof text, 0) == sizeof FILE_TEXT);
  CHILD_MUST(memcmp(text, FILE_TEXT, sizeof FILE_TEXT) == 0);
}

/* A child that has not used the queue; or one that has, and has a cell, a feeder and descriptors that
 * somebody watches. */
static void use(void) {
  int64_t value = get(10000);
  CHILD_MUST(value >= 0 && put(value, 10000) == 0);
  CHILD_MUST(forkq_queue_fileno(queue) >= 0);
  forkq__queue_send_own(queue, FORKQ__FOREVER);
  support_until_threads_asleep(1);
}

static void close_queue(void) {
  CHILD_MUST(forkq_queue_close(queue) == 0);
}

static void destroy_queue(void) {
  forkq_queue_destroy(queue);
  queue = NULL;
}

/* The feeder finds it out, and then each put says so. */
static void put_in_vain(void) {
  support_end_after(30);
  while (put(1, 0) == 0)
    usleep(1000);
}

/* It is an error of its own, and does not say that strangers write into the queue. */
static void get_in_vain(void) {
  CHILD_MUST(get(0) == -EBADF);
}

static void shut_down(void) {
  (void)forkq_queue_shutdown(queue, 0);
}

static void (*const ends[])(void) = { NULL,        close_queue, destroy_queue,
                                      put_in_vain, get_in_vain, shut_down };

#define ENDS ((int)(sizeof ends / sizeof ends[0]))

static void live_with_other_files(void *arg) {
  const int *way = arg;
  if (*way >= ENDS)
    use();
  int file = own_file();
  take_all_numbers(file);
  void (*end)(void) = ends[*way % ENDS];
  if (end != NULL)
    end();
  if (end == get_in_vain) /* which has read what it took for the pipe */
    CHILD_MUST(lseek(file, 0, SEEK_SET) == 0);
  assert_untouched(file);
  /* Exit comes after that, and the parent looks at the number. */
  CHILD_MUST(fcntl(file, F_GETFD) >= 0);
  exit(0);
}

START_TEST(a_file_at_the_number_of_a_descriptor_is_left_alone) {
  int way = _i;
  ck_assert_int_eq(put(7, 0), 0);
  forkq__queue_send_own(queue, FORKQ__FOREVER);
  ck_assert_int_eq(support_wait(support_fork(live_with_other_files, &way)), 0);
  ck_assert_int_eq(get(10000), 7);
  if (ends[_i % ENDS] == shut_down)
    return;
  ck_assert_int_eq(put(8, 10000), 0);
  ck_assert_int_eq(get(10000), 8);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static void close_all(void *arg) {
  const int *way = arg;
  if (*way >= ENDS)
    use();
  for (int fd = 3; fd < 256; fd++)
    close(fd);
  if (ends[*way % ENDS] != NULL)
    ends[*way % ENDS]();
  exit(0);
}

START_TEST(a_child_may_close_all_that_it_does_not_know) {
  int way = _i;
  ck_assert_int_eq(put(7, 0), 0);
  forkq__queue_send_own(queue, FORKQ__FOREVER);
  ck_assert_int_eq(support_wait(support_fork(close_all, &way)), 0);
  ck_assert_int_eq(get(10000), 7);
}
END_TEST

/* Somebody has taken this process for dead, as it closed what shows that it lives; its cell is
 * another's by now, for whom it counts nothing. */
START_TEST(who_was_taken_for_dead_says_so) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 0), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get(10000), 1);
  struct forkq__cell *cell = &queue->segment->ledger.cells[queue->channel.account.cell];
  uint64_t accepted = cell->accepted, got = cell->got;
  cell->owners++;
  ck_assert_int_eq(put(3, 0), -EBADF);
  ck_assert_int_eq(get(0), -EBADF);
  ck_assert_uint_eq(cell->accepted, accepted);
  ck_assert_uint_eq(cell->got, got);
  cell->owners--;
  ck_assert_int_eq(get(10000), 2);
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
  tcase = tcase_create("reused");
  suite_add_tcase(suite, tcase);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_loop_test(tcase, a_file_at_the_number_of_a_descriptor_is_left_alone, 0,
                      2 * ENDS);
  tcase_add_loop_test(tcase, a_child_may_close_all_that_it_does_not_know, 0, 2 * ENDS);
  tcase_add_test(tcase, who_was_taken_for_dead_says_so);
  return support_main(suite);
}
