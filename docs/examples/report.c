/* Reports a number to whoever collects them at a path: see collect.c, of which it knows no more. */
#include <errno.h>
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PATIENCE_MS 10000
#define NAP_MS 20

/* The other program may be starting just now: there is no path yet, or nobody listens there. */
static int connect_patiently(forkq_queue_t **ret_queue, const char *path) {
  const struct timespec nap = { 0, NAP_MS * 1000000L };
  int r = -ENOENT;
  for (int ms = 0; ms < PATIENCE_MS && (r == -ENOENT || r == -ECONNREFUSED);
       ms += NAP_MS) {
    r = forkq_queue_connect(ret_queue, path, PATIENCE_MS, NULL);
    if (r == -ENOENT || r == -ECONNREFUSED)
      nanosleep(&nap, NULL);
  }
  return r;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: report PATH NAME VALUE\n");
    return EXIT_FAILURE;
  }
  forkq_queue_t *queue;
  int r = connect_patiently(&queue, argv[1]);
  if (r == 0) {
    r = forkq_queue_putf(queue, PATIENCE_MS, "{s:s,s:I}", "name", argv[2], "value",
                         (int64_t)atoll(argv[3]));
    forkq_queue_destroy(queue); /* waits until it is sent */
  }
  if (r < 0)
    fprintf(stderr, "report: %s\n", forkq_strerror(r));
  return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
