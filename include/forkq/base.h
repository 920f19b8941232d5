/* forkq/base.h: errors, timeouts, and the hooks for memory and logging.
 *
 * This is the contract of the whole library.
 *
 * Results
 *
 *   A function returns 0, a count, a 0/1 answer or a descriptor on success, and a
 *   negative code on failure. So `r < 0` is always the test for failure. A code is one of
 *   forkq's own, listed below, or the negative errno of the system call that failed
 *   (-ENOMEM, -EMFILE and others).
 *
 *   The names of output parameters begin with `ret_`. A function that creates an object
 *   returns it through its first parameter. All other output parameters come after the
 *   inputs. A failed call leaves them unchanged, unless its comment says otherwise.
 *
 * Timeouts
 *
 *   A timeout is in milliseconds, as in poll(2): -1 waits without limit, and 0 does not
 *   wait. A value below -1 is FORKQ_ETIMEOUT. A call computes one deadline on
 *   CLOCK_MONOTONIC when it starts. The deadline covers the whole call: locks, waiting
 *   and transfer. A wait ends at its deadline or shortly after it, as the scheduler
 *   allows.
 *
 * Signals
 *
 *   When a signal handler interrupts a call, the call continues after the handler
 *   returns. It then completes, or fails without effect. forkq never lets SIGPIPE reach
 *   the program.
 *
 *   A signal handler that wants a blocked call to return calls forkq_queue_interrupt
 *   (forkq/queue.h), or forkq_simple_queue_interrupt. It must not call forkq otherwise: no
 *   other function is async-signal-safe (signal-safety(7)). If a handler makes a call anyway, and its thread already holds a
 *   mutex that the call needs, the call returns -EDEADLK and has no effect. The same
 *   happens in a fork handler of the program (pthread_atfork(3)) that runs while forkq
 *   holds its mutexes for the fork.
 *
 *   A handler may fork or call exit, whatever it interrupted. forkq does not make either
 *   of them hang. forkq/queue.h says what is lost then, and what such a child may do.
 *
 * Threads
 *
 *   Any thread may call any function at any time, with three exceptions:
 *   - While a thread destroys an object (`*_destroy`), no other thread may use that
 *     object, then or later.
 *   - Some objects belong to one thread. Their headers say so.
 *   - A packing function must not call forkq (forkq/item.h).
 *
 * Cancellation
 *
 *   A thread may be cancelled (pthread_cancel(3)) during a call. Its cancellation type
 *   must be deferred, which is the default. A thread with asynchronous cancellation
 *   (pthread_setcanceltype(3)) must not call forkq while cancellation is enabled.
 *
 *   Only calls that may wait are cancellation points: puts, gets, joins, and others that
 *   say so. In such a call the thread ends before the call begins, or while the call
 *   waits. The call has then put nothing and got nothing. forkq releases the thread's
 *   locks, its place among the waiting threads, and its memory. If the thread was just
 *   being woken, forkq wakes another one instead. If it had begun to write a message
 *   (forkq/simple_queue.h), readers discard the partial message.
 *
 *   A call that does not need to wait completes once it has begun. The thread then ends
 *   at its next cancellation point. The functions that create, attach, close, shut down,
 *   destroy or only inspect an object are not cancellation points. Neither is forkq's
 *   work in fork and exit.
 *
 *   A thread that waits for an item, for room or for tasks ends at once, however many
 *   others wait. A thread that waits for a feeder or a lock ends within 0.5 s. A get that
 *   waits for a process stopped in the middle of its own get ends within 2 s.
 *
 *   While the program has disabled cancellation (pthread_setcancelstate(3)), calls ignore
 *   it. Every call leaves the cancellation state and type unchanged. The caller keeps
 *   ownership of the item that it passed to a get: a cleanup handler
 *   (pthread_cleanup_push(3)) can destroy it.
 *
 *   In C++, a cancellation unwinds the program's frames as an exception does, and runs
 *   destructors. A `catch (...)` must rethrow it. In a noexcept function, such as a
 *   destructor, the C++ library terminates the program.
 *
 *   Do not cancel a thread that runs a libuv loop. libuv's functions are cancellation
 *   points, but libuv does not support cancellation.
 *
 * Output
 *
 *   forkq prints nothing, unless the environment has FORKQ_LOG=stderr: see forkq_log_set. */
#ifndef FORKQ_BASE_H
#define FORKQ_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#  define FORKQ_API __attribute__((visibility("default")))
#  define FORKQ_MUST_CHECK __attribute__((warn_unused_result))
#else
#  define FORKQ_API
#  define FORKQ_MUST_CHECK
#endif

#define FORKQ_VERSION_MAJOR 0
#define FORKQ_VERSION_MINOR 1
#define FORKQ_VERSION_PATCH 0

/* Tells the version of the library at run time.
 *
 * Returns: "major.minor.patch", in static memory.
 * Blocks: never.
 * Errors: none. */
FORKQ_API const char *forkq_version(void);

/* forkq's own error codes: name, value, text. No value equals a negative errno.
 *
 * FORKQ_EMPTY, FORKQ_FULL and FORKQ_TIMEDOUT are outcomes rather than faults. A put or
 * get with timeout 0 returns FORKQ_FULL or FORKQ_EMPTY. One that waited for its whole
 * timeout returns FORKQ_TIMEDOUT. (CPython raises queue.Full or queue.Empty in both
 * cases.) */
#define FORKQ_ERROR_MAP(XX)                                                              \
  XX(EMPTY, -20001, "queue is empty")                                                    \
  XX(FULL, -20002, "queue is full")                                                      \
  XX(TIMEDOUT, -20003, "timed out")                                                      \
  XX(ECLOSED, -20004, "queue, connection or handle is closed")                           \
  XX(ENOTCLOSED, -20005, "queue is not closed yet")                                      \
  XX(ETIMEOUT, -20006, "timeout is below -1")                                            \
  XX(ENULL, -20007, "a required argument is NULL")                                       \
  XX(ETOODEEP, -20008, "object is nested too deeply")                                    \
  XX(ETOOBIG, -20009, "message is larger than the limit")                                \
  XX(EBADOBJECT, -20010, "data is not exactly one msgpack object")                       \
  XX(EBADFRAME, -20011, "received data is not a valid message")                          \
  XX(EPACK, -20012, "packing function failed")                                           \
  XX(EPACKING, -20013, "call is not allowed in a packing function")                      \
  XX(ETOOMANY, -20014, "too many processes use this queue")                              \
  XX(EBROKEN, -20015, "shared state is damaged beyond repair")                           \
  XX(EEOF, -20016, "end of file")                                                        \
  XX(ETORN, -20017, "end of file inside a message")                                      \
  XX(EREADONLY, -20018, "connection is read-only")                                       \
  XX(EWRITEONLY, -20019, "connection is write-only")                                     \
  XX(ETOOSHORT, -20020, "buffer is too small")                                           \
  XX(ERANGE, -20021, "number, offset, size or limit is out of range")                    \
  XX(ETWICE, -20022, "queue or descriptor is already in use or listed twice")            \
  XX(ENOFD, -20023, "message carries no file descriptor")                                \
  XX(ESHUTDOWN, -20024, "queue is shut down")                                            \
  XX(ENOTJOINABLE, -20025, "queue was not created as joinable")                          \
  XX(ETASKDONE, -20026, "task_done was called more often than items were put")           \
  XX(EABANDONED, -20027, "processes ended without finishing their tasks")                \
  XX(EHANDOVER, -20028, "not a valid handover of a queue")                               \
  XX(EVERSION, -20029, "queue has another version or layout")                            \
  XX(ENOTHREAD, -20030, "cannot start the feeder thread")                                \
  XX(EINUSE, -20031, "request or name is in use")                                        \
  XX(ENOTPENDING, -20032, "request is not pending")                                      \
  XX(EWRONGTHREAD, -20033, "call is on another thread than the loop")                    \
  XX(EFORKED, -20034, "handle belongs to the parent process")                            \
  XX(ENAMESPACE, -20035, "process is in another PID namespace than the queue")           \
  XX(ENOROBUST, -20036, "robust mutexes do not work on this system")                     \
  XX(EWRONGTYPE, -20037, "item is not of the type that was asked for")                   \
  XX(EFORMAT, -20038, "format is not valid")                                             \
  XX(EMISSING, -20039, "object lacks a key or an element")                               \
  XX(EINTERRUPTED, -20040, "call was interrupted")                                       \
  XX(EUNDONE, -20041, "too many items were got and are not done")                        \
  XX(EALONE, -20042, "no process is left that could put")                                \
  XX(ECONNLOST, -20043, "connection to the server is lost")                              \
  XX(EUNKNOWN, -20044, "not known whether the item was put")                             \
  XX(ESERVER, -20045, "server refuses the command")                                      \
  XX(EAUTH, -20046, "server refuses the user or the password")                           \
  XX(ELEASE, -20047, "item was given to another process")                                \
  XX(EDIFFERS, -20048, "queue was made with other options")                              \
  XX(EUNSAFE, -20049, "server may lose items")

typedef enum forkq_error {
#define XX(name, value, text) FORKQ_##name = value,
  FORKQ_ERROR_MAP(XX)
#undef XX
} forkq_error_t;

/* Describes an error code: forkq's own, or an errno of either sign.
 *
 * Returns: the text, never NULL. The text of a code of forkq is in static memory. The
 *   text of an errno comes from strerror(3), and is valid until this thread's next call.
 * Blocks: never.
 * Errors: none. */
FORKQ_API const char *forkq_strerror(int error);

/* Names an error code: forkq's own, or a negative errno.
 *
 * Returns: the name, such as "FORKQ_FULL" or "ENOMEM", or "UNKNOWN". Static memory.
 * Blocks: never.
 * Errors: none. */
FORKQ_API const char *forkq_error_name(int error);

/* The allocator for all memory that forkq itself allocates. Begin with FORKQ_HEAP_INIT,
 * and set all three functions. `arg` is passed to each of them.
 *
 * An unpacked object is not included: its memory belongs to msgpack-c's zone, which calls
 * malloc and has no hook.
 *
 * The functions must be thread-safe. They may return NULL: the call that needed the
 * memory then returns -ENOMEM, and its object stays usable. forkq may call them while it
 * holds locks. So they must return, must not throw or jump, and must not be cancellation
 * points (pthreads(7)). */
typedef struct forkq_heap {
  void *(*malloc)(size_t size, void *arg);
  void *(*realloc)(void *memory, size_t size, void *arg);
  void (*free)(void *memory, void *arg);
  void *arg;
} forkq_heap_t;

#define FORKQ_HEAP_INIT                                                                  \
  { NULL, NULL, NULL, NULL }

/* Sets the allocator of this process, and copies *heap. NULL restores malloc, realloc and
 * free. Call it once, before any other function of forkq.
 *
 * Blocks: never.
 * Errors: none. */
FORKQ_API void forkq_heap_set(const forkq_heap_t *heap);

/* The severity of a log message. */
typedef enum forkq_log_level {
  FORKQ_LOG_INFO,
  FORKQ_LOG_WARNING,
  FORKQ_LOG_ERROR
} forkq_log_level_t;

/* Receives events that forkq cannot return to a caller: it repaired a lock of a dead
 * process, skipped a torn message, or lost items in a feeder.
 *
 * `message` has at most 255 bytes and no newline. It is valid until the function returns.
 * The function runs on the thread that met the event, possibly while forkq holds locks.
 * So it must not call forkq, must not fork, must return, and must not throw or jump.
 * Cancellation is disabled while it runs. */
typedef void (*forkq_log_fn)(forkq_log_level_t level, const char *message, void *arg);

/* Sets the log function of this process. NULL, the default: if the environment has FORKQ_LOG=stderr, each
 * message is written to the standard error as a line that begins with "forkq[PID] " and the severity, so that
 * a program can be made to talk without a change; otherwise nothing is logged. Such a write may block, while
 * forkq holds locks, where nobody reads the standard error. The environment is read with
 * the first message, and ignored in a program with raised privileges (secure_getenv(3)). Call this function
 * once, before any other function of forkq except forkq_heap_set.
 *
 * Blocks: never.
 * Errors: none. */
FORKQ_API void forkq_log_set(forkq_log_fn log, void *arg);

#ifdef __cplusplus
}
#endif

#endif
