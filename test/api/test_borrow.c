/* Items whose bytes stay where the producer packed them; and readers that copy without the lock. */
#define _GNU_SOURCE
#include "codec/item.h"
#include "shared_memory_helpers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 50000
#define SIZES 20 /* different messages */

static forkq_item_t borrow(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS) == 0);
  CHILD_MUST(forkq_item_is_borrowed(&item) == 1 && is_bin(&item, size));
  CHILD_MUST(item.memory_ == NULL);
  return item;
}

static forkq_item_t put_and_borrow(size_t size) {
  CHILD_MUST(goes_beside(size));
  return borrow(size);
}

/* So many bytes through the arena, all of them put and got. */
static void put_and_get_much(size_t bytes) {
  for (size_t done = 0, n = 0; done < bytes; done += SIZE, n++) {
    CHILD_MUST(put_bin(SIZE + n % SIZES, PATIENCE_MS) == 0);
    must_get_bin(SIZE + n % SIZES);
  }
}

static uint32_t holds(uint32_t cell) {
  struct forkq__held now;
  forkq__holds_read(&queue->segment->ledger.cells[cell], &now);
  return now.count;
}

static void assert_none_is_held(void) {
  put_and_get_much(MIB + SIZE);
  ck_assert_uint_eq(holds(0), 0);
  ck_assert_uint_eq(queue->feeder.sender.held.count, 0);
}

static void put_and_leave(void *arg) {
  (void)arg;
  CHILD_MUST(goes_beside(SIZE + 30));
  forkq_queue_destroy(queue);
}

/* ---- what is borrowed ---------------------------------------------------------------------- */

/* The first large object of a size goes through the pipe, as its size is not known before it is packed. */
static void assert_borrowed(int expected, msgpack_object object) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(put_object(&object, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(put_object(&object, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), expected);
  ck_assert(msgpack_object_equal(item.object, object));
  forkq_item_destroy(&item);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 0);
}

START_TEST(large_strings_bins_and_exts_are) {
  static char bytes[MIB];
  static const uint32_t sizes[] = { 512, 65535, 65536, MIB };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    msgpack_object object = { .type = MSGPACK_OBJECT_BIN };
    object.via.bin = (msgpack_object_bin){ sizes[i], bytes };
    assert_borrowed(1, object);
    object.type = MSGPACK_OBJECT_STR;
    object.via.str = (msgpack_object_str){ sizes[i], bytes };
    assert_borrowed(1, object);
    object.type = MSGPACK_OBJECT_EXT;
    object.via.ext = (msgpack_object_ext){ -7, sizes[i], bytes };
    assert_borrowed(1, object);
  }
  assert_none_is_held();
}
END_TEST

START_TEST(small_ones_and_arrays_are_copied) {
  static char bytes[SIZE];
  msgpack_object bin = { .type = MSGPACK_OBJECT_BIN, .via.bin = { 400, bytes } };
  assert_borrowed(0, bin);
  bin.via.bin.size = SIZE;
  msgpack_object array = { .type = MSGPACK_OBJECT_ARRAY, .via.array = { 1, &bin } };
  assert_borrowed(0, array);
  assert_none_is_held();
}
END_TEST

START_TEST(what_went_through_the_pipe_is_copied) {
  create_with_limit(FORKQ_SHARED_NONE);
  msgpack_object bin = { .type = MSGPACK_OBJECT_BIN, .via.bin = { 0, NULL } };
  static char bytes[SIZE];
  bin.via.bin = (msgpack_object_bin){ SIZE, bytes };
  assert_borrowed(0, bin);
}
END_TEST

/* A process that can have no cell does without. */
START_TEST(without_a_cell_it_is_copied) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  atomic_store(&queue->channel.wish, FORKQ__WISHED);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 0);
  ck_assert(is_bin(&item, SIZE + 30));
  forkq_item_destroy(&item);
}
END_TEST

static void borrow_without_address_space(void *arg) {
  (void)arg;
  limit_address_space();
  for (int i = 0; i < 3; i++) {
    forkq_item_t item = FORKQ_ITEM_INIT;
    CHILD_MUST(forkq_queue_get_borrowed(queue, &item, PATIENCE_MS) == 0);
    CHILD_MUST(forkq_item_is_borrowed(&item) == UNDER_ASAN && is_bin(&item, SIZE));
    forkq_item_destroy(&item);
  }
}

START_TEST(without_address_space_it_is_copied) {
  for (int i = 0; i < 3; i++)
    ck_assert(goes_beside(SIZE));
  ck_assert_int_eq(support_wait(support_fork(borrow_without_address_space, NULL)), 0);
}
END_TEST

START_TEST(nothing_but_an_item_is_borrowed) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get_borrowed(NULL, &item, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_item_is_borrowed(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &item, 0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 0);
  forkq_item_destroy(&item);
}
END_TEST

/* A plain get of the same item copies again. */
START_TEST(the_next_get_ends_it) {
  forkq_item_t item = put_and_borrow(SIZE);
  ck_assert_uint_eq(holds(0), 1);
  ck_assert(goes_beside(SIZE + 1));
  ck_assert_int_eq(forkq_queue_get(queue, &item, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 0);
  ck_assert(is_bin(&item, SIZE + 1));
  ck_assert_uint_eq(holds(0), 0);
  forkq_item_destroy(&item);
}
END_TEST

START_TEST(a_simple_queue_lends_too) {
  forkq_simple_queue_t *simple;
  forkq_item_t item = FORKQ_ITEM_INIT;
  static char bytes[SIZE];
  msgpack_object bin = { .type = MSGPACK_OBJECT_BIN, .via.bin = { SIZE, bytes } };
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  for (int i = 0; i < 2; i++) { /* the first one goes through the pipe */
    ck_assert_int_eq(forkq_simple_queue_put(simple, &bin), 0);
    ck_assert_int_eq(forkq_simple_queue_get_borrowed(simple, &item), 0);
    ck_assert_int_eq(forkq_item_is_borrowed(&item), i);
  }
  ck_assert(msgpack_object_equal(item.object, bin));
  forkq_simple_queue_destroy(simple);
  forkq_item_destroy(&item);
}
END_TEST

/* ---- while it is borrowed ------------------------------------------------------------------ */

START_TEST(the_producer_packs_around_it) {
  create_with_limit(MIB);
  forkq_item_t first = put_and_borrow(SIZE + 30), second = put_and_borrow(SIZE + 31);
  put_and_get_much(4 * MIB);
  ck_assert(is_bin(&first, SIZE + 30) && is_bin(&second, SIZE + 31));
  ck_assert_uint_eq(holds(0), 2);
  forkq_item_destroy(&first);
  put_and_get_much(4 * MIB);
  ck_assert(is_bin(&second, SIZE + 31));
  forkq_item_destroy(&second);
  assert_none_is_held();
}
END_TEST

/* Of all the messages in a packet some are borrowed, and some are not. */
START_TEST(some_of_a_packet) {
  forkq_item_t items[8];
  static char bytes[8][600];
  forkq_bytes_t messages[8];
  size_t n = 0;
  for (size_t i = 0; i < 8; i++) {
    make_bin(bytes[i], 520 + i);
    messages[i] = (forkq_bytes_t){ bytes[i], 520 + i };
  }
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 8, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 8);
  for (size_t i = 0; i < 8; i++) {
    if (i % 3 == 0)
      items[i] = borrow(520 + i);
    else
      must_get_bin(520 + i);
  }
  put_and_get_much(2 * MIB);
  for (size_t i = 0; i < 8; i += 3) {
    ck_assert(is_bin(&items[i], 520 + i));
    forkq_item_destroy(&items[i]);
  }
  assert_none_is_held();
}
END_TEST

/* Of a batch, those are borrowed that can be. */
START_TEST(a_batch_is_borrowed) {
  forkq_item_t items[FORKQ__HOLDS + 6] = { 0 };
  const size_t count = sizeof items / sizeof *items;
  size_t n = 0, got = 0;
  ck_assert_int_eq(put_int(queue, 7, PATIENCE_MS), 0);
  for (size_t i = 1; i < count; i++)
    ck_assert(goes_beside(1000 + i));
  while (got < count) {
    ck_assert_int_eq(
        forkq_queue_get_many_borrowed(queue, items + got, count - got, PATIENCE_MS, &n),
        0);
    got += n;
  }
  ck_assert_uint_eq(items[0].object.via.u64, 7);
  ck_assert_int_eq(forkq_item_is_borrowed(&items[0]), 0);
  ck_assert_uint_eq(holds(0), FORKQ__HOLDS);
  put_and_get_much(2 * MIB);
  for (size_t i = 1; i < count; i++) {
    ck_assert_int_eq(forkq_item_is_borrowed(&items[i]), i <= FORKQ__HOLDS);
    ck_assert(is_bin(&items[i], 1000 + i));
  }
  for (size_t i = 0; i < count; i++)
    forkq_item_destroy(&items[i]);
  assert_none_is_held();
}
END_TEST

/* A batch that is not borrowed gives back what its items had borrowed. */
START_TEST(the_next_batch_ends_it) {
  forkq_item_t items[3] = { 0 };
  size_t n = 0;
  for (int i = 0; i < 6; i++)
    ck_assert(goes_beside(SIZE));
  ck_assert_int_eq(forkq_queue_get_many_borrowed(queue, items, 3, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 3);
  ck_assert_uint_eq(holds(0), 3);
  ck_assert_int_eq(forkq_queue_get_many(queue, items, 3, PATIENCE_MS, &n), 0);
  ck_assert_uint_eq(n, 3);
  ck_assert_uint_eq(holds(0), 0);
  for (int i = 0; i < 3; i++) {
    ck_assert(is_bin(&items[i], SIZE));
    forkq_item_destroy(&items[i]);
  }
  ck_assert_int_eq(forkq_queue_get_many_borrowed(NULL, items, 3, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_borrowed(queue, NULL, 3, 0, &n), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_borrowed(queue, items, 3, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_get_many_borrowed(queue, items, 3, 0, &n), FORKQ_EMPTY);
  for (int i = 0; i < 3; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

START_TEST(more_than_can_be_are_copied) {
  forkq_item_t items[FORKQ__HOLDS + 1];
  for (uint32_t i = 0; i <= FORKQ__HOLDS; i++) {
    items[i] = (forkq_item_t)FORKQ_ITEM_INIT;
    ck_assert(goes_beside(1000 + i));
    ck_assert_int_eq(forkq_queue_get_borrowed(queue, &items[i], PATIENCE_MS), 0);
    ck_assert_int_eq(forkq_item_is_borrowed(&items[i]), i < FORKQ__HOLDS);
  }
  put_and_get_much(2 * MIB);
  for (uint32_t i = 0; i <= FORKQ__HOLDS; i++)
    ck_assert(is_bin(&items[i], 1000 + i));
  forkq_item_destroy(&items[5]);
  forkq_item_t again = put_and_borrow(SIZE);
  forkq_item_destroy(&again);
  for (uint32_t i = 0; i <= FORKQ__HOLDS; i++)
    forkq_item_destroy(&items[i]);
  assert_none_is_held();
}
END_TEST

static int mappings(void) {
  char line[512];
  int count = 0;
  FILE *file = fopen("/proc/self/maps", "r");
  ck_assert(file != NULL);
  while (fgets(line, sizeof line, file) != NULL)
    count += strstr(line, "memfd:") != NULL;
  fclose(file);
  return count;
}

/* Ending it touches nothing that is gone, and the memory stays mapped until then. */
START_TEST(the_item_may_end_after_the_queue) {
  forkq_item_t item = put_and_borrow(SIZE);
  forkq_queue_destroy(queue);
  ck_assert_int_gt(mappings(), 0);
  ck_assert_int_eq(forkq_item_is_borrowed(&item), 1);
  ck_assert(is_bin(&item, SIZE)); /* nobody else has the queue, who could write there */
  queue = NULL;
  forkq_item_destroy(&item);
  ck_assert_int_eq(mappings(), 0);
}
END_TEST

/* ---- other processes ----------------------------------------------------------------------- */

static _Atomic int *step;

static void await_step(int number) {
  while (atomic_load(step) < number)
    usleep(100);
}

static void borrow_and_be_killed(void *arg) {
  (void)arg;
  (void)borrow(SIZE + 30);
  raise(SIGKILL);
}

START_TEST(a_dead_reader_gives_it_back) {
  ck_assert(goes_beside(SIZE + 30));
  ck_assert_int_eq(support_wait(support_fork(borrow_and_be_killed, NULL)), 128 + SIGKILL);
  ck_assert_uint_eq(holds(0), 1);
  assert_none_is_held();
}
END_TEST

static void borrow_and_close(void *arg) {
  (void)arg;
  forkq_item_t item = borrow(SIZE + 30);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  atomic_store(step, 1);
  await_step(2);
  forkq_item_destroy(&item); /* which is not the producer's business any more */
}

START_TEST(who_closes_gives_it_back) {
  ck_assert(goes_beside(SIZE + 30));
  pid_t pid = support_fork(borrow_and_close, NULL);
  await_step(1);
  assert_none_is_held();
  atomic_store(step, 2);
  ck_assert_int_eq(support_wait(pid), 0);
}
END_TEST

static void borrow_and_stop(void *arg) {
  (void)arg;
  forkq_item_t item = borrow(SIZE + 30);
  atomic_store(step, 1);
  raise(SIGSTOP);
  CHILD_MUST(is_bin(&item, SIZE + 30));
  forkq_item_destroy(&item);
}

START_TEST(a_stopped_reader_keeps_it_and_holds_nobody_up) {
  int status;
  ck_assert(goes_beside(SIZE + 30));
  pid_t pid = support_fork(borrow_and_stop, NULL);
  ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
  ck_assert(WIFSTOPPED(status));
  put_and_get_much(4 * MIB);
  ck_assert_uint_eq(holds(0), 1);
  kill(pid, SIGCONT);
  ck_assert_int_eq(support_wait(pid), 0);
  assert_none_is_held();
}
END_TEST

static void end_the_parent_s(void *item) {
  CHILD_MUST(forkq_item_is_borrowed(item) == 1);
  forkq_item_destroy(item);
  CHILD_MUST(holds(0) == 1);
  forkq_item_t own = put_and_borrow(SIZE + 1); /* from an arena of its own */
  forkq_item_destroy(&own);
}

START_TEST(a_child_does_not_end_its_parent_s) {
  forkq_item_t item = put_and_borrow(SIZE);
  ck_assert_int_eq(support_wait(support_fork(end_the_parent_s, &item)), 0);
  ck_assert_uint_eq(holds(0), 1);
  put_and_get_much(2 * MIB);
  ck_assert(is_bin(&item, SIZE));
  forkq_item_destroy(&item);
  assert_none_is_held();
}
END_TEST

/* Takes the cell of the producer that left, and could pack into its arena as soon as a packet of its own
 * has come. */
static void put_as_the_next_owner(void *arg) {
  (void)arg;
  CHILD_MUST(!goes_beside(SIZE));
  must_get_bin(SIZE);
  CHILD_MUST(!goes_beside(SIZE + 1));
  must_get_bin(SIZE + 1);
  atomic_store(step, 1);
  await_step(2);
  bool beside = false;
  for (int i = 0; i < 10 && !beside; i++) { /* it does not try each time */
    beside = goes_beside(SIZE + 2);
    must_get_bin(SIZE + 2);
  }
  CHILD_MUST(beside);
}

START_TEST(the_next_owner_of_the_arena_waits) {
  ck_assert(goes_beside(SIZE)); /* a cell of its own */
  must_get_bin(SIZE);
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  forkq_item_t item = borrow(SIZE + 30);
  pid_t pid = support_fork(put_as_the_next_owner, NULL);
  await_step(1);
  ck_assert_uint_eq(holds(1), 1);
  ck_assert(is_bin(&item, SIZE + 30));
  forkq_item_destroy(&item);
  atomic_store(step, 2);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert_uint_eq(queue->segment->ledger.cells_used, 2);
}
END_TEST

/* Who finds nothing left to get gives back the memory of a producer that is gone; but not what is held. */
START_TEST(memory_of_one_who_left_goes_back_when_it_is_not_held_any_more) {
  ck_assert(goes_beside(SIZE)); /* a cell */
  must_get_bin(SIZE);
  ck_assert_int_eq(support_wait(support_fork(put_and_leave, NULL)), 0);
  forkq_item_t item = borrow(SIZE + 30);
  int64_t before = held();
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(held(), before);
  ck_assert(is_bin(&item, SIZE + 30));
  forkq_item_destroy(&item);
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_le(held(), before - SIZE);
}
END_TEST

/* Words that no process has written right: they lead nowhere, and are cleared as those of the dead. */
START_TEST(holds_that_are_nonsense_are_cleared) {
  struct forkq__cell *cell = &queue->segment->ledger.cells[0];
  ck_assert(goes_beside(SIZE));
  must_get_bin(SIZE);
  atomic_store(&cell->holds_used, FORKQ__HOLDS + 5);
  for (uint32_t i = 0; i < FORKQ__HOLDS; i++)
    atomic_store(&cell->holds[i], UINT64_MAX - i * UINT64_C(0x40001));
  assert_none_is_held();
}
END_TEST

/* Two bits of a hold have no meaning. What is held stays held with them. */
START_TEST(bits_without_a_meaning_lead_nowhere) {
  static const uint64_t bits = UINT64_C(3) << 30;
  struct forkq__account *account = &queue->channel.account;
  forkq_item_t borrowed = FORKQ_ITEM_INIT;
  ck_assert(goes_beside(SIZE));
  struct forkq__cell *cell = &queue->segment->ledger.cells[account->cell];
  ck_assert_int_eq(forkq_queue_get_borrowed(queue, &borrowed, 0), 0);
  ck_assert(forkq_item_is_borrowed(&borrowed));
  atomic_fetch_or(&cell->holds[0], bits);
  ck_assert(forkq__holds_living(account, account->cell));
  atomic_fetch_and(&cell->holds[0], ~bits);
  forkq_item_destroy(&borrowed);
  assert_none_is_held();
}
END_TEST

/* ---- copies without the lock --------------------------------------------------------------- */

static int ends, locked_ends;

/* A hold ends when the bytes are copied. */
bool __real_forkq__hold_end(struct forkq__hold *hold);
bool __wrap_forkq__hold_end(struct forkq__hold *hold);
bool __wrap_forkq__hold_end(struct forkq__hold *hold) {
  ends++;
  if (queue != NULL) {
    int r = forkq__channel_try_lock_read(&queue->channel);
    locked_ends += r != 0;
    if (r == 0)
      forkq__channel_unlock_read(&queue->channel);
  }
  return __real_forkq__hold_end(hold);
}

START_TEST(large_ones_are_copied_without_the_read_lock) {
  support_copy_late(queue);
  ends = locked_ends = 0;
  for (int i = 0; i < 5; i++) {
    ck_assert(goes_beside(SIZE + (size_t)i));
    must_get_bin(SIZE + (size_t)i);
  }
  ck_assert_int_eq(ends, 5);
  ck_assert_int_eq(locked_ends, 0);
  ck_assert(goes_beside(1000));
  must_get_bin(1000); /* is copied at once */
  ck_assert_int_eq(ends, 5);
}
END_TEST

static void get_three(void *arg) {
  (void)arg;
  ends = 0;
  support_copy_late(queue);
  must_get_bin(SIZE);
  CHILD_MUST(ends == 0 && !forkq__account_has_cell(&queue->channel.account));
  must_get_bin(SIZE);
  must_get_bin(SIZE);
  CHILD_MUST(ends == 2 && forkq__account_has_cell(&queue->channel.account));
}

START_TEST(where_there_are_few_cpus_all_are_copied_at_once) {
  queue->channel.late_min = UINT32_MAX;
  ends = 0;
  ck_assert(goes_beside(MIB));
  must_get_bin(MIB);
  ck_assert_int_eq(ends, 0);
}
END_TEST

START_TEST(who_only_gets_does_so_from_the_second_on) {
  for (int i = 0; i < 3; i++)
    ck_assert(goes_beside(SIZE));
  ck_assert_int_eq(support_wait(support_fork(get_three, NULL)), 0);
}
END_TEST

/* Somebody clears its hold, as one who takes this process for dead would, while it copies. */
static void get_though_taken_for_dead(void *arg) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  struct forkq__late_copy late = { 0 };
  (void)arg;
  CHILD_MUST(forkq__item_reserve(&item, SIZE) == 0);
  CHILD_MUST(forkq__channel_lock_read(&queue->channel, FORKQ__FOREVER) == 0);
  CHILD_MUST(
      forkq__channel_receive_locked(&queue->channel, &item, FORKQ__FOREVER, &late) == 0);
  forkq__channel_unlock_read(&queue->channel);
  CHILD_MUST(late.data != NULL && holds(0) == 1);
  atomic_store(late.hold.word, 0);
  CHILD_MUST(forkq__channel_copy_late(&item, &late) == -EBADF && item.size == 0);
  forkq_item_destroy(&item);
}

START_TEST(who_was_taken_for_dead_gets_an_error) {
  support_copy_late(queue);
  ck_assert(goes_beside(SIZE));
  get_though_taken_for_dead(NULL);
}
END_TEST

static void set_up_step(void) {
  step = support_shared(sizeof *step);
}

int main(void) {
  Suite *suite = suite_create("borrow");
  TCase *kinds = add_case(suite, "kinds");
  tcase_add_test(kinds, large_strings_bins_and_exts_are);
  tcase_add_test(kinds, small_ones_and_arrays_are_copied);
  tcase_add_test(kinds, what_went_through_the_pipe_is_copied);
  tcase_add_test(kinds, without_a_cell_it_is_copied);
  tcase_add_test(kinds, without_address_space_it_is_copied);
  tcase_add_test(kinds, nothing_but_an_item_is_borrowed);
  tcase_add_test(kinds, the_next_get_ends_it);
  tcase_add_test(kinds, a_simple_queue_lends_too);
  TCase *meanwhile = add_case(suite, "meanwhile");
  tcase_add_test(meanwhile, the_producer_packs_around_it);
  tcase_add_test(meanwhile, some_of_a_packet);
  tcase_add_test(meanwhile, a_batch_is_borrowed);
  tcase_add_test(meanwhile, the_next_batch_ends_it);
  tcase_add_test(meanwhile, more_than_can_be_are_copied);
  tcase_add_test(meanwhile, the_item_may_end_after_the_queue);
  TCase *others = add_case(suite, "others");
  tcase_add_checked_fixture(others, set_up_step, NULL);
  tcase_add_test(others, a_dead_reader_gives_it_back);
  tcase_add_test(others, who_closes_gives_it_back);
  tcase_add_test(others, a_stopped_reader_keeps_it_and_holds_nobody_up);
  tcase_add_test(others, a_child_does_not_end_its_parent_s);
  tcase_add_test(others, the_next_owner_of_the_arena_waits);
  tcase_add_test(others, memory_of_one_who_left_goes_back_when_it_is_not_held_any_more);
  tcase_add_test(others, holds_that_are_nonsense_are_cleared);
  tcase_add_test(others, bits_without_a_meaning_lead_nowhere);
  TCase *late = add_case(suite, "late");
  tcase_add_test(late, large_ones_are_copied_without_the_read_lock);
  tcase_add_test(late, where_there_are_few_cpus_all_are_copied_at_once);
  tcase_add_test(late, who_only_gets_does_so_from_the_second_on);
  tcase_add_test(late, who_was_taken_for_dead_gets_an_error);
  return support_main(suite);
}
