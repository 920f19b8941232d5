#include "base/os.h"
#include "queue/queue_impl.h"

#include "queue_helpers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER 5
#define PATIENCE_MS 60000

forkq_queue_t *queue;
int fds_before;
forkq_simple_queue_t *simple_queue;

void create_simple(void) {
  ck_assert_int_eq(forkq_simple_queue_create(&simple_queue), 0);
  queue = (forkq_queue_t *)simple_queue;
}

int put_object(const msgpack_object *object, int timeout_ms) {
  return simple_queue != NULL ? forkq_simple_queue_put(simple_queue, object)
                              : forkq_queue_put(queue, object, timeout_ms);
}

int put_packed(const void *data, size_t size, int timeout_ms) {
  return simple_queue != NULL ? forkq_simple_queue_put_packed(simple_queue, data, size)
                              : forkq_queue_put_packed(queue, data, size, timeout_ms);
}

int put_packing(forkq_pack_fn pack, void *arg, int timeout_ms) {
  return simple_queue != NULL ? forkq_simple_queue_put_with(simple_queue, pack, arg)
                              : forkq_queue_put_with(queue, pack, arg, timeout_ms);
}

void queue_tear_down(void) {
  forkq_queue_destroy(queue);
  simple_queue = NULL;
  ck_assert_int_eq(support_open_fds(), fds_before);
}

static bool is_sent(forkq_queue_t *from) {
  struct forkq__sender *sender = &from->feeder.sender;
  if (forkq__sender_lock(sender, FORKQ__FOREVER) != 0)
    abort();
  bool sent = !forkq__sender_has_packets(sender);
  forkq__sender_unlock(sender);
  return sent;
}

void until_sent(forkq_queue_t *from) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (!is_sent(from)) {
    if (support_now_ms() > end)
      abort();
    usleep(100);
  }
}

int put_int(forkq_queue_t *to, int64_t value, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)value;
  return forkq_queue_put(to, &object, timeout_ms);
}

int64_t get_int(forkq_queue_t *from, int timeout_ms) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r = forkq_queue_get(from, &item, timeout_ms);
  int64_t value = r < 0 ? r : (int64_t)item.object.via.u64;
  forkq_item_destroy(&item);
  return value;
}

int put(int64_t value, int timeout_ms) {
  msgpack_object object = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.u64 = (uint64_t)value;
  return put_object(&object, timeout_ms);
}

int64_t get(int timeout_ms) {
  return get_int(queue, timeout_ms);
}

static void no_repair(void *arg) {
  (void)arg;
  ck_abort_msg("a thread has ended with a lock");
}

static void assert_free(struct forkq__lock *lock) {
  ck_assert_int_eq(forkq__lock_acquire(lock, forkq__os_deadline(10000), no_repair, NULL),
                   0);
  forkq__lock_release(lock);
}

void assert_puts_hold_nothing(void) {
  struct forkq__segment *segment = queue->segment;
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, forkq__os_deadline(10000)),
                   0);
  forkq__sender_unlock(&queue->feeder.sender);
  assert_free(&segment->channel.write_lock);
  assert_free(&segment->ledger.lock);
  ck_assert_uint_eq(atomic_load(&segment->slots.waiters), 0);
  ck_assert_uint_eq(atomic_load(&queue->feeder.sender.room_waiters), 0);
}

void assert_nothing_held(void) {
  struct forkq__segment *segment = queue->segment;
  struct forkq__channel_shared *channel = &segment->channel;
  assert_puts_hold_nothing();
  assert_free(&channel->turn);
  assert_free(&channel->read_lock);
  ck_assert_int_eq(atomic_load(&queue->getters), 0);
  ck_assert_uint_eq(atomic_load(&channel->asleep), 0);
  ck_assert_uint_eq(atomic_load(&channel->turn_waiting), 0);
  ck_assert_uint_eq(atomic_load(&segment->joiners), 0);
}

static void put_and_get(void *arg) {
  CHILD_MUST(put((intptr_t)arg, 10000) == 0);
  CHILD_MUST(get(10000) == (intptr_t)arg);
}

static void *put_and_get_in_thread(void *arg) {
  ck_assert_int_eq(put((intptr_t)arg, 10000), 0);
  ck_assert_int_eq(get(10000), (intptr_t)arg);
  return NULL;
}

void assert_whole(void) {
  pthread_t thread;
  assert_nothing_held();
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  (void)put_and_get_in_thread((void *)11);
  ck_assert_int_eq(pthread_create(&thread, NULL, put_and_get_in_thread, (void *)12), 0);
  ck_assert_ptr_null(support_join(thread));
  support_until_others_asleep();
  ck_assert_int_eq(support_wait(support_fork(put_and_get, (void *)13)), 0);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

void make_bin(char *data, size_t size) {
  support_fill(data, size, size);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)((size - HEADER) >> (24 - 8 * i));
}

/* The thread may be cancelled in it. */
int put_bin(size_t size, int timeout_ms) {
  char *data = malloc(size);
  int r;
  make_bin(data, size);
  pthread_cleanup_push(free, data);
  r = put_packed(data, size, timeout_ms);
  pthread_cleanup_pop(1);
  return r;
}

bool is_bin(const forkq_item_t *item, size_t size) {
  if (item->size != size)
    return false;
  char *wanted = malloc(size);
  make_bin(wanted, size);
  bool same = memcmp(item->data, wanted, size) == 0;
  free(wanted);
  return same;
}

/* The largest take seconds where many processes share the machine. */
void assert_get_bin(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 60000), 0);
  support_assert(is_bin(&item, size));
  forkq_item_destroy(&item);
}

void assert_no_piece_is_used(void) {
  struct forkq__sender *sender = &queue->feeder.sender;
  ck_assert_int_eq(forkq__sender_lock(sender, FORKQ__FOREVER), 0);
  (void)forkq__sender_trim(sender);
  ck_assert_uint_eq(sender->arena.free, sender->arena.leaves);
  forkq__sender_unlock(sender);
}

void send_when_parent_is_gone(pid_t parent) {
  support_end_after(60);
  CHILD_MUST(forkq_queue_qsize(queue) >= 0);
  while (getppid() == parent)
    usleep(1000);
  exit(0);
}
