/* Collects reports of programs that it does not know: they find its queue by a path.
 *
 *     ./collect /tmp/reports 3 &
 *     ./report /tmp/reports disk 81
 *     ./report /tmp/reports memory 43
 *     ./report /tmp/reports load 2
 *
 * Each program that runs as the same user can report, and from any directory. Nothing goes through a
 * server: report.c puts into the queue itself. */
#include <forkq.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int result) {
  if (result >= 0)
    return;
  fprintf(stderr, "collect: %s\n", forkq_strerror(result));
  exit(EXIT_FAILURE);
}

/* Whatever others put: what does not look like a report is passed over. */
static int print_report(forkq_queue_t *queue, forkq_item_t *item) {
  char name[64];
  int64_t value;
  must(forkq_queue_get(queue, item, -1));
  if (forkq_object_scanf(&item->object, "{s:s,s:I}", "name", name, sizeof name, "value",
                         &value) < 0)
    return 0;
  printf("%s %" PRId64 "\n", name, value);
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: collect PATH COUNT\n");
    return EXIT_FAILURE;
  }
  forkq_queue_t *queue;
  forkq_server_t *server;
  forkq_item_t item = FORKQ_ITEM_INIT;
  must(forkq_queue_create(&queue, 100));
  must(forkq_queue_serve(&server, queue, argv[1], NULL));
  for (int left = atoi(argv[2]); left > 0;)
    left -= print_report(queue, &item);
  forkq_server_destroy(server); /* the path is gone */
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
  return EXIT_SUCCESS;
}
