/* A connection with CPython's multiprocessing.connection.Connection at its other end, on
 * a descriptor that the interpreter inherits. Skipped where there is no python3.
 *
 * FORKQ_TEST_PYTHON may name another interpreter. */
#define _GNU_SOURCE
#include "connection_helpers.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SKIPPED 77

/* Of each size there is one message, whose bytes both sides can compute. */
static const size_t sizes[] = { 0, 1, 4092, 4093, 16384, 16385, 1 << 20, 16 << 20 };
#define SIZES (sizeof sizes / sizeof *sizes)

static const char preamble[] =
    "import sys, os\n"
    "from multiprocessing.connection import Connection\n"
    "from multiprocessing import reduction\n"
    "fd = int(sys.argv[1])\n"
    "sizes = [0, 1, 4092, 4093, 16384, 16385, 1 << 20, 16 << 20]\n"
    "def message(size, seed):\n"
    "    one = bytes(range(256))\n"
    "    return (one[seed:] + one * (size // 256 + 1))[:size]\n"
    "def ends(receive):\n"
    "    try:\n"
    "        receive()\n"
    "    except EOFError:\n"
    "        return True\n"
    "    return False\n";

static const char sends[] = "c = Connection(fd, readable=False)\n"
                            "for i, size in enumerate(sizes):\n"
                            "    c.send_bytes(message(size, i))\n"
                            "c.close()\n";

static const char receives[] = "c = Connection(fd, writable=False)\n"
                               "for i, size in enumerate(sizes):\n"
                               "    assert c.recv_bytes() == message(size, i), size\n"
                               "assert ends(c.recv_bytes)\n";

static const char echoes[] = "c = Connection(fd)\n"
                             "for size in sizes:\n"
                             "    c.send_bytes(c.recv_bytes())\n"
                             "assert ends(c.recv_bytes)\n";

static const char swaps_fds[] = "c = Connection(fd)\n"
                                "received = reduction.recv_handle(c)\n"
                                "os.write(received, b'from python')\n"
                                "os.lseek(received, 0, 0)\n"
                                "reduction.send_handle(c, received, os.getppid())\n"
                                "os.close(received)\n"
                                "assert ends(c.recv_bytes)\n";

static const char is_torn[] = "c = Connection(fd, writable=False)\n"
                              "try:\n"
                              "    c.recv_bytes()\n"
                              "except OSError as e:\n"
                              "    assert 'end of file during message' in str(e)\n"
                              "else:\n"
                              "    assert False\n";

static const char tears[] = "os.write(fd, b'\\0\\0\\0\\5')\n";

static const char *python(void) {
  const char *path = getenv("FORKQ_TEST_PYTHON");
  return path != NULL ? path : "python3";
}

/* The child of the two that the descriptor is for; the interpreter has nothing else of
 * it. */
struct run {
  const char *script;
  int fd;
};

static void run_python(void *arg) {
  const struct run *run = arg;
  char code[4096], number[16];
  snprintf(code, sizeof code, "%s%s", preamble, run->script);
  snprintf(number, sizeof number, "%d", run->fd);
  if (run->fd >= 0)
    CHILD_MUST(fcntl(run->fd, F_SETFD, 0) == 0);
  execlp(python(), python(), "-c", code, number, (char *)NULL);
  _exit(SKIPPED);
}

static forkq_connection_t *mine, *its;
static forkq_item_t item;

/* Gives `its` end to an interpreter with a script. */
static pid_t start(const char *script) {
  struct run run = { script, forkq_connection_fileno(its) };
  pid_t pid = support_fork(run_python, &run);
  forkq_connection_destroy(its);
  its = NULL;
  return pid;
}

/* Ends this side, which ends the script, which has to be content. */
static void finish(pid_t pid) {
  forkq_connection_destroy(mine);
  mine = NULL;
  reap(pid);
}

static void teardown(void) {
  forkq_connection_destroy(mine);
  forkq_connection_destroy(its);
  forkq_item_destroy(&item);
  check_descriptors();
}

static unsigned char byte_at(size_t place, size_t seed) {
  return (unsigned char)(place + seed);
}

static void send_message(size_t i) {
  unsigned char *data = malloc(sizes[i] + 1);
  ck_assert_ptr_nonnull(data);
  for (size_t at = 0; at < sizes[i]; at++)
    data[at] = byte_at(at, i);
  OK(forkq_connection_send_bytes(mine, data, sizes[i], 0, FORKQ_ALL));
  free(data);
}

static void recv_message(size_t i) {
  OK(forkq_connection_recv_bytes(mine, &item, FORKQ_ALL));
  ck_assert_uint_eq(item.size, sizes[i]);
  for (size_t at = 0; at < sizes[i]; at++)
    if ((unsigned char)item.data[at] != byte_at(at, i))
      ck_abort_msg("byte %zu of %zu differs", at, sizes[i]);
}

/* _i: over a pipe or a socket. */
START_TEST(python_sends) {
  OK(forkq_pipe(&mine, &its, _i));
  pid_t pid = start(sends);
  for (size_t i = 0; i < SIZES; i++)
    recv_message(i);
  CODE(forkq_connection_recv_bytes(mine, &item, FORKQ_ALL), FORKQ_EEOF);
  finish(pid);
}
END_TEST

START_TEST(python_receives) {
  OK(forkq_pipe(&its, &mine, _i));
  pid_t pid = start(receives);
  for (size_t i = 0; i < SIZES; i++)
    send_message(i);
  finish(pid);
}
END_TEST

START_TEST(python_echoes) {
  OK(forkq_pipe(&mine, &its, 1));
  pid_t pid = start(echoes);
  for (size_t i = 0; i < SIZES; i++) {
    send_message(i);
    recv_message(i);
  }
  finish(pid);
}
END_TEST

START_TEST(python_takes_and_gives_a_descriptor) {
  char content[16] = "";
  OK(forkq_pipe(&mine, &its, 1));
  pid_t pid = start(swaps_fds);
  int fd = memfd_create("test", MFD_CLOEXEC), back;
  ck_assert_int_ge(fd, 0);
  OK(forkq_connection_send_fd(mine, fd));
  OK(forkq_connection_recv_fd(mine, &back));
  ck_assert_int_eq(read(back, content, sizeof content), 11);
  ck_assert_str_eq(content, "from python");
  close(fd);
  close(back);
  finish(pid);
}
END_TEST

START_TEST(python_sees_a_torn_message) {
  OK(forkq_pipe(&its, &mine, 0));
  pid_t pid = start(is_torn);
  write_all(forkq_connection_fileno(mine), "\0\0\0\5hell", 8);
  finish(pid);
}
END_TEST

START_TEST(python_tears_between_header_and_body) {
  OK(forkq_pipe(&mine, &its, 0));
  pid_t pid = start(tears);
  CODE(forkq_connection_recv_bytes(mine, &item, FORKQ_ALL), FORKQ_ETORN);
  finish(pid);
}
END_TEST

/* Whether there is an interpreter that can import what the scripts need. */
static int have_python(void) {
  struct run run = { "", -1 };
  int status = 0;
  pid_t pid = fork();
  if (pid == 0)
    run_python(&run);
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

int main(void) {
  if (!have_python()) {
    printf("skipped: no python3 here to be the peer\n");
    return SKIPPED;
  }
  Suite *suite = suite_create("connection with CPython");
  TCase *tc = tcase_create("peer");
  tcase_add_checked_fixture(tc, count_descriptors, teardown);
  tcase_set_timeout(tc, 120);
  tcase_add_loop_test(tc, python_sends, 0, 2);
  tcase_add_loop_test(tc, python_receives, 0, 2);
  tcase_add_test(tc, python_echoes);
  tcase_add_test(tc, python_takes_and_gives_a_descriptor);
  tcase_add_test(tc, python_sees_a_torn_message);
  tcase_add_test(tc, python_tears_between_header_and_body);
  suite_add_tcase(suite, tc);
  return support_main(suite);
}
