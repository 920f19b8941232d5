/* The states of the feeder's thread, and the contracts of the sender. */
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <signal.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static enum forkq__feeder_state state(void) {
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  enum forkq__feeder_state now = queue->feeder.state;
  forkq__sender_unlock(&queue->feeder.sender);
  return now;
}

static void until(enum forkq__feeder_state wanted) {
  while (state() != wanted)
    usleep(1000);
}

/* It ends for want of work, and is started again. */
START_TEST(from_the_first_put_to_the_close) {
  ck_assert_int_eq(state(), FORKQ__FEEDER_NONE);
  for (int round = 0; round < 2; round++) {
    ck_assert_int_eq(put(round, -1), 0);
    until(FORKQ__FEEDER_RETIRED);
    ck_assert(!forkq__feeder_has_finished(&queue->feeder));
  }
  ck_assert_int_eq(put(2, -1), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, NULL), 0);
  ck_assert_int_eq(state(), FORKQ__FEEDER_FINISHED);
  ck_assert(forkq__feeder_has_finished(&queue->feeder));
}
END_TEST

START_TEST(closed_before_the_first_put) {
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(state(), FORKQ__FEEDER_FINISHED);
  ck_assert(!forkq__feeder_has_finished(&queue->feeder));
}
END_TEST

/* No put of a simple queue starts it. */
START_TEST(a_simple_queue_has_none) {
  forkq_queue_destroy(queue);
  create_simple();
  ck_assert_int_eq(put(1, -1), 0);
  ck_assert_int_eq(state(), FORKQ__FEEDER_NONE);
  ck_assert_int_eq(get(-1), 1);
}
END_TEST

#ifdef FORKQ__CONTRACTS
static void open_without_the_mutex(void *arg) {
  (void)arg;
  (void)forkq__sender_open(&queue->feeder.sender);
}

static void write_without_the_lock(void *arg) {
  struct forkq__packet packet = { 0 };
  (void)arg;
  (void)forkq__channel_write(&queue->channel, &packet);
}

static void start_after_the_end(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER) == 0);
  queue->feeder.state = FORKQ__FEEDER_FINISHED;
  (void)forkq__feeder_start_thread(&queue->feeder);
}

static void unlock_with_a_wrong_sum(void *arg) {
  struct forkq__ledger *ledger = queue->channel.account.ledger;
  (void)arg;
  CHILD_MUST(forkq__ledger_lock(ledger) == 0);
  atomic_fetch_add(&ledger->returned, 1);
  forkq__ledger_unlock(ledger);
}

static void pop_half_a_message(void *arg) {
  struct forkq__outbox outbox;
  char large[2 * FORKQ__PACKET_SIZE] = { 0 };
  (void)arg;
  forkq__outbox_init(&outbox);
  CHILD_MUST(forkq__outbox_begin(&outbox, sizeof large) == 0 &&
             forkq__outbox_append(&outbox, large, sizeof large) == 0);
  forkq__outbox_commit(&outbox);
  outbox.tail = outbox.head;
  (void)forkq__outbox_begin(&outbox, 1);
}

START_TEST(a_broken_contract_ends_the_process) {
  void (*const breaches[])(void *) = { open_without_the_mutex, write_without_the_lock,
                                       start_after_the_end, unlock_with_a_wrong_sum,
                                       pop_half_a_message };
  for (size_t i = 0; i < sizeof breaches / sizeof *breaches; i++)
    ck_assert_int_eq(support_wait(support_fork(breaches[i], NULL)), 128 + SIGABRT);
}
END_TEST
#endif

int main(void) {
  Suite *suite = suite_create("feeder");
  TCase *tcase = tcase_create("feeder");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, from_the_first_put_to_the_close);
  tcase_add_test(tcase, closed_before_the_first_put);
  tcase_add_test(tcase, a_simple_queue_has_none);
#ifdef FORKQ__CONTRACTS
  tcase_add_test(tcase, a_broken_contract_ends_the_process);
#endif
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
