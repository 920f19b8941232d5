/* Looking at queues: what a monitor sees, and what it makes of memory that is torn or hostile. */
#define _GNU_SOURCE
#include "inspect/inspect_impl.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <forkq.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PATIENCE_MS 10000

static forkq_inspect_t *inspect;

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_joinable_queue_create(&queue, 10), 0);
}

static void tear_down(void) {
  forkq_inspect_destroy(inspect);
  inspect = NULL;
  queue_tear_down();
}

/* Looks at this process, which has one queue. */
static const forkq_inspect_queue_t *look(void) {
  forkq_inspect_destroy(inspect);
  ck_assert_int_eq(forkq_inspect_open(&inspect, getpid()), 0);
  const forkq_inspect_queue_t *seen = forkq_inspect_queue_at(inspect, 0);
  ck_assert_ptr_nonnull(seen);
  ck_assert_ptr_null(forkq_inspect_queue_at(inspect, 1));
  return seen;
}

static const forkq_inspect_process_t *own(const forkq_inspect_queue_t *seen) {
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(seen, i)) != NULL; i++)
    if (process->pid == getpid())
      return process;
  ck_abort_msg("this process is not there");
  return NULL;
}

START_TEST(the_numbers_are_those_of_the_queue) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(put(i, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(get(PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_stats(queue, &stats), 0);
  const forkq_inspect_queue_t *seen = look();
  ck_assert_int_eq(seen->error, 0);
  ck_assert_uint_eq(seen->put_items, stats.put_items);
  ck_assert_uint_eq(seen->put_bytes, stats.put_bytes);
  ck_assert_uint_eq(seen->got_items, stats.got_items);
  ck_assert_uint_eq(seen->got_bytes, stats.got_bytes);
  ck_assert_uint_eq(seen->size, 4);
  ck_assert_uint_eq(seen->tasks, 5);
  ck_assert_int_eq(seen->maxsize, 10);
  ck_assert_int_eq(seen->joinable, 1);
  ck_assert_int_eq(seen->creator, getpid());
  ck_assert_int_eq(seen->state, FORKQ_INSPECT_OPEN);
}
END_TEST

static void get_two_and_close(void *arg) {
  for (int i = 0; i < 2; i++)
    CHILD_MUST(get(PATIENCE_MS) == i);
  CHILD_MUST(forkq_queue_close(queue) == 0);
  (void)arg;
}

START_TEST(lost_tasks_that_will_be_got_again_are_items) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.joinable = 1;
  options.lost_tasks = FORKQ_LOST_TASKS_REDELIVER;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(support_wait(support_fork(get_two_and_close, NULL)), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 3); /* finds the dead */
  ck_assert_uint_eq(look()->size, 3);
  queue->segment->ledger.kept.used = FORKQ__KEPT_MAX + 1;
  ck_assert_int_eq(look()->error, FORKQ_EHANDOVER);
  queue->segment->ledger.kept.used = 2;
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(PATIENCE_MS), i);
  ck_assert_uint_eq(look()->size, 0);
}
END_TEST

START_TEST(a_process_has_its_numbers_and_descriptors) {
  forkq_handover_t handover;
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  ck_assert_int_eq(forkq_queue_hand_over(queue, &handover), 0);
  const forkq_inspect_process_t *process = own(look());
  ck_assert_int_eq(process->open, 1);
  ck_assert_int_eq(process->has_cell, 1);
  ck_assert_int_eq(process->waits_known, 1);
  ck_assert_int_eq(process->life, FORKQ_INSPECT_ALIVE);
  ck_assert_uint_eq(process->put_items, 1);
  ck_assert_uint_eq(process->got_items, 1);
  ck_assert_uint_eq(process->tasks, 1);
  ck_assert_int_eq(memcmp(process->fds, handover.fds, sizeof process->fds), 0);
}
END_TEST

/* ---- the numbers of a process begin when it claims its cell -------------------------------- */

static void put_two(void *arg) {
  (void)arg;
  CHILD_MUST(put(1, 0) == 0 && put(2, 0) == 0);
  CHILD_MUST(forkq_queue_flush(queue, -1, NULL) == 0);
  const forkq_inspect_process_t *process = own(look());
  CHILD_MUST(process->put_items == 2 && process->got_items == 0);
  CHILD_MUST(get(PATIENCE_MS) > 0 && get(PATIENCE_MS) > 0);
  CHILD_MUST(own(look())->got_items == 2);
  CHILD_MUST(forkq_queue_task_done(queue) == 0 && forkq_queue_task_done(queue) == 0);
  forkq_inspect_destroy(inspect);
}

START_TEST(the_next_owner_of_a_cell_begins_at_0) {
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(support_wait(support_fork(put_two, NULL)), 0);
  ck_assert_uint_eq(look()->put_items, 6);
}
END_TEST

/* ---- locks ---------------------------------------------------------------------------------- */

START_TEST(the_owner_of_each_lock) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  struct forkq__lock *const locks[] = { &channel->write_lock, &channel->read_lock,
                                        &channel->turn, &queue->segment->ledger.lock };
  for (unsigned kind = 0; kind < FORKQ_INSPECT_LOCKS; kind++) {
    ck_assert_int_eq(pthread_mutex_lock(&locks[kind]->mutex), 0);
    const forkq_inspect_queue_t *seen = look();
    pthread_mutex_unlock(&locks[kind]->mutex);
    for (unsigned other = 0; other < FORKQ_INSPECT_LOCKS; other++) {
      const forkq_inspect_lock_t *lock = forkq_inspect_lock_of(seen, other);
      ck_assert_int_eq(lock->tid, kind == other ? gettid() : 0);
      ck_assert_int_eq(lock->pid, kind == other ? getpid() : 0);
      ck_assert_int_eq(lock->owner_died, 0);
    }
  }
  ck_assert_ptr_null(forkq_inspect_lock_of(look(), FORKQ_INSPECT_LOCKS));
}
END_TEST

static void die_with_the_ledger(void *arg) {
  (void)arg;
  CHILD_MUST(pthread_mutex_lock(&queue->segment->ledger.lock.mutex) == 0);
  _exit(0);
}

START_TEST(a_dead_owner_stays_dead) {
  ck_assert_int_eq(support_wait(support_fork(die_with_the_ledger, NULL)), 0);
  for (int i = 0; i < 3; i++) {
    const forkq_inspect_lock_t *lock =
        forkq_inspect_lock_of(look(), FORKQ_INSPECT_LEDGER_LOCK);
    ck_assert_int_eq(lock->owner_died, 1); /* nobody took it to look */
    ck_assert_int_eq(lock->pid, 0);
  }
}
END_TEST

/* ---- damaged memory ------------------------------------------------------------------------- */

/* A copy of the queue's memory in a file of its own, which is damaged. */
static struct forkq__segment *copy;
static int copy_fd;
static struct forkq__segment *room; /* for what is read of it */

static void make_copy(void) {
  room = aligned_alloc(alignof(struct forkq__segment), sizeof *room);
  ck_assert_ptr_nonnull(room);
  copy_fd = memfd_create("copy", MFD_CLOEXEC);
  ck_assert_int_eq(ftruncate(copy_fd, sizeof *copy), 0);
  copy = mmap(NULL, sizeof *copy, PROT_READ | PROT_WRITE, MAP_SHARED, copy_fd, 0);
  ck_assert_ptr_ne(copy, MAP_FAILED);
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  memcpy((void *)copy, (const void *)queue->segment,
         offsetof(struct forkq__segment, ledger.cells[1]));
}

static void end_copy(void) {
  free(room);
  munmap(copy, sizeof *copy);
  close(copy_fd);
}

/* What a look makes of the copy. */
static int error_of_copy(void) {
  struct forkq__inspected seen = { .queue = { .inode = 0 } };
  seen.queue.self_ = &seen;
  ck_assert_int_eq(forkq__inspect_memory(&seen, room, copy_fd), 0);
  free(seen.processes.entries);
  return seen.queue.error;
}

START_TEST(damage_is_an_error) {
  make_copy();
  ck_assert_int_eq(error_of_copy(), 0);
#define DAMAGED(field, value, error)                                                     \
  do {                                                                                   \
    __typeof__(copy->field) was = copy->field;                                           \
    copy->field = (value);                                                               \
    ck_assert_msg(error_of_copy() == (error), #field);                                   \
    copy->field = was;                                                                   \
    ck_assert_int_eq(error_of_copy(), 0);                                                \
  } while (0)
  DAMAGED(head.magic, 0, FORKQ_EHANDOVER);
  DAMAGED(head.layout, FORKQ__SEGMENT_LAYOUT + 1, FORKQ_EVERSION);
  DAMAGED(head.size, 0, FORKQ_EVERSION);
  DAMAGED(head.abi.lock_size, 0, FORKQ_EVERSION);
  DAMAGED(ledger.cells_used, FORKQ__CELLS_MAX + 1, FORKQ_EHANDOVER);
  DAMAGED(slots.maxsize, -1, FORKQ_EHANDOVER);
  DAMAGED(joinable, 2, FORKQ_EHANDOVER);
  DAMAGED(channel.packet.length, UINT16_MAX, FORKQ_EHANDOVER);
  end_copy();
}
END_TEST

START_TEST(memory_that_is_too_short_is_an_error) {
  /* From long to short: what was cut off does not come back. */
  static const size_t sizes[] = { offsetof(struct forkq__segment, ledger.cells[1]) - 1,
                                  offsetof(struct forkq__segment, ledger.cells),
                                  sizeof(struct forkq__segment_head),
                                  sizeof(struct forkq__segment_head) - 1,
                                  1,
                                  0 };
  make_copy();
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    ck_assert_int_eq(ftruncate(copy_fd, (off_t)sizes[i]), 0);
    ck_assert_int_eq(error_of_copy(), FORKQ_EHANDOVER);
  }
  end_copy();
}
END_TEST

/* Numbers that no queue has: they are told, or bounded, and lead nowhere. */
START_TEST(nonsense_leads_nowhere) {
  uint64_t seed = 1;
  make_copy();
  for (int round = 0; round < 2000; round++) {
    size_t size = offsetof(struct forkq__segment, ledger.cells[1]);
    unsigned char *bytes = (unsigned char *)copy;
    memcpy(bytes, (const void *)queue->segment, size);
    for (int i = 0; i < 8; i++)
      bytes[sizeof copy->head +
            support_random_below(&seed, (uint32_t)(size - sizeof copy->head))] =
          (unsigned char)support_random(&seed);
    int error = error_of_copy();
    ck_assert(error == 0 || error == FORKQ_EHANDOVER);
  }
  end_copy();
}
END_TEST

/* What is told ends up on terminals, in labels, and in a shell's completion. */
START_TEST(a_name_that_no_queue_can_have) {
  struct forkq__inspected seen = { .queue = { .inode = 0 } };
  seen.queue.self_ = &seen;
  make_copy();
  strcpy(copy->ledger.name, "a.B-9_\033[2J\"\\$(x)`\n,\x9b");
  ck_assert_int_eq(forkq__inspect_memory(&seen, room, copy_fd), 0);
  ck_assert_str_eq(seen.queue.name, "a.B-9_??2J????x?????");
  free(seen.processes.entries);
  end_copy();
}
END_TEST

START_TEST(a_command_that_a_terminal_would_obey) {
  char was[16];
  ck_assert_int_eq(prctl(PR_GET_NAME, was), 0);
  ck_assert_int_eq(prctl(PR_SET_NAME, "a b\033[2J\n\x9b\xc3\xa4\x7f."), 0);
  const forkq_inspect_process_t *process = own(look());
  ck_assert_int_eq(prctl(PR_SET_NAME, was), 0);
  ck_assert_str_eq(process->command, "a b?[2J?????.");
}
END_TEST

/* Its numbers of processes would be those of others here. */
START_TEST(a_queue_of_another_pid_namespace) {
  struct forkq__inspected seen = { .queue = { .inode = 0 } };
  seen.queue.self_ = &seen;
  make_copy();
  copy->pid_namespace++;
  ck_assert_int_eq(pthread_mutex_lock(&queue->segment->channel.turn.mutex), 0);
  memcpy((void *)&copy->channel.turn, (const void *)&queue->segment->channel.turn,
         sizeof copy->channel.turn);
  pthread_mutex_unlock(&queue->segment->channel.turn.mutex);
  ck_assert_int_eq(forkq__inspect_memory(&seen, room, copy_fd), 0);
  ck_assert_int_eq(seen.queue.error, 0);
  ck_assert_int_eq(seen.queue.creator, 0);
  ck_assert_uint_eq(seen.queue.put_items, 1);
  ck_assert_uint_eq(seen.queue.tasks, 1);
  ck_assert_uint_eq(seen.processes.count, 0);
  ck_assert_int_eq(seen.locks[FORKQ_INSPECT_TURN].tid, gettid());
  ck_assert_int_eq(seen.locks[FORKQ_INSPECT_TURN].pid, 0);
  end_copy();
}
END_TEST

/* ---- peek ----------------------------------------------------------------------------------- */

static int peeked[64];
static int peeked_count;

static int note(const char *data, size_t size, void *arg) {
  msgpack_unpacked unpacked;
  size_t at = 0;
  msgpack_unpacked_init(&unpacked);
  ck_assert_int_eq(msgpack_unpack_next(&unpacked, data, size, &at),
                   MSGPACK_UNPACK_SUCCESS);
  peeked[peeked_count++] = (int)unpacked.data.via.i64;
  msgpack_unpacked_destroy(&unpacked);
  return arg != NULL && peeked_count == *(const int *)arg;
}

/* The numbers from 0 to 4, all of which the first get reads ahead. */
static void put_in_one_packet(void) {
  static const char numbers[] = { 0, 1, 2, 3, 4 };
  forkq_bytes_t messages[5];
  size_t count;
  for (int i = 0; i < 5; i++)
    messages[i] = (forkq_bytes_t){ &numbers[i], 1 };
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 5, 0, &count), 0);
  ck_assert_uint_eq(count, 5);
  until_sent(queue);
}

START_TEST(peek_shows_what_will_be_got) {
  put_in_one_packet();
  for (int gone = 0; gone <= 5; gone++) {
    peeked_count = 0;
    ck_assert_int_eq(forkq_inspect_peek(look(), note, NULL), 5 - gone);
    for (int i = 0; i < peeked_count; i++)
      ck_assert_int_eq(peeked[i], gone + i);
    if (gone < 5)
      ck_assert_int_eq(get(PATIENCE_MS), gone);
  }
}
END_TEST

enum { LARGE_MESSAGES = 5, LARGE_SIZE = 2000 };

/* Messages beside the pipe, whose references are in one packet. */
static void put_large_in_one_packet(void) {
  static char data[LARGE_SIZE];
  forkq_bytes_t messages[LARGE_MESSAGES];
  size_t count;
  make_bin(data, sizeof data);
  for (int i = 0; i < LARGE_MESSAGES; i++)
    messages[i] = (forkq_bytes_t){ data, sizeof data };
  ck_assert_int_eq(
      forkq_queue_put_many_packed(queue, messages, LARGE_MESSAGES, 0, &count), 0);
  ck_assert_uint_eq(count, LARGE_MESSAGES);
  until_sent(queue);
}

/* With the first that is shown: gets all others. Then come the stores of a reader that goes on to the next
 * packet, up to one of them. */
static int take_the_others(const char *data, size_t size, void *arg) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  const int *stores = arg;
  (void)data;
  ck_assert_uint_eq(size, LARGE_SIZE);
  for (int i = 1; i < LARGE_MESSAGES; i++)
    assert_get_bin(LARGE_SIZE);
  if (*stores == 1)
    channel->offset = 0;
  if (*stores == 2) {
    channel->packet.seq++;
    channel->offset = FORKQ__PACKET_HEAD;
  }
  return 0;
}

START_TEST(peek_shows_no_piece_that_is_taken_meanwhile) {
  struct forkq__channel_shared *channel = &queue->segment->channel;
  for (int stores = 0; stores < 3; stores++) {
    put_large_in_one_packet();
    assert_get_bin(LARGE_SIZE); /* the others are read ahead */
    ck_assert_int_eq(forkq_inspect_peek(look(), take_the_others, &stores), 1);
    channel->packet.seq = channel->read_seq;
    channel->offset = channel->packet.length;
  }
}
END_TEST

START_TEST(peek_stops_when_told_to) {
  const int two = 2;
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(put(i, 0), 0);
  until_sent(queue);
  peeked_count = 0;
  ck_assert_int_eq(forkq_inspect_peek(look(), note, (void *)(uintptr_t)&two), 2);
}
END_TEST

/* ---- errors and memory ---------------------------------------------------------------------- */

START_TEST(errors) {
  ck_assert_int_eq(forkq_inspect_open(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_inspect_open(&inspect, 0x7fffffff), -ESRCH);
  ck_assert_ptr_null(inspect);
  forkq_inspect_destroy(NULL);
  ck_assert_ptr_null(forkq_inspect_queue_at(NULL, 0));
  ck_assert_ptr_null(forkq_inspect_process_at(NULL, 0));
  ck_assert_ptr_null(forkq_inspect_wait_at(NULL, 0));
  ck_assert_ptr_null(forkq_inspect_lock_of(NULL, FORKQ_INSPECT_TURN));
  ck_assert_int_eq(forkq_inspect_peek(NULL, note, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_inspect_peek(look(), NULL, NULL), FORKQ_ENULL);
}
END_TEST

START_TEST(without_memory_nothing_is_left) {
  support_heap_install();
  long live = support_heap_live();
  int r = -ENOMEM;
  for (long k = 1; r == -ENOMEM; k++) {
    support_heap_fail_at(k, false);
    r = forkq_inspect_open(&inspect, getpid());
    if (r < 0)
      ck_assert_int_eq(support_heap_live(), live);
    ck_assert_int_lt(k, 100);
  }
  ck_assert_int_eq(r, 0);
  support_heap_fail_at(1, false);
  ck_assert_int_eq(forkq_inspect_peek(forkq_inspect_queue_at(inspect, 0), note, NULL),
                   -ENOMEM);
  support_heap_fail_at(0, false);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inspect");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 60);
  tcase_add_checked_fixture(all, set_up, tear_down);
  tcase_add_test(all, the_numbers_are_those_of_the_queue);
  tcase_add_test(all, lost_tasks_that_will_be_got_again_are_items);
  tcase_add_test(all, a_process_has_its_numbers_and_descriptors);
  tcase_add_test(all, the_next_owner_of_a_cell_begins_at_0);
  tcase_add_test(all, the_owner_of_each_lock);
  tcase_add_test(all, a_dead_owner_stays_dead);
  tcase_add_test(all, damage_is_an_error);
  tcase_add_test(all, memory_that_is_too_short_is_an_error);
  tcase_add_test(all, nonsense_leads_nowhere);
  tcase_add_test(all, a_name_that_no_queue_can_have);
  tcase_add_test(all, a_command_that_a_terminal_would_obey);
  tcase_add_test(all, a_queue_of_another_pid_namespace);
  tcase_add_test(all, peek_shows_what_will_be_got);
  tcase_add_test(all, peek_shows_no_piece_that_is_taken_meanwhile);
  tcase_add_test(all, peek_stops_when_told_to);
  tcase_add_test(all, errors);
  tcase_add_test(all, without_memory_nothing_is_left);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
