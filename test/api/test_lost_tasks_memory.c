/* Queues that keep tasks: the memory that kept messages take, and when it goes back. */
#define _GNU_SOURCE
#include "lost_tasks_helpers.h"

#include <sys/stat.h>
#include <unistd.h>

#define MEDIUM 100000
#define SECOND INT64_C(1000000000)

/* What else may come and go: a page of the table, or of a cell. */
#define SLACK 16384

/* Of the queue, all in all. */
static int64_t memory(void) {
  struct stat status;
  ck_assert_int_eq(fstat(queue->channel.account.liveness.memory_fd, &status), 0);
  return (int64_t)status.st_blocks * 512;
}

/* Nothing lies in an arena. */
static void begin(void) {
  support_keep_to_pipe(queue);
  put_numbers(0, 1);
  assert_got(0, 0);
}

static void pass(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(put_bin(size, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert(is_bin(&item, size));
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  forkq_item_destroy(&item);
}

static void until_back(int64_t before) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  while (memory() > before + SLACK && support_now_ms() < deadline)
    usleep(1000);
  ck_assert_int_le(memory(), before + SLACK);
}

static void sleep_in_get(void *arg) {
  (void)arg;
  CHILD_MUST(get(-1) == 1);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
}

static void end_sleeper(pid_t pid) {
  put_numbers(1, 2);
  ck_assert_int_eq(support_wait(pid), 0);
}

START_TEST(it_stays_for_the_next_and_goes_back_when_none_comes) {
  begin();
  int64_t before = memory();
  pass(MEDIUM / 2);
  ck_assert_int_ge(memory(), before + MEDIUM / 2);
  pass(MEDIUM);
  int64_t with = memory();
  ck_assert_uint_ge(kept()->tasks[0].medium, MEDIUM);
  ck_assert_int_ge(with, before + MEDIUM);
  pass(MEDIUM);
  ck_assert_int_le(memory(), with + SLACK);
  ck_assert_uint_eq(kept()->warm, 1);
  pid_t pid = support_fork(sleep_in_get, NULL);
  until_back(before);
  support_until_equal(&kept()->warm, 0);
  end_sleeper(pid);
}
END_TEST

/* Where tasks come again a getter looks every 0.1 s. The message is as if it came in an hour, so that it is too
 * early for that, however long this takes. */
START_TEST(it_goes_back_when_none_came_for_a_second) {
  begin();
  int64_t before = memory();
  pass(MEDIUM);
  kept()->used_at += 3600 * SECOND;
  pid_t pid = support_fork(sleep_in_get, NULL);
  support_until_asleep(pid);
  ck_assert_int_ge(memory(), before + MEDIUM);
  kept()->used_at -= 3601 * SECOND;
  until_back(before);
  end_sleeper(pid);
}
END_TEST

static void close_it(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_close(queue) == 0);
}

static void close_in_child(void) {
  ck_assert_int_eq(support_wait(support_fork(close_it, NULL)), 0);
}

START_TEST(a_close_gives_it_back) {
  begin();
  int64_t before = memory();
  pass(MEDIUM);
  close_in_child();
  ck_assert_int_le(memory(), before + SLACK);
  pass(MEDIUM);
}
END_TEST

/* As if a process had died when it had said that there is none, and had not given it back. */
START_TEST(what_one_left_that_died_goes_back) {
  begin();
  int64_t before = memory();
  pass(MEDIUM);
  kept()->tasks[0].medium = 0;
  close_in_child();
  ck_assert_int_le(memory(), before + SLACK);
}
END_TEST

static void take_one(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static pid_t one_takes(size_t size) {
  _Atomic int *ready = support_shared(sizeof *ready);
  ck_assert_int_eq(put_bin(size, -1), 0);
  pid_t pid = support_fork(take_one, (void *)ready);
  support_until(ready);
  return pid;
}

START_TEST(what_a_task_has_stays) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  begin();
  pass(MEDIUM);
  pid_t pid = one_takes(MEDIUM);
  pass(MEDIUM + 1);
  ck_assert_uint_gt(kept()->tasks[1].medium, MEDIUM);
  close_in_child();
  ck_assert_uint_ge(kept()->tasks[0].medium, MEDIUM);
  ck_assert_uint_eq(kept()->tasks[1].medium, 0);
  ck_assert_uint_eq(kept()->warm, 1);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert(is_bin(&item, MEDIUM));
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  close_in_child();
  ck_assert_uint_eq(kept()->warm, 0);
  forkq_item_destroy(&item);
}
END_TEST

static void take_all_mediums(void *arg) {
  for (uint32_t i = 0; i < FORKQ__KEPT_MEDIUMS; i++)
    CHILD_MUST(get(PATIENCE_MS) == (int64_t)i);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

/* Of a large message, and of one for which the rooms of the first entries are in use. */
START_TEST(the_others_go_back_with_their_task) {
  begin();
  pass(FORKQ__KEPT_MEDIUM + 1);
  ck_assert_uint_eq(kept()->warm, 0);
  _Atomic int *ready = support_shared(sizeof *ready);
  put_numbers(0, FORKQ__KEPT_MEDIUMS);
  pid_t pid = support_fork(take_all_mediums, (void *)ready);
  support_until(ready);
  int64_t before = memory();
  pid_t other = one_takes(MEDIUM);
  ck_assert_uint_ge(kept()->tasks[FORKQ__KEPT_MEDIUMS].large, MEDIUM);
  ck_assert_int_ge(memory(), before + MEDIUM);
  support_kill_and_wait(other);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert(is_bin(&item, MEDIUM));
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_uint_eq(kept()->tasks[FORKQ__KEPT_MEDIUMS].large, 0);
  ck_assert_int_le(memory(), before + SLACK);
  ck_assert_uint_eq(kept()->warm, 0);
  support_kill_and_wait(pid);
  forkq_item_destroy(&item);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lost_tasks_memory");
  TCase *told = tcase_create("told");
  tcase_set_timeout(told, 60);
  tcase_add_checked_fixture(told, tell, queue_tear_down);
  tcase_add_test(told, it_stays_for_the_next_and_goes_back_when_none_comes);
  suite_add_tcase(suite, told);
  TCase *again = tcase_create("again");
  tcase_set_timeout(again, 60);
  tcase_add_checked_fixture(again, redeliver, queue_tear_down);
  tcase_add_test(again, it_goes_back_when_none_came_for_a_second);
  tcase_add_test(again, a_close_gives_it_back);
  tcase_add_test(again, what_one_left_that_died_goes_back);
  tcase_add_test(again, what_a_task_has_stays);
  tcase_add_test(again, the_others_go_back_with_their_task);
  suite_add_tcase(suite, again);
  return support_main(suite);
}
