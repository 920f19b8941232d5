/* The cases of forkq why. A case looks at the other processes of the queue, and names those that could end
 * the wait. */
#include "tool/cases.h"

#include <inttypes.h>
#include <string.h>

typedef const struct forkq__tool_cause cause_t;

/* ---- the other processes ------------------------------------------------------------------ */

static bool is_other(cause_t *cause, const forkq_inspect_process_t *process) {
  return process->pid != cause->process->pid;
}

/* A process that has closed the queue for itself keeps only the writing end, until all is sent. */
static bool could_get(const forkq_inspect_process_t *process) {
  return process->life != FORKQ_INSPECT_DEAD && process->fds[0] >= 0;
}

static bool could_put(const forkq_inspect_process_t *process) {
  return process->life != FORKQ_INSPECT_DEAD && process->fds[0] >= 0 &&
         process->fds[1] >= 0;
}

static bool is_waiting(cause_t *cause, const forkq_inspect_process_t *process,
                       forkq_inspect_wait_kind_t kind) {
  const forkq_inspect_wait_t *wait;
  for (size_t i = 0; (wait = forkq_inspect_wait_at(cause->queue, i)) != NULL; i++)
    if (wait->pid == process->pid && wait->kind == kind)
      return true;
  return false;
}

static bool has_lock(cause_t *cause, const forkq_inspect_process_t *process,
                     forkq_inspect_lock_kind_t kind) {
  const forkq_inspect_lock_t *lock = forkq_inspect_lock_of(cause->queue, kind);
  return lock != NULL && lock->tid != 0 && lock->pid == process->pid;
}

static bool is_getting(cause_t *cause, const forkq_inspect_process_t *process) {
  return is_waiting(cause, process, FORKQ_INSPECT_WAITS_FOR_ITEM) ||
         has_lock(cause, process, FORKQ_INSPECT_READ_LOCK) ||
         has_lock(cause, process, FORKQ_INSPECT_TURN);
}

/* What a case looks for among the other processes. */
typedef bool (*is_fn)(cause_t *cause, const forkq_inspect_process_t *process);

static size_t count(cause_t *cause, is_fn is) {
  const forkq_inspect_process_t *process;
  size_t found = 0;
  for (size_t i = 0; (process = forkq_inspect_process_at(cause->queue, i)) != NULL; i++)
    found += is_other(cause, process) && is(cause, process) ? 1 : 0;
  return found;
}

static void name_process(cause_t *cause, const forkq_inspect_process_t *process) {
  fprintf(cause->text, "%d", (int)process->pid);
  if (process->command[0] != '\0')
    fprintf(cause->text, " (%s)", process->command);
  json_array_append_new(cause->blamed, json_integer(process->pid));
}

/* Names all of them: "1 (a), 2 (b)". */
static void name_all(cause_t *cause, is_fn is) {
  const forkq_inspect_process_t *process;
  const char *before = "";
  for (size_t i = 0; (process = forkq_inspect_process_at(cause->queue, i)) != NULL; i++) {
    if (!is_other(cause, process) || !is(cause, process))
      continue;
    fputs(before, cause->text);
    name_process(cause, process);
    before = ", ";
  }
}

static bool is_reader(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return could_get(process);
}

static bool is_putter(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return could_put(process);
}

static bool is_stopped_getter(cause_t *cause, const forkq_inspect_process_t *process) {
  return process->life == FORKQ_INSPECT_STOPPED && is_getting(cause, process);
}

static bool is_living_getter(cause_t *cause, const forkq_inspect_process_t *process) {
  return process->life == FORKQ_INSPECT_ALIVE && is_getting(cause, process);
}

static bool has_unsent_and(const forkq_inspect_process_t *process,
                           forkq_inspect_life_t life) {
  return process->life == life && process->unsent_items > 0;
}

static bool is_dead_sender(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return has_unsent_and(process, FORKQ_INSPECT_DEAD);
}

static bool is_stopped_sender(cause_t *cause, const forkq_inspect_process_t *process) {
  return has_unsent_and(process, FORKQ_INSPECT_STOPPED) ||
         (process->life == FORKQ_INSPECT_STOPPED &&
          has_lock(cause, process, FORKQ_INSPECT_WRITE_LOCK));
}

static bool is_sender(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return has_unsent_and(process, FORKQ_INSPECT_ALIVE);
}

static bool has_tasks_and(const forkq_inspect_process_t *process,
                          forkq_inspect_life_t life) {
  return process->life == life && process->tasks > 0;
}

static bool is_dead_worker(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return has_tasks_and(process, FORKQ_INSPECT_DEAD);
}

static bool is_stopped_worker(cause_t *cause, const forkq_inspect_process_t *process) {
  (void)cause;
  return has_tasks_and(process, FORKQ_INSPECT_STOPPED);
}

/* ---- what waits --------------------------------------------------------------------------- */

static bool always(cause_t *cause) {
  (void)cause;
  return true;
}

static bool has_closed(cause_t *cause) {
  return cause->process->fds[0] < 0;
}

static void say_what(cause_t *cause) {
  switch (cause->wait->kind) {
  case FORKQ_INSPECT_WAITS_FOR_ROOM:
    fprintf(cause->text,
            "a put waits for room: the queue has %" PRIu64 " of %" PRId64 " items, ",
            cause->queue->size, cause->queue->maxsize);
    break;
  case FORKQ_INSPECT_WAITS_FOR_PIPE:
    fprintf(cause->text, "%s: %" PRIu64 " items unsent, the pipe is full, ",
            has_closed(cause) ? "exit or close waits" : "sending waits",
            cause->process->unsent_items);
    break;
  case FORKQ_INSPECT_WAITS_FOR_ITEM:
    fprintf(cause->text, "a get waits for an item: ");
    break;
  case FORKQ_INSPECT_WAITS_FOR_TASKS:
    fprintf(cause->text, "a join waits: %" PRIu64 " tasks are not done, ",
            cause->queue->tasks);
    break;
  default:
    fprintf(cause->text, "a call waits for the %s lock, ",
            forkq__tool_lock(cause->wait->lock));
  }
}

/* ---- a full queue, or a full pipe --------------------------------------------------------- */

static bool dead_took_room(cause_t *cause) {
  return count(cause, is_dead_sender) > 0;
}

static void say_dead_took_room(cause_t *cause) {
  fputs("which counts what dead processes left unsent: ", cause->text);
  name_all(cause, is_dead_sender);
  fputs("; a waiting put notices it within 0.1 s", cause->text);
}

static bool reader_is_stopped(cause_t *cause) {
  return count(cause, is_stopped_getter) > 0 && count(cause, is_living_getter) == 0;
}

static void say_reader_is_stopped(cause_t *cause) {
  fputs("and who reads is stopped: ", cause->text);
  name_all(cause, is_stopped_getter);
}

static bool no_reader(cause_t *cause) {
  return count(cause, is_reader) == 0;
}

static void say_no_reader(cause_t *cause) {
  fputs("and all getters are gone: no other process has the queue open", cause->text);
}

static bool nobody_reads(cause_t *cause) {
  return count(cause, is_living_getter) == 0;
}

static void say_nobody_reads(cause_t *cause) {
  fputs("and nobody is in a get; these could: ", cause->text);
  name_all(cause, is_reader);
}

static void say_readers_work(cause_t *cause) {
  fputs("and these are getting: ", cause->text);
  name_all(cause, is_living_getter);
}

/* ---- an empty queue ----------------------------------------------------------------------- */

static bool is_shut(cause_t *cause) {
  return cause->queue->state != FORKQ_INSPECT_OPEN;
}

static void say_shut(cause_t *cause) {
  fputs("the queue is shut down, and the get is about to notice it", cause->text);
}

static bool only_dead_have_items(cause_t *cause) {
  return count(cause, is_dead_sender) > 0 && count(cause, is_sender) == 0 &&
         count(cause, is_stopped_sender) == 0;
}

static void say_only_dead_have_items(cause_t *cause) {
  fprintf(cause->text, "the queue counts %" PRIu64 " items that died with ",
          cause->queue->size);
  name_all(cause, is_dead_sender);
  fputs(", which nobody has noticed yet: the next put, qsize or full does", cause->text);
}

static bool sender_is_stopped(cause_t *cause) {
  return count(cause, is_stopped_sender) > 0;
}

static void say_sender_is_stopped(cause_t *cause) {
  fputs("who has unsent items, or sends, is stopped: ", cause->text);
  name_all(cause, is_stopped_sender);
}

static bool item_is_there(cause_t *cause) {
  return cause->queue->size > cause->queue->unsent_items &&
         count(cause, is_stopped_getter) > 0;
}

static void say_stopped_before_it(cause_t *cause) {
  fprintf(cause->text, "%" PRIu64 " are there, but who reads is stopped: ",
          cause->queue->size - cause->queue->unsent_items);
  name_all(cause, is_stopped_getter);
}

static bool item_comes(cause_t *cause) {
  return cause->queue->size > 0;
}

static void say_item_comes(cause_t *cause) {
  fprintf(cause->text, "%" PRIu64 " items are on their way", cause->queue->size);
  if (count(cause, is_sender) > 0) {
    fputs(" from ", cause->text);
    name_all(cause, is_sender);
  }
}

static bool no_putter(cause_t *cause) {
  return count(cause, is_putter) == 0;
}

static void say_no_putter(cause_t *cause) {
  fputs("nothing can come, because no other process has the queue open", cause->text);
}

static void say_empty(cause_t *cause) {
  fputs("the queue is empty; these could put: ", cause->text);
  name_all(cause, is_putter);
}

/* ---- tasks -------------------------------------------------------------------------------- */

/* The tasks of all processes that are like that, the caller's, too: "2 of 31 (worker)". */
static void say_whose(cause_t *cause) {
  const forkq_inspect_process_t *process;
  const char *before = "";
  for (size_t i = 0; (process = forkq_inspect_process_at(cause->queue, i)) != NULL; i++) {
    if (process->tasks == 0)
      continue;
    fprintf(cause->text, "%s%" PRIu64 " of ", before, process->tasks);
    name_process(cause, process);
    if (process->life != FORKQ_INSPECT_ALIVE)
      fprintf(cause->text, ", which is %s", forkq__tool_life(process));
    before = ", ";
  }
  if (cause->queue->size > 0)
    fprintf(cause->text, "%s%" PRIu64 " that nobody has got", before, cause->queue->size);
}

static bool worker_is_dead(cause_t *cause) {
  return count(cause, is_dead_worker) > 0;
}

static void say_worker_is_dead(cause_t *cause) {
  say_whose(cause);
  fputs("; a join gives up tasks of the dead within 0.1 s, unless a child lives that may "
        "do them",
        cause->text);
}

static bool worker_is_stopped(cause_t *cause) {
  return count(cause, is_stopped_worker) > 0;
}

static bool has_tasks(cause_t *cause) {
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(cause->queue, i)) != NULL; i++)
    if (process->tasks > 0)
      return true;
  return false;
}

static void say_worker_has_tasks(cause_t *cause) {
  say_whose(cause);
  fputs("; each needs a forkq_queue_task_done", cause->text);
}

static void say_nobody_got_them(cause_t *cause) {
  say_whose(cause);
  fputs("; these could get: ", cause->text);
  name_all(cause, is_reader);
}

/* ---- locks -------------------------------------------------------------------------------- */

static const forkq_inspect_lock_t *lock_of(cause_t *cause) {
  return forkq_inspect_lock_of(cause->queue, cause->wait->lock);
}

static bool lock_owner_is_gone(cause_t *cause) {
  return lock_of(cause)->owner_died;
}

static void say_lock_owner_is_gone(cause_t *cause) {
  fprintf(cause->text, "whose owner died; the next that takes it repairs what it held");
}

static const forkq_inspect_process_t *owner_of(cause_t *cause) {
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(cause->queue, i)) != NULL; i++)
    if (has_lock(cause, process, cause->wait->lock))
      return process;
  return NULL;
}

static bool lock_owner_is_stopped(cause_t *cause) {
  const forkq_inspect_process_t *owner = owner_of(cause);
  return owner != NULL && owner->life == FORKQ_INSPECT_STOPPED;
}

static void say_lock_owner_is_stopped(cause_t *cause) {
  fputs("whose owner is stopped: ", cause->text);
  name_process(cause, owner_of(cause));
}

static void say_lock_is_busy(cause_t *cause) {
  const forkq_inspect_lock_t *lock = lock_of(cause);
  const forkq_inspect_process_t *owner = owner_of(cause);
  if (lock->tid == 0) {
    fputs("which is free by now", cause->text);
    return;
  }
  fputs("which is in use by ", cause->text);
  if (owner != NULL)
    name_process(cause, owner);
  else
    fprintf(cause->text, "thread %d of a process that is not seen", (int)lock->tid);
}

/* ---- the table ---------------------------------------------------------------------------- */

#define ROOM FORKQ_INSPECT_WAITS_FOR_ROOM
#define PIPE FORKQ_INSPECT_WAITS_FOR_PIPE
#define ITEM FORKQ_INSPECT_WAITS_FOR_ITEM
#define TASKS FORKQ_INSPECT_WAITS_FOR_TASKS
#define LOCK FORKQ_INSPECT_WAITS_FOR_LOCK

const struct forkq__tool_case forkq__tool_cases[] = {
  { "full-dead", ROOM, dead_took_room, say_dead_took_room },
  { "full-reader-stopped", ROOM, reader_is_stopped, say_reader_is_stopped },
  { "full-no-reader", ROOM, no_reader, say_no_reader },
  { "full-unread", ROOM, nobody_reads, say_nobody_reads },
  { "full-busy", ROOM, always, say_readers_work },
  { "unsent-reader-stopped", PIPE, reader_is_stopped, say_reader_is_stopped },
  { "unsent-no-reader", PIPE, no_reader, say_no_reader },
  { "unsent-unread", PIPE, nobody_reads, say_nobody_reads },
  { "unsent-busy", PIPE, always, say_readers_work },
  { "empty-shut", ITEM, is_shut, say_shut },
  { "empty-dead", ITEM, only_dead_have_items, say_only_dead_have_items },
  { "empty-sender-stopped", ITEM, sender_is_stopped, say_sender_is_stopped },
  { "empty-reader-stopped", ITEM, item_is_there, say_stopped_before_it },
  { "empty-on-its-way", ITEM, item_comes, say_item_comes },
  { "empty-no-putter", ITEM, no_putter, say_no_putter },
  { "empty", ITEM, always, say_empty },
  { "tasks-dead", TASKS, worker_is_dead, say_worker_is_dead },
  { "tasks-stopped", TASKS, worker_is_stopped, say_worker_has_tasks },
  { "tasks-worker", TASKS, has_tasks, say_worker_has_tasks },
  { "tasks-unread", TASKS, always, say_nobody_got_them },
  { "lock-dead", LOCK, lock_owner_is_gone, say_lock_owner_is_gone },
  { "lock-stopped", LOCK, lock_owner_is_stopped, say_lock_owner_is_stopped },
  { "lock-busy", LOCK, always, say_lock_is_busy },
  { NULL, ROOM, NULL, NULL },
};

const struct forkq__tool_case *
forkq__tool_case_of(const struct forkq__tool_cause *cause) {
  const struct forkq__tool_case *one = forkq__tool_cases;
  while (one->name != NULL && (one->kind != cause->wait->kind || !one->applies(cause)))
    one++;
  if (cause->text != NULL && one->name != NULL) {
    say_what(cause);
    one->explain(cause);
  }
  return one;
}
