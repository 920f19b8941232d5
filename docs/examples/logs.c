/* logs [WORKERS [RECORDS [ROOM]]]: a log collector. Workers put records on one queue with room for ROOM of
 * them, and the collector prints each as a line.
 *
 * A worker must not wait for its log. So it puts with a timeout of 0, and drops the record when the queue is
 * full. It counts what it drops, and puts the count when it ends. The collector prints the sum last. */
#include <err.h>
#include <errno.h>
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static forkq_queue_t *queue;

static void check(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

/* ---- a worker ------------------------------------------------------------------------------ */

static uint64_t dropped;

static void say(const char *level, const char *text) {
  int r = forkq_queue_putf(queue, 0, "{s:s,s:i,s:s}", "level", level, "pid",
                           (int)getpid(), "text", text);
  if (r == FORKQ_FULL)
    dropped++;
  else
    check(r, "put");
}

static void work(int records) {
  char text[64];
  for (int i = 1; i <= records; i++) {
    snprintf(text, sizeof text, "step %d of %d", i, records);
    say(i % 10 == 0 ? "warning" : "info", text);
  }
  check(forkq_queue_putf(queue, -1, "{s:U}", "dropped", dropped), "put");
  exit(EXIT_SUCCESS); /* sends what was put */
}

/* ---- the collector ------------------------------------------------------------------------- */

static void print(const msgpack_object *record) {
  char level[16], text[256];
  int pid;
  if (forkq_object_scanf(record, "{s:s,s:i,s:s}", "level", level, sizeof level, "pid",
                         &pid, "text", text, sizeof text) < 0)
    errx(EXIT_FAILURE, "record: %s", forkq_format_error());
  printf("%-7s %d %s\n", level, pid, text);
}

/* Until no worker lives and the queue is empty. A worker that is killed takes its count with it. */
static uint64_t collect(int workers) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  uint64_t sum = 0, count;
  int r;
  while ((r = forkq_queue_get(queue, &item, workers > 0 ? 100 : 0)) != FORKQ_EMPTY) {
    if (r != FORKQ_TIMEDOUT)
      check(r, "get");
    if (r == 0 && forkq_object_scanf(&item.object, "{s:U}", "dropped", &count) == 0)
      sum += count;
    else if (r == 0)
      print(&item.object);
    while (workers > 0 && waitpid(-1, NULL, WNOHANG) > 0)
      workers--;
  }
  forkq_item_destroy(&item);
  return sum;
}

int main(int argc, char **argv) {
  int workers = argc > 1 ? atoi(argv[1]) : 4;
  int records = argc > 2 ? atoi(argv[2]) : 1000;
  int room = argc > 3 ? atoi(argv[3]) : 100;
  check(forkq_queue_create(&queue, room), "create");
  for (int i = 0; i < workers; i++) {
    pid_t pid = fork();
    check(pid < 0 ? -errno : 0, "fork");
    if (pid == 0)
      work(records);
  }
  printf("%ju dropped\n", (uintmax_t)collect(workers));
  forkq_queue_destroy(queue);
  return EXIT_SUCCESS;
}
