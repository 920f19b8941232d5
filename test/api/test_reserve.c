/* Reserving memory for a message, writing it, and committing or abandoning it. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 10000
#define SIZE 50000

static void set_up(void) {
  fds_before = support_open_fds();
  support_heap_install();
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
}

static void tear_down(void) {
  queue_tear_down();
  ck_assert_int_eq(support_heap_live(), 0);
}

static void *reserve(size_t size) {
  void *memory = NULL;
  ck_assert_int_eq(forkq_queue_reserve(queue, size, &memory), 0);
  ck_assert(memory != NULL && (uintptr_t)memory % 16 == 0);
  memset(memory, 0xc1, size); /* which msgpack does not have */
  return memory;
}

static bool is_in_arena(const void *memory) {
  const struct forkq__arena *arena = &queue->feeder.sender.arena;
  uintptr_t begin = (uintptr_t)arena->memory, at = (uintptr_t)memory;
  return arena->memory != NULL && at >= begin && at < begin + FORKQ__ARENA_SIZE;
}

static int commit(void *memory, size_t size, int timeout_ms) {
  make_bin(memory, size);
  return forkq_queue_commit(queue, memory, size, timeout_ms);
}

START_TEST(what_was_written_arrives) {
  static const size_t sizes[] = { 6, 511, 512, 4063, SIZE, 1u << 20 };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    void *memory = reserve(sizes[i]);
    ck_assert(is_in_arena(memory) == (sizes[i] >= FORKQ__BESIDE_MIN));
    ck_assert_int_eq(commit(memory, sizes[i], 0), 0);
    assert_get_bin(sizes[i]);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, 6, 0), -EINVAL);
  }
  assert_no_piece_is_used();
}
END_TEST

/* Nothing is taken by a reservation, and the order is that of the commits. */
START_TEST(they_are_put_in_the_order_of_the_commits) {
  void *first = reserve(SIZE), *second = reserve(SIZE), *third = reserve(SIZE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(commit(third, 3000, 0), 0);
  ck_assert_int_eq(commit(first, 1000, 0), FORKQ_FULL);
  ck_assert_int_eq(commit(first, 1000, 20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(commit(first, 2000, 0), 0); /* it is still reserved */
  assert_get_bin(3000);
  assert_get_bin(2000);
  ck_assert_int_eq(commit(second, SIZE, 0), 0);
  assert_get_bin(SIZE);
  assert_no_piece_is_used();
}
END_TEST

START_TEST(what_cannot_be_committed_stays_reserved) {
  static const size_t sizes[] = { 100, SIZE };
  for (int i = 0; i < 2; i++) {
    char *memory = reserve(sizes[i]);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, 10, 0), FORKQ_EBADOBJECT);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, sizes[i] + 1, 0), FORKQ_ETOOBIG);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, 0, 0), FORKQ_EBADOBJECT);
    ck_assert_int_eq(forkq_queue_commit(queue, memory + 1, 1, 0), -EINVAL);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, 10, -2), FORKQ_ETIMEOUT);
    ck_assert_int_eq(commit(memory, 50, 0), 0);
    assert_get_bin(50);
    memory = reserve(sizes[i]);
    ck_assert_int_eq(forkq_queue_abandon(queue, memory), 0);
    ck_assert_int_eq(forkq_queue_abandon(queue, memory), -EINVAL);
  }
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  assert_no_piece_is_used();
}
END_TEST

START_TEST(errors_of_the_arguments) {
  void *memory = &memory;
  ck_assert_int_eq(forkq_queue_reserve(NULL, 1, &memory), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_reserve(queue, 1, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_reserve(queue, 0, &memory), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_reserve(queue, (size_t)FORKQ_MESSAGE_MAX + 1, &memory),
                   FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_queue_commit(NULL, memory, 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_commit(queue, NULL, 1, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_commit(queue, memory, 1, 0), -EINVAL);
  ck_assert_int_eq(forkq_queue_abandon(NULL, memory), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_abandon(queue, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_abandon(queue, memory), -EINVAL);
  ck_assert_ptr_eq(memory, &memory);
}
END_TEST

/* Where the arena has no room, the heap has. */
START_TEST(without_room_beside_the_pipe_it_goes_through_it) {
  void *all = reserve(FORKQ__ARENA_SIZE), *more = reserve(SIZE);
  ck_assert(is_in_arena(all) && !is_in_arena(more));
  ck_assert_int_eq(commit(more, SIZE, 0), 0);
  assert_get_bin(SIZE);
  ck_assert_int_eq(forkq_queue_abandon(queue, all), 0);
  ck_assert(is_in_arena(reserve(SIZE)));
}
END_TEST

START_TEST(without_memory_nothing_stays) {
  for (int beside = 0; beside < 2; beside++) {
    long k = 0;
    int r;
    do {
      void *memory;
      support_heap_fail_at(++k, false);
      r = forkq_queue_reserve(queue, beside ? SIZE : 100, &memory);
      support_heap_fail_at(0, false);
      if (r == 0) {
        ck_assert_int_eq(commit(memory, 100, 0), 0);
        assert_get_bin(100);
      } else {
        ck_assert_int_eq(r, -ENOMEM);
      }
    } while (r < 0 || k < 6);
  }
  ck_assert(TAILQ_EMPTY(&queue->reservations));
}
END_TEST

START_TEST(after_a_close_it_can_be_written_to_and_no_more) {
  void *memory = reserve(SIZE), *small = reserve(100);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, PATIENCE_MS, NULL), 0);
  ck_assert_int_eq(commit(memory, SIZE, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(commit(small, 100, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_reserve(queue, 1, &memory), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_abandon(queue, small), 0);
}
END_TEST

START_TEST(after_a_shutdown_it_is_not_put) {
  void *memory = reserve(SIZE);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(PATIENCE_MS),
                   FORKQ_ESHUTDOWN); /* which waits for no reservation */
  ck_assert_int_eq(commit(memory, SIZE, 0), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(forkq_queue_reserve(queue, 1, &memory), FORKQ_ESHUTDOWN);
}
END_TEST

static void have_nothing_of_the_parent(void *memory) {
  CHILD_MUST(forkq_queue_commit(queue, memory, 100, 0) == -EINVAL);
  void *own = NULL;
  CHILD_MUST(forkq_queue_reserve(queue, SIZE, &own) == 0 && is_in_arena(own));
  make_bin(own, SIZE);
  CHILD_MUST(forkq_queue_commit(queue, own, SIZE, 0) == 0);
  until_sent(queue);
  CHILD_MUST(forkq_queue_reserve(queue, SIZE, &own) == 0);
  memset(own, 'x', SIZE);
  raise(SIGKILL); /* in the middle */
}

START_TEST(a_child_has_its_own_and_its_death_leaves_nothing) {
  void *memory = reserve(SIZE);
  pid_t child = support_fork(have_nothing_of_the_parent, memory);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
  assert_get_bin(SIZE);
  ck_assert_int_eq(commit(memory, SIZE, 0), 0);
  assert_get_bin(SIZE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

static void *commit_into_full(void *memory) {
  make_bin(memory, SIZE);
  return (void *)(intptr_t)forkq_queue_commit(queue, memory, SIZE, PATIENCE_MS);
}

/* While one thread waits in a commit, no other has the reservation. */
START_TEST(who_commits_has_it_alone) {
  pthread_t thread;
  static const size_t sizes[] = { 100, SIZE };
  for (int i = 0; i < 2; i++) {
    void *memory = reserve(SIZE);
    if (i == 0) { /* of the heap, as there is no room */
      ck_assert_int_eq(forkq_queue_abandon(queue, memory), 0);
      void *all = reserve(FORKQ__ARENA_SIZE);
      memory = reserve(SIZE);
      ck_assert_int_eq(forkq_queue_abandon(queue, all), 0);
    }
    ck_assert(put(1, 0) == 0 && put(2, 0) == 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, commit_into_full, memory), 0);
    support_until_equal((const _Atomic uint32_t *)&queue->segment->slots.waiters, 1);
    ck_assert_int_eq(forkq_queue_abandon(queue, memory), -EINVAL);
    ck_assert_int_eq(forkq_queue_commit(queue, memory, sizes[i], 0), -EINVAL);
    ck_assert(get(PATIENCE_MS) == 1 && get(PATIENCE_MS) == 2);
    assert_get_bin(SIZE);
    ck_assert_ptr_null(support_join(thread));
    ck_assert_int_eq(forkq_queue_abandon(queue, memory), -EINVAL);
  }
  assert_no_piece_is_used();
}
END_TEST

START_TEST(a_thread_that_is_cancelled_in_a_commit_leaves_it_reserved) {
  pthread_t thread;
  void *memory = reserve(SIZE);
  ck_assert(put(1, 0) == 0 && put(2, 0) == 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, commit_into_full, memory), 0);
  support_until_equal((const _Atomic uint32_t *)&queue->segment->slots.waiters, 1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
  ck_assert_ptr_eq(support_join(thread), PTHREAD_CANCELED);
  ck_assert(get(PATIENCE_MS) == 1 && get(PATIENCE_MS) == 2);
  ck_assert_int_eq(commit(memory, SIZE, 0), 0);
  assert_get_bin(SIZE);
}
END_TEST

static void *commit_many(void *arg) {
  for (int i = 0; i < 200; i++) {
    void *memory = NULL;
    size_t size = 600 + (size_t)i * 50;
    support_assert(forkq_queue_reserve(queue, size, &memory) == 0);
    if (i % 3 == 0) {
      support_assert(forkq_queue_abandon(queue, memory) == 0);
      continue;
    }
    make_bin(memory, size);
    support_assert(forkq_queue_commit(queue, memory, size, PATIENCE_MS) == 0);
  }
  return arg;
}

START_TEST(many_threads_at_once) {
  pthread_t threads[3];
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, commit_many, NULL), 0);
  for (int i = 0; i < 3 * 133; i++) {
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, PATIENCE_MS), 0);
    support_assert(is_bin(&item, item.size));
  }
  for (int i = 0; i < 3; i++)
    ck_assert_ptr_null(support_join(threads[i]));
  forkq_item_destroy(&item);
  assert_no_piece_is_used();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("reserve");
  TCase *tcase = tcase_create("reserve");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, what_was_written_arrives);
  tcase_add_test(tcase, they_are_put_in_the_order_of_the_commits);
  tcase_add_test(tcase, what_cannot_be_committed_stays_reserved);
  tcase_add_test(tcase, errors_of_the_arguments);
  tcase_add_test(tcase, without_room_beside_the_pipe_it_goes_through_it);
  tcase_add_test(tcase, without_memory_nothing_stays);
  tcase_add_test(tcase, after_a_close_it_can_be_written_to_and_no_more);
  tcase_add_test(tcase, after_a_shutdown_it_is_not_put);
  tcase_add_test(tcase, a_child_has_its_own_and_its_death_leaves_nothing);
  tcase_add_test(tcase, who_commits_has_it_alone);
  tcase_add_test(tcase, a_thread_that_is_cancelled_in_a_commit_leaves_it_reserved);
  tcase_add_test(tcase, many_threads_at_once);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
