/* What a Redis server answers: whatever it is, each call on a queue of it ends in time, with a result that it may have, and
 * nothing is read that is not there.
 *
 * The first bytes choose what the server says before the input (all that a connection begins with, or nothing), how many
 * bytes of the input a connection gives before it ends, in what pieces, and the calls. Then come the answers. There is no
 * socket: this file stands in for src/redis/net.c. */
#include "fuzz.h"

#include "redis/net.h"

#include <errno.h>
#include <forkq.h>
#include <forkq/redis.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define ANSWER_MS 5
#define SHORT_MS 3
#define LATE_MS 3000 /* of a machine that others use, too */
#define CALLS 8
#define BATCH 3

#define SHA "$40\r\n0123456789012345678901234567890123456789\r\n"
static const char greeting[] =
    "+OK\r\n:7\r\n"
    "$52\r\nredis_version:7.0.15\r\nrun_id:0123abcd\r\nmaxmemory:0\r\n\r\n" SHA SHA SHA
        SHA SHA SHA SHA SHA SHA SHA SHA;
static const char killed[] = ":1\r\n";
static const char opened[] = "*6\r\n:5\r\n$3\r\n1.2\r\n:4\r\n:1\r\n:1\r\n:1\r\n";

/* The server: what it says, then so many bytes of the input. */
static struct fuzz_input answers;
static char first[1024];
static size_t first_size, first_given, left, most, piece;
static bool greets;
static int connections;

static void say(const char *text) {
  size_t size = strlen(text);
  memcpy(first + first_size, text, size);
  first_size += size;
}

int forkq__net_connect(const struct forkq__redis_config *config,
                       const struct forkq__patience *patience) {
  (void)config, (void)patience;
  if (connections > 0 && answers.size == 0)
    return -ECONNREFUSED;
  first_size = first_given = 0;
  left = most;
  if (greets) {
    say(greeting);
    if (connections > 0)
      say(killed);
    say(opened);
  }
  connections++;
  return eventfd(1, EFD_CLOEXEC); /* ready, always */
}

ssize_t forkq__net_write(int fd, const void *data, size_t size) {
  (void)fd, (void)data;
  return (ssize_t)size;
}

ssize_t forkq__net_read(int fd, void *data, size_t size) {
  (void)fd;
  if (first_given < first_size) {
    size_t n = first_size - first_given < size ? first_size - first_given : size;
    memcpy(data, first + first_given, n);
    first_given += n;
    return (ssize_t)n;
  }
  size = size < piece ? size : piece;
  size = size < left ? size : left;
  struct fuzz_input some = fuzz_take(&answers, size);
  left -= some.size;
  if (some.size > 0)
    memcpy(data, some.data, some.size);
  return (ssize_t)some.size;
}

/* ---- the calls ------------------------------------------------------------------------------ */

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int put(forkq_queue_t *queue, int timeout_ms) {
  static const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  return forkq_queue_put(queue, &nil, timeout_ms);
}

static int put_many(forkq_queue_t *queue) {
  static const msgpack_object nils[BATCH] = { { .type = MSGPACK_OBJECT_NIL } };
  size_t count = 0;
  int r = forkq_queue_put_many(queue, nils, BATCH, 0, &count);
  MUST(count <= BATCH && (r < 0) == (count == 0));
  return r;
}

static int get(forkq_queue_t *queue, int timeout_ms, bool marks) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get(queue, &item, timeout_ms);
  if (r == 0 && marks)
    (void)!forkq_queue_task_done_item(queue, &item);
  forkq_item_destroy(&item);
  return r;
}

static int get_many(forkq_queue_t *queue) {
  forkq_item_t items[BATCH] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t count = 0;
  int r = forkq_queue_get_many_packed(queue, items, BATCH, 0, &count);
  MUST(count <= BATCH && (r < 0) == (count == 0));
  for (size_t i = 0; i < BATCH; i++)
    forkq_item_destroy(&items[i]);
  return r;
}

static int call(forkq_queue_t *queue, unsigned which) {
  switch (which % 12) {
  case 0:
    return put(queue, 0);
  case 1:
    return put(queue, SHORT_MS);
  case 2:
    return put_many(queue);
  case 3:
    return get(queue, 0, true);
  case 4:
    return get(queue, SHORT_MS, false);
  case 5:
    return get_many(queue);
  case 6:
    return forkq_queue_task_done(queue);
  case 7:
    return forkq_queue_join(queue, 0, NULL);
  case 8:
    return forkq_queue_join(queue, SHORT_MS, NULL);
  case 9:
    return forkq_queue_qsize(queue) < 0 ? -1 : 0;
  case 10:
    return forkq_queue_full(queue) < 0 ? -1 : 0;
  default:
    return forkq_queue_shutdown(queue, which & 0x80);
  }
}

static void in_time(int64_t began) {
  MUST(now_ms() - began <= LATE_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const size_t pieces[] = { 1, 7, 64, 16384 };
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  forkq_queue_t *queue;
  answers = (struct fuzz_input){ data, size };
  uint64_t how = fuzz_number(&answers, 1);
  greets = how & 1;
  piece = pieces[how >> 1 & 3];
  most = (size_t)fuzz_number(&answers, 2) + 1;
  struct fuzz_input calls = fuzz_take(&answers, CALLS);
  connections = 0;
  options.answer_ms = ANSWER_MS;
  int64_t began = now_ms();
  int r = forkq_redis_open(&queue, "redis://h?queue=q&lease=86400000", &options);
  in_time(began);
  if (r < 0)
    return 0;
  for (int i = 0; i < CALLS; i++) {
    began = now_ms();
    (void)call(queue, (unsigned)fuzz_number(&calls, 1));
    in_time(began);
  }
  began = now_ms();
  (void)!forkq_queue_close(queue);
  in_time(began);
  forkq_queue_destroy(queue);
  return 0;
}
