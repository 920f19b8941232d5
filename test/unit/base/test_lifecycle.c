/* Fork and exit: whom the registry calls, in what order, and whom not. */
#include "base/lifecycle.h"
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OBJECTS 4

/* What was called, as letters, in memory that children share. */
static struct journal {
  _Atomic int length;
  char text[100];
} * journal;

struct object {
  struct forkq__life life;
  char name;
};

static void note(char what, const struct forkq__life *life) {
  int at = atomic_fetch_add(&journal->length, 2);
  journal->text[at] = what;
  journal->text[at + 1] = ((const struct object *)(const void *)life)->name;
}

static void before_fork(struct forkq__life *life, int64_t deadline) {
  (void)deadline;
  note('b', life);
}

static void after_fork_parent(struct forkq__life *life) {
  note('p', life);
}

static void after_fork_child(struct forkq__life *life) {
  note('c', life);
}

static void at_exit(struct forkq__life *life) {
  note('x', life);
}

static const struct forkq__life_ops ops = { before_fork, after_fork_parent,
                                            after_fork_child, at_exit };

static struct object objects[OBJECTS];

static void set_up(void) {
  journal = support_shared(sizeof *journal);
  for (int i = 0; i < OBJECTS; i++)
    objects[i].name = (char)('A' + i);
}

/* The test's own exit is not to be noted. */
static void tear_down(void) {
  for (int i = 0; i < OBJECTS; i++)
    if (objects[i].life.next != NULL)
      forkq__life_end(&objects[i].life);
}

static int begin_one(struct forkq__life *life, const struct forkq__life_ops *with) {
  int r = forkq__life_hold();
  if (r < 0)
    return r;
  forkq__life_begin(life, with);
  forkq__life_let_go();
  return 0;
}

static void begin(int first, int last) {
  for (int i = first; i <= last; i++)
    ck_assert_int_eq(begin_one(&objects[i].life, &ops), 0);
}

static void end(int i) {
  forkq__life_end(&objects[i].life);
  objects[i].life.next = NULL;
}

static void forget(void) {
  memset(journal, 0, sizeof *journal);
}

/* In a child, with exit handlers. */
static int run_and_exit(void (*run)(void)) {
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child > 0)
    return support_wait(child);
  run();
  exit(0);
}

/* ---- exit -------------------------------------------------------------------------- */

static void three_objects(void) {
  begin(0, 2);
}

/* By the name of CPython's: its order is by priority, then the newest first. All queues have
 * one priority. */
START_TEST(test_finalize) {
  ck_assert_int_eq(run_and_exit(three_objects), 0);
  ck_assert_str_eq(journal->text, "xCxBxA");
}
END_TEST

static void three_objects_one_ended(void) {
  begin(0, 2);
  end(1);
}

START_TEST(who_has_ended_is_not_called_at_exit) {
  ck_assert_int_eq(run_and_exit(three_objects_one_ended), 0);
  ck_assert_str_eq(journal->text, "xCxA");
}
END_TEST

static void begun_anew(void) {
  begin(0, 1);
  end(0);
  begin(0, 0);
}

START_TEST(who_begins_anew_is_the_newest) {
  ck_assert_int_eq(run_and_exit(begun_anew), 0);
  ck_assert_str_eq(journal->text, "xAxB");
}
END_TEST

static void leave_at_once(void) {
  begin(0, 1);
  _exit(0);
}

START_TEST(_exit_calls_nobody) {
  ck_assert_int_eq(run_and_exit(leave_at_once), 0);
  ck_assert_str_eq(journal->text, "");
}
END_TEST

/* As a queue that is destroyed in an exit handler of the program's. */
static void end_another_at_exit(struct forkq__life *life) {
  note('x', life);
  forkq__life_end(&objects[0].life);
}

static const struct forkq__life_ops ending_ops = { before_fork, after_fork_parent,
                                                   after_fork_child,
                                                   end_another_at_exit };

static void one_that_ends_another(void) {
  begin(0, 1);
  ck_assert_int_eq(begin_one(&objects[2].life, &ending_ops), 0);
}

START_TEST(at_exit_one_may_end_another) {
  ck_assert_int_eq(run_and_exit(one_that_ends_another), 0);
  ck_assert_str_eq(journal->text, "xCxB");
}
END_TEST

static void nothing(void *arg) {
  (void)arg;
}

static void fork_at_exit(struct forkq__life *life) {
  note('x', life);
  CHILD_MUST(support_wait(support_fork(nothing, NULL)) == 0);
}

static const struct forkq__life_ops forking_ops = { before_fork, after_fork_parent,
                                                    after_fork_child, fork_at_exit };

static void one_that_forks(void) {
  begin(0, 0);
  ck_assert_int_eq(begin_one(&objects[1].life, &forking_ops), 0);
}

START_TEST(at_exit_the_registry_is_not_locked) {
  ck_assert_int_eq(run_and_exit(one_that_forks), 0);
  ck_assert_int_eq(strncmp(journal->text, "xBbA", 4), 0);
  ck_assert_int_eq(strcmp(journal->text + strlen(journal->text) - 2, "xA"), 0);
}
END_TEST

/* ---- fork -------------------------------------------------------------------------- */

static _Atomic int *go;

static void write_when_told(void *arg) {
  (void)arg;
  support_until(go);
}

/* The child's handlers have run before its fork returns: here the parent's have, too, before
 * the child may look. */
START_TEST(around_a_fork_each_is_called_once_and_in_turn) {
  go = support_shared(sizeof *go);
  begin(0, 2);
  pid_t child = support_fork(write_when_told, NULL);
  atomic_store(go, 1);
  ck_assert_int_eq(support_wait(child), 0);
  ck_assert_int_eq(strncmp(journal->text, "bAbBbC", 6), 0);
  char parent[10] = "", childs[10] = "";
  for (const char *t = journal->text + 6; *t != 0; t += 2)
    strncat(*t == 'p' ? parent : childs, t, 2);
  ck_assert_str_eq(parent, "pCpBpA");
  ck_assert_str_eq(childs, "cAcBcC");
}
END_TEST

START_TEST(who_has_ended_is_not_called_around_a_fork) {
  begin(0, 2);
  end(0);
  end(2);
  ck_assert_int_eq(support_wait(support_fork(nothing, NULL)), 0);
  ck_assert_int_eq(journal->length, 6);
  ck_assert_int_eq(strncmp(journal->text, "bB", 2), 0);
}
END_TEST

static void begin_another_and_fork(void *arg) {
  (void)arg;
  support_until(go); /* the parent's handlers write to the journal, too */
  CHILD_MUST(begin_one(&objects[1].life, &ops) == 0);
  while (atomic_load(&journal->length) < 6) /* the parent has noted its part */
    usleep(100);
  forget();
  CHILD_MUST(support_wait(support_fork(nothing, NULL)) == 0);
  CHILD_MUST(strncmp(journal->text, "bAbB", 4) == 0);
  CHILD_MUST(journal->length == 12);
}

START_TEST(a_child_goes_on_with_the_registry) {
  go = support_shared(sizeof *go);
  begin(0, 0);
  pid_t child = support_fork(begin_another_and_fork, NULL);
  atomic_store(go, 1);
  ck_assert_int_eq(support_wait(child), 0);
  forget();
  ck_assert_int_eq(support_wait(support_fork(nothing, NULL)), 0);
  ck_assert_int_eq(journal->length, 6); /* the child's object is not the parent's */
}
END_TEST

/* ---- looking ----------------------------------------------------------------------- */

static bool is_named(const struct forkq__life *life, const void *arg) {
  return ((const struct object *)(const void *)life)->name == *(const char *)arg;
}

START_TEST(any_sees_those_that_are_registered) {
  ck_assert(!forkq__life_any(is_named, "A"));
  begin(0, 2);
  ck_assert(forkq__life_any(is_named, "A"));
  ck_assert(forkq__life_any(is_named, "C"));
  ck_assert(!forkq__life_any(is_named, "D"));
  end(1);
  ck_assert(!forkq__life_any(is_named, "B"));
}
END_TEST

/* ---- threads ----------------------------------------------------------------------- */

static void do_nothing(struct forkq__life *life) {
  (void)life;
}

static void do_nothing_before(struct forkq__life *life, int64_t deadline) {
  (void)life;
  (void)deadline;
}

static const struct forkq__life_ops silent_ops = { do_nothing_before, do_nothing,
                                                   do_nothing, do_nothing };
static _Atomic bool stop;

static void *begin_and_end(void *arg) {
  struct forkq__life life;
  (void)arg;
  while (!atomic_load(&stop)) {
    support_assert(begin_one(&life, &silent_ops) == 0);
    forkq__life_end(&life);
  }
  return NULL;
}

static void use_the_registry(void *arg) {
  (void)arg;
  struct forkq__life life;
  CHILD_MUST(begin_one(&life, &silent_ops) == 0);
  forkq__life_end(&life);
}

START_TEST(forks_while_threads_come_and_go_find_the_registry_whole) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    pthread_create(&threads[i], NULL, begin_and_end, NULL);
  for (int i = 0; i < 100; i++)
    support_assert(support_wait(support_fork(use_the_registry, NULL)) == 0);
  atomic_store(&stop, true);
  for (int i = 0; i < 3; i++)
    pthread_join(threads[i], NULL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lifecycle");
  TCase *tcase = tcase_create("lifecycle");
  tcase_set_timeout(tcase, 30);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, test_finalize);
  tcase_add_test(tcase, who_has_ended_is_not_called_at_exit);
  tcase_add_test(tcase, who_begins_anew_is_the_newest);
  tcase_add_test(tcase, _exit_calls_nobody);
  tcase_add_test(tcase, at_exit_one_may_end_another);
  tcase_add_test(tcase, at_exit_the_registry_is_not_locked);
  tcase_add_test(tcase, around_a_fork_each_is_called_once_and_in_turn);
  tcase_add_test(tcase, who_has_ended_is_not_called_around_a_fork);
  tcase_add_test(tcase, a_child_goes_on_with_the_registry);
  tcase_add_test(tcase, any_sees_those_that_are_registered);
  tcase_add_test(tcase, forks_while_threads_come_and_go_find_the_registry_whole);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
