/* For the tests of batches: a queue, and batches of numbers as objects and as bytes. */
#ifndef FORKQ_BATCH_HELPERS_H
#define FORKQ_BATCH_HELPERS_H

#include "support.h"

#include <forkq.h>
#include <stddef.h>
#include <stdint.h>

#define UNTOUCHED ((size_t)77)
#define BATCH 64
#define LARGE 100000

extern forkq_queue_t *queue;
extern forkq_item_t items[BATCH]; /* zeroed, as FORKQ_ITEM_INIT */

/* A new queue, in the place of the one before. */
void create(int64_t maxsize);
void create_joinable(int64_t maxsize);

void set_up(void);
void tear_down(void);

msgpack_object number(uint64_t value);

/* put_numbers puts the numbers from `first` on. put_all: all of them find room. get_all gets them,
 * in as many batches as it takes. */
int put_numbers(uint64_t first, size_t count, int timeout_ms, size_t *ret_put);
void put_all(uint64_t first, size_t count);
void get_all(uint64_t first, size_t count);

/* The same as bytes: each number packed as a uint 64. get_all_packed does not unpack them. */
struct packed {
  unsigned char bytes[BATCH][9];
  forkq_bytes_t messages[BATCH];
};
void pack_numbers(struct packed *packed, uint64_t first, size_t count);
uint64_t packed_number(const forkq_item_t *item);
int put_packed_numbers(uint64_t first, size_t count, int timeout_ms, size_t *ret_put);
void get_all_packed(uint64_t first, size_t count);

void assert_empty(void);

#endif
