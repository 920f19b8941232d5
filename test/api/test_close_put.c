/* The end of this process's puts: what it still sends, what it still may do, and what no longer. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "loop_support.h"

#include <forkq.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define WHILE_MS 50   /* nothing happens meanwhile */
#define LARGE 1000000 /* more than the pipe holds */

static _Atomic int *flags; /* what children say, and what they wait for */

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
  flags = support_shared(8 * sizeof *flags);
}

static void set_up_simple(void) {
  fds_before = support_open_fds();
  create_simple();
  flags = support_shared(8 * sizeof *flags);
}

static void set_up_loop(void) {
  loop_set_up_bounded();
}

static void close_put(void) {
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
}

START_TEST(one_descriptor_less) {
  int before = support_open_fds();
  close_put();
  ck_assert_int_eq(support_open_fds(), before - 1);
  close_put();
  ck_assert_int_eq(support_open_fds(), before - 1);
}
END_TEST

START_TEST(what_it_refuses) {
  ck_assert_int_eq(forkq_queue_close_put(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_close_put(queue), FORKQ_ECLOSED);
}
END_TEST

static int pack_nil(msgpack_packer *packer, void *arg) {
  int *r = arg;
  *r = forkq_queue_close_put(queue);
  return msgpack_pack_nil(packer);
}

START_TEST(not_in_a_packing_function) {
  int r = 0;
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nil, &r, 0), 0);
  ck_assert_int_eq(r, FORKQ_EPACKING);
  ck_assert_int_eq(put(1, 0), 0);
}
END_TEST

START_TEST(its_puts_are_refused) {
  static char large[LARGE];
  msgpack_object two[2] = { { .type = MSGPACK_OBJECT_NIL },
                            { .type = MSGPACK_OBJECT_NIL } };
  size_t n = 99;
  void *reserved, *memory;
  ck_assert_int_eq(forkq_queue_reserve(queue, 1000, &reserved), 0);
  memset(reserved, 0xc0, 1);
  close_put();
  for (int ms = -1; ms <= 1; ms++) {
    ck_assert_int_eq(put(1, ms), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_queue_put_bytes(queue, large, 1000, ms), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_queue_put_bytes(queue, large, LARGE, ms), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_queue_put_many(queue, two, 2, ms, &n), FORKQ_ECLOSED);
    ck_assert_int_eq(forkq_queue_commit(queue, reserved, 1, ms), FORKQ_ECLOSED);
  }
  ck_assert_uint_eq(n, 99);
  ck_assert_int_eq(forkq_queue_reserve(queue, 1000, &memory), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_abandon(queue, reserved), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
}
END_TEST

START_TEST(a_full_queue_is_closed_and_not_full) {
  static char large[LARGE];
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  close_put();
  ck_assert_int_eq(put(3, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(put(3, -1), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, large, LARGE, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(get(0), FORKQ_EALONE);
}
END_TEST

START_TEST(it_cannot_be_handed_over_or_served) {
  forkq_handover_t handover = FORKQ_HANDOVER_INIT;
  forkq_server_t *server;
  int ends[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  close_put();
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_send(queue, ends[0]), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, "@forkq-test-close-put", NULL),
                   FORKQ_ECLOSED);
  close(ends[0]);
  close(ends[1]);
}
END_TEST

/* ---- others that wait --------------------------------------------------------------------------- */

static void *put_without_room(void *arg) {
  (void)arg;
  ck_assert_int_eq(put(3, -1), FORKQ_ECLOSED);
  return NULL;
}

START_TEST(a_put_that_waits_ends) {
  pthread_t thread;
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, put_without_room, NULL), 0);
  support_until_equal(&queue->segment->slots.waiters, 1);
  close_put();
  ck_assert_ptr_null(support_join(thread));
  assert_puts_hold_nothing();
}
END_TEST

static void *get_nothing(void *arg) {
  (void)arg;
  ck_assert_int_eq(get(-1), FORKQ_EALONE);
  return NULL;
}

/* No other process has the queue. */
START_TEST(a_get_of_another_thread_learns_of_it) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, get_nothing, NULL), 0);
  support_until_threads_asleep(2);
  close_put();
  for (int i = 0; i < 2; i++)
    ck_assert_ptr_null(support_join(threads[i]));
  assert_nothing_held();
}
END_TEST

START_TEST(the_descriptor_for_room_is_readable) {
  struct pollfd room = { .fd = forkq_queue_room_fileno(queue), .events = POLLIN };
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  ck_assert_int_eq(poll(&room, 1, 0), 0);
  close_put();
  forkq__slots_watch_woken(
      &queue->slots); /* another process was woken, and lowers the event */
  ck_assert_int_eq(poll(&room, 1, 0), 1);
  ck_assert_int_eq(put(3, 0), FORKQ_ECLOSED);
}
END_TEST

/* ---- what was put is sent ------------------------------------------------------------------------ */

static void put_large_and_end(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  CHILD_MUST(put(8, -1) == 0);
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(put(9, -1) == FORKQ_ECLOSED);
  atomic_store(&flags[0], 1);
  CHILD_MUST(forkq_queue_flush(queue, -1, NULL) == 0);
  for (;;)
    pause();
}

/* The process lives on. */
START_TEST(what_was_put_before_is_sent) {
  pid_t child = support_fork(put_large_and_end, NULL);
  support_until(&flags[0]);
  close_put();
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
  support_kill_and_wait(child);
}
END_TEST

static void put_end_and_fork(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  pid_t child = fork();
  if (child == 0) {
    support_end_after(60);
    CHILD_MUST(put(9, 0) == FORKQ_ECLOSED);
    atomic_store(&flags[1], 1);
    for (;;)
      pause();
  }
  support_until(&flags[1]);
  atomic_store(&flags[0], child);
  for (;;)
    pause();
}

/* Nor does it send anything in its parent's stead. */
START_TEST(a_child_that_is_forked_meanwhile_has_no_writing_end) {
  pid_t putter = support_fork(put_end_and_fork, NULL);
  support_until(&flags[0]);
  close_put();
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  kill(flags[0], SIGKILL);
}
END_TEST

static void get_only(void *arg) {
  (void)arg;
  CHILD_MUST(put(9, 0) == FORKQ_ECLOSED);
  CHILD_MUST(get(-1) == 1);
  CHILD_MUST(get(-1) == FORKQ_EALONE);
}

START_TEST(a_child_that_is_forked_later_only_gets) {
  ck_assert_int_eq(put(1, 0), 0);
  close_put();
  ck_assert_int_eq(support_wait(support_fork(get_only, NULL)), 0);
}
END_TEST

/* A child keeps copies of what its parent has not sent. The parent sends it. */
static void end_puts(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
}

START_TEST(what_the_parent_has_put_is_the_parents) {
  support_keep_to_pipe(queue);
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  support_until_pipe_full(queue);
  ck_assert_int_eq(support_wait(support_fork(end_puts, NULL)), 0);
  assert_get_bin(LARGE);
  close_put();
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

/* The parent is dead: what it had put is sent for it, and only then the writing end goes. */
static void fork_an_heir(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(LARGE, -1) == 0);
  pid_t parent = getpid();
  pid_t heir = fork();
  if (heir == 0) {
    support_end_after(60);
    while (getppid() == parent)
      usleep(1000);
    support_until(&flags[1]);
    CHILD_MUST(forkq_queue_close_put(queue) == 0);
    atomic_store(&flags[2], 1);
    for (;;)
      pause();
  }
  atomic_store(&flags[0], heir);
  for (;;)
    pause();
}

START_TEST(an_heir_sends_what_its_parent_has_left) {
  pid_t parent = support_fork(fork_an_heir, NULL);
  support_until(&flags[0]);
  support_kill_and_wait(parent);
  atomic_store(&flags[1], 1);
  support_until(&flags[2]);
  close_put();
  assert_get_bin(LARGE);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
  kill(flags[0], SIGKILL);
}
END_TEST

START_TEST(a_close_after_it_gives_all_back) {
  ck_assert_int_eq(put(1, 0), 0);
  close_put();
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, PATIENCE_MS, NULL), 0);
}
END_TEST

/* ---- simple queues -------------------------------------------------------------------------------- */

static void *put_large(void *arg) {
  (void)arg;
  ck_assert_int_eq(put_bin(LARGE, -1), 0);
  return NULL;
}

/* The put of another thread is in the middle of it. */
START_TEST(a_put_that_has_begun_goes_on) {
  pthread_t thread;
  support_keep_to_pipe(queue);
  ck_assert_int_eq(pthread_create(&thread, NULL, put_large, NULL), 0);
  support_until_pipe_full(queue);
  ck_assert_int_eq(forkq_simple_queue_close_put(simple_queue), 0);
  ck_assert_int_eq(put(1, -1), FORKQ_ECLOSED);
  assert_get_bin(LARGE);
  ck_assert_ptr_null(support_join(thread));
  ck_assert_int_eq(get(-1), FORKQ_EALONE);
}
END_TEST

/* ---- on a loop ------------------------------------------------------------------------------------- */

START_TEST(gets_on_a_loop_learn_of_it) {
  struct outcome first = { .calls = 0 }, second = { .calls = 0 }, late = { .calls = 0 };
  ck_assert_int_eq(put(1, 0), 0);
  close_put();
  ck_assert_int_eq(start_get(&first, -1), 0);
  ck_assert_int_eq(start_get(&second, -1), 0);
  run_until(&second);
  ck_assert_int_eq(first.status, 0);
  ck_assert_int_eq(first.value, 1);
  ck_assert_int_eq(second.status, FORKQ_EALONE);
  ck_assert_int_eq(start_get(&late, 0), 0);
  run_until(&late);
  ck_assert_int_eq(late.status, FORKQ_EALONE);
  free_outcome(&first);
  free_outcome(&second);
  free_outcome(&late);
}
END_TEST

static void stay(void *arg) {
  atomic_store((_Atomic int *)arg, 1);
  for (;;)
    pause();
}

START_TEST(gets_that_wait_on_a_loop_learn_of_it) {
  struct outcome outcomes[3] = { { .calls = 0 } };
  _Atomic int *ready = support_shared(sizeof *ready);
  pid_t putter = support_fork(stay, (void *)ready);
  support_until(ready);
  close_put();
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(start_get(&outcomes[i], -1), 0);
  run_ready();
  ck_assert_int_eq(callbacks, 0);
  support_kill_and_wait(putter);
  for (int i = 0; i < 3; i++) {
    run_until(&outcomes[i]);
    ck_assert_int_eq(outcomes[i].status, FORKQ_EALONE);
    free_outcome(&outcomes[i]);
  }
}
END_TEST

START_TEST(puts_that_wait_on_a_loop_end) {
  struct outcome outcome = { .calls = 0 };
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(start_put(&outcome, 3, -1), 0);
  run_ready();
  ck_assert_int_eq(outcome.calls, 0);
  close_put();
  run_until(&outcome);
  ck_assert_int_eq(outcome.status, FORKQ_ECLOSED);
  free_outcome(&outcome);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("close_put");
  TCase *tcase = tcase_create("queue");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, one_descriptor_less);
  tcase_add_test(tcase, what_it_refuses);
  tcase_add_test(tcase, not_in_a_packing_function);
  tcase_add_test(tcase, its_puts_are_refused);
  tcase_add_test(tcase, a_full_queue_is_closed_and_not_full);
  tcase_add_test(tcase, it_cannot_be_handed_over_or_served);
  tcase_add_test(tcase, a_put_that_waits_ends);
  tcase_add_test(tcase, a_get_of_another_thread_learns_of_it);
  tcase_add_test(tcase, the_descriptor_for_room_is_readable);
  tcase_add_test(tcase, what_was_put_before_is_sent);
  tcase_add_test(tcase, a_child_that_is_forked_meanwhile_has_no_writing_end);
  tcase_add_test(tcase, a_child_that_is_forked_later_only_gets);
  tcase_add_test(tcase, what_the_parent_has_put_is_the_parents);
  tcase_add_test(tcase, an_heir_sends_what_its_parent_has_left);
  tcase_add_test(tcase, a_close_after_it_gives_all_back);
  suite_add_tcase(suite, tcase);
  TCase *simple = tcase_create("simple");
  tcase_set_timeout(simple, 60);
  tcase_add_checked_fixture(simple, set_up_simple, queue_tear_down);
  tcase_add_test(simple, a_put_that_has_begun_goes_on);
  suite_add_tcase(suite, simple);
  TCase *on_loop = tcase_create("loop");
  tcase_set_timeout(on_loop, 60);
  tcase_add_checked_fixture(on_loop, set_up_loop, loop_tear_down);
  tcase_add_test(on_loop, gets_on_a_loop_learn_of_it);
  tcase_add_test(on_loop, gets_that_wait_on_a_loop_learn_of_it);
  tcase_add_test(on_loop, puts_that_wait_on_a_loop_end);
  suite_add_tcase(suite, on_loop);
  return support_main(suite);
}
