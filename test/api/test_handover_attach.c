/* What attach refuses: text, descriptors and memory that are not those of one queue. */
#define _GNU_SOURCE
#include "queue_helpers.h"
#include "shared/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
}

/* The text of a handover, from the colon behind the layout on. */
static const char *text_with(const char *rest) {
  static char text[2 * FORKQ_HANDOVER_TEXT];
  snprintf(text, sizeof text, "forkq:%u%s", FORKQ__SEGMENT_LAYOUT, rest);
  return text;
}

static const char *text_of(const int fds[FORKQ_HANDOVER_FDS]) {
  char rest[FORKQ_HANDOVER_TEXT];
  snprintf(rest, sizeof rest, ":%d:%d:%d:%d:%d", fds[0], fds[1], fds[2], fds[3], fds[4]);
  return text_with(rest);
}

START_TEST(text_that_is_no_handover_is_refused) {
  static const char *const bad[] = { "",
                                     ":",
                                     ":2:3:4:5",
                                     ":2:3:4:5:6x",
                                     ":2:3:4:5:6:7",
                                     ":-1:3:4:5:6",
                                     ": 2:3:4:5:6",
                                     ":02:3:4:5:6",
                                     ":2:3:4:5:2147483648",
                                     ":0:0:0:0:0" };
  forkq_queue_t *other = NULL;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    int r = forkq_queue_attach(&other, text_with(bad[i]), NULL);
    ck_assert_msg(r == FORKQ_EHANDOVER, "%s: %s", bad[i], forkq_error_name(r));
  }
  ck_assert_int_eq(forkq_queue_attach(&other, "", NULL), FORKQ_EHANDOVER);
  ck_assert_int_eq(forkq_queue_attach(&other, "forkq", NULL), FORKQ_EHANDOVER);
  ck_assert_int_eq(forkq_queue_attach(&other, "forkq:999:2:3:4:5:6", NULL),
                   FORKQ_EVERSION);
  ck_assert_int_eq(forkq_queue_attach(&other, NULL, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_attach(NULL, text_with(":2:3:4:5:6"), NULL), FORKQ_ENULL);
  ck_assert_ptr_null(other);
}
END_TEST

/* Descriptors of a queue that this process no longer has; and the test's queue is a new one. */
static void leave_queue(int fds[FORKQ_HANDOVER_FDS]) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    fds[i] = fcntl(handover.fds[i], F_DUPFD_CLOEXEC, 0);
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
}

static void close_fds(const int fds[FORKQ_HANDOVER_FDS]) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    close(fds[i]);
}

START_TEST(a_handover_has_one_spelling) {
  static const char *const formats[] = { ": %d:%d:%d:%d:%d",  ":+%d:%d:%d:%d:%d",
                                         ":0%d:%d:%d:%d:%d",  ":%d:%d: %d:%d:%d",
                                         ":%d:%d:%d:%d:%d ",  ":%d:%d:%d:%d:%d\n",
                                         ":%d:%d:%d:%d:%d:7", ":%d:%d:%d:%d:%d" };
  const size_t count = sizeof formats / sizeof *formats;
  forkq_queue_t *other = NULL;
  char rest[FORKQ_HANDOVER_TEXT];
  int fds[FORKQ_HANDOVER_FDS];
  leave_queue(fds);
  for (size_t i = 0; i < count; i++) {
    snprintf(rest, sizeof rest, formats[i], fds[0], fds[1], fds[2], fds[3], fds[4]);
    int r = forkq_queue_attach(&other, text_with(rest), NULL);
    ck_assert_msg(r == (i + 1 < count ? FORKQ_EHANDOVER : 0), "%s: %s", rest,
                  forkq_error_name(r));
  }
  forkq_queue_destroy(other);
}
END_TEST

/* What attach says to them; they are closed then, in one way or the other. */
static int attach_to(const int fds[FORKQ_HANDOVER_FDS]) {
  forkq_queue_t *other = NULL;
  int r = forkq_queue_attach(&other, text_of(fds), NULL);
  if (r == 0)
    forkq_queue_destroy(other);
  else
    close_fds(fds);
  return r;
}

/* With one of them replaced by another descriptor, or by another of the five. */
static int attach_with(int which, int fd) {
  int fds[FORKQ_HANDOVER_FDS];
  leave_queue(fds);
  ck_assert_int_eq(dup3(fd, fds[which], O_CLOEXEC), fds[which]);
  return attach_to(fds);
}

static int attach_with_own(int which, int other) {
  int fds[FORKQ_HANDOVER_FDS];
  leave_queue(fds);
  if (which != other)
    ck_assert_int_eq(dup3(fds[other], fds[which], O_CLOEXEC), fds[which]);
  return attach_to(fds);
}

static int attach_unchanged(void) {
  return attach_with_own(0, 0);
}

START_TEST(descriptors_of_something_else_are_refused) {
  int pipe_fds[2];
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int memory = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ck_assert_int_eq(ftruncate(memory, 4 << 20), 0);
  ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK | O_DIRECT), 0);
  ck_assert_int_eq(attach_unchanged(), 0);
  ck_assert_int_eq(attach_with(0, pipe_fds[0]), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with(1, pipe_fds[1]), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with(2, null), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with(3, null), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with(4, null), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with(4, memory), FORKQ_EHANDOVER);
  close(null);
  close(memory);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}
END_TEST

START_TEST(descriptors_of_another_queue_are_refused) {
  int others[FORKQ_HANDOVER_FDS];
  leave_queue(others);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    ck_assert_int_eq(attach_with(i, others[i]), FORKQ_EHANDOVER);
  close_fds(others);
}
END_TEST

START_TEST(both_ends_of_the_pipe_of_another_queue_are_refused) {
  int fds[FORKQ_HANDOVER_FDS], others[FORKQ_HANDOVER_FDS];
  leave_queue(fds);
  leave_queue(others);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(dup3(others[i], fds[i], O_CLOEXEC), fds[i]);
  ck_assert_int_eq(attach_to(fds), FORKQ_EHANDOVER);
  close_fds(others);
}
END_TEST

START_TEST(a_descriptor_that_is_not_open_is_told) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    int fds[FORKQ_HANDOVER_FDS];
    forkq_queue_t *other = NULL;
    leave_queue(fds);
    close(fds[i]);
    ck_assert_int_eq(forkq_queue_attach(&other, text_of(fds), NULL), -EBADF);
    close_fds(fds);
  }
}
END_TEST

/* Attaches with these descriptors, in another order or some of them twice. */
static int attach_in_order(const int fds[FORKQ_HANDOVER_FDS], const char *order) {
  int ordered[FORKQ_HANDOVER_FDS];
  forkq_queue_t *other = NULL;
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    ordered[i] = fds[order[i] - '0'];
  return forkq_queue_attach(&other, text_of(ordered), NULL);
}

START_TEST(descriptors_in_another_order_or_named_twice_are_refused) {
  int fds[FORKQ_HANDOVER_FDS];
  char order[] = "01234";
  leave_queue(fds);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    for (int k = 0; k < FORKQ_HANDOVER_FDS; k++) {
      if (k == i)
        continue;
      char was = order[i];
      order[i] = order[k];
      ck_assert_int_eq(attach_in_order(fds, order), FORKQ_EHANDOVER); /* twice */
      order[k] = was;
      ck_assert_int_eq(attach_in_order(fds, order), FORKQ_EHANDOVER); /* exchanged */
      order[k] = order[i];
      order[i] = was;
    }
  ck_assert_str_eq(order, "01234");
  close_fds(fds);
}
END_TEST

/* To raise it would be to write to it, and whoever waits for the right one would wait on. */
START_TEST(an_event_that_is_none_is_refused) {
  int pair[2];
  int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  for (int which = 2; which <= 3; which++) {
    ck_assert_int_eq(attach_with(which, pair[0]), FORKQ_EHANDOVER);
    ck_assert_int_eq(attach_with(which, event), FORKQ_EHANDOVER);
    ck_assert_int_eq(attach_with(which, timer), FORKQ_EHANDOVER);
    ck_assert_int_eq(attach_with_own(which, 4), FORKQ_EHANDOVER);
    ck_assert_int_eq(attach_with_own(which, 5 - which), FORKQ_EHANDOVER);
  }
  close(event);
  close(timer);
  close(pair[0]);
  close(pair[1]);
}
END_TEST

/* As in a segment that was made where there was no /proc. */
static void forget_events(void) {
  static const uint64_t unknown[2] = { 0, 0 };
  const off_t at = offsetof(struct forkq__segment, event_id);
  forkq_handover_t handover;
  _Static_assert(offsetof(struct forkq__segment, room_id) ==
                     offsetof(struct forkq__segment, event_id) + sizeof(uint64_t),
                 "one behind the other");
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(pwrite(handover.fds[4], unknown, sizeof unknown, at), sizeof unknown);
}

START_TEST(events_that_nobody_knows_must_be_two) {
  forget_events();
  ck_assert_int_eq(attach_unchanged(), 0);
  forget_events();
  ck_assert_int_eq(attach_with_own(2, 3), FORKQ_EHANDOVER);
}
END_TEST

/* Damages the segment, and what attach says to it then. */
static int attach_with_memory(size_t offset, const void *bytes, size_t size) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(pwrite(handover.fds[4], bytes, size, (off_t)offset), (ssize_t)size);
  return attach_unchanged();
}

#define ATTACH_WITH(field, type, value)                                                  \
  attach_with_memory(offsetof(struct forkq__segment, field), &(type){ value },           \
                     sizeof(type))

START_TEST(memory_that_leads_out_of_itself_is_refused) {
  const uint64_t cells = FORKQ__CELLS_MAX, bits = FORKQ__CELL_BITS;
  ck_assert_int_eq(ATTACH_WITH(ledger.cells_used, uint32_t, FORKQ__CELLS_MAX), 0);
  ck_assert_int_eq(ATTACH_WITH(ledger.cells_used, uint32_t, FORKQ__CELLS_MAX + 1),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(ledger.word, uint64_t, 1 << bits | cells), 0);
  ck_assert_int_eq(ATTACH_WITH(ledger.word, uint64_t, 1 << bits | (cells + 1)),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(ledger.word, uint64_t, 1 << bits), FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(channel.taker, uint32_t, FORKQ__CELLS_MAX + 1),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(max_message, uint64_t, 0), FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(max_message, uint64_t, FORKQ_MESSAGE_MAX), 0);
  ck_assert_int_eq(ATTACH_WITH(max_message, uint64_t, FORKQ_MESSAGE_MAX + 1ull),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(slots.maxsize, int64_t, -1), FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(joinable, uint32_t, 2), FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(channel.spill.mark, uint64_t, UINT64_MAX),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(ATTACH_WITH(channel.offset, uint32_t, FORKQ__PACKET_END + 1),
                   FORKQ_EHANDOVER);
}
END_TEST

START_TEST(another_layout_is_refused) {
  /* The head of a segment as it would be, but for the number of the layout: as for all
   * versions, it stands in its ninth byte. */
  forkq_handover_t handover;
  uint32_t layout = 77;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(pwrite(handover.fds[4], &layout, sizeof layout, 8), sizeof layout);
  ck_assert_int_eq(attach_unchanged(), FORKQ_EVERSION);
}
END_TEST
int main(void) {
  Suite *suite = suite_create("handover_attach");
  TCase *tcase = tcase_create("handover_attach");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, text_that_is_no_handover_is_refused);
  tcase_add_test(tcase, a_handover_has_one_spelling);
  tcase_add_test(tcase, descriptors_of_something_else_are_refused);
  tcase_add_test(tcase, descriptors_of_another_queue_are_refused);
  tcase_add_test(tcase, both_ends_of_the_pipe_of_another_queue_are_refused);
  tcase_add_test(tcase, a_descriptor_that_is_not_open_is_told);
  tcase_add_test(tcase, descriptors_in_another_order_or_named_twice_are_refused);
  tcase_add_test(tcase, an_event_that_is_none_is_refused);
  tcase_add_test(tcase, events_that_nobody_knows_must_be_two);
  tcase_add_test(tcase, memory_that_leads_out_of_itself_is_refused);
  tcase_add_test(tcase, another_layout_is_refused);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
