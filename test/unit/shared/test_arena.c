/* The arena: which memory is used, which goes back to the system, and how a loan ends. */
#define _GNU_SOURCE
#include "channel_helpers.h"
#include "refuse.h"
#include "shared/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LEAF FORKQ__ARENA_LEAF
#define CHUNK FORKQ__ARENA_CHUNK
#define LIMIT (1024 * 1024)
#define PIECES 5000

static struct forkq__arena arena;
static int64_t held_before;

static int64_t held(void) {
  struct stat status;
  ck_assert_int_eq(fstat(channel.account.liveness.memory_fd, &status), 0);
  return (int64_t)status.st_blocks * 512 - held_before;
}

static void open_with(uint64_t limit) {
  forkq__arena_init(&arena, limit);
  held_before = 0;
  held_before = held();
  ck_assert(forkq__arena_open(&arena, &channel.account, true, 0));
}

static struct forkq__reference reserve(uint32_t size) {
  struct forkq__reference piece;
  ck_assert(forkq__arena_reserve(&arena, size, &piece));
  ck_assert_uint_eq(piece.size, size);
  memset(forkq__arena_at(&arena, piece), 'x', size);
  return piece;
}

static bool is_full_for(uint32_t size) {
  struct forkq__reference piece;
  return !forkq__arena_reserve(&arena, size, &piece);
}

/* ---- pieces -------------------------------------------------------------------------------- */

START_TEST(after_a_pause_the_lowest_free_memory_is_used_first) {
  open_with(LIMIT);
  struct forkq__reference a = reserve(1), b = reserve(LEAF + 1), c = reserve(10 * LEAF);
  ck_assert_uint_eq(a.at, 0);
  ck_assert_uint_eq(b.at, LEAF);
  ck_assert_uint_eq(c.at, 3 * LEAF);
  forkq__arena_release(&arena, b);
  forkq__arena_trim(&arena);
  ck_assert_uint_eq(reserve(2 * LEAF + 1).at, 13 * LEAF); /* too large for the hole */
  forkq__arena_trim(&arena);
  ck_assert_uint_eq(reserve(2 * LEAF).at, LEAF);
  forkq__arena_release(&arena, a);
  forkq__arena_trim(&arena);
  ck_assert_uint_eq(reserve(LEAF).at, 0);
  forkq__arena_close(&arena);
}
END_TEST

/* What was free a moment ago is used last. */
START_TEST(pieces_go_round) {
  open_with(2 * FORKQ__ARENA_ROUND);
  struct forkq__reference stays = reserve(CHUNK);
  for (uint32_t at = CHUNK; at < FORKQ__ARENA_ROUND; at += CHUNK) {
    struct forkq__reference piece = reserve(CHUNK);
    ck_assert_uint_eq(piece.at, at);
    forkq__arena_release(&arena, piece);
  }
  struct forkq__reference again = reserve(2 * CHUNK);
  ck_assert_uint_eq(again.at, CHUNK);
  forkq__arena_release(&arena, again);
  forkq__arena_release(&arena, stays);
  ck_assert_uint_eq(reserve(CHUNK).at, 3 * CHUNK);
  ck_assert_int_eq(held(), FORKQ__ARENA_ROUND);
  forkq__arena_close(&arena);
}
END_TEST

/* Memory above the round is used while there is no room in it, and then no more. */
START_TEST(pieces_that_do_not_fit_into_the_round_lie_above_it) {
  open_with(2 * FORKQ__ARENA_ROUND);
  struct forkq__reference half = reserve(FORKQ__ARENA_ROUND / 2),
                          large = reserve(FORKQ__ARENA_ROUND);
  ck_assert_uint_eq(large.at, FORKQ__ARENA_ROUND / 2);
  ck_assert_uint_eq(reserve(CHUNK).at, large.at + large.size);
  forkq__arena_release(&arena, half);
  forkq__arena_release(&arena, large);
  ck_assert_uint_eq(reserve(CHUNK).at, 0);
  ck_assert_uint_eq(reserve(CHUNK).at, CHUNK);
  forkq__arena_close(&arena);
}
END_TEST

START_TEST(all_of_it_can_be_used_and_no_more) {
  open_with(LIMIT + CHUNK - 1); /* what is left of a chunk does not count */
  ck_assert(is_full_for(LIMIT + 1));
  struct forkq__reference piece = reserve(LIMIT);
  ck_assert(is_full_for(1));
  forkq__arena_release(&arena, piece);
  for (uint32_t i = 0; i < LIMIT / LEAF; i++)
    ck_assert_uint_eq(reserve(LEAF).at, i * LEAF);
  ck_assert(is_full_for(1));
  ck_assert_int_eq(held(), LIMIT);
  forkq__arena_close(&arena);
}
END_TEST

/* What was not there once is looked for again as soon as something is free. */
START_TEST(room_comes_back) {
  open_with(LIMIT);
  struct forkq__reference low = reserve(LIMIT / 2), high = reserve(LIMIT / 2);
  ck_assert(is_full_for(LEAF));
  ck_assert(!forkq__arena_has_room(&arena, LEAF));
  forkq__arena_release(&arena, high);
  ck_assert(forkq__arena_has_room(&arena, LEAF));
  ck_assert(is_full_for(LIMIT));
  ck_assert_uint_eq(reserve(LIMIT / 2).at, high.at);
  forkq__arena_release(&arena, low);
  ck_assert_uint_eq(reserve(LIMIT / 2).at, 0);
  forkq__arena_close(&arena);
}
END_TEST

/* Pieces of all sizes come and go: no two have a byte in common, and each keeps its bytes. */
START_TEST(pieces_do_not_overlap) {
  static struct {
    struct forkq__reference piece;
    uint64_t seed;
  } live[64];
  uint64_t random = 1;
  uint8_t *expected = malloc(CHUNK);
  open_with(LIMIT);
  for (uint64_t i = 1; i <= PIECES; i++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
    unsigned slot = (unsigned)(random >> 58);
    uint32_t size = (uint32_t)(random >> 20) % (random >> 40 & 1 ? CHUNK : 3 * LEAF) + 1;
    if (live[slot].seed != 0) {
      support_fill(expected, live[slot].piece.size, live[slot].seed);
      support_assert(memcmp(forkq__arena_at(&arena, live[slot].piece), expected,
                            live[slot].piece.size) == 0);
      forkq__arena_release(&arena, live[slot].piece);
      live[slot].seed = 0;
    }
    if (forkq__arena_reserve(&arena, size, &live[slot].piece)) {
      support_assert(live[slot].piece.at + size <= LIMIT);
      support_fill(forkq__arena_at(&arena, live[slot].piece), size, i);
      live[slot].seed = i;
    }
  }
  free(expected);
  forkq__arena_close(&arena);
}
END_TEST

/* The round is full, and all before the lowest place is used: the search need not begin there. */
START_TEST(the_lowest_place_is_known_though_the_round_filled_it) {
  open_with(2 * FORKQ__ARENA_ROUND);
  forkq__arena_release(&arena, reserve(FORKQ__ARENA_ROUND / 2));
  for (uint32_t i = 0; i < FORKQ__ARENA_ROUND / CHUNK + 1; i++)
    (void)reserve(CHUNK);
  ck_assert_uint_eq(arena.lowest * LEAF, FORKQ__ARENA_ROUND + CHUNK);
  forkq__arena_close(&arena);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------- */

START_TEST(memory_comes_and_goes_in_chunks) {
  open_with(LIMIT);
  ck_assert_int_eq(held(), 0);
  struct forkq__reference first = reserve(1);
  ck_assert_int_eq(held(), CHUNK);
  struct forkq__reference large = reserve(10 * CHUNK);
  ck_assert_int_eq(held(), 11 * CHUNK);
  forkq__arena_release(&arena, large);
  forkq__arena_trim(&arena);
  ck_assert_int_eq(held(), FORKQ__ARENA_KEPT);
  forkq__arena_release(&arena, first);
  ck_assert_uint_eq(reserve(10 * CHUNK).at, 0);
  ck_assert_int_eq(held(), 10 * CHUNK);
  forkq__arena_close(&arena);
}
END_TEST

/* At a close all goes back but the chunks in which a piece is still to be read. */
START_TEST(a_close_leaves_what_is_to_be_read) {
  open_with(LIMIT);
  struct forkq__reference before = reserve(3 * CHUNK), piece = reserve(CHUNK),
                          after = reserve(3 * CHUNK);
  forkq__arena_release(&arena, before);
  forkq__arena_release(&arena, after);
  forkq__arena_close(&arena);
  ck_assert_int_eq(held(), CHUNK);
  uint8_t bytes[2];
  ck_assert_int_eq(forkq__piece_copy_unmapped(
                       &channel.account, channel.account.cell,
                       (struct forkq__reference){ piece.at + CHUNK - 2, 2 }, bytes),
                   0);
  ck_assert(bytes[0] == 'x' && bytes[1] == 'x');
}
END_TEST

START_TEST(what_a_burst_needed_goes_back) {
  uint64_t limit = 4 * FORKQ__ARENA_ROUND;
  open_with(limit);
  forkq__arena_release(&arena, reserve((uint32_t)limit));
  ck_assert_int_eq(held(), (int64_t)limit);
  for (int i = 0; held() > FORKQ__ARENA_ROUND; i++) {
    ck_assert_int_lt(i, 10000);
    forkq__arena_release(&arena, reserve(CHUNK));
  }
  forkq__arena_close(&arena);
}
END_TEST

/* ---- where there is no arena --------------------------------------------------------------- */

START_TEST(less_than_a_chunk_is_none) {
  forkq__arena_init(&arena, CHUNK - 1);
  ck_assert(!forkq__arena_open(&arena, &channel.account, true, 0));
  ck_assert(!forkq__arena_open(&arena, &channel.account, true, 0));
  forkq__arena_close(&arena);
}
END_TEST

START_TEST(a_file_that_is_too_short_has_none) {
  struct rlimit limits, before;
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  limits = before;
  limits.rlim_cur = (rlim_t)(forkq__arena_begin(channel.account.cell) + LIMIT - 1);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limits), 0);
  make_channel_anew();
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
  forkq__arena_init(&arena, LIMIT);
  ck_assert(!forkq__arena_open(&arena, &channel.account, true, 0));
}
END_TEST

static void find_no_address_space(void *arg) {
  (void)arg;
  struct rlimit limit = { 4096, 4096 }; /* less than it has already */
  CHILD_MUST(UNDER_ASAN || setrlimit(RLIMIT_AS, &limit) == 0);
  forkq__arena_init(&arena, LIMIT);
  CHILD_MUST(UNDER_ASAN || !forkq__arena_open(&arena, &channel.account, true, 0));
}

START_TEST(without_address_space_there_is_none) {
  ck_assert_int_eq(support_wait(support_fork(find_no_address_space, NULL)), 0);
}
END_TEST

static void be_refused(void *arg) {
  const struct refusal refusal = { .call = SYS_fallocate, .error = ENOSPC };
  (void)arg;
  refuse(&refusal, 1);
  int tries = 0;
  for (int i = 0; i < 1000; i++) {
    tries += arena.skip == 0;
    CHILD_MUST(is_full_for(LEAF));
  }
  CHILD_MUST(tries == 9); /* after 1, 3, 7, ... more */
}

START_TEST(refused_memory_is_asked_for_rarely) {
  if (!can_refuse())
    return;
  open_with(LIMIT);
  ck_assert_int_eq(support_wait(support_fork(be_refused, NULL)), 0);
  forkq__arena_close(&arena);
}
END_TEST

/* Its descriptor is another file by now, which must not be touched. */
START_TEST(a_descriptor_that_is_another_file_s_is_left_alone) {
  open_with(LIMIT);
  struct forkq__reference piece = reserve(CHUNK);
  channel.account.liveness.identity++;
  ck_assert(is_full_for(CHUNK)); /* it has no memory yet, and gets none */
  forkq__arena_release(&arena, piece);
  forkq__arena_close(&arena);
  ck_assert_int_eq(held(), CHUNK);
  channel.account.liveness.identity--;
}
END_TEST

/* ---- loans --------------------------------------------------------------------------------- */

static bool is_used(struct forkq__reference piece) {
  struct forkq__reference got;
  forkq__arena_trim(&arena); /* the lowest free memory comes next */
  bool used = !forkq__arena_reserve(&arena, piece.size, &got) || got.at != piece.at;
  if (!used)
    forkq__arena_release(&arena, got);
  return used;
}

START_TEST(a_loan_keeps_what_the_message_needs) {
  open_with(LIMIT);
  struct forkq__loan *loan = forkq__arena_lend(&arena, 4 * CHUNK);
  struct forkq__reference piece = loan->reference;
  ck_assert(loan->memory == forkq__arena_at(&arena, piece));
  ck_assert(forkq__arena_accept(&arena, loan, CHUNK + 1));
  ck_assert_uint_eq(reserve(LEAF).at, CHUNK + LEAF);
  forkq__arena_release(&arena, (struct forkq__reference){ piece.at, CHUNK + 1 });
  forkq__arena_trim(&arena);
  ck_assert_uint_eq(reserve(CHUNK).at, 0);
  forkq__arena_close(&arena);
}
END_TEST

START_TEST(a_loan_that_was_dropped_is_swept) {
  open_with(LIMIT);
  struct forkq__loan *loan = forkq__arena_lend(&arena, CHUNK),
                     *other = forkq__arena_lend(&arena, CHUNK);
  struct forkq__reference piece = loan->reference, still = other->reference;
  forkq__loan_drop(loan);
  ck_assert(is_used(piece));
  forkq__arena_sweep(&arena);
  ck_assert(!is_used(piece));
  forkq__arena_trim(&arena); /* the lowest free memory comes next */
  ck_assert_uint_eq(reserve(CHUNK).at, piece.at);
  ck_assert(is_used(still));
  forkq__loan_drop(other);
  forkq__arena_close(&arena);
}
END_TEST

/* The thread goes on packing. Nobody else sees what it writes, and the end of its loan is its own. */
START_TEST(after_a_close_a_loan_is_nobody_s) {
  open_with(LIMIT);
  struct forkq__loan *loan = forkq__arena_lend(&arena, CHUNK);
  memset(loan->memory, 'x', CHUNK);
  forkq__arena_close(&arena);
  memset(loan->memory, 'y', CHUNK);
  uint8_t byte;
  ck_assert_int_eq(forkq__piece_copy_unmapped(&channel.account, channel.account.cell,
                                              (struct forkq__reference){ 0, 1 }, &byte),
                   0);
  ck_assert(byte == 'x');
  ck_assert(!forkq__arena_accept(&arena, loan, CHUNK));
  ck_assert(!forkq__arena_open(&arena, &channel.account, true, 0));
  forkq__arena_fini(&arena);
}
END_TEST

START_TEST(after_a_close_a_loan_can_be_dropped) {
  open_with(LIMIT);
  struct forkq__loan *loan = forkq__arena_lend(&arena, CHUNK);
  forkq__arena_close(&arena);
  forkq__loan_drop(loan);
  forkq__arena_fini(&arena);
}
END_TEST

/* ---- the child of a fork ------------------------------------------------------------------- */

static void use_its_own(void *sound) {
  struct forkq__loan *loan = TAILQ_FIRST(&arena.loans);
  CHILD_MUST(loan != NULL);
  uint32_t cell = channel.account.cell;
  forkq__arena_forked(&arena, sound != NULL);
  CHILD_MUST(open_cell() != cell);
  CHILD_MUST(forkq__arena_open(&arena, &channel.account, true, 0));
  struct forkq__reference piece;
  CHILD_MUST(forkq__arena_reserve(&arena, CHUNK, &piece) && piece.at == 0);
  memset(forkq__arena_at(&arena, piece), 'y', CHUNK);
  forkq__arena_close(&arena);
}

START_TEST(a_child_has_an_arena_of_its_own) {
  open_with(LIMIT);
  struct forkq__reference piece = reserve(CHUNK);
  struct forkq__loan *loan = forkq__arena_lend(&arena, CHUNK);
  pid_t child = support_fork(use_its_own, _i == 0 ? NULL : &arena);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert(forkq__arena_at(&arena, piece)[0] == 'x');
  ck_assert(forkq__arena_at(&arena, piece)[CHUNK - 1] == 'x');
  forkq__loan_drop(loan);
  forkq__arena_close(&arena);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("arena");
  TCase *pieces = channel_case(suite, "pieces");
  tcase_add_test(pieces, after_a_pause_the_lowest_free_memory_is_used_first);
  tcase_add_test(pieces, pieces_go_round);
  tcase_add_test(pieces, the_lowest_place_is_known_though_the_round_filled_it);
  tcase_add_test(pieces, pieces_that_do_not_fit_into_the_round_lie_above_it);
  tcase_add_test(pieces, all_of_it_can_be_used_and_no_more);
  tcase_add_test(pieces, room_comes_back);
  tcase_add_test(pieces, pieces_do_not_overlap);
  TCase *memory = channel_case(suite, "memory");
  tcase_add_test(memory, memory_comes_and_goes_in_chunks);
  tcase_add_test(memory, a_close_leaves_what_is_to_be_read);
  tcase_add_test(memory, what_a_burst_needed_goes_back);
  TCase *none = channel_case(suite, "none");
  tcase_add_test(none, less_than_a_chunk_is_none);
  tcase_add_test(none, a_file_that_is_too_short_has_none);
  tcase_add_test(none, without_address_space_there_is_none);
  tcase_add_test(none, refused_memory_is_asked_for_rarely);
  tcase_add_test(none, a_descriptor_that_is_another_file_s_is_left_alone);
  TCase *loans = channel_case(suite, "loans");
  tcase_add_test(loans, a_loan_keeps_what_the_message_needs);
  tcase_add_test(loans, a_loan_that_was_dropped_is_swept);
  tcase_add_test(loans, after_a_close_a_loan_is_nobody_s);
  tcase_add_test(loans, after_a_close_a_loan_can_be_dropped);
  TCase *children = channel_case(suite, "children");
  tcase_add_loop_test(children, a_child_has_an_arena_of_its_own, 0, 2);
  return support_main(suite);
}
