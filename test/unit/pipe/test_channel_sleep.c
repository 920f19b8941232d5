/* Sleeping until there is something to receive. */
#define _GNU_SOURCE
#include "pipe/channel_read.h"

#include "channel_helpers.h"

#include <errno.h>
#include <forkq/base.h>
#include <signal.h>
#include <unistd.h>

START_TEST(a_sleeper_wakes_for_a_message) {
  for (int i = 0; i < 50; i++) {
    pid_t child = sleeping_receiver(1, 10);
    send_message(1, 10);
    support_assert(support_wait(child) == 0);
  }
  assert_empty();
}
END_TEST

START_TEST(many_sleepers_get_one_message_each) {
  for (int round = 0; round < 20; round++) {
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
      children[i] = receiver(7, 10);
      support_until_asleep(children[i]);
    }
    for (int i = 0; i < 4; i++)
      send_message(7, 10);
    for (int i = 0; i < 4; i++)
      support_assert(support_wait(children[i]) == 0);
  }
  assert_empty();
}
END_TEST

/* One packet brings three messages: who takes the first tells the sleeper of the others. */
START_TEST(a_sleeper_hears_of_what_another_has_read_ahead) {
  for (int i = 0; i < 100; i++) {
    pid_t child = sleeping_receiver(7, 10);
    struct forkq__packet packet;
    forkq__packet_begin(&packet);
    for (int k = 0; k < 2; k++) {
      forkq__packet_set_frame(&packet, packet.length, 10);
      support_fill(packet.body + packet.length + FORKQ__FRAME_HEAD - FORKQ__PACKET_HEAD,
                   10, 7);
      packet.length = (uint16_t)(packet.length + FORKQ__FRAME_HEAD + 10);
      packet.frames++;
    }
    atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 2);
    ck_assert_int_eq(try_write(&packet), 0);
    int r;
    while ((r = receive()) == FORKQ__NOTHING)
      ;
    support_assert(r == 0 && support_wait(child) == 0);
  }
  assert_empty();
}
END_TEST

START_TEST(a_killed_sleeper_is_not_taken_for_one_that_sleeps) {
  support_kill_and_wait(sleeping_receiver(1, 10));
  ck_assert_uint_eq(shared->asleep, 1);
  ck_assert_int_eq(forkq__channel_receive_wait(&channel, &item, FORKQ__NOWAIT),
                   FORKQ_TIMEDOUT);
  ck_assert_uint_eq(shared->asleep, 0);
}
END_TEST

/* It has read three messages ahead, told nobody, and lets them go later. */
static void read_ahead_and_release(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  CHILD_MUST(forkq__channel_load(&channel) == 0);
  atomic_store(&flag[0], 1);
  support_until(&flag[1]);
  forkq__lock_release(&shared->read_lock);
}

START_TEST(nobody_sleeps_beside_what_is_read_ahead) {
  send_three(1);
  pid_t reader = support_fork(read_ahead_and_release, NULL);
  support_until(&flag[0]);
  pid_t child = receiver(1, 10);
  /* For long enough to give the read lock up and go to sleep. */
  int64_t deadline = support_now_ms() + 1000;
  while (support_now_ms() < deadline && atomic_load(&shared->getter_waits) == 0)
    usleep(1000);
  atomic_store(&flag[1], 1);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(support_wait(reader), 0);
  assert_receives(2, 10);
}
END_TEST

START_TEST(a_killed_sleeper_hands_the_watch_on) {
  for (int i = 0; i < 50; i++) {
    pid_t victim = sleeping_receiver(1, 10);
    pid_t other = receiver(1, 10);
    support_until_asleep(other);
    support_kill_and_wait(victim);
    send_message(1, 10);
    support_assert(support_wait(other) == 0);
  }
  assert_empty();
}
END_TEST

/* Woken for a message and killed before it takes it, or after: either way the other one gets
 * what is there. */
START_TEST(a_wake_up_that_dies_with_the_woken_leaves_nobody_behind) {
  for (int i = 0; i < 100; i++) {
    pid_t victim = sleeping_receiver(1, 10);
    pid_t other = receiver(1, 10);
    support_until_asleep(other);
    send_message(1, 10);
    kill(victim, SIGKILL);
    (void)support_wait(victim);
    send_message(1, 10);
    support_assert(support_wait(other) == 0);
    int r = receive();
    support_assert(r == 0 || r == FORKQ__NOTHING);
  }
  assert_empty();
}
END_TEST

START_TEST(a_stopped_sleeper_holds_nobody_up) {
  pid_t stopped = sleeping_receiver(2, 10);
  support_stop(stopped);
  pid_t other = receiver(1, 10);
  send_message(1, 10);
  ck_assert_int_eq(support_wait(other), 0);
  assert_empty();
  support_kill_and_wait(stopped);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline) {
  for (int ms = 1; ms <= 61; ms += 30) {
    int64_t start = forkq__os_now();
    ck_assert_int_eq(receive_within(ms), FORKQ_TIMEDOUT);
    int64_t took = forkq__os_now() - start;
    ck_assert_int_ge(took, ms * INT64_C(1000000));
    ck_assert_int_lt(took, INT64_C(3000000000));
  }
}
END_TEST

/* The reader holds its lock for longer than any deadline. */
static void hold_read_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&shared->read_lock, FORKQ__FOREVER, no_repair, NULL) ==
             0);
  atomic_store(&flag[0], 1);
  for (;;)
    pause();
}

START_TEST(a_deadline_covers_the_wait_for_the_locks) {
  pid_t child = support_fork(hold_read_lock, NULL);
  support_until(&flag[0]);
  send_message(1, 10);
  int64_t start = forkq__os_now();
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_int_eq(receive_within(50), FORKQ_TIMEDOUT);
  ck_assert_int_lt(forkq__os_now() - start, INT64_C(3000000000));
  support_kill_and_wait(child);
  assert_receives(1, 10);
  assert_empty();
}
END_TEST

static void expect_closed(void *arg) {
  (void)arg;
  /* The child has a channel of its own to close: a thread would do it in life. */
  support_end_after(10);
  channel.closed = true;
  CHILD_MUST(receive_within(10000) == FORKQ_ECLOSED);
}

START_TEST(a_closed_channel_is_not_waited_for) {
  ck_assert_int_eq(support_wait(support_fork(expect_closed, NULL)), 0);
}
END_TEST

START_TEST(one_sleep_is_hastened_once) {
  ck_assert(!forkq__channel_hasten(&channel));
  for (int i = 0; i < 20; i++) {
    pid_t child = sleeping_receiver(1, 10);
    support_assert(forkq__channel_hasten(&channel));
    support_assert(!forkq__channel_hasten(&channel));
    send_message(1, 10);
    support_assert(support_wait(child) == 0);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("channel_sleep");
  TCase *tcase = channel_case(suite, "channel_sleep");
  tcase_add_test(tcase, a_sleeper_wakes_for_a_message);
  tcase_add_test(tcase, many_sleepers_get_one_message_each);
  tcase_add_test(tcase, a_sleeper_hears_of_what_another_has_read_ahead);
  tcase_add_test(tcase, a_killed_sleeper_is_not_taken_for_one_that_sleeps);
  tcase_add_test(tcase, nobody_sleeps_beside_what_is_read_ahead);
  tcase_add_test(tcase, a_killed_sleeper_hands_the_watch_on);
  tcase_add_test(tcase, a_wake_up_that_dies_with_the_woken_leaves_nobody_behind);
  tcase_add_test(tcase, a_stopped_sleeper_holds_nobody_up);
  tcase_add_test(tcase, a_wait_ends_at_its_deadline);
  tcase_add_test(tcase, a_deadline_covers_the_wait_for_the_locks);
  tcase_add_test(tcase, a_closed_channel_is_not_waited_for);
  tcase_add_test(tcase, one_sleep_is_hastened_once);
  return support_main(suite);
}
