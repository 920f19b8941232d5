#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  forkq_queue_t *queue;
  int r = forkq_queue_create(&queue, 10); /* holds up to ten items */
  if (r < 0) {
    fprintf(stderr, "create: %s\n", forkq_strerror(r));
    return EXIT_FAILURE;
  }

  pid_t child = fork();
  if (child == 0) {
    r = forkq_queue_put_int(queue, 42, -1);
    exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS); /* exit sends what was put */
  }

  forkq_item_t item = FORKQ_ITEM_INIT;
  r = forkq_queue_get(queue, &item, 10000); /* waits ten seconds at most */
  if (r < 0) {
    fprintf(stderr, "get: %s\n", forkq_strerror(r));
  } else {
    msgpack_object_print(stdout, item.object);
    putchar('\n');
  }

  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
  return waitpid(child, NULL, 0) == child && r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
