/* Where it was measured: nothing that names the machine, all that explains the figures. */
#ifndef FORKQ_BENCH_MACHINE_H
#define FORKQ_BENCH_MACHINE_H

#include <stddef.h>

struct machine_fact {
  const char *name;
  char value[160];
};

/* Fills `facts`; returns how many. */
size_t machine_facts(struct machine_fact *facts, size_t max);

#endif
