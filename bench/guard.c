/* Six fixed cases for ./dev guard, in one process and always with the same steps, so
 * that what is counted depends on the code and hardly on the machine. guard.sh runs them
 * under callgrind, which is told here when to count:
 *
 *   put, get   the instructions of the caller's thread in puts, or in gets
 *   all        those of all threads from the second round on, the feeder's with them
 *
 * and under strace, with many rounds and with none, for the system calls.
 *
 * A round fills the queue with no more than fits into the pipe, waits until the feeder has
 * written it all, and empties it: neither side waits for the other within what is counted. */
#define _GNU_SOURCE
#include <err.h>
#include <forkq.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <valgrind/callgrind.h>

#define BATCH 64
#define NAPS_MAX 100
#define BIN_HEADER 5
#define SIZE_MAX_HERE 65536

struct guard_case {
  const char *name;
  size_t size;
  int64_t maxsize;
  int round;   /* messages that are put before they are got */
  bool beside; /* they do not fit into the pipe: the gets work beside the feeder */
  void (*put)(int count);
  void (*get)(int count);
};

static const struct guard_case *the_case;
static forkq_queue_t *queue;
static forkq_item_t items[BATCH];
static unsigned char bin[BIN_HEADER + SIZE_MAX_HERE];
static msgpack_object objects[BATCH];

static void must(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

static void put_packed(int count) {
  for (int i = 0; i < count; i++)
    must(forkq_queue_put_packed(queue, bin, BIN_HEADER + the_case->size, -1), "put");
}

static void get_packed(int count) {
  for (int i = 0; i < count; i++)
    must(forkq_queue_get_packed(queue, &items[0], -1), "get");
}

static int pack_key(msgpack_packer *packer, const char *key) {
  return msgpack_pack_str_with_body(packer, key, strlen(key));
}

static int pack_record(msgpack_packer *packer, void *arg) {
  (void)arg;
  int failed = msgpack_pack_map(packer, 3);
  failed |= pack_key(packer, "id");
  failed |= msgpack_pack_uint64(packer, 123456);
  failed |= pack_key(packer, "name");
  failed |= pack_key(packer, "a name");
  failed |= pack_key(packer, "values");
  failed |= msgpack_pack_array(packer, 3);
  for (int i = 0; i < 3; i++)
    failed |= msgpack_pack_double(packer, 0.5 * i);
  return failed;
}

static void put_objects(int count) {
  for (int i = 0; i < count; i++)
    must(forkq_queue_put_with(queue, pack_record, NULL, -1), "put");
}

static void get_objects(int count) {
  for (int i = 0; i < count; i++)
    must(forkq_queue_get(queue, &items[0], -1), "get");
}

static void put_batches(int count) {
  size_t put;
  for (int done = 0; done < count; done += (int)put)
    must(forkq_queue_put_many(queue, objects, BATCH, -1, &put), "put_many");
}

static void get_batches(int count) {
  size_t got;
  for (int done = 0; done < count; done += (int)got)
    must(forkq_queue_get_many(queue, items, BATCH, -1, &got), "get_many");
}

static const struct guard_case cases[] = {
  { "64B", 64, 0, 512, false, put_packed, get_packed },
  { "64B-bounded", 64, 1000, 512, false, put_packed, get_packed },
  { "dict", 64, 0, 512, false, put_objects, get_objects },
  { "64B-batch", 64, 0, 512, false, put_batches, get_batches },
  { "1KiB", 1024, 1000, 32, false, put_packed, get_packed },
  { "64KiB", 65536, 64, 8, true, put_packed, get_packed },
};

static void prepare(void) {
  static char payload[64];
  forkq_queue_options_t options = {
    .size = sizeof options,
    .maxsize = the_case->maxsize,
    .no_direct_write = 1,
  };
  must(forkq_queue_create_with(&queue, &options), "create");
  bin[0] = 0xc6;
  for (int i = 1; i < BIN_HEADER; i++)
    bin[i] = (unsigned char)(the_case->size >> (32 - 8 * i));
  for (int i = 0; i < BATCH; i++) {
    objects[i].type = MSGPACK_OBJECT_BIN;
    objects[i].via.bin.ptr = payload;
    objects[i].via.bin.size = sizeof payload;
  }
}

/* Or until the pipe must have taken what it can: packets that the feeder took half full may
 * be more than it has room for. */
static void wait_until_written(void) {
  const struct timespec moment = { .tv_nsec = 2000000 };
  forkq_queue_stats_t stats = { .size = sizeof stats };
  for (int i = 0; i < (the_case->beside ? 1 : NAPS_MAX); i++) {
    nanosleep(&moment, NULL);
    must(forkq_queue_stats(queue, &stats), "stats");
    if (stats.outbox_items == 0)
      return;
  }
}

/* On one CPU, where nobody who is woken takes it from the one who runs: a round of puts is
 * over before the feeder begins. */
static void take_turns(void) {
  const struct sched_param none = { 0 };
  cpu_set_t set;
  int cpu = sched_getcpu();
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  if (cpu < 0 || sched_setaffinity(0, sizeof set, &set) < 0 ||
      sched_setscheduler(0, SCHED_BATCH, &none) < 0)
    err(EXIT_FAILURE, "one CPU");
}

static bool is_phase(const char *phase, const char *name) {
  return strcmp(phase, name) == 0;
}

static void run_round(const char *phase) {
  if (is_phase(phase, "put"))
    CALLGRIND_TOGGLE_COLLECT;
  the_case->put(the_case->round);
  if (is_phase(phase, "put"))
    CALLGRIND_TOGGLE_COLLECT;
  wait_until_written();
  if (is_phase(phase, "get"))
    CALLGRIND_TOGGLE_COLLECT;
  the_case->get(the_case->round);
  if (is_phase(phase, "get"))
    CALLGRIND_TOGGLE_COLLECT;
}

static const struct guard_case *find_case(const char *name) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    if (strcmp(cases[i].name, name) == 0)
      return &cases[i];
  errx(2, "no such case: %s", name);
}

/* Prints how many messages are counted. The first round is not: it starts the feeder, and
 * makes memory for packets and items. */
int main(int argc, char **argv) {
  if (argc != 4)
    errx(2, "usage: guard CASE put|get|all ROUNDS");
  the_case = find_case(argv[1]);
  int rounds = atoi(argv[3]);
  take_turns();
  prepare();
  run_round("");
  if (is_phase(argv[2], "all"))
    CALLGRIND_START_INSTRUMENTATION;
  for (int i = 0; i < rounds; i++)
    run_round(argv[2]);
  if (is_phase(argv[2], "all"))
    CALLGRIND_STOP_INSTRUMENTATION;
  forkq_queue_destroy(queue);
  for (int i = 0; i < BATCH; i++)
    forkq_item_destroy(&items[i]);
  printf("%d\n", rounds * the_case->round);
  return EXIT_SUCCESS;
}
