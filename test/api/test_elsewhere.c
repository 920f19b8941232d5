/* A queue that another library holds: every public function of a queue comes to that library, or says that it is not
 * supported. Here that library is the test. */
#define _GNU_SOURCE
#include "base/lifecycle.h"
#include "codec/borrow.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 10000

/* What was asked last, and what the answer is. */
static struct {
  const char *call;
  int64_t deadline;
  size_t count;
  char bytes[64][16];
  size_t sizes[64];
  size_t total;
  size_t most; /* put takes so many */
  int result;
  const forkq_item_t *item;
  bool immediate;
  bool waits;
  int closes;
  int close_result;
  bool destroyed;
} fake;
static int state;

static int fake_put(void *arg, const forkq_bytes_t *messages, size_t count,
                    int64_t deadline, size_t *ret_put) {
  ck_assert_ptr_eq(arg, &state);
  fake.call = "put";
  fake.deadline = deadline;
  fake.count = count;
  for (size_t i = 0; i < count; i++) {
    fake.sizes[i] = messages[i].size;
    memcpy(fake.bytes[i], messages[i].data,
           messages[i].size < 16 ? messages[i].size : 16);
  }
  if (fake.waits)
    return forkq__host()->poll(queue, NULL, 0, deadline, NULL, NULL) < 0
               ? FORKQ_EINTERRUPTED
               : FORKQ_TIMEDOUT;
  *ret_put = count < fake.most ? count : fake.most;
  fake.total += fake.result == 0 ? *ret_put : 0;
  return fake.result;
}

static int fake_get(void *arg, forkq_item_t *items, size_t count, int64_t deadline,
                    size_t *ret_got) {
  ck_assert_ptr_eq(arg, &state);
  fake.call = "get";
  fake.deadline = deadline;
  fake.count = count;
  if (fake.result < 0)
    return fake.result;
  if (items[0].borrow_ != NULL && items[0].borrow_->check != NULL) {
    int r = items[0].borrow_->check(items[0].borrow_,
                                    (const uint8_t *)"\xa3"
                                                     "abc",
                                    4);
    if (r < 0)
      return r;
    ck_assert_int_eq(forkq__host()->item_reserve(&items[0], 4), 0);
    memcpy(items[0].memory_,
           "\xa3"
           "abc",
           4);
    forkq__host()->item_finish(&items[0], 4);
    return 0;
  }
  for (size_t i = 0; i < count && i < 2; i++) {
    ck_assert_int_eq(forkq__host()->item_reserve(&items[i], 1), 0);
    items[i].memory_[0] = (char)(40 + i);
    forkq__host()->item_finish(&items[i], 1);
  }
  *ret_got = count < 2 ? count : 2;
  return 0;
}

static int64_t fake_qsize(void *arg) {
  ck_assert_ptr_eq(arg, &state);
  return fake.result < 0 ? fake.result : 5;
}

static int fake_full(void *arg) {
  ck_assert_ptr_eq(arg, &state);
  return 1;
}

static int fake_stats(void *arg, forkq_queue_stats_t *stats) {
  ck_assert_ptr_eq(arg, &state);
  stats->put_items = 17;
  return 0;
}

static int fake_flush(void *arg, int64_t deadline, uint64_t *ret_unsent) {
  ck_assert_ptr_eq(arg, &state);
  fake.deadline = deadline;
  *ret_unsent = 3;
  return FORKQ_TIMEDOUT;
}

static int fake_task_done(void *arg, const forkq_item_t *item) {
  ck_assert_ptr_eq(arg, &state);
  fake.call = "task_done";
  fake.item = item;
  return FORKQ_EUNDONE;
}

static int fake_join(void *arg, int64_t deadline, uint64_t *ret_abandoned) {
  ck_assert_ptr_eq(arg, &state);
  fake.call = "join";
  fake.deadline = deadline;
  *ret_abandoned = 2;
  return FORKQ_EABANDONED;
}

static int fake_shutdown(void *arg, bool immediate) {
  ck_assert_ptr_eq(arg, &state);
  fake.call = "shutdown";
  fake.immediate = immediate;
  return 0;
}

static int fake_fileno(void *arg) {
  ck_assert_ptr_eq(arg, &state);
  return 77;
}

static int fake_close(void *arg, int64_t deadline) {
  ck_assert_ptr_eq(arg, &state);
  fake.deadline = deadline;
  fake.closes++;
  return fake.close_result;
}

static void fake_destroy(void *arg) {
  ck_assert_ptr_eq(arg, &state);
  fake.destroyed = true;
}

static int forks[3]; /* before, in the parent, in the child */

static void fake_before_fork(void *arg, int64_t deadline) {
  (void)deadline;
  forks[0] += arg == &state;
}

static void fake_after_fork_parent(void *arg) {
  forks[1] += arg == &state;
}

static void fake_after_fork_child(void *arg) {
  forks[2] += arg == &state;
}

static const struct forkq__elsewhere_ops all = {
  .put = fake_put,
  .get = fake_get,
  .qsize = fake_qsize,
  .full = fake_full,
  .stats = fake_stats,
  .flush = fake_flush,
  .task_done = fake_task_done,
  .join = fake_join,
  .shutdown = fake_shutdown,
  .fileno = fake_fileno,
  .close = fake_close,
  .destroy = fake_destroy,
  .before_fork = fake_before_fork,
  .after_fork_parent = fake_after_fork_parent,
  .after_fork_child = fake_after_fork_child,
};
static const struct forkq__elsewhere_ops none = {
  .close = fake_close,
  .destroy = fake_destroy,
  .before_fork = fake_before_fork,
  .after_fork_parent = fake_after_fork_parent,
  .after_fork_child = fake_after_fork_child,
};

static void hold(const struct forkq__elsewhere_ops *ops) {
  memset(&fake, 0, sizeof fake);
  fake.most = SIZE_MAX;
  ck_assert_int_eq(forkq__host()->queue_hold(&queue, ops, &state), 0);
}

static void set_up(void) {
  fds_before = support_open_fds();
  support_heap_install();
  hold(&all);
}

static void set_up_none(void) {
  fds_before = support_open_fds();
  support_heap_install();
  hold(&none);
}

static void tear_down(void) {
  forkq_queue_destroy(queue);
  ck_assert(fake.destroyed);
  ck_assert_int_eq(support_open_fds(), fds_before);
  ck_assert_int_eq(support_heap_live(), 0);
}

static void assert_put(const char *bytes, size_t size) {
  ck_assert_str_eq(fake.call, "put");
  ck_assert_uint_eq(fake.count, 1);
  ck_assert_uint_eq(fake.sizes[0], size);
  ck_assert_int_eq(memcmp(fake.bytes[0], bytes, size < 16 ? size : 16), 0);
}

static int pack_two(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_array(packer, 2) || msgpack_pack_nil(packer) ||
         msgpack_pack_true(packer);
}

static int pack_and_put(msgpack_packer *packer, void *arg) {
  *(int *)arg = forkq_queue_put_nil(queue, 0);
  return msgpack_pack_nil(packer);
}

START_TEST(puts_come_packed) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true };
  ck_assert_int_eq(forkq_queue_put(queue, &object, -1), 0);
  assert_put("\xc3", 1);
  ck_assert(fake.deadline == FORKQ__FOREVER);
  ck_assert_int_eq(forkq_queue_put_nowait(queue, &object), 0);
  ck_assert(fake.deadline == FORKQ__NOWAIT);
  ck_assert_int_eq(forkq_queue_put_packed(queue, "\x92\x01\x02", 3, 0), 0);
  assert_put("\x92\x01\x02", 3);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_two, NULL, 0), 0);
  assert_put("\x92\xc0\xc3", 3);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, "", 0, 0), 0);
  assert_put("\xc4\0", 2);
  ck_assert_int_eq(forkq_queue_put_str(queue, "a", 0), 0);
  assert_put("\xa1"
             "a",
             2);
  ck_assert_int_eq(forkq_queue_put_int(queue, 7, 0), 0);
  assert_put("\x07", 1);
  ck_assert_int_eq(forkq_queue_put_nil(queue, 0), 0);
  assert_put("\xc0", 1);
  ck_assert_int_eq(forkq_queue_putf(queue, 0, "[i]", 3), 0);
  assert_put("\x91\x03", 2);
  fake.result = FORKQ_FULL;
  ck_assert_int_eq(forkq_queue_put_nil(queue, 0), FORKQ_FULL);
}
END_TEST

START_TEST(what_is_not_valid_does_not_come) {
  int r = 0;
  ck_assert_int_eq(forkq_queue_put_nil(queue, -2), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_put_packed(queue, "\xc1", 1, 0), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_queue_put(NULL, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get(NULL, NULL, 0), FORKQ_ENULL);
  ck_assert_ptr_null(fake.call);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_and_put, &r, 0), 0);
  ck_assert_int_eq(r, FORKQ_EPACKING);
  assert_put("\xc0", 1);
}
END_TEST

START_TEST(a_batch_comes_in_runs) {
  msgpack_object objects[150];
  size_t n = 0;
  for (int i = 0; i < 150; i++)
    objects[i] = (msgpack_object){ .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                                   .via.u64 = (uint64_t)i };
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 150, -1, &n), 0);
  ck_assert_uint_eq(n, 150);
  ck_assert_uint_eq(fake.total, 150);
  ck_assert_uint_eq(fake.count, 150 % 64);
  ck_assert_int_eq(memcmp(fake.bytes[21], "\xcc\x95", 2), 0);
  ck_assert(fake.deadline == FORKQ__NOWAIT); /* only the first waits */
  fake.most = 10;
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 150, -1, &n), 0);
  ck_assert_uint_eq(n, 10);
  ck_assert(fake.deadline == FORKQ__FOREVER);
  fake.most = SIZE_MAX;
  objects[70].type = (msgpack_object_type)99;
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 150, 0, &n), 0);
  ck_assert_uint_eq(n, 70);
  ck_assert_int_eq(forkq_queue_put_many(queue, objects + 70, 1, 0, &n), FORKQ_EBADOBJECT);
  ck_assert_uint_eq(n, 70);
  fake.result = FORKQ_ESHUTDOWN;
  ck_assert_int_eq(forkq_queue_put_many(queue, objects, 2, 0, &n), FORKQ_ESHUTDOWN);
}
END_TEST

START_TEST(large_messages_come_whole) {
  size_t size = 1024 * 1024;
  char *data = malloc(size);
  make_bin(data, size);
  const forkq_bytes_t messages[] = { { data, size }, { data, size } };
  size_t n = 0;
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, 0), 0);
  assert_put(data, size);
  ck_assert_int_eq(forkq_queue_put_bytes(queue, data + 5, size - 5, 0), 0);
  assert_put(data, size);
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 2, 0, &n), 0);
  ck_assert_uint_eq(n, 2);
  free(data);
}
END_TEST

START_TEST(gets_fill_items) {
  forkq_item_t items[3] = { 0 };
  size_t n = 7;
  ck_assert_int_eq(forkq_queue_get(queue, &items[0], -1), 0);
  ck_assert_uint_eq(items[0].object.via.u64, 40);
  ck_assert(fake.deadline == FORKQ__FOREVER);
  ck_assert_int_eq(forkq_queue_get_packed(queue, &items[0], 0), 0);
  ck_assert_int_eq(items[0].object.type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(items[0].size, 1);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &items[0], 0), 0);
  ck_assert_uint_eq(items[0].object.via.u64, 40);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 3, 0, &n), 0);
  ck_assert_uint_eq(n, 2);
  ck_assert_uint_eq(items[1].object.via.u64, 41);
  ck_assert_int_eq(forkq_queue_get_many_borrowed(queue, items, 1, 0, &n), 0);
  ck_assert_uint_eq(n, 1);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, NULL, 0, 0, &n), 0);
  ck_assert_uint_eq(n, 0);
  char buffer[4] = "";
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 2, 0, &n), FORKQ_ETOOSHORT);
  ck_assert_uint_eq(n, 3);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, buffer, 3, 0, NULL), 0);
  ck_assert_str_eq(buffer, "abc");
  fake.result = FORKQ_EMPTY;
  ck_assert_int_eq(forkq_queue_get(queue, &items[0], 0), FORKQ_EMPTY);
  ck_assert_uint_eq(items[0].size, 0);
  ck_assert_int_eq(forkq_queue_get(queue, &items[0], -2), FORKQ_ETIMEOUT);
  for (int i = 0; i < 3; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

START_TEST(the_other_calls_come) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  uint64_t number = 0;
  ck_assert_int_eq(forkq_queue_qsize(queue), 5);
  ck_assert_int_eq(forkq_queue_empty(queue), 0);
  ck_assert_int_eq(forkq_queue_full(queue), 1);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.put_items, 17);
  ck_assert_uint_eq(stats.size, sizeof stats);
  ck_assert_int_eq(forkq_queue_flush(queue, 0, &number), FORKQ_TIMEDOUT);
  ck_assert_uint_eq(number, 3);
  ck_assert_int_eq(forkq_queue_task_done(queue), FORKQ_EUNDONE);
  ck_assert_ptr_null(fake.item);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), FORKQ_EUNDONE);
  ck_assert_ptr_eq(fake.item, &item);
  ck_assert_int_eq(forkq_queue_join(queue, 0, &number), FORKQ_EABANDONED);
  ck_assert_uint_eq(number, 2);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 7), 0);
  ck_assert(fake.immediate);
  ck_assert_int_eq(forkq_queue_fileno(queue), 77);
  ck_assert_int_eq(forkq_queue_cancel_join_thread(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 0, NULL), FORKQ_ENOTCLOSED);
  fake.close_result = -EDEADLK; /* in a handler: the queue is open as before */
  ck_assert_int_eq(forkq_queue_close(queue), -EDEADLK);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 0, NULL), FORKQ_ENOTCLOSED);
  fake.close_result = 0;
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(fake.closes, 2);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 0, &number), 0);
  ck_assert_uint_eq(number, 0);
  fake.result = FORKQ_ECLOSED;
  ck_assert_int_eq(forkq_queue_empty(queue), FORKQ_ECLOSED);
}
END_TEST

/* An interrupt ends the one call that waits, or the next one. */
START_TEST(interrupts_come) {
  fake.waits = true;
  ck_assert_int_eq(forkq_queue_put_nil(queue, 20), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq(forkq_queue_put_nil(queue, PATIENCE_MS), FORKQ_EINTERRUPTED);
  ck_assert_int_eq(forkq_queue_put_nil(queue, 20), FORKQ_TIMEDOUT);
}
END_TEST

static int silent[2];

static int silent_fileno(void *arg) {
  (void)arg;
  return silent[0];
}

static void *wait_for_it(void *arg) {
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  (void)arg;
  return (void *)(intptr_t)forkq_wait(&entry, 1, -1);
}

/* The event of interrupts could not be made. */
START_TEST(forkq_wait_looks_for_interrupts_itself) {
  static struct forkq__elsewhere_ops ops;
  pthread_t thread;
  ops = all;
  ops.fileno = silent_fileno;
  forkq_queue_destroy(queue);
  hold(&ops);
  ck_assert_int_eq(pipe(silent), 0);
  forkq__os_close(forkq__interrupts_fd(&queue->channel.interrupts));
  FORKQ__STORE(queue->channel.interrupts.event_fd, 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, NULL), 0);
  support_until_threads_asleep(1);
  ck_assert_int_eq(forkq_queue_interrupt(queue), 0);
  ck_assert_int_eq((intptr_t)support_join(thread), FORKQ_EINTERRUPTED);
  close(silent[0]);
  close(silent[1]);
}
END_TEST

static void in_child(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_put_nil(queue, 0) == 0);
  CHILD_MUST(forks[2] == 1);
}

START_TEST(fork_is_told) {
  memset(forks, 0, sizeof forks);
  ck_assert_int_eq(support_wait(support_fork(in_child, NULL)), 0);
  ck_assert_int_eq(forks[0], 1);
  ck_assert_int_eq(forks[1], 1);
  ck_assert_int_eq(forks[2], 0);
}
END_TEST

/* What no other library can do: -ENOTSUP, and nothing else happens. */
static void assert_not_supported(void) {
  void *memory = NULL;
  forkq_handover_t handover;
  forkq_server_t *server;
  ck_assert_int_eq(forkq_queue_reserve(queue, 100, &memory), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_commit(queue, &server, 1, 0), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_abandon(queue, &server), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_room_fileno(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_send(queue, 0), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, "/tmp/forkq-none", NULL), -ENOTSUP);
}

START_TEST(what_no_other_library_has) {
  assert_not_supported();
}
END_TEST

START_TEST(what_the_other_library_does_not_have) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  size_t n = 7;
  msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  ck_assert_int_eq(forkq_queue_put_nil(queue, -1), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_put_many(queue, &object, 1, -1, &n), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_get(queue, &item, -1), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_get_many(queue, &item, 1, -1, &n), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_get_bytes_into(queue, &n, 1, 0, NULL), -ENOTSUP);
  ck_assert_uint_eq(n, 7);
  ck_assert_int_eq(forkq_queue_qsize(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_empty(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_full(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_flush(queue, 0, NULL), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_task_done(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_task_done_item(queue, &item), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_join(queue, 0, NULL), -ENOTSUP);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 0), -ENOTSUP);
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  ck_assert_int_eq(forkq_queue_fileno(queue), -ENOTSUP);
  ck_assert_int_eq(forkq_wait(&entry, 1, 0), -ENOTSUP);
  assert_not_supported();
  forkq_item_destroy(&item);
}
END_TEST

/* At exit, the library has the chance to give back what the process has. */
static void exits(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_put_nil(queue, 0) == 0);
  exit(0);
}

static _Atomic int *closed_at_exit;

static int close_at_exit(void *arg, int64_t deadline) {
  (void)arg;
  if (deadline != FORKQ__FOREVER)
    atomic_fetch_add(closed_at_exit, 1);
  return 0;
}

START_TEST(exit_closes) {
  static struct forkq__elsewhere_ops ops;
  ops = all;
  closed_at_exit = support_shared(sizeof *closed_at_exit);
  forkq_queue_destroy(queue);
  ops.close = close_at_exit;
  hold(&ops);
  ck_assert_int_eq(support_wait(support_fork(exits, NULL)), 0);
  ck_assert_int_eq(atomic_load(closed_at_exit), 1);
}
END_TEST

/* Without memory a put fails, and nothing comes. */
START_TEST(without_memory) {
  fake.call = NULL;
  support_heap_fail_at(1, true);
  ck_assert_int_eq(forkq_queue_put_str(queue, "abc", 0), -ENOMEM);
  ck_assert_ptr_null(fake.call);
  forkq_queue_t *other;
  ck_assert_int_eq(forkq__host()->queue_hold(&other, &all, &state), -ENOMEM);
  support_heap_fail_at(0, false);
  ck_assert_int_eq(forkq_queue_put_str(queue, "abc", 0), 0);
}
END_TEST

static int identity_result;

int __real_forkq__os_identity(int fd, uint64_t *ret_identity);
int __wrap_forkq__os_identity(int fd, uint64_t *ret_identity);
int __wrap_forkq__os_identity(int fd, uint64_t *ret_identity) {
  return identity_result < 0 ? identity_result
                             : __real_forkq__os_identity(fd, ret_identity);
}

/* The registry is free afterwards, and the event is closed. */
START_TEST(an_event_that_cannot_be_known) {
  forkq_queue_t *other;
  int fds = support_open_fds();
  identity_result = -ENOMEM;
  ck_assert_int_eq(forkq__host()->queue_hold(&other, &all, &state), -ENOMEM);
  identity_result = 0;
  ck_assert_int_eq(support_open_fds(), fds);
  ck_assert_int_eq(forkq__life_hold(), 0);
  forkq__life_let_go();
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("elsewhere");
  TCase *tcase = tcase_create("elsewhere");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, puts_come_packed);
  tcase_add_test(tcase, what_is_not_valid_does_not_come);
  tcase_add_test(tcase, a_batch_comes_in_runs);
  tcase_add_test(tcase, large_messages_come_whole);
  tcase_add_test(tcase, gets_fill_items);
  tcase_add_test(tcase, the_other_calls_come);
  tcase_add_test(tcase, interrupts_come);
  tcase_add_test(tcase, forkq_wait_looks_for_interrupts_itself);
  tcase_add_test(tcase, fork_is_told);
  tcase_add_test(tcase, what_no_other_library_has);
  tcase_add_test(tcase, exit_closes);
  tcase_add_test(tcase, without_memory);
  tcase_add_test(tcase, an_event_that_cannot_be_known);
  suite_add_tcase(s, tcase);
  TCase *without = tcase_create("without");
  tcase_set_timeout(without, 60);
  tcase_add_checked_fixture(without, set_up_none, tear_down);
  tcase_add_test(without, what_the_other_library_does_not_have);
  suite_add_tcase(s, without);
  return s;
}

int main(void) {
  return support_main(suite());
}
