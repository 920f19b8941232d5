/* The head of the shared memory: who may use it. */
#define _GNU_SOURCE
#include "shared/segment.h"

#include "base/os.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/base.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int fds_before;
static struct forkq__segment *segment;
static int fd;

/* As forkq__segment_create leaves the rest to the queue. */
static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq__segment_create(&segment, &fd, ""), 0);
  segment->max_message = 1;
}

static void tear_down(void) {
  forkq__segment_unmap(segment);
  close(fd);
  ck_assert_int_eq(support_open_fds(), fds_before);
}

/* What another program says to it. The descriptor stays open. */
static int open_again(int memory) {
  struct forkq__segment *opened = NULL;
  int r = forkq__segment_open(&opened, memory);
  if (r == 0)
    forkq__segment_unmap(opened);
  else
    ck_assert_ptr_null(opened);
  ck_assert_int_ge(fcntl(memory, F_GETFD), 0);
  return r;
}

/* ---- who is refused ------------------------------------------------------------------------ */

/* With one bit changed in each byte of a field, in turn. */
static void assert_each_byte_counts(void *field, size_t size, int refusal) {
  unsigned char *bytes = field;
  for (size_t i = 0; i < size; i++) {
    bytes[i] ^= 1;
    ck_assert_int_eq(open_again(fd), refusal);
    bytes[i] ^= 1;
  }
  ck_assert_int_eq(open_again(fd), 0);
}

#define EACH_BYTE_COUNTS(field, refusal)                                                 \
  assert_each_byte_counts(&segment->head.field, sizeof segment->head.field, refusal)

START_TEST(no_segment_is_told_from_one_of_another_program) {
  EACH_BYTE_COUNTS(magic, FORKQ_EHANDOVER);
  EACH_BYTE_COUNTS(layout, FORKQ_EVERSION);
  EACH_BYTE_COUNTS(size, FORKQ_EVERSION);
}
END_TEST

START_TEST(another_c_library_is_refused) {
  EACH_BYTE_COUNTS(abi.libc, FORKQ_EVERSION);
  EACH_BYTE_COUNTS(abi.long_size, FORKQ_EVERSION);
  EACH_BYTE_COUNTS(abi.lock_size, FORKQ_EVERSION);
  EACH_BYTE_COUNTS(abi.lock_alignment, FORKQ_EVERSION);
  EACH_BYTE_COUNTS(abi.new_lock, FORKQ_EVERSION);
}
END_TEST

/* As musl 1.2 has it: mutexes of the same size on 64 bit, but the kind has another number. */
START_TEST(musl_is_refused) {
  const struct forkq__abi ours = segment->head.abi;
  const int robust_and_shared = 4 | 128;
  memset(segment->head.abi.new_lock, 0, sizeof segment->head.abi.new_lock);
  memcpy(segment->head.abi.new_lock, &robust_and_shared, sizeof robust_and_shared);
  ck_assert_int_eq(open_again(fd), FORKQ_EVERSION);
  segment->head.abi = ours;
  memcpy(segment->head.abi.libc, "musl", 5);
  ck_assert_int_eq(open_again(fd), FORKQ_EVERSION);
}
END_TEST

/* ---- what is compared ---------------------------------------------------------------------- */

static bool is_zero(const unsigned char *bytes, size_t size) {
  while (size > 0 && bytes[size - 1] == 0)
    size--;
  return size == 0;
}

START_TEST(what_another_program_must_have_in_common_is_in_the_head) {
  const struct forkq__abi *abi = &segment->head.abi;
  char libc[FORKQ__LIBC_TEXT] = "";
  ck_assert_int_lt(snprintf(libc, sizeof libc, "glibc %s", gnu_get_libc_version()),
                   FORKQ__LIBC_TEXT);
  ck_assert_mem_eq(abi->libc, libc, sizeof libc);
  ck_assert_uint_eq(abi->long_size, sizeof(long));
  ck_assert_uint_eq(abi->lock_size, sizeof(pthread_mutex_t));
  ck_assert_uint_eq(abi->lock_alignment, _Alignof(pthread_mutex_t));
  ck_assert(is_zero(abi->new_lock + sizeof(pthread_mutex_t),
                    sizeof abi->new_lock - sizeof(pthread_mutex_t)));
}
END_TEST

/* The locks of the segment are of the kind whose image is compared. */
START_TEST(the_image_is_of_a_lock_as_the_segment_has_it) {
  const unsigned char *image = segment->head.abi.new_lock;
  pthread_mutex_t plain;
  memset(&plain, 0, sizeof plain);
  ck_assert_int_eq(pthread_mutex_init(&plain, NULL), 0);
  ck_assert_mem_ne(image, &plain, sizeof plain);
  pthread_mutex_destroy(&plain);
  ck_assert_mem_eq(image, &segment->ledger.lock.mutex, sizeof plain);
  ck_assert_mem_eq(image, &segment->channel.read_lock.mutex, sizeof plain);
  ck_assert_mem_eq(image, &segment->channel.write_lock.mutex, sizeof plain);
  ck_assert_mem_eq(image, &segment->channel.turn.mutex, sizeof plain);
}
END_TEST

/* A process that has used the queue does not change what a new one is compared with. */
static void use_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(pthread_mutex_lock(&segment->ledger.lock.mutex) == 0);
}

START_TEST(locks_in_use_or_left_by_the_dead_do_not_matter) {
  ck_assert_int_eq(support_wait(support_fork(use_and_die, NULL)), 0);
  ck_assert_int_eq(open_again(fd), 0);
  ck_assert_int_eq(pthread_mutex_lock(&segment->ledger.lock.mutex), EOWNERDEAD);
  ck_assert_int_eq(open_again(fd), 0);
  pthread_mutex_consistent(&segment->ledger.lock.mutex);
  pthread_mutex_unlock(&segment->ledger.lock.mutex);
}
END_TEST

/* ---- memory that is none of ours ----------------------------------------------------------- */

/* Memory with the first bytes of the segment, and so many in all. */
static int copy_of_segment(size_t size, size_t end, unsigned seals) {
  int memory = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ck_assert_int_ge(memory, 0);
  ck_assert_int_eq(write(memory, segment, size), (ssize_t)size);
  ck_assert_int_eq(ftruncate(memory, (off_t)end), 0);
  ck_assert_int_eq(fcntl(memory, F_ADD_SEALS, seals), 0);
  return memory;
}

static int open_copy(size_t size, size_t end, unsigned seals) {
  int memory = copy_of_segment(size, end, seals);
  int r = open_again(memory);
  close(memory);
  return r;
}

START_TEST(memory_that_is_too_small_or_may_shrink_is_refused) {
  const size_t size = sizeof *segment, head = sizeof segment->head;
  ck_assert_int_eq(open_copy(size, size, F_SEAL_SHRINK), 0);
  ck_assert_int_eq(open_copy(size, size + 1, F_SEAL_SHRINK), 0);
  ck_assert_int_eq(open_copy(size, size - 1, F_SEAL_SHRINK), FORKQ_EHANDOVER);
  ck_assert_int_eq(open_copy(head, head, F_SEAL_SHRINK), FORKQ_EHANDOVER);
  ck_assert_int_eq(open_copy(head, head - 1, F_SEAL_SHRINK), FORKQ_EHANDOVER);
  ck_assert_int_eq(open_copy(0, 0, F_SEAL_SHRINK), FORKQ_EHANDOVER);
  ck_assert_int_eq(open_copy(size, size, F_SEAL_GROW), FORKQ_EHANDOVER);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("segment");
  TCase *tcase = tcase_create("head");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, no_segment_is_told_from_one_of_another_program);
  tcase_add_test(tcase, another_c_library_is_refused);
  tcase_add_test(tcase, musl_is_refused);
  tcase_add_test(tcase, what_another_program_must_have_in_common_is_in_the_head);
  tcase_add_test(tcase, the_image_is_of_a_lock_as_the_segment_has_it);
  tcase_add_test(tcase, locks_in_use_or_left_by_the_dead_do_not_matter);
  tcase_add_test(tcase, memory_that_is_too_small_or_may_shrink_is_refused);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
