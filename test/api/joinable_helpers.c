/* A joinable queue, and brief ways to use it. */
#define _GNU_SOURCE
#include "joinable_helpers.h"

void create(int64_t maxsize) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, maxsize), 0);
  if (UNDER_ASAN) {
    ck_assert_int_eq(forkq_queue_put(queue, &nil, -1), 0);
    ck_assert_int_eq(forkq_queue_get(queue, &item, 5000), 0);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    forkq_item_destroy(&item);
    support_until_threads_asleep(1);
  }
}

void set_up(void) {
  fds_before = support_open_fds();
  queue = NULL;
  create(0);
}

int done(void) {
  return forkq_queue_task_done(queue);
}

int join(int timeout_ms) {
  return forkq_queue_join(queue, timeout_ms, NULL);
}

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
void assert_joined(uint64_t expected) {
  uint64_t abandoned = 0;
  int r = forkq_queue_join(queue, 5000, &abandoned);
  ck_assert_int_eq(r, expected > 0 ? FORKQ_EABANDONED : 0);
  ck_assert_uint_eq(abandoned, expected);
}
