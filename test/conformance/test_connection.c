/* Connections: CPython's own tests, under their names. What forkq says besides is in
 * test_connection_api.c, and what happens when something fails in
 * test_connection_faults.c. */
#define _GNU_SOURCE
#include "connection_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* _TestConnection */

/* Sends back whatever comes, until an empty message comes. */
static void echo(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_connection_close(a) == 0);
  for (;;) {
    CHILD_MUST(forkq_connection_recv_bytes(b, &item, FORKQ_ALL) == 0);
    if (item.size == 0)
      break;
    CHILD_MUST(forkq_connection_send_bytes(b, item.data, item.size, 0, FORKQ_ALL) == 0);
  }
  CHILD_MUST(forkq_connection_close(b) == 0);
}

/* [1, 2.25, nil] there and back. */
static void check_objects(void) {
  msgpack_object seq[3] = {
    { .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via = { .u64 = 1 } },
    { .type = MSGPACK_OBJECT_FLOAT, .via = { .f64 = 2.25 } },
    { .type = MSGPACK_OBJECT_NIL },
  };
  msgpack_object list = { .type = MSGPACK_OBJECT_ARRAY,
                          .via = { .array = { .size = 3, .ptr = seq } } };
  OK(forkq_connection_send(a, &list));
  OK(forkq_connection_recv(a, &item));
  ck_assert(msgpack_object_equal(item.object, list));
}

static void check_into_buffers(void) {
  const int32_t array[4] = { 0, 1, 2, 3 };
  for (size_t at = 0; at <= 3; at += 3) {
    int32_t buffer[10] = { 0 }, expected[10] = { 0 };
    memcpy(expected + at, array, sizeof array);
    size_t size = 0;
    OK(forkq_connection_send_bytes(a, array, sizeof array, 0, FORKQ_ALL));
    OK(forkq_connection_recv_bytes_into(a, buffer, sizeof buffer, at * sizeof *array,
                                        &size, NULL));
    ck_assert_uint_eq(size, sizeof array);
    ck_assert_mem_eq(buffer, expected, sizeof buffer);
  }

  static const char longmsg[] = "hello worldhello worldhello worldhello worldhello world"
                                "hello worldhello worldhello worldhello worldhello world";
  char small[40];
  size_t size = 12345;
  OK(send_text(a, longmsg));
  CODE(forkq_connection_recv_bytes_into(a, small, sizeof small, 0, &size, &item),
       FORKQ_ETOOSHORT);
  ck_assert_uint_eq(size, 12345);
  ck_assert(is_text(longmsg));
}

static void check_poll(void) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  CODE(forkq_connection_poll(a, -2), FORKQ_ETIMEOUT);
  int64_t start = support_now_ms();
  ck_assert_int_eq(forkq_connection_poll(a, 80), 0);
  ck_assert_int_ge(support_now_ms() - start, 79);
  OK(send_nil(a));
  ck_assert_int_eq(forkq_connection_poll(a, -1), 1);
  ck_assert_int_eq(forkq_connection_poll(a, 20000), 1);
  OK(forkq_connection_recv(a, &item));
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
}

START_TEST(test_connection) {
  pid_t pid = support_fork(echo, NULL);
  ck_assert_int_ge(forkq_connection_fileno(a), 0);
  check_objects();
  OK(send_text(a, "hello world"));
  RECEIVES(a, "hello world");
  check_into_buffers();
  check_poll();

  const size_t size = 16 * 1024 * 1024;
  char *big = pattern(size, 7);
  OK(forkq_connection_send_bytes(a, big, size, 0, FORKQ_ALL));
  OK(forkq_connection_recv_bytes(a, &item, FORKQ_ALL));
  ck_assert_uint_eq(item.size, size);
  ck_assert(is_pattern(item.data, size, 7));
  free(big);

  OK(forkq_connection_send_bytes(a, NULL, 0, 0, FORKQ_ALL));
  close_b();
  ck_assert_int_eq(forkq_connection_readable(a), 1);
  ck_assert_int_eq(forkq_connection_writable(a), 1);
  CODE(forkq_connection_recv(a, &item), FORKQ_EEOF);
  CODE(forkq_connection_recv_bytes(a, &item, FORKQ_ALL), FORKQ_EEOF);
  reap(pid);
}
END_TEST

START_TEST(test_duplex_false) {
  forkq_connection_t *reader = a, *writer = b;
  OK(send_int(writer, 1));
  RECEIVES_INT(reader, 1);
  ck_assert_int_eq(forkq_connection_readable(reader), 1);
  ck_assert_int_eq(forkq_connection_writable(reader), 0);
  ck_assert_int_eq(forkq_connection_readable(writer), 0);
  ck_assert_int_eq(forkq_connection_writable(writer), 1);
  CODE(send_int(reader, 2), FORKQ_EREADONLY);
  CODE(forkq_connection_recv(writer, &item), FORKQ_EWRITEONLY);
  CODE(forkq_connection_poll(writer, 0), FORKQ_EWRITEONLY);
}
END_TEST

START_TEST(test_spawn_close) {
  pid_t pid = support_fork(echo, NULL);
  close_b();
  OK(send_text(a, "hello"));
  RECEIVES(a, "hello");
  OK(send_text(a, ""));
  close_a();
  reap(pid);
}
END_TEST

START_TEST(test_sendbytes) {
  static const char msg[] = "abcdefghijklmnopqrstuvwxyz";
  const size_t minus_one = (size_t)-2; /* -1 itself is FORKQ_ALL */
  OK(forkq_connection_send_bytes(a, msg, 26, 0, FORKQ_ALL));
  RECEIVES(b, msg);
  OK(forkq_connection_send_bytes(a, msg, 26, 5, FORKQ_ALL));
  RECEIVES(b, msg + 5);
  OK(forkq_connection_send_bytes(a, msg, 26, 7, 8));
  RECEIVES(b, "hijklmno");
  OK(forkq_connection_send_bytes(a, msg, 26, 26, FORKQ_ALL));
  RECEIVES(b, "");
  ck_assert_ptr_nonnull(item.data);
  OK(forkq_connection_send_bytes(a, msg, 26, 26, 0));
  RECEIVES(b, "");
  CODE(forkq_connection_send_bytes(a, msg, 26, 27, FORKQ_ALL), FORKQ_ERANGE);
  CODE(forkq_connection_send_bytes(a, msg, 26, 22, 5), FORKQ_ERANGE);
  CODE(forkq_connection_send_bytes(a, msg, 26, 26, 1), FORKQ_ERANGE);
  CODE(forkq_connection_send_bytes(a, msg, 26, FORKQ_ALL, FORKQ_ALL), FORKQ_ERANGE);
  CODE(forkq_connection_send_bytes(a, msg, 26, 4, minus_one), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_connection_poll(b, 0), 0);
}
END_TEST

/* Takes a descriptor from b and writes text to it. */
static void write_to_received(void *text) {
  int fd;
  CHILD_MUST(forkq_connection_recv_fd(b, &fd) == 0);
  CHILD_MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
  write_all(fd, text, strlen(text));
  close(fd);
}

static void check_file(int fd, const char *text) {
  char content[16] = "";
  ck_assert_int_eq(pread(fd, content, sizeof content, 0), (ssize_t)strlen(text));
  ck_assert_str_eq(content, text);
}

START_TEST(test_fd_transfer) {
  int fd = memfd_create("test", MFD_CLOEXEC);
  pid_t pid = support_fork(write_to_received, "foo");
  OK(forkq_connection_send_fd(a, fd));
  reap(pid);
  check_file(fd, "foo");
  close(fd);
}
END_TEST

static void fill_table_and_write(void *text) {
  for (int fd = 0; fd < 256; fd++)
    if (fcntl(fd, F_GETFD) == -1)
      CHILD_MUST(dup2(forkq_connection_fileno(b), fd) == fd);
  write_to_received(text);
}

START_TEST(test_large_fd_transfer) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur <= 300)
    return;
  int fd = memfd_create("test", MFD_CLOEXEC);
  int large = fcntl(fd, F_DUPFD_CLOEXEC, 256);
  ck_assert_int_ge(large, 256);
  pid_t pid = support_fork(fill_table_and_write, "bar");
  OK(forkq_connection_send_fd(a, large));
  close(large);
  reap(pid);
  check_file(fd, "bar");
  close(fd);
}
END_TEST

static void send_data_without_fd(void *arg) {
  (void)arg;
  write_all(forkq_connection_fileno(b), "\0", 1);
}

START_TEST(test_missing_fd_transfer) {
  int fd = 12345;
  pid_t pid = support_fork(send_data_without_fd, NULL);
  CODE(forkq_connection_recv_fd(a, &fd), FORKQ_ENOFD);
  ck_assert_int_eq(fd, 12345);
  reap(pid);
}
END_TEST

START_TEST(test_context) {
  OK(send_int(a, 1729));
  RECEIVES_INT(b, 1729);
  ck_assert_int_eq(forkq_connection_closed(a), 0);
  ck_assert_int_eq(forkq_connection_closed(b), 0);
  OK(forkq_connection_close(a));
  OK(forkq_connection_close(b));
  ck_assert_int_eq(forkq_connection_closed(a), 1);
  ck_assert_int_eq(forkq_connection_closed(b), 1);
  CODE(forkq_connection_recv(a, &item), FORKQ_ECLOSED);
  CODE(forkq_connection_recv(b, &item), FORKQ_ECLOSED);
}
END_TEST

/* _TestPicklingConnections */

/* Sends a message over a connection that came over b. */
static void use_received_connection(void *arg) {
  (void)arg;
  int fd;
  forkq_connection_t *received;
  CHILD_MUST(forkq_connection_recv_fd(b, &fd) == 0);
  CHILD_MUST(forkq_connection_open(&received, fd, 0, 1) == 0);
  CHILD_MUST(forkq_connection_recv(received, &item) == FORKQ_EWRITEONLY);
  CHILD_MUST(send_text(received, "by another way") == 0);
  forkq_connection_destroy(received);
}

START_TEST(test_access) {
  forkq_connection_t *reader, *writer;
  pid_t pid = support_fork(use_received_connection, NULL);
  OK(forkq_pipe(&reader, &writer, 0));
  OK(forkq_connection_send_fd(a, forkq_connection_fileno(writer)));
  forkq_connection_destroy(writer);
  RECEIVES(reader, "by another way");
  CODE(forkq_connection_recv(reader, &item), FORKQ_EEOF);
  forkq_connection_destroy(reader);
  reap(pid);
}
END_TEST

/* _TestPoll */

START_TEST(test_empty_string) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(send_text(b, ""));
  ck_assert_int_eq(forkq_connection_poll(a, 0), 1);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 1);
}
END_TEST

static const char *const strings[] = { "hello", "", "a", "b", "", "bye", "", "lop" };
#define STRINGS (sizeof strings / sizeof *strings)

static void send_strings(void *arg) {
  (void)arg;
  for (size_t i = 0; i < STRINGS; i++)
    CHILD_MUST(send_text(b, strings[i]) == 0);
}

START_TEST(test_strings) {
  pid_t pid = support_fork(send_strings, NULL);
  close_b();
  for (size_t i = 0; i < STRINGS; i++) {
    ck_assert_int_eq(forkq_connection_poll(a, -1), 1);
    RECEIVES(a, strings[i]);
  }
  ck_assert_int_eq(forkq_connection_poll(a, -1), 1);
  CODE(forkq_connection_recv_bytes(a, &item, FORKQ_ALL), FORKQ_EEOF);
  reap(pid);
}
END_TEST

static void poll_only(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_connection_poll(a, 20000) == 1);
}

START_TEST(test_boundaries) {
  pid_t pid = support_fork(poll_only, NULL);
  support_until_asleep(pid);
  OK(send_text(b, "first"));
  OK(send_text(b, "second"));
  close_b();
  reap(pid);
  RECEIVES(a, "first");
  RECEIVES(a, "second");
}
END_TEST

static void send_three(void *arg) {
  (void)arg;
  CHILD_MUST(send_text(b, "a") == 0);
  CHILD_MUST(send_text(b, "b") == 0);
  CHILD_MUST(send_text(b, "cd") == 0);
}

START_TEST(test_dont_merge) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  ck_assert_int_eq(forkq_connection_poll(a, 10), 0);
  pid_t pid = support_fork(send_three, NULL);
  RECEIVES(a, "a");
  ck_assert_int_eq(forkq_connection_poll(a, 20000), 1);
  ck_assert_int_eq(forkq_connection_poll(a, 20000), 1);
  RECEIVES(a, "b");
  ck_assert_int_eq(forkq_connection_poll(a, 20000), 1);
  ck_assert_int_eq(forkq_connection_poll(a, 20000), 1);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 1);
  RECEIVES(a, "cd");
  reap(pid);
}
END_TEST

/* TestInvalidHandle */

START_TEST(test_invalid_handles) {
  forkq_connection_t *connection = NULL;
  CODE(forkq_connection_open(&connection, 44977608, 1, 1), -EBADF);
  CODE(forkq_connection_open(&connection, -1, 1, 1), -EBADF);
  ck_assert_ptr_null(connection);

  /* Closed behind the connection's back. */
  int fd = dup(forkq_connection_fileno(a));
  OK(forkq_connection_open(&connection, fd, 1, 1));
  close(fd);
  CODE(forkq_connection_poll(connection, 0), -EBADF);
  CODE(forkq_connection_poll(connection, -1), -EBADF);
  CODE(forkq_connection_recv(connection, &item), -EBADF);
  CODE(send_nil(connection), -EBADF);
  CODE(forkq_connection_close(connection), -EBADF);
  ck_assert_int_eq(forkq_connection_closed(connection), 1);
  forkq_connection_destroy(connection);
}
END_TEST

/* TestIgnoreEINTR */

static volatile sig_atomic_t signals;

static void count_signal(int number) {
  (void)number;
  signals++;
}

static void handle_usr1(void) {
  struct sigaction action = { .sa_handler = count_signal };
  sigaction(SIGUSR1, &action, NULL);
}

#define LARGE ((size_t)4 * 1024 * 1024)

static void be_interrupted(void *arg) {
  (void)arg;
  forkq_connection_close(a);
  handle_usr1();
  CHILD_MUST(send_text(b, "ready") == 0);
  CHILD_MUST(forkq_connection_recv(b, &item) == 0);
  CHILD_MUST(signals == 1);
  CHILD_MUST(forkq_connection_send(b, &item.object) == 0);
  char *large = pattern(LARGE, 3);
  CHILD_MUST(forkq_connection_send_bytes(b, large, LARGE, 0, FORKQ_ALL) == 0);
  CHILD_MUST(signals == 2);
}

START_TEST(test_ignore) {
  pid_t pid = support_fork(be_interrupted, NULL);
  close_b();
  RECEIVES(a, "ready");
  support_until_asleep(pid);
  ck_assert_int_eq(kill(pid, SIGUSR1), 0);
  OK(send_int(a, 1234));
  RECEIVES_INT(a, 1234);
  ck_assert_int_eq(forkq_connection_poll(a, -1), 1);
  support_until_asleep(pid);
  ck_assert_int_eq(kill(pid, SIGUSR1), 0);
  OK(forkq_connection_recv_bytes(a, &item, FORKQ_ALL));
  ck_assert_uint_eq(item.size, LARGE);
  ck_assert(is_pattern(item.data, LARGE, 3));
  reap(pid);
}
END_TEST

/* forkq has no listeners: what is waited for here is a connection that is handed over. */
static void be_interrupted_receiving_a_connection(void *arg) {
  (void)arg;
  int fd;
  forkq_connection_t *received;
  handle_usr1();
  CHILD_MUST(send_text(b, "ready") == 0);
  CHILD_MUST(forkq_connection_recv_fd(b, &fd) == 0);
  CHILD_MUST(signals == 1);
  CHILD_MUST(forkq_connection_open(&received, fd, 1, 1) == 0);
  CHILD_MUST(send_text(received, "welcome") == 0);
  forkq_connection_destroy(received);
}

START_TEST(test_ignore_listener) {
  forkq_connection_t *here, *there;
  pid_t pid = support_fork(be_interrupted_receiving_a_connection, NULL);
  RECEIVES(a, "ready");
  support_until_asleep(pid);
  ck_assert_int_eq(kill(pid, SIGUSR1), 0);
  OK(forkq_pipe(&here, &there, 1));
  OK(forkq_connection_send_fd(a, forkq_connection_fileno(there)));
  forkq_connection_destroy(there);
  RECEIVES(here, "welcome");
  forkq_connection_destroy(here);
  reap(pid);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("connection");
  TCase *tc = add_case(suite, "_TestConnection", setup_duplex);
  tcase_add_test(tc, test_connection);
  tcase_add_test(tc, test_spawn_close);
  tcase_add_test(tc, test_sendbytes);
  tcase_add_test(tc, test_fd_transfer);
  tcase_add_test(tc, test_large_fd_transfer);
  tcase_add_test(tc, test_missing_fd_transfer);
  tcase_add_test(tc, test_context);
  tc = add_case(suite, "_TestConnection, one way", setup_one_way);
  tcase_add_test(tc, test_duplex_false);

  tc = add_case(suite, "_TestPicklingConnections", setup_duplex);
  tcase_add_test(tc, test_access);

  tc = add_case(suite, "_TestPoll", setup_duplex);
  tcase_add_test(tc, test_empty_string);
  tcase_add_test(tc, test_strings);
  tcase_add_test(tc, test_dont_merge);
  tc = add_case(suite, "_TestPoll, one way", setup_one_way);
  tcase_add_test(tc, test_boundaries);

  tc = add_case(suite, "TestInvalidHandle", setup_duplex);
  tcase_add_test(tc, test_invalid_handles);

  tc = add_case(suite, "TestIgnoreEINTR", setup_duplex);
  tcase_add_test(tc, test_ignore);
  tcase_add_test(tc, test_ignore_listener);
  return support_main(suite);
}
