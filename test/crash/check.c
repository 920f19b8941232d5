#include "check.h"

#include <inttypes.h>

static const struct fate *fate_of(const struct book *book, uint32_t life, uint32_t seq) {
  return &book->fates[life][seq];
}

/* It was got, or told to be lost. */
static uint64_t is_come(const struct fate *fate) {
  return atomic_load(&fate->owner) != 0 || atomic_load(&fate->told) != 0;
}

static bool came(const struct book *book, uint32_t life, uint32_t seq) {
  return is_come(fate_of(book, life, seq)) != 0;
}

/* ---- what a consumer may have had in its hands at its end ------------------------------------ */

/* Items that came to a life, and of those the ones of its last get. */
static uint64_t count_got(const struct book *book, uint32_t by, uint64_t asked) {
  uint64_t count = 0;
  for (uint32_t life = 0; life < atomic_load(&book->lives_used); life++)
    for (uint32_t seq = 1; seq <= atomic_load(&book->lives[life].begun); seq++)
      count += atomic_load(&fate_of(book, life, seq)->owner) == by + 1 &&
               (asked == 0 || atomic_load(&fate_of(book, life, seq)->asked) == asked);
  return count;
}

/* Killed, or at its end by itself. */
static bool is_over(const struct life *life) {
  uint32_t state = atomic_load(&life->state);
  return state == KILLED || state == ENDED;
}

static uint64_t in_hands(const struct book *book, uint32_t index) {
  const struct life *life = &book->lives[index];
  uint64_t asked = atomic_load(&life->asked);
  if (!is_over(life) || asked == 0)
    return 0;
  return atomic_load(&life->want) - count_got(book, index, asked);
}

static uint64_t in_all_hands(const struct book *book) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    sum += in_hands(book, i);
  return sum;
}

/* A process that died as it asked for a lost task may have had one in its hands. */
static uint64_t in_ears(const struct book *book) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    sum += is_over(&book->lives[i]) && atomic_load(&book->lives[i].hears);
  return sum;
}

/* The sum of a field over all items. */
static uint64_t sum_over_items(const struct book *book,
                               uint64_t (*field)(const struct fate *fate)) {
  uint64_t sum = 0;
  for (uint32_t life = 0; life < atomic_load(&book->lives_used); life++)
    for (uint32_t seq = 1; seq <= atomic_load(&book->lives[life].begun); seq++)
      sum += field(fate_of(book, life, seq));
  return sum;
}

static uint64_t told(const struct fate *fate) {
  return atomic_load(&fate->told);
}

static uint64_t given_again(const struct fate *fate) {
  return atomic_load(&fate->again);
}

/* Each was told, or is nobody's. */
static struct range told_abandoned(const struct book *book) {
  uint64_t count = sum_over_items(book, told);
  return (struct range){ count, count + in_ears(book) };
}

struct range check_abandoned(const struct book *book) {
  struct range abandoned = { 0, 0 };
  if (plan_redelivers(&book->plan))
    return abandoned;
  if (plan_keeps(&book->plan))
    return told_abandoned(book);
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++) {
    const struct life *life = &book->lives[i];
    if (!is_over(life))
      continue;
    uint64_t got = count_got(book, i, 0);
    uint64_t begun = atomic_load(&life->done_begun);
    abandoned.low += got > begun ? got - begun : 0;
    abandoned.high += got + in_hands(book, i) - atomic_load(&life->done_ended);
  }
  return abandoned;
}

/* ---- what became of the items of one producer -------------------------------------------- */

/* Whether it ended without a close. */
static bool is_cut_off(const struct life *life) {
  return atomic_load(&life->state) == KILLED || atomic_load(&life->vanished);
}

/* The last item that must have arrived, unless a killed consumer had it in its hands. */
static uint32_t last_owed(const struct book *book, uint32_t index, uint32_t last_come) {
  const struct life *life = &book->lives[index];
  uint32_t owed = !is_cut_off(life) || book->plan.simple ? atomic_load(&life->accepted)
                                                         : atomic_load(&life->flushed);
  return owed > last_come ? owed : last_come;
}

static uint32_t last_come(const struct book *book, uint32_t index) {
  uint32_t seq = atomic_load(&book->lives[index].begun);
  while (seq > 0 && !came(book, index, seq))
    seq--;
  return seq;
}

/* Where tasks are kept, what was got is done or told to be lost. A process may have died as it said so, and
 * as it was told. */
static void check_done(struct book *book, uint32_t index, uint32_t seq) {
  const struct fate *fate = fate_of(book, index, seq);
  uint32_t done = atomic_load(&fate->done_ended), begun = atomic_load(&fate->done_begun);
  bool in_doubt = begun > done || in_ears(book) > 0;
  if (plan_keeps(&book->plan) && done + atomic_load(&fate->told) != 1 && !in_doubt)
    book_fail(book, "item %u of life %u was got %u times, and done %u times", seq, index,
              atomic_load(&fate->given), done);
}

/* Whatever came was put, and nothing came after something that was put behind it: a get of
 * the one that began after a get of the other had returned. */
static void check_order(struct book *book, uint32_t index) {
  uint64_t first_came = UINT64_MAX;
  uint32_t first = 0;
  for (uint32_t seq = ITEMS_MAX - 1; seq > 0; seq--) {
    const struct fate *fate = fate_of(book, index, seq);
    if (!came(book, index, seq))
      continue;
    check_done(book, index, seq);
    if (seq > atomic_load(&book->lives[index].begun))
      book_fail(book, "item %u of life %u came and was never put", seq, index);
    if (atomic_load(&fate->put) == WITHDRAWN)
      book_fail(book, "item %u of life %u came, whose put had failed", seq, index);
    if (atomic_load(&fate->owner) == 0 || atomic_load(&fate->late))
      continue;
    if (atomic_load(&fate->asked) > first_came)
      book_fail(book, "item %u of life %u came after item %u", seq, index, first);
    if (atomic_load(&fate->came) < first_came) {
      first_came = atomic_load(&fate->came);
      first = seq;
    }
  }
}

static uint64_t count_missing(const struct book *book, uint32_t index) {
  uint64_t missing = 0;
  uint32_t last = last_owed(book, index, last_come(book, index));
  for (uint32_t seq = 1; seq <= last; seq++)
    missing += !came(book, index, seq) &&
               atomic_load(&fate_of(book, index, seq)->put) == AS_NUMBERED;
  return missing;
}

static uint64_t count_all_missing(const struct book *book) {
  uint64_t missing = 0;
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    missing += count_missing(book, i);
  return missing;
}

/* Where tasks are kept, what a consumer had in its hands at its end is got again, or told. */
static uint64_t may_be_missing(const struct book *book) {
  return plan_keeps(&book->plan) ? in_ears(book) : in_all_hands(book);
}

void check_items(struct book *book) {
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++)
    check_order(book, i);
  uint64_t missing = count_all_missing(book), hands = may_be_missing(book);
  if (missing > hands)
    book_fail(book,
              "%" PRIu64 " items are missing, and %" PRIu64
              " at most were in the hands of processes that ended",
              missing, hands);
}

/* ---- the queue's own numbers ------------------------------------------------------------- */

static void check_range(struct book *book, const char *what, uint64_t value,
                        struct range range) {
  if (value < range.low || value > range.high)
    book_fail(book, "%s: %" PRIu64 ", not from %" PRIu64 " to %" PRIu64, what, value,
              range.low, range.high);
}

static uint64_t count_withdrawn(const struct book *book, uint32_t index) {
  uint64_t withdrawn = 0;
  for (uint32_t seq = 1; seq <= atomic_load(&book->lives[index].begun); seq++)
    withdrawn += atomic_load(&fate_of(book, index, seq)->put) == WITHDRAWN;
  return withdrawn;
}

/* An heir that ends while it takes over items may have counted them a second time. */
static uint64_t count_twice(const struct book *book, uint32_t index) {
  uint64_t twice = 0;
  if (is_cut_off(&book->lives[index]))
    while ((index = atomic_load(&book->lives[index].heir_of)) != 0)
      twice += atomic_load(&book->lives[index].begun);
  return twice;
}

/* A reader that dies may have got one again and not counted it, or counted it and not written it down. */
static void check_again(struct book *book, uint64_t again) {
  uint64_t known = sum_over_items(book, given_again), hands = in_all_hands(book);
  struct range range = { known > hands ? known - hands : 0, known + hands };
  check_range(book, "items got again", again, range);
}

void check_statistics(struct book *book) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  struct range put = { 0, 0 }, got = { 0, 0 };
  for (uint32_t i = 0; i < atomic_load(&book->lives_used); i++) {
    put.low += atomic_load(&book->lives[i].puts);
    put.high += atomic_load(&book->lives[i].begun) - count_withdrawn(book, i) +
                count_twice(book, i);
  }
  got.low = sum_over_items(book, is_come);
  got.high = got.low + may_be_missing(book);
  int r = forkq_queue_stats(book->queue, &stats);
  if (r != 0)
    book_fail(book, "stats says %s", forkq_error_name(r));
  check_range(book, "items put", stats.put_items, put);
  check_range(book, "items got", stats.got_items, got);
  uint64_t missing = count_all_missing(book);
  check_again(book, stats.redelivered_items);
  if (missing > stats.got_items - got.low)
    book_fail(book, "%" PRIu64 " items are missing, and the queue gave away %" PRIu64,
              missing, stats.got_items - got.low);
}
