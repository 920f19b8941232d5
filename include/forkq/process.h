/* forkq/process.h: a child process that runs a function.
 *
 * The counterpart of multiprocessing.Process with the fork method. The child is a fork: it
 * has the memory, descriptors and queues of its parent. forkq_process_start removes what is
 * dangerous about fork(2):
 *
 *   Output      is not written twice, although both processes have a copy of each stdio
 *               buffer.
 *   Exit        The atexit handlers of the parent do not run in the child.
 *   Stack       The child never gets into the frames of the parent that called start.
 *   Signals     The signal handlers of the parent do not run in the child, and the child
 *               blocks no signals.
 *   Death       A child may end together with its parent (`daemon`).
 *   Zombies     forkq reaps each child, also one that is never joined.
 *   Numbers     A descriptor (forkq_process_fileno) and signals refer to this process only,
 *               and never to another one that has got its number since.
 *
 * The child
 *
 *   The child calls run(arg). A return from `run` is exit() with the result as the exit
 *   status (the lower 8 bits), as a return from main is. exit() in the child runs the
 *   atexit handlers that the child has registered, and none of the parent's. Then it sends
 *   what the child has put (forkq/queue.h, "exit"), writes the child's stdio buffers, and
 *   ends the process. It waits while another thread of the child is blocked in a call on a
 *   stream other than stdin. _exit() does nothing of this.
 *
 *   `run` begins with cancellation disabled, because a cancellation of the thread that called
 *   start may be pending, which the child then has, too.
 *
 *   `run` must return, or call exit or _exit. If a C++ exception leaves it, the thread is
 *   cancelled, or it calls pthread_exit, the child ends with abort(): the exit code is
 *   -SIGABRT, and what was put and not sent is lost. Frames of the parent are not unwound,
 *   and no `catch` of the parent sees the exception. `run` must not longjmp(3) to a frame of
 *   the parent.
 *
 *   In C++: exit() destroys thread_local objects of the thread that called start, also those
 *   that the parent has made. It does not destroy static objects of the parent. forkq does not
 *   know of streams that have a buffer of their own (std::ofstream, std::cout after
 *   sync_with_stdio(false)). The parent flushes them before the start, and `run` at its end.
 *
 * Signals in the child
 *
 *   From the fork on until the child is ready, all signals are blocked. Before `run`:
 *   - Signals with a handler get their default action. Handlers of SIGSEGV, SIGBUS, SIGFPE,
 *     SIGILL, SIGTRAP, SIGSYS and SIGABRT stay: language runtimes and crash reporters need
 *     them.
 *   - Ignored signals stay ignored, as across execve(2), except SIGTERM. So
 *     forkq_process_terminate works.
 *   - No signal is blocked, whatever the parent has blocked.
 *
 *   A Ctrl-C on a terminal sends SIGINT to parent and children. A parent that wants to end
 *   its children in order starts them with `ignore_sigint`.
 *
 * Threads
 *
 *   Any thread may start a process. The child has this thread only. forkq's objects can be
 *   used there, and with glibc malloc and stdio, too. Any other lock that another thread of
 *   the parent holds at the fork stays locked in the child for ever: locks of the program,
 *   and of libraries without fork handlers (pthread_atfork(3)). A `run` that needs them must
 *   be started before there are threads.
 *
 *   start writes all stdio buffers before it forks. So it waits while another thread is
 *   blocked in a call on a stream. If another thread is in a call on stdin, start does not
 *   wait, and writes only stdout and stderr; what other streams have buffered comes twice.
 *   What another thread prints to stdout or stderr during the start comes once; what it prints to another
 *   stream may come twice.
 *
 *   Parent and child share stdin, as after fork. Only one of them should read it.
 *
 * The parent
 *
 *   A forkq_process_t belongs to the process that started it. Any thread of this process may
 *   use it. In any other process, such as a child that inherited it, only
 *   forkq_process_pid and forkq_process_destroy work. Other calls return FORKQ_EFORKED.
 *
 *   An ended child stays a zombie until one of these reaps it: a call of this header on its
 *   forkq_process_t, or any later start. forkq does not use SIGCHLD, and reaps no other
 *   children. If the program ignores SIGCHLD, has set SA_NOCLDWAIT, or waits for any child
 *   (waitpid(-1)), it may take the exit code. The process then has ended, but its exit code
 *   is unknown (-ECHILD).
 *
 *   Exit of the parent neither waits for children nor ends them, unless they are daemons. */
#ifndef FORKQ_PROCESS_H
#define FORKQ_PROCESS_H

#include <forkq/base.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_process forkq_process_t;

/* What a child does. The result is its exit status. `arg` is what start was given. */
typedef int (*forkq_process_fn)(void *arg);

/* How to start a process. Begin with FORKQ_PROCESS_OPTIONS_INIT, which sets `size` and the
 * defaults, then set the fields you need.
 *
 * Later versions of forkq only add fields at the end. `size` may be smaller than the
 * library's: fields that the caller's struct does not have get their defaults. The smallest
 * valid size is that of this version. Zeroed memory with `size` set is the same as
 * FORKQ_PROCESS_OPTIONS_INIT. */
typedef struct forkq_process_options {
  size_t size; /* sizeof(forkq_process_options_t) */
  /* Nonzero: the child gets SIGTERM when its parent ends, in whatever way, or calls execve.
   * This ends the child, unless it handles, ignores or blocks SIGTERM.
   *
   * forkq does not use PR_SET_PDEATHSIG (prctl(2)) for this. That signal comes when the
   * *thread* ends that started the child; never, if the parent died before the child asked
   * for it; and never after the child has changed its user. Instead, the parent keeps one
   * end of a pipe, which the kernel closes when the parent ends. The child gets a signal for
   * its own end (fcntl(2), F_SETSIG). So the signal also comes if the parent closes all
   * descriptors that it does not know, and not any more after the child has done so or has
   * called execve. A child made with the raw clone(2) system call keeps the parent's end
   * open, and one made with _Fork(3) does so until its first call of forkq. */
  int daemon;
  /* Nonzero: the child ignores SIGINT, from the start on. */
  int ignore_sigint;
  /* Nonzero: the child has the signal handlers, ignored signals and blocked signals of the
   * thread that called start, as after fork. */
  int keep_signals;
  int unused; /* 0; a later version may give it a name */
} forkq_process_options_t;

#define FORKQ_PROCESS_OPTIONS_INIT                                                       \
  { sizeof(forkq_process_options_t), 0, 0, 0, 0 }

/* Starts a child that calls run(arg). `options` may be NULL: the defaults. `arg` may point to
 * a local variable of the caller: the child has a copy of it, as of all memory.
 *
 * The caller owns *ret_process and destroys it with forkq_process_destroy. It uses one
 * descriptor; that of a daemon uses two, until the child has ended. The call also reaps
 * children that were started earlier and have ended.
 *
 * Returns: 0, in the parent only. After a failure nothing is left behind, and `run` was not
 *   called.
 * Blocks: while stdio buffers are written (see "Threads"), and while another thread of the
 *   process forks. It does not wait for the child. It is not a cancellation point.
 * Errors:
 *   FORKQ_ENULL   `ret_process` or `run` is NULL
 *   FORKQ_ERANGE  options->size is 0, too small, larger than this library's, or not the size
 *                 of a struct; or options->unused is not 0
 *   -EDEADLK      see "Signals" in forkq/base.h
 *   -EAGAIN       the user may have no more processes (RLIMIT_NPROC, a cgroup)
 *   -ENOMEM       there is no memory
 *   -EMFILE       the process has no descriptors left
 *   -ENFILE       the system has no descriptors left
 *   -EPIPE        the child was killed before it could run
 *   other         a negative errno of pipe2, fcntl, fork, pidfd_open or writev
 * Python: Process(target=run, args=(arg,), daemon=...).start(). There, the child's stdin is
 *   /dev/null, handlers of signals stay, and `run` that raises ends with exit code 1. A
 *   daemon is terminated when its parent exits, and not when it is killed; an exit waits for
 *   all other children. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_process_start(forkq_process_t **ret_process, forkq_process_fn run, void *arg,
                    const forkq_process_options_t *options);

/* Waits until the process has ended, and reaps it. It may be called again.
 *
 * A child that has put more into a queue than its pipe holds ends only after another process
 * got the items: get them before the join.
 *
 * Returns: 0 if the process has ended, whatever its exit code is.
 * Blocks: for at most `timeout_ms`; -1: without limit. It is a cancellation point while it
 *   waits. Several threads may wait at the same time. Where there is no descriptor
 *   (forkq_process_fileno), it looks after 1 ms, and later every 20 ms.
 * Errors:
 *   FORKQ_TIMEDOUT  the process still runs
 *   FORKQ_ENULL     `process` is NULL
 *   FORKQ_ETIMEOUT  timeout_ms is below -1
 *   FORKQ_EFORKED   another process started it
 *   -EDEADLK        see "Signals" in forkq/base.h
 *   other           a negative errno of waitid or ppoll
 * Python: Process.join(timeout), which does not tell whether the process has ended. */
FORKQ_API FORKQ_MUST_CHECK int forkq_process_join(forkq_process_t *process,
                                                  int timeout_ms);

/* Gets the exit code: the exit status, 0 to 255, or -N if signal N ended the process.
 *
 * Returns: 1 if the process has ended, and *ret_exitcode is set; 0 if it still runs.
 * Blocks: never.
 * Errors:
 *   -ECHILD        the process has ended, and its exit code is unknown: see "The parent"
 *   FORKQ_ENULL    `process` or `ret_exitcode` is NULL
 *   FORKQ_EFORKED  another process started it
 *   -EDEADLK       see "Signals" in forkq/base.h
 *   other          a negative errno of waitid
 * Python: Process.exitcode, which is None while the process runs, and for ever where the
 *   exit code is unknown. */
FORKQ_API FORKQ_MUST_CHECK int forkq_process_exitcode(forkq_process_t *process,
                                                      int *ret_exitcode);

/* Tells whether the process still runs.
 *
 * Returns: 1 if it runs, 0 if it has ended.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL    `process` is NULL
 *   FORKQ_EFORKED  another process started it
 *   -EDEADLK       see "Signals" in forkq/base.h
 *   other          a negative errno of waitid
 * Python: Process.is_alive(). */
FORKQ_API int forkq_process_is_alive(forkq_process_t *process);

/* Gets the process's number. After the process was reaped, another one may have it: send
 * signals with the functions below.
 *
 * Returns: the number, above 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `process` is NULL
 * Python: Process.pid. */
FORKQ_API int forkq_process_pid(const forkq_process_t *process);

/* Gets a descriptor that is readable from the end of the process on: a pidfd
 * (pidfd_open(2)), for poll(2), a loop, or forkq_wait_on_fd. It is close-on-exec, and
 * borrowed: valid until forkq_process_destroy, also after a join.
 *
 * Returns: the descriptor.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL    `process` is NULL
 *   FORKQ_EFORKED  another process started it
 *   -ENOSYS        the kernel has no pidfds (before Linux 5.3)
 *   -EBADF         the program has closed the descriptor
 *   other          the negative errno with which a filter of system calls refused
 *                  pidfd_open: -EPERM, -EACCES, -EINVAL or -EOPNOTSUPP
 *   All other functions of this header work without the descriptor, too.
 * Python: Process.sentinel. */
FORKQ_API int forkq_process_fileno(const forkq_process_t *process);

/* Ends the process with SIGTERM, or with SIGKILL, which it can neither handle nor ignore.
 * What it has put and not sent is lost; other users of its queues go on (forkq/queue.h).
 * The calls do not wait for the end: join. If the process has ended, they do nothing.
 *
 * Returns: 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL    `process` is NULL
 *   FORKQ_EFORKED  another process started it
 *   -EDEADLK       see "Signals" in forkq/base.h
 *   -EPERM         the process has changed its user
 *   other          a negative errno of waitid
 * Python: Process.terminate(), Process.kill(). */
FORKQ_API int forkq_process_terminate(forkq_process_t *process);
FORKQ_API int forkq_process_kill(forkq_process_t *process);

/* Frees the handle. NULL is allowed. No other thread may use the handle, then or later.
 *
 * If the process still runs, it goes on, and a daemon stays one. forkq then frees its memory
 * and descriptors, and reaps it, in the first start or destroy after its end. In a handler
 * that interrupted a start or a destroy of its thread, nothing happens: call it again later. A handler that
 * interrupted another call on this handle must not call it.
 *
 * Blocks: while another thread of the process forks, or creates or destroys a queue.
 * Errors: none.
 * Python: Process.close(), which is an error while the process runs. */
FORKQ_API void forkq_process_destroy(forkq_process_t *process);

#ifdef __cplusplus
}
#endif

#endif
