/* Scenarios of faults in which a queue is looked at, ended, or used beside processes that are dead
 * or stopped. */
#define _GNU_SOURCE
#include "fault_world.h"
#include "queue/queue_impl.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- tasks, looking, ending ---------------------------------------------------------- */

static void make_joinable(struct world *w) {
  CHILD_MUST(create(w, 0, true, true) == 0);
}

static void act_tasks(struct world *w) {
  put_small(w, 4);
  put_small(w, 5);
  for (int i = 0; i < 2; i++) {
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
    if (w->last == 0)
      met(w, forkq_queue_task_done(w->queue));
  }
  met(w, forkq_queue_join(w->queue, SOON_MS, NULL));
}

/* Join comes to its end, with what was not worked off in the act. */
static void after_tasks(struct world *w) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  use_queue(w);
  while (forkq_queue_task_done(w->queue) == 0)
    ;
  CHILD_MUST(forkq_queue_task_done(w->queue) == FORKQ_ETASKDONE);
  CHILD_MUST(forkq_queue_join(w->queue, PATIENCE_MS, NULL) == 0);
  CHILD_MUST(forkq_queue_stats(w->queue, &stats) == 0);
  destroy_queue(w);
}

static void act_look(struct world *w) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  CHILD_MUST(forkq_queue_qsize(w->queue) >= 0);
  met(w, forkq_queue_empty(w->queue));
  met(w, forkq_queue_full(w->queue));
  met(w, forkq_queue_stats(w->queue, &stats));
}

static void act_shutdown(struct world *w) {
  met(w, forkq_queue_shutdown(w->queue, 0));
  for (int i = 0; i < 4; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

static void after_shutdown(struct world *w) {
  drain(w);
  msgpack_object object = small(LAST_ID);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == FORKQ_ESHUTDOWN);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == FORKQ_ESHUTDOWN);
  destroy_queue(w);
}

static void act_shutdown_now(struct world *w) {
  met(w, forkq_queue_shutdown(w->queue, 1));
  met(w, forkq_queue_get(w->queue, &w->item, SOON_MS));
}

static void after_shutdown_now(struct world *w) {
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, 1000) == FORKQ_ESHUTDOWN);
  destroy_queue(w);
}

/* A second process has the queue and gets what this one sends as it ends. */
static void get_all(void *arg) {
  struct world *w = arg;
  w->got = 0;
  for (;;) {
    int r = get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, PATIENCE_MS));
    CHILD_MUST(r == 0);
    if (w->got & bit(9))
      break;
  }
  uint64_t got = w->got;
  CHILD_MUST(write(w->fds[3], &got, sizeof got) == (ssize_t)sizeof got);
}

static void make_with_getter(struct world *w) {
  int ends[2];
  make_kept_to_pipe(w);
  CHILD_MUST(pipe2(ends, O_CLOEXEC) == 0);
  w->fds[2] = ends[0];
  w->fds[3] = ends[1];
  w->fds[0] = support_fork(get_all, w);
}

static void act_close(struct world *w) {
  uint64_t unsent = 0;
  put_small(w, 4);
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
  put_small(w, 9);
  met(w, forkq_queue_close(w->queue));
  met(w, forkq_queue_join_thread(w->queue, PATIENCE_MS, &unsent));
  CHILD_MUST(unsent == 0 || atomic_load(&w->reported) != 0);
  destroy_queue(w);
}

static void after_close(struct world *w) {
  uint64_t got = 0;
  if (outstanding(w) & bit(9)) {
    CHILD_MUST(read(w->fds[2], &got, sizeof got) == (ssize_t)sizeof got);
    CHILD_MUST(support_wait(w->fds[0]) == 0);
  } else {
    support_kill_and_wait(w->fds[0]);
    got = outstanding(w); /* whoever got them is dead */
  }
  w->got = got;
  CHILD_MUST(outstanding(w) == 0);
  close(w->fds[2]);
  close(w->fds[3]);
}

static void act_close_put(struct world *w) {
  put_small(w, 4);
  met(w, forkq_queue_close_put(w->queue));
  bool closed = w->last == 0;
  msgpack_object object = small(5);
  int r = forkq_queue_put(w->queue, &object, 0);
  CHILD_MUST(!closed || r == FORKQ_ECLOSED);
  put_done(w, 5, r);
  for (int i = 0; i < 3; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

static void after_close_put(struct world *w) {
  CHILD_MUST(forkq_queue_close_put(w->queue) == 0);
  drain(w);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == FORKQ_EALONE);
  destroy_queue(w);
}

static void act_cancel(struct world *w) {
  put_small(w, 4);
  met(w, forkq_queue_cancel_join_thread(w->queue));
  met(w, forkq_queue_close(w->queue));
  met(w, forkq_queue_join_thread(w->queue, -1, NULL));
  destroy_queue(w);
}

/* Another one has the turn. Without memory the thread is told once more. */
static void act_interrupt(struct world *w) {
  CHILD_MUST(forkq_queue_interrupt(w->queue) == 0);
  CHILD_MUST(forkq_queue_get(w->queue, &w->item, -1) == FORKQ_EINTERRUPTED);
  int r = forkq_queue_get(w->queue, &w->item, SOON_MS);
  CHILD_MUST(r == FORKQ_TIMEDOUT || r == FORKQ_EINTERRUPTED);
}

static bool is_ready(int fd, int ms) {
  struct pollfd room = { .fd = fd, .events = POLLIN };
  return poll(&room, 1, ms) == 1;
}

static void act_room(struct world *w) {
  met(w, forkq_queue_room_fileno(w->queue));
  put_small(w, 4);
  put_small(w, 5);
  msgpack_object object = small(6);
  put_done(w, 6, forkq_queue_put(w->queue, &object, 0));
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 1000)));
}

/* After the next FORKQ_FULL the descriptor says that there is room, whatever failed before. */
static void after_room(struct world *w) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  drain(w);
  int fd = forkq_queue_room_fileno(w->queue);
  for (int i = 0; i < 2; i++)
    CHILD_MUST(fd >= 0 && forkq_queue_put(w->queue, &nil, 0) == 0);
  CHILD_MUST(forkq_queue_put(w->queue, &nil, 0) == FORKQ_FULL && !is_ready(fd, 0));
  for (int i = 0; i < 2; i++)
    CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == 0);
  CHILD_MUST(is_ready(fd, PATIENCE_MS));
  use_and_destroy(w);
}

static void act_destroy(struct world *w) {
  destroy_queue(w);
}

/* ---- the dead ---------------------------------------------------------------------- */

static void die_holding(void *arg) {
  struct world *w = arg;
  for (unsigned id = 40; id < 42; id++) {
    msgpack_object object = bytes(id, HUGE);
    CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  }
  raise(SIGKILL);
}

/* A process that filled the queue, and the pipe, is dead. */
static void make_dead(struct world *w) {
  make_bounded(w);
  support_keep_to_pipe(w->queue);
  support_shrink_pipe(w->queue);
  CHILD_MUST(support_wait(support_fork(die_holding, w)) == 128 + SIGKILL);
}

static void act_reap(struct world *w) {
  msgpack_object object = small(4);
  put_done(w, 4, forkq_queue_put(w->queue, &object, SOON_MS));
  CHILD_MUST(forkq_queue_qsize(w->queue) >= 0);
  met(w, forkq_queue_full(w->queue));
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
}

/* A process that died in the write of a packet, of which it is not known at first whether it
 * came to the pipe: it did not. */
static void die_writing(void *arg) {
  struct world *w = arg;
  struct forkq__channel *channel = &w->queue->channel;
  msgpack_object object = small(40);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  struct forkq__cell *cell = &channel->account.ledger->cells[channel->account.cell];
  while (atomic_load(&cell->sent_wire) == 0)
    usleep(100);
  atomic_store(&channel->shared->write_seq, 2);
  atomic_store(&cell->accepted, 2);
  atomic_store(&cell->pending_sent, 2);
  atomic_store(&cell->pending_wire, atomic_load(&cell->sent_wire) + 40);
  atomic_store(&cell->pending_seq, 2);
  raise(SIGKILL);
}

static void make_dead_in_write(struct world *w) {
  make_bounded(w);
  CHILD_MUST(support_wait(support_fork(die_writing, w)) == 128 + SIGKILL);
  w->accepted = bit(40);
}

static void take_two_and_die(void *arg) {
  struct world *w = arg;
  for (int i = 0; i < 2; i++)
    CHILD_MUST(forkq_queue_get(w->queue, &w->item, PATIENCE_MS) == 0);
  raise(SIGKILL);
}

/* A queue that keeps tasks, of which a dead process had a small one and a large one. */
static void make_lost(struct world *w) {
  CHILD_MUST(create_that_tells(w) == 0);
  put_small(w, 1);
  msgpack_object object = bytes(2, LARGE);
  put_done(w, 2, forkq_queue_put(w->queue, &object, 1000));
  CHILD_MUST(support_wait(support_fork(take_two_and_die, w)) == 128 + SIGKILL);
  w->accepted = 0;
}

static void act_kept(struct world *w) {
  put_small(w, 4);
  msgpack_object object = bytes(5, LARGE);
  put_done(w, 5, forkq_queue_put(w->queue, &object, 1000));
  for (int i = 0; i < 2; i++) {
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, SOON_MS)));
    if (w->last == 0)
      met(w, forkq_queue_task_done_item(w->queue, &w->item));
    else if (w->last == w->injected) /* its parts could not be kept either */
      atomic_store(&w->reported, bit(5));
  }
  for (int i = 0; i < 2; i++)
    met(w, forkq_queue_get_lost(w->queue, &w->item));
}

/* What was not told in the act is told now; and what was got is done. */
static void after_kept(struct world *w) {
  uint64_t abandoned = 0;
  int r;
  use_queue(w);
  while ((r = forkq_queue_task_done(w->queue)) == 0)
    ;
  CHILD_MUST(r == FORKQ_ETASKDONE);
  while ((r = forkq_queue_get_lost(w->queue, &w->item)) == 0)
    ;
  CHILD_MUST(r == FORKQ_EMPTY);
  CHILD_MUST(forkq_queue_join(w->queue, PATIENCE_MS, &abandoned) == FORKQ_EABANDONED);
  CHILD_MUST(abandoned == 2);
  destroy_queue(w);
}

/* ---- the stopped ------------------------------------------------------------------- */

static void sleep_in_get(void *arg) {
  struct world *w = arg;
  (void)!forkq_queue_get(w->queue, &w->item, -1);
}

/* A process that is asleep in a get, and stopped: it does not hear of what comes. */
static void make_sleeper(struct world *w) {
  make_running(w);
  w->fds[0] = support_fork(sleep_in_get, w);
  struct forkq__channel_shared *shared = w->queue->channel.shared;
  while (atomic_load(&shared->asleep) == 0)
    usleep(100);
  support_until_asleep(w->fds[0]);
  support_stop(w->fds[0]);
}

static void act_beside_sleeper(struct world *w) {
  put_small(w, 4);
  met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 200)));
  met(w, get_done(w, &w->item, forkq_queue_get_nowait(w->queue, &w->item)));
}

static void after_stopped(struct world *w) {
  support_kill_and_wait(w->fds[0]);
  use_and_destroy(w);
}

static void put_huge(void *arg) {
  struct world *w = arg;
  msgpack_object object = bytes(3, HUGE);
  CHILD_MUST(forkq_queue_put(w->queue, &object, 0) == 0);
  CHILD_MUST(forkq_queue_close(w->queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(w->queue, -1, NULL) == 0);
}

/* A process that was stopped in the middle of a large item. */
static void make_half_sent(struct world *w) {
  make_small_pipe(w);
  w->fds[0] = support_fork(put_huge, w);
  support_until_pipe_full(w->queue);
  support_stop(w->fds[0]);
  w->accepted = bit(3);
}

/* The part that is there is left for the next get; the sender goes on. A failure to keep the
 * part is told by the get that lost it. */
static void act_get_half(struct world *w) {
  int r = met(w, forkq_queue_get(w->queue, &w->item, SOON_MS));
  if (r == -ENOSPC)
    atomic_store(&w->reported, bit(3));
  CHILD_MUST(r < 0 && w->item.size == 0);
  CHILD_MUST(kill(w->fds[0], SIGCONT) == 0);
  for (int i = 0; i < 3 && w->got == 0; i++)
    met(w, get_done(w, &w->item, forkq_queue_get(w->queue, &w->item, 200)));
  if (r != FORKQ_TIMEDOUT && w->got == 0) /* the memory of the part could not be had */
    atomic_store(&w->reported, bit(3));
}

static void after_half(struct world *w) {
  drain(w);
  while (waitpid(w->fds[0], NULL, WNOHANG) == 0)
    (void)!forkq_queue_get(w->queue, &w->item, 1); /* the rest of what was lost */
  use_and_destroy(w);
}

static void act_fork(struct world *w) {
  put_small(w, 4);
  pid_t child = fork(); /* which may be one that fails */
  if (child < 0) {
    met(w, -errno);
    return;
  }
  if (child == 0) {
    w->accepted = w->got = 0;
    atomic_store(&w->reported, 0);
    put_small(w, 5);
    forkq_queue_destroy(w->queue);
    _exit(w->accepted != 0 && atomic_load(&w->reported) == 0 ? 0 : 10);
  }
  int status;
  CHILD_MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
  CHILD_MUST(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 10);
  if (WEXITSTATUS(status) == 0)
    once(&w->accepted, 5);
}

/* ---- a process ----------------------------------------------------------------------- */

static int sleep_in_process(void *nothing) {
  (void)nothing;
  for (;;)
    pause();
  return 0;
}

static void act_process(struct world *w) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  int code;
  options.daemon = 1;
  if (met(w, forkq_process_start(&w->process, sleep_in_process, NULL, &options)) < 0)
    return;
  met(w, forkq_process_is_alive(w->process));
  met(w, forkq_process_exitcode(w->process, &code));
  met(w, forkq_process_join(w->process, SOON_MS));
  met(w, forkq_process_terminate(w->process));
  met(w, forkq_process_join(w->process, SOON_MS));
}

/* A child for which the fault came before it could run has ended with 1. */
static void end_process(struct world *w) {
  int code = 0;
  CHILD_MUST(forkq_process_terminate(w->process) == 0);
  CHILD_MUST(forkq_process_join(w->process, PATIENCE_MS) == 0);
  CHILD_MUST(forkq_process_exitcode(w->process, &code) == 1);
  CHILD_MUST(code == -SIGTERM || code == 1);
  forkq_process_destroy(w->process);
}

static void after_process(struct world *w) {
  if (w->process != NULL)
    end_process(w);
  CHILD_MUST(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  CHILD_MUST(forkq_process_start(&w->process, sleep_in_process, NULL, NULL) == 0);
  end_process(w);
}

/* ---- the table --------------------------------------------------------------------- */

const struct scenario scenarios_of_ends[] = {
  { "tasks", make_joinable, act_tasks, after_tasks, false, { PUT_ERRORS, FORKQ_EMPTY } },
  { "look", make_filled, act_look, use_and_destroy, false, { 0 } },
  { "shutdown",
    make_filled,
    act_shutdown,
    after_shutdown,
    false,
    { GET_ERRORS, FORKQ_ESHUTDOWN } },
  { "shutdown, immediate",
    make_filled,
    act_shutdown_now,
    after_shutdown_now,
    false,
    { FORKQ_ESHUTDOWN } },
  { "close", make_with_getter, act_close, after_close, false, { PUT_ERRORS } },
  { "close_put",
    make_queue,
    act_close_put,
    after_close_put,
    false,
    { PUT_ERRORS, FORKQ_EMPTY, FORKQ_ECLOSED, FORKQ_EALONE } },
  { "cancel", make_queue, act_cancel, nothing, false, { PUT_ERRORS } },
  { "destroy", make_running, act_destroy, nothing, false, { 0 } },
  { "room", make_bounded, act_room, after_room, false, { PUT_ERRORS, GET_ERRORS } },
  { "interrupt", make_sleeper, act_interrupt, after_stopped, false, { 0 } },
  { "reap", make_dead, act_reap, use_and_destroy, false, { PUT_ERRORS, FORKQ_EMPTY } },
  { "kept tasks", make_lost, act_kept, after_kept, false, { PUT_ERRORS, FORKQ_EMPTY } },
  { "reap in a write",
    make_dead_in_write,
    act_reap,
    use_and_destroy,
    false,
    { PUT_ERRORS, FORKQ_EMPTY } },
  { "beside a sleeper",
    make_sleeper,
    act_beside_sleeper,
    after_stopped,
    false,
    { PUT_ERRORS, GET_ERRORS } },
  { "half a message",
    make_half_sent,
    act_get_half,
    after_half,
    false,
    { FORKQ_TIMEDOUT, -ENOMEM } },
  { "fork", make_running, act_fork, use_and_destroy, false, { PUT_ERRORS } },
  { "process",
    nothing,
    act_process,
    after_process,
    false,
    { FORKQ_TIMEDOUT, -ENOMEM, -EMFILE } },
  { NULL, NULL, NULL, NULL, false, { 0 } },
};
