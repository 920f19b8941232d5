#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int result) {
  if (result >= 0)
    return;
  fprintf(stderr, "smallest: %s\n", forkq_strerror(result));
  exit(EXIT_FAILURE);
}

static int work(void *queue) {
  must(forkq_queue_put_int(queue, 42, -1));
  return EXIT_SUCCESS; /* the end of the process sends what was put */
}

int main(void) {
  forkq_queue_t *queue;
  forkq_process_t *process;
  forkq_item_t item = FORKQ_ITEM_INIT;

  must(forkq_queue_create(&queue, 10)); /* holds up to ten items */
  must(forkq_process_start(&process, work, queue, NULL));
  must(forkq_queue_get(queue, &item, 10000)); /* waits ten seconds at most */
  msgpack_object_print(stdout, item.object);
  putchar('\n');
  must(forkq_process_join(process, -1));

  forkq_item_destroy(&item);
  forkq_process_destroy(process);
  forkq_queue_destroy(queue);
  return EXIT_SUCCESS;
}
