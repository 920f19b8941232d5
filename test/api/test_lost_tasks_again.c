/* Queues that keep tasks: what was got and not done is got again after the death of its process. */
#define _GNU_SOURCE
#include "lost_tasks_helpers.h"

#include <string.h>
#include <unistd.h>

#define SMALL_MAX FORKQ__KEPT_SMALL
#define MEDIUM_MAX FORKQ__KEPT_MEDIUM

/* ---- sizes -------------------------------------------------------------------------------------- */

static const size_t sizes[] = { 6,
                                511,
                                SMALL_MAX - 1,
                                SMALL_MAX,
                                SMALL_MAX + 1,
                                100000,
                                MEDIUM_MAX,
                                MEDIUM_MAX + 1,
                                FORKQ_KEPT_MESSAGE_MAX };
#define SIZES (sizeof sizes / sizeof *sizes)

static void take_all_borrowed(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (size_t i = 0; i < SIZES; i++)
    CHILD_MUST(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void take_all_packed(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (size_t i = 0; i < SIZES; i++)
    CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void take_all_as_a_batch(void *arg) {
  forkq_item_t batch[SIZES];
  memset(batch, 0, sizeof batch);
  for (size_t got = 0, n = 0; got < SIZES; got += n)
    CHILD_MUST(forkq_queue_get_many(queue, batch, SIZES - got, PATIENCE_MS, &n) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

static void lose_by(void (*take_all)(void *arg)) {
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t pid = support_fork(take_all, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
}

static void each_size_comes_again(bool by_pipe) {
  static void (*const takes[])(void *) = { take_all_borrowed, take_all_packed,
                                           take_all_as_a_batch };
  if (by_pipe)
    support_keep_to_pipe(queue);
  for (size_t t = 0; t < sizeof takes / sizeof *takes; t++) {
    for (size_t i = 0; i < SIZES; i++)
      ck_assert_int_eq(put_bin(sizes[i], -1), 0);
    lose_by(takes[t]);
    forkq_item_t item = FORKQ_ITEM_INIT;
    for (size_t i = 0; i < SIZES; i++) {
      ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
      ck_assert(is_bin(&item, sizes[i]));
      ck_assert_uint_eq(item.redelivered, 1);
      ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
    }
    forkq_item_destroy(&item);
    assert_joined(0);
    ck_assert_uint_eq(in_use(), 0);
    for (uint32_t i = 0; i < kept()->used; i++)
      ck_assert_uint_eq(kept()->tasks[i].large, 0);
  }
}

START_TEST(messages_of_each_size) {
  each_size_comes_again(false);
}
END_TEST

START_TEST(messages_of_each_size_by_the_pipe) {
  each_size_comes_again(true);
}
END_TEST

/* Their bytes are kept before the read lock is let go. */
START_TEST(messages_of_each_size_where_others_are_copied_late) {
  support_copy_late(queue);
  each_size_comes_again(false);
}
END_TEST

START_TEST(into_a_buffer) {
  char buffer[100];
  size_t size = 0;
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "of a task", 9, -1), 0);
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t pid = fork();
  if (pid == 0) {
    CHILD_MUST(forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, PATIENCE_MS,
                                          &size) == 0);
    atomic_store(ready, 1);
    stay();
  }
  support_until(ready);
  support_kill_and_wait(pid);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 3, PATIENCE_MS, &size),
                   FORKQ_ETOOSHORT);
  ck_assert_uint_eq(size, 9);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, 0, &size), 0);
  ck_assert_uint_eq(size, 9);
  ck_assert_mem_eq(buffer, "of a task", 9);
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  assert_joined(0);
}
END_TEST

/* As if its size had changed after the getter had looked at it. */
START_TEST(a_page_has_no_large_message) {
  static char data[FORKQ_KEPT_MESSAGE_MAX];
  const uint32_t last = FORKQ__KEPT_MAX - 1;
  kept()->tasks[last].size = 1;
  ck_assert_int_eq(
      forkq__kept_read(&queue->channel.account, last, data, FORKQ_KEPT_MESSAGE_MAX), 0);
}
END_TEST

/* ---- got again ---------------------------------------------------------------------------------- */

static uint64_t redelivered(void) {
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  return stats.redelivered_items;
}

START_TEST(lost_tasks_come_before_all_others) {
  put_numbers(0, 5);
  lose(3, 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 4);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  lose(1, 0); /* 1, again */
  ck_assert_int_eq(forkq_queue_qsize(queue), 4);
  assert_got(2, 1);
  assert_got(1, 2);
  assert_got(3, 0);
  assert_got(4, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  assert_joined(0);
  ck_assert_uint_eq(redelivered(), 3);
}
END_TEST

static bool hidden;

/* A reader looks for a lost task. Other gets look at `look` only. */
uint32_t __wrap_forkq__kept_next_lost(struct forkq__ledger *ledger);
uint32_t __real_forkq__kept_next_lost(struct forkq__ledger *ledger);
uint32_t __wrap_forkq__kept_next_lost(struct forkq__ledger *ledger) {
  uint32_t task = __real_forkq__kept_next_lost(ledger);
  hidden = hidden || (task != FORKQ__NO_TASK && ledger->kept.look == 0);
  return task;
}

START_TEST(a_getter_hides_no_lost_task_from_others) {
  put_numbers(0, 3);
  lose(3, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3);
  hidden = false;
  for (int i = 0; i < 3; i++)
    assert_got(i, 1);
  ck_assert(!hidden);
  ck_assert_int_eq(kept()->look, 0);
  assert_joined(0);
}
END_TEST

START_TEST(a_batch_has_them_first) {
  forkq_item_t batch[8];
  size_t n = 0;
  memset(batch, 0, sizeof batch);
  put_numbers(0, 5);
  lose(2, 0);
  until_sent(queue);
  ck_assert_int_ge(forkq_queue_qsize(queue), 5);
  ck_assert_int_eq(forkq_queue_get_many(queue, batch, 8, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 5);
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(batch[i].object.via.i64, i);
    ck_assert_uint_eq(batch[i].redelivered, i < 2);
    ck_assert_int_eq(forkq_queue_task_done_item(queue, &batch[i]), 0);
  }
  for (int i = 0; i < 8; i++)
    forkq_item_destroy(&batch[i]);
  assert_joined(0);
}
END_TEST

/* The put takes a slot; what is got again has none. */
START_TEST(with_a_maxsize) {
  forkq_queue_destroy(queue);
  create(FORKQ_LOST_TASKS_REDELIVER, 2);
  put_numbers(0, 2);
  lose(2, 0);
  put_numbers(2, 4);
  ck_assert_int_eq(put(4, 0), FORKQ_FULL);
  for (int i = 0; i < 4; i++)
    assert_got(i, i < 2);
  assert_joined(0);
}
END_TEST

/* ---- shutdown ------------------------------------------------------------------------------------ */

/* The last worker has no task, and waits for that of the other, which dies. */
START_TEST(a_shutdown_waits_for_tasks_that_others_have) {
  put_numbers(7, 8);
  pid_t pid = start((struct worker){ .gets = 1 });
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(get(50), FORKQ_TIMEDOUT);
  support_kill_and_wait(pid);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  /* It does not wait for itself. */
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_ESHUTDOWN);
  forkq_item_destroy(&item);
  assert_joined(0);
}
END_TEST

START_TEST(an_immediate_shutdown_drops_what_is_to_be_got_again) {
  put_numbers(0, 3);
  lose(2, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
  assert_joined(0);
  ck_assert_uint_eq(in_use(), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

START_TEST(also_what_is_lost_after_it) {
  put_numbers(0, 3);
  pid_t pid = start((struct worker){ .gets = 2 });
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_TIMEDOUT);
  support_kill_and_wait(pid);
  assert_joined(0);
  ck_assert_uint_eq(in_use(), 0);
}
END_TEST

/* ---- another program ------------------------------------------------------------------------------ */

static void attach_and_take(void *arg) {
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  int fds[FORKQ_HANDOVER_FDS];
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST((fds[i] = dup(handover.fds[i])) >= 0);
  forkq_queue_destroy(queue);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(dup2(fds[i], handover.fds[i]) >= 0 && close(fds[i]) == 0);
  CHILD_MUST(forkq_queue_attach(&queue, handover.text, NULL) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 0);
  CHILD_MUST(get(PATIENCE_MS) == 1);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  atomic_store((_Atomic int *)arg, 1);
  stay();
}

START_TEST(a_process_that_attaches_keeps_tasks_too) {
  _Atomic int *ready = support_shared(sizeof *ready);
  put_numbers(0, 2);
  pid_t pid = support_fork(attach_and_take, (void *)ready);
  support_until(ready);
  support_kill_and_wait(pid);
  assert_got(1, 1);
  assert_joined(0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lost_tasks_again");
  TCase *again = tcase_create("redeliver");
  tcase_set_timeout(again, 60);
  tcase_add_checked_fixture(again, redeliver, queue_tear_down);
  tcase_add_test(again, messages_of_each_size);
  tcase_add_test(again, messages_of_each_size_by_the_pipe);
  tcase_add_test(again, messages_of_each_size_where_others_are_copied_late);
  tcase_add_test(again, into_a_buffer);
  tcase_add_test(again, a_page_has_no_large_message);
  tcase_add_test(again, lost_tasks_come_before_all_others);
  tcase_add_test(again, a_getter_hides_no_lost_task_from_others);
  tcase_add_test(again, a_batch_has_them_first);
  tcase_add_test(again, with_a_maxsize);
  tcase_add_test(again, a_shutdown_waits_for_tasks_that_others_have);
  tcase_add_test(again, an_immediate_shutdown_drops_what_is_to_be_got_again);
  tcase_add_test(again, also_what_is_lost_after_it);
  tcase_add_test(again, a_process_that_attaches_keeps_tasks_too);
  suite_add_tcase(suite, again);
  return support_main(suite);
}
