/* Descriptors that are passed over a Unix socket, by the functions of os.h. */
#define _GNU_SOURCE
#include "base/os.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/base.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define WANTED 5        /* descriptors that fds_receive is asked for */
#define KERNEL_MOST 253 /* that Linux lets a message carry */
#define TEXT "sixteen bytes .."

/* Linux 6.5 has it. The headers of Debian 12 are older. */
#ifndef SO_PASSPIDFD
#  define SO_PASSPIDFD 76
#endif

static int fds_before;
static int sockets[2];
static int given[2]; /* a pipe */

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  ck_assert_int_eq(forkq__os_pipe(given), 0);
}

static void tear_down(void) {
  for (int i = 0; i < 2; i++) {
    close(sockets[i]);
    close(given[i]);
  }
  ck_assert_int_eq(support_open_fds(), fds_before);
}

/* Sends bytes with the pipe's ends, in turn, so many times; 0 or -errno. */
static int send_many(int socket, const void *data, size_t size, int count) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE((KERNEL_MOST + 1) * sizeof(int))];
  } control = { .space = { 0 } };
  int fds[KERNEL_MOST + 1];
  size_t bytes = (size_t)count * sizeof(int);
  for (int i = 0; i < count; i++)
    fds[i] = given[i % 2];
  control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(bytes),
                                     .cmsg_level = SOL_SOCKET,
                                     .cmsg_type = SCM_RIGHTS };
  memcpy(CMSG_DATA(&control.header), fds, bytes);
  struct iovec part = { (void *)(uintptr_t)data, size };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = count > 0 ? &control : NULL,
                            .msg_controllen = count > 0 ? CMSG_SPACE(bytes) : 0 };
  return sendmsg(socket, &message, 0) < 0 ? -errno : 0;
}

static int receive(int fds[WANTED]) {
  char text[sizeof TEXT];
  int r = forkq__os_fds_receive(sockets[1], text, sizeof text, fds, WANTED);
  if (r == 0)
    ck_assert_str_eq(text, TEXT);
  return r;
}

static bool same_file(int a, int b) {
  struct stat of_a, of_b;
  return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

static void assert_all_came(const int fds[WANTED]) {
  for (int i = 0; i < WANTED; i++) {
    ck_assert(same_file(fds[i], given[i % 2]));
    close(fds[i]);
  }
}

/* ---- what a socket brings besides ------------------------------------------------------------ */

/* Each bit of `set` an option of the receiver's. False where the kernel does not know one. */
static bool set_options(int set) {
  static const int options[] = { SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD };
  const int on = 1;
  for (int i = 0; i < 3; i++)
    if (set >> i & 1 &&
        setsockopt(sockets[1], SOL_SOCKET, options[i], &on, sizeof on) != 0) {
      ck_assert(options[i] == SO_PASSPIDFD && errno == ENOPROTOOPT);
      return false;
    }
  return true;
}

#define OPTION_SETS 8

START_TEST(options_of_the_socket_keep_no_descriptor_out) {
  if (!set_options(_i))
    return;
  int fds[WANTED], fd = -1;
  unsigned char byte = 0;
  bool lost = true;
  int open_before = support_open_fds();
  ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT, WANTED), 0);
  ck_assert_int_eq(receive(fds), 0);
  ck_assert_int_eq(support_open_fds(), open_before + WANTED);
  assert_all_came(fds);
  ck_assert_int_eq(forkq__os_fd_send(sockets[0], 7, given[0]), 1);
  ck_assert_int_eq(forkq__os_fd_receive(sockets[1], &byte, &fd, &lost), 1);
  ck_assert(byte == 7 && !lost && same_file(fd, given[0]));
  ck_assert_int_eq(support_open_fds(), open_before + 1);
  close(fd);
}
END_TEST

START_TEST(as_many_descriptors_as_linux_passes_fit_beside_the_options) {
  if (!set_options(_i))
    return;
  char text[sizeof TEXT];
  int fds[KERNEL_MOST];
  ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT, KERNEL_MOST + 1), -EINVAL);
  ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT, KERNEL_MOST), 0);
  ck_assert_int_eq(forkq__os_fds_receive(sockets[1], text, sizeof text, fds, KERNEL_MOST),
                   0);
  for (int i = 0; i < KERNEL_MOST; i++)
    close(fds[i]);
}
END_TEST

START_TEST(options_of_the_socket_are_no_descriptors) {
  if (!set_options(_i))
    return;
  int fds[WANTED], fd = -1;
  unsigned char byte = 0;
  bool lost = true;
  int open_before = support_open_fds();
  ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT, 0), 0);
  ck_assert_int_eq(receive(fds), FORKQ_EHANDOVER);
  ck_assert_int_eq(send_many(sockets[0], "\7", 1, 0), 0);
  ck_assert_int_eq(forkq__os_fd_receive(sockets[1], &byte, &fd, &lost), 1);
  ck_assert(fd == -1 && !lost);
  shutdown(sockets[0], SHUT_WR);
  ck_assert_int_eq(receive(fds), FORKQ_EEOF);
  ck_assert_int_eq(forkq__os_fd_receive(sockets[1], &byte, &fd, &lost), 0);
  ck_assert_int_eq(support_open_fds(), open_before);
}
END_TEST

/* ---- more than was asked for, or less ---------------------------------------------------------- */

START_TEST(more_descriptors_or_fewer_are_refused_and_closed) {
  int fds[WANTED];
  int open_before = support_open_fds();
  for (int count = 0; count <= KERNEL_MOST; count++) {
    ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT, count), 0);
    if (count == WANTED) {
      ck_assert_int_eq(receive(fds), 0);
      assert_all_came(fds);
    } else {
      ck_assert_int_eq(receive(fds), FORKQ_EHANDOVER);
    }
  }
  ck_assert_int_eq(support_open_fds(), open_before);
}
END_TEST

START_TEST(fewer_bytes_are_refused_and_the_descriptors_closed) {
  int fds[WANTED];
  int open_before = support_open_fds();
  ck_assert_int_eq(send_many(sockets[0], TEXT, sizeof TEXT - 1, WANTED), 0);
  shutdown(sockets[0], SHUT_WR);
  ck_assert_int_eq(receive(fds), FORKQ_EHANDOVER);
  ck_assert_int_eq(support_open_fds(), open_before);
}
END_TEST

/* valgrind has its own limit on descriptors, and keeps some. */
static bool descriptors_are_valgrinds(void) {
  const char *preload = getenv("LD_PRELOAD");
  return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static int highest_fd(void) {
  int highest = 0;
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) != -1)
      highest = fd;
  return highest;
}

static int open_below_3(void) {
  int count = 0;
  for (int fd = 0; fd < 3; fd++)
    count += fcntl(fd, F_GETFD) != -1;
  return count;
}

static void close_below_3(void) {
  for (int fd = 0; fd < 3; fd++)
    close(fd);
}

/* In a child: `sent` descriptors come to a process that has room for so many. */
struct arrival {
  rlim_t room;
  int sent;
  int result;
  bool without_streams; /* whose numbers are free besides */
};

static void receive_with_little_room(void *arg) {
  const struct arrival *arrival = arg;
  struct rlimit limit;
  int fds[WANTED], highest = highest_fd(), next;
  while ((next = dup(0)) < highest)
    ;
  close(next);
  CHILD_MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = (rlim_t)next + arrival->room;
  CHILD_MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHILD_MUST(send_many(sockets[0], TEXT, sizeof TEXT, arrival->sent) == 0);
  if (arrival->without_streams)
    close_below_3();
  CHILD_MUST(receive(fds) == arrival->result);
  CHILD_MUST(open_below_3() == (arrival->without_streams ? 0 : 3));
  CHILD_MUST(highest_fd() == (arrival->result == 0 ? next + WANTED : next) - 1);
}

static void assert_arrival(rlim_t room, int sent, int result) {
  struct arrival arrival = { room, sent, result, false };
  ck_assert_int_eq(support_wait(support_fork(receive_with_little_room, &arrival)), 0);
}

START_TEST(without_room_for_the_descriptors_none_stays_open) {
  if (!set_options(_i) || descriptors_are_valgrinds())
    return;
  for (rlim_t room = 0; room < WANTED; room++)
    assert_arrival(room, WANTED, -EMFILE);
  /* What could not be received is gone: the next is the next. */
  assert_arrival(WANTED, WANTED, 0);
}
END_TEST

START_TEST(who_sends_too_many_is_not_taken_for_a_want_of_room) {
  if (descriptors_are_valgrinds())
    return;
  assert_arrival(WANTED + 1, WANTED + 1, FORKQ_EHANDOVER);
  assert_arrival(WANTED + 1, WANTED + 2, FORKQ_EHANDOVER);
  assert_arrival(WANTED + 1, KERNEL_MOST, FORKQ_EHANDOVER);
  assert_arrival(WANTED, KERNEL_MOST, -EMFILE);
  assert_arrival(0, 0, FORKQ_EHANDOVER);
}
END_TEST

/* ---- the numbers of the standard streams ------------------------------------------------------- */

static void receive_without_streams(void *arg) {
  int fds[WANTED], fd = -1;
  unsigned char byte;
  bool lost;
  (void)arg;
  close_below_3();
  CHILD_MUST(send_many(sockets[0], TEXT, sizeof TEXT, WANTED) == 0);
  CHILD_MUST(receive(fds) == 0);
  CHILD_MUST(open_below_3() == 0);
  for (int i = 0; i < WANTED; i++)
    CHILD_MUST(same_file(fds[i], given[i % 2]) && fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
  /* What is the program's stays where the kernel put it, as in CPython. */
  CHILD_MUST(forkq__os_fd_send(sockets[0], 7, given[0]) == 1);
  CHILD_MUST(forkq__os_fd_receive(sockets[1], &byte, &fd, &lost) == 1);
  CHILD_MUST(fd == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
}

START_TEST(what_is_received_for_the_library_keeps_off_the_standard_streams) {
  ck_assert_int_eq(support_wait(support_fork(receive_without_streams, NULL)), 0);
}
END_TEST

START_TEST(room_below_3_is_none) {
  if (descriptors_are_valgrinds())
    return;
  for (rlim_t room = 0; room <= WANTED; room++) {
    struct arrival arrival = { room, WANTED, room < WANTED ? -EMFILE : 0, true };
    ck_assert_int_eq(support_wait(support_fork(receive_with_little_room, &arrival)), 0);
  }
}
END_TEST

/* Sockets that keep packets apart pass descriptors without a byte: it looks like the end. */
START_TEST(descriptors_without_a_byte_do_not_stay_open) {
  int pair[2], fds[WANTED], fd = -1;
  unsigned char byte;
  bool lost;
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  int open_before = support_open_fds();
  ck_assert_int_eq(send_many(pair[0], "", 0, WANTED), 0);
  ck_assert_int_eq(forkq__os_fds_receive(pair[1], &byte, 1, fds, WANTED),
                   FORKQ_EHANDOVER);
  ck_assert_int_eq(send_many(pair[0], "", 0, 2), 0);
  ck_assert_int_eq(forkq__os_fd_receive(pair[1], &byte, &fd, &lost), 0);
  ck_assert_int_eq(fd, -1);
  ck_assert_int_eq(support_open_fds(), open_before);
  close(pair[0]);
  close(pair[1]);
}
END_TEST

START_TEST(a_socket_that_passes_no_descriptors_is_refused) {
  int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge(tcp, 0);
  ck_assert_int_eq(forkq__os_fds_send(tcp, TEXT, sizeof TEXT, given, 2), -EAFNOSUPPORT);
  ck_assert_int_eq(forkq__os_fds_send(given[1], TEXT, sizeof TEXT, given, 2), -ENOTSOCK);
  close(tcp);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("passing");
  TCase *tcase = tcase_create("passing");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, options_of_the_socket_keep_no_descriptor_out, 0,
                      OPTION_SETS);
  tcase_add_loop_test(tcase, as_many_descriptors_as_linux_passes_fit_beside_the_options,
                      0, OPTION_SETS);
  tcase_add_loop_test(tcase, options_of_the_socket_are_no_descriptors, 0, OPTION_SETS);
  tcase_add_test(tcase, more_descriptors_or_fewer_are_refused_and_closed);
  tcase_add_test(tcase, fewer_bytes_are_refused_and_the_descriptors_closed);
  tcase_add_loop_test(tcase, without_room_for_the_descriptors_none_stays_open, 0,
                      OPTION_SETS);
  tcase_add_test(tcase, who_sends_too_many_is_not_taken_for_a_want_of_room);
  tcase_add_test(tcase, what_is_received_for_the_library_keeps_off_the_standard_streams);
  tcase_add_test(tcase, room_below_3_is_none);
  tcase_add_test(tcase, descriptors_without_a_byte_do_not_stay_open);
  tcase_add_test(tcase, a_socket_that_passes_no_descriptors_is_refused);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
