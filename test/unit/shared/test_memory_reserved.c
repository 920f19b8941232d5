/* What a queue reserves and when, and what becomes of a call that the kernel refuses memory, with
 * fallocate(2) and without. */
#define _GNU_SOURCE
#include "memory_helpers.h"
#include "pipe/reap.h"
#include "refuse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CELLS ((int64_t)offsetof(struct forkq__segment, ledger.cells))

/* ---- pages --------------------------------------------------------------------------------- */

static int64_t in_pages(int64_t bytes) {
  int64_t page = sysconf(_SC_PAGESIZE);
  return (bytes + page - 1) / page * page;
}

static int64_t held_by_queue(void) {
  return held(queue->channel.account.liveness.memory_fd);
}

/* Where shared memory comes in large pages, one brings many others along. */
static bool comes_in_pages(void) {
  char line[128] = "[never]";
  FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
  bool read = file != NULL && fgets(line, sizeof line, file) != NULL;
  if (file != NULL)
    fclose(file);
  return !read || strstr(line, "[never]") != NULL || strstr(line, "[advise]") != NULL ||
         strstr(line, "[deny]") != NULL;
}

/* ---- memory that is refused ---------------------------------------------------------------- */

static const int refusals[] = { ENOSPC, ENOMEM };

static void refuse_memory(int error) {
  const struct refusal refusal = { .call = SYS_fallocate, .error = error };
  refuse(&refusal, 1);
}

static void create_without_memory(void *arg) {
  int error = *(const int *)arg, open_before = support_open_fds();
  refuse_memory(error);
  CHILD_MUST(forkq_queue_create(&queue, 0) == -error);
  CHILD_MUST(forkq_joinable_queue_create(&queue, 0) == -error);
  CHILD_MUST(support_open_fds() == open_before);
}

START_TEST(without_memory_create_is_an_error) {
  int error = refusals[_i];
  run(create_without_memory, &error);
}
END_TEST

static void must_have_no_mark(uint32_t cell) {
  struct forkq__ledger *of_queue = &queue->segment->ledger;
  CHILD_MUST(of_queue->lock.mutex.__data.__lock == 0);
  CHILD_MUST(of_queue->cells_used == cell);
  CHILD_MUST(forkq__os_life_taken(queue->channel.account.liveness.memory_fd, cell) == 0);
  CHILD_MUST(forkq__os_life_taken(queue->channel.account.liveness.memory_fd,
                                  FORKQ__CELLS_MAX + cell) == 0);
}

/* What needs no cell of its own goes on. */
static void put_without_memory(void *arg) {
  int error = *(const int *)arg;
  bool joinable = queue->segment->joinable;
  refuse_memory(error);
  for (int i = 0; i < 3; i++) {
    CHILD_MUST(put(1, 0) == -error);
    CHILD_MUST(put_bin(LARGE_ONE, 0) == -error);
    must_have_no_mark(1);
  }
  CHILD_MUST(get(PATIENCE_MS) == (joinable ? -error : 7));
  must_have_no_mark(1);
  CHILD_MUST(forkq_queue_qsize(queue) == (joinable ? 1 : 0));
}

static void put_with_memory(void *arg) {
  (void)arg;
  CHILD_MUST(put(8, 0) == 0 && queue->channel.account.cell == 1);
  forkq_queue_destroy(queue);
}

static void refuse_first_put(int error) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(put(7, 0), 0);
  run(put_without_memory, &error);
  run(put_with_memory, NULL);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
}

START_TEST(without_memory_the_first_put_of_a_process_leaves_no_trace) {
  refuse_first_put(refusals[_i]);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

START_TEST(without_memory_the_first_get_of_a_joinable_queue_leaves_no_trace) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
  refuse_first_put(refusals[_i]);
  ck_assert_int_eq(get(PATIENCE_MS), 7);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

static void look_everywhere(void) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  CHILD_MUST(put(1, 0) == 0);
  CHILD_MUST(forkq_wait(&entry, 1, PATIENCE_MS) == 1 && forkq_queue_fileno(queue) >= 0);
  CHILD_MUST(forkq_queue_qsize(queue) == 1 && forkq_queue_empty(queue) == 0);
  CHILD_MUST(forkq_queue_full(queue) == 0 && forkq_queue_stats(queue, &stats) == 0);
  CHILD_MUST(get(0) == 1 && forkq_queue_task_done(queue) == 0);
  CHILD_MUST(forkq_queue_join(queue, PATIENCE_MS, NULL) == 0);
}

/* A page that is not there and is looked at comes into being, or is a SIGBUS. */
static void use_what_is_reserved(void *arg) {
  (void)arg;
  CHILD_MUST(put(7, 0) == 0 && get(PATIENCE_MS) == 7 &&
             forkq_queue_task_done(queue) == 0);
  int64_t before = held_by_queue();
  if (comes_in_pages())
    CHILD_MUST(before == in_pages(CELLS + (int64_t)sizeof(struct forkq__cell)));
  refuse_memory(ENOSPC);
  for (int i = 0; i < 3; i++) {
    look_everywhere();
    pass_large_one();
    CHILD_MUST(forkq_queue_task_done(queue) == 0);
  }
  while (put(1, 0) == 0)
    ;
  CHILD_MUST(forkq_queue_shutdown(queue, 1) == 0 && get(0) == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
  CHILD_MUST(held(*(int *)arg) == before);
}

START_TEST(only_reserved_memory_is_accessed) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
  int fd = dup(queue->channel.account.liveness
                   .memory_fd); /* to look at it when the queue is gone */
  run(use_what_is_reserved, &fd);
  close(fd);
}
END_TEST

START_TEST(a_new_queue_holds_no_memory_for_cells) {
  ck_assert_int_lt(in_pages(CELLS), (int64_t)SEGMENT / 10);
  if (comes_in_pages())
    ck_assert_int_eq(held_by_queue(), in_pages(CELLS));
}
END_TEST

/* Each has a descriptor. */
#define OWNERS 100

START_TEST(each_page_of_cells_comes_with_the_first_that_is_on_it) {
  static struct forkq__channel owners[OWNERS];
  for (uint32_t i = 0; i < OWNERS; i++) {
    owners[i] = queue->channel;
    ck_assert_int_eq(forkq__reap_and_claim(&owners[i]), 0);
    ck_assert_uint_eq(owners[i].account.cell, i);
    if (comes_in_pages())
      ck_assert_int_eq(held_by_queue(),
                       in_pages(CELLS + (i + 1) * (int64_t)sizeof(struct forkq__cell)));
  }
  ck_assert_int_ge(OWNERS * (int64_t)sizeof(struct forkq__cell), 4 * 4096);
  for (uint32_t i = 0; i < OWNERS; i++)
    forkq__account_close(&owners[i].account);
}
END_TEST

/* ---- without fallocate --------------------------------------------------------------------- */

#define OLD 0x5a

struct file {
  int fd;
  int64_t page, size;
};

static struct file make_file(void) {
  struct file file = { .page = sysconf(_SC_PAGESIZE) };
  char old[1000];
  file.size = 8 * file.page;
  file.fd = forkq__os_memory_create("test", (size_t)file.size, 0);
  memset(old, OLD, sizeof old);
  /* Around the beginning of the second page. */
  CHILD_MUST(pwrite(file.fd, old, sizeof old, file.page - 500) == sizeof old);
  return file;
}

static bool has_old_bytes(struct file file) {
  char all[1000];
  bool good = pread(file.fd, all, sizeof all, file.page - 500) == sizeof all;
  for (size_t i = 0; i < sizeof all; i++)
    good = good && all[i] == OLD;
  return good;
}

static void reserve_by_writing(void *arg) {
  int error = *(const int *)arg;
  struct file file = make_file();
  char byte = 1;
  refuse_memory(error);
  CHILD_MUST(held(file.fd) == 2 * file.page);
  CHILD_MUST(forkq__os_memory_back(file.fd, 100, 10) == 0);
  CHILD_MUST(held(file.fd) == 2 * file.page && has_old_bytes(file));
  /* From the last byte of the third page to the first of the sixth. */
  size_t size = (size_t)(2 * file.page + 2);
  CHILD_MUST(forkq__os_memory_back(file.fd, 3 * file.page - 1, size) == 0);
  CHILD_MUST(held(file.fd) == 6 * file.page && has_old_bytes(file));
  CHILD_MUST(pread(file.fd, &byte, 1, 3 * file.page - 1) == 1 && byte == 0);
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)file.size) == 0);
  CHILD_MUST(held(file.fd) == file.size && has_old_bytes(file));
  CHILD_MUST(forkq__os_memory_back(file.fd, file.size, 1) < 0);
  close(file.fd);
}

static const int unknown[] = { EPERM, ENOSYS, EOPNOTSUPP };

START_TEST(without_fallocate_memory_is_reserved_by_writing_what_is_there) {
  int error = unknown[_i];
  if (comes_in_pages())
    run(reserve_by_writing, &error);
}
END_TEST

static void reserve_under_a_limit(void *arg) {
  (void)arg;
  struct file file = make_file();
  refuse_memory(ENOSYS);
  limit_files((rlim_t)(4 * file.page));
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)(4 * file.page)) == 0);
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)(4 * file.page + 1)) == -EFBIG);
  CHILD_MUST(forkq__os_memory_back(file.fd, 5 * file.page, 1) == -EFBIG);
  CHILD_MUST(forkq__os_memory_write(file.fd, "x", 1, 5 * file.page) == -EFBIG);
  CHILD_MUST(has_old_bytes(file));
  limit_files(RLIM_INFINITY);
  close(file.fd);
}

START_TEST(without_fallocate_a_limit_for_files_is_an_error) {
  run(reserve_under_a_limit, NULL);
}
END_TEST

static void reserve_without_memory(void *arg) {
  (void)arg;
  const struct refusal both[] = { { .call = SYS_fallocate, .error = ENOSYS },
                                  { .call = SYS_pwrite64, .error = ENOSPC } };
  struct file file = make_file();
  refuse(both, COUNT(both));
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, 1) == -ENOSPC);
  close(file.fd);
}

START_TEST(without_fallocate_and_memory_it_is_an_error) {
  run(reserve_without_memory, NULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("memory_reserved");
  TCase *alone = add_case(suite, "queues of its own");
  TCase *with_queue = add_case(suite, "a queue");
  tcase_add_checked_fixture(with_queue, set_up_queue, queue_tear_down);
  tcase_add_test(with_queue, a_new_queue_holds_no_memory_for_cells);
  tcase_add_test(with_queue, each_page_of_cells_comes_with_the_first_that_is_on_it);
  if (!can_refuse()) {
    printf("skipped in part: no filters of system calls here\n");
    return support_main(suite);
  }
  tcase_add_loop_test(alone, without_memory_create_is_an_error, 0, COUNT(refusals));
  tcase_add_loop_test(alone,
                      without_fallocate_memory_is_reserved_by_writing_what_is_there, 0,
                      COUNT(unknown));
  tcase_add_test(alone, without_fallocate_a_limit_for_files_is_an_error);
  tcase_add_test(alone, without_fallocate_and_memory_it_is_an_error);
  tcase_add_loop_test(with_queue,
                      without_memory_the_first_put_of_a_process_leaves_no_trace, 0,
                      COUNT(refusals));
  tcase_add_loop_test(with_queue,
                      without_memory_the_first_get_of_a_joinable_queue_leaves_no_trace, 0,
                      COUNT(refusals));
  tcase_add_test(with_queue, only_reserved_memory_is_accessed);
  return support_main(suite);
}
