/* What the system has no more of: descriptors, memory, threads, pages for pipes. Each is used
 * up for real, in a child of its own; then a call fails clearly, and goes well once there is
 * some again. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED 1
#else
#  define SANITIZED 0
#endif

static const msgpack_object one = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER,
                                    .via = { .u64 = 1 } };

static void run(void (*fn)(void *arg)) {
  ck_assert_int_eq(support_wait(support_fork(fn, NULL)), 0);
}

static void limit(__rlimit_resource_t resource, rlim_t value) {
  struct rlimit limits;
  CHILD_MUST(getrlimit(resource, &limits) == 0);
  limits.rlim_cur = value < limits.rlim_max ? value : limits.rlim_max;
  CHILD_MUST(setrlimit(resource, &limits) == 0);
}

static void no_limit(__rlimit_resource_t resource) {
  struct rlimit limits;
  CHILD_MUST(getrlimit(resource, &limits) == 0);
  limits.rlim_cur = limits.rlim_max;
  CHILD_MUST(setrlimit(resource, &limits) == 0);
}

/* Root has no limits of this kind. */
static void be_nobody(void) {
  if (geteuid() == 0)
    CHILD_MUST(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
               setresuid(65534, 65534, 65534) == 0);
}

static void works(forkq_queue_t *queue) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_put(queue, &one, 0) == 0);
  CHILD_MUST(forkq_queue_get(queue, &item, 10000) == 0);
  CHILD_MUST(item.object.via.u64 == 1);
  forkq_item_destroy(&item);
}

/* Numbers of descriptors begin at 0 without holes. */
static int lowest_fd(void) {
  int fd = dup(2);
  close(fd);
  return fd;
}

/* With room for n more descriptors, n = 0, 1, ... until all goes well. */
static void few_descriptors(void *arg) {
  (void)arg;
  bool create_failed = false, put_failed = false, done = false;
  int used = lowest_fd();
  for (int n = 0; !done; n++) {
    CHILD_MUST(n < 10);
    forkq_queue_t *queue = NULL;
    limit(RLIMIT_NOFILE, (rlim_t)(used + n));
    int r = forkq_queue_create(&queue, 0);
    CHILD_MUST(r == 0 || (r == -EMFILE && queue == NULL));
    create_failed |= r < 0;
    CHILD_MUST(r == 0 || lowest_fd() == -1 || lowest_fd() == used);
    if (r < 0)
      continue;
    r = forkq_queue_put(queue, &one, 0);
    CHILD_MUST(r == 0 || r == -EMFILE);
    put_failed |= r < 0;
    done = r == 0;
    forkq_item_t item = FORKQ_ITEM_INIT;
    CHILD_MUST(forkq_queue_get(queue, &item, 0) == (done ? 0 : FORKQ_EMPTY));
    forkq_item_destroy(&item);
    no_limit(RLIMIT_NOFILE);
    works(queue);
    forkq_queue_destroy(queue);
    CHILD_MUST(lowest_fd() == used);
  }
  CHILD_MUST(create_failed && put_failed);
}

START_TEST(without_descriptors) {
  run(few_descriptors);
}
END_TEST

/* poll(2) takes no more descriptors than the limit says, whatever is open. */
static void no_descriptors(void *arg) {
  (void)arg;
  forkq_queue_t *queue;
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_connection_t *a, *b;
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  CHILD_MUST(forkq_pipe(&a, &b, 1) == 0);
  works(queue);
  limit(RLIMIT_NOFILE, 0);
  CHILD_MUST(forkq_queue_get(queue, &item, -1) == -EINVAL);
  CHILD_MUST(forkq_connection_poll(a, -1) == -EINVAL);
  CHILD_MUST(forkq_connection_send(a, &one) == 0);
  CHILD_MUST(forkq_connection_recv(b, &item) == 0);
  works(queue);
  no_limit(RLIMIT_NOFILE);
  works(queue);
  forkq_item_destroy(&item);
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
  forkq_queue_destroy(queue);
}

START_TEST(where_nothing_can_be_polled) {
  run(no_descriptors);
}
END_TEST

static rlim_t address_space(void) {
  char line[128] = "";
  FILE *file = fopen("/proc/self/statm", "re");
  CHILD_MUST(file != NULL && fgets(line, sizeof line, file) != NULL);
  fclose(file);
  return (rlim_t)strtoul(line, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* The shared mapping, the thread's stack, or a large item do not fit. */
static void little_memory(void *arg) {
  (void)arg;
  static char large[32 * 1024 * 1024];
  const msgpack_object big = { .type = MSGPACK_OBJECT_BIN,
                               .via = { .bin = { sizeof large, large } } };
  forkq_queue_t *queue;
  forkq_item_t item = FORKQ_ITEM_INIT;
  limit(RLIMIT_AS, address_space());
  CHILD_MUST(forkq_queue_create(&queue, 0) == -ENOMEM);
  no_limit(RLIMIT_AS);
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  limit(RLIMIT_AS, address_space() + 64 * 1024);
  CHILD_MUST(forkq_queue_put(queue, &one, 0) == FORKQ_ENOTHREAD);
  no_limit(RLIMIT_AS);
  works(queue);
  limit(RLIMIT_AS, address_space() + 8 * 1024 * 1024);
  CHILD_MUST(forkq_queue_put(queue, &big, 0) == -ENOMEM);
  works(queue);
  no_limit(RLIMIT_AS);
  CHILD_MUST(forkq_queue_put(queue, &big, 0) == 0);
  CHILD_MUST(forkq_queue_get(queue, &item, 10000) == 0 && item.size > sizeof large);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}

START_TEST(without_memory) {
  /* A sanitizer takes the whole address space. */
  if (!SANITIZED)
    run(little_memory);
}
END_TEST

static void no_threads(void *arg) {
  (void)arg;
  forkq_queue_t *queue;
  be_nobody();
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  limit(RLIMIT_NPROC, 0);
  CHILD_MUST(forkq_queue_put(queue, &one, 0) == FORKQ_ENOTHREAD);
  CHILD_MUST(forkq_queue_qsize(queue) == 0);
  no_limit(RLIMIT_NPROC);
  works(queue);
  forkq_queue_destroy(queue);
}

START_TEST(without_threads) {
  run(no_threads);
}
END_TEST

static long read_number(const char *path) {
  char line[32] = "";
  FILE *file = fopen(path, "re");
  CHILD_MUST(file != NULL && fgets(line, sizeof line, file) != NULL);
  fclose(file);
  return strtol(line, NULL, 10);
}

/* Pipes get smaller then, of two pages or one; large items and many small ones pass. */
static void few_pipe_pages(void *arg) {
  (void)arg;
  static char large[100000];
  const msgpack_object big = { .type = MSGPACK_OBJECT_BIN,
                               .via = { .bin = { sizeof large, large } } };
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_t *queue;
  long pages = read_number("/proc/sys/fs/pipe-user-pages-soft");
  int size = (int)read_number("/proc/sys/fs/pipe-max-size");
  int fds[2];
  be_nobody();
  no_limit(RLIMIT_NOFILE);
  if (pages == 0)
    return; /* no limit here */
  /* Larger pipes, and then none that is more than the least. */
  for (int i = 0; i < 2048; i++) {
    CHILD_MUST(pipe2(fds, O_CLOEXEC) == 0);
    if (fcntl(fds[1], F_SETPIPE_SZ, size) < 0 &&
        fcntl(fds[1], F_GETPIPE_SZ) <= 2 * sysconf(_SC_PAGESIZE))
      break;
  }
  CHILD_MUST(fcntl(fds[1], F_GETPIPE_SZ) <= 2 * sysconf(_SC_PAGESIZE));
  CHILD_MUST(forkq_queue_create(&queue, 0) == 0);
  for (int i = 0; i < 1000; i++)
    CHILD_MUST(forkq_queue_put(queue, &one, 0) == 0);
  CHILD_MUST(forkq_queue_put(queue, &big, 0) == 0);
  for (int i = 0; i < 1001; i++)
    CHILD_MUST(forkq_queue_get(queue, &item, 10000) == 0);
  CHILD_MUST(item.size > sizeof large);
  works(queue);
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
}

START_TEST(without_pages_for_pipes) {
  run(few_pipe_pages);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("faults_limits");
  TCase *limits = tcase_create("limits");
  tcase_set_timeout(limits, 60);
  tcase_add_test(limits, without_descriptors);
  tcase_add_test(limits, where_nothing_can_be_polled);
  tcase_add_test(limits, without_memory);
  tcase_add_test(limits, without_threads);
  tcase_add_test(limits, without_pages_for_pipes);
  suite_add_tcase(suite, limits);
  return support_main(suite);
}
