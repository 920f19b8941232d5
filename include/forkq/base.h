/* forkq/base.h: errors, timeouts, and the hooks for memory and for logging.
 *
 * Contract of the whole library
 *
 * Results    Functions return 0 (or a count) on success and a negative code on failure, so
 *            `r < 0` is always the test. A code is either one of forkq's own, listed below,
 *            or the negative errno of the system call that failed (-ENOMEM, -EMFILE, ...).
 *            Output parameters come last, begin with `ret_`, and are left alone on failure.
 * Timeouts   In milliseconds, as poll(2) has them: -1 waits without limit, 0 does not wait;
 *            anything below -1 is FORKQ_ETIMEOUT. One deadline on CLOCK_MONOTONIC, taken on
 *            entry, covers the whole call: locks, waiting and transfer. A wait ends at its
 *            deadline or shortly after it, as the scheduler allows.
 * Signals    A call that a signal handler has interrupted goes on when the handler returns, and
 *            does all or nothing. SIGPIPE never reaches the program.
 *            A signal handler must not call forkq: no function is promised to be
 *            async-signal-safe (signal-safety(7)). If a handler makes a call all the same, and
 *            has interrupted a call of the same thread that holds a mutex which is needed, the
 *            handler's call fails with -EDEADLK, and nothing has happened. A call in a fork
 *            handler of the program (pthread_atfork(3)) fails in the same way where it runs
 *            while forkq holds its mutexes for the fork.
 *            A handler may fork, and may call exit, whatever it has interrupted: forkq makes
 *            neither of them hang. forkq/queue.h says what is lost then, and what such a child
 *            may do.
 * Threads    Every function may be called by any thread at any time, with these exceptions.
 *            While a thread calls the function that ends an object (`*_destroy`), no other
 *            thread may be in a call on that object, or make one later. Some objects say that
 *            they belong to one thread. A thread that runs a packing function of the program
 *            must make no call in it (forkq/item.h).
 * Cancellation
 *            A thread may be cancelled (pthread_cancel(3)) while it is in a call. Cancellation
 *            must be deferred, as it is in every new thread: a thread that has made it
 *            asynchronous (pthread_setcanceltype(3)) must not call forkq while cancellation is
 *            on.
 *            A cancelled thread ends only in the calls that may wait: the puts, the gets, the
 *            joins, and others that say so. There it ends before the call has begun, or while
 *            it waits. The call has then put nothing and got nothing. What it had in hand is
 *            given back: locks, its place among those who wait, its memory. If it was just being
 *            woken, another thread is woken instead. Of a message that it had begun to
 *            write (forkq/simple_queue.h), readers drop the beginning.
 *            A call that need not wait is made whole once it has begun; the thread ends at its
 *            next cancellation point. The functions that create, attach, close, shut down, destroy
 *            or only look are no cancellation points, nor is what forkq does in fork and exit.
 *            A thread that waits for an item, for room or for tasks ends at once, however many
 *            wait beside it. A thread that waits for a feeder or for a lock ends within half a
 *            second. A get that waits beside a process which is stopped in the middle of its own
 *            get ends within two seconds.
 *            Where the program has switched cancellation off (pthread_setcancelstate(3)), a call
 *            goes on as if nobody had cancelled the thread. State and type of cancellation are
 *            after each call what they were before.
 *            The item of a get stays the caller's: a cleanup handler (pthread_cleanup_push(3))
 *            can destroy it.
 *            In C++ a cancellation passes through the program's frames as an exception does, and
 *            destructors run. A `catch (...)` must throw it on. In a function that is noexcept,
 *            as destructors are, the C++ library ends the program.
 *            A thread that runs a libuv loop should not be cancelled: libuv's functions are
 *            cancellation points, and are not made for it.
 * Output     Nothing is ever printed. See forkq_log_set.
 */
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

/* The version of the library that runs, as "major.minor.patch". Static memory. */
FORKQ_API const char *forkq_version(void);

/* forkq's own codes: name, value, text. The values stay clear of every errno.
 *
 * FORKQ_EMPTY, FORKQ_FULL, FORKQ_TIMEDOUT are outcomes rather than faults: a call that did
 * not wait says EMPTY or FULL, one that waited its whole timeout says TIMEDOUT. (CPython
 * raises queue.Empty or queue.Full for both.) */
#define FORKQ_ERROR_MAP(XX)                                                              \
  XX(EMPTY, -20001, "queue is empty")                                                    \
  XX(FULL, -20002, "queue is full")                                                      \
  XX(TIMEDOUT, -20003, "timed out")                                                      \
  XX(ECLOSED, -20004, "is closed")                                                       \
  XX(ENOTCLOSED, -20005, "is not closed yet")                                            \
  XX(ETIMEOUT, -20006, "invalid timeout: below -1")                                      \
  XX(ENULL, -20007, "NULL where an argument is owed")                                    \
  XX(ETOODEEP, -20008, "object is nested too deep")                                      \
  XX(ETOOBIG, -20009, "message is larger than the limit")                                \
  XX(EBADOBJECT, -20010, "bytes are not exactly one msgpack object")                     \
  XX(EBADFRAME, -20011, "received bytes are not a valid frame")                          \
  XX(EPACK, -20012, "packing function failed")                                           \
  XX(EPACKING, -20013, "queue used by a packing function")                               \
  XX(ETOOMANY, -20014, "too many processes put into this queue")                         \
  XX(EBROKEN, -20015, "shared state cannot be repaired")                                 \
  XX(EEOF, -20016, "end of file")                                                        \
  XX(ETORN, -20017, "end of file inside a message")                                      \
  XX(EREADONLY, -20018, "connection is read-only")                                       \
  XX(EWRITEONLY, -20019, "connection is write-only")                                     \
  XX(ETOOSHORT, -20020, "buffer is too short for the message")                           \
  XX(ERANGE, -20021, "offset or size is out of range")                                   \
  XX(ETWICE, -20022, "the same object or descriptor is listed twice")                    \
  XX(ENOFD, -20023, "message carries no file descriptor")                                \
  XX(ESHUTDOWN, -20024, "queue is shut down")                                            \
  XX(ENOTJOINABLE, -20025, "queue was not created joinable")                             \
  XX(ETASKDONE, -20026, "task_done called more often than items were put")               \
  XX(EABANDONED, -20027, "tasks were abandoned by processes that ended")                 \
  XX(EHANDOVER, -20028, "not the handover of a queue")                                   \
  XX(EVERSION, -20029, "queue of another version or layout")                             \
  XX(ENOTHREAD, -20030, "no thread for the feeder")                                      \
  XX(EINUSE, -20031, "request is in use")                                                \
  XX(ENOTPENDING, -20032, "request is not pending")                                      \
  XX(EWRONGTHREAD, -20033, "not the loop's thread")                                      \
  XX(EFORKED, -20034, "loop handle of the process that forked")                          \
  XX(ENAMESPACE, -20035, "process is in another PID namespace than the queue")           \
  XX(ENOROBUST, -20036, "robust mutexes do not work on this system")

typedef enum forkq_error {
#define XX(name, value, text) FORKQ_##name = value,
  FORKQ_ERROR_MAP(XX)
#undef XX
} forkq_error_t;

/* The text of a code, forkq's or a negative errno; never NULL. The text of forkq's codes is
 * static memory; that of an errno is strerror(3)'s, valid until this thread asks again. */
FORKQ_API const char *forkq_strerror(int error);

/* The name of a code: "FORKQ_FULL", "ENOMEM"; "UNKNOWN" for any other. Static memory. */
FORKQ_API const char *forkq_error_name(int error);

/* The allocator behind everything that forkq allocates itself. The memory of an unpacked
 * object belongs to msgpack-c's zone, which calls malloc and knows no hook.
 *
 * forkq_heap_set must come before any other call, in every process that uses forkq once and
 * not again; NULL goes back to malloc, realloc and free. The struct is copied. The functions
 * must be safe from any thread. They may return NULL: the call that asked fails with
 * -ENOMEM, and its object stays usable. forkq may call them while it holds locks: they must
 * return, not throw or jump, and must not be cancellation points (pthreads(7)). */
typedef struct forkq_heap {
  void *(*malloc)(size_t size, void *arg);
  void *(*realloc)(void *memory, size_t size, void *arg);
  void (*free)(void *memory, void *arg);
  void *arg;
} forkq_heap_t;

FORKQ_API void forkq_heap_set(const forkq_heap_t *heap);

/* Where forkq reports what no caller can be told: a dead owner's lock that was repaired,
 * a torn message that was skipped, items lost in a feeder. Off (NULL) until set. The
 * callback runs on whichever thread met the event, possibly while forkq holds locks of
 * its own, so it must not call forkq, nor fork, and must return, not throw or jump.
 * Cancellation is off while it runs. `message` has no newline and lives until the callback
 * returns. */
typedef enum forkq_log_level {
  FORKQ_LOG_INFO,
  FORKQ_LOG_WARNING,
  FORKQ_LOG_ERROR
} forkq_log_level_t;

typedef void (*forkq_log_fn)(forkq_log_level_t level, const char *message, void *arg);

/* As forkq_heap_set: once, before anything else. */
FORKQ_API void forkq_log_set(forkq_log_fn log, void *arg);

#ifdef __cplusplus
}
#endif

#endif
