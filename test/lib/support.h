/* What the tests have in common: children, waiting for a state, and a heap that fails. */
#ifndef FORKQ_TEST_SUPPORT_H
#define FORKQ_TEST_SUPPORT_H

#include <check.h>
#include <forkq/queue.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In a child, where an assertion of Check would run the exit handlers of the test: says
 * what is wrong and exits with 1. */
#define CHILD_MUST(condition)                                                            \
  do {                                                                                   \
    if (!(condition))                                                                    \
      support_child_failed(__FILE__, __LINE__, #condition);                              \
  } while (0)
_Noreturn void support_child_failed(const char *file, int line, const char *condition);

/* An assertion for hot loops: each of Check's own is a write to a file. */
#define support_assert(condition)                                                        \
  do {                                                                                   \
    if (!(condition))                                                                    \
      ck_abort_msg("not so: %s", #condition);                                            \
  } while (0)

/* Whether this is AddressSanitizer's build. A fork beside a thread that begins leaves the sanitizer's
 * allocator locked: there, a test waits for the feeder to begin before it forks. */
#if defined(__SANITIZE_ADDRESS__)
#  define UNDER_ASAN 1
#else
#  define UNDER_ASAN 0
#endif

/* ---- children ---------------------------------------------------------------------- */

/* Forks a child that calls `fn` and exits with 0. It dies with its parent. */
pid_t support_fork(void (*fn)(void *arg), void *arg);

/* Waits for the end of a child: its exit status, or 128 and the signal that ended it. */
int support_wait(pid_t child);

/* In a child: ends it by SIGALRM after so long. (The handler that Check has for that signal kills
 * the test, and nobody hears why.) */
void support_end_after(unsigned seconds);

/* Kills a child with SIGKILL; kill_and_wait reaps it too, kill leaves it a zombie, and
 * comes back when it is one. */
void support_kill(pid_t child);
void support_kill_and_wait(pid_t child);

/* Stops a child, and comes back when it has stopped; or, where it may end by itself, has ended. */
void support_stop(pid_t child);
void support_stop_unless_ended(pid_t child);

/* Memory, all zero, that children share; it lasts until the test ends. */
void *support_shared(size_t size);

/* ---- waiting for a state: at most 10 seconds, and then the test fails ---------------
 *
 * Or CK_TIMEOUT_MULTIPLIER times that. */

/* Until the flag is not 0. */
void support_until(_Atomic int *flag);

/* Until a word, shared or not, has that value. */
void support_until_equal(const _Atomic uint32_t *word, uint32_t value);

/* The state of a process or thread by its stat file: one letter, as proc(5) has them. */
char support_state_in(const char *path);

/* Until a process sleeps in a system call, with its first thread. */
bool support_asleep(pid_t pid);
void support_until_asleep(pid_t pid);

/* Until that many threads of this process sleep, the caller not counted. */
void support_until_threads_asleep(int count);

/* Until every other thread of this process sleeps, however many there are: a fork beside a thread
 * that begins leaves AddressSanitizer's allocator locked in the child. */
void support_until_others_asleep(void);

/* Until that thread of this process sleeps. */
void support_until_thread_asleep(pid_t thread);

/* Until a thread has ended, and joins it: what it returned, PTHREAD_CANCELED if it was. */
void *support_join(pthread_t thread);

/* Until the packet pipe of a queue, the only one that this process has, has no room, or
 * has nothing in it. */
void support_until_pipe_full(const void *queue);
void support_until_pipe_empty(const void *queue);

/* Before the process's first put: its large messages go through the pipe in fragments, and so can fill
 * it, as where there is no shared memory for them. Children do the same. */
void support_keep_to_pipe(void *queue);

/* Large messages are copied without the read lock, as on machines with many CPUs. Children do the same. */
void support_copy_late(void *queue);
#define SUPPORT_LATE (32 * 1024)

/* Gives that pipe room for 16 packets, so that it is full sooner. */
void support_shrink_pipe(const void *queue);

/* Milliseconds on CLOCK_MONOTONIC. */
int64_t support_now_ms(void);

/* ---- what is open, what is allocated ----------------------------------------------- */

int support_open_fds(void);

/* Those with numbers below that, asked for with fcntl alone: also in a child that may make no other
 * call, or where Check may not write. */
int support_open_fds_below(int number);

/* A heap of forkq's that counts. With fail_at the k-th request from now fails, and if
 * `persistent` all that follow it; 0: none does. live: blocks not freed yet. requests:
 * all that were made, with those that failed. */
void support_heap_install(void);
void support_heap_fail_at(long k, bool persistent);
long support_heap_live(void);
long support_heap_requests(void);

/* ---- numbers ----------------------------------------------------------------------- */

/* The next of a sequence that looks random and depends on the seed alone; below
 * `limit`. */
uint64_t support_random(uint64_t *seed);
uint32_t support_random_below(uint64_t *seed, uint32_t limit);

/* Bytes that depend on the seed and on their place. */
void support_fill(void *data, size_t size, uint64_t seed);

/* Runs a suite: what main returns. */
int support_main(Suite *suite);

#endif
