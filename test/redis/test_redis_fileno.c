/* The descriptor of a queue of a server, for a loop of the program. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static void set_up(void) {
  redis_set_up("queue=jobs");
}

static bool readable(int fd, int timeout_ms) {
  struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
  return poll(&poll_fd, 1, timeout_ms) == 1;
}

static int watch(forkq_queue_t *of) {
  int fd = forkq_queue_fileno(of);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(forkq_queue_fileno(of), fd);
  return fd;
}

START_TEST(it_is_readable_while_there_may_be_items) {
  int fd = watch(queue);
  until_blocked(1);
  ck_assert(!readable(fd, 0));
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert(readable(fd, PATIENCE_MS));
  ck_assert_int_eq(forkq_queue_qsize(queue), 1);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert(readable(fd, 0));
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  until_blocked(1);
  ck_assert(!readable(fd, 0));
  ck_assert_int_eq(put(3, 0), 0);
  ck_assert(readable(fd, PATIENCE_MS));
  ck_assert_int_eq(get(0), 3);
}
END_TEST

START_TEST(what_was_there_before) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert(readable(watch(queue), PATIENCE_MS));
  ck_assert_int_eq(get(0), 1);
}
END_TEST

/* Each process is told, and the one that gets first has the item. */
START_TEST(several_watch) {
  forkq_queue_t *other = open_other("queue=jobs");
  int fds[] = { watch(queue), watch(other) };
  until_blocked(2);
  ck_assert_int_eq(put(1, 0), 0);
  for (int i = 0; i < 2; i++)
    ck_assert(readable(fds[i], PATIENCE_MS));
  ck_assert_int_eq(get_int(other, 0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(get_int(other, 0), FORKQ_EMPTY);
  until_blocked(2);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(a_shutdown_is_told) {
  int fd = watch(queue);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert(readable(fd, PATIENCE_MS));
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  ck_assert(readable(fd, 0));
}
END_TEST

START_TEST(a_lost_connection_is_made_anew) {
  int fd = watch(queue);
  for (int i = 0; i < 5; i++) {
    until_blocked(1);
    (void)server_number("CLIENT KILL TYPE normal");
    until_blocked(1);
    ck_assert_int_eq(put(i, 0), 0);
    ck_assert(readable(fd, PATIENCE_MS));
    ck_assert_int_eq(get(0), i);
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  }
}
END_TEST

static void watch_as_child(void *arg) {
  (void)arg;
  int fd = forkq_queue_fileno(queue);
  CHILD_MUST(fd >= 0);
  CHILD_MUST(readable(fd, PATIENCE_MS));
  CHILD_MUST(get(0) == 1);
  CHILD_MUST(forkq_queue_close(queue) == 0);
}

START_TEST(a_child_has_its_own) {
  (void)watch(queue);
  until_blocked(1);
  pid_t child = support_fork(watch_as_child, NULL);
  until_blocked(2);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static void *wait_for_both(void *arg) {
  forkq_wait_entry_t *entries = arg;
  return (void *)(intptr_t)forkq_wait(entries, 2, PATIENCE_MS);
}

START_TEST(a_wait_for_it_and_for_others) {
  int pipe_fds[2];
  ck_assert_int_eq(pipe(pipe_fds), 0);
  forkq_wait_entry_t entries[] = { forkq_wait_on_queue(queue),
                                   forkq_wait_on_fd(pipe_fds[0]) };
  ck_assert_int_eq(forkq_wait(entries, 2, 30), 0);
  until_blocked(1);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_both, entries), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq((intptr_t)support_join(thread), 1);
  ck_assert_int_eq(entries[0].ready, 1);
  ck_assert_int_eq(entries[1].ready, 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(write(pipe_fds[1], "a", 1), 1);
  ck_assert_int_eq(forkq_wait(entries, 2, PATIENCE_MS), 1);
  ck_assert_int_eq(entries[0].ready, 0);
  ck_assert_int_eq(entries[1].ready, 1);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_wait(entries, 1, PATIENCE_MS), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(forkq_wait(entries, 1, 0), 0);
  until_blocked(1);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}
END_TEST

START_TEST(a_close_ends_a_wait) {
  forkq_wait_entry_t entries[] = { forkq_wait_on_queue(queue), forkq_wait_on_fd(0) };
  int pipe_fds[2];
  ck_assert_int_eq(pipe(pipe_fds), 0);
  entries[1] = forkq_wait_on_fd(pipe_fds[0]);
  ck_assert_int_eq(forkq_wait(entries, 2, 0), 0);
  until_blocked(1);
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_both, entries), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  intptr_t r = (intptr_t)support_join(thread);
  ck_assert(r == 1 || r == FORKQ_ECLOSED);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}
END_TEST

START_TEST(a_closed_queue_has_none) {
  (void)watch(queue);
  until_blocked(1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_fileno(queue), FORKQ_ECLOSED);
  until_blocked(0);
  ck_assert_int_eq(server_number("ZCARD {fq:jobs}:l"), 0);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_fileno");
  TCase *tcase = tcase_create("redis_fileno");
  tcase_add_unchecked_fixture(tcase, server_start_plain, server_stop);
  tcase_add_checked_fixture(tcase, set_up, redis_tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, it_is_readable_while_there_may_be_items);
  tcase_add_test(tcase, what_was_there_before);
  tcase_add_test(tcase, several_watch);
  tcase_add_test(tcase, a_shutdown_is_told);
  tcase_add_test(tcase, a_lost_connection_is_made_anew);
  tcase_add_test(tcase, a_child_has_its_own);
  tcase_add_test(tcase, a_wait_for_it_and_for_others);
  tcase_add_test(tcase, a_close_ends_a_wait);
  tcase_add_test(tcase, a_closed_queue_has_none);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
