/* What a queue of a server does with items: every way in and out, the bound, timeouts, the end. */
#define _GNU_SOURCE
#include "redis_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_up(void) {
  redis_set_up("queue=jobs&maxsize=3");
}

START_TEST(items_come_out_as_they_went_in) {
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(0), i);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static int pack_pair(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_array(packer, 2) || msgpack_pack_int(packer, 7) ||
         msgpack_pack_int(packer, 8);
}

static int pack_nothing(msgpack_packer *packer, void *arg) {
  (void)packer;
  return arg != NULL;
}

START_TEST(every_way_to_put) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  open_queue("queue=jobs");
  ck_assert_int_eq(forkq_queue_put_packed(queue, "\x2a", 1, 0), 0);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_pair, NULL, 0), 0);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "a\0b", 3, 0), 0);
  ck_assert_int_eq(forkq_queue_put_str(queue, "text", 0), 0);
  ck_assert_int_eq(forkq_queue_put_nil(queue, 0), 0);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "[ii]", 1, 2), 0);
  ck_assert_int_eq(get(0), 42);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 0), 0);
  ck_assert_uint_eq(item.object.via.array.size, 2);
  ck_assert_int_eq(item.object.via.array.ptr[1].via.i64, 8);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &item, 0), 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_BIN);
  ck_assert_int_eq(memcmp(item.object.via.bin.ptr, "a\0b", 3), 0);
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 0), 0);
  ck_assert_uint_eq(item.size, 5);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_int_eq(forkq_queue_get_nowait(queue, &item), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 0), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(item.redelivered, 0);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(what_cannot_be_put_is_told_and_takes_no_room) {
  ck_assert_int_eq(forkq_queue_put_packed(queue, "\x93", 1, 0), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nothing, NULL, 0), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nothing, queue, 0), FORKQ_EPACK);
  ck_assert_int_eq(forkq_queue_put_nil(queue, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "[i"), FORKQ_EFORMAT);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(0), 1);
}
END_TEST

START_TEST(large_items) {
  size_t size = 3 * 1024 * 1024;
  char *data = malloc(size);
  make_bin(data, size);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, PATIENCE_MS), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert(is_bin(&item, size));
  forkq_item_destroy(&item);
  free(data);
}
END_TEST

START_TEST(the_bound_is_strict) {
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(forkq_queue_full(queue), 0);
    ck_assert_int_eq(put(i, 0), 0);
  }
  ck_assert_int_eq(forkq_queue_full(queue), 1);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3);
  ck_assert_int_eq(get(0), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 0);
  ck_assert_int_eq(put(3, 0), 0);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  for (int i = 1; i < 4; i++)
    ck_assert_int_eq(get(0), i);
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
}
END_TEST

START_TEST(waits_end_on_time) {
  static const int times[] = { 50, 150, 450 };
  int64_t ended = ended_waits();
  for (size_t i = 0; i < 3; i++) {
    int64_t began = support_now_ms();
    ck_assert_int_eq(get(times[i]), FORKQ_TIMEDOUT);
    took(began, times[i]);
  }
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  for (size_t i = 0; i < 3; i++) {
    int64_t began = support_now_ms();
    ck_assert_int_eq(put(9, times[i]), FORKQ_TIMEDOUT);
    took(began, times[i]);
  }
  ck_assert_int_eq(ended_waits(), ended + 6);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(0), i);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(put(4, 0), 0);
  ck_assert_int_eq(get(0), 4);
}
END_TEST

START_TEST(batches) {
  msgpack_object objects[200];
  forkq_item_t items[100] = { 0 };
  size_t n = 0;
  open_queue("queue=jobs&maxsize=150");
  for (int i = 0; i < 200; i++)
    objects[i] = (msgpack_object){ .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                                   .via.u64 = (uint64_t)i };
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 200, 0, &n), 0);
  ck_assert_uint_eq(n, 150);
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 200, 0, &n), FORKQ_FULL);
  uint64_t next = 0;
  while (next < 150) {
    ck_assert_int_eq(forkq_queue_get_many(queue, items, 100, 0, &n), 0);
    ck_assert_uint_gt(n, 0);
    for (size_t i = 0; i < n; i++)
      ck_assert_uint_eq(items[i].object.via.u64, next++);
  }
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 100, 0, &n), FORKQ_EMPTY);
  const forkq_bytes_t messages[] = { { "\x01", 1 }, { "\xc1", 1 }, { "\x02", 1 } };
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 3, 0, &n), 0);
  ck_assert_uint_eq(n, 1);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages + 1, 2, 0, &n),
                   FORKQ_EBADOBJECT);
  const forkq_bytes_t plain[] = { { "a", 1 }, { NULL, 0 } };
  ck_assert_int_eq(forkq_queue_put_many_bytes(queue, plain, 2, 0, &n), 0);
  ck_assert_uint_eq(n, 2);
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 0, 0, &n), 0);
  ck_assert_uint_eq(n, 0);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 100, 0, &n), 0);
  ck_assert_uint_eq(n, 3);
  for (size_t i = 0; i < 100; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

/* Of a queue that all have left, only what says what it is stays. */
START_TEST(nothing_is_left_at_the_server) {
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(0), i);
  ck_assert_int_eq(put(9, 0), 0);
  ck_assert_int_eq(get(0), 9);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:m"), 5);
  ck_assert_int_le(server_number("DBSIZE"), 2); /* and that it was drained */
  ck_assert_int_eq(server_number("DEL {fq:jobs}:e"), 1);
  ck_assert_int_eq(server_number("DBSIZE"), 1);
}
END_TEST

START_TEST(a_closed_queue) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  uint64_t unsent = 7;
  ck_assert_int_eq(forkq_queue_join_thread(queue, -1, &unsent), 0);
  ck_assert_uint_eq(unsent, 0);
  ck_assert_int_eq(put(1, 0), FORKQ_ECLOSED);
  ck_assert_int_eq(get(0), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_qsize(queue), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_queue_flush(queue, 0, NULL), FORKQ_ECLOSED);
  forkq_queue_t *other = open_other("queue=jobs");
  ck_assert_int_eq(get_int(other, 0), 1);
  forkq_queue_destroy(other);
}
END_TEST

START_TEST(an_item_is_done_with_the_next_get) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 2);
  ck_assert_int_eq(get(0), 2);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), FORKQ_ENOTJOINABLE);
}
END_TEST

START_TEST(bytes_into_a_buffer) {
  struct {
    int a;
    char b[12];
  } in = { 7, "eleven char" }, out = { 0 };
  size_t size = 0;
  ck_assert_int_eq(forkq_queue_put_bytes(queue, &in, sizeof in, 0), 0);
  ck_assert_int_eq(forkq_queue_put_nil(queue, 0), 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, &out, 3, 0, &size), FORKQ_ETOOSHORT);
  ck_assert_uint_eq(size, sizeof in);
  ck_assert_int_eq(forkq_queue_qsize(queue), 2);
  size = 0;
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, &out, sizeof out, -1, &size), 0);
  ck_assert_uint_eq(size, sizeof in);
  ck_assert_int_eq(memcmp(&in, &out, sizeof in), 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, &out, sizeof out, -1, NULL),
                   FORKQ_EWRONGTYPE);
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *other = open_other("queue=jobs");
  ck_assert_int_eq(forkq_queue_get(other, &item, 0), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(item.redelivered, 0);
  ck_assert_int_eq(forkq_queue_get_bytes_into(other, &out, sizeof out, 30, NULL),
                   FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, &out, sizeof out, 0, NULL),
                   FORKQ_EMPTY);
  forkq_item_destroy(&item);
  forkq_queue_destroy(other);
  ck_assert_int_eq(server_number("HLEN {fq:jobs}:p"), 0);
}
END_TEST

START_TEST(what_it_does_not_have) {
  void *memory;
  forkq_handover_t handover;
  forkq_server_t *server;
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_reserve(queue, 100, &memory), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_commit(queue, &item, 1, 0), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_abandon(queue, &item), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_room_fileno(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_close_put(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_send(queue, 0), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, "/tmp/forkq-no", NULL), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_get_lost(queue, &item), FORKQ_ENOTJOINABLE);
  ck_assert_int_eq(forkq_queue_cancel_join_thread(queue), 0);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(0), 1);
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("redis_items");
  TCase *tcase = tcase_create("redis_items");
  tcase_add_unchecked_fixture(tcase, server_start_plain, server_stop);
  tcase_add_checked_fixture(tcase, set_up, redis_tear_down);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, items_come_out_as_they_went_in);
  tcase_add_test(tcase, every_way_to_put);
  tcase_add_test(tcase, what_cannot_be_put_is_told_and_takes_no_room);
  tcase_add_test(tcase, large_items);
  tcase_add_test(tcase, the_bound_is_strict);
  tcase_add_test(tcase, waits_end_on_time);
  tcase_add_test(tcase, batches);
  tcase_add_test(tcase, nothing_is_left_at_the_server);
  tcase_add_test(tcase, a_closed_queue);
  tcase_add_test(tcase, an_item_is_done_with_the_next_get);
  tcase_add_test(tcase, bytes_into_a_buffer);
  tcase_add_test(tcase, what_it_does_not_have);
  suite_add_tcase(s, tcase);
  return s;
}

int main(void) {
  return support_main(suite());
}
