/* The results: for people, for spreadsheets, for report.py. */
#ifndef FORKQ_BENCH_OUTPUT_H
#define FORKQ_BENCH_OUTPUT_H

#include <stdio.h>

#include "memory.h"
#include "plan.h"

struct results {
  const struct plan *plan;
  struct memory_costs memory;
  unsigned rounds;
  bool quick;
};

/* Tables of Markdown. */
void output_tables(FILE *file, const struct results *results);

/* A row for each contender. */
void output_csv(FILE *file, const struct results *results);

/* All there is, with every round. */
void output_json(FILE *file, const struct results *results);

#endif
