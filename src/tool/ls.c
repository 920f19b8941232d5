/* forkq ls: a line for each queue. */
#include "tool/commands.h"
#include "tool/connect.h"
#include "tool/look.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_head(void) {
  printf("%-10s %-12s %8s %8s %7s %10s %10s %5s %4s %4s %4s %s\n", "QUEUE", "NAME",
         "SIZE", "MAXSIZE", "UNSENT", "PUTS", "GETS", "LOST", "GETW", "PUTW", "PROC",
         "STATE");
}

static size_t count_open(const forkq_inspect_queue_t *queue) {
  const forkq_inspect_process_t *process;
  size_t count = 0;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    count += process->open ? 1 : 0;
  return count;
}

static void print_queue(const forkq_inspect_queue_t *queue) {
  char maxsize[24] = "-";
  if (queue->error != 0) {
    printf("%-10" PRIu64 " %-12s %s\n", queue->inode, queue->name,
           forkq_strerror(queue->error));
    return;
  }
  if (queue->maxsize > 0)
    snprintf(maxsize, sizeof maxsize, "%" PRId64, queue->maxsize);
  printf("%-10" PRIu64 " %-12s %8" PRIu64 " %8s %7" PRIu64 " %10" PRIu64 " %10" PRIu64
         " %5" PRIu64 " %4" PRIu32 " %4" PRIu32 " %4zu %s\n",
         queue->inode, queue->name[0] != '\0' ? queue->name : "-", queue->size, maxsize,
         queue->unsent_items, queue->put_items, queue->got_items, queue->lost_items,
         queue->waiting_getters, queue->waiting_putters, count_open(queue),
         forkq__tool_state(queue));
}

/* Which queues are listed: of one process, with a name, or with a number. */
struct wanted {
  pid_t pid;        /* 0: of any */
  const char *name; /* NULL: any */
  uint64_t inode;   /* 0: any */
};

static int understand(struct wanted *wanted, const char *text) {
  if (forkq__tool_is_served(text))
    return forkq__tool_served_inode(&wanted->inode, text);
  if (!forkq__tool_is_pid(text, &wanted->pid))
    wanted->name = text;
  return FORKQ__TOOL_GOES_ON;
}

static bool is_listed(const forkq_inspect_queue_t *queue, const struct wanted *wanted) {
  return (wanted->name == NULL || strcmp(queue->name, wanted->name) == 0) &&
         (wanted->inode == 0 || queue->inode == wanted->inode);
}

static void print_all(const forkq_inspect_t *inspect, const struct wanted *wanted) {
  const forkq_inspect_queue_t *queue;
  print_head();
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (is_listed(queue, wanted))
      print_queue(queue);
}

static int print_all_json(const forkq_inspect_t *inspect, const struct wanted *wanted) {
  json_t *array = json_array();
  const forkq_inspect_queue_t *queue;
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (is_listed(queue, wanted))
      json_array_append_new(array, forkq__tool_queue_json(queue, false));
  return forkq__tool_print_json(array);
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  bool json = false;
  const struct forkq__tool_option options[] = { FORKQ__TOOL_JSON(&json), { 0 } };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc > 1)
    return forkq__tool_misuse(self, "one process, name or path, or none");
  struct wanted wanted = { 0 };
  forkq_inspect_t *inspect;
  code = argc == 1 ? understand(&wanted, argv[0]) : FORKQ__TOOL_GOES_ON;
  if (code == FORKQ__TOOL_GOES_ON)
    code = forkq__tool_look(&inspect, wanted.pid);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  code = FORKQ__TOOL_OK;
  if (json)
    code = print_all_json(inspect, &wanted);
  else
    print_all(inspect, &wanted);
  forkq_inspect_destroy(inspect);
  return code;
}

const struct forkq__tool_command forkq__tool_ls = {
  "ls", "[PID|NAME|PATH]", "list the queues of your processes, or of one, or with a name",
  run
};
