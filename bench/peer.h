/* What is measured: forkq's own objects and whatever else carries messages between processes.
 * One file a peer, peer_*.c, which says how it is set; peers.c lists them. */
#ifndef FORKQ_BENCH_PEER_H
#define FORKQ_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRODUCERS_MAX 16
#define CONSUMERS_MAX 16

/* What a channel has to carry. */
struct load {
  unsigned producers, consumers;
  size_t size;       /* of the payload, in bytes */
  unsigned bound;    /* messages that it holds, for peers that must be told */
  bool touched;      /* all bytes of it are written and read */
  bool bounded;      /* and whether the queues that need no bound shall have it, too */
  uint64_t messages; /* of each producer; of the round trip's client */
};

/* What a consumer has received: in shared memory, each on a cache line of its own. */
struct tally {
  uint64_t count __attribute__((aligned(128)));
  uint64_t sum; /* of the numbers */
  double end;   /* when the last message was there */
};

/* One process's part in a run. */
struct party {
  const struct load *load;
  unsigned index;        /* among the producers, or among the consumers */
  struct tally *tally;   /* this consumer's */
  struct tally *tallies; /* all consumers' */
  uint64_t seen[PRODUCERS_MAX];
};

enum role { ROLE_PRODUCER, ROLE_CONSUMER };

struct peer {
  const char *name;  /* for --only, in the files */
  const char *label; /* for people */
  /* Not NULL: measured by the Python script, under this name, and all below is NULL. */
  const char *script;
  /* Whether it can carry the load; NULL: any. */
  bool (*can)(const struct load *load);
  /* Before the forks. Never fails: it exits. Whatever name it takes is gone when it returns,
   * so that nothing is left behind whoever dies. */
  void *(*open)(const struct load *load, const char *name);
  /* In each process, behind the fork, the consumers first; may be NULL. */
  void (*join)(void *channel, enum role role, unsigned index);
  /* One message at a time: for round trips. NULL: not for them. */
  void (*send)(void *channel, uint32_t producer, uint64_t number);
  struct message_head (*receive)(void *channel);
  /* All messages of a run. */
  void (*produce)(void *channel, struct party *party);
  void (*consume)(void *channel, struct party *party);
  /* In each process that joined, at its end; may be NULL. */
  void (*leave)(void *channel);
  /* Where nobody uses it any more; may be NULL. */
  void (*close)(void *channel);
  const char *(*version)(void); /* may be NULL */
};

/* NULL if there is no such peer, or if it was not there when this was built. */
const struct peer *peer_find(const char *name);

/* The names of those that were not there. */
extern const char *const peers_missing[];

/* As fork(2); the child dies with its parent. Exits if there can be none. */
pid_t fork_child(void);

/* Memory that the processes share, zeroed; exits if there is none. */
void *shared_memory(size_t size);

void *check_memory(void *memory);

/* Seconds on CLOCK_MONOTONIC. */
double now(void);

#ifdef __cplusplus
}
#endif

#endif
