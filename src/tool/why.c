/* forkq why: what a process waits for, and who could end it. */
#include "tool/cases.h"
#include "tool/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKS = 5, LOOK_MS = 5 };

/* What was found out: lines of text, and the same for programs. */
struct answer {
  json_t *array;
};

static void add(struct answer *answer, const char *name, const char *text,
                const struct forkq__tool_cause *cause) {
  json_t *object = json_object();
  json_object_set_new(object, "case", json_string(name));
  json_object_set_new(object, "text", json_string(text));
  if (cause != NULL) {
    json_object_set_new(object, "queue", json_integer((json_int_t)cause->queue->inode));
    json_object_set_new(object, "name", json_string(cause->queue->name));
    if (cause->wait != NULL)
      json_object_set_new(object, "tid", json_integer(cause->wait->tid));
    if (cause->blamed != NULL)
      json_object_set(object, "pids", cause->blamed);
  }
  json_array_append_new(answer->array, object);
}

/* ---- one queue ---------------------------------------------------------------------------- */

static int explain(struct answer *answer, struct forkq__tool_cause *cause) {
  char *text = NULL;
  size_t size = 0;
  cause->text = open_memstream(&text, &size);
  if (cause->text == NULL)
    return forkq__tool_say_error(-errno, "cannot answer");
  cause->blamed = json_array();
  const struct forkq__tool_case *one = forkq__tool_case_of(cause);
  fclose(cause->text);
  add(answer, one->name, text, cause);
  json_decref(cause->blamed);
  free(text);
  return FORKQ__TOOL_GOES_ON;
}

static const forkq_inspect_process_t *process_of(const forkq_inspect_queue_t *queue,
                                                 pid_t pid) {
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    if (process->pid == pid)
      return process;
  return NULL;
}

/* All that the queue itself tells, where the system shows no thread. */
static void explain_unknown(struct answer *answer,
                            const struct forkq__tool_cause *cause) {
  char text[384];
  snprintf(text, sizeof text,
           "the system does not show what its threads do; run forkq as root, or see "
           "kernel.yama.ptrace_scope; of all processes, %" PRIu32
           " calls wait to get, %" PRIu32 " to put, %" PRIu32 " to join",
           cause->queue->waiting_getters, cause->queue->waiting_putters,
           cause->queue->joiners);
  add(answer, "denied", text, cause);
}

static int explain_queue(struct answer *answer, const forkq_inspect_queue_t *queue,
                         pid_t pid) {
  struct forkq__tool_cause cause = { .queue = queue, .process = process_of(queue, pid) };
  if (cause.process == NULL)
    return FORKQ__TOOL_GOES_ON;
  if (queue->error != 0) {
    add(answer, "unknown", forkq_strerror(queue->error), &cause);
    return FORKQ__TOOL_GOES_ON;
  }
  if (!cause.process->waits_known)
    explain_unknown(answer, &cause);
  int code = FORKQ__TOOL_GOES_ON;
  for (size_t i = 0; code == FORKQ__TOOL_GOES_ON &&
                     (cause.wait = forkq_inspect_wait_at(queue, i)) != NULL;
       i++)
    if (cause.wait->pid == pid)
      code = explain(answer, &cause);
  return code;
}

/* ---- the process -------------------------------------------------------------------------- */

static bool is_stopped(const forkq_inspect_t *inspect, pid_t pid) {
  const forkq_inspect_process_t *process =
      process_of(forkq_inspect_queue_at(inspect, 0), pid);
  return process != NULL && process->life == FORKQ_INSPECT_STOPPED;
}

static int explain_process(struct answer *answer, const forkq_inspect_t *inspect,
                           pid_t pid) {
  const forkq_inspect_queue_t *queue;
  int code = FORKQ__TOOL_GOES_ON;
  if (forkq_inspect_queue_at(inspect, 0) == NULL) {
    add(answer, "no-queue", "it has no queue open", NULL);
    return code;
  }
  if (is_stopped(inspect, pid))
    add(answer, "stopped", "it is stopped itself", NULL);
  for (size_t i = 0; code == FORKQ__TOOL_GOES_ON &&
                     (queue = forkq_inspect_queue_at(inspect, i)) != NULL;
       i++)
    code = explain_queue(answer, queue, pid);
  if (json_array_size(answer->array) == 0)
    add(answer, "none", "it has queues open, and none of its threads waits for one",
        NULL);
  return code;
}

static void print(const struct answer *answer, pid_t pid) {
  size_t i;
  json_t *object;
  json_array_foreach(answer->array, i, object) {
    const json_t *queue = json_object_get(object, "queue");
    const char *name = json_string_value(json_object_get(object, "name"));
    printf("%d", (int)pid);
    if (queue != NULL && name[0] != '\0')
      printf(", queue %s", name);
    else if (queue != NULL)
      printf(", queue %" JSON_INTEGER_FORMAT, json_integer_value(queue));
    printf(": %s\n", json_string_value(json_object_get(object, "text")));
  }
}

static int print_cases(void) {
  for (const struct forkq__tool_case *one = forkq__tool_cases; one->name != NULL; one++)
    printf("%s\n", one->name);
  return FORKQ__TOOL_OK;
}

static int look_once(struct answer *answer, pid_t pid) {
  forkq_inspect_t *inspect;
  int code = forkq__tool_look(&inspect, pid);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  json_array_clear(answer->array);
  code = explain_process(answer, inspect, pid);
  forkq_inspect_destroy(inspect);
  return code;
}

static bool waits(const struct answer *answer) {
  const json_t *first = json_array_get(answer->array, 0);
  return strcmp(json_string_value(json_object_get(first, "case")), "none") != 0;
}

/* Who waits looks from time to time whether all is well, and does not sleep meanwhile. So one look is not
 * enough to say that nobody waits. */
static int look_for_waits(struct answer *answer, pid_t pid) {
  int code = look_once(answer, pid);
  for (int looks = 1; code == FORKQ__TOOL_GOES_ON && !waits(answer) && looks < LOOKS;
       looks++) {
    (void)poll(NULL, 0, LOOK_MS);
    code = look_once(answer, pid);
  }
  return code;
}

static int answer_for(pid_t pid, bool json) {
  struct answer answer = { json_array() };
  int code = look_for_waits(&answer, pid);
  if (code == FORKQ__TOOL_GOES_ON && json) {
    code = forkq__tool_print_json(json_incref(answer.array));
  } else if (code == FORKQ__TOOL_GOES_ON) {
    print(&answer, pid);
    code = FORKQ__TOOL_OK;
  }
  json_decref(answer.array);
  return code;
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  bool json = false, cases = false;
  pid_t pid;
  const struct forkq__tool_option options[] = {
    FORKQ__TOOL_JSON(&json),
    { .name = "cases", .help = "list the cases that it knows", .flag = &cases },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (cases)
    return print_cases();
  if (argc != 1 || !forkq__tool_is_pid(argv[0], &pid))
    return forkq__tool_misuse(self, "which process?");
  return answer_for(pid, json);
}

const struct forkq__tool_command forkq__tool_why = {
  "why", "PID", "what a process waits for, and who could end it", run
};
