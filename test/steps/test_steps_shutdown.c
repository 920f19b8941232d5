/* Killed at every step of a get after a shutdown, or at the end of the pipe, before which another had
 * fallen asleep and has not run since: it was woken, and must find out why, whatever the dead did to the
 * event descriptor meanwhile. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "steps.h"
#include "support.h"

#include <forkq.h>
#include <signal.h>
#include <unistd.h>

#define PATIENCE_S 10
/* The shared memory as far as this queue uses it. */
#define SHARED_SIZE offsetof(struct forkq__segment, ledger.cells[8])

static forkq_queue_t *queue;

static void sleep_in_get(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  support_end_after(PATIENCE_S);
  CHILD_MUST(forkq_queue_get(queue, &item, -1) == FORKQ_ESHUTDOWN);
}

static void get_nothing(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  steps_mark();
  CHILD_MUST(forkq_queue_get_nowait(queue, &item) == FORKQ_ESHUTDOWN);
  steps_mark();
}

/* Whether there was such a point. */
static bool dies_at(long point) {
  const struct steps steps = {
    .victim = get_nothing,
    .shared = queue->segment,
    .shared_size = SHARED_SIZE,
  };
  pid_t sleeper = support_fork(sleep_in_get, NULL);
  support_until_asleep(sleeper);
  support_stop(sleeper);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  bool died = steps_kill(&steps, point) == STEPS_KILLED;
  kill(sleeper, SIGCONT);
  ck_assert_msg(support_wait(sleeper) == 0, "asleep after a death %s", steps_where());
  return died;
}

START_TEST(a_sleeper_hears_of_a_shutdown) {
  long points = 0;
  for (bool died = true; died; points++) {
    ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
    /* Somebody watches: who finds nothing lowers the event. */
    ck_assert_int_ge(forkq_queue_fileno(queue), 0);
    died = dies_at(points);
    forkq_queue_destroy(queue);
  }
  ck_assert_int_gt(points, 10);
}
END_TEST

/* ---- the last process that could put is gone ------------------------------------------- */

static void only_live(void *arg) {
  (void)arg;
  for (;;)
    pause();
}

static void sleep_to_the_end(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  support_end_after(PATIENCE_S);
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(forkq_queue_get(queue, &item, -1) == FORKQ_EALONE);
}

static void find_the_end(void *arg) {
  (void)arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  steps_mark();
  CHILD_MUST(forkq_queue_get_nowait(queue, &item) == FORKQ_EALONE);
  steps_mark();
}

static bool dies_at_the_end(long point) {
  const struct steps steps = {
    .victim = find_the_end,
    .shared = queue->segment,
    .shared_size = SHARED_SIZE,
  };
  pid_t putter = support_fork(only_live, NULL);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  pid_t sleeper = support_fork(sleep_to_the_end, NULL);
  support_until_asleep(sleeper);
  support_stop(sleeper);
  support_kill_and_wait(putter);
  bool died = steps_kill(&steps, point) == STEPS_KILLED;
  kill(sleeper, SIGCONT);
  ck_assert_msg(support_wait(sleeper) == 0, "asleep after a death %s", steps_where());
  return died;
}

/* In the second round somebody watches. */
START_TEST(a_sleeper_hears_of_the_end) {
  long points = 0;
  for (bool died = true; died; points++) {
    ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
    if (_i == 1)
      ck_assert_int_ge(forkq_queue_fileno(queue), 0);
    died = dies_at_the_end(points);
    forkq_queue_destroy(queue);
  }
  ck_assert_int_gt(points, 5);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("steps_shutdown");
  TCase *tcase = tcase_create("steps_shutdown");
  tcase_set_timeout(tcase, 600);
  tcase_add_test(tcase, a_sleeper_hears_of_a_shutdown);
  tcase_add_loop_test(tcase, a_sleeper_hears_of_the_end, 0, 2);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
