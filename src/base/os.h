/* The operating system: every system call that forkq makes, and nothing else.
 *
 * Each function returns 0 or a result, or a negative errno. EINTR is handled here and nowhere
 * else. A function is a cancellation point only if its comment says so. Every descriptor made
 * here is close-on-exec, and its number is above those of the standard streams. */
#ifndef FORKQ_OS_H
#define FORKQ_OS_H

#include "base/atomics.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* For thread-local variables of a few bytes: they need no call to be found, even if the library
 * is loaded at run time. */
#define FORKQ__TLS __attribute__((tls_model("initial-exec")))

/* Outcomes inside the library. They are neither an errno nor a code of forkq/base.h, so no
 * failure of a system call is mistaken for one of them. */
enum {
  FORKQ__NOTHING = -21001, /* nothing is there, or nothing can be had now */
  FORKQ__NO_ROOM = -21002, /* the pipe is full */
  FORKQ__BUSY = -21003,    /* another thread has the lock */
  FORKQ__MORE = -21004,    /* more of the message is to come */
  FORKQ__STOPPED = -21005, /* the sender must send nothing more */
  FORKQ__GROW = -21006,    /* the item's memory is too small for the message */
};

/* A deadline is a time on CLOCK_MONOTONIC in nanoseconds. */
#define FORKQ__FOREVER INT64_MAX
#define FORKQ__NOWAIT INT64_C(0)

int64_t forkq__os_now(void);

/* Converts a timeout of the public functions (-1, 0 or milliseconds) into a deadline. */
int64_t forkq__os_deadline(int timeout_ms);

/* Returns the earlier of `deadline` and the time in `ms` milliseconds. */
int64_t forkq__os_deadline_within(int64_t deadline, int ms);

/* Converts a time in nanoseconds. */
struct timespec forkq__os_timespec(int64_t ns);

/* If the thread was cancelled (pthread_cancel(3)), calls `leave`, which may be NULL, and ends
 * the thread. */
void forkq__os_cancellation_point(void (*leave)(void *arg), void *arg);

int forkq__os_close(int fd);

/* Closes the descriptor if it is still that of the file with this identity
 * (forkq__os_identity). The program may have closed it and opened another file with its number. */
void forkq__os_close_own(int fd, uint64_t identity);

/* Creates a non-blocking pipe that keeps packets apart: one write of at most PIPE_BUF bytes is
 * one read. */
int forkq__os_packet_pipe(int fds[2]);

/* Returns the bytes that are in a pipe. */
int forkq__os_pipe_level(int fd);

/* tee copies what is in a pipe into another, as far as that has room, and leaves it there (tee(2)); packets
 * stay packets. pipe_as_large gives a pipe as much room as another has. Both return 0 or a negative errno. */
int forkq__os_tee(int from, int to);
int forkq__os_pipe_as_large(int fd, int other);

ssize_t forkq__os_read(int fd, void *data, size_t size);
ssize_t forkq__os_write(int fd, const void *data, size_t size);

/* poll(2) with a deadline, which a signal does not move. Returns the number of ready
 * descriptors. poll_cancellable is a cancellation point: a thread that is cancelled calls
 * `leave`, which may be NULL, and ends. */
int forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline);
int forkq__os_poll_cancellable(struct pollfd *fds, nfds_t count, int64_t deadline,
                               void (*leave)(void *arg), void *arg);

/* Whether there may be a thread that could cancel this one. */
bool forkq__os_has_threads(void);

/* Whether all `count` addresses lie on the stack that the calling thread was made with, and not
 * on a stack of the program's own. Slow. */
bool forkq__os_on_stack(const void *const *places, size_t count);

/* A non-blocking eventfd. raise makes it readable, lower makes it not readable. */
int forkq__os_event_create(void);
void forkq__os_event_raise(int fd);
void forkq__os_event_lower(int fd);

/* poll_set_create makes an epoll instance (epoll(7)) that is readable whenever one of `fds` is.
 * It never changes afterwards, so processes may share it. duplicate makes another descriptor
 * for the file. Where it is of one process alone, add and remove change it. */
int forkq__os_poll_set_create(const int *fds, int count);
int forkq__os_poll_set_add(int set, int fd);
void forkq__os_poll_set_remove(int set, int fd);
int forkq__os_duplicate(int fd);

/* Anonymous shared memory. create makes `size` bytes, followed by up to `more`, as far as the
 * process may enlarge the file (RLIMIT_FSIZE). It returns -EFBIG if the process may not even
 * have `size`. The memory cannot shrink, so no process that has the descriptor can make another
 * one fault.
 *
 * None of the memory is reserved at first. back reserves a part: after that, no access to the
 * part can fail with SIGBUS. It returns 0, -ENOSPC, -ENOMEM or another negative errno. No
 * process may write to the part during the call: where the kernel cannot reserve memory, back
 * writes bytes of the part unchanged. Then it returns -EFBIG beyond RLIMIT_FSIZE. */
int forkq__os_memory_create(const char *name, size_t size, int64_t more);
int forkq__os_memory_back(int fd, int64_t offset, size_t size);

/* map maps `size` bytes from `offset` on, a multiple of the page size. -EFBIG: the file ends before.
 * omit leaves what is mapped out of core dumps. forget makes what is mapped private to this process,
 * and empty: threads that still write there no longer reach the file. */
int forkq__os_memory_map(int fd, int64_t offset, size_t size, void **ret_memory);
void forkq__os_memory_omit(void *memory, size_t size);
int forkq__os_memory_forget(void *memory, size_t size);
void forkq__os_memory_unmap(void *memory, size_t size);

/* Read, write and release a range of shared memory that need not be mapped. read and write
 * transfer the whole range. write returns -EFBIG if the range ends after the memory, -ENOSPC or
 * -ENOMEM if there is no memory. release gives the memory of the range back to the system; the range
 * is zero afterwards. */
int forkq__os_memory_read(int fd, void *data, size_t size, int64_t offset);
int forkq__os_memory_write(int fd, const void *data, size_t size, int64_t offset);
void forkq__os_memory_release(int fd, int64_t offset, int64_t size);

/* A lock on one byte of the memory's file, which shows that a process lives.
 *
 * With `own_description`, `fd` is from forkq__os_open_again, and the lock belongs to its open
 * file description (fcntl(2), F_OFD_SETLK). Nothing that happens to other descriptors of the
 * file affects the lock. The kernel drops it when the last copy of `fd` closes: when the
 * process ends, even if it stays a zombie, and at its exec. A child inherits a copy, which it
 * must close.
 *
 * Without /proc, open_again returns -ENOENT or a similar error, and the lock is the process's
 * own (F_SETLK). The kernel drops that lock when the process closes any descriptor of the file.
 *
 * take returns 0, FORKQ__BUSY if another owner has the lock, or a negative errno. taken returns
 * 1, 0 or a negative errno. It does not count a lock that belongs to the open file description
 * of `fd`. */
int forkq__os_open_again(int fd);
int forkq__os_life_take(int fd, int64_t byte, bool own_description);
int forkq__os_life_drop(int fd, int64_t byte, bool own_description);
int forkq__os_life_taken(int fd, int64_t byte);

/* Whether no process has this number, or only one that has ended and was not yet waited for. */
bool forkq__os_process_gone(pid_t pid);

/* How many CPUs the calling thread may run on. */
int forkq__os_cpus(void);

/* A number that identifies the PID namespace of the process; 0: cannot be determined. */
uint64_t forkq__os_pid_namespace(void);

/* Whether the process with this number is the parent of this one. */
bool forkq__os_is_parent(pid_t pid);

/* Whether the parent is outside the process's PID namespace, as far as getppid(2) shows it. */
bool forkq__os_parent_is_outside(void);

/* thread returns the number of the calling thread. robust_list gets its list of robust mutexes,
 * a struct robust_list_head of <linux/futex.h>, or NULL if the kernel has none
 * (get_robust_list(2)). It returns 0 or a negative errno. */
pid_t forkq__os_thread(void);
int forkq__os_robust_list(void **ret_list);

/* A page that is all zero in every child of the process, however the child is made; NULL if
 * there can be none. */
void *forkq__os_wiped_page(void);

/* Waits while *word is `expected`, until a wake or the deadline. Processes may share the word.
 * Returns 0 (the caller looks again) or -ETIMEDOUT. wait_cancellable is a cancellation point.
 * wake wakes up to `count` waiters. wake_some wakes all waiters that have one of its `bits`. */
int forkq__os_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
int forkq__os_futex_wait_cancellable(_Atomic uint32_t *word, uint32_t expected,
                                     int64_t deadline, uint32_t bits);
void forkq__os_futex_wake(_Atomic uint32_t *word, int count);

/* As wait_cancellable, for two words: until a wake on one of them, or while both are as expected. `bits` are
 * for the first. A kernel before Linux 5.16 cannot do that (futex_waitv(2)), which waits_for_one tells once a
 * thread has tried. The thread then sleeps on the first word only, and a wake on the second does not reach
 * it. Where it can, a wake of some on the first word wakes all. */
struct forkq__futex {
  _Atomic uint32_t *word;
  uint32_t expected;
};
int forkq__os_futex_wait_either(struct forkq__futex first, struct forkq__futex second,
                                int64_t deadline, uint32_t bits);
bool forkq__os_futex_waits_for_one(void);
void forkq__os_futex_wake_some(_Atomic uint32_t *word, uint32_t bits);
#define FORKQ__ANY_BITS UINT32_MAX
uint32_t forkq__os_process_bit(void); /* few other processes have this bit */

/* pthread_mutex_clocklock(3) on CLOCK_MONOTONIC, with its results. */
int forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline);

/* block blocks every signal for the calling thread and stores the old mask. restore sets that
 * mask again. */
void forkq__os_signals_block(void *ret_old_mask);
void forkq__os_signals_restore(const void *old_mask);
#define FORKQ__SIGNAL_MASK_SIZE 128

/* In a child. reset gives each signal that has a handler its default action, and SIGTERM in any
 * case; handlers of faults stay. unblock unblocks every signal for the calling thread. */
void forkq__os_signals_reset(void);
void forkq__os_signal_ignore(int signo);
void forkq__os_signals_unblock(void);

/* fork(2) with the handlers of fork: the child's number, 0 in the child, or a negative errno.
 * exit is _exit(2). */
pid_t forkq__os_fork(void);
_Noreturn void forkq__os_exit(int status);

/* A descriptor for a process (pidfd_open(2)). refuses_pidfd says whether its error means that
 * there can be none on this system. */
int forkq__os_pidfd_open(pid_t pid);
bool forkq__os_refuses_pidfd(int error);

/* Reaps a child if it has ended. Returns 1 and its exit code (-N: signal N), 0 if it runs, or a
 * negative errno: -ECHILD if it has ended and somebody else has reaped it. send_signal succeeds
 * also if the process has ended. kill_and_reap waits for the end of a child. `pidfd` below 0:
 * there is none, so the caller makes sure that the child was not reaped. */
int forkq__os_reap(pid_t pid, int pidfd, int *ret_exitcode);
int forkq__os_send_signal(pid_t pid, int pidfd, int signo);
void forkq__os_kill_and_reap(pid_t pid, int pidfd);

/* A SIGTERM when the writing end of a pipe is closed in all processes. prepare takes the reading
 * end, of which there must be no other user. own says that the signal is for this process. If the
 * writing end is closed already, own sends the signal. */
int forkq__os_hangup_prepare(int fd);
int forkq__os_hangup_own(int fd);

/* flush writes what stdio has buffered; it never waits for a thread that reads stdin, and then writes only
 * stdout and stderr. finish, before the process ends, writes all streams also then. forget drops what a child has of its parent's output. */
void forkq__os_stdio_flush(void);
void forkq__os_stdio_finish(void);
void forkq__os_stdio_forget(void);

void forkq__os_cancellation_disable(void);

/* Create blocking byte streams: a pipe (fds[0] reads, fds[1] writes), and a pair of stream
 * sockets. */
int forkq__os_pipe(int fds[2]);
int forkq__os_socket_pair(int fds[2]);

/* Whether an open descriptor is a socket: 1, 0 or a negative errno. */
int forkq__os_is_socket(int fd);

/* Write without SIGPIPE and return -EPIPE instead: socket_write to a socket, stream_write to
 * any other descriptor. A SIGPIPE that was pending before stays pending. */
ssize_t forkq__os_socket_write(int fd, const struct iovec *parts, int count);
ssize_t forkq__os_stream_write(int fd, const struct iovec *parts, int count);

/* Never wait, whatever the descriptor's flags are. They return -EAGAIN if there is no data or
 * no room, or if only a plain read can tell. */
ssize_t forkq__os_socket_read_soon(int fd, void *data, size_t size);
ssize_t forkq__os_pipe_read_soon(int fd, void *data, size_t size);
ssize_t forkq__os_socket_write_soon(int fd, const struct iovec *parts, int count);

/* As stream_write, but a cancellation point. For at most PIPE_BUF bytes, which a pipe accepts
 * as a whole or not at all. A thread that ends here has written all of them or nothing. */
ssize_t forkq__os_pipe_write_cancellable(int fd, const struct iovec *parts, int count);

/* Whether an open descriptor is a pipe: 1, 0 or a negative errno. */
int forkq__os_is_pipe(int fd);

/* Whether a write to a Unix socket would wait. */
bool forkq__os_socket_full(int fd);

/* One byte over a Unix socket, together with a descriptor. receive returns the number of bytes
 * read, 0 at the end of the file. *ret_fd is the received descriptor, close-on-exec, or -1. Its
 * number may be that of a standard stream, because the descriptor is for the program. *ret_lost
 * says that further descriptors came, which receive has closed, or that the process's
 * descriptor table had no room. This function and fds_receive discard everything else that the
 * socket was told to bring (unix(7): SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD). */
ssize_t forkq__os_fd_send(int socket, unsigned char byte, int fd);
ssize_t forkq__os_fd_receive(int socket, unsigned char *ret_byte, int *ret_fd,
                             bool *ret_lost);

/* An identity is the number of the file in its file system, in so many bits, and that of the file system
 * above them. */
#define FORKQ__INODE_BITS 48

/* A number that no other open file has at the time. Both ends of a pipe have one number. */
int forkq__os_identity(int fd, uint64_t *ret_identity);

/* The file's own number of an identity, which other file systems may have, too. */
static inline uint64_t forkq__os_inode(uint64_t identity) {
  return identity & ((UINT64_C(1) << FORKQ__INODE_BITS) - 1);
}

/* Whether the descriptor is still that of the file with this identity. True also if the kernel
 * cannot tell because it has no memory. */
bool forkq__os_is_file(int fd, uint64_t identity);

/* What a descriptor can be used for, if it is non-blocking or a regular file. -EINVAL if it can
 * block, or another negative errno. */
enum { FORKQ__READS = 1, FORKQ__WRITES = 2, FORKQ__BOTH = 3 };
int forkq__os_access(int fd);

/* Whether a descriptor is of the kind of an eventfd, which is no file, pipe or socket. */
bool forkq__os_is_anonymous(int fd);

/* The number by which the kernel distinguishes an eventfd from others: 0 or more. -ENODATA if
 * the descriptor is no eventfd, or if the kernel has no numbers (before Linux 5.2). Another
 * negative errno if the number cannot be read, as without /proc. */
int forkq__os_event_id(int fd);

/* Whether a descriptor survives exec. inheritable sets this, and is safe between fork and exec.
 * is_inheritable returns 1, 0 or a negative errno. */
int forkq__os_inheritable(int fd, bool inheritable);
int forkq__os_is_inheritable(int fd);

/* Checks that the descriptor is memory of at least `size` bytes that cannot shrink. Returns 0
 * or FORKQ_EHANDOVER. */
int forkq__os_memory_check(int fd, size_t size);

/* Bytes and descriptors together, in one piece, over a Unix stream socket. Both functions
 * block. receive takes `size` bytes and exactly `count` descriptors. They are for the library's
 * use: close-on-exec, and above the standard streams. It returns 0, or:
 *   FORKQ_EEOF       the socket is at its end
 *   -EMFILE          the process has no room for so many descriptors
 *   FORKQ_EHANDOVER  something else came
 *   other            a negative errno
 * After a failure, no received descriptor is open. send_soon does not block, and returns -EAGAIN. */
int forkq__os_fds_send_soon(int socket, const void *data, size_t size, const int *fds,
                            size_t count);
int forkq__os_fds_send(int socket, const void *data, size_t size, const int *fds,
                       size_t count);
int forkq__os_fds_receive(int socket, void *data, size_t size, int *fds, size_t count);

#endif
