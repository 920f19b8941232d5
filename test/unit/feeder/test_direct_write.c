/* What the putting thread writes into the pipe itself. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <forkq.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HALF_A_PIPE 200000u
#define MORE_THAN_A_PIPE 600000u
#define PATIENCE_MS 10000

static _Atomic int warnings;

static void count(forkq_log_level_t level, const char *message, void *arg) {
  (void)message;
  (void)arg;
  if (level == FORKQ_LOG_WARNING)
    warnings++;
}

static void set_up(void) {
  warnings = 0;
  forkq_log_set(count, NULL);
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 3), 0);
}

static void stop_counting(void) {
  queue_tear_down();
  forkq_log_set(NULL, NULL);
}

/* Its thread has nothing to do, and will sleep until it is woken. */
static void until_the_feeder_is_idle(void) {
  for (bool idle = false; !idle; sched_yield()) {
    ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
    idle = queue->feeder.state == FORKQ__FEEDER_ASLEEP;
    forkq__sender_unlock(&queue->feeder.sender);
  }
}

static void use_once(void) {
  CHILD_MUST(put_bin(10, 0) == 0);
  until_the_feeder_is_idle();
}

static forkq_queue_stats_t stats(void) {
  forkq_queue_stats_t now = { .size = sizeof now };
  CHILD_MUST(forkq_queue_stats(queue, &now) == 0);
  return now;
}

static void assert_idle_and_empty(void) {
  until_the_feeder_is_idle();
  ck_assert_uint_eq(stats().outbox_items, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put_bin(10, 0), 0);
  ck_assert_int_eq(put_bin(10, 0), FORKQ_FULL);
  for (int i = 0; i < 3; i++)
    assert_get_bin(10);
}

static void put_and_die(void *arg) {
  (void)arg;
  use_once();
  CHILD_MUST(put_bin(HALF_A_PIPE, 0) == 0);
  CHILD_MUST(stats().outbox_items == 0);
  raise(SIGKILL);
}

/* Its reference is. */
START_TEST(a_large_message_is_in_the_pipe_when_its_put_returns) {
  pid_t child = support_fork(put_and_die, NULL);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
  assert_get_bin(10);
  assert_get_bin(HALF_A_PIPE);
  ck_assert_int_eq(warnings, 0);
}
END_TEST

START_TEST(a_message_in_fragments_is_the_feeder_s) {
  support_keep_to_pipe(queue);
  use_once();
  assert_get_bin(10);
  ck_assert_int_eq(put_bin(MORE_THAN_A_PIPE, 0), 0);
  ck_assert_uint_eq(stats().outbox_items, 1);
  ck_assert_int_eq(put_bin(HALF_A_PIPE, 0), 0);
  ck_assert_int_eq(put_bin(20, 0), 0);
  assert_get_bin(MORE_THAN_A_PIPE);
  assert_get_bin(HALF_A_PIPE);
  assert_get_bin(20);
  ck_assert_int_eq(warnings, 0);
  assert_idle_and_empty();
}
END_TEST

/* Nor is a part of it, though the pipe has room: another process could write between that and the rest. */
START_TEST(a_message_in_fragments_is_not_begun_by_a_put) {
  static char data[HALF_A_PIPE];
  struct forkq__sender *sender = &queue->feeder.sender;
  make_bin(data, sizeof data);
  support_keep_to_pipe(queue);
  use_once();
  assert_get_bin(10);
  ck_assert_int_eq(forkq__sender_lock(sender, FORKQ__FOREVER), 0);
  ck_assert(forkq__slots_try_take(&queue->slots));
  ck_assert_int_eq(forkq__outbox_begin(&sender->outbox, sizeof data), 0);
  ck_assert_int_eq(forkq__outbox_append_beyond(&sender->outbox, data, sizeof data), 0);
  forkq__sender_commit(sender);
  forkq__sender_send_now(sender);
  int level = forkq__os_pipe_level(queue->channel.read_fd);
  forkq__feeder_push(&queue->feeder, true);
  forkq__sender_unlock(sender);
  ck_assert_int_eq(level, 0);
  assert_get_bin(HALF_A_PIPE);
}
END_TEST

/* A process finds its own items with any timeout, though its feeder has to send them. */
START_TEST(a_message_in_fragments_is_found_by_its_own_get) {
  static const size_t sizes[] = { 5000, 60000, 400000 };
  support_keep_to_pipe(queue);
  for (int i = 0; i < 300; i++) {
    ck_assert_int_eq(put_bin(sizes[i % 3], 0), 0);
    forkq_item_t item = FORKQ_ITEM_INIT;
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 0), 0);
    support_assert(is_bin(&item, sizes[i % 3]));
    forkq_item_destroy(&item);
  }
}
END_TEST

/* ---- gathering --------------------------------------------------------------------------------- */

#define TRIES 1000
#define REFERRED 1000u
#define DRAFTED 5000u

/* As if a put had just found the feeder idle, so the next one is not rare. */
static void be_in_a_stream(void) {
  queue->feeder.found_idle = forkq__os_now() + INT64_C(3600000000000);
}

/* Whether the put has left its message to the thread, which has not sent it yet. */
static bool put_and_gather(size_t size) {
  until_the_feeder_is_idle();
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  be_in_a_stream();
  forkq__sender_unlock(&queue->feeder.sender);
  ck_assert_int_eq(put_bin(size, 0), 0);
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  bool gathers = queue->feeder.state == FORKQ__FEEDER_GATHERING &&
                 forkq__sender_has_packets(&queue->feeder.sender);
  forkq__sender_unlock(&queue->feeder.sender);
  return gathers;
}

/* The time may be over before this thread runs again. */
static bool is_gathered_at_times(size_t size) {
  bool gathered = false;
  for (int i = 0; i < TRIES && !gathered; i++) {
    gathered = put_and_gather(size);
    assert_get_bin(size);
  }
  return gathered;
}

START_TEST(references_in_a_stream_are_gathered) {
  use_once();
  assert_get_bin(10);
  support_assert(is_gathered_at_times(REFERRED));
}
END_TEST

START_TEST(small_messages_are_not_gathered) {
  use_once();
  assert_get_bin(10);
  for (int i = 0; i < TRIES; i++) {
    support_assert(!put_and_gather(10));
    assert_get_bin(10);
  }
}
END_TEST

START_TEST(what_is_gathered_is_sent_without_another_put) {
  struct pollfd pipe = { .fd = queue->channel.read_fd, .events = POLLIN };
  use_once();
  assert_get_bin(10);
  for (int i = 0; i < 10; i++) {
    (void)put_and_gather(REFERRED);
    ck_assert_int_eq(poll(&pipe, 1, PATIENCE_MS), 1);
    assert_get_bin(REFERRED);
  }
}
END_TEST

static bool has_packets(void) {
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  bool has = forkq__sender_has_packets(&queue->feeder.sender);
  forkq__sender_unlock(&queue->feeder.sender);
  return has;
}

/* Getters must have what it holds, to make room. At times the thread is sending it by then. */
START_TEST(a_put_that_finds_no_room_sends_what_is_gathered) {
  use_once();
  ck_assert_int_eq(put_bin(20, 0), 0);
  int gathered = 0, sent = 0;
  for (int i = 0; i < TRIES; i++) {
    bool gathers = put_and_gather(REFERRED);
    ck_assert_int_eq(put_bin(REFERRED, 0), FORKQ_FULL);
    gathered += gathers;
    sent += gathers && !has_packets();
    assert_get_bin(i == 0 ? 10 : i == 1 ? 20 : REFERRED);
  }
  ck_assert_int_gt(gathered, 0);
  ck_assert_int_gt(2 * sent, gathered);
}
END_TEST

/* How often a put without a time found room, of those that came while as many bytes as may be unsent were
 * gathered. At times the thread is sending them by then. */
static void count_room(size_t size, int *ret_gathered, int *ret_found) {
  *ret_gathered = *ret_found = 0;
  for (int i = 0; i < TRIES; i++) {
    bool gathers = put_and_gather(REFERRED);
    int r = put_bin(size, 0);
    support_assert(r == 0 || r == FORKQ_FULL);
    *ret_gathered += gathers;
    *ret_found += gathers && r == 0;
    assert_get_bin(REFERRED);
    if (r == 0)
      assert_get_bin(size);
  }
}

/* By a put that is packed in place, and by one that is packed before. */
START_TEST(what_is_gathered_takes_no_room_from_a_put) {
  static const size_t sizes[] = { REFERRED, DRAFTED };
  const forkq_queue_options_t options = { .size = sizeof options,
                                          .outbox_max_bytes = REFERRED };
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  use_once();
  assert_get_bin(10);
  int gathered, found;
  count_room(sizes[_i], &gathered, &found);
  ck_assert_int_gt(gathered, 0);
  ck_assert_int_gt(2 * found, gathered);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("direct_write");
  TCase *tcase = tcase_create("large messages");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, stop_counting);
  tcase_add_test(tcase, a_large_message_is_in_the_pipe_when_its_put_returns);
  tcase_add_test(tcase, a_message_in_fragments_is_the_feeder_s);
  tcase_add_test(tcase, a_message_in_fragments_is_not_begun_by_a_put);
  tcase_add_test(tcase, a_message_in_fragments_is_found_by_its_own_get);
  suite_add_tcase(suite, tcase);
  tcase = tcase_create("gathering");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, stop_counting);
  tcase_add_test(tcase, references_in_a_stream_are_gathered);
  tcase_add_test(tcase, small_messages_are_not_gathered);
  tcase_add_test(tcase, what_is_gathered_is_sent_without_another_put);
  tcase_add_test(tcase, a_put_that_finds_no_room_sends_what_is_gathered);
  tcase_add_loop_test(tcase, what_is_gathered_takes_no_room_from_a_put, 0, 2);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
