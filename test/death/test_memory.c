/* The kernel kills a process because its memory cgroup is full: what the others are left with. Skipped
 * where no such group can be made. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)
#define LIMIT "33554432"

/* The group of this test, by both versions of cgroups, and the file in it that has the limit. */
static const struct {
  const char *parent, *limit;
} versions[] = {
  { "/sys/fs/cgroup/memory", "memory.limit_in_bytes" },
  { "/sys/fs/cgroup", "memory.max" },
};

static char group[64];

static bool write_to(const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", group, name);
  int fd = open(path, O_WRONLY);
  bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (fd >= 0)
    close(fd);
  return ok;
}

static bool make_group(void) {
  for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
    snprintf(group, sizeof group, "%s/forkq-test-%d", versions[i].parent, (int)getpid());
    if (mkdir(group, 0700) != 0)
      continue;
    if (write_to(versions[i].limit, LIMIT))
      return true;
    rmdir(group);
  }
  return false;
}

/* Its processes may be on their way out still. */
static void remove_group(void) {
  int64_t end = support_now_ms() + 10000;
  while (rmdir(group) != 0 && errno == EBUSY && support_now_ms() < end)
    usleep(1000);
}

static void set_up(void) {
  fds_before = support_open_fds();
}

static void check_descriptors(void) {
  ck_assert_int_eq(support_open_fds(), fds_before);
}

static void join_group(void) {
  char pid[16];
  snprintf(pid, sizeof pid, "%d", (int)getpid());
  CHILD_MUST(write_to("cgroup.procs", pid));
}

/* Each in turn: a small message with its number, a large one. */
static void put_until_memory_ends(void *arg) {
  (void)arg;
  join_group();
  for (int i = 0;; i++) {
    CHILD_MUST(put(i, -1) == 0);
    CHILD_MUST(put_bin(MIB, -1) == 0);
  }
}

static int64_t held(void) {
  struct stat status;
  ck_assert_int_eq(fstat(queue->channel.account.liveness.memory_fd, &status), 0);
  return (int64_t)status.st_blocks * 512;
}

typedef int get_item_t(forkq_queue_t *, forkq_item_t *, int);

/* What the dead one had sent comes in its order, each with all its bytes. Returns how many. */
static int get_all(get_item_t *get_item) {
  static char large[MIB];
  forkq_item_t item = FORKQ_ITEM_INIT;
  int count = 0;
  make_bin(large, MIB);
  for (; get_item(queue, &item, 1000) == 0; count++) {
    if (count % 2 == 0) {
      ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
      ck_assert_uint_eq(item.object.via.u64, (uint64_t)count / 2);
    } else {
      ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_BIN);
      ck_assert_uint_eq(item.object.via.bin.size, MIB - 5);
      support_assert(memcmp(item.object.via.bin.ptr, large + 5, MIB - 5) == 0);
    }
  }
  forkq_item_destroy(&item);
  return count;
}

/* A getter that finds nothing gives back what the dead left, once they were found. */
static void until_given_back(int64_t bytes) {
  int64_t end = support_now_ms() + 10000;
  while (held() > bytes) {
    ck_assert_int_lt(support_now_ms(), end);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    ck_assert_int_eq(get(0), FORKQ_EMPTY);
  }
}

static void assert_killed(pid_t child) {
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Nobody gets meanwhile, so the producer dies. */
static void survive(get_item_t *get_item) {
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
  int64_t before = held();
  for (int round = 0; round < 3; round++) {
    assert_killed(support_fork(put_until_memory_ends, NULL));
    /* Through the pipe, where it may not use the arena of its predecessor yet, only the first arrives. */
    ck_assert_int_gt(get_all(get_item), 0);
    ck_assert_int_eq(put(round, 2000), 0);
    ck_assert_int_eq(get(2000), round);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    until_given_back(before);
  }
  forkq_queue_destroy(queue);
}

START_TEST(a_producer_without_memory_dies_alone) {
  survive(forkq_queue_get);
}
END_TEST

START_TEST(what_is_borrowed_outlives_its_producer) {
  survive(forkq_queue_get_borrowed);
}
END_TEST

int main(void) {
  if (!make_group())
    return 77; /* skipped */
  Suite *suite = suite_create("memory");
  TCase *tcase = tcase_create("memory");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, check_descriptors);
  tcase_add_test(tcase, a_producer_without_memory_dies_alone);
  tcase_add_test(tcase, what_is_borrowed_outlives_its_producer);
  suite_add_tcase(suite, tcase);
  int r = support_main(suite);
  remove_group();
  return r;
}
