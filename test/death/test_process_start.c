/* A child of forkq_process_start: what it has of its parent, and how it leaves. */
#define _GNU_SOURCE
#include "process_calls.h"
#include "queue_helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LARGE (1u << 20) /* more than the pipe of a queue holds */

static struct { _Atomic int flag, parents_handler, childs_handler, ran; } * shared;

static void set_up(void) {
  shared = support_shared(sizeof *shared);
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

/* A run that is counted: most must not be called. */
static int count_a_run(void *nothing) {
  (void)nothing;
  atomic_fetch_add(&shared->ran, 1);
  return 0;
}

/* ---- how it leaves --------------------------------------------------------------------------- */

START_TEST(the_result_is_the_exit_code) {
  int numbers[] = { 0, 1, 7, 255, 256 + 3 };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    ck_assert_int_eq(end(start(return_it, &numbers[i])), numbers[i] & 0xff);
}
END_TEST

static int call_exit(void *nothing) {
  (void)nothing;
  exit(9);
}

static int die_by_signal(void *signo) {
  kill(getpid(), *(int *)signo);
  return sleep_on(NULL);
}

START_TEST(an_end_by_exit_or_by_a_signal_has_its_exit_code) {
  int signals[] = { SIGKILL, SIGTERM, SIGUSR1 };
  ck_assert_int_eq(end(start(call_exit, NULL)), 9);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    ck_assert_int_eq(end(start(die_by_signal, &signals[i])), -signals[i]);
}
END_TEST

static int put_a_large_one(void *nothing) {
  (void)nothing;
  support_keep_to_pipe(queue);
  return put_bin(LARGE, -1) == 0 && put(1, -1) == 0 ? 0 : 1;
}

static int put_and_exit(void *nothing) {
  exit(put_a_large_one(nothing));
}

START_TEST(what_it_has_put_is_sent) {
  forkq_process_fn runs[] = { put_a_large_one, put_and_exit };
  for (size_t i = 0; i < 2; i++) {
    forkq_process_t *process = start(runs[i], NULL);
    assert_get_bin(LARGE);
    ck_assert_int_eq(get(PATIENCE_MS), 1);
    ck_assert_int_eq(end(process), 0);
  }
}
END_TEST

static int make_a_queue_and_put(void *nothing) {
  (void)nothing;
  forkq_queue_t *own;
  CHILD_MUST(forkq_queue_create(&own, 0) == 0);
  CHILD_MUST(put_int(own, 1, 0) == 0);
  return put(2, -1) == 0 ? 0 : 1;
}

/* exit would have to know of a queue that the child has made. */
START_TEST(a_queue_of_its_own_does_not_keep_it) {
  ck_assert_int_eq(end(start(make_a_queue_and_put, NULL)), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 2);
}
END_TEST

static void parents_handler(void) {
  atomic_fetch_add(&shared->parents_handler, 1);
}

/* The queue still works in a handler of the child. */
static void childs_handler(void) {
  atomic_fetch_add(&shared->childs_handler, 1);
  CHILD_MUST(put(3, -1) == 0);
}

static int register_a_handler(void *exits) {
  CHILD_MUST(atexit(childs_handler) == 0);
  if (exits != NULL)
    exit(0);
  return 0;
}

START_TEST(handlers_of_the_parent_do_not_run_in_it) {
  ck_assert_int_eq(atexit(parents_handler), 0);
  for (int i = 1; i <= 2; i++) {
    ck_assert_int_eq(end(start(register_a_handler, i == 1 ? shared : NULL)), 0);
    ck_assert_int_eq(shared->parents_handler, 0);
    ck_assert_int_eq(shared->childs_handler, i);
    ck_assert_int_eq(get(PATIENCE_MS), 3);
  }
}
END_TEST

static void *end_the_thread(void *nothing) {
  (void)nothing;
  pthread_exit(NULL);
}

static int call_pthread_exit(void *nothing) {
  end_the_thread(nothing);
  return 0;
}

static int be_cancelled(void *nothing) {
  int state;
  (void)nothing;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  return 0;
}

static void unwound(void *nothing) {
  (void)nothing;
  atomic_fetch_add(&shared->flag, 1);
}

/* Not an assertion of Check's, which would jump out of the frame with the handler. */
static int end_of(forkq_process_fn run) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  forkq_process_t *process;
  int code = 1000;
  CHILD_MUST(forkq_process_start(&process, run, NULL, &options) == 0);
  CHILD_MUST(forkq_process_join(process, PATIENCE_MS) == 0);
  CHILD_MUST(forkq_process_exitcode(process, &code) == 1);
  forkq_process_destroy(process);
  return code;
}

/* On the first thread and on another one, whose frames end differently. */
static void *leave_by_the_thread(void *ret_code) {
  forkq_process_fn runs[] = { call_pthread_exit, be_cancelled };
  const struct rlimit no_core = { 0, 0 };
  setrlimit(RLIMIT_CORE, &no_core);
  for (int i = 0; i < 2; i++) {
    pthread_cleanup_push(unwound, NULL);
    ((int *)ret_code)[i] = end_of(runs[i]);
    pthread_cleanup_pop(0);
  }
  return NULL;
}

static int pass_a_cancellation_point(void *nothing) {
  (void)nothing;
  usleep(1);
  return 3;
}

/* A start is no cancellation point. The child inherits the state: enabled, with one pending. */
static void *start_with_a_pending_cancellation(void *ret_process) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  int state;
  pthread_cancel(pthread_self());
  CHILD_MUST(
      forkq_process_start(ret_process, pass_a_cancellation_point, NULL, &options) == 0);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return NULL;
}

START_TEST(a_cancellation_of_the_parents_thread_is_not_the_childs) {
  pthread_t thread;
  forkq_process_t *process = NULL;
  int code = 1000;
  ck_assert_int_eq(
      pthread_create(&thread, NULL, start_with_a_pending_cancellation, &process), 0);
  support_join(thread);
  ck_assert_int_eq(forkq_process_join(process, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_process_exitcode(process, &code), 1);
  ck_assert_int_eq(code, 3);
  forkq_process_destroy(process);
}
END_TEST

static void assert_aborted(const int codes[2]) {
  ck_assert_int_eq(codes[0], -SIGABRT);
  ck_assert_int_eq(codes[1], -SIGABRT);
  ck_assert_int_eq(shared->flag, 0);
}

START_TEST(the_end_of_its_thread_does_not_unwind_the_parents_frames) {
  int codes[2];
  pthread_t thread;
  leave_by_the_thread(codes);
  assert_aborted(codes);
  ck_assert_int_eq(pthread_create(&thread, NULL, leave_by_the_thread, codes), 0);
  support_join(thread);
  assert_aborted(codes);
}
END_TEST

/* ---- stdio ------------------------------------------------------------------------------------ */

static FILE *stream;

static int print(void *text) {
  return fputs(text, stream) < 0;
}

/* What the file of the stream has in the end. */
static void assert_written(const char *text) {
  char written[100] = "";
  ck_assert_int_eq(fflush(stream), 0);
  rewind(stream);
  (void)!fread(written, 1, sizeof written - 1, stream);
  ck_assert_str_eq(written, text);
}

START_TEST(output_comes_once_and_in_order) {
  stream = tmpfile();
  ck_assert_ptr_nonnull(stream);
  fputs("parent,", stream);
  ck_assert_int_eq(end(start(print, "child,")), 0);
  fputs("parent", stream);
  assert_written("parent,child,parent");
  fclose(stream);
}
END_TEST

/* What a thread prints in the course of a start, after the flush. */
static void print_in_fork(void) {
  fputs("thread,", stdout);
}

START_TEST(what_is_printed_during_the_start_comes_once) {
  stream = tmpfile();
  ck_assert_ptr_nonnull(stream);
  fflush(stdout);
  int old = dup(STDOUT_FILENO);
  ck_assert_int_ge(dup2(fileno(stream), STDOUT_FILENO), 0);
  ck_assert_int_eq(pthread_atfork(print_in_fork, NULL, NULL), 0);
  forkq_process_t *process = start(print, "child,");
  fflush(stdout);
  dup2(old, STDOUT_FILENO);
  close(old);
  ck_assert_int_eq(end(process), 0);
  fseek(stream, 0, SEEK_END);
  ck_assert_int_eq(ftell(stream), (long)strlen("thread,child,"));
  fclose(stream);
}
END_TEST

static void *read_stdin(void *ready) {
  atomic_store((_Atomic int *)ready, gettid());
  return (void *)(intptr_t)getchar();
}

START_TEST(a_thread_that_reads_stdin_does_not_keep_it) {
  int fds[2], number = 5;
  _Atomic int reader = 0;
  pthread_t thread;
  ck_assert_int_eq(pipe(fds), 0);
  ck_assert_int_ge(dup2(fds[0], STDIN_FILENO), 0);
  clearerr(stdin);
  ck_assert_int_eq(pthread_create(&thread, NULL, read_stdin, &reader), 0);
  support_until(&reader);
  support_until_thread_asleep(reader);
  ck_assert_int_eq(end(start(return_it, &number)), 5);
  ck_assert_int_eq(write(fds[1], "x", 1), 1);
  ck_assert_int_eq((intptr_t)support_join(thread), 'x');
  close(fds[0]);
  close(fds[1]);
}
END_TEST

static int print_beside_a_reader(void *fd) {
  _Atomic int reader = 0;
  pthread_t thread;
  CHILD_MUST(pthread_create(&thread, NULL, read_stdin, &reader) == 0);
  support_until(&reader);
  support_until_thread_asleep(reader);
  FILE *file = fdopen(*(int *)fd, "w");
  CHILD_MUST(file != NULL && fputs("result", file) >= 0);
  return 5;
}

START_TEST(a_thread_of_the_child_that_reads_stdin_loses_no_output) {
  int in[2], out[2];
  char text[16] = "";
  ck_assert(pipe(in) == 0 && pipe(out) == 0);
  ck_assert_int_ge(dup2(in[0], STDIN_FILENO), 0);
  clearerr(stdin);
  ck_assert_int_eq(end(start(print_beside_a_reader, &out[1])), 5);
  close(out[1]);
  ck_assert_int_eq(read(out[0], text, sizeof text - 1), 6);
  ck_assert_str_eq(text, "result");
  close(in[0]);
  close(in[1]);
  close(out[0]);
}
END_TEST

#define LINES 3000 /* several buffers */

/* exit(3) sets the place in an input file back to where its process has read. The place is the
 * parent's, too. */
START_TEST(its_end_does_not_set_back_what_the_parent_reads) {
  FILE *file = tmpfile();
  int number, zero = 0;
  ck_assert_ptr_nonnull(file);
  for (int i = 0; i < LINES; i++)
    fprintf(file, "%d\n", i);
  rewind(file);
  for (int i = 0; i < LINES; i++) {
    ck_assert_int_eq(fscanf(file, "%d", &number), 1);
    ck_assert_int_eq(number, i);
    if (i == 0)
      ck_assert_int_eq(end(start(return_it, &zero)), 0);
  }
  fclose(file);
}
END_TEST

/* ---- descriptors ------------------------------------------------------------------------------- */

static int count_fds(void *nothing) {
  (void)nothing;
  return support_open_fds_below(256);
}

/* A daemon keeps the end of a pipe that its parent also has. */
START_TEST(no_descriptor_comes_twice_or_stays) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  int before = support_open_fds_below(256);
  ck_assert_int_eq(end(start_with(count_fds, NULL, options)), before);
  ck_assert_int_eq(support_open_fds_below(256), before);
  forkq_process_t *daemon = start(sleep_on, NULL);
  ck_assert_int_eq(support_open_fds_below(256), before + 2);
  forkq_process_t *other = start_with(sleep_on, NULL, options);
  ck_assert_int_eq(support_open_fds_below(256), before + 3);
  ck_assert_int_eq(end(start_with(count_fds, NULL, options)), before);
  ck_assert_int_eq(end(start(count_fds, NULL)), before + 1);
  ck_assert_int_eq(forkq_process_kill(daemon), 0);
  ck_assert_int_eq(forkq_process_kill(other), 0);
  ck_assert_int_eq(end(daemon), -SIGKILL);
  ck_assert_int_eq(end(other), -SIGKILL);
  ck_assert_int_eq(support_open_fds_below(256), before);
}
END_TEST

/* The limit below which so many numbers are free. */
static rlim_t limit_with_free(int count) {
  int fd = 0;
  for (; fcntl(fd, F_GETFD) >= 0 || count-- > 0; fd++)
    ;
  return (rlim_t)fd;
}

/* A start needs two descriptors for the pipe. The pidfd takes the place of one of them. */
START_TEST(without_descriptors_nothing_is_run) {
  struct rlimit limit, fewer;
  forkq_process_t *process = NULL;
  int before = support_open_fds_below(256);
  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  fewer = limit;
  for (int count = 0; count < 3; count++) {
    fewer.rlim_cur = limit_with_free(count);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &fewer), 0);
    int r = forkq_process_start(&process, count_a_run, NULL, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(r, count < 2 ? -EMFILE : 0);
  }
  ck_assert_int_eq(end(process), 0);
  ck_assert_int_eq(shared->ran, 1);
  ck_assert_int_eq(support_open_fds_below(256), before);
}
END_TEST

/* ---- errors ------------------------------------------------------------------------------------ */

START_TEST(errors_of_start) {
  forkq_process_t *process = NULL;
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  ck_assert_int_eq(forkq_process_start(NULL, count_a_run, NULL, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_start(&process, NULL, NULL, NULL), FORKQ_ENULL);
  const size_t sizes[] = { 0, 1, sizeof options - 1, sizeof options + sizeof(size_t) };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    options.size = sizes[i];
    ck_assert_int_eq(forkq_process_start(&process, count_a_run, NULL, &options),
                     FORKQ_ERANGE);
  }
  options = (forkq_process_options_t)FORKQ_PROCESS_OPTIONS_INIT;
  options.unused = 1;
  ck_assert_int_eq(forkq_process_start(&process, count_a_run, NULL, &options),
                   FORKQ_ERANGE);
  ck_assert_ptr_null(process);
  ck_assert_int_eq(shared->ran, 0);
}
END_TEST

START_TEST(errors_of_no_process) {
  int code;
  ck_assert_int_eq(forkq_process_join(NULL, 0), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_exitcode(NULL, &code), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_is_alive(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_pid(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_fileno(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_terminate(NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_process_kill(NULL), FORKQ_ENULL);
  forkq_process_destroy(NULL);
}
END_TEST

static forkq_process_t *inherited;

static int use_the_parents(void *nothing) {
  (void)nothing;
  int code;
  CHILD_MUST(forkq_process_join(inherited, 0) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_exitcode(inherited, &code) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_is_alive(inherited) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_fileno(inherited) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_terminate(inherited) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_kill(inherited) == FORKQ_EFORKED);
  CHILD_MUST(forkq_process_pid(inherited) > 0);
  forkq_process_destroy(inherited);
  int zero = 0;
  return end(start(return_it, &zero));
}

START_TEST(a_process_belongs_to_its_parent) {
  inherited = start(sleep_on, NULL);
  ck_assert_int_eq(end(start(use_the_parents, NULL)), 0);
  ck_assert_int_eq(forkq_process_is_alive(inherited), 1);
  ck_assert_int_eq(forkq_process_kill(inherited), 0);
  ck_assert_int_eq(end(inherited), -SIGKILL);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("process_start");
  TCase *leaves = tcase_create("leaves");
  tcase_add_checked_fixture(leaves, set_up, queue_tear_down);
  tcase_add_test(leaves, the_result_is_the_exit_code);
  tcase_add_test(leaves, an_end_by_exit_or_by_a_signal_has_its_exit_code);
  tcase_add_test(leaves, what_it_has_put_is_sent);
  tcase_add_test(leaves, a_queue_of_its_own_does_not_keep_it);
  tcase_add_test(leaves, handlers_of_the_parent_do_not_run_in_it);
  tcase_add_test(leaves, a_cancellation_of_the_parents_thread_is_not_the_childs);
  tcase_add_test(leaves, the_end_of_its_thread_does_not_unwind_the_parents_frames);
  suite_add_tcase(suite, leaves);
  TCase *stdio = tcase_create("stdio");
  tcase_add_checked_fixture(stdio, set_up, queue_tear_down);
  tcase_add_test(stdio, output_comes_once_and_in_order);
  tcase_add_test(stdio, what_is_printed_during_the_start_comes_once);
  tcase_add_test(stdio, a_thread_that_reads_stdin_does_not_keep_it);
  tcase_add_test(stdio, a_thread_of_the_child_that_reads_stdin_loses_no_output);
  tcase_add_test(stdio, its_end_does_not_set_back_what_the_parent_reads);
  suite_add_tcase(suite, stdio);
  TCase *rest = tcase_create("descriptors and errors");
  tcase_add_checked_fixture(rest, set_up, queue_tear_down);
  tcase_add_test(rest, no_descriptor_comes_twice_or_stays);
  tcase_add_test(rest, without_descriptors_nothing_is_run);
  tcase_add_test(rest, errors_of_start);
  tcase_add_test(rest, errors_of_no_process);
  tcase_add_test(rest, a_process_belongs_to_its_parent);
  suite_add_tcase(suite, rest);
  return support_main(suite);
}
