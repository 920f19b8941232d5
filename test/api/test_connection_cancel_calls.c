/* Threads that are cancelled (pthread_cancel(3)) in a call on connections, or in forkq_wait: they
 * end while they wait, and never with a part of a message in the stream. */
#define _GNU_SOURCE
#include "connection_calls.h"
#include "queue/queue_impl.h"

#include <forkq/wait.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

/* ---- calls -------------------------------------------------------------------------------- */

/* An own cancellation is pending when the call begins. */
static void *make_call_cancelled(void *arg) {
  pthread_cancel(pthread_self());
  return make_call(arg);
}

/* It sleeps in its call, and goes on there. */
static void cancel_too_late(pthread_t thread) {
  support_until_threads_asleep(1);
  ck_assert_int_eq(pthread_cancel(thread), 0);
}

static int receive(void) {
  return forkq_connection_recv(a, &item);
}

static int receive_into(void) {
  static char buffer[10];
  size_t size;
  return forkq_connection_recv_bytes_into(a, buffer, sizeof buffer, 0, &size, NULL);
}

static int poll_for_ever(void) {
  return forkq_connection_poll(a, -1);
}

static int poll_for_long(void) {
  return forkq_connection_poll(a, 1000000);
}

static int wait_for_a(void) {
  forkq_wait_entry_t on = forkq_wait_on(a);
  return forkq_wait(&on, 1, -1);
}

static int receive_fd(void) {
  int fd;
  return forkq_connection_recv_fd(a, &fd);
}

static int send_a_descriptor(void) {
  return forkq_connection_send_fd(b, 0);
}

static int (*const receives[])(void) = { receive,       recv_bytes,    receive_into,
                                         poll_for_ever, poll_for_long, wait_for_a };

static int (*const calls_with_fds[])(void) = { receive_fd, send_a_descriptor };

/* ---- while they wait ---------------------------------------------------------------------- */

START_TEST(a_thread_that_waits_for_a_message_ends) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(receives); i++) {
    cancel_asleep(start_call(&receives[i]));
    check_stream();
  }
}
END_TEST

START_TEST(a_thread_that_waits_for_room_ends) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(sends); i++) {
    size_t count = fill();
    cancel_asleep(start_call(&sends[i]));
    receive_empty(count);
    check_stream();
  }
}
END_TEST

START_TEST(a_thread_that_waits_for_a_descriptor_or_room_for_it_ends) {
  make_small_stream(_i);
  cancel_asleep(start_call(&calls_with_fds[0]));
  check_stream();
  size_t count = fill();
  cancel_asleep(start_call(&calls_with_fds[1]));
  receive_empty(count);
  check_stream();
}
END_TEST

/* As in a process with one thread, there may be more in a socket than poll(2) wants to see. */
START_TEST(a_descriptor_goes_where_there_is_room) {
  make_small_stream(SOCKET);
  size_t count = fill(); /* and half of it received */
  receive_empty(count / 2);
  pthread_t thread = start_call(&calls_with_fds[1]);
  ck_assert(!ends_cancelled(thread));
  OK(result);
  receive_empty(count - count / 2);
  int fd = -1;
  OK(forkq_connection_recv_fd(a, &fd));
  close(fd);
}
END_TEST

/* ---- before they wait, and when they must not end ----------------------------------------- */

START_TEST(a_cancelled_thread_takes_nothing) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(receives); i++) {
    OK(send_nil(b));
    ck_assert(ends_cancelled(
        start_thread(make_call_cancelled, (void *)(uintptr_t)&receives[i])));
    ck_assert(!returned);
    OK(receive());
    check_stream();
  }
}
END_TEST

START_TEST(a_cancelled_thread_sends_nothing) {
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(sends); i++) {
    ck_assert(
        ends_cancelled(start_thread(make_call_cancelled, (void *)(uintptr_t)&sends[i])));
    ck_assert(!returned);
    check_stream();
  }
}
END_TEST

START_TEST(a_cancelled_thread_takes_and_sends_no_descriptor) {
  make_small_stream(_i);
  int fd = -1;
  for (size_t i = 0; i < COUNT(calls_with_fds); i++) {
    OK(forkq_connection_send_fd(b, 0));
    ck_assert(ends_cancelled(
        start_thread(make_call_cancelled, (void *)(uintptr_t)&calls_with_fds[i])));
    ck_assert(!returned);
    OK(forkq_connection_recv_fd(a, &fd));
    close(fd);
    check_stream();
  }
}
END_TEST

static void *make_call_uncancellable(void *arg) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  make_call(arg);
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  if (state != PTHREAD_CANCEL_DISABLE)
    return arg; /* not cancelled, which is seen */
  pthread_testcancel();
  return NULL;
}

START_TEST(a_thread_that_does_not_want_to_be_cancelled_is_not) {
  make_small_stream(_i);
  pthread_t thread =
      start_thread(make_call_uncancellable, (void *)(uintptr_t)&receives[0]);
  cancel_too_late(thread);
  OK(send_int(b, 5));
  ck_assert(ends_cancelled(thread));
  OK(result);
  ck_assert_uint_eq(item.object.via.u64, 5);

  size_t count = fill();
  thread = start_thread(make_call_uncancellable, (void *)(uintptr_t)&sends[0]);
  cancel_too_late(thread);
  receive_empty(count);
  RECEIVES_INT(a, 7);
  ck_assert(ends_cancelled(thread));
  OK(result);
  check_stream();
}
END_TEST

/* Up to here the other end has written it: in its length, and in its bytes. */
static const size_t parts_of_a_message[] = { 1, 3, 4, 6 };

static void until_received(void) {
  int bytes = -1;
  while (ioctl(forkq_connection_fileno(a), FIONREAD, &bytes) == 0 && bytes > 0)
    usleep(100);
}

START_TEST(a_message_that_has_begun_is_received_to_its_end) {
  static const char message[] = "\0\0\0\5hello";
  const size_t size = sizeof message - 1;
  make_small_stream(_i);
  for (size_t i = 0; i < COUNT(parts_of_a_message); i++) {
    const size_t part = parts_of_a_message[i];
    pthread_t thread = start_call(&receives[1]);
    write_all(forkq_connection_fileno(b), message, part);
    until_received();
    cancel_too_late(thread);
    write_all(forkq_connection_fileno(b), message + part, size - part);
    ck_assert(ends_cancelled(thread));
    ck_assert(returned);
    OK(result);
    ck_assert(is_text("hello"));
    check_stream();
  }
}
END_TEST

START_TEST(a_message_that_has_begun_is_sent_to_its_end) {
  make_small_stream(_i);
  pthread_t thread = start_call(&sends[COUNT(sends) - 1]);
  cancel_too_late(thread);
  OK(recv_bytes());
  ck_assert(ends_cancelled(thread));
  ck_assert(returned);
  OK(result);
  ck_assert_uint_eq(item.size, LARGE);
  check_stream();
}
END_TEST

/* ---- at any moment ------------------------------------------------------------------------ */

#define LIVES 60

static _Atomic uint64_t count_done;

/* Numbers, one after another. A thread that is cancelled was at any of its steps. */
static void *receive_numbers(void *arg) {
  for (;;) {
    if (receive() != 0 || item.object.via.u64 != atomic_load(&count_done))
      return arg; /* not cancelled, which is seen */
    atomic_fetch_add(&count_done, 1);
  }
}

static void *send_numbers(void *arg) {
  while (send_int(b, atomic_load(&count_done)) == 0)
    atomic_fetch_add(&count_done, 1);
  return arg;
}

/* So that the cancellation finds it at different places. */
static void let_it_run(unsigned life) {
  for (unsigned i = 0; i < life % 23; i++)
    sched_yield();
}

START_TEST(threads_that_are_cancelled_at_any_moment_lose_no_message) {
  uint64_t sent = 0;
  make_small_stream(_i);
  atomic_store(&count_done, 0);
  for (unsigned life = 0; life < LIVES; life++) {
    pthread_t thread = start_thread(receive_numbers, NULL);
    for (unsigned i = 0; i < life % 7; i++)
      OK(send_int(b, sent++));
    let_it_run(life);
    pthread_cancel(thread);
    ck_assert(ends_cancelled(thread));
  }
  while (atomic_load(&count_done) < sent) {
    RECEIVES_INT(a, atomic_load(&count_done));
    atomic_fetch_add(&count_done, 1);
  }
  check_stream();
}
END_TEST

/* A number comes twice where its thread had sent it and not counted it. */
START_TEST(threads_that_are_cancelled_at_any_moment_send_whole_messages) {
  uint64_t next = 0;
  make_small_stream(_i);
  atomic_store(&count_done, 0);
  for (unsigned life = 0; life < LIVES; life++) {
    pthread_t thread = start_thread(send_numbers, NULL);
    let_it_run(life);
    pthread_cancel(thread);
    ck_assert(ends_cancelled(thread));
    while (forkq_connection_poll(a, 0) == 1) {
      OK(receive());
      uint64_t number = item.object.via.u64;
      ck_assert(number == next || number + 1 == next);
      next = number + 1;
    }
    ck_assert(next == atomic_load(&count_done) || next == atomic_load(&count_done) + 1);
  }
  check_stream();
}
END_TEST

/* ---- forkq_wait --------------------------------------------------------------------------- */

static forkq_queue_t *queue;
static size_t wait_count;

/* The queue, and beside it so many descriptors that memory is needed. */
static int wait_for_queue(void) {
  forkq_wait_entry_t on[64];
  on[0] = forkq_wait_on_queue(queue);
  for (size_t i = 1; i < wait_count; i++)
    on[i] = forkq_wait_on_fd(dup(forkq_connection_fileno(a)));
  int r = forkq_wait(on, wait_count, -1);
  return r;
}

/* The numbers may have gaps: while the thread makes its descriptors, this one looks whether the thread is
 * asleep, which takes descriptors, too. */
static void close_from(int first) {
  for (int fd = first; fd < first + 2 * 64; fd++)
    close(fd);
}

START_TEST(a_thread_that_waits_for_a_queue_ends) {
  int (*const call)(void) = wait_for_queue;
  static const size_t counts[] = { 1, 2, 64 };
  use_test_heap();
  OK(forkq_pipe(&a, &b, 0));
  OK(forkq_queue_create(&queue, 0));
  const int first = dup(0);
  close(first);
  const size_t before = test_heap.now;
  for (size_t i = 0; i < COUNT(counts); i++) {
    wait_count = counts[i];
    cancel_asleep(start_call(&call));
    close_from(first);
    ck_assert_uint_eq(test_heap.now, before);
    ck_assert_int_eq(atomic_load(&queue->getters), 0);
    ck_assert_uint_eq(atomic_load(&queue->channel.shared->watchers), 0);
  }
  OK(forkq_queue_close(queue)); /* which waits for who waits */
  forkq_queue_destroy(queue);
}
END_TEST

static void add_tests(TCase *tc, int kind) {
  tcase_add_loop_test(tc, a_thread_that_waits_for_a_message_ends, kind, kind + 1);
  tcase_add_loop_test(tc, a_thread_that_waits_for_room_ends, kind, kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_takes_nothing, kind, kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_sends_nothing, kind, kind + 1);
  tcase_add_loop_test(tc, a_thread_that_does_not_want_to_be_cancelled_is_not, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_message_that_has_begun_is_received_to_its_end, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_message_that_has_begun_is_sent_to_its_end, kind, kind + 1);
  tcase_add_loop_test(tc, threads_that_are_cancelled_at_any_moment_lose_no_message, kind,
                      kind + 1);
  tcase_add_loop_test(tc, threads_that_are_cancelled_at_any_moment_send_whole_messages,
                      kind, kind + 1);
}

static void add_descriptor_tests(TCase *tc, int kind) {
  tcase_add_loop_test(tc, a_thread_that_waits_for_a_descriptor_or_room_for_it_ends, kind,
                      kind + 1);
  tcase_add_loop_test(tc, a_cancelled_thread_takes_and_sends_no_descriptor, kind,
                      kind + 1);
}

int main(void) {
  Suite *suite = suite_create("cancelled in a connection");
  TCase *tc = add_case(suite, "messages", setup_nothing);
  for (int kind = 0; kind < KINDS; kind++)
    add_tests(tc, kind);

  tc = add_case(suite, "descriptors", setup_nothing);
  add_descriptor_tests(tc, SOCKET);
  add_descriptor_tests(tc, SOCKET_NONBLOCKING);
  tcase_add_test(tc, a_descriptor_goes_where_there_is_room);

  tc = add_case(suite, "wait", setup_nothing);
  tcase_add_test(tc, a_thread_that_waits_for_a_queue_ends);

  /* Last, as a process remembers for good that its kernel refused. */
  tc = add_case(suite, "older kernel", setup_older_kernel);
  add_tests(tc, PIPE);
  add_tests(tc, PIPE_NONBLOCKING);
  return support_main(suite);
}
