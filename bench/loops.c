/* loops: four processes, each with a libuv loop, pass a million messages through one bounded
 * queue, each putting and getting, while a timer of 1 ms runs on each loop. Prints, for each of
 * five runs, the rate and by how much a timer was late at worst; then the median of that. Every
 * message is counted, and summed up. */
#include <forkq.h>
#include <forkq/loop_handle.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOPS = 4, MESSAGES = 1000000, IN_FLIGHT = 16, MAXSIZE = 1000, RUNS = 5 };

static struct { _Atomic uint64_t got, sum, latest_ns; } * shared;

static forkq_queue_t *queue;
static forkq_loop_handle_t *handle;
static uv_loop_t loop;
static uv_timer_t timer;
static uint64_t next_number, last_number, tick_ns;
static forkq_loop_req_t put_reqs[IN_FLIGHT], get_reqs[IN_FLIGHT];
static forkq_item_t items[IN_FLIGHT];

static void must(int result, const char *what) {
  if (result >= 0)
    return;
  fprintf(stderr, "loops: %s: %s\n", what, forkq_strerror(result));
  exit(EXIT_FAILURE);
}

static void on_tick(uv_timer_t *uv) {
  uint64_t now = uv_hrtime();
  uint64_t late = now - tick_ns > 1000000 ? now - tick_ns - 1000000 : 0;
  uint64_t worst = shared->latest_ns;
  (void)uv;
  while (late > worst && !atomic_compare_exchange_weak(&shared->latest_ns, &worst, late))
    ;
  tick_ns = now;
}

static void on_put(forkq_loop_req_t *req, int status) {
  must(status, "put");
  if (next_number == last_number)
    return;
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = next_number++;
  must(forkq_loop_put(req, handle, &object, -1, on_put), "put");
}

static void on_got(forkq_loop_req_t *req, int status) {
  forkq_item_t *item = &items[req - get_reqs];
  if (status == FORKQ_ESHUTDOWN) {
    uv_timer_stop(&timer);
    return;
  }
  must(status, "get");
  shared->sum += item->object.via.u64;
  if (++shared->got == MESSAGES)
    must(forkq_queue_shutdown(queue, 0), "shutdown");
  must(forkq_loop_get(req, handle, item, -1, on_got), "get");
}

static void run_loop(int index) {
  next_number = (uint64_t)index * MESSAGES / LOOPS;
  last_number = next_number + MESSAGES / LOOPS;
  must(uv_loop_init(&loop), "loop");
  must(forkq_loop_open_queue(&handle, &loop, queue), "handle");
  uv_timer_init(&loop, &timer);
  tick_ns = uv_hrtime();
  uv_timer_start(&timer, on_tick, 1, 1);
  for (int i = 0; i < IN_FLIGHT; i++) {
    on_put(&put_reqs[i], 0);
    must(forkq_loop_get(&get_reqs[i], handle, &items[i], -1, on_got), "get");
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  must(forkq_loop_close(handle, NULL, NULL), "close");
  uv_close((uv_handle_t *)&timer, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  must(uv_loop_close(&loop), "loop");
}

static int run_once(double *ret_late_ms) {
  int failed = 0;
  *shared = (typeof(*shared)){ 0 };
  must(forkq_queue_create(&queue, MAXSIZE), "queue");
  fflush(stdout);
  uint64_t begin = uv_hrtime();
  for (int i = 0; i < LOOPS; i++)
    if (fork() == 0) {
      run_loop(i);
      exit(EXIT_SUCCESS);
    }
  for (int i = 0, status; i < LOOPS; i++)
    failed |= wait(&status) < 0 || status != 0;
  double seconds = (double)(uv_hrtime() - begin) / 1e9;
  forkq_queue_destroy(queue);
  *ret_late_ms = (double)shared->latest_ns / 1e6;
  printf("%.0f messages/s, latest timer %.1f ms late\n", MESSAGES / seconds,
         *ret_late_ms);
  return failed || shared->got != MESSAGES ||
         shared->sum != (uint64_t)MESSAGES * (MESSAGES - 1) / 2;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(void) {
  double late_ms[RUNS];
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
  if (shared == MAP_FAILED)
    return EXIT_FAILURE;
  for (int i = 0; i < RUNS; i++)
    if (run_once(&late_ms[i]) != 0) {
      fprintf(stderr, "loops: a message was lost or doubled, or a process failed\n");
      return EXIT_FAILURE;
    }
  qsort(late_ms, RUNS, sizeof *late_ms, by_value);
  printf("median of the latest: %.1f ms\n", late_ms[RUNS / 2]);
  return EXIT_SUCCESS;
}
