/* A program that uses libforkq-redis, without a server. */
#include <forkq/redis.h>

int main(void) {
  forkq_queue_t *queue;
  int r = forkq_redis_open(&queue, "redis+unix:///nonexistent/s?queue=jobs", NULL);
  return r < 0 && forkq_redis_error()[0] != '\0' ? 0 : 1;
}
