/* What the fuzz targets have in common.
 *
 * A target is one file with LLVMFuzzerTestOneInput, for libFuzzer and for afl++; with
 * replay.c it is an ordinary program that runs the files of a corpus. */
#ifndef FORKQ_FUZZ_H
#define FORKQ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise: where it is broken, the input is a finding. */
#define MUST(condition)                                                                  \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);            \
      abort();                                                                           \
    }                                                                                    \
  } while (0)

/* The input, taken from its beginning. At its end there are zeros, and no more bytes. */
struct fuzz_input {
  const uint8_t *data;
  size_t size;
};

uint64_t fuzz_number(struct fuzz_input *input, size_t bytes);
struct fuzz_input fuzz_take(struct fuzz_input *input, uint64_t size);

/* How many bytes this thread had allocated at once since begin, at most. Under a sanitizer
 * all allocations count, msgpack-c's as well; without one, those through forkq's heap. */
void fuzz_memory_begin(void);
size_t fuzz_memory_peak(void);

/* The bound on what an item takes for a message of `size` bytes: its bytes, in memory that is
 * doubled when it grows; and 24 bytes for each object in it, of which there is at most one a
 * byte, doubled likewise. */
#define FUZZ_BYTES_PER_BYTE ((size_t)50)
#define FUZZ_BYTES_BESIDES ((size_t)2048)
#define FUZZ_BOUND(size) (FUZZ_BYTES_PER_BYTE * (size) + FUZZ_BYTES_BESIDES)

#endif
