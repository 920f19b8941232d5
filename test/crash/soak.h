/* The samples of a soak: once a second what the processes use, into a CSV. */
#ifndef FORKQ_CRASH_SOAK_H
#define FORKQ_CRASH_SOAK_H

#include "book.h"

#include <stdio.h>

struct soak {
  FILE *csv;
  struct book *book;
  int64_t begin_ns;
  int64_t next_ns;
  uint64_t gets;
  size_t count;
  struct sample *samples;
};

/* Opens the file: 0 or -1. */
int soak_begin(struct soak *soak, struct book *book, const char *path);

/* Takes a sample if it is time to. */
void soak_look(struct soak *soak);

/* Prints the verdict: 0, or 1 if something grew. */
int soak_end(struct soak *soak);

#endif
