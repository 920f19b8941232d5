#define _GNU_SOURCE
#include "steps_course.h"
#include "steps_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_STRIDE 11

/* FORKQ_STEPS: every how manieth point is taken, or "all": all of them, and each time with
 * every first look. FORKQ_STEPS_SEED: where the taking begins. */
static long usual_stride;

static bool take_all(void) {
  const char *value = getenv("FORKQ_STEPS");
  return value != NULL && strcmp(value, "all") == 0;
}

static long stride(void) {
  const char *value = getenv("FORKQ_STEPS");
  if (take_all())
    return 1;
  return value != NULL && atol(value) > 0 ? atol(value) : usual_stride;
}

static long seed(void) {
  const char *value = getenv("FORKQ_STEPS_SEED");
  return value != NULL ? labs(atol(value)) : 0;
}

static long first_point(void) {
  return seed() % stride();
}

/* The first deaths of a pair are taken closer than the second, of which there are more. */
static long stride_of_first(void) {
  return stride() < FIRST_STRIDE ? stride() : FIRST_STRIDE;
}

/* What a victim had not sent at one point may have gone at a later one; what it had taken
 * does not come back. */
static void check_progress(int *arrived, int *lost) {
  world_must(world_arrived() >= *arrived);
  world_must(world_missing() >= *lost);
  *arrived = world_arrived();
  *lost = world_missing();
}

/* What is known of the way of the victims at hand, and of those who come after them. */
static struct steps_course course;
static struct steps_course course_of_next;
static struct {
  long kills;
  long strays; /* victims that died elsewhere, beside those that did so at the point */
  int64_t begun_ms;
  int64_t slowest_ms; /* until all was right again */
} tally;

static void tally_begin(void) {
  memset(&tally, 0, sizeof tally);
  tally.begun_ms = support_now_ms();
  course.known = 0;
}

static void tally_add(enum steps_end end, int64_t ms) {
  tally.kills++;
  tally.strays += end == STEPS_STRAYED;
  tally.slowest_ms = ms > tally.slowest_ms ? ms : tally.slowest_ms;
}

static void report(const char *name, long all_points) {
  double seconds = (double)(support_now_ms() - tally.begun_ms) / 1000;
  printf("%-56s %6ld points %6ld kills, %4ld strays, %5.1f s, right again in %4lld ms\n",
         name, all_points, tally.kills, tally.strays, seconds,
         (long long)tally.slowest_ms);
}

/* One life and death of a victim, and what comes after it. False if it came to its end. Who
 * strays dies at some instruction, after which all must be as well; then another one dies at
 * the point. */
static bool kill_and_check(const struct operation *operation, long point, long look) {
  enum steps_end end;
  do {
    world_begin(operation, look);
    end = world_kill(operation, point, &course);
    tally_add(end, world_check(operation));
  } while (end == STEPS_STRAYED);
  return end == STEPS_KILLED;
}

static void sweep(const struct operation *operation, long pass) {
  int arrived = 0, lost = 0;
  bool within = true;
  for (long point = first_point(); within; point += stride()) {
    within = kill_and_check(operation, point, point / stride() + pass);
    if (!operation->unsteady && !operation->gets_own && operation->ending == STAYS_OPEN)
      check_progress(&arrived, &lost);
  }
  if (operation->ending == STAYS_OPEN) {
    world_must(world_arrived() == operation->puts);
    world_must(world_missing() == operation->takes - operation->leaves);
  }
}

static void operation_run(const struct operation *operation) {
  tally_begin();
  for (long pass = 0; pass < (take_all() ? LOOKS : 1); pass++)
    sweep(operation, pass);
  report(operation->name, steps_points());
  world_must(steps_points() >= operation->floor);
}

/* The two as one operation, for the checks. */
static struct operation both_of(const struct pair *pair) {
  static char name[128];
  struct operation both = *pair->first;
  snprintf(name, sizeof name, "%s; then %s", pair->first->name, pair->second->name);
  both.name = name;
  both.puts += pair->second->puts;
  both.takes += pair->second->takes;
  both.gets_own = both.gets_own || pair->second->takes > 0;
  return both;
}

/* Two lives in one world. */
static enum steps_end kill_two(const struct pair *pair, long first, long second,
                               bool *ret_within) {
  struct operation both = both_of(pair);
  world_begin(&both, first + second / stride());
  enum steps_end end = world_kill(pair->first, first, &course);
  *ret_within = end == STEPS_KILLED;
  if (both.after != NULL)
    both.after();
  both.after = NULL;
  if (end != STEPS_STRAYED)
    end = world_kill(pair->second, second, &course_of_next);
  tally_add(end, world_check(&both));
  return end;
}

/* False if the second came to its end. */
static bool kill_both(const struct pair *pair, long first, long second,
                      bool *ret_within) {
  enum steps_end end;
  do
    end = kill_two(pair, first, second, ret_within);
  while (end == STEPS_STRAYED);
  return end == STEPS_KILLED;
}

/* Returns the points of the second, after that death of the first. */
static long sweep_second(const struct pair *pair, long first, bool *ret_within) {
  course_of_next.known = 0;
  long second = (seed() + first) % stride();
  while (kill_both(pair, first, second, ret_within))
    second += stride();
  return steps_points();
}

/* Who runs a pair by its number runs one slice of it: every SLICES-th death of the first. A whole pair
 * can take longer than the 2,147 s for which Check has a number. */
#define SLICES 4
static long slice, slices = 1;

static void pair_run(const struct pair *pair) {
  long deaths = 0, points = 0;
  bool within = true;
  char name[128];
  tally_begin();
  long first = seed() % stride_of_first() + slice * stride_of_first();
  for (; within; first += slices * stride_of_first()) {
    points += sweep_second(pair, first, &within);
    deaths++;
  }
  snprintf(name, sizeof name, "%s; then %s, after %ld deaths", pair->first->name,
           pair->second->name, deaths);
  report(name, points);
}

/* ---- what is run --------------------------------------------------------------------- */

/* The operations, and behind them the pairs, have numbers. */
static const struct operation *all_operations;
static int operation_count;
static const struct pair *all_pairs;
static int pair_count;

static const char *name_of(int number) {
  return number < operation_count ? all_operations[number].name
                                  : all_pairs[number - operation_count].first->name;
}

/* FORKQ_STEPS_ONLY: a part of the names of those that shall run. */
static bool wanted(int number) {
  const char *only = getenv("FORKQ_STEPS_ONLY");
  return only == NULL || strstr(name_of(number), only) != NULL;
}

START_TEST(an_operation) {
  if (!wanted(_i))
    return;
  if (_i < operation_count)
    operation_run(&all_operations[_i]);
  else
    pair_run(&all_pairs[_i - operation_count]);
}
END_TEST

/* A copy with `rep movsb` is one step a byte: the C library shall copy otherwise. */
static void copy_in_long_steps(char **arguments) {
  if (getenv("GLIBC_TUNABLES") != NULL)
    return;
  setenv("GLIBC_TUNABLES",
         "glibc.cpu.x86_rep_movsb_threshold=1000000:"
         "glibc.cpu.x86_rep_stosb_threshold=1000000",
         1);
  execv("/proc/self/exe", arguments);
}

/* A line for each that is wanted, to be run by: its program, its number, the slice of a pair. */
static int list(const char *program) {
  for (int i = 0; i < operation_count + pair_count; i++)
    for (int k = 0; wanted(i) && k < (i < operation_count ? 1 : SLICES); k++)
      printf("%s %d %d\n", program, i, k);
  return EXIT_SUCCESS;
}

/* From that number on, below the other. */
static int run(const char *name, int from, int to) {
  Suite *suite = suite_create(name);
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 2100);
  tcase_add_loop_test(tcase, an_operation, from, to);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, to - from == 1 ? CK_SILENT : CK_ENV);
  int failed = srunner_ntests_failed(runner);
  if (failed > 0 && to - from == 1)
    srunner_print(runner, CK_NORMAL);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* As it was listed. */
static int run_listed(const char *name, char **arguments) {
  int number = atoi(arguments[1]);
  if (number >= operation_count && arguments[2] != NULL) {
    slice = atoi(arguments[2]);
    slices = SLICES;
  }
  return run(name, number, number + 1);
}

int world_main(char **arguments, const struct world_work *work) {
  all_operations = work->operations;
  operation_count = (int)work->operation_count;
  all_pairs = work->pairs;
  pair_count = (int)work->pair_count;
  usual_stride = work->sample;
  if (arguments[1] != NULL && strcmp(arguments[1], "--list") == 0)
    return list(arguments[0]);
  copy_in_long_steps(arguments);
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (arguments[1] != NULL)
    return run_listed(work->name, arguments);
  printf("one point in %ld, from the %ldth\n", stride(), first_point());
  return run(work->name, 0, operation_count + pair_count);
}
