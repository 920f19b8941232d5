/* Memory: what a queue reserves and when, what becomes of it where there is none, and who may be
 * asked for it meanwhile. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "channel_helpers.h"
#include "pipe/reap.h"
#include "queue_helpers.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED 1
#else
#  define SANITIZED 0
#endif

#define PATIENCE_MS 10000
#define SEGMENT ((rlim_t)sizeof(struct forkq__segment))
#define CELLS ((int64_t)offsetof(struct forkq__segment, ledger.cells))
#define SMALL_ONE 10
#define LARGE_ONE 20000
#define HUGE (1u << 20)  /* bytes: more than the pipe holds */
#define FDS_LOOKED_AT 64 /* more than the test opens */

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void run(void (*fn)(void *arg), void *arg) {
  ck_assert_int_eq(support_wait(support_fork(fn, arg)), 0);
}

/* ---- pages --------------------------------------------------------------------------------- */

/* What the library takes for a page's size, but for os.c itself. */
static int64_t page_size;

int64_t __real_forkq__os_page_size(void);
int64_t __wrap_forkq__os_page_size(void);

int64_t __wrap_forkq__os_page_size(void) {
  return page_size > 0 ? page_size : __real_forkq__os_page_size();
}

static int64_t in_pages(int64_t bytes) {
  int64_t page = __real_forkq__os_page_size();
  return (bytes + page - 1) / page * page;
}

/* Bytes of a file that are there. */
static int64_t held(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0)
    abort();
  return (int64_t)status.st_blocks * 512;
}

static int64_t held_by_queue(void) {
  return held(queue->channel.account.liveness.memory_fd);
}

/* Where shared memory comes in large pages, one brings many others along. */
static bool comes_in_pages(void) {
  char line[128] = "[never]";
  FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
  bool read = file != NULL && fgets(line, sizeof line, file) != NULL;
  if (file != NULL)
    fclose(file);
  return !read || strstr(line, "[never]") != NULL || strstr(line, "[advise]") != NULL ||
         strstr(line, "[deny]") != NULL;
}

/* ---- a limit for files --------------------------------------------------------------------- */

static void limit(__rlimit_resource_t resource, rlim_t value) {
  struct rlimit limits;
  CHILD_MUST(getrlimit(resource, &limits) == 0);
  limits.rlim_cur = value < limits.rlim_max ? value : limits.rlim_max;
  CHILD_MUST(setrlimit(resource, &limits) == 0);
}

/* To go beyond the limit is a signal that ends the process. */
static void limit_files(rlim_t bytes) {
  signal(SIGXFSZ, SIG_DFL);
  limit(RLIMIT_FSIZE, bytes);
}

static int get_bin(size_t size, int timeout_ms) {
  forkq_item_t got = FORKQ_ITEM_INIT;
  int r = forkq_queue_get_packed(queue, &got, timeout_ms);
  CHILD_MUST(r < 0 || is_bin(&got, size));
  forkq_item_destroy(&got);
  return r;
}

/* All of it is there before it is got, which need not wait for the rest. */
static void pass_large_one(void) {
  CHILD_MUST(put_bin(LARGE_ONE, 0) == 0);
  until_sent(queue);
  CHILD_MUST(get_bin(LARGE_ONE, PATIENCE_MS) == 0);
}

static void must_work(void) {
  CHILD_MUST(put(7, 0) == 0 && get(PATIENCE_MS) == 7);
  pass_large_one();
}

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void create_under(void *arg) {
  rlim_t bytes = *(const rlim_t *)arg;
  bool fits = bytes >= SEGMENT;
  int open_before = support_open_fds_below(FDS_LOOKED_AT);
  int64_t most = INT64_MAX;
  struct stat status;
  limit_files(bytes);
  CHILD_MUST(forkq_queue_create(&queue, 0) == (fits ? 0 : -EFBIG));
  if (fits) {
    if (bytes < INT64_MAX)
      most = (int64_t)bytes;
    CHILD_MUST(fstat(queue->channel.account.liveness.memory_fd, &status) == 0);
    CHILD_MUST(status.st_size == smaller(most, (int64_t)SEGMENT + FORKQ_MESSAGE_MAX));
    must_work();
    forkq_queue_destroy(queue);
  }
  CHILD_MUST(support_open_fds_below(FDS_LOOKED_AT) == open_before);
  limit_files(RLIM_INFINITY);
}

START_TEST(a_limit_for_files_is_an_error_of_create_or_is_kept) {
  const rlim_t whole = SEGMENT + FORKQ_MESSAGE_MAX;
  rlim_t limits[] = { 0,       1,           4096,           SEGMENT - 1,
                      SEGMENT, SEGMENT + 1, SEGMENT + 4096, whole - 1,
                      whole,   whole + 1,   RLIM_INFINITY };
  for (size_t i = 0; i < COUNT(limits); i++)
    run(create_under, &limits[i]);
}
END_TEST

static void set_up_queue(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 10), 0);
}

static void put_huge(void *arg) {
  (void)arg;
  CHILD_MUST(put_bin(HUGE, 0) == 0 && put(8, 0) == 0);
  forkq_queue_destroy(queue);
}

/* A sender that is stopped in the middle of an item: all that is in the pipe is of that. */
static pid_t sender_in_the_middle(void) {
  pid_t sender = support_fork(put_huge, NULL);
  support_until_pipe_full(queue);
  support_stop(sender);
  return sender;
}

static bool is_kept(void) {
  return atomic_load(&queue->segment->channel.spill.cell) != 0;
}

static void keep_and_go_on(void *sender) {
  limit_files(0);
  CHILD_MUST(get_bin(HUGE, 0) == FORKQ_EMPTY && is_kept());
  kill(*(pid_t *)sender, SIGCONT);
  CHILD_MUST(get_bin(HUGE, PATIENCE_MS) == 0 && !is_kept());
  CHILD_MUST(get(PATIENCE_MS) == 8);
  limit_files(RLIM_INFINITY);
}

START_TEST(a_reader_with_a_limit_for_files_keeps_a_part_all_the_same) {
  pid_t sender = sender_in_the_middle();
  run(keep_and_go_on, &sender);
  ck_assert_int_eq(support_wait(sender), 0);
}
END_TEST

/* ---- a part that cannot be kept ------------------------------------------------------------ */

#define PACKETS 100
#define PACKETS_SIZE ((uint32_t)PACKETS * FORKQ__FRAME_MAX)

static void make_channel_without_room_for_parts(void) {
  struct rlimit limits, before;
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  limits = before;
  limits.rlim_cur = SEGMENT;
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limits), 0);
  make_channel_anew();
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static bool pipe_is_large_enough(void) {
  return channel.pipe_packets > PACKETS;
}

static void send_beginning(int packets) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(1, PACKETS_SIZE, 0, packets);
}

static void must_be_empty(void) {
  CHILD_MUST(receive() == FORKQ__NOTHING && forkq__ledger_size(ledger) == 0);
  CHILD_MUST(shared->spill.cell == 0);
}

/* Its deadline is over from the beginning, but all of the message is there. An item with some room
 * gets more in the middle of it. */
static void complete_it(size_t room) {
  forkq_item_destroy(&item);
  CHILD_MUST(forkq__item_reserve(&item, room) == 0);
  send_beginning(PACKETS);
  CHILD_MUST(receive() == 0 && holds(1, PACKETS_SIZE));
  must_be_empty();
}

/* Nothing of what comes later is taken for something else. */
static void lose_it(int error) {
  int64_t before = held(channel.account.liveness.memory_fd);
  send_beginning(PACKETS / 2);
  CHILD_MUST(receive() == error);
  CHILD_MUST(receive() == FORKQ__NOTHING);
  send_part(1, PACKETS_SIZE, PACKETS / 2, PACKETS);
  send_message(2, SMALL_ONE);
  CHILD_MUST(receive() == 0 && holds(2, SMALL_ONE));
  must_be_empty();
  CHILD_MUST(held(channel.account.liveness.memory_fd) == before);
}

static void complete_and_lose(void *arg) {
  int error = *(const int *)arg;
  const struct refusal refusal = { .call = SYS_fallocate, .error = error };
  (void)open_cell();
  if (error != EFBIG)
    refuse(&refusal, 1);
  for (int i = 0; i < 2; i++) {
    complete_it(0);
    complete_it(PACKETS_SIZE / 3);
    lose_it(-error);
  }
  forkq_item_destroy(&item);
}

START_TEST(a_part_that_cannot_be_kept_is_completed_or_lost_with_an_error) {
  static int reasons[] = { EFBIG, ENOSPC, ENOMEM };
  if (!pipe_is_large_enough())
    return;
  if (reasons[_i] == EFBIG)
    make_channel_without_room_for_parts();
  run(complete_and_lose, &reasons[_i]);
}
END_TEST

/* ---- memory that is refused ---------------------------------------------------------------- */

static const int refusals[] = { ENOSPC, ENOMEM };

static void refuse_memory(int error) {
  const struct refusal refusal = { .call = SYS_fallocate, .error = error };
  refuse(&refusal, 1);
}

static void create_without_memory(void *arg) {
  int error = *(const int *)arg, open_before = support_open_fds();
  refuse_memory(error);
  CHILD_MUST(forkq_queue_create(&queue, 0) == -error);
  CHILD_MUST(forkq_joinable_queue_create(&queue, 0) == -error);
  CHILD_MUST(support_open_fds() == open_before);
}

START_TEST(without_memory_create_is_an_error) {
  int error = refusals[_i];
  run(create_without_memory, &error);
}
END_TEST

static void must_have_no_mark(uint32_t cell) {
  struct forkq__ledger *of_queue = &queue->segment->ledger;
  CHILD_MUST(of_queue->lock.mutex.__data.__lock == 0);
  CHILD_MUST(of_queue->cells_used == cell);
  CHILD_MUST(forkq__os_life_taken(queue->channel.account.liveness.memory_fd, cell) == 0);
  CHILD_MUST(forkq__os_life_taken(queue->channel.account.liveness.memory_fd,
                                  FORKQ__CELLS_MAX + cell) == 0);
}

/* What needs no cell of its own goes on. */
static void put_without_memory(void *arg) {
  int error = *(const int *)arg;
  bool joinable = queue->segment->joinable;
  refuse_memory(error);
  for (int i = 0; i < 3; i++) {
    CHILD_MUST(put(1, 0) == -error);
    CHILD_MUST(put_bin(LARGE_ONE, 0) == -error);
    must_have_no_mark(1);
  }
  CHILD_MUST(get(PATIENCE_MS) == (joinable ? -error : 7));
  must_have_no_mark(1);
  CHILD_MUST(forkq_queue_qsize(queue) == (joinable ? 1 : 0));
}

static void put_with_memory(void *arg) {
  (void)arg;
  CHILD_MUST(put(8, 0) == 0 && queue->channel.account.cell == 1);
  forkq_queue_destroy(queue);
}

static void refuse_first_put(int error) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  ck_assert_int_eq(put(7, 0), 0);
  run(put_without_memory, &error);
  run(put_with_memory, NULL);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  ck_assert_uint_eq(stats.recoveries, 0);
}

START_TEST(without_memory_the_first_put_of_a_process_leaves_no_trace) {
  refuse_first_put(refusals[_i]);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

START_TEST(without_memory_the_first_get_of_a_joinable_queue_leaves_no_trace) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
  refuse_first_put(refusals[_i]);
  ck_assert_int_eq(get(PATIENCE_MS), 7);
  ck_assert_int_eq(get(PATIENCE_MS), 8);
}
END_TEST

static void look_everywhere(void) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  forkq_wait_entry_t entry = forkq_wait_on_queue(queue);
  CHILD_MUST(put(1, 0) == 0);
  CHILD_MUST(forkq_wait(&entry, 1, PATIENCE_MS) == 1 && forkq_queue_fileno(queue) >= 0);
  CHILD_MUST(forkq_queue_qsize(queue) == 1 && forkq_queue_empty(queue) == 0);
  CHILD_MUST(forkq_queue_full(queue) == 0 && forkq_queue_stats(queue, &stats) == 0);
  CHILD_MUST(get(0) == 1 && forkq_queue_task_done(queue) == 0);
  CHILD_MUST(forkq_queue_join(queue, PATIENCE_MS, NULL) == 0);
}

/* A page that is not there and is looked at comes into being, or is a SIGBUS. */
static void use_what_is_reserved(void *arg) {
  (void)arg;
  CHILD_MUST(put(7, 0) == 0 && get(PATIENCE_MS) == 7 &&
             forkq_queue_task_done(queue) == 0);
  int64_t before = held_by_queue();
  if (comes_in_pages())
    CHILD_MUST(before == in_pages(CELLS + (int64_t)sizeof(struct forkq__cell)));
  refuse_memory(ENOSPC);
  for (int i = 0; i < 3; i++) {
    look_everywhere();
    pass_large_one();
    CHILD_MUST(forkq_queue_task_done(queue) == 0);
  }
  while (put(1, 0) == 0)
    ;
  CHILD_MUST(forkq_queue_shutdown(queue, 1) == 0 && get(0) == FORKQ_ESHUTDOWN);
  forkq_queue_destroy(queue);
  CHILD_MUST(held(*(int *)arg) == before);
}

START_TEST(only_reserved_memory_is_accessed) {
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
  int fd = dup(queue->channel.account.liveness
                   .memory_fd); /* to look at it when the queue is gone */
  run(use_what_is_reserved, &fd);
  close(fd);
}
END_TEST

START_TEST(a_new_queue_holds_no_memory_for_cells) {
  ck_assert_int_lt(in_pages(CELLS), (int64_t)SEGMENT / 10);
  if (comes_in_pages())
    ck_assert_int_eq(held_by_queue(), in_pages(CELLS));
}
END_TEST

/* Each has a descriptor. */
#define OWNERS 100

START_TEST(each_page_of_cells_comes_with_the_first_that_is_on_it) {
  static struct forkq__channel owners[OWNERS];
  for (uint32_t i = 0; i < OWNERS; i++) {
    owners[i] = queue->channel;
    ck_assert_int_eq(forkq__reap_and_claim(&owners[i]), 0);
    ck_assert_uint_eq(owners[i].account.cell, i);
    if (comes_in_pages())
      ck_assert_int_eq(held_by_queue(),
                       in_pages(CELLS + (i + 1) * (int64_t)sizeof(struct forkq__cell)));
  }
  ck_assert_int_ge(OWNERS * (int64_t)sizeof(struct forkq__cell), 4 * 4096);
  for (uint32_t i = 0; i < OWNERS; i++)
    forkq__account_close(&owners[i].account);
}
END_TEST

/* ---- without fallocate --------------------------------------------------------------------- */

#define OLD 0x5a

struct file {
  int fd;
  int64_t page, size;
};

static struct file make_file(void) {
  struct file file = { .page = __real_forkq__os_page_size() };
  char old[1000];
  file.size = 8 * file.page;
  file.fd = forkq__os_memory_create("test", (size_t)file.size, 0);
  memset(old, OLD, sizeof old);
  /* Around the beginning of the second page. */
  CHILD_MUST(pwrite(file.fd, old, sizeof old, file.page - 500) == sizeof old);
  return file;
}

static bool has_old_bytes(struct file file) {
  char all[1000];
  bool good = pread(file.fd, all, sizeof all, file.page - 500) == sizeof all;
  for (size_t i = 0; i < sizeof all; i++)
    good = good && all[i] == OLD;
  return good;
}

static void reserve_by_writing(void *arg) {
  int error = *(const int *)arg;
  struct file file = make_file();
  char byte = 1;
  refuse_memory(error);
  CHILD_MUST(held(file.fd) == 2 * file.page);
  CHILD_MUST(forkq__os_memory_back(file.fd, 100, 10) == 0);
  CHILD_MUST(held(file.fd) == 2 * file.page && has_old_bytes(file));
  /* From the last byte of the third page to the first of the sixth. */
  size_t size = (size_t)(2 * file.page + 2);
  CHILD_MUST(forkq__os_memory_back(file.fd, 3 * file.page - 1, size) == 0);
  CHILD_MUST(held(file.fd) == 6 * file.page && has_old_bytes(file));
  CHILD_MUST(pread(file.fd, &byte, 1, 3 * file.page - 1) == 1 && byte == 0);
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)file.size) == 0);
  CHILD_MUST(held(file.fd) == file.size && has_old_bytes(file));
  CHILD_MUST(forkq__os_memory_back(file.fd, file.size, 1) < 0);
  close(file.fd);
}

static const int unknown[] = { EPERM, ENOSYS, EOPNOTSUPP };

START_TEST(without_fallocate_memory_is_reserved_by_writing_what_is_there) {
  int error = unknown[_i];
  if (comes_in_pages())
    run(reserve_by_writing, &error);
}
END_TEST

static void reserve_under_a_limit(void *arg) {
  (void)arg;
  struct file file = make_file();
  refuse_memory(ENOSYS);
  limit_files((rlim_t)(4 * file.page));
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)(4 * file.page)) == 0);
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, (size_t)(4 * file.page + 1)) == -EFBIG);
  CHILD_MUST(forkq__os_memory_back(file.fd, 5 * file.page, 1) == -EFBIG);
  CHILD_MUST(forkq__os_memory_write(file.fd, "x", 1, 5 * file.page) == -EFBIG);
  CHILD_MUST(has_old_bytes(file));
  limit_files(RLIM_INFINITY);
  close(file.fd);
}

START_TEST(without_fallocate_a_limit_for_files_is_an_error) {
  run(reserve_under_a_limit, NULL);
}
END_TEST

static void reserve_without_memory(void *arg) {
  (void)arg;
  const struct refusal both[] = { { .call = SYS_fallocate, .error = ENOSYS },
                                  { .call = SYS_pwrite64, .error = ENOSPC } };
  struct file file = make_file();
  refuse(both, COUNT(both));
  CHILD_MUST(forkq__os_memory_back(file.fd, 0, 1) == -ENOSPC);
  close(file.fd);
}

START_TEST(without_fallocate_and_memory_it_is_an_error) {
  run(reserve_without_memory, NULL);
}
END_TEST

/* ---- readers that die with a part ---------------------------------------------------------- */

struct death {
  void (*run)(int steps);
  int steps;
};

static void take_lock_and_die(void *arg) {
  const struct death *death = arg;
  struct forkq__lock *lock = &shared->read_lock;
  CHILD_MUST(forkq__lock_acquire(lock, FORKQ__FOREVER, no_repair, NULL) == 0);
  death->run(death->steps);
  raise(SIGKILL);
}

static void die_after(void (*run_steps)(int steps), int steps) {
  struct death death = { run_steps, steps };
  ck_assert_int_eq(support_wait(support_fork(take_lock_and_die, &death)), 128 + SIGKILL);
}

/* The steps of forkq__spill_keep, up to the one that makes it count. */
#define KEEP_STEPS 3
static void keep(int steps) {
  static char part[300000];
  int i = 0;
  if (i++ < steps)
    CHILD_MUST(forkq__os_memory_write(channel.account.liveness.memory_fd, part,
                                      sizeof part, (int64_t)SEGMENT) == 0);
  if (i++ < steps)
    shared->spill.total = 2 * sizeof part;
  if (i++ < steps)
    shared->spill.mark = (uint64_t)sizeof part << 32;
}

START_TEST(what_a_reader_wrote_that_died_before_it_counted_is_given_back) {
  int64_t before = held(channel.account.liveness.memory_fd);
  for (int steps = 1; steps <= KEEP_STEPS; steps++) {
    die_after(keep, steps);
    ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
    assert_empty();
    ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
    send_message(1, LARGE);
    assert_receives(1, LARGE);
  }
}
END_TEST

/* The first step of forkq__spill_drop. */
static void drop(int steps) {
  (void)steps;
  shared->spill.cell = 0;
}

static void keep_a_part(void) {
  atomic_fetch_add(&ledger->cells[channel.account.cell].accepted, 1);
  send_part(1, LARGE, 0, 3);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_uint_ne(shared->spill.cell, 0);
}

START_TEST(what_a_reader_was_dropping_when_it_died_is_given_back) {
  int64_t before = held(channel.account.liveness.memory_fd);
  keep_a_part();
  ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
  die_after(drop, 1);
  send_part(1, LARGE, 3, 4);
  assert_empty();
  ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
}
END_TEST

static void nothing(int steps) {
  (void)steps;
}

START_TEST(what_counts_is_kept_when_a_reader_dies_and_given_back_when_it_is_complete) {
  int64_t before = held(channel.account.liveness.memory_fd);
  keep_a_part();
  die_after(nothing, 0);
  ck_assert_int_eq(receive(), FORKQ__NOTHING);
  ck_assert_int_gt(held(channel.account.liveness.memory_fd), before);
  send_part(1, LARGE, 3, 4);
  assert_receives(1, LARGE);
  assert_empty();
  ck_assert_int_eq(held(channel.account.liveness.memory_fd), before);
}
END_TEST

/* ---- the program's allocator --------------------------------------------------------------- */

/* It asks another process to get an item, and waits until it has; or it has no memory. */
static bool asking, refusing;
static struct talk { _Atomic int asked, answered; } * talk;

static void *allocate(void *memory, size_t size) {
  if (refusing)
    return NULL;
  if (asking) {
    asking = false;
    atomic_store(&talk->asked, 1);
    support_until(&talk->answered);
  }
  return realloc(memory, size);
}

static void *heap_malloc(size_t size, void *arg) {
  (void)arg;
  return allocate(NULL, size);
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  return allocate(memory, size);
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  free(memory);
}

static void answer(void *arg) {
  (void)arg;
  forkq_item_t got = FORKQ_ITEM_INIT;
  support_until(&talk->asked);
  CHILD_MUST(forkq_queue_get_packed(queue, &got, PATIENCE_MS) == 0);
  atomic_store(&talk->answered, 1);
  forkq_item_destroy(&got);
}

/* How a get comes to need memory. Three items are there; or three, behind what is being sent. */
enum need {
  FOR_A_SMALL_ONE,
  FOR_A_LARGE_ONE,
  FOR_THE_SECOND_OF_MANY,
  FOR_A_KEPT_PART,
  NEEDS
};

static pid_t sender;

static void put_three(enum need need) {
  sender = 0;
  if (need == FOR_A_KEPT_PART) {
    forkq_item_t got = FORKQ_ITEM_INIT;
    sender = sender_in_the_middle();
    ck_assert_int_eq(forkq_queue_get_packed(queue, &got, 0), FORKQ_EMPTY);
    ck_assert(is_kept());
    forkq_item_destroy(&got);
    kill(sender, SIGCONT);
  }
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(need == FOR_A_LARGE_ONE ? put_bin(LARGE_ONE, 0) : put(i, 0), 0);
  if (need != FOR_A_KEPT_PART)
    until_sent(queue);
}

/* An item with room for a small message. */
static void make_room_in(forkq_item_t *small) {
  ck_assert_int_eq(put(9, 0), 0);
  ck_assert_int_eq(forkq_queue_get_packed(queue, small, PATIENCE_MS), 0);
}

static int get_in_need(enum need need, forkq_item_t items[2], size_t *ret_got) {
  *ret_got = 1;
  return need == FOR_THE_SECOND_OF_MANY
             ? forkq_queue_get_many_packed(queue, items, 2, PATIENCE_MS, ret_got)
             : forkq_queue_get_packed(queue, items, PATIENCE_MS);
}

static void end_sender(void) {
  if (sender != 0)
    ck_assert_int_eq(support_wait(sender), 0);
}

static void get_the_rest(int64_t count) {
  forkq_item_t got = FORKQ_ITEM_INIT;
  for (int64_t i = 0; i < count; i++)
    ck_assert_int_eq(forkq_queue_get_packed(queue, &got, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_item_destroy(&got);
}

START_TEST(while_the_allocator_is_asked_others_can_get) {
  forkq_item_t items[] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got;
  talk = support_shared(sizeof *talk);
  if (_i == FOR_THE_SECOND_OF_MANY)
    make_room_in(&items[0]);
  put_three((enum need)_i);
  pid_t other = support_fork(answer, NULL);
  int64_t there = _i == FOR_A_KEPT_PART ? 5 : 3;
  asking = true;
  ck_assert_int_eq(get_in_need((enum need)_i, items, &got), 0);
  ck_assert(!asking && atomic_load(&talk->answered));
  ck_assert_int_eq(support_wait(other), 0);
  get_the_rest(there - 1 - (int64_t)got);
  end_sender();
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
}
END_TEST

START_TEST(without_memory_for_an_item_it_stays_in_the_queue) {
  forkq_item_t items[] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got = 0;
  if (_i == FOR_THE_SECOND_OF_MANY)
    make_room_in(&items[0]);
  put_three((enum need)_i);
  int64_t there = forkq_queue_qsize(queue);
  refusing = true;
  int r = get_in_need((enum need)_i, items, &got);
  refusing = false;
  ck_assert_int_eq(r, _i == FOR_THE_SECOND_OF_MANY ? 0 : -ENOMEM);
  ck_assert_uint_eq(got, 1); /* of many, or as it was */
  there -= r == 0;
  end_sender();
  ck_assert_int_eq(forkq_queue_qsize(queue), _i == FOR_A_KEPT_PART ? 5 : there);
  if (_i == FOR_A_LARGE_ONE)
    assert_get_bin(LARGE_ONE);
  else if (_i == FOR_A_KEPT_PART)
    assert_get_bin(HUGE);
  else
    ck_assert_int_eq(get(PATIENCE_MS), r == 0 ? 1 : 0);
  get_the_rest(forkq_queue_qsize(queue));
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
}
END_TEST

/* ---- address space ------------------------------------------------------------------------- */

#define GIB ((rlim_t)1 << 30)
#define QUEUES 100

static rlim_t address_space(void) {
  char line[128] = "";
  FILE *file = fopen("/proc/self/statm", "re");
  CHILD_MUST(file != NULL && fgets(line, sizeof line, file) != NULL);
  fclose(file);
  return (rlim_t)strtoul(line, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Of which a thread would have its stack, if it had what the limit says. */
static void put_with_a_large_stack(void *arg) {
  (void)arg;
  limit(RLIMIT_STACK, 64 * GIB);
  limit(RLIMIT_AS, address_space() + GIB);
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  must_work();
  forkq_queue_destroy(queue);
}

START_TEST(a_put_needs_no_stack_as_large_as_its_limit) {
  if (!SANITIZED)
    run(put_with_a_large_stack, NULL);
}
END_TEST

static void put_into_many(void *arg) {
  (void)arg;
  static forkq_queue_t *queues[QUEUES];
  limit(RLIMIT_NOFILE, 10 * QUEUES);
  limit(RLIMIT_AS, GIB);
  for (int i = 0; i < QUEUES; i++) {
    CHILD_MUST(forkq_queue_create(&queues[i], 0) == 0);
    CHILD_MUST(put_int(queues[i], i, 0) == 0);
  }
  for (int i = 0; i < QUEUES; i++) {
    CHILD_MUST(get_int(queues[i], PATIENCE_MS) == i);
    forkq_queue_destroy(queues[i]);
  }
}

START_TEST(a_gibibyte_of_addresses_has_room_for_a_hundred_queues) {
  struct rlimit files;
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
  if (!SANITIZED && files.rlim_max >= 10 * QUEUES)
    run(put_into_many, NULL);
}
END_TEST

/* ---- a pipe with less room than thought ---------------------------------------------------- */

static int beginnings; /* that readers dropped */

static void count_beginnings(forkq_log_level_t level, const char *message, void *arg) {
  (void)level;
  (void)arg;
  beginnings += strstr(message, "dropped the beginning") != NULL;
}

START_TEST(a_packet_takes_a_page_of_the_pipe) {
  page_size = 4096;
  ck_assert_uint_eq(forkq__channel_packets_in(128 * 4096), 128);
  page_size = 65536;
  ck_assert_uint_eq(forkq__channel_packets_in(128 * 65536), 128);
  ck_assert_uint_eq(forkq__channel_packets_in(65536), 1);
  ck_assert_uint_eq(forkq__channel_packets_in(4096), 0);
}
END_TEST

static bool feeder_sleeps(void) {
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  bool sleeps = queue->feeder.state == FORKQ__FEEDER_ASLEEP;
  forkq__sender_unlock(&queue->feeder.sender);
  return sleeps;
}

static int64_t capacity(void) {
  return fcntl(queue->channel.write_fd, F_GETPIPE_SZ);
}

#define PLACES 16 /* of the pipe, in packets */

/* Only while the feeder sleeps a put writes itself. */
static void pass_large(uint32_t packets) {
  size_t size = (size_t)packets * FORKQ__FRAME_MAX - 1;
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  while (!feeder_sleeps())
    usleep(100);
  ck_assert_int_eq(put_bin(size, 0), 0);
  assert_get_bin(size);
}

/* As the library would think it has on pages sixteen times as small. Then it knows better. */
START_TEST(a_large_message_is_begun_in_vain_only_once) {
  for (uint32_t first = PLACES - 1; first <= PLACES + 3; first++) {
    beginnings = 0;
    page_size = __real_forkq__os_page_size() / 16;
    ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
    ck_assert_int_gt(fcntl(queue->channel.write_fd, F_SETPIPE_SZ,
                           (int)(PLACES * __real_forkq__os_page_size())),
                     0);
    ck_assert_int_gt(queue->channel.pipe_packets, PLACES + 3);
    for (int i = 0; i < 5; i++)
      pass_large(first);
    for (uint32_t packets = PLACES - 1; packets <= PLACES + 3; packets++)
      pass_large(packets);
    ck_assert_int_eq(beginnings, 1);
    ck_assert_int_eq(capacity(), PLACES * __real_forkq__os_page_size());
    forkq_queue_destroy(queue);
  }
}
END_TEST

/* ---- main ---------------------------------------------------------------------------------- */

static TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 60);
  suite_add_tcase(suite, tcase);
  return tcase;
}

int main(void) {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
  forkq_log_set(count_beginnings, NULL);
  Suite *suite = suite_create("memory");

  TCase *alone = add_case(suite, "queues of its own");
  tcase_add_test(alone, a_limit_for_files_is_an_error_of_create_or_is_kept);
  tcase_add_test(alone, a_put_needs_no_stack_as_large_as_its_limit);
  tcase_add_test(alone, a_gibibyte_of_addresses_has_room_for_a_hundred_queues);
  tcase_add_test(alone, a_packet_takes_a_page_of_the_pipe);
  tcase_add_test(alone, a_large_message_is_begun_in_vain_only_once);

  TCase *with_queue = add_case(suite, "a queue");
  tcase_add_checked_fixture(with_queue, set_up_queue, queue_tear_down);
  tcase_add_test(with_queue, a_reader_with_a_limit_for_files_keeps_a_part_all_the_same);
  tcase_add_test(with_queue, a_new_queue_holds_no_memory_for_cells);
  tcase_add_test(with_queue, each_page_of_cells_comes_with_the_first_that_is_on_it);
  tcase_add_loop_test(with_queue, while_the_allocator_is_asked_others_can_get, 0, NEEDS);
  tcase_add_loop_test(with_queue, without_memory_for_an_item_it_stays_in_the_queue, 0,
                      NEEDS);

  TCase *parts = channel_case(suite, "parts");
  tcase_add_test(parts, what_a_reader_wrote_that_died_before_it_counted_is_given_back);
  tcase_add_test(parts, what_a_reader_was_dropping_when_it_died_is_given_back);
  tcase_add_test(
      parts, what_counts_is_kept_when_a_reader_dies_and_given_back_when_it_is_complete);
  if (!can_refuse()) {
    printf("skipped in part: no filters of system calls here\n");
    return support_main(suite);
  }
  tcase_add_loop_test(alone, without_memory_create_is_an_error, 0, COUNT(refusals));
  tcase_add_loop_test(alone,
                      without_fallocate_memory_is_reserved_by_writing_what_is_there, 0,
                      COUNT(unknown));
  tcase_add_test(alone, without_fallocate_a_limit_for_files_is_an_error);
  tcase_add_test(alone, without_fallocate_and_memory_it_is_an_error);
  tcase_add_loop_test(with_queue,
                      without_memory_the_first_put_of_a_process_leaves_no_trace, 0,
                      COUNT(refusals));
  tcase_add_loop_test(with_queue,
                      without_memory_the_first_get_of_a_joinable_queue_leaves_no_trace, 0,
                      COUNT(refusals));
  tcase_add_test(with_queue, only_reserved_memory_is_accessed);
  tcase_add_loop_test(
      parts, a_part_that_cannot_be_kept_is_completed_or_lost_with_an_error, 0, 3);
  return support_main(suite);
}
