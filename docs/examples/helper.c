/* helper: a program starts two helpers with exec, gives them two queues, and exchanges structs with them.
 * Parent and helpers are one program here. Two programs do the same, if they agree about the structs. */
#include <forkq.h>
#include <forkq/handover.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPERS 2
#define TASKS 1000
#define PATIENCE_MS 10000

struct task {
  int number;
};

struct result {
  pid_t helper;
  int number;
  long square;
};

static void must(int result, const char *what) {
  if (result >= 0)
    return;
  fprintf(stderr, "helper: %s: %s\n", what, forkq_strerror(result));
  exit(EXIT_FAILURE);
}

/* Gets a struct, which may be of another size if the other program is of another version. Returns 0 if no
 * more will come. */
static int get(forkq_queue_t *queue, void *memory, size_t size) {
  size_t got;
  int r = forkq_queue_get_bytes_into(queue, memory, size, PATIENCE_MS, &got);
  if (r == FORKQ_ESHUTDOWN)
    return 0;
  must(r, "get");
  must(got == size ? 0 : FORKQ_EBADFRAME, "get");
  return 1;
}

/* ---- the helper ------------------------------------------------------------------------------ */

static int help(const char *tasks_text, const char *results_text) {
  forkq_queue_t *tasks, *results;
  struct task task;
  must(forkq_queue_attach(&tasks, tasks_text, NULL), "attach");
  must(forkq_queue_attach(&results, results_text, NULL), "attach");
  while (get(tasks, &task, sizeof task)) {
    long number = task.number;
    struct result result = { getpid(), task.number, number * number };
    must(forkq_queue_put_bytes(results, &result, sizeof result, PATIENCE_MS), "put");
  }
  forkq_queue_destroy(tasks);
  forkq_queue_destroy(results); /* sends what was put */
  return EXIT_SUCCESS;
}

/* ---- its parent ------------------------------------------------------------------------------ */

static pid_t start(const forkq_handover_t *tasks, const forkq_handover_t *results) {
  pid_t child = fork();
  if (child != 0)
    return child;
  if (forkq_handover_keep(tasks) == 0 && forkq_handover_keep(results) == 0)
    execl("/proc/self/exe", "helper", tasks->text, results->text, (char *)NULL);
  _exit(127);
}

static int all_succeeded(const pid_t *helpers) {
  int succeeded = 0;
  for (int i = 0; i < HELPERS; i++) {
    int status;
    if (waitpid(helpers[i], &status, 0) == helpers[i] && status == 0)
      succeeded++;
  }
  return succeeded == HELPERS;
}

int main(int count, char **arguments) {
  forkq_queue_t *tasks, *results;
  forkq_handover_t of_tasks, of_results;
  pid_t helpers[HELPERS];
  long sum = 0;
  if (count == 3)
    return help(arguments[1], arguments[2]);

  must(forkq_queue_create(&tasks, 0), "create");
  must(forkq_queue_create(&results, 100), "create");
  must(forkq_queue_hand_over(tasks, &of_tasks), "hand over");
  must(forkq_queue_hand_over(results, &of_results), "hand over");
  for (int i = 0; i < HELPERS; i++)
    helpers[i] = start(&of_tasks, &of_results);

  for (int i = 1; i <= TASKS; i++) {
    struct task task = { i };
    must(forkq_queue_put_bytes(tasks, &task, sizeof task, PATIENCE_MS), "put");
  }
  must(forkq_queue_shutdown(tasks, 0), "shut down"); /* the helpers end after the last */

  for (int i = 0; i < TASKS; i++) {
    struct result result;
    if (!get(results, &result, sizeof result))
      must(FORKQ_ESHUTDOWN, "get");
    sum += result.square;
  }
  printf("sum of the first %d squares: %ld\n", TASKS, sum);

  forkq_queue_destroy(tasks);
  forkq_queue_destroy(results);
  return all_succeeded(helpers) ? EXIT_SUCCESS : EXIT_FAILURE;
}
