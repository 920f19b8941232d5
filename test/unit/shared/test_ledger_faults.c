/* The ledger where the kernel fails: a call that it refuses is no death, and is told as it is. */
#define _GNU_SOURCE
#include "base/os.h"
#include "ledger_accounts.h"
#include "queue_helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>

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

int main(void) {
  Suite *suite = suite_create("ledger_faults");
  TCase *tcase = tcase_create("faults");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, why_a_life_cannot_be_had_is_told_as_it_is, 0, 2);
  tcase_add_test(tcase, a_life_that_another_has_is_no_failure);
  tcase_add_test(tcase, a_signal_in_the_claim_is_no_failure);
  tcase_add_test(tcase, nobody_is_dead_because_the_kernel_does_not_answer);
  tcase_add_test(tcase, the_first_get_and_put_fail_as_the_kernel_says);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
