/* A queue without a limit, and bins that go through it. */
#define _GNU_SOURCE
#include "queue_fixture.h"

#include <stdlib.h>

void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

void set_maxsize(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
}

/* After an error: an item still goes through, and nothing else does. */
void assert_usable(void) {
  int64_t before = forkq_queue_qsize(queue);
  ck_assert_int_eq(put(77, 1000), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), before + 1);
  ck_assert_int_eq(get(1000), 77);
  ck_assert_int_eq(forkq_queue_qsize(queue), before);
}

/* msgpack bin 32 of `size` bytes in all, filled so that a shift by a byte shows. */
char *bin_of(size_t size) {
  char *data = malloc(size);
  size_t body = size - 5;
  for (size_t i = 0; i < size; i++)
    data[i] = (char)(i * 31 + i / 251);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)(body >> (24 - 8 * i));
  return data;
}
