/* The descriptor that says that there is room: a loop of the program puts until FORKQ_FULL, then waits for the
 * descriptor, without a timer. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/wait.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#define PATIENCE_MS 10000
#define LARGE (1u << 20) /* more than the pipe holds */

static int room;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
}

static bool is_ready(int fd, int ms) {
  struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
  return poll(&poll_fd, 1, ms) == 1;
}

static void ask(void) {
  room = forkq_queue_room_fileno(queue);
  ck_assert_int_ge(room, 0);
}

static void fill(void) {
  while (put(1, 0) == 0)
    ;
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
}

START_TEST(it_follows_the_puts_of_this_process) {
  ask();
  ck_assert_int_eq(forkq_queue_room_fileno(queue), room);
  ck_assert(is_ready(room, 0));
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert(is_ready(room, 0));
  fill();
  ck_assert(!is_ready(room, 0));
  ck_assert_int_eq(get(0), 1);
  ck_assert(is_ready(room, PATIENCE_MS));
  ck_assert(is_ready(room, 0)); /* level-triggered */
  ck_assert_int_eq(put(1, 0), 0);
  fill();
  ck_assert(!is_ready(room, 0));
}
END_TEST

START_TEST(forkq_wait_waits_for_it_and_for_others) {
  ask();
  fill();
  forkq_wait_entry_t entries[] = { forkq_wait_on_fd(room), forkq_wait_on_queue(queue) };
  ck_assert_int_eq(forkq_wait(entries, 2, PATIENCE_MS), 1);
  ck_assert(!entries[0].ready && entries[1].ready);
  while (get(0) == 1)
    ;
  ck_assert_int_eq(forkq_wait(entries, 2, PATIENCE_MS), 1);
  ck_assert(entries[0].ready && !entries[1].ready);
}
END_TEST

/* The way into a piece, or into a draft, finds no room elsewhere. */
START_TEST(every_kind_of_put_lowers_it) {
  static char large[LARGE];
  void *memory;
  make_bin(large, sizeof large);
  ask();
  ck_assert_int_eq(forkq_queue_reserve(queue, sizeof large, &memory), 0);
  make_bin(memory, sizeof large);
  for (int i = 0; i < 3; i++) {
    for (int n = 0; n < 2; n++)
      ck_assert_int_eq(put(1, 0), 0);
    ck_assert(is_ready(room, 0));
    int r = i == 0   ? put(1, 0)
            : i == 1 ? put_packed(large, sizeof large, 0)
                     : forkq_queue_commit(queue, memory, sizeof large, 0);
    ck_assert_int_eq(r, FORKQ_FULL);
    ck_assert(!is_ready(room, 0));
    ck_assert_int_eq(get(PATIENCE_MS), 1);
    ck_assert_int_eq(get(PATIENCE_MS), 1);
    ck_assert(is_ready(room, PATIENCE_MS));
  }
}
END_TEST

static void get_one(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_MS) == 1);
  forkq_queue_destroy(queue);
}

START_TEST(another_process_makes_room) {
  ask();
  for (int i = 0; i < 20; i++) {
    fill();
    pid_t child = support_fork(get_one, NULL);
    ck_assert(is_ready(room, PATIENCE_MS));
    ck_assert_int_eq(support_wait(child), 0);
  }
}
END_TEST

/* Edge-triggered, each time that there is room after FORKQ_FULL is an event. */
START_TEST(edges_come_too) {
  int set = epoll_create1(0);
  ask();
  struct epoll_event event = { .events = EPOLLIN | EPOLLET };
  ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, room, &event), 0);
  for (int i = 0; i < 20; i++) {
    fill();
    while (epoll_wait(set, &event, 1, 0) == 1)
      ;
    ck_assert_int_eq(get(PATIENCE_MS), 1);
    ck_assert_int_eq(epoll_wait(set, &event, 1, PATIENCE_MS), 1);
  }
  close(set);
}
END_TEST

/* ---- nobody tells ---------------------------------------------------------------------------- */

static void put_and_die(void *arg) {
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, 0) == 0); /* it stays in the outbox */
  support_until_pipe_full(queue);
  atomic_store((_Atomic int *)arg, 1);
  pause();
}

START_TEST(slots_of_the_dead_are_found) {
  _Atomic int *flag = support_shared(sizeof *flag);
  ask();
  pid_t child = support_fork(put_and_die, (void *)flag);
  support_until(flag);
  fill();
  ck_assert(!is_ready(room, 20));
  support_kill_and_wait(child);
  ck_assert(is_ready(room, PATIENCE_MS)); /* nobody makes another call */
  ck_assert_int_eq(put(1, 0), 0);
}
END_TEST

/* This process's feeder waits for the pipe, and looks there. */
START_TEST(they_are_found_while_the_pipe_is_full) {
  _Atomic int *flag = support_shared(sizeof *flag);
  ask();
  pid_t child = support_fork(put_and_die, (void *)flag);
  support_until(flag);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  support_until_others_asleep();
  support_kill_and_wait(child);
  ck_assert(is_ready(room, PATIENCE_MS));
}
END_TEST

/* A getter dies in the step between the slot that it frees and the wake-up that it owes. */
START_TEST(a_lost_wake_up_is_noticed) {
  ask();
  fill();
  atomic_store(&queue->segment->slots.waking, 1); /* as it leaves it */
  ck_assert_int_eq(get(0), 1);
  ck_assert(is_ready(room, PATIENCE_MS));
}
END_TEST

/* ---- others that wait -------------------------------------------------------------------------- */

static void *put_and_wait(void *arg) {
  (void)arg;
  return (void *)(intptr_t)put(2, PATIENCE_MS);
}

/* The one wake-up is for both; who does not use it passes it on. */
START_TEST(a_putter_that_waits_is_not_forgotten) {
  pthread_t putter;
  ask();
  for (int i = 0; i < 20; i++) {
    fill();
    ck_assert_int_eq(pthread_create(&putter, NULL, put_and_wait, NULL), 0);
    support_until_equal(&queue->segment->slots.waiters, 2);
    ck_assert_int_eq(get(0), 1);
    ck_assert_ptr_null(support_join(putter));
    ck_assert_int_eq(get(PATIENCE_MS), 1);
    ck_assert_int_eq(get(PATIENCE_MS), 2);
    ck_assert(is_ready(room, PATIENCE_MS));
  }
}
END_TEST

static void fill_and_wait(void *arg) {
  _Atomic int *filled = arg;
  (void)forkq__life_forks(); /* puts the child right */
  CHILD_MUST(fcntl(room, F_GETFD) < 0 && errno == EBADF);
  int fd = forkq_queue_room_fileno(queue); /* its own */
  CHILD_MUST(fd >= 0 && is_ready(fd, 0));
  CHILD_MUST(put(1, 0) == FORKQ_FULL);
  CHILD_MUST(!is_ready(fd, 0));
  atomic_store(filled, 1);
  CHILD_MUST(is_ready(fd, PATIENCE_MS));
  forkq_queue_destroy(queue);
}

/* Each lowers the event that they share, and is counted. Both hear of the room. */
START_TEST(two_processes_wait) {
  _Atomic int *filled = support_shared(sizeof *filled);
  struct forkq__slots_shared *slots = &queue->segment->slots;
  ask();
  fill();
  pid_t child = support_fork(fill_and_wait, (void *)filled);
  support_until(filled);
  ck_assert_uint_eq(atomic_load(&slots->watchers), 2);
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert(is_ready(room, PATIENCE_MS));
  support_until_equal(&slots->watchers, 0);
}
END_TEST

/* ---- limits, ends and errors ------------------------------------------------------------------- */

START_TEST(bytes_of_the_outbox_are_room_too) {
  const forkq_queue_options_t options = { .size = sizeof options,
                                          .outbox_max_bytes = 2 * LARGE };
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  support_keep_to_pipe(queue);
  ask();
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(put_bin(LARGE, 0), 0);
  ck_assert_int_eq(put(1, 0), FORKQ_FULL);
  ck_assert(!is_ready(room, 0));
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, PATIENCE_MS), 0);
  ck_assert(is_ready(room, PATIENCE_MS));
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(without_a_limit_there_is_always_room) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ask();
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(put(1, 0), 0);
  ck_assert(is_ready(room, 0));
}
END_TEST

START_TEST(a_shutdown_makes_it_ready) {
  ask();
  fill();
  ck_assert_int_eq(forkq_queue_shutdown(queue, _i), 0);
  ck_assert(is_ready(room, PATIENCE_MS));
  ck_assert_int_eq(put(1, 0), FORKQ_ESHUTDOWN);
}
END_TEST

/* Another putter lowers the event that they share, before it finds out. */
START_TEST(a_shutdown_is_noticed_though_its_event_is_lowered) {
  ask();
  fill();
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  forkq__slots_watch_woken(&queue->slots);
  ck_assert(is_ready(room, PATIENCE_MS));
}
END_TEST

/* A put has found no room, and before it lowers the events, puts end. */
START_TEST(a_put_that_has_found_no_room_does_not_hide_the_end_of_puts) {
  ask();
  fill();
  ck_assert_int_eq(
      _i == 0 ? forkq_queue_shutdown(queue, 0) : forkq_queue_close_put(queue), 0);
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  forkq__queue_note_no_room(queue);
  forkq__sender_unlock(&queue->feeder.sender);
  ck_assert(is_ready(room, 0));
}
END_TEST

START_TEST(close_ends_it) {
  struct forkq__slots_shared *slots = &queue->segment->slots;
  ask();
  fill();
  ck_assert_uint_eq(atomic_load(&slots->watchers), 1);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_uint_eq(atomic_load(&slots->watchers), 0);
  ck_assert_uint_eq(atomic_load(&slots->waiters), 0);
  ck_assert_int_eq(forkq_queue_room_fileno(queue), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_room_fileno(NULL), FORKQ_ENULL);
}
END_TEST

/* Nothing is counted while there is room, so getters do nothing for it. */
START_TEST(it_costs_nothing_while_there_is_room) {
  struct forkq__slots_shared *slots = &queue->segment->slots;
  ask();
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_uint_eq(atomic_load(&slots->waiters), 0);
  fill();
  ck_assert_uint_eq(atomic_load(&slots->waiters), 1);
  ck_assert_int_eq(get(0), 1);
  support_until_equal(&slots->waiters, 0); /* the feeder has found room */
  ck_assert_uint_eq(atomic_load(&slots->watchers), 0);
  ck_assert(is_ready(room, 0));
}
END_TEST

/* ---- two processes, and no timer ------------------------------------------------------------ */

#define MANY 20000

static void get_many(void *arg) {
  (void)arg;
  for (int64_t n = 0; n < MANY; n++)
    CHILD_MUST(get(PATIENCE_MS) == n);
  forkq_queue_destroy(queue);
}

START_TEST(a_stream_needs_no_timer) {
  pid_t child = support_fork(get_many, NULL);
  ask();
  for (int64_t n = 0; n < MANY;) {
    int r = put(n, 0);
    if (r == 0)
      n++;
    else
      support_assert(r == FORKQ_FULL && is_ready(room, PATIENCE_MS));
  }
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("room_fileno");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 60);
  tcase_add_checked_fixture(all, set_up, queue_tear_down);
  tcase_add_test(all, it_follows_the_puts_of_this_process);
  tcase_add_test(all, forkq_wait_waits_for_it_and_for_others);
  tcase_add_test(all, every_kind_of_put_lowers_it);
  tcase_add_test(all, another_process_makes_room);
  tcase_add_test(all, edges_come_too);
  tcase_add_test(all, slots_of_the_dead_are_found);
  tcase_add_test(all, they_are_found_while_the_pipe_is_full);
  tcase_add_test(all, a_lost_wake_up_is_noticed);
  tcase_add_test(all, a_putter_that_waits_is_not_forgotten);
  tcase_add_test(all, two_processes_wait);
  tcase_add_test(all, bytes_of_the_outbox_are_room_too);
  tcase_add_test(all, without_a_limit_there_is_always_room);
  tcase_add_loop_test(all, a_shutdown_makes_it_ready, 0, 2);
  tcase_add_test(all, a_shutdown_is_noticed_though_its_event_is_lowered);
  tcase_add_loop_test(all, a_put_that_has_found_no_room_does_not_hide_the_end_of_puts, 0,
                      2);
  tcase_add_test(all, close_ends_it);
  tcase_add_test(all, it_costs_nothing_while_there_is_room);
  tcase_add_test(all, a_stream_needs_no_timer);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
