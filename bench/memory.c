#define _GNU_SOURCE
#include "memory.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forkq_peers.h"

#define MESSAGES 1000000
#define PAYLOAD 64
#define QUEUES 32
#define PROCESSES 32

/* Resident bytes of this process, with what it shares. */
static double resident(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "re");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
    errx(EXIT_FAILURE, "/proc/self/statm cannot be read");
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* Bytes of memory that stand behind the descriptors of shared memory of this process. */
static double shared_bytes(void) {
  char link[64], target[64];
  double bytes = 0;
  struct dirent *entry;
  DIR *fds = opendir("/proc/self/fd");
  while (fds != NULL && (entry = readdir(fds)) != NULL) {
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%.20s", entry->d_name);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n > 0 && strncmp(target, "/memfd:", 7) == 0 && stat(link, &st) == 0)
      bytes += 512.0 * (double)st.st_blocks;
  }
  closedir(fds);
  return bytes;
}

static void put_one(forkq_queue_t *queue, const unsigned char *bin) {
  forkq_must(forkq_queue_put_packed(queue, bin, BIN_HEADER + PAYLOAD, -1), "put");
}

/* Nobody gets, so that nearly all of them stay in the outbox. */
static double cost_of_message(void) {
  forkq_queue_t *queue;
  unsigned char *bin = forkq_make_bin(PAYLOAD);
  forkq_must(forkq_queue_create(&queue, 0), "create");
  put_one(queue, bin);
  double before = resident();
  for (int i = 0; i < MESSAGES; i++)
    put_one(queue, bin);
  double cost = (resident() - before) / MESSAGES - PAYLOAD;
  forkq_must(forkq_queue_cancel_join_thread(queue), "cancel_join_thread");
  forkq_queue_destroy(queue);
  free(bin);
  return cost;
}

static double cost_of_queue(void) {
  forkq_queue_t *queues[QUEUES];
  forkq_item_t item = FORKQ_ITEM_INIT;
  unsigned char *bin = forkq_make_bin(PAYLOAD);
  double before = resident();
  for (int i = 0; i < QUEUES; i++) {
    forkq_must(forkq_queue_create(&queues[i], 0), "create");
    put_one(queues[i], bin);
    forkq_must(forkq_queue_get(queues[i], &item, -1), "get");
  }
  double cost = (resident() - before) / QUEUES;
  for (int i = 0; i < QUEUES; i++)
    forkq_queue_destroy(queues[i]);
  forkq_item_destroy(&item);
  free(bin);
  return cost;
}

/* Puts, says so, and stays until the parent closes the pipe or dies. */
static void be_attached(forkq_queue_t *queue, const int said[2], const int stay[2]) {
  char byte = 0;
  unsigned char *bin = forkq_make_bin(PAYLOAD);
  close(stay[1]);
  put_one(queue, bin);
  if (write(said[1], &byte, 1) != 1 || read(stay[0], &byte, 1) != 0)
    _exit(EXIT_FAILURE);
  _exit(EXIT_SUCCESS);
}

static double cost_of_process(void) {
  forkq_queue_t *queue;
  int said[2], stay[2];
  char byte;
  if (pipe(said) < 0 || pipe(stay) < 0)
    err(EXIT_FAILURE, "pipe");
  forkq_must(forkq_queue_create(&queue, 0), "create");
  double before = shared_bytes();
  for (int i = 0; i < PROCESSES; i++) {
    if (fork_child() == 0)
      be_attached(queue, said, stay);
    if (read(said[0], &byte, 1) != 1)
      errx(EXIT_FAILURE, "a process failed");
  }
  double cost = (shared_bytes() - before) / PROCESSES;
  close(stay[1]);
  while (wait(NULL) > 0)
    ;
  close(stay[0]);
  close(said[0]);
  close(said[1]);
  forkq_queue_destroy(queue);
  return cost;
}

/* In a process of its own, whose memory is as it was before all measuring. */
struct memory_costs memory_measure(void) {
  struct memory_costs *shared = shared_memory(sizeof *shared), costs;
  pid_t pid = fork_child();
  if (pid == 0) {
    shared->queue_kib = cost_of_queue() / 1024;
    shared->process_kib = cost_of_process() / 1024;
    shared->message_bytes = cost_of_message();
    shared->ok = true;
    exit(EXIT_SUCCESS);
  }
  waitpid(pid, NULL, 0);
  costs = *shared;
  munmap(shared, sizeof *shared);
  return costs;
}
