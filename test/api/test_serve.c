/* Served queues: names that are free, taken, or a dead server's, and what is left of them. */
#define _GNU_SOURCE
#include "serve_helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_BYTES 107

/* Called before a file gets its permissions: another user who may write to the directory is quicker. */
static void (*before_chmod)(void);

int __real_fchmodat(int at, const char *name, mode_t mode, int flags);
int __wrap_fchmodat(int at, const char *name, mode_t mode, int flags);
int __wrap_fchmodat(int at, const char *name, mode_t mode, int flags) {
  if (before_chmod != NULL)
    before_chmod();
  return __real_fchmodat(at, name, mode, flags);
}

static void assert_put_comes(int value) {
  ck_assert_int_eq(get_int(queue, 10000), value);
}

/* ---- names --------------------------------------------------------------------------------- */

static void exec_client(void *arg) {
  execl("/proc/self/exe", "client", (const char *)arg, NULL);
  _exit(127);
}

/* The client gets one number and puts another. */
static void assert_meets_client(char *name) {
  pid_t child = support_fork(exec_client, name);
  int64_t got = 42;
  while (got == 42) {
    ck_assert_int_eq(put_int(queue, 42, -1), 0);
    usleep(1000);
    got = get_int(queue, 10000);
  }
  ck_assert_int_eq(got, 41);
  ck_assert_int_eq(support_wait(child), 0);
}

START_TEST(a_program_that_knows_only_the_name_has_the_queue) {
  assert_meets_client(path);
}
END_TEST

START_TEST(an_abstract_name_is_in_no_file_system) {
  char name[64];
  forkq_server_t *other = NULL;
  snprintf(name, sizeof name, "@forkq-test-%d", (int)getpid());
  ck_assert_int_eq(forkq_queue_serve(&server, queue, name, NULL), 0);
  ck_assert_int_eq(forkq_queue_serve(&other, queue, name, NULL), FORKQ_EINUSE);
  assert_meets_client(name);
  forkq_server_destroy(server);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, name, NULL), 0);
  ck_assert_int_eq(names(), 0);
}
END_TEST

/* A name with so many bytes, which begins with the directory or with an '@'. */
static const char *long_name(bool is_abstract, size_t size) {
  static char name[200];
  int n = is_abstract ? snprintf(name, sizeof name, "@%d", (int)getpid())
                      : snprintf(name, sizeof name, "%s/", directory);
  memset(name + n, 'x', sizeof name - (size_t)n);
  name[size + is_abstract] = '\0';
  return name;
}

START_TEST(a_name_has_at_most_107_bytes) {
  bool is_abstract = _i != 0;
  forkq_queue_t *other = NULL;
  const char *name = long_name(is_abstract, NAME_MAX_BYTES + 1);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, name, NULL), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_connect(&other, name, 0, NULL), FORKQ_ERANGE);
  for (size_t size = NAME_MAX_BYTES - 1; size <= NAME_MAX_BYTES; size++) {
    name = long_name(is_abstract, size);
    ck_assert_int_eq(forkq_queue_serve(&server, queue, name, NULL), 0);
    ck_assert_int_eq(forkq_queue_connect(&other, name, 10000, NULL), FORKQ_ETWICE);
    forkq_server_destroy(server);
  }
  server = NULL;
}
END_TEST

START_TEST(a_name_that_is_none_is_refused) {
  static const char *const bad[] = { "", "@", "/", "/tmp/" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    ck_assert_int_eq(forkq_queue_serve(&server, queue, bad[i], NULL), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, "/no such directory/x", NULL),
                   -ENOENT);
  ck_assert_ptr_null(server);
}
END_TEST

START_TEST(a_path_may_begin_anywhere) {
  ck_assert_int_eq(chdir(directory), 0);
  static const char *const names_here[] = { "queue", "./queue", "./@queue",
                                            ".././queue" };
  for (size_t i = 0; i < 3; i++) {
    ck_assert_int_eq(forkq_queue_serve(&server, queue, names_here[i], NULL), 0);
    ck_assert_int_eq(names(), 1);
    ck_assert_int_eq(chdir("/"), 0);
    forkq_server_destroy(server);
    ck_assert_int_eq(names(), 0);
    ck_assert_int_eq(chdir(directory), 0);
  }
  server = NULL;
  ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

/* ---- names that are in use ----------------------------------------------------------------- */

START_TEST(the_name_of_a_server_that_lives_is_not_taken) {
  forkq_server_t *other = NULL;
  int value = 5;
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(forkq_queue_serve(&other, queue, path, NULL), FORKQ_EINUSE);
  ck_assert_ptr_null(other);
  pid_t child = support_fork(connect_and_put, &value);
  assert_put_comes(5);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* It accepts nobody, and the line of those who wait is full. */
START_TEST(a_server_that_is_stopped_or_busy_lives) {
  int listener = raw_listen(path, SOCK_STREAM, 0);
  int first = raw_connect(path);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), FORKQ_EINUSE);
  close(first);
  close(listener);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(what_is_no_socket_of_a_stream_stays) {
  int file = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  ck_assert_int_ge(file, 0);
  close(file);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), -EEXIST);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(symlink("/nowhere", path), 0);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), -EEXIST);
  ck_assert_int_eq(unlink(path), 0);
  int other = raw_listen(path, SOCK_DGRAM, 0);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), FORKQ_EINUSE);
  close(other);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_ptr_null(server);
}
END_TEST

static char victim[sizeof path + 8];

static void replace_by_link(void) {
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(symlink(victim, path), 0);
}

START_TEST(a_link_in_the_place_of_the_socket_gives_nothing_away) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  struct stat status;
  snprintf(victim, sizeof victim, "%s.victim", path);
  int file = open(victim, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  ck_assert_int_ge(file, 0);
  options.by_group = 1;
  options.group = getegid();
  before_chmod = replace_by_link;
  ck_assert_int_lt(forkq_queue_serve(&server, queue, path, &options), 0);
  ck_assert_int_eq(fstat(file, &status), 0);
  ck_assert_uint_eq(status.st_mode & 0777, 0600);
  close(file);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(unlink(victim), 0);
}
END_TEST

static void serve_and_wait(void *arg) {
  _Atomic int *is_serving = arg;
  CHILD_MUST(forkq_queue_serve(&server, queue, path, NULL) == 0);
  atomic_store(is_serving, 1);
  pause();
}

/* A server is killed: the socket stays, and refuses. */
static void leave_dead_socket(void) {
  _Atomic int *is_serving = support_shared(sizeof *is_serving);
  forkq_queue_t *other = NULL;
  pid_t child = support_fork(serve_and_wait, is_serving);
  support_until(is_serving);
  support_kill_and_wait(child);
  ck_assert_int_eq(names(), 1);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), -ECONNREFUSED);
}

START_TEST(the_socket_of_a_killed_server_is_replaced) {
  int value = 6;
  leave_dead_socket();
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), 0);
  ck_assert_int_eq(names(), 1);
  pid_t child = support_fork(connect_and_put, &value);
  assert_put_comes(6);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* The server had a child, which lives. */
struct family {
  _Atomic int is_serving, has_child;
  pid_t grandchild;
};

static void wait_for_ever(void *arg) {
  struct family *family = arg;
  family->grandchild = getpid();
  atomic_store(&family->has_child, 1);
  pause();
}

static void serve_and_fork(void *arg) {
  struct family *family = arg;
  CHILD_MUST(forkq_queue_serve(&server, queue, path, NULL) == 0);
  if (fork() == 0)
    wait_for_ever(family);
  atomic_store(&family->is_serving, 1);
  pause();
}

START_TEST(a_child_of_a_killed_server_does_not_keep_the_name) {
  struct family *family = support_shared(sizeof *family);
  pid_t child = support_fork(serve_and_fork, family);
  support_until(&family->is_serving);
  support_until(&family->has_child);
  support_kill_and_wait(child);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), 0);
  kill(family->grandchild, SIGKILL);
}
END_TEST

#define SERVERS 8
#define ROUNDS 25

struct race {
  _Atomic int ready[SERVERS], go, won, lost, may_end;
};

static void race_for_name(void *arg) {
  struct race *race = arg;
  int number = 0;
  while (atomic_exchange(&race->ready[number], 1) != 0)
    number++;
  while (atomic_load(&race->go) == 0)
    ;
  int r = forkq_queue_serve(&server, queue, path, NULL);
  CHILD_MUST(r == 0 || r == FORKQ_EINUSE);
  atomic_fetch_add(r == 0 ? &race->won : &race->lost, 1);
  while (atomic_load(&race->may_end) == 0)
    usleep(1000);
  _exit(0); /* without exit's handlers: the socket stays */
}

START_TEST(of_servers_that_replace_a_dead_one_at_the_same_time_one_gets_the_name) {
  struct race *race = support_shared(sizeof *race);
  pid_t children[SERVERS];
  leave_dead_socket();
  for (int round = 0; round < ROUNDS; round++) {
    *race = (struct race){ .go = 0 };
    for (int i = 0; i < SERVERS; i++)
      children[i] = support_fork(race_for_name, race);
    for (int i = 0; i < SERVERS; i++)
      support_until(&race->ready[i]);
    atomic_store(&race->go, 1);
    while (atomic_load(&race->won) + atomic_load(&race->lost) < SERVERS)
      usleep(100);
    ck_assert_int_eq(atomic_load(&race->won), 1);
    ck_assert_int_eq(names(), 1);
    /* And its clients reach it: it has not lost the name again. */
    forkq_queue_t *other = NULL;
    ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), FORKQ_ETWICE);
    atomic_store(&race->may_end, 1);
    for (int i = 0; i < SERVERS; i++)
      ck_assert_int_eq(support_wait(children[i]), 0);
  }
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

static int lock_directory(void) {
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
  return fd;
}

static void *serve_on_thread(void *arg) {
  *(int *)arg = forkq_queue_serve(&server, queue, path, NULL);
  return NULL;
}

START_TEST(a_server_waits_for_one_that_is_taking_a_name) {
  pthread_t thread;
  int r = 1, fd = lock_directory();
  ck_assert_int_eq(pthread_create(&thread, NULL, serve_on_thread, &r), 0);
  support_until_threads_asleep(1);
  ck_assert_int_eq(names(), 0);
  close(fd);
  support_join(thread);
  ck_assert_int_eq(r, 0);
}
END_TEST

START_TEST(a_server_does_not_wait_for_ever_for_the_lock_of_a_directory) {
  int fd = lock_directory();
  int64_t begin = support_now_ms();
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), FORKQ_TIMEDOUT);
  ck_assert_int_ge(support_now_ms() - begin, 5000);
  ck_assert_int_eq(names(), 0);
  close(fd);
}
END_TEST

/* ---- the end of a name --------------------------------------------------------------------- */

START_TEST(the_path_goes_with_its_server) {
  ck_assert_int_eq(names(), 1);
  forkq_server_destroy(server);
  server = NULL;
  ck_assert_int_eq(names(), 0);
  forkq_queue_t *other = NULL;
  ck_assert_int_eq(forkq_queue_connect(&other, path, 10000, NULL), -ENOENT);
}
END_TEST

static void serve_and_exit(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_queue_serve(&server, queue, path, NULL) == 0);
  exit(0);
}

START_TEST(exit_removes_the_path) {
  ck_assert_int_eq(support_wait(support_fork(serve_and_exit, NULL)), 0);
  ck_assert_int_eq(names(), 0);
}
END_TEST

static void destroy_server(void *arg) {
  (void)arg;
  CHILD_MUST(forkq_server_turn(server) == FORKQ_EFORKED);
  CHILD_MUST(forkq_server_fileno(server) == FORKQ_EFORKED);
  forkq_server_destroy(server);
}

static void exit_with_server(void *arg) {
  (void)arg;
  exit(0);
}

START_TEST(a_child_neither_serves_nor_removes_the_path) {
  int value = 7;
  ck_assert_int_eq(support_wait(support_fork(destroy_server, NULL)), 0);
  ck_assert_int_eq(names(), 1);
  ck_assert_int_eq(support_wait(support_fork(exit_with_server, NULL)), 0);
  ck_assert_int_eq(names(), 1);
  pid_t child = support_fork(connect_and_put, &value);
  assert_put_comes(7);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

START_TEST(a_path_that_has_become_another_servers_stays) {
  forkq_server_t *other = NULL;
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(forkq_queue_serve(&other, queue, path, NULL), 0);
  forkq_server_destroy(server);
  ck_assert_int_eq(names(), 1);
  server = other;
}
END_TEST

/* ---- a socket of the program --------------------------------------------------------------- */

START_TEST(a_socket_that_listens_already_is_served_and_stays) {
  int value = 8, listener = raw_listen(path, SOCK_STREAM, 10);
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  options.socket = listener;
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_queue_serve(&server, queue, NULL, &options), 0);
    pid_t child = support_fork(connect_and_put, &value);
    assert_put_comes(8);
    ck_assert_int_eq(support_wait(child), 0);
    forkq_server_destroy(server);
  }
  server = NULL;
  /* Who connects meanwhile waits for the next server. */
  close(raw_connect(path));
  close(listener);
  ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(a_socket_that_does_not_listen_is_refused) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  int pair[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  options.socket = pair[0];
  ck_assert_int_eq(forkq_queue_serve(&server, queue, NULL, &options), -EINVAL);
  ck_assert_int_eq(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), FORKQ_ERANGE);
  options.socket = -1;
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), FORKQ_ERANGE);
  close(pair[0]);
  close(pair[1]);
}
END_TEST

/* ---- errors -------------------------------------------------------------------------------- */

START_TEST(errors) {
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  forkq_connect_options_t how = FORKQ_CONNECT_OPTIONS_INIT;
  forkq_queue_options_t wrong = FORKQ_QUEUE_OPTIONS_INIT;
  forkq_queue_t *other = NULL;
  ck_assert_int_eq(forkq_queue_serve(NULL, queue, path, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_serve(&server, NULL, path, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, NULL, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_server_fileno(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_server_turn(NULL), FORKQ_ENULL);
  forkq_server_destroy(NULL);
  options.size--;
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, &options), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_connect(NULL, path, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_connect(&other, NULL, 0, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_queue_connect(&other, path, -2, NULL), FORKQ_ETIMEOUT);
  ck_assert_int_eq(forkq_queue_connect(&other, "", 0, NULL), FORKQ_ERANGE);
  how.size += sizeof(void *);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 0, &how), FORKQ_ERANGE);
  how.size = sizeof how;
  how.queue = &wrong;
  wrong.size = 1;
  ck_assert_int_eq(forkq_queue_connect(&other, path, 0, &how), FORKQ_ERANGE);
  ck_assert_int_eq(forkq_queue_connect(&other, path, 0, NULL), -ENOENT);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), FORKQ_ECLOSED);
  ck_assert_ptr_null(server);
  ck_assert_ptr_null(other);
}
END_TEST

START_TEST(a_server_with_a_thread_takes_no_turns) {
  ck_assert_int_eq(forkq_server_turn(server), -EINVAL);
}
END_TEST

/* The other program: see exec_client. */
static int client(const char *name) {
  forkq_queue_t *connected;
  if (forkq_queue_connect(&connected, name, 20000, NULL) != 0)
    return 2;
  if (get_int(connected, 20000) != 42 || put_int(connected, 41, -1) != 0)
    return 3;
  forkq_queue_destroy(connected);
  return 0;
}

static Suite *make_suite(void) {
  Suite *suite = suite_create("serve");
  TCase *served = tcase_create("served");
  tcase_add_checked_fixture(served, served_set_up, serve_tear_down);
  tcase_set_timeout(served, 120);
  tcase_add_test(served, a_program_that_knows_only_the_name_has_the_queue);
  tcase_add_test(served, the_name_of_a_server_that_lives_is_not_taken);
  tcase_add_test(served, the_path_goes_with_its_server);
  tcase_add_test(served, a_child_neither_serves_nor_removes_the_path);
  tcase_add_test(served, a_path_that_has_become_another_servers_stays);
  tcase_add_test(served, a_server_with_a_thread_takes_no_turns);
  suite_add_tcase(suite, served);
  TCase *free = tcase_create("free");
  tcase_add_checked_fixture(free, serve_set_up, serve_tear_down);
  tcase_set_timeout(free, 120);
  tcase_add_test(free, an_abstract_name_is_in_no_file_system);
  tcase_add_loop_test(free, a_name_has_at_most_107_bytes, 0, 2);
  tcase_add_test(free, a_name_that_is_none_is_refused);
  tcase_add_test(free, a_path_may_begin_anywhere);
  tcase_add_test(free, a_server_that_is_stopped_or_busy_lives);
  tcase_add_test(free, what_is_no_socket_of_a_stream_stays);
  tcase_add_test(free, a_link_in_the_place_of_the_socket_gives_nothing_away);
  tcase_add_test(free, the_socket_of_a_killed_server_is_replaced);
  tcase_add_test(free, a_child_of_a_killed_server_does_not_keep_the_name);
  tcase_add_test(free,
                 of_servers_that_replace_a_dead_one_at_the_same_time_one_gets_the_name);
  tcase_add_test(free, a_server_waits_for_one_that_is_taking_a_name);
  tcase_add_test(free, exit_removes_the_path);
  tcase_add_test(free, a_socket_that_listens_already_is_served_and_stays);
  tcase_add_test(free, a_socket_that_does_not_listen_is_refused);
  tcase_add_test(free, errors);
  suite_add_tcase(suite, free);
  TCase *slow = tcase_create("slow"); /* it waits for 5 s */
  tcase_add_checked_fixture(slow, serve_set_up, serve_tear_down);
  tcase_set_timeout(slow, 120);
  tcase_add_test(slow, a_server_does_not_wait_for_ever_for_the_lock_of_a_directory);
  suite_add_tcase(suite, slow);
  return suite;
}

int main(int argc, char **argv) {
  return argc > 1 && strcmp(argv[0], "client") == 0 ? client(argv[1])
                                                    : support_main(make_suite());
}
