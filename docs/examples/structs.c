/* structs: four producers send structs as they are; the consumer gets each into a struct of its own. */
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCERS 4
#define SAMPLES 1000 /* of each */

/* All processes are forks of one, so they have the same layout. */
struct sample {
  int producer;
  double value;
};

static void must(int result, const char *what) {
  if (result >= 0)
    return;
  fprintf(stderr, "structs: %s: %s\n", what, forkq_strerror(result));
  exit(EXIT_FAILURE);
}

static void produce(forkq_queue_t *queue, int producer) {
  for (int i = 0; i < SAMPLES; i++) {
    struct sample sample = { .producer = producer, .value = i };
    must(forkq_queue_put_bytes(queue, &sample, sizeof sample, -1), "put");
  }
  exit(EXIT_SUCCESS); /* sends what was put */
}

int main(void) {
  forkq_queue_t *queue;
  double sum = 0;
  int count[PRODUCERS] = { 0 };
  must(forkq_queue_create(&queue, 100), "create");
  for (int i = 0; i < PRODUCERS; i++)
    if (fork() == 0)
      produce(queue, i);

  for (int i = 0; i < PRODUCERS * SAMPLES; i++) {
    struct sample sample;
    size_t size;
    must(forkq_queue_get_bytes_into(queue, &sample, sizeof sample, 10000, &size), "get");
    if (size != sizeof sample)
      must(FORKQ_EBADFRAME, "get");
    count[sample.producer]++;
    sum += sample.value;
  }
  for (int i = 0; i < PRODUCERS; i++)
    printf("%d of producer %d\n", count[i], i);
  printf("sum %.0f\n", sum);

  forkq_queue_destroy(queue);
  while (wait(NULL) > 0)
    ;
  return EXIT_SUCCESS;
}
