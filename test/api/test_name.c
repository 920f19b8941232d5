/* The name of a queue: in the lists of the system and in the log, of every process that has the queue. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONGEST "abcdefghijklmnopqrstuvwxyz-._09" /* FORKQ_NAME_MAX characters */
#define PATIENCE_MS 10000

static void set_up(void) {
  fds_before = support_open_fds();
}

static int create(const char *name) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = 10;
  options.name = name;
  return forkq_queue_create_with(&queue, &options);
}

/* Whether a mapping of this process ends with this. */
static bool is_mapped(const char *name) {
  char *line = NULL;
  size_t size = 0;
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (!found && getline(&line, &size, maps) > 0) {
    const char *path = strchr(line, '/');
    found = path != NULL && strcmp(path, name) == 0;
  }
  fclose(maps);
  free(line);
  return found;
}

START_TEST(the_system_shows_it) {
  static const struct {
    const char *name, *path;
  } cases[] = {
    { NULL, "/memfd:forkq (deleted)\n" },
    { "", "/memfd:forkq (deleted)\n" },
    { "a", "/memfd:forkq:a (deleted)\n" },
    { "Jobs.2_b-", "/memfd:forkq:Jobs.2_b- (deleted)\n" },
    { LONGEST, "/memfd:forkq:" LONGEST " (deleted)\n" },
  };
  char copy[64] = "";
  if (cases[_i].name != NULL)
    strcpy(copy, cases[_i].name);
  ck_assert_int_eq(create(cases[_i].name != NULL ? copy : NULL), 0);
  memset(copy, 'x', sizeof copy); /* it was copied */
  ck_assert(is_mapped(cases[_i].path));
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
}
END_TEST

START_TEST(another_name_is_refused) {
  static const char *const names[] = { LONGEST "x", "a b",      "a/b", "a:b",
                                       "a\n",       "\xc3\xa4", "%s" };
  ck_assert_uint_eq(strlen(LONGEST), FORKQ_NAME_MAX);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    queue = NULL;
    ck_assert_msg(create(names[i]) == FORKQ_ERANGE, "%s", names[i]);
    ck_assert_ptr_null(queue);
  }
}
END_TEST

/* ---- the log -------------------------------------------------------------------------------- */

static char logged[8][256];
static int count;

static void keep(forkq_log_level_t level, const char *message, void *arg) {
  (void)level;
  (void)arg;
  if (count < 8)
    snprintf(logged[count++], sizeof logged[0], "%s", message);
}

static void die_with_a_lock(void *arg) {
  (void)arg;
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
  CHILD_MUST(put_bin(1 << 20, 0) == 0); /* more than the pipe holds */
  support_until_pipe_full(queue);
  CHILD_MUST(pthread_mutex_lock(&queue->segment->ledger.lock.mutex) == 0);
  _exit(0);
}

static char lost[80]; /* what is logged of the item */

/* Kills a process that has a lock and an item, and lets others find it. */
static void recover(void) {
  count = 0;
  forkq_log_set(keep, NULL);
  pid_t pid = support_fork(die_with_a_lock, NULL);
  ck_assert_int_eq(support_wait(pid), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  (void)snprintf(lost, sizeof lost, "lost 1 item of process %d, which died", (int)pid);
}

START_TEST(the_log_names_it) {
  ck_assert_int_eq(create("jobs"), 0);
  recover();
  ck_assert_int_eq(count, 2);
  ck_assert_str_eq(logged[0], "jobs: recovered a lock whose owner died");
  ck_assert_int_eq(strncmp(logged[1], "jobs: ", 6), 0);
  ck_assert_str_eq(logged[1] + 6, lost);
}
END_TEST

START_TEST(without_one_the_log_is_as_it_was) {
  ck_assert_int_eq(create(NULL), 0);
  recover();
  ck_assert_int_eq(count, 2);
  ck_assert_str_eq(logged[0], "recovered a lock whose owner died");
  ck_assert_str_eq(logged[1], lost);
}
END_TEST

/* A program that gets the queue over a socket, and has options of its own. */
static int sockets[2];

static void receive(void *arg) {
  (void)arg;
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.name = "another";
  CHILD_MUST(forkq_queue_receive(&queue, sockets[1], &options) == 0);
  CHILD_MUST(is_mapped("/memfd:forkq:jobs (deleted)\n"));
  CHILD_MUST(strcmp(queue->segment->ledger.name, "jobs") == 0);
  forkq_queue_destroy(queue);
}

START_TEST(a_handover_keeps_it) {
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  pid_t child = support_fork(receive, NULL);
  ck_assert_int_eq(create("jobs"), 0);
  ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
  ck_assert_int_eq(support_wait(child), 0);
  close(sockets[0]);
  close(sockets[1]);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("name");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 60);
  tcase_add_checked_fixture(all, set_up, queue_tear_down);
  tcase_add_loop_test(all, the_system_shows_it, 0, 5);
  tcase_add_test(all, another_name_is_refused);
  tcase_add_test(all, the_log_names_it);
  tcase_add_test(all, without_one_the_log_is_as_it_was);
  tcase_add_test(all, a_handover_keeps_it);
  suite_add_tcase(suite, all);
  return support_main(suite);
}
