/* The last process that could put is gone: getters that wait get what was sent, and then learn of it. Each
 * process that has the writing end counts, whatever it does with it. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "queue_helpers.h"

#include <fcntl.h>
#include <forkq.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define WHILE_MS 50 /* nothing happens meanwhile */
#define LARGE 300000
#define ITEMS 1000
#define SENT 100 /* the pipe holds them, also if each is a packet */
#define MANY 8
#define FLAGS 8
#define TRIES 1000

static _Atomic int *flags; /* what children say, and what they wait for */

static void create_with(const forkq_queue_options_t *options) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create_with(&queue, options), 0);
  flags = support_shared(FLAGS * sizeof *flags);
}

static void set_up(void) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  create_with(&options);
}

static void set_up_redelivering(void) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = 1;
  options.lost_tasks = FORKQ_LOST_TASKS_REDELIVER;
  create_with(&options);
}

static void set_up_simple(void) {
  fds_before = support_open_fds();
  create_simple();
  flags = support_shared(FLAGS * sizeof *flags);
}

/* ---- processes -------------------------------------------------------------------------------- */

/* A process that puts so many numbers, says so, and then only lives. */
static void put_and_stay(void *arg) {
  for (intptr_t i = 1; i <= (intptr_t)arg; i++)
    CHILD_MUST(put(i, -1) == 0);
  CHILD_MUST(simple_queue != NULL || forkq_queue_flush(queue, -1, NULL) == 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

/* The only one that could put, from now on. */
static pid_t start_putter(intptr_t items) {
  pid_t putter = support_fork(put_and_stay, (void *)items);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  return putter;
}

static void get_to_the_end(void *arg) {
  int64_t value;
  support_end_after(60);
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  while ((value = get(-1)) > 0)
    atomic_fetch_add((_Atomic int *)arg, 1);
  CHILD_MUST(value == FORKQ_EALONE);
  CHILD_MUST(get(0) == FORKQ_EALONE);
  CHILD_MUST(get(1) == FORKQ_EALONE);
}

/* ---- one, and many ----------------------------------------------------------------------------- */

START_TEST(a_getter_that_sleeps_learns_of_it) {
  pid_t putter = start_putter(0);
  pid_t getter = support_fork(get_to_the_end, (void *)&flags[1]);
  support_until_asleep(getter);
  support_kill_and_wait(putter);
  ck_assert_int_eq(support_wait(getter), 0);
  ck_assert_int_eq(get(-1), FORKQ_EALONE);
}
END_TEST

/* The first of them sleeps on the pipe, the others wait for the turn. */
START_TEST(all_that_sleep_learn_of_it) {
  pid_t getters[MANY], putter = start_putter(0);
  for (int i = 0; i < MANY; i++)
    getters[i] = support_fork(get_to_the_end, (void *)&flags[1]);
  for (int i = 0; i < MANY; i++)
    support_until_asleep(getters[i]);
  support_kill_and_wait(putter);
  for (int i = 0; i < MANY; i++)
    ck_assert_int_eq(support_wait(getters[i]), 0);
  assert_nothing_held();
}
END_TEST

/* Packets are in the pipe, and read ahead, when it dies. */
START_TEST(what_was_sent_is_got_before) {
  pid_t getters[MANY];
  pid_t putter = start_putter(SENT);
  support_kill_and_wait(putter);
  for (int i = 0; i < MANY; i++)
    getters[i] = support_fork(get_to_the_end, (void *)&flags[1]);
  for (int i = 0; i < MANY; i++)
    ck_assert_int_eq(support_wait(getters[i]), 0);
  ck_assert_int_eq(atomic_load(&flags[1]), SENT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(get(0), FORKQ_EALONE);
}
END_TEST

/* The last process that could put dies: one getter is stopped and has the turn, another one waits for it. */
static void leave_alone(pid_t getters[2]) {
  pid_t putter = start_putter(0);
  getters[0] = support_fork(get_to_the_end, (void *)&flags[1]);
  support_until_asleep(getters[0]);
  support_stop(getters[0]);
  getters[1] = support_fork(get_to_the_end, (void *)&flags[1]);
  support_until_asleep(getters[1]);
  support_kill_and_wait(putter);
}

/* Those that wait for the turn look past its owner. */
START_TEST(one_that_is_stopped_keeps_it_from_nobody) {
  pid_t getters[2];
  leave_alone(getters);
  ck_assert_int_eq(support_wait(getters[1]), 0);
  kill(getters[0], SIGCONT);
  ck_assert_int_eq(support_wait(getters[0]), 0);
}
END_TEST

/* The turn passes from one that was told and died. */
START_TEST(one_that_was_killed_keeps_it_from_nobody) {
  pid_t getters[2];
  leave_alone(getters);
  support_kill_and_wait(getters[0]);
  ck_assert_int_eq(support_wait(getters[1]), 0);
}
END_TEST

/* The putter dies in the middle of a message: it fills the pipe, and nobody reads. */
static void begin_a_large_one(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put(7, -1) == 0);
  CHILD_MUST(put_bin(4 * LARGE, -1) == 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

static pid_t start_half(void) {
  pid_t putter = support_fork(begin_a_large_one, NULL);
  support_until(&flags[0]);
  support_until_pipe_full(queue);
  return putter;
}

START_TEST(half_a_message_is_no_item) {
  pid_t putter = start_half();
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(-1), 7);
  ck_assert_int_eq(get(-1), FORKQ_EALONE);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* A part of it was kept for the next get, as its time was over. */
START_TEST(half_a_message_that_is_kept_is_no_item) {
  pid_t putter = start_half();
  support_stop(putter);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  ck_assert_int_eq(get(-1), 7);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  ck_assert_uint_ne(queue->segment->channel.spill.cell, 0);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(-1), FORKQ_EALONE);
  ck_assert_uint_eq(queue->segment->channel.spill.cell, 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
END_TEST

/* Whatever kind of get it is, with and without time. */
START_TEST(each_get_says_so) {
  forkq_item_t items[2] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  char buffer[8];
  size_t n = 99;
  support_kill_and_wait(start_putter(0));
  for (int ms = -1; ms <= 1; ms++) {
    ck_assert_int_eq(forkq_queue_get(queue, items, ms), FORKQ_EALONE);
    ck_assert_int_eq(forkq_queue_get_packed(queue, items, ms), FORKQ_EALONE);
    ck_assert_int_eq(forkq_queue_get_borrowed(queue, items, ms), FORKQ_EALONE);
    ck_assert_int_eq(forkq_queue_get_many(queue, items, 2, ms, &n), FORKQ_EALONE);
    ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, sizeof buffer, ms, &n),
                     FORKQ_EALONE);
  }
  ck_assert_uint_eq(n, 99);
  ck_assert_int_eq(forkq_queue_get_nowait(queue, items), FORKQ_EALONE);
  for (int i = 0; i < 2; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

START_TEST(a_shutdown_comes_before_it) {
  support_kill_and_wait(start_putter(2));
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), 0);
  ck_assert_int_eq(get(-1), 1);
  ck_assert_int_eq(get(-1), 2);
  ck_assert_int_eq(get(-1), FORKQ_ESHUTDOWN);
  ck_assert_int_eq(get(0), FORKQ_ESHUTDOWN);
}
END_TEST

/* ---- who counts --------------------------------------------------------------------------------- */

static void fork_one_that_stays(void *arg) {
  (void)arg;
  pid_t child = fork();
  if (child == 0) {
    support_end_after(60);
    for (;;)
      pause();
  }
  atomic_store(&flags[1], child);
  put_and_stay(NULL);
}

/* It never makes a call on the queue. */
START_TEST(a_child_that_never_uses_the_queue_counts) {
  pid_t putter = support_fork(fork_one_that_stays, NULL);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  kill(atomic_load(&flags[1]), SIGKILL);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

/* It puts for the first time when its parent is dead. */
static void put_late(void *arg) {
  (void)arg;
  if (fork() == 0) {
    support_end_after(60);
    atomic_store(&flags[0], 1);
    support_until(&flags[1]);
    CHILD_MUST(put(5, -1) == 0);
    exit(0);
  }
  for (;;)
    pause();
}

START_TEST(a_child_may_put_after_its_parent_is_dead) {
  pid_t putter = support_fork(put_late, NULL);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  atomic_store(&flags[1], 1);
  ck_assert_int_eq(get(PATIENCE_MS), 5);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

/* cat, which waits for what comes through its standard input. */
static void become_cat(int input) {
  dup2(input, STDIN_FILENO);
  execlp("cat", "cat", (char *)NULL);
  _exit(127);
}

/* `arg`: NULL, or the queue, whose descriptors the program is to inherit. */
static void become_another_program(void *arg) {
  forkq_handover_t handover = FORKQ_HANDOVER_INIT;
  int ends[2];
  CHILD_MUST(pipe(ends) == 0);
  if (arg != NULL)
    CHILD_MUST(forkq_queue_hand_over(arg, &handover) == 0 &&
               forkq_handover_keep(&handover) == 0);
  atomic_store(&flags[0], 1);
  become_cat(ends[0]);
}

static void assert_lives(pid_t child) {
  int status;
  ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
}

START_TEST(a_program_that_was_not_handed_the_queue_does_not_count) {
  pid_t child = support_fork(become_another_program, NULL);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
  assert_lives(child);
  support_kill_and_wait(child);
}
END_TEST

START_TEST(a_program_that_was_handed_the_queue_counts) {
  pid_t child = support_fork(become_another_program, queue);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  support_kill_and_wait(child);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

static void send_and_stay(void *arg) {
  CHILD_MUST(forkq_queue_send(queue, *(int *)arg) == 0);
  put_and_stay(NULL);
}

/* The receiver has its descriptors, whether it has them in hand or not. */
START_TEST(a_queue_on_its_way_counts) {
  int ends[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  pid_t putter = support_fork(send_and_stay, &ends[0]);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  close(ends[0]);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  close(ends[1]);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

/* In a child, as one process has a queue once. */
static void receive_and_put(void *arg) {
  forkq_queue_t *received;
  support_until(&flags[1]);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_receive(&received, *(int *)arg, NULL) == 0);
  CHILD_MUST(put_int(received, 6, -1) == 0);
  forkq_queue_destroy(received);
}

START_TEST(the_receiver_of_a_queue_may_put) {
  int ends[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  pid_t receiver = support_fork(receive_and_put, &ends[1]);
  pid_t putter = support_fork(send_and_stay, &ends[0]);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_kill_and_wait(putter);
  atomic_store(&flags[1], 1);
  ck_assert_int_eq(get(PATIENCE_MS), 6);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
  ck_assert_int_eq(support_wait(receiver), 0);
  close(ends[0]);
  close(ends[1]);
}
END_TEST

/* A worker that could put itself is not told, and others are not, while it lives. */
START_TEST(one_that_has_not_given_up_its_puts_counts) {
  pid_t worker = support_fork(put_and_stay, NULL);
  support_kill_and_wait(start_putter(0));
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  support_stop(worker);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  support_kill_and_wait(worker);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

/* ---- watching ------------------------------------------------------------------------------------ */

static int wait_for_queue(int timeout_ms) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  return forkq_wait(&entry, 1, timeout_ms);
}

static void wait_to_the_end(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(wait_for_queue(PATIENCE_MS) == 1);
  CHILD_MUST(get(0) == FORKQ_EALONE);
  CHILD_MUST(wait_for_queue(0) == 1);
}

START_TEST(forkq_wait_learns_of_it) {
  pid_t putter = start_putter(0);
  pid_t waiter = support_fork(wait_to_the_end, NULL);
  pid_t getter = support_fork(get_to_the_end, (void *)&flags[1]);
  ck_assert_int_eq(wait_for_queue(WHILE_MS), 0);
  support_until_asleep(waiter);
  support_until_asleep(getter);
  support_kill_and_wait(putter);
  ck_assert_int_eq(support_wait(waiter), 0);
  ck_assert_int_eq(support_wait(getter), 0);
  ck_assert_int_eq(wait_for_queue(PATIENCE_MS), 1);
  ck_assert_int_eq(get(0), FORKQ_EALONE);
}
END_TEST

/* An item is in the pipe when it ends, or none. */
START_TEST(the_descriptor_of_a_queue_tells_it) {
  pid_t putter = start_putter(_i);
  struct pollfd fd = { .fd = forkq_queue_fileno(queue), .events = POLLIN };
  ck_assert_int_ge(fd.fd, 0);
  ck_assert_int_eq(poll(&fd, 1, 0), _i);
  support_kill_and_wait(putter);
  if (_i == 1)
    ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(poll(&fd, 1, PATIENCE_MS), 1);
  ck_assert_int_eq(get(0), FORKQ_EALONE);
  ck_assert_int_eq(poll(&fd, 1, 0), 1);
}
END_TEST

/* ---- tasks that come again ----------------------------------------------------------------------- */

/* Gets one, and does not say that it is done. */
static void get_and_stay(void *arg) {
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(get(-1) > 0);
  atomic_store((_Atomic int *)arg, 1);
  for (;;)
    pause();
}

static pid_t start_worker_that_stays(_Atomic int *flag) {
  pid_t worker = support_fork(get_and_stay, (void *)flag);
  support_until(flag);
  return worker;
}

/* The task of a worker comes again, although nobody could put it. */
START_TEST(tasks_of_others_are_waited_for) {
  pid_t putter = start_putter(1);
  pid_t worker = start_worker_that_stays(&flags[1]);
  support_kill_and_wait(putter);
  ck_assert_int_eq(get(WHILE_MS), FORKQ_TIMEDOUT);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(wait_for_queue(WHILE_MS), 0);
  support_kill_and_wait(worker);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE); /* it is this process's own now */
  ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  ck_assert_int_eq(get(PATIENCE_MS), FORKQ_EALONE);
}
END_TEST

static void wait_for_task(void *arg) {
  (void)arg;
  CHILD_MUST(wait_for_queue(PATIENCE_MS) == 1);
  CHILD_MUST(get(0) == 1);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
  CHILD_MUST(wait_for_queue(PATIENCE_MS) == 1);
  CHILD_MUST(get(0) == FORKQ_EALONE);
}

START_TEST(forkq_wait_waits_for_tasks_of_others) {
  pid_t putter = start_putter(1);
  pid_t worker = start_worker_that_stays(&flags[1]);
  support_kill_and_wait(putter);
  pid_t waiter = support_fork(wait_for_task, NULL);
  support_until_asleep(waiter);
  support_kill_and_wait(worker);
  ck_assert_int_eq(support_wait(waiter), 0);
}
END_TEST

static void do_when_told(void *arg) {
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  CHILD_MUST(get(-1) == 1);
  atomic_store((_Atomic int *)arg, 1);
  support_until(&flags[2]);
  CHILD_MUST(forkq_queue_task_done(queue) == 0);
}

/* The last task is done while others sleep: nobody wakes them. */
START_TEST(the_end_comes_with_the_last_task_done) {
  pid_t putter = start_putter(1);
  pid_t worker = support_fork(do_when_told, (void *)&flags[1]);
  support_until(&flags[1]);
  support_kill_and_wait(putter);
  pid_t getter = support_fork(get_to_the_end, (void *)&flags[3]);
  pid_t waiter = support_fork(wait_to_the_end, NULL);
  support_until_asleep(getter);
  support_until_asleep(waiter);
  atomic_store(&flags[2], 1);
  ck_assert_int_eq(support_wait(worker), 0);
  ck_assert_int_eq(support_wait(getter), 0);
  ck_assert_int_eq(support_wait(waiter), 0);
}
END_TEST

static int64_t cpu_ms(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* The pipe is readable for good meanwhile. */
START_TEST(one_that_waits_for_tasks_sleeps) {
  pid_t putter = start_putter(1);
  (void)start_worker_that_stays(&flags[1]);
  support_kill_and_wait(putter);
  _Atomic uint64_t *sleeps = &queue->segment->channel.getter_waits;
  uint64_t slept = atomic_load(sleeps);
  ck_assert_int_eq(get(500), FORKQ_TIMEDOUT);
  ck_assert_uint_lt(atomic_load(sleeps) - slept, 100);
  int64_t before = cpu_ms();
  ck_assert_int_eq(wait_for_queue(500), 0);
  ck_assert_int_lt(cpu_ms() - before, 100);
}
END_TEST

/* They count as tasks until they are given back, which somebody must do. */
static void accept_and_stay(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  CHILD_MUST(put_bin(4 * LARGE, -1) == 0);
  CHILD_MUST(put(1, -1) == 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

/* The beginning of a message is there, too. */
static void wait_to_the_end_of_a_part(void *arg) {
  int64_t value;
  (void)arg;
  CHILD_MUST(forkq_queue_close_put(queue) == 0);
  support_end_after(60);
  do {
    CHILD_MUST(wait_for_queue(PATIENCE_MS) == 1);
    value = get(0);
  } while (value == FORKQ_EMPTY);
  CHILD_MUST(value == FORKQ_EALONE);
}

START_TEST(what_a_dead_process_has_not_sent_is_not_waited_for) {
  pid_t putter = support_fork(accept_and_stay, NULL);
  support_until(&flags[0]);
  support_until_pipe_full(queue);
  support_stop(putter); /* or it would send the rest, as others make room */
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  pid_t waiter = _i == 0 ? support_fork(wait_to_the_end_of_a_part, NULL) : 0;
  ck_assert_int_eq(get(0),
                   FORKQ_EMPTY); /* its first get, which looks for dead processes */
  support_kill_and_wait(putter);
  if (_i == 0)
    ck_assert_int_eq(support_wait(waiter), 0);
  if (_i == 1)
    ck_assert_int_eq(get(-1), FORKQ_EALONE);
  int64_t value = FORKQ_EMPTY;
  for (int tries = 0; value == FORKQ_EMPTY && tries < TRIES; tries++)
    value = get(0); /* takes what is there of the part */
  ck_assert_int_eq(value, FORKQ_EALONE);
}
END_TEST

/* ---- the last put, while a getter looks ----------------------------------------------------------- */

/* It puts and ends in the middle of the next look at the pipe; 0: there is none. */
static pid_t last_putter;

static void put_at_last(void *arg) {
  (void)arg;
  CHILD_MUST(put(1, -1) == 0);
  support_until(&flags[0]);
  CHILD_MUST(put(2, -1) == 0);
  CHILD_MUST(forkq_queue_flush(queue, -1, NULL) == 0);
}

/* The kernel looks for bytes first, and then for writers: it says of a process that comes in between that it is
 * gone, and not what it has written. */
int __real_forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline);
int __wrap_forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline);
int __wrap_forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline) {
  pid_t putter = last_putter;
  if (putter == 0 || count != 1 || fds[0].fd != queue->channel.read_fd)
    return __real_forkq__os_poll(fds, count, deadline);
  last_putter = 0;
  atomic_store(&flags[0], 1);
  ck_assert_int_eq(support_wait(putter), 0);
  fds[0].revents = POLLHUP;
  return 1;
}

/* A reader polls before it reads if any process watches. */
START_TEST(the_last_item_comes_in_the_middle_of_a_look) {
  pid_t putter = support_fork(put_at_last, NULL);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  ck_assert_int_ge(forkq_queue_fileno(queue), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  last_putter = putter;
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(last_putter, 0);
  ck_assert_int_eq(get(0), FORKQ_EALONE);
}
END_TEST

/* ---- a pool --------------------------------------------------------------------------------------- */

static forkq_queue_t *results;

static int work(void *arg) {
  (void)arg;
  int64_t value;
  if (forkq_queue_close_put(queue) < 0)
    return 2;
  while ((value = get(-1)) > 0)
    if (put_int(results, value, -1) < 0)
      return 3;
  return value == FORKQ_EALONE ? EXIT_SUCCESS : 4;
}

/* The parent of a pool, which is killed while its workers wait. */
static void run_pool(void *arg) {
  forkq_process_t *workers[MANY];
  (void)arg;
  for (int i = 0; i < MANY; i++)
    CHILD_MUST(forkq_process_start(&workers[i], work, NULL, NULL) == 0);
  for (int i = 1; i <= ITEMS; i++)
    CHILD_MUST(put(i, -1) == 0);
  for (int i = 1; i <= ITEMS; i++)
    CHILD_MUST(get_int(results, -1) > 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

START_TEST(the_workers_of_a_parent_that_is_killed_end) {
  int lives[2];
  char byte;
  ck_assert_int_eq(forkq_queue_create(&results, 0), 0);
  ck_assert_int_eq(pipe(lives), 0); /* each worker has it open as long as it lives */
  pid_t parent = support_fork(run_pool, NULL);
  close(lives[1]);
  ck_assert_int_eq(forkq_queue_close_put(queue), 0);
  support_until(&flags[0]);
  support_kill_and_wait(parent);
  struct pollfd ends = { .fd = lives[0], .events = POLLIN };
  ck_assert_int_eq(poll(&ends, 1, PATIENCE_MS), 1);
  ck_assert_int_eq(read(lives[0], &byte, 1), 0); /* all have ended */
  close(lives[0]);
  forkq_queue_destroy(results);
}
END_TEST

/* ---- a simple queue -------------------------------------------------------------------------------- */

START_TEST(a_simple_queue_tells_it) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  pid_t putter = support_fork(put_and_stay, (void *)2);
  support_until(&flags[0]);
  ck_assert_int_eq(forkq_simple_queue_close_put(simple_queue), 0);
  pid_t getter = support_fork(get_to_the_end, (void *)&flags[1]);
  support_until_equal((_Atomic uint32_t *)&flags[1], 2);
  support_until_asleep(getter);
  support_kill_and_wait(putter);
  ck_assert_int_eq(support_wait(getter), 0);
  ck_assert_int_eq(forkq_simple_queue_get(simple_queue, &item), FORKQ_EALONE);
  ck_assert_int_eq(forkq_simple_queue_put_int(simple_queue, 1), FORKQ_ECLOSED);
  forkq_item_destroy(&item);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("alone");
  TCase *one = tcase_create("getters");
  tcase_set_timeout(one, 60);
  tcase_add_checked_fixture(one, set_up, queue_tear_down);
  tcase_add_test(one, a_getter_that_sleeps_learns_of_it);
  tcase_add_test(one, all_that_sleep_learn_of_it);
  tcase_add_test(one, what_was_sent_is_got_before);
  tcase_add_test(one, one_that_is_stopped_keeps_it_from_nobody);
  tcase_add_test(one, one_that_was_killed_keeps_it_from_nobody);
  tcase_add_test(one, half_a_message_is_no_item);
  tcase_add_test(one, half_a_message_that_is_kept_is_no_item);
  tcase_add_test(one, each_get_says_so);
  tcase_add_test(one, a_shutdown_comes_before_it);
  tcase_add_test(one, forkq_wait_learns_of_it);
  tcase_add_loop_test(one, the_descriptor_of_a_queue_tells_it, 0, 2);
  tcase_add_test(one, the_last_item_comes_in_the_middle_of_a_look);
  tcase_add_test(one, the_workers_of_a_parent_that_is_killed_end);
  suite_add_tcase(suite, one);
  TCase *counts = tcase_create("who_counts");
  tcase_set_timeout(counts, 60);
  tcase_add_checked_fixture(counts, set_up, queue_tear_down);
  tcase_add_test(counts, a_child_that_never_uses_the_queue_counts);
  tcase_add_test(counts, a_child_may_put_after_its_parent_is_dead);
  tcase_add_test(counts, a_program_that_was_not_handed_the_queue_does_not_count);
  tcase_add_test(counts, a_program_that_was_handed_the_queue_counts);
  tcase_add_test(counts, a_queue_on_its_way_counts);
  tcase_add_test(counts, the_receiver_of_a_queue_may_put);
  tcase_add_test(counts, one_that_has_not_given_up_its_puts_counts);
  suite_add_tcase(suite, counts);
  TCase *tasks = tcase_create("tasks");
  tcase_set_timeout(tasks, 60);
  tcase_add_checked_fixture(tasks, set_up_redelivering, queue_tear_down);
  tcase_add_test(tasks, tasks_of_others_are_waited_for);
  tcase_add_test(tasks, forkq_wait_waits_for_tasks_of_others);
  tcase_add_test(tasks, the_end_comes_with_the_last_task_done);
  tcase_add_test(tasks, one_that_waits_for_tasks_sleeps);
  tcase_add_loop_test(tasks, what_a_dead_process_has_not_sent_is_not_waited_for, 0, 3);
  suite_add_tcase(suite, tasks);
  TCase *simple = tcase_create("simple");
  tcase_set_timeout(simple, 60);
  tcase_add_checked_fixture(simple, set_up_simple, queue_tear_down);
  tcase_add_test(simple, a_simple_queue_tells_it);
  suite_add_tcase(suite, simple);
  return support_main(suite);
}
