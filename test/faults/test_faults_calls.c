/* Every system call fails with each errno that it may have: the k-th one, for k = 1, 2, ...
 * until a run meets none; once, and from then on or, where the library tries again, three
 * times in a row. */
#define _GNU_SOURCE
#include "fault_scenarios.h"
#include "support.h"

#include <errno.h>
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct kind {
  enum fault_call call;
  int error;
  bool lasts;
};

/* What interrupts or says "not now" does not last: to try again is right. */
static const struct kind kinds[] = {
  { FAULT_PIPE2, EMFILE, true },
  { FAULT_PIPE2, ENFILE, true },
  { FAULT_PIPE2, EINTR, false },
  { FAULT_EVENTFD, EMFILE, true },
  { FAULT_EVENTFD, ENOMEM, true },
  { FAULT_EVENTFD_READ, EINTR, false },
  { FAULT_EVENTFD_READ, EAGAIN, true },
  { FAULT_EVENTFD_WRITE, EINTR, false },
  { FAULT_EVENTFD_WRITE, EAGAIN, true },
  { FAULT_MEMFD, ENOMEM, true },
  { FAULT_MEMFD, EMFILE, true },
  { FAULT_FTRUNCATE, ENOMEM, true },
  { FAULT_FTRUNCATE, ENOSPC, true },
  { FAULT_FTRUNCATE, EINTR, false },
  { FAULT_SEALS, ENOMEM, true },
  { FAULT_FD_FLAGS, EINTR, false },
  { FAULT_FD_FLAGS, EBADF, true },
  { FAULT_OPEN, EMFILE, true },
  { FAULT_OPEN, ENOENT, true }, /* there is no /proc */
  { FAULT_OPEN, EINTR, false },
  { FAULT_RECORD_LOCK, ENOLCK, true },
  { FAULT_RECORD_LOCK, EINTR, false },
  { FAULT_MMAP, ENOMEM, true },
  { FAULT_MMAP, ENFILE, true },
  { FAULT_FALLOCATE, ENOSPC, true },
  { FAULT_FALLOCATE, EOPNOTSUPP, true }, /* memory is reserved in another way */
  { FAULT_FALLOCATE, EINTR, false },
  { FAULT_PREAD, EINTR, false },
  { FAULT_PREAD, EIO, true },
  { FAULT_PREAD, FAULT_SHORT, true },
  { FAULT_FSTAT, ENOMEM, true },
  { FAULT_IOCTL, EINTR, false },
  { FAULT_IOCTL, ENOTTY, true },
  { FAULT_READ, EINTR, false },
  { FAULT_READ, EAGAIN, false },
  { FAULT_READ, EIO, true },
  { FAULT_READ, FAULT_SHORT, true },
  { FAULT_WRITE, EINTR, false },
  { FAULT_WRITE, EAGAIN, false },
  { FAULT_WRITE, EPIPE, true },
  { FAULT_WRITE, EIO, true },
  { FAULT_WRITE, ENOMEM, true },
  { FAULT_WRITEV, EINTR, false },
  { FAULT_WRITEV, EAGAIN, false },
  { FAULT_WRITEV, EIO, true },
  { FAULT_WRITEV, FAULT_SHORT, true },
  { FAULT_PWRITEV2, EINTR, false },
  { FAULT_PWRITEV2, EAGAIN, false },
  { FAULT_PWRITEV2, EIO, true },
  { FAULT_PWRITEV2, EPIPE, true },
  { FAULT_PWRITEV2, EOPNOTSUPP, true },
  { FAULT_PWRITEV2, ENOSYS, false },
  { FAULT_PWRITEV2, FAULT_SHORT, true },
  { FAULT_POLL, EINTR, false },
  { FAULT_POLL, ENOMEM, true },
  { FAULT_CLOSE, EINTR, true },
  { FAULT_CLOSE, EIO, true },
  { FAULT_FUTEX_WAIT, EINTR, false },
  { FAULT_FUTEX_WAIT, EAGAIN, false },
  { FAULT_FUTEX_WAITV, EINTR, false },
  { FAULT_FUTEX_WAITV, EAGAIN, false },
  { FAULT_FUTEX_WAITV, ENOSYS, true },
  { FAULT_SOCKETPAIR, EMFILE, true },
  { FAULT_SOCKETPAIR, ENFILE, true },
  { FAULT_GETSOCKOPT, ENOBUFS, true },
  { FAULT_SOCKET, EMFILE, true },
  { FAULT_SOCKET, ENOBUFS, true },
  { FAULT_BIND, EADDRINUSE, true },
  { FAULT_BIND, EACCES, true },
  { FAULT_LISTEN, ENOMEM, true },
  { FAULT_ACCEPT, EINTR, false },
  { FAULT_ACCEPT, ECONNABORTED, false },
  { FAULT_ACCEPT, EMFILE, true },
  { FAULT_CONNECT, EINTR, false },
  { FAULT_CONNECT, ECONNREFUSED, true },
  { FAULT_FLOCK, EINTR, false },
  { FAULT_FLOCK, ENOLCK, true },
  { FAULT_TIMERFD, EMFILE, true },
  { FAULT_EPOLL_CTL, ENOMEM, true },
  { FAULT_SENDMSG, EINTR, false },
  { FAULT_SENDMSG, EAGAIN, false },
  { FAULT_SENDMSG, ENOBUFS, true },
  { FAULT_SENDMSG, ETOOMANYREFS, true },
  { FAULT_SENDMSG, ECONNRESET, true },
  { FAULT_SENDMSG, EPIPE, true },
  { FAULT_SENDMSG, FAULT_SHORT, true },
  { FAULT_RECVMSG, EINTR, false },
  { FAULT_RECVMSG, ENOMEM, true },
  { FAULT_RECVMSG, ECONNRESET, true },
  { FAULT_FORK, EAGAIN, true },
  { FAULT_FORK, ENOMEM, true },
  { FAULT_WAITID, EINTR, false },
  { FAULT_PIDFD_OPEN, EMFILE, true },
  { FAULT_PIDFD_OPEN, ENOSYS, true }, /* there is no descriptor */
  { FAULT_PIDFD_SIGNAL, ENOSYS, true },
  { FAULT_THREAD, EAGAIN, true },
  { FAULT_THREAD, ENOMEM, true },
  { FAULT_MUTEX_INIT, ENOMEM, true },
  { FAULT_SEM_INIT, ENOMEM, true },
  { FAULT_LOCK_ATTR, ENOMEM, true },
  { FAULT_LOCK_INIT, EAGAIN, true },
  { FAULT_LOCK, EBUSY, false },
  { FAULT_ATFORK, ENOMEM, true },
  { FAULT_ATEXIT, ENOMEM, true },
};

#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

START_TEST(every_call_fails) {
  const struct kind *kind = &kinds[_i];
  long runs = fault_scenarios_with(kind->call, kind->error, kind->lasts);
  printf("faults: %s, %s: %ld runs\n", faults_name(kind->call),
         kind->error == FAULT_SHORT ? "short" : strerrorname_np(kind->error), runs);
  /* A call that no scenario makes is not tested. */
  ck_assert_int_gt(runs, 1);
}
END_TEST

/* ---- reads that bring nothing -------------------------------------------------------------- */

#define EMPTY_PACKETS 1024 /* as channel.c has it */

/* Gets the one item of a queue while so many reads bring nothing. */
static int get_behind(long empty) {
  const msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  const struct fault nothing = { FAULT_READ, FAULT_NOTHING, 1, empty };
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *queue;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_put(queue, &object, 0), 0);
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  ck_assert_int_eq(forkq_wait(&entry, 1, 10000), 1);
  faults_begin(&nothing);
  int r = forkq_queue_get(queue, &item, 10000);
  faults_end();
  ck_assert_int_eq(faults_calls(FAULT_READ), r == 0 ? empty + 1 : EMPTY_PACKETS);
  /* What was not got is there still. */
  if (r != 0)
    ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
  return r;
}

START_TEST(empty_packets_in_a_row_have_a_limit) {
  ck_assert_int_eq(get_behind(1), 0);
  ck_assert_int_eq(get_behind(EMPTY_PACKETS - 1), 0);
  ck_assert_int_eq(get_behind(EMPTY_PACKETS), FORKQ_EBROKEN);
  ck_assert_int_eq(get_behind(EMPTY_PACKETS + 1), FORKQ_EBROKEN);
}
END_TEST

/* ---- a feeder that cannot poll ----------------------------------------------------------- */

#define WATCHED_MS 200

/* Messages that fill the pipe several times over, put while poll(2) fails. The feeder, which finds
 * the pipe full, looks for room from time to time, and sends them once there is some. */
static void put_without_poll(size_t size, int count) {
  static char data[200000];
  const msgpack_object object = { .type = MSGPACK_OBJECT_BIN,
                                  .via = { .bin = { (uint32_t)size, data } } };
  const struct fault no_memory = { FAULT_POLL, ENOMEM, 1, FAULT_LASTS };
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *queue;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
  faults_begin(&no_memory);
  for (int i = 0; i < count; i++)
    ck_assert_int_eq(forkq_queue_put(queue, &object, 0), 0);
  support_until_pipe_full(queue);
  while (faults_calls(FAULT_POLL) == 0)
    usleep(100);
  int64_t begin_ms = support_now_ms();
  long before = faults_calls(FAULT_POLL);
  usleep(WATCHED_MS * 1000);
  long looks = faults_calls(FAULT_POLL) - before;
  int64_t took_ms = support_now_ms() - begin_ms;
  ck_assert_int_le(looks, took_ms);
  ck_assert(faults_end());
  for (int i = 0; i < count; i++) {
    ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
    ck_assert_uint_eq(item.object.via.bin.size, size);
  }
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}

START_TEST(a_feeder_that_cannot_poll_looks_from_time_to_time) {
  put_without_poll(200000, 1);
  put_without_poll(100, 3000);
}
END_TEST

/* ---- a process without /proc --------------------------------------------------------------- */

/* Attaches to a queue that this process no longer has, with its second event descriptor as it is,
 * or replaced. */
static int attach_with_room(int (*room)(const int fds[FORKQ_HANDOVER_FDS])) {
  const struct fault no_proc = { FAULT_OPEN, ENOENT, 1, FAULT_LASTS };
  forkq_handover_t handover;
  forkq_queue_t *queue;
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
  unsigned layout;
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  ck_assert_int_eq(sscanf(handover.text, "forkq:%u:", &layout), 1);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    fds[i] = dup(handover.fds[i]);
  forkq_queue_destroy(queue);
  snprintf(text, sizeof text, "forkq:%u:%d:%d:%d:%d:%d", layout, fds[0], fds[1], fds[2],
           room(fds), fds[4]);
  faults_begin(&no_proc);
  int r = forkq_queue_attach(&queue, text, NULL);
  ck_assert(faults_end() == (r == 0));
  if (r == 0)
    forkq_queue_destroy(queue);
  for (int i = 0; r < 0 && i < FORKQ_HANDOVER_FDS; i++)
    close(fds[i]);
  return r;
}

static int right_room(const int fds[FORKQ_HANDOVER_FDS]) {
  return fds[3];
}

static int event_as_room(const int fds[FORKQ_HANDOVER_FDS]) {
  return fds[2];
}

static int socket_as_room(const int fds[FORKQ_HANDOVER_FDS]) {
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  close(pair[1]);
  dup2(pair[0], fds[3]);
  close(pair[0]);
  return fds[3];
}

START_TEST(without_proc_an_attach_checks_what_it_can) {
  ck_assert_int_eq(attach_with_room(right_room), 0);
  ck_assert_int_eq(attach_with_room(event_as_room), FORKQ_EHANDOVER);
  ck_assert_int_eq(attach_with_room(socket_as_room), FORKQ_EHANDOVER);
}
END_TEST

/* ---- the engine: the others trust it --------------------------------------------------- */

START_TEST(the_engine_fails_what_it_was_told) {
  char byte = 0;
  int fds[2];
  ck_assert_int_eq(pipe2(fds, 0), 0);
  const struct fault second = { FAULT_READ, EIO, 2, 1 };
  ck_assert_int_eq(write(fds[1], "123", 3), 3);
  faults_begin(&second);
  ck_assert_int_eq(read(fds[0], &byte, 1), 1);
  errno = 0;
  ck_assert(read(fds[0], &byte, 1) == -1 && errno == EIO);
  ck_assert_int_eq(read(fds[0], &byte, 1), 1);
  ck_assert(faults_end());
  ck_assert_int_eq(faults_calls(FAULT_READ), 3);
  const struct fault fourth = { FAULT_READ, EIO, 4, 1 };
  faults_begin(&fourth);
  ck_assert_int_eq(read(fds[0], &byte, 1), 1);
  ck_assert(!faults_end());
  close(fds[0]);
  close(fds[1]);
}
END_TEST

START_TEST(the_engine_counts_what_is_allocated) {
  long before = faults_live_blocks();
  const struct fault last = { FAULT_MALLOC, ENOMEM, 2, FAULT_LASTS };
  faults_begin(&last);
  /* Volatile, or the compiler leaves out what nobody uses. */
  void *volatile memory = malloc(10);
  void *volatile none = malloc(10);
  void *volatile moved = realloc(memory, 100);
  faults_end();
  /* Check's own assertions allocate, too. */
  long between = faults_live_blocks() - before;
  free(memory);
  long after = faults_live_blocks() - before;
  ck_assert(memory != NULL && none == NULL && moved == NULL);
  ck_assert_int_eq(between, 1);
  ck_assert_int_eq(after, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("faults_calls");
  TCase *engine = tcase_create("engine");
  tcase_add_test(engine, the_engine_fails_what_it_was_told);
  tcase_add_test(engine, the_engine_counts_what_is_allocated);
  suite_add_tcase(suite, engine);
  TCase *calls = tcase_create("calls");
  tcase_set_timeout(calls, 240);
  tcase_add_loop_test(calls, every_call_fails, 0, KINDS);
  suite_add_tcase(suite, calls);
  TCase *lasting = tcase_create("lasting");
  tcase_set_timeout(lasting, 60);
  tcase_add_test(lasting, empty_packets_in_a_row_have_a_limit);
  tcase_add_test(lasting, a_feeder_that_cannot_poll_looks_from_time_to_time);
  suite_add_tcase(suite, lasting);
  TCase *proc = tcase_create("proc");
  tcase_add_test(proc, without_proc_an_attach_checks_what_it_can);
  suite_add_tcase(suite, proc);
  return support_main(suite);
}
