#define _GNU_SOURCE
#include "steps.h"

#include "steps_course.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 4
#define PATIENCE_MS 20000
#define ROBUST_SIZE                                                                      \
  24 /* struct robust_list_head: the list, an offset, the lock at hand */

enum state {
  STOPPED, /* traced, between two instructions */
  RUNNING, /* free, before the first mark */
  ASLEEP,  /* in a system call that does not come back by itself */
  GONE
};

/* What the next instruction is. */
enum next { ORDINARY, SYSTEM_CALL, MARK };

struct thread {
  pid_t tid;
  enum state state;
  enum next next;
  uintptr_t pc; /* while it is stopped */
  int signal;   /* to be delivered when it goes on */
  uintptr_t robust;
  unsigned char robust_list[ROBUST_SIZE];
};

static const struct steps *steps;
static struct thread threads[THREADS_MAX];
static int thread_count;
static void *before; /* the shared memory as it was at the last look */
static void *more_before;
static size_t before_size;
static long points;
static char where[160];
static bool awaited; /* `wake` was called */

long steps_points(void) {
  return points;
}

const char *steps_where(void) {
  return where;
}

static void must(bool holds, const char *what) {
  if (!holds)
    ck_abort_msg("steps, %s: %s (%s)", where, what, strerror(errno));
}

/* ---- what stopped threads say -------------------------------------------------------- */

static uintptr_t program_counter(const struct thread *thread) {
  errno = 0;
  long pc =
      ptrace(PTRACE_PEEKUSER, thread->tid, offsetof(struct user_regs_struct, rip), NULL);
  must(errno == 0, "no program counter");
  return (uintptr_t)pc;
}

static enum next instruction_at(pid_t tid, uintptr_t pc) {
  errno = 0;
  unsigned long word = (unsigned long)ptrace(PTRACE_PEEKTEXT, tid, pc, NULL);
  must(errno == 0, "no text");
  if ((word & 0xff) == 0xcc) /* int3 */
    return MARK;
  return (word & 0xffff) == 0x050f ? SYSTEM_CALL : ORDINARY; /* syscall */
}

/* The text of a victim never changes, and is that of all of them. */
static enum next next_of(struct thread *thread) {
  static struct {
    uintptr_t pc;
    enum next next;
  } known[1 << 14];
  uintptr_t pc = thread->pc = program_counter(thread);
  size_t i = pc % (sizeof known / sizeof *known);
  if (known[i].pc != pc) {
    known[i].next = instruction_at(thread->tid, pc);
    known[i].pc = pc;
  }
  return known[i].next;
}

static bool robust_list_changed(struct thread *thread) {
  unsigned char now[ROBUST_SIZE] = { 0 };
  struct iovec here = { now, sizeof now };
  struct iovec there = { (void *)thread->robust, sizeof now };
  if (thread->robust == 0 ||
      process_vm_readv(thread->tid, &here, 1, &there, 1, 0) != sizeof now)
    memset(now, 0, sizeof now);
  if (memcmp(now, thread->robust_list, sizeof now) == 0)
    return false;
  memcpy(thread->robust_list, now, sizeof now);
  return true;
}

static void find_robust_list(struct thread *thread) {
  size_t size;
  if (syscall(SYS_get_robust_list, thread->tid, &thread->robust, &size) != 0)
    thread->robust = 0;
}

/* 0: nothing in it changed. */
static uint64_t shared_changes(void) {
  uint64_t changes = steps_changes(before, steps->shared, before_size);
  if (changes != 0)
    memcpy(before, steps->shared, before_size);
  if (steps->more_size == 0)
    return changes;
  uint64_t more = steps_changes(more_before, steps->more, steps->more_size);
  if (more != 0)
    memcpy(more_before, steps->more, steps->more_size);
  return changes ^ (more << 1 | more >> 63);
}

/* ---- running and stopping ------------------------------------------------------------ */

static void resume(struct thread *thread, enum __ptrace_request how) {
  int signal = thread->signal;
  thread->signal = 0;
  must(ptrace(how, thread->tid, NULL, signal) == 0, "cannot go on");
}

static void note_stop(struct thread *thread, int status);

/* A thread that begins: it stops before its first instruction. */
static void add_thread(pid_t tid) {
  int status;
  must(thread_count < THREADS_MAX, "too many threads");
  struct thread *thread = &threads[thread_count++];
  *thread = (struct thread){ .tid = tid };
  must(waitpid(tid, &status, __WALL) == tid, "waitpid");
  note_stop(thread, status);
}

static bool is_clone(int status) {
  return status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8);
}

/* It stopped, or is gone. */
static void note_stop(struct thread *thread, int status) {
  thread->state = WIFSTOPPED(status) ? STOPPED : GONE;
  thread->next = ORDINARY;
  if (!WIFSTOPPED(status))
    return;
  int signal = WSTOPSIG(status);
  if (signal != SIGTRAP && signal != SIGSTOP)
    thread->signal = signal;
  if (is_clone(status)) {
    unsigned long tid;
    must(ptrace(PTRACE_GETEVENTMSG, thread->tid, NULL, &tid) == 0, "no thread");
    add_thread((pid_t)tid);
    return;
  }
  thread->next = next_of(thread);
}

/* Whether it has stopped, or is gone. */
static bool back(struct thread *thread, int flags, int *ret_status) {
  pid_t tid;
  do
    tid = waitpid(thread->tid, ret_status, __WALL | flags);
  while (tid < 0 && errno == EINTR);
  must(tid >= 0, "waitpid");
  if (tid == thread->tid)
    note_stop(thread, *ret_status);
  return tid == thread->tid;
}

static char state_of(const struct thread *thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", threads[0].tid, thread->tid);
  return support_state_in(path);
}

/* Waits until a thread that was let go has stopped, is gone, or sleeps. */
static void settle(struct thread *thread) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  for (int tries = 0;; tries++) {
    int status;
    bool is_back = back(thread, WNOHANG, &status);
    if (is_back && WIFSTOPPED(status) && is_clone(status)) {
      resume(thread, PTRACE_SINGLESTEP);
      continue;
    }
    if (is_back)
      return;
    if (tries > 10 && state_of(thread) == 'S') {
      thread->state = ASLEEP;
      return;
    }
    must(support_now_ms() < deadline, "neither comes back nor sleeps");
    sched_yield();
  }
}

/* One instruction. The system call of a sleeper, too, is over with the step that sees it. */
static void step(struct thread *thread) {
  bool may_sleep = thread->next == SYSTEM_CALL;
  int status;
  resume(thread, PTRACE_SINGLESTEP);
  if (may_sleep)
    settle(thread);
  else
    back(thread, 0, &status);
}

/* ---- the course of a victim ---------------------------------------------------------- */

static void live(void *arg) {
  const struct steps *of = arg;
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
    support_child_failed(__FILE__, __LINE__, "ptrace is permitted");
  raise(SIGSTOP);
  of->victim(of->arg);
  pause();
}

/* Free as far as its first mark. */
static void run_to_mark(void) {
  struct thread *caller = &threads[0];
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  for (int status, i = 0;; i = (i + 1) % thread_count) {
    struct thread *thread = &threads[i];
    if (thread->state == STOPPED) {
      resume(thread, PTRACE_CONT);
      thread->state = RUNNING;
    }
    if (thread->state == RUNNING && back(thread, WNOHANG, &status) && thread == caller) {
      must(thread->state == STOPPED, "the victim ended before its first mark");
      if (WSTOPSIG(status) == SIGTRAP && !is_clone(status))
        return;
    }
    must(support_now_ms() < deadline, "the victim does not come to its first mark");
    if (i == 0)
      sched_yield();
  }
}

/* Stops the threads other than the caller. One that sleeps goes back to sleep, to wake up
 * traced. */
static void hold_others(void) {
  for (int i = 1; i < thread_count; i++) {
    struct thread *thread = &threads[i];
    int status;
    if (thread->state != RUNNING)
      continue;
    while (state_of(thread) != 'S' && !back(thread, WNOHANG, &status))
      sched_yield();
    if (thread->state != RUNNING)
      continue;
    must(syscall(SYS_tgkill, threads[0].tid, thread->tid, SIGSTOP) == 0, "tgkill");
    back(thread, 0, &status);
    if (thread->state == GONE)
      continue;
    resume(thread, PTRACE_SINGLESTEP);
    settle(thread);
  }
}

static void begin(void) {
  int status;
  thread_count = 1;
  threads[0] = (struct thread){ .tid = support_fork(live, (void *)steps) };
  must(waitpid(threads[0].tid, &status, 0) == threads[0].tid, "waitpid");
  if (!WIFSTOPPED(status))
    ck_abort_msg("ptrace is not permitted here, and these tests cannot do without: in a "
                 "container, allow it with --cap-add=SYS_PTRACE");
  must(ptrace(PTRACE_SETOPTIONS, threads[0].tid, NULL,
              PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0,
       "PTRACE_SETOPTIONS");
  run_to_mark();
  hold_others();
  before_size = steps->shared_size;
  before = realloc(before, before_size);
  memcpy(before, steps->shared, before_size);
  if (steps->more_size > 0) {
    more_before = realloc(more_before, steps->more_size);
    memcpy(more_before, steps->more, steps->more_size);
  }
  for (int i = 0; i < thread_count; i++) {
    find_robust_list(&threads[i]);
    robust_list_changed(&threads[i]);
  }
  threads[0].next = next_of(&threads[0]);
}

/* Sleepers that were woken, by the last system call of another thread say, are back. */
static bool see_sleepers(void) {
  bool any = false;
  for (int i = 0; i < thread_count; i++) {
    struct thread *thread = &threads[i];
    if (thread->state == ASLEEP) {
      if (state_of(thread) != 'S')
        settle(thread);
      any = any || thread->state != ASLEEP;
    }
  }
  return any;
}

/* The next one to go on; NULL if none can. */
static struct thread *choose(void) {
  struct thread *chosen = NULL;
  for (int i = 0; i < thread_count; i++) {
    struct thread *thread = &threads[i];
    bool can = thread->state == STOPPED && thread->next != MARK;
    if (can && (chosen == NULL || steps->newest_first))
      chosen = thread;
  }
  return chosen;
}

static bool complete(void) {
  return threads[0].state == GONE ||
         (threads[0].state == STOPPED && threads[0].next == MARK);
}

static void describe(const char *what, const struct thread *thread) {
  extern char __executable_start;
  uintptr_t pc = thread->state == STOPPED ? thread->pc : 0;
  snprintf(where, sizeof where, "point %ld, thread %d, %s, at %#lx", points,
           (int)(thread - threads), what,
           (unsigned long)(pc > 0 ? pc - (uintptr_t)&__executable_start : 0));
}

/* All sleep: wakes them, or waits until they wake. */
static void await(void) {
  int64_t deadline = support_now_ms() + PATIENCE_MS;
  if (!awaited && steps->wake != NULL)
    steps->wake(steps->arg);
  awaited = true;
  while (!see_sleepers()) {
    must(support_now_ms() < deadline, "the victim sleeps for ever");
    usleep(50);
  }
  shared_changes();
}

static struct steps_leg *leg_to(long point) {
  return &steps->course->legs[point - 1];
}

/* Writes down the leg to the point that was just counted, if it goes on from what is known.
 * What comes after all slept is not the same again. */
static void record(const struct thread *thread, uint64_t changes) {
  struct steps_course *course = steps->course;
  if (course == NULL || awaited || points != course->known + 1 || points > STEPS_LEGS_MAX)
    return;
  struct steps_leg *leg = leg_to(points);
  steps_trail_end(leg);
  leg->thread = (int)(thread - threads);
  leg->changes = changes;
  course->known = points;
}

/* What the thread's step changed that others can see, as a number; 0: nothing. */
static uint64_t changes_by(struct thread *thread) {
  uint64_t changes = shared_changes();
  if (thread->state == STOPPED && robust_list_changed(thread))
    changes = ~changes;
  return changes;
}

/* Counts the point that the step of `thread` came to, if it is one. */
static bool at_point(struct thread *thread, enum next was) {
  bool called = was == SYSTEM_CALL;
  if (called)
    find_robust_list(thread);
  uint64_t changes = changes_by(thread);
  bool at_work = thread->state == STOPPED && thread->next == ORDINARY;
  if (!called && changes == 0 && at_work)
    return false;
  points++;
  record(thread, changes);
  describe(thread->state == ASLEEP ? "asleep"
           : called                ? "after a system call"
           : changes != 0          ? "after a store"
           : thread->next == MARK  ? "at its second mark"
                                   : "before a system call",
           thread);
  return true;
}

/* Goes on to the next point; false at the end. */
static bool go_on(void) {
  for (bool first = true;; first = false) {
    struct thread *thread = choose();
    if (thread == NULL) {
      if (complete())
        return false;
      await();
      points++;
      describe("awake again", &threads[0]);
      return true;
    }
    enum next was = thread->next;
    if (first)
      steps_trail_begin(thread->pc);
    step(thread);
    steps_trail_add(thread->pc);
    if (was == SYSTEM_CALL)
      see_sleepers();
    if (at_point(thread, was))
      return true;
  }
}

/* ---- following those who were there before --------------------------------------------- */

static unsigned long text_at(pid_t tid, uintptr_t pc) {
  errno = 0;
  unsigned long word = (unsigned long)ptrace(PTRACE_PEEKTEXT, tid, pc, NULL);
  must(errno == 0, "no text");
  return word;
}

static void set_text(pid_t tid, uintptr_t pc, unsigned long word) {
  must(ptrace(PTRACE_POKETEXT, tid, pc, word) == 0, "cannot write the text");
}

/* At full speed. False if something else stops it before, a system call say. */
static bool run_to(struct thread *thread, uintptr_t pc) {
  unsigned long text = text_at(thread->tid, pc);
  int status;
  set_text(thread->tid, pc, (text & ~0xfful) | 0xcc);
  resume(thread, PTRACE_SYSCALL);
  must(waitpid(thread->tid, &status, __WALL) == thread->tid, "waitpid");
  thread->state = WIFSTOPPED(status) ? STOPPED : GONE;
  if (thread->state == GONE || status >> 8 != SIGTRAP ||
      program_counter(thread) != pc + 1)
    return false;
  set_text(thread->tid, pc, text);
  must(ptrace(PTRACE_POKEUSER, thread->tid, offsetof(struct user_regs_struct, rip), pc) ==
           0,
       "cannot set the program counter");
  thread->next = next_of(thread);
  return true;
}

/* Goes on to the next point as the others did. False if its way is another one. */
static bool follow(const struct steps_leg *leg) {
  struct thread *thread = choose();
  if (thread != &threads[leg->thread] || thread->pc != leg->begin)
    return false;
  if (thread->next == SYSTEM_CALL)
    return go_on();
  if (leg->landmark != 0 && !run_to(thread, leg->landmark))
    return false;
  for (long i = 0; i < leg->rest; i++) {
    if (thread->state != STOPPED || thread->next != ORDINARY)
      return false;
    step(thread);
  }
  if (thread->state != STOPPED || thread->pc != leg->end ||
      changes_by(thread) != leg->changes)
    return false;
  points++;
  describe("as those before it", thread);
  return true;
}

static bool can_follow(void) {
  return steps->course != NULL && !awaited && points < steps->course->known;
}

static void end(void) {
  kill(threads[0].tid, SIGKILL);
  for (int i = thread_count - 1; i >= 0; i--)
    while (threads[i].state != GONE) {
      int status;
      must(waitpid(threads[i].tid, &status, __WALL) == threads[i].tid, "waitpid");
      if (!WIFSTOPPED(status))
        threads[i].state = GONE;
    }
}

enum steps_end steps_kill(const struct steps *of, long point) {
  enum steps_end result = STEPS_KILLED;
  steps = of;
  points = 0;
  awaited = false;
  snprintf(where, sizeof where, "point 0");
  begin();
  while (result == STEPS_KILLED && points < point) {
    if (can_follow())
      result = follow(leg_to(points + 1)) ? STEPS_KILLED : STEPS_STRAYED;
    else
      result = go_on() ? STEPS_KILLED : STEPS_AT_END;
  }
  if (result == STEPS_AT_END)
    snprintf(where, sizeof where, "at its end, after %ld points", points);
  if (result == STEPS_STRAYED) {
    of->course->known = points;
    snprintf(where, sizeof where, "on another way than before, after %ld points", points);
  }
  end();
  return result;
}
