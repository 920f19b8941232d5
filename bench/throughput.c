/* Messages a second through a queue, and for comparison the same bytes through a raw pipe
 * with one write and one read for each and no lock. Each case runs five times, all of them in
 * turn, and the median counts.
 *
 * A message is a msgpack bin that begins with its producer and its number. Every consumer
 * checks that each producer's numbers rise; in the end the numbers that all have seen must
 * add up. The clock runs from a common start to the last message. A raw pipe keeps messages
 * whole up to PIPE_BUF, so it is left out above that. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <forkq.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define PEERS_MAX 8
#define CASES_MAX 8
#define BIN_HEADER 5
#define NO_MORE UINT32_MAX

struct options {
  unsigned producers, consumers;
  size_t size;
  int64_t maxsize;
  uint64_t messages; /* of each producer */
};

struct message_head {
  uint32_t producer;
  uint64_t number;
};

/* Shared memory: what each consumer has received, and when it was done. */
struct tally {
  uint64_t count, sum;
  double end;
};

/* The run that is on. A message goes through the queue or, if there is none, the pipe. */
static const struct options *options;
static forkq_queue_t *queue;
static int fds[2];
static struct tally *tally;

static void check(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void send_message(unsigned char *message, uint32_t producer, uint64_t number) {
  struct message_head head = { .producer = producer, .number = number };
  size_t size = BIN_HEADER + options->size;
  memcpy(message + BIN_HEADER, &head, sizeof head);
  if (queue != NULL)
    check(forkq_queue_put_packed(queue, message, size, -1), "put");
  else if (write(fds[1], message, size) != (ssize_t)size)
    err(EXIT_FAILURE, "write");
}

static struct message_head receive_message(forkq_item_t *item, unsigned char *buffer) {
  struct message_head head;
  if (queue != NULL)
    check(forkq_queue_get_packed(queue, item, -1), "get");
  const void *message = queue != NULL ? item->data : (char *)buffer;
  size_t expected = BIN_HEADER + options->size;
  size_t size = queue != NULL ? item->size : (size_t)read(fds[0], buffer, expected);
  if (size != expected)
    errx(EXIT_FAILURE, "a message of %zd bytes instead of %zu", (ssize_t)size, expected);
  memcpy(&head, (const char *)message + BIN_HEADER, sizeof head);
  return head;
}

/* Every producer ends with a NO_MORE for each consumer, every consumer leaves with one for
 * each producer: by then all messages have been taken by somebody. */
static void produce(unsigned char *buffer, uint32_t producer) {
  /* A bin 32 whatever the size, so that what is in it is always at the same place. */
  for (int i = 0; i < BIN_HEADER; i++)
    buffer[i] = i == 0 ? 0xc6 : (unsigned char)(options->size >> (32 - 8 * i));
  for (uint64_t number = 1; number <= options->messages; number++)
    send_message(buffer, producer, number);
  for (unsigned i = 0; i < options->consumers; i++)
    send_message(buffer, NO_MORE, 0);
}

static void consume(unsigned char *buffer, struct tally *mine) {
  uint64_t seen[PEERS_MAX] = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (unsigned left = options->producers; left > 0;) {
    struct message_head head = receive_message(&item, buffer);
    if (head.producer == NO_MORE) {
      left--;
      continue;
    }
    if (head.producer >= options->producers || head.number <= seen[head.producer])
      errx(EXIT_FAILURE, "producer %u: message %ju is out of order", head.producer,
           (uintmax_t)head.number);
    seen[head.producer] = head.number;
    mine->count++;
    mine->sum += head.number;
  }
  mine->end = now();
  forkq_item_destroy(&item);
}

/* Forks process `i`: the producers come first, then the consumers. */
static void start_peer(unsigned i, const int start[2]) {
  pid_t parent = getpid(), pid = fork();
  check(pid < 0 ? -errno : 0, "fork");
  if (pid > 0)
    return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  unsigned char *buffer = calloc(1, BIN_HEADER + options->size);
  close(start[1]);
  if (buffer == NULL || getppid() != parent || read(start[0], buffer, 1) != 0)
    exit(EXIT_FAILURE);
  if (i < options->producers)
    produce(buffer, i);
  else
    consume(buffer, &tally[i - options->producers]);
  free(buffer);
  exit(EXIT_SUCCESS);
}

/* The time of the last message, once all that were sent are found received. */
static double check_tally(void) {
  uint64_t count = 0, sum = 0, n = options->messages, producers = options->producers;
  double end = 0;
  for (unsigned i = 0; i < options->consumers; i++) {
    count += tally[i].count;
    sum += tally[i].sum;
    end = tally[i].end > end ? tally[i].end : end;
  }
  if (count != producers * n || sum != producers * (n * (n + 1) / 2))
    errx(EXIT_FAILURE, "%ju messages of %ju", (uintmax_t)count,
         (uintmax_t)(producers * n));
  return end;
}

/* Messages a second. */
static double run(const struct options *next, bool through_queue) {
  int start[2];
  options = next;
  memset(tally, 0, PEERS_MAX * sizeof *tally);
  if (pipe(start) < 0 || pipe(fds) < 0)
    err(EXIT_FAILURE, "pipe");
  if (through_queue)
    check(forkq_queue_create(&queue, options->maxsize), "create");
  for (unsigned i = 0; i < options->producers + options->consumers; i++)
    start_peer(i, start);
  double begin = now();
  close(start[1]);
  for (int status; wait(&status) > 0;)
    if (status != 0)
      errx(EXIT_FAILURE, "a process failed");
  forkq_queue_destroy(queue);
  queue = NULL;
  close(start[0]);
  close(fds[0]);
  close(fds[1]);
  return (double)(options->producers * options->messages) / (check_tally() - begin);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double rates[ROUNDS]) {
  qsort(rates, ROUNDS, sizeof *rates, by_value);
  return rates[ROUNDS / 2];
}

static void print_row(const struct options *row, double mine, double other) {
  printf("%3u x %-3u %8zu %8jd %14.0f", row->producers, row->consumers, row->size,
         (intmax_t)row->maxsize, mine);
  if (other > 0)
    printf(" %14.0f %6.2f", other, mine / other);
  putchar('\n');
}

int main(void) {
  static const struct options cases[] = {
    { 1, 1, 64, 0, 1000000 },     { 4, 1, 64, 0, 250000 },     { 1, 4, 64, 0, 1000000 },
    { 4, 4, 64, 0, 250000 },      { 1, 1, 64, 1000, 1000000 }, { 4, 4, 64, 1000, 250000 },
    { 1, 1, 1024, 1000, 300000 }, { 1, 1, 65536, 64, 10000 },
  };
  static double mine[CASES_MAX][ROUNDS], raw[CASES_MAX][ROUNDS];
  size_t count = sizeof cases / sizeof *cases;
  tally = mmap(NULL, PEERS_MAX * sizeof *tally, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (tally == MAP_FAILED)
    err(EXIT_FAILURE, "mmap");
  for (int round = 0; round < ROUNDS; round++)
    for (size_t i = 0; i < count; i++) {
      mine[i][round] = run(&cases[i], true);
      if (cases[i].size + BIN_HEADER <= PIPE_BUF)
        raw[i][round] = run(&cases[i], false);
    }
  puts("processes    bytes  maxsize     forkq, 1/s  raw pipe, 1/s  ratio");
  for (size_t i = 0; i < count; i++)
    print_row(&cases[i], median(mine[i]), median(raw[i]));
  return EXIT_SUCCESS;
}
