/* Messages beside the pipe: which go there, that their memory comes back, and what happens where there
 * is no room. */
#define _GNU_SOURCE
#include "refuse.h"
#include "shared_memory_helpers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- which go beside ----------------------------------------------------------------------- */

static int put_in_its_way(int way, size_t size) {
  if (way == 0)
    return put_bin(size, PATIENCE_MS);
  if (way == 1)
    return put_packing(pack_bin, &size, PATIENCE_MS);
  char *data = malloc(size);
  make_bin(data, size);
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
  object.via.bin.ptr = data + 5;
  object.via.bin.size = (uint32_t)size - 5;
  int r = put_object(&object, PATIENCE_MS);
  free(data);
  return r;
}

/* An object has the shorter header of a bin below 64 KiB. */
START_TEST(sizes_around_the_least_and_the_most) {
  static const size_t sizes[] = { LEAST - 1, LEAST,     LEAST + 1, 4061, 4062,
                                  4063,      65536,     70000,     MIB,  MIB + 1,
                                  8 * MIB,   63u * MIB, 65u * MIB };
  if (_i / 3 == 1) {
    forkq_queue_destroy(queue);
    create_simple();
  }
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (_i % 3 == 2 && sizes[i] < 65536 + 5)
      continue;
    if (simple_queue != NULL && sizes[i] > (_i % 3 == 0 ? 63u * MIB : 70000))
      continue; /* its put would wait for a reader */
    ck_assert_int_eq(put_in_its_way(_i % 3, sizes[i]), 0);
    assert_get_bin(sizes[i]);
  }
}
END_TEST

START_TEST(from_the_least_size_on_they_go_beside) {
  ck_assert(goes_beside(LEAST));
  ck_assert(goes_beside(4000));
  ck_assert(goes_beside(4063));
  ck_assert(goes_beside(MIB));
  ck_assert(goes_beside(48 * MIB));
  uint64_t before = wire();
  ck_assert_int_eq(put_bin(16 * MIB, 0), 0); /* there is no room: it waits for none */
  assert_get_bin(LEAST);
  assert_get_bin(4000);
  assert_get_bin(4063);
  assert_get_bin(MIB);
  assert_get_bin(48 * MIB);
  assert_get_bin(16 * MIB);
  ck_assert_uint_gt(wire() - before, 16 * MIB);
  ck_assert(goes_beside(48 * MIB));
  assert_get_bin(48 * MIB);
}
END_TEST

/* A function's first message has no piece, as its size is not known. The later ones have as much room
 * as the last one needed; one that needs more moves into packets. */
START_TEST(what_a_function_packs_finds_its_size) {
  size_t sizes[] = { 20000, 20000, 300000, 300000, 100, 100 };
  bool beside[] = { false, true, false, true, true, true };
  for (int i = 0; i < 6; i++) {
    uint64_t before = wire();
    ck_assert_int_eq(put_packing(pack_bin, &sizes[i], PATIENCE_MS), 0);
    until_sent(queue);
    ck_assert((wire() - before < 200) == beside[i]);
    assert_get_bin(sizes[i]);
  }
}
END_TEST

static void put_all_sizes(void *arg) {
  uint64_t seed = (uintptr_t)arg;
  for (int i = 0; i < 300; i++)
    CHILD_MUST(put_bin(5 + support_random_below(&seed, i % 3 == 0 ? 100000 : 2000),
                       PATIENCE_MS) == 0);
  forkq_queue_destroy(queue); /* sends all */
}

/* Small ones, pieces and fragments of one process come in the order in which they were put. */
START_TEST(messages_of_all_sizes_keep_their_order) {
  create_with_limit(256 * 1024);
  pid_t child = support_fork(put_all_sizes, (void *)1);
  uint64_t seed = 1;
  for (int i = 0; i < 300; i++)
    assert_get_bin(5 + support_random_below(&seed, i % 3 == 0 ? 100000 : 2000));
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(a_batch_of_pieces) {
  forkq_item_t items[20];
  forkq_bytes_t messages[20];
  size_t n;
  for (int i = 0; i < 20; i++) {
    size_t size = i % 4 == 0 ? 100 : (size_t)i * 1000;
    char *data = malloc(size);
    make_bin(data, size);
    messages[i] = (forkq_bytes_t){ data, size };
    items[i] = (forkq_item_t)FORKQ_ITEM_INIT;
  }
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 20, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 20);
  until_sent(queue);
  for (size_t got = 0; got < 20; got += n)
    ck_assert_int_eq(
        forkq_queue_get_many_packed(queue, items + got, 20 - got, PATIENCE_MS, &n), 0);
  for (int i = 0; i < 20; i++) {
    support_assert(is_bin(&items[i], messages[i].size));
    forkq_item_destroy(&items[i]);
    free((void *)messages[i].data);
  }
  forkq_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.put_bytes, stats.got_bytes);
  ck_assert_uint_eq(stats.put_bytes, 5 * 100 + 1000 * (190 - 40));
}
END_TEST

/* ---- where there is no room ---------------------------------------------------------------- */

START_TEST(the_limit_of_a_process) {
  create_with_limit(128 * 1024);
  ck_assert(goes_beside(65536));
  ck_assert(goes_beside(65536));
  ck_assert(!goes_beside(LEAST));
  assert_get_bin(65536);
  assert_get_bin(65536);
  assert_get_bin(LEAST);
  ck_assert(goes_beside(LEAST));
  assert_get_bin(LEAST);
  create_with_limit(FORKQ_SHARED_NONE);
  ck_assert(!goes_beside(65536));
  assert_get_bin(65536);
  create_with_limit(65535);
  ck_assert(!goes_beside(LEAST));
  assert_get_bin(LEAST);
  create_with_limit(FORKQ_SHARED_MAX);
  ck_assert(goes_beside(LEAST));
  assert_get_bin(LEAST);
  forkq_queue_t *none;
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.shared_max_bytes = FORKQ_SHARED_MAX + 1;
  ck_assert_int_eq(forkq_queue_create_with(&none, &options), FORKQ_ERANGE);
}
END_TEST

static void put_without_memory(void *arg) {
  const struct refusal refusal = { .call = SYS_fallocate,
                                   .error = ENOSPC,
                                   .argument = REFUSE_FALLOCATE_SIZE,
                                   .is = FORKQ__ARENA_CHUNK };
  refuse(&refusal, 1);
  (void)arg;
  CHILD_MUST(!goes_beside(20000));
  CHILD_MUST(!goes_beside(1000));
}

START_TEST(without_memory_it_goes_through_the_pipe) {
  if (!can_refuse())
    return;
  pid_t child = support_fork(put_without_memory, NULL);
  assert_get_bin(20000);
  assert_get_bin(1000);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

static void go_on_without_address_space(void *arg) {
  (void)arg;
  limit_address_space();
  must_get_bin(MIB);
  must_get_bin(1000);
  CHILD_MUST(goes_beside(20000) == UNDER_ASAN);
}

START_TEST(without_address_space_a_process_gets_and_puts_all_the_same) {
  ck_assert(goes_beside(MIB));
  ck_assert(goes_beside(1000));
  ck_assert_int_eq(support_wait(support_fork(go_on_without_address_space, NULL)), 0);
  assert_get_bin(20000);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------- */

START_TEST(memory_is_used_again) {
  int64_t before = held();
  for (int i = 0; i < 1000; i++) {
    ck_assert(goes_beside(60000));
    assert_get_bin(60000);
  }
  ck_assert_int_le(held() - before, FORKQ__ARENA_ROUND + 512 * 1024);
}
END_TEST

static void until_held(int64_t bytes) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (held() > bytes) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(10000);
  }
}

/* How often a feeder has looked for memory to give back. */
static _Atomic uint32_t looks;

bool __real_forkq__sender_trim(struct forkq__sender *sender);
bool __wrap_forkq__sender_trim(struct forkq__sender *sender);
bool __wrap_forkq__sender_trim(struct forkq__sender *sender) {
  bool done = __real_forkq__sender_trim(sender);
  atomic_fetch_add(&looks, 1);
  return done;
}

START_TEST(an_idle_process_gives_memory_back) {
  int64_t before = held();
  for (int i = 0; i < 16; i++)
    ck_assert(goes_beside(MIB));
  ck_assert_int_ge(held(), 16 * MIB);
  support_until_equal(&looks,
                      1); /* it was idle for long enough, but the messages are there */
  ck_assert_int_ge(held(), 16 * MIB);
  for (int i = 0; i < 16; i++)
    assert_get_bin(MIB);
  until_held(before + FORKQ__ARENA_KEPT + 64 * 1024);
  ck_assert(goes_beside(MIB));
  assert_get_bin(MIB);
}
END_TEST

/* Its feeder looks for room ten times a second, and so is never idle for a second. */
START_TEST(a_process_that_waits_for_room_on_a_loop_does_so_too) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create(&queue, 2), 0);
  ck_assert_int_ge(forkq_queue_room_fileno(queue), 0);
  int64_t before = held();
  ck_assert(goes_beside(4 * MIB));
  ck_assert_int_eq(put(1, 0), 0);
  assert_get_bin(4 * MIB);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  until_held(before + FORKQ__ARENA_KEPT + 64 * 1024);
}
END_TEST

static void put_some_and_close(void *arg) {
  (void)arg;
  for (int i = 0; i < 8; i++)
    CHILD_MUST(goes_beside(MIB));
  for (int i = 0; i < 7; i++)
    must_get_bin(MIB);
  forkq_queue_destroy(queue);
}

START_TEST(at_its_end_a_process_gives_back_all_but_what_is_to_be_read) {
  int64_t before = held();
  ck_assert_int_eq(support_wait(support_fork(put_some_and_close, NULL)), 0);
  ck_assert_int_le(held() - before, MIB + 128 * 1024);
  assert_get_bin(MIB);
  ck_assert_int_eq(get(0), FORKQ_EMPTY); /* now nobody needs that, either */
  ck_assert_int_eq(held(), before);
}
END_TEST

/* ---- hostile ------------------------------------------------------------------------------- */

static void write_reference(uint32_t at, uint32_t size) {
  struct forkq__packet packet;
  struct forkq__channel *channel = &queue->channel;
  forkq__packet_begin(&packet);
  packet.length = (uint16_t)forkq__packet_set_reference(
      &packet, packet.length, (struct forkq__reference){ at, size });
  packet.frames = 1;
  ck_assert_int_eq(forkq__channel_lock_write(channel, FORKQ__FOREVER), 0);
  ck_assert_int_eq(forkq__channel_write(channel, &packet), 0);
  forkq__channel_unlock_write(channel);
}

START_TEST(a_reference_that_leads_out_of_the_arena_is_refused) {
  static const struct forkq__reference bad[] = {
    { 0, 0 },
    { (uint32_t)FORKQ__ARENA_SIZE, 1 },
    { (uint32_t)FORKQ__ARENA_SIZE - 9, 10 },
    { UINT32_MAX, UINT32_MAX },
    { 1, UINT32_MAX },
    { 0, (uint32_t)FORKQ__ARENA_SIZE + 1 },
  };
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert(goes_beside(LEAST));
  assert_get_bin(LEAST);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_reference(bad[i].at, bad[i].size);
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 0), FORKQ_EBADFRAME);
  }
  ck_assert(goes_beside(LEAST));
  assert_get_bin(LEAST);
  forkq_item_destroy(&item);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("shared_memory");
  TCase *sizes = add_case(suite, "sizes");
  tcase_add_loop_test(sizes, sizes_around_the_least_and_the_most, 0, 6);
  tcase_add_test(sizes, from_the_least_size_on_they_go_beside);
  tcase_add_test(sizes, what_a_function_packs_finds_its_size);
  tcase_add_test(sizes, messages_of_all_sizes_keep_their_order);
  tcase_add_test(sizes, a_batch_of_pieces);
  TCase *room = add_case(suite, "room");
  tcase_add_test(room, the_limit_of_a_process);
  tcase_add_test(room, without_memory_it_goes_through_the_pipe);
  tcase_add_test(room, without_address_space_a_process_gets_and_puts_all_the_same);
  TCase *memory = add_case(suite, "memory");
  tcase_add_test(memory, memory_is_used_again);
  tcase_add_test(memory, an_idle_process_gives_memory_back);
  tcase_add_test(memory, a_process_that_waits_for_room_on_a_loop_does_so_too);
  tcase_add_test(memory, at_its_end_a_process_gives_back_all_but_what_is_to_be_read);
  TCase *hostile = add_case(suite, "hostile");
  tcase_add_test(hostile, a_reference_that_leads_out_of_the_arena_is_refused);
  return support_main(suite);
}
