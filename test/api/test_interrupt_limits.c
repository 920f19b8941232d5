/* What an interrupt leaves alone: calls that need not wait, those that end for another reason, and other
 * queues. */
#include "queue_helpers.h"

#include <forkq.h>

static void set_up(void) {
  fds_before = support_open_fds();
}

START_TEST(a_call_that_need_not_wait_goes_on) {
  forkq_wait_entry_t entry;
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  entry = forkq_wait_on_queue(queue);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  until_sent(queue);
  ck_assert_int_eq(forkq_queue_flush(queue, -1, NULL), 0);
  ck_assert_int_eq(forkq_wait(&entry, 1, -1), 1);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(get(-1), 2);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(put(3, -1), 0);
  ck_assert_int_eq(get(-1), 3);
}
END_TEST

START_TEST(a_close_and_a_shutdown_come_first) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(put(1, -1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(get(-1), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
}
END_TEST

START_TEST(of_two_queues_one_is_interrupted) {
  forkq_queue_t *other;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_create(&other, 0), 0);
  forkq_wait_entry_t both[] = { forkq_wait_on_queue(queue), forkq_wait_on_queue(other) };
  ck_assert_int_eq(forkq_queue_interrupt(other), 0);
  ck_assert_int_eq(get(5), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_wait(both, 2, -1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(forkq_wait(both, 2, 5), 0);
  ck_assert_int_eq(get_int(other, 5), FORKQ_TIMEDOUT);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(without_memory_it_is_told_once_more) {
  support_heap_install();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  support_heap_fail_at(1, true);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED); /* once more */
  ck_assert_int_eq(get(5), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_interrupt(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_interrupt(NULL), FORKQ_ENULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("interrupt_limits");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 60);
  tcase_add_checked_fixture(all, set_up, queue_tear_down);
  tcase_add_test(all, a_call_that_need_not_wait_goes_on);
  tcase_add_test(all, a_close_and_a_shutdown_come_first);
  tcase_add_test(all, of_two_queues_one_is_interrupted);
  tcase_add_test(all, without_memory_it_is_told_once_more);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
