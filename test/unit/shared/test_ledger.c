/* The ledger: what each process holds, and what comes back when it dies. */
#define _GNU_SOURCE
#include "base/os.h"
#include "ledger_helpers.h"
#include "pipe/reap.h"
#include "queue_helpers.h"
#include "shared/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define FREE FORKQ__CELL_FREE
#define USED FORKQ__CELL_USED
#define DEAD FORKQ__CELL_DEAD

static struct shared {
  struct forkq__ledger ledger;
  struct forkq__channel_shared channel;
} * shared;
static struct forkq__ledger *ledger;
static struct forkq__channel channel; /* over which nothing is sent */
static struct forkq__account *const account_here = &channel.account;
static struct forkq__liveness *const liveness = &channel.account.liveness;
static _Atomic int *flags; /* what children say, and what they wait for */

/* What the channel says of the dead: whether the packet that such a process was writing came, and
 * whether what it got is counted. */
static enum forkq__verdict verdict;
static bool reads_settled, die_at_verdict;

static enum forkq__verdict give_verdict(uint32_t cell) {
  support_assert(ledger->cells[cell].pending_seq != 0);
  if (die_at_verdict)
    raise(SIGKILL);
  return verdict;
}

enum forkq__verdict __wrap_forkq__channel_verdict(struct forkq__channel *to,
                                                  uint32_t cell);
enum forkq__verdict __wrap_forkq__channel_verdict(struct forkq__channel *to,
                                                  uint32_t cell) {
  (void)to;
  return give_verdict(cell);
}

enum forkq__verdict __wrap_forkq__channel_try_verdict(struct forkq__channel *to,
                                                      uint32_t cell);
enum forkq__verdict __wrap_forkq__channel_try_verdict(struct forkq__channel *to,
                                                      uint32_t cell) {
  (void)to;
  return give_verdict(cell);
}

bool __wrap_forkq__channel_settle_reads(struct forkq__channel *to);
bool __wrap_forkq__channel_settle_reads(struct forkq__channel *to) {
  (void)to;
  return reads_settled;
}

static void set_up(void) {
  forkq__account_init(account_here);
  shared = make_memory(liveness, sizeof *shared);
  ledger = account_here->ledger = &shared->ledger;
  channel.shared = &shared->channel;
  ck_assert_int_eq(forkq__ledger_init(ledger), 0);
  ck_assert_int_eq(forkq__segment_init_channel(channel.shared), 0);
  reads_settled = true;
  flags = support_shared(16 * sizeof *flags);
}

static void tear_down(void) {
  drop_memory(liveness, sizeof *shared);
}

static bool reap(void) {
  return forkq__reap(&channel);
}

/* The cell of this process, if it can have one: else *index is as it was. */
static int open_cell(uint32_t *index) {
  int r = forkq__reap_and_claim(&channel);
  if (r == 0)
    *index = account_here->cell;
  return r;
}

static bool sees_alive(uint32_t index) {
  return forkq__account_sees_alive(account_here, index);
}

/* As the cell's owner does. */
static bool give_back(uint32_t index, uint64_t count) {
  if (forkq__ledger_lock(ledger) != 0)
    return false;
  forkq__ledger_give_back(ledger, index, count);
  forkq__ledger_unlock(ledger);
  return true;
}

/* ---- children with a cell ---------------------------------------------------------- */

/* What a child's account shall say. */
struct account {
  uint32_t cell;
  uint64_t accepted;
  uint64_t sent;
  uint64_t returned;
  bool stays;
};

static void keep_account(void *arg) {
  const struct account *account = arg;
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  CHILD_MUST(index == account->cell);
  struct forkq__cell *cell = &ledger->cells[index];
  atomic_fetch_add(&cell->accepted, account->accepted);
  atomic_fetch_add(&cell->sent, account->sent);
  CHILD_MUST(give_back(index, account->returned));
  atomic_store(&flags[0], 1);
  while (account->stays)
    pause();
}

static pid_t start(struct account account) {
  account.stays = true;
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(keep_account, &account);
  support_until(&flags[0]);
  return child;
}

/* ---- cells ------------------------------------------------------------------------- */

START_TEST(each_process_has_a_cell_of_its_own) {
  pid_t children[3];
  for (uint32_t i = 0; i < 3; i++)
    children[i] = start((struct account){ .cell = i });
  for (uint32_t i = 0; i < 3; i++)
    ck_assert(sees_alive(i));
  for (uint32_t i = 0; i < 3; i++)
    support_kill_and_wait(children[i]);
}
END_TEST

START_TEST(a_cell_is_used_again_and_again) {
  uint32_t index = 77;
  for (int i = 1; i <= 10000; i++) {
    support_assert(open_cell(&index) == 0 && index == 0);
    support_assert(ledger->cells[0].owners == (uint32_t)i);
    forkq__account_close(account_here);
  }
  ck_assert_uint_eq(ledger->cells_used, 1);
}
END_TEST

START_TEST(a_dead_process_s_cell_is_used_again) {
  struct account account = { .cell = 0, .accepted = 2, .sent = 1 };
  for (int i = 0; i < 200; i++)
    support_assert(support_wait(support_fork(keep_account, &account)) == 0);
  ck_assert_uint_eq(ledger->cells_used, 1);
  reap();
  ck_assert_uint_eq(forkq__ledger_size(ledger), 200);
}
END_TEST

START_TEST(a_closed_cell_is_no_longer_alive_and_its_items_come_back) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 1 });
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  ledger->cells[1].accepted = 10;
  ledger->cells[1].sent = 4;
  forkq__account_close(account_here);
  ck_assert(!sees_alive(1));
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5);
  ck_assert(!reap());
  support_kill_and_wait(child);
}
END_TEST

static void mark_all_used(void) {
  for (uint32_t i = 0; i < FORKQ__CELLS_MAX; i++)
    ledger->cells[i].state = USED;
}

/* The marks stand for processes that live: nobody looks at cells beyond `cells_used`. */
START_TEST(one_process_more_than_cells_is_too_many) {
  uint32_t index = 77;
  mark_all_used();
  ck_assert_int_eq(open_cell(&index), FORKQ_ETOOMANY);
  ck_assert_uint_eq(index, 77);
  ledger->cells[FORKQ__CELLS_MAX - 1].state = FREE;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, FORKQ__CELLS_MAX - 1);
  forkq__account_close(account_here);
}
END_TEST

START_TEST(open_looks_for_the_dead_before_it_gives_up) {
  uint32_t index;
  mark_all_used();
  ledger->cells_used = FORKQ__CELLS_MAX;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

static void take_and_stay(void *arg) {
  CHILD_MUST(forkq__liveness_prepare(liveness) == 0);
  CHILD_MUST(forkq__liveness_take(liveness, *(const uint32_t *)arg) == 0);
  atomic_store(&flags[0], 1);
  pause();
}

/* As a process that was killed in its claim, when it had the lock on its life: the kernel has freed
 * the ledger's lock, and not yet this one. */
static pid_t start_to_die_in_claim(uint32_t cell) {
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(take_and_stay, &cell);
  support_until(&flags[0]);
  return child;
}

START_TEST(a_free_cell_whose_life_another_has_is_passed_over) {
  uint32_t index;
  pid_t first = start_to_die_in_claim(0), second = start_to_die_in_claim(1);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 2);
  ck_assert_uint_eq(ledger->cells_used, 3);
  ck_assert(ledger->cells[0].state == FREE && ledger->cells[1].state == FREE);
  forkq__account_close(account_here);
  support_kill_and_wait(second);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  forkq__account_close(account_here);
  support_kill_and_wait(first);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
  ck_assert_uint_eq(ledger->cells_used, 3);
}
END_TEST

/* With task_done a process has two locks, and both or none. */
static void keep_tasks_only(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__liveness_prepare(liveness) == 0);
  CHILD_MUST(forkq__liveness_take(liveness, 0) == 0);
  forkq__liveness_drop(liveness, 0);
  atomic_store(&flags[0], 1);
  pause();
}

START_TEST(a_free_cell_whose_tasks_another_has_is_passed_over) {
  uint32_t index;
  liveness->joinable = true;
  pid_t child = support_fork(keep_tasks_only, NULL);
  support_until(&flags[0]);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  ck_assert(!forkq__liveness_lives(liveness, 0, 0));
  forkq__account_close(account_here);
  support_kill_and_wait(child);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

/* ---- calls that fail --------------------------------------------------------------- */

/* Lets calls of fcntl(2) with that command fail: so many of them, after the first `spared`. */
static struct {
  int command;
  int error;
  int spared;
  int count;
} fault;

#define ALWAYS 1000000

static bool fails(int command) {
  if (fault.error == 0 || command != fault.command || fault.spared-- > 0 ||
      fault.count-- <= 0)
    return false;
  errno = fault.error;
  return true;
}

static void let_fail(int command, int error, int spared, int count) {
  fault.command = command;
  fault.spared = spared;
  fault.count = count;
  fault.error = error;
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  return fails(command) ? -1 : __real_fcntl64(fd, command, argument);
}

#define LAST_ERRNO 133

/* These say that another has the lock, and that the call is to be made again. */
static bool says_something_else(int error) {
  return error == EAGAIN || error == EACCES || error == EINTR;
}

/* Neither the ledger's lock nor one of the two on the memory is left behind. */
static void assert_nothing_is_claimed(void) {
  ck_assert_uint_eq(ledger->cells_used, 0);
  ck_assert_uint_eq(ledger->cells[0].state, FREE);
  ck_assert_int_eq(forkq__os_life_taken(liveness->memory_fd, 0), 0);
  ck_assert_int_eq(forkq__os_life_taken(liveness->memory_fd, FORKQ__CELLS_MAX), 0);
}

/* `spared`: of the two locks the first fails, or the second. */
START_TEST(why_a_life_cannot_be_had_is_told_as_it_is) {
  uint32_t index = 77;
  liveness->joinable = true;
  for (int error = 1; error <= LAST_ERRNO; error++) {
    if (says_something_else(error))
      continue;
    let_fail(F_OFD_SETLK, error, _i, 1);
    int r = open_cell(&index);
    fault.error = 0;
    ck_assert_int_eq(r, -error);
    ck_assert_uint_eq(index, 77);
    assert_nothing_is_claimed();
  }
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

START_TEST(a_life_that_another_has_is_no_failure) {
  static const int errors[] = { EAGAIN, EACCES };
  uint32_t index;
  for (int i = 0; i < 2; i++) {
    let_fail(F_OFD_SETLK, errors[i], 0, 2);
    ck_assert_int_eq(open_cell(&index), 0);
    ck_assert_uint_eq(index, 2);
    forkq__account_close(account_here);
    let_fail(F_OFD_SETLK, errors[i], 0, ALWAYS);
    ck_assert_int_eq(open_cell(&index), FORKQ_ETOOMANY);
    fault.error = 0;
  }
}
END_TEST

START_TEST(a_signal_in_the_claim_is_no_failure) {
  uint32_t index;
  let_fail(F_OFD_SETLK, EINTR, 0, 3);
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
  ck_assert_int_lt(fault.count, 0);
}
END_TEST

START_TEST(nobody_is_dead_because_the_kernel_does_not_answer) {
  pid_t child = start((struct account){ .accepted = 3 });
  for (int error = 1; error <= LAST_ERRNO; error++) {
    if (error == EINTR)
      continue;
    let_fail(F_OFD_GETLK, error, 0, ALWAYS);
    bool found = reap();
    fault.error = 0;
    ck_assert(!found);
    ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  }
  support_kill(child); /* a zombie has its number still */
  let_fail(F_OFD_GETLK, EINTR, 0, 3);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
}
END_TEST

/* The first get and the first put of a process: for none of these is the queue empty or full, and
 * nobody waits for what cannot come. */
START_TEST(the_first_get_and_put_fail_as_the_kernel_says) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *joinable;
  ck_assert_int_eq(forkq_joinable_queue_create(&joinable, 1), 0);
  for (int error = 1; error <= LAST_ERRNO; error++) {
    if (says_something_else(error))
      continue;
    let_fail(F_OFD_SETLK, error, 0, ALWAYS);
    int got = forkq_queue_get(joinable, &item, 20000);
    int got_now = forkq_queue_get_nowait(joinable, &item);
    int put = put_int(joinable, 1, 20000);
    int put_now = put_int(joinable, 1, 0);
    fault.error = 0;
    ck_assert(got == -error && got_now == -error);
    ck_assert(put == -error && put_now == -error);
  }
  ck_assert_int_eq(put_int(joinable, 1, 0), 0);
  ck_assert_int_eq(get_int(joinable, 0), 1);
  forkq_queue_destroy(joinable);
}
END_TEST

/* ---- life and death ---------------------------------------------------------------- */

START_TEST(what_a_killed_process_held_comes_back_exactly) {
  pid_t other = start((struct account){ .cell = 0, .accepted = 5, .sent = 2 });
  pid_t victim =
      start((struct account){ .cell = 1, .accepted = 20, .sent = 7, .returned = 3 });
  ck_assert_uint_eq(forkq__ledger_held(ledger, 1), 10);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5 + 20 - 3);
  ck_assert(!reap());
  support_kill_and_wait(victim);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_held(ledger, 1), 0);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5 + 7);
  ck_assert_uint_eq(ledger->returned, 13);
  ck_assert(!reap());
  support_kill_and_wait(other);
}
END_TEST

START_TEST(who_exits_without_close_is_dead_as_well) {
  struct account account = { .cell = 0, .accepted = 3 };
  ck_assert_int_eq(support_wait(support_fork(keep_account, &account)), 0);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

START_TEST(a_zombie_is_dead) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 3 });
  support_kill(child);
  ck_assert(!sees_alive(0));
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_int_eq(support_wait(child), 128 + SIGKILL);
}
END_TEST

START_TEST(a_stopped_process_lives) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 3 });
  support_stop(child);
  ck_assert(sees_alive(0));
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  support_kill_and_wait(child);
  ck_assert(reap());
}
END_TEST

START_TEST(one_s_own_cell_lives) {
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ledger->cells[index].accepted = 3;
  ck_assert(sees_alive(index));
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
}
END_TEST

START_TEST(where_the_kernel_cannot_say_nobody_is_dead) {
  struct forkq__account no_file = *account_here;
  no_file.liveness.memory_fd = -1;
  ck_assert(forkq__account_sees_alive(&no_file, 0));
}
END_TEST

static void wait_forever(void *arg) {
  (void)arg;
  atomic_store(&flags[1], 1);
  for (;;)
    pause();
}

static void open_and_fork(void *arg) {
  (void)arg;
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  atomic_store(&ledger->cells[index].accepted, 4);
  atomic_store(&flags[0], support_fork(wait_forever, NULL));
  for (;;)
    pause();
}

/* The parent's items are not the child's: it cannot send them. */
START_TEST(a_forked_child_does_not_keep_its_parent_s_cell_alive) {
  pid_t child = support_fork(open_and_fork, NULL);
  support_until(&flags[1]);
  support_until(&flags[0]);
  pid_t grandchild = flags[0];
  ck_assert(!reap());
  /* The grandchild is stopped, so that it does not end with its parent at once. */
  kill(grandchild, SIGSTOP);
  support_kill_and_wait(child);
  ck_assert(reap());
  kill(grandchild, SIGKILL);
}
END_TEST

static void close_another_descriptor(void *arg) {
  (void)arg;
  int other = dup(liveness->memory_fd);
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  close(other);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

START_TEST(a_close_of_another_descriptor_of_the_file_changes_nothing) {
  pid_t child = support_fork(close_another_descriptor, NULL);
  support_until(&flags[0]);
  ck_assert(sees_alive(0));
  support_kill_and_wait(child);
  ck_assert(!sees_alive(0));
}
END_TEST

/* ---- a packet on its way at death ------------------------------------------------------
 *
 * The fields are set as a dead process leaves them; nobody holds the cell's life. It had
 * accepted 10, sent 4, and was writing packet 100 with 3 of the others. */
static struct forkq__cell *dead_in_write(void) {
  struct forkq__cell *cell = &ledger->cells[0];
  ledger->cells_used = 1;
  cell->state = USED;
  cell->accepted = 10;
  cell->sent = 4;
  cell->sent_wire = 1000;
  cell->pending_sent = 7;
  cell->pending_wire = 1300;
  cell->pending_seq = 100;
  return cell;
}

START_TEST(a_pending_packet_that_arrived_was_sent) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert(cell->sent == 7 && cell->sent_wire == 1300 && cell->pending_seq == 0);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_pending_packet_that_cannot_come_was_not_sent) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__NOT_SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
  ck_assert(cell->sent == 4 && cell->sent_wire == 1000 && cell->pending_seq == 0);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_pending_packet_in_doubt_is_waited_for_the_rest_is_not) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__UNKNOWN;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert_uint_eq(cell->state, DEAD);
  ck_assert(!reap());
  ck_assert_uint_eq(cell->state, DEAD);
  verdict = FORKQ__SENT;
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(what_was_in_doubt_comes_back_when_it_cannot_come) {
  struct forkq__cell *cell = dead_in_write();
  verdict = FORKQ__UNKNOWN;
  reap();
  ck_assert_uint_eq(cell->state, DEAD);
  verdict = FORKQ__NOT_SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

START_TEST(a_cell_in_doubt_is_not_used_again) {
  dead_in_write();
  verdict = FORKQ__UNKNOWN;
  uint32_t index;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 1);
  forkq__account_close(account_here);
  verdict = FORKQ__NOT_SENT;
  ck_assert_int_eq(open_cell(&index), 0);
  ck_assert_uint_eq(index, 0);
}
END_TEST

/* Killed when its last write was counted, but still pending. */
START_TEST(a_pending_packet_that_was_counted_is_counted_once) {
  struct forkq__cell *cell = dead_in_write();
  cell->sent = 7;
  cell->sent_wire = 1300;
  verdict = FORKQ__SENT;
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
  ck_assert(cell->sent == 7 && cell->sent_wire == 1300);
  ck_assert_uint_eq(cell->state, FREE);
}
END_TEST

/* ---- a slot being taken at death --------------------------------------------------- */

static struct forkq__cell *dead_in_take(uint64_t accepted, uint64_t try_base,
                                        uint64_t try_count) {
  struct forkq__cell *cell = &ledger->cells[3];
  ledger->cells_used = 4;
  cell->state = USED;
  cell->accepted = accepted;
  cell->sent = accepted < 5 ? accepted : 5;
  cell->try_base = try_base;
  cell->try_count = try_count;
  return cell;
}

static uint64_t word_of(uint64_t count, uint32_t cell) {
  return count << FORKQ__CELL_BITS | (cell + 1);
}

/* All but the 5 that were sent come back; with `taken` one of them is the one at hand. */
static void assert_accepted(struct forkq__cell *cell, uint64_t accepted) {
  reap();
  ck_assert_uint_eq(cell->accepted, accepted);
  ck_assert_uint_eq(cell->try_count, 0);
  ck_assert_uint_eq(cell->state == USED ? 5 : forkq__ledger_size(ledger), 5);
}

START_TEST(a_take_before_the_word_did_not_happen) {
  ledger->word = word_of(20, 7);
  assert_accepted(dead_in_take(5, 5, 21), 5);
}
END_TEST

START_TEST(a_take_that_lost_the_word_did_not_happen) {
  ledger->word = word_of(21, 7);
  assert_accepted(dead_in_take(5, 5, 21), 5);
}
END_TEST

START_TEST(a_take_that_the_word_names_did_happen) {
  ledger->word = word_of(21, 3);
  assert_accepted(dead_in_take(5, 5, 21), 6);
}
END_TEST

START_TEST(a_take_that_is_confirmed_did_happen) {
  struct forkq__cell *cell = dead_in_take(5, 5, 21);
  cell->confirmed = 21;
  ledger->word = word_of(22, 7);
  assert_accepted(cell, 6);
}
END_TEST

START_TEST(a_take_that_was_counted_is_counted_once) {
  ledger->word = word_of(21, 3);
  assert_accepted(dead_in_take(6, 5, 21), 6);
  struct forkq__cell *cell = dead_in_take(7, 6, 31);
  cell->sent = 6;
  cell->confirmed = 31;
  ledger->word = word_of(40, 7);
  reap();
  ck_assert_uint_eq(cell->accepted, 7);
}
END_TEST

START_TEST(an_older_confirmation_says_nothing) {
  struct forkq__cell *cell = dead_in_take(5, 5, 21);
  cell->confirmed = 20;
  ledger->word = word_of(30, 7);
  assert_accepted(cell, 5);
}
END_TEST

/* ---- a death in the ledger itself -------------------------------------------------- */

static void noop_repair(void *arg) {
  (void)arg;
}

/* As a process that was killed between the two stores of a return. */
static void half_return(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL) == 0);
  atomic_fetch_add(&ledger->cells[0].returned, 2);
  raise(SIGKILL);
}

START_TEST(a_return_that_was_cut_in_two_is_completed) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 5 });
  ck_assert_int_eq(support_wait(support_fork(half_return, NULL)), 128 + SIGKILL);
  ck_assert_uint_eq(ledger->returned, 0);
  ck_assert(give_back(0, 1));
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  support_kill_and_wait(child);
}
END_TEST

static void reap_and_die(void *arg) {
  (void)arg;
  die_at_verdict = true;
  reap();
}

START_TEST(a_reaper_s_death_leaves_the_reaping_to_the_next) {
  dead_in_write();
  ck_assert_int_eq(support_wait(support_fork(reap_and_die, NULL)), 128 + SIGKILL);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 4);
}
END_TEST

static void hold_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL) == 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}

/* Whoever calls has a lock of its process, or a deadline. */
START_TEST(nobody_waits_for_a_stopped_owner_of_the_lock) {
  uint32_t mine;
  ck_assert_int_eq(open_cell(&mine), 0);
  ledger->cells[mine].accepted = 5;
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(hold_lock, NULL);
  support_until(&flags[0]);
  support_stop(child);
  ck_assert(!reap());
  ck_assert(!give_back(mine, 1));
  struct forkq__channel another = channel;
  forkq__account_init(&another.account);
  another.account.liveness.memory_fd = liveness->memory_fd;
  another.account.liveness.identity = liveness->identity;
  ck_assert_int_eq(forkq__reap_and_claim(&another), FORKQ_TIMEDOUT);
  forkq__liveness_end(&another.account.liveness);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 5);
  /* What close could not do is left to those who find its life dropped. */
  forkq__account_close(account_here);
  ck_assert_uint_eq(ledger->cells[mine].state, USED);
  support_kill_and_wait(child);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
  ck_assert_uint_eq(ledger->cells[mine].state, FREE);
}
END_TEST

/* ---- many that reap ---------------------------------------------------------------- */

#define ASKERS 5
#define ROUNDS_MAX 200

static void ask(void *arg) {
  (void)arg;
  reap();
  atomic_fetch_add(&flags[0], 1);
}

static void until_asleep_or_gone(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  for (char state = 'R'; state != 'S' && state != 'Z'; state = support_state_in(path))
    usleep(100);
}

/* How many waited for the lock, and how many reaps it took then. */
static int reap_at_once(uint64_t *ret_reaps) {
  pid_t children[ASKERS];
  atomic_store(&flags[0], 0);
  ck_assert_int_eq(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL),
                   0);
  uint64_t before = ledger->reaps_begun;
  for (int i = 0; i < ASKERS; i++)
    children[i] = support_fork(ask, NULL);
  for (int i = 0; i < ASKERS; i++)
    until_asleep_or_gone(children[i]);
  int waiting = ASKERS - atomic_load(&flags[0]);
  forkq__lock_release(&ledger->lock);
  for (int i = 0; i < ASKERS; i++)
    ck_assert_int_eq(support_wait(children[i]), 0);
  *ret_reaps = ledger->reaps_begun - before;
  return waiting;
}

/* They wait for a tenth of a second, so on a slow machine some may have given up. */
START_TEST(one_reap_serves_all_who_wait_for_it) {
  int good = 0;
  for (int i = 0; i < ROUNDS_MAX && good < 10; i++) {
    uint64_t reaps;
    int waiting = reap_at_once(&reaps);
    ck_assert_uint_le(reaps, 2);
    good += waiting == ASKERS && reaps > 0;
  }
  ck_assert_int_eq(good, 10);
}
END_TEST

/* One that began before may have passed by who has died since. */
START_TEST(who_asks_when_no_reap_is_under_way_gets_one) {
  for (uint64_t i = 1; i <= 3; i++) {
    reap();
    ck_assert_uint_eq(ledger->reaps_begun, i);
    ck_assert_uint_eq(ledger->reaps_ended, i);
  }
}
END_TEST

/* ---- heirs ------------------------------------------------------------------------- */

static uint64_t taken_over; /* UINT64_MAX: it was not asked */

static void note_count(void *arg, uint64_t count) {
  support_assert(arg == &taken_over);
  support_assert(taken_over == UINT64_MAX);
  taken_over = count;
}

/* Of `due` messages that there were when it had given back `returned`. */
static int inherit_since(uint64_t due, uint64_t returned) {
  struct forkq__estate estate = {
    .cell = 0, .owner = ledger->cells[0].owners, .due = due, .returned = returned
  };
  taken_over = UINT64_MAX;
  return forkq__reap_take_over(&channel, &estate, note_count, &taken_over);
}

static int inherit(uint64_t due) {
  return inherit_since(due, 0);
}

START_TEST(nothing_is_taken_over_from_the_living) {
  pid_t parent = start((struct account){ .cell = 0, .accepted = 5, .sent = 2 });
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  support_stop(parent);
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->cells[0].returned, 0);
  ck_assert_uint_eq(ledger->cells[0].state, USED);
  support_kill_and_wait(parent);
}
END_TEST

START_TEST(what_the_dead_had_not_sent_is_taken_over_once) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(ledger->cells[0].returned, 3);
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 0);
  ck_assert_uint_eq(ledger->cells[0].state, FREE);
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert(!reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

/* What the parent put after the fork, the child has not. */
START_TEST(what_is_not_due_is_lost) {
  support_kill_and_wait(start((struct account){ .accepted = 9, .sent = 2 }));
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(ledger->returned, 7);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 4);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

START_TEST(what_was_sent_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 7, .sent = 5 }));
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_int_eq(inherit(4), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  /* The rest is whoever's who reaps. */
  ck_assert_uint_eq(ledger->cells[0].state, USED);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 2);
}
END_TEST

START_TEST(what_is_in_doubt_is_not_taken_over_before_it_is_known) {
  static const uint64_t counts[] = { 6, 3 }; /* it had not been sent; it had */
  for (int sent = 0; sent < 2; sent++) {
    dead_in_write();
    verdict = FORKQ__UNKNOWN;
    ck_assert_int_eq(inherit(10), FORKQ__BUSY);
    ck_assert_uint_eq(taken_over, UINT64_MAX);
    verdict = sent ? FORKQ__SENT : FORKQ__NOT_SENT;
    ck_assert_int_eq(inherit(10), 0);
    ck_assert_uint_eq(taken_over, counts[sent]);
    ck_assert_uint_eq(ledger->cells[0].state, FREE);
    memset(&ledger->cells[0], 0, sizeof ledger->cells[0]);
    ledger->returned = 0;
  }
}
END_TEST

/* The packet in doubt was the last that was due. */
START_TEST(what_proves_to_be_sent_is_not_taken_over) {
  dead_in_write();
  verdict = FORKQ__SENT;
  ck_assert_int_eq(inherit(7), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 3);
  ck_assert_uint_eq(ledger->cells[0].state, FREE);
}
END_TEST

START_TEST(the_slot_at_the_death_is_not_taken_over) {
  struct forkq__cell *cell = &ledger->cells[0];
  ledger->cells_used = 1;
  *cell = (struct forkq__cell){
    .state = USED, .accepted = 5, .sent = 2, .try_base = 5, .try_count = 21
  };
  ledger->word = UINT64_C(21) << FORKQ__CELL_BITS | 1;
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
  ck_assert_uint_eq(cell->accepted, 6);
  ck_assert_uint_eq(forkq__ledger_lost(ledger), 1);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

START_TEST(another_owner_s_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  ledger->cells[0].owners = 2;
  taken_over = UINT64_MAX;
  ck_assert_int_eq(forkq__reap_take_over(&channel, &estate, note_count, &taken_over),
                   FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->cells[0].returned, 0);
}
END_TEST

START_TEST(what_others_have_given_back_is_not_taken_over) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert(reap());
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->returned, 3);
}
END_TEST

/* They have given back all but what was in doubt. */
START_TEST(what_others_have_begun_to_give_back_is_not_taken_over) {
  dead_in_write();
  verdict = FORKQ__UNKNOWN;
  ck_assert(reap());
  ck_assert_uint_eq(ledger->cells[0].state, DEAD);
  verdict = FORKQ__SENT;
  ck_assert_int_eq(inherit(10), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  reap();
  ck_assert_uint_eq(forkq__ledger_size(ledger), 7);
}
END_TEST

/* The account stays open for what the dead may have been getting. */
START_TEST(of_two_heirs_one_takes_over) {
  reads_settled = false;
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  taken_over = UINT64_MAX;
  ck_assert_int_eq(forkq__reap_take_over(&channel, &estate, note_count, &taken_over), 0);
  ck_assert_uint_eq(ledger->cells[0].state, DEAD);
  ck_assert_int_eq(inherit(5), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  ck_assert_uint_eq(ledger->returned, 3);
}
END_TEST

/* It was told that it could not be sent, and its slot was given back. */
START_TEST(what_the_parent_gave_up_is_not_taken_over) {
  support_kill_and_wait(
      start((struct account){ .accepted = 5, .sent = 2, .returned = 1 }));
  ck_assert_int_eq(inherit_since(5, 1), 0);
  ck_assert_uint_eq(taken_over, 2);
  ck_assert_uint_eq(ledger->returned, 3);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
}
END_TEST

/* Which of those that the heir has it was, nobody knows. */
START_TEST(nothing_is_taken_over_where_the_parent_gave_up_one_meanwhile) {
  support_kill_and_wait(
      start((struct account){ .accepted = 5, .sent = 2, .returned = 1 }));
  ck_assert_int_eq(inherit_since(5, 0), FORKQ__NOTHING);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
}
END_TEST

START_TEST(nobody_waits_for_the_lock_to_inherit) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(hold_lock, NULL);
  support_until(&flags[0]);
  support_stop(child);
  ck_assert_int_eq(inherit(5), FORKQ__BUSY);
  ck_assert_uint_eq(taken_over, UINT64_MAX);
  support_kill_and_wait(child);
  ck_assert_int_eq(inherit(5), 0);
  ck_assert_uint_eq(taken_over, 3);
}
END_TEST

static void accept_and_die(void *arg, uint64_t count) {
  atomic_fetch_add(&ledger->cells[*(const uint32_t *)arg].accepted, count);
  raise(SIGKILL);
}

static void inherit_and_die(void *arg) {
  (void)arg;
  uint32_t index;
  struct forkq__estate estate = { .cell = 0, .owner = 1, .due = 5 };
  liveness->spared = 0;
  CHILD_MUST(open_cell(&index) == 0);
  CHILD_MUST(index == 1);
  (void)forkq__reap_take_over(&channel, &estate, accept_and_die, &index);
}

/* Both the slots of the dead and those of its heir are given back. */
START_TEST(an_heir_s_death_leaves_both_accounts_to_others) {
  support_kill_and_wait(start((struct account){ .accepted = 5, .sent = 2 }));
  ck_assert_int_eq(support_wait(support_fork(inherit_and_die, NULL)), 128 + SIGKILL);
  ck_assert_uint_eq(ledger->cells[1].accepted, 3);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  ck_assert(ledger->cells[0].state == FREE && ledger->cells[1].state == FREE);
}
END_TEST

/* ---- numbers ----------------------------------------------------------------------- */

START_TEST(the_size_is_never_below_zero) {
  ledger->taken = 5;
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

START_TEST(what_is_returned_is_not_held) {
  pid_t child = start((struct account){ .cell = 0, .accepted = 5, .sent = 1 });
  ck_assert(give_back(0, 2));
  ck_assert_uint_eq(forkq__ledger_held(ledger, 0), 2);
  ck_assert_uint_eq(forkq__ledger_size(ledger), 3);
  ledger->taken = 1;
  ck_assert_uint_eq(forkq__ledger_size(ledger), 2);
  support_kill_and_wait(child);
  ck_assert(reap());
  ck_assert_uint_eq(forkq__ledger_size(ledger), 0);
}
END_TEST

static void add_cases_of_cells(Suite *suite) {
  TCase *tcase = tcase_create("cells");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, each_process_has_a_cell_of_its_own);
  tcase_add_test(tcase, a_cell_is_used_again_and_again);
  tcase_add_test(tcase, a_dead_process_s_cell_is_used_again);
  tcase_add_test(tcase, a_closed_cell_is_no_longer_alive_and_its_items_come_back);
  tcase_add_test(tcase, one_process_more_than_cells_is_too_many);
  tcase_add_test(tcase, open_looks_for_the_dead_before_it_gives_up);
  tcase_add_test(tcase, a_free_cell_whose_life_another_has_is_passed_over);
  tcase_add_test(tcase, a_free_cell_whose_tasks_another_has_is_passed_over);
  tcase_add_test(tcase, the_size_is_never_below_zero);
  tcase_add_test(tcase, what_is_returned_is_not_held);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_death(Suite *suite) {
  TCase *tcase = tcase_create("death");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, what_a_killed_process_held_comes_back_exactly);
  tcase_add_test(tcase, who_exits_without_close_is_dead_as_well);
  tcase_add_test(tcase, a_zombie_is_dead);
  tcase_add_test(tcase, a_stopped_process_lives);
  tcase_add_test(tcase, one_s_own_cell_lives);
  tcase_add_test(tcase, where_the_kernel_cannot_say_nobody_is_dead);
  tcase_add_test(tcase, a_forked_child_does_not_keep_its_parent_s_cell_alive);
  tcase_add_test(tcase, a_close_of_another_descriptor_of_the_file_changes_nothing);
  tcase_add_test(tcase, a_return_that_was_cut_in_two_is_completed);
  tcase_add_test(tcase, a_reaper_s_death_leaves_the_reaping_to_the_next);
  tcase_add_test(tcase, nobody_waits_for_a_stopped_owner_of_the_lock);
  tcase_add_test(tcase, one_reap_serves_all_who_wait_for_it);
  tcase_add_test(tcase, who_asks_when_no_reap_is_under_way_gets_one);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_faults(Suite *suite) {
  TCase *tcase = tcase_create("faults");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, why_a_life_cannot_be_had_is_told_as_it_is, 0, 2);
  tcase_add_test(tcase, a_life_that_another_has_is_no_failure);
  tcase_add_test(tcase, a_signal_in_the_claim_is_no_failure);
  tcase_add_test(tcase, nobody_is_dead_because_the_kernel_does_not_answer);
  tcase_add_test(tcase, the_first_get_and_put_fail_as_the_kernel_says);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_heirs(Suite *suite) {
  TCase *tcase = tcase_create("heirs");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, nothing_is_taken_over_from_the_living);
  tcase_add_test(tcase, what_the_dead_had_not_sent_is_taken_over_once);
  tcase_add_test(tcase, what_is_not_due_is_lost);
  tcase_add_test(tcase, what_was_sent_is_not_taken_over);
  tcase_add_test(tcase, what_is_in_doubt_is_not_taken_over_before_it_is_known);
  tcase_add_test(tcase, what_proves_to_be_sent_is_not_taken_over);
  tcase_add_test(tcase, the_slot_at_the_death_is_not_taken_over);
  tcase_add_test(tcase, another_owner_s_is_not_taken_over);
  tcase_add_test(tcase, what_others_have_given_back_is_not_taken_over);
  tcase_add_test(tcase, what_others_have_begun_to_give_back_is_not_taken_over);
  tcase_add_test(tcase, of_two_heirs_one_takes_over);
  tcase_add_test(tcase, what_the_parent_gave_up_is_not_taken_over);
  tcase_add_test(tcase, nothing_is_taken_over_where_the_parent_gave_up_one_meanwhile);
  tcase_add_test(tcase, nobody_waits_for_the_lock_to_inherit);
  tcase_add_test(tcase, an_heir_s_death_leaves_both_accounts_to_others);
  suite_add_tcase(suite, tcase);
}

static void add_cases_of_doubt(Suite *suite) {
  TCase *tcase = tcase_create("doubt");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, a_pending_packet_that_arrived_was_sent);
  tcase_add_test(tcase, a_pending_packet_that_cannot_come_was_not_sent);
  tcase_add_test(tcase, a_pending_packet_in_doubt_is_waited_for_the_rest_is_not);
  tcase_add_test(tcase, what_was_in_doubt_comes_back_when_it_cannot_come);
  tcase_add_test(tcase, a_cell_in_doubt_is_not_used_again);
  tcase_add_test(tcase, a_pending_packet_that_was_counted_is_counted_once);
  tcase_add_test(tcase, a_take_before_the_word_did_not_happen);
  tcase_add_test(tcase, a_take_that_lost_the_word_did_not_happen);
  tcase_add_test(tcase, a_take_that_the_word_names_did_happen);
  tcase_add_test(tcase, a_take_that_is_confirmed_did_happen);
  tcase_add_test(tcase, a_take_that_was_counted_is_counted_once);
  tcase_add_test(tcase, an_older_confirmation_says_nothing);
  suite_add_tcase(suite, tcase);
}

int main(void) {
  Suite *suite = suite_create("ledger");
  add_cases_of_cells(suite);
  add_cases_of_death(suite);
  add_cases_of_doubt(suite);
  add_cases_of_faults(suite);
  add_cases_of_heirs(suite);
  return support_main(suite);
}
