/* The descriptor for a loop of the program's own. */
#include "queue_helpers.h"

#include <errno.h>
#include <forkq.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

static _Atomic int *steps; /* shared with children */

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  steps = support_shared(2 * sizeof *steps);
}

/* 0, 1 and 2, in one packet. */
static void put_three(void) {
  msgpack_object objects[3] = { 0 };
  size_t n = 0;
  for (unsigned i = 0; i < 3; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = i;
  }
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 3, -1, &n), 0);
  ck_assert_uint_eq(n, 3);
}

static int readable(int timeout_ms) {
  struct pollfd fd = { .fd = forkq_queue_fileno(queue), .events = POLLIN };
  support_assert(fd.fd >= 0);
  return poll(&fd, 1, timeout_ms);
}

START_TEST(readable_while_items_are_there) {
  ck_assert_int_eq(readable(0), 0);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(readable(10000), 1);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(readable(10000), 1); /* level-triggered */
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(readable(0), 0);
  ck_assert_int_eq(readable(0), 0);
}
END_TEST

START_TEST(one_descriptor_at_all_times) {
  int fd = forkq_queue_fileno(queue);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(forkq_queue_fileno(queue), fd);
}
END_TEST

static void take_one(void *arg) {
  (void)arg;
  CHILD_MUST(get(10000) == 0);
  atomic_store(&steps[0], 1);
  support_until(&steps[1]);
}

static pid_t let_a_child_read_ahead(void) {
  pid_t child = support_fork(take_one, NULL);
  support_until(&steps[0]);
  return child;
}

START_TEST(readable_when_another_process_has_read_ahead) {
  ck_assert_int_eq(readable(0), 0);
  put_three();
  pid_t child = let_a_child_read_ahead();
  ck_assert_int_eq(readable(0), 1);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(readable(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(readable(0), 0);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(readable_when_it_was_read_ahead_before_anybody_asked) {
  put_three();
  pid_t child = let_a_child_read_ahead();
  ck_assert_int_eq(readable(0), 1);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(readable(0), 0);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(readable_after_the_reader_that_read_ahead_was_killed) {
  ck_assert_int_eq(readable(0), 0);
  put_three();
  support_kill_and_wait(let_a_child_read_ahead());
  ck_assert_int_eq(readable(0), 1);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(readable(0), 0);
}
END_TEST

START_TEST(a_getter_that_sleeps_elsewhere_takes_nothing_from_it) {
  ck_assert_int_eq(readable(0), 0);
  pid_t child = support_fork(take_one, NULL);
  support_until_asleep(child);
  ck_assert_int_eq(put(0, -1), 0);
  support_until(&steps[0]);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(readable(10000), 1);
  ck_assert_int_eq(get(0), 1);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(readable_after_a_shutdown) {
  ck_assert_int_eq(readable(0), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(readable(0), 1);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(readable(0), 1);
}
END_TEST

static void watch_in_child(void *arg) {
  int fd = forkq_queue_fileno(queue);
  CHILD_MUST(fd == (intptr_t)arg);
  atomic_store(&steps[0], 1);
  CHILD_MUST(readable(10000) == 1);
  CHILD_MUST(get(0) == 1);
  CHILD_MUST(forkq_queue_close(queue) == 0);
}

START_TEST(a_child_has_it_too) {
  int fd = forkq_queue_fileno(queue);
  pid_t child = support_fork(watch_in_child, (void *)(intptr_t)fd);
  support_until(&steps[0]);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(support_wait(child), 0);
  /* The child has closed its own; the parent's is as good as before. What the child's get
   * has raised goes first. */
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(readable(0), 0);
  steps[0] = 0;
  put_three();
  child = let_a_child_read_ahead();
  ck_assert_int_eq(readable(0), 1);
  atomic_store(&steps[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(in_an_epoll_instance) {
  struct epoll_event event = { .events = EPOLLIN };
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  ck_assert_int_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, forkq_queue_fileno(queue), &event), 0);
  ck_assert_int_eq(epoll_wait(epoll, &event, 1, 0), 0);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(epoll_wait(epoll, &event, 1, 10000), 1);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(epoll_wait(epoll, &event, 1, 0), 0);
  close(epoll);
}
END_TEST

START_TEST(errors) {
  ck_assert_int_eq(forkq_queue_fileno(NULL), FORKQ_ENULL);
  ck_assert_int_ge(forkq_queue_fileno(queue), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_fileno(queue), FORKQ_ECLOSED);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("fileno");
  TCase *tcase = tcase_create("fileno");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, readable_while_items_are_there);
  tcase_add_test(tcase, one_descriptor_at_all_times);
  tcase_add_test(tcase, readable_when_another_process_has_read_ahead);
  tcase_add_test(tcase, readable_when_it_was_read_ahead_before_anybody_asked);
  tcase_add_test(tcase, readable_after_the_reader_that_read_ahead_was_killed);
  tcase_add_test(tcase, a_getter_that_sleeps_elsewhere_takes_nothing_from_it);
  tcase_add_test(tcase, readable_after_a_shutdown);
  tcase_add_test(tcase, a_child_has_it_too);
  tcase_add_test(tcase, in_an_epoll_instance);
  tcase_add_test(tcase, errors);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
