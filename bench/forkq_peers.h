/* What the peers on forkq's queue have in common. */
#ifndef FORKQ_BENCH_FORKQ_PEERS_H
#define FORKQ_BENCH_FORKQ_PEERS_H

#include <forkq.h>

#include "peer.h"

/* A bin 32 whatever the size, so that what is in it is always at the same place. */
#define BIN_HEADER 5

struct forkq_channel {
  forkq_queue_t *queue;
  size_t size;
  unsigned char *bin; /* the header, and the payload behind it */
  forkq_item_t item;
};

/* Exits if `result` is an error. */
void forkq_must(int result, const char *what);

/* A bin of that size. */
unsigned char *forkq_make_bin(size_t size);

/* On a queue with this spin_us. */
struct forkq_channel *forkq_channel_open(const struct load *load, uint64_t spin_us);
void forkq_channel_close(void *channel);

#endif
