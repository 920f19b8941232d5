#define _GNU_SOURCE
#include "batch_helpers.h"

#include <check.h>

forkq_queue_t *queue;
static int fds_before;
forkq_item_t items[BATCH];

static void await_feeder(void) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  ck_assert_int_eq(forkq_queue_put(queue, &nil, -1), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &items[0], 5000), 0);
  support_until_threads_asleep(1);
}

void create(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, maxsize), 0);
  if (UNDER_ASAN)
    await_feeder();
}

void create_joinable(int64_t maxsize) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, maxsize), 0);
  if (UNDER_ASAN) {
    await_feeder();
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
}

void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  create(0);
}

void tear_down(void) {
  for (int i = 0; i < BATCH; i++)
    forkq_item_destroy(&items[i]);
  forkq_queue_destroy(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

msgpack_object number(uint64_t value) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = value;
  return object;
}

int put_numbers(uint64_t first, size_t count, int timeout_ms, size_t *ret_put) {
  msgpack_object objects[BATCH];
  for (size_t i = 0; i < count; i++)
    objects[i] = number(first + i);
  return forkq_queue_put_many(queue, objects, count, timeout_ms, ret_put);
}

void put_all(uint64_t first, size_t count) {
  size_t n = UNTOUCHED;
  ck_assert_int_eq(put_numbers(first, count, -1, &n), 0);
  ck_assert_uint_eq(n, count);
}

void get_all(uint64_t first, size_t count) {
  for (size_t have = 0; have < count;) {
    size_t n = UNTOUCHED;
    size_t want = count - have < BATCH ? count - have : BATCH;
    support_assert(forkq_queue_get_many(queue, items, want, 5000, &n) == 0);
    support_assert(n >= 1 && n <= want);
    for (size_t i = 0; i < n; i++)
      support_assert(items[i].object.via.u64 == first + have + i);
    have += n;
  }
}

void pack_numbers(struct packed *packed, uint64_t first, size_t count) {
  for (size_t i = 0; i < count; i++) {
    unsigned char *bytes = packed->bytes[i];
    bytes[0] = 0xcf;
    for (int b = 0; b < 8; b++)
      bytes[1 + b] = (unsigned char)((first + i) >> (56 - 8 * b));
    packed->messages[i] = (forkq_bytes_t){ bytes, sizeof packed->bytes[i] };
  }
}

uint64_t packed_number(const forkq_item_t *item) {
  uint64_t value = 0;
  for (size_t i = 1; i < item->size; i++)
    value = value << 8 | (unsigned char)item->data[i];
  return value;
}

int put_packed_numbers(uint64_t first, size_t count, int timeout_ms, size_t *ret_put) {
  struct packed packed;
  pack_numbers(&packed, first, count);
  return forkq_queue_put_many_packed(queue, packed.messages, count, timeout_ms, ret_put);
}

void get_all_packed(uint64_t first, size_t count) {
  for (size_t have = 0; have < count;) {
    size_t n = UNTOUCHED;
    size_t want = count - have < BATCH ? count - have : BATCH;
    support_assert(forkq_queue_get_many_packed(queue, items, want, 5000, &n) == 0);
    support_assert(n >= 1 && n <= want);
    for (size_t i = 0; i < n; i++) {
      support_assert(items[i].object.type == MSGPACK_OBJECT_NIL);
      support_assert(items[i].size == 9 && packed_number(&items[i]) == first + have + i);
    }
    have += n;
  }
}

void assert_empty(void) {
  size_t n = UNTOUCHED;
  ck_assert_int_eq(forkq_queue_get_many(queue, items, BATCH, 0, &n), FORKQ_EMPTY);
  ck_assert_uint_eq(n, UNTOUCHED);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}
