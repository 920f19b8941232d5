/* A queue given to another program: the same program, started anew with an argument. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
}

/* ---- the other program --------------------------------------------------------------------- */

/* Gets a number and puts it back plus one hundred, until it gets 0. */
static int echo(const char *text) {
  forkq_queue_t *attached;
  if (forkq_queue_attach(&attached, text, NULL) != 0)
    return 2;
  for (int64_t value; (value = get_int(attached, 10000)) != 0;)
    if (value < 0 || put_int(attached, value + 100, -1) != 0)
      return 3;
  forkq_queue_destroy(attached);
  return 0;
}

/* Fills the queue behind a message that no pipe holds, and waits to be killed. */
static int hoard(const char *text) {
  static char large[10 << 20] = { (char)0xc6 };
  forkq_queue_t *attached;
  size_t body = sizeof large - 5;
  for (int i = 0; i < 4; i++)
    large[1 + i] = (char)(body >> (24 - 8 * i));
  if (forkq_queue_attach(&attached, text, NULL) != 0)
    return 2;
  support_keep_to_pipe(attached);
  if (forkq_queue_put_packed(attached, large, sizeof large, -1) != 0)
    return 2;
  while (put_int(attached, 1, 0) == 0)
    ;
  pause();
  return 0;
}

static int other_program(const char *role, const char *text) {
  return strcmp(role, "echo") == 0 ? echo(text) : hoard(text);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void exec_other(void *arg) {
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  CHILD_MUST(forkq_handover_keep(&handover) == 0);
  execl("/proc/self/exe", "other", (const char *)arg, handover.text, NULL);
  _exit(127);
}

static void put_five(void *arg) {
  (void)arg;
  CHILD_MUST(put_int(queue, 5, -1) == 0);
  forkq_queue_destroy(queue);
}

static char role_echo[] = "echo", role_hoard[] = "hoard";

static void assert_echo(pid_t pid) {
  for (int i = 1; i <= 5; i++)
    ck_assert_int_eq(put_int(queue, i, -1), 0);
  /* The other one may get what is echoed, too: numbers grow until they are got here. */
  for (int i = 1; i <= 5; i++)
    ck_assert_int_ge(get_int(queue, 10000), 1);
  ck_assert_int_eq(put_int(queue, 0, -1), 0);
  ck_assert_int_eq(support_wait(pid), 0);
}

START_TEST(to_a_program_started_with_fork_and_exec) {
  assert_echo(support_fork(exec_other, role_echo));
}
END_TEST

START_TEST(to_a_program_started_with_posix_spawn) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    posix_spawn_file_actions_adddup2(&actions, handover.fds[i], handover.fds[i]);
  char name[] = "other";
  char *args[] = { name, role_echo, handover.text, NULL };
  pid_t pid;
  ck_assert_int_eq(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, args, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  assert_echo(pid);
}
END_TEST

/* CPython's TestStartMethod: there a queue of the fork context is refused to a process that is
 * spawned, and one of the spawn context goes to every kind of process. Here there is one kind
 * of queue, and it goes to all. */
START_TEST(test_mixed_startmethod) {
  pid_t forked = support_fork(put_five, NULL);
  ck_assert_int_eq(get_int(queue, 10000), 5);
  ck_assert_int_eq(support_wait(forked), 0);
  assert_echo(support_fork(exec_other, role_echo));
}
END_TEST

static void receive_and_put(void *arg) {
  /* This child has the queue by fork already, which is refused; so it gives it up first. */
  int socket = *(int *)arg;
  forkq_queue_destroy(queue);
  forkq_queue_t *received;
  CHILD_MUST(forkq_queue_receive(&received, socket, NULL) == 0);
  CHILD_MUST(put_int(received, 7, -1) == 0);
  forkq_queue_destroy(received);
}

/* The same in a program that has closed its standard streams, and prints. */
static void receive_print_and_put(void *arg) {
  int socket = *(int *)arg;
  forkq_queue_destroy(queue);
  forkq_queue_t *received;
  for (int fd = 0; fd < 3; fd++)
    close(fd);
  CHILD_MUST(forkq_queue_receive(&received, socket, NULL) == 0);
  printf("what nobody is to read\n");
  CHILD_MUST(fflush(stdout) == EOF);
  CHILD_MUST(put_int(received, 7, -1) == 0);
  forkq_queue_destroy(received);
}

static int sockets[2];

static void open_sockets(void) {
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static void close_sockets(void) {
  close(sockets[0]);
  close(sockets[1]);
}

static void assert_passes_to(void (*receiver)(void *socket)) {
  pid_t child = support_fork(receiver, &sockets[1]);
  ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
  ck_assert_int_eq(get_int(queue, 10000), 7);
  ck_assert_int_eq(support_wait(child), 0);
}

START_TEST(to_an_unrelated_process_over_a_socket) {
  open_sockets();
  assert_passes_to(receive_and_put);
  shutdown(sockets[0], SHUT_WR);
  forkq_queue_t *received = NULL;
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), FORKQ_EEOF);
  close_sockets();
}
END_TEST

START_TEST(to_a_process_without_standard_streams) {
  open_sockets();
  assert_passes_to(receive_print_and_put);
  close_sockets();
}
END_TEST

START_TEST(over_a_socket_that_says_who_sends) {
  const int on = 1;
  open_sockets();
  ck_assert_int_eq(setsockopt(sockets[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  assert_passes_to(receive_and_put);
  close_sockets();
}
END_TEST

static void set_nonblocking(int fd) {
  ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

START_TEST(a_socket_that_does_not_block_takes_or_gives_a_whole_queue_or_nothing) {
  const int small = 1; /* the kernel takes its least */
  forkq_queue_t *received;
  int sent = 0, r;
  open_sockets();
  set_nonblocking(sockets[0]);
  set_nonblocking(sockets[1]);
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), -EAGAIN);
  ck_assert_int_eq(setsockopt(sockets[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small),
                   0);
  while ((r = forkq_queue_send(queue, sockets[0])) == 0)
    sent++;
  ck_assert_int_eq(r, -EAGAIN);
  ck_assert_int_gt(sent, 0);
  for (; sent > 0; sent--)
    ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), FORKQ_ETWICE);
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), -EAGAIN);
  close_sockets();
}
END_TEST

START_TEST(what_is_wrong_with_the_socket_is_told) {
  int pipe_fds[2];
  int unconnected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
  open_sockets();
  close(sockets[1]);
  ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), -EPIPE);
  ck_assert_int_eq(forkq_queue_send(queue, sockets[1]), -EBADF);
  ck_assert_int_eq(forkq_queue_send(queue, pipe_fds[1]), -ENOTSOCK);
  ck_assert_int_eq(forkq_queue_send(queue, unconnected), -ENOTCONN);
  ck_assert_int_eq(forkq_queue_send(queue, tcp), -EAFNOSUPPORT);
  forkq_queue_t *received;
  ck_assert_int_eq(forkq_queue_receive(&received, pipe_fds[0], NULL), -ENOTSOCK);
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), -EBADF);
  close(sockets[0]);
  close(unconnected);
  close(tcp);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}
END_TEST

START_TEST(a_queue_on_its_way_lives_on_without_its_sender) {
  forkq_queue_t *received;
  open_sockets();
  ck_assert_int_eq(put_int(queue, 1, 0), 0);
  ck_assert_int_eq(put_int(queue, 2, 0), 0);
  ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
  close(sockets[0]);
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), 0);
  ck_assert_int_eq(get_int(received, 1000), 1);
  ck_assert_int_eq(get_int(received, 1000), 2);
  queue = received;
  close(sockets[1]);
}
END_TEST

#define MOST (FORKQ_HANDOVER_FDS + 1) /* see test_passing for more */

/* The text of this queue with so many descriptors beside it: what a receive says. */
static int receive_with_fds(int count) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MOST * sizeof(int))];
  } control = { .space = { 0 } };
  forkq_handover_t handover;
  forkq_queue_t *received = NULL;
  int fds[MOST];
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  for (int i = 0; i < count; i++)
    fds[i] = handover.fds[i % FORKQ_HANDOVER_FDS];
  struct iovec part = { handover.text, sizeof handover.text };
  size_t size = (size_t)count * sizeof(int);
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = count > 0 ? control.space : NULL,
                            .msg_controllen = count > 0 ? CMSG_SPACE(size) : 0 };
  control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(size),
                                     .cmsg_level = SOL_SOCKET,
                                     .cmsg_type = SCM_RIGHTS };
  memcpy(CMSG_DATA(&control.header), fds, size);
  open_sockets();
  int open_before = support_open_fds();
  ck_assert_int_gt(sendmsg(sockets[0], &message, 0), 0);
  int r = forkq_queue_receive(&received, sockets[1], NULL);
  ck_assert_int_eq(support_open_fds(), open_before);
  close_sockets();
  return r;
}

START_TEST(as_many_descriptors_as_a_queue_has_or_none_stays_open) {
  /* This process has the queue already, and that is what is wrong with the right number. */
  for (int count = 0; count <= MOST; count++)
    ck_assert_int_eq(receive_with_fds(count),
                     count == FORKQ_HANDOVER_FDS ? FORKQ_ETWICE : FORKQ_EHANDOVER);
}
END_TEST

START_TEST(what_the_killed_program_held_comes_back) {
  pid_t child = support_fork(exec_other, role_hoard);
  while (forkq_queue_full(queue) == 0)
    usleep(1000);
  support_until_asleep(child);
  support_kill_and_wait(child);
  for (int i = 0; i < 10; i++)
    ck_assert_int_eq(put_int(queue, i, 0), 0);
  ck_assert_int_eq(put_int(queue, 10, 0), FORKQ_FULL);
  for (int i = 0; i < 10; i++)
    ck_assert_int_eq(get_int(queue, 1000), i);
}
END_TEST

START_TEST(the_same_process_is_refused) {
  forkq_handover_t handover;
  forkq_queue_t *other = NULL;
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(forkq_queue_attach(&other, handover.text, NULL), FORKQ_ETWICE);
  ck_assert_ptr_null(other);
  ck_assert_int_eq(put_int(queue, 1, -1), 0);
  ck_assert_int_eq(get_int(queue, 1000), 1);
}
END_TEST

START_TEST(a_process_has_a_queue_until_it_destroys_it) {
  forkq_queue_t *received;
  open_sockets();
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_receive(&received, sockets[1], NULL), FORKQ_ETWICE);
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_receive(&queue, sockets[1], NULL), 0);
  close_sockets();
}
END_TEST

START_TEST(a_closed_queue_cannot_be_handed_over) {
  forkq_handover_t handover;
  ck_assert_int_eq(forkq_queue_hand_over(NULL, &handover), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_hand_over(queue, NULL), FORKQ_ENULL);
  forkq_queue_close(queue);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), FORKQ_ECLOSED);
}
END_TEST

static int32_t simple_int(forkq_simple_queue_t *simple) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_simple_queue_get(simple, &item);
  int32_t value = r == 0 ? (int32_t)item.object.via.i64 : r;
  forkq_item_destroy(&item);
  return value;
}

static void receive_simple_and_answer(void *socket) {
  forkq_simple_queue_t *received = NULL;
  CHILD_MUST(forkq_simple_queue_receive(&received, *(int *)socket) == 0);
  CHILD_MUST(simple_int(received) == 7);
  CHILD_MUST(forkq_simple_queue_put_int(received, 8) == 0);
  char end;
  CHILD_MUST(read(*(int *)socket, &end, 1) == 1); /* nothing else gets what it has put */
  forkq_simple_queue_destroy(received);
}

START_TEST(a_simple_queue_over_a_socket) {
  forkq_simple_queue_t *simple;
  open_sockets();
  pid_t child = support_fork(receive_simple_and_answer, &sockets[1]);
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  ck_assert_int_eq(forkq_simple_queue_send(simple, sockets[0]), 0);
  ck_assert_int_eq(forkq_simple_queue_put_int(simple, 7), 0);
  int32_t got;
  while ((got = simple_int(simple)) == 7) /* its own, before the child got it */
    ck_assert_int_eq(forkq_simple_queue_put_int(simple, 7), 0);
  ck_assert_int_eq(got, 8);
  ck_assert_int_eq(write(sockets[0], "", 1), 1);
  ck_assert_int_eq(support_wait(child), 0);
  forkq_simple_queue_destroy(simple);
  close_sockets();
}
END_TEST

static forkq_queue_t *counting;

static void receive_no_simple_queue(void *socket) {
  forkq_queue_destroy(counting);
  int before = support_open_fds();
  forkq_simple_queue_t *received = NULL;
  CHILD_MUST(forkq_simple_queue_receive(&received, *(int *)socket) == FORKQ_EHANDOVER);
  CHILD_MUST(received == NULL && support_open_fds() == before);
}

static void assert_is_no_simple_queue(forkq_queue_t *other) {
  counting = other;
  open_sockets();
  pid_t child = support_fork(receive_no_simple_queue, &sockets[1]);
  ck_assert_int_eq(forkq_queue_send(other, sockets[0]), 0);
  ck_assert_int_eq(support_wait(child), 0);
  close_sockets();
}

START_TEST(a_queue_that_counts_is_no_simple_queue) {
  forkq_queue_t *joinable;
  assert_is_no_simple_queue(queue); /* it has a maxsize */
  ck_assert_int_eq(forkq_joinable_queue_create(&joinable, 0), 0);
  assert_is_no_simple_queue(joinable);
  forkq_queue_destroy(joinable);
  forkq_simple_queue_t *received = NULL;
  ck_assert_int_eq(forkq_simple_queue_receive(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_simple_queue_receive(&received, -1), -EBADF);
  ck_assert_int_eq(forkq_simple_queue_send(NULL, 0), FORKQ_ENULL);
}
END_TEST

int main(int argc, char **argv) {
  if (argc == 3)
    return other_program(argv[1], argv[2]);
  Suite *suite = suite_create("handover");
  TCase *tcase = tcase_create("handover");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, to_a_program_started_with_fork_and_exec);
  tcase_add_test(tcase, to_a_program_started_with_posix_spawn);
  tcase_add_test(tcase, test_mixed_startmethod);
  tcase_add_test(tcase, to_an_unrelated_process_over_a_socket);
  tcase_add_test(tcase, to_a_process_without_standard_streams);
  tcase_add_test(tcase, over_a_socket_that_says_who_sends);
  tcase_add_test(tcase,
                 a_socket_that_does_not_block_takes_or_gives_a_whole_queue_or_nothing);
  tcase_add_test(tcase, what_is_wrong_with_the_socket_is_told);
  tcase_add_test(tcase, a_queue_on_its_way_lives_on_without_its_sender);
  tcase_add_test(tcase, as_many_descriptors_as_a_queue_has_or_none_stays_open);
  tcase_add_test(tcase, what_the_killed_program_held_comes_back);
  tcase_add_test(tcase, the_same_process_is_refused);
  tcase_add_test(tcase, a_process_has_a_queue_until_it_destroys_it);
  tcase_add_test(tcase, a_closed_queue_cannot_be_handed_over);
  tcase_add_test(tcase, a_simple_queue_over_a_socket);
  tcase_add_test(tcase, a_queue_that_counts_is_no_simple_queue);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
