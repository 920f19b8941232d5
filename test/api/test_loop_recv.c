/* Receives as requests on a loop. */
#include "loop_support.h"
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct outcome a, b;
static forkq_connection_t *connection;
static forkq_loop_handle_t *queue_handle;
static int peer; /* raw, so that a test can write a part of a message */

static void set_up(void) {
  int fds[2];
  loop_set_up();
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  peer = fds[1];
  ck_assert_int_eq(forkq_connection_open(&connection, fds[0], 1, 1), 0);
  queue_handle = handle;
  ck_assert_int_eq(forkq_loop_open_connection(&handle, &loop, connection), 0);
}

static void tear_down(void) {
  loop_close_handle();
  handle = queue_handle;
  forkq_connection_destroy(connection);
  if (peer >= 0)
    close(peer);
  free_outcome(&a);
  free_outcome(&b);
  loop_tear_down();
}

static int start_recv(struct outcome *outcome, int timeout_ms) {
  return forkq_loop_recv(&outcome->req, handle, &outcome->item, timeout_ms, keep_outcome);
}

static int start_recv_bytes(struct outcome *outcome, size_t maxlength) {
  return forkq_loop_recv_bytes(&outcome->req, handle, &outcome->item, maxlength, -1,
                               keep_outcome);
}

static void send_raw(const void *data, size_t size) {
  ck_assert_int_eq(write(peer, data, size), (ssize_t)size);
}

START_TEST(a_message_that_is_there) {
  send_raw("\0\0\0\1\x07", 5);
  ck_assert_int_eq(start_recv(&a, -1), 0);
  ck_assert_int_eq(a.calls, 0);
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_int_eq(a.value, 7);
}
END_TEST

START_TEST(byte_by_byte) {
  static const char message[] = "\0\0\0\5hello";
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  for (size_t i = 0; i < sizeof message - 1; i++) {
    run_ready();
    ck_assert_int_eq(a.calls, 0);
    send_raw(message + i, 1);
  }
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_uint_eq(a.item.size, 5);
  ck_assert_int_eq(memcmp(a.item.data, "hello", 5), 0);
}
END_TEST

START_TEST(the_loop_serves_others_in_the_middle_of_a_message) {
  ck_assert_int_eq(start_recv(&a, -1), 0);
  send_raw("\0\0", 2);
  run_ready();
  struct outcome other = { .calls = 0 };
  ck_assert_int_eq(put_int(queue, 3, -1), 0);
  ck_assert_int_eq(
      forkq_loop_get(&other.req, queue_handle, &other.item, -1, keep_outcome), 0);
  run_until(&other);
  ck_assert_int_eq(other.value, 3);
  free_outcome(&other);
  send_raw("\0\1\x07", 3);
  run_until(&a);
  ck_assert_int_eq(a.value, 7);
}
END_TEST

START_TEST(cancelled_in_the_middle_the_next_goes_on) {
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  send_raw("\0\0\0\5he", 6);
  run_ready();
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  send_raw("llo", 3);
  ck_assert_int_eq(start_recv_bytes(&b, FORKQ_ALL), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, 0);
  ck_assert_int_eq(memcmp(b.item.data, "hello", 5), 0);
}
END_TEST

START_TEST(cancelled_in_the_header_a_blocking_receive_goes_on) {
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  send_raw("\0\0\0", 3);
  run_ready();
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  run_until(&a);
  int fd;
  ck_assert_int_eq(forkq_connection_recv_fd(connection, &fd), -EBUSY);
  send_raw("\1\x09", 2);
  ck_assert_int_eq(forkq_connection_recv(connection, &b.item), 0);
  ck_assert_uint_eq(b.item.object.via.u64, 9);
}
END_TEST

START_TEST(timeouts) {
  ck_assert_int_eq(start_recv(&a, 0), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EMPTY);
  ck_assert_int_eq(start_recv(&b, 10), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_TIMEDOUT);
}
END_TEST

START_TEST(a_large_message_that_does_not_fit_into_the_socket) {
  enum { SIZE = 3 << 20 };
  char *bytes = malloc(SIZE);
  support_fill(bytes, SIZE, 7);
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  uint32_t head = htonl(SIZE);
  send_raw(&head, 4);
  ck_assert_int_eq(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
  for (size_t sent = 0; sent < SIZE;) {
    ssize_t n = write(peer, bytes + sent, SIZE - sent);
    sent += n > 0 ? (size_t)n : 0;
    uv_run(&loop, UV_RUN_NOWAIT);
  }
  run_until(&a);
  ck_assert_int_eq(a.status, 0);
  ck_assert_uint_eq(a.item.size, SIZE);
  ck_assert_int_eq(memcmp(a.item.data, bytes, SIZE), 0);
  free(bytes);
}
END_TEST

#define COMPLETE_SIZE 150000

/* A message of that size, of which all lies in the socket. */
static void send_complete(char bytes[COMPLETE_SIZE], unsigned seed) {
  const int room = 4 * COMPLETE_SIZE;
  uint32_t head = htonl(COMPLETE_SIZE);
  support_fill(bytes, COMPLETE_SIZE, seed);
  ck_assert_int_eq(setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
  ck_assert_int_eq(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
  send_raw(&head, 4);
  send_raw(bytes, COMPLETE_SIZE);
}

static void assert_complete(const struct outcome *outcome, const char *bytes) {
  ck_assert_int_eq(outcome->status, 0);
  ck_assert_uint_eq(outcome->item.size, COMPLETE_SIZE);
  ck_assert_int_eq(memcmp(outcome->item.data, bytes, COMPLETE_SIZE), 0);
}

static void count_turn(uv_prepare_t *prepare) {
  ++*(int *)prepare->data;
}

static int turns;
static uv_prepare_t turn_counter;

static void start_counting(void) {
  turns = 0;
  uv_prepare_init(&loop, &turn_counter);
  turn_counter.data = &turns;
  uv_prepare_start(&turn_counter, count_turn);
}

static void stop_counting(void) {
  uv_close((uv_handle_t *)&turn_counter, NULL);
  uv_run(&loop, UV_RUN_NOWAIT);
}

/* Until the request is called back. No turn is late: what is there is not waited for. */
static int turns_of(const struct outcome *outcome) {
  start_counting();
  while (outcome->calls == 0 && turns < 100)
    uv_run(&loop, UV_RUN_NOWAIT);
  stop_counting();
  return turns;
}

START_TEST(a_large_message_that_is_there_leaves_the_loop_to_others) {
  static char bytes[COMPLETE_SIZE];
  struct outcome other = { .calls = 0 };
  send_complete(bytes, 1);
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  ck_assert_int_eq(put_int(queue, 3, -1), 0);
  forkq_wait_entry_t there = forkq_wait_on_queue(queue);
  ck_assert_int_eq(forkq_wait(&there, 1, 10000), 1);
  ck_assert_int_eq(
      forkq_loop_get(&other.req, queue_handle, &other.item, -1, keep_outcome), 0);
  /* 64 KiB a turn. If the handle paused, there would be turns without any. */
  int taken = turns_of(&a);
  ck_assert_int_ge(taken, 3);
  ck_assert_int_le(taken, 5);
  assert_complete(&a, bytes);
  ck_assert_int_eq(other.calls, 1);
  ck_assert_int_eq(other.value, 3);
  ck_assert_int_lt(other.order, a.order);
  free_outcome(&other);
}
END_TEST

/* What is there is taken, and no more is waited for. */
START_TEST(a_large_message_that_is_there_needs_no_waiting) {
  static char bytes[COMPLETE_SIZE];
  send_complete(bytes, 2);
  ck_assert_int_eq(
      forkq_loop_recv_bytes(&a.req, handle, &a.item, FORKQ_ALL, 0, keep_outcome), 0);
  ck_assert_int_eq(
      forkq_loop_recv_bytes(&b.req, handle, &b.item, FORKQ_ALL, 0, keep_outcome), 0);
  ck_assert_int_ge(turns_of(&a), 2);
  assert_complete(&a, bytes);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_EMPTY);
}
END_TEST

/* The budget ends just where the message does. */
START_TEST(as_much_as_a_turn_takes) {
  enum { SIZE = 64 * 1024 - 4 };
  static char bytes[COMPLETE_SIZE];
  send_complete(bytes, 3);
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  run_until(&a);
  free_outcome(&a);
  uint32_t head = htonl(SIZE);
  send_raw(&head, 4);
  send_raw(bytes, SIZE);
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  ck_assert_int_eq(
      forkq_loop_recv_bytes(&b.req, handle, &b.item, FORKQ_ALL, 0, keep_outcome), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_EMPTY);
  ck_assert_int_eq(a.calls, 1);
  ck_assert_uint_eq(a.item.size, SIZE);
}
END_TEST

START_TEST(cancelled_with_more_there_than_a_turn_takes) {
  static char bytes[COMPLETE_SIZE];
  send_complete(bytes, 4);
  ck_assert_int_eq(start_recv_bytes(&a, FORKQ_ALL), 0);
  uv_run(&loop, UV_RUN_NOWAIT);
  ck_assert_int_eq(a.calls, 0);
  ck_assert_int_eq(forkq_loop_cancel(&a.req), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, UV_ECANCELED);
  ck_assert_int_eq(forkq_connection_recv_bytes(connection, &b.item, FORKQ_ALL), 0);
  assert_complete(&b, bytes);
  ck_assert_int_eq(forkq_loop_recv(&a.req, handle, &a.item, 0, keep_outcome), 0);
  a.calls = 0;
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EMPTY);
}
END_TEST

START_TEST(the_end_of_the_file) {
  ck_assert_int_eq(start_recv(&a, -1), 0);
  close(peer);
  peer = -1;
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EEOF);
  ck_assert_int_eq(start_recv(&b, -1), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_EEOF);
}
END_TEST

START_TEST(the_end_in_the_middle) {
  ck_assert_int_eq(start_recv(&a, -1), 0);
  send_raw("\0\0\0\5he", 6);
  run_ready();
  close(peer);
  peer = -1;
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_ETORN);
}
END_TEST

START_TEST(invalid_frames_and_the_loop_goes_on) {
  send_raw("\0\0\0\1\xc1", 5);
  ck_assert_int_eq(start_recv(&a, -1), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_EBADOBJECT);
  ck_assert_uint_eq(a.item.size, 1);
  send_raw("\xff\xff\xff\xfe", 4); /* a length of -2 */
  ck_assert_int_eq(start_recv(&b, -1), 0);
  run_until(&b);
  ck_assert_int_eq(b.status, FORKQ_EBADFRAME);
  ck_assert_int_eq(start_recv(&b, -1), FORKQ_EWRITEONLY);
}
END_TEST

START_TEST(longer_than_maxlength) {
  send_raw("\0\0\0\5hello", 9);
  ck_assert_int_eq(start_recv_bytes(&a, 4), 0);
  run_until(&a);
  ck_assert_int_eq(a.status, FORKQ_ETOOBIG);
}
END_TEST

START_TEST(the_descriptor_keeps_its_flags) {
  int fd = forkq_connection_fileno(connection);
  send_raw("\0\0\0\1\x07", 5);
  ck_assert_int_eq(start_recv(&a, -1), 0);
  run_until(&a);
  ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(bad_use) {
  forkq_loop_handle_t *none = NULL;
  ck_assert_int_eq(forkq_loop_open_connection(&none, &loop, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_loop_get(&a.req, handle, &a.item, -1, keep_outcome), -EINVAL);
  ck_assert_int_eq(forkq_loop_put_packed(&a.req, handle, "\x01", 1, -1, keep_outcome),
                   -EINVAL);
  ck_assert_int_eq(forkq_loop_recv(&a.req, handle, NULL, -1, keep_outcome), FORKQ_ENULL);
  forkq_connection_t *file;
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ck_assert_int_eq(forkq_connection_open(&file, fd, 1, 0), 0);
  ck_assert_int_eq(forkq_loop_open_connection(&none, &loop, file), -EPERM);
  ck_assert_ptr_null(none);
  forkq_connection_destroy(file);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("loop_recv");
  TCase *tcase = tcase_create("loop_recv");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, a_message_that_is_there);
  tcase_add_test(tcase, byte_by_byte);
  tcase_add_test(tcase, the_loop_serves_others_in_the_middle_of_a_message);
  tcase_add_test(tcase, cancelled_in_the_middle_the_next_goes_on);
  tcase_add_test(tcase, cancelled_in_the_header_a_blocking_receive_goes_on);
  tcase_add_test(tcase, timeouts);
  tcase_add_test(tcase, a_large_message_that_does_not_fit_into_the_socket);
  tcase_add_test(tcase, a_large_message_that_is_there_leaves_the_loop_to_others);
  tcase_add_test(tcase, a_large_message_that_is_there_needs_no_waiting);
  tcase_add_test(tcase, as_much_as_a_turn_takes);
  tcase_add_test(tcase, cancelled_with_more_there_than_a_turn_takes);
  tcase_add_test(tcase, the_end_of_the_file);
  tcase_add_test(tcase, the_end_in_the_middle);
  tcase_add_test(tcase, invalid_frames_and_the_loop_goes_on);
  tcase_add_test(tcase, longer_than_maxlength);
  tcase_add_test(tcase, the_descriptor_keeps_its_flags);
  tcase_add_test(tcase, bad_use);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
