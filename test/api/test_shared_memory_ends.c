/* Messages beside the pipe, and processes that die, leave or fork; functions that do not come back, or
 * come back late; messages that cannot be sent. */
#define _GNU_SOURCE
#include "shared_memory_helpers.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* Who finds nothing left to get gives back the memory of the dead, once they were found. */
static void assert_memory_goes_back(int64_t before) {
  ck_assert_int_gt(held(), before + 50000);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_le(held(), before + 8192); /* of the ledger */
}

/* The first put of a process finds the dead. */
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
  assert_memory_goes_back(before);
}
END_TEST

/* A question for a number looks at one process that may have left memory, in turn. */
START_TEST(who_asks_for_the_size_finds_memory_of_the_dead) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(0), 1);
  int64_t before = held();
  ck_assert_int_eq(support_wait(support_fork(put_and_be_killed, NULL)), 128 + SIGKILL);
  assert_get_bin(50000);
  assert_get_bin(50001);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  for (int i = 0; i < 2; i++) /* there are two cells */
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  assert_memory_goes_back(before);
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

static void leave_pieces(void *arg) {
  pid_t self = getpid();
  (void)arg;
  for (int i = 0; i < ITEMS; i++)
    CHILD_MUST(put_bin(SMALL, PATIENCE_MS) == 0);
  support_until_pipe_full(queue);
  for (size_t i = 0; i < 20; i++)
    CHILD_MUST(put_bin(1000 + i * 3000, PATIENCE_MS) == 0);
  if (fork() == 0) /* support_fork's would die with this one */
    send_when_parent_is_gone(self);
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
static void pack_beside(void (*leave)(void *arg)) {
  packing = support_shared(2 * sizeof *packing);
  go_on = packing + 1;
  pid_t child = support_fork(leave, NULL);
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

START_TEST(a_thread_that_packs_beyond_a_close_writes_into_nobody_s_message) {
  pack_beside(close_beside_a_packing_thread);
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
  pack_beside(be_taken_for_dead);
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

START_TEST(what_is_thrown_away_takes_no_memory) {
  for (int i = 0; i < ITEMS; i++)
    ck_assert_int_eq(put_bin(SMALL, PATIENCE_MS), 0);
  support_until_pipe_full(queue);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put_bin(30000, PATIENCE_MS), 0);
  ck_assert_uint_lt(queue->feeder.sender.arena.free, queue->feeder.sender.arena.leaves);
  ck_assert_int_eq(forkq_queue_shutdown(queue, 1), 0);
  until_sent(queue); /* or thrown away */
  assert_no_piece_is_used();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("shared_memory_ends");
  TCase *deaths = add_case(suite, "deaths");
  tcase_add_test(deaths, memory_of_the_dead_goes_back);
  tcase_add_test(deaths, who_asks_for_the_size_finds_memory_of_the_dead);
  tcase_add_test(deaths, what_comes_while_memory_is_given_back_is_not_touched);
  tcase_add_test(deaths, who_has_the_arena_next_waits_while_it_is_swept);
  tcase_add_test(deaths, the_next_owner_waits_until_the_last_one_s_messages_are_read);
  tcase_add_test(deaths, what_a_reader_did_not_take_is_not_written_to);
  tcase_add_test(deaths, an_heir_sends_the_pieces_of_its_parent);
  TCase *functions = add_case(suite, "functions");
  tcase_add_test(functions,
                 a_thread_that_packs_beyond_a_close_writes_into_nobody_s_message);
  tcase_add_test(functions, functions_that_jump_out_leave_no_memory_behind);
  tcase_add_test(functions, a_function_may_fork_and_pack_on_in_both);
  tcase_add_test(functions,
                 a_child_without_handlers_does_not_write_into_its_parent_s_piece);
  tcase_add_test(functions,
                 a_fork_after_a_function_jumped_out_and_its_queue_was_destroyed);
  tcase_add_test(functions, who_is_taken_for_dead_writes_into_nobody_s_message);
  TCase *ends = add_case(suite, "ends");
  tcase_add_test(ends, a_lost_piece_is_reported_with_its_bytes);
  tcase_add_test(ends, what_is_thrown_away_takes_no_memory);
  return support_main(suite);
}
