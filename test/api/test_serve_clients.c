/* Served queues: clients that are many, silent, slow, strangers, or speak something else; and servers
 * that do. */
#define _GNU_SOURCE
#include "serve_helpers.h"
#include "shared/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAITING_MAX 64 /* as the server has it */
#define ANSWER FORKQ_HANDOVER_TEXT

/* ---- calls that fail ----------------------------------------------------------------------- */

/* So many of the next calls fail with that errno. Of sendmsg, those that carry descriptors. */
static _Atomic int failing, failing_errno, accepts_fail;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
  if (atomic_load(&accepts_fail) > 0 && atomic_fetch_sub(&accepts_fail, 1) > 0) {
    errno = EMFILE;
    return -1;
  }
  return __real_accept4(fd, address, size, flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
  if (message->msg_controllen > 0 && atomic_load(&failing) > 0) {
    atomic_fetch_sub(&failing, 1);
    errno = atomic_load(&failing_errno);
    return -1;
  }
  return __real_sendmsg(fd, message, flags);
}

/* So many of the next times a thread has the queue, and does not let go of it in time. */
static _Atomic int sends_time_out;

int __real_forkq__queue_send_soon(forkq_queue_t *to, int socket);
int __wrap_forkq__queue_send_soon(forkq_queue_t *to, int socket);
int __wrap_forkq__queue_send_soon(forkq_queue_t *to, int socket) {
  if (atomic_load(&sends_time_out) > 0 && atomic_fetch_sub(&sends_time_out, 1) > 0)
    return FORKQ_TIMEDOUT;
  return __real_forkq__queue_send_soon(to, socket);
}

/* ---- who is served ------------------------------------------------------------------------- */

static void assert_serves(void) {
  int value = 77;
  pid_t child = support_fork(connect_and_put, &value);
  ck_assert_int_eq(get_int(queue, 20000), 77);
  ck_assert_int_eq(support_wait(child), 0);
}

/* Until the server, which is in this process, has closed what it had of clients. */
static void until_open(int count) {
  for (int64_t end = support_now_ms() + 10000; support_open_fds() > count;)
    ck_assert_int_lt(support_now_ms(), end);
}

START_TEST(silent_clients_block_nobody_and_cost_a_bounded_number_of_descriptors) {
  int silent[4 * WAITING_MAX];
  assert_serves(); /* the queue has opened what it needs for a get */
  int before = support_open_fds(), count = (int)(sizeof silent / sizeof *silent);
  for (int i = 0; i < count; i++)
    silent[i] = raw_connect(path);
  assert_serves();
  ck_assert_int_le(support_open_fds(), before + count + WAITING_MAX + 1);
  /* Those that have waited longest were dropped, and not the others. */
  struct pollfd late = { .fd = silent[count - 2] };
  until_hung_up(silent[0]);
  ck_assert_int_eq(poll(&late, 1, 0), 0);
  for (int i = 1; i < count - WAITING_MAX; i++)
    until_hung_up(silent[i]);
  for (int i = 0; i < count; i++)
    close(silent[i]);
  until_open(before);
}
END_TEST

START_TEST(a_silent_client_is_dropped_after_five_seconds) {
  int before = support_open_fds(), silent = raw_connect(path);
  int64_t begin = support_now_ms();
  until_hung_up(silent);
  ck_assert_int_ge(support_now_ms() - begin, 4900);
  close(silent);
  ck_assert_int_eq(support_open_fds(), before);
}
END_TEST

START_TEST(a_client_may_say_late_that_it_wants_the_queue) {
  char text[ANSWER];
  int fds, late = raw_connect(path);
  assert_serves(); /* the server has found that it says nothing */
  raw_greet(late);
  ck_assert_int_eq(raw_answer(late, text, sizeof text, &fds), ANSWER);
  ck_assert_int_eq(fds, FORKQ_HANDOVER_FDS);
  ck_assert_int_eq(raw_answer(late, text, sizeof text, &fds), 0);
  close(late);
}
END_TEST

START_TEST(clients_that_do_not_read_block_nobody_and_cost_the_server_nothing) {
  static int deaf[1000];
  struct rlimit limit;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  int before = support_open_fds();
  for (int i = 0; i < 1000; i++) {
    deaf[i] = raw_connect(path);
    raw_greet(deaf[i]);
  }
  for (int i = 0; i < 1000; i++)
    until_hung_up(deaf[i]); /* it was answered, and is not waited for */
  ck_assert_int_eq(support_open_fds(), before + 1000);
  assert_serves();
  for (int i = 0; i < 1000; i++)
    close(deaf[i]);
}
END_TEST

/* The kernel sends no more descriptors of this user until others are received. */
START_TEST(a_client_waits_while_too_many_descriptors_are_on_their_way) {
  atomic_store(&failing_errno, ETOOMANYREFS);
  atomic_store(&failing, 5);
  assert_serves();
  ck_assert_int_eq(atomic_load(&failing), 0);
}
END_TEST

START_TEST(a_turn_waits_once_for_a_thread_that_has_the_queue) {
  enum { CLIENTS = 10 };
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  char text[ANSWER];
  int fds, clients[CLIENTS];
  options.no_thread = 1;
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), 0);
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = raw_connect(path);
    raw_greet(clients[i]);
  }
  for (int turn = 0; turn < 3; turn++) {
    atomic_store(&sends_time_out, CLIENTS);
    ck_assert_int_eq(forkq_server_turn(server), 0);
    ck_assert_int_eq(atomic_load(&sends_time_out), CLIENTS - 1);
  }
  atomic_store(&sends_time_out, 0);
  ck_assert_int_eq(forkq_server_turn(server), 0);
  for (int i = 0; i < CLIENTS; i++) {
    ck_assert_int_eq(raw_answer(clients[i], text, sizeof text, &fds), ANSWER);
    ck_assert_int_eq(fds, FORKQ_HANDOVER_FDS);
    close(clients[i]);
  }
}
END_TEST

static void connect_when_busy(void *arg) {
  (void)arg;
  CHILD_MUST(child_connect_result(path, NULL) == -ETOOMANYREFS);
}

START_TEST(a_client_does_not_wait_for_ever_for_others_to_receive) {
  atomic_store(&failing_errno, ETOOMANYREFS);
  atomic_store(&failing, INT32_MAX);
  ck_assert_int_eq(support_wait(support_fork(connect_when_busy, NULL)), 0);
  atomic_store(&failing, 0);
  assert_serves();
}
END_TEST

START_TEST(a_server_without_descriptors_accepts_again_when_it_has_some) {
  atomic_store(&accepts_fail, 3);
  int64_t begin = support_now_ms();
  assert_serves();
  ck_assert_int_le(atomic_load(&accepts_fail), 0);
  ck_assert_int_ge(support_now_ms() - begin, 300); /* it does not try all the time */
}
END_TEST

START_TEST(who_looks_whether_there_is_a_server_gets_nothing) {
  assert_serves();
  int before = support_open_fds();
  for (int i = 0; i < 100; i++)
    close(raw_connect(path));
  assert_serves();
  until_open(before);
}
END_TEST

/* A server that wrote to it would end by SIGPIPE. */
START_TEST(a_client_that_is_gone_when_it_is_answered_harms_nobody) {
  for (int i = 0; i < 200; i++) {
    int fd = raw_connect(path);
    raw_greet(fd);
    close(fd);
  }
  assert_serves();
}
END_TEST

#define CROWD 1000

struct crowd {
  _Atomic int connected, may_go;
};

static void be_one_of_many(void *arg) {
  struct crowd *crowd = arg;
  forkq_queue_t *connected = child_connect(path);
  CHILD_MUST(put_int(connected, 1, -1) == 0);
  atomic_fetch_add(&crowd->connected, 1);
  while (atomic_load(&crowd->may_go) == 0)
    usleep(10000);
  forkq_queue_destroy(connected);
  _exit(0);
}

START_TEST(a_thousand_clients_have_the_queue_at_a_time) {
  struct crowd *crowd = support_shared(sizeof *crowd);
  static pid_t children[CROWD];
  for (int i = 0; i < CROWD; i++)
    children[i] = support_fork(be_one_of_many, crowd);
  for (int i = 0; i < CROWD; i++)
    ck_assert_int_eq(get_int(queue, 60000), 1);
  while (atomic_load(&crowd->connected) < CROWD)
    usleep(1000);
  assert_serves();
  atomic_store(&crowd->may_go, 1);
  for (int i = 0; i < CROWD; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
}
END_TEST

/* ---- who is not served --------------------------------------------------------------------- */

static int asked, answer_of_allow;
static forkq_peer_t last_peer;

static int allow(const forkq_peer_t *peer, void *arg) {
  asked += *(int *)arg;
  last_peer = *peer;
  return answer_of_allow;
}

static int one = 1;

static void serve_with_allow(int answer) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  options.allow = allow;
  options.arg = &one;
  answer_of_allow = answer;
  asked = 0;
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), 0);
}

static void be_refused(void *arg) {
  (void)arg;
  CHILD_MUST(child_connect_result(path, NULL) == -EACCES);
}

START_TEST(a_function_decides_with_what_the_kernel_knows) {
  serve_with_allow(0);
  pid_t child = support_fork(be_refused, NULL);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(asked, 1);
  ck_assert_int_eq(last_peer.pid, child);
  ck_assert_uint_eq(last_peer.user, geteuid());
  ck_assert_uint_eq(last_peer.group, getegid());
  answer_of_allow = 1;
  assert_serves();
  ck_assert_int_eq(asked, 2);
}
END_TEST

/* Also a client that says at once that it wants the queue, or that says nothing. */
START_TEST(who_is_refused_gets_no_descriptors_and_is_not_waited_for) {
  serve_with_allow(0);
  for (int greets = 0; greets < 2; greets++) {
    char text[ANSWER];
    int fds, stranger = raw_connect(path);
    if (greets)
      (void)send(stranger, "forkq", 5, MSG_NOSIGNAL);
    ck_assert_int_eq(raw_answer(stranger, text, sizeof text, &fds), ANSWER);
    ck_assert_int_eq(fds, 0);
    ck_assert_ptr_nonnull(strstr(text, ":refused"));
    until_hung_up(stranger);
    close(stranger);
  }
}
END_TEST

/* A process of another user, with that group: what its connect says. */
struct stranger {
  const char *name;
  unsigned user, group, other_group;
  bool trusts_anybody;
  int expected;
};

static int anybody(const forkq_peer_t *peer, void *arg) {
  (void)peer;
  (void)arg;
  return 1;
}

static void connect_as(void *arg) {
  const struct stranger *stranger = arg;
  forkq_connect_options_t options = FORKQ_CONNECT_OPTIONS_INIT;
  gid_t groups[1] = { stranger->other_group };
  CHILD_MUST(setgroups(1, groups) == 0);
  CHILD_MUST(setgid(stranger->group) == 0);
  CHILD_MUST(setuid(stranger->user) == 0);
  if (stranger->trusts_anybody)
    options.allow = anybody;
  int r = child_connect_result(stranger->name, &options);
  if (r != stranger->expected)
    fprintf(stderr, "%s instead of %s\n", forkq_error_name(r),
            forkq_error_name(stranger->expected));
  CHILD_MUST(r == stranger->expected);
}

static void assert_stranger(const struct stranger *stranger) {
  struct stranger copy = *stranger;
  ck_assert_int_eq(support_wait(support_fork(connect_as, &copy)), 0);
}

#define NOBODY 65534
#define GROUP 54321

static void make_abstract(char *name, size_t size) {
  snprintf(name, size, "@forkq-test-%d", (int)getpid());
}

START_TEST(another_user_does_not_get_the_queue) {
  char name[64];
  forkq_server_t *abstract = NULL;
  make_abstract(name, sizeof name);
  ck_assert_int_eq(chmod(directory, 0755), 0);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), 0);
  ck_assert_int_eq(forkq_queue_serve(&abstract, queue, name, NULL), 0);
  /* The file's permissions keep it away from the path, and the server from the other. */
  struct stranger stranger = { path, NOBODY, NOBODY, NOBODY, false, -EACCES };
  assert_stranger(&stranger);
  stranger.name = name;
  assert_stranger(&stranger);
  ck_assert_int_eq(chmod(path, 0666), 0);
  stranger.name = path;
  assert_stranger(&stranger);
  forkq_server_destroy(abstract);
  assert_serves();
}
END_TEST

START_TEST(members_of_a_group_get_the_queue) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  struct stranger stranger = { path, NOBODY, NOBODY, NOBODY, false, -EACCES };
  ck_assert_int_eq(chmod(directory, 0755), 0);
  options.by_group = 1;
  options.group = GROUP;
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), 0);
  assert_stranger(&stranger);
  ck_assert_int_eq(chmod(path, 0666), 0); /* it is not only the file that keeps it away */
  assert_stranger(&stranger);
  stranger.expected = 0;
  stranger.other_group = GROUP;
  assert_stranger(&stranger);
  stranger.other_group = NOBODY;
  stranger.group = GROUP;
  assert_stranger(&stranger);
  assert_serves();
}
END_TEST

/* The stranger serves, and root is the client. */
static void serve_as_stranger(void *arg) {
  _Atomic int *is_serving = arg;
  CHILD_MUST(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  options.allow = anybody;
  CHILD_MUST(forkq_queue_serve(&server, queue, path, &options) == 0);
  atomic_store(is_serving, 1);
  pause();
}

START_TEST(a_server_of_another_user_is_not_trusted) {
  _Atomic int *is_serving = support_shared(sizeof *is_serving);
  forkq_queue_t *other = NULL;
  ck_assert_int_eq(chmod(directory, 0777), 0);
  pid_t child = support_fork(serve_as_stranger, is_serving);
  support_until(is_serving);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), -EACCES);
  forkq_connect_options_t options = FORKQ_CONNECT_OPTIONS_INIT;
  options.allow = allow;
  options.arg = &one;
  answer_of_allow = 1;
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, &options), 0);
  forkq_queue_destroy(other);
  ck_assert_int_eq(last_peer.pid, child);
  ck_assert_uint_eq(last_peer.user, NOBODY);
  support_kill_and_wait(child);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(a_process_has_the_queue_once) {
  forkq_queue_t *other = NULL;
  int before = support_open_fds();
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), FORKQ_ETWICE);
  until_open(before);
}
END_TEST

static void find_closed(void *arg) {
  (void)arg;
  CHILD_MUST(child_connect_result(path, NULL) == FORKQ_ECLOSED);
}

START_TEST(a_queue_that_the_server_has_closed_is_not_to_be_had) {
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(support_wait(support_fork(find_closed, NULL)), 0);
}
END_TEST

START_TEST(clients_of_another_layout_are_told) {
  char hello[24] = "", text[ANSWER];
  int fds, client = raw_connect(path);
  snprintf(hello, sizeof hello, "forkq:%u:", FORKQ__SEGMENT_LAYOUT + 1);
  ck_assert_int_eq(write(client, hello, sizeof hello), sizeof hello);
  ck_assert_int_eq(raw_answer(client, text, sizeof text, &fds), ANSWER);
  ck_assert_int_eq(fds, 0);
  ck_assert_ptr_nonnull(strstr(text, ":version"));
  close(client);
}
END_TEST

START_TEST(clients_that_say_something_else_are_dropped) {
  char without_end[64], with_more[64], with_zero[64];
  snprintf(without_end, sizeof without_end, "forkq:%u:%s", FORKQ__SEGMENT_LAYOUT,
           "xxxxxxxxxxxxxxxxxxxxxxxx");
  snprintf(with_more, sizeof with_more, "forkq:%u;", FORKQ__SEGMENT_LAYOUT);
  snprintf(with_zero, sizeof with_zero, "forkq:0%u:", FORKQ__SEGMENT_LAYOUT);
  const char *const said[] = { "",       "x",         "GET / HTTP/1.1\r\n\r\n",
                               "forkq:", without_end, with_more,
                               with_zero };
  for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
    char hello[24] = "", text[ANSWER];
    int fds, client = raw_connect(path);
    size_t size = i < 2 ? i : sizeof hello;
    memcpy(hello, said[i], strlen(said[i]) < size ? strlen(said[i]) : size);
    ck_assert_int_eq(send(client, hello, size, MSG_NOSIGNAL), (ssize_t)size);
    if (size == 0)
      shutdown(client, SHUT_WR);
    int r = raw_answer(client, text, sizeof text, &fds);
    ck_assert_msg(r == 0 || (r < 0 && errno == ECONNRESET), "%s: %d", said[i], r);
    ck_assert_int_eq(fds, 0);
    close(client);
  }
  assert_serves();
}
END_TEST

/* Greets, and passes the end of a pipe beside the greeting. */
static void greet_with_descriptor(int client, int fd) {
  char hello[24] = "";
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = { .space = { 0 } };
  struct iovec part = { hello, sizeof hello };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control };
  snprintf(hello, sizeof hello, "forkq:%u:", FORKQ__SEGMENT_LAYOUT);
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  control.header.cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  ck_assert_int_eq(__real_sendmsg(client, &message, MSG_NOSIGNAL), sizeof hello);
}

START_TEST(a_server_keeps_no_descriptor_that_a_client_passes) {
  char text[ANSWER];
  int fds, pair[2], client = raw_connect(path);
  ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
  greet_with_descriptor(client, pair[1]);
  close(pair[1]);
  ck_assert_int_eq(raw_answer(client, text, sizeof text, &fds), ANSWER);
  ck_assert_int_eq(fds, FORKQ_HANDOVER_FDS);
  until_hung_up(pair[0]); /* nobody has its other end */
  close(pair[0]);
  close(client);
}
END_TEST

/* ---- servers that are not forkq's ---------------------------------------------------------- */

struct wrong {
  const char *says;
  size_t size;
  bool stays; /* and says no more */
  int expected;
};

static char whole[ANSWER];

static const struct wrong wrongs[] = {
  { "", 0, true, FORKQ_TIMEDOUT },
  { "", 0, false, FORKQ_EEOF },
  { "220 mail.example ESMTP\r\n", 24, true, FORKQ_EHANDOVER },
  { "f", 1, true, FORKQ_TIMEDOUT },
  { "f", 1, false, FORKQ_EHANDOVER },
  { "forkq:9", 7, true, FORKQ_TIMEDOUT },
  { "forkq:99999:", 12, true, FORKQ_EVERSION },
  { "forkq:99999:1:2:3:4:5", 22, false, FORKQ_EVERSION },
  { whole, sizeof whole, true,
    FORKQ_EHANDOVER }, /* of this layout, without descriptors */
};

static const struct wrong *wrong;

static void *answer_wrongly(void *arg) {
  int listener = *(int *)arg;
  int fd = __real_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  if (wrong->size > 0)
    ck_assert_int_eq(send(fd, wrong->says, wrong->size, MSG_NOSIGNAL),
                     (ssize_t)wrong->size);
  if (wrong->stays)
    until_hung_up(fd);
  close(fd);
  return NULL;
}

START_TEST(a_server_that_is_not_forkq_is_told) {
  forkq_queue_t *other = NULL;
  pthread_t thread;
  wrong = &wrongs[_i];
  snprintf(whole, sizeof whole, "forkq:%u:3:4:5:6:7", FORKQ__SEGMENT_LAYOUT);
  int listener = raw_listen(path, SOCK_STREAM, 10);
  ck_assert_int_eq(pthread_create(&thread, NULL, answer_wrongly, &listener), 0);
  const int limit = wrong->expected == FORKQ_TIMEDOUT ? 200 : 20000;
  int64_t begin = support_now_ms();
  int r = forkq_queue_connect(&other, path, limit, NULL);
  int64_t took = support_now_ms() - begin;
  support_join(thread);
  ck_assert_msg(r == wrong->expected, "%s: %s", wrong->says, forkq_error_name(r));
  ck_assert_int_ge(took, wrong->expected == FORKQ_TIMEDOUT ? limit : 0);
  ck_assert_int_lt(took, 10000);
  ck_assert_ptr_null(other);
  close(listener);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(a_socket_of_another_kind_is_told) {
  forkq_queue_t *other = NULL;
  int listener = raw_listen(path, SOCK_DGRAM, 0);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), -EPROTOTYPE);
  close(listener);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), -ECONNREFUSED);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

/* The line of those who wait is full: the time covers the wait for a place in it, too. */
START_TEST(a_server_that_accepts_nobody_keeps_nobody_for_ever) {
  forkq_queue_t *other = NULL;
  int listener = raw_listen(path, SOCK_STREAM, 0);
  int first = raw_connect(path);
  for (int limit = 0; limit <= 300; limit += 150) {
    int64_t begin = support_now_ms();
    ck_assert_int_eq(forkq_queue_connect(&other, path, limit, NULL), FORKQ_TIMEDOUT);
    ck_assert_int_ge(support_now_ms() - begin, limit);
    ck_assert_int_lt(support_now_ms() - begin, limit + 5000);
  }
  close(first);
  close(listener);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

/* ---- the death of the server --------------------------------------------------------------- */

struct meeting {
  _Atomic int is_serving, has_first, has_second, may_go;
};

/* It makes the queue and does nothing but serve it. */
static void hold_queue(void *arg) {
  struct meeting *meeting = arg;
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  CHILD_MUST(forkq_queue_serve(&server, queue, path, NULL) == 0);
  atomic_store(&meeting->is_serving, 1);
  pause();
}

static void put_many(void *arg) {
  struct meeting *meeting = arg;
  forkq_queue_t *connected = child_connect(path);
  atomic_store(&meeting->has_first, 1);
  support_until(&meeting->may_go);
  for (int i = 0; i < 1000; i++)
    CHILD_MUST(put_int(connected, i, 20000) == 0);
  forkq_queue_destroy(connected);
}

static void get_many(void *arg) {
  struct meeting *meeting = arg;
  forkq_queue_t *connected = child_connect(path);
  atomic_store(&meeting->has_second, 1);
  support_until(&meeting->may_go);
  for (int i = 0; i < 1000; i++)
    CHILD_MUST(get_int(connected, 20000) == i);
  forkq_queue_destroy(connected);
}

START_TEST(clients_go_on_with_each_other_after_the_server_was_killed) {
  struct meeting *meeting = support_shared(sizeof *meeting);
  pid_t holder = support_fork(hold_queue, meeting);
  support_until(&meeting->is_serving);
  pid_t first = support_fork(put_many, meeting);
  pid_t second = support_fork(get_many, meeting);
  support_until(&meeting->has_first);
  support_until(&meeting->has_second);
  support_kill_and_wait(holder);
  atomic_store(&meeting->may_go, 1);
  ck_assert_int_eq(support_wait(first), 0);
  ck_assert_int_eq(support_wait(second), 0);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("serve_clients");
  TCase *served = tcase_create("served");
  tcase_add_checked_fixture(served, served_set_up, serve_tear_down);
  tcase_set_timeout(served, 120);
  tcase_add_test(served,
                 silent_clients_block_nobody_and_cost_a_bounded_number_of_descriptors);
  tcase_add_test(served, a_client_may_say_late_that_it_wants_the_queue);
  tcase_add_test(served, a_client_waits_while_too_many_descriptors_are_on_their_way);
  tcase_add_test(served, a_server_without_descriptors_accepts_again_when_it_has_some);
  tcase_add_test(served, who_looks_whether_there_is_a_server_gets_nothing);
  tcase_add_test(served, a_client_that_is_gone_when_it_is_answered_harms_nobody);
  tcase_add_test(served, a_process_has_the_queue_once);
  tcase_add_test(served, a_queue_that_the_server_has_closed_is_not_to_be_had);
  tcase_add_test(served, clients_of_another_layout_are_told);
  tcase_add_test(served, clients_that_say_something_else_are_dropped);
  tcase_add_test(served, a_server_keeps_no_descriptor_that_a_client_passes);
  suite_add_tcase(suite, served);
  TCase *slow = tcase_create("slow");
  tcase_add_checked_fixture(slow, served_set_up, serve_tear_down);
  tcase_set_timeout(slow, 120);
  tcase_add_test(slow, a_silent_client_is_dropped_after_five_seconds);
  tcase_add_test(slow, clients_that_do_not_read_block_nobody_and_cost_the_server_nothing);
  tcase_add_test(slow, a_client_does_not_wait_for_ever_for_others_to_receive);
  tcase_add_test(slow, a_thousand_clients_have_the_queue_at_a_time);
  suite_add_tcase(suite, slow);
  TCase *own = tcase_create("own");
  tcase_add_checked_fixture(own, serve_set_up, serve_tear_down);
  tcase_set_timeout(own, 120);
  tcase_add_test(own, a_turn_waits_once_for_a_thread_that_has_the_queue);
  tcase_add_test(own, a_function_decides_with_what_the_kernel_knows);
  tcase_add_test(own, who_is_refused_gets_no_descriptors_and_is_not_waited_for);
  if (geteuid() == 0) {
    tcase_add_test(own, another_user_does_not_get_the_queue);
    tcase_add_test(own, members_of_a_group_get_the_queue);
    tcase_add_test(own, a_server_of_another_user_is_not_trusted);
  }
  tcase_add_loop_test(own, a_server_that_is_not_forkq_is_told, 0,
                      (int)(sizeof wrongs / sizeof *wrongs));
  tcase_add_test(own, a_socket_of_another_kind_is_told);
  tcase_add_test(own, a_server_that_accepts_nobody_keeps_nobody_for_ever);
  tcase_add_test(own, clients_go_on_with_each_other_after_the_server_was_killed);
  suite_add_tcase(suite, own);
  return support_main(suite);
}
