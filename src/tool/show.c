/* forkq show: all about one queue. */
#include "tool/commands.h"
#include "tool/look.h"

#include <inttypes.h>
#include <stdio.h>

static void print_numbers(const forkq_inspect_queue_t *queue) {
  char label[40];
  printf("queue %s, number %" PRIu64 ", %s, created by ", forkq__tool_label(queue, label),
         queue->inode, forkq__tool_state(queue));
  if (queue->creator != 0)
    printf("%d\n", (int)queue->creator);
  else
    printf("a process of another PID namespace\n");
  printf("  size     %" PRIu64, queue->size);
  if (queue->maxsize > 0)
    printf(" of %" PRId64, queue->maxsize);
  printf(", of these %" PRIu64 " unsent\n", queue->unsent_items);
  printf("  put      %" PRIu64 " items, %" PRIu64 " bytes\n", queue->put_items,
         queue->put_bytes);
  printf("  got      %" PRIu64 " items, %" PRIu64 " bytes\n", queue->got_items,
         queue->got_bytes);
  printf("  lost     %" PRIu64 " items; %" PRIu64 " recoveries\n", queue->lost_items,
         queue->recoveries);
  if (queue->joinable)
    printf("  tasks    %" PRIu64 " not done, %" PRIu64 " abandoned\n", queue->tasks,
           queue->abandoned_tasks);
  printf("  waiting  %" PRIu32 " to get, %" PRIu32 " to put, %" PRIu32
         " to join; %" PRIu32 " watch\n",
         queue->waiting_getters, queue->waiting_putters, queue->joiners, queue->watchers);
}

static void print_waits(const forkq_inspect_queue_t *queue, pid_t pid) {
  const forkq_inspect_wait_t *wait;
  for (size_t i = 0; (wait = forkq_inspect_wait_at(queue, i)) != NULL; i++) {
    if (wait->pid != pid)
      continue;
    if (wait->kind == FORKQ_INSPECT_WAITS_FOR_LOCK)
      printf("             thread %d waits for the %s lock\n", (int)wait->tid,
             forkq__tool_lock(wait->lock));
    else
      printf("             thread %d waits for %s\n", (int)wait->tid,
             forkq__tool_wait(wait->kind));
  }
}

static void print_processes(const forkq_inspect_queue_t *queue) {
  const forkq_inspect_process_t *process;
  printf("%9s %-15s %-8s %12s %9s", "PID", "COMMAND", "STATE", "PUT", "UNSENT");
  printf(queue->joinable ? " %12s %9s\n" : "\n", "GOT", "TASKS");
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++) {
    printf("%9d %-15s %-8s %12" PRIu64 " %9" PRIu64, (int)process->pid,
           process->command[0] != '\0' ? process->command : "-",
           forkq__tool_life(process), process->put_items, process->unsent_items);
    if (queue->joinable)
      printf(" %12" PRIu64 " %9" PRIu64, process->got_items, process->tasks);
    putchar('\n');
    print_waits(queue, process->pid);
  }
}

static void print_owner(const forkq_inspect_lock_t *lock) {
  if (lock->owner_died)
    printf("an owner that died, which nobody has noticed\n");
  else if (lock->pid == 0)
    printf("thread %d, which is gone or not seen\n", (int)lock->tid);
  else
    printf("process %d, thread %d\n", (int)lock->pid, (int)lock->tid);
}

static void print_locks(const forkq_inspect_queue_t *queue) {
  for (unsigned kind = 0; kind < FORKQ_INSPECT_LOCKS; kind++) {
    const forkq_inspect_lock_t *lock = forkq_inspect_lock_of(queue, kind);
    if (lock == NULL || (lock->tid == 0 && !lock->owner_died))
      continue;
    printf("lock %s: ", forkq__tool_lock(kind));
    print_owner(lock);
  }
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  bool json = false;
  const struct forkq__tool_option options[] = { FORKQ__TOOL_JSON(&json), { 0 } };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc != 1)
    return forkq__tool_misuse(self, "which queue?");
  forkq_inspect_t *inspect;
  const forkq_inspect_queue_t *queue;
  code = forkq__tool_find(&inspect, &queue, argv[0]);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  code = FORKQ__TOOL_OK;
  if (json) {
    code = forkq__tool_print_json(forkq__tool_queue_json(queue, true));
  } else {
    print_numbers(queue);
    print_processes(queue);
    print_locks(queue);
  }
  forkq_inspect_destroy(inspect);
  return code;
}

const struct forkq__tool_command forkq__tool_show = {
  "show", "QUEUE", "all about one queue, its processes, and its locks", run
};
