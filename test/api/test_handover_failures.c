/* What a handover leaves behind that fails: an attach, every descriptor as it was; a receive, none
 * of those that came. */
#define _GNU_SOURCE
#include "queue_helpers.h"
#include "shared/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int sockets[2];

static void set_up(void) {
  support_heap_install();
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static void tear_down(void) {
  close(sockets[0]);
  close(sockets[1]);
  queue_tear_down();
}

/* ---- a handover, and what may be wrong with it ----------------------------------------------- */

/* By the text that names these descriptors, or beside it. */
struct handed {
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
};

static void name_fds(struct handed *handed) {
  const int *fds = handed->fds;
  snprintf(handed->text, sizeof handed->text, "forkq:%u:%d:%d:%d:%d:%d",
           FORKQ__SEGMENT_LAYOUT, fds[0], fds[1], fds[2], fds[3], fds[4]);
}

static void take_fds_of(forkq_queue_t *from, struct handed *handed) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(from, &handover), 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    handed->fds[i] = dup(handover.fds[i]); /* which survive exec */
  name_fds(handed);
}

/* Of a queue that this process does not have. */
static void make_handed(struct handed *handed) {
  forkq_queue_t *other;
  ck_assert_int_eq(forkq_queue_create(&other, 10), 0);
  take_fds_of(other, handed);
  forkq_queue_destroy(other);
}

static void close_handed(const struct handed *handed) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    close(handed->fds[i]);
}

static void no_text(struct handed *handed) {
  strcpy(handed->text, "forkq");
}

static void text_of_another_version(struct handed *handed) {
  strcpy(handed->text, "forkq:999:3:4:5:6:7");
}

static void text_spelled_otherwise(struct handed *handed) {
  size_t at = strcspn(handed->text, ":") + 3; /* behind "forkq:3:" */
  memmove(handed->text + at, handed->text + at - 1, strlen(handed->text + at - 1) + 1);
  handed->text[at - 1] = ':';
  handed->text[at] = '0';
  ck_assert_ptr_nonnull(strstr(handed->text, ":0"));
}

static void events_exchanged(struct handed *handed) {
  int event = handed->fds[2];
  handed->fds[2] = handed->fds[3];
  handed->fds[3] = event;
  name_fds(handed);
}

static void fds_of_a_queue_that_is_here(struct handed *handed) {
  close_handed(handed);
  take_fds_of(queue, handed);
}

static void write_to_memory(struct handed *handed, size_t offset, uint32_t number) {
  ck_assert_int_eq(pwrite(handed->fds[4], &number, sizeof number, (off_t)offset),
                   sizeof number);
}

static void memory_without_magic(struct handed *handed) {
  write_to_memory(handed, offsetof(struct forkq__segment, head.magic), 0);
}

static void memory_of_another_layout(struct handed *handed) {
  write_to_memory(handed, offsetof(struct forkq__segment, head.layout), 999);
}

static void memory_of_another_c_library(struct handed *handed) {
  write_to_memory(handed, offsetof(struct forkq__segment, head.abi.libc), 999);
}

static void memory_out_of_bounds(struct handed *handed) {
  write_to_memory(handed, offsetof(struct forkq__segment, ledger.cells_used), UINT32_MAX);
}

static void no_memory(struct handed *handed) {
  (void)handed;
  support_heap_fail_at(1, true);
}

static const struct failure {
  void (*spoil)(struct handed *handed);
  int error;
} failures[] = {
  { no_text, FORKQ_EHANDOVER },
  { text_of_another_version, FORKQ_EVERSION },
  { text_spelled_otherwise, FORKQ_EHANDOVER },
  { events_exchanged, FORKQ_EHANDOVER },
  { fds_of_a_queue_that_is_here, FORKQ_ETWICE },
  { memory_without_magic, FORKQ_EHANDOVER },
  { memory_of_another_layout, FORKQ_EVERSION },
  { memory_of_another_c_library, FORKQ_EVERSION },
  { memory_out_of_bounds, FORKQ_EHANDOVER },
  { no_memory, -ENOMEM },
};

#define FAILURES ((int)(sizeof failures / sizeof *failures))

/* ---- attach ---------------------------------------------------------------------------------- */

/* Its flags, those of its file, and where that stands. */
struct state {
  int fd_flags;
  int file_flags;
  off_t offset;
};

static struct state state_of(int fd) {
  return (struct state){ fcntl(fd, F_GETFD), fcntl(fd, F_GETFL), lseek(fd, 0, SEEK_CUR) };
}

/* Attaches, which fails; each descriptor is what it was. */
static void assert_leaves_all(const struct handed *handed,
                              const forkq_queue_options_t *options, int error) {
  struct state before[FORKQ_HANDOVER_FDS];
  forkq_queue_t *other = NULL;
  int open_before = support_open_fds();
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    before[i] = state_of(handed->fds[i]);
  ck_assert_int_eq(forkq_queue_attach(&other, handed->text, options), error);
  support_heap_fail_at(0, false);
  ck_assert_ptr_null(other);
  ck_assert_int_eq(support_open_fds(), open_before);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    struct state after = state_of(handed->fds[i]);
    ck_assert_mem_eq(&after, &before[i], sizeof after);
  }
}

START_TEST(an_attach_that_fails_leaves_the_descriptors_as_they_are) {
  const struct failure *failure = &failures[_i];
  struct handed handed;
  make_handed(&handed);
  failure->spoil(&handed);
  assert_leaves_all(&handed, NULL, failure->error);
  close_handed(&handed);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(1000), 1);
}
END_TEST

START_TEST(an_attach_that_failed_can_be_tried_again) {
  forkq_queue_options_t of_another_version = { .size = 1 };
  forkq_queue_t *other;
  struct handed handed;
  make_handed(&handed);
  assert_leaves_all(&handed, &of_another_version, FORKQ_ERANGE);
  no_memory(&handed);
  assert_leaves_all(&handed, NULL, -ENOMEM);
  ck_assert_int_eq(forkq_queue_attach(&other, handed.text, NULL), 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    ck_assert_int_eq(fcntl(handed.fds[i], F_GETFD), FD_CLOEXEC);
  ck_assert_int_eq(put_int(other, 5, 0), 0);
  ck_assert_int_eq(get_int(other, 1000), 5);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(an_attach_without_one_of_the_descriptors_leaves_the_others) {
  struct handed handed;
  make_handed(&handed);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    close(handed.fds[i]);
    assert_leaves_all(&handed, NULL, -EBADF);
  }
}
END_TEST

/* ---- receive --------------------------------------------------------------------------------- */

/* As forkq_queue_send does it. */
static void send_handed(const struct handed *handed) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof handed->fds)];
  } control = { .space = { 0 } };
  struct iovec part = { (void *)(uintptr_t)handed->text, sizeof handed->text };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control.space };
  control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof handed->fds),
                                     .cmsg_level = SOL_SOCKET,
                                     .cmsg_type = SCM_RIGHTS };
  memcpy(CMSG_DATA(&control.header), handed->fds, sizeof handed->fds);
  ck_assert_int_eq(sendmsg(sockets[0], &message, 0), sizeof handed->text);
}

/* Receives, which fails; nothing of what came is open. */
static void assert_keeps_none(const forkq_queue_options_t *options, int error) {
  forkq_queue_t *other = NULL;
  int open_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_receive(&other, sockets[1], options), error);
  support_heap_fail_at(0, false);
  ck_assert_ptr_null(other);
  ck_assert_int_eq(support_open_fds(), open_before);
}

/* The next that comes is a queue. */
static void assert_receives(void) {
  forkq_queue_t *other;
  ck_assert_int_eq(forkq_queue_receive(&other, sockets[1], NULL), 0);
  ck_assert_int_eq(put_int(other, 5, 0), 0);
  ck_assert_int_eq(get_int(other, 1000), 5);
  forkq_queue_destroy(other);
}

START_TEST(a_receive_that_fails_closes_what_came) {
  const struct failure *failure = &failures[_i];
  struct handed spoiled, good;
  make_handed(&spoiled);
  make_handed(&good);
  failure->spoil(&spoiled);
  send_handed(&spoiled);
  close_handed(&spoiled);
  assert_keeps_none(NULL, failure->error);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(1000), 1);
  send_handed(&good);
  close_handed(&good);
  assert_receives();
}
END_TEST

START_TEST(a_receive_with_wrong_arguments_takes_nothing) {
  forkq_queue_options_t of_another_version = { .size = 1 };
  struct handed handed;
  make_handed(&handed);
  send_handed(&handed);
  close_handed(&handed);
  ck_assert_int_eq(forkq_queue_receive(NULL, sockets[1], NULL), FORKQ_ENULL);
  assert_keeps_none(&of_another_version, FORKQ_ERANGE);
  assert_receives();
}
END_TEST

static int receives(msgpack_packer *packer, void *arg) {
  (void)arg;
  assert_keeps_none(NULL, FORKQ_EPACKING);
  return msgpack_pack_int(packer, 3);
}

START_TEST(a_receive_by_a_packing_function_takes_nothing) {
  struct handed handed;
  make_handed(&handed);
  send_handed(&handed);
  close_handed(&handed);
  ck_assert_int_eq(forkq_queue_put_with(queue, receives, NULL, 0), 0);
  ck_assert_int_eq(get(1000), 3);
  assert_receives();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("handover_failures");
  TCase *tcase = tcase_create("failures");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, an_attach_that_fails_leaves_the_descriptors_as_they_are, 0,
                      FAILURES);
  tcase_add_test(tcase, an_attach_that_failed_can_be_tried_again);
  tcase_add_test(tcase, an_attach_without_one_of_the_descriptors_leaves_the_others);
  tcase_add_loop_test(tcase, a_receive_that_fails_closes_what_came, 0, FAILURES);
  tcase_add_test(tcase, a_receive_with_wrong_arguments_takes_nothing);
  tcase_add_test(tcase, a_receive_by_a_packing_function_takes_nothing);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
