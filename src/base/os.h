/* The operating system: every system call that forkq makes, and nothing else.
 *
 * Each returns 0 or a result, or a negative errno. EINTR is handled here and nowhere else; no
 * function but those that say so is a cancellation point; every descriptor made here is
 * close-on-exec, and its number is above those of the standard streams. */
#ifndef FORKQ_OS_H
#define FORKQ_OS_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* Thread-local variables of a few bytes have a place that needs no call to be found, also where the
 * library is loaded later. */
#define FORKQ__TLS __attribute__((tls_model("initial-exec")))

/* Outcomes inside the library. They are neither an errno nor a code of forkq/base.h, so that no
 * failure of a system call is taken for one of them. */
enum {
  FORKQ__NOTHING = -21001, /* there is none, or none that can be had now */
  FORKQ__NO_ROOM = -21002, /* the pipe is full */
  FORKQ__BUSY = -21003,    /* the lock is somebody else's */
  FORKQ__MORE = -21004,    /* more of it is to come */
  FORKQ__STOPPED = -21005, /* nothing more is to be sent */
  FORKQ__GROW = -21006,    /* the item has no room for it */
};

/* A deadline is a time on CLOCK_MONOTONIC in nanoseconds. */
#define FORKQ__FOREVER INT64_MAX
#define FORKQ__NOWAIT INT64_C(0)

int64_t forkq__os_now(void);

/* Bytes of a page, of memory and of a pipe. */
int64_t forkq__os_page_size(void);

/* The deadline of a timeout as the public functions take it: -1, 0 or milliseconds. */
int64_t forkq__os_deadline(int timeout_ms);

/* The earlier of a deadline and `ms` from now. */
int64_t forkq__os_deadline_within(int64_t deadline, int ms);

/* For the pthread calls that take an absolute time. */
struct timespec forkq__os_timespec(int64_t ns);

/* Ends the thread here if it was cancelled (pthread_cancel(3)), after a call of `leave`, which may
 * be NULL. */
void forkq__os_cancellation_point(void (*leave)(void *arg), void *arg);

int forkq__os_close(int fd);

/* Closes the descriptor if it is still that file's, by its identity (below): a program may have
 * closed it, and opened another with its number. */
void forkq__os_close_own(int fd, uint64_t identity);

/* A pipe that keeps packets: one write of at most PIPE_BUF is one read. Not blocking. */
int forkq__os_packet_pipe(int fds[2]);

/* Bytes that a pipe holds; that it has room for when it is empty. */
int forkq__os_pipe_level(int fd);
int forkq__os_pipe_capacity(int fd);

ssize_t forkq__os_read(int fd, void *data, size_t size);
ssize_t forkq__os_write(int fd, const void *data, size_t size);

/* poll(2) with a deadline, which a signal does not move. Number of ready descriptors. cancellable:
 * a thread that is cancelled in it ends there, after a call of `leave`, which may be NULL. */
int forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline);
int forkq__os_poll_cancellable(struct pollfd *fds, nfds_t count, int64_t deadline,
                               void (*leave)(void *arg), void *arg);

/* Whether there is a thread that could cancel this one. */
bool forkq__os_has_threads(void);

/* Whether that many places lie all on the stack that the calling thread was made with, and not on
 * one of the program's own. Slow. */
bool forkq__os_on_stack(const void *const *places, size_t count);

/* An eventfd that does not block: raise makes it readable, lower makes it not. */
int forkq__os_event_create(void);
void forkq__os_event_raise(int fd);
void forkq__os_event_lower(int fd);

/* A descriptor that is readable whenever one of the others is (epoll(7)); never changed once it
 * is made, so that processes may share it. duplicate: another number for the same file. */
int forkq__os_poll_set_create(const int *fds, int count);
int forkq__os_duplicate(int fd);

/* Anonymous shared memory: `size` bytes, and behind them up to `more`, as far as the process may
 * make it so large (RLIMIT_FSIZE). It never shrinks, so that no process with the descriptor can
 * make another one fault; -EFBIG if not even `size` may be had. None of it is there yet: back
 * reserves a part, after which no access to it can fail (no SIGBUS); 0, -ENOSPC, -ENOMEM. Nobody
 * may write to the part meanwhile: where it cannot be reserved otherwise, bytes of it are written as
 * they are, and that is -EFBIG beyond RLIMIT_FSIZE. */
int forkq__os_memory_create(const char *name, size_t size, int64_t more);
int forkq__os_memory_back(int fd, int64_t offset, size_t size);
int forkq__os_memory_map(int fd, size_t size, void **ret_memory);
void forkq__os_memory_unmap(void *memory, size_t size);

/* Whole-range read, write and release of shared memory behind its mapped part. write: -EFBIG
 * behind its end, -ENOSPC or -ENOMEM where there is no memory. release: to the end of it. */
int forkq__os_memory_read(int fd, void *data, size_t size, int64_t offset);
int forkq__os_memory_write(int fd, const void *data, size_t size, int64_t offset);
void forkq__os_memory_release(int fd, int64_t offset);

/* A lock on one byte of the memory's file, which says that a process lives. It belongs to an open
 * file description that `forkq__os_open_again` made, whatever happens to other descriptors of the
 * file: the kernel drops it when the last copy of that descriptor closes, so when the process
 * ends, also while it is a zombie, and at its exec; but a child inherits a copy, which it has to
 * close (fcntl(2), F_OFD_SETLK). Where there is no /proc, open_again is -ENOENT or so, and the
 * lock is the process's own (F_SETLK), which the closing of any descriptor of the file drops.
 * take: FORKQ__BUSY where another has it. taken: 1, 0 or a negative errno; a lock by means of
 * `fd` itself does not count. */
int forkq__os_open_again(int fd);
int forkq__os_life_take(int fd, int64_t byte, bool own_description);
int forkq__os_life_drop(int fd, int64_t byte, bool own_description);
int forkq__os_life_taken(int fd, int64_t byte);

/* Whether no process has this number, or one that has ended and was not yet waited for. */
bool forkq__os_process_gone(pid_t pid);

/* Which PID namespace the process is in, as a number; 0: cannot be told. */
uint64_t forkq__os_pid_namespace(void);

/* Whether its parent is outside its PID namespace, so far as that can be told. */
bool forkq__os_parent_is_outside(void);

/* The calling thread's number; and its list of robust mutexes, a struct robust_list_head of
 * <linux/futex.h>, or NULL where the kernel has none (get_robust_list(2)): 0 or a negative errno. */
pid_t forkq__os_thread(void);
int forkq__os_robust_list(void **ret_list);

/* Memory that is all zero in a child of the process, however it was made; or NULL. */
void *forkq__os_wiped_page(void);

/* Waits while *word is `expected`, until a wake or the deadline. The word may be shared by
 * processes. Returns 0 (look again) or -ETIMEDOUT. cancellable: a thread that is cancelled in it ends
 * there; `bits` says which of those that wait are woken by wake_some, wake wakes any. */
int forkq__os_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
int forkq__os_futex_wait_cancellable(_Atomic uint32_t *word, uint32_t expected,
                                     int64_t deadline, uint32_t bits);
void forkq__os_futex_wake(_Atomic uint32_t *word, int count);
void forkq__os_futex_wake_some(_Atomic uint32_t *word, uint32_t bits);
#define FORKQ__ANY_BITS UINT32_MAX
uint32_t forkq__os_process_bit(void); /* one that few other processes have */

/* pthread_mutex_clocklock(3) on CLOCK_MONOTONIC, with its results. */
int forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline);

/* Blocks every signal for the calling thread, and puts back what was there. */
void forkq__os_signals_block(void *ret_old_mask);
void forkq__os_signals_restore(const void *old_mask);
#define FORKQ__SIGNAL_MASK_SIZE 128

/* Plain byte streams, blocking: a pipe (read end, write end) and a pair of stream sockets. */
int forkq__os_pipe(int fds[2]);
int forkq__os_socket_pair(int fds[2]);

/* Whether an open descriptor is a socket: 1, 0 or a negative errno. */
int forkq__os_is_socket(int fd);

/* Writes without SIGPIPE, which is -EPIPE then: on a socket, or on a descriptor of any other
 * kind. A SIGPIPE that was pending before still is. */
ssize_t forkq__os_socket_write(int fd, const struct iovec *parts, int count);
ssize_t forkq__os_stream_write(int fd, const struct iovec *parts, int count);

/* What does not wait, whatever the descriptor's flags are: -EAGAIN if nothing is there, or no
 * room, or only a plain read can tell. */
ssize_t forkq__os_socket_read_soon(int fd, void *data, size_t size);
ssize_t forkq__os_pipe_read_soon(int fd, void *data, size_t size);
ssize_t forkq__os_socket_write_soon(int fd, const struct iovec *parts, int count);

/* As stream_write, and a cancellation point: for what a pipe takes as a whole or not at all, which
 * is PIPE_BUF at most. A thread that ends here has written all of it or nothing. */
ssize_t forkq__os_pipe_write_cancellable(int fd, const struct iovec *parts, int count);

/* Whether an open descriptor is a pipe: 1, 0 or a negative errno. */
int forkq__os_is_pipe(int fd);

/* Whether a write to a Unix socket would wait. */
bool forkq__os_socket_full(int fd);

/* One byte over a Unix socket, with a descriptor beside it. receive: the bytes read, 0 at the
 * end of the file; *ret_fd is the descriptor that came, close-on-exec, or -1; *ret_lost says
 * that others came too, or that it did not fit in the process's table: those are closed. The
 * number may be one of the standard streams': the descriptor is the program's. What else the
 * socket was told to bring (unix(7): SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD) is left out, here
 * and below. */
ssize_t forkq__os_fd_send(int socket, unsigned char byte, int fd);
ssize_t forkq__os_fd_receive(int socket, unsigned char *ret_byte, int *ret_fd,
                             bool *ret_lost);

/* A number that no other open file has at the same time: of a pipe both ends have it. */
int forkq__os_identity(int fd, uint64_t *ret_identity);

/* Whether it is still that file; a kernel without memory that cannot tell is no reason to think it is
 * not. */
bool forkq__os_is_file(int fd, uint64_t identity);

/* What a descriptor can be used for, if it never blocks or never could; -EINVAL if it can
 * block, or another negative errno. */
enum { FORKQ__READS = 1, FORKQ__WRITES = 2, FORKQ__BOTH = 3 };
int forkq__os_access(int fd);

/* Whether a descriptor is of the kind that an eventfd is: of no file, pipe or socket. */
bool forkq__os_is_anonymous(int fd);

/* The number that the kernel has for an eventfd, by which it is told from others: 0 or more;
 * -ENODATA if this is none, or the kernel has no numbers (before Linux 5.2); another negative
 * errno if it cannot be known, as where there is no /proc. */
int forkq__os_event_id(int fd);

/* Whether a descriptor survives exec: sets it, safe between fork and exec; and 1, 0 or a negative
 * errno. */
int forkq__os_inheritable(int fd, bool inheritable);
int forkq__os_is_inheritable(int fd);

/* Whether this is memory of at least that size which cannot shrink: 0 or FORKQ_EHANDOVER. */
int forkq__os_memory_check(int fd, size_t size);

/* Bytes and descriptors together over a Unix stream socket, in one piece; blocks. receive:
 * takes `size` bytes and exactly `count` descriptors, close-on-exec; FORKQ_EEOF, -EMFILE where
 * the process has no room for so many, and FORKQ_EHANDOVER where something else came. Of what
 * came nothing stays open then. They are for the library's use, above the standard streams. */
int forkq__os_fds_send(int socket, const void *data, size_t size, const int *fds,
                       size_t count);
int forkq__os_fds_receive(int socket, void *data, size_t size, int *fds, size_t count);

#endif
