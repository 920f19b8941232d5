/* redis_peer URL: calls on a queue of a server, as a program in another language asks for them. Each line is a call, and its
 * answer a line: a number, or a text. */
#include <forkq.h>
#include <forkq/redis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static forkq_item_t item;

static void say(int64_t number) {
  printf("%lld\n", (long long)number);
  fflush(stdout);
}

static void get(forkq_queue_t *queue, int timeout_ms) {
  int r = forkq_queue_get(queue, &item, timeout_ms);
  if (r < 0 || item.object.type != MSGPACK_OBJECT_STR) {
    printf("%s\n", forkq_error_name(r));
  } else {
    printf("%.*s %u\n", (int)item.object.via.str.size, item.object.via.str.ptr,
           item.redelivered);
  }
  fflush(stdout);
}

static void call(forkq_queue_t *queue, const char *name, const char *text, int timeout) {
  if (strcmp(name, "put") == 0)
    say(forkq_queue_put_str(queue, text, timeout));
  else if (strcmp(name, "get") == 0)
    get(queue, timeout);
  else if (strcmp(name, "done") == 0)
    say(forkq_queue_task_done(queue));
  else if (strcmp(name, "join") == 0)
    say(forkq_queue_join(queue, timeout, NULL));
  else if (strcmp(name, "qsize") == 0)
    say(forkq_queue_qsize(queue));
  else
    say(forkq_queue_shutdown(queue, false));
}

int main(int argc, char **argv) {
  forkq_queue_t *queue;
  char line[256], name[16], text[200];
  int timeout;
  int r = argc == 2 ? forkq_redis_open(&queue, argv[1], NULL) : FORKQ_ENULL;
  if (r < 0) {
    fprintf(stderr, "%s: %s\n", forkq_error_name(r), forkq_redis_error());
    return EXIT_FAILURE;
  }
  while (fgets(line, sizeof line, stdin) != NULL &&
         sscanf(line, "%15s %d %199s", name, &timeout, text) == 3)
    call(queue, name, text, timeout);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
  return EXIT_SUCCESS;
}
