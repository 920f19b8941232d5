/* Interrupts are of one process: what fork makes of them, and what other processes see. What the threads of a
 * process see is in test_interrupt.c. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <forkq.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_MS 60000

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 2), 0);
}

static void interrupt(int signo) {
  (void)signo;
  if (forkq_queue_interrupt(queue) != 0)
    abort();
}

static void handle(int signo) {
  struct sigaction action = { .sa_handler = interrupt };
  if (sigaction(signo, &action, NULL) < 0)
    abort();
}

/* ---- fork ------------------------------------------------------------------------------------- */

static void is_not_interrupted(void *arg) {
  (void)arg;
  (void)forkq__life_forks(); /* puts the child right */
  CHILD_MUST(forkq__interrupts_fd(&queue->channel.interrupts) == -1);
  CHILD_MUST(get(5) == FORKQ_TIMEDOUT);
  CHILD_MUST(forkq_queue_interrupt(queue) == 0);
  CHILD_MUST(get(-1) == FORKQ_EINTERRUPTED);
  CHILD_MUST(get(5) == FORKQ_TIMEDOUT);
  forkq_queue_destroy(queue);
}

START_TEST(a_child_begins_without) {
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT); /* the event is there */
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(support_wait(support_fork(is_not_interrupted, NULL)), 0);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(support_wait(support_fork(is_not_interrupted, NULL)), 0);
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT); /* the child's are not this process's */
}
END_TEST

/* No handler of forkq's has run in the child when the signal comes. */
START_TEST(an_interrupt_before_the_first_call_of_a_child_counts) {
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  pid_t child = _Fork();
  if (child == 0) {
    CHILD_MUST(forkq_queue_interrupt(queue) == 0);
    CHILD_MUST(get(-1) == FORKQ_EINTERRUPTED);
    CHILD_MUST(get(5) == FORKQ_TIMEDOUT);
    _exit(0);
  }
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT);
}
END_TEST

/* ---- other processes ---------------------------------------------------------------------------- */

static void get_seven(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_MS) == 7);
  forkq_queue_destroy(queue);
}

static void be_interrupted(void *signo) {
  handle((int)(intptr_t)signo);
  CHILD_MUST(get(PATIENCE_MS) == FORKQ_EINTERRUPTED);
  forkq_queue_destroy(queue);
}

/* One sleeps on the pipe, the other waits for the turn. Whichever is interrupted, the other one gets the
 * item. */
START_TEST(an_interrupted_getter_passes_the_turn_on) {
  void (*const first)(void *) = _i == 0 ? be_interrupted : get_seven;
  void (*const second)(void *) = _i == 0 ? get_seven : be_interrupted;
  pid_t a = support_fork(first, (void *)(intptr_t)SIGUSR1);
  support_until_asleep(a);
  pid_t b = support_fork(second, (void *)(intptr_t)SIGUSR1);
  support_until_asleep(b);
  pid_t interrupted = _i == 0 ? a : b, other = _i == 0 ? b : a;
  ck_assert_int_eq(kill(interrupted, SIGUSR1), 0);
  ck_assert_int_eq(support_wait(interrupted), 0);
  ck_assert_int_eq(put(7, 0), 0);
  ck_assert_int_eq(support_wait(other), 0);
}
END_TEST

#define OTHERS 5 /* one has the turn, and the others the seats of those that look often */
#define SOON_MS 5000 /* a getter without a seat looks after 8 s at the earliest */

static void *get_and_be_told(void *arg) {
  (void)arg;
  return (void *)(intptr_t)get(-1);
}

/* Nothing wakes it but the interrupt: the turn stays where it is. */
START_TEST(a_getter_behind_those_of_others_is_told_at_once) {
  pid_t others[OTHERS];
  pthread_t thread;
  for (int i = 0; i < OTHERS; i++) {
    others[i] = support_fork(get_seven, NULL);
    support_until_asleep(others[i]);
  }
  ck_assert_int_eq(pthread_create(&thread, NULL, get_and_be_told, NULL), 0);
  support_until_equal(&queue->segment->channel.turn_waiting, OTHERS);
  support_until_others_asleep();
  int64_t begin = support_now_ms();
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_ptr_eq(support_join(thread), (void *)(intptr_t)FORKQ_EINTERRUPTED);
  ck_assert_int_lt(support_now_ms() - begin, SOON_MS);
  for (int i = 0; i < OTHERS; i++) {
    int r;
    while ((r = put(7, PATIENCE_MS)) == FORKQ_EINTERRUPTED)
      ;
    ck_assert_int_eq(r, 0);
  }
  for (int i = 0; i < OTHERS; i++)
    ck_assert_int_eq(support_wait(others[i]), 0);
}
END_TEST

static void put_when_there_is_room(void *arg) {
  (void)arg;
  CHILD_MUST(put(3, PATIENCE_MS) == 0);
  forkq_queue_destroy(queue);
}

static void join_all(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_join(queue, PATIENCE_MS, NULL) == 0);
  forkq_queue_destroy(queue);
}

static void *put_and_be_told(void *arg) {
  (void)arg;
  return (void *)(intptr_t)put(4, -1);
}

static void *join_and_be_told(void *arg) {
  (void)arg;
  return (void *)(intptr_t)forkq_queue_join(queue, -1, NULL);
}

/* Putters and joiners of all processes sleep on the same words. */
START_TEST(putters_and_joiners_of_others_go_on) {
  pthread_t threads[2];
  for (int i = 1; i <= 2; i++)
    ck_assert_int_eq(put(i, 0), 0);
  pid_t putter = support_fork(put_when_there_is_room, NULL);
  pid_t joiner = support_fork(join_all, NULL);
  support_until_asleep(putter);
  support_until_asleep(joiner);
  pthread_create(&threads[0], NULL, put_and_be_told, NULL);
  pthread_create(&threads[1], NULL, join_and_be_told, NULL);
  support_until_others_asleep();
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  for (int i = 0; i < 2; i++)
    ck_assert_ptr_eq(support_join(threads[i]), (void *)(intptr_t)FORKQ_EINTERRUPTED);
  for (int i = 1; i <= 3; i++) {
    int64_t got;
    while ((got = get(PATIENCE_MS)) == FORKQ_EINTERRUPTED)
      ;
    ck_assert_int_eq(got, i);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  ck_assert_int_eq(support_wait(putter), 0);
  ck_assert_int_eq(support_wait(joiner), 0);
}
END_TEST

/* ---- a storm ------------------------------------------------------------------------------------ */

#define EACH 2000
#define PAIRS 2

static struct {
  _Atomic uint32_t arrived[PAIRS * EACH];
  _Atomic uint64_t told;
} * book;

static void interrupt_often(void) {
  const struct itimerval interval = { { 0, 200 }, { 0, 200 } };
  handle(SIGALRM);
  setitimer(ITIMER_REAL, &interval, NULL);
}

/* A handler must not run when the queue is gone. */
static void end(void) {
  setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 0 } }, NULL);
  signal(SIGALRM, SIG_IGN);
  forkq_queue_destroy(queue);
}

static void produce(void *arg) {
  int64_t first = (intptr_t)arg * EACH;
  interrupt_often();
  for (int64_t n = first; n < first + EACH; n++) {
    int r;
    while ((r = put(n, -1)) == FORKQ_EINTERRUPTED)
      atomic_fetch_add(&book->told, 1);
    CHILD_MUST(r == 0);
  }
  end();
}

static void consume(void *arg) {
  (void)arg;
  interrupt_often();
  for (;;) {
    int64_t r = get(-1);
    if (r == FORKQ_ESHUTDOWN)
      break;
    CHILD_MUST(r >= 0 || r == FORKQ_EINTERRUPTED);
    if (r >= 0) {
      atomic_fetch_add(&book->arrived[r], 1);
      CHILD_MUST(forkq_queue_task_done(queue) == 0);
    } else {
      atomic_fetch_add(&book->told, 1);
    }
  }
  end();
}

START_TEST(a_storm_loses_nothing) {
  pid_t producers[PAIRS], consumers[PAIRS];
  book = support_shared(sizeof *book);
  for (intptr_t i = 0; i < PAIRS; i++) {
    consumers[i] = support_fork(consume, NULL);
    producers[i] = support_fork(produce, (void *)i);
  }
  for (int i = 0; i < PAIRS; i++)
    ck_assert_int_eq(support_wait(producers[i]), 0);
  ck_assert_int_eq(forkq_queue_join(queue, PATIENCE_MS, NULL), 0);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  for (int i = 0; i < PAIRS; i++)
    ck_assert_int_eq(support_wait(consumers[i]), 0);
  for (int i = 0; i < PAIRS * EACH; i++)
    support_assert(atomic_load(&book->arrived[i]) == 1);
  ck_assert_uint_gt(atomic_load(&book->told), 0);
}
END_TEST

/* A signal that comes to a child while it is put right, after this queue was. */
static bool interrupt_late;

void __real_forkq__interrupts_forked(struct forkq__interrupts *interrupts,
                                     uint64_t identity);
void __wrap_forkq__interrupts_forked(struct forkq__interrupts *interrupts,
                                     uint64_t identity);
void __wrap_forkq__interrupts_forked(struct forkq__interrupts *interrupts,
                                     uint64_t identity) {
  __real_forkq__interrupts_forked(interrupts, identity);
  if (interrupt_late && forkq_queue_interrupt(queue) != 0)
    abort();
  interrupt_late = false;
}

static void is_interrupted_once(void *arg) {
  (void)arg;
  CHILD_MUST(get(5) == FORKQ_EINTERRUPTED);
  CHILD_MUST(get(5) == FORKQ_TIMEDOUT);
  CHILD_MUST(support_wait(support_fork(is_not_interrupted, NULL)) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(an_interrupt_of_a_child_is_not_its_child_s) {
  interrupt_late = true;
  pid_t child = support_fork(is_interrupted_once, NULL);
  interrupt_late = false;
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void stop_with_the_read_lock(void *has) {
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
  atomic_store((_Atomic int *)has, 1);
  raise(SIGSTOP);
}

/* A call that waits for an internal lock returns within half a second, and without a look after 1000 ms. This
 * thread may be late itself, so one quick return of several is enough. */
START_TEST(a_get_that_waits_for_the_read_lock_is_told) {
  _Atomic int *has = support_shared(sizeof *has);
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
  pid_t child = support_fork(stop_with_the_read_lock, (void *)has);
  support_until(has);
  int64_t took = INT64_MAX;
  for (int i = 0; i < 5 && took >= 900; i++) {
    int64_t begin = support_now_ms();
    ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
    ck_assert_int_eq(get(-1), FORKQ_EINTERRUPTED);
    took = support_now_ms() - begin;
  }
  ck_assert_int_lt(took, 900);
  support_kill_and_wait(child);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("interrupt_processes");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 120);
  tcase_add_checked_fixture(all, set_up, queue_tear_down);
  tcase_add_test(all, a_child_begins_without);
  tcase_add_test(all, an_interrupt_before_the_first_call_of_a_child_counts);
  tcase_add_test(all, an_interrupt_of_a_child_is_not_its_child_s);
  tcase_add_test(all, a_get_that_waits_for_the_read_lock_is_told);
  tcase_add_loop_test(all, an_interrupted_getter_passes_the_turn_on, 0, 2);
  tcase_add_test(all, a_getter_behind_those_of_others_is_told_at_once);
  tcase_add_test(all, putters_and_joiners_of_others_go_on);
  tcase_add_test(all, a_storm_loses_nothing);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
