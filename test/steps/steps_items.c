/* The items of a world, by number: put, got, and written down. */
#define _GNU_SOURCE
#include "steps_state.h"

#include <forkq/simple_queue.h>
#include <signal.h>
#include <string.h>

#define LARGEST (1u << 17)

int world_puts;

/* A put into a simple queue has no timeout. */
int put_number_within(int number, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)number;
  return world->simple
             ? forkq_simple_queue_put((forkq_simple_queue_t *)world_queue, &object)
             : forkq_queue_put(world_queue, &object, timeout_ms);
}

static int put_number(int number) {
  return put_number_within(number, PATIENCE_MS);
}

static uint8_t data[LARGEST];

/* A bin of that size, whose bytes follow from its number, which stands in front. */
static void make_large(int number, size_t size) {
  data[0] = 0xc6;
  for (int i = 0; i < 4; i++) {
    data[1 + i] = (uint8_t)((size - 5) >> (24 - 8 * i));
    data[5 + i] = (uint8_t)(number >> (24 - 8 * i));
  }
  support_fill(data + 9, size - 9, (uint64_t)number);
}

int put_large_number(int number, size_t size) {
  make_large(number, size);
  return forkq_queue_put_packed(world_queue, data, size, PATIENCE_MS);
}

/* The number of a received object, once its bytes are seen to be right; 0: they are not. */
static int number_of(const msgpack_object *object) {
  static uint8_t expected[LARGEST];
  if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
    return (int)object->via.u64;
  if (object->type != MSGPACK_OBJECT_BIN || object->via.bin.size < 4)
    return 0;
  const uint8_t *bytes = (const uint8_t *)object->via.bin.ptr;
  int number = bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
  size_t size = object->via.bin.size - 4;
  support_fill(expected, size, (uint64_t)number);
  return memcmp(expected, bytes + 4, size) == 0 ? number : 0;
}

void note_got(int by, const forkq_item_t *item) {
  int i = atomic_fetch_add(&journal->got_count, 1);
  journal->got[i].by = by;
  journal->got[i].number = number_of(&item->object);
}

void world_put(int count) {
  for (int i = 0; i < count; i++)
    world_must(put_number(++world_puts) == 0);
}

void world_put_many(int count) {
  msgpack_object objects[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = (uint64_t)++world_puts;
  }
  world_must(forkq_queue_put_many(world_queue, objects, (size_t)count, -1, &put) == 0);
  world_must(put == (size_t)count);
}

void world_put_large(size_t size) {
  world_must(put_large_number(++world_puts, size) == 0);
}

static void put_large_and_die(void *size) {
  CHILD_MUST(put_large_number(world_puts, *(size_t *)size) == 0);
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, PATIENCE_MS, NULL) == 0);
}

void world_put_large_and_die(size_t size) {
  world_puts++;
  world_must(support_wait(support_fork(put_large_and_die, &size)) == 0);
}

static void get_and_die(void *count) {
  victim_get(*(int *)count);
  raise(SIGKILL);
}

void world_lose(int count) {
  world_must(support_wait(support_fork(get_and_die, &count)) == 128 + SIGKILL);
}

void world_get(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  world_must(forkq_queue_get(world_queue, &item, PATIENCE_MS) == 0);
  note_got(0, &item);
  if (world->joinable)
    world_must(forkq_queue_task_done(world_queue) == 0);
  forkq_item_destroy(&item);
}

int victim_number(void) {
  return VICTIMS + EACH * (victims - 1) + atomic_fetch_add(&journal->victim_puts, 1) + 1;
}

void victim_put(int count) {
  for (int i = 0; i < count; i++)
    CHILD_MUST(put_number(victim_number()) == 0);
}

static size_t made_size;

void victim_make_large(size_t size) {
  made_size = size;
  make_large(victim_number(), size);
}

void victim_put_large(void) {
  CHILD_MUST(forkq_queue_put_packed(world_queue, data, made_size, PATIENCE_MS) == 0);
}

void victim_put_bytes(void) {
  CHILD_MUST(forkq_queue_put_bytes(world_queue, data + 5, made_size - 5, PATIENCE_MS) ==
             0);
}

void victim_reserve_and_commit(void) {
  void *memory = NULL;
  CHILD_MUST(forkq_queue_reserve(world_queue, made_size, &memory) == 0);
  memcpy(memory, data, made_size);
  CHILD_MUST(forkq_queue_commit(world_queue, memory, made_size, PATIENCE_MS) == 0);
}

void victim_put_many(int count) {
  msgpack_object objects[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    objects[i].type = MSGPACK_OBJECT_POSITIVE_INTEGER;
    objects[i].via.u64 = (uint64_t)victim_number();
  }
  CHILD_MUST(
      forkq_queue_put_many(world_queue, objects, (size_t)count, PATIENCE_MS, &put) == 0);
  CHILD_MUST(put == (size_t)count);
}

/* Numbers of two bytes: as unsigned 16 of msgpack. Those that have no room are not put, so
 * that their numbers are given back. */
void victim_put_some_packed(int count) {
  uint8_t numbers[16][3];
  forkq_bytes_t messages[16];
  size_t put = 0;
  for (int i = 0; i < count; i++) {
    int number = victim_number();
    numbers[i][0] = 0xcd;
    numbers[i][1] = (uint8_t)(number >> 8);
    numbers[i][2] = (uint8_t)number;
    messages[i] = (forkq_bytes_t){ numbers[i], sizeof numbers[i] };
  }
  CHILD_MUST(forkq_queue_put_many_packed(world_queue, messages, (size_t)count,
                                         PATIENCE_MS, &put) == 0);
  atomic_fetch_sub(&journal->victim_puts, count - (int)put);
}

void victim_get(int count) {
  static forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < count; i++)
    CHILD_MUST(forkq_queue_get_packed(world_queue, &item, PATIENCE_MS) == 0);
}

static forkq_item_t borrowed = FORKQ_ITEM_INIT;

void victim_borrow(void) {
  CHILD_MUST(forkq_queue_get_borrowed(world_queue, &borrowed, PATIENCE_MS) == 0);
  CHILD_MUST(forkq_item_is_borrowed(&borrowed) == 1);
}

void victim_get_into(void) {
  static uint8_t buffer[LARGEST];
  CHILD_MUST(forkq_queue_get_bytes_into(world_queue, buffer, sizeof buffer, PATIENCE_MS,
                                        NULL) == 0);
}

void victim_borrow_many(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many_borrowed(world_queue, items, (size_t)count,
                                             PATIENCE_MS, &n) == 0);
}

void victim_end_borrow(void) {
  forkq_item_destroy(&borrowed);
}

void victim_get_many(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many(world_queue, items, (size_t)count, PATIENCE_MS, &n) ==
               0);
}

void victim_get_many_packed(int count) {
  static forkq_item_t items[16];
  for (size_t n = 0; count > 0; count -= (int)n)
    CHILD_MUST(forkq_queue_get_many_packed(world_queue, items, (size_t)count, PATIENCE_MS,
                                           &n) == 0);
}

int world_arrived(void) {
  int arrived = 0;
  for (int i = 0; i < journal->got_count; i++)
    arrived += journal->got[i].number > VICTIMS && journal->got[i].number < BYSTANDERS;
  return arrived;
}

int world_missing(void) {
  int arrived = 0;
  for (int i = 0; i < journal->got_count; i++)
    arrived += journal->got[i].number < VICTIMS;
  return world_puts - arrived;
}
