/* Messages beside the pipe: which go there, that their memory comes back, and what happens where there
 * is no room, or where somebody dies. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define LEAST FORKQ__BESIDE_MIN
#define MIB (1u << 20)

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

static void create_with_limit(size_t bytes) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.shared_max_bytes = bytes;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

/* Bytes of packets that were sent. */
static uint64_t wire(void) {
  struct forkq__ledger *ledger = &queue->segment->ledger;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    sum += FORKQ__LOAD(ledger->cells[i].sent_wire);
  return sum;
}

/* Shared memory that is there. */
static int64_t held(void) {
  struct stat status;
  if (fstat(queue->channel.account.liveness.memory_fd, &status) != 0)
    abort();
  return (int64_t)status.st_blocks * 512;
}

/* Puts a bin: whether it went beside the pipe. */
static bool goes_beside(size_t size) {
  uint64_t before = wire();
  CHILD_MUST(put_bin(size, PATIENCE_MS) == 0);
  until_sent(queue);
  return wire() - before < LEAST;
}

static void must_get_bin(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  CHILD_MUST(is_bin(&item, size));
  forkq_item_destroy(&item);
}

/* ---- which go beside ----------------------------------------------------------------------- */

static int pack_bin(msgpack_packer *packer, void *size) {
  char *data = malloc(*(size_t *)size);
  make_bin(data, *(size_t *)size);
  int r = packer->callback(packer->data, data, 100);
  if (r == 0)
    r = packer->callback(packer->data, data + 100, *(size_t *)size - 100);
  free(data);
  return r;
}

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
  const struct refusal refusal = {
    .call = SYS_fallocate, .error = ENOSPC, .argument = 4, .is = FORKQ__ARENA_CHUNK
  };
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

static rlim_t address_space(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  CHILD_MUST(file != NULL && fscanf(file, "%lu", &pages) == 1);
  fclose(file);
  return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* It has room for some stacks and items, and for no arena. */
static void go_on_without_address_space(void *arg) {
  struct rlimit limit = { address_space() + 40 * MIB, RLIM_INFINITY };
  (void)arg;
  if (!UNDER_ASAN)
    CHILD_MUST(setrlimit(RLIMIT_AS, &limit) == 0);
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
  ck_assert_int_le(held() - before, 512 * 1024);
}
END_TEST

static void until_held(int64_t bytes) {
  int64_t end = support_now_ms() + PATIENCE_MS;
  while (held() > bytes) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(10000);
  }
}

START_TEST(an_idle_process_gives_memory_back) {
  int64_t before = held();
  for (int i = 0; i < 16; i++)
    ck_assert(goes_beside(MIB));
  ck_assert_int_ge(held(), 16 * MIB);
  usleep(1500000); /* it was idle for long enough, but the messages are there */
  for (int i = 0; i < 16; i++)
    assert_get_bin(MIB);
  until_held(before + FORKQ__ARENA_KEPT + 64 * 1024);
  ck_assert(goes_beside(MIB));
  assert_get_bin(MIB);
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

/* ---- deaths -------------------------------------------------------------------------------- */

static void put_and_be_killed(void *arg) {
  (void)arg;
  CHILD_MUST(goes_beside(50000));
  CHILD_MUST(goes_beside(50001));
  raise(SIGKILL);
}

static void put_as_the_next_owner(void *arg) {
  (void)arg;
  CHILD_MUST(!goes_beside(50002)); /* the pieces of the last one are to be read */
  must_get_bin(50000);
  CHILD_MUST(!goes_beside(50003));
  must_get_bin(50001);
  CHILD_MUST(!goes_beside(50004));
  must_get_bin(50002);
  int64_t before = held();
  CHILD_MUST(goes_beside(50005));
  CHILD_MUST(held() < before); /* two pieces before, and one now */
  must_get_bin(50003);
  must_get_bin(50004);
  must_get_bin(50005);
}

static void put_one(void *arg) {
  (void)arg;
  CHILD_MUST(put(1, 0) == 0);
  until_sent(queue);
}

/* The first put of a process finds the dead. Who then finds nothing left to get gives back their
 * memory. */
START_TEST(memory_of_the_dead_goes_back) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(0), 1);
  int64_t before = held();
  ck_assert_int_eq(support_wait(support_fork(put_and_be_killed, NULL)), 128 + SIGKILL);
  assert_get_bin(50000);
  ck_assert_int_gt(held(), before + 50000);
  ck_assert_int_eq(support_wait(support_fork(put_one, NULL)), 0);
  assert_get_bin(50001);
  ck_assert_int_eq(get(0), 1);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_le(held(), before + 8192); /* of the ledger */
}
END_TEST

/* Called once, when a reader has found the pipe empty and has not yet looked at anything else. */
static void (*when_empty)(void);

ssize_t __real_forkq__os_read(int fd, void *data, size_t size);
ssize_t __wrap_forkq__os_read(int fd, void *data, size_t size);
ssize_t __wrap_forkq__os_read(int fd, void *data, size_t size) {
  ssize_t n = __real_forkq__os_read(fd, data, size);
  if (n == -EAGAIN && when_empty != NULL) {
    void (*call)(void) = when_empty;
    when_empty = NULL;
    call();
  }
  return n;
}

static void put_and_leave(void *arg) {
  (void)arg;
  CHILD_MUST(goes_beside(50000));
  forkq_queue_destroy(queue);
}

static void let_one_put_and_leave(void) {
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
}

START_TEST(what_comes_while_memory_is_given_back_is_not_touched) {
  when_empty = let_one_put_and_leave;
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_ptr_null(when_empty);
  assert_get_bin(50000);
}
END_TEST

/* Called once, when a reader is about to give back memory, and says so already. */
static void (*when_swept)(void);

void __real_forkq__os_memory_release(int fd, int64_t offset, int64_t size);
void __wrap_forkq__os_memory_release(int fd, int64_t offset, int64_t size);
void __wrap_forkq__os_memory_release(int fd, int64_t offset, int64_t size) {
  void (*call)(void) = when_swept;
  when_swept = NULL;
  if (call != NULL)
    call();
  __real_forkq__os_memory_release(fd, offset, size);
}

static void reserve_and_leave(void *arg) {
  void *memory = NULL;
  (void)arg;
  CHILD_MUST(forkq_queue_reserve(queue, 50000, &memory) == 0);
  memset(memory, 'x', 50000);
  forkq_queue_destroy(queue);
}

static void put_in_the_sweep(void *arg) {
  (void)arg;
  CHILD_MUST(!goes_beside(50000));
  CHILD_MUST(FORKQ__LOAD(queue->segment->ledger.cells[0].arena) == FORKQ__SWEPT);
}

static void let_the_next_owner_put(void) {
  ck_assert_int_eq(support_wait(support_fork(put_in_the_sweep, NULL)), 0);
}

/* Nothing was ever sent, so the next owner need not wait for a packet; but for the reader that sweeps. */
START_TEST(who_has_the_arena_next_waits_while_it_is_swept) {
  int64_t before = held();
  ck_assert_int_eq(support_wait(support_fork(reserve_and_leave, NULL)), 0);
  ck_assert_int_gt(held(), before + 50000);
  when_swept = let_the_next_owner_put;
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_ptr_null(when_swept);
  assert_get_bin(50000);
  ck_assert_int_le(held(), before + 8192); /* of the ledger */
}
END_TEST

START_TEST(the_next_owner_waits_until_the_last_one_s_messages_are_read) {
  ck_assert_int_eq(support_wait(support_fork(put_and_be_killed, NULL)), 128 + SIGKILL);
  ck_assert_int_eq(support_wait(support_fork(put_as_the_next_owner, NULL)), 0);
  ck_assert_uint_eq(queue->segment->ledger.cells_used, 1);
}
END_TEST

/* A heap that kills in the middle of a get: the item's memory is asked for when the reader has seen the
 * reference. */
static void *die(void *memory, size_t size, void *arg) {
  (void)memory, (void)size, (void)arg;
  raise(SIGKILL);
  return NULL;
}

static void die_in_a_get(void *arg) {
  forkq_heap_t heap = { .malloc = NULL, .realloc = die, .free = NULL };
  forkq_item_t item = FORKQ_ITEM_INIT;
  (void)arg;
  forkq_heap_set(&heap);
  (void)!forkq_queue_get_packed(queue, &item, PATIENCE_MS);
}

START_TEST(what_a_reader_did_not_take_is_not_written_to) {
  ck_assert(goes_beside(60000));
  ck_assert_int_eq(support_wait(support_fork(die_in_a_get, NULL)), 128 + SIGKILL);
  for (int i = 0; i < 10; i++)
    ck_assert(goes_beside(60001));
  assert_get_bin(60000);
  for (int i = 0; i < 10; i++)
    assert_get_bin(60001);
}
END_TEST

#define SMALL 400
#define ITEMS 1700 /* as much as the pipe holds, and some more */

static void send_when_it_is_gone(pid_t parent) {
  support_end_after(60);
  CHILD_MUST(forkq_queue_qsize(queue) >= 0);
  while (getppid() == parent)
    usleep(1000);
  exit(0);
}

static void leave_pieces(void *arg) {
  pid_t self = getpid();
  (void)arg;
  for (int i = 0; i < ITEMS; i++)
    CHILD_MUST(put_bin(SMALL, PATIENCE_MS) == 0);
  support_until_pipe_full(queue);
  for (size_t i = 0; i < 20; i++)
    CHILD_MUST(put_bin(1000 + i * 3000, PATIENCE_MS) == 0);
  if (fork() == 0) /* support_fork's would die with this one */
    send_when_it_is_gone(self);
  _exit(0);
}

START_TEST(an_heir_sends_the_pieces_of_its_parent) {
  ck_assert_int_eq(support_wait(support_fork(leave_pieces, NULL)), 0);
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < ITEMS; i++) {
    ck_assert_int_eq(forkq_queue_get_packed(queue, &item, 30000), 0);
    support_assert(is_bin(&item, SMALL));
  }
  forkq_item_destroy(&item);
  for (size_t i = 0; i < 20; i++)
    assert_get_bin(1000 + i * 3000);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

/* ---- packing functions that do not come back, or come back late ---------------------------- */

static _Atomic int *packing, *go_on;

static int pack_late(msgpack_packer *packer, void *size) {
  char *data = malloc(*(size_t *)size);
  make_bin(data, *(size_t *)size);
  int r = packer->callback(packer->data, data, 1000);
  atomic_store(packing, 1);
  support_until(go_on);
  if (r == 0)
    r = packer->callback(packer->data, data + 1000, *(size_t *)size - 1000);
  free(data);
  return r;
}

static void *put_late(void *size) {
  return (void *)(intptr_t)put_packing(pack_late, size, PATIENCE_MS);
}

/* So that the next function gets a piece of that size. */
static void let_it_know_the_size(size_t size) {
  for (int i = 0; i < 2; i++) {
    CHILD_MUST(put_packing(pack_bin, &size, PATIENCE_MS) == 0);
    must_get_bin(size);
  }
}

static void close_beside_a_packing_thread(void *arg) {
  pthread_t thread;
  size_t size = 40000;
  (void)arg;
  let_it_know_the_size(size);
  CHILD_MUST(pthread_create(&thread, NULL, put_late, &size) == 0);
  support_until(packing);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(queue, PATIENCE_MS, NULL) == 0);
  atomic_store(packing, 2);
  CHILD_MUST((intptr_t)support_join(thread) == FORKQ_ECLOSED);
  forkq_queue_destroy(queue);
}

/* The next owner of the cell packs a message into the same memory, while the thread of the last one
 * still packs. */
START_TEST(a_thread_that_packs_beyond_a_close_writes_into_nobody_s_message) {
  packing = support_shared(2 * sizeof *packing);
  go_on = packing + 1;
  pid_t child = support_fork(close_beside_a_packing_thread, NULL);
  support_until_equal((const _Atomic uint32_t *)packing, 2);
  do { /* the first one opens the way */
    ck_assert_int_eq(put_bin(39999, PATIENCE_MS), 0);
    assert_get_bin(39999);
  } while (!goes_beside(39998));
  ck_assert_uint_eq(queue->segment->ledger.cells_used, 1);
  atomic_store(go_on, 1);
  ck_assert_int_eq(support_wait(child), 0);
  assert_get_bin(39998);
}
END_TEST

static jmp_buf jump;

static int pack_and_leave(msgpack_packer *packer, void *size) {
  char data[1000];
  make_bin(data, sizeof data);
  (void)size;
  (void)packer->callback(packer->data, data, sizeof data);
  longjmp(jump, 1);
}

/* What such a function had of the arena comes back. */
START_TEST(functions_that_jump_out_leave_no_memory_behind) {
  create_with_limit(256 * 1024);
  let_it_know_the_size(100000);
  for (int i = 0; i < 50; i++) {
    size_t size = 100000;
    if (setjmp(jump) == 0)
      (void)!put_packing(pack_and_leave, NULL, PATIENCE_MS);
    uint64_t before = wire();
    ck_assert_int_eq(put_packing(pack_bin, &size, PATIENCE_MS), 0);
    until_sent(queue);
    ck_assert_uint_lt(wire() - before, LEAST);
    assert_get_bin(size);
  }
}
END_TEST

static int pack_in_parent_and_child(msgpack_packer *packer, void *ret_child) {
  size_t size = 40000;
  char *data = malloc(size);
  make_bin(data, size);
  int r = packer->callback(packer->data, data, 20000);
  pid_t child = fork();
  *(pid_t *)ret_child = child;
  if (child != 0 && r == 0)
    (void)support_wait(child); /* the child packs and puts first */
  if (r == 0)
    r = packer->callback(packer->data, data + 20000, size - 20000);
  free(data);
  return r;
}

/* Both go on packing from there, each for itself. */
START_TEST(a_function_may_fork_and_pack_on_in_both) {
  let_it_know_the_size(40000);
  pid_t child;
  int r = put_packing(pack_in_parent_and_child, &child, PATIENCE_MS);
  if (child == 0) {
    CHILD_MUST(r == 0);
    exit(0);
  }
  ck_assert_int_eq(r, 0);
  assert_get_bin(40000);
  assert_get_bin(40000);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}
END_TEST

static pid_t (*fork_in_another_way)(void);

static pid_t fork_without_handlers(void) {
  return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* The child packs on and writes nothing into the parent's piece. Its put fails. */
static int pack_and_leave_a_child(msgpack_packer *packer, void *ret_child) {
  size_t size = 40000;
  char *data = malloc(size);
  make_bin(data, size);
  int r = packer->callback(packer->data, data, 20000);
  pid_t child = fork_in_another_way();
  *(pid_t *)ret_child = child;
  if (child == 0) {
    support_until(go_on);
    memset(data, 'c', size);
  }
  if (r == 0)
    r = packer->callback(packer->data, data + 20000, size - 20000);
  free(data);
  return r;
}

START_TEST(a_child_without_handlers_does_not_write_into_its_parent_s_piece) {
  fork_in_another_way = fork_without_handlers;
  go_on = support_shared(sizeof *go_on);
  let_it_know_the_size(40000);
  pid_t child;
  int r = put_packing(pack_and_leave_a_child, &child, PATIENCE_MS);
  if (child == 0) {
    CHILD_MUST(r == FORKQ_ECLOSED);
    _exit(0);
  }
  ck_assert_int_eq(r, 0);
  until_sent(queue);
  atomic_store(go_on, 1);
  ck_assert_int_eq(support_wait(child), 0);
  assert_get_bin(40000);
}
END_TEST

static void *jump_out_and_fork(void *arg) {
  forkq_queue_t *other = arg;
  if (setjmp(jump) == 0)
    (void)!forkq_queue_put_with(other, pack_and_leave, NULL, PATIENCE_MS);
  forkq_queue_destroy(other);
  ck_assert_int_eq(support_wait(support_fork(put_one, NULL)), 0);
  return NULL;
}

/* What the function had packed is nowhere any more. */
START_TEST(a_fork_after_a_function_jumped_out_and_its_queue_was_destroyed) {
  forkq_queue_t *other = queue;
  pthread_t thread;
  let_it_know_the_size(100000);
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, jump_out_and_fork, other), 0);
  ck_assert_ptr_null(support_join(thread));
  ck_assert_int_eq(get(PATIENCE_MS), 1);
}
END_TEST

/* A process that closes what shows that it lives is taken for dead. It must not write into what the next
 * owner of its cell has packed. */
static void be_taken_for_dead(void *arg) {
  pthread_t thread;
  size_t size = 40000;
  (void)arg;
  let_it_know_the_size(size);
  CHILD_MUST(pthread_create(&thread, NULL, put_late, &size) == 0);
  support_until(packing);
  CHILD_MUST(syscall(SYS_close_range, 3, ~0u, 0) == 0);
  atomic_store(packing, 2);
  CHILD_MUST((intptr_t)support_join(thread) == -EBADF);
  _exit(0);
}

START_TEST(who_is_taken_for_dead_writes_into_nobody_s_message) {
  packing = support_shared(2 * sizeof *packing);
  go_on = packing + 1;
  pid_t child = support_fork(be_taken_for_dead, NULL);
  support_until_equal((const _Atomic uint32_t *)packing, 2);
  do {
    ck_assert_int_eq(put_bin(39999, PATIENCE_MS), 0);
    assert_get_bin(39999);
  } while (!goes_beside(39998));
  ck_assert_uint_eq(queue->segment->ledger.cells_used, 1);
  atomic_store(go_on, 1);
  ck_assert_int_eq(support_wait(child), 0);
  assert_get_bin(39998);
}
END_TEST

/* ---- what cannot be sent ------------------------------------------------------------------- */

static size_t lost_size;

static void on_lost(forkq_queue_t *from, int error, const char *data, size_t size,
                    void *arg) {
  (void)from, (void)error, (void)arg;
  char *wanted = malloc(size);
  make_bin(wanted, size);
  if (memcmp(wanted, data, size) == 0)
    lost_size += size;
  free(wanted);
}

/* Nobody else has the pipe, so nobody can get the item any more when this process has closed. */
START_TEST(a_lost_piece_is_reported_with_its_bytes) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.on_feeder_error = on_lost;
  options.no_direct_write = 1;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  for (int i = 0; i < ITEMS; i++)
    ck_assert_int_eq(put_bin(SMALL, PATIENCE_MS), 0);
  support_until_pipe_full(queue);
  ck_assert_int_eq(put_bin(30000, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, PATIENCE_MS, NULL), 0);
  ck_assert_uint_ge(lost_size, 30000);
}
END_TEST

static bool has_given_back_all(void) {
  struct forkq__sender *sender = &queue->feeder.sender;
  ck_assert_int_eq(forkq__sender_lock(sender, FORKQ__FOREVER), 0);
  (void)forkq__sender_trim(sender);
  bool all = sender->arena.free == sender->arena.leaves;
  forkq__sender_unlock(sender);
  return all;
}

START_TEST(what_is_thrown_away_takes_no_memory) {
  for (int i = 0; i < ITEMS; i++)
    ck_assert_int_eq(put_bin(SMALL, PATIENCE_MS), 0);
  support_until_pipe_full(queue);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put_bin(30000, PATIENCE_MS), 0);
  ck_assert(!has_given_back_all());
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  until_sent(queue); /* or thrown away */
  ck_assert(has_given_back_all());
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

static TCase *add(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}

int main(void) {
  Suite *suite = suite_create("shared_memory");
  TCase *sizes = add(suite, "sizes");
  tcase_add_loop_test(sizes, sizes_around_the_least_and_the_most, 0, 6);
  tcase_add_test(sizes, from_the_least_size_on_they_go_beside);
  tcase_add_test(sizes, what_a_function_packs_finds_its_size);
  tcase_add_test(sizes, messages_of_all_sizes_keep_their_order);
  tcase_add_test(sizes, a_batch_of_pieces);
  TCase *room = add(suite, "room");
  tcase_add_test(room, the_limit_of_a_process);
  tcase_add_test(room, without_memory_it_goes_through_the_pipe);
  tcase_add_test(room, without_address_space_a_process_gets_and_puts_all_the_same);
  TCase *memory = add(suite, "memory");
  tcase_add_test(memory, memory_is_used_again);
  tcase_add_test(memory, an_idle_process_gives_memory_back);
  tcase_add_test(memory, at_its_end_a_process_gives_back_all_but_what_is_to_be_read);
  TCase *deaths = add(suite, "deaths");
  tcase_add_test(deaths, memory_of_the_dead_goes_back);
  tcase_add_test(deaths, what_comes_while_memory_is_given_back_is_not_touched);
  tcase_add_test(deaths, who_has_the_arena_next_waits_while_it_is_swept);
  tcase_add_test(deaths, the_next_owner_waits_until_the_last_one_s_messages_are_read);
  tcase_add_test(deaths, what_a_reader_did_not_take_is_not_written_to);
  tcase_add_test(deaths, an_heir_sends_the_pieces_of_its_parent);
  TCase *functions = add(suite, "functions");
  tcase_add_test(functions,
                 a_thread_that_packs_beyond_a_close_writes_into_nobody_s_message);
  tcase_add_test(functions, functions_that_jump_out_leave_no_memory_behind);
  tcase_add_test(functions, a_function_may_fork_and_pack_on_in_both);
  tcase_add_test(functions,
                 a_child_without_handlers_does_not_write_into_its_parent_s_piece);
  tcase_add_test(functions,
                 a_fork_after_a_function_jumped_out_and_its_queue_was_destroyed);
  tcase_add_test(functions, who_is_taken_for_dead_writes_into_nobody_s_message);
  TCase *ends = add(suite, "ends");
  tcase_add_test(ends, a_lost_piece_is_reported_with_its_bytes);
  tcase_add_test(ends, what_is_thrown_away_takes_no_memory);
  TCase *hostile = add(suite, "hostile");
  tcase_add_test(hostile, a_reference_that_leads_out_of_the_arena_is_refused);
  return support_main(suite);
}
