/* Killed at every system call, with strace(1): another tracer than steps.c, and a whole program,
 * from its exec to its exit. For each call by name, and each number, a process attaches to a
 * queue, uses it, and is killed at the call of that number; a survivor then goes on. */
#define _GNU_SOURCE
#include "queue_helpers.h"

#include <errno.h>
#include <forkq.h>
#include <forkq/handover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 5000
#define MAXSIZE 3
#define NAMES_MAX 64
#define KILLED (128 + SIGKILL)

/* Of the survivor's items, before and after; of the victim's. */
enum { FIRST = 1, OF_VICTIM = 10, AFTER = 20 };

/* ---- the victim ------------------------------------------------------------------------ */

static int live(const char *text) {
  forkq_queue_t *attached;
  uint64_t unsent;
  if (forkq_queue_attach(&attached, text, NULL) != 0 ||
      put_int(attached, OF_VICTIM, PATIENCE_MS) != 0 ||
      get_int(attached, PATIENCE_MS) != FIRST || forkq_queue_task_done(attached) != 0 ||
      put_int(attached, OF_VICTIM + 1, PATIENCE_MS) != 0 ||
      forkq_queue_join_thread(attached, 0, NULL) != FORKQ_ENOTCLOSED ||
      forkq_queue_close(attached) != 0 ||
      forkq_queue_join_thread(attached, -1, &unsent) != 0)
    return 1;
  forkq_queue_destroy(attached);
  return 0;
}

static char self[4096];

struct order {
  const char *inject; /* "trace=all": nothing is */
  char log[32];
};

static void run_strace(void *arg) {
  const struct order *order = arg;
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  CHILD_MUST(forkq_handover_keep(&handover) == 0);
  execlp("strace", "strace", "-f", "-qq", "-o", order->log, "-e", order->inject, self,
         "--victim", handover.text, (char *)NULL);
  _exit(errno == ENOENT ? 127 : 126);
}

/* Its exit status, or KILLED. */
static int run_victim(const char *inject, int log_fd) {
  struct order order = { .inject = inject, .log = "/dev/null" };
  if (log_fd >= 0)
    snprintf(order.log, sizeof order.log, "/proc/self/fd/%d", log_fd);
  return support_wait(support_fork(run_strace, &order));
}

/* ---- the survivor ---------------------------------------------------------------------- */

static void begin(void) {
  forkq_queue_options_t options = {
    .size = sizeof options,
    .maxsize = MAXSIZE,
    .joinable = 1,
  };
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
  ck_assert_int_eq(put_int(queue, FIRST, PATIENCE_MS), 0);
  support_until_threads_asleep(1); /* it is sent */
}

/* The survivor's first, unless the victim took it; then the victim's, in order. */
static void check_what_is_there(void) {
  int last = 0;
  while (forkq_queue_qsize(queue) > 0) {
    int number = (int)get_int(queue, PATIENCE_MS);
    ck_assert(number == FIRST || number == OF_VICTIM || number == OF_VICTIM + 1);
    ck_assert_int_gt(number, last);
    ck_assert(number != OF_VICTIM + 1 || last == OF_VICTIM);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
    last = number;
  }
}

static void check_that_it_goes_on(void) {
  for (int i = 0; i < MAXSIZE; i++)
    ck_assert_int_eq(put_int(queue, AFTER + i, 0), 0);
  ck_assert_int_eq(put_int(queue, AFTER + MAXSIZE, 0), FORKQ_FULL);
  for (int i = 0; i < MAXSIZE; i++) {
    ck_assert_int_eq(get_int(queue, PATIENCE_MS), AFTER + i);
    ck_assert_int_eq(forkq_queue_task_done(queue), 0);
  }
  int r = forkq_queue_join(queue, PATIENCE_MS, NULL);
  ck_assert(r == 0 || r == FORKQ_EABANDONED);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
}

static void end(void) {
  check_what_is_there();
  check_that_it_goes_on();
  forkq_queue_destroy(queue);
}

/* ---- each call ------------------------------------------------------------------------- */

static char names[NAMES_MAX][32];
static int name_count;

static void add_name(const char *name) {
  for (int i = 0; i < name_count; i++)
    if (strcmp(names[i], name) == 0)
      return;
  ck_assert_int_lt(name_count, NAMES_MAX);
  strcpy(names[name_count++], name);
}

/* The names of the calls that a victim makes that is left alone. */
static void find_names(void) {
  int fd = memfd_create("calls", 0);
  char line[4096], name[32];
  ck_assert_int_ge(fd, 0);
  begin();
  ck_assert_msg(run_victim("trace=all", fd) == 0,
                "strace does not run here; in a container, allow it with "
                "--cap-add=SYS_PTRACE");
  end();
  FILE *log = fdopen(fd, "r");
  rewind(log);
  while (fgets(line, sizeof line, log) != NULL)
    if (sscanf(line, "%*d %31[a-z0-9_](", name) == 1)
      add_name(name);
  fclose(log);
}

/* How often it was made, in one thread. */
static int kill_at_each(const char *name) {
  char inject[80];
  for (int when = 1;; when++) {
    snprintf(inject, sizeof inject, "inject=%.31s:signal=SIGKILL:when=%d", name, when);
    begin();
    int status = run_victim(inject, -1);
    ck_assert_msg(status == 0 || status == KILLED, "%s: status %d", inject, status);
    end();
    if (status == 0)
      return when - 1;
  }
}

START_TEST(at_each_call) {
  int kills = 0;
  int fds = support_open_fds();
  find_names();
  for (int i = 0; i < name_count; i++)
    kills += kill_at_each(names[i]);
  printf("killed at %d system calls, of %d kinds\n", kills, name_count);
  ck_assert_int_gt(name_count, 20);
  ck_assert_int_gt(kills, 80);
  ck_assert_int_eq(support_open_fds(), fds);
}
END_TEST

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "--victim") == 0)
    return live(arguments[2]);
  if (system("strace -V >/dev/null 2>&1") != 0)
    return 77; /* skipped */
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
    return EXIT_FAILURE;
  Suite *suite = suite_create("steps_calls");
  TCase *tcase = tcase_create("steps_calls");
  tcase_set_timeout(tcase, 300);
  tcase_add_test(tcase, at_each_call);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
