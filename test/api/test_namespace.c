/* PID namespaces: a robust lock knows its owner by a number that is good in one of them. So who is
 * in another one than the queue can do nothing with it, and does no harm. */
#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/handover.h>
#include <forkq/loop_handle.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77
#define PATIENCE_MS 10000
#define PATIENCE_S 60
#define HUGE (1u << 20) /* bytes: more than the pipe holds */

#if defined(__SANITIZE_ADDRESS__)
/* In another namespace the leak checker cannot stop this process's threads, and says what is not. */
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void) {
  return 1;
}
#endif

/* ---- ways into another namespace ----------------------------------------------------------- */

enum way {
  FORKED,       /* by fork, after unshare */
  ITS_CHILD,    /* that one's, who has called nothing of forkq's */
  CLONED,       /* by glibc's clone */
  CLONED_BARE,  /* by the system call */
  JOINED,       /* by fork, after setns */
  JOINED_CHILD, /* that one's child */
  WAYS
};

/* The first process of a namespace that others join: its pidfd. It dies with its parent. */
static int space = -1;

static void make_space(void) {
  long pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
      pause();
  }
  space = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
  if (space < 0)
    support_child_failed(__FILE__, __LINE__, "a namespace to join");
}

static void drop_space(void) {
  siginfo_t info;
  syscall(SYS_pidfd_send_signal, space, SIGKILL, NULL, 0);
  waitid(P_PIDFD, (id_t)space, &info, WEXITED);
  close(space);
  space = -1;
}

struct trip {
  int way;
  void (*run)(void *arg);
  void *arg;
};

/* Of another namespace the parent has no number, and so support_fork is not for it. */
static int arrive(void *arg) {
  const struct trip *trip = arg;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  support_end_after(PATIENCE_S);
  trip->run(trip->arg);
  _exit(0);
}

static int wait_for(pid_t pid) {
  int status;
  CHILD_MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t fork_to(const struct trip *trip) {
  pid_t pid = fork();
  if (pid == 0)
    arrive((void *)(uintptr_t)trip);
  return pid;
}

static void fork_again(void *arg) {
  _exit(wait_for(fork_to(arg)));
}

/* The child has a copy of all memory, and so a part of this stack for itself. */
static pid_t clone_to(const struct trip *trip) {
  char stack[256 * 1024];
  return clone(arrive, stack + sizeof stack, CLONE_NEWPID | SIGCHLD,
               (void *)(uintptr_t)trip);
}

static pid_t clone_bare_to(const struct trip *trip) {
  long pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0)
    arrive((void *)(uintptr_t)trip);
  return (pid_t)pid;
}

static pid_t depart(const struct trip *trip) {
  const struct trip over_one = { trip->way, fork_again, (void *)(uintptr_t)trip };
  switch (trip->way) {
  case CLONED:
    return clone_to(trip);
  case CLONED_BARE:
    return clone_bare_to(trip);
  case JOINED:
  case JOINED_CHILD:
    CHILD_MUST(setns(space, CLONE_NEWPID) == 0);
    break;
  default:
    CHILD_MUST(unshare(CLONE_NEWPID) == 0);
    break;
  }
  bool directly = trip->way == FORKED || trip->way == JOINED;
  return fork_to(directly ? trip : &over_one);
}

static void travel(void *trip) {
  _exit(wait_for(depart(trip)));
}

/* Runs it in another namespace: 0 if all was well there. A process that has called unshare or setns
 * cannot go back, and has a child go. */
static int run_apart(int way, void (*run)(void *arg), void *arg) {
  struct trip trip = { way, run, arg };
  bool directly = way == CLONED || way == CLONED_BARE;
  return wait_for(directly ? depart(&trip) : support_fork(travel, &trip));
}

/* ---- calls --------------------------------------------------------------------------------- */

static const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };

static int pack_nil(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_nil(packer);
}

static int call_put(void) {
  return put(1, 1000);
}

static int call_put_large(void) {
  return put_bin(HUGE, 1000);
}

static int call_put_with(void) {
  return forkq_queue_put_with(queue, pack_nil, NULL, 1000);
}

static int call_put_many(void) {
  const msgpack_object objects[] = { nil, nil };
  size_t count = 0;
  return forkq_queue_put_many(queue, objects, 2, 1000, &count);
}

static int call_get(void) {
  return (int)get(1000);
}

static int call_get_many(void) {
  forkq_item_t items[] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t count = 0;
  int r = forkq_queue_get_many(queue, items, 2, 1000, &count);
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
  return r;
}

static int call_task_done(void) {
  return forkq_queue_task_done(queue);
}

static int call_join(void) {
  return forkq_queue_join(queue, 1000, NULL);
}

static int call_shutdown(void) {
  return forkq_queue_shutdown(queue, 1);
}

static int call_empty(void) {
  return forkq_queue_empty(queue);
}

static int call_fileno(void) {
  return forkq_queue_fileno(queue);
}

static int call_wait(void) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  return forkq_wait(&entry, 1, 1000);
}

static int call_loop_open(void) {
  forkq_loop_handle_t *own;
  uv_loop_t own_loop;
  CHILD_MUST(uv_loop_init(&own_loop) == 0);
  int r = forkq_loop_open_queue(&own, &own_loop, queue);
  if (r == 0)
    CHILD_MUST(forkq_loop_close(own, NULL, NULL) == 0);
  uv_run(&own_loop, UV_RUN_DEFAULT);
  CHILD_MUST(uv_loop_close(&own_loop) == 0);
  return r;
}

static const struct call {
  const char *name;
  int (*make)(void);
} calls[] = {
  { "put", call_put },
  { "put of a large item", call_put_large },
  { "put_with", call_put_with },
  { "put_many", call_put_many },
  { "get", call_get },
  { "get_many", call_get_many },
  { "task_done", call_task_done },
  { "join", call_join },
  { "shutdown", call_shutdown },
  { "empty", call_empty },
  { "fileno", call_fileno },
  { "forkq_wait", call_wait },
  { "forkq_loop_open_queue", call_loop_open },
};

#define CALLS (sizeof calls / sizeof calls[0])

static void must_be_refused(const struct call *call) {
  int r = call->make();
  if (r != FORKQ_ENAMESPACE)
    fprintf(stderr, "%s: %s\n", call->name, r >= 0 ? "goes well" : forkq_error_name(r));
  CHILD_MUST(r == FORKQ_ENAMESPACE);
}

/* These tell what can be told without a lock. */
static void must_tell(int64_t items) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  CHILD_MUST(forkq_queue_qsize(queue) == items);
  CHILD_MUST(forkq_queue_full(queue) == (items == queue->segment->slots.maxsize));
  CHILD_MUST(forkq_queue_stats(queue, &stats) == 0 &&
             stats.put_items - stats.got_items == (uint64_t)items);
}

static void call_first(void *call) {
  must_be_refused(call);
}

static void call_all(void *arg) {
  (void)arg;
  for (size_t i = 0; i < CALLS; i++)
    must_be_refused(&calls[i]);
}

static void tell_first(void *arg) {
  must_tell(*(const int64_t *)arg);
  call_all(NULL);
}

/* ---- what must stay as it is --------------------------------------------------------------- */

/* All that a lock guards, and the locks. (Who waits for slots may be woken once too often.) */
struct record {
  struct forkq__channel_shared channel;
  char ledger[offsetof(struct forkq__ledger, cells)];
  struct forkq__cell cells[4];
};

static void write_down(struct record *record) {
  struct forkq__segment *segment = queue->segment;
  memset(record, 0, sizeof *record);
  memcpy(&record->channel, &segment->channel, sizeof record->channel);
  memcpy(record->ledger, &segment->ledger, sizeof record->ledger);
  memcpy(record->cells, segment->ledger.cells,
         segment->ledger.cells_used * sizeof record->cells[0]);
}

static struct record *before;

static bool is_as_it_was(void) {
  static struct record now;
  write_down(&now);
  return memcmp(before, &now, sizeof now) == 0;
}

static void one_refused(int way, const struct call *call) {
  CHILD_MUST(run_apart(way, call_first, (void *)(uintptr_t)call) == 0);
}

/* In a child. Each call comes first to some. */
static void refused_by_every_way(int64_t items) {
  for (int way = 0; way < WAYS; way++) {
    for (size_t i = (size_t)way; i < CALLS; i += WAYS)
      one_refused(way, &calls[i]);
    CHILD_MUST(run_apart(way, call_all, NULL) == 0);
    CHILD_MUST(run_apart(way, tell_first, &items) == 0);
  }
}

/* ---- tests --------------------------------------------------------------------------------- */

/* libuv keeps something open from its first loop on. */
static void begin_with_libuv(void) {
  uv_loop_t first;
  ck_assert_int_eq(uv_loop_init(&first), 0);
  ck_assert_int_eq(uv_loop_close(&first), 0);
}

static void set_up(void) {
  before = support_shared(sizeof *before);
  begin_with_libuv();
  make_space();
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
}

static void tear_down(void) {
  queue_tear_down();
  drop_space();
}

static void put_one_that_arrives(void) {
  ck_assert_int_eq(put(7, 0), 0);
  until_sent(queue);
}

START_TEST(the_first_call_in_another_namespace_is_refused) {
  int64_t items = 1;
  put_one_that_arrives();
  write_down(before);
  for (size_t i = 0; i < CALLS; i++)
    one_refused(_i, &calls[i]);
  ck_assert_int_eq(run_apart(_i, call_all, NULL), 0);
  ck_assert_int_eq(run_apart(_i, tell_first, &items), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(get(0), 7);
}
END_TEST

/* Here the numbers are the same: the first process of a namespace, and the first of one in it. */
static void be_first_of_both(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
  make_space();
  CHILD_MUST(getpid() == 1 && forkq_joinable_queue_create(&queue, 10) == 0);
  CHILD_MUST(put(7, 0) == 0);
  until_sent(queue);
  write_down(before);
  refused_by_every_way(1);
  CHILD_MUST(is_as_it_was());
  CHILD_MUST(get(0) == 7);
  forkq_queue_destroy(queue);
}

START_TEST(who_has_the_same_number_in_another_namespace_is_refused) {
  ck_assert_int_eq(run_apart(FORKED, be_first_of_both, NULL), 0);
}
END_TEST

/* ---- leaving --- */

static void close_it(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, 1000, NULL) == 0);
}

static void destroy_it(void *arg) {
  (void)arg;
  forkq_queue_destroy(queue);
}

static void exit_with_it(void *arg) {
  (void)arg;
  exit(0);
}

static void call_and_exit(void *arg) {
  call_all(arg);
  exit(0);
}

static void (*const endings[])(void *arg) = { close_it, destroy_it, exit_with_it,
                                              call_and_exit };

static void leave_by_every_way(void) {
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
      ck_assert_int_eq(run_apart(way, endings[i], NULL), 0);
  ck_assert(is_as_it_was());
}

START_TEST(who_leaves_in_another_namespace_touches_nothing) {
  put_one_that_arrives();
  leave_by_every_way();
  ck_assert_int_eq(get(0), 7);
}
END_TEST

/* It has its parent's items, but is not the one to send them. */
START_TEST(who_leaves_with_items_of_its_parent_touches_nothing) {
  ck_assert_int_eq(put_bin(HUGE, 0), 0);
  ck_assert_int_eq(put(8, 0), 0);
  support_until_pipe_full(queue);
  support_until_threads_asleep(1);
  leave_by_every_way();
  assert_get_bin(HUGE);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

/* ---- meanwhile --- */

#define ITEMS 1000
#define ROUNDS WAYS

static _Atomic int *flag, *rounds;

static void call_all_the_time(void *arg) {
  (void)arg;
  for (int way = 0; !atomic_load(flag); way = (way + 1) % WAYS) {
    CHILD_MUST(run_apart(way, call_all, NULL) == 0);
    CHILD_MUST(run_apart(way, call_and_exit, NULL) == 0);
    atomic_fetch_add(rounds, 1);
  }
}

static void put_items(void *arg) {
  (void)arg;
  for (int i = 1; i <= ITEMS; i++)
    CHILD_MUST(put(i, PATIENCE_MS) == 0);
  forkq_queue_destroy(queue);
}

/* And when those are through, some more, until enough have tried to come between. */
START_TEST(the_others_go_on_meanwhile) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  flag = support_shared(sizeof *flag);
  rounds = support_shared(sizeof *rounds);
  pid_t strangers = support_fork(call_all_the_time, NULL);
  do {
    pid_t putter = support_fork(put_items, NULL);
    for (int i = 1; i <= ITEMS; i++) {
      ck_assert_int_eq(get(PATIENCE_MS), i);
      ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    }
    ck_assert_int_eq(support_wait(putter), 0);
  } while (atomic_load(rounds) < ROUNDS);
  atomic_store(flag, 1);
  ck_assert_int_eq(support_wait(strangers), 0);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
  ck_assert_int_eq(forkq_queue_join(queue, PATIENCE_MS, NULL), 0);
}
END_TEST

static void get_five(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_S * 1000) == 5);
}

/* Nor does their death free a lock of somebody else's. */
START_TEST(the_lock_of_a_sleeper_stays_its_own) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  forkq_queue_stats_t stats = { .size = sizeof stats };
  pid_t sleeper = support_fork(get_five, NULL);
  while (atomic_load(&channel->asleep) == 0)
    sched_yield();
  support_until_asleep(sleeper);
  int owner = channel->turn.mutex.__data.__lock;
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, call_all, NULL), 0);
  ck_assert_int_eq(channel->turn.mutex.__data.__lock, owner);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
  ck_assert_int_eq(put(5, 0), 0);
  ck_assert_int_eq(support_wait(sleeper), 0);
}
END_TEST

/* ---- a process whose children will be in another one --- */

/* It may have no more threads, says the kernel. What runs goes on. */
static void unshare_and_go_on(void *arg) {
  bool has_put = arg != NULL;
  if (has_put)
    CHILD_MUST(put(7, 0) == 0);
  CHILD_MUST(unshare(CLONE_NEWPID) == 0);
  CHILD_MUST(put(8, 0) == (has_put ? 0 : FORKQ_ENOTHREAD));
  if (has_put)
    CHILD_MUST(get(PATIENCE_MS) == 7 && get(PATIENCE_MS) == 8);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(a_process_that_is_to_have_children_elsewhere_is_not_there_itself) {
  char has_put = 1;
  ck_assert_int_eq(support_wait(support_fork(unshare_and_go_on, &has_put)), 0);
  ck_assert_int_eq(support_wait(support_fork(unshare_and_go_on, NULL)), 0);
}
END_TEST

/* ---- on a loop --- */

static uv_loop_t loop;
static forkq_loop_handle_t *handle;

static void ignore(forkq_loop_req_t *req, int status) {
  (void)req;
  (void)status;
}

/* A handle that it was forked with, and has made its own. */
static void go_on_with_the_loop(void *arg) {
  (void)arg;
  forkq_loop_req_t req = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(uv_loop_fork(&loop) == 0 && forkq_loop_fork(handle) == 0);
  CHILD_MUST(forkq_loop_get(&req, handle, &item, 0, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_put(&req, handle, &nil, 0, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_get(&req, handle, &item, -1, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_put(&req, handle, &nil, -1, ignore) == FORKQ_ENAMESPACE);
  CHILD_MUST(forkq_loop_close(handle, NULL, NULL) == 0);
  uv_run(&loop, UV_RUN_DEFAULT);
}

START_TEST(a_handle_on_a_loop_is_refused_in_another_namespace) {
  put_one_that_arrives();
  ck_assert_int_eq(uv_loop_init(&loop), 0);
  ck_assert_int_eq(forkq_loop_open_queue(&handle, &loop, queue), 0);
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, go_on_with_the_loop, NULL), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(forkq_loop_close(handle, NULL, NULL), 0);
  uv_run(&loop, UV_RUN_DEFAULT);
  ck_assert_int_eq(uv_loop_close(&loop), 0);
  ck_assert_int_eq(get(0), 7);
}
END_TEST

/* ---- handing over -------------------------------------------------------------------------- */

/* Descriptors of the queue that are not its own, and their text. */
static void copy_handover(forkq_handover_t *copy) {
  CHILD_MUST(forkq_queue_hand_over(queue, copy) == 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    copy->fds[i] = fcntl(copy->fds[i], F_DUPFD, 0);
    CHILD_MUST(copy->fds[i] >= 0);
  }
  snprintf(copy->text, sizeof copy->text, "forkq:%u:%d:%d:%d:%d:%d",
           FORKQ__SEGMENT_LAYOUT, copy->fds[0], copy->fds[1], copy->fds[2], copy->fds[3],
           copy->fds[4]);
}

/* What it says to a process that has given up its own handle. */
static int attach_copy(void) {
  forkq_handover_t copy;
  forkq_queue_t *attached = NULL;
  copy_handover(&copy);
  forkq_queue_destroy(queue);
  int r = forkq_queue_attach(&attached, copy.text, NULL);
  CHILD_MUST((r == 0) == (attached != NULL));
  if (r == 0) {
    CHILD_MUST(put_int(attached, 1, 0) == 0 && get_int(attached, PATIENCE_MS) == 1);
    forkq_queue_destroy(attached);
  }
  /* They are the queue's, or as they were. */
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(fcntl(copy.fds[i], F_GETFD) == (r == 0 ? -1 : 0));
  return r;
}

static void attach_refused(void *arg) {
  (void)arg;
  CHILD_MUST(attach_copy() == FORKQ_ENAMESPACE);
}

static void attach_well(void *arg) {
  (void)arg;
  CHILD_MUST(attach_copy() == 0);
}

START_TEST(attach_in_another_namespace_is_refused) {
  put_one_that_arrives();
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, attach_refused, NULL), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(get(0), 7);
  ck_assert_int_eq(support_wait(support_fork(attach_well, NULL)), 0);
}
END_TEST

static void receive_refused(void *socket) {
  forkq_queue_t *received = NULL;
  forkq_queue_destroy(queue);
  int open_before = support_open_fds();
  CHILD_MUST(forkq_queue_receive(&received, *(int *)socket, NULL) == FORKQ_ENAMESPACE);
  CHILD_MUST(received == NULL && support_open_fds() == open_before);
}

START_TEST(receive_in_another_namespace_is_refused) {
  int sockets[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  for (int way = 0; way < WAYS; way++) {
    ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
    ck_assert_int_eq(run_apart(way, receive_refused, &sockets[1]), 0);
  }
  close(sockets[0]);
  close(sockets[1]);
}
END_TEST

/* The same program, started anew: what attach says there, and a put and a get. */
static int other_program(const char *text) {
  forkq_queue_t *attached;
  int r = forkq_queue_attach(&attached, text, NULL);
  if (r < 0)
    return r == FORKQ_ENAMESPACE ? SKIPPED : 1;
  r = put_int(attached, 1, 0) == 0 && get_int(attached, PATIENCE_MS) == 1 ? 0 : 2;
  forkq_queue_destroy(attached);
  return r;
}

static void exec_other(void *arg) {
  (void)arg;
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  CHILD_MUST(forkq_handover_keep(&handover) == 0);
  execl("/proc/self/exe", "other", handover.text, NULL);
  _exit(127);
}

START_TEST(a_program_has_the_queue_in_its_namespace_only) {
  ck_assert_int_eq(support_wait(support_fork(exec_other, NULL)), 0);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, exec_other, NULL), SKIPPED);
}
END_TEST

/* ---- without /proc ------------------------------------------------------------------------- */

/* The kernel tells a process its namespace all the same, since Linux 6.11; or it does not. */
enum { TOLD, NOT_TOLD };

static bool kernel_tells(void) {
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  int found = self < 0 ? -1 : ioctl(self, _IO(0xff, 5), 0); /* PIDFD_GET_PID_NAMESPACE */
  if (self >= 0)
    close(self);
  if (found >= 0)
    close(found);
  return found >= 0;
}

static void leave_proc(int told) {
  const struct refusal no_pidfd = { .call = SYS_pidfd_open, .error = ENOSYS };
  CHILD_MUST(chroot("/dev") == 0 && chdir("/") == 0 && access("/proc", F_OK) != 0);
  if (told == NOT_TOLD)
    refuse(&no_pidfd, 1);
  else if (!kernel_tells())
    _exit(SKIPPED);
  CHILD_MUST((told == TOLD) == (forkq__os_pid_namespace() != 0));
}

/* Runs it in a process without, which has only begun; `arg` is told or not. */
static void run_without_proc(void (*run)(void *arg), int told) {
  int status = support_wait(support_fork(run, &told));
  if (status == SKIPPED)
    printf("skipped: the kernel does not tell the namespace without /proc\n");
  else
    ck_assert_int_eq(status, 0);
}

static void put_and_get(void *arg) {
  (void)arg;
  for (int i = 0; i < 100; i++)
    CHILD_MUST(put(i, 0) == 0 && get(PATIENCE_MS) == i);
  forkq_queue_destroy(queue);
}

static void put_and_get_in_a_child(void *arg) {
  CHILD_MUST(wait_for(support_fork(put_and_get, arg)) == 0);
}

static void use_without_proc(void *told) {
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  CHILD_MUST(wait_for(support_fork(put_and_get, NULL)) == 0);
  CHILD_MUST(wait_for(support_fork(put_and_get_in_a_child, NULL)) == 0);
  put_and_get(NULL);
}

START_TEST(without_proc_processes_have_a_queue_by_descent) {
  run_without_proc(use_without_proc, _i);
}
END_TEST

/* A queue that was made with or without. */
static void be_refused_without_proc(void *told) {
  leave_proc(*(int *)told);
  for (int made_here = 0; made_here <= 1; made_here++) {
    if (made_here) {
      forkq_queue_destroy(queue);
      CHILD_MUST(forkq_joinable_queue_create(&queue, 10) == 0);
    }
    CHILD_MUST(put(7, 0) == 0);
    until_sent(queue);
    write_down(before);
    refused_by_every_way(1);
    CHILD_MUST(is_as_it_was());
    CHILD_MUST(get(0) == 7);
  }
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_another_namespace_is_refused) {
  run_without_proc(be_refused_without_proc, _i);
}
END_TEST

static void attach_without_proc(void *told) {
  leave_proc(*(int *)told);
  void (*const attach)(void *) = *(int *)told == TOLD ? attach_well : attach_refused;
  CHILD_MUST(wait_for(support_fork(attach, NULL)) == 0);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  CHILD_MUST(wait_for(support_fork(attach, NULL)) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_a_program_is_refused_where_nothing_tells_its_namespace) {
  run_without_proc(attach_without_proc, _i);
}
END_TEST

/* Fills the queue behind a message that no pipe holds, and waits to be killed. */
static void hoard(void *arg) {
  (void)arg;
  CHILD_MUST(put_bin(HUGE, 0) == 0);
  while (put(1, 0) == 0)
    ;
  CHILD_MUST(queue->channel.account.liveness.fd < 0); /* the lock is the process's */
  atomic_store(flag, 1);
  for (;;)
    pause();
}

static void outlive_a_putter(void *told) {
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_queue_create(&queue, 10) == 0);
  pid_t putter = support_fork(hoard, NULL);
  support_until(flag);
  CHILD_MUST(put(0, 0) == FORKQ_FULL);
  support_kill(putter); /* a zombie */
  for (int i = 0; i < 10; i++)
    CHILD_MUST(put(i, PATIENCE_MS) == 0);
  CHILD_MUST(put(10, 0) == FORKQ_FULL);
  for (int i = 0; i < 10; i++)
    CHILD_MUST(get(PATIENCE_MS) == i);
  CHILD_MUST(wait_for(putter) == 128 + SIGKILL);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_what_a_killed_putter_held_comes_back) {
  flag = support_shared(sizeof *flag);
  run_without_proc(outlive_a_putter, _i);
}
END_TEST

static void get_and_wait(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_MS) == 7);
  CHILD_MUST(queue->channel.account.liveness.tasks.fd < 0);
  atomic_store(flag, 1);
  for (;;)
    pause();
}

static void outlive_a_worker(void *told) {
  uint64_t abandoned = 0;
  leave_proc(*(int *)told);
  forkq_queue_destroy(queue);
  CHILD_MUST(forkq_joinable_queue_create(&queue, 10) == 0);
  CHILD_MUST(put(7, 0) == 0);
  pid_t worker = support_fork(get_and_wait, NULL);
  support_until(flag);
  CHILD_MUST(forkq_queue_join(queue, 0, NULL) == FORKQ_TIMEDOUT);
  support_kill(worker);
  CHILD_MUST(forkq_queue_join(queue, PATIENCE_MS, &abandoned) == FORKQ_EABANDONED);
  CHILD_MUST(abandoned == 1 && wait_for(worker) == 128 + SIGKILL);
  forkq_queue_destroy(queue);
}

START_TEST(without_proc_the_tasks_of_a_killed_worker_are_abandoned) {
  flag = support_shared(sizeof *flag);
  run_without_proc(outlive_a_worker, _i);
}
END_TEST

/* ---- main ---------------------------------------------------------------------------------- */

static void try_all(void *arg) {
  (void)arg;
  if (unshare(CLONE_NEWPID) != 0 || chroot("/dev") != 0 ||
      syscall(SYS_pidfd_open, getpid(), 0) < 0)
    _exit(SKIPPED);
}

static bool has_the_right(void) {
  return support_wait(support_fork(try_all, NULL)) == 0 && can_refuse();
}

int main(int argc, char **argv) {
  if (argc == 2)
    return other_program(argv[1]);
  if (!has_the_right()) {
    printf("skipped: no right here to make namespaces, or no means\n");
    return SKIPPED;
  }
  Suite *suite = suite_create("namespace");
  TCase *tcase = tcase_create("PID namespaces");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, the_first_call_in_another_namespace_is_refused, 0, WAYS);
  tcase_add_test(tcase, who_has_the_same_number_in_another_namespace_is_refused);
  tcase_add_test(tcase, who_leaves_in_another_namespace_touches_nothing);
  tcase_add_test(tcase, who_leaves_with_items_of_its_parent_touches_nothing);
  tcase_add_test(tcase, the_others_go_on_meanwhile);
  tcase_add_test(tcase, the_lock_of_a_sleeper_stays_its_own);
  tcase_add_test(tcase, a_process_that_is_to_have_children_elsewhere_is_not_there_itself);
  tcase_add_test(tcase, a_handle_on_a_loop_is_refused_in_another_namespace);
  tcase_add_test(tcase, attach_in_another_namespace_is_refused);
  tcase_add_test(tcase, receive_in_another_namespace_is_refused);
  tcase_add_test(tcase, a_program_has_the_queue_in_its_namespace_only);
  tcase_add_loop_test(tcase, without_proc_processes_have_a_queue_by_descent, 0, 2);
  tcase_add_loop_test(tcase, without_proc_another_namespace_is_refused, 0, 2);
  tcase_add_loop_test(
      tcase, without_proc_a_program_is_refused_where_nothing_tells_its_namespace, 0, 2);
  tcase_add_loop_test(tcase, without_proc_what_a_killed_putter_held_comes_back, 0, 2);
  tcase_add_loop_test(tcase, without_proc_the_tasks_of_a_killed_worker_are_abandoned, 0,
                      2);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
