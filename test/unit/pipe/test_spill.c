/* The kept part of a large message: what is there, and what is given back. */
#define _GNU_SOURCE
#include "base/os.h"
#include "refuse.h"
#include "shared/spill.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OFFSET ((int64_t)sizeof(struct forkq__segment))

static struct forkq__spill *spill;
static struct forkq__account account;
static uint8_t bytes[100000], out[sizeof bytes];

static void set_up(void) {
  forkq__account_init(&account);
  spill = support_shared(sizeof *spill);
  account.liveness.memory_fd = forkq__os_memory_create("test", OFFSET, sizeof bytes);
  ck_assert_int_ge(account.liveness.memory_fd, 0);
  ck_assert_int_eq(
      forkq__os_identity(account.liveness.memory_fd, &account.liveness.identity), 0);
  support_fill(bytes, sizeof bytes, 3);
}

static void tear_down(void) {
  close(account.liveness.memory_fd);
}

static struct forkq__assembly begun(uint32_t have, uint64_t seq) {
  return (struct forkq__assembly){
    .active = true, .cell = 5, .total = sizeof bytes, .have = have, .seq = seq
  };
}

static void keep(uint32_t have, uint64_t seq) {
  struct forkq__assembly assembly = begun(have, seq);
  ck_assert_int_eq(forkq__spill_keep(spill, &account, &assembly, bytes), 0);
}

START_TEST(nothing_is_kept_at_first) {
  ck_assert(!forkq__spill_kept(spill, 1).active);
}
END_TEST

START_TEST(what_is_kept_is_what_there_was) {
  keep(5000, 17);
  struct forkq__assembly kept = forkq__spill_kept(spill, 18);
  ck_assert(kept.active && kept.cell == 5 && kept.total == sizeof bytes);
  ck_assert(kept.have == 5000 && kept.seq == 17);
  ck_assert_int_eq(forkq__spill_read(spill, &account, out), 0);
  ck_assert_mem_eq(out, bytes, 5000);
  ck_assert_int_eq(out[5000], 0);
}
END_TEST

START_TEST(cell_zero_can_be_kept) {
  struct forkq__assembly assembly = begun(1, 1);
  assembly.cell = 0;
  ck_assert_int_eq(forkq__spill_keep(spill, &account, &assembly, bytes), 0);
  ck_assert(forkq__spill_kept(spill, 2).active);
  ck_assert_uint_eq(forkq__spill_kept(spill, 2).cell, 0);
}
END_TEST

START_TEST(what_is_appended_goes_behind) {
  keep(5000, 17);
  for (uint32_t i = 0; i < 10; i++)
    ck_assert_int_eq(
        forkq__spill_append(spill, &account, 18 + i, bytes + 5000 + 4000 * i, 4000), 0);
  struct forkq__assembly kept = forkq__spill_kept(spill, 27);
  ck_assert(kept.active && kept.have == 45000 && kept.seq == 27);
  ck_assert_int_eq(forkq__spill_read(spill, &account, out), 0);
  ck_assert_mem_eq(out, bytes, 45000);
}
END_TEST

/* Only the lower half of the number is stored; the rest comes from the packet at hand. */
START_TEST(its_last_packet_is_known_across_a_wrap_of_the_lower_half) {
  static const struct {
    uint64_t kept;
    uint64_t now;
  } cases[] = {
    { 1, 1 },
    { 1, 2 },
    { UINT32_MAX, UINT32_MAX },
    { UINT32_MAX, (uint64_t)UINT32_MAX + 1 },
    { UINT32_MAX, (uint64_t)UINT32_MAX + 1000 },
    { (UINT64_C(7) << 32) - 3, (UINT64_C(7) << 32) + 5 },
    { UINT64_C(7) << 32, UINT64_C(7) << 32 },
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    keep(10, cases[i].kept);
    ck_assert_uint_eq(forkq__spill_kept(spill, cases[i].now).seq, cases[i].kept);
  }
}
END_TEST

static blkcnt_t blocks(void) {
  struct stat status;
  ck_assert_int_eq(fstat(account.liveness.memory_fd, &status), 0);
  return status.st_blocks;
}

START_TEST(drop_gives_the_memory_back_and_only_it) {
  static char before[sizeof(struct forkq__segment)], after[sizeof before];
  support_fill(before, sizeof before, 9);
  ck_assert_int_eq(pwrite(account.liveness.memory_fd, before, OFFSET, 0), OFFSET);
  blkcnt_t at_first = blocks();
  keep(sizeof bytes, 17);
  ck_assert_int_gt(blocks(), at_first + (blkcnt_t)sizeof bytes / 512 / 2);
  forkq__spill_drop(spill, &account);
  ck_assert(!forkq__spill_kept(spill, 18).active);
  /* The last page is only in part the message's. */
  ck_assert_int_le(blocks(), at_first + 8);
  ck_assert_int_eq(pread(account.liveness.memory_fd, after, OFFSET, 0), OFFSET);
  ck_assert_mem_eq(after, before, OFFSET);
}
END_TEST

START_TEST(drop_of_nothing_does_nothing) {
  forkq__spill_drop(spill, &account);
  ck_assert(!forkq__spill_kept(spill, 1).active);
}
END_TEST

START_TEST(after_a_drop_another_is_kept) {
  keep(50000, 17);
  forkq__spill_drop(spill, &account);
  support_fill(bytes, sizeof bytes, 4);
  keep(100, 30);
  ck_assert_uint_eq(forkq__spill_kept(spill, 31).have, 100);
  ck_assert_int_eq(forkq__spill_read(spill, &account, out), 0);
  ck_assert_mem_eq(out, bytes, 100);
}
END_TEST

/* A file that has no room for it stands for a system without memory. */
static void keep_without_mmap(void *arg) {
  const struct refusal refusal = { .call = REFUSE_MMAP, .error = ENOMEM };
  struct forkq__assembly assembly = begun(5000, 17);
  (void)arg;
  refuse(&refusal, 1);
  CHILD_MUST(forkq__spill_keep(spill, &account, &assembly, bytes) == -ENOMEM);
}

/* Its memory was reserved, and nobody would come to give it back. */
START_TEST(what_cannot_be_kept_takes_no_memory) {
  struct stat before, after;
  if (!can_refuse())
    return;
  ck_assert_int_eq(fstat(account.liveness.memory_fd, &before), 0);
  ck_assert_int_eq(support_wait(support_fork(keep_without_mmap, NULL)), 0);
  ck_assert_int_eq(fstat(account.liveness.memory_fd, &after), 0);
  ck_assert_int_eq(after.st_blocks, before.st_blocks);
  ck_assert(!forkq__spill_kept(spill, 18).active);
}
END_TEST

START_TEST(a_write_that_fails_changes_nothing) {
  struct forkq__assembly assembly = begun(10, 17);
  int fd = forkq__os_memory_create("test", OFFSET, 0);
  struct forkq__account bad = { .liveness.memory_fd = fd };
  ck_assert_int_eq(forkq__os_identity(fd, &bad.liveness.identity), 0);
  ck_assert_int_lt(forkq__spill_keep(spill, &bad, &assembly, bytes), 0);
  ck_assert(!forkq__spill_kept(spill, 18).active);
  keep(5000, 17);
  ck_assert_int_eq(forkq__spill_append(spill, &bad, 18, bytes, 10), -EFBIG);
  struct forkq__assembly kept = forkq__spill_kept(spill, 18);
  ck_assert(kept.active && kept.have == 5000 && kept.seq == 17);
  close(fd);
}
END_TEST

static void read_it(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__spill_kept(spill, 18).have == 5000);
  CHILD_MUST(forkq__spill_read(spill, &account, out) == 0);
  CHILD_MUST(memcmp(out, bytes, 5000) == 0);
}

START_TEST(another_process_reads_it) {
  keep(5000, 17);
  ck_assert_int_eq(support_wait(support_fork(read_it, NULL)), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("spill");
  TCase *tcase = tcase_create("spill");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, nothing_is_kept_at_first);
  tcase_add_test(tcase, what_is_kept_is_what_there_was);
  tcase_add_test(tcase, cell_zero_can_be_kept);
  tcase_add_test(tcase, what_is_appended_goes_behind);
  tcase_add_test(tcase, its_last_packet_is_known_across_a_wrap_of_the_lower_half);
  tcase_add_test(tcase, drop_gives_the_memory_back_and_only_it);
  tcase_add_test(tcase, drop_of_nothing_does_nothing);
  tcase_add_test(tcase, after_a_drop_another_is_kept);
  tcase_add_test(tcase, what_cannot_be_kept_takes_no_memory);
  tcase_add_test(tcase, a_write_that_fails_changes_nothing);
  tcase_add_test(tcase, another_process_reads_it);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
