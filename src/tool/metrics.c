/* forkq metrics: the numbers of all queues as OpenMetrics text. */
#include "tool/commands.h"
#include "tool/look.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t size(const forkq_inspect_queue_t *queue) {
  return queue->size;
}

static uint64_t maxsize(const forkq_inspect_queue_t *queue) {
  return (uint64_t)queue->maxsize;
}

static uint64_t unsent(const forkq_inspect_queue_t *queue) {
  return queue->unsent_items;
}

static uint64_t tasks(const forkq_inspect_queue_t *queue) {
  return queue->tasks;
}

static uint64_t getters(const forkq_inspect_queue_t *queue) {
  return queue->waiting_getters;
}

static uint64_t putters(const forkq_inspect_queue_t *queue) {
  return queue->waiting_putters;
}

static uint64_t puts_(const forkq_inspect_queue_t *queue) {
  return queue->put_items;
}

static uint64_t gets_(const forkq_inspect_queue_t *queue) {
  return queue->got_items;
}

static uint64_t put_bytes(const forkq_inspect_queue_t *queue) {
  return queue->put_bytes;
}

static uint64_t got_bytes(const forkq_inspect_queue_t *queue) {
  return queue->got_bytes;
}

static uint64_t lost(const forkq_inspect_queue_t *queue) {
  return queue->lost_items;
}

static uint64_t abandoned(const forkq_inspect_queue_t *queue) {
  return queue->abandoned_tasks;
}

static uint64_t recoveries(const forkq_inspect_queue_t *queue) {
  return queue->recoveries;
}

static uint64_t processes(const forkq_inspect_queue_t *queue) {
  const forkq_inspect_process_t *process;
  uint64_t count = 0;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    count += process->open ? 1 : 0;
  return count;
}

static const struct {
  const char *name, *help;
  bool counter;
  uint64_t (*of)(const forkq_inspect_queue_t *queue);
} families[] = {
  { "size", "Items in the queue.", false, size },
  { "maxsize", "Limit on the items in the queue, or 0.", false, maxsize },
  { "unsent", "Items that are still in processes, and not in the pipe.", false, unsent },
  { "tasks", "Tasks that are not done.", false, tasks },
  { "waiting_getters", "Calls that wait for an item.", false, getters },
  { "waiting_putters", "Calls that wait for room.", false, putters },
  { "processes", "Processes that have the queue open.", false, processes },
  { "put_items", "Items that were put.", true, puts_ },
  { "got_items", "Items that were got.", true, gets_ },
  { "put_bytes", "Bytes of the items that were put.", true, put_bytes },
  { "got_bytes", "Bytes of the items that were got.", true, got_bytes },
  { "lost_items", "Items that died with their process.", true, lost },
  { "abandoned_tasks", "Tasks that died with their process.", true, abandoned },
  { "recoveries", "Processes and locks that were found dead.", true, recoveries },
};

/* No name of forkq_inspect_queue_t has a character that would need an escape. */
static void print_family(const forkq_inspect_t *inspect, size_t family) {
  const forkq_inspect_queue_t *queue;
  bool counter = families[family].counter;
  printf("# TYPE forkq_%s %s\n# HELP forkq_%s %s\n", families[family].name,
         counter ? "counter" : "gauge", families[family].name, families[family].help);
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (queue->error == 0)
      printf("forkq_%s%s{queue=\"%" PRIu64 "\",name=\"%s\"} %" PRIu64 "\n",
             families[family].name, counter ? "_total" : "", queue->inode, queue->name,
             families[family].of(queue));
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  const struct forkq__tool_option options[] = { { 0 } };
  pid_t pid = 0;
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc > 1 || (argc == 1 && !forkq__tool_is_pid(argv[0], &pid)))
    return forkq__tool_misuse(self, "one process, or none");
  forkq_inspect_t *inspect;
  code = forkq__tool_look(&inspect, pid);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
    print_family(inspect, i);
  puts("# EOF");
  forkq_inspect_destroy(inspect);
  return FORKQ__TOOL_OK;
}

const struct forkq__tool_command forkq__tool_metrics = {
  "metrics", "[PID]", "the numbers of all queues as OpenMetrics text", run
};
