/* The operating system: every system call that forkq makes, and nothing else.
 *
 * Each returns 0 or a result, or a negative errno. EINTR is handled here and nowhere else; no
 * function but the one that says so is a cancellation point; every descriptor made here is
 * close-on-exec, and its number is above those of the standard streams. */
#ifndef FORKQ_OS_H
#define FORKQ_OS_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* Outcomes inside the library. They are neither an errno nor a code of forkq/base.h, so that no
 * failure of a system call is taken for one of them. */
enum {
  FORKQ__NOTHING = -21001, /* there is none, or none that can be had now */
  FORKQ__NO_ROOM = -21002, /* the pipe is full */
  FORKQ__BUSY = -21003,    /* the lock is somebody else's */
  FORKQ__MORE = -21004,    /* more of it is to come */
  FORKQ__STOPPED = -21005, /* nothing more is to be sent */
};

/* A deadline is a time on CLOCK_MONOTONIC in nanoseconds. */
#define FORKQ__FOREVER INT64_MAX
#define FORKQ__NOWAIT INT64_C(0)

int64_t forkq__os_now(void);

/* The deadline of a timeout as the public functions take it: -1, 0 or milliseconds. */
int64_t forkq__os_deadline(int timeout_ms);

/* The earlier of a deadline and `ms` from now. */
int64_t forkq__os_deadline_within(int64_t deadline, int ms);

/* For the pthread calls that take an absolute time. */
struct timespec forkq__os_timespec(int64_t ns);

/* Ends the thread here if it was cancelled (pthread_cancel(3)), after a call of `leave`. */
void forkq__os_cancellation_point(void (*leave)(void *arg), void *arg);

int forkq__os_close(int fd);

/* A pipe that keeps packets: one write of at most PIPE_BUF is one read. Not blocking. */
int forkq__os_packet_pipe(int fds[2]);

/* Bytes that a pipe holds; that it has room for when it is empty. */
int forkq__os_pipe_level(int fd);
int forkq__os_pipe_capacity(int fd);

ssize_t forkq__os_read(int fd, void *data, size_t size);
ssize_t forkq__os_write(int fd, const void *data, size_t size);

/* poll(2) with a deadline, which a signal does not move. Number of ready descriptors. */
int forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline);

/* An eventfd that does not block: raise makes it readable, lower makes it not. */
int forkq__os_event_create(void);
void forkq__os_event_raise(int fd);
void forkq__os_event_lower(int fd);

/* A descriptor that is readable whenever one of the others is (epoll(7)); never changed once it
 * is made, so that processes may share it. duplicate: another number for the same file. */
int forkq__os_poll_set_create(const int *fds, int count);
int forkq__os_duplicate(int fd);

/* Anonymous shared memory of a fixed size: it can grow behind `size`, but never shrink, so
 * that no process with the descriptor can make another one fault. */
int forkq__os_memory_create(const char *name, size_t size);
int forkq__os_memory_map(int fd, size_t size, void **ret_memory);
void forkq__os_memory_unmap(void *memory, size_t size);

/* Whole-range read, write and release of shared memory behind its mapped part. */
int forkq__os_memory_read(int fd, void *data, size_t size, int64_t offset);
int forkq__os_memory_write(int fd, const void *data, size_t size, int64_t offset);
void forkq__os_memory_release(int fd, int64_t offset, int64_t size);

/* A record lock on one byte of a file, which the kernel drops when the process ends, also
 * while it is a zombie, and which a fork does not inherit (fcntl(2), F_SETLK). It says that
 * its process lives. Note: any close of any descriptor of that file in the process drops it.
 * taken_by_other: 1, 0 or a negative errno; one's own lock does not count. */
int forkq__os_life_take(int fd, int64_t byte);
int forkq__os_life_drop(int fd, int64_t byte);
int forkq__os_life_taken_by_other(int fd, int64_t byte);

/* Waits while *word is `expected`, until a wake or the deadline. The word may be shared by
 * processes. Returns 0 (look again) or -ETIMEDOUT. */
int forkq__os_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);
void forkq__os_futex_wake(_Atomic uint32_t *word, int count);

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

/* One byte over a Unix socket, with a descriptor beside it. receive: the bytes read, 0 at the
 * end of the file; *ret_fd is the descriptor that came, close-on-exec, or -1; *ret_lost says
 * that others came too, or that it did not fit in the process's table: those are closed. */
ssize_t forkq__os_fd_send(int socket, unsigned char byte, int fd);
ssize_t forkq__os_fd_receive(int socket, unsigned char *ret_byte, int *ret_fd,
                             bool *ret_lost);

/* A number that no other open file has at the same time: of a pipe both ends have it. */
int forkq__os_identity(int fd, uint64_t *ret_identity);

/* What a descriptor can be used for, if it never blocks or never could; else a negative
 * errno. */
enum { FORKQ__READS = 1, FORKQ__WRITES = 2, FORKQ__BOTH = 3 };
int forkq__os_access(int fd);

/* Whether a descriptor is of the kind that an eventfd is: of no file, pipe or socket. */
bool forkq__os_is_anonymous(int fd);

/* Whether a descriptor survives exec. Safe between fork and exec. */
int forkq__os_inheritable(int fd, bool inheritable);

/* Whether this is memory of at least that size which cannot shrink: 0 or FORKQ_EHANDOVER. */
int forkq__os_memory_check(int fd, size_t size);

/* Bytes and descriptors together over a Unix stream socket, in one piece; blocks. receive:
 * takes `size` bytes and exactly `count` descriptors, close-on-exec; FORKQ_EEOF, and
 * FORKQ_EHANDOVER where something else came, of which nothing stays open. */
int forkq__os_fds_send(int socket, const void *data, size_t size, const int *fds,
                       size_t count);
int forkq__os_fds_receive(int socket, void *data, size_t size, int *fds, size_t count);

#endif
