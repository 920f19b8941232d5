/* forkq_wait: CPython's TestWait under its names, and what the header says besides. */
#define _GNU_SOURCE
#include "connection_ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq/wait.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

static void setup(void) {
  use_test_heap();
  setup_duplex();
}

/* TestWait */

#define WRITERS 4
#define MESSAGES 10

struct writer {
  forkq_connection_t *connection; /* a socket's, where NULL */
  in_port_t port;
  int slow;
};

/* What a slow writer is: one that comes at times that nobody can foresee. */
static void dawdle(const struct writer *writer) {
  if (writer->slow)
    usleep((useconds_t)(random() % 10000));
}

static int pack_message(msgpack_packer *packer, void *arg) {
  msgpack_pack_array(packer, 2);
  msgpack_pack_int(packer, *(int *)arg);
  return msgpack_pack_int(packer, (int)getpid());
}

static void write_messages(void *arg) {
  const struct writer *writer = arg;
  srandom((unsigned)getpid());
  for (int i = 0; i < MESSAGES; i++) {
    dawdle(writer);
    CHILD_MUST(forkq_connection_send_with(writer->connection, pack_message, &i) == 0);
  }
}

/* The message of an item: which of its writer it is, and the writer. */
static int message_of(const pid_t pids[WRITERS], int *ret_writer) {
  const msgpack_object_array *array = &item.object.via.array;
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(array->size, 2);
  for (*ret_writer = 0; *ret_writer < WRITERS; ++*ret_writer)
    if (array->ptr[1].via.i64 == pids[*ret_writer])
      return (int)array->ptr[0].via.i64;
  ck_abort_msg("of an unknown writer");
  return -1;
}

/* Receives from every reader that is ready; how many have not ended. */
static size_t receive_ready(forkq_wait_entry_t *entries, size_t count, const pid_t *pids,
                            int received[WRITERS]) {
  size_t left = 0;
  for (size_t i = 0; i < count; i++) {
    forkq_connection_t *reader = entries[i].on.connection;
    int r = entries[i].ready ? forkq_connection_recv(reader, &item) : 1;
    if (r == FORKQ_EEOF) {
      forkq_connection_destroy(reader);
      continue;
    }
    if (r != 1) {
      int writer;
      OK(r);
      int number = message_of(pids, &writer);
      ck_assert_int_eq(number, received[writer]);
      received[writer]++;
    }
    entries[left++] = entries[i];
  }
  return left;
}

/* _i: slow. */
START_TEST(test_wait) {
  forkq_wait_entry_t entries[WRITERS];
  pid_t pids[WRITERS];
  int received[WRITERS] = { 0 };
  for (int i = 0; i < WRITERS; i++) {
    forkq_connection_t *r, *w;
    OK(forkq_pipe(&r, &w, 0));
    pids[i] = support_fork(write_messages, &(struct writer){ w, 0, _i });
    forkq_connection_destroy(w);
    entries[i] = forkq_wait_on(r);
  }
  for (size_t left = WRITERS; left > 0;) {
    ck_assert_int_gt(forkq_wait(entries, left, -1), 0);
    left = receive_ready(entries, left, pids, received);
  }
  for (int i = 0; i < WRITERS; i++) {
    ck_assert_int_eq(received[i], MESSAGES);
    reap(pids[i]);
  }
}
END_TEST

static void write_lines(void *arg) {
  const struct writer *writer = arg;
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = writer->port };
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  srandom((unsigned)getpid());
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHILD_MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
  for (int i = 0; i < MESSAGES; i++) {
    char line[2] = { (char)('0' + i), '\n' };
    dawdle(writer);
    write_all(fd, line, sizeof line);
  }
  close(fd);
}

static int listen_somewhere(in_port_t *ret_port) {
  struct sockaddr_in address = { .sin_family = AF_INET };
  socklen_t size = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  ck_assert_int_eq(listen(fd, WRITERS), 0);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  *ret_port = address.sin_port;
  return fd;
}

/* Reads from every socket that is ready; how many have not ended. */
static size_t read_ready(forkq_wait_entry_t *entries, size_t count, char *text[WRITERS],
                         int *text_of_fd) {
  size_t left = 0;
  for (size_t i = 0; i < count; i++) {
    int fd = entries[i].on.fd;
    if (entries[i].ready) {
      char *end = strchr(text[text_of_fd[fd]], 0);
      ssize_t n = read(fd, end, 32);
      ck_assert_int_ge(n, 0);
      end[n] = 0;
      if (n == 0) {
        close(fd);
        continue;
      }
    }
    entries[left++] = entries[i];
  }
  return left;
}

/* _i: slow. */
START_TEST(test_wait_socket) {
  struct writer writer = { NULL, 0, _i };
  forkq_wait_entry_t entries[WRITERS];
  pid_t pids[WRITERS];
  char texts[WRITERS][256] = { "" }, *text[WRITERS];
  int text_of_fd[1024];
  int listener = listen_somewhere(&writer.port);
  for (int i = 0; i < WRITERS; i++)
    pids[i] = support_fork(write_lines, &writer);
  for (int i = 0; i < WRITERS; i++) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert(fd >= 0 && fd < 1024);
    text[i] = texts[i];
    text_of_fd[fd] = i;
    entries[i] = forkq_wait_on_fd(fd);
  }
  close(listener);
  for (size_t left = WRITERS; left > 0;) {
    ck_assert_int_gt(forkq_wait(entries, left, -1), 0);
    left = read_ready(entries, left, text, text_of_fd);
  }
  for (int i = 0; i < WRITERS; i++) {
    ck_assert_str_eq(texts[i], "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    reap(pids[i]);
  }
}
END_TEST

START_TEST(test_wait_timeout) {
  forkq_wait_entry_t on[2] = { forkq_wait_on(a), forkq_wait_on(b) };
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_wait(on, 2, 300), 0);
  ck_assert_int_ge(support_now_ms() - start, 299);
  OK(send_nil(b));
  ck_assert_int_eq(forkq_wait(on, 2, 20000), 1);
  ck_assert(on[0].ready && !on[1].ready);
}
END_TEST

/* Lives, like a process in CPython's test, until it is told to end. */
static void live(void *arg) {
  const int *fds = arg;
  char byte;
  close(fds[2]);
  close(fds[1]);
  read_all(fds[0], &byte, 1);
}

START_TEST(test_wait_integer) {
  /* The child holds the only other end of the sentinel, as CPython's does. */
  int order[2], sentinel[2];
  ck_assert_int_eq(pipe2(order, O_CLOEXEC), 0);
  ck_assert_int_eq(pipe2(sentinel, O_CLOEXEC), 0);
  pid_t pid = support_fork(live, (int[]){ order[0], order[1], sentinel[0] });
  close(sentinel[1]);

  forkq_wait_entry_t on[3] = { forkq_wait_on(a), forkq_wait_on_fd(sentinel[0]),
                               forkq_wait_on(b) };
  ck_assert_int_eq(forkq_wait(on, 3, 50), 0);
  write_all(order[1], "x", 1);
  ck_assert_int_eq(forkq_wait(on, 3, 20000), 1);
  ck_assert(!on[0].ready && on[1].ready && !on[2].ready);
  OK(send_nil(a));
  ck_assert_int_eq(forkq_wait(on, 3, 20000), 2);
  ck_assert(!on[0].ready && on[1].ready && on[2].ready);
  OK(send_nil(b));
  ck_assert_int_eq(forkq_wait(on, 3, 20000), 3);
  ck_assert(on[0].ready && on[1].ready && on[2].ready);
  reap(pid);
  close(order[0]);
  close(order[1]);
  close(sentinel[0]);
}
END_TEST

/* One look without waiting is 0 here; there is nothing below -1. */
START_TEST(test_neg_timeout) {
  forkq_wait_entry_t on = forkq_wait_on(a);
  ck_assert_int_eq(forkq_wait(&on, 1, 0), 0);
  CODE(forkq_wait(&on, 1, -2), FORKQ_ETIMEOUT);
}
END_TEST

START_TEST(test_wait_empty) {
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_wait(NULL, 0, 100), 0);
  ck_assert_int_ge(support_now_ms() - start, 99);
  ck_assert_int_eq(forkq_wait(NULL, 0, 0), 0);
}
END_TEST

/* forkq's own */

static void wait_for_ever(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_wait(NULL, 0, -1) == 0);
}

START_TEST(without_entries_and_timeout_it_sleeps_for_ever) {
  pid_t pid = support_fork(wait_for_ever, NULL);
  support_until_asleep(pid);
  support_kill_and_wait(pid);
}
END_TEST

START_TEST(end_of_file_is_ready) {
  forkq_wait_entry_t on = forkq_wait_on(a);
  OK(forkq_connection_close(b));
  ck_assert_int_eq(forkq_wait(&on, 1, -1), 1);
  ck_assert_int_eq(on.ready, 1);
  CODE(forkq_connection_recv(a, &item), FORKQ_EEOF);
}
END_TEST

START_TEST(a_writer_is_ready_when_nobody_reads) {
  forkq_connection_t *reader, *writer;
  OK(forkq_pipe(&reader, &writer, 0));
  forkq_wait_entry_t on = forkq_wait_on(writer);
  ck_assert_int_eq(forkq_wait(&on, 1, 0), 0);
  forkq_connection_destroy(reader);
  ck_assert_int_eq(forkq_wait(&on, 1, -1), 1);
  forkq_connection_destroy(writer);
}
END_TEST

/* Entries after an error are what they were. */
static void check_refused(forkq_wait_entry_t *entries, size_t count, int code) {
  for (size_t i = 0; i < count; i++)
    entries[i].ready = 7;
  CODE(forkq_wait(entries, count, 0), code);
  for (size_t i = 0; i < count; i++)
    ck_assert_int_eq(entries[i].ready, 7);
}

START_TEST(what_is_listed_twice_is_refused) {
  const int fd = forkq_connection_fileno(a);
  OK(send_nil(b));
  check_refused((forkq_wait_entry_t[]){ forkq_wait_on(a), forkq_wait_on(a) }, 2,
                FORKQ_ETWICE);
  check_refused(
      (forkq_wait_entry_t[]){ forkq_wait_on(a), forkq_wait_on(b), forkq_wait_on_fd(fd) },
      3, FORKQ_ETWICE);
  check_refused((forkq_wait_entry_t[]){ forkq_wait_on_fd(0), forkq_wait_on_fd(0) }, 2,
                FORKQ_ETWICE);
}
END_TEST

/* Descriptors 64 apart share a place in forkq_wait's table. */
START_TEST(numbers_that_collide_are_told_apart) {
  const int fd = forkq_connection_fileno(a), far = fd + 64, farther = fd + 128;
  ck_assert_int_eq(dup2(fd, far), far);
  ck_assert_int_eq(dup2(fd, farther), farther);
  forkq_wait_entry_t on[4] = { forkq_wait_on(a), forkq_wait_on_fd(far),
                               forkq_wait_on_fd(farther), forkq_wait_on(a) };
  ck_assert_int_eq(forkq_wait(on, 3, 0), 0);
  CODE(forkq_wait(on, 4, 0), FORKQ_ETWICE);
  on[3] = forkq_wait_on_fd(far);
  CODE(forkq_wait(on, 4, 0), FORKQ_ETWICE);
  close(far);
  close(farther);
}
END_TEST

START_TEST(what_cannot_be_waited_for_is_refused) {
  forkq_wait_entry_t on[2] = { forkq_wait_on(b), forkq_wait_on(NULL) };
  OK(send_nil(a));
  CODE(forkq_wait(NULL, 1, 0), FORKQ_ENULL);
  check_refused(on, 2, FORKQ_ENULL);
  on[1] = forkq_wait_on_fd(-1);
  check_refused(on, 2, -EBADF);
  on[1] = forkq_wait_on_fd(44977608);
  check_refused(on, 2, -EBADF);
  on[1] = forkq_wait_on_fd(INT32_MAX);
  check_refused(on, 2, -EBADF);
  on[1].kind = (forkq_wait_kind_t)99;
  check_refused(on, 2, -EINVAL);
  on[1] = forkq_wait_on(a);
  OK(forkq_connection_close(a));
  check_refused(on, 2, FORKQ_ECLOSED);
  CODE(forkq_wait(on, (size_t)INT32_MAX * 2, 0), -EINVAL);
}
END_TEST

#define MANY 200

START_TEST(many_entries) {
  forkq_wait_entry_t on[MANY];
  int fds[2];
  ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
  for (int i = 0; i < MANY; i++)
    on[i] = forkq_wait_on_fd(dup(i % 3 == 0 ? fds[0] : forkq_connection_fileno(a)));
  test_heap.requests = 0;
  ck_assert_int_eq(forkq_wait(on, 32, 0), 0);
  ck_assert_int_eq(test_heap.requests, 0);
  ck_assert_int_eq(forkq_wait(on, MANY, 0), 0);
  write_all(fds[1], "x", 1);
  ck_assert_int_eq(forkq_wait(on, MANY, -1), (MANY + 2) / 3);
  for (int i = 0; i < MANY; i++)
    ck_assert_int_eq(on[i].ready, i % 3 == 0);

  for (size_t count = 33; count < MANY; count++) {
    forkq_wait_entry_t last = on[count - 1];
    on[count - 1] = on[count / 2];
    CODE(forkq_wait(on, count, -1), FORKQ_ETWICE);
    on[count - 1] = last;
  }
  test_heap.requests = 0;
  test_heap.fail_at = 1;
  const size_t before = test_heap.now;
  check_refused(on, 33, -ENOMEM);
  ck_assert_int_eq(forkq_wait(on, 33, 0), 11);
  ck_assert_uint_eq(test_heap.now, before);
  for (int i = 0; i < MANY; i++)
    close(on[i].on.fd);
  close(fds[0]);
  close(fds[1]);
}
END_TEST

static volatile sig_atomic_t ticks;

static void tick(int number) {
  (void)number;
  ticks++;
}

START_TEST(signals_do_not_end_it) {
  struct sigaction action = { .sa_handler = tick };
  const struct itimerval interval = { { 0, 1000 }, { 0, 1000 } },
                         none = { { 0, 0 }, { 0, 0 } };
  forkq_wait_entry_t on = forkq_wait_on(a);
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &interval, NULL);
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_wait(&on, 1, 100), 0);
  ck_assert_int_ge(support_now_ms() - start, 99);
  while (ticks == 0)
    ;
  setitimer(ITIMER_REAL, &none, NULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("wait");
  TCase *tc = add_case(suite, "TestWait", setup);
  tcase_add_loop_test(tc, test_wait, 0, 2);
  tcase_add_loop_test(tc, test_wait_socket, 0, 2);
  tcase_add_test(tc, test_wait_timeout);
  tcase_add_test(tc, test_wait_integer);
  tcase_add_test(tc, test_neg_timeout);
  tcase_add_test(tc, test_wait_empty);

  tc = add_case(suite, "wait", setup);
  tcase_add_test(tc, without_entries_and_timeout_it_sleeps_for_ever);
  tcase_add_test(tc, end_of_file_is_ready);
  tcase_add_test(tc, a_writer_is_ready_when_nobody_reads);
  tcase_add_test(tc, what_is_listed_twice_is_refused);
  tcase_add_test(tc, numbers_that_collide_are_told_apart);
  tcase_add_test(tc, what_cannot_be_waited_for_is_refused);
  tcase_add_test(tc, many_entries);
  tcase_add_test(tc, signals_do_not_end_it);
  return support_main(suite);
}
