/* Many messages through many processes: every one once, and in order per producer. */
#include "support.h"

#include <check.h>
#include <forkq.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#  define SCALE 10
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define SCALE 10
#  endif
#endif
#ifndef SCALE
#  define SCALE 1
#endif

#define PRODUCERS 4
#define CONSUMERS 4

struct run {
  forkq_queue_t *queue;
  uint64_t each; /* messages of one producer */
  uint64_t who;
  size_t padding;
  _Atomic uint8_t *seen; /* a bit for each message */
  _Atomic uint64_t *received;
};

struct message {
  uint64_t producer;
  uint64_t number;
  size_t padding;
};

/* The padding differs from message to message, so that a shift or a mix of two shows. */
static size_t padding_of(const struct message *message) {
  return message->padding == 0 ? 0 : (size_t)(message->number * 7 + 1) % message->padding;
}

static int pack_message(msgpack_packer *packer, void *arg) {
  static const char zeros[1 << 16];
  const struct message *message = arg;
  size_t padding = padding_of(message);
  msgpack_pack_array(packer, 3);
  msgpack_pack_uint64(packer, message->producer);
  msgpack_pack_uint64(packer, message->number);
  msgpack_pack_bin(packer, padding);
  return msgpack_pack_bin_body(packer, zeros, padding);
}

static void produce(void *arg) {
  struct run *run = arg;
  struct message message = { .producer = run->who, .padding = run->padding };
  for (; message.number < run->each; message.number++)
    if (forkq_queue_put_with(run->queue, pack_message, &message, -1) != 0)
      _exit(10);
  forkq_queue_destroy(run->queue);
}

static int take(struct run *run, const msgpack_object *object, uint64_t next[]) {
  const msgpack_object *fields = object->via.array.ptr;
  struct message message = { fields[0].via.u64, fields[1].via.u64, run->padding };
  if (message.producer >= PRODUCERS || message.number >= run->each ||
      fields[2].via.bin.size != padding_of(&message))
    return 11;
  if (message.number < next[message.producer])
    return 12; /* out of order */
  next[message.producer] = message.number + 1;
  uint64_t bit = message.producer * run->each + message.number;
  uint8_t mask = (uint8_t)(1u << bit % 8);
  if (atomic_fetch_or(&run->seen[bit / 8], mask) & mask)
    return 13; /* received twice */
  atomic_fetch_add_explicit(run->received, 1, memory_order_relaxed);
  return 0;
}

static void consume(void *arg) {
  struct run *run = arg;
  uint64_t next[PRODUCERS] = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (;;) {
    if (forkq_queue_get(run->queue, &item, 60000) != 0)
      _exit(14);
    if (item.object.type == MSGPACK_OBJECT_NIL)
      break;
    int r = take(run, &item.object, next);
    if (r != 0)
      _exit(r);
  }
  forkq_item_destroy(&item);
  forkq_queue_destroy(run->queue);
}

static void run_all(int64_t maxsize, uint64_t messages, size_t padding,
                    bool in_fragments) {
  static struct run run;
  run = (struct run){ .each = messages / PRODUCERS, .padding = padding };
  run.seen = support_shared((size_t)messages / 8 + 1);
  run.received = support_shared(sizeof *run.received);
  ck_assert_int_eq(forkq_queue_create(&run.queue, maxsize), 0);
  if (in_fragments)
    support_keep_to_pipe(run.queue);
  pid_t producers[PRODUCERS], consumers[CONSUMERS];
  for (int i = 0; i < CONSUMERS; i++)
    consumers[i] = support_fork(consume, &run);
  for (int i = 0; i < PRODUCERS; i++) {
    run.who = (uint64_t)i;
    producers[i] = support_fork(produce, &run);
  }
  for (int i = 0; i < PRODUCERS; i++)
    ck_assert_int_eq(support_wait(producers[i]), 0);
  for (int i = 0; i < CONSUMERS; i++)
    ck_assert_int_eq(forkq_queue_put_packed(run.queue, "\xc0", 1, -1), 0);
  for (int i = 0; i < CONSUMERS; i++)
    ck_assert_int_eq(support_wait(consumers[i]), 0);
  ck_assert_uint_eq(atomic_load(run.received), run.each * PRODUCERS);
  ck_assert_int_eq(forkq_queue_qsize(run.queue), 0);
  forkq_queue_destroy(run.queue);
}

START_TEST(ten_million_small_messages) {
  run_all(1000, 10000000 / SCALE, 0, false);
}
END_TEST

START_TEST(two_million_unbounded) {
  run_all(0, 2000000 / SCALE, 0, false);
}
END_TEST

START_TEST(small_and_fragmented_messages_mixed) {
  run_all(64, 100000 / SCALE, 20000, true);
}
END_TEST

START_TEST(small_messages_and_large_ones_beside_the_pipe_mixed) {
  run_all(64, 100000 / SCALE, 20000, false);
}
END_TEST

START_TEST(one_slot_for_all) {
  run_all(1, 100000 / SCALE, 0, false);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("stress");
  TCase *tcase = tcase_create("4 producers, 4 consumers");
  tcase_set_timeout(tcase, 120);
  tcase_add_test(tcase, ten_million_small_messages);
  tcase_add_test(tcase, two_million_unbounded);
  tcase_add_test(tcase, small_and_fragmented_messages_mixed);
  tcase_add_test(tcase, small_messages_and_large_ones_beside_the_pipe_mixed);
  tcase_add_test(tcase, one_slot_for_all);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
