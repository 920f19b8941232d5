/* What a queue costs in memory. */
#ifndef FORKQ_BENCH_MEMORY_H
#define FORKQ_BENCH_MEMORY_H

#include <stdbool.h>

struct memory_costs {
  bool ok;
  double message_bytes; /* a queued message of 64 bytes, beyond these: resident bytes */
  double queue_kib;     /* a queue after one put and one get, resident and shared */
  double process_kib;   /* a process that has put, of shared memory */
};

struct memory_costs memory_measure(void);

#endif
