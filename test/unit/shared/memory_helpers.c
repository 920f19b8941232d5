/* What the tests of memory have in common: children that must succeed, limits, and a sender that is
 * stopped in the middle. */
#define _GNU_SOURCE
#include "memory_helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

void run(void (*fn)(void *arg), void *arg) {
  ck_assert_int_eq(support_wait(support_fork(fn, arg)), 0);
}

/* Bytes of a file that are there. */
int64_t held(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0)
    abort();
  return (int64_t)status.st_blocks * 512;
}

void limit(__rlimit_resource_t resource, rlim_t value) {
  struct rlimit limits;
  CHILD_MUST(getrlimit(resource, &limits) == 0);
  limits.rlim_cur = value < limits.rlim_max ? value : limits.rlim_max;
  CHILD_MUST(setrlimit(resource, &limits) == 0);
}

/* To go beyond the limit is a signal that ends the process. */
void limit_files(rlim_t bytes) {
  signal(SIGXFSZ, SIG_DFL);
  limit(RLIMIT_FSIZE, bytes);
}

int get_bin(size_t size, int timeout_ms) {
  forkq_item_t got = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_packed(queue, &got, timeout_ms);
  CHILD_MUST(r < 0 || is_bin(&got, size));
  forkq_item_destroy(&got);
  return r;
}

/* All of it is there before it is got, which need not wait for the rest. */
void pass_large_one(void) {
  CHILD_MUST(put_bin(LARGE_ONE, 0) == 0);
  until_sent(queue);
  CHILD_MUST(get_bin(LARGE_ONE, PATIENCE_MS) == 0);
}

void set_up_queue(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
}

static void put_huge(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(HUGE, 0) == 0 && put(8, 0) == 0);
  forkq_queue_destroy(queue);
}

/* A sender that is stopped in the middle of an item: all that is in the pipe is of that. */
pid_t sender_in_the_middle(void) {
  pid_t sender = support_fork(put_huge, NULL);
  support_until_pipe_full(queue);
  support_stop(sender);
  return sender;
}

bool is_kept(void) {
  return atomic_load(&queue->segment->channel.spill.cell) != 0;
}

TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 60);
  suite_add_tcase(suite, tcase);
  return tcase;
}
