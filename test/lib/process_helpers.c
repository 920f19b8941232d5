#define _GNU_SOURCE
#include "base/os.h"
#include "queue/queue_impl.h"

#include "process_helpers.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

void assert_empty_and_works(void) {
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(put(i, -1), 0);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(get(10000), i);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

static void note(struct harvest *harvest, const forkq_item_t *item) {
  if (item->size == LARGE) {
    ck_assert(!harvest->large && harvest->numbers == 0 && is_bin(item, LARGE));
    harvest->large = true;
    return;
  }
  ck_assert_uint_eq(item->size, 1);
  ck_assert_int_eq(*(const char *)item->data, harvest->first + harvest->numbers);
  harvest->numbers++;
}

void gather(struct harvest *harvest) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int r;
  while ((r = forkq_queue_get_packed(queue, &item, 50)) == 0)
    note(harvest, &item);
  ck_assert_int_eq(r, FORKQ_TIMEDOUT);
  forkq_item_destroy(&item);
}

static bool has_ended(pid_t pid) {
  siginfo_t info = { .si_pid = 0 };
  ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
  return info.si_pid == pid;
}

void gather_until_its_end(struct harvest *harvest, pid_t pid) {
  bool over;
  do {
    over = has_ended(pid);
    gather(harvest);
  } while (!over);
}

void handle_signal(int signo, void (*handler)(int)) {
  struct sigaction action = { .sa_handler = handler };
  CHILD_MUST(sigaction(signo, &action, NULL) == 0);
}

void exit_now(int signo) {
  (void)signo;
  exit(0);
}

void send_all(void) {
  forkq__queue_send_own(queue, FORKQ__FOREVER);
  support_until_others_asleep();
}
