/* A queue's memory as numbers. All of it is read into a copy first, so what was checked does not change.
 *
 * Of the items, those that are gone are read before those that were put (segment.h). If many go meanwhile, the
 * memory is read again, a few times. */
#define _GNU_SOURCE
#include "base/libc.h"
#include "base/os.h"
#include "inspect/inspect_impl.h"
#include "shared/ledger.h"
#include "shared/segment.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>

/* Readings of a queue that changes meanwhile. */
#define READINGS_MAX 4

static uint64_t less(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

/* ---- cells -------------------------------------------------------------------------------- */

static uint64_t put_by(const struct forkq__cell *cell) {
  return less(FORKQ__LOAD(cell->accepted), FORKQ__LOAD(cell->not_put));
}

static uint64_t unsent_by(const struct forkq__cell *cell) {
  return less(FORKQ__LOAD(cell->accepted),
              FORKQ__LOAD(cell->sent) + FORKQ__LOAD(cell->returned));
}

static uint64_t tasks_of(const struct forkq__cell *cell) {
  return less(FORKQ__LOAD(cell->got),
              FORKQ__LOAD(cell->done) + FORKQ__LOAD(cell->abandoned));
}

static void add_cell(forkq_inspect_queue_t *queue, const struct forkq__cell *cell) {
  queue->put_items += put_by(cell);
  queue->put_bytes += FORKQ__LOAD(cell->put_bytes);
  queue->unsent_items += unsent_by(cell);
  queue->lost_items += less(FORKQ__LOAD(cell->returned), FORKQ__LOAD(cell->withdrawn));
}

/* A process that is dead and has left nothing is no process of the queue any more, even if nobody has
 * noticed. */
static bool has_left_something(const struct forkq__cell *cell) {
  return unsent_by(cell) > 0 || tasks_of(cell) > 0 ||
         FORKQ__LOAD(cell->state) == FORKQ__CELL_DEAD;
}

static int add_owner(struct forkq__inspected *queue, const struct forkq__cell *cell) {
  pid_t pid = (pid_t)FORKQ__LOAD(cell->pid);
  forkq_inspect_process_t *process =
      forkq__inspect_process_of(queue, pid, has_left_something(cell));
  if (process == NULL)
    return has_left_something(cell) ? -ENOMEM : 0;
  process->has_cell = 1;
  process->put_items += less(put_by(cell), FORKQ__LOAD(cell->first_put));
  process->unsent_items += unsent_by(cell);
  if (queue->queue.joinable) {
    process->got_items += less(FORKQ__LOAD(cell->got), FORKQ__LOAD(cell->first_got));
    process->tasks += tasks_of(cell);
  }
  return 0;
}

static int read_cells(struct forkq__inspected *queue, const struct forkq__ledger *ledger,
                      bool same_namespace) {
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++) {
    const struct forkq__cell *cell = &ledger->cells[i];
    add_cell(&queue->queue, cell);
    bool known = same_namespace && FORKQ__LOAD(cell->state) != FORKQ__CELL_FREE;
    int r = known ? add_owner(queue, cell) : 0;
    if (r < 0)
      return r;
  }
  return 0;
}

/* ---- processes ---------------------------------------------------------------------------- */

/* A process can give itself any name, also one that a terminal would obey. */
static void make_printable(char *text) {
  for (; *text != '\0'; text++)
    if (*text < ' ' || *text > '~')
      *text = '?';
}

/* A process without descriptors has ended, or is a zombie; its number may be another's by now. */
static void look_at_process(forkq_inspect_process_t *process) {
  char path[FORKQ__PROC_PATH];
  char state = forkq__proc_state(process->pid);
  if (!process->open || state == 0 || state == 'Z' || state == 'X') {
    process->life = FORKQ_INSPECT_DEAD;
    return;
  }
  process->life =
      state == 'T' || state == 't' ? FORKQ_INSPECT_STOPPED : FORKQ_INSPECT_ALIVE;
  snprintf(path, sizeof path, "/proc/%d/comm", (int)process->pid);
  int length = forkq__proc_read(path, process->command, sizeof process->command);
  if (length < 0)
    process->command[0] = '\0';
  else if (length > 0 && process->command[length - 1] == '\n')
    process->command[length - 1] = '\0';
  make_printable(process->command);
}

static void look_at_processes(struct forkq__inspected *queue) {
  forkq_inspect_process_t *processes = queue->processes.entries;
  for (size_t i = 0; i < queue->processes.count; i++)
    look_at_process(&processes[i]);
}

/* ---- locks -------------------------------------------------------------------------------- */

static void read_lock(forkq_inspect_lock_t *seen, struct forkq__lock *lock,
                      bool same_namespace) {
  uint32_t word = atomic_load(forkq__libc_lock_word(&lock->mutex));
  seen->tid = (pid_t)(word & FUTEX_TID_MASK);
  seen->owner_died = (word & FUTEX_OWNER_DIED) != 0;
  seen->contended = (word & FUTEX_WAITERS) != 0;
  if (seen->tid != 0 && same_namespace)
    seen->pid = forkq__proc_of_thread(seen->tid);
}

static void read_locks(struct forkq__inspected *queue, struct forkq__segment *copy,
                       bool same) {
  struct forkq__channel_shared *channel = &copy->channel;
  read_lock(&queue->locks[FORKQ_INSPECT_WRITE_LOCK], &channel->write_lock, same);
  read_lock(&queue->locks[FORKQ_INSPECT_READ_LOCK], &channel->read_lock, same);
  read_lock(&queue->locks[FORKQ_INSPECT_TURN], &channel->turn, same);
  read_lock(&queue->locks[FORKQ_INSPECT_LEDGER_LOCK], &copy->ledger.lock, same);
}

/* ---- the queue's own numbers -------------------------------------------------------------- */

static forkq_inspect_state_t state_of(uint32_t shutdown) {
  return shutdown == FORKQ__OPEN       ? FORKQ_INSPECT_OPEN
         : shutdown == FORKQ__DRAINING ? FORKQ_INSPECT_DRAINING
                                       : FORKQ_INSPECT_DROPPED;
}

/* What a name has (forkq_queue_options_t). Others can have written anything there, and the name becomes a part
 * of lines, of labels, and of words that a shell expands. */
static bool is_of_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         c == '.' || c == '_' || c == '-';
}

static void read_name(char name[FORKQ_NAME_MAX + 1], const char *given) {
  for (size_t i = 0; i < FORKQ_NAME_MAX && given[i] != '\0'; i++)
    name[i] = (char)(is_of_name(given[i]) ? given[i] : '?');
}

static void read_channel(forkq_inspect_queue_t *seen, const struct forkq__segment *copy) {
  const struct forkq__channel_shared *channel = &copy->channel;
  seen->state = state_of(FORKQ__LOAD(channel->shutdown));
  seen->got_bytes = FORKQ__LOAD(channel->bytes_taken);
  seen->get_waits = FORKQ__LOAD(channel->getter_waits);
  seen->waiting_getters =
      FORKQ__LOAD(channel->turn_waiting) + (FORKQ__LOAD(channel->asleep) != 0);
  seen->watchers = FORKQ__LOAD(channel->watchers);
}

static void read_numbers(forkq_inspect_queue_t *seen, const struct forkq__segment *copy) {
  const struct forkq__ledger *ledger = &copy->ledger;
  read_name(seen->name, ledger->name);
  read_channel(seen, copy);
  seen->joinable = copy->joinable != 0;
  seen->creator = (pid_t)copy->creator;
  seen->maxsize = copy->slots.maxsize;
  seen->waiting_putters = FORKQ__LOAD(copy->slots.waiters);
  seen->put_waits = FORKQ__LOAD(copy->slots.waits);
  seen->joiners = FORKQ__LOAD(copy->joiners);
  seen->got_items = FORKQ__LOAD(ledger->taken);
  seen->recoveries = FORKQ__LOAD(ledger->recoveries);
  seen->abandoned_tasks = FORKQ__LOAD(ledger->abandoned);
}

/* After the cells. `copy` is no segment that others have, so its sums do not change. */
static void read_sums(forkq_inspect_queue_t *seen, struct forkq__segment *copy) {
  seen->size = forkq__ledger_size(&copy->ledger);
  if (seen->maxsize > 0 && seen->size > (uint64_t)seen->maxsize)
    seen->size = (uint64_t)seen->maxsize;
  if (seen->joinable)
    seen->tasks = forkq__ledger_unfinished(&copy->ledger);
}

/* Whether items have gone since the copy was read. */
static bool has_moved(const struct forkq__segment *copy, int fd) {
  _Atomic uint64_t taken;
  return forkq__os_memory_read(fd, &taken, sizeof taken,
                               offsetof(struct forkq__segment, ledger.taken)) == 0 &&
         FORKQ__LOAD(taken) != FORKQ__LOAD(copy->ledger.taken);
}

/* The numbers of processes and threads in the memory mean something only in the queue's PID namespace. */
static bool is_in_namespace(const struct forkq__segment *copy) {
  return copy->pid_namespace != 0 && copy->pid_namespace == forkq__os_pid_namespace();
}

int forkq__inspect_memory(struct forkq__inspected *queue, struct forkq__segment *copy,
                          int fd) {
  forkq_inspect_queue_t *seen = &queue->queue;
  int readings = 0;
  do {
    seen->error = forkq__segment_read(copy, fd);
  } while (seen->error == 0 && ++readings < READINGS_MAX && has_moved(copy, fd));
  if (seen->error != 0)
    return 0;
  queue->pipe_identity = copy->pipe_identity;
  queue->event_id = copy->event_id;
  queue->room_id = copy->room_id;
  read_numbers(seen, copy);
  bool same = is_in_namespace(copy);
  if (!same)
    seen->creator = 0;
  read_locks(queue, copy, same);
  int r = read_cells(queue, &copy->ledger, same);
  read_sums(seen, copy);
  return r;
}

/* Opens the memory through a process that has it. It may have closed it meanwhile, and opened another file. */
static int open_memory(const struct forkq__inspected *queue) {
  const forkq_inspect_process_t *processes = queue->processes.entries;
  int fd = -ESRCH;
  for (size_t i = 0; i < queue->processes.count && fd < 0; i++) {
    char path[FORKQ__PROC_PATH];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)processes[i].pid,
             processes[i].fds[FORKQ__AT_MEMORY]);
    fd = forkq__proc_open(path);
    if (fd >= 0 && !forkq__os_is_file(fd, queue->identity)) {
      forkq__os_close(fd);
      fd = -ESRCH;
    }
  }
  return fd == -ENOENT ? -ESRCH : fd;
}

int forkq__inspect_read(struct forkq__inspected *queue, struct forkq__segment *copy) {
  int fd = open_memory(queue), r = 0;
  if (fd >= 0) {
    r = forkq__inspect_memory(queue, copy, fd);
    forkq__os_close(fd);
  } else {
    queue->queue.error = fd;
  }
  look_at_processes(queue);
  return r;
}
