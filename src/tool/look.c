/* Finding the queues that a subcommand is about, and words for what is seen. */
#include "tool/look.h"

#include "tool/connect.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int forkq__tool_say_no_look(int error, pid_t pid) {
  if (error == -ESRCH)
    return forkq__tool_say_error(error, "no process %d", (int)pid);
  if (pid != 0 && (error == -EACCES || error == -EPERM))
    return forkq__tool_say_error(error,
                                 "cannot look at process %d, which is another user's, or "
                                 "may not be traced; run forkq as its user, or as root",
                                 (int)pid);
  if (pid != 0)
    return forkq__tool_say_error(error, "cannot look at process %d", (int)pid);
  return forkq__tool_say_error(error, "cannot look at the processes");
}

int forkq__tool_look(forkq_inspect_t **ret_inspect, pid_t pid) {
  int r = forkq_inspect_open(ret_inspect, pid);
  return r < 0 ? forkq__tool_say_no_look(r, pid) : FORKQ__TOOL_GOES_ON;
}

/* ---- what the arguments name -------------------------------------------------------------- */

static bool is_number(const char *text, uint64_t *ret_number) {
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  bool is = text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
  if (is)
    *ret_number = number;
  return is;
}

bool forkq__tool_is_pid(const char *text, pid_t *ret_pid) {
  uint64_t number;
  if (!is_number(text, &number) || number == 0 || number > INT_MAX)
    return false;
  *ret_pid = (pid_t)number;
  return true;
}

static bool has_process(const forkq_inspect_queue_t *queue, uint64_t pid) {
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    if (process->open && (uint64_t)process->pid == pid)
      return true;
  return false;
}

enum meaning { INODE, NAME, PROCESS, MEANINGS };

static bool is_meant(const forkq_inspect_queue_t *queue, const char *text,
                     enum meaning meaning) {
  uint64_t number;
  bool numeric = is_number(text, &number);
  switch (meaning) {
  case INODE:
    return numeric && queue->inode == number;
  case NAME:
    return text[0] != '\0' && strcmp(queue->name, text) == 0;
  default:
    return numeric && has_process(queue, number);
  }
}

/* Counts the queues that are meant in that way; *ret_queue is the last of them. */
static size_t count_meant(const forkq_inspect_t *inspect, const char *text,
                          enum meaning meaning, const forkq_inspect_queue_t **ret_queue) {
  const forkq_inspect_queue_t *queue;
  size_t count = 0;
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (is_meant(queue, text, meaning)) {
      *ret_queue = queue;
      count++;
    }
  return count;
}

static void list_meant(const forkq_inspect_t *inspect, const char *text,
                       enum meaning meaning) {
  const forkq_inspect_queue_t *queue;
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (is_meant(queue, text, meaning))
      fprintf(stderr, "  %" PRIu64 " %s\n", queue->inode, queue->name);
}

static int choose(const forkq_inspect_t *inspect, const forkq_inspect_queue_t **ret_queue,
                  const char *text) {
  for (enum meaning meaning = INODE; meaning < MEANINGS; meaning++) {
    size_t count = count_meant(inspect, text, meaning, ret_queue);
    if (count == 1)
      return FORKQ__TOOL_GOES_ON;
    if (count > 1) {
      forkq__tool_say("%s may be one of %zu queues; name one by its number:", text,
                      count);
      list_meant(inspect, text, meaning);
      return FORKQ__TOOL_ABSENT;
    }
  }
  forkq__tool_say("no queue %s: neither its number, nor its name, nor a process that has "
                  "one and that you may look at",
                  text);
  return FORKQ__TOOL_ABSENT;
}

static int choose_served(const forkq_inspect_t *inspect,
                         const forkq_inspect_queue_t **ret_queue, const char *text,
                         uint64_t inode) {
  const forkq_inspect_queue_t *queue;
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (queue->inode == inode) {
      *ret_queue = queue;
      return FORKQ__TOOL_GOES_ON;
    }
  forkq__tool_say("the queue that is served at %s belongs to processes that you may not "
                  "look at",
                  text);
  return FORKQ__TOOL_DENIED;
}

int forkq__tool_find(forkq_inspect_t **ret_inspect,
                     const forkq_inspect_queue_t **ret_queue, const char *text) {
  uint64_t inode = 0;
  bool served = forkq__tool_is_served(text);
  int code = served ? forkq__tool_served_inode(&inode, text) : FORKQ__TOOL_GOES_ON;
  if (code == FORKQ__TOOL_GOES_ON)
    code = forkq__tool_look(ret_inspect, 0);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  code = served ? choose_served(*ret_inspect, ret_queue, text, inode)
                : choose(*ret_inspect, ret_queue, text);
  if (code == FORKQ__TOOL_GOES_ON && (*ret_queue)->error != 0)
    code = forkq__tool_say_error((*ret_queue)->error, "queue %s", text);
  if (code != FORKQ__TOOL_GOES_ON)
    forkq_inspect_destroy(*ret_inspect);
  return code;
}

/* ---- words -------------------------------------------------------------------------------- */

const char *forkq__tool_state(const forkq_inspect_queue_t *queue) {
  static const char *const words[] = { "open", "draining", "dropped" };
  return queue->error != 0 ? "unknown" : words[queue->state];
}

const char *forkq__tool_life(const forkq_inspect_process_t *process) {
  static const char *const words[] = { "alive", "stopped", "dead" };
  return words[process->life];
}

const char *forkq__tool_lock(forkq_inspect_lock_kind_t kind) {
  static const char *const words[] = { "write", "read", "turn", "ledger" };
  return words[kind];
}

const char *forkq__tool_wait(forkq_inspect_wait_kind_t kind) {
  static const char *const words[] = { "item", "room", "pipe", "tasks", "lock" };
  return words[kind];
}

const char *forkq__tool_label(const forkq_inspect_queue_t *queue, char text[40]) {
  if (queue->name[0] != '\0')
    snprintf(text, 40, "%s", queue->name);
  else
    snprintf(text, 40, "%" PRIu64, queue->inode);
  return text;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static void set_number(json_t *object, const char *key, uint64_t number) {
  json_object_set_new(object, key, json_integer((json_int_t)number));
}

static json_t *process_json(const forkq_inspect_process_t *process) {
  json_t *object = json_object();
  set_number(object, "pid", (uint64_t)process->pid);
  json_object_set_new(object, "command", json_string(process->command));
  json_object_set_new(object, "life", json_string(forkq__tool_life(process)));
  json_object_set_new(object, "open", json_boolean(process->open));
  set_number(object, "put", process->put_items);
  set_number(object, "unsent", process->unsent_items);
  set_number(object, "got", process->got_items);
  set_number(object, "tasks", process->tasks);
  json_object_set_new(object, "waits_known", json_boolean(process->waits_known));
  return object;
}

static json_t *processes_json(const forkq_inspect_queue_t *queue) {
  json_t *array = json_array();
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    json_array_append_new(array, process_json(process));
  return array;
}

static json_t *waits_json(const forkq_inspect_queue_t *queue) {
  json_t *array = json_array();
  const forkq_inspect_wait_t *wait;
  for (size_t i = 0; (wait = forkq_inspect_wait_at(queue, i)) != NULL; i++) {
    json_t *object = json_object();
    set_number(object, "pid", (uint64_t)wait->pid);
    set_number(object, "tid", (uint64_t)wait->tid);
    json_object_set_new(object, "for", json_string(forkq__tool_wait(wait->kind)));
    if (wait->kind == FORKQ_INSPECT_WAITS_FOR_LOCK)
      json_object_set_new(object, "lock", json_string(forkq__tool_lock(wait->lock)));
    json_array_append_new(array, object);
  }
  return array;
}

static json_t *locks_json(const forkq_inspect_queue_t *queue) {
  json_t *array = json_array();
  for (unsigned kind = 0; kind < FORKQ_INSPECT_LOCKS; kind++) {
    const forkq_inspect_lock_t *lock = forkq_inspect_lock_of(queue, kind);
    if (lock == NULL || (lock->tid == 0 && !lock->owner_died))
      continue;
    json_t *object = json_object();
    json_object_set_new(object, "lock", json_string(forkq__tool_lock(kind)));
    set_number(object, "pid", (uint64_t)lock->pid);
    set_number(object, "tid", (uint64_t)lock->tid);
    json_object_set_new(object, "owner_died", json_boolean(lock->owner_died));
    json_object_set_new(object, "contended", json_boolean(lock->contended));
    json_array_append_new(array, object);
  }
  return array;
}

static size_t count_processes(const forkq_inspect_queue_t *queue) {
  size_t count = 0;
  while (forkq_inspect_process_at(queue, count) != NULL)
    count++;
  return count;
}

json_t *forkq__tool_queue_json(const forkq_inspect_queue_t *queue, bool more) {
  json_t *object = json_object();
  set_number(object, "inode", queue->inode);
  json_object_set_new(object, "name", json_string(queue->name));
  if (queue->error != 0)
    json_object_set_new(object, "error", json_string(forkq_strerror(queue->error)));
  json_object_set_new(object, "state", json_string(forkq__tool_state(queue)));
  json_object_set_new(object, "joinable", json_boolean(queue->joinable));
  set_number(object, "creator", (uint64_t)queue->creator);
  set_number(object, "size", queue->size);
  set_number(object, "maxsize", (uint64_t)queue->maxsize);
  set_number(object, "unsent", queue->unsent_items);
  set_number(object, "puts", queue->put_items);
  set_number(object, "gets", queue->got_items);
  set_number(object, "put_bytes", queue->put_bytes);
  set_number(object, "got_bytes", queue->got_bytes);
  set_number(object, "lost", queue->lost_items);
  set_number(object, "tasks", queue->tasks);
  set_number(object, "abandoned", queue->abandoned_tasks);
  set_number(object, "waiting_getters", queue->waiting_getters);
  set_number(object, "waiting_putters", queue->waiting_putters);
  set_number(object, "joiners", queue->joiners);
  set_number(object, "watchers", queue->watchers);
  set_number(object, "recoveries", queue->recoveries);
  if (more) {
    json_object_set_new(object, "processes", processes_json(queue));
    json_object_set_new(object, "waits", waits_json(queue));
    json_object_set_new(object, "locks", locks_json(queue));
  } else {
    set_number(object, "processes", count_processes(queue));
  }
  return object;
}

int forkq__tool_print_json(json_t *value) {
  int r = json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
  putchar('\n');
  json_decref(value);
  return r == 0 ? FORKQ__TOOL_OK : forkq__tool_say("cannot write the output");
}
