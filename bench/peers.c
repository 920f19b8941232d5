#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "peer.h"

extern const struct peer peer_forkq, peer_forkq_batch, peer_forkq_borrow,
    peer_forkq_object, peer_forkq_simple, peer_forkq_spin, peer_forkq_connection,
    peer_pipe, peer_pipe_large, peer_pipe_framed, peer_packets, peer_ring,
    peer_ring_batch, peer_seqpacket, peer_mq, peer_zmq, peer_boost;

/* CPython's multiprocessing, in a process group of its own (cpython_peer.py). */
#ifdef BENCH_PYTHON
#  define CPYTHON(identifier, name_, label_, script_)                                    \
    static const struct peer identifier = { .name = name_,                               \
                                            .label = label_,                             \
                                            .script = script_ };
CPYTHON(peer_cpython_queue, "cpython_queue", "CPython Queue", "queue")
CPYTHON(peer_cpython_object, "cpython_object", "CPython Queue, the dict", "object")
CPYTHON(peer_cpython_simple, "cpython_simple", "CPython SimpleQueue", "simple")
CPYTHON(peer_cpython_pipe, "cpython_pipe", "CPython Pipe", "pipe")
#endif

int message_touched;

static const struct peer *const peers[] = {
  &peer_forkq,
  &peer_forkq_batch,
  &peer_forkq_borrow,
  &peer_forkq_object,
  &peer_forkq_simple,
  &peer_forkq_spin,
  &peer_forkq_connection,
  &peer_pipe,
  &peer_pipe_large,
  &peer_pipe_framed,
  &peer_packets,
  &peer_ring,
  &peer_ring_batch,
  &peer_seqpacket,
  &peer_mq,
#ifdef BENCH_ZMQ
  &peer_zmq,
#endif
#ifdef BENCH_BOOST
  &peer_boost,
#endif
#ifdef BENCH_PYTHON
  &peer_cpython_queue,
  &peer_cpython_object,
  &peer_cpython_simple,
  &peer_cpython_pipe,
#endif
};

const char *const peers_missing[] = {
#ifndef BENCH_ZMQ
  "ZeroMQ",
#endif
#ifndef BENCH_BOOST
  "Boost.Interprocess",
#endif
#ifndef BENCH_PYTHON
  "CPython",
#endif
  NULL,
};

const struct peer *peer_find(const char *name) {
  for (size_t i = 0; i < sizeof peers / sizeof *peers; i++)
    if (strcmp(peers[i]->name, name) == 0)
      return peers[i];
  return NULL;
}

pid_t fork_child(void) {
  pid_t parent = getpid(), pid = fork();
  if (pid < 0)
    err(EXIT_FAILURE, "fork");
  if (pid > 0)
    return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(EXIT_FAILURE);
  return 0;
}

void *shared_memory(size_t size) {
  void *memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return check_memory(memory == MAP_FAILED ? NULL : memory);
}

void *check_memory(void *memory) {
  if (memory == NULL)
    errx(EXIT_FAILURE, "out of memory");
  return memory;
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}
