/* Ways into another PID namespace, and what a queue of this one is asked there. */
#define _GNU_SOURCE
#include "namespace_helpers.h"
#include "base/os.h"
#include "refuse.h"

#include <fcntl.h>
#include <forkq/loop_handle.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
/* In another namespace the leak checker cannot stop this process's threads, and says what is not. */
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void) {
  return 1;
}
#endif

/* ---- ways into another namespace ----------------------------------------------------------- */

/* The first process of a namespace that others join: its pidfd. It dies with its parent. */
static int space = -1;

void make_space(void) {
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

int wait_for(pid_t pid) {
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
int run_apart(int way, void (*run)(void *arg), void *arg) {
  struct trip trip = { way, run, arg };
  bool directly = way == CLONED || way == CLONED_BARE;
  return wait_for(directly ? depart(&trip) : support_fork(travel, &trip));
}

/* ---- calls --------------------------------------------------------------------------------- */

const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };

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

const struct call calls[CALLS] = {
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

void call_all(void *arg) {
  (void)arg;
  for (size_t i = 0; i < CALLS; i++)
    must_be_refused(&calls[i]);
}

void tell_first(void *arg) {
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

void write_down(struct record *record) {
  struct forkq__segment *segment = queue->segment;
  memset(record, 0, sizeof *record);
  memcpy(&record->channel, &segment->channel, sizeof record->channel);
  memcpy(record->ledger, &segment->ledger, sizeof record->ledger);
  memcpy(record->cells, segment->ledger.cells,
         segment->ledger.cells_used * sizeof record->cells[0]);
}

struct record *before;

bool is_as_it_was(void) {
  static struct record now;
  write_down(&now);
  return memcmp(before, &now, sizeof now) == 0;
}

void one_refused(int way, const struct call *call) {
  CHILD_MUST(run_apart(way, call_first, (void *)(uintptr_t)call) == 0);
}

/* In a child. Each call comes first to some. */
void refused_by_every_way(int64_t items) {
  for (int way = 0; way < WAYS; way++) {
    for (size_t i = (size_t)way; i < CALLS; i += WAYS)
      one_refused(way, &calls[i]);
    CHILD_MUST(run_apart(way, call_all, NULL) == 0);
    CHILD_MUST(run_apart(way, tell_first, &items) == 0);
  }
}

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

void put_one_that_arrives(void) {
  ck_assert_int_eq(put(7, 0), 0);
  until_sent(queue);
}

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

void attach_refused(void *arg) {
  (void)arg;
  CHILD_MUST(attach_copy() == FORKQ_ENAMESPACE);
}

void attach_well(void *arg) {
  (void)arg;
  CHILD_MUST(attach_copy() == 0);
}

/* ---- the test ------------------------------------------------------------------------------ */

static void try_all(void *arg) {
  (void)arg;
  if (unshare(CLONE_NEWPID) != 0 || chroot("/dev") != 0 ||
      syscall(SYS_pidfd_open, getpid(), 0) < 0)
    _exit(SKIPPED);
}

bool has_the_right(void) {
  bool right = support_wait(support_fork(try_all, NULL)) == 0 && can_refuse();
  if (!right)
    printf("skipped: no right here to make namespaces, or no means\n");
  return right;
}

TCase *add_case(Suite *suite) {
  TCase *tcase = tcase_create("PID namespaces");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}
