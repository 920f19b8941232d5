/* A queue under the limits of its process: those for files, for addresses, and for the stack. */
#define _GNU_SOURCE
#include "memory_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED 1
#else
#  define SANITIZED 0
#endif

#define FDS_LOOKED_AT 64 /* more than the test opens */

/* ---- a limit for files --------------------------------------------------------------------- */

static void must_work(void) {
  CHILD_MUST(put(7, 0) == 0 && get(PATIENCE_MS) == 7);
  pass_large_one();
}

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void create_under(void *arg) {
  rlim_t bytes = *(const rlim_t *)arg;
  bool fits = bytes >= SEGMENT;
  int open_before = support_open_fds_below(FDS_LOOKED_AT);
  int64_t most = INT64_MAX;
  struct stat status;
  limit_files(bytes);
  CHILD_MUST(forkq_queue_create(&queue, 0) == (fits ? 0 : -EFBIG));
  if (fits) {
    if (bytes < INT64_MAX)
      most = (int64_t)bytes;
    CHILD_MUST(fstat(queue->channel.account.liveness.memory_fd, &status) == 0);
    CHILD_MUST(status.st_size == smaller(most, (int64_t)WHOLE_FILE));
    must_work();
    forkq_queue_destroy(queue);
  }
  CHILD_MUST(support_open_fds_below(FDS_LOOKED_AT) == open_before);
  limit_files(RLIM_INFINITY);
}

START_TEST(a_limit_for_files_is_an_error_of_create_or_is_kept) {
  const rlim_t with_parts = SEGMENT + FORKQ_MESSAGE_MAX;
  const rlim_t with_arena = (rlim_t)forkq__arena_begin(1);
  rlim_t limits[] = { 0,
                      1,
                      4096,
                      SEGMENT - 1,
                      SEGMENT,
                      SEGMENT + 1,
                      SEGMENT + 4096,
                      with_parts - 1,
                      with_parts,
                      with_parts + 1,
                      with_arena - 1,
                      with_arena,
                      with_arena + 1,
                      WHOLE_FILE - 1,
                      WHOLE_FILE,
                      WHOLE_FILE + 1,
                      RLIM_INFINITY };
  for (size_t i = 0; i < COUNT(limits); i++)
    run(create_under, &limits[i]);
}
END_TEST

static void keep_and_go_on(void *sender) {
  limit_files(0);
  CHILD_MUST(get_bin(HUGE, 0) == FORKQ_EMPTY && is_kept());
  kill(*(pid_t *)sender, SIGCONT);
  CHILD_MUST(get_bin(HUGE, PATIENCE_MS) == 0 && !is_kept());
  CHILD_MUST(get(PATIENCE_MS) == 8);
  limit_files(RLIM_INFINITY);
}

START_TEST(a_reader_with_a_limit_for_files_keeps_a_part_all_the_same) {
  pid_t sender = sender_in_the_middle();
  run(keep_and_go_on, &sender);
  ck_assert_int_eq(support_wait(sender), 0);
}
END_TEST

/* ---- address space ------------------------------------------------------------------------- */

#define GIB ((rlim_t)1 << 30)
#define QUEUES 100

static rlim_t address_space(void) {
  char line[128] = "";
  FILE *file = fopen("/proc/self/statm", "re");
  CHILD_MUST(file != NULL && fgets(line, sizeof line, file) != NULL);
  fclose(file);
  return (rlim_t)strtoul(line, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Of which a thread would have its stack, if it had what the limit says. */
static void put_with_a_large_stack(void *arg) {
  (void)arg;
  limit(RLIMIT_STACK, 64 * GIB);
  limit(RLIMIT_AS, address_space() + GIB);
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  must_work();
  forkq_queue_destroy(queue);
}

START_TEST(a_put_needs_no_stack_as_large_as_its_limit) {
  if (!SANITIZED)
    run(put_with_a_large_stack, NULL);
}
END_TEST

static void put_into_many(void *arg) {
  (void)arg;
  static forkq_queue_t *queues[QUEUES];
  limit(RLIMIT_NOFILE, 10 * QUEUES);
  limit(RLIMIT_AS, GIB);
  for (int i = 0; i < QUEUES; i++) {
    CHILD_MUST(forkq_queue_create(&queues[i], 0) == 0);
    CHILD_MUST(put_int(queues[i], i, 0) == 0);
  }
  for (int i = 0; i < QUEUES; i++) {
    CHILD_MUST(get_int(queues[i], PATIENCE_MS) == i);
    forkq_queue_destroy(queues[i]);
  }
}

START_TEST(a_gibibyte_of_addresses_has_room_for_a_hundred_queues) {
  struct rlimit files;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
  if (!SANITIZED && files.rlim_max >= 10 * QUEUES)
    run(put_into_many, NULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("memory_limits");
  TCase *alone = add_case(suite, "queues of its own");
  tcase_add_test(alone, a_limit_for_files_is_an_error_of_create_or_is_kept);
  tcase_add_test(alone, a_put_needs_no_stack_as_large_as_its_limit);
  tcase_add_test(alone, a_gibibyte_of_addresses_has_room_for_a_hundred_queues);
  TCase *with_queue = add_case(suite, "a queue");
  tcase_add_checked_fixture(with_queue, set_up_queue, queue_tear_down);
  tcase_add_test(with_queue, a_reader_with_a_limit_for_files_keeps_a_part_all_the_same);
  return support_main(suite);
}
