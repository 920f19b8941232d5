/* Every limit: one below, at it, one above. docs/limits.md has the table, and says which test
 * has those that are not here. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "support.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static forkq_queue_t *queue;
static forkq_connection_t *a, *b;
static forkq_item_t item;
static int fds_before;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  ck_assert_int_eq(forkq_pipe(&a, &b, 1), 0);
}

static void tear_down(void) {
  forkq_item_destroy(&item);
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
  forkq_queue_destroy(queue);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

static int put(int timeout_ms) {
  const msgpack_object object = { .type = MSGPACK_OBJECT_NIL };
  return forkq_queue_put(queue, &object, timeout_ms);
}

/* ---- message size -------------------------------------------------------------------- */

static int create_with_max_message(size_t max_message) {
  forkq_queue_options_t options = { .size = sizeof options, .max_message = max_message };
  forkq_queue_t *created;
  int r = forkq_queue_create_with(&created, &options);
  if (r == 0)
    forkq_queue_destroy(created);
  return r;
}

START_TEST(options_take_max_message_up_to_the_limit) {
  ck_assert_int_eq(create_with_max_message(FORKQ_MESSAGE_MAX - 1), 0);
  ck_assert_int_eq(create_with_max_message(FORKQ_MESSAGE_MAX), 0);
  ck_assert_int_eq(create_with_max_message((size_t)FORKQ_MESSAGE_MAX + 1), FORKQ_ERANGE);
  ck_assert_int_eq(create_with_max_message(SIZE_MAX), FORKQ_ERANGE);
}
END_TEST

/* A binary of so many bytes in all, of which only the first page is memory. */
static char *large_bin(size_t size) {
  char *data = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ck_assert_ptr_ne(data, MAP_FAILED);
  data[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    data[1 + i] = (char)((size - 5) >> (24 - 8 * i));
  return data;
}

START_TEST(a_message_above_the_largest_is_too_big) {
  size_t size = (size_t)FORKQ_MESSAGE_MAX + 1;
  char *data = large_bin(size);
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, -1), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_connection_send_packed(a, data, size), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(put(0), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 1000), 0);
  munmap(data, size);
}
END_TEST

/* The largest message takes 2 GiB and more on its way. Where there is no memory, what passes
 * the limit is -ENOMEM, and what does not is FORKQ_ETOOBIG. */
static long allowed;

static void *count_malloc(size_t size, void *arg) {
  (void)arg;
  return --allowed >= 0 ? malloc(size) : NULL;
}

static void *count_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  return --allowed >= 0 ? realloc(memory, size) : NULL;
}

static void count_free(void *memory, void *arg) {
  (void)arg;
  free(memory);
}

START_TEST(the_largest_message_is_not_too_big) {
  const forkq_heap_t heap = { count_malloc, count_realloc, count_free, NULL };
  for (size_t size = FORKQ_MESSAGE_MAX - 1; size <= FORKQ_MESSAGE_MAX; size++) {
    char *data = large_bin(size);
    forkq_heap_set(&heap);
    allowed = 10;
    ck_assert_int_eq(forkq_queue_put_packed(queue, data, size, -1), -ENOMEM);
    allowed = LONG_MAX;
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    munmap(data, size);
  }
  ck_assert_int_eq(put(0), 0);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 1000), 0);
}
END_TEST

/* Over a connection: only the header is sent, and what comes of that. */
static int receive_announced(uint64_t size) {
  unsigned char header[12] = { 0xff, 0xff, 0xff, 0xff };
  int fds[2];
  forkq_connection_t *reader;
  for (int i = 0; i < 8; i++)
    header[4 + i] = (unsigned char)(size >> (56 - 8 * i));
  ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
  ck_assert_int_eq(forkq_connection_open(&reader, fds[0], 1, 0), 0);
  ck_assert_int_eq(write(fds[1], header, sizeof header), sizeof header);
  close(fds[1]);
  int r = forkq_connection_recv(reader, &item);
  forkq_connection_destroy(reader);
  return r;
}

START_TEST(an_object_received_has_the_same_limit) {
  ck_assert_int_eq(receive_announced(FORKQ_MESSAGE_MAX - 1), FORKQ_ETORN);
  ck_assert_int_eq(receive_announced(FORKQ_MESSAGE_MAX), FORKQ_ETORN);
  ck_assert_int_eq(receive_announced((uint64_t)FORKQ_MESSAGE_MAX + 1), FORKQ_ETOOBIG);
}
END_TEST

/* With FORKQ_TEST_LARGEST=1 the largest message really goes through, in 6 GiB of memory and
 * half a minute. */
START_TEST(the_largest_message_goes_through) {
  if (getenv("FORKQ_TEST_LARGEST") == NULL)
    return;
  char *data = large_bin(FORKQ_MESSAGE_MAX);
  data[FORKQ_MESSAGE_MAX - 1] = 'z';
  ck_assert_int_eq(forkq_queue_put_packed(queue, data, FORKQ_MESSAGE_MAX, -1), 0);
  munmap(data, FORKQ_MESSAGE_MAX);
  int r;
  do
    r = forkq_queue_get(queue, &item, 100);
  while (r == FORKQ_TIMEDOUT);
  ck_assert_int_eq(r, 0);
  ck_assert_uint_eq(item.size, FORKQ_MESSAGE_MAX);
  ck_assert_uint_eq(item.object.via.bin.size, FORKQ_MESSAGE_MAX - 5);
  ck_assert_int_eq(item.data[FORKQ_MESSAGE_MAX - 1], 'z');
}
END_TEST

/* ---- depth ------------------------------------------------------------------------------- */

static int pack_nested(msgpack_packer *packer, void *arg) {
  for (int i = 0; i < *(int *)arg; i++)
    msgpack_pack_array(packer, 1);
  return msgpack_pack_nil(packer);
}

/* Every way in at this depth: as an object, as bytes, by a function; queue and connection. */
static void assert_depth(int depth, int expected) {
  msgpack_object storage[FORKQ_DEPTH_MAX + 1], object = { .type = MSGPACK_OBJECT_NIL };
  char bytes[FORKQ_DEPTH_MAX + 2];
  for (int i = 0; i < depth; i++) {
    storage[i] = object;
    object.type = MSGPACK_OBJECT_ARRAY;
    object.via.array.size = 1;
    object.via.array.ptr = &storage[i];
  }
  memset(bytes, 0x91, (size_t)depth);
  bytes[depth] = (char)0xc0;
  size_t size = (size_t)depth + 1;
  ck_assert_int_eq(forkq_queue_put(queue, &object, 0), expected);
  ck_assert_int_eq(forkq_queue_put_packed(queue, bytes, size, 0), expected);
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_nested, &depth, 0), expected);
  ck_assert_int_eq(forkq_connection_send(a, &object), expected);
  ck_assert_int_eq(forkq_connection_send_packed(a, bytes, size), expected);
  ck_assert_int_eq(forkq_connection_send_with(a, pack_nested, &depth), expected);
  for (int i = 0; i < 6 && expected == 0; i++) {
    int r = i < 3 ? forkq_queue_get(queue, &item, 1000) : forkq_connection_recv(b, &item);
    ck_assert_int_eq(r, 0);
    ck_assert(msgpack_object_equal(item.object, object));
  }
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  ck_assert_int_eq(forkq_connection_poll(b, 0), 0);
}

START_TEST(depth) {
  assert_depth(FORKQ_DEPTH_MAX - 1, 0);
  assert_depth(FORKQ_DEPTH_MAX, 0);
  assert_depth(FORKQ_DEPTH_MAX + 1, FORKQ_ETOODEEP);
}
END_TEST

/* On the way out it is the same number, for whoever sends without asking. */
START_TEST(depth_received) {
  for (int deep = FORKQ_DEPTH_MAX - 1; deep <= FORKQ_DEPTH_MAX + 1; deep++) {
    char bytes[FORKQ_DEPTH_MAX + 2];
    memset(bytes, 0x91, (size_t)deep);
    bytes[deep] = (char)0xc0;
    size_t size = (size_t)deep + 1;
    ck_assert_int_eq(forkq_connection_send_bytes(a, bytes, size, 0, FORKQ_ALL), 0);
    ck_assert_int_eq(forkq_connection_recv(b, &item),
                     deep <= FORKQ_DEPTH_MAX ? 0 : FORKQ_ETOODEEP);
  }
}
END_TEST

/* ---- maxsize ----------------------------------------------------------------------------- */

START_TEST(maxsize_at_its_ends) {
  static const int64_t sizes[] = { INT64_MIN, -1, 0, INT64_MAX - 1, INT64_MAX };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    forkq_queue_destroy(queue);
    ck_assert_int_eq(forkq_queue_create(&queue, sizes[i]), 0);
    for (int n = 0; n < 1000; n++)
      ck_assert_int_eq(put(0), 0);
    ck_assert_int_eq(forkq_queue_full(queue), 0);
    ck_assert_int_eq(forkq_queue_qsize(queue), 1000);
    for (int n = 0; n < 1000; n++)
      ck_assert_int_eq(forkq_queue_get(queue, &item, 10000), 0);
  }
}
END_TEST

/* ---- processes ----------------------------------------------------------------------------- */

#define CELL_USED 1 /* as ledger.c has it */
#define PUT 1       /* not 0, which is to wait on */

static void put_and_stay(void *arg) {
  _Atomic int *result = arg;
  int r = put(1000);
  atomic_store(result, r == 0 ? PUT : r);
  support_until(result + 1);
  forkq_queue_destroy(queue);
}

static pid_t start_putter(_Atomic int *result, int expected) {
  pid_t pid = support_fork(put_and_stay, (void *)result);
  support_until(result);
  int is = atomic_load(result);
  ck_assert_int_eq(is, expected);
  return pid;
}

static void end_putter(pid_t pid, _Atomic int *result) {
  atomic_store(result + 1, 1);
  ck_assert_int_eq(support_wait(pid), 0);
}

/* All cells but two have an owner: a mark, which is all that a process looks at that wants a
 * cell, but that it looks for the dead first. It looks among the cells ever used, so that is
 * set back. */
static void mark_cells(uint32_t count) {
  struct forkq__ledger *ledger = &queue->segment->ledger;
  for (uint32_t i = 0; i < count; i++)
    atomic_store(&ledger->cells[i].state, CELL_USED);
  atomic_store(&ledger->cells_used, 0);
}

START_TEST(processes) {
  struct forkq__ledger *ledger = &queue->segment->ledger;
  _Atomic int *results = support_shared(4096);
  mark_cells(FORKQ__CELLS_MAX - 2);
  pid_t first = start_putter(results, PUT);
  mark_cells(0);
  pid_t second = start_putter(results + 2, PUT);
  mark_cells(0);
  pid_t third = start_putter(results + 4, FORKQ_ETOOMANY);
  end_putter(third, results + 4);
  ck_assert_int_eq(put(0), FORKQ_ETOOMANY);
  /* Who has no cell can get. */
  atomic_store(&ledger->cells_used, FORKQ__CELLS_MAX);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(forkq_queue_get(queue, &item, 1000), 0);
  mark_cells(0);
  end_putter(second, results + 2);
  ck_assert_int_eq(put(0), 0);
  ck_assert_uint_eq(atomic_load(&ledger->cells_used), FORKQ__CELLS_MAX);
  end_putter(first, results);
}
END_TEST

/* ---- batches ------------------------------------------------------------------------------- */

#define BATCH 5000

START_TEST(a_batch_has_no_limit_but_the_queues) {
  static msgpack_object objects[BATCH + 1];
  static forkq_item_t items[BATCH + 1];
  for (size_t count = BATCH - 1; count <= BATCH + 1; count++) {
    size_t n = 0, got = 0;
    forkq_queue_destroy(queue);
    ck_assert_int_eq(forkq_queue_create(&queue, BATCH), 0);
    ck_assert_int_eq(forkq_queue_put_many(queue, objects, count, 0, &n), 0);
    ck_assert_uint_eq(n, count < BATCH ? count : BATCH);
    while (got < n) {
      size_t more;
      ck_assert_int_eq(forkq_queue_get_many(queue, items, BATCH + 1 - got, 10000, &more),
                       0);
      got += more;
    }
    ck_assert_uint_eq(got, n);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  }
  for (size_t i = 0; i <= BATCH; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

/* ---- the text of a handover ---------------------------------------------------------------- */

START_TEST(the_longest_text_of_a_handover_fits) {
  static const char longest[] =
      "forkq:4294967295:2147483647:2147483647:2147483647:2147483647:2147483647";
  forkq_queue_t *other;
  ck_assert_uint_le(sizeof longest, FORKQ_HANDOVER_TEXT);
  ck_assert_int_eq(forkq_queue_attach(&other, longest, NULL), FORKQ_EVERSION);
  for (size_t length = FORKQ_HANDOVER_TEXT - 2; length <= FORKQ_HANDOVER_TEXT; length++) {
    char text[FORKQ_HANDOVER_TEXT + 1];
    snprintf(text, sizeof text, "%-*s", (int)length, longest);
    ck_assert_uint_eq(strlen(text), length);
    ck_assert_int_eq(forkq_queue_attach(&other, text, NULL),
                     length < FORKQ_HANDOVER_TEXT ? FORKQ_EVERSION : FORKQ_EHANDOVER);
  }
}
END_TEST

/* ---- entries of a wait ----------------------------------------------------------------------- */

#define ENTRIES 40

static int wait_with_limit(forkq_wait_entry_t *entries, size_t count, rlim_t limit) {
  struct rlimit old, new;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
  new = (struct rlimit){ limit, old.rlim_max };
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &new), 0);
  int r = forkq_wait(entries, count, 0);
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
  return r;
}

START_TEST(entries_of_a_wait_are_limited_by_the_descriptors) {
  forkq_wait_entry_t entries[ENTRIES + 1];
  for (int i = 0; i <= ENTRIES; i++)
    entries[i] = forkq_wait_on_fd(dup(forkq_connection_fileno(a)));
  ck_assert_int_eq(wait_with_limit(entries, ENTRIES - 1, ENTRIES), 0);
  ck_assert_int_eq(wait_with_limit(entries, ENTRIES, ENTRIES), 0);
  ck_assert_int_eq(wait_with_limit(entries, ENTRIES + 1, ENTRIES), -EINVAL);
  for (int i = 0; i <= ENTRIES; i++)
    close(entries[i].on.fd);
}
END_TEST

START_TEST(entries_of_a_wait_have_a_limit_of_their_own) {
  const forkq_heap_t heap = { count_malloc, count_realloc, count_free, NULL };
  forkq_wait_entry_t entry = forkq_wait_on(a);
  forkq_heap_set(&heap);
  allowed = 0;
  ck_assert_int_eq(forkq_wait(&entry, INT32_MAX / 4 - 1, 0), -ENOMEM);
  ck_assert_int_eq(forkq_wait(&entry, INT32_MAX / 4, 0), -ENOMEM);
  ck_assert_int_eq(forkq_wait(&entry, INT32_MAX / 4 + 1, 0), -EINVAL);
  ck_assert_int_eq(forkq_wait(&entry, SIZE_MAX, 0), -EINVAL);
  allowed = LONG_MAX;
}
END_TEST

/* ---- timeouts -------------------------------------------------------------------------------- */

static void put_later(void *arg) {
  support_until_asleep(*(pid_t *)arg);
  CHILD_MUST(put(-1) == 0);
  forkq_queue_destroy(queue);
}

START_TEST(timeouts) {
  static const int waiting[] = { -1, INT_MAX - 1, INT_MAX };
  static const int wrong[] = { -2, INT_MIN };
  pid_t self = getpid();
  ck_assert_int_eq(forkq_queue_get(queue, &item, 0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_get(queue, &item, 1), FORKQ_TIMEDOUT);
  for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
    pid_t child = support_fork(put_later, &self);
    ck_assert_int_eq(forkq_queue_get(queue, &item, waiting[i]), 0);
    ck_assert_int_eq(support_wait(child), 0);
  }
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    forkq_wait_entry_t entry = forkq_wait_on(a);
    ck_assert_int_eq(forkq_queue_get(queue, &item, wrong[i]), FORKQ_ETIMEOUT);
    ck_assert_int_eq(put(wrong[i]), FORKQ_ETIMEOUT);
    ck_assert_int_eq(forkq_queue_join(queue, wrong[i], NULL), FORKQ_ETIMEOUT);
    ck_assert_int_eq(forkq_connection_poll(a, wrong[i]), FORKQ_ETIMEOUT);
    ck_assert_int_eq(forkq_wait(&entry, 1, wrong[i]), FORKQ_ETIMEOUT);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("limits");
  TCase *tcase = tcase_create("limits");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, options_take_max_message_up_to_the_limit);
  tcase_add_test(tcase, a_message_above_the_largest_is_too_big);
  tcase_add_test(tcase, the_largest_message_is_not_too_big);
  tcase_add_test(tcase, an_object_received_has_the_same_limit);
  tcase_add_test(tcase, the_largest_message_goes_through);
  tcase_add_test(tcase, depth);
  tcase_add_test(tcase, depth_received);
  tcase_add_test(tcase, maxsize_at_its_ends);
  tcase_add_test(tcase, processes);
  tcase_add_test(tcase, a_batch_has_no_limit_but_the_queues);
  tcase_add_test(tcase, the_longest_text_of_a_handover_fits);
  tcase_add_test(tcase, entries_of_a_wait_are_limited_by_the_descriptors);
  tcase_add_test(tcase, entries_of_a_wait_have_a_limit_of_their_own);
  tcase_add_test(tcase, timeouts);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
