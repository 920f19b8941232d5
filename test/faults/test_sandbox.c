/* What the kernel refuses, as in a container or a sandbox: a call either has another way, or says
 * what it met. Nothing hangs, and nothing stays open. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/handover.h>
#include <forkq/loop_handle.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77
#define PATIENCE_MS 10000
#define PATIENCE_S 60
#define IN_VAIN_MS 300
#define LARGE 30000      /* bytes: several packets, also of the least pipe */
#define HUGE (1u << 20)  /* more than the pipe holds */
#define FDS_LOOKED_AT 64 /* more than the test opens */

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int open_fds(void) {
  return support_open_fds_below(FDS_LOOKED_AT);
}

/* ---- robust mutexes that do not work ------------------------------------------------------- */

#define NO_ROBUST 10

/* What a program says in which they do not. */
static int other_program(const char *role, const char *text) {
  forkq_queue_t *own = NULL;
  int before = open_fds();
  support_end_after(PATIENCE_S);
  int r = strcmp(role, "create") == 0 ? forkq_queue_create(&own, 0)
                                      : forkq_queue_attach(&own, text, NULL);
  if (r < 0)
    return r == FORKQ_ENOROBUST && own == NULL && open_fds() == before ? NO_ROBUST : 1;
  r = put_int(own, 1, 0) == 0 && get_int(own, PATIENCE_MS) == 1 ? 0 : 2;
  forkq_queue_destroy(own);
  return r;
}

struct program {
  const char *role;
  const struct refusal *refusals;
  size_t count;
};

static void exec_other(void *arg) {
  const struct program *program = arg;
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  CHILD_MUST(forkq_handover_keep(&handover) == 0);
  refuse(program->refusals, program->count);
  execl("/proc/self/exe", "other", program->role, handover.text, NULL);
  _exit(127);
}

static int run_other(const char *role, const struct refusal *refusals, size_t count) {
  struct program program = { role, refusals, count };
  return support_wait(support_fork(exec_other, &program));
}

static void set_up_queue(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static const int errors[] = { EPERM, ENOSYS };

/* The kernel does not have the thread's list; and whether it says so. */
START_TEST(a_program_without_robust_mutexes_is_told_so) {
  int error = errors[_i];
  const struct refusal without[] = { { .call = SYS_set_robust_list, .error = error },
                                     { .call = SYS_get_robust_list, .error = error } };
  for (size_t count = 1; count <= COUNT(without); count++) {
    ck_assert_int_eq(run_other("create", without, count), NO_ROBUST);
    ck_assert_int_eq(run_other("attach", without, count), NO_ROBUST);
  }
  /* What cannot be asked is tried. */
  ck_assert_int_eq(run_other("create", without + 1, 1), 0);
  ck_assert_int_eq(run_other("attach", without + 1, 1), 0);
}
END_TEST

static void use_and_be_refused(void *arg) {
  (void)arg;
  forkq_queue_stats_t stats = { .size = sizeof stats };
  CHILD_MUST(put(1, 1000) == FORKQ_ENOROBUST);
  CHILD_MUST(get(1000) == FORKQ_ENOROBUST);
  CHILD_MUST(forkq_queue_fileno(queue) == FORKQ_ENOROBUST);
  CHILD_MUST(forkq_queue_shutdown(queue, 1) == FORKQ_ENOROBUST);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  CHILD_MUST(forkq_queue_stats(queue, &stats) == 0);
  forkq_queue_destroy(queue);
}

/* This thread's list was known to the kernel before; the child's is not. */
static void refuse_and_fork(void *error) {
  const struct refusal without = { .call = SYS_set_robust_list, .error = *(int *)error };
  refuse(&without, 1);
  CHILD_MUST(support_wait(support_fork(use_and_be_refused, NULL)) == 0);
  CHILD_MUST(put(1, 0) == 0 && get(PATIENCE_MS) == 1);
  forkq_queue_destroy(queue);
}

START_TEST(a_child_without_robust_mutexes_is_told_so) {
  int error = errors[_i];
  ck_assert_int_eq(support_wait(support_fork(refuse_and_fork, &error)), 0);
}
END_TEST

/* ---- what a program does with queues and connections --------------------------------------- */

/* In a sandbox. Each makes what it needs, and ends with the first error, or 0. */
enum step {
  PUT_AND_GET,
  LARGE_ITEM,
  IN_FRAGMENTS, /* a large item that goes through the pipe */
  KEPT_PART,    /* a get leaves what has come of an item, another one goes on with it */
  BY_A_CHILD,
  OF_THE_DEAD, /* slots */
  TASKS,       /* and of the dead */
  FILENO,
  WAIT,
  LOOP,
  INTERRUPT,
  ATTACH,
  PIPE,
  SOCKETS,
  DESCRIPTOR, /* sent over a socket */
  PROCESS,
  STEPS
};

static const char *const names[STEPS] = {
  [PUT_AND_GET] = "put and get",
  [LARGE_ITEM] = "a large item",
  [IN_FRAGMENTS] = "a large item in fragments",
  [KEPT_PART] = "a part that is kept",
  [BY_A_CHILD] = "put by a child",
  [OF_THE_DEAD] = "slots of the dead",
  [TASKS] = "tasks of the dead",
  [FILENO] = "fileno",
  [WAIT] = "forkq_wait",
  [LOOP] = "on a loop",
  [INTERRUPT] = "interrupted",
  [ATTACH] = "attach",
  [PIPE] = "a connection over a pipe",
  [SOCKETS] = "a connection over sockets",
  [DESCRIPTOR] = "a descriptor over a connection",
  [PROCESS] = "a process",
};

static struct shared { _Atomic int result, flag; } * shared;

static int patience_ms; /* for what comes, or does not */

/* Puts a number and gets it. */
static int pass(forkq_queue_t *through, int number) {
  int r = put_int(through, number, 0);
  if (r < 0)
    return r;
  int64_t got = get_int(through, patience_ms);
  CHILD_MUST(got < 0 || got == number);
  return got < 0 ? (int)got : 0;
}

static int put_and_get(void) {
  int r = 0;
  for (int i = 0; i < 10 && r == 0; i++)
    r = pass(queue, i);
  return r;
}

static int get_bin(size_t size, int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_packed(queue, &item, timeout_ms);
  CHILD_MUST(r < 0 || is_bin(&item, size));
  forkq_item_destroy(&item);
  return r;
}

/* All of it is there before it is got: no part is kept. */
static int large_item(void) {
  int r = put_bin(LARGE, 0);
  if (r < 0)
    return r;
  until_sent(queue);
  return get_bin(LARGE, patience_ms);
}

static int in_fragments(void) {
  support_keep_to_pipe(queue);
  return large_item();
}

static void put_huge(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  atomic_store(&shared->result, put_bin(HUGE, 0));
  atomic_store(&shared->flag, 1);
  forkq_queue_destroy(queue);
}

/* By a call that no sandbox here refuses. */
static void send_signal(pid_t to, int number) {
  CHILD_MUST(syscall(SYS_tgkill, to, to, number) == 0);
}

static void stop(pid_t child) {
  siginfo_t info;
  send_signal(child, SIGSTOP);
  CHILD_MUST(waitid(P_PID, (id_t)child, &info, WSTOPPED | WNOWAIT) == 0);
}

static void until_pipe_full(void) {
  struct pollfd end = { .fd = queue->channel.write_fd, .events = POLLOUT };
  while (poll(&end, 1, 0) != 0)
    usleep(100);
}

/* The sender is stopped in the middle. */
static int kept_part(void) {
  pid_t sender = support_fork(put_huge, NULL);
  support_until(&shared->flag);
  int r = atomic_load(&shared->result);
  if (r == 0) {
    until_pipe_full();
    stop(sender);
    CHILD_MUST(get_bin(HUGE, 0) == FORKQ_EMPTY);
    CHILD_MUST(atomic_load(&queue->segment->channel.spill.cell) != 0);
    CHILD_MUST(forkq_queue_qsize(queue) == 1); /* it lives */
    send_signal(sender, SIGCONT);
    r = get_bin(HUGE, patience_ms);
    if (r < 0)
      send_signal(sender, SIGKILL);
  }
  int status = support_wait(sender);
  CHILD_MUST(r < 0 || status == 0);
  return r;
}

static void put_one(void *arg) {
  (void)arg;
  atomic_store(&shared->result, put(5, 0));
  forkq_queue_destroy(queue);
}

static int by_a_child(void) {
  CHILD_MUST(support_wait(support_fork(put_one, NULL)) == 0);
  int r = atomic_load(&shared->result);
  if (r < 0)
    return r;
  r = (int)get(patience_ms);
  return r == 5 ? 0 : r;
}

static void fill_and_die(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  int r = put_bin(HUGE, 0);
  while (r == 0)
    r = put(1, 0);
  atomic_store(&shared->result, r);
}

static int of_the_dead(void) {
  CHILD_MUST(support_wait(support_fork(fill_and_die, NULL)) == 0);
  int r = atomic_load(&shared->result);
  if (r != FORKQ_FULL)
    return r;
  return put(2, patience_ms);
}

static void get_and_die(void *arg) {
  (void)arg;
  atomic_store(&shared->result, (int)get(patience_ms));
}

static int tasks(void) {
  int r = put(5, 0);
  if (r < 0)
    return r;
  CHILD_MUST(support_wait(support_fork(get_and_die, NULL)) == 0);
  r = atomic_load(&shared->result);
  if (r < 0)
    return r;
  CHILD_MUST(r == 5);
  r = forkq_queue_join(queue, patience_ms, NULL);
  CHILD_MUST(r != 0);
  return r == FORKQ_EABANDONED ? 0 : r;
}

static int fileno_of_it(void) {
  int fd = forkq_queue_fileno(queue);
  if (fd < 0)
    return fd;
  struct pollfd items = { .fd = fd, .events = POLLIN };
  CHILD_MUST(poll(&items, 1, 0) == 0);
  int r = put(1, 0);
  CHILD_MUST(r < 0 || (poll(&items, 1, patience_ms) == 1 && get(0) == 1));
  return r;
}

static int wait_for_it(void) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  int r = put(1, 0);
  if (r == 0)
    r = forkq_wait(&entry, 1, patience_ms);
  return r == 1 ? 0 : r;
}

static void interrupt(int signo) {
  (void)signo;
  CHILD_MUST(forkq_queue_interrupt(queue) == 0);
}

static void get_until_interrupted(void *arg) {
  (void)arg;
  struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESTART };
  CHILD_MUST(sigaction(SIGUSR1, &action, NULL) == 0);
  CHILD_MUST(get(-1) == FORKQ_EINTERRUPTED);
  forkq_queue_destroy(queue);
}

/* The second one waits for the turn. */
static int be_interrupted(void) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  pid_t getters[2];
  int r = pass(queue, 1);
  if (r < 0)
    return r;
  for (int i = 0; i < 2; i++) {
    getters[i] = support_fork(get_until_interrupted, NULL);
    support_until_equal(i == 0 ? &channel->asleep : &channel->turn_waiting, 1);
  }
  for (int i = 1; i >= 0; i--) {
    send_signal(getters[i], SIGUSR1);
    CHILD_MUST(support_wait(getters[i]) == 0);
  }
  return 0;
}

static void keep_status(forkq_loop_req_t *req, int status) {
  *(int *)req->data = status;
}

/* libuv's own calls may be refused as well. */
static int on_a_loop(void) {
  uv_loop_t loop;
  forkq_loop_handle_t *handle;
  const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  forkq_item_t item = FORKQ_ITEM_INIT;
  int status[2] = { 1, 1 };
  forkq_loop_req_t reqs[2] = { { .data = &status[0] }, { .data = &status[1] } };
  int r = uv_loop_init(&loop);
  if (r < 0)
    return r;
  r = forkq_loop_open_queue(&handle, &loop, queue);
  if (r == 0) {
    CHILD_MUST(forkq_loop_get(&reqs[0], handle, &item, patience_ms, keep_status) == 0);
    r = forkq_loop_put(&reqs[1], handle, &nil, 0, keep_status);
    while (r == 0 && (status[0] == 1 || status[1] == 1))
      uv_run(&loop, UV_RUN_ONCE);
    CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
    if (r == 0)
      r = status[0] < 0 ? status[0] : status[1];
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  CHILD_MUST(uv_loop_close(&loop) == 0);
  forkq_item_destroy(&item);
  return r;
}

/* To a process that has given up its own handle. */
static void attach_anew(void *arg) {
  (void)arg;
  forkq_handover_t it;
  forkq_queue_t *attached;
  CHILD_MUST(forkq_queue_hand_over(queue, &it) == 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST((it.fds[i] = fcntl(it.fds[i], F_DUPFD, 0)) >= 0);
  snprintf(it.text, sizeof it.text, "forkq:%u:%d:%d:%d:%d:%d", FORKQ__SEGMENT_LAYOUT,
           it.fds[0], it.fds[1], it.fds[2], it.fds[3], it.fds[4]);
  forkq_queue_destroy(queue);
  int before = open_fds();
  int r = forkq_queue_attach(&attached, it.text, NULL);
  CHILD_MUST(open_fds() == before);
  if (r == 0) {
    r = pass(attached, 9);
    forkq_queue_destroy(attached);
  }
  atomic_store(&shared->result, r);
}

static int attach(void) {
  CHILD_MUST(support_wait(support_fork(attach_anew, NULL)) == 0);
  return atomic_load(&shared->result);
}

static int send_over(forkq_connection_t *from, forkq_connection_t *to, size_t size) {
  char *data = calloc(1, size);
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_connection_send_bytes(from, data, size, 0, FORKQ_ALL);
  if (r == 0)
    r = forkq_connection_recv_bytes(to, &item, FORKQ_ALL);
  CHILD_MUST(r < 0 || item.size == size);
  forkq_item_destroy(&item);
  free(data);
  return r;
}

static int connection(int duplex) {
  forkq_connection_t *reads, *writes;
  int r = forkq_pipe(&reads, &writes, duplex);
  if (r < 0)
    return r;
  r = send_over(writes, reads, 100);
  if (r == 0)
    r = send_over(writes, reads, 20000);
  forkq_connection_destroy(reads);
  forkq_connection_destroy(writes);
  return r;
}

static int over_a_pipe(void) {
  return connection(0);
}

static int over_sockets(void) {
  return connection(1);
}

static int over_a_socket(void) {
  forkq_connection_t *a, *b;
  int r = forkq_pipe(&a, &b, 1);
  if (r < 0)
    return r;
  r = forkq_connection_send_fd(a, STDERR_FILENO);
  int fd = -1;
  if (r == 0)
    r = forkq_connection_recv_fd(b, &fd);
  if (r == 0)
    close(fd);
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
  return r;
}

static int sleep_on(void *nothing) {
  (void)nothing;
  for (;;)
    pause();
  return 0;
}

static int a_process(void) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  forkq_process_t *process;
  int code = 0;
  options.daemon = 1;
  int r = forkq_process_start(&process, sleep_on, NULL, &options);
  if (r < 0)
    return r;
  CHILD_MUST(forkq_process_join(process, 0) == FORKQ_TIMEDOUT);
  CHILD_MUST(forkq_process_terminate(process) == 0);
  CHILD_MUST(forkq_process_join(process, patience_ms) == 0);
  CHILD_MUST(forkq_process_exitcode(process, &code) == 1 && code == -SIGTERM);
  forkq_process_destroy(process);
  return 0;
}

static int (*const steps[STEPS])(void) = {
  [PUT_AND_GET] = put_and_get,
  [LARGE_ITEM] = large_item,
  [IN_FRAGMENTS] = in_fragments,
  [KEPT_PART] = kept_part,
  [BY_A_CHILD] = by_a_child,
  [OF_THE_DEAD] = of_the_dead,
  [TASKS] = tasks,
  [FILENO] = fileno_of_it,
  [WAIT] = wait_for_it,
  [LOOP] = on_a_loop,
  [INTERRUPT] = be_interrupted,
  [ATTACH] = attach,
  [PIPE] = over_a_pipe,
  [SOCKETS] = over_sockets,
  [DESCRIPTOR] = over_a_socket,
  [PROCESS] = a_process,
};

static bool is_of_a_queue(int step) {
  return step <= ATTACH;
}

static int take_step(int step) {
  atomic_store(&shared->flag, 0);
  atomic_store(&shared->result, 0);
  if (!is_of_a_queue(step))
    return steps[step]();
  int r = step == TASKS ? forkq_joinable_queue_create(&queue, 10)
                        : forkq_queue_create(&queue, 10);
  if (r < 0)
    return r;
  r = steps[step]();
  forkq_queue_cancel_join_thread(queue);
  forkq_queue_destroy(queue);
  return r;
}

/* ---- what is refused ----------------------------------------------------------------------- */

#define SAME 1 /* the error is that of the system call */

#define EVERY_QUEUE(error)                                                               \
  [PUT_AND_GET] = error, [LARGE_ITEM] = error, [IN_FRAGMENTS] = error,                   \
  [KEPT_PART] = error, [BY_A_CHILD] = error, [OF_THE_DEAD] = error, [TASKS] = error,     \
  [FILENO] = error, [WAIT] = error, [LOOP] = error, [INTERRUPT] = error,                 \
  [ATTACH] = error

static const struct sandbox {
  const char *name;
  int only; /* with this error; 0: with all */
  struct refusal refusals[2];
  int results[STEPS]; /* where they are not 0 */
} sandboxes[] = {
  /* What has another way. */
  { "nothing", 0, { { .call = -1 } }, { 0 } },
  { "fallocate", 0, { { .call = SYS_fallocate } }, { 0 } },
  { "madvise", 0, { { .call = SYS_madvise } }, { 0 } },
  { "kill", 0, { { .call = SYS_kill } }, { 0 } },
  { "openat", 0, { { .call = SYS_openat } }, { 0 } },
  { "pidfd_open", 0, { { .call = SYS_pidfd_open } }, { 0 } },
  { "pidfd_send_signal", 0, { { .call = SYS_pidfd_send_signal } }, { 0 } },
  { "stat by a path", 0, { { SYS_newfstatat, 0, 4, 0 } }, { 0 } },
  { "getrlimit", 0, { { .call = SYS_prlimit64 } }, { 0 } },
  { "get_robust_list", 0, { { .call = SYS_get_robust_list } }, { 0 } },
#ifdef SYS_futex_waitv /* headers of Linux 5.16 */
  { "futex_waitv", 0, { { .call = SYS_futex_waitv } }, { 0 } },
#endif
  { "fcntl F_SETPIPE_SZ", 0, { { SYS_fcntl, 0, 2, F_SETPIPE_SZ } }, { 0 } },
  { "ioctl FIONREAD", 0, { { SYS_ioctl, 0, 2, FIONREAD } }, { 0 } },
  { "pwritev2", 0, { { .call = SYS_pwritev2 } }, { 0 } },
  { "clone3", ENOSYS, { { .call = SYS_clone3 } }, { 0 } },
  /* What nothing here calls. */
  { "statx", 0, { { .call = SYS_statx } }, { 0 } },
  { "membarrier", 0, { { .call = SYS_membarrier } }, { 0 } },
  { "getrandom", 0, { { .call = SYS_getrandom } }, { 0 } },
  /* Without which there is no queue. */
  { "memfd_create", 0, { { .call = SYS_memfd_create } }, { EVERY_QUEUE(SAME) } },
  { "ftruncate", 0, { { .call = SYS_ftruncate } }, { EVERY_QUEUE(SAME) } },
  { "fcntl F_ADD_SEALS", 0, { { SYS_fcntl, 0, 2, F_ADD_SEALS } }, { EVERY_QUEUE(SAME) } },
  { "mmap, shared", 0, { { SYS_mmap, 0, 4, MAP_SHARED } }, { EVERY_QUEUE(SAME) } },
  { "eventfd", 0, { { .call = SYS_eventfd2 } }, { EVERY_QUEUE(SAME) } },
  { "pipe2",
    0,
    { { .call = SYS_pipe2 } },
    { EVERY_QUEUE(SAME), [PIPE] = SAME, [PROCESS] = SAME } },
  { "fallocate, and writing instead",
    0,
    { { .call = SYS_fallocate }, { .call = SYS_pwrite64 } },
    { EVERY_QUEUE(SAME) } },
  /* Without which it does less. */
  { "fcntl F_OFD_SETLK", 0, { { SYS_fcntl, 0, 2, F_OFD_SETLK } }, { EVERY_QUEUE(SAME) } },
  { "fcntl F_OFD_GETLK",
    0,
    { { SYS_fcntl, 0, 2, F_OFD_GETLK } },
    { [TASKS] = FORKQ_TIMEDOUT } },
  { "clone3", EPERM, { { .call = SYS_clone3 } }, { EVERY_QUEUE(FORKQ_ENOTHREAD) } },
  { "epoll_create1",
    0,
    { { .call = SYS_epoll_create1 } },
    { [FILENO] = SAME, [LOOP] = SAME } },
  { "epoll_ctl", 0, { { .call = SYS_epoll_ctl } }, { [FILENO] = SAME, [LOOP] = SAME } },
  { "fcntl F_DUPFD_CLOEXEC",
    0,
    { { SYS_fcntl, 0, 2, F_DUPFD_CLOEXEC } },
    { [LOOP] = SAME } },
  { "fcntl F_SETFD", 0, { { SYS_fcntl, 0, 2, F_SETFD } }, { [ATTACH] = SAME } },
  { "fcntl F_GETFL", 0, { { SYS_fcntl, 0, 2, F_GETFL } }, { [ATTACH] = SAME } },
  { "fcntl F_GET_SEALS",
    0,
    { { SYS_fcntl, 0, 2, F_GET_SEALS } },
    { [ATTACH] = FORKQ_EHANDOVER } },
  { "pread",
    0,
    { { .call = SYS_pread64 } },
    { [KEPT_PART] = -ENOMEM, [ATTACH] = FORKQ_EHANDOVER } },
  { "socketpair",
    0,
    { { .call = SYS_socketpair } },
    { [SOCKETS] = SAME, [DESCRIPTOR] = SAME } },
  { "sendmsg",
    0,
    { { .call = SYS_sendmsg } },
    { [SOCKETS] = SAME, [DESCRIPTOR] = SAME } },
  { "recvmsg", 0, { { .call = SYS_recvmsg } }, { [DESCRIPTOR] = SAME } },
  { "getsockopt", 0, { { .call = SYS_getsockopt } }, { [DESCRIPTOR] = SAME } },
  { "pwritev2 and writev",
    0,
    { { .call = SYS_pwritev2 }, { .call = SYS_writev } },
    { [PIPE] = SAME, [PROCESS] = SAME } },
  { "fcntl F_SETSIG", 0, { { SYS_fcntl, 0, 2, F_SETSIG } }, { [PROCESS] = SAME } },
};

struct visit {
  const struct sandbox *sandbox;
  int error;
};

static void live_there(void *arg) {
  const struct visit *visit = arg;
  struct refusal refusals[COUNT(visit->sandbox->refusals)];
  for (size_t i = 0; i < COUNT(refusals); i++) {
    refusals[i] = visit->sandbox->refusals[i];
    refusals[i].error = visit->error;
    if (refusals[i].call == 0)
      refusals[i].call = -1;
  }
  support_end_after(PATIENCE_S);
  refuse(refusals, COUNT(refusals));
  for (int step = 0; step < STEPS; step++) {
    int wanted = visit->sandbox->results[step], before = open_fds();
    wanted = wanted == SAME ? -visit->error : wanted;
    patience_ms = wanted == FORKQ_TIMEDOUT ? IN_VAIN_MS : PATIENCE_MS;
    int r = take_step(step);
    if (r != wanted || open_fds() != before)
      fprintf(stderr, "without %s (%s): %s: %s, %d descriptors stay\n",
              visit->sandbox->name, strerrorname_np(visit->error), names[step],
              r == 0 ? "0" : forkq_error_name(r), open_fds() - before);
    CHILD_MUST(r == wanted && open_fds() == before);
  }
}

static bool is_met(const struct sandbox *sandbox, int error) {
  return sandbox->only == 0 || sandbox->only == error;
}

START_TEST(what_is_refused_has_another_way_or_is_an_error) {
  shared = support_shared(sizeof *shared);
  for (size_t i = 0; i < COUNT(errors); i++) {
    struct visit visit = { &sandboxes[_i], errors[i] };
    if (is_met(visit.sandbox, visit.error))
      ck_assert_int_eq(support_wait(support_fork(live_there, &visit)), 0);
  }
}
END_TEST

/* libuv keeps something open from its first loop on. */
static void begin_with_libuv(void) {
  uv_loop_t first;
  if (uv_loop_init(&first) == 0)
    uv_loop_close(&first);
}

int main(int argc, char **argv) {
  if (argc == 3)
    return other_program(argv[1], argv[2]);
  if (!can_refuse()) {
    printf("skipped: no filters of system calls here\n");
    return SKIPPED;
  }
  begin_with_libuv();
  Suite *suite = suite_create("sandbox");
  TCase *robust = tcase_create("robust mutexes");
  tcase_set_timeout(robust, 60);
  tcase_add_checked_fixture(robust, set_up_queue, queue_tear_down);
  tcase_add_loop_test(robust, a_program_without_robust_mutexes_is_told_so, 0, 2);
  tcase_add_loop_test(robust, a_child_without_robust_mutexes_is_told_so, 0, 2);
  suite_add_tcase(suite, robust);
  TCase *all = tcase_create("all calls");
  tcase_set_timeout(all, 60);
  tcase_add_loop_test(all, what_is_refused_has_another_way_or_is_an_error, 0,
                      (int)COUNT(sandboxes));
  suite_add_tcase(suite, all);
  return support_main(suite);
}
